-- One job, from its first pass to the report. See rotation_walk.sql on why every name is qualified.

-- Opens the job of a target, or says why not: whatever is wrong with one table is a matter of that table. Makes a plan for
-- one of the parts, because what is wrong with the arguments shows then.
CREATE FUNCTION prism_crypt._prepare_job(
  relation regclass, column_name name, key_version_column name, from_version integer, keyset text,
  OUT rotation prism_crypt._rotation, OUT parts regclass[], OUT failure prism_crypt._failure
) LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_variable
DECLARE
  opened record;
BEGIN
  PERFORM prism_crypt._bound_waits();
  PERFORM prism_crypt._check_rotation(relation, column_name);
  opened := prism_crypt._start_job(relation, column_name, from_version, keyset, prism_crypt._note_caller());
  parts := opened.parts;
  rotation := ROW(opened.job, opened.token, relation, column_name, key_version_column, from_version, keyset,
                  prism_crypt._target_name(relation, column_name));
  IF parts <> '{}' THEN
    PERFORM prism_crypt._plan_walk(rotation, parts[1]);
  END IF;
EXCEPTION WHEN OTHERS OR assert_failure THEN
  GET STACKED DIAGNOSTICS
    failure.code = RETURNED_SQLSTATE, failure.message = MESSAGE_TEXT, failure.detail = PG_EXCEPTION_DETAIL,
    failure.hint = PG_EXCEPTION_HINT, failure.context = PG_EXCEPTION_CONTEXT;
END $$;
COMMENT ON FUNCTION prism_crypt._prepare_job(regclass, name, name, integer, text) IS 'Opens a job, or says why not. Internal';

-- Looks for values that are left, in all tables of a job, in one snapshot: a walk is not enough, for an UPDATE of another
-- column copies old ciphertext, maybe to a block, or a partition, that the walk has left behind. Gives the tables that have
-- something left which could be rotated, and those that have something which could not. STABLE, because such a function
-- sees with one snapshot, that of its caller.
--
-- The locks of fifty tables at a time go with a subtransaction that is always rolled back, by an error of our own. A table
-- that was rewritten or truncated between the snapshot and its lock may look empty: it has another file than the snapshot
-- says, and counts as due. A table without blocks has no rows, in whatever snapshot, and is not even locked.
CREATE FUNCTION prism_crypt._check_tables(
  rotation prism_crypt._rotation, parts regclass[],
  OUT due regclass[], OUT unreadable regclass[], OUT failure prism_crypt._failure
) LANGUAGE plpgsql STABLE AS $$
DECLARE
  at_once CONSTANT integer := 50;
  first integer := 1;
  part pg_catalog.regclass;
  walk prism_crypt._walk;
  file pg_catalog.oid;
  place pg_catalog.tid;
  done boolean;
BEGIN
  due := '{}';
  unreadable := '{}';
  -- A policy that came meanwhile must not hide what is left: PostgreSQL raises an error instead.
  PERFORM pg_catalog.set_config('row_security', 'off', true);
  WHILE first OPERATOR(pg_catalog.<=) pg_catalog.cardinality(parts) LOOP
    BEGIN
      done := false;
      FOREACH part IN ARRAY parts[first:first OPERATOR(pg_catalog.+) at_once OPERATOR(pg_catalog.-) 1] LOOP
        -- Reads with the snapshot; the function beside it tells what is now. One that was dropped counts as done.
        SELECT c.relfilenode INTO file FROM pg_catalog.pg_class AS c WHERE c.oid OPERATOR(pg_catalog.=) part;
        CONTINUE WHEN file IS NULL OR coalesce(pg_catalog.pg_relation_size(part), 0) OPERATOR(pg_catalog.=) 0
          AND coalesce(pg_catalog.pg_relation_filenode(part), file) OPERATOR(pg_catalog.=) file;
        walk := prism_crypt._plan_walk(rotation, part);
        PERFORM prism_crypt._saw_unreadable();
        EXECUTE walk.find_any INTO place;
        -- It is locked now.
        PERFORM prism_crypt._require_same_table(walk);
        IF place IS NOT NULL OR pg_catalog.pg_relation_filenode(part) OPERATOR(pg_catalog.<>) file THEN
          due := pg_catalog.array_append(due, part);
        END IF;
        IF prism_crypt._saw_unreadable()
           OR walk.find_by_index IS NOT NULL AND prism_crypt._has_unreadable_versions() THEN
          unreadable := pg_catalog.array_append(unreadable, part);
        END IF;
      END LOOP;
      done := true;
      RAISE SQLSTATE 'PC000';
    EXCEPTION WHEN SQLSTATE 'PC000' THEN
      IF NOT done THEN
        RAISE;
      END IF;
    END;
    first := first OPERATOR(pg_catalog.+) at_once;
  END LOOP;
