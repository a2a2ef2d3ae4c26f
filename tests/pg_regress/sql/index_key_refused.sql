-- Replacing an index key: what is refused, and then changes nothing; rights, limits, restores; wrapping by another master key.
CALL regress.fresh();
\set SHOW_CONTEXT never
CREATE TABLE t (id int, v encrypted_text('searchable'));
CREATE UNIQUE INDEX t_v ON t (v encrypted_text_unique_ops);
INSERT INTO t SELECT n, 'v' || n FROM generate_series(1, 20) AS n;
CREATE FUNCTION state() RETURNS text LANGUAGE sql AS $$
  SELECT string_agg(concat_ws(' ', keyset, generation, state, CASE WHEN retagged_at IS NULL THEN 'not retagged' END), ', ' ORDER BY keyset, generation) || '; found: ' || (SELECT count(*) FROM generate_series(1, 20) AS n (n) JOIN t ON t.v = 'v' || n.n)
  FROM prism_crypt.index_key_status $$;
SELECT state();
-- Arguments, keysets, transactions.
CALL prism_crypt.rotate_index_key('nobody');
CALL prism_crypt.rotate_index_key(NULL);
CALL prism_crypt.rotate_index_key(batch_size => 0);
CALL prism_crypt.rotate_index_key(fire_triggers => NULL);
CALL regress.fails('CALL prism_crypt.rotate_index_key()');
BEGIN;
CALL prism_crypt.rotate_index_key();
ROLLBACK;
SELECT state();
-- Without the master key, or with another one.
SET prism_crypt.master_key_env = '';
CALL prism_crypt.rotate_index_key();
SET prism_crypt.master_key_env = 'PRISM_TEST_KEY_OTHER';
CALL prism_crypt.rotate_index_key();
RESET prism_crypt.master_key_env;
SELECT state();
-- Partitions by encrypted values, of each kind: rows would be in the wrong ones.
CREATE TABLE by_hash (v encrypted_text) PARTITION BY HASH (v);
CALL prism_crypt.rotate_index_key();
DROP TABLE by_hash;
CREATE TABLE by_list (v encrypted_text('searchable'), n int) PARTITION BY LIST (v encrypted_text_unique_ops);
CREATE TABLE by_list_a PARTITION OF by_list FOR VALUES IN ('a', NULL);
CREATE TABLE by_list_b PARTITION OF by_list DEFAULT;
INSERT INTO by_list VALUES ('a', 1), ('b', 2), (NULL, 3);
SELECT tableoid::regclass, n FROM by_list WHERE v = 'a' OR v IS NULL ORDER BY n;
CALL prism_crypt.rotate_index_key();
DROP TABLE by_list;
CREATE TABLE by_array (vs encrypted_text[]) PARTITION BY HASH (vs);
CALL prism_crypt.rotate_index_key();
DROP TABLE by_array;
CREATE DOMAIN mail AS encrypted_text;
CREATE TABLE by_domain (v mail) PARTITION BY HASH (v);
CALL prism_crypt.rotate_index_key();
DROP TABLE by_domain;
CREATE TABLE by_expression (v encrypted_text) PARTITION BY HASH ((ARRAY[v]));
CALL prism_crypt.rotate_index_key();
DROP TABLE by_expression;
-- Not by the version of its key, nor by what else is beside it.
CREATE TABLE by_version (v encrypted_text, n int) PARTITION BY LIST (key_version(v));
CREATE TABLE by_version_1 PARTITION OF by_version DEFAULT;
SELECT state();

-- Who may: administrators of keys who may also rotate. Otherwise nothing begins.
SELECT prism_crypt.grant_access('regress_prism_admin', 'key_admin'), prism_crypt.grant_access('regress_prism_rotator', 'rotate');
GRANT ALL ON t, by_version TO regress_prism_admin;
SET ROLE regress_prism_admin;
-- Nor does it lock the tables, or wait for them.
SELECT prism_crypt._try_to_lock_searched_tables('default', 600, true, false, prism_crypt._note_caller());
SELECT prism_crypt._try_to_lock_searched_tables('default', 600, true, false, 1);
CALL prism_crypt.rotate_index_key();
SET ROLE regress_prism_rotator;
CALL prism_crypt.rotate_index_key();
SET ROLE regress_prism_app;
CALL prism_crypt.rotate_index_key();
CALL regress.fails($$SELECT prism_crypt._replace_index_key('default', NULL)$$);
RESET ROLE;
SELECT state();
SELECT prism_crypt.grant_access('regress_prism_admin', 'rotate');
\set VERBOSITY terse
SET ROLE regress_prism_admin;
CALL prism_crypt.rotate_index_key();
CALL regress.fails($$SELECT id FROM t WHERE v = 'v1'$$);
RESET ROLE;
\set VERBOSITY default
SELECT state();
SELECT role = current_user AS role_of_session, event, keyset, reason, detail FROM prism_crypt.audit_log ORDER BY id DESC LIMIT 1;
-- Triggers: fired, or not.
CREATE TABLE fired (n int);
CREATE FUNCTION fires() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN INSERT INTO fired VALUES (1); RETURN NEW; END $$;
CREATE TRIGGER fires BEFORE UPDATE ON t FOR EACH ROW EXECUTE FUNCTION fires();
SET client_min_messages = error;
CALL prism_crypt.rotate_index_key(fire_triggers => false);
SELECT count(*) FROM fired;
CALL prism_crypt.rotate_index_key();
SELECT count(*) FROM fired;
DROP TRIGGER fires ON t;
-- A trigger that keeps the old row: not done, and not recorded as done.
CREATE TRIGGER keeps BEFORE UPDATE ON t FOR EACH ROW WHEN (OLD.id = 7) EXECUTE FUNCTION suppress_redundant_updates_trigger();
CREATE FUNCTION keep() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RETURN OLD; END $$;
CREATE TRIGGER keeps_too BEFORE UPDATE ON t FOR EACH ROW WHEN (OLD.id = 8) EXECUTE FUNCTION keep();
SET client_min_messages = warning;
CALL prism_crypt.rotate_index_key();
RESET client_min_messages;
SELECT state();
SELECT id FROM t, envelope_info(v) WHERE search_generation < (SELECT max(generation) FROM prism_crypt.index_key_status) ORDER BY id;
DROP TRIGGER keeps_too ON t;
CALL prism_crypt.rotate_index_key();
SELECT state();

