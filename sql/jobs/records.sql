-- What workers record of their steps, and how jobs end.

CREATE FUNCTION prism_crypt._add_to_part(job bigint, relation regclass, rows_done bigint, busy_seconds double precision)
  RETURNS void
  LANGUAGE sql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
  UPDATE prism_crypt.job_part AS p
  SET rows_in_pass = p.rows_in_pass + $3, rows_done = p.rows_done + $3, busy_seconds = p.busy_seconds + $4,
      updated_at = clock_timestamp()
  WHERE p.job = $1 AND p.relation = $2
$$;
COMMENT ON FUNCTION prism_crypt._add_to_part(bigint, regclass, bigint, double precision) IS
  'Counts rows for one table of a job. Internal';

-- Where a range goes on after a batch.
--
-- A worker goes through a range in stripes. Every stripe but the last takes only some rows of each block, for example every
-- fourth. The row versions that the first stripe leaves behind are dead when the second begins, and make room for it in the same
-- blocks, so that it needs neither new blocks nor new index entries (HOT). The last stripe, or the only one, takes all that is
-- left, and `place` moves with it.
CREATE FUNCTION prism_crypt._move_on(range prism_crypt.job_range, result prism_crypt._result) RETURNS prism_crypt.job_range
  LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  range_end CONSTANT tid := prism_crypt._tid(range.end_block);
  stripes CONSTANT integer := greatest(result.stripes, 1);
  reached tid;
BEGIN
  range.careful := greatest(range.careful - 1, 0);
  IF range.places IS NOT NULL THEN
    range.places := (range.places)[result.batch_size + 1:];
    IF range.places = '{}' THEN
      range.place := range_end;
    END IF;
    RETURN range;
  END IF;
  IF range.stripes IS DISTINCT FROM stripes THEN
    range.stripes := stripes;
    range.stripe := 0;
    range.next_place := range.place;
  END IF;
  reached := least(greatest(result.reached, range.next_place), range_end);
  IF range.stripe < stripes - 1 THEN
    IF range.stripe = 0 AND result.rows = 0 AND range.next_place = range.place THEN
      -- Nothing in the first batch: few rows are due here, if any.
      range.stripes := 1;
      range.searching := true;
    ELSIF reached < range_end THEN
      range.next_place := reached;
    ELSE
      range.stripe := range.stripe + 1;
      range.next_place := range.place;
    END IF;
  ELSE
    IF result.rows > 0 OR range.searching THEN
      range.place := reached;
      range.next_place := reached;
    END IF;
    -- If there were few, the next one is likely to be far away. If there were none without a search, a search finds out why.
    range.searching := result.rows <= result.batch_size / 4;
  END IF;
  RETURN range;
END $$;
COMMENT ON FUNCTION prism_crypt._move_on(prism_crypt.job_range, prism_crypt._result) IS
  'Where a range goes on after a batch. Internal';

-- The range of a worker's step. Nobody else changes a range while its worker is working.
CREATE FUNCTION prism_crypt._range_of(worker prism_crypt.job_worker, range_id bigint) RETURNS prism_crypt.job_range
  LANGUAGE sql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
  SELECT r FROM prism_crypt.job_range AS r
  WHERE r.id = $2 AND r.job = worker.job AND r.worker_pid = worker.pid AND r.worker_started = worker.started
$$;
COMMENT ON FUNCTION prism_crypt._range_of(prism_crypt.job_worker, bigint) IS 'A range that a worker has taken. Internal';

-- Records a batch in its own transaction. Gives the next step, unless the worker has to ask for it. A finished range is added to
-- its part. The place only moves forward, and the number of rows can't be larger than what fits into the rest of the range.
CREATE FUNCTION prism_crypt._record_batch(
  worker prism_crypt.job_worker, range prism_crypt.job_range, result prism_crypt._result
) RETURNS prism_crypt._step
  LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
