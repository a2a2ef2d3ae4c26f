-- Which tables rotate_batch() finds: partitions, children, odd names, wide values, many rows.
CALL regress.fresh();
\set SHOW_CONTEXT never
CREATE TABLE parted (id int, v encrypted_text) PARTITION BY RANGE (id);
CREATE TABLE parted_1 PARTITION OF parted FOR VALUES FROM (1) TO (10);
CREATE TABLE parted_2 PARTITION OF parted FOR VALUES FROM (10) TO (20) PARTITION BY LIST (id);
CREATE TABLE parted_2a PARTITION OF parted_2 DEFAULT;
INSERT INTO parted SELECT n, encrypt_field('row ' || n) FROM generate_series(1, 15) AS n;
CREATE TABLE parent (id int, v encrypted_text);
CREATE TABLE child (extra text) INHERITS (parent);
INSERT INTO parent SELECT n, encrypt_field('parent ' || n) FROM generate_series(1, 3) AS n;
INSERT INTO child SELECT n, encrypt_field('child ' || n) FROM generate_series(1, 4) AS n;
CREATE TABLE wide (id int, v encrypted_text);
INSERT INTO wide SELECT n, encrypt_field(repeat('wide ' || n, 20000)) FROM generate_series(1, 12) AS n;
CREATE TABLE "Odd ""table"" %I" ("Odd ""column"" %s" encrypted_text, "SELECT" int);
INSERT INTO "Odd ""table"" %I" VALUES ('odd', 1);
CREATE UNLOGGED TABLE unlogged (v encrypted_text);
INSERT INTO unlogged VALUES ('unlogged');
CREATE TABLE nothing (v encrypted_text);
SELECT prism_crypt.rotate_key() AS active \gset
CALL rotate_batch('parted_2', 'v');
CALL rotate_batch('parted', 'v', 4);
SELECT tableoid::regclass, count(*), count(*) FILTER (WHERE key_version(v) = :active) AS moved, bool_and(decrypt_field(v) = 'row ' || id) AS same FROM parted GROUP BY 1 ORDER BY 1;
CALL rotate_batch('parent', 'v');
SELECT tableoid::regclass, count(*), count(*) FILTER (WHERE key_version(v) = :active) AS moved, min(decrypt_field(v)) FROM parent GROUP BY 1 ORDER BY 1;
CALL rotate_batch('wide', 'v', 5);
SELECT count(*), count(*) FILTER (WHERE key_version(v) = :active) AS moved, bool_and(decrypt_field(v) = repeat('wide ' || id, 20000)) AS same FROM wide;
CALL rotate_batch('"Odd ""table"" %I"', 'Odd "column" %s');
SELECT key_version("Odd ""column"" %s") = :active AS moved FROM "Odd ""table"" %I";
CALL rotate_batch('unlogged', 'v');
CALL rotate_batch('nothing', 'v');
-- Many rows, more than a window of blocks has, with and without statistics of the planner.
CREATE TABLE big (id int, v encrypted_text, filler text);
INSERT INTO big SELECT n, encrypt_field('big ' || n), repeat('x', 300) FROM generate_series(1, 3000) AS n;
DELETE FROM big WHERE id % 3 = 0;
SELECT prism_crypt.rotate_key() AS active \gset
CALL rotate_batch('big', 'v', 7);
ANALYZE big;
SELECT prism_crypt.rotate_key() AS active \gset
CALL rotate_batch('big', 'v', 1500);
SELECT count(*), count(*) FILTER (WHERE key_version(v) = :active) AS moved, bool_and(decrypt_field(v) = 'big ' || id) AS same FROM big;

-- All encrypted columns in one pass; only some are due. Others stay byte for byte.
CREATE TABLE several (id int, a encrypted_text, x text, b encrypted_text('email'), c encrypted_text);
INSERT INTO several SELECT n, 'a' || n, 'x', encrypt_field('b' || n || '@example.org', class => 'email'), CASE WHEN n % 2 = 0 THEN encrypt_field('c' || n) END FROM generate_series(1, 40) AS n;
SELECT prism_crypt.rotate_key() AS active \gset
UPDATE several SET b = encrypt_field('b' || id || '@example.org', class => 'email') WHERE id <= 10;
INSERT INTO several SELECT n, 'a' || n, 'x', NULL, NULL FROM generate_series(41, 50) AS n;
CREATE TEMP TABLE old AS SELECT id, a::text AS a, b::text AS b, c::text AS c, encrypted_text_out(b)::text AS b_form, encrypted_text_out(a)::text AS a_form, ctid AS place FROM several;
CALL rotate_batch('several', batch_size => 7);
SELECT count(*), count(*) FILTER (WHERE key_version(several.a) = :active) AS a, count(*) FILTER (WHERE key_version(several.b) = :active) AS b, count(*) FILTER (WHERE key_version(several.c) = :active) AS c,
       bool_and(several.a::text = old.a AND several.b::text IS NOT DISTINCT FROM old.b AND several.c::text IS NOT DISTINCT FROM old.c) AS same,
       count(*) FILTER (WHERE encrypted_text_out(several.b)::text = old.b_form) AS same_b_form, count(*) FILTER (WHERE several.ctid = place) AS not_touched
