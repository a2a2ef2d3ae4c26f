-- ALTER TYPE away from encrypted_text.
CALL regress.fresh();
CREATE DOMAIN secret AS encrypted_text('email');
CREATE TYPE pair AS (n int, v encrypted_text);
CREATE TABLE t (id int, v encrypted_text, d secret, a encrypted_text[], p pair, n int);
INSERT INTO t VALUES (1, 'one', 'one@example.org', '{one}', ROW(1, 'one'), 1);

-- Not without saying that values are to be decrypted.
CALL regress.fails('ALTER TABLE t ALTER v TYPE text');
CALL regress.fails('ALTER TABLE t ALTER COLUMN v SET DATA TYPE varchar(20)');
CALL regress.fails('ALTER TABLE t ALTER v TYPE bytea');
CALL regress.fails('ALTER TABLE t ALTER d TYPE text');
CALL regress.fails('ALTER TABLE t ALTER a TYPE text[]');
CALL regress.fails('ALTER TABLE t ALTER a TYPE text');
CALL regress.fails('ALTER TABLE t ALTER p TYPE text');
CALL regress.fails('ALTER TABLE ONLY public.t ALTER n TYPE bigint, ALTER v TYPE text');
CALL regress.fails('ALTER TABLE IF EXISTS t ALTER v TYPE text USING v::text, ALTER d TYPE text');
CALL regress.fails($$DO 'BEGIN ALTER TABLE t ALTER v TYPE text; END'$$);
CREATE FUNCTION change() RETURNS void LANGUAGE sql AS 'ALTER TABLE t ALTER v TYPE text';
CALL regress.fails('SELECT change()');
-- Partitions and children are changed by their parents.
CREATE TABLE parted (k int, v encrypted_text) PARTITION BY LIST (k);
CREATE TABLE part PARTITION OF parted FOR VALUES IN (1);
CREATE TABLE parent (v encrypted_text);
CREATE TABLE child (w encrypted_text) INHERITS (parent);
CALL regress.fails('ALTER TABLE parted ALTER v TYPE text');
CALL regress.fails('ALTER TABLE parent ALTER v TYPE text');
CALL regress.fails('ALTER TABLE child ALTER w TYPE text');
ALTER TABLE parted ALTER v TYPE text USING v::text;
ALTER TABLE parent ALTER v TYPE text USING v::text;
-- A composite type takes the tables that are of it along.
CREATE TYPE person AS (id int, name encrypted_text);
CREATE TABLE people OF person;
INSERT INTO people VALUES (1, 'Ada');
CALL regress.fails('ALTER TYPE person ALTER ATTRIBUTE name TYPE text CASCADE');
CALL regress.fails('ALTER TYPE person ALTER ATTRIBUTE name TYPE text');
DROP TABLE people;
ALTER TYPE person ALTER ATTRIBUTE name TYPE text;
-- Everything else is as ever.
ALTER TABLE t ALTER v TYPE secret, ALTER n TYPE bigint, ALTER d TYPE encrypted_text;
ALTER TABLE t ALTER v TYPE encrypted_text;
CALL regress.fails('ALTER TABLE t ALTER no_column TYPE text');
CALL regress.fails('ALTER TABLE t ALTER v TYPE no_type');
CALL regress.fails('ALTER TABLE no_table ALTER v TYPE text');
ALTER TABLE IF EXISTS no_table ALTER v TYPE text;
SELECT prism_crypt.grant_access('regress_prism_loader', 'decrypt');
GRANT CREATE ON SCHEMA public TO regress_prism_app;
ALTER TABLE t OWNER TO regress_prism_app;
SET ROLE regress_prism_app;
CALL regress.fails('ALTER TABLE t ALTER v TYPE text');
CALL regress.fails('ALTER TABLE t ALTER v TYPE text USING v::text');
RESET ROLE;

-- What stays encrypted, where values are decrypted.
CREATE TABLE d (id int, v encrypted_text DEFAULT 'sealed', w encrypted_text DEFAULT 'other', x text DEFAULT 'x',
  CONSTRAINT not_bad CHECK (v <> 'bad'), CONSTRAINT not_worse CHECK (w <> 'worse'), CHECK (length(v) < 100));
CREATE TABLE d_child () INHERITS (d);
INSERT INTO d (id) VALUES (1);
ALTER TABLE d ALTER v TYPE text USING v::text, ALTER x TYPE varchar;
SELECT pg_get_expr(adbin, adrelid) ~ '^''prism:v1:' AS sealed FROM pg_attrdef WHERE adrelid = 'd'::regclass AND adnum = 2;
-- It works for those who may decrypt.
INSERT INTO d (id) VALUES (2);
SELECT id, v FROM d ORDER BY id;
ALTER TABLE d ALTER v SET DEFAULT 'sealed', DROP CONSTRAINT not_bad, ADD CONSTRAINT not_bad CHECK (v <> 'bad');
CALL regress.fails($$INSERT INTO d (id, v) VALUES (3, 'bad')$$);
INSERT INTO d (id) VALUES (3);
-- Nothing to warn of: the default was cleared in the same statement.
ALTER TABLE d ALTER w DROP DEFAULT, DROP CONSTRAINT not_worse, ALTER w TYPE text USING w::text;
-- A default that was plaintext all the while.
CREATE TABLE e (v encrypted_text DEFAULT 'text'::text);
ALTER TABLE e ALTER v TYPE text USING v::text;
