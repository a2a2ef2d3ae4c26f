-- PostgreSQL 18 and later
-- Keys WITHOUT OVERLAPS are GiST indexes. There is no operator class of encrypted values for them: their other columns stay plain.
CALL regress.fresh();
SET client_min_messages = warning;
CREATE EXTENSION IF NOT EXISTS btree_gist;
CALL regress.fails($$CREATE TABLE bookings (room encrypted_text('searchable'), during tstzrange, PRIMARY KEY (room, during WITHOUT OVERLAPS))$$);
CALL regress.fails($$CREATE TABLE bookings (room encrypted_text('searchable'), during tstzrange, UNIQUE (room, during WITHOUT OVERLAPS))$$);
CALL regress.fails($$CREATE TABLE bookings (room encrypted_text('searchable'), during tstzrange, EXCLUDE USING gist (room WITH =, during WITH &&))$$);
CALL regress.fails($$CREATE TABLE bookings (room encrypted_text('searchable'), during encrypted_text, UNIQUE (room, during WITHOUT OVERLAPS))$$);
-- Encrypted columns beside such a key, and a keyed hash inside it.
CREATE TABLE stays (patient int, ward bytea, during daterange, diagnosis encrypted_text, name encrypted_text('personal', 'searchable'),
  PRIMARY KEY (patient, during WITHOUT OVERLAPS), UNIQUE (ward, during WITHOUT OVERLAPS));
INSERT INTO stays VALUES (1, blind_index('ward 1', 'stays.ward'), '[2026-01-01,2026-02-01)', 'measles', 'Ada'), (1, blind_index('ward 1', 'stays.ward'), '[2026-02-01,2026-03-01)', 'mumps', 'Ada'),
  (2, blind_index('ward 2', 'stays.ward'), '[2026-01-01,2026-03-01)', 'rubella', 'Bob');
SET prism_crypt.output = 'plaintext';
INSERT INTO stays VALUES (1, blind_index('ward 3', 'stays.ward'), '[2026-01-15,2026-01-20)', 'secret diagnosis', 'Ada');
INSERT INTO stays VALUES (1, NULL, NULL, 'secret diagnosis', 'Ada');
UPDATE stays SET during = '[2026-02-01,2026-03-01)' WHERE patient = 1 AND diagnosis::text = 'measles';
RESET prism_crypt.output;
\set VERBOSITY terse
INSERT INTO stays VALUES (3, blind_index('ward 1', 'stays.ward'), '[2026-01-15,2026-01-20)', 'secret diagnosis', 'Eve');
\set VERBOSITY default
-- A foreign key by PERIOD.
CREATE TABLE bills (no int PRIMARY KEY, patient int, period daterange, note encrypted_text, FOREIGN KEY (patient, PERIOD period) REFERENCES stays (patient, PERIOD during));
INSERT INTO bills VALUES (1, 1, '[2026-01-10,2026-02-10)', 'paid');
CALL regress.fails($$INSERT INTO bills VALUES (2, 1, '[2026-02-10,2026-04-10)', 'not covered')$$);
CALL regress.fails($$DELETE FROM stays WHERE diagnosis::text = 'measles'$$);
-- A rotation, and the census, of tables with such keys.
SELECT prism_crypt.rotate_key();
CALL prism_crypt.rotate_batch('stays');
CALL prism_crypt.rotate_batch('bills');
SELECT patient, during, diagnosis::text, key_version(diagnosis), key_version(name) FROM stays ORDER BY patient, during;
SELECT no, note::text, key_version(note) FROM bills;
CALL prism_crypt.rotate_index_key();
SELECT patient, during FROM stays WHERE name = 'Ada' ORDER BY during;
ALTER TABLE stays REPLICA IDENTITY USING INDEX stays_pkey;
-- Equal encrypted values and no overlap, without GiST: an exclusion constraint of a hash index for what has no period.
CREATE TABLE rooms (room encrypted_text('searchable'), EXCLUDE USING hash (room WITH =));
INSERT INTO rooms VALUES ('blue');
CALL regress.fails($$INSERT INTO rooms VALUES ('blue')$$);
-- Not null constraints that are not validated yet, and those that are not enforced.
CREATE TABLE loose (id int, email encrypted_text('searchable'));
INSERT INTO loose VALUES (1, NULL), (2, 'b@x.org');
ALTER TABLE loose ADD CONSTRAINT email_there NOT NULL email NOT VALID;
CALL regress.fails('INSERT INTO loose VALUES (3, NULL)');
CALL regress.fails('ALTER TABLE loose VALIDATE CONSTRAINT email_there');
CALL prism_crypt.rotate_batch('loose');
UPDATE loose SET email = 'a@x.org' WHERE id = 1;
ALTER TABLE loose VALIDATE CONSTRAINT email_there;
ALTER TABLE loose ADD CONSTRAINT never CHECK (email <> 'b@x.org') NOT ENFORCED, ADD UNIQUE (email);
CREATE TABLE referring (email encrypted_text('searchable') REFERENCES loose (email) NOT ENFORCED);
INSERT INTO referring VALUES ('nobody');
CALL regress.fails('ALTER TABLE referring ALTER CONSTRAINT referring_email_fkey ENFORCED');
DELETE FROM referring;
ALTER TABLE referring ALTER CONSTRAINT referring_email_fkey ENFORCED;
CALL regress.fails($$INSERT INTO referring VALUES ('nobody')$$);
SELECT prism_crypt.rotate_key();
CALL prism_crypt.rotate_batch('loose');
SELECT id, decrypt_field(email), key_version(email) FROM loose ORDER BY id;
