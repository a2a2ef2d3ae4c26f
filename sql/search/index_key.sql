-- A new index key. From its commit on, every comparison uses the new key; values that were tagged with the old one are opened
-- for that. So no answer changes while rows are tagged again, which is a rotation like any other.

CREATE FUNCTION prism_crypt._announce_to_transactions() RETURNS void
  LANGUAGE c VOLATILE AS 'MODULE_PATHNAME', '_announce_to_transactions_wrapper';
COMMENT ON FUNCTION prism_crypt._announce_to_transactions() IS
  'Transactions that are running when this one commits get an error if they use index keys afterwards. Internal';

CREATE FUNCTION prism_crypt._hold_index_commits() RETURNS void
  LANGUAGE c VOLATILE AS 'MODULE_PATHNAME', '_hold_index_commits_wrapper';
COMMENT ON FUNCTION prism_crypt._hold_index_commits() IS
  'Makes transactions that have built indexes on encrypted values commit after this one. Internal';

CREATE FUNCTION prism_crypt._count_outdated_tags(relation oid, keyset text) RETURNS bigint
  LANGUAGE c VOLATILE STRICT AS 'MODULE_PATHNAME', '_count_outdated_tags_wrapper';
COMMENT ON FUNCTION prism_crypt._count_outdated_tags(oid, text) IS
  'How many values of a table have a search tag of a replaced index key. Internal';

CREATE FUNCTION prism_crypt._last_generation(relation oid, keyset text) RETURNS integer
  LANGUAGE c VOLATILE STRICT AS 'MODULE_PATHNAME', '_last_generation_wrapper';
COMMENT ON FUNCTION prism_crypt._last_generation(oid, text) IS
  'The highest generation of search tags in a table; 0 if there are none. Internal';

CREATE FUNCTION prism_crypt._require_unlockable(keyset text) RETURNS void
  LANGUAGE c VOLATILE STRICT AS 'MODULE_PATHNAME', '_require_unlockable_wrapper';
COMMENT ON FUNCTION prism_crypt._require_unlockable(text) IS
  'Raises an error if the session''s master key does not unlock a keyset. Internal';

CREATE FUNCTION prism_crypt._require_active_keyset(keyset text) RETURNS void
  LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
  PERFORM prism_crypt._require_keyset($1, 'prism_crypt.key_status lists them.');
  IF NOT EXISTS (SELECT FROM prism_crypt.data_key AS k WHERE k.keyset = $1 AND k.state = 'active') THEN
    RAISE object_not_in_prerequisite_state USING
      MESSAGE = format('no active data key in keyset "%s"', $1), HINT = 'Call prism_crypt.rotate_key() to make one.';
  END IF;
END $$;
COMMENT ON FUNCTION prism_crypt._require_active_keyset(text) IS
  'Raises an error if a keyset does not exist, or has no active key. Internal';

CREATE FUNCTION prism_crypt._overwrite_index_key(keyset text) RETURNS void
  LANGUAGE sql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
  SELECT prism_crypt._forget_carried_keys();
  UPDATE prism_crypt.index_key AS i SET state = 'destroyed', wrapped = '', destroyed_at = clock_timestamp()
  WHERE i.keyset = $1 AND i.state = 'active'
$$;
COMMENT ON FUNCTION prism_crypt._overwrite_index_key(text) IS 'Overwrites the index key of a keyset. Internal';

-- What _replace_index_key() does once it has checked its caller.
CREATE FUNCTION prism_crypt._make_next_index_key(keyset text, reason text, force boolean) RETURNS integer
  LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
  own_timeout CONSTANT text := prism_crypt._limit_waits(10);
  relations oid[];
  left_out oid[];
  new_generation integer;
  indexes integer;
