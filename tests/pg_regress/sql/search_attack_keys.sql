-- Searches while keys are disabled, destroyed, damaged or gone: right answers or errors that say why.
CALL regress.fresh();
\set SHOW_CONTEXT never
SELECT prism_crypt.create_keyset('other');
CREATE TABLE t (id int, v encrypted_text('searchable'), b encrypted_text, a encrypted_text[]);
INSERT INTO t SELECT n, 'u' || n, 'u' || n, ARRAY['u' || n] FROM generate_series(1, 5) AS n;
SET prism_crypt.keyset = 'other';
INSERT INTO t SELECT n, 'u' || n, 'u' || n, ARRAY['u' || n] FROM generate_series(11, 15) AS n;
RESET prism_crypt.keyset;
CREATE INDEX t_hash ON t USING hash (v);
CREATE UNIQUE INDEX t_unique ON t (v encrypted_text_unique_ops);
SET plan_cache_mode = force_generic_plan;
PREPARE literal AS SELECT id FROM t WHERE v = 'u1';
PREPARE parameter (text) AS SELECT id FROM t WHERE v = $1;
PREPARE untagged (text) AS SELECT id FROM t WHERE b = $1;
EXECUTE literal;
EXECUTE parameter ('u2');
EXECUTE untagged ('u3');
CREATE PROCEDURE ask(change text) LANGUAGE plpgsql AS $$
DECLARE
  q text;
BEGIN
  EXECUTE change;
  FOREACH q IN ARRAY ARRAY[
    'EXECUTE literal', 'EXECUTE parameter (''u2'')', 'SELECT count(*) FROM t AS x JOIN t AS y USING (v)',
    'SELECT id FROM t WHERE v = (SELECT v FROM t WHERE id = 3)', 'SELECT id FROM t WHERE b = ''u4''', 'SELECT count(*) FROM t AS x JOIN t AS y USING (b)',
    'SELECT id FROM t WHERE a = ARRAY[''u5'']::encrypted_text[]', 'INSERT INTO t (id, v) VALUES (6, ''u6'') RETURNING id',
    'INSERT INTO t (id, v) VALUES (7, ''u1'') RETURNING id', 'SELECT length(blind_index(''u1'', ''c''))', 'SELECT prism_crypt.rotate_key()'] LOOP
    DECLARE
      answer text; hint_ text;
    BEGIN
      EXECUTE q INTO answer;
      RAISE INFO '%: %', q, CASE WHEN q LIKE '%rotate_key%' THEN 'done' ELSE coalesce(answer, 'none') END;
    EXCEPTION WHEN OTHERS THEN
      GET STACKED DIAGNOSTICS hint_ = PG_EXCEPTION_HINT;
      RAISE INFO '%', format('%s: %s %s%s', q, SQLSTATE, SQLERRM, CASE WHEN hint_ = '' AND SQLSTATE <> '23505' THEN ' (no hint)' ELSE '' END);
    END;
  END LOOP;
  RAISE EXCEPTION 'undone';
EXCEPTION WHEN raise_exception THEN NULL;
END $$;
CALL ask('SELECT 1');

-- Disabled: tags are compared, nothing is opened.
SELECT prism_crypt.rotate_key() AS active \gset
CALL ask('SELECT prism_crypt.disable_key(1)');
-- Destroyed by force: the same.
CALL ask('SELECT set_config(''client_min_messages'', ''warning'', true), prism_crypt.destroy_key(1, ''test'', true)');
-- A whole keyset: values of others don't notice.
CALL ask('SELECT set_config(''client_min_messages'', ''warning'', true), prism_crypt.destroy_keyset(''other'', ''test'', true)');
CALL ask('SELECT set_config(''client_min_messages'', ''warning'', true), prism_crypt.destroy_keyset(''default'', ''test'', true)');

-- The index key of a keyset that is damaged, wrapped by another master key, or another keyset's.
CALL ask('UPDATE prism_crypt.index_key SET wrapped = set_byte(wrapped, 20, get_byte(wrapped, 20) # 1) WHERE keyset = ''default''');
CALL ask('UPDATE prism_crypt.index_key SET wrapped = ''\x01''');
CALL ask('UPDATE prism_crypt.index_key AS i SET wrapped = o.wrapped FROM prism_crypt.index_key AS o WHERE i.keyset = ''default'' AND o.keyset = ''other''');
CALL ask('UPDATE prism_crypt.index_key SET master_fingerprint = ''0000000000000000''');
CALL ask('UPDATE prism_crypt.index_key SET generation = 2 WHERE keyset = ''default''');
-- Rows that are gone. No other key comes in their place.
CALL ask('DELETE FROM prism_crypt.index_key');
CALL ask('DELETE FROM prism_crypt.index_key WHERE keyset = ''other''');
CALL ask('TRUNCATE prism_crypt.index_key');
CALL ask('DELETE FROM prism_crypt.data_key');
-- Rows that can't be.
\set VERBOSITY terse
UPDATE prism_crypt.index_key SET generation = 256;
UPDATE prism_crypt.index_key SET generation = 0;
UPDATE prism_crypt.index_key SET state = 'retired';
DROP TABLE prism_crypt.index_key;
\set VERBOSITY default
CALL ask('ALTER TABLE prism_crypt.index_key DROP CONSTRAINT index_key_generation_check; UPDATE prism_crypt.index_key SET generation = 256');
CALL ask('ALTER TABLE prism_crypt.index_key RENAME COLUMN wrapped TO w');
SELECT count(*) FROM prism_crypt.index_key WHERE state = 'active' AND generation = 1;
EXECUTE literal;

-- The last of 255 generations.
UPDATE prism_crypt.index_key AS i SET generation = 253, wrapped = w.wrapped FROM prism_crypt._wrap_new_index_key(253, 'default') AS w WHERE keyset = 'default';
SELECT prism_crypt._replace_index_key('default', 'test');
SELECT prism_crypt._replace_index_key('default', 'test');
EXECUTE literal;
SELECT id, get_byte(v::bytea, 19) AS generation FROM t WHERE v = 'u2';
UPDATE t SET v = reencrypt_field(v) WHERE id = 2;
SELECT id, get_byte(v::bytea, 19) AS generation FROM t WHERE v = 'u2';
EXECUTE parameter ('u2');
\set VERBOSITY terse
INSERT INTO t (id, v) VALUES (7, 'u1');
INSERT INTO t (id, v) VALUES (7, 'u2');
\set VERBOSITY default
CALL regress.fails('SELECT prism_crypt._replace_index_key(''default'', ''test'')');
EXECUTE parameter ('u2');
BEGIN;
SET LOCAL client_min_messages = warning;
SELECT prism_crypt.destroy_keyset('default', 'test', true);
RESET client_min_messages;
CALL regress.fails('SELECT prism_crypt.rotate_key()');
ROLLBACK;
EXECUTE literal;
