-- What workers do with jobs: open one, take ranges, record batches, end parts.
--
-- The tables of jobs are nobody's, so these functions write for their callers, and believe them nothing. Whoever opens a job
-- is noted before the rights change (_note_caller), and gets a token: a worker of this job, as this role, in this statement of
-- this session. Every step shows it, asks for UPDATE on the table again, and touches only what this worker took. A token that
-- is not known gets `over`, as a job gets that was deleted.

CREATE FUNCTION prism_crypt._is_working(worker_pid integer, worker_started timestamptz) RETURNS boolean
  LANGUAGE sql VOLATILE STRICT SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
  -- With track_activities off, a session says nothing of its statements: then it counts as working while it lives.
  SELECT EXISTS (
    SELECT FROM pg_stat_get_activity($1) AS a
    WHERE a.state = 'disabled' OR a.state = 'active' AND a.query_start = $2)
$$;
COMMENT ON FUNCTION prism_crypt._is_working(integer, timestamptz) IS
  'Whether a worker still runs the statement it began with. Internal';

CREATE FUNCTION prism_crypt._note_caller() RETURNS bigint
  LANGUAGE c VOLATILE AS 'MODULE_PATHNAME', '_note_caller_wrapper';
COMMENT ON FUNCTION prism_crypt._note_caller() IS
  'Notes the current role for a function with its owner''s rights, among whose arguments this is called. Internal';

CREATE FUNCTION prism_crypt._caller(note bigint) RETURNS oid
  LANGUAGE c VOLATILE AS 'MODULE_PATHNAME', '_caller_wrapper';
COMMENT ON FUNCTION prism_crypt._caller(bigint) IS 'The role that _note_caller() noted, once. Internal';

CREATE FUNCTION prism_crypt._bound_waits() RETURNS void
  LANGUAGE c VOLATILE AS 'MODULE_PATHNAME', '_bound_waits_wrapper';
COMMENT ON FUNCTION prism_crypt._bound_waits() IS
  'Makes this transaction wait five seconds for a lock, or as long as lock_timeout says if that is less. Internal';

CREATE FUNCTION prism_crypt._require_update(role oid, relation regclass) RETURNS void
  LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
  -- Null: the table is gone.
  IF NOT has_any_column_privilege(role, relation::oid, 'UPDATE') THEN
    RAISE insufficient_privilege USING
      MESSAGE = format('permission denied for table %s', prism_crypt._qualified_name(relation));
  END IF;
END $$;
COMMENT ON FUNCTION prism_crypt._require_update(oid, regclass) IS
  'Raises an error unless a role may update a table. Internal';

CREATE FUNCTION prism_crypt._require_number(parameter text, value double precision, highest double precision) RETURNS void
  LANGUAGE plpgsql IMMUTABLE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
  -- NaN is greater than any number.
  IF value IS NULL OR value < 0 OR value > highest THEN
    RAISE invalid_parameter_value USING
      MESSAGE = format('%s must be between %s and %s', parameter, 0, highest);
  END IF;
END $$;
COMMENT ON FUNCTION prism_crypt._require_number(text, double precision, double precision) IS
  'Raises an error for a number that no worker can mean. Internal';

-- The worker of this session that has this token; null where there is none.
CREATE FUNCTION prism_crypt._worker(token uuid) RETURNS prism_crypt.job_worker
  LANGUAGE sql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
  SELECT w FROM prism_crypt.job_worker AS w
  WHERE w.token = $1 AND w.pid = pg_backend_pid() AND w.started = statement_timestamp()
$$;
COMMENT ON FUNCTION prism_crypt._worker(uuid) IS 'A worker of this session, by its token. Internal';

CREATE FUNCTION prism_crypt._state_of_job(job bigint) RETURNS text
  LANGUAGE sql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
  SELECT coalesce((
    SELECT CASE WHEN state IN ('finished', 'incomplete') THEN 'over' ELSE state END
    FROM prism_crypt.job WHERE id = $1), 'over')
$$;
COMMENT ON FUNCTION prism_crypt._state_of_job(bigint) IS 'The state of a job; over where it ended or is gone. Internal';

CREATE FUNCTION prism_crypt._job_state(token uuid) RETURNS text
  LANGUAGE sql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
  SELECT prism_crypt._state_of_job((prism_crypt._worker($1)).job)
