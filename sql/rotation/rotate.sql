-- The procedures to call. Nothing in a procedure that commits relies on search_path: every name and every operator is
-- qualified.

CREATE FUNCTION prism_crypt._rotation_work(
  kind text, relation regclass, column_name name, key_version_column name, from_version integer, keyset text,
  limits prism_crypt._limits, patient boolean, batches integer
) RETURNS prism_crypt._work
  LANGUAGE sql SET search_path = pg_catalog, pg_temp AS $$
  SELECT prism_crypt._work_of(
    kind, relation, column_name, prism_crypt._rotation_scope(from_version, keyset),
    jsonb_strip_nulls(jsonb_build_object('key_version_column', key_version_column)), limits, patient, batches)
$$;
COMMENT ON FUNCTION prism_crypt._rotation_work(
  text, regclass, name, name, integer, text, prism_crypt._limits, boolean, integer) IS 'What a session that rotates is to do. Internal';

CREATE PROCEDURE prism_crypt.rotate_batch(
  relation regclass, column_name name DEFAULT NULL, batch_size integer DEFAULT 1000, pause interval DEFAULT NULL,
  max_rows_per_second double precision DEFAULT NULL, max_replica_lag bigint DEFAULT NULL,
  max_batches integer DEFAULT NULL, from_version integer DEFAULT NULL, keyset text DEFAULT NULL,
  key_version_column name DEFAULT NULL, fire_triggers boolean DEFAULT true
) LANGUAGE plpgsql AS $$
DECLARE
  limits CONSTANT prism_crypt._limits := ROW(
    batch_size, pause, max_rows_per_second, max_replica_lag, max_batches, fire_triggers);
  work prism_crypt._work;
  failure prism_crypt._failure;
BEGIN
  PERFORM prism_crypt._require_no_transaction_block('rotate_batch()');
  PERFORM prism_crypt._check_limits(limits);
  PERFORM prism_crypt._check_rotation_scope(from_version, keyset);
  PERFORM prism_crypt._check_rotatable_table(relation);
  PERFORM prism_crypt._warn_of_foreign_tables(relation);
  work := prism_crypt._rotation_work(
    'rotation', relation, column_name, key_version_column, from_version, keyset, limits, true, 0);
  CALL prism_crypt._work_on(work);
  failure := work.failure;
  IF failure.code IS NOT NULL THEN
    PERFORM prism_crypt._raise_failure(
      failure.code, failure.message, failure.detail, failure.hint, failure.context, failure.schema_name, failure.table_name,
      failure.column_name, failure.datatype_name, failure.constraint_name);
  END IF;
END $$;
COMMENT ON PROCEDURE prism_crypt.rotate_batch(
  regclass, name, integer, interval, double precision, bigint, integer, integer, text, name, boolean) IS
  'Re-encrypts what is not under the active key of its keyset, in a column or in all of a table, in committed batches';

-- The short name. Whoever may create objects in this schema can add a procedure of that name with other argument types that is
-- called instead. Nobody can do that in the schema prism_crypt.
CREATE PROCEDURE rotate_batch(
  relation regclass, column_name name DEFAULT NULL, batch_size integer DEFAULT 1000, pause interval DEFAULT NULL,
  max_rows_per_second double precision DEFAULT NULL, max_replica_lag bigint DEFAULT NULL,
  max_batches integer DEFAULT NULL, from_version integer DEFAULT NULL, keyset text DEFAULT NULL,
  key_version_column name DEFAULT NULL, fire_triggers boolean DEFAULT true
) LANGUAGE plpgsql AS $$
BEGIN
  CALL prism_crypt.rotate_batch(
    relation, column_name, batch_size, pause, max_rows_per_second, max_replica_lag, max_batches, from_version, keyset,
    key_version_column, fire_triggers);
END $$;
COMMENT ON PROCEDURE rotate_batch(
  regclass, name, integer, interval, double precision, bigint, integer, integer, text, name, boolean) IS
  'The same as prism_crypt.rotate_batch()';

-- What a database has to rotate: tables that are not part of another one, and what no rotation reaches.
CREATE FUNCTION prism_crypt._rotation_roots(
  OUT roots regclass[], OUT only_generated text, OUT materialized_views text, OUT foreign_tables text
) LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
  WITH holders AS MATERIALIZED (
    SELECT c.relation, c.relkind, format('%I.%I', n.nspname, r.relname) AS name, bool_and(a.attgenerated <> '') AS generated
    FROM prism_crypt._encrypted_columns() AS c
    JOIN pg_attribute AS a ON a.attrelid = c.relation AND a.attname = c.column_name
    JOIN pg_class AS r ON r.oid = c.relation JOIN pg_namespace AS n ON n.oid = r.relnamespace
    WHERE r.relpersistence <> 't' AND n.nspname <> 'prism_crypt'
    GROUP BY c.relation, c.relkind, n.nspname, r.relname
  ), roots AS (
    SELECT h.relation, h.name, h.generated FROM holders AS h
    WHERE h.relkind IN ('r', 'p')
      AND h.relation NOT IN (SELECT i.inhrelid FROM pg_inherits AS i JOIN holders AS p ON p.relation = i.inhparent
                             -- Children of a foreign table are roots themselves.
                             WHERE NOT p.generated AND p.relkind IN ('r', 'p'))
  )
  SELECT coalesce((SELECT array_agg(r.relation::regclass ORDER BY r.relation) FROM roots AS r WHERE NOT r.generated), '{}'),
         (SELECT string_agg(r.name, ', ' ORDER BY r.name) FROM roots AS r
          WHERE r.generated),
         (SELECT string_agg(h.name, ', ' ORDER BY h.name) FROM holders AS h
          WHERE h.relkind = 'm'),
         (SELECT string_agg(h.name, ', ' ORDER BY h.name) FROM holders AS h
          WHERE h.relkind = 'f')
