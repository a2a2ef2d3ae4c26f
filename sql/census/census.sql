-- Ciphertexts by key version, everywhere they can be. Needs no key: the version is in the header of each envelope.

CREATE FUNCTION prism_crypt._key_versions(value anyelement) RETURNS integer[]
  LANGUAGE c STABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', '_key_versions_wrapper';
COMMENT ON FUNCTION prism_crypt._key_versions(anyelement) IS
  'Key versions of each encrypted_text in a value of any type, NULL for a damaged one. Internal';

-- The argument is text, so that a column that this version of PostgreSQL may not have can be read through to_jsonb().
CREATE FUNCTION prism_crypt._constant_versions(expression text) RETURNS integer[]
  LANGUAGE c STABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', '_constant_versions_wrapper';
COMMENT ON FUNCTION prism_crypt._constant_versions(text) IS
  'Key versions of the constants in a stored expression (pg_node_tree). Internal';

CREATE FUNCTION prism_crypt._text_form_versions(source text) RETURNS integer[]
  LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', '_text_form_versions_wrapper';
COMMENT ON FUNCTION prism_crypt._text_form_versions(text) IS 'Key versions of the text forms in a text. Internal';

CREATE FUNCTION prism_crypt._count_versions(
  relation oid, OUT column_number smallint, OUT is_bytes boolean, OUT key_version integer, OUT ciphertexts bigint
) RETURNS SETOF record
  LANGUAGE c VOLATILE STRICT ROWS 10 AS 'MODULE_PATHNAME', '_count_versions_wrapper';
COMMENT ON FUNCTION prism_crypt._count_versions(oid) IS
  'Ciphertexts in a table by column and key version, read without running any function of its owner. Internal';

CREATE FUNCTION prism_crypt._hold_for_reading(relation oid, hold boolean) RETURNS void
  LANGUAGE c VOLATILE STRICT AS 'MODULE_PATHNAME', '_hold_for_reading_wrapper';
COMMENT ON FUNCTION prism_crypt._hold_for_reading(oid, boolean) IS
  'Locks a relation in ACCESS SHARE mode, or releases that lock. Internal';

CREATE FUNCTION prism_crypt._session_of(temporary_schema oid) RETURNS integer
  LANGUAGE c VOLATILE STRICT AS 'MODULE_PATHNAME', '_session_of_wrapper';
COMMENT ON FUNCTION prism_crypt._session_of(oid) IS
  'The process whose temporary tables are in a schema. Internal';

CREATE FUNCTION prism_crypt._census_tables(
  OUT relation oid, OUT name text, OUT kind text, OUT columns name[], OUT has_bytes boolean, OUT unreadable text
) RETURNS SETOF record
  LANGUAGE sql STABLE ROWS 100 SET search_path = pg_catalog, pg_temp AS $$
  WITH columns (relation, column_name, is_bytes) AS (
    SELECT relation, column_name, false FROM prism_crypt._encrypted_columns()
    UNION ALL
    SELECT a.attrelid, a.attname, true
    FROM pg_attribute AS a
    JOIN pg_class AS c ON c.oid = a.attrelid
    WHERE a.atttypid IN (SELECT type FROM prism_crypt._types_over('bytea'::regtype))
      AND a.attnum > 0 AND NOT a.attisdropped AND c.relkind IN ('r', 'm')
      AND c.relnamespace NOT IN (
        SELECT oid FROM pg_namespace WHERE nspname IN ('prism_crypt', 'pg_catalog', 'information_schema'))
  )
  SELECT c.oid, format('%I.%I', n.nspname, c.relname) COLLATE "C",
         CASE c.relkind WHEN 'm' THEN 'materialized view' WHEN 'f' THEN 'foreign table'
                        ELSE CASE WHEN c.relispartition THEN 'partition' ELSE 'table' END END,
         coalesce(array_agg(l.column_name ORDER BY l.column_name) FILTER (WHERE NOT l.is_bytes), '{}'), bool_or(l.is_bytes),
         CASE WHEN c.relkind = 'f' THEN 'foreign table: count there'
              WHEN c.relpersistence = 't' AND c.relnamespace <> pg_my_temp_schema()
                THEN format('temporary table of another session%s: can''t be read',
                            ' (process ' || prism_crypt._session_of(c.relnamespace) || ')')
              WHEN c.relpersistence = 'u' AND pg_is_in_recovery() THEN 'unlogged table: can''t be read on a standby' END
  FROM columns AS l JOIN pg_class AS c ON c.oid = l.relation JOIN pg_namespace AS n ON n.oid = c.relnamespace
  -- Partitioned tables hold no rows themselves.
  WHERE c.relkind <> 'p'
  GROUP BY c.oid, n.nspname, c.relname, c.relkind, c.relispartition, c.relpersistence, c.relnamespace
