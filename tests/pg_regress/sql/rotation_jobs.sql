-- Jobs of rotations: steps, states, pause, resume, cancel, who may.
CALL regress.fresh();
\set SHOW_CONTEXT never
CREATE TABLE t (id int PRIMARY KEY, v encrypted_text, w encrypted_text);
INSERT INTO t SELECT n, 'v' || n, 'w' || n FROM generate_series(1, 100) AS n;
CREATE VIEW jobs AS SELECT id, kind, target, state, pass, cardinality(workers) AS workers, rows_done, percent, rows_left, values_unreadable, error, reason, created_by FROM prism_crypt.progress;
SELECT * FROM prism_crypt.progress;
SELECT prism_crypt.rotate_key() AS active \gset

-- max_batches: so many, and the next call goes on with the same job.
CALL rotate_batch('t', 'v', 10, max_batches => 3);
SELECT * FROM jobs;
SELECT count(*) FROM t WHERE key_version(v) = :active;
CALL rotate_batch('t', 'v', 10, max_batches => 1);
CALL rotate_batch('t', 'v', 20, max_batches => 1);
SELECT id, state, rows_done FROM jobs;
SELECT count(*) FROM t WHERE key_version(v) = :active;
-- Each row is done once.
CALL rotate_batch('t', 'v', max_batches => 100);
SELECT id, state, rows_done, percent, rows_left, values_unreadable FROM jobs;
SELECT created_at <= started_at AND started_at <= updated_at AND updated_at >= finished_at AND finished_at >= started_at AS in_order, rows_per_second > 0 AS rate, eta IS NULL AS no_eta, blocks_total = blocks_done AS blocks FROM prism_crypt.progress;
-- Another column, scope or target is another job; the same again, a new one.
SELECT prism_crypt.create_keyset('tenant') IS NOT NULL AS made;
CALL rotate_batch('t', 'v');
CALL rotate_batch('t', 'w', max_batches => 1, batch_size => 10);
CALL rotate_batch('t', max_batches => 1, batch_size => 10);
CALL rotate_batch('t', 'w', max_batches => 1, batch_size => 10, from_version => 1);
CALL rotate_batch('t', 'w', max_batches => 1, batch_size => 10, keyset => 'default');
CALL rotate_batch('t', 'w', max_batches => 1, batch_size => 10, keyset => 'default', from_version => 1);
SELECT j.id, p.target, (j.scope ->> 'from_version')::int AS from_version, j.scope ->> 'keyset' AS keyset, j.state, p.rows_done FROM prism_crypt.job AS j JOIN prism_crypt.progress AS p USING (id) ORDER BY id;
SELECT count(*) FROM t WHERE key_version(w) = :active;
-- Other limits don't make another one.
CALL rotate_batch('t', 'w', 1000, '1 ms', 1000000, 1000000, 50);
SELECT id, state, rows_done FROM jobs ORDER BY id;
-- Where there is less to do than the job thinks, it ends.
CALL rotate_batch('t');
CALL rotate_batch('t', 'w', from_version => 1);
CALL rotate_batch('t', 'w', keyset => 'default');
CALL rotate_batch('t', 'w', keyset => 'default', from_version => 1);
SELECT state, count(*), sum(rows_done) FROM jobs GROUP BY 1;

