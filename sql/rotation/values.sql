-- What a rotation asks of types, and of single values.

CREATE FUNCTION prism_crypt._rotatable_kind(type oid) RETURNS text
  LANGUAGE c STABLE STRICT AS 'MODULE_PATHNAME', '_rotatable_kind_wrapper';
COMMENT ON FUNCTION prism_crypt._rotatable_kind(oid) IS
  'How values of a type are rotated: plain, nested or, where they are named, bytes; null where they are not. Internal';

CREATE FUNCTION prism_crypt._is_rotatable(value encrypted_text, from_version integer, keyset text) RETURNS boolean
  LANGUAGE c STABLE PARALLEL RESTRICTED AS 'MODULE_PATHNAME', '_is_rotatable_wrapper';
COMMENT ON FUNCTION prism_crypt._is_rotatable(encrypted_text, integer, text) IS
  'Whether a value is under an old key that may be read. Internal';

CREATE FUNCTION prism_crypt._is_rotatable(value encrypted_text) RETURNS boolean
  LANGUAGE c STABLE STRICT PARALLEL RESTRICTED AS 'MODULE_PATHNAME', '_is_rotatable_at_all_wrapper';
COMMENT ON FUNCTION prism_crypt._is_rotatable(encrypted_text) IS
  'Whether a value is under an old key that may be read, of whatever version and keyset. Internal';

CREATE FUNCTION prism_crypt._is_rotatable(value bytea, from_version integer, keyset text) RETURNS boolean
  LANGUAGE c STABLE PARALLEL RESTRICTED AS 'MODULE_PATHNAME', '_is_rotatable_bytes_wrapper';
COMMENT ON FUNCTION prism_crypt._is_rotatable(bytea, integer, text) IS
  'Whether a value is under an old key that may be read. Internal';

CREATE FUNCTION prism_crypt._can_rotate(value encrypted_text, from_version integer, keyset text) RETURNS boolean
  LANGUAGE c STABLE PARALLEL RESTRICTED AS 'MODULE_PATHNAME', '_can_rotate_wrapper';
COMMENT ON FUNCTION prism_crypt._can_rotate(encrypted_text, integer, text) IS
  'Whether a value is under an old key and opens. Internal';

CREATE FUNCTION prism_crypt._can_rotate(value bytea, from_version integer, keyset text) RETURNS boolean
  LANGUAGE c STABLE PARALLEL RESTRICTED AS 'MODULE_PATHNAME', '_can_rotate_bytes_wrapper';
COMMENT ON FUNCTION prism_crypt._can_rotate(bytea, integer, text) IS
  'Whether a value is under an old key and opens. Internal';

-- These are called by statements over other people's columns, so by names that nobody else can have functions of.
CREATE FUNCTION prism_crypt._reencrypt(value encrypted_text) RETURNS encrypted_text
  LANGUAGE c VOLATILE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'reencrypt_field_wrapper';
COMMENT ON FUNCTION prism_crypt._reencrypt(encrypted_text) IS 'As reencrypt_field(). Internal';

CREATE FUNCTION prism_crypt._reencrypt(value bytea) RETURNS bytea
  LANGUAGE c VOLATILE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'reencrypt_bytes_wrapper';
COMMENT ON FUNCTION prism_crypt._reencrypt(bytea) IS 'As reencrypt_bytes(). Internal';

CREATE FUNCTION prism_crypt._key_version(value encrypted_text) RETURNS integer
  LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'key_version_wrapper';
COMMENT ON FUNCTION prism_crypt._key_version(encrypted_text) IS 'As key_version(). Internal';

CREATE FUNCTION prism_crypt._key_version(value bytea) RETURNS integer
  LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'key_version_wrapper';
COMMENT ON FUNCTION prism_crypt._key_version(bytea) IS 'As key_version(). Internal';

CREATE FUNCTION prism_crypt._reencrypt_or_keep(value encrypted_text) RETURNS encrypted_text
  LANGUAGE c VOLATILE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', '_reencrypt_or_keep_wrapper';
COMMENT ON FUNCTION prism_crypt._reencrypt_or_keep(encrypted_text) IS
  'reencrypt_field(), or the value itself where it can''t be opened. Internal';

