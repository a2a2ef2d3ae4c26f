-- Triggers of the table during a rotation.
CALL regress.fresh();
\set SHOW_CONTEXT never
-- Triggers fire as at any other UPDATE; one that refuses ends it, and what was committed stays.
CREATE TABLE triggered (id int, v encrypted_text);
INSERT INTO triggered SELECT n, encrypt_field('row ' || n) FROM generate_series(1, 10) AS n;
CREATE TABLE audit (who text, id int);
CREATE FUNCTION audit() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
  IF NEW.id = 6 THEN RAISE EXCEPTION 'not this one'; END IF;
  INSERT INTO audit VALUES (current_user, NEW.id);
  RETURN NEW;
END $$;
CREATE TRIGGER audit BEFORE UPDATE ON triggered FOR EACH ROW EXECUTE FUNCTION audit();
SELECT prism_crypt.rotate_key() AS active \gset
\set VERBOSITY terse
CALL rotate_batch('triggered', 'v', 2);
\set VERBOSITY default
SELECT id FROM triggered WHERE key_version(v) = :active ORDER BY id;
SELECT count(*) FROM audit;
ALTER TABLE triggered DISABLE TRIGGER audit;
CALL rotate_batch('triggered', 'v', 2);
-- A trigger that skips a row: that one is left, all others are moved, and it ends.
CREATE TABLE stubborn (id int, v encrypted_text);
INSERT INTO stubborn VALUES (1, 'one'), (2, 'two'), (3, 'three');
CREATE FUNCTION skip() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RETURN CASE WHEN NEW.id = 1 THEN NULL ELSE NEW END; END $$;
CREATE TRIGGER skip BEFORE UPDATE ON stubborn FOR EACH ROW EXECUTE FUNCTION skip();
SELECT prism_crypt.rotate_key() AS active \gset
SET statement_timeout = '30s';
SET client_min_messages = warning;
CALL rotate_batch('stubborn', 'v', 1);
RESET client_min_messages;
RESET statement_timeout;
SELECT id, key_version(v) = :active AS moved FROM stubborn ORDER BY id;

-- The error is raised as it was, with all that belongs to it; what is kept of it holds no value.
CREATE TABLE raised (id int, v encrypted_text);
INSERT INTO raised SELECT n, 'secret ' || n FROM generate_series(1, 10) AS n;
CREATE FUNCTION raise_error() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
  IF NEW.id = 4 THEN
    RAISE EXCEPTION USING ERRCODE = 'P9999', MESSAGE = 'the value is ' || NEW.v::text, DETAIL = 'a detail', HINT = 'a hint',
      SCHEMA = 'a_schema', TABLE = 'a_table', COLUMN = 'a_column', CONSTRAINT = 'a_constraint', DATATYPE = 'a_type';
  END IF;
  RETURN NEW;
END $$;
CREATE TRIGGER raise_error BEFORE UPDATE ON raised FOR EACH ROW EXECUTE FUNCTION raise_error();
SELECT prism_crypt.rotate_key() AS active \gset
CALL rotate_batch('raised', 'v', 3);
\echo :SQLSTATE :LAST_ERROR_MESSAGE
SELECT target, state, error FROM prism_crypt.progress ORDER BY id DESC LIMIT 1;
SELECT count(*) FILTER (WHERE error LIKE '%secret%') AS told FROM prism_crypt.job;
SELECT count(*) FILTER (WHERE key_version(v) = :active) AS moved, count(*) FILTER (WHERE v::text = 'secret ' || id) AS same FROM raised;
-- The next call goes on with the same job, fails again, and ends once it can.
CALL rotate_batch('raised', 'v', 3);
SELECT count(*) FROM prism_crypt.progress WHERE target = 'public.raised.v';
DROP TRIGGER raise_error ON raised;
CALL rotate_batch('raised', 'v', 3);
SELECT target, state, error FROM prism_crypt.progress ORDER BY id DESC LIMIT 1;
SELECT count(*) FILTER (WHERE key_version(v) = :active) AS moved FROM raised;
-- Errors of PostgreSQL: a constraint that the trigger runs into, and messages that quote values.
CREATE TABLE target (id int CONSTRAINT "target key" PRIMARY KEY, n int CONSTRAINT positive CHECK (n > 0));
INSERT INTO target VALUES (1, 1);
CREATE FUNCTION insert_target() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN EXECUTE TG_ARGV[0] USING NEW.v::text; RETURN NEW; END $$;
CREATE TRIGGER insert_target AFTER UPDATE ON raised FOR EACH ROW WHEN (NEW.id = 1) EXECUTE FUNCTION insert_target('INSERT INTO target VALUES (1, 2)');
SELECT prism_crypt.rotate_key() AS active \gset
CALL rotate_batch('raised', 'v');
\echo :SQLSTATE
SELECT state, error FROM prism_crypt.progress ORDER BY id DESC LIMIT 1;
CREATE OR REPLACE TRIGGER insert_target AFTER UPDATE ON raised FOR EACH ROW WHEN (NEW.id = 1) EXECUTE FUNCTION insert_target('INSERT INTO target VALUES (2, -1)');
CALL rotate_batch('raised', 'v');
\echo :SQLSTATE
SELECT state, error FROM prism_crypt.progress ORDER BY id DESC LIMIT 1;
CREATE OR REPLACE TRIGGER insert_target AFTER UPDATE ON raised FOR EACH ROW WHEN (NEW.id = 1) EXECUTE FUNCTION insert_target('SELECT $1::int');
CALL rotate_batch('raised', 'v');
\echo :SQLSTATE
SELECT state, error FROM prism_crypt.progress ORDER BY id DESC LIMIT 1;
CREATE OR REPLACE TRIGGER insert_target AFTER UPDATE ON raised FOR EACH ROW WHEN (NEW.id = 1) EXECUTE FUNCTION insert_target('SELECT 1 FROM no_such_table');
CALL rotate_batch('raised', 'v');
\echo :SQLSTATE
SELECT state, error FROM prism_crypt.progress ORDER BY id DESC LIMIT 1;
-- A statement of the trigger's own with a value in it: its text is not kept.
CREATE OR REPLACE FUNCTION insert_target() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN EXECUTE format('SELECT %I FROM target', NEW.v::text); RETURN NEW; END $$;
CALL rotate_batch('raised', 'v');
SELECT state, error LIKE '%secret%' AS told FROM prism_crypt.progress ORDER BY id DESC LIMIT 1;
CREATE OR REPLACE FUNCTION insert_target() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE object_in_use USING MESSAGE = 'secret is ' || NEW.v::text; RETURN NEW; END $$;
CALL rotate_batch('raised', 'v');
SELECT state, error LIKE '%secret%' AS told FROM prism_crypt.progress ORDER BY id DESC LIMIT 1;
DROP TRIGGER insert_target ON raised;
-- A deferred constraint trigger fails at the end of a batch, before its commit, behind which nothing could be recorded.
CREATE FUNCTION deferred() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
  IF NEW.id = 9 THEN RAISE EXCEPTION 'deferred says no'; END IF;
  RETURN NULL;
