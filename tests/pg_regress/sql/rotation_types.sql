-- Which values rotate_batch() finds in a column: domains, arrays, composites, bytes, keysets, versions.
CALL regress.fresh();
\set SHOW_CONTEXT never
SELECT prism_crypt.create_keyset('tenant'), prism_crypt.create_keyset('other');
CREATE FUNCTION is_active(version int) RETURNS boolean LANGUAGE sql STABLE AS $$ SELECT state = 'active' FROM prism_crypt.key_status AS k WHERE k.version = $1 $$;
CREATE FUNCTION rotate_keys() RETURNS void LANGUAGE sql AS $$ SELECT prism_crypt.rotate_key(), prism_crypt.rotate_key('tenant') $$;

-- Domains, also over domains; their checks hold.
CREATE DOMAIN secret AS encrypted_text CHECK (length(VALUE::text) > 2);
CREATE DOMAIN mail AS encrypted_text('email');
CREATE DOMAIN top_secret AS secret NOT NULL DEFAULT 'nothing said'::text;
CREATE TABLE domains (id int, s secret, m mail, t top_secret, l secret[]);
INSERT INTO domains SELECT n, 'secret ' || n, encrypt_field('mail' || n, class => 'email'), 'top ' || n, ARRAY['list ' || n, NULL]::text[]::encrypted_text[]::secret[] FROM generate_series(1, 5) AS n;
SELECT rotate_keys();
CALL rotate_batch('domains', 's');
SELECT bool_and(is_active(key_version(s))) AS s, bool_or(is_active(key_version(m))) AS m FROM domains;
CALL rotate_batch('domains');
SELECT bool_and(is_active(key_version(k))) AS moved FROM domains, unnest(ARRAY[s, m, t, l[1]]::encrypted_text[]) AS k;
SELECT id, s::text, m::text, t::text, l[1]::text, l[2] IS NULL AS empty, (envelope_info(m)).class FROM domains ORDER BY id;
-- A check that an old value does not meet is the table's business: the error is PostgreSQL's.
ALTER DOMAIN secret ADD CONSTRAINT later CHECK (length(VALUE::text) > 100) NOT VALID;
SELECT rotate_keys();
CALL rotate_batch('domains', 's');
\echo :SQLSTATE
SELECT target, state, error FROM prism_crypt.progress WHERE state = 'failed';
ALTER DOMAIN secret DROP CONSTRAINT later;
CALL rotate_batch('domains', 's');
SELECT target, state, error FROM prism_crypt.progress WHERE target = 'public.domains.s' ORDER BY id;

-- Arrays: NULL elements, several dimensions, other lower bounds, only some elements due.
CREATE TABLE arrays (id int, a encrypted_text[]);
INSERT INTO arrays VALUES
  (1, ARRAY[encrypt_field('one'), NULL, encrypt_field('two')]),
  (2, ARRAY[[encrypt_field('a'), encrypt_field('b')], [NULL, encrypt_field('d')]]),
  (3, '{}'), (4, NULL), (5, ARRAY[NULL, NULL]::encrypted_text[]), (6, ARRAY[encrypt_field('of tenant', keyset => 'tenant'), encrypt_field('of default')]),
  (8, ARRAY[encrypt_field(repeat('long', 5000)), encrypt_field('')]);
INSERT INTO arrays SELECT 7, a FROM (SELECT array_agg(encrypt_field('n' || n)) AS a FROM generate_series(1, 100) AS n) AS x;
UPDATE arrays SET a[5] = encrypt_field('far away') WHERE id = 3;
SELECT id, array_dims(a) FROM arrays WHERE id = 3;
CREATE TEMP TABLE before AS SELECT id, array_dims(a) AS dims, a::text[] AS texts FROM arrays;
SELECT prism_crypt.rotate_key('tenant') IS NOT NULL;
CALL rotate_batch('arrays', 'a');
SELECT prism_crypt.rotate_key() IS NOT NULL;
UPDATE arrays SET a[2] = encrypt_field('of default') WHERE id = 6;
CREATE TEMP TABLE forms AS SELECT id, encrypted_text_out(a[1])::text AS first, encrypted_text_out(a[2])::text AS second FROM arrays WHERE id IN (1, 6);
CALL rotate_batch('arrays', 'a', 3);
SELECT id, dims = array_dims(a) AS dims, cardinality(a), (SELECT bool_and(is_active(key_version(k))) FROM unnest(a) AS k) AS moved, (SELECT array_agg(k::text) FROM unnest(a) AS k) IS NOT DISTINCT FROM (SELECT array_agg(k) FROM unnest(texts) AS k) AS same
FROM arrays LEFT JOIN before USING (id) ORDER BY id;
-- What was not due is not sealed anew.
SELECT id, first = encrypted_text_out(a[1])::text AS same_first, second = encrypted_text_out(a[2])::text AS same_second FROM forms JOIN arrays USING (id) ORDER BY id;
CALL rotate_batch('arrays');

