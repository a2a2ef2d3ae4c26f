-- The settings: who may set what, and that a key shows nowhere.
LOAD 'prism_crypt';
SELECT name, setting, context, vartype, enumvals, boot_val, reset_val, source FROM pg_settings WHERE name LIKE 'prism%' ORDER BY name \g (format=unaligned)
CALL regress.fresh();
\set key_file `echo "$PRISM_TEST_KEY_FILE"`
\set key `cat $PRISM_TEST_KEY_FILE`

-- The inline key: masked wherever it could be asked for.
SHOW prism_crypt.master_key;
SET prism_crypt.master_key = :'key';
SHOW prism_crypt.master_key;
SELECT current_setting('prism_crypt.master_key'), current_setting('prism_crypt.master_key', true);
SELECT set_config('prism_crypt.master_key', :'key', false), set_config('prism_crypt.master_key', regress.master_key('a'), false);
SELECT count(*) FROM pg_settings WHERE name = 'prism_crypt.master_key';
SELECT count(*) FROM pg_show_all_settings() WHERE name LIKE 'prism_crypt.%key' OR setting ~ '[0-9a-f]{64}';
SELECT query ~ '\*{64}' AS blanked, query ~ '[0-9a-f]{64}' AS shown FROM pg_stat_activity WHERE pid = pg_backend_pid();
SET prism_crypt.master_key = :'key' \; SELECT query ~ '\*{64}' AS blanked, query ~ '[0-9a-f]{64}' AS shown FROM pg_stat_activity WHERE pid = pg_backend_pid();
-- psql before 15 shows the last result only.
\set SHOW_ALL_RESULTS off
SELECT set_config('prism_crypt.master_key', :'key', false) \; SELECT query ~ '\*{64}' AS blanked, query ~ '[0-9a-f]{64}' AS shown FROM pg_stat_activity WHERE pid = pg_backend_pid();
\set SHOW_ALL_RESULTS on
SET "prism_crypt"."master_key" TO :'key';
SET PRISM_CRYPT.MASTER_KEY = :'key';
SHOW "PRISM_CRYPT.MASTER_KEY";

-- Every way to unset it.
SELECT setting FROM prism_crypt.status() WHERE name = 'key_source';
RESET prism_crypt.master_key;
SHOW prism_crypt.master_key;
SELECT setting FROM prism_crypt.status() WHERE name = 'key_source';
SET prism_crypt.master_key = :'key';
SET prism_crypt.master_key = DEFAULT;
SELECT setting FROM prism_crypt.status() WHERE name = 'key_source';
SET prism_crypt.master_key = :'key';
SET prism_crypt.master_key = '';
SELECT setting FROM prism_crypt.status() WHERE name = 'key_source';
SET prism_crypt.master_key = :'key';
RESET ALL;
SELECT setting FROM prism_crypt.status() WHERE name = 'key_source';
SET prism_crypt.master_key = :'key';
DISCARD ALL;
SELECT setting FROM prism_crypt.status() WHERE name = 'key_source';
BEGIN;
SET LOCAL prism_crypt.master_key = :'key';
SELECT setting FROM prism_crypt.status() WHERE name = 'key_source';
COMMIT;
SELECT setting FROM prism_crypt.status() WHERE name = 'key_source';
BEGIN;
SET prism_crypt.master_key = :'key';
ROLLBACK;
SELECT setting FROM prism_crypt.status() WHERE name = 'key_source';

-- What was unlocked goes with the key.
CREATE TABLE t (v encrypted_text);
INSERT INTO t VALUES ('readable');
SET prism_crypt.master_key_env = '';
SET prism_crypt.master_key = :'key';
SELECT decrypt_field(v) FROM t;
RESET prism_crypt.master_key;
CALL regress.fails('SELECT decrypt_field(v) FROM t');
BEGIN;
SET LOCAL prism_crypt.master_key = :'key';
SELECT decrypt_field(v) FROM t;
COMMIT;
CALL regress.fails('SELECT decrypt_field(v) FROM t');
BEGIN;
SAVEPOINT s;
SET prism_crypt.master_key = :'key';
SELECT decrypt_field(v) FROM t;
ROLLBACK TO s;
CALL regress.fails('SELECT decrypt_field(v) FROM t');
COMMIT;

