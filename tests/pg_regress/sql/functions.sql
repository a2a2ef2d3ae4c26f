-- The functions around the type.
CALL regress.fresh();
SELECT prism_crypt.create_keyset('tenant_1');

-- encrypt_field and its named arguments.
CREATE TABLE made (id serial, v encrypted_text);
INSERT INTO made (v) VALUES
  (encrypt_field('text')),
  (encrypt_field('text', NULL, NULL, NULL)),
  (encrypt_field('text', 'row 1')),
  (encrypt_field('text', context => '')),
  (encrypt_field('text', keyset => 'tenant_1')),
  (encrypt_field('text', class => 'tax_id')),
  (encrypt_field('text', 'row 1', 'tenant_1', 'health')),
  (encrypt_field(plaintext => '', context => 'row 1')),
  (encrypt_field('山田𐍈')),
  (encrypt_field(NULL)), (encrypt_field(NULL, 'row 1', 'tenant_1', 'health'));
SELECT id, (envelope_info(v)).* FROM made ORDER BY id;
SELECT count(*) FROM made, envelope_info(v);
CALL regress.fails($$SELECT encrypt_field('x', keyset => 'nobody')$$);
CALL regress.fails($$SELECT encrypt_field('x', keyset => '')$$);
CALL regress.fails($$SELECT encrypt_field('x', class => 'nothing')$$);
CALL regress.fails($$SELECT encrypt_field('x', class => '')$$);
CALL regress.fails($$SELECT encrypt_field('x', class => 'Email')$$);
CALL regress.fails($$SELECT encrypt_field(42)$$);
-- Nothing is checked for a null plaintext.
SELECT encrypt_field(NULL, keyset => 'nobody', class => 'nothing') IS NULL AS is_null;

-- The context must be the same one, and be given only where there is one.
CALL regress.fails('SELECT decrypt_field(v) FROM made WHERE id = 3');
CALL regress.fails($$SELECT decrypt_field(v, 'row 2') FROM made WHERE id = 3$$);
CALL regress.fails($$SELECT decrypt_field(v, '') FROM made WHERE id = 3$$);
CALL regress.fails($$SELECT decrypt_field(v, 'row 1') FROM made WHERE id = 1$$);
CALL regress.fails($$SELECT decrypt_field(v, '') FROM made WHERE id = 1$$);
CALL regress.fails('SELECT decrypt_field(v) FROM made WHERE id = 4');
CALL regress.fails('SELECT v::text FROM made WHERE id = 4');
SELECT decrypt_field(v, 'row 1'), decrypt_field(value => v, context => 'row 1') FROM made WHERE id = 3;
SELECT decrypt_field(v, '') FROM made WHERE id = 4;
SELECT decrypt_field(v, 'row 1') AS text FROM made WHERE id IN (7, 8) ORDER BY id;
SELECT decrypt_field(NULL), decrypt_field(NULL, 'x'), try_decrypt_field(NULL), mask_field(NULL);

-- try_decrypt_field: null for what is wrong with the value, an error for what is wrong with the set-up.
SELECT id, try_decrypt_field(v), try_decrypt_field(v, 'row 1') FROM made ORDER BY id;
SET prism_crypt.master_key_env = 'PRISM_TEST_KEY_OTHER';
SELECT count(try_decrypt_field(v)) AS readable FROM made;
SET prism_crypt.master_key_env = '';
CALL regress.fails('SELECT try_decrypt_field(v) FROM made');
RESET prism_crypt.master_key_env;

