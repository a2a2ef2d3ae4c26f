-- Rotation as a kind of job: which values are due, and what is done to them.

CREATE FUNCTION prism_crypt._has_outdated_tags() RETURNS boolean
  LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
  SELECT EXISTS (SELECT FROM prism_crypt.index_key WHERE state = 'active' AND retagged_at IS NULL)
$$;
COMMENT ON FUNCTION prism_crypt._has_outdated_tags() IS
  'Whether there may be search tags of a replaced index key. Internal';

-- The old key versions of a scope that may be read; whether there are disabled keys, and whether there may be outdated tags.
CREATE FUNCTION prism_crypt._rotation_keys(
  from_version integer, keyset text, OUT versions integer[], OUT has_disabled boolean, OUT has_outdated_tags boolean
) LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
  SELECT coalesce(array_agg(k.version) FILTER (
           WHERE k.state = 'decrypt_only' AND ($1 IS NULL OR k.version = $1) AND ($2 IS NULL OR k.keyset = $2)), '{}'),
         coalesce(bool_or(k.state = 'disabled'), false), prism_crypt._has_outdated_tags()
  FROM prism_crypt.data_key AS k
$$;
COMMENT ON FUNCTION prism_crypt._rotation_keys(integer, text) IS 'What a rotation needs to know about the keys. Internal';

-- The expression to search by, if there is an index on the key version of a column: key_version(column), or a column that is
-- generated as that. Other columns may be wrong, and are not used. The function must be ours, whatever its schema is called,
-- and the column must have exactly the type that it takes: for a domain, another function of that name might be called.
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
           -- In PostgreSQL 14, the column itself depends on what its expression uses.
           JOIN pg_depend AS d ON d.refclassid = 'pg_proc'::regclass AND d.refobjid = p.oid
             AND (d.classid = 'pg_attrdef'::regclass AND d.objid = e.oid
               OR d.classid = 'pg_class'::regclass AND d.objid = a.attrelid AND d.objsubid = a.attnum)
           WHERE a.attrelid = $1 AND a.attnum = i.indkey[0] AND a.attgenerated = 's'
             AND pg_get_expr(e.adbin, e.adrelid) = call))
  ORDER BY i.indexrelid LIMIT 1
$$;
COMMENT ON FUNCTION prism_crypt._indexed_key_version(regclass, text) IS
  'An indexed expression that is the key version of a column; null if there is none. Internal';

CREATE FUNCTION prism_crypt._rotation_changes(relation regclass, column_name name, scope jsonb) RETURNS prism_crypt._changes
  LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_variable
DECLARE
  from_version CONSTANT integer := scope ->> 'from_version';
  keyset CONSTANT text := scope ->> 'keyset';
  key_version_column CONSTANT name := scope ->> 'key_version_column';
  arguments CONSTANT text := format('%L::pg_catalog.int4, %L::pg_catalog.text', from_version, keyset);
  changes prism_crypt._changes;
  one record;
  names text[];
  due text[];
  possible text[];
  reencrypt text;
  -- What a column is set to; and what it is set to once its row is locked, when values that can't be opened are to stay.
  resealed text[];
  resealed_or_kept text[];
  keys record;
  by_version text;
