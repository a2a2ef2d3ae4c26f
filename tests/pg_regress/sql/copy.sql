-- COPY both ways in every format, and what its errors show.
CALL regress.fresh();
SELECT prism_crypt.grant_access('regress_prism_loader', 'load');
CREATE TABLE patient (id int, name encrypted_text, email encrypted_text('email'), tags encrypted_text[]);
GRANT ALL ON patient TO PUBLIC;

-- Plaintext in: whoever may insert may do it.
SET ROLE regress_prism_app;
COPY patient FROM STDIN;
1	Anna Ζωή	anna@example.org	{a,"b, c",NULL}
2	\N	\N	\N
3			{}
4	tab\tand\\backslash\nline	d@example.org	{"\\\\"}
\.
COPY patient FROM STDIN (FORMAT csv, HEADER);
id,name,email,tags
5,"Björk, ""B""",b@example.org,"{x,""y, z""}"
6,,,
7,"",e@example.org,
\.
COPY patient (id, name) FROM STDIN (DELIMITER '|', NULL 'none');
8|pipe
9|none
\.
RESET ROLE;
SELECT id, decrypt_field(name), decrypt_field(email), tags::text[], (envelope_info(email)).class FROM patient WHERE email IS NOT NULL ORDER BY id;
SELECT id, decrypt_field(name), name IS NULL AS is_null FROM patient WHERE email IS NULL ORDER BY id;

-- Ciphertext out, by everybody who may select, and in again, by those who may load.
CREATE TABLE again (LIKE patient);
GRANT ALL ON again TO PUBLIC;
SET ROLE regress_prism_app;
\copy patient TO 'results/copy.txt'
\copy patient TO 'results/copy.csv' (FORMAT csv, HEADER)
\copy patient TO 'results/copy.bin' (FORMAT binary)
\copy again FROM 'results/copy.txt'
\copy again FROM 'results/copy.csv' (FORMAT csv, HEADER)
\copy again FROM 'results/copy.bin' (FORMAT binary)
SELECT count(*) FROM again;
SET ROLE regress_prism_loader;
\copy again FROM 'results/copy.txt'
\copy again FROM 'results/copy.csv' (FORMAT csv, HEADER)
\copy again FROM 'results/copy.bin' (FORMAT binary)
RESET ROLE;
-- Every row came in three times, byte for byte.
SELECT count(*), count(DISTINCT (id, encrypted_text_out(name)::text, encrypted_text_out(email)::text, tags::text)) AS distinct_rows FROM again;
SELECT count(*) FROM again AS a JOIN patient AS p USING (id)
WHERE encrypted_text_out(a.name)::text IS DISTINCT FROM encrypted_text_out(p.name)::text OR encrypted_text_send(a.email) IS DISTINCT FROM encrypted_text_send(p.email)
   OR a.tags::text IS DISTINCT FROM p.tags::text;
SELECT id, decrypt_field(name), decrypt_field(email), tags::text[] FROM again WHERE id IN (1, 4) ORDER BY id;

-- Nothing of a plaintext is in the files.
\set text `grep -c -a -e Anna -e example -e pipe results/copy.txt results/copy.csv results/copy.bin | tr '\n' ' '`
\echo :text

-- Plain text in the binary format encrypts too; it is validated as text is.
CREATE TABLE source (id int, name text, email text);
INSERT INTO source SELECT id, name, email FROM patient;
\copy source TO 'results/source.bin' (FORMAT binary)
TRUNCATE again;
SET ROLE regress_prism_app;
\copy again (id, name, email) FROM 'results/source.bin' (FORMAT binary)
RESET ROLE;
SELECT count(*) AS same FROM again AS a JOIN source AS s USING (id)
WHERE decrypt_field(a.name) IS NOT DISTINCT FROM s.name AND decrypt_field(a.email) IS NOT DISTINCT FROM s.email;
CREATE TABLE bytes (b bytea);
INSERT INTO bytes VALUES ('\xff');
\copy bytes TO 'results/bytes.bin' (FORMAT binary)
\copy again (name) FROM 'results/bytes.bin' (FORMAT binary)
-- What begins like an envelope is one, or an error.
UPDATE bytes SET b = '\x01';
\copy bytes TO 'results/bytes.bin' (FORMAT binary)
\copy again (name) FROM 'results/bytes.bin' (FORMAT binary)
SET ROLE regress_prism_app;
\copy again (name) FROM 'results/bytes.bin' (FORMAT binary)
RESET ROLE;

