-- The answers of comparisons: those of plaintext, on searchable columns and on others, with an index and without.
CALL regress.fresh();
CALL regress.shadows();
SELECT regress.same($$SELECT id FROM users WHERE email = 'u7@x.org'$$);
SELECT regress.same($$SELECT id FROM users WHERE email = 'U7@x.org' OR email = 'u7@x.org ' OR email = ' u7@x.org' OR email = 'u7@x.or'$$);
SELECT regress.same($$SELECT id FROM users WHERE email = ''$$);
SELECT regress.same($$SELECT id FROM users WHERE email = NULL$$);
SELECT regress.same($$SELECT id FROM users WHERE email IS NULL$$);
SELECT regress.same($$SELECT count(*) FROM users WHERE email <> 'u7@x.org'$$);
SELECT regress.same($$SELECT count(*) FROM users WHERE email != 'u7@x.org'::text$$);
SELECT regress.same($$SELECT count(*) FROM users WHERE 'u7@x.org'::varchar <> email$$);
SELECT regress.same($$SELECT count(*) FROM users WHERE NOT email = 'u7@x.org'::text$$);
SELECT regress.same($$SELECT count(*) FROM users WHERE NOT email <> 'u7@x.org'::name$$);
SELECT regress.same($$SELECT id, email = 'u7@x.org' AS eq, email <> 'u7@x.org'::text AS ne FROM users WHERE id IN (7, 8, 9)$$);
-- Lists.
SELECT regress.same($$SELECT id FROM users WHERE email IN ('u7@x.org', 'u9@x.org', 'u7@x.org', 'nobody')$$);
SELECT regress.same($$SELECT id FROM users WHERE email IN ('u7@x.org', NULL)$$);
SELECT regress.same($$SELECT id FROM users WHERE email IN (other, 'u7@x.org') AND id < 4$$);
SELECT regress.same($$SELECT id FROM users WHERE 'u7@x.org' IN (email, other)$$);
SELECT regress.same($$SELECT count(*) FROM users WHERE email NOT IN ('u7@x.org', 'u9@x.org'::text)$$);
SELECT regress.same($$SELECT count(*) FROM users WHERE email NOT IN ('u7@x.org', NULL)$$);
SELECT regress.same($$SELECT id FROM users WHERE email = ANY (ARRAY['u7@x.org', NULL])$$);
SELECT regress.same($$SELECT count(*) FROM users WHERE email <> ALL (ARRAY['u7@x.org', 'u9@x.org'])$$);
SELECT regress.same($$SELECT count(*) FROM users WHERE email <> ALL (ARRAY['u7@x.org', NULL])$$);
SELECT regress.same($$SELECT count(*) FROM users WHERE email = ANY ('{}'::text[])$$);
SELECT regress.same($$SELECT count(*) FROM users WHERE email <> ALL ('{}'::text[])$$);
SELECT regress.same($$SELECT count(*) FROM users WHERE email = ANY (NULL::text[])$$);
SELECT regress.same($$SELECT count(*) FROM users WHERE email = ALL ('{u7@x.org,u7@x.org}'::varchar[])$$);
SELECT regress.same($$SELECT count(*) FROM users WHERE email <> ANY ('{u7@x.org,u9@x.org}')$$);
SELECT regress.same($$SELECT id FROM users WHERE email = ANY (SELECT 'u' || n || '@x.org' FROM generate_series(7, 9) AS n)$$);
SELECT regress.same($$SELECT id FROM users WHERE email = ANY (ARRAY(SELECT o.other FROM orders AS o WHERE o.no < 9))$$);
SELECT regress.same($$SELECT id FROM users WHERE email = ANY (ARRAY(SELECT o.email FROM orders AS o WHERE o.no < 9))$$);
SELECT regress.same($$SELECT u.id FROM users AS u JOIN (VALUES ('u7@x.org'), ('u9@x.org')) AS v (email) ON v.email = u.email$$);
SELECT regress.same($$SELECT u.id FROM users AS u JOIN unnest('{u7@x.org,u9@x.org}'::text[]) AS v (email) ON v.email = u.email$$);
-- Expressions that compare.
SELECT regress.same($$SELECT id FROM users WHERE email IS DISTINCT FROM 'u7@x.org' AND id > 5 AND id < 9$$);
SELECT regress.same($$SELECT id FROM users WHERE email IS NOT DISTINCT FROM 'u7@x.org'::text$$);
SELECT regress.same($$SELECT id FROM users WHERE email IS NOT DISTINCT FROM NULL$$);
SELECT regress.same($$SELECT id FROM users WHERE email IS NOT DISTINCT FROM other$$);
SELECT regress.same($$SELECT id FROM users WHERE nullif(email, 'u7@x.org') IS NULL$$);
SELECT regress.same($$SELECT id FROM users WHERE nullif(email, 'u7@x.org'::text) IS NULL$$);
SELECT regress.same($$SELECT id FROM users WHERE nullif(other, email) IS NULL AND id < 4$$);
SELECT regress.same($$SELECT id, CASE email WHEN 'u7@x.org' THEN 'seven' WHEN 'u9@x.org'::text THEN 'nine' ELSE 'other' END AS c FROM users WHERE id > 6 AND id < 10$$);
SELECT regress.same($$SELECT id FROM users WHERE coalesce(email, 'u7@x.org') = 'u7@x.org'$$);
SELECT regress.same($$SELECT id FROM users WHERE (email, id) = ('u7@x.org', 7)$$);
SELECT regress.same($$SELECT id FROM users WHERE (email, id) <> ('u7@x.org', 7) AND id < 9 AND id > 6$$);
SELECT regress.same($$SELECT id FROM users WHERE (email, id) IN (('u7@x.org', 7), ('u9@x.org', 7))$$);
SELECT regress.same($$SELECT a.id, b.id AS id2 FROM users AS a, users AS b WHERE a.email = b.email AND a.id < 4$$);
SELECT regress.same($$SELECT a.no, b.no AS no2 FROM orders AS a JOIN orders AS b ON a.email = b.email AND a.no < b.no WHERE a.no < 9$$);
SELECT regress.same($$SELECT u.id FROM users AS u JOIN orders AS a ON u.email = a.email JOIN orders AS b ON a.email = b.email WHERE u.email = 'u7@x.org'$$);
-- The plaintext's own operators, through the implicit cast.
SELECT regress.same($$SELECT id FROM users WHERE email LIKE 'u7%'$$);
SELECT regress.same($$SELECT id FROM users WHERE email || '!' = 'u7@x.org!'$$);
SELECT regress.same($$SELECT id FROM users WHERE lower(email) = ANY ('{u7@x.org}')$$);
SELECT regress.same($$SELECT id FROM users WHERE email::varchar = 'u7@x.org'$$);

