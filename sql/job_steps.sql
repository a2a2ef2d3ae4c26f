-- What workers record of their steps.

CREATE FUNCTION prism_crypt._add_to_part(job bigint, relation regclass, rows_done bigint, busy_seconds double precision)
  RETURNS void
  LANGUAGE sql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
  UPDATE prism_crypt.job_part AS p
  SET rows_in_pass = p.rows_in_pass + $3, rows_done = p.rows_done + $3, busy_seconds = p.busy_seconds + $4,
      updated_at = clock_timestamp()
  WHERE p.job = $1 AND p.relation = $2
$$;
COMMENT ON FUNCTION prism_crypt._add_to_part(bigint, regclass, bigint, double precision) IS
  'Counts rows for one table of a job. Internal';

-- Records a batch in its own transaction; gives the state of the job. A range that is done counts for its part. The place
-- goes forward only, and no more rows can be done than fit into what is left of the range.
CREATE FUNCTION prism_crypt._advance_range(
  token uuid, range_id bigint, place tid, share_done double precision, rows_done bigint, busy_seconds double precision
) RETURNS text
  LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
  range prism_crypt.job_range;
  role oid;
  most bigint;
BEGIN
  -- Nobody else changes a range whose worker is at work.
  SELECT r.*, w.role INTO range.id, range.job, range.relation, range.place, range.share_done, range.end_block, range.rows_done,
    range.busy_seconds, range.worker_pid, range.worker_started, range.updated_at, role
  FROM prism_crypt.job_worker AS w JOIN prism_crypt.job_range AS r
    ON r.job = w.job AND r.worker_pid = w.pid AND r.worker_started = w.started
  WHERE w.token = _advance_range.token AND w.pid = pg_backend_pid() AND w.started = statement_timestamp() AND r.id = range_id;
  IF NOT FOUND THEN
    -- It went with its job.
    RETURN 'over';
  END IF;
  -- A row takes 28 bytes of its block at least.
  most := (range.end_block - prism_crypt._block(range.place)) * (current_setting('block_size')::bigint / 28);
  IF (has_any_column_privilege(role, range.relation::oid, 'UPDATE') AND _advance_range.rows_done BETWEEN 0 AND most
      AND _advance_range.share_done BETWEEN 0 AND 1 AND _advance_range.busy_seconds BETWEEN 0 AND 1e9) IS NOT TRUE THEN
    PERFORM prism_crypt._require_update(role, range.relation),
      prism_crypt._require_number('rows_done', _advance_range.rows_done, most),
      prism_crypt._require_number('share_done', _advance_range.share_done, 1),
      prism_crypt._require_number('busy_seconds', _advance_range.busy_seconds, 1e9);
  END IF;
  range.place := greatest(range.place, least(coalesce(_advance_range.place, range.place), prism_crypt._tid(range.end_block)));
  range.rows_done := range.rows_done + _advance_range.rows_done;
  range.busy_seconds := range.busy_seconds + _advance_range.busy_seconds;
  IF range.place < prism_crypt._tid(range.end_block) THEN
    UPDATE prism_crypt.job_range AS r
    SET place = range.place, share_done = _advance_range.share_done, rows_done = range.rows_done,
        busy_seconds = range.busy_seconds, updated_at = clock_timestamp()
    WHERE r.id = range.id;
  ELSE
    DELETE FROM prism_crypt.job_range AS r WHERE r.id = range.id;
    PERFORM prism_crypt._add_to_part(range.job, range.relation, range.rows_done, range.busy_seconds);
  END IF;
  RETURN prism_crypt._state_of_job(range.job);
END $$;
COMMENT ON FUNCTION prism_crypt._advance_range(uuid, bigint, tid, double precision, bigint, double precision) IS
  'Records a batch of a worker. Internal';

-- Records rows that were found by an index, not by a walk.
CREATE FUNCTION prism_crypt._count_rows(token uuid, relation regclass, rows_done bigint, busy_seconds double precision)
  RETURNS text
  LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
  worker prism_crypt.job_worker := prism_crypt._worker(token);
BEGIN
  IF worker.job IS NOT NULL THEN
    PERFORM prism_crypt._require_update(worker.role, _count_rows.relation),
      prism_crypt._require_number('rows_done', _count_rows.rows_done, 1000000),
      prism_crypt._require_number('busy_seconds', _count_rows.busy_seconds, 1e9);
    PERFORM prism_crypt._add_to_part(worker.job, _count_rows.relation, _count_rows.rows_done, _count_rows.busy_seconds);
  END IF;
  RETURN prism_crypt._state_of_job(worker.job);
END $$;
COMMENT ON FUNCTION prism_crypt._count_rows(uuid, regclass, bigint, double precision) IS
  'Records a batch that an index found; gives the state of the job. Internal';

-- An index found all that there is: nothing has to be walked over. The check at the end looks whether that is so.
CREATE FUNCTION prism_crypt._skip_walk(token uuid, relation regclass) RETURNS void
  LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
  worker prism_crypt.job_worker := prism_crypt._worker(token);
BEGIN
  IF worker.job IS NOT NULL THEN
    PERFORM prism_crypt._require_update(worker.role, _skip_walk.relation);
    PERFORM prism_crypt._drop_ranges(worker.job);
    UPDATE prism_crypt.job_part AS p SET end_block = coalesce(p.end_block, 0), next_block = coalesce(p.end_block, 0)
    WHERE p.job = worker.job AND p.relation = _skip_walk.relation;
  END IF;
END $$;
COMMENT ON FUNCTION prism_crypt._skip_walk(uuid, regclass) IS 'Ends the walk over a table. Internal';