-- Composite types, nested in each other, in arrays, in domains, and the row type of a table.
CREATE TYPE inner_type AS (n int, v encrypted_text, e encrypted_text('email'));
CREATE TYPE outer_type AS (i inner_type, list inner_type[], x text);
CREATE TABLE row_type (id int, v encrypted_text);
CREATE DOMAIN checked AS inner_type CHECK ((VALUE).n > 0);
CREATE TABLE composites (id int, i inner_type, o outer_type, r row_type, c checked, l checked[]);
INSERT INTO composites SELECT n, ROW(1, 'inner'::text, encrypt_field('mail', class => 'email'))::inner_type,
  ROW(ROW(1, 'a'::text, NULL)::inner_type, ARRAY[ROW(2, 'b'::text, NULL)::inner_type, NULL], 'x')::outer_type, ROW(1, 'of a row'::text)::row_type,
  ROW(7, 'checked'::text, NULL)::inner_type::checked, ARRAY[ROW(8, 'in a list'::text, NULL)::inner_type::checked] FROM generate_series(1, 3) AS n;
INSERT INTO composites VALUES (4, NULL, NULL, NULL, NULL, NULL), (5, ROW(1, NULL, NULL), ROW(NULL, NULL, NULL), NULL, NULL, '{}');
SELECT rotate_keys();
CALL rotate_batch('composites', 'o');
SELECT id, is_active(key_version(((o).i).v)) AS o, is_active(key_version(((o).list[1]).v)) AS list, is_active(key_version((i).v)) AS i FROM composites ORDER BY id;
CALL rotate_batch('composites');
SELECT id, is_active(key_version((i).v)) AS i, is_active(key_version((i).e)) AS e, is_active(key_version((r).v)) AS r, is_active(key_version((c).v)) AS c, is_active(key_version((l[1]).v)) AS l FROM composites ORDER BY id;
SELECT id, (i).v::text AS i, (SELECT class FROM envelope_info((i).e)) AS class, ((o).i).v::text AS o, ((o).list[1]).v::text AS list, cardinality((o).list), (r).v::text AS r, (c).v::text AS c, (l[1]).v::text AS l, i IS NULL AS no_i, l IS NULL AS no_l
FROM composites ORDER BY id;
CALL rotate_batch('composites');
-- A composite type that lost an attribute, and got another.
ALTER TYPE inner_type DROP ATTRIBUTE e CASCADE;
ALTER TYPE inner_type ADD ATTRIBUTE later encrypted_text CASCADE;
UPDATE composites SET i.later = 'later' WHERE id = 1;
SELECT rotate_keys();
CALL rotate_batch('composites', 'i');
SELECT id, is_active(key_version((i).v)) AS v, is_active(key_version((i).later)) AS later, (i).v::text, (i).later::text FROM composites ORDER BY id;

-- Types with a class: the class stays.
CREATE TABLE classes (id int, e encrypted_text('email'), h encrypted_text('health'), n encrypted_text);
INSERT INTO classes VALUES (1, encrypt_field('a@example.org'), encrypt_field('well'), encrypt_field('bound', 'context', class => 'personal'));
SELECT rotate_keys();
CALL rotate_batch('classes');
SELECT (envelope_info(e)).class, (envelope_info(h)).class, (envelope_info(n)).class, decrypt_field(n, 'context'), is_active(key_version(e)) AND is_active(key_version(h)) AND is_active(key_version(n)) AS moved FROM classes;

-- Bytes only when they are named; what is no envelope stays as it is.
CREATE DOMAIN blob AS bytea;
CREATE TABLE blobs (id int, b bytea, d blob, v encrypted_text);
INSERT INTO blobs VALUES (1, encrypt_bytes('\x01', 'row 1', 'tenant', 'financial'), encrypt_bytes('\x11'), 'text'), (2, encrypt_bytes('\x02'), '\x', NULL), (3, NULL, NULL, NULL),
  (4, '\x', NULL, NULL), (5, '\x01', NULL, NULL), (6, 'plain bytes that are no envelope of anybody', NULL, NULL), (7, decode(repeat('01', 100), 'hex'), NULL, NULL), (8, encrypt_bytes(decode(repeat('ab', 50000), 'hex')), NULL, NULL);
