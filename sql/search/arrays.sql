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
