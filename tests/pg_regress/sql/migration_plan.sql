-- prism_crypt.plan_migration() and explain_migration(): what it would take to encrypt a column.
CALL regress.fresh();
\set SHOW_CONTEXT never
SET client_min_messages = warning;
CREATE FUNCTION plan(relation regclass, column_name name, type text, using_expression text DEFAULT NULL) RETURNS TABLE (key text, value text) LANGUAGE sql AS $$
  -- Numbers and times are left out.
  SELECT p.key, CASE WHEN p.key IN ('bytes_now', 'bytes_after', 'bytes_peak', 'seconds', 'wal_bytes') THEN CASE WHEN p.value::text::numeric > 0 THEN 'more than 0' END
                     ELSE regexp_replace(jsonb_pretty(p.value), '[0-9.]+ m?s\M', 'n', 'g') END
  FROM jsonb_each(prism_crypt.plan_migration(relation, column_name, type, using_expression)) AS p ORDER BY p.key COLLATE "C"
$$;
CREATE FUNCTION blocks(relation regclass, column_name name, type text, using_expression text DEFAULT NULL) RETURNS TABLE (kind text, identity text, blocks text, unblock text) LANGUAGE sql AS $$
  SELECT d.* FROM jsonb_to_recordset(prism_crypt.plan_migration(relation, column_name, type, using_expression) -> 'dependants') AS d (kind text, identity text, blocks text, unblock text)
  WHERE d.blocks IS NOT NULL
$$;
-- Estimates are what this file says: nobody analyzes the table at another moment.
CREATE TABLE patient (id int PRIMARY KEY, email text NOT NULL, note text) WITH (autovacuum_enabled = off);
INSERT INTO patient SELECT n, 'p' || n || '@example.org', repeat('x', 20) FROM generate_series(1, 3000) AS n;
ANALYZE patient;
CREATE INDEX by_email ON patient (email);
CREATE VIEW emails AS SELECT email FROM patient;
GRANT SELECT ON patient TO regress_prism_reader;
GRANT INSERT ON patient TO regress_prism_app;
GRANT SELECT ON emails TO regress_prism_masker;
SELECT prism_crypt.grant_access('regress_prism_masker', 'decrypt');
\a
SELECT * FROM plan('patient', 'email', 'encrypted_text(''email'', ''searchable'')');
\a
SELECT regexp_replace(line, '[0-9]+ ([kM]B|m?s)\M', 'n', 'g') AS line FROM prism_crypt.explain_migration('patient', 'email', 'encrypted_text(''email'', ''searchable'')') AS line;
-- Nothing was changed, and nothing is left.
SELECT format_type(atttypid, atttypmod), (SELECT count(*) FROM pg_class WHERE relnamespace = pg_my_temp_schema()) FROM pg_attribute WHERE attrelid = 'patient'::regclass AND attname = 'email';
BEGIN READ ONLY;
CALL regress.fails($$SELECT prism_crypt.plan_migration('patient', 'email', 'encrypted_text')$$);
ROLLBACK;
-- It locks nothing that anybody would notice.
BEGIN;
SELECT prism_crypt.plan_migration('patient', 'email', 'encrypted_text(email, searchable)') ->> 'blocked' AS blocked;
SELECT DISTINCT mode FROM pg_locks WHERE pid = pg_backend_pid() AND relation IN (SELECT oid FROM pg_class WHERE relnamespace = 'public'::regnamespace);
ROLLBACK;
-- Sizes: a value gets longer by its envelope.
SELECT p -> 'rows' AS rows, (p ->> 'bytes_after')::bigint BETWEEN (p ->> 'bytes_now')::bigint AND 2.5 * (p ->> 'bytes_now')::bigint AS larger,
       (p ->> 'bytes_peak')::bigint > (p ->> 'bytes_after')::bigint AS peak, p ->> 'basis' AS basis
