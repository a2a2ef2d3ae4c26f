-- A kind of job is three functions and a text: what long work there is, the engine need not know. Here one that puts texts into
-- lower case.
CALL regress.fresh();
\set SHOW_CONTEXT never
CREATE FUNCTION prism_crypt._check_lower(relation regclass, column_name name, scope jsonb) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
  IF NOT has_table_privilege(relation::oid, 'SELECT, UPDATE') THEN
    RAISE insufficient_privilege USING MESSAGE = format('not to be written by %s: %s', current_user, relation);
  END IF;
END $$;
CREATE FUNCTION prism_crypt._lower_parts(relation regclass, column_name name, scope jsonb) RETURNS regclass[] LANGUAGE sql AS
  $$ SELECT array_agg(t.member::regclass) FROM prism_crypt._table_tree(relation) AS t WHERE t.relkind = 'r' $$;
CREATE FUNCTION prism_crypt._to_lower(t text) RETURNS text LANGUAGE plpgsql AS $$
BEGIN
  IF t LIKE '%!' THEN
    RAISE 'too loud: %', t;
  END IF;
  RETURN lower(t);
END $$;
CREATE FUNCTION prism_crypt._lower_changes(relation regclass, column_name name, scope jsonb) RETURNS prism_crypt._changes LANGUAGE plpgsql AS $$
DECLARE
  changes prism_crypt._changes;
BEGIN
  changes.due := format('pg_catalog.lower(changed.%1$I) OPERATOR(pg_catalog.<>) changed.%1$I', column_name);
  changes.possible := format('%s AND changed.%I NOT LIKE ''%%!''', changes.due, column_name);
  changes.assignments := format('%1$I = prism_crypt._to_lower(changed.%1$I)', column_name);
  changes.assignments_or_kept := format('%1$I = CASE WHEN changed.%1$I LIKE ''%%!'' THEN changed.%1$I ELSE pg_catalog.lower(changed.%1$I) END', column_name);
  -- What can't be changed is not seen by what looks for the rest, so it is always counted.
  changes.hides_rest := true;
  changes.errors := ARRAY[format('CASE WHEN %s THEN CASE WHEN changed.%I LIKE ''%%!'' THEN ''Loud'' ELSE '''' END END', changes.due, column_name)];
  IF scope ? 'index' THEN
    changes.by_index := format('%s AND changed.%I NOT LIKE ''%%!''', changes.due, column_name);
  END IF;
  RETURN changes;
END $$;
INSERT INTO prism_crypt.job_kind VALUES ('lower', 'prism_crypt._check_lower', 'prism_crypt._lower_parts', 'prism_crypt._lower_changes', 'texts in lower case');
CREATE PROCEDURE lower_texts(relation regclass, batch_size int DEFAULT 1000, max_batches int DEFAULT NULL, scope jsonb DEFAULT '{}') LANGUAGE plpgsql AS $$
DECLARE
  work prism_crypt._work := prism_crypt._work_of('lower', relation, 't', scope, '{}', ROW(batch_size, NULL, NULL, NULL, max_batches, true), true, 0);
BEGIN
  CALL prism_crypt._work_on(work);
  RAISE INFO '% %', work.outcome, (work.failure).message;
END $$;
CREATE VIEW jobs AS SELECT id, kind, target, state, pass, rows_done, rows_left, values_unreadable FROM prism_crypt.progress ORDER BY id;

CREATE TABLE texts (id int PRIMARY KEY, t text) PARTITION BY RANGE (id);
CREATE TABLE texts_1 PARTITION OF texts FOR VALUES FROM (0) TO (1000);
CREATE TABLE texts_2 PARTITION OF texts FOR VALUES FROM (1000) TO (9999);
INSERT INTO texts SELECT n, CASE WHEN n % 500 = 0 THEN 'STAY!' WHEN n % 3 = 0 THEN 'quiet' ELSE 'Text ' || n END FROM generate_series(1, 2999) AS n;
ANALYZE texts_1, texts_2;
-- In portions; what can't be changed keeps no other row from it.
CALL lower_texts('texts', 300, 2);
SELECT * FROM jobs;
CALL lower_texts('texts', 300);
SELECT * FROM jobs;
SELECT count(*) FILTER (WHERE t = lower(t)) AS lower, count(*) FILTER (WHERE t <> lower(t)) AS others FROM texts;
-- Another scope is another job. Rows by an index.
UPDATE texts SET t = upper(t) WHERE id % 100 = 1;
CALL lower_texts('texts', 10, scope => '{"index": true}');
SELECT * FROM jobs;
SELECT count(*) FILTER (WHERE t = lower(t)) AS lower, count(*) FILTER (WHERE t <> lower(t)) AS others FROM texts;
-- A trigger that keeps what it had.
UPDATE texts SET t = 'Kept' WHERE id = 1;
CREATE FUNCTION keep() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN NEW.t := OLD.t; RETURN NEW; END';
CREATE TRIGGER keep BEFORE UPDATE ON texts FOR EACH ROW WHEN (OLD.t = 'Kept') EXECUTE FUNCTION keep();
CALL lower_texts('texts');
SELECT * FROM jobs;
-- An error of the table, and what the kind has to say.
CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE 'not on Sundays' USING ERRCODE = 'P7777'; END $$;
CREATE TRIGGER refuse BEFORE UPDATE ON texts FOR EACH ROW WHEN (OLD.t = 'Sunday') EXECUTE FUNCTION refuse();
INSERT INTO texts VALUES (3000, 'Sunday');
CALL lower_texts('texts');
SELECT state, error FROM prism_crypt.progress ORDER BY id DESC LIMIT 1;
SELECT count(*) FROM prism_crypt.job_worker;
GRANT USAGE ON SCHEMA prism_crypt TO regress_prism_reader;
SET ROLE regress_prism_reader;
CALL lower_texts('texts');
RESET ROLE;
REVOKE USAGE ON SCHEMA prism_crypt FROM regress_prism_reader;
-- One that does not exist.
CALL regress.fails('SELECT prism_crypt._work_of(''another'', ''texts'', ''t'', ''{}'', ''{}'', ROW(1, NULL, NULL, NULL, NULL, true), true, 0)');
DELETE FROM prism_crypt.job WHERE kind = 'lower';
DELETE FROM prism_crypt.job_kind WHERE name = 'lower';
DROP PROCEDURE lower_texts;
DROP FUNCTION prism_crypt._check_lower, prism_crypt._lower_parts, prism_crypt._lower_changes, prism_crypt._to_lower;
