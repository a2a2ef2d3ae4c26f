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
