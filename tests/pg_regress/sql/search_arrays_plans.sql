-- How arrays of values are compared with arrays of text: plans, parameters, rights, keysets, and a new index key.
CALL regress.fresh();
CREATE TABLE docs (id int PRIMARY KEY, tags encrypted_text(email,searchable)[], plain text[], one text);
INSERT INTO docs SELECT i, ARRAY['t' || i % 50, 'all'], ARRAY['t' || i % 50, 'all'], 't' || i % 50 FROM generate_series(1, 1000) AS i;
CREATE INDEX docs_tags ON docs USING gin (tags);
CREATE INDEX docs_hash ON docs USING hash (tags);
ANALYZE docs;
SET enable_seqscan = off;
-- Constants, in every form.
SELECT regress.plan($$SELECT id FROM docs WHERE tags @> '{t7}'$$);
SELECT regress.plan($$SELECT id FROM docs WHERE tags @> '{t7}'::text[]$$);
SELECT regress.plan($$SELECT id FROM docs WHERE tags @> ARRAY['t7']$$);
SELECT regress.plan($$SELECT id FROM docs WHERE tags @> ARRAY['t7']::varchar[]$$);
SELECT regress.plan($$SELECT id FROM docs WHERE tags @> ARRAY['t7']::text[]::encrypted_text[]$$);
SELECT regress.plan($$SELECT id FROM docs WHERE tags && ARRAY['t7', 't8']$$);
SELECT regress.plan($$SELECT id FROM docs WHERE tags <@ ARRAY['t7', 'all']$$);
SELECT regress.plan($$SELECT id FROM docs WHERE ARRAY['t7'] <@ tags$$);
SELECT regress.plan($$SELECT id FROM docs WHERE tags = ARRAY['t7', 'all']$$);
SELECT regress.plan($$SELECT id FROM docs WHERE tags <> ARRAY['t7', 'all']$$);
-- Parameters: of type text[], varchar[], or none. The generic plan seals them when it runs.
PREPARE texts(text[]) AS SELECT count(*) FROM docs WHERE tags @> $1;
PREPARE varchars(varchar[]) AS SELECT count(*) FROM docs WHERE $1 && tags;
PREPARE untyped AS SELECT count(*) FROM docs WHERE tags @> $1;
PREPARE elements AS SELECT count(*) FROM docs WHERE tags @> ARRAY[$1, $2];
PREPARE casts AS SELECT count(*) FROM docs WHERE tags @> $1::text[]::encrypted_text[];
PREPARE cast_elements(text) AS SELECT count(*) FROM docs WHERE tags @> ARRAY[$1]::encrypted_text[];
PREPARE same(text[]) AS SELECT count(*) FROM docs WHERE tags = $1;
PREPARE within(text[]) AS SELECT count(*) FROM docs WHERE tags <@ $1;
SELECT name, parameter_types FROM pg_prepared_statements ORDER BY name;
CREATE FUNCTION executed() RETURNS TABLE (statement text, answer bigint, plan text) LANGUAGE plpgsql AS $$
BEGIN
  FOREACH statement IN ARRAY ARRAY[$s$texts('{t7}')$s$, $s$varchars('{t7}')$s$, $s$untyped('{t7}')$s$, $s$elements('t7', 'all')$s$, $s$casts('{t7}')$s$, $s$cast_elements('t7')$s$, $s$same('{t7,all}')$s$, $s$within('{t7,all}')$s$] LOOP
    EXECUTE 'EXECUTE ' || statement INTO answer;
    SELECT string_agg(regress.without_ciphertext(trim(p)), '; ') INTO plan FROM regress.plan('EXECUTE ' || statement) AS p WHERE p ~ 'Cond|Filter';
    RETURN NEXT;
  END LOOP;
