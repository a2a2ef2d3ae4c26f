-- Long work: what is to be done, how far it is, and who works on it. Several sessions may share a job, and any of them may
-- die at any time: a range of blocks belongs to a worker for as long as that worker's statement runs.
--
-- Jobs name tables by oid and describe this server's state, so a dump does not carry them.

CREATE TABLE prism_crypt.job (
  id                 bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  kind               text NOT NULL,
  relation           regclass NOT NULL,
  column_name        name,
  from_version       integer,
  keyset             text,
  state              text NOT NULL DEFAULT 'pending' CHECK (
    state IN ('pending', 'running', 'paused', 'cancelled', 'failed', 'incomplete', 'finished')),
  reason             text,
  error              text,
  created_by         text NOT NULL DEFAULT SESSION_USER,
  created_at         timestamptz NOT NULL DEFAULT pg_catalog.clock_timestamp(),
  started_at         timestamptz,
  updated_at         timestamptz NOT NULL DEFAULT pg_catalog.clock_timestamp(),
  finished_at        timestamptz
);
CREATE UNIQUE INDEX job_open_idx ON prism_crypt.job
  (kind, relation, (coalesce(column_name, '')), (coalesce(from_version, 0)), (coalesce(keyset, '')))
  WHERE state IN ('pending', 'running', 'paused', 'failed');
COMMENT ON TABLE prism_crypt.job IS 'Long work, open and done. prism_crypt.progress shows it';
COMMENT ON COLUMN prism_crypt.job.kind IS 'What is done: rotation';
COMMENT ON COLUMN prism_crypt.job.relation IS 'The table that was named; its partitions and children are parts of the job';
COMMENT ON COLUMN prism_crypt.job.column_name IS 'The column; null is all encrypted columns';
COMMENT ON COLUMN prism_crypt.job.from_version IS 'Only values of this key version; null is all that are not active';
COMMENT ON COLUMN prism_crypt.job.keyset IS 'Only values of this keyset; null is all';
COMMENT ON COLUMN prism_crypt.job.state IS
  'pending, running, paused, failed: a call goes on with it; cancelled, incomplete, finished: it is over';
COMMENT ON COLUMN prism_crypt.job.reason IS 'Why it was asked for';
COMMENT ON COLUMN prism_crypt.job.error IS 'What stopped it last';
COMMENT ON COLUMN prism_crypt.job.created_by IS 'Session user that asked for it';
COMMENT ON COLUMN prism_crypt.job.created_at IS 'When it was asked for';
COMMENT ON COLUMN prism_crypt.job.started_at IS 'When work on it began';
COMMENT ON COLUMN prism_crypt.job.updated_at IS 'When its state last changed';
COMMENT ON COLUMN prism_crypt.job.finished_at IS 'When it was over';

