-- Master keys: sources, several at once, the wrong one, re-wrapping, damage.
CALL regress.fresh();
SELECT prism_crypt.create_keyset('tenant');
CREATE TABLE t (v encrypted_text, b bytea);
INSERT INTO t VALUES ('default', encrypt_bytes('default')), (encrypt_field('tenant', keyset => 'tenant'), encrypt_bytes('tenant', keyset => 'tenant'));

-- Whichever source is set first, in this order: inline, command, file, environment.
\set key_file `echo "$PRISM_TEST_KEY_FILE"`
SELECT setting FROM prism_crypt.status() WHERE name = 'key_source';
SET prism_crypt.master_key_file = :'key_file';
SELECT setting, (SELECT count(*) FROM t WHERE v::text <> '') FROM prism_crypt.status() WHERE name = 'key_source';
SET prism_crypt.master_key_command = 'echo $PRISM_TEST_KEY_MAIN';
SELECT setting, (SELECT count(*) FROM t WHERE v::text <> '') FROM prism_crypt.status() WHERE name = 'key_source';
SELECT set_config('prism_crypt.master_key', regress.master_key('inline'), false);
SELECT setting, (SELECT count(try_decrypt_field(v)) FROM t) FROM prism_crypt.status() WHERE name = 'key_source';
RESET prism_crypt.master_key;
RESET prism_crypt.master_key_command;
RESET prism_crypt.master_key_file;

-- The wrong one: said before anything is written, and nothing is.
SET prism_crypt.master_key_env = 'PRISM_TEST_KEY_OTHER';
CALL regress.fails('SELECT decrypt_field(v) FROM t');
CALL regress.fails('SELECT decrypt_bytes(b) FROM t');
CALL regress.fails($$INSERT INTO t VALUES ('x')$$);
CALL regress.fails($$SELECT encrypt_bytes('x', keyset => 'tenant')$$);
CALL regress.fails('SELECT reencrypt_field(v) FROM t');
CALL regress.fails('SELECT prism_crypt.rotate_key()');
CALL regress.fails('SELECT prism_crypt.rotate_master_key()');
SELECT version, state FROM prism_crypt.key_status ORDER BY 1;
-- A new keyset can live under another master key: a tenant that brings its own.
SELECT prism_crypt.create_keyset('own') > 0 AS made;
SELECT decrypt_field(encrypt_field('x', keyset => 'own'));
CREATE TEMP TABLE own AS SELECT encrypt_field('of its own', keyset => 'own') AS v;
RESET prism_crypt.master_key_env;
CALL regress.fails('SELECT decrypt_field(v) FROM own');
CALL regress.fails($$SELECT encrypt_field('x', keyset => 'own')$$);
SELECT decrypt_field(v) FROM t;

-- No master key: what needs none still works.
SET prism_crypt.master_key_env = '';
CALL regress.fails('SELECT decrypt_field(v) FROM t');
CALL regress.fails($$INSERT INTO t VALUES ('x')$$);
CALL regress.fails('SELECT prism_crypt.rotate_key()');
CALL regress.fails('SELECT prism_crypt.rotate_master_key()');
CALL regress.fails($$SELECT prism_crypt.create_keyset('x')$$);
SELECT key_version(v), key_version(b), envelope_bytes, encrypted_text_out(v)::text ~ '^prism:v' AS out FROM t, envelope_info(v);
CREATE TABLE copied AS SELECT * FROM t;
UPDATE copied SET v = v;
SELECT prism_crypt.load_envelope(encrypted_text_out(v)::text) IS NOT NULL AS loads FROM t;
SELECT key FROM generate_key() WHERE key_bytes = 0;
RESET prism_crypt.master_key_env;
SELECT decrypt_field(v), decrypt_bytes(b) FROM copied;

