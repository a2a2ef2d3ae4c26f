-- Inside of transactions: read only, isolation levels, cursors, errors in the middle.
CALL regress.fresh();
CREATE TABLE t (id int, v encrypted_text);
INSERT INTO t SELECT n, encrypt_field('row ' || n) FROM generate_series(1, 6) AS n;

-- Read only: sealing and opening write nothing.
BEGIN READ ONLY;
SELECT decrypt_field(encrypt_field('x')), decrypt_field('y'::encrypted_text), decrypt_field(v), key_version(reencrypt_field(v)) FROM t WHERE id = 1;
SELECT setting FROM prism_crypt.status() WHERE name = 'enabled';
CALL regress.fails('SELECT prism_crypt.rotate_key()');
CALL regress.fails($$SELECT prism_crypt.create_keyset('x')$$);
CALL regress.fails('SELECT prism_crypt.disable_key(1)');
CALL regress.fails('SELECT prism_crypt.rotate_master_key()');
COMMIT;
-- In a session that was never anything else.
\c
SET default_transaction_read_only = on;
SELECT decrypt_field(v) FROM t WHERE id = 2;
SELECT key_version(encrypt_field('x'));
RESET default_transaction_read_only;

-- Every isolation level, with a rotation in the middle.
BEGIN ISOLATION LEVEL REPEATABLE READ;
SELECT decrypt_field(v) FROM t WHERE id = 1;
SELECT prism_crypt.rotate_key();
INSERT INTO t VALUES (7, 'row 7');
SELECT key_version(v), decrypt_field(v) FROM t WHERE id IN (1, 7) ORDER BY id;
COMMIT;
BEGIN ISOLATION LEVEL SERIALIZABLE;
SELECT prism_crypt.rotate_key();
UPDATE t SET v = reencrypt_field(v) WHERE id = 7;
SELECT key_version(v), decrypt_field(v) FROM t WHERE id IN (1, 7) ORDER BY id;
COMMIT;
SELECT prism_crypt.rotate_key();

-- An error in a savepoint, in PL/pgSQL, in the middle of a statement: what was unlocked stays usable.
BEGIN;
INSERT INTO t VALUES (8, 'row 8');
SAVEPOINT s;
SELECT decrypt_field(v, 'no such context') FROM t;
\echo :SQLSTATE
ROLLBACK TO s;
SELECT decrypt_field(v) FROM t WHERE id = 8;
COMMIT;
CREATE FUNCTION read_all(context text) RETURNS TABLE (id int, text_ text) LANGUAGE plpgsql AS $$
DECLARE
  r record;
BEGIN
  FOR r IN SELECT * FROM t ORDER BY t.id LOOP
    id := r.id;
    BEGIN
      text_ := decrypt_field(r.v, CASE WHEN r.id % 3 = 0 THEN context END);
    EXCEPTION WHEN external_routine_invocation_exception THEN
      text_ := 'failed: ' || SQLERRM;
    END;
    RETURN NEXT;
  END LOOP;
END $$;
SELECT * FROM read_all('wrong');
DO $$ BEGIN
  FOR n IN 1..500 LOOP
    BEGIN
      PERFORM decrypt_field(v, 'wrong') FROM t WHERE id = 1;
    EXCEPTION WHEN OTHERS THEN
      IF decrypt_field(encrypt_field('x')) <> 'x' THEN RAISE; END IF;
    END;
  END LOOP;
END $$;

-- Cursors keep reading over a rotation, a change of the key, a commit.
BEGIN;
DECLARE c CURSOR FOR SELECT id, decrypt_field(v) FROM t;
FETCH 2 FROM c;
SELECT prism_crypt.rotate_key() > 0 AS rotated;
UPDATE t SET v = reencrypt_field(v);
FETCH 2 FROM c;
SAVEPOINT s;
SET LOCAL prism_crypt.master_key_env = '';
FETCH 1 FROM c;
\echo :SQLSTATE
ROLLBACK TO s;
COMMIT;
BEGIN;
DECLARE h CURSOR WITH HOLD FOR SELECT id, decrypt_field(v) FROM t ORDER BY id;
COMMIT;
FETCH 2 FROM h;
CLOSE h;

-- The key that a transaction set for itself goes with it.
BEGIN;
SET LOCAL prism_crypt.master_key_env = 'PRISM_TEST_KEY_NEXT';
CALL regress.fails('SELECT decrypt_field(v) FROM t');
SELECT prism_crypt.create_keyset('inside') > 0 AS made;
SELECT decrypt_field(encrypt_field('x', keyset => 'inside'));
COMMIT;
CALL regress.fails($$SELECT encrypt_field('x', keyset => 'inside')$$);
SELECT decrypt_field(v) FROM t WHERE id = 1;

-- Deferred, and in a trigger at commit.
CREATE TABLE log (text_ text, at_commit text);
CREATE FUNCTION log() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN INSERT INTO log VALUES (NEW.v, decrypt_field(NEW.v)); RETURN NULL; END $$;
CREATE CONSTRAINT TRIGGER log AFTER INSERT ON t DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION log();
BEGIN;
INSERT INTO t VALUES (9, 'row 9');
SELECT prism_crypt.rotate_key() > 0 AS rotated;
COMMIT;
SELECT * FROM log;
-- COPY and a rotation in the same transaction.
BEGIN;
COPY t FROM STDIN;
10	row 10
\.
SELECT prism_crypt.rotate_key() > 0 AS rotated;
COPY t FROM STDIN;
11	row 11
\.
SELECT count(DISTINCT key_version(v)), string_agg(decrypt_field(v), ',' ORDER BY id) FROM t WHERE id > 9;
ROLLBACK;
SELECT count(*) FROM t WHERE id > 9;
-- DISCARD and a new plan after the schema changed.
PREPARE q AS SELECT decrypt_field(v) FROM t WHERE id = 1;
EXECUTE q;
ALTER TABLE t ALTER v TYPE encrypted_text('personal');
EXECUTE q;
DISCARD ALL;
SELECT decrypt_field(v), (envelope_info(v)).class FROM t WHERE id = 1;