-- Indexes of temporary tables of this session are built anew like others.
CREATE TEMP TABLE temporary (id int, v encrypted_text('searchable'));
INSERT INTO temporary SELECT * FROM t;
CREATE INDEX temporary_v ON temporary USING hash (v);
SELECT prism_crypt._replace_index_key('default', NULL) > 1 AS replaced;
SET enable_seqscan = off;
SELECT id FROM temporary WHERE v = 'v7';
RESET enable_seqscan;
DROP TABLE temporary;
SET client_min_messages = error;
CALL prism_crypt.rotate_index_key();
RESET client_min_messages;
-- Values of a keyset that was destroyed keep their tags, and hold nothing up.
SELECT prism_crypt.create_keyset('gone');
INSERT INTO t VALUES (99, encrypt_field('x', keyset => 'gone'));
SET client_min_messages = error;
SELECT prism_crypt.destroy_keyset('gone', 'test', true);
RESET client_min_messages;
SELECT prism_crypt._replace_index_key('default', NULL) > 1 AS replaced;
\set VERBOSITY terse
CALL prism_crypt.rotate_index_key();
\set VERBOSITY default
SELECT state();
CALL prism_crypt.rotate_index_key('gone');
DELETE FROM t WHERE id = 99;

-- Generations end at 255.
BEGIN;
UPDATE prism_crypt.index_key SET generation = 255 WHERE keyset = 'default' AND state = 'active';
CALL regress.fails($$SELECT prism_crypt._replace_index_key('default', NULL)$$);
ROLLBACK;
-- A dump that was made in the middle of a replacement comes back: indexes that are there already are not trusted any more.
BEGIN;
CREATE TEMP TABLE dumped ON COMMIT DROP AS TABLE prism_crypt.index_key;
DELETE FROM prism_crypt.index_key;
INSERT INTO prism_crypt.index_key SELECT * FROM dumped;
SELECT indisvalid FROM pg_index WHERE indexrelid = 't_v'::regclass;
DELETE FROM prism_crypt.index_key;
INSERT INTO prism_crypt.index_key SELECT keyset, generation, state, wrapped, master_fingerprint, created_at, created_by, NULL, destroyed_at, reason FROM dumped WHERE state = 'active';
SELECT indisvalid FROM pg_index WHERE indexrelid = 't_v'::regclass;
SELECT * FROM prism_crypt.status() WHERE name ~ 'index';
REINDEX INDEX t_v;
SELECT * FROM prism_crypt.status() WHERE name ~ 'index';
SELECT indisvalid FROM pg_index WHERE indexrelid = 't_v'::regclass;
ROLLBACK;

-- Another master key wraps index keys too, those of one keyset or of all.
SELECT prism_crypt.create_keyset('second');
SELECT count(DISTINCT master_fingerprint) FROM prism_crypt.index_key WHERE state = 'active';
SET prism_crypt.master_key_command = 'echo $PRISM_TEST_KEY_NEXT; echo $PRISM_TEST_KEY_MAIN';
SELECT prism_crypt.rotate_master_key('second');
SELECT keyset, master_fingerprint = (SELECT master_fingerprint FROM prism_crypt.data_key WHERE keyset = i.keyset AND state = 'active') AS as_data_key, count(*) OVER (PARTITION BY master_fingerprint) AS alike FROM prism_crypt.index_key AS i WHERE state = 'active' ORDER BY 1;
SELECT prism_crypt.rotate_master_key();
SELECT count(DISTINCT master_fingerprint) FROM prism_crypt.index_key WHERE state = 'active';
SET prism_crypt.master_key_env = 'PRISM_TEST_KEY_NEXT';
RESET prism_crypt.master_key_command;
SELECT state();
SET client_min_messages = error;
CALL prism_crypt.rotate_index_key('second');
RESET client_min_messages;
-- If one of them can't be unlocked, none is wrapped anew.
SET prism_crypt.master_key_command = 'echo $PRISM_TEST_KEY_MAIN; echo $PRISM_TEST_KEY_NEXT';
BEGIN;
UPDATE prism_crypt.index_key SET wrapped = '\x00' WHERE keyset = 'second' AND state = 'active';
CALL regress.fails('SELECT prism_crypt.rotate_master_key()');
ROLLBACK;
RESET prism_crypt.master_key_command;
SELECT state();
RESET prism_crypt.master_key_env;
