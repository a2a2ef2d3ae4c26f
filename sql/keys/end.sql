-- The end of a key's life. What is destroyed here is gone, so these functions first prove that nothing needs it.

-- Other transactions of this database that began before a moment, and so may hold values that a census does not see.
CREATE FUNCTION prism_crypt._older_transactions(began_before timestamptz, OUT who text) RETURNS SETOF text
  LANGUAGE sql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
  SELECT format('process %s, since %s', a.pid, a.xact_start)
  FROM pg_stat_get_activity(NULL) AS a JOIN pg_database AS d ON d.oid = a.datid
  WHERE d.datname = current_database() AND a.pid <> pg_backend_pid() AND a.xact_start < $1
    AND a.backend_type <> 'autovacuum worker'
  UNION ALL
  -- It is not known when they began.
  SELECT format('prepared transaction %L', p.gid) FROM pg_prepared_xacts AS p WHERE p.database = current_database()
$$;
COMMENT ON FUNCTION prism_crypt._older_transactions(timestamptz) IS
  'Other transactions of this database that began before a moment. Internal';

-- Sessions of this database that are in a transaction now, by numbers that are never reused while the server runs. Every
-- transaction holds such a lock on itself from beginning to end.
CREATE FUNCTION prism_crypt._open_transactions() RETURNS text[]
  LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
  -- A session that connected meanwhile must not be missed.
  PERFORM pg_stat_clear_snapshot();
  RETURN ARRAY(
    SELECT format('%s %s', l.pid, l.virtualtransaction)
    FROM pg_locks AS l
    JOIN pg_stat_get_activity(NULL) AS a ON a.pid = l.pid
    JOIN pg_database AS d ON d.oid = a.datid
    WHERE l.locktype = 'virtualxid' AND l.granted AND l.mode = 'ExclusiveLock' AND l.virtualxid = l.virtualtransaction
      AND d.datname = current_database() AND l.pid <> pg_backend_pid() AND a.backend_type <> 'autovacuum worker');
END $$;
COMMENT ON FUNCTION prism_crypt._open_transactions() IS
  'Other transactions of this database that are running, by process and virtual transaction id. Internal';

-- Those of them that are still running, and prepared transactions, because nobody knows when these began.
CREATE FUNCTION prism_crypt._still_running(transactions text[]) RETURNS text
  LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  open CONSTANT text[] := prism_crypt._open_transactions();
BEGIN
  RETURN (
    SELECT string_agg(o.who, '; ')
    FROM (SELECT format('process %s, since %s', a.pid, a.xact_start) AS who
          FROM unnest(open) AS t (id) JOIN pg_stat_get_activity(NULL) AS a ON a.pid = split_part(t.id, ' ', 1)::integer
          WHERE t.id = ANY (transactions)
          UNION ALL
          SELECT format('prepared transaction %L', p.gid) FROM pg_prepared_xacts AS p WHERE p.database = current_database()) AS o);
END $$;
COMMENT ON FUNCTION prism_crypt._still_running(text[]) IS
  'Which of these transactions have not ended, and prepared ones, in words. Internal';

CREATE FUNCTION prism_crypt._require_no_ciphertext(version integer) RETURNS void
  LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
  places text;
  total bigint;
  hidden text;
BEGIN
  SELECT string_agg(format('%s %s: %s', c.kind, c.location, c.ciphertexts), '; ' ORDER BY c.ciphertexts DESC)
           FILTER (WHERE c.ciphertexts > 0),
         sum(c.ciphertexts),
         string_agg(format('%s: %s', c.location, c.remark), '; ')
           FILTER (WHERE c.ciphertexts IS NULL AND c.kind <> 'foreign table' AND c.remark <> 'follows its table')
    INTO places, total, hidden
  FROM prism_crypt.census() AS c
  WHERE c.key_version = _require_no_ciphertext.version OR c.ciphertexts IS NULL;
  IF total > 0 THEN
    RAISE object_in_use USING
      MESSAGE = format('key version %s is in use: %s ciphertexts', version, total),
      DETAIL = left(places, 2000),
      HINT = 'Re-encrypt them (rotate_batch(), prism_crypt.rotate_all()); set constants in catalogs again.';
  ELSIF hidden IS NOT NULL THEN
    RAISE object_in_use USING
      MESSAGE = format('key version %s may be in use in places that can''t be checked', version),
      DETAIL = left(hidden, 2000),
      HINT = 'A temporary table ends with its session (pg_terminate_backend), a lock with its transaction. force => true does not check.';
  END IF;
END $$;
COMMENT ON FUNCTION prism_crypt._require_no_ciphertext(integer) IS
  'Raises an error while there are values of a key version. Internal';

-- Nothing is left of a version when (1) a census finds nothing, (2) every transaction that was running then has ended, and (3)
-- another census finds nothing: every transaction that is running at (3) began after (1), and saw no value that it could have
-- copied.
CREATE FUNCTION prism_crypt._prove_unused(version integer) RETURNS void
  LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  transactions text[];
  began double precision;
  patience CONSTANT double precision := 5;
  others text;
