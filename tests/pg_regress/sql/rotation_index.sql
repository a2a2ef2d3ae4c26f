-- Key version columns, and indexes on key versions that rotate_batch() uses instead of a walk.
CALL regress.fresh();
\set SHOW_CONTEXT never
-- How many blocks were walked over tells the way: 0 where an index gave the rows.
CREATE FUNCTION last_way() RETURNS TABLE (target text, state text, way text, rows_done bigint) LANGUAGE sql AS $$
  SELECT p.target, p.state, CASE j.end_block WHEN 0 THEN 'index' ELSE 'walk' END, p.rows_done
  FROM prism_crypt.progress AS p JOIN prism_crypt.job_part AS j ON j.job = p.id ORDER BY p.id DESC LIMIT 1
$$;

-- A plain column: set together with the value, in the same row version.
CREATE TABLE noted (id int, v encrypted_text, version int, big bigint, other encrypted_text);
INSERT INTO noted SELECT n, 'v' || n, 1, 1, 'other' FROM generate_series(1, 20) AS n;
INSERT INTO noted VALUES (21, NULL, NULL, NULL, NULL), (22, NULL, 77, NULL, NULL);
CREATE TABLE history (id int, old int, new int, same boolean);
CREATE FUNCTION history() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
  INSERT INTO history VALUES (NEW.id, OLD.version, NEW.version, NEW.version = key_version(NEW.v));
  RETURN NULL;
END $$;
CREATE TRIGGER history AFTER UPDATE ON noted FOR EACH ROW EXECUTE FUNCTION history();
SELECT prism_crypt.rotate_key() AS active \gset
CALL rotate_batch('noted', 'v', 6, key_version_column => 'version');
SELECT old, new = :active AS new, same, count(*) FROM history GROUP BY 1, 2, 3;
SELECT count(*), count(*) FILTER (WHERE version = key_version(v)) AS noted, bool_and(v::text = 'v' || id) AS same, count(*) FILTER (WHERE key_version(other) = 1) AS not_asked_for FROM noted;
SELECT id, version FROM noted WHERE id > 20 ORDER BY id;
CALL rotate_batch('noted', 'v', key_version_column => 'version');
SELECT prism_crypt.rotate_key() AS active \gset
CALL rotate_batch('noted', 'v', key_version_column => 'big');
SELECT count(*), count(*) FILTER (WHERE big = key_version(v)) AS noted, count(*) FILTER (WHERE version = key_version(v)) AS not_asked_for FROM noted;
-- Of bytes too, and in partitions.
CREATE TABLE noted_bytes (b bytea, version int) PARTITION BY LIST (version);
CREATE TABLE noted_bytes_all PARTITION OF noted_bytes DEFAULT;
INSERT INTO noted_bytes VALUES (encrypt_bytes('\x01'), 0), ('\x02', 0), (NULL, 0);
SELECT prism_crypt.rotate_key() AS active \gset
CALL rotate_batch('noted_bytes', 'b', key_version_column => 'version');
SELECT version = :active AS noted, count(*) FROM noted_bytes GROUP BY 1 ORDER BY 1;
-- Also where rows are locked first, because one can't be read.
CREATE TABLE notable (id int, v encrypted_text, version int);
INSERT INTO notable SELECT n, 'v' || n, 1 FROM generate_series(1, 5) AS n;
UPDATE notable SET v = prism_crypt.load_envelope(regress.tampered(encrypted_text_out(v)::text, -1, 1)), version = -1 WHERE id = 3;
SELECT prism_crypt.rotate_key() AS active \gset
CALL rotate_batch('notable', 'v', key_version_column => 'version');
SELECT id, version = :active AS noted, key_version(v) = :active AS moved FROM notable ORDER BY id;

