-- Migrations and how far they are, for roles that own the table or may see the status of everything.

CREATE FUNCTION prism_crypt._migrations(
  note bigint, OUT id bigint, OUT target text, OUT old_type text, OUT type text, OUT state text, OUT method text, OUT phase text,
  OUT percent numeric, OUT rows_done bigint, OUT job bigint, OUT worker integer, OUT blockers integer[], OUT error text,
  OUT created_by text, OUT created_at timestamptz, OUT updated_at timestamptz, OUT cut_over_at timestamptz,
  OUT finished_at timestamptz
) RETURNS SETOF record
  LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
  role CONSTANT oid := prism_crypt._caller(note);
BEGIN
  RETURN QUERY
  SELECT m.id,
         coalesce(prism_crypt._qualified_name(m.relation), format('dropped table (OID %s)', m.relation::oid))
           || format('.%I', m.column_name),
         m.old_type, m.type,
         CASE WHEN m.error IS NOT NULL AND m.phase NOT IN ('cut_over', 'finished', 'rolled_back') THEN 'failed'
              WHEN m.phase = 'twin' THEN 'preparing'
              WHEN m.phase IN ('rows', 'indexes') THEN 'backfilling'
              WHEN m.phase IN ('verification', 'statistics') THEN 'verifying'
              WHEN m.phase = 'validation' THEN 'cut_over'
              ELSE m.phase END,
         m.method,
         CASE WHEN m.is_going_back AND m.phase <> 'rolled_back' THEN 'going back: ' || m.phase ELSE m.phase END,
         j.percent, j.rows_done, j.id,
         CASE WHEN prism_crypt._is_working(m.worker_pid, m.worker_started) THEN m.worker_pid END,
         CASE WHEN prism_crypt._is_working(m.worker_pid, m.worker_started) THEN pg_blocking_pids(m.worker_pid) END,
         m.error, m.created_by, m.created_at, greatest(m.updated_at, j.updated_at), m.cut_over_at, m.finished_at
  FROM prism_crypt.migration AS m
  LEFT JOIN LATERAL (
    SELECT p.id, p.percent, p.rows_done, p.updated_at
    FROM (SELECT max(j.id) AS id FROM prism_crypt.job AS j
          WHERE j.relation = m.relation AND j.scope = jsonb_build_object('migration', m.id)
            AND j.kind = CASE m.phase WHEN 'rows' THEN 'backfill' WHEN 'verification' THEN 'verification' END) AS last
    CROSS JOIN LATERAL prism_crypt._progress_of(ARRAY[last.id]) AS p) AS j ON true
  WHERE prism_crypt._right_to_migration(role, m) IS NOT NULL;
END $$;
COMMENT ON FUNCTION prism_crypt._migrations(bigint) IS 'The rows of prism_crypt.migrations. Internal';

CREATE VIEW prism_crypt.migrations AS SELECT * FROM prism_crypt._migrations(prism_crypt._note_caller());
COMMENT ON VIEW prism_crypt.migrations IS 'Migrations of columns and how far they are: those that a role may see';
COMMENT ON COLUMN prism_crypt.migrations.id IS 'Number of the migration, for rollback_migration() and finish_migration()';
COMMENT ON COLUMN prism_crypt.migrations.target IS 'Table and column';
COMMENT ON COLUMN prism_crypt.migrations.old_type IS 'Type of the column before';
COMMENT ON COLUMN prism_crypt.migrations.type IS 'Type of the column after';
COMMENT ON COLUMN prism_crypt.migrations.state IS
  'planned, preparing, backfilling, verifying, ready, failed: a call goes on with it; cut_over: applications use the new column, '
  'and it can be finished or rolled back, or they use the old one again if the phase is "going back: validation"; '
  'finished, rolled_back: it is over';
COMMENT ON COLUMN prism_crypt.migrations.method IS 'online: a twin column beside it; rewrite: ALTER TABLE';
COMMENT ON COLUMN prism_crypt.migrations.phase IS
  'What is done next: twin, rows, indexes, verification, statistics, ready (the cut-over), validation; or has been done last';
COMMENT ON COLUMN prism_crypt.migrations.percent IS 'Share of the table that is done, in the phases rows and verification';
COMMENT ON COLUMN prism_crypt.migrations.rows_done IS 'Rows that were filled, or corrected, in this phase';
COMMENT ON COLUMN prism_crypt.migrations.job IS 'Number of the job of this phase, for pause_job() and cancel_job()';
COMMENT ON COLUMN prism_crypt.migrations.worker IS 'Process that works on it now';
COMMENT ON COLUMN prism_crypt.migrations.blockers IS 'Processes that the worker waits for';
COMMENT ON COLUMN prism_crypt.migrations.error IS 'What stopped it last';
COMMENT ON COLUMN prism_crypt.migrations.created_by IS 'Session user that asked for it';
COMMENT ON COLUMN prism_crypt.migrations.created_at IS 'When it was asked for';
COMMENT ON COLUMN prism_crypt.migrations.updated_at IS 'When it last moved';
COMMENT ON COLUMN prism_crypt.migrations.cut_over_at IS 'When applications began to use the new column';
COMMENT ON COLUMN prism_crypt.migrations.finished_at IS 'When it was over';