BEGIN
  PERFORM prism_crypt._require_no_ciphertext(version);
  transactions := prism_crypt._open_transactions();
  began := prism_crypt._uptime();
  LOOP
    others := prism_crypt._still_running(transactions);
    EXIT WHEN others IS NULL;
    IF prism_crypt._uptime() > began + patience THEN
      RAISE object_in_use USING
        MESSAGE = format('transactions are running that may hold values of key version %s', version),
        DETAIL = left(others, 2000),
        HINT = 'Wait until they end, or end them.';
    END IF;
    PERFORM prism_crypt._sleep(0.1);
  END LOOP;
  PERFORM prism_crypt._require_no_ciphertext(version);
END $$;
COMMENT ON FUNCTION prism_crypt._prove_unused(integer) IS
  'Raises an error unless no value of a key version is left, and none can come. Internal';

CREATE FUNCTION prism_crypt._require_reason(what text, reason text, force boolean) RETURNS void
  LANGUAGE plpgsql IMMUTABLE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
  IF force IS NULL THEN
    RAISE null_value_not_allowed USING MESSAGE = 'force must not be null';
  ELSIF force AND coalesce(btrim(reason), '') = '' THEN
    RAISE invalid_parameter_value USING
      MESSAGE = format('%s by force needs a reason', what),
      HINT = 'Values become unreadable forever. Give a reason: reason => ''...''.';
  END IF;
END $$;
COMMENT ON FUNCTION prism_crypt._require_reason(text, text, boolean) IS
  'Raises an error if force is used without a reason. Internal';

-- Overwrites the wrapped key and says where copies of it stay.
CREATE FUNCTION prism_crypt._overwrite_key(version integer, reason text, event text) RETURNS void
  LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
  keyset_name text;
BEGIN
  PERFORM prism_crypt._forget_carried_keys();
  UPDATE prism_crypt.data_key AS k
  SET state = 'destroyed', wrapped = '', destroyed_at = clock_timestamp(), reason = _overwrite_key.reason,
      retired_at = coalesce(k.retired_at, clock_timestamp())
  WHERE k.version = _overwrite_key.version
  RETURNING k.keyset INTO keyset_name;
  PERFORM prism_crypt._audit(event, keyset_name, version, _overwrite_key.reason);
END $$;
COMMENT ON FUNCTION prism_crypt._overwrite_key(integer, text, text) IS 'Overwrites a wrapped key. Internal';

-- A btree index keeps values to navigate by, even values that are gone from its table. Those that it has to open (without a
-- search tag, or with an old one) can't be opened any more once their key is destroyed. A hash index keeps no values, but may
-- have been built with tags that only the key gives.
CREATE FUNCTION prism_crypt._indexes_to_rebuild(keyset text) RETURNS regclass[]
  LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
  SELECT coalesce(array_agg(DISTINCT i.index ORDER BY i.index), '{}')
  FROM prism_crypt._search_indexes() AS i
  JOIN pg_index AS x ON x.indexrelid = i.index
  CROSS JOIN LATERAL unnest(x.indkey::smallint[]) AS k (attnum)
  LEFT JOIN pg_attribute AS a ON a.attrelid = x.indrelid AND a.attnum = k.attnum AND k.attnum <> 0
  WHERE EXISTS (SELECT FROM prism_crypt.index_key AS g WHERE g.keyset = $1 AND g.generation > 1)
     OR coalesce(a.atttypmod, -1) & 256 = 0 OR coalesce(a.atttypmod, -1) < 0
$$;
COMMENT ON FUNCTION prism_crypt._indexes_to_rebuild(text) IS
  'Indexes that may have to open values of a keyset. Internal';

-- Locks the tables of these indexes until they are rebuilt, as far as others leave them; gives the rest.
CREATE FUNCTION prism_crypt._lock_for_loss(indexes regclass[]) RETURNS oid[]
  LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  relations CONSTANT oid[] := ARRAY(
    SELECT DISTINCT x.indrelid FROM pg_index AS x WHERE x.indexrelid = ANY (indexes::oid[]) ORDER BY x.indrelid);
  others CONSTANT oid[] := prism_crypt._unreadable_tables();
  left_out oid[];
BEGIN
  IF relations = '{}' THEN
    RETURN '{}';
  END IF;
  left_out := prism_crypt._take_tables(
    ARRAY(SELECT r FROM unnest(relations) AS r WHERE r <> ALL (others) ORDER BY r), least(prism_crypt._patience(10), 10));
  IF left_out <> '{}' THEN
    PERFORM prism_crypt._announce_to_transactions();
  END IF;
  RETURN left_out || others;
END $$;
COMMENT ON FUNCTION prism_crypt._lock_for_loss(regclass[]) IS
  'Locks the tables of indexes that may hold values of a key, as far as others leave them. Internal';

CREATE FUNCTION prism_crypt._tell_what_remains(what text) RETURNS void
  LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
  RAISE NOTICE '%', what USING
    DETAIL = 'Out of reach are copies of the wrapped key in dead rows of prism_crypt.data_key until VACUUM FULL, in WAL and its '
      'archives, and in dumps, backups and snapshots of disks; and old ciphertext in dead rows of tables.',
    HINT = 'VACUUM FULL prism_crypt.data_key, and let WAL and backups expire. Or rotate the master key and destroy the old one: '
      'then these copies are useless.';