-- A value of another class, and one without a class, which only the holder of a key can give one.
CREATE TEMP TABLE loose (v encrypted_text);
INSERT INTO loose VALUES (encrypt_field('x', class => 'phone'));
\copy loose TO 'results/loose.txt'
\copy again (email) FROM 'results/loose.txt'
UPDATE loose SET v = encrypt_field('x');
\copy loose TO 'results/loose.txt'
\copy again (email) FROM 'results/loose.txt'

-- By SQLSTATE.
\set VERBOSITY sqlstate
\copy again (email) FROM 'results/loose.txt'
\copy again (name) FROM 'results/bytes.bin' (FORMAT binary)
UPDATE bytes SET b = '\xff';
\copy bytes TO 'results/bytes.bin' (FORMAT binary)
\copy again (name) FROM 'results/bytes.bin' (FORMAT binary)
SET ROLE regress_prism_app;
\copy again (name) FROM 'results/copy.txt'
\copy again FROM 'results/copy.txt'
RESET ROLE;
\set VERBOSITY default

-- Errors name the place, never the input.
CREATE TABLE strict (id int, name encrypted_text NOT NULL, note text, CHECK (note <> 'refused'));
COPY strict FROM STDIN;
1	Secret Name	fine
x	Secret Name	fine
\.
COPY strict FROM STDIN;
1	Secret Name	fine
2	prism:v1:AQ==	fine
\.
COPY strict FROM STDIN;
1	Secret Name	fine	too many
\.
\set VERBOSITY terse
COPY strict FROM STDIN;
1	Secret Name	refused
\.
\set VERBOSITY default
COPY strict FROM STDIN (FORMAT csv);
1,"Secret Name
\.
-- The other tables' errors stay as they are.
CREATE TABLE other (id int);
COPY other FROM STDIN;
x
\.
SELECT count(*) FROM strict;

-- Output modes apply to COPY, for roles that may.
SELECT prism_crypt.grant_access('regress_prism_reader', 'decrypt');
SELECT prism_crypt.grant_access('regress_prism_masker', 'mask');
SET ROLE regress_prism_reader;
SET prism_crypt.output = 'plaintext';
COPY (SELECT id, name, email FROM patient ORDER BY id LIMIT 2) TO STDOUT;
COPY (SELECT id, tags FROM patient WHERE id IN (1, 5) ORDER BY id) TO STDOUT (FORMAT csv);
\copy (SELECT email FROM patient WHERE id = 1) TO 'results/plain.bin' (FORMAT binary)
SET ROLE regress_prism_masker;
SET prism_crypt.output = 'masked';
COPY (SELECT id, name, email FROM patient ORDER BY id LIMIT 2) TO STDOUT;
SET prism_crypt.output = 'plaintext';
\copy (SELECT name, email FROM patient WHERE id = 1) TO 'results/denied.txt'
RESET ROLE;
RESET prism_crypt.output;
\set bin `grep -c -a 'anna@example.org' results/plain.bin`
\set denied `grep -c '^prism:v1:[^	]*	prism:v1:[^	]*$' results/denied.txt`
\echo :bin :denied

-- Without a key: ciphertext goes out and comes in, plaintext doesn't.
RESET ROLE;
TRUNCATE again;
SET prism_crypt.master_key_env = '';
\copy again FROM 'results/copy.txt'
\copy again TO 'results/again.txt'
\set differs `cmp results/copy.txt results/again.txt && echo same`
\echo :differs
COPY again (name) FROM STDIN;
Secret Name
\.
