-- Tables, views and queries as encrypted files.

-- What a file is made of, on the path of the caller.
CREATE FUNCTION prism_crypt._file_source(source text, OUT query text, OUT definition text, OUT relation oid, OUT collection text)
  LANGUAGE plpgsql VOLATILE AS $$
DECLARE
  columns pg_catalog.jsonb;
  named pg_catalog.text := source;
BEGIN
  IF source IS NULL THEN
    RAISE null_value_not_allowed USING MESSAGE = 'source must not be null';
  END IF;
  IF pg_catalog.starts_with(pg_catalog.ltrim(source), '(') THEN
    collection := 'query';
    relation := 0;
    columns := prism_crypt._columns_of_query(COALESCE((SELECT pg_catalog.jsonb_agg(pg_catalog.to_jsonb(c))
      FROM prism_crypt._query_columns(pg_catalog.format(E'SELECT * FROM (%s\n) AS q', source)) AS c), '[]'));
  ELSE
    relation := source::pg_catalog.regclass;
    collection := prism_crypt._qualified_name(relation::pg_catalog.regclass);
    named := collection;
    columns := prism_crypt._columns_for_file(relation::pg_catalog.regclass);
  END IF;
  query := prism_crypt._select_for_file(columns, named);
  definition := pg_catalog.jsonb_build_object('collection', collection, 'columns', columns)::pg_catalog.text;
END $$;
COMMENT ON FUNCTION prism_crypt._file_source(text) IS 'The query and the definition of what is exported. Internal';

CREATE FUNCTION prism_crypt.export_encrypted(
  source text, output_path text, key text DEFAULT NULL, format integer DEFAULT 2, compression text DEFAULT 'none', overwrite boolean DEFAULT false
) RETURNS jsonb
  LANGUAGE plpgsql VOLATILE
  -- As pg_dump sets them. The path is the caller's, for the query.
  SET DateStyle = 'ISO, YMD' SET IntervalStyle = 'postgres' SET extra_float_digits = 3 SET bytea_output = 'hex' SET xmloption = 'content'
  SET prism_crypt.output = 'ciphertext' AS $$
DECLARE
  made pg_catalog.record;
  written pg_catalog.record;
BEGIN
  IF output_path IS NULL OR format IS NULL OR compression IS NULL OR overwrite IS NULL THEN
    RAISE null_value_not_allowed USING MESSAGE = 'output_path, format, compression and overwrite must not be null';
  END IF;
  made := prism_crypt._file_source(source);
  SELECT w.rows, w.size_bytes INTO STRICT written
  FROM prism_crypt._export_rows(made.query, made.definition, made.relation, output_path, key, format, compression, overwrite) AS w;
  RETURN pg_catalog.jsonb_build_object(
    'success', true, 'collection', made.collection, 'output_path', output_path, 'size_bytes', written.size_bytes, 'rows', written.rows,
    'format', format, 'key_source', CASE WHEN key IS NULL THEN 'master' ELSE 'given' END);
END $$;
COMMENT ON FUNCTION prism_crypt.export_encrypted(text, text, text, integer, text, boolean) IS
  'Writes a table, a view or a query in parentheses into an encrypted file of the server';

-- In the list of a SELECT, each piece is made when it is asked for.
CREATE FUNCTION prism_crypt.export_stream(source text, key text DEFAULT NULL, compression text DEFAULT 'none') RETURNS SETOF bytea
  LANGUAGE sql VOLATILE
  SET DateStyle = 'ISO, YMD' SET IntervalStyle = 'postgres' SET extra_float_digits = 3 SET bytea_output = 'hex' SET xmloption = 'content'
  SET prism_crypt.output = 'ciphertext' AS $$
  SELECT prism_crypt._export_chunks(s.query, s.definition, s.relation, $2, COALESCE($3, 'none')) FROM prism_crypt._file_source($1) AS s
$$;
COMMENT ON FUNCTION prism_crypt.export_stream(text, text, text) IS
  'The same file in pieces, for the client: put together in their order, they are an encrypted file';
