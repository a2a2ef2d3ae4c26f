-- Jobs believe nobody: who opens one, works on it, sees it and steers it.
CALL regress.fresh();
\set SHOW_CONTEXT never
SELECT prism_crypt.grant_access('regress_prism_rotator', 'rotate'), prism_crypt.grant_access('regress_prism_owner', 'rotate'),
  prism_crypt.grant_access('regress_prism_admin', 'key_admin'), prism_crypt.grant_access('regress_prism_monitor', 'monitor');
CREATE TABLE dba (id int, v encrypted_text);
INSERT INTO dba SELECT n, 'v' || n FROM generate_series(1, 10) AS n;
CREATE TABLE mine (id int, v encrypted_text);
INSERT INTO mine SELECT n, 'v' || n FROM generate_series(1, 10) AS n;
GRANT SELECT, UPDATE ON mine TO regress_prism_rotator;
CREATE VIEW jobs AS SELECT target, state, rows_done, error, created_by = session_user AS own FROM prism_crypt.progress;
GRANT SELECT ON jobs TO PUBLIC;
SELECT prism_crypt.rotate_key() AS active \gset
SET client_min_messages = warning;
CALL rotate_batch('dba', 'v', 2, max_batches => 1);
RESET client_min_messages;
SELECT max(id) AS dba_job FROM prism_crypt.progress \gset
SELECT token AS dba_token, id AS dba_range FROM prism_crypt.job_range LEFT JOIN prism_crypt.job_worker USING (job) \gset
CREATE TABLE regress.job AS SELECT :dba_job AS id, :dba_range AS range;
GRANT SELECT ON regress.job TO PUBLIC;

-- Seeing and steering: by UPDATE on the table, or for having asked; monitor sees all, key_admin steers all.
CREATE PROCEDURE look() LANGUAGE plpgsql AS $$
DECLARE
  one record;
BEGIN
  FOR one IN SELECT target, state FROM prism_crypt.progress ORDER BY id LOOP
    RAISE INFO '%: %', one.target, one.state;
  END LOOP;
  CALL regress.fails('SELECT prism_crypt.pause_job(id) FROM regress.job');
  CALL regress.fails('SELECT prism_crypt.resume_job(id) FROM regress.job');