-- What is no key is refused when it is set; nothing of it is repeated. The old value stays.
SET prism_crypt.master_key = :'key';
SET prism_crypt.master_key = '00112233445566778899aabbccddeeff';
SET prism_crypt.master_key = 'a passphrase nobody should see';
SET prism_crypt.master_key = 'ä';
SET prism_crypt.master_key = ' ';
SET prism_crypt.master_key = 42;
CALL regress.fails($$SET prism_crypt.master_key = '00112233445566778899aabbccddeeff'$$);
CALL regress.fails($$SET prism_crypt.master_key = 'a passphrase nobody should see'$$);
CALL regress.fails($$SELECT set_config('prism_crypt.master_key', 'a passphrase nobody should see', false)$$);
CALL regress.fails(format('SET prism_crypt.master_key = ''%s,00112233''', regress.master_key('a')));
CALL regress.fails($$SET prism_crypt.master_key = 'one', 'two'$$);
SHOW prism_crypt.master_key;
SELECT decrypt_field(v) FROM t;
-- White space, capitals, base64, several keys.
SELECT set_config('prism_crypt.master_key', E' \n' || upper(:'key') || E'\r\n', false);
SELECT decrypt_field(v) FROM t;
SELECT set_config('prism_crypt.master_key', encode(decode(:'key', 'hex'), 'base64'), false);
SELECT decrypt_field(v) FROM t;
SELECT set_config('prism_crypt.master_key', regress.master_key('a') || ', ' || :'key', false);
SELECT decrypt_field(v) FROM t;
SELECT set_config('prism_crypt.master_key', regress.master_key('a'), false);
CALL regress.fails('SELECT decrypt_field(v) FROM t');
RESET prism_crypt.master_key;

-- Nowhere to be stored.
ALTER SYSTEM SET prism_crypt.master_key = :'key';
ALTER SYSTEM SET prism_crypt.master_key = '';
SELECT count(*) FROM pg_file_settings WHERE name LIKE 'prism_crypt.master_key';
CALL regress.fails(format('ALTER ROLE regress_prism_app SET prism_crypt.master_key = %L', regress.master_key('a')));
CALL regress.fails(format('ALTER ROLE ALL SET prism_crypt.master_key = %L', regress.master_key('a')));
CALL regress.fails(format('ALTER DATABASE %I SET prism_crypt.master_key = %L', current_database(), regress.master_key('a')));
CALL regress.fails(format('ALTER ROLE regress_prism_app IN DATABASE %I SET prism_crypt.master_key = %L', current_database(), regress.master_key('a')));
CALL regress.fails(format('CREATE FUNCTION f() RETURNS int LANGUAGE sql SET prism_crypt.master_key = %L AS $f$ SELECT 1 $f$', regress.master_key('a')));
CREATE FUNCTION f() RETURNS int LANGUAGE sql AS $$ SELECT 1 $$;
CALL regress.fails(format('ALTER FUNCTION f() SET prism_crypt.master_key = %L', regress.master_key('a')));
SET prism_crypt.master_key = :'key';
CALL regress.fails('ALTER FUNCTION f() SET prism_crypt.master_key FROM CURRENT');
CALL regress.fails('ALTER ROLE regress_prism_app SET prism_crypt.master_key FROM CURRENT');
RESET prism_crypt.master_key;
SELECT count(*) FROM pg_db_role_setting, unnest(setconfig) AS s WHERE s ~ 'master_key=';
SELECT count(*) FROM pg_proc, unnest(proconfig) AS s WHERE s ~ 'master_key=';
-- Where the key is may be stored.
CREATE FUNCTION by_env() RETURNS text LANGUAGE sql SET prism_crypt.master_key_env = 'PRISM_TEST_KEY_MAIN' AS $$ SELECT decrypt_field(v) FROM t $$;
SELECT by_env();
ALTER ROLE regress_prism_app SET prism_crypt.output = 'masked';
ALTER ROLE regress_prism_app SET prism_crypt.keyset = 'tenant';
CALL regress.fails($$ALTER ROLE regress_prism_app SET prism_crypt.output = 'everything'$$);
ALTER ROLE regress_prism_app RESET ALL;

-- Values of the others.
CALL regress.fails($$SET prism_crypt.output = 'everything'$$);
CALL regress.fails($$SET prism_crypt.output = ''$$);
SET prism_crypt.output = PLAINTEXT;
SHOW prism_crypt.output;
RESET prism_crypt.output;