CREATE TABLE prism_crypt.job_part (
  job             bigint NOT NULL REFERENCES prism_crypt.job ON DELETE CASCADE,
  relation        regclass NOT NULL,
  pass            integer NOT NULL DEFAULT 1,
  next_block      bigint NOT NULL DEFAULT 0,
  end_block       bigint,
  rows_in_pass    bigint NOT NULL DEFAULT 0,
  rows_in_last    bigint,
  skipped         boolean NOT NULL DEFAULT false,
  unreadable      boolean NOT NULL DEFAULT false,
  fruitless       integer NOT NULL DEFAULT 0,
  rows_done       bigint NOT NULL DEFAULT 0,
  busy_seconds    double precision NOT NULL DEFAULT 0,
  left_over       bigint,
  left_unreadable bigint,
  finished        boolean NOT NULL DEFAULT false,
  updated_at      timestamptz NOT NULL DEFAULT pg_catalog.clock_timestamp(),
  PRIMARY KEY (job, relation)
);
COMMENT ON TABLE prism_crypt.job_part IS 'One table of a job';
COMMENT ON COLUMN prism_crypt.job_part.job IS 'The job';
COMMENT ON COLUMN prism_crypt.job_part.relation IS 'The table';
COMMENT ON COLUMN prism_crypt.job_part.pass IS 'Which walk over the table this is, from 1';
COMMENT ON COLUMN prism_crypt.job_part.next_block IS 'First block that no worker has taken in this pass';
COMMENT ON COLUMN prism_crypt.job_part.end_block IS 'Length of the table in blocks when the pass began';
COMMENT ON COLUMN prism_crypt.job_part.rows_in_pass IS 'Rows changed in this pass, in ranges that are done';
COMMENT ON COLUMN prism_crypt.job_part.rows_in_last IS 'Rows changed in the pass before';
COMMENT ON COLUMN prism_crypt.job_part.skipped IS 'Whether rows were left in this pass, locked or kept by a trigger';
COMMENT ON COLUMN prism_crypt.job_part.unreadable IS 'Whether this pass met values that can''t be read';
COMMENT ON COLUMN prism_crypt.job_part.fruitless IS 'Passes in a row that got no further';
COMMENT ON COLUMN prism_crypt.job_part.rows_done IS 'Rows changed so far, in ranges that are done';
COMMENT ON COLUMN prism_crypt.job_part.busy_seconds IS 'Time that workers spent, in ranges that are done';
COMMENT ON COLUMN prism_crypt.job_part.left_over IS 'At the end: values left, locked or kept by a trigger';
COMMENT ON COLUMN prism_crypt.job_part.left_unreadable IS 'At the end: values that can''t be read';
COMMENT ON COLUMN prism_crypt.job_part.finished IS 'Whether it is over';
COMMENT ON COLUMN prism_crypt.job_part.updated_at IS 'When a worker last took or gave back a range';

CREATE TABLE prism_crypt.job_range (
  id             bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  job            bigint NOT NULL,
  relation       regclass NOT NULL,
  place          tid NOT NULL,
  end_block      bigint NOT NULL,
  rows_done      bigint NOT NULL DEFAULT 0,
  busy_seconds   double precision NOT NULL DEFAULT 0,
  skipped        boolean NOT NULL DEFAULT false,
  unreadable     boolean NOT NULL DEFAULT false,
  worker_pid     integer NOT NULL,
  worker_started timestamptz NOT NULL,
  updated_at     timestamptz NOT NULL DEFAULT pg_catalog.clock_timestamp(),
  FOREIGN KEY (job, relation) REFERENCES prism_crypt.job_part ON DELETE CASCADE
) WITH (fillfactor = 20);
COMMENT ON TABLE prism_crypt.job_range IS 'Blocks that a worker has taken and not finished';
COMMENT ON COLUMN prism_crypt.job_range.id IS 'Number of the range';
COMMENT ON COLUMN prism_crypt.job_range.job IS 'The job';
COMMENT ON COLUMN prism_crypt.job_range.relation IS 'The table';
COMMENT ON COLUMN prism_crypt.job_range.place IS 'All before it is done';
COMMENT ON COLUMN prism_crypt.job_range.end_block IS 'First block behind the range';
COMMENT ON COLUMN prism_crypt.job_range.rows_done IS 'Rows changed in it';
COMMENT ON COLUMN prism_crypt.job_range.busy_seconds IS 'Time spent on it';
COMMENT ON COLUMN prism_crypt.job_range.skipped IS 'Whether rows were left, locked or kept by a trigger';
COMMENT ON COLUMN prism_crypt.job_range.unreadable IS 'Whether it has values that can''t be read';
COMMENT ON COLUMN prism_crypt.job_range.worker_pid IS 'Process of the worker';
COMMENT ON COLUMN prism_crypt.job_range.worker_started IS 'When the worker''s statement began';
COMMENT ON COLUMN prism_crypt.job_range.updated_at IS 'When its last batch was committed';

CREATE FUNCTION prism_crypt._is_working(worker_pid integer, worker_started timestamptz) RETURNS boolean
  LANGUAGE sql VOLATILE STRICT SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
  -- With track_activities off, a session says nothing of its statements: then it counts as working while it lives.
  SELECT EXISTS (
    SELECT FROM pg_stat_get_activity($1) AS a
    WHERE a.state = 'disabled' OR a.state = 'active' AND a.query_start = $2)
