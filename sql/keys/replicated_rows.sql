-- What an apply worker does with rows of our own tables. A publication FOR ALL TABLES sends them all; PostgreSQL can leave none
-- out. Jobs and the audit log are about the server that they come from, and are not applied. Keys are applied, even if they are
-- already there because they were copied by hand. In all other processes these triggers do nothing.

CREATE FUNCTION prism_crypt._leave_replicated_row() RETURNS trigger
  LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
  IF prism_crypt._is_logical_worker() THEN
    IF TG_OP = 'TRUNCATE' THEN
      RAISE feature_not_supported USING
        MESSAGE = format('replication of TRUNCATE would empty this server''s own table prism_crypt.%I', TG_TABLE_NAME),
        HINT = 'Let the subscription skip that transaction (ALTER SUBSCRIPTION ... SKIP), or publish tables by name.';
    END IF;
    RETURN NULL;
  END IF;
  IF TG_OP = 'DELETE' THEN
    RETURN OLD;
  END IF;
  RETURN NEW;
END $$;
COMMENT ON FUNCTION prism_crypt._leave_replicated_row() IS
  'Skips what replication brings: it is about another server. Internal';

CREATE FUNCTION prism_crypt._raise_other_key(name text, what text) RETURNS void
  LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
  RAISE unique_violation USING
    MESSAGE = format('this server has another %s', what),
    DETAIL = 'Values of one of the two could not be read any more.',
    HINT = format('A subscriber that is to have the keys of its publisher must not make any. If it has no values of its own: '
      'TRUNCATE prism_crypt.keyset, prism_crypt.data_key, prism_crypt.index_key, prism_crypt.data_key_usage. Otherwise don''t '
      'publish prism_crypt.%I.', name);
END $$;
COMMENT ON FUNCTION prism_crypt._raise_other_key(text, text) IS 'Raises an error about two different keys. Internal';

-- A row of the same key that is already there was copied before, and takes over what has happened to it since. A key that was
-- destroyed here stays destroyed.
CREATE FUNCTION prism_crypt._take_replicated_data_key() RETURNS trigger
  LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  old record;
BEGIN
  IF NOT prism_crypt._is_logical_worker() THEN
    RETURN NEW;
  END IF;
  SELECT * INTO old FROM prism_crypt.data_key AS k WHERE k.version = NEW.version FOR UPDATE;
  IF old.version IS NOT NULL AND (old.keyset, old.created_at, old.created_by) <> (NEW.keyset, NEW.created_at, NEW.created_by) THEN
    PERFORM prism_crypt._raise_other_key('data_key', format('key of version %s', NEW.version));
  END IF;
  IF NEW.state = 'active' AND old.state IS DISTINCT FROM 'destroyed' THEN
    -- Rows arrive in any order: the one that says so may still arrive.
    UPDATE prism_crypt.data_key AS k SET state = 'decrypt_only', retired_at = NEW.created_at
    WHERE k.keyset = NEW.keyset AND k.state = 'active' AND k.version < NEW.version;
  END IF;
  IF old.version IS NULL THEN
    RETURN NEW;
  END IF;
  UPDATE prism_crypt.data_key AS k
  SET state = NEW.state, wrapped = NEW.wrapped, master_fingerprint = NEW.master_fingerprint, retired_at = NEW.retired_at,
      disabled_at = NEW.disabled_at, destroyed_at = NEW.destroyed_at, reason = NEW.reason
  WHERE k.version = NEW.version AND k.state <> 'destroyed';
  RETURN NULL;
END $$;
COMMENT ON FUNCTION prism_crypt._take_replicated_data_key() IS
  'Applies a replicated data key, even if it is already there. Internal';

CREATE FUNCTION prism_crypt._take_replicated_index_key() RETURNS trigger
  LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  old record;
BEGIN
  IF NOT prism_crypt._is_logical_worker() THEN
    RETURN NEW;
  END IF;
  SELECT * INTO old FROM prism_crypt.index_key AS i
  WHERE i.keyset = NEW.keyset AND i.generation = NEW.generation FOR UPDATE;
  IF old.keyset IS NOT NULL AND (old.created_at, old.created_by) <> (NEW.created_at, NEW.created_by) THEN
    PERFORM prism_crypt._raise_other_key(
      'index_key', format('index key of keyset "%s", generation %s', NEW.keyset, NEW.generation));
  END IF;
  IF NEW.state = 'active' AND old.state IS DISTINCT FROM 'destroyed' THEN
    UPDATE prism_crypt.index_key AS i SET state = 'destroyed', wrapped = '', destroyed_at = NEW.created_at
    WHERE i.keyset = NEW.keyset AND i.state = 'active' AND i.generation < NEW.generation;
  END IF;
  IF old.keyset IS NULL THEN
    RETURN NEW;
  END IF;
  UPDATE prism_crypt.index_key AS i
  SET state = NEW.state, wrapped = NEW.wrapped, master_fingerprint = NEW.master_fingerprint, retagged_at = NEW.retagged_at,
      destroyed_at = NEW.destroyed_at, reason = NEW.reason
  WHERE i.keyset = NEW.keyset AND i.generation = NEW.generation AND i.state <> 'destroyed';
  RETURN NULL;
