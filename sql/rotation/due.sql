-- When to rotate, and what to do when there is no time.

CREATE FUNCTION prism_crypt.set_rotation_interval(keyset text, rotation_interval interval) RETURNS void
  LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
  own_timeout CONSTANT text := prism_crypt._limit_waits(10);
BEGIN
  IF set_rotation_interval.keyset IS NULL THEN
    RAISE null_value_not_allowed USING MESSAGE = 'keyset must not be null';
  END IF;
  PERFORM prism_crypt._require_between('rotation_interval', set_rotation_interval.rotation_interval,
                                       interval '1 second', interval '100 years');
  UPDATE prism_crypt.keyset AS k SET rotation_interval = set_rotation_interval.rotation_interval
  WHERE k.name = set_rotation_interval.keyset;
  PERFORM prism_crypt._require_keyset(set_rotation_interval.keyset, 'Call prism_crypt.create_keyset() to make it.');
  PERFORM prism_crypt._audit('set_rotation_interval', set_rotation_interval.keyset, NULL, NULL,
                             coalesce(set_rotation_interval.rotation_interval::text, 'none'));
  PERFORM set_config('lock_timeout', own_timeout, true);
END $$;
COMMENT ON FUNCTION prism_crypt.set_rotation_interval(text, interval) IS
  'How long a key of a keyset may be the active one before rotation_due() says so; NULL is for ever';

CREATE FUNCTION prism_crypt.rotation_due(
  OUT keyset text, OUT key_version integer, OUT active_since timestamptz, OUT rotation_interval interval,
  OUT due_at timestamptz, OUT seals_reserved bigint, OUT due boolean, OUT reason text
) RETURNS SETOF record
  LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
  SELECT s.name, k.version, k.created_at, s.rotation_interval, k.created_at + s.rotation_interval, u.seals_reserved,
         why.reasons IS NOT NULL, why.reasons
  FROM prism_crypt.keyset AS s
  JOIN prism_crypt.data_key AS k ON k.keyset = s.name AND k.state = 'active'
  LEFT JOIN prism_crypt.data_key_usage AS u ON u.version = k.version
  CROSS JOIN LATERAL (
    SELECT string_agg(r, '; ') FROM (VALUES
      (CASE WHEN k.created_at + s.rotation_interval <= clock_timestamp() THEN 'older than its rotation_interval' END),
      -- Half of what NIST SP 800-38D, 8.3, allows for random nonces.
      (CASE WHEN u.seals_reserved >= 2147483648 THEN 'more than 2^31 values sealed' END),
      (CASE WHEN u.version IS NULL THEN 'sealed values are not counted' END)
    ) AS v (r)
  ) AS why (reasons)
  ORDER BY why.reasons IS NULL, k.created_at
$$;
COMMENT ON FUNCTION prism_crypt.rotation_due() IS
  'The active key of each keyset, and whether it is time for another one; keys that are due come first';

CREATE FUNCTION prism_crypt.emergency_rotation(reason text, OUT keyset text, OUT old_version integer, OUT new_version integer)
  RETURNS SETOF record
  LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
  own_timeout CONSTANT text := current_setting('lock_timeout');
  relation regclass;
  jobs integer := 0;
  rotated integer := 0;
BEGIN
  IF coalesce(btrim(emergency_rotation.reason), '') = '' THEN
    RAISE invalid_parameter_value USING MESSAGE = 'an emergency rotation needs a reason';
  END IF;
  PERFORM prism_crypt._bound_waits();
  PERFORM prism_crypt._audit('emergency_rotation', NULL, NULL, emergency_rotation.reason);
  FOR keyset, old_version IN
    SELECT k.keyset, k.version FROM prism_crypt.data_key AS k WHERE k.state = 'active' ORDER BY k.keyset
  LOOP
    BEGIN
      new_version := prism_crypt.rotate_key(keyset, emergency_rotation.reason);
      rotated := rotated + 1;
    EXCEPTION WHEN object_not_in_prerequisite_state OR lock_not_available OR deadlock_detected OR serialization_failure THEN
      -- It may belong to a tenant that brings its own master key; or somebody else is changing it. The other keysets must not
      -- wait for it.
      new_version := NULL;
      RAISE WARNING 'keyset "%" is not rotated: %', keyset, SQLERRM;
    END;
    RETURN NEXT;
  END LOOP;
  IF rotated = 0 THEN
    RAISE object_not_in_prerequisite_state USING
      MESSAGE = 'no keyset could be rotated', HINT = 'prism_crypt.status() says whether the master key is there.';
  END IF;
  -- The new keys matter most: trouble with a job must not roll them back. An open transaction of others may have changed the
  -- job.
  PERFORM set_config('lock_timeout', '200ms', true);
  FOREACH relation IN ARRAY (prism_crypt._rotation_roots()).roots LOOP
    BEGIN
      PERFORM prism_crypt._queue_job('rotation', relation, emergency_rotation.reason);
      jobs := jobs + 1;
    EXCEPTION WHEN OTHERS OR assert_failure THEN
      RAISE WARNING 'no job is made for %: SQLSTATE %', relation, SQLSTATE
        USING HINT = 'prism_crypt.rotate_all() takes every table, whether it has a job or not.';
    END;
  END LOOP;
  PERFORM set_config('lock_timeout', own_timeout, true);
  RAISE NOTICE 'pending jobs: %', jobs USING HINT = 'CALL prism_crypt.rotate_all() does them.';
END $$;
COMMENT ON FUNCTION prism_crypt.emergency_rotation(text) IS
  'A new key for every keyset, now, so that old keys only decrypt; and a job for every table, for rotate_all() to work off';