BEGIN
  PERFORM prism_crypt._require_update(worker.role, range.relation),
    -- A row takes at least 28 bytes of its block. Locking rows first takes all that are due in the blocks of places.
    prism_crypt._require_number('rows', result.rows,
      coalesce(cardinality(range.places), range.end_block - prism_crypt._block(range.place))
        * (current_setting('block_size')::bigint / 28)),
    prism_crypt._require_number('stripes', result.stripes, 100),
    prism_crypt._require_number('batch_size', result.batch_size, 1000000),
    prism_crypt._require_number('busy_seconds', result.busy_seconds, 1e9);
  range := prism_crypt._move_on(range, result);
  range.rows_done := range.rows_done + result.rows;
  range.busy_seconds := range.busy_seconds + result.busy_seconds;
  IF range.place >= prism_crypt._tid(range.end_block) THEN
    DELETE FROM prism_crypt.job_range AS r WHERE r.id = range.id;
    PERFORM prism_crypt._add_to_part(range.job, range.relation, range.rows_done, range.busy_seconds);
    RETURN NULL;
  END IF;
  UPDATE prism_crypt.job_range AS r
  SET place = range.place, places = range.places, stripes = range.stripes, stripe = range.stripe, next_place = range.next_place,
      searching = range.searching, careful = range.careful, rows_done = range.rows_done, busy_seconds = range.busy_seconds,
      updated_at = clock_timestamp()
  WHERE r.id = range.id;
  IF prism_crypt._state_of_job(range.job) IN ('paused', 'cancelled', 'over') THEN
    RETURN NULL;
  END IF;
  RETURN prism_crypt._step_in(range);
END $$;
COMMENT ON FUNCTION prism_crypt._record_batch(prism_crypt.job_worker, prism_crypt.job_range, prism_crypt._result) IS
  'Records a batch of a worker. Internal';

-- Records what an index found, in ranges of one batch, or a thousand rows, that any worker may take; or that the table is to be
-- walked over.
CREATE FUNCTION prism_crypt._record_places(
  worker prism_crypt.job_worker, range prism_crypt.job_range, result prism_crypt._result
) RETURNS void
  LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
BEGIN
  PERFORM prism_crypt._require_update(worker.role, range.relation),
    prism_crypt._require_number('batch_size', result.batch_size, 1000000),
    prism_crypt._require_number('places', coalesce(cardinality(result.places), 0), 1000000),
    prism_crypt._require_number('block', coalesce((SELECT prism_crypt._block(max(p)) FROM unnest(result.places) AS p), 0),
      greatest(pg_relation_size(range.relation) / current_setting('block_size')::bigint - 1, 0));
  DELETE FROM prism_crypt.job_range AS r WHERE r.id = range.id;
  INSERT INTO prism_crypt.job_range (job, relation, place, next_place, end_block, places, worker_pid, worker_started)
  SELECT range.job, range.relation, batch.places[1], batch.places[1],
         prism_crypt._block(batch.places[cardinality(batch.places)]) + 1, batch.places, range.worker_pid, '-infinity'
  FROM generate_series(1, cardinality(result.places), greatest(result.batch_size, 1000)) AS first
  CROSS JOIN LATERAL (SELECT (result.places)[first:first + greatest(result.batch_size, 1000) - 1]) AS batch (places);
  UPDATE prism_crypt.job_part AS p SET next_block = 0, end_block = CASE WHEN result.places IS NULL THEN p.end_block ELSE 0 END
  WHERE p.job = range.job AND p.relation = range.relation;
END $$;
COMMENT ON FUNCTION prism_crypt._record_places(prism_crypt.job_worker, prism_crypt.job_range, prism_crypt._result) IS
  'Records what an index found. Internal';

-- Of jobs that changed nothing, only one per target and end is kept: a call every minute must not fill the table.
CREATE FUNCTION prism_crypt._drop_older_jobs(job bigint) RETURNS void
  LANGUAGE sql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
  DELETE FROM prism_crypt.job AS d WHERE d.id IN (
    SELECT old.id
    FROM prism_crypt.job AS new JOIN prism_crypt.job AS old
      ON old.id < new.id AND old.state = new.state AND old.kind = new.kind AND old.relation = new.relation
      AND old.column_name IS NOT DISTINCT FROM new.column_name
      AND old.scope = new.scope
    WHERE new.id = $1 AND new.state IN ('finished', 'cancelled')
      AND NOT EXISTS (SELECT FROM prism_crypt.job_worker AS w
                      WHERE w.job = old.id AND prism_crypt._is_working(w.pid, w.started))
      AND NOT EXISTS (SELECT FROM prism_crypt.job_part AS p WHERE p.job IN (old.id, new.id) AND p.rows_done > 0)
    FOR UPDATE OF old SKIP LOCKED)
