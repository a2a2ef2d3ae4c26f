-- What a file says of its table: the definitions of columns, as JSON.

CREATE FUNCTION prism_crypt._export_rows(
  source text, path text, key text, format integer, compression text, overwrite boolean, OUT collection text, OUT rows bigint, OUT size_bytes bigint
) RETURNS SETOF record
  LANGUAGE c VOLATILE ROWS 1 AS 'MODULE_PATHNAME', '_export_rows_wrapper';
COMMENT ON FUNCTION prism_crypt._export_rows(text, text, text, integer, text, boolean) IS 'Writes an encrypted file. Internal';

CREATE FUNCTION prism_crypt._export_chunks(source text, key text, compression text) RETURNS SETOF bytea
  LANGUAGE c VOLATILE AS 'MODULE_PATHNAME', '_export_chunks_wrapper';
COMMENT ON FUNCTION prism_crypt._export_chunks(text, text, text) IS 'An encrypted file in pieces. Internal';

CREATE FUNCTION prism_crypt._import_rows(
  path text, chunks text, key text, target text, mode text, OUT relation oid, OUT rows bigint, OUT bytes bigint
) RETURNS SETOF record
  LANGUAGE c VOLATILE ROWS 1 AS 'MODULE_PATHNAME', '_import_rows_wrapper';
COMMENT ON FUNCTION prism_crypt._import_rows(text, text, text, text, text) IS 'Reads an encrypted file into a table. Internal';

CREATE FUNCTION prism_crypt._names_in_expression(text text, OUT kind text, OUT schema text, OUT name text) RETURNS SETOF record
  LANGUAGE c IMMUTABLE STRICT AS 'MODULE_PATHNAME', '_names_in_expression_wrapper';
COMMENT ON FUNCTION prism_crypt._names_in_expression(text) IS 'The types, functions and operators that an expression names. Internal';

CREATE FUNCTION prism_crypt._constants_open(expression text) RETURNS boolean
  LANGUAGE c STABLE STRICT AS 'MODULE_PATHNAME', '_constants_open_wrapper';
COMMENT ON FUNCTION prism_crypt._constants_open(text) IS 'Whether the keys of this database open the encrypted constants in an expression. Internal';

CREATE FUNCTION prism_crypt._type_of(text text, OUT type oid, OUT modifier integer) RETURNS SETOF record
  LANGUAGE c STABLE STRICT ROWS 1 AS 'MODULE_PATHNAME', '_type_of_wrapper';
COMMENT ON FUNCTION prism_crypt._type_of(text) IS 'The type that a text names. Internal';

CREATE FUNCTION prism_crypt._query_columns(query text, OUT name text, OUT type oid, OUT modifier integer) RETURNS SETOF record
  LANGUAGE c VOLATILE AS 'MODULE_PATHNAME', '_query_columns_wrapper';
COMMENT ON FUNCTION prism_crypt._query_columns(text) IS 'The columns of a query. Internal';

-- How the values of a type travel: opened, so that other keys can seal them; as ciphertext, where the role may not decrypt; null if they are no
-- encrypted values.
CREATE FUNCTION prism_crypt._travels_as(type oid) RETURNS text
  LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
  SELECT CASE
    WHEN NOT prism_crypt._holds_encrypted($1) THEN NULL
    WHEN prism_crypt._may_call(current_user::regrole, 'decrypt_field') THEN 'opened'
    ELSE 'ciphertext' END
$$;
COMMENT ON FUNCTION prism_crypt._travels_as(oid) IS 'How values of a type are written into a file. Internal';

CREATE FUNCTION prism_crypt._collation_name(collation oid) RETURNS text
  LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
  SELECT format('%I.%I', n.nspname, c.collname) FROM pg_collation AS c JOIN pg_namespace AS n ON n.oid = c.collnamespace WHERE c.oid = $1
$$;
COMMENT ON FUNCTION prism_crypt._collation_name(oid) IS 'A collation''s name with its schema, quoted. Internal';

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

-- The sequence that a column takes its values from: of an identity column, or of a serial one.
CREATE FUNCTION prism_crypt._sequence_of_column(relation oid, number smallint) RETURNS oid
  LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
  SELECT d.objid FROM pg_depend AS d JOIN pg_class AS c ON c.oid = d.objid AND c.relkind = 'S'
  WHERE d.classid = 'pg_class'::regclass AND d.refclassid = 'pg_class'::regclass AND d.refobjid = $1 AND d.refobjsubid = $2
    AND (d.deptype = 'i' OR d.deptype = 'a' AND EXISTS (
      SELECT FROM pg_attrdef AS own JOIN pg_depend AS uses ON uses.classid = 'pg_attrdef'::regclass AND uses.objid = own.oid
      WHERE own.adrelid = $1 AND own.adnum = $2 AND uses.refclassid = 'pg_class'::regclass AND uses.refobjid = d.objid))
  ORDER BY d.objid LIMIT 1
$$;
COMMENT ON FUNCTION prism_crypt._sequence_of_column(oid, smallint) IS 'The sequence of an identity or serial column. Internal';

CREATE FUNCTION prism_crypt._sequence_for_file(sequence oid) RETURNS jsonb
  LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  own pg_sequence;
  last bigint;
  called boolean;
BEGIN
  SELECT * INTO own FROM pg_sequence AS s WHERE s.seqrelid = sequence;
  IF NOT FOUND THEN
    RETURN NULL;
  ELSIF has_sequence_privilege(sequence, 'SELECT') THEN
    EXECUTE format('SELECT last_value, is_called FROM %s', prism_crypt._qualified_name(sequence::regclass)) INTO last, called;
  ELSIF has_sequence_privilege(sequence, 'USAGE') THEN
    last := pg_sequence_last_value(sequence);
    called := true;
  END IF;
  RETURN jsonb_strip_nulls(jsonb_build_object(
    'start', own.seqstart, 'increment', own.seqincrement, 'minimum', own.seqmin, 'maximum', own.seqmax, 'cache', own.seqcache, 'cycle', own.seqcycle,
    'last', last, 'called', CASE WHEN last IS NOT NULL THEN called END));
