-- Data keys: rotation, keysets, states, what is left by a rollback.
CALL regress.fresh(with_key => false);
CREATE VIEW keys AS
  SELECT version, keyset, state, created_by, retired_at IS NOT NULL AS retired, disabled_at IS NOT NULL AS disabled, reason
  FROM prism_crypt.key_status ORDER BY version;

-- Before the first one.
CALL regress.fails($$SELECT encrypt_field('x')$$);
CALL regress.fails($$SELECT 'x'::encrypted_text$$);
CALL regress.fails($$SELECT encrypt_field('x', keyset => 'tenant')$$);
SELECT prism_crypt.rotate_master_key();
SELECT prism_crypt.rotate_key(reason => 'begin');
CREATE TABLE t (id serial, v encrypted_text);
INSERT INTO t (v) VALUES ('under 1');
SELECT prism_crypt.rotate_key('default', 'yearly');
INSERT INTO t (v) VALUES ('under 2');
SELECT key_version(v), decrypt_field(v) FROM t ORDER BY id;
SELECT * FROM keys;
SELECT name, description, created_by FROM prism_crypt.keyset;

-- Keysets.
SELECT prism_crypt.create_keyset('tenant-1.eu', 'the first tenant');
SELECT prism_crypt.create_keyset('_2');
SELECT prism_crypt.create_keyset(repeat('n', 63)) > 0 AS longest;
CALL regress.fails($$SELECT prism_crypt.create_keyset('tenant-1.eu')$$);
CALL regress.fails($$SELECT prism_crypt.create_keyset('default')$$);
CALL regress.fails($$SELECT prism_crypt.create_keyset(NULL)$$);
CALL regress.fails($$SELECT prism_crypt.create_keyset('')$$);
CALL regress.fails($$SELECT prism_crypt.create_keyset('Tenant')$$);
CALL regress.fails($$SELECT prism_crypt.create_keyset('1tenant')$$);
CALL regress.fails($$SELECT prism_crypt.create_keyset('ténant')$$);
CALL regress.fails($$SELECT prism_crypt.create_keyset('a b')$$);
CALL regress.fails($$SELECT prism_crypt.create_keyset(E'tenant\n')$$);
CALL regress.fails($$SELECT prism_crypt.create_keyset(repeat('n', 64))$$);
CALL regress.fails($$SELECT prism_crypt.rotate_key('nobody')$$);
CALL regress.fails($$SELECT prism_crypt.rotate_key('nobody"; DROP TABLE t; --')$$);
CALL regress.fails($$SELECT prism_crypt.rotate_key(NULL)$$);
CALL regress.fails($$SELECT prism_crypt.rotate_master_key('nobody')$$);
SELECT name, description FROM prism_crypt.keyset ORDER BY name;

-- The session's keyset.
SET prism_crypt.keyset = 'tenant-1.eu';
INSERT INTO t (v) VALUES ('of tenant 1'), (encrypt_field('of tenant 1')), (encrypt_field('of default', keyset => 'default'));
SET prism_crypt.keyset = 'nobody';
CALL regress.fails($$INSERT INTO t (v) VALUES ('x')$$);
-- What is there is read under its own keyset.
SELECT keyset, decrypt_field(v) FROM t JOIN keys ON version = key_version(v) ORDER BY id;
RESET prism_crypt.keyset;
INSERT INTO t (v) VALUES ('of default');
BEGIN;
SET LOCAL prism_crypt.keyset = '_2';
INSERT INTO t (v) VALUES ('of _2');
COMMIT;
INSERT INTO t (v) VALUES ('of default');
SELECT keyset, decrypt_field(v) FROM t JOIN keys ON version = key_version(v) WHERE id > 5 ORDER BY id;
BEGIN;
SET prism_crypt.keyset = '_2';
ROLLBACK;
SELECT key_version(encrypt_field('x'));
CREATE FUNCTION in_tenant() RETURNS int LANGUAGE sql SET prism_crypt.keyset = 'tenant-1.eu' AS $$ SELECT key_version(encrypt_field('x')) $$;
SELECT in_tenant(), key_version(encrypt_field('x'));
-- An empty name is the default.
SET prism_crypt.keyset = '';
SELECT key_version(encrypt_field('x'));
RESET prism_crypt.keyset;

