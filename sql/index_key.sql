-- A new index key. Every comparison is by the new one from its commit on: of values that were tagged with the old one by
-- opening them. So no answer changes while rows are tagged anew, which is a rotation like any other.

CREATE FUNCTION prism_crypt._lock_relation(relation oid, exclusively boolean) RETURNS void
  LANGUAGE c VOLATILE STRICT AS 'MODULE_PATHNAME', '_lock_relation_wrapper';
COMMENT ON FUNCTION prism_crypt._lock_relation(oid, boolean) IS
  'Locks a relation of any kind, in ACCESS EXCLUSIVE or ROW EXCLUSIVE mode. Internal';

CREATE FUNCTION prism_crypt._count_outdated_tags(relation oid, keyset text) RETURNS bigint
  LANGUAGE c VOLATILE STRICT AS 'MODULE_PATHNAME', '_count_outdated_tags_wrapper';
COMMENT ON FUNCTION prism_crypt._count_outdated_tags(oid, text) IS
  'How many values of a table have a search tag of an index key that was replaced. Internal';

CREATE FUNCTION prism_crypt._last_generation(relation oid, keyset text) RETURNS integer
  LANGUAGE c VOLATILE STRICT AS 'MODULE_PATHNAME', '_last_generation_wrapper';
COMMENT ON FUNCTION prism_crypt._last_generation(oid, text) IS
  'The highest generation of search tags in a table; 0 where there are none. Internal';

CREATE FUNCTION prism_crypt._has_outdated_tags() RETURNS boolean
  LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
  SELECT EXISTS (SELECT FROM prism_crypt.index_key WHERE state = 'active' AND retagged_at IS NULL)
$$;
COMMENT ON FUNCTION prism_crypt._has_outdated_tags() IS
  'Whether there may be search tags of an index key that was replaced. Internal';

-- Indexes whose order or buckets come from index keys.
CREATE FUNCTION prism_crypt._search_indexes(OUT index regclass, OUT relation regclass) RETURNS SETOF record
  LANGUAGE sql STABLE ROWS 100 SET search_path = pg_catalog, pg_temp AS $$
  -- An expression of a type that only its operator class of anyarray or record tells may hold such values.
  SELECT DISTINCT i.indexrelid::regclass, i.indrelid::regclass
  FROM pg_index AS i
  JOIN pg_class AS c ON c.oid = i.indexrelid AND c.relkind = 'i'
  CROSS JOIN LATERAL unnest(i.indclass::oid[], i.indkey::smallint[]) AS k (opclass, attnum)
  JOIN pg_opclass AS o ON o.oid = k.opclass
  LEFT JOIN pg_attribute AS a ON a.attrelid = i.indrelid AND a.attnum = k.attnum AND k.attnum <> 0
  JOIN pg_am AS m ON m.oid = c.relam
  WHERE EXISTS (SELECT FROM prism_crypt._encrypted_types() AS t WHERE t.type IN (o.opcintype, a.atttypid))
     OR k.attnum = 0 AND m.amname = 'hash' AND o.opcintype IN ('anyarray'::regtype, 'record'::regtype)
$$;
COMMENT ON FUNCTION prism_crypt._search_indexes() IS
  'Indexes over encrypted_text, and over types that hold it. Internal';

-- In the same order for everybody.
CREATE FUNCTION prism_crypt._lock_searched_tables(exclusively boolean) RETURNS void
  LANGUAGE sql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
  SELECT prism_crypt._lock_relation(c.relation, $1)
  FROM (SELECT DISTINCT relation FROM prism_crypt._encrypted_columns() WHERE relkind <> 'f'
        UNION SELECT relation FROM prism_crypt._search_indexes() ORDER BY 1) AS c
  WHERE NOT EXISTS (SELECT FROM pg_class AS t WHERE t.oid = c.relation AND t.relpersistence = 't'
                    AND t.relnamespace <> pg_my_temp_schema())
$$;
COMMENT ON FUNCTION prism_crypt._lock_searched_tables(boolean) IS
  'Locks every table that has encrypted columns, or an index on encrypted values. Internal';

