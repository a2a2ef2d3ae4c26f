-- What a rotation would have to do, and what stands in its way. It changes nothing: the sample is re-encrypted in a temporary
-- copy, in a subtransaction that is always rolled back, so that neither locks nor rows in the catalogs are left.

-- What stands in the way of rotating one table as this role. The table may belong to others, so nothing here runs their code.
CREATE FUNCTION prism_crypt._rotation_blockers(relation regclass) RETURNS text[]
  LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  blockers text[] := '{}';
BEGIN
  BEGIN
    PERFORM prism_crypt._check_rotation(relation, NULL, '{}');
  EXCEPTION WHEN OTHERS OR assert_failure THEN
    blockers := ARRAY[SQLERRM];
  END;
  RETURN blockers || ARRAY(
    SELECT format('trigger "%s" fires for each batch', t.tgname) FROM pg_trigger AS t
    -- UPDATE is bit 4 of tgtype (pg_trigger.h).
    WHERE t.tgrelid = relation AND NOT t.tgisinternal AND t.tgenabled IN ('O', 'A') AND t.tgtype & 16 <> 0);
END $$;
COMMENT ON FUNCTION prism_crypt._rotation_blockers(regclass) IS 'What stands in the way of a rotation. Internal';

-- Seconds per row in this table's last rotation of at least 1000 rows; null if there was none.
CREATE FUNCTION prism_crypt._last_pace(relation regclass, note bigint) RETURNS double precision
  LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  role CONSTANT oid := prism_crypt._caller(note);
BEGIN
  RETURN (SELECT p.busy_seconds / p.rows_done
          FROM prism_crypt.job_part AS p JOIN prism_crypt.job AS j ON j.id = p.job
          WHERE p.relation = _last_pace.relation AND p.rows_done >= 1000 AND prism_crypt._right_to_job(role, j) IS NOT NULL
          ORDER BY p.job DESC LIMIT 1);
END $$;
COMMENT ON FUNCTION prism_crypt._last_pace(regclass, bigint) IS 'How long a row took when the table was last rotated. Internal';

-- The type of a column with its modifier. For a domain it is the base type without a modifier, because with the modifier every
-- value would be sealed again.
CREATE FUNCTION prism_crypt._base_of_column(type oid, modifier integer) RETURNS text
  LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
  WITH RECURSIVE base (type, modifier) AS (
    SELECT $1, $2
    UNION ALL
    SELECT t.typbasetype, -1 FROM base AS b JOIN pg_type AS t ON t.oid = b.type WHERE t.typtype = 'd'
  )
  SELECT format_type(b.type, b.modifier) FROM base AS b JOIN pg_type AS t ON t.oid = b.type WHERE t.typtype <> 'd'
$$;
COMMENT ON FUNCTION prism_crypt._base_of_column(oid, integer) IS 'The type of a column without domains. Internal';

-- Whether values of a type contain values of domains with CHECKs, which are functions of others.
CREATE FUNCTION prism_crypt._has_checks_inside(type oid) RETURNS boolean
  LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
  WITH RECURSIVE parts (type, inside) AS (
    SELECT $1, false
    UNION
    SELECT step.type, p.inside OR step.inside
    FROM parts AS p CROSS JOIN LATERAL (
      SELECT t.typbasetype, false FROM pg_type AS t WHERE t.oid = p.type AND t.typtype = 'd'
      UNION ALL
      SELECT t.typelem, true FROM pg_type AS t WHERE t.oid = p.type AND t.typelem <> 0
      UNION ALL
      SELECT r.rngsubtype, true FROM pg_range AS r WHERE p.type IN (r.rngtypid, r.rngmultitypid)
      UNION ALL
      SELECT a.atttypid, true FROM pg_type AS t JOIN pg_attribute AS a ON a.attrelid = t.typrelid
      WHERE t.oid = p.type AND t.typrelid <> 0 AND a.attnum > 0 AND NOT a.attisdropped
    ) AS step (type, inside)
  )
  SELECT EXISTS (
    SELECT FROM parts AS p JOIN pg_constraint AS c ON c.contypid = p.type WHERE p.inside AND c.contype = 'c')
