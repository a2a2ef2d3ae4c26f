-- What a session keeps while it works on a job, how long it waits, and what it reports.

CREATE TYPE prism_crypt._work AS (
  -- What was asked for. `arguments` is the scope, and what may differ from call to call.
  kind         prism_crypt.job_kind,
  relation     regclass,
  column_name  name,
  scope        jsonb,
  arguments    jsonb,
  limits       prism_crypt._limits,
  -- Whether it waits while a job is paused, and waits long for other sessions. A call with other tables to do does not.
  patient      boolean,
  -- Batches of this call, also those of other tables.
  batches      integer,
  -- The job, and the token that this session shows when it records a step.
  job          bigint,
  token        uuid,
  target       text,
  -- The plan for the table of the last step; and the next step, if recording the last one gave it.
  plan         prism_crypt._plan,
  step         prism_crypt._step,
  -- How often this step was tried in vain.
  tries        integer,
  rows_done    bigint,
  -- By _uptime(): when it last did anything, and when the limits let it go on. Whether standbys have to be checked.
  worked_at    double precision,
  resume_at    double precision,
  asks_standby boolean,
  -- How long to sleep before the next step.
  seconds      double precision,
  last_notice  double precision,
  -- What it has reported and must not report again: paused, lag, end.
  said         text,
  -- Null while there is more to do: stopped (max_batches), cancelled, over, left (to other sessions) or failed.
  outcome      text,
  failure      prism_crypt._failure,
  is_over      boolean
);
COMMENT ON TYPE prism_crypt._work IS 'What a session does for a job, and has done. No position: that is in the tables. Internal';

CREATE FUNCTION prism_crypt._work_of(
  kind text, relation regclass, column_name name, scope jsonb, arguments jsonb, limits prism_crypt._limits, patient boolean,
  batches integer
) RETURNS prism_crypt._work
  LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  work prism_crypt._work;
BEGIN
  work.kind := prism_crypt._kind_of_job(kind);
  work.relation := relation;
  work.column_name := column_name;
  work.scope := scope;
  work.arguments := scope || arguments;
  work.limits := limits;
  work.patient := patient;
  work.batches := batches;
  work.tries := 0;
  work.rows_done := 0;
  work.seconds := 0;
  work.worked_at := prism_crypt._uptime();
  work.resume_at := 0;
  work.last_notice := work.worked_at;
  work.said := '';
  work.is_over := false;
  RETURN work;
END $$;
COMMENT ON FUNCTION prism_crypt._work_of(text, regclass, name, jsonb, jsonb, prism_crypt._limits, boolean, integer) IS
  'What a session is to do. Internal';

-- A batch that failed because of others is tried again with an eighth of its rows, and so on to a single row, because fewer rows
-- meet fewer others. After ten times it leaves them to the next pass. If a batch is less than a block, rows are counted exactly,
-- which stripes would not allow.
CREATE FUNCTION prism_crypt._as_planned(
  step prism_crypt._step, plan prism_crypt._plan, limits prism_crypt._limits, tries integer
) RETURNS prism_crypt._step
  LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
  step.skips := tries >= 10;
  step.batch_size := CASE WHEN step.skips THEN limits.batch_size ELSE greatest(limits.batch_size >> 3 * greatest(tries - 1, 0), 1) END;
  IF step.places IS NULL AND step.batch_size < plan.rows_per_block THEN
    step.careful := true;
    step.from_place := CASE WHEN step.stripes > 1 THEN step.place ELSE step.from_place END;
    step.stripe := 0;
    step.stripes := 1;
  END IF;
  step.stripes := coalesce(step.stripes, plan.stripes);
  RETURN step;
END $$;
COMMENT ON FUNCTION prism_crypt._as_planned(prism_crypt._step, prism_crypt._plan, prism_crypt._limits, integer) IS
  'How a step is to be run. Internal';

-- After a step: counts its rows, waits as the limits require, and reports progress, at most every five seconds.
CREATE FUNCTION prism_crypt._account(INOUT work prism_crypt._work, rows bigint, began double precision)
  LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  limits CONSTANT prism_crypt._limits := work.limits;
