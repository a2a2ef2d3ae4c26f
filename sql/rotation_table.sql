-- One table of a rotation, from its first range to the report. See rotation_walk.sql on why every name is qualified.

-- Says how far it is, at most every five seconds.
CREATE FUNCTION prism_crypt._notice_progress(walk prism_crypt._walk, run prism_crypt._run) RETURNS double precision
  LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
  IF prism_crypt._uptime() - run.last_notice > 5 THEN
    RAISE NOTICE '%: rows re-encrypted so far: % (job %)', walk.target, run.rows_done, walk.job
      USING HINT = 'prism_crypt.progress shows more.';
    RETURN prism_crypt._uptime();
  END IF;
  RETURN run.last_notice;
END $$;
COMMENT ON FUNCTION prism_crypt._notice_progress(prism_crypt._walk, prism_crypt._run) IS
  'Says how far a rotation is. Internal';

-- After a batch: counts it, waits as the limits ask for, and says when it is time to stop.
CREATE PROCEDURE prism_crypt._end_batch(
  walk prism_crypt._walk, limits prism_crypt._limits, INOUT run prism_crypt._run, batch_rows integer,
  batch_began double precision, state text
) LANGUAGE plpgsql AS $$
BEGIN
  run.rows_done := run.rows_done OPERATOR(pg_catalog.+) batch_rows;
  IF batch_rows OPERATOR(pg_catalog.>) 0 THEN
    run.batches := run.batches OPERATOR(pg_catalog.+) 1;
    IF run.batches OPERATOR(pg_catalog.>=) limits.max_batches THEN
      run.outcome := 'stopped';
      RETURN;
    END IF;
  END IF;
  IF state OPERATOR(pg_catalog.<>) 'running' OR batch_rows OPERATOR(pg_catalog.>) 0 AND (
       limits.pause IS NOT NULL OR limits.max_rows_per_second IS NOT NULL OR limits.max_replica_lag IS NOT NULL) THEN
    CALL prism_crypt._wait_between_batches(
      walk.job, walk.token, run.patient, limits, batch_rows, batch_began, state);
  END IF;
  IF state OPERATOR(pg_catalog.=) ANY (ARRAY['cancelled', 'over']) THEN
    run.outcome := state;
  ELSIF state OPERATOR(pg_catalog.=) 'paused' THEN
    run.outcome := 'left';
  END IF;
  run.last_notice := prism_crypt._notice_progress(walk, run);
END $$;
COMMENT ON PROCEDURE prism_crypt._end_batch(
  prism_crypt._walk, prism_crypt._limits, prism_crypt._run, integer, double precision, text) IS 'Ends one batch. Internal';

-- Places of rows that an index on the key version finds, at most so many.
CREATE FUNCTION prism_crypt._find_by_index(
  walk prism_crypt._walk, most integer, OUT places tid[], OUT failure prism_crypt._failure
) LANGUAGE plpgsql VOLATILE AS $$
BEGIN
  PERFORM prism_crypt._bound_waits(), prism_crypt._require_same_table(walk),
    pg_catalog.set_config('row_security', 'off', true);
  EXECUTE walk.find_by_index INTO places USING most;
EXCEPTION WHEN OTHERS OR assert_failure THEN
  GET STACKED DIAGNOSTICS
    failure.code = RETURNED_SQLSTATE, failure.message = MESSAGE_TEXT, failure.detail = PG_EXCEPTION_DETAIL,
    failure.hint = PG_EXCEPTION_HINT, failure.context = PG_EXCEPTION_CONTEXT, failure.schema_name = SCHEMA_NAME,
    failure.table_name = TABLE_NAME, failure.column_name = COLUMN_NAME, failure.constraint_name = CONSTRAINT_NAME,
    failure.datatype_name = PG_DATATYPE_NAME;
END $$;
COMMENT ON FUNCTION prism_crypt._find_by_index(prism_crypt._walk, integer) IS 'Finds rows by an index. Internal';

-- Rows of an index that is on the key version, instead of a walk, where these are few.
CREATE PROCEDURE prism_crypt._rotate_by_index(
  walk prism_crypt._walk, limits prism_crypt._limits, INOUT run prism_crypt._run, INOUT done boolean
) LANGUAGE plpgsql AS $$
DECLARE
  -- More than one row in twenty: then most blocks have one, and walking over them is cheaper.
  most integer := LEAST(GREATEST(1000, (SELECT reltuples FROM pg_catalog.pg_class
    WHERE oid OPERATOR(pg_catalog.=) walk.relation) OPERATOR(pg_catalog./) 20), 1000000);
  found pg_catalog.record;
  batch pg_catalog.record;
  step prism_crypt._step;
  batch_began double precision;
  first integer;
  -- A trigger that puts old values back makes every pass as long as the one before.
  max_fruitless CONSTANT integer := 10;
  fruitless integer := 0;
  rotated_in_pass bigint;
  rotated_in_last bigint;
