-- What may be migrated: tables, columns, types, expressions.

CREATE FUNCTION prism_crypt._check_migratable_table(relation regclass) RETURNS void
  LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  root record;
  problem record;
  extension name;
BEGIN
  IF relation IS NULL THEN
    RAISE null_value_not_allowed USING MESSAGE = 'relation must not be null';
  END IF;
  SELECT c.relname, c.relkind, c.relpersistence, n.nspname INTO root
  FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace WHERE c.oid = relation;
  IF NOT FOUND THEN
    RAISE undefined_table USING MESSAGE = format('relation with OID %s does not exist', relation::oid);
  ELSIF root.relkind NOT IN ('r', 'p') THEN
    RAISE wrong_object_type USING
      MESSAGE = format('"%s" is not a table', root.relname),
      HINT = CASE root.relkind
        WHEN 'v' THEN 'Migrate the tables that the view reads: it is carried over.'
        WHEN 'm' THEN 'Migrate the tables that it reads: it is carried over.'
        WHEN 'f' THEN 'Migrate it on its own server.'
        ELSE 'Name a table.' END;
  ELSIF root.nspname IN ('pg_catalog', 'pg_toast', 'information_schema', 'prism_crypt') THEN
    RAISE insufficient_privilege USING MESSAGE = format('permission denied: "%s" is a system table', root.relname);
  ELSIF root.relpersistence = 't' THEN
    RAISE wrong_object_type USING
      MESSAGE = format('"%s" is a temporary table', root.relname),
      HINT = 'ALTER TABLE changes its type.';
  END IF;
  extension := prism_crypt._extension_of('pg_class', relation);
  IF extension IS NOT NULL THEN
    RAISE object_not_in_prerequisite_state USING
      MESSAGE = format('table "%s" belongs to extension "%s"', root.relname, extension),
      HINT = 'Its scripts would not find the column as they made it.';
  END IF;
  SELECT t.member, t.relkind, c.relowner INTO problem
  FROM prism_crypt._table_tree(relation) AS t JOIN pg_class AS c ON c.oid = t.member
  WHERE t.relkind = 'f' OR NOT pg_has_role(c.relowner, 'USAGE') ORDER BY t.relkind <> 'f', t.member <> relation, t.member LIMIT 1;
  IF problem.relkind = 'f' THEN
    RAISE wrong_object_type USING
      MESSAGE = format('%s, a part of "%s", is a foreign table', prism_crypt._qualified_name(problem.member), root.relname),
      HINT = 'Detach it, and migrate it on its own server.';
  ELSIF problem.member IS NOT NULL THEN
    RAISE insufficient_privilege USING MESSAGE = format('must be owner of table %s', prism_crypt._qualified_name(problem.member));
  END IF;
END $$;
COMMENT ON FUNCTION prism_crypt._check_migratable_table(regclass) IS
  'Raises an error if a table can''t be migrated by this role. Internal';

-- A type as the caller wrote it, with its modifier; the extension's schema need not be on the path.
CREATE FUNCTION prism_crypt._parse_type(type text, path text, OUT type_oid oid, OUT modifier integer, OUT name text)
  LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_variable
DECLARE
  own_schema CONSTANT text := (SELECT quote_ident(n.nspname) FROM pg_extension AS e JOIN pg_namespace AS n ON n.oid = e.extnamespace
                               WHERE e.extname = 'prism_crypt');
  done boolean := false;
BEGIN
  IF type IS NULL THEN
    RAISE null_value_not_allowed USING MESSAGE = 'type must not be null';
  END IF;
  PERFORM set_config('search_path', concat_ws(', ', nullif(path, ''), own_schema), true);
  -- It also makes sure that this is a type and nothing else.
  type_oid := pg_catalog.to_regtype(type);
  IF type_oid IS NULL THEN
    RAISE undefined_object USING MESSAGE = pg_catalog.format('type "%s" does not exist', type);
  END IF;
  EXECUTE pg_catalog.format(E'CREATE TEMPORARY TABLE prism_crypt_trial (value %s\n)', type);
  PERFORM pg_catalog.set_config('search_path', 'pg_catalog, pg_temp', true);
  SELECT a.atttypid, a.atttypmod, format_type(a.atttypid, a.atttypmod) INTO type_oid, modifier, name
  FROM pg_attribute AS a WHERE a.attrelid = 'pg_temp.prism_crypt_trial'::regclass AND a.attnum = 1;
  done := true;
  RAISE SQLSTATE 'PC000';
