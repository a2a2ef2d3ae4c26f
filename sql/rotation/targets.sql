-- What may be rotated: tables, columns, key versions.

CREATE FUNCTION prism_crypt._check_rotatable_table(relation regclass) RETURNS void
  LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  root record;
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
        WHEN 'v' THEN 'Rotate the tables that the view reads.'
        WHEN 'm' THEN 'Rotate the tables that it reads, then REFRESH MATERIALIZED VIEW.'
        WHEN 'f' THEN 'Rotate it on its own server.'
        ELSE 'Name a table.' END;
  ELSIF root.nspname IN ('pg_catalog', 'pg_toast', 'information_schema', 'prism_crypt') THEN
    RAISE insufficient_privilege USING
      MESSAGE = format('permission denied: "%s" is a system table', root.relname);
  ELSIF root.relpersistence = 't' THEN
    RAISE wrong_object_type USING
      MESSAGE = format('"%s" is a temporary table', root.relname),
      HINT = 'Temporary tables end with their session, and are not rotated.';
  END IF;
END $$;
COMMENT ON FUNCTION prism_crypt._check_rotatable_table(regclass) IS
  'Raises an error if the relation to rotate is not an ordinary table. Internal';

-- PostgreSQL compares the bytes of a referenced value before and after an UPDATE: a new ciphertext counts as a new value. A
-- referenced table has triggers for its foreign keys, which an index finds; there is no such index for the constraints.
CREATE FUNCTION prism_crypt._check_referenced(tables regclass[], column_name name) RETURNS void
  LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_variable
DECLARE
  foreign_key record;
BEGIN
  SELECT c.conname, c.conrelid::regclass AS referring INTO foreign_key
  FROM unnest(tables) AS r
  CROSS JOIN LATERAL (SELECT t.tgconstraint FROM pg_trigger AS t WHERE t.tgrelid = r AND t.tgconstraint <> 0 OFFSET 0) AS t
  CROSS JOIN LATERAL (SELECT * FROM pg_constraint AS c WHERE c.oid = t.tgconstraint OFFSET 0) AS c
  WHERE c.contype = 'f' AND c.confrelid = r AND c.confupdtype IN ('n', 'd', 'r')
    AND EXISTS (
      SELECT FROM pg_attribute AS a
      WHERE a.attrelid = c.confrelid AND a.attnum = ANY (c.confkey)
        AND (column_name IS NULL OR a.attname = column_name)
        AND prism_crypt._rotatable_kind(a.atttypid) IN ('plain', 'nested'))
  ORDER BY c.conname LIMIT 1;
  IF FOUND THEN
    RAISE object_not_in_prerequisite_state USING
      MESSAGE = format('foreign key "%s" of %s would act on re-encrypted values', foreign_key.conname,
                       prism_crypt._qualified_name(foreign_key.referring)),
      DETAIL = 'ON UPDATE SET NULL, SET DEFAULT and RESTRICT take a new ciphertext for a new value.',
      HINT = 'Make it ON UPDATE CASCADE or NO ACTION.';
  END IF;
END $$;
COMMENT ON FUNCTION prism_crypt._check_referenced(regclass[], name) IS
  'Raises an error if a foreign key would act on values that are only re-encrypted. Internal';

-- Columns of a table, its partitions and its children that can be rotated: those of one name, or all that hold encrypted_text.
-- Only the types of these columns are checked, each once, not all types of the database.
CREATE FUNCTION prism_crypt._rotatable_columns(
  relation regclass, column_name name, OUT member oid, OUT relkind "char", OUT generated boolean
) RETURNS SETOF record
  LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
  WITH columns AS MATERIALIZED (
    SELECT t.member, t.relkind, c.atttypid, c.generated
    FROM prism_crypt._table_tree($1) AS t CROSS JOIN LATERAL (
      SELECT a.atttypid, a.attgenerated <> '' AS generated FROM pg_attribute AS a
      WHERE a.attrelid = t.member AND a.attnum > 0 AND NOT a.attisdropped AND ($2 IS NULL OR a.attname = $2)
      OFFSET 0) AS c
  ), types AS MATERIALIZED (
    SELECT d.type, prism_crypt._rotatable_kind(d.type) AS kind FROM (SELECT DISTINCT atttypid AS type FROM columns) AS d
  )
  SELECT c.member, c.relkind, c.generated FROM columns AS c JOIN types AS t ON t.type = c.atttypid
  WHERE t.kind IN ('plain', 'nested') OR $2 IS NOT NULL AND t.kind = 'bytes'
$$;
COMMENT ON FUNCTION prism_crypt._rotatable_columns(regclass, name) IS
  'Where a table with its partitions and children has columns to rotate. Internal';

