-- Functions on keys have to lock tables of others. They wait for whoever uses a table, but not for ever, and nobody queues
-- behind such a wait for long.

CREATE FUNCTION prism_crypt._lock_relation(relation oid, exclusively boolean) RETURNS void
  LANGUAGE c VOLATILE STRICT AS 'MODULE_PATHNAME', '_lock_relation_wrapper';
COMMENT ON FUNCTION prism_crypt._lock_relation(oid, boolean) IS
  'Locks a relation of any kind, in ACCESS EXCLUSIVE or ROW EXCLUSIVE mode. Internal';

-- Everybody locks in the same order.
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

CREATE FUNCTION prism_crypt._try_to_lock_relation(relation oid, exclusively boolean) RETURNS boolean
  LANGUAGE c VOLATILE STRICT AS 'MODULE_PATHNAME', '_try_to_lock_relation_wrapper';
COMMENT ON FUNCTION prism_crypt._try_to_lock_relation(oid, boolean) IS
  'Locks a relation of any kind as _lock_relation() does, or gives false at once. Internal';

-- CREATE INDEX CONCURRENTLY and REINDEX CONCURRENTLY hold a lock that conflicts with ours, and wait for all older transactions.
-- So if a transaction waits for that lock, each waits for the other, and one of them ends with a deadlock.
CREATE FUNCTION prism_crypt._concurrent_builds() RETURNS text
  LANGUAGE sql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
  SELECT string_agg(format('process %s, %s on %s', p.pid, p.command, p.relid::regclass), '; ')
  FROM pg_stat_progress_create_index AS p
  WHERE p.datname = current_database() AND p.command LIKE '%CONCURRENTLY' AND p.pid <> pg_backend_pid()
    AND p.relid IN (SELECT relation FROM prism_crypt._encrypted_columns()
                    UNION ALL SELECT relation FROM prism_crypt._search_indexes())
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
  'Raises an error if waiting for a lock would be a deadlock. Internal';

-- Who is in the way: other transactions with locks on these tables.
CREATE FUNCTION prism_crypt._users_of_tables(relations oid[]) RETURNS text
  LANGUAGE sql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
  SELECT string_agg(u.who, '; ' ORDER BY u.who)
  FROM (SELECT format('%s: %s', prism_crypt._qualified_name(l.relation::regclass),
                      string_agg(DISTINCT coalesce('process ' || l.pid, 'a prepared transaction'), ', ')) AS who
        FROM pg_locks AS l
        WHERE l.locktype = 'relation' AND l.granted AND l.pid IS DISTINCT FROM pg_backend_pid()
          AND l.database = (SELECT d.oid FROM pg_database AS d WHERE d.datname = current_database())
          AND l.relation = ANY (relations)
        GROUP BY l.relation
        ORDER BY l.relation LIMIT 50) AS u
$$;
COMMENT ON FUNCTION prism_crypt._users_of_tables(oid[]) IS 'Processes that have locks on tables, in words. Internal';

-- Locks those of these tables that it can get within so many seconds. Between two tries it releases everything, so that others
-- can go on.
CREATE FUNCTION prism_crypt._take_tables(relations oid[], seconds double precision, OUT left_out oid[])
  LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  own_timeout CONSTANT text := current_setting('lock_timeout');
  began CONSTANT double precision := prism_crypt._uptime();
  rest double precision;
  busy oid[];
  relation oid;
BEGIN
  LOOP
    BEGIN
      busy := '{}';
      FOREACH relation IN ARRAY relations LOOP
        IF NOT prism_crypt._try_to_lock_relation(relation, true) THEN
          busy := array_append(busy, relation);
        END IF;
      END LOOP;
      left_out := '{}';
      FOREACH relation IN ARRAY busy LOOP
        rest := seconds - (prism_crypt._uptime() - began);
        BEGIN
          IF rest <= 0 THEN
            RAISE lock_not_available;
          END IF;
          -- This is shorter than deadlock_timeout.
          PERFORM set_config('lock_timeout', ceil(least(rest, 0.4) * 1000)::bigint || 'ms', true),
            prism_crypt._lock_relation(relation, true);
        EXCEPTION WHEN lock_not_available OR deadlock_detected THEN
          left_out := array_append(left_out, relation);
        END;
        EXIT WHEN left_out <> '{}' AND rest > 0;
      END LOOP;
      IF left_out = '{}' OR rest <= 0 THEN
        PERFORM set_config('lock_timeout', own_timeout, true);
        RETURN;
      END IF;
      RAISE SQLSTATE 'PC001';
    EXCEPTION
      WHEN SQLSTATE 'PC001' THEN
        PERFORM prism_crypt._sleep(least(rest, 0.5));
      WHEN out_of_memory THEN
        -- More tables than the server has room for in its table of locks.
        left_out := relations;
        RETURN;
    END;
  END LOOP;
