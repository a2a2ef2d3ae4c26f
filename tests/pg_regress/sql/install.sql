-- What the extension consists of: everything is described, and next to nothing is PUBLIC's.
CALL regress.fresh();

-- Without the types of arrays and of rows of tables, which are members since PostgreSQL 17.
CREATE VIEW member AS
  SELECT d.classid, d.objid, pg_describe_object(d.classid, d.objid, 0) AS object
  FROM pg_depend AS d JOIN pg_extension AS e ON e.oid = d.refobjid AND d.refclassid = 'pg_extension'::regclass
  WHERE d.deptype = 'e' AND e.extname = 'prism_crypt' AND NOT (d.classid = 'pg_type'::regclass AND (
    EXISTS (SELECT FROM pg_type AS t WHERE t.typarray = d.objid)
    OR EXISTS (SELECT FROM pg_class AS c WHERE c.reltype = d.objid AND c.relkind <> 'c')));

SELECT object FROM member ORDER BY object COLLATE "C";

-- Nothing is without a comment.
SELECT object FROM member AS m
WHERE obj_description(objid, (SELECT relname FROM pg_class WHERE oid = classid)) IS NULL
ORDER BY object COLLATE "C";
SELECT attrelid::regclass, attname FROM pg_attribute JOIN member ON attrelid = objid AND classid = 'pg_class'::regclass
JOIN pg_class AS c ON c.oid = objid
WHERE relkind = 'r' AND attnum > 0 AND col_description(attrelid, attnum) IS NULL;
SELECT tgrelid::regclass AS relation, tgname, obj_description(oid, 'pg_trigger') IS NOT NULL AS described, tgenabled
FROM pg_trigger WHERE tgrelid IN (SELECT oid FROM pg_class WHERE relnamespace = 'prism_crypt'::regnamespace) AND NOT tgisinternal
ORDER BY tgrelid::regclass::text COLLATE "C", tgname;
SELECT obj_description(oid, 'pg_extension') FROM pg_extension WHERE extname = 'prism_crypt';

-- What PUBLIC may.
SELECT object FROM member JOIN pg_proc AS p ON p.oid = objid AND classid = 'pg_proc'::regclass
WHERE EXISTS (SELECT FROM aclexplode(coalesce(proacl, acldefault('f', proowner))) WHERE grantee = 0)
ORDER BY object COLLATE "C";
SELECT object FROM member JOIN pg_class AS c ON c.oid = objid AND classid = 'pg_class'::regclass
WHERE EXISTS (SELECT FROM aclexplode(coalesce(relacl, acldefault('r', relowner))) WHERE grantee = 0);
SELECT nspname, nspacl FROM pg_namespace WHERE nspname = 'prism_crypt';

-- Volatility, strictness, parallel safety; nothing is leakproof.
\pset format unaligned
SELECT CASE provolatile WHEN 'i' THEN 'immutable' WHEN 's' THEN 'stable' ELSE 'volatile' END AS volatility,
       CASE proparallel WHEN 's' THEN 'safe' WHEN 'u' THEN 'unsafe' ELSE 'restricted' END AS parallel,
       CASE WHEN proisstrict THEN 'strict' ELSE '' END AS strict, proleakproof AS leakproof, prosecdef AS definer,
       string_agg(proname, ' ' ORDER BY proname COLLATE "C") AS functions
FROM member JOIN pg_proc AS p ON p.oid = objid AND classid = 'pg_proc'::regclass
GROUP BY 1, 2, 3, 4, 5 ORDER BY 1, 2, 3, 5;

\pset format aligned
-- Those with the rights of their owner have a fixed search path; procedures that commit have none.
SELECT object, proconfig FROM member JOIN pg_proc AS p ON p.oid = objid AND classid = 'pg_proc'::regclass
WHERE prosecdef OR prokind = 'p' ORDER BY object COLLATE "C";

-- The type.
SELECT typcategory, typispreferred, typstorage, typalign, typlen, typdelim, typcollation, typbyval FROM pg_type
WHERE oid = 'encrypted_text'::regtype;
SELECT castsource::regtype, casttarget::regtype, castcontext, castmethod FROM pg_cast
WHERE 'encrypted_text'::regtype IN (castsource, casttarget) ORDER BY 1, 2;
SELECT count(*) AS operators FROM pg_operator WHERE 'encrypted_text'::regtype IN (oprleft, oprright);

-- A dump carries the state.
SELECT unnest(extconfig)::regclass AS dumped, unnest(extcondition) AS condition
FROM pg_extension WHERE extname = 'prism_crypt' ORDER BY 1;

