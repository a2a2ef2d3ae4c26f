-- PostgreSQL 18 and later
-- What the planner makes of conditions since 17 and 18: OR and VALUES become = ANY, joins with itself and NOT NULL tests disappear,
-- DISTINCT and GROUP BY choose their order. The answers are those of plain text, and no plan shows a text.
CALL regress.fresh();
SET client_min_messages = warning;
CALL regress.shadows();
-- OR of constants, of parameters, of a mixture; with other columns between them.
SELECT regress.same($$SELECT id FROM users WHERE email = 'u5@x.org' OR email = 'u7@x.org' OR email = 'u8@x.org'$$);
SELECT regress.same($$SELECT id FROM users WHERE email = 'u5@x.org'::text OR email = 'u7@x.org'::text$$);
SELECT regress.same($$SELECT id FROM users WHERE email = 'u5@x.org' OR (email = 'u7@x.org' AND id > 3) OR id = 9$$);
SELECT regress.same($$SELECT id FROM users WHERE email = 'u5@x.org' OR email = other$$);
SELECT regress.same($$SELECT id FROM users WHERE email = 'u5@x.org' OR email IS NULL$$);
SELECT regress.same($$SELECT id FROM users WHERE (email = 'u5@x.org' OR email = 'u7@x.org') AND (id = 7 OR id = 9)$$);
SELECT regress.same($$SELECT u.id, o.no FROM users u JOIN orders o ON (o.email = 'u5@x.org' OR o.email = 'u6@x.org') AND u.email = o.email$$);
SELECT regress.same($$SELECT count(*), sum(u.id * o.no) FROM users u JOIN orders o ON o.email = u.email OR o.other = 'u9@x.org'$$);
-- IN of VALUES.
SELECT regress.same($$SELECT id FROM users WHERE email IN (VALUES ('u5@x.org'), ('u6@x.org'), (NULL), ('nobody'))$$);
SELECT regress.same($$SELECT id FROM users WHERE email IN (VALUES ('u5@x.org'::text), ('u6@x.org'))$$);
SELECT regress.same($$SELECT id FROM users WHERE email NOT IN (VALUES ('u5@x.org'::text), ('u6@x.org')) AND id < 9$$);
SELECT regress.same($$SELECT id FROM users WHERE (id, email) IN (VALUES (5, 'u5@x.org'::text), (6, 'nobody'))$$);
SELECT regress.same($$SELECT id FROM users WHERE email = ANY (VALUES (lower('U5@X.ORG')), ('u6@x.org'))$$);
SELECT regress.same($$SELECT id FROM users WHERE email IN (VALUES ('u5@x.org'::varchar), ('u6@x.org'))$$);
SELECT regress.same($$SELECT id FROM users WHERE email IN (VALUES ('u5@x.org'::varchar(9)), (NULL))$$);
SELECT regress.same($$SELECT id FROM users WHERE email IN (VALUES ('u5@x.org'::text))$$);
SELECT regress.same($$SELECT id FROM users u WHERE email IN (VALUES (u.other), ('u6@x.org')) AND id < 4$$);
SELECT regress.same($$SELECT id FROM users u WHERE email IN (VALUES ('u6@x.org'::text), (NULL)) IS NULL AND id < 4$$);
SELECT regress.same($$SELECT id, email IN (VALUES ('u2@x.org'::text), ('u3@x.org')) AS among FROM users WHERE id < 4$$);
SELECT regress.same($$SELECT id FROM users WHERE email IN (VALUES ('u2@x.org'::text), ('u3@x.org') LIMIT 1)$$);
SELECT regress.same($$SELECT id FROM users WHERE email <> ALL (VALUES ('u2@x.org'::text), ('u3@x.org')) AND id < 5$$);
SELECT regress.same($$SELECT id FROM users WHERE NOT email IN (VALUES ('u2@x.org'::text), ('u3@x.org')) AND id < 5$$);
SELECT regress.same($$SELECT id FROM users WHERE email IN (SELECT v FROM (VALUES ('u2@x.org'::text), ('u3@x.org')) AS s (v) WHERE v > 'u2@y')$$);
SELECT regress.same($$SELECT id FROM users WHERE email IN (SELECT v FROM (VALUES ('u2@x.org'::text), ('u3@x.org')) AS s (v))$$);
SELECT regress.same($$SELECT u.id, o.no FROM users u LEFT JOIN orders o ON u.email = o.email AND o.email IN (VALUES ('u2@x.org'::text), ('u3@x.org')) WHERE u.id < 4$$);
SELECT regress.same($$SELECT id FROM users WHERE other IN (VALUES ('u2@x.org'), ('u3@x.org'))$$);
-- Joins with itself.
ALTER TABLE plain.users ADD PRIMARY KEY (id); ALTER TABLE tagged.users ADD PRIMARY KEY (id); ALTER TABLE untagged.users ADD PRIMARY KEY (id);
ALTER TABLE plain.users ADD UNIQUE (email); ALTER TABLE tagged.users ADD UNIQUE (email); ALTER TABLE untagged.users ADD UNIQUE (email);
SELECT regress.same($$SELECT a.id FROM users a JOIN users b ON a.email = b.email WHERE b.other <> 'u3@x.org'$$);
SELECT regress.same($$SELECT a.id FROM users a JOIN users b ON a.id = b.id AND a.email = b.email WHERE b.email = 'u5@x.org'$$);
SELECT regress.same($$SELECT a.id FROM users a JOIN users b USING (id) WHERE a.email = 'u5@x.org' OR b.email = 'u6@x.org'$$);
SELECT regress.same($$SELECT a.id FROM users a LEFT JOIN users b ON a.email = b.email WHERE b.id IS NULL$$);
SELECT regress.same($$SELECT id FROM users a WHERE EXISTS (SELECT FROM users b WHERE b.email = a.email AND b.id = a.id)$$);
-- Tests for null where a column has none.
SELECT regress.same($$SELECT count(*) FROM users WHERE id IS NOT NULL AND email IS NULL$$);
ALTER TABLE plain.orders ADD n int; ALTER TABLE tagged.orders ADD n int; ALTER TABLE untagged.orders ADD n int;
-- DISTINCT, GROUP BY, UNION and windows.
SELECT regress.same($$SELECT email::text, other FROM (SELECT DISTINCT email, other FROM orders) AS s$$);
SELECT regress.same($$SELECT other, ten, email::text FROM (SELECT DISTINCT other, no / 10 AS ten, email FROM orders) AS s$$);
SELECT regress.same($$SELECT email::text, other, count(*) FROM orders GROUP BY email, other HAVING count(*) > 2$$);
SELECT regress.same($$SELECT count(*), other FROM orders GROUP BY other, email$$);
SELECT regress.same($$SELECT email::text, no / 20, count(*) FROM orders GROUP BY GROUPING SETS ((email, no / 20), (no / 20)) HAVING count(*) > 2$$);
SELECT regress.same($$SELECT email::text FROM (SELECT email FROM users WHERE id < 5 UNION SELECT email FROM orders WHERE no < 9) AS s$$);
SELECT regress.same($$SELECT email::text FROM (SELECT email FROM users WHERE id < 9 INTERSECT SELECT email FROM orders) AS s$$);
SELECT regress.same($$SELECT email::text FROM (SELECT email FROM users WHERE id < 9 EXCEPT SELECT email FROM orders WHERE no < 15) AS s$$);
SELECT regress.same($$SELECT max(n) FROM (SELECT count(*) OVER (PARTITION BY email) AS n FROM orders WHERE email IS NOT NULL) AS s$$);
-- In each way to join and to group.
SET enable_hashjoin = off; SET enable_hashagg = off; SET enable_memoize = off;
SELECT regress.same($$SELECT u.id, count(*) FROM users u JOIN orders o USING (email) GROUP BY u.id, email$$);
SELECT regress.same($$SELECT email::text, other FROM (SELECT DISTINCT email, other FROM orders) AS s$$);
SET enable_nestloop = off;
SELECT regress.same($$SELECT u.id, count(*) FROM users u JOIN orders o USING (email) GROUP BY u.id, email$$);
RESET enable_hashjoin; SET enable_mergejoin = off; RESET enable_hashagg; SET enable_sort = off;
SELECT regress.same($$SELECT u.id, count(*) FROM users u JOIN orders o USING (email) GROUP BY u.id, email$$);
SELECT regress.same($$SELECT id FROM users u WHERE email IN (SELECT email FROM orders WHERE no > 20)$$);
SELECT regress.same($$SELECT id FROM users u WHERE email NOT IN (SELECT email FROM orders WHERE email IS NOT NULL)$$);
RESET ALL;
-- What plans show.
SET search_path = tagged, public;
SELECT regress.plan($$SELECT id FROM users WHERE email = 'u5@x.org' OR email = 'u7@x.org'$$);
SELECT regress.plan($$SELECT id FROM users WHERE email = 'u5@x.org'::text OR email = 'u7@x.org'::text$$);
SELECT regress.plan($$SELECT id FROM users WHERE email IN (VALUES ('u5@x.org'), ('u6@x.org'))$$);
SELECT regress.plan($$SELECT id FROM users WHERE email IN (VALUES ('u5@x.org'::text), ('u6@x.org'))$$);
SELECT regress.plan($$SELECT a.id FROM users a JOIN users b ON a.email = b.email WHERE b.email = 'u5@x.org'::text$$);
SET enable_seqscan = off;
SELECT regress.plan($$SELECT id FROM users WHERE email = 'u5@x.org' OR email = 'u7@x.org'$$);
SELECT regress.plan($$SELECT id FROM users WHERE email = 'u5@x.org'::text OR email = 'u7@x.org'::text$$);
SELECT regress.plan($$SELECT id FROM users WHERE email IN (VALUES ('u5@x.org'::text), ('u6@x.org'))$$);
SELECT regress.plan($$SELECT id FROM users WHERE email IN (VALUES ('u5@x.org'), (lower('U6@x.org')))$$);
SELECT regress.plan($$SELECT id FROM users WHERE email IN (VALUES ('u5@x.org'::varchar), ('u6@x.org'))$$);
SELECT regress.plan($$SELECT id FROM users WHERE email IN (SELECT v FROM (VALUES ('u2@x.org'::text), ('u3@x.org')) AS s (v))$$);
SELECT regress.plan($$SELECT id FROM users WHERE email IN (VALUES ('u5@x.org'::text))$$);
PREPARE v (text, varchar) AS SELECT id FROM users WHERE email IN (VALUES ($1), ($2)) ORDER BY id;
SET plan_cache_mode = force_generic_plan;
EXECUTE v ('u5@x.org', 'u7@x.org');
SELECT regress.plan($$EXECUTE v ('u5@x.org', 'u7@x.org')$$);
SET plan_cache_mode = force_custom_plan;
EXECUTE v ('u5@x.org', 'u7@x.org');
SELECT regress.plan($$EXECUTE v ('u5@x.org', 'u7@x.org')$$);
RESET plan_cache_mode;
PREPARE p (text, text) AS SELECT id FROM users WHERE email = $1 OR email = $2 ORDER BY id;
SET plan_cache_mode = force_generic_plan;
EXECUTE p ('u5@x.org', 'u7@x.org');
SELECT regress.plan($$EXECUTE p ('u5@x.org', 'u7@x.org')$$);
SET plan_cache_mode = force_custom_plan;
EXECUTE p ('u5@x.org', 'u7@x.org');
SELECT regress.plan($$EXECUTE p ('u5@x.org', 'u7@x.org')$$);
RESET plan_cache_mode;
RESET enable_seqscan;
-- What EXPLAIN says of results that are converted and serialized, and of memory.
SET prism_crypt.output = 'plaintext';
CREATE FUNCTION explained(options text, query text) RETURNS SETOF text LANGUAGE plpgsql AS $$
DECLARE line text; BEGIN
  FOR line IN EXECUTE format('EXPLAIN (%s) %s', options, query) LOOP
    RETURN NEXT regexp_replace(regress.without_ciphertext(line), '\d+(\.\d+)?', 'N', 'g');
  END LOOP;
END $$;
SELECT explained('ANALYZE, COSTS OFF, TIMING OFF, SUMMARY OFF, BUFFERS OFF, SERIALIZE text', $$SELECT email, other FROM users WHERE email = 'u5@x.org'$$);
SELECT explained('ANALYZE, COSTS OFF, TIMING OFF, SUMMARY OFF, BUFFERS OFF, SERIALIZE binary', $$SELECT email, other FROM users WHERE email = 'u5@x.org'$$);
SELECT explained('COSTS OFF, GENERIC_PLAN', $$SELECT email FROM users WHERE email = $1$$);
CREATE ROLE rewrites_stranger;
GRANT USAGE ON SCHEMA tagged TO rewrites_stranger;
GRANT SELECT ON tagged.users TO rewrites_stranger;
SET ROLE rewrites_stranger;
CALL regress.fails($$SELECT id FROM users WHERE email = 'u5@x.org' OR email = 'u7@x.org'$$);
CALL regress.fails($$SELECT id FROM users WHERE email IN (VALUES ('u5@x.org'::text), ('u6@x.org'))$$);
CALL regress.fails($$EXPLAIN (ANALYZE, SERIALIZE) SELECT decrypt_field(email) FROM users$$);
