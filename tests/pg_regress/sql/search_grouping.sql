-- Grouping by values: always by hash, never by an order, which they don't have.
CALL regress.fresh();
CALL regress.shadows();
SET search_path = tagged, public;
SELECT regress.plan('SELECT email, count(*) FROM orders GROUP BY email');
SELECT regress.plan('SELECT DISTINCT email FROM orders');
SELECT regress.plan('SELECT email FROM users UNION SELECT email FROM orders');
SELECT regress.plan('SELECT email FROM users INTERSECT SELECT email FROM orders') LIMIT 1;
SELECT regress.plan('SELECT email FROM users EXCEPT ALL SELECT email FROM orders') LIMIT 1;
SELECT regress.plan('SELECT * FROM users JOIN orders USING (email)');
-- Where sorting is wanted: the same, as nothing can be sorted.
SET enable_hashagg = off;
SET enable_hashjoin = off;
SELECT regress.plan('SELECT email, count(*) FROM orders GROUP BY email');
SELECT regress.plan('SELECT DISTINCT email FROM orders');
SELECT regress.plan('SELECT email FROM users UNION SELECT email FROM orders') LIMIT 1;
SELECT regress.plan('SELECT email FROM users EXCEPT ALL SELECT email FROM orders') LIMIT 1;
SELECT regress.plan('SELECT * FROM users JOIN orders USING (email)');
SELECT regress.plan('SELECT email, other, count(*) FROM orders GROUP BY email, other');
-- A full join has no other way than a hash.
SELECT regress.plan('SELECT * FROM users FULL JOIN orders USING (email)') LIMIT 1;
-- Nor does a btree index, which is there for uniqueness, give an order.
CREATE UNIQUE INDEX users_unique ON users (email encrypted_text_unique_ops);
DROP INDEX users_email;
SET enable_seqscan = off;
SET enable_nestloop = off;
SELECT regress.plan('SELECT DISTINCT email FROM users');
SELECT regress.plan('SELECT email, count(*) FROM users GROUP BY email');
SELECT regress.plan('SELECT u.id FROM users AS u JOIN users AS v ON u.email = v.email');
SELECT regress.plan('SELECT id FROM users WHERE email IS NULL');
RESET ALL;

-- Answers.
SELECT regress.same('SELECT count(*) AS n, min(o.other) AS email FROM orders AS o GROUP BY email');
SELECT regress.same('SELECT count(*) AS n, min(o.other) AS email FROM orders AS o GROUP BY email, other HAVING count(*) > 2');
SELECT regress.same($$SELECT count(*) AS n FROM orders AS o GROUP BY email HAVING email = 'u7@x.org' OR email IS NULL$$);
SELECT regress.same($$SELECT count(*) AS n FROM orders AS o GROUP BY email = 'u7@x.org', email IS NULL$$);
SELECT regress.same('SELECT count(*) FROM (SELECT DISTINCT email FROM orders) AS d');
SELECT regress.same('SELECT count(*), count(email) FROM (SELECT DISTINCT email, no % 2 FROM orders) AS d');
SELECT regress.same('SELECT count(*), count(email) FROM (SELECT email FROM users UNION SELECT email FROM orders) AS d');
SELECT regress.same('SELECT count(*), count(email) FROM (SELECT email FROM users UNION ALL SELECT email FROM orders) AS d');
SELECT regress.same('SELECT count(*), count(email) FROM (SELECT email FROM users INTERSECT SELECT email FROM orders) AS d');
SELECT regress.same('SELECT count(*), count(email) FROM (SELECT email FROM orders INTERSECT ALL SELECT email FROM orders WHERE no > 10) AS d');
SELECT regress.same('SELECT count(*), count(email) FROM (SELECT email FROM users EXCEPT SELECT email FROM orders) AS d');
SELECT regress.same('SELECT count(*), count(email) FROM (SELECT email FROM orders EXCEPT ALL SELECT email FROM users) AS d');
SELECT regress.same('SELECT email::text, id, no FROM users FULL JOIN orders USING (email) WHERE id > 20 OR no > 25');
SELECT regress.same('SELECT count(*) AS n FROM users LEFT JOIN orders USING (email) WHERE no IS NULL');
SELECT regress.same('SELECT count(*) AS n, grouping(email) AS g, min(other) AS email FROM orders GROUP BY GROUPING SETS ((email), ())');
SELECT regress.same('SELECT count(*) AS n, grouping(email, no % 2) AS g, min(other) AS email FROM orders WHERE no < 9 GROUP BY CUBE (email, no % 2)');
SELECT regress.same($$WITH RECURSIVE r AS (SELECT email, 1 AS n FROM orders UNION SELECT email, 1 FROM r) SELECT count(*) FROM r$$);
-- A literal belongs to the others.
SELECT regress.same($$SELECT count(*), count(email) FROM (SELECT email FROM users WHERE id < 9 UNION SELECT 'u1@x.org' UNION SELECT NULL) AS d$$);
-- A text makes it a union of texts: decrypted, as an implicit cast does it.
SELECT pg_typeof(email), count(*) FROM (SELECT email FROM tagged.users UNION SELECT other FROM tagged.orders) AS u GROUP BY 1;

