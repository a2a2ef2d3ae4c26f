-- Where a plan is described, constants are ciphertext, also for a client that reads plaintext.
CALL regress.fresh();
CREATE TABLE plans (id int, v encrypted_text('searchable'), plain text);
INSERT INTO plans VALUES (1, 'needle', 'needle');
CREATE VIEW plans_view AS SELECT 'needle'::encrypted_text AS stored;
-- PostgreSQL runs a statement in a portal of its own, or inside the one of the statement that calls the function.
CREATE FUNCTION in_portal(statement text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE plan text := ''; line text; BEGIN FOR line IN EXECUTE statement LOOP plan := plan || line; END LOOP; RETURN plan; END $$;
CREATE FUNCTION inside(statement text) RETURNS text LANGUAGE plpgsql AS $$ DECLARE plan text; BEGIN EXECUTE statement INTO plan; RETURN plan; END $$;
CREATE FUNCTION shown(plan text) RETURNS text LANGUAGE sql AS $$
SELECT concat_ws(' and ', CASE WHEN plan ~ 'prism:v\d+:' THEN 'ciphertext' END, CASE WHEN plan ~ 'needle' THEN 'plaintext' END) $$;

SET prism_crypt.output = 'plaintext';
SELECT options, shown(in_portal(e)), shown(inside(e)) AS shown_inside
FROM unnest(ARRAY['VERBOSE', 'ANALYZE', 'ANALYZE true', 'ANALYZE on', 'ANALYZE 1', 'ANALYZE false', 'ANALYZE off', 'ANALYZE 0', 'ANALYZE ''OFF''',
  'ANALYZE, ANALYZE off', 'ANALYZE off, ANALYZE', 'ANALYZE off, VERBOSE, ANALYZE off']) AS options,
  format('EXPLAIN (FORMAT JSON, %s) SELECT id FROM plans WHERE v = ''needle''', options) AS e;
SELECT shown(in_portal('EXPLAIN VERBOSE ' || e)), shown(in_portal('EXPLAIN ANALYZE VERBOSE ' || e)), shown(inside('EXPLAIN (FORMAT JSON, VERBOSE) ' || e)) AS shown_inside
FROM unnest(ARRAY['SELECT id FROM plans WHERE v = ''needle''', 'INSERT INTO plans VALUES (2, ''needle'') RETURNING v = ''needle''', 'SELECT * FROM plans_view',
  'DECLARE c CURSOR FOR SELECT * FROM plans_view', 'SELECT id FROM plans WHERE plain = ''needle''']) AS e;
-- What an EXPLAIN runs does not describe a plan, nor does what comes after it.
CREATE TABLE written (v text);
SELECT shown(inside('EXPLAIN ANALYZE INSERT INTO written SELECT to_jsonb(v) FROM plans'));
SELECT DISTINCT v FROM written;
DO $$ DECLARE value encrypted_text := 'needle'; BEGIN
  PERFORM inside('EXPLAIN SELECT 1'); RAISE INFO '%', value;
  PERFORM inside('EXPLAIN ANALYZE SELECT 1'); RAISE INFO '%', value;
  BEGIN PERFORM inside('EXPLAIN ANALYZE SELECT 1 / count(*) - 1 / count(*) FILTER (WHERE v IS NULL) FROM plans'); EXCEPTION WHEN OTHERS THEN RAISE INFO '%: %', SQLSTATE, value; END;
  RAISE INFO '%', value;
END $$;
CALL regress.fails('EXPLAIN (ANALYZE perhaps) SELECT id FROM plans WHERE v = ''needle''');
-- In a session that loads the library because it describes a plan.
\c
SET prism_crypt.output = 'plaintext';
SELECT shown(in_portal('EXPLAIN VERBOSE SELECT * FROM plans_view'));
\c
SET prism_crypt.output = 'plaintext';
SELECT shown(in_portal('EXPLAIN (VERBOSE, ANALYZE off) SELECT * FROM plans_view'));
SELECT * FROM plans_view;
DROP TABLE plans, written; DROP VIEW plans_view;
DROP FUNCTION in_portal, inside, shown;