-- What may be done to a job by its state.
CALL regress.fails('SELECT prism_crypt.pause_job(NULL)');
CALL regress.fails('SELECT prism_crypt.resume_job(NULL)');
CALL regress.fails('SELECT prism_crypt.cancel_job(NULL)');
CALL regress.fails('SELECT prism_crypt.pause_job(999)');
CALL regress.fails('SELECT prism_crypt.resume_job(999)');
CALL regress.fails('SELECT prism_crypt.cancel_job(0)');
CALL regress.fails('SELECT prism_crypt.pause_job(1)');
CALL regress.fails('SELECT prism_crypt.resume_job(1)');
CALL regress.fails('SELECT prism_crypt.cancel_job(1)');
-- Pending: paused and cancelled by whoever is not working on it.
SELECT prism_crypt.rotate_key() AS active \gset
CALL rotate_batch('t', 'v', 10, max_batches => 2);
SELECT max(id) AS job FROM jobs \gset
CALL regress.fails(format('SELECT prism_crypt.resume_job(%s)', :job));
SELECT prism_crypt.pause_job(:job);
SELECT prism_crypt.pause_job(:job);
SELECT state, rows_done, workers FROM jobs WHERE id = :job;
-- A call on a paused job waits; it may be cancelled like any other statement.
SET statement_timeout = '300ms';
SET client_min_messages = warning;
CALL rotate_batch('t', 'v');
\echo :SQLSTATE
RESET client_min_messages;
RESET statement_timeout;
SELECT state, rows_done, workers FROM jobs WHERE id = :job;
SELECT prism_crypt.resume_job(:job);
CALL regress.fails(format('SELECT prism_crypt.resume_job(%s)', :job));
CALL rotate_batch('t', 'v', 10, max_batches => 2);
SELECT state, rows_done FROM jobs WHERE id = :job;
SELECT prism_crypt.cancel_job(:job);
CALL regress.fails(format('SELECT prism_crypt.cancel_job(%s)', :job));
CALL regress.fails(format('SELECT prism_crypt.pause_job(%s)', :job));
CALL regress.fails(format('SELECT prism_crypt.resume_job(%s)', :job));
SELECT state, rows_done, percent > 0 AND percent < 100 AS percent, eta IS NULL AS no_eta, finished_at IS NOT NULL AS over FROM prism_crypt.progress WHERE id = :job;
-- A cancelled one is over; the next call makes another, for what is left.
CALL rotate_batch('t', 'v');
SELECT id > :job AS another, state, rows_done FROM jobs ORDER BY id DESC LIMIT 1;
-- Paused and cancelled.
SELECT prism_crypt.rotate_key() AS active \gset
CALL rotate_batch('t', 'v', 10, max_batches => 1);
SELECT max(id) AS job FROM jobs \gset
SELECT prism_crypt.pause_job(:job), prism_crypt.cancel_job(:job);
SELECT state FROM jobs WHERE id = :job;

-- A job of a table that is gone: shown, never in the way.
CREATE TABLE gone (v encrypted_text);
INSERT INTO gone VALUES ('gone'), ('and gone');
SELECT prism_crypt.rotate_key() AS active \gset
CALL rotate_batch('gone', 'v', 1, max_batches => 1);
ALTER TABLE gone RENAME TO going;
SELECT target, state FROM jobs ORDER BY id DESC LIMIT 1;
DROP TABLE going;
SELECT regexp_replace(target, '\d+', 'N') AS target, state, rows_done FROM jobs ORDER BY id DESC LIMIT 1;
SELECT prism_crypt.cancel_job(max(id)) FROM jobs;
SELECT state FROM jobs ORDER BY id DESC LIMIT 1;
-- A partition that came or went between two calls.
CREATE TABLE p (id int, v encrypted_text) PARTITION BY LIST (id);
CREATE TABLE p1 PARTITION OF p FOR VALUES IN (1);
CREATE TABLE p2 PARTITION OF p FOR VALUES IN (2);
INSERT INTO p SELECT 1 + n % 2, 'v' FROM generate_series(1, 10) AS n;
SELECT prism_crypt.rotate_key() AS active \gset
CALL rotate_batch('p', 'v', 2, max_batches => 1);
DROP TABLE p2;
CREATE TABLE p3 PARTITION OF p FOR VALUES IN (3);
INSERT INTO p3 SELECT 3, prism_crypt.load_envelope(encrypted_text_out(v)::text) FROM p1 WHERE key_version(v) <> :active;
CALL rotate_batch('p', 'v');
SELECT target, state FROM jobs ORDER BY id DESC LIMIT 1;
SELECT count(*), bool_and(key_version(v) = :active) AS moved FROM p;