-- A dump that was taken while values were tagged anew is restored. Indexes that were built before this row came took old
-- tags for good ones (a parallel restore builds them in any order), and would give wrong answers. Those that are under way
-- are waited for; those that begin later see this row.
CREATE FUNCTION prism_crypt._index_key_loaded() RETURNS trigger
  LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  indexes text;
BEGIN
  IF prism_crypt._is_carried(NEW.keyset, NEW.generation) THEN
    RETURN NULL;
  END IF;
  PERFORM prism_crypt._lock_searched_tables(false);
  SELECT string_agg(i.index::text, ', ' ORDER BY i.index::text) INTO indexes FROM prism_crypt._search_indexes() AS i;
  IF indexes IS NOT NULL THEN
    UPDATE pg_index SET indisvalid = false
    WHERE indexrelid IN (SELECT i.index FROM prism_crypt._search_indexes() AS i);
    RAISE WARNING 'indexes on encrypted values were built before their index key was there, and are invalid: %', indexes
      USING HINT = 'REINDEX makes them valid. Then call prism_crypt.rotate_index_key() to go on with the tags.';
  END IF;
  RETURN NULL;
END $$;
COMMENT ON FUNCTION prism_crypt._index_key_loaded() IS 'Marks indexes invalid that were built too early. Internal';

CREATE TRIGGER index_key_loaded
  AFTER INSERT ON prism_crypt.index_key
  FOR EACH ROW WHEN (NEW.state = 'active' AND NEW.retagged_at IS NULL)
  EXECUTE FUNCTION prism_crypt._index_key_loaded();
COMMENT ON TRIGGER index_key_loaded ON prism_crypt.index_key IS 'Marks indexes invalid that were built too early';

CREATE FUNCTION prism_crypt._rebuild_search_indexes() RETURNS integer
  LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  index regclass;
  indexes integer := 0;
BEGIN
  FOR index IN SELECT i.index FROM prism_crypt._search_indexes() AS i ORDER BY 1 LOOP
    EXECUTE format('REINDEX INDEX %s', index);
    indexes := indexes + 1;
  END LOOP;
  RETURN indexes;
END $$;
COMMENT ON FUNCTION prism_crypt._rebuild_search_indexes() IS
  'Builds all indexes on encrypted values anew; gives their number. Internal';

CREATE FUNCTION prism_crypt._invalid_search_indexes() RETURNS text
  LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
  SELECT string_agg(i.index::text, ', ' ORDER BY i.index::text)
  FROM prism_crypt._search_indexes() AS i JOIN pg_index AS x ON x.indexrelid = i.index WHERE NOT x.indisvalid
$$;
COMMENT ON FUNCTION prism_crypt._invalid_search_indexes() IS 'Indexes on encrypted values that are invalid. Internal';

CREATE FUNCTION prism_crypt._check_index_key_can_change() RETURNS void
  LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  partitioned text;
  others text;
BEGIN
  SELECT string_agg(DISTINCT p.partrelid::regclass::text, ', ') INTO partitioned
  FROM pg_partitioned_table AS p
  WHERE EXISTS (SELECT FROM unnest(p.partclass) AS k (opclass) JOIN pg_opclass AS o ON o.oid = k.opclass
                JOIN prism_crypt._encrypted_types() AS t ON t.type = o.opcintype)
     OR EXISTS (SELECT FROM pg_attribute AS a JOIN prism_crypt._encrypted_types() AS t ON t.type = a.atttypid
                WHERE a.attrelid = p.partrelid AND a.attnum = ANY (p.partattrs))
     -- An expression that makes an array or a row may make it of encrypted values.
     OR EXISTS (SELECT FROM unnest(p.partclass, p.partattrs::smallint[]) AS k (opclass, attnum)
                JOIN pg_opclass AS o ON o.oid = k.opclass
                WHERE k.attnum = 0 AND o.opcintype IN ('anyarray'::regtype, 'record'::regtype)
                  AND EXISTS (SELECT FROM prism_crypt._encrypted_columns() AS c WHERE c.relation = p.partrelid));
  IF partitioned IS NOT NULL THEN
    RAISE object_not_in_prerequisite_state USING
      MESSAGE = 'the index key can''t change while tables are partitioned by encrypted values',
      DETAIL = format('Rows would be in the wrong partitions of: %s.', partitioned),
      HINT = 'Partition them by something else.';
  END IF;
  SELECT string_agg(DISTINCT i.relation::text, ', ') INTO others
  FROM prism_crypt._search_indexes() AS i JOIN pg_class AS c ON c.oid = i.relation
  WHERE c.relpersistence = 't' AND c.relnamespace <> pg_my_temp_schema();
  IF others IS NOT NULL THEN
    RAISE object_in_use USING
      MESSAGE = 'the index key can''t change while other sessions have temporary tables with indexes on encrypted values',
      DETAIL = others, HINT = 'Such a table ends with its session.';
  END IF;
