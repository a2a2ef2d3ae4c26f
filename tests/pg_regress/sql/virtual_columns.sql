-- PostgreSQL 18 and later
-- Virtual generated columns are computed when they are read. PostgreSQL allows no user-defined function or type there, so nothing
-- of an encrypted value can be in one: neither its plaintext, nor what is derived of it.
CALL regress.fresh();
\set VERBOSITY terse
CREATE TABLE people (id int, name encrypted_text, email encrypted_text('email', 'searchable'));
ALTER TABLE people ADD name_again text GENERATED ALWAYS AS (decrypt_field(name)) VIRTUAL;
ALTER TABLE people ADD name_again text GENERATED ALWAYS AS (name::text) VIRTUAL;
ALTER TABLE people ADD name_again text GENERATED ALWAYS AS (name || '') VIRTUAL;
ALTER TABLE people ADD name_again text GENERATED ALWAYS AS (mask_field(name)) VIRTUAL;
ALTER TABLE people ADD name_again encrypted_text GENERATED ALWAYS AS (name) VIRTUAL;
ALTER TABLE people ADD name_again encrypted_text GENERATED ALWAYS AS ('constant') VIRTUAL;
ALTER TABLE people ADD name_again encrypted_text[] GENERATED ALWAYS AS (ARRAY[name]) VIRTUAL;
ALTER TABLE people ADD version int GENERATED ALWAYS AS (key_version(name)) VIRTUAL;
ALTER TABLE people ADD same boolean GENERATED ALWAYS AS (name = email) VIRTUAL;
ALTER TABLE people ADD known boolean GENERATED ALWAYS AS (email = 'x') VIRTUAL;
-- Without the word, a generated column is virtual there.
ALTER TABLE people ADD version int GENERATED ALWAYS AS (key_version(name));
CREATE DOMAIN secret AS encrypted_text;
ALTER TABLE people ADD again secret GENERATED ALWAYS AS (NULL) VIRTUAL;
-- Functions of PostgreSQL that show any value go through the output function, which is not immutable.
ALTER TABLE people ADD shown text GENERATED ALWAYS AS (format('%s', name)) VIRTUAL;
ALTER TABLE people ADD shown text GENERATED ALWAYS AS (concat(name)) VIRTUAL;
ALTER TABLE people ADD shown text GENERATED ALWAYS AS (to_jsonb(name)) VIRTUAL;
ALTER TABLE people ADD shown bytea GENERATED ALWAYS AS (name::bytea) VIRTUAL;
-- Not even whether there is a value, or how long it is.
ALTER TABLE people ADD has_name boolean GENERATED ALWAYS AS (name IS NOT NULL) VIRTUAL;
ALTER TABLE people ADD size int GENERATED ALWAYS AS (pg_column_size(name)) VIRTUAL;
-- Stored ones work as ever, for functions that are immutable.
ALTER TABLE people ADD version int GENERATED ALWAYS AS (key_version(name)) STORED;
ALTER TABLE people ADD shown text GENERATED ALWAYS AS (decrypt_field(name)) STORED;
-- Virtual ones of other columns, in a table with encrypted columns: rotation, census, results, conversions.
ALTER TABLE people ADD twice int GENERATED ALWAYS AS (id * 2) VIRTUAL NOT NULL, ADD CHECK (twice < 100), ADD plain text DEFAULT 'p', ADD plain_there boolean GENERATED ALWAYS AS (plain IS NOT NULL) VIRTUAL;
INSERT INTO people (id, name, email) VALUES (1, 'Ada', 'ada@x.org'), (2, NULL, 'bob@x.org');
SELECT prism_crypt.rotate_key();
CALL prism_crypt.rotate_all();
SELECT id, twice, version, key_version(email), plain_there FROM people ORDER BY id;
SELECT location, key_version, ciphertexts FROM prism_crypt.census() WHERE location LIKE '%people%' ORDER BY 1, 2;
CALL prism_crypt.rotate_index_key();
SELECT id, twice FROM people WHERE email = 'bob@x.org' AND twice = 4;
SET prism_crypt.output = 'plaintext';
SELECT name, twice FROM people WHERE id = 1 \gdesc
SELECT * FROM people ORDER BY id;
UPDATE people SET name = 'Ada Lovelace' WHERE id = 1 RETURNING OLD.name, NEW.name, OLD.twice, NEW.twice;
\set VERBOSITY default
INSERT INTO people (id, name) VALUES (50, 'secret');
\set VERBOSITY terse
COPY (SELECT id, name, twice FROM people ORDER BY id) TO STDOUT;
RESET prism_crypt.output;
-- A column that one is computed of can't become encrypted.
ALTER TABLE people ALTER plain TYPE encrypted_text;
ALTER TABLE people DROP plain_there, ALTER plain DROP DEFAULT, ALTER plain TYPE encrypted_text;
SELECT id, twice, decrypt_field(plain) FROM people ORDER BY id;
-- There is nothing of them to look at.
CREATE TABLE plain (mail text, also_mail text GENERATED ALWAYS AS (lower(mail)) VIRTUAL, telefono text);
INSERT INTO plain (mail, telefono) VALUES ('A@example.org', '06 1234567');
SELECT column_name, class, matches, sampled FROM prism_crypt.find_plaintext() WHERE relation = 'plain'::regclass;