-- Who may: rotate works and steers where it may update, monitor looks, nobody else does either.
GRANT SELECT, UPDATE ON t TO regress_prism_rotator;
SELECT prism_crypt.rotate_key() AS active \gset
CALL rotate_batch('t', 'v', 10, max_batches => 1);
SELECT max(id) AS job FROM jobs \gset
CREATE TABLE regress.job AS SELECT :job AS id;
GRANT SELECT ON regress.job TO PUBLIC;
CREATE PROCEDURE try_all() LANGUAGE plpgsql AS $$
DECLARE statement text;
BEGIN
  FOREACH statement IN ARRAY ARRAY[
    'SELECT count(*) FROM prism_crypt.progress', format('SELECT prism_crypt.pause_job(%s)', (SELECT id FROM regress.job)), format('SELECT prism_crypt.resume_job(%s)', (SELECT id FROM regress.job)),
    'SELECT count(*) FROM prism_crypt.job', 'UPDATE prism_crypt.job SET state = ''finished''', 'SELECT count(*) FROM prism_crypt.job_part', 'SELECT count(*) FROM prism_crypt.job_range',
    'DELETE FROM prism_crypt.audit_log', 'SELECT count(*) > 0 FROM prism_crypt.audit_log', 'SELECT count(*) > 0 FROM prism_crypt.key_status', 'SELECT count(*) > 0 FROM prism_crypt.census()',
    'SELECT count(*) > 0 FROM prism_crypt.rotation_due()', 'SELECT count(*) > 0 FROM prism_crypt.plan_rotation()', 'SELECT prism_crypt._set_job_state(1, ''running'', 1)', 'SELECT prism_crypt.disable_key(1)',
    'SELECT prism_crypt.destroy_key(1)', 'SELECT prism_crypt.emergency_rotation(''x'')', 'SELECT prism_crypt._audit(''x'', NULL, NULL, NULL)', 'SELECT prism_crypt._overwrite_key(1, ''x'', ''x'')'] LOOP
    RAISE INFO '%', statement;
    CALL regress.fails(statement);
  END LOOP;
END $$;
\set VERBOSITY terse
SELECT prism_crypt.grant_access('regress_prism_monitor', 'monitor'), prism_crypt.grant_access('regress_prism_rotator', 'rotate'), prism_crypt.grant_access('regress_prism_reader', 'decrypt');
SET ROLE regress_prism_reader;
CALL try_all();
SET ROLE regress_prism_monitor;
CALL try_all();
SET ROLE regress_prism_rotator;
CALL try_all();
RESET ROLE;
\set VERBOSITY default
-- What two kinds share stays, while one of them is left.
SELECT prism_crypt.grant_access('regress_prism_monitor', 'rotate'), prism_crypt.grant_access('regress_prism_monitor', 'key_admin');
CREATE FUNCTION may(what regrole) RETURNS TABLE (progress boolean, due boolean, status boolean, pause boolean, rotate boolean, key_admin boolean, key_status boolean, audit boolean, usage boolean) LANGUAGE sql AS $$
  SELECT has_table_privilege(what, 'prism_crypt.progress', 'SELECT') AND has_function_privilege(what, 'prism_crypt._progress(bigint)', 'EXECUTE'), has_function_privilege(what, 'prism_crypt.rotation_due()', 'EXECUTE'),
    has_function_privilege(what, 'prism_crypt.status()', 'EXECUTE'), has_function_privilege(what, 'prism_crypt.pause_job(bigint)', 'EXECUTE'), has_function_privilege(what, 'prism_crypt._start_job(text,regclass,name,jsonb,bigint)', 'EXECUTE'),
    has_function_privilege(what, 'prism_crypt.disable_key(int, text)', 'EXECUTE'), has_table_privilege(what, 'prism_crypt.key_status', 'SELECT'), has_table_privilege(what, 'prism_crypt.audit_log', 'SELECT'), has_schema_privilege(what, 'prism_crypt', 'USAGE')
$$;
SELECT * FROM may('regress_prism_monitor');
SELECT prism_crypt.revoke_access('regress_prism_monitor', 'rotate');
SELECT * FROM may('regress_prism_monitor');
SELECT prism_crypt.revoke_access('regress_prism_monitor', 'monitor');
SELECT * FROM may('regress_prism_monitor');
SELECT prism_crypt.grant_access('regress_prism_monitor', 'monitor'), prism_crypt.revoke_access('regress_prism_monitor', 'key_admin');
SELECT * FROM may('regress_prism_monitor');
SELECT prism_crypt.revoke_access('regress_prism_monitor', 'monitor');
SELECT * FROM may('regress_prism_monitor');
SELECT * FROM may('regress_prism_rotator');
SELECT prism_crypt.revoke_access('regress_prism_rotator', 'rotate');
SELECT * FROM may('regress_prism_rotator');
DROP TABLE regress.job;
