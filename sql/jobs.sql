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
    FOR UPDATE;
    EXIT WHEN found_id IS NOT NULL;
    INSERT INTO prism_crypt.job (kind, relation, column_name, from_version, keyset, reason)
    VALUES (_open_job.kind, _open_job.relation, _open_job.column_name, _open_job.from_version, _open_job.keyset,
            _open_job.reason)
    ON CONFLICT DO NOTHING;
  END LOOP;
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
--   wait       others still work on this pass
--   paused     waits until somebody resumes the job
--   cancelled  stops
--   retry      a new pass began after one that got no further: waits a little first
--   done       nothing is left that could be done; has_rest: maybe something that can't
CREATE FUNCTION prism_crypt._claim_range(
  job bigint, relation regclass,
  OUT action text, OUT range_id bigint, OUT place tid, OUT end_block bigint, OUT has_rest boolean
) LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
  -- Passes in a row that get no further, before what is left is reported.
  max_fruitless CONSTANT integer := 10;
  part prism_crypt.job_part;
  blocks bigint := pg_relation_size(_claim_range.relation) / current_setting('block_size')::bigint;
  waiting boolean;
BEGIN
  PERFORM prism_crypt._require_update(_claim_range.relation);
  SELECT j.state INTO action FROM prism_crypt.job AS j WHERE j.id = _claim_range.job;
  IF NOT FOUND THEN
    RAISE undefined_object USING MESSAGE = format('job %s does not exist', _claim_range.job);
  ELSIF action IN ('paused', 'cancelled') THEN
    RETURN;
  END IF;
  SELECT * INTO part FROM prism_crypt.job_part AS p
  WHERE p.job = _claim_range.job AND p.relation = _claim_range.relation FOR UPDATE;
  IF part.finished THEN
    action := 'done';
    RETURN;
  ELSIF blocks IS NULL THEN
    RAISE undefined_table USING
      MESSAGE = format('relation with OID %s does not exist', _claim_range.relation::oid),
      DETAIL = format('It was dropped while job %s worked on it.', _claim_range.job);
  END IF;
  part.end_block := coalesce(part.end_block, blocks);

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

  IF part.next_block >= part.end_block THEN
    SELECT count(*) > 0 INTO waiting FROM prism_crypt.job_range AS r
    WHERE r.job = _claim_range.job AND r.relation = _claim_range.relation;
    IF waiting THEN
      action := 'wait';
      RETURN;
    END IF;
    -- The pass is over. Only one that found nothing proves that nothing is left: an UPDATE of another column copies old
    -- ciphertext, maybe to a block that the walk has left behind.
    IF part.rows_in_pass = 0 AND NOT part.skipped THEN
      action := 'done';
      has_rest := part.unreadable;
      RETURN;
    END IF;
    -- A trigger that puts old values back makes every pass as long as the one before.
    IF part.rows_in_pass = 0 OR part.pass > 2 AND part.rows_in_pass >= part.rows_in_last THEN
      part.fruitless := part.fruitless + 1;
    ELSE
      part.fruitless := 0;
    END IF;
    IF part.fruitless > max_fruitless THEN
      action := 'done';
      has_rest := true;
      RETURN;
    END IF;
    UPDATE prism_crypt.job_part AS p
    SET pass = p.pass + 1, next_block = 0, end_block = blocks, rows_in_last = p.rows_in_pass, rows_in_pass = 0,
        skipped = false, unreadable = false, fruitless = part.fruitless, updated_at = clock_timestamp()
    WHERE p.job = _claim_range.job AND p.relation = _claim_range.relation;
    IF part.fruitless > 0 THEN
      action := 'retry';
      RETURN;
    END IF;
    part.next_block := 0;
    part.end_block := blocks;
  END IF;

  -- Small enough to share a table evenly, and so large that taking one costs nothing beside working on it.
  end_block := least(part.next_block + least(greatest(part.end_block / 32, 128), 8192), part.end_block);
  INSERT INTO prism_crypt.job_range (job, relation, place, end_block, worker_pid, worker_started)
  VALUES (_claim_range.job, _claim_range.relation, prism_crypt._tid(part.next_block), _claim_range.end_block,
          pg_backend_pid(), statement_timestamp())
  RETURNING id, job_range.place INTO range_id, place;
  UPDATE prism_crypt.job_part AS p
  SET next_block = _claim_range.end_block, end_block = part.end_block, updated_at = clock_timestamp()
  WHERE p.job = _claim_range.job AND p.relation = _claim_range.relation;
  action := 'range';
END $$;
COMMENT ON FUNCTION prism_crypt._claim_range(bigint, regclass) IS 'What a worker does next. Internal';

-- Records a batch in its own transaction; gives the state of the job. A range that is done counts for its part.
CREATE FUNCTION prism_crypt._advance_range(
  range_id bigint, place tid, rows_done bigint, busy_seconds double precision, skipped boolean, unreadable boolean
) RETURNS text
  LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
  changed prism_crypt.job_range;
