-- Where the client reads plaintext, encrypted columns of its results are announced as text: prism_crypt.result_type. \gdesc prepares and describes.
CALL regress.fresh();
SET client_min_messages = warning;
CREATE ROLE result_reader; CREATE ROLE result_stranger;
SELECT prism_crypt.grant_access('result_reader', 'decrypt'), prism_crypt.grant_access('result_reader', 'search');
CREATE DOMAIN email_address AS encrypted_text(email,searchable);
CREATE DOMAIN tag_list AS encrypted_text[];
CREATE TABLE results (id int PRIMARY KEY, email encrypted_text(email,searchable) UNIQUE, name encrypted_text, tags encrypted_text[],
  address email_address, addresses email_address[], list tag_list);
CREATE TABLE result_log (id int, email encrypted_text(email,searchable));
INSERT INTO results
SELECT i, 'mail ' || i, 'name ' || i, ARRAY['a ' || i, NULL, 'b']::text[]::encrypted_text[], 'address ' || i, ARRAY['c ' || i]::encrypted_text[]::email_address[], ARRAY['d']::encrypted_text[]
FROM generate_series(1, 5) AS i;
CREATE VIEW result_view AS SELECT id, email, tags FROM results;
GRANT ALL ON results, result_log, result_view TO result_reader, result_stranger;

-- Not where output is ciphertext or masked, nor for a role that may not decrypt.
SELECT email, tags FROM results \gdesc
SET prism_crypt.output = 'masked';
SELECT email, tags FROM results \gdesc
SET prism_crypt.output = 'plaintext';
SET ROLE result_stranger;
SELECT email, tags FROM results \gdesc
SET ROLE result_reader;
SELECT email, tags FROM results \gdesc

-- Domains, arrays, views, and all kinds of queries.
SELECT * FROM results \gdesc
SELECT * FROM results WHERE id = 2;
SELECT * FROM result_view WHERE id = 2;
SELECT r.email AS a, s.email AS b, r FROM results r JOIN results s USING (id) WHERE id = 3 \gdesc
SELECT email FROM results ORDER BY id DESC LIMIT 2;
SELECT email, count(*) FROM results GROUP BY email ORDER BY email::text LIMIT 2;
SELECT DISTINCT email FROM results WHERE id < 2;
SELECT DISTINCT ON (email) email, id FROM results WHERE id < 2;
SELECT email FROM results WHERE id = 1 UNION ALL SELECT name FROM results WHERE id = 2 \gdesc
SELECT email FROM results WHERE id = 1 UNION ALL SELECT name FROM results WHERE id = 2;
SELECT count(*) FROM (SELECT email FROM results UNION SELECT email FROM results) AS u;
SELECT email FROM results WHERE id = 1 UNION SELECT email FROM results WHERE id = 1;
SELECT email FROM results INTERSECT SELECT email FROM results WHERE id = 4;
WITH RECURSIVE r (id, email) AS (SELECT id, email FROM results WHERE id = 1 UNION ALL SELECT s.id, s.email FROM results s JOIN r ON s.id = r.id + 1) SELECT * FROM r ORDER BY id;
SELECT email, row_number() OVER (PARTITION BY email) FROM results WHERE id = 1;
SELECT array_agg(email ORDER BY id) FROM results WHERE id < 3;
SELECT unnest(tags) FROM results WHERE id = 1;
SELECT tags[1], (SELECT email FROM results WHERE id = 2) FROM results WHERE id = 1;
VALUES ((SELECT email FROM results WHERE id = 1));
TABLE result_view ORDER BY id LIMIT 1;
SELECT email FROM results WHERE id = 2 FOR UPDATE;
SELECT email FROM results WHERE id = 1 FOR UPDATE LIMIT 1;
SELECT 'literal'::encrypted_text, NULL::encrypted_text, '{}'::encrypted_text[] \gdesc
SELECT 'literal'::encrypted_text, NULL::encrypted_text, '{}'::encrypted_text[];
SELECT pg_typeof(email), email FROM results WHERE id = 1;
SELECT email::text, decrypt_field(email), email FROM results WHERE id = 1;
SELECT email COLLATE "C" FROM results WHERE id = 1;
SELECT to_jsonb(r) - 'address' - 'addresses' - 'list' FROM results r WHERE id = 1;
-- ORDER BY stays an error, also by the name of the column.
SELECT email FROM results ORDER BY 1;
SELECT email FROM results ORDER BY email;

-- RETURNING.
INSERT INTO result_log VALUES (1, 'logged') RETURNING email \gdesc
INSERT INTO result_log VALUES (1, 'logged') RETURNING email, id;
UPDATE result_log SET email = 'changed' RETURNING *;
DELETE FROM result_log RETURNING email || '!' AS text, email;
WITH gone AS (DELETE FROM results WHERE id = 5 RETURNING email) SELECT * FROM gone;
INSERT INTO results (id, email) VALUES (1, 'mail 1') ON CONFLICT (email) DO UPDATE SET name = excluded.email RETURNING name, email;

