-- The end of a key's life: disabled, enabled, destroyed, and what is refused.
CALL regress.fresh();
\set SHOW_CONTEXT never
SELECT prism_crypt.create_keyset('tenant');
CREATE TABLE t (id int PRIMARY KEY, v encrypted_text);
INSERT INTO t SELECT n, 'v' || n FROM generate_series(1, 10) AS n;
INSERT INTO t SELECT n, encrypt_field('v' || n, keyset => 'tenant') FROM generate_series(11, 15) AS n;
SELECT prism_crypt.rotate_key(reason => 'first of many');
CREATE VIEW keys AS SELECT version, keyset, state, retired_at IS NOT NULL AS retired, disabled_at IS NOT NULL AS disabled, destroyed_at IS NOT NULL AS destroyed, reason FROM prism_crypt.key_status ORDER BY version;

-- Disabled, and back.
CALL regress.fails('SELECT prism_crypt.disable_key(3)');
CALL regress.fails('SELECT prism_crypt.disable_key(99)');
CALL regress.fails('SELECT prism_crypt.disable_key(NULL)');
SELECT prism_crypt.disable_key(1, 'not now');
SELECT * FROM keys;
CALL regress.fails('SELECT decrypt_field(v) FROM t WHERE id = 1');
SELECT count(try_decrypt_field(v)) FROM t;
SELECT prism_crypt.enable_key(1);
SELECT decrypt_field(v) FROM t WHERE id = 1;
CALL regress.fails('SELECT prism_crypt.enable_key(3)');
CALL regress.fails('SELECT prism_crypt.enable_key(99)');
CALL regress.fails('SELECT prism_crypt.enable_key(NULL)');
SELECT prism_crypt.enable_key(1, 'twice');
-- Sealing goes on with the active key only.
SELECT key_version(encrypt_field('x')), key_version(encrypt_field('x', keyset => 'tenant'));

-- What destroy_key() refuses.
CALL regress.fails('SELECT prism_crypt.destroy_key(NULL)');
CALL regress.fails('SELECT prism_crypt.destroy_key(99)');
CALL regress.fails('SELECT prism_crypt.destroy_key(3)');
CALL regress.fails('SELECT prism_crypt.destroy_key(3, ''by force'', true)');
CALL regress.fails('SELECT prism_crypt.destroy_key(1, NULL, NULL)');
CALL regress.fails('SELECT prism_crypt.destroy_key(1)');
CALL regress.fails('SELECT prism_crypt.destroy_key(1, ''a reason alone'')');
CALL regress.fails('SELECT prism_crypt.destroy_key(1, force => true)');
CALL regress.fails('SELECT prism_crypt.destroy_key(1, '' '', true)');
-- Also while it is disabled: values are there all the same.
SELECT prism_crypt.disable_key(1);
CALL regress.fails('SELECT prism_crypt.destroy_key(1)');
SELECT prism_crypt.enable_key(1);
-- At other isolation levels it can't see what was committed meanwhile.
BEGIN ISOLATION LEVEL REPEATABLE READ;
CALL regress.fails('SELECT prism_crypt.destroy_key(1)');
ROLLBACK;

-- Wherever a value is left, it is in use: each place by itself.
CALL rotate_batch('t', 'v');
CREATE TABLE places (id int, v encrypted_text, a encrypted_text[], b bytea);
CREATE TABLE texts AS SELECT encrypted_text_out(prism_crypt.load_envelope(encrypted_text_out(encrypt_field('x', keyset => 'tenant'))::text))::text AS form;
SELECT prism_crypt.rotate_key('tenant');
SELECT form FROM texts \gset
CALL rotate_batch('t', 'v');
INSERT INTO places (a) VALUES (ARRAY[NULL, prism_crypt.load_envelope(:'form')]);
CALL regress.fails('SELECT prism_crypt.destroy_key(2)');
UPDATE places SET a = NULL, b = encrypted_text_send(prism_crypt.load_envelope(:'form'));
CALL regress.fails('SELECT prism_crypt.destroy_key(2)');
TRUNCATE places;
CREATE MATERIALIZED VIEW mv AS SELECT prism_crypt.load_envelope(form) AS v FROM texts;
CALL regress.fails('SELECT prism_crypt.destroy_key(2)');
DROP MATERIALIZED VIEW mv;
CREATE TEMP TABLE temporary AS SELECT prism_crypt.load_envelope(form) AS v FROM texts;
\set VERBOSITY terse
SELECT prism_crypt.destroy_key(2);
\echo :SQLSTATE
\set VERBOSITY default
DROP TABLE temporary;
DO $$ BEGIN EXECUTE format('ALTER TABLE places ALTER v SET DEFAULT %L', (SELECT form FROM texts)); END $$;
CALL regress.fails('SELECT prism_crypt.destroy_key(2)');
ALTER TABLE places ALTER v DROP DEFAULT;
DO $$ BEGIN EXECUTE format('CREATE VIEW constant AS SELECT %L::encrypted_text AS v', (SELECT form FROM texts)); END $$;
CALL regress.fails('SELECT prism_crypt.destroy_key(2)');
DROP VIEW constant;
DO $$ BEGIN EXECUTE format('CREATE FUNCTION constant() RETURNS text LANGUAGE sql AS $f$ SELECT %L $f$', (SELECT form FROM texts)); END $$;
CALL regress.fails('SELECT prism_crypt.destroy_key(2)');
DROP FUNCTION constant();
-- A prepared transaction may hold values, and its beginning is not known.
BEGIN;
INSERT INTO places (v) VALUES (prism_crypt.load_envelope(:'form'));
PREPARE TRANSACTION 'prism_crypt test';
CALL regress.fails('SELECT prism_crypt.destroy_key(2)');
ROLLBACK PREPARED 'prism_crypt test';
-- Nothing more. The value in the text column is text, and nobody can tell.
SELECT prism_crypt.destroy_key(2, 'rotated away');
SELECT * FROM keys;
SELECT length(wrapped), count(*) FROM prism_crypt.data_key GROUP BY 1 ORDER BY 1;
CALL regress.fails('SELECT prism_crypt.destroy_key(2)');
CALL regress.fails('SELECT prism_crypt.destroy_key(2, ''again'', true)');
CALL regress.fails('SELECT prism_crypt.enable_key(2)');
CALL regress.fails('SELECT prism_crypt.disable_key(2)');
CALL regress.fails(format('SELECT decrypt_field(prism_crypt.load_envelope(%L))', :'form'));
SELECT try_decrypt_field(prism_crypt.load_envelope(:'form')) IS NULL AS hidden, key_version(prism_crypt.load_envelope(:'form'));
CALL regress.fails(format('SELECT reencrypt_field(prism_crypt.load_envelope(%L))', :'form'));
-- All that was rotated is still there, and sealing goes on.
SELECT count(*) FILTER (WHERE decrypt_field(v) = 'v' || id) AS same FROM t;
SELECT decrypt_field(encrypt_field('of the tenant', keyset => 'tenant'));