-- Dropped and made again: nothing is left, and the first version is 1 again.
CREATE TABLE patient (id int, email encrypted_text);
CALL regress.fails('DROP EXTENSION prism_crypt');
DROP VIEW member;
SET client_min_messages = warning;
DROP EXTENSION prism_crypt CASCADE;
RESET client_min_messages;
SELECT count(*) FROM pg_namespace WHERE nspname = 'prism_crypt';
\d patient
CALL regress.fails($$SELECT 'x'::encrypted_text$$);
-- The library stays loaded in this session; it must not stumble over what is gone.
CALL regress.fails('SELECT prism_crypt.status()');
CREATE EXTENSION prism_crypt;
CALL regress.fails($$SELECT encrypt_field('x')$$);
SELECT prism_crypt.rotate_key();
SELECT decrypt_field(encrypt_field('x'));
CALL regress.fails('CREATE EXTENSION prism_crypt');
CALL regress.fails('ALTER EXTENSION prism_crypt SET SCHEMA regress');
-- Keys are in the way, as values may be in columns that depend on nothing.
CALL regress.fails('DROP EXTENSION prism_crypt');
SET client_min_messages = warning;
DROP EXTENSION prism_crypt CASCADE;
RESET client_min_messages;

-- A schema of the name that somebody made before is not taken over.
CREATE SCHEMA prism_crypt;
CALL regress.fails('CREATE EXTENSION prism_crypt');
DROP SCHEMA prism_crypt;
SELECT count(*) FROM pg_extension WHERE extname = 'prism_crypt';

-- Not for ordinary roles.
SET ROLE regress_prism_app;
CALL regress.fails('CREATE EXTENSION prism_crypt');
RESET ROLE;

-- In another schema, which is not on the search path.
CREATE SCHEMA crypt;
CREATE EXTENSION prism_crypt WITH SCHEMA crypt;
GRANT USAGE ON SCHEMA crypt TO PUBLIC;
SELECT prism_crypt.rotate_key();
CREATE TABLE elsewhere (id int, email crypt.encrypted_text('email'), note crypt.encrypted_text);
INSERT INTO elsewhere VALUES (1, 'anna@example.org', 'first'), (2, crypt.encrypt_field('ben@example.org'), NULL);
SELECT id, crypt.decrypt_field(email), note::text, crypt.mask_field(email), email LIKE '%@example.org' AS matches
FROM elsewhere ORDER BY id;
SELECT prism_crypt.rotate_key();
CALL crypt.rotate_batch('elsewhere', 'email');
CALL crypt.rotate_batch('elsewhere', 'note');
SELECT id, crypt.key_version(email), crypt.key_version(note), crypt.decrypt_field(email) FROM elsewhere ORDER BY id;
-- Operators are found by the search path, or by their full name. Indexes, grouping, foreign keys and constraints need neither.
CREATE TABLE found (id int, email crypt.encrypted_text('searchable'), EXCLUDE USING hash (email WITH OPERATOR(crypt.=)));
CREATE UNIQUE INDEX ON found (email crypt.encrypted_text_unique_ops);
CREATE TABLE finder (email crypt.encrypted_text REFERENCES found (email));
INSERT INTO found VALUES (1, 'anna'), (2, 'ben');
INSERT INTO finder VALUES ('ben');
SET enable_seqscan = off;
SET search_path = pg_catalog;
INSERT INTO public.found AS f VALUES (3, 'anna') ON CONFLICT (email) DO UPDATE SET id = 3 RETURNING id;
SELECT regress.plan($$SELECT id FROM public.found WHERE email OPERATOR(crypt.=) 'anna'$$);
SELECT id FROM public.found WHERE email OPERATOR(crypt.=) 'anna'::text AND email OPERATOR(crypt.=) 'anna'::name AND email OPERATOR(crypt.=) ANY (ARRAY['anna']);
SELECT count(*) FROM (SELECT email FROM public.found UNION SELECT email FROM public.finder) AS u;
SET client_min_messages = error;
CALL prism_crypt.rotate_index_key();
RESET client_min_messages;
SELECT id FROM public.found WHERE email OPERATOR(crypt.=) 'ben';
RESET enable_seqscan;
SELECT crypt.decrypt_field(crypt.reencrypt_field(crypt.encrypt_field('x')));
CREATE TEMP TABLE copied (v crypt.encrypted_text);
SET prism_crypt.output = 'plaintext';
SELECT note FROM public.elsewhere WHERE id = 1;
SET prism_crypt.output = 'masked';
SELECT email FROM public.elsewhere WHERE id = 1;
RESET prism_crypt.output;
RESET search_path;
SELECT prism_crypt.grant_access('regress_prism_reader', 'decrypt'), prism_crypt.grant_access('regress_prism_app', 'search');
SET ROLE regress_prism_reader;
SELECT crypt.decrypt_field(crypt.encrypt_field('x'));
CALL regress.fails($$SELECT ARRAY['x'::crypt.encrypted_text] OPERATOR(pg_catalog.=) ARRAY['x'::crypt.encrypted_text]$$);
RESET ROLE;
SET ROLE regress_prism_app;
SELECT crypt.encrypt_field('x') OPERATOR(crypt.=) 'x', ARRAY['x'::crypt.encrypted_text] OPERATOR(pg_catalog.=) ARRAY['x'::crypt.encrypted_text];
RESET ROLE;
SELECT prism_crypt.revoke_access('regress_prism_reader', 'decrypt'), prism_crypt.revoke_access('regress_prism_app', 'search');
SELECT name, ok FROM prism_crypt.status() WHERE name IN ('key_source', 'active_versions') ORDER BY name;
DROP SCHEMA crypt CASCADE;
