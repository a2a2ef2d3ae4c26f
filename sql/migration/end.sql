-- The end: the old column goes, and grants are whole again.

-- Another migration of the table, which is cut over, takes over the grants that are split. Otherwise gives them as they are now, under the
-- lock of the table: another one may have left its own here since this migration was read.
CREATE FUNCTION prism_crypt._hand_on_grants(id bigint, note bigint) RETURNS jsonb
  LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
  role CONSTANT oid := prism_crypt._caller(note);
  migration CONSTANT prism_crypt.migration := prism_crypt._migration_of(_hand_on_grants.id, role);
BEGIN
  PERFORM prism_crypt._require_worker(role, migration);
  UPDATE prism_crypt.migration AS m SET closed = m.closed || migration.closed
  WHERE m.id = (SELECT o.id FROM prism_crypt.migration AS o
                WHERE o.relation = migration.relation AND o.id <> migration.id AND o.closed IS NOT NULL
                ORDER BY o.id LIMIT 1);
  RETURN CASE WHEN NOT FOUND THEN migration.closed END;
END $$;
COMMENT ON FUNCTION prism_crypt._hand_on_grants(bigint, bigint) IS
  'Leaves split grants to another migration of the table, or gives them. Internal';

CREATE FUNCTION prism_crypt._join_grants(migration prism_crypt.migration) RETURNS void
  LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
  PERFORM prism_crypt._open_column(migration.relation, prism_crypt._hand_on_grants(migration.id, prism_crypt._note_caller()));
END $$;
COMMENT ON FUNCTION prism_crypt._join_grants(prism_crypt.migration) IS 'Puts split grants together again. Internal';

-- By an expression nothing keeps the columns in step, and so the old one may have what the new one has not.
CREATE FUNCTION prism_crypt._require_no_only_copies(migration prism_crypt.migration) RETURNS void
  LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  named CONSTANT text := prism_crypt._qualified_name(migration.relation);
  rows bigint;
BEGIN
  IF migration.using_expression IS NULL OR NOT (prism_crypt._has_column(migration.relation, migration.kept)
                                                AND prism_crypt._has_column(migration.relation, migration.column_name)) THEN
    RETURN;
  END IF;
  rows := prism_crypt._count_rows(
    migration.relation, format('%I IS NULL AND %I IS NOT NULL', migration.column_name, migration.kept));
  IF rows > 0 THEN
    RAISE object_not_in_prerequisite_state USING
      MESSAGE = format('rows of which only the old column has a value: %s', rows),
      DETAIL = 'The expression gave null for them, or an INSERT without a list of columns wrote them.',
      HINT = format('Give them a value, or let it go: UPDATE %s SET %I = NULL WHERE %I IS NULL AND %2$I IS NOT NULL. Then call this again.',
                    named, migration.kept, migration.column_name);
  END IF;
END $$;
COMMENT ON FUNCTION prism_crypt._require_no_only_copies(prism_crypt.migration) IS
  'Raises an error if values are in the old column only. Internal';

CREATE FUNCTION prism_crypt._drop_kept(migration prism_crypt.migration) RETURNS void
  LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
  PERFORM prism_crypt._lock_tree(migration.relation);
  PERFORM prism_crypt._drop_triggers(migration);
  -- Somebody may have dropped it. If it is the other column that is gone, the values are nowhere else.
  IF prism_crypt._has_column(migration.relation, migration.kept) THEN
    IF NOT prism_crypt._has_column(migration.relation, migration.column_name) THEN
      RAISE object_not_in_prerequisite_state USING
        MESSAGE = format('column "%s" of table %s is not there any more', migration.column_name,
                         prism_crypt._qualified_name(migration.relation)),
        HINT = format('Give it back its name; or drop column "%s", or rename it if it is to be the column again. Then call this again.',
                      migration.kept);
    END IF;
    EXECUTE format('ALTER TABLE %s DROP COLUMN %I', prism_crypt._qualified_name(migration.relation), migration.kept);
  END IF;
  PERFORM prism_crypt._join_grants(migration);
END $$;
COMMENT ON FUNCTION prism_crypt._drop_kept(prism_crypt.migration) IS 'Drops the old column. Internal';
