-- Tables, views and queries into encrypted files.

CREATE FUNCTION prism_crypt.export_encrypted(
  source text, output_path text, key text DEFAULT NULL, format integer DEFAULT 2, compression text DEFAULT 'none', overwrite boolean DEFAULT false
) RETURNS jsonb
  LANGUAGE plpgsql VOLATILE
  -- As pg_dump sets them. The path is the caller's, for the query.
  SET DateStyle = 'ISO, YMD' SET IntervalStyle = 'postgres' SET extra_float_digits = 3 SET bytea_output = 'hex' SET xmloption = 'content'
  SET prism_crypt.output = 'ciphertext' AS $$
DECLARE
  is_query CONSTANT boolean := pg_catalog.starts_with(pg_catalog.ltrim(source), '(');
  relation pg_catalog.regclass;
  columns pg_catalog.jsonb;
  collection pg_catalog.text := 'query';
  named pg_catalog.text := source;
  written record;
BEGIN
  IF source IS NULL OR output_path IS NULL OR format IS NULL OR compression IS NULL OR overwrite IS NULL THEN
    RAISE null_value_not_allowed USING MESSAGE = 'source, output_path, format, compression and overwrite must not be null';
  END IF;
  IF is_query THEN
    columns := prism_crypt._columns_of_query(source);
  ELSE
    relation := source::pg_catalog.regclass;
    collection := prism_crypt._qualified_name(relation);
    named := collection;
    columns := prism_crypt._columns_for_file(relation);
  END IF;
  SELECT w.rows, w.size_bytes INTO STRICT written
  FROM prism_crypt._export_rows(
    prism_crypt._select_for_file(columns, named),
    pg_catalog.jsonb_build_object('collection', collection, 'columns', columns)::pg_catalog.text,
    output_path, key, format, compression, overwrite) AS w;
  RETURN pg_catalog.jsonb_build_object(
    'success', true, 'collection', collection, 'output_path', output_path, 'size_bytes', written.size_bytes, 'rows', written.rows,
    'format', format, 'key_source', CASE WHEN key IS NULL THEN 'master' ELSE 'given' END);
END $$;
COMMENT ON FUNCTION prism_crypt.export_encrypted(text, text, text, integer, text, boolean) IS
  'Writes a table, a view or a query in parentheses into an encrypted file of the server';
