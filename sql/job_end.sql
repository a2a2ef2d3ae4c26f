-- How jobs end: checks, further passes, what is left, and sessions that leave.

-- What a worker does that has found every range taken:
--   walk       goes on: there is something to take again
--   wait       others still work on ranges, or one of them checks
--   check      looks itself whether anything is left
--   paused, cancelled, over: as for _claim_range()
CREATE FUNCTION prism_crypt._claim_check(job bigint, relations regclass[]) RETURNS text
  LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
  found_job prism_crypt.job;
  state text := prism_crypt._job_state(_claim_check.job);
BEGIN
  PERFORM prism_crypt._require_update_of_job(_claim_check.job);
  IF state IN ('paused', 'cancelled', 'over') THEN
    RETURN state;
  END IF;
  SELECT * INTO found_job FROM prism_crypt.job AS j WHERE j.id = _claim_check.job FOR NO KEY UPDATE;
  IF EXISTS (SELECT FROM prism_crypt.job_range AS r
             WHERE r.job = _claim_check.job AND r.relation = ANY (relations)
               AND NOT prism_crypt._is_working(r.worker_pid, r.worker_started))
     OR EXISTS (SELECT FROM prism_crypt.job_part AS p JOIN pg_class AS c ON c.oid = p.relation
                WHERE p.job = _claim_check.job AND p.relation = ANY (relations)
                  AND (p.end_block IS NULL OR p.next_block < p.end_block)) THEN
    RETURN 'walk';
  ELSIF EXISTS (SELECT FROM prism_crypt.job_range AS r
                WHERE r.job = _claim_check.job AND r.relation = ANY (relations))
     OR prism_crypt._is_working(found_job.checker_pid, found_job.checker_started)
        AND found_job.checker_pid <> pg_backend_pid() THEN
    RETURN 'wait';
  END IF;
  UPDATE prism_crypt.job AS j SET checker_pid = pg_backend_pid(), checker_started = statement_timestamp()
  WHERE j.id = _claim_check.job;
  RETURN 'check';
END $$;
COMMENT ON FUNCTION prism_crypt._claim_check(bigint, regclass[]) IS 'What a worker does when every range is taken. Internal';

-- After a check: tables that have something left are walked again, until they have got no further too often. Gives null
-- where the job can end, otherwise the seconds to wait before the next walk.
CREATE FUNCTION prism_crypt._walk_again(job bigint, relations regclass[]) RETURNS double precision
  LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
  max_fruitless CONSTANT integer := 10;
  reopened integer;
  moved boolean;
BEGIN
  PERFORM prism_crypt._require_update(r) FROM unnest(relations) AS r;
  PERFORM FROM prism_crypt.job AS j WHERE j.id = _walk_again.job FOR NO KEY UPDATE;
  WITH again AS (
    UPDATE prism_crypt.job_part AS p
    SET pass = p.pass + 1, next_block = 0, end_block = NULL, rows_in_last = p.rows_in_pass, rows_in_pass = 0,
        updated_at = clock_timestamp(),
        -- A trigger that puts old values back makes every pass as long as the one before.
        fruitless = p.fruitless + (
          p.pass > 0 AND p.rows_in_pass = 0 OR p.pass > 1 AND p.rows_in_pass * 2 > p.rows_in_last)::integer
    WHERE p.job = _walk_again.job AND p.relation = ANY (relations) AND p.fruitless < max_fruitless
    RETURNING p.pass = 1 OR p.rows_in_last > 0 AS moved
  )
  SELECT count(*), bool_or(a.moved) INTO reopened, moved FROM again AS a;
  UPDATE prism_crypt.job AS j SET checker_pid = NULL, checker_started = NULL
  WHERE j.id = _walk_again.job AND reopened > 0;
  RETURN CASE WHEN reopened = 0 THEN NULL WHEN moved THEN 0 ELSE 0.5 END;
END $$;
COMMENT ON FUNCTION prism_crypt._walk_again(bigint, regclass[]) IS 'Begins the next pass over tables. Internal';

-- Ends a part. Without numbers of what is left, nothing is.
CREATE FUNCTION prism_crypt._finish_part(job bigint, relation regclass, left_over bigint, left_unreadable bigint)
  RETURNS void
  LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
  moment timestamptz;