BEGIN
  FOR one IN
    -- A domain over bytea is passed as bytea, so that PostgreSQL checks what is assigned to it.
    SELECT quote_ident(a.attname) AS name, t.kind,
           format('changed.%I', a.attname) || CASE t.kind WHEN 'bytes' THEN '::pg_catalog.bytea' ELSE '' END AS value
    FROM pg_attribute AS a CROSS JOIN LATERAL prism_crypt._rotatable_kind(a.atttypid) AS t (kind)
    WHERE a.attrelid = relation AND a.attnum > 0 AND NOT a.attisdropped AND a.attgenerated = ''
      AND CASE WHEN column_name IS NULL THEN t.kind IN ('plain', 'nested')
               ELSE t.kind IS NOT NULL AND a.attname = column_name END
    ORDER BY a.attnum
  LOOP
    names := names || one.name;
    due := due || CASE
      WHEN one.kind = 'plain' AND from_version IS NULL AND keyset IS NULL
        THEN format('prism_crypt._is_rotatable(%s)', one.value)
      ELSE format('prism_crypt._is_rotatable(%s, %s)', one.value, arguments) END;
    possible := possible || format('prism_crypt._can_rotate(%s, %s)', one.value, arguments);
    changes.errors := changes.errors || format('prism_crypt._rotation_error(%s, %s)', one.value, arguments);
    reencrypt := CASE one.kind WHEN 'plain' THEN one.value ELSE format('%s, %s', one.value, arguments) END;
    resealed := resealed || format('prism_crypt._reencrypt(%s, false)', reencrypt);
    resealed_or_kept := resealed_or_kept || format('prism_crypt._reencrypt(%s, true)', reencrypt);
  END LOOP;
  IF names IS NULL THEN
    RAISE undefined_column USING
      MESSAGE = format('relation "%s" has no column that could be rotated', relation),
      HINT = 'A generated column follows the columns that it is generated from.';
  END IF;
  changes.due := array_to_string(due, ' OR ');
  changes.possible := array_to_string(possible, ' OR ');
  IF prism_crypt._sets_key_version_column(relation, column_name, key_version_column) THEN
    -- In one expression, so that value and version can't differ.
    changes.assignments := format(
      '(%s, %I) = (SELECT x.v, prism_crypt._key_version(x.v) FROM (SELECT %s OFFSET 0) AS x (v))',
      names[1], key_version_column, resealed[1]);
    changes.assignments_or_kept := format(
      '(%s, %I) = (SELECT x.v, prism_crypt._key_version(x.v) FROM (SELECT %s OFFSET 0) AS x (v))',
      names[1], key_version_column, resealed_or_kept[1]);
  ELSIF cardinality(names) = 1 THEN
    -- The condition has made sure that the value is due.
    changes.assignments := format('%s = %s', names[1], resealed[1]);
    changes.assignments_or_kept := format('%s = %s', names[1], resealed_or_kept[1]);
  ELSE
    SELECT string_agg(format('%1$s = CASE WHEN %2$s THEN %3$s ELSE changed.%1$s END', n, d, r), ', ' ORDER BY o),
           string_agg(format('%1$s = CASE WHEN %2$s THEN %3$s ELSE changed.%1$s END', n, d, k), ', ' ORDER BY o)
      INTO changes.assignments, changes.assignments_or_kept
    FROM unnest(names, due, resealed, resealed_or_kept) WITH ORDINALITY AS u (n, d, r, k, o);
  END IF;
  -- The key version does not find outdated search tags.
  keys := prism_crypt._rotation_keys(from_version, keyset);
  IF cardinality(names) = 1 AND (from_version IS NOT NULL OR NOT keys.has_outdated_tags) THEN
    by_version := prism_crypt._indexed_key_version(relation, names[1]);
  END IF;
  IF by_version IS NOT NULL THEN
    changes.by_index := format('%s OPERATOR(pg_catalog.=) ANY ((prism_crypt._rotation_keys(%s)).versions) AND (%s)',
                               by_version, arguments, possible[1]);
    changes.hides_rest := keys.has_disabled;
  END IF;
  RETURN changes;
END $$;
COMMENT ON FUNCTION prism_crypt._rotation_changes(regclass, name, jsonb) IS
  'What a rotation does with the rows of one table. Internal';

INSERT INTO prism_crypt.job_kind (name, checks, parts, changes, rows_changed) VALUES (
  'rotation', 'prism_crypt._check_rotation', 'prism_crypt._rotation_parts', 'prism_crypt._rotation_changes', 'rows re-encrypted');