FROM prism_crypt.plan_migration('patient', 'email', 'encrypted_text') AS p;
-- A table for which a rewrite takes too long.
UPDATE pg_class SET reltuples = 1e9 WHERE oid = 'patient'::regclass;
CREATE FUNCTION nothing() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RETURN NEW; END $$;
CREATE TRIGGER "~~late" BEFORE INSERT OR UPDATE ON patient FOR EACH ROW EXECUTE FUNCTION nothing();
CREATE TRIGGER "~a" BEFORE INSERT OR UPDATE ON patient FOR EACH ROW EXECUTE FUNCTION nothing();
CREATE TRIGGER "~~after" AFTER INSERT OR UPDATE ON patient FOR EACH ROW EXECUTE FUNCTION nothing();
SELECT p ->> 'method' AS method, p ->> 'why' ~ '^a rewrite would lock the table for about ' AS why, p -> 'rows' AS rows, p ->> 'locked' AS locked FROM prism_crypt.plan_migration('patient', 'email', 'encrypted_text') AS p;
SELECT note FROM jsonb_array_elements_text(prism_crypt.plan_migration('patient', 'email', 'encrypted_text') -> 'notes') AS note;
SELECT * FROM blocks('patient', 'email', 'encrypted_text');
ANALYZE patient;
SELECT * FROM blocks('patient', 'email', 'encrypted_text');
DROP VIEW emails;
DROP INDEX by_email;

