-- Running one step. Triggers of the table must run under the caller's own search_path. So functions that cause them to run can't
-- have a SET clause, and don't rely on search_path: every name and every operator is qualified.

CREATE FUNCTION prism_crypt._saw_unreadable() RETURNS boolean
  LANGUAGE c VOLATILE AS 'MODULE_PATHNAME', '_saw_unreadable_wrapper';
COMMENT ON FUNCTION prism_crypt._saw_unreadable() IS
  'Whether this session met values that can''t be rotated, since the last call. Internal';

-- The statements use the table's name. Another table may have taken that name. Row-level security may also have been switched
-- on, which hides rows; the setting row_security would affect the table's triggers, too.
CREATE FUNCTION prism_crypt._require_same_table(plan prism_crypt._plan) RETURNS void
  LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
  IF to_regclass(plan.table_name) IS DISTINCT FROM plan.relation THEN
    RAISE undefined_table USING
      MESSAGE = format('relation "%s" does not exist', plan.table_name),
      DETAIL = format('It was dropped or renamed while job %s worked on it.', plan.job);
  ELSIF row_security_active(plan.relation::oid) THEN
    RAISE insufficient_privilege USING
      MESSAGE = format('row-level security may hide rows of "%s" from this role', plan.relation),
      HINT = 'Let the owner of the table rotate it, or a role with BYPASSRLS.';
  END IF;
END $$;
COMMENT ON FUNCTION prism_crypt._require_same_table(prism_crypt._plan) IS
  'Raises an error if a name now belongs to another table, or if its rows are hidden. Internal';

CREATE FUNCTION prism_crypt._end_deferral() RETURNS void
  LANGUAGE c VOLATILE AS 'MODULE_PATHNAME', '_end_deferral_wrapper';
COMMENT ON FUNCTION prism_crypt._end_deferral() IS 'From now on, nothing can be deferred to the end of this transaction. Internal';

-- The one place that executes statements which change or lock something in the table.
CREATE FUNCTION prism_crypt._execute(
  statement text, from_place tid, to_place tid, number integer, stripes integer, places tid[], OUT rows bigint, OUT chosen tid[]
) LANGUAGE plpgsql VOLATILE AS $$
BEGIN
  IF pg_catalog.starts_with(statement, 'SELECT') THEN
    EXECUTE statement INTO chosen USING from_place, to_place, number, stripes, places;
  ELSE
    EXECUTE statement USING from_place, to_place, number, stripes, places;
    GET DIAGNOSTICS rows = ROW_COUNT;
  END IF;
END $$;
COMMENT ON FUNCTION prism_crypt._execute(text, tid, tid, integer, integer, tid[]) IS
  'Executes a statement of a plan. Internal';

-- The careful way: locks up to batch_size rows that can be changed and that nobody else has locked, then changes them. So it
-- waits for no row, and no row can change between the choice and the update. Gives the place where the next batch begins.
CREATE FUNCTION prism_crypt._change_locked(
  plan prism_crypt._plan, from_place tid, to_place tid, batch_size integer, OUT rows bigint, OUT reached tid
) LANGUAGE plpgsql VOLATILE AS $$
DECLARE
  places CONSTANT pg_catalog.tid[] := (prism_crypt._execute(plan.lock_range, from_place, to_place, batch_size, NULL, NULL)).chosen;
BEGIN
  rows := (prism_crypt._execute(plan.update_locked, NULL, NULL, NULL, NULL, places)).rows;
  reached := to_place;
  IF pg_catalog.cardinality(places) OPERATOR(pg_catalog.=) batch_size THEN
    -- A row that changed meanwhile was chosen at its new place, which may be far behind the others.
    reached := coalesce(
      (SELECT pg_catalog.max(place) FROM pg_catalog.unnest(places) AS place
       WHERE place OPERATOR(pg_catalog.<) to_place), to_place);
  END IF;
