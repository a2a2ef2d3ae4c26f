-- Rights are plain EXECUTE privileges; these functions only grant the sets that belong together.

CREATE FUNCTION prism_crypt._access_functions(access text) RETURNS regprocedure[]
  LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
  IF access IS NULL THEN
    RAISE null_value_not_allowed USING MESSAGE = 'access must not be null';
  END IF;
  CASE access
    WHEN 'decrypt' THEN
      RETURN ARRAY[
        '@extschema@.decrypt_field(@extschema@.encrypted_text, text)',
        '@extschema@.try_decrypt_field(@extschema@.encrypted_text, text)',
        '@extschema@.decrypt_bytes(bytea, text)',
        '@extschema@."text"(@extschema@.encrypted_text)',
        '@extschema@."varchar"(@extschema@.encrypted_text)',
        '@extschema@."bpchar"(@extschema@.encrypted_text)',
        '@extschema@."name"(@extschema@.encrypted_text)']::regprocedure[];
    WHEN 'mask' THEN
      RETURN ARRAY['@extschema@.mask_field(@extschema@.encrypted_text, text)']::regprocedure[];
    WHEN 'rotate' THEN
      RETURN ARRAY[
        '@extschema@.reencrypt_field(@extschema@.encrypted_text)',
        '@extschema@.reencrypt_bytes(bytea)',
        'prism_crypt.rotate_batch(regclass, name, integer, interval, double precision, bigint, integer, integer, text,
           name, boolean)',
        '@extschema@.rotate_batch(regclass, name, integer, interval, double precision, bigint, integer, integer, text,
           name, boolean)',
        'prism_crypt.rotate_all(integer, interval, double precision, bigint, integer, integer, text, boolean)',
        'prism_crypt.pause_job(bigint)',
        'prism_crypt.resume_job(bigint)',
        'prism_crypt.cancel_job(bigint)',
        'prism_crypt._progress(bigint)',
        'prism_crypt._require_no_transaction_block(text)',
        'prism_crypt._require_between(text, anyelement, anyelement, anyelement)',
        'prism_crypt._check_limits(prism_crypt._limits)',
        'prism_crypt._check_rotation_scope(integer, text)',
        'prism_crypt._check_rotatable_table(regclass)',
        'prism_crypt._sets_key_version_column(regclass, name, name)',
        'prism_crypt._types_over(oid)',
        'prism_crypt._holds_encrypted(oid)',
        'prism_crypt._is_quickly_checked(oid)',
        'prism_crypt._encrypted_types()',
        'prism_crypt._encrypted_columns()',
        'prism_crypt._warn_of_foreign_tables(regclass)',
        'prism_crypt._table_tree(regclass)',
        'prism_crypt._rotation_roots()',
        'prism_crypt._indexed_key_version(regclass, text)',
        'prism_crypt._rotatable_versions(integer, text)',
        'prism_crypt._has_unreadable_versions()',
        'prism_crypt._qualified_name(regclass)',
        'prism_crypt._tid(bigint)',
        'prism_crypt._block(tid)',
        'prism_crypt._is_rotatable(@extschema@.encrypted_text, integer, text)',
        'prism_crypt._is_rotatable(@extschema@.encrypted_text)',
        'prism_crypt._is_rotatable(bytea, integer, text)',
        'prism_crypt._can_rotate(@extschema@.encrypted_text, integer, text)',
        'prism_crypt._can_rotate(bytea, integer, text)',
        'prism_crypt._reencrypt_or_keep(@extschema@.encrypted_text)',
        'prism_crypt._reencrypt_or_keep(bytea)',
        'prism_crypt._rotation_error(@extschema@.encrypted_text, integer, text)',
        'prism_crypt._rotation_error(bytea, integer, text)',
        'prism_crypt._is_rotatable_nested(anyelement, integer, text)',
        'prism_crypt._can_rotate_nested(anyelement, integer, text)',
        'prism_crypt._reencrypt_nested(anyelement, integer, text, boolean)',
        'prism_crypt._rotation_error_nested(anyelement, integer, text)',
        'prism_crypt._stripe(tid, integer)',
        'prism_crypt._share_done(integer, integer, boolean, tid, tid, tid)',
        'prism_crypt._saw_unreadable()',
        'prism_crypt._update_at_once(prism_crypt._walk, tid, tid, integer, tid[])',
        'prism_crypt._complete_batch(prism_crypt._walk)',
        'prism_crypt._end_deferral()',
        'prism_crypt._update_locked(prism_crypt._walk, tid, tid, integer)',
        'prism_crypt._rotate_window(prism_crypt._walk, boolean, tid, tid, integer, integer, boolean, integer, boolean)',
        'prism_crypt._walk_range(prism_crypt._walk, prism_crypt._limits, prism_crypt._run, bigint, tid, tid)',
        'prism_crypt._rotate_places(prism_crypt._walk, boolean, tid[], integer)',
        'prism_crypt._replica_lag()',
        'prism_crypt._begin_batch(prism_crypt._walk, boolean)',
        'prism_crypt._notice_progress(prism_crypt._walk, prism_crypt._run)',
        'prism_crypt._uptime()',
        'prism_crypt._sleep(double precision)',
        'prism_crypt._rotate_by_index(prism_crypt._walk, prism_crypt._limits, prism_crypt._run, boolean)',
        'prism_crypt._walk_table(prism_crypt._walk, prism_crypt._limits, prism_crypt._run)',
        'prism_crypt._target_name(regclass, name)',
        'prism_crypt._require_same_table(prism_crypt._walk)',
        'prism_crypt._end_batch(prism_crypt._walk, prism_crypt._limits, prism_crypt._run, integer, double precision, text)',
        'prism_crypt._rotate_job(regclass, name, name, integer, text, prism_crypt._limits, prism_crypt._run)',
        'prism_crypt._describe_failure(prism_crypt._failure)',
        'prism_crypt._raise_failure(text, text, text, text, text, text, text, text, text, text)',
        'prism_crypt._note_caller()',
        'prism_crypt._bound_waits()',
        'prism_crypt._rotatable_kind(oid)',
        'prism_crypt._check_rotatable_column(regclass, name)',
        'prism_crypt._rotatable_columns(regclass, name)',
        'prism_crypt._check_referenced(regclass[], name)',
        'prism_crypt._check_rotation(regclass, name)',
        'prism_crypt._plan_walk(prism_crypt._rotation, regclass)',
        'prism_crypt._plan_part(prism_crypt._rotation, regclass)',
        'prism_crypt._wait_between_batches(bigint, uuid, boolean, prism_crypt._limits, integer, double precision, text)',
        'prism_crypt._take_range(prism_crypt._walk)',
        'prism_crypt._record_batch(prism_crypt._walk, bigint, tid, double precision, bigint, double precision)',
        'prism_crypt._record_places(prism_crypt._walk, bigint, double precision)',
        'prism_crypt._record_walk(prism_crypt._walk)',
        'prism_crypt._take_check(prism_crypt._rotation, regclass[])',
        'prism_crypt._begin_pass(prism_crypt._rotation, regclass[])',
        'prism_crypt._end_parts(prism_crypt._rotation, regclass[], regclass[], bigint[], bigint[])',
        'prism_crypt._end_work(prism_crypt._rotation, text, text)',
        'prism_crypt._find_by_index(prism_crypt._walk, integer)',
        'prism_crypt._prepare_job(regclass, name, name, integer, text)',
        'prism_crypt._check_tables(prism_crypt._rotation, regclass[])',
        'prism_crypt._count_rest(prism_crypt._rotation, regclass)',
        'prism_crypt._finish_tables(prism_crypt._rotation, regclass[], regclass[], prism_crypt._run)',
        'prism_crypt._work_on_job(prism_crypt._rotation, regclass[], prism_crypt._limits, prism_crypt._run)',
        'prism_crypt._start_job(regclass, name, integer, text, bigint)',
        'prism_crypt._claim_range(uuid, regclass)',
        'prism_crypt._advance_range(uuid, bigint, tid, double precision, bigint, double precision)',
        'prism_crypt._count_rows(uuid, regclass, bigint, double precision)',
        'prism_crypt._skip_walk(uuid, regclass)',
        'prism_crypt._job_state(uuid)',
        'prism_crypt._claim_check(uuid, regclass[])',
        'prism_crypt._walk_again(uuid, regclass[])',
        'prism_crypt._finish_parts(uuid, regclass[], regclass[], bigint[], bigint[])',
        'prism_crypt._leave_job(uuid, text, text)',
        'prism_crypt._set_job_state(bigint, text, bigint)',
        'prism_crypt.plan_rotation(integer)',
        'prism_crypt._rotate_sample(regclass, integer)',
        'prism_crypt._has_outdated_tags()',
        'prism_crypt._older_transactions(timestamptz)',
        'prism_crypt._rotation_blockers(regclass)',
        'prism_crypt._base_of_column(oid, integer)',
        'prism_crypt._has_checks_inside(oid)',
        'prism_crypt._sample_columns(regclass)',
        'prism_crypt._make_sample_table(regclass)',
        'prism_crypt._estimate_rotation(regclass, integer, bigint, text[])',
        'prism_crypt._table_bytes(regclass)',
        'prism_crypt._last_pace(regclass, bigint)']::regprocedure[];
    WHEN 'load' THEN
      RETURN ARRAY['prism_crypt.load_envelope(text)']::regprocedure[];
    WHEN 'key_admin' THEN
      RETURN ARRAY[
        'prism_crypt.generate_key()',
        '@extschema@.generate_key()',
        'prism_crypt.create_keyset(text, text)',
        'prism_crypt.rotate_key(text, text)',
        'prism_crypt.rotate_master_key(text)',
        'prism_crypt.disable_key(integer, text)',
        'prism_crypt.enable_key(integer, text)',
        'prism_crypt.destroy_key(integer, text, boolean)',
        'prism_crypt.destroy_keyset(text, text, boolean)',
        'prism_crypt.rotate_index_key(text, text, integer, interval, double precision, bigint, boolean, boolean)',
        'prism_crypt._lock_for_index_key(text, boolean)',
        'prism_crypt._patience(double precision)',
        'prism_crypt._try_to_lock_searched_tables(text, double precision, boolean, boolean)',
        'prism_crypt._replace_index_key(text, text, boolean)',
        'prism_crypt._finish_index_key(text)',
        'prism_crypt._is_retagging(text)',
        'prism_crypt.emergency_rotation(text)',
        'prism_crypt.set_rotation_interval(text, interval)',
        'prism_crypt.rotation_due()',
        'prism_crypt.census(regclass)',
        'prism_crypt.pause_job(bigint)',
        'prism_crypt.resume_job(bigint)',
        'prism_crypt.cancel_job(bigint)',
        'prism_crypt._set_job_state(bigint, text, bigint)',
        'prism_crypt._note_caller()',
        'prism_crypt._progress(bigint)']::regprocedure[];
    WHEN 'monitor' THEN
      RETURN ARRAY[
        'prism_crypt.status()',
        'prism_crypt._invalid_search_indexes()',
        'prism_crypt._unexpected_grants()',
        'prism_crypt._namesakes()',
        'prism_crypt.rotation_due()',
        'prism_crypt.census(regclass)',
        'prism_crypt._note_caller()',
        'prism_crypt._progress(bigint)']::regprocedure[];
    WHEN 'search' THEN
      RETURN ARRAY[
        '@extschema@.blind_index(text, text, integer)',
        '@extschema@.encrypted_text_eq(@extschema@.encrypted_text, text)',
        '@extschema@.encrypted_text_ne(@extschema@.encrypted_text, text)',
        '@extschema@.encrypted_text_eq(text, @extschema@.encrypted_text)',
        '@extschema@.encrypted_text_ne(text, @extschema@.encrypted_text)',
        '@extschema@.encrypted_text_eq(@extschema@.encrypted_text, name)',
        '@extschema@.encrypted_text_ne(@extschema@.encrypted_text, name)',
        '@extschema@.encrypted_text_eq(name, @extschema@.encrypted_text)',
        '@extschema@.encrypted_text_ne(name, @extschema@.encrypted_text)',
        '@extschema@.encrypted_text_hash(@extschema@.encrypted_text)',
        '@extschema@.encrypted_text_hash(@extschema@.encrypted_text, bigint)',
        '@extschema@.encrypted_text_cmp(@extschema@.encrypted_text, @extschema@.encrypted_text)',
        '@extschema@.encrypted_text_cmp(@extschema@.encrypted_text, text)',
        '@extschema@.encrypted_text_cmp(text, @extschema@.encrypted_text)',
        '@extschema@.encrypted_text_cmp_text(text, text)',
        '@extschema@.encrypted_text_hash_text(text)',
        '@extschema@.encrypted_text_hash_text(text, bigint)',
        'prism_crypt._same_text(text, text)']::regprocedure[];
    ELSE
      RAISE invalid_parameter_value USING
        MESSAGE = format('access "%s" is not known', access),
        HINT = 'Known: decrypt, mask, search, rotate, load, key_admin, monitor.';
  END CASE;
