-- What the procedures check before they begin, and what they say at the end.

-- An expression of the caller as PostgreSQL understands it now, with every name qualified: later it is used under another
-- search_path. An empty copy of the table, in a subtransaction that is rolled back, lets PostgreSQL check it: a CHECK takes what can be
-- computed from one row alone. This runs under the caller's search_path, so all else is qualified.
CREATE FUNCTION prism_crypt._read_expression(relation regclass, column_name name, expression text) RETURNS text
  LANGUAGE plpgsql VOLATILE AS $$
DECLARE
  done boolean := false;
  copy pg_catalog.regclass;
  found_one pg_catalog.text;
BEGIN
  IF expression IS NULL THEN
    RETURN NULL;
  END IF;
  -- It has the table's name, which may be in the expression.
  copy := prism_crypt._make_copy(relation, column_name, NULL, false);
  EXECUTE pg_catalog.format('ALTER TABLE %s ADD CONSTRAINT prism_crypt_using CHECK ((%s) IS NOT NULL)',
                            prism_crypt._qualified_name(copy), expression);
  found_one := prism_crypt._checked_expression(copy);
  done := true;
  RAISE SQLSTATE 'PC000';
EXCEPTION WHEN SQLSTATE 'PC000' THEN
  IF NOT done THEN
    RAISE;
  END IF;
  RETURN found_one;
END $$;
COMMENT ON FUNCTION prism_crypt._read_expression(regclass, name, text) IS 'An expression with every name in it qualified. Internal';

CREATE FUNCTION prism_crypt._checked_expression(copy regclass) RETURNS text
  LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  expression CONSTANT text := (
    SELECT pg_get_expr(c.conbin, c.conrelid) FROM pg_constraint AS c
    WHERE c.conrelid = copy AND c.conname = 'prism_crypt_using' AND c.contype = 'c');
  whole CONSTANT text := '^\((.*) IS NOT NULL\)$';
BEGIN
  IF expression !~ whole OR (SELECT count(*) FROM pg_constraint AS c WHERE c.conrelid = copy AND c.contype = 'c') <> 1 THEN
    RAISE syntax_error USING MESSAGE = 'using_expression must be one expression';
  END IF;
  RETURN substring(expression FROM whole);
END $$;
COMMENT ON FUNCTION prism_crypt._checked_expression(regclass) IS 'The expression that a copy of a table checks. Internal';

CREATE FUNCTION prism_crypt._require_cut_over(migration prism_crypt.migration) RETURNS void
  LANGUAGE plpgsql IMMUTABLE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
  -- While it goes back, it may still be finished, until the old column is the column again.
  IF migration.cut_over_at IS NULL OR migration.phase IN ('finished', 'rolled_back')
     OR migration.is_going_back AND migration.phase = 'validation' THEN
    RAISE object_not_in_prerequisite_state USING
      MESSAGE = format('migration %s can''t be finished', migration.id),
      DETAIL = format('Its phase is "%s".', migration.phase);
  END IF;
END $$;
COMMENT ON FUNCTION prism_crypt._require_cut_over(prism_crypt.migration) IS
  'Raises an error unless a migration is cut over. Internal';

CREATE FUNCTION prism_crypt._remains_of(migration prism_crypt.migration) RETURNS jsonb
  LANGUAGE sql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
  SELECT jsonb_agg(to_jsonb(r))
  FROM pg_attribute AS a CROSS JOIN LATERAL prism_crypt.remaining_plaintext(migration.relation, migration.column_name) AS r
  -- Somebody may have dropped it.
  WHERE a.attrelid = migration.relation AND a.attname = migration.column_name AND NOT a.attisdropped
    AND prism_crypt._holds_encrypted(a.atttypid)
$$;
COMMENT ON FUNCTION prism_crypt._remains_of(prism_crypt.migration) IS 'What may still hold the plaintext. Internal';

CREATE FUNCTION prism_crypt._report_migration(id bigint) RETURNS void
  LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  migration CONSTANT prism_crypt.migration := prism_crypt._read_migration(id, prism_crypt._note_caller());
  target CONSTANT text := format('%s.%I', prism_crypt._qualified_name(migration.relation), migration.column_name);