$$;
COMMENT ON FUNCTION prism_crypt._job_state(uuid) IS 'The state of a worker''s job. Internal';

-- Takes back ranges that nobody works on. What was done in them counts.
CREATE FUNCTION prism_crypt._drop_ranges(job bigint) RETURNS void
  LANGUAGE sql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
  WITH gone AS (
    DELETE FROM prism_crypt.job_range AS r
    WHERE r.job = $1 AND NOT prism_crypt._is_working(r.worker_pid, r.worker_started)
    RETURNING r.relation, r.rows_done, r.busy_seconds
  )
  UPDATE prism_crypt.job_part AS p
  SET rows_done = p.rows_done + g.rows_done, rows_in_pass = p.rows_in_pass + g.rows_done,
      busy_seconds = p.busy_seconds + g.busy_seconds
  FROM (SELECT relation, sum(rows_done) AS rows_done, sum(busy_seconds) AS busy_seconds FROM gone GROUP BY relation) AS g
  WHERE p.job = $1 AND p.relation = g.relation
$$;
COMMENT ON FUNCTION prism_crypt._drop_ranges(bigint) IS 'Takes back ranges that nobody works on. Internal';

-- Gives a job the parts that its table has now. One that was detached since the last call is not a part any more.
CREATE FUNCTION prism_crypt._set_parts(job bigint, parts regclass[]) RETURNS void
  LANGUAGE sql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
  DELETE FROM prism_crypt.job_part AS p
  WHERE p.job = $1 AND NOT EXISTS (SELECT FROM unnest($2) AS r WHERE r = p.relation)
    AND NOT EXISTS (SELECT FROM prism_crypt.job_worker AS w
                    WHERE w.job = $1 AND prism_crypt._is_working(w.pid, w.started));
  INSERT INTO prism_crypt.job_part (job, relation)
  SELECT $1, r FROM unnest($2) AS r
  WHERE NOT EXISTS (SELECT FROM prism_crypt.job_part AS p WHERE p.job = $1 AND p.relation = r)
  ON CONFLICT DO NOTHING;
$$;
COMMENT ON FUNCTION prism_crypt._set_parts(bigint, regclass[]) IS 'Makes these tables the parts of a job. Internal';

-- Finds the open rotation of this identity, or makes it; then it is running, unless somebody paused it. Also gives the tables
-- that are its parts: the caller does not say, but the catalogs.
CREATE FUNCTION prism_crypt._start_job(
  relation regclass, column_name name, from_version integer, keyset text, note bigint,
  OUT job bigint, OUT token uuid, OUT parts regclass[]
) LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
  role CONSTANT oid := prism_crypt._caller(note);
BEGIN
  PERFORM prism_crypt._check_rotatable_table(relation), prism_crypt._check_rotatable_column(relation, column_name),
    prism_crypt._check_rotation_scope(from_version, keyset);
  parts := prism_crypt._rotation_parts(relation, column_name);
  PERFORM prism_crypt._require_update(role, relation);
  PERFORM prism_crypt._require_update(role, part) FROM unnest(parts) AS part;
  LOOP
    SELECT j.id INTO job FROM prism_crypt.job AS j
    WHERE j.kind = 'rotation' AND j.relation = _start_job.relation
      AND coalesce(j.column_name, '') = coalesce(_start_job.column_name, '')
      AND coalesce(j.from_version, 0) = coalesce(_start_job.from_version, 0)
      AND coalesce(j.keyset, '') = coalesce(_start_job.keyset, '')
      AND j.state IN ('pending', 'running', 'paused', 'failed')
    FOR NO KEY UPDATE;
    EXIT WHEN job IS NOT NULL;
    INSERT INTO prism_crypt.job (kind, relation, column_name, from_version, keyset, owner)
    VALUES ('rotation', _start_job.relation, _start_job.column_name, _start_job.from_version, _start_job.keyset, role)
    ON CONFLICT DO NOTHING;
  END LOOP;
  PERFORM prism_crypt._set_parts(job, parts);
  token := gen_random_uuid();
  INSERT INTO prism_crypt.job_worker AS w (job, pid, started, token, role)
  VALUES (job, pg_backend_pid(), statement_timestamp(), token, role)
  ON CONFLICT ON CONSTRAINT job_worker_pkey DO UPDATE
  SET started = excluded.started, token = excluded.token, role = excluded.role;
  UPDATE prism_crypt.job AS j
  SET state = 'running', error = NULL, started_at = coalesce(j.started_at, clock_timestamp()),
      updated_at = clock_timestamp()
  WHERE j.id = _start_job.job AND j.state <> 'paused';