END $$;
COMMENT ON FUNCTION prism_crypt._check_index_key_can_change() IS
  'Raises an error where something depends on the index key that can''t be built anew. Internal';

CREATE FUNCTION prism_crypt._replace_index_key(keyset text, reason text) RETURNS integer
  LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
  new_generation integer;
  indexes integer;
BEGIN
  IF _replace_index_key.keyset IS NULL THEN
    RAISE null_value_not_allowed USING MESSAGE = 'keyset must not be null';
  END IF;
  -- As rotate_key() does: one change of a keyset at a time.
  PERFORM 1 FROM prism_crypt.keyset AS k WHERE k.name = _replace_index_key.keyset FOR UPDATE;
  IF NOT FOUND THEN
    RAISE undefined_object USING
      MESSAGE = format('keyset "%s" does not exist', _replace_index_key.keyset),
      HINT = 'prism_crypt.key_status lists them.';
  END IF;
  IF NOT EXISTS (SELECT FROM prism_crypt.data_key AS k
                 WHERE k.keyset = _replace_index_key.keyset AND k.state = 'active') THEN
    RAISE object_not_in_prerequisite_state USING
      MESSAGE = format('no active data key in keyset "%s"', _replace_index_key.keyset),
      HINT = 'Call prism_crypt.rotate_key() to make one.';
  END IF;
  PERFORM prism_crypt._check_index_key_can_change();
  RAISE NOTICE 'tables with encrypted columns are locked while their indexes are built with a new index key';
  -- No statement may run that has compared a value by the old key already.
  PERFORM prism_crypt._lock_searched_tables(true);
  PERFORM prism_crypt._check_index_key_can_change();
  SELECT max(i.generation) + 1 INTO new_generation FROM prism_crypt.index_key AS i
  WHERE i.keyset = _replace_index_key.keyset;
  IF new_generation IS NULL THEN
    -- The row was lost. No key of a generation that values carry may come in its place.
    SELECT coalesce(max(prism_crypt._last_generation(c.relation, _replace_index_key.keyset)), 0) + 1 INTO new_generation
    FROM (SELECT DISTINCT relation FROM prism_crypt._encrypted_columns()) AS c;
  END IF;
  PERFORM prism_crypt._overwrite_index_key(_replace_index_key.keyset);
  PERFORM prism_crypt._make_index_key(_replace_index_key.keyset, new_generation, _replace_index_key.reason);
  UPDATE prism_crypt.index_key AS i SET retagged_at = NULL
  WHERE i.keyset = _replace_index_key.keyset AND i.generation = new_generation;
  indexes := prism_crypt._rebuild_search_indexes();
  PERFORM prism_crypt._audit(
    'rotate_index_key', _replace_index_key.keyset, NULL, _replace_index_key.reason,
    format('generation: %s, indexes built anew: %s', new_generation, indexes));
  RETURN new_generation;
END $$;
COMMENT ON FUNCTION prism_crypt._replace_index_key(text, text) IS
  'Makes the next index key of a keyset, and builds all indexes on encrypted values anew. Internal';

