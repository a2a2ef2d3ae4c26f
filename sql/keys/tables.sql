-- State and administration are in a schema with a fixed name. CREATE fails if somebody else made it before: what is looked up
-- there by name must be ours.
CREATE SCHEMA prism_crypt;
COMMENT ON SCHEMA prism_crypt IS 'prism_crypt: keys, their administration and status';

CREATE SEQUENCE prism_crypt.data_key_version_seq AS integer NO CYCLE;
COMMENT ON SEQUENCE prism_crypt.data_key_version_seq IS
  'Key versions. A sequence, so that no version is given twice, not even after a rollback';

CREATE TABLE prism_crypt.keyset (
  name              text PRIMARY KEY CHECK (name ~ '^[a-z_][a-z0-9_.-]{0,62}$'),
  description       text,
  -- A cryptoperiod well within the two years that NIST SP 800-57 part 1 (5.3.6) allows for such keys at most.
  rotation_interval interval DEFAULT '90 days' CHECK (rotation_interval > '0'),
  created_at        timestamptz NOT NULL DEFAULT pg_catalog.now(),
  created_by        text NOT NULL DEFAULT SESSION_USER
);
COMMENT ON TABLE prism_crypt.keyset IS 'Named families of data keys: one active key each';
COMMENT ON COLUMN prism_crypt.keyset.name IS 'Lower-case ASCII name, at most 63 bytes';
COMMENT ON COLUMN prism_crypt.keyset.description IS 'What or whom the keyset is for';
COMMENT ON COLUMN prism_crypt.keyset.rotation_interval IS
  'How long a key may be the active one before prism_crypt.rotation_due() says so; null is for ever';
COMMENT ON COLUMN prism_crypt.keyset.created_at IS 'When it was made';
COMMENT ON COLUMN prism_crypt.keyset.created_by IS 'Session user that made it';

CREATE TABLE prism_crypt.data_key (
  version            integer PRIMARY KEY CHECK (version > 0),
  -- No foreign key: a parallel restore loads both tables in any order.
  keyset             text NOT NULL,
  state              text NOT NULL CHECK (state IN ('active', 'decrypt_only', 'disabled', 'destroyed')),
  wrapped            bytea NOT NULL,
  master_fingerprint text NOT NULL,
  created_at         timestamptz NOT NULL DEFAULT pg_catalog.now(),
  created_by         text NOT NULL DEFAULT SESSION_USER,
  retired_at         timestamptz,
  disabled_at        timestamptz,
  destroyed_at       timestamptz,
  reason             text
);
CREATE UNIQUE INDEX data_key_active_idx ON prism_crypt.data_key (keyset) WHERE state = 'active';
COMMENT ON TABLE prism_crypt.data_key IS
  'Data keys, wrapped by a master key that is never stored. Belongs to the data: dump and restore both together';
COMMENT ON COLUMN prism_crypt.data_key.version IS 'The key version that every value carries';
COMMENT ON COLUMN prism_crypt.data_key.keyset IS 'Keyset it belongs to';
COMMENT ON COLUMN prism_crypt.data_key.state IS
  'active: seals new values; decrypt_only: reads old ones; disabled: reads nothing; destroyed: gone';
COMMENT ON COLUMN prism_crypt.data_key.wrapped IS
  'AES-256-GCM under the master key, with version and keyset as associated data: 93 bytes (61 if 0.2.0 wrapped it); none once it is destroyed';
COMMENT ON COLUMN prism_crypt.data_key.master_fingerprint IS
  'Which master key wrapped it: 16 hexadecimal digits of a keyed hash';
COMMENT ON COLUMN prism_crypt.data_key.created_at IS 'When it was made';
COMMENT ON COLUMN prism_crypt.data_key.created_by IS 'Session user that made it';
COMMENT ON COLUMN prism_crypt.data_key.retired_at IS 'When another key became the active one';
COMMENT ON COLUMN prism_crypt.data_key.disabled_at IS 'When it was disabled; null while it is not';
COMMENT ON COLUMN prism_crypt.data_key.destroyed_at IS 'When it was destroyed';
COMMENT ON COLUMN prism_crypt.data_key.reason IS 'Why its state was last changed';

-- There is one index key at a time: a new one replaces the old one in every index at once, and what was made with the old one
-- is made again from the plaintext, so nothing needs the old one any more.
CREATE TABLE prism_crypt.index_key (
  keyset             text NOT NULL,
  generation         integer NOT NULL CHECK (generation BETWEEN 1 AND 255),
  state              text NOT NULL CHECK (state IN ('active', 'destroyed')),
  wrapped            bytea NOT NULL,
  master_fingerprint text NOT NULL,
  created_at         timestamptz NOT NULL DEFAULT pg_catalog.now(),
  created_by         text NOT NULL DEFAULT SESSION_USER,
  retagged_at        timestamptz,
  destroyed_at       timestamptz,
  reason             text,
  PRIMARY KEY (keyset, generation)
);
CREATE UNIQUE INDEX index_key_active_idx ON prism_crypt.index_key (keyset) WHERE state = 'active';
COMMENT ON TABLE prism_crypt.index_key IS
  'Keys that search tags and blind indexes are made with, wrapped like the data keys. Belongs to the data, as they do';
COMMENT ON COLUMN prism_crypt.index_key.keyset IS 'Keyset it belongs to';
COMMENT ON COLUMN prism_crypt.index_key.generation IS 'The generation that every search tag carries';
COMMENT ON COLUMN prism_crypt.index_key.state IS 'active: in use; destroyed: gone';
COMMENT ON COLUMN prism_crypt.index_key.wrapped IS
  'AES-256-GCM under the master key, with generation and keyset as associated data: 93 bytes (61 if 0.2.0 wrapped it); none once it is destroyed';
