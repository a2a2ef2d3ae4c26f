-- The statements that rotate one table.

-- What to search by, where an index is on the key version of a column: key_version(column), or a column that is generated
-- as that. Others may be wrong, and are not relied on. The function is ours, whatever its schema is called, and the column of
-- the very type that it takes: for a domain another function of that name might be called.
CREATE FUNCTION prism_crypt._indexed_key_version(relation regclass, quoted_column text) RETURNS text
  LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
  SELECT pg_get_indexdef(i.indexrelid, 1, false)
  FROM pg_index AS i JOIN pg_class AS c ON c.oid = i.indexrelid JOIN pg_am AS m ON m.oid = c.relam
  JOIN pg_attribute AS v ON v.attrelid = i.indrelid AND v.attnum > 0 AND NOT v.attisdropped AND quote_ident(v.attname) = $2
  JOIN pg_proc AS p ON p.proname = 'key_version' AND p.proargtypes[0] = v.atttypid
    AND p.oid IN (SELECT prism_crypt._members('pg_proc'))
  JOIN pg_namespace AS n ON n.oid = p.pronamespace
  CROSS JOIN LATERAL format('%I.key_version(%s)', n.nspname, $2) AS call
  WHERE i.indrelid = $1 AND m.amname = 'btree' AND i.indisvalid AND i.indpred IS NULL
    AND (i.indkey[0] = 0 AND pg_get_indexdef(i.indexrelid, 1, false) = call
           AND EXISTS (SELECT FROM pg_depend AS d
                       WHERE d.classid = 'pg_class'::regclass AND d.objid = i.indexrelid
                         AND d.refclassid = 'pg_proc'::regclass AND d.refobjid = p.oid)
         OR EXISTS (
           SELECT FROM pg_attribute AS a
           JOIN pg_attrdef AS e ON e.adrelid = a.attrelid AND e.adnum = a.attnum
           JOIN pg_depend AS d ON d.classid = 'pg_attrdef'::regclass AND d.objid = e.oid
             AND d.refclassid = 'pg_proc'::regclass AND d.refobjid = p.oid
           WHERE a.attrelid = $1 AND a.attnum = i.indkey[0] AND a.attgenerated = 's'
             AND pg_get_expr(e.adbin, e.adrelid) = call))
  ORDER BY i.indexrelid LIMIT 1
$$;
COMMENT ON FUNCTION prism_crypt._indexed_key_version(regclass, text) IS
  'An indexed expression that is the key version of a column; null where there is none. Internal';

CREATE FUNCTION prism_crypt._target_name(relation regclass, column_name name) RETURNS text
  LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
  SELECT prism_crypt._qualified_name($1) || CASE WHEN $2 IS NULL THEN '' ELSE format('.%I', $2) END
$$;
COMMENT ON FUNCTION prism_crypt._target_name(regclass, name) IS 'Table, or table and column, as reports name it. Internal';

CREATE TYPE prism_crypt._rotation AS (
  job                bigint,
  -- What this session shows when it records a step.
  token              uuid,
  relation           regclass,
  column_name        name,
  key_version_column name,
  from_version       integer,
  keyset             text,
  target             text
);
COMMENT ON TYPE prism_crypt._rotation IS 'What a job is about. Internal';

CREATE TYPE prism_crypt._walk AS (
  job           bigint,
  token         uuid,
  relation      regclass,
  target        text,
  table_name    text,
  -- Whether a range has a row to rotate: $1 < ctid < $2.
  find          text,
  -- Re-encrypts a range: $1 < ctid < $2.
  update_range  text,
  -- Re-encrypts one stripe of a range, by number: $3.
  update_stripe text,
  -- Re-encrypts rows at places: $1.
  update_places text,
  -- Locks rows of a range that nobody else has locked and that open, at most $3.
  lock_range    text,
  -- Re-encrypts locked rows: $1.
  update_locked text,
  -- A row that is due and opens, anywhere in the table.
  find_any      text,
  -- What is left, and why.
  rest          text,
  -- Places of rows to rotate, by an index: at most $1. Null where there is no such index.
  find_by_index text,
  rows_per_block double precision,
  stripes       integer
);
COMMENT ON TYPE prism_crypt._walk IS 'The statements that rotate one table. Internal';

