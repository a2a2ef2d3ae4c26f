-- PostgreSQL 18 and later
-- RETURNING OLD and NEW: as what results are announced, who reads them, and what is compared between them.
CALL regress.fresh();
SET client_min_messages = warning;
CREATE ROLE old_new_reader; CREATE ROLE old_new_writer;
SELECT prism_crypt.grant_access('old_new_reader', 'decrypt'), prism_crypt.grant_access('old_new_reader', 'search'), prism_crypt.grant_access('old_new_writer', 'search');
CREATE TABLE users (id int PRIMARY KEY, email encrypted_text('email', 'searchable') UNIQUE, name encrypted_text, tags encrypted_text[]);
INSERT INTO users SELECT n, 'u' || n || '@x.org', 'name ' || n, ARRAY['a' || n]::encrypted_text[] FROM generate_series(1, 9) AS n;
GRANT ALL ON users TO old_new_reader, old_new_writer;

-- Ciphertext where output is that: the old one and the new one, each under its key.
SELECT prism_crypt.rotate_key();
UPDATE users SET email = reencrypt_field(email), name = 'renamed' WHERE id = 1
  RETURNING OLD.email \gdesc
UPDATE users SET email = reencrypt_field(email), name = 'renamed' WHERE id = 1
  RETURNING key_version(OLD.email) AS old, key_version(NEW.email) AS new, OLD.email = NEW.email AS same, OLD.name = NEW.name AS same_name, decrypt_field(OLD.name) AS was, decrypt_field(name) AS is;
UPDATE users SET name = name WHERE id = 2 RETURNING OLD.name::bytea = NEW.name::bytea AS same_bytes, OLD IS DISTINCT FROM NEW AS changed;
INSERT INTO users VALUES (1, 'other@x.org') ON CONFLICT (id) DO UPDATE SET email = excluded.email RETURNING decrypt_field(OLD.email), decrypt_field(NEW.email);
INSERT INTO users VALUES (10, 'u10@x.org') RETURNING OLD.email IS NULL AS none, OLD.email = NEW.email AS same, decrypt_field(NEW.email);
DELETE FROM users WHERE id = 10 RETURNING decrypt_field(OLD.email), NEW.email IS NULL AS none;

-- Announced as text to whoever reads plaintext.
SET prism_crypt.output = 'plaintext';
SET ROLE old_new_reader;
UPDATE users SET email = 'new@x.org', tags = NULL WHERE id = 3 RETURNING OLD.email, NEW.email, email, OLD.tags, NEW.tags \gdesc
UPDATE users SET email = 'new@x.org', tags = NULL WHERE id = 3 RETURNING OLD.email, NEW.email, email, OLD.tags, NEW.tags;
UPDATE users SET name = 'x' WHERE id = 4 RETURNING WITH (OLD AS before, NEW AS after) before.name AS was, after.name AS is, before.*, after.id;
UPDATE users SET email = 'u4@y.org' WHERE id = 4 RETURNING coalesce(OLD.email, NEW.email) AS first, OLD.email || ' to ' || NEW.email AS both, OLD.email = 'u4@x.org' AS was_so;
UPDATE users SET email = 'u4@z.org' WHERE id = 4 RETURNING OLD, NEW;
INSERT INTO users VALUES (4, 'more@x.org') ON CONFLICT (id) DO UPDATE SET email = excluded.email RETURNING OLD.email, NEW.email;
INSERT INTO users VALUES (11, 'u11@x.org') RETURNING OLD.email, NEW.email;
DELETE FROM users WHERE id = 11 RETURNING OLD.email, NEW.email;
WITH changed AS (UPDATE users SET email = 'with@x.org' WHERE id = 5 RETURNING OLD.email AS was, NEW.email AS is) SELECT * FROM changed;
PREPARE p (text) AS UPDATE users SET email = $1 WHERE id = 6 RETURNING OLD.email AS was, NEW.email AS is;
EXECUTE p ('first') \gdesc
EXECUTE p ('first');
SET plan_cache_mode = force_generic_plan;
EXECUTE p ('second');
RESET plan_cache_mode;
EXPLAIN (COSTS OFF, VERBOSE) UPDATE users SET name = NULL WHERE id = 6 RETURNING OLD.name, NEW.name;

