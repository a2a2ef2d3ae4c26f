-- Long work: what is to be done, how far it is, and who works on it. Several sessions may share a job, and any of them may die
-- at any time: a range of rows belongs to a worker only as long as that worker's statement runs.
--
-- Jobs name tables by oid and describe this server's state, so a dump does not carry them.

-- The kinds of long work. The engine knows only three functions (relation regclass, column_name name, scope jsonb) and this text
-- of each. See docs/architecture.md.
CREATE TABLE prism_crypt.job_kind (
  name         text PRIMARY KEY,
  checks       text NOT NULL,
  parts        text NOT NULL,
  changes      text NOT NULL,
  rows_changed text NOT NULL,
  by_owner     boolean NOT NULL DEFAULT false
);
COMMENT ON TABLE prism_crypt.job_kind IS 'Kinds of jobs';
COMMENT ON COLUMN prism_crypt.job_kind.name IS 'Name of the kind';
COMMENT ON COLUMN prism_crypt.job_kind.checks IS
  'Function that raises an error if the caller can''t do this to the table; runs with the caller''s rights';
COMMENT ON COLUMN prism_crypt.job_kind.parts IS
  'Function that gives the tables with something to change, as regclass[], or raises an error; runs with the owner''s rights';
COMMENT ON COLUMN prism_crypt.job_kind.changes IS
  'Function that gives a prism_crypt._changes: which rows of one table are due, and what changes; runs with the caller''s rights';
COMMENT ON COLUMN prism_crypt.job_kind.rows_changed IS 'What messages call rows that are done';
COMMENT ON COLUMN prism_crypt.job_kind.by_owner IS
  'Whether only the owner of the table may work on it: something else relies on what its workers say';

CREATE TABLE prism_crypt.job (
  id                 bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  kind               text NOT NULL REFERENCES prism_crypt.job_kind,
  relation           regclass NOT NULL,
  column_name        name,
  scope              jsonb NOT NULL DEFAULT '{}',
  state              text NOT NULL DEFAULT 'pending' CHECK (
    state IN ('pending', 'running', 'paused', 'cancelled', 'failed', 'incomplete', 'finished')),
  reason             text,
  error              text,
  created_by         text NOT NULL DEFAULT SESSION_USER,
  owner              oid,
  created_at         timestamptz NOT NULL DEFAULT pg_catalog.clock_timestamp(),
  started_at         timestamptz,
  updated_at         timestamptz NOT NULL DEFAULT pg_catalog.clock_timestamp(),
  finished_at        timestamptz,
  checker_pid        integer,
  checker_started    timestamptz
);
CREATE UNIQUE INDEX job_open_idx ON prism_crypt.job
  (kind, relation, (coalesce(column_name, '')), scope)
  WHERE state IN ('pending', 'running', 'paused', 'failed');
COMMENT ON TABLE prism_crypt.job IS 'Long work, open and done. prism_crypt.progress shows it';
COMMENT ON COLUMN prism_crypt.job.id IS 'Number of the job';
COMMENT ON COLUMN prism_crypt.job.kind IS
  'What is done: rotation; retagging after a new index key; backfill and verification of a migration';
COMMENT ON COLUMN prism_crypt.job.relation IS 'The table that was named; its partitions and children are parts of the job';
COMMENT ON COLUMN prism_crypt.job.column_name IS 'The column; null is all encrypted columns';
COMMENT ON COLUMN prism_crypt.job.scope IS
  'What else limits the work. For a rotation: from_version, only values of this key version; keyset, only values of this keyset';
COMMENT ON COLUMN prism_crypt.job.state IS
  'pending, running, paused, failed: a call goes on with it; cancelled, incomplete, finished: it is over';