-- Spilled to disk.
CREATE TABLE many (id int, email encrypted_text('searchable'), plain text);
INSERT INTO many SELECT n, n % 5000, n % 5000 FROM generate_series(1, 20000) AS n;
ANALYZE many;
SET work_mem = '64kB';
SELECT count(*), sum(n), count(DISTINCT n) FROM (SELECT count(*) AS n FROM many GROUP BY email) AS g;
SELECT count(*), bool_and(a.plain = b.plain) FROM many AS a JOIN many AS b USING (email) WHERE b.id <= 10000;
SELECT count(*) FROM (SELECT email FROM many INTERSECT SELECT email FROM many WHERE id > 16000) AS i;
RESET work_mem;
-- In parallel.
SET parallel_setup_cost = 0;
SET parallel_tuple_cost = 0;
SET min_parallel_table_scan_size = 0;
SET max_parallel_workers_per_gather = 2;
SELECT regress.plan('SELECT count(*) FROM many AS a JOIN many AS b USING (email)');
SELECT count(*), bool_and(a.plain = b.plain) FROM many AS a JOIN many AS b USING (email);
SELECT regress.plan('SELECT email, count(*) FROM many GROUP BY email');
SELECT count(*), sum(n) FROM (SELECT count(*) AS n FROM many GROUP BY email) AS g;
SELECT regress.plan($$SELECT count(*) FROM many WHERE email = '77'::text$$);
SELECT count(*) FROM many WHERE email = '77'::text;
SELECT count(*) FROM many WHERE email = ANY (ARRAY['77', '78']);
RESET ALL;

