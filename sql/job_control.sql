-- Pausing, resuming and cancelling jobs, from any session.

CREATE FUNCTION prism_crypt._set_job_state(job_id bigint, state text) RETURNS void
  LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
  found_state text;
  moment timestamptz;
BEGIN
  IF job_id IS NULL THEN
    RAISE null_value_not_allowed USING MESSAGE = 'id must not be null';
  END IF;
  SELECT j.state INTO found_state FROM prism_crypt.job AS j WHERE j.id = job_id FOR NO KEY UPDATE;
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
    PERFORM prism_crypt._drop_ranges(job_id);
  END IF;
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