COMMENT ON COLUMN prism_crypt.job.reason IS 'Why it was asked for';
COMMENT ON COLUMN prism_crypt.job.error IS 'What stopped it last';
COMMENT ON COLUMN prism_crypt.job.created_by IS 'Session user that asked for it';
COMMENT ON COLUMN prism_crypt.job.owner IS 'Role that asked for it; null if it was emergency_rotation()';
COMMENT ON COLUMN prism_crypt.job.created_at IS 'When it was asked for';
COMMENT ON COLUMN prism_crypt.job.started_at IS 'When work on it began';
COMMENT ON COLUMN prism_crypt.job.updated_at IS 'When its state last changed';
COMMENT ON COLUMN prism_crypt.job.finished_at IS 'When it was over';
COMMENT ON COLUMN prism_crypt.job.checker_pid IS 'Process of the worker that looks whether anything is left';
COMMENT ON COLUMN prism_crypt.job.checker_started IS 'When that worker''s statement began';
COMMENT ON SEQUENCE prism_crypt.job_id_seq IS 'Numbers of jobs';

CREATE TABLE prism_crypt.job_part (
  job             bigint NOT NULL REFERENCES prism_crypt.job ON DELETE CASCADE,
  relation        regclass NOT NULL,
  pass            integer NOT NULL DEFAULT 0,
  next_block      bigint NOT NULL DEFAULT 0,
  end_block       bigint DEFAULT 0,
  rows_in_pass    bigint NOT NULL DEFAULT 0,
  rows_in_last    bigint,
  fruitless       integer NOT NULL DEFAULT 0,
  rows_done       bigint NOT NULL DEFAULT 0,
  busy_seconds    double precision NOT NULL DEFAULT 0,
  left_over       bigint,
  left_unreadable bigint,
  is_counted      boolean NOT NULL DEFAULT false,
  finished        boolean NOT NULL DEFAULT false,
  updated_at      timestamptz NOT NULL DEFAULT pg_catalog.clock_timestamp(),
  PRIMARY KEY (job, relation)
);
-- Finds the one of many partitions that has something left to walk over.
CREATE INDEX job_part_open_idx ON prism_crypt.job_part (job, relation) WHERE end_block IS NULL OR next_block < end_block;
COMMENT ON TABLE prism_crypt.job_part IS 'One table of a job';
COMMENT ON COLUMN prism_crypt.job_part.job IS 'The job';
COMMENT ON COLUMN prism_crypt.job_part.relation IS 'The table';
COMMENT ON COLUMN prism_crypt.job_part.pass IS 'Which walk over the table this is; 0 before the first check';
COMMENT ON COLUMN prism_crypt.job_part.next_block IS 'First block that no worker has taken in this pass';
COMMENT ON COLUMN prism_crypt.job_part.end_block IS
  'Length of the table in blocks when the pass began; null when it begins with the next range';
COMMENT ON COLUMN prism_crypt.job_part.rows_in_pass IS 'Rows changed in this pass, in ranges that are done';
COMMENT ON COLUMN prism_crypt.job_part.rows_in_last IS 'Rows changed in the pass before';
COMMENT ON COLUMN prism_crypt.job_part.fruitless IS 'Passes that got no further';
COMMENT ON COLUMN prism_crypt.job_part.rows_done IS 'Rows changed so far, in ranges that are done';
COMMENT ON COLUMN prism_crypt.job_part.busy_seconds IS 'Time that workers spent, in ranges that are done';
COMMENT ON COLUMN prism_crypt.job_part.left_over IS 'At the end: values left, locked or kept by a trigger';
COMMENT ON COLUMN prism_crypt.job_part.left_unreadable IS 'At the end: values that can''t be read';
COMMENT ON COLUMN prism_crypt.job_part.is_counted IS 'Whether the values that are left are counted next';
COMMENT ON COLUMN prism_crypt.job_part.finished IS 'Whether it is over';
COMMENT ON COLUMN prism_crypt.job_part.updated_at IS 'When a worker last took or gave back a range';

