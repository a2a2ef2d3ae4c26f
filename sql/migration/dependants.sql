-- Everything that touches a column: what has to be dropped and made again around a swap, what blocks it, and what to know.

CREATE FUNCTION prism_crypt._dependant_edges(class oid, object oid, part integer, OUT next_class oid, OUT next_object oid)
  RETURNS SETOF record
  LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
  -- A view is the rule that it is made of; its row type is a part of it.
  WITH referenced (class, object) AS (
    SELECT $1, $2
    UNION ALL
    SELECT 'pg_type'::regclass, t.oid FROM pg_type AS t
    WHERE $1 = 'pg_class'::regclass AND $3 = 0
      AND (t.typrelid = $2 OR t.typelem IN (SELECT r.oid FROM pg_type AS r WHERE r.typrelid = $2))
  )
  SELECT DISTINCT CASE WHEN r.rulename = '_RETURN' THEN 'pg_class'::regclass::oid ELSE d.classid END,
                  CASE WHEN r.rulename = '_RETURN' THEN r.ev_class ELSE d.objid END
  FROM referenced AS x
  JOIN pg_depend AS d ON d.refclassid = x.class AND d.refobjid = x.object AND ($3 = 0 OR d.refobjsubid = $3)
  LEFT JOIN pg_rewrite AS r ON d.classid = 'pg_rewrite'::regclass AND r.oid = d.objid
  WHERE d.deptype IN ('n', 'a')
    -- Of a table's column these are others' matter; a view takes its own indexes and defaults along.
    AND d.classid NOT IN ('pg_attrdef'::regclass, 'pg_constraint'::regclass, 'pg_publication_rel'::regclass)
    AND NOT (d.classid = 'pg_class'::regclass
             AND ($3 <> 0 OR d.objid IN (SELECT i.indexrelid FROM pg_index AS i WHERE i.indrelid = $2)))
    AND NOT (d.classid = 'pg_type'::regclass AND d.deptype = 'i')
    AND coalesce(r.ev_class <> $2 OR r.rulename <> '_RETURN', true)
    -- Triggers of partitions go with those of the partitioned table.
    AND NOT EXISTS (SELECT FROM pg_trigger AS t WHERE d.classid = 'pg_trigger'::regclass AND t.oid = d.objid
                    AND (t.tgparentid <> 0 OR t.tgisinternal))
$$;
COMMENT ON FUNCTION prism_crypt._dependant_edges(oid, oid, integer) IS 'What depends directly on a column or a view. Internal';

-- All that depends on the column, also through views, with the longest way to it: what is further away goes first.
CREATE FUNCTION prism_crypt._dependant_graph(relation regclass, column_name name, OUT class oid, OUT object oid, OUT depth integer)
  RETURNS SETOF record
  LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_variable
DECLARE
  classes oid[];
  objects oid[];
  all_classes oid[] := '{}';
  all_objects oid[] := '{}';
  depths integer[] := '{}';
  level integer := 0;
BEGIN
  SELECT array_agg(e.next_class), array_agg(e.next_object) INTO classes, objects
  FROM (SELECT e.* FROM prism_crypt._column_members(relation, column_name) AS m
        CROSS JOIN LATERAL prism_crypt._dependant_edges('pg_class'::regclass, m.member, m.attnum) AS e
        UNION
        -- Before 15, a view that reads rows of the table from a function does not depend on their columns.
        SELECT 'pg_class'::regclass, r.ev_class
        FROM prism_crypt._column_members(relation, column_name) AS m JOIN pg_class AS t ON t.oid = m.member
        JOIN pg_proc AS p ON p.prorettype = t.reltype
        JOIN pg_depend AS d ON d.refclassid = 'pg_proc'::regclass AND d.refobjid = p.oid AND d.classid = 'pg_rewrite'::regclass
        JOIN pg_rewrite AS r ON r.oid = d.objid AND r.rulename = '_RETURN'
        WHERE current_setting('server_version_num')::integer < 150000) AS e;
  WHILE classes IS NOT NULL LOOP
    level := level + 1;
    IF level > 1000 THEN
      RAISE program_limit_exceeded USING MESSAGE = 'views depend on each other in a circle, or too deep';
    END IF;
    all_classes := all_classes || classes;
    all_objects := all_objects || objects;
    depths := depths || array_fill(level, ARRAY[cardinality(classes)]);
    SELECT array_agg(e.next_class), array_agg(e.next_object) INTO classes, objects
    FROM (SELECT DISTINCT e.* FROM unnest(classes, objects) AS n (class, object)
          CROSS JOIN LATERAL prism_crypt._dependant_edges(n.class, n.object, 0) AS e
          -- Only views have dependants that matter: they are dropped.
          WHERE n.class = 'pg_class'::regclass AND EXISTS (
            SELECT FROM pg_class AS c WHERE c.oid = n.object AND c.relkind IN ('v', 'm'))) AS e;
  END LOOP;
  RETURN QUERY SELECT n.class, n.object, max(n.depth) FROM unnest(all_classes, all_objects, depths) AS n (class, object, depth)
    GROUP BY n.class, n.object ORDER BY max(n.depth) DESC, n.class, n.object;