$$;
COMMENT ON FUNCTION prism_crypt._has_checks_inside(oid) IS 'Whether a type holds domains with CHECKs. Internal';

-- The columns that a sample has: re-encrypting other columns would run CHECKs.
CREATE FUNCTION prism_crypt._sample_columns(relation regclass) RETURNS SETOF pg_attribute
  LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
  SELECT a FROM pg_attribute AS a
  WHERE a.attrelid = $1 AND a.attnum > 0 AND NOT a.attisdropped
    AND NOT coalesce(prism_crypt._rotatable_kind(a.atttypid) = 'nested' AND prism_crypt._has_checks_inside(a.atttypid), false)
    -- PostgreSQL looks through the whole type before it makes a table with it, which may take for ever.
    AND prism_crypt._is_quickly_checked(a.atttypid)
  ORDER BY a.attnum
$$;
COMMENT ON FUNCTION prism_crypt._sample_columns(regclass) IS 'The columns that a sample of a table has. Internal';

-- The table itself is never named in a statement: planning one computes the constants in index expressions and predicates.
CREATE FUNCTION prism_crypt._copy_sample(source oid, copy oid, columns smallint[], most integer) RETURNS bigint
  LANGUAGE c VOLATILE STRICT AS 'MODULE_PATHNAME', '_copy_sample_wrapper';
COMMENT ON FUNCTION prism_crypt._copy_sample(oid, oid, smallint[], integer) IS
  'Copies some rows of a table to a temporary one, and runs nothing of the table''s owner. Internal';

-- Makes an empty copy of a table for the sample. It replaces domains by their base types, because CHECKs are functions of
-- others.
CREATE FUNCTION prism_crypt._make_sample_table(relation regclass) RETURNS void
  LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  definition text;
BEGIN
  SELECT string_agg(format('%I %s%s', a.attname, d.type,
           CASE WHEN a.attcollation = 0 THEN '' ELSE (
             SELECT format(' COLLATE %I.%I', n.nspname, l.collname)
             FROM pg_collation AS l JOIN pg_namespace AS n ON n.oid = l.collnamespace WHERE l.oid = a.attcollation) END),
         ', ' ORDER BY a.attnum) INTO definition
  FROM prism_crypt._sample_columns(relation) AS a
  CROSS JOIN LATERAL prism_crypt._base_of_column(a.atttypid, a.atttypmod) AS d (type);
  EXECUTE format('CREATE TEMPORARY TABLE prism_crypt_sample (%s) USING heap', definition);
  SELECT string_agg(format('ALTER TABLE pg_temp.prism_crypt_sample ALTER %I SET STORAGE %s', a.attname,
           CASE a.attstorage WHEN 'p' THEN 'PLAIN' WHEN 'e' THEN 'EXTERNAL' WHEN 'm' THEN 'MAIN' ELSE 'EXTENDED' END), '; ')
    INTO definition
  FROM prism_crypt._sample_columns(relation) AS a JOIN pg_type AS t ON t.oid = a.atttypid
  WHERE a.attstorage <> t.typstorage;
  IF definition IS NOT NULL THEN
    EXECUTE definition;
  END IF;
END $$;
COMMENT ON FUNCTION prism_crypt._make_sample_table(regclass) IS 'Makes an empty copy of a table. Internal';

-- Gives the copy the btree and hash indexes of the table on plain columns: expressions and predicates are functions of others.
-- An index on values that are not searchable would open them at every step, so it is left out.
CREATE FUNCTION prism_crypt._index_sample_table(relation regclass) RETURNS void
  LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  definition text;
