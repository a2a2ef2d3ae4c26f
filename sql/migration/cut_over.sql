-- The moment at which the two columns change places, in one transaction under one lock.

-- The lock is held from here to the end of the transaction. Views come first, those that read others before these: a reader locks them
-- in that order, and then the tables.
CREATE FUNCTION prism_crypt._lock_with_views(relation regclass, dependants prism_crypt._dependant[]) RETURNS void
  LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  -- AccessExclusiveLock (lockdefs.h)
  exclusive CONSTANT integer := 8;
BEGIN
  PERFORM prism_crypt._lock_relations(
    ARRAY(SELECT d.object::regclass FROM unnest(dependants) WITH ORDINALITY AS d WHERE d.class = 'pg_class'::regclass ORDER BY d.ordinality),
    exclusive);
  PERFORM prism_crypt._lock_tree(relation);
END $$;
COMMENT ON FUNCTION prism_crypt._lock_with_views(regclass, prism_crypt._dependant[]) IS
  'Locks a table, its members and the views that are made again. Internal';

-- What the columns, indexes and constraints of a table are: whatever changes one of them gives it another row in a catalog.
CREATE FUNCTION prism_crypt._shape_of(relation regclass) RETURNS text
  LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
  SELECT md5(string_agg(o.one, ',' ORDER BY o.one))
  FROM prism_crypt._table_tree($1) AS t CROSS JOIN LATERAL (
    SELECT format('c %s %s %s', a.attrelid, a.attnum, a.xmin) FROM pg_attribute AS a WHERE a.attrelid = t.member AND a.attnum > 0
    UNION ALL
    SELECT format('i %s %s', i.indexrelid, i.xmin) FROM pg_index AS i WHERE i.indrelid = t.member
    UNION ALL
    SELECT format('o %s %s', c.oid, c.xmin) FROM pg_constraint AS c WHERE c.conrelid = t.member OR c.confrelid = t.member
  ) AS o (one)
$$;
COMMENT ON FUNCTION prism_crypt._shape_of(regclass) IS
  'What tells whether columns, indexes or constraints of a table were changed. Internal';

CREATE FUNCTION prism_crypt._require_carried_over(dependants prism_crypt._dependant[]) RETURNS void
  LANGUAGE plpgsql IMMUTABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  problem record;
BEGIN
  SELECT string_agg(format('%s %s: %s', d.kind, d.identity, d.blocks), '; ' ORDER BY d.ordinal) AS blocks,
         string_agg(d.unblock || ';', ' ' ORDER BY d.ordinal) AS unblock
    INTO problem
  FROM unnest(dependants) AS d WHERE d.blocks IS NOT NULL;
  IF problem.blocks IS NOT NULL THEN
    RAISE object_not_in_prerequisite_state USING
      MESSAGE = 'the column can''t be migrated', DETAIL = problem.blocks,
      HINT = coalesce(problem.unblock, 'prism_crypt.explain_migration() says more.');
  END IF;
END $$;
COMMENT ON FUNCTION prism_crypt._require_carried_over(prism_crypt._dependant[]) IS
  'Raises an error about what touches a column and can''t be carried over. Internal';

-- What has to be made again, once PostgreSQL has judged that it can be. That takes a while, so it comes before the lock.
CREATE FUNCTION prism_crypt._carried_over(migration prism_crypt.migration) RETURNS prism_crypt._dependant[]
  LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  -- Listed before it is judged: what comes in between makes the list another one.
  listed CONSTANT prism_crypt._dependant[] := prism_crypt._listed_dependants(migration.relation, migration.column_name);
BEGIN
  PERFORM prism_crypt._require_carried_over(ARRAY(
    SELECT d FROM prism_crypt._dependants(migration.relation, migration.column_name, migration.type) AS d));
  RETURN listed;
END $$;
COMMENT ON FUNCTION prism_crypt._carried_over(prism_crypt.migration) IS 'What has to be made again around a swap, or an error. Internal';

