-- The rows of a migration, as jobs: a backfill fills the twin column where it is empty, and a verification compares every row.
--
-- Neither makes a value itself. Where the old value is the new one, the trigger makes it as soon as the twin is null in a row that
-- is written, so that there is one way only in which a value comes about.

-- The migration in a scope, if that has exactly the form it may have.
CREATE FUNCTION prism_crypt._migration_in(scope jsonb) RETURNS bigint
  LANGUAGE plpgsql IMMUTABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  id CONSTANT bigint := scope ->> 'migration';
BEGIN
  IF scope IS DISTINCT FROM jsonb_build_object('migration', id) THEN
    RAISE invalid_parameter_value USING MESSAGE = 'the scope of a backfill or a verification is a migration';
  END IF;
  RETURN id;
END $$;
COMMENT ON FUNCTION prism_crypt._migration_in(jsonb) IS 'The migration that a job belongs to. Internal';

CREATE FUNCTION prism_crypt._require_all_rows(relation regclass) RETURNS void
  LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  problem regclass;
BEGIN
  SELECT t.member INTO problem FROM prism_crypt._table_tree(relation) AS t WHERE row_security_active(t.member) LIMIT 1;
  IF FOUND THEN
    RAISE insufficient_privilege USING
      MESSAGE = format('row-level security may hide rows of %s from this role', prism_crypt._qualified_name(problem)),
      HINT = 'ALTER TABLE ... NO FORCE ROW LEVEL SECURITY, or call it as a role with BYPASSRLS.';
  END IF;
END $$;
COMMENT ON FUNCTION prism_crypt._require_all_rows(regclass) IS 'Raises an error if this role may not see all rows of a table. Internal';

-- How many rows of a table (`changed`) meet a condition. All count, whoever asks.
CREATE FUNCTION prism_crypt._count_rows(relation regclass, condition text) RETURNS bigint
  LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  answer bigint;
BEGIN
  PERFORM prism_crypt._require_all_rows(relation);
  EXECUTE format('SELECT count(*) FROM %s AS changed WHERE %s', prism_crypt._qualified_name(relation), condition) INTO answer;
  RETURN answer;
END $$;
COMMENT ON FUNCTION prism_crypt._count_rows(regclass, text) IS 'How many rows of a table meet a condition. Internal';

CREATE FUNCTION prism_crypt._check_rows(relation regclass, column_name name, scope jsonb) RETURNS void
  LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
  PERFORM prism_crypt._read_migration(prism_crypt._migration_in(scope), prism_crypt._note_caller()),
    prism_crypt._require_all_rows(relation);
END $$;
COMMENT ON FUNCTION prism_crypt._check_rows(regclass, name, jsonb) IS
  'Raises an error if this role can''t migrate the rows of a table. Internal';

-- Runs with the owner's rights.
CREATE FUNCTION prism_crypt._migration_parts(relation regclass, column_name name, scope jsonb) RETURNS regclass[]
  LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
  wanted CONSTANT bigint := prism_crypt._migration_in(scope);
BEGIN
  IF NOT EXISTS (SELECT FROM prism_crypt.migration AS m
                 WHERE m.id = wanted AND m.relation = _migration_parts.relation
                   AND m.column_name = _migration_parts.column_name
                   AND m.phase IN ('rows', 'verification')) THEN
    RAISE object_not_in_prerequisite_state USING MESSAGE = format('migration %s has no rows to work on now', wanted);
  END IF;
  RETURN ARRAY(SELECT t.member::regclass FROM prism_crypt._table_tree(_migration_parts.relation) AS t WHERE t.relkind = 'r' ORDER BY 1);
END $$;
COMMENT ON FUNCTION prism_crypt._migration_parts(regclass, name, jsonb) IS 'The tables that hold the rows of a migration. Internal';

-- What the twin is made of, as an expression over the row `changed`.
CREATE FUNCTION prism_crypt._source_of(migration prism_crypt.migration) RETURNS text
  LANGUAGE sql IMMUTABLE SET search_path = pg_catalog, pg_temp AS $$
  SELECT CASE WHEN migration.using_expression IS NULL THEN format('changed.%I', migration.column_name)
              ELSE format('(%s)', migration.using_expression) END
$$;
COMMENT ON FUNCTION prism_crypt._source_of(prism_crypt.migration) IS 'The expression that a migration makes values of. Internal';

-- An expression that gives null for a value (a wrong key, perhaps) would lose it with the old column. If that stays for now, it is a warning.
CREATE FUNCTION prism_crypt._require_no_values_lost(migration prism_crypt.migration, unfilled text) RETURNS void
  LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  is_kept CONSTANT boolean := migration.keep_plaintext AND migration.method = 'online';
  rows CONSTANT bigint := prism_crypt._count_rows(
    migration.relation, format('%s AND %s IS NULL', unfilled, prism_crypt._source_of(migration)));
