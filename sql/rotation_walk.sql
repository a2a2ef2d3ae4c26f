-- The walk over one table. A procedure that commits can neither be SECURITY DEFINER nor have a SET clause, and triggers of
-- the table must run under the caller's own search_path. So nothing here relies on it: every name and every operator is
-- qualified.

CREATE TYPE prism_crypt._limits AS (
  batch_size          integer,
  pause               interval,
  max_rows_per_second double precision,
  max_replica_lag     bigint,
  max_batches         integer,
  fire_triggers       boolean
);
COMMENT ON TYPE prism_crypt._limits IS 'How fast a session may work. Internal';

CREATE TYPE prism_crypt._failure AS (
  code text, message text, detail text, hint text, context text, schema_name text, table_name text, column_name text,
  datatype_name text, constraint_name text
);
COMMENT ON TYPE prism_crypt._failure IS 'An error that is recorded before it is raised. Internal';

CREATE TYPE prism_crypt._run AS (
  batches      integer,
  rows_done    bigint,
  -- Batches that lock first, after one that could not get its rows at once.
  careful      integer,
  last_notice  double precision,
  -- Whether it waits while a job is paused, and long for other sessions. One that has other tables to do does not.
  patient      boolean,
  -- Null while there is more to do: stopped (max_batches), cancelled, over, left (to other sessions) or failed.
  outcome      text,
  failure      prism_crypt._failure
);
COMMENT ON TYPE prism_crypt._run IS 'What a session has done in this call. Internal';

-- What holds for one transaction of a walk. A batch that a crash takes back is done again, so its commit need not wait
-- for the disk; the last commit of the call does, and with it all before.
CREATE FUNCTION prism_crypt._begin_batch(walk prism_crypt._walk, fire_triggers boolean) RETURNS void
  LANGUAGE plpgsql AS $$
BEGIN
  PERFORM prism_crypt._bound_waits(), prism_crypt._require_same_table(walk);
  PERFORM pg_catalog.set_config('synchronous_commit', 'off', true);
  IF NOT fire_triggers THEN
    PERFORM pg_catalog.set_config('session_replication_role', 'replica', true);
  END IF;
END $$;
COMMENT ON FUNCTION prism_crypt._begin_batch(prism_crypt._walk, boolean) IS
  'Sets what holds for one batch. Internal';

-- The statements go by name. Another table may have taken it. And row-level security may have been switched on, which hides
-- rows; the setting row_security would be one for the table's triggers, too.
CREATE FUNCTION prism_crypt._require_same_table(walk prism_crypt._walk) RETURNS void
  LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
  IF to_regclass(walk.table_name) IS DISTINCT FROM walk.relation THEN
    RAISE undefined_table USING
      MESSAGE = format('relation "%s" does not exist', walk.table_name),
      DETAIL = format('It was dropped or renamed while job %s worked on it.', walk.job);
  ELSIF row_security_active(walk.relation::oid) THEN
    RAISE insufficient_privilege USING
      MESSAGE = format('row-level security may hide rows of "%s" from this role', walk.relation),
      HINT = 'Let the owner of the table rotate it, or a role with BYPASSRLS.';
  END IF;
END $$;
COMMENT ON FUNCTION prism_crypt._require_same_table(prism_crypt._walk) IS
  'Raises an error where a name is another table''s by now, or hides rows. Internal';

CREATE FUNCTION prism_crypt._end_deferral() RETURNS void
  LANGUAGE c VOLATILE AS 'MODULE_PATHNAME', '_end_deferral_wrapper';
COMMENT ON FUNCTION prism_crypt._end_deferral() IS 'Nothing can be deferred to the end of this transaction any more. Internal';

-- After the statements of a batch, whose locks keep the table as it is. What was deferred to the commit is done now: an error
-- is this table's as long as it is not the commit's.
CREATE FUNCTION prism_crypt._complete_batch(walk prism_crypt._walk) RETURNS void
  LANGUAGE plpgsql AS $$
BEGIN
  PERFORM prism_crypt._require_same_table(walk), prism_crypt._end_deferral();
  SET CONSTRAINTS ALL IMMEDIATE;
END $$;
COMMENT ON FUNCTION prism_crypt._complete_batch(prism_crypt._walk) IS
  'Makes sure that a batch saw all rows, and runs its deferred triggers. Internal';

