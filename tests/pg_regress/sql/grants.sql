-- Installing leaves exactly the extension's own grants, whatever default privileges say; status() tells of others.
CALL regress.fresh(false);
DROP EXTENSION prism_crypt;
CREATE ROLE regress_app;
ALTER DEFAULT PRIVILEGES GRANT EXECUTE ON FUNCTIONS TO regress_app WITH GRANT OPTION;
ALTER DEFAULT PRIVILEGES GRANT ALL ON TABLES TO regress_app WITH GRANT OPTION;
ALTER DEFAULT PRIVILEGES GRANT ALL ON SEQUENCES TO regress_app;
ALTER DEFAULT PRIVILEGES GRANT ALL ON SCHEMAS TO regress_app;
ALTER DEFAULT PRIVILEGES REVOKE USAGE ON TYPES FROM PUBLIC;
ALTER DEFAULT PRIVILEGES REVOKE EXECUTE ON FUNCTIONS FROM PUBLIC;
CREATE EXTENSION prism_crypt;
SELECT prism_crypt.rotate_key() > 0;
-- What PUBLIC and the role got.
SELECT p.oid::regprocedure FROM pg_proc AS p JOIN pg_depend AS d ON d.objid = p.oid AND d.deptype = 'e' AND d.classid = 'pg_proc'::regclass
  JOIN pg_extension AS e ON e.oid = d.refobjid AND e.extname = 'prism_crypt'
  WHERE has_function_privilege('regress_app', p.oid, 'EXECUTE') ORDER BY p.oid::regprocedure::text COLLATE "C";
SELECT c.oid::regclass FROM pg_class AS c WHERE c.relnamespace = 'prism_crypt'::regnamespace AND c.relkind IN ('r', 'v', 'S')
  AND (CASE WHEN c.relkind = 'S' THEN has_sequence_privilege('regress_app', c.oid, 'USAGE, SELECT, UPDATE')
            ELSE has_table_privilege('regress_app', c.oid, 'SELECT, INSERT, UPDATE, DELETE, TRUNCATE, REFERENCES, TRIGGER') END)
ORDER BY c.relname COLLATE "C";
SELECT has_schema_privilege('regress_app', 'prism_crypt', 'USAGE') AS schema, has_type_privilege('regress_app', 'encrypted_text', 'USAGE') AS type;
SELECT name, unnest(string_to_array(setting, '; ')) AS setting, ok FROM prism_crypt.status() WHERE name IN ('enabled', 'unexpected_grants', 'namesakes');
ALTER DEFAULT PRIVILEGES REVOKE ALL ON FUNCTIONS FROM regress_app;
ALTER DEFAULT PRIVILEGES REVOKE ALL ON TABLES FROM regress_app;
ALTER DEFAULT PRIVILEGES REVOKE ALL ON SEQUENCES FROM regress_app;
ALTER DEFAULT PRIVILEGES REVOKE ALL ON SCHEMAS FROM regress_app;
ALTER DEFAULT PRIVILEGES GRANT USAGE ON TYPES TO PUBLIC;
ALTER DEFAULT PRIVILEGES GRANT EXECUTE ON FUNCTIONS TO PUBLIC;

-- Every kind of access is expected, also several.
CREATE ROLE regress_all;
SELECT prism_crypt.grant_access('regress_all', kind)
FROM unnest(ARRAY['decrypt', 'mask', 'search', 'rotate', 'load', 'key_admin', 'monitor']) AS kind;
SELECT prism_crypt.grant_access('regress_app', 'monitor');
SELECT name, unnest(string_to_array(setting, '; ')) AS setting, ok FROM prism_crypt.status() WHERE name IN ('unexpected_grants', 'namesakes');
-- Others are told of, also to monitors.
GRANT EXECUTE ON FUNCTION decrypt_field TO regress_app;
GRANT EXECUTE ON FUNCTION mask_field TO PUBLIC;
GRANT SELECT ON prism_crypt.data_key TO regress_app;
GRANT SELECT (wrapped) ON prism_crypt.index_key TO regress_app;
GRANT SELECT ON prism_crypt.carried_keys TO regress_app;
GRANT CREATE ON SCHEMA prism_crypt TO regress_app;
GRANT EXECUTE ON FUNCTION prism_crypt.load_envelope(text) TO regress_all WITH GRANT OPTION;
SET ROLE regress_app;
SELECT name, unnest(string_to_array(setting, '; ')) AS setting, ok FROM prism_crypt.status() WHERE name IN ('enabled', 'unexpected_grants', 'namesakes');
RESET ROLE;
REVOKE EXECUTE ON FUNCTION decrypt_field FROM regress_app;
REVOKE EXECUTE ON FUNCTION mask_field FROM PUBLIC;
REVOKE SELECT ON prism_crypt.data_key, prism_crypt.carried_keys FROM regress_app;
REVOKE SELECT (wrapped) ON prism_crypt.index_key FROM regress_app;
REVOKE GRANT OPTION FOR EXECUTE ON FUNCTION prism_crypt.load_envelope(text) FROM regress_all;

-- Objects of others with our names.
GRANT CREATE ON SCHEMA public TO regress_app;
SET ROLE regress_app;
CREATE PROCEDURE public.rotate_batch(text) LANGUAGE sql AS 'SELECT 1';
CREATE FUNCTION public.decrypt_field(text) RETURNS text LANGUAGE sql AS 'SELECT $1';
CREATE FUNCTION public.text(regclass) RETURNS text LANGUAGE sql AS $$ SELECT 'a cast''s namesake' $$;
CREATE FUNCTION public.of_their_own(encrypted_text, int) RETURNS boolean LANGUAGE sql AS 'SELECT true';
CREATE OPERATOR public.= (LEFTARG = encrypted_text, RIGHTARG = int, FUNCTION = public.of_their_own);
CREATE OPERATOR public.=== (LEFTARG = int, RIGHTARG = int, FUNCTION = int4eq);
CREATE TABLE prism_crypt.job_queue (id int);
CREATE FUNCTION prism_crypt.help() RETURNS int LANGUAGE sql AS 'SELECT 1';
RESET ROLE;
SELECT name, unnest(string_to_array(setting, '; ')) AS setting, ok FROM prism_crypt.status() WHERE name = 'namesakes';
DROP OWNED BY regress_app, regress_all;
SELECT name, unnest(string_to_array(setting, '; ')) AS setting, ok FROM prism_crypt.status() WHERE name IN ('unexpected_grants', 'namesakes');
DROP ROLE regress_app, regress_all;

-- Which functions each kind of access has: few, so that a new version seldom needs new grants.
SELECT kind, f::regprocedure AS function
FROM unnest(prism_crypt._access_kinds()) WITH ORDINALITY AS k (kind, number), unnest(prism_crypt._access_functions(kind)) AS f
ORDER BY number, f::regprocedure::text COLLATE "C";
SELECT kind, count(*) FROM unnest(prism_crypt._access_kinds()) AS kind, unnest(prism_crypt._access_functions(kind)) AS f GROUP BY kind HAVING count(*) > 25;
-- Helpers that are everybody's run with the caller's rights; these check that the caller owns the table of a migration.
SELECT p.oid::regprocedure FROM pg_proc AS p
WHERE p.oid IN (SELECT prism_crypt._members('pg_proc')) AND p.prosecdef AND has_function_privilege('public', p.oid, 'EXECUTE')
ORDER BY p.oid::regprocedure::text COLLATE "C";
