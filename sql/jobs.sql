-- What workers do with jobs: open one, take ranges, record batches, end parts.

CREATE FUNCTION prism_crypt._is_working(worker_pid integer, worker_started timestamptz) RETURNS boolean
  LANGUAGE sql VOLATILE STRICT SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
  -- With track_activities off, a session says nothing of its statements: then it counts as working while it lives.
  SELECT EXISTS (
    SELECT FROM pg_stat_get_activity($1) AS a
    WHERE a.state = 'disabled' OR a.state = 'active' AND a.query_start = $2)
$$;
COMMENT ON FUNCTION prism_crypt._is_working(integer, timestamptz) IS
  'Whether a worker still runs the statement it began with. Internal';

CREATE FUNCTION prism_crypt._caller() RETURNS oid
  LANGUAGE c STABLE AS 'MODULE_PATHNAME', '_caller_wrapper';
COMMENT ON FUNCTION prism_crypt._caller() IS 'The current role as it is outside of SECURITY DEFINER functions. Internal';

-- These functions write for the caller to tables that nobody else may write to.
CREATE FUNCTION prism_crypt._require_update(relation regclass) RETURNS void
  LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
  -- Null: the table is gone.
  IF NOT has_any_column_privilege(prism_crypt._caller(), relation::oid, 'UPDATE') THEN
    RAISE insufficient_privilege USING
      MESSAGE = format('permission denied for table %s', prism_crypt._qualified_name(relation));
  END IF;
END $$;
COMMENT ON FUNCTION prism_crypt._require_update(regclass) IS
  'Raises an error unless the caller may update a table. Internal';

-- Finds the open job of this identity, or makes it; then it is running, unless somebody paused it.
CREATE FUNCTION prism_crypt._open_job(
  kind text, relation regclass, column_name name, from_version integer, keyset text, parts regclass[], reason text,
  start boolean
) RETURNS bigint
  LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
  found_id bigint;
BEGIN
  LOOP
    SELECT j.id INTO found_id FROM prism_crypt.job AS j
    WHERE j.kind = _open_job.kind AND j.relation = _open_job.relation
      AND coalesce(j.column_name, '') = coalesce(_open_job.column_name, '')
      AND coalesce(j.from_version, 0) = coalesce(_open_job.from_version, 0)
      AND coalesce(j.keyset, '') = coalesce(_open_job.keyset, '')
      AND j.state IN ('pending', 'running', 'paused', 'failed')
    FOR NO KEY UPDATE;
    EXIT WHEN found_id IS NOT NULL;
    INSERT INTO prism_crypt.job (kind, relation, column_name, from_version, keyset, reason)
    VALUES (_open_job.kind, _open_job.relation, _open_job.column_name, _open_job.from_version, _open_job.keyset,
            _open_job.reason)
    ON CONFLICT DO NOTHING;
  END LOOP;
  -- A partition that was detached since the last call is not a part any more.
  DELETE FROM prism_crypt.job_part AS p
  WHERE p.job = found_id AND p.relation <> ALL (_open_job.parts)
    AND NOT EXISTS (SELECT FROM prism_crypt.job_worker AS w
                    WHERE w.job = found_id AND prism_crypt._is_working(w.pid, w.started));
  INSERT INTO prism_crypt.job_part (job, relation) SELECT found_id, part FROM unnest(_open_job.parts) AS part
  ON CONFLICT DO NOTHING;
  IF NOT _open_job.start THEN
    RETURN found_id;
  END IF;
  PERFORM prism_crypt._require_update(part) FROM unnest(_open_job.parts) AS part;
  INSERT INTO prism_crypt.job_worker (job, pid, started) VALUES (found_id, pg_backend_pid(), statement_timestamp())
  ON CONFLICT (job, pid) DO UPDATE SET started = excluded.started;
  UPDATE prism_crypt.job AS j
  SET state = 'running', error = NULL, started_at = coalesce(j.started_at, clock_timestamp()),
      updated_at = clock_timestamp()
  WHERE j.id = found_id AND j.state <> 'paused';
  RETURN found_id;
END $$;
COMMENT ON FUNCTION prism_crypt._open_job(text, regclass, name, integer, text, regclass[], text, boolean) IS
  'The open job of this kind and target, made where there is none. Internal';

-- What a worker does next on a part of a job:
--   range      works on the range it is given
--   walked     goes on to the next part: every range of this one is taken
--   paused     waits until somebody resumes the job
--   cancelled  stops
--   over       stops: others ended the job
CREATE FUNCTION prism_crypt._claim_range(
  job bigint, relation regclass, OUT action text, OUT range_id bigint, OUT place tid, OUT end_block bigint
) LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
  part prism_crypt.job_part;
  blocks bigint := pg_relation_size(_claim_range.relation) / current_setting('block_size')::bigint;
