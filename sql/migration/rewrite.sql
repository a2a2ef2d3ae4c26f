-- The other method: ALTER TABLE, for tables that are rewritten in a moment.

-- How ALTER TABLE makes the new value of a row.
CREATE FUNCTION prism_crypt._rewrite_expression(migration prism_crypt.migration) RETURNS text
  LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
  SELECT CASE
    WHEN migration.using_expression IS NOT NULL THEN format('(%s)::%s', migration.using_expression, migration.type)
    -- Whatever the type, by its text; from and to encrypted_text these are the casts that seal and open.
    ELSE format('%I::text::%s', migration.column_name, migration.type) END
$$;
COMMENT ON FUNCTION prism_crypt._rewrite_expression(prism_crypt.migration) IS 'The USING of an ALTER TABLE. Internal';

CREATE FUNCTION prism_crypt._rewrite(migration prism_crypt.migration) RETURNS void
  LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp SET DateStyle = 'ISO, YMD' AS $$
DECLARE
  dependants CONSTANT prism_crypt._dependant[] := prism_crypt._carried_over(migration);
  twins CONSTANT prism_crypt._twin_definition[] := ARRAY(
    SELECT d FROM prism_crypt._twin_definitions(migration.relation, migration.column_name, migration.type, migration.twin) AS d
    ORDER BY d.ordinal);
  number integer;
BEGIN
  PERFORM prism_crypt._lock_with_views(migration.relation);
  PERFORM prism_crypt._require_same_dependants(migration, dependants);
  FOR number IN 1 .. cardinality(dependants) LOOP
    PERFORM prism_crypt._execute_all(dependants[number].drops);
  END LOOP;
  FOR number IN 1 .. cardinality(twins) LOOP
    PERFORM prism_crypt._execute_all(twins[number].rewrite_drops);
  END LOOP;
  EXECUTE format('ALTER TABLE %s ALTER COLUMN %I TYPE %s USING %s', prism_crypt._qualified_name(migration.relation),
                 migration.column_name, migration.type, prism_crypt._rewrite_expression(migration));
  FOR number IN 1 .. cardinality(twins) LOOP
    PERFORM prism_crypt._execute_all(twins[number].rewrite_creates);
  END LOOP;
  FOR number IN REVERSE cardinality(dependants) .. 1 LOOP
    PERFORM prism_crypt._execute_all(dependants[number].creates);
  END LOOP;
  PERFORM prism_crypt._analyze(migration.relation, migration.column_name);
END $$;
COMMENT ON FUNCTION prism_crypt._rewrite(prism_crypt.migration) IS 'Changes the type of a column by a rewrite. Internal';
