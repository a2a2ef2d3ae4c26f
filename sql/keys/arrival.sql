-- Rows of keys that were made elsewhere and are brought by an apply worker, a restore, or by hand. The order of an index on
-- encrypted values depends on the index key that is known for each value: an index that was built before has another order, and
-- would miss rows. From then on no such index is used until it is rebuilt.
--
-- Rows that this transaction made itself (created_at is its start) change no order: the function that makes a key takes care of
-- the indexes. All triggers are ALWAYS triggers, because apply workers fire no others.

CREATE FUNCTION prism_crypt._is_logical_worker() RETURNS boolean
  LANGUAGE c VOLATILE AS 'MODULE_PATHNAME', '_is_logical_worker_wrapper';
COMMENT ON FUNCTION prism_crypt._is_logical_worker() IS
  'Whether this process applies what another server replicates. Internal';

CREATE FUNCTION prism_crypt._lock_for_reading(relation oid) RETURNS void
  LANGUAGE c VOLATILE STRICT AS 'MODULE_PATHNAME', '_lock_for_reading_wrapper';
COMMENT ON FUNCTION prism_crypt._lock_for_reading(oid) IS 'Locks a relation of any kind, in SHARE mode. Internal';

-- An apply worker rebuilds the indexes if it can, without running functions of others while the tables are locked. A restore does
-- not, because its values and keys may come later.
CREATE FUNCTION prism_crypt._renew_indexes(indexes regclass[]) RETURNS void
  LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  is_worker CONSTANT boolean := prism_crypt._is_logical_worker();
  index regclass;
  distrusted regclass[] := '{}';
  cause text;
BEGIN
  FOREACH index IN ARRAY indexes LOOP
    IF NOT is_worker THEN
      NULL;
    ELSIF prism_crypt._runs_others_code(index) THEN
      cause := format('%s runs functions of others', index);
    ELSE
      BEGIN
        PERFORM set_config('max_parallel_maintenance_workers', '0', true),
          prism_crypt._rebuild_index(index::text, (
            SELECT x.indexprs IS NULL AND x.indpred IS NULL FROM pg_index AS x WHERE x.indexrelid = index));
        CONTINUE;
      EXCEPTION WHEN OTHERS OR assert_failure THEN
        -- Messages of other errors may quote values.
        cause := CASE WHEN SQLSTATE = '55000' THEN SQLERRM ELSE 'SQLSTATE ' || SQLSTATE END;
      END;
    END IF;
    distrusted := distrusted || index;
  END LOOP;
  IF distrusted = '{}' THEN
    RETURN;
  END IF;
  PERFORM prism_crypt._distrust_indexes(distrusted);
  RAISE WARNING 'indexes on encrypted values were built before their index key was there, and are invalid: %',
    (SELECT string_agg(i::text, ', ' ORDER BY i::text) FROM unnest(distrusted) AS i) USING
    DETAIL = coalesce('They could not be rebuilt: ' || cause || '.', 'Their order is that of another index key.'),
    HINT = 'REINDEX INDEX makes each of them valid; it needs the keys. Then call prism_crypt.rotate_index_key() to go on with '
      'the tags, if it was going on.';
END $$;
COMMENT ON FUNCTION prism_crypt._renew_indexes(regclass[]) IS
  'Rebuilds indexes of another order, or marks them invalid. Internal';

-- Tables with indexes on values of a keyset whose tags are not from its index key.
CREATE FUNCTION prism_crypt._indexed_old_tags(keyset text) RETURNS regclass[]
  LANGUAGE sql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
  SELECT coalesce(array_agg(t.relation), '{}')
  FROM (SELECT DISTINCT i.relation FROM prism_crypt._search_indexes() AS i) AS t
  WHERE prism_crypt._count_outdated_tags(t.relation, $1) > 0
$$;
COMMENT ON FUNCTION prism_crypt._indexed_old_tags(text) IS
  'Tables where indexed values of a keyset have search tags of another index key. Internal';

-- `certain`: values may have other tags although none are visible, for example while they are tagged again.
CREATE FUNCTION prism_crypt._take_index_order(keyset text, certain boolean) RETURNS void
  LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  is_worker CONSTANT boolean := prism_crypt._is_logical_worker();
  -- A worker starts again by itself.
  own_timeout CONSTANT text := prism_crypt._limit_waits(CASE WHEN is_worker THEN 60 ELSE 600 END);
  relations regclass[];
  indexes regclass[];
