-- A column is encrypted, verified, cut over, brought back, and finished.
CALL regress.fresh();
\set SHOW_CONTEXT never
CREATE ROLE regress_owner; CREATE ROLE regress_app; CREATE ROLE regress_stranger;
GRANT CREATE ON SCHEMA public TO regress_owner;
SELECT prism_crypt.grant_access('regress_owner', access) FROM unnest(ARRAY['migrate', 'search', 'decrypt']) AS access;
SET ROLE regress_owner;
CREATE TABLE person (id int PRIMARY KEY, email varchar(40) NOT NULL DEFAULT 'nobody' CHECK (email <> ''), born date, note text);
CREATE UNIQUE INDEX person_email ON person (email) INCLUDE (id);
COMMENT ON COLUMN person.email IS 'the address';
CREATE VIEW mails AS SELECT id, email FROM person;
GRANT SELECT, INSERT, UPDATE, DELETE ON person, mails TO regress_app;
INSERT INTO person SELECT i, 'p' || i || '@example.org', date '1980-01-01' + i FROM generate_series(1, 500) AS i;
INSERT INTO person (id, email, born) VALUES (0, 'null@example.org', NULL);

-- A dry run changes nothing.
CALL prism_crypt.migrate_column('person', 'born', 'encrypted_text(personal)', dry_run => true);
SELECT attname, format_type(atttypid, atttypmod) FROM pg_attribute WHERE attrelid = 'person'::regclass AND attnum > 0 AND NOT attisdropped ORDER BY attnum;

-- There, but not yet cut over: applications see and need what they did before.
CALL prism_crypt.migrate_column('person', 'email', 'encrypted_text(email,searchable)', method => 'online', until => 'verified');
SELECT id, target, old_type, type, state, method, phase, worker, error FROM prism_crypt.migrations;
SELECT kind, target, state, rows_done FROM prism_crypt.progress ORDER BY id;
SET ROLE regress_app;
INSERT INTO person (id, email) VALUES (501, 'new@example.org');
UPDATE person SET email = 'changed@example.org' WHERE email = 'p5@example.org';
UPDATE person SET note = 'x' WHERE id = 6;
SELECT count(*), count(DISTINCT email), min(email) FROM person;
SELECT email FROM mails WHERE id = 5;
SET ROLE regress_owner;
SELECT count(*) FROM person WHERE prism_crypt_new_email::text <> email OR prism_crypt_new_email IS NULL;

-- The cut-over.
CALL prism_crypt.migrate_column('person', 'email', 'encrypted_text(email,searchable)');
SELECT attname, format_type(atttypid, atttypmod), attnotnull, attacl, col_description(attrelid, attnum) FROM pg_attribute WHERE attrelid = 'person'::regclass AND attnum > 0 AND NOT attisdropped ORDER BY attnum;
SELECT indexrelid::regclass, pg_get_indexdef(indexrelid) FROM pg_index WHERE indrelid = 'person'::regclass ORDER BY 1::text;
SELECT conname, pg_get_constraintdef(oid) FROM pg_constraint WHERE conrelid = 'person'::regclass AND contype = 'c';
SELECT attname, format_type(atttypid, atttypmod) FROM pg_attribute WHERE attrelid = 'mails'::regclass AND attnum > 0 ORDER BY attnum;
INSERT INTO person (id, email) VALUES (502, 'two@example.org');
UPDATE person SET email = 'again@example.org' WHERE email = 'p7@example.org';
INSERT INTO person (id, email) VALUES (503, 'two@example.org') ON CONFLICT (email) DO UPDATE SET note = 'met';
-- In its old place, as an INSERT without a list of columns has it.
INSERT INTO person VALUES (504, 'placed@example.org', NULL, NULL);
SELECT id, email::text, prism_crypt_old_email, note FROM person WHERE id IN (5, 6, 7, 501, 502, 503, 504) ORDER BY id;
SELECT count(*) FROM person WHERE email::text IS DISTINCT FROM prism_crypt_old_email;
\set VERBOSITY sqlstate
SET ROLE regress_app;
SELECT prism_crypt_old_email FROM person;
SELECT * FROM person;
SELECT email::text FROM person;
INSERT INTO person (id, email) VALUES (505, 'denied@example.org');
UPDATE person SET note = 'no right needed' WHERE id = 8;
SELECT count(*) FROM person WHERE note IS NOT NULL;
SET ROLE regress_stranger;
CALL prism_crypt.rollback_migration(1);
RESET ROLE;
SELECT prism_crypt.grant_access('regress_stranger', 'migrate');
SET ROLE regress_stranger;
CALL prism_crypt.rollback_migration(1);
CALL prism_crypt.finish_migration(1);
CALL prism_crypt.migrate_column('person', 'note', 'encrypted_text');
SELECT count(*) FROM prism_crypt.migrations;
SET ROLE regress_owner;
\set VERBOSITY terse

