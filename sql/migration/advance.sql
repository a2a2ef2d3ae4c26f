-- The loop that takes a migration from phase to phase. As in the loop of jobs, its state is in tables, so that whatever ends it,
-- another session goes on at the same place. Nothing in a procedure that commits relies on search_path.

-- Stops here if a test asks for it, so that it can kill the session between two phases.
CREATE FUNCTION prism_crypt._stop_at(place text) RETURNS boolean
  LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
  SELECT coalesce(current_setting('prism_crypt.debug_stop_at', true) = $1, false)
$$;
COMMENT ON FUNCTION prism_crypt._stop_at(text) IS 'Whether prism_crypt.debug_stop_at names this place. Internal';

CREATE TYPE prism_crypt._migration_work AS (
  migration    prism_crypt.migration,
  -- The phase in which to stop.
  goal         text,
  limits       prism_crypt._limits,
  lock_timeout interval,
  -- The search path of the caller, for triggers of the table.
  path         text,
  -- Attempts to get the lock of this phase, and how long to sleep before the next.
  attempts     integer,
  seconds      double precision,
  -- What is to be run: phase, job, statement; null if it is over.
  action       text,
  work         prism_crypt._work,
  statement    text,
  failure      prism_crypt._failure
);
COMMENT ON TYPE prism_crypt._migration_work IS 'What a session does for a migration. Internal';

-- What is next. A migration that goes back needs only what gives the old column its place again.
CREATE FUNCTION prism_crypt._choose(INOUT work prism_crypt._migration_work)
  LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  id CONSTANT bigint := (work.migration).id;
  phase_before CONSTANT text := (work.migration).phase;
  kind text;
BEGIN
  work.migration := prism_crypt._take_migration(id, prism_crypt._note_caller());
  work.action := NULL;
  work.seconds := 0;
  IF (work.migration).phase IS DISTINCT FROM phase_before THEN
    work.attempts := 0;
  END IF;
  IF prism_crypt._stop_at((work.migration).phase) THEN
    work.action := 'stop';
    RETURN;
  ELSIF (work.migration).phase IN (work.goal, 'finished', 'rolled_back') THEN
    RETURN;
  END IF;
  -- A migration of a table that is gone is over, if that is what is wanted.
  IF work.goal IN ('finished', 'rolled_back') AND prism_crypt._is_gone((work.migration).relation) THEN
    work.action := 'phase';
    RETURN;
  END IF;
  IF NOT ((work.migration).is_going_back AND (work.migration).cut_over_at IS NULL)
     AND (work.migration).phase IN ('rows', 'indexes', 'verification', 'statistics', 'ready') AND (work.migration).method = 'online' THEN
    PERFORM prism_crypt._require_columns(work.migration);
    IF (work.migration).phase = 'verification' THEN
      PERFORM prism_crypt._require_carried_over(ARRAY(SELECT t FROM prism_crypt._late_triggers((work.migration).relation) AS t));
    END IF;
  END IF;
  IF (work.migration).is_going_back AND (work.migration).cut_over_at IS NULL OR prism_crypt._needs_triggers(work.migration) THEN
    work.action := 'phase';
  ELSIF (work.migration).phase IN ('rows', 'verification')
        -- Nobody but a person can fill the old column then, and the cut-over looks whether somebody has to.
        AND NOT ((work.migration).is_going_back AND (work.migration).using_expression IS NOT NULL) THEN
    kind := CASE (work.migration).phase WHEN 'rows' THEN 'backfill' ELSE 'verification' END;
    work.action := 'job';
    work.work := prism_crypt._work_of(
      kind, (work.migration).relation, (work.migration).column_name, jsonb_build_object('migration', id), '{}', work.limits, true, 0);
  ELSIF (work.migration).phase = 'indexes' THEN
    work.statement := prism_crypt._next_concurrent_statement(work.migration);
    work.action := CASE WHEN work.statement IS NULL THEN 'phase' ELSE 'statement' END;
  ELSE
    work.action := 'phase';
  END IF;
END $$;
COMMENT ON FUNCTION prism_crypt._choose(prism_crypt._migration_work) IS 'What a migration does next. Internal';

-- Runs a phase under the lock timeout. Where others hold the table, it tries again after a while, so that statements behind it
-- don't wait longer than that.
CREATE FUNCTION prism_crypt._try_phase(INOUT work prism_crypt._migration_work)
  LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  most_attempts CONSTANT integer := 60;
  failure prism_crypt._failure;
BEGIN
  work.attempts := work.attempts + 1;
  PERFORM set_config('lock_timeout', ceil(EXTRACT(epoch FROM work.lock_timeout) * 1000)::bigint || 'ms', true);
  PERFORM prism_crypt._run_phase(work.migration, work.path);
  work.attempts := 0;
