-- PostgreSQL 17 and later
-- MERGE … RETURNING: as what results are announced, who reads them, and matching by encrypted values.
CALL regress.fresh();
SET client_min_messages = warning;
CREATE ROLE merge_reader; CREATE ROLE merge_writer;
SELECT prism_crypt.grant_access('merge_reader', 'decrypt'), prism_crypt.grant_access('merge_reader', 'search'), prism_crypt.grant_access('merge_writer', 'search');
CREATE TABLE users (id int, email encrypted_text('email', 'searchable') UNIQUE, name encrypted_text);
INSERT INTO users SELECT n, 'u' || n || '@x.org', 'name ' || n FROM generate_series(1, 6) AS n;
CREATE TABLE arrivals (id int, email text, name text);
INSERT INTO arrivals VALUES (1, 'u1@x.org', 'Ada'), (2, 'u2@x.org', NULL), (20, 'u20@x.org', 'Grace');
CREATE TABLE sealed_arrivals (id int, email encrypted_text('email', 'searchable'), name encrypted_text);
INSERT INTO sealed_arrivals SELECT * FROM arrivals;
GRANT ALL ON users, arrivals, sealed_arrivals TO merge_reader, merge_writer;

-- By text and by encrypted values, found by tags.
BEGIN;
MERGE INTO users AS u USING arrivals AS a ON u.email = a.email
  WHEN MATCHED AND a.name IS NULL THEN DELETE WHEN MATCHED THEN UPDATE SET name = a.name WHEN NOT MATCHED THEN INSERT VALUES (a.id, a.email, a.name)
  RETURNING merge_action(), u.id, decrypt_field(u.email), u.name::text;
ROLLBACK;
BEGIN;
MERGE INTO users AS u USING sealed_arrivals AS a ON u.email = a.email
  WHEN MATCHED AND a.name IS NULL THEN DELETE WHEN MATCHED THEN UPDATE SET name = a.name WHEN NOT MATCHED THEN INSERT VALUES (a.id, a.email, a.name)
  RETURNING merge_action(), u.id, decrypt_field(u.email), u.name::text, a.email = u.email AS same;
ROLLBACK;
BEGIN;
MERGE INTO users AS u USING (SELECT * FROM sealed_arrivals WHERE id < 9) AS a ON u.email = a.email
  WHEN MATCHED THEN UPDATE SET name = 'there' WHEN NOT MATCHED BY SOURCE AND u.id = 3 THEN DELETE
  RETURNING merge_action(), u.id, u.email::text, a.email::text AS source;
SELECT count(*) FROM users;
ROLLBACK;

-- Announced as text to whoever reads plaintext.
SET prism_crypt.output = 'plaintext';
SET ROLE merge_reader;
MERGE INTO users AS u USING arrivals AS a ON u.email = a.email WHEN MATCHED THEN UPDATE SET name = a.name WHEN NOT MATCHED THEN INSERT VALUES (a.id, a.email, a.name)
  RETURNING merge_action(), u.*, a.email \gdesc
MERGE INTO users AS u USING arrivals AS a ON u.email = a.email WHEN MATCHED THEN UPDATE SET name = a.name WHEN NOT MATCHED THEN INSERT VALUES (a.id, a.email, a.name)
  RETURNING merge_action(), u.*, a.email;
MERGE INTO users AS u USING sealed_arrivals AS a ON u.email = a.email WHEN MATCHED THEN UPDATE SET name = 'x' WHEN NOT MATCHED THEN DO NOTHING RETURNING u.email, a.email, u.name;
WITH merged AS (MERGE INTO users AS u USING arrivals AS a ON u.email = a.email WHEN MATCHED AND a.id = 20 THEN DELETE RETURNING merge_action(), u.email, u.name) SELECT * FROM merged;
PREPARE m (text, text) AS MERGE INTO users AS u USING (SELECT $1 AS email, $2 AS name) AS a ON u.email = a.email
  WHEN MATCHED THEN UPDATE SET name = a.name WHEN NOT MATCHED THEN INSERT VALUES (30, a.email, a.name) RETURNING merge_action(), u.id, u.email, u.name;
EXECUTE m ('u3@x.org', 'Barbara') \gdesc
EXECUTE m ('u3@x.org', 'Barbara');
SET plan_cache_mode = force_generic_plan;
EXECUTE m ('u30@x.org', 'Hedy');
EXECUTE m ('u30@x.org', 'Hedy again');
RESET plan_cache_mode;

-- No plaintext for a role that may not decrypt.
SET ROLE merge_writer;
MERGE INTO users AS u USING arrivals AS a ON u.email = a.email WHEN MATCHED THEN UPDATE SET name = 'w' RETURNING u.email \gdesc
CALL regress.fails($$MERGE INTO users AS u USING arrivals AS a ON u.email = a.email WHEN MATCHED THEN UPDATE SET name = 'w' RETURNING decrypt_field(u.email)$$);
CALL regress.fails($$MERGE INTO users AS u USING arrivals AS a ON u.email = a.email WHEN MATCHED THEN UPDATE SET name = 'w' RETURNING u.email::text$$);
CALL regress.fails($$MERGE INTO users AS u USING arrivals AS a ON u.email::text = a.email WHEN MATCHED THEN DELETE RETURNING u.id$$);
RESET ROLE;
-- Nor a match for one that may not search, and none by a comparison with text.
CREATE ROLE merge_stranger;
GRANT ALL ON users, arrivals, sealed_arrivals TO merge_stranger;
SET ROLE merge_stranger;
CALL regress.fails($$MERGE INTO users AS u USING arrivals AS a ON u.email = a.email WHEN MATCHED THEN DELETE RETURNING u.id$$);
SELECT count(*) FROM users;

-- Errors show no row.
SET ROLE merge_reader;
MERGE INTO users AS u USING (VALUES (1, 'u4@x.org'::text)) AS a (id, email) ON u.id = a.id WHEN MATCHED THEN UPDATE SET email = a.email RETURNING u.email;
CALL regress.fails($$MERGE INTO users AS u USING (VALUES ('u4@x.org'::text), ('u4@x.org')) AS a (email) ON u.email = a.email WHEN MATCHED THEN UPDATE SET name = 'twice' RETURNING u.email$$);
CALL regress.fails($$MERGE INTO users AS u USING arrivals AS a ON u.email < a.email WHEN MATCHED THEN DELETE RETURNING u.id$$);

-- Partitions and views.
RESET ROLE;
CREATE TABLE parts (id int, email encrypted_text('email', 'searchable')) PARTITION BY LIST (id);
CREATE TABLE part_1 PARTITION OF parts FOR VALUES IN (1);
CREATE TABLE part_2 (email encrypted_text('email', 'searchable'), id int);
ALTER TABLE parts ATTACH PARTITION part_2 FOR VALUES IN (2);
CREATE VIEW view_of_parts AS SELECT id, email FROM parts;
INSERT INTO parts VALUES (1, 'one'), (2, 'two');
GRANT ALL ON parts, view_of_parts TO merge_reader;
SET ROLE merge_reader;
MERGE INTO parts AS p USING (VALUES ('one'::text), ('two')) AS a (email) ON p.email = a.email WHEN MATCHED THEN UPDATE SET id = 3 - id RETURNING p.id, p.email, a.email AS source;
MERGE INTO view_of_parts AS p USING (VALUES ('one'::text), ('three')) AS a (email) ON p.email = a.email
  WHEN MATCHED THEN DELETE WHEN NOT MATCHED THEN INSERT VALUES (1, a.email) RETURNING merge_action(), p.id, p.email;
SELECT tableoid::regclass, id, email FROM parts ORDER BY email::text;
