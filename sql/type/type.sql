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
