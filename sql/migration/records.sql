-- What is recorded of migrations, and read of them. Only the owner may write the table, so these functions do it for their callers,
-- who must own the migrated table: whatever they say, it concerns their own table only.

CREATE FUNCTION prism_crypt._require_owner(role oid, relation regclass) RETURNS void
  LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  table_owner oid;
BEGIN
  SELECT c.relowner INTO table_owner FROM pg_class AS c WHERE c.oid = relation;
  IF NOT FOUND THEN
    RAISE undefined_table USING MESSAGE = format('relation with OID %s does not exist', relation::oid);
  ELSIF NOT pg_has_role(role, table_owner, 'USAGE') THEN
    RAISE insufficient_privilege USING MESSAGE = format('must be owner of table %s', prism_crypt._qualified_name(relation));
  END IF;
END $$;
COMMENT ON FUNCTION prism_crypt._require_owner(oid, regclass) IS 'Raises an error unless a role owns a table. Internal';

-- What a role may do with a migration: control (it owns the table; or asked for it, if the table is gone), see, or null.
CREATE FUNCTION prism_crypt._right_to_migration(role oid, migration prism_crypt.migration) RETURNS text
  LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
  SELECT CASE
    WHEN coalesce(
      (SELECT pg_has_role($1, c.relowner, 'USAGE') FROM pg_class AS c WHERE c.oid = ($2).relation),
      EXISTS (SELECT FROM pg_authid AS a WHERE a.oid = ($2).owner) AND pg_has_role($1, ($2).owner, 'USAGE')) THEN 'control'
    WHEN has_function_privilege($1, 'prism_crypt.status()', 'EXECUTE') THEN 'see' END
$$;
COMMENT ON FUNCTION prism_crypt._right_to_migration(oid, prism_crypt.migration) IS 'What a role may do with a migration. Internal';

CREATE FUNCTION prism_crypt._migration_of(id bigint, role oid) RETURNS prism_crypt.migration
  LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
  migration prism_crypt.migration;
  access_to_it text;
BEGIN
  IF _migration_of.id IS NULL THEN
    RAISE null_value_not_allowed USING MESSAGE = 'id must not be null';
  END IF;
  SELECT * INTO migration FROM prism_crypt.migration AS m WHERE m.id = _migration_of.id;
  access_to_it := prism_crypt._right_to_migration(role, migration);
  IF migration.id IS NULL OR access_to_it IS NULL THEN
    RAISE undefined_object USING
      MESSAGE = format('migration %s does not exist', _migration_of.id), HINT = 'prism_crypt.migrations lists them.';
  ELSIF access_to_it <> 'control' THEN
    PERFORM prism_crypt._require_owner(role, migration.relation);
  END IF;
  RETURN migration;
END $$;
COMMENT ON FUNCTION prism_crypt._migration_of(bigint, oid) IS 'A migration that a role may control, or an error. Internal';

-- The record holds statements and types, which the worker runs. Whoever worked on it last may have written anything there, and so
-- must have had all rights of the next one.
CREATE FUNCTION prism_crypt._is_trusted(role oid, migration prism_crypt.migration) RETURNS boolean
  LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
  SELECT $2.owner = $1 OR EXISTS (SELECT FROM pg_authid AS a WHERE a.oid = $2.owner AND pg_has_role(a.oid, $1, 'MEMBER'))
$$;
COMMENT ON FUNCTION prism_crypt._is_trusted(oid, prism_crypt.migration) IS
  'Whether a role may run what is recorded of a migration. Internal';

-- An expression may hold the key of another system. It is for the role that wrote it, not for every owner of the table.
CREATE FUNCTION prism_crypt._may_see(role oid, migration prism_crypt.migration) RETURNS boolean
  LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
  SELECT $2.using_expression IS NULL OR $2.owner = $1
    OR EXISTS (SELECT FROM pg_authid AS a WHERE a.oid = $2.owner AND pg_has_role($1, a.oid, 'MEMBER'))
$$;
COMMENT ON FUNCTION prism_crypt._may_see(oid, prism_crypt.migration) IS 'Whether a role may see the expression of a migration. Internal';

CREATE FUNCTION prism_crypt._without_secrets(role oid, INOUT migration prism_crypt.migration)
  LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
  IF NOT prism_crypt._may_see(role, migration) THEN
    migration.using_expression := 'an expression of another role';
  END IF;
END $$;
COMMENT ON FUNCTION prism_crypt._without_secrets(oid, prism_crypt.migration) IS
  'A migration as a role may see it. Internal';

CREATE FUNCTION prism_crypt._read_migration(id bigint, note bigint) RETURNS prism_crypt.migration
  LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  role CONSTANT oid := prism_crypt._caller(note);
BEGIN
  RETURN prism_crypt._without_secrets(role, prism_crypt._migration_of(id, role));
END $$;
COMMENT ON FUNCTION prism_crypt._read_migration(bigint, bigint) IS 'A migration of the caller''s. Internal';

