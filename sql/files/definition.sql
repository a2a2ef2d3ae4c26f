-- What a file says of its table: the definitions of columns, as JSON.

CREATE FUNCTION prism_crypt._export_rows(
  query text, definition text, relation oid, path text, key text, format integer, compression text, overwrite boolean, OUT rows bigint,
  OUT size_bytes bigint
) RETURNS SETOF record
  LANGUAGE c VOLATILE ROWS 1 AS 'MODULE_PATHNAME', '_export_rows_wrapper';
COMMENT ON FUNCTION prism_crypt._export_rows(text, text, oid, text, text, integer, text, boolean) IS
  'Writes the rows of a query into an encrypted file. Internal';

CREATE FUNCTION prism_crypt._export_chunks(query text, definition text, relation oid, key text, compression text) RETURNS SETOF bytea
  LANGUAGE c VOLATILE AS 'MODULE_PATHNAME', '_export_chunks_wrapper';
COMMENT ON FUNCTION prism_crypt._export_chunks(text, text, oid, text, text) IS 'An encrypted file of the rows of a query, in pieces. Internal';

CREATE FUNCTION prism_crypt._file_definition(path text, chunks text, key text) RETURNS text
  LANGUAGE c VOLATILE AS 'MODULE_PATHNAME', '_file_definition_wrapper';
COMMENT ON FUNCTION prism_crypt._file_definition(text, text, text) IS 'What an encrypted file says of its table. Internal';

CREATE FUNCTION prism_crypt._import_rows(
  path text, chunks text, key text, target oid, columns smallint[], opened boolean, OUT rows bigint, OUT bytes bigint
) RETURNS SETOF record
  LANGUAGE c VOLATILE ROWS 1 AS 'MODULE_PATHNAME', '_import_rows_wrapper';
COMMENT ON FUNCTION prism_crypt._import_rows(text, text, text, oid, smallint[], boolean) IS 'Appends the rows of an encrypted file to a table. Internal';

-- How values of a column travel: opened, so that other keys can seal them; as ciphertext, where the role may not decrypt or the values are
-- parts of others; null if they are no encrypted values.
CREATE FUNCTION prism_crypt._travels_as(type oid) RETURNS text
  LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
  SELECT CASE
    WHEN NOT prism_crypt._holds_encrypted($1) THEN NULL
    WHEN prism_crypt._may_call(current_user::regrole, 'decrypt_field')
         AND prism_crypt._base_of_column($1, -1) ~ '(^|\.)encrypted_text(\[\])?$' THEN 'opened'
    ELSE 'ciphertext' END
$$;
COMMENT ON FUNCTION prism_crypt._travels_as(oid) IS 'How values of a type are written into a file. Internal';

CREATE FUNCTION prism_crypt._columns_for_file(relation regclass) RETURNS jsonb
  LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
  SELECT coalesce(jsonb_agg(jsonb_strip_nulls(jsonb_build_object(
    'name', a.attname,
    'type', format_type(a.atttypid, a.atttypmod),
    'encrypted', prism_crypt._travels_as(a.atttypid),
    'not_null', nullif(a.attnotnull, false),
    'identity', CASE a.attidentity WHEN 'a' THEN 'always' WHEN 'd' THEN 'by default' END,
    'generated', CASE a.attgenerated WHEN 's' THEN 'stored' WHEN 'v' THEN 'virtual' END,
    'expression', CASE WHEN d.oid IS NOT NULL THEN prism_crypt._definition('default', d.oid, 'pg_catalog, pg_temp') END)) ORDER BY a.attnum), '[]')
  FROM pg_attribute AS a LEFT JOIN pg_attrdef AS d ON d.adrelid = a.attrelid AND d.adnum = a.attnum
  WHERE a.attrelid = $1 AND a.attnum > 0 AND NOT a.attisdropped
$$;
COMMENT ON FUNCTION prism_crypt._columns_for_file(regclass) IS 'The columns of a table or view, as a file has them. Internal';

CREATE FUNCTION prism_crypt._query_columns(query text, OUT name text, OUT type oid, OUT modifier integer) RETURNS SETOF record
  LANGUAGE c VOLATILE AS 'MODULE_PATHNAME', '_query_columns_wrapper';
COMMENT ON FUNCTION prism_crypt._query_columns(text) IS 'The columns of a query. Internal';

CREATE FUNCTION prism_crypt._columns_of_query(columns jsonb) RETURNS jsonb
  LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  one record;
BEGIN
  FOR one IN SELECT * FROM jsonb_to_recordset(columns) AS c (name text, type oid) JOIN pg_type AS t ON t.oid = c.type WHERE t.typtype = 'p' LOOP
    RAISE invalid_table_definition USING MESSAGE = format('column "%s" has pseudo-type %s', one.name, format_type(one.type, NULL));
  END LOOP;
  FOR one IN SELECT name FROM jsonb_to_recordset(columns) AS c (name text) GROUP BY name HAVING count(*) > 1 LOOP
    RAISE duplicate_column USING MESSAGE = format('column "%s" specified more than once', one.name);
  END LOOP;
  RETURN (SELECT coalesce(jsonb_agg(jsonb_strip_nulls(jsonb_build_object(
      'name', c.name, 'type', format_type(c.type, c.modifier), 'encrypted', prism_crypt._travels_as(c.type))) ORDER BY c.number), '[]')
    FROM ROWS FROM (jsonb_to_recordset(columns) AS (name text, type oid, modifier integer)) WITH ORDINALITY AS c (name, type, modifier, number));
END $$;
COMMENT ON FUNCTION prism_crypt._columns_of_query(jsonb) IS 'The columns of a query, as a file has them. Internal';

-- What selects the rows, so that COPY can load them elsewhere.
CREATE FUNCTION prism_crypt._select_for_file(columns jsonb, source text) RETURNS text
  LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
  SELECT format('SELECT %s FROM %s AS q', string_agg(
    CASE WHEN c.encrypted = 'opened' THEN format('q.%I::pg_catalog.text%s', c.name, CASE WHEN c.type ~ '\[\]$' THEN '[]' ELSE '' END)
         ELSE format('q.%I', c.name) END, ', ' ORDER BY c.number), $2)
  FROM ROWS FROM (jsonb_to_recordset($1) AS (name name, type text, encrypted text, generated text)) WITH ORDINALITY AS c (name, type, encrypted, generated, number)
  WHERE c.generated IS NULL
$$;
COMMENT ON FUNCTION prism_crypt._select_for_file(jsonb, text) IS 'The query whose rows a file gets. Internal';
