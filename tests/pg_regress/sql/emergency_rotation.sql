-- The emergency: a new key for every keyset, and a job for every table.
CALL regress.fresh();
\set SHOW_CONTEXT never
CALL regress.fails('SELECT prism_crypt.emergency_rotation(NULL)');
CALL regress.fails('SELECT prism_crypt.emergency_rotation('' '')');
SELECT prism_crypt.create_keyset('tenant');
CREATE TABLE a (v encrypted_text);
CREATE TABLE b (v encrypted_text, w encrypted_text[]) PARTITION BY LIST (key_version(v));
CREATE TABLE b1 PARTITION OF b DEFAULT;
CREATE TABLE bytes (b bytea);
INSERT INTO a VALUES ('a'), (encrypt_field('t', keyset => 'tenant'));
ALTER TABLE b1 ADD CHECK (true);
INSERT INTO b VALUES ('b', ARRAY[encrypt_field('c')]);
SELECT * FROM prism_crypt.emergency_rotation('key on a lost laptop');
SELECT version, keyset, state, reason FROM prism_crypt.key_status ORDER BY version;
SELECT target, state, reason, rows_done, percent FROM prism_crypt.progress ORDER BY id;
SELECT event, keyset, key_version, reason FROM prism_crypt.audit_log ORDER BY id;
-- Old values are still read; the jobs are done by rotate_all(), or table by table.
SELECT v::text FROM a ORDER BY 1;
CALL rotate_batch('a');
CALL prism_crypt.rotate_all();
SELECT target, state, reason, rows_done, percent FROM prism_crypt.progress ORDER BY id;
SELECT k.state, count(*) FROM a JOIN prism_crypt.key_status AS k ON k.version = key_version(v) GROUP BY 1;
-- Twice: open jobs are not doubled, and their reason stays.
SELECT count(*) FROM prism_crypt.emergency_rotation('again');
SELECT count(*) FROM prism_crypt.emergency_rotation('and again');
SELECT target, state, reason FROM prism_crypt.progress WHERE state = 'pending' ORDER BY id;
SET client_min_messages = warning;
CALL prism_crypt.rotate_all();
RESET client_min_messages;
SELECT state, count(*) FROM prism_crypt.progress GROUP BY 1;
-- Of jobs that were cancelled before they changed anything, the last one of each target stays.
SELECT count(*) FROM prism_crypt.emergency_rotation('a mistake');
SELECT prism_crypt.cancel_job(id) FROM prism_crypt.progress WHERE state = 'pending';
SELECT count(*) FROM prism_crypt.emergency_rotation('another mistake');
SELECT prism_crypt.cancel_job(id) FROM prism_crypt.progress WHERE state = 'pending';
SELECT target, reason FROM prism_crypt.progress WHERE state = 'cancelled' ORDER BY 1;
CALL prism_crypt.rotate_all();

-- A keyset under a master key that is not at hand does not hold up the others.
SELECT set_config('prism_crypt.master_key', regress.master_key('tenant'), false) IS NOT NULL AS other_master_key;
SELECT prism_crypt.create_keyset('own_key');
INSERT INTO a VALUES (encrypt_field('under its own key', keyset => 'own_key'));
RESET prism_crypt.master_key;
\set VERBOSITY terse
SELECT keyset, new_version IS NULL AS not_rotated FROM prism_crypt.emergency_rotation('with a stranger');
\set VERBOSITY default
SELECT keyset, state, count(*) FROM prism_crypt.key_status WHERE state = 'active' GROUP BY 1, 2 ORDER BY 1;
-- Rolled back, it never was.
BEGIN;
SELECT count(*) > 0 AS some FROM prism_crypt.emergency_rotation('rolled back');
ROLLBACK;
SELECT count(*) FROM prism_crypt.audit_log WHERE reason = 'rolled back';
-- Without any master key none is rotated.
SET prism_crypt.master_key_env = '';
\set VERBOSITY terse
SELECT keyset, new_version FROM prism_crypt.emergency_rotation('without a key');
\set VERBOSITY default
RESET prism_crypt.master_key_env;
-- For key_admin only.
SET ROLE regress_prism_app;
CALL regress.fails('SELECT prism_crypt.emergency_rotation(''x'')');
RESET ROLE;
SELECT prism_crypt.grant_access('regress_prism_admin', 'key_admin');
SET ROLE regress_prism_admin;
SET client_min_messages = error;
SELECT count(*) FROM prism_crypt.emergency_rotation('by the admin');
RESET client_min_messages;
SELECT count(*) > 0 AS due FROM prism_crypt.rotation_due();
CALL regress.fails('CALL prism_crypt.rotate_all()');
RESET ROLE;
SELECT role, event, reason FROM prism_crypt.audit_log WHERE reason = 'by the admin' AND event = 'emergency_rotation';