END $$;
COMMENT ON FUNCTION prism_crypt._change_locked(prism_crypt._plan, tid, tid, integer) IS 'Changes rows after locking them. Internal';

-- One batch at places that an index gave.
CREATE FUNCTION prism_crypt._change_places(plan prism_crypt._plan, step prism_crypt._step) RETURNS bigint
  LANGUAGE plpgsql VOLATILE AS $$
DECLARE
  places CONSTANT pg_catalog.tid[] := step.places[1:step.batch_size];
  block bigint;
  rows bigint := 0;
BEGIN
  IF step.skips THEN
    RETURN 0;
  ELSIF NOT step.careful THEN
    RETURN (prism_crypt._execute(plan.update_places, NULL, NULL, NULL, NULL, places)).rows;
  END IF;
  FOR block IN SELECT DISTINCT prism_crypt._block(place) FROM pg_catalog.unnest(places) AS place LOOP
    rows := rows OPERATOR(pg_catalog.+) (prism_crypt._change_locked(
      plan, prism_crypt._tid(block), prism_crypt._tid(block OPERATOR(pg_catalog.+) 1), step.batch_size)).rows;
  END LOOP;
  RETURN rows;
END $$;
COMMENT ON FUNCTION prism_crypt._change_places(prism_crypt._plan, prism_crypt._step) IS
  'Changes rows that an index found. Internal';

-- One batch of a range. While it searches, it goes to the next row that is due; otherwise it takes the rows as they come.
CREATE FUNCTION prism_crypt._change_range(
  plan prism_crypt._plan, step prism_crypt._step, OUT rows bigint, OUT reached tid
) LANGUAGE plpgsql VOLATILE AS $$
DECLARE
  window_start pg_catalog.tid := step.from_place;
  window_end pg_catalog.tid;
  blocks CONSTANT bigint := GREATEST(1, pg_catalog.floor(
    step.batch_size OPERATOR(pg_catalog.*) step.stripes OPERATOR(pg_catalog./) plan.rows_per_block));
  place pg_catalog.tid;
  changed pg_catalog.record;
BEGIN
  IF step.searching THEN
    place := (prism_crypt._execute(plan.find, step.from_place, step.to_place, NULL, NULL, NULL)).chosen[1];
    IF place IS NULL THEN
      rows := 0;
      reached := step.to_place;
      RETURN;
    END IF;
    window_start := GREATEST(step.from_place, prism_crypt._tid(prism_crypt._block(place)));
  END IF;
  window_end := LEAST(prism_crypt._tid(prism_crypt._block(window_start) OPERATOR(pg_catalog.+) blocks), step.to_place);
  IF step.skips THEN
    rows := 0;
    reached := window_end;
  ELSIF step.careful THEN
    changed := prism_crypt._change_locked(plan, window_start, window_end, step.batch_size);
    rows := changed.rows;
    reached := changed.reached;
  ELSE
    rows := (prism_crypt._execute(
      CASE WHEN step.stripe OPERATOR(pg_catalog.<) (step.stripes OPERATOR(pg_catalog.-) 1) THEN plan.update_stripe
           ELSE plan.update_range END,
      window_start, window_end, step.stripe, step.stripes, NULL)).rows;
    reached := window_end;
  END IF;
END $$;
COMMENT ON FUNCTION prism_crypt._change_range(prism_crypt._plan, prism_crypt._step) IS
  'Changes rows of a range of blocks. Internal';

-- One batch. The fast way is a single statement that gives up as soon as a row is locked, because others that wait for rows of
-- this batch must not wait long. Then the batch is tried again the careful way.
CREATE FUNCTION prism_crypt._run_batch(plan prism_crypt._plan, step prism_crypt._step, limits prism_crypt._limits)
  RETURNS prism_crypt._result LANGUAGE plpgsql VOLATILE AS $$
DECLARE
  own_timeout CONSTANT pg_catalog.text := pg_catalog.current_setting('lock_timeout');
  result prism_crypt._result;
  changed pg_catalog.record;