$$;
COMMENT ON FUNCTION prism_crypt._census_tables() IS 'The relations that a census counts. Internal';

CREATE FUNCTION prism_crypt._census_constants(
  OUT kind text, OUT class oid, OUT object oid, OUT part integer, OUT relation oid, OUT remark text,
  OUT versions integer[]
) RETURNS SETOF record
  LANGUAGE sql STABLE ROWS 100 SET search_path = pg_catalog, pg_temp AS $$
  SELECT CASE a.attgenerated WHEN '' THEN 'default' ELSE 'generated column' END, 'pg_class'::regclass::oid, d.adrelid,
         d.adnum::integer, d.adrelid, NULL, prism_crypt._constant_versions(d.adbin)
  FROM pg_attrdef AS d JOIN pg_attribute AS a ON a.attrelid = d.adrelid AND a.attnum = d.adnum
  UNION ALL
  SELECT 'missing value', 'pg_class'::regclass, a.attrelid, a.attnum, a.attrelid, 'goes when the table is rewritten',
         prism_crypt._key_versions(a.attmissingval)
  FROM pg_attribute AS a WHERE a.atthasmissing AND a.atttypid IN (SELECT type FROM prism_crypt._encrypted_types())
  UNION ALL
  SELECT CASE c.conrelid WHEN 0 THEN 'domain' ELSE 'check' END, 'pg_constraint'::regclass, c.oid, 0, c.conrelid, NULL,
         prism_crypt._constant_versions(c.conbin)
  FROM pg_constraint AS c
  UNION ALL
  SELECT CASE t.typtype WHEN 'd' THEN 'domain' ELSE 'type' END, 'pg_type'::regclass, t.oid, 0, 0, 'default',
         coalesce(prism_crypt._constant_versions(t.typdefaultbin), prism_crypt._text_form_versions(t.typdefault))
  FROM pg_type AS t
  UNION ALL
  SELECT CASE WHEN c.relkind IN ('v', 'm') AND r.ev_type = '1' THEN 'view' ELSE 'rule' END,
         CASE WHEN c.relkind IN ('v', 'm') AND r.ev_type = '1' THEN 'pg_class'::regclass ELSE 'pg_rewrite' END,
         CASE WHEN c.relkind IN ('v', 'm') AND r.ev_type = '1' THEN c.oid ELSE r.oid END,
         0, c.oid, CASE c.relkind WHEN 'm' THEN 'definition of a materialized view' END,
         prism_crypt._constant_versions(r.ev_action) || prism_crypt._constant_versions(r.ev_qual)
  FROM pg_rewrite AS r JOIN pg_class AS c ON c.oid = r.ev_class
  UNION ALL
  SELECT 'policy', 'pg_policy'::regclass, p.oid, 0, p.polrelid, NULL,
         prism_crypt._constant_versions(p.polqual) || prism_crypt._constant_versions(p.polwithcheck)
  FROM pg_policy AS p
  UNION ALL
  SELECT 'trigger', 'pg_trigger'::regclass, t.oid, 0, t.tgrelid, NULL,
         prism_crypt._constant_versions(t.tgqual) || prism_crypt._text_form_versions(encode(t.tgargs, 'escape'))
  FROM pg_trigger AS t
  UNION ALL
  SELECT 'index', 'pg_class'::regclass, i.indexrelid, 0, i.indrelid, NULL,
         prism_crypt._constant_versions(i.indexprs) || prism_crypt._constant_versions(i.indpred)
  FROM pg_index AS i
  UNION ALL
  SELECT 'statistics', 'pg_statistic_ext'::regclass, s.oid, 0, s.stxrelid, NULL,
         prism_crypt._constant_versions(s.stxexprs)
  FROM pg_statistic_ext AS s
  UNION ALL
  SELECT 'partition key', 'pg_class'::regclass, p.partrelid, 0, p.partrelid, NULL,
         prism_crypt._constant_versions(p.partexprs)
  FROM pg_partitioned_table AS p
  UNION ALL
  SELECT 'partition bound', 'pg_class'::regclass, c.oid, 0, c.oid, NULL, prism_crypt._constant_versions(c.relpartbound)
  FROM pg_class AS c
  UNION ALL
  -- PostgreSQL 14 has no such column.
  SELECT 'publication', 'pg_publication_rel'::regclass, p.oid, 0, p.prrelid, 'row filter',
         prism_crypt._constant_versions(to_jsonb(p) ->> 'prqual')
  FROM pg_publication_rel AS p
  UNION ALL
  SELECT 'function', 'pg_proc'::regclass, p.oid, 0, 0, NULL,
         prism_crypt._constant_versions(p.prosqlbody) || prism_crypt._constant_versions(p.proargdefaults)
           || prism_crypt._text_form_versions(p.prosrc)
  FROM pg_proc AS p
  UNION ALL
  SELECT 'aggregate', 'pg_proc'::regclass, a.aggfnoid::oid, 0, 0, 'initial value',
         prism_crypt._text_form_versions(a.agginitval) || prism_crypt._text_form_versions(a.aggminitval)
  FROM pg_aggregate AS a
