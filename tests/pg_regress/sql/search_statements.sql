-- Searching in the statements and functions that people have: PL/pgSQL, views, foreign keys, types over the type,
-- plans that outlive keys.
CALL regress.fresh();
CREATE TABLE users (id int PRIMARY KEY, email encrypted_text('email', 'searchable'), seen int DEFAULT 0);
INSERT INTO users SELECT n, 'u' || n || '@x.org' FROM generate_series(1, 20) AS n;
CREATE UNIQUE INDEX users_email ON users (email encrypted_text_unique_ops);
SET enable_seqscan = off;

-- PL/pgSQL and SQL functions: variables of each type, often enough for a generic plan.
CREATE FUNCTION by_text(wanted text) RETURNS int LANGUAGE plpgsql AS $$ BEGIN RETURN (SELECT id FROM users WHERE email = wanted); END $$;
CREATE FUNCTION by_value(wanted encrypted_text) RETURNS int LANGUAGE plpgsql AS $$ DECLARE found_id int; BEGIN SELECT id INTO found_id FROM users WHERE email = wanted; RETURN found_id; END $$;
CREATE FUNCTION by_list(VARIADIC wanted text[]) RETURNS int[] LANGUAGE plpgsql AS $$ BEGIN RETURN ARRAY(SELECT id FROM users WHERE email = ANY (wanted) ORDER BY id); END $$;
CREATE FUNCTION by_execute(wanted text) RETURNS int LANGUAGE plpgsql AS $$ DECLARE found_id int; BEGIN EXECUTE 'SELECT id FROM users WHERE email = $1' INTO found_id USING wanted; RETURN found_id; END $$;
CREATE FUNCTION by_literal() RETURNS int LANGUAGE plpgsql AS $$ BEGIN RETURN (SELECT id FROM users WHERE email = 'u7@x.org'); END $$;
CREATE FUNCTION by_cursor(wanted varchar) RETURNS int LANGUAGE plpgsql AS $$ DECLARE u record; BEGIN FOR u IN SELECT * FROM users WHERE wanted = email LOOP RETURN u.id; END LOOP; RETURN NULL; END $$;
CREATE FUNCTION by_variable(wanted text) RETURNS int LANGUAGE plpgsql AS $$ DECLARE v encrypted_text := wanted; u users; BEGIN FOR u IN SELECT * FROM users LOOP IF u.email = v AND v = wanted THEN RETURN u.id; END IF; END LOOP; RETURN NULL; END $$;
CREATE FUNCTION by_sql(wanted text) RETURNS int LANGUAGE sql STABLE AS $$ SELECT id FROM users WHERE email = wanted $$;
CREATE FUNCTION by_body(wanted text) RETURNS int LANGUAGE sql STABLE RETURN (SELECT id FROM users WHERE email = wanted OR email = 'nobody');
SELECT n, by_text(m), by_value(m::encrypted_text), by_list(m, 'u20@x.org'), by_execute(m), by_literal(), by_cursor(m), by_variable(m), by_sql(m), by_body(m)
FROM (SELECT n, 'u' || n || '@x.org' FROM generate_series(1, 7) AS n) AS m (n, m);
SELECT by_text('nobody'), by_value('nobody'), by_list('nobody'), by_execute(NULL), by_cursor('nobody'), by_variable('u9@x.org'), by_sql('nobody'), by_body('nobody');
-- A SQL function is inlined, and its argument becomes a constant.
SELECT regress.plan($$SELECT * FROM users WHERE email = lower('U7@X.org')$$);

