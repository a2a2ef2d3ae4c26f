-- Ways into and out of the type.
CALL regress.fresh();
CREATE TABLE t (id serial PRIMARY KEY, v encrypted_text);

-- Literals, text of every kind, parameters.
INSERT INTO t (v) VALUES ('literal'), (NULL), (''), (' spaces '), (E'line\nbreak\ttab'), ('Ζωή 山田 𐍈'), ($$quote's "here" \ there$$);
INSERT INTO t (v) VALUES ('text'::text), ('varchar'::varchar), ('varchar(3)'::varchar(3)), (('bpchar'::char(8))::text);
INSERT INTO t (v) SELECT 'selected ' || n FROM generate_series(1, 2) AS n;
INSERT INTO t (v) VALUES (encrypt_field('by function'));
PREPARE by_unknown AS INSERT INTO t (v) VALUES ($1);
PREPARE by_text (text) AS INSERT INTO t (v) VALUES ($1);
PREPARE by_varchar (varchar) AS INSERT INTO t (v) VALUES ($1);
PREPARE by_type (encrypted_text) AS INSERT INTO t (v) VALUES ($1);
EXECUTE by_unknown('parameter of no type');
EXECUTE by_text('parameter of type text');
EXECUTE by_varchar('parameter of type varchar');
EXECUTE by_type('parameter of the type');
EXECUTE by_type(NULL);
UPDATE t SET v = 'updated' WHERE id = 1;
UPDATE t SET v = v WHERE id = 2;
SELECT id, decrypt_field(v), octet_length(v), v::text = decrypt_field(v) AS same FROM t ORDER BY id;

-- What comes out by itself is the text form; it holds nothing of the value.
SELECT id, encrypted_text_out(v)::text ~ '^prism:v1:[A-Za-z0-9+/]+={0,2}$' AS text_form, envelope_bytes - plaintext_bytes AS overhead,
       pg_column_size(v) - envelope_bytes AS header
FROM t, envelope_info(v) WHERE id < 5 ORDER BY id;
-- So do functions that take any type.
SELECT format('%s', v) ~ '^prism:v1:' AS format, concat(v) ~ '^prism:v1:' AS concat, concat_ws(',', v, v) ~ '^prism:v1:.*,prism:v1:' AS concat_ws,
       to_json(v)::text ~ '^"prism:v1:' AS to_json, row_to_json(t)::text ~ '"v":"prism:v1:' AS row_to_json,
       to_jsonb(t) ->> 'v' ~ '^prism:v1:' AS to_jsonb, json_build_object('v', v)::text ~ ': "prism:v1:' AS json_build, t::text ~ '^\(1,prism:v1:' AS row_cast,
       xmlforest(v)::text ~ '^<v>prism:v1:' AS xml
FROM t WHERE id = 1;
SELECT json_agg(v)::text ~ '^\["prism:v1:' AS json_agg, array_agg(v)::text ~ '^{prism:v1:' AS array_agg, string_agg(v, ',') AS string_agg FROM t WHERE id = 1;

-- The implicit cast to text.
SELECT lower(v), upper(v), v || '!', '!' || v, length(v), v LIKE 'up%', v ~ '^u', v IN ('updated', 'x'), v = 'updated', v <> 'updated', substr(v, 1, 2),
       coalesce(v, 'x'::text), md5(v) = md5('updated'), position('d' IN v), v::text < 'z'
FROM t WHERE id = 1;
SELECT v::varchar, v::varchar(3), v::char(9), CAST(v AS text), left(v::text, 2) FROM t WHERE id = 1;
-- To a name, another string type, too: never a piece of ciphertext.
SELECT v::name FROM t WHERE id = 1;
CREATE TABLE plain (a text, b varchar, c varchar(7), d char(9), e name);
INSERT INTO plain SELECT v, v, v, v, v FROM t WHERE id = 1;
SELECT * FROM plain;
INSERT INTO t (v) SELECT b FROM plain;
SELECT decrypt_field(v) FROM t ORDER BY id DESC LIMIT 1;

-- COALESCE, CASE, UNION, VALUES keep the type as long as every branch has it or is a literal.
SELECT pg_typeof(coalesce(v, 'x')), pg_typeof(CASE WHEN true THEN v ELSE 'x' END), pg_typeof(nullif(v::text, 'x')) FROM t WHERE id = 1;
SELECT pg_typeof(coalesce(v, 'x'::text)) FROM t WHERE id = 1;
SELECT DISTINCT pg_typeof(v) FROM (SELECT v FROM t UNION ALL SELECT 'x') AS u;

-- Two literals of one text are two ciphertexts; a prepared statement keeps the one that it was parsed with.
SELECT encrypted_text_out('x')::text = encrypted_text_out('x')::text AS same;
PREPARE literal AS SELECT encrypted_text_out('x')::text AS first;
EXECUTE literal \gset
EXECUTE literal \gset again_
SELECT :'first' = :'again_first' AS same;
-- As a parameter it is sealed at each execution, and as a typed one too.
PREPARE parameter (text) AS SELECT encrypted_text_out($1::encrypted_text)::text AS first;
EXECUTE parameter('x') \gset
EXECUTE parameter('x') \gset again_
SELECT :'first' = :'again_first' AS same;

-- Other types go through their own text.
INSERT INTO t (v) VALUES (42), (true), (1.50), ('2026-01-31'::date), ('{"a": 1}'::jsonb), ('bpchar'::char(8)), ('name'::name), (NULL::int);
SELECT decrypt_field(v), octet_length(v) FROM (SELECT * FROM t ORDER BY id DESC LIMIT 8) AS last ORDER BY id;
-- They can't bring in ciphertext: what looks like it is encrypted.
SET ROLE regress_prism_app;
SELECT envelope_info('prism:v1:AQ=='::name::encrypted_text), envelope_info('prism:v1:AQ=='::char(20)::encrypted_text);
RESET ROLE;

-- Arrays, domains, composite types, ranges of rows.
CREATE TABLE many (a encrypted_text[], b encrypted_text('email')[]);
INSERT INTO many VALUES ('{one,"two, three",NULL}', ARRAY['a@example.org', 'b@example.org']);
INSERT INTO many VALUES (ARRAY['four'::text, NULL], ARRAY['c@example.org'::text]), ('{}', NULL);
SELECT (SELECT array_agg(decrypt_field(e)) FROM unnest(a) AS e), (SELECT string_agg(class, ',') FROM unnest(b) AS e, envelope_info(e)),
       a::text ~ '^{(prism:v1:[^,]+,?)+(NULL)?}$' AS out FROM many;
SELECT a::text[], b::varchar[], cardinality(a) FROM many WHERE cardinality(a) > 0;
UPDATE many SET a[2] = 'changed' WHERE cardinality(a) = 3;
SELECT a::text[] FROM many WHERE cardinality(a) = 3;
CREATE DOMAIN secret AS encrypted_text NOT NULL;
CREATE DOMAIN mail AS encrypted_text('email');
CREATE DOMAIN checked AS encrypted_text CHECK (octet_length(VALUE) > 2);
CREATE TYPE person AS (name encrypted_text, mail mail);
CREATE TABLE things (s secret, m mail, c checked, p person);
INSERT INTO things VALUES ('secret', 'm@example.org', 'long', ROW('Anna', 'anna@example.org'));
INSERT INTO things VALUES ('secret'::text, 'm@example.org'::text, 'long'::text, ROW('Anna'::text, 'anna@example.org'::text));
SELECT decrypt_field(s), (envelope_info(m)).class, decrypt_field(c), decrypt_field((p).name), mask_field((p).mail),
       things::text ~ '^\(prism:v1:[^,]+,prism:v1:[^,]+,prism:v1:[^,]+,"\(prism:v1:[^,]+,prism:v1:[^,]+\)"\)$' AS out FROM things;
CALL regress.fails($$INSERT INTO things (s) VALUES (NULL)$$);
CALL regress.fails($$INSERT INTO things (s, c) VALUES ('s', 'x')$$);
CALL regress.fails($$INSERT INTO things (s, m) VALUES ('s', encrypt_field('x', class => 'phone'))$$);

-- No order: an error, never a wrong answer. (Equality is in search_*.sql.)
CALL regress.fails('SELECT v FROM t ORDER BY v');
SELECT count(*) = (SELECT count(DISTINCT v::text) + count(*) FILTER (WHERE v IS NULL) FROM t) AS as_text FROM (SELECT v FROM t WHERE v IS NOT NULL GROUP BY v UNION ALL SELECT v FROM t WHERE v IS NULL) AS g;
CALL regress.fails('CREATE TABLE u (v encrypted_text) PARTITION BY RANGE (v)');
CALL regress.fails('CREATE TABLE u (v encrypted_text COLLATE "C")');
SELECT decrypt_field(v) FROM t WHERE id IN (8, 9, 11) ORDER BY v::text;

-- Bytes that are no text are refused by PostgreSQL before they get here.
CALL regress.fails($$SELECT encrypt_field(convert_from('\xff', 'UTF8'))$$);
CALL regress.fails($$SELECT encrypt_field(E'a\x00b')$$);

-- By itself: input and output functions.
SELECT decrypt_field(encrypted_text_in('called', 0, -1)), encrypted_text_in(NULL, 0, -1) IS NULL AS strict;
SELECT substr(encrypted_text_send(encrypt_field('x')), 1, 7), length(encrypted_text_send(encrypt_field('x', 'c')));
DO $$ BEGIN PERFORM encrypted_text_recv('x', 0, -1); EXCEPTION WHEN undefined_function OR feature_not_supported THEN RAISE INFO 'refused'; END $$;