BEGIN
  PERFORM prism_crypt._require_update(_finish_part.relation);
  -- Not FOR UPDATE, which foreign-key checks of other workers would wait for.
  PERFORM FROM prism_crypt.job AS j WHERE j.id = _finish_part.job FOR NO KEY UPDATE;
  UPDATE prism_crypt.job_part AS p
  SET finished = true, left_over = coalesce(_finish_part.left_over, 0),
      left_unreadable = coalesce(_finish_part.left_unreadable, 0), updated_at = clock_timestamp()
  WHERE p.job = _finish_part.job AND p.relation = _finish_part.relation AND NOT p.finished;
  moment := clock_timestamp();
  UPDATE prism_crypt.job AS j
  SET state = CASE
        WHEN EXISTS (SELECT FROM prism_crypt.job_part AS p
                     WHERE p.job = j.id AND (p.left_over > 0 OR p.left_unreadable > 0)) THEN 'incomplete'
        ELSE 'finished' END,
      updated_at = moment, finished_at = moment
  WHERE j.id = _finish_part.job AND j.state IN ('running', 'paused')
    -- A partition that was dropped meanwhile has nothing left.
    AND NOT EXISTS (SELECT FROM prism_crypt.job_part AS p JOIN pg_class AS c ON c.oid = p.relation
                    WHERE p.job = j.id AND NOT p.finished);
  IF FOUND THEN
    DELETE FROM prism_crypt.job_worker AS w
    WHERE w.job = _finish_part.job AND (w.pid = pg_backend_pid() OR NOT prism_crypt._is_working(w.pid, w.started));
    -- Of calls that found nothing to do, one a target is kept: a call every minute must not fill the table.
    DELETE FROM prism_crypt.job AS old USING prism_crypt.job AS new
    WHERE new.id = _finish_part.job AND old.id < new.id
      AND NOT EXISTS (SELECT FROM prism_crypt.job_worker AS w
                      WHERE w.job = old.id AND prism_crypt._is_working(w.pid, w.started))
      AND old.state = 'finished' AND new.state = 'finished'
      AND old.kind = new.kind AND old.relation = new.relation
      AND old.column_name IS NOT DISTINCT FROM new.column_name
      AND old.from_version IS NOT DISTINCT FROM new.from_version AND old.keyset IS NOT DISTINCT FROM new.keyset
      AND NOT EXISTS (SELECT FROM prism_crypt.job_part AS p WHERE p.job IN (old.id, new.id) AND p.rows_done > 0);
  END IF;
END $$;
COMMENT ON FUNCTION prism_crypt._finish_part(bigint, regclass, bigint, bigint) IS 'Ends one table of a job. Internal';

-- Ends this session's work on a job: where it is not over and nobody else works on it, the next call goes on with it.
CREATE FUNCTION prism_crypt._leave_job(job bigint, error text, outcome text) RETURNS void
  LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
BEGIN
  PERFORM prism_crypt._require_update_of_job(_leave_job.job);
  -- Nobody has to wait for what this session had taken.
  UPDATE prism_crypt.job_range AS r SET worker_started = '-infinity'
  WHERE r.job = _leave_job.job AND r.worker_pid = pg_backend_pid();
  DELETE FROM prism_crypt.job_worker AS w WHERE w.job = _leave_job.job AND w.pid = pg_backend_pid();
  UPDATE prism_crypt.job AS j
  SET state = CASE WHEN _leave_job.error IS NULL THEN 'pending' ELSE 'failed' END, error = _leave_job.error,
      checker_pid = NULL, checker_started = NULL, updated_at = clock_timestamp()
  WHERE j.id = _leave_job.job AND j.state = 'running' AND _leave_job.outcome IS NOT NULL
    AND NOT EXISTS (SELECT FROM prism_crypt.job_worker AS w
                    WHERE w.job = j.id AND prism_crypt._is_working(w.pid, w.started));
  IF prism_crypt._job_state(_leave_job.job) = 'cancelled' THEN
    PERFORM prism_crypt._drop_ranges(_leave_job.job);
  END IF;
END $$;
COMMENT ON FUNCTION prism_crypt._leave_job(bigint, text, text) IS 'Ends this session''s work on a job. Internal';
