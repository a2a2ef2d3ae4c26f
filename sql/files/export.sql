-- Tables, views and queries as encrypted files.

-- What a file is made of, on the path of the caller.
CREATE FUNCTION prism_crypt._file_source(
  source text, OUT query text, OUT definition text, OUT relation oid, OUT collection text, OUT opened boolean
)
  LANGUAGE plpgsql VOLATILE AS $$
#variable_conflict use_variable
DECLARE
  columns pg_catalog.jsonb;
  versions pg_catalog.jsonb;
  versions_query pg_catalog.text;
  named pg_catalog.text := source;
BEGIN
  IF source IS NULL THEN
    RAISE null_value_not_allowed USING MESSAGE = 'source must not be null';
  END IF;
  IF source OPERATOR(pg_catalog.~) '^[[:space:]]*[(]' THEN
    collection := 'query';
    relation := 0;
    columns := prism_crypt._columns_of_query(COALESCE((SELECT pg_catalog.jsonb_agg(pg_catalog.to_jsonb(c))
      FROM prism_crypt._query_columns(pg_catalog.format(E'SELECT * FROM (%s\n) AS q', source)) AS c), '[]'));
  ELSE
    relation := source::pg_catalog.regclass;
    named := prism_crypt._qualified_name(relation::pg_catalog.regclass);
    -- Elsewhere there is no such schema as that of temporary tables.
    collection := (
      SELECT CASE WHEN c.relpersistence OPERATOR(pg_catalog.=) 't' THEN pg_catalog.quote_ident(c.relname::pg_catalog.text) ELSE named END
      FROM pg_catalog.pg_class AS c WHERE c.oid OPERATOR(pg_catalog.=) relation);
    columns := prism_crypt._columns_for_file(relation::pg_catalog.regclass);
  END IF;
  opened := prism_crypt._may_call(current_user::pg_catalog.regrole, 'decrypt_field');
  versions_query := prism_crypt._versions_query(columns, named);
  IF versions_query IS NOT NULL THEN
    EXECUTE versions_query INTO versions;
    RAISE NOTICE 'encrypted columns travel as ciphertext, which needs these key versions: %', COALESCE(versions::pg_catalog.text, '[]');
  END IF;
  query := prism_crypt._select_for_file(columns, named);
  definition := pg_catalog.jsonb_strip_nulls(
    pg_catalog.jsonb_build_object('collection', collection, 'columns', columns, 'key_versions', versions))::pg_catalog.text;
END $$;
COMMENT ON FUNCTION prism_crypt._file_source(text) IS 'The query and the definition of what is exported. Internal';

CREATE FUNCTION prism_crypt.export_encrypted(
  source text, output_path text, key text DEFAULT NULL, format integer DEFAULT 2, compression text DEFAULT 'none', overwrite boolean DEFAULT false
) RETURNS jsonb
  LANGUAGE plpgsql VOLATILE AS $$
DECLARE
  written pg_catalog.record;
BEGIN
  IF output_path IS NULL OR format IS NULL OR compression IS NULL OR overwrite IS NULL THEN
    RAISE null_value_not_allowed USING MESSAGE = 'output_path, format, compression and overwrite must not be null';
  END IF;
  SELECT w.collection, w.rows, w.size_bytes INTO STRICT written
  FROM prism_crypt._export_rows(source, output_path, key, format, compression, overwrite) AS w;
  RETURN pg_catalog.jsonb_build_object(
    'success', true, 'collection', written.collection, 'output_path', output_path, 'size_bytes', written.size_bytes, 'rows', written.rows,
    'format', format, 'key_source', CASE WHEN key IS NULL THEN 'master' ELSE 'given' END);
END $$;
COMMENT ON FUNCTION prism_crypt.export_encrypted(text, text, text, integer, text, boolean) IS
  'Writes a table, a view or a query in parentheses into an encrypted file of the server';

-- In the list of a SELECT, each piece is made when it is asked for.
CREATE FUNCTION prism_crypt.export_stream(source text, key text DEFAULT NULL, compression text DEFAULT 'none') RETURNS SETOF bytea
  LANGUAGE sql VOLATILE AS $$
  SELECT prism_crypt._export_chunks($1, $2, COALESCE($3, 'none'))
$$;
COMMENT ON FUNCTION prism_crypt.export_stream(text, text, text) IS
  'The same file in pieces, for the client: put together in their order, they are an encrypted file';