-- No plaintext for a role that may not decrypt, whatever it asks for; and no other way to it.
SET ROLE old_new_writer;
UPDATE users SET email = 'new4@x.org' WHERE id = 4 RETURNING OLD.email, NEW.email \gdesc
UPDATE users SET email = 'new4@x.org' WHERE id = 4 RETURNING left(OLD.email::bytea::text, 2) AS old, left(NEW.email::bytea::text, 2) AS new;
CALL regress.fails($$UPDATE users SET email = 'x' WHERE id = 4 RETURNING decrypt_field(OLD.email)$$);
CALL regress.fails($$UPDATE users SET email = 'x' WHERE id = 4 RETURNING OLD.email::text$$);
CALL regress.fails($$UPDATE users SET email = 'x' WHERE id = 4 RETURNING OLD.email || NEW.email$$);
CALL regress.fails($$UPDATE users SET email = 'x' WHERE id = 4 RETURNING mask_field(OLD.email)$$);
-- Without the right to read the column there is no old value, nor a new one.
RESET ROLE;
CREATE ROLE old_new_blind;
SELECT prism_crypt.grant_access('old_new_blind', 'decrypt'), prism_crypt.grant_access('old_new_blind', 'search');
GRANT UPDATE (email), SELECT (id) ON users TO old_new_blind;
SET ROLE old_new_blind;
CALL regress.fails($$UPDATE users SET email = 'blind' WHERE id = 4 RETURNING OLD.email$$);
CALL regress.fails($$UPDATE users SET email = 'blind' WHERE id = 4 RETURNING NEW.email$$);
UPDATE users SET email = 'blind' WHERE id = 4 RETURNING OLD.id;

-- Errors of such statements show no row.
SET ROLE old_new_reader;
UPDATE users SET email = 'u7@x.org' WHERE id = 8 RETURNING OLD.email, NEW.email;
RESET ROLE;
ALTER TABLE users ADD CHECK (id < 100) NOT VALID;
SET ROLE old_new_reader;
UPDATE users SET id = 100 WHERE id = 8 RETURNING OLD.email, NEW.email;
-- Ordering by either is refused, as by any value.
CALL regress.fails($$WITH c AS (UPDATE users SET name = 'y' RETURNING OLD.name AS was) SELECT was FROM c ORDER BY was$$);
CALL regress.fails($$UPDATE users SET name = 'y' WHERE id = 8 RETURNING greatest(OLD.name, NEW.name)$$);
CALL regress.fails($$UPDATE users SET name = 'y' WHERE id = 8 RETURNING OLD.name < NEW.name$$);

-- Partitions, inheritance and views, where rows have other shapes.
RESET ROLE;
CREATE TABLE parts (id int, email encrypted_text('email', 'searchable')) PARTITION BY LIST (id);
CREATE TABLE part_1 PARTITION OF parts FOR VALUES IN (1);
CREATE TABLE part_2 (email encrypted_text('email', 'searchable'), gone int, id int);
ALTER TABLE part_2 DROP gone;
ALTER TABLE parts ATTACH PARTITION part_2 FOR VALUES IN (2);
CREATE VIEW view_of_parts AS SELECT id, email FROM parts;
GRANT ALL ON parts, view_of_parts TO old_new_reader;
SET ROLE old_new_reader;
INSERT INTO parts VALUES (1, 'one'), (2, 'two') RETURNING OLD.email, NEW.email, NEW.id;
UPDATE parts SET id = 3 - id, email = email::text || ' moved' RETURNING OLD.id, OLD.email, NEW.id, NEW.email;
UPDATE view_of_parts SET email = 'by view' WHERE id = 1 RETURNING OLD.email, NEW.email;
DELETE FROM view_of_parts RETURNING OLD.id, OLD.email, NEW.email;

-- Masked, and withheld where the value needs its context.
RESET ROLE;
SET prism_crypt.output = 'masked';
UPDATE users SET name = 'Ada Lovelace' WHERE id = 7 RETURNING OLD.name, NEW.name;
SET prism_crypt.output = 'plaintext';
UPDATE users SET name = encrypt_field('bound', 'row 7') WHERE id = 7 RETURNING OLD.name, NEW.name \gset
SELECT :'name' LIKE 'prism:v2:%' AS is_ciphertext;

-- A rule's and a trigger's part in it.
CREATE TABLE log (was encrypted_text, is_now encrypted_text);
CREATE FUNCTION logs() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN INSERT INTO log VALUES (OLD.email, NEW.email); NEW.email := 'by trigger'; RETURN NEW; END $$;
CREATE TRIGGER logs BEFORE UPDATE ON users FOR EACH ROW EXECUTE FUNCTION logs();
UPDATE users SET email = 'asked for' WHERE id = 9 RETURNING OLD.email, NEW.email;
SELECT * FROM log;
DROP TRIGGER logs ON users;
-- In functions, what OLD and NEW are is decided by the function, and results are announced by the statement around.
CREATE FUNCTION changed() RETURNS TABLE (was encrypted_text, is_now encrypted_text) LANGUAGE sql AS $$ UPDATE users SET name = 'fn' WHERE id = 2 RETURNING OLD.name, NEW.name $$;
SELECT * FROM changed() \gdesc
SELECT * FROM changed();
DO $$ DECLARE w encrypted_text; n text; BEGIN
  UPDATE users SET name = 'again' WHERE id = 2 RETURNING OLD.name, NEW.name INTO w, n; RAISE NOTICE '% %', decrypt_field(w), n; END $$;
