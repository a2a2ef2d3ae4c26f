-- How many values each data key has sealed: counted, warned of, refused.
CALL regress.fresh();
\set SHOW_CONTEXT never
\c
CREATE FUNCTION seals() RETURNS text LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
  SELECT string_agg(format('%s: %s', version, coalesce(seals_reserved::text, 'none')), ', ' ORDER BY version) FROM prism_crypt.key_status
$$;
CREATE FUNCTION status() RETURNS text LANGUAGE sql AS $$
  SELECT format('%s: %s', setting, CASE WHEN ok THEN 'ok' ELSE 'not ok' END) FROM prism_crypt.status() WHERE name = 'seals'
$$;
-- All versions are set to a count, as nobody should while values are sealed.
CREATE PROCEDURE set_seals(seals bigint) LANGUAGE sql SECURITY DEFINER AS $$ UPDATE prism_crypt.data_key_usage SET seals_reserved = seals $$;
CREATE TABLE t (id int, v encrypted_text, c encrypted_text('email'));
SELECT seals(), status();

-- Blocks of 1, 2, 4, 8, …: each seal is counted before it is done.
SELECT encrypt_field('1') IS NOT NULL, seals();
SELECT encrypt_field('2') IS NOT NULL, seals();
SELECT encrypt_field('3') IS NOT NULL, seals();
SELECT encrypt_field('4') IS NOT NULL, seals();
SELECT count(encrypt_field(n::text)) FROM generate_series(5, 8) AS n;
SELECT seals();
\c
-- Each session begins with a block of 1.
SELECT encrypt_field('x') IS NOT NULL, seals();
\c
-- A literal is sealed when it is read, and once more where the column has a class. Opening, masking and dumping count nothing.
INSERT INTO t (v) VALUES ('literal');
SELECT seals();
INSERT INTO t (c) VALUES ('literal');
SELECT seals();
SELECT decrypt_field(v), mask_field(v), v::text FROM t WHERE v IS NOT NULL;
SELECT seals();
COPY (SELECT v FROM t WHERE v IS NOT NULL LIMIT 0) TO STDOUT;
\c
COPY t (id, c) FROM STDIN;
1	a@example.org
2	b@example.org
3	c@example.org
4	d@example.org
\.
SELECT seals();

-- Rolled back is sealed all the same, be it the transaction, a savepoint or a block with an exception.
\c
CALL set_seals(0);
BEGIN;
INSERT INTO t SELECT n, 'x'::text FROM generate_series(1, 3) AS n;
ROLLBACK;
SELECT seals();
BEGIN;
SAVEPOINT s;
INSERT INTO t SELECT n, 'x'::text FROM generate_series(1, 4) AS n;
ROLLBACK TO s;
SELECT seals();
INSERT INTO t VALUES (10, 'kept');
COMMIT;
SELECT seals();
DO $$ BEGIN
  PERFORM encrypt_field(n::text) FROM generate_series(1, 3) AS n;
  RAISE division_by_zero;
EXCEPTION WHEN division_by_zero THEN NULL;
END $$;
SELECT seals();

-- In a transaction that reads only, at every level of isolation, without an id, a step of a sequence or a right.
\c
CALL set_seals(0);
CREATE SEQUENCE steps;
SELECT nextval('steps');
GRANT SELECT, USAGE ON SEQUENCE steps TO regress_prism_app;
SET ROLE regress_prism_app;
BEGIN ISOLATION LEVEL SERIALIZABLE READ ONLY;
SELECT count(encrypt_field('x')) FROM generate_series(1, 3);
SELECT public.seals(), pg_current_xact_id_if_assigned() IS NULL AS without_id, lastval();
COMMIT;
RESET ROLE;
BEGIN ISOLATION LEVEL REPEATABLE READ;
SELECT seals();
SELECT encrypt_field('x') IS NOT NULL;
COMMIT;
SELECT seals();

-- In parallel workers: each is a session of its own. 1 + 2 + 4 + … > 1000.
CREATE TABLE plain AS SELECT n FROM generate_series(1, 1000) AS n;
ALTER TABLE plain SET (parallel_workers = 2);
SET parallel_setup_cost = 0;
SET parallel_tuple_cost = 0;
SET min_parallel_table_scan_size = 0;
SET parallel_leader_participation = off;
CALL set_seals(0);
SELECT count(*) FROM plain WHERE key_version(encrypt_field(n::text)) = 1;
SELECT seals_reserved BETWEEN 1000 AND 1999 AS counted FROM prism_crypt.key_status;
RESET ALL;