$$;
COMMENT ON FUNCTION prism_crypt._is_working(integer, timestamptz) IS
  'Whether a worker still runs the statement it began with. Internal';

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
  UPDATE prism_crypt.job AS j
  SET state = 'running', error = NULL, started_at = coalesce(j.started_at, clock_timestamp()),
      updated_at = clock_timestamp()
  WHERE j.id = found_id AND j.state <> 'paused' AND _open_job.start;
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
  end_block := least(part.next_block + least(greatest(part.end_block / 64, 128), 8192), part.end_block);
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
    AND NOT EXISTS (SELECT FROM prism_crypt.job_part AS p WHERE p.job = j.id AND NOT p.finished);
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
  UPDATE prism_crypt.job AS j
  SET state = CASE WHEN _leave_job.error IS NULL THEN 'pending' ELSE 'failed' END, error = _leave_job.error,
      updated_at = clock_timestamp()
  WHERE j.id = _leave_job.job AND j.state = 'running'
    AND NOT EXISTS (SELECT FROM prism_crypt.job_range AS r
                    WHERE r.job = j.id AND prism_crypt._is_working(r.worker_pid, r.worker_started));
END $$;
COMMENT ON FUNCTION prism_crypt._leave_job(bigint, text) IS 'Stops this session''s work on a job. Internal';

CREATE FUNCTION prism_crypt._set_job_state(job_id bigint, state text) RETURNS void
  LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
  found_state text;
BEGIN
  IF job_id IS NULL THEN
    RAISE null_value_not_allowed USING MESSAGE = 'id must not be null';
  END IF;
  SELECT j.state INTO found_state FROM prism_crypt.job AS j WHERE j.id = job_id FOR UPDATE;
  IF NOT FOUND THEN
    RAISE undefined_object USING
      MESSAGE = format('job %s does not exist', job_id), HINT = 'prism_crypt.progress lists them.';
  ELSIF found_state IN ('cancelled', 'incomplete', 'finished') THEN
    RAISE object_not_in_prerequisite_state USING MESSAGE = format('job %s is over', job_id),
      DETAIL = format('Its state is "%s".', found_state);
  ELSIF _set_job_state.state = 'running' AND found_state <> 'paused' THEN
    RAISE object_not_in_prerequisite_state USING MESSAGE = format('job %s is not paused', job_id),
      DETAIL = format('Its state is "%s".', found_state);
  END IF;
  UPDATE prism_crypt.job AS j
  SET state = CASE WHEN _set_job_state.state = 'running' AND j.started_at IS NULL THEN 'pending'
                   ELSE _set_job_state.state END,
      updated_at = clock_timestamp(),
      finished_at = CASE _set_job_state.state WHEN 'cancelled' THEN clock_timestamp() END
  WHERE j.id = job_id AND j.state <> _set_job_state.state;
END $$;
COMMENT ON FUNCTION prism_crypt._set_job_state(bigint, text) IS 'Pauses, resumes or cancels a job. Internal';

CREATE FUNCTION prism_crypt.pause_job(id bigint) RETURNS void
  LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
  AS $$ SELECT prism_crypt._set_job_state($1, 'paused') $$;
COMMENT ON FUNCTION prism_crypt.pause_job(bigint) IS
  'Makes the sessions that work on a job wait after their batch, until resume_job() or cancel_job()';

CREATE FUNCTION prism_crypt.resume_job(id bigint) RETURNS void
  LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
  AS $$ SELECT prism_crypt._set_job_state($1, 'running') $$;
COMMENT ON FUNCTION prism_crypt.resume_job(bigint) IS 'Lets a paused job go on';

CREATE FUNCTION prism_crypt.cancel_job(id bigint) RETURNS void
  LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
  AS $$ SELECT prism_crypt._set_job_state($1, 'cancelled') $$;
COMMENT ON FUNCTION prism_crypt.cancel_job(bigint) IS
  'Ends a job for good; sessions that work on it stop after their batch. What they committed stays';