-- A generated column with an index.
CREATE TABLE generated (id int, v encrypted_text, version int GENERATED ALWAYS AS (key_version(v)) STORED, filler text);
INSERT INTO generated SELECT n, 'v' || n FROM generate_series(1, 3000) AS n;
CREATE INDEX ON generated (version);
SELECT prism_crypt.rotate_key() AS active \gset
-- All of them: a walk is cheaper.
CALL rotate_batch('generated', 'v');
SELECT * FROM last_way();
SELECT prism_crypt.rotate_key() AS active \gset
UPDATE generated SET v = v::text WHERE id % 10 <> 0;
-- A tenth of them.
CALL rotate_batch('generated', 'v', 50);
SELECT * FROM last_way();
SELECT count(*), bool_and(key_version(v) = :active AND version = :active) AS moved, bool_and(v::text = 'v' || id) AS same FROM generated;
CALL rotate_batch('generated', 'v');
SELECT * FROM last_way();
-- All encrypted columns, of which there is one.
SELECT prism_crypt.rotate_key() AS active \gset
UPDATE generated SET v = v::text WHERE id > 20;
CALL rotate_batch('generated');
SELECT * FROM last_way();
SELECT bool_and(version = :active) FROM generated;
-- max_batches counts, and the next call goes on.
SELECT prism_crypt.rotate_key() AS active \gset
UPDATE generated SET v = v::text WHERE id > 20;
\set VERBOSITY terse
CALL rotate_batch('generated', 'v', 5, max_batches => 1);
\set VERBOSITY default
SELECT count(*) FILTER (WHERE version = :active), count(*) FILTER (WHERE version <> :active) FROM generated WHERE id <= 20;
CALL rotate_batch('generated', 'v', 5);
SELECT * FROM last_way();
-- A keyset or a version only.
SELECT prism_crypt.create_keyset('tenant') IS NOT NULL;
UPDATE generated SET v = encrypt_field(v::text, keyset => 'tenant') WHERE id <= 10;
SELECT prism_crypt.rotate_key('tenant') AS tenant \gset
CALL rotate_batch('generated', 'v', keyset => 'default');
SELECT * FROM last_way();
CALL rotate_batch('generated', 'v', keyset => 'tenant');
SELECT * FROM last_way();
SELECT version = :tenant AS tenant, count(*) FROM generated GROUP BY 1 ORDER BY 1;
-- Values that can't be read are told there too.
UPDATE generated SET v = prism_crypt.load_envelope(regress.tampered(encrypted_text_out(v)::text, -1, 1)) WHERE id = 1;
SELECT prism_crypt.rotate_key('tenant') IS NOT NULL;
SET client_min_messages = warning;
CALL rotate_batch('generated', 'v', 3);
RESET client_min_messages;
SELECT state, values_unreadable, rows_done FROM prism_crypt.progress ORDER BY id DESC LIMIT 1;

-- An index on the expression.
CREATE TABLE expression (id int, v encrypted_text, "Odd %I" encrypted_text);
INSERT INTO expression SELECT n, 'v' || n, 'o' || n FROM generate_series(1, 2000) AS n;
CREATE INDEX ON expression (key_version(v));
CREATE INDEX ON expression (key_version("Odd %I"), id);
SELECT prism_crypt.rotate_key() AS active \gset
UPDATE expression SET v = v::text, "Odd %I" = "Odd %I"::text WHERE id > 30;
CALL rotate_batch('expression', 'v');
SELECT * FROM last_way();
CALL rotate_batch('expression', 'Odd %I');
SELECT * FROM last_way();
SELECT bool_and(key_version(v) = :active AND key_version("Odd %I") = :active) AS moved, bool_and(v::text = 'v' || id AND "Odd %I"::text = 'o' || id) AS same FROM expression;
-- Both columns are walked.
SELECT prism_crypt.rotate_key() AS active \gset
CALL rotate_batch('expression');
SELECT * FROM last_way();

-- Indexes that may not know all rows, or say something else, are not relied on.
CREATE TABLE misled (id int, v encrypted_text, w encrypted_text, version int, wrong int GENERATED ALWAYS AS (key_version(v) + 1) STORED);
CREATE INDEX ON misled (key_version(v)) WHERE id > 5;
CREATE INDEX ON misled (key_version(w));
CREATE INDEX ON misled (version);
CREATE INDEX ON misled (wrong);
CREATE INDEX ON misled USING hash (key_version(v));
CREATE INDEX ON misled (id, key_version(v));
INSERT INTO misled SELECT n, 'v' || n, NULL, 999 FROM generate_series(1, 100) AS n;
SELECT prism_crypt.rotate_key() AS active \gset
CALL rotate_batch('misled', 'v');
SELECT * FROM last_way();
SELECT bool_and(key_version(v) = :active) FROM misled;
-- Somebody else's function of that name.
CREATE SCHEMA mine;
CREATE FUNCTION mine.key_version(encrypted_text) RETURNS int LANGUAGE sql IMMUTABLE AS $$ SELECT 5 $$;
CREATE TABLE fooled (id int, v encrypted_text);
INSERT INTO fooled SELECT n, 'v' || n FROM generate_series(1, 10) AS n;
CREATE INDEX ON fooled (mine.key_version(v));
SELECT prism_crypt.rotate_key() AS active \gset
CALL rotate_batch('fooled', 'v');
SELECT * FROM last_way();
SELECT bool_and(key_version(v) = :active) FROM fooled;
DROP SCHEMA mine CASCADE;
-- Locking rows first takes all that are due in a block, also those that an index gave for a later batch.
CREATE TABLE crowd (id int, v encrypted_text, version int GENERATED ALWAYS AS (key_version(v)) STORED);
CREATE INDEX ON crowd (version);
SELECT prism_crypt.rotate_key() AS active \gset
INSERT INTO crowd SELECT n, 'v' || n FROM generate_series(1, 25000) AS n;
ANALYZE crowd;
CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  IF current_setting('lock_timeout') = '10ms' THEN
    RAISE 'not so fast';
  END IF;
  RETURN NEW;
END $$;
SELECT prism_crypt.rotate_key() AS active \gset
UPDATE crowd SET v = v::text WHERE id <= 23950;
CREATE TRIGGER refuse BEFORE UPDATE ON crowd FOR EACH ROW EXECUTE FUNCTION refuse();
CALL rotate_batch('crowd', 'v', 7);
SELECT * FROM last_way();
SELECT bool_and(version = :active) FROM crowd;
