-- What a worker does next, and what it records: the position of all work, which is kept nowhere else. No code of the table's
-- owner runs here.

CREATE TYPE prism_crypt._step AS (
  -- batch, find, check, count: to be run
  -- taken: nothing to run; the next step runs what was taken
  -- wait: others have taken everything; pace, standby: the limits require a wait
  -- paused, cancelled, over: the state of the job
  -- ending: nothing is left that could be changed
  action     text,
  relation   regclass,
  range_id   bigint,
  -- Everything before `from_place` is done in this stripe, and everything before `place` in all stripes.
  from_place tid,
  place      tid,
  to_place   tid,
  places     tid[],
  stripes    integer,
  stripe     integer,
  searching  boolean,
  careful    boolean,
  -- Rows that a batch is to have at most, and whether it leaves them all to the next pass.
  batch_size integer,
  skips      boolean,
  -- For a check: all tables of the job.
  parts      regclass[],
  -- How long to wait before it.
  seconds    double precision
);
COMMENT ON TYPE prism_crypt._step IS 'What a worker does next. Internal';

CREATE TYPE prism_crypt._result AS (
  -- After a batch: rows changed, where it goes on, how long it took, and how many rows it was to have.
  rows            bigint,
  reached         tid,
  busy_seconds    double precision,
  batch_size      integer,
  -- The number of stripes of the range.
  stripes         integer,
  -- After find: what the index found; null if the table is to be walked over.
  places          tid[],
  -- After a check: tables with something left that could be changed, and tables with something that could not.
  due             regclass[],
  unreadable      regclass[],
  -- After a count.
  left_over       bigint,
  left_unreadable bigint
);
COMMENT ON TYPE prism_crypt._result IS 'The result of a step. Internal';

CREATE FUNCTION prism_crypt._step_in(range prism_crypt.job_range) RETURNS prism_crypt._step
  LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  step prism_crypt._step;
BEGIN
  step.action := CASE WHEN range.by_index THEN 'find' ELSE 'batch' END;
  step.relation := range.relation;
  step.range_id := range.id;
  step.from_place := range.next_place;
  step.place := range.place;
  step.to_place := prism_crypt._tid(range.end_block);
  step.places := range.places;
  step.stripes := range.stripes;
  step.stripe := range.stripe;
  step.searching := range.searching;
  step.careful := range.careful > 0;
  RETURN step;
END $$;
COMMENT ON FUNCTION prism_crypt._step_in(prism_crypt.job_range) IS 'The next step in a range. Internal';

-- Takes a range of a table that nobody has taken; null if all are taken. A pass begins with one range over everything, because
-- an index may find the rows instead.
CREATE FUNCTION prism_crypt._take_range(worker prism_crypt.job_worker) RETURNS regclass
  LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
  part prism_crypt.job_part;
  blocks bigint;
BEGIN
  SELECT p.* INTO part FROM prism_crypt.job_part AS p JOIN pg_class AS c ON c.oid = p.relation
  WHERE p.job = worker.job AND (p.end_block IS NULL OR p.next_block < p.end_block)
  ORDER BY p.relation LIMIT 1 FOR NO KEY UPDATE OF p;
  IF NOT FOUND THEN
    RETURN NULL;
  END IF;
  PERFORM prism_crypt._require_update(worker.role, part.relation);
  -- Small enough to share a table evenly and to stay in memory between two stripes, and so large that taking one costs little
  -- compared with the work: 1 to 16 MiB with blocks of 8 KiB.
  blocks := CASE WHEN part.end_block IS NULL
    THEN coalesce(pg_relation_size(part.relation), 0) / current_setting('block_size')::bigint
    ELSE least(part.next_block + least(greatest(part.end_block / 32, 128), 2048), part.end_block) END;
  INSERT INTO prism_crypt.job_range (job, relation, place, next_place, end_block, by_index, worker_pid, worker_started)
  VALUES (worker.job, part.relation, prism_crypt._tid(part.next_block), prism_crypt._tid(part.next_block), blocks,
          part.end_block IS NULL, worker.pid, worker.started);
  UPDATE prism_crypt.job_part AS p
  SET next_block = blocks, end_block = coalesce(p.end_block, blocks), updated_at = clock_timestamp()
  WHERE p.job = worker.job AND p.relation = part.relation;
  RETURN part.relation;
END $$;
COMMENT ON FUNCTION prism_crypt._take_range(prism_crypt.job_worker) IS 'Takes a range of a table. Internal';

-- Takes over what a worker left behind when it died or gave up.
CREATE FUNCTION prism_crypt._take_over(worker prism_crypt.job_worker) RETURNS regclass
  LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
  range prism_crypt.job_range;
BEGIN
  SELECT r.* INTO range FROM prism_crypt.job_range AS r JOIN pg_class AS c ON c.oid = r.relation
  WHERE r.job = worker.job AND NOT prism_crypt._is_working(r.worker_pid, r.worker_started)
  ORDER BY r.id LIMIT 1 FOR UPDATE OF r SKIP LOCKED;
  IF FOUND THEN
    -- What is known of other sessions may be older than the lock: one of them may have taken it just now.
    PERFORM pg_stat_clear_snapshot();
    IF prism_crypt._is_working(range.worker_pid, range.worker_started) THEN
      RETURN NULL;
    END IF;
    PERFORM prism_crypt._require_update(worker.role, range.relation);
    UPDATE prism_crypt.job_range AS r
    SET worker_pid = worker.pid, worker_started = worker.started, updated_at = clock_timestamp()
    WHERE r.id = range.id;
  END IF;
  RETURN range.relation;
