-- Indexes and constraints of a column, for a twin column of another name: what builds them beside the old ones, and what puts
-- them in the old ones' place. PostgreSQL judges, with an empty copy of the table, which of them the new type can have, and writes
-- their definitions for the other name.

CREATE TYPE prism_crypt._twin_definition AS (
  -- "build" runs in this order, each statement in a transaction of its own, once the twin is filled; "swap" in the same order, in
  -- the transaction that swaps the columns, after they were renamed; "after" once that is committed. If something of that fails, a
  -- constraint stays "not valid".
  ordinal  integer,
  -- not null, check, index, unique, primary key, domain
  kind     text,
  member   regclass,
  old_oid  oid,
  old_name name,
  -- What it is called while both exist.
  new_name name,
  -- The partitioned index that it is a part of.
  parent   oid,
  build    text[],
  swap     text[],
  -- After the swap, each statement in a transaction of its own.
  after    text[],
  -- What ALTER TABLE ... TYPE needs before and after it: an index that names a collation can't be converted.
  rewrite_drops   text[],
  rewrite_creates text[],
  blocks   text,
  unblock  text,
  note     text
);
COMMENT ON TYPE prism_crypt._twin_definition IS 'An index or constraint for the twin of a column. Internal';

-- A migration of the column may have begun, and a copy has its columns, too.
CREATE FUNCTION prism_crypt._drop_side_columns(copy regclass, column_name name) RETURNS void
  LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  other name;
BEGIN
  FOR other IN
    SELECT a.attname FROM pg_attribute AS a
    WHERE a.attrelid = copy AND a.attname IN (
      prism_crypt._side_name('prism_crypt_new_', column_name), prism_crypt._side_name('prism_crypt_old_', column_name))
  LOOP
    EXECUTE format('ALTER TABLE %s DROP COLUMN %I', copy, other);
  END LOOP;
END $$;
COMMENT ON FUNCTION prism_crypt._drop_side_columns(regclass, name) IS 'Drops from a copy what a migration has added. Internal';

-- An empty copy of a table, in the temporary schema, by the same name. The column gets the new type, if there is one; or it is
-- swapped for a twin at the end of the row, as a migration does it.
CREATE FUNCTION prism_crypt._make_copy(member oid, column_name name, new_type text, is_swapped boolean) RETURNS regclass
  LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  relname CONSTANT name := (SELECT c.relname FROM pg_class AS c WHERE c.oid = member);
  copy CONSTANT text := format('pg_temp.%I', relname);
  owner CONSTANT oid := (SELECT c.relowner FROM pg_class AS c WHERE c.oid = member);
  create_copy CONSTANT text := format('CREATE TEMPORARY TABLE %I (LIKE %s)', relname, prism_crypt._qualified_name(member));
BEGIN
  IF to_regclass(copy) IS NOT NULL THEN
    RAISE object_not_in_prerequisite_state USING
      MESSAGE = format('temporary table "%s" of this session has the name of the table', relname),
      HINT = format('Drop it: DROP TABLE %s', copy);
  END IF;
  -- It gets the owner of the table: expressions of indexes are the owner's code, and PostgreSQL computes them with the rights of
  -- the owner of the copy.
  IF owner = current_user::regrole THEN
    EXECUTE create_copy;
  ELSIF prism_crypt._is_superuser() THEN
    EXECUTE create_copy;
    EXECUTE format('ALTER TABLE %s OWNER TO %I', copy, pg_get_userbyid(owner));
  ELSE
    PERFORM prism_crypt._execute_all(prism_crypt._as_role(owner, create_copy));
  END IF;
  PERFORM prism_crypt._drop_side_columns(copy::regclass, column_name);
  IF new_type IS NULL THEN
    NULL;
  ELSIF is_swapped THEN
    EXECUTE format('ALTER TABLE %s RENAME %I TO %I', copy, column_name, prism_crypt._side_name('prism_crypt_old_', column_name));
    EXECUTE format('ALTER TABLE %s ADD %I %s', copy, column_name, new_type);
  ELSE
    EXECUTE format('ALTER TABLE %s ALTER %I TYPE %s USING NULL', copy, column_name, new_type);
  END IF;
  RETURN copy::regclass;
END $$;
COMMENT ON FUNCTION prism_crypt._make_copy(oid, name, text, boolean) IS
  'Makes an empty copy of a table with a column of another type. Internal';

