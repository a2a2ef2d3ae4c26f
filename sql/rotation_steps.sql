-- Steps of a walk that are recorded in the job, each with its error, if it has one: a table that changed, a right that was
-- taken away, a row that somebody else keeps locked.

CREATE TYPE prism_crypt._step AS (state text, failure prism_crypt._failure);
COMMENT ON TYPE prism_crypt._step IS 'The state of a job after a step, or what went wrong. Internal';

CREATE FUNCTION prism_crypt._plan_part(
  rotation prism_crypt._rotation, part regclass, OUT walk prism_crypt._walk, OUT failure prism_crypt._failure
) LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
  walk := prism_crypt._plan_walk(rotation, part);
EXCEPTION WHEN OTHERS OR assert_failure THEN
  GET STACKED DIAGNOSTICS
    failure.code = RETURNED_SQLSTATE, failure.message = MESSAGE_TEXT, failure.detail = PG_EXCEPTION_DETAIL,
    failure.hint = PG_EXCEPTION_HINT, failure.context = PG_EXCEPTION_CONTEXT;
END $$;
COMMENT ON FUNCTION prism_crypt._plan_part(prism_crypt._rotation, regclass) IS '_plan_walk(), with its error. Internal';

CREATE FUNCTION prism_crypt._take_range(
  walk prism_crypt._walk, OUT action text, OUT range_id bigint, OUT place tid, OUT end_block bigint,
  OUT failure prism_crypt._failure
) LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
  PERFORM prism_crypt._bound_waits();
  SELECT c.action, c.range_id, c.place, c.end_block INTO action, range_id, place, end_block
  FROM prism_crypt._claim_range(walk.token, walk.relation) AS c;
EXCEPTION WHEN OTHERS OR assert_failure THEN
  GET STACKED DIAGNOSTICS
    failure.code = RETURNED_SQLSTATE, failure.message = MESSAGE_TEXT, failure.detail = PG_EXCEPTION_DETAIL,
    failure.hint = PG_EXCEPTION_HINT, failure.context = PG_EXCEPTION_CONTEXT;
END $$;
COMMENT ON FUNCTION prism_crypt._take_range(prism_crypt._walk) IS '_claim_range(), with its error. Internal';

CREATE FUNCTION prism_crypt._record_batch(
  walk prism_crypt._walk, range_id bigint, place tid, share_done double precision, rows_done bigint,
  busy_seconds double precision, OUT state text, OUT failure prism_crypt._failure
) LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
  state := prism_crypt._advance_range(walk.token, range_id, place, share_done, rows_done, busy_seconds);
EXCEPTION WHEN OTHERS OR assert_failure THEN
  GET STACKED DIAGNOSTICS
    failure.code = RETURNED_SQLSTATE, failure.message = MESSAGE_TEXT, failure.detail = PG_EXCEPTION_DETAIL,
    failure.hint = PG_EXCEPTION_HINT, failure.context = PG_EXCEPTION_CONTEXT;
END $$;
COMMENT ON FUNCTION prism_crypt._record_batch(
  prism_crypt._walk, bigint, tid, double precision, bigint, double precision) IS '_advance_range(), with its error. Internal';

CREATE FUNCTION prism_crypt._record_places(
  walk prism_crypt._walk, rows_done bigint, busy_seconds double precision, OUT state text, OUT failure prism_crypt._failure
) LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
  state := prism_crypt._count_rows(walk.token, walk.relation, rows_done, busy_seconds);
EXCEPTION WHEN OTHERS OR assert_failure THEN
  GET STACKED DIAGNOSTICS
    failure.code = RETURNED_SQLSTATE, failure.message = MESSAGE_TEXT, failure.detail = PG_EXCEPTION_DETAIL,
    failure.hint = PG_EXCEPTION_HINT, failure.context = PG_EXCEPTION_CONTEXT;
END $$;
COMMENT ON FUNCTION prism_crypt._record_places(prism_crypt._walk, bigint, double precision) IS
  '_count_rows(), with its error. Internal';

