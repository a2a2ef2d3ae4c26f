-- The twin column, and the triggers that keep two columns in step. Each function is one transaction under a short lock.

-- In 14, a trigger of a partitioned table is enabled on it alone.
CREATE FUNCTION prism_crypt._make_triggers(migration prism_crypt.migration, source name, target name, mode text) RETURNS void
  LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  -- Triggers fire in the order of their names, and this one has to see what the others make of a row.
  trigger_name CONSTANT text := prism_crypt._trigger_name(migration.id);
  member regclass;
BEGIN
  FOR member IN
    SELECT t.member FROM prism_crypt._table_tree(migration.relation) AS t JOIN pg_class AS c ON c.oid = t.member
    -- Partitions get theirs from the partitioned table.
    WHERE t.relkind IN ('r', 'p') AND (NOT c.relispartition OR t.member = migration.relation)
  LOOP
    EXECUTE format(
      'CREATE TRIGGER %I BEFORE INSERT OR UPDATE ON %s FOR EACH ROW EXECUTE FUNCTION prism_crypt._keep_in_step(%L, %L, %L)',
      trigger_name, prism_crypt._qualified_name(member), source, target, mode);
    -- Only who owns the table can do this, so the trigger knows that it acts for its owner.
    EXECUTE format('ALTER TRIGGER %I ON %s DEPENDS ON EXTENSION prism_crypt', trigger_name, prism_crypt._qualified_name(member));
  END LOOP;
  FOR member IN
    SELECT t.member FROM prism_crypt._table_tree(migration.relation) AS t WHERE t.relkind IN ('r', 'p')
  LOOP
    -- Also for what is applied from other servers, and for sessions that switch triggers off.
    EXECUTE format('ALTER TABLE ONLY %s ENABLE ALWAYS TRIGGER %I', prism_crypt._qualified_name(member), trigger_name);
  END LOOP;
END $$;
COMMENT ON FUNCTION prism_crypt._make_triggers(prism_crypt.migration, name, name, text) IS
  'Makes the triggers that keep two columns in step. Internal';

CREATE FUNCTION prism_crypt._is_gone(relation regclass) RETURNS boolean
  LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$ SELECT NOT EXISTS (SELECT FROM pg_class AS c WHERE c.oid = $1) $$;
COMMENT ON FUNCTION prism_crypt._is_gone(regclass) IS 'Whether a table was dropped. Internal';

-- The two columns that a migration has now, and that they still are a plain and an encrypted one.
CREATE FUNCTION prism_crypt._require_columns(migration prism_crypt.migration) RETURNS void
  LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  is_cut_over CONSTANT boolean := migration.cut_over_at IS NOT NULL;
  other CONSTANT name := CASE WHEN is_cut_over THEN migration.kept ELSE migration.twin END;
  named CONSTANT text := prism_crypt._qualified_name(migration.relation);
  problem text;
BEGIN
  SELECT format('%I %s', c.name, CASE WHEN a.attnum IS NULL THEN 'is gone'
                                      ELSE format('has type %s now', format_type(a.atttypid, a.atttypmod)) END)
    INTO problem
  FROM (VALUES (migration.column_name, is_cut_over), (other, NOT is_cut_over)) AS c (name, is_new)
  LEFT JOIN pg_attribute AS a ON a.attrelid = migration.relation AND a.attname = c.name AND NOT a.attisdropped
  WHERE a.attnum IS NULL
     OR prism_crypt._holds_encrypted(a.atttypid) <> (c.is_new = (migration.type ~ '\mencrypted_text\M'))
  LIMIT 1;
  IF FOUND THEN
    RAISE object_not_in_prerequisite_state USING
      MESSAGE = format('a column of migration %s was changed', migration.id), DETAIL = format('In table %s, %s.', named, problem),
      HINT = format('Make it what it was, or CALL prism_crypt.%s(%s).',
                    CASE WHEN is_cut_over THEN 'finish_migration' ELSE 'rollback_migration' END, migration.id);
  END IF;
END $$;
COMMENT ON FUNCTION prism_crypt._require_columns(prism_crypt.migration) IS
  'Raises an error if a column of a migration is not what it was. Internal';

-- The column that a trigger of a migration gives values: its second argument. Null for other triggers.
CREATE FUNCTION prism_crypt._filled_by(trigger_ pg_trigger) RETURNS name
  LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
  SELECT convert_from(decode(split_part(encode($1.tgargs, 'escape'), '\000', 2), 'escape'), getdatabaseencoding())::name
  WHERE $1.tgfoid = 'prism_crypt._keep_in_step'::regproc
$$;
COMMENT ON FUNCTION prism_crypt._filled_by(pg_trigger) IS 'The column that a trigger of a migration gives values. Internal';

CREATE FUNCTION prism_crypt._drop_triggers(migration prism_crypt.migration) RETURNS void
  LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  one record;
