-- Blind indexes: keyed hashes for a column of its own.
CALL regress.fresh();
SELECT pg_typeof(blind_index('x', NULL)), length(blind_index('x', NULL)), provolatile, proparallel, proisstrict FROM pg_proc WHERE proname = 'blind_index';
-- The same value and context give the same bytes, and nothing else does.
SELECT blind_index('a@b.c', 'users.email') = blind_index('a@b.c', 'users.email') AS same, blind_index('a@b.c', 'users.email') = blind_index('A@b.c', 'users.email') AS other_value,
       blind_index('a@b.c', 'users.email') = blind_index('a@b.c', 'users.mail') AS other_context, blind_index('a@b.c', '') = blind_index('a@b.c', NULL) AS empty_context;
SELECT count(*), count(DISTINCT b) FROM (SELECT blind_index(v, c) FROM unnest(ARRAY['', ' ', 'a', 'ab', 'a ', 'ä', 'b', U&'a\0308', repeat('x', 9000), repeat('x', 9001)]) AS v, unnest(ARRAY[NULL, '', 'a', 'ab', 'b', 'ä']) AS c) AS r (b);
-- Value and context can't be shifted into each other.
SELECT blind_index('ab', 'c') = blind_index('b', 'ca') AS shifted, blind_index('ab', 'c') = blind_index('a', 'bc') AS shifted_back, blind_index('', 'abc') = blind_index('abc', '') AS swapped;
SELECT blind_index(NULL, 'c'), blind_index(NULL, NULL), blind_index(NULL, 'c', 8);
-- Named arguments.
SELECT blind_index(value => 'x', context => 'c', bits => 16) = blind_index('x', 'c', 16) AS same;

-- Bits: a shorter one is the beginning of a longer one, with zeros in what is left of the last byte.
SELECT bits, length(blind_index('x', 'c', bits)) FROM unnest(ARRAY[1, 7, 8, 9, 12, 16, 127, 128, 129, 255, 256]) AS bits;
SELECT count(*) AS all_bits, bool_and(length(b) = (bits + 7) / 8) AS lengths, bool_and(left(full_bits, bits) = left(own_bits, bits)) AS prefix, bool_and(ltrim(substr(own_bits, bits + 1), '0') = '') AS rest_is_zero
FROM generate_series(1, 256) AS bits, LATERAL (SELECT blind_index('x', 'c', bits), blind_index('x', 'c', 256)) AS r (b, whole),
     LATERAL (SELECT string_agg(get_byte(b, i)::bit(8)::text, '' ORDER BY i) FROM generate_series(0, length(b) - 1) AS i) AS o (own_bits),
     LATERAL (SELECT string_agg(get_byte(whole, i)::bit(8)::text, '' ORDER BY i) FROM generate_series(0, 31) AS i) AS f (full_bits);
SELECT blind_index('x', 'c') = blind_index('x', 'c', 128) AS default_bits;
-- Few bits say little: all values come, evenly enough.
SELECT count(*), min(n) > 20 AS evenly FROM (SELECT count(*) AS n FROM generate_series(1, 1000) AS v GROUP BY blind_index(v::text, 'c', 4)) AS g;
SELECT count(*) FROM (SELECT DISTINCT blind_index(v::text, 'c', 1) FROM generate_series(1, 100) AS v) AS d;
CALL regress.fails($$SELECT blind_index('x', 'c', 0)$$);
CALL regress.fails($$SELECT blind_index('x', 'c', -1)$$);
CALL regress.fails($$SELECT blind_index('x', 'c', 257)$$);
CALL regress.fails($$SELECT blind_index('x', 'c', 2147483647)$$);
CALL regress.fails($$SELECT blind_index('x', 'c', NULL)$$);
CALL regress.fails($$SELECT blind_index('x')$$);
CALL regress.fails($$SELECT blind_index('x'::bytea, 'c')$$);

