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