END $$;
COMMENT ON FUNCTION prism_crypt._take_over(prism_crypt.job_worker) IS 'Takes a range that nobody works on. Internal';

-- Whether every range of a job was taken and is done. A partition that was dropped has nothing left to do.
CREATE FUNCTION prism_crypt._is_walked(job bigint) RETURNS boolean
  LANGUAGE sql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
  SELECT NOT EXISTS (SELECT FROM prism_crypt.job_range AS r JOIN pg_class AS c ON c.oid = r.relation WHERE r.job = $1)
    AND NOT EXISTS (SELECT FROM prism_crypt.job_part AS p JOIN pg_class AS c ON c.oid = p.relation
                    WHERE p.job = $1 AND (p.end_block IS NULL OR p.next_block < p.end_block))
$$;
COMMENT ON FUNCTION prism_crypt._is_walked(bigint) IS 'Whether every range of a job is done. Internal';

-- What a worker does when every range is taken: one worker checks whether anything is left, and counts it once nothing moves any
-- more; the others wait. The job is locked only where the check is taken: a check may take long, and others need the job.
CREATE FUNCTION prism_crypt._check_step(worker prism_crypt.job_worker) RETURNS prism_crypt._step
  LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
  step prism_crypt._step;
  found_job prism_crypt.job;
BEGIN
  SELECT * INTO found_job FROM prism_crypt.job AS j WHERE j.id = worker.job;
  PERFORM prism_crypt._require_update(worker.role, found_job.relation);
  IF prism_crypt._qualified_name(found_job.relation) IS NULL THEN
    RAISE undefined_table USING
      MESSAGE = format('relation with OID %s does not exist', found_job.relation::oid),
      DETAIL = format('It was dropped while job %s worked on it.', worker.job);
  ELSIF NOT prism_crypt._is_walked(worker.job) THEN
    step.action := 'wait';
  ELSIF found_job.checker_pid = worker.pid AND found_job.checker_started = worker.started THEN
    SELECT p.relation INTO step.relation FROM prism_crypt.job_part AS p JOIN pg_class AS c ON c.oid = p.relation
    WHERE p.job = worker.job AND p.is_counted AND NOT p.finished ORDER BY p.relation LIMIT 1;
    IF FOUND THEN
      step.action := 'count';
    ELSE
      step.action := 'check';
      step.parts := ARRAY(
        SELECT p.relation FROM prism_crypt.job_part AS p WHERE p.job = worker.job ORDER BY p.relation);
    END IF;
  ELSIF prism_crypt._is_working(found_job.checker_pid, found_job.checker_started) THEN
    step.action := 'wait';
  ELSE
    -- Not FOR UPDATE, because foreign-key checks of other workers would wait for that.
    SELECT * INTO found_job FROM prism_crypt.job AS j WHERE j.id = worker.job FOR NO KEY UPDATE;
    -- Another session may have checked meanwhile.
    IF NOT prism_crypt._is_walked(worker.job) OR prism_crypt._is_working(found_job.checker_pid, found_job.checker_started) THEN
      step.action := 'wait';
      RETURN step;
    END IF;
    UPDATE prism_crypt.job AS j SET checker_pid = worker.pid, checker_started = worker.started WHERE j.id = worker.job;
    -- This takes back what an unfinished check found.
    UPDATE prism_crypt.job_part AS p SET is_counted = false, finished = false
    WHERE p.job = worker.job AND (p.is_counted OR p.finished);
    step.action := 'taken';
  END IF;
  RETURN step;
END $$;
COMMENT ON FUNCTION prism_crypt._check_step(prism_crypt.job_worker) IS 'What a worker does when every range is taken. Internal';

-- `is_waiting`: only asks for the state; the same while a standby is further behind than `max_replica_lag`. `failed`: the last
-- batch is tried again, locking its rows first. What is taken is committed before it is run, so that others need not wait that
-- long.
CREATE FUNCTION prism_crypt._next_step(token uuid, is_waiting boolean, max_replica_lag bigint, failed boolean)
  RETURNS prism_crypt._step
  LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
  worker CONSTANT prism_crypt.job_worker := prism_crypt._worker(token);
  step prism_crypt._step;
  range prism_crypt.job_range;
BEGIN
  step.action := prism_crypt._state_of_job(worker.job);
  IF step.action IN ('paused', 'cancelled', 'over') THEN
    RETURN step;
  ELSIF is_waiting THEN
    step.action := 'pace';
    RETURN step;
  ELSIF max_replica_lag IS NOT NULL AND prism_crypt._replica_lag() > max_replica_lag THEN
    step.action := 'standby';
    RETURN step;
  END IF;
  SELECT * INTO range FROM prism_crypt.job_range AS r
  WHERE r.job = worker.job AND r.worker_pid = worker.pid AND r.worker_started = worker.started ORDER BY r.id LIMIT 1;
  IF FOUND THEN
    IF failed AND range.careful = 0 THEN
      range.careful := 9;
      UPDATE prism_crypt.job_range AS r SET careful = range.careful WHERE r.id = range.id;
    END IF;
    RETURN prism_crypt._step_in(range);
  END IF;
  step.relation := coalesce(prism_crypt._take_over(worker), prism_crypt._take_range(worker));
  IF step.relation IS NULL THEN
    RETURN prism_crypt._check_step(worker);
  END IF;
  step.action := 'taken';
  RETURN step;
END $$;
COMMENT ON FUNCTION prism_crypt._next_step(uuid, boolean, bigint, boolean) IS 'What a worker does next. Internal';