EXCEPTION
  WHEN SQLSTATE 'PC000' THEN
    IF NOT done THEN
      RAISE;
    END IF;
  -- As to_regtype(text) says it since PostgreSQL 16.
  WHEN syntax_error THEN
    RAISE undefined_object USING MESSAGE = pg_catalog.format('type "%s" does not exist', type);
END $$;
COMMENT ON FUNCTION prism_crypt._parse_type(text, text) IS 'A type with its modifier, parsed by PostgreSQL. Internal';

-- Raises an error if an expression can't compute the new column. PostgreSQL judges on an empty copy, with the rules for ALTER TABLE
-- ... USING. A cursor takes a single statement only, so nothing but an expression gets into the parentheses.
CREATE FUNCTION prism_crypt._check_using(relation regclass, column_name name, new_type text, using_expression text, path text)
  RETURNS void
  LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_variable
DECLARE
  single refcursor;
  relname CONSTANT name := (SELECT c.relname FROM pg_class AS c WHERE c.oid = relation);
  done boolean := false;
BEGIN
  PERFORM prism_crypt._make_copy(relation, column_name, NULL, false);
  PERFORM set_config('search_path', path, true);
  OPEN single FOR EXECUTE pg_catalog.format(E'SELECT (%s\n) FROM ONLY pg_temp.%I', using_expression, relname);
  CLOSE single;
  EXECUTE pg_catalog.format(E'ALTER TABLE pg_temp.%I ALTER COLUMN %I TYPE %s USING (%s\n)', relname, column_name, new_type,
                            using_expression);
  done := true;
  RAISE SQLSTATE 'PC000';
EXCEPTION WHEN SQLSTATE 'PC000' THEN
  IF NOT done THEN
    RAISE;
  END IF;
END $$;
COMMENT ON FUNCTION prism_crypt._check_using(regclass, name, text, text, text) IS
  'Raises an error if an expression can''t compute a column. Internal';

CREATE TYPE prism_crypt._migration_target AS (
  relation    regclass,
  column_name name,
  old_type    text,
  -- As PostgreSQL writes it, with its schema and modifier.
  new_type    text,
  -- Or back to plaintext.
  is_encrypting boolean,
  is_searchable boolean,
  using_expression text,
  -- The search path on which the expression is understood.
  path        text
);
COMMENT ON TYPE prism_crypt._migration_target IS 'A column that is to be migrated, and its new type. Internal';

-- Raises an error if this role can't migrate the column, whatever else there is.
CREATE FUNCTION prism_crypt._check_migratable(
  relation regclass, column_name name, type text, using_expression text, path text DEFAULT 'pg_catalog, pg_temp'
) RETURNS prism_crypt._migration_target
  LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_variable
DECLARE
  own record;
  parsed record;
  encrypted CONSTANT oid := (SELECT t.type FROM prism_crypt._encrypted_types() AS t JOIN pg_type AS p ON p.oid = t.type
                             WHERE p.typtype = 'b' AND NOT t.nested);
  target prism_crypt._migration_target;