-- Partitions and inheritance.
RESET ROLE;
CREATE TABLE result_parts (id int, email encrypted_text(email,searchable)) PARTITION BY LIST (id);
CREATE TABLE result_part_1 PARTITION OF result_parts FOR VALUES IN (1);
CREATE TABLE result_part_2 (email encrypted_text(email,searchable), id int);
ALTER TABLE result_parts ATTACH PARTITION result_part_2 FOR VALUES IN (2);
GRANT ALL ON result_parts TO result_reader;
SET ROLE result_reader;
INSERT INTO result_parts VALUES (1, 'one'), (2, 'two') RETURNING email, id;
UPDATE result_parts SET id = 3 - id RETURNING id, email;
SELECT email FROM result_parts ORDER BY id;
DELETE FROM result_parts RETURNING email;

-- Rules and updatable views.
RESET ROLE;
CREATE RULE log_mails AS ON INSERT TO result_view DO INSTEAD INSERT INTO results (id, email) VALUES (NEW.id, NEW.email) RETURNING id, email, tags;
CREATE VIEW result_updatable AS SELECT id, email FROM results;
GRANT ALL ON result_updatable TO result_reader;
SET ROLE result_reader;
INSERT INTO result_view VALUES (10, 'by rule') RETURNING email \gdesc
INSERT INTO result_view VALUES (10, 'by rule') RETURNING email;
INSERT INTO result_updatable VALUES (11, 'by view') RETURNING email;
RESET ROLE;
CREATE RULE also_select AS ON INSERT TO result_log DO ALSO SELECT email FROM results WHERE id = NEW.id;
PREPARE i (int) AS INSERT INTO result_log VALUES ($1, 'by rule') RETURNING email;
EXECUTE i (1);
ALTER TABLE result_log ADD COLUMN visits int;
EXECUTE i (1);
DROP RULE also_select ON result_log;
ALTER TABLE result_log DROP COLUMN visits;
DELETE FROM result_log;
SET ROLE result_reader;
UPDATE result_updatable SET email = 'by view 2' WHERE email = 'by view' RETURNING email, id;

-- Cursors: forth and back, updated where they are, kept, binary.
BEGIN;
DECLARE c SCROLL CURSOR FOR SELECT id, email FROM results ORDER BY id LIMIT 3;
FETCH 2 FROM c \gdesc
FETCH 2 FROM c;
FETCH LAST FROM c;
FETCH PRIOR FROM c;
FETCH BACKWARD ALL FROM c;
MOVE FORWARD 1 FROM c;
CLOSE c;
DECLARE u CURSOR FOR SELECT id, email FROM results WHERE id = 2 FOR UPDATE;
FETCH u;
UPDATE results SET name = 'where it is' WHERE CURRENT OF u RETURNING name;
-- One that is kept shows its rows to whoever fetches them, so it is announced as what it is.
DECLARE k CURSOR WITH HOLD FOR SELECT email FROM results WHERE id < 3;
COMMIT;
FETCH k \gdesc
FETCH k;
SET ROLE result_stranger;
FETCH k \gset
SELECT left(:'email', 7);
SET ROLE result_reader;
CLOSE k;

-- Prepared statements, with generic plans too.
PREPARE p (int) AS SELECT email, tags FROM results WHERE id = $1;
EXECUTE p (1) \gdesc
EXECUTE p (1);
SET plan_cache_mode = force_generic_plan;
EXECUTE p (2);
EXPLAIN (COSTS OFF) EXECUTE p (2);
-- They follow changes of the table.
RESET ROLE;
ALTER TABLE results ADD COLUMN visits int;
SET ROLE result_reader;
EXECUTE p (3);
EXPLAIN (COSTS OFF) EXECUTE p (2);
RESET plan_cache_mode;
-- They stay what the client was told, whatever the settings and the role are then, also when they are analysed again.
SET prism_crypt.result_type = 'encrypted_text';
EXECUTE p (1) \gdesc
EXECUTE p (1);
SELECT email FROM results WHERE id = 1 \gdesc
SELECT email FROM results WHERE id = 1;
RESET prism_crypt.result_type;
SET prism_crypt.output = 'ciphertext';
PREPARE s (int) AS SELECT email, tags FROM results WHERE id = $1;
EXECUTE p (1) \gdesc
EXECUTE p (1) \gset
SELECT left(:'email', 7);
EXECUTE s (1) \gset
SELECT left(:'email', 7);
SET prism_crypt.output = 'plaintext';
EXECUTE s (1) \gdesc
EXECUTE s (1);
SET prism_crypt.output = 'masked';
SET ROLE result_stranger;
EXECUTE p (1) \gset
SELECT left(:'email', 7);
RESET ROLE;
ALTER TABLE results ADD COLUMN visits_again int;
SET ROLE result_stranger;
EXECUTE p (1) \gdesc
EXECUTE p (1) \gset
SELECT left(:'email', 7);
SET ROLE result_reader;
SET prism_crypt.output = 'plaintext';
EXECUTE p (1) \gdesc
EXECUTE p (1);
EXECUTE s (1) \gdesc
EXECUTE s (1);
-- But not other statements with the same text.
SET prism_crypt.output = 'ciphertext';
SELECT email, tags FROM results WHERE id = 1 \gdesc
SET prism_crypt.output = 'plaintext';
SELECT email, tags FROM results WHERE id = 1 \gdesc
SELECT email, tags FROM results WHERE id = 1;
SET prism_crypt.output = 'ciphertext';
SELECT email, tags FROM results WHERE id = 1 \gdesc
DEALLOCATE p;
PREPARE p (int) AS SELECT email, tags FROM results WHERE id = $1;
EXECUTE p (1) \gdesc
SET prism_crypt.output = 'plaintext';

