-- Values that were changed: each of their bytes is bound into the tag.
CALL regress.fresh();
SELECT prism_crypt.rotate_key();
CREATE TABLE t (id int, v encrypted_text, context text);
INSERT INTO t VALUES (1, encrypt_field('attack at dawn', class => 'personal'), NULL), (2, encrypt_field('attack at dawn', 'row 2', class => 'personal'), 'row 2'),
  (3, encrypt_field(''), NULL), (4, encrypt_field('attack at dawn', class => 'personal'), NULL);
CREATE FUNCTION form(which int) RETURNS text LANGUAGE sql STABLE AS $$ SELECT encrypted_text_out(v)::text FROM t WHERE id = which $$;

-- What becomes of a value with a byte changed: where it is refused, and how. Never text.
CREATE FUNCTION outcome(form text, context text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
  value encrypted_text; text_ text;
BEGIN
  BEGIN
    value := prism_crypt.load_envelope(form);
  EXCEPTION WHEN OTHERS THEN
    RETURN 'not loaded: ' || SQLSTATE;
  END;
  text_ := decrypt_field(value, context);
  RETURN 'READ: ' || text_;
EXCEPTION WHEN OTHERS THEN
  RETURN 'not read: ' || SQLSTATE || ' ' || SQLERRM;
END $$;
SELECT outcome(form(1), NULL), outcome(form(2), 'row 2'), outcome(form(3), NULL);

-- Every bit of every byte, by the part of the envelope that it stands in.
SELECT CASE WHEN place = 0 THEN '0 format' WHEN place = 1 THEN '1 flags' WHEN place = 2 THEN '2 class' WHEN place < 7 THEN '3-6 key version'
            WHEN place < 19 THEN '7-18 nonce' WHEN place < 35 THEN '19-34 context' WHEN place < length - 16 THEN 'ciphertext' ELSE 'tag' END AS part,
       result, count(*)
FROM (SELECT envelope_bytes AS length FROM t, envelope_info(v) WHERE id = 2) AS l, LATERAL generate_series(0, length - 1) AS place, generate_series(0, 7) AS bit,
     LATERAL (SELECT regexp_replace(outcome(regress.tampered(form(2), place, 1 << bit), 'row 2'), 'version \d+', 'version N') AS result) AS r
GROUP BY 1, 2 ORDER BY min(place), 2;
-- Also where a text is empty.
SELECT result, count(*)
FROM generate_series(7, 34) AS place, generate_series(0, 7) AS bit, LATERAL (SELECT outcome(regress.tampered(form(3), place, 1 << bit), NULL) AS result) AS r GROUP BY 1;

-- Cut off, or longer.
CREATE FUNCTION armored(version int, envelope bytea) RETURNS text LANGUAGE sql AS $$ SELECT 'prism:v' || version || ':' || translate(encode(envelope, 'base64'), E'\n', '') $$;
SELECT result, count(*), min(length), max(length) FROM t, LATERAL (SELECT encrypted_text_send(v) AS e) AS e, generate_series(0, length(e) - 1) AS length,
  LATERAL (SELECT outcome(armored(2, substr(e, 1, length)), NULL) AS result) AS r WHERE id = 1 GROUP BY 1 ORDER BY min(length);
SELECT outcome(armored(2, encrypted_text_send(v) || '\x00'), NULL) FROM t WHERE id = 1;

-- One field taken from another value: class, version, context, nonce, tag.
SELECT outcome(armored(2, set_byte(encrypted_text_send(v), 2, 0)), NULL) AS class_removed, outcome(armored(2, set_byte(encrypted_text_send(v), 2, 1)), NULL) AS other_class,
       outcome(armored(1, set_byte(encrypted_text_send(v), 6, 1)), NULL) AS other_version, outcome(armored(9, set_byte(encrypted_text_send(v), 6, 9)), NULL) AS unknown_version,
       outcome(armored(2, set_byte(encrypted_text_send(v), 1, 4)), NULL) AS as_bytes
FROM t WHERE id = 1;
SELECT outcome(armored(2, overlay(encrypted_text_send(a.v) placing substr(encrypted_text_send(b.v), 8, 12) from 8)), NULL) AS other_nonce,
       outcome(armored(2, overlay(encrypted_text_send(a.v) placing substr(encrypted_text_send(b.v), 34, 16) from 34)), NULL) AS other_tag,
       outcome(armored(2, substr(encrypted_text_send(a.v), 1, 19) || substr(encrypted_text_send(b.v), 20)), NULL) AS other_body
FROM t AS a, t AS b WHERE a.id = 1 AND b.id = 4;
-- The context stripped: flag and hash.
SELECT outcome(armored(2, set_byte(substr(encrypted_text_send(v), 1, 19), 1, 0) || substr(encrypted_text_send(v), 36)), NULL) AS context_stripped FROM t WHERE id = 2;

-- Every way of reading says the same; the details tell the version and nothing of the value.
UPDATE t SET v = prism_crypt.load_envelope(regress.tampered(form(1), 25, 1)) WHERE id = 1;
CALL regress.fails('SELECT decrypt_field(v) FROM t WHERE id = 1');
CALL regress.fails('SELECT v::text FROM t WHERE id = 1');
CALL regress.fails('SELECT v::varchar FROM t WHERE id = 1');
CALL regress.fails('SELECT lower(v) FROM t WHERE id = 1');
CALL regress.fails('SELECT mask_field(v) FROM t WHERE id = 1');
CALL regress.fails('SELECT reencrypt_field(v) FROM t WHERE id = 1');
CALL regress.fails('SELECT decrypt_bytes(encrypted_text_send(v)) FROM t WHERE id = 1');
CALL regress.fails('SELECT reencrypt_bytes(encrypted_text_send(v)) FROM t WHERE id = 1');
SET prism_crypt.output = 'plaintext';
SELECT v FROM t WHERE id = 1;
SET prism_crypt.output = 'masked';
SELECT v FROM t WHERE id = 1;
RESET prism_crypt.output;
SELECT id, try_decrypt_field(v, context) FROM t ORDER BY id;
SELECT key_version(v), class FROM t, envelope_info(v) WHERE id = 1;
