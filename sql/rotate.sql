-- The calls. See rotation_walk.sql on why every name is qualified.

CREATE FUNCTION prism_crypt._has_unreadable_versions() RETURNS boolean
  LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
  SELECT EXISTS (SELECT FROM prism_crypt.data_key WHERE state = 'disabled')
$$;
COMMENT ON FUNCTION prism_crypt._has_unreadable_versions() IS 'Whether there are disabled keys. Internal';

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

-- What each may be at most is far from anything sensible, and near enough that nothing overflows that is reckoned from it.
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
    -- Whoever may not do this gets PostgreSQL's own error, before anything begins.
    PERFORM set_config('session_replication_role', 'replica', true);
  END IF;
  IF pg_is_in_recovery() THEN
    RAISE read_only_sql_transaction USING
      MESSAGE = 'a standby can''t rotate', HINT = 'Rotate on the primary; the standby follows.';
  END IF;
END $$;
COMMENT ON FUNCTION prism_crypt._check_limits(prism_crypt._limits) IS
  'Raises an error for limits that make no sense. Internal';

-- What is kept of an error: its message, or a name that it gives, may quote values.
CREATE FUNCTION prism_crypt._describe_failure(failure prism_crypt._failure) RETURNS text
  LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
  SELECT format('SQLSTATE %s', ($1).code) || coalesce((
    SELECT format(', constraint "%s"', c.conname) FROM pg_constraint AS c
    WHERE c.conname = ($1).constraint_name LIMIT 1), '')
$$;
COMMENT ON FUNCTION prism_crypt._describe_failure(prism_crypt._failure) IS 'An error, without values. Internal';

CREATE FUNCTION prism_crypt._raise_failure(
  code text, message text, detail text, hint text, context text, schema_name text, table_name text, column_name text,
  datatype_name text, constraint_name text
) RETURNS void
  LANGUAGE c VOLATILE AS 'MODULE_PATHNAME', '_raise_failure_wrapper';
COMMENT ON FUNCTION prism_crypt._raise_failure(text, text, text, text, text, text, text, text, text, text) IS
  'Raises an error that was recorded. Internal';

CREATE PROCEDURE rotate_batch(
  relation regclass, column_name name DEFAULT NULL, batch_size integer DEFAULT 1000, pause interval DEFAULT NULL,
  max_rows_per_second double precision DEFAULT NULL, max_replica_lag bigint DEFAULT NULL,
  max_batches integer DEFAULT NULL, from_version integer DEFAULT NULL, keyset text DEFAULT NULL,
  key_version_column name DEFAULT NULL, fire_triggers boolean DEFAULT true
) LANGUAGE plpgsql AS $$
DECLARE
  limits prism_crypt._limits := ROW(
    batch_size, pause, max_rows_per_second, max_replica_lag, max_batches, fire_triggers);
  run prism_crypt._run;
BEGIN
  PERFORM prism_crypt._require_no_transaction_block('rotate_batch()');
  PERFORM prism_crypt._check_limits(limits);
  PERFORM prism_crypt._check_rotation_scope(from_version, keyset);
  PERFORM prism_crypt._check_rotatable_table(relation);
  PERFORM prism_crypt._warn_of_foreign_tables(relation);
  run.batches := 0;
  CALL prism_crypt._rotate_job(relation, column_name, key_version_column, from_version, keyset, limits, run);
  IF (run.failure).code IS NOT NULL THEN
    PERFORM prism_crypt._raise_failure(
      (run.failure).code, (run.failure).message, (run.failure).detail, (run.failure).hint, (run.failure).context,
      (run.failure).schema_name, (run.failure).table_name, (run.failure).column_name, (run.failure).datatype_name,
      (run.failure).constraint_name);
  END IF;
END $$;
COMMENT ON PROCEDURE rotate_batch(
  regclass, name, integer, interval, double precision, bigint, integer, integer, text, name, boolean) IS
  'Re-encrypts what is not under the active key of its keyset, in a column or in all of a table, in committed batches';

-- Every table of this database that has something to rotate, without those that are parts of another one.
CREATE FUNCTION prism_crypt._rotation_roots() RETURNS regclass[]
  LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
  SELECT coalesce(array_agg(DISTINCT c.relation::regclass), '{}')
  FROM prism_crypt._encrypted_columns() AS c JOIN pg_class AS r ON r.oid = c.relation
  JOIN pg_namespace AS n ON n.oid = r.relnamespace
  WHERE c.relkind IN ('r', 'p') AND r.relpersistence <> 't' AND n.nspname <> 'prism_crypt'
    AND NOT EXISTS (
      SELECT FROM pg_inherits AS i JOIN prism_crypt._encrypted_columns() AS p ON p.relation = i.inhparent
      WHERE i.inhrelid = c.relation)
