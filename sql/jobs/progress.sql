-- How far jobs are, like pg_stat_progress_*.

-- Counts and times are limited where they are recorded, and again here, so that no sum can overflow.
CREATE FUNCTION prism_crypt._to_bigint(number numeric) RETURNS bigint
  LANGUAGE sql IMMUTABLE STRICT SET search_path = pg_catalog, pg_temp AS $$ SELECT least($1, 9e18)::bigint $$;
COMMENT ON FUNCTION prism_crypt._to_bigint(numeric) IS 'A sum, or the most that the column takes. Internal';

-- Each stripe of a range counts for its share of the blocks from `place` to the end.
CREATE FUNCTION prism_crypt._blocks_open(range prism_crypt.job_range) RETURNS double precision
  LANGUAGE sql IMMUTABLE SET search_path = pg_catalog, pg_temp AS $$
  SELECT greatest(range.end_block - prism_crypt._block(range.place), 0) - CASE WHEN range.stripes > 1 THEN
    greatest(range.end_block - prism_crypt._block(range.place), 0) * range.stripe::double precision / range.stripes
    + (prism_crypt._block(range.next_place) - prism_crypt._block(range.place))::double precision / range.stripes ELSE 0 END
$$;
COMMENT ON FUNCTION prism_crypt._blocks_open(prism_crypt.job_range) IS 'How many blocks of a range are not done. Internal';

CREATE FUNCTION prism_crypt._progress_of(
  jobs bigint[], OUT id bigint, OUT kind text, OUT target text, OUT state text, OUT pass integer, OUT workers integer[],
  OUT blocks_total bigint, OUT blocks_done bigint, OUT rows_done bigint, OUT rows_estimate bigint, OUT percent numeric,
  OUT rows_per_second numeric, OUT eta interval, OUT rows_left bigint, OUT values_unreadable bigint, OUT error text,
  OUT reason text, OUT created_by text, OUT created_at timestamptz, OUT started_at timestamptz, OUT updated_at timestamptz,
  OUT finished_at timestamptz
) RETURNS SETOF record
  LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
  WITH ranges AS (
    SELECT r.job, r.relation, sum(r.rows_done) AS rows_done, sum(least(r.busy_seconds, 1e12)) AS busy_seconds,
           sum(prism_crypt._blocks_open(r))::numeric AS blocks_open,
           max(r.updated_at) AS updated_at
    FROM prism_crypt.job_range AS r WHERE r.job = ANY ($1) GROUP BY r.job, r.relation
  ), parts AS (
    SELECT p.job, p.relation, p.pass, p.finished, p.left_over, p.left_unreadable,
           p.rows_done + coalesce(r.rows_done, 0) AS rows_done,
           least(p.busy_seconds, 1e12) + least(coalesce(r.busy_seconds, 0), 1e12) AS busy_seconds,
           greatest(p.updated_at, r.updated_at) AS updated_at,
           coalesce(nullif(p.end_block, 0), c.relpages, 0) AS blocks_total,
           -- Later passes are quick; only the first one counts.
           CASE WHEN p.finished OR p.pass > 1 THEN coalesce(nullif(p.end_block, 0), c.relpages, 0)
                ELSE greatest(p.next_block - coalesce(r.blocks_open, 0), 0) END AS blocks_done,
           least(greatest(c.reltuples, 0), 1e12)::numeric AS rows_estimate
    FROM prism_crypt.job_part AS p
    LEFT JOIN ranges AS r ON r.job = p.job AND r.relation = p.relation
    LEFT JOIN pg_class AS c ON c.oid = p.relation
    WHERE p.job = ANY ($1)
  ), sums AS (
    SELECT p.job, max(p.pass) AS pass, prism_crypt._to_bigint(sum(p.blocks_total)) AS blocks_total,
           prism_crypt._to_bigint(sum(p.blocks_done)) AS blocks_done, prism_crypt._to_bigint(sum(p.rows_done)) AS rows_done,
           prism_crypt._to_bigint(sum(p.rows_estimate)) AS rows_estimate,
           sum(p.busy_seconds) AS busy_seconds, max(p.updated_at) AS updated_at,
           prism_crypt._to_bigint(sum(p.left_over)) AS rows_left,
           prism_crypt._to_bigint(sum(p.left_unreadable)) AS values_unreadable
    FROM parts AS p GROUP BY p.job
  ), working AS (
    SELECT w.job, array_agg(w.pid ORDER BY w.pid) AS workers
    FROM prism_crypt.job_worker AS w WHERE w.job = ANY ($1) AND prism_crypt._is_working(w.pid, w.started) GROUP BY w.job
  )
  SELECT j.id, j.kind,
         coalesce(prism_crypt._qualified_name(j.relation), format('dropped table (OID %s)', j.relation::oid))
           || CASE WHEN j.column_name IS NULL THEN '' ELSE format('.%I', j.column_name) END,
         -- The workers are sessions of the primary.
         CASE WHEN j.state = 'running' AND w.workers IS NULL AND NOT pg_is_in_recovery() THEN 'interrupted'
              ELSE j.state END, s.pass,
         coalesce(w.workers, '{}'), s.blocks_total, s.blocks_done, s.rows_done, s.rows_estimate,
         CASE WHEN j.state IN ('finished', 'incomplete') THEN 100
              WHEN s.blocks_total > 0 THEN trunc(100.0 * s.blocks_done / s.blocks_total, 1) ELSE 0 END,
         round((s.rows_done / CASE WHEN s.busy_seconds > 1e-6 THEN s.busy_seconds END * greatest(cardinality(w.workers), 1))::numeric, 1),
         CASE WHEN j.state IN ('running', 'paused', 'failed', 'pending') AND s.blocks_done > 0 THEN
           make_interval(secs => least(s.busy_seconds / greatest(cardinality(w.workers), 1)
             * (s.blocks_total - s.blocks_done) / s.blocks_done, 1e11)) END,
         s.rows_left, s.values_unreadable, j.error, j.reason, j.created_by, j.created_at, j.started_at,
         greatest(j.updated_at, s.updated_at), j.finished_at
  FROM prism_crypt.job AS j LEFT JOIN sums AS s ON s.job = j.id LEFT JOIN working AS w ON w.job = j.id
  WHERE j.id = ANY ($1)
