-- From 0.2.0 to 0.3.0. README.md says how such a script is written.

-- What is there already. The setting lasts until the end of the transaction.
SELECT pg_catalog.set_config('prism_upgrade.members', coalesce(pg_catalog.string_agg(
  pg_catalog.format('%s.%s', d.classid::pg_catalog.oid, d.objid), ' '), ''), true)
FROM pg_catalog.pg_depend AS d JOIN pg_catalog.pg_extension AS e ON e.oid OPERATOR(pg_catalog.=) d.refobjid
WHERE d.refclassid OPERATOR(pg_catalog.=) 'pg_catalog.pg_extension'::pg_catalog.regclass
  AND d.deptype OPERATOR(pg_catalog.=) 'e' AND e.extname OPERATOR(pg_catalog.=) 'prism_crypt';

-- ---- What changed.
COMMENT ON COLUMN prism_crypt.data_key.wrapped IS
  'AES-256-GCM under the master key, with version and keyset as associated data: 93 bytes (61 if 0.2.0 wrapped it); none once it is destroyed';
COMMENT ON COLUMN prism_crypt.index_key.wrapped IS
  'AES-256-GCM under the master key, with generation and keyset as associated data: 93 bytes (61 if 0.2.0 wrapped it); none once it is destroyed';
COMMENT ON COLUMN prism_crypt.job.kind IS
  'What is done: rotation; retagging after a new index key; backfill and verification of a migration';
COMMENT ON COLUMN prism_crypt.progress.kind IS
  'What is done: rotation; retagging after a new index key; backfill and verification of a migration; export and import';

-- Kinds of jobs that only the owner of a table may work on.
ALTER TABLE prism_crypt.job_kind ADD COLUMN by_owner boolean NOT NULL DEFAULT false;
COMMENT ON COLUMN prism_crypt.job_kind.by_owner IS
  'Whether only the owner of the table may work on it: something else relies on what its workers say';
CREATE OR REPLACE FUNCTION prism_crypt._start_job(
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
COMMENT ON TABLE prism_crypt.audit_log IS
  'What was done to keys, and which encrypted files were written and read. Only the functions of prism_crypt write to it';
CREATE OR REPLACE FUNCTION prism_crypt._progress(
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
COMMENT ON VIEW prism_crypt.progress IS 'Jobs, running exports and imports, and how far they are: those that a role may see';
COMMENT ON COLUMN prism_crypt.progress.id IS
  'Number of the job, for pause_job(), resume_job() and cancel_job(); null for an export or import, which ends with its statement';
COMMENT ON COLUMN prism_crypt.progress.target IS 'Table, or table and column, or query';
COMMENT ON COLUMN prism_crypt.progress.rows_done IS 'Rows that were changed, exported or imported';
COMMENT ON COLUMN prism_crypt.progress.percent IS 'Share that is done: of the blocks; of the rows of an export; of the bytes of an import';

-- sql/jobs/statement.sql
-- Statements that commit by themselves, such as CREATE INDEX CONCURRENTLY: PostgreSQL refuses them inside a procedure, so a background
-- worker runs them, with the rights of the role that asks.

CREATE FUNCTION prism_crypt._start_statement(statement text) RETURNS void
  LANGUAGE c VOLATILE STRICT AS 'MODULE_PATHNAME', '_start_statement_wrapper';
COMMENT ON FUNCTION prism_crypt._start_statement(text) IS
  'Has a background worker run one statement that changes an index CONCURRENTLY. Internal';

CREATE FUNCTION prism_crypt._statement_result()
  RETURNS TABLE (is_over boolean, code text, message text, detail text, hint text)
  LANGUAGE c VOLATILE STRICT ROWS 1 AS 'MODULE_PATHNAME', '_statement_result_wrapper';
COMMENT ON FUNCTION prism_crypt._statement_result() IS
  'Whether the statement of _start_statement() is over, and its error if it failed. Never waits. Internal';

CREATE FUNCTION prism_crypt._stop_statement() RETURNS void
  LANGUAGE c VOLATILE STRICT AS 'MODULE_PATHNAME', '_stop_statement_wrapper';
COMMENT ON FUNCTION prism_crypt._stop_statement() IS 'Ends the statement of _start_statement(), if it runs. Internal';

-- A procedure that commits can't have a SET clause. The statement waits for the transactions that are older than its phases, so none of
-- this session may last. An error ends the worker, and so does the end of the session.
CREATE PROCEDURE prism_crypt._run_statement(statement text, INOUT failure prism_crypt._failure) LANGUAGE plpgsql AS $$
DECLARE
  is_over boolean;
  seconds double precision := 0.01;
BEGIN
  failure := NULL;
  PERFORM prism_crypt._start_statement(statement);
  LOOP
    COMMIT;
    PERFORM prism_crypt._sleep(seconds);
    SELECT r.is_over, r.code, r.message, r.detail, r.hint
    INTO is_over, failure.code, failure.message, failure.detail, failure.hint
    FROM prism_crypt._statement_result() AS r;
    EXIT WHEN is_over;
    -- Most indexes take longer than that, and the statement waits for this transaction, too.
    seconds := LEAST(seconds OPERATOR(pg_catalog.*) 2, 0.2);
  END LOOP;
END $$;
COMMENT ON PROCEDURE prism_crypt._run_statement(text, prism_crypt._failure) IS
  'Runs a statement of _start_statement() to its end, and gives its error. Internal';

-- sql/files/progress.sql
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

-- sql/migration/names.sql
-- Names of what a migration makes beside a column, and small pieces of statements.

-- The prefix and a name, at most 63 bytes; a name that was cut ends with a part of its hash.
CREATE FUNCTION prism_crypt._side_name(prefix text, name name) RETURNS name
  LANGUAGE sql IMMUTABLE SET search_path = pg_catalog, pg_temp AS $$
  SELECT CASE
    WHEN octet_length($1 || $2::text) <= 63 THEN $1 || $2::text
    ELSE $1 || (SELECT left($2::text, max(n)) FROM generate_series(0, 63) AS n
                WHERE octet_length($1 || left($2::text, n)) <= 63 - 9) || '_' || left(md5($2::text), 8)
  END::name
$$;
COMMENT ON FUNCTION prism_crypt._side_name(text, name) IS 'The name of what stands beside something of that name. Internal';

-- Runs statements in their order.
CREATE FUNCTION prism_crypt._execute_all(statements text[]) RETURNS void
  LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  statement text;
BEGIN
  FOREACH statement IN ARRAY coalesce(statements, '{}') LOOP
    EXECUTE statement;
  END LOOP;
END $$;
COMMENT ON FUNCTION prism_crypt._execute_all(text[]) IS 'Runs statements with the caller''s rights. Internal';

-- The same under a search path, and undone if one fails. Null, or the error.
CREATE FUNCTION prism_crypt._try(statements text[], path text) RETURNS text
  LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp SET client_min_messages = error AS $$
DECLARE
  statement text;
BEGIN
  PERFORM set_config('search_path', path, true);
  FOREACH statement IN ARRAY statements LOOP
    EXECUTE statement;
  END LOOP;
  RETURN NULL;
EXCEPTION WHEN OTHERS OR assert_failure THEN
  RETURN SQLERRM;
END $$;
COMMENT ON FUNCTION prism_crypt._try(text[], text) IS 'Tries statements, and gives the error of one that fails. Internal';

-- Comment and security labels of an object, whose kind and name are given as COMMENT ON takes them.
CREATE FUNCTION prism_crypt._remarks(class regclass, object oid, part integer, named text) RETURNS text[]
  LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
  SELECT ARRAY(
    SELECT format('COMMENT ON %s IS %L', $4, d.description) FROM pg_description AS d
    WHERE d.classoid = $1 AND d.objoid = $2 AND d.objsubid = $3)
  || ARRAY(
    SELECT format('SECURITY LABEL FOR %I ON %s IS %L', l.provider, $4, l.label) FROM pg_seclabel AS l
    WHERE l.classoid = $1 AND l.objoid = $2 AND l.objsubid = $3 ORDER BY l.provider)
$$;
COMMENT ON FUNCTION prism_crypt._remarks(regclass, oid, integer, text) IS
  'What makes the comment and the security labels of an object again. Internal';

-- As another role, if it was another role that granted something.
CREATE FUNCTION prism_crypt._as_role(role oid, statement text) RETURNS text[]
  LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
  SELECT ARRAY[format('SET LOCAL ROLE %I', pg_get_userbyid($1)), $2,
    CASE current_setting('role') WHEN 'none' THEN 'SET LOCAL ROLE NONE' ELSE format('SET LOCAL ROLE %I', current_user) END]
$$;
COMMENT ON FUNCTION prism_crypt._as_role(oid, text) IS 'A statement that is run as another role. Internal';

CREATE FUNCTION prism_crypt._with_option(grantable boolean) RETURNS text
  LANGUAGE sql IMMUTABLE SET search_path = pg_catalog, pg_temp AS $$
  SELECT CASE WHEN $1 THEN ' WITH GRANT OPTION' ELSE '' END
$$;
COMMENT ON FUNCTION prism_crypt._with_option(boolean) IS 'The end of a GRANT. Internal';

-- A role as GRANT and REVOKE take it.
CREATE FUNCTION prism_crypt._grantee(role oid) RETURNS text
  LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
  SELECT CASE $1 WHEN 0 THEN 'PUBLIC' ELSE quote_ident(pg_get_userbyid($1)) END
$$;
COMMENT ON FUNCTION prism_crypt._grantee(oid) IS 'A role as GRANT takes it. Internal';

-- The owner's grants come first, then those that others made with a grant option.
CREATE FUNCTION prism_crypt._grants(acl aclitem[], owner oid, target text, quoted_column text DEFAULT NULL) RETURNS text[]
  LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  one record;
  granted text;
  statements text[] := '{}';
BEGIN
  FOR one IN
    SELECT a.grantor, a.grantee, a.is_grantable,
           string_agg(a.privilege_type || coalesce(' (' || quoted_column || ')', ''), ', ' ORDER BY a.privilege_type) AS privileges
    FROM aclexplode(acl) AS a
    GROUP BY a.grantor, a.grantee, a.is_grantable
    ORDER BY a.grantor <> owner, a.is_grantable DESC, a.grantor, a.grantee
  LOOP
    granted := format('GRANT %s ON TABLE %s TO %s%s', one.privileges, target,
                      prism_crypt._grantee(one.grantee), prism_crypt._with_option(one.is_grantable));
    statements := statements || CASE WHEN one.grantor = owner THEN ARRAY[granted]
                                     ELSE prism_crypt._as_role(one.grantor, granted) END;
  END LOOP;
  RETURN statements;
END $$;
COMMENT ON FUNCTION prism_crypt._grants(aclitem[], oid, text, text) IS
  'What grants the rights to a table or column again. Internal';

CREATE FUNCTION prism_crypt._options(options text[]) RETURNS text
  LANGUAGE sql IMMUTABLE SET search_path = pg_catalog, pg_temp AS $$
  SELECT string_agg(format('%I = %L', split_part(o, '=', 1), substr(o, strpos(o, '=') + 1)), ', ') FROM unnest($1) AS o
$$;
COMMENT ON FUNCTION prism_crypt._options(text[]) IS 'Storage parameters or options of a view, as WITH takes them. Internal';

-- Statistics target, options, storage and compression of a column. The last two belong to a type, so a column that changes its
-- type does not keep them.
CREATE FUNCTION prism_crypt._column_settings(relation regclass, attnum smallint, altered text, with_storage boolean) RETURNS text[]
  LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
  SELECT ARRAY(
    SELECT format('%s ALTER COLUMN %I %s', $3, a.attname, s.change)
    FROM pg_attribute AS a JOIN pg_type AS t ON t.oid = a.atttypid
    -- By 17 a target that is not set is null; before, it is -1.
    CROSS JOIN LATERAL (VALUES
      (CASE WHEN a.attstattarget >= 0 THEN format('SET STATISTICS %s', a.attstattarget) END),
      -- There are no others that are set by ALTER TABLE.
      ('SET (' || prism_crypt._options(ARRAY(
         SELECT o FROM unnest(a.attoptions) AS o WHERE split_part(o, '=', 1) IN ('n_distinct', 'n_distinct_inherited'))) || ')'),
      (CASE WHEN with_storage AND a.attstorage <> t.typstorage THEN 'SET STORAGE ' ||
         CASE a.attstorage WHEN 'p' THEN 'PLAIN' WHEN 'e' THEN 'EXTERNAL' WHEN 'm' THEN 'MAIN' ELSE 'EXTENDED' END END),
      (CASE WHEN with_storage AND a.attcompression <> '' THEN 'SET COMPRESSION ' ||
         CASE a.attcompression WHEN 'l' THEN 'lz4' ELSE 'pglz' END END)
    ) AS s (change)
    WHERE a.attrelid = $1 AND a.attnum = $2 AND s.change IS NOT NULL)
$$;
COMMENT ON FUNCTION prism_crypt._column_settings(regclass, smallint, text, boolean) IS
  'What gives a column its statistics target and options again. Internal';

-- Puts a clause for the tablespace into the definition of an index: pg_get_indexdef() leaves it out.
CREATE FUNCTION prism_crypt._with_tablespace(definition text, index oid, predicate text) RETURNS text
  LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
  SELECT coalesce(
    (SELECT left($1, length($1) - length(p.tail)) || format(' TABLESPACE %I', t.spcname) || p.tail
     FROM pg_class AS c JOIN pg_tablespace AS t ON t.oid = c.reltablespace
     CROSS JOIN LATERAL (SELECT coalesce(' WHERE ' || $3, '')) AS p (tail)
     WHERE c.oid = $2 AND right($1, length(p.tail)) = p.tail), $1)
$$;
COMMENT ON FUNCTION prism_crypt._with_tablespace(text, oid, text) IS 'The definition of an index with its tablespace. Internal';

-- What a new index does not have yet: statistics targets of its expressions, comment.
CREATE FUNCTION prism_crypt._index_settings(index oid, named text) RETURNS text[]
  LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
  SELECT ARRAY(
    SELECT format('ALTER INDEX %s ALTER COLUMN %s SET STATISTICS %s', $2, a.attnum, a.attstattarget)
    FROM pg_attribute AS a WHERE a.attrelid = $1 AND a.attstattarget >= 0 AND a.attnum > 0 ORDER BY a.attnum)
  || prism_crypt._remarks('pg_class', $1, 0, format('INDEX %s', $2))
$$;
COMMENT ON FUNCTION prism_crypt._index_settings(oid, text) IS 'What gives an index its settings and comment again. Internal';

-- After all others, because triggers fire in the order of their names.
CREATE FUNCTION prism_crypt._trigger_name(id bigint) RETURNS name
  LANGUAGE sql IMMUTABLE SET search_path = pg_catalog, pg_temp AS $$ SELECT format('~prism_crypt_%s', $1)::name $$;
COMMENT ON FUNCTION prism_crypt._trigger_name(bigint) IS 'The name of a migration''s triggers. Internal';

-- The order in which PostgreSQL locks a table and its partitions for statements.
CREATE FUNCTION prism_crypt._lock_tree(relation regclass) RETURNS void
  LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
  EXECUTE format('LOCK TABLE %s IN ACCESS EXCLUSIVE MODE', prism_crypt._qualified_name(relation));
END $$;
COMMENT ON FUNCTION prism_crypt._lock_tree(regclass) IS 'Locks a table with its partitions and children. Internal';

-- sql/migration/definitions.sql
-- Definitions as PostgreSQL writes them.

-- With the search path 'pg_catalog, pg_temp' every name comes out qualified. With the schemas of a table and its views on the path
-- their names come out bare, so that a copy of the same name can take the place of the table. Nothing here may be looked up by an
-- unqualified name once the path is set.
CREATE FUNCTION prism_crypt._definition(kind text, object oid, path text) RETURNS text
  LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  -- Names are qualified where the path does not show them, and with "pretty" also where it does.
  bare CONSTANT boolean := path <> 'pg_catalog, pg_temp';
  answer text;
BEGIN
  CASE kind
    WHEN 'relation' THEN
      PERFORM set_config('search_path', path, true);
      answer := object::pg_catalog.regclass::pg_catalog.text;
    WHEN 'view' THEN
      PERFORM set_config('search_path', path, true);
      answer := pg_catalog.pg_get_viewdef(object, false);
    WHEN 'rule' THEN
      PERFORM set_config('search_path', path, true);
      answer := pg_catalog.pg_get_ruledef(object, bare);
    WHEN 'trigger' THEN
      PERFORM set_config('search_path', path, true);
      answer := pg_catalog.pg_get_triggerdef(object, bare);
    WHEN 'function' THEN
      PERFORM set_config('search_path', path, true);
      answer := pg_catalog.pg_get_functiondef(object);
    WHEN 'body' THEN
      PERFORM set_config('search_path', path, true);
      answer := pg_catalog.pg_get_function_sqlbody(object);
    WHEN 'statistics' THEN
      PERFORM set_config('search_path', path, true);
      answer := pg_catalog.pg_get_statisticsobjdef(object);
    WHEN 'index' THEN
      PERFORM set_config('search_path', path, true);
      answer := pg_catalog.pg_get_indexdef(object, 0, bare);
    WHEN 'constraint' THEN
      PERFORM set_config('search_path', path, true);
      answer := pg_catalog.pg_get_constraintdef(object, false);
    WHEN 'default' THEN
      PERFORM set_config('search_path', path, true);
      SELECT pg_catalog.pg_get_expr(d.adbin, d.adrelid) INTO answer
      FROM pg_catalog.pg_attrdef AS d WHERE d.oid OPERATOR(pg_catalog.=) object;
    WHEN 'using' THEN
      PERFORM set_config('search_path', path, true);
      SELECT pg_catalog.pg_get_expr(p.polqual, p.polrelid) INTO answer
      FROM pg_catalog.pg_policy AS p WHERE p.oid OPERATOR(pg_catalog.=) object;
    WHEN 'with check' THEN
      PERFORM set_config('search_path', path, true);
      SELECT pg_catalog.pg_get_expr(p.polwithcheck, p.polrelid) INTO answer
      FROM pg_catalog.pg_policy AS p WHERE p.oid OPERATOR(pg_catalog.=) object;
    WHEN 'predicate' THEN
      PERFORM set_config('search_path', path, true);
      SELECT pg_catalog.pg_get_expr(i.indpred, i.indrelid) INTO answer
      FROM pg_catalog.pg_index AS i WHERE i.indexrelid OPERATOR(pg_catalog.=) object;
  END CASE;
  RETURN answer;
END $$;
COMMENT ON FUNCTION prism_crypt._definition(text, oid, text) IS
  'The definition of an object, with names as a search path makes them. Internal';

CREATE TYPE prism_crypt._dependant AS (
  -- "drops" run in this order, before the swap; "creates" run in the reverse order of the dependants, after it. Within a
  -- dependant, both run as they stand.
  ordinal  integer,
  kind     text,
  identity text,
  drops    text[],
  creates  text[],
  -- Null if it is carried over; otherwise why not, and what would unblock it (null: there is no such statement).
  blocks   text,
  unblock  text,
  -- What to know about it anyway.
  note     text,
  -- What it is, where it has an OID.
  class    regclass,
  object   oid,
  -- What is tried on copies, and the table or view whose copy it changes.
  trial    text[],
  target   regclass
);
COMMENT ON TYPE prism_crypt._dependant IS 'What touches a column that is to be migrated. Internal';

-- Whether a relation is named without its schema, so that a copy in the temporary schema takes its place.
CREATE FUNCTION prism_crypt._is_bare(relation oid, trial_path text) RETURNS boolean
  LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
  SELECT prism_crypt._definition('relation', $1, $2) = quote_ident(c.relname) FROM pg_class AS c WHERE c.oid = $1
$$;
COMMENT ON FUNCTION prism_crypt._is_bare(oid, text) IS 'Whether a path shows a relation. Internal';

CREATE FUNCTION prism_crypt._is_superuser() RETURNS boolean
  LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
  SELECT r.rolsuper FROM pg_roles AS r WHERE r.rolname = current_user
$$;
COMMENT ON FUNCTION prism_crypt._is_superuser() IS
  'Whether the current role is a superuser: the setting is_superuser may be another''s. Internal';

-- Null if the current role may drop what a role owns and make it again; otherwise why not.
CREATE FUNCTION prism_crypt._owner_block(owner oid) RETURNS text
  LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
  SELECT format('it belongs to role "%s", whose rights role "%s" does not have: migrate as a role that has both',
                pg_get_userbyid($1), current_user)
  WHERE NOT pg_has_role($1, 'USAGE')
$$;
COMMENT ON FUNCTION prism_crypt._owner_block(oid) IS 'Why the current role can''t make an object of another role again. Internal';

CREATE FUNCTION prism_crypt._extension_of(class regclass, object oid) RETURNS name
  LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
  SELECT e.extname FROM pg_depend AS d JOIN pg_extension AS e ON e.oid = d.refobjid
  WHERE d.classid = $1 AND d.objid = $2 AND d.refclassid = 'pg_extension'::regclass AND d.deptype = 'e'
$$;
COMMENT ON FUNCTION prism_crypt._extension_of(regclass, oid) IS 'The extension that an object belongs to. Internal';

-- Whether a role may call the extension's functions of a name.
CREATE FUNCTION prism_crypt._may_call(role oid, function_name name) RETURNS boolean
  LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
  SELECT coalesce(bool_and(has_function_privilege($1, p.oid, 'EXECUTE')), false)
  FROM prism_crypt._members('pg_proc') AS m (oid) JOIN pg_proc AS p ON p.oid = m.oid WHERE p.proname = $2
$$;
COMMENT ON FUNCTION prism_crypt._may_call(oid, name) IS 'Whether a role may call functions of the extension. Internal';

-- sql/migration/views.sql
-- Views and materialized views that show a column: dropped, and made again with everything that they have.

-- What ALTER DEFAULT PRIVILEGES gives to a new table of the current role is taken away again.
CREATE FUNCTION prism_crypt._without_default_grants(schema oid, target text) RETURNS text[]
  LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
  SELECT ARRAY(
    SELECT DISTINCT format('REVOKE ALL ON TABLE %s FROM %s', $2, prism_crypt._grantee(a.grantee))
    FROM pg_default_acl AS d CROSS JOIN aclexplode(d.defaclacl) AS a
    WHERE d.defaclobjtype = 'r' AND d.defaclrole = current_user::regrole AND d.defaclnamespace IN (0, $1)
      AND a.grantee <> d.defaclrole)
$$;
COMMENT ON FUNCTION prism_crypt._without_default_grants(oid, text) IS 'What takes default privileges away. Internal';

CREATE FUNCTION prism_crypt._view_columns(view pg_class, named text, altered text) RETURNS text[]
  LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  one record;
  statements text[] := '{}';
BEGIN
  FOR one IN
    SELECT a.attnum, a.attname, a.attacl, d.oid AS default_oid
    FROM pg_attribute AS a LEFT JOIN pg_attrdef AS d ON d.adrelid = a.attrelid AND d.adnum = a.attnum
    WHERE a.attrelid = view.oid AND a.attnum > 0 AND NOT a.attisdropped ORDER BY a.attnum
  LOOP
    IF one.default_oid IS NOT NULL THEN
      statements := statements || format('%s ALTER COLUMN %I SET DEFAULT %s', altered, one.attname,
                                         prism_crypt._definition('default', one.default_oid, 'pg_catalog, pg_temp'));
    END IF;
    statements := statements
      || CASE WHEN view.relkind = 'm' THEN prism_crypt._column_settings(view.oid, one.attnum, altered, true) ELSE '{}' END
      || prism_crypt._remarks('pg_class', view.oid, one.attnum, format('COLUMN %s.%I', named, one.attname))
      || prism_crypt._grants(one.attacl, view.relowner, named, quote_ident(one.attname));
  END LOOP;
  RETURN statements;
END $$;
COMMENT ON FUNCTION prism_crypt._view_columns(pg_class, text, text) IS
  'What gives the columns of a view their defaults, rights and comments again. Internal';

CREATE FUNCTION prism_crypt._view_indexes(view oid) RETURNS text[]
  LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  path CONSTANT text := 'pg_catalog, pg_temp';
  one record;
  named text;
  statements text[] := '{}';
BEGIN
  FOR one IN
    SELECT i.indexrelid, i.indisclustered, c.relname FROM pg_index AS i JOIN pg_class AS c ON c.oid = i.indexrelid
    WHERE i.indrelid = view ORDER BY c.relname
  LOOP
    named := prism_crypt._qualified_name(one.indexrelid);
    statements := statements
      || prism_crypt._with_tablespace(prism_crypt._definition('index', one.indexrelid, path), one.indexrelid,
                                      prism_crypt._definition('predicate', one.indexrelid, path))
      || prism_crypt._index_settings(one.indexrelid, named)
      || CASE WHEN one.indisclustered
              THEN ARRAY[format('ALTER MATERIALIZED VIEW %s CLUSTER ON %I', prism_crypt._qualified_name(view), one.relname)]
              ELSE '{}' END;
  END LOOP;
  RETURN statements;
END $$;
COMMENT ON FUNCTION prism_crypt._view_indexes(oid) IS 'What gives a materialized view its indexes again. Internal';

-- A temporary table for a materialized view, because those are never temporary. It gets the indexes, too, if it can have the same
-- owner: PostgreSQL computes their expressions with the owner's rights.
CREATE FUNCTION prism_crypt._view_trial(own pg_class, trial_path text) RETURNS text[]
  LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  definition CONSTANT text := rtrim(prism_crypt._definition('view', own.oid, trial_path), ';');
  is_own CONSTANT boolean := own.relowner = current_user::regrole;
  trial text[];
BEGIN
  IF NOT prism_crypt._is_bare(own.oid, trial_path) THEN
    RETURN NULL;
  ELSIF own.relkind = 'v' THEN
    RETURN ARRAY[format('CREATE TEMPORARY VIEW %I AS %s', own.relname, definition)];
  END IF;
  trial := ARRAY[format('CREATE TEMPORARY TABLE %I AS %s WITH NO DATA', own.relname, definition)];
  IF is_own OR prism_crypt._is_superuser() THEN
    trial := trial
      || CASE WHEN is_own THEN '{}'
              ELSE ARRAY[format('ALTER TABLE pg_temp.%I OWNER TO %I', own.relname, pg_get_userbyid(own.relowner))] END
      || ARRAY(SELECT prism_crypt._definition('index', i.indexrelid, trial_path) FROM pg_index AS i WHERE i.indrelid = own.oid);
  END IF;
  RETURN trial;
END $$;
COMMENT ON FUNCTION prism_crypt._view_trial(pg_class, text) IS 'What makes a view in the temporary schema. Internal';

CREATE FUNCTION prism_crypt._view_dependant(view oid, trial_path text) RETURNS prism_crypt._dependant
  LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  path CONSTANT text := 'pg_catalog, pg_temp';
  own pg_class;
  word text;
  named CONSTANT text := prism_crypt._qualified_name(view);
  answer prism_crypt._dependant;
  extension CONSTANT name := prism_crypt._extension_of('pg_class', view);
BEGIN
  SELECT * INTO own FROM pg_class WHERE oid = view;
  word := CASE own.relkind WHEN 'm' THEN 'MATERIALIZED VIEW' ELSE 'VIEW' END;
  answer.kind := lower(word);
  answer.identity := named;
  answer.class := 'pg_class';
  answer.object := view;
  answer.drops := ARRAY[format('DROP %s %s', word, named)];
  -- A materialized view belongs to its owner before anything is computed for it.
  answer.creates := ARRAY[format('CREATE %s %s%s%s%s AS %s%s', word, named,
      CASE WHEN own.relkind = 'm' THEN (SELECT format(' USING %I', m.amname) FROM pg_am AS m WHERE m.oid = own.relam) END,
      ' WITH (' || prism_crypt._options(own.reloptions) || ')',
      (SELECT format(' TABLESPACE %I', t.spcname) FROM pg_tablespace AS t WHERE t.oid = own.reltablespace),
      rtrim(prism_crypt._definition('view', view, path), ';'),
      CASE WHEN own.relkind = 'm' THEN ' WITH NO DATA' END)]
    || CASE WHEN own.relowner <> current_user::regrole
            THEN ARRAY[format('ALTER %s %s OWNER TO %I', word, named, pg_get_userbyid(own.relowner))] ELSE '{}' END
    || prism_crypt._without_default_grants(own.relnamespace, named)
    || CASE WHEN own.relacl IS NOT NULL
            THEN ARRAY[format('REVOKE ALL ON TABLE %s FROM %I', named, pg_get_userbyid(own.relowner))]
                 || prism_crypt._grants(own.relacl, own.relowner, named) ELSE '{}' END
    || prism_crypt._view_columns(own, named, format('ALTER %s %s', word, named))
    || prism_crypt._remarks('pg_class', view, 0, format('%s %s', word, named))
    || CASE WHEN own.relkind = 'm' THEN prism_crypt._view_indexes(view) ELSE '{}' END
    || CASE WHEN own.relkind = 'm' AND own.relispopulated THEN ARRAY[format('REFRESH MATERIALIZED VIEW %s', named)] ELSE '{}' END;
  answer.trial := prism_crypt._view_trial(own, trial_path);
  IF own.relkind = 'm' AND own.relispopulated THEN
    answer.note := format('it is filled again while the table is locked, with the rights of its owner "%s"',
                          pg_get_userbyid(own.relowner));
  END IF;
  IF own.relpersistence = 't' THEN
    answer.blocks := 'it is a temporary view of a session';
    answer.unblock := answer.drops[1];
  ELSIF extension IS NOT NULL THEN
    answer.blocks := format('it belongs to extension "%s"', extension);
    answer.unblock := format('ALTER EXTENSION %I DROP %s %s', extension, word, named);
  ELSE
    answer.blocks := prism_crypt._owner_block(own.relowner);
    IF answer.blocks IS NULL AND NOT has_schema_privilege(own.relnamespace, 'CREATE') THEN
      answer.blocks := format('role "%s" may not create anything in schema "%s"', current_user, own.relnamespace::regnamespace);
      answer.unblock := format('GRANT CREATE ON SCHEMA %s TO %I', own.relnamespace::regnamespace, current_user);
    ELSIF answer.blocks IS NULL AND NOT has_schema_privilege(own.relowner, own.relnamespace, 'CREATE') THEN
      answer.blocks := format('its owner "%s" may not create anything in schema "%s"', pg_get_userbyid(own.relowner),
                              own.relnamespace::regnamespace);
      answer.unblock := format('GRANT CREATE ON SCHEMA %s TO %I', own.relnamespace::regnamespace, pg_get_userbyid(own.relowner));
    END IF;
  END IF;
  RETURN answer;
END $$;
COMMENT ON FUNCTION prism_crypt._view_dependant(oid, text) IS 'How a view is dropped and made again. Internal';

-- sql/migration/expressions.sql
-- What holds an expression over a column, or names it: rules, triggers, policies, statistics, functions whose bodies are parsed.

CREATE FUNCTION prism_crypt._rule_dependant(rule oid, trial_path text) RETURNS prism_crypt._dependant
  LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  own pg_rewrite;
  named text;
  answer prism_crypt._dependant;
BEGIN
  SELECT * INTO own FROM pg_rewrite WHERE oid = rule;
  named := prism_crypt._qualified_name(own.ev_class);
  answer.kind := 'rule';
  answer.identity := format('%I on %s', own.rulename, named);
  answer.class := 'pg_rewrite';
  answer.object := rule;
  answer.drops := ARRAY[format('DROP RULE %I ON %s', own.rulename, named)];
  answer.creates := prism_crypt._definition('rule', rule, 'pg_catalog, pg_temp')
    || CASE own.ev_enabled WHEN 'O' THEN '{}' ELSE ARRAY[format('ALTER TABLE %s %s RULE %I', named,
         CASE own.ev_enabled WHEN 'D' THEN 'DISABLE' WHEN 'R' THEN 'ENABLE REPLICA' ELSE 'ENABLE ALWAYS' END, own.rulename)] END
    || prism_crypt._remarks('pg_rewrite', rule, 0, format('RULE %I ON %s', own.rulename, named));
  answer.trial := ARRAY[prism_crypt._definition('rule', rule, trial_path)];
  answer.target := own.ev_class;
  answer.blocks := prism_crypt._owner_block((SELECT c.relowner FROM pg_class AS c WHERE c.oid = own.ev_class));
  answer.unblock := CASE WHEN answer.blocks IS NULL THEN answer.drops[1] END;
  RETURN answer;
END $$;
COMMENT ON FUNCTION prism_crypt._rule_dependant(oid, text) IS 'How a rule is dropped and made again. Internal';

-- The clones that partitions have come and go with it, but may be enabled otherwise.
CREATE FUNCTION prism_crypt._trigger_states(trigger oid) RETURNS text[]
  LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
  WITH RECURSIVE family (oid) AS (
    SELECT $1
    UNION
    SELECT t.oid FROM family AS f JOIN pg_trigger AS t ON t.tgparentid = f.oid
  )
  SELECT ARRAY(
    SELECT format('ALTER TABLE ONLY %s %s TRIGGER %I', prism_crypt._qualified_name(t.tgrelid),
                  CASE t.tgenabled WHEN 'D' THEN 'DISABLE' WHEN 'R' THEN 'ENABLE REPLICA' WHEN 'A' THEN 'ENABLE ALWAYS'
                                   ELSE 'ENABLE' END, t.tgname)
    FROM family AS f JOIN pg_trigger AS t ON t.oid = f.oid
    -- A clone begins as its parent was when it was made: enabled.
    WHERE t.tgenabled <> 'O'
    ORDER BY t.oid <> $1, t.oid)
$$;
COMMENT ON FUNCTION prism_crypt._trigger_states(oid) IS 'What enables or disables a trigger as it was. Internal';

CREATE FUNCTION prism_crypt._trigger_dependant(trigger oid, trial_path text) RETURNS prism_crypt._dependant
  LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  own pg_trigger;
  named text;
  answer prism_crypt._dependant;
BEGIN
  SELECT * INTO own FROM pg_trigger WHERE oid = trigger;
  named := prism_crypt._qualified_name(own.tgrelid);
  answer.kind := 'trigger';
  answer.identity := format('%I on %s', own.tgname, named);
  answer.class := 'pg_trigger';
  answer.object := trigger;
  answer.drops := ARRAY[format('DROP TRIGGER %I ON %s', own.tgname, named)];
  answer.creates := prism_crypt._definition('trigger', trigger, 'pg_catalog, pg_temp') || prism_crypt._trigger_states(trigger)
    || prism_crypt._remarks('pg_trigger', trigger, 0, format('TRIGGER %I ON %s', own.tgname, named))
    || ARRAY(SELECT format('ALTER TRIGGER %I ON %s DEPENDS ON EXTENSION %I', own.tgname, named, e.extname)
             FROM pg_depend AS d JOIN pg_extension AS e ON e.oid = d.refobjid
             WHERE d.classid = 'pg_trigger'::regclass AND d.objid = trigger AND d.deptype = 'x');
  answer.trial := ARRAY[prism_crypt._definition('trigger', trigger, trial_path)];
  answer.target := own.tgrelid;
  answer.blocks := prism_crypt._owner_block((SELECT c.relowner FROM pg_class AS c WHERE c.oid = own.tgrelid));
  IF answer.blocks IS NULL AND NOT has_function_privilege(own.tgfoid, 'EXECUTE') THEN
    answer.blocks := format('role "%s" may not execute its function %s', current_user, own.tgfoid::regprocedure);
    answer.unblock := format('GRANT EXECUTE ON FUNCTION %s TO %I', own.tgfoid::regprocedure, current_user);
  ELSIF answer.blocks IS NULL THEN
    answer.unblock := answer.drops[1];
  END IF;
  RETURN answer;
END $$;
COMMENT ON FUNCTION prism_crypt._trigger_dependant(oid, text) IS 'How a trigger is dropped and made again. Internal';

CREATE FUNCTION prism_crypt._policy_dependant(policy oid, trial_path text) RETURNS prism_crypt._dependant
  LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  path CONSTANT text := 'pg_catalog, pg_temp';
  own pg_policy;
  named text;
  answer prism_crypt._dependant;
BEGIN
  SELECT * INTO own FROM pg_policy WHERE oid = policy;
  named := prism_crypt._qualified_name(own.polrelid);
  answer.kind := 'policy';
  answer.identity := format('%I on %s', own.polname, named);
  answer.class := 'pg_policy';
  answer.object := policy;
  answer.drops := ARRAY[format('DROP POLICY %I ON %s', own.polname, named)];
  answer.creates := format('CREATE POLICY %I ON %s AS %s FOR %s TO %s%s%s', own.polname, named,
      CASE WHEN own.polpermissive THEN 'PERMISSIVE' ELSE 'RESTRICTIVE' END,
      CASE own.polcmd WHEN 'r' THEN 'SELECT' WHEN 'a' THEN 'INSERT' WHEN 'w' THEN 'UPDATE' WHEN 'd' THEN 'DELETE' ELSE 'ALL' END,
      (SELECT string_agg(CASE r.role WHEN 0 THEN 'PUBLIC' ELSE quote_ident(pg_get_userbyid(r.role)) END, ', ' ORDER BY r.number)
       FROM unnest(own.polroles) WITH ORDINALITY AS r (role, number)),
      ' USING (' || prism_crypt._definition('using', policy, path) || ')',
      ' WITH CHECK (' || prism_crypt._definition('with check', policy, path) || ')')
    || prism_crypt._remarks('pg_policy', policy, 0, format('POLICY %I ON %s', own.polname, named));
  -- As the condition of a view, which locks no table of others.
  answer.trial := ARRAY[format('CREATE TEMPORARY VIEW prism_crypt_trial_%s AS SELECT FROM %s WHERE (%s) AND (%s)', policy,
      prism_crypt._definition('relation', own.polrelid, trial_path),
      coalesce(prism_crypt._definition('using', policy, trial_path), 'true'),
      coalesce(prism_crypt._definition('with check', policy, trial_path), 'true'))];
  answer.blocks := prism_crypt._owner_block((SELECT c.relowner FROM pg_class AS c WHERE c.oid = own.polrelid));
  answer.unblock := CASE WHEN answer.blocks IS NULL THEN answer.drops[1] END;
  RETURN answer;
END $$;
COMMENT ON FUNCTION prism_crypt._policy_dependant(oid, text) IS 'How a policy is dropped and made again. Internal';

CREATE FUNCTION prism_crypt._statistics_dependant(object oid, trial_path text) RETURNS prism_crypt._dependant
  LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  own pg_statistic_ext;
  named text;
  definition text;
  answer prism_crypt._dependant;
BEGIN
  SELECT * INTO own FROM pg_statistic_ext WHERE oid = object;
  named := format('%I.%I', own.stxnamespace::regnamespace::name, own.stxname);
  answer.kind := 'statistics';
  answer.identity := named;
  answer.class := 'pg_statistic_ext';
  answer.object := object;
  answer.drops := ARRAY[format('DROP STATISTICS %s', named)];
  answer.creates := prism_crypt._definition('statistics', object, 'pg_catalog, pg_temp')
    || CASE WHEN own.stxowner <> current_user::regrole
            THEN ARRAY[format('ALTER STATISTICS %s OWNER TO %I', named, pg_get_userbyid(own.stxowner))] ELSE '{}' END
    || CASE WHEN own.stxstattarget >= 0
            THEN ARRAY[format('ALTER STATISTICS %s SET STATISTICS %s', named, own.stxstattarget)] ELSE '{}' END
    || prism_crypt._remarks('pg_statistic_ext', object, 0, format('STATISTICS %s', named));
  -- It names itself with its schema, in which it exists.
  definition := prism_crypt._definition('statistics', object, trial_path);
  IF starts_with(definition, 'CREATE STATISTICS ' || named) THEN
    answer.trial := ARRAY[format('CREATE STATISTICS pg_temp.%I', own.stxname)
                          || substr(definition, length('CREATE STATISTICS ' || named) + 1)];
    answer.target := own.stxrelid;
  END IF;
  answer.blocks := prism_crypt._owner_block(own.stxowner);
  answer.unblock := CASE WHEN answer.blocks IS NULL THEN answer.drops[1] END;
  RETURN answer;
END $$;
COMMENT ON FUNCTION prism_crypt._statistics_dependant(oid, text) IS 'How a statistics object is dropped and made again. Internal';

-- A function in SQL whose body was parsed when it was made. It is not dropped, because it may have dependants of its own: until
-- the swap is over it has an empty body. One that takes or returns rows of a view can't be kept.
CREATE FUNCTION prism_crypt._function_dependant(function oid, trial_path text) RETURNS prism_crypt._dependant
  LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  path CONSTANT text := 'pg_catalog, pg_temp';
  own pg_proc;
  definition text;
  body text;
  head text;
  named CONSTANT text := (SELECT format('%I.%I(', n.nspname, p.proname) FROM pg_proc AS p JOIN pg_namespace AS n
                          ON n.oid = p.pronamespace WHERE p.oid = function);
  extension CONSTANT name := prism_crypt._extension_of('pg_proc', function);
  answer prism_crypt._dependant;
BEGIN
  SELECT * INTO own FROM pg_proc WHERE oid = function;
  answer.kind := 'function';
  answer.identity := function::regprocedure::text;
  answer.class := 'pg_proc';
  answer.object := function;
  answer.unblock := format('DROP ROUTINE %s', function::regprocedure);
  body := prism_crypt._definition('body', function, path);
  IF extension IS NOT NULL THEN
    answer.blocks := format('it belongs to extension "%s"', extension);
    answer.unblock := format('ALTER EXTENSION %I DROP ROUTINE %s', extension, function::regprocedure);
  ELSIF body IS NULL THEN
    answer.blocks := 'it takes or returns rows of a view that has to be made again';
  ELSE
    definition := rtrim(prism_crypt._definition('function', function, path), E'\n');
    head := left(definition, length(definition) - length(body));
    IF definition <> head || body THEN
      answer.blocks := 'its definition can''t be taken apart';
    ELSE
      answer.blocks := prism_crypt._owner_block(own.proowner);
      answer.unblock := CASE WHEN answer.blocks IS NULL THEN answer.unblock END;
    END IF;
    -- An empty body would be refused where something is to be returned.
    answer.drops := ARRAY['SET LOCAL check_function_bodies = off', head || 'AS ''''',
                          format('SET LOCAL check_function_bodies = %L', current_setting('check_function_bodies'))];
    answer.creates := ARRAY[definition];
    -- Under its name in the temporary schema, so that the function itself is not touched.
    definition := prism_crypt._definition('function', function, trial_path);
    answer.trial := ARRAY[overlay(definition PLACING format('pg_temp.%I(', own.proname)
                                  FROM strpos(definition, named) FOR length(named))];
  END IF;
  RETURN answer;
END $$;
COMMENT ON FUNCTION prism_crypt._function_dependant(oid, text) IS 'How a function gets its body again. Internal';

-- sql/migration/column.sql
-- What a column has itself, and what does not let go of it.

CREATE FUNCTION prism_crypt._dependant(
  kind text, identity text, drops text[] DEFAULT '{}', creates text[] DEFAULT '{}', blocks text DEFAULT NULL,
  unblock text DEFAULT NULL, note text DEFAULT NULL, trial text[] DEFAULT NULL, target regclass DEFAULT NULL
) RETURNS prism_crypt._dependant
  LANGUAGE sql IMMUTABLE SET search_path = pg_catalog, pg_temp AS $$
  SELECT ROW(NULL, $1, $2, $3, $4, $5, $6, $7, NULL, NULL, $8, $9)::prism_crypt._dependant
$$;
COMMENT ON FUNCTION prism_crypt._dependant(text, text, text[], text[], text, text, text, text[], regclass) IS
  'One thing that touches a column. Internal';

-- The members of a table's tree that have the column, with its number in each.
CREATE FUNCTION prism_crypt._column_members(
  relation regclass, column_name name, OUT member oid, OUT relkind "char", OUT attnum smallint
) RETURNS SETOF record
  LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
  SELECT t.member, t.relkind, a.attnum
  FROM prism_crypt._table_tree($1) AS t
  JOIN pg_attribute AS a ON a.attrelid = t.member AND a.attname = $2 AND a.attnum > 0 AND NOT a.attisdropped
  ORDER BY t.member <> $1, t.member
$$;
COMMENT ON FUNCTION prism_crypt._column_members(regclass, name) IS 'The tables of a tree that have a column. Internal';

-- Default, comment, rights, labels, options: the new column gets what the old one had. The old one only loses its default.
CREATE FUNCTION prism_crypt._column_properties(member oid, attnum smallint, trial_path text) RETURNS SETOF prism_crypt._dependant
  LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_variable
DECLARE
  named CONSTANT text := prism_crypt._qualified_name(member);
  own pg_attribute;
  owner CONSTANT oid := (SELECT c.relowner FROM pg_class AS c WHERE c.oid = member);
  default_oid oid;
  whole text;
  statements text[];
  one record;
BEGIN
  SELECT * INTO own FROM pg_attribute AS a WHERE a.attrelid = member AND a.attnum = attnum;
  whole := format('%s.%I', named, own.attname);
  SELECT d.oid INTO default_oid FROM pg_attrdef AS d WHERE d.adrelid = member AND d.adnum = attnum;
  IF own.attgenerated <> '' THEN
    RETURN NEXT prism_crypt._dependant('generated column', whole, blocks => 'the column itself is generated',
      unblock => format('ALTER TABLE %s ALTER COLUMN %I DROP EXPRESSION', named, own.attname));
  ELSIF own.attidentity <> '' THEN
    RETURN NEXT prism_crypt._dependant('identity', whole, blocks => 'only integers can be an identity',
      unblock => format('ALTER TABLE %s ALTER COLUMN %I DROP IDENTITY', named, own.attname));
  ELSIF default_oid IS NOT NULL THEN
    RETURN NEXT prism_crypt._dependant('default', whole,
      drops => ARRAY[format('ALTER TABLE ONLY %s ALTER COLUMN %I DROP DEFAULT', named, own.attname)],
      creates => ARRAY[format('ALTER TABLE ONLY %s ALTER COLUMN %I SET DEFAULT %s', named, own.attname,
                              prism_crypt._definition('default', default_oid, 'pg_catalog, pg_temp'))],
      unblock => format('ALTER TABLE ONLY %s ALTER COLUMN %I DROP DEFAULT', named, own.attname),
      trial => ARRAY[format('ALTER TABLE %s ALTER COLUMN %I SET DEFAULT %s',
                            prism_crypt._definition('relation', member, trial_path), own.attname,
                            prism_crypt._definition('default', default_oid, trial_path))],
      target => member);
  END IF;
  FOR one IN
    SELECT s.oid::regclass AS sequence FROM pg_depend AS d JOIN pg_class AS s ON s.oid = d.objid AND s.relkind = 'S'
    WHERE d.classid = 'pg_class'::regclass AND d.refclassid = 'pg_class'::regclass AND d.refobjid = member
      AND d.refobjsubid = attnum AND d.deptype = 'a'
  LOOP
    RETURN NEXT prism_crypt._dependant('sequence', prism_crypt._qualified_name(one.sequence),
      blocks => 'it would go away with the old column',
      unblock => format('ALTER SEQUENCE %s OWNED BY NONE', prism_crypt._qualified_name(one.sequence)));
  END LOOP;
  statements := prism_crypt._remarks('pg_class', member, attnum, format('COLUMN %s', whole));
  IF statements <> '{}' THEN
    RETURN NEXT prism_crypt._dependant('comment', whole, creates => statements);
  END IF;
  statements := prism_crypt._column_settings(member, attnum, format('ALTER TABLE ONLY %s', named), false);
  IF statements <> '{}' THEN
    RETURN NEXT prism_crypt._dependant('column options', whole, creates => statements);
  END IF;
  IF own.attacl IS NOT NULL THEN
    SELECT a.grantor INTO one FROM aclexplode(own.attacl) AS a
    WHERE a.grantor <> owner AND NOT pg_has_role(session_user, a.grantor, 'MEMBER') LIMIT 1;
    RETURN NEXT prism_crypt._dependant('column grant', whole,
      creates => prism_crypt._grants(own.attacl, owner, named, quote_ident(own.attname)),
      blocks => CASE WHEN one.grantor IS NOT NULL
                THEN format('role "%s", which is not the table''s owner, has granted some of it', pg_get_userbyid(one.grantor)) END,
      unblock => CASE WHEN one.grantor IS NOT NULL
                 THEN format('GRANT %I TO %I', pg_get_userbyid(one.grantor), session_user) END);
  END IF;
END $$;
COMMENT ON FUNCTION prism_crypt._column_properties(oid, smallint, text) IS 'What one column has itself. Internal';

-- Other columns, keys and tables that would not follow.
CREATE FUNCTION prism_crypt._column_ties(member oid, attnum smallint) RETURNS SETOF prism_crypt._dependant
  LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_variable
DECLARE
  named CONSTANT text := prism_crypt._qualified_name(member);
  one record;
BEGIN
  -- From 15 on, the expression depends on what it uses; in 14, the column itself.
  FOR one IN
    SELECT DISTINCT g.attname FROM pg_depend AS d
    LEFT JOIN pg_attrdef AS e ON d.classid = 'pg_attrdef'::regclass AND e.oid = d.objid
    JOIN pg_attribute AS g ON g.attrelid = member AND g.attgenerated <> '' AND g.attnum <> attnum
      AND (g.attnum = e.adnum OR d.classid = 'pg_class'::regclass AND d.objid = member AND d.objsubid = g.attnum)
    WHERE d.refclassid = 'pg_class'::regclass AND d.refobjid = member AND d.refobjsubid = attnum
    ORDER BY g.attname
  LOOP
    RETURN NEXT prism_crypt._dependant('generated column', format('%s.%I', named, one.attname),
      blocks => 'it is computed from the column, and would be plaintext beside it',
      unblock => format('ALTER TABLE %s DROP COLUMN %I', named, one.attname));
  END LOOP;
  FOR one IN
    SELECT c.conname, c.conrelid, c.contype, coalesce((to_jsonb(c) ->> 'conperiod')::boolean, false) AS temporal
    FROM pg_constraint AS c
    WHERE (c.conrelid = member AND attnum = ANY (c.conkey)
             AND (c.contype IN ('f', 'x') OR coalesce((to_jsonb(c) ->> 'conperiod')::boolean, false))
           OR c.contype = 'f' AND c.confrelid = member AND attnum = ANY (c.confkey))
      AND c.conparentid = 0
    ORDER BY c.conrelid, c.conname
  LOOP
    RETURN NEXT prism_crypt._dependant(
      CASE one.contype WHEN 'f' THEN 'foreign key' WHEN 'x' THEN 'exclusion constraint' ELSE 'constraint' END,
      format('%I on %s', one.conname, prism_crypt._qualified_name(one.conrelid)),
      blocks => CASE one.contype
        WHEN 'f' THEN 'it compares the column with one of another table, which would have to be encrypted in the same transaction'
        WHEN 'x' THEN 'an exclusion constraint can''t be built beside the old one without locking the table'
        ELSE 'a key over periods can''t be made from an index' END,
      unblock => format('ALTER TABLE %s DROP CONSTRAINT %I', prism_crypt._qualified_name(one.conrelid), one.conname));
  END LOOP;
  -- A column of the partition key depends on its table, so that it can't be dropped alone.
  IF EXISTS (SELECT FROM pg_depend AS d
             WHERE d.classid = 'pg_class'::regclass AND d.objid = member AND d.objsubid = attnum AND d.deptype = 'i'
               AND d.refclassid = 'pg_class'::regclass AND d.refobjid = member AND d.refobjsubid = 0) THEN
    RETURN NEXT prism_crypt._dependant('partition key', named,
      blocks => 'ciphertext has no place in a partition: partition by another column');
  END IF;
  -- Tables that hold whole rows of this one.
  FOR one IN
    SELECT c.relkind, c.oid, a.attname
    FROM pg_class AS m CROSS JOIN LATERAL prism_crypt._types_over(m.reltype) AS t
    JOIN pg_attribute AS a ON a.atttypid = t.type AND a.attnum > 0 AND NOT a.attisdropped
    JOIN pg_class AS c ON c.oid = a.attrelid
    WHERE m.oid = member AND m.reltype <> 0 AND c.relkind IN ('r', 'p', 'm', 'f') ORDER BY c.oid, a.attnum
  LOOP
    RETURN NEXT prism_crypt._dependant('type user', format('%s.%I', prism_crypt._qualified_name(one.oid), one.attname),
      blocks => 'it holds rows of the table, and plaintext would stay in them',
      unblock => CASE WHEN one.relkind IN ('r', 'p') THEN
        format('ALTER TABLE %s DROP COLUMN %I', prism_crypt._qualified_name(one.oid), one.attname) END);
  END LOOP;
  FOR one IN SELECT c.reloftype::regtype AS type FROM pg_class AS c WHERE c.oid = member AND c.reloftype <> 0 LOOP
    RETURN NEXT prism_crypt._dependant('inheritance', named, blocks => format('its columns come from type %s', one.type),
      unblock => format('ALTER TABLE %s NOT OF', named));
  END LOOP;
END $$;
COMMENT ON FUNCTION prism_crypt._column_ties(oid, smallint) IS 'What does not let a column go. Internal';

-- Parents that are not in the tree.
CREATE FUNCTION prism_crypt._inheritance_blocks(relation regclass, column_name name) RETURNS SETOF prism_crypt._dependant
  LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
  WITH tree AS MATERIALIZED (SELECT m.member FROM prism_crypt._column_members($1, $2) AS m)
  SELECT prism_crypt._dependant('inheritance', prism_crypt._qualified_name(i.inhrelid),
    blocks => format('the column is inherited from %s: begin there', prism_crypt._qualified_name(i.inhparent)))
  FROM tree AS t JOIN pg_inherits AS i ON i.inhrelid = t.member
  JOIN pg_attribute AS a ON a.attrelid = i.inhparent AND a.attname = $2 AND a.attnum > 0 AND NOT a.attisdropped
  WHERE i.inhparent NOT IN (SELECT member FROM tree)
$$;
COMMENT ON FUNCTION prism_crypt._inheritance_blocks(regclass, name) IS 'Parents from which a column is inherited. Internal';

-- sql/migration/indexes.sql
-- Indexes and constraints of a column, for a twin column of another name: what builds them beside the old ones, and what puts
-- them in the old ones' place. PostgreSQL judges, with an empty copy of the table, which of them the new type can have, and writes
-- their definitions for the other name.

CREATE TYPE prism_crypt._twin_definition AS (
  -- "build" runs in this order, each statement in a transaction of its own, once the twin is filled; "swap" in the same order, in
  -- the transaction that swaps the columns, after they were renamed; "after" once that is committed. If something of that fails, a
  -- constraint stays "not valid".
  ordinal  integer,
  -- not null, check, index, unique, primary key, domain
  kind     text,
  member   regclass,
  old_oid  oid,
  old_name name,
  -- What it is called while both exist.
  new_name name,
  -- The partitioned index that it is a part of.
  parent   oid,
  build    text[],
  swap     text[],
  -- After the swap, each statement in a transaction of its own.
  after    text[],
  -- What ALTER TABLE ... TYPE needs before and after it: an index that names a collation can't be converted.
  rewrite_drops   text[],
  rewrite_creates text[],
  blocks   text,
  unblock  text,
  note     text
);
COMMENT ON TYPE prism_crypt._twin_definition IS 'An index or constraint for the twin of a column. Internal';

-- A migration of the column may have begun, and a copy has its columns, too.
CREATE FUNCTION prism_crypt._drop_side_columns(copy regclass, column_name name) RETURNS void
  LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  other name;
BEGIN
  FOR other IN
    SELECT a.attname FROM pg_attribute AS a
    WHERE a.attrelid = copy AND a.attname IN (
      prism_crypt._side_name('prism_crypt_new_', column_name), prism_crypt._side_name('prism_crypt_old_', column_name))
  LOOP
    EXECUTE format('ALTER TABLE %s DROP COLUMN %I', copy, other);
  END LOOP;
END $$;
COMMENT ON FUNCTION prism_crypt._drop_side_columns(regclass, name) IS 'Drops from a copy what a migration has added. Internal';

-- An empty copy of a table, in the temporary schema, by the same name. The column gets the new type, if there is one; or it is
-- swapped for a twin at the end of the row, as a migration does it.
CREATE FUNCTION prism_crypt._make_copy(member oid, column_name name, new_type text, is_swapped boolean) RETURNS regclass
  LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  relname CONSTANT name := (SELECT c.relname FROM pg_class AS c WHERE c.oid = member);
  copy CONSTANT text := format('pg_temp.%I', relname);
  owner CONSTANT oid := (SELECT c.relowner FROM pg_class AS c WHERE c.oid = member);
  create_copy CONSTANT text := format('CREATE TEMPORARY TABLE %I (LIKE %s)', relname, prism_crypt._qualified_name(member));
BEGIN
  IF to_regclass(copy) IS NOT NULL THEN
    RAISE object_not_in_prerequisite_state USING
      MESSAGE = format('temporary table "%s" of this session has the name of the table', relname),
      HINT = format('Drop it: DROP TABLE %s', copy);
  END IF;
  -- It gets the owner of the table: expressions of indexes are the owner's code, and PostgreSQL computes them with the rights of
  -- the owner of the copy.
  IF owner = current_user::regrole THEN
    EXECUTE create_copy;
  ELSIF prism_crypt._is_superuser() THEN
    EXECUTE create_copy;
    EXECUTE format('ALTER TABLE %s OWNER TO %I', copy, pg_get_userbyid(owner));
  ELSE
    PERFORM prism_crypt._execute_all(prism_crypt._as_role(owner, create_copy));
  END IF;
  PERFORM prism_crypt._drop_side_columns(copy::regclass, column_name);
  IF new_type IS NULL THEN
    NULL;
  ELSIF is_swapped THEN
    EXECUTE format('ALTER TABLE %s RENAME %I TO %I', copy, column_name, prism_crypt._side_name('prism_crypt_old_', column_name));
    EXECUTE format('ALTER TABLE %s ADD %I %s', copy, column_name, new_type);
  ELSE
    EXECUTE format('ALTER TABLE %s ALTER %I TYPE %s USING NULL', copy, column_name, new_type);
  END IF;
  RETURN copy::regclass;
END $$;
COMMENT ON FUNCTION prism_crypt._make_copy(oid, name, text, boolean) IS
  'Makes an empty copy of a table with a column of another type. Internal';

-- What follows ON <table> in the definition of an index of a copy.
CREATE FUNCTION prism_crypt._index_tail(index oid) RETURNS text
  LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
  SELECT substr(rest, strpos(rest, '.') + length(quote_ident(t.relname)) + 1)
  FROM pg_index AS i JOIN pg_class AS c ON c.oid = i.indexrelid JOIN pg_class AS t ON t.oid = i.indrelid
  CROSS JOIN LATERAL (
    SELECT substr(prism_crypt._definition('index', i.indexrelid, 'pg_catalog, pg_temp'),
                  length(format('CREATE %sINDEX %I ON ', CASE WHEN i.indisunique THEN 'UNIQUE ' ELSE '' END, c.relname)) + 1)
  ) AS d (rest)
  WHERE i.indexrelid = $1
$$;
COMMENT ON FUNCTION prism_crypt._index_tail(oid) IS 'The definition of an index of a copy, after the name of the table. Internal';

-- Whether it has the column itself as a key, in the type that a copy has.
CREATE FUNCTION prism_crypt._has_encrypted_key(index oid) RETURNS boolean
  LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
  SELECT EXISTS (
    SELECT FROM pg_index AS i JOIN pg_attribute AS a ON a.attrelid = i.indexrelid AND a.attnum <= i.indnkeyatts
    WHERE i.indexrelid = $1 AND prism_crypt._holds_encrypted(a.atttypid))
$$;
COMMENT ON FUNCTION prism_crypt._has_encrypted_key(oid) IS 'Whether encrypted values are keys of an index. Internal';

-- Makes the index of a table on the copy. encrypted_text has no collations: where the definition names one for the column, it is
-- left out.
CREATE FUNCTION prism_crypt._try_index(
  index oid, column_name name, schema text, new_type text, OUT error text, OUT lost_collation boolean
) LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  definition CONSTANT text := prism_crypt._definition('index', index, 'pg_catalog, ' || schema || ', pg_temp');
  path CONSTANT text := 'pg_temp, pg_catalog, ' || schema;
  without text;
  type_says text;
  made regclass;
BEGIN
  lost_collation := false;
  error := prism_crypt._try(ARRAY[definition], path);
  IF error IS NOT NULL THEN
    -- Only where the column itself is a key, not inside of an expression.
    without := regexp_replace(definition,
      '([(,] ?)' || regexp_replace(quote_ident(column_name), '([^[:alnum:]_])', '\\\1', 'g')
        || ' COLLATE ("([^"]|"")*"|[a-z0-9_]+)(\.("([^"]|"")*"|[a-z0-9_]+))?',
      '\1' || replace(quote_ident(column_name), '\', '\\'), 'g');
    IF without <> definition AND (SELECT i.indexprs IS NULL FROM pg_index AS i WHERE i.indexrelid = index)
       AND coalesce(prism_crypt._definition('predicate', index, 'pg_catalog, pg_temp') !~ 'COLLATE', true)
       AND prism_crypt._try(ARRAY[without], path) IS NULL THEN
      error := NULL;
      lost_collation := true;
    END IF;
  END IF;
  IF error IS NULL THEN
    made := format('pg_temp.%I', (SELECT c.relname FROM pg_class AS c WHERE c.oid = index))::regclass;
    IF prism_crypt._has_encrypted_key(made) AND new_type !~ '\msearchable\M' THEN
      error := format('an index on encrypted values needs search tags: make the type searchable, not %s', new_type);
    END IF;
  END IF;
END $$;
COMMENT ON FUNCTION prism_crypt._try_index(oid, name, text, text) IS 'Makes an index of a table on its copy. Internal';

-- A column whose type is a domain becomes one of its base type, because a domain may not allow the nulls that it gets from now on.
-- That does not rewrite anything.
CREATE FUNCTION prism_crypt._twin_domain(relation oid, attnum smallint) RETURNS SETOF prism_crypt._twin_definition
  LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_variable
DECLARE
  answer prism_crypt._twin_definition;
BEGIN
  SELECT a.attname, ARRAY[format('ALTER TABLE %s ALTER COLUMN %I TYPE %s%s', prism_crypt._qualified_name(relation),
                                 prism_crypt._side_name('prism_crypt_old_', a.attname), prism_crypt._base_of_column(a.atttypid, -1),
                                 -- With another collation, indexes would be built again.
                                 (SELECT format(' COLLATE %I.%I', n.nspname, l.collname) FROM pg_collation AS l
                                  JOIN pg_namespace AS n ON n.oid = l.collnamespace WHERE l.oid = a.attcollation))]
    INTO answer.old_name, answer.swap
  FROM pg_attribute AS a JOIN pg_type AS t ON t.oid = a.atttypid
  WHERE a.attrelid = relation AND a.attnum = attnum AND t.typtype = 'd';
  IF FOUND THEN
    answer.kind := 'domain';
    answer.member := relation;
    answer.build := '{}';
    answer.note := 'the new column does not have the constraints of the domain';
    RETURN NEXT answer;
  END IF;
END $$;
COMMENT ON FUNCTION prism_crypt._twin_domain(oid, smallint) IS 'What frees an old column of its domain. Internal';

-- NOT NULL. Up to 17 it is a property of the column, and PostgreSQL does not scan the table if a valid CHECK proves it; from 18 on
-- it is a constraint with a name. Partitions and children get it from their parents.
CREATE FUNCTION prism_crypt._twin_not_null(member oid, attnum smallint, twin name) RETURNS SETOF prism_crypt._twin_definition
  LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_variable
DECLARE
  named CONSTANT text := prism_crypt._qualified_name(member);
  answer prism_crypt._twin_definition;
  own pg_attribute;
  kept name;
  constraint_ record;
BEGIN
  SELECT * INTO own FROM pg_attribute AS a WHERE a.attrelid = member AND a.attnum = attnum AND a.attnotnull;
  IF NOT FOUND THEN
    RETURN;
  END IF;
  -- On the way back it is the other one that goes.
  kept := prism_crypt._side_name('prism_crypt_old_', own.attname);
  kept := CASE twin WHEN kept THEN prism_crypt._side_name('prism_crypt_new_', own.attname) ELSE kept END;
  answer.kind := 'not null';
  answer.member := member;
  SELECT c.oid, c.conname, c.coninhcount > 0 AS is_inherited, c.connoinherit, c.convalidated INTO constraint_
  FROM pg_constraint AS c WHERE c.conrelid = member AND c.contype = 'n' AND attnum = ANY (c.conkey);
  IF FOUND THEN
    IF constraint_.is_inherited THEN
      RETURN;
    END IF;
    answer.old_oid := constraint_.oid;
    answer.old_name := constraint_.conname;
    answer.new_name := prism_crypt._side_name('prism_crypt_new_', constraint_.conname);
    answer.build := ARRAY[format('ALTER TABLE %s ADD CONSTRAINT %I NOT NULL %I%s NOT VALID', named, answer.new_name, twin,
                                 CASE WHEN constraint_.connoinherit THEN ' NO INHERIT' ELSE '' END)]
      || CASE WHEN constraint_.convalidated THEN ARRAY[format('ALTER TABLE %s VALIDATE CONSTRAINT %I', named, answer.new_name)]
              ELSE '{}' END;
    answer.swap := ARRAY[format('ALTER TABLE %s DROP CONSTRAINT %I', named, constraint_.conname),
                         format('ALTER TABLE %s RENAME CONSTRAINT %I TO %I', named, answer.new_name, constraint_.conname)]
      || prism_crypt._remarks('pg_constraint', constraint_.oid, 0, format('CONSTRAINT %I ON %s', constraint_.conname, named));
  ELSIF EXISTS (SELECT FROM pg_inherits AS i JOIN pg_attribute AS p ON p.attrelid = i.inhparent AND p.attname = own.attname
                WHERE i.inhrelid = member AND p.attnotnull) THEN
    RETURN;
  ELSE
    answer.new_name := prism_crypt._side_name('prism_crypt_new_', (own.attname || '_not_null')::name);
    answer.build := ARRAY[
      format('ALTER TABLE %s ADD CONSTRAINT %I CHECK (%I IS NOT NULL) NOT VALID', named, answer.new_name, twin),
      format('ALTER TABLE %s VALIDATE CONSTRAINT %I', named, answer.new_name),
      format('ALTER TABLE %s ALTER COLUMN %I SET NOT NULL', named, twin),
      format('ALTER TABLE %s DROP CONSTRAINT %I', named, answer.new_name)];
    answer.swap := ARRAY[format('ALTER TABLE %s ALTER COLUMN %I DROP NOT NULL', named, kept)];
  END IF;
  RETURN NEXT answer;
END $$;
COMMENT ON FUNCTION prism_crypt._twin_not_null(oid, smallint, name) IS 'NOT NULL for the twin of a column. Internal';

-- sql/migration/twins.sql
-- The indexes and constraints for a twin column, table by table.

-- What an index has once it is called as the old one was: settings, comments, marks.
CREATE FUNCTION prism_crypt._twin_index_marks(answer prism_crypt._twin_definition, one record) RETURNS text[]
  LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  named CONSTANT text := prism_crypt._qualified_name(answer.member);
BEGIN
  RETURN prism_crypt._index_settings(one.indexrelid, prism_crypt._qualified_name(one.indexrelid))
    || prism_crypt._remarks('pg_constraint', one.constraint_oid, 0, format('CONSTRAINT %I ON %s', answer.old_name, named))
    || CASE WHEN one.indisclustered THEN ARRAY[format('ALTER TABLE %s CLUSTER ON %I', named, answer.old_name)] ELSE '{}' END
    || CASE WHEN one.indisreplident
            THEN ARRAY[format('ALTER TABLE %s REPLICA IDENTITY USING INDEX %I', named, answer.old_name)] ELSE '{}' END;
END $$;
COMMENT ON FUNCTION prism_crypt._twin_index_marks(prism_crypt._twin_definition, record) IS
  'What gives an index its settings, comments and marks again. Internal';

-- Without its collation, where ALTER TABLE ... TYPE can't convert it.
CREATE FUNCTION prism_crypt._twin_index_rewrite(answer prism_crypt._twin_definition, one record, copy_index oid)
  RETURNS prism_crypt._twin_definition
  LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  named CONSTANT text := prism_crypt._qualified_name(answer.member);
BEGIN
  -- A part of a partitioned index goes and comes with it.
  IF answer.parent IS NOT NULL THEN
    RETURN answer;
  END IF;
  answer.rewrite_drops := ARRAY[CASE WHEN answer.kind = 'index'
    THEN format('DROP INDEX %s', prism_crypt._qualified_name(one.indexrelid))
    ELSE format('ALTER TABLE %s DROP CONSTRAINT %I', named, answer.old_name) END];
  answer.rewrite_creates := CASE WHEN answer.kind <> 'index' AND one.relkind = 'I'
      THEN ARRAY[format('ALTER TABLE %s ADD CONSTRAINT %I %s', named, answer.old_name, one.definition)]
      ELSE ARRAY[prism_crypt._with_tablespace(
        format('CREATE %sINDEX %I ON %s%s', CASE WHEN one.indisunique THEN 'UNIQUE ' ELSE '' END, answer.old_name, named,
               prism_crypt._index_tail(copy_index)),
        one.indexrelid, prism_crypt._definition('predicate', copy_index, 'pg_catalog, pg_temp'))] END
    || CASE WHEN answer.kind <> 'index' AND one.relkind = 'i'
            THEN ARRAY[format('ALTER TABLE %s ADD CONSTRAINT %I %s USING INDEX %I%s', named, answer.old_name, upper(answer.kind),
                              answer.old_name, one.deferral)] ELSE '{}' END
    || prism_crypt._twin_index_marks(answer, one);
  RETURN answer;
END $$;
COMMENT ON FUNCTION prism_crypt._twin_index_rewrite(prism_crypt._twin_definition, record, oid) IS
  'How an index is made again after its column was rewritten. Internal';

-- How an index is built for the twin, and takes the place of the old one. A partitioned index is made empty; the parts are attached
-- to it. ADD CONSTRAINT ... USING INDEX does not work for a partitioned table, so its constraint is added to ONLY it.
CREATE FUNCTION prism_crypt._twin_index(
  answer prism_crypt._twin_definition, one record, copy_index oid, copy_constraint text
) RETURNS prism_crypt._twin_definition
  LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  named CONSTANT text := prism_crypt._qualified_name(answer.member);
  schema CONSTANT text := (SELECT quote_ident(n.nspname) FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace
                           WHERE c.oid = answer.member);
  new_index CONSTANT text := schema || '.' || quote_ident(answer.new_name);
  old_index CONSTANT text := schema || '.' || quote_ident(answer.old_name);
  create_index text;
  add_constraint text;
  attach text[] := ARRAY(
    SELECT format('ALTER INDEX %I.%I ATTACH PARTITION %s', n.nspname,
                  -- That of a primary key has its name back by then.
                  CASE answer.kind WHEN 'primary key' THEN c.relname ELSE prism_crypt._side_name('prism_crypt_new_', c.relname) END,
                  new_index)
    FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace WHERE c.oid = answer.parent);
BEGIN
  create_index := prism_crypt._with_tablespace(
    format('CREATE %sINDEX %s%I ON %s%s%s', CASE WHEN one.indisunique THEN 'UNIQUE ' ELSE '' END,
           CASE WHEN one.relkind = 'i' THEN 'CONCURRENTLY ' ELSE '' END, answer.new_name,
           CASE WHEN one.relkind = 'i' THEN '' ELSE 'ONLY ' END, named, prism_crypt._index_tail(copy_index)),
    one.indexrelid, prism_crypt._definition('predicate', copy_index, 'pg_catalog, pg_temp'));
  IF answer.kind = 'index' THEN
    answer.build := create_index || attach;
  ELSIF one.relkind = 'i' THEN
    add_constraint := format('ALTER TABLE ONLY %s ADD CONSTRAINT %I %s USING INDEX %I%s', named, answer.new_name,
                             upper(answer.kind), answer.new_name, one.deferral);
    answer.build := ARRAY[create_index];
  ELSE
    -- A primary key is added when the twin has the column's name.
    add_constraint := format('ALTER TABLE ONLY %s ADD CONSTRAINT %I %s', named, answer.new_name,
                             CASE answer.kind WHEN 'primary key' THEN one.definition ELSE copy_constraint END);
    answer.build := '{}';
  END IF;
  IF answer.kind = 'primary key' THEN
    -- There is only one. Dropping it drops the parts of it.
    answer.swap := CASE WHEN answer.parent IS NULL
                        THEN ARRAY[format('ALTER TABLE %s DROP CONSTRAINT %I', named, answer.old_name)] ELSE '{}' END
      || add_constraint || attach;
  ELSE
    answer.build := answer.build || CASE WHEN add_constraint IS NULL THEN '{}' ELSE add_constraint || attach END;
    -- Dropping a partitioned index drops the parts of it.
    answer.swap := CASE WHEN answer.parent IS NOT NULL THEN '{}'
                        WHEN answer.kind = 'index' THEN ARRAY[format('DROP INDEX %s', old_index)]
                        ELSE ARRAY[format('ALTER TABLE %s DROP CONSTRAINT %I', named, answer.old_name)] END;
  END IF;
  answer.swap := answer.swap || format('ALTER INDEX %s RENAME TO %I', new_index, answer.old_name)
    || prism_crypt._twin_index_marks(answer, one);
  IF one.indisreplident THEN
    answer.note := 'it is the replica identity: subscribers need the twin column and this index, too';
  END IF;
  RETURN answer;
END $$;
COMMENT ON FUNCTION prism_crypt._twin_index(prism_crypt._twin_definition, record, oid, text) IS
  'How an index is built for a twin column. Internal';

-- Everything of one table. It leaves nothing behind: the copy is undone.
CREATE FUNCTION prism_crypt._twins_of_table(
  member oid, attnum smallint, column_name name, new_type text, twin name, OUT definitions prism_crypt._twin_definition[]
) LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp SET client_min_messages = error AS $$
#variable_conflict use_variable
DECLARE
  named CONSTANT text := prism_crypt._qualified_name(member);
  schema CONSTANT text := (SELECT quote_ident(n.nspname) FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace
                           WHERE c.oid = member);
  copy regclass;
  one record;
  tried record;
  answer prism_crypt._twin_definition;
  done boolean := false;
BEGIN
  definitions := ARRAY(SELECT d FROM prism_crypt._twin_not_null(member, attnum, twin) AS d);
  copy := prism_crypt._make_copy(member, column_name, new_type, false);
  FOR one IN
    SELECT c.oid, c.conname, c.convalidated, prism_crypt._definition('constraint', c.oid, 'pg_catalog, pg_temp') AS definition,
           coalesce((to_jsonb(c) ->> 'conenforced')::boolean, true) AS is_enforced
    FROM pg_constraint AS c
    WHERE c.conrelid = member AND c.contype = 'c' AND attnum = ANY (c.conkey) AND c.coninhcount = 0 ORDER BY c.conname
  LOOP
    answer := NULL;
    answer.kind := 'check';
    answer.member := member;
    answer.old_oid := one.oid;
    answer.old_name := one.conname;
    -- Not valid, so that nothing is computed.
    answer.blocks := prism_crypt._try(
      ARRAY[format('ALTER TABLE %s ADD CONSTRAINT prism_crypt_trial %s%s', copy, one.definition,
                   CASE WHEN one.convalidated THEN ' NOT VALID' ELSE '' END)], 'pg_catalog, pg_temp');
    IF answer.blocks IS NULL THEN
      EXECUTE format('ALTER TABLE %s DROP CONSTRAINT prism_crypt_trial', copy);
      -- The old one has checked the values. While it does, writers need no rights to the new values.
      answer.build := '{}';
      answer.swap := ARRAY[format('ALTER TABLE %s DROP CONSTRAINT %I', named, one.conname),
                           format('ALTER TABLE %s ADD CONSTRAINT %I %s%s', named, one.conname, one.definition,
                                  CASE WHEN one.convalidated THEN ' NOT VALID' ELSE '' END)]
        || prism_crypt._remarks('pg_constraint', one.oid, 0, format('CONSTRAINT %I ON %s', one.conname, named));
      answer.after := CASE WHEN one.convalidated AND one.is_enforced
                           THEN ARRAY[format('ALTER TABLE %s VALIDATE CONSTRAINT %I', named, one.conname)] ELSE '{}' END;
      answer.note := 'it is checked with the rights of the role that writes, which may need decrypt or search';
    ELSE
      answer.unblock := format('ALTER TABLE %s DROP CONSTRAINT %I', named, one.conname);
    END IF;
    definitions := definitions || answer;
  END LOOP;
  FOR one IN
    SELECT i.indexrelid, i.indisunique, i.indisclustered, i.indisreplident, c.relkind, c.relname, n.contype,
           n.oid AS constraint_oid,
           CASE WHEN n.condeferrable THEN ' DEFERRABLE' || CASE WHEN n.condeferred THEN ' INITIALLY DEFERRED' ELSE '' END
           END AS deferral,
           (SELECT h.inhparent FROM pg_inherits AS h WHERE h.inhrelid = i.indexrelid) AS parent,
           prism_crypt._definition('constraint', n.oid, 'pg_catalog, pg_temp') AS definition
    FROM pg_index AS i JOIN pg_class AS c ON c.oid = i.indexrelid
    LEFT JOIN pg_constraint AS n ON n.conindid = i.indexrelid AND n.conrelid = member AND n.contype IN ('p', 'u', 'x')
    WHERE i.indrelid = member AND (i.indisvalid OR c.relkind = 'I') AND n.contype IS DISTINCT FROM 'x'
      AND (attnum = ANY (i.indkey)
        OR EXISTS (SELECT FROM pg_depend AS d
                   WHERE d.classid = 'pg_class'::regclass AND d.objid = i.indexrelid
                     AND d.refclassid = 'pg_class'::regclass AND d.refobjid = member AND d.refobjsubid = attnum))
    ORDER BY c.relname
  LOOP
    answer := NULL;
    answer.kind := CASE one.contype WHEN 'p' THEN 'primary key' WHEN 'u' THEN 'unique' ELSE 'index' END;
    answer.member := member;
    answer.old_oid := one.indexrelid;
    answer.old_name := one.relname;
    answer.new_name := prism_crypt._side_name('prism_crypt_new_', one.relname);
    answer.parent := one.parent;
    tried := prism_crypt._try_index(one.indexrelid, column_name, schema, new_type);
    IF tried.error IS NULL AND one.contype IS NOT NULL AND one.relkind = 'I' THEN
      tried.error := prism_crypt._try(
        ARRAY[format('ALTER TABLE %s ADD CONSTRAINT prism_crypt_trial %s', copy, one.definition)], 'pg_catalog, pg_temp');
    END IF;
    IF tried.error IS NOT NULL THEN
      answer.blocks := tried.error;
      answer.unblock := CASE WHEN one.contype IS NULL THEN format('DROP INDEX %s', prism_crypt._qualified_name(one.indexrelid))
                             ELSE format('ALTER TABLE %s DROP CONSTRAINT %I', named, one.relname) END;
    ELSE
      IF tried.lost_collation THEN
        answer := prism_crypt._twin_index_rewrite(answer, one, format('pg_temp.%I', one.relname)::regclass);
      ELSE
        -- Statistics targets get lost.
        answer.rewrite_creates := prism_crypt._index_settings(one.indexrelid, prism_crypt._qualified_name(one.indexrelid));
      END IF;
      EXECUTE format('ALTER TABLE %s RENAME %I TO %I', copy, column_name, twin);
      answer := prism_crypt._twin_index(answer, one, format('pg_temp.%I', one.relname)::regclass,
        (SELECT prism_crypt._definition('constraint', c.oid, 'pg_catalog, pg_temp') FROM pg_constraint AS c
         WHERE c.conrelid = copy AND c.conname = 'prism_crypt_trial'));
      EXECUTE format('ALTER TABLE %s RENAME %I TO %I', copy, twin, column_name);
      IF one.contype IS NOT NULL AND one.relkind = 'I' THEN
        EXECUTE format('ALTER TABLE %s DROP CONSTRAINT prism_crypt_trial', copy);
      END IF;
      IF tried.lost_collation THEN
        answer.note := concat_ws('; ', answer.note, 'it loses its collation: encrypted values have no order');
      END IF;
    END IF;
    definitions := definitions || answer;
  END LOOP;
  done := true;
  RAISE SQLSTATE 'PC000';
EXCEPTION WHEN SQLSTATE 'PC000' THEN
  IF NOT done THEN
    RAISE;
  END IF;
END $$;
COMMENT ON FUNCTION prism_crypt._twins_of_table(oid, smallint, name, text, name) IS
  'The indexes and constraints of one table for a twin column. Internal';

CREATE FUNCTION prism_crypt._twin_definitions(relation regclass, column_name name, new_type text, twin name)
  RETURNS SETOF prism_crypt._twin_definition
  LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_variable
DECLARE
  one record;
  answer prism_crypt._twin_definition;
  definitions prism_crypt._twin_definition[] := ARRAY(
    SELECT d FROM prism_crypt._column_members(relation, column_name) AS m
    CROSS JOIN LATERAL prism_crypt._twin_domain(m.member, m.attnum) AS d
    WHERE m.member = relation);
  number integer := 0;
BEGIN
  -- Parents first: what is made for partitions is attached to what their parents have.
  FOR one IN
    SELECT m.member, m.attnum FROM prism_crypt._column_members(relation, column_name) AS m
    WHERE m.relkind IN ('r', 'p')
    ORDER BY (SELECT count(*) FROM pg_partition_ancestors(m.member)), m.member <> relation, m.member
  LOOP
    definitions := definitions || prism_crypt._twins_of_table(one.member, one.attnum, column_name, new_type, twin);
  END LOOP;
  -- The old column keeps its NOT NULL as long as it is in the primary key.
  FOREACH answer IN ARRAY ARRAY(SELECT d FROM unnest(definitions) AS d WHERE d.kind <> 'not null')
                          || ARRAY(SELECT d FROM unnest(definitions) AS d WHERE d.kind = 'not null')
  LOOP
    number := number + 1;
    answer.ordinal := number;
    RETURN NEXT answer;
  END LOOP;
END $$;
COMMENT ON FUNCTION prism_crypt._twin_definitions(regclass, name, text, name) IS
  'The indexes and constraints of a column, for a twin of another name and type. Internal';

-- sql/migration/dependants.sql
-- Everything that touches a column: what has to be dropped and made again around a swap, what blocks it, and what to know.

CREATE FUNCTION prism_crypt._dependant_edges(class oid, object oid, part integer, OUT next_class oid, OUT next_object oid)
  RETURNS SETOF record
  LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
  -- A view is the rule that it is made of; its row type is a part of it.
  WITH referenced (class, object) AS (
    SELECT $1, $2
    UNION ALL
    SELECT 'pg_type'::regclass, t.oid FROM pg_type AS t
    WHERE $1 = 'pg_class'::regclass AND $3 = 0
      AND (t.typrelid = $2 OR t.typelem IN (SELECT r.oid FROM pg_type AS r WHERE r.typrelid = $2))
  )
  SELECT DISTINCT CASE WHEN r.rulename = '_RETURN' THEN 'pg_class'::regclass::oid ELSE d.classid END,
                  CASE WHEN r.rulename = '_RETURN' THEN r.ev_class ELSE d.objid END
  FROM referenced AS x
  JOIN pg_depend AS d ON d.refclassid = x.class AND d.refobjid = x.object AND ($3 = 0 OR d.refobjsubid = $3)
  LEFT JOIN pg_rewrite AS r ON d.classid = 'pg_rewrite'::regclass AND r.oid = d.objid
  WHERE d.deptype IN ('n', 'a')
    -- Of a table's column these are others' matter; a view takes its own indexes and defaults along.
    AND d.classid NOT IN ('pg_attrdef'::regclass, 'pg_constraint'::regclass, 'pg_publication_rel'::regclass)
    AND NOT (d.classid = 'pg_class'::regclass
             AND ($3 <> 0 OR d.objid IN (SELECT i.indexrelid FROM pg_index AS i WHERE i.indrelid = $2)))
    AND NOT (d.classid = 'pg_type'::regclass AND d.deptype = 'i')
    AND coalesce(r.ev_class <> $2 OR r.rulename <> '_RETURN', true)
    -- Triggers of partitions go with those of the partitioned table.
    AND NOT EXISTS (SELECT FROM pg_trigger AS t WHERE d.classid = 'pg_trigger'::regclass AND t.oid = d.objid
                    AND (t.tgparentid <> 0 OR t.tgisinternal))
$$;
COMMENT ON FUNCTION prism_crypt._dependant_edges(oid, oid, integer) IS 'What depends directly on a column or a view. Internal';

-- All that depends on the column, also through views, with the longest way to it: what is further away goes first.
CREATE FUNCTION prism_crypt._dependant_graph(relation regclass, column_name name, OUT class oid, OUT object oid, OUT depth integer)
  RETURNS SETOF record
  LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_variable
DECLARE
  classes oid[];
  objects oid[];
  all_classes oid[] := '{}';
  all_objects oid[] := '{}';
  depths integer[] := '{}';
  level integer := 0;
BEGIN
  SELECT array_agg(e.next_class), array_agg(e.next_object) INTO classes, objects
  FROM (SELECT e.* FROM prism_crypt._column_members(relation, column_name) AS m
        CROSS JOIN LATERAL prism_crypt._dependant_edges('pg_class'::regclass, m.member, m.attnum) AS e
        UNION
        -- Before 15, a view that reads rows of the table from a function does not depend on their columns.
        SELECT 'pg_class'::regclass, r.ev_class
        FROM prism_crypt._column_members(relation, column_name) AS m JOIN pg_class AS t ON t.oid = m.member
        JOIN pg_proc AS p ON p.prorettype = t.reltype
        JOIN pg_depend AS d ON d.refclassid = 'pg_proc'::regclass AND d.refobjid = p.oid AND d.classid = 'pg_rewrite'::regclass
        JOIN pg_rewrite AS r ON r.oid = d.objid AND r.rulename = '_RETURN'
        WHERE current_setting('server_version_num')::integer < 150000) AS e;
  WHILE classes IS NOT NULL LOOP
    level := level + 1;
    IF level > 1000 THEN
      RAISE program_limit_exceeded USING MESSAGE = 'views depend on each other in a circle, or too deep';
    END IF;
    all_classes := all_classes || classes;
    all_objects := all_objects || objects;
    depths := depths || array_fill(level, ARRAY[cardinality(classes)]);
    SELECT array_agg(e.next_class), array_agg(e.next_object) INTO classes, objects
    FROM (SELECT DISTINCT e.* FROM unnest(classes, objects) AS n (class, object)
          CROSS JOIN LATERAL prism_crypt._dependant_edges(n.class, n.object, 0) AS e
          -- Only views have dependants that matter: they are dropped.
          WHERE n.class = 'pg_class'::regclass AND EXISTS (
            SELECT FROM pg_class AS c WHERE c.oid = n.object AND c.relkind IN ('v', 'm'))) AS e;
  END LOOP;
  RETURN QUERY SELECT n.class, n.object, max(n.depth) FROM unnest(all_classes, all_objects, depths) AS n (class, object, depth)
    GROUP BY n.class, n.object ORDER BY max(n.depth) DESC, n.class, n.object;
END $$;
COMMENT ON FUNCTION prism_crypt._dependant_graph(regclass, name) IS 'What depends on a column, also through views. Internal';

CREATE FUNCTION prism_crypt._dependant_of(class oid, object oid, trial_path text) RETURNS prism_crypt._dependant
  LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  answer prism_crypt._dependant;
  relkind CONSTANT "char" := (SELECT c.relkind FROM pg_class AS c WHERE class = 'pg_class'::regclass AND c.oid = object);
BEGIN
  IF relkind IN ('v', 'm') THEN
    RETURN prism_crypt._view_dependant(object, trial_path);
  ELSIF class = 'pg_rewrite'::regclass THEN
    RETURN prism_crypt._rule_dependant(object, trial_path);
  ELSIF class = 'pg_trigger'::regclass THEN
    RETURN prism_crypt._trigger_dependant(object, trial_path);
  ELSIF class = 'pg_policy'::regclass THEN
    RETURN prism_crypt._policy_dependant(object, trial_path);
  ELSIF class = 'pg_statistic_ext'::regclass THEN
    RETURN prism_crypt._statistics_dependant(object, trial_path);
  ELSIF class = 'pg_proc'::regclass THEN
    RETURN prism_crypt._function_dependant(object, trial_path);
  ELSIF NOT EXISTS (SELECT FROM pg_depend AS d WHERE d.classid = class AND d.objid = object) THEN
    RETURN NULL;
  END IF;
  answer := prism_crypt._dependant('type user', pg_describe_object(class, object, 0),
                                   blocks => 'it depends on the column, or on a view of it that has to be made again');
  answer.class := class;
  answer.object := object;
  RETURN answer;
END $$;
COMMENT ON FUNCTION prism_crypt._dependant_of(oid, oid, text) IS 'One object that depends on a column. Internal';

-- The parts of the path that the trial needs: the schemas of the tables and of what hangs on them.
CREATE FUNCTION prism_crypt._trial_schemas(relation regclass, column_name name) RETURNS text
  LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
  SELECT string_agg(quote_ident(n.nspname), ', ' ORDER BY n.first, n.nspname)
  FROM (SELECT s.nspname, min(r.rank) AS first
        FROM (SELECT m.member AS oid, CASE WHEN m.member = relation THEN 0 ELSE 1 END AS rank
              FROM prism_crypt._column_members(relation, column_name) AS m
              UNION ALL
              SELECT g.object, 2 FROM prism_crypt._dependant_graph(relation, column_name) AS g
              WHERE g.class = 'pg_class'::regclass) AS r
        JOIN pg_class AS c ON c.oid = r.oid JOIN pg_namespace AS s ON s.oid = c.relnamespace
        WHERE s.nspname <> 'pg_catalog' GROUP BY s.nspname) AS n
$$;
COMMENT ON FUNCTION prism_crypt._trial_schemas(regclass, name) IS 'The schemas on the path of a trial. Internal';

-- The rows that a function gives have their columns by position in a definition, and the copy is not what it reads.
CREATE FUNCTION prism_crypt._row_reader(relation regclass, dependant prism_crypt._dependant) RETURNS text
  LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
  SELECT format('it reads rows of the table from function %s', p.oid::regprocedure)
  FROM pg_depend AS d JOIN pg_proc AS p ON d.refclassid = 'pg_proc'::regclass AND p.oid = d.refobjid
  JOIN pg_class AS t ON t.reltype = p.prorettype JOIN prism_crypt._table_tree($1) AS m ON m.member = t.oid
  WHERE d.classid = $2.class AND d.objid = $2.object
     OR d.classid = 'pg_rewrite'::regclass AND $2.class = 'pg_class'::regclass
        AND d.objid IN (SELECT r.oid FROM pg_rewrite AS r WHERE r.ev_class = $2.object)
  ORDER BY p.oid LIMIT 1
$$;
COMMENT ON FUNCTION prism_crypt._row_reader(regclass, prism_crypt._dependant) IS
  'Why something can''t be made again that reads rows of a table from a function. Internal';

-- Makes everything again on empty copies of the tables, as a swap would, so that PostgreSQL judges it. It leaves nothing behind.
CREATE FUNCTION prism_crypt._try_dependants(
  relation regclass, column_name name, new_type text, schemas text, INOUT dependants prism_crypt._dependant[]
) LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp SET client_min_messages = error AS $$
#variable_conflict use_variable
DECLARE
  path CONSTANT text := 'pg_temp, pg_catalog, ' || schemas;
  trial_path CONSTANT text := 'pg_catalog, ' || schemas || ', pg_temp';
  member oid;
  number integer;
  one prism_crypt._dependant;
  error text;
  done boolean := false;
BEGIN
  FOR member IN
    -- Only tables that something names. Of two with one name the path shows the first; the other one is not tried.
    SELECT m.member FROM prism_crypt._column_members(relation, column_name) AS m
    WHERE prism_crypt._is_bare(m.member, trial_path)
      AND (EXISTS (SELECT FROM prism_crypt._dependant_edges('pg_class'::regclass, m.member, m.attnum))
        OR m.member IN (SELECT d.target FROM unnest(dependants) AS d WHERE d.trial IS NOT NULL))
  LOOP
    PERFORM prism_crypt._make_copy(member, column_name, new_type, true);
  END LOOP;
  -- In the order in which they would be made.
  FOR number IN REVERSE cardinality(dependants) .. 1 LOOP
    one := dependants[number];
    error := prism_crypt._row_reader(relation, one);
    IF error IS NOT NULL THEN
      one.blocks := coalesce(one.blocks, error);
      one.unblock := coalesce(one.unblock, one.drops[1]);
      dependants[number] := one;
      CONTINUE;
    END IF;
    -- Never on anything but a copy.
    CONTINUE WHEN one.trial IS NULL OR one.target IS NOT NULL AND NOT (
      prism_crypt._is_bare(one.target, trial_path)
      AND to_regclass(format('pg_temp.%I', (SELECT c.relname FROM pg_class AS c WHERE c.oid = one.target))) IS NOT NULL);
    error := prism_crypt._try(one.trial, path);
    IF error IS NULL AND one.kind IN ('view', 'materialized view') AND EXISTS (
         SELECT FROM pg_depend AS d JOIN pg_attribute AS a ON a.attrelid = d.refobjid AND a.attnum = d.refobjsubid
         WHERE d.classid = 'pg_rewrite'::regclass AND d.refclassid = 'pg_class'::regclass
           AND a.attname = prism_crypt._side_name('prism_crypt_old_', column_name)
           AND d.objid IN (SELECT r.oid FROM pg_rewrite AS r WHERE r.ev_class = to_regclass(format('pg_temp.%I',
             (SELECT c.relname FROM pg_class AS c WHERE c.oid = one.object))))) THEN
      error := 'it names the columns of the table by their position, and would show the old column';
    END IF;
    IF error IS NOT NULL AND one.blocks IS NULL THEN
      one.blocks := format('PostgreSQL would not make it again: %s', error);
      IF one.kind IN ('view', 'materialized view', 'function') THEN
        one.unblock := format('DROP %s %s', CASE one.kind WHEN 'function' THEN 'ROUTINE' ELSE upper(one.kind) END, one.identity);
      END IF;
    END IF;
    dependants[number] := one;
  END LOOP;
  done := true;
  RAISE SQLSTATE 'PC000';
EXCEPTION WHEN SQLSTATE 'PC000' THEN
  IF NOT done THEN
    RAISE;
  END IF;
END $$;
COMMENT ON FUNCTION prism_crypt._try_dependants(regclass, name, text, text, prism_crypt._dependant[]) IS
  'Tries on copies what would be made again. Internal';

-- Publications that carry the column. Subscribers get what is published by its name, so they need the twin, too.
CREATE FUNCTION prism_crypt._publication_dependants(relation regclass, column_name name, new_type text)
  RETURNS SETOF prism_crypt._dependant
  LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
  WITH members AS MATERIALIZED (
    SELECT m.member, m.attnum, n.nspname, c.relname
    FROM prism_crypt._column_members($1, $2) AS m JOIN pg_class AS c ON c.oid = m.member
    JOIN pg_namespace AS n ON n.oid = c.relnamespace
  ), named AS (
    SELECT DISTINCT r.prpubid, m.member FROM members AS m
    JOIN pg_depend AS d ON d.classid = 'pg_publication_rel'::regclass AND d.refclassid = 'pg_class'::regclass
      AND d.refobjid = m.member AND d.refobjsubid = m.attnum
    JOIN pg_publication_rel AS r ON r.oid = d.objid
  )
  SELECT prism_crypt._dependant('publication', format('%I', p.pubname),
    blocks => format('its column list or row filter for %s names the column', prism_crypt._qualified_name(n.member)),
    unblock => format('ALTER PUBLICATION %I DROP TABLE %s', p.pubname, prism_crypt._qualified_name(n.member)))
  FROM named AS n JOIN pg_publication AS p ON p.oid = n.prpubid
  UNION ALL
  SELECT prism_crypt._dependant('publication', format('%I', t.pubname),
    note => format('subscribers of %I.%I need a column for the values first: ALTER TABLE %I.%I ADD COLUMN %I %s',
                   t.schemaname, t.tablename, t.schemaname, t.tablename, prism_crypt._side_name('prism_crypt_new_', $2), $3))
  FROM pg_publication_tables AS t JOIN members AS m ON m.nspname = t.schemaname AND m.relname = t.tablename
  WHERE NOT EXISTS (SELECT FROM named AS n JOIN pg_publication AS p ON p.oid = n.prpubid
                    WHERE p.pubname = t.pubname AND n.member = m.member)
$$;
COMMENT ON FUNCTION prism_crypt._publication_dependants(regclass, name, text) IS 'Publications that carry a column. Internal';

-- What has to be dropped and made again, as the catalogs say it; not judged.
CREATE FUNCTION prism_crypt._listed_dependants(relation regclass, column_name name) RETURNS prism_crypt._dependant[]
  LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_variable
DECLARE
  trial_path CONSTANT text := 'pg_catalog, ' || prism_crypt._trial_schemas(relation, column_name) || ', pg_temp';
BEGIN
  RETURN ARRAY(
      SELECT prism_crypt._dependant_of(g.class, g.object, trial_path) FROM prism_crypt._dependant_graph(relation, column_name) AS g)
    || ARRAY(SELECT d FROM prism_crypt._column_members(relation, column_name) AS m
             CROSS JOIN LATERAL prism_crypt._column_properties(m.member, m.attnum, trial_path) AS d);
END $$;
COMMENT ON FUNCTION prism_crypt._listed_dependants(regclass, name) IS 'What has to be made again around a swap. Internal';

CREATE FUNCTION prism_crypt._dependants(relation regclass, column_name name, new_type text) RETURNS SETOF prism_crypt._dependant
  LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_variable
DECLARE
  schemas CONSTANT text := prism_crypt._trial_schemas(relation, column_name);
  dependants prism_crypt._dependant[];
  one prism_crypt._dependant;
  number integer := 0;
BEGIN
  IF schemas IS NULL THEN
    RAISE undefined_column USING MESSAGE = format('column "%s" of relation %s does not exist', column_name, relation);
  END IF;
  dependants := prism_crypt._try_dependants(
    relation, column_name, new_type, schemas, prism_crypt._listed_dependants(relation, column_name));
  FOR one IN
    SELECT * FROM unnest(dependants)
    UNION ALL
    SELECT d.* FROM prism_crypt._column_members(relation, column_name) AS m
    CROSS JOIN LATERAL prism_crypt._column_ties(m.member, m.attnum) AS d
    UNION ALL
    SELECT * FROM prism_crypt._inheritance_blocks(relation, column_name)
    UNION ALL
    SELECT * FROM prism_crypt._publication_dependants(relation, column_name, new_type)
    UNION ALL
    SELECT d.* FROM prism_crypt._twin_definitions(
      relation, column_name, new_type, prism_crypt._side_name('prism_crypt_new_', column_name)) AS t
    CROSS JOIN LATERAL prism_crypt._dependant(t.kind,
      CASE WHEN t.kind IN ('not null', 'domain') THEN format('%s.%I', prism_crypt._qualified_name(t.member), column_name)
           WHEN t.kind = 'check' THEN format('%I on %s', t.old_name, prism_crypt._qualified_name(t.member))
           ELSE prism_crypt._qualified_name(t.old_oid::regclass) END,
      blocks => t.blocks, unblock => t.unblock, note => t.note) AS d
  LOOP
    number := number + 1;
    one.ordinal := number;
    IF one.blocks IS NULL THEN
      one.unblock := NULL;
    END IF;
    one.trial := NULL;
    one.target := NULL;
    RETURN NEXT one;
  END LOOP;
END $$;
COMMENT ON FUNCTION prism_crypt._dependants(regclass, name, text) IS 'Everything that touches a column. Internal';

-- sql/migration/targets.sql
-- What may be migrated: tables, columns, types, expressions.

CREATE FUNCTION prism_crypt._check_migratable_table(relation regclass) RETURNS void
  LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  root record;
  problem record;
  extension name;
BEGIN
  IF relation IS NULL THEN
    RAISE null_value_not_allowed USING MESSAGE = 'relation must not be null';
  END IF;
  SELECT c.relname, c.relkind, c.relpersistence, n.nspname INTO root
  FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace WHERE c.oid = relation;
  IF NOT FOUND THEN
    RAISE undefined_table USING MESSAGE = format('relation with OID %s does not exist', relation::oid);
  ELSIF root.relkind NOT IN ('r', 'p') THEN
    RAISE wrong_object_type USING
      MESSAGE = format('"%s" is not a table', root.relname),
      HINT = CASE root.relkind
        WHEN 'v' THEN 'Migrate the tables that the view reads: it is carried over.'
        WHEN 'm' THEN 'Migrate the tables that it reads: it is carried over.'
        WHEN 'f' THEN 'Migrate it on its own server.'
        ELSE 'Name a table.' END;
  ELSIF root.nspname IN ('pg_catalog', 'pg_toast', 'information_schema', 'prism_crypt') THEN
    RAISE insufficient_privilege USING MESSAGE = format('permission denied: "%s" is a system table', root.relname);
  ELSIF root.relpersistence = 't' THEN
    RAISE wrong_object_type USING
      MESSAGE = format('"%s" is a temporary table', root.relname),
      HINT = 'ALTER TABLE changes its type.';
  END IF;
  extension := prism_crypt._extension_of('pg_class', relation);
  IF extension IS NOT NULL THEN
    RAISE object_not_in_prerequisite_state USING
      MESSAGE = format('table "%s" belongs to extension "%s"', root.relname, extension),
      HINT = 'Its scripts would not find the column as they made it.';
  END IF;
  SELECT t.member, t.relkind, c.relowner INTO problem
  FROM prism_crypt._table_tree(relation) AS t JOIN pg_class AS c ON c.oid = t.member
  WHERE t.relkind = 'f' OR NOT pg_has_role(c.relowner, 'USAGE') ORDER BY t.relkind <> 'f', t.member <> relation, t.member LIMIT 1;
  IF problem.relkind = 'f' THEN
    RAISE wrong_object_type USING
      MESSAGE = format('%s, a part of "%s", is a foreign table', prism_crypt._qualified_name(problem.member), root.relname),
      HINT = 'Detach it, and migrate it on its own server.';
  ELSIF problem.member IS NOT NULL THEN
    RAISE insufficient_privilege USING MESSAGE = format('must be owner of table %s', prism_crypt._qualified_name(problem.member));
  END IF;
END $$;
COMMENT ON FUNCTION prism_crypt._check_migratable_table(regclass) IS
  'Raises an error if a table can''t be migrated by this role. Internal';

-- A type as the caller wrote it, with its modifier; the extension's schema need not be on the path.
CREATE FUNCTION prism_crypt._parse_type(type text, path text, OUT type_oid oid, OUT modifier integer, OUT name text)
  LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_variable
DECLARE
  own_schema CONSTANT text := (SELECT quote_ident(n.nspname) FROM pg_extension AS e JOIN pg_namespace AS n ON n.oid = e.extnamespace
                               WHERE e.extname = 'prism_crypt');
  done boolean := false;
BEGIN
  IF type IS NULL THEN
    RAISE null_value_not_allowed USING MESSAGE = 'type must not be null';
  END IF;
  PERFORM set_config('search_path', concat_ws(', ', nullif(path, ''), own_schema), true);
  -- It also makes sure that this is a type and nothing else.
  type_oid := pg_catalog.to_regtype(type);
  IF type_oid IS NULL THEN
    RAISE undefined_object USING MESSAGE = pg_catalog.format('type "%s" does not exist', type);
  END IF;
  EXECUTE pg_catalog.format(E'CREATE TEMPORARY TABLE prism_crypt_trial (value %s\n)', type);
  PERFORM pg_catalog.set_config('search_path', 'pg_catalog, pg_temp', true);
  SELECT a.atttypid, a.atttypmod, format_type(a.atttypid, a.atttypmod) INTO type_oid, modifier, name
  FROM pg_attribute AS a WHERE a.attrelid = 'pg_temp.prism_crypt_trial'::regclass AND a.attnum = 1;
  done := true;
  RAISE SQLSTATE 'PC000';
EXCEPTION
  WHEN SQLSTATE 'PC000' THEN
    IF NOT done THEN
      RAISE;
    END IF;
  -- As to_regtype(text) says it since PostgreSQL 16.
  WHEN syntax_error THEN
    RAISE undefined_object USING MESSAGE = pg_catalog.format('type "%s" does not exist', type);
END $$;
COMMENT ON FUNCTION prism_crypt._parse_type(text, text) IS 'A type with its modifier, parsed by PostgreSQL. Internal';

-- Raises an error if an expression can't compute the new column. PostgreSQL judges on an empty copy, with the rules for ALTER TABLE
-- ... USING. A cursor takes a single statement only, so nothing but an expression gets into the parentheses.
CREATE FUNCTION prism_crypt._check_using(relation regclass, column_name name, new_type text, using_expression text, path text)
  RETURNS void
  LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_variable
DECLARE
  single refcursor;
  relname CONSTANT name := (SELECT c.relname FROM pg_class AS c WHERE c.oid = relation);
  done boolean := false;
BEGIN
  PERFORM prism_crypt._make_copy(relation, column_name, NULL, false);
  PERFORM set_config('search_path', path, true);
  OPEN single FOR EXECUTE pg_catalog.format(E'SELECT (%s\n) FROM ONLY pg_temp.%I', using_expression, relname);
  CLOSE single;
  EXECUTE pg_catalog.format(E'ALTER TABLE pg_temp.%I ALTER COLUMN %I TYPE %s USING (%s\n)', relname, column_name, new_type,
                            using_expression);
  done := true;
  RAISE SQLSTATE 'PC000';
EXCEPTION WHEN SQLSTATE 'PC000' THEN
  IF NOT done THEN
    RAISE;
  END IF;
END $$;
COMMENT ON FUNCTION prism_crypt._check_using(regclass, name, text, text, text) IS
  'Raises an error if an expression can''t compute a column. Internal';

CREATE TYPE prism_crypt._migration_target AS (
  relation    regclass,
  column_name name,
  old_type    text,
  -- As PostgreSQL writes it, with its schema and modifier.
  new_type    text,
  -- Or back to plaintext.
  is_encrypting boolean,
  is_searchable boolean,
  using_expression text,
  -- The search path on which the expression is understood.
  path        text
);
COMMENT ON TYPE prism_crypt._migration_target IS 'A column that is to be migrated, and its new type. Internal';

-- Raises an error if this role can't migrate the column, whatever else there is.
CREATE FUNCTION prism_crypt._check_migratable(
  relation regclass, column_name name, type text, using_expression text, path text DEFAULT 'pg_catalog, pg_temp'
) RETURNS prism_crypt._migration_target
  LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_variable
DECLARE
  own record;
  parsed record;
  encrypted CONSTANT oid := (SELECT t.type FROM prism_crypt._encrypted_types() AS t JOIN pg_type AS p ON p.oid = t.type
                             WHERE p.typtype = 'b' AND NOT t.nested);
  target prism_crypt._migration_target;
BEGIN
  PERFORM prism_crypt._check_migratable_table(relation);
  IF column_name IS NULL THEN
    RAISE null_value_not_allowed USING MESSAGE = 'column_name must not be null';
  END IF;
  SELECT a.attnum, a.atttypid, a.atttypmod, c.relname INTO own
  FROM pg_class AS c LEFT JOIN pg_attribute AS a ON a.attrelid = c.oid AND a.attname = column_name AND NOT a.attisdropped
  WHERE c.oid = relation;
  IF own.attnum IS NULL THEN
    RAISE undefined_column USING
      MESSAGE = format('column "%s" of relation "%s" does not exist', column_name, own.relname);
  ELSIF own.attnum < 0 THEN
    RAISE invalid_column_reference USING MESSAGE = format('"%s" is a system column', column_name);
  END IF;
  parsed := prism_crypt._parse_type(type, path);
  target.relation := relation;
  target.column_name := column_name;
  target.old_type := format_type(own.atttypid, own.atttypmod);
  target.new_type := parsed.name;
  target.is_encrypting := parsed.type_oid = encrypted;
  target.is_searchable := parsed.name ~ '\msearchable\M';
  target.using_expression := using_expression;
  target.path := path;
  IF target.is_encrypting AND prism_crypt._holds_encrypted(own.atttypid) THEN
    RAISE object_not_in_prerequisite_state USING
      MESSAGE = format('column "%s" of relation "%s" is encrypted already', column_name, own.relname),
      HINT = 'ALTER TABLE changes its type modifier.';
  ELSIF NOT target.is_encrypting AND (prism_crypt._holds_encrypted(parsed.type_oid)
                                      OR NOT prism_crypt._holds_encrypted(own.atttypid)) THEN
    RAISE datatype_mismatch USING
      MESSAGE = format('a column of type %s is not migrated to type %s', target.old_type, target.new_type),
      HINT = 'The new type is encrypted_text, for example encrypted_text(''email'', ''searchable''); or plaintext, to decrypt a column.';
  END IF;
  IF using_expression IS NOT NULL THEN
    PERFORM prism_crypt._check_using(relation, column_name, target.new_type, using_expression, path);
  END IF;
  RETURN target;
END $$;
COMMENT ON FUNCTION prism_crypt._check_migratable(regclass, name, text, text, text) IS
  'Raises an error if this role can''t migrate a column; gives the column and its new type. Internal';

-- The plaintext of an encrypted column, as what can be assigned to one of another type: a cast to the type with its length would cut it,
-- and assigning it checks the length.
CREATE FUNCTION prism_crypt._opened_as(column_name name, type text) RETURNS text
  LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
  SELECT format('%I::pg_catalog.text::%s', $1, prism_crypt._base_of_column(to_regtype($2), -1))
$$;
COMMENT ON FUNCTION prism_crypt._opened_as(name, text) IS 'The expression that opens a column for one of another type. Internal';

-- What is assigned to the new column, over a row of the table. Text of other types may depend on settings, or is not what people
-- take for the value, so they need an expression.
CREATE FUNCTION prism_crypt._conversion(target prism_crypt._migration_target) RETURNS text
  LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
  SELECT coalesce('(' || target.using_expression || E'\n)',
    CASE WHEN NOT target.is_encrypting THEN prism_crypt._opened_as(target.column_name, target.new_type)
         ELSE (SELECT format(CASE WHEN b.base IN ('text'::regtype, 'varchar'::regtype, 'bpchar'::regtype, 'name'::regtype)
                                  THEN '%I' ELSE '%I::pg_catalog.text' END, target.column_name)
               FROM pg_attribute AS a
               CROSS JOIN LATERAL (SELECT to_regtype(prism_crypt._base_of_column(a.atttypid, -1))) AS b (base)
               LEFT JOIN pg_type AS t ON t.oid = b.base
               WHERE a.attrelid = target.relation AND a.attname = target.column_name
                 AND (b.base IN ('text'::regtype, 'varchar'::regtype, 'bpchar'::regtype, 'name'::regtype, 'int2'::regtype,
                                 'int4'::regtype, 'int8'::regtype, 'numeric'::regtype, 'uuid'::regtype, 'date'::regtype)
                   OR t.typname = 'citext' AND prism_crypt._extension_of('pg_type', b.base) = 'citext')) END)
$$;
COMMENT ON FUNCTION prism_crypt._conversion(prism_crypt._migration_target) IS
  'The expression that computes the new column; null if there has to be a using_expression. Internal';

-- sql/migration/sample.sql
-- How much a migration has to do, by a sample: some rows are copied and converted, in a subtransaction that is always rolled back.

CREATE TYPE prism_crypt._migration_estimate AS (
  tables           integer,
  rows             bigint,
  bytes_now        bigint,
  bytes_after      bigint,
  -- While both columns are there, before the table is vacuumed.
  bytes_peak       bigint,
  rewrite_seconds  double precision,
  online_seconds   double precision,
  rewrite_wal      bigint,
  online_wal       bigint,
  basis            text,
  blocks           text
);
COMMENT ON TYPE prism_crypt._migration_estimate IS 'How much a migration has to do. Internal';

-- What is measured of one table. Temporary tables write no WAL, so only sizes and times are measured.
CREATE TYPE prism_crypt._migration_sample AS (
  sampled       bigint,
  -- A row before and after, with what is stored out of line.
  old_bytes     double precision,
  new_bytes     double precision,
  rewrite_seconds double precision,
  online_seconds  double precision,
  index_seconds   double precision
);
COMMENT ON TYPE prism_crypt._migration_sample IS 'What is measured of a sample. Internal';

CREATE FUNCTION prism_crypt._largest_member(relation regclass) RETURNS regclass
  LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
  SELECT t.member FROM prism_crypt._table_tree($1) AS t WHERE t.relkind = 'r' ORDER BY pg_table_size(t.member) DESC, t.member LIMIT 1
$$;
COMMENT ON FUNCTION prism_crypt._largest_member(regclass) IS 'The largest of the tables that hold the rows of a table. Internal';

CREATE FUNCTION prism_crypt._convert_sample(target prism_crypt._migration_target, member regclass, sample_rows integer)
  RETURNS prism_crypt._migration_sample
  LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_variable
DECLARE
  copy regclass;
  twin CONSTANT name := prism_crypt._side_name('prism_crypt_new_', target.column_name);
  -- In an expression, columns may be qualified by the table's name.
  alias CONSTANT text := (SELECT quote_ident(c.relname) FROM pg_class AS c WHERE c.oid = target.relation);
  conversion CONSTANT text := prism_crypt._conversion(target);
  statements text[];
  began timestamptz;
  seconds double precision[] := '{}';
  statement text;
  answer prism_crypt._migration_sample;
  done boolean := false;
BEGIN
  answer.sampled := 0;
  IF pg_relation_size(member) = 0 THEN
    RETURN answer;
  END IF;
  PERFORM prism_crypt._make_sample_table(member);
  copy := 'pg_temp.prism_crypt_sample'::regclass;
  answer.sampled := prism_crypt._copy_sample(member, copy, ARRAY(
    SELECT a.attnum FROM prism_crypt._sample_columns(member) AS a ORDER BY a.attnum), sample_rows);
  IF answer.sampled = 0 THEN
    RETURN answer;
  END IF;
  answer.old_bytes := pg_table_size(copy)::double precision / answer.sampled;
  began := clock_timestamp();
  PERFORM prism_crypt._index_sample_table(member);
  PERFORM prism_crypt._drop_side_columns(copy, target.column_name);
  answer.index_seconds := EXTRACT(epoch FROM clock_timestamp() - began);
  -- The statements are run as the expression is meant: on the caller's path.
  statements := ARRAY[
    format('CREATE TEMPORARY TABLE prism_crypt_converted ON COMMIT DROP AS SELECT %s FROM pg_temp.prism_crypt_sample AS %s',
           (SELECT string_agg(CASE WHEN a.attname = target.column_name
                                   THEN format('(%s)::%s AS %I', conversion, target.new_type, a.attname)
                                   ELSE format('%s.%I', alias, a.attname) END, ', ' ORDER BY a.attnum)
            FROM pg_attribute AS a WHERE a.attrelid = copy AND a.attnum > 0 AND NOT a.attisdropped), alias),
    format('ALTER TABLE pg_temp.prism_crypt_sample ADD %I %s', twin, target.new_type),
    format('UPDATE pg_temp.prism_crypt_sample AS %s SET %I = %s', alias, twin, conversion)];
  PERFORM set_config('search_path', target.path, true);
  FOREACH statement IN ARRAY statements LOOP
    began := pg_catalog.clock_timestamp();
    EXECUTE statement;
    seconds := pg_catalog.array_append(
      seconds, EXTRACT(epoch FROM pg_catalog.clock_timestamp() OPERATOR(pg_catalog.-) began)::pg_catalog.float8);
  END LOOP;
  PERFORM pg_catalog.set_config('search_path', 'pg_catalog, pg_temp', true);
  answer.rewrite_seconds := seconds[1];
  answer.online_seconds := seconds[3];
  answer.new_bytes := pg_table_size('pg_temp.prism_crypt_converted'::regclass)::double precision / answer.sampled;
  done := true;
  RAISE SQLSTATE 'PC000';
EXCEPTION WHEN SQLSTATE 'PC000' THEN
  IF NOT done THEN
    RAISE;
  END IF;
  RETURN answer;
END $$;
COMMENT ON FUNCTION prism_crypt._convert_sample(prism_crypt._migration_target, regclass, integer) IS
  'Measures a migration with a sample of one table, and leaves nothing behind. Internal';

-- The sample is from the largest of the tables. A rewrite builds all indexes anew. What is done online writes each row once more,
-- with its index entries, and each page as a whole, once after a checkpoint.
CREATE FUNCTION prism_crypt._estimate_migration(target prism_crypt._migration_target, sample_rows integer)
  RETURNS prism_crypt._migration_estimate
  LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp SET lock_timeout = '1s' AS $$
#variable_conflict use_variable
DECLARE
  largest CONSTANT regclass := prism_crypt._largest_member(target.relation);
  sample prism_crypt._migration_sample;
  answer prism_crypt._migration_estimate;
  heap_bytes bigint;
  index_bytes bigint;
  indexes bigint;
  factor double precision;
BEGIN
  SELECT count(*), coalesce(sum(greatest(c.reltuples, 0)), 0)::bigint, coalesce(sum(pg_total_relation_size(c.oid)), 0)::bigint,
         coalesce(sum(pg_table_size(c.oid)), 0)::bigint, coalesce(sum(pg_indexes_size(c.oid)), 0)::bigint,
         coalesce(max((SELECT count(*) FROM pg_index AS i WHERE i.indrelid = c.oid)), 0)
    INTO answer.tables, answer.rows, answer.bytes_now, heap_bytes, index_bytes, indexes
  FROM prism_crypt._table_tree(target.relation) AS t JOIN pg_class AS c ON c.oid = t.member WHERE t.relkind = 'r';
  IF largest IS NULL OR prism_crypt._conversion(target) IS NULL THEN
    answer.basis := 'no sample';
    answer.rows := nullif(answer.rows, 0);
    RETURN answer;
  END IF;
  BEGIN
    sample := prism_crypt._convert_sample(target, largest, sample_rows);
  EXCEPTION WHEN OTHERS OR assert_failure THEN
    -- Messages of conversions quote what they can't convert.
    answer.blocks := format('a sample of its values could not be converted (SQLSTATE %s)', SQLSTATE);
    answer.basis := 'no sample';
    answer.rows := nullif(answer.rows, 0);
    RETURN answer;
  END;
  IF answer.rows = 0 AND sample.sampled > 0 THEN
    -- Never analyzed: as many rows as fit.
    answer.rows := greatest(sample.sampled, CASE WHEN sample.sampled < sample_rows AND answer.tables = 1 THEN sample.sampled
                                                 ELSE (heap_bytes / greatest(sample.old_bytes, 1))::bigint END);
  END IF;
  answer.basis := format('sample of %s rows', sample.sampled);
  IF sample.sampled = 0 THEN
    answer.bytes_after := answer.bytes_now;
    answer.bytes_peak := answer.bytes_now;
    answer.rewrite_seconds := 0;
    answer.online_seconds := 0;
    answer.rewrite_wal := 0;
    answer.online_wal := 0;
    RETURN answer;
  END IF;
  factor := answer.rows::double precision / sample.sampled;
  answer.bytes_after := (answer.rows * sample.new_bytes)::bigint + index_bytes;
  answer.bytes_peak := answer.bytes_now + (answer.rows * (sample.old_bytes + sample.new_bytes))::bigint;
  answer.rewrite_seconds := (sample.rewrite_seconds + sample.index_seconds) * factor;
  answer.online_seconds := (sample.online_seconds + sample.index_seconds) * factor;
  answer.rewrite_wal := answer.bytes_after;
  answer.online_wal := (answer.rows * (sample.old_bytes + sample.new_bytes + 64 * indexes))::bigint
    + CASE WHEN current_setting('full_page_writes')::boolean THEN answer.bytes_now ELSE 0 END;
  RETURN answer;
EXCEPTION WHEN lock_not_available THEN
  answer.blocks := 'the table is locked by another session';
  answer.basis := 'no sample';
  RETURN answer;
END $$;
COMMENT ON FUNCTION prism_crypt._estimate_migration(prism_crypt._migration_target, integer) IS
  'How much a migration has to do, by a sample. Internal';

CREATE FUNCTION prism_crypt._spell_seconds(seconds double precision) RETURNS text
  LANGUAGE sql IMMUTABLE STRICT SET search_path = pg_catalog, pg_temp AS $$
  SELECT CASE WHEN $1 < 1 THEN format('%s ms', round($1 * 1000)) WHEN $1 < 100 THEN format('%s s', round($1))
              WHEN $1 < 6000 THEN format('%s min', round($1 / 60)) WHEN $1 < 360000 THEN format('%s h', round($1 / 3600))
              ELSE format('%s days', round($1 / 86400)) END
$$;
COMMENT ON FUNCTION prism_crypt._spell_seconds(double precision) IS 'A time in round numbers. Internal';

-- sql/migration/blocks.sql
-- What stands in the way of a migration, besides what depends on the column.

CREATE FUNCTION prism_crypt._migration_blocks(target prism_crypt._migration_target) RETURNS SETOF prism_crypt._dependant
  LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  one record;
  named text;
BEGIN
  IF prism_crypt._conversion(target) IS NULL THEN
    RETURN NEXT prism_crypt._dependant('conversion', format('%s.%I', prism_crypt._qualified_name(target.relation), target.column_name),
      blocks => format('there is no rule for what text a value of type %s becomes: give a using_expression, for example %s',
                       target.old_type, format('%I::text', target.column_name)));
  END IF;
  FOR one IN
    SELECT t.member FROM prism_crypt._table_tree(target.relation) AS t WHERE row_security_active(t.member) ORDER BY t.member
  LOOP
    named := prism_crypt._qualified_name(one.member);
    RETURN NEXT prism_crypt._dependant('row-level security', named, blocks => 'it may hide rows from this role',
                                       unblock => format('ALTER TABLE %s NO FORCE ROW LEVEL SECURITY', named));
  END LOOP;
END $$;
COMMENT ON FUNCTION prism_crypt._migration_blocks(prism_crypt._migration_target) IS
  'What stands in the way of a migration by any method. Internal';

-- Triggers run in the order of their names, by bytes. The one that keeps a twin in step has to see what the others have made of
-- the row.
CREATE FUNCTION prism_crypt._late_triggers(relation regclass) RETURNS SETOF prism_crypt._dependant
  LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
  SELECT prism_crypt._dependant('trigger', format('%I on %s', t.tgname, prism_crypt._qualified_name(t.tgrelid)),
    blocks => 'it may change the row after the trigger that keeps both columns in step',
    unblock => format('ALTER TRIGGER %I ON %s RENAME TO %I', t.tgname, prism_crypt._qualified_name(t.tgrelid),
                      prism_crypt._side_name('a_', t.tgname)))
  FROM prism_crypt._table_tree($1) AS m JOIN pg_trigger AS t ON t.tgrelid = m.member
  -- ROW is bit 1 of tgtype, BEFORE 2, INSERT 4, UPDATE 16 (pg_trigger.h).
  WHERE NOT t.tgisinternal AND t.tgparentid = 0 AND t.tgenabled <> 'D'
    AND t.tgtype & 1 <> 0 AND t.tgtype & 2 <> 0 AND t.tgtype & 20 <> 0
    AND t.tgname::text COLLATE "C" > '~prism_crypt'
    AND t.tgfoid NOT IN (SELECT p.oid FROM prism_crypt._members('pg_proc') AS p (oid))
  ORDER BY t.tgname
$$;
COMMENT ON FUNCTION prism_crypt._late_triggers(regclass) IS 'Triggers that run after those of a migration. Internal';

CREATE FUNCTION prism_crypt._has_late_triggers(relation regclass) RETURNS boolean
  LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$ SELECT EXISTS (SELECT FROM prism_crypt._late_triggers($1)) $$;
COMMENT ON FUNCTION prism_crypt._has_late_triggers(regclass) IS 'Whether triggers run after those of a migration. Internal';

-- A backfill updates rows, which PostgreSQL refuses where they are published without a replica identity.
CREATE FUNCTION prism_crypt._unidentified_rows(relation regclass) RETURNS SETOF prism_crypt._dependant
  LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
  SELECT prism_crypt._dependant('publication', format('%I', p.pubname),
    blocks => format('it publishes updates of %s, which has no replica identity', prism_crypt._qualified_name(c.oid)),
    unblock => format('ALTER TABLE %s REPLICA IDENTITY FULL', prism_crypt._qualified_name(c.oid)))
  FROM prism_crypt._table_tree($1) AS m JOIN pg_class AS c ON c.oid = m.member AND c.relkind = 'r'
  JOIN pg_publication AS p ON p.pubupdate
  WHERE NOT (c.relreplident = 'f'
      OR EXISTS (SELECT FROM pg_index AS i WHERE i.indrelid = c.oid
                 AND CASE c.relreplident WHEN 'd' THEN i.indisprimary WHEN 'i' THEN i.indisreplident ELSE false END))
    AND EXISTS (
      SELECT FROM pg_publication_tables AS t JOIN pg_namespace AS n ON n.nspname = t.schemaname
      JOIN pg_class AS published ON published.relnamespace = n.oid AND published.relname = t.tablename
      WHERE t.pubname = p.pubname
        AND (published.oid = c.oid OR published.oid IN (SELECT a.relid FROM pg_partition_ancestors(c.oid) AS a)))
  ORDER BY p.pubname, c.relname, c.oid
$$;
COMMENT ON FUNCTION prism_crypt._unidentified_rows(regclass) IS 'Publications that let nobody update rows of a table. Internal';

-- The old column is closed, but not to what reads whole rows with the rights of its owner. It would show the plaintext of whatever others
-- write, also of ciphertext that they have from elsewhere. A row as a whole is column 0 in a tree of nodes.
CREATE FUNCTION prism_crypt._whole_rows(relation regclass) RETURNS SETOF prism_crypt._dependant
  LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
  SELECT prism_crypt._dependant(w.kind, w.identity, blocks => 'it reads whole rows of the table, and would show the old column',
                                unblock => format('DROP %s %s', CASE w.kind WHEN 'function' THEN 'ROUTINE' ELSE upper(w.kind) END, w.identity))
  FROM (
    SELECT DISTINCT CASE WHEN v.relkind = 'm' THEN 'materialized view' WHEN v.relkind = 'v' THEN 'view' ELSE 'function' END AS kind,
           coalesce(prism_crypt._qualified_name(v.oid), p.oid::regprocedure::text) AS identity
    FROM prism_crypt._table_tree($1) AS m
    JOIN pg_depend AS d ON d.refclassid = 'pg_class'::regclass AND d.refobjid = m.member
    LEFT JOIN pg_rewrite AS r ON d.classid = 'pg_rewrite'::regclass AND r.oid = d.objid
    LEFT JOIN pg_class AS v ON v.oid = r.ev_class AND v.relkind IN ('v', 'm')
    LEFT JOIN pg_proc AS p ON d.classid = 'pg_proc'::regclass AND p.oid = d.objid AND p.prosecdef
    WHERE CASE WHEN v.oid IS NOT NULL THEN r.ev_action::text ELSE p.prosqlbody::text END ~ '\{VAR :varno \d+ :varattno 0 '
  ) AS w
  ORDER BY w.kind, w.identity
$$;
COMMENT ON FUNCTION prism_crypt._whole_rows(regclass) IS 'What would show the old column of a migration. Internal';

-- sql/migration/values.sql
-- What a migration asks the library.

CREATE FUNCTION prism_crypt._keep_in_step() RETURNS trigger
  LANGUAGE c VOLATILE AS 'MODULE_PATHNAME', '_keep_in_step_wrapper';
COMMENT ON FUNCTION prism_crypt._keep_in_step() IS
  'Gives the second column that it names the value of the first, sealed or opened, by the rights of the table''s owner. Internal';

CREATE FUNCTION prism_crypt._is_out_of_step(source "any", target "any", modifier integer) RETURNS boolean
  LANGUAGE c STABLE AS 'MODULE_PATHNAME', '_is_out_of_step_wrapper';
COMMENT ON FUNCTION prism_crypt._is_out_of_step("any", "any", integer) IS
  'Whether one of two values, of which one is encrypted, does not follow the other. Internal';

CREATE FUNCTION prism_crypt._lock_relations(relations regclass[], mode integer) RETURNS void
  LANGUAGE c VOLATILE STRICT AS 'MODULE_PATHNAME', '_lock_relations_wrapper';
COMMENT ON FUNCTION prism_crypt._lock_relations(regclass[], integer) IS
  'Locks relations of the caller in this order, with the lock that has this number in PostgreSQL. Internal';

CREATE FUNCTION prism_crypt._has_common_key() RETURNS boolean
  LANGUAGE c STABLE AS 'MODULE_PATHNAME', '_has_common_key_wrapper';
COMMENT ON FUNCTION prism_crypt._has_common_key() IS
  'Whether the master key comes from where every session of the database has it. Internal';

-- sql/migration/tables.sql
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

-- sql/migration/records.sql
-- What is recorded of migrations, and read of them. Only the owner may write the table, so these functions do it for their callers,
-- who must own the migrated table: whatever they say, it concerns their own table only.

CREATE FUNCTION prism_crypt._require_owner(role oid, relation regclass) RETURNS void
  LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  table_owner oid;
BEGIN
  SELECT c.relowner INTO table_owner FROM pg_class AS c WHERE c.oid = relation;
  IF NOT FOUND THEN
    RAISE undefined_table USING MESSAGE = format('relation with OID %s does not exist', relation::oid);
  ELSIF NOT pg_has_role(role, table_owner, 'USAGE') THEN
    RAISE insufficient_privilege USING MESSAGE = format('must be owner of table %s', prism_crypt._qualified_name(relation));
  END IF;
END $$;
COMMENT ON FUNCTION prism_crypt._require_owner(oid, regclass) IS 'Raises an error unless a role owns a table. Internal';

-- What a role may do with a migration: control (it owns the table; or asked for it, if the table is gone), see, or null.
CREATE FUNCTION prism_crypt._right_to_migration(role oid, migration prism_crypt.migration) RETURNS text
  LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
  SELECT CASE
    WHEN coalesce(
      (SELECT pg_has_role($1, c.relowner, 'USAGE') FROM pg_class AS c WHERE c.oid = ($2).relation),
      EXISTS (SELECT FROM pg_authid AS a WHERE a.oid = ($2).owner) AND pg_has_role($1, ($2).owner, 'USAGE')) THEN 'control'
    WHEN has_function_privilege($1, 'prism_crypt.status()', 'EXECUTE') THEN 'see' END
$$;
COMMENT ON FUNCTION prism_crypt._right_to_migration(oid, prism_crypt.migration) IS 'What a role may do with a migration. Internal';

CREATE FUNCTION prism_crypt._migration_of(id bigint, role oid) RETURNS prism_crypt.migration
  LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
  migration prism_crypt.migration;
  access_to_it text;
BEGIN
  IF _migration_of.id IS NULL THEN
    RAISE null_value_not_allowed USING MESSAGE = 'id must not be null';
  END IF;
  SELECT * INTO migration FROM prism_crypt.migration AS m WHERE m.id = _migration_of.id;
  access_to_it := prism_crypt._right_to_migration(role, migration);
  IF migration.id IS NULL OR access_to_it IS NULL THEN
    RAISE undefined_object USING
      MESSAGE = format('migration %s does not exist', _migration_of.id), HINT = 'prism_crypt.migrations lists them.';
  ELSIF access_to_it <> 'control' THEN
    PERFORM prism_crypt._require_owner(role, migration.relation);
  END IF;
  RETURN migration;
END $$;
COMMENT ON FUNCTION prism_crypt._migration_of(bigint, oid) IS 'A migration that a role may control, or an error. Internal';

-- The record holds statements and types, which the worker runs. Whoever worked on it last may have written anything there, and so
-- must have had all rights of the next one.
CREATE FUNCTION prism_crypt._is_trusted(role oid, migration prism_crypt.migration) RETURNS boolean
  LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
  SELECT $2.owner = $1 OR EXISTS (SELECT FROM pg_authid AS a WHERE a.oid = $2.owner AND pg_has_role(a.oid, $1, 'MEMBER'))
$$;
COMMENT ON FUNCTION prism_crypt._is_trusted(oid, prism_crypt.migration) IS
  'Whether a role may run what is recorded of a migration. Internal';

-- An expression may hold the key of another system. It is for the role that wrote it, not for every owner of the table.
CREATE FUNCTION prism_crypt._may_see(role oid, migration prism_crypt.migration) RETURNS boolean
  LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
  SELECT $2.using_expression IS NULL OR $2.owner = $1
    OR EXISTS (SELECT FROM pg_authid AS a WHERE a.oid = $2.owner AND pg_has_role($1, a.oid, 'MEMBER'))
$$;
COMMENT ON FUNCTION prism_crypt._may_see(oid, prism_crypt.migration) IS 'Whether a role may see the expression of a migration. Internal';

CREATE FUNCTION prism_crypt._without_secrets(role oid, INOUT migration prism_crypt.migration)
  LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
  IF NOT prism_crypt._may_see(role, migration) THEN
    migration.using_expression := 'an expression of another role';
  END IF;
END $$;
COMMENT ON FUNCTION prism_crypt._without_secrets(oid, prism_crypt.migration) IS
  'A migration as a role may see it. Internal';

CREATE FUNCTION prism_crypt._read_migration(id bigint, note bigint) RETURNS prism_crypt.migration
  LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  role CONSTANT oid := prism_crypt._caller(note);
BEGIN
  RETURN prism_crypt._without_secrets(role, prism_crypt._migration_of(id, role));
END $$;
COMMENT ON FUNCTION prism_crypt._read_migration(bigint, bigint) IS 'A migration of the caller''s. Internal';

-- Makes this session the one that works on a migration. Another one may have died.
CREATE FUNCTION prism_crypt._take_migration(id bigint, note bigint) RETURNS prism_crypt.migration
  LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
  role CONSTANT oid := prism_crypt._caller(note);
  migration prism_crypt.migration := prism_crypt._migration_of(_take_migration.id, role);
  other name;
BEGIN
  PERFORM prism_crypt._bound_waits();
  SELECT * INTO migration FROM prism_crypt.migration AS m WHERE m.id = _take_migration.id FOR NO KEY UPDATE;
  PERFORM pg_stat_clear_snapshot();
  IF (migration.worker_pid, migration.worker_started) IS DISTINCT FROM (pg_backend_pid(), statement_timestamp())
     AND coalesce(prism_crypt._is_working(migration.worker_pid, migration.worker_started), false) THEN
    RAISE object_in_use USING
      MESSAGE = format('process %s works on migration %s', migration.worker_pid, migration.id),
      HINT = 'prism_crypt.migrations shows it.';
  END IF;
  IF NOT prism_crypt._may_see(role, migration) THEN
    RAISE insufficient_privilege USING
      MESSAGE = format('permission denied for migration %s', migration.id), DETAIL = 'Its expression is another role''s.';
  ELSIF NOT prism_crypt._is_trusted(role, migration) THEN
    other := (SELECT a.rolname FROM pg_authid AS a WHERE a.oid = migration.owner);
    RAISE insufficient_privilege USING
      MESSAGE = format('role "%s" has worked on migration %s', coalesce(other, migration.owner::text), migration.id),
      DETAIL = 'What it has recorded would be run with rights that it does not have.',
      HINT = coalesce('SET ROLE ' || quote_ident(other) || ', and call it again.', 'That role is gone.');
  END IF;
  UPDATE prism_crypt.migration AS m
  SET worker_pid = pg_backend_pid(), worker_started = statement_timestamp(), owner = role, error = NULL
  WHERE m.id = _take_migration.id
    AND (m.owner, m.worker_pid, m.worker_started) IS DISTINCT FROM (role, pg_backend_pid(), statement_timestamp());
  RETURN prism_crypt._migration_of(_take_migration.id, role);
END $$;
COMMENT ON FUNCTION prism_crypt._take_migration(bigint, bigint) IS 'Makes this session the worker of a migration. Internal';

-- Code of the table's owner that the worker runs is not the worker.
CREATE FUNCTION prism_crypt._require_worker(role oid, migration prism_crypt.migration) RETURNS void
  LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
  IF (migration.owner, migration.worker_pid, migration.worker_started)
     IS DISTINCT FROM (role, pg_backend_pid(), statement_timestamp()) THEN
    RAISE object_not_in_prerequisite_state USING MESSAGE = format('this session does not work on migration %s', migration.id);
  END IF;
END $$;
COMMENT ON FUNCTION prism_crypt._require_worker(oid, prism_crypt.migration) IS
  'Raises an error unless this session works on a migration. Internal';

-- A caller may record what it likes of a table of its own: whatever comes next looks at the table itself. What is null stays as it is;
-- JSON's null says that no column is closed any more.
CREATE FUNCTION prism_crypt._record_phase(id bigint, phase text, build jsonb, closed jsonb, note bigint) RETURNS void
  LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
  role CONSTANT oid := prism_crypt._caller(note);
  migration CONSTANT prism_crypt.migration := prism_crypt._migration_of(_record_phase.id, role);
BEGIN
  PERFORM prism_crypt._require_worker(role, migration);
  UPDATE prism_crypt.migration AS m
  SET phase = _record_phase.phase, build = coalesce(_record_phase.build, m.build),
      closed = CASE WHEN _record_phase.closed IS NULL THEN m.closed ELSE nullif(_record_phase.closed, 'null') END, error = NULL,
      updated_at = clock_timestamp(),
      using_expression = CASE WHEN _record_phase.phase NOT IN ('finished', 'rolled_back') THEN m.using_expression END,
      cut_over_at = CASE WHEN _record_phase.phase IN ('validation', 'cut_over', 'finished') AND NOT m.is_going_back
                         THEN coalesce(m.cut_over_at, clock_timestamp()) ELSE m.cut_over_at END,
      finished_at = CASE WHEN _record_phase.phase IN ('finished', 'rolled_back') THEN clock_timestamp() END
  WHERE m.id = _record_phase.id;
END $$;
COMMENT ON FUNCTION prism_crypt._record_phase(bigint, text, jsonb, jsonb, bigint) IS 'Records what a migration has come to. Internal';

CREATE FUNCTION prism_crypt._leave_migration(id bigint, error text, note bigint) RETURNS void
  LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
  role CONSTANT oid := prism_crypt._caller(note);
  migration CONSTANT prism_crypt.migration := prism_crypt._migration_of(_leave_migration.id, role);
BEGIN
  PERFORM prism_crypt._require_worker(role, migration);
  UPDATE prism_crypt.migration AS m
  SET error = left(_leave_migration.error, 200), worker_pid = NULL, worker_started = NULL, updated_at = clock_timestamp()
  WHERE m.id = _leave_migration.id;
END $$;
COMMENT ON FUNCTION prism_crypt._leave_migration(bigint, text, bigint) IS 'Ends this session''s work on a migration. Internal';

CREATE FUNCTION prism_crypt._turn(id bigint, back boolean, note bigint) RETURNS void
  LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
  role CONSTANT oid := prism_crypt._caller(note);
  migration CONSTANT prism_crypt.migration := prism_crypt._migration_of(_turn.id, role);
BEGIN
  PERFORM prism_crypt._require_worker(role, migration);
  IF migration.phase IN ('finished', 'rolled_back') THEN
    RAISE object_not_in_prerequisite_state USING
      MESSAGE = format('migration %s is %s', migration.id, replace(migration.phase, '_', ' ')),
      HINT = 'prism_crypt.decrypt_column() makes an encrypted column a plaintext one.';
  END IF;
  UPDATE prism_crypt.migration AS m
  SET is_going_back = back, updated_at = clock_timestamp(),
      phase = CASE WHEN back THEN 'rows' ELSE 'cut_over' END
  WHERE m.id = _turn.id AND m.is_going_back <> back AND m.cut_over_at IS NOT NULL;
  -- Before the cut-over there is one way back only, from wherever it is.
  UPDATE prism_crypt.migration AS m SET is_going_back = back, updated_at = clock_timestamp()
  WHERE m.id = _turn.id AND back AND m.cut_over_at IS NULL;
EXCEPTION WHEN unique_violation THEN
  RAISE object_in_use USING
    MESSAGE = format('another migration of table %s is open', prism_crypt._qualified_name(migration.relation)),
    HINT = 'prism_crypt.migrations shows it.';
END $$;
COMMENT ON FUNCTION prism_crypt._turn(bigint, boolean, bigint) IS 'Records that a migration is to be undone, or finished after all. Internal';

-- A new migration; there must be no other one of the table before its cut-over.
CREATE FUNCTION prism_crypt._open_migration(asked prism_crypt.migration, note bigint) RETURNS bigint
  LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
  role CONSTANT oid := prism_crypt._caller(note);
  found_one prism_crypt.migration;
  new_id bigint;
BEGIN
  PERFORM prism_crypt._require_owner(role, asked.relation);
  PERFORM prism_crypt._bound_waits();
  INSERT INTO prism_crypt.migration (
    relation, column_name, old_type, type, using_expression, method, keep_plaintext, twin, kept, owner)
  VALUES (asked.relation, asked.column_name, asked.old_type, asked.type, asked.using_expression, asked.method,
          asked.keep_plaintext, asked.twin, asked.kept, role)
  ON CONFLICT DO NOTHING RETURNING id INTO new_id;
  IF new_id IS NOT NULL THEN
    RETURN new_id;
  END IF;
  SELECT * INTO STRICT found_one FROM prism_crypt.migration AS m
  WHERE m.relation = asked.relation AND m.phase NOT IN ('cut_over', 'finished', 'rolled_back');
  RAISE object_in_use USING
    MESSAGE = format('migration %s of table %s is open', found_one.id, prism_crypt._qualified_name(asked.relation)),
    DETAIL = format('It migrates column "%s" to %s.', found_one.column_name, found_one.type),
    HINT = 'Go on with it, by the call that began it, or call prism_crypt.rollback_migration().';
END $$;
COMMENT ON FUNCTION prism_crypt._open_migration(prism_crypt.migration, bigint) IS 'Records a new migration. Internal';

-- The open migration of a column, for a call that goes on with it; null if there is none.
CREATE FUNCTION prism_crypt._find_migration(relation regclass, column_name name, note bigint) RETURNS prism_crypt.migration
  LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
  role CONSTANT oid := prism_crypt._caller(note);
  found_one prism_crypt.migration;
BEGIN
  PERFORM prism_crypt._require_owner(role, _find_migration.relation);
  SELECT * INTO found_one FROM prism_crypt.migration AS m
  WHERE m.relation = _find_migration.relation AND m.column_name = _find_migration.column_name
    AND m.phase NOT IN ('finished', 'rolled_back')
  ORDER BY m.id DESC LIMIT 1;
  RETURN prism_crypt._without_secrets(role, found_one);
END $$;
COMMENT ON FUNCTION prism_crypt._find_migration(regclass, name, bigint) IS 'The open migration of a column. Internal';

-- A migration that goes back after its cut-over is one whose twin is the column that was kept.
CREATE FUNCTION prism_crypt._as_it_goes(INOUT migration prism_crypt.migration)
  LANGUAGE plpgsql IMMUTABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  asked CONSTANT prism_crypt.migration := migration;
BEGIN
  IF asked.is_going_back AND asked.cut_over_at IS NOT NULL THEN
    migration.type := asked.old_type;
    migration.twin := asked.kept;
    migration.kept := asked.twin;
  END IF;
END $$;
COMMENT ON FUNCTION prism_crypt._as_it_goes(prism_crypt.migration) IS 'A migration in the direction that it goes. Internal';

-- sql/migration/jobs.sql
-- The rows of a migration, as jobs: a backfill fills the twin column where it is empty, and a verification compares every row.
--
-- Neither makes a value itself. Where the old value is the new one, the trigger makes it as soon as the twin is null in a row that
-- is written, so that there is one way only in which a value comes about.

-- The migration in a scope, if that has exactly the form it may have.
CREATE FUNCTION prism_crypt._migration_in(scope jsonb) RETURNS bigint
  LANGUAGE plpgsql IMMUTABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  id CONSTANT bigint := scope ->> 'migration';
BEGIN
  IF scope IS DISTINCT FROM jsonb_build_object('migration', id) THEN
    RAISE invalid_parameter_value USING MESSAGE = 'the scope of a backfill or a verification is a migration';
  END IF;
  RETURN id;
END $$;
COMMENT ON FUNCTION prism_crypt._migration_in(jsonb) IS 'The migration that a job belongs to. Internal';

CREATE FUNCTION prism_crypt._require_all_rows(relation regclass) RETURNS void
  LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  problem regclass;
BEGIN
  SELECT t.member INTO problem FROM prism_crypt._table_tree(relation) AS t WHERE row_security_active(t.member) LIMIT 1;
  IF FOUND THEN
    RAISE insufficient_privilege USING
      MESSAGE = format('row-level security may hide rows of %s from this role', prism_crypt._qualified_name(problem)),
      HINT = 'ALTER TABLE ... NO FORCE ROW LEVEL SECURITY, or call it as a role with BYPASSRLS.';
  END IF;
END $$;
COMMENT ON FUNCTION prism_crypt._require_all_rows(regclass) IS 'Raises an error if this role may not see all rows of a table. Internal';

-- How many rows of a table (`changed`) meet a condition. All count, whoever asks.
CREATE FUNCTION prism_crypt._count_rows(relation regclass, condition text) RETURNS bigint
  LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  answer bigint;
BEGIN
  PERFORM prism_crypt._require_all_rows(relation);
  EXECUTE format('SELECT count(*) FROM %s AS changed WHERE %s', prism_crypt._qualified_name(relation), condition) INTO answer;
  RETURN answer;
END $$;
COMMENT ON FUNCTION prism_crypt._count_rows(regclass, text) IS 'How many rows of a table meet a condition. Internal';

CREATE FUNCTION prism_crypt._check_rows(relation regclass, column_name name, scope jsonb) RETURNS void
  LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
  PERFORM prism_crypt._read_migration(prism_crypt._migration_in(scope), prism_crypt._note_caller()),
    prism_crypt._require_all_rows(relation);
END $$;
COMMENT ON FUNCTION prism_crypt._check_rows(regclass, name, jsonb) IS
  'Raises an error if this role can''t migrate the rows of a table. Internal';

-- Runs with the owner's rights.
CREATE FUNCTION prism_crypt._migration_parts(relation regclass, column_name name, scope jsonb) RETURNS regclass[]
  LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
  wanted CONSTANT bigint := prism_crypt._migration_in(scope);
BEGIN
  IF NOT EXISTS (SELECT FROM prism_crypt.migration AS m
                 WHERE m.id = wanted AND m.relation = _migration_parts.relation
                   AND m.column_name = _migration_parts.column_name
                   AND m.phase IN ('rows', 'verification')) THEN
    RAISE object_not_in_prerequisite_state USING MESSAGE = format('migration %s has no rows to work on now', wanted);
  END IF;
  RETURN ARRAY(SELECT t.member::regclass FROM prism_crypt._table_tree(_migration_parts.relation) AS t WHERE t.relkind = 'r' ORDER BY 1);
END $$;
COMMENT ON FUNCTION prism_crypt._migration_parts(regclass, name, jsonb) IS 'The tables that hold the rows of a migration. Internal';

-- What the twin is made of, as an expression over the row `changed`.
CREATE FUNCTION prism_crypt._source_of(migration prism_crypt.migration) RETURNS text
  LANGUAGE sql IMMUTABLE SET search_path = pg_catalog, pg_temp AS $$
  SELECT CASE WHEN migration.using_expression IS NULL THEN format('changed.%I', migration.column_name)
              ELSE format('(%s)', migration.using_expression) END
$$;
COMMENT ON FUNCTION prism_crypt._source_of(prism_crypt.migration) IS 'The expression that a migration makes values of. Internal';

-- An expression that gives null for a value (a wrong key, perhaps) would lose it with the old column. If that stays for now, it is a warning.
CREATE FUNCTION prism_crypt._require_no_values_lost(migration prism_crypt.migration, unfilled text) RETURNS void
  LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  is_kept CONSTANT boolean := migration.keep_plaintext AND migration.method = 'online';
  rows CONSTANT bigint := prism_crypt._count_rows(
    migration.relation, format('%s AND %s IS NULL', unfilled, prism_crypt._source_of(migration)));
BEGIN
  IF rows = 0 THEN
    RETURN;
  END IF;
  IF is_kept THEN
    RAISE WARNING 'the expression gives null for values of column "%" that are not null: %', migration.column_name, rows
      USING HINT = 'finish_migration() refuses to drop what only the old column has.';
  ELSE
    RAISE not_null_violation USING
      MESSAGE = format('the expression gives null for values of column "%s" that are not null: %s', migration.column_name, rows),
      DETAIL = 'They would be lost with the old column.',
      HINT = 'Use method => ''online'' with keep_plaintext => true, or another expression.';
  END IF;
END $$;
COMMENT ON FUNCTION prism_crypt._require_no_values_lost(prism_crypt.migration, text) IS
  'Raises an error or a warning if an expression gives null for values. Internal';

CREATE FUNCTION prism_crypt._changes_of(migration prism_crypt.migration, due text) RETURNS prism_crypt._changes
  LANGUAGE plpgsql IMMUTABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  changes prism_crypt._changes;
BEGIN
  changes.due := due;
  changes.possible := due;
  changes.assignments := format(
    '%I = %s', migration.twin, CASE WHEN migration.using_expression IS NULL THEN 'NULL' ELSE prism_crypt._source_of(migration) END);
  changes.assignments_or_kept := changes.assignments;
  changes.errors := ARRAY[format('CASE WHEN %s THEN '''' END', due)];
  changes.hides_rest := false;
  RETURN changes;
END $$;
COMMENT ON FUNCTION prism_crypt._changes_of(prism_crypt.migration, text) IS 'What a migration does with rows that are due. Internal';

CREATE FUNCTION prism_crypt._backfill_changes(relation regclass, column_name name, scope jsonb) RETURNS prism_crypt._changes
  LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  migration CONSTANT prism_crypt.migration := prism_crypt._as_it_goes(
    prism_crypt._read_migration(prism_crypt._migration_in(scope), prism_crypt._note_caller()));
BEGIN
  RETURN prism_crypt._changes_of(migration, format(
    'changed.%I IS NULL AND %s IS NOT NULL', migration.twin, prism_crypt._source_of(migration)));
END $$;
COMMENT ON FUNCTION prism_crypt._backfill_changes(regclass, name, jsonb) IS 'What a backfill does with the rows of one table. Internal';

CREATE FUNCTION prism_crypt._verification_changes(relation regclass, column_name name, scope jsonb) RETURNS prism_crypt._changes
  LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_variable
DECLARE
  migration CONSTANT prism_crypt.migration := prism_crypt._as_it_goes(
    prism_crypt._read_migration(prism_crypt._migration_in(scope), prism_crypt._note_caller()));
  modifier integer;
BEGIN
  SELECT a.atttypmod INTO modifier FROM pg_attribute AS a
  WHERE a.attrelid = relation AND a.attname = migration.twin AND NOT a.attisdropped;
  RETURN prism_crypt._changes_of(migration, format(
    '%sprism_crypt._is_out_of_step(%s, changed.%I, %s)',
    -- What has no value here gets it at the cut-over.
    CASE WHEN migration.using_expression IS NOT NULL THEN format('changed.%I IS NOT NULL AND ', migration.twin) END,
    prism_crypt._source_of(migration), migration.twin, coalesce(modifier, -1)));
END $$;
COMMENT ON FUNCTION prism_crypt._verification_changes(regclass, name, jsonb) IS
  'What a verification does with the rows of one table. Internal';

-- A migration goes on once its jobs are finished.
INSERT INTO prism_crypt.job_kind (name, checks, parts, changes, rows_changed, by_owner) VALUES
  ('backfill', 'prism_crypt._check_rows', 'prism_crypt._migration_parts', 'prism_crypt._backfill_changes', 'rows filled', true),
  ('verification', 'prism_crypt._check_rows', 'prism_crypt._migration_parts', 'prism_crypt._verification_changes',
   'rows corrected', true);

-- How the last job of a migration ended; null if there is none.
CREATE FUNCTION prism_crypt._job_of_migration(id bigint, kind text, note bigint, OUT state text, OUT rows_left bigint)
  LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  role CONSTANT oid := prism_crypt._caller(note);
  migration CONSTANT prism_crypt.migration := prism_crypt._migration_of(_job_of_migration.id, role);
BEGIN
  SELECT j.state, (SELECT sum(p.left_over) FROM prism_crypt.job_part AS p WHERE p.job = j.id) INTO state, rows_left
  FROM prism_crypt.job AS j
  WHERE j.kind = _job_of_migration.kind AND j.relation = migration.relation AND j.scope = jsonb_build_object('migration', migration.id)
  ORDER BY j.id DESC LIMIT 1;
END $$;
COMMENT ON FUNCTION prism_crypt._job_of_migration(bigint, text, bigint) IS 'How a job of a migration ended. Internal';

-- sql/migration/twin.sql
-- The twin column, and the triggers that keep two columns in step. Each function is one transaction under a short lock.

-- In 14, a trigger of a partitioned table is enabled on it alone.
CREATE FUNCTION prism_crypt._make_triggers(migration prism_crypt.migration, source name, target name, mode text) RETURNS void
  LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  -- Triggers fire in the order of their names, and this one has to see what the others make of a row.
  trigger_name CONSTANT text := prism_crypt._trigger_name(migration.id);
  member regclass;
BEGIN
  FOR member IN
    SELECT t.member FROM prism_crypt._table_tree(migration.relation) AS t JOIN pg_class AS c ON c.oid = t.member
    -- Partitions get theirs from the partitioned table.
    WHERE t.relkind IN ('r', 'p') AND (NOT c.relispartition OR t.member = migration.relation)
  LOOP
    EXECUTE format(
      'CREATE TRIGGER %I BEFORE INSERT OR UPDATE ON %s FOR EACH ROW EXECUTE FUNCTION prism_crypt._keep_in_step(%L, %L, %L)',
      trigger_name, prism_crypt._qualified_name(member), source, target, mode);
    -- Only who owns the table can do this, so the trigger knows that it acts for its owner.
    EXECUTE format('ALTER TRIGGER %I ON %s DEPENDS ON EXTENSION prism_crypt', trigger_name, prism_crypt._qualified_name(member));
  END LOOP;
  FOR member IN
    SELECT t.member FROM prism_crypt._table_tree(migration.relation) AS t WHERE t.relkind IN ('r', 'p')
  LOOP
    -- Also for what is applied from other servers, and for sessions that switch triggers off.
    EXECUTE format('ALTER TABLE ONLY %s ENABLE ALWAYS TRIGGER %I', prism_crypt._qualified_name(member), trigger_name);
  END LOOP;
END $$;
COMMENT ON FUNCTION prism_crypt._make_triggers(prism_crypt.migration, name, name, text) IS
  'Makes the triggers that keep two columns in step. Internal';

CREATE FUNCTION prism_crypt._is_gone(relation regclass) RETURNS boolean
  LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$ SELECT NOT EXISTS (SELECT FROM pg_class AS c WHERE c.oid = $1) $$;
COMMENT ON FUNCTION prism_crypt._is_gone(regclass) IS 'Whether a table was dropped. Internal';

-- The two columns that a migration has now, and that they still are a plain and an encrypted one.
CREATE FUNCTION prism_crypt._require_columns(migration prism_crypt.migration) RETURNS void
  LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  is_cut_over CONSTANT boolean := migration.cut_over_at IS NOT NULL;
  other CONSTANT name := CASE WHEN is_cut_over THEN migration.kept ELSE migration.twin END;
  named CONSTANT text := prism_crypt._qualified_name(migration.relation);
  problem text;
BEGIN
  SELECT format('%I %s', c.name, CASE WHEN a.attnum IS NULL THEN 'is gone'
                                      ELSE format('has type %s now', format_type(a.atttypid, a.atttypmod)) END)
    INTO problem
  FROM (VALUES (migration.column_name, is_cut_over), (other, NOT is_cut_over)) AS c (name, is_new)
  LEFT JOIN pg_attribute AS a ON a.attrelid = migration.relation AND a.attname = c.name AND NOT a.attisdropped
  WHERE a.attnum IS NULL
     OR prism_crypt._holds_encrypted(a.atttypid) <> (c.is_new = (migration.type ~ '\mencrypted_text\M'))
  LIMIT 1;
  IF FOUND THEN
    RAISE object_not_in_prerequisite_state USING
      MESSAGE = format('a column of migration %s was changed', migration.id), DETAIL = format('In table %s, %s.', named, problem),
      HINT = format('Make it what it was, or CALL prism_crypt.%s(%s).',
                    CASE WHEN is_cut_over THEN 'finish_migration' ELSE 'rollback_migration' END, migration.id);
  END IF;
END $$;
COMMENT ON FUNCTION prism_crypt._require_columns(prism_crypt.migration) IS
  'Raises an error if a column of a migration is not what it was. Internal';

-- The column that a trigger of a migration gives values: its second argument. Null for other triggers.
CREATE FUNCTION prism_crypt._filled_by(trigger_ pg_trigger) RETURNS name
  LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
  SELECT convert_from(decode(split_part(encode($1.tgargs, 'escape'), '\000', 2), 'escape'), getdatabaseencoding())::name
  WHERE $1.tgfoid = 'prism_crypt._keep_in_step'::regproc
$$;
COMMENT ON FUNCTION prism_crypt._filled_by(pg_trigger) IS 'The column that a trigger of a migration gives values. Internal';

CREATE FUNCTION prism_crypt._drop_triggers(migration prism_crypt.migration) RETURNS void
  LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  one record;
BEGIN
  FOR one IN
    SELECT t.member, g.tgname FROM prism_crypt._table_tree(migration.relation) AS t
    JOIN pg_trigger AS g ON g.tgrelid = t.member AND g.tgparentid = 0
    WHERE g.tgname = prism_crypt._trigger_name(migration.id)
      -- Somebody may have renamed it. Without the column that it fills, it lets nobody write.
      OR prism_crypt._filled_by(g) IN (migration.twin, migration.kept)
  LOOP
    EXECUTE format('DROP TRIGGER %I ON %s', one.tgname, prism_crypt._qualified_name(one.member));
  END LOOP;
END $$;
COMMENT ON FUNCTION prism_crypt._drop_triggers(prism_crypt.migration) IS 'Drops the triggers of a migration. Internal';

-- Where a dump did not bring the record of a migration, its trigger stays, and knows the columns by their names.
CREATE FUNCTION prism_crypt._stray_triggers(relation regclass) RETURNS SETOF prism_crypt._dependant
  LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  one record;
  migration prism_crypt.migration;
BEGIN
  FOR one IN
    SELECT g.tgname, substring(g.tgname FROM '^~prism_crypt_(\d{1,18})$')::bigint AS id, prism_crypt._filled_by(g) AS filled,
           prism_crypt._qualified_name(t.member) AS named
    FROM prism_crypt._table_tree(relation) AS t JOIN pg_trigger AS g ON g.tgrelid = t.member AND g.tgparentid = 0
    WHERE prism_crypt._filled_by(g) IS NOT NULL ORDER BY t.member, g.tgname
  LOOP
    BEGIN
      migration := prism_crypt._read_migration(one.id, prism_crypt._note_caller());
    EXCEPTION WHEN undefined_object OR null_value_not_allowed OR insufficient_privilege THEN
      migration := NULL;
    END;
    IF migration.id IS NULL OR migration.relation <> relation OR migration.phase IN ('finished', 'rolled_back')
       OR one.filled NOT IN (migration.twin, migration.kept) THEN
      RETURN NEXT prism_crypt._dependant('trigger', format('%I on %s', one.tgname, one.named),
        blocks => format('it gives column "%s" values, for a migration that this database does not know', one.filled),
        unblock => format('DROP TRIGGER %I ON %s', one.tgname, one.named));
    END IF;
  END LOOP;
END $$;
COMMENT ON FUNCTION prism_crypt._stray_triggers(regclass) IS 'Triggers of migrations that are not recorded. Internal';

-- A table that has no trigger, or one that is switched off, may have rows that are not in step: a child that came later, a partition
-- that was detached and attached again.
CREATE FUNCTION prism_crypt._lacks_trigger(migration prism_crypt.migration) RETURNS regclass
  LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
  SELECT t.member FROM prism_crypt._table_tree(migration.relation) AS t
  WHERE t.relkind = 'r' AND NOT EXISTS (
    SELECT FROM pg_trigger AS g
    WHERE g.tgrelid = t.member AND g.tgname = prism_crypt._trigger_name(migration.id) AND g.tgenabled = 'A')
  ORDER BY t.member LIMIT 1
$$;
COMMENT ON FUNCTION prism_crypt._lacks_trigger(prism_crypt.migration) IS 'A table without the trigger of a migration, if there is one. Internal';

-- Which triggers there are, since when. A partition that was detached and attached again, or comes with rows, has others; so has a
-- table on which they were switched off for a while.
CREATE FUNCTION prism_crypt._trigger_marks(migration prism_crypt.migration) RETURNS text
  LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
  SELECT coalesce(md5(string_agg(format('%s %s %s %s', g.tgrelid, g.oid, g.xmin, g.tgenabled), ',' ORDER BY g.tgrelid)), '')
  FROM prism_crypt._table_tree(migration.relation) AS t JOIN pg_trigger AS g ON g.tgrelid = t.member
  WHERE t.relkind = 'r' AND g.tgname = prism_crypt._trigger_name(migration.id)
$$;
COMMENT ON FUNCTION prism_crypt._trigger_marks(prism_crypt.migration) IS 'What tells whether triggers were there all the time. Internal';

-- Whether all that was written since the verification began is in step. A rewrite needs none; and nobody can verify the way back from an
-- expression.
CREATE FUNCTION prism_crypt._is_verified(migration prism_crypt.migration) RETURNS boolean
  LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
  SELECT migration.method = 'rewrite' OR migration.is_going_back AND migration.using_expression IS NOT NULL
    OR NOT prism_crypt._has_late_triggers(migration.relation)
       AND coalesce(migration.build ->> 'triggers' = prism_crypt._trigger_marks(migration), false)
$$;
COMMENT ON FUNCTION prism_crypt._is_verified(prism_crypt.migration) IS 'Whether the verification of a migration still counts. Internal';

-- On the way back the triggers can be made again: the verification that follows corrects whatever was written without them. Who goes
-- forth can begin again.
CREATE FUNCTION prism_crypt._needs_triggers(migration prism_crypt.migration) RETURNS boolean
  LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
  SELECT migration.is_going_back AND migration.cut_over_at IS NOT NULL AND migration.using_expression IS NULL
    AND migration.phase IN ('rows', 'indexes', 'verification', 'statistics', 'ready')
    AND prism_crypt._lacks_trigger(migration) IS NOT NULL
$$;
COMMENT ON FUNCTION prism_crypt._needs_triggers(prism_crypt.migration) IS
  'Whether the triggers of a migration have to be made again. Internal';

CREATE FUNCTION prism_crypt._make_triggers_again(migration prism_crypt.migration) RETURNS void
  LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
  PERFORM prism_crypt._lock_tree(migration.relation);
  PERFORM prism_crypt._drop_triggers(migration);
  PERFORM prism_crypt._make_triggers(migration, migration.column_name, migration.kept, 'return');
END $$;
COMMENT ON FUNCTION prism_crypt._make_triggers_again(prism_crypt.migration) IS 'Makes the triggers of a cut-over again. Internal';

CREATE FUNCTION prism_crypt._require_triggers(migration prism_crypt.migration) RETURNS void
  LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  lacking regclass;
BEGIN
  lacking := prism_crypt._lacks_trigger(migration);
  IF lacking IS NOT NULL THEN
    RAISE object_not_in_prerequisite_state USING
      MESSAGE = format('table %s has lost the trigger of migration %s', prism_crypt._qualified_name(lacking), migration.id),
      DETAIL = 'So rows may have been written that are not in step.',
      HINT = CASE WHEN migration.cut_over_at IS NULL THEN format('Call prism_crypt.rollback_migration(%s), and begin again.', migration.id)
                  ELSE format('CALL prism_crypt.finish_migration(%s), or make the trigger again.', migration.id) END;
  END IF;
END $$;
COMMENT ON FUNCTION prism_crypt._require_triggers(prism_crypt.migration) IS
  'Raises an error if the triggers of a migration are not all there. Internal';

CREATE FUNCTION prism_crypt._has_column(relation regclass, column_name name) RETURNS boolean
  LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
  SELECT EXISTS (SELECT FROM pg_attribute AS a WHERE a.attrelid = $1 AND a.attname = $2 AND NOT a.attisdropped)
$$;
COMMENT ON FUNCTION prism_crypt._has_column(regclass, name) IS 'Whether a table has a column. Internal';

CREATE FUNCTION prism_crypt._add_twin(migration prism_crypt.migration) RETURNS void
  LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  table_name CONSTANT text := prism_crypt._qualified_name(migration.relation);
BEGIN
  PERFORM prism_crypt._lock_tree(migration.relation);
  -- A subscriber may have made it before.
  IF NOT prism_crypt._has_column(migration.relation, migration.twin) THEN
    EXECUTE format('ALTER TABLE %s ADD COLUMN %I %s', table_name, migration.twin, migration.type);
  END IF;
  EXECUTE format(
    'COMMENT ON COLUMN %s.%I IS %L', table_name, migration.twin,
    format('The values of "%s" as %s, for migration %s',
           migration.column_name, migration.type, migration.id));
  PERFORM prism_crypt._make_triggers(
    migration, migration.column_name, migration.twin,
    CASE WHEN migration.using_expression IS NULL THEN 'follow' ELSE 'clear' END);
END $$;
COMMENT ON FUNCTION prism_crypt._add_twin(prism_crypt.migration) IS 'Adds the twin column and its triggers. Internal';

CREATE FUNCTION prism_crypt._drop_twin(migration prism_crypt.migration) RETURNS void
  LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
  PERFORM prism_crypt._lock_tree(migration.relation);
  PERFORM prism_crypt._drop_triggers(migration);
  IF prism_crypt._has_column(migration.relation, migration.twin) THEN
    EXECUTE format('ALTER TABLE %s DROP COLUMN %I', prism_crypt._qualified_name(migration.relation), migration.twin);
  END IF;
END $$;
COMMENT ON FUNCTION prism_crypt._drop_twin(prism_crypt.migration) IS 'Drops the twin column and its triggers. Internal';

-- Before anybody queries the new column.
CREATE FUNCTION prism_crypt._analyze(relation regclass, column_name name) RETURNS void
  LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp SET client_min_messages = error AS $$
BEGIN
  EXECUTE format('ANALYZE %s (%I)', prism_crypt._qualified_name(relation), column_name);
END $$;
COMMENT ON FUNCTION prism_crypt._analyze(regclass, name) IS 'Computes the statistics of a column. Internal';

-- sql/migration/closing.sql
-- After the cut-over the old column is closed to everybody but the owner. PostgreSQL has no way to take one column out of a grant on
-- the table, so such grants are split into grants on the other columns, and put together again when the old column is gone.

-- Grants that the owner has made on tables, and the columns that have them anyway.
CREATE FUNCTION prism_crypt._table_grants(
  relation regclass, OUT member text, OUT oid oid, OUT grantee text, OUT privilege text, OUT grantable boolean, OUT columns jsonb
) RETURNS SETOF record
  LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
  SELECT prism_crypt._qualified_name(t.member), t.member, prism_crypt._grantee(g.grantee),
         g.privilege_type, g.is_grantable,
         (SELECT coalesce(jsonb_object_agg(a.attname, o.is_grantable), '{}')
          FROM pg_attribute AS a CROSS JOIN LATERAL aclexplode(a.attacl) AS o
          WHERE a.attrelid = t.member AND NOT a.attisdropped AND o.grantor = c.relowner AND o.grantee = g.grantee
            AND o.privilege_type = g.privilege_type)
  FROM prism_crypt._table_tree($1) AS t JOIN pg_class AS c ON c.oid = t.member
  CROSS JOIN LATERAL aclexplode(c.relacl) AS g
  WHERE g.privilege_type IN ('SELECT', 'INSERT', 'UPDATE', 'REFERENCES') AND g.grantor = c.relowner AND g.grantee <> c.relowner
  ORDER BY 1, 3, 4
$$;
COMMENT ON FUNCTION prism_crypt._table_grants(regclass) IS 'Grants on a table that are for all of its columns. Internal';

-- Closes a column; gives what has to be put together again.
CREATE FUNCTION prism_crypt._close_column(relation regclass, column_name name) RETURNS jsonb
  LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  closed jsonb := '[]';
  one record;
  extra record;
  others name[];
BEGIN
  FOR one IN
    SELECT DISTINCT prism_crypt._qualified_name(t.member) AS member, g.grantee
    FROM prism_crypt._table_tree(relation) AS t JOIN pg_attribute AS a ON a.attrelid = t.member AND a.attname = column_name
    CROSS JOIN LATERAL aclexplode(a.attacl) AS g
  LOOP
    EXECUTE format('REVOKE ALL (%I) ON %s FROM %s CASCADE', column_name, one.member, prism_crypt._grantee(one.grantee));
  END LOOP;
  FOR one IN SELECT * FROM prism_crypt._table_grants(relation) LOOP
    others := ARRAY(
      SELECT a.attname FROM pg_attribute AS a
      WHERE a.attrelid = one.member::regclass AND a.attnum > 0 AND NOT a.attisdropped AND a.attname <> column_name ORDER BY a.attnum);
    closed := closed || jsonb_build_array(to_jsonb(one) || jsonb_build_object('others', others));
    EXECUTE format('REVOKE %s ON %s FROM %s CASCADE', one.privilege, one.member, one.grantee);
    IF others <> '{}' THEN
      EXECUTE format('GRANT %s (%s) ON %s TO %s%s', one.privilege,
                     (SELECT string_agg(quote_ident(o.name), ', ' ORDER BY o.number) FROM unnest(others) WITH ORDINALITY AS o (name, number)),
                     one.member, one.grantee, prism_crypt._with_option(one.grantable));
    END IF;
    -- With a grant option that they had beside.
    FOR extra IN SELECT c.key FROM jsonb_each_text(one.columns) AS c WHERE c.value::boolean AND c.key::name = ANY (others) LOOP
      EXECUTE format('GRANT %s (%I) ON %s TO %s%s', one.privilege, extra.key, one.member, one.grantee, prism_crypt._with_option(true));
    END LOOP;
  END LOOP;
  RETURN closed;
END $$;
COMMENT ON FUNCTION prism_crypt._close_column(regclass, name) IS 'Closes a column to everybody but the owner. Internal';

-- Grants on columns that the owner has made to one grantee, among these.
CREATE FUNCTION prism_crypt._column_grants(member oid, grantee text, privilege text, columns jsonb, OUT name name, OUT grantable boolean)
  RETURNS SETOF record
  LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
  -- A column that is there, and null if it is not granted.
  SELECT a.attname, (SELECT bool_or(g.is_grantable) FROM aclexplode(a.attacl) AS g
                     WHERE g.grantor = c.relowner AND prism_crypt._grantee(g.grantee) = $2 AND g.privilege_type = $3)
  FROM pg_class AS c JOIN pg_attribute AS a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
  WHERE c.oid = $1 AND $4 ? a.attname
$$;
COMMENT ON FUNCTION prism_crypt._column_grants(oid, text, text, jsonb) IS 'Which columns are granted to a role. Internal';

-- A member of the table that is gone, or a role, needs nothing any more. A member is known by its name; by its OID if it was renamed. What is
-- recorded may have been recorded by hand, so it is taken as names, and concerns tables of this tree. What the owner has revoked since,
-- from the whole or from a column, stays revoked: then the grants on columns stay as they are.
CREATE FUNCTION prism_crypt._open_column(relation regclass, closed jsonb) RETURNS void
  LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  one record;
  extra record;
  are_granted boolean;
  are_grantable boolean;
BEGIN
  FOR one IN
    SELECT t.member AS oid, prism_crypt._qualified_name(t.member) AS member, c.grantee, c.privilege, c.columns, c.others
    FROM jsonb_to_recordset(closed) AS c (member text, oid oid, grantee text, privilege text, columns jsonb, others jsonb)
    JOIN prism_crypt._table_tree(relation) AS t ON t.member = coalesce(to_regclass(c.member), c.oid)
    WHERE c.privilege IN ('SELECT', 'INSERT', 'UPDATE', 'REFERENCES')
      AND (c.grantee = 'PUBLIC' OR c.grantee IN (SELECT quote_ident(r.rolname) FROM pg_roles AS r))
  LOOP
    SELECT bool_and(g.grantable IS NOT NULL), bool_and(g.grantable) INTO are_granted, are_grantable
    FROM prism_crypt._column_grants(one.oid, one.grantee, one.privilege, one.others) AS g;
    CONTINUE WHEN are_granted IS NOT TRUE;
    -- Those of before, if they are still there.
    SELECT coalesce(jsonb_object_agg(g.name, g.grantable) FILTER (WHERE g.grantable IS NOT NULL), '{}') INTO one.columns
    FROM prism_crypt._column_grants(one.oid, one.grantee, one.privilege, one.columns) AS g;
    EXECUTE format('REVOKE %s ON %s FROM %s CASCADE', one.privilege, one.member, one.grantee);
    EXECUTE format('GRANT %s ON %s TO %s%s', one.privilege, one.member, one.grantee, prism_crypt._with_option(are_grantable));
    FOR extra IN SELECT c.key, c.value::boolean AS grantable FROM jsonb_each_text(one.columns) AS c LOOP
      EXECUTE format('GRANT %s (%I) ON %s TO %s%s', one.privilege, extra.key, one.member, one.grantee,
                     prism_crypt._with_option(extra.grantable));
    END LOOP;
  END LOOP;
END $$;
COMMENT ON FUNCTION prism_crypt._open_column(regclass, jsonb) IS 'Puts the grants together again that _close_column() split. Internal';

-- Grants that others made with their grant option are gone when that is split.
CREATE FUNCTION prism_crypt._handed_on_grants(relation regclass) RETURNS SETOF prism_crypt._dependant
  LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
  WITH grants AS (
    SELECT prism_crypt._qualified_name(c.oid) AS named, c.oid, c.relowner, g.grantor, g.grantee, g.privilege_type, NULL::name AS column_name
    FROM prism_crypt._table_tree($1) AS t JOIN pg_class AS c ON c.oid = t.member CROSS JOIN LATERAL aclexplode(c.relacl) AS g
    UNION ALL
    SELECT prism_crypt._qualified_name(c.oid), c.oid, c.relowner, g.grantor, g.grantee, g.privilege_type, a.attname
    FROM prism_crypt._table_tree($1) AS t JOIN pg_class AS c ON c.oid = t.member
    JOIN pg_attribute AS a ON a.attrelid = c.oid AND NOT a.attisdropped CROSS JOIN LATERAL aclexplode(a.attacl) AS g
  )
  SELECT prism_crypt._dependant('grant', format('%s on %s', g.what, g.named),
    blocks => format('role %s has granted it to %s: splitting grants of the table, so that the old column is closed, takes that away',
                     prism_crypt._grantee(g.grantor), prism_crypt._grantee(g.grantee)),
    unblock => format('GRANT %s ON %s TO %s; REVOKE GRANT OPTION FOR %1$s ON %2$s FROM %4$s CASCADE', g.what, g.named,
                      prism_crypt._grantee(g.grantee), prism_crypt._grantee(g.grantor)))
  FROM (SELECT x.*, x.privilege_type || coalesce(' (' || quote_ident(x.column_name) || ')', '') AS what FROM grants AS x) AS g
  WHERE g.privilege_type IN ('SELECT', 'INSERT', 'UPDATE', 'REFERENCES') AND g.grantor <> g.relowner
    -- A grant on columns only is not split.
    AND EXISTS (SELECT FROM grants AS w WHERE w.oid = g.oid AND w.column_name IS NULL AND w.grantor = w.relowner
                  AND w.grantee = g.grantor AND w.privilege_type = g.privilege_type)
  ORDER BY g.named, g.what, g.grantor, g.grantee
$$;
COMMENT ON FUNCTION prism_crypt._handed_on_grants(regclass) IS 'Grants of a table that would be lost. Internal';

-- sql/migration/build.sql
-- Indexes and constraints of the new column. What has to be done is written down once, and then done statement by statement, so that
-- an interruption costs one of them.
--
-- `build` of a migration has: statements, an array of sql and index (its name, if it is built CONCURRENTLY by a statement of its own);
-- done, how many of them are done; late, what is built under the lock of the cut-over; swap, what puts all of it in the place of the
-- old ones; after, what is left to do then; old, what the old ones were;
-- and triggers, those that were there when the verification began.

-- By what it is, not by its OID, which is another one where a dump is restored.
CREATE FUNCTION prism_crypt._as_defined(one prism_crypt._twin_definition) RETURNS text
  LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
  SELECT format('%s on %s: %s', concat_ws(' ', $1.kind, quote_ident($1.old_name)), prism_crypt._qualified_name($1.member),
                prism_crypt._definition(CASE WHEN $1.kind IN ('check', 'not null') THEN 'constraint' ELSE 'index' END, $1.old_oid,
                                        'pg_catalog, pg_temp'))
$$;
COMMENT ON FUNCTION prism_crypt._as_defined(prism_crypt._twin_definition) IS 'What an index or a constraint of a column is. Internal';

CREATE FUNCTION prism_crypt._plan_build(migration prism_crypt.migration) RETURNS jsonb
  LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  -- Where the trigger can't make a value, the twin is null in rows that are written, until the columns change places.
  has_gaps CONSTANT boolean := migration.using_expression IS NOT NULL;
  one prism_crypt._twin_definition;
  steps jsonb;
  statements jsonb := '[]';
  late jsonb := '[]';
  swap jsonb := '[]';
  last jsonb := '[]';
  after jsonb := '[]';
  old jsonb := '[]';
BEGIN
  FOR one IN
    SELECT d.* FROM prism_crypt._twin_definitions(migration.relation, migration.column_name, migration.type, migration.twin) AS d
    ORDER BY d.ordinal
  LOOP
    IF one.blocks IS NOT NULL THEN
      RAISE object_not_in_prerequisite_state USING
        MESSAGE = format('%s "%s" can''t be carried over', one.kind, one.old_name), DETAIL = one.blocks,
        HINT = coalesce(one.unblock, 'prism_crypt.explain_migration() says more.');
    END IF;
    SELECT coalesce(jsonb_agg(jsonb_build_object('sql', s.sql, 'index',
             CASE WHEN s.sql ~ '^CREATE (UNIQUE )?INDEX CONCURRENTLY ' THEN format('%I.%I', n.nspname, one.new_name) END) ORDER BY s.number), '[]')
      INTO steps
    FROM unnest(one.build) WITH ORDINALITY AS s (sql, number)
    JOIN pg_class AS c ON c.oid = one.member JOIN pg_namespace AS n ON n.oid = c.relnamespace;
    IF has_gaps AND one.kind = 'not null' THEN
      late := late || to_jsonb(one.build);
    ELSE
      statements := statements || steps;
    END IF;
    -- A primary key has to go before NOT NULL can.
    IF one.kind = 'not null' THEN
      last := last || to_jsonb(coalesce(one.swap, '{}'));
    ELSE
      swap := swap || to_jsonb(coalesce(one.swap, '{}'));
    END IF;
    after := after || to_jsonb(coalesce(one.after, '{}'));
    old := old || to_jsonb(prism_crypt._as_defined(one));
  END LOOP;
  RETURN jsonb_build_object('statements', statements, 'done', 0, 'late', late, 'swap', swap || last, 'after', after,
                            'old', old);
END $$;
COMMENT ON FUNCTION prism_crypt._plan_build(prism_crypt.migration) IS 'What is to be built for a new column. Internal';

-- The statement that has to run by itself now; null if it is another one's turn, or everything is done. What a worker left unfinished
-- when it died is dropped first.
CREATE FUNCTION prism_crypt._next_concurrent_statement(migration prism_crypt.migration) RETURNS text
  LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  step CONSTANT jsonb := migration.build -> 'statements' -> (migration.build ->> 'done')::integer;
  index CONSTANT text := step ->> 'index';
  is_valid boolean;
BEGIN
  IF index IS NULL THEN
    RETURN NULL;
  END IF;
  SELECT i.indisvalid INTO is_valid FROM pg_index AS i WHERE i.indexrelid = to_regclass(index);
  RETURN CASE WHEN is_valid THEN NULL
              WHEN is_valid IS NULL THEN step ->> 'sql'
              ELSE format('DROP INDEX CONCURRENTLY %s', index) END;
END $$;
COMMENT ON FUNCTION prism_crypt._next_concurrent_statement(prism_crypt.migration) IS
  'The next statement that has to run by itself. Internal';

-- Runs the next statement, or finds that it was run; gives what is recorded then. Null if everything is done.
CREATE FUNCTION prism_crypt._build_next(migration prism_crypt.migration) RETURNS jsonb
  LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  done CONSTANT integer := migration.build ->> 'done';
  step CONSTANT jsonb := migration.build -> 'statements' -> done;
BEGIN
  IF step IS NULL THEN
    RETURN NULL;
  ELSIF step ->> 'index' IS NULL THEN
    EXECUTE step ->> 'sql';
  END IF;
  RETURN jsonb_set(migration.build, '{done}', to_jsonb(done + 1));
END $$;
COMMENT ON FUNCTION prism_crypt._build_next(prism_crypt.migration) IS 'Builds one thing for a new column. Internal';

-- The same after the cut-over, for what is left to do then.
CREATE FUNCTION prism_crypt._validate_next(migration prism_crypt.migration) RETURNS jsonb
  LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  statement CONSTANT text := migration.build -> 'after' ->> 0;
BEGIN
  IF statement IS NULL THEN
    RETURN NULL;
  END IF;
  EXECUTE statement;
  RETURN jsonb_set(migration.build, '{after}', (migration.build -> 'after') - 0);
END $$;
COMMENT ON FUNCTION prism_crypt._validate_next(prism_crypt.migration) IS 'Validates one constraint of a new column. Internal';

-- What came to the column since.
CREATE FUNCTION prism_crypt._require_as_built(migration prism_crypt.migration) RETURNS void
  LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  now_there CONSTANT text[] := ARRAY(
    SELECT prism_crypt._as_defined(d)
    FROM prism_crypt._twin_definitions(migration.relation, migration.column_name, migration.type, migration.twin) AS d);
  was_there CONSTANT text[] := ARRAY(SELECT jsonb_array_elements_text(migration.build -> 'old'));
  other text;
BEGIN
  SELECT o.one INTO other FROM (
    SELECT n, 1 FROM unnest(now_there) AS n WHERE n <> ALL (was_there)
    UNION ALL
    SELECT w, 2 FROM unnest(was_there) AS w WHERE w <> ALL (now_there)
  ) AS o (one, rank) ORDER BY o.rank, o.one LIMIT 1;
  IF FOUND THEN
    RAISE object_not_in_prerequisite_state USING
      MESSAGE = format('%s came, went or changed after those of the new column were built', split_part(other, ': ', 1)),
      HINT = format('Make it what it was, and change it after the cut-over; or call prism_crypt.rollback_migration(%s) and begin again.',
                    migration.id);
  END IF;
END $$;
COMMENT ON FUNCTION prism_crypt._require_as_built(prism_crypt.migration) IS
  'Raises an error if indexes or constraints have come meanwhile. Internal';

-- sql/migration/end.sql
-- The end: the old column goes, and grants are whole again.

-- Another migration of the table, which is cut over, takes over the grants that are split. Otherwise gives them as they are now, under the
-- lock of the table: another one may have left its own here since this migration was read.
CREATE FUNCTION prism_crypt._hand_on_grants(id bigint, note bigint) RETURNS jsonb
  LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
  role CONSTANT oid := prism_crypt._caller(note);
  migration CONSTANT prism_crypt.migration := prism_crypt._migration_of(_hand_on_grants.id, role);
BEGIN
  PERFORM prism_crypt._require_worker(role, migration);
  UPDATE prism_crypt.migration AS m SET closed = m.closed || migration.closed
  WHERE m.id = (SELECT o.id FROM prism_crypt.migration AS o
                WHERE o.relation = migration.relation AND o.id <> migration.id AND o.closed IS NOT NULL
                ORDER BY o.id LIMIT 1);
  RETURN CASE WHEN NOT FOUND THEN migration.closed END;
END $$;
COMMENT ON FUNCTION prism_crypt._hand_on_grants(bigint, bigint) IS
  'Leaves split grants to another migration of the table, or gives them. Internal';

CREATE FUNCTION prism_crypt._join_grants(migration prism_crypt.migration) RETURNS void
  LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
  PERFORM prism_crypt._open_column(migration.relation, prism_crypt._hand_on_grants(migration.id, prism_crypt._note_caller()));
END $$;
COMMENT ON FUNCTION prism_crypt._join_grants(prism_crypt.migration) IS 'Puts split grants together again. Internal';

-- By an expression nothing keeps the columns in step, and so the old one may have what the new one has not.
CREATE FUNCTION prism_crypt._require_no_only_copies(migration prism_crypt.migration) RETURNS void
  LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  named CONSTANT text := prism_crypt._qualified_name(migration.relation);
  rows bigint;
BEGIN
  IF migration.using_expression IS NULL OR NOT (prism_crypt._has_column(migration.relation, migration.kept)
                                                AND prism_crypt._has_column(migration.relation, migration.column_name)) THEN
    RETURN;
  END IF;
  rows := prism_crypt._count_rows(
    migration.relation, format('%I IS NULL AND %I IS NOT NULL', migration.column_name, migration.kept));
  IF rows > 0 THEN
    RAISE object_not_in_prerequisite_state USING
      MESSAGE = format('rows of which only the old column has a value: %s', rows),
      DETAIL = 'The expression gave null for them, or an INSERT without a list of columns wrote them.',
      HINT = format('Give them a value, or let it go: UPDATE %s SET %I = NULL WHERE %I IS NULL AND %2$I IS NOT NULL. Then call this again.',
                    named, migration.kept, migration.column_name);
  END IF;
END $$;
COMMENT ON FUNCTION prism_crypt._require_no_only_copies(prism_crypt.migration) IS
  'Raises an error if values are in the old column only. Internal';

CREATE FUNCTION prism_crypt._drop_kept(migration prism_crypt.migration) RETURNS void
  LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
  PERFORM prism_crypt._lock_tree(migration.relation);
  PERFORM prism_crypt._drop_triggers(migration);
  -- Somebody may have dropped it. If it is the other column that is gone, the values are nowhere else.
  IF prism_crypt._has_column(migration.relation, migration.kept) THEN
    IF NOT prism_crypt._has_column(migration.relation, migration.column_name) THEN
      RAISE object_not_in_prerequisite_state USING
        MESSAGE = format('column "%s" of table %s is not there any more', migration.column_name,
                         prism_crypt._qualified_name(migration.relation)),
        HINT = format('Give it back its name; or drop column "%s", or rename it if it is to be the column again. Then call this again.',
                      migration.kept);
    END IF;
    EXECUTE format('ALTER TABLE %s DROP COLUMN %I', prism_crypt._qualified_name(migration.relation), migration.kept);
  END IF;
  PERFORM prism_crypt._join_grants(migration);
END $$;
COMMENT ON FUNCTION prism_crypt._drop_kept(prism_crypt.migration) IS 'Drops the old column. Internal';

-- sql/migration/cut_over.sql
-- The moment at which the two columns change places, in one transaction under one lock.

-- The lock is held from here to the end of the transaction. Views come first, those that read others before these: a reader locks them
-- in that order, and then the tables.
CREATE FUNCTION prism_crypt._lock_with_views(relation regclass, dependants prism_crypt._dependant[]) RETURNS void
  LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  -- AccessExclusiveLock (lockdefs.h)
  exclusive CONSTANT integer := 8;
BEGIN
  PERFORM prism_crypt._lock_relations(
    ARRAY(SELECT d.object::regclass FROM unnest(dependants) WITH ORDINALITY AS d WHERE d.class = 'pg_class'::regclass ORDER BY d.ordinality),
    exclusive);
  PERFORM prism_crypt._lock_tree(relation);
END $$;
COMMENT ON FUNCTION prism_crypt._lock_with_views(regclass, prism_crypt._dependant[]) IS
  'Locks a table, its members and the views that are made again. Internal';

-- What the columns, indexes and constraints of a table are: whatever changes one of them gives it another row in a catalog.
CREATE FUNCTION prism_crypt._shape_of(relation regclass) RETURNS text
  LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
  SELECT md5(string_agg(o.one, ',' ORDER BY o.one))
  FROM prism_crypt._table_tree($1) AS t CROSS JOIN LATERAL (
    SELECT format('c %s %s %s', a.attrelid, a.attnum, a.xmin) FROM pg_attribute AS a WHERE a.attrelid = t.member AND a.attnum > 0
    UNION ALL
    SELECT format('i %s %s', i.indexrelid, i.xmin) FROM pg_index AS i WHERE i.indrelid = t.member
    UNION ALL
    SELECT format('o %s %s', c.oid, c.xmin) FROM pg_constraint AS c WHERE c.conrelid = t.member OR c.confrelid = t.member
  ) AS o (one)
$$;
COMMENT ON FUNCTION prism_crypt._shape_of(regclass) IS
  'What tells whether columns, indexes or constraints of a table were changed. Internal';

CREATE FUNCTION prism_crypt._require_carried_over(dependants prism_crypt._dependant[]) RETURNS void
  LANGUAGE plpgsql IMMUTABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  problem record;
BEGIN
  SELECT string_agg(format('%s %s: %s', d.kind, d.identity, d.blocks), '; ' ORDER BY d.ordinal) AS blocks,
         string_agg(d.unblock || ';', ' ' ORDER BY d.ordinal) AS unblock
    INTO problem
  FROM unnest(dependants) AS d WHERE d.blocks IS NOT NULL;
  IF problem.blocks IS NOT NULL THEN
    RAISE object_not_in_prerequisite_state USING
      MESSAGE = 'the column can''t be migrated', DETAIL = problem.blocks,
      HINT = coalesce(problem.unblock, 'prism_crypt.explain_migration() says more.');
  END IF;
END $$;
COMMENT ON FUNCTION prism_crypt._require_carried_over(prism_crypt._dependant[]) IS
  'Raises an error about what touches a column and can''t be carried over. Internal';

-- What has to be made again, once PostgreSQL has judged that it can be. That takes a while, so it comes before the lock.
CREATE FUNCTION prism_crypt._carried_over(migration prism_crypt.migration) RETURNS prism_crypt._dependant[]
  LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  -- Listed before it is judged: what comes in between makes the list another one.
  listed CONSTANT prism_crypt._dependant[] := prism_crypt._listed_dependants(migration.relation, migration.column_name);
BEGIN
  PERFORM prism_crypt._require_carried_over(ARRAY(
    SELECT d FROM prism_crypt._dependants(migration.relation, migration.column_name, migration.type) AS d));
  RETURN listed;
END $$;
COMMENT ON FUNCTION prism_crypt._carried_over(prism_crypt.migration) IS 'What has to be made again around a swap, or an error. Internal';

-- Under the lock, in a statement of its own, which sees what was committed until then: what was judged is still what there is. If not,
-- it is tried again.
CREATE FUNCTION prism_crypt._require_unchanged(migration prism_crypt.migration, dependants prism_crypt._dependant[], shape text)
  RETURNS void
  LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
  IF prism_crypt._shape_of(migration.relation) <> shape
     OR prism_crypt._listed_dependants(migration.relation, migration.column_name)::text <> dependants::text
     OR NOT prism_crypt._is_verified(migration) THEN
    RAISE lock_not_available USING MESSAGE = 'the table, what depends on the column, or a trigger, has changed just now';
  END IF;
END $$;
COMMENT ON FUNCTION prism_crypt._require_unchanged(prism_crypt.migration, prism_crypt._dependant[], text) IS
  'Raises an error if what was judged before the lock has changed. Internal';

-- Gives the column's name, and all that depends on it, to another column of the table.
CREATE FUNCTION prism_crypt._swap(migration prism_crypt.migration, dependants prism_crypt._dependant[]) RETURNS void
  LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  table_name CONSTANT text := prism_crypt._qualified_name(migration.relation);
  number integer;
BEGIN
  FOR number IN 1 .. cardinality(dependants) LOOP
    PERFORM prism_crypt._execute_all(dependants[number].drops);
  END LOOP;
  EXECUTE format('ALTER TABLE %s RENAME COLUMN %I TO %I', table_name, migration.column_name, migration.kept);
  EXECUTE format('ALTER TABLE %s RENAME COLUMN %I TO %I', table_name, migration.twin, migration.column_name);
  EXECUTE format('COMMENT ON COLUMN %s.%I IS NULL', table_name, migration.column_name);
  PERFORM prism_crypt._execute_all(ARRAY(SELECT jsonb_array_elements_text(migration.build -> 'swap')));
  FOR number IN REVERSE cardinality(dependants) .. 1 LOOP
    PERFORM prism_crypt._execute_all(dependants[number].creates);
  END LOOP;
  IF EXISTS (SELECT FROM prism_crypt._dependant_graph(migration.relation, migration.kept)) THEN
    RAISE object_not_in_prerequisite_state USING
      MESSAGE = 'the column can''t be migrated',
      DETAIL = (SELECT format('%s would go on with the old column.', pg_describe_object(g.class, g.object, 0))
                FROM prism_crypt._dependant_graph(migration.relation, migration.kept) AS g LIMIT 1);
  END IF;
END $$;
COMMENT ON FUNCTION prism_crypt._swap(prism_crypt.migration, prism_crypt._dependant[]) IS 'Makes another column the one of this name. Internal';

-- Writes since the cut-over that the old column does not have: where only an expression leads from the old values to the new ones.
CREATE FUNCTION prism_crypt._require_nothing_written(migration prism_crypt.migration) RETURNS void
  LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  rows CONSTANT bigint := prism_crypt._count_rows(
    migration.relation, format('%I IS NULL AND %I IS NOT NULL', migration.kept, migration.column_name));
BEGIN
  IF rows > 0 THEN
    RAISE object_not_in_prerequisite_state USING
      MESSAGE = format('rows written since the cut-over: %s', rows),
      DETAIL = format('The old column, "%s", has no value for them: nobody knows the way back from a using_expression.', migration.kept),
      HINT = format('Fill it: UPDATE %s SET %I = ... WHERE %2$I IS NULL AND %I IS NOT NULL. Then call this again.',
                    prism_crypt._qualified_name(migration.relation), migration.kept, migration.column_name);
  END IF;
END $$;
COMMENT ON FUNCTION prism_crypt._require_nothing_written(prism_crypt.migration) IS
  'Raises an error if a way back would lose writes. Internal';

-- Forth. Gives the grants that were split; the path is the caller's own.
CREATE FUNCTION prism_crypt._cut_over(migration prism_crypt.migration, path text) RETURNS jsonb
  LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  shape CONSTANT text := prism_crypt._shape_of(migration.relation);
  dependants CONSTANT prism_crypt._dependant[] := prism_crypt._carried_over(migration);
BEGIN
  PERFORM prism_crypt._require_as_built(migration);
  PERFORM prism_crypt._lock_with_views(migration.relation, dependants);
  PERFORM prism_crypt._require_triggers(migration), prism_crypt._require_unchanged(migration, dependants, shape);
  IF migration.using_expression IS NOT NULL THEN
    PERFORM prism_crypt._fill_rest(migration, path),
      prism_crypt._execute_all(ARRAY(SELECT jsonb_array_elements_text(migration.build -> 'late')));
  END IF;
  PERFORM prism_crypt._drop_triggers(migration), prism_crypt._swap(migration, dependants);
  IF NOT migration.keep_plaintext THEN
    PERFORM prism_crypt._drop_kept(migration);
    RETURN NULL;
  END IF;
  EXECUTE format(
    'COMMENT ON COLUMN %s.%I IS %L', prism_crypt._qualified_name(migration.relation), migration.kept,
    format('The values of "%s" as %s, until migration %s is finished',
           migration.column_name, migration.old_type, migration.id));
  PERFORM prism_crypt._make_triggers(
    migration, migration.column_name, migration.kept,
    CASE WHEN migration.using_expression IS NULL THEN 'return' ELSE 'forget' END);
  RETURN prism_crypt._close_column(migration.relation, migration.kept);
END $$;
COMMENT ON FUNCTION prism_crypt._cut_over(prism_crypt.migration, text) IS 'Makes the twin column the column. Internal';

-- Rows that were written since the backfill have no value yet, where only the migrating session can make it. A weaker lock, which readers
-- pass, would have to grow into the last one: a transaction that has read the table and then writes it would be in a deadlock with that.
-- Triggers of the table run on the path of the caller, as in the backfill.
CREATE FUNCTION prism_crypt._fill_rest(migration prism_crypt.migration, path text) RETURNS void
  LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  fill CONSTANT text := format(
    'UPDATE %s AS changed SET %I = %s WHERE changed.%2$I IS NULL AND %3$s IS NOT NULL',
    prism_crypt._qualified_name(migration.relation), migration.twin, prism_crypt._source_of(migration));
BEGIN
  PERFORM prism_crypt._require_all_rows(migration.relation);
  PERFORM set_config('search_path', path, true);
  EXECUTE fill;
  -- A table with pending triggers can't be altered.
  SET CONSTRAINTS ALL IMMEDIATE;
END $$;
COMMENT ON FUNCTION prism_crypt._fill_rest(prism_crypt.migration, text) IS
  'Fills the twin column of rows that were written since. Internal';

-- Back.
CREATE FUNCTION prism_crypt._cut_back(migration prism_crypt.migration) RETURNS void
  LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  going CONSTANT prism_crypt.migration := prism_crypt._as_it_goes(migration);
  shape CONSTANT text := prism_crypt._shape_of(migration.relation);
  dependants CONSTANT prism_crypt._dependant[] := prism_crypt._carried_over(going);
BEGIN
  PERFORM prism_crypt._require_as_built(going);
  PERFORM prism_crypt._lock_with_views(migration.relation, dependants);
  PERFORM prism_crypt._require_triggers(migration), prism_crypt._require_unchanged(going, dependants, shape);
  IF migration.using_expression IS NOT NULL THEN
    PERFORM prism_crypt._require_nothing_written(migration),
      prism_crypt._execute_all(ARRAY(SELECT jsonb_array_elements_text(migration.build -> 'late')));
  END IF;
  PERFORM prism_crypt._drop_triggers(migration), prism_crypt._swap(going, dependants);
  -- While what was granted can still be compared with what was split.
  PERFORM prism_crypt._join_grants(migration);
  PERFORM prism_crypt._drop_twin(migration);
END $$;
COMMENT ON FUNCTION prism_crypt._cut_back(prism_crypt.migration) IS 'Makes the old column the column again. Internal';

-- sql/migration/rewrite.sql
-- The other method: ALTER TABLE, for tables that are rewritten in a moment.

-- How ALTER TABLE makes the new value of a row.
CREATE FUNCTION prism_crypt._rewrite_expression(migration prism_crypt.migration) RETURNS text
  LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
  SELECT CASE
    WHEN migration.using_expression IS NOT NULL THEN format('(%s)::%s', migration.using_expression, migration.type)
    WHEN migration.type ~ '\mencrypted_text\M' THEN format('%I::text::%s', migration.column_name, migration.type)
    ELSE prism_crypt._opened_as(migration.column_name, migration.type) END
$$;
COMMENT ON FUNCTION prism_crypt._rewrite_expression(prism_crypt.migration) IS 'The USING of an ALTER TABLE. Internal';

-- PostgreSQL's messages about a value that a type does not take quote the value, and so may functions that check it. What stands in the way of
-- opening the values is told as it is. Errors of classes 40, 53, 57 and 58, and of locks, are not about a value.
CREATE FUNCTION prism_crypt._change_type(migration prism_crypt.migration) RETURNS void
  LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  table_name CONSTANT text := prism_crypt._qualified_name(migration.relation);
BEGIN
  EXECUTE format('ALTER TABLE %s ALTER COLUMN %I TYPE %s USING %s', table_name, migration.column_name, migration.type,
                 prism_crypt._rewrite_expression(migration));
EXCEPTION WHEN OTHERS OR assert_failure THEN
  IF migration.type ~ '\mencrypted_text\M' AND migration.using_expression IS NULL
     OR left(SQLSTATE, 2) IN ('40', '53', '57', '58') OR SQLSTATE = '55P03' THEN
    RAISE;
  ELSIF migration.using_expression IS NULL THEN
    EXECUTE format('SELECT count(%I::text) FROM %s', migration.column_name, table_name);
  END IF;
  RAISE data_exception USING
    MESSAGE = format('a value of column "%s" could not be converted to type %s', migration.column_name, migration.type),
    DETAIL = format('PostgreSQL''s message may quote the value, and is not shown; its SQLSTATE is %s.', SQLSTATE);
END $$;
COMMENT ON FUNCTION prism_crypt._change_type(prism_crypt.migration) IS 'Rewrites a column in another type. Internal';

CREATE FUNCTION prism_crypt._rewrite(migration prism_crypt.migration) RETURNS void
  LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp SET DateStyle = 'ISO, YMD' AS $$
DECLARE
  shape CONSTANT text := prism_crypt._shape_of(migration.relation);
  dependants CONSTANT prism_crypt._dependant[] := prism_crypt._carried_over(migration);
  twins CONSTANT prism_crypt._twin_definition[] := ARRAY(
    SELECT d FROM prism_crypt._twin_definitions(migration.relation, migration.column_name, migration.type, migration.twin) AS d
    ORDER BY d.ordinal);
  number integer;
BEGIN
  PERFORM prism_crypt._lock_with_views(migration.relation, dependants);
  PERFORM prism_crypt._require_unchanged(migration, dependants, shape);
  FOR number IN 1 .. cardinality(dependants) LOOP
    PERFORM prism_crypt._execute_all(dependants[number].drops);
  END LOOP;
  FOR number IN 1 .. cardinality(twins) LOOP
    PERFORM prism_crypt._execute_all(twins[number].rewrite_drops);
  END LOOP;
  IF migration.using_expression IS NOT NULL THEN
    PERFORM prism_crypt._require_no_values_lost(migration, format('%I IS NOT NULL', migration.column_name));
  END IF;
  PERFORM prism_crypt._change_type(migration);
  FOR number IN 1 .. cardinality(twins) LOOP
    PERFORM prism_crypt._execute_all(twins[number].rewrite_creates);
  END LOOP;
  FOR number IN REVERSE cardinality(dependants) .. 1 LOOP
    PERFORM prism_crypt._execute_all(dependants[number].creates);
  END LOOP;
  PERFORM prism_crypt._analyze(migration.relation, migration.column_name);
END $$;
COMMENT ON FUNCTION prism_crypt._rewrite(prism_crypt.migration) IS 'Changes the type of a column by a rewrite. Internal';

-- sql/migration/phases.sql
-- The phases of a migration, one after the other. A phase that is not a job or a statement of its own is one transaction, together
-- with the record that it is done.

CREATE FUNCTION prism_crypt._next_phase(migration prism_crypt.migration) RETURNS text
  LANGUAGE sql IMMUTABLE SET search_path = pg_catalog, pg_temp AS $$
  SELECT CASE
    WHEN migration.is_going_back AND migration.cut_over_at IS NULL THEN 'rolled_back'
    WHEN migration.phase = 'planned' THEN CASE migration.method WHEN 'online' THEN 'twin' ELSE 'ready' END
    WHEN migration.phase = 'twin' THEN 'rows'
    WHEN migration.phase = 'rows' THEN 'indexes'
    WHEN migration.phase = 'indexes' THEN
      -- What a person or an expression made of the old values can't be compared with the new ones on the way back.
      CASE WHEN migration.is_going_back AND migration.using_expression IS NOT NULL THEN 'statistics' ELSE 'verification' END
    WHEN migration.phase = 'verification' THEN 'statistics'
    WHEN migration.phase = 'statistics' THEN 'ready'
    WHEN migration.phase = 'ready' AND migration.method = 'online' THEN 'validation'
    WHEN migration.phase IN ('ready', 'validation') THEN
      CASE WHEN migration.is_going_back THEN 'rolled_back'
           WHEN migration.keep_plaintext AND migration.method = 'online' THEN 'cut_over' ELSE 'finished' END
    WHEN migration.phase = 'cut_over' THEN 'finished' END
$$;
COMMENT ON FUNCTION prism_crypt._next_phase(prism_crypt.migration) IS 'What follows a phase. Internal';

-- The path is the caller's own: triggers of the table run on it.
CREATE FUNCTION prism_crypt._run_phase(migration prism_crypt.migration, path text) RETURNS void
  LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  going CONSTANT prism_crypt.migration := prism_crypt._as_it_goes(migration);
  next_phase CONSTANT text := prism_crypt._next_phase(migration);
  build jsonb;
  -- As long as it is null, what is recorded stays.
  closed jsonb;
  gone CONSTANT jsonb := 'null';
BEGIN
  IF prism_crypt._is_gone(migration.relation) THEN
    PERFORM prism_crypt._record_phase(migration.id, CASE WHEN migration.is_going_back THEN 'rolled_back' ELSE 'finished' END, NULL, gone,
                                      prism_crypt._note_caller());
    RETURN;
  ELSIF prism_crypt._needs_triggers(migration) THEN
    PERFORM prism_crypt._make_triggers_again(migration);
    PERFORM prism_crypt._record_phase(
      migration.id, CASE WHEN migration.phase IN ('rows', 'indexes') THEN migration.phase ELSE 'verification' END,
      migration.build || jsonb_build_object('triggers', prism_crypt._trigger_marks(migration)), closed, prism_crypt._note_caller());
    RETURN;
  ELSIF migration.phase = 'ready' AND migration.method = 'online' AND NOT (migration.is_going_back AND migration.cut_over_at IS NULL)
        AND prism_crypt._lacks_trigger(migration) IS NULL AND NOT prism_crypt._is_verified(migration) THEN
    PERFORM prism_crypt._record_phase(
      migration.id, 'verification', migration.build || jsonb_build_object('triggers', prism_crypt._trigger_marks(migration)), closed,
      prism_crypt._note_caller());
    RETURN;
  END IF;
  IF NOT (migration.is_going_back AND migration.cut_over_at IS NULL) AND migration.phase IN ('indexes', 'validation') THEN
    build := CASE migration.phase WHEN 'indexes' THEN prism_crypt._build_next(migration)
                                  ELSE prism_crypt._validate_next(migration) END;
    IF build IS NOT NULL THEN
      PERFORM prism_crypt._record_phase(migration.id, migration.phase, build, closed, prism_crypt._note_caller());
      RETURN;
    END IF;
  END IF;
  IF next_phase = 'rolled_back' AND migration.cut_over_at IS NULL THEN
    PERFORM prism_crypt._drop_twin(migration);
  ELSE
    CASE migration.phase
      WHEN 'twin' THEN
        PERFORM prism_crypt._add_twin(migration);
      WHEN 'rows' THEN
        IF migration.is_going_back AND migration.using_expression IS NOT NULL THEN
          PERFORM prism_crypt._require_nothing_written(migration);
        END IF;
        build := prism_crypt._plan_build(going);
      WHEN 'statistics' THEN
        IF migration.using_expression IS NOT NULL AND NOT migration.is_going_back THEN
          PERFORM prism_crypt._require_no_values_lost(
            migration, format('%I IS NOT NULL AND %I IS NULL', migration.column_name, migration.twin));
        END IF;
        PERFORM prism_crypt._analyze(migration.relation, going.twin);
      WHEN 'ready' THEN
        IF migration.is_going_back THEN
          PERFORM prism_crypt._cut_back(migration);
          closed := gone;
        ELSIF migration.method = 'rewrite' THEN
          PERFORM prism_crypt._rewrite(migration);
        ELSE
          closed := prism_crypt._cut_over(migration, path);
        END IF;
      WHEN 'cut_over' THEN
        -- Before the lock, because it reads the whole table.
        PERFORM prism_crypt._require_no_only_copies(migration);
        PERFORM prism_crypt._drop_kept(migration);
        closed := gone;
      ELSE
        -- planned, and what is done by a job
    END CASE;
  END IF;
  IF next_phase = 'verification' THEN
    build := migration.build || jsonb_build_object('triggers', prism_crypt._trigger_marks(migration));
  END IF;
  PERFORM prism_crypt._record_phase(migration.id, next_phase, build, closed, prism_crypt._note_caller());
END $$;
COMMENT ON FUNCTION prism_crypt._run_phase(prism_crypt.migration, text) IS 'Runs a phase and records the next one. Internal';

-- sql/migration/advance.sql
-- The loop that takes a migration from phase to phase. As in the loop of jobs, its state is in tables, so that whatever ends it,
-- another session goes on at the same place. Nothing in a procedure that commits relies on search_path.

-- Stops here if a test asks for it, so that it can kill the session between two phases.
CREATE FUNCTION prism_crypt._stop_at(place text) RETURNS boolean
  LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
  SELECT coalesce(current_setting('prism_crypt.debug_stop_at', true) = $1, false)
$$;
COMMENT ON FUNCTION prism_crypt._stop_at(text) IS 'Whether prism_crypt.debug_stop_at names this place. Internal';

CREATE TYPE prism_crypt._migration_work AS (
  migration    prism_crypt.migration,
  -- The phase in which to stop.
  goal         text,
  limits       prism_crypt._limits,
  lock_timeout interval,
  -- The search path of the caller, for triggers of the table.
  path         text,
  -- Attempts to get the lock of this phase, and how long to sleep before the next.
  attempts     integer,
  seconds      double precision,
  -- What is to be run: phase, job, statement; null if it is over.
  action       text,
  work         prism_crypt._work,
  statement    text,
  failure      prism_crypt._failure
);
COMMENT ON TYPE prism_crypt._migration_work IS 'What a session does for a migration. Internal';

-- What is next. A migration that goes back needs only what gives the old column its place again.
CREATE FUNCTION prism_crypt._choose(INOUT work prism_crypt._migration_work)
  LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  id CONSTANT bigint := (work.migration).id;
  phase_before CONSTANT text := (work.migration).phase;
  kind text;
BEGIN
  work.migration := prism_crypt._take_migration(id, prism_crypt._note_caller());
  work.action := NULL;
  work.seconds := 0;
  IF (work.migration).phase IS DISTINCT FROM phase_before THEN
    work.attempts := 0;
  END IF;
  IF prism_crypt._stop_at((work.migration).phase) THEN
    work.action := 'stop';
    RETURN;
  ELSIF (work.migration).phase IN (work.goal, 'finished', 'rolled_back') THEN
    RETURN;
  END IF;
  -- A migration of a table that is gone is over, if that is what is wanted.
  IF work.goal IN ('finished', 'rolled_back') AND prism_crypt._is_gone((work.migration).relation) THEN
    work.action := 'phase';
    RETURN;
  END IF;
  IF NOT ((work.migration).is_going_back AND (work.migration).cut_over_at IS NULL)
     AND (work.migration).phase IN ('rows', 'indexes', 'verification', 'statistics', 'ready') AND (work.migration).method = 'online' THEN
    PERFORM prism_crypt._require_columns(work.migration);
    IF (work.migration).phase = 'verification' THEN
      PERFORM prism_crypt._require_carried_over(ARRAY(SELECT t FROM prism_crypt._late_triggers((work.migration).relation) AS t));
    END IF;
  END IF;
  IF (work.migration).is_going_back AND (work.migration).cut_over_at IS NULL OR prism_crypt._needs_triggers(work.migration) THEN
    work.action := 'phase';
  ELSIF (work.migration).phase IN ('rows', 'verification')
        -- Nobody but a person can fill the old column then, and the cut-over looks whether somebody has to.
        AND NOT ((work.migration).is_going_back AND (work.migration).using_expression IS NOT NULL) THEN
    kind := CASE (work.migration).phase WHEN 'rows' THEN 'backfill' ELSE 'verification' END;
    work.action := 'job';
    work.work := prism_crypt._work_of(
      kind, (work.migration).relation, (work.migration).column_name, jsonb_build_object('migration', id), '{}', work.limits, true, 0);
  ELSIF (work.migration).phase = 'indexes' THEN
    work.statement := prism_crypt._next_concurrent_statement(work.migration);
    work.action := CASE WHEN work.statement IS NULL THEN 'phase' ELSE 'statement' END;
  ELSE
    work.action := 'phase';
  END IF;
END $$;
COMMENT ON FUNCTION prism_crypt._choose(prism_crypt._migration_work) IS 'What a migration does next. Internal';

-- Runs a phase under the lock timeout. Where others hold the table, it tries again after a while, so that statements behind it
-- don't wait longer than that.
CREATE FUNCTION prism_crypt._try_phase(INOUT work prism_crypt._migration_work)
  LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  most_attempts CONSTANT integer := 60;
  failure prism_crypt._failure;
BEGIN
  work.attempts := work.attempts + 1;
  PERFORM set_config('lock_timeout', ceil(EXTRACT(epoch FROM work.lock_timeout) * 1000)::bigint || 'ms', true);
  PERFORM prism_crypt._run_phase(work.migration, work.path);
  work.attempts := 0;
EXCEPTION WHEN OTHERS OR assert_failure THEN
  IF SQLSTATE IN ('55P03', '40P01') AND work.attempts < most_attempts THEN
    work.seconds := least(0.1 * work.attempts, 5) * (0.5 + random());
    RETURN;
  END IF;
  GET STACKED DIAGNOSTICS
    failure.code = RETURNED_SQLSTATE, failure.message = MESSAGE_TEXT, failure.detail = PG_EXCEPTION_DETAIL,
    failure.hint = PG_EXCEPTION_HINT, failure.context = PG_EXCEPTION_CONTEXT, failure.schema_name = SCHEMA_NAME,
    failure.table_name = TABLE_NAME, failure.column_name = COLUMN_NAME, failure.constraint_name = CONSTRAINT_NAME,
    failure.datatype_name = PG_DATATYPE_NAME;
  work.failure := failure;
END $$;
COMMENT ON FUNCTION prism_crypt._try_phase(prism_crypt._migration_work) IS 'Tries to run a phase. Internal';

-- After a job: the next phase, if the job has done everything.
CREATE FUNCTION prism_crypt._end_job(INOUT work prism_crypt._migration_work)
  LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  failure prism_crypt._failure := (work.work).failure;
  done record;
BEGIN
  work.action := NULL;
  IF failure.code IS NOT NULL THEN
    work.failure := failure;
  ELSIF (work.work).outcome = 'over' THEN
    done := prism_crypt._job_of_migration((work.migration).id, ((work.work).kind).name, prism_crypt._note_caller());
    -- With an expression, a row that is written again has no value until the cut-over, and some always are.
    IF done.state IS DISTINCT FROM 'finished'
       AND NOT (done.state = 'incomplete' AND (work.migration).using_expression IS NOT NULL AND (work.migration).phase = 'rows') THEN
      failure.code := '55000';
      failure.message := format('rows that could not be migrated: %s', done.rows_left);
      failure.hint := 'They were locked all the time, or a trigger changes them. The same call tries again.';
      work.failure := failure;
    ELSE
      work := prism_crypt._try_phase(work);
      work.action := 'phase';
    END IF;
  END IF;
END $$;
COMMENT ON FUNCTION prism_crypt._end_job(prism_crypt._migration_work) IS 'What a migration does after a job. Internal';

CREATE FUNCTION prism_crypt._leave(work prism_crypt._migration_work) RETURNS void
  LANGUAGE sql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
  SELECT prism_crypt._leave_migration(
    (work.migration).id, CASE WHEN (work.failure).code IS NOT NULL THEN prism_crypt._describe_failure(work.failure) END,
    prism_crypt._note_caller())
$$;
COMMENT ON FUNCTION prism_crypt._leave(prism_crypt._migration_work) IS 'Ends a session''s work on a migration. Internal';

-- Takes a migration as far as the goal, and raises what went wrong.
CREATE PROCEDURE prism_crypt._advance(INOUT work prism_crypt._migration_work) LANGUAGE plpgsql AS $$
DECLARE
  job prism_crypt._work;
  failure prism_crypt._failure;
BEGIN
  work.attempts := 0;
  work.path := pg_catalog.current_setting('search_path');
  LOOP
    COMMIT;
    SET TRANSACTION ISOLATION LEVEL READ COMMITTED;
    PERFORM prism_crypt._sleep(work.seconds);
    work := prism_crypt._choose(work);
    -- Others must see who works on it.
    COMMIT;
    SET TRANSACTION ISOLATION LEVEL READ COMMITTED;
    EXIT WHEN work.action IS NULL;
    IF work.action OPERATOR(pg_catalog.=) 'stop' THEN
      work.seconds := 0.1;
    ELSIF work.action OPERATOR(pg_catalog.=) 'job' THEN
      job := work.work;
      CALL prism_crypt._work_on(job);
      work.work := job;
      work := prism_crypt._end_job(work);
      EXIT WHEN work.action IS NULL;
    ELSIF work.action OPERATOR(pg_catalog.=) 'statement' THEN
      CALL prism_crypt._run_statement(work.statement, failure);
      work.failure := failure;
    ELSE
      work := prism_crypt._try_phase(work);
    END IF;
    EXIT WHEN (work.failure).code IS NOT NULL;
  END LOOP;
  PERFORM prism_crypt._leave(work);
  COMMIT;
  failure := work.failure;
  IF failure.code IS NOT NULL THEN
    PERFORM prism_crypt._raise_failure(
      failure.code, failure.message, failure.detail, failure.hint, failure.context, failure.schema_name, failure.table_name,
      failure.column_name, failure.datatype_name, failure.constraint_name);
  END IF;
END $$;
COMMENT ON PROCEDURE prism_crypt._advance(prism_crypt._migration_work) IS 'Takes a migration to a goal. Internal';

-- sql/migration/dry_run.sql
-- A migration of some rows, in a copy, in a subtransaction that is rolled back: there, verified, cut over, written, and back.

CREATE FUNCTION prism_crypt._rows_out_of_step(copy regclass, source text, target name) RETURNS bigint
  LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  modifier CONSTANT integer := (SELECT a.atttypmod FROM pg_attribute AS a WHERE a.attrelid = copy AND a.attname = target);
  answer bigint;
BEGIN
  EXECUTE format('SELECT count(*) FROM %s AS changed WHERE prism_crypt._is_out_of_step(%s, changed.%I, %s)', copy, source, target, modifier)
    INTO answer;
  RETURN answer;
END $$;
COMMENT ON FUNCTION prism_crypt._rows_out_of_step(regclass, text, name) IS 'How many rows of a copy are not in step. Internal';

CREATE FUNCTION prism_crypt._trial_trigger(copy regclass, source name, target name, mode text) RETURNS void
  LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
  EXECUTE format(
    'CREATE OR REPLACE TRIGGER "~prism_crypt_trial" BEFORE INSERT OR UPDATE ON %s FOR EACH ROW EXECUTE FUNCTION prism_crypt._keep_in_step(%L, %L, %L)',
    copy, source, target, mode);
  EXECUTE format('ALTER TRIGGER "~prism_crypt_trial" ON %s DEPENDS ON EXTENSION prism_crypt', copy);
END $$;
COMMENT ON FUNCTION prism_crypt._trial_trigger(regclass, name, name, text) IS 'Gives a copy the trigger of a migration. Internal';

CREATE FUNCTION prism_crypt._migrate_sample(
  asked prism_crypt.migration, sample_rows integer, OUT sampled bigint, OUT wrong bigint
) LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  member CONSTANT regclass := prism_crypt._largest_member(asked.relation);
  by_expression CONSTANT boolean := asked.using_expression IS NOT NULL;
  copy regclass;
  done boolean := false;
BEGIN
  sampled := 0;
  wrong := 0;
  -- A partitioned table without partitions.
  IF member IS NULL THEN
    RETURN;
  END IF;
  PERFORM prism_crypt._make_sample_table(member);
  copy := 'pg_temp.prism_crypt_sample'::regclass;
  IF pg_relation_size(member) > 0 THEN
    sampled := prism_crypt._copy_sample(member, copy, ARRAY(
      SELECT a.attnum FROM prism_crypt._sample_columns(member) AS a ORDER BY a.attnum), sample_rows);
  END IF;
  PERFORM prism_crypt._drop_side_columns(copy, asked.column_name);
  EXECUTE format('ALTER TABLE %s ADD COLUMN %I %s', copy, asked.twin, asked.type);
  PERFORM prism_crypt._trial_trigger(copy, asked.column_name, asked.twin, CASE WHEN by_expression THEN 'clear' ELSE 'follow' END);
  EXECUTE format('UPDATE %s AS changed SET %I = %s', copy, asked.twin,
                 CASE WHEN by_expression THEN prism_crypt._source_of(asked) ELSE 'NULL' END);
  wrong := prism_crypt._rows_out_of_step(copy, prism_crypt._source_of(asked), asked.twin);
  EXECUTE format('ALTER TABLE %s RENAME COLUMN %I TO %I', copy, asked.column_name, asked.kept);
  EXECUTE format('ALTER TABLE %s RENAME COLUMN %I TO %I', copy, asked.twin, asked.column_name);
  IF NOT by_expression THEN
    -- And back: the old column is made of the new one.
    PERFORM prism_crypt._trial_trigger(copy, asked.column_name, asked.kept, 'return');
    EXECUTE format('UPDATE %s SET %I = NULL', copy, asked.kept);
    wrong := wrong + prism_crypt._rows_out_of_step(copy, format('changed.%I', asked.column_name), asked.kept);
  END IF;
  done := true;
  RAISE SQLSTATE 'PC000';
EXCEPTION WHEN SQLSTATE 'PC000' THEN
  IF NOT done THEN
    RAISE;
  END IF;
END $$;
COMMENT ON FUNCTION prism_crypt._migrate_sample(prism_crypt.migration, integer) IS
  'Migrates a sample of a table in a copy, and leaves nothing behind. Internal';

CREATE FUNCTION prism_crypt._try_migration(asked prism_crypt.migration) RETURNS void
  LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  target CONSTANT text := format('%s.%I', prism_crypt._qualified_name(asked.relation), asked.column_name);
  sample CONSTANT record := prism_crypt._migrate_sample(asked, 1000);
  carried text;
BEGIN
  IF sample.wrong > 0 THEN
    RAISE object_not_in_prerequisite_state USING
      MESSAGE = format('%s: %s of %s sampled values differ after a migration', target, sample.wrong, sample.sampled);
  END IF;
  SELECT string_agg(format('%s %s', d.kind, d.identity), ', ' ORDER BY d.ordinal) INTO carried
  FROM prism_crypt._dependants(asked.relation, asked.column_name, asked.type) AS d;
  RAISE NOTICE 'dry run: % as %, method %: % sampled values migrated and verified', target, asked.type, asked.method,
    sample.sampled
    USING DETAIL = format('Carried over: %s.', coalesce(carried, 'nothing depends on the column')),
          HINT = 'Nothing was changed. prism_crypt.explain_migration() says how long it takes, and who needs which rights.';
END $$;
COMMENT ON FUNCTION prism_crypt._try_migration(prism_crypt.migration) IS 'What a dry run does and says. Internal';

-- sql/migration/remains.sql
-- What still holds the plaintext of a column that was encrypted.

CREATE FUNCTION prism_crypt._find_remains(relations oid[], sample bytea[], OUT sampled integer, OUT found integer) RETURNS SETOF record
  LANGUAGE c VOLATILE STRICT ROWS 1 AS 'MODULE_PATHNAME', '_find_remains_wrapper';
COMMENT ON FUNCTION prism_crypt._find_remains(oid[], bytea[]) IS
  'How many of these envelopes have a long enough plaintext, and how many of those are in the files of relations. Internal';

-- The files of a table: its own, those of its TOAST table, and those of its indexes.
CREATE FUNCTION prism_crypt._files_of(relation regclass) RETURNS SETOF oid
  LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
  WITH tables AS (
    SELECT t.member FROM prism_crypt._table_tree($1) AS t WHERE t.relkind IN ('r', 'm')
    UNION ALL
    SELECT c.reltoastrelid FROM prism_crypt._table_tree($1) AS t JOIN pg_class AS c ON c.oid = t.member WHERE c.reltoastrelid <> 0
  )
  SELECT t.member FROM tables AS t
  UNION ALL
  SELECT i.indexrelid FROM tables AS t JOIN pg_index AS i ON i.indrelid = t.member
  JOIN pg_class AS c ON c.oid = i.indexrelid WHERE c.relkind = 'i'
$$;
COMMENT ON FUNCTION prism_crypt._files_of(regclass) IS 'Relations whose files hold values of a table. Internal';

-- Rows from all over the table, whether it was analyzed or not.
CREATE FUNCTION prism_crypt._sample_of(relation regclass, column_name name, sample_rows integer) RETURNS bytea[]
  LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  sample bytea[];
BEGIN
  EXECUTE format(
    'SELECT array_agg(s.v) FROM (SELECT %I::bytea AS v FROM %s WHERE %1$I IS NOT NULL ORDER BY random() LIMIT %3$s) AS s',
    column_name, prism_crypt._qualified_name(relation), sample_rows) INTO sample;
  RETURN coalesce(sample, '{}');
END $$;
COMMENT ON FUNCTION prism_crypt._sample_of(regclass, name, integer) IS 'Some values of an encrypted column. Internal';

-- What may still hold the plaintext of a column that was encrypted, and what to do about it.
CREATE FUNCTION prism_crypt.remaining_plaintext(
  relation regclass, column_name name, sample_rows integer DEFAULT 100,
  OUT place text, OUT result text, OUT remedy text
) RETURNS SETOF record
  LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_variable
DECLARE
  name_of CONSTANT text := prism_crypt._qualified_name(relation);
  may_learn CONSTANT boolean := prism_crypt._may_call(CURRENT_USER::regrole::oid, 'decrypt_field')
    OR prism_crypt._may_call(CURRENT_USER::regrole::oid, 'blind_index');
  sample bytea[];
  sampled integer := 0;
  found integer := 0;
BEGIN
  IF relation IS NULL OR column_name IS NULL OR sample_rows IS NULL THEN
    RAISE null_value_not_allowed USING MESSAGE = 'relation, column_name and sample_rows must not be null';
  END IF;
  PERFORM prism_crypt._require_owner(CURRENT_USER::regrole::oid, relation);
  PERFORM prism_crypt._require_between('sample_rows', sample_rows, 1, 10000);
  IF NOT EXISTS (SELECT FROM prism_crypt._encrypted_columns() AS c
                 WHERE c.relation = relation::oid AND c.column_name = column_name) THEN
    RAISE undefined_column USING MESSAGE = format('table %s has no encrypted column "%s"', name_of, column_name);
  END IF;
  IF may_learn THEN
    sample := prism_crypt._sample_of(relation, column_name, sample_rows);
    SELECT r.sampled, r.found INTO sampled, found
    FROM prism_crypt._find_remains(ARRAY(SELECT prism_crypt._files_of(relation)), sample) AS r;
  END IF;
  place := 'files of the table: dead rows, free space, indexes, TOAST';
  result := CASE WHEN NOT may_learn THEN 'not searched: it takes the right to decrypt or to search'
                 WHEN sampled = 0 THEN 'not searched: no value of at least 8 bytes'
                 WHEN found = 0 THEN format('not found: none of %s sampled values', sampled)
                 ELSE format('found: %s of %s sampled values', found, sampled) END;
  remedy := format('VACUUM FULL %s', name_of)
    || ' (locks the table), pg_repack, or REPACK ... CONCURRENTLY where there is one; then call this again. '
    || 'Another column may hold the same text';
  RETURN NEXT;
  place := 'statistics';
  result := 'dropped with the old column';
  remedy := 'the old rows of pg_statistic stay in its file until VACUUM FULL pg_catalog.pg_statistic';
  RETURN NEXT;
  place := 'write-ahead log';
  result := format('kept by wal_keep_size (%s), checkpoints and replication slots (%s)', current_setting('wal_keep_size'),
                   (SELECT count(*) FROM pg_replication_slots));
  remedy := 'CHECKPOINT and pg_switch_wal() let PostgreSQL reuse old files; drop slots that nobody uses';
  RETURN NEXT;
  place := 'archived WAL and base backups';
  result := CASE WHEN current_setting('archive_mode') = 'off' THEN 'archive_mode is off; backups are not known here'
                 ELSE format('archive_mode is %s', current_setting('archive_mode')) END;
  remedy := 'take a new base backup after VACUUM FULL, then expire what is older (pgbackrest expire, barman delete)';
  RETURN NEXT;
  place := 'dumps and exports';
  result := 'not known here';
  remedy := 'delete or encrypt the files of pg_dump and COPY that were made before';
  RETURN NEXT;
  place := 'replicas';
  result := format('standbys and subscribers connected: %s', (SELECT count(*) FROM pg_stat_replication));
  remedy := 'standbys follow VACUUM FULL; on subscribers run it there. Their archives and backups count, too';
  RETURN NEXT;
  place := 'server log and pg_stat_statements';
  result := format('log_statement is %s, log_min_duration_statement is %s', current_setting('log_statement'),
                   current_setting('log_min_duration_statement'));
  remedy := 'rotate and delete logs of the time before; SELECT pg_stat_statements_reset()';
  RETURN NEXT;
END $$;
COMMENT ON FUNCTION prism_crypt.remaining_plaintext(regclass, name, integer) IS
  'What may still hold the plaintext of a column that was encrypted: searches the table''s files, and names the rest';

-- sql/migration/checks.sql
-- What the procedures check before they begin, and what they say at the end.

-- An expression of the caller as PostgreSQL understands it now, with every name qualified: later it is used under another
-- search_path. An empty copy of the table, in a subtransaction that is rolled back, lets PostgreSQL check it: a CHECK takes what can be
-- computed from one row alone. This runs under the caller's search_path, so all else is qualified.
CREATE FUNCTION prism_crypt._read_expression(relation regclass, column_name name, expression text) RETURNS text
  LANGUAGE plpgsql VOLATILE AS $$
DECLARE
  done boolean := false;
  copy pg_catalog.regclass;
  found_one pg_catalog.text;
BEGIN
  IF expression IS NULL THEN
    RETURN NULL;
  END IF;
  -- It has the table's name, which may be in the expression.
  copy := prism_crypt._make_copy(relation, column_name, NULL, false);
  EXECUTE pg_catalog.format('ALTER TABLE %s ADD CONSTRAINT prism_crypt_using CHECK ((%s) IS NOT NULL)',
                            prism_crypt._qualified_name(copy), expression);
  found_one := prism_crypt._checked_expression(copy);
  done := true;
  RAISE SQLSTATE 'PC000';
EXCEPTION WHEN SQLSTATE 'PC000' THEN
  IF NOT done THEN
    RAISE;
  END IF;
  RETURN found_one;
END $$;
COMMENT ON FUNCTION prism_crypt._read_expression(regclass, name, text) IS 'An expression with every name in it qualified. Internal';

CREATE FUNCTION prism_crypt._checked_expression(copy regclass) RETURNS text
  LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  expression CONSTANT text := (
    SELECT pg_get_expr(c.conbin, c.conrelid) FROM pg_constraint AS c
    WHERE c.conrelid = copy AND c.conname = 'prism_crypt_using' AND c.contype = 'c');
  whole CONSTANT text := '^\((.*) IS NOT NULL\)$';
BEGIN
  IF expression !~ whole OR (SELECT count(*) FROM pg_constraint AS c WHERE c.conrelid = copy AND c.contype = 'c') <> 1 THEN
    RAISE syntax_error USING MESSAGE = 'using_expression must be one expression';
  END IF;
  RETURN substring(expression FROM whole);
END $$;
COMMENT ON FUNCTION prism_crypt._checked_expression(regclass) IS 'The expression that a copy of a table checks. Internal';

CREATE FUNCTION prism_crypt._require_cut_over(migration prism_crypt.migration) RETURNS void
  LANGUAGE plpgsql IMMUTABLE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
  -- While it goes back, it may still be finished, until the old column is the column again.
  IF migration.cut_over_at IS NULL OR migration.phase IN ('finished', 'rolled_back')
     OR migration.is_going_back AND migration.phase = 'validation' THEN
    RAISE object_not_in_prerequisite_state USING
      MESSAGE = format('migration %s can''t be finished', migration.id),
      DETAIL = format('Its phase is "%s".', migration.phase);
  END IF;
END $$;
COMMENT ON FUNCTION prism_crypt._require_cut_over(prism_crypt.migration) IS
  'Raises an error unless a migration is cut over. Internal';

CREATE FUNCTION prism_crypt._remains_of(migration prism_crypt.migration) RETURNS jsonb
  LANGUAGE sql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
  SELECT jsonb_agg(to_jsonb(r))
  FROM pg_attribute AS a CROSS JOIN LATERAL prism_crypt.remaining_plaintext(migration.relation, migration.column_name) AS r
  -- Somebody may have dropped it.
  WHERE a.attrelid = migration.relation AND a.attname = migration.column_name AND NOT a.attisdropped
    AND prism_crypt._holds_encrypted(a.atttypid)
$$;
COMMENT ON FUNCTION prism_crypt._remains_of(prism_crypt.migration) IS 'What may still hold the plaintext. Internal';

CREATE FUNCTION prism_crypt._report_migration(id bigint) RETURNS void
  LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  migration CONSTANT prism_crypt.migration := prism_crypt._read_migration(id, prism_crypt._note_caller());
  target CONSTANT text := format('%s.%I', prism_crypt._qualified_name(migration.relation), migration.column_name);
BEGIN
  IF prism_crypt._is_gone(migration.relation) THEN
    RAISE NOTICE 'migration % is over: its table was dropped', id;
    RETURN;
  END IF;
  CASE migration.phase
    WHEN 'ready' THEN
      RAISE NOTICE 'migration %: % is verified', id, target USING HINT = 'The same call without until makes the cut-over.';
    WHEN 'cut_over' THEN
      RAISE NOTICE 'migration %: % is % now', id, target, migration.type
        USING HINT = format('CALL prism_crypt.finish_migration(%s) drops the plaintext, rollback_migration(%1$s) goes back.', id);
    WHEN 'finished' THEN
      RAISE NOTICE 'migration %: % is % now', id, target, migration.type;
    WHEN 'rolled_back' THEN
      -- A domain is its base type now.
      RAISE NOTICE 'migration %: % is % again', id, target, (
        SELECT format_type(a.atttypid, a.atttypmod) FROM pg_attribute AS a
        WHERE a.attrelid = migration.relation AND a.attname = migration.column_name);
    ELSE
      RAISE NOTICE 'migration % stopped in phase "%"', id, migration.phase USING HINT = 'The same call goes on.';
  END CASE;
END $$;
COMMENT ON FUNCTION prism_crypt._report_migration(bigint) IS 'Says what a migration has come to. Internal';


-- The triggers judge by the rights of each table's owner.
CREATE FUNCTION prism_crypt._require_owner_access(asked prism_crypt.migration) RETURNS void
  LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  encrypts CONSTANT boolean := asked.type ~ '\mencrypted_text\M';
  lacking record;
BEGIN
  SELECT c.relname, r.rolname, k.access INTO lacking
  FROM prism_crypt._table_tree(asked.relation) AS t JOIN pg_class AS c ON c.oid = t.member
  JOIN pg_roles AS r ON r.oid = c.relowner
  CROSS JOIN LATERAL (VALUES
    -- A verification compares, which tells whether ciphertext holds a text that is known.
    ('search', 'blind_index', encrypts AND (asked.type ~ '\msearchable\M'
       OR asked.method = 'online' AND NOT prism_crypt._may_call(r.oid, 'decrypt_field'))),
    ('encrypt', 'encrypt_field', encrypts AND asked.type !~ '\msearchable\M'),
    ('decrypt', 'decrypt_field', NOT encrypts OR asked.method = 'online' AND asked.keep_plaintext AND asked.using_expression IS NULL)
  ) AS k (access, function_name, is_needed)
  WHERE k.is_needed AND NOT prism_crypt._may_call(r.oid, k.function_name::name)
  LIMIT 1;
  IF FOUND THEN
    RAISE insufficient_privilege USING
      MESSAGE = format('permission denied for the owner of table "%s" to %s', lacking.relname, lacking.access),
      DETAIL = 'A migration keeps two columns in step with the rights of the table''s owner.',
      HINT = format('SELECT prism_crypt.grant_access(%L, %L);', lacking.rolname, lacking.access);
  END IF;
END $$;
COMMENT ON FUNCTION prism_crypt._require_owner_access(prism_crypt.migration) IS
  'Raises an error if a table''s owner lacks a right that a migration needs. Internal';

-- Applications seal, too, from the moment at which a twin is there.
CREATE FUNCTION prism_crypt._require_common_key() RETURNS void
  LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
  IF NOT prism_crypt._has_common_key() THEN
    RAISE object_not_in_prerequisite_state USING
      MESSAGE = 'the master key is not one that every session has',
      DETAIL = 'Applications could not write to the table any more.',
      HINT = 'Set it in the configuration of the server or of the database, not with SET or for a role.';
  END IF;
END $$;
COMMENT ON FUNCTION prism_crypt._require_common_key() IS 'Raises an error unless every session has the master key. Internal';

-- Otherwise the trigger would fail in every statement that writes. The value is thrown away.
CREATE FUNCTION prism_crypt._require_sealing(asked prism_crypt.migration) RETURNS void
  LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
  IF asked.type ~ '\mencrypted_text\M' THEN
    EXECUTE format('SELECT CAST(''''::text AS %s)', asked.type);
  END IF;
END $$;
COMMENT ON FUNCTION prism_crypt._require_sealing(prism_crypt.migration) IS 'Raises an error unless a value can be sealed now. Internal';

CREATE FUNCTION prism_crypt._method_for(target prism_crypt._migration_target, until text, max_lock_time interval) RETURNS text
  LANGUAGE sql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
  SELECT CASE WHEN $2 = 'cut_over' AND make_interval(secs => (prism_crypt._estimate_migration($1, 1000)).rewrite_seconds) < $3
              THEN 'rewrite' ELSE 'online' END
$$;
COMMENT ON FUNCTION prism_crypt._method_for(prism_crypt._migration_target, text, interval) IS
  'The method of a migration, by how long a rewrite would lock the table. Internal';

-- What stands in the way, besides what depends on the column. With keep_plaintext the old column has to be closed.
CREATE FUNCTION prism_crypt._obstacles(target prism_crypt._migration_target, method text, keep_plaintext boolean)
  RETURNS SETOF prism_crypt._dependant
  LANGUAGE sql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
  SELECT b.* FROM prism_crypt._migration_blocks(target) AS b
  UNION ALL
  SELECT b.* FROM prism_crypt._stray_triggers((target).relation) AS b
  UNION ALL
  SELECT b.* FROM prism_crypt._late_triggers((target).relation) AS b WHERE method = 'online'
  UNION ALL
  SELECT b.* FROM prism_crypt._unidentified_rows((target).relation) AS b WHERE method = 'online'
  UNION ALL
  SELECT b.* FROM prism_crypt._whole_rows((target).relation) AS b WHERE method = 'online' AND keep_plaintext
  UNION ALL
  SELECT b.* FROM prism_crypt._handed_on_grants((target).relation) AS b WHERE method = 'online' AND keep_plaintext
$$;
COMMENT ON FUNCTION prism_crypt._obstacles(prism_crypt._migration_target, text, boolean) IS
  'What stands in the way of a migration, besides what depends on the column. Internal';

-- Everything that PostgreSQL or this extension would refuse, before anything begins.
CREATE FUNCTION prism_crypt._require_possible(asked prism_crypt.migration, target prism_crypt._migration_target) RETURNS void
  LANGUAGE sql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
  SELECT prism_crypt._require_owner_access(asked), prism_crypt._require_common_key(), prism_crypt._require_sealing(asked);
  SELECT prism_crypt._require_carried_over(ARRAY(
    SELECT b FROM prism_crypt._obstacles(target, asked.method, asked.keep_plaintext) AS b
    UNION ALL
    SELECT b FROM prism_crypt._dependants(asked.relation, asked.column_name, asked.type) AS b));
$$;
COMMENT ON FUNCTION prism_crypt._require_possible(prism_crypt.migration, prism_crypt._migration_target) IS
  'Raises an error about what stands in the way of a migration. Internal';

-- Checks what is asked for, and chooses the method. What is open already was checked when it began.
CREATE FUNCTION prism_crypt._checked(INOUT asked prism_crypt.migration, until text, max_lock_time interval)
  LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  found_one prism_crypt.migration;
  target prism_crypt._migration_target;
BEGIN
  IF max_lock_time IS NULL THEN
    RAISE null_value_not_allowed USING MESSAGE = 'max_lock_time must not be null';
  END IF;
  PERFORM prism_crypt._require_between('max_lock_time', max_lock_time, interval '0', interval '1 day');
  PERFORM prism_crypt._require_owner(CURRENT_USER::regrole::oid, asked.relation);
  found_one := prism_crypt._find_migration(asked.relation, asked.column_name, prism_crypt._note_caller());
  IF found_one.id IS NOT NULL THEN
    asked.method := found_one.method;
    asked.old_type := found_one.old_type;
    -- The table may have another owner now.
    IF found_one.cut_over_at IS NULL THEN
      PERFORM prism_crypt._require_owner_access(found_one), prism_crypt._require_common_key();
    END IF;
    RETURN;
  END IF;
  target := prism_crypt._check_migratable(asked.relation, asked.column_name, asked.type, asked.using_expression);
  IF asked.method = 'auto' THEN
    asked.method := prism_crypt._method_for(target, until, max_lock_time);
  ELSIF asked.method = 'rewrite' AND until = 'verified' THEN
    RAISE invalid_parameter_value USING MESSAGE = 'a rewrite can''t stop before the cut-over';
  END IF;
  PERFORM prism_crypt._require_possible(asked, target);
END $$;
COMMENT ON FUNCTION prism_crypt._checked(prism_crypt.migration, text, interval) IS 'A migration that can be done, or an error. Internal';

-- sql/migration/migrate.sql
-- The procedures to call. Nothing in a procedure that commits relies on search_path, except where it reads what the caller wrote: the
-- name of a type, and an expression.

-- What is asked for, complete.
CREATE FUNCTION prism_crypt._asked(
  relation regclass, column_name name, type text, using_expression text, method text, keep_plaintext boolean, path text
) RETURNS prism_crypt.migration
  LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_variable
DECLARE
  asked prism_crypt.migration;
BEGIN
  IF relation IS NULL OR column_name IS NULL THEN
    RAISE null_value_not_allowed USING MESSAGE = 'relation and column_name must not be null';
  ELSIF method IS NULL OR method NOT IN ('auto', 'online', 'rewrite') THEN
    RAISE invalid_parameter_value USING MESSAGE = 'method must be auto, online or rewrite';
  ELSIF keep_plaintext IS NULL THEN
    RAISE null_value_not_allowed USING MESSAGE = 'keep_plaintext must not be null';
  END IF;
  asked.relation := relation;
  asked.column_name := column_name;
  asked.type := (prism_crypt._parse_type(type, path)).name;
  asked.using_expression := using_expression;
  asked.keep_plaintext := keep_plaintext;
  asked.method := method;
  asked.twin := prism_crypt._side_name('prism_crypt_new_', column_name);
  asked.kept := prism_crypt._side_name('prism_crypt_old_', column_name);
  SELECT format_type(a.atttypid, a.atttypmod) INTO asked.old_type FROM pg_attribute AS a
  WHERE a.attrelid = relation AND a.attname = column_name AND a.attnum > 0 AND NOT a.attisdropped;
  RETURN asked;
END $$;
COMMENT ON FUNCTION prism_crypt._asked(regclass, name, text, text, text, boolean, text) IS 'A migration that is asked for. Internal';

-- The number of the migration to go on with: an open one, if it is the same that is asked for now, or a new one.
CREATE FUNCTION prism_crypt._begin_migration(asked prism_crypt.migration) RETURNS bigint
  LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  found_one CONSTANT prism_crypt.migration :=
    prism_crypt._find_migration(asked.relation, asked.column_name, prism_crypt._note_caller());
BEGIN
  IF found_one.id IS NULL THEN
    RETURN prism_crypt._open_migration(asked, prism_crypt._note_caller());
  ELSIF found_one.is_going_back THEN
    RAISE object_not_in_prerequisite_state USING
      MESSAGE = format('migration %s is being rolled back', found_one.id),
      HINT = format('CALL prism_crypt.rollback_migration(%s) goes on.', found_one.id);
  ELSIF found_one.type <> asked.type OR found_one.using_expression IS DISTINCT FROM asked.using_expression
        OR found_one.keep_plaintext <> asked.keep_plaintext AND found_one.method = 'online' AND found_one.cut_over_at IS NULL THEN
    RAISE object_in_use USING
      MESSAGE = format('migration %s of column "%s" is open', found_one.id, found_one.column_name),
      -- An expression may hold the key of another system.
      DETAIL = format('Its type is %s%s, and keep_plaintext is %s.', found_one.type,
                      CASE WHEN found_one.using_expression IS NOT NULL THEN ', by an expression' ELSE '' END, found_one.keep_plaintext::text),
      HINT = format('Call it with these, or CALL prism_crypt.rollback_migration(%s).', found_one.id);
  END IF;
  RETURN found_one.id;
END $$;
COMMENT ON FUNCTION prism_crypt._begin_migration(prism_crypt.migration) IS 'Finds or records a migration. Internal';

CREATE FUNCTION prism_crypt._work_for(id bigint, goal text, limits prism_crypt._limits, lock_timeout interval)
  RETURNS prism_crypt._migration_work
  LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  work prism_crypt._migration_work;
BEGIN
  IF lock_timeout IS NULL THEN
    RAISE null_value_not_allowed USING MESSAGE = 'lock_timeout must not be null';
  END IF;
  PERFORM prism_crypt._require_between('lock_timeout', lock_timeout, interval '1 ms', interval '1 hour');
  work.migration := prism_crypt._take_migration(id, prism_crypt._note_caller());
  work.goal := goal;
  work.limits := limits;
  work.lock_timeout := lock_timeout;
  work.attempts := 0;
  work.seconds := 0;
  RETURN work;
END $$;
COMMENT ON FUNCTION prism_crypt._work_for(bigint, text, prism_crypt._limits, interval) IS 'What a session does for a migration. Internal';

CREATE FUNCTION prism_crypt._goal(until text) RETURNS text
  LANGUAGE plpgsql IMMUTABLE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
  IF until IS NULL OR until NOT IN ('cut_over', 'verified') THEN
    RAISE invalid_parameter_value USING MESSAGE = 'until must be cut_over or verified';
  END IF;
  RETURN CASE until WHEN 'verified' THEN 'ready' ELSE 'cut_over' END;
END $$;
COMMENT ON FUNCTION prism_crypt._goal(text) IS 'The phase in which a migration stops. Internal';

CREATE PROCEDURE prism_crypt.migrate_column(
  relation regclass, column_name name, type text, using_expression text DEFAULT NULL, method text DEFAULT 'auto',
  until text DEFAULT 'cut_over', dry_run boolean DEFAULT false, keep_plaintext boolean DEFAULT true,
  lock_timeout interval DEFAULT '2s', max_lock_time interval DEFAULT '1s', batch_size integer DEFAULT 1000,
  pause interval DEFAULT NULL, max_rows_per_second double precision DEFAULT NULL, max_replica_lag bigint DEFAULT NULL,
  max_batches integer DEFAULT NULL
) LANGUAGE plpgsql AS $$
DECLARE
  limits CONSTANT prism_crypt._limits := ROW(batch_size, pause, max_rows_per_second, max_replica_lag, max_batches, true);
  goal CONSTANT pg_catalog.text := prism_crypt._goal(until);
  asked prism_crypt.migration;
  work prism_crypt._migration_work;
BEGIN
  PERFORM prism_crypt._require_no_transaction_block('prism_crypt.migrate_column()');
  PERFORM prism_crypt._check_limits(limits);
  asked := prism_crypt._asked(
    relation, column_name, type, prism_crypt._read_expression(relation, column_name, using_expression), method, keep_plaintext,
    pg_catalog.current_setting('search_path'));
  asked := prism_crypt._checked(asked, until, max_lock_time);
  IF dry_run THEN
    PERFORM prism_crypt._try_migration(asked);
    RETURN;
  END IF;
  work := prism_crypt._work_for(prism_crypt._begin_migration(asked), goal, limits, lock_timeout);
  CALL prism_crypt._advance(work);
  PERFORM prism_crypt._report_migration((work.migration).id);
END $$;
COMMENT ON PROCEDURE prism_crypt.migrate_column(
  regclass, name, text, text, text, text, boolean, boolean, interval, interval, integer, interval, double precision, bigint,
  integer) IS
  'Encrypts a column that is in use: fills, verifies and then exchanges it. A call after an interruption goes on';

CREATE PROCEDURE prism_crypt.decrypt_column(
  relation regclass, column_name name, type text DEFAULT 'text', method text DEFAULT 'auto', until text DEFAULT 'cut_over',
  dry_run boolean DEFAULT false, lock_timeout interval DEFAULT '2s', max_lock_time interval DEFAULT '1s',
  batch_size integer DEFAULT 1000, pause interval DEFAULT NULL, max_rows_per_second double precision DEFAULT NULL,
  max_replica_lag bigint DEFAULT NULL, max_batches integer DEFAULT NULL
) LANGUAGE plpgsql AS $$
DECLARE
  limits CONSTANT prism_crypt._limits := ROW(batch_size, pause, max_rows_per_second, max_replica_lag, max_batches, true);
  goal CONSTANT pg_catalog.text := prism_crypt._goal(until);
  asked prism_crypt.migration;
  work prism_crypt._migration_work;
BEGIN
  PERFORM prism_crypt._require_no_transaction_block('prism_crypt.decrypt_column()');
  PERFORM prism_crypt._check_limits(limits);
  asked := prism_crypt._asked(
    relation, column_name, type, NULL, method, false, pg_catalog.current_setting('search_path'));
  asked := prism_crypt._checked(asked, until, max_lock_time);
  IF dry_run THEN
    PERFORM prism_crypt._try_migration(asked);
    RETURN;
  END IF;
  work := prism_crypt._work_for(prism_crypt._begin_migration(asked), goal, limits, lock_timeout);
  CALL prism_crypt._advance(work);
  PERFORM prism_crypt._report_migration((work.migration).id);
END $$;
COMMENT ON PROCEDURE prism_crypt.decrypt_column(
  regclass, name, text, text, text, boolean, interval, interval, integer, interval, double precision, bigint, integer) IS
  'The way back for good: makes an encrypted column a plaintext one, which needs the right to decrypt';

CREATE PROCEDURE prism_crypt.rollback_migration(id bigint, lock_timeout interval DEFAULT '2s') LANGUAGE plpgsql AS $$
DECLARE
  limits CONSTANT prism_crypt._limits := ROW(1000, NULL, NULL, NULL, NULL, true);
  work prism_crypt._migration_work;
BEGIN
  PERFORM prism_crypt._require_no_transaction_block('prism_crypt.rollback_migration()');
  PERFORM prism_crypt._check_limits(limits);
  work := prism_crypt._work_for(id, 'rolled_back', limits, lock_timeout);
  PERFORM prism_crypt._turn(id, true, prism_crypt._note_caller());
  CALL prism_crypt._advance(work);
  PERFORM prism_crypt._report_migration(id);
END $$;
COMMENT ON PROCEDURE prism_crypt.rollback_migration(bigint, interval) IS
  'Undoes a migration that is not finished; writes that were made since stay';

CREATE PROCEDURE prism_crypt.finish_migration(id bigint, lock_timeout interval DEFAULT '2s', INOUT remains jsonb DEFAULT NULL)
  LANGUAGE plpgsql AS $$
DECLARE
  limits CONSTANT prism_crypt._limits := ROW(1000, NULL, NULL, NULL, NULL, true);
  work prism_crypt._migration_work;
BEGIN
  PERFORM prism_crypt._require_no_transaction_block('prism_crypt.finish_migration()');
  PERFORM prism_crypt._check_limits(limits);
  work := prism_crypt._work_for(id, 'finished', limits, lock_timeout);
  PERFORM prism_crypt._require_cut_over(work.migration);
  PERFORM prism_crypt._turn(id, false, prism_crypt._note_caller());
  CALL prism_crypt._advance(work);
  remains := prism_crypt._remains_of(work.migration);
END $$;
COMMENT ON PROCEDURE prism_crypt.finish_migration(bigint, interval, jsonb) IS
  'Drops the old column of a migration, and returns what may still hold its plaintext and what to do about it';

-- sql/migration/migrations.sql
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

-- sql/migration/find_plaintext.sql
-- Columns that look like personal data and are not encrypted. It runs with the caller's rights, and sees only what the caller may
-- read. Tables may belong to others, so nothing here runs their code.

-- The tables that the caller may read something of, and why they are not looked at, if so. A partition is a part of its table.
CREATE FUNCTION prism_crypt._readable_tables(schema_pattern text, OUT relation oid, OUT unreadable text) RETURNS SETOF record
  LANGUAGE sql STABLE ROWS 100 SET search_path = pg_catalog, pg_temp AS $$
  SELECT c.oid,
         CASE WHEN row_security_active(c.oid) THEN 'row-level security hides rows of it: not looked at'
              WHEN c.relkind <> 'p' AND m.amname <> 'heap' THEN format('table with access method "%s": not looked at', m.amname)
              WHEN c.relpersistence = 'u' AND pg_is_in_recovery() THEN 'unlogged table: can''t be read on a standby' END
  FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace LEFT JOIN pg_am AS m ON m.oid = c.relam
  WHERE c.relkind IN ('r', 'p', 'm') AND NOT c.relispartition
    AND (n.oid = pg_my_temp_schema() OR n.nspname NOT LIKE 'pg\_%') AND n.nspname <> 'information_schema'
    AND ($1 IS NULL OR n.nspname LIKE $1)
    AND has_schema_privilege(n.oid, 'USAGE') AND has_any_column_privilege(c.oid, 'SELECT')
    AND NOT EXISTS (SELECT FROM prism_crypt._members('pg_class') AS o (oid) WHERE o.oid = c.oid)
  ORDER BY n.nspname, c.relname
$$;
COMMENT ON FUNCTION prism_crypt._readable_tables(text) IS 'Tables that the caller may read columns of. Internal';

CREATE FUNCTION prism_crypt._find_plaintext_in(
  relation oid, sample_rows integer, OUT column_number smallint, OUT class text, OUT matches bigint, OUT sampled bigint,
  OUT confidence text, OUT note text
) RETURNS SETOF record
  LANGUAGE c VOLATILE STRICT ROWS 10 AS 'MODULE_PATHNAME', '_find_plaintext_in_wrapper';
COMMENT ON FUNCTION prism_crypt._find_plaintext_in(oid, integer) IS
  'Columns of a table that look like personal data, by some rows that are read without running any function of its owner. Internal';

CREATE FUNCTION prism_crypt.find_plaintext(schema_pattern text DEFAULT NULL, sample_rows integer DEFAULT 1000)
  RETURNS TABLE (relation regclass, column_name name, class text, matches bigint, sampled bigint, confidence text, note text)
  LANGUAGE plpgsql VOLATILE ROWS 100 SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
  own_timeout CONSTANT text := current_setting('lock_timeout');
  -- How long it waits for one table that others have locked, and for all of them.
  patience CONSTANT double precision := least(prism_crypt._patience(1), 1);
  seconds double precision := 10;
  began double precision;
  target record;
  cause text;
BEGIN
  IF sample_rows IS NULL THEN
    RAISE null_value_not_allowed USING MESSAGE = 'sample_rows must not be null';
  END IF;
  PERFORM prism_crypt._require_between('sample_rows', sample_rows, 1, 1000000);
  FOR target IN SELECT * FROM prism_crypt._readable_tables(schema_pattern) LOOP
    cause := target.unreadable;
    IF cause IS NULL THEN
      began := prism_crypt._uptime();
      BEGIN
        PERFORM set_config('lock_timeout', ceil(greatest(least(patience, seconds), 0.01) * 1000)::bigint || 'ms', true);
        RETURN QUERY
          SELECT target.relation::regclass, a.attname, f.class, f.matches, f.sampled, f.confidence, f.note
          FROM prism_crypt._find_plaintext_in(target.relation, find_plaintext.sample_rows) AS f
          JOIN pg_attribute AS a ON a.attrelid = target.relation AND a.attnum = f.column_number
          ORDER BY f.column_number;
      EXCEPTION
        WHEN lock_not_available OR deadlock_detected THEN
          seconds := seconds - (prism_crypt._uptime() - began);
          cause := 'locked by another session: not looked at';
        WHEN OTHERS OR assert_failure THEN
          -- Only the SQLSTATE, because the message may quote values.
          cause := format('not looked at: SQLSTATE %s', SQLSTATE);
      END;
    END IF;
    IF cause IS NOT NULL THEN
      RETURN QUERY SELECT target.relation::regclass, NULL::name, NULL::text, NULL::bigint, NULL::bigint, NULL::text, cause;
    END IF;
  END LOOP;
  PERFORM set_config('lock_timeout', own_timeout, true);
END $$;
COMMENT ON FUNCTION prism_crypt.find_plaintext(text, integer) IS
  'Columns that look like personal data, by name and by a sample of values, and are not encrypted. Shows no value';

-- sql/files/definition.sql
-- What a file says of its table: the definitions of columns, as JSON.

CREATE FUNCTION prism_crypt._export_rows(
  source text, path text, key text, format integer, compression text, overwrite boolean, OUT collection text, OUT rows bigint, OUT size_bytes bigint
) RETURNS SETOF record
  LANGUAGE c VOLATILE ROWS 1 AS 'MODULE_PATHNAME', '_export_rows_wrapper';
COMMENT ON FUNCTION prism_crypt._export_rows(text, text, text, integer, text, boolean) IS 'Writes an encrypted file. Internal';

CREATE FUNCTION prism_crypt._export_chunks(source text, key text, compression text) RETURNS SETOF bytea
  LANGUAGE c VOLATILE AS 'MODULE_PATHNAME', '_export_chunks_wrapper';
COMMENT ON FUNCTION prism_crypt._export_chunks(text, text, text) IS 'An encrypted file in pieces. Internal';

CREATE FUNCTION prism_crypt._import_rows(
  path text, chunks text, key text, target text, mode text, OUT relation oid, OUT rows bigint, OUT bytes bigint
) RETURNS SETOF record
  LANGUAGE c VOLATILE ROWS 1 AS 'MODULE_PATHNAME', '_import_rows_wrapper';
COMMENT ON FUNCTION prism_crypt._import_rows(text, text, text, text, text) IS 'Reads an encrypted file into a table. Internal';

CREATE FUNCTION prism_crypt._names_in_expression(text text, OUT kind text, OUT schema text, OUT name text) RETURNS SETOF record
  LANGUAGE c IMMUTABLE STRICT AS 'MODULE_PATHNAME', '_names_in_expression_wrapper';
COMMENT ON FUNCTION prism_crypt._names_in_expression(text) IS 'The types, functions and operators that an expression names. Internal';

CREATE FUNCTION prism_crypt._constants_open(expression text) RETURNS boolean
  LANGUAGE c STABLE STRICT AS 'MODULE_PATHNAME', '_constants_open_wrapper';
COMMENT ON FUNCTION prism_crypt._constants_open(text) IS 'Whether the keys of this database open the encrypted constants in an expression. Internal';

CREATE FUNCTION prism_crypt._type_of(text text, OUT type oid, OUT modifier integer) RETURNS SETOF record
  LANGUAGE c STABLE STRICT ROWS 1 AS 'MODULE_PATHNAME', '_type_of_wrapper';
COMMENT ON FUNCTION prism_crypt._type_of(text) IS 'The type that a text names. Internal';

CREATE FUNCTION prism_crypt._query_columns(query text, OUT name text, OUT type oid, OUT modifier integer) RETURNS SETOF record
  LANGUAGE c VOLATILE AS 'MODULE_PATHNAME', '_query_columns_wrapper';
COMMENT ON FUNCTION prism_crypt._query_columns(text) IS 'The columns of a query. Internal';

-- How the values of a type travel: opened, so that other keys can seal them; as ciphertext, where the role may not decrypt; null if they are no
-- encrypted values.
CREATE FUNCTION prism_crypt._travels_as(type oid) RETURNS text
  LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
  SELECT CASE
    WHEN NOT prism_crypt._holds_encrypted($1) THEN NULL
    WHEN prism_crypt._may_call(current_user::regrole, 'decrypt_field') THEN 'opened'
    ELSE 'ciphertext' END
$$;
COMMENT ON FUNCTION prism_crypt._travels_as(oid) IS 'How values of a type are written into a file. Internal';

CREATE FUNCTION prism_crypt._collation_name(collation oid) RETURNS text
  LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
  SELECT format('%I.%I', n.nspname, c.collname) FROM pg_collation AS c JOIN pg_namespace AS n ON n.oid = c.collnamespace WHERE c.oid = $1
$$;
COMMENT ON FUNCTION prism_crypt._collation_name(oid) IS 'A collation''s name with its schema, quoted. Internal';

CREATE FUNCTION prism_crypt._columns_of_query(columns jsonb) RETURNS jsonb
  LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  one record;
BEGIN
  FOR one IN SELECT * FROM jsonb_to_recordset(columns) AS c (name text, type oid) JOIN pg_type AS t ON t.oid = c.type WHERE t.typtype = 'p' LOOP
    RAISE invalid_table_definition USING MESSAGE = format('column "%s" has pseudo-type %s', one.name, format_type(one.type, NULL));
  END LOOP;
  FOR one IN SELECT name FROM jsonb_to_recordset(columns) AS c (name text) GROUP BY name HAVING count(*) > 1 LOOP
    RAISE duplicate_column USING MESSAGE = format('column "%s" specified more than once', one.name);
  END LOOP;
  RETURN (SELECT coalesce(jsonb_agg(jsonb_strip_nulls(jsonb_build_object(
      'name', c.name, 'type', format_type(c.type, c.modifier), 'encrypted', prism_crypt._travels_as(c.type))) ORDER BY c.number), '[]')
    FROM ROWS FROM (jsonb_to_recordset(columns) AS (name text, type oid, modifier integer)) WITH ORDINALITY AS c (name, type, modifier, number));
END $$;
COMMENT ON FUNCTION prism_crypt._columns_of_query(jsonb) IS 'The columns of a query, as a file has them. Internal';

-- The sequence that a column takes its values from: of an identity column, or of a serial one.
CREATE FUNCTION prism_crypt._sequence_of_column(relation oid, number smallint) RETURNS oid
  LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
  SELECT d.objid FROM pg_depend AS d JOIN pg_class AS c ON c.oid = d.objid AND c.relkind = 'S'
  WHERE d.classid = 'pg_class'::regclass AND d.refclassid = 'pg_class'::regclass AND d.refobjid = $1 AND d.refobjsubid = $2
    AND (d.deptype = 'i' OR d.deptype = 'a' AND EXISTS (
      SELECT FROM pg_attrdef AS own JOIN pg_depend AS uses ON uses.classid = 'pg_attrdef'::regclass AND uses.objid = own.oid
      WHERE own.adrelid = $1 AND own.adnum = $2 AND uses.refclassid = 'pg_class'::regclass AND uses.refobjid = d.objid))
  ORDER BY d.objid LIMIT 1
$$;
COMMENT ON FUNCTION prism_crypt._sequence_of_column(oid, smallint) IS 'The sequence of an identity or serial column. Internal';

CREATE FUNCTION prism_crypt._sequence_for_file(sequence oid) RETURNS jsonb
  LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  own pg_sequence;
  last bigint;
  called boolean;
BEGIN
  SELECT * INTO own FROM pg_sequence AS s WHERE s.seqrelid = sequence;
  IF NOT FOUND THEN
    RETURN NULL;
  ELSIF has_sequence_privilege(sequence, 'SELECT') THEN
    EXECUTE format('SELECT last_value, is_called FROM %s', prism_crypt._qualified_name(sequence::regclass)) INTO last, called;
  ELSIF has_sequence_privilege(sequence, 'USAGE') THEN
    last := pg_sequence_last_value(sequence);
    called := true;
  END IF;
  RETURN jsonb_strip_nulls(jsonb_build_object(
    'start', own.seqstart, 'increment', own.seqincrement, 'minimum', own.seqmin, 'maximum', own.seqmax, 'cache', own.seqcache, 'cycle', own.seqcycle,
    'last', last, 'called', CASE WHEN last IS NOT NULL THEN called END));
END $$;
COMMENT ON FUNCTION prism_crypt._sequence_for_file(oid) IS 'A sequence, as a file has it. Internal';

-- Expressions are written as pg_dump has them.
CREATE FUNCTION prism_crypt._columns_for_file(relation regclass) RETURNS jsonb
  LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
  SET DateStyle = 'ISO' SET IntervalStyle = 'postgres' SET extra_float_digits = 3 SET bytea_output = 'hex' AS $$
  SELECT coalesce(jsonb_agg(jsonb_strip_nulls(jsonb_build_object(
    'name', a.attname,
    'type', format_type(a.atttypid, a.atttypmod),
    'collation', CASE WHEN a.attcollation <> t.typcollation THEN prism_crypt._collation_name(a.attcollation) END,
    'encrypted', prism_crypt._travels_as(a.atttypid),
    'not_null', nullif(a.attnotnull, false),
    'identity', CASE WHEN a.attidentity = 'a' THEN 'always' WHEN a.sequence IS NOT NULL THEN 'by default' END,
    'sequence', prism_crypt._sequence_for_file(a.sequence),
    'generated', CASE a.attgenerated WHEN 's' THEN 'stored' WHEN 'v' THEN 'virtual' END,
    'expression', CASE WHEN d.oid IS NOT NULL AND a.sequence IS NULL THEN pg_get_expr(d.adbin, d.adrelid) END)) ORDER BY a.attnum), '[]')
  FROM (
    SELECT p.*, CASE WHEN p.attidentity <> '' OR p.atthasdef AND p.attgenerated = '' THEN prism_crypt._sequence_of_column(p.attrelid, p.attnum) END AS sequence
    FROM pg_attribute AS p WHERE p.attrelid = $1 AND p.attnum > 0 AND NOT p.attisdropped
  ) AS a
  JOIN pg_type AS t ON t.oid = a.atttypid
  LEFT JOIN pg_attrdef AS d ON d.adrelid = a.attrelid AND d.adnum = a.attnum
$$;
COMMENT ON FUNCTION prism_crypt._columns_for_file(regclass) IS 'The columns of a table or view, as a file has them. Internal';

-- What selects the rows.
CREATE FUNCTION prism_crypt._select_for_file(columns jsonb, source text) RETURNS text
  LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
  SELECT format('SELECT %s FROM %s AS q', string_agg(format('q.%I', c.name), ', ' ORDER BY c.number), $2)
  FROM ROWS FROM (jsonb_to_recordset($1) AS (name name, generated text)) WITH ORDINALITY AS c (name, generated, number)
  WHERE c.generated IS NULL
$$;
COMMENT ON FUNCTION prism_crypt._select_for_file(jsonb, text) IS 'The query whose rows a file gets. Internal';

-- encrypted_text itself, or arrays of it, or a domain over these.
CREATE FUNCTION prism_crypt._is_plain_encrypted(type oid, OUT value boolean, OUT elements boolean) RETURNS record
  LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
  WITH RECURSIVE base (type) AS (
    SELECT $1
    UNION ALL
    SELECT t.typbasetype FROM base AS b JOIN pg_type AS t ON t.oid = b.type WHERE t.typtype = 'd'
  )
  SELECT coalesce(bool_or(b.type = e.oid), false), coalesce(bool_or(b.type = e.typarray), false)
  FROM base AS b, pg_type AS e WHERE e.oid = (SELECT p.prorettype FROM pg_proc AS p WHERE p.oid = 'prism_crypt.load_envelope(text)'::regprocedure)
$$;
COMMENT ON FUNCTION prism_crypt._is_plain_encrypted(oid) IS 'Whether values of a type are encrypted_text, or arrays of it. Internal';

-- Which key versions are needed for columns that travel as ciphertext. What is inside of other types is not looked at.
CREATE FUNCTION prism_crypt._versions_query(columns jsonb, source text) RETURNS text
  LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
  SELECT CASE WHEN count(*) > 0 THEN format('SELECT pg_catalog.jsonb_agg(DISTINCT v.version ORDER BY v.version) FROM %s AS q CROSS JOIN LATERAL (%s) AS v (version) WHERE v.version IS NOT NULL',
                $2, string_agg(CASE WHEN kind.elements THEN format('SELECT %s.key_version(e.value) FROM pg_catalog.unnest(q.%I) AS e (value)', own.schema, c.name)
                                    ELSE format('SELECT %s.key_version(q.%I)', own.schema, c.name) END, ' UNION ALL ')) END
  FROM jsonb_to_recordset($1) AS c (name name, type text, encrypted text, generated text)
  CROSS JOIN LATERAL prism_crypt._type_of(c.type) AS t
  CROSS JOIN LATERAL prism_crypt._is_plain_encrypted(t.type) AS kind
  CROSS JOIN (SELECT quote_ident(n.nspname) AS schema FROM pg_extension AS e JOIN pg_namespace AS n ON n.oid = e.extnamespace WHERE e.extname = 'prism_crypt') AS own
  WHERE c.encrypted = 'ciphertext' AND c.generated IS NULL AND (kind.value OR kind.elements)
$$;
COMMENT ON FUNCTION prism_crypt._versions_query(jsonb, text) IS 'The query that tells which key versions a file needs. Internal';

-- sql/files/export.sql
-- Tables, views and queries as encrypted files.

-- What a file is made of, on the path of the caller.
CREATE FUNCTION prism_crypt._file_source(
  source text, OUT query text, OUT definition text, OUT relation oid, OUT collection text, OUT opened boolean
)
  LANGUAGE plpgsql VOLATILE AS $$
#variable_conflict use_variable
DECLARE
  columns pg_catalog.jsonb;
  versions pg_catalog.jsonb;
  versions_query pg_catalog.text;
  named pg_catalog.text := source;
BEGIN
  IF source IS NULL THEN
    RAISE null_value_not_allowed USING MESSAGE = 'source must not be null';
  END IF;
  IF source OPERATOR(pg_catalog.~) '^[[:space:]]*[(]' THEN
    collection := 'query';
    relation := 0;
    columns := prism_crypt._columns_of_query(COALESCE((SELECT pg_catalog.jsonb_agg(pg_catalog.to_jsonb(c))
      FROM prism_crypt._query_columns(pg_catalog.format(E'SELECT * FROM (%s\n) AS q', source)) AS c), '[]'));
  ELSE
    relation := source::pg_catalog.regclass;
    named := prism_crypt._qualified_name(relation::pg_catalog.regclass);
    -- Elsewhere there is no such schema as that of temporary tables.
    collection := (
      SELECT CASE WHEN c.relpersistence OPERATOR(pg_catalog.=) 't' THEN pg_catalog.quote_ident(c.relname::pg_catalog.text) ELSE named END
      FROM pg_catalog.pg_class AS c WHERE c.oid OPERATOR(pg_catalog.=) relation);
    columns := prism_crypt._columns_for_file(relation::pg_catalog.regclass);
  END IF;
  opened := prism_crypt._may_call(current_user::pg_catalog.regrole, 'decrypt_field');
  versions_query := prism_crypt._versions_query(columns, named);
  IF versions_query IS NOT NULL THEN
    EXECUTE versions_query INTO versions;
    RAISE NOTICE 'encrypted columns travel as ciphertext, which needs these key versions: %', COALESCE(versions::pg_catalog.text, '[]');
  END IF;
  query := prism_crypt._select_for_file(columns, named);
  definition := pg_catalog.jsonb_strip_nulls(
    pg_catalog.jsonb_build_object('collection', collection, 'columns', columns, 'key_versions', versions))::pg_catalog.text;
END $$;
COMMENT ON FUNCTION prism_crypt._file_source(text) IS 'The query and the definition of what is exported. Internal';

CREATE FUNCTION prism_crypt.export_encrypted(
  source text, output_path text, key text DEFAULT NULL, format integer DEFAULT 2, compression text DEFAULT 'none', overwrite boolean DEFAULT false
) RETURNS jsonb
  LANGUAGE plpgsql VOLATILE AS $$
DECLARE
  written pg_catalog.record;
BEGIN
  IF output_path IS NULL OR format IS NULL OR compression IS NULL OR overwrite IS NULL THEN
    RAISE null_value_not_allowed USING MESSAGE = 'output_path, format, compression and overwrite must not be null';
  END IF;
  SELECT w.collection, w.rows, w.size_bytes INTO STRICT written
  FROM prism_crypt._export_rows(source, output_path, key, format, compression, overwrite) AS w;
  RETURN pg_catalog.jsonb_build_object(
    'success', true, 'collection', written.collection, 'output_path', output_path, 'size_bytes', written.size_bytes, 'rows', written.rows,
    'format', format, 'key_source', CASE WHEN key IS NULL THEN 'master' ELSE 'given' END);
END $$;
COMMENT ON FUNCTION prism_crypt.export_encrypted(text, text, text, integer, text, boolean) IS
  'Writes a table, a view or a query in parentheses into an encrypted file of the server';

-- In the list of a SELECT, each piece is made when it is asked for.
CREATE FUNCTION prism_crypt.export_stream(source text, key text DEFAULT NULL, compression text DEFAULT 'none') RETURNS SETOF bytea
  LANGUAGE sql VOLATILE AS $$
  SELECT prism_crypt._export_chunks($1, $2, COALESCE($3, 'none'))
$$;
COMMENT ON FUNCTION prism_crypt.export_stream(text, text, text) IS
  'The same file in pieces, for the client: put together in their order, they are an encrypted file';

-- sql/files/trust.sql
-- What a file may say of its table: nothing runs that another role could have left here.

-- Whose functions may run when a file is imported: the importer's own, and those of superusers, as all of PostgreSQL's and of extensions are.
CREATE FUNCTION prism_crypt._is_trusted(owner oid) RETURNS boolean
  LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
  SELECT r.rolsuper OR r.rolname = current_user FROM pg_roles AS r WHERE r.oid = $1
$$;
COMMENT ON FUNCTION prism_crypt._is_trusted(oid) IS 'Whether objects of a role may be used by what a file says. Internal';

-- A file may name a domain that is there already, and whose checks run for each value.
CREATE FUNCTION prism_crypt._domain_of_others(type oid) RETURNS text
  LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
  WITH RECURSIVE parts (type) AS (
    SELECT $1
    UNION
    SELECT step.type
    FROM parts AS p CROSS JOIN LATERAL (
      SELECT t.typbasetype FROM pg_type AS t WHERE t.oid = p.type AND t.typtype = 'd'
      UNION ALL
      SELECT t.typelem FROM pg_type AS t WHERE t.oid = p.type AND t.typelem <> 0
      UNION ALL
      SELECT r.rngsubtype FROM pg_range AS r WHERE p.type IN (r.rngtypid, r.rngmultitypid)
      UNION ALL
      SELECT a.atttypid FROM pg_type AS t JOIN pg_attribute AS a ON a.attrelid = t.typrelid
      WHERE t.oid = p.type AND t.typrelid <> 0 AND a.attnum > 0 AND NOT a.attisdropped
    ) AS step (type)
  )
  SELECT format('domain %s', format_type(t.oid, NULL)) FROM parts AS p JOIN pg_type AS t ON t.oid = p.type
  WHERE t.typtype = 'd' AND NOT prism_crypt._is_trusted(t.typowner) ORDER BY 1 LIMIT 1
$$;
COMMENT ON FUNCTION prism_crypt._domain_of_others(oid) IS 'The first domain of another role among the parts of a type. Internal';

-- Whether a function does nothing but compute: some of PostgreSQL's own run any SQL that they are given.
CREATE FUNCTION prism_crypt._only_computes(function oid) RETURNS boolean
  LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
  SELECT prism_crypt._is_trusted(p.proowner) AND (p.provolatile = 'i' OR EXISTS (SELECT FROM pg_cast AS c WHERE c.castfunc = p.oid)
    OR p.pronamespace = 'pg_catalog'::regnamespace AND (
    p.proname IN ('now', 'transaction_timestamp', 'statement_timestamp', 'clock_timestamp', 'timeofday', 'random', 'random_normal', 'gen_random_uuid', 'uuidv4', 'uuidv7',
                  'nextval', 'current_database', 'current_schema', 'age', 'date_part', 'extract', 'date_trunc', 'timezone', 'to_char', 'to_date', 'to_timestamp',
                  'make_timestamptz', 'concat', 'concat_ws', 'format', 'to_json', 'to_jsonb', 'array_to_string', 'pg_current_xact_id', 'inet_client_addr')
    OR p.provolatile = 's' AND EXISTS (SELECT FROM pg_operator AS o WHERE o.oprcode = p.oid)))
  FROM pg_proc AS p WHERE p.oid = $1
$$;
COMMENT ON FUNCTION prism_crypt._only_computes(oid) IS 'Whether what a file says may call a function. Internal';

-- The first type, function or operator that an expression names and that should not run, also if only one of that name is such. Before the expression is
-- analysed: that reads its literals. Of PostgreSQL's own functions of a name, some may depend on a setting where others do not.
CREATE FUNCTION prism_crypt._named_of_others(expression text) RETURNS text
  LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
  SELECT pg_describe_object(o.class, o.object, 0)
  FROM prism_crypt._names_in_expression($1) AS n
  -- What has no schema is PostgreSQL's own: on this path no other function is found without one.
  JOIN pg_namespace AS s ON s.nspname = coalesce(n.schema, 'pg_catalog')
  CROSS JOIN LATERAL (
    SELECT 'pg_proc'::regclass, p.oid FROM pg_proc AS p
    WHERE n.kind = 'function' AND p.pronamespace = s.oid AND p.proname = n.name AND NOT prism_crypt._only_computes(p.oid)
      AND (s.nspname <> 'pg_catalog' OR p.provolatile = 'v' OR NOT EXISTS (
        SELECT FROM pg_proc AS same WHERE same.pronamespace = s.oid AND same.proname = p.proname AND prism_crypt._only_computes(same.oid)))
    UNION ALL
    SELECT 'pg_operator'::regclass, p.oid FROM pg_operator AS p
    WHERE n.kind = 'operator' AND p.oprnamespace = s.oid AND p.oprname = n.name
      AND NOT (prism_crypt._is_trusted(p.oprowner) AND prism_crypt._only_computes(p.oprcode))
    UNION ALL
    SELECT 'pg_type'::regclass, t.oid FROM pg_type AS t
    WHERE n.kind IN ('type', 'function') AND t.typnamespace = s.oid AND t.typname = n.name AND prism_crypt._domain_of_others(t.oid) IS NOT NULL
  ) AS o (class, object)
  ORDER BY 1 LIMIT 1
$$;
COMMENT ON FUNCTION prism_crypt._named_of_others(text) IS 'What an expression names that must not run for an import. Internal';

-- The same of what it uses, once it is analysed: casts are not named. What PostgreSQL itself has is not in pg_depend.
CREATE FUNCTION prism_crypt._used_of_others(class regclass, object oid) RETURNS text
  LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
  SELECT pg_describe_object(d.refclassid, d.refobjid, 0)
  FROM pg_depend AS d
  LEFT JOIN pg_operator AS o ON d.refclassid = 'pg_operator'::regclass AND o.oid = d.refobjid
  WHERE d.classid = $1 AND d.objid = $2 AND CASE d.refclassid
    WHEN 'pg_proc'::regclass THEN NOT prism_crypt._only_computes(d.refobjid)
    WHEN 'pg_operator'::regclass THEN NOT (prism_crypt._is_trusted(o.oprowner) AND prism_crypt._only_computes(o.oprcode))
    WHEN 'pg_type'::regclass THEN prism_crypt._domain_of_others(d.refobjid) IS NOT NULL
    ELSE false END
  ORDER BY 1 LIMIT 1
$$;
COMMENT ON FUNCTION prism_crypt._used_of_others(regclass, oid) IS 'What an expression uses that must not run for an import. Internal';

-- Tries the expressions of generated columns as constraints, which only parses them. Making the column itself could run parts of it.
CREATE FUNCTION prism_crypt._require_trusted_columns(columns jsonb, named text, plain text) RETURNS void
  LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  one record;
  used text;
  is_made boolean := false;
BEGIN
  FOR one IN
    SELECT c.name, c.expression FROM jsonb_to_recordset(columns) AS c (name name, generated text, expression text)
    WHERE c.generated IN ('stored', 'virtual')
  LOOP
    used := prism_crypt._named_of_others(one.expression);
    IF NOT is_made AND used IS NULL THEN
      EXECUTE format('CREATE TABLE %s (%s)', named, plain);
      is_made := true;
    END IF;
    IF used IS NULL THEN
      EXECUTE format(E'ALTER TABLE %s ADD CONSTRAINT trial CHECK (((%s\n)) IS NOT NULL) NOT VALID', named, one.expression);
      SELECT prism_crypt._used_of_others('pg_constraint', c.oid) INTO used
      FROM pg_constraint AS c WHERE c.conrelid = named::regclass AND c.conname = 'trial';
    END IF;
    IF used IS NOT NULL THEN
      RAISE insufficient_privilege USING
        MESSAGE = format('column "%s" of the file is generated by %s, which an import does not run', one.name, used),
        HINT = 'If you trust it, make the table yourself, and import with mode => ''append''.';
    END IF;
    EXECUTE format('ALTER TABLE %s DROP CONSTRAINT trial', named);
  END LOOP;
  IF is_made THEN
    EXECUTE format('DROP TABLE %s', named);
  END IF;
END $$;
COMMENT ON FUNCTION prism_crypt._require_trusted_columns(jsonb, text, text) IS
  'Raises an error if a generated column of a file uses what belongs to another role. Internal';

-- sql/files/import.sql
-- Encrypted files into tables.

-- Makes the table that a file describes. Whatever the file says is parsed first, and nothing runs that another role could have left here.
CREATE FUNCTION prism_crypt._make_table_of_file(columns jsonb, named text) RETURNS regclass
  LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  one record;
  used text;
  definitions text[] := '{}';
  plain text[] := '{}';
BEGIN
  FOR one IN
    SELECT c.name, c.not_null, c.identity, c.generated, c.expression, s.*, t.type AS type_oid, format_type(t.type, t.modifier) AS type,
           prism_crypt._collation_name(c."collation"::regcollation) AS collation_name
    FROM jsonb_to_recordset(columns) AS c (
      name name, type text, "collation" text, not_null boolean, identity text, sequence jsonb, generated text, expression text)
    CROSS JOIN LATERAL prism_crypt._type_of(c.type) AS t
    CROSS JOIN LATERAL jsonb_to_record(coalesce(c.sequence, '{}')) AS s (
      start bigint, increment bigint, minimum bigint, maximum bigint, cache bigint, cycle boolean)
  LOOP
    used := prism_crypt._domain_of_others(one.type_oid);
    IF used IS NOT NULL THEN
      RAISE insufficient_privilege USING
        MESSAGE = format('column "%s" of the file has %s, which belongs to another role', one.name, used),
        HINT = 'If you trust it, make the table yourself, and import with mode => ''append''.';
    END IF;
    plain := plain || format('%I %s%s', one.name, one.type, ' COLLATE ' || one.collation_name);
    definitions := definitions || (plain[cardinality(plain)]
      || CASE WHEN one.not_null THEN ' NOT NULL' ELSE '' END
      || CASE WHEN one.identity IN ('always', 'by default') THEN format(' GENERATED %s AS IDENTITY%s', upper(one.identity),
           ' (' || nullif(concat_ws(' ', 'START WITH ' || one.start, 'INCREMENT BY ' || one.increment, 'MINVALUE ' || one.minimum, 'MAXVALUE ' || one.maximum,
             'CACHE ' || one.cache, CASE WHEN one.cycle THEN 'CYCLE' END), '') || ')') ELSE '' END
      || CASE WHEN one.generated IN ('stored', 'virtual') THEN format(E' GENERATED ALWAYS AS (%s\n) %s', one.expression,
           -- PostgreSQL has virtual ones since 18.
           CASE WHEN one.generated = 'virtual' AND current_setting('server_version_num')::integer >= 180000 THEN 'VIRTUAL' ELSE 'STORED' END) ELSE '' END);
  END LOOP;
  PERFORM prism_crypt._require_trusted_columns(columns, named, array_to_string(plain, ', '));
  EXECUTE format('CREATE TABLE %s (%s)', named, array_to_string(definitions, ', '));
  FOR one IN
    SELECT c.name, c.expression FROM jsonb_to_recordset(columns) AS c (name name, generated text, expression text)
    WHERE c.generated IS NULL AND c.expression IS NOT NULL
  LOOP
    IF NOT prism_crypt._constants_open(one.expression) THEN
      RAISE WARNING 'column "%" gets no default: the keys of this database do not open the constant in it', one.name;
      CONTINUE;
    END IF;
    used := prism_crypt._named_of_others(one.expression);
    BEGIN
      IF used IS NULL THEN
        EXECUTE format(E'ALTER TABLE %s ALTER COLUMN %I SET DEFAULT (%s\n)', named, one.name, one.expression);
        SELECT prism_crypt._used_of_others('pg_attrdef', d.oid) INTO used
        FROM pg_attrdef AS d JOIN pg_attribute AS a ON a.attrelid = d.adrelid AND a.attnum = d.adnum WHERE d.adrelid = named::regclass AND a.attname = one.name;
        IF used IS NOT NULL THEN
          EXECUTE format('ALTER TABLE %s ALTER COLUMN %I DROP DEFAULT', named, one.name);
        END IF;
      END IF;
      IF used IS NOT NULL THEN
        RAISE WARNING 'column "%" gets no default: it would use %, which an import does not run', one.name, used;
      END IF;
    EXCEPTION WHEN OTHERS THEN
      RAISE WARNING 'column "%" gets no default: %', one.name, SQLERRM;
    END;
  END LOOP;
  PERFORM setval(pg_get_serial_sequence(named, c.name)::regclass, s.last, coalesce(s.called, true))
  FROM jsonb_to_recordset(columns) AS c (name text, identity text, sequence jsonb) CROSS JOIN LATERAL jsonb_to_record(c.sequence) AS s (last bigint, called boolean)
  WHERE c.identity IN ('always', 'by default') AND s.last IS NOT NULL;
  RETURN named::regclass;
END $$;
COMMENT ON FUNCTION prism_crypt._make_table_of_file(jsonb, text) IS 'Makes the table that a file describes. Internal';

-- The numbers of the columns that a file has fields for, in its order.
CREATE FUNCTION prism_crypt._columns_to_load(columns jsonb, relation regclass) RETURNS smallint[]
  LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  numbers smallint[] := '{}';
  one record;
BEGIN
  FOR one IN
    SELECT c.name, a.attnum, c.encrypted = 'opened' AND NOT (kind.value OR kind.elements) AS shows
    FROM ROWS FROM (jsonb_to_recordset(columns) AS (name name, encrypted text, generated text)) WITH ORDINALITY AS c (name, encrypted, generated, number)
    LEFT JOIN pg_attribute AS a ON a.attrelid = relation AND a.attname = c.name AND a.attnum > 0 AND NOT a.attisdropped
    LEFT JOIN LATERAL prism_crypt._is_plain_encrypted(a.atttypid) AS kind ON true
    WHERE c.generated IS NULL ORDER BY c.number
  LOOP
    IF one.attnum IS NULL THEN
      RAISE undefined_column USING MESSAGE = format('column "%s" of table %s does not exist', one.name, prism_crypt._qualified_name(relation));
    ELSIF one.shows AND NOT prism_crypt._may_call(current_user::regrole, 'decrypt_field') THEN
      RAISE insufficient_privilege USING
        MESSAGE = format('column "%s" of table %s would show what is encrypted', one.name, prism_crypt._qualified_name(relation)),
        HINT = 'It must have type encrypted_text, or an array of it. Roles with access decrypt may import it into any type.';
    END IF;
    numbers := numbers || one.attnum;
  END LOOP;
  RETURN numbers;
END $$;
COMMENT ON FUNCTION prism_crypt._columns_to_load(jsonb, regclass) IS 'The columns that an import fills. Internal';

CREATE FUNCTION prism_crypt._require_empty(relation oid) RETURNS void
  LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  is_filled boolean;
BEGIN
  EXECUTE format('SELECT EXISTS (SELECT FROM %s)', prism_crypt._qualified_name(relation::regclass)) INTO is_filled;
  IF is_filled THEN
    RAISE object_not_in_prerequisite_state USING
      MESSAGE = format('table %s is not empty', prism_crypt._qualified_name(relation::regclass)), HINT = 'mode => ''append'' adds rows to it.';
  END IF;
END $$;
COMMENT ON FUNCTION prism_crypt._require_empty(oid) IS 'Raises an error if a table has rows. Internal';

-- Whatever a file has instead of a definition, it is told of in one way.
CREATE FUNCTION prism_crypt._read_definition(definition text) RETURNS jsonb
  LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  described jsonb;
BEGIN
  BEGIN
    described := definition;
  EXCEPTION WHEN invalid_text_representation THEN
    described := NULL;
  END;
  IF (jsonb_typeof(described) = 'object' AND jsonb_typeof(described -> 'collection') = 'string' AND jsonb_typeof(described -> 'columns') = 'array'
      AND NOT jsonb_path_exists(described, 'strict $.columns[*] ? (!(@.type() == "object" && exists(@.name ? (@.type() == "string")) && exists(@.type ? (@.type() == "string"))))'))
     IS NOT TRUE THEN
    RAISE bad_copy_file_format USING MESSAGE = 'the file does not begin with the definition of a table';
  END IF;
  RETURN described;
END $$;
COMMENT ON FUNCTION prism_crypt._read_definition(text) IS 'The definition that a file begins with. Internal';

-- The table that a file goes into, on the path of the caller.
CREATE FUNCTION prism_crypt._import_target(definition text, target text, mode text) RETURNS regclass
  LANGUAGE plpgsql VOLATILE AS $$
#variable_conflict use_variable
DECLARE
  described CONSTANT pg_catalog.jsonb := prism_crypt._read_definition(definition);
  parts pg_catalog.text[];
BEGIN
  IF mode IS NULL OR mode OPERATOR(pg_catalog.<>) ALL (ARRAY['new', 'empty', 'append']) THEN
    RAISE invalid_parameter_value USING MESSAGE = 'mode must be new, empty or append';
  END IF;
  target := COALESCE(target, described OPERATOR(pg_catalog.->>) 'collection');
  IF mode OPERATOR(pg_catalog.<>) 'new' THEN
    RETURN target::pg_catalog.regclass;
  END IF;
  parts := pg_catalog.parse_ident(target);
  IF pg_catalog.cardinality(parts) OPERATOR(pg_catalog.=) 1 THEN
    parts := pg_catalog.array_prepend(pg_catalog.current_schema()::pg_catalog.text, parts);
  END IF;
  IF pg_catalog.cardinality(parts) OPERATOR(pg_catalog.<>) 2 OR parts[1] IS NULL THEN
    RAISE invalid_name USING MESSAGE = pg_catalog.format('"%s" is not the name of a table', target);
  END IF;
  RETURN prism_crypt._make_table_of_file(described OPERATOR(pg_catalog.->) 'columns', pg_catalog.format('%I.%I', parts[1], parts[2]));
END $$;
COMMENT ON FUNCTION prism_crypt._import_target(text, text, text) IS 'The table that a file goes into. Internal';

CREATE FUNCTION prism_crypt._import_columns(definition text, relation oid, OUT columns smallint[], OUT opened boolean, OUT key_versions integer[])
  LANGUAGE sql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
  SELECT prism_crypt._columns_to_load(d -> 'columns', $2::regclass), NOT jsonb_path_exists(d, '$.columns[*] ? (@.encrypted == "ciphertext")'),
         ARRAY(SELECT v::integer FROM jsonb_path_query(d, '$.key_versions[*] ? (@ >= 1 && @ <= 2147483647)') AS v)
  FROM prism_crypt._read_definition($1) AS d
$$;
COMMENT ON FUNCTION prism_crypt._import_columns(text, oid) IS 'Which columns of a table a file fills, and which key versions its ciphertext needs. Internal';

CREATE FUNCTION prism_crypt.import_encrypted(input_path text, key text DEFAULT NULL, target text DEFAULT NULL, mode text DEFAULT 'new')
  RETURNS jsonb
  LANGUAGE plpgsql VOLATILE
  SET DateStyle = 'ISO' SET IntervalStyle = 'postgres' SET xmloption = 'content' SET array_nulls = on AS $$
DECLARE
  done pg_catalog.record;
BEGIN
  IF input_path IS NULL OR mode IS NULL THEN
    RAISE null_value_not_allowed USING MESSAGE = 'input_path and mode must not be null';
  END IF;
  SELECT r.relation, r.rows, r.bytes INTO STRICT done FROM prism_crypt._import_rows(input_path, NULL, key, target, mode) AS r;
  RETURN pg_catalog.jsonb_build_object(
    'success', true, 'collection', prism_crypt._qualified_name(done.relation::pg_catalog.regclass), 'rows', done.rows,
    'bytes_extracted', done.bytes, 'files_extracted', 1);
END $$;
COMMENT ON FUNCTION prism_crypt.import_encrypted(text, text, text, text) IS
  'Reads an encrypted file of the server into a new table, an empty one, or one that gets more rows';

CREATE FUNCTION prism_crypt.import_stream(chunks text, key text DEFAULT NULL, target text DEFAULT NULL, mode text DEFAULT 'new')
  RETURNS jsonb
  LANGUAGE plpgsql VOLATILE
  SET DateStyle = 'ISO' SET IntervalStyle = 'postgres' SET xmloption = 'content' SET array_nulls = on AS $$
DECLARE
  done pg_catalog.record;
BEGIN
  IF chunks IS NULL OR mode IS NULL THEN
    RAISE null_value_not_allowed USING MESSAGE = 'chunks and mode must not be null';
  ELSIF chunks OPERATOR(pg_catalog.!~) '^[[:space:]]*[(]' THEN
    chunks := pg_catalog.format('(SELECT chunk FROM %s ORDER BY number)', prism_crypt._qualified_name(chunks::pg_catalog.regclass));
  END IF;
  SELECT r.relation, r.rows, r.bytes INTO STRICT done FROM prism_crypt._import_rows(NULL, chunks, key, target, mode) AS r;
  RETURN pg_catalog.jsonb_build_object(
    'success', true, 'collection', prism_crypt._qualified_name(done.relation::pg_catalog.regclass), 'rows', done.rows,
    'bytes_extracted', done.bytes, 'files_extracted', 1);
END $$;
COMMENT ON FUNCTION prism_crypt.import_stream(text, text, text, text) IS
  'Reads the pieces of an encrypted file from a table with columns number and chunk, or from a query in parentheses that gives them in their order';

-- sql/migration/readers.sql
-- Who reads and writes a column, and what they would lack once it is encrypted.

CREATE FUNCTION prism_crypt._has_access(role oid, access text) RETURNS boolean
  LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
  SELECT bool_and(CASE $1 WHEN 0 THEN has_function_privilege('public', f.oid, 'EXECUTE')
                          ELSE has_function_privilege($1, f.oid, 'EXECUTE') END)
  FROM (SELECT p.oid FROM pg_proc AS p WHERE p.oid IN (SELECT prism_crypt._members('pg_proc'))
          AND (access = 'decrypt' AND p.proname IN ('text', 'decrypt_field')
            OR access = 'search' AND p.proname IN ('encrypted_text_eq', 'encrypted_text_cmp')
            OR access = 'encrypt' AND p.proname = 'encrypt_field')) AS f
$$;
COMMENT ON FUNCTION prism_crypt._has_access(oid, text) IS
  'Whether a role (0: PUBLIC) has what makes a kind of access. Internal';

-- What the settings of a role, a database or the server make of prism_crypt.output for it.
CREATE FUNCTION prism_crypt._output_of(role oid) RETURNS text
  LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
  SELECT coalesce(
    (SELECT substr(c, strpos(c, '=') + 1)
     FROM pg_db_role_setting AS s CROSS JOIN unnest(s.setconfig) AS c
     WHERE s.setrole IN (0, $1) AND s.setdatabase IN (0, (SELECT d.oid FROM pg_database AS d WHERE d.datname = current_database()))
       AND split_part(c, '=', 1) = 'prism_crypt.output'
     ORDER BY (s.setrole = $1) DESC, s.setdatabase DESC LIMIT 1),
    (SELECT g.reset_val FROM pg_settings AS g WHERE g.name = 'prism_crypt.output' AND g.source = 'configuration file'),
    'ciphertext')
$$;
COMMENT ON FUNCTION prism_crypt._output_of(oid) IS 'The output that a role gets when it logs in. Internal';

-- Rights to the column: of the table, of the column, and through views.
CREATE FUNCTION prism_crypt._column_roles(
  relation regclass, column_name name, OUT role oid, OUT reads boolean, OUT writes boolean, OUT through text[]
) RETURNS SETOF record
  LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
  WITH sources AS (
    SELECT m.member AS oid, m.attnum FROM prism_crypt._column_members($1, $2) AS m
    UNION ALL
    SELECT g.object, NULL FROM prism_crypt._dependant_graph($1, $2) AS g JOIN pg_class AS c ON c.oid = g.object
    WHERE g.class = 'pg_class'::regclass AND c.relkind IN ('v', 'm')
  ), rights AS (
    SELECT s.oid, a.grantee, a.privilege_type
    FROM sources AS s JOIN pg_class AS c ON c.oid = s.oid
    CROSS JOIN LATERAL aclexplode(coalesce(c.relacl, acldefault('r', c.relowner))) AS a
    UNION ALL
    SELECT s.oid, a.grantee, a.privilege_type
    FROM sources AS s JOIN pg_attribute AS t ON t.attrelid = s.oid AND t.attnum = coalesce(s.attnum, t.attnum)
    CROSS JOIN LATERAL aclexplode(t.attacl) AS a
  )
  SELECT r.grantee, bool_or(r.privilege_type = 'SELECT'), bool_or(r.privilege_type IN ('INSERT', 'UPDATE')),
         array_agg(DISTINCT prism_crypt._qualified_name(r.oid))
  FROM rights AS r
  WHERE r.privilege_type IN ('SELECT', 'INSERT', 'UPDATE') GROUP BY r.grantee
$$;
COMMENT ON FUNCTION prism_crypt._column_roles(regclass, name) IS 'Roles that may read or write a column. Internal';

-- A setting of a role counts where the role itself logs in, not for its members.
CREATE FUNCTION prism_crypt._logins_of(role oid) RETURNS SETOF name
  LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
  SELECT r.rolname FROM pg_roles AS r
  WHERE r.rolcanlogin AND (r.oid = $1 OR $1 <> 0 AND NOT r.rolsuper AND pg_has_role(r.oid, $1, 'USAGE'))
    AND prism_crypt._output_of(r.oid) <> 'plaintext'
  ORDER BY r.oid <> $1, r.rolname
$$;
COMMENT ON FUNCTION prism_crypt._logins_of(oid) IS
  'Roles that log in with the rights of a role, and get something else than plaintext. Internal';

CREATE FUNCTION prism_crypt._plan_roles(target prism_crypt._migration_target) RETURNS jsonb
  LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
  WITH roles AS (
    SELECT r.*, CASE r.role WHEN 0 THEN 'PUBLIC' ELSE pg_get_userbyid(r.role)::text END AS name,
           r.reads AND NOT prism_crypt._has_access(r.role, 'decrypt') AS lacks_decrypt,
           target.is_searchable AND NOT prism_crypt._has_access(r.role, 'search') AS lacks_search,
           -- search includes it.
           r.writes AND NOT target.is_searchable AND NOT prism_crypt._has_access(r.role, 'encrypt') AS lacks_encrypt,
           r.reads AND prism_crypt._output_of(r.role) <> 'plaintext' AS sees_ciphertext
    FROM prism_crypt._column_roles(target.relation, target.column_name) AS r
  ), lacking AS (
    SELECT r.*, array_remove(ARRAY[CASE WHEN r.lacks_decrypt THEN 'decrypt' END, CASE WHEN r.lacks_search THEN 'search' END,
                                   CASE WHEN r.lacks_encrypt THEN 'encrypt' END], NULL) AS lacks
    FROM roles AS r
  )
  SELECT coalesce(jsonb_agg(jsonb_build_object(
    'role', l.name, 'reads', l.reads, 'writes', l.writes, 'through', l.through, 'lacks', l.lacks,
    'output', CASE WHEN l.sees_ciphertext THEN prism_crypt._output_of(l.role) ELSE 'plaintext' END,
    'sql', (SELECT coalesce(jsonb_agg(s.statement), '[]') FROM (
              SELECT format('SELECT prism_crypt.%I(%L, %L)', 'grant_access', quote_ident(l.name), a) FROM unnest(l.lacks) AS a
              WHERE l.role <> 0
              UNION ALL
              SELECT format('ALTER ROLE %I SET prism_crypt.output = ''plaintext''', m.name)
              FROM prism_crypt._logins_of(l.role) AS m (name) WHERE l.sees_ciphertext) AS s (statement)))
    ORDER BY l.name), '[]')
  FROM lacking AS l
  WHERE target.is_encrypting AND (l.lacks <> '{}' OR l.sees_ciphertext)
$$;
COMMENT ON FUNCTION prism_crypt._plan_roles(prism_crypt._migration_target) IS
  'Roles that would lose sight of a column, and what they need. Internal';

-- sql/migration/plan.sql
-- What a migration of a column would do, and what stands in its way. It changes nothing.

CREATE FUNCTION prism_crypt._migration_notes(target prism_crypt._migration_target, method text) RETURNS text[]
  LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_variable
DECLARE
  notes text[] := '{}';
  own record;
BEGIN
  SELECT b.base, a.attcollation, l.collisdeterministic, t.typname,
         a.attnum = (SELECT max(m.attnum) FROM pg_attribute AS m WHERE m.attrelid = a.attrelid AND NOT m.attisdropped) AS is_last
    INTO own
  FROM pg_attribute AS a CROSS JOIN LATERAL (SELECT to_regtype(prism_crypt._base_of_column(a.atttypid, -1))) AS b (base)
  LEFT JOIN pg_collation AS l ON l.oid = a.attcollation LEFT JOIN pg_type AS t ON t.oid = b.base
  WHERE a.attrelid = target.relation AND a.attname = target.column_name;
  IF method = 'online' AND NOT own.is_last THEN
    notes := notes || ('the column moves to the end of the row: SELECT * shows it last, and an INSERT or COPY without a list of '
                       'columns puts values elsewhere')::text;
  END IF;
  IF method = 'online' THEN
    notes := notes || format('the old column stays as %s until it is dropped, and SELECT * shows it as well',
                             quote_ident(prism_crypt._side_name('prism_crypt_old_', target.column_name)));
  END IF;
  notes := notes || ('statements that sessions have prepared may fail once with "cached plan must not change result type": '
                     'they are prepared again by most drivers, or by reconnecting')::text;
  notes := notes || ('bodies of functions in PL/pgSQL and of SQL functions given as a string are not looked into; neither are '
                     'the statements of applications, such as ON CONFLICT')::text;
  IF target.is_encrypting THEN
    IF own.collisdeterministic IS FALSE OR own.typname = 'citext' THEN
      notes := notes || 'encrypted values are compared exactly: text that the column takes for equal now will differ'::text;
    END IF;
    IF own.base = 'date'::regtype AND target.using_expression IS NULL THEN
      notes := notes || 'dates become text as ISO 8601 has them: 2026-11-27'::text;
    END IF;
    IF NOT target.is_searchable THEN
      notes := notes || 'the type is not searchable: = opens every value, and no index helps'::text;
    END IF;
    notes := notes || 'there is no order: ORDER BY, <, BETWEEN and LIKE work on column::text, for roles with decrypt'::text;
  END IF;
  RETURN notes;
END $$;
COMMENT ON FUNCTION prism_crypt._migration_notes(prism_crypt._migration_target, text) IS
  'What to know about a migration. Internal';

-- The method: a rewrite if the table would be locked for less than that, in seconds.
CREATE FUNCTION prism_crypt._max_lock_seconds() RETURNS double precision
  LANGUAGE sql IMMUTABLE SET search_path = pg_catalog, pg_temp AS $$ SELECT 1::double precision $$;
COMMENT ON FUNCTION prism_crypt._max_lock_seconds() IS 'How long a rewrite may lock a table. Internal';

CREATE FUNCTION prism_crypt._plan_migration(target prism_crypt._migration_target) RETURNS jsonb
  LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_variable
DECLARE
  estimate CONSTANT prism_crypt._migration_estimate := prism_crypt._estimate_migration(target, 1000);
  method CONSTANT text := CASE WHEN estimate.rewrite_seconds < prism_crypt._max_lock_seconds() THEN 'rewrite' ELSE 'online' END;
  dependants jsonb;
  refilled bigint;
BEGIN
  SELECT coalesce(jsonb_agg(jsonb_strip_nulls(jsonb_build_object(
           'kind', d.kind, 'identity', d.identity, 'carried_over', d.blocks IS NULL, 'blocks', d.blocks, 'unblock', d.unblock,
           'note', d.note)) ORDER BY d.blocks IS NULL, d.source, d.ordinal), '[]'),
         count(*) FILTER (WHERE d.kind = 'materialized view' AND d.note IS NOT NULL)
    INTO dependants, refilled
  FROM (
    -- migrate_column() keeps the plaintext unless told otherwise; decrypt_column() never does.
    SELECT 1 AS source, b.* FROM prism_crypt._obstacles(target, method, target.is_encrypting) AS b
    UNION ALL
    SELECT 3, (prism_crypt._dependant('values', prism_crypt._target_name(target.relation, target.column_name),
                                      blocks => estimate.blocks)).*
    WHERE estimate.blocks IS NOT NULL AND NOT EXISTS (SELECT FROM prism_crypt._migration_blocks(target))
    UNION ALL
    SELECT 4, b.* FROM prism_crypt._dependants(target.relation, target.column_name, target.new_type) AS b
  ) AS d;
  RETURN jsonb_build_object(
    'relation', prism_crypt._qualified_name(target.relation),
    'column', target.column_name,
    'old_type', target.old_type,
    'new_type', target.new_type,
    'using', target.using_expression,
    'method', method,
    'why', CASE
      WHEN estimate.rewrite_seconds IS NULL THEN 'it is not known how long a rewrite would lock the table'
      WHEN method = 'rewrite' THEN format('a rewrite locks the table for about %s, which is less than %s',
        prism_crypt._spell_seconds(estimate.rewrite_seconds), prism_crypt._spell_seconds(prism_crypt._max_lock_seconds()))
      ELSE format('a rewrite would lock the table for about %s', prism_crypt._spell_seconds(estimate.rewrite_seconds)) END,
    'blocked', jsonb_path_exists(dependants, '$[*] ? (@.carried_over == false)'),
    'tables', estimate.tables,
    'rows', estimate.rows,
    'bytes_now', estimate.bytes_now,
    'bytes_after', estimate.bytes_after,
    'bytes_peak', CASE method WHEN 'online' THEN estimate.bytes_peak ELSE estimate.bytes_now + estimate.bytes_after END,
    'seconds', round((CASE method WHEN 'online' THEN estimate.online_seconds ELSE estimate.rewrite_seconds END)::numeric, 3),
    'wal_bytes', CASE method WHEN 'online' THEN estimate.online_wal ELSE estimate.rewrite_wal END,
    'locked', CASE WHEN method = 'rewrite' THEN 'for the whole time' ELSE 'for milliseconds' END
      || CASE WHEN refilled > 0 THEN format(', and while %s materialized view(s) are filled again', refilled) ELSE '' END,
    'basis', estimate.basis,
    'dependants', dependants,
    'roles', prism_crypt._plan_roles(target),
    'notes', to_jsonb(prism_crypt._migration_notes(target, method)));
END $$;
COMMENT ON FUNCTION prism_crypt._plan_migration(prism_crypt._migration_target) IS 'What a migration would do. Internal';

-- The type and the expression are understood on the caller's path, so these functions have none of their own.
CREATE FUNCTION prism_crypt.plan_migration(relation regclass, column_name name, type text, using_expression text DEFAULT NULL)
  RETURNS jsonb
  LANGUAGE plpgsql VOLATILE AS $$
BEGIN
  RETURN prism_crypt._plan_migration(prism_crypt._check_migratable(
    relation, column_name, type, using_expression, pg_catalog.current_setting('search_path')));
END $$;
COMMENT ON FUNCTION prism_crypt.plan_migration(regclass, name, text, text) IS
  'What it would take to encrypt a column, or to decrypt it: size, time, method, all that touches it, and who would lose sight';

-- sql/migration/explain.sql
-- The plan of a migration, for people.

CREATE FUNCTION prism_crypt._explain_dependant(dependant jsonb) RETURNS SETOF text
  LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
  SELECT format('  %s %s%s', dependant ->> 'kind', dependant ->> 'identity', coalesce(': ' || (dependant ->> 'blocks'), ''))
  UNION ALL
  SELECT format('    %s;', dependant ->> 'unblock') WHERE dependant ->> 'unblock' IS NOT NULL
  UNION ALL
  SELECT format('    (%s)', dependant ->> 'note') WHERE dependant ->> 'note' IS NOT NULL
$$;
COMMENT ON FUNCTION prism_crypt._explain_dependant(jsonb) IS 'Lines about one thing that touches a column. Internal';

CREATE FUNCTION prism_crypt._explain_migration(plan jsonb) RETURNS SETOF text
  LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_variable
DECLARE
  one jsonb;
BEGIN
  RETURN NEXT format('%s.%I: %s becomes %s', plan ->> 'relation', plan ->> 'column', plan ->> 'old_type', plan ->> 'new_type')
    || coalesce(' by ' || (plan ->> 'using'), '');
  RETURN NEXT format('Method: %s, because %s', plan ->> 'method', plan ->> 'why');
  RETURN NEXT format('Locked: %s', plan ->> 'locked');
  RETURN NEXT format('Rows: %s in %s table(s), %s now, %s afterwards, %s in between',
                     coalesce(plan ->> 'rows', 'not known'), plan ->> 'tables',
                     pg_size_pretty((plan ->> 'bytes_now')::bigint),
                     coalesce(pg_size_pretty((plan ->> 'bytes_after')::bigint), 'not known'),
                     coalesce(pg_size_pretty((plan ->> 'bytes_peak')::bigint), 'not known'));
  RETURN NEXT format('Time: %s, WAL: %s (%s)',
                     coalesce('about ' || prism_crypt._spell_seconds((plan ->> 'seconds')::double precision), 'not known'),
                     coalesce('about ' || pg_size_pretty((plan ->> 'wal_bytes')::bigint), 'not known'), plan ->> 'basis');
  IF (plan ->> 'blocked')::boolean THEN
    RETURN NEXT 'Blocked by:';
    FOR one IN SELECT d FROM jsonb_array_elements(plan -> 'dependants') AS d WHERE NOT (d ->> 'carried_over')::boolean LOOP
      RETURN QUERY SELECT prism_crypt._explain_dependant(one);
    END LOOP;
  ELSE
    RETURN NEXT 'Nothing blocks it.';
  END IF;
  IF jsonb_path_exists(plan, '$.dependants[*] ? (@.carried_over == true)') THEN
    RETURN NEXT 'Carried over:';
    FOR one IN SELECT d FROM jsonb_array_elements(plan -> 'dependants') AS d WHERE (d ->> 'carried_over')::boolean LOOP
      RETURN QUERY SELECT prism_crypt._explain_dependant(one);
    END LOOP;
  END IF;
  IF plan -> 'roles' <> '[]' THEN
    RETURN NEXT 'Roles that would see ciphertext, or errors:';
    FOR one IN SELECT r FROM jsonb_array_elements(plan -> 'roles') AS r LOOP
      RETURN NEXT format('  %s %s %s', one ->> 'role',
        concat_ws(' and ', CASE WHEN (one ->> 'reads')::boolean THEN 'reads' END,
                  CASE WHEN (one ->> 'writes')::boolean THEN 'writes' END),
        (SELECT string_agg(t, ', ') FROM jsonb_array_elements_text(one -> 'through') AS t))
        || coalesce(', lacks ' || (SELECT string_agg(l, ', ') FROM jsonb_array_elements_text(one -> 'lacks') AS l), '');
      RETURN QUERY SELECT format('    %s;', s) FROM jsonb_array_elements_text(one -> 'sql') AS s;
    END LOOP;
  END IF;
  RETURN NEXT 'To know:';
  RETURN QUERY SELECT format('  %s', n) FROM jsonb_array_elements_text(plan -> 'notes') AS n;
END $$;
COMMENT ON FUNCTION prism_crypt._explain_migration(jsonb) IS 'A plan as lines of text. Internal';

CREATE FUNCTION prism_crypt.explain_migration(relation regclass, column_name name, type text, using_expression text DEFAULT NULL)
  RETURNS SETOF text
  LANGUAGE plpgsql VOLATILE AS $$
BEGIN
  RETURN QUERY SELECT prism_crypt._explain_migration(prism_crypt.plan_migration(relation, column_name, type, using_expression));
END $$;
COMMENT ON FUNCTION prism_crypt.explain_migration(regclass, name, text, text) IS 'The same as plan_migration(), for people';

-- Access to migrate.
CREATE OR REPLACE FUNCTION prism_crypt._access_kinds() RETURNS text[]
  LANGUAGE sql IMMUTABLE SET search_path = pg_catalog, pg_temp AS $$
  SELECT ARRAY['encrypt', 'decrypt', 'mask', 'search', 'rotate', 'load', 'migrate', 'export', 'key_admin', 'monitor']
$$;

CREATE OR REPLACE FUNCTION prism_crypt._access_functions(access text) RETURNS regprocedure[]
  LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  names text[];
  functions regprocedure[];
  missing text;
BEGIN
  IF access IS NULL THEN
    RAISE null_value_not_allowed USING MESSAGE = 'access must not be null';
  END IF;
  CASE access
    WHEN 'encrypt' THEN
      names := ARRAY[
        'encrypt_field(text,text,text,text)',
        'encrypt_bytes(bytea,text,text,text)'];
    WHEN 'decrypt' THEN
      names := ARRAY[
        'decrypt_field(encrypted_text,text)',
        'try_decrypt_field(encrypted_text,text)',
        'decrypt_bytes(bytea,text)',
        'text(encrypted_text)',
        'varchar(encrypted_text)',
        'bpchar(encrypted_text)',
        'name(encrypted_text)'];
    WHEN 'mask' THEN
      names := ARRAY[
        'mask_field(encrypted_text,text)'];
    WHEN 'rotate' THEN
      names := ARRAY[
        'reencrypt_field(encrypted_text)',
        'reencrypt_bytes(bytea)',
        'rotate_batch(regclass,name,int4,interval,float8,int8,int4,int4,text,name,bool)',
        'rotate_all(int4,interval,float8,int8,int4,int4,text,bool)',
        'plan_rotation(int4)',
        'pause_job(int8)',
        'resume_job(int8)',
        'cancel_job(int8)',
        '_progress(int8)',
        '_set_job_state(int8,text,int8)',
        '_start_job(text,regclass,name,jsonb,int8)',
        '_next_step(uuid,bool,int8,bool)',
        '_record_step(uuid,_step,_result)',
        '_leave_job(uuid,text,text)',
        '_last_pace(regclass,int8)',
        '_older_transactions(timestamptz)',
        '_check_rotation_scope(int4,text)',
        '_rotation_keys(int4,text)',
        '_is_rotatable(encrypted_text)',
        '_is_rotatable(anyelement,int4,text)',
        '_can_rotate(anyelement,int4,text)',
        '_rotation_error(anyelement,int4,text)',
        '_reencrypt(encrypted_text,bool)',
        '_reencrypt(anyelement,int4,text,bool)'];
    WHEN 'load' THEN
      names := ARRAY[
        'load_envelope(text)'];
    WHEN 'migrate' THEN
      names := ARRAY[
        'migrate_column(regclass,name,text,text,text,text,bool,bool,interval,interval,int4,interval,float8,int8,int4)',
        'decrypt_column(regclass,name,text,text,text,bool,interval,interval,int4,interval,float8,int8,int4)',
        'rollback_migration(int8,interval)',
        'finish_migration(int8,interval,jsonb)',
        'plan_migration(regclass,name,text,text)',
        'explain_migration(regclass,name,text,text)',
        'remaining_plaintext(regclass,name,int4)',
        'find_plaintext(text,int4)',
        '_find_plaintext_in(oid,int4)',
        'pause_job(int8)',
        'resume_job(int8)',
        'cancel_job(int8)',
        '_open_migration(migration,int8)',
        '_take_migration(int8,int8)',
        '_migrations(int8)',
        '_is_out_of_step(any,any,int4)',
        '_find_remains(_oid,_bytea)',
        '_start_statement(text)',
        '_progress(int8)',
        '_set_job_state(int8,text,int8)',
        '_start_job(text,regclass,name,jsonb,int8)',
        '_next_step(uuid,bool,int8,bool)',
        '_record_step(uuid,_step,_result)',
        '_leave_job(uuid,text,text)'];
    WHEN 'export' THEN
      names := ARRAY[
        'export_encrypted(text,text,text,int4,text,bool)',
        'import_encrypted(text,text,text,text)',
        'export_stream(text,text,text)',
        'import_stream(text,text,text,text)',
        '_query_columns(text)',
        '_type_of(text)',
        '_names_in_expression(text)', '_constants_open(text)',
        '_export_rows(text,text,text,int4,text,bool)',
        '_export_chunks(text,text,text)',
        '_import_rows(text,text,text,text,text)'];
    WHEN 'key_admin' THEN
      names := ARRAY[
        'generate_key()',
        'create_keyset(text,text)',
        'rotate_key(text,text)',
        'rotate_master_key(text)',
        'disable_key(int4,text)',
        'enable_key(int4,text)',
        'destroy_key(int4,text,bool)',
        'destroy_keyset(text,text,bool)',
        'rotate_index_key(text,text,int4,interval,float8,int8,bool,bool)',
        '_try_to_lock_searched_tables(text,float8,bool,bool,int8)',
        '_replace_index_key(text,text,bool)',
        '_finish_index_key(text)',
        '_is_retagging(text)',
        'emergency_rotation(text)',
        'set_rotation_interval(text,interval)',
        'rotation_due()',
        'census(regclass)',
        'pause_job(int8)',
        'resume_job(int8)',
        'cancel_job(int8)',
        '_set_job_state(int8,text,int8)',
        '_progress(int8)'];
    WHEN 'monitor' THEN
      names := ARRAY[
        'status()',
        '_invalid_search_indexes()',
        '_unexpected_grants()',
        '_namesakes()',
        'rotation_due()',
        'census(regclass)',
        'find_plaintext(text,int4)',
        '_find_plaintext_in(oid,int4)',
        '_progress(int8)',
        '_migrations(int8)'];
    WHEN 'search' THEN
      names := ARRAY[
        'blind_index(text,text,int4)',
        'encrypted_text_eq(encrypted_text,text)',
        'encrypted_text_ne(encrypted_text,text)',
        'encrypted_text_eq(text,encrypted_text)',
        'encrypted_text_ne(text,encrypted_text)',
        'encrypted_text_array_contains(encrypted_text_array,encrypted_text_texts)',
        'encrypted_text_array_contains(encrypted_text_texts,encrypted_text_array)',
        'encrypted_text_array_contained(encrypted_text_array,encrypted_text_texts)',
        'encrypted_text_array_contained(encrypted_text_texts,encrypted_text_array)',
        'encrypted_text_array_overlaps(encrypted_text_array,encrypted_text_texts)',
        'encrypted_text_array_overlaps(encrypted_text_texts,encrypted_text_array)',
        'encrypted_text_array_eq(encrypted_text_array,encrypted_text_texts)',
        'encrypted_text_array_eq(encrypted_text_texts,encrypted_text_array)',
        'encrypted_text_array_ne(encrypted_text_array,encrypted_text_texts)',
        'encrypted_text_array_ne(encrypted_text_texts,encrypted_text_array)',
        'encrypted_text_wanted(_text)',
        'encrypted_text_hash(encrypted_text)',
        'encrypted_text_hash(encrypted_text,int8)',
        'encrypted_text_cmp(encrypted_text,encrypted_text)',
        'encrypted_text_cmp(encrypted_text,text)',
        'encrypted_text_cmp(text,encrypted_text)',
        'encrypted_text_cmp_text(text,text)',
        'encrypted_text_hash_text(text)',
        'encrypted_text_hash_text(text,int8)',
        '_same_text(text,text)'];
    ELSE
      RAISE invalid_parameter_value USING
        MESSAGE = format('access "%s" is not known', access),
        HINT = 'Known: encrypt, decrypt, mask, search, rotate, load, migrate, key_admin, monitor.';
  END CASE;
  WITH members AS (
    SELECT p.oid, format('%s(%s)', p.proname, (
      SELECT string_agg(t.typname, ',' ORDER BY a.number)
      FROM unnest(p.proargtypes) WITH ORDINALITY AS a (type, number) JOIN pg_type AS t ON t.oid = a.type)) AS name
    FROM pg_proc AS p WHERE p.oid IN (SELECT prism_crypt._members('pg_proc'))
  )
  SELECT array_agg(m.oid), string_agg(n.name, ', ') FILTER (WHERE m.oid IS NULL) INTO functions, missing
  FROM unnest(names) AS n (name) LEFT JOIN members AS m ON m.name = n.name;
  IF missing IS NOT NULL THEN
    RAISE undefined_function USING MESSAGE = format('the extension has lost functions: %s', missing);
  END IF;
  RETURN functions;
END $$;

CREATE OR REPLACE FUNCTION prism_crypt.grant_access(role regrole, access text) RETURNS void
  LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  function regprocedure;
BEGIN
  PERFORM prism_crypt._check_role(role);
  -- Without it the names in this schema can't be used; it gives no right to any table or function.
  EXECUTE format('GRANT USAGE ON SCHEMA prism_crypt TO %s', role);
  FOREACH function IN ARRAY prism_crypt._access_functions(access) LOOP
    EXECUTE format('GRANT EXECUTE ON ROUTINE %s TO %s', function, role);
  END LOOP;
  IF access IN ('monitor', 'key_admin') THEN
    EXECUTE format('GRANT SELECT ON prism_crypt.key_status, prism_crypt.index_key_status, prism_crypt.audit_log TO %s', role);
  END IF;
  IF access IN ('monitor', 'rotate', 'migrate', 'key_admin') THEN
    EXECUTE format('GRANT SELECT ON prism_crypt.progress TO %s', role);
  END IF;
  IF access IN ('monitor', 'migrate') THEN
    EXECUTE format('GRANT SELECT ON prism_crypt.migrations TO %s', role);
  END IF;
END $$;

CREATE OR REPLACE FUNCTION prism_crypt.revoke_access(role regrole, access text) RETURNS void
  LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  function regprocedure;
  kept text[];
  remaining text[];
BEGIN
  PERFORM prism_crypt._check_role(role);
  -- Some functions belong to several kinds.
  SELECT coalesce(array_agg(kind), '{}') INTO kept
  FROM unnest(prism_crypt._access_kinds()) AS kind
  WHERE kind <> access AND NOT EXISTS (
    SELECT FROM unnest(prism_crypt._access_functions(kind)) AS f (oid)
    WHERE NOT EXISTS (
      SELECT FROM pg_proc AS p, aclexplode(p.proacl) AS granted WHERE p.oid = f.oid AND granted.grantee = role));
  FOREACH function IN ARRAY prism_crypt._access_functions(access) LOOP
    EXECUTE format('REVOKE EXECUTE ON ROUTINE %s FROM %s', function, role);
  END LOOP;
  PERFORM prism_crypt.grant_access(role, kind) FROM unnest(kept) AS kind;
  SELECT coalesce(array_agg(kind), '{}') INTO remaining
  FROM unnest(prism_crypt._access_kinds()) AS kind
  WHERE EXISTS (
    SELECT FROM pg_proc AS p, aclexplode(p.proacl) AS granted
    WHERE p.oid = ANY (prism_crypt._access_functions(kind)::oid[]) AND granted.grantee = role);
  IF NOT remaining && ARRAY['monitor', 'key_admin'] THEN
    EXECUTE format('REVOKE SELECT ON prism_crypt.key_status, prism_crypt.index_key_status, prism_crypt.audit_log FROM %s', role);
  END IF;
  IF NOT remaining && ARRAY['monitor', 'rotate', 'migrate', 'key_admin'] THEN
    EXECUTE format('REVOKE SELECT ON prism_crypt.progress FROM %s', role);
  END IF;
  IF NOT remaining && ARRAY['monitor', 'migrate'] THEN
    EXECUTE format('REVOKE SELECT ON prism_crypt.migrations FROM %s', role);
  END IF;
  IF remaining = '{}' THEN
    EXECUTE format('REVOKE USAGE ON SCHEMA prism_crypt FROM %s', role);
  END IF;
END $$;

COMMENT ON FUNCTION prism_crypt.grant_access(regrole, text) IS
  'Grants a role the functions of one kind of access: encrypt, decrypt, mask, search, rotate, load, migrate, key_admin or monitor';

CREATE OR REPLACE FUNCTION prism_crypt._unexpected_grants() RETURNS text
  LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
  WITH granted AS (
    SELECT 'pg_proc'::regclass AS class, p.oid AS object, a.grantee, a.privilege_type, a.is_grantable
    FROM prism_crypt._members('pg_proc') AS m (oid) JOIN pg_proc AS p ON p.oid = m.oid
    CROSS JOIN aclexplode(coalesce(p.proacl, acldefault('f', p.proowner))) AS a
    WHERE a.grantee <> p.proowner
    UNION ALL
    SELECT 'pg_class', c.oid, a.grantee, a.privilege_type, a.is_grantable
    FROM pg_class AS c CROSS JOIN aclexplode(c.relacl) AS a
    WHERE (c.oid IN (SELECT prism_crypt._members('pg_class')) OR c.oid = to_regclass('prism_crypt.carried_keys'))
      AND a.grantee <> c.relowner
    UNION ALL
    SELECT 'pg_class', c.oid, a.grantee, a.privilege_type || ' of columns', a.is_grantable
    FROM prism_crypt._members('pg_class') AS m (oid) JOIN pg_class AS c ON c.oid = m.oid
    JOIN pg_attribute AS t ON t.attrelid = c.oid
    CROSS JOIN aclexplode(t.attacl) AS a WHERE a.grantee <> c.relowner
    UNION ALL
    SELECT 'pg_namespace', n.oid, a.grantee, a.privilege_type, a.is_grantable
    FROM prism_crypt._members('pg_namespace') AS m (oid) JOIN pg_namespace AS n ON n.oid = m.oid
    CROSS JOIN aclexplode(n.nspacl) AS a WHERE a.grantee <> n.nspowner
  ), functions AS (
    SELECT kind, f.oid, count(*) OVER (PARTITION BY kind) AS number
    FROM unnest(prism_crypt._access_kinds()) AS kind
    CROSS JOIN unnest(prism_crypt._access_functions(kind)::oid[]) AS f (oid)
  ), held AS MATERIALIZED (
    -- Kinds of access that a role has completely, by its own grants.
    SELECT g.grantee, f.kind
    FROM functions AS f JOIN granted AS g ON g.class = 'pg_proc'::regclass AND g.object = f.oid AND g.grantee <> 0
    GROUP BY g.grantee, f.kind, f.number HAVING count(DISTINCT f.oid) = f.number
  ), expected AS (
    SELECT 'pg_proc'::regclass AS class, f.oid AS object, h.grantee, 'EXECUTE' AS privilege_type
    FROM held AS h JOIN functions AS f ON f.kind = h.kind
    UNION
    SELECT i.classoid, i.objoid, 0, a.privilege_type
    FROM pg_init_privs AS i CROSS JOIN aclexplode(i.initprivs) AS a
    WHERE i.classoid IN ('pg_proc'::regclass, 'pg_class'::regclass) AND a.grantee = 0
    UNION
    SELECT 'pg_namespace', 'prism_crypt'::regnamespace, h.grantee, 'USAGE' FROM held AS h
    UNION
    SELECT 'pg_class', c.oid, h.grantee, 'SELECT'
    FROM pg_class AS c JOIN held AS h ON h.kind IN ('rotate', 'migrate') AND c.relname = 'progress'
      OR h.kind IN ('migrate', 'monitor') AND c.relname = 'migrations'
      OR h.kind IN ('monitor', 'key_admin') AND c.relname IN ('progress', 'key_status', 'index_key_status', 'audit_log')
    WHERE c.relnamespace = 'prism_crypt'::regnamespace
  ), unexpected AS (
    SELECT DISTINCT format(
      '%s on %s to %s%s', g.privilege_type,
      CASE g.class WHEN 'pg_proc'::regclass THEN g.object::regprocedure::text
                   WHEN 'pg_class'::regclass THEN g.object::regclass::text ELSE 'schema ' || g.object::regnamespace END,
      CASE g.grantee WHEN 0 THEN 'PUBLIC' ELSE quote_ident(pg_get_userbyid(g.grantee)) END,
      CASE WHEN g.is_grantable THEN ' with grant option' ELSE '' END) AS what
    FROM granted AS g
    WHERE g.is_grantable
       OR (g.class, g.object, g.grantee, g.privilege_type) NOT IN (
         SELECT e.class, e.object, e.grantee, e.privilege_type FROM expected AS e)
  )
  SELECT CASE WHEN count(*) > 20 THEN format('%s grants, among them: ', count(*)) ELSE '' END
           || string_agg(what, '; ' ORDER BY what) FILTER (WHERE number <= 20)
  FROM (SELECT what, row_number() OVER (ORDER BY what) AS number FROM unexpected) AS u
$$;

-- ---- The end of every such script.
-- What is new belongs to the extension's owner, whichever superuser updates it, and is closed to everybody, whatever ALTER DEFAULT
-- PRIVILEGES says. Then new helpers that run with the caller's rights are opened, and EXECUTE on what is not open is checked at each
-- call. Nothing that was there before is touched: it has the rights that people gave it. See sql/access/privileges.sql.
DO $$
DECLARE
  old CONSTANT pg_catalog.text[] := pg_catalog.string_to_array(pg_catalog.current_setting('prism_upgrade.members'), ' ');
  one pg_catalog.record;
BEGIN
  FOR one IN
    SELECT pg_catalog.format('ALTER %s %s OWNER TO %s', i.type, i.identity, pg_catalog.quote_ident(pg_catalog.pg_get_userbyid(e.extowner)))
             AS command
    FROM pg_catalog.pg_extension AS e
    JOIN pg_catalog.pg_depend AS d ON d.refclassid OPERATOR(pg_catalog.=) 'pg_catalog.pg_extension'::pg_catalog.regclass
      AND d.refobjid OPERATOR(pg_catalog.=) e.oid AND d.deptype OPERATOR(pg_catalog.=) 'e'
    CROSS JOIN LATERAL pg_catalog.pg_identify_object(d.classid, d.objid, 0) AS i
    WHERE e.extname OPERATOR(pg_catalog.=) 'prism_crypt'
      AND pg_catalog.pg_get_userbyid(e.extowner) OPERATOR(pg_catalog.<>) CURRENT_USER
      AND pg_catalog.format('%s.%s', d.classid::pg_catalog.oid, d.objid) OPERATOR(pg_catalog.<>) ALL (old)
      AND i.type OPERATOR(pg_catalog.=) ANY (
        '{function,procedure,aggregate,table,view,sequence,type,schema,operator,operator class,operator family}'::pg_catalog.text[])
      -- Types of rows and arrays follow theirs, and so do sequences of columns.
      AND NOT EXISTS (
        SELECT FROM pg_catalog.pg_type AS t LEFT JOIN pg_catalog.pg_class AS c ON c.oid OPERATOR(pg_catalog.=) t.typrelid
        WHERE d.classid OPERATOR(pg_catalog.=) 'pg_catalog.pg_type'::pg_catalog.regclass AND t.oid OPERATOR(pg_catalog.=) d.objid
          AND (c.relkind OPERATOR(pg_catalog.<>) 'c' OR t.typcategory OPERATOR(pg_catalog.=) 'A'))
      AND NOT EXISTS (
        SELECT FROM pg_catalog.pg_depend AS l
        WHERE i.type OPERATOR(pg_catalog.=) 'sequence' AND l.classid OPERATOR(pg_catalog.=) d.classid
          AND l.objid OPERATOR(pg_catalog.=) d.objid AND l.refclassid OPERATOR(pg_catalog.=) d.classid
          AND l.deptype OPERATOR(pg_catalog.=) ANY ('{a,i}'::pg_catalog."char"[]))
  LOOP
    EXECUTE one.command;
  END LOOP;

  FOR one IN
    WITH members AS (
      SELECT d.classid, d.objid
      FROM pg_catalog.pg_depend AS d JOIN pg_catalog.pg_extension AS e ON e.oid OPERATOR(pg_catalog.=) d.refobjid
      WHERE d.refclassid OPERATOR(pg_catalog.=) 'pg_catalog.pg_extension'::pg_catalog.regclass
        AND d.deptype OPERATOR(pg_catalog.=) 'e' AND e.extname OPERATOR(pg_catalog.=) 'prism_crypt'
        AND pg_catalog.format('%s.%s', d.classid::pg_catalog.oid, d.objid) OPERATOR(pg_catalog.<>) ALL (old)
    ), objects (kind, name, owner, acl, is_helper) AS (
      SELECT 'ROUTINE', p.oid::pg_catalog.regprocedure::pg_catalog.text, p.proowner,
             coalesce(p.proacl, pg_catalog.acldefault('f', p.proowner)),
             p.pronamespace OPERATOR(pg_catalog.=) 'prism_crypt'::pg_catalog.regnamespace
               AND pg_catalog.starts_with(p.proname::pg_catalog.text, '_') AND NOT p.prosecdef
               AND l.lanname OPERATOR(pg_catalog.=) ANY ('{sql,plpgsql}'::pg_catalog.name[])
               AND p.prorettype OPERATOR(pg_catalog.<>) ALL ('{trigger,event_trigger}'::pg_catalog.regtype[])
      FROM members AS m
      JOIN pg_catalog.pg_proc AS p ON m.classid OPERATOR(pg_catalog.=) 'pg_catalog.pg_proc'::pg_catalog.regclass
        AND p.oid OPERATOR(pg_catalog.=) m.objid
      JOIN pg_catalog.pg_language AS l ON l.oid OPERATOR(pg_catalog.=) p.prolang
      UNION ALL
      SELECT CASE WHEN c.relkind OPERATOR(pg_catalog.=) 'S' THEN 'SEQUENCE' ELSE 'TABLE' END,
             c.oid::pg_catalog.regclass::pg_catalog.text, c.relowner,
             coalesce(c.relacl, pg_catalog.acldefault(
               CASE WHEN c.relkind OPERATOR(pg_catalog.=) 'S' THEN 's'::pg_catalog."char" ELSE 'r' END, c.relowner)), false
      FROM members AS m
      JOIN pg_catalog.pg_class AS c ON m.classid OPERATOR(pg_catalog.=) 'pg_catalog.pg_class'::pg_catalog.regclass
        AND c.oid OPERATOR(pg_catalog.=) m.objid AND c.relkind OPERATOR(pg_catalog.<>) 'c'
      UNION ALL
      SELECT 'TYPE', t.oid::pg_catalog.regtype::pg_catalog.text, t.typowner, t.typacl, false
      FROM members AS m
      JOIN pg_catalog.pg_type AS t ON m.classid OPERATOR(pg_catalog.=) 'pg_catalog.pg_type'::pg_catalog.regclass
        AND t.oid OPERATOR(pg_catalog.=) m.objid
      UNION ALL
      SELECT 'SCHEMA', pg_catalog.quote_ident(n.nspname), n.nspowner, n.nspacl, false
      FROM members AS m
      JOIN pg_catalog.pg_namespace AS n ON m.classid OPERATOR(pg_catalog.=) 'pg_catalog.pg_namespace'::pg_catalog.regclass
        AND n.oid OPERATOR(pg_catalog.=) m.objid
    )
    SELECT 1 AS turn, pg_catalog.format('REVOKE ALL ON %s %s FROM %s CASCADE', o.kind, o.name,
             CASE WHEN g.grantee OPERATOR(pg_catalog.=) 0 THEN 'PUBLIC'
                  ELSE pg_catalog.quote_ident(pg_catalog.pg_get_userbyid(g.grantee)) END) AS command
    FROM objects AS o
    CROSS JOIN LATERAL (SELECT DISTINCT a.grantee FROM pg_catalog.aclexplode(o.acl) AS a) AS g
    WHERE g.grantee OPERATOR(pg_catalog.<>) o.owner
    UNION ALL
    SELECT 2, pg_catalog.format('GRANT EXECUTE ON ROUTINE %s TO PUBLIC', o.name) FROM objects AS o WHERE o.is_helper
    ORDER BY turn
  LOOP
    EXECUTE one.command;
  END LOOP;
END $$;

-- ---- What is everybody's.
-- These look at the session, check that the caller owns the tables, or judge by the rights of the table's owner.
GRANT EXECUTE ON FUNCTION
  prism_crypt._has_common_key(), prism_crypt._lock_relations(regclass[], integer), prism_crypt._keep_in_step(),
  prism_crypt._statement_result(), prism_crypt._stop_statement()
TO PUBLIC;
-- pg_dump reads it for whoever runs it, even with --schema-only.
GRANT SELECT ON SEQUENCE prism_crypt.migration_id_seq TO PUBLIC;
-- These run with the owner's rights, but only for the owner of a table that has a migration, which takes access to migrate.
GRANT EXECUTE ON FUNCTION
  prism_crypt._read_migration(bigint, bigint), prism_crypt._find_migration(regclass, name, bigint),
  prism_crypt._record_phase(bigint, text, jsonb, jsonb, bigint), prism_crypt._leave_migration(bigint, text, bigint),
  prism_crypt._turn(bigint, boolean, bigint), prism_crypt._job_of_migration(bigint, text, bigint),
  prism_crypt._hand_on_grants(bigint, bigint)
TO PUBLIC;

DO $$
DECLARE
  one pg_catalog.record;
BEGIN
  -- A function that was replaced has lost this.
  FOR one IN
    SELECT pg_catalog.format('ALTER FUNCTION %s SUPPORT prism_crypt._role_support', p.oid::pg_catalog.regprocedure) AS command
    FROM prism_crypt._members('pg_catalog.pg_proc') AS m (oid)
    JOIN pg_catalog.pg_proc AS p ON p.oid OPERATOR(pg_catalog.=) m.oid
    WHERE p.pronamespace OPERATOR(pg_catalog.=) 'prism_crypt'::pg_catalog.regnamespace
      AND p.prokind OPERATOR(pg_catalog.=) 'f' AND p.prosupport OPERATOR(pg_catalog.=) 0
      AND p.provolatile OPERATOR(pg_catalog.<>) 'i'
      AND p.prorettype OPERATOR(pg_catalog.<>) ALL ('{internal,trigger,event_trigger}'::pg_catalog.regtype[])
      AND NOT pg_catalog.has_function_privilege('public', p.oid, 'EXECUTE')
  LOOP
    EXECUTE one.command;
  END LOOP;
END $$;