BEGIN
  -- This waits for index builds that are under way; builds that begin later see this row.
  PERFORM prism_crypt._lock_searched_tables(false);
  IF NOT EXISTS (SELECT FROM prism_crypt._search_indexes()) THEN
    PERFORM set_config('lock_timeout', own_timeout, true);
    RETURN;
  END IF;
  IF NOT certain THEN
    IF is_worker THEN
      -- This waits for writers; readers don't have to wait.
      PERFORM prism_crypt._lock_for_reading(t.relation)
      FROM (SELECT DISTINCT i.relation FROM prism_crypt._search_indexes() AS i ORDER BY 1) AS t;
    END IF;
    relations := prism_crypt._indexed_old_tags(keyset);
    IF relations = '{}' THEN
      PERFORM set_config('lock_timeout', own_timeout, true);
      RETURN;
    END IF;
  END IF;
  IF is_worker THEN
    -- No statement may be running that has already compared a value by the old key. A worker tries again by itself.
    PERFORM prism_crypt._require_no_concurrent_build();
    PERFORM prism_crypt._lock_searched_tables(true);
  END IF;
  SELECT array_agg(i.index ORDER BY i.index) INTO indexes
  FROM (SELECT DISTINCT s.index FROM prism_crypt._search_indexes() AS s JOIN pg_index AS x ON x.indexrelid = s.index
        WHERE (certain OR s.relation = ANY (relations))
          -- Indexes that are already invalid stay so, but a worker tries to build them.
          AND (x.indisvalid OR is_worker)) AS i;
  IF indexes IS NOT NULL THEN
    PERFORM prism_crypt._renew_indexes(indexes);
  END IF;
  PERFORM set_config('lock_timeout', own_timeout, true);
END $$;
COMMENT ON FUNCTION prism_crypt._take_index_order(text, boolean) IS
  'Updates the indexes after the index key that is known for values has changed. Internal';

-- If another index key was known, every value is outdated by one key or the other. Rows of one command count as arriving
-- together.
CREATE FUNCTION prism_crypt._index_key_arrived() RETURNS trigger
  LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
  -- A restore knew the key before, so every index has the order of that key.
  IF TG_OP = 'INSERT' AND prism_crypt._is_carried(NEW.keyset, NEW.generation) THEN
    RETURN NULL;
  END IF;
  PERFORM prism_crypt._take_index_order(NEW.keyset, TG_OP = 'UPDATE' OR NEW.retagged_at IS NULL OR EXISTS (
    SELECT FROM prism_crypt.index_key AS i JOIN prism_crypt.index_key AS o ON o.keyset = i.keyset
    WHERE i.keyset = NEW.keyset AND i.generation = NEW.generation
      AND (o.xmin::text || ' ' || o.cmin::text) <> (i.xmin::text || ' ' || i.cmin::text)));
  RETURN NULL;
END $$;
COMMENT ON FUNCTION prism_crypt._index_key_arrived() IS 'Updates the indexes when an index key arrives. Internal';

CREATE TRIGGER index_key_loaded
  AFTER INSERT ON prism_crypt.index_key
  FOR EACH ROW WHEN (NEW.state = 'active' AND NEW.created_at <> pg_catalog.now())
  EXECUTE FUNCTION prism_crypt._index_key_arrived();
CREATE TRIGGER index_key_replaced
  AFTER UPDATE ON prism_crypt.index_key
  FOR EACH ROW WHEN (NEW.state = 'active' AND (OLD.keyset <> NEW.keyset OR OLD.generation <> NEW.generation))
  EXECUTE FUNCTION prism_crypt._index_key_arrived();

-- The index key for a value is found through its data key.
CREATE FUNCTION prism_crypt._data_key_arrived() RETURNS trigger
  LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  own_timeout text;
  indexes regclass[];
BEGIN
  IF TG_OP = 'INSERT' THEN
    -- Until an index key is replaced, values have no other tags.
    IF NOT prism_crypt._is_carried(NEW.version) AND EXISTS (SELECT FROM prism_crypt.index_key AS i
               WHERE i.keyset = NEW.keyset AND i.state = 'active' AND i.generation > 1) THEN
      PERFORM prism_crypt._take_index_order(NEW.keyset, false);
    END IF;
  ELSIF prism_crypt._is_logical_worker() THEN
    -- As destroy_key() did on the other server.
    indexes := prism_crypt._indexes_to_rebuild(NEW.keyset);
    IF indexes <> '{}' THEN
      own_timeout := prism_crypt._limit_waits(60);
      PERFORM prism_crypt._require_no_concurrent_build();
      PERFORM prism_crypt._lock_searched_tables(true);
      PERFORM prism_crypt._renew_indexes(indexes);
      PERFORM set_config('lock_timeout', own_timeout, true);
    END IF;
  END IF;
  RETURN NULL;