END $$;
SET ROLE regress_prism_rotator;
CALL look();
SET ROLE regress_prism_admin;
CALL look();
SET ROLE regress_prism_monitor;
CALL look();
RESET ROLE;
GRANT EXECUTE ON FUNCTION prism_crypt.pause_job(bigint), prism_crypt.resume_job(bigint), prism_crypt._set_job_state(bigint, text, bigint) TO regress_prism_monitor;
SET ROLE regress_prism_monitor;
CALL look();
RESET ROLE;
GRANT UPDATE (v) ON dba TO regress_prism_owner;
SET ROLE regress_prism_owner;
CALL look();
RESET ROLE;
REVOKE UPDATE (v) ON dba FROM regress_prism_owner;
-- A view does not lend its owner's eyes.
SET ROLE regress_prism_rotator;
SELECT * FROM jobs;
RESET ROLE;
-- Who asked sees it also without the right to the table, and steers it only with it.
SET client_min_messages = warning;
SET ROLE regress_prism_rotator;
CALL rotate_batch('mine', 'v', 2, max_batches => 1);
RESET ROLE;
REVOKE UPDATE ON mine FROM regress_prism_rotator;
SET ROLE regress_prism_rotator;
SELECT * FROM jobs;
CALL regress.fails('SELECT prism_crypt.cancel_job(id) FROM prism_crypt.progress');
CALL regress.fails('SELECT prism_crypt.pause_job(id) FROM prism_crypt.progress');
RESET ROLE;
GRANT UPDATE ON mine TO regress_prism_rotator;
SET ROLE regress_prism_rotator;
-- There are three things to say.
CALL regress.fails('SELECT prism_crypt._set_job_state(id, ''finished'', prism_crypt._note_caller()) FROM prism_crypt.progress');
CALL regress.fails('SELECT prism_crypt._set_job_state(id, ''incomplete'', prism_crypt._note_caller()) FROM prism_crypt.progress');
CALL regress.fails('SELECT prism_crypt._set_job_state(id, ''failed'', prism_crypt._note_caller()) FROM prism_crypt.progress');
CALL regress.fails('SELECT prism_crypt._set_job_state(id, ''pending'', prism_crypt._note_caller()) FROM prism_crypt.progress');
CALL regress.fails('SELECT prism_crypt._set_job_state(id, '''', prism_crypt._note_caller()) FROM prism_crypt.progress');
CALL regress.fails('SELECT prism_crypt._set_job_state(id, NULL, prism_crypt._note_caller()) FROM prism_crypt.progress');
SELECT * FROM jobs;
SELECT prism_crypt.cancel_job(id) FROM prism_crypt.progress;
RESET ROLE;
-- A table that is gone is nobody's: who asked may end its job.
CREATE TABLE gone (id int, v encrypted_text);
INSERT INTO gone SELECT n, 'v' || n FROM generate_series(1, 10) AS n;
GRANT SELECT, UPDATE ON gone TO regress_prism_rotator;
SELECT prism_crypt.rotate_key() IS NOT NULL AS rotated;
SET ROLE regress_prism_rotator;
CALL rotate_batch('gone', 'v', 2, max_batches => 1);
RESET ROLE;
DROP TABLE gone;
SET ROLE regress_prism_rotator;
SELECT prism_crypt.cancel_job(id) FROM prism_crypt.progress WHERE target LIKE 'dropped%';
SELECT regexp_replace(target, '\d+', 'N') AS target, state FROM jobs WHERE target LIKE 'dropped%';
RESET ROLE;
DELETE FROM prism_crypt.job WHERE relation NOT IN (SELECT oid FROM pg_class);
RESET client_min_messages;

-- Nobody is believed who he is.
SET ROLE regress_prism_rotator;
CALL regress.fails('SELECT prism_crypt._start_job(''rotation'', ''dba'', ''v'', ''{}'', prism_crypt._note_caller())');
CALL regress.fails('SELECT prism_crypt._start_job(''rotation'', ''mine'', ''v'', ''{}'', 1)');
CALL regress.fails('SELECT prism_crypt._start_job(''rotation'', ''mine'', ''v'', ''{}'', NULL)');
CALL regress.fails('SELECT prism_crypt._set_job_state(1, ''paused'', 0)');
CALL regress.fails('SELECT prism_crypt._progress(0)');
CALL regress.fails('SELECT prism_crypt._last_pace(''mine'', 0)');
CALL regress.fails('SELECT prism_crypt._caller(prism_crypt._note_caller())');
CALL regress.fails('SELECT prism_crypt._queue_job(''rotation'', ''mine'', ''x'')');
CALL regress.fails('SELECT prism_crypt._start_job(''rotation'', ''mine'', ''none'', ''{}'', prism_crypt._note_caller())');
CALL regress.fails('SELECT prism_crypt._start_job(''rotation'', ''mine'', ''id'', ''{}'', prism_crypt._note_caller())');
CALL regress.fails('SELECT prism_crypt._start_job(''rotation'', ''mine'', ''v'', ''{"from_version": 77}'', prism_crypt._note_caller())');
CALL regress.fails('SELECT prism_crypt._start_job(''rotation'', ''mine'', ''v'', ''{"keyset": "none"}'', prism_crypt._note_caller())');
CALL regress.fails('SELECT prism_crypt._start_job(''rotation'', ''prism_crypt.job'', NULL, ''{}'', prism_crypt._note_caller())');
CALL regress.fails('SELECT prism_crypt._start_job(''rotation'', NULL, NULL, ''{}'', prism_crypt._note_caller())');
CALL regress.fails('SELECT prism_crypt._start_job(''another'', ''mine'', ''v'', ''{}'', prism_crypt._note_caller())');
CALL regress.fails('SELECT prism_crypt._start_job(NULL, ''mine'', ''v'', ''{}'', prism_crypt._note_caller())');
-- Scopes that are no two the same would fill the table.
CALL regress.fails('SELECT prism_crypt._start_job(''rotation'', ''mine'', ''v'', ''{"n": 1}'', prism_crypt._note_caller())');
CALL regress.fails('SELECT prism_crypt._start_job(''rotation'', ''mine'', ''v'', ''{"keyset": null}'', prism_crypt._note_caller())');
CALL regress.fails('SELECT prism_crypt._start_job(''rotation'', ''mine'', ''v'', ''{"from_version": "1 "}'', prism_crypt._note_caller())');
CALL regress.fails('SELECT prism_crypt._start_job(''rotation'', ''mine'', ''v'', ''[]'', prism_crypt._note_caller())');
CALL regress.fails('SELECT prism_crypt._start_job(''rotation'', ''mine'', ''v'', NULL, prism_crypt._note_caller())');
-- What was noted is good once, and neither in another statement nor behind a savepoint.
SELECT prism_crypt._note_caller() AS note \gset
CALL regress.fails(format('SELECT count(*) FROM prism_crypt._progress(%s)', :note));
BEGIN;
SELECT prism_crypt._note_caller() AS note \gset
SELECT count(*) FROM prism_crypt._progress(:note);
CALL regress.fails(format('SELECT count(*) FROM prism_crypt._progress(%s)', :note));
SELECT prism_crypt._note_caller() AS note \gset
SAVEPOINT s;
CALL regress.fails(format('SELECT count(*) FROM prism_crypt._progress(%s)', :note));
ROLLBACK;
RESET ROLE;
-- The DBA's note is of no use to others' code in the same transaction, which does not know its number.
CREATE FUNCTION steal() RETURNS text LANGUAGE plpgsql SECURITY DEFINER AS $$
BEGIN
  RETURN (SELECT string_agg(target, ', ') FROM prism_crypt._progress(0));
END $$;
ALTER FUNCTION steal() OWNER TO regress_prism_rotator;
BEGIN;
SELECT prism_crypt._note_caller() IS NOT NULL AS noted;
SELECT steal();
ROLLBACK;

-- Others' code in a statement of the DBA: his index function under ANALYZE, his SECURITY DEFINER function.
CREATE FUNCTION meddle() RETURNS text LANGUAGE plpgsql AS $$
DECLARE
  statement text;
  results text[] := ARRAY[current_user::text];
BEGIN
  FOREACH statement IN ARRAY ARRAY[
    'SELECT prism_crypt.cancel_job((SELECT id FROM regress.job))', 'SELECT prism_crypt.pause_job((SELECT id FROM regress.job))',
    'SELECT prism_crypt._start_job(''rotation'', ''public.dba'', ''v'', ''{}'', prism_crypt._note_caller())',
    'SELECT 1 / count(*) FROM prism_crypt.progress WHERE target LIKE ''%dba%'''] LOOP
    BEGIN
      EXECUTE statement;
      results := results || 'DONE: '::text || statement;
    EXCEPTION WHEN OTHERS THEN
      results := results || SQLERRM;
    END;
  END LOOP;
  RETURN array_to_string(results, '; ');