$$;
COMMENT ON FUNCTION prism_crypt._drop_older_jobs(bigint) IS 'Deletes older jobs like one that changed nothing. Internal';

-- Ends a job with its last part.
CREATE FUNCTION prism_crypt._finish_job(worker prism_crypt.job_worker) RETURNS void
  LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  moment CONSTANT timestamptz := clock_timestamp();
BEGIN
  UPDATE prism_crypt.job AS j
  SET state = CASE
        WHEN EXISTS (SELECT FROM prism_crypt.job_part AS p
                     WHERE p.job = j.id AND (p.left_over > 0 OR p.left_unreadable > 0)) THEN 'incomplete'
        ELSE 'finished' END,
      updated_at = moment, finished_at = moment
  WHERE j.id = worker.job AND j.state IN ('pending', 'running', 'paused', 'failed')
    -- A partition that was dropped meanwhile has nothing left to do.
    AND NOT EXISTS (SELECT FROM prism_crypt.job_part AS p JOIN pg_class AS c ON c.oid = p.relation
                    WHERE p.job = j.id AND NOT p.finished);
  IF FOUND THEN
    DELETE FROM prism_crypt.job_worker AS w
    WHERE w.job = worker.job AND (w.pid = worker.pid OR NOT prism_crypt._is_working(w.pid, w.started));
    PERFORM prism_crypt._drop_older_jobs(worker.job);
  END IF;
END $$;
COMMENT ON FUNCTION prism_crypt._finish_job(prism_crypt.job_worker) IS 'Ends a job with its last table. Internal';

-- After a check, tables with something left that could be changed are walked over again, until too many passes made no
-- progress. If there are no such tables, what is left is counted, and the other tables are finished: of those that were checked.
-- Others may have come meanwhile.
CREATE FUNCTION prism_crypt._record_check(worker prism_crypt.job_worker, parts regclass[], result prism_crypt._result)
  RETURNS prism_crypt._step
  LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
  max_fruitless CONSTANT integer := 10;
  due CONSTANT regclass[] := coalesce(result.due, '{}');
  left_in CONSTANT regclass[] := due || result.unreadable;
  reopened integer;
  moved boolean;
  step prism_crypt._step;
BEGIN
  PERFORM prism_crypt._require_update(worker.role, p.relation) FROM prism_crypt.job_part AS p
  WHERE p.job = worker.job AND NOT p.finished;
  WITH again AS (
    UPDATE prism_crypt.job_part AS p
    SET pass = p.pass + 1, next_block = 0, end_block = NULL, rows_in_last = p.rows_in_pass, rows_in_pass = 0,
        updated_at = clock_timestamp(),
        -- A trigger that puts old values back makes every pass as long as the one before.
        fruitless = p.fruitless + (
          p.pass > 0 AND p.rows_in_pass = 0 OR p.pass > 1 AND p.rows_in_pass * 2 > p.rows_in_last)::integer
    WHERE p.job = worker.job AND p.relation = ANY (due) AND NOT p.finished AND p.fruitless < max_fruitless
    RETURNING p.pass = 1 OR p.rows_in_last > 0 AS moved
  )
  SELECT count(*), bool_or(a.moved) INTO reopened, moved FROM again AS a;
  IF reopened > 0 THEN
    UPDATE prism_crypt.job AS j SET checker_pid = NULL, checker_started = NULL WHERE j.id = worker.job;
    step.action := 'taken';
    step.seconds := CASE WHEN moved THEN 0 ELSE 0.5 END;
    RETURN step;
  END IF;
  UPDATE prism_crypt.job_part AS p
  SET is_counted = p.relation = ANY (left_in), finished = p.relation <> ALL (left_in), left_over = 0,
      left_unreadable = 0, updated_at = clock_timestamp()
  WHERE p.job = worker.job AND p.relation = ANY (parts) AND NOT p.finished;
  PERFORM prism_crypt._finish_job(worker);
  step.action := 'ending';
  RETURN step;
END $$;
COMMENT ON FUNCTION prism_crypt._record_check(prism_crypt.job_worker, regclass[], prism_crypt._result) IS
  'Begins the next pass over tables, or ends them. Internal';

CREATE FUNCTION prism_crypt._record_count(worker prism_crypt.job_worker, relation regclass, result prism_crypt._result)
  RETURNS void
  LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
