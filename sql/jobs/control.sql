-- Who may see and control jobs; pausing, resuming and cancelling them from any session.

-- What a role may do with a job:
--   control  it may rotate keys, or update the table; where the table is gone, it asked for the job
--   see      it may ask for the status of everything, or asked for the job
--   null     the job does not exist for it
CREATE FUNCTION prism_crypt._right_to_job(role oid, job prism_crypt.job) RETURNS text
  LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
  SELECT CASE
    WHEN has_function_privilege($1, 'prism_crypt.rotate_key(text, text)', 'EXECUTE')
      OR coalesce(has_any_column_privilege($1, ($2).relation::oid, 'UPDATE'), pg_has_role($1, ($2).owner, 'USAGE'))
      THEN 'control'
    WHEN has_function_privilege($1, 'prism_crypt.status()', 'EXECUTE') OR pg_has_role($1, ($2).owner, 'USAGE') THEN 'see' END
$$;
COMMENT ON FUNCTION prism_crypt._right_to_job(oid, prism_crypt.job) IS 'What a role may do with a job. Internal';

CREATE FUNCTION prism_crypt._require_control(role oid, job_id bigint, job prism_crypt.job) RETURNS void
  LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  access_to_job CONSTANT text := prism_crypt._right_to_job(role, job);
BEGIN
  IF job.id IS NULL OR access_to_job IS NULL THEN
    RAISE undefined_object USING
      MESSAGE = format('job %s does not exist', job_id), HINT = 'prism_crypt.progress lists them.';
  ELSIF access_to_job <> 'control' THEN
    RAISE insufficient_privilege USING
      MESSAGE = format('permission denied for job %s', job_id),
      HINT = 'This needs UPDATE on the table, or access key_admin.';
  END IF;
END $$;
COMMENT ON FUNCTION prism_crypt._require_control(oid, bigint, prism_crypt.job) IS
  'Raises an error unless a role may control a job. Internal';

CREATE FUNCTION prism_crypt._set_job_state(job_id bigint, state text, note bigint) RETURNS void
  LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
  role CONSTANT oid := prism_crypt._caller(note);
  own_timeout CONSTANT text := current_setting('lock_timeout');
  found_job prism_crypt.job;
  moment timestamptz;
BEGIN
  IF job_id IS NULL THEN
    RAISE null_value_not_allowed USING MESSAGE = 'id must not be null';
  ELSIF (_set_job_state.state = ANY ('{paused,running,cancelled}')) IS NOT TRUE THEN
    -- The other states come about by themselves; nobody can set them.
    RAISE invalid_parameter_value USING MESSAGE = 'state must be paused, running or cancelled';
  END IF;
  -- This comes before it waits for anything.
  SELECT * INTO found_job FROM prism_crypt.job AS j WHERE j.id = job_id;
  PERFORM prism_crypt._require_control(role, job_id, found_job);
  PERFORM prism_crypt._bound_waits();
  SELECT * INTO found_job FROM prism_crypt.job AS j WHERE j.id = job_id FOR NO KEY UPDATE;
  -- Workers that came since this transaction first looked.
  PERFORM pg_stat_clear_snapshot();
  PERFORM set_config('lock_timeout', own_timeout, true);
  PERFORM prism_crypt._require_control(role, job_id, found_job);
  IF found_job.state IN ('cancelled', 'incomplete', 'finished') THEN
    RAISE object_not_in_prerequisite_state USING MESSAGE = format('job %s is over', job_id),
      DETAIL = format('Its state is "%s".', found_job.state);
  ELSIF _set_job_state.state = 'running' AND found_job.state <> 'paused' THEN
    RAISE object_not_in_prerequisite_state USING MESSAGE = format('job %s is not paused', job_id),
      DETAIL = format('Its state is "%s".', found_job.state);
  END IF;
  moment := clock_timestamp();
  UPDATE prism_crypt.job AS j
  SET state = CASE
        WHEN _set_job_state.state = 'running' AND NOT EXISTS (
          SELECT FROM prism_crypt.job_worker AS w WHERE w.job = j.id AND prism_crypt._is_working(w.pid, w.started))
          THEN 'pending'
        ELSE _set_job_state.state END,
      updated_at = moment,
      finished_at = CASE _set_job_state.state WHEN 'cancelled' THEN moment END
  WHERE j.id = job_id AND j.state <> _set_job_state.state;
  IF _set_job_state.state = 'cancelled' THEN
    PERFORM prism_crypt._drop_ranges(job_id), prism_crypt._drop_older_jobs(job_id);
  END IF;
END $$;
COMMENT ON FUNCTION prism_crypt._set_job_state(bigint, text, bigint) IS 'Pauses, resumes or cancels a job. Internal';

CREATE FUNCTION prism_crypt.pause_job(id bigint) RETURNS void
  LANGUAGE sql SET search_path = pg_catalog, pg_temp
  AS $$ SELECT prism_crypt._set_job_state($1, 'paused', prism_crypt._note_caller()) $$;
COMMENT ON FUNCTION prism_crypt.pause_job(bigint) IS
  'Makes the sessions that work on a job wait after their batch, until resume_job() or cancel_job()';

CREATE FUNCTION prism_crypt.resume_job(id bigint) RETURNS void
  LANGUAGE sql SET search_path = pg_catalog, pg_temp
  AS $$ SELECT prism_crypt._set_job_state($1, 'running', prism_crypt._note_caller()) $$;
COMMENT ON FUNCTION prism_crypt.resume_job(bigint) IS 'Lets a paused job go on';

CREATE FUNCTION prism_crypt.cancel_job(id bigint) RETURNS void
  LANGUAGE sql SET search_path = pg_catalog, pg_temp
  AS $$ SELECT prism_crypt._set_job_state($1, 'cancelled', prism_crypt._note_caller()) $$;
COMMENT ON FUNCTION prism_crypt.cancel_job(bigint) IS
  'Ends a job for good; sessions that work on it stop after their batch. What they committed stays';
