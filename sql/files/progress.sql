-- Exports and imports that are running, as jobs are shown.

-- They are the COPY commands that say so in a parameter (src/files/progress.rs). A role sees its own, and with monitor or key_admin all.
CREATE FUNCTION prism_crypt._files_in_progress(
  role oid, OUT kind text, OUT target text, OUT worker integer, OUT rows_done bigint, OUT rows_estimate bigint, OUT share double precision,
  OUT seconds double precision, OUT created_by text, OUT started_at timestamptz
) RETURNS SETOF record
  LANGUAGE sql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
  SELECT r.kind, r.target, r.worker, r.rows_done, r.rows_estimate,
         CASE WHEN r.bytes_total > 0 THEN r.bytes_done::double precision / r.bytes_total
              WHEN r.kind = 'export' AND r.rows_estimate > 0 THEN r.rows_done::double precision / r.rows_estimate END,
         extract(epoch FROM clock_timestamp() - r.started_at), r.created_by, r.started_at
  FROM (
    SELECT CASE s.param5 WHEN 1 THEN 'import' ELSE 'export' END AS kind,
           coalesce(prism_crypt._qualified_name(nullif(s.relid, 0)::regclass), 'query') AS target, s.pid AS worker,
           s.param3 AS rows_done, s.param1 AS bytes_done, s.param2 AS bytes_total,
           CASE WHEN c.reltuples > 0 THEN least(c.reltuples, 1e12)::bigint END AS rows_estimate, a.usename::text AS created_by,
           timestamptz '2000-01-01 00:00:00+00' + s.param19 * interval '1 microsecond' AS started_at
    FROM pg_stat_get_progress_info('COPY') AS s
    JOIN pg_stat_activity AS a ON a.pid = s.pid
    LEFT JOIN pg_class AS c ON c.oid = s.relid
    WHERE s.param20 = 1346719299 AND s.datid = (SELECT d.oid FROM pg_database AS d WHERE d.datname = current_database())
      AND (has_function_privilege($1, 'prism_crypt.status()', 'EXECUTE') OR has_function_privilege($1, 'prism_crypt.rotate_key(text, text)', 'EXECUTE')
           OR pg_has_role($1, a.usesysid, 'USAGE'))
  ) AS r
$$;
COMMENT ON FUNCTION prism_crypt._files_in_progress(oid) IS 'Exports and imports that are running. Internal';
