-- Conversions: PostgreSQL makes those that have no cast of their own of output and input. What becomes of them is never a text
-- form, nor a text form that was sealed again.
CALL regress.fresh();
-- A string type that PostgreSQL knows nothing else of.
CREATE TYPE str;
SET client_min_messages = warning;
CREATE FUNCTION str_in(cstring) RETURNS str LANGUAGE internal IMMUTABLE STRICT AS 'textin';
CREATE FUNCTION str_out(str) RETURNS cstring LANGUAGE internal IMMUTABLE STRICT AS 'textout';
RESET client_min_messages;
CREATE TYPE str (INPUT = str_in, OUTPUT = str_out, CATEGORY = 'S');
CREATE DOMAIN str_domain AS str;
CREATE TABLE t (id int, v encrypted_text('email'), a encrypted_text[]);
INSERT INTO t VALUES (1, 'Ada@X.org', '{one,two}');
CREATE TABLE plain (s str, d str_domain);
SELECT prism_crypt.grant_access('regress_prism_loader', 'decrypt');
GRANT ALL ON t, plain TO regress_prism_app, regress_prism_loader;

-- Out of the type: the plaintext, whatever output shows.
INSERT INTO plain SELECT v, v FROM t;
SET prism_crypt.output = 'masked';
INSERT INTO plain SELECT v, v FROM t;
SET prism_crypt.output = 'plaintext';
INSERT INTO plain SELECT v, v FROM t;
RESET prism_crypt.output;
SELECT * FROM plain;
SELECT v::str, v::str_domain, a::str[], a[1]::str FROM t;
SELECT '42'::encrypted_text::int, '{"a": 1}'::encrypted_text::jsonb -> 'a' AS a, '2026-01-31'::encrypted_text::date::text;
CREATE FUNCTION as_str(e encrypted_text) RETURNS str LANGUAGE plpgsql AS $$ BEGIN RETURN e; END $$;
CREATE FUNCTION as_str_sql(e encrypted_text) RETURNS str LANGUAGE sql AS $$ SELECT e $$;
SELECT as_str(v), as_str_sql(v) FROM t;
-- Also where the planner wants to know it beforehand.
SELECT count(*) FROM generate_series(1, 50) AS g WHERE g = '42'::encrypted_text::int;
PREPARE by_number (encrypted_text) AS SELECT count(*) FROM generate_series(1, 50) AS g WHERE g = $1::int;
EXECUTE by_number('42');
-- For a role that may not decrypt, an error.
SET ROLE regress_prism_app;
CALL regress.fails('INSERT INTO plain SELECT v, v FROM t');
CALL regress.fails('SELECT v::str FROM t');
CALL regress.fails('SELECT a::str[] FROM t');
CALL regress.fails('SELECT v::jsonb FROM t');
CALL regress.fails('SELECT as_str(v) FROM t');
CALL regress.fails($$SELECT count(*) FROM generate_series(1, 50) AS g WHERE g = '42'::encrypted_text::int$$);
SET prism_crypt.output = 'plaintext';
CALL regress.fails('SELECT v::str FROM t');
SET prism_crypt.output = 'masked';
CALL regress.fails('SELECT v::str FROM t');
RESET prism_crypt.output;
RESET ROLE;
-- A value with a context can't be converted.
CALL regress.fails($$SELECT encrypt_field('x', 'c')::str$$);
CALL regress.fails($$SELECT encrypt_field('x', 'c')::text$$);
SET prism_crypt.output = 'plaintext';
CALL regress.fails($$SELECT encrypt_field('x', 'c')::str$$);
RESET prism_crypt.output;
-- By name, the output function gives what it always did.
SELECT encrypted_text_out(v)::text ~ '^prism:v1:' AS text_form FROM t;
CREATE VIEW forms AS SELECT encrypted_text_out(v)::text AS form FROM t;
SELECT form ~ '^prism:v1:' AS text_form FROM forms;

-- Into the type.
INSERT INTO t (id, v) SELECT 2, s FROM plain LIMIT 1;
INSERT INTO t (id, v) SELECT 3, '[1, 2]'::jsonb;
SELECT id, v::text FROM t WHERE id > 1 ORDER BY id;
CREATE TABLE moved (s str);
INSERT INTO moved VALUES ('moved'), (NULL);
ALTER TABLE moved ALTER s TYPE encrypted_text('email', 'searchable');
SELECT count(*) FROM moved WHERE s = 'moved';
ALTER TABLE moved ALTER s TYPE str USING s::str;
SELECT * FROM moved;