-- Types, and expressions.
CREATE DOMAIN mail AS varchar(50) CHECK (value LIKE '%@%');
CREATE TABLE typed (id int, v varchar(30), c char(10), n name, i2 int2, i8 int8, num numeric(5, 2), u uuid, d date, ts timestamptz, j jsonb, b boolean, m mail, a text[], e encrypted_text, ea encrypted_text[], y bytea);
INSERT INTO typed VALUES (1, 'v', 'c', 'n', 2, 8, 1.50, 'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11', '2026-01-02', '2026-01-02', '{}', true, 'a@b', '{}', 'e', ARRAY['e'::encrypted_text], '\x00');
SELECT a.attname, p ->> 'old_type' AS old_type, p ->> 'basis' AS basis, jsonb_path_query_array(p, '$.dependants[*].blocks') AS blocks
FROM pg_attribute AS a, prism_crypt.plan_migration('typed', a.attname, 'encrypted_text(personal)') AS p
WHERE a.attrelid = 'typed'::regclass AND a.attnum > 0 AND a.attname NOT IN ('e', 'ea') ORDER BY a.attnum;
SELECT p ->> 'basis' AS basis, p ->> 'using' AS using, p -> 'blocked' AS blocked FROM prism_crypt.plan_migration('typed', 'ts', 'encrypted_text', 'to_char(typed.ts, ''YYYY-MM-DD'') || id') AS p;
SELECT p ->> 'basis' AS basis, p ->> 'new_type' AS type, jsonb_path_query_array(p, '$.dependants[*].blocks') AS blocks FROM prism_crypt.plan_migration('typed', 'e', 'varchar(20)') AS p;
SELECT p ->> 'basis' AS basis, p ->> 'new_type' AS type, jsonb_path_query_array(p, '$.dependants[*].blocks') AS blocks FROM prism_crypt.plan_migration('typed', 'e', 'int') AS p;
SELECT p ->> 'basis' AS basis, p ->> 'new_type' AS type, jsonb_path_query_array(p, '$.dependants[*].blocks') AS blocks FROM prism_crypt.plan_migration('typed', 'e', 'text -- and a comment') AS p;
CALL regress.fails($$SELECT prism_crypt.plan_migration('typed', 'ts', 'encrypted_text', 'ts')$$);
CALL regress.fails($$SELECT prism_crypt.plan_migration('typed', 'v', 'encrypted_text', 'max(v)')$$);
CALL regress.fails($$SELECT prism_crypt.plan_migration('typed', 'v', 'encrypted_text', 'string_agg(v, '''') OVER ()')$$);
CALL regress.fails($$SELECT prism_crypt.plan_migration('typed', 'v', 'encrypted_text', '(SELECT v)')$$);
CALL regress.fails($$SELECT prism_crypt.plan_migration('typed', 'v', 'encrypted_text', 'regexp_split_to_table(v, '','')')$$);
CALL regress.fails($$SELECT prism_crypt.plan_migration('typed', 'v', 'encrypted_text', 'nothing')$$);
CALL regress.fails($$SELECT prism_crypt.plan_migration('typed', 'v', 'encrypted_text', 'v, v')$$);
CALL regress.fails($$SELECT prism_crypt.plan_migration('typed', 'v', 'encrypted_text', 'v), DROP COLUMN id, ALTER COLUMN v TYPE text USING (v')$$);
CALL regress.fails($$SELECT prism_crypt.plan_migration('typed', 'v', 'encrypted_text', 'v); DROP TABLE typed; SELECT (1')$$);
CALL regress.fails($$SELECT prism_crypt.plan_migration('typed', 'v', 'encrypted_text', 'v) FROM typed; --')$$);
CALL regress.fails($$SELECT prism_crypt.plan_migration('typed', 'v', 'encrypted_text', '1); DROP TABLE typed; SELECT (1')$$);
CALL regress.fails($$SELECT prism_crypt.plan_migration('typed', 'v', 'encrypted_text', '')$$);
SELECT p ->> 'basis' AS basis FROM prism_crypt.plan_migration('typed', 'v', 'encrypted_text', 'v -- and a comment') AS p;
CALL regress.fails($$SELECT prism_crypt.plan_migration('typed', 'e', 'encrypted_text(searchable)')$$);
CALL regress.fails($$SELECT prism_crypt.plan_migration('typed', 'ea', 'encrypted_text')$$);
CALL regress.fails($$SELECT prism_crypt.plan_migration('typed', 'v', 'text')$$);
CALL regress.fails($$SELECT prism_crypt.plan_migration('typed', 'v', 'encrypted_text[]')$$);
CALL regress.fails($$SELECT prism_crypt.plan_migration('typed', 'v', 'no_type')$$);
CALL regress.fails($$SELECT prism_crypt.plan_migration('typed', 'v', 'encrypted_text(nonsense)')$$);
CALL regress.fails($$SELECT prism_crypt.plan_migration('typed', 'v', NULL)$$);
CALL regress.fails($$SELECT prism_crypt.plan_migration('typed', NULL, 'encrypted_text')$$);
CALL regress.fails($$SELECT prism_crypt.plan_migration('typed', 'nothing', 'encrypted_text')$$);
CALL regress.fails($$SELECT prism_crypt.plan_migration('typed', 'ctid', 'encrypted_text')$$);
CALL regress.fails($$SELECT prism_crypt.plan_migration(NULL, 'v', 'encrypted_text')$$);
CALL regress.fails($$SELECT prism_crypt.plan_migration(0, 'v', 'encrypted_text')$$);
-- A type of that name elsewhere is another one; the extension's schema need not be on the path.
CREATE SCHEMA elsewhere;
CREATE DOMAIN elsewhere.encrypted_text AS text;
CALL regress.fails($$SELECT prism_crypt.plan_migration('typed', 'v', 'elsewhere.encrypted_text')$$);
SET search_path = '';
SELECT prism_crypt.plan_migration('public.typed', 'v', 'encrypted_text(personal)') ->> 'new_type' AS type;
RESET search_path;
-- Values that can't be converted are not shown.
CREATE TABLE marked (v text);
INSERT INTO marked VALUES ('prism:v1:AQAAAAAAAaChoqOkpaanqKmqq/wGvxU2ck4db2s8MyBAi3E=');
SELECT * FROM blocks('marked', 'v', 'encrypted_text');
SELECT * FROM blocks('marked', 'v', 'encrypted_text', '(v::int)::text');

-- Tables.
CREATE VIEW a_view AS SELECT 'x'::text AS v;
CREATE TEMP TABLE temporary (v text);
CREATE MATERIALIZED VIEW materialized AS SELECT 'x'::text AS v;
CREATE EXTENSION file_fdw;
CREATE SERVER files FOREIGN DATA WRAPPER file_fdw;
CREATE TABLE parted (k int, v text) PARTITION BY LIST (k);
CREATE TABLE parted_1 PARTITION OF parted FOR VALUES IN (1) WITH (autovacuum_enabled = off);
INSERT INTO parted SELECT 1, 'v' || n FROM generate_series(1, 50) AS n;
SELECT p -> 'tables' AS tables, p -> 'rows' AS rows, p -> 'blocked' AS blocked FROM prism_crypt.plan_migration('parted', 'v', 'encrypted_text') AS p;
CREATE FOREIGN TABLE parted_2 PARTITION OF parted FOR VALUES IN (2) SERVER files OPTIONS (filename '/dev/null');
CREATE TABLE member (v text);
ALTER EXTENSION file_fdw ADD TABLE member;
CALL regress.fails($$SELECT prism_crypt.plan_migration('a_view', 'v', 'encrypted_text')$$);
CALL regress.fails($$SELECT prism_crypt.plan_migration('materialized', 'v', 'encrypted_text')$$);
CALL regress.fails($$SELECT prism_crypt.plan_migration('temporary', 'v', 'encrypted_text')$$);
CALL regress.fails($$SELECT prism_crypt.plan_migration('parted_2', 'v', 'encrypted_text')$$);
CALL regress.fails($$SELECT prism_crypt.plan_migration('parted', 'v', 'encrypted_text')$$);
CALL regress.fails($$SELECT prism_crypt.plan_migration('member', 'v', 'encrypted_text')$$);
CALL regress.fails($$SELECT prism_crypt.plan_migration('pg_catalog.pg_class', 'relname', 'encrypted_text')$$);
CALL regress.fails($$SELECT prism_crypt.plan_migration('prism_crypt.keyset', 'name', 'encrypted_text')$$);
CALL regress.fails($$SELECT prism_crypt.plan_migration('patient_pkey', 'id', 'encrypted_text')$$);
SELECT * FROM blocks('parted_1', 'v', 'encrypted_text');
ALTER EXTENSION file_fdw DROP TABLE member;
DROP EXTENSION file_fdw CASCADE;

-- Another role: an owner, whom row-level security may bind, too.
CREATE TABLE owned (id int, v text);
INSERT INTO owned VALUES (1, 'v');
ALTER TABLE owned OWNER TO regress_prism_owner;
GRANT USAGE ON SCHEMA prism_crypt TO regress_prism_owner, regress_prism_app;
GRANT EXECUTE ON FUNCTION prism_crypt.plan_migration, prism_crypt.explain_migration TO regress_prism_owner, regress_prism_app;
SET ROLE regress_prism_owner;
SELECT p -> 'blocked' AS blocked, p -> 'roles' AS roles FROM prism_crypt.plan_migration('owned', 'v', 'encrypted_text') AS p;
ALTER TABLE owned ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
SELECT * FROM blocks('owned', 'v', 'encrypted_text');
CALL regress.fails($$SELECT prism_crypt.plan_migration('patient', 'email', 'encrypted_text')$$);
SET ROLE regress_prism_app;
CALL regress.fails($$SELECT prism_crypt.plan_migration('owned', 'v', 'encrypted_text')$$);
RESET ROLE;
-- Whoever sees plaintext already, and has the rights, is not named; PUBLIC can't be given any.
SELECT prism_crypt.grant_access('regress_prism_reader', 'decrypt'), prism_crypt.grant_access('regress_prism_reader', 'search');
GRANT SELECT ON owned TO regress_prism_reader, PUBLIC;
ALTER ROLE regress_prism_reader SET prism_crypt.output = 'plaintext';
ALTER ROLE regress_prism_owner SET prism_crypt.output = 'masked';
SELECT jsonb_pretty(prism_crypt.plan_migration('owned', 'v', 'encrypted_text(searchable)') -> 'roles') AS roles;
ALTER ROLE regress_prism_reader RESET prism_crypt.output;
ALTER ROLE regress_prism_owner RESET prism_crypt.output;
-- A role that does not log in: its members do.
CREATE ROLE regress_prism_group;
GRANT regress_prism_group TO regress_prism_app;
GRANT SELECT (v) ON owned TO regress_prism_group;
SELECT jsonb_path_query(prism_crypt.plan_migration('owned', 'v', 'encrypted_text'), '$.roles[*] ? (@.role == "regress_prism_group").sql') AS sql;
DROP OWNED BY regress_prism_group;
DROP ROLE regress_prism_group;
-- Without a key.
CALL regress.fresh(false);
CREATE TABLE keyless (v text);
INSERT INTO keyless VALUES ('v');
SELECT p ->> 'method' AS method, p ->> 'why' AS why, p ->> 'basis' AS basis, jsonb_path_query_array(p, '$.dependants[*].blocks') AS blocks FROM prism_crypt.plan_migration('keyless', 'v', 'encrypted_text') AS p;
SELECT line FROM prism_crypt.explain_migration('keyless', 'v', 'encrypted_text') AS line LIMIT 8;
