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