BEGIN
  FOR definition IN
    SELECT format('CREATE INDEX ON pg_temp.prism_crypt_sample USING %I (%s)', m.amname, (
             SELECT string_agg(format('%I %I.%I', a.attname, n.nspname, o.opcname), ', ' ORDER BY k.number)
             FROM unnest(i.indkey::smallint[], i.indclass::oid[]) WITH ORDINALITY AS k (attnum, opclass, number)
             JOIN pg_attribute AS a ON a.attrelid = relation AND a.attnum = k.attnum
             JOIN pg_opclass AS o ON o.oid = k.opclass JOIN pg_namespace AS n ON n.oid = o.opcnamespace
             WHERE k.number <= i.indnkeyatts))
    FROM pg_index AS i JOIN pg_class AS c ON c.oid = i.indexrelid JOIN pg_am AS m ON m.oid = c.relam
    WHERE i.indrelid = relation AND i.indisvalid AND i.indexprs IS NULL AND i.indpred IS NULL
      AND m.amname IN ('btree', 'hash')
      AND NOT EXISTS (
        SELECT FROM unnest(i.indkey::smallint[]) AS k (attnum)
        JOIN pg_attribute AS a ON a.attrelid = relation AND a.attnum = k.attnum
        WHERE prism_crypt._rotatable_kind(a.atttypid) IN ('plain', 'nested')
          AND prism_crypt._base_of_column(a.atttypid, a.atttypmod) NOT LIKE '%searchable%')
  LOOP
    EXECUTE definition;
  END LOOP;
END $$;
COMMENT ON FUNCTION prism_crypt._index_sample_table(regclass) IS 'Gives a copy of a table its indexes. Internal';

-- Copies a sample of a table's blocks and rotates the copy.
CREATE FUNCTION prism_crypt._rotate_sample(
  relation regclass, sample_rows integer, OUT sampled bigint, OUT due bigint, OUT seconds_per_row double precision
) LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  copy regclass;
  plan prism_crypt._plan;
  began timestamptz;
  done boolean := false;
BEGIN
  sampled := 0;
  due := 0;
  IF pg_relation_size(relation) = 0 THEN
    RETURN;
  END IF;
  PERFORM prism_crypt._make_sample_table(relation);
  copy := 'pg_temp.prism_crypt_sample'::regclass;
  sampled := prism_crypt._copy_sample(relation, copy, ARRAY(
    SELECT a.attnum FROM prism_crypt._sample_columns(relation) AS a ORDER BY a.attnum), sample_rows);
  PERFORM prism_crypt._index_sample_table(relation);
  plan := prism_crypt._plan_part(prism_crypt._kind_of_job('rotation'), NULL, copy, NULL, '{}');
  began := clock_timestamp();
  due := (prism_crypt._change_locked(plan, prism_crypt._tid(0), prism_crypt._tid(
    pg_relation_size(copy) / current_setting('block_size')::bigint), sample_rows)).rows;
  seconds_per_row := EXTRACT(epoch FROM clock_timestamp() - began) / nullif(due, 0);
  done := true;
  RAISE SQLSTATE 'PC000';
EXCEPTION WHEN SQLSTATE 'PC000' THEN
  IF NOT done THEN
    RAISE;
  END IF;
END $$;
COMMENT ON FUNCTION prism_crypt._rotate_sample(regclass, integer) IS
  'Measures a rotation with a sample, and leaves nothing behind. Internal';

-- How much there is to do for a table, by a sample. If that fails, or waits longer than a second, that is a blocker.
CREATE FUNCTION prism_crypt._estimate_rotation(
  relation regclass, sample_rows integer, INOUT rows_estimate bigint, OUT rows_due bigint, OUT bytes bigint,
  OUT estimated_time interval, OUT basis text, INOUT blockers text[]
) LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp SET lock_timeout = '1s' AS $$
DECLARE
  sample record;
  pace double precision;
BEGIN
  bytes := pg_table_size(relation);
  PERFORM prism_crypt._saw_unreadable();
  sample := prism_crypt._rotate_sample(relation, sample_rows);
  IF rows_estimate = 0 AND sample.sampled < sample_rows THEN
    -- The table was never analyzed, and the sample was all of it.
    rows_estimate := sample.sampled;
  END IF;
  rows_due := CASE WHEN sample.sampled > 0 THEN rows_estimate * (sample.due::double precision / sample.sampled) ELSE 0 END;
  pace := prism_crypt._last_pace(relation, prism_crypt._note_caller());
  basis := CASE WHEN pace IS NULL THEN format('sample of %s rows', sample.sampled) ELSE 'last rotation' END;
  estimated_time := make_interval(secs => least(coalesce(pace, sample.seconds_per_row, 0) * rows_due, 1e11));
  blockers := blockers || ARRAY(
    SELECT format('column "%s" is not in the sample, because domains inside of it have CHECKs', a.attname)
    FROM pg_attribute AS a WHERE a.attrelid = relation AND a.attnum > 0 AND NOT a.attisdropped
      AND a.attnum NOT IN (SELECT s.attnum FROM prism_crypt._sample_columns(relation) AS s) ORDER BY a.attnum);
  IF prism_crypt._saw_unreadable() THEN
    blockers := blockers || 'values under keys that are disabled or not known stay as they are'::text;
  END IF;