BEGIN
  PERFORM prism_crypt._check_migratable_table(relation);
  IF column_name IS NULL THEN
    RAISE null_value_not_allowed USING MESSAGE = 'column_name must not be null';
  END IF;
  SELECT a.attnum, a.atttypid, a.atttypmod, c.relname INTO own
  FROM pg_class AS c LEFT JOIN pg_attribute AS a ON a.attrelid = c.oid AND a.attname = column_name AND NOT a.attisdropped
  WHERE c.oid = relation;
  IF own.attnum IS NULL THEN
    RAISE undefined_column USING
      MESSAGE = format('column "%s" of relation "%s" does not exist', column_name, own.relname);
  ELSIF own.attnum < 0 THEN
    RAISE invalid_column_reference USING MESSAGE = format('"%s" is a system column', column_name);
  END IF;
  parsed := prism_crypt._parse_type(type, path);
  target.relation := relation;
  target.column_name := column_name;
  target.old_type := format_type(own.atttypid, own.atttypmod);
  target.new_type := parsed.name;
  target.is_encrypting := parsed.type_oid = encrypted;
  target.is_searchable := parsed.name ~ '\msearchable\M';
  target.using_expression := using_expression;
  target.path := path;
  IF target.is_encrypting AND prism_crypt._holds_encrypted(own.atttypid) THEN
    RAISE object_not_in_prerequisite_state USING
      MESSAGE = format('column "%s" of relation "%s" is encrypted already', column_name, own.relname),
      HINT = 'ALTER TABLE changes its type modifier.';
  ELSIF NOT target.is_encrypting AND (prism_crypt._holds_encrypted(parsed.type_oid)
                                      OR NOT prism_crypt._holds_encrypted(own.atttypid)) THEN
    RAISE datatype_mismatch USING
      MESSAGE = format('a column of type %s is not migrated to type %s', target.old_type, target.new_type),
      HINT = 'The new type is encrypted_text, for example encrypted_text(''email'', ''searchable''); or plaintext, to decrypt a column.';
  END IF;
  IF using_expression IS NOT NULL THEN
    PERFORM prism_crypt._check_using(relation, column_name, target.new_type, using_expression, path);
  END IF;
  RETURN target;
END $$;
COMMENT ON FUNCTION prism_crypt._check_migratable(regclass, name, text, text, text) IS
  'Raises an error if this role can''t migrate a column; gives the column and its new type. Internal';

-- The plaintext of an encrypted column, as what can be assigned to one of another type: a cast to the type with its length would cut it,
-- and assigning it checks the length.
CREATE FUNCTION prism_crypt._opened_as(column_name name, type text) RETURNS text
  LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
  SELECT format('%I::pg_catalog.text::%s', $1, prism_crypt._base_of_column(to_regtype($2), -1))
$$;
COMMENT ON FUNCTION prism_crypt._opened_as(name, text) IS 'The expression that opens a column for one of another type. Internal';

-- What is assigned to the new column, over a row of the table. Text of other types may depend on settings, or is not what people
-- take for the value, so they need an expression.
CREATE FUNCTION prism_crypt._conversion(target prism_crypt._migration_target) RETURNS text
  LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
  SELECT coalesce('(' || target.using_expression || E'\n)',
    CASE WHEN NOT target.is_encrypting THEN prism_crypt._opened_as(target.column_name, target.new_type)
         ELSE (SELECT format(CASE WHEN b.base IN ('text'::regtype, 'varchar'::regtype, 'bpchar'::regtype, 'name'::regtype)
                                  THEN '%I' ELSE '%I::pg_catalog.text' END, target.column_name)
               FROM pg_attribute AS a
               CROSS JOIN LATERAL (SELECT to_regtype(prism_crypt._base_of_column(a.atttypid, -1))) AS b (base)
               LEFT JOIN pg_type AS t ON t.oid = b.base
               WHERE a.attrelid = target.relation AND a.attname = target.column_name
                 AND (b.base IN ('text'::regtype, 'varchar'::regtype, 'bpchar'::regtype, 'name'::regtype, 'int2'::regtype,
                                 'int4'::regtype, 'int8'::regtype, 'numeric'::regtype, 'uuid'::regtype, 'date'::regtype)
                   OR t.typname = 'citext' AND prism_crypt._extension_of('pg_type', b.base) = 'citext')) END)
$$;
COMMENT ON FUNCTION prism_crypt._conversion(prism_crypt._migration_target) IS
  'The expression that computes the new column; null if there has to be a using_expression. Internal';
