-- prism_crypt.plan_rotation(): how much a rotation would do, and what stands in its way.
CALL regress.fresh();
\set SHOW_CONTEXT never
CREATE FUNCTION plan(sample int DEFAULT 1000) RETURNS TABLE (target text, columns name[], estimate bigint, due bigint, bytes boolean, takes boolean, basis text, blockers text[]) LANGUAGE sql AS $$
  SELECT target, columns, rows_estimate, rows_due, bytes > 0, estimated_time > '0', basis, blockers FROM prism_crypt.plan_rotation(sample) ORDER BY target COLLATE "C"
$$;
SELECT * FROM plan();
CREATE TABLE t (id int, v encrypted_text, w encrypted_text);
CREATE TABLE empty (v encrypted_text);
CREATE TABLE parted (id int, l encrypted_text[]) PARTITION BY LIST (id);
CREATE TABLE parted_1 PARTITION OF parted FOR VALUES IN (1);
CREATE TABLE parted_2 PARTITION OF parted DEFAULT;
CREATE TABLE bytes_only (b bytea);
CREATE TEMP TABLE temporary (v encrypted_text);
INSERT INTO t SELECT n, 'v' || n, NULL FROM generate_series(1, 500) AS n;
INSERT INTO parted SELECT n, ARRAY[encrypt_field('l')] FROM generate_series(1, 3) AS n;
-- Nothing is due.
SELECT * FROM plan();
SELECT prism_crypt.rotate_key() AS active \gset
SELECT * FROM plan();
UPDATE t SET v = v::text WHERE id <= 100;
VACUUM FULL t;
ANALYZE t, parted_1, parted_2, empty;
SELECT * FROM plan();
-- It changed nothing, and left nothing.
SELECT count(*) FILTER (WHERE key_version(v) = :active) FROM t;
SELECT count(*) FROM prism_crypt.progress;
SELECT to_regclass('pg_temp.prism_crypt_sample') IS NULL AS gone;
-- Of a smaller sample only the size is sure.
SELECT target, estimate, due BETWEEN 0 AND 500 AS due, basis ~ '^sample of [01] rows$' AS basis FROM plan(1) WHERE target = 'public.t';
CALL regress.fails('SELECT prism_crypt.plan_rotation(0)');
CALL regress.fails('SELECT prism_crypt.plan_rotation(-1)');
CALL regress.fails('SELECT prism_crypt.plan_rotation(NULL)');
-- What was measured when a table was last rotated counts more than a sample.
INSERT INTO t SELECT n, 'v' || n, NULL FROM generate_series(501, 2000) AS n;
SELECT prism_crypt.rotate_key() AS active \gset
CALL rotate_batch('t');
ANALYZE t;
SELECT target, estimate, due, basis FROM plan() WHERE target = 'public.t';

-- What stands in the way.
CREATE MATERIALIZED VIEW mv AS SELECT v FROM t;
CREATE EXTENSION file_fdw;
CREATE SERVER files FOREIGN DATA WRAPPER file_fdw;
CREATE FOREIGN TABLE elsewhere (v encrypted_text) SERVER files OPTIONS (filename '/dev/null');
CREATE TABLE triggered (id int, v encrypted_text);
CREATE FUNCTION nothing() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RETURN NULL; END $$;
CREATE TRIGGER "On %I update" BEFORE UPDATE ON triggered FOR EACH ROW EXECUTE FUNCTION nothing();
CREATE TRIGGER on_insert BEFORE INSERT ON triggered FOR EACH ROW EXECUTE FUNCTION nothing();
CREATE TRIGGER disabled BEFORE UPDATE ON triggered FOR EACH ROW EXECUTE FUNCTION nothing();
ALTER TABLE triggered DISABLE TRIGGER disabled;
SELECT target, due, basis, blockers FROM plan() WHERE target NOT IN ('public.t', 'public.empty') AND target NOT LIKE '%parted%';
DROP EXTENSION file_fdw CASCADE;
DROP MATERIALIZED VIEW mv;
-- Keys that are disabled, values that are damaged.
SELECT prism_crypt.rotate_key() AS active \gset
CREATE TABLE unreadable (id int, v encrypted_text);
INSERT INTO unreadable SELECT n, 'v' FROM generate_series(1, 10) AS n;
SELECT prism_crypt.rotate_key() AS next \gset
SELECT prism_crypt.disable_key(:active);
SELECT target, estimate, due, blockers FROM plan() WHERE target = 'public.unreadable';
SELECT prism_crypt.enable_key(:active);
UPDATE unreadable SET v = prism_crypt.load_envelope(regress.tampered(encrypted_text_out(v)::text, -1, 1)) WHERE id = 1;
SELECT target, estimate, due, basis, blockers FROM plan() WHERE target = 'public.unreadable';
-- Constraints and generated columns of the table are no matter of the sample.
CREATE TABLE constrained (id int PRIMARY KEY, v encrypted_text NOT NULL, version int GENERATED ALWAYS AS (key_version(v)) STORED, i int GENERATED ALWAYS AS IDENTITY, CHECK (id > 0));
INSERT INTO constrained (id, v) SELECT n, 'v' FROM generate_series(1, 5) AS n;
SELECT prism_crypt.rotate_key() IS NOT NULL AS rotated;
SELECT target, columns, estimate, due, blockers FROM plan() WHERE target = 'public.constrained';