-- Under the lock, in a statement of its own, which sees what was committed until then: what was judged is still what there is. If not,
-- it is tried again.
CREATE FUNCTION prism_crypt._require_unchanged(migration prism_crypt.migration, dependants prism_crypt._dependant[], shape text)
  RETURNS void
  LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
  IF prism_crypt._shape_of(migration.relation) <> shape
     OR prism_crypt._listed_dependants(migration.relation, migration.column_name)::text <> dependants::text
     OR NOT prism_crypt._is_verified(migration) THEN
    RAISE lock_not_available USING MESSAGE = 'the table, what depends on the column, or a trigger, has changed just now';
  END IF;
END $$;
COMMENT ON FUNCTION prism_crypt._require_unchanged(prism_crypt.migration, prism_crypt._dependant[], text) IS
  'Raises an error if what was judged before the lock has changed. Internal';

-- Gives the column's name, and all that depends on it, to another column of the table.
CREATE FUNCTION prism_crypt._swap(migration prism_crypt.migration, dependants prism_crypt._dependant[]) RETURNS void
  LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  table_name CONSTANT text := prism_crypt._qualified_name(migration.relation);
  number integer;
BEGIN
  FOR number IN 1 .. cardinality(dependants) LOOP
    PERFORM prism_crypt._execute_all(dependants[number].drops);
  END LOOP;
  EXECUTE format('ALTER TABLE %s RENAME COLUMN %I TO %I', table_name, migration.column_name, migration.kept);
  EXECUTE format('ALTER TABLE %s RENAME COLUMN %I TO %I', table_name, migration.twin, migration.column_name);
  EXECUTE format('COMMENT ON COLUMN %s.%I IS NULL', table_name, migration.column_name);
  PERFORM prism_crypt._execute_all(ARRAY(SELECT jsonb_array_elements_text(migration.build -> 'swap')));
  FOR number IN REVERSE cardinality(dependants) .. 1 LOOP
    PERFORM prism_crypt._execute_all(dependants[number].creates);
  END LOOP;
  IF EXISTS (SELECT FROM prism_crypt._dependant_graph(migration.relation, migration.kept)) THEN
    RAISE object_not_in_prerequisite_state USING
      MESSAGE = 'the column can''t be migrated',
      DETAIL = (SELECT format('%s would go on with the old column.', pg_describe_object(g.class, g.object, 0))
                FROM prism_crypt._dependant_graph(migration.relation, migration.kept) AS g LIMIT 1);
  END IF;
END $$;
COMMENT ON FUNCTION prism_crypt._swap(prism_crypt.migration, prism_crypt._dependant[]) IS 'Makes another column the one of this name. Internal';

-- Writes since the cut-over that the old column does not have: where only an expression leads from the old values to the new ones.
CREATE FUNCTION prism_crypt._require_nothing_written(migration prism_crypt.migration) RETURNS void
  LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  rows CONSTANT bigint := prism_crypt._count_rows(
    migration.relation, format('%I IS NULL AND %I IS NOT NULL', migration.kept, migration.column_name));
BEGIN
  IF rows > 0 THEN
    RAISE object_not_in_prerequisite_state USING
      MESSAGE = format('rows written since the cut-over: %s', rows),
      DETAIL = format('The old column, "%s", has no value for them: nobody knows the way back from a using_expression.', migration.kept),
      HINT = format('Fill it: UPDATE %s SET %I = ... WHERE %2$I IS NULL AND %I IS NOT NULL. Then call this again.',
                    prism_crypt._qualified_name(migration.relation), migration.kept, migration.column_name);
  END IF;
END $$;
COMMENT ON FUNCTION prism_crypt._require_nothing_written(prism_crypt.migration) IS
  'Raises an error if a way back would lose writes. Internal';

-- Forth. Gives the grants that were split; the path is the caller's own.
CREATE FUNCTION prism_crypt._cut_over(migration prism_crypt.migration, path text) RETURNS jsonb
  LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  shape CONSTANT text := prism_crypt._shape_of(migration.relation);
  dependants CONSTANT prism_crypt._dependant[] := prism_crypt._carried_over(migration);