EXCEPTION WHEN OTHERS OR assert_failure THEN
  GET STACKED DIAGNOSTICS
    failure.code = RETURNED_SQLSTATE, failure.message = MESSAGE_TEXT, failure.detail = PG_EXCEPTION_DETAIL,
    failure.hint = PG_EXCEPTION_HINT, failure.context = PG_EXCEPTION_CONTEXT, failure.schema_name = SCHEMA_NAME,
    failure.table_name = TABLE_NAME, failure.column_name = COLUMN_NAME, failure.constraint_name = CONSTRAINT_NAME,
    failure.datatype_name = PG_DATATYPE_NAME;
END $$;
COMMENT ON FUNCTION prism_crypt._check_tables(prism_crypt._rotation, regclass[]) IS
  'Looks for values that a rotation has left. Internal';

CREATE FUNCTION prism_crypt._count_rest(
  rotation prism_crypt._rotation, part regclass,
  OUT target text, OUT left_over bigint, OUT left_unreadable bigint, OUT reasons text, OUT failure prism_crypt._failure
) LANGUAGE plpgsql STABLE AS $$
DECLARE
  walk prism_crypt._walk;
BEGIN
  walk := prism_crypt._plan_walk(rotation, part);
  target := walk.target;
  PERFORM pg_catalog.set_config('row_security', 'off', true);
  EXECUTE walk.rest INTO left_over, left_unreadable, reasons;
  PERFORM prism_crypt._require_same_table(walk);
EXCEPTION WHEN OTHERS OR assert_failure THEN
  GET STACKED DIAGNOSTICS
    failure.code = RETURNED_SQLSTATE, failure.message = MESSAGE_TEXT, failure.detail = PG_EXCEPTION_DETAIL,
    failure.hint = PG_EXCEPTION_HINT, failure.context = PG_EXCEPTION_CONTEXT;
END $$;
COMMENT ON FUNCTION prism_crypt._count_rest(prism_crypt._rotation, regclass) IS 'Counts what is left in a table. Internal';

-- Counts what is left where anything may be, ends the parts, and reports.
CREATE PROCEDURE prism_crypt._finish_tables(
  rotation prism_crypt._rotation, parts regclass[], with_rest regclass[], INOUT run prism_crypt._run
) LANGUAGE plpgsql AS $$
DECLARE
  part pg_catalog.regclass;
  rest pg_catalog.record;
  left_over bigint[] := '{}';
  left_unreadable bigint[] := '{}';
BEGIN
  FOREACH part IN ARRAY with_rest LOOP
    COMMIT;
    SET TRANSACTION ISOLATION LEVEL READ COMMITTED;
    PERFORM prism_crypt._bound_waits();
    rest := prism_crypt._count_rest(rotation, part);
    run.failure := rest.failure;
    EXIT WHEN (run.failure).code IS NOT NULL;
    left_over := pg_catalog.array_append(left_over, rest.left_over);
    left_unreadable := pg_catalog.array_append(left_unreadable, rest.left_unreadable);
    IF rest.left_unreadable OPERATOR(pg_catalog.>) 0 THEN
      RAISE WARNING '%: values that can''t be read, left as they are: %', rest.target, rest.left_unreadable
        USING DETAIL = rest.reasons;
    END IF;
    IF rest.left_over OPERATOR(pg_catalog.>) 0 THEN
      RAISE WARNING '%: values that stayed as they were, locked by others or kept by a trigger: %',
        rest.target, rest.left_over USING HINT = 'Call it again later.';
    END IF;
  END LOOP;
  COMMIT;
  IF (run.failure).code IS NULL THEN
    run.failure := prism_crypt._end_parts(rotation, parts, with_rest, left_over, left_unreadable);
  END IF;
  COMMIT;
  IF (run.failure).code IS NOT NULL THEN
    run.outcome := 'failed';
  END IF;
