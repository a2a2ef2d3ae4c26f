-- How fast a session may work, and how it waits.

CREATE TYPE prism_crypt._limits AS (
  batch_size          integer,
  pause               interval,
  max_rows_per_second double precision,
  max_replica_lag     bigint,
  max_batches         integer,
  fire_triggers       boolean
);
COMMENT ON TYPE prism_crypt._limits IS 'How fast a session may work. Internal';

CREATE FUNCTION prism_crypt._require_no_transaction_block(what text) RETURNS void
  LANGUAGE c VOLATILE STRICT AS 'MODULE_PATHNAME', '_require_no_transaction_block_wrapper';
COMMENT ON FUNCTION prism_crypt._require_no_transaction_block(text) IS
  'Raises an error if a procedure could not commit. Internal';

-- NaN and infinity are greater than any number.
CREATE FUNCTION prism_crypt._require_between(parameter text, value anyelement, lowest anyelement, highest anyelement)
  RETURNS void
  LANGUAGE plpgsql IMMUTABLE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
  IF value < lowest OR value > highest THEN
    RAISE invalid_parameter_value USING
      MESSAGE = format('%s must be between %s and %s', parameter, lowest, highest);
  END IF;
END $$;
COMMENT ON FUNCTION prism_crypt._require_between(text, anyelement, anyelement, anyelement) IS
  'Raises an error for a parameter out of its range, which may be null. Internal';

-- The maximum of each is far above anything sensible, but low enough that nothing computed from it overflows.
CREATE FUNCTION prism_crypt._check_limits(limits prism_crypt._limits) RETURNS void
  LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
  PERFORM prism_crypt._require_between('batch_size', limits.batch_size, 1, 1000000),
    prism_crypt._require_between('pause', limits.pause, interval '0', interval '1 day'),
    prism_crypt._require_between('max_rows_per_second', limits.max_rows_per_second, 0.001::float8, 1e9::float8),
    prism_crypt._require_between('max_replica_lag', limits.max_replica_lag, 0::bigint, 9223372036854775807),
    prism_crypt._require_between('max_batches', limits.max_batches, 1, 2147483647);
  IF limits.batch_size IS NULL THEN
    RAISE null_value_not_allowed USING MESSAGE = 'batch_size must not be null';
  ELSIF limits.fire_triggers IS NULL THEN
    RAISE null_value_not_allowed USING MESSAGE = 'fire_triggers must not be null';
  ELSIF NOT limits.fire_triggers THEN
    -- A role that may not do this gets PostgreSQL's own error, before anything begins.
    PERFORM set_config('session_replication_role', 'replica', true);
  END IF;
  IF pg_is_in_recovery() THEN
    RAISE read_only_sql_transaction USING
      MESSAGE = 'a standby can''t rotate', HINT = 'Rotate on the primary; the standby follows.';
  END IF;
END $$;
COMMENT ON FUNCTION prism_crypt._check_limits(prism_crypt._limits) IS
  'Raises an error for limits that make no sense. Internal';

-- How far the slowest standby is behind, in bytes; 0 if none is connected.
CREATE FUNCTION prism_crypt._replica_lag() RETURNS bigint
  LANGUAGE sql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
  SELECT coalesce(max(pg_wal_lsn_diff(
    pg_current_wal_lsn(), coalesce(replay_lsn, flush_lsn, write_lsn, sent_lsn, '0/0'))), 0)::bigint
  FROM pg_stat_replication WHERE state <> 'backup'
$$;
COMMENT ON FUNCTION prism_crypt._replica_lag() IS 'How many bytes the slowest standby or subscriber is behind. Internal';

-- The time of day may be set back or forward while a rotation runs.
CREATE FUNCTION prism_crypt._uptime() RETURNS double precision
  LANGUAGE c VOLATILE AS 'MODULE_PATHNAME', '_uptime_wrapper';
COMMENT ON FUNCTION prism_crypt._uptime() IS 'Seconds since this session first asked, by a clock that is never set. Internal';

CREATE FUNCTION prism_crypt._sleep(seconds double precision) RETURNS void
  LANGUAGE c VOLATILE STRICT AS 'MODULE_PATHNAME', '_sleep_wrapper';
COMMENT ON FUNCTION prism_crypt._sleep(double precision) IS 'As pg_sleep(), by a clock that is never set. Internal';