$$;
COMMENT ON FUNCTION prism_crypt._rotation_roots() IS 'What rotate_all() goes through, and what it leaves out. Internal';

CREATE FUNCTION prism_crypt._raise_not_rotated(failed text[], tables integer) RETURNS void
  LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
  IF cardinality(failed) > 0 THEN
    RAISE object_not_in_prerequisite_state USING
      MESSAGE = format('tables that could not be rotated: %s of %s', cardinality(failed), tables),
      DETAIL = array_to_string(failed, ', '),
      HINT = 'The warnings say why.';
  END IF;
END $$;
COMMENT ON FUNCTION prism_crypt._raise_not_rotated(text[], integer) IS
  'Raises an error about tables that could not be rotated, if there are any. Internal';

-- Rotates every table, with a warning about each that could not be rotated; gives these, and the number of all.
CREATE PROCEDURE prism_crypt._rotate_all(
  kind text, limits prism_crypt._limits, from_version integer, keyset text, INOUT failed text[], INOUT tables integer
) LANGUAGE plpgsql AS $$
DECLARE
  work prism_crypt._work;
  held pg_catalog.record;
  relation pg_catalog.regclass;
  hint pg_catalog.text;
BEGIN
  failed := '{}';
  PERFORM prism_crypt._check_rotation_scope(from_version, keyset);
  held := prism_crypt._rotation_roots();
  tables := pg_catalog.cardinality(held.roots);
  FOREACH relation IN ARRAY held.roots LOOP
    work := prism_crypt._rotation_work(
      kind, relation, NULL, NULL, from_version, keyset, limits, false, coalesce(work.batches, 0));
    CALL prism_crypt._work_on(work);
    EXIT WHEN work.outcome OPERATOR(pg_catalog.=) 'stopped';
    -- A table that was dropped meanwhile has nothing left to rotate.
    IF (work.failure).code IS NOT NULL
       AND EXISTS (SELECT FROM pg_catalog.pg_class AS c WHERE c.oid OPERATOR(pg_catalog.=) relation) THEN
      hint := (work.failure).hint;
      IF hint IS NULL OR hint OPERATOR(pg_catalog.=) '' THEN
        hint := 'rotate_batch() on this table tells more.';
      END IF;
      RAISE WARNING '%: %', relation, (work.failure).message USING HINT = hint;
      failed := pg_catalog.array_append(failed, relation::pg_catalog.text);
    END IF;
  END LOOP;
  IF held.only_generated IS NOT NULL THEN
    RAISE WARNING 'tables whose encrypted columns are all generated are not rotated: %', held.only_generated
      USING HINT = 'They follow the columns that they are generated from. rotate_batch() takes a bytea column by name.';
  END IF;
  IF held.materialized_views IS NOT NULL THEN
    RAISE WARNING 'materialized views are not rotated: %', held.materialized_views
      USING HINT = 'REFRESH MATERIALIZED VIEW brings them up to date.';
  END IF;
  IF held.foreign_tables IS NOT NULL THEN
    RAISE WARNING 'foreign tables are not rotated: %', held.foreign_tables USING HINT = 'Rotate them on their own server.';
  END IF;
END $$;
COMMENT ON PROCEDURE prism_crypt._rotate_all(text, prism_crypt._limits, integer, text, text[], integer) IS
  'What rotate_all() does, without its error at the end. Internal';

CREATE PROCEDURE prism_crypt.rotate_all(
  batch_size integer DEFAULT 1000, pause interval DEFAULT NULL, max_rows_per_second double precision DEFAULT NULL,
  max_replica_lag bigint DEFAULT NULL, max_batches integer DEFAULT NULL, from_version integer DEFAULT NULL,
  keyset text DEFAULT NULL, fire_triggers boolean DEFAULT true
) LANGUAGE plpgsql AS $$
DECLARE
  limits prism_crypt._limits := ROW(
    batch_size, pause, max_rows_per_second, max_replica_lag, max_batches, fire_triggers);
  failed pg_catalog.text[];
  tables integer;
BEGIN
  PERFORM prism_crypt._require_no_transaction_block('prism_crypt.rotate_all()');
  PERFORM prism_crypt._check_limits(limits);
  CALL prism_crypt._rotate_all('rotation', limits, from_version, keyset, failed, tables);
  PERFORM prism_crypt._raise_not_rotated(failed, tables);
END $$;
COMMENT ON PROCEDURE prism_crypt.rotate_all(
  integer, interval, double precision, bigint, integer, integer, text, boolean) IS
  'Re-encrypts what is not under the active key of its keyset, in every table of the database';
