-- rotate_batch() by roles with less rights: no right to decrypt, none to a table, to see only some rows.
CALL regress.fresh();
\set SHOW_CONTEXT never
CREATE TABLE t (id int PRIMARY KEY, v encrypted_text, e encrypted_text('email'), version int GENERATED ALWAYS AS (key_version(v)) STORED);
INSERT INTO t SELECT n, encrypt_field('default ' || n), encrypt_field('mail' || n || '@example.org', class => 'email') FROM generate_series(1, 250) AS n;

-- A role that can't decrypt.
SELECT prism_crypt.grant_access('regress_prism_rotator', 'rotate');
SELECT prism_crypt.rotate_key() AS active \gset
SET ROLE regress_prism_rotator;
CALL rotate_batch('t', 'v');
\echo :SQLSTATE
RESET ROLE;
GRANT SELECT, UPDATE ON t TO regress_prism_rotator;
SET ROLE regress_prism_rotator;
CALL rotate_batch('t', 'v');
CALL rotate_batch('t', 'e', 3);
CALL regress.fails('SELECT decrypt_field(v) FROM t');
CALL regress.fails('SELECT v::text FROM t');
RESET ROLE;
SELECT keyset, count(*) FROM t JOIN prism_crypt.key_status AS k USING (version) WHERE state = 'active' GROUP BY 1 ORDER BY 1;
-- Rights on the columns alone are not enough: it looks at where rows are.
REVOKE SELECT, UPDATE ON t FROM regress_prism_rotator;
GRANT SELECT (v), UPDATE (v) ON t TO regress_prism_rotator;
SET ROLE regress_prism_rotator;
CALL rotate_batch('t', 'v');
RESET ROLE;
GRANT SELECT ON t TO regress_prism_rotator;
SELECT prism_crypt.rotate_key() AS active \gset
SET ROLE regress_prism_rotator;
CALL rotate_batch('t', 'v');
RESET ROLE;
-- Another one has no right to it, whatever it may on the table.
GRANT SELECT, UPDATE ON t TO regress_prism_reader;
SELECT prism_crypt.grant_access('regress_prism_reader', 'decrypt');
SET ROLE regress_prism_reader;
CALL rotate_batch('t', 'v');
\echo :SQLSTATE
RESET ROLE;
-- Nothing of a caller's own stands in its way: operators and functions in front of the search path.
CREATE SCHEMA evil AUTHORIZATION regress_prism_rotator;
SET ROLE regress_prism_rotator;
CREATE FUNCTION evil.reencrypt_field(encrypted_text) RETURNS encrypted_text LANGUAGE sql AS $$ SELECT NULL::encrypted_text $$;
CREATE FUNCTION evil.less(tid, tid) RETURNS bool LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'evil'; END $$;
CREATE FUNCTION evil.less(int, int) RETURNS bool LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'evil'; END $$;
CREATE FUNCTION evil.less(bigint, bigint) RETURNS bool LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'evil'; END $$;
CREATE OPERATOR evil.< (LEFTARG = tid, RIGHTARG = tid, FUNCTION = evil.less);
CREATE OPERATOR evil.= (LEFTARG = tid, RIGHTARG = tid, FUNCTION = evil.less);
CREATE OPERATOR evil.< (LEFTARG = int, RIGHTARG = int, FUNCTION = evil.less);
CREATE OPERATOR evil.= (LEFTARG = int, RIGHTARG = int, FUNCTION = evil.less);
CREATE OPERATOR evil.= (LEFTARG = bigint, RIGHTARG = bigint, FUNCTION = evil.less);
CREATE FUNCTION evil.format(text, VARIADIC text[]) RETURNS text LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'evil'; END $$;
CREATE FUNCTION evil.count(bigint) RETURNS bigint LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'evil'; END $$;
CREATE TABLE evil.t (v int);
RESET ROLE;
SELECT prism_crypt.rotate_key() AS active \gset
SET search_path = evil, pg_catalog, public;
SET ROLE regress_prism_rotator;
CALL rotate_batch('public.t', 'v');
RESET ROLE;
RESET search_path;
SELECT count(*) FROM t WHERE version = :active;