END $$;
CREATE CONSTRAINT TRIGGER deferred AFTER UPDATE ON raised DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION deferred();
CALL rotate_batch('raised', 'v', 4);
\echo :SQLSTATE
SELECT target, state, workers, error FROM prism_crypt.progress ORDER BY id DESC LIMIT 1;
SELECT count(*) FILTER (WHERE key_version(v) = :active) AS moved, count(*) FILTER (WHERE v::text = 'secret ' || id) AS same FROM raised;
DROP TRIGGER deferred ON raised;
CALL rotate_batch('raised', 'v', 4);
SELECT count(*) FILTER (WHERE key_version(v) = :active) AS moved, count(*) FILTER (WHERE v::text = 'secret ' || id) AS same FROM raised;
SELECT target, state, error FROM prism_crypt.progress ORDER BY id DESC LIMIT 1;

-- Not fired, where the caller may have it so.
SELECT prism_crypt.rotate_key() AS active \gset
ALTER TABLE triggered ENABLE TRIGGER audit;
TRUNCATE audit;
CALL rotate_batch('triggered', 'v', fire_triggers => false);
SELECT count(*) FROM audit;
SELECT count(*) FILTER (WHERE key_version(v) = :active) AS moved FROM triggered;
-- ALWAYS triggers fire all the same, REPLICA ones then too; and those that are disabled never.
ALTER TABLE triggered ENABLE ALWAYS TRIGGER audit;
DELETE FROM triggered WHERE id = 6;
SELECT prism_crypt.rotate_key() AS active \gset
CALL rotate_batch('triggered', 'v', fire_triggers => false);
SELECT count(*) FROM audit;
ALTER TABLE triggered ENABLE REPLICA TRIGGER audit;
TRUNCATE audit;
SELECT prism_crypt.rotate_key() AS active \gset
CALL rotate_batch('triggered', 'v');
SELECT count(*) FROM audit;
ALTER TABLE triggered ENABLE TRIGGER audit;
SHOW session_replication_role;
-- A role without that right gets PostgreSQL's own error, before anything.
SELECT prism_crypt.grant_access('regress_prism_rotator', 'rotate');
GRANT SELECT, UPDATE ON triggered TO regress_prism_rotator;
SELECT prism_crypt.rotate_key() AS active \gset
SET ROLE regress_prism_rotator;
CALL rotate_batch('triggered', 'v', fire_triggers => false);
\echo :SQLSTATE
CALL prism_crypt.rotate_all(fire_triggers => false);
\echo :SQLSTATE
RESET ROLE;
SELECT count(*) FILTER (WHERE key_version(v) = :active) AS moved FROM triggered;

-- What a trigger does runs as the caller, with the caller's search_path and no more rights.
CREATE OR REPLACE FUNCTION audit() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
  INSERT INTO public.audit VALUES (current_user || ' ' || session_user || ' ' || current_setting('search_path') || ' ' || current_setting('role'), NEW.id);
  RETURN NEW;
