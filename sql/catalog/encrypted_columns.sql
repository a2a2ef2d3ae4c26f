-- Where values can be. This is read from the catalogs, because a list of columns could miss one.

CREATE FUNCTION prism_crypt._members(class regclass) RETURNS SETOF oid
  LANGUAGE sql STABLE ROWS 300 SET search_path = pg_catalog, pg_temp AS $$
  SELECT d.objid FROM pg_depend AS d JOIN pg_extension AS e ON e.oid = d.refobjid
  WHERE d.classid = $1 AND d.refclassid = 'pg_extension'::regclass AND d.deptype = 'e' AND e.extname = 'prism_crypt'
$$;
COMMENT ON FUNCTION prism_crypt._members(regclass) IS 'Objects of the extension, of one catalog. Internal';

CREATE FUNCTION prism_crypt._types_over(base oid, OUT type oid, OUT nested boolean) RETURNS SETOF record
  LANGUAGE c STABLE STRICT ROWS 10 AS 'MODULE_PATHNAME', '_types_over_wrapper';
COMMENT ON FUNCTION prism_crypt._types_over(oid) IS
  'Every type that holds a type: itself, domains over it and, nested, arrays, ranges, multiranges and composite types. Internal';

CREATE FUNCTION prism_crypt._holds_encrypted(type oid) RETURNS boolean
  LANGUAGE c STABLE STRICT AS 'MODULE_PATHNAME', '_holds_encrypted_wrapper';
COMMENT ON FUNCTION prism_crypt._holds_encrypted(oid) IS
  'Whether a type is encrypted_text, or holds it. For many types, read _encrypted_types() once instead. Internal';

CREATE FUNCTION prism_crypt._is_quickly_checked(type oid) RETURNS boolean
  LANGUAGE c STABLE STRICT AS 'MODULE_PATHNAME', '_is_quickly_checked_wrapper';
COMMENT ON FUNCTION prism_crypt._is_quickly_checked(oid) IS
  'Whether PostgreSQL can make a table with a column of a type quickly: it visits a type that is used twice, twice. Internal';

CREATE FUNCTION prism_crypt._encrypted_types(OUT type oid, OUT nested boolean) RETURNS SETOF record
  LANGUAGE sql STABLE ROWS 10 SET search_path = pg_catalog, pg_temp AS $$
  SELECT type, nested FROM prism_crypt._types_over(
    (SELECT p.prorettype FROM pg_proc AS p WHERE p.oid = 'prism_crypt.load_envelope(text)'::regprocedure))
$$;
COMMENT ON FUNCTION prism_crypt._encrypted_types() IS
  'Every type that holds encrypted_text: the type, domains over it and, nested, arrays, ranges and so on. Internal';

CREATE FUNCTION prism_crypt._encrypted_columns(
  OUT relation oid, OUT relkind "char", OUT column_name name, OUT type oid, OUT nested boolean, OUT generated boolean
) RETURNS SETOF record
  LANGUAGE sql STABLE ROWS 100 SET search_path = pg_catalog, pg_temp AS $$
  SELECT c.oid, c.relkind, a.attname, a.atttypid, t.nested, a.attgenerated <> ''
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

-- The table itself, its partitions, its children. OFFSET 0 keeps the planner from reading the whole catalog, instead of using
-- its index, for each of many tables.
CREATE FUNCTION prism_crypt._table_tree(relation regclass, OUT member oid, OUT relkind "char") RETURNS SETOF record
  LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
  WITH RECURSIVE tree (member) AS (
    SELECT relation::oid
    UNION
    SELECT i.inhrelid
    FROM tree AS t CROSS JOIN LATERAL (SELECT c.inhrelid FROM pg_inherits AS c WHERE c.inhparent = t.member OFFSET 0) AS i
  )
  SELECT t.member, k.relkind
  FROM tree AS t CROSS JOIN LATERAL (SELECT c.relkind FROM pg_class AS c WHERE c.oid = t.member OFFSET 0) AS k
  ORDER BY t.member
$$;
COMMENT ON FUNCTION prism_crypt._table_tree(regclass) IS 'A table with its partitions and children. Internal';
