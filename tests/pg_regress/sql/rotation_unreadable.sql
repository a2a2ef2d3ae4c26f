-- Values that a rotation can't read: damaged ones, and such under keys that are disabled, unknown or of another master key.
CALL regress.fresh();
\set SHOW_CONTEXT never
SELECT prism_crypt.create_keyset('tenant');
CREATE TABLE t (id int PRIMARY KEY, v encrypted_text, a encrypted_text[], n int DEFAULT 0);
INSERT INTO t SELECT n, 'v' || n, ARRAY[encrypt_field('a' || n), encrypt_field('b' || n, keyset => 'tenant')] FROM generate_series(1, 30) AS n;
CREATE FUNCTION spoiled(encrypted_text) RETURNS encrypted_text LANGUAGE sql AS $$ SELECT prism_crypt.load_envelope(regress.tampered(encrypted_text_out($1)::text, -1, 1)) $$;
CREATE FUNCTION last_job() RETURNS TABLE (target text, state text, rows_done bigint, rows_left bigint, values_unreadable bigint) LANGUAGE sql AS $$
  SELECT target, state, rows_done, rows_left, values_unreadable FROM prism_crypt.progress ORDER BY id DESC LIMIT 1
$$;
UPDATE t SET v = spoiled(v) WHERE id IN (5, 6, 30);
UPDATE t SET a[1] = spoiled(a[1]) WHERE id IN (7, 8);
CREATE TABLE forms AS SELECT id, encrypted_text_out(v)::text AS v, encrypted_text_out(a[1])::text AS a FROM t;
SELECT prism_crypt.rotate_key() AS active \gset

-- Told by number and reason; all others are rotated, in any size of batch.
CALL rotate_batch('t', 'v', 4);
SELECT * FROM last_job();
SELECT count(*) FILTER (WHERE key_version(v) = :active) AS moved, array_agg(id ORDER BY id) FILTER (WHERE key_version(v) <> :active) AS left FROM t;
SELECT count(*) FROM t JOIN forms USING (id) WHERE encrypted_text_out(t.v)::text = forms.v;
-- An array with one such element is left as a whole, or without it: never half lost.
CALL rotate_batch('t', 'a');
SELECT * FROM last_job();
SELECT count(*) FILTER (WHERE key_version(a[1]) = :active) AS moved, array_agg(id ORDER BY id) FILTER (WHERE key_version(a[1]) <> :active) AS left, bool_and(decrypt_field(a[2]) = 'b' || id) AS same FROM t;
SELECT count(*) FROM t JOIN forms USING (id) WHERE encrypted_text_out(t.a[1])::text = forms.a AND id IN (7, 8);
-- Again: the same, and no row is touched.
CREATE TEMP TABLE places AS SELECT id, ctid AS place FROM t;
CALL rotate_batch('t');
SELECT * FROM last_job();
SELECT count(*) FROM t JOIN places USING (id) WHERE t.ctid <> place;
-- Rows around such a value, in both columns of one row.
SELECT prism_crypt.rotate_key() AS active, prism_crypt.rotate_key('tenant') AS tenant \gset
CALL rotate_batch('t', batch_size => 5);
SELECT * FROM last_job();
SELECT count(*) FILTER (WHERE key_version(v) = :active) AS v, count(*) FILTER (WHERE key_version(a[1]) = :active) AS a1, count(*) FILTER (WHERE key_version(a[2]) = :tenant) AS a2 FROM t;
-- Gone, the job is complete.
UPDATE t SET v = 'new' WHERE id IN (5, 6, 30);
UPDATE t SET a = NULL WHERE id IN (7, 8);
CALL rotate_batch('t');
SELECT * FROM last_job();

-- A disabled key: nothing is lost, and after enable_key() the rest is done.
SELECT prism_crypt.rotate_key() AS active, prism_crypt.rotate_key('tenant') AS tenant \gset
SELECT DISTINCT key_version(v) AS old FROM t \gset
SELECT prism_crypt.disable_key(:old, 'too early');
CALL rotate_batch('t');
SELECT * FROM last_job();
CALL rotate_batch('t', from_version => :old);
SELECT * FROM last_job();
CALL rotate_batch('t', keyset => 'tenant');
SELECT * FROM last_job();
SELECT prism_crypt.enable_key(:old);
CALL rotate_batch('t');
SELECT * FROM last_job();
SELECT count(*) FILTER (WHERE key_version(v) = :active) AS v, count(*) FILTER (WHERE decrypt_field(v) IN ('v' || id, 'new')) AS same FROM t;

-- A version that this database does not know.
INSERT INTO t (id, v) VALUES (77, prism_crypt.load_envelope('prism:v7777:' || encode('\x01 00 00 00001e61 000000000000000000000000 00000000000000000000000000000000', 'base64')));
CALL rotate_batch('t', 'v');
SELECT * FROM last_job();
DELETE FROM t WHERE id = 77;

-- The keys of another master key. Without any, it is an error of the set-up: nothing is left open or lost.
SELECT set_config('prism_crypt.master_key', regress.master_key('tenant'), false) IS NOT NULL AS other_master_key;
SELECT prism_crypt.create_keyset('own') > 0 AS made;
UPDATE t SET v = encrypt_field('own ' || id, keyset => 'own') WHERE id > 20;
SELECT prism_crypt.rotate_key('own') > 0 AS rotated;
RESET prism_crypt.master_key;
SELECT prism_crypt.rotate_key() AS active \gset
CALL rotate_batch('t', 'v');
SELECT * FROM last_job();
SELECT count(*) FILTER (WHERE key_version(v) = :active) AS moved FROM t;
SET prism_crypt.master_key_env = '';
CALL rotate_batch('t', 'v');
\echo :SQLSTATE
SELECT * FROM last_job();
RESET prism_crypt.master_key_env;
SELECT set_config('prism_crypt.master_key', regress.master_key('tenant'), false) IS NOT NULL AS other_master_key;
CALL rotate_batch('t', 'v', keyset => 'own');
SELECT * FROM last_job();
SELECT count(*) FILTER (WHERE decrypt_field(v) = 'own ' || id) FROM t WHERE id > 20;
RESET prism_crypt.master_key;
-- A keyset whose active key can't be had: old values open, and have nowhere to go.
SELECT prism_crypt.rotate_key() AS active \gset
DO $$ BEGIN PERFORM prism_crypt.rotate_key('tenant'); END $$;
UPDATE prism_crypt.data_key SET state = 'decrypt_only' WHERE keyset = 'default' AND state = 'active';
CALL rotate_batch('t', 'v', keyset => 'default');
\echo :SQLSTATE
SELECT * FROM last_job();
SELECT count(try_decrypt_field(v)) FROM t;