-- The fast way: one statement, over a range, or one stripe of it, or places. Gives null where it did not get all of its
-- rows: one is locked, or can't be opened, or something else is wrong that the careful way finds again, and reports.
CREATE FUNCTION prism_crypt._update_at_once(
  walk prism_crypt._walk, from_place tid, to_place tid, stripe integer, places tid[]
) RETURNS integer
  -- Others that wait for rows of this batch must not wait long.
  LANGUAGE plpgsql VOLATILE SET lock_timeout = '10ms' AS $$
DECLARE
  rotated integer;
BEGIN
  IF places IS NOT NULL THEN
    EXECUTE walk.update_places USING places;
  ELSIF stripe IS NOT NULL THEN
    EXECUTE walk.update_stripe USING from_place, to_place, stripe;
  ELSE
    EXECUTE walk.update_range USING from_place, to_place;
  END IF;
  GET DIAGNOSTICS rotated = ROW_COUNT;
  RETURN rotated;
EXCEPTION WHEN OTHERS OR assert_failure THEN
  RETURN NULL;
END $$;
COMMENT ON FUNCTION prism_crypt._update_at_once(prism_crypt._walk, tid, tid, integer, tid[]) IS
  'Re-encrypts rows without locking them first. Internal';

-- The careful way: locks up to batch_size rows that open and that nobody else has locked, then updates them. So none is
-- waited for, and none can change between the choice and the update.
CREATE FUNCTION prism_crypt._update_locked(
  walk prism_crypt._walk, from_place tid, to_place tid, batch_size integer,
  OUT rotated integer, OUT next_place tid
) LANGUAGE plpgsql VOLATILE AS $$
DECLARE
  places pg_catalog.tid[];
BEGIN
  EXECUTE walk.lock_range INTO places USING from_place, to_place, batch_size;
  EXECUTE walk.update_locked USING places;
  GET DIAGNOSTICS rotated = ROW_COUNT;
  next_place := to_place;
  IF pg_catalog.cardinality(places) OPERATOR(pg_catalog.=) batch_size THEN
    -- A row that changed meanwhile was chosen at its new place, which may be far behind the others.
    next_place := coalesce(
      (SELECT pg_catalog.max(place) FROM pg_catalog.unnest(places) AS place
       WHERE place OPERATOR(pg_catalog.<) to_place), to_place);
  END IF;
EXCEPTION WHEN serialization_failure OR deadlock_detected THEN
  -- A row went to another partition while it was locked, say. The next pass finds it.
  rotated := 0;
  next_place := to_place;
END $$;
COMMENT ON FUNCTION prism_crypt._update_locked(prism_crypt._walk, tid, tid, integer) IS
  'Re-encrypts rows after locking them. Internal';

-- One batch between two places (both exclusive).
--
-- A range is gone over in stripes, all but the last of which take only every so manieth row of a block. What the first
-- stripe leaves behind is dead by the time that the second one comes, and makes room in the same blocks for it, which so
-- needs neither new blocks nor new index entries (HOT). The last stripe, or one that comes alone, takes all that is left;
-- while it searches it goes to the next row that is due, otherwise it takes the rows as they come.
CREATE FUNCTION prism_crypt._rotate_window(
  walk prism_crypt._walk, fire_triggers boolean, from_place tid, to_place tid, batch_size integer,
  stripe integer, alone boolean, INOUT careful integer, INOUT searching boolean,
  OUT rotated integer, OUT next_place tid, OUT failure prism_crypt._failure
) LANGUAGE plpgsql VOLATILE AS $$
DECLARE
  is_last boolean := stripe OPERATOR(pg_catalog.>=) (walk.stripes OPERATOR(pg_catalog.-) 1);
  -- Exact, where a block has more rows than a batch may have.
  small boolean := batch_size OPERATOR(pg_catalog.<) walk.rows_per_block;
  blocks bigint := GREATEST(1, pg_catalog.floor(
    batch_size OPERATOR(pg_catalog.*) CASE WHEN alone THEN 1 ELSE walk.stripes END
    OPERATOR(pg_catalog./) walk.rows_per_block));
  window_start pg_catalog.tid := from_place;
  window_end pg_catalog.tid;
  place pg_catalog.tid;
  locked pg_catalog.record;
