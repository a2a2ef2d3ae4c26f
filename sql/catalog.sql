-- Where values can be, read from the catalogs: no list of columns exists that could forget one.

CREATE FUNCTION prism_crypt._types_over(base oid, OUT type oid, OUT nested boolean) RETURNS SETOF record
  LANGUAGE sql STABLE ROWS 10 SET search_path = pg_catalog, pg_temp AS $$
  WITH RECURSIVE types (type, nested) AS (
    SELECT base, false
    UNION
    SELECT step.type, t.nested OR step.nested
    FROM types AS t, LATERAL (
      SELECT d.oid, false FROM pg_type AS d WHERE d.typtype = 'd' AND d.typbasetype = t.type
      UNION ALL
      SELECT e.typarray, true FROM pg_type AS e WHERE e.oid = t.type AND e.typarray <> 0
      UNION ALL
      SELECT c.reltype, true
      FROM pg_attribute AS a JOIN pg_class AS c ON c.oid = a.attrelid
      WHERE a.atttypid = t.type AND a.attnum > 0 AND NOT a.attisdropped AND c.reltype <> 0
    ) AS step (type, nested)
  )
  SELECT type, bool_or(nested) FROM types GROUP BY type
$$;
COMMENT ON FUNCTION prism_crypt._types_over(oid) IS
  'Every type that holds a type: itself, domains over it and, nested, arrays and composite types. Internal';

CREATE FUNCTION prism_crypt._encrypted_types(OUT type oid, OUT nested boolean) RETURNS SETOF record
  LANGUAGE sql STABLE ROWS 10 SET search_path = pg_catalog, pg_temp AS $$
  SELECT type, nested FROM prism_crypt._types_over('@extschema@.encrypted_text'::regtype)
$$;
COMMENT ON FUNCTION prism_crypt._encrypted_types() IS
  'Every type that holds encrypted_text: the type, domains over it and, nested, arrays and composite types. Internal';

CREATE FUNCTION prism_crypt._encrypted_columns(
  OUT relation oid, OUT relkind "char", OUT column_name name, OUT type oid, OUT nested boolean
) RETURNS SETOF record
  LANGUAGE sql STABLE ROWS 100 SET search_path = pg_catalog, pg_temp AS $$
  SELECT c.oid, c.relkind, a.attname, a.atttypid, t.nested
  FROM prism_crypt._encrypted_types() AS t
  JOIN pg_attribute AS a ON a.atttypid = t.type AND a.attnum > 0 AND NOT a.attisdropped
  JOIN pg_class AS c ON c.oid = a.attrelid
  WHERE c.relkind IN ('r', 'p', 'm', 'f')
  ORDER BY c.oid, a.attnum
$$;
COMMENT ON FUNCTION prism_crypt._encrypted_columns() IS
  'Columns of tables, partitioned tables, foreign tables and materialized views that hold encrypted_text. Internal';

CREATE FUNCTION prism_crypt._qualified_name(relation regclass) RETURNS text
  LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
  SELECT format('%I.%I', n.nspname, c.relname)
  FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace WHERE c.oid = relation
$$;
COMMENT ON FUNCTION prism_crypt._qualified_name(regclass) IS 'A table''s name with its schema, quoted. Internal';

CREATE FUNCTION prism_crypt._tid(block bigint) RETURNS tid
  LANGUAGE sql IMMUTABLE SET search_path = pg_catalog, pg_temp AS $$ SELECT format('(%s,0)', block)::tid $$;
COMMENT ON FUNCTION prism_crypt._tid(bigint) IS 'The first place of a block. Internal';

CREATE FUNCTION prism_crypt._block(place tid) RETURNS bigint
  LANGUAGE sql IMMUTABLE SET search_path = pg_catalog, pg_temp AS $$
  SELECT split_part(ltrim(place::text, '('), ',', 1)::bigint
$$;
COMMENT ON FUNCTION prism_crypt._block(tid) IS 'The block of a place. Internal';