$$;
COMMENT ON FUNCTION prism_crypt._progress_of(bigint[]) IS 'How far jobs are. Internal';

CREATE FUNCTION prism_crypt._progress(
  note bigint, OUT id bigint, OUT kind text, OUT target text, OUT state text, OUT pass integer, OUT workers integer[],
  OUT blocks_total bigint, OUT blocks_done bigint, OUT rows_done bigint, OUT rows_estimate bigint, OUT percent numeric,
  OUT rows_per_second numeric, OUT eta interval, OUT rows_left bigint, OUT values_unreadable bigint, OUT error text,
  OUT reason text, OUT created_by text, OUT created_at timestamptz, OUT started_at timestamptz, OUT updated_at timestamptz,
  OUT finished_at timestamptz
) RETURNS SETOF record
  LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
  role CONSTANT oid := prism_crypt._caller(note);
BEGIN
  RETURN QUERY SELECT * FROM prism_crypt._progress_of(ARRAY(
    SELECT j.id FROM prism_crypt.job AS j WHERE prism_crypt._right_to_job(role, j) IS NOT NULL));
  RETURN QUERY SELECT
    NULL::bigint, f.kind, f.target, 'running', NULL::integer, ARRAY[f.worker], NULL::bigint, NULL::bigint, f.rows_done, f.rows_estimate,
    CASE WHEN f.share IS NOT NULL THEN trunc(100 * least(f.share, 0.999)::numeric, 1) END, round((f.rows_done / nullif(f.seconds, 0))::numeric, 1),
    CASE WHEN f.share > 0 THEN make_interval(secs => least(f.seconds * greatest(1 - f.share, 0) / f.share, 1e11)) END, NULL::bigint, NULL::bigint,
    NULL::text, NULL::text, f.created_by, f.started_at, f.started_at, clock_timestamp(), NULL::timestamptz
  FROM prism_crypt._files_in_progress(role) AS f;
END $$;
COMMENT ON FUNCTION prism_crypt._progress(bigint) IS 'The rows of prism_crypt.progress. Internal';

CREATE VIEW prism_crypt.progress AS SELECT * FROM prism_crypt._progress(prism_crypt._note_caller());
COMMENT ON VIEW prism_crypt.progress IS 'Jobs, running exports and imports, and how far they are: those that a role may see';
COMMENT ON COLUMN prism_crypt.progress.id IS
  'Number of the job, for pause_job(), resume_job() and cancel_job(); null for an export or import, which ends with its statement';
COMMENT ON COLUMN prism_crypt.progress.kind IS
  'What is done: rotation; retagging after a new index key; backfill and verification of a migration; export and import';
COMMENT ON COLUMN prism_crypt.progress.target IS 'Table, or table and column, or query';
COMMENT ON COLUMN prism_crypt.progress.state IS
  'pending, running, interrupted (its workers are gone), paused, failed: a call goes on with it; '
  'cancelled, incomplete, finished: it is over';
COMMENT ON COLUMN prism_crypt.progress.pass IS 'Which walk over the table this is; 0 before the first check';
COMMENT ON COLUMN prism_crypt.progress.workers IS 'Processes that work on it now';
COMMENT ON COLUMN prism_crypt.progress.blocks_total IS 'Blocks of the table, and of its partitions, when the pass began';
COMMENT ON COLUMN prism_crypt.progress.blocks_done IS 'Blocks that are done';
COMMENT ON COLUMN prism_crypt.progress.rows_done IS 'Rows that were changed, exported or imported';
COMMENT ON COLUMN prism_crypt.progress.rows_estimate IS 'Rows of the table, by PostgreSQL''s statistics';
COMMENT ON COLUMN prism_crypt.progress.percent IS 'Share that is done: of the blocks; of the rows of an export; of the bytes of an import';
COMMENT ON COLUMN prism_crypt.progress.rows_per_second IS 'Rows changed a second of work, by all workers together';
COMMENT ON COLUMN prism_crypt.progress.eta IS 'Time that it will still take at this rate, waiting not counted';
COMMENT ON COLUMN prism_crypt.progress.rows_left IS 'At the end: values that stayed, locked or kept by a trigger';
COMMENT ON COLUMN prism_crypt.progress.values_unreadable IS 'At the end: values that can''t be read';
COMMENT ON COLUMN prism_crypt.progress.error IS 'What stopped it last';
COMMENT ON COLUMN prism_crypt.progress.reason IS 'Why it was asked for';
COMMENT ON COLUMN prism_crypt.progress.created_by IS 'Session user that asked for it';
COMMENT ON COLUMN prism_crypt.progress.created_at IS 'When it was asked for';
COMMENT ON COLUMN prism_crypt.progress.started_at IS 'When work on it began';
COMMENT ON COLUMN prism_crypt.progress.updated_at IS 'When it last moved';
COMMENT ON COLUMN prism_crypt.progress.finished_at IS 'When it was over';