-- Volatility: each row and each execution has its own nonce, reading gives the same.
SELECT count(DISTINCT encrypted_text_out(encrypt_field('same'))::text) AS ciphertexts FROM generate_series(1, 1000);
SELECT count(DISTINCT encrypted_text_out(('same'::text)::encrypted_text)::text) AS by_cast FROM generate_series(1, 1000);
SELECT count(DISTINCT encode(encrypt_bytes('same'), 'hex')) AS bytes FROM generate_series(1, 1000);
SELECT count(DISTINCT substr(encrypted_text_send(encrypt_field('same')), 8, 12)) AS nonces FROM generate_series(1, 1000);
PREPARE one AS SELECT encrypted_text_out(encrypt_field('same'))::text AS c;
EXECUTE one \gset a_
EXECUTE one \gset b_
SELECT :'a_c' = :'b_c' AS same;
EXPLAIN (COSTS OFF, VERBOSE) SELECT encrypt_field('not folded'), key_version(encrypt_field('not folded')) FROM made;
CALL regress.fails('CREATE INDEX ON made (decrypt_field(v))');
CALL regress.fails('CREATE INDEX ON made ((v::text))');
CALL regress.fails('CREATE TABLE generated (v encrypted_text, t text GENERATED ALWAYS AS (decrypt_field(v)) STORED)');
CALL regress.fails('CREATE TABLE generated (t text, v encrypted_text GENERATED ALWAYS AS (encrypt_field(t)) STORED)');
-- key_version() needs no key and is immutable: it can be indexed and generated.
CREATE TABLE versioned (v encrypted_text, version int GENERATED ALWAYS AS (key_version(v)) STORED);
CREATE INDEX ON versioned (version);
CREATE INDEX ON made (key_version(v));
INSERT INTO versioned SELECT v FROM made;
SELECT version, count(*) FROM versioned GROUP BY 1 ORDER BY 1;

-- Wide values: only their front is fetched for the version.
INSERT INTO made (v) SELECT encrypt_field(repeat('wide ', 100000));
SELECT key_version(v), plaintext_bytes, envelope_bytes, length(decrypt_field(v)), decrypt_field(v) = repeat('wide ', 100000) AS same
FROM made, envelope_info(v) WHERE id = (SELECT max(id) FROM made);

-- Bytes.
CREATE TABLE blobs (id serial, b bytea);
INSERT INTO blobs (b) VALUES (encrypt_bytes('\x00ff00')), (encrypt_bytes('')), (encrypt_bytes('\x80', 'row 1', 'tenant_1', 'financial')), (encrypt_bytes(NULL)), ('\xdeadbeef'), ('');
SELECT id, decrypt_bytes(b), key_version(b), (envelope_info(b)).* FROM blobs WHERE id < 3 ORDER BY id;
SELECT decrypt_bytes(b, 'row 1'), (envelope_info(b)).* FROM blobs WHERE id = 3;
SELECT decrypt_bytes(NULL) IS NULL AS a, encrypt_bytes(NULL) IS NULL AS b, key_version(NULL::bytea) IS NULL AS c, reencrypt_bytes(NULL) IS NULL AS d;
CALL regress.fails('SELECT decrypt_bytes(b) FROM blobs WHERE id = 3');
CALL regress.fails('SELECT decrypt_bytes(b) FROM blobs WHERE id = 5');
CALL regress.fails('SELECT key_version(b) FROM blobs WHERE id = 5');
CALL regress.fails('SELECT envelope_info(b) FROM blobs WHERE id = 5');
CALL regress.fails('SELECT reencrypt_bytes(b) FROM blobs WHERE id = 5');
CALL regress.fails('SELECT key_version(b) FROM blobs WHERE id = 6');
CALL regress.fails('SELECT decrypt_bytes(b) FROM blobs WHERE id = 6');
-- Bytes are not text: what was sealed as bytes is not read as text, and the other way round it is bytes.
CREATE FUNCTION pg_temp.armor(b bytea) RETURNS encrypted_text LANGUAGE sql AS $$
  SELECT prism_crypt.load_envelope('prism:v' || key_version(b) || ':' || translate(encode(b, 'base64'), E'\n', ''))
$$;
CALL regress.fails('SELECT decrypt_field(pg_temp.armor(b)) FROM blobs WHERE id = 1');
CALL regress.fails('SELECT mask_field(pg_temp.armor(b)) FROM blobs WHERE id = 1');
SELECT try_decrypt_field(pg_temp.armor(b)) IS NULL AS is_null FROM blobs WHERE id = 1;
SELECT decrypt_bytes(encrypted_text_send(encrypt_field('Ω'))), convert_from(decrypt_bytes(encrypted_text_send(encrypt_field('Ω', 'c')), 'c'), 'UTF8');