BEGIN
  LOOP
    COMMIT;
    SET TRANSACTION ISOLATION LEVEL READ COMMITTED;
    found := prism_crypt._find_by_index(walk, most);
    IF (found.failure).code IS NOT NULL THEN
      run.outcome := 'failed';
      run.failure := found.failure;
      ROLLBACK;
      RETURN;
    END IF;
    done := coalesce(pg_catalog.cardinality(found.places) OPERATOR(pg_catalog.<) most, true);
    EXIT WHEN found.places IS NULL OR NOT done;
    rotated_in_pass := 0;
    first := 1;
    WHILE first OPERATOR(pg_catalog.<=) pg_catalog.cardinality(found.places) LOOP
      COMMIT;
      SET TRANSACTION ISOLATION LEVEL READ COMMITTED;
      batch_began := prism_crypt._uptime();
      batch := prism_crypt._rotate_places(
        walk, limits.fire_triggers,
        found.places[first:first OPERATOR(pg_catalog.+) limits.batch_size OPERATOR(pg_catalog.-) 1], limits.batch_size);
      step.failure := batch.failure;
      IF (step.failure).code IS NULL THEN
        step := prism_crypt._record_places(walk, batch.rotated, prism_crypt._uptime() OPERATOR(pg_catalog.-) batch_began);
      END IF;
      IF (step.failure).code IS NOT NULL THEN
        run.outcome := 'failed';
        run.failure := step.failure;
        ROLLBACK;
        RETURN;
      END IF;
      COMMIT;
      rotated_in_pass := rotated_in_pass OPERATOR(pg_catalog.+) batch.rotated;
      CALL prism_crypt._end_batch(walk, limits, run, batch.rotated, batch_began, step.state);
      IF run.outcome IS NOT NULL THEN
        RETURN;
      END IF;
      first := first OPERATOR(pg_catalog.+) limits.batch_size;
    END LOOP;
    EXIT WHEN rotated_in_pass OPERATOR(pg_catalog.=) 0;
    IF rotated_in_pass OPERATOR(pg_catalog.*) 2 OPERATOR(pg_catalog.>) rotated_in_last THEN
      fruitless := fruitless OPERATOR(pg_catalog.+) 1;
    END IF;
    IF fruitless OPERATOR(pg_catalog.>=) max_fruitless THEN
      -- The walk ends by itself.
      done := false;
      EXIT;
    END IF;
    rotated_in_last := rotated_in_pass;
  END LOOP;
  IF done THEN
    COMMIT;
    step := prism_crypt._record_walk(walk);
    IF (step.failure).code IS NOT NULL THEN
      run.outcome := 'failed';
      run.failure := step.failure;
      ROLLBACK;
      RETURN;
    END IF;
  END IF;
  COMMIT;
END $$;
COMMENT ON PROCEDURE prism_crypt._rotate_by_index(
  prism_crypt._walk, prism_crypt._limits, prism_crypt._run, boolean) IS 'Rotates what an index finds. Internal';

-- Of the blocks from the position that counts to the end of a range, the share that is done.
CREATE FUNCTION prism_crypt._share_done(
  stripes integer, stripe integer, alone boolean, range_start tid, range_end tid, place tid
) RETURNS double precision
  LANGUAGE sql IMMUTABLE SET search_path = pg_catalog, pg_temp AS $$
  SELECT CASE
    WHEN alone THEN 0
    WHEN stripe = stripes - 1 THEN stripe::double precision / stripes
    ELSE (stripe + (prism_crypt._block(place) - prism_crypt._block(range_start))::double precision
                   / greatest(prism_crypt._block(range_end) - prism_crypt._block(range_start), 1)) / stripes END
$$;
COMMENT ON FUNCTION prism_crypt._share_done(integer, integer, boolean, tid, tid, tid) IS
  'How much of a range is done while it is gone over in stripes. Internal';

-- One range, stripe after stripe. The position that counts moves with the last one.
CREATE PROCEDURE prism_crypt._walk_range(
  walk prism_crypt._walk, limits prism_crypt._limits, INOUT run prism_crypt._run, range_id bigint, range_start tid,
  range_end tid
) LANGUAGE plpgsql AS $$
DECLARE
  last_stripe integer := walk.stripes OPERATOR(pg_catalog.-) 1;
  -- Where a batch is less than a block, rows are counted exactly, and stripes would not be.
  alone boolean := last_stripe OPERATOR(pg_catalog.=) 0 OR limits.batch_size OPERATOR(pg_catalog.<) walk.rows_per_block;
  stripe integer := CASE WHEN alone THEN last_stripe ELSE 0 END;
  searching boolean := false;
  place pg_catalog.tid := range_start;
  batch pg_catalog.record;
  step prism_crypt._step;
  batch_began double precision;