-- No table of it; nor anything else that is not sent.
RESET ROLE;
PREPARE t AS SELECT email FROM results;
CREATE TABLE result_copy AS EXECUTE t;
EXPLAIN ANALYZE CREATE TABLE result_copy AS EXECUTE t;
CREATE TABLE result_copy AS SELECT email, tags FROM results;
SELECT attname, format_type(atttypid, atttypmod) FROM pg_attribute WHERE attrelid = 'result_copy'::regclass AND attnum > 0 ORDER BY attnum;
SELECT email INTO result_into FROM results;
CREATE MATERIALIZED VIEW result_stored AS SELECT email FROM results;
CREATE VIEW result_view_2 AS SELECT email FROM results;
INSERT INTO result_log SELECT id, email FROM results;
SELECT attrelid::regclass, format_type(atttypid, atttypmod) FROM pg_attribute WHERE attrelid = ANY ('{result_into,result_stored,result_view_2}'::regclass[]) AND attnum > 0 ORDER BY 1;
SELECT count(*) FROM result_log l JOIN results r ON l.email = r.email AND l.id = r.id;
CREATE FUNCTION result_of_sql(i int) RETURNS SETOF encrypted_text LANGUAGE sql AS 'SELECT email FROM results WHERE id = i';
CREATE FUNCTION result_of_atomic(i int) RETURNS SETOF encrypted_text LANGUAGE sql BEGIN ATOMIC SELECT email FROM results WHERE id = i; END;
CREATE FUNCTION result_of_plpgsql(i int) RETURNS text LANGUAGE plpgsql AS $$
DECLARE r record; t text; c refcursor;
BEGIN
  SELECT email INTO r FROM results WHERE id = i; t := pg_typeof(r.email);
  EXECUTE 'SELECT email FROM results' INTO r; t := t || ', ' || pg_typeof(r.email);
  OPEN c FOR SELECT email FROM results; FETCH c INTO r; t := t || ', ' || pg_typeof(r.email);
  EXECUTE 'DECLARE d CURSOR FOR SELECT email FROM results'; EXECUTE 'FETCH d' INTO r; CLOSE c; EXECUTE 'CLOSE d'; t := t || ', ' || pg_typeof(r.email);
  RETURN t;
END $$;
SELECT result_of_sql(2) \gdesc
SELECT result_of_sql(2), result_of_atomic(2);
SELECT result_of_plpgsql(2);
-- What was announced to the client is for the client: a function can't take it for a value, nor a mask for what is stored.
CREATE FUNCTION result_fetched(c refcursor) RETURNS text LANGUAGE plpgsql AS $$ DECLARE e encrypted_text; BEGIN FETCH c INTO e; RETURN decrypt_field(e); END $$;
CREATE FUNCTION result_executed() RETURNS text LANGUAGE plpgsql AS $$ DECLARE e encrypted_text; BEGIN EXECUTE 'EXECUTE t' INTO e; RETURN decrypt_field(e); END $$;
CREATE FUNCTION result_table() RETURNS void LANGUAGE plpgsql AS $$ BEGIN EXECUTE 'EXPLAIN ANALYZE CREATE TABLE result_copy_2 AS EXECUTE t'; END $$;
BEGIN; DECLARE c CURSOR FOR SELECT email FROM results ORDER BY id; SELECT result_fetched('c'); ROLLBACK;
BEGIN; DECLARE c CURSOR FOR SELECT email FROM results ORDER BY id; SET LOCAL prism_crypt.output = 'masked'; INSERT INTO result_log VALUES (1, result_fetched('c')); ROLLBACK;
SELECT result_executed();
SELECT result_table();
SET prism_crypt.result_type = 'encrypted_text';
BEGIN; DECLARE c CURSOR FOR SELECT email FROM results ORDER BY id; SELECT result_fetched('c'); ROLLBACK;
RESET prism_crypt.result_type;
COPY (SELECT id, email FROM results WHERE id < 3 ORDER BY id) TO STDOUT;
COPY results (id) TO STDOUT;

-- What the planner finds is as before.
EXPLAIN (VERBOSE, COSTS OFF) SELECT email FROM results WHERE id = 1;
DEALLOCATE ALL;
SET client_min_messages = error;
DROP TABLE results, result_log, result_parts, result_copy, result_into CASCADE;
DROP FUNCTION result_of_sql, result_of_plpgsql, result_fetched, result_executed, result_table;
DROP DOMAIN email_address, tag_list;
SELECT prism_crypt.revoke_access('result_reader', 'decrypt'), prism_crypt.revoke_access('result_reader', 'search');
DROP ROLE result_reader, result_stranger;