-- What PostgreSQL does by sorting gives the answers of text.
SELECT regress.same('SELECT count(DISTINCT email) FROM users');
SELECT regress.same('SELECT count(DISTINCT email) AS n, array_agg(DISTINCT no % 2) AS nos FROM orders GROUP BY no % 3');
SELECT regress.same('SELECT no, count(*) OVER (PARTITION BY email) AS n, min(no) OVER (PARTITION BY email, no % 2) AS no FROM orders');
SELECT regress.same('SELECT count(DISTINCT no) AS n, string_agg(no::text, '' '' ORDER BY no) AS nos FROM orders GROUP BY email');
SELECT regress.same('SELECT no % 2 AS two, count(*) AS n FROM orders GROUP BY GROUPING SETS ((email), (email, no % 2), (no % 2), ())');
SELECT regress.same('SELECT count(*) FROM (SELECT DISTINCT ARRAY[email], ROW(email) FROM orders) AS d');
SET enable_hashagg = off;
SELECT regress.same('SELECT count(*) FROM (SELECT email FROM users INTERSECT SELECT email FROM orders) AS i');
SELECT regress.same('SELECT count(*) FROM (SELECT DISTINCT email, no % 2 FROM orders) AS d');
RESET enable_hashagg;
-- What wants an order: errors that say what to do.
SET search_path = tagged, public;
SELECT email FROM users ORDER BY email;
SELECT email FROM users ORDER BY 1 DESC;
SELECT * FROM users ORDER BY id, email;
SELECT array_agg(id ORDER BY email) FROM users;
SELECT row_number() OVER (ORDER BY email) FROM users;
SELECT mode() WITHIN GROUP (ORDER BY email) FROM users;
SELECT * FROM users WHERE email < 'u';
CALL regress.fails($$SELECT * FROM users WHERE email <= 'u'::text$$);
CALL regress.fails($$SELECT * FROM users WHERE 'u'::varchar > email$$);
CALL regress.fails($$SELECT * FROM users WHERE email >= other$$);
CALL regress.fails($$SELECT * FROM users WHERE email BETWEEN 'a' AND 'z'$$);
CALL regress.fails($$SELECT * FROM users WHERE email < ANY (ARRAY['u'])$$);
CALL regress.fails($$SELECT email < 'u' FROM users WHERE false$$);
CALL regress.fails($$SELECT email > encrypt_field('u') FROM users$$);
-- PostgreSQL's own.
CALL regress.fails($$SELECT * FROM users WHERE (email, id) < ('u', 1)$$);
CALL regress.fails('SELECT * FROM users ORDER BY email USING <');
CALL regress.fails($$SELECT greatest(email, 'u') FROM users$$);
CALL regress.fails('SELECT array_agg(email ORDER BY ARRAY[email]) FROM users');
CALL regress.fails('SELECT least(email, email) FROM users');
CALL regress.fails('SELECT ROW(email) < ROW(email) FROM users');
CALL regress.fails('SELECT ARRAY[email] >= ARRAY[email] FROM users');
CALL regress.fails('SELECT users < ANY (ARRAY[users]) FROM users');
CALL regress.fails('SELECT max(ARRAY[email]) FROM users');
CALL regress.fails('SELECT min(ARRAY[email]) OVER () FROM users');
CALL regress.fails('SELECT width_bucket(email, ARRAY[email]) FROM users');
CALL regress.fails('SELECT id FROM users ORDER BY users');
CALL regress.fails('SELECT id FROM users ORDER BY (email, id)');
CALL regress.fails('SELECT id FROM users ORDER BY ROW(id, ROW(email))');
CALL regress.fails('SELECT id FROM users ORDER BY ARRAY[(email, id)]');
-- Rows without a type of their own, wherever they come from.
CALL regress.fails('SELECT u FROM (SELECT email, id FROM users) u ORDER BY u');
CALL regress.fails('WITH u AS (SELECT email, id FROM users) SELECT u FROM u ORDER BY u DESC');
CALL regress.fails('WITH u AS (SELECT email, id FROM users) SELECT (SELECT id FROM u ORDER BY u LIMIT 1)');
CALL regress.fails('SELECT r FROM (SELECT ROW(email, id) AS r FROM users) q ORDER BY r');
CALL regress.fails('SELECT DISTINCT u FROM (SELECT email, id FROM users) u ORDER BY u');
CALL regress.fails('SELECT array_agg(u ORDER BY u) FROM (SELECT email, id FROM users) u');
CALL regress.fails('SELECT rank() OVER (ORDER BY u) FROM (SELECT email, id FROM users) u');
CALL regress.fails('SELECT u < v FROM (SELECT email, id FROM users) u, (SELECT email, id FROM users) v');
CALL regress.fails('SELECT greatest(u, v) FROM (SELECT email, id FROM users) u, (SELECT email, id FROM users) v');
CALL regress.fails('SELECT x FROM (VALUES ((SELECT email FROM users LIMIT 1), 1)) x ORDER BY x');
CALL regress.fails('SELECT j FROM (users AS a JOIN users AS b USING (id)) j ORDER BY j');
CALL regress.fails('SELECT f FROM json_to_record(''{}'') AS f(email encrypted_text, id int) ORDER BY f');
CALL regress.fails('SELECT array_agg(u) FROM (SELECT email, id FROM users) u GROUP BY id ORDER BY 1');
SELECT count(*) FROM (SELECT DISTINCT u FROM (SELECT email FROM users) u) d;
SELECT u FROM (SELECT id, id % 2 FROM users WHERE id < 4) u ORDER BY u DESC;
CALL regress.fails('SELECT (SELECT id FROM users ORDER BY email LIMIT 1)');
CALL regress.fails('WITH u AS (SELECT * FROM users ORDER BY email LIMIT 2) SELECT count(*) FROM u');
CALL regress.fails('SELECT id FROM users UNION ALL (SELECT id FROM users ORDER BY email LIMIT 1)');
CALL regress.fails('SELECT rank() OVER w FROM users WINDOW w AS (PARTITION BY id ORDER BY email)');
CALL regress.fails('CREATE VIEW sorted AS SELECT * FROM users ORDER BY email');
CALL regress.fails('CREATE TABLE sorted AS SELECT * FROM users ORDER BY email');
CALL regress.fails('DECLARE sorted CURSOR FOR SELECT * FROM users ORDER BY email');
CALL regress.fails('PREPARE sorted AS SELECT * FROM users ORDER BY email');
CALL regress.fails($$CREATE FUNCTION sorted() RETURNS SETOF int LANGUAGE sql AS 'SELECT id FROM tagged.users ORDER BY email'$$);
CREATE FUNCTION sorted() RETURNS SETOF int LANGUAGE sql STABLE BEGIN ATOMIC SELECT id FROM tagged.users ORDER BY email; END;
CALL regress.fails('SELECT * FROM sorted()');
CALL regress.fails('SELECT sorted()');
-- One that calls itself.
CREATE TABLE tree (id int, parent int);
INSERT INTO tree VALUES (1, NULL), (2, 1), (3, 1), (4, 3);
CREATE FUNCTION below(int) RETURNS SETOF int LANGUAGE sql BEGIN ATOMIC SELECT 1; END;
CREATE OR REPLACE FUNCTION below(int) RETURNS SETOF int LANGUAGE sql BEGIN ATOMIC
  SELECT id FROM tagged.tree WHERE parent = $1 UNION ALL SELECT x FROM tagged.tree AS t, below(t.id) AS x WHERE t.parent = $1; END;
