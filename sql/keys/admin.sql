-- The functions that change keys run with the rights of the extension's owner, because nobody else may write to the tables.
-- EXECUTE decides who may call them. They record the session user.

CREATE FUNCTION prism_crypt._wrap_new_key(
  version integer, keyset text, OUT wrapped bytea, OUT master_fingerprint text
) RETURNS SETOF record
  LANGUAGE c VOLATILE STRICT ROWS 1 AS 'MODULE_PATHNAME', '_wrap_new_key_wrapper';
COMMENT ON FUNCTION prism_crypt._wrap_new_key(integer, text) IS
  'A new data key, wrapped under the first master key. Internal';

CREATE FUNCTION prism_crypt._rewrap_key(
  version integer, OUT wrapped bytea, OUT master_fingerprint text
) RETURNS SETOF record
  LANGUAGE c VOLATILE STRICT ROWS 1 AS 'MODULE_PATHNAME', '_rewrap_key_wrapper';
COMMENT ON FUNCTION prism_crypt._rewrap_key(integer) IS
  'A data key, wrapped anew under the first master key. Internal';

CREATE FUNCTION prism_crypt._wrap_new_index_key(
  generation integer, keyset text, OUT wrapped bytea, OUT master_fingerprint text
) RETURNS SETOF record
  LANGUAGE c VOLATILE STRICT ROWS 1 AS 'MODULE_PATHNAME', '_wrap_new_index_key_wrapper';
COMMENT ON FUNCTION prism_crypt._wrap_new_index_key(integer, text) IS
  'A new index key, wrapped under the first master key. Internal';

CREATE FUNCTION prism_crypt._rewrap_index_key(
  keyset text, OUT wrapped bytea, OUT master_fingerprint text
) RETURNS SETOF record
  LANGUAGE c VOLATILE STRICT ROWS 1 AS 'MODULE_PATHNAME', '_rewrap_index_key_wrapper';
COMMENT ON FUNCTION prism_crypt._rewrap_index_key(text) IS
  'The index key of a keyset, wrapped anew under the first master key. Internal';

-- How long a function on keys waits for others: as long as the caller's lock_timeout says, but never for ever.
CREATE FUNCTION prism_crypt._patience(seconds double precision) RETURNS double precision
  LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
  SELECT CASE WHEN t.own > 0 THEN t.own ELSE $1 END
  FROM (SELECT extract(epoch FROM current_setting('lock_timeout')::interval)::double precision) AS t (own)
$$;
COMMENT ON FUNCTION prism_crypt._patience(double precision) IS
  'lock_timeout in seconds, or this number if it is off. Internal';

-- Gives the previous setting, to be restored at the end; an error restores it by itself.
CREATE FUNCTION prism_crypt._limit_waits(seconds double precision) RETURNS text
  LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  own CONSTANT text := current_setting('lock_timeout');
BEGIN
  PERFORM set_config('lock_timeout', ceil(least(prism_crypt._patience($1), $1) * 1000)::bigint || 'ms', true);
  RETURN own;
END $$;
COMMENT ON FUNCTION prism_crypt._limit_waits(double precision) IS
  'Limits lock_timeout to so many seconds, in this transaction; gives what it was. Internal';

CREATE FUNCTION prism_crypt._require_keyset(keyset text, hint text) RETURNS void
  LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
  IF NOT EXISTS (SELECT FROM prism_crypt.keyset AS k WHERE k.name = $1) THEN
    RAISE undefined_object USING MESSAGE = format('keyset "%s" does not exist', $1), HINT = $2;
  END IF;
END $$;
COMMENT ON FUNCTION prism_crypt._require_keyset(text, text) IS 'Raises an error if there is no such keyset. Internal';

CREATE FUNCTION prism_crypt._lock_keys(exclusively boolean) RETURNS void
  LANGUAGE c VOLATILE STRICT AS 'MODULE_PATHNAME', '_lock_keys_wrapper';
COMMENT ON FUNCTION prism_crypt._lock_keys(boolean) IS
  'Locks all keys for a change, shared or exclusively, with a lock that no statement takes. Internal';

-- This lock is taken first, and in the mode that the change needs: raising the mode later would cause a deadlock with
-- rotate_master_key(). Rows of keyset are locked after it. The tables are locked as for any change of their rows, which does
-- not conflict with ANALYZE: the owner of the database may keep one running.
CREATE FUNCTION prism_crypt._lock_key_tables(exclusively boolean DEFAULT false) RETURNS void
  LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
  PERFORM prism_crypt._lock_keys(exclusively);
  LOCK TABLE prism_crypt.data_key, prism_crypt.index_key IN ROW EXCLUSIVE MODE;