-- Ends the replacement of an index key if no old tag is left, and says where some are if not.
CREATE FUNCTION prism_crypt._finish_index_key(keyset text) RETURNS void
  LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
  places text;
BEGIN
  SELECT string_agg(format('%s: %s', prism_crypt._qualified_name(c.relation), c.outdated), ', ') INTO places
  FROM (SELECT r.relation, prism_crypt._count_outdated_tags(r.relation, _finish_index_key.keyset) AS outdated
        FROM (SELECT DISTINCT relation FROM prism_crypt._encrypted_columns()) AS r) AS c
  WHERE c.outdated > 0;
  IF places IS NULL THEN
    UPDATE prism_crypt.index_key AS i SET retagged_at = clock_timestamp()
    WHERE i.keyset = _finish_index_key.keyset AND i.state = 'active' AND i.retagged_at IS NULL;
  ELSE
    RAISE WARNING 'values that still have old search tags: %', places USING
      HINT = 'Refresh materialized views, and call prism_crypt.rotate_index_key() again: it goes on.';
  END IF;
END $$;
COMMENT ON FUNCTION prism_crypt._finish_index_key(text) IS
  'Records that no value of a keyset has an old search tag any more. Internal';

CREATE FUNCTION prism_crypt._is_retagging(keyset text) RETURNS boolean
  LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
  SELECT EXISTS (SELECT FROM prism_crypt.index_key AS i
                 WHERE i.keyset = $1 AND i.state = 'active' AND i.retagged_at IS NULL)
$$;
COMMENT ON FUNCTION prism_crypt._is_retagging(text) IS
  'Whether the index key of a keyset was replaced and values may have old search tags. Internal';

CREATE PROCEDURE prism_crypt.rotate_index_key(
  keyset text DEFAULT 'default', reason text DEFAULT NULL, batch_size integer DEFAULT 1000, pause interval DEFAULT NULL,
  max_rows_per_second double precision DEFAULT NULL, max_replica_lag bigint DEFAULT NULL,
  fire_triggers boolean DEFAULT true
) LANGUAGE plpgsql AS $$
DECLARE
  generation integer;
BEGIN
  IF NOT pg_catalog.has_function_privilege('@extschema@.reencrypt_field(@extschema@.encrypted_text)', 'EXECUTE') THEN
    RAISE insufficient_privilege USING
      MESSAGE = 'permission denied to rotate', HINT = 'rotate_index_key() needs access to rotate, beside key_admin.';
  END IF;
  PERFORM prism_crypt._require_no_transaction_block('prism_crypt.rotate_index_key()');
  PERFORM prism_crypt._check_limits(ROW(
    batch_size, pause, max_rows_per_second, max_replica_lag, NULL, fire_triggers)::prism_crypt._limits);
  IF prism_crypt._is_retagging(keyset) THEN
    RAISE NOTICE 'the index key of keyset "%" was replaced before; going on with the tags', keyset;
  ELSE
    generation := prism_crypt._replace_index_key(keyset, reason);
    COMMIT;
    RAISE NOTICE 'keyset "%" has index key generation %; values are tagged anew', keyset, generation USING
      DETAIL = 'All answers are right meanwhile. Until it is done, comparing values that still have their old tag opens them: '
        'that is slow, and building an index on them, REINDEX and joins need the keys.',
      HINT = 'If this is interrupted, call it again: it goes on.';
    RAISE WARNING 'blind_index() gives other values from now on' USING
      HINT = 'Columns that hold blind indexes of this keyset have to be computed anew.';
  END IF;
  CALL prism_crypt.rotate_all(
    batch_size => batch_size, pause => pause, max_rows_per_second => max_rows_per_second,
    max_replica_lag => max_replica_lag, keyset => keyset, fire_triggers => fire_triggers);
  PERFORM prism_crypt._finish_index_key(keyset);
END $$;
COMMENT ON PROCEDURE prism_crypt.rotate_index_key(
  text, text, integer, interval, double precision, bigint, boolean) IS
  'A new index key for a keyset: builds indexes on encrypted values anew, then tags its values anew in committed batches';