BEGIN
  PERFORM prism_crypt._require_update(_claim_range.relation);
  action := prism_crypt._job_state(_claim_range.job);
  IF action IN ('paused', 'cancelled', 'over') THEN
    RETURN;
  END IF;
  SELECT * INTO part FROM prism_crypt.job_part AS p
  WHERE p.job = _claim_range.job AND p.relation = _claim_range.relation FOR NO KEY UPDATE;
  IF blocks IS NULL THEN
    RAISE undefined_table USING
      MESSAGE = format('relation with OID %s does not exist', _claim_range.relation::oid),
      DETAIL = format('It was dropped while job %s worked on it.', _claim_range.job);
  END IF;

  -- What a worker left that died or gave up.
  SELECT r.id, r.place, r.end_block INTO range_id, place, end_block
  FROM prism_crypt.job_range AS r
  WHERE r.job = _claim_range.job AND r.relation = _claim_range.relation
    AND NOT prism_crypt._is_working(r.worker_pid, r.worker_started)
  ORDER BY r.id LIMIT 1 FOR UPDATE SKIP LOCKED;
  IF FOUND THEN
    UPDATE prism_crypt.job_range AS r
    SET worker_pid = pg_backend_pid(), worker_started = statement_timestamp(), updated_at = clock_timestamp()
    WHERE r.id = range_id;
    action := 'range';
    RETURN;
  END IF;

  part.end_block := coalesce(part.end_block, blocks);
  -- Small enough to share a table evenly, and so large that taking one costs nothing beside working on it.
  end_block := least(part.next_block + least(greatest(part.end_block / 32, 128), 8192), part.end_block);
  UPDATE prism_crypt.job_part AS p
  SET next_block = _claim_range.end_block, end_block = part.end_block, updated_at = clock_timestamp()
  WHERE p.job = _claim_range.job AND p.relation = _claim_range.relation;
  IF part.next_block >= end_block THEN
    action := 'walked';
    RETURN;
  END IF;
  INSERT INTO prism_crypt.job_range (job, relation, place, end_block, worker_pid, worker_started)
  VALUES (_claim_range.job, _claim_range.relation, prism_crypt._tid(part.next_block), _claim_range.end_block,
          pg_backend_pid(), statement_timestamp())
  RETURNING id, job_range.place INTO range_id, place;
  action := 'range';
END $$;
COMMENT ON FUNCTION prism_crypt._claim_range(bigint, regclass) IS 'What a worker does next on a table. Internal';

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
  IF state IN ('paused', 'cancelled', 'over') THEN
    RETURN state;
  END IF;
  SELECT * INTO found_job FROM prism_crypt.job AS j WHERE j.id = _claim_check.job FOR NO KEY UPDATE;
  IF EXISTS (SELECT FROM prism_crypt.job_range AS r
             WHERE r.job = _claim_check.job AND NOT prism_crypt._is_working(r.worker_pid, r.worker_started))
     OR EXISTS (SELECT FROM prism_crypt.job_part AS p JOIN pg_class AS c ON c.oid = p.relation
                WHERE p.job = _claim_check.job AND p.relation = ANY (relations) AND (p.end_block IS NULL OR p.next_block < p.end_block)) THEN
    RETURN 'walk';
  ELSIF EXISTS (SELECT FROM prism_crypt.job_range AS r WHERE r.job = _claim_check.job)
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
        unreadable = false, updated_at = clock_timestamp(),
        -- A trigger that puts old values back makes every pass as long as the one before.
        fruitless = p.fruitless + (p.pass > 0 AND p.rows_in_pass = 0 OR p.pass > 1 AND p.rows_in_pass * 2 > p.rows_in_last)::integer
    WHERE p.job = _walk_again.job AND p.relation = ANY (relations) AND p.fruitless < max_fruitless
    RETURNING p.pass = 1 OR p.rows_in_last > 0 AS moved
  )
  SELECT count(*), bool_or(a.moved) INTO reopened, moved FROM again AS a;
  UPDATE prism_crypt.job AS j SET checker_pid = NULL, checker_started = NULL
  WHERE j.id = _walk_again.job AND reopened > 0;
  RETURN CASE WHEN reopened = 0 THEN NULL WHEN moved THEN 0 ELSE 0.5 END;
END $$;
COMMENT ON FUNCTION prism_crypt._walk_again(bigint, regclass[]) IS 'Begins the next pass over tables. Internal';

-- Records a batch in its own transaction; gives the state of the job. A range that is done counts for its part.
CREATE FUNCTION prism_crypt._advance_range(
  range_id bigint, place tid, rows_done bigint, busy_seconds double precision, unreadable boolean
) RETURNS text
  LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
  changed prism_crypt.job_range;
