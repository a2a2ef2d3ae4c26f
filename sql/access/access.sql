-- Rights are plain EXECUTE privileges; these functions only grant the sets that belong together.

CREATE FUNCTION prism_crypt._access_kinds() RETURNS text[]
  LANGUAGE sql IMMUTABLE SET search_path = pg_catalog, pg_temp AS $$
  SELECT ARRAY['encrypt', 'decrypt', 'mask', 'search', 'rotate', 'load', 'migrate', 'export', 'key_admin', 'monitor']
$$;
COMMENT ON FUNCTION prism_crypt._access_kinds() IS 'The kinds of access that grant_access() knows. Internal';

-- By name and argument types, in any schema of the extension, because its own may be renamed.
CREATE FUNCTION prism_crypt._access_functions(access text) RETURNS regprocedure[]
  LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  names text[];
  functions regprocedure[];
  missing text;
BEGIN
  IF access IS NULL THEN
    RAISE null_value_not_allowed USING MESSAGE = 'access must not be null';
  END IF;
  CASE access
    WHEN 'encrypt' THEN
      names := ARRAY[
        'encrypt_field(text,text,text,text)',
        'encrypt_bytes(bytea,text,text,text)'];
    WHEN 'decrypt' THEN
      names := ARRAY[
        'decrypt_field(encrypted_text,text)',
        'try_decrypt_field(encrypted_text,text)',
        'decrypt_bytes(bytea,text)',
        'text(encrypted_text)',
        'varchar(encrypted_text)',
        'bpchar(encrypted_text)',
        'name(encrypted_text)'];
    WHEN 'mask' THEN
      names := ARRAY[
        'mask_field(encrypted_text,text)'];
    WHEN 'rotate' THEN
      names := ARRAY[
        'reencrypt_field(encrypted_text)',
        'reencrypt_bytes(bytea)',
        'rotate_batch(regclass,name,int4,interval,float8,int8,int4,int4,text,name,bool)',
        'rotate_all(int4,interval,float8,int8,int4,int4,text,bool)',
        'plan_rotation(int4)',
        'pause_job(int8)',
        'resume_job(int8)',
        'cancel_job(int8)',
        '_progress(int8)',
        '_set_job_state(int8,text,int8)',
        '_start_job(text,regclass,name,jsonb,int8)',
        '_next_step(uuid,bool,int8,bool)',
        '_record_step(uuid,_step,_result)',
        '_leave_job(uuid,text,text)',
        '_last_pace(regclass,int8)',
        '_older_transactions(timestamptz)',
        '_check_rotation_scope(int4,text)',
        '_rotation_keys(int4,text)',
        '_is_rotatable(encrypted_text)',
        '_is_rotatable(anyelement,int4,text)',
        '_can_rotate(anyelement,int4,text)',
        '_rotation_error(anyelement,int4,text)',
        '_reencrypt(encrypted_text,bool)',
        '_reencrypt(anyelement,int4,text,bool)'];
    WHEN 'load' THEN
      names := ARRAY[
        'load_envelope(text)'];
    WHEN 'migrate' THEN
      names := ARRAY[
        'migrate_column(regclass,name,text,text,text,text,bool,bool,interval,interval,int4,interval,float8,int8,int4)',
        'decrypt_column(regclass,name,text,text,text,bool,interval,interval,int4,interval,float8,int8,int4)',
        'rollback_migration(int8,interval)',
        'finish_migration(int8,interval,jsonb)',
        'plan_migration(regclass,name,text,text)',
        'explain_migration(regclass,name,text,text)',
        'remaining_plaintext(regclass,name,int4)',
        'find_plaintext(text,int4)',
        '_find_plaintext_in(oid,int4)',
        'pause_job(int8)',
        'resume_job(int8)',
        'cancel_job(int8)',
        '_open_migration(migration,int8)',
        '_take_migration(int8,int8)',
        '_migrations(int8)',
        '_is_out_of_step(any,any,int4)',
        '_find_remains(_oid,_bytea)',
        '_start_statement(text)',
        '_progress(int8)',
        '_set_job_state(int8,text,int8)',
        '_start_job(text,regclass,name,jsonb,int8)',
        '_next_step(uuid,bool,int8,bool)',
        '_record_step(uuid,_step,_result)',
        '_leave_job(uuid,text,text)'];
    WHEN 'export' THEN
      names := ARRAY[
        'export_encrypted(text,text,text,int4,text,bool)',
        'import_encrypted(text,text,text,text)',
        'export_stream(text,text,text)',
        'import_stream(text,text,text,text)',
        '_query_columns(text)',
        '_type_of(text)',
        '_names_in_expression(text)', '_constants_open(text)',
        '_export_rows(text,text,text,int4,text,bool)',
        '_export_chunks(text,text,text)',
        '_import_rows(text,text,text,text,text)'];
    WHEN 'key_admin' THEN
      names := ARRAY[
        'generate_key()',
        'create_keyset(text,text)',
        'rotate_key(text,text)',
        'rotate_master_key(text)',
        'disable_key(int4,text)',
        'enable_key(int4,text)',
        'destroy_key(int4,text,bool)',
        'destroy_keyset(text,text,bool)',
        'rotate_index_key(text,text,int4,interval,float8,int8,bool,bool)',
        '_try_to_lock_searched_tables(text,float8,bool,bool,int8)',
        '_replace_index_key(text,text,bool)',
        '_finish_index_key(text)',
        '_is_retagging(text)',
        'emergency_rotation(text)',
        'set_rotation_interval(text,interval)',
        'rotation_due()',
        'census(regclass)',
        'pause_job(int8)',
        'resume_job(int8)',
        'cancel_job(int8)',
        '_set_job_state(int8,text,int8)',
        '_progress(int8)'];
    WHEN 'monitor' THEN
      names := ARRAY[
        'status()',
        '_invalid_search_indexes()',
        '_unexpected_grants()',
        '_namesakes()',
        'rotation_due()',
        'census(regclass)',
        'find_plaintext(text,int4)',
        '_find_plaintext_in(oid,int4)',
        '_progress(int8)',
        '_migrations(int8)'];
    WHEN 'search' THEN
      names := ARRAY[
        'blind_index(text,text,int4)',
        'encrypted_text_eq(encrypted_text,text)',
        'encrypted_text_ne(encrypted_text,text)',
        'encrypted_text_eq(text,encrypted_text)',
        'encrypted_text_ne(text,encrypted_text)',
        'encrypted_text_array_contains(encrypted_text_array,encrypted_text_texts)',
        'encrypted_text_array_contains(encrypted_text_texts,encrypted_text_array)',
        'encrypted_text_array_contained(encrypted_text_array,encrypted_text_texts)',
        'encrypted_text_array_contained(encrypted_text_texts,encrypted_text_array)',
        'encrypted_text_array_overlaps(encrypted_text_array,encrypted_text_texts)',
        'encrypted_text_array_overlaps(encrypted_text_texts,encrypted_text_array)',
        'encrypted_text_array_eq(encrypted_text_array,encrypted_text_texts)',
        'encrypted_text_array_eq(encrypted_text_texts,encrypted_text_array)',
        'encrypted_text_array_ne(encrypted_text_array,encrypted_text_texts)',
        'encrypted_text_array_ne(encrypted_text_texts,encrypted_text_array)',
        'encrypted_text_wanted(_text)',
        'encrypted_text_hash(encrypted_text)',
        'encrypted_text_hash(encrypted_text,int8)',
        'encrypted_text_cmp(encrypted_text,encrypted_text)',
        'encrypted_text_cmp(encrypted_text,text)',
        'encrypted_text_cmp(text,encrypted_text)',
        'encrypted_text_cmp_text(text,text)',
        'encrypted_text_hash_text(text)',
        'encrypted_text_hash_text(text,int8)',
        '_same_text(text,text)'];
    ELSE
      RAISE invalid_parameter_value USING
        MESSAGE = format('access "%s" is not known', access),
        HINT = 'Known: encrypt, decrypt, mask, search, rotate, load, migrate, key_admin, monitor.';
  END CASE;
  WITH members AS (
    SELECT p.oid, format('%s(%s)', p.proname, (
      SELECT string_agg(t.typname, ',' ORDER BY a.number)
      FROM unnest(p.proargtypes) WITH ORDINALITY AS a (type, number) JOIN pg_type AS t ON t.oid = a.type)) AS name
    FROM pg_proc AS p WHERE p.oid IN (SELECT prism_crypt._members('pg_proc'))
  )
  SELECT array_agg(m.oid), string_agg(n.name, ', ') FILTER (WHERE m.oid IS NULL) INTO functions, missing
  FROM unnest(names) AS n (name) LEFT JOIN members AS m ON m.name = n.name;
  IF missing IS NOT NULL THEN
    RAISE undefined_function USING MESSAGE = format('the extension has lost functions: %s', missing);
  END IF;
  RETURN functions;
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
COMMENT ON FUNCTION prism_crypt._check_role(regrole) IS 'Raises an error if there is no such role. Internal';

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
  IF access IN ('monitor', 'rotate', 'migrate', 'key_admin') THEN
    EXECUTE format('GRANT SELECT ON prism_crypt.progress TO %s', role);
  END IF;
  IF access IN ('monitor', 'migrate') THEN
    EXECUTE format('GRANT SELECT ON prism_crypt.migrations TO %s', role);
  END IF;