BEGIN
  PERFORM prism_crypt._begin_batch(walk, fire_triggers);
  rotated := 0;
  IF searching THEN
    EXECUTE walk.find INTO place USING from_place, to_place;
    IF place IS NULL THEN
      PERFORM prism_crypt._require_same_table(walk);
      next_place := to_place;
      RETURN;
    END IF;
    window_start := GREATEST(from_place, prism_crypt._tid(prism_crypt._block(place)));
  END IF;
  window_end := LEAST(prism_crypt._tid(prism_crypt._block(window_start) OPERATOR(pg_catalog.+) blocks), to_place);
  next_place := window_end;
  IF careful OPERATOR(pg_catalog.=) 0 AND NOT small THEN
    rotated := prism_crypt._update_at_once(
      walk, window_start, window_end, CASE WHEN NOT is_last THEN stripe END, NULL);
    careful := CASE WHEN rotated IS NULL THEN 9 ELSE 0 END;
  END IF;
  IF careful OPERATOR(pg_catalog.>) 0 OR small THEN
    locked := prism_crypt._update_locked(walk, window_start, window_end, batch_size);
    rotated := locked.rotated;
    next_place := locked.next_place;
    careful := GREATEST(careful OPERATOR(pg_catalog.-) 1, 0);
  END IF;
  PERFORM prism_crypt._complete_batch(walk);
  IF is_last THEN
    IF rotated OPERATOR(pg_catalog.=) 0 AND NOT searching THEN
      -- Not known why. The search tells.
      next_place := from_place;
    END IF;
    -- Few: the next one is likely to be far.
    searching := rotated OPERATOR(pg_catalog.<=) (batch_size OPERATOR(pg_catalog./) 4);
  END IF;
EXCEPTION WHEN OTHERS OR assert_failure THEN
  GET STACKED DIAGNOSTICS
    failure.code = RETURNED_SQLSTATE, failure.message = MESSAGE_TEXT, failure.detail = PG_EXCEPTION_DETAIL,
    failure.hint = PG_EXCEPTION_HINT, failure.context = PG_EXCEPTION_CONTEXT, failure.schema_name = SCHEMA_NAME,
    failure.table_name = TABLE_NAME, failure.column_name = COLUMN_NAME, failure.constraint_name = CONSTRAINT_NAME,
    failure.datatype_name = PG_DATATYPE_NAME;
END $$;
COMMENT ON FUNCTION prism_crypt._rotate_window(
  prism_crypt._walk, boolean, tid, tid, integer, integer, boolean, integer, boolean) IS
  'Re-encrypts one batch. Internal';

-- One batch at places that an index gave.
CREATE FUNCTION prism_crypt._rotate_places(
  walk prism_crypt._walk, fire_triggers boolean, places tid[], batch_size integer,
  OUT rotated integer, OUT failure prism_crypt._failure
) LANGUAGE plpgsql VOLATILE AS $$
DECLARE
  block bigint;
  locked pg_catalog.record;
BEGIN
  PERFORM prism_crypt._begin_batch(walk, fire_triggers);
  rotated := prism_crypt._update_at_once(walk, NULL, NULL, NULL, places);
  IF rotated IS NULL THEN
    rotated := 0;
    FOR block IN SELECT DISTINCT prism_crypt._block(place) FROM pg_catalog.unnest(places) AS place LOOP
      locked := prism_crypt._update_locked(
        walk, prism_crypt._tid(block), prism_crypt._tid(block OPERATOR(pg_catalog.+) 1), batch_size);
      rotated := rotated OPERATOR(pg_catalog.+) locked.rotated;
    END LOOP;
  END IF;
  PERFORM prism_crypt._complete_batch(walk);
EXCEPTION WHEN OTHERS OR assert_failure THEN
  GET STACKED DIAGNOSTICS
    failure.code = RETURNED_SQLSTATE, failure.message = MESSAGE_TEXT, failure.detail = PG_EXCEPTION_DETAIL,
    failure.hint = PG_EXCEPTION_HINT, failure.context = PG_EXCEPTION_CONTEXT, failure.schema_name = SCHEMA_NAME,
    failure.table_name = TABLE_NAME, failure.column_name = COLUMN_NAME, failure.constraint_name = CONSTRAINT_NAME,
    failure.datatype_name = PG_DATATYPE_NAME;
