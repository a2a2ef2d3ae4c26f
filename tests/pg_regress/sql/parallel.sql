-- Parallel workers unlock keys by themselves, and never share a nonce.
CALL regress.fresh();
\set SHOW_CONTEXT never
CREATE TABLE t (id int, v encrypted_text, p text);
INSERT INTO t SELECT n, encrypt_field('row ' || n), 'row ' || n FROM generate_series(1, 20000) AS n;
ANALYZE t;
SELECT set_config(CASE WHEN current_setting('server_version_num')::int >= 160000 THEN 'debug_parallel_query' ELSE 'force_parallel_mode' END, 'on', false);
SET parallel_setup_cost = 0;
SET parallel_tuple_cost = 0;
SET min_parallel_table_scan_size = 0;
SET max_parallel_workers_per_gather = 2;
SET parallel_leader_participation = off;
EXPLAIN (COSTS OFF) SELECT count(*) FROM t WHERE decrypt_field(v) = p;
EXPLAIN (COSTS OFF) SELECT count(*) FROM t WHERE key_version(encrypt_field(p)) = 1;
CREATE FUNCTION workers(q text) RETURNS boolean LANGUAGE plpgsql AS $$
DECLARE l text; BEGIN FOR l IN EXECUTE 'EXPLAIN (ANALYZE, COSTS OFF, TIMING OFF, SUMMARY OFF) ' || q LOOP IF l ~ 'Workers Launched: [12]' THEN RETURN true; END IF; END LOOP; RETURN false; END $$;
SELECT workers('SELECT count(*) FROM t WHERE decrypt_field(v) = p');

-- Opening.
SELECT count(*) FROM t WHERE decrypt_field(v) = p;
SELECT count(*) FROM t WHERE v::text = p;
SELECT count(*) FROM t WHERE v LIKE 'row 1%';
SELECT count(*), min(decrypt_field(v)), max(decrypt_field(v)) FROM t;
SELECT count(*) FROM t WHERE try_decrypt_field(v, 'wrong') IS NULL;
SELECT count(*) FROM t WHERE mask_field(v) = '****';
-- Sealing: every nonce is another one.
SELECT count(DISTINCT substr(encrypted_text_send(encrypt_field(p)), 8, 12)) FROM t;
SELECT count(DISTINCT substr(encrypted_text_send(p::encrypted_text), 8, 12)) FROM t;
SELECT count(DISTINCT substr(encrypt_bytes(p::bytea), 8, 12)) FROM t;
SELECT count(*) FROM t WHERE decrypt_field(encrypt_field(p, p), p) = p;
SELECT prism_crypt.rotate_key();
SELECT count(*), count(DISTINCT substr(encrypted_text_send(r), 8, 12)) FROM (SELECT reencrypt_field(v) AS r, p FROM t OFFSET 0) AS s WHERE decrypt_field(r) = p AND key_version(r) = 2;

-- Errors of a worker arrive as they are.
SELECT count(decrypt_field(v, 'wrong')) FROM t WHERE id = 1;
\echo :SQLSTATE
SELECT prism_crypt.disable_key(1);
SELECT count(decrypt_field(v)) FROM t;
SELECT prism_crypt.enable_key(1);
-- Workers see what their leader's transaction did, before it is committed.
BEGIN;
SELECT prism_crypt.rotate_key();
INSERT INTO t SELECT n, encrypt_field('row ' || n), 'row ' || n FROM generate_series(20001, 21000) AS n;
SELECT count(*), max(key_version(v)) FROM t WHERE decrypt_field(v) = p;
SELECT key_version(encrypt_field(p)), count(*) FROM t GROUP BY 1;
ROLLBACK;
SELECT count(*), max(key_version(v)) FROM t WHERE decrypt_field(v) = p;

-- Settings of the session go along: the inline key, the keyset, the output mode, the role.
SELECT set_config('prism_crypt.master_key', regress.master_key('tenant'), false);
SELECT prism_crypt.create_keyset('tenant') AS version \gset
SET prism_crypt.keyset = 'tenant';
SELECT key_version(encrypt_field(p)) = :version AS tenant, count(*) FROM t GROUP BY 1;
SELECT count(decrypt_field(v)) FROM t;
BEGIN;
SET LOCAL prism_crypt.master_key = '';
SELECT count(*) FROM t WHERE decrypt_field(v) = p;
COMMIT;
RESET prism_crypt.master_key;
RESET prism_crypt.keyset;
SELECT prism_crypt.grant_access('regress_prism_reader', 'decrypt');
GRANT SELECT ON t TO PUBLIC;
SET prism_crypt.output = 'plaintext';
SET ROLE regress_prism_reader;
SELECT count(*) FROM t WHERE format('%s', v) = p;
SELECT count(*) FROM t WHERE decrypt_field(v) = p;
SET ROLE regress_prism_app;
SELECT count(*) FROM t WHERE format('%s', v) ~ '^prism:v1:';
SELECT count(*) FROM t WHERE decrypt_field(v) = p;
RESET ROLE;
RESET prism_crypt.output;