END $$;
CREATE FUNCTION meddle_as_owner() RETURNS text LANGUAGE sql SECURITY DEFINER AS 'SELECT public.meddle()';
ALTER FUNCTION meddle_as_owner() OWNER TO regress_prism_rotator;
SELECT regexp_replace(meddle_as_owner(), '\d+', 'N', 'g');
SET ROLE regress_prism_rotator;
CREATE TABLE trap (id int);
INSERT INTO trap VALUES (1);
CREATE TABLE told (what text);
CREATE FUNCTION spring(int) RETURNS int LANGUAGE plpgsql IMMUTABLE AS $$
BEGIN
  RAISE INFO '%', regexp_replace(public.meddle(), '\d+', 'N', 'g');
  RETURN 1;
END $$;
SET client_min_messages = error;
CREATE INDEX ON trap (spring(id));
RESET client_min_messages;
RESET ROLE;
ANALYZE trap;
REINDEX TABLE trap;
SELECT target, state FROM prism_crypt.progress WHERE id = :dba_job;

-- A worker without the token that it was given, or with one of another statement, does nothing.
CREATE FUNCTION regress.step(fields jsonb) RETURNS prism_crypt._step LANGUAGE sql AS 'SELECT jsonb_populate_record(NULL::prism_crypt._step, $1)';
CREATE FUNCTION regress.result(fields jsonb) RETURNS prism_crypt._result LANGUAGE sql AS 'SELECT jsonb_populate_record(NULL::prism_crypt._result, $1)';
SET ROLE regress_prism_rotator;
SELECT (prism_crypt._start_job('rotation', 'mine', 'v', '{}', prism_crypt._note_caller())).token AS token \gset
SELECT action FROM prism_crypt._next_step(:'token', false, NULL, false);
SELECT action FROM prism_crypt._next_step(gen_random_uuid(), false, NULL, false);
SELECT action FROM prism_crypt._next_step(NULL, NULL, NULL, NULL);
SELECT prism_crypt._record_step(:'token', regress.step(jsonb_build_object('action', what, 'range_id', range, 'relation', 'dba')),
  regress.result('{"rows": 5, "batch_size": 5, "stripes": 1, "reached": "(9,0)", "busy_seconds": 1, "left_over": 5, "left_unreadable": 5}')) IS NULL AS nothing