END $$;
COMMENT ON FUNCTION prism_crypt._dependant_graph(regclass, name) IS 'What depends on a column, also through views. Internal';

CREATE FUNCTION prism_crypt._dependant_of(class oid, object oid, trial_path text) RETURNS prism_crypt._dependant
  LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  answer prism_crypt._dependant;
  relkind CONSTANT "char" := (SELECT c.relkind FROM pg_class AS c WHERE class = 'pg_class'::regclass AND c.oid = object);
BEGIN
  IF relkind IN ('v', 'm') THEN
    RETURN prism_crypt._view_dependant(object, trial_path);
  ELSIF class = 'pg_rewrite'::regclass THEN
    RETURN prism_crypt._rule_dependant(object, trial_path);
  ELSIF class = 'pg_trigger'::regclass THEN
    RETURN prism_crypt._trigger_dependant(object, trial_path);
  ELSIF class = 'pg_policy'::regclass THEN
    RETURN prism_crypt._policy_dependant(object, trial_path);
  ELSIF class = 'pg_statistic_ext'::regclass THEN
    RETURN prism_crypt._statistics_dependant(object, trial_path);
  ELSIF class = 'pg_proc'::regclass THEN
    RETURN prism_crypt._function_dependant(object, trial_path);
  ELSIF NOT EXISTS (SELECT FROM pg_depend AS d WHERE d.classid = class AND d.objid = object) THEN
    RETURN NULL;
  END IF;
  answer := prism_crypt._dependant('type user', pg_describe_object(class, object, 0),
                                   blocks => 'it depends on the column, or on a view of it that has to be made again');
  answer.class := class;
  answer.object := object;
  RETURN answer;
END $$;
COMMENT ON FUNCTION prism_crypt._dependant_of(oid, oid, text) IS 'One object that depends on a column. Internal';

-- The parts of the path that the trial needs: the schemas of the tables and of what hangs on them.
CREATE FUNCTION prism_crypt._trial_schemas(relation regclass, column_name name) RETURNS text
  LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
  SELECT string_agg(quote_ident(n.nspname), ', ' ORDER BY n.first, n.nspname)
  FROM (SELECT s.nspname, min(r.rank) AS first
        FROM (SELECT m.member AS oid, CASE WHEN m.member = relation THEN 0 ELSE 1 END AS rank
              FROM prism_crypt._column_members(relation, column_name) AS m
              UNION ALL
              SELECT g.object, 2 FROM prism_crypt._dependant_graph(relation, column_name) AS g
              WHERE g.class = 'pg_class'::regclass) AS r
        JOIN pg_class AS c ON c.oid = r.oid JOIN pg_namespace AS s ON s.oid = c.relnamespace
        WHERE s.nspname <> 'pg_catalog' GROUP BY s.nspname) AS n
$$;
COMMENT ON FUNCTION prism_crypt._trial_schemas(regclass, name) IS 'The schemas on the path of a trial. Internal';

-- The rows that a function gives have their columns by position in a definition, and the copy is not what it reads.
CREATE FUNCTION prism_crypt._row_reader(relation regclass, dependant prism_crypt._dependant) RETURNS text
  LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
  SELECT format('it reads rows of the table from function %s', p.oid::regprocedure)
  FROM pg_depend AS d JOIN pg_proc AS p ON d.refclassid = 'pg_proc'::regclass AND p.oid = d.refobjid
  JOIN pg_class AS t ON t.reltype = p.prorettype JOIN prism_crypt._table_tree($1) AS m ON m.member = t.oid
  WHERE d.classid = $2.class AND d.objid = $2.object
     OR d.classid = 'pg_rewrite'::regclass AND $2.class = 'pg_class'::regclass
        AND d.objid IN (SELECT r.oid FROM pg_rewrite AS r WHERE r.ev_class = $2.object)
  ORDER BY p.oid LIMIT 1
$$;
COMMENT ON FUNCTION prism_crypt._row_reader(regclass, prism_crypt._dependant) IS
  'Why something can''t be made again that reads rows of a table from a function. Internal';

