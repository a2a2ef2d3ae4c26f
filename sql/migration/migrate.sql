-- The procedures to call. Nothing in a procedure that commits relies on search_path, except where it reads what the caller wrote: the
-- name of a type, and an expression.

-- What is asked for, complete.
CREATE FUNCTION prism_crypt._asked(
  relation regclass, column_name name, type text, using_expression text, method text, keep_plaintext boolean, path text
) RETURNS prism_crypt.migration
  LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_variable
DECLARE
  asked prism_crypt.migration;
BEGIN
  IF relation IS NULL OR column_name IS NULL THEN
    RAISE null_value_not_allowed USING MESSAGE = 'relation and column_name must not be null';
  ELSIF method IS NULL OR method NOT IN ('auto', 'online', 'rewrite') THEN
    RAISE invalid_parameter_value USING MESSAGE = 'method must be auto, online or rewrite';
  ELSIF keep_plaintext IS NULL THEN
    RAISE null_value_not_allowed USING MESSAGE = 'keep_plaintext must not be null';
  END IF;
  asked.relation := relation;
  asked.column_name := column_name;
  asked.type := (prism_crypt._parse_type(type, path)).name;
  asked.using_expression := using_expression;
  asked.keep_plaintext := keep_plaintext;
  asked.method := method;
  asked.twin := prism_crypt._side_name('prism_crypt_new_', column_name);
  asked.kept := prism_crypt._side_name('prism_crypt_old_', column_name);
  SELECT format_type(a.atttypid, a.atttypmod) INTO asked.old_type FROM pg_attribute AS a
  WHERE a.attrelid = relation AND a.attname = column_name AND a.attnum > 0 AND NOT a.attisdropped;
  RETURN asked;
END $$;
COMMENT ON FUNCTION prism_crypt._asked(regclass, name, text, text, text, boolean, text) IS 'A migration that is asked for. Internal';

-- The number of the migration to go on with: an open one, if it is the same that is asked for now, or a new one.
CREATE FUNCTION prism_crypt._begin_migration(asked prism_crypt.migration) RETURNS bigint
  LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  found_one CONSTANT prism_crypt.migration :=
    prism_crypt._find_migration(asked.relation, asked.column_name, prism_crypt._note_caller());
BEGIN
  IF found_one.id IS NULL THEN
    RETURN prism_crypt._open_migration(asked, prism_crypt._note_caller());
  ELSIF found_one.is_going_back THEN
    RAISE object_not_in_prerequisite_state USING
      MESSAGE = format('migration %s is being rolled back', found_one.id),
      HINT = format('CALL prism_crypt.rollback_migration(%s) goes on.', found_one.id);
  ELSIF found_one.type <> asked.type OR found_one.using_expression IS DISTINCT FROM asked.using_expression
        OR found_one.keep_plaintext <> asked.keep_plaintext AND found_one.method = 'online' AND found_one.cut_over_at IS NULL THEN
    RAISE object_in_use USING
      MESSAGE = format('migration %s of column "%s" is open', found_one.id, found_one.column_name),
      -- An expression may hold the key of another system.
      DETAIL = format('Its type is %s%s, and keep_plaintext is %s.', found_one.type,
                      CASE WHEN found_one.using_expression IS NOT NULL THEN ', by an expression' ELSE '' END, found_one.keep_plaintext::text),
      HINT = format('Call it with these, or CALL prism_crypt.rollback_migration(%s).', found_one.id);
  END IF;
  RETURN found_one.id;
END $$;
COMMENT ON FUNCTION prism_crypt._begin_migration(prism_crypt.migration) IS 'Finds or records a migration. Internal';

CREATE FUNCTION prism_crypt._work_for(id bigint, goal text, limits prism_crypt._limits, lock_timeout interval)
  RETURNS prism_crypt._migration_work
  LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  work prism_crypt._migration_work;
BEGIN
  IF lock_timeout IS NULL THEN
    RAISE null_value_not_allowed USING MESSAGE = 'lock_timeout must not be null';
  END IF;
  PERFORM prism_crypt._require_between('lock_timeout', lock_timeout, interval '1 ms', interval '1 hour');
  work.migration := prism_crypt._take_migration(id, prism_crypt._note_caller());
  work.goal := goal;
  work.limits := limits;
  work.lock_timeout := lock_timeout;
  work.attempts := 0;
  work.seconds := 0;
  RETURN work;
END $$;
COMMENT ON FUNCTION prism_crypt._work_for(bigint, text, prism_crypt._limits, interval) IS 'What a session does for a migration. Internal';

CREATE FUNCTION prism_crypt._goal(until text) RETURNS text
  LANGUAGE plpgsql IMMUTABLE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
  IF until IS NULL OR until NOT IN ('cut_over', 'verified') THEN
    RAISE invalid_parameter_value USING MESSAGE = 'until must be cut_over or verified';
  END IF;
  RETURN CASE until WHEN 'verified' THEN 'ready' ELSE 'cut_over' END;
END $$;
COMMENT ON FUNCTION prism_crypt._goal(text) IS 'The phase in which a migration stops. Internal';

