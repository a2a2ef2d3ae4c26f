-- Literals are sealed when their statement is analysed. Statements that are kept follow the keyset of the session, whatever holds
-- the literal, and whatever keeps the statement.
CALL regress.fresh();
SELECT prism_crypt.create_keyset('other');
CREATE TYPE pair AS (n int, v encrypted_text);
CREATE DOMAIN word AS encrypted_text;
CREATE DOMAIN words AS encrypted_text[];
CREATE TABLE t (id int PRIMARY KEY, v encrypted_text, a encrypted_text[], p pair, e encrypted_text('email', 'searchable'));
CREATE FUNCTION keysets(VARIADIC v encrypted_text[]) RETURNS text LANGUAGE sql STABLE AS $$
  SELECT string_agg(DISTINCT coalesce(k.keyset, 'none'), ' ' ORDER BY coalesce(k.keyset, 'none'))
  FROM unnest(v) AS x LEFT JOIN prism_crypt.key_status AS k ON k.version = key_version(x) $$;

CREATE FUNCTION inlined() RETURNS encrypted_text LANGUAGE sql STABLE AS $$ SELECT 'x'::encrypted_text $$;
CREATE FUNCTION called() RETURNS encrypted_text LANGUAGE plpgsql STABLE AS $$ BEGIN RETURN 'x'::encrypted_text; END $$;
CREATE PROCEDURE given(v encrypted_text, INOUT keyset text) LANGUAGE plpgsql AS $$ BEGIN keyset := keysets(v); END $$;
CREATE FUNCTION shapes(OUT shape text, OUT keyset text) RETURNS SETOF record LANGUAGE plpgsql AS $$
DECLARE
  r record; v encrypted_text; said text;
  c CURSOR FOR SELECT 'x'::encrypted_text;