BEGIN
  result.stripes := step.stripes;
  PERFORM prism_crypt._require_same_table(plan);
  IF NOT limits.fire_triggers THEN
    PERFORM pg_catalog.set_config('session_replication_role', 'replica', true);
  END IF;
  IF NOT step.careful THEN
    PERFORM pg_catalog.set_config('lock_timeout', '10ms', true);
  END IF;
  IF step.places IS NOT NULL THEN
    result.rows := prism_crypt._change_places(plan, step);
  ELSE
    changed := prism_crypt._change_range(plan, step);
    result.rows := changed.rows;
    result.reached := changed.reached;
  END IF;
  IF NOT step.careful THEN
    PERFORM pg_catalog.set_config('lock_timeout', own_timeout, true);
  END IF;
  -- The locks of the statements keep the table as it is. What was deferred to the commit is done now, so that an error belongs to
  -- this table and not to the commit.
  PERFORM prism_crypt._require_same_table(plan), prism_crypt._end_deferral();
  SET CONSTRAINTS ALL IMMEDIATE;
  RETURN result;
END $$;
COMMENT ON FUNCTION prism_crypt._run_batch(prism_crypt._plan, prism_crypt._step, prism_crypt._limits) IS 'Runs one batch. Internal';

-- Places of rows that an index finds. Null if there is no index, or if more than one row in twenty is due: then most blocks have
-- such a row, and walking over the table is cheaper.
CREATE FUNCTION prism_crypt._find_places(plan prism_crypt._plan) RETURNS tid[]
  LANGUAGE plpgsql VOLATILE AS $$
DECLARE
  most CONSTANT integer := LEAST(GREATEST(1000, (SELECT c.reltuples FROM pg_catalog.pg_class AS c
    WHERE c.oid OPERATOR(pg_catalog.=) plan.relation) OPERATOR(pg_catalog./) 20), 1000000);
  places pg_catalog.tid[];
BEGIN
  IF plan.find_by_index IS NULL THEN
    RETURN NULL;
  END IF;
  PERFORM prism_crypt._require_same_table(plan), pg_catalog.set_config('row_security', 'off', true);
  places := coalesce((prism_crypt._execute(plan.find_by_index, NULL, NULL, most, NULL, NULL)).chosen, '{}');
  RETURN CASE WHEN pg_catalog.cardinality(places) OPERATOR(pg_catalog.<) most THEN places END;
END $$;
COMMENT ON FUNCTION prism_crypt._find_places(prism_crypt._plan) IS 'Finds rows by an index. Internal';

-- Looks for values that are left in all tables of a job, with one snapshot. A walk is not enough, because an UPDATE of another
-- column copies an old value, maybe to a block or a partition that the walk has already passed. Gives the tables with something
-- left that could be changed, and those with something left that could not. It is STABLE because such a function uses one
-- snapshot, that of its caller; that is also why it executes its statements itself.
--
-- The locks of fifty tables at a time are released with a subtransaction that is always rolled back, by an error of our own. A
-- table that was rewritten or truncated between the snapshot and its lock may look empty: its file is not the one in the snapshot,
-- so it counts as due. A table without blocks has no rows in any snapshot, and is not even locked.
CREATE FUNCTION prism_crypt._check_parts(
  kind prism_crypt.job_kind, job bigint, parts regclass[], column_name name, scope jsonb
) RETURNS prism_crypt._result LANGUAGE plpgsql STABLE AS $$
DECLARE
  result prism_crypt._result;
  at_once CONSTANT integer := 50;
  first integer := 1;
  part pg_catalog.regclass;
  plan prism_crypt._plan;
  file pg_catalog.oid;
  place pg_catalog.tid;
  done boolean;
