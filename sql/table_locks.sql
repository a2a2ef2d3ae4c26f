-- CREATE INDEX CONCURRENTLY, and REINDEX likewise, hold a lock that nobody else gets past, and wait for every transaction
-- that is older. So a transaction that waits for that lock waits for ever, and one of both ends with a deadlock.
CREATE FUNCTION prism_crypt._concurrent_builds() RETURNS text
  LANGUAGE sql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
  SELECT string_agg(format('process %s, %s on %s', p.pid, p.command, p.relid::regclass), '; ')
  FROM pg_stat_progress_create_index AS p
  WHERE p.datname = current_database() AND p.command LIKE '%CONCURRENTLY' AND p.pid <> pg_backend_pid()
    AND (EXISTS (SELECT FROM prism_crypt._encrypted_columns() AS c WHERE c.relation = p.relid)
         OR EXISTS (SELECT FROM prism_crypt._search_indexes() AS i WHERE i.relation = p.relid))
$$;
COMMENT ON FUNCTION prism_crypt._concurrent_builds() IS
  'Indexes that are being built concurrently on tables with encrypted values. Internal';

CREATE FUNCTION prism_crypt._require_no_concurrent_build() RETURNS void
  LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  builds CONSTANT text := prism_crypt._concurrent_builds();
BEGIN
  IF builds IS NOT NULL THEN
    RAISE lock_not_available USING
      MESSAGE = 'indexes are being built concurrently on tables with encrypted values',
      DETAIL = builds, HINT = 'Try again when they are ready.';
  END IF;
END $$;
COMMENT ON FUNCTION prism_crypt._require_no_concurrent_build() IS
  'Raises an error where waiting for a lock would be a deadlock. Internal';

-- Locks all searched tables for a new index key, or gives what it would have to wait for. It waits for so many seconds, and
-- holds nothing afterwards if that was in vain: the caller ends its transaction, so that others get on. The first time is
-- shorter than deadlock_timeout.
CREATE FUNCTION prism_crypt._try_to_lock_searched_tables(
  keyset text, seconds double precision, is_last boolean, OUT obstacle text
) LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
  own_timeout CONSTANT text := current_setting('lock_timeout');
BEGIN
  PERFORM 1 FROM prism_crypt.keyset AS k WHERE k.name = _try_to_lock_searched_tables.keyset FOR UPDATE;
  PERFORM prism_crypt._check_index_key_can_change();
  obstacle := prism_crypt._concurrent_builds();
  IF obstacle IS NOT NULL THEN
    IF is_last THEN
      PERFORM prism_crypt._require_no_concurrent_build();
    END IF;
    RETURN;
  END IF;
  BEGIN
    PERFORM set_config('lock_timeout', ceil(seconds * 1000)::bigint || 'ms', true);
    PERFORM prism_crypt._lock_searched_tables(true);
    PERFORM set_config('lock_timeout', own_timeout, true);
  EXCEPTION WHEN lock_not_available OR deadlock_detected THEN
    IF is_last THEN
      RAISE;
    END IF;
    obstacle := 'locks of other sessions';
  END;
END $$;
COMMENT ON FUNCTION prism_crypt._try_to_lock_searched_tables(text, double precision, boolean) IS
  'Locks every table that has encrypted columns, or says what is in the way. Internal';

-- In the end the tables are locked, in the transaction that is open.
CREATE PROCEDURE prism_crypt._lock_for_index_key(keyset text) LANGUAGE plpgsql AS $$
DECLARE
  -- What the caller allows for a lock; 0 is for ever.
  allowed double precision := (SELECT s.setting FROM pg_catalog.pg_settings AS s
                               WHERE s.name OPERATOR(pg_catalog.=) 'lock_timeout')::pg_catalog.float8 OPERATOR(pg_catalog./) 1000;
  began double precision := prism_crypt._uptime();
  rest double precision;
  patience double precision := 0.4;
  said boolean := false;
  obstacle text;
BEGIN
  LOOP
    rest := CASE WHEN allowed OPERATOR(pg_catalog.>) 0
      THEN GREATEST(allowed OPERATOR(pg_catalog.-) (prism_crypt._uptime() OPERATOR(pg_catalog.-) began), 0.01) END;
    obstacle := prism_crypt._try_to_lock_searched_tables(
      keyset, LEAST(patience, rest), coalesce(rest OPERATOR(pg_catalog.<=) patience, false));
    EXIT WHEN obstacle IS NULL;
    COMMIT;
    IF NOT said THEN
      RAISE NOTICE 'waiting for tables with encrypted columns: %', obstacle;
      said := true;
    END IF;
    PERFORM prism_crypt._sleep(LEAST(0.2, rest));
    COMMIT;
    -- Longer each time, or it might never be its turn.
    patience := LEAST(GREATEST(patience OPERATOR(pg_catalog.*) 2, 10), 86400);
  END LOOP;
END $$;
COMMENT ON PROCEDURE prism_crypt._lock_for_index_key(text) IS
  'Waits until every table that has encrypted columns is locked, and no other session for it. Internal';