END $$;
COMMENT ON FUNCTION prism_crypt._take_tables(oid[], double precision) IS
  'Locks as many tables as it can get within so many seconds; gives the rest. Internal';

-- Every table whose values may need index keys, except temporary tables of other sessions.
CREATE FUNCTION prism_crypt._searched_tables() RETURNS oid[]
  LANGUAGE sql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
  SELECT coalesce(array_agg(c.relation ORDER BY c.relation), '{}')
  FROM (SELECT relation FROM prism_crypt._encrypted_columns() WHERE relkind <> 'f'
        UNION SELECT relation FROM prism_crypt._search_indexes()) AS c
  JOIN pg_class AS t ON t.oid = c.relation
  WHERE t.relpersistence <> 't' OR t.relnamespace = pg_my_temp_schema()
$$;
COMMENT ON FUNCTION prism_crypt._searched_tables() IS
  'Tables with encrypted columns, or an index on encrypted values, in the order to lock them in. Internal';

CREATE FUNCTION prism_crypt._unreadable_tables() RETURNS oid[]
  LANGUAGE sql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
  SELECT coalesce(array_agg(DISTINCT t.oid), '{}')
  FROM prism_crypt._search_indexes() AS c JOIN pg_class AS t ON t.oid = c.relation
  WHERE t.relpersistence = 't' AND t.relnamespace <> pg_my_temp_schema()
$$;
COMMENT ON FUNCTION prism_crypt._unreadable_tables() IS
  'Temporary tables of other sessions with indexes on encrypted values. Internal';

CREATE FUNCTION prism_crypt._check_index_key_can_change() RETURNS void
  LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  partitioned text;
BEGIN
  WITH types AS MATERIALIZED (SELECT type FROM prism_crypt._encrypted_types()),
  columns AS MATERIALIZED (SELECT relation FROM prism_crypt._encrypted_columns()),
  keys AS (
    SELECT p.partrelid, o.opcintype, a.atttypid, k.attnum
    FROM pg_partitioned_table AS p
    CROSS JOIN LATERAL unnest(p.partclass, p.partattrs::smallint[]) AS k (opclass, attnum)
    JOIN pg_opclass AS o ON o.oid = k.opclass
    LEFT JOIN pg_attribute AS a ON a.attrelid = p.partrelid AND a.attnum = k.attnum
  )
  SELECT string_agg(DISTINCT format('%s (of %s)', p.partrelid::regclass, c.relowner::regrole), ', ') INTO partitioned
  FROM keys AS p JOIN pg_class AS c ON c.oid = p.partrelid
  WHERE p.opcintype IN (SELECT type FROM types) OR p.atttypid IN (SELECT type FROM types)
     -- An expression that makes an array, a row or a range may make it from encrypted values.
     OR p.attnum = 0
        AND p.opcintype IN ('anyarray'::regtype, 'record'::regtype, 'anyrange'::regtype, 'anymultirange'::regtype)
        AND p.partrelid IN (SELECT relation FROM columns);
  IF partitioned IS NOT NULL THEN
    RAISE object_not_in_prerequisite_state USING
      MESSAGE = 'the index key can''t change while tables are partitioned by encrypted values',
      DETAIL = format('Rows would be in the wrong partitions of: %s.', partitioned),
      HINT = 'Partition them by something else.';
  END IF;
END $$;
COMMENT ON FUNCTION prism_crypt._check_index_key_can_change() IS
  'Raises an error if something that can''t be rebuilt depends on the index key. Internal';

-- Locks all searched tables for a new index key, or gives what it would have to wait for. It waits for so many seconds. If that
-- fails, it holds nothing afterwards, and the caller ends its transaction, so that others can go on. The first wait is shorter
-- than deadlock_timeout. Others queue behind a session that waits here, so the caller needs all the rights that
-- rotate_index_key() needs, and can't wait for as long as it likes.
CREATE FUNCTION prism_crypt._try_to_lock_searched_tables(
  keyset text, seconds double precision, is_last boolean, force boolean, note bigint, OUT obstacle text
) LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
  role CONSTANT oid := prism_crypt._caller(note);
  patience CONSTANT double precision := greatest(least(seconds, 10), 0.01);
  own_timeout CONSTANT text := current_setting('lock_timeout');
  began double precision;
  relations oid[];
  relation oid;
