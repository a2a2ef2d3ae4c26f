-- PostgreSQL 18 and later
-- COPY … REJECT_LIMIT and its quiet and chatty forms, into encrypted columns: no word of the rows that are skipped.
CALL regress.fresh();
CREATE TABLE people (id int, name encrypted_text);
COPY people FROM STDIN (ON_ERROR ignore, REJECT_LIMIT 1);
1	Ada
two	Bob
\.
COPY people FROM STDIN (ON_ERROR ignore, REJECT_LIMIT 1);
1	Ada
two	Bob
eve@x.org	Eve
\.
COPY people FROM STDIN (ON_ERROR ignore, REJECT_LIMIT 2, LOG_VERBOSITY verbose);
2	Ada
two	Bob
eve@x.org	Eve
\.
COPY people FROM STDIN (ON_ERROR ignore, LOG_VERBOSITY silent);
3	Ada
two	Bob
\.
SELECT id, decrypt_field(name) FROM people ORDER BY id;
-- A materialized view can be copied, too: as of a table, that is ciphertext for everybody.
CREATE MATERIALIZED VIEW stored AS SELECT 1 AS id, prism_crypt.load_envelope('prism:v1:AQAAAAAAAZEP3rLI2SpINoJBXzPuJ9dhcMYveTOvSPmeHW4PHGs=') AS name;
SET prism_crypt.output = 'plaintext';
COPY stored TO STDOUT;
