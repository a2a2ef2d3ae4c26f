-- Statements that commit by themselves, such as CREATE INDEX CONCURRENTLY: PostgreSQL refuses them inside a procedure, so a background
-- worker runs them, with the rights of the role that asks.

CREATE FUNCTION prism_crypt._start_statement(statement text) RETURNS void
  LANGUAGE c VOLATILE STRICT AS 'MODULE_PATHNAME', '_start_statement_wrapper';
COMMENT ON FUNCTION prism_crypt._start_statement(text) IS
  'Has a background worker run one statement that changes an index CONCURRENTLY. Internal';

CREATE FUNCTION prism_crypt._statement_result()
  RETURNS TABLE (is_over boolean, code text, message text, detail text, hint text)
  LANGUAGE c VOLATILE STRICT ROWS 1 AS 'MODULE_PATHNAME', '_statement_result_wrapper';
COMMENT ON FUNCTION prism_crypt._statement_result() IS
  'Whether the statement of _start_statement() is over, and its error if it failed. Never waits. Internal';

CREATE FUNCTION prism_crypt._stop_statement() RETURNS void
  LANGUAGE c VOLATILE STRICT AS 'MODULE_PATHNAME', '_stop_statement_wrapper';
COMMENT ON FUNCTION prism_crypt._stop_statement() IS 'Ends the statement of _start_statement(), if it runs. Internal';

-- A procedure that commits can't have a SET clause. The statement waits for the transactions that are older than its phases, so none of
-- this session may last. An error ends the worker, and so does the end of the session.
CREATE PROCEDURE prism_crypt._run_statement(statement text, INOUT failure prism_crypt._failure) LANGUAGE plpgsql AS $$
DECLARE
  is_over boolean;
  seconds double precision := 0.01;
BEGIN
  failure := NULL;
  PERFORM prism_crypt._start_statement(statement);
  LOOP
    COMMIT;
    PERFORM prism_crypt._sleep(seconds);
    SELECT r.is_over, r.code, r.message, r.detail, r.hint
    INTO is_over, failure.code, failure.message, failure.detail, failure.hint
    FROM prism_crypt._statement_result() AS r;
    EXIT WHEN is_over;
    -- Most indexes take longer than that, and the statement waits for this transaction, too.
    seconds := LEAST(seconds OPERATOR(pg_catalog.*) 2, 0.2);
  END LOOP;
END $$;
COMMENT ON PROCEDURE prism_crypt._run_statement(text, prism_crypt._failure) IS
  'Runs a statement of _start_statement() to its end, and gives its error. Internal';