BEGIN
  result.due := '{}';
  result.unreadable := '{}';
  -- A policy that was added meanwhile must not hide what is left: PostgreSQL raises an error instead.
  PERFORM pg_catalog.set_config('row_security', 'off', true);
  WHILE first OPERATOR(pg_catalog.<=) pg_catalog.cardinality(parts) LOOP
    BEGIN
      done := false;
      FOREACH part IN ARRAY parts[first:first OPERATOR(pg_catalog.+) at_once OPERATOR(pg_catalog.-) 1] LOOP
        -- pg_class is read with the snapshot; the function beside it gives the current state. A dropped table counts as done.
        SELECT c.relfilenode INTO file FROM pg_catalog.pg_class AS c WHERE c.oid OPERATOR(pg_catalog.=) part;
        CONTINUE WHEN file IS NULL OR coalesce(pg_catalog.pg_relation_size(part), 0) OPERATOR(pg_catalog.=) 0
          AND coalesce(pg_catalog.pg_relation_filenode(part), file) OPERATOR(pg_catalog.=) file;
        plan := prism_crypt._plan_part(kind, job, part, column_name, scope);
        PERFORM prism_crypt._saw_unreadable();
        EXECUTE plan.find_any INTO place;
        -- It is locked now.
        PERFORM prism_crypt._require_same_table(plan);
        IF place IS NOT NULL OR pg_catalog.pg_relation_filenode(part) OPERATOR(pg_catalog.<>) file THEN
          result.due := pg_catalog.array_append(result.due, part);
        END IF;
        IF prism_crypt._saw_unreadable() OR plan.hides_rest THEN
          result.unreadable := pg_catalog.array_append(result.unreadable, part);
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
  RETURN result;
END $$;
COMMENT ON FUNCTION prism_crypt._check_parts(prism_crypt.job_kind, bigint, regclass[], name, jsonb) IS
  'Looks for values that are left. Internal';

CREATE FUNCTION prism_crypt._count_rest(plan prism_crypt._plan) RETURNS prism_crypt._result LANGUAGE plpgsql VOLATILE AS $$
DECLARE
  result prism_crypt._result;
  reasons pg_catalog.text;
BEGIN
  PERFORM pg_catalog.set_config('row_security', 'off', true);
  EXECUTE plan.rest INTO result.left_over, result.left_unreadable, reasons;
  PERFORM prism_crypt._require_same_table(plan);
  IF result.left_unreadable OPERATOR(pg_catalog.>) 0 THEN
    RAISE WARNING '%: values that can''t be read, left as they are: %', plan.target, result.left_unreadable USING DETAIL = reasons;
  END IF;
  IF result.left_over OPERATOR(pg_catalog.>) 0 THEN
    RAISE WARNING '%: values that stayed as they were, locked by others or kept by a trigger: %', plan.target, result.left_over USING
      HINT = 'Call it again later.';
  END IF;
  RETURN result;
END $$;
COMMENT ON FUNCTION prism_crypt._count_rest(prism_crypt._plan) IS 'Counts what is left in a table, and says so. Internal';

CREATE FUNCTION prism_crypt._run_step(work prism_crypt._work) RETURNS prism_crypt._result LANGUAGE plpgsql VOLATILE AS $$
DECLARE
  step CONSTANT prism_crypt._step := work.step;
  plan CONSTANT prism_crypt._plan := work.plan;
  result prism_crypt._result;
BEGIN
  IF step.action OPERATOR(pg_catalog.=) 'batch' THEN
    result := prism_crypt._run_batch(plan, step, work.limits);
  ELSIF step.action OPERATOR(pg_catalog.=) 'find' THEN
    result.places := prism_crypt._find_places(plan);
  ELSIF step.action OPERATOR(pg_catalog.=) 'check' THEN
    result := prism_crypt._check_parts(work.kind, work.job, step.parts, work.column_name, work.arguments);
  ELSIF step.action OPERATOR(pg_catalog.=) 'count' THEN
    result := prism_crypt._count_rest(plan);
  END IF;
  result.batch_size := step.batch_size;
  RETURN result;
END $$;
COMMENT ON FUNCTION prism_crypt._run_step(prism_crypt._work) IS 'Runs a step. Internal';
