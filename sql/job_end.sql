-- How jobs end: checks, further passes, what is left, and sessions that leave.

-- What a worker does that has found every range taken, and where there is something to take again:
--   walk       goes on
--   wait       others still work on ranges, or one of them checks
--   check      looks itself whether anything is left
--   paused, cancelled, over: as for _claim_range()
CREATE FUNCTION prism_crypt._claim_check(token uuid, relations regclass[], OUT action text, OUT to_walk regclass[])
  LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
  worker prism_crypt.job_worker := prism_crypt._worker(token);
  found_job prism_crypt.job;
BEGIN
  action := prism_crypt._state_of_job(worker.job);
  IF action IN ('paused', 'cancelled', 'over') THEN
    RETURN;
  END IF;
  SELECT * INTO found_job FROM prism_crypt.job AS j WHERE j.id = worker.job FOR NO KEY UPDATE;
  PERFORM prism_crypt._require_update(worker.role, found_job.relation);
  SELECT array_agg(p.relation ORDER BY p.relation) INTO to_walk
  FROM prism_crypt.job_part AS p JOIN pg_class AS c ON c.oid = p.relation JOIN unnest(relations) AS r ON r = p.relation
  WHERE p.job = worker.job
    AND (p.end_block IS NULL OR p.next_block < p.end_block
         OR p.relation IN (SELECT r.relation FROM prism_crypt.job_range AS r
                           WHERE r.job = worker.job AND NOT prism_crypt._is_working(r.worker_pid, r.worker_started)));
  IF to_walk IS NOT NULL THEN
    action := 'walk';
  ELSIF EXISTS (SELECT FROM prism_crypt.job_range AS r JOIN unnest(relations) AS t ON t = r.relation
                WHERE r.job = worker.job AND prism_crypt._is_working(r.worker_pid, r.worker_started))
     OR prism_crypt._is_working(found_job.checker_pid, found_job.checker_started)
        AND found_job.checker_pid <> worker.pid THEN
    action := 'wait';
  ELSE
    UPDATE prism_crypt.job AS j SET checker_pid = worker.pid, checker_started = worker.started WHERE j.id = worker.job;
    action := 'check';
  END IF;
END $$;
COMMENT ON FUNCTION prism_crypt._claim_check(uuid, regclass[]) IS 'What a worker does when every range is taken. Internal';

-- The job of a worker that claimed the check, locked; null where it did not, or not any more.
CREATE FUNCTION prism_crypt._checked_job(worker prism_crypt.job_worker) RETURNS bigint
  LANGUAGE sql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
  -- Not FOR UPDATE, which foreign-key checks of other workers would wait for.
  SELECT j.id FROM prism_crypt.job AS j
  WHERE j.id = worker.job AND j.checker_pid = worker.pid AND j.checker_started = worker.started FOR NO KEY UPDATE
$$;
COMMENT ON FUNCTION prism_crypt._checked_job(prism_crypt.job_worker) IS 'The job that a worker checks. Internal';

-- After a check: tables that have something left are walked again, until they have got no further too often. Gives null
-- where the job can end, otherwise the seconds to wait before the next walk.
CREATE FUNCTION prism_crypt._walk_again(token uuid, relations regclass[]) RETURNS double precision
  LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
  max_fruitless CONSTANT integer := 10;
  worker prism_crypt.job_worker := prism_crypt._worker(token);
  job CONSTANT bigint := prism_crypt._checked_job(worker);
  reopened integer;
  moved boolean;
BEGIN
  IF job IS NULL THEN
    RETURN 0;
  END IF;
  PERFORM prism_crypt._require_update(worker.role, r) FROM unnest(relations) AS r;
  WITH again AS (
    UPDATE prism_crypt.job_part AS p
    SET pass = p.pass + 1, next_block = 0, end_block = NULL, rows_in_last = p.rows_in_pass, rows_in_pass = 0,
        updated_at = clock_timestamp(),
        -- A trigger that puts old values back makes every pass as long as the one before.
        fruitless = p.fruitless + (
          p.pass > 0 AND p.rows_in_pass = 0 OR p.pass > 1 AND p.rows_in_pass * 2 > p.rows_in_last)::integer
    FROM unnest(relations) AS r
    WHERE p.job = worker.job AND p.relation = r AND p.fruitless < max_fruitless
    RETURNING p.pass = 1 OR p.rows_in_last > 0 AS moved
  )
  SELECT count(*), bool_or(a.moved) INTO reopened, moved FROM again AS a;
  UPDATE prism_crypt.job AS j SET checker_pid = NULL, checker_started = NULL
  WHERE j.id = worker.job AND reopened > 0;
  RETURN CASE WHEN reopened = 0 THEN NULL WHEN moved THEN 0 ELSE 0.5 END;
