-- Indexes on encrypted values: which ones there are, and which ones must not be used.

-- Indexes whose order or buckets come from index keys. If only an operator class for anyarray or record tells the type of an
-- expression, the expression may hold such values.
CREATE FUNCTION prism_crypt._search_indexes(OUT index regclass, OUT relation regclass) RETURNS SETOF record
  LANGUAGE sql STABLE ROWS 100 SET search_path = pg_catalog, pg_temp AS $$
  WITH types AS MATERIALIZED (SELECT type FROM prism_crypt._encrypted_types())
  SELECT DISTINCT i.indexrelid::regclass, i.indrelid::regclass
  FROM pg_index AS i
  JOIN pg_class AS c ON c.oid = i.indexrelid AND c.relkind = 'i'
  CROSS JOIN LATERAL unnest(i.indclass::oid[], i.indkey::smallint[]) WITH ORDINALITY AS k (opclass, attnum, number)
  JOIN pg_opclass AS o ON o.oid = k.opclass
  LEFT JOIN pg_attribute AS a ON a.attrelid = i.indrelid AND a.attnum = k.attnum AND k.attnum <> 0
  LEFT JOIN pg_attribute AS x ON x.attrelid = i.indexrelid AND x.attnum = k.number
  JOIN pg_am AS m ON m.oid = c.relam
  WHERE o.opcintype IN (SELECT type FROM types) OR a.atttypid IN (SELECT type FROM types)
     OR x.atttypid IN (SELECT type FROM types)
     -- A hash index does not keep the type of an expression.
     OR k.attnum = 0 AND m.amname = 'hash'
        AND o.opcintype IN ('anyarray'::regtype, 'record'::regtype, 'anyrange'::regtype, 'anymultirange'::regtype)
$$;
COMMENT ON FUNCTION prism_crypt._search_indexes() IS
  'Indexes over encrypted_text, and over types that hold it. Internal';

CREATE FUNCTION prism_crypt._tell_relation_changed(relation oid) RETURNS void
  LANGUAGE c VOLATILE STRICT AS 'MODULE_PATHNAME', '_tell_relation_changed_wrapper';
COMMENT ON FUNCTION prism_crypt._tell_relation_changed(oid) IS
  'Makes every session look again at a relation and its indexes. Internal';

-- From 16 on, an apply worker without a primary key or replica identity uses any index of the table, even an invalid one. It does
-- not use an index that is not live; REINDEX INDEX makes it live again. An index that is not live is also not used if somebody is
-- just building it on a table that is in use, and marks it valid at the end.
CREATE FUNCTION prism_crypt._distrust_indexes(indexes regclass[], in_use boolean DEFAULT false) RETURNS void
  LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
  UPDATE pg_index AS i
  SET indisvalid = false,
      indislive = NOT in_use AND (
        current_setting('server_version_num')::integer < 160000
        OR EXISTS (SELECT FROM pg_index AS o
                   WHERE o.indrelid = i.indrelid AND o.indisvalid AND NOT o.indexrelid = ANY (indexes)
                     AND (o.indisprimary OR o.indisreplident)))
  WHERE i.indexrelid = ANY (indexes);
  PERFORM prism_crypt._tell_relation_changed(t.indrelid)
  FROM (SELECT DISTINCT i.indrelid FROM pg_index AS i WHERE i.indexrelid = ANY (indexes)) AS t;
END $$;
COMMENT ON FUNCTION prism_crypt._distrust_indexes(regclass[], boolean) IS 'Marks indexes as not to be used. Internal';

-- What to do with invalid indexes: those that REINDEX CONCURRENTLY left behind are copies of others.
CREATE FUNCTION prism_crypt._invalid_search_indexes() RETURNS text
  LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
  SELECT string_agg(
    CASE WHEN c.relname ~ '_cc(new|old)[0-9]*$' AND EXISTS (
      SELECT FROM pg_index AS o
      WHERE o.indrelid = x.indrelid AND o.indexrelid <> x.indexrelid
        AND o.indkey::text = x.indkey::text AND o.indclass::text = x.indclass::text)
    THEN 'DROP INDEX ' ELSE 'REINDEX INDEX ' END || i.index, '; ' ORDER BY i.index::text)
  FROM (SELECT DISTINCT s.index FROM prism_crypt._search_indexes() AS s) AS i
  JOIN pg_index AS x ON x.indexrelid = i.index
  JOIN pg_class AS c ON c.oid = i.index
  WHERE NOT (x.indisvalid AND x.indislive) AND NOT EXISTS (SELECT FROM pg_stat_progress_create_index AS p WHERE p.index_relid = i.index)
$$;
COMMENT ON FUNCTION prism_crypt._invalid_search_indexes() IS
  'Invalid indexes on encrypted values, with what to do about them. Internal';