END $$;
COMMENT ON FUNCTION prism_crypt._start_job(regclass, name, integer, text, bigint) IS
  'Makes this session a worker of the open rotation of a target, made where there is none. Internal';

-- For emergency_rotation(), which asks for every table. Where there is an open job, that is it.
CREATE FUNCTION prism_crypt._queue_job(relation regclass, reason text) RETURNS void
  LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
  new_id bigint;
BEGIN
  INSERT INTO prism_crypt.job (kind, relation, reason)
  VALUES ('rotation', _queue_job.relation, _queue_job.reason) ON CONFLICT DO NOTHING RETURNING id INTO new_id;
  IF new_id IS NOT NULL THEN
    PERFORM prism_crypt._set_parts(new_id, prism_crypt._rotation_parts(_queue_job.relation, NULL));
  END IF;
END $$;
COMMENT ON FUNCTION prism_crypt._queue_job(regclass, text) IS 'Asks for the rotation of a table. Internal';

-- What a worker does next on a part of its job:
--   range      works on the range it is given
--   walked     goes on to the next part: every range of this one is taken
--   paused     waits until somebody resumes the job
--   cancelled  stops
--   over       stops: others ended the job
CREATE FUNCTION prism_crypt._claim_range(
  token uuid, relation regclass, OUT action text, OUT range_id bigint, OUT place tid, OUT end_block bigint
) LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
  worker prism_crypt.job_worker := prism_crypt._worker(token);
  part prism_crypt.job_part;
  blocks bigint;
BEGIN
  action := prism_crypt._state_of_job(worker.job);
  IF action IN ('paused', 'cancelled', 'over') THEN
    RETURN;
  END IF;
  PERFORM prism_crypt._require_update(worker.role, _claim_range.relation);
  blocks := pg_relation_size(_claim_range.relation) / current_setting('block_size')::bigint;
  SELECT * INTO part FROM prism_crypt.job_part AS p
  WHERE p.job = worker.job AND p.relation = _claim_range.relation FOR NO KEY UPDATE;
  IF blocks IS NULL THEN
    RAISE undefined_table USING
      MESSAGE = format('relation with OID %s does not exist', _claim_range.relation::oid),
      DETAIL = format('It was dropped while job %s worked on it.', worker.job);
  ELSIF NOT FOUND THEN
    action := 'over';
    RETURN;
  END IF;

  -- What a worker left that died or gave up.
  SELECT r.id, r.place, r.end_block INTO range_id, place, end_block
  FROM prism_crypt.job_range AS r
  WHERE r.job = worker.job AND r.relation = _claim_range.relation
    AND NOT prism_crypt._is_working(r.worker_pid, r.worker_started)
  ORDER BY r.id LIMIT 1 FOR UPDATE SKIP LOCKED;
  IF FOUND THEN
    UPDATE prism_crypt.job_range AS r
    SET worker_pid = worker.pid, worker_started = worker.started, updated_at = clock_timestamp()
    WHERE r.id = range_id;
    action := 'range';
    RETURN;
  END IF;

  part.end_block := coalesce(part.end_block, blocks);
  -- Small enough to share a table evenly and to stay in memory between two stripes, and so large that taking one costs
  -- nothing beside working on it: 1 to 16 MiB with blocks of 8 KiB.
  end_block := least(part.next_block + least(greatest(part.end_block / 32, 128), 2048), part.end_block);
  UPDATE prism_crypt.job_part AS p
  SET next_block = _claim_range.end_block, end_block = part.end_block, updated_at = clock_timestamp()
  WHERE p.job = worker.job AND p.relation = _claim_range.relation;
  IF part.next_block >= end_block THEN
    action := 'walked';
    RETURN;
  END IF;
  INSERT INTO prism_crypt.job_range (job, relation, place, end_block, worker_pid, worker_started)
  VALUES (worker.job, _claim_range.relation, prism_crypt._tid(part.next_block), _claim_range.end_block,
          worker.pid, worker.started)
  RETURNING id, job_range.place INTO range_id, place;
  action := 'range';
END $$;
COMMENT ON FUNCTION prism_crypt._claim_range(uuid, regclass) IS 'What a worker does next on a table. Internal';