END $$;
COMMENT ON FUNCTION prism_crypt._walk_again(uuid, regclass[]) IS 'Begins the next pass over tables. Internal';

-- Of jobs that found nothing to do, one a target is kept: a call every minute must not fill the table.
CREATE FUNCTION prism_crypt._drop_older_jobs(job bigint) RETURNS void
  LANGUAGE sql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
  DELETE FROM prism_crypt.job AS d WHERE d.id IN (
    SELECT old.id
    FROM prism_crypt.job AS new JOIN prism_crypt.job AS old
      ON old.id < new.id AND old.state = new.state AND old.kind = new.kind AND old.relation = new.relation
      AND old.column_name IS NOT DISTINCT FROM new.column_name
      AND old.from_version IS NOT DISTINCT FROM new.from_version AND old.keyset IS NOT DISTINCT FROM new.keyset
    WHERE new.id = $1 AND new.state = 'finished'
      AND NOT EXISTS (SELECT FROM prism_crypt.job_worker AS w
                      WHERE w.job = old.id AND prism_crypt._is_working(w.pid, w.started))
      AND NOT EXISTS (SELECT FROM prism_crypt.job_part AS p WHERE p.job IN (old.id, new.id) AND p.rows_done > 0)
    FOR UPDATE OF old SKIP LOCKED)
$$;
COMMENT ON FUNCTION prism_crypt._drop_older_jobs(bigint) IS 'Deletes older jobs like one that found nothing. Internal';

-- Ends parts after a check that found nothing that could be moved, and the job with the last one. The numbers of what is left
-- belong to the tables in `with_rest`; the others have none.
CREATE FUNCTION prism_crypt._finish_parts(
  token uuid, relations regclass[], with_rest regclass[], left_over bigint[], left_unreadable bigint[]
) RETURNS void
  LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
  worker prism_crypt.job_worker := prism_crypt._worker(token);
  job CONSTANT bigint := prism_crypt._checked_job(worker);
  moment timestamptz;
BEGIN
  IF job IS NULL THEN
    RETURN;
  END IF;
  PERFORM prism_crypt._require_update(worker.role, r) FROM unnest(relations) AS r;
  PERFORM prism_crypt._require_number('left_over', n, 1e12) FROM unnest(_finish_parts.left_over) AS n;
  PERFORM prism_crypt._require_number('left_unreadable', n, 1e12) FROM unnest(_finish_parts.left_unreadable) AS n;
  UPDATE prism_crypt.job_part AS p
  SET finished = true, left_over = coalesce(rest.left_over, 0), left_unreadable = coalesce(rest.left_unreadable, 0),
      updated_at = clock_timestamp()
  FROM unnest(relations) AS r
  LEFT JOIN unnest(with_rest, _finish_parts.left_over, _finish_parts.left_unreadable)
    AS rest (relation, left_over, left_unreadable) ON rest.relation = r
  WHERE p.job = worker.job AND p.relation = r AND NOT p.finished;
  moment := clock_timestamp();
  UPDATE prism_crypt.job AS j
  SET state = CASE
        WHEN EXISTS (SELECT FROM prism_crypt.job_part AS p
                     WHERE p.job = j.id AND (p.left_over > 0 OR p.left_unreadable > 0)) THEN 'incomplete'
        ELSE 'finished' END,
      updated_at = moment, finished_at = moment
  WHERE j.id = worker.job AND j.state IN ('running', 'paused')
    -- A partition that was dropped meanwhile has nothing left.
    AND NOT EXISTS (SELECT FROM prism_crypt.job_part AS p JOIN pg_class AS c ON c.oid = p.relation
                    WHERE p.job = j.id AND NOT p.finished);
  IF FOUND THEN
    DELETE FROM prism_crypt.job_worker AS w
    WHERE w.job = worker.job AND (w.pid = worker.pid OR NOT prism_crypt._is_working(w.pid, w.started));
    PERFORM prism_crypt._drop_older_jobs(worker.job);
  END IF;
END $$;
COMMENT ON FUNCTION prism_crypt._finish_parts(uuid, regclass[], regclass[], bigint[], bigint[]) IS
  'Ends tables of a job. Internal';

-- Ends this session's work on a job: where it is not over and nobody else works on it, the next call goes on with it.
CREATE FUNCTION prism_crypt._leave_job(token uuid, error text, outcome text) RETURNS void
  LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
  worker prism_crypt.job_worker := prism_crypt._worker(token);
BEGIN
  IF worker.job IS NULL THEN
    RETURN;
  END IF;
  -- Nobody has to wait for what this session had taken.
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