END $$;
COMMENT ON FUNCTION prism_crypt._access_functions(text) IS 'The functions that belong to a kind of access. Internal';

CREATE FUNCTION prism_crypt._check_role(role regrole) RETURNS void
  LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
  IF role IS NULL THEN
    RAISE null_value_not_allowed USING MESSAGE = 'role must not be null';
  ELSIF NOT EXISTS (SELECT FROM pg_roles WHERE oid = role) THEN
    RAISE undefined_object USING MESSAGE = format('role with OID %s does not exist', role::oid);
  END IF;
END $$;
COMMENT ON FUNCTION prism_crypt._check_role(regrole) IS 'Raises an error where there is no such role. Internal';

CREATE FUNCTION prism_crypt.grant_access(role regrole, access text) RETURNS void
  LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  function regprocedure;
BEGIN
  PERFORM prism_crypt._check_role(role);
  -- Without it the names in this schema can't be used; it gives no right to any table or function.
  EXECUTE format('GRANT USAGE ON SCHEMA prism_crypt TO %s', role);
  FOREACH function IN ARRAY prism_crypt._access_functions(access) LOOP
    EXECUTE format('GRANT EXECUTE ON ROUTINE %s TO %s', function, role);
  END LOOP;
  IF access IN ('monitor', 'key_admin') THEN
    EXECUTE format('GRANT SELECT ON prism_crypt.key_status, prism_crypt.index_key_status, prism_crypt.audit_log TO %s', role);
  END IF;
  IF access IN ('monitor', 'rotate', 'key_admin') THEN
    EXECUTE format('GRANT SELECT ON prism_crypt.progress TO %s', role);
  END IF;
