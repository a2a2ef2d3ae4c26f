-- Values of different keysets are never equal, whatever way they are compared.
CALL regress.fresh();
SELECT prism_crypt.create_keyset('other');
CREATE TABLE t (id int, tagged encrypted_text('searchable'), loose encrypted_text, plain text);
INSERT INTO t VALUES (1, 'x', 'x', 'x'), (2, 'y', 'y', 'y');
SET prism_crypt.keyset = 'other';
INSERT INTO t VALUES (3, 'x', 'x', 'x'), (4, 'y', 'y', 'y');
RESET prism_crypt.keyset;
INSERT INTO t VALUES (5, encrypt_field('x', keyset => 'other'), encrypt_field('x', keyset => 'other', class => 'email'), 'x'), (6, encrypt_field('x', 'bound'), encrypt_field('x', 'bound'), 'x');
SELECT id, key_version(tagged), (envelope_info(tagged)).search_generation AS tag, key_version(loose), (envelope_info(loose)).search_generation AS no_tag FROM t ORDER BY id;
-- Pairs of rows that are equal: 1 and 6, 3 and 5, and each with itself.
CREATE FUNCTION pairs(condition text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
  answer text;
BEGIN
  EXECUTE format('SELECT string_agg(a.id || ''='' || b.id, '' '' ORDER BY a.id, b.id) FROM t AS a JOIN t AS b ON %s WHERE a.id < b.id', condition) INTO answer;
  RETURN answer;
END $$;
CREATE TYPE one AS (v encrypted_text);
CREATE VIEW conditions AS SELECT * FROM unnest(ARRAY['a.tagged = b.tagged', 'a.loose = b.loose', 'a.tagged = b.loose', 'a.loose = b.tagged',
  'NOT a.tagged <> b.tagged', 'NOT a.loose <> b.loose', 'NOT a.tagged <> b.loose', 'a.tagged IS NOT DISTINCT FROM b.loose', 'a.tagged IN (b.loose, b.tagged)',
  'ARRAY[a.tagged] = ARRAY[b.tagged]', 'ARRAY[a.tagged] = ARRAY[b.loose]', 'ARRAY[a.loose] @> ARRAY[b.loose]', 'ARRAY[a.loose] && ARRAY[b.tagged]',
  'a.tagged = ANY (ARRAY[b.loose])', 'array_position(ARRAY[a.tagged], b.tagged) = 1', 'array_position(ARRAY[a.tagged], b.loose) = 1',
  'ROW(a.tagged, 1) = ROW(b.tagged, 1)', '(ROW(a.tagged, 1)::record = ROW(b.loose, 1)::record) IS TRUE', 'a = a AND ROW(a.loose)::one = ROW(b.tagged)::one', 'nullif(a.tagged, b.loose) IS NULL',
  'CASE a.tagged WHEN b.tagged THEN true ELSE false END', 'hash_array(ARRAY[a.tagged]) = hash_array(ARRAY[b.tagged])', 'hash_array(ARRAY[a.loose]) = hash_array(ARRAY[b.tagged])',
  'encrypted_text_cmp(a.tagged, b.loose) = 0', 'encrypted_text_hash(a.tagged, 7) = encrypted_text_hash(b.loose, 7)']) AS c;
SELECT c, pairs(c) FROM conditions;
SET enable_nestloop = off;
SELECT c, pairs(c) FROM conditions WHERE pairs(c) IS DISTINCT FROM '1=6 3=5';
RESET enable_nestloop;
SET enable_hashjoin = off;
SELECT c, pairs(c) FROM conditions WHERE pairs(c) IS DISTINCT FROM '1=6 3=5';
RESET enable_hashjoin;
-- Grouping: x and y of the one keyset, x and y of the other.
SELECT count(*), min(id), max(id) FROM t GROUP BY tagged ORDER BY 2;
SELECT count(*), min(id), max(id) FROM t GROUP BY loose ORDER BY 2;
SELECT (SELECT count(*) FROM (SELECT DISTINCT tagged FROM t) AS d) AS tagged, (SELECT count(*) FROM (SELECT DISTINCT loose FROM t) AS d) AS loose,
       (SELECT count(*) FROM (SELECT tagged FROM t UNION SELECT loose FROM t) AS d) AS both, (SELECT count(*) FROM (SELECT tagged FROM t WHERE id < 3 INTERSECT SELECT loose FROM t WHERE id BETWEEN 3 AND 5) AS d) AS common,
       (SELECT count(*) FROM (SELECT DISTINCT ARRAY[tagged, loose] FROM t) AS d) AS arrays, (SELECT count(*) FROM (SELECT DISTINCT ROW(loose)::one FROM t) AS d) AS rows;

-- A text is the value that it would be in the keyset of the session, whatever way it comes.
CREATE FUNCTION text_answers() RETURNS TABLE (literal text, text text, reversed text, list text, parameter text, "join" text, hash_join text, "not" text, array_of text) LANGUAGE plpgsql AS $$
DECLARE
  wanted text := 'x';
BEGIN
  SELECT string_agg(id::text, ' ' ORDER BY id) INTO literal FROM t WHERE tagged = 'x' AND loose = 'x';
  SELECT string_agg(id::text, ' ' ORDER BY id) INTO text FROM t WHERE tagged = 'x'::text AND loose = 'x'::varchar;
  SELECT string_agg(id::text, ' ' ORDER BY id) INTO reversed FROM t WHERE 'x'::text = tagged AND 'x'::name = loose;
  SELECT string_agg(id::text, ' ' ORDER BY id) INTO list FROM t WHERE tagged = ANY (ARRAY['x']) AND loose IN ('x', 'z');
  SELECT string_agg(id::text, ' ' ORDER BY id) INTO parameter FROM t WHERE tagged = wanted AND loose = ANY (ARRAY[wanted]);
  SELECT string_agg(a.id || '=' || b.id, ' ' ORDER BY a.id, b.id) INTO "join" FROM t AS a JOIN t AS b ON a.tagged = b.plain AND a.plain = b.loose WHERE a.id <= b.id;
  PERFORM set_config('enable_nestloop', 'off', true);
  SELECT string_agg(a.id || '=' || b.id, ' ' ORDER BY a.id, b.id) INTO hash_join FROM t AS a JOIN t AS b ON b.tagged = a.plain AND b.plain = a.loose WHERE a.id <= b.id;
  SELECT string_agg(id::text, ' ' ORDER BY id) INTO "not" FROM t WHERE tagged <> 'x'::text AND loose <> wanted AND tagged <> 'x';
  SELECT string_agg(id::text, ' ' ORDER BY id) INTO array_of FROM t WHERE ARRAY[tagged] = ARRAY['x']::encrypted_text[];
  RETURN NEXT;
END $$;
\x on
SELECT * FROM text_answers();
SET prism_crypt.keyset = 'other';
SELECT * FROM text_answers();
RESET prism_crypt.keyset;
SELECT * FROM text_answers();
SET prism_crypt.keyset = 'nobody';
CALL regress.fails($$SELECT * FROM t WHERE tagged = 'x'::text$$);
CALL regress.fails($$SELECT * FROM t AS a JOIN t AS b ON a.tagged = b.plain$$);
CALL regress.fails($$SELECT blind_index('x', NULL)$$);
SELECT count(*) FROM t AS a JOIN t AS b ON a.tagged = b.tagged;
RESET prism_crypt.keyset;
\x off
-- SET LOCAL, in the middle of a transaction, and what it is set to in a function.
CREATE FUNCTION in_other(wanted text) RETURNS bigint LANGUAGE sql SET prism_crypt.keyset = 'other' AS $$ SELECT count(*) FROM t WHERE tagged = wanted $$;
BEGIN;
SELECT count(*) FROM t WHERE tagged = 'x'::text;
SET LOCAL prism_crypt.keyset = 'other';
SELECT count(*), min(id) FROM t WHERE tagged = 'x'::text;
SAVEPOINT s;
SET LOCAL prism_crypt.keyset = 'default';
SELECT count(*), min(id) FROM t WHERE tagged = 'x';
ROLLBACK TO s;
SELECT count(*), min(id) FROM t WHERE tagged = 'x';
COMMIT;
SELECT in_other('x'), (SELECT min(id) FROM t WHERE tagged = 'x'), in_other('y'), (SELECT count(*) FROM t WHERE tagged = 'x'::text);

-- Unique in each keyset.
CREATE TABLE u (id int, email encrypted_text('searchable'), EXCLUDE USING hash (email WITH =));
CREATE UNIQUE INDEX u_email ON u (email encrypted_text_unique_ops);
INSERT INTO u SELECT id, tagged FROM t WHERE id IN (1, 3);
CALL regress.fails('INSERT INTO u SELECT id, tagged FROM t WHERE id = 5');
CALL regress.fails('INSERT INTO u SELECT id, loose FROM t WHERE id = 3');
INSERT INTO u VALUES (7, 'x') ON CONFLICT (email) DO UPDATE SET id = 7 RETURNING id;
SET prism_crypt.keyset = 'other';
INSERT INTO u VALUES (8, 'x') ON CONFLICT (email) DO UPDATE SET id = 8 RETURNING id;
RESET prism_crypt.keyset;
SET enable_seqscan = off;
SELECT id, key_version(email) FROM u WHERE email = 'x';
SELECT id, key_version(email) FROM u WHERE email = encrypt_field('x', keyset => 'other');
RESET enable_seqscan;

-- A class or a tag that a column adds stays in the keyset of the value.
CREATE TABLE moved AS SELECT id, loose FROM t WHERE id < 5;
ALTER TABLE moved ALTER loose TYPE encrypted_text('email', 'searchable');
SELECT m.id, t.id FROM moved AS m JOIN t ON m.loose = t.tagged WHERE t.id < 5 ORDER BY 1;
-- Rotations and new index keys of one keyset change nothing in the other one.
SELECT prism_crypt.rotate_key('other');
CALL rotate_batch('t');
SELECT c, pairs(c) FROM conditions WHERE pairs(c) IS DISTINCT FROM '1=6 3=5';
SET client_min_messages = error;
CALL prism_crypt.rotate_index_key('other');
RESET client_min_messages;
SELECT id, (envelope_info(tagged)).search_generation AS tag FROM t ORDER BY id;
SELECT c, pairs(c) FROM conditions WHERE pairs(c) IS DISTINCT FROM '1=6 3=5';
SELECT prism_crypt._replace_index_key('default', NULL);
SELECT c, pairs(c) FROM conditions WHERE pairs(c) IS DISTINCT FROM '1=6 3=5';
SELECT id FROM u WHERE email = 'x';

-- A keyset that is gone: its tags can still be compared with each other, but nothing new with them.
SET client_min_messages = warning;
SELECT prism_crypt.destroy_keyset('other', 'test', true);
RESET client_min_messages;
SELECT count(*) FROM t WHERE tagged = 'x' OR loose = 'x'::text;
SELECT a.id, b.id FROM t AS a JOIN t AS b ON a.tagged = b.tagged WHERE a.id < b.id ORDER BY 1, 2;
SELECT count(*) FROM (SELECT DISTINCT tagged FROM t) AS d;
CALL regress.fails('SELECT count(*) FROM t AS a JOIN t AS b ON a.loose = b.loose');
CALL regress.fails('SELECT count(*) FROM t AS a JOIN t AS b ON a.tagged = b.loose');
CALL regress.fails($$INSERT INTO u VALUES (9, encrypt_field('x', keyset => 'other'))$$);
CALL regress.fails('INSERT INTO u SELECT 9, tagged FROM t WHERE id = 3');
SET prism_crypt.keyset = 'other';
CALL regress.fails($$SELECT * FROM t WHERE tagged = 'x'$$);
CALL regress.fails($$SELECT * FROM t WHERE tagged = id::text$$);
RESET prism_crypt.keyset;
REINDEX TABLE u;
SELECT id FROM u WHERE email = 'x';