END $$;
COMMENT ON FUNCTION prism_crypt._lock_key_tables(boolean) IS 'What every change of keys begins with. Internal';

-- Functions that wait for locks look at the catalogs and at the keys afterwards, and must see what was committed meanwhile.
CREATE FUNCTION prism_crypt._require_read_committed(what text) RETURNS void
  LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
  IF current_setting('transaction_isolation') NOT IN ('read committed', 'read uncommitted') THEN
    RAISE active_sql_transaction USING
      MESSAGE = format('%s needs isolation level READ COMMITTED', what),
      DETAIL = 'Other levels don''t see what was committed meanwhile.',
      HINT = 'BEGIN TRANSACTION ISOLATION LEVEL READ COMMITTED first, where another level is the default.';
  END IF;
END $$;
COMMENT ON FUNCTION prism_crypt._require_read_committed(text) IS
  'Raises an error if a statement does not see what others commit. Internal';

-- Every keyset has an index key from its first data key on: values are compared with it even if none is searchable.
CREATE FUNCTION prism_crypt._make_index_key(keyset text, generation integer, reason text) RETURNS void
  LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
  IF $2 > 255 THEN
    RAISE program_limit_exceeded USING
      MESSAGE = format('keyset "%s" has had 255 index keys', $1), HINT = 'Move its values to another keyset.';
  END IF;
  INSERT INTO prism_crypt.index_key (keyset, generation, state, wrapped, master_fingerprint, retagged_at, reason)
  SELECT $1, $2, 'active', w.wrapped, w.master_fingerprint, now(), $3
  FROM prism_crypt._wrap_new_index_key($2, $1) AS w;
END $$;
COMMENT ON FUNCTION prism_crypt._make_index_key(text, integer, text) IS 'Makes an index key of a keyset. Internal';

CREATE FUNCTION prism_crypt.rotate_key(keyset text DEFAULT 'default', reason text DEFAULT NULL) RETURNS integer
  LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
  own_timeout CONSTANT text := prism_crypt._limit_waits(10);
  new_version integer;
  new_key record;
  index_key record;
BEGIN
  IF rotate_key.keyset IS NULL THEN
    RAISE null_value_not_allowed USING MESSAGE = 'keyset must not be null';
  END IF;
  PERFORM prism_crypt._lock_key_tables();
  IF rotate_key.keyset = 'default' THEN
    INSERT INTO prism_crypt.keyset (name) VALUES ('default') ON CONFLICT DO NOTHING;
  END IF;
  -- Before the lock: the lock's record in the log, once flushed, makes this step durable too.
  new_version := nextval('prism_crypt.data_key_version_seq');
  -- Rows of keys may have been loaded without the sequence, as in replication.
  WHILE (SELECT s.last_value FROM prism_crypt.data_key_version_seq AS s) < (SELECT max(k.version) FROM prism_crypt.data_key AS k)
     OR EXISTS (SELECT FROM prism_crypt.data_key AS k WHERE k.version = new_version) LOOP
    new_version := nextval('prism_crypt.data_key_version_seq');
  END LOOP;
  -- One rotation of a keyset at a time: the second one waits here.
  PERFORM 1 FROM prism_crypt.keyset AS k WHERE k.name = rotate_key.keyset FOR UPDATE;
  PERFORM prism_crypt._require_keyset(rotate_key.keyset, 'Call prism_crypt.create_keyset() to make it.');
  PERFORM prism_crypt._forget_carried_keys();
  SELECT * INTO STRICT new_key FROM prism_crypt._wrap_new_key(new_version, rotate_key.keyset);
  UPDATE prism_crypt.data_key AS k SET state = 'decrypt_only', retired_at = clock_timestamp()
  WHERE k.keyset = rotate_key.keyset AND k.state = 'active';
  INSERT INTO prism_crypt.data_key (version, keyset, state, wrapped, master_fingerprint, reason)
  VALUES (new_version, rotate_key.keyset, 'active', new_key.wrapped, new_key.master_fingerprint, rotate_key.reason);
  -- If there is a count already, it belongs to a row of data_key that somebody deleted. It stays: at worst it is too high.
  INSERT INTO prism_crypt.data_key_usage (version) VALUES (new_version) ON CONFLICT DO NOTHING;
  SELECT max(i.generation) AS last, bool_or(i.state = 'active') AS is_active INTO index_key
  FROM prism_crypt.index_key AS i WHERE i.keyset = rotate_key.keyset;
  IF index_key.last IS NULL
     AND EXISTS (SELECT FROM prism_crypt.data_key AS k WHERE k.keyset = rotate_key.keyset AND k.version <> new_version) THEN
    -- Another key of a generation that values carry would give wrong answers.
    RAISE object_not_in_prerequisite_state USING
      MESSAGE = format('no index key in keyset "%s"', rotate_key.keyset),
      HINT = 'Restore the rows of prism_crypt.index_key. If they are lost, call prism_crypt.rotate_index_key().';
  ELSIF index_key.is_active IS NOT TRUE THEN
    PERFORM prism_crypt._make_index_key(rotate_key.keyset, coalesce(index_key.last, 0) + 1, rotate_key.reason);
  END IF;
  PERFORM prism_crypt._make_carrier();
  PERFORM prism_crypt._audit('rotate_key', rotate_key.keyset, new_version, rotate_key.reason);
  PERFORM set_config('lock_timeout', own_timeout, true);
  RETURN new_version;
