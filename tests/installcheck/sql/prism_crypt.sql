-- The short way through what the README shows, in a database of its own, with a key that lives as long as the session.
\set VERBOSITY terse
CREATE EXTENSION prism_crypt;
SELECT format('SET prism_crypt.master_key = %L', key) AS command FROM generate_key() \gset
\o /dev/null
:command;
\o
SELECT prism_crypt.rotate_key();
CREATE TABLE patients (id int PRIMARY KEY, name encrypted_text, email encrypted_text('email', 'searchable') UNIQUE);
INSERT INTO patients VALUES (1, 'Ada Lovelace', 'ada@example.org'), (2, 'Alan Turing', 'alan@example.org');
SELECT id, key_version(name), decrypt_field(name), email::text FROM patients ORDER BY id;
SELECT id FROM patients WHERE email = 'alan@example.org';
INSERT INTO patients VALUES (3, 'Somebody', 'ada@example.org');
INSERT INTO patients VALUES (3, 'Somebody', 'ada@example.org') ON CONFLICT (email) DO NOTHING;
SELECT prism_crypt.rotate_key(reason => 'yearly');
CALL prism_crypt.rotate_batch('patients');
SELECT id, key_version(name) AS name, key_version(email) AS email, decrypt_field(email) FROM patients ORDER BY id;
SELECT location, ciphertexts FROM prism_crypt.census() WHERE key_version = 1 AND ciphertexts > 0;
SELECT mask_field(name) FROM patients WHERE id = 1;
SELECT name, ok FROM prism_crypt.status() WHERE name IN ('enabled', 'active_keys_unlock');
DROP EXTENSION prism_crypt CASCADE;
