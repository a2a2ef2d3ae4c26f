-- rotate_batch(): what it moves, what it keeps, what it refuses.
CALL regress.fresh();
\set SHOW_CONTEXT never
SELECT prism_crypt.create_keyset('tenant'), prism_crypt.create_keyset('other');
CREATE TABLE t (id int PRIMARY KEY, v encrypted_text, e encrypted_text('email'), version int GENERATED ALWAYS AS (key_version(v)) STORED);
INSERT INTO t SELECT n, encrypt_field('default ' || n), encrypt_field('mail' || n || '@example.org', class => 'email') FROM generate_series(1, 250) AS n;
INSERT INTO t SELECT n, encrypt_field('tenant ' || n, keyset => 'tenant') FROM generate_series(301, 350) AS n;
INSERT INTO t SELECT n, encrypt_field('bound ' || n, 'row ' || n, class => 'health') FROM generate_series(401, 450) AS n;
INSERT INTO t VALUES (501, NULL, NULL), (502, '', NULL);
CREATE TABLE before AS SELECT id, coalesce(try_decrypt_field(v), try_decrypt_field(v, 'row ' || id)) AS v, decrypt_field(e) AS e, encrypted_text_out(v)::text AS c,
  class, has_context FROM t, envelope_info(v);
CREATE VIEW versions AS SELECT key_version(v) AS v, key_version(e) AS e, version, count(*) FROM t GROUP BY 1, 2, 3;
SELECT * FROM versions ORDER BY 1, 2;

-- Nothing to do.
CALL rotate_batch('t', 'v');
SELECT prism_crypt.rotate_key(), prism_crypt.rotate_key('tenant');
CALL rotate_batch('t', 'v', 100);
SELECT * FROM versions ORDER BY 1, 2;
CALL rotate_batch('t', 'v');
CALL rotate_batch(relation => 'public.t', column_name => 'e', batch_size => 1);
SELECT * FROM versions ORDER BY 1, 2;
-- Texts, classes and contexts are what they were; every ciphertext is new.
SELECT count(*), count(*) FILTER (WHERE decrypt_field(t.v, CASE WHEN i.has_context THEN 'row ' || id END) = before.v) AS texts,
       count(*) FILTER (WHERE i.class IS NOT DISTINCT FROM before.class) AS classes, count(*) FILTER (WHERE i.has_context = before.has_context) AS contexts,
       count(*) FILTER (WHERE encrypted_text_out(t.v)::text <> c) AS new, count(*) FILTER (WHERE decrypt_field(t.e) IS NOT DISTINCT FROM before.e) AS mails
FROM t JOIN before USING (id), envelope_info(t.v) AS i;

-- Values that can't be read are left, and said.
UPDATE t SET v = prism_crypt.load_envelope(regress.tampered(encrypted_text_out(v)::text, -1, 1)) WHERE id IN (1, 2);
UPDATE t SET v = prism_crypt.load_envelope('prism:v77:' || encode('\x01 00 00 0000004d 000000000000000000000000 00000000000000000000000000000000', 'base64')) WHERE id = 3;
UPDATE t SET v = prism_crypt.load_envelope((SELECT c FROM before WHERE id = 4)) WHERE id = 4;
SELECT prism_crypt.disable_key(1, 'test');
SELECT prism_crypt.rotate_key();
CALL rotate_batch('t', 'v');
SELECT id, version FROM t WHERE id < 6 ORDER BY id;
SELECT encrypted_text_out(t.v)::text = c AS untouched FROM t JOIN before USING (id) WHERE id = 4;
SELECT prism_crypt.enable_key(1);
CALL rotate_batch('t', 'v');
SELECT decrypt_field(v) FROM t WHERE id = 4;
DELETE FROM t WHERE id < 4;
CALL rotate_batch('t', 'v');
-- No master key is an error; a wrong one leaves the keys of another one alone. Nothing is changed.
SELECT prism_crypt.rotate_key() > 0 AS rotated;
SET prism_crypt.master_key_env = '';
CALL rotate_batch('t', 'v');
\echo :SQLSTATE
SET prism_crypt.master_key_env = 'PRISM_TEST_KEY_OTHER';
CALL rotate_batch('t', 'v');
RESET prism_crypt.master_key_env;
CALL rotate_batch('t', 'v');
SELECT keyset, count(*), count(DISTINCT k.version) FROM t JOIN prism_crypt.key_status AS k USING (version) GROUP BY 1 ORDER BY 1;