END $$;
SET plan_cache_mode = force_custom_plan;
SELECT * FROM executed();
SET plan_cache_mode = force_generic_plan;
SELECT * FROM executed();
EXECUTE texts(NULL);
EXECUTE texts('{}');
EXECUTE texts('{NULL}');
EXECUTE texts('{t7,t8}');
-- Without an index.
DISCARD PLANS;
SET enable_bitmapscan = off; SET enable_indexscan = off; SET enable_seqscan = on;
SELECT statement, answer, plan !~ 'Cond' AS scan FROM executed();
DISCARD PLANS;
RESET enable_bitmapscan; RESET enable_indexscan; SET enable_seqscan = off;
RESET plan_cache_mode;
-- Joins: the texts of each row are looked up.
CREATE TABLE wanted (id int, texts text[], one varchar);
INSERT INTO wanted VALUES (1, '{t7}', 't8'), (2, '{t9,all}', 'nothing'), (3, '{}', 't1'), (4, NULL, NULL);
SELECT regress.plan('SELECT w.id FROM wanted AS w JOIN docs AS d ON d.tags @> w.texts WHERE w.id <> 3');
SELECT w.id, count(*) FROM wanted AS w JOIN docs AS d ON d.tags @> w.texts GROUP BY 1 ORDER BY 1;
SELECT w.id, (SELECT count(*) FROM docs AS d WHERE d.tags @> ARRAY[w.one]) AS docs FROM wanted AS w ORDER BY 1;
SELECT count(*) FROM docs AS a JOIN docs AS b ON a.tags = b.plain AND a.id < b.id WHERE a.id < 60;
SELECT count(*) FROM docs WHERE tags = plain;
SELECT count(*) FROM docs WHERE tags IS DISTINCT FROM plain;
SELECT count(*) FROM docs WHERE (tags, id) = (ARRAY['t7', 'all'], 7);
SELECT id FROM docs WHERE tags IN (ARRAY['t7', 'all'], ARRAY['all']) AND id < 99;
SELECT CASE tags WHEN ARRAY['t7', 'all'] THEN 'seven' END FROM docs WHERE id = 7;
SELECT nullif(tags, ARRAY['t7', 'all']) IS NULL FROM docs WHERE id = 7;
SELECT count(*) FROM docs WHERE tags = ANY (SELECT texts FROM wanted UNION SELECT plain FROM docs WHERE id = 7);
-- Views, functions, policies: as they are written.
CREATE VIEW found AS SELECT id FROM docs WHERE tags @> ARRAY['t7'];
SELECT replace(pg_get_viewdef('found'), 'docs.', '') AS found;
SELECT count(*) FROM found;
CREATE FUNCTION inlined(text[]) RETURNS SETOF int LANGUAGE sql STABLE AS 'SELECT id FROM docs WHERE tags @> $1';
SELECT regress.plan($$SELECT * FROM inlined('{t7}')$$);
CREATE FUNCTION atomic(text[]) RETURNS SETOF int LANGUAGE sql STABLE BEGIN ATOMIC SELECT id FROM docs WHERE tags @> $1; END;
SELECT count(*) FROM atomic('{t7}');
CREATE FUNCTION in_plpgsql(texts varchar[]) RETURNS bigint LANGUAGE plpgsql STABLE AS 'BEGIN RETURN (SELECT count(*) FROM docs WHERE tags @> texts); END';
SELECT in_plpgsql('{t7}');
ALTER TABLE docs ADD CHECK (NOT tags && ARRAY['forbidden']);
CALL regress.fails($$INSERT INTO docs VALUES (-1, '{a,forbidden}')$$);
CALL regress.fails($$CREATE INDEX ON docs (id) WHERE tags @> ARRAY['t7']$$);
CALL regress.fails($$CREATE INDEX ON docs ((tags = ARRAY['t7']))$$);
-- Nothing else changed: between arrays of values, of domains over them, and of text, PostgreSQL's own operators are found.
CREATE DOMAIN mail AS encrypted_text('searchable');
CREATE DOMAIN mails AS encrypted_text[];
CREATE DOMAIN texts AS text[] CHECK (VALUE <> '{no}');
CREATE TABLE domains (id int, mail mail[], mails mails, texts texts);
INSERT INTO domains VALUES (1, '{a,b}', '{a,b}', '{a,b}'), (2, '{}', '{}', '{}'), (3, NULL, NULL, NULL);
CREATE FUNCTION operator_of(left_side text, name text, right_side text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE found text;
BEGIN
  EXECUTE format('CREATE TEMPORARY VIEW shown AS SELECT %s %s %s AS answer FROM domains, docs', left_side, name, right_side);
  SELECT coalesce(string_agg(DISTINCT d.refobjid::regoperator::text, ' '), 'PostgreSQL''s') INTO found
  FROM pg_depend AS d JOIN pg_rewrite AS r ON r.oid = d.objid WHERE r.ev_class = 'pg_temp.shown'::regclass AND d.refclassid = 'pg_operator'::regclass;
  DROP VIEW shown;
  RETURN found;
EXCEPTION WHEN OTHERS THEN
  RETURN SQLSTATE || ' ' || SQLERRM;
END $$;
SELECT s.l, s.r, operator_of(s.l, '@>', s.r) AS contains, operator_of(s.l, '=', s.r) AS equal
FROM (VALUES ('tags', 'tags'), ('mail', 'mail'), ('mails', 'mails'), ('mail', 'tags'), ('mails', 'tags'), ('tags', $$'{a}'$$), ('mail', $$'{a}'$$), ('mails', $$'{a}'$$), ($$'{a}'$$, 'tags'), ('tags', 'NULL'),
  ('plain', 'plain'), ('plain', $$'{a}'$$), ('plain', $$ARRAY['a']$$), ($$'{a}'$$, 'plain'), ('texts', 'texts'), ('texts', $$'{a}'$$), ('plain::varchar[]', $$'{a}'$$), ('plain', 'plain::varchar[]'),
  ('tags', 'plain'), ('plain', 'tags'), ('tags', $$ARRAY['a']$$), ('tags', 'texts'), ('mails', 'plain'), ('texts', 'mails'), ('mail', 'plain'), ('mail::encrypted_text[]', 'plain'),
  ('tags', 'plain::varchar(3)[]'), ('tags', $$'a'::text$$), ('tags', 'ARRAY[1]'), ('tags', 'plain::name[]'), ('tags', 'plain::char(3)[]')) AS s (l, r);
SELECT id, mails @> ARRAY['a'], mails = texts, texts <@ mails, mail::encrypted_text[] && texts FROM domains ORDER BY id;
CREATE TABLE excluded (tags encrypted_text(searchable)[], EXCLUDE USING hash (tags WITH =));
INSERT INTO excluded VALUES ('{a,b}'), ('{b,a}');
CALL regress.fails($$INSERT INTO excluded VALUES ('{a,b}')$$);
SELECT DISTINCT tags && ARRAY['a'] FROM excluded UNION SELECT false;
-- Types for operands only.
SET ROLE regress_prism_app;
CALL regress.fails('CREATE TABLE wrong (v encrypted_text_texts)');
CALL regress.fails('CREATE TABLE wrong (v encrypted_text_array)');
RESET ROLE;
CALL regress.fails($$SELECT '{a}'::encrypted_text_texts$$);
CALL regress.fails($$SELECT '{a}'::encrypted_text_array$$);
-- Keysets: texts are those of the session's.
SELECT prism_crypt.create_keyset('tenant') IS NOT NULL AS made;
SET prism_crypt.keyset = 'tenant';
EXECUTE texts('{t7}');
INSERT INTO docs VALUES (1001, '{t7}');
EXECUTE texts('{t7}');
SET plan_cache_mode = force_generic_plan;
EXECUTE texts('{t7}');
RESET prism_crypt.keyset;
EXECUTE texts('{t7}');
RESET plan_cache_mode;
SELECT count(*) FROM docs WHERE tags <> ARRAY['t7'] AND id > 1000;

-- The schema of the extension is not on the path: no other operator is found for these, and ours by its schema.
SET search_path = pg_catalog;
CALL regress.fails($$SELECT count(*) FROM public.docs WHERE tags @> ARRAY['t7']$$);
CALL regress.fails($$SELECT count(*) FROM public.docs WHERE tags = ARRAY['t7']$$);
CALL regress.fails($$SELECT count(*) FROM public.docs WHERE ARRAY['t7'] && tags$$);
CALL regress.fails($$SELECT count(*) FROM public.docs WHERE tags <> plain$$);
SELECT count(*) FROM public.docs WHERE tags OPERATOR(public.@>) ARRAY['t7'];
SELECT count(*) FROM public.docs WHERE tags @> '{t7}';
SELECT regress.plan($$SELECT count(*) FROM public.docs WHERE tags @> ARRAY['t7']::text[]::public.encrypted_text[]$$);
SELECT count(*) FROM public.found;
SELECT count(*) FROM public.atomic('{t7}');
PREPARE hidden_cast(text[]) AS SELECT count(*) FROM public.docs WHERE tags @> $1::public.encrypted_text[];
PREPARE hidden_elements(text, varchar) AS SELECT count(*) FROM public.docs WHERE tags @> ARRAY[$1, $2]::public.encrypted_text[];
SET plan_cache_mode = force_generic_plan;
EXECUTE hidden_cast('{t7}');
EXECUTE hidden_elements('t7', 'all');
SELECT regress.plan($$EXECUTE hidden_cast('{t7}')$$);
SELECT regress.plan($$EXECUTE hidden_elements('t7', 'all')$$);
RESET plan_cache_mode;
RESET search_path;
-- The view as it is shown is a view again, also for a role without access.
SET ROLE regress_prism_app;
DO $$ BEGIN EXECUTE 'CREATE VIEW again AS ' || pg_get_viewdef('found'); END $$;
SELECT pg_get_viewdef('again') = pg_get_viewdef('found') AS same;
RESET ROLE;

-- Rights: those of = between a value and a text. An index changes nothing.
GRANT SELECT ON docs, found, wanted TO regress_prism_app, regress_prism_reader;
CREATE TABLE plain_docs AS SELECT id, tags::text[]::encrypted_text[] AS tags, plain FROM docs WHERE id < 100;
GRANT SELECT ON plain_docs TO regress_prism_app, regress_prism_reader;
SELECT prism_crypt.grant_access('regress_prism_reader', 'decrypt');
CREATE PROCEDURE denied(VARIADIC ways text[]) LANGUAGE plpgsql AS $$
DECLARE way text;
BEGIN
  FOREACH way IN ARRAY ways LOOP
    CALL regress.fails('SELECT count(*) FROM docs WHERE ' || way);
    CALL regress.fails('SELECT count(*) FROM plain_docs WHERE ' || way);
  END LOOP;
END $$;
SET ROLE regress_prism_app;
\set VERBOSITY terse
CALL denied($$tags @> ARRAY['t7']$$, $$tags && ARRAY['t7']$$, $$tags <@ ARRAY['t7']$$, $$tags = ARRAY['t7', 'all']$$, $$tags <> ARRAY['t7', 'all']$$, $$ARRAY['t7'] <@ tags$$, 'tags @> plain', 'plain @> tags', $$tags @> '{t7}'$$,
  $$tags @> ARRAY['t7']::text[]::encrypted_text[]$$, $$tags @> (SELECT '{t7}'::text[])$$, $$encrypted_text_array_contains(tags, ARRAY['t7'])$$, $$tags @> encrypted_text_wanted('{t7}')$$);
CALL regress.fails($$SELECT encrypted_text_wanted('{t7}')$$);
CALL regress.fails($$SELECT count(*) FROM wanted AS w JOIN docs AS d ON d.tags @> w.texts$$);
SET plan_cache_mode = force_generic_plan;
CALL regress.fails($$EXECUTE texts('{t7}')$$);
RESET plan_cache_mode;
SET ROLE regress_prism_reader;
CALL denied($$tags @> ARRAY['t7']$$, 'tags @> plain');
RESET ROLE;
SELECT prism_crypt.grant_access('regress_prism_app', 'search');
SET ROLE regress_prism_app;
SELECT count(*) FROM docs WHERE tags @> ARRAY['t7'];
SELECT count(*) FROM plain_docs WHERE tags @> ARRAY['t7'];
SELECT count(*) FROM docs WHERE tags @> plain;
EXECUTE texts('{t7}');
CALL regress.fails($$SELECT encrypted_text_wanted('{t7}')::text[]$$);
-- Also where PL/pgSQL keeps an expression for another role.
RESET ROLE;
CREATE FUNCTION kept(tags encrypted_text[], texts text[]) RETURNS boolean LANGUAGE plpgsql AS 'BEGIN RETURN tags @> texts; END';
BEGIN;
SELECT kept(tags, plain) FROM docs WHERE id = 7;
SET LOCAL ROLE regress_prism_reader;
CALL regress.fails('SELECT kept(tags, plain) FROM docs WHERE id = 7');
ROLLBACK;
SELECT prism_crypt.revoke_access('regress_prism_app', 'search'), prism_crypt.revoke_access('regress_prism_reader', 'decrypt');
\set VERBOSITY default