BEGIN
  IF _make_next_index_key.keyset IS NULL THEN
    RAISE null_value_not_allowed USING MESSAGE = 'keyset must not be null';
  ELSIF force IS NULL THEN
    RAISE null_value_not_allowed USING MESSAGE = 'force must not be null';
  END IF;
  PERFORM prism_crypt._require_read_committed('replacing an index key'),
    prism_crypt._require_active_keyset(_make_next_index_key.keyset),
    prism_crypt._require_unlockable(_make_next_index_key.keyset),
    prism_crypt._check_index_key_can_change();
  RAISE NOTICE 'tables with encrypted columns are locked while their indexes are built with a new index key';
  -- No statement may be running that has already compared a value by the old key. A caller with `force` has already waited for
  -- such statements, or has the locks.
  relations := prism_crypt._searched_tables();
  left_out := prism_crypt._take_tables(relations, CASE WHEN force THEN 0 ELSE prism_crypt._patience(10) END);
  IF left_out <> '{}' AND NOT force THEN
    RAISE lock_not_available USING
      MESSAGE = 'tables with encrypted columns are in use',
      DETAIL = coalesce(
        prism_crypt._users_of_tables(left_out),
        format('Nobody else has locks on them any more, or the server has no room for locks on %s tables.', cardinality(relations))),
      HINT = 'Wait until these transactions end, or end them. force => true goes on without their tables.';
  END IF;
  PERFORM prism_crypt._lock_key_tables();
  -- As in rotate_key(): only one change of a keyset at a time.
  PERFORM 1 FROM prism_crypt.keyset AS k WHERE k.name = _make_next_index_key.keyset FOR UPDATE;
  PERFORM prism_crypt._require_active_keyset(_make_next_index_key.keyset);
  -- From here on, transactions that commit indexes wait, and check the keys afterwards: see src/keyring/replaced.rs.
  PERFORM prism_crypt._hold_index_commits();
  PERFORM prism_crypt._check_index_key_can_change();
  SELECT max(i.generation) + 1 INTO new_generation FROM prism_crypt.index_key AS i
  WHERE i.keyset = _make_next_index_key.keyset;
  IF new_generation IS NULL THEN
    -- The row was lost. The new key must not have a generation that values already carry.
    SELECT coalesce(max(prism_crypt._last_generation(c.relation, _make_next_index_key.keyset)), 0) + 1 INTO new_generation
    FROM (SELECT DISTINCT relation FROM prism_crypt._encrypted_columns()) AS c;
  END IF;
  PERFORM prism_crypt._overwrite_index_key(_make_next_index_key.keyset);
  PERFORM prism_crypt._make_index_key(_make_next_index_key.keyset, new_generation, _make_next_index_key.reason);
  UPDATE prism_crypt.index_key AS i SET retagged_at = NULL
  WHERE i.keyset = _make_next_index_key.keyset AND i.generation = new_generation;
  IF left_out <> '{}' THEN
    PERFORM prism_crypt._announce_to_transactions();
  END IF;
  indexes := prism_crypt._renew_by_key(
    ARRAY(SELECT i.index FROM prism_crypt._search_indexes() AS i), left_out || prism_crypt._unreadable_tables(),
    CASE WHEN force THEN 'order' ELSE 'order, with all keys' END);
  PERFORM prism_crypt._audit(
    'rotate_index_key', _make_next_index_key.keyset, NULL, _make_next_index_key.reason,
    format('generation: %s, indexes built anew: %s', new_generation, indexes));
  PERFORM set_config('lock_timeout', own_timeout, true);
  RETURN new_generation;
END $$;
COMMENT ON FUNCTION prism_crypt._make_next_index_key(text, text, boolean) IS
  'Makes the next index key of a keyset, and builds all indexes on encrypted values anew. Internal';

CREATE FUNCTION prism_crypt._replace_index_key(keyset text, reason text, force boolean DEFAULT false) RETURNS integer
  LANGUAGE c VOLATILE AS 'MODULE_PATHNAME', '_replace_index_key_wrapper';
COMMENT ON FUNCTION prism_crypt._replace_index_key(text, text, boolean) IS
  'A new index key without its tags, for roles that may rotate. Internal';

-- Ends the replacement of an index key if no old tag is left; otherwise says where there are some.
CREATE FUNCTION prism_crypt._finish_index_key(keyset text) RETURNS void
  LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
  own_timeout CONSTANT text := prism_crypt._limit_waits(10);
  began CONSTANT double precision := prism_crypt._uptime();
  counted_generation integer;
  target record;
  outdated bigint;
  places text;