CREATE FUNCTION prism_crypt._record_walk(walk prism_crypt._walk, OUT state text, OUT failure prism_crypt._failure)
  LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
  PERFORM prism_crypt._bound_waits();
  PERFORM prism_crypt._skip_walk(walk.token, walk.relation);
EXCEPTION WHEN OTHERS OR assert_failure THEN
  GET STACKED DIAGNOSTICS
    failure.code = RETURNED_SQLSTATE, failure.message = MESSAGE_TEXT, failure.detail = PG_EXCEPTION_DETAIL,
    failure.hint = PG_EXCEPTION_HINT, failure.context = PG_EXCEPTION_CONTEXT;
END $$;
COMMENT ON FUNCTION prism_crypt._record_walk(prism_crypt._walk) IS '_skip_walk(), with its error. Internal';

-- What to do next: _claim_check().
CREATE FUNCTION prism_crypt._take_check(
  rotation prism_crypt._rotation, parts regclass[], OUT action text, OUT to_walk regclass[], OUT failure prism_crypt._failure
) LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
  PERFORM prism_crypt._bound_waits();
  SELECT c.action, c.to_walk INTO action, to_walk FROM prism_crypt._claim_check(rotation.token, parts) AS c;
EXCEPTION WHEN OTHERS OR assert_failure THEN
  GET STACKED DIAGNOSTICS
    failure.code = RETURNED_SQLSTATE, failure.message = MESSAGE_TEXT, failure.detail = PG_EXCEPTION_DETAIL,
    failure.hint = PG_EXCEPTION_HINT, failure.context = PG_EXCEPTION_CONTEXT;
END $$;
COMMENT ON FUNCTION prism_crypt._take_check(prism_crypt._rotation, regclass[]) IS '_claim_check(), with its error. Internal';

CREATE FUNCTION prism_crypt._begin_pass(
  rotation prism_crypt._rotation, due regclass[], OUT seconds double precision, OUT failure prism_crypt._failure
) LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
  PERFORM prism_crypt._bound_waits();
  seconds := prism_crypt._walk_again(rotation.token, due);
EXCEPTION WHEN OTHERS OR assert_failure THEN
  GET STACKED DIAGNOSTICS
    failure.code = RETURNED_SQLSTATE, failure.message = MESSAGE_TEXT, failure.detail = PG_EXCEPTION_DETAIL,
    failure.hint = PG_EXCEPTION_HINT, failure.context = PG_EXCEPTION_CONTEXT;
END $$;
COMMENT ON FUNCTION prism_crypt._begin_pass(prism_crypt._rotation, regclass[]) IS '_walk_again(), with its error. Internal';

CREATE FUNCTION prism_crypt._end_parts(
  rotation prism_crypt._rotation, parts regclass[], with_rest regclass[], left_over bigint[], left_unreadable bigint[],
  OUT failure prism_crypt._failure
) LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
  PERFORM prism_crypt._bound_waits();
  PERFORM prism_crypt._finish_parts(rotation.token, parts, with_rest, left_over, left_unreadable);
EXCEPTION WHEN OTHERS OR assert_failure THEN
  GET STACKED DIAGNOSTICS
    failure.code = RETURNED_SQLSTATE, failure.message = MESSAGE_TEXT, failure.detail = PG_EXCEPTION_DETAIL,
    failure.hint = PG_EXCEPTION_HINT, failure.context = PG_EXCEPTION_CONTEXT;
END $$;
COMMENT ON FUNCTION prism_crypt._end_parts(prism_crypt._rotation, regclass[], regclass[], bigint[], bigint[]) IS
  '_finish_parts(), with its error. Internal';

-- Without the row of its worker the job is `interrupted`, and a call goes on with it.
CREATE FUNCTION prism_crypt._end_work(rotation prism_crypt._rotation, error text, outcome text) RETURNS void
  LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
  PERFORM prism_crypt._bound_waits();
  PERFORM prism_crypt._leave_job(rotation.token, error, outcome);
EXCEPTION WHEN OTHERS OR assert_failure THEN
  NULL;
END $$;
COMMENT ON FUNCTION prism_crypt._end_work(prism_crypt._rotation, text, text) IS '_leave_job(), if it can. Internal';