-- Masks.
SELECT class, mask_field(encrypt_field(t, class => class)) AS mask
FROM (VALUES ('email', 'alice@example.com'), ('email', 'a@example.com'), ('email', 'no address'), ('phone', '+49 (30) 1234-5678'), ('phone', '12345'),
             ('tax_id', '078-05-1120'), ('financial', '4111 1111 1111 1111'), ('personal', 'Ζωή'), ('personal', 'X'), ('query', 'back pain'),
             ('health', 'E11.9'), (NULL, 'anything'), ('email', '')) AS v (class, t);
SELECT mask_field(encrypt_field('alice@example.com', 'row 1', class => 'email'), 'row 1');
CALL regress.fails($$SELECT mask_field(encrypt_field('alice@example.com', 'row 1', class => 'email'))$$);
CALL regress.fails($$SELECT mask_field(encrypt_field('alice@example.com', class => 'email'), 'row 1')$$);

-- Re-encryption keeps everything but the nonce and the version.
SELECT prism_crypt.rotate_key();
SELECT prism_crypt.rotate_key('tenant_1');
SELECT id, (envelope_info(reencrypt_field(v))).*, coalesce(try_decrypt_field(reencrypt_field(v)), try_decrypt_field(reencrypt_field(v), 'row 1'), try_decrypt_field(reencrypt_field(v), '')) AS text
FROM made WHERE id < 12 ORDER BY id;
SELECT key_version(reencrypt_bytes(b)), decrypt_bytes(reencrypt_bytes(b), 'row 1') FROM blobs WHERE id = 3;
SELECT encrypted_text_out(reencrypt_field(v))::text = encrypted_text_out(reencrypt_field(v))::text AS same FROM made WHERE id = 1;
SELECT reencrypt_field(NULL) IS NULL AS is_null;

-- Keys from the operating system's generator.
SELECT key ~ '^[0-9a-f]{64}$' AS hex, key_bytes, algorithm FROM generate_key();
SELECT count(DISTINCT key) FROM (SELECT (generate_key()).key FROM generate_series(1, 100)) AS keys;

-- Status: one row a check.
SELECT name, ok, CASE WHEN name IN ('algorithm', 'enabled', 'key_source', 'active_versions', 'active_keys_unlock') THEN setting END AS setting
FROM prism_crypt.status() WHERE name <> 'preloaded' \g (format=unaligned)
SELECT setting ~ '^[0-9a-f]{16}$' AS fingerprint FROM prism_crypt.status() WHERE name = 'master_fingerprint';
SELECT setting = CASE current_setting('shared_preload_libraries') WHEN '' THEN 'no' ELSE 'yes' END AS as_it_is, ok = (setting = 'yes') FROM prism_crypt.status() WHERE name = 'preloaded';
SET prism_crypt.master_key_env = '';
SELECT name, setting, ok FROM prism_crypt.status() WHERE name IN ('enabled', 'key_source', 'master_fingerprint', 'active_versions', 'active_keys_unlock');
SET prism_crypt.master_key_env = 'PRISM_TEST_KEY_OTHER';
SELECT name, setting, ok FROM prism_crypt.status() WHERE name IN ('enabled', 'key_source', 'active_versions', 'active_keys_unlock');
SET prism_crypt.master_key_env = 'PRISM_TEST_NO_SUCH_VARIABLE';
SELECT name, setting, ok FROM prism_crypt.status() WHERE name IN ('enabled', 'key_source', 'master_fingerprint', 'active_keys_unlock');
RESET prism_crypt.master_key_env;
CALL regress.fresh(with_key => false);
SELECT name, setting, ok FROM prism_crypt.status() WHERE name IN ('enabled', 'key_source', 'active_versions', 'active_keys_unlock');