CREATE FUNCTION prism_crypt._reencrypt_or_keep(value bytea) RETURNS bytea
  LANGUAGE c VOLATILE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', '_reencrypt_bytes_or_keep_wrapper';
COMMENT ON FUNCTION prism_crypt._reencrypt_or_keep(bytea) IS
  'reencrypt_bytes(), or the value itself where it can''t be opened. Internal';

CREATE FUNCTION prism_crypt._rotation_error(value encrypted_text, from_version integer, keyset text) RETURNS text
  LANGUAGE c STABLE PARALLEL SAFE AS 'MODULE_PATHNAME', '_rotation_error_wrapper';
COMMENT ON FUNCTION prism_crypt._rotation_error(encrypted_text, integer, text) IS
  'Why a value can''t be re-encrypted; empty when it can, null when it need not be. Internal';

CREATE FUNCTION prism_crypt._rotation_error(value bytea, from_version integer, keyset text) RETURNS text
  LANGUAGE c STABLE PARALLEL SAFE AS 'MODULE_PATHNAME', '_rotation_error_bytes_wrapper';
COMMENT ON FUNCTION prism_crypt._rotation_error(bytea, integer, text) IS
  'Why a value can''t be re-encrypted; empty when it can, null when it need not be. Internal';

CREATE FUNCTION prism_crypt._is_rotatable_nested(value anyelement, from_version integer, keyset text) RETURNS boolean
  LANGUAGE c STABLE PARALLEL RESTRICTED AS 'MODULE_PATHNAME', '_is_rotatable_nested_wrapper';
COMMENT ON FUNCTION prism_crypt._is_rotatable_nested(anyelement, integer, text) IS
  'Whether an array or composite value holds a value that is rotatable. Internal';

CREATE FUNCTION prism_crypt._can_rotate_nested(value anyelement, from_version integer, keyset text) RETURNS boolean
  LANGUAGE c STABLE PARALLEL RESTRICTED AS 'MODULE_PATHNAME', '_can_rotate_nested_wrapper';
COMMENT ON FUNCTION prism_crypt._can_rotate_nested(anyelement, integer, text) IS
  'Whether an array or composite value holds a value that is rotatable and opens. Internal';

CREATE FUNCTION prism_crypt._reencrypt_nested(value anyelement, from_version integer, keyset text, keep boolean)
  RETURNS anyelement
  LANGUAGE c VOLATILE PARALLEL RESTRICTED AS 'MODULE_PATHNAME', '_reencrypt_nested_wrapper';
COMMENT ON FUNCTION prism_crypt._reencrypt_nested(anyelement, integer, text, boolean) IS
  'Re-encrypts what is rotatable in an array or composite value. Internal';

CREATE FUNCTION prism_crypt._rotation_error_nested(value anyelement, from_version integer, keyset text) RETURNS text
  LANGUAGE c STABLE PARALLEL SAFE AS 'MODULE_PATHNAME', '_rotation_error_nested_wrapper';
COMMENT ON FUNCTION prism_crypt._rotation_error_nested(anyelement, integer, text) IS
  'As _rotation_error(), for the first problem in an array or composite value. Internal';

CREATE FUNCTION prism_crypt._stripe(place tid, stripes integer) RETURNS integer
  LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', '_stripe_wrapper';
COMMENT ON FUNCTION prism_crypt._stripe(tid, integer) IS 'Which of so many stripes of its block a row is in. Internal';

CREATE FUNCTION prism_crypt._saw_unreadable() RETURNS boolean
  LANGUAGE c VOLATILE AS 'MODULE_PATHNAME', '_saw_unreadable_wrapper';
COMMENT ON FUNCTION prism_crypt._saw_unreadable() IS
  'Whether this session met values that can''t be rotated, since the last call. Internal';

CREATE FUNCTION prism_crypt._require_no_transaction_block(what text) RETURNS void
  LANGUAGE c VOLATILE STRICT AS 'MODULE_PATHNAME', '_require_no_transaction_block_wrapper';
COMMENT ON FUNCTION prism_crypt._require_no_transaction_block(text) IS
  'Raises an error where a procedure could not commit. Internal';