-- Makes everything again on empty copies of the tables, as a swap would, so that PostgreSQL judges it. It leaves nothing behind.
CREATE FUNCTION prism_crypt._try_dependants(
  relation regclass, column_name name, new_type text, schemas text, INOUT dependants prism_crypt._dependant[]
) LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp SET client_min_messages = error AS $$
#variable_conflict use_variable
DECLARE
  path CONSTANT text := 'pg_temp, pg_catalog, ' || schemas;
  trial_path CONSTANT text := 'pg_catalog, ' || schemas || ', pg_temp';
  member oid;
  number integer;
  one prism_crypt._dependant;
  error text;
  done boolean := false;
BEGIN
  FOR member IN
    -- Only tables that something names. Of two with one name the path shows the first; the other one is not tried.
    SELECT m.member FROM prism_crypt._column_members(relation, column_name) AS m
    WHERE prism_crypt._is_bare(m.member, trial_path)
      AND (EXISTS (SELECT FROM prism_crypt._dependant_edges('pg_class'::regclass, m.member, m.attnum))
        OR m.member IN (SELECT d.target FROM unnest(dependants) AS d WHERE d.trial IS NOT NULL))
  LOOP
    PERFORM prism_crypt._make_copy(member, column_name, new_type, true);
  END LOOP;
  -- In the order in which they would be made.
  FOR number IN REVERSE cardinality(dependants) .. 1 LOOP
    one := dependants[number];
    error := prism_crypt._row_reader(relation, one);
    IF error IS NOT NULL THEN
      one.blocks := coalesce(one.blocks, error);
      one.unblock := coalesce(one.unblock, one.drops[1]);
      dependants[number] := one;
      CONTINUE;
    END IF;
    -- Never on anything but a copy.
    CONTINUE WHEN one.trial IS NULL OR one.target IS NOT NULL AND NOT (
      prism_crypt._is_bare(one.target, trial_path)
      AND to_regclass(format('pg_temp.%I', (SELECT c.relname FROM pg_class AS c WHERE c.oid = one.target))) IS NOT NULL);
    error := prism_crypt._try(one.trial, path);
    IF error IS NULL AND one.kind IN ('view', 'materialized view') AND EXISTS (
         SELECT FROM pg_depend AS d JOIN pg_attribute AS a ON a.attrelid = d.refobjid AND a.attnum = d.refobjsubid
         WHERE d.classid = 'pg_rewrite'::regclass AND d.refclassid = 'pg_class'::regclass
           AND a.attname = prism_crypt._side_name('prism_crypt_old_', column_name)
           AND d.objid IN (SELECT r.oid FROM pg_rewrite AS r WHERE r.ev_class = to_regclass(format('pg_temp.%I',
             (SELECT c.relname FROM pg_class AS c WHERE c.oid = one.object))))) THEN
      error := 'it names the columns of the table by their position, and would show the old column';
    END IF;
    IF error IS NOT NULL AND one.blocks IS NULL THEN
      one.blocks := format('PostgreSQL would not make it again: %s', error);
      IF one.kind IN ('view', 'materialized view', 'function') THEN
        one.unblock := format('DROP %s %s', CASE one.kind WHEN 'function' THEN 'ROUTINE' ELSE upper(one.kind) END, one.identity);
      END IF;
    END IF;
    dependants[number] := one;
  END LOOP;
  done := true;
  RAISE SQLSTATE 'PC000';
EXCEPTION WHEN SQLSTATE 'PC000' THEN
  IF NOT done THEN
    RAISE;
  END IF;
END $$;
COMMENT ON FUNCTION prism_crypt._try_dependants(regclass, name, text, text, prism_crypt._dependant[]) IS
  'Tries on copies what would be made again. Internal';