BEGIN
  IF prism_crypt._is_gone(migration.relation) THEN
    RAISE NOTICE 'migration % is over: its table was dropped', id;
    RETURN;
  END IF;
  CASE migration.phase
    WHEN 'ready' THEN
      RAISE NOTICE 'migration %: % is verified', id, target USING HINT = 'The same call without until makes the cut-over.';
    WHEN 'cut_over' THEN
      RAISE NOTICE 'migration %: % is % now', id, target, migration.type
        USING HINT = format('CALL prism_crypt.finish_migration(%s) drops the plaintext, rollback_migration(%1$s) goes back.', id);
    WHEN 'finished' THEN
      RAISE NOTICE 'migration %: % is % now', id, target, migration.type;
    WHEN 'rolled_back' THEN
      -- A domain is its base type now.
      RAISE NOTICE 'migration %: % is % again', id, target, (
        SELECT format_type(a.atttypid, a.atttypmod) FROM pg_attribute AS a
        WHERE a.attrelid = migration.relation AND a.attname = migration.column_name);
    ELSE
      RAISE NOTICE 'migration % stopped in phase "%"', id, migration.phase USING HINT = 'The same call goes on.';
  END CASE;
END $$;
COMMENT ON FUNCTION prism_crypt._report_migration(bigint) IS 'Says what a migration has come to. Internal';


-- The triggers judge by the rights of each table's owner.
CREATE FUNCTION prism_crypt._require_owner_access(asked prism_crypt.migration) RETURNS void
  LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  encrypts CONSTANT boolean := asked.type ~ '\mencrypted_text\M';
  lacking record;
BEGIN
  SELECT c.relname, r.rolname, k.access INTO lacking
  FROM prism_crypt._table_tree(asked.relation) AS t JOIN pg_class AS c ON c.oid = t.member
  JOIN pg_roles AS r ON r.oid = c.relowner
  CROSS JOIN LATERAL (VALUES
    -- A verification compares, which tells whether ciphertext holds a text that is known.
    ('search', 'blind_index', encrypts AND (asked.type ~ '\msearchable\M'
       OR asked.method = 'online' AND NOT prism_crypt._may_call(r.oid, 'decrypt_field'))),
    ('encrypt', 'encrypt_field', encrypts AND asked.type !~ '\msearchable\M'),
    ('decrypt', 'decrypt_field', NOT encrypts OR asked.method = 'online' AND asked.keep_plaintext AND asked.using_expression IS NULL)
  ) AS k (access, function_name, is_needed)
  WHERE k.is_needed AND NOT prism_crypt._may_call(r.oid, k.function_name::name)
  LIMIT 1;
  IF FOUND THEN
    RAISE insufficient_privilege USING
      MESSAGE = format('permission denied for the owner of table "%s" to %s', lacking.relname, lacking.access),
      DETAIL = 'A migration keeps two columns in step with the rights of the table''s owner.',
      HINT = format('SELECT prism_crypt.grant_access(%L, %L);', lacking.rolname, lacking.access);
  END IF;
END $$;
COMMENT ON FUNCTION prism_crypt._require_owner_access(prism_crypt.migration) IS
  'Raises an error if a table''s owner lacks a right that a migration needs. Internal';

-- Applications seal, too, from the moment at which a twin is there.
CREATE FUNCTION prism_crypt._require_common_key() RETURNS void
  LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
  IF NOT prism_crypt._has_common_key() THEN
    RAISE object_not_in_prerequisite_state USING
      MESSAGE = 'the master key is not one that every session has',
      DETAIL = 'Applications could not write to the table any more.',
      HINT = 'Set it in the configuration of the server or of the database, not with SET or for a role.';
  END IF;
END $$;
COMMENT ON FUNCTION prism_crypt._require_common_key() IS 'Raises an error unless every session has the master key. Internal';