-- Arguments.
SELECT prism_crypt.rotate_key() > 0 AS rotated;
CALL rotate_batch('t', 'v', 0);
\echo :SQLSTATE
CALL rotate_batch('t', 'v', -1);
CALL rotate_batch('t', 'v', NULL);
CALL rotate_batch('t', NULL);
\echo :SQLSTATE
CALL rotate_batch(NULL, 'v');
\echo :SQLSTATE
CALL rotate_batch('nobody', 'v');
\echo :SQLSTATE
CALL rotate_batch(1, 'v');
\echo :SQLSTATE
CALL rotate_batch('t', 'nobody');
\echo :SQLSTATE
CALL rotate_batch('t', 'id');
\echo :SQLSTATE
CALL rotate_batch('t', 'ctid');
\echo :SQLSTATE
CALL rotate_batch('versions', 'v');
\echo :SQLSTATE
CALL rotate_batch('t_pkey', 'id');
\echo :SQLSTATE
CALL rotate_batch('pg_class', 'relname');
\echo :SQLSTATE
CALL rotate_batch('prism_crypt.data_key', 'wrapped');
ALTER TABLE t ADD gone encrypted_text;
ALTER TABLE t DROP gone;
CALL rotate_batch('t', 'gone');
CALL rotate_batch('t', '........pg.dropped.5........');
CREATE MATERIALIZED VIEW mv AS SELECT v FROM t;
CALL rotate_batch('mv', 'v');
CREATE DOMAIN secret AS encrypted_text;
CREATE TABLE odd_types (a encrypted_text[], d secret, j jsonb);
CALL rotate_batch('odd_types', 'a');
\echo :SQLSTATE
CALL rotate_batch('odd_types', 'd');
\echo :SQLSTATE

-- Where it can't commit.
BEGIN;
CALL rotate_batch('t', 'v');
\echo :SQLSTATE
ROLLBACK;
CREATE FUNCTION in_function() RETURNS void LANGUAGE plpgsql AS $$ BEGIN CALL rotate_batch('t', 'v'); END $$;
SELECT in_function();
CREATE PROCEDURE as_definer() LANGUAGE plpgsql SECURITY DEFINER AS $$ BEGIN CALL rotate_batch('t', 'v'); END $$;
CALL as_definer();
DO $$ BEGIN CALL rotate_batch('t', 'v'); EXCEPTION WHEN active_sql_transaction THEN RAISE INFO 'refused'; END $$;
CALL rotate_batch('t', 'v') \; SELECT 1 AS other_statement;
-- None of them changed anything. Where it can, it may be nested.
SELECT count(DISTINCT version) FROM t WHERE version = (SELECT max(version) FROM prism_crypt.key_status);
DO $$ BEGIN CALL rotate_batch('t', 'v', 10); END $$;
SELECT count(*) FROM t WHERE version = (SELECT max(version) FROM prism_crypt.key_status);
-- Any default of the session's transactions will do but read only.
SELECT prism_crypt.rotate_key() > 0 AS rotated;
SET default_transaction_isolation = 'serializable';
CALL rotate_batch('t', 'v');
RESET default_transaction_isolation;
SELECT prism_crypt.rotate_key() > 0 AS rotated;
SET default_transaction_read_only = on;
CALL rotate_batch('t', 'v');
\echo :SQLSTATE
RESET default_transaction_read_only;
SET search_path = pg_catalog;
CALL public.rotate_batch('public.t', 'v');
RESET search_path;

