-- Each error that SQL can reach, once, about in the order of src/error.rs: SQLSTATE, message, detail, hint.
CALL regress.fresh();
CREATE TABLE t (v encrypted_text, b bytea, s encrypted_text('searchable'));
INSERT INTO t VALUES ('text', encrypt_bytes('bytes'), 'text');
BEGIN;
SELECT prism_crypt._replace_index_key('default', NULL);
SELECT encrypted_text_out('text'::encrypted_text('searchable')) AS generation_2 \gset
ROLLBACK;
CREATE TABLE generation_2 (s encrypted_text);
INSERT INTO generation_2 VALUES (:'generation_2');
SET prism_crypt.master_key_env = '';
-- MasterKey
SET prism_crypt.master_key_command = 'echo 00112233445566778899aabbccddeeff';
CALL regress.fails('SELECT decrypt_field(v) FROM t');
-- NoMasterKey
RESET prism_crypt.master_key_command;
CALL regress.fails('SELECT decrypt_field(v) FROM t');
-- EmptyKeySource
SET prism_crypt.master_key_command = 'true';
CALL regress.fails('SELECT decrypt_field(v) FROM t');
-- KeyFile
RESET prism_crypt.master_key_command;
SET prism_crypt.master_key_file = '/nonexistent/file';
CALL regress.fails('SELECT decrypt_field(v) FROM t');
-- KeyCommand
SET prism_crypt.master_key_command = 'exit 3';
CALL regress.fails('SELECT decrypt_field(v) FROM t');
RESET prism_crypt.master_key_command;
RESET prism_crypt.master_key_file;
-- KeyEnvironment
SET prism_crypt.master_key_env = 'PRISM_TEST_NO_SUCH_VARIABLE';
CALL regress.fails('SELECT decrypt_field(v) FROM t');
-- KeyMismatch
SET prism_crypt.master_key_env = 'PRISM_TEST_KEY_OTHER';
CALL regress.fails('SELECT decrypt_field(v) FROM t');
RESET prism_crypt.master_key_env;
-- DataKeyDamaged
BEGIN;
UPDATE prism_crypt.data_key SET wrapped = '\x00';
CALL regress.fails('SELECT decrypt_field(v) FROM t');
-- IndexKeyDamaged
UPDATE prism_crypt.index_key SET wrapped = '\x00';
CALL regress.fails($$SELECT blind_index('x', NULL)$$);
-- IndexKeyDestroyed
UPDATE prism_crypt.index_key SET state = 'destroyed';
CALL regress.fails($$SELECT blind_index('x', NULL)$$);
-- NoIndexKey
DELETE FROM prism_crypt.index_key;
CALL regress.fails($$SELECT blind_index('x', NULL)$$);
-- IndexKeyUnknown: tags of two generations, and none of them known.
CALL regress.fails('SELECT a.s = b.s FROM t AS a, generation_2 AS b');
-- NoDataKey
UPDATE prism_crypt.data_key SET state = 'decrypt_only';
CALL regress.fails($$SELECT encrypt_field('x')$$);
-- NoKeyset
CALL regress.fails($$SELECT encrypt_field('x', keyset => 'nobody')$$);
-- UnknownVersion
DELETE FROM prism_crypt.data_key;
CALL regress.fails('SELECT decrypt_field(v) FROM t');
ROLLBACK;
-- Disabled
BEGIN;
UPDATE prism_crypt.data_key SET state = 'disabled';
CALL regress.fails('SELECT decrypt_field(v) FROM t');
-- Destroyed
UPDATE prism_crypt.data_key SET state = 'destroyed';
CALL regress.fails('SELECT decrypt_field(v) FROM t');
ROLLBACK;
-- KeyTable
BEGIN;
ALTER TABLE prism_crypt.data_key DROP CONSTRAINT data_key_state_check;
UPDATE prism_crypt.data_key SET state = 'asleep';
CALL regress.fails('SELECT decrypt_field(v) FROM t');
ROLLBACK;
-- Authentication
CALL regress.fails($$SELECT decrypt_field(v, 'no such context') FROM t$$);
-- TextForm
CALL regress.fails($$SELECT 'prism:v1:AQ=='::encrypted_text$$);
-- BinaryForm: in copy.sql, with binary input.
-- NotAnEnvelope
CALL regress.fails($$SELECT decrypt_bytes('\x00')$$);
-- StoredValue: what only a superuser can bring about.
CREATE TABLE damaged AS SELECT id, v FROM (VALUES (1, '\x00'::bytea), (2, ''), (3, '\x01'), (4, decode('01ff0000000001', 'hex'))) AS d (id, v);
UPDATE pg_attribute SET atttypid = 'encrypted_text'::regtype WHERE attrelid = 'damaged'::regclass AND attname = 'v';
CALL regress.fails('SELECT decrypt_field(v) FROM damaged WHERE id = 1');
CALL regress.fails('SELECT v::text FROM damaged WHERE id = 2');
CALL regress.fails('SELECT key_version(v) FROM damaged WHERE id = 3');
CALL regress.fails('SELECT reencrypt_field(v) FROM damaged WHERE id = 4');
CALL regress.fails('SELECT envelope_info(v) FROM damaged WHERE id = 1');
CALL regress.fails($$SELECT v::encrypted_text('email') FROM damaged WHERE id = 1$$);
SELECT v FROM damaged WHERE id = 1;
SELECT id, try_decrypt_field(v) FROM damaged ORDER BY id;
-- A rotation reports it, leaves it, and moves the rest.
INSERT INTO damaged SELECT 5, 'sound';
SELECT prism_crypt.rotate_key() IS NOT NULL AS rotated;
CALL rotate_batch('damaged', 'v');
SELECT decrypt_field(v) FROM damaged WHERE id = 5;
-- SearchDenied
SET ROLE regress_prism_app;
CALL regress.fails($$SELECT 'x'::encrypted_text('searchable')$$);
-- LoadDenied
CALL regress.fails($$SELECT 'prism:v1:AQ=='::encrypted_text$$);
-- DecryptDenied
CALL regress.fails($$SELECT '42'::encrypted_text::int$$);
RESET ROLE;
-- SealedAlready
CALL regress.fails(format('SELECT %L::text::encrypted_text', encrypted_text_out('x')));
-- MadeOfCiphertext
CALL regress.fails($$SELECT '{x}'::encrypted_text[]::encrypted_text$$);
-- BoundToContext
CALL regress.fails($$SELECT encrypt_field('x', 'context')::text$$);
-- TypeChange
CALL regress.fails('ALTER TABLE t ALTER v TYPE text');
-- ClassMismatch
CALL regress.fails($$SELECT encrypt_field('x', class => 'email')::encrypted_text('phone')$$);
-- UnknownClass
CALL regress.fails($$SELECT encrypt_field('x', class => 'Email')$$);
-- TypeModifier
CALL regress.fails($$SELECT 'x'::encrypted_text('email', 'phone')$$);
-- NotSearchable
CALL regress.fails('SELECT v::bytea::encrypted_text($$searchable$$) FROM t');
-- BlindIndexBits
CALL regress.fails($$SELECT blind_index('x', NULL, 0)$$);
-- NoOrder
CALL regress.fails('SELECT v < v FROM t');
-- NotText
SELECT 'prism:v1:' || translate(encode(b, 'base64'), E'\n', '') AS bytes FROM t \gset
CALL regress.fails(format('SELECT decrypt_field(%L)', :'bytes'));
-- TransactionBlock
CALL regress.fails($$CALL rotate_batch('t', 'v')$$);
-- StatementKind
CALL regress.fails($$SELECT prism_crypt._start_statement('DROP TABLE t')$$);
-- StatementOfOther
CREATE FUNCTION for_others() RETURNS void LANGUAGE sql SECURITY DEFINER AS $$ SELECT prism_crypt._start_statement('DROP INDEX CONCURRENTLY i') $$;
CALL regress.fails('SELECT for_others()');
-- NoStatement
CALL regress.fails('SELECT * FROM prism_crypt._statement_result()');