BEGIN
  shape := 'expression';       keyset := keysets('x'::encrypted_text);                                             RETURN NEXT;
  shape := 'array';            keyset := keysets(VARIADIC '{x,y}'::encrypted_text[]);                              RETURN NEXT;
  shape := 'composite';        keyset := keysets(('(1,x)'::pair).v);                                               RETURN NEXT;
  shape := 'composites';       keyset := keysets((('{"(1,x)","(2,y)"}'::pair[])[2]).v);                            RETURN NEXT;
  shape := 'domain';           keyset := keysets('x'::word);                                                       RETURN NEXT;
  shape := 'domain of arrays'; keyset := keysets(VARIADIC '{x}'::words);                                           RETURN NEXT;
  shape := 'case';             keyset := keysets(CASE WHEN random() < 2 THEN 'x'::encrypted_text ELSE 'y' END);    RETURN NEXT;
  shape := 'assignment';       v := 'x'::encrypted_text; keyset := keysets(v);                                     RETURN NEXT;
  shape := 'inlined';          SELECT keysets(inlined()) INTO keyset;                                              RETURN NEXT;
  shape := 'called';           SELECT keysets(called()) INTO keyset;                                               RETURN NEXT;
  shape := 'values';           SELECT keysets(VARIADIC array_agg(x)) INTO keyset FROM (VALUES ('x'::encrypted_text), ('y')) AS y (x);   RETURN NEXT;
  shape := 'union';            SELECT keysets(VARIADIC array_agg(x)) INTO keyset FROM (SELECT 'x'::encrypted_text UNION ALL SELECT 'y') AS y (x);   RETURN NEXT;
  shape := 'cte';              WITH y AS MATERIALIZED (SELECT 'x'::encrypted_text AS x) SELECT keysets(x) INTO keyset FROM y;           RETURN NEXT;
  shape := 'sublink';          SELECT keysets((SELECT 'x'::encrypted_text FROM generate_series(1, 1))) INTO keyset;                     RETURN NEXT;
  shape := 'lateral';          SELECT keysets(y.x) INTO keyset FROM generate_series(1, 1) AS g, LATERAL (SELECT CASE WHEN g > 0 THEN 'x'::encrypted_text END AS x) AS y;   RETURN NEXT;
  shape := 'group';            SELECT keysets(x) INTO keyset FROM (SELECT coalesce('x'::encrypted_text) AS x FROM generate_series(1, 3) GROUP BY 1) AS y;   RETURN NEXT;
  shape := 'window';           SELECT keysets(first_value('x'::encrypted_text) OVER (ORDER BY g)) INTO keyset FROM generate_series(1, 1) AS g;   RETURN NEXT;
  shape := 'function in from'; SELECT keysets(x) INTO keyset FROM unnest('{x}'::encrypted_text[]) AS x;            RETURN NEXT;
  shape := 'recursion';        WITH RECURSIVE w (n, x) AS (SELECT 1, 'x'::encrypted_text UNION ALL SELECT n + 1, 'y' FROM w WHERE n < 3)
                                 SEARCH DEPTH FIRST BY n SET ordered CYCLE n SET is_cycle TO 'yes' DEFAULT 'no' USING way
                               SELECT keysets(VARIADIC array_agg(x)) INTO keyset FROM w;                           RETURN NEXT;
  DELETE FROM t;
  shape := 'insert';           INSERT INTO t VALUES (1, 'x', '{x}', '(1,x)', 'x') RETURNING keysets(t.v, t.a[1], (t.p).v, t.e) INTO keyset;   RETURN NEXT;
  shape := 'rows';             INSERT INTO t (id, v, e) VALUES (2, 'x', 'x'), (3, 'y', DEFAULT);
                               SELECT keysets(VARIADIC array_agg(t.v)) INTO keyset FROM t WHERE id IN (2, 3);      RETURN NEXT;
  shape := 'conflict';         INSERT INTO t AS i VALUES (1, 'x') ON CONFLICT (id) DO UPDATE SET v = 'z' RETURNING keysets(i.v) INTO keyset;   RETURN NEXT;
  shape := 'element';          UPDATE t SET a[2] = 'x' WHERE id = 1 RETURNING keysets(a[2]) INTO keyset;           RETURN NEXT;
  shape := 'field';            UPDATE t SET p.v = 'x' WHERE id = 1 RETURNING keysets((p).v) INTO keyset;           RETURN NEXT;
  shape := 'returning';        DELETE FROM t WHERE id = 3 RETURNING keysets('x'::encrypted_text) INTO keyset;      RETURN NEXT;
  shape := 'call';             CALL given('x', keyset);                                                            RETURN NEXT;
  shape := 'cursor';           OPEN c; FETCH c INTO v; CLOSE c; keyset := keysets(v);                              RETURN NEXT;
  shape := 'loop';             FOR r IN SELECT 'x'::encrypted_text AS x LOOP keyset := keysets(r.x); END LOOP;     RETURN NEXT;
  shape := 'table';            CREATE TEMP TABLE made AS SELECT 'x'::encrypted_text AS x; SELECT keysets(x) INTO keyset FROM made; DROP TABLE made;   RETURN NEXT;
  shape := 'explain';          FOR said IN EXPLAIN (VERBOSE, COSTS OFF) SELECT 'x'::encrypted_text LOOP
                                 IF said ~ 'prism' THEN keyset := keysets(prism_crypt.load_envelope(substring(said FROM 'prism:v[^'']*'))); END IF;
                               END LOOP;                                                                           RETURN NEXT;
END $$;
PREPARE inlined_too AS SELECT keysets(inlined());
PREPARE in_list AS SELECT keysets(VARIADIC array_agg(x)) FROM unnest(ARRAY['x', 'y']::encrypted_text[] || '{z}') AS x;
CREATE VIEW followed AS SELECT shape, keyset FROM shapes();

SET plan_cache_mode = force_generic_plan;
EXECUTE inlined_too; EXECUTE in_list;
SELECT count(*), string_agg(shape, ', ') FILTER (WHERE keyset IS DISTINCT FROM 'default') AS wrong FROM shapes();
SET prism_crypt.keyset = 'other';
EXECUTE inlined_too; EXECUTE in_list;
SELECT count(*), string_agg(shape, ', ') FILTER (WHERE keyset IS DISTINCT FROM 'other') AS wrong FROM shapes();
BEGIN;
SET LOCAL prism_crypt.keyset = 'default';
EXECUTE inlined_too; EXECUTE in_list;
SELECT count(*), string_agg(shape, ', ') FILTER (WHERE keyset IS DISTINCT FROM 'default') AS wrong FROM followed;
COMMIT;
EXECUTE inlined_too; EXECUTE in_list;
SELECT count(*), string_agg(shape, ', ') FILTER (WHERE keyset IS DISTINCT FROM 'other') AS wrong FROM followed;
RESET prism_crypt.keyset;
EXECUTE inlined_too; EXECUTE in_list;
SELECT count(*), string_agg(shape, ', ') FILTER (WHERE keyset IS DISTINCT FROM 'default') AS wrong FROM shapes();
-- A role that may execute nothing plans them as well, also where somebody took the mark from PUBLIC.
REVOKE EXECUTE ON FUNCTION prism_crypt._sealed_constant(anyelement) FROM PUBLIC;
SET ROLE regress_prism_app;
PREPARE of_app AS SELECT key_version('x'::encrypted_text), key_version(('{y}'::encrypted_text[])[1]);
EXECUTE of_app;
RESET ROLE;
GRANT EXECUTE ON FUNCTION prism_crypt._sealed_constant(anyelement) TO PUBLIC;
DEALLOCATE ALL;