-- Makes this session the one that works on a migration. Another one may have died.
CREATE FUNCTION prism_crypt._take_migration(id bigint, note bigint) RETURNS prism_crypt.migration
  LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
  role CONSTANT oid := prism_crypt._caller(note);
  migration prism_crypt.migration := prism_crypt._migration_of(_take_migration.id, role);
  other name;
BEGIN
  PERFORM prism_crypt._bound_waits();
  SELECT * INTO migration FROM prism_crypt.migration AS m WHERE m.id = _take_migration.id FOR NO KEY UPDATE;
  PERFORM pg_stat_clear_snapshot();
  IF (migration.worker_pid, migration.worker_started) IS DISTINCT FROM (pg_backend_pid(), statement_timestamp())
     AND coalesce(prism_crypt._is_working(migration.worker_pid, migration.worker_started), false) THEN
    RAISE object_in_use USING
      MESSAGE = format('process %s works on migration %s', migration.worker_pid, migration.id),
      HINT = 'prism_crypt.migrations shows it.';
  END IF;
  IF NOT prism_crypt._may_see(role, migration) THEN
    RAISE insufficient_privilege USING
      MESSAGE = format('permission denied for migration %s', migration.id), DETAIL = 'Its expression is another role''s.';
  ELSIF NOT prism_crypt._is_trusted(role, migration) THEN
    other := (SELECT a.rolname FROM pg_authid AS a WHERE a.oid = migration.owner);
    RAISE insufficient_privilege USING
      MESSAGE = format('role "%s" has worked on migration %s', coalesce(other, migration.owner::text), migration.id),
      DETAIL = 'What it has recorded would be run with rights that it does not have.',
      HINT = coalesce('SET ROLE ' || quote_ident(other) || ', and call it again.', 'That role is gone.');
  END IF;
  UPDATE prism_crypt.migration AS m
  SET worker_pid = pg_backend_pid(), worker_started = statement_timestamp(), owner = role, error = NULL
  WHERE m.id = _take_migration.id
    AND (m.owner, m.worker_pid, m.worker_started) IS DISTINCT FROM (role, pg_backend_pid(), statement_timestamp());
  RETURN prism_crypt._migration_of(_take_migration.id, role);
END $$;
COMMENT ON FUNCTION prism_crypt._take_migration(bigint, bigint) IS 'Makes this session the worker of a migration. Internal';

-- Code of the table's owner that the worker runs is not the worker.
CREATE FUNCTION prism_crypt._require_worker(role oid, migration prism_crypt.migration) RETURNS void
  LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
  IF (migration.owner, migration.worker_pid, migration.worker_started)
     IS DISTINCT FROM (role, pg_backend_pid(), statement_timestamp()) THEN
    RAISE object_not_in_prerequisite_state USING MESSAGE = format('this session does not work on migration %s', migration.id);
  END IF;
END $$;
COMMENT ON FUNCTION prism_crypt._require_worker(oid, prism_crypt.migration) IS
  'Raises an error unless this session works on a migration. Internal';

-- A caller may record what it likes of a table of its own: whatever comes next looks at the table itself. What is null stays as it is;
-- JSON's null says that no column is closed any more.
CREATE FUNCTION prism_crypt._record_phase(id bigint, phase text, build jsonb, closed jsonb, note bigint) RETURNS void
  LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
  role CONSTANT oid := prism_crypt._caller(note);
  migration CONSTANT prism_crypt.migration := prism_crypt._migration_of(_record_phase.id, role);
BEGIN
  PERFORM prism_crypt._require_worker(role, migration);
  UPDATE prism_crypt.migration AS m
  SET phase = _record_phase.phase, build = coalesce(_record_phase.build, m.build),
      closed = CASE WHEN _record_phase.closed IS NULL THEN m.closed ELSE nullif(_record_phase.closed, 'null') END, error = NULL,
      updated_at = clock_timestamp(),
      using_expression = CASE WHEN _record_phase.phase NOT IN ('finished', 'rolled_back') THEN m.using_expression END,
      cut_over_at = CASE WHEN _record_phase.phase IN ('validation', 'cut_over', 'finished') AND NOT m.is_going_back
                         THEN coalesce(m.cut_over_at, clock_timestamp()) ELSE m.cut_over_at END,
      finished_at = CASE WHEN _record_phase.phase IN ('finished', 'rolled_back') THEN clock_timestamp() END
  WHERE m.id = _record_phase.id;
END $$;
COMMENT ON FUNCTION prism_crypt._record_phase(bigint, text, jsonb, jsonb, bigint) IS 'Records what a migration has come to. Internal';

CREATE FUNCTION prism_crypt._leave_migration(id bigint, error text, note bigint) RETURNS void
  LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
  role CONSTANT oid := prism_crypt._caller(note);
  migration CONSTANT prism_crypt.migration := prism_crypt._migration_of(_leave_migration.id, role);
BEGIN
  PERFORM prism_crypt._require_worker(role, migration);
  UPDATE prism_crypt.migration AS m
  SET error = left(_leave_migration.error, 200), worker_pid = NULL, worker_started = NULL, updated_at = clock_timestamp()
  WHERE m.id = _leave_migration.id;