COMMENT ON COLUMN prism_crypt.index_key.master_fingerprint IS
  'Which master key wrapped it: 16 hexadecimal digits of a keyed hash';
COMMENT ON COLUMN prism_crypt.index_key.created_at IS 'When it was made';
COMMENT ON COLUMN prism_crypt.index_key.created_by IS 'Session user that made it';
COMMENT ON COLUMN prism_crypt.index_key.retagged_at IS
  'Since when no value has a tag of an earlier index key; null while some may';
COMMENT ON COLUMN prism_crypt.index_key.destroyed_at IS 'When it was destroyed';
COMMENT ON COLUMN prism_crypt.index_key.reason IS 'Why it was made';

-- The server adds to seals_reserved in place, in the buffer of the row (src/keyring/usage.rs), so that seals of a
-- transaction that is rolled back count too. Therefore it is a heap, both columns are of fixed width, and no SQL updates
-- a row while values are sealed: an UPDATE copies the row, and what is added to the old one meanwhile would be lost.
CREATE TABLE prism_crypt.data_key_usage (
  version        integer PRIMARY KEY,
  seals_reserved bigint NOT NULL DEFAULT 0
) USING heap;
COMMENT ON TABLE prism_crypt.data_key_usage IS
  'How many values each data key has sealed. Changed by the server, outside of transactions: never update it';
COMMENT ON COLUMN prism_crypt.data_key_usage.version IS 'The key version';
COMMENT ON COLUMN prism_crypt.data_key_usage.seals_reserved IS
  'Seals that sessions have reserved: never less than were done, and less than twice as many';

-- A dump carries the wrapped keys, and the sequence, so that a restore gives no version twice.
SELECT pg_catalog.pg_extension_config_dump('prism_crypt.data_key_version_seq', '');
SELECT pg_catalog.pg_extension_config_dump('prism_crypt.keyset', '');
SELECT pg_catalog.pg_extension_config_dump('prism_crypt.data_key', '');
SELECT pg_catalog.pg_extension_config_dump('prism_crypt.index_key', '');
SELECT pg_catalog.pg_extension_config_dump('prism_crypt.data_key_usage', '');

CREATE FUNCTION prism_crypt._data_key_changed() RETURNS trigger
  LANGUAGE c AS 'MODULE_PATHNAME', 'data_key_changed_wrapper';
COMMENT ON FUNCTION prism_crypt._data_key_changed() IS 'Tells every session that the data keys changed';

-- FOR EACH ROW, because logical replication fires only row triggers; TRUNCATE has no rows.
CREATE TRIGGER data_key_changed
  AFTER INSERT OR UPDATE OR DELETE ON prism_crypt.data_key
  FOR EACH ROW EXECUTE FUNCTION prism_crypt._data_key_changed();
CREATE TRIGGER data_key_truncated
  AFTER TRUNCATE ON prism_crypt.data_key
  FOR EACH STATEMENT EXECUTE FUNCTION prism_crypt._data_key_changed();
-- They fire also in sessions that replay or restore (session_replication_role = replica).
ALTER TABLE prism_crypt.data_key ENABLE ALWAYS TRIGGER data_key_changed;
ALTER TABLE prism_crypt.data_key ENABLE ALWAYS TRIGGER data_key_truncated;
COMMENT ON TRIGGER data_key_changed ON prism_crypt.data_key IS 'Makes sessions drop their unlocked keys';
COMMENT ON TRIGGER data_key_truncated ON prism_crypt.data_key IS 'Makes sessions drop their unlocked keys';

CREATE TRIGGER index_key_changed
  AFTER INSERT OR UPDATE OR DELETE ON prism_crypt.index_key
  FOR EACH ROW EXECUTE FUNCTION prism_crypt._data_key_changed();
CREATE TRIGGER index_key_truncated
  AFTER TRUNCATE ON prism_crypt.index_key
  FOR EACH STATEMENT EXECUTE FUNCTION prism_crypt._data_key_changed();
ALTER TABLE prism_crypt.index_key ENABLE ALWAYS TRIGGER index_key_changed;
ALTER TABLE prism_crypt.index_key ENABLE ALWAYS TRIGGER index_key_truncated;
COMMENT ON TRIGGER index_key_changed ON prism_crypt.index_key IS 'Makes sessions drop their unlocked keys';
COMMENT ON TRIGGER index_key_truncated ON prism_crypt.index_key IS 'Makes sessions drop their unlocked keys';

CREATE VIEW prism_crypt.key_status AS
  SELECT k.version, k.keyset, k.state, k.master_fingerprint, k.created_at, k.created_by, k.retired_at, k.disabled_at,
         k.destroyed_at, k.reason,
         (SELECT u.seals_reserved FROM prism_crypt.data_key_usage AS u
          WHERE u.version OPERATOR(pg_catalog.=) k.version) AS seals_reserved
  FROM prism_crypt.data_key AS k;
COMMENT ON VIEW prism_crypt.key_status IS
  'The data keys without the wrapped key material, and how many values each has sealed at most';

CREATE VIEW prism_crypt.index_key_status AS
  SELECT i.keyset, i.generation, i.state, i.master_fingerprint, i.created_at, i.created_by, i.retagged_at,
         i.destroyed_at, i.reason
  FROM prism_crypt.index_key AS i;
COMMENT ON VIEW prism_crypt.index_key_status IS 'The index keys without the wrapped key material';