END $$;
COMMENT ON FUNCTION prism_crypt._data_key_arrived() IS 'Updates the indexes when a data key arrives, or is destroyed. Internal';

CREATE TRIGGER data_key_loaded
  AFTER INSERT ON prism_crypt.data_key
  FOR EACH ROW WHEN (NEW.state <> 'destroyed' AND NEW.created_at <> pg_catalog.now())
  EXECUTE FUNCTION prism_crypt._data_key_arrived();
CREATE TRIGGER data_key_lost
  AFTER UPDATE ON prism_crypt.data_key
  FOR EACH ROW WHEN (OLD.state <> 'destroyed' AND NEW.state = 'destroyed')
  EXECUTE FUNCTION prism_crypt._data_key_arrived();
-- Tags that this index key made stay usable without it; tags of other index keys don't, and only before the key goes is it
-- known which ones those are. Afterwards an index has nothing from which it could be rebuilt.
CREATE FUNCTION prism_crypt._keys_leave() RETURNS trigger
  LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  own_timeout CONSTANT text := prism_crypt._limit_waits(600);
  indexes regclass[];
BEGIN
  PERFORM prism_crypt._lock_searched_tables(false);
  PERFORM set_config('lock_timeout', own_timeout, true);
  SELECT array_agg(DISTINCT s.index) INTO indexes
  FROM prism_crypt._search_indexes() AS s JOIN pg_index AS x ON x.indexrelid = s.index
  WHERE x.indisvalid AND s.relation = ANY (ARRAY(
    SELECT unnest(prism_crypt._indexed_old_tags(k.keyset))
    FROM (SELECT DISTINCT i.keyset FROM prism_crypt.index_key AS i) AS k
    WHERE TG_OP = 'TRUNCATE' OR k.keyset = to_jsonb(OLD) ->> 'keyset'));
  IF indexes IS NOT NULL THEN
    PERFORM prism_crypt._distrust_indexes(indexes);
    RAISE WARNING 'indexes on encrypted values are invalid without their keys: %',
      (SELECT string_agg(i::text, ', ' ORDER BY i::text) FROM unnest(indexes) AS i) USING
      HINT = 'Load the keys, and REINDEX INDEX each of them. prism_crypt.status() lists them.';
  END IF;
  RETURN OLD;
END $$;
COMMENT ON FUNCTION prism_crypt._keys_leave() IS 'Updates the indexes before keys go. Internal';

CREATE TRIGGER data_key_removed
  BEFORE DELETE ON prism_crypt.data_key
  FOR EACH ROW WHEN (OLD.state <> 'destroyed') EXECUTE FUNCTION prism_crypt._keys_leave();
CREATE TRIGGER index_key_removed
  BEFORE DELETE ON prism_crypt.index_key
  FOR EACH ROW WHEN (OLD.state = 'active') EXECUTE FUNCTION prism_crypt._keys_leave();
CREATE TRIGGER data_key_emptied
  BEFORE TRUNCATE ON prism_crypt.data_key
  FOR EACH STATEMENT EXECUTE FUNCTION prism_crypt._keys_leave();
CREATE TRIGGER index_key_emptied
  BEFORE TRUNCATE ON prism_crypt.index_key
  FOR EACH STATEMENT EXECUTE FUNCTION prism_crypt._keys_leave();

DO $$
DECLARE
  name pg_catalog.text;
BEGIN
  FOREACH name IN ARRAY ARRAY['index_key_loaded', 'index_key_replaced', 'index_key_removed', 'index_key_emptied'] LOOP
    EXECUTE pg_catalog.format('ALTER TABLE prism_crypt.index_key ENABLE ALWAYS TRIGGER %I', name);
    EXECUTE pg_catalog.format(
      'COMMENT ON TRIGGER %I ON prism_crypt.index_key IS ''Sees to it that no index of another order is trusted''', name);
  END LOOP;
  FOREACH name IN ARRAY ARRAY['data_key_loaded', 'data_key_lost', 'data_key_removed', 'data_key_emptied'] LOOP
    EXECUTE pg_catalog.format('ALTER TABLE prism_crypt.data_key ENABLE ALWAYS TRIGGER %I', name);
    EXECUTE pg_catalog.format(
      'COMMENT ON TRIGGER %I ON prism_crypt.data_key IS ''Sees to it that no index of another order is trusted''', name);
  END LOOP;
END $$;