-- char(n) loses its padding, as on its way to text.
CREATE TABLE padded (c char(10), v encrypted_text);
INSERT INTO padded VALUES ('ABC', 'ABC'::char(10)), ('D E', ('{D E}'::char(10)[])[1]), ('', ''::char(10)), (E'\tF\n', E'\tF\n'::char(5));
UPDATE padded SET v = c WHERE c = 'ABC';
INSERT INTO padded (v) SELECT c FROM padded WHERE c = 'ABC';
INSERT INTO padded (v) VALUES (('{ABC,x}'::char(7)[]::encrypted_text[])[1]);
SELECT c, quote_literal(v) FROM padded ORDER BY c;
CREATE FUNCTION argument(e encrypted_text) RETURNS text LANGUAGE sql AS $$ SELECT quote_literal(e) $$;
SELECT argument('ABC'::char(9)::encrypted_text), argument(c::encrypted_text) FROM padded WHERE c = 'ABC';
SELECT count(*) FROM padded WHERE v = 'ABC'::char(10);
SELECT count(*) FROM padded WHERE v = 'ABC'::char(10)::encrypted_text;
SELECT count(*) FROM padded WHERE v = ANY ('{ABC,D E}'::char(10)[]);
SELECT count(*) FROM padded WHERE v = c;
SELECT decrypt_field(encrypt_field('ABC'::char(10))) = 'ABC' AS same, blind_index('ABC'::char(10), 'c') = blind_index('ABC', 'c') AS same;
ALTER TABLE padded ALTER c TYPE encrypted_text('searchable');
SELECT count(*) FROM padded WHERE c = 'ABC';

-- What is ciphertext already is not sealed a second time, however typed; encrypt_field() is asked for it.
SELECT encrypted_text_out(v) AS form FROM t WHERE id = 1 \gset
PREPARE typed (text) AS INSERT INTO t (id, v) VALUES (9, $1);
PREPARE padded_form (char(200)) AS INSERT INTO t (id, v) VALUES (9, $1);
CALL regress.fails(format('EXECUTE typed(%L)', :'form'));
CALL regress.fails(format('EXECUTE padded_form(%L)', :'form'));
CALL regress.fails(format('SELECT %L::text::encrypted_text', :'form'));
CALL regress.fails(format('SELECT %L::varchar::encrypted_text', :'form'));
CALL regress.fails(format('SELECT %L::str::encrypted_text', :'form'));
CALL regress.fails(format('SELECT ARRAY[%L::text]::encrypted_text[]', :'form'));
CALL regress.fails(format('SELECT count(*) FROM padded WHERE v = %L::str::encrypted_text', :'form'));
-- Nor one of a key that is not known (yet).
CALL regress.fails(format('SELECT %L::text::encrypted_text', 'prism:v77:' || encode('\x01 00 00 0000004d 000000000000000000000000 00000000000000000000000000000000', 'base64')));
SELECT decrypt_field(encrypt_field(:'form')) = :'form' AS asked_for;
-- What only looks like it is text, and so is a text form among other text.
INSERT INTO t (id, v) VALUES (4, 'prism:v1:x'::text), (5, 'prism:v1:x'::varchar), (6, 'prism:v1:x'::str), (7, (:'form' || ' ')::text);
SELECT id, v::text = :'form' || ' ' AS form, left(v::text, 10) AS v FROM t WHERE id BETWEEN 4 AND 7 ORDER BY id;
SELECT count(*) FROM t WHERE v = 'prism:v1:x'::str::encrypted_text;
-- Rows and arrays of values, as one value.
CALL regress.fails('INSERT INTO t (v) SELECT a FROM t');
CALL regress.fails('INSERT INTO t (v) SELECT t FROM t');
CALL regress.fails('SELECT a::encrypted_text FROM t');

-- Where a client works with plaintext, and may not load, its input is plaintext as well.
DELETE FROM t;
SELECT prism_crypt.grant_access('regress_prism_app', 'decrypt');
SET ROLE regress_prism_app;
CALL regress.fails($$INSERT INTO t (id, v) VALUES (1, 'prism:v1:x')$$);
SET prism_crypt.output = 'masked';
CALL regress.fails($$INSERT INTO t (id, v) VALUES (1, 'prism:v1:x')$$);
SET prism_crypt.output = 'plaintext';
INSERT INTO t VALUES (1, 'prism:v1:x', '{prism:v1:y,plain}');
PREPARE untyped AS INSERT INTO t (id, v) VALUES (2, $1);
EXECUTE untyped('prism:v2147483648:x');
INSERT INTO t SELECT * FROM json_populate_record(NULL::t, '{"id": 3, "v": "prism:v1:AQ==", "a": ["prism:v1:"]}');
\copy t FROM STDIN
4	prism:v1:z	{prism:v1:}
\.
SELECT * FROM t ORDER BY id;
-- So it is found, and deleted, by clients that don't type what they send.
RESET ROLE;
SELECT prism_crypt.grant_access('regress_prism_app', 'search');
SET ROLE regress_prism_app;
PREPARE wanted AS SELECT id FROM t WHERE v IN ($1, 'prism:v1:z') ORDER BY id;
EXECUTE wanted('prism:v1:x');
DELETE FROM t WHERE v = 'prism:v1:z' RETURNING id;
-- But never a real one.
CALL regress.fails(format('INSERT INTO t (id, v) VALUES (9, %L)', :'form'));
CALL regress.fails(format('EXECUTE untyped(%L)', :'form'));
CALL regress.fails(format('EXECUTE typed(%L)', :'form'));
CALL regress.fails(format('SELECT json_populate_record(NULL::t, json_build_object(''v'', %L))', :'form'));
RESET prism_crypt.output;
SELECT v ~ '^prism:v1:x' AS as_it_is, encrypted_text_out(v)::text ~ '^prism:v1:.{40}' AS sealed, v::text FROM t WHERE id = 1;
RESET ROLE;
-- A role that may load loads.
SET prism_crypt.output = 'plaintext';
INSERT INTO t (id, v) VALUES (5, :'form');
CALL regress.fails($$INSERT INTO t (id, v) VALUES (6, 'prism:v1:x')$$);
SELECT v FROM t WHERE id = 5;
RESET prism_crypt.output;