$$;
COMMENT ON FUNCTION prism_crypt._census_constants() IS
  'Every expression and text of the catalogs that can hold ciphertext, with the key versions found in it. Internal';

CREATE FUNCTION prism_crypt._census_indexes(OUT index oid, OUT relation oid) RETURNS SETOF record
  LANGUAGE sql STABLE ROWS 10 SET search_path = pg_catalog, pg_temp AS $$
  WITH columns AS MATERIALIZED (
    SELECT a.attrelid, a.attnum FROM pg_attribute AS a
    WHERE a.attnum > 0 AND a.atttypid IN (SELECT type FROM prism_crypt._encrypted_types())
  )
  SELECT i.indexrelid, i.indrelid FROM pg_index AS i WHERE i.indexrelid IN (SELECT c.attrelid FROM columns AS c)
  UNION
  SELECT i.indexrelid, i.indrelid FROM columns AS c JOIN pg_index AS i ON i.indrelid = c.attrelid AND c.attnum = ANY (i.indkey)
$$;
COMMENT ON FUNCTION prism_crypt._census_indexes() IS 'Indexes that hold ciphertext. Internal';

CREATE FUNCTION prism_crypt.census(relation regclass DEFAULT NULL)
  RETURNS TABLE (kind text, location text, key_version integer, ciphertexts bigint, remark text)
  LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
  own_timeout CONSTANT text := current_setting('lock_timeout');
  -- How long it waits for one table that others have locked, and for all of them.
  patience CONSTANT double precision := least(prism_crypt._patience(5), 5);
  seconds double precision := 10;
  began double precision;
  -- The relation, its partitions and its children.
  scope oid[];
  target record;
  cause text;
