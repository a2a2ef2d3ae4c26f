-- How jobs begin.

CREATE FUNCTION prism_crypt._kind_of_job(name text) RETURNS prism_crypt.job_kind
  LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  kind prism_crypt.job_kind;
BEGIN
  SELECT k.* INTO kind FROM prism_crypt.job_kind AS k WHERE k.name = $1;
  IF NOT FOUND THEN
    RAISE undefined_object USING MESSAGE = format('kind of job "%s" does not exist', $1);
  END IF;
  RETURN kind;
END $$;
COMMENT ON FUNCTION prism_crypt._kind_of_job(text) IS 'The kind of this name. Internal';

CREATE FUNCTION prism_crypt._parts_of_job(kind text, relation regclass, column_name name, scope jsonb) RETURNS regclass[]
  LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  parts regclass[];
BEGIN
  EXECUTE format('SELECT %s($1, $2, $3)', (prism_crypt._kind_of_job(kind)).parts) INTO parts USING relation, column_name, scope;
  RETURN parts;
END $$;
COMMENT ON FUNCTION prism_crypt._parts_of_job(text, regclass, name, jsonb) IS
  'The tables that a job of a kind goes over. Internal';

-- Gives a job the parts that its table has now. A partition that was detached since the last call is no longer a part.
CREATE FUNCTION prism_crypt._set_parts(job bigint, parts regclass[]) RETURNS void
  LANGUAGE sql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
  DELETE FROM prism_crypt.job_part AS p
  WHERE p.job = $1 AND NOT EXISTS (SELECT FROM unnest($2) AS r WHERE r = p.relation)
    AND NOT EXISTS (SELECT FROM prism_crypt.job_worker AS w
                    WHERE w.job = $1 AND prism_crypt._is_working(w.pid, w.started));
  INSERT INTO prism_crypt.job_part (job, relation)
  SELECT $1, r FROM unnest($2) AS r
  WHERE NOT EXISTS (SELECT FROM prism_crypt.job_part AS p WHERE p.job = $1 AND p.relation = r)
  ON CONFLICT DO NOTHING;
$$;
COMMENT ON FUNCTION prism_crypt._set_parts(bigint, regclass[]) IS 'Makes these tables the parts of a job. Internal';

-- Finds the open job of this identity, or makes it. Then it is running, unless somebody paused it. The kind of job, not the
-- caller, says which tables are its parts.
CREATE FUNCTION prism_crypt._start_job(
  kind text, relation regclass, column_name name, scope jsonb, note bigint, OUT job bigint, OUT token uuid, OUT part regclass
) LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
  role CONSTANT oid := prism_crypt._caller(note);
  parts CONSTANT regclass[] := prism_crypt._parts_of_job(kind, relation, column_name, scope);
BEGIN
  PERFORM prism_crypt._require_update(role, relation);
  IF (prism_crypt._kind_of_job(kind)).by_owner
     AND NOT pg_has_role(role, (SELECT c.relowner FROM pg_class AS c WHERE c.oid = relation), 'USAGE') THEN
    RAISE insufficient_privilege USING MESSAGE = format('must be owner of table %s', prism_crypt._qualified_name(relation));
  END IF;
  PERFORM prism_crypt._require_update(role, p) FROM unnest(parts) AS p;
  part := parts[1];
  LOOP
    SELECT j.id INTO job FROM prism_crypt.job AS j
    WHERE j.kind = _start_job.kind AND j.relation = _start_job.relation
      AND coalesce(j.column_name, '') = coalesce(_start_job.column_name, '') AND j.scope = _start_job.scope
      AND j.state IN ('pending', 'running', 'paused', 'failed')
    FOR NO KEY UPDATE;
    EXIT WHEN job IS NOT NULL;
    INSERT INTO prism_crypt.job (kind, relation, column_name, scope, owner)
    VALUES (_start_job.kind, _start_job.relation, _start_job.column_name, _start_job.scope, role)
    ON CONFLICT DO NOTHING;
  END LOOP;
  PERFORM prism_crypt._set_parts(job, parts);
  token := gen_random_uuid();
  INSERT INTO prism_crypt.job_worker AS w (job, pid, started, token, role)
  VALUES (job, pg_backend_pid(), statement_timestamp(), token, role)
  ON CONFLICT ON CONSTRAINT job_worker_pkey DO UPDATE
  SET started = excluded.started, token = excluded.token, role = excluded.role;
  UPDATE prism_crypt.job AS j
  SET state = 'running', error = NULL, started_at = coalesce(j.started_at, clock_timestamp()),
      updated_at = clock_timestamp()
  WHERE j.id = _start_job.job AND j.state <> 'paused';
END $$;
COMMENT ON FUNCTION prism_crypt._start_job(text, regclass, name, jsonb, bigint) IS
  'Makes this session a worker of the open job of a target; makes the job if there is none. Internal';

-- For callers that ask for work which others do. If there is an open job, that one is used.
CREATE FUNCTION prism_crypt._queue_job(kind text, relation regclass, reason text) RETURNS void
  LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
  new_id bigint;
BEGIN
  INSERT INTO prism_crypt.job (kind, relation, reason)
  VALUES (_queue_job.kind, _queue_job.relation, _queue_job.reason) ON CONFLICT DO NOTHING RETURNING id INTO new_id;
  IF new_id IS NOT NULL THEN
    PERFORM prism_crypt._set_parts(new_id, prism_crypt._parts_of_job(_queue_job.kind, _queue_job.relation, NULL, '{}'));
  END IF;
END $$;
COMMENT ON FUNCTION prism_crypt._queue_job(text, regclass, text) IS 'Asks for work on a table. Internal';