END $$;
COMMENT ON FUNCTION prism_crypt.rotate_key(text, text) IS
  'Makes the next data key of a keyset and gives its version. Old values stay readable; rotate_batch() moves them';

CREATE FUNCTION prism_crypt.create_keyset(name text, description text DEFAULT NULL) RETURNS integer
  LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
  own_timeout CONSTANT text := prism_crypt._limit_waits(10);
  new_version integer;
BEGIN
  IF create_keyset.name IS NULL OR create_keyset.name !~ '^[a-z_][a-z0-9_.-]{0,62}$' THEN
    RAISE invalid_name USING
      MESSAGE = 'invalid keyset name',
      HINT = 'A name is 1 to 63 of a-z, 0-9, "_", "." and "-", and begins with a letter or "_".';
  END IF;
  PERFORM prism_crypt._lock_key_tables();
  INSERT INTO prism_crypt.keyset (name, description) VALUES (create_keyset.name, create_keyset.description)
  ON CONFLICT DO NOTHING;
  IF NOT FOUND THEN
    RAISE duplicate_object USING MESSAGE = format('keyset "%s" already exists', create_keyset.name);
  END IF;
  PERFORM prism_crypt._audit('create_keyset', create_keyset.name, NULL, create_keyset.description);
  new_version := prism_crypt.rotate_key(create_keyset.name, 'first key');
  PERFORM set_config('lock_timeout', own_timeout, true);
  RETURN new_version;
END $$;
COMMENT ON FUNCTION prism_crypt.create_keyset(text, text) IS
  'Makes a keyset and its first data key, and gives the version of that key';

CREATE FUNCTION prism_crypt.rotate_master_key(keyset text DEFAULT NULL) RETURNS integer
  LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
  own_timeout CONSTANT text := prism_crypt._limit_waits(10);
  rewrapped integer;
BEGIN
  IF current_setting('transaction_isolation') <> 'read committed' THEN
    RAISE active_sql_transaction USING
      MESSAGE = 'a master key can only be rotated at isolation level READ COMMITTED',
      DETAIL = 'Other levels don''t see keys that were made meanwhile.';
  END IF;
  -- No key may be added under the old master key meanwhile.
  PERFORM prism_crypt._lock_key_tables(exclusively => true);
  PERFORM prism_crypt._forget_carried_keys();
  IF rotate_master_key.keyset IS NOT NULL THEN
    PERFORM prism_crypt._require_keyset(
      rotate_master_key.keyset, 'prism_crypt.key_status lists them. NULL is every keyset.');
  END IF;
  WITH new_wrapping AS MATERIALIZED (
    SELECT k.version, w.wrapped, w.master_fingerprint
    FROM prism_crypt.data_key AS k, LATERAL prism_crypt._rewrap_key(k.version) AS w
    WHERE k.state <> 'destroyed'
      AND (rotate_master_key.keyset IS NULL OR k.keyset = rotate_master_key.keyset)
  )
  UPDATE prism_crypt.data_key AS k SET wrapped = n.wrapped, master_fingerprint = n.master_fingerprint
  FROM new_wrapping AS n
  WHERE k.version = n.version;
  GET DIAGNOSTICS rewrapped = ROW_COUNT;
  WITH new_wrapping AS MATERIALIZED (
    SELECT i.keyset, w.wrapped, w.master_fingerprint
    FROM prism_crypt.index_key AS i, LATERAL prism_crypt._rewrap_index_key(i.keyset) AS w
    WHERE i.state = 'active' AND (rotate_master_key.keyset IS NULL OR i.keyset = rotate_master_key.keyset)
  )
  UPDATE prism_crypt.index_key AS i SET wrapped = n.wrapped, master_fingerprint = n.master_fingerprint
  FROM new_wrapping AS n
  WHERE i.keyset = n.keyset AND i.state = 'active';
  PERFORM prism_crypt._audit('rotate_master_key', rotate_master_key.keyset, NULL, NULL, format('keys: %s', rewrapped));
  PERFORM set_config('lock_timeout', own_timeout, true);
  RETURN rewrapped;
