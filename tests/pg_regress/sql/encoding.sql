-- Databases in other encodings: plaintext is sealed as UTF-8 and comes out in the database's own.
CALL regress.fresh();
CREATE TABLE t (id int, v encrypted_text);
INSERT INTO t VALUES (1, 'Zoë Muñoz'), (2, 'Ζωή'), (3, encrypt_field('naïve', 'café')), (4, '');
SELECT encrypted_text_out(v)::text AS form_1 FROM t WHERE id = 1 \gset
SELECT encrypted_text_out(v)::text AS form_2 FROM t WHERE id = 2 \gset
SELECT encrypted_text_out(v)::text AS form_3 FROM t WHERE id = 3 \gset
SELECT version, keyset, state, wrapped, master_fingerprint FROM prism_crypt.data_key \gset
SELECT substr('é'::encrypted_text('searchable')::bytea, 20, 17) AS tag, blind_index('é', 'café') AS blind \gset
SELECT generation AS index_generation, wrapped AS index_wrapped FROM prism_crypt.index_key WHERE state = 'active' \gset

SELECT current_database() AS home \gset
CREATE DATABASE regress_prism_latin1 TEMPLATE template0 ENCODING 'LATIN1' LOCALE 'C';
\c regress_prism_latin1
SET client_encoding = 'UTF8';
SET prism_crypt.master_key_env = 'PRISM_TEST_KEY_MAIN';
CREATE EXTENSION prism_crypt;
-- A value and the rows of its keys are all that it takes.
INSERT INTO prism_crypt.keyset (name) VALUES (:'keyset');
INSERT INTO prism_crypt.data_key (version, keyset, state, wrapped, master_fingerprint) VALUES (:version, :'keyset', :'state', :'wrapped', :'master_fingerprint');
INSERT INTO prism_crypt.index_key (keyset, generation, state, wrapped, master_fingerprint, retagged_at) VALUES (:'keyset', :index_generation, 'active', :'index_wrapped', :'master_fingerprint', now());
SELECT setval('prism_crypt.data_key_version_seq', :version);
CREATE TABLE t (id int, v encrypted_text);
INSERT INTO t VALUES (1, :'form_1'), (2, :'form_2'), (3, :'form_3');
SELECT decrypt_field(v), octet_length(v), char_length(v), plaintext_bytes FROM t, envelope_info(v) WHERE id = 1;
SELECT decrypt_field(v, 'café') FROM t WHERE id = 3;
-- What this encoding has no character for is an error that says so; nothing else fails.
SELECT decrypt_field(v) FROM t WHERE id = 2;
\echo :SQLSTATE
SELECT try_decrypt_field(v) FROM t WHERE id = 2;
SELECT mask_field(v) FROM t WHERE id = 2;
SELECT v IS NOT NULL AS there, key_version(v), key_version(reencrypt_field(v)) FROM t WHERE id = 2;
-- Ways in.
INSERT INTO t VALUES (10, 'é'), (11, 'é'::text), (12, encrypt_field('é', 'ü', class => 'personal'));
COPY t FROM STDIN;
13	é
\.
PREPARE put (encrypted_text) AS INSERT INTO t VALUES (14, $1);
EXECUTE put('é');
SELECT id, octet_length(decrypt_field(v, CASE WHEN has_context THEN 'ü' END)) AS here, plaintext_bytes AS sealed FROM t, envelope_info(v) WHERE id BETWEEN 10 AND 14 ORDER BY id;
SELECT mask_field(v, 'ü'), decrypt_field(v, 'ü') || '!' FROM t WHERE id = 12;
-- Values are compared, and tags and blind indexes made, in UTF-8 whatever the database's encoding. What it has no character for can be compared, too.
SELECT id FROM t WHERE v = 'é' AND v = 'é'::text AND v = ANY (ARRAY['é', 'e']) ORDER BY id;
SELECT substr('é'::encrypted_text('searchable')::bytea, 20, 17) = :'tag' AS same_tag, blind_index('é', 'café') = :'blind' AS same_blind_index, octet_length('é') AS here;
SELECT count(*) FROM t AS a JOIN t AS b ON a.v = b.v WHERE a.id = 2;
SET prism_crypt.output = 'plaintext';
SELECT v FROM t WHERE id IN (1, 13) ORDER BY id;
\copy (SELECT v FROM t WHERE id = 13) TO 'results/latin1.bin' (FORMAT binary)
SET client_encoding = 'LATIN1';
\copy (SELECT v FROM t WHERE id = 13) TO 'results/latin1.txt'
RESET prism_crypt.output;
SET client_encoding = 'UTF8';
\set utf8 `od -An -tx1 results/latin1.bin | tr -d ' \n' | grep -c c3a9`
\set latin1 `od -An -tx1 results/latin1.txt | tr -d ' \n'`
\echo :utf8 :latin1
-- Binary input in the client's encoding.
SELECT prism_crypt.rotate_key() IS NOT NULL AS rotated;
\set text `printf 'PGCOPY\n\377\r\n\0\0\0\0\0\0\0\0\0\0\1\0\0\0\2\303\251\377\377' > results/text.bin`
\copy t (v) FROM 'results/text.bin' (FORMAT binary)
SELECT octet_length(v) AS here, plaintext_bytes AS sealed, key_version FROM t, envelope_info(v) WHERE id IS NULL;
CALL rotate_batch('t', 'v');
SELECT encrypted_text_out(v)::text AS form_10 FROM t WHERE id = 10 \gset
SELECT version, keyset, state, wrapped, master_fingerprint FROM prism_crypt.data_key WHERE state = 'active' \gset
\c :home
-- And back.
UPDATE prism_crypt.data_key SET state = 'decrypt_only';
INSERT INTO prism_crypt.data_key (version, keyset, state, wrapped, master_fingerprint) VALUES (:version, :'keyset', :'state', :'wrapped', :'master_fingerprint');
SELECT decrypt_field(prism_crypt.load_envelope(:'form_10')), octet_length(:'form_10'::encrypted_text);

-- Without an encoding: what is not UTF-8 can't be sealed as text.
CREATE DATABASE regress_prism_ascii TEMPLATE template0 ENCODING 'SQL_ASCII' LOCALE 'C';
\c regress_prism_ascii
SET prism_crypt.master_key_env = 'PRISM_TEST_KEY_MAIN';
CREATE EXTENSION prism_crypt;
SELECT prism_crypt.rotate_key();
SELECT decrypt_field(encrypt_field('plain ASCII')), octet_length(decrypt_field(encrypt_field('é'))), decrypt_field(encrypt_field('x', 'é'), 'é');
SELECT encrypt_field(E'\xff');
\echo :SQLSTATE
SELECT E'\xff'::text::encrypted_text;
SELECT encrypt_field('x', E'\xff');
SELECT decrypt_bytes(encrypt_bytes('\xff'));
\c :home
DROP DATABASE regress_prism_latin1;
DROP DATABASE regress_prism_ascii;