$$;
COMMENT ON FUNCTION prism_crypt._rotation_roots() IS 'The tables that rotate_all() goes through. Internal';

CREATE FUNCTION prism_crypt._not_rotated(relkind "char") RETURNS text
  LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
  SELECT string_agg(DISTINCT prism_crypt._qualified_name(c.relation), ', ')
  FROM prism_crypt._encrypted_columns() AS c WHERE c.relkind = $1
$$;
COMMENT ON FUNCTION prism_crypt._not_rotated("char") IS 'Relations of a kind that can''t be rotated. Internal';

CREATE PROCEDURE prism_crypt.rotate_all(
  batch_size integer DEFAULT 1000, pause interval DEFAULT NULL, max_rows_per_second double precision DEFAULT NULL,
  max_replica_lag bigint DEFAULT NULL, max_batches integer DEFAULT NULL, from_version integer DEFAULT NULL,
  keyset text DEFAULT NULL, fire_triggers boolean DEFAULT true
) LANGUAGE plpgsql AS $$
DECLARE
  limits prism_crypt._limits := ROW(
    batch_size, pause, max_rows_per_second, max_replica_lag, max_batches, fire_triggers);
  run prism_crypt._run;
  tables pg_catalog.regclass[] := prism_crypt._rotation_roots();
  relation pg_catalog.regclass;
  refusal prism_crypt._failure;
  failed text[] := '{}';
  others text;
BEGIN
  PERFORM prism_crypt._require_no_transaction_block('prism_crypt.rotate_all()');
  PERFORM prism_crypt._check_limits(limits);
  PERFORM prism_crypt._check_rotation_scope(from_version, keyset);
  run.batches := 0;
  FOREACH relation IN ARRAY tables LOOP
    refusal := prism_crypt._refusal(relation);
    IF (refusal).code IS NULL THEN
      CALL prism_crypt._rotate_job(relation, NULL, NULL, from_version, keyset, limits, run);
      EXIT WHEN run.outcome OPERATOR(pg_catalog.=) 'stopped';
      refusal := run.failure;
    END IF;
    IF (refusal).code IS NOT NULL THEN
      RAISE WARNING '%: %', relation, refusal.message
        USING HINT = coalesce(nullif(refusal.hint, ''), 'rotate_batch() on this table tells more.');
      failed := pg_catalog.array_append(failed, relation::pg_catalog.text);
    END IF;
    run.outcome := NULL;
    run.failure := NULL;
  END LOOP;
  others := prism_crypt._not_rotated('m');
  IF others IS NOT NULL THEN
    RAISE WARNING 'materialized views are not rotated: %', others USING HINT = 'REFRESH MATERIALIZED VIEW makes them anew.';
  END IF;
  others := prism_crypt._not_rotated('f');
  IF others IS NOT NULL THEN
    RAISE WARNING 'foreign tables are not rotated: %', others USING HINT = 'Rotate them on their own server.';
  END IF;
  IF pg_catalog.cardinality(failed) OPERATOR(pg_catalog.>) 0 THEN
    RAISE object_not_in_prerequisite_state USING
      MESSAGE = pg_catalog.format('tables that could not be rotated: %s of %s',
                                  pg_catalog.cardinality(failed), pg_catalog.cardinality(tables)),
      DETAIL = pg_catalog.array_to_string(failed, ', '),
      HINT = 'The warnings say why.';
  END IF;
END $$;
COMMENT ON PROCEDURE prism_crypt.rotate_all(
  integer, interval, double precision, bigint, integer, integer, text, boolean) IS
  'Re-encrypts what is not under the active key of its keyset, in every table of the database';

-- Why a table can't be rotated by this role; null where it can.
CREATE FUNCTION prism_crypt._refusal(relation regclass) RETURNS prism_crypt._failure
  LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  failure prism_crypt._failure;
BEGIN
  PERFORM prism_crypt._rotation_targets(relation, NULL);
  RETURN NULL;
EXCEPTION WHEN insufficient_privilege OR undefined_table OR object_not_in_prerequisite_state THEN
  GET STACKED DIAGNOSTICS failure.code = RETURNED_SQLSTATE, failure.message = MESSAGE_TEXT,
    failure.detail = PG_EXCEPTION_DETAIL, failure.hint = PG_EXCEPTION_HINT;
  RETURN failure;
END $$;
COMMENT ON FUNCTION prism_crypt._refusal(regclass) IS 'Why a table can''t be rotated. Internal';
