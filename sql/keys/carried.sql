-- Keys that a dump carries at its beginning (src/keyring/carried.rs). The rows of the key tables themselves come later in a
-- restore, where pg_dump's order puts them; values and index builds that need keys earlier find them here.

CREATE TABLE prism_crypt.carried_key (
  version            integer UNIQUE,
  keyset             text NOT NULL,
  generation         integer,
  state              text NOT NULL,
  wrapped            bytea NOT NULL,
  master_fingerprint text NOT NULL,
  UNIQUE (keyset, generation)
);
COMMENT ON TABLE prism_crypt.carried_key IS
  'Wrapped keys that a restore brought before the rows of keys; they open values as long as data_key and index_key lack them';
COMMENT ON COLUMN prism_crypt.carried_key.version IS 'The key version of a data key';
COMMENT ON COLUMN prism_crypt.carried_key.keyset IS 'Keyset it belongs to';
COMMENT ON COLUMN prism_crypt.carried_key.generation IS 'The generation of an index key';
COMMENT ON COLUMN prism_crypt.carried_key.state IS 'As in data_key and index_key';
COMMENT ON COLUMN prism_crypt.carried_key.wrapped IS 'As in data_key and index_key';
COMMENT ON COLUMN prism_crypt.carried_key.master_fingerprint IS 'As in data_key and index_key';

CREATE TYPE prism_crypt.key_rows;
CREATE FUNCTION prism_crypt._key_rows_in(cstring) RETURNS prism_crypt.key_rows
  LANGUAGE c STABLE STRICT AS 'MODULE_PATHNAME', '_key_rows_in_wrapper';
COMMENT ON FUNCTION prism_crypt._key_rows_in(cstring) IS 'I/O: loads carried_key. Internal';
CREATE FUNCTION prism_crypt._key_rows_out(prism_crypt.key_rows) RETURNS cstring
  LANGUAGE c STABLE STRICT AS 'MODULE_PATHNAME', '_key_rows_out_wrapper';
COMMENT ON FUNCTION prism_crypt._key_rows_out(prism_crypt.key_rows) IS
  'I/O: the wrapped keys, for roles that may read data_key and index_key. Internal';
CREATE TYPE prism_crypt.key_rows (
  INPUT = prism_crypt._key_rows_in, OUTPUT = prism_crypt._key_rows_out, LIKE = pg_catalog.int4
);
COMMENT ON TYPE prism_crypt.key_rows IS
  'Holds nothing. Its output is the wrapped keys of that moment; its input loads them. For dumps';

-- The view is not a member of the extension, because pg_dump writes no definitions of members. So it is made with the first
-- key, and DROP EXTENSION needs CASCADE if there are keys.
CREATE FUNCTION prism_crypt._make_carrier() RETURNS void
  LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  grantee oid;
BEGIN
  IF to_regclass('prism_crypt.carried_keys') IS NULL THEN
    CREATE VIEW prism_crypt.carried_keys AS SELECT ''::prism_crypt.key_rows AS keys;
    -- Default privileges may have opened it.
    FOR grantee IN
      SELECT DISTINCT a.grantee FROM pg_class AS c, aclexplode(c.relacl) AS a
      WHERE c.oid = 'prism_crypt.carried_keys'::regclass AND a.grantee <> c.relowner
    LOOP
      EXECUTE format('REVOKE ALL ON prism_crypt.carried_keys FROM %s CASCADE',
                     CASE grantee WHEN 0 THEN 'PUBLIC' ELSE quote_ident(pg_get_userbyid(grantee)) END);
    END LOOP;
    COMMENT ON VIEW prism_crypt.carried_keys IS
      'Makes pg_dump write the wrapped keys before any row. Leave it in dumps: values may be opened while they are restored';
  END IF;
EXCEPTION WHEN duplicate_table OR unique_violation THEN
  -- Another session made it with the first key of another keyset.
  NULL;
END $$;
COMMENT ON FUNCTION prism_crypt._make_carrier() IS 'Makes the view by which dumps carry the keys. Internal';

-- TRUNCATE leaves no dead rows. But whoever may ANALYZE the table can prevent that; nobody can prevent deleting its rows.
CREATE FUNCTION prism_crypt._forget_carried_keys() RETURNS void
  LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  own_timeout CONSTANT text := current_setting('lock_timeout');
BEGIN
  IF pg_relation_size('prism_crypt.carried_key') = 0 THEN
    RETURN;
  END IF;
  BEGIN
    PERFORM set_config('lock_timeout', '100ms', true);
    TRUNCATE prism_crypt.carried_key;
    PERFORM set_config('lock_timeout', own_timeout, true);
  EXCEPTION WHEN lock_not_available OR deadlock_detected OR object_in_use THEN
    DELETE FROM prism_crypt.carried_key;
    IF FOUND THEN
      RAISE WARNING 'prism_crypt.carried_key is in use, and could not be emptied at once' USING
        DETAIL = 'Its dead rows hold wrapped keys that a restore brought.',
        HINT = 'VACUUM FULL prism_crypt.carried_key.';
    END IF;
  END;
END $$;
COMMENT ON FUNCTION prism_crypt._forget_carried_keys() IS 'Removes keys that a restore brought early. Internal';

CREATE FUNCTION prism_crypt._is_carried(version integer) RETURNS boolean
  LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
  SELECT EXISTS (SELECT FROM prism_crypt.carried_key AS c WHERE c.version = $1)
$$;
COMMENT ON FUNCTION prism_crypt._is_carried(integer) IS 'Whether a data key was known before its row came. Internal';

CREATE FUNCTION prism_crypt._is_carried(keyset text, generation integer) RETURNS boolean
  LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
  SELECT EXISTS (SELECT FROM prism_crypt.carried_key AS c WHERE c.keyset = $1 AND c.generation = $2)
$$;
COMMENT ON FUNCTION prism_crypt._is_carried(text, integer) IS
  'Whether an index key was known before its row came. Internal';