-- Partitions, children, wide values, odd names, temporary tables.
CREATE TABLE parted (id int, v encrypted_text) PARTITION BY RANGE (id);
CREATE TABLE parted_1 PARTITION OF parted FOR VALUES FROM (1) TO (10);
CREATE TABLE parted_2 PARTITION OF parted FOR VALUES FROM (10) TO (20) PARTITION BY LIST (id);
CREATE TABLE parted_2a PARTITION OF parted_2 DEFAULT;
INSERT INTO parted SELECT n, encrypt_field('row ' || n) FROM generate_series(1, 15) AS n;
CREATE TABLE parent (id int, v encrypted_text);
CREATE TABLE child (extra text) INHERITS (parent);
INSERT INTO parent SELECT n, encrypt_field('parent ' || n) FROM generate_series(1, 3) AS n;
INSERT INTO child SELECT n, encrypt_field('child ' || n) FROM generate_series(1, 4) AS n;
CREATE TABLE wide (id int, v encrypted_text);
INSERT INTO wide SELECT n, encrypt_field(repeat('wide ' || n, 20000)) FROM generate_series(1, 12) AS n;
CREATE TABLE "Odd ""table"" %I" ("Odd ""column"" %s" encrypted_text, "SELECT" int);
INSERT INTO "Odd ""table"" %I" VALUES ('odd', 1);
CREATE TEMP TABLE temporary (v encrypted_text);
INSERT INTO temporary VALUES ('temporary');
CREATE UNLOGGED TABLE unlogged (v encrypted_text);
INSERT INTO unlogged VALUES ('unlogged');
CREATE TABLE nothing (v encrypted_text);
SELECT prism_crypt.rotate_key() AS active \gset
CALL rotate_batch('parted_2', 'v');
CALL rotate_batch('parted', 'v', 4);
SELECT tableoid::regclass, count(*), count(*) FILTER (WHERE key_version(v) = :active) AS moved, bool_and(decrypt_field(v) = 'row ' || id) AS same FROM parted GROUP BY 1 ORDER BY 1;
CALL rotate_batch('parent', 'v');
SELECT tableoid::regclass, count(*), count(*) FILTER (WHERE key_version(v) = :active) AS moved, min(decrypt_field(v)) FROM parent GROUP BY 1 ORDER BY 1;
CALL rotate_batch('wide', 'v', 5);
SELECT count(*), count(*) FILTER (WHERE key_version(v) = :active) AS moved, bool_and(decrypt_field(v) = repeat('wide ' || id, 20000)) AS same FROM wide;
CALL rotate_batch('"Odd ""table"" %I"', 'Odd "column" %s');
SELECT key_version("Odd ""column"" %s") = :active AS moved FROM "Odd ""table"" %I";
SET client_min_messages = warning;
CALL rotate_batch('temporary', 'v');
RESET client_min_messages;
SELECT key_version(v) = :active AS moved FROM temporary;
CALL rotate_batch('unlogged', 'v');
CALL rotate_batch('nothing', 'v');
-- Many rows, more than a window of blocks has, with and without statistics of the planner.
CREATE TABLE big (id int, v encrypted_text, filler text);
INSERT INTO big SELECT n, encrypt_field('big ' || n), repeat('x', 300) FROM generate_series(1, 3000) AS n;
DELETE FROM big WHERE id % 3 = 0;
SELECT prism_crypt.rotate_key() AS active \gset
CALL rotate_batch('big', 'v', 7);
ANALYZE big;
SELECT prism_crypt.rotate_key() AS active \gset
CALL rotate_batch('big', 'v', 1500);
SELECT count(*), count(*) FILTER (WHERE key_version(v) = :active) AS moved, bool_and(decrypt_field(v) = 'big ' || id) AS same FROM big;

-- Triggers fire as at any other UPDATE; one that refuses ends it, and what was committed stays.
CREATE TABLE triggered (id int, v encrypted_text);
INSERT INTO triggered SELECT n, encrypt_field('row ' || n) FROM generate_series(1, 10) AS n;
CREATE TABLE audit (who text, id int);
CREATE FUNCTION audit() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
  IF NEW.id = 6 THEN RAISE EXCEPTION 'not this one'; END IF;
  INSERT INTO audit VALUES (current_user, NEW.id);
  RETURN NEW;
END $$;
CREATE TRIGGER audit BEFORE UPDATE ON triggered FOR EACH ROW EXECUTE FUNCTION audit();
SELECT prism_crypt.rotate_key() AS active \gset
\set VERBOSITY terse
CALL rotate_batch('triggered', 'v', 2);
\set VERBOSITY default
SELECT id FROM triggered WHERE key_version(v) = :active ORDER BY id;
SELECT count(*) FROM audit;
ALTER TABLE triggered DISABLE TRIGGER audit;
CALL rotate_batch('triggered', 'v', 2);
-- A trigger that skips a row: that one is left, all others are moved, and it ends.
CREATE TABLE stubborn (id int, v encrypted_text);
INSERT INTO stubborn VALUES (1, 'one'), (2, 'two'), (3, 'three');
CREATE FUNCTION skip() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RETURN CASE WHEN NEW.id = 1 THEN NULL ELSE NEW END; END $$;
CREATE TRIGGER skip BEFORE UPDATE ON stubborn FOR EACH ROW EXECUTE FUNCTION skip();
SELECT prism_crypt.rotate_key() AS active \gset
SET statement_timeout = '30s';
SET client_min_messages = warning;
CALL rotate_batch('stubborn', 'v', 1);
RESET client_min_messages;
RESET statement_timeout;
SELECT id, key_version(v) = :active AS moved FROM stubborn ORDER BY id;

