-- PostgreSQL 17 and later
-- COPY … ON_ERROR ignore skips rows that a column's type refuses. It never hides that a key or a right is missing, and what is said of a
-- skipped row does not quote it.
CALL regress.fresh();
SET client_min_messages = warning;
CREATE ROLE on_error_writer; CREATE ROLE on_error_loader;
SELECT prism_crypt.grant_access('on_error_loader', 'load');
CREATE TABLE people (id int, name encrypted_text, born date, email encrypted_text('email', 'searchable'));
GRANT ALL ON people TO on_error_writer, on_error_loader;
RESET client_min_messages;
-- Rows that other columns refuse.
COPY people FROM STDIN (ON_ERROR ignore);
1	Ada	1815-12-10	ada@x.org
two	Bob	1900-01-01	bob@x.org
3	Carol	soon	carol@x.org
\.
COPY people FROM STDIN (ON_ERROR ignore, LOG_VERBOSITY verbose);
4	Dora	1815-12-10	dora@x.org
eve@x.org	Eve	1900-01-01	eve@x.org
6	Fay	fay@x.org	fay@x.org
\.
SET datestyle = iso;
SELECT id, decrypt_field(name), born, decrypt_field(email) FROM people ORDER BY id;
-- In a table without encrypted values it is quoted as ever.
CREATE TABLE plain (id int, name text);
COPY plain FROM STDIN (ON_ERROR ignore, LOG_VERBOSITY verbose);
one	Ada
\.
TRUNCATE people;
\set VERBOSITY terse
-- A right that is missing.
SET ROLE on_error_writer;
COPY people (id, email) FROM STDIN (ON_ERROR ignore);
1	ada@x.org
\.
COPY people (id, name) FROM STDIN (ON_ERROR ignore);
1	prism:v1:AQAAAAAAAAAAAAAAAAAA
\.
SELECT count(*) FROM people;
RESET ROLE;
-- A ciphertext that is damaged, one whose version is not there.
COPY people (id, name) FROM STDIN (ON_ERROR ignore);
1	prism:v1:AQAAAAAAAAAAAAAAAAAA
\.
COPY people (id, name) FROM STDIN (ON_ERROR ignore);
1	prism:v1:???
2	good
\.
SELECT count(*) FROM people;
-- No key, or another one.
SET prism_crypt.master_key_env = '';
COPY people (id, name) FROM STDIN (ON_ERROR ignore);
1	Ada
\.
SET prism_crypt.master_key_env = 'PRISM_TEST_KEY_OTHER';
COPY people (id, name) FROM STDIN (ON_ERROR ignore);
1	Ada
\.
RESET prism_crypt.master_key_env;
SELECT count(*) FROM people;
-- Domains and arrays: a constraint that fails skips the row.
CREATE DOMAIN short AS encrypted_text CHECK (length(VALUE) < 9);
CREATE TABLE shorts (id int, v short, l encrypted_text[]);
\set VERBOSITY default
COPY shorts FROM STDIN (ON_ERROR ignore, LOG_VERBOSITY verbose);
1	good	{a,b}
2	longer than that	{a,b}
3	good	{a,b
\.
SELECT id, v::encrypted_text::text, l::text[] FROM shorts;
-- What pg_input_is_valid says.
\set VERBOSITY terse
SELECT pg_input_is_valid('anything', 'encrypted_text'), pg_input_is_valid('{a', 'encrypted_text[]'), pg_input_is_valid('longer than that', 'short');
SELECT pg_input_is_valid('prism:v1:???', 'encrypted_text');
SELECT message, detail, sql_error_code FROM pg_input_error_info('longer than that', 'short');