-- Keysets that take turns: each keeps its own block. A rotation drops all keys, and no block.
\c
SELECT prism_crypt.create_keyset('tenant');
CALL set_seals(0);
SELECT count(encrypt_field('x', keyset => CASE WHEN n % 2 = 0 THEN 'tenant' END)) FROM generate_series(1, 14) AS n;
SELECT seals();
SET prism_crypt.keyset = 'tenant';
INSERT INTO t (v) VALUES ('of the tenant');
RESET prism_crypt.keyset;
SELECT seals();
SELECT prism_crypt.create_keyset('other');
SELECT count(encrypt_field('x', keyset => 'tenant')) FROM generate_series(1, 7);
SELECT seals();
-- A key that is made and used in a transaction.
BEGIN;
SELECT prism_crypt.rotate_key('other');
SELECT count(encrypt_field('x', keyset => 'other')) FROM generate_series(1, 3);
SELECT seals();
SAVEPOINT s;
SELECT prism_crypt.rotate_key('other');
SELECT count(encrypt_field('x', keyset => 'other')) FROM generate_series(1, 3);
SELECT seals();
ROLLBACK TO s;
SELECT count(encrypt_field('x', keyset => 'other')) FROM generate_series(1, 4);
COMMIT;
SELECT seals();
-- What is re-encrypted counts for the new key.
DELETE FROM t;
INSERT INTO t (id, v) SELECT n, encrypt_field('x', keyset => 'tenant') FROM generate_series(1, 3) AS n;
SELECT prism_crypt.rotate_key('tenant') AS version \gset
SELECT seals();
CALL rotate_batch('t', 'v');
SELECT seals();
SELECT reencrypt_field(v) IS NOT NULL, seals() FROM t LIMIT 1;

-- The row moves, or is not there any more: it is found again; without one nothing is counted, and nothing fails.
CALL regress.fresh();
\c
CREATE FUNCTION seals() RETURNS text LANGUAGE sql AS $$
  SELECT string_agg(format('%s: %s', version, coalesce(seals_reserved::text, 'none')), ', ' ORDER BY version) FROM prism_crypt.key_status
$$;
CREATE FUNCTION status() RETURNS text LANGUAGE sql AS $$
  SELECT format('%s: %s', setting, CASE WHEN ok THEN 'ok' ELSE 'not ok' END) FROM prism_crypt.status() WHERE name = 'seals'
$$;
SELECT encrypt_field('x') IS NOT NULL, seals();
SELECT prism_crypt.create_keyset('tenant');
SELECT encrypt_field('x', keyset => 'tenant') IS NOT NULL, seals();
VACUUM FULL prism_crypt.data_key_usage;
SELECT encrypt_field('x') IS NOT NULL, seals();
CLUSTER prism_crypt.data_key_usage USING data_key_usage_pkey;
SELECT encrypt_field('x', keyset => 'tenant') IS NOT NULL, seals();
UPDATE prism_crypt.data_key_usage SET seals_reserved = 100 WHERE version = 1;
VACUUM FREEZE prism_crypt.data_key_usage;
SELECT count(encrypt_field('x')), seals() FROM generate_series(1, 2);
-- Its old place is another row's.
BEGIN;
DELETE FROM prism_crypt.data_key_usage;
INSERT INTO prism_crypt.data_key_usage VALUES (2, 200), (1, 300);
COMMIT;
VACUUM prism_crypt.data_key_usage;
SELECT count(encrypt_field('x')), seals() FROM generate_series(1, 8);
-- Its new place is rolled back, and what was counted there: one of the reasons to update no row by SQL.
BEGIN;
UPDATE prism_crypt.data_key_usage SET seals_reserved = 1000 WHERE version = 1;
SELECT count(encrypt_field('x')), seals() FROM generate_series(1, 16);
ROLLBACK;
SELECT count(encrypt_field('x')), seals() FROM generate_series(1, 32);
TRUNCATE prism_crypt.data_key_usage;
SELECT count(encrypt_field('x')), seals(), status() FROM generate_series(1, 64);
-- What was not counted is added as soon as there is a row.
INSERT INTO prism_crypt.data_key_usage (version) VALUES (1), (2);
SELECT count(encrypt_field('x')), seals(), status() FROM generate_series(1, 128);
-- A table that is not as it was installed counts nothing.
BEGIN;
ALTER EXTENSION prism_crypt DROP VIEW prism_crypt.key_status;
DROP VIEW prism_crypt.key_status;
ALTER TABLE prism_crypt.data_key_usage ALTER seals_reserved TYPE integer;
SELECT count(encrypt_field('x')), status() FROM generate_series(1, 10000);
ROLLBACK;
SELECT count(encrypt_field('x')) FROM generate_series(1, 10000);
SELECT seals_reserved BETWEEN 20000 AND 40000 AS added FROM prism_crypt.key_status WHERE version = 1;
-- Another extension, another key version 1: what is left of the old block is not for it.
CALL regress.fresh();
SELECT count(encrypt_field('x')) FROM generate_series(1, 3);
SELECT version, seals_reserved FROM prism_crypt.key_status;