-- What follows ON <table> in the definition of an index of a copy.
CREATE FUNCTION prism_crypt._index_tail(index oid) RETURNS text
  LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
  SELECT substr(rest, strpos(rest, '.') + length(quote_ident(t.relname)) + 1)
  FROM pg_index AS i JOIN pg_class AS c ON c.oid = i.indexrelid JOIN pg_class AS t ON t.oid = i.indrelid
  CROSS JOIN LATERAL (
    SELECT substr(prism_crypt._definition('index', i.indexrelid, 'pg_catalog, pg_temp'),
                  length(format('CREATE %sINDEX %I ON ', CASE WHEN i.indisunique THEN 'UNIQUE ' ELSE '' END, c.relname)) + 1)
  ) AS d (rest)
  WHERE i.indexrelid = $1
$$;
COMMENT ON FUNCTION prism_crypt._index_tail(oid) IS 'The definition of an index of a copy, after the name of the table. Internal';

-- Whether it has the column itself as a key, in the type that a copy has.
CREATE FUNCTION prism_crypt._has_encrypted_key(index oid) RETURNS boolean
  LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
  SELECT EXISTS (
    SELECT FROM pg_index AS i JOIN pg_attribute AS a ON a.attrelid = i.indexrelid AND a.attnum <= i.indnkeyatts
    WHERE i.indexrelid = $1 AND prism_crypt._holds_encrypted(a.atttypid))
$$;
COMMENT ON FUNCTION prism_crypt._has_encrypted_key(oid) IS 'Whether encrypted values are keys of an index. Internal';

-- Makes the index of a table on the copy. encrypted_text has no collations: where the definition names one for the column, it is
-- left out.
CREATE FUNCTION prism_crypt._try_index(
  index oid, column_name name, schema text, new_type text, OUT error text, OUT lost_collation boolean
) LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  definition CONSTANT text := prism_crypt._definition('index', index, 'pg_catalog, ' || schema || ', pg_temp');
  path CONSTANT text := 'pg_temp, pg_catalog, ' || schema;
  without text;
  type_says text;
  made regclass;