END $$;
COMMENT ON PROCEDURE prism_crypt._finish_tables(prism_crypt._rotation, regclass[], regclass[], prism_crypt._run) IS
  'Ends the tables of a rotation. Internal';

-- Checks and passes over all tables in turn, until a check finds nothing left, or nothing that moves. The walk over a table
-- is planned when its turn comes.
CREATE PROCEDURE prism_crypt._work_on_job(
  rotation prism_crypt._rotation, parts regclass[], limits prism_crypt._limits, INOUT run prism_crypt._run
) LANGUAGE plpgsql AS $$
DECLARE
  -- Seconds that it waits for other sessions of the job.
  patience double precision := CASE WHEN run.patient THEN 600 ELSE 60 END;
  worked_at double precision := prism_crypt._uptime();
  part pg_catalog.regclass;
  planned pg_catalog.record;
  walk prism_crypt._walk;
  claim pg_catalog.record;
  state pg_catalog.text;
  found pg_catalog.record;
  pass pg_catalog.record;
  with_rest pg_catalog.regclass[];
BEGIN
  LOOP
    COMMIT;
    SET TRANSACTION ISOLATION LEVEL READ COMMITTED;
    claim := prism_crypt._take_check(rotation, parts);
    COMMIT;
    state := claim.action;
    run.failure := claim.failure;
    IF (run.failure).code IS NOT NULL THEN
      run.outcome := 'failed';
      RETURN;
    ELSIF state OPERATOR(pg_catalog.=) ANY (ARRAY['wait', 'paused']) THEN
      IF prism_crypt._uptime() OPERATOR(pg_catalog.-) worked_at OPERATOR(pg_catalog.>) patience
         AND state OPERATOR(pg_catalog.=) 'wait' THEN
        run.outcome := 'left';
        RETURN;
      END IF;
      PERFORM prism_crypt._sleep(0.02);
      CALL prism_crypt._wait_between_batches(rotation.job, rotation.token, run.patient, limits, 0, NULL, state);
      IF state OPERATOR(pg_catalog.=) 'paused' THEN
        run.outcome := 'left';
        RETURN;
      END IF;
      CONTINUE;
    ELSIF state OPERATOR(pg_catalog.=) 'check' THEN
      COMMIT;
      SET TRANSACTION ISOLATION LEVEL READ COMMITTED;
      PERFORM prism_crypt._bound_waits();
      found := prism_crypt._check_tables(rotation, parts);
      run.failure := found.failure;
      COMMIT;
      IF (run.failure).code IS NOT NULL THEN
        run.outcome := 'failed';
        RETURN;
      END IF;
      COMMIT;
      SET TRANSACTION ISOLATION LEVEL READ COMMITTED;
      pass := prism_crypt._begin_pass(rotation, found.due);
      run.failure := pass.failure;
      COMMIT;
      IF (run.failure).code IS NOT NULL THEN
        run.outcome := 'failed';
        RETURN;
      END IF;
      EXIT WHEN pass.seconds IS NULL;
      PERFORM prism_crypt._sleep(pass.seconds);
      claim.to_walk := found.due;
    ELSIF state OPERATOR(pg_catalog.<>) 'walk' THEN
      run.outcome := state;
      RETURN;
    END IF;
    FOREACH part IN ARRAY claim.to_walk LOOP
      IF walk.relation IS NULL OR walk.relation OPERATOR(pg_catalog.<>) part THEN
        planned := prism_crypt._plan_part(rotation, part);
        IF (planned.failure).code IS NOT NULL THEN
          run.outcome := 'failed';
          run.failure := planned.failure;
          RETURN;
        END IF;
        walk := planned.walk;
      END IF;
      CALL prism_crypt._walk_table(walk, limits, run);
      IF run.outcome IS NOT NULL THEN
        RETURN;
      END IF;
    END LOOP;
    worked_at := prism_crypt._uptime();
  END LOOP;
  RAISE NOTICE '%: rows re-encrypted: %', rotation.target, run.rows_done;
  with_rest := ARRAY(
    SELECT DISTINCT t FROM pg_catalog.unnest(found.due OPERATOR(pg_catalog.||) found.unreadable) AS t);
  CALL prism_crypt._finish_tables(rotation, parts, with_rest, run);