BEGIN
  IF NOT has_function_privilege(
    role, 'prism_crypt.rotate_all(integer, interval, double precision, bigint, integer, integer, pg_catalog.text, boolean)', 'EXECUTE') THEN
    RAISE insufficient_privilege USING
      MESSAGE = 'permission denied to rotate', HINT = 'rotate_index_key() needs access to rotate, beside key_admin.';
  END IF;
  PERFORM prism_crypt._check_index_key_can_change();
  obstacle := prism_crypt._concurrent_builds();
  IF obstacle IS NOT NULL THEN
    IF is_last AND force THEN
      obstacle := NULL;
    ELSIF is_last THEN
      PERFORM prism_crypt._require_no_concurrent_build();
    END IF;
    RETURN;
  END IF;
  relations := prism_crypt._searched_tables();
  began := prism_crypt._uptime();
  BEGIN
    PERFORM set_config('lock_timeout', ceil(patience * 1000)::bigint || 'ms', true);
    PERFORM 1 FROM prism_crypt.keyset AS k WHERE k.name = _try_to_lock_searched_tables.keyset FOR UPDATE;
    FOREACH relation IN ARRAY relations LOOP
      IF NOT prism_crypt._try_to_lock_relation(relation, true) THEN
        PERFORM set_config(
          'lock_timeout', ceil(greatest(patience - (prism_crypt._uptime() - began), 0.01) * 1000)::bigint || 'ms', true);
        PERFORM prism_crypt._lock_relation(relation, true);
      END IF;
    END LOOP;
    PERFORM set_config('lock_timeout', own_timeout, true);
  EXCEPTION WHEN lock_not_available OR deadlock_detected OR out_of_memory THEN
    IF SQLSTATE = '53200' THEN
      -- There are more tables than the server's lock table has room for. Waiting does not help.
      IF force THEN
        RETURN;
      END IF;
      RAISE out_of_memory USING
        MESSAGE = 'tables with encrypted columns are too many to lock at once',
        DETAIL = format('There are %s, and a new index key needs them all.', cardinality(relations)),
        HINT = 'Raise max_locks_per_transaction. force => true goes on without their locks, and marks their indexes invalid.';
    ELSIF is_last AND force THEN
      RETURN;
    ELSIF is_last THEN
      RAISE lock_not_available USING
        MESSAGE = 'tables with encrypted columns are in use',
        DETAIL = coalesce(prism_crypt._users_of_tables(relations), 'Another change of this keyset is under way.'),
        HINT = 'Wait until these transactions end, or end them. force => true goes on without their tables.';
    END IF;
    obstacle := 'locks of other sessions';
  END;
END $$;
COMMENT ON FUNCTION prism_crypt._try_to_lock_searched_tables(text, double precision, boolean, boolean, bigint) IS
  'Locks every table that has encrypted columns, or says what is in the way. Internal';

-- At the end the tables are locked, in the open transaction. By force, they may instead have been waited for long enough to be
-- left out.
CREATE PROCEDURE prism_crypt._lock_for_index_key(keyset text, force boolean) LANGUAGE plpgsql AS $$
DECLARE
  -- The caller's lock_timeout; without one it is ten minutes, or one minute by force.
  allowed double precision := prism_crypt._patience(CASE WHEN force THEN 60 ELSE 600 END);
  began double precision := prism_crypt._uptime();
  rest double precision;
  patience double precision := 0.4;
  said boolean := false;
  obstacle pg_catalog.text;
BEGIN
  LOOP
    rest := GREATEST(allowed OPERATOR(pg_catalog.-) (prism_crypt._uptime() OPERATOR(pg_catalog.-) began), 0.01);
    obstacle := prism_crypt._try_to_lock_searched_tables(
      keyset, LEAST(patience, rest), rest OPERATOR(pg_catalog.<=) patience, force, prism_crypt._note_caller());
    EXIT WHEN obstacle IS NULL;
    COMMIT;
    SET TRANSACTION ISOLATION LEVEL READ COMMITTED;
    IF NOT said THEN
      RAISE NOTICE 'waiting for tables with encrypted columns: %', obstacle;
      said := true;
    END IF;
    PERFORM prism_crypt._sleep(LEAST(0.2, rest));
    COMMIT;
    SET TRANSACTION ISOLATION LEVEL READ COMMITTED;
    -- It waits longer the next time, or it might never get its turn. If an index is being built, it did not wait at all.
    patience := CASE WHEN obstacle OPERATOR(pg_catalog.=) 'locks of other sessions' THEN 10 ELSE 0.4 END;
  END LOOP;
END $$;
COMMENT ON PROCEDURE prism_crypt._lock_for_index_key(text, boolean) IS
  'Waits until it has locked every table with encrypted columns, without other sessions queuing for long. Internal';
