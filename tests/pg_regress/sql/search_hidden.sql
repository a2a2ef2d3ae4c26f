-- The same answers, by the same indexes, where the extension's schema is not on the search_path: tools set one of their own.
CALL regress.fresh();
CREATE TABLE t (id int, v encrypted_text('email', 'searchable') UNIQUE, w encrypted_text, a encrypted_text[], x text);
INSERT INTO t SELECT i, 'v' || i, 'w' || i % 3, ARRAY['v' || i, 'z']::text[]::encrypted_text[], 'v' || i FROM generate_series(1, 300) AS i;
SELECT prism_crypt.create_keyset('tenant') IS NOT NULL AS made;
INSERT INTO t (id, v, w) VALUES (-1, encrypt_field('v7', keyset => 'tenant'), encrypt_field('w1', keyset => 'tenant'));
CREATE DOMAIN mail AS encrypted_text('searchable');
CREATE TABLE d (id int, v mail);
INSERT INTO d SELECT id, v FROM t WHERE id BETWEEN 1 AND 10;
-- Every question twice, as (path, answer).
CREATE TABLE asked (question text, answer text);
CREATE PROCEDURE public.ask() LANGUAGE plpgsql AS $$
DECLARE question pg_catalog.text; answer pg_catalog.text;
BEGIN
  FOREACH question IN ARRAY ARRAY[
    $q$v = 'v7'$q$, $q$v = 'v7'::text$q$, $q$v = 'v7'::varchar$q$, $q$'v7'::text = v$q$, $q$v <> 'v7' AND id < 9$q$, $q$v IN ('v7', 'v8')$q$, $q$v NOT IN ('v7', 'v8') AND id < 9$q$,
    $q$v = ANY (ARRAY['v7', 'v8']::text[])$q$, $q$v = ANY ('{v7,v8}'::varchar[])$q$, $q$v <> ALL (ARRAY['v7']) AND id < 9$q$, $q$'v7' = ANY (a)$q$, $q$v = ANY (a) AND id < 5$q$,
    $q$v = x AND id < 5$q$, $q$x = v AND id < 5$q$, $q$w = 'w1' AND id < 9$q$, $q$w = (SELECT o.w FROM public.t AS o WHERE o.id = -1)$q$, $q$v IN (SELECT o.v FROM public.t AS o WHERE o.id < 3)$q$,
    $q$v IN (SELECT o.x FROM public.t AS o WHERE o.id < 3)$q$, $q$(v, id) IN (SELECT o.v, o.id FROM public.t AS o WHERE o.id < 3)$q$, $q$EXISTS (SELECT FROM public.d WHERE d.v = t.v)$q$,
    $q$v IS DISTINCT FROM 'v7' AND id < 9$q$, $q$v IS NOT DISTINCT FROM 'v7'::text$q$, $q$CASE v WHEN 'v7' THEN true ELSE false END$q$, $q$ROW(v, id) = ROW('v7', 7)$q$,
    $q$NOT v = 'v7' AND id < 9$q$, $q$(SELECT count(*) FROM public.d WHERE d.v = t.v AND d.v = 'v3') = 1$q$] LOOP
    EXECUTE pg_catalog.format('SELECT pg_catalog.array_agg(id ORDER BY id)::text FROM public.t WHERE %s', question) INTO answer;
    INSERT INTO public.asked VALUES (question, answer);
  END LOOP;
END $$;
CALL ask();
SET search_path = pg_catalog;
CALL public.ask();
RESET search_path;
SELECT question, min(answer) AS answer, count(*) AS asked, count(DISTINCT answer) AS answers FROM asked GROUP BY question ORDER BY question COLLATE "C";
-- By index; what others made, with this path; parameters.
SET enable_seqscan = off;
SET search_path = pg_catalog;
SELECT regress.plan($$SELECT id FROM public.t WHERE v = 'v7'$$);
SELECT regress.plan($$SELECT id FROM public.t WHERE v IN ('v7', 'v8')$$);
SELECT regress.plan('SELECT 1 FROM public.t AS a JOIN public.d AS b ON a.v = b.v');
CREATE VIEW public.seen AS SELECT id FROM public.t WHERE v = 'v7';
CREATE FUNCTION public.found(text) RETURNS SETOF int LANGUAGE sql STABLE AS 'SELECT id FROM public.t WHERE v = $1';
CREATE FUNCTION public.found_atomic(text) RETURNS SETOF int LANGUAGE sql STABLE BEGIN ATOMIC SELECT id FROM public.t WHERE v = $1; END;
CREATE FUNCTION public.found_plpgsql(one text) RETURNS int LANGUAGE plpgsql STABLE AS 'BEGIN RETURN (SELECT id FROM public.t WHERE v = one); END';
PREPARE by_text(text) AS SELECT id FROM public.t WHERE v = $1;
SET plan_cache_mode = force_generic_plan;
EXECUTE by_text('v7');
SELECT * FROM public.seen;
SELECT public.found('v7'), public.found_atomic('v7'), public.found_plpgsql('v7');
SELECT * FROM public.found('v7');
SELECT regress.plan($$SELECT * FROM public.found('v7')$$);
SELECT replace(pg_get_viewdef('public.seen'), 't.', '') AS seen;
RESET plan_cache_mode;
-- Rows of other keysets are not touched.
DELETE FROM public.t WHERE v = 'v7' RETURNING id;
DELETE FROM public.t AS t USING public.d AS d WHERE t.v = d.v AND d.id = 8 RETURNING t.id;
UPDATE public.t SET id = 1009 WHERE v = 'v9' RETURNING id;
SELECT id FROM public.t WHERE id < 0;
-- A right of its own, as with the path; an explicit cast means text.
RESET search_path;
GRANT SELECT ON t TO regress_prism_app;
SELECT prism_crypt.grant_access('regress_prism_app', 'search');
SET ROLE regress_prism_app;
SET search_path = pg_catalog;
SELECT id FROM public.t WHERE v = 'v10';
\set SHOW_CONTEXT never
SELECT id FROM public.t WHERE v::text = 'v10';
\echo :SQLSTATE
RESET ROLE;
SELECT id FROM public.t WHERE v::text = 'v10';
SELECT regress.plan($$SELECT id FROM public.t WHERE v::text = 'v10'$$);