FROM regress.job, unnest('{batch,find,check,count}'::text[]) AS what;
SELECT prism_crypt._leave_job(:'token', 'said so', 'failed'), prism_crypt._leave_job(NULL, NULL, NULL), prism_crypt._record_step(NULL, NULL, NULL) IS NULL AS nothing;
RESET ROLE;
SELECT target, state, rows_done, error FROM prism_crypt.progress WHERE id = :dba_job;
-- With its token it only reaches its own job, its ranges, and forward; and numbers are numbers.
SET ROLE regress_prism_rotator;
DO $$
DECLARE
  token uuid := (prism_crypt._start_job('rotation', 'mine', 'v', '{}', prism_crypt._note_caller())).token;
  step prism_crypt._step;
  result prism_crypt._result;
  fields text;
BEGIN
  RAISE INFO 'without a check: %', prism_crypt._record_step(token, regress.step('{"action": "check"}'), regress.result('{"due": ["mine"]}'));
  RAISE INFO 'without a count: %', prism_crypt._record_step(token, regress.step('{"action": "count", "relation": "mine"}'), regress.result('{"left_over": 5, "left_unreadable": 5}'));
  step := prism_crypt._next_step(token, false, NULL, false);
  step := prism_crypt._next_step(token, false, NULL, false);
  RAISE INFO '%: %', step.action, step.parts;
  RAISE INFO 'a count that nobody asked for: %', prism_crypt._record_step(token, regress.step('{"action": "count", "relation": "mine"}'), regress.result('{"left_over": 5, "left_unreadable": 5}'));
  CALL regress.fails(format('SELECT prism_crypt._record_step(%L, %L, regress.result(''{"left_over": 5, "left_unreadable": 5}''))', token, regress.step('{"action": "count", "relation": "dba"}')));
  FOREACH fields IN ARRAY ARRAY['{"left_over": -1, "left_unreadable": 0}', '{"left_over": 1000000000001, "left_unreadable": 0}',
    '{"left_over": 0, "left_unreadable": 9223372036854775807}', '{"left_over": 0}'] LOOP
    CALL regress.fails(format('SELECT prism_crypt._record_step(%L, %L, regress.result(%L))', token, regress.step('{"action": "count", "relation": "mine"}'), fields));
  END LOOP;
  -- Tables that are no parts are nothing.
  step := prism_crypt._record_step(token, step, regress.result('{"due": ["mine", "dba"], "unreadable": ["dba"]}'));
  RAISE INFO '% %', step.action, step.seconds;
  step := prism_crypt._next_step(token, false, NULL, false);
  step := prism_crypt._next_step(token, false, NULL, false);
  RAISE INFO '% % %', step.action, step.place, step.to_place;
  FOREACH fields IN ARRAY ARRAY['{"places": ["(0,1)"]}', '{"places": ["(0,1)"], "batch_size": -1}', '{"places": [], "batch_size": 1000001}'] LOOP
    CALL regress.fails(format('SELECT prism_crypt._record_step(%L, %L, regress.result(%L))', token, step, fields));
  END LOOP;
  PERFORM prism_crypt._record_step(token, step, regress.result('{"batch_size": 5}'));
  step := prism_crypt._next_step(token, false, NULL, false);
  step := prism_crypt._next_step(token, false, NULL, false);
  RAISE INFO '% % %', step.action, step.place, step.to_place;
  result := regress.result('{"rows": 0, "reached": "(0,0)", "stripes": 1, "batch_size": 5, "busy_seconds": 1}');
  FOREACH fields IN ARRAY ARRAY[
    '{"rows": 9223372036854775807}', '{"rows": -1}', '{"rows": null}', '{"rows": 300}', '{"busy_seconds": "NaN"}', '{"busy_seconds": "infinity"}',
    '{"busy_seconds": -1}', '{"busy_seconds": 1e300}', '{"busy_seconds": null}', '{"stripes": 101}', '{"stripes": -1}', '{"stripes": null}',
    '{"batch_size": 1000001}', '{"batch_size": null}'] LOOP
    CALL regress.fails(format('SELECT prism_crypt._record_step(%L, %L, jsonb_populate_record(%L::prism_crypt._result, %L))', token, step, result, fields));
  END LOOP;
  -- Not by its number, if it is another's.
  step.range_id := (SELECT range FROM regress.job);
  RAISE INFO 'another''s range: %', prism_crypt._record_step(token, step, result);
  step := prism_crypt._next_step(token, false, NULL, false);
  RAISE INFO 'a place backwards or nowhere: %', (prism_crypt._record_step(token, step, result)).place;
  result.reached := NULL;
  RAISE INFO 'a place backwards or nowhere: %', (prism_crypt._record_step(token, step, result)).place;
  result.reached := '(4294967295,9)';
  result.busy_seconds := 1e9;
  RAISE INFO 'beyond its end: %', prism_crypt._record_step(token, step, result);