EXCEPTION WHEN OTHERS OR assert_failure THEN
  IF SQLSTATE IN ('55P03', '40P01') AND work.attempts < most_attempts THEN
    work.seconds := least(0.1 * work.attempts, 5) * (0.5 + random());
    RETURN;
  END IF;
  GET STACKED DIAGNOSTICS
    failure.code = RETURNED_SQLSTATE, failure.message = MESSAGE_TEXT, failure.detail = PG_EXCEPTION_DETAIL,
    failure.hint = PG_EXCEPTION_HINT, failure.context = PG_EXCEPTION_CONTEXT, failure.schema_name = SCHEMA_NAME,
    failure.table_name = TABLE_NAME, failure.column_name = COLUMN_NAME, failure.constraint_name = CONSTRAINT_NAME,
    failure.datatype_name = PG_DATATYPE_NAME;
  work.failure := failure;
END $$;
COMMENT ON FUNCTION prism_crypt._try_phase(prism_crypt._migration_work) IS 'Tries to run a phase. Internal';

-- After a job: the next phase, if the job has done everything.
CREATE FUNCTION prism_crypt._end_job(INOUT work prism_crypt._migration_work)
  LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  failure prism_crypt._failure := (work.work).failure;
  done record;
BEGIN
  work.action := NULL;
  IF failure.code IS NOT NULL THEN
    work.failure := failure;
  ELSIF (work.work).outcome = 'over' THEN
    done := prism_crypt._job_of_migration((work.migration).id, ((work.work).kind).name, prism_crypt._note_caller());
    -- With an expression, a row that is written again has no value until the cut-over, and some always are.
    IF done.state IS DISTINCT FROM 'finished'
       AND NOT (done.state = 'incomplete' AND (work.migration).using_expression IS NOT NULL AND (work.migration).phase = 'rows') THEN
      failure.code := '55000';
      failure.message := format('rows that could not be migrated: %s', done.rows_left);
      failure.hint := 'They were locked all the time, or a trigger changes them. The same call tries again.';
      work.failure := failure;
    ELSE
      work := prism_crypt._try_phase(work);
      work.action := 'phase';
    END IF;
  END IF;
END $$;
COMMENT ON FUNCTION prism_crypt._end_job(prism_crypt._migration_work) IS 'What a migration does after a job. Internal';

CREATE FUNCTION prism_crypt._leave(work prism_crypt._migration_work) RETURNS void
  LANGUAGE sql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
  SELECT prism_crypt._leave_migration(
    (work.migration).id, CASE WHEN (work.failure).code IS NOT NULL THEN prism_crypt._describe_failure(work.failure) END,
    prism_crypt._note_caller())
$$;
COMMENT ON FUNCTION prism_crypt._leave(prism_crypt._migration_work) IS 'Ends a session''s work on a migration. Internal';

-- Takes a migration as far as the goal, and raises what went wrong.
CREATE PROCEDURE prism_crypt._advance(INOUT work prism_crypt._migration_work) LANGUAGE plpgsql AS $$
DECLARE
  job prism_crypt._work;
  failure prism_crypt._failure;
BEGIN
  work.attempts := 0;
  work.path := pg_catalog.current_setting('search_path');
  LOOP
    COMMIT;
    SET TRANSACTION ISOLATION LEVEL READ COMMITTED;
    PERFORM prism_crypt._sleep(work.seconds);
    work := prism_crypt._choose(work);
    -- Others must see who works on it.
    COMMIT;
    SET TRANSACTION ISOLATION LEVEL READ COMMITTED;
    EXIT WHEN work.action IS NULL;
    IF work.action OPERATOR(pg_catalog.=) 'stop' THEN
      work.seconds := 0.1;
    ELSIF work.action OPERATOR(pg_catalog.=) 'job' THEN
      job := work.work;
      CALL prism_crypt._work_on(job);
      work.work := job;
      work := prism_crypt._end_job(work);
      EXIT WHEN work.action IS NULL;
    ELSIF work.action OPERATOR(pg_catalog.=) 'statement' THEN
      CALL prism_crypt._run_statement(work.statement, failure);
      work.failure := failure;
    ELSE
      work := prism_crypt._try_phase(work);
    END IF;
    EXIT WHEN (work.failure).code IS NOT NULL;
  END LOOP;
  PERFORM prism_crypt._leave(work);
  COMMIT;
  failure := work.failure;
  IF failure.code IS NOT NULL THEN
    PERFORM prism_crypt._raise_failure(
      failure.code, failure.message, failure.detail, failure.hint, failure.context, failure.schema_name, failure.table_name,
      failure.column_name, failure.datatype_name, failure.constraint_name);
  END IF;
END $$;
COMMENT ON PROCEDURE prism_crypt._advance(prism_crypt._migration_work) IS 'Takes a migration to a goal. Internal';
