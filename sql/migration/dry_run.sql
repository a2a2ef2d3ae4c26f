-- A migration of some rows, in a copy, in a subtransaction that is rolled back: there, verified, cut over, written, and back.

CREATE FUNCTION prism_crypt._rows_out_of_step(copy regclass, source text, target name) RETURNS bigint
  LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  modifier CONSTANT integer := (SELECT a.atttypmod FROM pg_attribute AS a WHERE a.attrelid = copy AND a.attname = target);
  answer bigint;
BEGIN
  EXECUTE format('SELECT count(*) FROM %s AS changed WHERE prism_crypt._is_out_of_step(%s, changed.%I, %s)', copy, source, target, modifier)
    INTO answer;
  RETURN answer;
END $$;
COMMENT ON FUNCTION prism_crypt._rows_out_of_step(regclass, text, name) IS 'How many rows of a copy are not in step. Internal';

CREATE FUNCTION prism_crypt._trial_trigger(copy regclass, source name, target name, mode text) RETURNS void
  LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
  EXECUTE format(
    'CREATE OR REPLACE TRIGGER "~prism_crypt_trial" BEFORE INSERT OR UPDATE ON %s FOR EACH ROW EXECUTE FUNCTION prism_crypt._keep_in_step(%L, %L, %L)',
    copy, source, target, mode);
  EXECUTE format('ALTER TRIGGER "~prism_crypt_trial" ON %s DEPENDS ON EXTENSION prism_crypt', copy);
END $$;
COMMENT ON FUNCTION prism_crypt._trial_trigger(regclass, name, name, text) IS 'Gives a copy the trigger of a migration. Internal';

CREATE FUNCTION prism_crypt._migrate_sample(
  asked prism_crypt.migration, sample_rows integer, OUT sampled bigint, OUT wrong bigint
) LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  member CONSTANT regclass := prism_crypt._largest_member(asked.relation);
  by_expression CONSTANT boolean := asked.using_expression IS NOT NULL;
  copy regclass;
  done boolean := false;
BEGIN
  sampled := 0;
  wrong := 0;
  -- A partitioned table without partitions.
  IF member IS NULL THEN
    RETURN;
  END IF;
  PERFORM prism_crypt._make_sample_table(member);
  copy := 'pg_temp.prism_crypt_sample'::regclass;
  IF pg_relation_size(member) > 0 THEN
    sampled := prism_crypt._copy_sample(member, copy, ARRAY(
      SELECT a.attnum FROM prism_crypt._sample_columns(member) AS a ORDER BY a.attnum), sample_rows);
  END IF;
  PERFORM prism_crypt._drop_side_columns(copy, asked.column_name);
  EXECUTE format('ALTER TABLE %s ADD COLUMN %I %s', copy, asked.twin, asked.type);
  PERFORM prism_crypt._trial_trigger(copy, asked.column_name, asked.twin, CASE WHEN by_expression THEN 'clear' ELSE 'follow' END);
  EXECUTE format('UPDATE %s AS changed SET %I = %s', copy, asked.twin,
                 CASE WHEN by_expression THEN prism_crypt._source_of(asked) ELSE 'NULL' END);
  wrong := prism_crypt._rows_out_of_step(copy, prism_crypt._source_of(asked), asked.twin);
  EXECUTE format('ALTER TABLE %s RENAME COLUMN %I TO %I', copy, asked.column_name, asked.kept);
  EXECUTE format('ALTER TABLE %s RENAME COLUMN %I TO %I', copy, asked.twin, asked.column_name);
  IF NOT by_expression THEN
    -- And back: the old column is made of the new one.
    PERFORM prism_crypt._trial_trigger(copy, asked.column_name, asked.kept, 'return');
    EXECUTE format('UPDATE %s SET %I = NULL', copy, asked.kept);
    wrong := wrong + prism_crypt._rows_out_of_step(copy, format('changed.%I', asked.column_name), asked.kept);
  END IF;
  done := true;
  RAISE SQLSTATE 'PC000';
EXCEPTION WHEN SQLSTATE 'PC000' THEN
  IF NOT done THEN
    RAISE;
  END IF;
END $$;
COMMENT ON FUNCTION prism_crypt._migrate_sample(prism_crypt.migration, integer) IS
  'Migrates a sample of a table in a copy, and leaves nothing behind. Internal';

CREATE FUNCTION prism_crypt._try_migration(asked prism_crypt.migration) RETURNS void
  LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  target CONSTANT text := format('%s.%I', prism_crypt._qualified_name(asked.relation), asked.column_name);
  sample CONSTANT record := prism_crypt._migrate_sample(asked, 1000);
  carried text;
BEGIN
  IF sample.wrong > 0 THEN
    RAISE object_not_in_prerequisite_state USING
      MESSAGE = format('%s: %s of %s sampled values differ after a migration', target, sample.wrong, sample.sampled);
  END IF;
  SELECT string_agg(format('%s %s', d.kind, d.identity), ', ' ORDER BY d.ordinal) INTO carried
  FROM prism_crypt._dependants(asked.relation, asked.column_name, asked.type) AS d;
  RAISE NOTICE 'dry run: % as %, method %: % sampled values migrated and verified', target, asked.type, asked.method,
    sample.sampled
    USING DETAIL = format('Carried over: %s.', coalesce(carried, 'nothing depends on the column')),
          HINT = 'Nothing was changed. prism_crypt.explain_migration() says how long it takes, and who needs which rights.';
END $$;
COMMENT ON FUNCTION prism_crypt._try_migration(prism_crypt.migration) IS 'What a dry run does and says. Internal';
