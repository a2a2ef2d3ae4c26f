-- Indexes and constraints of the new column. What has to be done is written down once, and then done statement by statement, so that
-- an interruption costs one of them.
--
-- `build` of a migration has: statements, an array of sql and index (its name, if it is built CONCURRENTLY by a statement of its own);
-- done, how many of them are done; late, what is built under the lock of the cut-over; swap, what puts all of it in the place of the
-- old ones; after, what is left to do then; old, what the old ones were;
-- and triggers, those that were there when the verification began.

-- By what it is, not by its OID, which is another one where a dump is restored.
CREATE FUNCTION prism_crypt._as_defined(one prism_crypt._twin_definition) RETURNS text
  LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
  SELECT format('%s on %s: %s', concat_ws(' ', $1.kind, quote_ident($1.old_name)), prism_crypt._qualified_name($1.member),
                prism_crypt._definition(CASE WHEN $1.kind IN ('check', 'not null') THEN 'constraint' ELSE 'index' END, $1.old_oid,
                                        'pg_catalog, pg_temp'))
$$;
COMMENT ON FUNCTION prism_crypt._as_defined(prism_crypt._twin_definition) IS 'What an index or a constraint of a column is. Internal';

CREATE FUNCTION prism_crypt._plan_build(migration prism_crypt.migration) RETURNS jsonb
  LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  -- Where the trigger can't make a value, the twin is null in rows that are written, until the columns change places.
  has_gaps CONSTANT boolean := migration.using_expression IS NOT NULL;
  one prism_crypt._twin_definition;
  steps jsonb;
  statements jsonb := '[]';
  late jsonb := '[]';
  swap jsonb := '[]';
  last jsonb := '[]';
  after jsonb := '[]';
  old jsonb := '[]';
BEGIN
  FOR one IN
    SELECT d.* FROM prism_crypt._twin_definitions(migration.relation, migration.column_name, migration.type, migration.twin) AS d
    ORDER BY d.ordinal
  LOOP
    IF one.blocks IS NOT NULL THEN
      RAISE object_not_in_prerequisite_state USING
        MESSAGE = format('%s "%s" can''t be carried over', one.kind, one.old_name), DETAIL = one.blocks,
        HINT = coalesce(one.unblock, 'prism_crypt.explain_migration() says more.');
    END IF;
    SELECT coalesce(jsonb_agg(jsonb_build_object('sql', s.sql, 'index',
             CASE WHEN s.sql ~ '^CREATE (UNIQUE )?INDEX CONCURRENTLY ' THEN format('%I.%I', n.nspname, one.new_name) END) ORDER BY s.number), '[]')
      INTO steps
    FROM unnest(one.build) WITH ORDINALITY AS s (sql, number)
    JOIN pg_class AS c ON c.oid = one.member JOIN pg_namespace AS n ON n.oid = c.relnamespace;
    IF has_gaps AND one.kind = 'not null' THEN
      late := late || to_jsonb(one.build);
    ELSE
      statements := statements || steps;
    END IF;
    -- A primary key has to go before NOT NULL can.
    IF one.kind = 'not null' THEN
      last := last || to_jsonb(coalesce(one.swap, '{}'));
    ELSE
      swap := swap || to_jsonb(coalesce(one.swap, '{}'));
    END IF;
    after := after || to_jsonb(coalesce(one.after, '{}'));
    old := old || to_jsonb(prism_crypt._as_defined(one));
  END LOOP;
  RETURN jsonb_build_object('statements', statements, 'done', 0, 'late', late, 'swap', swap || last, 'after', after,
                            'old', old);
END $$;
COMMENT ON FUNCTION prism_crypt._plan_build(prism_crypt.migration) IS 'What is to be built for a new column. Internal';

-- The statement that has to run by itself now; null if it is another one's turn, or everything is done. What a worker left unfinished
-- when it died is dropped first.
CREATE FUNCTION prism_crypt._next_concurrent_statement(migration prism_crypt.migration) RETURNS text
  LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  step CONSTANT jsonb := migration.build -> 'statements' -> (migration.build ->> 'done')::integer;
  index CONSTANT text := step ->> 'index';
  is_valid boolean;
BEGIN
  IF index IS NULL THEN
    RETURN NULL;
  END IF;
  SELECT i.indisvalid INTO is_valid FROM pg_index AS i WHERE i.indexrelid = to_regclass(index);
  RETURN CASE WHEN is_valid THEN NULL
              WHEN is_valid IS NULL THEN step ->> 'sql'
              ELSE format('DROP INDEX CONCURRENTLY %s', index) END;
END $$;
COMMENT ON FUNCTION prism_crypt._next_concurrent_statement(prism_crypt.migration) IS
  'The next statement that has to run by itself. Internal';

-- Runs the next statement, or finds that it was run; gives what is recorded then. Null if everything is done.
CREATE FUNCTION prism_crypt._build_next(migration prism_crypt.migration) RETURNS jsonb
  LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  done CONSTANT integer := migration.build ->> 'done';
  step CONSTANT jsonb := migration.build -> 'statements' -> done;
BEGIN
  IF step IS NULL THEN
    RETURN NULL;
  ELSIF step ->> 'index' IS NULL THEN
    EXECUTE step ->> 'sql';
  END IF;
  RETURN jsonb_set(migration.build, '{done}', to_jsonb(done + 1));
END $$;
COMMENT ON FUNCTION prism_crypt._build_next(prism_crypt.migration) IS 'Builds one thing for a new column. Internal';

-- The same after the cut-over, for what is left to do then.
CREATE FUNCTION prism_crypt._validate_next(migration prism_crypt.migration) RETURNS jsonb
  LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  statement CONSTANT text := migration.build -> 'after' ->> 0;
BEGIN
  IF statement IS NULL THEN
    RETURN NULL;
  END IF;
  EXECUTE statement;
  RETURN jsonb_set(migration.build, '{after}', (migration.build -> 'after') - 0);
END $$;
COMMENT ON FUNCTION prism_crypt._validate_next(prism_crypt.migration) IS 'Validates one constraint of a new column. Internal';

-- What came to the column since.
CREATE FUNCTION prism_crypt._require_as_built(migration prism_crypt.migration) RETURNS void
  LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  now_there CONSTANT text[] := ARRAY(
    SELECT prism_crypt._as_defined(d)
    FROM prism_crypt._twin_definitions(migration.relation, migration.column_name, migration.type, migration.twin) AS d);
  was_there CONSTANT text[] := ARRAY(SELECT jsonb_array_elements_text(migration.build -> 'old'));
  other text;
BEGIN
  SELECT o.one INTO other FROM (
    SELECT n, 1 FROM unnest(now_there) AS n WHERE n <> ALL (was_there)
    UNION ALL
    SELECT w, 2 FROM unnest(was_there) AS w WHERE w <> ALL (now_there)
  ) AS o (one, rank) ORDER BY o.rank, o.one LIMIT 1;
  IF FOUND THEN
    RAISE object_not_in_prerequisite_state USING
      MESSAGE = format('%s came, went or changed after those of the new column were built', split_part(other, ': ', 1)),
      HINT = format('Make it what it was, and change it after the cut-over; or call prism_crypt.rollback_migration(%s) and begin again.',
                    migration.id);
  END IF;
END $$;
COMMENT ON FUNCTION prism_crypt._require_as_built(prism_crypt.migration) IS
  'Raises an error if indexes or constraints have come meanwhile. Internal';