BEGIN
  FOR one IN
    SELECT t.member, g.tgname FROM prism_crypt._table_tree(migration.relation) AS t
    JOIN pg_trigger AS g ON g.tgrelid = t.member AND g.tgparentid = 0
    WHERE g.tgname = prism_crypt._trigger_name(migration.id)
      -- Somebody may have renamed it. Without the column that it fills, it lets nobody write.
      OR prism_crypt._filled_by(g) IN (migration.twin, migration.kept)
  LOOP
    EXECUTE format('DROP TRIGGER %I ON %s', one.tgname, prism_crypt._qualified_name(one.member));
  END LOOP;
END $$;
COMMENT ON FUNCTION prism_crypt._drop_triggers(prism_crypt.migration) IS 'Drops the triggers of a migration. Internal';

-- Where a dump did not bring the record of a migration, its trigger stays, and knows the columns by their names.
CREATE FUNCTION prism_crypt._stray_triggers(relation regclass) RETURNS SETOF prism_crypt._dependant
  LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  one record;
  migration prism_crypt.migration;
BEGIN
  FOR one IN
    SELECT g.tgname, substring(g.tgname FROM '^~prism_crypt_(\d{1,18})$')::bigint AS id, prism_crypt._filled_by(g) AS filled,
           prism_crypt._qualified_name(t.member) AS named
    FROM prism_crypt._table_tree(relation) AS t JOIN pg_trigger AS g ON g.tgrelid = t.member AND g.tgparentid = 0
    WHERE prism_crypt._filled_by(g) IS NOT NULL ORDER BY t.member, g.tgname
  LOOP
    BEGIN
      migration := prism_crypt._read_migration(one.id, prism_crypt._note_caller());
    EXCEPTION WHEN undefined_object OR null_value_not_allowed OR insufficient_privilege THEN
      migration := NULL;
    END;
    IF migration.id IS NULL OR migration.relation <> relation OR migration.phase IN ('finished', 'rolled_back')
       OR one.filled NOT IN (migration.twin, migration.kept) THEN
      RETURN NEXT prism_crypt._dependant('trigger', format('%I on %s', one.tgname, one.named),
        blocks => format('it gives column "%s" values, for a migration that this database does not know', one.filled),
        unblock => format('DROP TRIGGER %I ON %s', one.tgname, one.named));
    END IF;
  END LOOP;
END $$;
COMMENT ON FUNCTION prism_crypt._stray_triggers(regclass) IS 'Triggers of migrations that are not recorded. Internal';

-- A table that has no trigger, or one that is switched off, may have rows that are not in step: a child that came later, a partition
-- that was detached and attached again.
CREATE FUNCTION prism_crypt._lacks_trigger(migration prism_crypt.migration) RETURNS regclass
  LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
  SELECT t.member FROM prism_crypt._table_tree(migration.relation) AS t
  WHERE t.relkind = 'r' AND NOT EXISTS (
    SELECT FROM pg_trigger AS g
    WHERE g.tgrelid = t.member AND g.tgname = prism_crypt._trigger_name(migration.id) AND g.tgenabled = 'A')
  ORDER BY t.member LIMIT 1
$$;
COMMENT ON FUNCTION prism_crypt._lacks_trigger(prism_crypt.migration) IS 'A table without the trigger of a migration, if there is one. Internal';

-- Which triggers there are, since when. A partition that was detached and attached again, or comes with rows, has others; so has a
-- table on which they were switched off for a while.
CREATE FUNCTION prism_crypt._trigger_marks(migration prism_crypt.migration) RETURNS text
  LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
  SELECT coalesce(md5(string_agg(format('%s %s %s %s', g.tgrelid, g.oid, g.xmin, g.tgenabled), ',' ORDER BY g.tgrelid)), '')
  FROM prism_crypt._table_tree(migration.relation) AS t JOIN pg_trigger AS g ON g.tgrelid = t.member
  WHERE t.relkind = 'r' AND g.tgname = prism_crypt._trigger_name(migration.id)
$$;
COMMENT ON FUNCTION prism_crypt._trigger_marks(prism_crypt.migration) IS 'What tells whether triggers were there all the time. Internal';

-- Whether all that was written since the verification began is in step. A rewrite needs none; and nobody can verify the way back from an
-- expression.
CREATE FUNCTION prism_crypt._is_verified(migration prism_crypt.migration) RETURNS boolean
  LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
  SELECT migration.method = 'rewrite' OR migration.is_going_back AND migration.using_expression IS NOT NULL
    OR NOT prism_crypt._has_late_triggers(migration.relation)
       AND coalesce(migration.build ->> 'triggers' = prism_crypt._trigger_marks(migration), false)
$$;
COMMENT ON FUNCTION prism_crypt._is_verified(prism_crypt.migration) IS 'Whether the verification of a migration still counts. Internal';

