-- What was done to keys, and which files were written and read, by whom and why. Written by the functions that do it, in the same transaction.

CREATE TABLE prism_crypt.audit_log (
  id          bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  at          timestamptz NOT NULL DEFAULT pg_catalog.clock_timestamp(),
  role        text NOT NULL DEFAULT SESSION_USER,
  event       text NOT NULL,
  keyset      text,
  key_version integer,
  reason      text,
  detail      text
);
COMMENT ON TABLE prism_crypt.audit_log IS
  'What was done to keys, and which encrypted files were written and read. Only the functions of prism_crypt write to it';
COMMENT ON SEQUENCE prism_crypt.audit_log_id_seq IS 'Numbers of entries';
COMMENT ON COLUMN prism_crypt.audit_log.id IS 'Number in order; a rollback leaves a gap';
COMMENT ON COLUMN prism_crypt.audit_log.at IS 'When';
COMMENT ON COLUMN prism_crypt.audit_log.role IS 'Session user who did it';
COMMENT ON COLUMN prism_crypt.audit_log.event IS 'The function that was called';
COMMENT ON COLUMN prism_crypt.audit_log.keyset IS 'The keyset that it was done to';
COMMENT ON COLUMN prism_crypt.audit_log.key_version IS 'The key version that it was done to';
COMMENT ON COLUMN prism_crypt.audit_log.reason IS 'Why, as the caller said';
COMMENT ON COLUMN prism_crypt.audit_log.detail IS 'What else there is to know; never key material or plaintext';
SELECT pg_catalog.pg_extension_config_dump('prism_crypt.audit_log', '');
SELECT pg_catalog.pg_extension_config_dump('prism_crypt.audit_log_id_seq', '');

-- What was done to keys must outlast a crash, whatever synchronous_commit the session has: a destroyed key must not come
-- back, and a master key that was rotated away may be gone by then.
CREATE FUNCTION prism_crypt._audit(
  event text, keyset text, key_version integer, reason text, detail text DEFAULT NULL
) RETURNS void
  LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
BEGIN
  IF current_setting('synchronous_commit') = 'off' THEN
    PERFORM set_config('synchronous_commit', 'on', true);
  END IF;
  INSERT INTO prism_crypt.audit_log (event, keyset, key_version, reason, detail)
  VALUES (_audit.event, _audit.keyset, _audit.key_version, _audit.reason, _audit.detail);
END $$;
COMMENT ON FUNCTION prism_crypt._audit(text, text, integer, text, text) IS
  'Writes to the audit log, and makes sure that the transaction outlasts a crash. Internal';