END $$;
COMMENT ON FUNCTION prism_crypt._leave_migration(bigint, text, bigint) IS 'Ends this session''s work on a migration. Internal';

CREATE FUNCTION prism_crypt._turn(id bigint, back boolean, note bigint) RETURNS void
  LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
  role CONSTANT oid := prism_crypt._caller(note);
  migration CONSTANT prism_crypt.migration := prism_crypt._migration_of(_turn.id, role);
BEGIN
  PERFORM prism_crypt._require_worker(role, migration);
  IF migration.phase IN ('finished', 'rolled_back') THEN
    RAISE object_not_in_prerequisite_state USING
      MESSAGE = format('migration %s is %s', migration.id, replace(migration.phase, '_', ' ')),
      HINT = 'prism_crypt.decrypt_column() makes an encrypted column a plaintext one.';
  END IF;
  UPDATE prism_crypt.migration AS m
  SET is_going_back = back, updated_at = clock_timestamp(),
      phase = CASE WHEN back THEN 'rows' ELSE 'cut_over' END
  WHERE m.id = _turn.id AND m.is_going_back <> back AND m.cut_over_at IS NOT NULL;
  -- Before the cut-over there is one way back only, from wherever it is.
  UPDATE prism_crypt.migration AS m SET is_going_back = back, updated_at = clock_timestamp()
  WHERE m.id = _turn.id AND back AND m.cut_over_at IS NULL;
EXCEPTION WHEN unique_violation THEN
  RAISE object_in_use USING
    MESSAGE = format('another migration of table %s is open', prism_crypt._qualified_name(migration.relation)),
    HINT = 'prism_crypt.migrations shows it.';
END $$;
COMMENT ON FUNCTION prism_crypt._turn(bigint, boolean, bigint) IS 'Records that a migration is to be undone, or finished after all. Internal';

-- A new migration; there must be no other one of the table before its cut-over.
CREATE FUNCTION prism_crypt._open_migration(asked prism_crypt.migration, note bigint) RETURNS bigint
  LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
  role CONSTANT oid := prism_crypt._caller(note);
  found_one prism_crypt.migration;
  new_id bigint;
BEGIN
  PERFORM prism_crypt._require_owner(role, asked.relation);
  PERFORM prism_crypt._bound_waits();
  INSERT INTO prism_crypt.migration (
    relation, column_name, old_type, type, using_expression, method, keep_plaintext, twin, kept, owner)
  VALUES (asked.relation, asked.column_name, asked.old_type, asked.type, asked.using_expression, asked.method,
          asked.keep_plaintext, asked.twin, asked.kept, role)
  ON CONFLICT DO NOTHING RETURNING id INTO new_id;
  IF new_id IS NOT NULL THEN
    RETURN new_id;
  END IF;
  SELECT * INTO STRICT found_one FROM prism_crypt.migration AS m
  WHERE m.relation = asked.relation AND m.phase NOT IN ('cut_over', 'finished', 'rolled_back');
  RAISE object_in_use USING
    MESSAGE = format('migration %s of table %s is open', found_one.id, prism_crypt._qualified_name(asked.relation)),
    DETAIL = format('It migrates column "%s" to %s.', found_one.column_name, found_one.type),
    HINT = 'Go on with it, by the call that began it, or call prism_crypt.rollback_migration().';
END $$;
COMMENT ON FUNCTION prism_crypt._open_migration(prism_crypt.migration, bigint) IS 'Records a new migration. Internal';

-- The open migration of a column, for a call that goes on with it; null if there is none.
CREATE FUNCTION prism_crypt._find_migration(relation regclass, column_name name, note bigint) RETURNS prism_crypt.migration
  LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
  role CONSTANT oid := prism_crypt._caller(note);
  found_one prism_crypt.migration;
BEGIN
  PERFORM prism_crypt._require_owner(role, _find_migration.relation);
  SELECT * INTO found_one FROM prism_crypt.migration AS m
  WHERE m.relation = _find_migration.relation AND m.column_name = _find_migration.column_name
    AND m.phase NOT IN ('finished', 'rolled_back')
  ORDER BY m.id DESC LIMIT 1;
  RETURN prism_crypt._without_secrets(role, found_one);
END $$;
COMMENT ON FUNCTION prism_crypt._find_migration(regclass, name, bigint) IS 'The open migration of a column. Internal';

-- A migration that goes back after its cut-over is one whose twin is the column that was kept.
CREATE FUNCTION prism_crypt._as_it_goes(INOUT migration prism_crypt.migration)
  LANGUAGE plpgsql IMMUTABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  asked CONSTANT prism_crypt.migration := migration;
BEGIN
  IF asked.is_going_back AND asked.cut_over_at IS NOT NULL THEN
    migration.type := asked.old_type;
    migration.twin := asked.kept;
    migration.kept := asked.twin;
  END IF;
END $$;
COMMENT ON FUNCTION prism_crypt._as_it_goes(prism_crypt.migration) IS 'A migration in the direction that it goes. Internal';
