-- Who works on jobs.
--
-- Only the owner may write the tables of jobs, so functions write them for their callers, and don't trust what callers say. The
-- caller who opens a job is noted before the rights change (_note_caller), and gets a token: it stands for a worker of this
-- job, as this role, in this statement of this session. Every step shows the token, needs UPDATE on the table again, and
-- touches only what this worker took. An unknown token gets `over`, like a job that was deleted.

CREATE FUNCTION prism_crypt._is_working(worker_pid integer, worker_started timestamptz) RETURNS boolean
  LANGUAGE sql VOLATILE STRICT SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
  -- With track_activities off, nothing shows a session's statements: then it counts as working as long as it exists.
  SELECT $2 > '-infinity' AND EXISTS (
    SELECT FROM pg_stat_get_activity($1) AS a
    WHERE a.state = 'disabled' OR a.state = 'active' AND a.query_start = $2)
$$;
COMMENT ON FUNCTION prism_crypt._is_working(integer, timestamptz) IS
  'Whether a worker still runs the statement it began with. Internal';

CREATE FUNCTION prism_crypt._note_caller() RETURNS bigint
  LANGUAGE c VOLATILE AS 'MODULE_PATHNAME', '_note_caller_wrapper';
COMMENT ON FUNCTION prism_crypt._note_caller() IS
  'Notes the current role for a function with its owner''s rights that has this call among its arguments. Internal';

CREATE FUNCTION prism_crypt._caller(note bigint) RETURNS oid
  LANGUAGE c VOLATILE AS 'MODULE_PATHNAME', '_caller_wrapper';
COMMENT ON FUNCTION prism_crypt._caller(bigint) IS 'The role that _note_caller() noted, once. Internal';

CREATE FUNCTION prism_crypt._bound_waits() RETURNS void
  LANGUAGE c VOLATILE AS 'MODULE_PATHNAME', '_bound_waits_wrapper';
COMMENT ON FUNCTION prism_crypt._bound_waits() IS
  'Makes this transaction wait five seconds for a lock, or as long as lock_timeout says if that is less. Internal';

CREATE FUNCTION prism_crypt._require_update(role oid, relation regclass) RETURNS void
  LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
  -- Null: the table is gone.
  IF NOT has_any_column_privilege(role, relation::oid, 'UPDATE') THEN
    RAISE insufficient_privilege USING
      MESSAGE = format('permission denied for table %s', prism_crypt._qualified_name(relation));
  END IF;
END $$;
COMMENT ON FUNCTION prism_crypt._require_update(oid, regclass) IS
  'Raises an error unless a role may update a table. Internal';

CREATE FUNCTION prism_crypt._require_number(parameter text, value double precision, highest double precision) RETURNS void
  LANGUAGE plpgsql IMMUTABLE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
  -- NaN is greater than any number.
  IF value IS NULL OR value < 0 OR value > highest THEN
    RAISE invalid_parameter_value USING
      MESSAGE = format('%s must be between %s and %s', parameter, 0, highest);
  END IF;
END $$;
COMMENT ON FUNCTION prism_crypt._require_number(text, double precision, double precision) IS
  'Raises an error for a number that no worker can mean. Internal';

-- The worker of this session that has this token; null if there is none.
CREATE FUNCTION prism_crypt._worker(token uuid) RETURNS prism_crypt.job_worker
  LANGUAGE sql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
  SELECT w FROM prism_crypt.job_worker AS w
  WHERE w.token = $1 AND w.pid = pg_backend_pid() AND w.started = statement_timestamp()
$$;
COMMENT ON FUNCTION prism_crypt._worker(uuid) IS 'A worker of this session, by its token. Internal';

CREATE FUNCTION prism_crypt._state_of_job(job bigint) RETURNS text
  LANGUAGE sql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
  SELECT coalesce((
    SELECT CASE WHEN state IN ('finished', 'incomplete') THEN 'over' ELSE state END
    FROM prism_crypt.job WHERE id = $1), 'over')
$$;
COMMENT ON FUNCTION prism_crypt._state_of_job(bigint) IS 'The state of a job; over if it has ended or is gone. Internal';

-- Takes back ranges that nobody works on. What was done in them still counts.
CREATE FUNCTION prism_crypt._drop_ranges(job bigint) RETURNS void
  LANGUAGE sql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
  WITH gone AS (
    DELETE FROM prism_crypt.job_range AS r
    WHERE r.job = $1 AND NOT prism_crypt._is_working(r.worker_pid, r.worker_started)
    RETURNING r.relation, r.rows_done, r.busy_seconds
  )
  UPDATE prism_crypt.job_part AS p
  SET rows_done = p.rows_done + g.rows_done, rows_in_pass = p.rows_in_pass + g.rows_done,
      busy_seconds = p.busy_seconds + g.busy_seconds
  FROM (SELECT relation, sum(rows_done) AS rows_done, sum(busy_seconds) AS busy_seconds FROM gone GROUP BY relation) AS g
  WHERE p.job = $1 AND p.relation = g.relation
$$;
COMMENT ON FUNCTION prism_crypt._drop_ranges(bigint) IS 'Takes back ranges that nobody works on. Internal';
