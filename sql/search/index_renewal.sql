-- Indexes after a change of keys. Indexes that only compare values are rebuilt while their tables are locked. No code of others
-- runs during that: indexes that would run some, or that can't be built, are marked invalid, to be rebuilt later.

CREATE FUNCTION prism_crypt._rebuild_index(index text, without_right boolean) RETURNS void
  LANGUAGE c VOLATILE STRICT AS 'MODULE_PATHNAME', '_rebuild_index_wrapper';
COMMENT ON FUNCTION prism_crypt._rebuild_index(text, boolean) IS
  'REINDEX INDEX, if wanted without requiring the right to search of the owner of the table. Internal';

-- Trusted are objects of PostgreSQL itself, of this extension, and those of superusers in other extensions. Only those of
-- superusers, because a trusted extension belongs to whoever created it, and they may add functions of their own. An array type
-- is what its elements are: before PostgreSQL 17 it is no member of an extension.
CREATE FUNCTION prism_crypt._is_trusted(class oid, object oid) RETURNS boolean
  LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
  SELECT o.oid < 16384 OR EXISTS (
    SELECT FROM pg_depend AS d JOIN pg_extension AS e ON e.oid = d.refobjid
    WHERE d.classid = class AND d.objid = o.oid AND d.deptype = 'e' AND e.extname = 'prism_crypt'
  ) OR EXISTS (
    SELECT FROM pg_depend AS d
    JOIN pg_roles AS r ON r.rolsuper AND r.oid = CASE class
      WHEN 'pg_proc'::regclass THEN (SELECT p.proowner FROM pg_proc AS p WHERE p.oid = o.oid)
      WHEN 'pg_operator'::regclass THEN (SELECT p.oprowner FROM pg_operator AS p WHERE p.oid = o.oid)
      WHEN 'pg_opclass'::regclass THEN (SELECT c.opcowner FROM pg_opclass AS c WHERE c.oid = o.oid)
      WHEN 'pg_opfamily'::regclass THEN (SELECT f.opfowner FROM pg_opfamily AS f WHERE f.oid = o.oid)
      WHEN 'pg_type'::regclass THEN (SELECT t.typowner FROM pg_type AS t WHERE t.oid = o.oid) END
    WHERE d.classid = class AND d.objid = o.oid AND d.deptype = 'e')
  FROM (SELECT coalesce((
    SELECT t.typelem FROM pg_type AS t JOIN pg_type AS e ON e.oid = t.typelem AND e.typarray = t.oid
    WHERE class = 'pg_type'::regclass AND t.oid = object), object)) AS o (oid)
$$;
COMMENT ON FUNCTION prism_crypt._is_trusted(oid, oid) IS
  'Whether an object is PostgreSQL''s own, or a superuser''s in an extension. Internal';

-- Types don't matter here: only superusers can make base types and operator classes, and comparing domains, rows, arrays and
-- ranges runs no functions of these types themselves. GIN compares what it takes out of a value with the btree class of that type.
-- Access methods other than these three call the subtype_diff function of a range type.
CREATE FUNCTION prism_crypt._runs_others_code(index oid) RETURNS boolean
  LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
  SELECT EXISTS (
      SELECT FROM pg_depend AS d
      WHERE d.classid = 'pg_class'::regclass AND d.objid = $1 AND d.deptype <> 'x'
        AND d.refclassid NOT IN (
          'pg_class'::regclass, 'pg_constraint'::regclass, 'pg_collation'::regclass, 'pg_am'::regclass,
          'pg_tablespace'::regclass, 'pg_namespace'::regclass)
        AND NOT prism_crypt._is_trusted(d.refclassid, d.refobjid))
    OR EXISTS (
      SELECT FROM pg_class AS c JOIN pg_am AS m ON m.oid = c.relam
      JOIN pg_attribute AS a ON a.attrelid = c.oid JOIN pg_type AS t ON t.oid = a.atttypid
      LEFT JOIN pg_range AS r ON a.atttypid IN (r.rngtypid, r.rngmultitypid)
      WHERE c.oid = $1 AND m.amname NOT IN ('btree', 'hash', 'gin') AND t.oid >= 16384
        AND (r.rngtypid IS NULL OR r.rngsubdiff <> 0 AND NOT prism_crypt._is_trusted('pg_proc'::regclass, r.rngsubdiff)))