END $$;
RESET ROLE;
SELECT target, state, rows_done, blocks_done <= blocks_total AS blocks FROM prism_crypt.progress ORDER BY id;
SELECT * FROM prism_crypt.job_range WHERE job <> :dba_job;
-- Absurd numbers in the tables, and in the statistics of a table, are no error of the view.
UPDATE prism_crypt.job_part SET busy_seconds = 1e-320, rows_done = 1000000000000000;
SELECT count(*), bool_and(rows_per_second IS NULL) FROM prism_crypt.progress;
UPDATE prism_crypt.job_part SET busy_seconds = 1e308, next_block = 1, end_block = 9000000000;
UPDATE prism_crypt.job_range SET busy_seconds = 1e308 WHERE job = :dba_job;
UPDATE pg_class SET reltuples = 'infinity' WHERE oid = 'mine'::regclass;
SELECT count(*), max(rows_estimate) FROM prism_crypt.progress;
INSERT INTO prism_crypt.job_part (job, relation) SELECT :dba_job, c.oid FROM pg_class AS c WHERE c.relname IN ('trap', 'told');
UPDATE prism_crypt.job_part SET left_over = 9223372036854775807, left_unreadable = 9223372036854775807, rows_done = 9223372036854775807,
  next_block = 9223372036854775807, end_block = 9223372036854775807;
SELECT max(rows_left), max(values_unreadable), max(rows_done), max(blocks_total), max(blocks_done) FROM prism_crypt.progress;

-- The right is asked again at each step: here a trigger takes it away after four batches.
SET client_min_messages = warning;
DELETE FROM prism_crypt.job;
SELECT prism_crypt.rotate_key() AS active \gset
CREATE FUNCTION take_away() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS $$
BEGIN
  REVOKE UPDATE ON public.mine FROM regress_prism_rotator;
  RETURN NEW;
END $$;
CREATE TRIGGER take_away BEFORE UPDATE ON mine FOR EACH ROW WHEN (OLD.id = 7) EXECUTE FUNCTION take_away();
SET ROLE regress_prism_rotator;
CALL rotate_batch('mine', 'v', 2);
\echo :SQLSTATE
RESET ROLE;
SELECT count(*) FROM mine WHERE key_version(v) = :active;
SELECT state, rows_done, error FROM prism_crypt.progress;
SELECT count(*) FROM prism_crypt.job_worker;
DROP TRIGGER take_away ON mine;
CALL rotate_batch('mine', 'v', 2);
SELECT state, rows_done, error FROM prism_crypt.progress;
-- The job is of the table's parts, whatever a caller thinks: rights to the parent alone are not enough.
CREATE TABLE parent (id int, v encrypted_text) PARTITION BY LIST (id);
CREATE TABLE part_1 PARTITION OF parent FOR VALUES IN (1);
INSERT INTO parent VALUES (1, 'v');
GRANT SELECT, UPDATE ON parent TO regress_prism_rotator;
SET ROLE regress_prism_rotator;
CALL regress.fails('SELECT prism_crypt._start_job(''rotation'', ''parent'', NULL, ''{}'', prism_crypt._note_caller())');
RESET ROLE;
REVOKE UPDATE ON parent FROM regress_prism_rotator;
GRANT SELECT, UPDATE ON part_1 TO regress_prism_rotator;
SET ROLE regress_prism_rotator;
CALL regress.fails('SELECT prism_crypt._start_job(''rotation'', ''parent'', NULL, ''{}'', prism_crypt._note_caller())');
RESET ROLE;
DROP TABLE regress.job;