END $$;
COMMENT ON FUNCTION prism_crypt.grant_access(regrole, text) IS
  'Grants a role the functions of one kind of access: decrypt, mask, search, rotate, load, key_admin or monitor';

CREATE FUNCTION prism_crypt.revoke_access(role regrole, access text) RETURNS void
  LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  function regprocedure;
  kept text[];
  remaining text[];
BEGIN
  PERFORM prism_crypt._check_role(role);
  -- Some functions belong to several kinds.
  SELECT coalesce(array_agg(kind), '{}') INTO kept
  FROM unnest(ARRAY['decrypt', 'mask', 'search', 'rotate', 'load', 'key_admin', 'monitor']) AS kind
  WHERE kind <> access AND NOT EXISTS (
    SELECT FROM unnest(prism_crypt._access_functions(kind)) AS f (oid)
    WHERE NOT EXISTS (
      SELECT FROM pg_proc AS p, aclexplode(p.proacl) AS granted WHERE p.oid = f.oid AND granted.grantee = role));
  FOREACH function IN ARRAY prism_crypt._access_functions(access) LOOP
    EXECUTE format('REVOKE EXECUTE ON ROUTINE %s FROM %s', function, role);
  END LOOP;
  PERFORM prism_crypt.grant_access(role, kind) FROM unnest(kept) AS kind;
  SELECT coalesce(array_agg(kind), '{}') INTO remaining
  FROM unnest(ARRAY['decrypt', 'mask', 'search', 'rotate', 'load', 'key_admin', 'monitor']) AS kind
  WHERE EXISTS (
    SELECT FROM pg_proc AS p, aclexplode(p.proacl) AS granted
    WHERE p.oid = ANY (prism_crypt._access_functions(kind)::oid[]) AND granted.grantee = role);
  IF NOT remaining && ARRAY['monitor', 'key_admin'] THEN
    EXECUTE format('REVOKE SELECT ON prism_crypt.key_status, prism_crypt.index_key_status, prism_crypt.audit_log FROM %s', role);
  END IF;
  IF NOT remaining && ARRAY['monitor', 'rotate', 'key_admin'] THEN
    EXECUTE format('REVOKE SELECT ON prism_crypt.progress FROM %s', role);
  END IF;
  IF remaining = '{}' THEN
    EXECUTE format('REVOKE USAGE ON SCHEMA prism_crypt FROM %s', role);
  END IF;
END $$;
COMMENT ON FUNCTION prism_crypt.revoke_access(regrole, text) IS 'Takes back what grant_access() granted';