-- Views, with a barrier and without; WITH CHECK OPTION; materialized; common table expressions; subqueries.
CREATE VIEW open_view AS SELECT id, email, email = 'u7@x.org' AS is_seven FROM users;
CREATE VIEW barrier WITH (security_barrier) AS SELECT id, email FROM users WHERE id < 10;
CREATE VIEW only_seven AS SELECT id, email FROM users WHERE email = 'u7@x.org' WITH CHECK OPTION;
CREATE MATERIALIZED VIEW stored AS SELECT id, email FROM users;
CREATE INDEX ON stored USING hash (email);
SELECT id, is_seven FROM open_view WHERE email = 'u7@x.org'::text;
SELECT regress.plan($$SELECT id FROM open_view WHERE email = 'u7@x.org'::text$$);
SELECT id FROM barrier WHERE email IN ('u7@x.org', 'u11@x.org');
SELECT id FROM only_seven;
UPDATE only_seven SET email = 'u7@x.org';
CALL regress.fails($$UPDATE only_seven SET email = 'v7@x.org'$$);
SELECT id FROM stored WHERE email = 'u7@x.org';
WITH wanted AS MATERIALIZED (SELECT email FROM users WHERE id = 7) SELECT id FROM users JOIN wanted USING (email);
WITH RECURSIVE r (email, n) AS (SELECT email, 7 FROM users WHERE email = 'u7@x.org' UNION SELECT u.email, n + 1 FROM r JOIN users AS u ON u.email = 'u' || n + 1 || '@x.org' WHERE n < 9)
SELECT n, email::text FROM r ORDER BY n;

-- UPDATE, DELETE, and those with FROM and USING.
UPDATE users SET seen = seen + 1 WHERE email = 'u7@x.org' RETURNING id;
UPDATE users AS u SET seen = seen + 1 FROM (VALUES ('u7@x.org'::text), ('u8@x.org'), ('nobody')) AS v (email) WHERE v.email = u.email RETURNING u.id;
UPDATE users SET email = 'new@x.org' WHERE email = 'u9@x.org'::text RETURNING id, email = 'new@x.org' AS found;
DELETE FROM users WHERE email IN ('u19@x.org', 'nobody') RETURNING id;
DELETE FROM users USING (SELECT encrypt_field('u18@x.org')) AS gone (email) WHERE users.email = gone.email RETURNING id;
SELECT id, seen FROM users WHERE seen > 0 ORDER BY id;
CREATE TABLE arrivals (email text);
INSERT INTO arrivals VALUES ('u7@x.org'), ('brand new');
INSERT INTO users SELECT 100, email, 101 FROM arrivals ON CONFLICT (email) DO UPDATE SET seen = 100;
SELECT id, email::text, seen FROM users WHERE seen > 99 ORDER BY id;

-- A foreign key that refers to encrypted values.
CREATE TABLE orders (no int, email encrypted_text('email', 'searchable') REFERENCES users (email) ON UPDATE CASCADE ON DELETE CASCADE);
INSERT INTO orders VALUES (1, 'u1@x.org'), (2, 'u1@x.org'), (3, NULL), (4, 'u2@x.org');
CALL regress.fails($$INSERT INTO orders VALUES (5, 'nobody')$$);
SELECT prism_crypt.rotate_key();
INSERT INTO orders VALUES (6, 'u2@x.org');
UPDATE users SET email = 'u1@y.org' WHERE id = 1;
DELETE FROM users WHERE id = 2;
SELECT no, email::text, key_version(email) FROM orders ORDER BY no;
-- Nothing happens where the plaintext stays.
ALTER TABLE orders DROP CONSTRAINT orders_email_fkey, ADD FOREIGN KEY (email) REFERENCES users (email);
UPDATE users SET email = reencrypt_field(email) WHERE id = 1;
CALL regress.fails($$UPDATE users SET email = 'u1@z.org' WHERE id = 1$$);
SELECT key_version(email) FROM users WHERE id = 1;
CREATE TABLE unsearchable_orders (email encrypted_text REFERENCES users (email));
INSERT INTO unsearchable_orders VALUES ('u3@x.org');
CALL regress.fails($$INSERT INTO unsearchable_orders VALUES ('u2@x.org')$$);
CALL regress.fails($$DELETE FROM users WHERE email = 'u3@x.org'$$);

