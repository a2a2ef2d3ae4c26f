-- Migrations of columns: what is asked for, and how far it is. The rows that are left to do are those of a job.
--
-- Everything that a migration needs is in this table, so whatever ends its session, another one can go on.
CREATE TABLE prism_crypt.migration (
  id               bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  relation         regclass NOT NULL,
  column_name      name NOT NULL,
  old_type         text NOT NULL,
  type             text NOT NULL,
  using_expression text,
  method           text NOT NULL CHECK (method IN ('online', 'rewrite')),
  keep_plaintext   boolean NOT NULL,
  phase            text NOT NULL DEFAULT 'planned' CHECK (phase IN (
    'planned', 'twin', 'rows', 'indexes', 'verification', 'statistics', 'ready', 'validation', 'cut_over',
    'finished', 'rolled_back')),
  is_going_back    boolean NOT NULL DEFAULT false,
  twin             name NOT NULL,
  kept             name NOT NULL,
  build            jsonb NOT NULL DEFAULT '{}',
  closed           jsonb,
  error            text,
  created_by       text NOT NULL DEFAULT SESSION_USER,
  owner            regrole NOT NULL,
  created_at       timestamptz NOT NULL DEFAULT pg_catalog.clock_timestamp(),
  updated_at       timestamptz NOT NULL DEFAULT pg_catalog.clock_timestamp(),
  cut_over_at      timestamptz,
  finished_at      timestamptz,
  worker_pid       integer,
  worker_started   timestamptz
);
-- After the cut-over, another column of the table may follow.
CREATE UNIQUE INDEX migration_open_idx ON prism_crypt.migration (relation)
  WHERE phase NOT IN ('cut_over', 'finished', 'rolled_back');
COMMENT ON TABLE prism_crypt.migration IS 'Migrations of columns, open and done. prism_crypt.migrations shows them';
COMMENT ON COLUMN prism_crypt.migration.id IS 'Number of the migration';
COMMENT ON COLUMN prism_crypt.migration.relation IS 'The table, or the root of its partitions and children';
COMMENT ON COLUMN prism_crypt.migration.column_name IS 'The column';
COMMENT ON COLUMN prism_crypt.migration.old_type IS 'Its type before';
COMMENT ON COLUMN prism_crypt.migration.type IS 'Its type after';
COMMENT ON COLUMN prism_crypt.migration.using_expression IS 'What gives the new value of a row, until it is over; null is the old value';
COMMENT ON COLUMN prism_crypt.migration.method IS 'online: a twin column beside it; rewrite: ALTER TABLE';
COMMENT ON COLUMN prism_crypt.migration.keep_plaintext IS 'Whether the old column stays after the cut-over, until finish_migration()';
COMMENT ON COLUMN prism_crypt.migration.phase IS 'What is done next, or has been done last';
COMMENT ON COLUMN prism_crypt.migration.is_going_back IS 'Whether rollback_migration() was called';
COMMENT ON COLUMN prism_crypt.migration.twin IS 'Name of the new column before the cut-over';
COMMENT ON COLUMN prism_crypt.migration.kept IS 'Name of the old column after it';
COMMENT ON COLUMN prism_crypt.migration.build IS
  'Indexes and constraints of the new column: statements that build them, how many of these are done, and what puts them in the place '
  'of the old ones';
COMMENT ON COLUMN prism_crypt.migration.closed IS 'Grants that were split, so that the old column is closed; null if it is not';
COMMENT ON COLUMN prism_crypt.migration.error IS 'What stopped it last';
COMMENT ON COLUMN prism_crypt.migration.created_by IS 'Session user that asked for it';
COMMENT ON COLUMN prism_crypt.migration.owner IS 'Role that asked for it, or worked on it last: what is recorded here is its word';
COMMENT ON COLUMN prism_crypt.migration.created_at IS 'When it was asked for';
COMMENT ON COLUMN prism_crypt.migration.updated_at IS 'When its phase last changed';
COMMENT ON COLUMN prism_crypt.migration.cut_over_at IS 'When applications began to use the new column';
COMMENT ON COLUMN prism_crypt.migration.finished_at IS 'When it was over';
COMMENT ON COLUMN prism_crypt.migration.worker_pid IS 'Process that works on it';
COMMENT ON COLUMN prism_crypt.migration.worker_started IS 'When that process''s statement began';
COMMENT ON SEQUENCE prism_crypt.migration_id_seq IS 'Numbers of migrations';

-- A dump carries the open ones, so that they go on in what is restored from it; their jobs begin again. An expression may hold the key of
-- another system, beside what it opens; so those with one are left out.
SELECT pg_catalog.pg_extension_config_dump('prism_crypt.migration_id_seq', '');
SELECT pg_catalog.pg_extension_config_dump('prism_crypt.migration', $$
  WHERE phase NOT IN ('finished', 'rolled_back') AND using_expression IS NULL
    AND relation IN (SELECT c.oid FROM pg_catalog.pg_class AS c)$$);