BEGIN
  IF rows = 0 THEN
    RETURN;
  END IF;
  IF is_kept THEN
    RAISE WARNING 'the expression gives null for values of column "%" that are not null: %', migration.column_name, rows
      USING HINT = 'finish_migration() refuses to drop what only the old column has.';
  ELSE
    RAISE not_null_violation USING
      MESSAGE = format('the expression gives null for values of column "%s" that are not null: %s', migration.column_name, rows),
      DETAIL = 'They would be lost with the old column.',
      HINT = 'Use method => ''online'' with keep_plaintext => true, or another expression.';
  END IF;
END $$;
COMMENT ON FUNCTION prism_crypt._require_no_values_lost(prism_crypt.migration, text) IS
  'Raises an error or a warning if an expression gives null for values. Internal';

CREATE FUNCTION prism_crypt._changes_of(migration prism_crypt.migration, due text) RETURNS prism_crypt._changes
  LANGUAGE plpgsql IMMUTABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  changes prism_crypt._changes;
BEGIN
  changes.due := due;
  changes.possible := due;
  changes.assignments := format(
    '%I = %s', migration.twin, CASE WHEN migration.using_expression IS NULL THEN 'NULL' ELSE prism_crypt._source_of(migration) END);
  changes.assignments_or_kept := changes.assignments;
  changes.errors := ARRAY[format('CASE WHEN %s THEN '''' END', due)];
  changes.hides_rest := false;
  RETURN changes;
END $$;
COMMENT ON FUNCTION prism_crypt._changes_of(prism_crypt.migration, text) IS 'What a migration does with rows that are due. Internal';

CREATE FUNCTION prism_crypt._backfill_changes(relation regclass, column_name name, scope jsonb) RETURNS prism_crypt._changes
  LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  migration CONSTANT prism_crypt.migration := prism_crypt._as_it_goes(
    prism_crypt._read_migration(prism_crypt._migration_in(scope), prism_crypt._note_caller()));
BEGIN
  RETURN prism_crypt._changes_of(migration, format(
    'changed.%I IS NULL AND %s IS NOT NULL', migration.twin, prism_crypt._source_of(migration)));
END $$;
COMMENT ON FUNCTION prism_crypt._backfill_changes(regclass, name, jsonb) IS 'What a backfill does with the rows of one table. Internal';

CREATE FUNCTION prism_crypt._verification_changes(relation regclass, column_name name, scope jsonb) RETURNS prism_crypt._changes
  LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_variable
DECLARE
  migration CONSTANT prism_crypt.migration := prism_crypt._as_it_goes(
    prism_crypt._read_migration(prism_crypt._migration_in(scope), prism_crypt._note_caller()));
  modifier integer;
BEGIN
  SELECT a.atttypmod INTO modifier FROM pg_attribute AS a
  WHERE a.attrelid = relation AND a.attname = migration.twin AND NOT a.attisdropped;
  RETURN prism_crypt._changes_of(migration, format(
    '%sprism_crypt._is_out_of_step(%s, changed.%I, %s)',
    -- What has no value here gets it at the cut-over.
    CASE WHEN migration.using_expression IS NOT NULL THEN format('changed.%I IS NOT NULL AND ', migration.twin) END,
    prism_crypt._source_of(migration), migration.twin, coalesce(modifier, -1)));
END $$;
COMMENT ON FUNCTION prism_crypt._verification_changes(regclass, name, jsonb) IS
  'What a verification does with the rows of one table. Internal';

-- A migration goes on once its jobs are finished.
INSERT INTO prism_crypt.job_kind (name, checks, parts, changes, rows_changed, by_owner) VALUES
  ('backfill', 'prism_crypt._check_rows', 'prism_crypt._migration_parts', 'prism_crypt._backfill_changes', 'rows filled', true),
  ('verification', 'prism_crypt._check_rows', 'prism_crypt._migration_parts', 'prism_crypt._verification_changes',
   'rows corrected', true);

-- How the last job of a migration ended; null if there is none.
CREATE FUNCTION prism_crypt._job_of_migration(id bigint, kind text, note bigint, OUT state text, OUT rows_left bigint)
  LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  role CONSTANT oid := prism_crypt._caller(note);
  migration CONSTANT prism_crypt.migration := prism_crypt._migration_of(_job_of_migration.id, role);
BEGIN
  SELECT j.state, (SELECT sum(p.left_over) FROM prism_crypt.job_part AS p WHERE p.job = j.id) INTO state, rows_left
  FROM prism_crypt.job AS j
  WHERE j.kind = _job_of_migration.kind AND j.relation = migration.relation AND j.scope = jsonb_build_object('migration', migration.id)
  ORDER BY j.id DESC LIMIT 1;
END $$;
COMMENT ON FUNCTION prism_crypt._job_of_migration(bigint, text, bigint) IS 'How a job of a migration ended. Internal';
