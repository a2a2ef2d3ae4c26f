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

CREATE FUNCTION prism_crypt._require_update_of_job(job bigint) RETURNS void
  LANGUAGE sql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
  SELECT prism_crypt._require_update(j.relation) FROM prism_crypt.job AS j WHERE j.id = $1
$$;
COMMENT ON FUNCTION prism_crypt._require_update_of_job(bigint) IS
  'Raises an error unless the caller may update the table of a job. Internal';

-- Takes back ranges that nobody works on. What was done in them counts.
CREATE FUNCTION prism_crypt._drop_ranges(job bigint) RETURNS void
  LANGUAGE sql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
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
  -- Small enough to share a table evenly and to stay in memory between two stripes, and so large that taking one costs
  -- nothing beside working on it: 1 to 16 MiB with blocks of 8 KiB.
  end_block := least(part.next_block + least(greatest(part.end_block / 32, 128), 2048), part.end_block);
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

-- Records a batch in its own transaction; gives the state of the job. A range that is done counts for its part.
CREATE FUNCTION prism_crypt._advance_range(
  range_id bigint, place tid, share_done double precision, rows_done bigint, busy_seconds double precision
) RETURNS text
  LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
  changed prism_crypt.job_range;
BEGIN
  UPDATE prism_crypt.job_range AS r
  SET place = _advance_range.place, share_done = _advance_range.share_done, rows_done = r.rows_done + _advance_range.rows_done,
      busy_seconds = r.busy_seconds + _advance_range.busy_seconds, updated_at = clock_timestamp()
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
        busy_seconds = p.busy_seconds + changed.busy_seconds, updated_at = clock_timestamp()
    WHERE p.job = changed.job AND p.relation = changed.relation;
  END IF;
  RETURN prism_crypt._job_state(changed.job);
END $$;
COMMENT ON FUNCTION prism_crypt._advance_range(bigint, tid, double precision, bigint, double precision) IS
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
  PERFORM prism_crypt._drop_ranges(_skip_walk.job);
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