CREATE FUNCTION prism_crypt._check_rotatable_column(relation regclass, column_name name) RETURNS void
  LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
  name_of text := (SELECT relname FROM pg_class WHERE oid = relation);
  column_type oid;
BEGIN
  IF column_name IS NULL THEN
    RETURN;
  END IF;
  SELECT atttypid INTO column_type FROM pg_attribute
  WHERE attrelid = relation AND attname = _check_rotatable_column.column_name AND attnum > 0 AND NOT attisdropped;
  IF NOT FOUND THEN
    RAISE undefined_column USING
      MESSAGE = format('column "%s" of relation "%s" does not exist', column_name, name_of);
  ELSIF prism_crypt._rotatable_kind(column_type) IS NULL THEN
    RAISE datatype_mismatch USING
      MESSAGE = format('column "%s" of relation "%s" is of type %s, not encrypted_text',
                       column_name, name_of, format_type(column_type, NULL));
  END IF;
END $$;
COMMENT ON FUNCTION prism_crypt._check_rotatable_column(regclass, name) IS
  'Raises an error if a column is named that can''t be rotated. Internal';

-- This checks as the current role, whose rights and row-level security count. _start_job() checks again. The scope does not
-- matter here.
CREATE FUNCTION prism_crypt._check_rotation(relation regclass, column_name name, scope jsonb) RETURNS void
  LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
  name_of text;
  tables regclass[];
  has_columns boolean;
  are_generated boolean;
  problem regclass;
BEGIN
  PERFORM prism_crypt._check_rotatable_table(relation), prism_crypt._check_rotatable_column(relation, column_name);
  SELECT relname INTO name_of FROM pg_class WHERE oid = relation;
  SELECT array_agg(DISTINCT c.member::regclass) FILTER (WHERE c.relkind = 'r' AND NOT c.generated), count(*) > 0,
         bool_and(c.generated)
    INTO tables, has_columns, are_generated
  FROM prism_crypt._rotatable_columns(relation, column_name) AS c;
  IF NOT has_columns THEN
    RAISE undefined_column USING
      MESSAGE = format('relation "%s" has no encrypted column', name_of),
      HINT = 'Name a bytea column to re-encrypt what encrypt_bytes() made.';
  ELSIF are_generated THEN
    RAISE undefined_column USING
      MESSAGE = format('relation "%s" has no column that could be rotated', name_of),
      HINT = 'A generated column follows the columns that it is generated from.';
  END IF;
  SELECT t INTO problem FROM unnest(tables) AS t WHERE row_security_active(t::oid) LIMIT 1;
  IF FOUND THEN
    RAISE insufficient_privilege USING
      MESSAGE = format('row-level security may hide rows of "%s" from this role', name_of),
      HINT = 'Let the owner of the table rotate it, or a role with BYPASSRLS.';
  END IF;
  SELECT t INTO problem FROM unnest(relation || tables) AS t
  WHERE NOT has_table_privilege(t::oid, 'SELECT') OR NOT has_any_column_privilege(t::oid, 'UPDATE') LIMIT 1;
  IF FOUND THEN
    RAISE insufficient_privilege USING
      MESSAGE = format('permission denied for table %s', prism_crypt._qualified_name(problem)),
      HINT = 'A rotation needs SELECT and UPDATE on the table and on each of its partitions and children.';
  END IF;
  PERFORM prism_crypt._check_referenced(relation || tables, column_name);
END $$;
COMMENT ON FUNCTION prism_crypt._check_rotation(regclass, name, jsonb) IS
  'Raises an error if this role can''t rotate a table. Internal';

CREATE FUNCTION prism_crypt._warn_of_foreign_tables(relation regclass) RETURNS void
  LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  foreign_tables text := (
    SELECT string_agg(prism_crypt._qualified_name(t.member), ', ')
    FROM prism_crypt._table_tree(relation) AS t WHERE t.relkind = 'f');
BEGIN
  IF foreign_tables IS NOT NULL THEN
    RAISE WARNING 'foreign tables are not rotated: %', foreign_tables USING HINT = 'Rotate them on their own server.';
  END IF;
END $$;
COMMENT ON FUNCTION prism_crypt._warn_of_foreign_tables(regclass) IS
  'Warns about partitions and children of a table that are foreign tables. Internal';

CREATE FUNCTION prism_crypt._check_rotation_scope(from_version integer, keyset text) RETURNS void
  LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
  key prism_crypt.data_key;