INSERT INTO blobs SELECT 9, encrypted_text_send(encrypt_field('text in bytes'));
CREATE TEMP TABLE foreign_bytes AS SELECT id, b FROM blobs WHERE id BETWEEN 4 AND 7;
SELECT rotate_keys();
CALL rotate_batch('blobs');
SELECT is_active(key_version(v)) AS v, is_active(key_version(b)) AS b FROM blobs WHERE id = 1;
CALL rotate_batch('blobs', 'b');
SELECT id, is_active(key_version(b)) AS moved, (envelope_info(b)).class, (envelope_info(b)).has_context, CASE WHEN id < 8 THEN decrypt_bytes(b, CASE id WHEN 1 THEN 'row 1' END) END AS bytes, length(b) FROM blobs WHERE id IN (1, 2, 8, 9) ORDER BY id;
SELECT id, blobs.b = foreign_bytes.b AS same FROM blobs JOIN foreign_bytes USING (id) ORDER BY id;
SELECT decrypt_bytes(b) = decode(repeat('ab', 50000), 'hex') AS same FROM blobs WHERE id = 8;
CALL rotate_batch('blobs', 'd');
SELECT id, is_active(key_version(d)) AS moved FROM blobs WHERE id = 1;
CALL rotate_batch('blobs', 'b');
-- What is assigned to a domain over bytea is checked.
CREATE DOMAIN long_bytes AS bytea CHECK (length(VALUE) > 10);
CREATE TABLE checked_blobs (d long_bytes);
INSERT INTO checked_blobs VALUES (encrypt_bytes('\x01'));
ALTER DOMAIN long_bytes ADD CHECK (NOT is_active(key_version(VALUE))) NOT VALID;
SELECT rotate_keys();
CALL rotate_batch('checked_blobs', 'd');
\echo :SQLSTATE
-- Arrays of bytes are no place that encrypt_bytes() is known to fill.
CREATE TABLE blob_arrays (b bytea[]);
CALL rotate_batch('blob_arrays', 'b');
\echo :SQLSTATE

-- One keyset, one version; what belongs to neither stays.
CREATE TABLE scoped (id int, v encrypted_text, list encrypted_text[]);
CREATE VIEW scopes AS SELECT keyset, key_version(v) AS version, state, count(*) FROM scoped JOIN prism_crypt.key_status ON version = key_version(v) GROUP BY 1, 2, 3;
INSERT INTO scoped SELECT n, encrypt_field('first'), ARRAY[encrypt_field('first'), encrypt_field('tenant', keyset => 'tenant')] FROM generate_series(1, 3) AS n;
INSERT INTO scoped SELECT n, encrypt_field('tenant', keyset => 'tenant') FROM generate_series(4, 6) AS n;
SELECT rotate_keys();
INSERT INTO scoped SELECT n, encrypt_field('second') FROM generate_series(7, 8) AS n;
INSERT INTO scoped SELECT n, encrypt_field('other', keyset => 'other') FROM generate_series(9, 10) AS n;
SELECT rotate_keys();
SELECT min(key_version(v)) FILTER (WHERE v::text = 'first') AS oldest, max(key_version(v)) FILTER (WHERE v::text = 'second') AS second FROM scoped \gset
SELECT * FROM scopes ORDER BY 1, 2;
CALL rotate_batch('scoped', 'v', from_version => :second);
SELECT * FROM scopes ORDER BY 1, 2;
CALL rotate_batch('scoped', 'v', from_version => :second, keyset => 'tenant');
CALL rotate_batch('scoped', keyset => 'tenant');
SELECT * FROM scopes ORDER BY 1, 2;
-- Also inside of arrays.
SELECT is_active(key_version(list[1])) AS default, is_active(key_version(list[2])) AS tenant, count(*) FROM scoped WHERE list IS NOT NULL GROUP BY 1, 2;
CALL rotate_batch('scoped', 'list', from_version => :oldest);
SELECT is_active(key_version(list[1])) AS default, is_active(key_version(list[2])) AS tenant, count(*) FROM scoped WHERE list IS NOT NULL GROUP BY 1, 2;
CALL rotate_batch('scoped', 'v', keyset => 'other');
CALL rotate_batch('scoped');
SELECT * FROM scopes ORDER BY 1, 2;
SELECT prism_crypt.disable_key(:oldest);
CALL rotate_batch('scoped', from_version => :oldest);