SELECT id FROM below(1) AS id ORDER BY id;
CREATE FUNCTION first_id() RETURNS int LANGUAGE plpgsql AS 'BEGIN RETURN (SELECT id FROM tagged.users ORDER BY email LIMIT 1); END';
CALL regress.fails('SELECT first_id()');
CREATE TABLE ranked (email encrypted_text CHECK (greatest(email, email) IS NOT NULL));
CALL regress.fails($$INSERT INTO ranked VALUES ('u')$$);
CALL regress.fails('SELECT email OPERATOR(prism_crypt.#<#) email FROM users');
CALL regress.fails('SELECT id FROM users ORDER BY email USING OPERATOR(prism_crypt.#>#)');
CALL regress.fails('SELECT id FROM users WHERE email OPERATOR(prism_crypt.#<#) ANY (ARRAY[email])');
CALL regress.fails('SELECT id FROM users WHERE (email, email) OPERATOR(prism_crypt.#<#) (email, email)');
CALL regress.fails('CREATE TABLE ranges (email encrypted_text) PARTITION BY RANGE (email)');
CALL regress.fails('CREATE TABLE ranges (id int, email encrypted_text) PARTITION BY RANGE (id, email encrypted_text_unique_ops)');
CALL regress.fails('CREATE TABLE ranges (id int, emails encrypted_text[]) PARTITION BY RANGE (emails)');
-- What they say to do. min() and max() go through the implicit cast to text.
SELECT regress.same('SELECT array_agg(id ORDER BY email::text) AS ids FROM users WHERE id < 12');
SELECT regress.same('SELECT min(email), max(email) FROM users');
SELECT regress.same($$SELECT id FROM users WHERE email::text < 'u2'$$);
SELECT regress.same('SELECT count(email) FROM (SELECT DISTINCT email FROM orders) AS d');
-- DISTINCT ON without an order takes any row of a group, and so can hash.
SELECT regress.same('SELECT count(*) FROM (SELECT DISTINCT ON (email) no FROM orders) AS d');
CALL regress.fails('SELECT DISTINCT ON (email) no FROM orders ORDER BY email, no');
SELECT DISTINCT ON (email) no FROM orders ORDER BY email, no;
SELECT regress.same('SELECT count(DISTINCT email::text) FROM orders');
SELECT regress.same('SELECT no, count(*) OVER (PARTITION BY email::text) AS n FROM orders WHERE no < 9');
SELECT regress.same('SELECT count(DISTINCT no % 2) AS n, min(no) AS no FROM orders GROUP BY email::text');
SELECT regress.same('SELECT count(*) AS n, min(no) AS no FROM (SELECT DISTINCT email, no % 2 AS no FROM orders) AS d GROUP BY email');
SELECT email::text FROM users WHERE id IN (1, 10, 2) ORDER BY email::text;
RESET search_path;