FROM several JOIN old USING (id);
-- Nothing is due: no row moves.
CREATE TEMP TABLE places AS SELECT id, ctid AS place FROM several;
CALL rotate_batch('several');
SELECT count(*) FROM several JOIN places USING (id) WHERE several.ctid <> place;

-- Whole trees, with columns in another order, dropped ones, ones that only a child has.
CREATE TABLE tree (id int, v encrypted_text, w encrypted_text) PARTITION BY LIST (id);
CREATE TABLE tree_1 (w encrypted_text, dropped text, id int, v encrypted_text);
ALTER TABLE tree_1 DROP dropped;
ALTER TABLE tree ATTACH PARTITION tree_1 FOR VALUES IN (1);
CREATE TABLE tree_2 PARTITION OF tree DEFAULT PARTITION BY HASH (id);
CREATE TABLE tree_2a PARTITION OF tree_2 FOR VALUES WITH (MODULUS 2, REMAINDER 0);
CREATE TABLE tree_2b PARTITION OF tree_2 FOR VALUES WITH (MODULUS 2, REMAINDER 1);
INSERT INTO tree SELECT n, 'v' || n, 'w' || n FROM generate_series(1, 10) AS n;
CREATE TABLE plain_parent (id int, x text);
CREATE TABLE plain_child (v encrypted_text) INHERITS (plain_parent);
CREATE TABLE second_child (more encrypted_text, x text, id int) INHERITS (parent, plain_parent);
INSERT INTO plain_child VALUES (1, 'x', 'v');
INSERT INTO second_child (id, v, more) VALUES (1, 'v', 'more');
SELECT prism_crypt.rotate_key() AS active \gset
CALL rotate_batch('tree');
SELECT count(*), bool_and(key_version(v) = :active AND key_version(w) = :active) AS moved, bool_and(v::text = 'v' || id AND w::text = 'w' || id) AS same FROM tree;
CALL rotate_batch('plain_parent');
SELECT key_version(v) = :active AS moved FROM plain_child;
SELECT key_version(v) = :active AS v, key_version(more) = :active AS more FROM second_child;
CALL rotate_batch('parent', 'v');
SELECT key_version(v) = :active AS v, key_version(more) = :active AS more FROM second_child;
SELECT prism_crypt.rotate_key() AS active \gset
CALL rotate_batch('parent');
SELECT tableoid::regclass, bool_and(key_version(v) = :active) AS moved FROM parent GROUP BY 1 ORDER BY 1;
-- A leaf alone, and the table alone again. A partitioned table without partitions.
SELECT prism_crypt.rotate_key() AS active \gset
CALL rotate_batch('tree_2b', 'w');
SELECT count(*) FILTER (WHERE key_version(v) = :active) AS v, count(*) FILTER (WHERE key_version(w) = :active) = (SELECT count(*) FROM tree_2b) AS w FROM tree;
CALL rotate_batch('tree');
SELECT bool_and(key_version(v) = :active AND key_version(w) = :active) AS moved FROM tree;
CREATE TABLE leafless (v encrypted_text) PARTITION BY LIST (key_version(v));
CALL rotate_batch('leafless');
CALL rotate_batch('leafless', 'v');

-- Names that need quotes, in every place.
CREATE SCHEMA "Sch""ema.x";
CREATE TABLE "Sch""ema.x"."T'able" (id int, "Col'umn %I $1" encrypted_text, "ctid2" int, "from" encrypted_text, "key version" int, "Åé" encrypted_text[]);
INSERT INTO "Sch""ema.x"."T'able" VALUES (1, 'one', 2, 'two', 0, ARRAY[encrypt_field('three')]);
SELECT prism_crypt.rotate_key() AS active \gset
CALL rotate_batch('"Sch""ema.x"."T''able"', E'Col\'umn %I $1', key_version_column => 'key version');
SELECT "key version" = :active AS noted, "key version" = key_version("Col'umn %I $1") AS right FROM "Sch""ema.x"."T'able";
CALL rotate_batch('"Sch""ema.x"."T''able"');
SELECT key_version("from") = :active AS moved, key_version("Åé"[1]) = :active AS moved FROM "Sch""ema.x"."T'able";
SELECT target, state FROM prism_crypt.progress WHERE target LIKE '%ema.x%' ORDER BY 1;
DROP SCHEMA "Sch""ema.x" CASCADE;