BEGIN
  IF _check_rotation_scope.from_version IS NOT NULL THEN
    SELECT * INTO key FROM prism_crypt.data_key AS k WHERE k.version = from_version;
    IF NOT FOUND THEN
      RAISE undefined_object USING
        MESSAGE = format('key version %s does not exist', from_version), HINT = 'prism_crypt.key_status lists them.';
    ELSIF key.state = 'active' THEN
      RAISE object_not_in_prerequisite_state USING
        MESSAGE = format('key version %s is the active one of its keyset', from_version),
        HINT = 'Call prism_crypt.rotate_key() first, so that there is a newer one.';
    END IF;
  END IF;
  IF _check_rotation_scope.keyset IS NOT NULL THEN
    PERFORM prism_crypt._require_keyset(
      _check_rotation_scope.keyset, 'prism_crypt.key_status lists them. NULL is every keyset.');
  END IF;
END $$;
COMMENT ON FUNCTION prism_crypt._check_rotation_scope(integer, text) IS
  'Raises an error for a version or keyset that can''t be rotated away. Internal';

CREATE FUNCTION prism_crypt._rotation_scope(from_version integer, keyset text) RETURNS jsonb
  LANGUAGE sql IMMUTABLE SET search_path = pg_catalog, pg_temp AS $$
  SELECT jsonb_strip_nulls(jsonb_build_object('from_version', $1, 'keyset', $2))
$$;
COMMENT ON FUNCTION prism_crypt._rotation_scope(integer, text) IS 'The scope of a rotation, as its job has it. Internal';

-- A generated column follows the columns that it is generated from. The scope must have exactly the form that it may have: with
-- ever new scopes, others could fill the table of jobs.
CREATE FUNCTION prism_crypt._rotation_parts(relation regclass, column_name name, scope jsonb) RETURNS regclass[]
  LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_variable
DECLARE
  from_version CONSTANT integer := scope ->> 'from_version';
  keyset CONSTANT text := scope ->> 'keyset';
BEGIN
  PERFORM prism_crypt._check_rotatable_table(relation), prism_crypt._check_rotatable_column(relation, column_name),
    prism_crypt._check_rotation_scope(from_version, keyset);
  IF scope IS DISTINCT FROM prism_crypt._rotation_scope(from_version, keyset) THEN
    RAISE invalid_parameter_value USING MESSAGE = 'the scope of a rotation is from_version and keyset';
  END IF;
  RETURN ARRAY(
    SELECT DISTINCT c.member::regclass FROM prism_crypt._rotatable_columns(relation, column_name) AS c
    WHERE c.relkind = 'r' AND NOT c.generated ORDER BY 1);
END $$;
COMMENT ON FUNCTION prism_crypt._rotation_parts(regclass, name, jsonb) IS
  'The tables that hold the rows of a table, if they have something to rotate. Internal';

-- A generated column follows automatically. Any other column is set together with the value.
CREATE FUNCTION prism_crypt._sets_key_version_column(
  relation regclass, column_name name, key_version_column name
) RETURNS boolean
  LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_variable
DECLARE
  key_type oid;
  generated "char";
BEGIN
  IF key_version_column IS NULL THEN
    RETURN false;
  ELSIF column_name IS NULL THEN
    RAISE invalid_parameter_value USING
      MESSAGE = 'key_version_column needs a column_name', HINT = 'It is the key version of one column.';
  END IF;
  SELECT a.atttypid, a.attgenerated INTO key_type, generated FROM pg_attribute AS a
  WHERE a.attrelid = relation AND a.attname = key_version_column AND a.attnum > 0 AND NOT a.attisdropped;
  IF key_type IS NULL THEN
    RAISE undefined_column USING
      MESSAGE = format('column "%s" of relation "%s" does not exist', key_version_column, relation);
  ELSIF key_type NOT IN ('int4'::regtype, 'int8'::regtype) THEN
    RAISE datatype_mismatch USING
      MESSAGE = format('column "%s" of relation "%s" is of type %s, not integer',
                       key_version_column, relation, format_type(key_type, NULL));
  ELSIF EXISTS (SELECT FROM pg_attribute AS a WHERE a.attrelid = relation AND a.attname = column_name
                AND a.attnum > 0 AND NOT a.attisdropped AND prism_crypt._rotatable_kind(a.atttypid) = 'nested') THEN
    RAISE datatype_mismatch USING
      MESSAGE = format('column "%s" of relation "%s" may hold several key versions', column_name, relation);
  END IF;
  RETURN generated = '';
END $$;
COMMENT ON FUNCTION prism_crypt._sets_key_version_column(regclass, name, name) IS
  'Whether a rotation sets a key-version column; raises an error if the column is not suitable. Internal';