BEGIN
  -- The count is about this key: another session may make the next one meanwhile.
  SELECT i.generation INTO counted_generation FROM prism_crypt.index_key AS i
  WHERE i.keyset = _finish_index_key.keyset AND i.state = 'active' AND i.retagged_at IS NULL;
  FOR target IN
    SELECT DISTINCT c.relation, format('%I.%I', n.nspname, r.relname) COLLATE "C" AS name
    FROM prism_crypt._encrypted_columns() AS c
    JOIN pg_class AS r ON r.oid = c.relation JOIN pg_namespace AS n ON n.oid = r.relnamespace
    ORDER BY name
  LOOP
    BEGIN
      IF prism_crypt._uptime() > began + 10 THEN
        -- How long it waits for all tables that others have locked, not for each.
        PERFORM set_config('lock_timeout', '100ms', true);
      END IF;
      outdated := prism_crypt._count_outdated_tags(target.relation, _finish_index_key.keyset);
      IF outdated > 0 THEN
        places := concat_ws(', ', places, format('%s: %s', target.name, outdated));
      END IF;
    EXCEPTION WHEN OTHERS OR assert_failure THEN
      places := concat_ws(', ', places, format('%s: not known, SQLSTATE %s', target.name, SQLSTATE));
    END;
  END LOOP;
  IF places IS NULL THEN
    UPDATE prism_crypt.index_key AS i SET retagged_at = clock_timestamp()
    WHERE i.keyset = _finish_index_key.keyset AND i.generation = counted_generation AND i.state = 'active'
      AND i.retagged_at IS NULL;
  ELSE
    RAISE WARNING 'values that still have old search tags: %', places USING
      HINT = 'Refresh materialized views, and call prism_crypt.rotate_index_key() again: it goes on.';
  END IF;
  PERFORM set_config('lock_timeout', own_timeout, true);
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

-- The same work as rotating a keyset, for another reason: a value with an outdated tag is due in every rotation.
INSERT INTO prism_crypt.job_kind (name, checks, parts, changes, rows_changed) VALUES (
  'retagging', 'prism_crypt._check_rotation', 'prism_crypt._rotation_parts', 'prism_crypt._rotation_changes', 'rows re-encrypted');

CREATE PROCEDURE prism_crypt.rotate_index_key(
  keyset text DEFAULT 'default', reason text DEFAULT NULL, batch_size integer DEFAULT 1000, pause interval DEFAULT NULL,
  max_rows_per_second double precision DEFAULT NULL, max_replica_lag bigint DEFAULT NULL,
  fire_triggers boolean DEFAULT true, force boolean DEFAULT false
) LANGUAGE plpgsql AS $$
DECLARE
  limits prism_crypt._limits := ROW(
    batch_size, pause, max_rows_per_second, max_replica_lag, NULL, fire_triggers);
  generation integer;
  failed pg_catalog.text[];
  tables integer;
BEGIN
  IF NOT pg_catalog.has_function_privilege(
    'prism_crypt.rotate_all(integer, interval, double precision, bigint, integer, integer, pg_catalog.text, boolean)', 'EXECUTE') THEN
    RAISE insufficient_privilege USING
      MESSAGE = 'permission denied to rotate', HINT = 'rotate_index_key() needs access to rotate, beside key_admin.';
  END IF;
  PERFORM prism_crypt._require_no_transaction_block('prism_crypt.rotate_index_key()');
  PERFORM prism_crypt._check_limits(limits);
  IF force IS NULL THEN
    RAISE null_value_not_allowed USING MESSAGE = 'force must not be null';
  END IF;
  -- Whatever the default level is, it must see after each wait what was committed meanwhile.
  COMMIT;
  SET TRANSACTION ISOLATION LEVEL READ COMMITTED;
  IF prism_crypt._is_retagging(keyset) AND NOT force THEN
    RAISE NOTICE 'the index key of keyset "%" was replaced before; going on with the tags', keyset USING
      HINT = 'force => true makes another index key now.';
  ELSE
    CALL prism_crypt._lock_for_index_key(keyset, force);
    generation := prism_crypt._replace_index_key(keyset, reason, force);
    COMMIT;
    RAISE NOTICE 'keyset "%" has index key generation %; values get new search tags', keyset, generation USING
      DETAIL = 'All answers are right meanwhile. Until it is done, comparing values that still have their old tag opens them: '
        'that is slow, and building an index on them, REINDEX and joins need the keys.',
      HINT = 'If this is interrupted, call it again: it goes on.';
    RAISE WARNING 'blind_index() gives other values from now on' USING
      HINT = 'Recompute the columns that hold blind indexes of this keyset.';
  END IF;
  CALL prism_crypt._rotate_all('retagging', limits, NULL, keyset, failed, tables);
  COMMIT;
  SET TRANSACTION ISOLATION LEVEL READ COMMITTED;
  -- This counts by itself: a table that failed may have no old tag.
  PERFORM prism_crypt._finish_index_key(keyset);
  COMMIT;
  PERFORM prism_crypt._raise_not_rotated(failed, tables);
END $$;
COMMENT ON PROCEDURE prism_crypt.rotate_index_key(
  text, text, integer, interval, double precision, bigint, boolean, boolean) IS
  'A new index key for a keyset: builds indexes on encrypted values anew, then tags its values anew in committed batches';