BEGIN
  IF (work.step).action = 'ending' THEN
    RAISE NOTICE '%: %: %', work.target, (work.kind).rows_changed, work.rows_done;
    work.said := 'end';
    work.step := NULL;
  ELSIF (work.step).action = 'taken' THEN
    work.seconds := (work.step).seconds;
    work.step := NULL;
  END IF;
  IF rows > 0 THEN
    work.rows_done := work.rows_done + rows;
    work.batches := work.batches + 1;
    IF work.batches >= limits.max_batches THEN
      work.outcome := 'stopped';
    END IF;
    work.resume_at := coalesce(greatest(
      work.worked_at + EXTRACT(epoch FROM limits.pause),
      CASE WHEN limits.max_rows_per_second > 0 THEN began + least(rows / limits.max_rows_per_second, 1e9) END), 0);
    work.asks_standby := limits.max_replica_lag IS NOT NULL;
    IF work.resume_at > 0 OR work.asks_standby THEN
      work.step := NULL;
    END IF;
  END IF;
  IF work.worked_at - work.last_notice > 5 AND work.said <> 'end' THEN
    RAISE NOTICE '%: % so far: % (job %)', (work.plan).target, (work.kind).rows_changed, work.rows_done, work.job
      USING HINT = 'prism_crypt.progress shows more.';
    work.last_notice := work.worked_at;
  END IF;
END $$;
COMMENT ON FUNCTION prism_crypt._account(prism_crypt._work, bigint, double precision) IS
  'Counts what a step has done. Internal';

-- There is nothing to do now: the job is paused, the limits require a wait, or others work on what is left. It waits in slices,
-- each in a transaction of its own, so that none holds back VACUUM.
CREATE FUNCTION prism_crypt._wait(INOUT work prism_crypt._work, action text)
  LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  now CONSTANT double precision := prism_crypt._uptime();
  -- How many seconds it waits for other sessions of the job.
  patience CONSTANT double precision := CASE WHEN work.patient THEN 600 ELSE 60 END;
BEGIN
  work.step := NULL;
  IF action = 'paused' THEN
    IF NOT work.patient THEN
      work.outcome := 'left';
      RETURN;
    ELSIF work.said NOT IN ('paused', 'end') THEN
      RAISE NOTICE 'job % is paused', work.job USING HINT = 'prism_crypt.resume_job() lets it go on.';
      work.said := 'paused';
    END IF;
    work.worked_at := now;
    work.seconds := 0.5;
  ELSIF action = 'pace' THEN
    work.worked_at := now;
    work.seconds := least(greatest(work.resume_at - now, 0), 0.5);
  ELSIF action = 'standby' THEN
    IF work.said <> 'lag' THEN
      RAISE NOTICE 'job % waits for a standby that is more than % bytes behind', work.job, (work.limits).max_replica_lag;
      work.said := 'lag';
    END IF;
    work.worked_at := now;
    work.seconds := 0.05;
  ELSE
    work.seconds := 0.02;
    IF now - work.worked_at > patience THEN
      work.outcome := 'left';
    END IF;
  END IF;
END $$;
COMMENT ON FUNCTION prism_crypt._wait(prism_crypt._work, text) IS 'How long a session waits. Internal';

-- What the caller is told at the end: a notice, or the error to be raised.
CREATE FUNCTION prism_crypt._report(INOUT work prism_crypt._work)
  LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  failure prism_crypt._failure := work.failure;
  done CONSTANT text := format('%s in this call: %s. They stay so.', initcap(left((work.kind).rows_changed, 1))
    || substr((work.kind).rows_changed, 2), work.rows_done);
BEGIN
  IF work.outcome = 'stopped' THEN
    RAISE NOTICE 'job % stopped; batches: %', work.job, work.batches USING HINT = 'The next call goes on with it.';
  ELSIF work.outcome = 'cancelled' THEN
    failure.code := '57014';
    failure.message := format('job %s was cancelled', work.job);
    failure.detail := done;
  ELSIF work.outcome = 'left' THEN
    failure.code := '55006';
    failure.message := format('job %s is paused, or other sessions still work on it', work.job);
    failure.detail := done;
    failure.hint := 'prism_crypt.progress shows it. A later call goes on.';
  ELSIF work.outcome = 'over' AND work.said <> 'end' THEN
    -- Another session made the last check.
    RAISE NOTICE '%: %: %', work.target, (work.kind).rows_changed, work.rows_done;
  END IF;
  work.failure := failure;
END $$;
COMMENT ON FUNCTION prism_crypt._report(prism_crypt._work) IS 'What is reported of a session''s work. Internal';
