-- PostgreSQL 15 and later: MERGE finds values as other statements do, with the same rights.
CALL regress.fresh();
\set SHOW_CONTEXT never
CREATE TABLE users (id int PRIMARY KEY, email encrypted_text('email', 'searchable') UNIQUE, seen int DEFAULT 0);
INSERT INTO users SELECT n, 'u' || n || '@x.org' FROM generate_series(1, 20) AS n;
CREATE TABLE arrivals (email text);
INSERT INTO arrivals VALUES ('u7@x.org'), ('brand new');
SET enable_seqscan = off;
MERGE INTO users AS u USING arrivals AS a ON u.email = a.email
  WHEN MATCHED THEN UPDATE SET seen = 100 WHEN NOT MATCHED THEN INSERT VALUES (100, a.email, 101);
SELECT id, email::text, seen FROM users WHERE seen > 99 ORDER BY id;
-- With constants, in PL/pgSQL, and after a rotation.
SELECT prism_crypt.rotate_key() > 0 AS rotated;
DO $$ BEGIN
  MERGE INTO users AS u USING (VALUES ('u1@x.org'), ('u21@x.org')) AS v (email) ON u.email = v.email
    WHEN MATCHED THEN UPDATE SET email = v.email, seen = 200 WHEN NOT MATCHED THEN INSERT VALUES (200, v.email, 201);
END $$;
MERGE INTO users AS u USING (SELECT 1) AS one ON u.email = 'u2@x.org' WHEN MATCHED THEN DELETE;
SELECT id, email::text, key_version(email), seen FROM users WHERE seen > 99 OR id = 2 ORDER BY id;
CALL regress.fails($$MERGE INTO users AS u USING arrivals AS a ON u.id = 0 WHEN NOT MATCHED THEN INSERT VALUES (300, a.email)$$);
-- Without the right to search, and with it.
GRANT ALL ON users, arrivals TO PUBLIC;
SELECT prism_crypt.grant_access('regress_prism_reader', 'search');
SET ROLE regress_prism_app;
CALL regress.fails($$MERGE INTO users AS u USING (SELECT 'u7@x.org'::encrypted_text AS v) AS g ON u.email = g.v WHEN MATCHED THEN DO NOTHING$$);
CALL regress.fails($$MERGE INTO users AS u USING arrivals AS a ON u.email = a.email WHEN MATCHED THEN DO NOTHING$$);
SET ROLE regress_prism_reader;
CALL regress.fails($$MERGE INTO users AS u USING (SELECT 'u7@x.org'::encrypted_text AS v) AS g ON u.email = g.v WHEN MATCHED THEN DO NOTHING$$);
CALL regress.fails($$MERGE INTO users AS u USING arrivals AS a ON u.email = a.email WHEN MATCHED THEN DO NOTHING$$);
RESET ROLE;