END $$;
TRUNCATE audit;
GRANT INSERT ON audit TO regress_prism_rotator;
\c - regress_prism_rotator
\set SHOW_CONTEXT never
SET search_path = public, regress;
CALL rotate_batch('triggered', 'v', 4);
\c - postgres
\set SHOW_CONTEXT never
SELECT who, count(*) FROM audit GROUP BY 1;
-- The careful way, that locks rows first, is no other.
CREATE OR REPLACE FUNCTION audit() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
  PERFORM decrypt_field(NEW.v);
  RETURN NEW;
END $$;
SELECT prism_crypt.rotate_key() AS active \gset
SET ROLE regress_prism_rotator;
CALL rotate_batch('triggered', 'v', 4);
\echo :SQLSTATE
RESET ROLE;
SELECT state, error FROM prism_crypt.progress ORDER BY id DESC LIMIT 1;
CREATE OR REPLACE FUNCTION audit() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN UPDATE prism_crypt.job SET state = 'finished'; RETURN NEW; END $$;
SET ROLE regress_prism_rotator;
CALL rotate_batch('triggered', 'v', 4);
\echo :SQLSTATE
RESET ROLE;
DROP TRIGGER audit ON triggered;

-- One that puts the old value back: it ends, and says so.
CREATE TABLE sticky (id int, v encrypted_text);
INSERT INTO sticky SELECT n, 'v' || n FROM generate_series(1, 20) AS n;
CREATE FUNCTION put_back() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN NEW.v := OLD.v; RETURN NEW; END $$;
CREATE TRIGGER put_back BEFORE UPDATE ON sticky FOR EACH ROW WHEN (OLD.id <= 3) EXECUTE FUNCTION put_back();
SELECT prism_crypt.rotate_key() AS active \gset
SET statement_timeout = '60s';
\set VERBOSITY terse
SET client_min_messages = warning;
CALL rotate_batch('sticky', 'v');
RESET client_min_messages;
\set VERBOSITY default
RESET statement_timeout;
SELECT count(*) FILTER (WHERE key_version(v) = :active) AS moved, count(*) FILTER (WHERE v::text = 'v' || id) AS same FROM sticky;
SELECT target, state, rows_left, values_unreadable FROM prism_crypt.progress ORDER BY id DESC LIMIT 1;
-- One that always says that others are in the way: the other rows are changed, and it ends, and says so.
CREATE TABLE contended (id int, v encrypted_text);
INSERT INTO contended SELECT n, 'v' || n FROM generate_series(1, 20) AS n;
CREATE FUNCTION conflict() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'conflict' USING ERRCODE = '40001'; END $$;
CREATE TRIGGER conflict BEFORE UPDATE ON contended FOR EACH ROW WHEN (OLD.id = 20) EXECUTE FUNCTION conflict();
SELECT prism_crypt.rotate_key() AS active \gset
SET statement_timeout = '120s';
\set VERBOSITY terse
SET client_min_messages = warning;
CALL rotate_batch('contended', 'v');
RESET client_min_messages;
\set VERBOSITY default
RESET statement_timeout;
SELECT count(*) FILTER (WHERE key_version(v) = :active) AS moved, count(*) FILTER (WHERE v::text = 'v' || id) AS same FROM contended;
SELECT target, state, rows_left, values_unreadable, error FROM prism_crypt.progress ORDER BY id DESC LIMIT 1;
-- One that changes another column, another row, or deletes.
CREATE TABLE busy (id int, v encrypted_text, n int DEFAULT 0);
INSERT INTO busy SELECT n, 'v' || n FROM generate_series(1, 12) AS n;
CREATE FUNCTION meddle() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
  UPDATE busy SET n = n + 1 WHERE id = NEW.id + 1 AND pg_trigger_depth() = 1;
  IF NEW.id = 5 AND pg_trigger_depth() = 1 THEN DELETE FROM busy WHERE id = 12; END IF;
  RETURN NULL;
END $$;
CREATE TRIGGER meddle AFTER UPDATE OF v ON busy FOR EACH ROW EXECUTE FUNCTION meddle();
SELECT prism_crypt.rotate_key() AS active \gset
CALL rotate_batch('busy', 'v', 3);
SELECT count(*), count(*) FILTER (WHERE key_version(v) = :active) AS moved, count(*) FILTER (WHERE v::text = 'v' || id) AS same FROM busy;
-- Statement triggers and rules.
CREATE TABLE ruled (id int, v encrypted_text);
INSERT INTO ruled VALUES (1, 'one');
CREATE RULE nothing AS ON UPDATE TO ruled DO INSTEAD NOTHING;
SELECT prism_crypt.rotate_key() AS active \gset
SET statement_timeout = '60s';
SET client_min_messages = warning;
CALL rotate_batch('ruled', 'v');
RESET client_min_messages;
RESET statement_timeout;
SELECT key_version(v) = :active AS moved FROM ruled;