-- Publications that carry the column. Subscribers get what is published by its name, so they need the twin, too.
CREATE FUNCTION prism_crypt._publication_dependants(relation regclass, column_name name, new_type text)
  RETURNS SETOF prism_crypt._dependant
  LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
  WITH members AS MATERIALIZED (
    SELECT m.member, m.attnum, n.nspname, c.relname
    FROM prism_crypt._column_members($1, $2) AS m JOIN pg_class AS c ON c.oid = m.member
    JOIN pg_namespace AS n ON n.oid = c.relnamespace
  ), named AS (
    SELECT DISTINCT r.prpubid, m.member FROM members AS m
    JOIN pg_depend AS d ON d.classid = 'pg_publication_rel'::regclass AND d.refclassid = 'pg_class'::regclass
      AND d.refobjid = m.member AND d.refobjsubid = m.attnum
    JOIN pg_publication_rel AS r ON r.oid = d.objid
  )
  SELECT prism_crypt._dependant('publication', format('%I', p.pubname),
    blocks => format('its column list or row filter for %s names the column', prism_crypt._qualified_name(n.member)),
    unblock => format('ALTER PUBLICATION %I DROP TABLE %s', p.pubname, prism_crypt._qualified_name(n.member)))
  FROM named AS n JOIN pg_publication AS p ON p.oid = n.prpubid
  UNION ALL
  SELECT prism_crypt._dependant('publication', format('%I', t.pubname),
    note => format('subscribers of %I.%I need a column for the values first: ALTER TABLE %I.%I ADD COLUMN %I %s',
                   t.schemaname, t.tablename, t.schemaname, t.tablename, prism_crypt._side_name('prism_crypt_new_', $2), $3))
  FROM pg_publication_tables AS t JOIN members AS m ON m.nspname = t.schemaname AND m.relname = t.tablename
  WHERE NOT EXISTS (SELECT FROM named AS n JOIN pg_publication AS p ON p.oid = n.prpubid
                    WHERE p.pubname = t.pubname AND n.member = m.member)
$$;
COMMENT ON FUNCTION prism_crypt._publication_dependants(regclass, name, text) IS 'Publications that carry a column. Internal';

-- What has to be dropped and made again, as the catalogs say it; not judged.
CREATE FUNCTION prism_crypt._listed_dependants(relation regclass, column_name name) RETURNS prism_crypt._dependant[]
  LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_variable
DECLARE
  trial_path CONSTANT text := 'pg_catalog, ' || prism_crypt._trial_schemas(relation, column_name) || ', pg_temp';
BEGIN
  RETURN ARRAY(
      SELECT prism_crypt._dependant_of(g.class, g.object, trial_path) FROM prism_crypt._dependant_graph(relation, column_name) AS g)
    || ARRAY(SELECT d FROM prism_crypt._column_members(relation, column_name) AS m
             CROSS JOIN LATERAL prism_crypt._column_properties(m.member, m.attnum, trial_path) AS d);
END $$;
COMMENT ON FUNCTION prism_crypt._listed_dependants(regclass, name) IS 'What has to be made again around a swap. Internal';

CREATE FUNCTION prism_crypt._dependants(relation regclass, column_name name, new_type text) RETURNS SETOF prism_crypt._dependant
  LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_variable
DECLARE
  schemas CONSTANT text := prism_crypt._trial_schemas(relation, column_name);
  dependants prism_crypt._dependant[];
  one prism_crypt._dependant;
  number integer := 0;
BEGIN
  IF schemas IS NULL THEN
    RAISE undefined_column USING MESSAGE = format('column "%s" of relation %s does not exist', column_name, relation);
  END IF;
  dependants := prism_crypt._try_dependants(
    relation, column_name, new_type, schemas, prism_crypt._listed_dependants(relation, column_name));
  FOR one IN
    SELECT * FROM unnest(dependants)
    UNION ALL
    SELECT d.* FROM prism_crypt._column_members(relation, column_name) AS m
    CROSS JOIN LATERAL prism_crypt._column_ties(m.member, m.attnum) AS d
    UNION ALL
    SELECT * FROM prism_crypt._inheritance_blocks(relation, column_name)
    UNION ALL
    SELECT * FROM prism_crypt._publication_dependants(relation, column_name, new_type)
    UNION ALL
    SELECT d.* FROM prism_crypt._twin_definitions(
      relation, column_name, new_type, prism_crypt._side_name('prism_crypt_new_', column_name)) AS t
    CROSS JOIN LATERAL prism_crypt._dependant(t.kind,
      CASE WHEN t.kind IN ('not null', 'domain') THEN format('%s.%I', prism_crypt._qualified_name(t.member), column_name)
           WHEN t.kind = 'check' THEN format('%I on %s', t.old_name, prism_crypt._qualified_name(t.member))
           ELSE prism_crypt._qualified_name(t.old_oid::regclass) END,
      blocks => t.blocks, unblock => t.unblock, note => t.note) AS d
  LOOP
    number := number + 1;
    one.ordinal := number;
    IF one.blocks IS NULL THEN
      one.unblock := NULL;
    END IF;
    one.trial := NULL;
    one.target := NULL;
    RETURN NEXT one;
  END LOOP;
END $$;
COMMENT ON FUNCTION prism_crypt._dependants(regclass, name, text) IS 'Everything that touches a column. Internal';
