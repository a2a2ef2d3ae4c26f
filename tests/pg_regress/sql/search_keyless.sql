-- What works on searchable columns without any key: everything that compares stored values. With statistics as good as those of text.
CALL regress.fresh();
CREATE TABLE t (id int, v encrypted_text('email', 'searchable'), plain text, few encrypted_text('searchable'), few_plain text, loose encrypted_text);
INSERT INTO t SELECT n, v, v, f, f, v FROM (SELECT n, CASE WHEN n % 5 > 0 THEN 'v' || n END, 'f' || n % 7 FROM generate_series(1, 2000) AS n) AS r (n, v, f);
CREATE TABLE o (no int, v encrypted_text('email', 'searchable'), plain text);
INSERT INTO o SELECT n, 'v' || n % 300, 'v' || n % 300 FROM generate_series(1, 900) AS n;
CREATE TABLE later (id int, v encrypted_text('searchable'));
SELECT encrypted_text_out(v)::text AS stored FROM t WHERE id = 7 \gset
SET prism_crypt.master_key_env = '';
CALL regress.fails('SELECT v::text FROM t');
-- Indexes, and tables written anew.
CREATE INDEX t_hash ON t USING hash (v);
CREATE UNIQUE INDEX t_unique ON t (v encrypted_text_unique_ops);
CREATE UNIQUE INDEX CONCURRENTLY t_more ON t (few encrypted_text_unique_ops, id) INCLUDE (loose);
CREATE INDEX o_hash ON o USING hash (v);
ALTER TABLE later ADD EXCLUDE USING hash (v WITH =);
CREATE TABLE parted (id int, v encrypted_text('searchable')) PARTITION BY HASH (v);
CREATE TABLE parted_0 PARTITION OF parted FOR VALUES WITH (MODULUS 2, REMAINDER 0);
CREATE TABLE parted_1 PARTITION OF parted FOR VALUES WITH (MODULUS 2, REMAINDER 1);
INSERT INTO parted SELECT id, v FROM t;
INSERT INTO later SELECT id, v FROM t WHERE id % 2 = 0;
CALL regress.fails('INSERT INTO later SELECT id, v FROM t WHERE id = 2');
INSERT INTO later SELECT id, v FROM t WHERE id < 100 ON CONFLICT DO NOTHING;
CALL regress.fails('INSERT INTO t (id, v) SELECT 0, v FROM o WHERE no = 1');
INSERT INTO t (id, v) SELECT -no, v FROM o ON CONFLICT (v) DO NOTHING;
SELECT count(*) FROM t WHERE id < 0;
DELETE FROM t WHERE id < 0;
UPDATE t SET v = (SELECT v FROM t WHERE id = 7) WHERE id = 7;
REINDEX TABLE t;
REINDEX INDEX CONCURRENTLY t_unique;
CLUSTER t USING t_unique;
VACUUM (FULL, ANALYZE) t;
VACUUM ANALYZE o;
ALTER TABLE t ADD n int DEFAULT 1, ALTER id TYPE bigint;
SELECT count(*) FROM t, later, o WHERE false;
-- Statistics: as those of the same values in plaintext, but without any value.
SELECT attname, null_frac::numeric(5, 3), n_distinct::numeric(6, 3), avg_width > 16 AS wide, most_common_vals IS NULL AND histogram_bounds IS NULL AS no_values FROM pg_stats WHERE tablename IN ('t', 'o') AND attname IN ('v', 'plain', 'few', 'few_plain', 'loose') ORDER BY tablename, attname;
CREATE FUNCTION rows_of(query text) RETURNS text LANGUAGE plpgsql AS $$ DECLARE line text; BEGIN EXECUTE 'EXPLAIN ' || query INTO line; RETURN substring(line from 'rows=(\d+)'); END $$;
SELECT rows_of('SELECT FROM t WHERE v IS NULL') AS nulls, rows_of('SELECT FROM t WHERE plain IS NULL') AS nulls_plain, rows_of('SELECT FROM t WHERE v = (SELECT v FROM t LIMIT 1)') AS equal, rows_of('SELECT FROM t WHERE plain = (SELECT plain FROM t LIMIT 1)') AS equal_plain,
       rows_of('SELECT FROM t WHERE few = (SELECT few FROM t LIMIT 1)') AS few, rows_of('SELECT FROM t JOIN o USING (v)') AS "join", rows_of('SELECT FROM t JOIN o USING (plain)') AS join_plain, rows_of('SELECT few FROM t GROUP BY few') AS groups, rows_of('SELECT few_plain FROM t GROUP BY few_plain') AS groups_plain;