EXCEPTION WHEN OTHERS OR assert_failure THEN
  blockers := blockers || format('the sample could not be rotated (SQLSTATE %s)', SQLSTATE);
END $$;
COMMENT ON FUNCTION prism_crypt._estimate_rotation(regclass, integer, bigint, text[]) IS
  'What a rotation of one table would do. Internal';

CREATE FUNCTION prism_crypt._table_bytes(relation regclass) RETURNS bigint
  LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp SET lock_timeout = '1s' AS $$
BEGIN
  RETURN pg_table_size(relation);
EXCEPTION WHEN lock_not_available THEN
  RETURN NULL;
END $$;
COMMENT ON FUNCTION prism_crypt._table_bytes(regclass) IS
  'The size of a table; null if somebody else has it locked. Internal';

CREATE FUNCTION prism_crypt.plan_rotation(
  sample_rows integer DEFAULT 1000,
  OUT target text, OUT columns name[], OUT rows_estimate bigint, OUT rows_due bigint, OUT bytes bigint,
  OUT estimated_time interval, OUT basis text, OUT blockers text[]
) RETURNS SETOF record
  LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
  one record;
  estimate record;
  old_transactions text[];
BEGIN
  IF sample_rows IS NULL THEN
    RAISE null_value_not_allowed USING MESSAGE = 'sample_rows must not be null';
  END IF;
  PERFORM prism_crypt._require_between('sample_rows', sample_rows, 1, 1000000);
  old_transactions := ARRAY(
    SELECT format('long transactions hold back VACUUM: %s', count(*))
    FROM prism_crypt._older_transactions(clock_timestamp() - interval '1 hour') HAVING count(*) > 0);
  FOR one IN
    SELECT c.relation::regclass AS relation, c.relkind, array_agg(c.column_name ORDER BY a.attnum) AS columns,
           least(greatest(max(r.reltuples), 0), 1e15)::bigint AS rows_estimate
    FROM prism_crypt._encrypted_columns() AS c JOIN pg_class AS r ON r.oid = c.relation
    JOIN pg_attribute AS a ON a.attrelid = c.relation AND a.attname = c.column_name
    JOIN pg_namespace AS n ON n.oid = r.relnamespace
    WHERE c.relkind <> 'p' AND r.relpersistence <> 't' AND n.nspname <> 'prism_crypt'
    GROUP BY c.relation, c.relkind
  LOOP
    target := prism_crypt._qualified_name(one.relation);
    -- It was dropped meanwhile.
    CONTINUE WHEN target IS NULL;
    columns := one.columns;
    rows_estimate := one.rows_estimate;
    rows_due := NULL;
    bytes := NULL;
    estimated_time := NULL;
    basis := NULL;
    IF one.relkind = 'm' THEN
      bytes := prism_crypt._table_bytes(one.relation);
      blockers := ARRAY['materialized view: REFRESH MATERIALIZED VIEW after the tables that it reads'];
    ELSIF one.relkind = 'f' THEN
      blockers := ARRAY['foreign table: rotate it on its own server'];
    ELSE
      estimate := prism_crypt._estimate_rotation(
        one.relation, plan_rotation.sample_rows, one.rows_estimate,
        prism_crypt._rotation_blockers(one.relation) || old_transactions);
      rows_estimate := estimate.rows_estimate;
      rows_due := estimate.rows_due;
      bytes := estimate.bytes;
      estimated_time := estimate.estimated_time;
      basis := estimate.basis;
      blockers := estimate.blockers;
    END IF;
    RETURN NEXT;
  END LOOP;
END $$;
COMMENT ON FUNCTION prism_crypt.plan_rotation(integer) IS
  'What a rotation of all tables would do: rows, bytes, time by a measured sample, and what stands in its way';