CREATE PROCEDURE prism_crypt.migrate_column(
  relation regclass, column_name name, type text, using_expression text DEFAULT NULL, method text DEFAULT 'auto',
  until text DEFAULT 'cut_over', dry_run boolean DEFAULT false, keep_plaintext boolean DEFAULT true,
  lock_timeout interval DEFAULT '2s', max_lock_time interval DEFAULT '1s', batch_size integer DEFAULT 1000,
  pause interval DEFAULT NULL, max_rows_per_second double precision DEFAULT NULL, max_replica_lag bigint DEFAULT NULL,
  max_batches integer DEFAULT NULL
) LANGUAGE plpgsql AS $$
DECLARE
  limits CONSTANT prism_crypt._limits := ROW(batch_size, pause, max_rows_per_second, max_replica_lag, max_batches, true);
  goal CONSTANT pg_catalog.text := prism_crypt._goal(until);
  asked prism_crypt.migration;
  work prism_crypt._migration_work;
BEGIN
  PERFORM prism_crypt._require_no_transaction_block('prism_crypt.migrate_column()');
  PERFORM prism_crypt._check_limits(limits);
  asked := prism_crypt._asked(
    relation, column_name, type, prism_crypt._read_expression(relation, column_name, using_expression), method, keep_plaintext,
    pg_catalog.current_setting('search_path'));
  asked := prism_crypt._checked(asked, until, max_lock_time);
  IF dry_run THEN
    PERFORM prism_crypt._try_migration(asked);
    RETURN;
  END IF;
  work := prism_crypt._work_for(prism_crypt._begin_migration(asked), goal, limits, lock_timeout);
  CALL prism_crypt._advance(work);
  PERFORM prism_crypt._report_migration((work.migration).id);
END $$;
COMMENT ON PROCEDURE prism_crypt.migrate_column(
  regclass, name, text, text, text, text, boolean, boolean, interval, interval, integer, interval, double precision, bigint,
  integer) IS
  'Encrypts a column that is in use: fills, verifies and then exchanges it. A call after an interruption goes on';

CREATE PROCEDURE prism_crypt.decrypt_column(
  relation regclass, column_name name, type text DEFAULT 'text', method text DEFAULT 'auto', until text DEFAULT 'cut_over',
  dry_run boolean DEFAULT false, lock_timeout interval DEFAULT '2s', max_lock_time interval DEFAULT '1s',
  batch_size integer DEFAULT 1000, pause interval DEFAULT NULL, max_rows_per_second double precision DEFAULT NULL,
  max_replica_lag bigint DEFAULT NULL, max_batches integer DEFAULT NULL
) LANGUAGE plpgsql AS $$
DECLARE
  limits CONSTANT prism_crypt._limits := ROW(batch_size, pause, max_rows_per_second, max_replica_lag, max_batches, true);
  goal CONSTANT pg_catalog.text := prism_crypt._goal(until);
  asked prism_crypt.migration;
  work prism_crypt._migration_work;
BEGIN
  PERFORM prism_crypt._require_no_transaction_block('prism_crypt.decrypt_column()');
  PERFORM prism_crypt._check_limits(limits);
  asked := prism_crypt._asked(
    relation, column_name, type, NULL, method, false, pg_catalog.current_setting('search_path'));
  asked := prism_crypt._checked(asked, until, max_lock_time);
  IF dry_run THEN
    PERFORM prism_crypt._try_migration(asked);
    RETURN;
  END IF;
  work := prism_crypt._work_for(prism_crypt._begin_migration(asked), goal, limits, lock_timeout);
  CALL prism_crypt._advance(work);
  PERFORM prism_crypt._report_migration((work.migration).id);
END $$;
COMMENT ON PROCEDURE prism_crypt.decrypt_column(
  regclass, name, text, text, text, boolean, interval, interval, integer, interval, double precision, bigint, integer) IS
  'The way back for good: makes an encrypted column a plaintext one, which needs the right to decrypt';

CREATE PROCEDURE prism_crypt.rollback_migration(id bigint, lock_timeout interval DEFAULT '2s') LANGUAGE plpgsql AS $$
DECLARE
  limits CONSTANT prism_crypt._limits := ROW(1000, NULL, NULL, NULL, NULL, true);
  work prism_crypt._migration_work;
BEGIN
  PERFORM prism_crypt._require_no_transaction_block('prism_crypt.rollback_migration()');
  PERFORM prism_crypt._check_limits(limits);
  work := prism_crypt._work_for(id, 'rolled_back', limits, lock_timeout);
  PERFORM prism_crypt._turn(id, true, prism_crypt._note_caller());
  CALL prism_crypt._advance(work);
  PERFORM prism_crypt._report_migration(id);
END $$;
COMMENT ON PROCEDURE prism_crypt.rollback_migration(bigint, interval) IS
  'Undoes a migration that is not finished; writes that were made since stay';

CREATE PROCEDURE prism_crypt.finish_migration(id bigint, lock_timeout interval DEFAULT '2s', INOUT remains jsonb DEFAULT NULL)
  LANGUAGE plpgsql AS $$
DECLARE
  limits CONSTANT prism_crypt._limits := ROW(1000, NULL, NULL, NULL, NULL, true);
  work prism_crypt._migration_work;
BEGIN
  PERFORM prism_crypt._require_no_transaction_block('prism_crypt.finish_migration()');
  PERFORM prism_crypt._check_limits(limits);
  work := prism_crypt._work_for(id, 'finished', limits, lock_timeout);
  PERFORM prism_crypt._require_cut_over(work.migration);
  PERFORM prism_crypt._turn(id, false, prism_crypt._note_caller());
  CALL prism_crypt._advance(work);
  remains := prism_crypt._remains_of(work.migration);
END $$;
COMMENT ON PROCEDURE prism_crypt.finish_migration(bigint, interval, jsonb) IS
  'Drops the old column of a migration, and returns what may still hold its plaintext and what to do about it';