-- Comparisons of what is stored.
SELECT count(*), bool_and(t.plain = o.plain) FROM t JOIN o USING (v);
SET enable_hashjoin = off;
SET enable_seqscan = off;
SELECT count(*), bool_and(t.plain = o.plain) FROM t JOIN o USING (v);
RESET enable_hashjoin;
RESET enable_seqscan;
SELECT count(*) FROM t WHERE v IN (SELECT v FROM o) AND v NOT IN (SELECT v FROM o WHERE no < 10);
SELECT count(*) FROM (SELECT few, count(*) FROM t GROUP BY few) AS g;
SELECT count(*) FROM (SELECT v FROM o UNION SELECT v FROM t) AS u;
SELECT count(*) FROM (SELECT v FROM o EXCEPT ALL SELECT v FROM t) AS u;
SELECT count(*) FROM (SELECT DISTINCT ARRAY[v, few] FROM t) AS d;
SELECT count(*) FROM parted JOIN t USING (v);
SELECT id FROM t WHERE v = (SELECT v FROM t WHERE id = 7);
SELECT count(*) FROM t AS a JOIN t AS b ON a.v <> b.v WHERE a.id < 10 AND b.id < 10;
SELECT count(*) FROM t WHERE few IS DISTINCT FROM (SELECT few FROM t WHERE id = 7);
-- A stored value as a parameter or literal is as good.
PREPARE by_value(encrypted_text) AS SELECT id FROM t WHERE v = $1;
EXECUTE by_value(:'stored');
SELECT id FROM t WHERE v = :'stored';
DELETE FROM t WHERE v = :'stored' RETURNING id;
INSERT INTO t (id, v) VALUES (7, prism_crypt.load_envelope(:'stored')) RETURNING id;
CREATE TABLE copy AS TABLE t;
CREATE TABLE changed (LIKE t INCLUDING ALL);
INSERT INTO changed SELECT * FROM t WHERE id < 50;
CREATE MATERIALIZED VIEW stored AS SELECT v, count(*) AS n FROM o GROUP BY v;
CREATE UNIQUE INDEX ON stored (v encrypted_text_unique_ops);
\set VERBOSITY terse
REFRESH MATERIALIZED VIEW CONCURRENTLY stored;
\set VERBOSITY default
SELECT count(*), sum(n) FROM stored;
-- A foreign key, its checks and actions.
CREATE TABLE child (v encrypted_text('searchable'));
INSERT INTO child SELECT v FROM t WHERE id IN (1, 2, 3);
ALTER TABLE child ADD FOREIGN KEY (v) REFERENCES t (v) ON DELETE CASCADE;
DELETE FROM t WHERE id = 1;
SELECT count(*) FROM child;

-- What has to be sealed or opened does need one: a constant, a text, a value without a tag, a class or tag that is added.
CALL regress.fails($$SELECT id FROM t WHERE v = 'v7'$$);
CALL regress.fails($$SELECT id FROM t WHERE v = 'v7'::text$$);
CALL regress.fails($$SELECT id FROM t WHERE v = ANY (ARRAY['v7'])$$);
CALL regress.fails($$SELECT count(*) FROM t JOIN o ON t.v = o.plain$$);
CALL regress.fails($$SELECT count(*) FROM t JOIN o ON t.loose = o.v$$);
CALL regress.fails($$SELECT loose FROM t GROUP BY loose$$);
CALL regress.fails($$INSERT INTO t (id, v) VALUES (1, 'x')$$);
CALL regress.fails($$INSERT INTO t (id, v) SELECT 1, loose FROM t LIMIT 1$$);
CALL regress.fails($$INSERT INTO t (id, v) SELECT 1, few FROM t LIMIT 1$$);
CALL regress.fails($$SELECT blind_index('x', NULL)$$);
-- A wrong key is worth as much as none, and breaks nothing.
SET prism_crypt.master_key_env = 'PRISM_TEST_KEY_OTHER';
CALL regress.fails($$SELECT id FROM t WHERE v = 'v7'$$);
SELECT count(*) FROM t JOIN o USING (v);
RESET prism_crypt.master_key_env;
-- With the key again: nothing of what was built is wrong.
SET enable_seqscan = off;
SELECT id FROM t WHERE v = 'v7';
SELECT id FROM parted WHERE v = 'v7';
SELECT count(*) FROM generate_series(1, 2000) AS n (n) JOIN t ON t.v = 'v' || n.n;
SELECT count(*) FROM generate_series(1, 2000) AS n (n) JOIN later ON later.v = 'v' || n.n;