-- Sources that give no usable key.
SET prism_crypt.master_key_env = 'PRISM_TEST_NO_SUCH_VARIABLE';
CALL regress.fails('SELECT decrypt_field(v) FROM t');
SET prism_crypt.master_key_env = 'PATH';
CALL regress.fails('SELECT decrypt_field(v) FROM t');
SET prism_crypt.master_key_file = '/nonexistent/file';
CALL regress.fails('SELECT decrypt_field(v) FROM t');
SET prism_crypt.master_key_file = '/';
CALL regress.fails('SELECT decrypt_field(v) FROM t');
SET prism_crypt.master_key_file = '/etc/passwd';
CALL regress.fails('SELECT decrypt_field(v) FROM t');
SET prism_crypt.master_key_file = '/dev/zero';
CALL regress.fails('SELECT decrypt_field(v) FROM t');
RESET prism_crypt.master_key_file;
SET prism_crypt.master_key_command = 'exit 3';
CALL regress.fails('SELECT decrypt_field(v) FROM t');
SET prism_crypt.master_key_command = 'kill -9 $$';
CALL regress.fails('SELECT decrypt_field(v) FROM t');
SET prism_crypt.master_key_command = 'true';
CALL regress.fails('SELECT decrypt_field(v) FROM t');
SET prism_crypt.master_key_command = 'echo; echo " "';
CALL regress.fails('SELECT decrypt_field(v) FROM t');
SET prism_crypt.master_key_command = 'echo not a key at all';
CALL regress.fails('SELECT decrypt_field(v) FROM t');
SET prism_crypt.master_key_command = 'echo 00112233445566778899aabbccddeeff';
CALL regress.fails('SELECT decrypt_field(v) FROM t');
SET prism_crypt.master_key_command = 'echo $PRISM_TEST_KEY_MAIN; echo; echo 0011';
CALL regress.fails('SELECT decrypt_field(v) FROM t');
SET prism_crypt.master_key_command = 'printf "\377\376"';
CALL regress.fails('SELECT decrypt_field(v) FROM t');
SET prism_crypt.master_key_command = 'head -c 100000 /dev/zero';
CALL regress.fails('SELECT decrypt_field(v) FROM t');
SET prism_crypt.master_key_command = 'yes';
CALL regress.fails('SELECT decrypt_field(v) FROM t');
SET prism_crypt.master_key_command = '/nonexistent/command 2>/dev/null';
CALL regress.fails('SELECT decrypt_field(v) FROM t');
-- One that hangs can be cancelled, with or without its output closed.
SET statement_timeout = '100ms';
SET prism_crypt.master_key_command = 'sleep 60';
SELECT decrypt_field(v) FROM t;
SET prism_crypt.master_key_command = 'exec >/dev/null; sleep 60';
SELECT decrypt_field(v) FROM t;
RESET statement_timeout;
-- After all of that a good one works at once: hexadecimal in capitals, base64, white space, empty lines.
SET prism_crypt.master_key_command = 'echo; echo "  $PRISM_TEST_KEY_MAIN" | tr a-f A-F; echo';
SELECT decrypt_field(v) FROM t;
SET prism_crypt.master_key_command = 'perl -e ''print pack("H*", $ENV{PRISM_TEST_KEY_MAIN})'' | base64';
SELECT decrypt_field(v) FROM t;
SET prism_crypt.master_key_command = 'echo $PRISM_TEST_KEY_OTHER; echo $PRISM_TEST_KEY_MAIN';
SELECT decrypt_field(v) FROM t;
SET prism_crypt.master_key_command = 'printf %s,%s $PRISM_TEST_KEY_MAIN $PRISM_TEST_KEY_OTHER';
SELECT decrypt_field(v) FROM t UNION ALL SELECT decrypt_field(v) FROM own;

-- Re-wrapping: the new master key first, the old one behind it; values are not touched.
SET prism_crypt.master_key_command = 'echo $PRISM_TEST_KEY_NEXT; echo $PRISM_TEST_KEY_MAIN; echo $PRISM_TEST_KEY_OTHER';
SELECT version, keyset, dense_rank() OVER (ORDER BY master_fingerprint = (SELECT split_part(setting, ', ', 2) FROM prism_crypt.status() WHERE name = 'master_fingerprint') DESC) AS master
FROM prism_crypt.key_status ORDER BY 1;
CREATE TEMP TABLE before AS SELECT encrypted_text_out(v)::text AS v FROM t;
SELECT prism_crypt.rotate_master_key('own');
SELECT prism_crypt.rotate_master_key();
SELECT count(DISTINCT master_fingerprint), bool_and(master_fingerprint = (SELECT split_part(setting, ', ', 1) FROM prism_crypt.status() WHERE name = 'master_fingerprint')) AS first
FROM prism_crypt.key_status;
SELECT count(*) FROM before JOIN t ON before.v = encrypted_text_out(t.v)::text;
SET prism_crypt.master_key_command = 'echo $PRISM_TEST_KEY_NEXT';
SELECT decrypt_field(v) FROM t UNION ALL SELECT decrypt_field(v) FROM own;
SELECT decrypt_bytes(b) FROM t;
RESET prism_crypt.master_key_command;
SET prism_crypt.master_key_env = 'PRISM_TEST_KEY_MAIN';
CALL regress.fails('SELECT decrypt_field(v) FROM t');
-- Rolled back, the old one is good again.
SET prism_crypt.master_key_command = 'echo $PRISM_TEST_KEY_MAIN; echo $PRISM_TEST_KEY_NEXT';
BEGIN;
SELECT prism_crypt.rotate_master_key();
SELECT decrypt_field(v) FROM t;
ROLLBACK;
SET prism_crypt.master_key_command = 'echo $PRISM_TEST_KEY_NEXT';
SELECT decrypt_field(v) FROM t;

