-- Type modifiers: field classes. (search_typmod.sql has searchable columns.)
CALL regress.fresh();
CREATE TABLE classes (
  plain encrypted_text, email encrypted_text('email'), phone encrypted_text('phone'), tax_id encrypted_text('tax_id'),
  personal encrypted_text('personal'), financial encrypted_text('financial'), query encrypted_text('query'), health encrypted_text('health'));
\d classes
SELECT attname, atttypmod, format_type(atttypid, atttypmod), prism_crypt.class_name(atttypmod)
FROM pg_attribute WHERE attrelid = 'classes'::regclass AND attnum > 0 ORDER BY attnum;
SELECT n, prism_crypt.class_name(n) FROM unnest(ARRAY[-2147483648, -1, 0, 1, 7, 8, 255, 256, 257, 2147483647, NULL]) AS n;
SELECT format_type('encrypted_text'::regtype, n) FROM unnest(ARRAY[-1, 0, 1, 8, 257]) AS n;

-- By every way in: literal, text, value without a class, value of that class.
INSERT INTO classes VALUES ('a', 'b', 'c', 'd', 'e', 'f', 'g', 'h');
INSERT INTO classes VALUES ('a'::text, 'b'::text, 'c'::text, 'd'::text, 'e'::text, 'f'::text, 'g'::text, 'h'::text);
INSERT INTO classes SELECT e, e, e, e, e, e, e, e FROM (SELECT encrypt_field('x')) AS v (e);
INSERT INTO classes VALUES (encrypt_field('a'), encrypt_field('b', class => 'email'), encrypt_field('c', class => 'phone'), NULL, NULL, NULL, NULL, NULL);
SELECT (envelope_info(plain)).class, (envelope_info(email)).class, (envelope_info(phone)).class, (envelope_info(tax_id)).class,
       (envelope_info(personal)).class, (envelope_info(financial)).class, (envelope_info(query)).class, (envelope_info(health)).class,
       plain::text || email::text || phone::text || coalesce(health::text, '') AS text
FROM classes;

-- What is no modifier.
CALL regress.fails($$SELECT 'x'::encrypted_text('Email')$$);
CALL regress.fails($$SELECT 'x'::encrypted_text('nothing')$$);
CALL regress.fails($$SELECT 'x'::encrypted_text('')$$);
CALL regress.fails($$SELECT 'x'::encrypted_text(1)$$);
CALL regress.fails($$SELECT 'x'::encrypted_text('email', 'phone')$$);
CALL regress.fails($$SELECT 'x'::encrypted_text('email', 'email')$$);
CALL regress.fails($$SELECT 'x'::encrypted_text('email', 'nothing')$$);
CALL regress.fails($$SELECT 'x'::encrypted_text(NULL)$$);
CALL regress.fails($$CREATE TABLE bad (v encrypted_text())$$);

-- From one class to another only through plaintext; to no class at any time.
CALL regress.fails('INSERT INTO classes (phone) SELECT email FROM classes');
CALL regress.fails('UPDATE classes SET phone = email');
CALL regress.fails($$SELECT (email::encrypted_text('phone')) IS NULL FROM classes$$);
SELECT DISTINCT (envelope_info(email::encrypted_text)).class AS stays, (envelope_info((email::text)::encrypted_text('phone'))).class AS through_text FROM classes;
INSERT INTO classes (plain) SELECT email FROM classes WHERE decrypt_field(email) = 'x';
SELECT (envelope_info(plain)).class, decrypt_field(plain) FROM classes WHERE email IS NULL;

-- An identifier is as good as a string.
SELECT class FROM envelope_info('x'::encrypted_text(email));

-- Applying a class takes the key, and seals with a new nonce under the active key; a context stays.
SELECT prism_crypt.rotate_key();
CREATE TEMP TABLE old (v encrypted_text);
SELECT prism_crypt.create_keyset('tenant');
INSERT INTO old VALUES (encrypt_field('default', 'row 1')), (encrypt_field('tenant', 'row 1', 'tenant'));
SELECT prism_crypt.rotate_key('tenant');
SELECT key_version, class, has_context, decrypt_field(e, 'row 1') FROM (SELECT v::encrypted_text('personal') AS e FROM old OFFSET 0) AS s, envelope_info(e);
SET prism_crypt.master_key_env = 'PRISM_TEST_KEY_OTHER';
CALL regress.fails($$SELECT v::encrypted_text('personal') FROM old$$);
SELECT count(v::encrypted_text) FROM old;
RESET prism_crypt.master_key_env;

-- A prepared statement seals a class column anew each time, whatever the parameter's type.
CREATE TABLE sealed (id serial, e encrypted_text('email'));
PREPARE put AS INSERT INTO sealed (e) VALUES ('same@example.org');
EXECUTE put;
EXECUTE put;
EXECUTE put;
SELECT count(*), count(DISTINCT encrypted_text_out(e)::text) AS ciphertexts, count(DISTINCT decrypt_field(e)) AS texts FROM sealed;

-- ALTER TABLE.
CREATE TABLE changing (id int, v text, w varchar(20), x encrypted_text('email'));
INSERT INTO changing VALUES (1, 'one@example.org', 'w1', 'x1@example.org'), (2, NULL, NULL, NULL), (3, 'three@example.org', 'w3', 'x3@example.org');
ALTER TABLE changing ALTER v TYPE encrypted_text, ALTER w TYPE encrypted_text('personal');
SELECT id, decrypt_field(v), decrypt_field(w), (envelope_info(v)).class, (envelope_info(w)).class FROM changing WHERE v IS NOT NULL ORDER BY id;
ALTER TABLE changing ALTER v TYPE encrypted_text('email');
SELECT id, decrypt_field(v), (envelope_info(v)).class FROM changing WHERE v IS NOT NULL ORDER BY id;
CALL regress.fails($$ALTER TABLE changing ALTER v TYPE encrypted_text('phone')$$);
ALTER TABLE changing ALTER v TYPE encrypted_text;
SELECT id, (envelope_info(v)).class FROM changing WHERE v IS NOT NULL ORDER BY id;
ALTER TABLE changing ALTER v TYPE encrypted_text('phone') USING v::text::encrypted_text('phone');
SELECT id, decrypt_field(v), (envelope_info(v)).class FROM changing WHERE v IS NOT NULL ORDER BY id;
CALL regress.fails('ALTER TABLE changing ALTER v TYPE text');
ALTER TABLE changing ALTER v TYPE text USING v::text;
SELECT id, v FROM changing ORDER BY id;
ALTER TABLE changing ALTER v TYPE encrypted_text('email') USING encrypt_field(v, 'row ' || id);
SELECT id, decrypt_field(v, 'row ' || id), has_context, class FROM changing, envelope_info(v) ORDER BY id;
CALL regress.fails('ALTER TABLE changing ALTER v TYPE text USING v::text');
ALTER TABLE changing ADD y encrypted_text('health') DEFAULT 'unknown';
SELECT id, decrypt_field(y), (envelope_info(y)).class FROM changing ORDER BY id;
SELECT attname, format_type(atttypid, atttypmod) FROM pg_attribute WHERE attrelid = 'changing'::regclass AND attnum > 0;