-- Plaintexts of every shape, tagged and not: each equals itself and no other one.
CREATE TABLE shapes (id int, plain text, tagged encrypted_text('searchable'), untagged encrypted_text);
INSERT INTO shapes SELECT id, v, v, v FROM (VALUES
  (1, ''), (2, ' '), (3, '  '), (4, 'a'), (5, 'A'), (6, 'a '), (7, ' a'), (8, 'ä'), (9, 'a' || U&'\0308'), (10, 'Ä'), (11, U&'\+01F511'), (12, E'a\n'),
  (13, 'NULL'), (14, '''"\'), (15, 'prism:v1:AQ=='), (16, repeat('x', 9000)), (17, repeat('x', 9001)), (18, repeat('x', 8999) || 'y'),
  (19, repeat('é', 300000)), (20, repeat('é', 299999) || 'e'), (21, NULL)) AS v (id, v);
SELECT count(*), count(*) FILTER (WHERE pg_column_size(tagged) > 8000) AS long FROM shapes;
CREATE FUNCTION pairs(condition text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
  answer text;
BEGIN
  EXECUTE format('SELECT CASE WHEN bool_and(a.id = b.id) THEN ''each to itself'' ELSE ''wrong'' END || '': '' || count(*) FROM shapes AS a JOIN shapes AS b ON %s', condition) INTO answer;
  RETURN answer;
END $$;
\set conditions '''{a.plain = b.plain,a.tagged = b.tagged,a.tagged = b.untagged,a.untagged = b.tagged,a.untagged = b.untagged,a.tagged = b.plain,a.plain = b.tagged,a.untagged = b.plain,a.plain = b.untagged}'''
SELECT c, pairs(c) FROM unnest(:conditions::text[]) AS c;
SET enable_hashjoin = off;
SELECT c, pairs(c) FROM unnest(:conditions::text[]) AS c;
SELECT count(*) FROM shapes AS a JOIN shapes AS b ON a.tagged <> b.untagged;
SELECT count(*) FROM shapes AS a JOIN shapes AS b ON a.plain <> b.untagged;
CREATE INDEX ON shapes USING hash (tagged);
-- A btree takes no long values, as with text.
CALL regress.fails('CREATE UNIQUE INDEX ON shapes (tagged encrypted_text_unique_ops)');
CREATE UNIQUE INDEX ON shapes (tagged encrypted_text_unique_ops) WHERE id < 16;
SET enable_seqscan = off;
SELECT c, pairs(c) FROM unnest(:conditions::text[]) AS c;
RESET enable_hashjoin;
SELECT id FROM shapes WHERE tagged = repeat('x', 9000);
SELECT id FROM shapes WHERE tagged = ANY (ARRAY['', 'a ', repeat('é', 300000)]) ORDER BY id;
RESET enable_seqscan;

-- Of one constant as char(n) the trailing spaces don't count, as with text.
SELECT id FROM shapes WHERE tagged = 'a '::char(5) ORDER BY id;
SELECT id FROM shapes WHERE tagged = ' '::char(5) ORDER BY id;
-- Values with a context are compared by their plaintext too.
CREATE TABLE bound (id int, v encrypted_text, s encrypted_text('searchable'));
INSERT INTO bound VALUES (1, encrypt_field('x', 'row 1'), encrypt_field('x', 'row 1')), (2, encrypt_field('x', 'row 2'), encrypt_field('x')), (3, 'x', 'x'), (4, encrypt_field('y', 'row 4'), encrypt_field('y', 'row 4'));
SELECT array_agg(id ORDER BY id) FILTER (WHERE v = 'x') AS v, array_agg(id ORDER BY id) FILTER (WHERE s = 'x'::text) AS s, array_agg(id ORDER BY id) FILTER (WHERE v = s) AS both,
       array_agg(id ORDER BY id) FILTER (WHERE v = encrypt_field('x', 'row 9')) AS other_context FROM bound;
-- Bytes that are no text are equal where the bytes are.
INSERT INTO bound SELECT n, encrypt_bytes(b)::encrypted_text FROM (VALUES (5, '\xff'::bytea), (6, '\xff'), (7, '\xfe')) AS b (n, b);
SELECT a.id, b.id FROM bound AS a JOIN bound AS b ON a.v = b.v WHERE a.id > 4 ORDER BY 1, 2;
DROP SCHEMA plain, tagged, untagged CASCADE;