-- Rows of the key table that were changed.
SET prism_crypt.master_key_command = 'echo $PRISM_TEST_KEY_NEXT';
BEGIN;
UPDATE prism_crypt.data_key SET wrapped = set_byte(wrapped, 30, get_byte(wrapped, 30) # 1) WHERE version = 1;
CALL regress.fails('SELECT decrypt_field(v) FROM t WHERE key_version(v) = 1');
CALL regress.fails($$SELECT encrypt_field('x')$$);
CALL regress.fails('SELECT prism_crypt.rotate_key()');
SELECT decrypt_field(v) FROM t WHERE key_version(v) = 2;
SELECT try_decrypt_field(v) FROM t;
SELECT setting, ok FROM prism_crypt.status() WHERE name = 'active_keys_unlock';
ROLLBACK;
BEGIN;
UPDATE prism_crypt.data_key SET wrapped = substr(wrapped, 1, 60) WHERE version = 1;
CALL regress.fails('SELECT decrypt_field(v) FROM t WHERE key_version(v) = 1');
UPDATE prism_crypt.data_key SET wrapped = '' WHERE version = 1;
CALL regress.fails('SELECT decrypt_field(v) FROM t WHERE key_version(v) = 1');
ROLLBACK;
-- Swapped between versions, or moved to another keyset.
BEGIN;
UPDATE prism_crypt.data_key AS a SET wrapped = b.wrapped FROM prism_crypt.data_key AS b WHERE a.version IN (1, 2) AND b.version IN (1, 2) AND a.version <> b.version;
CALL regress.fails('SELECT decrypt_field(v) FROM t WHERE key_version(v) = 1');
CALL regress.fails('SELECT decrypt_field(v) FROM t WHERE key_version(v) = 2');
ROLLBACK;
BEGIN;
UPDATE prism_crypt.data_key SET keyset = 'tenant', state = 'decrypt_only' WHERE version = 1;
CALL regress.fails('SELECT decrypt_field(v) FROM t WHERE key_version(v) = 1');
ROLLBACK;
-- At other isolation levels it can't see what was committed while it waited.
BEGIN ISOLATION LEVEL REPEATABLE READ;
SELECT prism_crypt.rotate_master_key();
ROLLBACK;
-- A false fingerprint only tells that the right key is missing.
BEGIN;
UPDATE prism_crypt.data_key SET master_fingerprint = repeat('0', 16) WHERE version = 1;
CALL regress.fails('SELECT decrypt_field(v) FROM t WHERE key_version(v) = 1');
ROLLBACK;
BEGIN;
DELETE FROM prism_crypt.data_key WHERE version = 1;
CALL regress.fails('SELECT decrypt_field(v) FROM t WHERE key_version(v) = 1');
CALL regress.fails($$SELECT encrypt_field('x')$$);
ROLLBACK;
BEGIN;
TRUNCATE prism_crypt.data_key;
CALL regress.fails('SELECT decrypt_field(v) FROM t WHERE key_version(v) = 1');
ROLLBACK;
SET session_replication_role = replica;
BEGIN;
UPDATE prism_crypt.data_key SET state = 'disabled' WHERE version = 1;
CALL regress.fails('SELECT decrypt_field(v) FROM t WHERE key_version(v) = 1');
ROLLBACK;
RESET session_replication_role;
BEGIN;
ALTER TABLE prism_crypt.data_key RENAME wrapped TO other_name;
CALL regress.fails('SELECT decrypt_field(v) FROM t WHERE key_version(v) = 1');
ROLLBACK;
BEGIN;
ALTER TABLE prism_crypt.data_key RENAME TO other_name;
CALL regress.fails('SELECT decrypt_field(v) FROM t WHERE key_version(v) = 1');
CREATE TABLE prism_crypt.data_key (LIKE prism_crypt.other_name);
CALL regress.fails('SELECT decrypt_field(v) FROM t WHERE key_version(v) = 1');
ROLLBACK;
SELECT decrypt_field(v) FROM t;