BEGIN
  PERFORM prism_crypt._require_as_built(migration);
  PERFORM prism_crypt._lock_with_views(migration.relation, dependants);
  PERFORM prism_crypt._require_triggers(migration), prism_crypt._require_unchanged(migration, dependants, shape);
  IF migration.using_expression IS NOT NULL THEN
    PERFORM prism_crypt._fill_rest(migration, path),
      prism_crypt._execute_all(ARRAY(SELECT jsonb_array_elements_text(migration.build -> 'late')));
  END IF;
  PERFORM prism_crypt._drop_triggers(migration), prism_crypt._swap(migration, dependants);
  IF NOT migration.keep_plaintext THEN
    PERFORM prism_crypt._drop_kept(migration);
    RETURN NULL;
  END IF;
  EXECUTE format(
    'COMMENT ON COLUMN %s.%I IS %L', prism_crypt._qualified_name(migration.relation), migration.kept,
    format('The values of "%s" as %s, until migration %s is finished',
           migration.column_name, migration.old_type, migration.id));
  PERFORM prism_crypt._make_triggers(
    migration, migration.column_name, migration.kept,
    CASE WHEN migration.using_expression IS NULL THEN 'return' ELSE 'forget' END);
  RETURN prism_crypt._close_column(migration.relation, migration.kept);
END $$;
COMMENT ON FUNCTION prism_crypt._cut_over(prism_crypt.migration, text) IS 'Makes the twin column the column. Internal';

-- Rows that were written since the backfill have no value yet, where only the migrating session can make it. A weaker lock, which readers
-- pass, would have to grow into the last one: a transaction that has read the table and then writes it would be in a deadlock with that.
-- Triggers of the table run on the path of the caller, as in the backfill.
CREATE FUNCTION prism_crypt._fill_rest(migration prism_crypt.migration, path text) RETURNS void
  LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  fill CONSTANT text := format(
    'UPDATE %s AS changed SET %I = %s WHERE changed.%2$I IS NULL AND %3$s IS NOT NULL',
    prism_crypt._qualified_name(migration.relation), migration.twin, prism_crypt._source_of(migration));
BEGIN
  PERFORM prism_crypt._require_all_rows(migration.relation);
  PERFORM set_config('search_path', path, true);
  EXECUTE fill;
  -- A table with pending triggers can't be altered.
  SET CONSTRAINTS ALL IMMEDIATE;
END $$;
COMMENT ON FUNCTION prism_crypt._fill_rest(prism_crypt.migration, text) IS
  'Fills the twin column of rows that were written since. Internal';

-- Back.
CREATE FUNCTION prism_crypt._cut_back(migration prism_crypt.migration) RETURNS void
  LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  going CONSTANT prism_crypt.migration := prism_crypt._as_it_goes(migration);
  shape CONSTANT text := prism_crypt._shape_of(migration.relation);
  dependants CONSTANT prism_crypt._dependant[] := prism_crypt._carried_over(going);
BEGIN
  PERFORM prism_crypt._require_as_built(going);
  PERFORM prism_crypt._lock_with_views(migration.relation, dependants);
  PERFORM prism_crypt._require_triggers(migration), prism_crypt._require_unchanged(going, dependants, shape);
  IF migration.using_expression IS NOT NULL THEN
    PERFORM prism_crypt._require_nothing_written(migration),
      prism_crypt._execute_all(ARRAY(SELECT jsonb_array_elements_text(migration.build -> 'late')));
  END IF;
  PERFORM prism_crypt._drop_triggers(migration), prism_crypt._swap(going, dependants);
  -- While what was granted can still be compared with what was split.
  PERFORM prism_crypt._join_grants(migration);
  PERFORM prism_crypt._drop_twin(migration);
END $$;
COMMENT ON FUNCTION prism_crypt._cut_back(prism_crypt.migration) IS 'Makes the old column the column again. Internal';