$$;
COMMENT ON FUNCTION prism_crypt._runs_others_code(oid) IS
  'Whether building an index runs functions that an ordinary role may have made. Internal';

-- Before PostgreSQL gives a build to workers, it looks at all indexes and statistics of the table, and computes the constants in
-- their expressions. Workers also don't know for whom they build. This function looks at all of these, too, so call it once per
-- table.
CREATE FUNCTION prism_crypt._may_build_in_parallel(relation oid) RETURNS boolean
  LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
  SELECT NOT EXISTS (SELECT FROM pg_index AS i WHERE i.indrelid = c.oid AND prism_crypt._runs_others_code(i.indexrelid))
    AND NOT EXISTS (SELECT FROM pg_statistic_ext AS s WHERE s.stxrelid = c.oid AND s.stxexprs IS NOT NULL)
    AND has_function_privilege(c.relowner, (
      SELECT p.oid FROM pg_proc AS p
      WHERE p.proname = 'blind_index' AND p.oid IN (SELECT prism_crypt._members('pg_proc'))), 'EXECUTE')
  FROM pg_class AS c WHERE c.oid = $1
$$;
COMMENT ON FUNCTION prism_crypt._may_build_in_parallel(oid) IS
  'Whether workers may take part in building an index of a table. Internal';

-- Gives the indexes that could not be marked. `in_use`: indexes of tables that are not locked.
CREATE FUNCTION prism_crypt._distrust_within(indexes regclass[], in_use regclass[], seconds double precision)
  RETURNS regclass[]
  LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  own_timeout CONSTANT text := current_setting('lock_timeout');
  began CONSTANT double precision := prism_crypt._uptime();
  index regclass;
  failed regclass[] := '{}';
BEGIN
  BEGIN
    PERFORM set_config('lock_timeout', '1s', true),
      prism_crypt._distrust_indexes(indexes, false), prism_crypt._distrust_indexes(in_use, true),
      set_config('lock_timeout', own_timeout, true);
    RETURN failed;
  EXCEPTION WHEN OTHERS OR assert_failure THEN
    NULL;
  END;
  FOREACH index IN ARRAY indexes || in_use LOOP
    BEGIN
      PERFORM set_config(
          'lock_timeout', ceil(greatest(least(1, seconds - (prism_crypt._uptime() - began)), 0.01) * 1000)::bigint || 'ms', true),
        prism_crypt._distrust_indexes(ARRAY[index], index = ANY (in_use));
    EXCEPTION WHEN OTHERS OR assert_failure THEN
      failed := array_append(failed, index);
    END;
  END LOOP;
  PERFORM set_config('lock_timeout', own_timeout, true);
  RETURN failed;
END $$;
COMMENT ON FUNCTION prism_crypt._distrust_within(regclass[], regclass[], double precision) IS
  'Marks indexes as not to be used, within so many seconds; gives those that others kept locked. Internal';

CREATE FUNCTION prism_crypt._index_names(indexes regclass[]) RETURNS text
  LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
  SELECT string_agg(i::text, ', ' ORDER BY i::text) FROM unnest(indexes) AS i
$$;
COMMENT ON FUNCTION prism_crypt._index_names(regclass[]) IS 'Names of indexes. Internal';

-- `in_use`: tables that are not locked. `change`:
--   loss                  a key is gone
--   order                 the order of the indexes is another one now, so none may stay as it is
--   order, with all keys  likewise, and keys that are not at hand are an error
CREATE FUNCTION prism_crypt._renew_by_key(indexes regclass[], in_use oid[], change text) RETURNS integer
  LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  own_timeout CONSTANT text := current_setting('lock_timeout');
  own_workers CONSTANT text := current_setting('max_parallel_maintenance_workers');
  -- How long it waits for everything that others keep locked, not for each index.
  seconds CONSTANT double precision := 10;
  waited double precision := 0;
  began double precision;
  target record;
  cause text;
  causes text[] := '{}';
  locked regclass[] := '{}';
  unlocked regclass[] := '{}';
  failed regclass[];
  renewed integer := 0;