BEGIN
  WHILE place OPERATOR(pg_catalog.<) range_end LOOP
    COMMIT;
    SET TRANSACTION ISOLATION LEVEL READ COMMITTED;
    batch_began := prism_crypt._uptime();
    batch := prism_crypt._rotate_window(
      walk, limits.fire_triggers, place, range_end, limits.batch_size, stripe, alone, run.careful, searching);
    step.failure := batch.failure;
    IF (step.failure).code IS NULL THEN
      run.careful := batch.careful;
      searching := batch.searching;
      IF stripe OPERATOR(pg_catalog.=) 0 AND last_stripe OPERATOR(pg_catalog.>) 0
         AND batch.rotated OPERATOR(pg_catalog.=) 0 AND place OPERATOR(pg_catalog.=) range_start THEN
        -- Nothing at once: few rows are due here, if any.
        stripe := last_stripe;
        alone := true;
        searching := true;
      ELSE
        place := batch.next_place;
      END IF;
      step := prism_crypt._record_batch(
        walk, range_id, CASE WHEN stripe OPERATOR(pg_catalog.=) last_stripe THEN place ELSE range_start END,
        prism_crypt._share_done(walk.stripes, stripe, alone, range_start, range_end, place), batch.rotated,
        prism_crypt._uptime() OPERATOR(pg_catalog.-) batch_began);
    END IF;
    IF (step.failure).code IS NOT NULL THEN
      run.outcome := 'failed';
      run.failure := step.failure;
      ROLLBACK;
      RETURN;
    END IF;
    COMMIT;
    CALL prism_crypt._end_batch(walk, limits, run, batch.rotated, batch_began, step.state);
    IF run.outcome IS NOT NULL THEN
      RETURN;
    END IF;
    IF stripe OPERATOR(pg_catalog.<) last_stripe AND place OPERATOR(pg_catalog.>=) range_end THEN
      stripe := stripe OPERATOR(pg_catalog.+) 1;
      place := range_start;
    END IF;
  END LOOP;
END $$;
COMMENT ON PROCEDURE prism_crypt._walk_range(
  prism_crypt._walk, prism_crypt._limits, prism_crypt._run, bigint, tid, tid) IS 'Rotates one range. Internal';

-- One pass over a table, or the ranges of it that nobody else has taken.
CREATE PROCEDURE prism_crypt._walk_table(
  walk prism_crypt._walk, limits prism_crypt._limits, INOUT run prism_crypt._run
) LANGUAGE plpgsql AS $$
DECLARE
  claim pg_catalog.record;
  state pg_catalog.text;
  by_index boolean := false;
BEGIN
  IF walk.find_by_index IS NOT NULL THEN
    CALL prism_crypt._rotate_by_index(walk, limits, run, by_index);
    IF by_index OR run.outcome IS NOT NULL THEN
      RETURN;
    END IF;
  END IF;
  LOOP
    COMMIT;
    -- The server's default may be a level at which a concurrent change is an error.
    SET TRANSACTION ISOLATION LEVEL READ COMMITTED;
    PERFORM pg_catalog.set_config('synchronous_commit', 'off', true);
    claim := prism_crypt._take_range(walk);
    IF (claim.failure).code IS NOT NULL THEN
      run.outcome := 'failed';
      run.failure := claim.failure;
      ROLLBACK;
      RETURN;
    END IF;
    COMMIT;
    state := claim.action;
    IF state OPERATOR(pg_catalog.=) 'paused' THEN
      CALL prism_crypt._wait_between_batches(walk.job, walk.token, run.patient, limits, 0, NULL, state);
    END IF;
    IF claim.action OPERATOR(pg_catalog.=) 'range' THEN
      CALL prism_crypt._walk_range(walk, limits, run, claim.range_id, claim.place, prism_crypt._tid(claim.end_block));
      IF run.outcome IS NOT NULL THEN
        RETURN;
      END IF;
    ELSIF state OPERATOR(pg_catalog.=) 'walked' THEN
      RETURN;
    ELSIF state OPERATOR(pg_catalog.=) ANY (ARRAY['cancelled', 'over']) THEN
      run.outcome := state;
      RETURN;
    ELSIF state OPERATOR(pg_catalog.=) 'paused' THEN
      run.outcome := 'left';
      RETURN;
    END IF;
  END LOOP;
END $$;
COMMENT ON PROCEDURE prism_crypt._walk_table(prism_crypt._walk, prism_crypt._limits, prism_crypt._run) IS
  'One pass over a table. Internal';
