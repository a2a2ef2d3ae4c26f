-- What a migration asks the library.

CREATE FUNCTION prism_crypt._keep_in_step() RETURNS trigger
  LANGUAGE c VOLATILE AS 'MODULE_PATHNAME', '_keep_in_step_wrapper';
COMMENT ON FUNCTION prism_crypt._keep_in_step() IS
  'Gives the second column that it names the value of the first, sealed or opened, by the rights of the table''s owner. Internal';

CREATE FUNCTION prism_crypt._is_out_of_step(source "any", target "any", modifier integer) RETURNS boolean
  LANGUAGE c STABLE AS 'MODULE_PATHNAME', '_is_out_of_step_wrapper';
COMMENT ON FUNCTION prism_crypt._is_out_of_step("any", "any", integer) IS
  'Whether one of two values, of which one is encrypted, does not follow the other. Internal';

CREATE FUNCTION prism_crypt._lock_relations(relations regclass[], mode integer) RETURNS void
  LANGUAGE c VOLATILE STRICT AS 'MODULE_PATHNAME', '_lock_relations_wrapper';
COMMENT ON FUNCTION prism_crypt._lock_relations(regclass[], integer) IS
  'Locks relations of the caller in this order, with the lock that has this number in PostgreSQL. Internal';

CREATE FUNCTION prism_crypt._has_common_key() RETURNS boolean
  LANGUAGE c STABLE AS 'MODULE_PATHNAME', '_has_common_key_wrapper';
COMMENT ON FUNCTION prism_crypt._has_common_key() IS
  'Whether the master key comes from where every session of the database has it. Internal';