BEGIN
  FOR target IN
    WITH relations AS MATERIALIZED (
      SELECT r.oid, r.is_in_use, NOT r.is_in_use AND prism_crypt._may_build_in_parallel(r.oid) AS in_parallel
      FROM (SELECT DISTINCT x.indrelid, x.indrelid = ANY (in_use) FROM pg_index AS x
            WHERE x.indexrelid = ANY (indexes::oid[])) AS r (oid, is_in_use)
    )
    SELECT x.indexrelid::regclass AS index, x.indexprs IS NULL AND x.indpred IS NULL AS is_plain,
           r.is_in_use, r.in_parallel, NOT r.is_in_use AND prism_crypt._runs_others_code(x.indexrelid) AS runs_code
    FROM pg_index AS x JOIN relations AS r ON r.oid = x.indrelid
    WHERE x.indexrelid = ANY (indexes::oid[])
    ORDER BY x.indexrelid
  LOOP
    IF target.is_in_use THEN
      unlocked := array_append(unlocked, target.index);
      cause := 'its table is in use';
    ELSIF target.runs_code THEN
      cause := 'it runs functions of others';
    ELSE
      began := prism_crypt._uptime();
      BEGIN
        PERFORM set_config('lock_timeout', ceil(greatest(least(1, seconds - waited), 0.01) * 1000)::bigint || 'ms', true),
          set_config('max_parallel_maintenance_workers',
            CASE WHEN target.in_parallel THEN own_workers ELSE '0' END, true),
          prism_crypt._rebuild_index(target.index::text, target.is_plain);
        renewed := renewed + 1;
        CONTINUE;
      EXCEPTION
        WHEN lock_not_available OR deadlock_detected THEN
          waited := waited + (prism_crypt._uptime() - began);
          cause := 'it is in use';
        WHEN OTHERS OR assert_failure THEN
          IF change = 'order, with all keys' AND SQLSTATE = '55000' THEN
            RAISE;
          END IF;
          -- Only the SQLSTATE, because the message may quote values.
          cause := 'SQLSTATE ' || SQLSTATE;
      END;
    END IF;
    IF NOT target.is_in_use THEN
      locked := array_append(locked, target.index);
    END IF;
    causes := array_append(causes, format('%s: %s', target.index, cause));
  END LOOP;
  PERFORM set_config('lock_timeout', own_timeout, true), set_config('max_parallel_maintenance_workers', own_workers, true);
  IF causes = '{}' THEN
    RETURN renewed;
  END IF;
  failed := prism_crypt._distrust_within(locked, unlocked, seconds);
  IF failed <> '{}' AND change <> 'loss' THEN
    RAISE lock_not_available USING
      MESSAGE = format('indexes can''t be marked invalid: %s', left(prism_crypt._index_names(failed), 1000)),
      DETAIL = coalesce(prism_crypt._users_of_tables(ARRAY(
        SELECT x.indexrelid FROM pg_index AS x WHERE x.indexrelid = ANY (failed::oid[])
        UNION SELECT x.indrelid FROM pg_index AS x WHERE x.indexrelid = ANY (failed::oid[]))), 'Nobody has locks on them any more.'),
      HINT = 'Wait until these transactions end, or end them.';
  ELSIF failed <> '{}' THEN
    RAISE WARNING 'indexes could neither be rebuilt nor marked invalid: %', prism_crypt._index_names(failed) USING
      HINT = 'REINDEX INDEX each of them. Until then they may fail to open values.';
  END IF;
  RAISE WARNING 'indexes on encrypted values are invalid now: %', prism_crypt._index_names(locked || unlocked) USING
    DETAIL = left(array_to_string(causes, '; '), 4000),
    HINT = 'REINDEX INDEX each of them. Until then no query uses them, and they don''t enforce uniqueness. Where one holds values that '
      'can''t be opened any more (SQLSTATE 55000), delete their rows first.';
  RETURN renewed;
END $$;
COMMENT ON FUNCTION prism_crypt._renew_by_key(regclass[], oid[], text) IS
  'Rebuilds indexes after a change of keys, or marks them invalid; gives how many were rebuilt. Internal';
