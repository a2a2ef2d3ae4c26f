-- Rows of keys that come and go by hand, or in a session that restores: indexes of another order are not trusted.
\set VERBOSITY default
CALL regress.fresh();
CREATE TABLE t (id int PRIMARY KEY, email encrypted_text('searchable'));
CREATE UNIQUE INDEX t_unique ON t (email encrypted_text_unique_ops);
CREATE TABLE other (email encrypted_text('searchable'));
CREATE INDEX other_hash ON other USING hash (email);
INSERT INTO t SELECT g, 'user' || g FROM generate_series(1, 200) AS g;
INSERT INTO other SELECT 'user' || g FROM generate_series(1, 200) AS g;
CREATE VIEW trusted AS
  SELECT i.indexrelid::regclass AS index, i.indisvalid FROM pg_index AS i WHERE i.indexrelid IN ('t_unique'::regclass, 'other_hash'::regclass) ORDER BY 1;
CREATE FUNCTION found() RETURNS bigint LANGUAGE sql AS $$
  SELECT (SELECT count(*) FROM generate_series(1, 200) AS g JOIN LATERAL (SELECT FROM t WHERE email = 'user' || g) AS t ON true)
       + (SELECT count(*) FROM generate_series(1, 200) AS g JOIN LATERAL (SELECT FROM other WHERE email = 'user' || g) AS t ON true)
$$;
-- The first line of the plan: the filter has a ciphertext.
CREATE FUNCTION plan() RETURNS text LANGUAGE plpgsql AS $$
DECLARE
  line text;
BEGIN
  EXECUTE 'EXPLAIN (COSTS OFF) EXECUTE look_up' INTO line;
  RETURN line;
END $$;
SET enable_seqscan = off;
CREATE TEMP TABLE kept_data AS SELECT * FROM prism_crypt.data_key;
CREATE TEMP TABLE kept AS SELECT * FROM prism_crypt.index_key;

-- Nothing has an old tag: nothing is wrong with the indexes.
BEGIN;
TRUNCATE prism_crypt.data_key, prism_crypt.index_key;
INSERT INTO prism_crypt.data_key SELECT * FROM kept_data;
INSERT INTO prism_crypt.index_key SELECT * FROM kept;
SELECT * FROM trusted;
SELECT found();
ROLLBACK;

-- Half of one table has.
SELECT prism_crypt._replace_index_key('default', NULL);
UPDATE t SET email = reencrypt_field(email);
UPDATE prism_crypt.index_key SET retagged_at = now() WHERE state = 'active';
UPDATE other SET email = reencrypt_field(email) WHERE ctid < '(0,50)';
SELECT * FROM trusted;
SELECT found();
CREATE TEMP TABLE kept_later AS SELECT * FROM prism_crypt.index_key;

-- Whatever the session is like.
\set BRING 'INSERT INTO prism_crypt.data_key SELECT * FROM kept_data; INSERT INTO prism_crypt.index_key SELECT * FROM kept_later;'
BEGIN;
SET LOCAL session_replication_role = replica;
TRUNCATE prism_crypt.data_key, prism_crypt.index_key;
SELECT * FROM trusted;
:BRING
SELECT * FROM trusted;
SELECT found();
SELECT setting FROM prism_crypt.status() WHERE name = 'invalid_indexes';
REINDEX INDEX other_hash;
SELECT * FROM trusted;
SELECT found();
ROLLBACK;

-- The keys go one after the other, and come in another order.
BEGIN;
DELETE FROM prism_crypt.data_key;
REINDEX INDEX other_hash;
DELETE FROM prism_crypt.index_key;
SELECT * FROM trusted;
INSERT INTO prism_crypt.index_key SELECT * FROM kept_later;
SELECT * FROM trusted;
INSERT INTO prism_crypt.data_key SELECT * FROM kept_data;
SELECT * FROM trusted;
SELECT found();
ROLLBACK;

-- An index key takes the place of another that was known.
BEGIN;
UPDATE prism_crypt.index_key SET state = 'destroyed' WHERE state = 'active';
INSERT INTO prism_crypt.index_key
SELECT k.keyset, 3, 'active', w.wrapped, w.master_fingerprint, '2020-01-01', 'x', now()
FROM kept AS k, prism_crypt._wrap_new_index_key(3, 'default') AS w;
SELECT * FROM trusted;
SELECT found();
REINDEX INDEX t_unique;
REINDEX INDEX other_hash;
SELECT * FROM trusted;
SELECT found();
ROLLBACK;

-- A plan that was made before asks no such index.
PREPARE look_up AS SELECT id FROM t WHERE email = 'user7';
SET plan_cache_mode = force_generic_plan;
EXECUTE look_up;
SELECT prism_crypt._distrust_indexes('{t_unique}');
SELECT plan();
EXECUTE look_up;
RESET plan_cache_mode;
REINDEX INDEX t_unique;
EXECUTE look_up;

-- In an ordinary session, rows of our own tables are as they always were.
INSERT INTO prism_crypt.keyset (name) VALUES ('default');
INSERT INTO prism_crypt.data_key SELECT * FROM kept_data;
DELETE FROM prism_crypt.audit_log WHERE event = 'rotate_key' RETURNING event;

DROP VIEW trusted;
DROP FUNCTION found(), plan();
DROP TABLE t, other;

-- Nor does anybody need more rights than the table's.
CREATE ROLE pruner;
GRANT USAGE ON SCHEMA prism_crypt TO pruner;
GRANT SELECT, DELETE ON prism_crypt.audit_log TO pruner;
SET ROLE pruner;
DELETE FROM prism_crypt.audit_log WHERE event = 'rotate_index_key' RETURNING event;
RESET ROLE;
DROP OWNED BY pruner;
DROP ROLE pruner;