END $$;
COMMENT ON FUNCTION prism_crypt._rotate_places(prism_crypt._walk, boolean, tid[], integer) IS
  'Re-encrypts one batch that an index found. Internal';

-- The furthest that a standby is behind, in bytes; 0 where none is connected.
CREATE FUNCTION prism_crypt._replica_lag() RETURNS bigint
  LANGUAGE sql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
  SELECT coalesce(max(pg_wal_lsn_diff(
    pg_current_wal_lsn(), coalesce(replay_lsn, flush_lsn, write_lsn, sent_lsn, '0/0'))), 0)::bigint
  FROM pg_stat_replication WHERE state <> 'backup'
$$;
COMMENT ON FUNCTION prism_crypt._replica_lag() IS 'How many bytes the last standby or subscriber is behind. Internal';

-- The time of day may be set back, or forth, while a rotation runs.
CREATE FUNCTION prism_crypt._uptime() RETURNS double precision
  LANGUAGE c VOLATILE AS 'MODULE_PATHNAME', '_uptime_wrapper';
COMMENT ON FUNCTION prism_crypt._uptime() IS 'Seconds since this session asked first, by a clock that is never set. Internal';

CREATE FUNCTION prism_crypt._sleep(seconds double precision) RETURNS void
  LANGUAGE c VOLATILE STRICT AS 'MODULE_PATHNAME', '_sleep_wrapper';
COMMENT ON FUNCTION prism_crypt._sleep(double precision) IS 'As pg_sleep(), by a clock that is never set. Internal';

-- Waits between two batches, in slices, each in a transaction of its own: none holds back VACUUM, and a job that is paused
-- or cancelled meanwhile is heard of. Without a batch it only waits while the job is paused.
CREATE PROCEDURE prism_crypt._wait_between_batches(
  job bigint, token uuid, patient boolean, limits prism_crypt._limits, batch_rows integer, batch_began double precision,
  INOUT state text
) LANGUAGE plpgsql AS $$
DECLARE
  resume_at double precision := GREATEST(
    prism_crypt._uptime() OPERATOR(pg_catalog.+) EXTRACT(epoch FROM coalesce(limits.pause, '0')),
    batch_began OPERATOR(pg_catalog.+) LEAST(coalesce(batch_rows OPERATOR(pg_catalog./) limits.max_rows_per_second, 0), 1e9));
  seconds double precision;
  said pg_catalog.text := '';
BEGIN
  IF batch_began IS NULL THEN
    resume_at := 0;
  END IF;
  LOOP
    seconds := resume_at OPERATOR(pg_catalog.-) prism_crypt._uptime();
    IF state OPERATOR(pg_catalog.=) ANY (ARRAY['cancelled', 'over']) THEN
      EXIT;
    ELSIF state OPERATOR(pg_catalog.=) 'paused' THEN
      EXIT WHEN NOT patient;
      IF said OPERATOR(pg_catalog.<>) 'paused' THEN
        RAISE NOTICE 'job % is paused', job USING HINT = 'prism_crypt.resume_job() lets it go on.';
        said := 'paused';
      END IF;
      seconds := 0.5;
    ELSIF seconds OPERATOR(pg_catalog.<=) 0 THEN
      EXIT WHEN limits.max_replica_lag IS NULL OR batch_began IS NULL
        OR prism_crypt._replica_lag() OPERATOR(pg_catalog.<=) limits.max_replica_lag;
      IF said OPERATOR(pg_catalog.<>) 'lag' THEN
        RAISE NOTICE 'job % waits for a standby that is more than % bytes behind', job, limits.max_replica_lag;
        said := 'lag';
      END IF;
      seconds := 0.05;
    END IF;
    COMMIT;
    PERFORM prism_crypt._sleep(LEAST(seconds, 0.5));
    COMMIT;
    state := prism_crypt._job_state(token);
  END LOOP;
  COMMIT;
END $$;
COMMENT ON PROCEDURE prism_crypt._wait_between_batches(
  bigint, uuid, boolean, prism_crypt._limits, integer, double precision, text) IS 'Waits as the limits ask for. Internal';