BEGIN
  UPDATE prism_crypt.job_range AS r
  SET place = _advance_range.place, rows_done = r.rows_done + _advance_range.rows_done,
      busy_seconds = r.busy_seconds + _advance_range.busy_seconds, skipped = r.skipped OR _advance_range.skipped,
      unreadable = r.unreadable OR _advance_range.unreadable, updated_at = clock_timestamp()
  WHERE r.id = range_id AND r.worker_pid = pg_backend_pid()
  RETURNING * INTO changed;
  IF NOT FOUND THEN
    RAISE object_not_in_prerequisite_state USING
      MESSAGE = format('range %s is not this session''s any more', range_id);
  END IF;
  IF changed.place >= prism_crypt._tid(changed.end_block) THEN
    DELETE FROM prism_crypt.job_range AS r WHERE r.id = range_id;
    UPDATE prism_crypt.job_part AS p
    SET rows_in_pass = p.rows_in_pass + changed.rows_done, rows_done = p.rows_done + changed.rows_done,
        busy_seconds = p.busy_seconds + changed.busy_seconds, skipped = p.skipped OR changed.skipped,
        unreadable = p.unreadable OR changed.unreadable, updated_at = clock_timestamp()
    WHERE p.job = changed.job AND p.relation = changed.relation;
  END IF;
  RETURN (SELECT j.state FROM prism_crypt.job AS j WHERE j.id = changed.job);
END $$;
COMMENT ON FUNCTION prism_crypt._advance_range(bigint, tid, bigint, double precision, boolean, boolean) IS
  'Records a batch of a worker. Internal';

-- Records rows that were not found by a walk.
CREATE FUNCTION prism_crypt._count_rows(job bigint, relation regclass, rows_done bigint, busy_seconds double precision)
  RETURNS text
  LANGUAGE sql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
  UPDATE prism_crypt.job_part AS p
  SET rows_done = p.rows_done + $3, busy_seconds = p.busy_seconds + $4, updated_at = clock_timestamp()
  WHERE p.job = $1 AND p.relation = $2;
  SELECT state FROM prism_crypt.job WHERE id = $1
$$;
COMMENT ON FUNCTION prism_crypt._count_rows(bigint, regclass, bigint, double precision) IS
  'Records a batch that an index found; gives the state of the job. Internal';

CREATE FUNCTION prism_crypt._job_state(job bigint) RETURNS text
  LANGUAGE sql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
  SELECT state FROM prism_crypt.job WHERE id = $1
$$;
COMMENT ON FUNCTION prism_crypt._job_state(bigint) IS 'The state of a job. Internal';

-- Ends a part. Without numbers of what is left, nothing is.
CREATE FUNCTION prism_crypt._finish_part(job bigint, relation regclass, left_over bigint, left_unreadable bigint)
  RETURNS void
  LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
BEGIN
  PERFORM prism_crypt._require_update(_finish_part.relation);
  -- Before the part: claims take the locks in this order too.
  PERFORM FROM prism_crypt.job AS j WHERE j.id = _finish_part.job FOR UPDATE;
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
    DELETE FROM prism_crypt.job_worker AS w WHERE w.job = _finish_part.job;
    -- Of calls that found nothing to do, one a target is kept: a call every minute must not fill the table.
    DELETE FROM prism_crypt.job AS old USING prism_crypt.job AS new
    WHERE new.id = _finish_part.job AND old.id < new.id AND old.state = 'finished' AND new.state = 'finished'
      AND old.kind = new.kind AND old.relation = new.relation
      AND old.column_name IS NOT DISTINCT FROM new.column_name
      AND old.from_version IS NOT DISTINCT FROM new.from_version AND old.keyset IS NOT DISTINCT FROM new.keyset
      AND NOT EXISTS (SELECT FROM prism_crypt.job_part AS p WHERE p.job IN (old.id, new.id) AND p.rows_done > 0);
  END IF;
END $$;
COMMENT ON FUNCTION prism_crypt._finish_part(bigint, regclass, bigint, bigint) IS 'Ends one table of a job. Internal';

-- Stops work on a job. The next call goes on with it.
CREATE FUNCTION prism_crypt._leave_job(job bigint, error text) RETURNS void
  LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
BEGIN
  -- Nobody has to wait for what this session had taken.
  UPDATE prism_crypt.job_range AS r SET worker_started = '-infinity'
  WHERE r.job = _leave_job.job AND r.worker_pid = pg_backend_pid();
  DELETE FROM prism_crypt.job_worker AS w WHERE w.job = _leave_job.job AND w.pid = pg_backend_pid();
  UPDATE prism_crypt.job AS j
  SET state = CASE WHEN _leave_job.error IS NULL THEN 'pending' ELSE 'failed' END, error = _leave_job.error,
      updated_at = clock_timestamp()
  WHERE j.id = _leave_job.job AND j.state = 'running'
    AND NOT EXISTS (SELECT FROM prism_crypt.job_worker AS w
                    WHERE w.job = j.id AND prism_crypt._is_working(w.pid, w.started));
END $$;
COMMENT ON FUNCTION prism_crypt._leave_job(bigint, text) IS 'Stops this session''s work on a job. Internal';