-- By a role with rights to some of the tables.
SELECT prism_crypt.grant_access('regress_prism_rotator', 'rotate');
GRANT SELECT, UPDATE ON t, parted_1 TO regress_prism_rotator;
ALTER TABLE empty ENABLE ROW LEVEL SECURITY;
GRANT SELECT, UPDATE ON empty TO regress_prism_rotator;
SET ROLE regress_prism_rotator;
SELECT target, columns, due > 0 AS due, blockers FROM plan() WHERE target <> 'public.unreadable';
RESET ROLE;
SET ROLE regress_prism_app;
CALL regress.fails('SELECT * FROM prism_crypt.plan_rotation()');
RESET ROLE;
-- In a transaction that may only read.
BEGIN READ ONLY;
SELECT target, blockers FROM plan() WHERE target = 'public.constrained';
ROLLBACK;

-- The sample is from all of a table: half of it is due when a rotation is half done.
CREATE TABLE half (id int, v encrypted_text);
INSERT INTO half SELECT n, 'v' || n FROM generate_series(1, 8000) AS n;
ANALYZE half;
SELECT prism_crypt.rotate_key() AS active \gset
CALL rotate_batch('half', batch_size => 500, max_batches => 8);
ANALYZE half;
CREATE VIEW due AS SELECT count(*) FILTER (WHERE key_version(v) <> (SELECT max(version) FROM prism_crypt.data_key)) AS rows FROM half;
SELECT rows BETWEEN 3000 AND 5000 AS half FROM due;
SELECT rows_estimate, abs(p.rows_due - due.rows) < 1200 AS close, blockers FROM due, prism_crypt.plan_rotation(400) AS p WHERE target = 'public.half';
-- Wherever its rows are: the first blocks hold none, and then only the last one has any.
DELETE FROM half WHERE ctid < '(40,0)';
VACUUM ANALYZE half;
SELECT abs(p.rows_due - due.rows) < 1200 AS close, blockers FROM due, prism_crypt.plan_rotation(400) AS p WHERE target = 'public.half';
UPDATE half SET v = v::text;
DELETE FROM half WHERE ctid < (SELECT max(ctid) FROM half);
SELECT prism_crypt.rotate_key() AS active \gset
ANALYZE half;
SELECT rows_estimate, rows_due, blockers FROM prism_crypt.plan_rotation(10) WHERE target = 'public.half';
DROP TABLE half CASCADE;

