-- What a rotation would have to do, and what stands in its way. Changes nothing: the sample is re-encrypted in a temporary
-- copy.

CREATE FUNCTION prism_crypt._rotation_blockers(relation regclass) RETURNS text[]
  LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
  SELECT coalesce(array_agg(b.blocker), '{}') FROM (
    SELECT f.message FROM prism_crypt._refusal($1) AS f WHERE f.message IS NOT NULL
    UNION ALL
    SELECT format('trigger "%s" fires for each batch', t.tgname) FROM pg_trigger AS t
    -- UPDATE is bit 4 of tgtype (pg_trigger.h).
    WHERE t.tgrelid = $1 AND NOT t.tgisinternal AND t.tgenabled IN ('O', 'A') AND t.tgtype & 16 <> 0
    UNION ALL
    SELECT format('long transactions hold back VACUUM: %s', count(*))
    FROM prism_crypt._older_transactions(clock_timestamp() - interval '1 hour') HAVING count(*) > 0
  ) AS b (blocker)
$$;
COMMENT ON FUNCTION prism_crypt._rotation_blockers(regclass) IS 'What stands in the way of a rotation. Internal';

-- Seconds a row in this table's last rotation; null where there was none to speak of.
CREATE FUNCTION prism_crypt._last_pace(relation regclass) RETURNS double precision
  LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
  SELECT p.busy_seconds / p.rows_done FROM prism_crypt.job_part AS p
  WHERE p.relation = $1 AND p.rows_done >= 1000 ORDER BY p.job DESC LIMIT 1
$$;
COMMENT ON FUNCTION prism_crypt._last_pace(regclass) IS 'How long a row took when the table was last rotated. Internal';

-- Copies a sample of a table's blocks and rotates the copy.
CREATE FUNCTION prism_crypt._rotate_sample(
  relation regclass, sample_rows integer, OUT sampled bigint, OUT due bigint, OUT seconds_per_row double precision
) LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  rows_total double precision := (SELECT reltuples FROM pg_class WHERE oid = relation);
  copy regclass;
  walk prism_crypt._walk;
  places tid[];
  began timestamptz;
BEGIN
  EXECUTE format('CREATE TEMPORARY TABLE prism_crypt_sample (LIKE %s INCLUDING INDEXES INCLUDING STORAGE) ON COMMIT DROP',
                 prism_crypt._qualified_name(relation));
  copy := 'pg_temp.prism_crypt_sample'::regclass;
  EXECUTE format('INSERT INTO pg_temp.prism_crypt_sample SELECT * FROM ONLY %s TABLESAMPLE system (%s) LIMIT %s',
                 prism_crypt._qualified_name(relation),
                 CASE WHEN rows_total > sample_rows THEN 100.0 * sample_rows / rows_total ELSE 100 END, sample_rows);
  GET DIAGNOSTICS sampled = ROW_COUNT;
  IF sampled = 0 THEN
    -- Few blocks, none of which was chosen.
    EXECUTE format('INSERT INTO pg_temp.prism_crypt_sample SELECT * FROM ONLY %s LIMIT %s',
                   prism_crypt._qualified_name(relation), sample_rows);
    GET DIAGNOSTICS sampled = ROW_COUNT;
  END IF;
  walk := prism_crypt._plan_walk(NULL, copy, NULL, NULL, NULL, NULL);
  began := clock_timestamp();
  EXECUTE walk.lock_range INTO places USING prism_crypt._tid(0), prism_crypt._tid(
    pg_relation_size(copy) / current_setting('block_size')::bigint), sample_rows;
  EXECUTE walk.update_locked USING places;
  GET DIAGNOSTICS due = ROW_COUNT;
  seconds_per_row := EXTRACT(epoch FROM clock_timestamp() - began) / nullif(due, 0);
  DROP TABLE pg_temp.prism_crypt_sample;
END $$;
COMMENT ON FUNCTION prism_crypt._rotate_sample(regclass, integer) IS 'Measures a rotation with a sample. Internal';

CREATE FUNCTION prism_crypt.plan_rotation(
  sample_rows integer DEFAULT 1000,
  OUT target text, OUT columns name[], OUT rows_estimate bigint, OUT rows_due bigint, OUT bytes bigint,
  OUT estimated_time interval, OUT basis text, OUT blockers text[]
) RETURNS SETOF record
  LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
  one record;
  sample record;
  pace double precision;
BEGIN
  IF sample_rows IS NULL THEN
    RAISE null_value_not_allowed USING MESSAGE = 'sample_rows must not be null';
  END IF;
  PERFORM prism_crypt._require_between('sample_rows', sample_rows, 1, 1000000);
  FOR one IN
    SELECT c.relation::regclass AS relation, c.relkind, array_agg(c.column_name ORDER BY a.attnum) AS columns,
           greatest(max(r.reltuples), 0)::bigint AS rows_estimate
    FROM prism_crypt._encrypted_columns() AS c JOIN pg_class AS r ON r.oid = c.relation
    JOIN pg_attribute AS a ON a.attrelid = c.relation AND a.attname = c.column_name
    JOIN pg_namespace AS n ON n.oid = r.relnamespace
    WHERE c.relkind <> 'p' AND r.relpersistence <> 't' AND n.nspname <> 'prism_crypt'
    GROUP BY c.relation, c.relkind
  LOOP
    target := prism_crypt._qualified_name(one.relation);
    columns := one.columns;
    rows_estimate := one.rows_estimate;
    rows_due := NULL;
    bytes := pg_table_size(one.relation);
    estimated_time := NULL;
    basis := NULL;
    IF one.relkind = 'm' THEN
      blockers := ARRAY['materialized view: REFRESH MATERIALIZED VIEW after the tables that it reads'];
    ELSIF one.relkind = 'f' THEN
      blockers := ARRAY['foreign table: rotate it on its own server'];
      bytes := NULL;
    ELSE
      blockers := prism_crypt._rotation_blockers(one.relation);
      BEGIN
        PERFORM prism_crypt._saw_unreadable();
        sample := prism_crypt._rotate_sample(one.relation, plan_rotation.sample_rows);
        IF rows_estimate = 0 AND sample.sampled < plan_rotation.sample_rows THEN
          -- Never analyzed, and the sample was all of it.
          rows_estimate := sample.sampled;
        END IF;
        rows_due := CASE WHEN sample.sampled > 0 THEN rows_estimate * (sample.due::double precision / sample.sampled)
                         ELSE 0 END;
        pace := prism_crypt._last_pace(one.relation);
        basis := CASE WHEN pace IS NULL THEN format('sample of %s rows', sample.sampled) ELSE 'last rotation' END;
        estimated_time := make_interval(secs => coalesce(pace, sample.seconds_per_row, 0) * rows_due);
        IF prism_crypt._saw_unreadable() THEN
          blockers := blockers || 'values under keys that are disabled or not known stay as they are'::text;
        END IF;
      EXCEPTION WHEN OTHERS THEN
        blockers := blockers || format('the sample could not be rotated (SQLSTATE %s)', SQLSTATE);
      END;
    END IF;
    RETURN NEXT;
  END LOOP;
END $$;
COMMENT ON FUNCTION prism_crypt.plan_rotation(integer) IS
  'What a rotation of all tables would do: rows, bytes, time by a measured sample, and what stands in its way';
