-- One table of a rotation, from its first range to the report. See rotation_walk.sql on why every name is qualified.

-- Says how far it is, at most every five seconds.
CREATE FUNCTION prism_crypt._notice_progress(walk prism_crypt._walk, run prism_crypt._run) RETURNS timestamptz
  LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
  IF clock_timestamp() - run.last_notice > '5 s' THEN
    RAISE NOTICE '%: rows re-encrypted so far: % (job %)', walk.target, run.rows_done, walk.job
      USING HINT = 'prism_crypt.progress shows more.';
    RETURN clock_timestamp();
  END IF;
  RETURN run.last_notice;
END $$;
COMMENT ON FUNCTION prism_crypt._notice_progress(prism_crypt._walk, prism_crypt._run) IS
  'Says how far a rotation is. Internal';

-- Rows of an index that is on the key version, instead of a walk, where these are few.
CREATE PROCEDURE prism_crypt._rotate_by_index(
  walk prism_crypt._walk, limits prism_crypt._limits, INOUT run prism_crypt._run, INOUT done boolean
) LANGUAGE plpgsql AS $$
DECLARE
  -- More than one row in twenty: then most blocks have one, and walking over them is cheaper.
  most integer := LEAST(GREATEST(1000, (SELECT reltuples FROM pg_catalog.pg_class
    WHERE oid OPERATOR(pg_catalog.=) walk.relation) OPERATOR(pg_catalog./) 20), 1000000);
  max_fruitless CONSTANT integer := 10;
  places pg_catalog.tid[];
  batch record;
  batch_began timestamptz;
  state text;
  first integer;
  rotated_in_pass bigint;
  fruitless integer := 0;
  rest record;
BEGIN
  done := false;
  LOOP
    COMMIT;
    SET TRANSACTION ISOLATION LEVEL READ COMMITTED;
    EXECUTE walk.find_by_index INTO places USING most;
    EXIT WHEN places IS NULL OR pg_catalog.cardinality(places) OPERATOR(pg_catalog.=) most
      OR fruitless OPERATOR(pg_catalog.>) max_fruitless;
    rotated_in_pass := 0;
    first := 1;
    WHILE first OPERATOR(pg_catalog.<=) pg_catalog.cardinality(places) LOOP
      COMMIT;
      SET TRANSACTION ISOLATION LEVEL READ COMMITTED;
      batch_began := pg_catalog.clock_timestamp();
      PERFORM prism_crypt._begin_batch(limits);
      batch := prism_crypt._rotate_places(
        walk, places[first:first OPERATOR(pg_catalog.+) limits.batch_size OPERATOR(pg_catalog.-) 1], limits.batch_size);
      state := prism_crypt._count_rows(walk.job, walk.relation, coalesce(batch.rotated, 0),
        EXTRACT(epoch FROM pg_catalog.clock_timestamp() OPERATOR(pg_catalog.-) batch_began));
      COMMIT;
      rotated_in_pass := rotated_in_pass OPERATOR(pg_catalog.+) coalesce(batch.rotated, 0);
      run.rows_done := run.rows_done OPERATOR(pg_catalog.+) coalesce(batch.rotated, 0);
      run.batches := run.batches OPERATOR(pg_catalog.+) 1;
      IF (batch.failure).code IS NOT NULL THEN
        run.outcome := 'failed';
        run.failure := batch.failure;
        RETURN;
      ELSIF run.batches OPERATOR(pg_catalog.>=) limits.max_batches THEN
        run.outcome := 'stopped';
        RETURN;
      END IF;
      CALL prism_crypt._wait_between_batches(walk, limits, batch.rotated, batch_began, state);
      IF state OPERATOR(pg_catalog.=) 'cancelled' THEN
        run.outcome := 'cancelled';
        RETURN;
      END IF;
      run.last_notice := prism_crypt._notice_progress(walk, run);
      first := first OPERATOR(pg_catalog.+) limits.batch_size;
    END LOOP;
    IF rotated_in_pass OPERATOR(pg_catalog.=) 0 THEN
      fruitless := fruitless OPERATOR(pg_catalog.+) 1;
      COMMIT;
      PERFORM pg_catalog.pg_sleep(0.5);
    END IF;
  END LOOP;
  done := places IS NULL OR fruitless OPERATOR(pg_catalog.>) max_fruitless;
  IF done THEN
    CALL prism_crypt._finish_table(
      walk, run, fruitless OPERATOR(pg_catalog.>) 0 OR prism_crypt._has_unreadable_versions());
  END IF;
END $$;
COMMENT ON PROCEDURE prism_crypt._rotate_by_index(
  prism_crypt._walk, prism_crypt._limits, prism_crypt._run, boolean) IS 'Rotates what an index finds. Internal';

-- Counts what is left, if anything may be, and reports.
CREATE PROCEDURE prism_crypt._finish_table(walk prism_crypt._walk, run prism_crypt._run, has_rest boolean)
  LANGUAGE plpgsql AS $$
DECLARE
  rest record;
BEGIN
  SELECT 0::bigint AS left_over, 0::bigint AS left_unreadable, NULL::text AS reasons INTO rest;
  IF has_rest THEN
    EXECUTE walk.rest INTO rest.left_over, rest.left_unreadable, rest.reasons;
  END IF;
  PERFORM prism_crypt._finish_part(walk.job, walk.relation, rest.left_over, rest.left_unreadable);
  COMMIT;
  RAISE NOTICE '%: rows re-encrypted: %', walk.target, run.rows_done;
  IF rest.left_unreadable OPERATOR(pg_catalog.>) 0 THEN
    RAISE WARNING '%: values that can''t be read, left as they are: %', walk.target, rest.left_unreadable
      USING DETAIL = rest.reasons;
  END IF;
  IF rest.left_over OPERATOR(pg_catalog.>) 0 THEN
    RAISE WARNING '%: values that stayed as they were, locked by others or kept by a trigger: %',
      walk.target, rest.left_over USING HINT = 'Call it again later.';
  END IF;