-- The copy of a sample: columns that were dropped or added, values of any size, a column with a class.
CREATE DOMAIN mail AS encrypted_text('email');
CREATE TABLE source (gone text, id int, v encrypted_text('email'), long text, d mail, nested encrypted_text[]);
INSERT INTO source SELECT 'gone', n, 'v' || n, (SELECT string_agg(md5(n || '.' || g), '') FROM generate_series(1, 1000) AS g), 'd', ARRAY['n' || n] FROM generate_series(1, 30) AS n;
ALTER TABLE source DROP COLUMN gone, ADD COLUMN added text DEFAULT 'added';
GRANT SELECT ON source TO regress_prism_rotator;
SET ROLE regress_prism_rotator;
CREATE TEMP TABLE copy (long text, v encrypted_text('email'), added text, d encrypted_text, nested encrypted_text[]);
SELECT prism_crypt._copy_sample('source'::regclass, 'copy'::regclass, '{4,3,7,5,6}', 10);
SELECT prism_crypt._copy_sample('source'::regclass, 'copy'::regclass, '{4,3,7,5,6}', 0);
RESET ROLE;
SELECT count(*), count(*) FILTER (WHERE c.long = s.long AND c.v::text = s.v::text AND c.added = 'added' AND c.d::text = 'd' AND c.nested[1]::text = 'n' || s.id) AS same FROM pg_temp.copy AS c LEFT JOIN source AS s ON s.v::text = c.v::text;
-- What is asked of it.
SET ROLE regress_prism_rotator;
CREATE FUNCTION pg_temp.tries(definition text, columns smallint[] DEFAULT '{2,3}') RETURNS text LANGUAGE plpgsql AS $$
BEGIN
  EXECUTE 'CREATE TEMP TABLE tried ' || definition;
  PERFORM prism_crypt._copy_sample('source'::regclass, 'pg_temp.tried'::regclass, columns, 10);
  RAISE 'copied %', (SELECT count(*) FROM pg_temp.tried);
EXCEPTION WHEN OTHERS THEN
  RETURN SQLERRM;
END $$;
SELECT d.definition, pg_temp.tries(d.definition) FROM (VALUES
  ('(i int, v encrypted_text(''email''))'), ('(i int, v encrypted_text)'), ('(i int, v encrypted_text(''phone''))'), ('(i bigint, v encrypted_text(''email''))'),
  ('(i text, v encrypted_text(''email''))'), ('(v encrypted_text(''email''), i int)'), ('(i int)'), ('(i int, v encrypted_text(''email''), x int)'),
  ('(i int NOT NULL, v encrypted_text(''email''))'), ('(i int DEFAULT 1, v encrypted_text(''email''))'), ('(i int CHECK (i > 1), v encrypted_text(''email''))'),
  ('(i int UNIQUE, v encrypted_text(''email''))'), ('(i int, v encrypted_text(''email'')) PARTITION BY LIST (i)')) AS d (definition);
SELECT c.columns, pg_temp.tries('(a text)', c.columns) FROM (VALUES ('{4}'::smallint[]), ('{0}'), ('{-1}'), ('{1}'), ('{8}'), ('{32767}'), ('{NULL}'), ('{}'), ('{4,4}')) AS c (columns);
SELECT pg_temp.tries('(a text, b text)', '{4,4}');
CREATE TABLE pg_temp.plain (i int);
CALL regress.fails($$SELECT prism_crypt._copy_sample('t'::regclass, 't'::regclass, '{1,2,3}', 10)$$);
CALL regress.fails($$SELECT prism_crypt._copy_sample('unreadable'::regclass, 'pg_temp.plain'::regclass, '{1}', 10)$$);
CALL regress.fails($$SELECT prism_crypt._copy_sample('empty'::regclass, 'pg_temp.plain'::regclass, '{1}', 10)$$);
CALL regress.fails($$SELECT prism_crypt._copy_sample('pg_class'::regclass, 'pg_class_oid_index'::regclass, '{1}', 10)$$);
CALL regress.fails($$SELECT prism_crypt._copy_sample('pg_tables'::regclass, 'pg_temp.plain'::regclass, '{1}', 10)$$);
CALL regress.fails($$SELECT prism_crypt._copy_sample('parted'::regclass, 'pg_temp.plain'::regclass, '{1}', 10)$$);
CALL regress.fails($$SELECT prism_crypt._copy_sample('source'::regclass, 'pg_temp.plain'::regclass, '{2}', -1)$$);
CALL regress.fails($$SELECT prism_crypt._copy_sample(0, 'pg_temp.plain'::regclass, '{1}', 10)$$);
CALL regress.fails($$SELECT prism_crypt._copy_sample('source'::regclass, 0, '{2}', 10)$$);
RESET ROLE;
-- It is the caller's.
CALL regress.fails($$SELECT prism_crypt._copy_sample('source'::regclass, 'pg_temp.plain'::regclass, '{2}', 10)$$);
SET ROLE regress_prism_app;
CALL regress.fails($$SELECT prism_crypt._copy_sample('source'::regclass, 'pg_temp.plain'::regclass, '{2}', 10)$$);
RESET ROLE;
