-- Columns that look like personal data and are not encrypted. It runs with the caller's rights, and sees only what the caller may
-- read. Tables may belong to others, so nothing here runs their code.

-- The tables that the caller may read something of, and why they are not looked at, if so. A partition is a part of its table.
CREATE FUNCTION prism_crypt._readable_tables(schema_pattern text, OUT relation oid, OUT unreadable text) RETURNS SETOF record
  LANGUAGE sql STABLE ROWS 100 SET search_path = pg_catalog, pg_temp AS $$
  SELECT c.oid,
         CASE WHEN row_security_active(c.oid) THEN 'row-level security hides rows of it: not looked at'
              WHEN c.relkind <> 'p' AND m.amname <> 'heap' THEN format('table with access method "%s": not looked at', m.amname)
              WHEN c.relpersistence = 'u' AND pg_is_in_recovery() THEN 'unlogged table: can''t be read on a standby' END
  FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace LEFT JOIN pg_am AS m ON m.oid = c.relam
  WHERE c.relkind IN ('r', 'p', 'm') AND NOT c.relispartition
    AND (n.oid = pg_my_temp_schema() OR n.nspname NOT LIKE 'pg\_%') AND n.nspname <> 'information_schema'
    AND ($1 IS NULL OR n.nspname LIKE $1)
    AND has_schema_privilege(n.oid, 'USAGE') AND has_any_column_privilege(c.oid, 'SELECT')
    AND NOT EXISTS (SELECT FROM prism_crypt._members('pg_class') AS o (oid) WHERE o.oid = c.oid)
  ORDER BY n.nspname, c.relname
$$;
COMMENT ON FUNCTION prism_crypt._readable_tables(text) IS 'Tables that the caller may read columns of. Internal';

CREATE FUNCTION prism_crypt._find_plaintext_in(
  relation oid, sample_rows integer, OUT column_number smallint, OUT class text, OUT matches bigint, OUT sampled bigint,
  OUT confidence text, OUT note text
) RETURNS SETOF record
  LANGUAGE c VOLATILE STRICT ROWS 10 AS 'MODULE_PATHNAME', '_find_plaintext_in_wrapper';
COMMENT ON FUNCTION prism_crypt._find_plaintext_in(oid, integer) IS
  'Columns of a table that look like personal data, by some rows that are read without running any function of its owner. Internal';

CREATE FUNCTION prism_crypt.find_plaintext(schema_pattern text DEFAULT NULL, sample_rows integer DEFAULT 1000)
  RETURNS TABLE (relation regclass, column_name name, class text, matches bigint, sampled bigint, confidence text, note text)
  LANGUAGE plpgsql VOLATILE ROWS 100 SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
  own_timeout CONSTANT text := current_setting('lock_timeout');
  -- How long it waits for one table that others have locked, and for all of them.
  patience CONSTANT double precision := least(prism_crypt._patience(1), 1);
  seconds double precision := 10;
  began double precision;
  target record;
  cause text;
BEGIN
  IF sample_rows IS NULL THEN
    RAISE null_value_not_allowed USING MESSAGE = 'sample_rows must not be null';
  END IF;
  PERFORM prism_crypt._require_between('sample_rows', sample_rows, 1, 1000000);
  FOR target IN SELECT * FROM prism_crypt._readable_tables(schema_pattern) LOOP
    cause := target.unreadable;
    IF cause IS NULL THEN
      began := prism_crypt._uptime();
      BEGIN
        PERFORM set_config('lock_timeout', ceil(greatest(least(patience, seconds), 0.01) * 1000)::bigint || 'ms', true);
        RETURN QUERY
          SELECT target.relation::regclass, a.attname, f.class, f.matches, f.sampled, f.confidence, f.note
          FROM prism_crypt._find_plaintext_in(target.relation, find_plaintext.sample_rows) AS f
          JOIN pg_attribute AS a ON a.attrelid = target.relation AND a.attnum = f.column_number
          ORDER BY f.column_number;
      EXCEPTION
        WHEN lock_not_available OR deadlock_detected THEN
          seconds := seconds - (prism_crypt._uptime() - began);
          cause := 'locked by another session: not looked at';
        WHEN OTHERS OR assert_failure THEN
          -- Only the SQLSTATE, because the message may quote values.
          cause := format('not looked at: SQLSTATE %s', SQLSTATE);
      END;
    END IF;
    IF cause IS NOT NULL THEN
      RETURN QUERY SELECT target.relation::regclass, NULL::name, NULL::text, NULL::bigint, NULL::bigint, NULL::text, cause;
    END IF;
  END LOOP;
  PERFORM set_config('lock_timeout', own_timeout, true);
END $$;
COMMENT ON FUNCTION prism_crypt.find_plaintext(text, integer) IS
  'Columns that look like personal data, by name and by a sample of values, and are not encrypted. Shows no value';
