-- sql/keys/tables.sql

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
  'AES-256-GCM under the master key, with version and keyset as associated data: 61 bytes; none once it is destroyed';
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
  'AES-256-GCM under the master key, with generation and keyset as associated data: 61 bytes; none once it is destroyed';
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

-- sql/type/type.sql

CREATE TYPE encrypted_text;

-- Input encrypts, so it is not immutable; PostgreSQL does not want volatile input functions. See docs/threat-model.md on
-- literals.
CREATE FUNCTION encrypted_text_in(cstring, oid, integer) RETURNS encrypted_text
  LANGUAGE c STABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'encrypted_text_in_wrapper';
COMMENT ON FUNCTION encrypted_text_in(cstring, oid, integer) IS
  'I/O: encrypts text; loads a text form (prism:v...) for roles that may load';

CREATE FUNCTION encrypted_text_out(encrypted_text) RETURNS cstring
  LANGUAGE c STABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'encrypted_text_out_wrapper';
COMMENT ON FUNCTION encrypted_text_out(encrypted_text) IS 'I/O: the text form, or what prism_crypt.output asks for';

CREATE FUNCTION encrypted_text_recv(internal, oid, integer) RETURNS encrypted_text
  LANGUAGE c STABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'encrypted_text_recv_wrapper';
COMMENT ON FUNCTION encrypted_text_recv(internal, oid, integer) IS
  'I/O: encrypts text; loads an envelope for roles that may load';

CREATE FUNCTION encrypted_text_send(encrypted_text) RETURNS bytea
  LANGUAGE c STABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'encrypted_text_send_wrapper';
COMMENT ON FUNCTION encrypted_text_send(encrypted_text) IS 'I/O: the envelope, or what prism_crypt.output asks for';

CREATE FUNCTION encrypted_text_typmod_in(cstring[]) RETURNS integer
  LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'encrypted_text_typmod_in_wrapper';
COMMENT ON FUNCTION encrypted_text_typmod_in(cstring[]) IS 'I/O: reads a type modifier: field class, searchable';

CREATE FUNCTION encrypted_text_typmod_out(integer) RETURNS cstring
  LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'encrypted_text_typmod_out_wrapper';
COMMENT ON FUNCTION encrypted_text_typmod_out(integer) IS 'I/O: shows a type modifier';

CREATE FUNCTION encrypted_text_typanalyze(internal) RETURNS boolean
  LANGUAGE c STABLE STRICT AS 'MODULE_PATHNAME', 'encrypted_text_typanalyze_wrapper';
COMMENT ON FUNCTION encrypted_text_typanalyze(internal) IS 'ANALYZE: nulls, width and, by search tags, distinct values; needs no key';

CREATE TYPE encrypted_text (
  INPUT = encrypted_text_in,
  OUTPUT = encrypted_text_out,
  RECEIVE = encrypted_text_recv,
  SEND = encrypted_text_send,
  TYPMOD_IN = encrypted_text_typmod_in,
  TYPMOD_OUT = encrypted_text_typmod_out,
  ANALYZE = encrypted_text_typanalyze,
  INTERNALLENGTH = VARIABLE,
  ALIGNMENT = int4,
  -- Ciphertext does not compress.
  STORAGE = external,
  -- A string category with an implicit cast to text, like citext, so that text functions and operators apply.
  CATEGORY = 'S'
);
COMMENT ON TYPE encrypted_text IS
  'Text, stored as AES-256-GCM ciphertext that carries its key version. encrypted_text(''email'', ''searchable'') gives it a field class and search tags';

-- sql/functions/functions.sql

CREATE FUNCTION encrypt_field(
  plaintext text, context text DEFAULT NULL, keyset text DEFAULT NULL, class text DEFAULT NULL
) RETURNS encrypted_text
  LANGUAGE c VOLATILE PARALLEL SAFE AS 'MODULE_PATHNAME', 'encrypt_field_wrapper';
COMMENT ON FUNCTION encrypt_field(text, text, text, text) IS
  'Encrypts text under the active key of a keyset (default: prism_crypt.keyset), bound to a context if one is given';

CREATE FUNCTION decrypt_field(value encrypted_text, context text DEFAULT NULL) RETURNS text
  LANGUAGE c STABLE PARALLEL SAFE AS 'MODULE_PATHNAME', 'decrypt_field_wrapper';
COMMENT ON FUNCTION decrypt_field(encrypted_text, text) IS
  'Decrypts a value; the context must be the one it was encrypted with';

CREATE FUNCTION try_decrypt_field(value encrypted_text, context text DEFAULT NULL) RETURNS text
  LANGUAGE c STABLE PARALLEL SAFE AS 'MODULE_PATHNAME', 'try_decrypt_field_wrapper';
COMMENT ON FUNCTION try_decrypt_field(encrypted_text, text) IS
  'Decrypts a value, or gives NULL where this value can''t be read';

CREATE FUNCTION encrypt_bytes(
  plaintext bytea, context text DEFAULT NULL, keyset text DEFAULT NULL, class text DEFAULT NULL
) RETURNS bytea
  LANGUAGE c VOLATILE PARALLEL SAFE AS 'MODULE_PATHNAME', 'encrypt_bytes_wrapper';
COMMENT ON FUNCTION encrypt_bytes(bytea, text, text, text) IS 'Encrypts bytes, as encrypt_field() encrypts text';

CREATE FUNCTION decrypt_bytes(value bytea, context text DEFAULT NULL) RETURNS bytea
  LANGUAGE c STABLE PARALLEL SAFE AS 'MODULE_PATHNAME', 'decrypt_bytes_wrapper';
COMMENT ON FUNCTION decrypt_bytes(bytea, text) IS 'Decrypts what encrypt_bytes() gave';

CREATE FUNCTION reencrypt_field(value encrypted_text) RETURNS encrypted_text
  LANGUAGE c VOLATILE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'reencrypt_field_wrapper';
COMMENT ON FUNCTION reencrypt_field(encrypted_text) IS
  'The same value under the active key of its keyset; context and class stay. Needs no right to decrypt';

CREATE FUNCTION reencrypt_bytes(value bytea) RETURNS bytea
  LANGUAGE c VOLATILE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'reencrypt_bytes_wrapper';
COMMENT ON FUNCTION reencrypt_bytes(bytea) IS 'As reencrypt_field(), for what encrypt_bytes() gave';

CREATE FUNCTION mask_field(value encrypted_text, context text DEFAULT NULL) RETURNS text
  LANGUAGE c STABLE PARALLEL SAFE AS 'MODULE_PATHNAME', 'mask_field_wrapper';
COMMENT ON FUNCTION mask_field(encrypted_text, text) IS 'A mask of a value: as much of it as its field class shows';

CREATE FUNCTION key_version(value encrypted_text) RETURNS integer
  LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'key_version_wrapper';
COMMENT ON FUNCTION key_version(encrypted_text) IS 'The version of the data key that sealed a value; needs no key';

CREATE FUNCTION key_version(value bytea) RETURNS integer
  LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'key_version_wrapper';
COMMENT ON FUNCTION key_version(bytea) IS 'The version of the data key that sealed what encrypt_bytes() gave';

CREATE FUNCTION envelope_info(
  value encrypted_text,
  OUT format integer, OUT key_version integer, OUT class text, OUT "binary" boolean, OUT has_context boolean,
  OUT search_generation integer, OUT plaintext_bytes integer, OUT envelope_bytes integer
) RETURNS SETOF record
  LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE ROWS 1 AS 'MODULE_PATHNAME', 'envelope_info_wrapper';
COMMENT ON FUNCTION envelope_info(encrypted_text) IS 'The header of a value; needs no key';

CREATE FUNCTION envelope_info(
  value bytea,
  OUT format integer, OUT key_version integer, OUT class text, OUT "binary" boolean, OUT has_context boolean,
  OUT search_generation integer, OUT plaintext_bytes integer, OUT envelope_bytes integer
) RETURNS SETOF record
  LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE ROWS 1 AS 'MODULE_PATHNAME', 'envelope_info_wrapper';
COMMENT ON FUNCTION envelope_info(bytea) IS 'The header of what encrypt_bytes() gave; needs no key';

CREATE FUNCTION prism_crypt.generate_key(OUT key text, OUT key_bytes integer, OUT algorithm text) RETURNS SETOF record
  LANGUAGE c VOLATILE ROWS 1 AS 'MODULE_PATHNAME', 'generate_key_wrapper';
COMMENT ON FUNCTION prism_crypt.generate_key() IS
  'A new master key from the operating system''s generator, as 64 hexadecimal digits. Nothing of it is kept';

CREATE FUNCTION generate_key(OUT key text, OUT key_bytes integer, OUT algorithm text) RETURNS SETOF record
  LANGUAGE c VOLATILE ROWS 1 AS 'MODULE_PATHNAME', 'generate_key_wrapper';
COMMENT ON FUNCTION generate_key() IS
  'The same as prism_crypt.generate_key()';

CREATE FUNCTION prism_crypt.load_envelope(text_form text) RETURNS encrypted_text
  LANGUAGE c STABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'load_envelope_wrapper';
COMMENT ON FUNCTION prism_crypt.load_envelope(text) IS
  'A text form (prism:v...) as a value. EXECUTE on it is the right to load ciphertext in any way';

CREATE FUNCTION prism_crypt.class_name(typmod integer) RETURNS text
  LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'class_name_wrapper';
COMMENT ON FUNCTION prism_crypt.class_name(integer) IS
  'The field class of a column, from pg_attribute.atttypmod; NULL if it has none';

CREATE FUNCTION prism_crypt.status(OUT name text, OUT setting text, OUT ok boolean) RETURNS SETOF record
  LANGUAGE c STABLE ROWS 10 AS 'MODULE_PATHNAME', 'status_wrapper';
COMMENT ON FUNCTION prism_crypt.status() IS 'One row per check: key source, fingerprint, active versions, hardware, versions';

-- sql/type/casts.sql

-- These take the type modifier as an argument, so that a typed parameter is sealed only once.
CREATE FUNCTION encrypted_text(text, integer, boolean) RETURNS encrypted_text
  LANGUAGE c VOLATILE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'text_to_encrypted_text_wrapper';
COMMENT ON FUNCTION encrypted_text(text, integer, boolean) IS 'Cast: encrypts any text but the text form of a value';

CREATE FUNCTION encrypted_text(character varying, integer, boolean) RETURNS encrypted_text
  LANGUAGE c VOLATILE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'text_to_encrypted_text_wrapper';
COMMENT ON FUNCTION encrypted_text(character varying, integer, boolean) IS
  'Cast: encrypts any text but the text form of a value';

-- Without this one, PostgreSQL would convert through the output of character, which keeps the padding.
CREATE FUNCTION encrypted_text(character, integer, boolean) RETURNS encrypted_text
  LANGUAGE c VOLATILE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'character_to_encrypted_text_wrapper';
COMMENT ON FUNCTION encrypted_text(character, integer, boolean) IS
  'Cast: encrypts, without padding blanks, any text but the text form of a value';

CREATE FUNCTION encrypted_text(encrypted_text, integer, boolean) RETURNS encrypted_text
  LANGUAGE c VOLATILE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'apply_encrypted_text_typmod_wrapper';
COMMENT ON FUNCTION encrypted_text(encrypted_text, integer, boolean) IS
  'Cast: applies a type modifier; a value without a class is sealed again with it';

-- Without these two, PostgreSQL would convert through text, and encrypt the hexadecimal digits of an envelope.
CREATE FUNCTION encrypted_text(bytea, integer, boolean) RETURNS encrypted_text
  LANGUAGE c STABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'bytea_to_encrypted_text_wrapper';
COMMENT ON FUNCTION encrypted_text(bytea, integer, boolean) IS 'Cast: loads an envelope, for roles that may load';

CREATE FUNCTION "bytea"(encrypted_text) RETURNS bytea
  LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'encrypted_text_to_bytea_wrapper';
COMMENT ON FUNCTION "bytea"(encrypted_text) IS 'Cast: the envelope, as binary output gives it; needs no key';

CREATE FUNCTION "text"(encrypted_text) RETURNS text
  LANGUAGE c STABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'encrypted_text_to_text_wrapper';
COMMENT ON FUNCTION "text"(encrypted_text) IS 'Cast: decrypts';

CREATE FUNCTION "varchar"(encrypted_text) RETURNS character varying
  LANGUAGE c STABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'encrypted_text_to_text_wrapper';
COMMENT ON FUNCTION "varchar"(encrypted_text) IS 'Cast: decrypts';

CREATE FUNCTION "bpchar"(encrypted_text) RETURNS character
  LANGUAGE c STABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'encrypted_text_to_text_wrapper';
COMMENT ON FUNCTION "bpchar"(encrypted_text) IS 'Cast: decrypts';

CREATE FUNCTION "name"(encrypted_text) RETURNS name
  LANGUAGE sql STABLE STRICT PARALLEL SAFE RETURN pg_catalog."name"(@extschema@."text"($1));
COMMENT ON FUNCTION "name"(encrypted_text) IS 'Cast: decrypts';

CREATE CAST (text AS encrypted_text)
  WITH FUNCTION encrypted_text(text, integer, boolean) AS ASSIGNMENT;
COMMENT ON CAST (text AS encrypted_text) IS 'Encrypts';
CREATE CAST (character varying AS encrypted_text)
  WITH FUNCTION encrypted_text(character varying, integer, boolean) AS ASSIGNMENT;
COMMENT ON CAST (character varying AS encrypted_text) IS 'Encrypts';
CREATE CAST (character AS encrypted_text)
  WITH FUNCTION encrypted_text(character, integer, boolean) AS ASSIGNMENT;
COMMENT ON CAST (character AS encrypted_text) IS 'Encrypts, without padding';
CREATE CAST (bytea AS encrypted_text) WITH FUNCTION encrypted_text(bytea, integer, boolean) AS ASSIGNMENT;
COMMENT ON CAST (bytea AS encrypted_text) IS 'Loads an envelope';
CREATE CAST (encrypted_text AS bytea) WITH FUNCTION "bytea"(encrypted_text);
COMMENT ON CAST (encrypted_text AS bytea) IS 'The envelope';
CREATE CAST (encrypted_text AS encrypted_text)
  WITH FUNCTION encrypted_text(encrypted_text, integer, boolean) AS IMPLICIT;
COMMENT ON CAST (encrypted_text AS encrypted_text) IS 'Applies a type modifier';
CREATE CAST (encrypted_text AS text) WITH FUNCTION "text"(encrypted_text) AS IMPLICIT;
COMMENT ON CAST (encrypted_text AS text) IS 'Decrypts';
-- PostgreSQL converts to other types through the output function, which notices that. The types below have modifiers, or
-- functions of their own.
CREATE CAST (encrypted_text AS character varying) WITH FUNCTION "varchar"(encrypted_text) AS IMPLICIT;
COMMENT ON CAST (encrypted_text AS character varying) IS 'Decrypts';
CREATE CAST (encrypted_text AS character) WITH FUNCTION "bpchar"(encrypted_text) AS ASSIGNMENT;
COMMENT ON CAST (encrypted_text AS character) IS 'Decrypts';
CREATE CAST (encrypted_text AS name) WITH FUNCTION "name"(encrypted_text) AS ASSIGNMENT;
COMMENT ON CAST (encrypted_text AS name) IS 'Decrypts';

-- sql/search/operators.sql

-- Searching: equality, its operator classes, blind indexes. docs/searching.md says what each reveals.

CREATE FUNCTION encrypted_text_eq_support(internal) RETURNS internal
  LANGUAGE c STRICT AS 'MODULE_PATHNAME', 'encrypted_text_eq_support_wrapper';
COMMENT ON FUNCTION encrypted_text_eq_support(internal) IS 'Planner support: seals a constant text once, and looks through a cast';

CREATE FUNCTION encrypted_text_ne_support(internal) RETURNS internal
  LANGUAGE c STRICT AS 'MODULE_PATHNAME', 'encrypted_text_ne_support_wrapper';
COMMENT ON FUNCTION encrypted_text_ne_support(internal) IS 'Planner support: seals a constant text once, and looks through a cast';

CREATE FUNCTION encrypted_text_eq(encrypted_text, encrypted_text) RETURNS boolean
  LANGUAGE c STABLE STRICT PARALLEL SAFE SUPPORT encrypted_text_eq_support AS 'MODULE_PATHNAME', 'encrypted_text_eq_usual';
COMMENT ON FUNCTION encrypted_text_eq(encrypted_text, encrypted_text) IS 'Implementation of =';

CREATE FUNCTION encrypted_text_ne(encrypted_text, encrypted_text) RETURNS boolean
  LANGUAGE c STABLE STRICT PARALLEL SAFE SUPPORT encrypted_text_ne_support AS 'MODULE_PATHNAME', 'encrypted_text_ne_usual';
COMMENT ON FUNCTION encrypted_text_ne(encrypted_text, encrypted_text) IS 'Implementation of <>';

-- Comparison with text, so that a typed parameter uses the index too. A text is compared as if it were encrypted in the
-- session's keyset.
CREATE FUNCTION encrypted_text_eq(encrypted_text, text) RETURNS boolean
  LANGUAGE c STABLE STRICT PARALLEL SAFE SUPPORT encrypted_text_eq_support
  AS 'MODULE_PATHNAME', 'encrypted_text_eq_text_wrapper';
COMMENT ON FUNCTION encrypted_text_eq(encrypted_text, text) IS 'Implementation of =';

CREATE FUNCTION encrypted_text_ne(encrypted_text, text) RETURNS boolean
  LANGUAGE c STABLE STRICT PARALLEL SAFE SUPPORT encrypted_text_ne_support
  AS 'MODULE_PATHNAME', 'encrypted_text_ne_text_wrapper';
COMMENT ON FUNCTION encrypted_text_ne(encrypted_text, text) IS 'Implementation of <>';

CREATE FUNCTION encrypted_text_eq(text, encrypted_text) RETURNS boolean
  LANGUAGE c STABLE STRICT PARALLEL SAFE SUPPORT encrypted_text_eq_support
  AS 'MODULE_PATHNAME', 'text_eq_encrypted_text_wrapper';
COMMENT ON FUNCTION encrypted_text_eq(text, encrypted_text) IS 'Implementation of =';

CREATE FUNCTION encrypted_text_ne(text, encrypted_text) RETURNS boolean
  LANGUAGE c STABLE STRICT PARALLEL SAFE SUPPORT encrypted_text_ne_support
  AS 'MODULE_PATHNAME', 'text_ne_encrypted_text_wrapper';
COMMENT ON FUNCTION encrypted_text_ne(text, encrypted_text) IS 'Implementation of <>';

CREATE OPERATOR = (
  LEFTARG = encrypted_text, RIGHTARG = encrypted_text, FUNCTION = encrypted_text_eq,
  COMMUTATOR = =, NEGATOR = <>, RESTRICT = eqsel, JOIN = eqjoinsel, HASHES
);
COMMENT ON OPERATOR = (encrypted_text, encrypted_text) IS 'Same keyset and same plaintext';
CREATE OPERATOR <> (
  LEFTARG = encrypted_text, RIGHTARG = encrypted_text, FUNCTION = encrypted_text_ne,
  COMMUTATOR = <>, NEGATOR = =, RESTRICT = neqsel, JOIN = neqjoinsel
);
COMMENT ON OPERATOR <> (encrypted_text, encrypted_text) IS 'Other keyset or other plaintext';

CREATE OPERATOR = (
  LEFTARG = encrypted_text, RIGHTARG = text, FUNCTION = encrypted_text_eq,
  COMMUTATOR = =, NEGATOR = <>, RESTRICT = eqsel, JOIN = eqjoinsel, HASHES
);
COMMENT ON OPERATOR = (encrypted_text, text) IS 'The text, in the session''s keyset';
CREATE OPERATOR <> (
  LEFTARG = encrypted_text, RIGHTARG = text, FUNCTION = encrypted_text_ne,
  COMMUTATOR = <>, NEGATOR = =, RESTRICT = neqsel, JOIN = neqjoinsel
);
COMMENT ON OPERATOR <> (encrypted_text, text) IS 'Not the text, or not in the session''s keyset';
CREATE OPERATOR = (
  LEFTARG = text, RIGHTARG = encrypted_text, FUNCTION = encrypted_text_eq,
  COMMUTATOR = =, NEGATOR = <>, RESTRICT = eqsel, JOIN = eqjoinsel, HASHES
);
COMMENT ON OPERATOR = (text, encrypted_text) IS 'The text, in the session''s keyset';
CREATE OPERATOR <> (
  LEFTARG = text, RIGHTARG = encrypted_text, FUNCTION = encrypted_text_ne,
  COMMUTATOR = <>, NEGATOR = =, RESTRICT = neqsel, JOIN = neqjoinsel
);
COMMENT ON OPERATOR <> (text, encrypted_text) IS 'Not the text, or not in the session''s keyset';

-- The type name has its own operators with text, so PostgreSQL could not choose one for email = current_user. The bodies are parsed
-- once, here, because another schema may have this schema's name later.
CREATE FUNCTION encrypted_text_eq(encrypted_text, name) RETURNS boolean
  LANGUAGE sql STABLE STRICT PARALLEL SAFE RETURN $1 OPERATOR(@extschema@.=) $2::pg_catalog.text;
COMMENT ON FUNCTION encrypted_text_eq(encrypted_text, name) IS 'Implementation of =';
CREATE FUNCTION encrypted_text_eq(name, encrypted_text) RETURNS boolean
  LANGUAGE sql STABLE STRICT PARALLEL SAFE RETURN $1::pg_catalog.text OPERATOR(@extschema@.=) $2;
COMMENT ON FUNCTION encrypted_text_eq(name, encrypted_text) IS 'Implementation of =';
CREATE FUNCTION encrypted_text_ne(encrypted_text, name) RETURNS boolean
  LANGUAGE sql STABLE STRICT PARALLEL SAFE RETURN $1 OPERATOR(@extschema@.<>) $2::pg_catalog.text;
COMMENT ON FUNCTION encrypted_text_ne(encrypted_text, name) IS 'Implementation of <>';
CREATE FUNCTION encrypted_text_ne(name, encrypted_text) RETURNS boolean
  LANGUAGE sql STABLE STRICT PARALLEL SAFE RETURN $1::pg_catalog.text OPERATOR(@extschema@.<>) $2;
COMMENT ON FUNCTION encrypted_text_ne(name, encrypted_text) IS 'Implementation of <>';
CREATE OPERATOR = (
  LEFTARG = encrypted_text, RIGHTARG = name, FUNCTION = encrypted_text_eq,
  COMMUTATOR = =, NEGATOR = <>, RESTRICT = eqsel, JOIN = eqjoinsel
);
COMMENT ON OPERATOR = (encrypted_text, name) IS 'As with text';
CREATE OPERATOR <> (
  LEFTARG = encrypted_text, RIGHTARG = name, FUNCTION = encrypted_text_ne,
  COMMUTATOR = <>, NEGATOR = =, RESTRICT = neqsel, JOIN = neqjoinsel
);
COMMENT ON OPERATOR <> (encrypted_text, name) IS 'As with text';
CREATE OPERATOR = (
  LEFTARG = name, RIGHTARG = encrypted_text, FUNCTION = encrypted_text_eq,
  COMMUTATOR = =, NEGATOR = <>, RESTRICT = eqsel, JOIN = eqjoinsel
);
COMMENT ON OPERATOR = (name, encrypted_text) IS 'As with text';
CREATE OPERATOR <> (
  LEFTARG = name, RIGHTARG = encrypted_text, FUNCTION = encrypted_text_ne,
  COMMUTATOR = <>, NEGATOR = =, RESTRICT = neqsel, JOIN = neqjoinsel
);
COMMENT ON OPERATOR <> (name, encrypted_text) IS 'As with text';

CREATE FUNCTION encrypted_text_hash(encrypted_text) RETURNS integer
  LANGUAGE c STABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'encrypted_text_hash_usual';
COMMENT ON FUNCTION encrypted_text_hash(encrypted_text) IS 'Hash support';
CREATE FUNCTION encrypted_text_hash(encrypted_text, bigint) RETURNS bigint
  LANGUAGE c STABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'encrypted_text_hash_extended_wrapper';
COMMENT ON FUNCTION encrypted_text_hash(encrypted_text, bigint) IS 'Hash support, with a seed';
CREATE FUNCTION encrypted_text_hash_text(text) RETURNS integer
  LANGUAGE c STABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'encrypted_text_hash_text_wrapper';
COMMENT ON FUNCTION encrypted_text_hash_text(text) IS 'Hash support: hashes a text like the value that it would be';
CREATE FUNCTION encrypted_text_hash_text(text, bigint) RETURNS bigint
  LANGUAGE c STABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'encrypted_text_hash_text_extended_wrapper';
COMMENT ON FUNCTION encrypted_text_hash_text(text, bigint) IS 'The same with a seed';

-- Two texts have the same hash if their bytes are the same. This needs an operator of our own: with the one of text in our
-- operator family, PostgreSQL would use our hashes for text.
CREATE FUNCTION prism_crypt._same_text(text, text) RETURNS boolean
  LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', '_same_text_wrapper';
COMMENT ON FUNCTION prism_crypt._same_text(text, text) IS 'Whether two texts are the same bytes. Internal';
CREATE OPERATOR prism_crypt.=== (
  LEFTARG = text, RIGHTARG = text, FUNCTION = prism_crypt._same_text,
  COMMUTATOR = OPERATOR(prism_crypt.===), RESTRICT = eqsel, JOIN = eqjoinsel, HASHES
);
COMMENT ON OPERATOR prism_crypt.=== (text, text) IS 'The same bytes. Internal';

CREATE OPERATOR FAMILY encrypted_text_ops USING hash;
COMMENT ON OPERATOR FAMILY encrypted_text_ops USING hash IS 'Equality of encrypted values, also with text';
CREATE OPERATOR CLASS encrypted_text_ops DEFAULT FOR TYPE encrypted_text USING hash FAMILY encrypted_text_ops AS
  OPERATOR 1 = (encrypted_text, encrypted_text),
  FUNCTION 1 encrypted_text_hash(encrypted_text),
  FUNCTION 2 encrypted_text_hash(encrypted_text, bigint);
COMMENT ON OPERATOR CLASS encrypted_text_ops USING hash IS 'Hash indexes on encrypted values';
ALTER OPERATOR FAMILY encrypted_text_ops USING hash ADD
  OPERATOR 1 = (encrypted_text, text),
  OPERATOR 1 = (text, encrypted_text),
  OPERATOR 1 prism_crypt.=== (text, text),
  FUNCTION 1 (text, text) encrypted_text_hash_text(text),
  FUNCTION 2 (text, text) encrypted_text_hash_text(text, bigint);

CREATE FUNCTION encrypted_text_cmp(encrypted_text, encrypted_text) RETURNS integer
  LANGUAGE c STABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'encrypted_text_cmp_usual';
COMMENT ON FUNCTION encrypted_text_cmp(encrypted_text, encrypted_text) IS
  'Order of unique indexes: -1, 0 or 1, by keyed hashes';
CREATE FUNCTION encrypted_text_cmp(encrypted_text, text) RETURNS integer
  LANGUAGE c STABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'encrypted_text_cmp_text_usual';
COMMENT ON FUNCTION encrypted_text_cmp(encrypted_text, text) IS 'The same with text';
CREATE FUNCTION encrypted_text_cmp(text, encrypted_text) RETURNS integer
  LANGUAGE c STABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'text_cmp_encrypted_text_usual';
COMMENT ON FUNCTION encrypted_text_cmp(text, encrypted_text) IS 'The same with text';

CREATE FUNCTION encrypted_text_cmp_text(text, text) RETURNS integer
  LANGUAGE c STABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'text_cmp_text_usual';
COMMENT ON FUNCTION encrypted_text_cmp_text(text, text) IS
  'The same of two texts, for arrays of them';

-- Without these, < and similar operators would compare the plaintexts through the implicit cast, row by row.
CREATE FUNCTION encrypted_text_no_order_support(internal) RETURNS internal
  LANGUAGE c STRICT AS 'MODULE_PATHNAME', 'encrypted_text_no_order_support_wrapper';
COMMENT ON FUNCTION encrypted_text_no_order_support(internal) IS 'Planner support: raises an error';
CREATE FUNCTION encrypted_text_no_order(encrypted_text, encrypted_text) RETURNS boolean
  LANGUAGE c STABLE PARALLEL SAFE SUPPORT encrypted_text_no_order_support
  AS 'MODULE_PATHNAME', 'encrypted_text_no_order_wrapper';
COMMENT ON FUNCTION encrypted_text_no_order(encrypted_text, encrypted_text) IS 'An error: values have no order';
CREATE FUNCTION encrypted_text_no_order(encrypted_text, text) RETURNS boolean
  LANGUAGE c STABLE PARALLEL SAFE SUPPORT encrypted_text_no_order_support
  AS 'MODULE_PATHNAME', 'encrypted_text_no_order_wrapper';
COMMENT ON FUNCTION encrypted_text_no_order(encrypted_text, text) IS 'An error: values have no order';
CREATE FUNCTION encrypted_text_no_order(text, encrypted_text) RETURNS boolean
  LANGUAGE c STABLE PARALLEL SAFE SUPPORT encrypted_text_no_order_support
  AS 'MODULE_PATHNAME', 'encrypted_text_no_order_wrapper';
COMMENT ON FUNCTION encrypted_text_no_order(text, encrypted_text) IS 'An error: values have no order';
CREATE OPERATOR < (LEFTARG = encrypted_text, RIGHTARG = encrypted_text, FUNCTION = encrypted_text_no_order);
COMMENT ON OPERATOR < (encrypted_text, encrypted_text) IS 'An error: values have no order';
CREATE OPERATOR < (LEFTARG = encrypted_text, RIGHTARG = text, FUNCTION = encrypted_text_no_order);
COMMENT ON OPERATOR < (encrypted_text, text) IS 'An error: values have no order';
CREATE OPERATOR < (LEFTARG = text, RIGHTARG = encrypted_text, FUNCTION = encrypted_text_no_order);
COMMENT ON OPERATOR < (text, encrypted_text) IS 'An error: values have no order';
CREATE OPERATOR <= (LEFTARG = encrypted_text, RIGHTARG = encrypted_text, FUNCTION = encrypted_text_no_order);
COMMENT ON OPERATOR <= (encrypted_text, encrypted_text) IS 'An error: values have no order';
CREATE OPERATOR <= (LEFTARG = encrypted_text, RIGHTARG = text, FUNCTION = encrypted_text_no_order);
COMMENT ON OPERATOR <= (encrypted_text, text) IS 'An error: values have no order';
CREATE OPERATOR <= (LEFTARG = text, RIGHTARG = encrypted_text, FUNCTION = encrypted_text_no_order);
COMMENT ON OPERATOR <= (text, encrypted_text) IS 'An error: values have no order';
CREATE OPERATOR > (LEFTARG = encrypted_text, RIGHTARG = encrypted_text, FUNCTION = encrypted_text_no_order);
COMMENT ON OPERATOR > (encrypted_text, encrypted_text) IS 'An error: values have no order';
CREATE OPERATOR > (LEFTARG = encrypted_text, RIGHTARG = text, FUNCTION = encrypted_text_no_order);
COMMENT ON OPERATOR > (encrypted_text, text) IS 'An error: values have no order';
CREATE OPERATOR > (LEFTARG = text, RIGHTARG = encrypted_text, FUNCTION = encrypted_text_no_order);
COMMENT ON OPERATOR > (text, encrypted_text) IS 'An error: values have no order';
CREATE OPERATOR >= (LEFTARG = encrypted_text, RIGHTARG = encrypted_text, FUNCTION = encrypted_text_no_order);
COMMENT ON OPERATOR >= (encrypted_text, encrypted_text) IS 'An error: values have no order';
CREATE OPERATOR >= (LEFTARG = encrypted_text, RIGHTARG = text, FUNCTION = encrypted_text_no_order);
COMMENT ON OPERATOR >= (encrypted_text, text) IS 'An error: values have no order';
CREATE OPERATOR >= (LEFTARG = text, RIGHTARG = encrypted_text, FUNCTION = encrypted_text_no_order);
COMMENT ON OPERATOR >= (text, encrypted_text) IS 'An error: values have no order';

-- PostgreSQL sorts for DISTINCT, windows and unique indexes, by the keyed hashes. It needs operators for that, which it never calls:
-- it calls encrypted_text_cmp(). They have names of their own, because < and > must stay errors wherever a statement uses them.
CREATE OPERATOR prism_crypt.#<# (
  LEFTARG = encrypted_text, RIGHTARG = encrypted_text, FUNCTION = encrypted_text_no_order, COMMUTATOR = OPERATOR(prism_crypt.#>#)
);
COMMENT ON OPERATOR prism_crypt.#<# (encrypted_text, encrypted_text) IS 'Stands for the order of keyed hashes; an error. Internal';
CREATE OPERATOR prism_crypt.#># (
  LEFTARG = encrypted_text, RIGHTARG = encrypted_text, FUNCTION = encrypted_text_no_order, COMMUTATOR = OPERATOR(prism_crypt.#<#)
);
COMMENT ON OPERATOR prism_crypt.#># (encrypted_text, encrypted_text) IS 'Stands for the order of keyed hashes; an error. Internal';

-- Unique constraints, primary and foreign keys, and plain CREATE INDEX. What would show its order is refused before it runs.
CREATE OPERATOR FAMILY encrypted_text_unique_ops USING btree;
COMMENT ON OPERATOR FAMILY encrypted_text_unique_ops USING btree IS 'Uniqueness of encrypted values';
CREATE OPERATOR CLASS encrypted_text_unique_ops DEFAULT FOR TYPE encrypted_text USING btree FAMILY encrypted_text_unique_ops AS
  OPERATOR 1 prism_crypt.#<# (encrypted_text, encrypted_text),
  OPERATOR 3 = (encrypted_text, encrypted_text),
  OPERATOR 5 prism_crypt.#># (encrypted_text, encrypted_text),
  FUNCTION 1 encrypted_text_cmp(encrypted_text, encrypted_text);
COMMENT ON OPERATOR CLASS encrypted_text_unique_ops USING btree IS 'Indexes on encrypted values, also unique ones; gives no order';
ALTER OPERATOR FAMILY encrypted_text_unique_ops USING btree ADD
  OPERATOR 3 = (encrypted_text, text),
  OPERATOR 3 = (text, encrypted_text),
  OPERATOR 3 prism_crypt.=== (text, text),
  FUNCTION 1 (text, text) encrypted_text_cmp_text(text, text),
  FUNCTION 1 (encrypted_text, text) encrypted_text_cmp(encrypted_text, text),
  FUNCTION 1 (text, encrypted_text) encrypted_text_cmp(text, encrypted_text);

CREATE FUNCTION blind_index_support(internal) RETURNS internal
  LANGUAGE c STRICT AS 'MODULE_PATHNAME', 'blind_index_support_wrapper';
COMMENT ON FUNCTION blind_index_support(internal) IS 'Planner support: hashes constants once';
CREATE FUNCTION blind_index(value text, context text, bits integer DEFAULT 128) RETURNS bytea
  LANGUAGE c STABLE PARALLEL SAFE SUPPORT blind_index_support AS 'MODULE_PATHNAME', 'blind_index_wrapper';
COMMENT ON FUNCTION blind_index(text, text, integer) IS
  'The first bits of a keyed hash of a value, for a separate column. EXECUTE on it is the right to search';

-- The parser wraps this around sealed literals, so that plans depend on it, and are made again when keyset or key change. It is
-- never executed: the planner removes the call.
CREATE FUNCTION prism_crypt._sealed_constant_support(internal) RETURNS internal
  LANGUAGE c STRICT AS 'MODULE_PATHNAME', 'sealed_constant_support_wrapper';
COMMENT ON FUNCTION prism_crypt._sealed_constant_support(internal) IS 'Planner support: replaces the call by its argument';
CREATE FUNCTION prism_crypt._sealed_constant(anyelement) RETURNS anyelement
  LANGUAGE c STABLE STRICT PARALLEL SAFE SUPPORT prism_crypt._sealed_constant_support
  AS 'MODULE_PATHNAME', 'sealed_constant_wrapper';
COMMENT ON FUNCTION prism_crypt._sealed_constant(anyelement) IS 'Marks sealed literals in plans; gives what it is given. Internal';

-- sql/search/arrays.sql

-- Comparing arrays of values with arrays of text: tags @> ARRAY['x']. Operators for encrypted_text[] and text[] themselves would make
-- others ambiguous: PostgreSQL converts arrays of domains over encrypted_text to both, so it could no longer choose the operator for
-- anyarray for two of these. So they are for types that only these arrays become, and which hold nothing but such an array.

CREATE TYPE encrypted_text_array;
CREATE FUNCTION prism_crypt._encrypted_array_in(cstring) RETURNS encrypted_text_array
  LANGUAGE internal IMMUTABLE STRICT PARALLEL SAFE AS 'anyarray_in';
COMMENT ON FUNCTION prism_crypt._encrypted_array_in(cstring) IS 'I/O: an error. Internal';
CREATE FUNCTION prism_crypt._encrypted_array_out(encrypted_text_array) RETURNS cstring
  LANGUAGE internal STABLE STRICT PARALLEL SAFE AS 'anyarray_out';
COMMENT ON FUNCTION prism_crypt._encrypted_array_out(encrypted_text_array) IS 'I/O: as the array. Internal';
CREATE TYPE encrypted_text_array (
  INPUT = prism_crypt._encrypted_array_in, OUTPUT = prism_crypt._encrypted_array_out,
  INTERNALLENGTH = VARIABLE, ALIGNMENT = int4, STORAGE = extended
);
COMMENT ON TYPE encrypted_text_array IS 'encrypted_text[] as an operand of operators with text[]. Internal';

CREATE TYPE encrypted_text_texts;
CREATE FUNCTION prism_crypt._text_array_in(cstring) RETURNS encrypted_text_texts
  LANGUAGE internal IMMUTABLE STRICT PARALLEL SAFE AS 'anyarray_in';
COMMENT ON FUNCTION prism_crypt._text_array_in(cstring) IS 'I/O: an error. Internal';
CREATE FUNCTION prism_crypt._text_array_out(encrypted_text_texts) RETURNS cstring
  LANGUAGE internal STABLE STRICT PARALLEL SAFE AS 'anyarray_out';
COMMENT ON FUNCTION prism_crypt._text_array_out(encrypted_text_texts) IS 'I/O: as the array. Internal';
CREATE TYPE encrypted_text_texts (
  INPUT = prism_crypt._text_array_in, OUTPUT = prism_crypt._text_array_out,
  INTERNALLENGTH = VARIABLE, ALIGNMENT = int4, STORAGE = extended
);
COMMENT ON TYPE encrypted_text_texts IS 'text[] as an operand of operators with encrypted_text[]. Internal';

CREATE FUNCTION prism_crypt._array_cast_support(internal) RETURNS internal
  LANGUAGE c STRICT AS 'MODULE_PATHNAME', '_array_cast_support_wrapper';
COMMENT ON FUNCTION prism_crypt._array_cast_support(internal) IS 'Planner support: the cast takes no time. Internal';
CREATE FUNCTION prism_crypt._encrypted_array(encrypted_text[]) RETURNS encrypted_text_array
  LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE SUPPORT prism_crypt._array_cast_support AS 'MODULE_PATHNAME', '_array_cast_wrapper';
COMMENT ON FUNCTION prism_crypt._encrypted_array(encrypted_text[]) IS 'Cast: the same array. Internal';
CREATE CAST (encrypted_text[] AS encrypted_text_array) WITH FUNCTION prism_crypt._encrypted_array(encrypted_text[]) AS IMPLICIT;
COMMENT ON CAST (encrypted_text[] AS encrypted_text_array) IS 'The same array. Internal';
CREATE FUNCTION prism_crypt._text_array(text[]) RETURNS encrypted_text_texts
  LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE SUPPORT prism_crypt._array_cast_support AS 'MODULE_PATHNAME', '_array_cast_wrapper';
COMMENT ON FUNCTION prism_crypt._text_array(text[]) IS 'Cast: the same array. Internal';
CREATE CAST (text[] AS encrypted_text_texts) WITH FUNCTION prism_crypt._text_array(text[]) AS IMPLICIT;
COMMENT ON CAST (text[] AS encrypted_text_texts) IS 'The same array. Internal';
CREATE FUNCTION prism_crypt._text_array(character varying[]) RETURNS encrypted_text_texts
  LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE SUPPORT prism_crypt._array_cast_support AS 'MODULE_PATHNAME', '_array_cast_wrapper';
COMMENT ON FUNCTION prism_crypt._text_array(character varying[]) IS 'Cast: the same array. Internal';
CREATE CAST (character varying[] AS encrypted_text_texts) WITH FUNCTION prism_crypt._text_array(character varying[]) AS IMPLICIT;
COMMENT ON CAST (character varying[] AS encrypted_text_texts) IS 'The same array. Internal';

-- What an index looks up. It seals, so it is volatile; the planner calls it once for each look-up.
CREATE FUNCTION encrypted_text_wanted(text[]) RETURNS encrypted_text[]
  LANGUAGE c VOLATILE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'encrypted_text_wanted_wrapper';
COMMENT ON FUNCTION encrypted_text_wanted(text[]) IS 'Seals texts that an index on arrays looks up';

CREATE FUNCTION encrypted_text_array_support(internal) RETURNS internal
  LANGUAGE c STRICT AS 'MODULE_PATHNAME', 'encrypted_text_array_support_wrapper';
COMMENT ON FUNCTION encrypted_text_array_support(internal) IS 'Planner support: seals constant texts once, and finds indexes on arrays';

CREATE FUNCTION encrypted_text_array_contains(encrypted_text_array, encrypted_text_texts) RETURNS boolean
  LANGUAGE c STABLE STRICT PARALLEL SAFE SUPPORT encrypted_text_array_support AS 'MODULE_PATHNAME', 'encrypted_text_array_contains_wrapper';
COMMENT ON FUNCTION encrypted_text_array_contains(encrypted_text_array, encrypted_text_texts) IS 'Implementation of @>';
CREATE FUNCTION encrypted_text_array_contains(encrypted_text_texts, encrypted_text_array) RETURNS boolean
  LANGUAGE c STABLE STRICT PARALLEL SAFE SUPPORT encrypted_text_array_support AS 'MODULE_PATHNAME', 'text_array_contains_encrypted_wrapper';
COMMENT ON FUNCTION encrypted_text_array_contains(encrypted_text_texts, encrypted_text_array) IS 'Implementation of @>';
CREATE FUNCTION encrypted_text_array_contained(encrypted_text_array, encrypted_text_texts) RETURNS boolean
  LANGUAGE c STABLE STRICT PARALLEL SAFE SUPPORT encrypted_text_array_support AS 'MODULE_PATHNAME', 'encrypted_text_array_contained_wrapper';
COMMENT ON FUNCTION encrypted_text_array_contained(encrypted_text_array, encrypted_text_texts) IS 'Implementation of <@';
CREATE FUNCTION encrypted_text_array_contained(encrypted_text_texts, encrypted_text_array) RETURNS boolean
  LANGUAGE c STABLE STRICT PARALLEL SAFE SUPPORT encrypted_text_array_support AS 'MODULE_PATHNAME', 'text_array_contained_encrypted_wrapper';
COMMENT ON FUNCTION encrypted_text_array_contained(encrypted_text_texts, encrypted_text_array) IS 'Implementation of <@';
CREATE FUNCTION encrypted_text_array_overlaps(encrypted_text_array, encrypted_text_texts) RETURNS boolean
  LANGUAGE c STABLE STRICT PARALLEL SAFE SUPPORT encrypted_text_array_support AS 'MODULE_PATHNAME', 'encrypted_text_array_overlaps_wrapper';
COMMENT ON FUNCTION encrypted_text_array_overlaps(encrypted_text_array, encrypted_text_texts) IS 'Implementation of &&';
CREATE FUNCTION encrypted_text_array_overlaps(encrypted_text_texts, encrypted_text_array) RETURNS boolean
  LANGUAGE c STABLE STRICT PARALLEL SAFE SUPPORT encrypted_text_array_support AS 'MODULE_PATHNAME', 'text_array_overlaps_encrypted_wrapper';
COMMENT ON FUNCTION encrypted_text_array_overlaps(encrypted_text_texts, encrypted_text_array) IS 'Implementation of &&';
CREATE FUNCTION encrypted_text_array_eq(encrypted_text_array, encrypted_text_texts) RETURNS boolean
  LANGUAGE c STABLE STRICT PARALLEL SAFE SUPPORT encrypted_text_array_support AS 'MODULE_PATHNAME', 'encrypted_text_array_eq_wrapper';
COMMENT ON FUNCTION encrypted_text_array_eq(encrypted_text_array, encrypted_text_texts) IS 'Implementation of =';
CREATE FUNCTION encrypted_text_array_eq(encrypted_text_texts, encrypted_text_array) RETURNS boolean
  LANGUAGE c STABLE STRICT PARALLEL SAFE SUPPORT encrypted_text_array_support AS 'MODULE_PATHNAME', 'text_array_eq_encrypted_wrapper';
COMMENT ON FUNCTION encrypted_text_array_eq(encrypted_text_texts, encrypted_text_array) IS 'Implementation of =';
CREATE FUNCTION encrypted_text_array_ne(encrypted_text_array, encrypted_text_texts) RETURNS boolean
  LANGUAGE c STABLE STRICT PARALLEL SAFE SUPPORT encrypted_text_array_support AS 'MODULE_PATHNAME', 'encrypted_text_array_ne_wrapper';
COMMENT ON FUNCTION encrypted_text_array_ne(encrypted_text_array, encrypted_text_texts) IS 'Implementation of <>';
CREATE FUNCTION encrypted_text_array_ne(encrypted_text_texts, encrypted_text_array) RETURNS boolean
  LANGUAGE c STABLE STRICT PARALLEL SAFE SUPPORT encrypted_text_array_support AS 'MODULE_PATHNAME', 'text_array_ne_encrypted_wrapper';
COMMENT ON FUNCTION encrypted_text_array_ne(encrypted_text_texts, encrypted_text_array) IS 'Implementation of <>';

CREATE OPERATOR @> (
  LEFTARG = encrypted_text_array, RIGHTARG = encrypted_text_texts, FUNCTION = encrypted_text_array_contains,
  COMMUTATOR = <@, RESTRICT = arraycontsel, JOIN = arraycontjoinsel
);
COMMENT ON OPERATOR @> (encrypted_text_array, encrypted_text_texts) IS 'The array holds each of these texts, in the session''s keyset';
CREATE OPERATOR @> (
  LEFTARG = encrypted_text_texts, RIGHTARG = encrypted_text_array, FUNCTION = encrypted_text_array_contains,
  COMMUTATOR = <@, RESTRICT = arraycontsel, JOIN = arraycontjoinsel
);
COMMENT ON OPERATOR @> (encrypted_text_texts, encrypted_text_array) IS 'Each value is one of these texts, in the session''s keyset';
CREATE OPERATOR <@ (
  LEFTARG = encrypted_text_array, RIGHTARG = encrypted_text_texts, FUNCTION = encrypted_text_array_contained,
  COMMUTATOR = @>, RESTRICT = arraycontsel, JOIN = arraycontjoinsel
);
COMMENT ON OPERATOR <@ (encrypted_text_array, encrypted_text_texts) IS 'Each value is one of these texts, in the session''s keyset';
CREATE OPERATOR <@ (
  LEFTARG = encrypted_text_texts, RIGHTARG = encrypted_text_array, FUNCTION = encrypted_text_array_contained,
  COMMUTATOR = @>, RESTRICT = arraycontsel, JOIN = arraycontjoinsel
);
COMMENT ON OPERATOR <@ (encrypted_text_texts, encrypted_text_array) IS 'The array holds each of these texts, in the session''s keyset';
CREATE OPERATOR && (
  LEFTARG = encrypted_text_array, RIGHTARG = encrypted_text_texts, FUNCTION = encrypted_text_array_overlaps,
  COMMUTATOR = &&, RESTRICT = arraycontsel, JOIN = arraycontjoinsel
);
COMMENT ON OPERATOR && (encrypted_text_array, encrypted_text_texts) IS 'A value is one of these texts, in the session''s keyset';
CREATE OPERATOR && (
  LEFTARG = encrypted_text_texts, RIGHTARG = encrypted_text_array, FUNCTION = encrypted_text_array_overlaps,
  COMMUTATOR = &&, RESTRICT = arraycontsel, JOIN = arraycontjoinsel
);
COMMENT ON OPERATOR && (encrypted_text_texts, encrypted_text_array) IS 'A value is one of these texts, in the session''s keyset';
CREATE OPERATOR = (
  LEFTARG = encrypted_text_array, RIGHTARG = encrypted_text_texts, FUNCTION = encrypted_text_array_eq,
  COMMUTATOR = =, NEGATOR = <>, RESTRICT = eqsel, JOIN = eqjoinsel
);
COMMENT ON OPERATOR = (encrypted_text_array, encrypted_text_texts) IS 'The same dimensions and texts, in the session''s keyset';
CREATE OPERATOR = (
  LEFTARG = encrypted_text_texts, RIGHTARG = encrypted_text_array, FUNCTION = encrypted_text_array_eq,
  COMMUTATOR = =, NEGATOR = <>, RESTRICT = eqsel, JOIN = eqjoinsel
);
COMMENT ON OPERATOR = (encrypted_text_texts, encrypted_text_array) IS 'The same dimensions and texts, in the session''s keyset';
CREATE OPERATOR <> (
  LEFTARG = encrypted_text_array, RIGHTARG = encrypted_text_texts, FUNCTION = encrypted_text_array_ne,
  COMMUTATOR = <>, NEGATOR = =, RESTRICT = neqsel, JOIN = neqjoinsel
);
COMMENT ON OPERATOR <> (encrypted_text_array, encrypted_text_texts) IS 'Other dimensions or texts, or not in the session''s keyset';
CREATE OPERATOR <> (
  LEFTARG = encrypted_text_texts, RIGHTARG = encrypted_text_array, FUNCTION = encrypted_text_array_ne,
  COMMUTATOR = <>, NEGATOR = =, RESTRICT = neqsel, JOIN = neqjoinsel
);
COMMENT ON OPERATOR <> (encrypted_text_texts, encrypted_text_array) IS 'Other dimensions or texts, or not in the session''s keyset';

-- For comparisons of rows: (tags, id) = (ARRAY['x'], 1). There is no operator class, because there is no order.
CREATE OPERATOR FAMILY encrypted_text_array_ops USING btree;
COMMENT ON OPERATOR FAMILY encrypted_text_array_ops USING btree IS 'Says that these are equality. For no index';
ALTER OPERATOR FAMILY encrypted_text_array_ops USING btree ADD
  OPERATOR 3 = (encrypted_text_array, encrypted_text_texts),
  OPERATOR 3 = (encrypted_text_texts, encrypted_text_array);

-- sql/catalog/encrypted_columns.sql

-- Where values can be. This is read from the catalogs, because a list of columns could miss one.

CREATE FUNCTION prism_crypt._members(class regclass) RETURNS SETOF oid
  LANGUAGE sql STABLE ROWS 300 SET search_path = pg_catalog, pg_temp AS $$
  SELECT d.objid FROM pg_depend AS d JOIN pg_extension AS e ON e.oid = d.refobjid
  WHERE d.classid = $1 AND d.refclassid = 'pg_extension'::regclass AND d.deptype = 'e' AND e.extname = 'prism_crypt'
$$;
COMMENT ON FUNCTION prism_crypt._members(regclass) IS 'Objects of the extension, of one catalog. Internal';

CREATE FUNCTION prism_crypt._types_over(base oid, OUT type oid, OUT nested boolean) RETURNS SETOF record
  LANGUAGE c STABLE STRICT ROWS 10 AS 'MODULE_PATHNAME', '_types_over_wrapper';
COMMENT ON FUNCTION prism_crypt._types_over(oid) IS
  'Every type that holds a type: itself, domains over it and, nested, arrays, ranges, multiranges and composite types. Internal';

CREATE FUNCTION prism_crypt._holds_encrypted(type oid) RETURNS boolean
  LANGUAGE c STABLE STRICT AS 'MODULE_PATHNAME', '_holds_encrypted_wrapper';
COMMENT ON FUNCTION prism_crypt._holds_encrypted(oid) IS
  'Whether a type is encrypted_text, or holds it. For many types, read _encrypted_types() once instead. Internal';

CREATE FUNCTION prism_crypt._is_quickly_checked(type oid) RETURNS boolean
  LANGUAGE c STABLE STRICT AS 'MODULE_PATHNAME', '_is_quickly_checked_wrapper';
COMMENT ON FUNCTION prism_crypt._is_quickly_checked(oid) IS
  'Whether PostgreSQL can make a table with a column of a type quickly: it visits a type that is used twice, twice. Internal';

CREATE FUNCTION prism_crypt._encrypted_types(OUT type oid, OUT nested boolean) RETURNS SETOF record
  LANGUAGE sql STABLE ROWS 10 SET search_path = pg_catalog, pg_temp AS $$
  SELECT type, nested FROM prism_crypt._types_over(
    (SELECT p.prorettype FROM pg_proc AS p WHERE p.oid = 'prism_crypt.load_envelope(text)'::regprocedure))
$$;
COMMENT ON FUNCTION prism_crypt._encrypted_types() IS
  'Every type that holds encrypted_text: the type, domains over it and, nested, arrays, ranges and so on. Internal';

CREATE FUNCTION prism_crypt._encrypted_columns(
  OUT relation oid, OUT relkind "char", OUT column_name name, OUT type oid, OUT nested boolean, OUT generated boolean
) RETURNS SETOF record
  LANGUAGE sql STABLE ROWS 100 SET search_path = pg_catalog, pg_temp AS $$
  SELECT c.oid, c.relkind, a.attname, a.atttypid, t.nested, a.attgenerated <> ''
  FROM prism_crypt._encrypted_types() AS t
  JOIN pg_attribute AS a ON a.atttypid = t.type AND a.attnum > 0 AND NOT a.attisdropped
  JOIN pg_class AS c ON c.oid = a.attrelid
  WHERE c.relkind IN ('r', 'p', 'm', 'f')
  ORDER BY c.oid, a.attnum
$$;
COMMENT ON FUNCTION prism_crypt._encrypted_columns() IS
  'Columns of tables, partitioned tables, foreign tables and materialized views that hold encrypted_text. Internal';

CREATE FUNCTION prism_crypt._qualified_name(relation regclass) RETURNS text
  LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
  SELECT format('%I.%I', n.nspname, c.relname)
  FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace WHERE c.oid = relation
$$;
COMMENT ON FUNCTION prism_crypt._qualified_name(regclass) IS 'A table''s name with its schema, quoted. Internal';

CREATE FUNCTION prism_crypt._tid(block bigint) RETURNS tid
  LANGUAGE sql IMMUTABLE SET search_path = pg_catalog, pg_temp AS $$ SELECT format('(%s,0)', block)::tid $$;
COMMENT ON FUNCTION prism_crypt._tid(bigint) IS 'The first place of a block. Internal';

CREATE FUNCTION prism_crypt._block(place tid) RETURNS bigint
  LANGUAGE sql IMMUTABLE SET search_path = pg_catalog, pg_temp AS $$
  SELECT split_part(ltrim(place::text, '('), ',', 1)::bigint
$$;
COMMENT ON FUNCTION prism_crypt._block(tid) IS 'The block of a place. Internal';

-- The table itself, its partitions, its children. OFFSET 0 keeps the planner from reading the whole catalog, instead of using
-- its index, for each of many tables.
CREATE FUNCTION prism_crypt._table_tree(relation regclass, OUT member oid, OUT relkind "char") RETURNS SETOF record
  LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
  WITH RECURSIVE tree (member) AS (
    SELECT relation::oid
    UNION
    SELECT i.inhrelid
    FROM tree AS t CROSS JOIN LATERAL (SELECT c.inhrelid FROM pg_inherits AS c WHERE c.inhparent = t.member OFFSET 0) AS i
  )
  SELECT t.member, k.relkind
  FROM tree AS t CROSS JOIN LATERAL (SELECT c.relkind FROM pg_class AS c WHERE c.oid = t.member OFFSET 0) AS k
  ORDER BY t.member
$$;
COMMENT ON FUNCTION prism_crypt._table_tree(regclass) IS 'A table with its partitions and children. Internal';

-- sql/audit/audit.sql

-- What was done to keys, by whom and why. Written by the functions that do it, in the same transaction.

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
COMMENT ON TABLE prism_crypt.audit_log IS 'What was done to keys. Only the functions of prism_crypt write to it';
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

-- sql/keys/carried.sql

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

-- sql/keys/admin.sql

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

-- sql/jobs/tables.sql

-- Long work: what is to be done, how far it is, and who works on it. Several sessions may share a job, and any of them may die
-- at any time: a range of rows belongs to a worker only as long as that worker's statement runs.
--
-- Jobs name tables by oid and describe this server's state, so a dump does not carry them.

-- The kinds of long work. The engine knows only three functions (relation regclass, column_name name, scope jsonb) and this text
-- of each. See docs/architecture.md.
CREATE TABLE prism_crypt.job_kind (
  name         text PRIMARY KEY,
  checks       text NOT NULL,
  parts        text NOT NULL,
  changes      text NOT NULL,
  rows_changed text NOT NULL
);
COMMENT ON TABLE prism_crypt.job_kind IS 'Kinds of jobs';
COMMENT ON COLUMN prism_crypt.job_kind.name IS 'Name of the kind';
COMMENT ON COLUMN prism_crypt.job_kind.checks IS
  'Function that raises an error if the caller can''t do this to the table; runs with the caller''s rights';
COMMENT ON COLUMN prism_crypt.job_kind.parts IS
  'Function that gives the tables with something to change, as regclass[], or raises an error; runs with the owner''s rights';
COMMENT ON COLUMN prism_crypt.job_kind.changes IS
  'Function that gives a prism_crypt._changes: which rows of one table are due, and what changes; runs with the caller''s rights';
COMMENT ON COLUMN prism_crypt.job_kind.rows_changed IS 'What messages call rows that are done';

CREATE TABLE prism_crypt.job (
  id                 bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  kind               text NOT NULL REFERENCES prism_crypt.job_kind,
  relation           regclass NOT NULL,
  column_name        name,
  scope              jsonb NOT NULL DEFAULT '{}',
  state              text NOT NULL DEFAULT 'pending' CHECK (
    state IN ('pending', 'running', 'paused', 'cancelled', 'failed', 'incomplete', 'finished')),
  reason             text,
  error              text,
  created_by         text NOT NULL DEFAULT SESSION_USER,
  owner              oid,
  created_at         timestamptz NOT NULL DEFAULT pg_catalog.clock_timestamp(),
  started_at         timestamptz,
  updated_at         timestamptz NOT NULL DEFAULT pg_catalog.clock_timestamp(),
  finished_at        timestamptz,
  checker_pid        integer,
  checker_started    timestamptz
);
CREATE UNIQUE INDEX job_open_idx ON prism_crypt.job
  (kind, relation, (coalesce(column_name, '')), scope)
  WHERE state IN ('pending', 'running', 'paused', 'failed');
COMMENT ON TABLE prism_crypt.job IS 'Long work, open and done. prism_crypt.progress shows it';
COMMENT ON COLUMN prism_crypt.job.id IS 'Number of the job';
COMMENT ON COLUMN prism_crypt.job.kind IS 'What is done: rotation, or retagging after a new index key';
COMMENT ON COLUMN prism_crypt.job.relation IS 'The table that was named; its partitions and children are parts of the job';
COMMENT ON COLUMN prism_crypt.job.column_name IS 'The column; null is all encrypted columns';
COMMENT ON COLUMN prism_crypt.job.scope IS
  'What else limits the work. For a rotation: from_version, only values of this key version; keyset, only values of this keyset';
COMMENT ON COLUMN prism_crypt.job.state IS
  'pending, running, paused, failed: a call goes on with it; cancelled, incomplete, finished: it is over';
COMMENT ON COLUMN prism_crypt.job.reason IS 'Why it was asked for';
COMMENT ON COLUMN prism_crypt.job.error IS 'What stopped it last';
COMMENT ON COLUMN prism_crypt.job.created_by IS 'Session user that asked for it';
COMMENT ON COLUMN prism_crypt.job.owner IS 'Role that asked for it; null if it was emergency_rotation()';
COMMENT ON COLUMN prism_crypt.job.created_at IS 'When it was asked for';
COMMENT ON COLUMN prism_crypt.job.started_at IS 'When work on it began';
COMMENT ON COLUMN prism_crypt.job.updated_at IS 'When its state last changed';
COMMENT ON COLUMN prism_crypt.job.finished_at IS 'When it was over';
COMMENT ON COLUMN prism_crypt.job.checker_pid IS 'Process of the worker that looks whether anything is left';
COMMENT ON COLUMN prism_crypt.job.checker_started IS 'When that worker''s statement began';
COMMENT ON SEQUENCE prism_crypt.job_id_seq IS 'Numbers of jobs';

CREATE TABLE prism_crypt.job_part (
  job             bigint NOT NULL REFERENCES prism_crypt.job ON DELETE CASCADE,
  relation        regclass NOT NULL,
  pass            integer NOT NULL DEFAULT 0,
  next_block      bigint NOT NULL DEFAULT 0,
  end_block       bigint DEFAULT 0,
  rows_in_pass    bigint NOT NULL DEFAULT 0,
  rows_in_last    bigint,
  fruitless       integer NOT NULL DEFAULT 0,
  rows_done       bigint NOT NULL DEFAULT 0,
  busy_seconds    double precision NOT NULL DEFAULT 0,
  left_over       bigint,
  left_unreadable bigint,
  is_counted      boolean NOT NULL DEFAULT false,
  finished        boolean NOT NULL DEFAULT false,
  updated_at      timestamptz NOT NULL DEFAULT pg_catalog.clock_timestamp(),
  PRIMARY KEY (job, relation)
);
-- Finds the one of many partitions that has something left to walk over.
CREATE INDEX job_part_open_idx ON prism_crypt.job_part (job, relation) WHERE end_block IS NULL OR next_block < end_block;
COMMENT ON TABLE prism_crypt.job_part IS 'One table of a job';
COMMENT ON COLUMN prism_crypt.job_part.job IS 'The job';
COMMENT ON COLUMN prism_crypt.job_part.relation IS 'The table';
COMMENT ON COLUMN prism_crypt.job_part.pass IS 'Which walk over the table this is; 0 before the first check';
COMMENT ON COLUMN prism_crypt.job_part.next_block IS 'First block that no worker has taken in this pass';
COMMENT ON COLUMN prism_crypt.job_part.end_block IS
  'Length of the table in blocks when the pass began; null when it begins with the next range';
COMMENT ON COLUMN prism_crypt.job_part.rows_in_pass IS 'Rows changed in this pass, in ranges that are done';
COMMENT ON COLUMN prism_crypt.job_part.rows_in_last IS 'Rows changed in the pass before';
COMMENT ON COLUMN prism_crypt.job_part.fruitless IS 'Passes that got no further';
COMMENT ON COLUMN prism_crypt.job_part.rows_done IS 'Rows changed so far, in ranges that are done';
COMMENT ON COLUMN prism_crypt.job_part.busy_seconds IS 'Time that workers spent, in ranges that are done';
COMMENT ON COLUMN prism_crypt.job_part.left_over IS 'At the end: values left, locked or kept by a trigger';
COMMENT ON COLUMN prism_crypt.job_part.left_unreadable IS 'At the end: values that can''t be read';
COMMENT ON COLUMN prism_crypt.job_part.is_counted IS 'Whether the values that are left are counted next';
COMMENT ON COLUMN prism_crypt.job_part.finished IS 'Whether it is over';
COMMENT ON COLUMN prism_crypt.job_part.updated_at IS 'When a worker last took or gave back a range';

CREATE TABLE prism_crypt.job_range (
  id             bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  job            bigint NOT NULL,
  relation       regclass NOT NULL,
  place          tid NOT NULL,
  end_block      bigint NOT NULL,
  places         tid[],
  by_index       boolean NOT NULL DEFAULT false,
  stripes        integer,
  stripe         integer NOT NULL DEFAULT 0,
  next_place     tid NOT NULL,
  searching      boolean NOT NULL DEFAULT false,
  careful        integer NOT NULL DEFAULT 0,
  rows_done      bigint NOT NULL DEFAULT 0,
  busy_seconds   double precision NOT NULL DEFAULT 0,
  worker_pid     integer NOT NULL,
  worker_started timestamptz NOT NULL,
  updated_at     timestamptz NOT NULL DEFAULT pg_catalog.clock_timestamp(),
  FOREIGN KEY (job, relation) REFERENCES prism_crypt.job_part ON DELETE CASCADE
) WITH (fillfactor = 20);
COMMENT ON TABLE prism_crypt.job_range IS 'Rows that a worker has taken and not finished: blocks, or places that an index gave';
COMMENT ON COLUMN prism_crypt.job_range.id IS 'Number of the range';
COMMENT ON SEQUENCE prism_crypt.job_range_id_seq IS 'Numbers of ranges';
COMMENT ON COLUMN prism_crypt.job_range.job IS 'The job';
COMMENT ON COLUMN prism_crypt.job_range.relation IS 'The table';
COMMENT ON COLUMN prism_crypt.job_range.place IS 'Everything before it is done';
COMMENT ON COLUMN prism_crypt.job_range.end_block IS 'First block after the range';
COMMENT ON COLUMN prism_crypt.job_range.places IS 'The rows, if an index found them; otherwise null';
COMMENT ON COLUMN prism_crypt.job_range.by_index IS 'Whether an index is asked for the rows first';
COMMENT ON COLUMN prism_crypt.job_range.stripes IS 'Number of its stripes; null before the first batch';
COMMENT ON COLUMN prism_crypt.job_range.stripe IS 'Number of the stripe, from 0';
COMMENT ON COLUMN prism_crypt.job_range.next_place IS 'Everything of this stripe before it is done';
COMMENT ON COLUMN prism_crypt.job_range.searching IS 'Whether it searches for the next row that is due, because few are';
COMMENT ON COLUMN prism_crypt.job_range.careful IS 'How many batches still lock their rows first, after one did not get its rows at once';
COMMENT ON COLUMN prism_crypt.job_range.rows_done IS 'Rows changed in it';
COMMENT ON COLUMN prism_crypt.job_range.busy_seconds IS 'Time spent on it';
COMMENT ON COLUMN prism_crypt.job_range.worker_pid IS 'Process of the worker';
COMMENT ON COLUMN prism_crypt.job_range.worker_started IS 'When the worker''s statement began';
COMMENT ON COLUMN prism_crypt.job_range.updated_at IS 'When its last batch was committed';

CREATE TABLE prism_crypt.job_worker (
  job     bigint NOT NULL REFERENCES prism_crypt.job ON DELETE CASCADE,
  pid     integer NOT NULL,
  started timestamptz NOT NULL,
  token   uuid NOT NULL UNIQUE,
  role    oid NOT NULL,
  PRIMARY KEY (job, pid)
);
COMMENT ON TABLE prism_crypt.job_worker IS 'Sessions that work on a job, or died working on it';
COMMENT ON COLUMN prism_crypt.job_worker.job IS 'The job';
COMMENT ON COLUMN prism_crypt.job_worker.pid IS 'Process of the worker';
COMMENT ON COLUMN prism_crypt.job_worker.started IS 'When the worker''s statement began';
COMMENT ON COLUMN prism_crypt.job_worker.token IS 'What the worker shows at each step';
COMMENT ON COLUMN prism_crypt.job_worker.role IS 'The role that it works as';

-- sql/jobs/workers.sql

-- Who works on jobs.
--
-- Only the owner may write the tables of jobs, so functions write them for their callers, and don't trust what callers say. The
-- caller who opens a job is noted before the rights change (_note_caller), and gets a token: it stands for a worker of this
-- job, as this role, in this statement of this session. Every step shows the token, needs UPDATE on the table again, and
-- touches only what this worker took. An unknown token gets `over`, like a job that was deleted.

CREATE FUNCTION prism_crypt._is_working(worker_pid integer, worker_started timestamptz) RETURNS boolean
  LANGUAGE sql VOLATILE STRICT SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
  -- With track_activities off, nothing shows a session's statements: then it counts as working as long as it exists.
  SELECT $2 > '-infinity' AND EXISTS (
    SELECT FROM pg_stat_get_activity($1) AS a
    WHERE a.state = 'disabled' OR a.state = 'active' AND a.query_start = $2)
$$;
COMMENT ON FUNCTION prism_crypt._is_working(integer, timestamptz) IS
  'Whether a worker still runs the statement it began with. Internal';

CREATE FUNCTION prism_crypt._note_caller() RETURNS bigint
  LANGUAGE c VOLATILE AS 'MODULE_PATHNAME', '_note_caller_wrapper';
COMMENT ON FUNCTION prism_crypt._note_caller() IS
  'Notes the current role for a function with its owner''s rights that has this call among its arguments. Internal';

CREATE FUNCTION prism_crypt._caller(note bigint) RETURNS oid
  LANGUAGE c VOLATILE AS 'MODULE_PATHNAME', '_caller_wrapper';
COMMENT ON FUNCTION prism_crypt._caller(bigint) IS 'The role that _note_caller() noted, once. Internal';

CREATE FUNCTION prism_crypt._bound_waits() RETURNS void
  LANGUAGE c VOLATILE AS 'MODULE_PATHNAME', '_bound_waits_wrapper';
COMMENT ON FUNCTION prism_crypt._bound_waits() IS
  'Makes this transaction wait five seconds for a lock, or as long as lock_timeout says if that is less. Internal';

CREATE FUNCTION prism_crypt._require_update(role oid, relation regclass) RETURNS void
  LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
  -- Null: the table is gone.
  IF NOT has_any_column_privilege(role, relation::oid, 'UPDATE') THEN
    RAISE insufficient_privilege USING
      MESSAGE = format('permission denied for table %s', prism_crypt._qualified_name(relation));
  END IF;
END $$;
COMMENT ON FUNCTION prism_crypt._require_update(oid, regclass) IS
  'Raises an error unless a role may update a table. Internal';

CREATE FUNCTION prism_crypt._require_number(parameter text, value double precision, highest double precision) RETURNS void
  LANGUAGE plpgsql IMMUTABLE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
  -- NaN is greater than any number.
  IF value IS NULL OR value < 0 OR value > highest THEN
    RAISE invalid_parameter_value USING
      MESSAGE = format('%s must be between %s and %s', parameter, 0, highest);
  END IF;
END $$;
COMMENT ON FUNCTION prism_crypt._require_number(text, double precision, double precision) IS
  'Raises an error for a number that no worker can mean. Internal';

-- The worker of this session that has this token; null if there is none.
CREATE FUNCTION prism_crypt._worker(token uuid) RETURNS prism_crypt.job_worker
  LANGUAGE sql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
  SELECT w FROM prism_crypt.job_worker AS w
  WHERE w.token = $1 AND w.pid = pg_backend_pid() AND w.started = statement_timestamp()
$$;
COMMENT ON FUNCTION prism_crypt._worker(uuid) IS 'A worker of this session, by its token. Internal';

CREATE FUNCTION prism_crypt._state_of_job(job bigint) RETURNS text
  LANGUAGE sql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
  SELECT coalesce((
    SELECT CASE WHEN state IN ('finished', 'incomplete') THEN 'over' ELSE state END
    FROM prism_crypt.job WHERE id = $1), 'over')
$$;
COMMENT ON FUNCTION prism_crypt._state_of_job(bigint) IS 'The state of a job; over if it has ended or is gone. Internal';

-- Takes back ranges that nobody works on. What was done in them still counts.
CREATE FUNCTION prism_crypt._drop_ranges(job bigint) RETURNS void
  LANGUAGE sql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
  WITH gone AS (
    DELETE FROM prism_crypt.job_range AS r
    WHERE r.job = $1 AND NOT prism_crypt._is_working(r.worker_pid, r.worker_started)
    RETURNING r.relation, r.rows_done, r.busy_seconds
  )
  UPDATE prism_crypt.job_part AS p
  SET rows_done = p.rows_done + g.rows_done, rows_in_pass = p.rows_in_pass + g.rows_done,
      busy_seconds = p.busy_seconds + g.busy_seconds
  FROM (SELECT relation, sum(rows_done) AS rows_done, sum(busy_seconds) AS busy_seconds FROM gone GROUP BY relation) AS g
  WHERE p.job = $1 AND p.relation = g.relation
$$;
COMMENT ON FUNCTION prism_crypt._drop_ranges(bigint) IS 'Takes back ranges that nobody works on. Internal';

-- sql/jobs/plan.sql

-- The statements that change one table, for any kind of job.

CREATE FUNCTION prism_crypt._target_name(relation regclass, column_name name) RETURNS text
  LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
  SELECT prism_crypt._qualified_name($1) || CASE WHEN $2 IS NULL THEN '' ELSE format('.%I', $2) END
$$;
COMMENT ON FUNCTION prism_crypt._target_name(regclass, name) IS 'Table, or table and column, as reports name it. Internal';

CREATE TYPE prism_crypt._changes AS (
  -- Expressions over one row, which is called `changed`. They come from the kind of job. Whether the row is due:
  due                 text,
  -- Whether it is due and its content can be changed.
  possible            text,
  -- What is set in rows that are due.
  assignments         text,
  -- The same in rows that are locked: values that can't be changed stay as they are.
  assignments_or_kept text,
  -- For each column, why it can't be changed; empty if it can, null if it need not be.
  errors              text[],
  -- What an index finds instead of a walk; null if there is no such index.
  by_index            text,
  -- Whether what the index finds leaves out values that can't be changed.
  hides_rest          boolean
);
COMMENT ON TYPE prism_crypt._changes IS 'What a kind of job does with the rows of one table. Internal';

CREATE TYPE prism_crypt._plan AS (
  job            bigint,
  relation       regclass,
  target         text,
  table_name     text,
  -- Statements. Rows are between places $1 and $2, both exclusive; $3 is a number, $4 the number of stripes, $5 places. A row of
  -- a range that is due.
  find           text,
  -- Changes a range.
  update_range   text,
  -- Changes one stripe of a range: $3.
  update_stripe  text,
  -- Changes rows at places.
  update_places  text,
  -- Locks at most $3 rows of a range that nobody else has locked and that can be changed; gives their places.
  lock_range     text,
  -- Changes locked rows, at places.
  update_locked  text,
  -- Places of rows that an index finds: at most $3. Null where there is no such index.
  find_by_index  text,
  -- A row that is due and can be changed, anywhere in the table.
  find_any       text,
  -- What is left, and why.
  rest           text,
  hides_rest     boolean,
  rows_per_block double precision,
  stripes        integer
);
COMMENT ON TYPE prism_crypt._plan IS 'The statements that change one table. Internal';

CREATE FUNCTION prism_crypt._stripe(place tid, stripes integer) RETURNS integer
  LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', '_stripe_wrapper';
COMMENT ON FUNCTION prism_crypt._stripe(tid, integer) IS 'Which stripe of its block a row is in. Internal';

-- An UPDATE of a column that a foreign key may refer to locks its row as a DELETE does. A weaker lock would not skip rows that others
-- have locked for such a key, and the UPDATE would wait for them.
CREATE FUNCTION prism_crypt._row_lock(relation regclass) RETURNS text
  LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
  SELECT CASE WHEN EXISTS (
    SELECT FROM pg_index AS i JOIN pg_attribute AS a ON a.attrelid = i.indrelid AND a.attnum = ANY (i.indkey)
    WHERE i.indrelid = $1 AND i.indisunique AND i.indpred IS NULL AND i.indexprs IS NULL
      AND (a.atttypid = 'bytea'::regtype OR prism_crypt._holds_encrypted(a.atttypid)))
    THEN 'UPDATE' ELSE 'NO KEY UPDATE' END
$$;
COMMENT ON FUNCTION prism_crypt._row_lock(regclass) IS 'How rows of a table are locked before they are changed. Internal';

-- The table has an alias, and every column is qualified by it: a table, or a column, may have any name.
CREATE FUNCTION prism_crypt._plan_part(
  kind prism_crypt.job_kind, job bigint, relation regclass, column_name name, scope jsonb
) RETURNS prism_crypt._plan
  LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_variable
DECLARE
  changes prism_crypt._changes;
  plan prism_crypt._plan;
  source CONSTANT text := prism_crypt._qualified_name(relation) || ' AS changed';
BEGIN
  IF source IS NULL THEN
    RAISE undefined_table USING MESSAGE = format('relation with OID %s does not exist', relation::oid);
  END IF;
  EXECUTE format('SELECT * FROM %s($1, $2, $3)', kind.changes) INTO changes USING relation, column_name, scope;
  plan.job := job;
  plan.relation := relation;
  plan.table_name := prism_crypt._qualified_name(relation);
  plan.target := prism_crypt._target_name(relation, column_name);
  plan.hides_rest := changes.hides_rest;

  SELECT greatest(CASE WHEN c.relpages > 0 AND c.reltuples > 0 THEN c.reltuples / c.relpages ELSE 50 END, 1)
    INTO plan.rows_per_block
  FROM pg_class AS c WHERE c.oid = relation;
  -- Four stripes leave a quarter of the dead space that one would leave. More leave less, but each has to look at every row.
  plan.stripes := least(4, greatest(1, floor(plan.rows_per_block / 2)));

  plan.find := format(
    'SELECT ARRAY[changed.ctid] FROM ONLY %s WHERE changed.ctid OPERATOR(pg_catalog.>) $1
       AND changed.ctid OPERATOR(pg_catalog.<) $2 AND (%s) LIMIT 1',
    source, changes.due);
  plan.update_range := format(
    'UPDATE ONLY %s SET %s WHERE changed.ctid OPERATOR(pg_catalog.>) $1
       AND changed.ctid OPERATOR(pg_catalog.<) $2 AND (%s)',
    source, changes.assignments, changes.due);
  plan.update_stripe := format(
    'UPDATE ONLY %s SET %s WHERE changed.ctid OPERATOR(pg_catalog.>) $1 AND changed.ctid OPERATOR(pg_catalog.<) $2
       AND prism_crypt._stripe(changed.ctid, $4) OPERATOR(pg_catalog.=) $3 AND (%s)',
    source, changes.assignments, changes.due);
  plan.update_places := format(
    'UPDATE ONLY %s SET %s WHERE changed.ctid OPERATOR(pg_catalog.=) ANY ($5) AND (%s)',
    source, changes.assignments, changes.due);
  plan.lock_range := format(
    'SELECT pg_catalog.array_agg(chosen.place) FROM (SELECT changed.ctid AS place FROM ONLY %s
       WHERE changed.ctid OPERATOR(pg_catalog.>) $1 AND changed.ctid OPERATOR(pg_catalog.<) $2 AND (%s)
       LIMIT $3 FOR %s SKIP LOCKED) AS chosen',
    source, changes.possible, prism_crypt._row_lock(relation));
  plan.update_locked := format(
    'UPDATE ONLY %s SET %s WHERE changed.ctid OPERATOR(pg_catalog.=) ANY ($5)', source, changes.assignments_or_kept);
  plan.rest := format(
    'SELECT coalesce(pg_catalog.sum(rest.rows) FILTER (WHERE rest.error OPERATOR(pg_catalog.=) ''''), 0),
            coalesce(pg_catalog.sum(rest.rows) FILTER (WHERE rest.error OPERATOR(pg_catalog.<>) ''''), 0),
            pg_catalog.string_agg(pg_catalog.format(''%%s. Values: %%s.'', rest.error, rest.rows), '' '' ORDER BY rest.error)
              FILTER (WHERE rest.error OPERATOR(pg_catalog.<>) '''')
     FROM (SELECT found.error, pg_catalog.count(*) AS rows FROM ONLY %s, LATERAL (VALUES (%s)) AS found (error)
           WHERE found.error IS NOT NULL GROUP BY found.error) AS rest',
    source, array_to_string(changes.errors, '), ('));
  plan.find_any := format(
    'SELECT changed.ctid FROM ONLY %s WHERE %s LIMIT 1', source,
    coalesce(changes.by_index, format('(%s) AND (%s)', changes.due, changes.possible)));
  IF changes.by_index IS NOT NULL THEN
    plan.find_by_index := format(
      'SELECT pg_catalog.array_agg(x.place ORDER BY x.place)
       FROM (SELECT changed.ctid AS place FROM ONLY %s WHERE %s LIMIT $3) AS x', source, changes.by_index);
  END IF;
  RETURN plan;
END $$;
COMMENT ON FUNCTION prism_crypt._plan_part(prism_crypt.job_kind, bigint, regclass, name, jsonb) IS
  'The statements that change one table. Internal';

-- sql/jobs/start.sql

-- How jobs begin.

CREATE FUNCTION prism_crypt._kind_of_job(name text) RETURNS prism_crypt.job_kind
  LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  kind prism_crypt.job_kind;
BEGIN
  SELECT k.* INTO kind FROM prism_crypt.job_kind AS k WHERE k.name = $1;
  IF NOT FOUND THEN
    RAISE undefined_object USING MESSAGE = format('kind of job "%s" does not exist', $1);
  END IF;
  RETURN kind;
END $$;
COMMENT ON FUNCTION prism_crypt._kind_of_job(text) IS 'The kind of this name. Internal';

CREATE FUNCTION prism_crypt._parts_of_job(kind text, relation regclass, column_name name, scope jsonb) RETURNS regclass[]
  LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  parts regclass[];
BEGIN
  EXECUTE format('SELECT %s($1, $2, $3)', (prism_crypt._kind_of_job(kind)).parts) INTO parts USING relation, column_name, scope;
  RETURN parts;
END $$;
COMMENT ON FUNCTION prism_crypt._parts_of_job(text, regclass, name, jsonb) IS
  'The tables that a job of a kind goes over. Internal';

-- Gives a job the parts that its table has now. A partition that was detached since the last call is no longer a part.
CREATE FUNCTION prism_crypt._set_parts(job bigint, parts regclass[]) RETURNS void
  LANGUAGE sql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
  DELETE FROM prism_crypt.job_part AS p
  WHERE p.job = $1 AND NOT EXISTS (SELECT FROM unnest($2) AS r WHERE r = p.relation)
    AND NOT EXISTS (SELECT FROM prism_crypt.job_worker AS w
                    WHERE w.job = $1 AND prism_crypt._is_working(w.pid, w.started));
  INSERT INTO prism_crypt.job_part (job, relation)
  SELECT $1, r FROM unnest($2) AS r
  WHERE NOT EXISTS (SELECT FROM prism_crypt.job_part AS p WHERE p.job = $1 AND p.relation = r)
  ON CONFLICT DO NOTHING;
$$;
COMMENT ON FUNCTION prism_crypt._set_parts(bigint, regclass[]) IS 'Makes these tables the parts of a job. Internal';

-- Finds the open job of this identity, or makes it. Then it is running, unless somebody paused it. The kind of job, not the
-- caller, says which tables are its parts.
CREATE FUNCTION prism_crypt._start_job(
  kind text, relation regclass, column_name name, scope jsonb, note bigint, OUT job bigint, OUT token uuid, OUT part regclass
) LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
  role CONSTANT oid := prism_crypt._caller(note);
  parts CONSTANT regclass[] := prism_crypt._parts_of_job(kind, relation, column_name, scope);
BEGIN
  PERFORM prism_crypt._require_update(role, relation);
  PERFORM prism_crypt._require_update(role, p) FROM unnest(parts) AS p;
  part := parts[1];
  LOOP
    SELECT j.id INTO job FROM prism_crypt.job AS j
    WHERE j.kind = _start_job.kind AND j.relation = _start_job.relation
      AND coalesce(j.column_name, '') = coalesce(_start_job.column_name, '') AND j.scope = _start_job.scope
      AND j.state IN ('pending', 'running', 'paused', 'failed')
    FOR NO KEY UPDATE;
    EXIT WHEN job IS NOT NULL;
    INSERT INTO prism_crypt.job (kind, relation, column_name, scope, owner)
    VALUES (_start_job.kind, _start_job.relation, _start_job.column_name, _start_job.scope, role)
    ON CONFLICT DO NOTHING;
  END LOOP;
  PERFORM prism_crypt._set_parts(job, parts);
  token := gen_random_uuid();
  INSERT INTO prism_crypt.job_worker AS w (job, pid, started, token, role)
  VALUES (job, pg_backend_pid(), statement_timestamp(), token, role)
  ON CONFLICT ON CONSTRAINT job_worker_pkey DO UPDATE
  SET started = excluded.started, token = excluded.token, role = excluded.role;
  UPDATE prism_crypt.job AS j
  SET state = 'running', error = NULL, started_at = coalesce(j.started_at, clock_timestamp()),
      updated_at = clock_timestamp()
  WHERE j.id = _start_job.job AND j.state <> 'paused';
END $$;
COMMENT ON FUNCTION prism_crypt._start_job(text, regclass, name, jsonb, bigint) IS
  'Makes this session a worker of the open job of a target; makes the job if there is none. Internal';

-- For callers that ask for work which others do. If there is an open job, that one is used.
CREATE FUNCTION prism_crypt._queue_job(kind text, relation regclass, reason text) RETURNS void
  LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
  new_id bigint;
BEGIN
  INSERT INTO prism_crypt.job (kind, relation, reason)
  VALUES (_queue_job.kind, _queue_job.relation, _queue_job.reason) ON CONFLICT DO NOTHING RETURNING id INTO new_id;
  IF new_id IS NOT NULL THEN
    PERFORM prism_crypt._set_parts(new_id, prism_crypt._parts_of_job(_queue_job.kind, _queue_job.relation, NULL, '{}'));
  END IF;
END $$;
COMMENT ON FUNCTION prism_crypt._queue_job(text, regclass, text) IS 'Asks for work on a table. Internal';

-- sql/jobs/limits.sql

-- How fast a session may work, and how it waits.

CREATE TYPE prism_crypt._limits AS (
  batch_size          integer,
  pause               interval,
  max_rows_per_second double precision,
  max_replica_lag     bigint,
  max_batches         integer,
  fire_triggers       boolean
);
COMMENT ON TYPE prism_crypt._limits IS 'How fast a session may work. Internal';

CREATE FUNCTION prism_crypt._require_no_transaction_block(what text) RETURNS void
  LANGUAGE c VOLATILE STRICT AS 'MODULE_PATHNAME', '_require_no_transaction_block_wrapper';
COMMENT ON FUNCTION prism_crypt._require_no_transaction_block(text) IS
  'Raises an error if a procedure could not commit. Internal';

-- NaN and infinity are greater than any number.
CREATE FUNCTION prism_crypt._require_between(parameter text, value anyelement, lowest anyelement, highest anyelement)
  RETURNS void
  LANGUAGE plpgsql IMMUTABLE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
  IF value < lowest OR value > highest THEN
    RAISE invalid_parameter_value USING
      MESSAGE = format('%s must be between %s and %s', parameter, lowest, highest);
  END IF;
END $$;
COMMENT ON FUNCTION prism_crypt._require_between(text, anyelement, anyelement, anyelement) IS
  'Raises an error for a parameter out of its range, which may be null. Internal';

-- The maximum of each is far above anything sensible, but low enough that nothing computed from it overflows.
CREATE FUNCTION prism_crypt._check_limits(limits prism_crypt._limits) RETURNS void
  LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
  PERFORM prism_crypt._require_between('batch_size', limits.batch_size, 1, 1000000),
    prism_crypt._require_between('pause', limits.pause, interval '0', interval '1 day'),
    prism_crypt._require_between('max_rows_per_second', limits.max_rows_per_second, 0.001::float8, 1e9::float8),
    prism_crypt._require_between('max_replica_lag', limits.max_replica_lag, 0::bigint, 9223372036854775807),
    prism_crypt._require_between('max_batches', limits.max_batches, 1, 2147483647);
  IF limits.batch_size IS NULL THEN
    RAISE null_value_not_allowed USING MESSAGE = 'batch_size must not be null';
  ELSIF limits.fire_triggers IS NULL THEN
    RAISE null_value_not_allowed USING MESSAGE = 'fire_triggers must not be null';
  ELSIF NOT limits.fire_triggers THEN
    -- A role that may not do this gets PostgreSQL's own error, before anything begins.
    PERFORM set_config('session_replication_role', 'replica', true);
  END IF;
  IF pg_is_in_recovery() THEN
    RAISE read_only_sql_transaction USING
      MESSAGE = 'a standby can''t rotate', HINT = 'Rotate on the primary; the standby follows.';
  END IF;
END $$;
COMMENT ON FUNCTION prism_crypt._check_limits(prism_crypt._limits) IS
  'Raises an error for limits that make no sense. Internal';

-- How far the slowest standby is behind, in bytes; 0 if none is connected.
CREATE FUNCTION prism_crypt._replica_lag() RETURNS bigint
  LANGUAGE sql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
  SELECT coalesce(max(pg_wal_lsn_diff(
    pg_current_wal_lsn(), coalesce(replay_lsn, flush_lsn, write_lsn, sent_lsn, '0/0'))), 0)::bigint
  FROM pg_stat_replication WHERE state <> 'backup'
$$;
COMMENT ON FUNCTION prism_crypt._replica_lag() IS 'How many bytes the slowest standby or subscriber is behind. Internal';

-- The time of day may be set back or forward while a rotation runs.
CREATE FUNCTION prism_crypt._uptime() RETURNS double precision
  LANGUAGE c VOLATILE AS 'MODULE_PATHNAME', '_uptime_wrapper';
COMMENT ON FUNCTION prism_crypt._uptime() IS 'Seconds since this session first asked, by a clock that is never set. Internal';

CREATE FUNCTION prism_crypt._sleep(seconds double precision) RETURNS void
  LANGUAGE c VOLATILE STRICT AS 'MODULE_PATHNAME', '_sleep_wrapper';
COMMENT ON FUNCTION prism_crypt._sleep(double precision) IS 'As pg_sleep(), by a clock that is never set. Internal';

-- sql/jobs/failures.sql

-- Errors that are recorded before they are raised: a procedure that catches errors could not commit.

CREATE TYPE prism_crypt._failure AS (
  code text, message text, detail text, hint text, context text, schema_name text, table_name text, column_name text,
  datatype_name text, constraint_name text
);
COMMENT ON TYPE prism_crypt._failure IS 'An error that is recorded before it is raised. Internal';

-- What is kept of an error. Its message, or a name in it, may quote values.
CREATE FUNCTION prism_crypt._describe_failure(failure prism_crypt._failure) RETURNS text
  LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
  SELECT format('SQLSTATE %s', ($1).code) || coalesce((
    SELECT format(', constraint "%s"', c.conname) FROM pg_constraint AS c
    WHERE c.conname = ($1).constraint_name LIMIT 1), '')
$$;
COMMENT ON FUNCTION prism_crypt._describe_failure(prism_crypt._failure) IS 'An error, without values. Internal';

CREATE FUNCTION prism_crypt._raise_failure(
  code text, message text, detail text, hint text, context text, schema_name text, table_name text, column_name text,
  datatype_name text, constraint_name text
) RETURNS void
  LANGUAGE c VOLATILE AS 'MODULE_PATHNAME', '_raise_failure_wrapper';
COMMENT ON FUNCTION prism_crypt._raise_failure(text, text, text, text, text, text, text, text, text, text) IS
  'Raises an error that was recorded. Internal';

-- sql/jobs/steps.sql

-- What a worker does next, and what it records: the position of all work, which is kept nowhere else. No code of the table's
-- owner runs here.

CREATE TYPE prism_crypt._step AS (
  -- batch, find, check, count: to be run
  -- taken: nothing to run; the next step runs what was taken
  -- wait: others have taken everything; pace, standby: the limits require a wait
  -- paused, cancelled, over: the state of the job
  -- ending: nothing is left that could be changed
  action     text,
  relation   regclass,
  range_id   bigint,
  -- Everything before `from_place` is done in this stripe, and everything before `place` in all stripes.
  from_place tid,
  place      tid,
  to_place   tid,
  places     tid[],
  stripes    integer,
  stripe     integer,
  searching  boolean,
  careful    boolean,
  -- Rows that a batch is to have at most, and whether it leaves them all to the next pass.
  batch_size integer,
  skips      boolean,
  -- For a check: all tables of the job.
  parts      regclass[],
  -- How long to wait before it.
  seconds    double precision
);
COMMENT ON TYPE prism_crypt._step IS 'What a worker does next. Internal';

CREATE TYPE prism_crypt._result AS (
  -- After a batch: rows changed, where it goes on, how long it took, and how many rows it was to have.
  rows            bigint,
  reached         tid,
  busy_seconds    double precision,
  batch_size      integer,
  -- The number of stripes of the range.
  stripes         integer,
  -- After find: what the index found; null if the table is to be walked over.
  places          tid[],
  -- After a check: tables with something left that could be changed, and tables with something that could not.
  due             regclass[],
  unreadable      regclass[],
  -- After a count.
  left_over       bigint,
  left_unreadable bigint
);
COMMENT ON TYPE prism_crypt._result IS 'The result of a step. Internal';

CREATE FUNCTION prism_crypt._step_in(range prism_crypt.job_range) RETURNS prism_crypt._step
  LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  step prism_crypt._step;
BEGIN
  step.action := CASE WHEN range.by_index THEN 'find' ELSE 'batch' END;
  step.relation := range.relation;
  step.range_id := range.id;
  step.from_place := range.next_place;
  step.place := range.place;
  step.to_place := prism_crypt._tid(range.end_block);
  step.places := range.places;
  step.stripes := range.stripes;
  step.stripe := range.stripe;
  step.searching := range.searching;
  step.careful := range.careful > 0;
  RETURN step;
END $$;
COMMENT ON FUNCTION prism_crypt._step_in(prism_crypt.job_range) IS 'The next step in a range. Internal';

-- Takes a range of a table that nobody has taken; null if all are taken. A pass begins with one range over everything, because
-- an index may find the rows instead.
CREATE FUNCTION prism_crypt._take_range(worker prism_crypt.job_worker) RETURNS regclass
  LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
  part prism_crypt.job_part;
  blocks bigint;
BEGIN
  SELECT p.* INTO part FROM prism_crypt.job_part AS p JOIN pg_class AS c ON c.oid = p.relation
  WHERE p.job = worker.job AND (p.end_block IS NULL OR p.next_block < p.end_block)
  ORDER BY p.relation LIMIT 1 FOR NO KEY UPDATE OF p;
  IF NOT FOUND THEN
    RETURN NULL;
  END IF;
  PERFORM prism_crypt._require_update(worker.role, part.relation);
  -- Small enough to share a table evenly and to stay in memory between two stripes, and so large that taking one costs little
  -- compared with the work: 1 to 16 MiB with blocks of 8 KiB.
  blocks := CASE WHEN part.end_block IS NULL
    THEN coalesce(pg_relation_size(part.relation), 0) / current_setting('block_size')::bigint
    ELSE least(part.next_block + least(greatest(part.end_block / 32, 128), 2048), part.end_block) END;
  INSERT INTO prism_crypt.job_range (job, relation, place, next_place, end_block, by_index, worker_pid, worker_started)
  VALUES (worker.job, part.relation, prism_crypt._tid(part.next_block), prism_crypt._tid(part.next_block), blocks,
          part.end_block IS NULL, worker.pid, worker.started);
  UPDATE prism_crypt.job_part AS p
  SET next_block = blocks, end_block = coalesce(p.end_block, blocks), updated_at = clock_timestamp()
  WHERE p.job = worker.job AND p.relation = part.relation;
  RETURN part.relation;
END $$;
COMMENT ON FUNCTION prism_crypt._take_range(prism_crypt.job_worker) IS 'Takes a range of a table. Internal';

-- Takes over what a worker left behind when it died or gave up.
CREATE FUNCTION prism_crypt._take_over(worker prism_crypt.job_worker) RETURNS regclass
  LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
  range prism_crypt.job_range;
BEGIN
  SELECT r.* INTO range FROM prism_crypt.job_range AS r JOIN pg_class AS c ON c.oid = r.relation
  WHERE r.job = worker.job AND NOT prism_crypt._is_working(r.worker_pid, r.worker_started)
  ORDER BY r.id LIMIT 1 FOR UPDATE OF r SKIP LOCKED;
  IF FOUND THEN
    -- What is known of other sessions may be older than the lock: one of them may have taken it just now.
    PERFORM pg_stat_clear_snapshot();
    IF prism_crypt._is_working(range.worker_pid, range.worker_started) THEN
      RETURN NULL;
    END IF;
    PERFORM prism_crypt._require_update(worker.role, range.relation);
    UPDATE prism_crypt.job_range AS r
    SET worker_pid = worker.pid, worker_started = worker.started, updated_at = clock_timestamp()
    WHERE r.id = range.id;
  END IF;
  RETURN range.relation;
END $$;
COMMENT ON FUNCTION prism_crypt._take_over(prism_crypt.job_worker) IS 'Takes a range that nobody works on. Internal';

-- Whether every range of a job was taken and is done. A partition that was dropped has nothing left to do.
CREATE FUNCTION prism_crypt._is_walked(job bigint) RETURNS boolean
  LANGUAGE sql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
  SELECT NOT EXISTS (SELECT FROM prism_crypt.job_range AS r JOIN pg_class AS c ON c.oid = r.relation WHERE r.job = $1)
    AND NOT EXISTS (SELECT FROM prism_crypt.job_part AS p JOIN pg_class AS c ON c.oid = p.relation
                    WHERE p.job = $1 AND (p.end_block IS NULL OR p.next_block < p.end_block))
$$;
COMMENT ON FUNCTION prism_crypt._is_walked(bigint) IS 'Whether every range of a job is done. Internal';

-- What a worker does when every range is taken: one worker checks whether anything is left, and counts it once nothing moves any
-- more; the others wait. The job is locked only where the check is taken: a check may take long, and others need the job.
CREATE FUNCTION prism_crypt._check_step(worker prism_crypt.job_worker) RETURNS prism_crypt._step
  LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
  step prism_crypt._step;
  found_job prism_crypt.job;
BEGIN
  SELECT * INTO found_job FROM prism_crypt.job AS j WHERE j.id = worker.job;
  PERFORM prism_crypt._require_update(worker.role, found_job.relation);
  IF prism_crypt._qualified_name(found_job.relation) IS NULL THEN
    RAISE undefined_table USING
      MESSAGE = format('relation with OID %s does not exist', found_job.relation::oid),
      DETAIL = format('It was dropped while job %s worked on it.', worker.job);
  ELSIF NOT prism_crypt._is_walked(worker.job) THEN
    step.action := 'wait';
  ELSIF found_job.checker_pid = worker.pid AND found_job.checker_started = worker.started THEN
    SELECT p.relation INTO step.relation FROM prism_crypt.job_part AS p JOIN pg_class AS c ON c.oid = p.relation
    WHERE p.job = worker.job AND p.is_counted AND NOT p.finished ORDER BY p.relation LIMIT 1;
    IF FOUND THEN
      step.action := 'count';
    ELSE
      step.action := 'check';
      step.parts := ARRAY(
        SELECT p.relation FROM prism_crypt.job_part AS p WHERE p.job = worker.job ORDER BY p.relation);
    END IF;
  ELSIF prism_crypt._is_working(found_job.checker_pid, found_job.checker_started) THEN
    step.action := 'wait';
  ELSE
    -- Not FOR UPDATE, because foreign-key checks of other workers would wait for that.
    SELECT * INTO found_job FROM prism_crypt.job AS j WHERE j.id = worker.job FOR NO KEY UPDATE;
    -- Another session may have checked meanwhile.
    IF NOT prism_crypt._is_walked(worker.job) OR prism_crypt._is_working(found_job.checker_pid, found_job.checker_started) THEN
      step.action := 'wait';
      RETURN step;
    END IF;
    UPDATE prism_crypt.job AS j SET checker_pid = worker.pid, checker_started = worker.started WHERE j.id = worker.job;
    -- This takes back what an unfinished check found.
    UPDATE prism_crypt.job_part AS p SET is_counted = false, finished = false
    WHERE p.job = worker.job AND (p.is_counted OR p.finished);
    step.action := 'taken';
  END IF;
  RETURN step;
END $$;
COMMENT ON FUNCTION prism_crypt._check_step(prism_crypt.job_worker) IS 'What a worker does when every range is taken. Internal';

-- `is_waiting`: only asks for the state; the same while a standby is further behind than `max_replica_lag`. `failed`: the last
-- batch is tried again, locking its rows first. What is taken is committed before it is run, so that others need not wait that
-- long.
CREATE FUNCTION prism_crypt._next_step(token uuid, is_waiting boolean, max_replica_lag bigint, failed boolean)
  RETURNS prism_crypt._step
  LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
  worker CONSTANT prism_crypt.job_worker := prism_crypt._worker(token);
  step prism_crypt._step;
  range prism_crypt.job_range;
BEGIN
  step.action := prism_crypt._state_of_job(worker.job);
  IF step.action IN ('paused', 'cancelled', 'over') THEN
    RETURN step;
  ELSIF is_waiting THEN
    step.action := 'pace';
    RETURN step;
  ELSIF max_replica_lag IS NOT NULL AND prism_crypt._replica_lag() > max_replica_lag THEN
    step.action := 'standby';
    RETURN step;
  END IF;
  SELECT * INTO range FROM prism_crypt.job_range AS r
  WHERE r.job = worker.job AND r.worker_pid = worker.pid AND r.worker_started = worker.started ORDER BY r.id LIMIT 1;
  IF FOUND THEN
    IF failed AND range.careful = 0 THEN
      range.careful := 9;
      UPDATE prism_crypt.job_range AS r SET careful = range.careful WHERE r.id = range.id;
    END IF;
    RETURN prism_crypt._step_in(range);
  END IF;
  step.relation := coalesce(prism_crypt._take_over(worker), prism_crypt._take_range(worker));
  IF step.relation IS NULL THEN
    RETURN prism_crypt._check_step(worker);
  END IF;
  step.action := 'taken';
  RETURN step;
END $$;
COMMENT ON FUNCTION prism_crypt._next_step(uuid, boolean, bigint, boolean) IS 'What a worker does next. Internal';

-- sql/jobs/records.sql

-- What workers record of their steps, and how jobs end.

CREATE FUNCTION prism_crypt._add_to_part(job bigint, relation regclass, rows_done bigint, busy_seconds double precision)
  RETURNS void
  LANGUAGE sql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
  UPDATE prism_crypt.job_part AS p
  SET rows_in_pass = p.rows_in_pass + $3, rows_done = p.rows_done + $3, busy_seconds = p.busy_seconds + $4,
      updated_at = clock_timestamp()
  WHERE p.job = $1 AND p.relation = $2
$$;
COMMENT ON FUNCTION prism_crypt._add_to_part(bigint, regclass, bigint, double precision) IS
  'Counts rows for one table of a job. Internal';

-- Where a range goes on after a batch.
--
-- A worker goes through a range in stripes. Every stripe but the last takes only some rows of each block, for example every
-- fourth. The row versions that the first stripe leaves behind are dead when the second begins, and make room for it in the same
-- blocks, so that it needs neither new blocks nor new index entries (HOT). The last stripe, or the only one, takes all that is
-- left, and `place` moves with it.
CREATE FUNCTION prism_crypt._move_on(range prism_crypt.job_range, result prism_crypt._result) RETURNS prism_crypt.job_range
  LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  range_end CONSTANT tid := prism_crypt._tid(range.end_block);
  stripes CONSTANT integer := greatest(result.stripes, 1);
  reached tid;
BEGIN
  range.careful := greatest(range.careful - 1, 0);
  IF range.places IS NOT NULL THEN
    range.places := (range.places)[result.batch_size + 1:];
    IF range.places = '{}' THEN
      range.place := range_end;
    END IF;
    RETURN range;
  END IF;
  IF range.stripes IS DISTINCT FROM stripes THEN
    range.stripes := stripes;
    range.stripe := 0;
    range.next_place := range.place;
  END IF;
  reached := least(greatest(result.reached, range.next_place), range_end);
  IF range.stripe < stripes - 1 THEN
    IF range.stripe = 0 AND result.rows = 0 AND range.next_place = range.place THEN
      -- Nothing in the first batch: few rows are due here, if any.
      range.stripes := 1;
      range.searching := true;
    ELSIF reached < range_end THEN
      range.next_place := reached;
    ELSE
      range.stripe := range.stripe + 1;
      range.next_place := range.place;
    END IF;
  ELSE
    IF result.rows > 0 OR range.searching THEN
      range.place := reached;
      range.next_place := reached;
    END IF;
    -- If there were few, the next one is likely to be far away. If there were none without a search, a search finds out why.
    range.searching := result.rows <= result.batch_size / 4;
  END IF;
  RETURN range;
END $$;
COMMENT ON FUNCTION prism_crypt._move_on(prism_crypt.job_range, prism_crypt._result) IS
  'Where a range goes on after a batch. Internal';

-- The range of a worker's step. Nobody else changes a range while its worker is working.
CREATE FUNCTION prism_crypt._range_of(worker prism_crypt.job_worker, range_id bigint) RETURNS prism_crypt.job_range
  LANGUAGE sql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
  SELECT r FROM prism_crypt.job_range AS r
  WHERE r.id = $2 AND r.job = worker.job AND r.worker_pid = worker.pid AND r.worker_started = worker.started
$$;
COMMENT ON FUNCTION prism_crypt._range_of(prism_crypt.job_worker, bigint) IS 'A range that a worker has taken. Internal';

-- Records a batch in its own transaction. Gives the next step, unless the worker has to ask for it. A finished range is added to
-- its part. The place only moves forward, and the number of rows can't be larger than what fits into the rest of the range.
CREATE FUNCTION prism_crypt._record_batch(
  worker prism_crypt.job_worker, range prism_crypt.job_range, result prism_crypt._result
) RETURNS prism_crypt._step
  LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
BEGIN
  PERFORM prism_crypt._require_update(worker.role, range.relation),
    -- A row takes at least 28 bytes of its block. Locking rows first takes all that are due in the blocks of places.
    prism_crypt._require_number('rows', result.rows,
      coalesce(cardinality(range.places), range.end_block - prism_crypt._block(range.place))
        * (current_setting('block_size')::bigint / 28)),
    prism_crypt._require_number('stripes', result.stripes, 100),
    prism_crypt._require_number('batch_size', result.batch_size, 1000000),
    prism_crypt._require_number('busy_seconds', result.busy_seconds, 1e9);
  range := prism_crypt._move_on(range, result);
  range.rows_done := range.rows_done + result.rows;
  range.busy_seconds := range.busy_seconds + result.busy_seconds;
  IF range.place >= prism_crypt._tid(range.end_block) THEN
    DELETE FROM prism_crypt.job_range AS r WHERE r.id = range.id;
    PERFORM prism_crypt._add_to_part(range.job, range.relation, range.rows_done, range.busy_seconds);
    RETURN NULL;
  END IF;
  UPDATE prism_crypt.job_range AS r
  SET place = range.place, places = range.places, stripes = range.stripes, stripe = range.stripe, next_place = range.next_place,
      searching = range.searching, careful = range.careful, rows_done = range.rows_done, busy_seconds = range.busy_seconds,
      updated_at = clock_timestamp()
  WHERE r.id = range.id;
  IF prism_crypt._state_of_job(range.job) IN ('paused', 'cancelled', 'over') THEN
    RETURN NULL;
  END IF;
  RETURN prism_crypt._step_in(range);
END $$;
COMMENT ON FUNCTION prism_crypt._record_batch(prism_crypt.job_worker, prism_crypt.job_range, prism_crypt._result) IS
  'Records a batch of a worker. Internal';

-- Records what an index found, in ranges of one batch, or a thousand rows, that any worker may take; or that the table is to be
-- walked over.
CREATE FUNCTION prism_crypt._record_places(
  worker prism_crypt.job_worker, range prism_crypt.job_range, result prism_crypt._result
) RETURNS void
  LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
BEGIN
  PERFORM prism_crypt._require_update(worker.role, range.relation),
    prism_crypt._require_number('batch_size', result.batch_size, 1000000),
    prism_crypt._require_number('places', coalesce(cardinality(result.places), 0), 1000000),
    prism_crypt._require_number('block', coalesce((SELECT prism_crypt._block(max(p)) FROM unnest(result.places) AS p), 0),
      greatest(pg_relation_size(range.relation) / current_setting('block_size')::bigint - 1, 0));
  DELETE FROM prism_crypt.job_range AS r WHERE r.id = range.id;
  INSERT INTO prism_crypt.job_range (job, relation, place, next_place, end_block, places, worker_pid, worker_started)
  SELECT range.job, range.relation, batch.places[1], batch.places[1],
         prism_crypt._block(batch.places[cardinality(batch.places)]) + 1, batch.places, range.worker_pid, '-infinity'
  FROM generate_series(1, cardinality(result.places), greatest(result.batch_size, 1000)) AS first
  CROSS JOIN LATERAL (SELECT (result.places)[first:first + greatest(result.batch_size, 1000) - 1]) AS batch (places);
  UPDATE prism_crypt.job_part AS p SET next_block = 0, end_block = CASE WHEN result.places IS NULL THEN p.end_block ELSE 0 END
  WHERE p.job = range.job AND p.relation = range.relation;
END $$;
COMMENT ON FUNCTION prism_crypt._record_places(prism_crypt.job_worker, prism_crypt.job_range, prism_crypt._result) IS
  'Records what an index found. Internal';

-- Of jobs that changed nothing, only one per target and end is kept: a call every minute must not fill the table.
CREATE FUNCTION prism_crypt._drop_older_jobs(job bigint) RETURNS void
  LANGUAGE sql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
  DELETE FROM prism_crypt.job AS d WHERE d.id IN (
    SELECT old.id
    FROM prism_crypt.job AS new JOIN prism_crypt.job AS old
      ON old.id < new.id AND old.state = new.state AND old.kind = new.kind AND old.relation = new.relation
      AND old.column_name IS NOT DISTINCT FROM new.column_name
      AND old.scope = new.scope
    WHERE new.id = $1 AND new.state IN ('finished', 'cancelled')
      AND NOT EXISTS (SELECT FROM prism_crypt.job_worker AS w
                      WHERE w.job = old.id AND prism_crypt._is_working(w.pid, w.started))
      AND NOT EXISTS (SELECT FROM prism_crypt.job_part AS p WHERE p.job IN (old.id, new.id) AND p.rows_done > 0)
    FOR UPDATE OF old SKIP LOCKED)
$$;
COMMENT ON FUNCTION prism_crypt._drop_older_jobs(bigint) IS 'Deletes older jobs like one that changed nothing. Internal';

-- Ends a job with its last part.
CREATE FUNCTION prism_crypt._finish_job(worker prism_crypt.job_worker) RETURNS void
  LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  moment CONSTANT timestamptz := clock_timestamp();
BEGIN
  UPDATE prism_crypt.job AS j
  SET state = CASE
        WHEN EXISTS (SELECT FROM prism_crypt.job_part AS p
                     WHERE p.job = j.id AND (p.left_over > 0 OR p.left_unreadable > 0)) THEN 'incomplete'
        ELSE 'finished' END,
      updated_at = moment, finished_at = moment
  WHERE j.id = worker.job AND j.state IN ('pending', 'running', 'paused', 'failed')
    -- A partition that was dropped meanwhile has nothing left to do.
    AND NOT EXISTS (SELECT FROM prism_crypt.job_part AS p JOIN pg_class AS c ON c.oid = p.relation
                    WHERE p.job = j.id AND NOT p.finished);
  IF FOUND THEN
    DELETE FROM prism_crypt.job_worker AS w
    WHERE w.job = worker.job AND (w.pid = worker.pid OR NOT prism_crypt._is_working(w.pid, w.started));
    PERFORM prism_crypt._drop_older_jobs(worker.job);
  END IF;
END $$;
COMMENT ON FUNCTION prism_crypt._finish_job(prism_crypt.job_worker) IS 'Ends a job with its last table. Internal';

-- After a check, tables with something left that could be changed are walked over again, until too many passes made no
-- progress. If there are no such tables, what is left is counted, and the other tables are finished: of those that were checked.
-- Others may have come meanwhile.
CREATE FUNCTION prism_crypt._record_check(worker prism_crypt.job_worker, parts regclass[], result prism_crypt._result)
  RETURNS prism_crypt._step
  LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
  max_fruitless CONSTANT integer := 10;
  due CONSTANT regclass[] := coalesce(result.due, '{}');
  left_in CONSTANT regclass[] := due || result.unreadable;
  reopened integer;
  moved boolean;
  step prism_crypt._step;
BEGIN
  PERFORM prism_crypt._require_update(worker.role, p.relation) FROM prism_crypt.job_part AS p
  WHERE p.job = worker.job AND NOT p.finished;
  WITH again AS (
    UPDATE prism_crypt.job_part AS p
    SET pass = p.pass + 1, next_block = 0, end_block = NULL, rows_in_last = p.rows_in_pass, rows_in_pass = 0,
        updated_at = clock_timestamp(),
        -- A trigger that puts old values back makes every pass as long as the one before.
        fruitless = p.fruitless + (
          p.pass > 0 AND p.rows_in_pass = 0 OR p.pass > 1 AND p.rows_in_pass * 2 > p.rows_in_last)::integer
    WHERE p.job = worker.job AND p.relation = ANY (due) AND NOT p.finished AND p.fruitless < max_fruitless
    RETURNING p.pass = 1 OR p.rows_in_last > 0 AS moved
  )
  SELECT count(*), bool_or(a.moved) INTO reopened, moved FROM again AS a;
  IF reopened > 0 THEN
    UPDATE prism_crypt.job AS j SET checker_pid = NULL, checker_started = NULL WHERE j.id = worker.job;
    step.action := 'taken';
    step.seconds := CASE WHEN moved THEN 0 ELSE 0.5 END;
    RETURN step;
  END IF;
  UPDATE prism_crypt.job_part AS p
  SET is_counted = p.relation = ANY (left_in), finished = p.relation <> ALL (left_in), left_over = 0,
      left_unreadable = 0, updated_at = clock_timestamp()
  WHERE p.job = worker.job AND p.relation = ANY (parts) AND NOT p.finished;
  PERFORM prism_crypt._finish_job(worker);
  step.action := 'ending';
  RETURN step;
END $$;
COMMENT ON FUNCTION prism_crypt._record_check(prism_crypt.job_worker, regclass[], prism_crypt._result) IS
  'Begins the next pass over tables, or ends them. Internal';

CREATE FUNCTION prism_crypt._record_count(worker prism_crypt.job_worker, relation regclass, result prism_crypt._result)
  RETURNS void
  LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
BEGIN
  PERFORM prism_crypt._require_update(worker.role, _record_count.relation),
    prism_crypt._require_number('left_over', result.left_over, 1e12),
    prism_crypt._require_number('left_unreadable', result.left_unreadable, 1e12);
  UPDATE prism_crypt.job_part AS p
  SET finished = true, left_over = result.left_over, left_unreadable = result.left_unreadable, updated_at = clock_timestamp()
  WHERE p.job = worker.job AND p.relation = _record_count.relation AND p.is_counted AND NOT p.finished;
  PERFORM prism_crypt._finish_job(worker);
END $$;
COMMENT ON FUNCTION prism_crypt._record_count(prism_crypt.job_worker, regclass, prism_crypt._result) IS
  'Ends a table with something left, and the job with the last one. Internal';

-- Records the result of a step. A check counts only if its worker still has it; another worker may have taken it over. Gives the
-- next step, if that is already known.
CREATE FUNCTION prism_crypt._record_step(token uuid, step prism_crypt._step, result prism_crypt._result) RETURNS prism_crypt._step
  LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  worker CONSTANT prism_crypt.job_worker := prism_crypt._worker(token);
  range prism_crypt.job_range;
BEGIN
  IF step.action IN ('batch', 'find') THEN
    range := prism_crypt._range_of(worker, step.range_id);
    IF range.by_index THEN
      PERFORM prism_crypt._record_places(worker, range, result);
    ELSIF NOT range.by_index THEN
      RETURN prism_crypt._record_batch(worker, range, result);
    END IF;
  ELSE
    -- Not FOR UPDATE, because foreign-key checks of other workers would wait for that.
    PERFORM FROM prism_crypt.job AS j
    WHERE j.id = worker.job AND j.checker_pid = worker.pid AND j.checker_started = worker.started FOR NO KEY UPDATE;
    IF FOUND AND step.action = 'check' THEN
      RETURN prism_crypt._record_check(worker, step.parts, result);
    ELSIF FOUND AND step.action = 'count' THEN
      PERFORM prism_crypt._record_count(worker, step.relation, result);
    END IF;
  END IF;
  RETURN NULL;
END $$;
COMMENT ON FUNCTION prism_crypt._record_step(uuid, prism_crypt._step, prism_crypt._result) IS
  'Records the result of a worker''s step. Internal';

-- Ends this session's work on a job. If the job is not over and nobody else works on it, the next call goes on with it.
CREATE FUNCTION prism_crypt._leave_job(token uuid, error text, outcome text) RETURNS void
  LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
  worker prism_crypt.job_worker := prism_crypt._worker(token);
BEGIN
  IF worker.job IS NULL THEN
    RETURN;
  END IF;
  -- First, so that what follows sees workers that came meanwhile.
  PERFORM FROM prism_crypt.job AS j WHERE j.id = worker.job FOR NO KEY UPDATE;
  UPDATE prism_crypt.job AS j SET checker_pid = NULL, checker_started = NULL
  WHERE j.id = worker.job AND j.checker_pid = worker.pid AND j.checker_started = worker.started;
  -- Others can take at once what this session had taken.
  UPDATE prism_crypt.job_range AS r SET worker_started = '-infinity'
  WHERE r.job = worker.job AND r.worker_pid = worker.pid;
  DELETE FROM prism_crypt.job_worker AS w WHERE w.job = worker.job AND w.pid = worker.pid;
  UPDATE prism_crypt.job AS j
  SET state = CASE WHEN _leave_job.error IS NULL THEN 'pending' ELSE 'failed' END, error = left(_leave_job.error, 200),
      checker_pid = NULL, checker_started = NULL, updated_at = clock_timestamp()
  WHERE j.id = worker.job AND j.state = 'running' AND _leave_job.outcome IS NOT NULL
    AND NOT EXISTS (SELECT FROM prism_crypt.job_worker AS w
                    WHERE w.job = j.id AND prism_crypt._is_working(w.pid, w.started));
  IF prism_crypt._state_of_job(worker.job) = 'cancelled' THEN
    PERFORM prism_crypt._drop_ranges(worker.job);
  END IF;
END $$;
COMMENT ON FUNCTION prism_crypt._leave_job(uuid, text, text) IS 'Ends this session''s work on a job. Internal';

-- sql/jobs/session.sql

-- What a session keeps while it works on a job, how long it waits, and what it reports.

CREATE TYPE prism_crypt._work AS (
  -- What was asked for. `arguments` is the scope, and what may differ from call to call.
  kind         prism_crypt.job_kind,
  relation     regclass,
  column_name  name,
  scope        jsonb,
  arguments    jsonb,
  limits       prism_crypt._limits,
  -- Whether it waits while a job is paused, and waits long for other sessions. A call with other tables to do does not.
  patient      boolean,
  -- Batches of this call, also those of other tables.
  batches      integer,
  -- The job, and the token that this session shows when it records a step.
  job          bigint,
  token        uuid,
  target       text,
  -- The plan for the table of the last step; and the next step, if recording the last one gave it.
  plan         prism_crypt._plan,
  step         prism_crypt._step,
  -- How often this step was tried in vain.
  tries        integer,
  rows_done    bigint,
  -- By _uptime(): when it last did anything, and when the limits let it go on. Whether standbys have to be checked.
  worked_at    double precision,
  resume_at    double precision,
  asks_standby boolean,
  -- How long to sleep before the next step.
  seconds      double precision,
  last_notice  double precision,
  -- What it has reported and must not report again: paused, lag, end.
  said         text,
  -- Null while there is more to do: stopped (max_batches), cancelled, over, left (to other sessions) or failed.
  outcome      text,
  failure      prism_crypt._failure,
  is_over      boolean
);
COMMENT ON TYPE prism_crypt._work IS 'What a session does for a job, and has done. No position: that is in the tables. Internal';

CREATE FUNCTION prism_crypt._work_of(
  kind text, relation regclass, column_name name, scope jsonb, arguments jsonb, limits prism_crypt._limits, patient boolean,
  batches integer
) RETURNS prism_crypt._work
  LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  work prism_crypt._work;
BEGIN
  work.kind := prism_crypt._kind_of_job(kind);
  work.relation := relation;
  work.column_name := column_name;
  work.scope := scope;
  work.arguments := scope || arguments;
  work.limits := limits;
  work.patient := patient;
  work.batches := batches;
  work.tries := 0;
  work.rows_done := 0;
  work.seconds := 0;
  work.worked_at := prism_crypt._uptime();
  work.resume_at := 0;
  work.last_notice := work.worked_at;
  work.said := '';
  work.is_over := false;
  RETURN work;
END $$;
COMMENT ON FUNCTION prism_crypt._work_of(text, regclass, name, jsonb, jsonb, prism_crypt._limits, boolean, integer) IS
  'What a session is to do. Internal';

-- A batch that failed because of others is tried again with an eighth of its rows, and so on to a single row, because fewer rows
-- meet fewer others. After ten times it leaves them to the next pass. If a batch is less than a block, rows are counted exactly,
-- which stripes would not allow.
CREATE FUNCTION prism_crypt._as_planned(
  step prism_crypt._step, plan prism_crypt._plan, limits prism_crypt._limits, tries integer
) RETURNS prism_crypt._step
  LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
  step.skips := tries >= 10;
  step.batch_size := CASE WHEN step.skips THEN limits.batch_size ELSE greatest(limits.batch_size >> 3 * greatest(tries - 1, 0), 1) END;
  IF step.places IS NULL AND step.batch_size < plan.rows_per_block THEN
    step.careful := true;
    step.from_place := CASE WHEN step.stripes > 1 THEN step.place ELSE step.from_place END;
    step.stripe := 0;
    step.stripes := 1;
  END IF;
  step.stripes := coalesce(step.stripes, plan.stripes);
  RETURN step;
END $$;
COMMENT ON FUNCTION prism_crypt._as_planned(prism_crypt._step, prism_crypt._plan, prism_crypt._limits, integer) IS
  'How a step is to be run. Internal';

-- After a step: counts its rows, waits as the limits require, and reports progress, at most every five seconds.
CREATE FUNCTION prism_crypt._account(INOUT work prism_crypt._work, rows bigint, began double precision)
  LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  limits CONSTANT prism_crypt._limits := work.limits;
BEGIN
  IF (work.step).action = 'ending' THEN
    RAISE NOTICE '%: %: %', work.target, (work.kind).rows_changed, work.rows_done;
    work.said := 'end';
    work.step := NULL;
  ELSIF (work.step).action = 'taken' THEN
    work.seconds := (work.step).seconds;
    work.step := NULL;
  END IF;
  IF rows > 0 THEN
    work.rows_done := work.rows_done + rows;
    work.batches := work.batches + 1;
    IF work.batches >= limits.max_batches THEN
      work.outcome := 'stopped';
    END IF;
    work.resume_at := coalesce(greatest(
      work.worked_at + EXTRACT(epoch FROM limits.pause),
      CASE WHEN limits.max_rows_per_second > 0 THEN began + least(rows / limits.max_rows_per_second, 1e9) END), 0);
    work.asks_standby := limits.max_replica_lag IS NOT NULL;
    IF work.resume_at > 0 OR work.asks_standby THEN
      work.step := NULL;
    END IF;
  END IF;
  IF work.worked_at - work.last_notice > 5 AND work.said <> 'end' THEN
    RAISE NOTICE '%: % so far: % (job %)', (work.plan).target, (work.kind).rows_changed, work.rows_done, work.job
      USING HINT = 'prism_crypt.progress shows more.';
    work.last_notice := work.worked_at;
  END IF;
END $$;
COMMENT ON FUNCTION prism_crypt._account(prism_crypt._work, bigint, double precision) IS
  'Counts what a step has done. Internal';

-- There is nothing to do now: the job is paused, the limits require a wait, or others work on what is left. It waits in slices,
-- each in a transaction of its own, so that none holds back VACUUM.
CREATE FUNCTION prism_crypt._wait(INOUT work prism_crypt._work, action text)
  LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  now CONSTANT double precision := prism_crypt._uptime();
  -- How many seconds it waits for other sessions of the job.
  patience CONSTANT double precision := CASE WHEN work.patient THEN 600 ELSE 60 END;
BEGIN
  work.step := NULL;
  IF action = 'paused' THEN
    IF NOT work.patient THEN
      work.outcome := 'left';
      RETURN;
    ELSIF work.said NOT IN ('paused', 'end') THEN
      RAISE NOTICE 'job % is paused', work.job USING HINT = 'prism_crypt.resume_job() lets it go on.';
      work.said := 'paused';
    END IF;
    work.worked_at := now;
    work.seconds := 0.5;
  ELSIF action = 'pace' THEN
    work.worked_at := now;
    work.seconds := least(greatest(work.resume_at - now, 0), 0.5);
  ELSIF action = 'standby' THEN
    IF work.said <> 'lag' THEN
      RAISE NOTICE 'job % waits for a standby that is more than % bytes behind', work.job, (work.limits).max_replica_lag;
      work.said := 'lag';
    END IF;
    work.worked_at := now;
    work.seconds := 0.05;
  ELSE
    work.seconds := 0.02;
    IF now - work.worked_at > patience THEN
      work.outcome := 'left';
    END IF;
  END IF;
END $$;
COMMENT ON FUNCTION prism_crypt._wait(prism_crypt._work, text) IS 'How long a session waits. Internal';

-- What the caller is told at the end: a notice, or the error to be raised.
CREATE FUNCTION prism_crypt._report(INOUT work prism_crypt._work)
  LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  failure prism_crypt._failure := work.failure;
  done CONSTANT text := format('%s in this call: %s. They stay so.', initcap(left((work.kind).rows_changed, 1))
    || substr((work.kind).rows_changed, 2), work.rows_done);
BEGIN
  IF work.outcome = 'stopped' THEN
    RAISE NOTICE 'job % stopped; batches: %', work.job, work.batches USING HINT = 'The next call goes on with it.';
  ELSIF work.outcome = 'cancelled' THEN
    failure.code := '57014';
    failure.message := format('job %s was cancelled', work.job);
    failure.detail := done;
  ELSIF work.outcome = 'left' THEN
    failure.code := '55006';
    failure.message := format('job %s is paused, or other sessions still work on it', work.job);
    failure.detail := done;
    failure.hint := 'prism_crypt.progress shows it. A later call goes on.';
  ELSIF work.outcome = 'over' AND work.said <> 'end' THEN
    -- Another session made the last check.
    RAISE NOTICE '%: %: %', work.target, (work.kind).rows_changed, work.rows_done;
  END IF;
  work.failure := failure;
END $$;
COMMENT ON FUNCTION prism_crypt._report(prism_crypt._work) IS 'What is reported of a session''s work. Internal';

-- sql/jobs/run.sql

-- Running one step. Triggers of the table must run under the caller's own search_path. So functions that cause them to run can't
-- have a SET clause, and don't rely on search_path: every name and every operator is qualified.

CREATE FUNCTION prism_crypt._saw_unreadable() RETURNS boolean
  LANGUAGE c VOLATILE AS 'MODULE_PATHNAME', '_saw_unreadable_wrapper';
COMMENT ON FUNCTION prism_crypt._saw_unreadable() IS
  'Whether this session met values that can''t be rotated, since the last call. Internal';

-- The statements use the table's name. Another table may have taken that name. Row-level security may also have been switched
-- on, which hides rows; the setting row_security would affect the table's triggers, too.
CREATE FUNCTION prism_crypt._require_same_table(plan prism_crypt._plan) RETURNS void
  LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
  IF to_regclass(plan.table_name) IS DISTINCT FROM plan.relation THEN
    RAISE undefined_table USING
      MESSAGE = format('relation "%s" does not exist', plan.table_name),
      DETAIL = format('It was dropped or renamed while job %s worked on it.', plan.job);
  ELSIF row_security_active(plan.relation::oid) THEN
    RAISE insufficient_privilege USING
      MESSAGE = format('row-level security may hide rows of "%s" from this role', plan.relation),
      HINT = 'Let the owner of the table rotate it, or a role with BYPASSRLS.';
  END IF;
END $$;
COMMENT ON FUNCTION prism_crypt._require_same_table(prism_crypt._plan) IS
  'Raises an error if a name now belongs to another table, or if its rows are hidden. Internal';

CREATE FUNCTION prism_crypt._end_deferral() RETURNS void
  LANGUAGE c VOLATILE AS 'MODULE_PATHNAME', '_end_deferral_wrapper';
COMMENT ON FUNCTION prism_crypt._end_deferral() IS 'From now on, nothing can be deferred to the end of this transaction. Internal';

-- The one place that executes statements which change or lock something in the table.
CREATE FUNCTION prism_crypt._execute(
  statement text, from_place tid, to_place tid, number integer, stripes integer, places tid[], OUT rows bigint, OUT chosen tid[]
) LANGUAGE plpgsql VOLATILE AS $$
BEGIN
  IF pg_catalog.starts_with(statement, 'SELECT') THEN
    EXECUTE statement INTO chosen USING from_place, to_place, number, stripes, places;
  ELSE
    EXECUTE statement USING from_place, to_place, number, stripes, places;
    GET DIAGNOSTICS rows = ROW_COUNT;
  END IF;
END $$;
COMMENT ON FUNCTION prism_crypt._execute(text, tid, tid, integer, integer, tid[]) IS
  'Executes a statement of a plan. Internal';

-- The careful way: locks up to batch_size rows that can be changed and that nobody else has locked, then changes them. So it
-- waits for no row, and no row can change between the choice and the update. Gives the place where the next batch begins.
CREATE FUNCTION prism_crypt._change_locked(
  plan prism_crypt._plan, from_place tid, to_place tid, batch_size integer, OUT rows bigint, OUT reached tid
) LANGUAGE plpgsql VOLATILE AS $$
DECLARE
  places CONSTANT pg_catalog.tid[] := (prism_crypt._execute(plan.lock_range, from_place, to_place, batch_size, NULL, NULL)).chosen;
BEGIN
  rows := (prism_crypt._execute(plan.update_locked, NULL, NULL, NULL, NULL, places)).rows;
  reached := to_place;
  IF pg_catalog.cardinality(places) OPERATOR(pg_catalog.=) batch_size THEN
    -- A row that changed meanwhile was chosen at its new place, which may be far behind the others.
    reached := coalesce(
      (SELECT pg_catalog.max(place) FROM pg_catalog.unnest(places) AS place
       WHERE place OPERATOR(pg_catalog.<) to_place), to_place);
  END IF;
END $$;
COMMENT ON FUNCTION prism_crypt._change_locked(prism_crypt._plan, tid, tid, integer) IS 'Changes rows after locking them. Internal';

-- One batch at places that an index gave.
CREATE FUNCTION prism_crypt._change_places(plan prism_crypt._plan, step prism_crypt._step) RETURNS bigint
  LANGUAGE plpgsql VOLATILE AS $$
DECLARE
  places CONSTANT pg_catalog.tid[] := step.places[1:step.batch_size];
  block bigint;
  rows bigint := 0;
BEGIN
  IF step.skips THEN
    RETURN 0;
  ELSIF NOT step.careful THEN
    RETURN (prism_crypt._execute(plan.update_places, NULL, NULL, NULL, NULL, places)).rows;
  END IF;
  FOR block IN SELECT DISTINCT prism_crypt._block(place) FROM pg_catalog.unnest(places) AS place LOOP
    rows := rows OPERATOR(pg_catalog.+) (prism_crypt._change_locked(
      plan, prism_crypt._tid(block), prism_crypt._tid(block OPERATOR(pg_catalog.+) 1), step.batch_size)).rows;
  END LOOP;
  RETURN rows;
END $$;
COMMENT ON FUNCTION prism_crypt._change_places(prism_crypt._plan, prism_crypt._step) IS
  'Changes rows that an index found. Internal';

-- One batch of a range. While it searches, it goes to the next row that is due; otherwise it takes the rows as they come.
CREATE FUNCTION prism_crypt._change_range(
  plan prism_crypt._plan, step prism_crypt._step, OUT rows bigint, OUT reached tid
) LANGUAGE plpgsql VOLATILE AS $$
DECLARE
  window_start pg_catalog.tid := step.from_place;
  window_end pg_catalog.tid;
  blocks CONSTANT bigint := GREATEST(1, pg_catalog.floor(
    step.batch_size OPERATOR(pg_catalog.*) step.stripes OPERATOR(pg_catalog./) plan.rows_per_block));
  place pg_catalog.tid;
  changed pg_catalog.record;
BEGIN
  IF step.searching THEN
    place := (prism_crypt._execute(plan.find, step.from_place, step.to_place, NULL, NULL, NULL)).chosen[1];
    IF place IS NULL THEN
      rows := 0;
      reached := step.to_place;
      RETURN;
    END IF;
    window_start := GREATEST(step.from_place, prism_crypt._tid(prism_crypt._block(place)));
  END IF;
  window_end := LEAST(prism_crypt._tid(prism_crypt._block(window_start) OPERATOR(pg_catalog.+) blocks), step.to_place);
  IF step.skips THEN
    rows := 0;
    reached := window_end;
  ELSIF step.careful THEN
    changed := prism_crypt._change_locked(plan, window_start, window_end, step.batch_size);
    rows := changed.rows;
    reached := changed.reached;
  ELSE
    rows := (prism_crypt._execute(
      CASE WHEN step.stripe OPERATOR(pg_catalog.<) (step.stripes OPERATOR(pg_catalog.-) 1) THEN plan.update_stripe
           ELSE plan.update_range END,
      window_start, window_end, step.stripe, step.stripes, NULL)).rows;
    reached := window_end;
  END IF;
END $$;
COMMENT ON FUNCTION prism_crypt._change_range(prism_crypt._plan, prism_crypt._step) IS
  'Changes rows of a range of blocks. Internal';

-- One batch. The fast way is a single statement that gives up as soon as a row is locked, because others that wait for rows of
-- this batch must not wait long. Then the batch is tried again the careful way.
CREATE FUNCTION prism_crypt._run_batch(plan prism_crypt._plan, step prism_crypt._step, limits prism_crypt._limits)
  RETURNS prism_crypt._result LANGUAGE plpgsql VOLATILE AS $$
DECLARE
  own_timeout CONSTANT pg_catalog.text := pg_catalog.current_setting('lock_timeout');
  result prism_crypt._result;
  changed pg_catalog.record;
BEGIN
  result.stripes := step.stripes;
  PERFORM prism_crypt._require_same_table(plan);
  IF NOT limits.fire_triggers THEN
    PERFORM pg_catalog.set_config('session_replication_role', 'replica', true);
  END IF;
  IF NOT step.careful THEN
    PERFORM pg_catalog.set_config('lock_timeout', '10ms', true);
  END IF;
  IF step.places IS NOT NULL THEN
    result.rows := prism_crypt._change_places(plan, step);
  ELSE
    changed := prism_crypt._change_range(plan, step);
    result.rows := changed.rows;
    result.reached := changed.reached;
  END IF;
  IF NOT step.careful THEN
    PERFORM pg_catalog.set_config('lock_timeout', own_timeout, true);
  END IF;
  -- The locks of the statements keep the table as it is. What was deferred to the commit is done now, so that an error belongs to
  -- this table and not to the commit.
  PERFORM prism_crypt._require_same_table(plan), prism_crypt._end_deferral();
  SET CONSTRAINTS ALL IMMEDIATE;
  RETURN result;
END $$;
COMMENT ON FUNCTION prism_crypt._run_batch(prism_crypt._plan, prism_crypt._step, prism_crypt._limits) IS 'Runs one batch. Internal';

-- Places of rows that an index finds. Null if there is no index, or if more than one row in twenty is due: then most blocks have
-- such a row, and walking over the table is cheaper.
CREATE FUNCTION prism_crypt._find_places(plan prism_crypt._plan) RETURNS tid[]
  LANGUAGE plpgsql VOLATILE AS $$
DECLARE
  most CONSTANT integer := LEAST(GREATEST(1000, (SELECT c.reltuples FROM pg_catalog.pg_class AS c
    WHERE c.oid OPERATOR(pg_catalog.=) plan.relation) OPERATOR(pg_catalog./) 20), 1000000);
  places pg_catalog.tid[];
BEGIN
  IF plan.find_by_index IS NULL THEN
    RETURN NULL;
  END IF;
  PERFORM prism_crypt._require_same_table(plan), pg_catalog.set_config('row_security', 'off', true);
  places := coalesce((prism_crypt._execute(plan.find_by_index, NULL, NULL, most, NULL, NULL)).chosen, '{}');
  RETURN CASE WHEN pg_catalog.cardinality(places) OPERATOR(pg_catalog.<) most THEN places END;
END $$;
COMMENT ON FUNCTION prism_crypt._find_places(prism_crypt._plan) IS 'Finds rows by an index. Internal';

-- Looks for values that are left in all tables of a job, with one snapshot. A walk is not enough, because an UPDATE of another
-- column copies an old value, maybe to a block or a partition that the walk has already passed. Gives the tables with something
-- left that could be changed, and those with something left that could not. It is STABLE because such a function uses one
-- snapshot, that of its caller; that is also why it executes its statements itself.
--
-- The locks of fifty tables at a time are released with a subtransaction that is always rolled back, by an error of our own. A
-- table that was rewritten or truncated between the snapshot and its lock may look empty: its file is not the one in the snapshot,
-- so it counts as due. A table without blocks has no rows in any snapshot, and is not even locked.
CREATE FUNCTION prism_crypt._check_parts(
  kind prism_crypt.job_kind, job bigint, parts regclass[], column_name name, scope jsonb
) RETURNS prism_crypt._result LANGUAGE plpgsql STABLE AS $$
DECLARE
  result prism_crypt._result;
  at_once CONSTANT integer := 50;
  first integer := 1;
  part pg_catalog.regclass;
  plan prism_crypt._plan;
  file pg_catalog.oid;
  place pg_catalog.tid;
  done boolean;
BEGIN
  result.due := '{}';
  result.unreadable := '{}';
  -- A policy that was added meanwhile must not hide what is left: PostgreSQL raises an error instead.
  PERFORM pg_catalog.set_config('row_security', 'off', true);
  WHILE first OPERATOR(pg_catalog.<=) pg_catalog.cardinality(parts) LOOP
    BEGIN
      done := false;
      FOREACH part IN ARRAY parts[first:first OPERATOR(pg_catalog.+) at_once OPERATOR(pg_catalog.-) 1] LOOP
        -- pg_class is read with the snapshot; the function beside it gives the current state. A dropped table counts as done.
        SELECT c.relfilenode INTO file FROM pg_catalog.pg_class AS c WHERE c.oid OPERATOR(pg_catalog.=) part;
        CONTINUE WHEN file IS NULL OR coalesce(pg_catalog.pg_relation_size(part), 0) OPERATOR(pg_catalog.=) 0
          AND coalesce(pg_catalog.pg_relation_filenode(part), file) OPERATOR(pg_catalog.=) file;
        plan := prism_crypt._plan_part(kind, job, part, column_name, scope);
        PERFORM prism_crypt._saw_unreadable();
        EXECUTE plan.find_any INTO place;
        -- It is locked now.
        PERFORM prism_crypt._require_same_table(plan);
        IF place IS NOT NULL OR pg_catalog.pg_relation_filenode(part) OPERATOR(pg_catalog.<>) file THEN
          result.due := pg_catalog.array_append(result.due, part);
        END IF;
        IF prism_crypt._saw_unreadable() OR plan.hides_rest THEN
          result.unreadable := pg_catalog.array_append(result.unreadable, part);
        END IF;
      END LOOP;
      done := true;
      RAISE SQLSTATE 'PC000';
    EXCEPTION WHEN SQLSTATE 'PC000' THEN
      IF NOT done THEN
        RAISE;
      END IF;
    END;
    first := first OPERATOR(pg_catalog.+) at_once;
  END LOOP;
  RETURN result;
END $$;
COMMENT ON FUNCTION prism_crypt._check_parts(prism_crypt.job_kind, bigint, regclass[], name, jsonb) IS
  'Looks for values that are left. Internal';

CREATE FUNCTION prism_crypt._count_rest(plan prism_crypt._plan) RETURNS prism_crypt._result LANGUAGE plpgsql VOLATILE AS $$
DECLARE
  result prism_crypt._result;
  reasons pg_catalog.text;
BEGIN
  PERFORM pg_catalog.set_config('row_security', 'off', true);
  EXECUTE plan.rest INTO result.left_over, result.left_unreadable, reasons;
  PERFORM prism_crypt._require_same_table(plan);
  IF result.left_unreadable OPERATOR(pg_catalog.>) 0 THEN
    RAISE WARNING '%: values that can''t be read, left as they are: %', plan.target, result.left_unreadable USING DETAIL = reasons;
  END IF;
  IF result.left_over OPERATOR(pg_catalog.>) 0 THEN
    RAISE WARNING '%: values that stayed as they were, locked by others or kept by a trigger: %', plan.target, result.left_over USING
      HINT = 'Call it again later.';
  END IF;
  RETURN result;
END $$;
COMMENT ON FUNCTION prism_crypt._count_rest(prism_crypt._plan) IS 'Counts what is left in a table, and says so. Internal';

CREATE FUNCTION prism_crypt._run_step(work prism_crypt._work) RETURNS prism_crypt._result LANGUAGE plpgsql VOLATILE AS $$
DECLARE
  step CONSTANT prism_crypt._step := work.step;
  plan CONSTANT prism_crypt._plan := work.plan;
  result prism_crypt._result;
BEGIN
  IF step.action OPERATOR(pg_catalog.=) 'batch' THEN
    result := prism_crypt._run_batch(plan, step, work.limits);
  ELSIF step.action OPERATOR(pg_catalog.=) 'find' THEN
    result.places := prism_crypt._find_places(plan);
  ELSIF step.action OPERATOR(pg_catalog.=) 'check' THEN
    result := prism_crypt._check_parts(work.kind, work.job, step.parts, work.column_name, work.arguments);
  ELSIF step.action OPERATOR(pg_catalog.=) 'count' THEN
    result := prism_crypt._count_rest(plan);
  END IF;
  result.batch_size := step.batch_size;
  RETURN result;
END $$;
COMMENT ON FUNCTION prism_crypt._run_step(prism_crypt._work) IS 'Runs a step. Internal';

-- sql/jobs/work.sql

-- The engine: one loop for all long work. It asks for the next step, runs and records it, commits, sleeps, and asks again.

-- Opens the job, or says why not: a problem with one table concerns that table only. Makes a plan for one of the parts, because
-- that shows errors in the arguments.
CREATE FUNCTION prism_crypt._begin_work(INOUT work prism_crypt._work)
  LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  started record;
BEGIN
  EXECUTE format('SELECT %s($1, $2, $3)', (work.kind).checks) USING work.relation, work.column_name, work.arguments;
  started := prism_crypt._start_job(
    (work.kind).name, work.relation, work.column_name, work.scope, prism_crypt._note_caller());
  IF started.part IS NOT NULL THEN
    work.plan := prism_crypt._plan_part(work.kind, started.job, started.part, work.column_name, work.arguments);
  END IF;
  work.job := started.job;
  work.token := started.token;
  work.target := prism_crypt._target_name(work.relation, work.column_name);
END $$;
COMMENT ON FUNCTION prism_crypt._begin_work(prism_crypt._work) IS 'Opens the job of a session''s work. Internal';

-- One step: asks for it, runs it and records it. This is the one place that catches errors: an error is kept until the job is left
-- in good order, and raised then. A batch that fails without having locked its rows first is tried again with locks, and so is a
-- step that fails because somebody else was faster.
CREATE FUNCTION prism_crypt._take_step(INOUT work prism_crypt._work) LANGUAGE plpgsql VOLATILE AS $$
DECLARE
  began CONSTANT double precision := prism_crypt._uptime();
  action pg_catalog.text;
  step prism_crypt._step;
  result prism_crypt._result;
  failure prism_crypt._failure;
BEGIN
  work.seconds := 0;
  PERFORM prism_crypt._bound_waits();
  IF work.outcome IS NOT NULL THEN
    PERFORM prism_crypt._leave_job(
      work.token, CASE WHEN work.outcome OPERATOR(pg_catalog.=) 'failed' THEN prism_crypt._describe_failure(work.failure) END,
      work.outcome);
    work.is_over := true;
    RETURN;
  ELSIF work.token IS NULL THEN
    work := prism_crypt._begin_work(work);
    RETURN;
  END IF;
  IF (work.step).action IS NULL THEN
    work.step := prism_crypt._next_step(
      work.token, began OPERATOR(pg_catalog.<) work.resume_at,
      CASE WHEN work.asks_standby THEN (work.limits).max_replica_lag END, work.tries OPERATOR(pg_catalog.>) 0);
  END IF;
  action := (work.step).action;
  work.asks_standby := work.asks_standby AND action OPERATOR(pg_catalog.=) ANY (ARRAY['pace', 'standby', 'paused']);
  IF action OPERATOR(pg_catalog.<>) ALL (ARRAY['check', 'count']) THEN
    -- What a crash takes back is done again, so this commit need not wait for the disk. The commit that ends or leaves a job does
    -- wait, and makes all earlier ones durable.
    PERFORM pg_catalog.set_config('synchronous_commit', 'off', true);
  END IF;
  IF action OPERATOR(pg_catalog.=) ANY (ARRAY['cancelled', 'over']) THEN
    work.outcome := action;
  ELSIF action OPERATOR(pg_catalog.=) ANY (ARRAY['wait', 'pace', 'standby', 'paused']) THEN
    work := prism_crypt._wait(work, action);
  ELSIF action OPERATOR(pg_catalog.=) 'taken' THEN
    work.step := NULL;
  ELSE
    -- Anew with each pass, and before the end: columns may have come, or indexes.
    IF (work.step).relation IS NOT NULL AND (action OPERATOR(pg_catalog.=) ANY (ARRAY['find', 'count'])
         OR coalesce((work.plan).relation OPERATOR(pg_catalog.<>) (work.step).relation, true)) THEN
      work.plan := prism_crypt._plan_part(work.kind, work.job, (work.step).relation, work.column_name, work.arguments);
    END IF;
    step := prism_crypt._as_planned(work.step, work.plan, work.limits, work.tries);
    work.step := step;
    result := prism_crypt._run_step(work);
    work.worked_at := prism_crypt._uptime();
    result.busy_seconds := work.worked_at OPERATOR(pg_catalog.-) began;
    work.step := prism_crypt._record_step(work.token, step, result);
    work := prism_crypt._account(work, coalesce(result.rows, 0), began);
    -- Where there is no end of conflicts, the next batch is not tried as often.
    work.tries := CASE WHEN step.skips THEN 8 ELSE 0 END;
  END IF;
EXCEPTION WHEN OTHERS OR assert_failure THEN
  work.step := NULL;
  IF work.outcome IS NOT NULL THEN
    -- Without the row of its worker, the job is `interrupted`, and a call goes on with it.
    work.is_over := true;
  ELSIF work.tries OPERATOR(pg_catalog.<) 10 AND (
          step.action OPERATOR(pg_catalog.=) 'batch' AND NOT step.careful OR SQLSTATE OPERATOR(pg_catalog.=) ANY (ARRAY['40001', '40P01'])) THEN
    -- At random, so that sessions which are in each other's way part.
    work.seconds := 0.02 OPERATOR(pg_catalog.*) work.tries OPERATOR(pg_catalog.*) pg_catalog.random();
    work.tries := work.tries OPERATOR(pg_catalog.+) 1;
  ELSE
    GET STACKED DIAGNOSTICS
      failure.code = RETURNED_SQLSTATE, failure.message = MESSAGE_TEXT, failure.detail = PG_EXCEPTION_DETAIL,
      failure.hint = PG_EXCEPTION_HINT, failure.context = PG_EXCEPTION_CONTEXT, failure.schema_name = SCHEMA_NAME,
      failure.table_name = TABLE_NAME, failure.column_name = COLUMN_NAME, failure.constraint_name = CONSTRAINT_NAME,
      failure.datatype_name = PG_DATATYPE_NAME;
    work.failure := failure;
    work.outcome := 'failed';
  END IF;
END $$;
COMMENT ON FUNCTION prism_crypt._take_step(prism_crypt._work) IS 'Takes one step of a job. Internal';

-- The loop. A procedure that commits can neither be SECURITY DEFINER nor have a SET clause. Its state is in the tables, so
-- whatever ends it, another session can go on at the same place.
CREATE PROCEDURE prism_crypt._work_on(INOUT work prism_crypt._work) LANGUAGE plpgsql AS $$
BEGIN
  LOOP
    COMMIT;
    -- The server's default may be a level at which a concurrent change is an error.
    SET TRANSACTION ISOLATION LEVEL READ COMMITTED;
    EXIT WHEN work.is_over;
    PERFORM prism_crypt._sleep(work.seconds);
    work := prism_crypt._take_step(work);
  END LOOP;
  work := prism_crypt._report(work);
END $$;
COMMENT ON PROCEDURE prism_crypt._work_on(prism_crypt._work) IS 'Works on a job until it ends, or its limits do. Internal';

-- sql/jobs/control.sql

-- Who may see and control jobs; pausing, resuming and cancelling them from any session.

-- What a role may do with a job:
--   control  it may rotate keys, or update the table; where the table is gone, it asked for the job
--   see      it may ask for the status of everything, or asked for the job
--   null     the job does not exist for it
CREATE FUNCTION prism_crypt._right_to_job(role oid, job prism_crypt.job) RETURNS text
  LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
  SELECT CASE
    WHEN has_function_privilege($1, 'prism_crypt.rotate_key(text, text)', 'EXECUTE')
      OR coalesce(has_any_column_privilege($1, ($2).relation::oid, 'UPDATE'), pg_has_role($1, ($2).owner, 'USAGE'))
      THEN 'control'
    WHEN has_function_privilege($1, 'prism_crypt.status()', 'EXECUTE') OR pg_has_role($1, ($2).owner, 'USAGE') THEN 'see' END
$$;
COMMENT ON FUNCTION prism_crypt._right_to_job(oid, prism_crypt.job) IS 'What a role may do with a job. Internal';

CREATE FUNCTION prism_crypt._require_control(role oid, job_id bigint, job prism_crypt.job) RETURNS void
  LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  access_to_job CONSTANT text := prism_crypt._right_to_job(role, job);
BEGIN
  IF job.id IS NULL OR access_to_job IS NULL THEN
    RAISE undefined_object USING
      MESSAGE = format('job %s does not exist', job_id), HINT = 'prism_crypt.progress lists them.';
  ELSIF access_to_job <> 'control' THEN
    RAISE insufficient_privilege USING
      MESSAGE = format('permission denied for job %s', job_id),
      HINT = 'This needs UPDATE on the table, or access key_admin.';
  END IF;
END $$;
COMMENT ON FUNCTION prism_crypt._require_control(oid, bigint, prism_crypt.job) IS
  'Raises an error unless a role may control a job. Internal';

CREATE FUNCTION prism_crypt._set_job_state(job_id bigint, state text, note bigint) RETURNS void
  LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
  role CONSTANT oid := prism_crypt._caller(note);
  own_timeout CONSTANT text := current_setting('lock_timeout');
  found_job prism_crypt.job;
  moment timestamptz;
BEGIN
  IF job_id IS NULL THEN
    RAISE null_value_not_allowed USING MESSAGE = 'id must not be null';
  ELSIF (_set_job_state.state = ANY ('{paused,running,cancelled}')) IS NOT TRUE THEN
    -- The other states come about by themselves; nobody can set them.
    RAISE invalid_parameter_value USING MESSAGE = 'state must be paused, running or cancelled';
  END IF;
  -- This comes before it waits for anything.
  SELECT * INTO found_job FROM prism_crypt.job AS j WHERE j.id = job_id;
  PERFORM prism_crypt._require_control(role, job_id, found_job);
  PERFORM prism_crypt._bound_waits();
  SELECT * INTO found_job FROM prism_crypt.job AS j WHERE j.id = job_id FOR NO KEY UPDATE;
  -- Workers that came since this transaction first looked.
  PERFORM pg_stat_clear_snapshot();
  PERFORM set_config('lock_timeout', own_timeout, true);
  PERFORM prism_crypt._require_control(role, job_id, found_job);
  IF found_job.state IN ('cancelled', 'incomplete', 'finished') THEN
    RAISE object_not_in_prerequisite_state USING MESSAGE = format('job %s is over', job_id),
      DETAIL = format('Its state is "%s".', found_job.state);
  ELSIF _set_job_state.state = 'running' AND found_job.state <> 'paused' THEN
    RAISE object_not_in_prerequisite_state USING MESSAGE = format('job %s is not paused', job_id),
      DETAIL = format('Its state is "%s".', found_job.state);
  END IF;
  moment := clock_timestamp();
  UPDATE prism_crypt.job AS j
  SET state = CASE
        WHEN _set_job_state.state = 'running' AND NOT EXISTS (
          SELECT FROM prism_crypt.job_worker AS w WHERE w.job = j.id AND prism_crypt._is_working(w.pid, w.started))
          THEN 'pending'
        ELSE _set_job_state.state END,
      updated_at = moment,
      finished_at = CASE _set_job_state.state WHEN 'cancelled' THEN moment END
  WHERE j.id = job_id AND j.state <> _set_job_state.state;
  IF _set_job_state.state = 'cancelled' THEN
    PERFORM prism_crypt._drop_ranges(job_id), prism_crypt._drop_older_jobs(job_id);
  END IF;
END $$;
COMMENT ON FUNCTION prism_crypt._set_job_state(bigint, text, bigint) IS 'Pauses, resumes or cancels a job. Internal';

CREATE FUNCTION prism_crypt.pause_job(id bigint) RETURNS void
  LANGUAGE sql SET search_path = pg_catalog, pg_temp
  AS $$ SELECT prism_crypt._set_job_state($1, 'paused', prism_crypt._note_caller()) $$;
COMMENT ON FUNCTION prism_crypt.pause_job(bigint) IS
  'Makes the sessions that work on a job wait after their batch, until resume_job() or cancel_job()';

CREATE FUNCTION prism_crypt.resume_job(id bigint) RETURNS void
  LANGUAGE sql SET search_path = pg_catalog, pg_temp
  AS $$ SELECT prism_crypt._set_job_state($1, 'running', prism_crypt._note_caller()) $$;
COMMENT ON FUNCTION prism_crypt.resume_job(bigint) IS 'Lets a paused job go on';

CREATE FUNCTION prism_crypt.cancel_job(id bigint) RETURNS void
  LANGUAGE sql SET search_path = pg_catalog, pg_temp
  AS $$ SELECT prism_crypt._set_job_state($1, 'cancelled', prism_crypt._note_caller()) $$;
COMMENT ON FUNCTION prism_crypt.cancel_job(bigint) IS
  'Ends a job for good; sessions that work on it stop after their batch. What they committed stays';

-- sql/jobs/progress.sql

-- How far jobs are, like pg_stat_progress_*.

-- Counts and times are limited where they are recorded, and again here, so that no sum can overflow.
CREATE FUNCTION prism_crypt._to_bigint(number numeric) RETURNS bigint
  LANGUAGE sql IMMUTABLE STRICT SET search_path = pg_catalog, pg_temp AS $$ SELECT least($1, 9e18)::bigint $$;
COMMENT ON FUNCTION prism_crypt._to_bigint(numeric) IS 'A sum, or the most that the column takes. Internal';

-- Each stripe of a range counts for its share of the blocks from `place` to the end.
CREATE FUNCTION prism_crypt._blocks_open(range prism_crypt.job_range) RETURNS double precision
  LANGUAGE sql IMMUTABLE SET search_path = pg_catalog, pg_temp AS $$
  SELECT greatest(range.end_block - prism_crypt._block(range.place), 0) - CASE WHEN range.stripes > 1 THEN
    greatest(range.end_block - prism_crypt._block(range.place), 0) * range.stripe::double precision / range.stripes
    + (prism_crypt._block(range.next_place) - prism_crypt._block(range.place))::double precision / range.stripes ELSE 0 END
$$;
COMMENT ON FUNCTION prism_crypt._blocks_open(prism_crypt.job_range) IS 'How many blocks of a range are not done. Internal';

CREATE FUNCTION prism_crypt._progress_of(
  jobs bigint[], OUT id bigint, OUT kind text, OUT target text, OUT state text, OUT pass integer, OUT workers integer[],
  OUT blocks_total bigint, OUT blocks_done bigint, OUT rows_done bigint, OUT rows_estimate bigint, OUT percent numeric,
  OUT rows_per_second numeric, OUT eta interval, OUT rows_left bigint, OUT values_unreadable bigint, OUT error text,
  OUT reason text, OUT created_by text, OUT created_at timestamptz, OUT started_at timestamptz, OUT updated_at timestamptz,
  OUT finished_at timestamptz
) RETURNS SETOF record
  LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
  WITH ranges AS (
    SELECT r.job, r.relation, sum(r.rows_done) AS rows_done, sum(least(r.busy_seconds, 1e12)) AS busy_seconds,
           sum(prism_crypt._blocks_open(r))::numeric AS blocks_open,
           max(r.updated_at) AS updated_at
    FROM prism_crypt.job_range AS r WHERE r.job = ANY ($1) GROUP BY r.job, r.relation
  ), parts AS (
    SELECT p.job, p.relation, p.pass, p.finished, p.left_over, p.left_unreadable,
           p.rows_done + coalesce(r.rows_done, 0) AS rows_done,
           least(p.busy_seconds, 1e12) + least(coalesce(r.busy_seconds, 0), 1e12) AS busy_seconds,
           greatest(p.updated_at, r.updated_at) AS updated_at,
           coalesce(nullif(p.end_block, 0), c.relpages, 0) AS blocks_total,
           -- Later passes are quick; only the first one counts.
           CASE WHEN p.finished OR p.pass > 1 THEN coalesce(nullif(p.end_block, 0), c.relpages, 0)
                ELSE greatest(p.next_block - coalesce(r.blocks_open, 0), 0) END AS blocks_done,
           least(greatest(c.reltuples, 0), 1e12)::numeric AS rows_estimate
    FROM prism_crypt.job_part AS p
    LEFT JOIN ranges AS r ON r.job = p.job AND r.relation = p.relation
    LEFT JOIN pg_class AS c ON c.oid = p.relation
    WHERE p.job = ANY ($1)
  ), sums AS (
    SELECT p.job, max(p.pass) AS pass, prism_crypt._to_bigint(sum(p.blocks_total)) AS blocks_total,
           prism_crypt._to_bigint(sum(p.blocks_done)) AS blocks_done, prism_crypt._to_bigint(sum(p.rows_done)) AS rows_done,
           prism_crypt._to_bigint(sum(p.rows_estimate)) AS rows_estimate,
           sum(p.busy_seconds) AS busy_seconds, max(p.updated_at) AS updated_at,
           prism_crypt._to_bigint(sum(p.left_over)) AS rows_left,
           prism_crypt._to_bigint(sum(p.left_unreadable)) AS values_unreadable
    FROM parts AS p GROUP BY p.job
  ), working AS (
    SELECT w.job, array_agg(w.pid ORDER BY w.pid) AS workers
    FROM prism_crypt.job_worker AS w WHERE w.job = ANY ($1) AND prism_crypt._is_working(w.pid, w.started) GROUP BY w.job
  )
  SELECT j.id, j.kind,
         coalesce(prism_crypt._qualified_name(j.relation), format('dropped table (OID %s)', j.relation::oid))
           || CASE WHEN j.column_name IS NULL THEN '' ELSE format('.%I', j.column_name) END,
         -- The workers are sessions of the primary.
         CASE WHEN j.state = 'running' AND w.workers IS NULL AND NOT pg_is_in_recovery() THEN 'interrupted'
              ELSE j.state END, s.pass,
         coalesce(w.workers, '{}'), s.blocks_total, s.blocks_done, s.rows_done, s.rows_estimate,
         CASE WHEN j.state IN ('finished', 'incomplete') THEN 100
              WHEN s.blocks_total > 0 THEN trunc(100.0 * s.blocks_done / s.blocks_total, 1) ELSE 0 END,
         round((s.rows_done / CASE WHEN s.busy_seconds > 1e-6 THEN s.busy_seconds END * greatest(cardinality(w.workers), 1))::numeric, 1),
         CASE WHEN j.state IN ('running', 'paused', 'failed', 'pending') AND s.blocks_done > 0 THEN
           make_interval(secs => least(s.busy_seconds / greatest(cardinality(w.workers), 1)
             * (s.blocks_total - s.blocks_done) / s.blocks_done, 1e11)) END,
         s.rows_left, s.values_unreadable, j.error, j.reason, j.created_by, j.created_at, j.started_at,
         greatest(j.updated_at, s.updated_at), j.finished_at
  FROM prism_crypt.job AS j LEFT JOIN sums AS s ON s.job = j.id LEFT JOIN working AS w ON w.job = j.id
  WHERE j.id = ANY ($1)
$$;
COMMENT ON FUNCTION prism_crypt._progress_of(bigint[]) IS 'How far jobs are. Internal';

CREATE FUNCTION prism_crypt._progress(
  note bigint, OUT id bigint, OUT kind text, OUT target text, OUT state text, OUT pass integer, OUT workers integer[],
  OUT blocks_total bigint, OUT blocks_done bigint, OUT rows_done bigint, OUT rows_estimate bigint, OUT percent numeric,
  OUT rows_per_second numeric, OUT eta interval, OUT rows_left bigint, OUT values_unreadable bigint, OUT error text,
  OUT reason text, OUT created_by text, OUT created_at timestamptz, OUT started_at timestamptz, OUT updated_at timestamptz,
  OUT finished_at timestamptz
) RETURNS SETOF record
  LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
  role CONSTANT oid := prism_crypt._caller(note);
BEGIN
  RETURN QUERY SELECT * FROM prism_crypt._progress_of(ARRAY(
    SELECT j.id FROM prism_crypt.job AS j WHERE prism_crypt._right_to_job(role, j) IS NOT NULL));
END $$;
COMMENT ON FUNCTION prism_crypt._progress(bigint) IS 'The rows of prism_crypt.progress. Internal';

CREATE VIEW prism_crypt.progress AS SELECT * FROM prism_crypt._progress(prism_crypt._note_caller());
COMMENT ON VIEW prism_crypt.progress IS 'Jobs and how far they are: those that a role may see';
COMMENT ON COLUMN prism_crypt.progress.id IS 'Number of the job, for pause_job(), resume_job() and cancel_job()';
COMMENT ON COLUMN prism_crypt.progress.kind IS 'What is done: rotation, or retagging after a new index key';
COMMENT ON COLUMN prism_crypt.progress.target IS 'Table, or table and column';
COMMENT ON COLUMN prism_crypt.progress.state IS
  'pending, running, interrupted (its workers are gone), paused, failed: a call goes on with it; '
  'cancelled, incomplete, finished: it is over';
COMMENT ON COLUMN prism_crypt.progress.pass IS 'Which walk over the table this is; 0 before the first check';
COMMENT ON COLUMN prism_crypt.progress.workers IS 'Processes that work on it now';
COMMENT ON COLUMN prism_crypt.progress.blocks_total IS 'Blocks of the table, and of its partitions, when the pass began';
COMMENT ON COLUMN prism_crypt.progress.blocks_done IS 'Blocks that are done';
COMMENT ON COLUMN prism_crypt.progress.rows_done IS 'Rows that were changed';
COMMENT ON COLUMN prism_crypt.progress.rows_estimate IS 'Rows of the table, by PostgreSQL''s statistics';
COMMENT ON COLUMN prism_crypt.progress.percent IS 'Share of the blocks that is done';
COMMENT ON COLUMN prism_crypt.progress.rows_per_second IS 'Rows changed a second of work, by all workers together';
COMMENT ON COLUMN prism_crypt.progress.eta IS 'Time that it will still take at this rate, waiting not counted';
COMMENT ON COLUMN prism_crypt.progress.rows_left IS 'At the end: values that stayed, locked or kept by a trigger';
COMMENT ON COLUMN prism_crypt.progress.values_unreadable IS 'At the end: values that can''t be read';
COMMENT ON COLUMN prism_crypt.progress.error IS 'What stopped it last';
COMMENT ON COLUMN prism_crypt.progress.reason IS 'Why it was asked for';
COMMENT ON COLUMN prism_crypt.progress.created_by IS 'Session user that asked for it';
COMMENT ON COLUMN prism_crypt.progress.created_at IS 'When it was asked for';
COMMENT ON COLUMN prism_crypt.progress.started_at IS 'When work on it began';
COMMENT ON COLUMN prism_crypt.progress.updated_at IS 'When it last moved';
COMMENT ON COLUMN prism_crypt.progress.finished_at IS 'When it was over';

-- sql/rotation/values.sql

-- What a rotation needs to know about types and values. Statements over other people's columns call these functions, so nobody
-- else may be able to have functions of these names.

CREATE FUNCTION prism_crypt._rotatable_kind(type oid) RETURNS text
  LANGUAGE c STABLE STRICT AS 'MODULE_PATHNAME', '_rotatable_kind_wrapper';
COMMENT ON FUNCTION prism_crypt._rotatable_kind(oid) IS
  'How values of a type are rotated: plain, nested or, if the column is named, bytes; null if they are not. Internal';

CREATE FUNCTION prism_crypt._is_rotatable(value encrypted_text) RETURNS boolean
  LANGUAGE c STABLE STRICT PARALLEL RESTRICTED AS 'MODULE_PATHNAME', '_is_rotatable_usual';
COMMENT ON FUNCTION prism_crypt._is_rotatable(encrypted_text) IS
  'Whether a value is under an old key that may be read, of whatever version and keyset. Internal';

CREATE FUNCTION prism_crypt._is_rotatable(value anyelement, from_version integer, keyset text) RETURNS boolean
  LANGUAGE c STABLE PARALLEL RESTRICTED AS 'MODULE_PATHNAME', '_is_rotatable_wrapper';
COMMENT ON FUNCTION prism_crypt._is_rotatable(anyelement, integer, text) IS
  'Whether a value is, or holds, one under an old key that may be read, or one with an outdated search tag. Internal';

CREATE FUNCTION prism_crypt._can_rotate(value anyelement, from_version integer, keyset text) RETURNS boolean
  LANGUAGE c STABLE PARALLEL RESTRICTED AS 'MODULE_PATHNAME', '_can_rotate_wrapper';
COMMENT ON FUNCTION prism_crypt._can_rotate(anyelement, integer, text) IS
  'Whether a value is, or holds, one under an old key, and it opens. Internal';

CREATE FUNCTION prism_crypt._rotation_error(value anyelement, from_version integer, keyset text) RETURNS text
  LANGUAGE c STABLE PARALLEL SAFE AS 'MODULE_PATHNAME', '_rotation_error_wrapper';
COMMENT ON FUNCTION prism_crypt._rotation_error(anyelement, integer, text) IS
  'Why a value can''t be re-encrypted; empty if it can, null if it need not be. Internal';

CREATE FUNCTION prism_crypt._reencrypt(value encrypted_text, keep boolean) RETURNS encrypted_text
  LANGUAGE c VOLATILE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', '_reencrypt_value_wrapper';
COMMENT ON FUNCTION prism_crypt._reencrypt(encrypted_text, boolean) IS
  'Re-encrypts a value; one that can''t be opened is an error, or kept. Internal';

CREATE FUNCTION prism_crypt._reencrypt(value anyelement, from_version integer, keyset text, keep boolean) RETURNS anyelement
  LANGUAGE c VOLATILE PARALLEL RESTRICTED AS 'MODULE_PATHNAME', '_reencrypt_wrapper';
COMMENT ON FUNCTION prism_crypt._reencrypt(anyelement, integer, text, boolean) IS
  'Re-encrypts what is rotatable in a value; what can''t be opened is an error, or kept. Internal';

CREATE FUNCTION prism_crypt._key_version(value encrypted_text) RETURNS integer
  LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'key_version_wrapper';
COMMENT ON FUNCTION prism_crypt._key_version(encrypted_text) IS 'As key_version(). Internal';

CREATE FUNCTION prism_crypt._key_version(value bytea) RETURNS integer
  LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'key_version_wrapper';
COMMENT ON FUNCTION prism_crypt._key_version(bytea) IS 'As key_version(). Internal';

-- sql/rotation/targets.sql

-- What may be rotated: tables, columns, key versions.

CREATE FUNCTION prism_crypt._check_rotatable_table(relation regclass) RETURNS void
  LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  root record;
BEGIN
  IF relation IS NULL THEN
    RAISE null_value_not_allowed USING MESSAGE = 'relation must not be null';
  END IF;
  SELECT c.relname, c.relkind, c.relpersistence, n.nspname INTO root
  FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace WHERE c.oid = relation;
  IF NOT FOUND THEN
    RAISE undefined_table USING MESSAGE = format('relation with OID %s does not exist', relation::oid);
  ELSIF root.relkind NOT IN ('r', 'p') THEN
    RAISE wrong_object_type USING
      MESSAGE = format('"%s" is not a table', root.relname),
      HINT = CASE root.relkind
        WHEN 'v' THEN 'Rotate the tables that the view reads.'
        WHEN 'm' THEN 'Rotate the tables that it reads, then REFRESH MATERIALIZED VIEW.'
        WHEN 'f' THEN 'Rotate it on its own server.'
        ELSE 'Name a table.' END;
  ELSIF root.nspname IN ('pg_catalog', 'pg_toast', 'information_schema', 'prism_crypt') THEN
    RAISE insufficient_privilege USING
      MESSAGE = format('permission denied: "%s" is a system table', root.relname);
  ELSIF root.relpersistence = 't' THEN
    RAISE wrong_object_type USING
      MESSAGE = format('"%s" is a temporary table', root.relname),
      HINT = 'Temporary tables end with their session, and are not rotated.';
  END IF;
END $$;
COMMENT ON FUNCTION prism_crypt._check_rotatable_table(regclass) IS
  'Raises an error if the relation to rotate is not an ordinary table. Internal';

-- PostgreSQL compares the bytes of a referenced value before and after an UPDATE: a new ciphertext counts as a new value. A
-- referenced table has triggers for its foreign keys, which an index finds; there is no such index for the constraints.
CREATE FUNCTION prism_crypt._check_referenced(tables regclass[], column_name name) RETURNS void
  LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_variable
DECLARE
  foreign_key record;
BEGIN
  SELECT c.conname, c.conrelid::regclass AS referring INTO foreign_key
  FROM unnest(tables) AS r
  CROSS JOIN LATERAL (SELECT t.tgconstraint FROM pg_trigger AS t WHERE t.tgrelid = r AND t.tgconstraint <> 0 OFFSET 0) AS t
  CROSS JOIN LATERAL (SELECT * FROM pg_constraint AS c WHERE c.oid = t.tgconstraint OFFSET 0) AS c
  WHERE c.contype = 'f' AND c.confrelid = r AND c.confupdtype IN ('n', 'd', 'r')
    AND EXISTS (
      SELECT FROM pg_attribute AS a
      WHERE a.attrelid = c.confrelid AND a.attnum = ANY (c.confkey)
        AND (column_name IS NULL OR a.attname = column_name)
        AND prism_crypt._rotatable_kind(a.atttypid) IN ('plain', 'nested'))
  ORDER BY c.conname LIMIT 1;
  IF FOUND THEN
    RAISE object_not_in_prerequisite_state USING
      MESSAGE = format('foreign key "%s" of %s would act on re-encrypted values', foreign_key.conname,
                       prism_crypt._qualified_name(foreign_key.referring)),
      DETAIL = 'ON UPDATE SET NULL, SET DEFAULT and RESTRICT take a new ciphertext for a new value.',
      HINT = 'Make it ON UPDATE CASCADE or NO ACTION.';
  END IF;
END $$;
COMMENT ON FUNCTION prism_crypt._check_referenced(regclass[], name) IS
  'Raises an error if a foreign key would act on values that are only re-encrypted. Internal';

-- Columns of a table, its partitions and its children that can be rotated: those of one name, or all that hold encrypted_text.
-- Only the types of these columns are checked, each once, not all types of the database.
CREATE FUNCTION prism_crypt._rotatable_columns(
  relation regclass, column_name name, OUT member oid, OUT relkind "char", OUT generated boolean
) RETURNS SETOF record
  LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
  WITH columns AS MATERIALIZED (
    SELECT t.member, t.relkind, c.atttypid, c.generated
    FROM prism_crypt._table_tree($1) AS t CROSS JOIN LATERAL (
      SELECT a.atttypid, a.attgenerated <> '' AS generated FROM pg_attribute AS a
      WHERE a.attrelid = t.member AND a.attnum > 0 AND NOT a.attisdropped AND ($2 IS NULL OR a.attname = $2)
      OFFSET 0) AS c
  ), types AS MATERIALIZED (
    SELECT d.type, prism_crypt._rotatable_kind(d.type) AS kind FROM (SELECT DISTINCT atttypid AS type FROM columns) AS d
  )
  SELECT c.member, c.relkind, c.generated FROM columns AS c JOIN types AS t ON t.type = c.atttypid
  WHERE t.kind IN ('plain', 'nested') OR $2 IS NOT NULL AND t.kind = 'bytes'
$$;
COMMENT ON FUNCTION prism_crypt._rotatable_columns(regclass, name) IS
  'Where a table with its partitions and children has columns to rotate. Internal';

CREATE FUNCTION prism_crypt._check_rotatable_column(relation regclass, column_name name) RETURNS void
  LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
  name_of text := (SELECT relname FROM pg_class WHERE oid = relation);
  column_type oid;
BEGIN
  IF column_name IS NULL THEN
    RETURN;
  END IF;
  SELECT atttypid INTO column_type FROM pg_attribute
  WHERE attrelid = relation AND attname = _check_rotatable_column.column_name AND attnum > 0 AND NOT attisdropped;
  IF NOT FOUND THEN
    RAISE undefined_column USING
      MESSAGE = format('column "%s" of relation "%s" does not exist', column_name, name_of);
  ELSIF prism_crypt._rotatable_kind(column_type) IS NULL THEN
    RAISE datatype_mismatch USING
      MESSAGE = format('column "%s" of relation "%s" is of type %s, not encrypted_text',
                       column_name, name_of, format_type(column_type, NULL));
  END IF;
END $$;
COMMENT ON FUNCTION prism_crypt._check_rotatable_column(regclass, name) IS
  'Raises an error if a column is named that can''t be rotated. Internal';

-- This checks as the current role, whose rights and row-level security count. _start_job() checks again. The scope does not
-- matter here.
CREATE FUNCTION prism_crypt._check_rotation(relation regclass, column_name name, scope jsonb) RETURNS void
  LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
  name_of text;
  tables regclass[];
  has_columns boolean;
  are_generated boolean;
  problem regclass;
BEGIN
  PERFORM prism_crypt._check_rotatable_table(relation), prism_crypt._check_rotatable_column(relation, column_name);
  SELECT relname INTO name_of FROM pg_class WHERE oid = relation;
  SELECT array_agg(DISTINCT c.member::regclass) FILTER (WHERE c.relkind = 'r' AND NOT c.generated), count(*) > 0,
         bool_and(c.generated)
    INTO tables, has_columns, are_generated
  FROM prism_crypt._rotatable_columns(relation, column_name) AS c;
  IF NOT has_columns THEN
    RAISE undefined_column USING
      MESSAGE = format('relation "%s" has no encrypted column', name_of),
      HINT = 'Name a bytea column to re-encrypt what encrypt_bytes() made.';
  ELSIF are_generated THEN
    RAISE undefined_column USING
      MESSAGE = format('relation "%s" has no column that could be rotated', name_of),
      HINT = 'A generated column follows the columns that it is generated from.';
  END IF;
  SELECT t INTO problem FROM unnest(tables) AS t WHERE row_security_active(t::oid) LIMIT 1;
  IF FOUND THEN
    RAISE insufficient_privilege USING
      MESSAGE = format('row-level security may hide rows of "%s" from this role', name_of),
      HINT = 'Let the owner of the table rotate it, or a role with BYPASSRLS.';
  END IF;
  SELECT t INTO problem FROM unnest(relation || tables) AS t
  WHERE NOT has_table_privilege(t::oid, 'SELECT') OR NOT has_any_column_privilege(t::oid, 'UPDATE') LIMIT 1;
  IF FOUND THEN
    RAISE insufficient_privilege USING
      MESSAGE = format('permission denied for table %s', prism_crypt._qualified_name(problem)),
      HINT = 'A rotation needs SELECT and UPDATE on the table and on each of its partitions and children.';
  END IF;
  PERFORM prism_crypt._check_referenced(relation || tables, column_name);
END $$;
COMMENT ON FUNCTION prism_crypt._check_rotation(regclass, name, jsonb) IS
  'Raises an error if this role can''t rotate a table. Internal';

CREATE FUNCTION prism_crypt._warn_of_foreign_tables(relation regclass) RETURNS void
  LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  foreign_tables text := (
    SELECT string_agg(prism_crypt._qualified_name(t.member), ', ')
    FROM prism_crypt._table_tree(relation) AS t WHERE t.relkind = 'f');
BEGIN
  IF foreign_tables IS NOT NULL THEN
    RAISE WARNING 'foreign tables are not rotated: %', foreign_tables USING HINT = 'Rotate them on their own server.';
  END IF;
END $$;
COMMENT ON FUNCTION prism_crypt._warn_of_foreign_tables(regclass) IS
  'Warns about partitions and children of a table that are foreign tables. Internal';

CREATE FUNCTION prism_crypt._check_rotation_scope(from_version integer, keyset text) RETURNS void
  LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
  key prism_crypt.data_key;
BEGIN
  IF _check_rotation_scope.from_version IS NOT NULL THEN
    SELECT * INTO key FROM prism_crypt.data_key AS k WHERE k.version = from_version;
    IF NOT FOUND THEN
      RAISE undefined_object USING
        MESSAGE = format('key version %s does not exist', from_version), HINT = 'prism_crypt.key_status lists them.';
    ELSIF key.state = 'active' THEN
      RAISE object_not_in_prerequisite_state USING
        MESSAGE = format('key version %s is the active one of its keyset', from_version),
        HINT = 'Call prism_crypt.rotate_key() first, so that there is a newer one.';
    END IF;
  END IF;
  IF _check_rotation_scope.keyset IS NOT NULL THEN
    PERFORM prism_crypt._require_keyset(
      _check_rotation_scope.keyset, 'prism_crypt.key_status lists them. NULL is every keyset.');
  END IF;
END $$;
COMMENT ON FUNCTION prism_crypt._check_rotation_scope(integer, text) IS
  'Raises an error for a version or keyset that can''t be rotated away. Internal';

CREATE FUNCTION prism_crypt._rotation_scope(from_version integer, keyset text) RETURNS jsonb
  LANGUAGE sql IMMUTABLE SET search_path = pg_catalog, pg_temp AS $$
  SELECT jsonb_strip_nulls(jsonb_build_object('from_version', $1, 'keyset', $2))
$$;
COMMENT ON FUNCTION prism_crypt._rotation_scope(integer, text) IS 'The scope of a rotation, as its job has it. Internal';

-- A generated column follows the columns that it is generated from. The scope must have exactly the form that it may have: with
-- ever new scopes, others could fill the table of jobs.
CREATE FUNCTION prism_crypt._rotation_parts(relation regclass, column_name name, scope jsonb) RETURNS regclass[]
  LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_variable
DECLARE
  from_version CONSTANT integer := scope ->> 'from_version';
  keyset CONSTANT text := scope ->> 'keyset';
BEGIN
  PERFORM prism_crypt._check_rotatable_table(relation), prism_crypt._check_rotatable_column(relation, column_name),
    prism_crypt._check_rotation_scope(from_version, keyset);
  IF scope IS DISTINCT FROM prism_crypt._rotation_scope(from_version, keyset) THEN
    RAISE invalid_parameter_value USING MESSAGE = 'the scope of a rotation is from_version and keyset';
  END IF;
  RETURN ARRAY(
    SELECT DISTINCT c.member::regclass FROM prism_crypt._rotatable_columns(relation, column_name) AS c
    WHERE c.relkind = 'r' AND NOT c.generated ORDER BY 1);
END $$;
COMMENT ON FUNCTION prism_crypt._rotation_parts(regclass, name, jsonb) IS
  'The tables that hold the rows of a table, if they have something to rotate. Internal';

-- A generated column follows automatically. Any other column is set together with the value.
CREATE FUNCTION prism_crypt._sets_key_version_column(
  relation regclass, column_name name, key_version_column name
) RETURNS boolean
  LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_variable
DECLARE
  key_type oid;
  generated "char";
BEGIN
  IF key_version_column IS NULL THEN
    RETURN false;
  ELSIF column_name IS NULL THEN
    RAISE invalid_parameter_value USING
      MESSAGE = 'key_version_column needs a column_name', HINT = 'It is the key version of one column.';
  END IF;
  SELECT a.atttypid, a.attgenerated INTO key_type, generated FROM pg_attribute AS a
  WHERE a.attrelid = relation AND a.attname = key_version_column AND a.attnum > 0 AND NOT a.attisdropped;
  IF key_type IS NULL THEN
    RAISE undefined_column USING
      MESSAGE = format('column "%s" of relation "%s" does not exist', key_version_column, relation);
  ELSIF key_type NOT IN ('int4'::regtype, 'int8'::regtype) THEN
    RAISE datatype_mismatch USING
      MESSAGE = format('column "%s" of relation "%s" is of type %s, not integer',
                       key_version_column, relation, format_type(key_type, NULL));
  ELSIF EXISTS (SELECT FROM pg_attribute AS a WHERE a.attrelid = relation AND a.attname = column_name
                AND a.attnum > 0 AND NOT a.attisdropped AND prism_crypt._rotatable_kind(a.atttypid) = 'nested') THEN
    RAISE datatype_mismatch USING
      MESSAGE = format('column "%s" of relation "%s" may hold several key versions', column_name, relation);
  END IF;
  RETURN generated = '';
END $$;
COMMENT ON FUNCTION prism_crypt._sets_key_version_column(regclass, name, name) IS
  'Whether a rotation sets a key-version column; raises an error if the column is not suitable. Internal';

-- sql/rotation/changes.sql

-- Rotation as a kind of job: which values are due, and what is done to them.

CREATE FUNCTION prism_crypt._has_outdated_tags() RETURNS boolean
  LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
  SELECT EXISTS (SELECT FROM prism_crypt.index_key WHERE state = 'active' AND retagged_at IS NULL)
$$;
COMMENT ON FUNCTION prism_crypt._has_outdated_tags() IS
  'Whether there may be search tags of a replaced index key. Internal';

-- The old key versions of a scope that may be read; whether there are disabled keys, and whether there may be outdated tags.
CREATE FUNCTION prism_crypt._rotation_keys(
  from_version integer, keyset text, OUT versions integer[], OUT has_disabled boolean, OUT has_outdated_tags boolean
) LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
  SELECT coalesce(array_agg(k.version) FILTER (
           WHERE k.state = 'decrypt_only' AND ($1 IS NULL OR k.version = $1) AND ($2 IS NULL OR k.keyset = $2)), '{}'),
         coalesce(bool_or(k.state = 'disabled'), false), prism_crypt._has_outdated_tags()
  FROM prism_crypt.data_key AS k
$$;
COMMENT ON FUNCTION prism_crypt._rotation_keys(integer, text) IS 'What a rotation needs to know about the keys. Internal';

-- The expression to search by, if there is an index on the key version of a column: key_version(column), or a column that is
-- generated as that. Other columns may be wrong, and are not used. The function must be ours, whatever its schema is called,
-- and the column must have exactly the type that it takes: for a domain, another function of that name might be called.
CREATE FUNCTION prism_crypt._indexed_key_version(relation regclass, quoted_column text) RETURNS text
  LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
  SELECT pg_get_indexdef(i.indexrelid, 1, false)
  FROM pg_index AS i JOIN pg_class AS c ON c.oid = i.indexrelid JOIN pg_am AS m ON m.oid = c.relam
  JOIN pg_attribute AS v ON v.attrelid = i.indrelid AND v.attnum > 0 AND NOT v.attisdropped AND quote_ident(v.attname) = $2
  JOIN pg_proc AS p ON p.proname = 'key_version' AND p.proargtypes[0] = v.atttypid
    AND p.oid IN (SELECT prism_crypt._members('pg_proc'))
  JOIN pg_namespace AS n ON n.oid = p.pronamespace
  CROSS JOIN LATERAL format('%I.key_version(%s)', n.nspname, $2) AS call
  WHERE i.indrelid = $1 AND m.amname = 'btree' AND i.indisvalid AND i.indpred IS NULL
    AND (i.indkey[0] = 0 AND pg_get_indexdef(i.indexrelid, 1, false) = call
           AND EXISTS (SELECT FROM pg_depend AS d
                       WHERE d.classid = 'pg_class'::regclass AND d.objid = i.indexrelid
                         AND d.refclassid = 'pg_proc'::regclass AND d.refobjid = p.oid)
         OR EXISTS (
           SELECT FROM pg_attribute AS a
           JOIN pg_attrdef AS e ON e.adrelid = a.attrelid AND e.adnum = a.attnum
           -- In PostgreSQL 14, the column itself depends on what its expression uses.
           JOIN pg_depend AS d ON d.refclassid = 'pg_proc'::regclass AND d.refobjid = p.oid
             AND (d.classid = 'pg_attrdef'::regclass AND d.objid = e.oid
               OR d.classid = 'pg_class'::regclass AND d.objid = a.attrelid AND d.objsubid = a.attnum)
           WHERE a.attrelid = $1 AND a.attnum = i.indkey[0] AND a.attgenerated = 's'
             AND pg_get_expr(e.adbin, e.adrelid) = call))
  ORDER BY i.indexrelid LIMIT 1
$$;
COMMENT ON FUNCTION prism_crypt._indexed_key_version(regclass, text) IS
  'An indexed expression that is the key version of a column; null if there is none. Internal';

CREATE FUNCTION prism_crypt._rotation_changes(relation regclass, column_name name, scope jsonb) RETURNS prism_crypt._changes
  LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_variable
DECLARE
  from_version CONSTANT integer := scope ->> 'from_version';
  keyset CONSTANT text := scope ->> 'keyset';
  key_version_column CONSTANT name := scope ->> 'key_version_column';
  arguments CONSTANT text := format('%L::pg_catalog.int4, %L::pg_catalog.text', from_version, keyset);
  changes prism_crypt._changes;
  one record;
  names text[];
  due text[];
  possible text[];
  reencrypt text;
  -- What a column is set to; and what it is set to once its row is locked, when values that can't be opened are to stay.
  resealed text[];
  resealed_or_kept text[];
  keys record;
  by_version text;
BEGIN
  FOR one IN
    -- A domain over bytea is passed as bytea, so that PostgreSQL checks what is assigned to it.
    SELECT quote_ident(a.attname) AS name, t.kind,
           format('changed.%I', a.attname) || CASE t.kind WHEN 'bytes' THEN '::pg_catalog.bytea' ELSE '' END AS value
    FROM pg_attribute AS a CROSS JOIN LATERAL prism_crypt._rotatable_kind(a.atttypid) AS t (kind)
    WHERE a.attrelid = relation AND a.attnum > 0 AND NOT a.attisdropped AND a.attgenerated = ''
      AND CASE WHEN column_name IS NULL THEN t.kind IN ('plain', 'nested')
               ELSE t.kind IS NOT NULL AND a.attname = column_name END
    ORDER BY a.attnum
  LOOP
    names := names || one.name;
    due := due || CASE
      WHEN one.kind = 'plain' AND from_version IS NULL AND keyset IS NULL
        THEN format('prism_crypt._is_rotatable(%s)', one.value)
      ELSE format('prism_crypt._is_rotatable(%s, %s)', one.value, arguments) END;
    possible := possible || format('prism_crypt._can_rotate(%s, %s)', one.value, arguments);
    changes.errors := changes.errors || format('prism_crypt._rotation_error(%s, %s)', one.value, arguments);
    reencrypt := CASE one.kind WHEN 'plain' THEN one.value ELSE format('%s, %s', one.value, arguments) END;
    resealed := resealed || format('prism_crypt._reencrypt(%s, false)', reencrypt);
    resealed_or_kept := resealed_or_kept || format('prism_crypt._reencrypt(%s, true)', reencrypt);
  END LOOP;
  IF names IS NULL THEN
    RAISE undefined_column USING
      MESSAGE = format('relation "%s" has no column that could be rotated', relation),
      HINT = 'A generated column follows the columns that it is generated from.';
  END IF;
  changes.due := array_to_string(due, ' OR ');
  changes.possible := array_to_string(possible, ' OR ');
  IF prism_crypt._sets_key_version_column(relation, column_name, key_version_column) THEN
    -- In one expression, so that value and version can't differ.
    changes.assignments := format(
      '(%s, %I) = (SELECT x.v, prism_crypt._key_version(x.v) FROM (SELECT %s OFFSET 0) AS x (v))',
      names[1], key_version_column, resealed[1]);
    changes.assignments_or_kept := format(
      '(%s, %I) = (SELECT x.v, prism_crypt._key_version(x.v) FROM (SELECT %s OFFSET 0) AS x (v))',
      names[1], key_version_column, resealed_or_kept[1]);
  ELSIF cardinality(names) = 1 THEN
    -- The condition has made sure that the value is due.
    changes.assignments := format('%s = %s', names[1], resealed[1]);
    changes.assignments_or_kept := format('%s = %s', names[1], resealed_or_kept[1]);
  ELSE
    SELECT string_agg(format('%1$s = CASE WHEN %2$s THEN %3$s ELSE changed.%1$s END', n, d, r), ', ' ORDER BY o),
           string_agg(format('%1$s = CASE WHEN %2$s THEN %3$s ELSE changed.%1$s END', n, d, k), ', ' ORDER BY o)
      INTO changes.assignments, changes.assignments_or_kept
    FROM unnest(names, due, resealed, resealed_or_kept) WITH ORDINALITY AS u (n, d, r, k, o);
  END IF;
  -- The key version does not find outdated search tags.
  keys := prism_crypt._rotation_keys(from_version, keyset);
  IF cardinality(names) = 1 AND (from_version IS NOT NULL OR NOT keys.has_outdated_tags) THEN
    by_version := prism_crypt._indexed_key_version(relation, names[1]);
  END IF;
  IF by_version IS NOT NULL THEN
    changes.by_index := format('%s OPERATOR(pg_catalog.=) ANY ((prism_crypt._rotation_keys(%s)).versions) AND (%s)',
                               by_version, arguments, possible[1]);
    changes.hides_rest := keys.has_disabled;
  END IF;
  RETURN changes;
END $$;
COMMENT ON FUNCTION prism_crypt._rotation_changes(regclass, name, jsonb) IS
  'What a rotation does with the rows of one table. Internal';

INSERT INTO prism_crypt.job_kind (name, checks, parts, changes, rows_changed) VALUES (
  'rotation', 'prism_crypt._check_rotation', 'prism_crypt._rotation_parts', 'prism_crypt._rotation_changes', 'rows re-encrypted');

-- sql/rotation/rotate.sql

-- The procedures to call. Nothing in a procedure that commits relies on search_path: every name and every operator is
-- qualified.

CREATE FUNCTION prism_crypt._rotation_work(
  kind text, relation regclass, column_name name, key_version_column name, from_version integer, keyset text,
  limits prism_crypt._limits, patient boolean, batches integer
) RETURNS prism_crypt._work
  LANGUAGE sql SET search_path = pg_catalog, pg_temp AS $$
  SELECT prism_crypt._work_of(
    kind, relation, column_name, prism_crypt._rotation_scope(from_version, keyset),
    jsonb_strip_nulls(jsonb_build_object('key_version_column', key_version_column)), limits, patient, batches)
$$;
COMMENT ON FUNCTION prism_crypt._rotation_work(
  text, regclass, name, name, integer, text, prism_crypt._limits, boolean, integer) IS 'What a session that rotates is to do. Internal';

CREATE PROCEDURE prism_crypt.rotate_batch(
  relation regclass, column_name name DEFAULT NULL, batch_size integer DEFAULT 1000, pause interval DEFAULT NULL,
  max_rows_per_second double precision DEFAULT NULL, max_replica_lag bigint DEFAULT NULL,
  max_batches integer DEFAULT NULL, from_version integer DEFAULT NULL, keyset text DEFAULT NULL,
  key_version_column name DEFAULT NULL, fire_triggers boolean DEFAULT true
) LANGUAGE plpgsql AS $$
DECLARE
  limits CONSTANT prism_crypt._limits := ROW(
    batch_size, pause, max_rows_per_second, max_replica_lag, max_batches, fire_triggers);
  work prism_crypt._work;
  failure prism_crypt._failure;
BEGIN
  PERFORM prism_crypt._require_no_transaction_block('rotate_batch()');
  PERFORM prism_crypt._check_limits(limits);
  PERFORM prism_crypt._check_rotation_scope(from_version, keyset);
  PERFORM prism_crypt._check_rotatable_table(relation);
  PERFORM prism_crypt._warn_of_foreign_tables(relation);
  work := prism_crypt._rotation_work(
    'rotation', relation, column_name, key_version_column, from_version, keyset, limits, true, 0);
  CALL prism_crypt._work_on(work);
  failure := work.failure;
  IF failure.code IS NOT NULL THEN
    PERFORM prism_crypt._raise_failure(
      failure.code, failure.message, failure.detail, failure.hint, failure.context, failure.schema_name, failure.table_name,
      failure.column_name, failure.datatype_name, failure.constraint_name);
  END IF;
END $$;
COMMENT ON PROCEDURE prism_crypt.rotate_batch(
  regclass, name, integer, interval, double precision, bigint, integer, integer, text, name, boolean) IS
  'Re-encrypts what is not under the active key of its keyset, in a column or in all of a table, in committed batches';

-- The short name. Whoever may create objects in this schema can add a procedure of that name with other argument types that is
-- called instead. Nobody can do that in the schema prism_crypt.
CREATE PROCEDURE rotate_batch(
  relation regclass, column_name name DEFAULT NULL, batch_size integer DEFAULT 1000, pause interval DEFAULT NULL,
  max_rows_per_second double precision DEFAULT NULL, max_replica_lag bigint DEFAULT NULL,
  max_batches integer DEFAULT NULL, from_version integer DEFAULT NULL, keyset text DEFAULT NULL,
  key_version_column name DEFAULT NULL, fire_triggers boolean DEFAULT true
) LANGUAGE plpgsql AS $$
BEGIN
  CALL prism_crypt.rotate_batch(
    relation, column_name, batch_size, pause, max_rows_per_second, max_replica_lag, max_batches, from_version, keyset,
    key_version_column, fire_triggers);
END $$;
COMMENT ON PROCEDURE rotate_batch(
  regclass, name, integer, interval, double precision, bigint, integer, integer, text, name, boolean) IS
  'The same as prism_crypt.rotate_batch()';

-- What a database has to rotate: tables that are not part of another one, and what no rotation reaches.
CREATE FUNCTION prism_crypt._rotation_roots(
  OUT roots regclass[], OUT only_generated text, OUT materialized_views text, OUT foreign_tables text
) LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
  WITH holders AS MATERIALIZED (
    SELECT c.relation, c.relkind, format('%I.%I', n.nspname, r.relname) AS name, bool_and(a.attgenerated <> '') AS generated
    FROM prism_crypt._encrypted_columns() AS c
    JOIN pg_attribute AS a ON a.attrelid = c.relation AND a.attname = c.column_name
    JOIN pg_class AS r ON r.oid = c.relation JOIN pg_namespace AS n ON n.oid = r.relnamespace
    WHERE r.relpersistence <> 't' AND n.nspname <> 'prism_crypt'
    GROUP BY c.relation, c.relkind, n.nspname, r.relname
  ), roots AS (
    SELECT h.relation, h.name, h.generated FROM holders AS h
    WHERE h.relkind IN ('r', 'p')
      AND h.relation NOT IN (SELECT i.inhrelid FROM pg_inherits AS i JOIN holders AS p ON p.relation = i.inhparent
                             -- Children of a foreign table are roots themselves.
                             WHERE NOT p.generated AND p.relkind IN ('r', 'p'))
  )
  SELECT coalesce((SELECT array_agg(r.relation::regclass ORDER BY r.relation) FROM roots AS r WHERE NOT r.generated), '{}'),
         (SELECT string_agg(r.name, ', ' ORDER BY r.name) FROM roots AS r
          WHERE r.generated),
         (SELECT string_agg(h.name, ', ' ORDER BY h.name) FROM holders AS h
          WHERE h.relkind = 'm'),
         (SELECT string_agg(h.name, ', ' ORDER BY h.name) FROM holders AS h
          WHERE h.relkind = 'f')
$$;
COMMENT ON FUNCTION prism_crypt._rotation_roots() IS 'What rotate_all() goes through, and what it leaves out. Internal';

CREATE FUNCTION prism_crypt._raise_not_rotated(failed text[], tables integer) RETURNS void
  LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
  IF cardinality(failed) > 0 THEN
    RAISE object_not_in_prerequisite_state USING
      MESSAGE = format('tables that could not be rotated: %s of %s', cardinality(failed), tables),
      DETAIL = array_to_string(failed, ', '),
      HINT = 'The warnings say why.';
  END IF;
END $$;
COMMENT ON FUNCTION prism_crypt._raise_not_rotated(text[], integer) IS
  'Raises an error about tables that could not be rotated, if there are any. Internal';

-- Rotates every table, with a warning about each that could not be rotated; gives these, and the number of all.
CREATE PROCEDURE prism_crypt._rotate_all(
  kind text, limits prism_crypt._limits, from_version integer, keyset text, INOUT failed text[], INOUT tables integer
) LANGUAGE plpgsql AS $$
DECLARE
  work prism_crypt._work;
  held pg_catalog.record;
  relation pg_catalog.regclass;
  hint pg_catalog.text;
BEGIN
  failed := '{}';
  PERFORM prism_crypt._check_rotation_scope(from_version, keyset);
  held := prism_crypt._rotation_roots();
  tables := pg_catalog.cardinality(held.roots);
  FOREACH relation IN ARRAY held.roots LOOP
    work := prism_crypt._rotation_work(
      kind, relation, NULL, NULL, from_version, keyset, limits, false, coalesce(work.batches, 0));
    CALL prism_crypt._work_on(work);
    EXIT WHEN work.outcome OPERATOR(pg_catalog.=) 'stopped';
    -- A table that was dropped meanwhile has nothing left to rotate.
    IF (work.failure).code IS NOT NULL
       AND EXISTS (SELECT FROM pg_catalog.pg_class AS c WHERE c.oid OPERATOR(pg_catalog.=) relation) THEN
      hint := (work.failure).hint;
      IF hint IS NULL OR hint OPERATOR(pg_catalog.=) '' THEN
        hint := 'rotate_batch() on this table tells more.';
      END IF;
      RAISE WARNING '%: %', relation, (work.failure).message USING HINT = hint;
      failed := pg_catalog.array_append(failed, relation::pg_catalog.text);
    END IF;
  END LOOP;
  IF held.only_generated IS NOT NULL THEN
    RAISE WARNING 'tables whose encrypted columns are all generated are not rotated: %', held.only_generated
      USING HINT = 'They follow the columns that they are generated from. rotate_batch() takes a bytea column by name.';
  END IF;
  IF held.materialized_views IS NOT NULL THEN
    RAISE WARNING 'materialized views are not rotated: %', held.materialized_views
      USING HINT = 'REFRESH MATERIALIZED VIEW brings them up to date.';
  END IF;
  IF held.foreign_tables IS NOT NULL THEN
    RAISE WARNING 'foreign tables are not rotated: %', held.foreign_tables USING HINT = 'Rotate them on their own server.';
  END IF;
END $$;
COMMENT ON PROCEDURE prism_crypt._rotate_all(text, prism_crypt._limits, integer, text, text[], integer) IS
  'What rotate_all() does, without its error at the end. Internal';

CREATE PROCEDURE prism_crypt.rotate_all(
  batch_size integer DEFAULT 1000, pause interval DEFAULT NULL, max_rows_per_second double precision DEFAULT NULL,
  max_replica_lag bigint DEFAULT NULL, max_batches integer DEFAULT NULL, from_version integer DEFAULT NULL,
  keyset text DEFAULT NULL, fire_triggers boolean DEFAULT true
) LANGUAGE plpgsql AS $$
DECLARE
  limits prism_crypt._limits := ROW(
    batch_size, pause, max_rows_per_second, max_replica_lag, max_batches, fire_triggers);
  failed pg_catalog.text[];
  tables integer;
BEGIN
  PERFORM prism_crypt._require_no_transaction_block('prism_crypt.rotate_all()');
  PERFORM prism_crypt._check_limits(limits);
  CALL prism_crypt._rotate_all('rotation', limits, from_version, keyset, failed, tables);
  PERFORM prism_crypt._raise_not_rotated(failed, tables);
END $$;
COMMENT ON PROCEDURE prism_crypt.rotate_all(
  integer, interval, double precision, bigint, integer, integer, text, boolean) IS
  'Re-encrypts what is not under the active key of its keyset, in every table of the database';

-- sql/rotation/due.sql

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

-- sql/census/census.sql

-- Ciphertexts by key version, everywhere they can be. Needs no key: the version is in the header of each envelope.

CREATE FUNCTION prism_crypt._key_versions(value anyelement) RETURNS integer[]
  LANGUAGE c STABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', '_key_versions_wrapper';
COMMENT ON FUNCTION prism_crypt._key_versions(anyelement) IS
  'Key versions of each encrypted_text in a value of any type, NULL for a damaged one. Internal';

-- The argument is text, so that a column that this version of PostgreSQL may not have can be read through to_jsonb().
CREATE FUNCTION prism_crypt._constant_versions(expression text) RETURNS integer[]
  LANGUAGE c STABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', '_constant_versions_wrapper';
COMMENT ON FUNCTION prism_crypt._constant_versions(text) IS
  'Key versions of the constants in a stored expression (pg_node_tree). Internal';

CREATE FUNCTION prism_crypt._text_form_versions(source text) RETURNS integer[]
  LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', '_text_form_versions_wrapper';
COMMENT ON FUNCTION prism_crypt._text_form_versions(text) IS 'Key versions of the text forms in a text. Internal';

CREATE FUNCTION prism_crypt._count_versions(
  relation oid, OUT column_number smallint, OUT is_bytes boolean, OUT key_version integer, OUT ciphertexts bigint
) RETURNS SETOF record
  LANGUAGE c VOLATILE STRICT ROWS 10 AS 'MODULE_PATHNAME', '_count_versions_wrapper';
COMMENT ON FUNCTION prism_crypt._count_versions(oid) IS
  'Ciphertexts in a table by column and key version, read without running any function of its owner. Internal';

CREATE FUNCTION prism_crypt._hold_for_reading(relation oid, hold boolean) RETURNS void
  LANGUAGE c VOLATILE STRICT AS 'MODULE_PATHNAME', '_hold_for_reading_wrapper';
COMMENT ON FUNCTION prism_crypt._hold_for_reading(oid, boolean) IS
  'Locks a relation in ACCESS SHARE mode, or releases that lock. Internal';

CREATE FUNCTION prism_crypt._session_of(temporary_schema oid) RETURNS integer
  LANGUAGE c VOLATILE STRICT AS 'MODULE_PATHNAME', '_session_of_wrapper';
COMMENT ON FUNCTION prism_crypt._session_of(oid) IS
  'The process whose temporary tables are in a schema. Internal';

CREATE FUNCTION prism_crypt._census_tables(
  OUT relation oid, OUT name text, OUT kind text, OUT columns name[], OUT has_bytes boolean, OUT unreadable text
) RETURNS SETOF record
  LANGUAGE sql STABLE ROWS 100 SET search_path = pg_catalog, pg_temp AS $$
  WITH columns (relation, column_name, is_bytes) AS (
    SELECT relation, column_name, false FROM prism_crypt._encrypted_columns()
    UNION ALL
    SELECT a.attrelid, a.attname, true
    FROM pg_attribute AS a
    JOIN pg_class AS c ON c.oid = a.attrelid
    WHERE a.atttypid IN (SELECT type FROM prism_crypt._types_over('bytea'::regtype))
      AND a.attnum > 0 AND NOT a.attisdropped AND c.relkind IN ('r', 'm')
      AND c.relnamespace NOT IN (
        SELECT oid FROM pg_namespace WHERE nspname IN ('prism_crypt', 'pg_catalog', 'information_schema'))
  )
  SELECT c.oid, format('%I.%I', n.nspname, c.relname) COLLATE "C",
         CASE c.relkind WHEN 'm' THEN 'materialized view' WHEN 'f' THEN 'foreign table'
                        ELSE CASE WHEN c.relispartition THEN 'partition' ELSE 'table' END END,
         coalesce(array_agg(l.column_name ORDER BY l.column_name) FILTER (WHERE NOT l.is_bytes), '{}'), bool_or(l.is_bytes),
         CASE WHEN c.relkind = 'f' THEN 'foreign table: count there'
              WHEN c.relpersistence = 't' AND c.relnamespace <> pg_my_temp_schema()
                THEN format('temporary table of another session%s: can''t be read',
                            ' (process ' || prism_crypt._session_of(c.relnamespace) || ')')
              WHEN c.relpersistence = 'u' AND pg_is_in_recovery() THEN 'unlogged table: can''t be read on a standby' END
  FROM columns AS l JOIN pg_class AS c ON c.oid = l.relation JOIN pg_namespace AS n ON n.oid = c.relnamespace
  -- Partitioned tables hold no rows themselves.
  WHERE c.relkind <> 'p'
  GROUP BY c.oid, n.nspname, c.relname, c.relkind, c.relispartition, c.relpersistence, c.relnamespace
$$;
COMMENT ON FUNCTION prism_crypt._census_tables() IS 'The relations that a census counts. Internal';

CREATE FUNCTION prism_crypt._census_constants(
  OUT kind text, OUT class oid, OUT object oid, OUT part integer, OUT relation oid, OUT remark text,
  OUT versions integer[]
) RETURNS SETOF record
  LANGUAGE sql STABLE ROWS 100 SET search_path = pg_catalog, pg_temp AS $$
  SELECT CASE a.attgenerated WHEN '' THEN 'default' ELSE 'generated column' END, 'pg_class'::regclass::oid, d.adrelid,
         d.adnum::integer, d.adrelid, NULL, prism_crypt._constant_versions(d.adbin)
  FROM pg_attrdef AS d JOIN pg_attribute AS a ON a.attrelid = d.adrelid AND a.attnum = d.adnum
  UNION ALL
  SELECT 'missing value', 'pg_class'::regclass, a.attrelid, a.attnum, a.attrelid, 'goes when the table is rewritten',
         prism_crypt._key_versions(a.attmissingval)
  FROM pg_attribute AS a WHERE a.atthasmissing AND a.atttypid IN (SELECT type FROM prism_crypt._encrypted_types())
  UNION ALL
  SELECT CASE c.conrelid WHEN 0 THEN 'domain' ELSE 'check' END, 'pg_constraint'::regclass, c.oid, 0, c.conrelid, NULL,
         prism_crypt._constant_versions(c.conbin)
  FROM pg_constraint AS c
  UNION ALL
  SELECT CASE t.typtype WHEN 'd' THEN 'domain' ELSE 'type' END, 'pg_type'::regclass, t.oid, 0, 0, 'default',
         coalesce(prism_crypt._constant_versions(t.typdefaultbin), prism_crypt._text_form_versions(t.typdefault))
  FROM pg_type AS t
  UNION ALL
  SELECT CASE WHEN c.relkind IN ('v', 'm') AND r.ev_type = '1' THEN 'view' ELSE 'rule' END,
         CASE WHEN c.relkind IN ('v', 'm') AND r.ev_type = '1' THEN 'pg_class'::regclass ELSE 'pg_rewrite' END,
         CASE WHEN c.relkind IN ('v', 'm') AND r.ev_type = '1' THEN c.oid ELSE r.oid END,
         0, c.oid, CASE c.relkind WHEN 'm' THEN 'definition of a materialized view' END,
         prism_crypt._constant_versions(r.ev_action) || prism_crypt._constant_versions(r.ev_qual)
  FROM pg_rewrite AS r JOIN pg_class AS c ON c.oid = r.ev_class
  UNION ALL
  SELECT 'policy', 'pg_policy'::regclass, p.oid, 0, p.polrelid, NULL,
         prism_crypt._constant_versions(p.polqual) || prism_crypt._constant_versions(p.polwithcheck)
  FROM pg_policy AS p
  UNION ALL
  SELECT 'trigger', 'pg_trigger'::regclass, t.oid, 0, t.tgrelid, NULL,
         prism_crypt._constant_versions(t.tgqual) || prism_crypt._text_form_versions(encode(t.tgargs, 'escape'))
  FROM pg_trigger AS t
  UNION ALL
  SELECT 'index', 'pg_class'::regclass, i.indexrelid, 0, i.indrelid, NULL,
         prism_crypt._constant_versions(i.indexprs) || prism_crypt._constant_versions(i.indpred)
  FROM pg_index AS i
  UNION ALL
  SELECT 'statistics', 'pg_statistic_ext'::regclass, s.oid, 0, s.stxrelid, NULL,
         prism_crypt._constant_versions(s.stxexprs)
  FROM pg_statistic_ext AS s
  UNION ALL
  SELECT 'partition key', 'pg_class'::regclass, p.partrelid, 0, p.partrelid, NULL,
         prism_crypt._constant_versions(p.partexprs)
  FROM pg_partitioned_table AS p
  UNION ALL
  SELECT 'partition bound', 'pg_class'::regclass, c.oid, 0, c.oid, NULL, prism_crypt._constant_versions(c.relpartbound)
  FROM pg_class AS c
  UNION ALL
  -- PostgreSQL 14 has no such column.
  SELECT 'publication', 'pg_publication_rel'::regclass, p.oid, 0, p.prrelid, 'row filter',
         prism_crypt._constant_versions(to_jsonb(p) ->> 'prqual')
  FROM pg_publication_rel AS p
  UNION ALL
  SELECT 'function', 'pg_proc'::regclass, p.oid, 0, 0, NULL,
         prism_crypt._constant_versions(p.prosqlbody) || prism_crypt._constant_versions(p.proargdefaults)
           || prism_crypt._text_form_versions(p.prosrc)
  FROM pg_proc AS p
  UNION ALL
  SELECT 'aggregate', 'pg_proc'::regclass, a.aggfnoid::oid, 0, 0, 'initial value',
         prism_crypt._text_form_versions(a.agginitval) || prism_crypt._text_form_versions(a.aggminitval)
  FROM pg_aggregate AS a
$$;
COMMENT ON FUNCTION prism_crypt._census_constants() IS
  'Every expression and text of the catalogs that can hold ciphertext, with the key versions found in it. Internal';

CREATE FUNCTION prism_crypt._census_indexes(OUT index oid, OUT relation oid) RETURNS SETOF record
  LANGUAGE sql STABLE ROWS 10 SET search_path = pg_catalog, pg_temp AS $$
  WITH columns AS MATERIALIZED (
    SELECT a.attrelid, a.attnum FROM pg_attribute AS a
    WHERE a.attnum > 0 AND a.atttypid IN (SELECT type FROM prism_crypt._encrypted_types())
  )
  SELECT i.indexrelid, i.indrelid FROM pg_index AS i WHERE i.indexrelid IN (SELECT c.attrelid FROM columns AS c)
  UNION
  SELECT i.indexrelid, i.indrelid FROM columns AS c JOIN pg_index AS i ON i.indrelid = c.attrelid AND c.attnum = ANY (i.indkey)
$$;
COMMENT ON FUNCTION prism_crypt._census_indexes() IS 'Indexes that hold ciphertext. Internal';

CREATE FUNCTION prism_crypt.census(relation regclass DEFAULT NULL)
  RETURNS TABLE (kind text, location text, key_version integer, ciphertexts bigint, remark text)
  LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
  own_timeout CONSTANT text := current_setting('lock_timeout');
  -- How long it waits for one table that others have locked, and for all of them.
  patience CONSTANT double precision := least(prism_crypt._patience(5), 5);
  seconds double precision := 10;
  began double precision;
  -- The relation, its partitions and its children.
  scope oid[];
  target record;
  cause text;
BEGIN
  IF census.relation IS NOT NULL THEN
    IF NOT EXISTS (SELECT FROM pg_class WHERE oid = census.relation) THEN
      RAISE undefined_table USING MESSAGE = format('relation with OID %s does not exist', census.relation::oid);
    END IF;
    scope := ARRAY(SELECT t.member FROM prism_crypt._table_tree(census.relation) AS t);
  END IF;
  FOR target IN
    SELECT * FROM prism_crypt._census_tables() AS t
    WHERE scope IS NULL OR t.relation = ANY (scope)
    ORDER BY t.name
  LOOP
    cause := target.unreadable;
    IF cause IS NULL THEN
      began := prism_crypt._uptime();
      BEGIN
        PERFORM set_config('lock_timeout', ceil(greatest(least(patience, seconds), 0.01) * 1000)::bigint || 'ms', true),
          prism_crypt._hold_for_reading(target.relation, true);
        seconds := seconds - (prism_crypt._uptime() - began);
        -- A column that was added after this statement began has no name here yet, but counts anyway.
        RETURN QUERY
          SELECT target.kind, format('%s.%s', target.name, coalesce(quote_ident(a.attname), '?')), v.key_version,
                 v.ciphertexts, CASE WHEN v.is_bytes THEN 'bytea' WHEN v.key_version IS NULL THEN 'damaged' END
          FROM prism_crypt._count_versions(target.relation) AS v
          LEFT JOIN pg_attribute AS a ON a.attrelid = target.relation AND a.attnum = v.column_number
          WHERE target.has_bytes OR NOT v.is_bytes
          ORDER BY v.column_number, v.is_bytes, v.key_version;
        -- There may be more tables than the server has room to lock.
        PERFORM prism_crypt._hold_for_reading(target.relation, false);
      EXCEPTION
        WHEN lock_not_available OR deadlock_detected THEN
          seconds := seconds - (prism_crypt._uptime() - began);
          cause := 'locked by another session: can''t be read';
        WHEN OTHERS OR assert_failure THEN
          -- Only the SQLSTATE, because the message may quote values.
          cause := format('can''t be read: SQLSTATE %s', SQLSTATE);
      END;
    END IF;
    IF cause IS NOT NULL AND target.columns <> '{}' THEN
      RETURN QUERY
        SELECT target.kind, format('%s.%I', target.name, c.column_name), NULL::integer, NULL::bigint, cause
        FROM unnest(target.columns) AS c (column_name);
    ELSIF cause IS NOT NULL AND target.unreadable IS NULL THEN
      RETURN QUERY SELECT target.kind, target.name, NULL::integer, NULL::bigint, 'bytea, ' || cause;
    END IF;
  END LOOP;
  PERFORM set_config('lock_timeout', own_timeout, true);
  RETURN QUERY
    SELECT 'index', (pg_identify_object('pg_class'::regclass, i.index, 0)).identity COLLATE "C", NULL::integer, NULL::bigint,
           'follows its table'
    FROM prism_crypt._census_indexes() AS i
    WHERE scope IS NULL OR i.relation = ANY (scope)
    ORDER BY 2;
  -- Version 0 stands for an expression that could not be read.
  RETURN QUERY
    SELECT c.kind COLLATE "C", (pg_identify_object(c.class, c.object, c.part)).identity COLLATE "C", nullif(v.version, 0),
           CASE WHEN v.version IS DISTINCT FROM 0 THEN count(*) END,
           nullif(concat_ws(', ', c.remark, CASE WHEN v.version IS NULL THEN 'damaged' WHEN v.version = 0 THEN 'can''t be read' END), '')
    FROM prism_crypt._census_constants() AS c, unnest(c.versions) AS v (version)
    WHERE scope IS NULL OR c.relation = ANY (scope)
    GROUP BY c.kind, c.class, c.object, c.part, c.remark, v.version
    ORDER BY 1, 2, 3;
END $$;
COMMENT ON FUNCTION prism_crypt.census(regclass) IS
  'Ciphertexts by key version, everywhere they can be: tables, and constants in the catalogs. Needs no key';

-- sql/search/indexes.sql

-- Indexes on encrypted values: which ones there are, and which ones must not be used.

-- Indexes whose order or buckets come from index keys. If only an operator class for anyarray or record tells the type of an
-- expression, the expression may hold such values.
CREATE FUNCTION prism_crypt._search_indexes(OUT index regclass, OUT relation regclass) RETURNS SETOF record
  LANGUAGE sql STABLE ROWS 100 SET search_path = pg_catalog, pg_temp AS $$
  WITH types AS MATERIALIZED (SELECT type FROM prism_crypt._encrypted_types())
  SELECT DISTINCT i.indexrelid::regclass, i.indrelid::regclass
  FROM pg_index AS i
  JOIN pg_class AS c ON c.oid = i.indexrelid AND c.relkind = 'i'
  CROSS JOIN LATERAL unnest(i.indclass::oid[], i.indkey::smallint[]) WITH ORDINALITY AS k (opclass, attnum, number)
  JOIN pg_opclass AS o ON o.oid = k.opclass
  LEFT JOIN pg_attribute AS a ON a.attrelid = i.indrelid AND a.attnum = k.attnum AND k.attnum <> 0
  LEFT JOIN pg_attribute AS x ON x.attrelid = i.indexrelid AND x.attnum = k.number
  JOIN pg_am AS m ON m.oid = c.relam
  WHERE o.opcintype IN (SELECT type FROM types) OR a.atttypid IN (SELECT type FROM types)
     OR x.atttypid IN (SELECT type FROM types)
     -- A hash index does not keep the type of an expression.
     OR k.attnum = 0 AND m.amname = 'hash'
        AND o.opcintype IN ('anyarray'::regtype, 'record'::regtype, 'anyrange'::regtype, 'anymultirange'::regtype)
$$;
COMMENT ON FUNCTION prism_crypt._search_indexes() IS
  'Indexes over encrypted_text, and over types that hold it. Internal';

CREATE FUNCTION prism_crypt._tell_relation_changed(relation oid) RETURNS void
  LANGUAGE c VOLATILE STRICT AS 'MODULE_PATHNAME', '_tell_relation_changed_wrapper';
COMMENT ON FUNCTION prism_crypt._tell_relation_changed(oid) IS
  'Makes every session look again at a relation and its indexes. Internal';

-- From 16 on, an apply worker without a primary key or replica identity uses any index of the table, even an invalid one. It does
-- not use an index that is not live; REINDEX INDEX makes it live again. An index that is not live is also not used if somebody is
-- just building it on a table that is in use, and marks it valid at the end.
CREATE FUNCTION prism_crypt._distrust_indexes(indexes regclass[], in_use boolean DEFAULT false) RETURNS void
  LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
  UPDATE pg_index AS i
  SET indisvalid = false,
      indislive = NOT in_use AND (
        current_setting('server_version_num')::integer < 160000
        OR EXISTS (SELECT FROM pg_index AS o
                   WHERE o.indrelid = i.indrelid AND o.indisvalid AND NOT o.indexrelid = ANY (indexes)
                     AND (o.indisprimary OR o.indisreplident)))
  WHERE i.indexrelid = ANY (indexes);
  PERFORM prism_crypt._tell_relation_changed(t.indrelid)
  FROM (SELECT DISTINCT i.indrelid FROM pg_index AS i WHERE i.indexrelid = ANY (indexes)) AS t;
END $$;
COMMENT ON FUNCTION prism_crypt._distrust_indexes(regclass[], boolean) IS 'Marks indexes as not to be used. Internal';

-- What to do with invalid indexes: those that REINDEX CONCURRENTLY left behind are copies of others.
CREATE FUNCTION prism_crypt._invalid_search_indexes() RETURNS text
  LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
  SELECT string_agg(
    CASE WHEN c.relname ~ '_cc(new|old)[0-9]*$' AND EXISTS (
      SELECT FROM pg_index AS o
      WHERE o.indrelid = x.indrelid AND o.indexrelid <> x.indexrelid
        AND o.indkey::text = x.indkey::text AND o.indclass::text = x.indclass::text)
    THEN 'DROP INDEX ' ELSE 'REINDEX INDEX ' END || i.index, '; ' ORDER BY i.index::text)
  FROM (SELECT DISTINCT s.index FROM prism_crypt._search_indexes() AS s) AS i
  JOIN pg_index AS x ON x.indexrelid = i.index
  JOIN pg_class AS c ON c.oid = i.index
  WHERE NOT (x.indisvalid AND x.indislive) AND NOT EXISTS (SELECT FROM pg_stat_progress_create_index AS p WHERE p.index_relid = i.index)
$$;
COMMENT ON FUNCTION prism_crypt._invalid_search_indexes() IS
  'Invalid indexes on encrypted values, with what to do about them. Internal';

-- sql/search/index_renewal.sql

-- Indexes after a change of keys. Indexes that only compare values are rebuilt while their tables are locked. No code of others
-- runs during that: indexes that would run some, or that can't be built, are marked invalid, to be rebuilt later.

CREATE FUNCTION prism_crypt._rebuild_index(index text, without_right boolean) RETURNS void
  LANGUAGE c VOLATILE STRICT AS 'MODULE_PATHNAME', '_rebuild_index_wrapper';
COMMENT ON FUNCTION prism_crypt._rebuild_index(text, boolean) IS
  'REINDEX INDEX, if wanted without requiring the right to search of the owner of the table. Internal';

-- Trusted are objects of PostgreSQL itself, of this extension, and those of superusers in other extensions. Only those of
-- superusers, because a trusted extension belongs to whoever created it, and they may add functions of their own. An array type
-- is what its elements are: before PostgreSQL 17 it is no member of an extension.
CREATE FUNCTION prism_crypt._is_trusted(class oid, object oid) RETURNS boolean
  LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
  SELECT o.oid < 16384 OR EXISTS (
    SELECT FROM pg_depend AS d JOIN pg_extension AS e ON e.oid = d.refobjid
    WHERE d.classid = class AND d.objid = o.oid AND d.deptype = 'e' AND e.extname = 'prism_crypt'
  ) OR EXISTS (
    SELECT FROM pg_depend AS d
    JOIN pg_roles AS r ON r.rolsuper AND r.oid = CASE class
      WHEN 'pg_proc'::regclass THEN (SELECT p.proowner FROM pg_proc AS p WHERE p.oid = o.oid)
      WHEN 'pg_operator'::regclass THEN (SELECT p.oprowner FROM pg_operator AS p WHERE p.oid = o.oid)
      WHEN 'pg_opclass'::regclass THEN (SELECT c.opcowner FROM pg_opclass AS c WHERE c.oid = o.oid)
      WHEN 'pg_opfamily'::regclass THEN (SELECT f.opfowner FROM pg_opfamily AS f WHERE f.oid = o.oid)
      WHEN 'pg_type'::regclass THEN (SELECT t.typowner FROM pg_type AS t WHERE t.oid = o.oid) END
    WHERE d.classid = class AND d.objid = o.oid AND d.deptype = 'e')
  FROM (SELECT coalesce((
    SELECT t.typelem FROM pg_type AS t JOIN pg_type AS e ON e.oid = t.typelem AND e.typarray = t.oid
    WHERE class = 'pg_type'::regclass AND t.oid = object), object)) AS o (oid)
$$;
COMMENT ON FUNCTION prism_crypt._is_trusted(oid, oid) IS
  'Whether an object is PostgreSQL''s own, or a superuser''s in an extension. Internal';

-- Types don't matter here: only superusers can make base types and operator classes, and comparing domains, rows, arrays and
-- ranges runs no functions of these types themselves. GIN compares what it takes out of a value with the btree class of that type.
-- Access methods other than these three call the subtype_diff function of a range type.
CREATE FUNCTION prism_crypt._runs_others_code(index oid) RETURNS boolean
  LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
  SELECT EXISTS (
      SELECT FROM pg_depend AS d
      WHERE d.classid = 'pg_class'::regclass AND d.objid = $1 AND d.deptype <> 'x'
        AND d.refclassid NOT IN (
          'pg_class'::regclass, 'pg_constraint'::regclass, 'pg_collation'::regclass, 'pg_am'::regclass,
          'pg_tablespace'::regclass, 'pg_namespace'::regclass)
        AND NOT prism_crypt._is_trusted(d.refclassid, d.refobjid))
    OR EXISTS (
      SELECT FROM pg_class AS c JOIN pg_am AS m ON m.oid = c.relam
      JOIN pg_attribute AS a ON a.attrelid = c.oid JOIN pg_type AS t ON t.oid = a.atttypid
      LEFT JOIN pg_range AS r ON a.atttypid IN (r.rngtypid, r.rngmultitypid)
      WHERE c.oid = $1 AND m.amname NOT IN ('btree', 'hash', 'gin') AND t.oid >= 16384
        AND (r.rngtypid IS NULL OR r.rngsubdiff <> 0 AND NOT prism_crypt._is_trusted('pg_proc'::regclass, r.rngsubdiff)))
$$;
COMMENT ON FUNCTION prism_crypt._runs_others_code(oid) IS
  'Whether building an index runs functions that an ordinary role may have made. Internal';

-- Before PostgreSQL gives a build to workers, it looks at all indexes and statistics of the table, and computes the constants in
-- their expressions. Workers also don't know for whom they build. This function looks at all of these, too, so call it once per
-- table.
CREATE FUNCTION prism_crypt._may_build_in_parallel(relation oid) RETURNS boolean
  LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
  SELECT NOT EXISTS (SELECT FROM pg_index AS i WHERE i.indrelid = c.oid AND prism_crypt._runs_others_code(i.indexrelid))
    AND NOT EXISTS (SELECT FROM pg_statistic_ext AS s WHERE s.stxrelid = c.oid AND s.stxexprs IS NOT NULL)
    AND has_function_privilege(c.relowner, (
      SELECT p.oid FROM pg_proc AS p
      WHERE p.proname = 'blind_index' AND p.oid IN (SELECT prism_crypt._members('pg_proc'))), 'EXECUTE')
  FROM pg_class AS c WHERE c.oid = $1
$$;
COMMENT ON FUNCTION prism_crypt._may_build_in_parallel(oid) IS
  'Whether workers may take part in building an index of a table. Internal';

-- Gives the indexes that could not be marked. `in_use`: indexes of tables that are not locked.
CREATE FUNCTION prism_crypt._distrust_within(indexes regclass[], in_use regclass[], seconds double precision)
  RETURNS regclass[]
  LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  own_timeout CONSTANT text := current_setting('lock_timeout');
  began CONSTANT double precision := prism_crypt._uptime();
  index regclass;
  failed regclass[] := '{}';
BEGIN
  BEGIN
    PERFORM set_config('lock_timeout', '1s', true),
      prism_crypt._distrust_indexes(indexes, false), prism_crypt._distrust_indexes(in_use, true),
      set_config('lock_timeout', own_timeout, true);
    RETURN failed;
  EXCEPTION WHEN OTHERS OR assert_failure THEN
    NULL;
  END;
  FOREACH index IN ARRAY indexes || in_use LOOP
    BEGIN
      PERFORM set_config(
          'lock_timeout', ceil(greatest(least(1, seconds - (prism_crypt._uptime() - began)), 0.01) * 1000)::bigint || 'ms', true),
        prism_crypt._distrust_indexes(ARRAY[index], index = ANY (in_use));
    EXCEPTION WHEN OTHERS OR assert_failure THEN
      failed := array_append(failed, index);
    END;
  END LOOP;
  PERFORM set_config('lock_timeout', own_timeout, true);
  RETURN failed;
END $$;
COMMENT ON FUNCTION prism_crypt._distrust_within(regclass[], regclass[], double precision) IS
  'Marks indexes as not to be used, within so many seconds; gives those that others kept locked. Internal';

CREATE FUNCTION prism_crypt._index_names(indexes regclass[]) RETURNS text
  LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
  SELECT string_agg(i::text, ', ' ORDER BY i::text) FROM unnest(indexes) AS i
$$;
COMMENT ON FUNCTION prism_crypt._index_names(regclass[]) IS 'Names of indexes. Internal';

-- `in_use`: tables that are not locked. `change`:
--   loss                  a key is gone
--   order                 the order of the indexes is another one now, so none may stay as it is
--   order, with all keys  likewise, and keys that are not at hand are an error
CREATE FUNCTION prism_crypt._renew_by_key(indexes regclass[], in_use oid[], change text) RETURNS integer
  LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  own_timeout CONSTANT text := current_setting('lock_timeout');
  own_workers CONSTANT text := current_setting('max_parallel_maintenance_workers');
  -- How long it waits for everything that others keep locked, not for each index.
  seconds CONSTANT double precision := 10;
  waited double precision := 0;
  began double precision;
  target record;
  cause text;
  causes text[] := '{}';
  locked regclass[] := '{}';
  unlocked regclass[] := '{}';
  failed regclass[];
  renewed integer := 0;
BEGIN
  FOR target IN
    WITH relations AS MATERIALIZED (
      SELECT r.oid, r.is_in_use, NOT r.is_in_use AND prism_crypt._may_build_in_parallel(r.oid) AS in_parallel
      FROM (SELECT DISTINCT x.indrelid, x.indrelid = ANY (in_use) FROM pg_index AS x
            WHERE x.indexrelid = ANY (indexes::oid[])) AS r (oid, is_in_use)
    )
    SELECT x.indexrelid::regclass AS index, x.indexprs IS NULL AND x.indpred IS NULL AS is_plain,
           r.is_in_use, r.in_parallel, NOT r.is_in_use AND prism_crypt._runs_others_code(x.indexrelid) AS runs_code
    FROM pg_index AS x JOIN relations AS r ON r.oid = x.indrelid
    WHERE x.indexrelid = ANY (indexes::oid[])
    ORDER BY x.indexrelid
  LOOP
    IF target.is_in_use THEN
      unlocked := array_append(unlocked, target.index);
      cause := 'its table is in use';
    ELSIF target.runs_code THEN
      cause := 'it runs functions of others';
    ELSE
      began := prism_crypt._uptime();
      BEGIN
        PERFORM set_config('lock_timeout', ceil(greatest(least(1, seconds - waited), 0.01) * 1000)::bigint || 'ms', true),
          set_config('max_parallel_maintenance_workers',
            CASE WHEN target.in_parallel THEN own_workers ELSE '0' END, true),
          prism_crypt._rebuild_index(target.index::text, target.is_plain);
        renewed := renewed + 1;
        CONTINUE;
      EXCEPTION
        WHEN lock_not_available OR deadlock_detected THEN
          waited := waited + (prism_crypt._uptime() - began);
          cause := 'it is in use';
        WHEN OTHERS OR assert_failure THEN
          IF change = 'order, with all keys' AND SQLSTATE = '55000' THEN
            RAISE;
          END IF;
          -- Only the SQLSTATE, because the message may quote values.
          cause := 'SQLSTATE ' || SQLSTATE;
      END;
    END IF;
    IF NOT target.is_in_use THEN
      locked := array_append(locked, target.index);
    END IF;
    causes := array_append(causes, format('%s: %s', target.index, cause));
  END LOOP;
  PERFORM set_config('lock_timeout', own_timeout, true), set_config('max_parallel_maintenance_workers', own_workers, true);
  IF causes = '{}' THEN
    RETURN renewed;
  END IF;
  failed := prism_crypt._distrust_within(locked, unlocked, seconds);
  IF failed <> '{}' AND change <> 'loss' THEN
    RAISE lock_not_available USING
      MESSAGE = format('indexes can''t be marked invalid: %s', left(prism_crypt._index_names(failed), 1000)),
      DETAIL = coalesce(prism_crypt._users_of_tables(ARRAY(
        SELECT x.indexrelid FROM pg_index AS x WHERE x.indexrelid = ANY (failed::oid[])
        UNION SELECT x.indrelid FROM pg_index AS x WHERE x.indexrelid = ANY (failed::oid[]))), 'Nobody has locks on them any more.'),
      HINT = 'Wait until these transactions end, or end them.';
  ELSIF failed <> '{}' THEN
    RAISE WARNING 'indexes could neither be rebuilt nor marked invalid: %', prism_crypt._index_names(failed) USING
      HINT = 'REINDEX INDEX each of them. Until then they may fail to open values.';
  END IF;
  RAISE WARNING 'indexes on encrypted values are invalid now: %', prism_crypt._index_names(locked || unlocked) USING
    DETAIL = left(array_to_string(causes, '; '), 4000),
    HINT = 'REINDEX INDEX each of them. Until then no query uses them, and they don''t enforce uniqueness. Where one holds values that '
      'can''t be opened any more (SQLSTATE 55000), delete their rows first.';
  RETURN renewed;
END $$;
COMMENT ON FUNCTION prism_crypt._renew_by_key(regclass[], oid[], text) IS
  'Rebuilds indexes after a change of keys, or marks them invalid; gives how many were rebuilt. Internal';

-- sql/search/table_locks.sql

-- Functions on keys have to lock tables of others. They wait for whoever uses a table, but not for ever, and nobody queues
-- behind such a wait for long.

CREATE FUNCTION prism_crypt._lock_relation(relation oid, exclusively boolean) RETURNS void
  LANGUAGE c VOLATILE STRICT AS 'MODULE_PATHNAME', '_lock_relation_wrapper';
COMMENT ON FUNCTION prism_crypt._lock_relation(oid, boolean) IS
  'Locks a relation of any kind, in ACCESS EXCLUSIVE or ROW EXCLUSIVE mode. Internal';

-- Everybody locks in the same order.
CREATE FUNCTION prism_crypt._lock_searched_tables(exclusively boolean) RETURNS void
  LANGUAGE sql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
  SELECT prism_crypt._lock_relation(c.relation, $1)
  FROM (SELECT DISTINCT relation FROM prism_crypt._encrypted_columns() WHERE relkind <> 'f'
        UNION SELECT relation FROM prism_crypt._search_indexes() ORDER BY 1) AS c
  WHERE NOT EXISTS (SELECT FROM pg_class AS t WHERE t.oid = c.relation AND t.relpersistence = 't'
                    AND t.relnamespace <> pg_my_temp_schema())
$$;
COMMENT ON FUNCTION prism_crypt._lock_searched_tables(boolean) IS
  'Locks every table that has encrypted columns, or an index on encrypted values. Internal';

CREATE FUNCTION prism_crypt._try_to_lock_relation(relation oid, exclusively boolean) RETURNS boolean
  LANGUAGE c VOLATILE STRICT AS 'MODULE_PATHNAME', '_try_to_lock_relation_wrapper';
COMMENT ON FUNCTION prism_crypt._try_to_lock_relation(oid, boolean) IS
  'Locks a relation of any kind as _lock_relation() does, or gives false at once. Internal';

-- CREATE INDEX CONCURRENTLY and REINDEX CONCURRENTLY hold a lock that conflicts with ours, and wait for all older transactions.
-- So if a transaction waits for that lock, each waits for the other, and one of them ends with a deadlock.
CREATE FUNCTION prism_crypt._concurrent_builds() RETURNS text
  LANGUAGE sql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
  SELECT string_agg(format('process %s, %s on %s', p.pid, p.command, p.relid::regclass), '; ')
  FROM pg_stat_progress_create_index AS p
  WHERE p.datname = current_database() AND p.command LIKE '%CONCURRENTLY' AND p.pid <> pg_backend_pid()
    AND p.relid IN (SELECT relation FROM prism_crypt._encrypted_columns()
                    UNION ALL SELECT relation FROM prism_crypt._search_indexes())
$$;
COMMENT ON FUNCTION prism_crypt._concurrent_builds() IS
  'Indexes that are being built concurrently on tables with encrypted values. Internal';

CREATE FUNCTION prism_crypt._require_no_concurrent_build() RETURNS void
  LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  builds CONSTANT text := prism_crypt._concurrent_builds();
BEGIN
  IF builds IS NOT NULL THEN
    RAISE lock_not_available USING
      MESSAGE = 'indexes are being built concurrently on tables with encrypted values',
      DETAIL = builds, HINT = 'Try again when they are ready.';
  END IF;
END $$;
COMMENT ON FUNCTION prism_crypt._require_no_concurrent_build() IS
  'Raises an error if waiting for a lock would be a deadlock. Internal';

-- Who is in the way: other transactions with locks on these tables.
CREATE FUNCTION prism_crypt._users_of_tables(relations oid[]) RETURNS text
  LANGUAGE sql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
  SELECT string_agg(u.who, '; ' ORDER BY u.who)
  FROM (SELECT format('%s: %s', prism_crypt._qualified_name(l.relation::regclass),
                      string_agg(DISTINCT coalesce('process ' || l.pid, 'a prepared transaction'), ', ')) AS who
        FROM pg_locks AS l
        WHERE l.locktype = 'relation' AND l.granted AND l.pid IS DISTINCT FROM pg_backend_pid()
          AND l.database = (SELECT d.oid FROM pg_database AS d WHERE d.datname = current_database())
          AND l.relation = ANY (relations)
        GROUP BY l.relation
        ORDER BY l.relation LIMIT 50) AS u
$$;
COMMENT ON FUNCTION prism_crypt._users_of_tables(oid[]) IS 'Processes that have locks on tables, in words. Internal';

-- Locks those of these tables that it can get within so many seconds. Between two tries it releases everything, so that others
-- can go on.
CREATE FUNCTION prism_crypt._take_tables(relations oid[], seconds double precision, OUT left_out oid[])
  LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  own_timeout CONSTANT text := current_setting('lock_timeout');
  began CONSTANT double precision := prism_crypt._uptime();
  rest double precision;
  busy oid[];
  relation oid;
BEGIN
  LOOP
    BEGIN
      busy := '{}';
      FOREACH relation IN ARRAY relations LOOP
        IF NOT prism_crypt._try_to_lock_relation(relation, true) THEN
          busy := array_append(busy, relation);
        END IF;
      END LOOP;
      left_out := '{}';
      FOREACH relation IN ARRAY busy LOOP
        rest := seconds - (prism_crypt._uptime() - began);
        BEGIN
          IF rest <= 0 THEN
            RAISE lock_not_available;
          END IF;
          -- This is shorter than deadlock_timeout.
          PERFORM set_config('lock_timeout', ceil(least(rest, 0.4) * 1000)::bigint || 'ms', true),
            prism_crypt._lock_relation(relation, true);
        EXCEPTION WHEN lock_not_available OR deadlock_detected THEN
          left_out := array_append(left_out, relation);
        END;
        EXIT WHEN left_out <> '{}' AND rest > 0;
      END LOOP;
      IF left_out = '{}' OR rest <= 0 THEN
        PERFORM set_config('lock_timeout', own_timeout, true);
        RETURN;
      END IF;
      RAISE SQLSTATE 'PC001';
    EXCEPTION
      WHEN SQLSTATE 'PC001' THEN
        PERFORM prism_crypt._sleep(least(rest, 0.5));
      WHEN out_of_memory THEN
        -- More tables than the server has room for in its table of locks.
        left_out := relations;
        RETURN;
    END;
  END LOOP;
END $$;
COMMENT ON FUNCTION prism_crypt._take_tables(oid[], double precision) IS
  'Locks as many tables as it can get within so many seconds; gives the rest. Internal';

-- Every table whose values may need index keys, except temporary tables of other sessions.
CREATE FUNCTION prism_crypt._searched_tables() RETURNS oid[]
  LANGUAGE sql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
  SELECT coalesce(array_agg(c.relation ORDER BY c.relation), '{}')
  FROM (SELECT relation FROM prism_crypt._encrypted_columns() WHERE relkind <> 'f'
        UNION SELECT relation FROM prism_crypt._search_indexes()) AS c
  JOIN pg_class AS t ON t.oid = c.relation
  WHERE t.relpersistence <> 't' OR t.relnamespace = pg_my_temp_schema()
$$;
COMMENT ON FUNCTION prism_crypt._searched_tables() IS
  'Tables with encrypted columns, or an index on encrypted values, in the order to lock them in. Internal';

CREATE FUNCTION prism_crypt._unreadable_tables() RETURNS oid[]
  LANGUAGE sql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
  SELECT coalesce(array_agg(DISTINCT t.oid), '{}')
  FROM prism_crypt._search_indexes() AS c JOIN pg_class AS t ON t.oid = c.relation
  WHERE t.relpersistence = 't' AND t.relnamespace <> pg_my_temp_schema()
$$;
COMMENT ON FUNCTION prism_crypt._unreadable_tables() IS
  'Temporary tables of other sessions with indexes on encrypted values. Internal';

CREATE FUNCTION prism_crypt._check_index_key_can_change() RETURNS void
  LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  partitioned text;
BEGIN
  WITH types AS MATERIALIZED (SELECT type FROM prism_crypt._encrypted_types()),
  columns AS MATERIALIZED (SELECT relation FROM prism_crypt._encrypted_columns()),
  keys AS (
    SELECT p.partrelid, o.opcintype, a.atttypid, k.attnum
    FROM pg_partitioned_table AS p
    CROSS JOIN LATERAL unnest(p.partclass, p.partattrs::smallint[]) AS k (opclass, attnum)
    JOIN pg_opclass AS o ON o.oid = k.opclass
    LEFT JOIN pg_attribute AS a ON a.attrelid = p.partrelid AND a.attnum = k.attnum
  )
  SELECT string_agg(DISTINCT format('%s (of %s)', p.partrelid::regclass, c.relowner::regrole), ', ') INTO partitioned
  FROM keys AS p JOIN pg_class AS c ON c.oid = p.partrelid
  WHERE p.opcintype IN (SELECT type FROM types) OR p.atttypid IN (SELECT type FROM types)
     -- An expression that makes an array, a row or a range may make it from encrypted values.
     OR p.attnum = 0
        AND p.opcintype IN ('anyarray'::regtype, 'record'::regtype, 'anyrange'::regtype, 'anymultirange'::regtype)
        AND p.partrelid IN (SELECT relation FROM columns);
  IF partitioned IS NOT NULL THEN
    RAISE object_not_in_prerequisite_state USING
      MESSAGE = 'the index key can''t change while tables are partitioned by encrypted values',
      DETAIL = format('Rows would be in the wrong partitions of: %s.', partitioned),
      HINT = 'Partition them by something else.';
  END IF;
END $$;
COMMENT ON FUNCTION prism_crypt._check_index_key_can_change() IS
  'Raises an error if something that can''t be rebuilt depends on the index key. Internal';

-- Locks all searched tables for a new index key, or gives what it would have to wait for. It waits for so many seconds. If that
-- fails, it holds nothing afterwards, and the caller ends its transaction, so that others can go on. The first wait is shorter
-- than deadlock_timeout. Others queue behind a session that waits here, so the caller needs all the rights that
-- rotate_index_key() needs, and can't wait for as long as it likes.
CREATE FUNCTION prism_crypt._try_to_lock_searched_tables(
  keyset text, seconds double precision, is_last boolean, force boolean, note bigint, OUT obstacle text
) LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
  role CONSTANT oid := prism_crypt._caller(note);
  patience CONSTANT double precision := greatest(least(seconds, 10), 0.01);
  own_timeout CONSTANT text := current_setting('lock_timeout');
  began double precision;
  relations oid[];
  relation oid;
BEGIN
  IF NOT has_function_privilege(
    role, 'prism_crypt.rotate_all(integer, interval, double precision, bigint, integer, integer, pg_catalog.text, boolean)', 'EXECUTE') THEN
    RAISE insufficient_privilege USING
      MESSAGE = 'permission denied to rotate', HINT = 'rotate_index_key() needs access to rotate, beside key_admin.';
  END IF;
  PERFORM prism_crypt._check_index_key_can_change();
  obstacle := prism_crypt._concurrent_builds();
  IF obstacle IS NOT NULL THEN
    IF is_last AND force THEN
      obstacle := NULL;
    ELSIF is_last THEN
      PERFORM prism_crypt._require_no_concurrent_build();
    END IF;
    RETURN;
  END IF;
  relations := prism_crypt._searched_tables();
  began := prism_crypt._uptime();
  BEGIN
    PERFORM set_config('lock_timeout', ceil(patience * 1000)::bigint || 'ms', true);
    PERFORM 1 FROM prism_crypt.keyset AS k WHERE k.name = _try_to_lock_searched_tables.keyset FOR UPDATE;
    FOREACH relation IN ARRAY relations LOOP
      IF NOT prism_crypt._try_to_lock_relation(relation, true) THEN
        PERFORM set_config(
          'lock_timeout', ceil(greatest(patience - (prism_crypt._uptime() - began), 0.01) * 1000)::bigint || 'ms', true);
        PERFORM prism_crypt._lock_relation(relation, true);
      END IF;
    END LOOP;
    PERFORM set_config('lock_timeout', own_timeout, true);
  EXCEPTION WHEN lock_not_available OR deadlock_detected OR out_of_memory THEN
    IF SQLSTATE = '53200' THEN
      -- There are more tables than the server's lock table has room for. Waiting does not help.
      IF force THEN
        RETURN;
      END IF;
      RAISE out_of_memory USING
        MESSAGE = 'tables with encrypted columns are too many to lock at once',
        DETAIL = format('There are %s, and a new index key needs them all.', cardinality(relations)),
        HINT = 'Raise max_locks_per_transaction. force => true goes on without their locks, and marks their indexes invalid.';
    ELSIF is_last AND force THEN
      RETURN;
    ELSIF is_last THEN
      RAISE lock_not_available USING
        MESSAGE = 'tables with encrypted columns are in use',
        DETAIL = coalesce(prism_crypt._users_of_tables(relations), 'Another change of this keyset is under way.'),
        HINT = 'Wait until these transactions end, or end them. force => true goes on without their tables.';
    END IF;
    obstacle := 'locks of other sessions';
  END;
END $$;
COMMENT ON FUNCTION prism_crypt._try_to_lock_searched_tables(text, double precision, boolean, boolean, bigint) IS
  'Locks every table that has encrypted columns, or says what is in the way. Internal';

-- At the end the tables are locked, in the open transaction. By force, they may instead have been waited for long enough to be
-- left out.
CREATE PROCEDURE prism_crypt._lock_for_index_key(keyset text, force boolean) LANGUAGE plpgsql AS $$
DECLARE
  -- The caller's lock_timeout; without one it is ten minutes, or one minute by force.
  allowed double precision := prism_crypt._patience(CASE WHEN force THEN 60 ELSE 600 END);
  began double precision := prism_crypt._uptime();
  rest double precision;
  patience double precision := 0.4;
  said boolean := false;
  obstacle pg_catalog.text;
BEGIN
  LOOP
    rest := GREATEST(allowed OPERATOR(pg_catalog.-) (prism_crypt._uptime() OPERATOR(pg_catalog.-) began), 0.01);
    obstacle := prism_crypt._try_to_lock_searched_tables(
      keyset, LEAST(patience, rest), rest OPERATOR(pg_catalog.<=) patience, force, prism_crypt._note_caller());
    EXIT WHEN obstacle IS NULL;
    COMMIT;
    SET TRANSACTION ISOLATION LEVEL READ COMMITTED;
    IF NOT said THEN
      RAISE NOTICE 'waiting for tables with encrypted columns: %', obstacle;
      said := true;
    END IF;
    PERFORM prism_crypt._sleep(LEAST(0.2, rest));
    COMMIT;
    SET TRANSACTION ISOLATION LEVEL READ COMMITTED;
    -- It waits longer the next time, or it might never get its turn. If an index is being built, it did not wait at all.
    patience := CASE WHEN obstacle OPERATOR(pg_catalog.=) 'locks of other sessions' THEN 10 ELSE 0.4 END;
  END LOOP;
END $$;
COMMENT ON PROCEDURE prism_crypt._lock_for_index_key(text, boolean) IS
  'Waits until it has locked every table with encrypted columns, without other sessions queuing for long. Internal';

-- sql/search/index_key.sql

-- A new index key. From its commit on, every comparison uses the new key; values that were tagged with the old one are opened
-- for that. So no answer changes while rows are tagged again, which is a rotation like any other.

CREATE FUNCTION prism_crypt._announce_to_transactions() RETURNS void
  LANGUAGE c VOLATILE AS 'MODULE_PATHNAME', '_announce_to_transactions_wrapper';
COMMENT ON FUNCTION prism_crypt._announce_to_transactions() IS
  'Transactions that are running when this one commits get an error if they use index keys afterwards. Internal';

CREATE FUNCTION prism_crypt._hold_index_commits() RETURNS void
  LANGUAGE c VOLATILE AS 'MODULE_PATHNAME', '_hold_index_commits_wrapper';
COMMENT ON FUNCTION prism_crypt._hold_index_commits() IS
  'Makes transactions that have built indexes on encrypted values commit after this one. Internal';

CREATE FUNCTION prism_crypt._count_outdated_tags(relation oid, keyset text) RETURNS bigint
  LANGUAGE c VOLATILE STRICT AS 'MODULE_PATHNAME', '_count_outdated_tags_wrapper';
COMMENT ON FUNCTION prism_crypt._count_outdated_tags(oid, text) IS
  'How many values of a table have a search tag of a replaced index key. Internal';

CREATE FUNCTION prism_crypt._last_generation(relation oid, keyset text) RETURNS integer
  LANGUAGE c VOLATILE STRICT AS 'MODULE_PATHNAME', '_last_generation_wrapper';
COMMENT ON FUNCTION prism_crypt._last_generation(oid, text) IS
  'The highest generation of search tags in a table; 0 if there are none. Internal';

CREATE FUNCTION prism_crypt._require_unlockable(keyset text) RETURNS void
  LANGUAGE c VOLATILE STRICT AS 'MODULE_PATHNAME', '_require_unlockable_wrapper';
COMMENT ON FUNCTION prism_crypt._require_unlockable(text) IS
  'Raises an error if the session''s master key does not unlock a keyset. Internal';

CREATE FUNCTION prism_crypt._require_active_keyset(keyset text) RETURNS void
  LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
  PERFORM prism_crypt._require_keyset($1, 'prism_crypt.key_status lists them.');
  IF NOT EXISTS (SELECT FROM prism_crypt.data_key AS k WHERE k.keyset = $1 AND k.state = 'active') THEN
    RAISE object_not_in_prerequisite_state USING
      MESSAGE = format('no active data key in keyset "%s"', $1), HINT = 'Call prism_crypt.rotate_key() to make one.';
  END IF;
END $$;
COMMENT ON FUNCTION prism_crypt._require_active_keyset(text) IS
  'Raises an error if a keyset does not exist, or has no active key. Internal';

CREATE FUNCTION prism_crypt._overwrite_index_key(keyset text) RETURNS void
  LANGUAGE sql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
  SELECT prism_crypt._forget_carried_keys();
  UPDATE prism_crypt.index_key AS i SET state = 'destroyed', wrapped = '', destroyed_at = clock_timestamp()
  WHERE i.keyset = $1 AND i.state = 'active'
$$;
COMMENT ON FUNCTION prism_crypt._overwrite_index_key(text) IS 'Overwrites the index key of a keyset. Internal';

-- What _replace_index_key() does once it has checked its caller.
CREATE FUNCTION prism_crypt._make_next_index_key(keyset text, reason text, force boolean) RETURNS integer
  LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
  own_timeout CONSTANT text := prism_crypt._limit_waits(10);
  relations oid[];
  left_out oid[];
  new_generation integer;
  indexes integer;
BEGIN
  IF _make_next_index_key.keyset IS NULL THEN
    RAISE null_value_not_allowed USING MESSAGE = 'keyset must not be null';
  ELSIF force IS NULL THEN
    RAISE null_value_not_allowed USING MESSAGE = 'force must not be null';
  END IF;
  PERFORM prism_crypt._require_read_committed('replacing an index key'),
    prism_crypt._require_active_keyset(_make_next_index_key.keyset),
    prism_crypt._require_unlockable(_make_next_index_key.keyset),
    prism_crypt._check_index_key_can_change();
  RAISE NOTICE 'tables with encrypted columns are locked while their indexes are built with a new index key';
  -- No statement may be running that has already compared a value by the old key. A caller with `force` has already waited for
  -- such statements, or has the locks.
  relations := prism_crypt._searched_tables();
  left_out := prism_crypt._take_tables(relations, CASE WHEN force THEN 0 ELSE prism_crypt._patience(10) END);
  IF left_out <> '{}' AND NOT force THEN
    RAISE lock_not_available USING
      MESSAGE = 'tables with encrypted columns are in use',
      DETAIL = coalesce(
        prism_crypt._users_of_tables(left_out),
        format('Nobody else has locks on them any more, or the server has no room for locks on %s tables.', cardinality(relations))),
      HINT = 'Wait until these transactions end, or end them. force => true goes on without their tables.';
  END IF;
  PERFORM prism_crypt._lock_key_tables();
  -- As in rotate_key(): only one change of a keyset at a time.
  PERFORM 1 FROM prism_crypt.keyset AS k WHERE k.name = _make_next_index_key.keyset FOR UPDATE;
  PERFORM prism_crypt._require_active_keyset(_make_next_index_key.keyset);
  -- From here on, transactions that commit indexes wait, and check the keys afterwards: see src/keyring/replaced.rs.
  PERFORM prism_crypt._hold_index_commits();
  PERFORM prism_crypt._check_index_key_can_change();
  SELECT max(i.generation) + 1 INTO new_generation FROM prism_crypt.index_key AS i
  WHERE i.keyset = _make_next_index_key.keyset;
  IF new_generation IS NULL THEN
    -- The row was lost. The new key must not have a generation that values already carry.
    SELECT coalesce(max(prism_crypt._last_generation(c.relation, _make_next_index_key.keyset)), 0) + 1 INTO new_generation
    FROM (SELECT DISTINCT relation FROM prism_crypt._encrypted_columns()) AS c;
  END IF;
  PERFORM prism_crypt._overwrite_index_key(_make_next_index_key.keyset);
  PERFORM prism_crypt._make_index_key(_make_next_index_key.keyset, new_generation, _make_next_index_key.reason);
  UPDATE prism_crypt.index_key AS i SET retagged_at = NULL
  WHERE i.keyset = _make_next_index_key.keyset AND i.generation = new_generation;
  IF left_out <> '{}' THEN
    PERFORM prism_crypt._announce_to_transactions();
  END IF;
  indexes := prism_crypt._renew_by_key(
    ARRAY(SELECT i.index FROM prism_crypt._search_indexes() AS i), left_out || prism_crypt._unreadable_tables(),
    CASE WHEN force THEN 'order' ELSE 'order, with all keys' END);
  PERFORM prism_crypt._audit(
    'rotate_index_key', _make_next_index_key.keyset, NULL, _make_next_index_key.reason,
    format('generation: %s, indexes built anew: %s', new_generation, indexes));
  PERFORM set_config('lock_timeout', own_timeout, true);
  RETURN new_generation;
END $$;
COMMENT ON FUNCTION prism_crypt._make_next_index_key(text, text, boolean) IS
  'Makes the next index key of a keyset, and builds all indexes on encrypted values anew. Internal';

CREATE FUNCTION prism_crypt._replace_index_key(keyset text, reason text, force boolean DEFAULT false) RETURNS integer
  LANGUAGE c VOLATILE AS 'MODULE_PATHNAME', '_replace_index_key_wrapper';
COMMENT ON FUNCTION prism_crypt._replace_index_key(text, text, boolean) IS
  'A new index key without its tags, for roles that may rotate. Internal';

-- Ends the replacement of an index key if no old tag is left; otherwise says where there are some.
CREATE FUNCTION prism_crypt._finish_index_key(keyset text) RETURNS void
  LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
  own_timeout CONSTANT text := prism_crypt._limit_waits(10);
  began CONSTANT double precision := prism_crypt._uptime();
  counted_generation integer;
  target record;
  outdated bigint;
  places text;
BEGIN
  -- The count is about this key: another session may make the next one meanwhile.
  SELECT i.generation INTO counted_generation FROM prism_crypt.index_key AS i
  WHERE i.keyset = _finish_index_key.keyset AND i.state = 'active' AND i.retagged_at IS NULL;
  FOR target IN
    SELECT DISTINCT c.relation, format('%I.%I', n.nspname, r.relname) COLLATE "C" AS name
    FROM prism_crypt._encrypted_columns() AS c
    JOIN pg_class AS r ON r.oid = c.relation JOIN pg_namespace AS n ON n.oid = r.relnamespace
    ORDER BY name
  LOOP
    BEGIN
      IF prism_crypt._uptime() > began + 10 THEN
        -- How long it waits for all tables that others have locked, not for each.
        PERFORM set_config('lock_timeout', '100ms', true);
      END IF;
      outdated := prism_crypt._count_outdated_tags(target.relation, _finish_index_key.keyset);
      IF outdated > 0 THEN
        places := concat_ws(', ', places, format('%s: %s', target.name, outdated));
      END IF;
    EXCEPTION WHEN OTHERS OR assert_failure THEN
      places := concat_ws(', ', places, format('%s: not known, SQLSTATE %s', target.name, SQLSTATE));
    END;
  END LOOP;
  IF places IS NULL THEN
    UPDATE prism_crypt.index_key AS i SET retagged_at = clock_timestamp()
    WHERE i.keyset = _finish_index_key.keyset AND i.generation = counted_generation AND i.state = 'active'
      AND i.retagged_at IS NULL;
  ELSE
    RAISE WARNING 'values that still have old search tags: %', places USING
      HINT = 'Refresh materialized views, and call prism_crypt.rotate_index_key() again: it goes on.';
  END IF;
  PERFORM set_config('lock_timeout', own_timeout, true);
END $$;
COMMENT ON FUNCTION prism_crypt._finish_index_key(text) IS
  'Records that no value of a keyset has an old search tag any more. Internal';

CREATE FUNCTION prism_crypt._is_retagging(keyset text) RETURNS boolean
  LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
  SELECT EXISTS (SELECT FROM prism_crypt.index_key AS i
                 WHERE i.keyset = $1 AND i.state = 'active' AND i.retagged_at IS NULL)
$$;
COMMENT ON FUNCTION prism_crypt._is_retagging(text) IS
  'Whether the index key of a keyset was replaced and values may have old search tags. Internal';

-- The same work as rotating a keyset, for another reason: a value with an outdated tag is due in every rotation.
INSERT INTO prism_crypt.job_kind (name, checks, parts, changes, rows_changed) VALUES (
  'retagging', 'prism_crypt._check_rotation', 'prism_crypt._rotation_parts', 'prism_crypt._rotation_changes', 'rows re-encrypted');

CREATE PROCEDURE prism_crypt.rotate_index_key(
  keyset text DEFAULT 'default', reason text DEFAULT NULL, batch_size integer DEFAULT 1000, pause interval DEFAULT NULL,
  max_rows_per_second double precision DEFAULT NULL, max_replica_lag bigint DEFAULT NULL,
  fire_triggers boolean DEFAULT true, force boolean DEFAULT false
) LANGUAGE plpgsql AS $$
DECLARE
  limits prism_crypt._limits := ROW(
    batch_size, pause, max_rows_per_second, max_replica_lag, NULL, fire_triggers);
  generation integer;
  failed pg_catalog.text[];
  tables integer;
BEGIN
  IF NOT pg_catalog.has_function_privilege(
    'prism_crypt.rotate_all(integer, interval, double precision, bigint, integer, integer, pg_catalog.text, boolean)', 'EXECUTE') THEN
    RAISE insufficient_privilege USING
      MESSAGE = 'permission denied to rotate', HINT = 'rotate_index_key() needs access to rotate, beside key_admin.';
  END IF;
  PERFORM prism_crypt._require_no_transaction_block('prism_crypt.rotate_index_key()');
  PERFORM prism_crypt._check_limits(limits);
  IF force IS NULL THEN
    RAISE null_value_not_allowed USING MESSAGE = 'force must not be null';
  END IF;
  -- Whatever the default level is, it must see after each wait what was committed meanwhile.
  COMMIT;
  SET TRANSACTION ISOLATION LEVEL READ COMMITTED;
  IF prism_crypt._is_retagging(keyset) AND NOT force THEN
    RAISE NOTICE 'the index key of keyset "%" was replaced before; going on with the tags', keyset USING
      HINT = 'force => true makes another index key now.';
  ELSE
    CALL prism_crypt._lock_for_index_key(keyset, force);
    generation := prism_crypt._replace_index_key(keyset, reason, force);
    COMMIT;
    RAISE NOTICE 'keyset "%" has index key generation %; values get new search tags', keyset, generation USING
      DETAIL = 'All answers are right meanwhile. Until it is done, comparing values that still have their old tag opens them: '
        'that is slow, and building an index on them, REINDEX and joins need the keys.',
      HINT = 'If this is interrupted, call it again: it goes on.';
    RAISE WARNING 'blind_index() gives other values from now on' USING
      HINT = 'Recompute the columns that hold blind indexes of this keyset.';
  END IF;
  CALL prism_crypt._rotate_all('retagging', limits, NULL, keyset, failed, tables);
  COMMIT;
  SET TRANSACTION ISOLATION LEVEL READ COMMITTED;
  -- This counts by itself: a table that failed may have no old tag.
  PERFORM prism_crypt._finish_index_key(keyset);
  COMMIT;
  PERFORM prism_crypt._raise_not_rotated(failed, tables);
END $$;
COMMENT ON PROCEDURE prism_crypt.rotate_index_key(
  text, text, integer, interval, double precision, bigint, boolean, boolean) IS
  'A new index key for a keyset: builds indexes on encrypted values anew, then tags its values anew in committed batches';

-- sql/keys/end.sql

-- The end of a key's life. What is destroyed here is gone, so these functions first prove that nothing needs it.

-- Other transactions of this database that began before a moment, and so may hold values that a census does not see.
CREATE FUNCTION prism_crypt._older_transactions(began_before timestamptz, OUT who text) RETURNS SETOF text
  LANGUAGE sql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
  SELECT format('process %s, since %s', a.pid, a.xact_start)
  FROM pg_stat_get_activity(NULL) AS a JOIN pg_database AS d ON d.oid = a.datid
  WHERE d.datname = current_database() AND a.pid <> pg_backend_pid() AND a.xact_start < $1
    AND a.backend_type <> 'autovacuum worker'
  UNION ALL
  -- It is not known when they began.
  SELECT format('prepared transaction %L', p.gid) FROM pg_prepared_xacts AS p WHERE p.database = current_database()
$$;
COMMENT ON FUNCTION prism_crypt._older_transactions(timestamptz) IS
  'Other transactions of this database that began before a moment. Internal';

-- Sessions of this database that are in a transaction now, by numbers that are never reused while the server runs. Every
-- transaction holds such a lock on itself from beginning to end.
CREATE FUNCTION prism_crypt._open_transactions() RETURNS text[]
  LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
  -- A session that connected meanwhile must not be missed.
  PERFORM pg_stat_clear_snapshot();
  RETURN ARRAY(
    SELECT format('%s %s', l.pid, l.virtualtransaction)
    FROM pg_locks AS l
    JOIN pg_stat_get_activity(NULL) AS a ON a.pid = l.pid
    JOIN pg_database AS d ON d.oid = a.datid
    WHERE l.locktype = 'virtualxid' AND l.granted AND l.mode = 'ExclusiveLock' AND l.virtualxid = l.virtualtransaction
      AND d.datname = current_database() AND l.pid <> pg_backend_pid() AND a.backend_type <> 'autovacuum worker');
END $$;
COMMENT ON FUNCTION prism_crypt._open_transactions() IS
  'Other transactions of this database that are running, by process and virtual transaction id. Internal';

-- Those of them that are still running, and prepared transactions, because nobody knows when these began.
CREATE FUNCTION prism_crypt._still_running(transactions text[]) RETURNS text
  LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  open CONSTANT text[] := prism_crypt._open_transactions();
BEGIN
  RETURN (
    SELECT string_agg(o.who, '; ')
    FROM (SELECT format('process %s, since %s', a.pid, a.xact_start) AS who
          FROM unnest(open) AS t (id) JOIN pg_stat_get_activity(NULL) AS a ON a.pid = split_part(t.id, ' ', 1)::integer
          WHERE t.id = ANY (transactions)
          UNION ALL
          SELECT format('prepared transaction %L', p.gid) FROM pg_prepared_xacts AS p WHERE p.database = current_database()) AS o);
END $$;
COMMENT ON FUNCTION prism_crypt._still_running(text[]) IS
  'Which of these transactions have not ended, and prepared ones, in words. Internal';

CREATE FUNCTION prism_crypt._require_no_ciphertext(version integer) RETURNS void
  LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
  places text;
  total bigint;
  hidden text;
BEGIN
  SELECT string_agg(format('%s %s: %s', c.kind, c.location, c.ciphertexts), '; ' ORDER BY c.ciphertexts DESC)
           FILTER (WHERE c.ciphertexts > 0),
         sum(c.ciphertexts),
         string_agg(format('%s: %s', c.location, c.remark), '; ')
           FILTER (WHERE c.ciphertexts IS NULL AND c.kind <> 'foreign table' AND c.remark <> 'follows its table')
    INTO places, total, hidden
  FROM prism_crypt.census() AS c
  WHERE c.key_version = _require_no_ciphertext.version OR c.ciphertexts IS NULL;
  IF total > 0 THEN
    RAISE object_in_use USING
      MESSAGE = format('key version %s is in use: %s ciphertexts', version, total),
      DETAIL = left(places, 2000),
      HINT = 'Re-encrypt them (rotate_batch(), prism_crypt.rotate_all()); set constants in catalogs again.';
  ELSIF hidden IS NOT NULL THEN
    RAISE object_in_use USING
      MESSAGE = format('key version %s may be in use in places that can''t be checked', version),
      DETAIL = left(hidden, 2000),
      HINT = 'A temporary table ends with its session (pg_terminate_backend), a lock with its transaction. force => true does not check.';
  END IF;
END $$;
COMMENT ON FUNCTION prism_crypt._require_no_ciphertext(integer) IS
  'Raises an error while there are values of a key version. Internal';

-- Nothing is left of a version when (1) a census finds nothing, (2) every transaction that was running then has ended, and (3)
-- another census finds nothing: every transaction that is running at (3) began after (1), and saw no value that it could have
-- copied.
CREATE FUNCTION prism_crypt._prove_unused(version integer) RETURNS void
  LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  transactions text[];
  began double precision;
  patience CONSTANT double precision := 5;
  others text;
BEGIN
  PERFORM prism_crypt._require_no_ciphertext(version);
  transactions := prism_crypt._open_transactions();
  began := prism_crypt._uptime();
  LOOP
    others := prism_crypt._still_running(transactions);
    EXIT WHEN others IS NULL;
    IF prism_crypt._uptime() > began + patience THEN
      RAISE object_in_use USING
        MESSAGE = format('transactions are running that may hold values of key version %s', version),
        DETAIL = left(others, 2000),
        HINT = 'Wait until they end, or end them.';
    END IF;
    PERFORM prism_crypt._sleep(0.1);
  END LOOP;
  PERFORM prism_crypt._require_no_ciphertext(version);
END $$;
COMMENT ON FUNCTION prism_crypt._prove_unused(integer) IS
  'Raises an error unless no value of a key version is left, and none can come. Internal';

CREATE FUNCTION prism_crypt._require_reason(what text, reason text, force boolean) RETURNS void
  LANGUAGE plpgsql IMMUTABLE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
  IF force IS NULL THEN
    RAISE null_value_not_allowed USING MESSAGE = 'force must not be null';
  ELSIF force AND coalesce(btrim(reason), '') = '' THEN
    RAISE invalid_parameter_value USING
      MESSAGE = format('%s by force needs a reason', what),
      HINT = 'Values become unreadable forever. Give a reason: reason => ''...''.';
  END IF;
END $$;
COMMENT ON FUNCTION prism_crypt._require_reason(text, text, boolean) IS
  'Raises an error if force is used without a reason. Internal';

-- Overwrites the wrapped key and says where copies of it stay.
CREATE FUNCTION prism_crypt._overwrite_key(version integer, reason text, event text) RETURNS void
  LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
  keyset_name text;
BEGIN
  PERFORM prism_crypt._forget_carried_keys();
  UPDATE prism_crypt.data_key AS k
  SET state = 'destroyed', wrapped = '', destroyed_at = clock_timestamp(), reason = _overwrite_key.reason,
      retired_at = coalesce(k.retired_at, clock_timestamp())
  WHERE k.version = _overwrite_key.version
  RETURNING k.keyset INTO keyset_name;
  PERFORM prism_crypt._audit(event, keyset_name, version, _overwrite_key.reason);
END $$;
COMMENT ON FUNCTION prism_crypt._overwrite_key(integer, text, text) IS 'Overwrites a wrapped key. Internal';

-- A btree index keeps values to navigate by, even values that are gone from its table. Those that it has to open (without a
-- search tag, or with an old one) can't be opened any more once their key is destroyed. A hash index keeps no values, but may
-- have been built with tags that only the key gives.
CREATE FUNCTION prism_crypt._indexes_to_rebuild(keyset text) RETURNS regclass[]
  LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
  SELECT coalesce(array_agg(DISTINCT i.index ORDER BY i.index), '{}')
  FROM prism_crypt._search_indexes() AS i
  JOIN pg_index AS x ON x.indexrelid = i.index
  CROSS JOIN LATERAL unnest(x.indkey::smallint[]) AS k (attnum)
  LEFT JOIN pg_attribute AS a ON a.attrelid = x.indrelid AND a.attnum = k.attnum AND k.attnum <> 0
  WHERE EXISTS (SELECT FROM prism_crypt.index_key AS g WHERE g.keyset = $1 AND g.generation > 1)
     OR coalesce(a.atttypmod, -1) & 256 = 0 OR coalesce(a.atttypmod, -1) < 0
$$;
COMMENT ON FUNCTION prism_crypt._indexes_to_rebuild(text) IS
  'Indexes that may have to open values of a keyset. Internal';

-- Locks the tables of these indexes until they are rebuilt, as far as others leave them; gives the rest.
CREATE FUNCTION prism_crypt._lock_for_loss(indexes regclass[]) RETURNS oid[]
  LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  relations CONSTANT oid[] := ARRAY(
    SELECT DISTINCT x.indrelid FROM pg_index AS x WHERE x.indexrelid = ANY (indexes::oid[]) ORDER BY x.indrelid);
  others CONSTANT oid[] := prism_crypt._unreadable_tables();
  left_out oid[];
BEGIN
  IF relations = '{}' THEN
    RETURN '{}';
  END IF;
  left_out := prism_crypt._take_tables(
    ARRAY(SELECT r FROM unnest(relations) AS r WHERE r <> ALL (others) ORDER BY r), least(prism_crypt._patience(10), 10));
  IF left_out <> '{}' THEN
    PERFORM prism_crypt._announce_to_transactions();
  END IF;
  RETURN left_out || others;
END $$;
COMMENT ON FUNCTION prism_crypt._lock_for_loss(regclass[]) IS
  'Locks the tables of indexes that may hold values of a key, as far as others leave them. Internal';

CREATE FUNCTION prism_crypt._tell_what_remains(what text) RETURNS void
  LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
  RAISE NOTICE '%', what USING
    DETAIL = 'Out of reach are copies of the wrapped key in dead rows of prism_crypt.data_key until VACUUM FULL, in WAL and its '
      'archives, and in dumps, backups and snapshots of disks; and old ciphertext in dead rows of tables.',
    HINT = 'VACUUM FULL prism_crypt.data_key, and let WAL and backups expire. Or rotate the master key and destroy the old one: '
      'then these copies are useless.';
END $$;
COMMENT ON FUNCTION prism_crypt._tell_what_remains(text) IS 'Says what a destruction does not reach. Internal';

CREATE FUNCTION prism_crypt.destroy_key(version integer, reason text DEFAULT NULL, force boolean DEFAULT false)
  RETURNS void
  LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
  own_timeout CONSTANT text := prism_crypt._limit_waits(10);
  indexes regclass[];
  left_out oid[];
BEGIN
  PERFORM prism_crypt._require_reason('destroying a key', destroy_key.reason, force),
    prism_crypt._require_read_committed('destroying a key');
  PERFORM prism_crypt._lock_old_key(
    destroy_key.version,
    'Call prism_crypt.rotate_key() first; or prism_crypt.destroy_keyset(), which ends the whole keyset.');
  IF NOT force THEN
    PERFORM prism_crypt._prove_unused(destroy_key.version);
  END IF;
  indexes := prism_crypt._indexes_to_rebuild(
    (SELECT k.keyset FROM prism_crypt.data_key AS k WHERE k.version = destroy_key.version));
  left_out := prism_crypt._lock_for_loss(indexes);
  PERFORM prism_crypt._overwrite_key(
    destroy_key.version, destroy_key.reason, CASE WHEN force THEN 'destroy_key by force' ELSE 'destroy_key' END);
  PERFORM prism_crypt._renew_by_key(indexes, left_out, 'loss');
  PERFORM prism_crypt._tell_what_remains(format('key version %s is destroyed', destroy_key.version));
  PERFORM set_config('lock_timeout', own_timeout, true);
END $$;
COMMENT ON FUNCTION prism_crypt.destroy_key(integer, text, boolean) IS
  'Overwrites a key that is not active and has no values left; by force also while it has, which makes them unreadable';

CREATE FUNCTION prism_crypt.destroy_keyset(keyset text, reason text DEFAULT NULL, force boolean DEFAULT false)
  RETURNS integer
  LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
  own_timeout CONSTANT text := prism_crypt._limit_waits(10);
  versions integer[];
  values_lost bigint;
  indexes regclass[];
  left_out oid[];
  version integer;
BEGIN
  IF destroy_keyset.keyset IS NULL THEN
    RAISE null_value_not_allowed USING MESSAGE = 'keyset must not be null';
  END IF;
  PERFORM prism_crypt._require_reason('destroying a keyset', destroy_keyset.reason, force),
    prism_crypt._require_read_committed('destroying a keyset');
  PERFORM prism_crypt._lock_key_tables();
  -- As in rotate_key(): no key may be added meanwhile.
  PERFORM 1 FROM prism_crypt.keyset AS k WHERE k.name = destroy_keyset.keyset FOR UPDATE;
  PERFORM prism_crypt._require_keyset(destroy_keyset.keyset, 'prism_crypt.key_status lists them.');
  SELECT coalesce(array_agg(k.version ORDER BY k.version), '{}') INTO versions
  FROM prism_crypt.data_key AS k WHERE k.keyset = destroy_keyset.keyset AND k.state <> 'destroyed';
  IF versions = '{}' THEN
    RAISE object_not_in_prerequisite_state USING MESSAGE = format('keyset "%s" has no key', destroy_keyset.keyset);
  ELSIF NOT force THEN
    SELECT coalesce(sum(c.ciphertexts), 0) INTO values_lost FROM prism_crypt.census() AS c
    WHERE c.key_version = ANY (versions);
    RAISE object_in_use USING
      MESSAGE = format('destroying keyset "%s" would make its values unreadable forever', destroy_keyset.keyset),
      DETAIL = format('Key versions: %s. Ciphertexts: %s.', array_to_string(versions, ', '), values_lost),
      HINT = 'If that is what you want: force => true, reason => ''...''.';
  END IF;
  indexes := prism_crypt._indexes_to_rebuild(destroy_keyset.keyset);
  left_out := prism_crypt._lock_for_loss(indexes);
  FOREACH version IN ARRAY versions LOOP
    PERFORM prism_crypt._overwrite_key(version, destroy_keyset.reason, 'destroy_keyset');
  END LOOP;
  -- Without the index key, nobody can test guesses of plaintexts against search tags.
  PERFORM prism_crypt._overwrite_index_key(destroy_keyset.keyset);
  PERFORM prism_crypt._renew_by_key(indexes, left_out, 'loss');
  PERFORM prism_crypt._tell_what_remains(
    format('keyset "%s" is destroyed: key versions %s', destroy_keyset.keyset, array_to_string(versions, ', ')));
  PERFORM set_config('lock_timeout', own_timeout, true);
  RETURN cardinality(versions);
END $$;
COMMENT ON FUNCTION prism_crypt.destroy_keyset(text, text, boolean) IS
  'Crypto-shredding: overwrites all keys of a keyset, which makes its values unreadable at once; gives their number';

-- sql/keys/arrival.sql

-- Rows of keys that were made elsewhere and are brought by an apply worker, a restore, or by hand. The order of an index on
-- encrypted values depends on the index key that is known for each value: an index that was built before has another order, and
-- would miss rows. From then on no such index is used until it is rebuilt.
--
-- Rows that this transaction made itself (created_at is its start) change no order: the function that makes a key takes care of
-- the indexes. All triggers are ALWAYS triggers, because apply workers fire no others.

CREATE FUNCTION prism_crypt._is_logical_worker() RETURNS boolean
  LANGUAGE c VOLATILE AS 'MODULE_PATHNAME', '_is_logical_worker_wrapper';
COMMENT ON FUNCTION prism_crypt._is_logical_worker() IS
  'Whether this process applies what another server replicates. Internal';

CREATE FUNCTION prism_crypt._lock_for_reading(relation oid) RETURNS void
  LANGUAGE c VOLATILE STRICT AS 'MODULE_PATHNAME', '_lock_for_reading_wrapper';
COMMENT ON FUNCTION prism_crypt._lock_for_reading(oid) IS 'Locks a relation of any kind, in SHARE mode. Internal';

-- An apply worker rebuilds the indexes if it can, without running functions of others while the tables are locked. A restore does
-- not, because its values and keys may come later.
CREATE FUNCTION prism_crypt._renew_indexes(indexes regclass[]) RETURNS void
  LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  is_worker CONSTANT boolean := prism_crypt._is_logical_worker();
  index regclass;
  distrusted regclass[] := '{}';
  cause text;
BEGIN
  FOREACH index IN ARRAY indexes LOOP
    IF NOT is_worker THEN
      NULL;
    ELSIF prism_crypt._runs_others_code(index) THEN
      cause := format('%s runs functions of others', index);
    ELSE
      BEGIN
        PERFORM set_config('max_parallel_maintenance_workers', '0', true),
          prism_crypt._rebuild_index(index::text, (
            SELECT x.indexprs IS NULL AND x.indpred IS NULL FROM pg_index AS x WHERE x.indexrelid = index));
        CONTINUE;
      EXCEPTION WHEN OTHERS OR assert_failure THEN
        -- Messages of other errors may quote values.
        cause := CASE WHEN SQLSTATE = '55000' THEN SQLERRM ELSE 'SQLSTATE ' || SQLSTATE END;
      END;
    END IF;
    distrusted := distrusted || index;
  END LOOP;
  IF distrusted = '{}' THEN
    RETURN;
  END IF;
  PERFORM prism_crypt._distrust_indexes(distrusted);
  RAISE WARNING 'indexes on encrypted values were built before their index key was there, and are invalid: %',
    (SELECT string_agg(i::text, ', ' ORDER BY i::text) FROM unnest(distrusted) AS i) USING
    DETAIL = coalesce('They could not be rebuilt: ' || cause || '.', 'Their order is that of another index key.'),
    HINT = 'REINDEX INDEX makes each of them valid; it needs the keys. Then call prism_crypt.rotate_index_key() to go on with '
      'the tags, if it was going on.';
END $$;
COMMENT ON FUNCTION prism_crypt._renew_indexes(regclass[]) IS
  'Rebuilds indexes of another order, or marks them invalid. Internal';

-- Tables with indexes on values of a keyset whose tags are not from its index key.
CREATE FUNCTION prism_crypt._indexed_old_tags(keyset text) RETURNS regclass[]
  LANGUAGE sql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
  SELECT coalesce(array_agg(t.relation), '{}')
  FROM (SELECT DISTINCT i.relation FROM prism_crypt._search_indexes() AS i) AS t
  WHERE prism_crypt._count_outdated_tags(t.relation, $1) > 0
$$;
COMMENT ON FUNCTION prism_crypt._indexed_old_tags(text) IS
  'Tables where indexed values of a keyset have search tags of another index key. Internal';

-- `certain`: values may have other tags although none are visible, for example while they are tagged again.
CREATE FUNCTION prism_crypt._take_index_order(keyset text, certain boolean) RETURNS void
  LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  is_worker CONSTANT boolean := prism_crypt._is_logical_worker();
  -- A worker starts again by itself.
  own_timeout CONSTANT text := prism_crypt._limit_waits(CASE WHEN is_worker THEN 60 ELSE 600 END);
  relations regclass[];
  indexes regclass[];
BEGIN
  -- This waits for index builds that are under way; builds that begin later see this row.
  PERFORM prism_crypt._lock_searched_tables(false);
  IF NOT EXISTS (SELECT FROM prism_crypt._search_indexes()) THEN
    PERFORM set_config('lock_timeout', own_timeout, true);
    RETURN;
  END IF;
  IF NOT certain THEN
    IF is_worker THEN
      -- This waits for writers; readers don't have to wait.
      PERFORM prism_crypt._lock_for_reading(t.relation)
      FROM (SELECT DISTINCT i.relation FROM prism_crypt._search_indexes() AS i ORDER BY 1) AS t;
    END IF;
    relations := prism_crypt._indexed_old_tags(keyset);
    IF relations = '{}' THEN
      PERFORM set_config('lock_timeout', own_timeout, true);
      RETURN;
    END IF;
  END IF;
  IF is_worker THEN
    -- No statement may be running that has already compared a value by the old key. A worker tries again by itself.
    PERFORM prism_crypt._require_no_concurrent_build();
    PERFORM prism_crypt._lock_searched_tables(true);
  END IF;
  SELECT array_agg(i.index ORDER BY i.index) INTO indexes
  FROM (SELECT DISTINCT s.index FROM prism_crypt._search_indexes() AS s JOIN pg_index AS x ON x.indexrelid = s.index
        WHERE (certain OR s.relation = ANY (relations))
          -- Indexes that are already invalid stay so, but a worker tries to build them.
          AND (x.indisvalid OR is_worker)) AS i;
  IF indexes IS NOT NULL THEN
    PERFORM prism_crypt._renew_indexes(indexes);
  END IF;
  PERFORM set_config('lock_timeout', own_timeout, true);
END $$;
COMMENT ON FUNCTION prism_crypt._take_index_order(text, boolean) IS
  'Updates the indexes after the index key that is known for values has changed. Internal';

-- If another index key was known, every value is outdated by one key or the other. Rows of one command count as arriving
-- together.
CREATE FUNCTION prism_crypt._index_key_arrived() RETURNS trigger
  LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
  -- A restore knew the key before, so every index has the order of that key.
  IF TG_OP = 'INSERT' AND prism_crypt._is_carried(NEW.keyset, NEW.generation) THEN
    RETURN NULL;
  END IF;
  PERFORM prism_crypt._take_index_order(NEW.keyset, TG_OP = 'UPDATE' OR NEW.retagged_at IS NULL OR EXISTS (
    SELECT FROM prism_crypt.index_key AS i JOIN prism_crypt.index_key AS o ON o.keyset = i.keyset
    WHERE i.keyset = NEW.keyset AND i.generation = NEW.generation
      AND (o.xmin::text || ' ' || o.cmin::text) <> (i.xmin::text || ' ' || i.cmin::text)));
  RETURN NULL;
END $$;
COMMENT ON FUNCTION prism_crypt._index_key_arrived() IS 'Updates the indexes when an index key arrives. Internal';

CREATE TRIGGER index_key_loaded
  AFTER INSERT ON prism_crypt.index_key
  FOR EACH ROW WHEN (NEW.state = 'active' AND NEW.created_at <> pg_catalog.now())
  EXECUTE FUNCTION prism_crypt._index_key_arrived();
CREATE TRIGGER index_key_replaced
  AFTER UPDATE ON prism_crypt.index_key
  FOR EACH ROW WHEN (NEW.state = 'active' AND (OLD.keyset <> NEW.keyset OR OLD.generation <> NEW.generation))
  EXECUTE FUNCTION prism_crypt._index_key_arrived();

-- The index key for a value is found through its data key.
CREATE FUNCTION prism_crypt._data_key_arrived() RETURNS trigger
  LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  own_timeout text;
  indexes regclass[];
BEGIN
  IF TG_OP = 'INSERT' THEN
    -- Until an index key is replaced, values have no other tags.
    IF NOT prism_crypt._is_carried(NEW.version) AND EXISTS (SELECT FROM prism_crypt.index_key AS i
               WHERE i.keyset = NEW.keyset AND i.state = 'active' AND i.generation > 1) THEN
      PERFORM prism_crypt._take_index_order(NEW.keyset, false);
    END IF;
  ELSIF prism_crypt._is_logical_worker() THEN
    -- As destroy_key() did on the other server.
    indexes := prism_crypt._indexes_to_rebuild(NEW.keyset);
    IF indexes <> '{}' THEN
      own_timeout := prism_crypt._limit_waits(60);
      PERFORM prism_crypt._require_no_concurrent_build();
      PERFORM prism_crypt._lock_searched_tables(true);
      PERFORM prism_crypt._renew_indexes(indexes);
      PERFORM set_config('lock_timeout', own_timeout, true);
    END IF;
  END IF;
  RETURN NULL;
END $$;
COMMENT ON FUNCTION prism_crypt._data_key_arrived() IS 'Updates the indexes when a data key arrives, or is destroyed. Internal';

CREATE TRIGGER data_key_loaded
  AFTER INSERT ON prism_crypt.data_key
  FOR EACH ROW WHEN (NEW.state <> 'destroyed' AND NEW.created_at <> pg_catalog.now())
  EXECUTE FUNCTION prism_crypt._data_key_arrived();
CREATE TRIGGER data_key_lost
  AFTER UPDATE ON prism_crypt.data_key
  FOR EACH ROW WHEN (OLD.state <> 'destroyed' AND NEW.state = 'destroyed')
  EXECUTE FUNCTION prism_crypt._data_key_arrived();
-- Tags that this index key made stay usable without it; tags of other index keys don't, and only before the key goes is it
-- known which ones those are. Afterwards an index has nothing from which it could be rebuilt.
CREATE FUNCTION prism_crypt._keys_leave() RETURNS trigger
  LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  own_timeout CONSTANT text := prism_crypt._limit_waits(600);
  indexes regclass[];
BEGIN
  PERFORM prism_crypt._lock_searched_tables(false);
  PERFORM set_config('lock_timeout', own_timeout, true);
  SELECT array_agg(DISTINCT s.index) INTO indexes
  FROM prism_crypt._search_indexes() AS s JOIN pg_index AS x ON x.indexrelid = s.index
  WHERE x.indisvalid AND s.relation = ANY (ARRAY(
    SELECT unnest(prism_crypt._indexed_old_tags(k.keyset))
    FROM (SELECT DISTINCT i.keyset FROM prism_crypt.index_key AS i) AS k
    WHERE TG_OP = 'TRUNCATE' OR k.keyset = to_jsonb(OLD) ->> 'keyset'));
  IF indexes IS NOT NULL THEN
    PERFORM prism_crypt._distrust_indexes(indexes);
    RAISE WARNING 'indexes on encrypted values are invalid without their keys: %',
      (SELECT string_agg(i::text, ', ' ORDER BY i::text) FROM unnest(indexes) AS i) USING
      HINT = 'Load the keys, and REINDEX INDEX each of them. prism_crypt.status() lists them.';
  END IF;
  RETURN OLD;
END $$;
COMMENT ON FUNCTION prism_crypt._keys_leave() IS 'Updates the indexes before keys go. Internal';

CREATE TRIGGER data_key_removed
  BEFORE DELETE ON prism_crypt.data_key
  FOR EACH ROW WHEN (OLD.state <> 'destroyed') EXECUTE FUNCTION prism_crypt._keys_leave();
CREATE TRIGGER index_key_removed
  BEFORE DELETE ON prism_crypt.index_key
  FOR EACH ROW WHEN (OLD.state = 'active') EXECUTE FUNCTION prism_crypt._keys_leave();
CREATE TRIGGER data_key_emptied
  BEFORE TRUNCATE ON prism_crypt.data_key
  FOR EACH STATEMENT EXECUTE FUNCTION prism_crypt._keys_leave();
CREATE TRIGGER index_key_emptied
  BEFORE TRUNCATE ON prism_crypt.index_key
  FOR EACH STATEMENT EXECUTE FUNCTION prism_crypt._keys_leave();

DO $$
DECLARE
  name pg_catalog.text;
BEGIN
  FOREACH name IN ARRAY ARRAY['index_key_loaded', 'index_key_replaced', 'index_key_removed', 'index_key_emptied'] LOOP
    EXECUTE pg_catalog.format('ALTER TABLE prism_crypt.index_key ENABLE ALWAYS TRIGGER %I', name);
    EXECUTE pg_catalog.format(
      'COMMENT ON TRIGGER %I ON prism_crypt.index_key IS ''Sees to it that no index of another order is trusted''', name);
  END LOOP;
  FOREACH name IN ARRAY ARRAY['data_key_loaded', 'data_key_lost', 'data_key_removed', 'data_key_emptied'] LOOP
    EXECUTE pg_catalog.format('ALTER TABLE prism_crypt.data_key ENABLE ALWAYS TRIGGER %I', name);
    EXECUTE pg_catalog.format(
      'COMMENT ON TRIGGER %I ON prism_crypt.data_key IS ''Sees to it that no index of another order is trusted''', name);
  END LOOP;
END $$;


-- sql/keys/replicated_rows.sql

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

-- sql/keys/rows.sql

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

-- sql/rotation/plan_rotation.sql

-- What a rotation would have to do, and what stands in its way. It changes nothing: the sample is re-encrypted in a temporary
-- copy, in a subtransaction that is always rolled back, so that neither locks nor rows in the catalogs are left.

-- What stands in the way of rotating one table as this role. The table may belong to others, so nothing here runs their code.
CREATE FUNCTION prism_crypt._rotation_blockers(relation regclass) RETURNS text[]
  LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  blockers text[] := '{}';
BEGIN
  BEGIN
    PERFORM prism_crypt._check_rotation(relation, NULL, '{}');
  EXCEPTION WHEN OTHERS OR assert_failure THEN
    blockers := ARRAY[SQLERRM];
  END;
  RETURN blockers || ARRAY(
    SELECT format('trigger "%s" fires for each batch', t.tgname) FROM pg_trigger AS t
    -- UPDATE is bit 4 of tgtype (pg_trigger.h).
    WHERE t.tgrelid = relation AND NOT t.tgisinternal AND t.tgenabled IN ('O', 'A') AND t.tgtype & 16 <> 0);
END $$;
COMMENT ON FUNCTION prism_crypt._rotation_blockers(regclass) IS 'What stands in the way of a rotation. Internal';

-- Seconds per row in this table's last rotation of at least 1000 rows; null if there was none.
CREATE FUNCTION prism_crypt._last_pace(relation regclass, note bigint) RETURNS double precision
  LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  role CONSTANT oid := prism_crypt._caller(note);
BEGIN
  RETURN (SELECT p.busy_seconds / p.rows_done
          FROM prism_crypt.job_part AS p JOIN prism_crypt.job AS j ON j.id = p.job
          WHERE p.relation = _last_pace.relation AND p.rows_done >= 1000 AND prism_crypt._right_to_job(role, j) IS NOT NULL
          ORDER BY p.job DESC LIMIT 1);
END $$;
COMMENT ON FUNCTION prism_crypt._last_pace(regclass, bigint) IS 'How long a row took when the table was last rotated. Internal';

-- The type of a column with its modifier. For a domain it is the base type without a modifier, because with the modifier every
-- value would be sealed again.
CREATE FUNCTION prism_crypt._base_of_column(type oid, modifier integer) RETURNS text
  LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
  WITH RECURSIVE base (type, modifier) AS (
    SELECT $1, $2
    UNION ALL
    SELECT t.typbasetype, -1 FROM base AS b JOIN pg_type AS t ON t.oid = b.type WHERE t.typtype = 'd'
  )
  SELECT format_type(b.type, b.modifier) FROM base AS b JOIN pg_type AS t ON t.oid = b.type WHERE t.typtype <> 'd'
$$;
COMMENT ON FUNCTION prism_crypt._base_of_column(oid, integer) IS 'The type of a column without domains. Internal';

-- Whether values of a type contain values of domains with CHECKs, which are functions of others.
CREATE FUNCTION prism_crypt._has_checks_inside(type oid) RETURNS boolean
  LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
  WITH RECURSIVE parts (type, inside) AS (
    SELECT $1, false
    UNION
    SELECT step.type, p.inside OR step.inside
    FROM parts AS p CROSS JOIN LATERAL (
      SELECT t.typbasetype, false FROM pg_type AS t WHERE t.oid = p.type AND t.typtype = 'd'
      UNION ALL
      SELECT t.typelem, true FROM pg_type AS t WHERE t.oid = p.type AND t.typelem <> 0
      UNION ALL
      SELECT r.rngsubtype, true FROM pg_range AS r WHERE p.type IN (r.rngtypid, r.rngmultitypid)
      UNION ALL
      SELECT a.atttypid, true FROM pg_type AS t JOIN pg_attribute AS a ON a.attrelid = t.typrelid
      WHERE t.oid = p.type AND t.typrelid <> 0 AND a.attnum > 0 AND NOT a.attisdropped
    ) AS step (type, inside)
  )
  SELECT EXISTS (
    SELECT FROM parts AS p JOIN pg_constraint AS c ON c.contypid = p.type WHERE p.inside AND c.contype = 'c')
$$;
COMMENT ON FUNCTION prism_crypt._has_checks_inside(oid) IS 'Whether a type holds domains with CHECKs. Internal';

-- The columns that a sample has: re-encrypting other columns would run CHECKs.
CREATE FUNCTION prism_crypt._sample_columns(relation regclass) RETURNS SETOF pg_attribute
  LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
  SELECT a FROM pg_attribute AS a
  WHERE a.attrelid = $1 AND a.attnum > 0 AND NOT a.attisdropped
    AND NOT coalesce(prism_crypt._rotatable_kind(a.atttypid) = 'nested' AND prism_crypt._has_checks_inside(a.atttypid), false)
    -- PostgreSQL looks through the whole type before it makes a table with it, which may take for ever.
    AND prism_crypt._is_quickly_checked(a.atttypid)
  ORDER BY a.attnum
$$;
COMMENT ON FUNCTION prism_crypt._sample_columns(regclass) IS 'The columns that a sample of a table has. Internal';

-- The table itself is never named in a statement: planning one computes the constants in index expressions and predicates.
CREATE FUNCTION prism_crypt._copy_sample(source oid, copy oid, columns smallint[], most integer) RETURNS bigint
  LANGUAGE c VOLATILE STRICT AS 'MODULE_PATHNAME', '_copy_sample_wrapper';
COMMENT ON FUNCTION prism_crypt._copy_sample(oid, oid, smallint[], integer) IS
  'Copies some rows of a table to a temporary one, and runs nothing of the table''s owner. Internal';

-- Makes an empty copy of a table for the sample. It replaces domains by their base types, because CHECKs are functions of
-- others.
CREATE FUNCTION prism_crypt._make_sample_table(relation regclass) RETURNS void
  LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  definition text;
BEGIN
  SELECT string_agg(format('%I %s%s', a.attname, d.type,
           CASE WHEN a.attcollation = 0 THEN '' ELSE (
             SELECT format(' COLLATE %I.%I', n.nspname, l.collname)
             FROM pg_collation AS l JOIN pg_namespace AS n ON n.oid = l.collnamespace WHERE l.oid = a.attcollation) END),
         ', ' ORDER BY a.attnum) INTO definition
  FROM prism_crypt._sample_columns(relation) AS a
  CROSS JOIN LATERAL prism_crypt._base_of_column(a.atttypid, a.atttypmod) AS d (type);
  EXECUTE format('CREATE TEMPORARY TABLE prism_crypt_sample (%s) USING heap', definition);
  SELECT string_agg(format('ALTER TABLE pg_temp.prism_crypt_sample ALTER %I SET STORAGE %s', a.attname,
           CASE a.attstorage WHEN 'p' THEN 'PLAIN' WHEN 'e' THEN 'EXTERNAL' WHEN 'm' THEN 'MAIN' ELSE 'EXTENDED' END), '; ')
    INTO definition
  FROM prism_crypt._sample_columns(relation) AS a JOIN pg_type AS t ON t.oid = a.atttypid
  WHERE a.attstorage <> t.typstorage;
  IF definition IS NOT NULL THEN
    EXECUTE definition;
  END IF;
END $$;
COMMENT ON FUNCTION prism_crypt._make_sample_table(regclass) IS 'Makes an empty copy of a table. Internal';

-- Gives the copy the btree and hash indexes of the table on plain columns: expressions and predicates are functions of others.
-- An index on values that are not searchable would open them at every step, so it is left out.
CREATE FUNCTION prism_crypt._index_sample_table(relation regclass) RETURNS void
  LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  definition text;
BEGIN
  FOR definition IN
    SELECT format('CREATE INDEX ON pg_temp.prism_crypt_sample USING %I (%s)', m.amname, (
             SELECT string_agg(format('%I %I.%I', a.attname, n.nspname, o.opcname), ', ' ORDER BY k.number)
             FROM unnest(i.indkey::smallint[], i.indclass::oid[]) WITH ORDINALITY AS k (attnum, opclass, number)
             JOIN pg_attribute AS a ON a.attrelid = relation AND a.attnum = k.attnum
             JOIN pg_opclass AS o ON o.oid = k.opclass JOIN pg_namespace AS n ON n.oid = o.opcnamespace
             WHERE k.number <= i.indnkeyatts))
    FROM pg_index AS i JOIN pg_class AS c ON c.oid = i.indexrelid JOIN pg_am AS m ON m.oid = c.relam
    WHERE i.indrelid = relation AND i.indisvalid AND i.indexprs IS NULL AND i.indpred IS NULL
      AND m.amname IN ('btree', 'hash')
      AND NOT EXISTS (
        SELECT FROM unnest(i.indkey::smallint[]) AS k (attnum)
        JOIN pg_attribute AS a ON a.attrelid = relation AND a.attnum = k.attnum
        WHERE prism_crypt._rotatable_kind(a.atttypid) IN ('plain', 'nested')
          AND prism_crypt._base_of_column(a.atttypid, a.atttypmod) NOT LIKE '%searchable%')
  LOOP
    EXECUTE definition;
  END LOOP;
END $$;
COMMENT ON FUNCTION prism_crypt._index_sample_table(regclass) IS 'Gives a copy of a table its indexes. Internal';

-- Copies a sample of a table's blocks and rotates the copy.
CREATE FUNCTION prism_crypt._rotate_sample(
  relation regclass, sample_rows integer, OUT sampled bigint, OUT due bigint, OUT seconds_per_row double precision
) LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  copy regclass;
  plan prism_crypt._plan;
  began timestamptz;
  done boolean := false;
BEGIN
  sampled := 0;
  due := 0;
  IF pg_relation_size(relation) = 0 THEN
    RETURN;
  END IF;
  PERFORM prism_crypt._make_sample_table(relation);
  copy := 'pg_temp.prism_crypt_sample'::regclass;
  sampled := prism_crypt._copy_sample(relation, copy, ARRAY(
    SELECT a.attnum FROM prism_crypt._sample_columns(relation) AS a ORDER BY a.attnum), sample_rows);
  PERFORM prism_crypt._index_sample_table(relation);
  plan := prism_crypt._plan_part(prism_crypt._kind_of_job('rotation'), NULL, copy, NULL, '{}');
  began := clock_timestamp();
  due := (prism_crypt._change_locked(plan, prism_crypt._tid(0), prism_crypt._tid(
    pg_relation_size(copy) / current_setting('block_size')::bigint), sample_rows)).rows;
  seconds_per_row := EXTRACT(epoch FROM clock_timestamp() - began) / nullif(due, 0);
  done := true;
  RAISE SQLSTATE 'PC000';
EXCEPTION WHEN SQLSTATE 'PC000' THEN
  IF NOT done THEN
    RAISE;
  END IF;
END $$;
COMMENT ON FUNCTION prism_crypt._rotate_sample(regclass, integer) IS
  'Measures a rotation with a sample, and leaves nothing behind. Internal';

-- How much there is to do for a table, by a sample. If that fails, or waits longer than a second, that is a blocker.
CREATE FUNCTION prism_crypt._estimate_rotation(
  relation regclass, sample_rows integer, INOUT rows_estimate bigint, OUT rows_due bigint, OUT bytes bigint,
  OUT estimated_time interval, OUT basis text, INOUT blockers text[]
) LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp SET lock_timeout = '1s' AS $$
DECLARE
  sample record;
  pace double precision;
BEGIN
  bytes := pg_table_size(relation);
  PERFORM prism_crypt._saw_unreadable();
  sample := prism_crypt._rotate_sample(relation, sample_rows);
  IF rows_estimate = 0 AND sample.sampled < sample_rows THEN
    -- The table was never analyzed, and the sample was all of it.
    rows_estimate := sample.sampled;
  END IF;
  rows_due := CASE WHEN sample.sampled > 0 THEN rows_estimate * (sample.due::double precision / sample.sampled) ELSE 0 END;
  pace := prism_crypt._last_pace(relation, prism_crypt._note_caller());
  basis := CASE WHEN pace IS NULL THEN format('sample of %s rows', sample.sampled) ELSE 'last rotation' END;
  estimated_time := make_interval(secs => least(coalesce(pace, sample.seconds_per_row, 0) * rows_due, 1e11));
  blockers := blockers || ARRAY(
    SELECT format('column "%s" is not in the sample, because domains inside of it have CHECKs', a.attname)
    FROM pg_attribute AS a WHERE a.attrelid = relation AND a.attnum > 0 AND NOT a.attisdropped
      AND a.attnum NOT IN (SELECT s.attnum FROM prism_crypt._sample_columns(relation) AS s) ORDER BY a.attnum);
  IF prism_crypt._saw_unreadable() THEN
    blockers := blockers || 'values under keys that are disabled or not known stay as they are'::text;
  END IF;
EXCEPTION WHEN OTHERS OR assert_failure THEN
  blockers := blockers || format('the sample could not be rotated (SQLSTATE %s)', SQLSTATE);
END $$;
COMMENT ON FUNCTION prism_crypt._estimate_rotation(regclass, integer, bigint, text[]) IS
  'What a rotation of one table would do. Internal';

CREATE FUNCTION prism_crypt._table_bytes(relation regclass) RETURNS bigint
  LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp SET lock_timeout = '1s' AS $$
BEGIN
  RETURN pg_table_size(relation);
EXCEPTION WHEN lock_not_available THEN
  RETURN NULL;
END $$;
COMMENT ON FUNCTION prism_crypt._table_bytes(regclass) IS
  'The size of a table; null if somebody else has it locked. Internal';

CREATE FUNCTION prism_crypt.plan_rotation(
  sample_rows integer DEFAULT 1000,
  OUT target text, OUT columns name[], OUT rows_estimate bigint, OUT rows_due bigint, OUT bytes bigint,
  OUT estimated_time interval, OUT basis text, OUT blockers text[]
) RETURNS SETOF record
  LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
  one record;
  estimate record;
  old_transactions text[];
BEGIN
  IF sample_rows IS NULL THEN
    RAISE null_value_not_allowed USING MESSAGE = 'sample_rows must not be null';
  END IF;
  PERFORM prism_crypt._require_between('sample_rows', sample_rows, 1, 1000000);
  old_transactions := ARRAY(
    SELECT format('long transactions hold back VACUUM: %s', count(*))
    FROM prism_crypt._older_transactions(clock_timestamp() - interval '1 hour') HAVING count(*) > 0);
  FOR one IN
    SELECT c.relation::regclass AS relation, c.relkind, array_agg(c.column_name ORDER BY a.attnum) AS columns,
           least(greatest(max(r.reltuples), 0), 1e15)::bigint AS rows_estimate
    FROM prism_crypt._encrypted_columns() AS c JOIN pg_class AS r ON r.oid = c.relation
    JOIN pg_attribute AS a ON a.attrelid = c.relation AND a.attname = c.column_name
    JOIN pg_namespace AS n ON n.oid = r.relnamespace
    WHERE c.relkind <> 'p' AND r.relpersistence <> 't' AND n.nspname <> 'prism_crypt'
    GROUP BY c.relation, c.relkind
  LOOP
    target := prism_crypt._qualified_name(one.relation);
    -- It was dropped meanwhile.
    CONTINUE WHEN target IS NULL;
    columns := one.columns;
    rows_estimate := one.rows_estimate;
    rows_due := NULL;
    bytes := NULL;
    estimated_time := NULL;
    basis := NULL;
    IF one.relkind = 'm' THEN
      bytes := prism_crypt._table_bytes(one.relation);
      blockers := ARRAY['materialized view: REFRESH MATERIALIZED VIEW after the tables that it reads'];
    ELSIF one.relkind = 'f' THEN
      blockers := ARRAY['foreign table: rotate it on its own server'];
    ELSE
      estimate := prism_crypt._estimate_rotation(
        one.relation, plan_rotation.sample_rows, one.rows_estimate,
        prism_crypt._rotation_blockers(one.relation) || old_transactions);
      rows_estimate := estimate.rows_estimate;
      rows_due := estimate.rows_due;
      bytes := estimate.bytes;
      estimated_time := estimate.estimated_time;
      basis := estimate.basis;
      blockers := estimate.blockers;
    END IF;
    RETURN NEXT;
  END LOOP;
END $$;
COMMENT ON FUNCTION prism_crypt.plan_rotation(integer) IS
  'What a rotation of all tables would do: rows, bytes, time by a measured sample, and what stands in its way';

-- sql/access/access.sql

-- Rights are plain EXECUTE privileges; these functions only grant the sets that belong together.

CREATE FUNCTION prism_crypt._access_kinds() RETURNS text[]
  LANGUAGE sql IMMUTABLE SET search_path = pg_catalog, pg_temp AS $$
  SELECT ARRAY['encrypt', 'decrypt', 'mask', 'search', 'rotate', 'load', 'key_admin', 'monitor']
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
        '_progress(int8)'];
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
        HINT = 'Known: encrypt, decrypt, mask, search, rotate, load, key_admin, monitor.';
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
  IF access IN ('monitor', 'rotate', 'key_admin') THEN
    EXECUTE format('GRANT SELECT ON prism_crypt.progress TO %s', role);
  END IF;
END $$;
COMMENT ON FUNCTION prism_crypt.grant_access(regrole, text) IS
  'Grants a role the functions of one kind of access: encrypt, decrypt, mask, search, rotate, load, key_admin or monitor';

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
  IF NOT remaining && ARRAY['monitor', 'rotate', 'key_admin'] THEN
    EXECUTE format('REVOKE SELECT ON prism_crypt.progress FROM %s', role);
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

-- sql/access/grants.sql

-- What contradicts "a right is EXECUTE on a function": grants that grant_access() has not made, and objects of others with the
-- names of ours. prism_crypt.status() reports both.

CREATE FUNCTION prism_crypt._unexpected_grants() RETURNS text
  LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
  WITH granted AS (
    SELECT 'pg_proc'::regclass AS class, p.oid AS object, a.grantee, a.privilege_type, a.is_grantable
    FROM prism_crypt._members('pg_proc') AS m (oid) JOIN pg_proc AS p ON p.oid = m.oid
    CROSS JOIN aclexplode(coalesce(p.proacl, acldefault('f', p.proowner))) AS a
    WHERE a.grantee <> p.proowner
    UNION ALL
    SELECT 'pg_class', c.oid, a.grantee, a.privilege_type, a.is_grantable
    FROM pg_class AS c CROSS JOIN aclexplode(c.relacl) AS a
    WHERE (c.oid IN (SELECT prism_crypt._members('pg_class')) OR c.oid = to_regclass('prism_crypt.carried_keys'))
      AND a.grantee <> c.relowner
    UNION ALL
    SELECT 'pg_class', c.oid, a.grantee, a.privilege_type || ' of columns', a.is_grantable
    FROM prism_crypt._members('pg_class') AS m (oid) JOIN pg_class AS c ON c.oid = m.oid
    JOIN pg_attribute AS t ON t.attrelid = c.oid
    CROSS JOIN aclexplode(t.attacl) AS a WHERE a.grantee <> c.relowner
    UNION ALL
    SELECT 'pg_namespace', n.oid, a.grantee, a.privilege_type, a.is_grantable
    FROM prism_crypt._members('pg_namespace') AS m (oid) JOIN pg_namespace AS n ON n.oid = m.oid
    CROSS JOIN aclexplode(n.nspacl) AS a WHERE a.grantee <> n.nspowner
  ), functions AS (
    SELECT kind, f.oid, count(*) OVER (PARTITION BY kind) AS number
    FROM unnest(prism_crypt._access_kinds()) AS kind
    CROSS JOIN unnest(prism_crypt._access_functions(kind)::oid[]) AS f (oid)
  ), held AS MATERIALIZED (
    -- Kinds of access that a role has completely, by its own grants.
    SELECT g.grantee, f.kind
    FROM functions AS f JOIN granted AS g ON g.class = 'pg_proc'::regclass AND g.object = f.oid AND g.grantee <> 0
    GROUP BY g.grantee, f.kind, f.number HAVING count(DISTINCT f.oid) = f.number
  ), expected AS (
    SELECT 'pg_proc'::regclass AS class, f.oid AS object, h.grantee, 'EXECUTE' AS privilege_type
    FROM held AS h JOIN functions AS f ON f.kind = h.kind
    UNION
    SELECT i.classoid, i.objoid, 0, a.privilege_type
    FROM pg_init_privs AS i CROSS JOIN aclexplode(i.initprivs) AS a
    WHERE i.classoid IN ('pg_proc'::regclass, 'pg_class'::regclass) AND a.grantee = 0
    UNION
    SELECT 'pg_namespace', 'prism_crypt'::regnamespace, h.grantee, 'USAGE' FROM held AS h
    UNION
    SELECT 'pg_class', c.oid, h.grantee, 'SELECT'
    FROM pg_class AS c JOIN held AS h ON h.kind = 'rotate' AND c.relname = 'progress'
      OR h.kind IN ('monitor', 'key_admin') AND c.relname IN ('progress', 'key_status', 'index_key_status', 'audit_log')
    WHERE c.relnamespace = 'prism_crypt'::regnamespace
  ), unexpected AS (
    SELECT DISTINCT format(
      '%s on %s to %s%s', g.privilege_type,
      CASE g.class WHEN 'pg_proc'::regclass THEN g.object::regprocedure::text
                   WHEN 'pg_class'::regclass THEN g.object::regclass::text ELSE 'schema ' || g.object::regnamespace END,
      CASE g.grantee WHEN 0 THEN 'PUBLIC' ELSE quote_ident(pg_get_userbyid(g.grantee)) END,
      CASE WHEN g.is_grantable THEN ' with grant option' ELSE '' END) AS what
    FROM granted AS g
    WHERE g.is_grantable
       OR (g.class, g.object, g.grantee, g.privilege_type) NOT IN (
         SELECT e.class, e.object, e.grantee, e.privilege_type FROM expected AS e)
  )
  SELECT CASE WHEN count(*) > 20 THEN format('%s grants, among them: ', count(*)) ELSE '' END
           || string_agg(what, '; ' ORDER BY what) FILTER (WHERE number <= 20)
  FROM (SELECT what, row_number() OVER (ORDER BY what) AS number FROM unexpected) AS u
$$;
COMMENT ON FUNCTION prism_crypt._unexpected_grants() IS
  'Grants on objects of the extension that neither installation nor grant_access() made; null if there are none. Internal';

-- PostgreSQL finds cast functions by their types, so namesakes of these don't matter.
CREATE FUNCTION prism_crypt._namesakes() RETURNS text
  LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
  WITH types AS (SELECT type FROM prism_crypt._encrypted_types() WHERE NOT nested), others AS (
    SELECT format('%s of %s', p.oid::regprocedure, quote_ident(pg_get_userbyid(p.proowner))) AS what
    FROM pg_proc AS p
    WHERE p.oid NOT IN (SELECT prism_crypt._members('pg_proc'))
      AND (p.pronamespace = 'prism_crypt'::regnamespace
        OR p.pronamespace = (SELECT extnamespace FROM pg_extension WHERE extname = 'prism_crypt')
          AND p.proname IN (SELECT o.proname FROM prism_crypt._members('pg_proc') AS m (oid) JOIN pg_proc AS o ON o.oid = m.oid)
          AND p.proname NOT IN ('text', 'varchar', 'bpchar', 'name', 'bytea'))
    UNION ALL
    SELECT format('%s of %s', o.oid::regoperator, quote_ident(pg_get_userbyid(o.oprowner)))
    FROM pg_operator AS o
    WHERE o.oid NOT IN (SELECT prism_crypt._members('pg_operator'))
      AND (o.oprnamespace = 'prism_crypt'::regnamespace
        OR o.oprnamespace = (SELECT extnamespace FROM pg_extension WHERE extname = 'prism_crypt')
          AND (o.oprleft IN (SELECT type FROM types) OR o.oprright IN (SELECT type FROM types)))
    UNION ALL
    SELECT format('%s of %s', c.oid::regclass, quote_ident(pg_get_userbyid(c.relowner)))
    FROM pg_class AS c
    WHERE c.relnamespace = 'prism_crypt'::regnamespace AND c.relkind NOT IN ('i', 'I', 't', 'c') AND c.relname <> 'carried_keys'
      AND c.oid NOT IN (SELECT prism_crypt._members('pg_class'))
      -- Sequences of identity columns belong to their tables.
      AND NOT EXISTS (SELECT FROM pg_depend AS d JOIN prism_crypt._members('pg_class') AS m (oid) ON m.oid = d.refobjid
                      WHERE d.classid = 'pg_class'::regclass AND d.objid = c.oid AND d.deptype = 'i')
  )
  SELECT string_agg(what, '; ' ORDER BY what) FROM others
$$;
COMMENT ON FUNCTION prism_crypt._namesakes() IS
  'Functions, operators and tables of others that may be mistaken for ours; null if there are none. Internal';

-- sql/access/privileges.sql

CREATE FUNCTION prism_crypt._role_support(internal) RETURNS internal
  LANGUAGE c STRICT AS 'MODULE_PATHNAME', 'role_support_wrapper';
COMMENT ON FUNCTION prism_crypt._role_support(internal) IS
  'Planner support: EXECUTE is checked at each call, also where PL/pgSQL keeps a simple expression. Internal';

-- First, everything that was installed above is closed to everybody, because ALTER DEFAULT PRIVILEGES may have opened it, and
-- not only to PUBLIC. Then what everybody needs is opened.
DO $$
DECLARE
  one pg_catalog.record;
BEGIN
  FOR one IN
    SELECT pg_catalog.format('REVOKE ALL ON %s %s FROM %s CASCADE', o.kind, o.name,
             CASE WHEN g.grantee OPERATOR(pg_catalog.=) 0 THEN 'PUBLIC'
                  ELSE pg_catalog.quote_ident(pg_catalog.pg_get_userbyid(g.grantee)) END) AS command
    FROM (
      SELECT d.classid, d.objid
      FROM pg_catalog.pg_depend AS d
      JOIN pg_catalog.pg_extension AS e ON e.oid OPERATOR(pg_catalog.=) d.refobjid
      WHERE d.refclassid OPERATOR(pg_catalog.=) 'pg_catalog.pg_extension'::pg_catalog.regclass
        AND d.deptype OPERATOR(pg_catalog.=) 'e' AND e.extname OPERATOR(pg_catalog.=) 'prism_crypt'
    ) AS d
    CROSS JOIN LATERAL (
      SELECT 'ROUTINE', p.oid::pg_catalog.regprocedure::pg_catalog.text, p.proowner,
             coalesce(p.proacl, pg_catalog.acldefault('f', p.proowner))
      FROM pg_catalog.pg_proc AS p
      WHERE d.classid OPERATOR(pg_catalog.=) 'pg_catalog.pg_proc'::pg_catalog.regclass AND p.oid OPERATOR(pg_catalog.=) d.objid
      UNION ALL
      SELECT CASE WHEN c.relkind OPERATOR(pg_catalog.=) 'S' THEN 'SEQUENCE' ELSE 'TABLE' END,
             c.oid::pg_catalog.regclass::pg_catalog.text, c.relowner,
             coalesce(c.relacl, pg_catalog.acldefault(
               CASE WHEN c.relkind OPERATOR(pg_catalog.=) 'S' THEN 's'::pg_catalog."char" ELSE 'r' END, c.relowner))
      FROM pg_catalog.pg_class AS c
      WHERE d.classid OPERATOR(pg_catalog.=) 'pg_catalog.pg_class'::pg_catalog.regclass AND c.oid OPERATOR(pg_catalog.=) d.objid
        AND c.relkind OPERATOR(pg_catalog.<>) 'c'
      UNION ALL
      -- As long as nothing was granted or revoked, types are open to PUBLIC.
      SELECT 'TYPE', t.oid::pg_catalog.regtype::pg_catalog.text, t.typowner, t.typacl
      FROM pg_catalog.pg_type AS t
      WHERE d.classid OPERATOR(pg_catalog.=) 'pg_catalog.pg_type'::pg_catalog.regclass AND t.oid OPERATOR(pg_catalog.=) d.objid
      UNION ALL
      SELECT 'SCHEMA', pg_catalog.quote_ident(n.nspname), n.nspowner, n.nspacl
      FROM pg_catalog.pg_namespace AS n
      WHERE d.classid OPERATOR(pg_catalog.=) 'pg_catalog.pg_namespace'::pg_catalog.regclass
        AND n.oid OPERATOR(pg_catalog.=) d.objid
    ) AS o (kind, name, owner, acl)
    CROSS JOIN LATERAL (SELECT DISTINCT a.grantee FROM pg_catalog.aclexplode(o.acl) AS a) AS g
    WHERE g.grantee OPERATOR(pg_catalog.<>) o.owner
  LOOP
    EXECUTE one.command;
  END LOOP;
END $$;

GRANT USAGE ON TYPE encrypted_text TO PUBLIC;
-- Nobody else may have columns of these types.
REVOKE USAGE ON TYPE prism_crypt.key_rows, encrypted_text_array, encrypted_text_texts FROM PUBLIC;

-- Input, output and encryption, and functions that show only the header.
GRANT EXECUTE ON FUNCTION
  encrypted_text_in(cstring, oid, integer), encrypted_text_out(encrypted_text),
  encrypted_text_recv(internal, oid, integer), encrypted_text_send(encrypted_text),
  encrypted_text_typmod_in(cstring[]), encrypted_text_typmod_out(integer), encrypted_text_typanalyze(internal),
  encrypted_text(text, integer, boolean), encrypted_text(character varying, integer, boolean),
  encrypted_text(character, integer, boolean),
  encrypted_text(encrypted_text, integer, boolean), encrypted_text(bytea, integer, boolean), "bytea"(encrypted_text),
  encrypt_field(text, text, text, text), encrypt_bytes(bytea, text, text, text),
  key_version(encrypted_text), key_version(bytea), envelope_info(encrypted_text), envelope_info(bytea),
  prism_crypt.class_name(integer), prism_crypt._sealed_constant(anyelement),
  -- The same bytes, or the same search tags, are equal for everybody. If values have to be opened, that needs the right to
  -- search, which these functions check themselves.
  encrypted_text_eq(encrypted_text, encrypted_text), encrypted_text_ne(encrypted_text, encrypted_text),
  -- These only call what does need it.
  encrypted_text_eq(encrypted_text, name), encrypted_text_ne(encrypted_text, name),
  encrypted_text_eq(name, encrypted_text), encrypted_text_ne(name, encrypted_text),
  -- These only say what an array is taken for.
  prism_crypt._encrypted_array(encrypted_text[]),
  prism_crypt._text_array(text[]), prism_crypt._text_array(character varying[]),
  -- These only say that there is no order.
  encrypted_text_no_order(encrypted_text, encrypted_text), encrypted_text_no_order(encrypted_text, text),
  encrypted_text_no_order(text, encrypted_text)
TO PUBLIC;

-- What anybody could write themselves: helpers in SQL and PL/pgSQL that run with the caller's rights. If they call something
-- protected, the right is checked there. So no access needs new grants when a new version has new helpers.
DO $$
DECLARE
  helper pg_catalog.regprocedure;
BEGIN
  FOR helper IN
    SELECT p.oid
    FROM prism_crypt._members('pg_catalog.pg_proc') AS m (oid)
    JOIN pg_catalog.pg_proc AS p ON p.oid OPERATOR(pg_catalog.=) m.oid
    JOIN pg_catalog.pg_language AS l ON l.oid OPERATOR(pg_catalog.=) p.prolang
    WHERE p.pronamespace OPERATOR(pg_catalog.=) 'prism_crypt'::pg_catalog.regnamespace
      AND pg_catalog.starts_with(p.proname::pg_catalog.text, '_') AND NOT p.prosecdef
      AND l.lanname OPERATOR(pg_catalog.=) ANY ('{sql,plpgsql}'::pg_catalog.name[])
      AND p.prorettype OPERATOR(pg_catalog.<>) ALL ('{trigger,event_trigger}'::pg_catalog.regtype[])
  LOOP
    EXECUTE pg_catalog.format('GRANT EXECUTE ON ROUTINE %s TO PUBLIC', helper);
  END LOOP;
END $$;

-- The same for functions in C: these only look at types and at the session, or check rights themselves.
GRANT EXECUTE ON FUNCTION
  prism_crypt._note_caller(), prism_crypt._bound_waits(), prism_crypt._uptime(), prism_crypt._sleep(double precision),
  prism_crypt._require_no_transaction_block(text), prism_crypt._end_deferral(), prism_crypt._saw_unreadable(),
  prism_crypt._raise_failure(text, text, text, text, text, text, text, text, text, text),
  prism_crypt._types_over(oid), prism_crypt._holds_encrypted(oid), prism_crypt._is_quickly_checked(oid),
  prism_crypt._rotatable_kind(oid), prism_crypt._key_version(encrypted_text), prism_crypt._key_version(bytea),
  prism_crypt._stripe(tid, integer), prism_crypt._copy_sample(oid, oid, smallint[], integer)
TO PUBLIC;
GRANT SELECT ON prism_crypt.job_kind TO PUBLIC;
-- pg_dump reads these for whoever runs it, even with --schema-only.
GRANT SELECT ON SEQUENCE prism_crypt.audit_log_id_seq, prism_crypt.data_key_version_seq TO PUBLIC;

-- Administrative functions that are not open to everybody have planner support that makes PostgreSQL check EXECUTE at each call.
-- Functions in the extension's schema check it themselves. Immutable functions tell their callers nothing new. Aggregates and
-- procedures are never parts of simple expressions.
DO $$
DECLARE
  closed pg_catalog.regprocedure;
BEGIN
  FOR closed IN
    SELECT p.oid
    FROM prism_crypt._members('pg_catalog.pg_proc') AS m (oid)
    JOIN pg_catalog.pg_proc AS p ON p.oid OPERATOR(pg_catalog.=) m.oid
    WHERE p.pronamespace OPERATOR(pg_catalog.=) 'prism_crypt'::pg_catalog.regnamespace
      AND p.prokind OPERATOR(pg_catalog.=) 'f' AND p.prosupport OPERATOR(pg_catalog.=) 0
      AND p.provolatile OPERATOR(pg_catalog.<>) 'i'
      AND p.prorettype OPERATOR(pg_catalog.<>) ALL ('{internal,trigger,event_trigger}'::pg_catalog.regtype[])
      AND NOT pg_catalog.has_function_privilege('public', p.oid, 'EXECUTE')
  LOOP
    EXECUTE pg_catalog.format('ALTER FUNCTION %s SUPPORT prism_crypt._role_support', closed);
  END LOOP;
END $$;