-- A role that can't decrypt.
SELECT prism_crypt.grant_access('regress_prism_rotator', 'rotate');
SELECT prism_crypt.rotate_key() AS active \gset
SET ROLE regress_prism_rotator;
CALL rotate_batch('t', 'v');
\echo :SQLSTATE
RESET ROLE;
GRANT SELECT, UPDATE ON t TO regress_prism_rotator;
SET ROLE regress_prism_rotator;
CALL rotate_batch('t', 'v');
CALL rotate_batch('t', 'e', 3);
CALL regress.fails('SELECT decrypt_field(v) FROM t');
CALL regress.fails('SELECT v::text FROM t');
RESET ROLE;
SELECT keyset, count(*) FROM t JOIN prism_crypt.key_status AS k USING (version) WHERE state = 'active' GROUP BY 1 ORDER BY 1;
-- Rights on the columns alone are not enough: it looks at where rows are.
REVOKE SELECT, UPDATE ON t FROM regress_prism_rotator;
GRANT SELECT (v), UPDATE (v) ON t TO regress_prism_rotator;
SET ROLE regress_prism_rotator;
CALL rotate_batch('t', 'v');
RESET ROLE;
GRANT SELECT ON t TO regress_prism_rotator;
SELECT prism_crypt.rotate_key() AS active \gset
SET ROLE regress_prism_rotator;
CALL rotate_batch('t', 'v');
RESET ROLE;
-- Another one has no right to it, whatever it may on the table.
GRANT SELECT, UPDATE ON t TO regress_prism_reader;
SELECT prism_crypt.grant_access('regress_prism_reader', 'decrypt');
SET ROLE regress_prism_reader;
CALL rotate_batch('t', 'v');
\echo :SQLSTATE
RESET ROLE;
-- Nothing of a caller's own stands in its way: operators and functions in front of the search path.
CREATE SCHEMA evil AUTHORIZATION regress_prism_rotator;
SET ROLE regress_prism_rotator;
CREATE FUNCTION evil.reencrypt_field(encrypted_text) RETURNS encrypted_text LANGUAGE sql AS $$ SELECT NULL::encrypted_text $$;
CREATE FUNCTION evil.less(tid, tid) RETURNS bool LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'evil'; END $$;
CREATE FUNCTION evil.less(int, int) RETURNS bool LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'evil'; END $$;
CREATE FUNCTION evil.less(bigint, bigint) RETURNS bool LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'evil'; END $$;
CREATE OPERATOR evil.< (LEFTARG = tid, RIGHTARG = tid, FUNCTION = evil.less);
CREATE OPERATOR evil.= (LEFTARG = tid, RIGHTARG = tid, FUNCTION = evil.less);
CREATE OPERATOR evil.< (LEFTARG = int, RIGHTARG = int, FUNCTION = evil.less);
CREATE OPERATOR evil.= (LEFTARG = int, RIGHTARG = int, FUNCTION = evil.less);
CREATE OPERATOR evil.= (LEFTARG = bigint, RIGHTARG = bigint, FUNCTION = evil.less);
CREATE FUNCTION evil.format(text, VARIADIC text[]) RETURNS text LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'evil'; END $$;
CREATE FUNCTION evil.count(bigint) RETURNS bigint LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'evil'; END $$;
CREATE TABLE evil.t (v int);
RESET ROLE;
SELECT prism_crypt.rotate_key() AS active \gset
SET search_path = evil, pg_catalog, public;
SET ROLE regress_prism_rotator;
CALL rotate_batch('public.t', 'v');
RESET ROLE;
RESET search_path;
SELECT count(*) FROM t WHERE version = :active;

-- Row-level security: a role that may not see all rows can't say that all were moved.
ALTER TABLE t OWNER TO regress_prism_owner;
ALTER TABLE t ENABLE ROW LEVEL SECURITY;
CREATE POLICY visible ON t USING (id < 200);
SELECT prism_crypt.rotate_key() AS active \gset
SET ROLE regress_prism_rotator;
CALL rotate_batch('t', 'v');
\echo :SQLSTATE
RESET ROLE;
SELECT prism_crypt.grant_access('regress_prism_owner', 'rotate');
SET ROLE regress_prism_owner;
CALL rotate_batch('t', 'v');
RESET ROLE;
ALTER TABLE t FORCE ROW LEVEL SECURITY;
SET ROLE regress_prism_owner;
CALL rotate_batch('t', 'v');
RESET ROLE;
CALL rotate_batch('t', 'v');

-- Bytes have no column type to rotate by: an UPDATE does it.
CREATE TABLE blobs (id int, b bytea);
INSERT INTO blobs VALUES (1, encrypt_bytes('\x01', 'row 1', 'tenant', 'financial')), (2, encrypt_bytes('\x02')), (3, NULL);
SELECT prism_crypt.rotate_key() IS NOT NULL, prism_crypt.rotate_key('tenant') IS NOT NULL;
UPDATE blobs SET b = reencrypt_bytes(b);
SELECT id, keyset, state, class, has_context, coalesce(decrypt_bytes(b, CASE WHEN has_context THEN 'row 1' END)) FROM blobs, envelope_info(b), prism_crypt.key_status WHERE version = key_version ORDER BY id;