-- Row-level security: a role that may not see all rows can't say that all were moved.
ALTER TABLE t OWNER TO regress_prism_owner;
ALTER TABLE t ENABLE ROW LEVEL SECURITY;
CREATE POLICY visible ON t USING (id < 200);
SELECT prism_crypt.rotate_key() AS active \gset
SET ROLE regress_prism_rotator;
CALL rotate_batch('t', 'v');
\echo :SQLSTATE
RESET ROLE;
SELECT prism_crypt.grant_access('regress_prism_owner', 'rotate');
SET ROLE regress_prism_owner;
CALL rotate_batch('t', 'v');
RESET ROLE;
ALTER TABLE t FORCE ROW LEVEL SECURITY;
SET ROLE regress_prism_owner;
CALL rotate_batch('t', 'v');
RESET ROLE;
CALL rotate_batch('t', 'v');

-- A child table needs the rights too, and its owner's policies count.
CREATE TABLE parent (id int, v encrypted_text);
CREATE TABLE child () INHERITS (parent);
INSERT INTO parent VALUES (1, 'one');
INSERT INTO child VALUES (2, 'two');
SELECT prism_crypt.rotate_key() AS active \gset
GRANT SELECT, UPDATE ON parent TO regress_prism_rotator;
SET ROLE regress_prism_rotator;
CALL rotate_batch('parent', 'v');
\echo :SQLSTATE
RESET ROLE;
GRANT SELECT, UPDATE ON child TO regress_prism_rotator;
ALTER TABLE child ENABLE ROW LEVEL SECURITY;
SET ROLE regress_prism_rotator;
CALL rotate_batch('parent', 'v');
\echo :SQLSTATE
RESET ROLE;
ALTER TABLE child DISABLE ROW LEVEL SECURITY;
-- UPDATE on another column than the encrypted one is not enough, nor on one of two.
CREATE TABLE columns (id int, v encrypted_text, w encrypted_text);
INSERT INTO columns VALUES (1, 'one', 'two');
GRANT SELECT, UPDATE (id) ON columns TO regress_prism_rotator;
SELECT prism_crypt.rotate_key() AS active \gset
SET ROLE regress_prism_rotator;
CALL rotate_batch('columns', 'v');
\echo :SQLSTATE
CALL rotate_batch('columns');
\echo :SQLSTATE
RESET ROLE;
GRANT UPDATE (v) ON columns TO regress_prism_rotator;
SET ROLE regress_prism_rotator;
CALL rotate_batch('columns', 'w');
\echo :SQLSTATE
CALL rotate_batch('columns');
\echo :SQLSTATE
CALL rotate_batch('columns', 'v');
CALL rotate_batch('parent', 'v');
RESET ROLE;
SELECT key_version(v) = :active AS v, key_version(w) = :active AS w FROM columns;
-- No usage of the schema: the names are not even found.
CREATE SCHEMA closed;
CREATE TABLE closed.t (v encrypted_text);
INSERT INTO closed.t VALUES ('closed');
GRANT SELECT, UPDATE ON closed.t TO regress_prism_rotator;
SELECT 'closed.t'::regclass::oid AS closed_oid \gset
SET ROLE regress_prism_rotator;
CALL rotate_batch('closed.t', 'v');
\echo :SQLSTATE
RESET ROLE;
-- Nothing internal is of use to a role without the right.
SET ROLE regress_prism_app;
CALL regress.fails('CALL prism_crypt.rotate_all()');
CALL regress.fails('SELECT * FROM prism_crypt.progress');
CALL regress.fails('SELECT prism_crypt.pause_job(1)');
CALL regress.fails('SELECT prism_crypt.plan_rotation()');
CALL regress.fails('SELECT prism_crypt._reencrypt(NULL::encrypted_text, true)');
RESET ROLE;
DROP SCHEMA closed CASCADE;
DROP SCHEMA evil CASCADE;
