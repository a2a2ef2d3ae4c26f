-- The engine: one loop for all long work. It asks for the next step, runs and records it, commits, sleeps, and asks again.

-- Opens the job, or says why not: a problem with one table concerns that table only. Makes a plan for one of the parts, because
-- that shows errors in the arguments.
CREATE FUNCTION prism_crypt._begin_work(INOUT work prism_crypt._work)
  LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  started record;
BEGIN
  EXECUTE format('SELECT %s($1, $2, $3)', (work.kind).checks) USING work.relation, work.column_name, work.arguments;
  started := prism_crypt._start_job(
    (work.kind).name, work.relation, work.column_name, work.scope, prism_crypt._note_caller());
  IF started.part IS NOT NULL THEN
    work.plan := prism_crypt._plan_part(work.kind, started.job, started.part, work.column_name, work.arguments);
  END IF;
  work.job := started.job;
  work.token := started.token;
  work.target := prism_crypt._target_name(work.relation, work.column_name);
END $$;
COMMENT ON FUNCTION prism_crypt._begin_work(prism_crypt._work) IS 'Opens the job of a session''s work. Internal';

-- One step: asks for it, runs it and records it. This is the one place that catches errors: an error is kept until the job is left
-- in good order, and raised then. A batch that fails without having locked its rows first is tried again with locks, and so is a
-- step that fails because somebody else was faster.
CREATE FUNCTION prism_crypt._take_step(INOUT work prism_crypt._work) LANGUAGE plpgsql VOLATILE AS $$
DECLARE
  began CONSTANT double precision := prism_crypt._uptime();
  action pg_catalog.text;
  step prism_crypt._step;
  result prism_crypt._result;
  failure prism_crypt._failure;
BEGIN
  work.seconds := 0;
  PERFORM prism_crypt._bound_waits();
  IF work.outcome IS NOT NULL THEN
    PERFORM prism_crypt._leave_job(
      work.token, CASE WHEN work.outcome OPERATOR(pg_catalog.=) 'failed' THEN prism_crypt._describe_failure(work.failure) END,
      work.outcome);
    work.is_over := true;
    RETURN;
  ELSIF work.token IS NULL THEN
    work := prism_crypt._begin_work(work);
    RETURN;
  END IF;
  IF (work.step).action IS NULL THEN
    work.step := prism_crypt._next_step(
      work.token, began OPERATOR(pg_catalog.<) work.resume_at,
      CASE WHEN work.asks_standby THEN (work.limits).max_replica_lag END, work.tries OPERATOR(pg_catalog.>) 0);
  END IF;
  action := (work.step).action;
  work.asks_standby := work.asks_standby AND action OPERATOR(pg_catalog.=) ANY (ARRAY['pace', 'standby', 'paused']);
  IF action OPERATOR(pg_catalog.<>) ALL (ARRAY['check', 'count']) THEN
    -- What a crash takes back is done again, so this commit need not wait for the disk. The commit that ends or leaves a job does
    -- wait, and makes all earlier ones durable.
    PERFORM pg_catalog.set_config('synchronous_commit', 'off', true);
  END IF;
  IF action OPERATOR(pg_catalog.=) ANY (ARRAY['cancelled', 'over']) THEN
    work.outcome := action;
  ELSIF action OPERATOR(pg_catalog.=) ANY (ARRAY['wait', 'pace', 'standby', 'paused']) THEN
    work := prism_crypt._wait(work, action);
  ELSIF action OPERATOR(pg_catalog.=) 'taken' THEN
    work.step := NULL;
  ELSE
    -- Anew with each pass, and before the end: columns may have come, or indexes.
    IF (work.step).relation IS NOT NULL AND (action OPERATOR(pg_catalog.=) ANY (ARRAY['find', 'count'])
         OR coalesce((work.plan).relation OPERATOR(pg_catalog.<>) (work.step).relation, true)) THEN
      work.plan := prism_crypt._plan_part(work.kind, work.job, (work.step).relation, work.column_name, work.arguments);
    END IF;
    step := prism_crypt._as_planned(work.step, work.plan, work.limits, work.tries);
    work.step := step;
    result := prism_crypt._run_step(work);
    work.worked_at := prism_crypt._uptime();
    result.busy_seconds := work.worked_at OPERATOR(pg_catalog.-) began;
    work.step := prism_crypt._record_step(work.token, step, result);
    work := prism_crypt._account(work, coalesce(result.rows, 0), began);
    -- Where there is no end of conflicts, the next batch is not tried as often.
    work.tries := CASE WHEN step.skips THEN 8 ELSE 0 END;
  END IF;
EXCEPTION WHEN OTHERS OR assert_failure THEN
  work.step := NULL;
  IF work.outcome IS NOT NULL THEN
    -- Without the row of its worker, the job is `interrupted`, and a call goes on with it.
    work.is_over := true;
  ELSIF work.tries OPERATOR(pg_catalog.<) 10 AND (
          step.action OPERATOR(pg_catalog.=) 'batch' AND NOT step.careful OR SQLSTATE OPERATOR(pg_catalog.=) ANY (ARRAY['40001', '40P01'])) THEN
    -- At random, so that sessions which are in each other's way part.
    work.seconds := 0.02 OPERATOR(pg_catalog.*) work.tries OPERATOR(pg_catalog.*) pg_catalog.random();
    work.tries := work.tries OPERATOR(pg_catalog.+) 1;
  ELSE
    GET STACKED DIAGNOSTICS
      failure.code = RETURNED_SQLSTATE, failure.message = MESSAGE_TEXT, failure.detail = PG_EXCEPTION_DETAIL,
      failure.hint = PG_EXCEPTION_HINT, failure.context = PG_EXCEPTION_CONTEXT, failure.schema_name = SCHEMA_NAME,
      failure.table_name = TABLE_NAME, failure.column_name = COLUMN_NAME, failure.constraint_name = CONSTRAINT_NAME,
      failure.datatype_name = PG_DATATYPE_NAME;
    work.failure := failure;
    work.outcome := 'failed';
  END IF;
END $$;
COMMENT ON FUNCTION prism_crypt._take_step(prism_crypt._work) IS 'Takes one step of a job. Internal';

-- The loop. A procedure that commits can neither be SECURITY DEFINER nor have a SET clause. Its state is in the tables, so
-- whatever ends it, another session can go on at the same place.
CREATE PROCEDURE prism_crypt._work_on(INOUT work prism_crypt._work) LANGUAGE plpgsql AS $$
BEGIN
  LOOP
    COMMIT;
    -- The server's default may be a level at which a concurrent change is an error.
    SET TRANSACTION ISOLATION LEVEL READ COMMITTED;
    EXIT WHEN work.is_over;
    PERFORM prism_crypt._sleep(work.seconds);
    work := prism_crypt._take_step(work);
  END LOOP;
  work := prism_crypt._report(work);
END $$;
COMMENT ON PROCEDURE prism_crypt._work_on(prism_crypt._work) IS 'Works on a job until it ends, or its limits do. Internal';
