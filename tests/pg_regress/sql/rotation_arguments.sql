-- What rotate_batch() refuses, before anything is changed.
CALL regress.fresh();
\set SHOW_CONTEXT never
CREATE TABLE t (id int PRIMARY KEY, v encrypted_text, e encrypted_text('email'));
INSERT INTO t SELECT n, 'value ' || n, NULL FROM generate_series(1, 10) AS n;
CREATE VIEW versions AS SELECT key_version(v) AS v, key_version(e) AS e, count(*) FROM t GROUP BY 1, 2;
SELECT prism_crypt.create_keyset('tenant'), prism_crypt.rotate_key();

-- Limits.
CALL rotate_batch('t', 'v', 0);
\echo :SQLSTATE
CALL rotate_batch('t', 'v', -1);
\echo :SQLSTATE
CALL rotate_batch('t', 'v', NULL);
\echo :SQLSTATE
CALL rotate_batch('t', 'v', 2147483648);
\echo :SQLSTATE
CALL rotate_batch('t', 'v', pause => '-1 s');
\echo :SQLSTATE
CALL rotate_batch('t', 'v', max_rows_per_second => 0);
\echo :SQLSTATE
CALL rotate_batch('t', 'v', max_rows_per_second => -5);
\echo :SQLSTATE
CALL rotate_batch('t', 'v', max_rows_per_second => 'NaN');
\echo :SQLSTATE
CALL rotate_batch('t', 'v', max_replica_lag => -1);
\echo :SQLSTATE
CALL rotate_batch('t', 'v', max_batches => 0);
\echo :SQLSTATE
CALL rotate_batch('t', 'v', max_batches => -1);
\echo :SQLSTATE
CALL rotate_batch('t', 'v', fire_triggers => NULL);
\echo :SQLSTATE
CALL prism_crypt.rotate_all(batch_size => 0);
\echo :SQLSTATE
CALL prism_crypt.rotate_all(pause => '-1 s');
\echo :SQLSTATE
CALL prism_crypt.rotate_all(max_batches => 0);
\echo :SQLSTATE
CALL prism_crypt.rotate_all(fire_triggers => NULL);
\echo :SQLSTATE

-- Versions and keysets.
CALL rotate_batch('t', 'v', from_version => 99);
\echo :SQLSTATE
CALL rotate_batch('t', 'v', from_version => 0);
\echo :SQLSTATE
CALL rotate_batch('t', 'v', from_version => -1);
\echo :SQLSTATE
CALL rotate_batch('t', 'v', from_version => 3);
\echo :SQLSTATE
CALL rotate_batch('t', 'v', from_version => 2);
\echo :SQLSTATE
CALL rotate_batch('t', 'v', keyset => 'nobody');
\echo :SQLSTATE
CALL rotate_batch('t', 'v', keyset => '');
\echo :SQLSTATE
CALL prism_crypt.rotate_all(from_version => 99);
\echo :SQLSTATE
CALL prism_crypt.rotate_all(from_version => 3);
\echo :SQLSTATE
CALL prism_crypt.rotate_all(keyset => 'nobody');
\echo :SQLSTATE