-- The table has an alias, and every column is qualified by it: a table, or a column, may have any name.
CREATE FUNCTION prism_crypt._plan_walk(rotation prism_crypt._rotation, relation regclass) RETURNS prism_crypt._walk
  LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
  walk prism_crypt._walk;
  source CONSTANT text := prism_crypt._qualified_name(relation) || ' AS rotated';
  scope CONSTANT text := format('%L::pg_catalog.int4, %L::pg_catalog.text', rotation.from_version, rotation.keyset);
  one record;
  names text[];
  due text[];
  opens text[];
  -- What a column is set to; and once its row is locked, and values that can't be opened are to stay.
  resealed text[];
  resealed_or_kept text[];
  errors text[];
  condition text;
  changes text;
  changes_locked text;
  by_version text;
BEGIN
  IF source IS NULL THEN
    RAISE undefined_table USING MESSAGE = format('relation with OID %s does not exist', relation::oid);
  END IF;
  walk.job := rotation.job;
  walk.token := rotation.token;
  walk.relation := relation;
  walk.table_name := prism_crypt._qualified_name(relation);
  walk.target := prism_crypt._target_name(relation, rotation.column_name);
  FOR one IN
    SELECT quote_ident(a.attname) AS name, 'rotated.' || quote_ident(a.attname) AS value, t.kind,
           CASE t.kind WHEN 'nested' THEN '_nested' ELSE '' END AS suffix
    FROM pg_attribute AS a CROSS JOIN LATERAL prism_crypt._rotatable_kind(a.atttypid) AS t (kind)
    WHERE a.attrelid = relation AND a.attnum > 0 AND NOT a.attisdropped AND a.attgenerated = ''
      AND CASE WHEN rotation.column_name IS NULL THEN t.kind IN ('plain', 'nested')
               ELSE t.kind IS NOT NULL AND a.attname = rotation.column_name END
    ORDER BY a.attnum
  LOOP
    names := names || one.name;
    due := due || CASE
      WHEN one.kind = 'plain' AND rotation.from_version IS NULL AND rotation.keyset IS NULL
        THEN format('prism_crypt._is_rotatable(%s)', one.value)
      ELSE format('prism_crypt._is_rotatable%s(%s, %s)', one.suffix, one.value, scope) END;
    opens := opens || format('prism_crypt._can_rotate%s(%s, %s)', one.suffix, one.value, scope);
    errors := errors || format('prism_crypt._rotation_error%s(%s, %s)', one.suffix, one.value, scope);
    IF one.kind = 'nested' THEN
      resealed := resealed || format('prism_crypt._reencrypt_nested(%s, %s, false)', one.value, scope);
      resealed_or_kept := resealed_or_kept || format('prism_crypt._reencrypt_nested(%s, %s, true)', one.value, scope);
    ELSE
      resealed := resealed || format('prism_crypt._reencrypt(%s)', one.value);
      resealed_or_kept := resealed_or_kept || format('prism_crypt._reencrypt_or_keep(%s)', one.value);
    END IF;
  END LOOP;
  IF names IS NULL THEN
    RAISE undefined_column USING
      MESSAGE = format('relation "%s" has no column that could be rotated', relation),
      HINT = 'A generated column follows the columns that it is made of.';
  END IF;
  condition := array_to_string(due, ' OR ');
  IF prism_crypt._sets_key_version_column(relation, rotation.column_name, rotation.key_version_column) THEN
    -- In one expression, so that value and version can't differ.
    changes := format(
      '(%s, %I) = (SELECT x.v, prism_crypt._key_version(x.v) FROM (SELECT %s OFFSET 0) AS x (v))',
      names[1], rotation.key_version_column, resealed[1]);
    changes_locked := format(
      '(%s, %I) = (SELECT x.v, prism_crypt._key_version(x.v) FROM (SELECT %s OFFSET 0) AS x (v))',
      names[1], rotation.key_version_column, resealed_or_kept[1]);
  ELSIF cardinality(names) = 1 THEN
    -- The condition has seen to it that the value is due.
    changes := format('%s = %s', names[1], resealed[1]);
    changes_locked := format('%s = %s', names[1], resealed_or_kept[1]);
  ELSE
    SELECT string_agg(format('%1$s = CASE WHEN %2$s THEN %3$s ELSE rotated.%1$s END', n, d, r), ', ' ORDER BY o),
           string_agg(format('%1$s = CASE WHEN %2$s THEN %3$s ELSE rotated.%1$s END', n, d, k), ', ' ORDER BY o)
      INTO changes, changes_locked
    FROM unnest(names, due, resealed, resealed_or_kept) WITH ORDINALITY AS u (n, d, r, k, o);
  END IF;

  SELECT greatest(CASE WHEN relpages > 0 AND reltuples > 0 THEN reltuples / relpages ELSE 50 END, 1) INTO walk.rows_per_block
  FROM pg_class WHERE oid = relation;
  -- Four leave a quarter of the dead space that one would. More leave less, but each has to look at every row.
  walk.stripes := least(4, greatest(1, floor(walk.rows_per_block / 2)));

  walk.find := format(
    'SELECT rotated.ctid FROM ONLY %s WHERE rotated.ctid OPERATOR(pg_catalog.>) $1
       AND rotated.ctid OPERATOR(pg_catalog.<) $2 AND (%s) LIMIT 1',
    source, condition);
  walk.update_range := format(
    'UPDATE ONLY %s SET %s WHERE rotated.ctid OPERATOR(pg_catalog.>) $1
       AND rotated.ctid OPERATOR(pg_catalog.<) $2 AND (%s)',
    source, changes, condition);
  walk.update_stripe := format(
    'UPDATE ONLY %s SET %s WHERE rotated.ctid OPERATOR(pg_catalog.>) $1 AND rotated.ctid OPERATOR(pg_catalog.<) $2
       AND prism_crypt._stripe(rotated.ctid, %s) OPERATOR(pg_catalog.=) $3 AND (%s)',
    source, changes, walk.stripes, condition);
  walk.update_places := format(
    'UPDATE ONLY %s SET %s WHERE rotated.ctid OPERATOR(pg_catalog.=) ANY ($1) AND (%s)',
    source, changes, condition);
  walk.lock_range := format(
    'SELECT pg_catalog.array_agg(chosen.place) FROM (SELECT rotated.ctid AS place FROM ONLY %s
       WHERE rotated.ctid OPERATOR(pg_catalog.>) $1 AND rotated.ctid OPERATOR(pg_catalog.<) $2 AND (%s)
       LIMIT $3 FOR NO KEY UPDATE SKIP LOCKED) AS chosen',
    source, array_to_string(opens, ' OR '));
  walk.update_locked := format(
    'UPDATE ONLY %s SET %s WHERE rotated.ctid OPERATOR(pg_catalog.=) ANY ($1)', source, changes_locked);
  walk.find_any := format(
    'SELECT rotated.ctid FROM ONLY %s WHERE (%s) AND (%s) LIMIT 1', source, condition, array_to_string(opens, ' OR '));
  walk.rest := format(
    'SELECT coalesce(pg_catalog.sum(rest.rows) FILTER (WHERE rest.error OPERATOR(pg_catalog.=) ''''), 0),
            coalesce(pg_catalog.sum(rest.rows) FILTER (WHERE rest.error OPERATOR(pg_catalog.<>) ''''), 0),
            pg_catalog.string_agg(pg_catalog.format(''%%s. Values: %%s.'', rest.error, rest.rows), '' '' ORDER BY rest.error)
              FILTER (WHERE rest.error OPERATOR(pg_catalog.<>) '''')
     FROM (SELECT found.error, pg_catalog.count(*) AS rows FROM ONLY %s, LATERAL (VALUES (%s)) AS found (error)
           WHERE found.error IS NOT NULL GROUP BY found.error) AS rest',
    source, array_to_string(errors, '), ('));
  -- An outdated search tag is not found by the key version.
  IF cardinality(names) = 1 AND (rotation.from_version IS NOT NULL OR NOT prism_crypt._has_outdated_tags()) THEN
    by_version := prism_crypt._indexed_key_version(relation, names[1]);
  END IF;
  IF by_version IS NOT NULL THEN
    by_version := format('%s OPERATOR(pg_catalog.=) ANY (prism_crypt._rotatable_versions(%s)) AND (%s)',
                         by_version, scope, opens[1]);
    walk.find_any := format('SELECT rotated.ctid FROM ONLY %s WHERE %s LIMIT 1', source, by_version);
    walk.find_by_index := format(
      'SELECT pg_catalog.array_agg(x.place ORDER BY x.place)
       FROM (SELECT rotated.ctid AS place FROM ONLY %s WHERE %s LIMIT $1) AS x', source, by_version);
  END IF;
  RETURN walk;
END $$;
COMMENT ON FUNCTION prism_crypt._plan_walk(prism_crypt._rotation, regclass) IS 'The statements that rotate one table. Internal';