END $$;
COMMENT ON FUNCTION prism_crypt._take_replicated_index_key() IS
  'Applies a replicated index key, even if it is already there. Internal';

-- This server keeps its own names and intervals if it has any; a count of seals is never lowered.
CREATE FUNCTION prism_crypt._keep_own_row() RETURNS trigger
  LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
  IF prism_crypt._is_logical_worker() AND (
       TG_TABLE_NAME = 'keyset' AND EXISTS (
         SELECT FROM prism_crypt.keyset AS k WHERE k.name = to_jsonb(NEW) ->> 'name')
       OR TG_TABLE_NAME = 'data_key_usage' AND EXISTS (
         SELECT FROM prism_crypt.data_key_usage AS u WHERE u.version = (to_jsonb(NEW) ->> 'version')::integer)) THEN
    RETURN NULL;
  END IF;
  RETURN NEW;
END $$;
COMMENT ON FUNCTION prism_crypt._keep_own_row() IS 'Skips a replicated row that is already there. Internal';

CREATE TRIGGER data_key_replicated BEFORE INSERT ON prism_crypt.data_key
  FOR EACH ROW EXECUTE FUNCTION prism_crypt._take_replicated_data_key();
CREATE TRIGGER index_key_replicated BEFORE INSERT ON prism_crypt.index_key
  FOR EACH ROW EXECUTE FUNCTION prism_crypt._take_replicated_index_key();
CREATE TRIGGER keyset_replicated BEFORE INSERT ON prism_crypt.keyset
  FOR EACH ROW EXECUTE FUNCTION prism_crypt._keep_own_row();
CREATE TRIGGER data_key_usage_replicated BEFORE INSERT ON prism_crypt.data_key_usage
  FOR EACH ROW EXECUTE FUNCTION prism_crypt._keep_own_row();

DO $$
DECLARE
  name pg_catalog.text;
BEGIN
  FOREACH name IN ARRAY ARRAY['data_key', 'index_key', 'keyset', 'data_key_usage'] LOOP
    EXECUTE pg_catalog.format('ALTER TABLE prism_crypt.%I ENABLE ALWAYS TRIGGER %I',
      name, name OPERATOR(pg_catalog.||) '_replicated');
    EXECUTE pg_catalog.format('COMMENT ON TRIGGER %I ON prism_crypt.%I IS ''Takes replicated rows also where they are already''',
      name OPERATOR(pg_catalog.||) '_replicated', name);
  END LOOP;
  FOREACH name IN ARRAY ARRAY['audit_log', 'job_kind', 'job', 'job_part', 'job_range', 'job_worker'] LOOP
    EXECUTE pg_catalog.format('CREATE TRIGGER %I BEFORE INSERT OR UPDATE OR DELETE ON prism_crypt.%I FOR EACH ROW EXECUTE FUNCTION '
      'prism_crypt._leave_replicated_row()', name OPERATOR(pg_catalog.||) '_replicated', name);
    EXECUTE pg_catalog.format('CREATE TRIGGER %I BEFORE TRUNCATE ON prism_crypt.%I FOR EACH STATEMENT EXECUTE FUNCTION '
      'prism_crypt._leave_replicated_row()', name OPERATOR(pg_catalog.||) '_truncated', name);
    EXECUTE pg_catalog.format('ALTER TABLE prism_crypt.%I ENABLE ALWAYS TRIGGER %I, ENABLE ALWAYS TRIGGER %I', name,
      name OPERATOR(pg_catalog.||) '_replicated', name OPERATOR(pg_catalog.||) '_truncated');
    EXECUTE pg_catalog.format('COMMENT ON TRIGGER %I ON prism_crypt.%I IS ''Skips what replication brings: it is about another server''',
      name OPERATOR(pg_catalog.||) '_replicated', name);
    EXECUTE pg_catalog.format('COMMENT ON TRIGGER %I ON prism_crypt.%I IS ''Skips what replication brings: it is about another server''',
      name OPERATOR(pg_catalog.||) '_truncated', name);
  END LOOP;
END $$;