END $$;
COMMENT ON FUNCTION prism_crypt._sequence_for_file(oid) IS 'A sequence, as a file has it. Internal';

-- Expressions are written as pg_dump has them.
CREATE FUNCTION prism_crypt._columns_for_file(relation regclass) RETURNS jsonb
  LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
  SET DateStyle = 'ISO' SET IntervalStyle = 'postgres' SET extra_float_digits = 3 SET bytea_output = 'hex' AS $$
  SELECT coalesce(jsonb_agg(jsonb_strip_nulls(jsonb_build_object(
    'name', a.attname,
    'type', format_type(a.atttypid, a.atttypmod),
    'collation', CASE WHEN a.attcollation <> t.typcollation THEN prism_crypt._collation_name(a.attcollation) END,
    'encrypted', prism_crypt._travels_as(a.atttypid),
    'not_null', nullif(a.attnotnull, false),
    'identity', CASE WHEN a.attidentity = 'a' THEN 'always' WHEN a.sequence IS NOT NULL THEN 'by default' END,
    'sequence', prism_crypt._sequence_for_file(a.sequence),
    'generated', CASE a.attgenerated WHEN 's' THEN 'stored' WHEN 'v' THEN 'virtual' END,
    'expression', CASE WHEN d.oid IS NOT NULL AND a.sequence IS NULL THEN pg_get_expr(d.adbin, d.adrelid) END)) ORDER BY a.attnum), '[]')
  FROM (
    SELECT p.*, CASE WHEN p.attidentity <> '' OR p.atthasdef AND p.attgenerated = '' THEN prism_crypt._sequence_of_column(p.attrelid, p.attnum) END AS sequence
    FROM pg_attribute AS p WHERE p.attrelid = $1 AND p.attnum > 0 AND NOT p.attisdropped
  ) AS a
  JOIN pg_type AS t ON t.oid = a.atttypid
  LEFT JOIN pg_attrdef AS d ON d.adrelid = a.attrelid AND d.adnum = a.attnum
$$;
COMMENT ON FUNCTION prism_crypt._columns_for_file(regclass) IS 'The columns of a table or view, as a file has them. Internal';

-- What selects the rows.
CREATE FUNCTION prism_crypt._select_for_file(columns jsonb, source text) RETURNS text
  LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
  SELECT format('SELECT %s FROM %s AS q', string_agg(format('q.%I', c.name), ', ' ORDER BY c.number), $2)
  FROM ROWS FROM (jsonb_to_recordset($1) AS (name name, generated text)) WITH ORDINALITY AS c (name, generated, number)
  WHERE c.generated IS NULL
$$;
COMMENT ON FUNCTION prism_crypt._select_for_file(jsonb, text) IS 'The query whose rows a file gets. Internal';

-- encrypted_text itself, or arrays of it, or a domain over these.
CREATE FUNCTION prism_crypt._is_plain_encrypted(type oid, OUT value boolean, OUT elements boolean) RETURNS record
  LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
  WITH RECURSIVE base (type) AS (
    SELECT $1
    UNION ALL
    SELECT t.typbasetype FROM base AS b JOIN pg_type AS t ON t.oid = b.type WHERE t.typtype = 'd'
  )
  SELECT coalesce(bool_or(b.type = e.oid), false), coalesce(bool_or(b.type = e.typarray), false)
  FROM base AS b, pg_type AS e WHERE e.oid = (SELECT p.prorettype FROM pg_proc AS p WHERE p.oid = 'prism_crypt.load_envelope(text)'::regprocedure)
$$;
COMMENT ON FUNCTION prism_crypt._is_plain_encrypted(oid) IS 'Whether values of a type are encrypted_text, or arrays of it. Internal';

-- Which key versions are needed for columns that travel as ciphertext. What is inside of other types is not looked at.
CREATE FUNCTION prism_crypt._versions_query(columns jsonb, source text) RETURNS text
  LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
  SELECT CASE WHEN count(*) > 0 THEN format('SELECT pg_catalog.jsonb_agg(DISTINCT v.version ORDER BY v.version) FROM %s AS q CROSS JOIN LATERAL (%s) AS v (version) WHERE v.version IS NOT NULL',
                $2, string_agg(CASE WHEN kind.elements THEN format('SELECT %s.key_version(e.value) FROM pg_catalog.unnest(q.%I) AS e (value)', own.schema, c.name)
                                    ELSE format('SELECT %s.key_version(q.%I)', own.schema, c.name) END, ' UNION ALL ')) END
  FROM jsonb_to_recordset($1) AS c (name name, type text, encrypted text, generated text)
  CROSS JOIN LATERAL prism_crypt._type_of(c.type) AS t
  CROSS JOIN LATERAL prism_crypt._is_plain_encrypted(t.type) AS kind
  CROSS JOIN (SELECT quote_ident(n.nspname) AS schema FROM pg_extension AS e JOIN pg_namespace AS n ON n.oid = e.extnamespace WHERE e.extname = 'prism_crypt') AS own
  WHERE c.encrypted = 'ciphertext' AND c.generated IS NULL AND (kind.value OR kind.elements)
$$;
COMMENT ON FUNCTION prism_crypt._versions_query(jsonb, text) IS 'The query that tells which key versions a file needs. Internal';
