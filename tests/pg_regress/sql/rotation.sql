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

-- Where it can commit, it may be nested; and any default of the session's transactions will do.
SELECT prism_crypt.rotate_key() AS active \gset
DO $$ BEGIN CALL rotate_batch('t', 'v', 10); END $$;
SELECT count(*) FROM t WHERE version = :active;
SELECT prism_crypt.rotate_key() AS active \gset
SET default_transaction_isolation = 'serializable';
CALL rotate_batch('t', 'v');
SHOW default_transaction_isolation;
RESET default_transaction_isolation;
SELECT count(*) FROM t WHERE version = :active;
SELECT prism_crypt.rotate_key() AS active \gset
SET search_path = pg_catalog;
CALL public.rotate_batch('public.t', 'v');
RESET search_path;
SELECT count(*) FROM t WHERE version = :active;
-- It leaves the session's settings as they were.
SELECT prism_crypt.rotate_key() AS active \gset
SET synchronous_commit = local;
SET lock_timeout = '7s';
SET statement_timeout = '2min';
CALL rotate_batch('t', 'v', fire_triggers => false);
SHOW synchronous_commit;
SHOW lock_timeout;
SHOW session_replication_role;
RESET synchronous_commit;
RESET lock_timeout;
RESET statement_timeout;
-- The jobs that all this was.
SELECT count(*) > 5 AS some, bool_and(target IN ('public.t.v', 'public.t.e')), bool_and(state IN ('finished', 'incomplete')) FROM prism_crypt.progress;
