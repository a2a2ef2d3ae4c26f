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