-- Relations and columns.
CALL rotate_batch(NULL);
\echo :SQLSTATE
CALL rotate_batch(NULL, 'v');
\echo :SQLSTATE
CALL rotate_batch('nobody', 'v');
\echo :SQLSTATE
DO $$ BEGIN CALL rotate_batch('no_schema.t', 'v'); EXCEPTION WHEN undefined_table OR invalid_schema_name THEN RAISE INFO 'not found'; END $$;
CALL rotate_batch(1, 'v');
\echo :SQLSTATE
CALL rotate_batch(1);
\echo :SQLSTATE
CALL rotate_batch(0);
\echo :SQLSTATE
CALL rotate_batch('t', 'nobody');
\echo :SQLSTATE
CALL rotate_batch('t', '');
\echo :SQLSTATE
CALL rotate_batch('t', 'V');
\echo :SQLSTATE
CALL rotate_batch('t', 'id');
\echo :SQLSTATE
CALL rotate_batch('t', 'ctid');
\echo :SQLSTATE
CALL rotate_batch('versions', 'v');
\echo :SQLSTATE
CALL rotate_batch('versions');
\echo :SQLSTATE
CALL rotate_batch('t_pkey', 'id');
\echo :SQLSTATE
CALL rotate_batch('pg_class', 'relname');
\echo :SQLSTATE
CALL rotate_batch('pg_class');
\echo :SQLSTATE
CALL rotate_batch('prism_crypt.data_key', 'wrapped');
\echo :SQLSTATE
CALL rotate_batch('information_schema.sql_features');
\echo :SQLSTATE
CREATE SEQUENCE seq;
CALL rotate_batch('seq', 'last_value');
\echo :SQLSTATE
CREATE TYPE composite AS (v encrypted_text);
CALL rotate_batch('composite', 'v');
\echo :SQLSTATE
ALTER TABLE t ADD gone encrypted_text;
ALTER TABLE t DROP gone;
CALL rotate_batch('t', 'gone');
\echo :SQLSTATE
CALL rotate_batch('t', '........pg.dropped.4........');
\echo :SQLSTATE
CREATE MATERIALIZED VIEW mv AS SELECT v FROM t;
CALL rotate_batch('mv', 'v');
\echo :SQLSTATE
CREATE TEMP TABLE temporary (v encrypted_text);
CALL rotate_batch('temporary', 'v');
\echo :SQLSTATE
CALL rotate_batch('temporary');
\echo :SQLSTATE
SELECT reltoastrelid AS toast FROM pg_class WHERE oid = 't'::regclass \gset
\set VERBOSITY sqlstate
CALL rotate_batch(:toast::regclass, 'chunk_data');
\set VERBOSITY default
CREATE TABLE others (a int, j jsonb, x text, i int[], b bytea);
CALL rotate_batch('others');
\echo :SQLSTATE
CALL rotate_batch('others', 'j');
\echo :SQLSTATE
CALL rotate_batch('others', 'x');
\echo :SQLSTATE
CALL rotate_batch('others', 'i');
\echo :SQLSTATE
-- Only a column that is generated.
CREATE FUNCTION sealed(text) RETURNS encrypted_text LANGUAGE sql IMMUTABLE AS $$ SELECT NULL::encrypted_text $$;
CREATE TABLE generated (x text, v encrypted_text GENERATED ALWAYS AS (sealed(x)) STORED);
CALL rotate_batch('generated', 'v');
\echo :SQLSTATE
CALL rotate_batch('generated');
\echo :SQLSTATE

-- A key version column.
CREATE TABLE kv (v encrypted_text, n int, big bigint, small smallint, x text, g int GENERATED ALWAYS AS (key_version(v)) STORED, a encrypted_text[]);
CALL rotate_batch('kv', 'v', key_version_column => 'nobody');
\echo :SQLSTATE
CALL rotate_batch('kv', 'v', key_version_column => 'x');
\echo :SQLSTATE
CALL rotate_batch('kv', 'v', key_version_column => 'small');
\echo :SQLSTATE
CALL rotate_batch('kv', 'v', key_version_column => 'v');
\echo :SQLSTATE
CALL rotate_batch('kv', 'v', key_version_column => 'ctid');
\echo :SQLSTATE
CALL rotate_batch('kv', key_version_column => 'n');
\echo :SQLSTATE
CALL rotate_batch('kv', 'a', key_version_column => 'n');
\echo :SQLSTATE
INSERT INTO kv SELECT encrypt_field('x'), 3;
SELECT prism_crypt.rotate_key();
CALL rotate_batch('kv', 'v', key_version_column => 'g');
\echo :SQLSTATE

-- Where it can't commit.
BEGIN;
CALL rotate_batch('t', 'v');
\echo :SQLSTATE
ROLLBACK;
BEGIN;
CALL prism_crypt.rotate_all();
\echo :SQLSTATE
ROLLBACK;
CREATE FUNCTION in_function() RETURNS void LANGUAGE plpgsql AS $$ BEGIN CALL rotate_batch('t', 'v'); END $$;
SELECT in_function();
\echo :SQLSTATE
CREATE FUNCTION all_in_function() RETURNS void LANGUAGE plpgsql AS $$ BEGIN CALL prism_crypt.rotate_all(); END $$;
SELECT all_in_function();
CREATE PROCEDURE as_definer() LANGUAGE plpgsql SECURITY DEFINER AS $$ BEGIN CALL rotate_batch('t', 'v'); END $$;
CALL as_definer();
\echo :SQLSTATE
CREATE PROCEDURE with_setting() LANGUAGE plpgsql SET work_mem = '8MB' AS $$ BEGIN CALL rotate_batch('t', 'v'); END $$;
CALL with_setting();
\echo :SQLSTATE
DO $$ BEGIN CALL rotate_batch('t', 'v'); EXCEPTION WHEN active_sql_transaction THEN RAISE INFO 'refused'; END $$;
CALL rotate_batch('t', 'v') \; SELECT 1 AS other_statement;
\echo :SQLSTATE
SET default_transaction_read_only = on;
CALL rotate_batch('t', 'v');
\echo :SQLSTATE
RESET default_transaction_read_only;

-- None of them changed anything, or left a job that could be joined.
SELECT v, count(*) FROM versions GROUP BY 1 ORDER BY 1;
SELECT target, state FROM prism_crypt.progress ORDER BY 1, 2;
