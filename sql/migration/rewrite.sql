-- The other method: ALTER TABLE, for tables that are rewritten in a moment.

-- How ALTER TABLE makes the new value of a row.
CREATE FUNCTION prism_crypt._rewrite_expression(migration prism_crypt.migration) RETURNS text
  LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
  SELECT CASE
    WHEN migration.using_expression IS NOT NULL THEN format('(%s)::%s', migration.using_expression, migration.type)
    WHEN migration.type ~ '\mencrypted_text\M' THEN format('%I::text::%s', migration.column_name, migration.type)
    ELSE prism_crypt._opened_as(migration.column_name, migration.type) END
$$;
COMMENT ON FUNCTION prism_crypt._rewrite_expression(prism_crypt.migration) IS 'The USING of an ALTER TABLE. Internal';

-- PostgreSQL's messages about a value that a type does not take quote the value, and so may functions that check it. What stands in the way of
-- opening the values is told as it is. Errors of classes 40, 53, 57 and 58, and of locks, are not about a value.
CREATE FUNCTION prism_crypt._change_type(migration prism_crypt.migration) RETURNS void
  LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  table_name CONSTANT text := prism_crypt._qualified_name(migration.relation);
BEGIN
  EXECUTE format('ALTER TABLE %s ALTER COLUMN %I TYPE %s USING %s', table_name, migration.column_name, migration.type,
                 prism_crypt._rewrite_expression(migration));
EXCEPTION WHEN OTHERS OR assert_failure THEN
  IF migration.type ~ '\mencrypted_text\M' AND migration.using_expression IS NULL
     OR left(SQLSTATE, 2) IN ('40', '53', '57', '58') OR SQLSTATE = '55P03' THEN
    RAISE;
  ELSIF migration.using_expression IS NULL THEN
    EXECUTE format('SELECT count(%I::text) FROM %s', migration.column_name, table_name);
  END IF;
  RAISE data_exception USING
    MESSAGE = format('a value of column "%s" could not be converted to type %s', migration.column_name, migration.type),
    DETAIL = format('PostgreSQL''s message may quote the value, and is not shown; its SQLSTATE is %s.', SQLSTATE);
END $$;
COMMENT ON FUNCTION prism_crypt._change_type(prism_crypt.migration) IS 'Rewrites a column in another type. Internal';

CREATE FUNCTION prism_crypt._rewrite(migration prism_crypt.migration) RETURNS void
  LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp SET DateStyle = 'ISO, YMD' AS $$
DECLARE
  shape CONSTANT text := prism_crypt._shape_of(migration.relation);
  dependants CONSTANT prism_crypt._dependant[] := prism_crypt._carried_over(migration);
  twins CONSTANT prism_crypt._twin_definition[] := ARRAY(
    SELECT d FROM prism_crypt._twin_definitions(migration.relation, migration.column_name, migration.type, migration.twin) AS d
    ORDER BY d.ordinal);
  number integer;
BEGIN
  PERFORM prism_crypt._lock_with_views(migration.relation, dependants);
  PERFORM prism_crypt._require_unchanged(migration, dependants, shape);
  FOR number IN 1 .. cardinality(dependants) LOOP
    PERFORM prism_crypt._execute_all(dependants[number].drops);
  END LOOP;
  FOR number IN 1 .. cardinality(twins) LOOP
    PERFORM prism_crypt._execute_all(twins[number].rewrite_drops);
  END LOOP;
  IF migration.using_expression IS NOT NULL THEN
    PERFORM prism_crypt._require_no_values_lost(migration, format('%I IS NOT NULL', migration.column_name));
  END IF;
  PERFORM prism_crypt._change_type(migration);
  FOR number IN 1 .. cardinality(twins) LOOP
    PERFORM prism_crypt._execute_all(twins[number].rewrite_creates);
  END LOOP;
  FOR number IN REVERSE cardinality(dependants) .. 1 LOOP
    PERFORM prism_crypt._execute_all(dependants[number].creates);
  END LOOP;
  PERFORM prism_crypt._analyze(migration.relation, migration.column_name);
END $$;
COMMENT ON FUNCTION prism_crypt._rewrite(prism_crypt.migration) IS 'Changes the type of a column by a rewrite. Internal';
