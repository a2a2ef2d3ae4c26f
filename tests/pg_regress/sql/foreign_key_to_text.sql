-- PostgreSQL 17 and earlier: a column of values may refer to one of text. A foreign key that writes does so for whoever changed the
-- other table.
CALL regress.fresh();
CREATE TABLE places (t text PRIMARY KEY);
CREATE TABLE stays (v encrypted_text REFERENCES places ON UPDATE CASCADE);
INSERT INTO places VALUES ('a');
INSERT INTO stays VALUES ('a');
CALL regress.fails($$INSERT INTO stays VALUES ('b')$$);
GRANT ALL ON places TO PUBLIC;
SELECT prism_crypt.close_encrypt();
SET ROLE regress_prism_reader;
UPDATE places SET t = 'chosen';
RESET ROLE;
UPDATE places SET t = 'chosen';
SELECT v::text FROM stays;
-- The other way round, PostgreSQL compares collations that there are not: nothing that is referred to can go, and a rotation still works.
CREATE TABLE known (v encrypted_text('searchable') PRIMARY KEY);
CREATE TABLE named (t text REFERENCES known);
INSERT INTO known VALUES ('a'), ('b');
INSERT INTO named VALUES ('a');
\set VERBOSITY sqlstate
INSERT INTO named VALUES ('c');
DELETE FROM known WHERE v = 'a';
\set VERBOSITY default
SELECT prism_crypt.rotate_key() AS active \gset
CALL prism_crypt.rotate_all();
SELECT k.v::text, k.v = n.t AS referred_to, key_version(k.v) = :active AS moved FROM known AS k LEFT JOIN named AS n ON n.t = k.v ORDER BY 1;