-- Partitions by hash: routing, pruning, moving.
CREATE TABLE parted (id int, email encrypted_text('searchable'), plain text) PARTITION BY HASH (email);
SELECT format('CREATE TABLE part_%s PARTITION OF parted FOR VALUES WITH (MODULUS 3, REMAINDER %s)', n, n) FROM generate_series(0, 2) AS n \gexec
INSERT INTO parted SELECT n, n, n FROM generate_series(1, 300) AS n;
INSERT INTO parted VALUES (0, NULL, NULL);
SELECT count(*) > 3 AS spread, min(n) > 50 AS evenly FROM (SELECT count(*) AS n FROM parted WHERE email IS NOT NULL GROUP BY tableoid UNION ALL SELECT 99) AS g;
CREATE FUNCTION scanned(query text) RETURNS bigint LANGUAGE sql AS $$ SELECT count(*) FROM regress.plan(query) AS p WHERE p ~ 'Scan on' $$;
PREPARE one(text) AS SELECT id FROM parted WHERE email = $1;
SET plan_cache_mode = force_generic_plan;
SELECT scanned($$SELECT * FROM parted WHERE email = '77'$$) AS literal, scanned($$SELECT * FROM parted WHERE email = '77'::text$$) AS text,
       scanned($$SELECT * FROM parted WHERE email = ANY (ARRAY['77'])$$) AS list, scanned('SELECT * FROM parted WHERE email IS NULL') AS nulls,
       scanned('SELECT * FROM parted') AS every, scanned($$EXECUTE one('77')$$) AS generic;
SELECT id FROM parted WHERE email = '77';
SELECT id FROM parted WHERE email = '77'::text;
SELECT id FROM parted WHERE email = ANY (ARRAY['77', '78']) ORDER BY id;
EXECUTE one('77');
SELECT id FROM parted WHERE email IS NULL;
RESET plan_cache_mode;
UPDATE parted SET email = id + 1000, plain = id + 1000;
SELECT count(*), bool_and(email = plain) FROM parted;
SELECT count(*) FROM generate_series(1001, 1300) AS n JOIN parted ON email = n::text;
SELECT bool_and((SELECT count(*) FROM parted AS p WHERE p.email = n::text) = 1) FROM generate_series(1001, 1300) AS n;
-- Whatever the value looks like, it goes to the same partition.
CREATE TABLE untagged AS SELECT id, email::text::encrypted_text AS email FROM parted;
SELECT prism_crypt.rotate_key();
CREATE TABLE loose (id int, email encrypted_text, plain text) PARTITION BY HASH (email);
SELECT format('CREATE TABLE loose_%s PARTITION OF loose FOR VALUES WITH (MODULUS 3, REMAINDER %s)', n, n) FROM generate_series(0, 2) AS n \gexec
INSERT INTO loose SELECT * FROM untagged;
SELECT count(*), bool_and(right(l.tableoid::regclass::text, 1) = right(p.tableoid::regclass::text, 1)) AS same_place FROM loose AS l JOIN parted AS p USING (id);
SET enable_partitionwise_join = on;
SELECT count(*) FROM loose AS a JOIN loose AS b USING (email);
RESET enable_partitionwise_join;
DROP SCHEMA plain, tagged, untagged CASCADE;