CREATE TABLE prism_crypt.job_range (
  id             bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  job            bigint NOT NULL,
  relation       regclass NOT NULL,
  place          tid NOT NULL,
  end_block      bigint NOT NULL,
  places         tid[],
  by_index       boolean NOT NULL DEFAULT false,
  stripes        integer,
  stripe         integer NOT NULL DEFAULT 0,
  next_place     tid NOT NULL,
  searching      boolean NOT NULL DEFAULT false,
  careful        integer NOT NULL DEFAULT 0,
  rows_done      bigint NOT NULL DEFAULT 0,
  busy_seconds   double precision NOT NULL DEFAULT 0,
  worker_pid     integer NOT NULL,
  worker_started timestamptz NOT NULL,
  updated_at     timestamptz NOT NULL DEFAULT pg_catalog.clock_timestamp(),
  FOREIGN KEY (job, relation) REFERENCES prism_crypt.job_part ON DELETE CASCADE
) WITH (fillfactor = 20);
COMMENT ON TABLE prism_crypt.job_range IS 'Rows that a worker has taken and not finished: blocks, or places that an index gave';
COMMENT ON COLUMN prism_crypt.job_range.id IS 'Number of the range';
COMMENT ON SEQUENCE prism_crypt.job_range_id_seq IS 'Numbers of ranges';
COMMENT ON COLUMN prism_crypt.job_range.job IS 'The job';
COMMENT ON COLUMN prism_crypt.job_range.relation IS 'The table';
COMMENT ON COLUMN prism_crypt.job_range.place IS 'Everything before it is done';
COMMENT ON COLUMN prism_crypt.job_range.end_block IS 'First block after the range';
COMMENT ON COLUMN prism_crypt.job_range.places IS 'The rows, if an index found them; otherwise null';
COMMENT ON COLUMN prism_crypt.job_range.by_index IS 'Whether an index is asked for the rows first';
COMMENT ON COLUMN prism_crypt.job_range.stripes IS 'Number of its stripes; null before the first batch';
COMMENT ON COLUMN prism_crypt.job_range.stripe IS 'Number of the stripe, from 0';
COMMENT ON COLUMN prism_crypt.job_range.next_place IS 'Everything of this stripe before it is done';
COMMENT ON COLUMN prism_crypt.job_range.searching IS 'Whether it searches for the next row that is due, because few are';
COMMENT ON COLUMN prism_crypt.job_range.careful IS 'How many batches still lock their rows first, after one did not get its rows at once';
COMMENT ON COLUMN prism_crypt.job_range.rows_done IS 'Rows changed in it';
COMMENT ON COLUMN prism_crypt.job_range.busy_seconds IS 'Time spent on it';
COMMENT ON COLUMN prism_crypt.job_range.worker_pid IS 'Process of the worker';
COMMENT ON COLUMN prism_crypt.job_range.worker_started IS 'When the worker''s statement began';
COMMENT ON COLUMN prism_crypt.job_range.updated_at IS 'When its last batch was committed';

CREATE TABLE prism_crypt.job_worker (
  job     bigint NOT NULL REFERENCES prism_crypt.job ON DELETE CASCADE,
  pid     integer NOT NULL,
  started timestamptz NOT NULL,
  token   uuid NOT NULL UNIQUE,
  role    oid NOT NULL,
  PRIMARY KEY (job, pid)
);
COMMENT ON TABLE prism_crypt.job_worker IS 'Sessions that work on a job, or died working on it';
COMMENT ON COLUMN prism_crypt.job_worker.job IS 'The job';
COMMENT ON COLUMN prism_crypt.job_worker.pid IS 'Process of the worker';
COMMENT ON COLUMN prism_crypt.job_worker.started IS 'When the worker''s statement began';
COMMENT ON COLUMN prism_crypt.job_worker.token IS 'What the worker shows at each step';
COMMENT ON COLUMN prism_crypt.job_worker.role IS 'The role that it works as';