-- At 2^31 a warning, once a session and key.
CREATE PROCEDURE set_seals(seals bigint) LANGUAGE sql AS $$ UPDATE prism_crypt.data_key_usage SET seals_reserved = seals $$;
CREATE FUNCTION status() RETURNS text LANGUAGE sql AS $$
  SELECT format('%s: %s', setting, CASE WHEN ok THEN 'ok' ELSE 'not ok' END) FROM prism_crypt.status() WHERE name = 'seals'
$$;
CREATE TABLE t (id int, v encrypted_text);
\c
CALL set_seals(2147483648 - 2);
SELECT status();
INSERT INTO t VALUES (1, 'x');
SELECT status();
INSERT INTO t VALUES (2, 'x');
INSERT INTO t SELECT n, encrypt_field('x') FROM generate_series(3, 20) AS n;
SELECT seals_reserved - 2147483648 AS above FROM prism_crypt.key_status;
SELECT status() ~ '^default: 2\d{9} of 4294967296: not ok$' AS status;
SELECT ok FROM prism_crypt.status() WHERE name = 'enabled';
SELECT prism_crypt.create_keyset('tenant');
CALL set_seals(2147483648);
SELECT count(encrypt_field('x', keyset => 'tenant')) FROM generate_series(1, 10);
-- Where it shows up in a COPY it does not show the row.
\c
COPY t (id, v) FROM STDIN;
23	not to be shown
\.

-- At 2^32 nothing more is sealed, to the last value. What is sealed stays readable.
\c
SET client_min_messages = error;
CALL set_seals(4294967296 - 3);
SELECT encrypt_field('x') IS NOT NULL, encrypt_field('x') IS NOT NULL, encrypt_field('x') IS NOT NULL;
RESET client_min_messages;
SELECT version, seals_reserved FROM prism_crypt.key_status WHERE version = 1;
CALL regress.fails($$SELECT encrypt_field('x')$$);
CALL regress.fails($$INSERT INTO t VALUES (100, 'x')$$);
CALL regress.fails('UPDATE t SET v = reencrypt_field(v)');
CALL regress.fails($$SELECT encrypt_bytes('x')$$);
\c
CALL regress.fails($$SELECT encrypt_field('x')$$);
SELECT count(decrypt_field(v)) FROM t;
BEGIN READ ONLY;
CALL regress.fails($$SELECT encrypt_field('x')$$);
COMMIT;
-- Superusers may lift it; the warning stays.
SET ROLE regress_prism_app;
SET prism_crypt.enforce_seal_limit = off;
RESET ROLE;
SET prism_crypt.enforce_seal_limit = off;
INSERT INTO t VALUES (21, 'x');
INSERT INTO t VALUES (22, 'x');
SELECT version, seals_reserved FROM prism_crypt.key_status WHERE version = 1;
RESET prism_crypt.enforce_seal_limit;
SELECT encrypt_field('of what is reserved') IS NOT NULL;
CALL regress.fails($$SELECT encrypt_field('x')$$);
-- No count is too high or too low to go on with.
SET client_min_messages = error;
SET prism_crypt.enforce_seal_limit = off;
CALL set_seals(9223372036854775807);
SELECT count(encrypt_field('x')) FROM generate_series(1, 10);
SELECT seals_reserved FROM prism_crypt.key_status WHERE version = 1;
RESET prism_crypt.enforce_seal_limit;
CALL regress.fails($$SELECT count(encrypt_field('x')) FROM generate_series(1, 10)$$);
CALL set_seals(-5);
SELECT encrypt_field('x') IS NOT NULL;
SELECT seals_reserved > 0 AS counted FROM prism_crypt.key_status WHERE version = 1;
RESET client_min_messages;
-- The next key has all of its values yet.
CALL set_seals(4294967296);
SELECT prism_crypt.rotate_key();
CALL rotate_batch('t', 'v');
SELECT key_version(v), count(decrypt_field(v)) FROM t GROUP BY 1;
SELECT version, seals_reserved FROM prism_crypt.key_status ORDER BY version;
-- A rotation ends where the new key is used up, and goes on with the next.
SELECT prism_crypt.rotate_key() AS version \gset
UPDATE prism_crypt.data_key_usage SET seals_reserved = 4294967296 - 5 WHERE version = :version;
CALL rotate_batch('t', 'v', 4);
SELECT count(*) AS left_behind FROM t WHERE key_version(v) <> :version;
SELECT prism_crypt.rotate_key();
CALL rotate_batch('t', 'v', 4);
SELECT key_version(v), count(decrypt_field(v)) FROM t GROUP BY 1;