-- States.
SELECT prism_crypt.disable_key(1, 'lost laptop');
CALL regress.fails('SELECT decrypt_field(v) FROM t WHERE id = 1');
CALL regress.fails('SELECT reencrypt_field(v) FROM t WHERE id = 1');
CALL regress.fails('SELECT v::text FROM t WHERE id = 1');
SELECT try_decrypt_field(v), key_version(v) FROM t WHERE id = 1;
SELECT decrypt_field(v) FROM t WHERE id = 2;
SELECT * FROM keys WHERE version = 1;
-- Again is nothing new; the reason stays the first one.
SELECT prism_crypt.disable_key(1, 'again');
SELECT reason FROM keys WHERE version = 1;
SELECT prism_crypt.enable_key(1, 'found');
SELECT prism_crypt.enable_key(1);
SELECT decrypt_field(v) FROM t WHERE id = 1;
SELECT * FROM keys WHERE version = 1;
CALL regress.fails('SELECT prism_crypt.disable_key(2)');
CALL regress.fails('SELECT prism_crypt.enable_key(2)');
CALL regress.fails('SELECT prism_crypt.disable_key(99)');
CALL regress.fails('SELECT prism_crypt.disable_key(NULL)');
CALL regress.fails('SELECT prism_crypt.disable_key(0)');
CALL regress.fails('SELECT prism_crypt.enable_key(-1)');
-- Destroyed ones (nothing destroys a key yet; the state is understood).
INSERT INTO prism_crypt.data_key (version, keyset, state, wrapped, master_fingerprint, destroyed_at)
VALUES (1000, 'default', 'destroyed', '', '', now());
CALL regress.fails($$SELECT decrypt_field(prism_crypt.load_envelope('prism:v1000:' || encode('\x01 00 00 000003e8 000000000000000000000000 00000000000000000000000000000000', 'base64')))$$);
CALL regress.fails('SELECT prism_crypt.enable_key(1000)');
CALL regress.fails('SELECT prism_crypt.disable_key(1000)');
DELETE FROM prism_crypt.data_key WHERE version = 1000;
-- The table itself holds its rules.
\set VERBOSITY terse
UPDATE prism_crypt.data_key SET state = 'sleeping' WHERE version = 1;
CALL regress.fails($$UPDATE prism_crypt.data_key SET state = 'active' WHERE version = 1$$);
UPDATE prism_crypt.data_key SET version = 0 WHERE version = 1;
\set VERBOSITY default

-- A rollback leaves nothing behind but a number that is never given again.
SELECT last_value AS top FROM prism_crypt.data_key_version_seq \gset
BEGIN;
SELECT prism_crypt.rotate_key() - :top AS further;
INSERT INTO t (v) VALUES ('rolled back');
SELECT key_version(encrypt_field('x')) - :top AS further;
ROLLBACK;
SELECT key_version(encrypt_field('x'));
SELECT decrypt_field(v) FROM t WHERE id = 1;
SELECT prism_crypt.rotate_key() - :top AS further;
SELECT max(version) AS top FROM keys \gset
BEGIN;
SAVEPOINT s;
SELECT prism_crypt.rotate_key() - :top AS further;
SELECT key_version(encrypt_field('x')) - :top AS further;
ROLLBACK TO s;
SELECT key_version(encrypt_field('x')) - :top AS further;
SELECT prism_crypt.rotate_key() - :top AS further;
SELECT key_version(encrypt_field('x')) - :top AS further;
RELEASE s;
COMMIT;
SELECT key_version(encrypt_field('x')) - :top AS further;
SELECT max(version) AS top FROM keys \gset
-- An error rolls back too.
DO $$ BEGIN
  PERFORM prism_crypt.rotate_key();
  PERFORM encrypt_field('x');
  RAISE division_by_zero;
EXCEPTION WHEN division_by_zero THEN NULL;
END $$;
SELECT key_version(encrypt_field('x')) - :top AS further;
BEGIN;
SELECT prism_crypt.disable_key(1);
CALL regress.fails('SELECT decrypt_field(v) FROM t WHERE id = 1');
ROLLBACK;
SELECT decrypt_field(v) FROM t WHERE id = 1;
BEGIN;
SELECT prism_crypt.create_keyset('never') > 0 AS made;
SELECT decrypt_field(encrypt_field('x', keyset => 'never'));
ROLLBACK;
CALL regress.fails($$SELECT encrypt_field('x', keyset => 'never')$$);

-- Two rotations in one transaction: one active key.
BEGIN;
SELECT prism_crypt.rotate_key() IS NOT NULL AS first, prism_crypt.rotate_key() IS NOT NULL AS second;
SELECT count(*) FROM keys WHERE keyset = 'default' AND state = 'active';
COMMIT;
SELECT count(*) FROM keys WHERE keyset = 'default' AND state = 'active';
-- Who did it: the session's user, whatever role it had on.
SELECT prism_crypt.grant_access('regress_prism_admin', 'key_admin');
SET ROLE regress_prism_admin;
SELECT prism_crypt.create_keyset('made_by_role') > 0 AS made;
RESET ROLE;
SET SESSION AUTHORIZATION regress_prism_admin;
SELECT prism_crypt.create_keyset('made_by_session') > 0 AS made;
RESET SESSION AUTHORIZATION;
SELECT keyset, k.created_by, s.created_by FROM keys AS k JOIN prism_crypt.keyset AS s ON s.name = keyset WHERE keyset LIKE 'made%' ORDER BY 1;

-- Often enough to meet every position in the write-ahead log.
DO $$ BEGIN
  FOR n IN 1..3000 LOOP
    BEGIN
      PERFORM prism_crypt.rotate_key();
      RAISE division_by_zero;
    EXCEPTION WHEN division_by_zero THEN NULL;
    END;
  END LOOP;
END $$;
