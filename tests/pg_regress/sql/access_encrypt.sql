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
RESET ROLE;
SELECT prism_crypt.grant_access('regress_prism_reader', 'search');
SET ROLE regress_prism_reader;
CALL writes();
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