-- Another column of the table, while the first one is not finished; and back.
CALL prism_crypt.migrate_column('person', 'born', 'encrypted_text(personal)', method => 'online');
SELECT id, email::text, born::text, prism_crypt_old_born FROM person WHERE id IN (0, 9) ORDER BY id;
CALL prism_crypt.finish_migration(1) \gset
SELECT p ->> 'place' AS place, p ->> 'result' ~ '^found' AS found FROM jsonb_array_elements(:'remains') AS p;
SELECT string_agg(privilege_type, ' ' ORDER BY privilege_type) FROM pg_class, aclexplode(relacl) WHERE oid = 'person'::regclass AND grantee = 'regress_app'::regrole;
CALL prism_crypt.rollback_migration(2);
SELECT string_agg(privilege_type, ' ' ORDER BY privilege_type) FROM pg_class, aclexplode(relacl) WHERE oid = 'person'::regclass AND grantee = 'regress_app'::regrole;
SELECT attname, format_type(atttypid, atttypmod), attacl FROM pg_attribute WHERE attrelid = 'person'::regclass AND attnum > 0 AND NOT attisdropped ORDER BY attnum;
SELECT id, state FROM prism_crypt.migrations ORDER BY id;
SELECT place, result ~ '^found' AS found FROM prism_crypt.remaining_plaintext('person', 'email') WHERE place LIKE 'files%';
VACUUM (FULL) person;
SELECT place, result ~ '^found' AS found FROM prism_crypt.remaining_plaintext('person', 'email') WHERE place LIKE 'files%';

-- For good.
CALL prism_crypt.decrypt_column('person', 'email', 'varchar(40)', method => 'online');
CALL prism_crypt.migrate_column('person', 'email', 'encrypted_text(email,searchable)');
CALL prism_crypt.decrypt_column('person', 'email', 'varchar(40)');
SELECT attname, format_type(atttypid, atttypmod), attnotnull FROM pg_attribute WHERE attrelid = 'person'::regclass AND attnum > 0 AND NOT attisdropped ORDER BY attnum;
SELECT indexrelid::regclass, pg_get_indexdef(indexrelid) FROM pg_index WHERE indrelid = 'person'::regclass ORDER BY 1::text;
SELECT id, email FROM person WHERE id IN (0, 5, 504) ORDER BY id;

-- By an expression. The way back needs a hand for what was written since.
CREATE TABLE sealed (id int PRIMARY KEY, secret bytea NOT NULL);
INSERT INTO sealed SELECT i, convert_to('secret ' || i, 'UTF8') FROM generate_series(1, 50) AS i;
CALL prism_crypt.migrate_column('sealed', 'secret', 'encrypted_text', $$upper(convert_from(sealed.secret, 'UTF8'))$$, method => 'online', until => 'verified');
INSERT INTO sealed VALUES (51, 'written');
UPDATE sealed SET secret = 'rewritten' WHERE id = 3;
CALL prism_crypt.migrate_column('sealed', 'secret', 'encrypted_text', $$upper(convert_from(secret, 'UTF8'))$$);
SELECT id, secret::text FROM sealed WHERE id IN (1, 3, 51) ORDER BY id;
UPDATE sealed SET secret = 'after' WHERE id = 1;
\set VERBOSITY default
SELECT max(id) AS last FROM prism_crypt.migrations \gset
CALL prism_crypt.rollback_migration(:last);
UPDATE sealed SET prism_crypt_old_secret = 'after' WHERE id = 1;
CALL prism_crypt.rollback_migration(:last);
SELECT id, convert_from(secret, 'UTF8') FROM sealed WHERE id IN (1, 2, 3, 51) ORDER BY id;
SELECT attname, format_type(atttypid, atttypmod), attnotnull FROM pg_attribute WHERE attrelid = 'sealed'::regclass AND attnum > 0 AND NOT attisdropped ORDER BY attnum;

