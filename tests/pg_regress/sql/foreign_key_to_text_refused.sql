-- PostgreSQL 18 and later: both columns of a foreign key have a collation, or none has.
CALL regress.fresh();
CREATE TABLE texts (t text PRIMARY KEY);
CREATE TABLE encrypted (v encrypted_text PRIMARY KEY);
\set VERBOSITY sqlstate
ALTER TABLE encrypted ADD FOREIGN KEY (v) REFERENCES texts;
ALTER TABLE texts ADD FOREIGN KEY (t) REFERENCES encrypted;
\set VERBOSITY default
CREATE TABLE referring (v encrypted_text REFERENCES encrypted);