END $$;
COMMENT ON FUNCTION prism_crypt.rotate_master_key(text) IS
  'Wraps the data and index keys of a keyset (default: of all) under the first master key; gives the number of data keys. Touches no value';

-- Locks a key that is neither active nor destroyed, to change its state.
CREATE FUNCTION prism_crypt._lock_old_key(version integer, hint_if_active text) RETURNS prism_crypt.data_key
  LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
  key prism_crypt.data_key;
BEGIN
  IF _lock_old_key.version IS NULL THEN
    RAISE null_value_not_allowed USING MESSAGE = 'version must not be null';
  END IF;
  PERFORM prism_crypt._lock_key_tables();
  SELECT * INTO key FROM prism_crypt.data_key AS k WHERE k.version = _lock_old_key.version FOR UPDATE;
  IF NOT FOUND THEN
    RAISE undefined_object USING
      MESSAGE = format('key version %s does not exist', _lock_old_key.version),
      HINT = 'prism_crypt.key_status lists them.';
  ELSIF key.state = 'active' THEN
    RAISE object_not_in_prerequisite_state USING
      MESSAGE = format('key version %s is the active one of its keyset', _lock_old_key.version),
      HINT = hint_if_active;
  ELSIF key.state = 'destroyed' THEN
    RAISE object_not_in_prerequisite_state USING
      MESSAGE = format('key version %s is destroyed', _lock_old_key.version);
  END IF;
  RETURN key;
END $$;
COMMENT ON FUNCTION prism_crypt._lock_old_key(integer, text) IS
  'Locks a key that may change its state; an error for any other. Internal';

CREATE FUNCTION prism_crypt._set_key_state(version integer, state text, reason text) RETURNS void
  LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
  own_timeout CONSTANT text := prism_crypt._limit_waits(10);
  key prism_crypt.data_key;
BEGIN
  key := prism_crypt._lock_old_key(version, 'Call prism_crypt.rotate_key() first: new values need a key.');
  UPDATE prism_crypt.data_key AS k
  SET state = _set_key_state.state,
      disabled_at = CASE _set_key_state.state WHEN 'disabled' THEN clock_timestamp() END,
      reason = _set_key_state.reason
  WHERE k.version = _set_key_state.version AND k.state <> _set_key_state.state;
  IF FOUND THEN
    PERFORM prism_crypt._audit(
      CASE _set_key_state.state WHEN 'disabled' THEN 'disable_key' ELSE 'enable_key' END,
      key.keyset, _set_key_state.version, _set_key_state.reason);
  END IF;
  PERFORM set_config('lock_timeout', own_timeout, true);
END $$;
COMMENT ON FUNCTION prism_crypt._set_key_state(integer, text, text) IS 'Changes the state of a key. Internal';

CREATE FUNCTION prism_crypt.disable_key(version integer, reason text DEFAULT NULL) RETURNS void
  LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
  AS $$ SELECT prism_crypt._set_key_state($1, 'disabled', $2) $$;
COMMENT ON FUNCTION prism_crypt.disable_key(integer, text) IS
  'Makes values of a key version unreadable until enable_key(). The active version can''t be disabled';

CREATE FUNCTION prism_crypt.enable_key(version integer, reason text DEFAULT NULL) RETURNS void
  LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
  AS $$ SELECT prism_crypt._set_key_state($1, 'decrypt_only', $2) $$;
COMMENT ON FUNCTION prism_crypt.enable_key(integer, text) IS 'Makes values of a disabled key version readable again';
