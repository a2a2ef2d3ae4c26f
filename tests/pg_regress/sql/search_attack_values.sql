-- Values that somebody damaged, forged or stored as they are: no wrong answer, no crash, an error that says what it is.
CALL regress.fresh();
\set SHOW_CONTEXT never
SELECT prism_crypt.create_keyset('other');
CREATE TABLE t (id int PRIMARY KEY, v encrypted_text('searchable'), plain text);
INSERT INTO t SELECT n, 'u' || n, 'u' || n FROM generate_series(1, 5) AS n;
CREATE INDEX t_hash ON t USING hash (v);
CREATE UNIQUE INDEX t_unique ON t (v encrypted_text_unique_ops);
-- Bytes: 0 format, 1 flags, 2 class, 3-6 key version, 7-18 nonce, 19 generation, 20-35 tag, then ciphertext.
CREATE FUNCTION changed(v encrypted_text, place int, byte int) RETURNS encrypted_text LANGUAGE sql AS $$ SELECT set_byte(v::bytea, place, byte)::encrypted_text $$;
CREATE FUNCTION flipped(v encrypted_text, place int, bits int) RETURNS encrypted_text LANGUAGE sql AS $$ SELECT set_byte(v::bytea, place, get_byte(v::bytea, place) # bits)::encrypted_text $$;

-- A tag of a generation that never was: the value is opened, and that fails.
CALL regress.fails('INSERT INTO t SELECT 10, changed(v, 19, 2) FROM t WHERE id = 1');
CALL regress.fails('INSERT INTO t SELECT 10, changed(v, 19, 0) FROM t WHERE id = 1');
CALL regress.fails('INSERT INTO t SELECT 10, changed(v, 19, 255) FROM t WHERE id = 1');
-- A copy of a tag with anything behind it counts as that value, and can't be opened.
\set VERBOSITY terse
INSERT INTO t SELECT 10, flipped(v, 40, 1) FROM t WHERE id = 1;
\set VERBOSITY default
-- Another tag: found by nobody, opened by nobody.
INSERT INTO t SELECT 11, flipped(v, 20, 1) FROM t WHERE id = 1;
SELECT id FROM t WHERE v = 'u1';
SELECT count(*) FROM t AS a JOIN t AS b USING (v);
CALL regress.fails('SELECT v::text FROM t WHERE id = 11');
DELETE FROM t WHERE id = 11;
-- A version that there is not, one of another keyset, and one that can't be.
INSERT INTO t SELECT 12, changed(flipped(v, 20, 1), 6, 77) FROM t WHERE id = 1;
INSERT INTO t SELECT 13, changed(flipped(v, 20, 2), 6, 2) FROM t WHERE id = 1;
CALL regress.fails('INSERT INTO t SELECT 14, changed(v, 6, 0) FROM t WHERE id = 1');
CALL regress.fails('INSERT INTO t SELECT 14, changed(v, 3, 255) FROM t WHERE id = 1');
SELECT id FROM t WHERE v = 'u1';
SELECT count(*) FROM (SELECT v FROM t GROUP BY v) AS x;
SET enable_indexscan = off;
SET enable_bitmapscan = off;
SELECT id FROM t WHERE v = 'u1';
SET prism_crypt.keyset = 'other';
SELECT id FROM t WHERE v = 'u1';
RESET prism_crypt.keyset;
RESET enable_indexscan;
RESET enable_bitmapscan;
-- No longer an envelope.
CALL regress.fails('INSERT INTO t SELECT 15, changed(v, 0, 2) FROM t WHERE id = 1');
CALL regress.fails('INSERT INTO t SELECT 15, changed(v, 1, 255) FROM t WHERE id = 1');
CALL regress.fails('INSERT INTO t SELECT 15, changed(v, 2, 99) FROM t WHERE id = 1');
CALL regress.fails('INSERT INTO t SELECT 15, substring(v::bytea, 1, 30)::encrypted_text FROM t WHERE id = 1');
CALL regress.fails('INSERT INTO t SELECT 15, ''''::bytea::encrypted_text');
-- Without a tag it does not come into a searchable column, but into others; there every comparison meets it.
CALL regress.fails('INSERT INTO t SELECT 16, changed(v, 1, 0) FROM t WHERE id = 1');
CREATE TABLE bare (id int, v encrypted_text);
INSERT INTO bare SELECT id, plain FROM t WHERE plain IS NOT NULL;
INSERT INTO bare SELECT 16, flipped(v, 36, 1) FROM bare WHERE id = 1;
INSERT INTO bare SELECT 17, changed(v, 6, 77) FROM bare WHERE id = 1;
CALL regress.fails('SELECT id FROM bare WHERE v = ''u2'' AND id <> 17');
CALL regress.fails('SELECT count(*) FROM (SELECT v FROM bare WHERE id <> 17 GROUP BY v) AS x');
CALL regress.fails('SELECT count(*) FROM (SELECT v FROM bare WHERE id <> 16 GROUP BY v) AS x');
SET client_min_messages = error;
CALL regress.fails('CREATE UNIQUE INDEX ON bare (v encrypted_text_unique_ops) WHERE id <> 17');
CALL regress.fails('CREATE INDEX ON bare USING hash (v) WHERE id <> 16');
RESET client_min_messages;
SELECT id FROM bare WHERE id < 16 AND v = 'u2';
-- What needs no value goes on.
ANALYZE t;
ANALYZE bare;
VACUUM t;
REINDEX TABLE t;
CLUSTER t USING t_pkey;
SELECT n_distinct FROM pg_stats WHERE tablename = 't' AND attname = 'v';

-- Wide ones: a hash index takes them, a unique one says that it does not.
CREATE TABLE wide (id int, v encrypted_text('searchable'));
INSERT INTO wide SELECT n, repeat(chr(64 + n), 3000000) FROM generate_series(1, 3) AS n;
INSERT INTO wide VALUES (4, ''), (5, NULL), (6, chr(1));
CREATE INDEX ON wide USING hash (v);
SET enable_seqscan = off;
SELECT id FROM wide WHERE v = repeat('B', 3000000);
SELECT id FROM wide WHERE v = repeat('B', 2999999);
SELECT id FROM wide WHERE v = '';
SELECT id FROM wide WHERE v = ANY (ARRAY[repeat('A', 3000000), repeat('C', 3000000), chr(1)]) ORDER BY 1;
RESET enable_seqscan;
SELECT count(*) FROM wide AS a JOIN wide AS b ON a.v = b.v;
CALL regress.fails('CREATE UNIQUE INDEX ON wide (v encrypted_text_unique_ops)');
CREATE TABLE narrow (v encrypted_text('searchable'));
CREATE UNIQUE INDEX ON narrow (v encrypted_text_unique_ops);
INSERT INTO narrow VALUES (repeat('x', 2600));
\set VERBOSITY terse
INSERT INTO narrow VALUES (repeat('y', 2800));
INSERT INTO narrow VALUES (repeat('x', 2600));
\set VERBOSITY default
SELECT length(blind_index(repeat('x', 10000000), repeat('c', 1000000), 256));