BEGIN
  lost_collation := false;
  error := prism_crypt._try(ARRAY[definition], path);
  IF error IS NOT NULL THEN
    -- Only where the column itself is a key, not inside of an expression.
    without := regexp_replace(definition,
      '([(,] ?)' || regexp_replace(quote_ident(column_name), '([^[:alnum:]_])', '\\\1', 'g')
        || ' COLLATE ("([^"]|"")*"|[a-z0-9_]+)(\.("([^"]|"")*"|[a-z0-9_]+))?',
      '\1' || replace(quote_ident(column_name), '\', '\\'), 'g');
    IF without <> definition AND (SELECT i.indexprs IS NULL FROM pg_index AS i WHERE i.indexrelid = index)
       AND coalesce(prism_crypt._definition('predicate', index, 'pg_catalog, pg_temp') !~ 'COLLATE', true)
       AND prism_crypt._try(ARRAY[without], path) IS NULL THEN
      error := NULL;
      lost_collation := true;
    END IF;
  END IF;
  IF error IS NULL THEN
    made := format('pg_temp.%I', (SELECT c.relname FROM pg_class AS c WHERE c.oid = index))::regclass;
    IF prism_crypt._has_encrypted_key(made) AND new_type !~ '\msearchable\M' THEN
      error := format('an index on encrypted values needs search tags: make the type searchable, not %s', new_type);
    END IF;
  END IF;
END $$;
COMMENT ON FUNCTION prism_crypt._try_index(oid, name, text, text) IS 'Makes an index of a table on its copy. Internal';

-- A column whose type is a domain becomes one of its base type, because a domain may not allow the nulls that it gets from now on.
-- That does not rewrite anything.
CREATE FUNCTION prism_crypt._twin_domain(relation oid, attnum smallint) RETURNS SETOF prism_crypt._twin_definition
  LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_variable
DECLARE
  answer prism_crypt._twin_definition;
BEGIN
  SELECT a.attname, ARRAY[format('ALTER TABLE %s ALTER COLUMN %I TYPE %s%s', prism_crypt._qualified_name(relation),
                                 prism_crypt._side_name('prism_crypt_old_', a.attname), prism_crypt._base_of_column(a.atttypid, -1),
                                 -- With another collation, indexes would be built again.
                                 (SELECT format(' COLLATE %I.%I', n.nspname, l.collname) FROM pg_collation AS l
                                  JOIN pg_namespace AS n ON n.oid = l.collnamespace WHERE l.oid = a.attcollation))]
    INTO answer.old_name, answer.swap
  FROM pg_attribute AS a JOIN pg_type AS t ON t.oid = a.atttypid
  WHERE a.attrelid = relation AND a.attnum = attnum AND t.typtype = 'd';
  IF FOUND THEN
    answer.kind := 'domain';
    answer.member := relation;
    answer.build := '{}';
    answer.note := 'the new column does not have the constraints of the domain';
    RETURN NEXT answer;
  END IF;
END $$;
COMMENT ON FUNCTION prism_crypt._twin_domain(oid, smallint) IS 'What frees an old column of its domain. Internal';

-- NOT NULL. Up to 17 it is a property of the column, and PostgreSQL does not scan the table if a valid CHECK proves it; from 18 on
-- it is a constraint with a name. Partitions and children get it from their parents.
CREATE FUNCTION prism_crypt._twin_not_null(member oid, attnum smallint, twin name) RETURNS SETOF prism_crypt._twin_definition
  LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_variable
DECLARE
  named CONSTANT text := prism_crypt._qualified_name(member);
  answer prism_crypt._twin_definition;
  own pg_attribute;
  kept name;
  constraint_ record;
BEGIN
  SELECT * INTO own FROM pg_attribute AS a WHERE a.attrelid = member AND a.attnum = attnum AND a.attnotnull;
  IF NOT FOUND THEN
    RETURN;
  END IF;
  -- On the way back it is the other one that goes.
  kept := prism_crypt._side_name('prism_crypt_old_', own.attname);
  kept := CASE twin WHEN kept THEN prism_crypt._side_name('prism_crypt_new_', own.attname) ELSE kept END;
  answer.kind := 'not null';
  answer.member := member;
  SELECT c.oid, c.conname, c.coninhcount > 0 AS is_inherited, c.connoinherit, c.convalidated INTO constraint_
  FROM pg_constraint AS c WHERE c.conrelid = member AND c.contype = 'n' AND attnum = ANY (c.conkey);
  IF FOUND THEN
    IF constraint_.is_inherited THEN
      RETURN;
    END IF;
    answer.old_oid := constraint_.oid;
    answer.old_name := constraint_.conname;
    answer.new_name := prism_crypt._side_name('prism_crypt_new_', constraint_.conname);
    answer.build := ARRAY[format('ALTER TABLE %s ADD CONSTRAINT %I NOT NULL %I%s NOT VALID', named, answer.new_name, twin,
                                 CASE WHEN constraint_.connoinherit THEN ' NO INHERIT' ELSE '' END)]
      || CASE WHEN constraint_.convalidated THEN ARRAY[format('ALTER TABLE %s VALIDATE CONSTRAINT %I', named, answer.new_name)]
              ELSE '{}' END;
    answer.swap := ARRAY[format('ALTER TABLE %s DROP CONSTRAINT %I', named, constraint_.conname),
                         format('ALTER TABLE %s RENAME CONSTRAINT %I TO %I', named, answer.new_name, constraint_.conname)]
      || prism_crypt._remarks('pg_constraint', constraint_.oid, 0, format('CONSTRAINT %I ON %s', constraint_.conname, named));
  ELSIF EXISTS (SELECT FROM pg_inherits AS i JOIN pg_attribute AS p ON p.attrelid = i.inhparent AND p.attname = own.attname
                WHERE i.inhrelid = member AND p.attnotnull) THEN
    RETURN;
  ELSE
    answer.new_name := prism_crypt._side_name('prism_crypt_new_', (own.attname || '_not_null')::name);
    answer.build := ARRAY[
      format('ALTER TABLE %s ADD CONSTRAINT %I CHECK (%I IS NOT NULL) NOT VALID', named, answer.new_name, twin),
      format('ALTER TABLE %s VALIDATE CONSTRAINT %I', named, answer.new_name),
      format('ALTER TABLE %s ALTER COLUMN %I SET NOT NULL', named, twin),
      format('ALTER TABLE %s DROP CONSTRAINT %I', named, answer.new_name)];
    answer.swap := ARRAY[format('ALTER TABLE %s ALTER COLUMN %I DROP NOT NULL', named, kept)];
  END IF;
  RETURN NEXT answer;
END $$;
COMMENT ON FUNCTION prism_crypt._twin_not_null(oid, smallint, name) IS 'NOT NULL for the twin of a column. Internal';