BEGIN
  PERFORM prism_crypt._require_update(worker.role, _record_count.relation),
    prism_crypt._require_number('left_over', result.left_over, 1e12),
    prism_crypt._require_number('left_unreadable', result.left_unreadable, 1e12);
  UPDATE prism_crypt.job_part AS p
  SET finished = true, left_over = result.left_over, left_unreadable = result.left_unreadable, updated_at = clock_timestamp()
  WHERE p.job = worker.job AND p.relation = _record_count.relation AND p.is_counted AND NOT p.finished;
  PERFORM prism_crypt._finish_job(worker);
END $$;
COMMENT ON FUNCTION prism_crypt._record_count(prism_crypt.job_worker, regclass, prism_crypt._result) IS
  'Ends a table with something left, and the job with the last one. Internal';

-- Records the result of a step. A check counts only if its worker still has it; another worker may have taken it over. Gives the
-- next step, if that is already known.
CREATE FUNCTION prism_crypt._record_step(token uuid, step prism_crypt._step, result prism_crypt._result) RETURNS prism_crypt._step
  LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  worker CONSTANT prism_crypt.job_worker := prism_crypt._worker(token);
  range prism_crypt.job_range;
BEGIN
  IF step.action IN ('batch', 'find') THEN
    range := prism_crypt._range_of(worker, step.range_id);
    IF range.by_index THEN
      PERFORM prism_crypt._record_places(worker, range, result);
    ELSIF NOT range.by_index THEN
      RETURN prism_crypt._record_batch(worker, range, result);
    END IF;
  ELSE
    -- Not FOR UPDATE, because foreign-key checks of other workers would wait for that.
    PERFORM FROM prism_crypt.job AS j
    WHERE j.id = worker.job AND j.checker_pid = worker.pid AND j.checker_started = worker.started FOR NO KEY UPDATE;
    IF FOUND AND step.action = 'check' THEN
      RETURN prism_crypt._record_check(worker, step.parts, result);
    ELSIF FOUND AND step.action = 'count' THEN
      PERFORM prism_crypt._record_count(worker, step.relation, result);
    END IF;
  END IF;
  RETURN NULL;
END $$;
COMMENT ON FUNCTION prism_crypt._record_step(uuid, prism_crypt._step, prism_crypt._result) IS
  'Records the result of a worker''s step. Internal';

-- Ends this session's work on a job. If the job is not over and nobody else works on it, the next call goes on with it.
CREATE FUNCTION prism_crypt._leave_job(token uuid, error text, outcome text) RETURNS void
  LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
  worker prism_crypt.job_worker := prism_crypt._worker(token);
BEGIN
  IF worker.job IS NULL THEN
    RETURN;
  END IF;
  -- First, so that what follows sees workers that came meanwhile.
  PERFORM FROM prism_crypt.job AS j WHERE j.id = worker.job FOR NO KEY UPDATE;
  UPDATE prism_crypt.job AS j SET checker_pid = NULL, checker_started = NULL
  WHERE j.id = worker.job AND j.checker_pid = worker.pid AND j.checker_started = worker.started;
  -- Others can take at once what this session had taken.
  UPDATE prism_crypt.job_range AS r SET worker_started = '-infinity'
  WHERE r.job = worker.job AND r.worker_pid = worker.pid;
  DELETE FROM prism_crypt.job_worker AS w WHERE w.job = worker.job AND w.pid = worker.pid;
  UPDATE prism_crypt.job AS j
  SET state = CASE WHEN _leave_job.error IS NULL THEN 'pending' ELSE 'failed' END, error = left(_leave_job.error, 200),
      checker_pid = NULL, checker_started = NULL, updated_at = clock_timestamp()
  WHERE j.id = worker.job AND j.state = 'running' AND _leave_job.outcome IS NOT NULL
    AND NOT EXISTS (SELECT FROM prism_crypt.job_worker AS w
                    WHERE w.job = j.id AND prism_crypt._is_working(w.pid, w.started));
  IF prism_crypt._state_of_job(worker.job) = 'cancelled' THEN
    PERFORM prism_crypt._drop_ranges(worker.job);
  END IF;
END $$;
COMMENT ON FUNCTION prism_crypt._leave_job(uuid, text, text) IS 'Ends this session''s work on a job. Internal';