-- Domains, arrays, composite types.
CREATE DOMAIN mail AS encrypted_text('email', 'searchable');
CREATE DOMAIN note AS encrypted_text;
CREATE TYPE contact AS (mail mail, note note);
CREATE TABLE typed (id int, mail mail, note note, mails mail[], notes encrypted_text[], contact contact);
INSERT INTO typed SELECT n, 'm' || n, 'n' || n, ARRAY['m' || n, 'm0', NULL], ARRAY['n' || n, 'n0'], ROW(('m' || n)::mail, ('n' || n)::note)::contact FROM generate_series(1, 6) AS n;
CREATE INDEX typed_mail ON typed USING hash (mail);
SELECT regress.plan($$SELECT id FROM typed WHERE mail = 'm3'$$);
SELECT id FROM typed WHERE mail = 'm3' AND note = 'n3' AND mail = 'm3'::text AND note = 'n3'::text;
SELECT a.id FROM typed AS a JOIN typed AS b ON a.mail = b.mail JOIN typed AS c ON b.note = c.note ORDER BY 1;
SELECT id FROM typed WHERE mail = ANY (mails) AND note = ANY (notes) AND note <> ALL (notes[2:]) AND id < 4 ORDER BY id;
SELECT id FROM typed WHERE 'm3' = ANY (mails) OR 'n4'::text = ANY (notes) ORDER BY id;
SELECT id FROM typed WHERE notes = ARRAY['n3', 'n0']::encrypted_text[];
SELECT id FROM typed WHERE mails = ARRAY['m3', 'm0', NULL]::mail[];
SELECT count(*) FROM typed AS a JOIN typed AS b ON a.notes = b.notes;
SELECT count(*) FROM typed AS a JOIN typed AS b ON a.notes <> b.notes;
SELECT id FROM typed WHERE array_position(notes, 'n3') = 1 AND array_positions(mails, 'm0') = '{2}' AND array_remove(notes, 'n0') = ARRAY['n3']::encrypted_text[];
SELECT id, array_replace(notes, 'n3', 'x')::text[] AS replaced FROM typed WHERE array_replace(notes, 'n3', 'x') <> notes;
SELECT id FROM typed WHERE notes @> ARRAY['n3']::encrypted_text[] OR mails && ARRAY['m4', 'x']::mail[] ORDER BY id;
SELECT id FROM typed WHERE contact = ROW('m3', 'n3')::contact;
SELECT id FROM typed WHERE (contact).mail = 'm3' AND (contact).note = 'n3'::text;
SELECT count(*) FROM typed AS a JOIN typed AS b ON a.contact = b.contact;
SELECT count(*), count(contact) FROM (SELECT contact FROM typed UNION SELECT contact FROM typed) AS u;
SELECT count(*) FROM (SELECT DISTINCT notes, mails FROM (SELECT * FROM typed UNION ALL SELECT * FROM typed) AS twice) AS d;

-- Plans that were made before: after another key, another keyset, another type of column.
PREPARE literal AS SELECT id FROM typed WHERE note = 'n3'::text AND mail = ANY (ARRAY['m3']) AND 'n3' = note;
PREPARE parameter(text) AS SELECT id FROM typed WHERE mail = $1;
SET plan_cache_mode = force_generic_plan;
EXECUTE literal;
EXECUTE parameter('m3');
SELECT prism_crypt.rotate_key(), prism_crypt.disable_key(1), prism_crypt.enable_key(1);
EXECUTE literal;
EXECUTE parameter('m3');
SELECT prism_crypt.create_keyset('tenant');
SET prism_crypt.keyset = 'tenant';
EXECUTE literal;
EXECUTE parameter('m3');
SELECT by_literal(), by_text('u7@x.org'), by_body('u7@x.org');
INSERT INTO typed VALUES (33, 'm3', 'n3');
EXECUTE literal;
EXECUTE parameter('m3');
RESET prism_crypt.keyset;
EXECUTE literal;
EXECUTE parameter('m3');
SELECT by_literal(), by_text('u7@x.org'), by_body('u7@x.org');