END $$;
COMMENT ON FUNCTION prism_crypt.grant_access(regrole, text) IS
  'Grants a role the functions of one kind of access: encrypt, decrypt, mask, search, rotate, load, migrate, key_admin or monitor';

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
  FROM unnest(prism_crypt._access_kinds()) AS kind
  WHERE kind <> access AND NOT EXISTS (
    SELECT FROM unnest(prism_crypt._access_functions(kind)) AS f (oid)
    WHERE NOT EXISTS (
      SELECT FROM pg_proc AS p, aclexplode(p.proacl) AS granted WHERE p.oid = f.oid AND granted.grantee = role));
  FOREACH function IN ARRAY prism_crypt._access_functions(access) LOOP
    EXECUTE format('REVOKE EXECUTE ON ROUTINE %s FROM %s', function, role);
  END LOOP;
  PERFORM prism_crypt.grant_access(role, kind) FROM unnest(kept) AS kind;
  SELECT coalesce(array_agg(kind), '{}') INTO remaining
  FROM unnest(prism_crypt._access_kinds()) AS kind
  WHERE EXISTS (
    SELECT FROM pg_proc AS p, aclexplode(p.proacl) AS granted
    WHERE p.oid = ANY (prism_crypt._access_functions(kind)::oid[]) AND granted.grantee = role);
  IF NOT remaining && ARRAY['monitor', 'key_admin'] THEN
    EXECUTE format('REVOKE SELECT ON prism_crypt.key_status, prism_crypt.index_key_status, prism_crypt.audit_log FROM %s', role);
  END IF;
  IF NOT remaining && ARRAY['monitor', 'rotate', 'migrate', 'key_admin'] THEN
    EXECUTE format('REVOKE SELECT ON prism_crypt.progress FROM %s', role);
  END IF;
  IF NOT remaining && ARRAY['monitor', 'migrate'] THEN
    EXECUTE format('REVOKE SELECT ON prism_crypt.migrations FROM %s', role);
  END IF;
  IF remaining = '{}' THEN
    EXECUTE format('REVOKE USAGE ON SCHEMA prism_crypt FROM %s', role);
  END IF;
END $$;
COMMENT ON FUNCTION prism_crypt.revoke_access(regrole, text) IS 'Takes back what grant_access() granted';

-- Everybody may encrypt at first. A grant to PUBLIC is not one to a role, so grant_access() and revoke_access() don't touch it.
CREATE FUNCTION prism_crypt.close_encrypt() RETURNS void
  LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  function regprocedure;
BEGIN
  FOREACH function IN ARRAY prism_crypt._access_functions('encrypt') LOOP
    EXECUTE format('REVOKE EXECUTE ON ROUTINE %s FROM PUBLIC', function);
  END LOOP;
END $$;
COMMENT ON FUNCTION prism_crypt.close_encrypt() IS
  'Takes the right to encrypt from PUBLIC: then only roles with access to encrypt or search have it';