END $$;
COMMENT ON PROCEDURE prism_crypt._finish_table(prism_crypt._walk, prism_crypt._run, boolean) IS
  'Ends one table of a rotation. Internal';

-- What holds for one transaction. A batch that a crash takes back is done again, so its commit need not wait for the disk;
-- the last commit of the call does, and with it all before.
CREATE FUNCTION prism_crypt._begin_batch(limits prism_crypt._limits) RETURNS void
  LANGUAGE plpgsql AS $$
BEGIN
  PERFORM pg_catalog.set_config('synchronous_commit', 'off', true);
  IF NOT limits.fire_triggers THEN
    PERFORM pg_catalog.set_config('session_replication_role', 'replica', true);
  END IF;
END $$;
COMMENT ON FUNCTION prism_crypt._begin_batch(prism_crypt._limits) IS 'Sets what holds for one batch. Internal';

CREATE PROCEDURE prism_crypt._rotate_table(
  walk prism_crypt._walk, limits prism_crypt._limits, INOUT run prism_crypt._run
) LANGUAGE plpgsql AS $$
DECLARE
  claim record;
  batch record;
  batch_began timestamptz;
  state text;
  place pg_catalog.tid;
  range_end pg_catalog.tid;
  searching boolean := false;
  stripe integer := 0;
  done boolean := false;
BEGIN
  run.rows_done := 0;
  run.careful := 0;
  run.last_notice := pg_catalog.clock_timestamp();
  state := prism_crypt._job_state(walk.job);
  CALL prism_crypt._wait_between_batches(walk, limits, 0, run.last_notice, state);
  IF walk.find_by_index IS NOT NULL THEN
    CALL prism_crypt._rotate_by_index(walk, limits, run, done);
    IF done OR run.outcome IS NOT NULL THEN
      RETURN;
    END IF;
  END IF;
  LOOP
    COMMIT;
    SET TRANSACTION ISOLATION LEVEL READ COMMITTED;
    PERFORM prism_crypt._begin_batch(limits);
    claim := prism_crypt._claim_range(walk.job, walk.relation);
    COMMIT;
    CASE claim.action
      WHEN 'range' THEN
        NULL;
      WHEN 'done' THEN
        CALL prism_crypt._finish_table(walk, run, claim.has_rest);
        RETURN;
      WHEN 'cancelled' THEN
        run.outcome := 'cancelled';
        RETURN;
      ELSE
        -- wait, retry, paused
        state := claim.action;
        PERFORM pg_catalog.pg_sleep(CASE claim.action WHEN 'retry' THEN 0.5 ELSE 0.05 END);
        CALL prism_crypt._wait_between_batches(walk, limits, 0, pg_catalog.clock_timestamp(), state);
        CONTINUE;
    END CASE;
    place := claim.place;
    stripe := 0;
    range_end := prism_crypt._tid(claim.end_block);
    WHILE place OPERATOR(pg_catalog.<) range_end LOOP
      COMMIT;
      -- The server's default may be a level at which a concurrent change is an error.
      SET TRANSACTION ISOLATION LEVEL READ COMMITTED;
      batch_began := pg_catalog.clock_timestamp();
      PERFORM prism_crypt._begin_batch(limits);
      batch := prism_crypt._rotate_window(walk, place, range_end, limits.batch_size, run.careful, searching, stripe);
      IF (batch.failure).code IS NOT NULL THEN
        run.outcome := 'failed';
        run.failure := batch.failure;
        ROLLBACK;
        RETURN;
      END IF;
      place := batch.next_place;
      searching := batch.searching;
      stripe := batch.stripe;
      run.careful := batch.careful;
      state := prism_crypt._advance_range(claim.range_id, place, batch.rotated,
        EXTRACT(epoch FROM pg_catalog.clock_timestamp() OPERATOR(pg_catalog.-) batch_began),
        batch.skipped, batch.unreadable);
      COMMIT;
      run.rows_done := run.rows_done OPERATOR(pg_catalog.+) batch.rotated;
      IF batch.rotated OPERATOR(pg_catalog.>) 0 THEN
        run.batches := run.batches OPERATOR(pg_catalog.+) 1;
        IF run.batches OPERATOR(pg_catalog.>=) limits.max_batches THEN
          run.outcome := 'stopped';
          RETURN;
        END IF;
        IF limits.pause IS NOT NULL OR limits.max_rows_per_second IS NOT NULL OR limits.max_replica_lag IS NOT NULL THEN
          CALL prism_crypt._wait_between_batches(walk, limits, batch.rotated, batch_began, state);
        END IF;
      END IF;
      IF state OPERATOR(pg_catalog.=) 'paused' THEN
        CALL prism_crypt._wait_between_batches(walk, limits, 0, batch_began, state);
      END IF;
      IF state OPERATOR(pg_catalog.=) 'cancelled' THEN
        run.outcome := 'cancelled';
        RETURN;
      END IF;
      run.last_notice := prism_crypt._notice_progress(walk, run);
    END LOOP;
  END LOOP;
END $$;
COMMENT ON PROCEDURE prism_crypt._rotate_table(prism_crypt._walk, prism_crypt._limits, prism_crypt._run) IS
  'Re-encrypts one table. Internal: call rotate_batch()';