-- A destruction that is rolled back never was.
BEGIN;
SELECT prism_crypt.destroy_key(1);
CALL regress.fails('SELECT prism_crypt.enable_key(1)');
ROLLBACK;
SELECT state FROM keys WHERE version = 1;
SELECT prism_crypt.disable_key(1);
SELECT prism_crypt.destroy_key(1);

-- By force: values become unreadable, and rotations leave them alone and say nothing.
SELECT prism_crypt.rotate_key() AS active \gset
INSERT INTO t VALUES (20, 'new');
SELECT prism_crypt.destroy_key(3, 'its values must go', force => true);
SELECT id, try_decrypt_field(v) IS NOT NULL AS readable FROM t WHERE id IN (1, 11, 20) ORDER BY id;
CALL regress.fails('SELECT decrypt_field(v) FROM t WHERE id = 1');
CALL rotate_batch('t', 'v');
CALL rotate_batch('t', 'v', from_version => 3);
SELECT target, state, rows_left, values_unreadable FROM prism_crypt.progress ORDER BY id DESC LIMIT 1;
SELECT kind, location, key_version, ciphertexts FROM prism_crypt.census('t');

-- A whole keyset.
CALL regress.fails('SELECT prism_crypt.destroy_keyset(NULL)');
CALL regress.fails('SELECT prism_crypt.destroy_keyset(''nobody'')');
CALL regress.fails('SELECT prism_crypt.destroy_keyset(''nobody'', ''x'', true)');
CALL regress.fails('SELECT prism_crypt.destroy_keyset(''tenant'')');
CALL regress.fails('SELECT prism_crypt.destroy_keyset(''tenant'', ''gave notice'')');
CALL regress.fails('SELECT prism_crypt.destroy_keyset(''tenant'', force => true)');
CALL regress.fails('SELECT prism_crypt.destroy_keyset(''tenant'', ''gave notice'', NULL)');
SELECT decrypt_field(v) FROM t WHERE id = 11;
SELECT prism_crypt.destroy_keyset('tenant', 'gave notice', true);
-- At once, in this session too; sealing for it is over until it gets another key.
CALL regress.fails('SELECT decrypt_field(v) FROM t WHERE id = 11');
SELECT count(try_decrypt_field(v)) FROM t WHERE id BETWEEN 11 AND 15;
CALL regress.fails('SELECT encrypt_field(''x'', keyset => ''tenant'')');
SELECT decrypt_field(encrypt_field('the others'));
CALL regress.fails('SELECT prism_crypt.destroy_keyset(''tenant'', ''again'', true)');
CALL regress.fails('SELECT prism_crypt.destroy_keyset(''tenant'')');
SELECT prism_crypt.rotate_key('tenant', 'came back');
SELECT decrypt_field(encrypt_field('back', keyset => 'tenant'));
CALL regress.fails('SELECT decrypt_field(v) FROM t WHERE id = 11');
CALL rotate_batch('t', 'v');
SELECT prism_crypt.rotate_master_key();
SELECT * FROM keys;
-- Only data_key's state and bytes tell: no wrapped byte of them is left in the table.
SELECT state, length(wrapped) > 0 AS wrapped, count(*) FROM prism_crypt.data_key GROUP BY 1, 2 ORDER BY 1;

-- All of it is in the audit log; what failed or was rolled back is not.
SELECT role, event, keyset, key_version, reason, detail FROM prism_crypt.audit_log ORDER BY id;
SELECT bool_and(at BETWEEN now() - interval '1 hour' AND clock_timestamp()) AS times FROM prism_crypt.audit_log;
