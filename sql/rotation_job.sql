-- One job, from its first pass to the report. See rotation_walk.sql on why every name is qualified.

-- Nobody may rewrite a table while it is looked through, or give its name to another one. Gives null, or why not.
CREATE FUNCTION prism_crypt._hold_tables(walks prism_crypt._walk[]) RETURNS prism_crypt._failure
  LANGUAGE plpgsql VOLATILE AS $$
DECLARE
  walk prism_crypt._walk;
  failure prism_crypt._failure;
BEGIN
  FOREACH walk IN ARRAY walks LOOP
    EXECUTE 'LOCK TABLE ONLY ' OPERATOR(pg_catalog.||) walk.table_name OPERATOR(pg_catalog.||) ' IN ACCESS SHARE MODE';
    PERFORM prism_crypt._require_same_table(walk);
  END LOOP;
  RETURN NULL;
EXCEPTION WHEN OTHERS THEN
  GET STACKED DIAGNOSTICS
    failure.code = RETURNED_SQLSTATE, failure.message = MESSAGE_TEXT, failure.detail = PG_EXCEPTION_DETAIL,
    failure.hint = PG_EXCEPTION_HINT, failure.context = PG_EXCEPTION_CONTEXT, failure.schema_name = SCHEMA_NAME,
    failure.table_name = TABLE_NAME, failure.column_name = COLUMN_NAME, failure.constraint_name = CONSTRAINT_NAME,
    failure.datatype_name = PG_DATATYPE_NAME;
  RETURN failure;
END $$;
COMMENT ON FUNCTION prism_crypt._hold_tables(prism_crypt._walk[]) IS 'Locks the tables of a job against DDL. Internal';

-- Looks for values that are left, in all tables of a job, in one snapshot: a walk is not enough, for an UPDATE of another
-- column copies old ciphertext, maybe to a block, or a partition, that the walk has left behind. Gives the tables that have
-- something left which could be rotated, and those that have something which could not. STABLE, because such a function
-- sees with one snapshot, that of its caller.
CREATE FUNCTION prism_crypt._check_tables(
  walks prism_crypt._walk[], OUT due regclass[], OUT unreadable regclass[], OUT failure prism_crypt._failure
) LANGUAGE plpgsql STABLE AS $$
DECLARE
  walk prism_crypt._walk;
  place pg_catalog.tid;
BEGIN
  due := '{}';
  unreadable := '{}';
  FOREACH walk IN ARRAY walks LOOP
    PERFORM prism_crypt._saw_unreadable();
    EXECUTE walk.find_any INTO place;
    IF place IS NOT NULL THEN
      due := pg_catalog.array_append(due, walk.relation);
    END IF;
    IF prism_crypt._saw_unreadable()
       OR walk.find_by_index IS NOT NULL AND prism_crypt._has_unreadable_versions() THEN
      unreadable := pg_catalog.array_append(unreadable, walk.relation);
    END IF;
  END LOOP;
EXCEPTION WHEN OTHERS THEN
  GET STACKED DIAGNOSTICS
    failure.code = RETURNED_SQLSTATE, failure.message = MESSAGE_TEXT, failure.detail = PG_EXCEPTION_DETAIL,
    failure.hint = PG_EXCEPTION_HINT, failure.context = PG_EXCEPTION_CONTEXT, failure.schema_name = SCHEMA_NAME,
    failure.table_name = TABLE_NAME, failure.column_name = COLUMN_NAME, failure.constraint_name = CONSTRAINT_NAME,
    failure.datatype_name = PG_DATATYPE_NAME;
END $$;
COMMENT ON FUNCTION prism_crypt._check_tables(prism_crypt._walk[]) IS
  'Looks for values that a rotation has left. Internal';

-- Counts what is left, if anything may be, and reports.
CREATE PROCEDURE prism_crypt._finish_table(walk prism_crypt._walk, has_rest boolean) LANGUAGE plpgsql AS $$
DECLARE
  rest record;
BEGIN
  SELECT 0::bigint AS left_over, 0::bigint AS left_unreadable, NULL::text AS reasons INTO rest;
  IF has_rest THEN
    EXECUTE walk.rest INTO rest.left_over, rest.left_unreadable, rest.reasons;
  END IF;
  PERFORM prism_crypt._finish_part(walk.job, walk.relation, rest.left_over, rest.left_unreadable);
  COMMIT;
  IF rest.left_unreadable OPERATOR(pg_catalog.>) 0 THEN
    RAISE WARNING '%: values that can''t be read, left as they are: %', walk.target, rest.left_unreadable
      USING DETAIL = rest.reasons;
  END IF;
  IF rest.left_over OPERATOR(pg_catalog.>) 0 THEN
    RAISE WARNING '%: values that stayed as they were, locked by others or kept by a trigger: %',
      walk.target, rest.left_over USING HINT = 'Call it again later.';
  END IF;
END $$;
COMMENT ON PROCEDURE prism_crypt._finish_table(prism_crypt._walk, boolean) IS 'Ends one table of a rotation. Internal';

