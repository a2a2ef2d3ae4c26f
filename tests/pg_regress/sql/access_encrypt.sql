-- Encrypting is everybody's, until it is closed.
CALL regress.fresh();
\set SHOW_CONTEXT never
SELECT prism_crypt.rotate_key() IS NOT NULL AS rotated;
CREATE TABLE notes (id int, v encrypted_text, s encrypted_text('searchable'), b bytea);
CREATE TABLE copies (v encrypted_text, a encrypted_text[]);
GRANT ALL ON notes, copies TO PUBLIC;
CREATE FUNCTION lent(t text) RETURNS encrypted_text LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp AS $$ BEGIN RETURN encrypt_field(t); END $$;
CREATE FUNCTION kept(t text) RETURNS text LANGUAGE plpgsql AS $$ DECLARE v public.encrypted_text; BEGIN v := t; RETURN public.key_version(v); END $$;
CREATE FUNCTION lends() RETURNS text LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$ BEGIN RETURN public.kept('x'); END $$;
CREATE PROCEDURE writes() LANGUAGE plpgsql AS $$
DECLARE
  statement text;
BEGIN
  FOREACH statement IN ARRAY ARRAY[
    'INSERT INTO notes (v) VALUES (''literal'')', 'INSERT INTO notes (v) VALUES (''text''::text)', 'INSERT INTO notes (v) VALUES (''text''::varchar)',
    'INSERT INTO notes (v) VALUES (''char''::char(9))', 'UPDATE notes SET v = id::text', 'INSERT INTO copies (a) VALUES (''{x,y}'')',
    'INSERT INTO notes (v) SELECT encrypt_field(''f'')', 'INSERT INTO notes (b) SELECT encrypt_bytes(''b'')', 'SELECT ''x''::encrypted_text IS NOT NULL',
    'SELECT count(*) FROM notes WHERE s = ''x''', 'SELECT lent(''x'') IS NOT NULL', 'SELECT kept(''x'') IS NOT NULL', 'INSERT INTO copies (v) SELECT v FROM notes', 'SELECT v FROM notes'] LOOP
    BEGIN
      EXECUTE statement;
      RAISE INFO 'done: %', statement;
    EXCEPTION WHEN OTHERS THEN
      RAISE INFO '% %: %', SQLSTATE, SQLERRM, statement;
    END;
  END LOOP;
END $$;
CREATE FUNCTION sealed_in(query text) RETURNS boolean LANGUAGE plpgsql AS $$
DECLARE
  line text;
BEGIN
  FOR line IN EXECUTE 'EXPLAIN (VERBOSE, COSTS OFF) ' || query LOOP
    IF line LIKE '%prism:v%' THEN
      RETURN true;
    END IF;
  END LOOP;
  RETURN false;
EXCEPTION WHEN insufficient_privilege THEN
  RETURN NULL;
END $$;
CREATE VIEW sealing WITH (security_barrier) AS
SELECT q, sealed_in(q) AS sealed FROM unnest(ARRAY[
  'SELECT id FROM notes WHERE v = ''x''::text', 'SELECT id FROM notes WHERE ''x''::text <> v', 'SELECT id FROM notes WHERE v = ANY (ARRAY[''x'', ''y'']::text[])',
  'SELECT id FROM notes WHERE v IS DISTINCT FROM ''x''::text', 'SELECT id FROM notes WHERE ''x''::text = ANY (ARRAY[v, s])']) AS q;
GRANT SELECT ON sealing TO PUBLIC;
SET ROLE regress_prism_reader;
CALL writes();
RESET ROLE;
SELECT prism_crypt.close_encrypt();
SET ROLE regress_prism_reader;
CALL writes();
-- What a function of somebody who may has made ready is not there for others.
BEGIN;
SET LOCAL search_path = pg_catalog, pg_temp;
SELECT public.lends() IS NOT NULL AS lent;
SELECT public.kept('y');
ROLLBACK;
COPY notes (v) FROM STDIN;
x
\.
-- Constants of queries are not encrypted for it while they are planned, and no operator of its own is handed them.
SELECT * FROM sealing;
CREATE FUNCTION pg_temp.f1(encrypted_text, text) RETURNS boolean LANGUAGE sql AS 'SELECT true';
CREATE FUNCTION pg_temp.f2(a encrypted_text, b encrypted_text) RETURNS boolean LANGUAGE plpgsql AS $$ BEGIN INSERT INTO copies VALUES (b); RETURN false; END $$;
CREATE OPERATOR pg_temp.@@@ (LEFTARG = encrypted_text, RIGHTARG = text, FUNCTION = pg_temp.f1);
CREATE OPERATOR pg_temp.@@@ (LEFTARG = encrypted_text, RIGHTARG = encrypted_text, FUNCTION = pg_temp.f2);
DELETE FROM copies;
SELECT NULL::encrypted_text OPERATOR(pg_temp.@@@) ANY (ARRAY['chosen', 'too']);
SELECT NULL::encrypted_text OPERATOR(pg_temp.@@@) 'chosen'::text;
SELECT count(*) FROM copies;
RESET ROLE;
SELECT * FROM sealing;
SELECT prism_crypt.grant_access('regress_prism_reader', 'search');
SET ROLE regress_prism_reader;
CALL writes();
SELECT * FROM sealing;
RESET ROLE;
SELECT prism_crypt.revoke_access('regress_prism_reader', 'search'), prism_crypt.grant_access('regress_prism_reader', 'encrypt');
SET ROLE regress_prism_reader;
CALL writes();
RESET ROLE;
SELECT setting, ok FROM prism_crypt.status() WHERE name = 'unexpected_grants';
SELECT prism_crypt.revoke_access('regress_prism_reader', 'encrypt');
SET ROLE regress_prism_reader;
SELECT 'x'::encrypted_text;
SELECT prism_crypt.close_encrypt();
RESET ROLE;
GRANT EXECUTE ON FUNCTION encrypt_field(text, text, text, text), encrypt_bytes(bytea, text, text, text) TO PUBLIC;
SET ROLE regress_prism_reader;
SELECT key_version('x'::encrypted_text) > 0 AS open;
RESET ROLE;