-- A call that is stored in a view looks like one that the planner makes: it is one way to seal, and seals no ciphertext.
CREATE VIEW sealed AS SELECT encrypted_text_in('a text', 0, -1) AS v;
SELECT v::text FROM sealed;
SELECT format('CREATE VIEW sealed_again AS SELECT encrypted_text_in(%L, 0, -1) AS v', :'form') AS stored \gset
:stored;
GRANT SELECT ON sealed_again TO regress_prism_app;
CALL regress.fails('SELECT * FROM sealed_again');
CALL regress.fails('CREATE TABLE sealed_twice AS SELECT * FROM sealed_again');
SET ROLE regress_prism_app;
CALL regress.fails('SELECT * FROM sealed_again');
CALL regress.fails(format('SELECT encrypted_text_in(%L, 0, -1)', :'form'));
RESET ROLE;

-- varchar beside a value, as drivers send it: the value is read, as beside text.
CREATE TABLE mixed (v encrypted_text('searchable') UNIQUE, s varchar(20), a encrypted_text[]);
INSERT INTO mixed VALUES ('Ada', 'Ada', '{Ada,b}'), (NULL, 'x', '{}');
SELECT coalesce(v, 'none'::varchar) AS a, coalesce(v, s) AS b, CASE WHEN v IS NULL THEN s ELSE v END AS c, nullif(v, 'Ada'::varchar) IS NULL AS d, v || 'x'::varchar AS e FROM mixed ORDER BY 1;
PREPARE beside(varchar) AS SELECT coalesce(v, $1), greatest(v::varchar, $1), v IN ($1), v = ANY (ARRAY[$1]) FROM mixed ORDER BY 1;
EXECUTE beside('none');
SELECT v::text FROM mixed UNION SELECT s FROM mixed ORDER BY 1;
SELECT s FROM mixed WHERE v = s;
SET enable_seqscan = off;
SELECT regress.plan($$SELECT s FROM mixed WHERE v = 'Ada'::varchar$$);
RESET enable_seqscan;
-- Functions of text take a value as they take text; none becomes ambiguous beside varchar.
DO $$
DECLARE call text; same boolean;
BEGIN
  FOREACH call IN ARRAY ARRAY['upper(v)', 'lower(v)', 'length(v)', 'char_length(v)', 'octet_length(v)', 'bit_length(v)', 'initcap(v)', 'reverse(v)', 'md5(v)',
    'trim(v)', 'btrim(v)', 'ltrim(v, ''A'')', 'rtrim(v, ''a'')', 'left(v, 2)', 'right(v, 2)', 'lpad(v, 5)', 'rpad(v, 5, ''x'')', 'repeat(v, 2)', 'replace(v, ''A'', ''B'')',
    'substr(v, 2)', 'substring(v, 2)', 'substring(v FROM ''d.'')', 'strpos(v, ''d'')', 'position(''d'' IN v)', 'split_part(v, ''d'', 1)', 'translate(v, ''A'', ''B'')',
    'quote_ident(v)', 'ascii(v)', 'starts_with(v, ''A'')', 'regexp_replace(v, ''a$'', ''x'')', 'regexp_match(v, ''d.'')', 'string_to_array(v, ''d'')', 'convert_to(v, ''UTF8'')',
    'v || v', 'v || 1', 'v LIKE ''A%''', 'v ILIKE ''a%''', 'v ~ ''^A''', 'v SIMILAR TO ''A%''', 'overlay(v PLACING ''x'' FROM 1)', 'to_tsvector(v)'] LOOP
    EXECUTE format('SELECT (%s)::text = (%s)::text FROM mixed WHERE v IS NOT NULL', call, regexp_replace(call, '\mv\M(?!'')', '(v::text)', 'g')) INTO same;
    IF same IS NOT TRUE THEN RAISE WARNING '%: %', call, same; END IF;
  END LOOP;
END $$;

-- The types for operands, and arrays of them, hold values; rows of the extension's tables do not.
CALL regress.fails('SELECT (a::encrypted_text_array)::encrypted_text FROM t');
CALL regress.fails('SELECT ARRAY[a::encrypted_text_array]::encrypted_text FROM t');
SELECT (k::encrypted_text)::text = k::text AS same FROM prism_crypt.keyset AS k;