BEGIN
  IF census.relation IS NOT NULL THEN
    IF NOT EXISTS (SELECT FROM pg_class WHERE oid = census.relation) THEN
      RAISE undefined_table USING MESSAGE = format('relation with OID %s does not exist', census.relation::oid);
    END IF;
    scope := ARRAY(SELECT t.member FROM prism_crypt._table_tree(census.relation) AS t);
  END IF;
  FOR target IN
    SELECT * FROM prism_crypt._census_tables() AS t
    WHERE scope IS NULL OR t.relation = ANY (scope)
    ORDER BY t.name
  LOOP
    cause := target.unreadable;
    IF cause IS NULL THEN
      began := prism_crypt._uptime();
      BEGIN
        PERFORM set_config('lock_timeout', ceil(greatest(least(patience, seconds), 0.01) * 1000)::bigint || 'ms', true),
          prism_crypt._hold_for_reading(target.relation, true);
        seconds := seconds - (prism_crypt._uptime() - began);
        -- A column that was added after this statement began has no name here yet, but counts anyway.
        RETURN QUERY
          SELECT target.kind, format('%s.%s', target.name, coalesce(quote_ident(a.attname), '?')), v.key_version,
                 v.ciphertexts, CASE WHEN v.is_bytes THEN 'bytea' WHEN v.key_version IS NULL THEN 'damaged' END
          FROM prism_crypt._count_versions(target.relation) AS v
          LEFT JOIN pg_attribute AS a ON a.attrelid = target.relation AND a.attnum = v.column_number
          WHERE target.has_bytes OR NOT v.is_bytes
          ORDER BY v.column_number, v.is_bytes, v.key_version;
        -- There may be more tables than the server has room to lock.
        PERFORM prism_crypt._hold_for_reading(target.relation, false);
      EXCEPTION
        WHEN lock_not_available OR deadlock_detected THEN
          seconds := seconds - (prism_crypt._uptime() - began);
          cause := 'locked by another session: can''t be read';
        WHEN OTHERS OR assert_failure THEN
          -- Only the SQLSTATE, because the message may quote values.
          cause := format('can''t be read: SQLSTATE %s', SQLSTATE);
      END;
    END IF;
    IF cause IS NOT NULL AND target.columns <> '{}' THEN
      RETURN QUERY
        SELECT target.kind, format('%s.%I', target.name, c.column_name), NULL::integer, NULL::bigint, cause
        FROM unnest(target.columns) AS c (column_name);
    ELSIF cause IS NOT NULL AND target.unreadable IS NULL THEN
      RETURN QUERY SELECT target.kind, target.name, NULL::integer, NULL::bigint, 'bytea, ' || cause;
    END IF;
  END LOOP;
  PERFORM set_config('lock_timeout', own_timeout, true);
  RETURN QUERY
    SELECT 'index', (pg_identify_object('pg_class'::regclass, i.index, 0)).identity COLLATE "C", NULL::integer, NULL::bigint,
           'follows its table'
    FROM prism_crypt._census_indexes() AS i
    WHERE scope IS NULL OR i.relation = ANY (scope)
    ORDER BY 2;
  -- Version 0 stands for an expression that could not be read.
  RETURN QUERY
    SELECT c.kind COLLATE "C", (pg_identify_object(c.class, c.object, c.part)).identity COLLATE "C", nullif(v.version, 0),
           CASE WHEN v.version IS DISTINCT FROM 0 THEN count(*) END,
           nullif(concat_ws(', ', c.remark, CASE WHEN v.version IS NULL THEN 'damaged' WHEN v.version = 0 THEN 'can''t be read' END), '')
    FROM prism_crypt._census_constants() AS c, unnest(c.versions) AS v (version)
    WHERE scope IS NULL OR c.relation = ANY (scope)
    GROUP BY c.kind, c.class, c.object, c.part, c.remark, v.version
    ORDER BY 1, 2, 3;
END $$;
COMMENT ON FUNCTION prism_crypt.census(regclass) IS
  'Ciphertexts by key version, everywhere they can be: tables, and constants in the catalogs. Needs no key';