END $$;
COMMENT ON PROCEDURE prism_crypt._work_on_job(
  prism_crypt._rotation, regclass[], prism_crypt._limits, prism_crypt._run) IS 'Works on a job until it ends. Internal';

CREATE PROCEDURE prism_crypt._rotate_job(
  relation regclass, column_name name, key_version_column name, from_version integer, keyset text,
  limits prism_crypt._limits, INOUT run prism_crypt._run
) LANGUAGE plpgsql AS $$
DECLARE
  opened pg_catalog.record;
  rotation prism_crypt._rotation;
BEGIN
  COMMIT;
  SET TRANSACTION ISOLATION LEVEL READ COMMITTED;
  run.outcome := NULL;
  run.failure := NULL;
  run.rows_done := 0;
  run.careful := 0;
  run.last_notice := prism_crypt._uptime();
  opened := prism_crypt._prepare_job(relation, column_name, key_version_column, from_version, keyset);
  IF (opened.failure).code IS NOT NULL THEN
    run.outcome := 'failed';
    run.failure := opened.failure;
    ROLLBACK;
    RETURN;
  END IF;
  COMMIT;
  rotation := opened.rotation;
  CALL prism_crypt._work_on_job(rotation, opened.parts, limits, run);
  COMMIT;
  SET TRANSACTION ISOLATION LEVEL READ COMMITTED;
  PERFORM prism_crypt._end_work(
    rotation, CASE WHEN run.outcome OPERATOR(pg_catalog.=) 'failed' THEN prism_crypt._describe_failure(run.failure) END,
    run.outcome);
  COMMIT;
  IF run.outcome OPERATOR(pg_catalog.=) 'stopped' THEN
    RAISE NOTICE 'job % stopped; batches: %', rotation.job, run.batches USING HINT = 'The next call goes on with it.';
  ELSIF run.outcome OPERATOR(pg_catalog.=) 'cancelled' THEN
    run.failure.code := '57014';
    run.failure.message := pg_catalog.format('job %s was cancelled', rotation.job);
    run.failure.detail := pg_catalog.format('Rows re-encrypted in this call: %s. They stay so.', run.rows_done);
  ELSIF run.outcome OPERATOR(pg_catalog.=) 'left' THEN
    run.failure.code := '55006';
    run.failure.message := pg_catalog.format('job %s is paused, or other sessions still work on it', rotation.job);
    run.failure.detail := pg_catalog.format('Rows re-encrypted in this call: %s. They stay so.', run.rows_done);
    run.failure.hint := 'prism_crypt.progress shows it. A later call goes on.';
  ELSIF run.outcome OPERATOR(pg_catalog.=) 'over' THEN
    -- Another session looked last.
    RAISE NOTICE '%: rows re-encrypted: %', rotation.target, run.rows_done;
  END IF;
END $$;
COMMENT ON PROCEDURE prism_crypt._rotate_job(regclass, name, name, integer, text, prism_crypt._limits, prism_crypt._run) IS
  'Rotates one table with its partitions and children. Internal: call rotate_batch()';