END $$;
COMMENT ON FUNCTION prism_crypt._tell_what_remains(text) IS 'Says what a destruction does not reach. Internal';

CREATE FUNCTION prism_crypt.destroy_key(version integer, reason text DEFAULT NULL, force boolean DEFAULT false)
  RETURNS void
  LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
  own_timeout CONSTANT text := prism_crypt._limit_waits(10);
  indexes regclass[];
  left_out oid[];
BEGIN
  PERFORM prism_crypt._require_reason('destroying a key', destroy_key.reason, force),
    prism_crypt._require_read_committed('destroying a key');
  PERFORM prism_crypt._lock_old_key(
    destroy_key.version,
    'Call prism_crypt.rotate_key() first; or prism_crypt.destroy_keyset(), which ends the whole keyset.');
  IF NOT force THEN
    PERFORM prism_crypt._prove_unused(destroy_key.version);
  END IF;
  indexes := prism_crypt._indexes_to_rebuild(
    (SELECT k.keyset FROM prism_crypt.data_key AS k WHERE k.version = destroy_key.version));
  left_out := prism_crypt._lock_for_loss(indexes);
  PERFORM prism_crypt._overwrite_key(
    destroy_key.version, destroy_key.reason, CASE WHEN force THEN 'destroy_key by force' ELSE 'destroy_key' END);
  PERFORM prism_crypt._renew_by_key(indexes, left_out, 'loss');
  PERFORM prism_crypt._tell_what_remains(format('key version %s is destroyed', destroy_key.version));
  PERFORM set_config('lock_timeout', own_timeout, true);
END $$;
COMMENT ON FUNCTION prism_crypt.destroy_key(integer, text, boolean) IS
  'Overwrites a key that is not active and has no values left; by force also while it has, which makes them unreadable';

CREATE FUNCTION prism_crypt.destroy_keyset(keyset text, reason text DEFAULT NULL, force boolean DEFAULT false)
  RETURNS integer
  LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
  own_timeout CONSTANT text := prism_crypt._limit_waits(10);
  versions integer[];
  values_lost bigint;
  indexes regclass[];
  left_out oid[];
  version integer;
BEGIN
  IF destroy_keyset.keyset IS NULL THEN
    RAISE null_value_not_allowed USING MESSAGE = 'keyset must not be null';
  END IF;
  PERFORM prism_crypt._require_reason('destroying a keyset', destroy_keyset.reason, force),
    prism_crypt._require_read_committed('destroying a keyset');
  PERFORM prism_crypt._lock_key_tables();
  -- As in rotate_key(): no key may be added meanwhile.
  PERFORM 1 FROM prism_crypt.keyset AS k WHERE k.name = destroy_keyset.keyset FOR UPDATE;
  PERFORM prism_crypt._require_keyset(destroy_keyset.keyset, 'prism_crypt.key_status lists them.');
  SELECT coalesce(array_agg(k.version ORDER BY k.version), '{}') INTO versions
  FROM prism_crypt.data_key AS k WHERE k.keyset = destroy_keyset.keyset AND k.state <> 'destroyed';
  IF versions = '{}' THEN
    RAISE object_not_in_prerequisite_state USING MESSAGE = format('keyset "%s" has no key', destroy_keyset.keyset);
  ELSIF NOT force THEN
    SELECT coalesce(sum(c.ciphertexts), 0) INTO values_lost FROM prism_crypt.census() AS c
    WHERE c.key_version = ANY (versions);
    RAISE object_in_use USING
      MESSAGE = format('destroying keyset "%s" would make its values unreadable forever', destroy_keyset.keyset),
      DETAIL = format('Key versions: %s. Ciphertexts: %s.', array_to_string(versions, ', '), values_lost),
      HINT = 'If that is what you want: force => true, reason => ''...''.';
  END IF;
  indexes := prism_crypt._indexes_to_rebuild(destroy_keyset.keyset);
  left_out := prism_crypt._lock_for_loss(indexes);
  FOREACH version IN ARRAY versions LOOP
    PERFORM prism_crypt._overwrite_key(version, destroy_keyset.reason, 'destroy_keyset');
  END LOOP;
  -- Without the index key, nobody can test guesses of plaintexts against search tags.
  PERFORM prism_crypt._overwrite_index_key(destroy_keyset.keyset);
  PERFORM prism_crypt._renew_by_key(indexes, left_out, 'loss');
  PERFORM prism_crypt._tell_what_remains(
    format('keyset "%s" is destroyed: key versions %s', destroy_keyset.keyset, array_to_string(versions, ', ')));
  PERFORM set_config('lock_timeout', own_timeout, true);
  RETURN cardinality(versions);
END $$;
COMMENT ON FUNCTION prism_crypt.destroy_keyset(text, text, boolean) IS
  'Crypto-shredding: overwrites all keys of a keyset, which makes its values unreadable at once; gives their number';
