-- prism_crypt.rotate_all(): every table of the database, and what it says of those that it can't rotate.
CALL regress.fresh();
\set SHOW_CONTEXT never
CALL prism_crypt.rotate_all();
CREATE TABLE a (id int, v encrypted_text);
CREATE TABLE b (id int, v encrypted_text, w encrypted_text[]);
CREATE TABLE parted (id int, v encrypted_text) PARTITION BY LIST (id);
CREATE TABLE parted_1 PARTITION OF parted FOR VALUES IN (1);
CREATE TABLE parted_2 PARTITION OF parted DEFAULT;
CREATE TABLE parent (id int);
CREATE TABLE child (v encrypted_text) INHERITS (parent);
CREATE TABLE bytes_only (b bytea);
CREATE TABLE empty (v encrypted_text);
CREATE TEMP TABLE temporary (v encrypted_text);
CREATE SCHEMA "Other";
CREATE TABLE "Other"."Odd" (v encrypted_text);
INSERT INTO a SELECT n, 'a' || n FROM generate_series(1, 5) AS n;
INSERT INTO b SELECT n, 'b' || n, ARRAY[encrypt_field('w')] FROM generate_series(1, 5) AS n;
INSERT INTO parted SELECT n, 'p' || n FROM generate_series(1, 3) AS n;
INSERT INTO child VALUES (1, 'c');
INSERT INTO bytes_only VALUES (encrypt_bytes('\x01'));
INSERT INTO temporary VALUES ('t');
INSERT INTO "Other"."Odd" VALUES ('o');
CREATE FUNCTION old_values() RETURNS TABLE (place text, old bigint) LANGUAGE sql AS $$
  SELECT regexp_replace(c.location, '^pg_temp_\d+', 'pg_temp'), sum(c.ciphertexts)::bigint FROM prism_crypt.census() AS c JOIN prism_crypt.key_status AS k ON k.version = c.key_version
  WHERE k.state <> 'active' AND c.kind IN ('table', 'partition', 'temporary table', 'materialized view') GROUP BY c.location ORDER BY c.location COLLATE "C"
$$;
SELECT prism_crypt.rotate_key() IS NOT NULL AS rotated;
SELECT * FROM old_values();
CALL prism_crypt.rotate_all();
-- Bytes have to be named, temporary tables are nobody else's.
SELECT * FROM old_values();
SELECT target, state, rows_done FROM prism_crypt.progress ORDER BY target COLLATE "C", id;
CALL prism_crypt.rotate_all();
SELECT sum(rows_done) FROM prism_crypt.progress;

-- In steps, as cron does it; one keyset, one version.
SELECT prism_crypt.rotate_key() IS NOT NULL AS rotated;
\set VERBOSITY terse
SET client_min_messages = warning;
CALL prism_crypt.rotate_all(batch_size => 2, max_batches => 3);
SELECT sum(old) FROM old_values();
CALL prism_crypt.rotate_all(batch_size => 2, max_batches => 3);
SELECT sum(old) FROM old_values();
CALL prism_crypt.rotate_all();
SELECT sum(old) FROM old_values();
SELECT state, count(*) FROM prism_crypt.progress GROUP BY 1 ORDER BY 1;
\set VERBOSITY default
SELECT prism_crypt.create_keyset('tenant') IS NOT NULL AS made;
UPDATE a SET v = encrypt_field(v::text, keyset => 'tenant') WHERE id < 3;
SELECT prism_crypt.rotate_key('tenant') IS NOT NULL, prism_crypt.rotate_key() AS active;
SELECT min(version) AS tenant_1 FROM prism_crypt.key_status WHERE keyset = 'tenant' \gset
CALL prism_crypt.rotate_all(keyset => 'tenant');
SELECT sum(old) FROM old_values();
CALL prism_crypt.rotate_all(from_version => :tenant_1);
RESET client_min_messages;

-- Materialized views and foreign tables are named; they are no error.
CREATE MATERIALIZED VIEW mv AS SELECT v FROM a;
CREATE MATERIALIZED VIEW "Other"."Mv %" AS SELECT w FROM b;
CREATE EXTENSION file_fdw;
CREATE SERVER files FOREIGN DATA WRAPPER file_fdw;
CREATE FOREIGN TABLE elsewhere (v encrypted_text) SERVER files OPTIONS (filename '/dev/null');
CREATE FOREIGN TABLE parted_far PARTITION OF parted FOR VALUES IN (77) SERVER files OPTIONS (filename '/dev/null');
CREATE FOREIGN TABLE other_foreign (x text) SERVER files OPTIONS (filename '/dev/null');
CALL prism_crypt.rotate_all();
SELECT * FROM old_values();
REFRESH MATERIALIZED VIEW mv;
CALL rotate_batch('elsewhere', 'v');
\echo :SQLSTATE
CALL rotate_batch('elsewhere');
\echo :SQLSTATE
CALL rotate_batch('parted_far', 'v');
\echo :SQLSTATE
SELECT prism_crypt.rotate_key() IS NOT NULL AS rotated;
CALL rotate_batch('parted');
CALL rotate_batch('parted', 'v');
SELECT * FROM old_values() WHERE place LIKE 'public.parted%';
CALL rotate_batch('mv');
\echo :SQLSTATE
DROP MATERIALIZED VIEW "Other"."Mv %";
DROP FOREIGN TABLE elsewhere, parted_far;

-- Tables that fail are passed by: no privilege, row-level security, a trigger, a lock.
SELECT prism_crypt.grant_access('regress_prism_rotator', 'rotate');
GRANT SELECT, UPDATE ON a, parted, parted_1, parted_2, empty, "Other"."Odd" TO regress_prism_rotator;
GRANT USAGE ON SCHEMA "Other" TO regress_prism_rotator;
ALTER TABLE empty ENABLE ROW LEVEL SECURITY;
CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'no % today', 'update' USING HINT = 'Come again.'; END $$;
CREATE TRIGGER refuse BEFORE UPDATE ON parted_2 FOR EACH ROW EXECUTE FUNCTION refuse();
SET ROLE regress_prism_rotator;
CALL prism_crypt.rotate_all();
\echo :SQLSTATE
RESET ROLE;
SELECT * FROM old_values();
DROP TRIGGER refuse ON parted_2;
SET client_min_messages = warning;
CALL prism_crypt.rotate_all();
RESET client_min_messages;
SELECT * FROM old_values();
SELECT state, count(*) FROM prism_crypt.progress WHERE state NOT IN ('finished') GROUP BY 1 ORDER BY 1;
-- A child of a foreign table is a table of its own here.
CREATE FOREIGN TABLE elsewhere (v encrypted_text) SERVER files OPTIONS (filename '/dev/null');
CREATE TABLE near () INHERITS (elsewhere);
CREATE TABLE nearer () INHERITS (near);
INSERT INTO near VALUES ('n');
INSERT INTO nearer VALUES ('n');
SELECT prism_crypt.rotate_key() IS NOT NULL AS rotated;
SET client_min_messages = error;
CALL prism_crypt.rotate_all();
RESET client_min_messages;
SELECT * FROM old_values() WHERE place LIKE 'public.near%';
SELECT target, state, rows_done FROM prism_crypt.progress WHERE target LIKE 'public.near%';
DROP TABLE near, nearer;
DROP SCHEMA "Other" CASCADE;
DROP EXTENSION file_fdw CASCADE;