-- What is stored is not marked: it stays what it is, and nothing in the catalogs depends on the mark.
CREATE VIEW v1 AS SELECT 'x'::encrypted_text AS x, '{x,y}'::encrypted_text[] AS y, ('(1,x)'::pair).v FROM t WHERE v IS DISTINCT FROM 'x';
CREATE OR REPLACE VIEW v1 AS SELECT 'y'::encrypted_text AS x, '{x,y}'::encrypted_text[] AS y, ('(1,x)'::pair).v FROM t;
CREATE RECURSIVE VIEW v2 (n, x) AS SELECT 1, 'x'::encrypted_text UNION ALL SELECT n + 1, 'y' FROM v2 WHERE n < 3;
CREATE SCHEMA of_views CREATE TABLE t (v encrypted_text DEFAULT 'x') CREATE VIEW v3 AS SELECT coalesce(v, 'x') AS x FROM t;
CREATE MATERIALIZED VIEW v4 AS SELECT 'x'::encrypted_text AS x;
DO $$ BEGIN
  CREATE VIEW v5 AS SELECT 'x'::encrypted_text AS x;
  EXECUTE 'CREATE VIEW v6 AS SELECT ''x''::encrypted_text AS x';
END $$;
CREATE FUNCTION checked(encrypted_text) RETURNS boolean LANGUAGE plpgsql AS $$ BEGIN PERFORM 'y'::encrypted_text; RETURN true; END $$;
CREATE DOMAIN checked AS encrypted_text CHECK (checked(VALUE));
CREATE TYPE checked_pair AS (c checked);
CREATE VIEW v7 AS SELECT ('(x)'::checked_pair).c;
CREATE VIEW v8 AS SELECT inlined() AS x, called() AS y;
CREATE RULE r AS ON INSERT TO of_views.t DO ALSO INSERT INTO t (id, v) VALUES (100, 'x');
CREATE FUNCTION body() RETURNS encrypted_text LANGUAGE sql RETURN 'x'::encrypted_text;
CALL regress.fails($$CREATE VIEW v9 AS SELECT 'x'::encrypted_text AS x FROM missing$$);
CALL regress.fails($$CREATE VIEW v1 AS SELECT 'x'::encrypted_text AS x$$);
CREATE VIEW v9 AS SELECT 'x'::encrypted_text AS x;
SELECT count(*) FROM pg_depend WHERE refclassid = 'pg_proc'::regclass AND refobjid = 'prism_crypt._sealed_constant'::regproc;
SELECT count(*) FROM pg_rewrite WHERE ev_action::text ~ ('funcid ' || 'prism_crypt._sealed_constant'::regproc::oid);
SELECT regexp_replace(pg_get_viewdef('v1'), 'prism:v1:[^'',}"]*', 'prism:v1:…', 'g');
SELECT keysets(x) FROM v9;
SET prism_crypt.keyset = 'other';
SELECT keysets(x) FROM v9;
-- The next statement after a view that failed is marked.
PREPARE after_all AS SELECT keysets('x'::encrypted_text);
EXECUTE after_all;
RESET prism_crypt.keyset;
EXECUTE after_all;
-- Called by hand it gives what it is given.
SELECT prism_crypt._sealed_constant(1), prism_crypt._sealed_constant(now()) = now(), prism_crypt._sealed_constant(NULL::int);
-- In a session that loads the library by a statement: in its middle it can't be told what it is of, a view or not.
\c
CREATE VIEW v10 AS SELECT 'x'::encrypted_text AS x;
SELECT count(*) FROM pg_depend WHERE refclassid = 'pg_proc'::regclass AND refobjid = 'prism_crypt._sealed_constant'::regproc;
\c
PREPARE first AS SELECT keysets('x'::encrypted_text);
EXECUTE first;
SET prism_crypt.keyset = 'other';
EXECUTE first;