BEGIN
  UPDATE prism_crypt.job_range AS r
  SET place = _advance_range.place, rows_done = r.rows_done + _advance_range.rows_done,
      busy_seconds = r.busy_seconds + _advance_range.busy_seconds,
      unreadable = r.unreadable OR _advance_range.unreadable, updated_at = clock_timestamp()
  WHERE r.id = range_id AND r.worker_pid = pg_backend_pid()
  RETURNING * INTO changed;
  IF NOT FOUND THEN
    -- It went with its job.
    RETURN 'over';
  END IF;
  IF changed.place >= prism_crypt._tid(changed.end_block) THEN
    DELETE FROM prism_crypt.job_range AS r WHERE r.id = range_id;
    UPDATE prism_crypt.job_part AS p
    SET rows_in_pass = p.rows_in_pass + changed.rows_done, rows_done = p.rows_done + changed.rows_done,
        busy_seconds = p.busy_seconds + changed.busy_seconds,
        unreadable = p.unreadable OR changed.unreadable, updated_at = clock_timestamp()
    WHERE p.job = changed.job AND p.relation = changed.relation;
  END IF;
  RETURN prism_crypt._job_state(changed.job);
END $$;
COMMENT ON FUNCTION prism_crypt._advance_range(bigint, tid, bigint, double precision, boolean) IS
  'Records a batch of a worker. Internal';

-- Records rows that were found by an index, not by a walk.
CREATE FUNCTION prism_crypt._count_rows(job bigint, relation regclass, rows_done bigint, busy_seconds double precision)
  RETURNS text
  LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
BEGIN
  PERFORM prism_crypt._require_update(_count_rows.relation);
  UPDATE prism_crypt.job_part AS p
  SET rows_done = p.rows_done + _count_rows.rows_done, rows_in_pass = p.rows_in_pass + _count_rows.rows_done,
      busy_seconds = p.busy_seconds + _count_rows.busy_seconds, updated_at = clock_timestamp()
  WHERE p.job = _count_rows.job AND p.relation = _count_rows.relation;
  RETURN prism_crypt._job_state(_count_rows.job);
END $$;
COMMENT ON FUNCTION prism_crypt._count_rows(bigint, regclass, bigint, double precision) IS
  'Records a batch that an index found; gives the state of the job. Internal';

-- An index found all that there is: nothing has to be walked over.
CREATE FUNCTION prism_crypt._skip_walk(job bigint, relation regclass) RETURNS void
  LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
BEGIN
  PERFORM prism_crypt._require_update(_skip_walk.relation);
  DELETE FROM prism_crypt.job_range AS r
  WHERE r.job = _skip_walk.job AND r.relation = _skip_walk.relation
    AND NOT prism_crypt._is_working(r.worker_pid, r.worker_started);
  UPDATE prism_crypt.job_part AS p SET end_block = coalesce(p.end_block, 0), next_block = coalesce(p.end_block, 0)
  WHERE p.job = _skip_walk.job AND p.relation = _skip_walk.relation;
END $$;
COMMENT ON FUNCTION prism_crypt._skip_walk(bigint, regclass) IS 'Ends the walk over a table. Internal';

CREATE FUNCTION prism_crypt._job_state(job bigint) RETURNS text
  LANGUAGE sql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
  SELECT coalesce((
    SELECT CASE WHEN state IN ('finished', 'incomplete') THEN 'over' ELSE state END
    FROM prism_crypt.job WHERE id = $1), 'over')
$$;
COMMENT ON FUNCTION prism_crypt._job_state(bigint) IS 'The state of a job; over where it ended or is gone. Internal';

-- Ends a part. Without numbers of what is left, nothing is.
CREATE FUNCTION prism_crypt._finish_part(job bigint, relation regclass, left_over bigint, left_unreadable bigint)
  RETURNS void
  LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
BEGIN
  PERFORM prism_crypt._require_update(_finish_part.relation);
  -- Not FOR UPDATE, which foreign-key checks of other workers would wait for.
  PERFORM FROM prism_crypt.job AS j WHERE j.id = _finish_part.job FOR NO KEY UPDATE;
  DELETE FROM prism_crypt.job_range AS r WHERE r.job = _finish_part.job AND r.relation = _finish_part.relation;
  UPDATE prism_crypt.job_part AS p
  SET finished = true, left_over = coalesce(_finish_part.left_over, 0),
      left_unreadable = coalesce(_finish_part.left_unreadable, 0), updated_at = clock_timestamp()
  WHERE p.job = _finish_part.job AND p.relation = _finish_part.relation AND NOT p.finished;
  UPDATE prism_crypt.job AS j
  SET state = CASE
        WHEN EXISTS (SELECT FROM prism_crypt.job_part AS p
                     WHERE p.job = j.id AND (p.left_over > 0 OR p.left_unreadable > 0)) THEN 'incomplete'
        ELSE 'finished' END,
      updated_at = clock_timestamp(), finished_at = clock_timestamp()
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
                      WHERE w.job = old.id AND prism_crypt._is_working(w.pid, w.started)) AND old.state = 'finished' AND new.state = 'finished'
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
  DELETE FROM prism_crypt.job_range AS r USING prism_crypt.job AS j
  WHERE j.id = _leave_job.job AND r.job = j.id AND j.state = 'cancelled' AND r.worker_started = '-infinity';
END $$;
COMMENT ON FUNCTION prism_crypt._leave_job(bigint, text, text) IS 'Ends this session''s work on a job. Internal';