-- Otherwise the trigger would fail in every statement that writes. The value is thrown away.
CREATE FUNCTION prism_crypt._require_sealing(asked prism_crypt.migration) RETURNS void
  LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
  IF asked.type ~ '\mencrypted_text\M' THEN
    EXECUTE format('SELECT CAST(''''::text AS %s)', asked.type);
  END IF;
END $$;
COMMENT ON FUNCTION prism_crypt._require_sealing(prism_crypt.migration) IS 'Raises an error unless a value can be sealed now. Internal';

CREATE FUNCTION prism_crypt._method_for(target prism_crypt._migration_target, until text, max_lock_time interval) RETURNS text
  LANGUAGE sql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
  SELECT CASE WHEN $2 = 'cut_over' AND make_interval(secs => (prism_crypt._estimate_migration($1, 1000)).rewrite_seconds) < $3
              THEN 'rewrite' ELSE 'online' END
$$;
COMMENT ON FUNCTION prism_crypt._method_for(prism_crypt._migration_target, text, interval) IS
  'The method of a migration, by how long a rewrite would lock the table. Internal';

-- What stands in the way, besides what depends on the column. With keep_plaintext the old column has to be closed.
CREATE FUNCTION prism_crypt._obstacles(target prism_crypt._migration_target, method text, keep_plaintext boolean)
  RETURNS SETOF prism_crypt._dependant
  LANGUAGE sql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
  SELECT b.* FROM prism_crypt._migration_blocks(target) AS b
  UNION ALL
  SELECT b.* FROM prism_crypt._stray_triggers((target).relation) AS b
  UNION ALL
  SELECT b.* FROM prism_crypt._late_triggers((target).relation) AS b WHERE method = 'online'
  UNION ALL
  SELECT b.* FROM prism_crypt._unidentified_rows((target).relation) AS b WHERE method = 'online'
  UNION ALL
  SELECT b.* FROM prism_crypt._whole_rows((target).relation) AS b WHERE method = 'online' AND keep_plaintext
  UNION ALL
  SELECT b.* FROM prism_crypt._handed_on_grants((target).relation) AS b WHERE method = 'online' AND keep_plaintext
$$;
COMMENT ON FUNCTION prism_crypt._obstacles(prism_crypt._migration_target, text, boolean) IS
  'What stands in the way of a migration, besides what depends on the column. Internal';

-- Everything that PostgreSQL or this extension would refuse, before anything begins.
CREATE FUNCTION prism_crypt._require_possible(asked prism_crypt.migration, target prism_crypt._migration_target) RETURNS void
  LANGUAGE sql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
  SELECT prism_crypt._require_owner_access(asked), prism_crypt._require_common_key(), prism_crypt._require_sealing(asked);
  SELECT prism_crypt._require_carried_over(ARRAY(
    SELECT b FROM prism_crypt._obstacles(target, asked.method, asked.keep_plaintext) AS b
    UNION ALL
    SELECT b FROM prism_crypt._dependants(asked.relation, asked.column_name, asked.type) AS b));
$$;
COMMENT ON FUNCTION prism_crypt._require_possible(prism_crypt.migration, prism_crypt._migration_target) IS
  'Raises an error about what stands in the way of a migration. Internal';

-- Checks what is asked for, and chooses the method. What is open already was checked when it began.
CREATE FUNCTION prism_crypt._checked(INOUT asked prism_crypt.migration, until text, max_lock_time interval)
  LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  found_one prism_crypt.migration;
  target prism_crypt._migration_target;
BEGIN
  IF max_lock_time IS NULL THEN
    RAISE null_value_not_allowed USING MESSAGE = 'max_lock_time must not be null';
  END IF;
  PERFORM prism_crypt._require_between('max_lock_time', max_lock_time, interval '0', interval '1 day');
  PERFORM prism_crypt._require_owner(CURRENT_USER::regrole::oid, asked.relation);
  found_one := prism_crypt._find_migration(asked.relation, asked.column_name, prism_crypt._note_caller());
  IF found_one.id IS NOT NULL THEN
    asked.method := found_one.method;
    asked.old_type := found_one.old_type;
    -- The table may have another owner now.
    IF found_one.cut_over_at IS NULL THEN
      PERFORM prism_crypt._require_owner_access(found_one), prism_crypt._require_common_key();
    END IF;
    RETURN;
  END IF;
  target := prism_crypt._check_migratable(asked.relation, asked.column_name, asked.type, asked.using_expression);
  IF asked.method = 'auto' THEN
    asked.method := prism_crypt._method_for(target, until, max_lock_time);
  ELSIF asked.method = 'rewrite' AND until = 'verified' THEN
    RAISE invalid_parameter_value USING MESSAGE = 'a rewrite can''t stop before the cut-over';
  END IF;
  PERFORM prism_crypt._require_possible(asked, target);
END $$;
COMMENT ON FUNCTION prism_crypt._checked(prism_crypt.migration, text, interval) IS 'A migration that can be done, or an error. Internal';
