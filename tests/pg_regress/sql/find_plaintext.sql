-- prism_crypt.find_plaintext(): columns that look like personal data, and are not encrypted. How good it is at that: tests/scenarios/test_find_plaintext.py.
CALL regress.fresh();
\set SHOW_CONTEXT never
SELECT * FROM prism_crypt.find_plaintext();

-- Every type that values are read of, out of line and compressed, too; arrays, domains, documents, bytes.
CREATE SCHEMA shop;
CREATE EXTENSION citext SCHEMA shop;
CREATE DOMAIN shop.mail AS text CHECK (VALUE LIKE '%@%');
CREATE DOMAIN shop.numbers AS int8[] CHECK (cardinality(VALUE) < 9);
CREATE TABLE shop.types (id int, dropped text, a text, b varchar(99), c char(40), d name, e shop.citext, f shop.mail, g text[], h shop.mail[], i json, j jsonb, k bytea, l bytea[], m jsonb[],
  pan int8, card_number numeric, n shop.numbers, o numeric[], birthday date, dob timestamptz, birthdays date[], birthdate text, long text, long_document jsonb, "nothing" text, other uuid);
ALTER TABLE shop.types DROP dropped;
INSERT INTO shop.types SELECT n, 'anna@example.org', 'anna@example.org', 'anna@example.org', 'anna@example.org', 'anna@example.org', 'anna@example.org', ARRAY[NULL, 'anna@example.org'], ARRAY[['anna@example.org'], ['x@y.org']],
  '{"a": [{"b": "anna@example.org"}]}', '["anna@example.org"]', convert_to('anna@example.org', 'UTF8'), ARRAY[convert_to('anna@example.org', 'UTF8'), NULL, '\x00'], ARRAY['"anna@example.org"'::jsonb],
  4111111111111111, 4111111111111111, ARRAY[4111111111111111, NULL], ARRAY[5555555555554444], '1985-12-10', 'infinity', ARRAY['1985-12-10'::date, '-infinity'], '10.12.1985',
  repeat('Write to anna@example.org. ', 9999), jsonb_build_object('text', repeat(md5(n::text), 500), 'iban', 'DE89370400440532013000'), NULL, NULL FROM generate_series(1, 3) AS n;
ALTER TABLE shop.types ALTER long SET STORAGE EXTERNAL;
INSERT INTO shop.types (long, dob) VALUES (repeat('Write to anna@example.org. ', 9999), '1985-12-10');
SELECT column_name, class, matches, sampled, confidence, note FROM prism_crypt.find_plaintext();

-- Tax numbers and the rest, by their check digits or the name; ciphertext of others, and ours where it is just text.
CREATE TABLE shop.forms (col1 text, col2 text, col3 text, col4 text, col5 text, col6 text, telefono text, note text, token text, blob bytea, sealed bytea, kept encrypted_text, email bytea, half bytea, stored text, keys jsonb, wage numeric, diagnosi text);
INSERT INTO shop.forms SELECT 'RSSMRA85T10A562S', 'DE89 3704 0044 0532 0130 00', '123-45-6789', '+39 06 1234567', '529.982.247-25', '4111 1111 1111 1111', '06 1234567', 'IBAN DE89370400440532013000, thanks',
  'gAAAAAAdwJ6wAAECAwQFBgcICQoLDA0ODy021cpGVWKZ_eEwCGM4BLLF_5CV9dOPmrhuVUPgJobwOz7JcbmrR64jVmpU4IwqDA==', decode('c30d04070302010203040506070860d23501' || repeat('07', 52), 'hex'), encrypt_bytes('\x01'), 'anna@example.org',
  encrypt_bytes(convert_to('anna@example.org', 'UTF8')), CASE WHEN n < 3 THEN encrypt_bytes('\x01') ELSE convert_to('anna@example.org', 'UTF8') END, encrypted_text_out(encrypt_field('x'))::text, '{"anna@example.org": {"n": 1}}', 900, 'x' FROM generate_series(1, 4) AS n;