-- An ordinary role: its own key and keyset, not where the server finds one.
SELECT prism_crypt.grant_access('regress_prism_reader', 'decrypt');
GRANT SELECT ON t TO regress_prism_reader;
SET ROLE regress_prism_reader;
CALL regress.fails('SELECT decrypt_field(v) FROM t');
SET prism_crypt.master_key = :'key';
SHOW prism_crypt.master_key;
SELECT decrypt_field(v) FROM t;
RESET prism_crypt.master_key;
CALL regress.fails($$SET prism_crypt.master_key_command = 'true'$$);
CALL regress.fails($$SET prism_crypt.master_key_file = '/etc/passwd'$$);
CALL regress.fails($$SET prism_crypt.master_key_env = 'PATH'$$);
CALL regress.fails($$SELECT set_config('prism_crypt.master_key_env', 'PATH', true)$$);
\set VERBOSITY sqlstate
SHOW prism_crypt.master_key_command;
SHOW prism_crypt.master_key_file;
SHOW prism_crypt.master_key_env;
\set VERBOSITY default
SELECT name FROM pg_settings WHERE name LIKE 'prism%' ORDER BY name;
RESET ROLE;
-- Also where it comes in as that role and loads the library itself.
\c - regress_prism_reader
SET client_min_messages = error;
DO $$ BEGIN SET prism_crypt.master_key_env = 'PATH'; EXCEPTION WHEN insufficient_privilege THEN NULL; END $$;
SELECT decrypt_field(v) FROM t;
RESET client_min_messages;
CALL regress.fails($$SET prism_crypt.master_key_command = 'true'$$);
SELECT encrypted_text_out(encrypt_field('x'))::text ~ '^prism' AS sealed;
\c - postgres

-- Output modes by role. Without the right it is ciphertext, quietly.
SELECT prism_crypt.grant_access('regress_prism_masker', 'mask');
GRANT SELECT ON t TO PUBLIC;
CREATE TABLE many (v encrypted_text('email'), c encrypted_text, a encrypted_text[]);
INSERT INTO many VALUES ('anna@example.org', encrypt_field('bound', 'row 1'), '{one,two}');
GRANT SELECT ON many TO PUBLIC;
CREATE FUNCTION kind(t text) RETURNS text LANGUAGE sql IMMUTABLE AS $$ SELECT regexp_replace(t, 'prism:v1:[A-Za-z0-9+/=]+', 'CIPHERTEXT', 'g') $$;
DO $$
DECLARE
  role_ text; mode_ text;
BEGIN
  FOREACH role_ IN ARRAY ARRAY['regress_prism_app', 'regress_prism_reader', 'regress_prism_masker', 'postgres'] LOOP
    EXECUTE format('SET ROLE %I', role_);
    FOREACH mode_ IN ARRAY ARRAY['ciphertext', 'plaintext', 'masked'] LOOP
      EXECUTE format('SET prism_crypt.output = %I', mode_);
      RAISE INFO '% %: %', role_, mode_, (SELECT kind(many::text) FROM many);
    END LOOP;
  END LOOP;
  RESET ROLE;
  RESET prism_crypt.output;
END $$;
SET prism_crypt.output = 'plaintext';
SELECT v, a, row_to_json(many) ->> 'v' AS json, format('%s', v) FROM many;
SELECT encrypted_text_send(v) = convert_to('anna@example.org', 'UTF8') AS binary FROM many;
-- A value that can't be read makes output an error; ciphertext does not.
CREATE TABLE broken (v encrypted_text);
INSERT INTO broken SELECT prism_crypt.load_envelope('prism:v77:' || encode('\x01 00 00 0000004d 000000000000000000000000 00000000000000000000000000000000', 'base64'));
SELECT v FROM broken;
RESET prism_crypt.output;
SELECT v FROM broken;
-- Plaintext in row details of constraint errors is withheld while it would show.
CREATE TABLE constrained (id int, v encrypted_text, CHECK (id > 0));
SET prism_crypt.output = 'plaintext';
INSERT INTO constrained VALUES (-1, 'Secret Name');
CREATE TABLE keyed (id int PRIMARY KEY, v encrypted_text, other int REFERENCES keyed);
INSERT INTO keyed VALUES (1, 'Secret Name');
INSERT INTO keyed VALUES (1, 'Secret Name');
INSERT INTO keyed VALUES (2, 'Secret Name', 3);
CREATE TABLE parted (id int, v encrypted_text) PARTITION BY RANGE (id);
INSERT INTO parted VALUES (1, 'Secret Name');
CREATE VIEW checked AS SELECT * FROM keyed WHERE id > 10 WITH CHECK OPTION;
INSERT INTO checked VALUES (2, 'Secret Name');
INSERT INTO keyed (v) VALUES ('Secret Name');
SET prism_crypt.output = 'masked';
INSERT INTO constrained VALUES (-1, 'Secret Name');
RESET prism_crypt.output;
\set VERBOSITY sqlstate
INSERT INTO constrained VALUES (-1, 'Secret Name');
\set VERBOSITY default
