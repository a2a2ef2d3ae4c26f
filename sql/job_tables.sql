-- Long work: what is to be done, how far it is, and who works on it. Several sessions may share a job, and any of them may
-- die at any time: a range of blocks belongs to a worker for as long as that worker's statement runs.
--
-- Jobs name tables by oid and describe this server's state, so a dump does not carry them.

CREATE TABLE prism_crypt.job (
  id                 bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  kind               text NOT NULL,
  relation           regclass NOT NULL,
  column_name        name,
  from_version       integer,
  keyset             text,
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
  (kind, relation, (coalesce(column_name, '')), (coalesce(from_version, 0)), (coalesce(keyset, '')))
  WHERE state IN ('pending', 'running', 'paused', 'failed');
COMMENT ON TABLE prism_crypt.job IS 'Long work, open and done. prism_crypt.progress shows it';
COMMENT ON COLUMN prism_crypt.job.id IS 'Number of the job';
COMMENT ON COLUMN prism_crypt.job.kind IS 'What is done: rotation';
COMMENT ON COLUMN prism_crypt.job.relation IS 'The table that was named; its partitions and children are parts of the job';
COMMENT ON COLUMN prism_crypt.job.column_name IS 'The column; null is all encrypted columns';
COMMENT ON COLUMN prism_crypt.job.from_version IS 'Only values of this key version; null is all that are not active';
COMMENT ON COLUMN prism_crypt.job.keyset IS 'Only values of this keyset; null is all';
COMMENT ON COLUMN prism_crypt.job.state IS
  'pending, running, paused, failed: a call goes on with it; cancelled, incomplete, finished: it is over';
COMMENT ON COLUMN prism_crypt.job.reason IS 'Why it was asked for';
COMMENT ON COLUMN prism_crypt.job.error IS 'What stopped it last';
COMMENT ON COLUMN prism_crypt.job.created_by IS 'Session user that asked for it';
COMMENT ON COLUMN prism_crypt.job.owner IS 'Role that asked for it; null where it was emergency_rotation()';
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
  finished        boolean NOT NULL DEFAULT false,
  updated_at      timestamptz NOT NULL DEFAULT pg_catalog.clock_timestamp(),
  PRIMARY KEY (job, relation)
);
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
COMMENT ON COLUMN prism_crypt.job_part.finished IS 'Whether it is over';
COMMENT ON COLUMN prism_crypt.job_part.updated_at IS 'When a worker last took or gave back a range';

CREATE TABLE prism_crypt.job_range (
  id             bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  job            bigint NOT NULL,
  relation       regclass NOT NULL,
  place          tid NOT NULL,
  share_done     double precision NOT NULL DEFAULT 0,
  end_block      bigint NOT NULL,
  rows_done      bigint NOT NULL DEFAULT 0,
  busy_seconds   double precision NOT NULL DEFAULT 0,
  worker_pid     integer NOT NULL,
  worker_started timestamptz NOT NULL,
  updated_at     timestamptz NOT NULL DEFAULT pg_catalog.clock_timestamp(),
  FOREIGN KEY (job, relation) REFERENCES prism_crypt.job_part ON DELETE CASCADE
) WITH (fillfactor = 20);
COMMENT ON TABLE prism_crypt.job_range IS 'Blocks that a worker has taken and not finished';
COMMENT ON COLUMN prism_crypt.job_range.id IS 'Number of the range';
COMMENT ON SEQUENCE prism_crypt.job_range_id_seq IS 'Numbers of ranges';
COMMENT ON COLUMN prism_crypt.job_range.job IS 'The job';
COMMENT ON COLUMN prism_crypt.job_range.relation IS 'The table';
COMMENT ON COLUMN prism_crypt.job_range.place IS 'All before it is done';
COMMENT ON COLUMN prism_crypt.job_range.share_done IS 'Share of the rest that is done, in stripes: 0 to 1';
COMMENT ON COLUMN prism_crypt.job_range.end_block IS 'First block behind the range';
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
COMMENT ON TABLE prism_crypt.job_worker IS 'Sessions that work on a job, or did when they died';
COMMENT ON COLUMN prism_crypt.job_worker.job IS 'The job';
COMMENT ON COLUMN prism_crypt.job_worker.pid IS 'Process of the worker';
COMMENT ON COLUMN prism_crypt.job_worker.started IS 'When the worker''s statement began';
COMMENT ON COLUMN prism_crypt.job_worker.token IS 'What the worker shows at each step';
COMMENT ON COLUMN prism_crypt.job_worker.role IS 'The role that it works as';