-- Before the cut-over, back is quick.
CALL prism_crypt.migrate_column('person', 'email', 'encrypted_text(email,searchable)', method => 'online', until => 'verified');
CALL prism_crypt.migrate_column('person', 'note', 'encrypted_text');
CALL prism_crypt.migrate_column('person', 'email', 'encrypted_text(email)');
SELECT max(id) AS last FROM prism_crypt.migrations \gset
CALL prism_crypt.rollback_migration(:last);
CALL prism_crypt.rollback_migration(:last);
SELECT count(*) FROM pg_trigger WHERE tgrelid = 'person'::regclass;

-- What is refused.
CALL prism_crypt.migrate_column('person', 'email', 'encrypted_text(email)', method => 'online');
CALL prism_crypt.migrate_column(NULL, 'email', 'encrypted_text');
CALL prism_crypt.migrate_column('person', NULL, 'encrypted_text');
CALL prism_crypt.migrate_column('person', 'email', NULL);
CALL prism_crypt.migrate_column('person', 'email', 'encrypted_text', method => 'fast');
CALL prism_crypt.migrate_column('person', 'email', 'encrypted_text', method => NULL);
CALL prism_crypt.migrate_column('person', 'email', 'encrypted_text', until => 'then');
CALL prism_crypt.migrate_column('person', 'email', 'encrypted_text', keep_plaintext => NULL);
CALL prism_crypt.migrate_column('person', 'note', 'encrypted_text', lock_timeout => NULL, method => 'online');
CALL prism_crypt.migrate_column('person', 'note', 'encrypted_text', lock_timeout => '-1s', method => 'online');
CALL prism_crypt.migrate_column('person', 'email', 'encrypted_text', max_lock_time => NULL);
CALL prism_crypt.migrate_column('person', 'email', 'encrypted_text', batch_size => 0);
CALL prism_crypt.migrate_column('person', 'email', 'encrypted_text', method => 'rewrite', until => 'verified');
CALL prism_crypt.migrate_column('person', 'email', 'text');
CALL prism_crypt.migrate_column('person', 'nothing', 'encrypted_text');
CALL prism_crypt.migrate_column('mails', 'email', 'encrypted_text');
CALL prism_crypt.migrate_column('person', 'note', 'encrypted_text', '(SELECT 1)');
CALL prism_crypt.migrate_column('person', 'note', 'encrypted_text', 'note) IS NOT NULL), ADD CHECK ((note');
CALL prism_crypt.migrate_column('sealed', 'secret', 'encrypted_text');
CALL prism_crypt.finish_migration(1);
CALL prism_crypt.rollback_migration(NULL);
CALL prism_crypt.rollback_migration(1000);
BEGIN; CALL prism_crypt.migrate_column('person', 'email', 'encrypted_text(email,searchable)'); ROLLBACK;
RESET ROLE;
SELECT prism_crypt.revoke_access('regress_owner', 'decrypt');
SET ROLE regress_owner;
CALL prism_crypt.migrate_column('person', 'note', 'encrypted_text', method => 'online');
CALL prism_crypt.migrate_column('person', 'note', 'encrypted_text', method => 'online', keep_plaintext => false);
CALL prism_crypt.decrypt_column('person', 'note');
RESET ROLE;
SET prism_crypt.master_key_env = 'PRISM_TEST_KEY_MAIN';
CALL prism_crypt.migrate_column('person', 'email', 'encrypted_text(email,searchable)', method => 'online');
RESET prism_crypt.master_key_env;
DROP OWNED BY regress_owner, regress_app, regress_stranger; DROP ROLE regress_owner, regress_app, regress_stranger;
