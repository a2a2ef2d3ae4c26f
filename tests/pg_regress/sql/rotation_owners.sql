-- What owners of tables do in the middle of a rotation stays a matter of their tables, and hides nothing.
CALL regress.fresh();
\set SHOW_CONTEXT never
SET client_min_messages = warning;
SET statement_timeout = '120s';
SELECT prism_crypt.grant_access('regress_prism_rotator', 'rotate');
CREATE VIEW jobs AS SELECT target, state, rows_done, rows_left, error FROM prism_crypt.progress ORDER BY id DESC;

-- Row-level security is switched on while another partition is rotated: before the table is walked, and after it.
CREATE TABLE parted (id int, v encrypted_text) PARTITION BY LIST (id);
CREATE TABLE part_1 PARTITION OF parted FOR VALUES IN (1);
CREATE TABLE part_2 PARTITION OF parted FOR VALUES IN (2);
INSERT INTO parted SELECT n % 2 + 1, 'v' || n FROM generate_series(1, 20) AS n;
GRANT SELECT, UPDATE ON parted, part_1, part_2 TO regress_prism_rotator;
CREATE FUNCTION hide() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
  IF NOT (SELECT relrowsecurity FROM pg_class WHERE oid = TG_ARGV[0]::regclass) THEN
    EXECUTE format('ALTER TABLE %s ENABLE ROW LEVEL SECURITY', TG_ARGV[0]);
  END IF;
  RETURN NEW;
END $$;
CREATE TRIGGER hide BEFORE UPDATE ON part_1 FOR EACH ROW EXECUTE FUNCTION hide('public.part_2');
SELECT prism_crypt.rotate_key() AS active \gset
SET ROLE regress_prism_rotator;
CALL rotate_batch('parted', 'v');
\echo :SQLSTATE
RESET ROLE;
SELECT * FROM jobs LIMIT 1;
SELECT id, key_version(v) = :active AS moved, count(*) FROM parted GROUP BY 1, 2 ORDER BY 1;
ALTER TABLE part_2 DISABLE ROW LEVEL SECURITY;
DROP TRIGGER hide ON part_1;
-- A row stays in the first one, and is hidden from the check.
CREATE FUNCTION skip() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RETURN NULL; END $$;
CREATE TRIGGER skip BEFORE UPDATE ON part_1 FOR EACH ROW EXECUTE FUNCTION skip();
CREATE TRIGGER hide BEFORE UPDATE ON part_2 FOR EACH ROW EXECUTE FUNCTION hide('public.part_1');
SELECT prism_crypt.rotate_key() AS active \gset
SET ROLE regress_prism_rotator;
CALL rotate_batch('parted', 'v');
\echo :SQLSTATE
RESET ROLE;
SELECT * FROM jobs LIMIT 1;
SELECT id, key_version(v) = :active AS moved, count(*) FROM parted GROUP BY 1, 2 ORDER BY 1;
-- Triggers still see what they may of other tables, whose policies are their own matter.
DROP TRIGGER hide ON part_2;
DROP TRIGGER skip ON part_1;
ALTER TABLE part_1 DISABLE ROW LEVEL SECURITY;
CREATE TABLE policed (n int);
ALTER TABLE policed ENABLE ROW LEVEL SECURITY;
GRANT SELECT ON policed TO regress_prism_rotator;
CREATE FUNCTION look_up() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN PERFORM * FROM public.policed; RETURN NEW; END $$;
CREATE TRIGGER look_up BEFORE UPDATE ON part_1 FOR EACH ROW EXECUTE FUNCTION look_up();
SET ROLE regress_prism_rotator;
CALL rotate_batch('parted', 'v');
RESET ROLE;
SELECT * FROM jobs LIMIT 1;
SELECT id, key_version(v) = :active AS moved, count(*) FROM parted GROUP BY 1, 2 ORDER BY 1;
DROP TABLE parted;

-- Triggers that are deferred, and errors that WHEN OTHERS does not catch, end their own table only.
CREATE TABLE a (id int, v encrypted_text);
CREATE TABLE b (id int, v encrypted_text);
CREATE TABLE c (id int, v encrypted_text);
INSERT INTO a SELECT n, 'a' || n FROM generate_series(1, 5) AS n;
INSERT INTO b SELECT n, 'b' || n FROM generate_series(1, 5) AS n;
INSERT INTO c SELECT n, 'c' || n FROM generate_series(1, 5) AS n;
CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'not today'; END $$;
CREATE FUNCTION assert() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN ASSERT false, 'not so'; RETURN NEW; END $$;
CREATE CONSTRAINT TRIGGER refuse AFTER UPDATE ON a DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION refuse();
CREATE TRIGGER assert BEFORE UPDATE ON b FOR EACH ROW EXECUTE FUNCTION assert();
SELECT prism_crypt.rotate_key() AS active \gset
CALL prism_crypt.rotate_all();
\echo :SQLSTATE
SELECT * FROM jobs LIMIT 3;
-- Nor can a deferred one defer another.
CREATE TABLE other (id int);
CREATE FUNCTION defer() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  SET CONSTRAINTS ALL DEFERRED;
  INSERT INTO public.other VALUES (1);
  RETURN NULL;
END $$;
CREATE CONSTRAINT TRIGGER defer AFTER UPDATE ON c DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION defer();
CREATE CONSTRAINT TRIGGER refuse AFTER INSERT ON other DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION refuse();
SELECT prism_crypt.rotate_key() AS active \gset
CALL prism_crypt.rotate_all();
\echo :SQLSTATE
SELECT * FROM jobs LIMIT 1;
DROP TRIGGER defer ON c;
BEGIN;
SET CONSTRAINTS ALL DEFERRED;
COMMIT;
-- By an index as well.
CREATE INDEX ON a (key_version(v));
CREATE INDEX ON b (key_version(v));
CALL rotate_batch('a', 'v');
\echo :SQLSTATE
CALL rotate_batch('b', 'v');
\echo :SQLSTATE
SELECT * FROM jobs LIMIT 2;
DROP TRIGGER refuse ON a;
DROP TRIGGER assert ON b;
-- Deferred ones that agree see each batch once.
CREATE TABLE seen (id int);
CREATE FUNCTION note() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN INSERT INTO public.seen VALUES (NEW.id); RETURN NEW; END $$;
CREATE CONSTRAINT TRIGGER note AFTER UPDATE ON a DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION note();
CALL prism_crypt.rotate_all(2);
SELECT count(*), count(DISTINCT id) FROM seen;
SELECT count(*) FROM jobs WHERE state = 'failed';

-- A trigger that puts the old values back, where an index finds them.
CREATE TABLE restored (id int, v encrypted_text);
INSERT INTO restored SELECT n, 'v' || n FROM generate_series(1, 5) AS n;
CREATE INDEX ON restored (key_version(v));
CREATE FUNCTION put_back() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN NEW.v := OLD.v; RETURN NEW; END $$;
CREATE TRIGGER put_back BEFORE UPDATE ON restored FOR EACH ROW EXECUTE FUNCTION put_back();
SELECT prism_crypt.rotate_key() AS active \gset
CALL rotate_batch('restored', 'v');
SELECT target, state, rows_left, error FROM jobs LIMIT 1;
DROP TRIGGER put_back ON restored;
CALL rotate_batch('restored', 'v');
SELECT target, state, rows_left, error FROM jobs LIMIT 1;
SELECT bool_and(key_version(v) = :active) FROM restored;