SELECT column_name, class, matches, sampled, confidence, note FROM prism_crypt.find_plaintext() WHERE relation = 'shop.forms'::regclass;
-- Not a value is shown.
SELECT count(*) FROM prism_crypt.find_plaintext() AS f WHERE f::text ~ 'anna|example|411|RSSMRA|1985|DE89|gAAA';

-- No rows, no values that contradict it, or some.
CREATE TABLE shop.empty (email text, name text, pan text);
CREATE TABLE shop.contradicted (email text, phone text, birthday text, vorname text);
INSERT INTO shop.contradicted SELECT 'yes', 'x', 'soon', 'a_' || n FROM generate_series(1, 9) AS n;
SELECT relation, column_name, class, matches, sampled, confidence, note FROM prism_crypt.find_plaintext() WHERE relation IN ('shop.empty'::regclass, 'shop.contradicted'::regclass);

-- A partitioned table is one table, whatever the order of columns in its partitions. Materialized views, views, children, foreign tables.
CREATE SCHEMA parts;
CREATE TABLE parts.p (id int, mail text) PARTITION BY LIST (id);
CREATE TABLE parts.p1 (gone int, mail text, id int);
ALTER TABLE parts.p1 DROP gone;
ALTER TABLE parts.p ATTACH PARTITION parts.p1 FOR VALUES IN (1);
CREATE TABLE parts.p2 PARTITION OF parts.p FOR VALUES IN (2, 3) PARTITION BY LIST (id);
CREATE TABLE parts.p2a PARTITION OF parts.p2 FOR VALUES IN (2);
INSERT INTO parts.p SELECT n % 2 + 1, 'a' || n || '@example.org' FROM generate_series(1, 100) AS n;
CREATE TABLE parts.parent (mail text);
CREATE TABLE parts.child () INHERITS (parts.parent);
INSERT INTO parts.child VALUES ('a@example.org');
CREATE MATERIALIZED VIEW parts.m AS SELECT mail FROM parts.p LIMIT 5;
CREATE MATERIALIZED VIEW parts.unpopulated AS SELECT mail FROM parts.p WITH NO DATA;
CREATE VIEW parts.v AS SELECT mail FROM parts.p;
CREATE TEMP TABLE own (mail text);
SELECT relation, column_name, class, matches, sampled, confidence FROM prism_crypt.find_plaintext('parts') ORDER BY relation::text COLLATE "C";
SELECT relation, sampled BETWEEN 10 AND 12 AS sampled FROM prism_crypt.find_plaintext('part_', 10) WHERE relation = 'parts.p'::regclass;
SELECT sampled FROM prism_crypt.find_plaintext('parts', 1) WHERE relation = 'parts.parent'::regclass;
SELECT count(*) FROM prism_crypt.find_plaintext('pg_temp%');
SELECT count(*) FROM prism_crypt.find_plaintext('none');
SELECT count(*) FROM prism_crypt.find_plaintext('prism_crypt');
CALL regress.fails('SELECT prism_crypt.find_plaintext(NULL, 0)');
CALL regress.fails('SELECT prism_crypt.find_plaintext(NULL, NULL)');
CALL regress.fails('SELECT prism_crypt.find_plaintext(NULL, 1000001)');
CALL regress.fails($$SELECT prism_crypt.find_plaintext('\')$$);

-- With the caller's rights, column by column; tables with row-level security are named, and nothing else.
CREATE ROLE find_auditor;
CREATE ROLE find_owner;
CREATE SCHEMA audit AUTHORIZATION find_owner;
SET ROLE find_owner;
CREATE TABLE audit.some (mail text, telefono text);
CREATE TABLE audit.none (mail text);
CREATE TABLE audit.secured (mail text);
ALTER TABLE audit.secured ENABLE ROW LEVEL SECURITY;
CREATE TABLE audit.parted (mail text) PARTITION BY LIST (mail);
CREATE TABLE audit.part PARTITION OF audit.parted DEFAULT;
INSERT INTO audit.some VALUES ('a@example.org', '06 123456');
INSERT INTO audit.parted VALUES ('a@example.org');
GRANT USAGE ON SCHEMA audit TO find_auditor;
GRANT SELECT (mail) ON audit.some TO find_auditor;
GRANT SELECT ON audit.secured, audit.parted TO find_auditor;
RESET ROLE;
SET ROLE find_auditor;
CALL regress.fails('SELECT prism_crypt.find_plaintext()');
RESET ROLE;
SELECT prism_crypt.grant_access('find_auditor', 'monitor');
SET ROLE find_auditor;
SELECT relation, column_name, class, matches, sampled, confidence, note FROM prism_crypt.find_plaintext();
-- The helper checks it, too.
CALL regress.fails($$SELECT prism_crypt._find_plaintext_in('audit.secured'::regclass, 10)$$);
CALL regress.fails($$SELECT prism_crypt._find_plaintext_in(c.oid, 10) FROM pg_class AS c WHERE c.relname = 'forms'$$);
CALL regress.fails($$SELECT prism_crypt._find_plaintext_in(1, 10)$$);
CALL regress.fails($$SELECT prism_crypt._find_plaintext_in('audit.some'::regclass, -1)$$);
CALL regress.fails($$SELECT prism_crypt._find_plaintext_in('audit.none'::regclass, 10)$$);
SELECT column_number FROM prism_crypt._find_plaintext_in('audit.some'::regclass, 10);
RESET ROLE;
REVOKE USAGE ON SCHEMA audit FROM find_auditor;
SET ROLE find_auditor;
SELECT count(*) FROM prism_crypt.find_plaintext();
CALL regress.fails($$SELECT prism_crypt._find_plaintext_in(c.oid, 10) FROM pg_class AS c WHERE c.relname = 'some'$$);
RESET ROLE;

-- Nothing of a table's owner runs: functions in indexes, constraints, policies, generated columns, types.
SET ROLE find_owner;
CREATE FUNCTION audit.run(v text) RETURNS boolean IMMUTABLE LANGUAGE plpgsql AS $$ BEGIN RAISE WARNING '% runs the owner''s code', CURRENT_USER; RETURN true; END $$;
SET client_min_messages = error;
CREATE DOMAIN audit.checked AS text CHECK (audit.run(VALUE));
CREATE TABLE audit.trap (mail text CHECK (audit.run(mail)), generated boolean GENERATED ALWAYS AS (audit.run(mail)) STORED, c audit.checked, l audit.checked[]);
CREATE INDEX ON audit.trap (audit.run('x'), mail) WHERE audit.run(mail);
CREATE STATISTICS audit.s ON (audit.run(mail)), mail FROM audit.trap;
CREATE POLICY p ON audit.trap USING (audit.run(mail));
INSERT INTO audit.trap (mail, c, l) VALUES ('a@example.org', 'a@example.org', ARRAY['a@example.org']);
RESET client_min_messages;
SELECT count(*) FROM audit.trap WHERE audit.run('x');
RESET ROLE;
SELECT relation, column_name, class, matches, sampled, confidence FROM prism_crypt.find_plaintext('audit') WHERE relation = 'audit.trap'::regclass;

-- No lock is left, and no setting.
BEGIN;
SELECT count(*) > 0 AS found FROM prism_crypt.find_plaintext();
SELECT count(*) FROM pg_locks WHERE pid = pg_backend_pid() AND relation IN (SELECT c.oid FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace WHERE n.nspname IN ('shop', 'parts', 'audit'));
SHOW lock_timeout;
COMMIT;
SET default_transaction_read_only = on;
SELECT count(*) > 0 AS found FROM prism_crypt.find_plaintext();
RESET default_transaction_read_only;
SET client_min_messages = warning;
DROP SCHEMA shop, parts, audit CASCADE;
SELECT prism_crypt.revoke_access('find_auditor', 'monitor');
DROP ROLE find_auditor, find_owner;