-- A column that is called as what the statements use.
CREATE TABLE names (x encrypted_text, v encrypted_text, e encrypted_text, error encrypted_text, rows encrypted_text, chosen encrypted_text, tid encrypted_text);
INSERT INTO names VALUES ('1', '2', '3', '4', '5', '6', '7');
SELECT prism_crypt.rotate_key() AS active \gset
CALL rotate_batch('names');
CALL rotate_batch('names', 'x');
SELECT DISTINCT key_version(k) = :active FROM names, unnest(ARRAY[x, v, e, error, rows, chosen, tid]) AS k;
SELECT x::text, v::text, e::text, error::text, rows::text, chosen::text, tid::text FROM names;

-- Constraints and generated columns of the table hold, and are kept up.
CREATE TABLE constrained (
  id int PRIMARY KEY, v encrypted_text NOT NULL CHECK (length(v::text) < 20), u text UNIQUE NOT NULL, ref int REFERENCES constrained,
  version int GENERATED ALWAYS AS (key_version(v)) STORED, note text GENERATED ALWAYS AS (u || '!') STORED, identity int GENERATED ALWAYS AS IDENTITY, CHECK (u <> ''));
INSERT INTO constrained (id, v, u, ref) SELECT n, 'v' || n, 'u' || n, 1 FROM generate_series(1, 20) AS n;
CREATE INDEX ON constrained (u) WHERE id > 3;
SELECT prism_crypt.rotate_key() AS active \gset
CALL rotate_batch('constrained', 'v', 6);
SELECT count(*), bool_and(version = :active) AS moved, bool_and(note = u || '!') AS notes, bool_and(v::text = 'v' || id) AS same FROM constrained;
-- One that values under a new key can't meet: the error is raised as PostgreSQL has it, and nothing is lost.
CREATE TABLE fixed (id int, v encrypted_text);
INSERT INTO fixed VALUES (1, 'one');
DO $$ BEGIN EXECUTE format('ALTER TABLE fixed ADD CONSTRAINT "old key" CHECK (key_version(v) = %s)', (SELECT key_version(v) FROM fixed)); END $$;
SELECT prism_crypt.rotate_key() AS active \gset
\set VERBOSITY sqlstate
CALL rotate_batch('fixed', 'v');
\set VERBOSITY default
SELECT target, state, error FROM prism_crypt.progress WHERE target LIKE '%fixed%';
ALTER TABLE fixed DROP CONSTRAINT "old key";
CALL rotate_batch('fixed', 'v');
SELECT target, state, error FROM prism_crypt.progress WHERE target LIKE '%fixed%';

-- Only NULLs; long texts out of line beside them; storage and compression of every kind.
CREATE TABLE nulls (id int, v encrypted_text, w encrypted_text[], c encrypted_text);
INSERT INTO nulls SELECT n, NULL, CASE n WHEN 1 THEN '{}'::encrypted_text[] WHEN 2 THEN '{NULL,NULL}' END, NULL FROM generate_series(1, 5) AS n;
SELECT prism_crypt.rotate_key() AS active \gset
CALL rotate_batch('nulls');
SELECT id, v, w FROM nulls ORDER BY id;
CREATE TABLE stored (id int, p encrypted_text, e encrypted_text, x encrypted_text, m encrypted_text, other text);
ALTER TABLE stored ALTER p SET STORAGE plain, ALTER e SET STORAGE external, ALTER x SET STORAGE extended, ALTER m SET STORAGE main;
INSERT INTO stored SELECT n, repeat('p', 1000), repeat('e' || n, 9000), repeat('x' || n, 9000), repeat('m' || n, 2000), repeat(n::text, 90000) FROM generate_series(1, 5) AS n;
SELECT prism_crypt.rotate_key() AS active \gset
CALL rotate_batch('stored', batch_size => 2);
SELECT count(*), bool_and(key_version(k) = :active) AS moved FROM stored, unnest(ARRAY[p, e, x, m]) AS k;
SELECT bool_and(p::text = repeat('p', 1000) AND e::text = repeat('e' || id, 9000) AND x::text = repeat('x' || id, 9000) AND m::text = repeat('m' || id, 2000) AND other = repeat(id::text, 90000)) AS same FROM stored;