-- Checks and passes over all tables in turn, until a check finds nothing left, or nothing that moves.
CREATE PROCEDURE prism_crypt._work_on_job(
  job bigint, target text, walks prism_crypt._walk[], limits prism_crypt._limits, INOUT run prism_crypt._run
) LANGUAGE plpgsql AS $$
DECLARE
  walk prism_crypt._walk;
  state text;
  found record;
  seconds double precision;
  relations pg_catalog.regclass[] := ARRAY(SELECT w.relation FROM pg_catalog.unnest(walks) AS w);
BEGIN
  LOOP
    COMMIT;
    SET TRANSACTION ISOLATION LEVEL READ COMMITTED;
    state := prism_crypt._claim_check(job, relations);
    COMMIT;
    IF state OPERATOR(pg_catalog.=) ANY (ARRAY['wait', 'paused']) THEN
      PERFORM prism_crypt._sleep(0.02);
      CALL prism_crypt._wait_between_batches(job, NULL, 0, 0, state);
      CONTINUE;
    ELSIF state OPERATOR(pg_catalog.=) 'check' THEN
      COMMIT;
      SET TRANSACTION ISOLATION LEVEL READ COMMITTED;
      run.failure := prism_crypt._hold_tables(walks);
      IF (run.failure).code IS NULL THEN
        found := prism_crypt._check_tables(walks);
        run.failure := found.failure;
      END IF;
      COMMIT;
      IF (run.failure).code IS NOT NULL THEN
        run.outcome := 'failed';
        RETURN;
      END IF;
      COMMIT;
      SET TRANSACTION ISOLATION LEVEL READ COMMITTED;
      seconds := prism_crypt._walk_again(job, found.due);
      COMMIT;
      EXIT WHEN seconds IS NULL;
      PERFORM prism_crypt._sleep(seconds);
    ELSIF state OPERATOR(pg_catalog.<>) 'walk' THEN
      run.outcome := state;
      RETURN;
    END IF;
    FOREACH walk IN ARRAY walks LOOP
      CALL prism_crypt._walk_table(walk, limits, run);
      IF run.outcome IS NOT NULL THEN
        RETURN;
      END IF;
    END LOOP;
  END LOOP;
  RAISE NOTICE '%: rows re-encrypted: %', target, run.rows_done;
  FOREACH walk IN ARRAY walks LOOP
    CALL prism_crypt._finish_table(
      walk, walk.relation OPERATOR(pg_catalog.=) ANY (found.due OPERATOR(pg_catalog.||) found.unreadable));
  END LOOP;
END $$;
COMMENT ON PROCEDURE prism_crypt._work_on_job(bigint, text, prism_crypt._walk[], prism_crypt._limits, prism_crypt._run) IS
  'Works on a job until it ends. Internal';

CREATE PROCEDURE prism_crypt._rotate_job(
  relation regclass, column_name name, key_version_column name, from_version integer, keyset text,
  limits prism_crypt._limits, INOUT run prism_crypt._run
) LANGUAGE plpgsql AS $$
DECLARE
  targets pg_catalog.regclass[] := prism_crypt._rotation_targets(relation, column_name);
  target pg_catalog.regclass;
  walk prism_crypt._walk;
  walks prism_crypt._walk[] := '{}';
  job bigint;
BEGIN
  COMMIT;
  SET TRANSACTION ISOLATION LEVEL READ COMMITTED;
  job := prism_crypt._open_job('rotation', relation, column_name, from_version, keyset, targets, NULL, true);
  FOREACH target IN ARRAY targets LOOP
    walks := pg_catalog.array_append(
      walks, prism_crypt._plan_walk(job, target, column_name, key_version_column, from_version, keyset));
  END LOOP;
  COMMIT;
  run.rows_done := 0;
  run.careful := 0;
  run.last_notice := prism_crypt._uptime();
  CALL prism_crypt._work_on_job(job, prism_crypt._target_name(relation, column_name), walks, limits, run);
  IF targets OPERATOR(pg_catalog.=) '{}' THEN
    PERFORM prism_crypt._finish_part(job, relation, 0, 0);
  END IF;
  COMMIT;
  SET TRANSACTION ISOLATION LEVEL READ COMMITTED;
  PERFORM prism_crypt._leave_job(
    job, CASE run.outcome WHEN 'failed' THEN prism_crypt._describe_failure(run.failure) END, run.outcome);
  COMMIT;
  CASE run.outcome
    WHEN 'stopped' THEN
      RAISE NOTICE 'job % stopped; batches: %', job, run.batches USING HINT = 'The next call goes on with it.';
    WHEN 'cancelled' THEN
      run.failure.code := '57014';
      run.failure.message := pg_catalog.format('job %s was cancelled', job);
      run.failure.detail := pg_catalog.format('Rows re-encrypted in this call: %s. They stay so.', run.rows_done);
    WHEN 'over' THEN
      -- Another session looked last.
      RAISE NOTICE '%: rows re-encrypted: %', prism_crypt._target_name(relation, column_name), run.rows_done;
    ELSE
      NULL;
  END CASE;
END $$;
COMMENT ON PROCEDURE prism_crypt._rotate_job(regclass, name, name, integer, text, prism_crypt._limits, prism_crypt._run) IS
  'Rotates one table with its partitions and children. Internal: call rotate_batch()';
