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
