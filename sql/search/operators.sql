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