-- A column of its own, with an index. It follows the plaintext, not the ciphertext.
CREATE TABLE cards (id int, number encrypted_text('financial'), last4 bytea, ci bytea);
INSERT INTO cards SELECT n, v, blind_index(right(v, 4), 'last4', 12), blind_index(lower(v), 'ci') FROM (SELECT n, 'Card ' || 1000 + n FROM generate_series(1, 200) AS n) AS r (n, v);
CREATE INDEX cards_last4 ON cards (last4);
CREATE UNIQUE INDEX cards_ci ON cards (ci);
SET enable_seqscan = off;
SET enable_bitmapscan = off;
-- What a plan shows of constants is what the index holds.
SELECT regexp_replace(p, '\\x[0-9a-f]{32}', 'hash') AS plan FROM regress.plan($$SELECT id FROM cards WHERE ci = blind_index(lower('CARD 1007'), 'ci')$$) AS p;
SELECT regexp_replace(p, '\\x[0-9a-f]{4}', 'hash') AS plan FROM regress.plan($$SELECT id FROM cards WHERE last4 = blind_index('1007', 'last4', 12)$$) AS p;
SELECT id FROM cards WHERE ci = blind_index(lower('CARD 1007'), 'ci');
SELECT id FROM cards WHERE last4 = blind_index('1007', 'last4', 12) AND right(number::text, 4) = '1007';
INSERT INTO cards VALUES (201, 'CARD 1007', NULL, blind_index(lower('CARD 1007'), 'ci')) ON CONFLICT (ci) DO UPDATE SET id = cards.id + 1000 RETURNING id;
SELECT prism_crypt.rotate_key();
CALL rotate_batch('cards');
SELECT id FROM cards WHERE ci = blind_index(lower('card 1008'), 'ci');
-- Written by a trigger; not by a generated column or an index expression, as it depends on the session.
CALL regress.fails($$ALTER TABLE cards ADD g bytea GENERATED ALWAYS AS (blind_index(ci::text, 'ci')) STORED$$);
CALL regress.fails($$CREATE INDEX ON cards (blind_index(id::text, 'ci'))$$);
CREATE FUNCTION set_ci() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN NEW.ci := blind_index(lower(NEW.number), 'ci'); RETURN NEW; END $$;
CREATE TRIGGER set_ci BEFORE INSERT OR UPDATE OF number ON cards FOR EACH ROW EXECUTE FUNCTION set_ci();
INSERT INTO cards (id, number) VALUES (300, 'Card 300');
SELECT id FROM cards WHERE ci = blind_index('card 300', 'ci');
RESET enable_seqscan;
RESET enable_bitmapscan;

-- By keyset and index key; a master key changes nothing.
SELECT prism_crypt.create_keyset('other');
CREATE TABLE seen (what text, b bytea);
INSERT INTO seen VALUES ('default', blind_index('x', 'c'));
SET prism_crypt.keyset = 'other';
INSERT INTO seen VALUES ('other', blind_index('x', 'c'));
RESET prism_crypt.keyset;
SET prism_crypt.master_key_command = 'echo $PRISM_TEST_KEY_NEXT; echo $PRISM_TEST_KEY_MAIN';
SELECT prism_crypt.rotate_master_key();
INSERT INTO seen VALUES ('default, another master key', blind_index('x', 'c'));
SET prism_crypt.master_key_env = 'PRISM_TEST_KEY_NEXT';
RESET prism_crypt.master_key_command;
INSERT INTO seen VALUES ('default, only that master key', blind_index('x', 'c'));
SELECT prism_crypt.rotate_key() IS NOT NULL AS rotated;
INSERT INTO seen VALUES ('default, another data key', blind_index('x', 'c'));
PREPARE is_default(text) AS SELECT blind_index('x', 'c') = b AS constant, blind_index($1, 'c') = b AS parameter FROM seen WHERE what = 'default';
EXECUTE is_default('x');
SELECT prism_crypt._replace_index_key('default', NULL) IS NOT NULL AS replaced;
EXECUTE is_default('x');
INSERT INTO seen VALUES ('default, another index key', blind_index('x', 'c'));
SET prism_crypt.keyset = 'other';
INSERT INTO seen VALUES ('other, after that', blind_index('x', 'c'));
SELECT s.what, o.what AS same_as FROM seen AS s LEFT JOIN LATERAL (SELECT f.what FROM seen AS f WHERE f.b = s.b LIMIT 1) AS o ON true;
-- In a function, a prepared statement, a view: by the keyset of the moment.
PREPARE b AS SELECT (SELECT what FROM seen WHERE b = blind_index('x', 'c') LIMIT 1);
EXECUTE b;
RESET prism_crypt.keyset;
EXECUTE b;
SET client_min_messages = error;
SELECT prism_crypt.destroy_keyset('other', 'test', true);
RESET client_min_messages;
SET prism_crypt.keyset = 'other';
CALL regress.fails($$SELECT blind_index('x', 'c')$$);
RESET prism_crypt.keyset;
SET prism_crypt.master_key_env = '';
CALL regress.fails($$SELECT blind_index('x', 'c')$$);
RESET prism_crypt.master_key_env;