-- On the way back the triggers can be made again: the verification that follows corrects whatever was written without them. Who goes
-- forth can begin again.
CREATE FUNCTION prism_crypt._needs_triggers(migration prism_crypt.migration) RETURNS boolean
  LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
  SELECT migration.is_going_back AND migration.cut_over_at IS NOT NULL AND migration.using_expression IS NULL
    AND migration.phase IN ('rows', 'indexes', 'verification', 'statistics', 'ready')
    AND prism_crypt._lacks_trigger(migration) IS NOT NULL
$$;
COMMENT ON FUNCTION prism_crypt._needs_triggers(prism_crypt.migration) IS
  'Whether the triggers of a migration have to be made again. Internal';

CREATE FUNCTION prism_crypt._make_triggers_again(migration prism_crypt.migration) RETURNS void
  LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
  PERFORM prism_crypt._lock_tree(migration.relation);
  PERFORM prism_crypt._drop_triggers(migration);
  PERFORM prism_crypt._make_triggers(migration, migration.column_name, migration.kept, 'return');
END $$;
COMMENT ON FUNCTION prism_crypt._make_triggers_again(prism_crypt.migration) IS 'Makes the triggers of a cut-over again. Internal';

CREATE FUNCTION prism_crypt._require_triggers(migration prism_crypt.migration) RETURNS void
  LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  lacking regclass;
BEGIN
  lacking := prism_crypt._lacks_trigger(migration);
  IF lacking IS NOT NULL THEN
    RAISE object_not_in_prerequisite_state USING
      MESSAGE = format('table %s has lost the trigger of migration %s', prism_crypt._qualified_name(lacking), migration.id),
      DETAIL = 'So rows may have been written that are not in step.',
      HINT = CASE WHEN migration.cut_over_at IS NULL THEN format('Call prism_crypt.rollback_migration(%s), and begin again.', migration.id)
                  ELSE format('CALL prism_crypt.finish_migration(%s), or make the trigger again.', migration.id) END;
  END IF;
END $$;
COMMENT ON FUNCTION prism_crypt._require_triggers(prism_crypt.migration) IS
  'Raises an error if the triggers of a migration are not all there. Internal';

CREATE FUNCTION prism_crypt._has_column(relation regclass, column_name name) RETURNS boolean
  LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
  SELECT EXISTS (SELECT FROM pg_attribute AS a WHERE a.attrelid = $1 AND a.attname = $2 AND NOT a.attisdropped)
$$;
COMMENT ON FUNCTION prism_crypt._has_column(regclass, name) IS 'Whether a table has a column. Internal';

CREATE FUNCTION prism_crypt._add_twin(migration prism_crypt.migration) RETURNS void
  LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  table_name CONSTANT text := prism_crypt._qualified_name(migration.relation);
BEGIN
  PERFORM prism_crypt._lock_tree(migration.relation);
  -- A subscriber may have made it before.
  IF NOT prism_crypt._has_column(migration.relation, migration.twin) THEN
    EXECUTE format('ALTER TABLE %s ADD COLUMN %I %s', table_name, migration.twin, migration.type);
  END IF;
  EXECUTE format(
    'COMMENT ON COLUMN %s.%I IS %L', table_name, migration.twin,
    format('The values of "%s" as %s, for migration %s',
           migration.column_name, migration.type, migration.id));
  PERFORM prism_crypt._make_triggers(
    migration, migration.column_name, migration.twin,
    CASE WHEN migration.using_expression IS NULL THEN 'follow' ELSE 'clear' END);
END $$;
COMMENT ON FUNCTION prism_crypt._add_twin(prism_crypt.migration) IS 'Adds the twin column and its triggers. Internal';

CREATE FUNCTION prism_crypt._drop_twin(migration prism_crypt.migration) RETURNS void
  LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
  PERFORM prism_crypt._lock_tree(migration.relation);
  PERFORM prism_crypt._drop_triggers(migration);
  IF prism_crypt._has_column(migration.relation, migration.twin) THEN
    EXECUTE format('ALTER TABLE %s DROP COLUMN %I', prism_crypt._qualified_name(migration.relation), migration.twin);
  END IF;
END $$;
COMMENT ON FUNCTION prism_crypt._drop_twin(prism_crypt.migration) IS 'Drops the twin column and its triggers. Internal';

-- Before anybody queries the new column.
CREATE FUNCTION prism_crypt._analyze(relation regclass, column_name name) RETURNS void
  LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp SET client_min_messages = error AS $$
BEGIN
  EXECUTE format('ANALYZE %s (%I)', prism_crypt._qualified_name(relation), column_name);
END $$;
COMMENT ON FUNCTION prism_crypt._analyze(regclass, name) IS 'Computes the statistics of a column. Internal';
