-- Rows of keys that a restore brings, in whatever order and by whatever means.

-- Keys may be loaded before everything else, and again with the rest. A row that is already there stays. A row that differs
-- from it is a duplicate: an error.
CREATE FUNCTION prism_crypt._keep_same_row() RETURNS trigger
  LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  is_there boolean;
BEGIN
  EXECUTE format('SELECT EXISTS (SELECT FROM %s AS t WHERE %s)', TG_RELID::regclass, TG_ARGV[0]) INTO is_there USING NEW;
  IF is_there THEN
    RETURN NULL;
  END IF;
  RETURN NEW;
END $$;
COMMENT ON FUNCTION prism_crypt._keep_same_row() IS 'Skips a row that is already there. Internal';

CREATE TRIGGER keep_same_row BEFORE INSERT ON prism_crypt.keyset FOR EACH ROW
  EXECUTE FUNCTION prism_crypt._keep_same_row('t.name = $1.name AND t IS NOT DISTINCT FROM $1');
CREATE TRIGGER keep_same_row BEFORE INSERT ON prism_crypt.data_key FOR EACH ROW
  EXECUTE FUNCTION prism_crypt._keep_same_row('t.version = $1.version AND t IS NOT DISTINCT FROM $1');
CREATE TRIGGER keep_same_row BEFORE INSERT ON prism_crypt.index_key FOR EACH ROW
  EXECUTE FUNCTION prism_crypt._keep_same_row(
    't.keyset = $1.keyset AND t.generation = $1.generation AND t IS NOT DISTINCT FROM $1');
CREATE TRIGGER keep_same_row BEFORE INSERT ON prism_crypt.audit_log FOR EACH ROW
  EXECUTE FUNCTION prism_crypt._keep_same_row('t.id = $1.id AND t IS NOT DISTINCT FROM $1');
-- Seals since then may have raised the count.
CREATE TRIGGER keep_same_row BEFORE INSERT ON prism_crypt.data_key_usage FOR EACH ROW
  EXECUTE FUNCTION prism_crypt._keep_same_row('t.version = $1.version AND t.seals_reserved >= $1.seals_reserved');
ALTER TABLE prism_crypt.keyset ENABLE ALWAYS TRIGGER keep_same_row;
ALTER TABLE prism_crypt.data_key ENABLE ALWAYS TRIGGER keep_same_row;
ALTER TABLE prism_crypt.index_key ENABLE ALWAYS TRIGGER keep_same_row;
ALTER TABLE prism_crypt.audit_log ENABLE ALWAYS TRIGGER keep_same_row;
ALTER TABLE prism_crypt.data_key_usage ENABLE ALWAYS TRIGGER keep_same_row;
COMMENT ON TRIGGER keep_same_row ON prism_crypt.keyset IS 'Rows may be loaded a second time';
COMMENT ON TRIGGER keep_same_row ON prism_crypt.data_key IS 'Rows may be loaded a second time';
COMMENT ON TRIGGER keep_same_row ON prism_crypt.index_key IS 'Rows may be loaded a second time';
COMMENT ON TRIGGER keep_same_row ON prism_crypt.audit_log IS 'Rows may be loaded a second time';
COMMENT ON TRIGGER keep_same_row ON prism_crypt.data_key_usage IS 'Rows may be loaded a second time';

-- pg_restore --disable-triggers turns off every trigger of these tables, even those that fire ALWAYS, and makes them ordinary
-- triggers afterwards. Nothing turns off a CHECK, so a CHECK does what must not be left out then.

CREATE FUNCTION prism_crypt._keys_change() RETURNS boolean
  LANGUAGE c VOLATILE AS 'MODULE_PATHNAME', '_keys_change_wrapper';
COMMENT ON FUNCTION prism_crypt._keys_change() IS 'Tells every session that keys change; true. Internal';

CREATE FUNCTION prism_crypt._fires(trigger name) RETURNS boolean
  LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
  SELECT EXISTS (
    SELECT FROM pg_trigger AS t
    WHERE t.tgname = $1 AND t.tgrelid IN ('prism_crypt.data_key'::regclass, 'prism_crypt.index_key'::regclass)
      AND (t.tgenabled = 'A' OR t.tgenabled = 'O' AND current_setting('session_replication_role') <> 'replica'))
$$;
COMMENT ON FUNCTION prism_crypt._fires(name) IS 'Whether a trigger of the tables of keys would fire now. Internal';

-- Indexes that were built before this row arrived may have taken old tags for current ones.
CREATE FUNCTION prism_crypt._heed_key_row(trigger name, replaced boolean) RETURNS boolean
  LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  own_timeout text;
  indexes regclass[];
BEGIN
  IF prism_crypt._fires(trigger) THEN
    RETURN true;
  END IF;
  PERFORM prism_crypt._keys_change();
  IF coalesce(replaced, prism_crypt._has_outdated_tags()) THEN
    -- This waits for index builds that are under way; builds that begin later see this row.
    own_timeout := prism_crypt._limit_waits(600);
    PERFORM prism_crypt._lock_searched_tables(false);
    PERFORM set_config('lock_timeout', own_timeout, true);
    SELECT array_agg(DISTINCT i.index) INTO indexes FROM prism_crypt._search_indexes() AS i;
    IF indexes IS NOT NULL THEN
      PERFORM prism_crypt._distrust_indexes(indexes);
      RAISE WARNING 'keys were loaded without triggers, and indexes on encrypted values are invalid: %',
        (SELECT string_agg(i::text, ', ' ORDER BY i::text) FROM unnest(indexes) AS i) USING
        HINT = 'REINDEX INDEX makes each of them valid.';
    END IF;
  END IF;
  RETURN true;
END $$;
COMMENT ON FUNCTION prism_crypt._heed_key_row(name, boolean) IS
  'The minimum that the triggers of the key tables do, if they don''t fire; true. Internal';

-- For a data key: whether any index key was replaced.
ALTER TABLE prism_crypt.data_key ADD CONSTRAINT heeded CHECK (
  prism_crypt._heed_key_row('data_key_changed', CASE WHEN prism_crypt._is_carried(version) THEN false END));
ALTER TABLE prism_crypt.index_key ADD CONSTRAINT heeded CHECK (
  prism_crypt._heed_key_row('index_key_changed',
    state OPERATOR(pg_catalog.=) 'active' AND retagged_at IS NULL AND NOT prism_crypt._is_carried(keyset, generation)));
COMMENT ON CONSTRAINT heeded ON prism_crypt.data_key IS 'Does what triggers would do, if they don''t fire';
COMMENT ON CONSTRAINT heeded ON prism_crypt.index_key IS 'Does what triggers would do, if they don''t fire';
