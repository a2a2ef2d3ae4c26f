-- Where ciphertext is, by key version. Counted without any key, and without running anything of the tables' owners.
CALL regress.fresh();
CREATE DOMAIN email AS encrypted_text('email');
CREATE DOMAIN emails AS email[] CHECK (cardinality(VALUE) < 4);
CREATE TYPE contact AS (id int, gone encrypted_text, name encrypted_text, mails emails, scan bytea);
CREATE DOMAIN known_contact AS contact CHECK ((VALUE).id <> 0);

-- Columns of every shape, names that need quotes, nulls, empty arrays, more dimensions.
CREATE SCHEMA "odd ""schema";
CREATE TABLE "odd ""schema"."T.1" (dropped encrypted_text, "a ""column" encrypted_text, mail email, list encrypted_text[], c contact, k known_contact,
  cs contact[], deep known_contact[], bytes bytea, byte_list bytea[]);
INSERT INTO "odd ""schema"."T.1" VALUES ('x', 'x', 'a@b.c', '[0:1][2:3]={{a,NULL},{b,c}}', ROW(1, 'x', 'x', '{d,e}', '\x00'), ROW(1, 'x', NULL, '{NULL,f}', NULL),
  ARRAY[ROW(1, 'x', 'x', '{}', NULL), NULL, ROW(2, NULL, 'x', NULL, encrypt_bytes('\x00'))]::contact[], ARRAY[ROW(1, NULL, 'x', '{g}', NULL)]::known_contact[],
  encrypt_bytes('\x00'), ARRAY['\x', NULL, encrypt_bytes('\x00'), encrypt_bytes('\x00')]), (NULL, NULL, NULL, '{}', NULL, NULL, '{}', '{NULL}', '\x', '{}');
ALTER TABLE "odd ""schema"."T.1" DROP dropped;
ALTER TYPE contact DROP ATTRIBUTE gone CASCADE;
ALTER TYPE contact ADD ATTRIBUTE late encrypted_text CASCADE;
SELECT prism_crypt.rotate_key();
INSERT INTO "odd ""schema"."T.1" ("a ""column", mail, c) VALUES ('y', 'd@e.f', ROW(3, 'y', NULL, NULL, 'y'));
SET prism_crypt.master_key_env = '';
CALL regress.fails($$SELECT encrypt_field('x')$$);
SELECT * FROM prism_crypt.census();
RESET prism_crypt.master_key_env;

-- Re-encrypted in place: the same type, dimensions and nulls, and not a value lost.
CREATE TEMP TABLE before AS SELECT * FROM "odd ""schema"."T.1";
UPDATE "odd ""schema"."T.1" SET "a ""column" = prism_crypt._reencrypt("a ""column", NULL, NULL, false), mail = prism_crypt._reencrypt(mail, NULL, NULL, false),
  list = prism_crypt._reencrypt(list, NULL, NULL, false), c = prism_crypt._reencrypt(c, NULL, NULL, false), k = prism_crypt._reencrypt(k, NULL, NULL, false),
  cs = prism_crypt._reencrypt(cs, NULL, NULL, false), deep = prism_crypt._reencrypt(deep, NULL, NULL, false), bytes = bytes;
SELECT * FROM prism_crypt.census('"odd ""schema"."T.1"');
SET prism_crypt.output = 'plaintext';
SELECT * FROM (SELECT t::text FROM "odd ""schema"."T.1" AS t EXCEPT ALL SELECT b::text FROM before AS b) AS differences;
SELECT array_dims(list), list, c, k, regexp_replace(cs::text, 'x01[0-9a-f]+', 'envelope') AS cs, deep FROM "odd ""schema"."T.1" WHERE cardinality(list) > 0;
RESET prism_crypt.output;
SELECT pg_typeof(prism_crypt._reencrypt("a ""column", NULL, NULL, false)) AS a, pg_typeof(prism_crypt._reencrypt(mail, NULL, NULL, false)) AS mail, pg_typeof(prism_crypt._reencrypt(list, NULL, NULL, false)) AS list,
       pg_typeof(prism_crypt._reencrypt(c, NULL, NULL, false)) AS c, pg_typeof(prism_crypt._reencrypt(k, NULL, NULL, false)) AS k, pg_typeof(prism_crypt._reencrypt(cs, NULL, NULL, false)) AS cs,
       pg_typeof(prism_crypt._reencrypt(deep, NULL, NULL, false)) AS deep, pg_typeof(prism_crypt._reencrypt((c).mails, NULL, NULL, false)) AS mails, prism_crypt._reencrypt(7, NULL, NULL, false) AS number
FROM "odd ""schema"."T.1" LIMIT 1;
-- A value under the active key stays as it is, byte for byte.
SELECT prism_crypt._reencrypt(list, NULL, NULL, false)::text = list::text AND prism_crypt._reencrypt(cs, NULL, NULL, false)::text = cs::text AS unchanged FROM "odd ""schema"."T.1" WHERE cardinality(list) > 0;
-- A domain is checked again: its condition may be about the key version.
CREATE DOMAIN old AS encrypted_text CHECK (key_version(VALUE) < 3);
CREATE TABLE olds (o old, os old[]);
INSERT INTO olds VALUES ('x', '{x,x}');
SELECT prism_crypt.rotate_key();
CALL regress.fails('SELECT prism_crypt._reencrypt(o, NULL, NULL, false) FROM olds');
CALL regress.fails('SELECT prism_crypt._reencrypt(os, NULL, NULL, false) FROM olds');
SELECT prism_crypt._key_versions(os), prism_crypt._key_versions(o), prism_crypt._key_versions(olds), prism_crypt._key_versions(ROW(o, 1, os)), prism_crypt._key_versions('{}'::old[]), prism_crypt._key_versions(1) FROM olds;
DROP TABLE olds, before;
DROP SCHEMA "odd ""schema" CASCADE;
DROP DOMAIN email, emails, known_contact, old CASCADE;
DROP TYPE contact CASCADE;

-- A damaged value, and bytes that are no envelope or of no version that exists.
CREATE TABLE damaged AS
SELECT v, ARRAY[v] AS vs, v AS b
FROM unnest(ARRAY['\x', '\x01', encrypt_bytes('\x00'), set_byte(encrypt_bytes('\x00'), 1, 8), set_byte(encrypt_bytes('\x00'), 2, 8),
  set_byte(encrypt_bytes('\x00'), 6, 99), substr(encrypt_bytes('\x'), 1, 34), encrypt_bytes('\x'), sha256('\x00'), decode(repeat('01', 99), 'hex')]) AS v;
SELECT * FROM prism_crypt.census('damaged');
UPDATE pg_attribute SET atttypid = CASE attname WHEN 'v' THEN 'encrypted_text' ELSE 'encrypted_text[]' END::regtype
WHERE attrelid = 'damaged'::regclass AND attname IN ('v', 'vs');
UPDATE damaged SET vs = ARRAY[v, NULL, 'sound'];
SELECT * FROM prism_crypt.census('damaged');
SELECT (prism_crypt._key_versions(v))[1], count(*) FROM damaged GROUP BY 1 ORDER BY 1;
SELECT version, count(*) FROM unnest((SELECT prism_crypt._key_versions(array_agg(v)) FROM damaged)) AS version GROUP BY 1 ORDER BY 1;
-- Not re-encrypted, and no error.
SELECT prism_crypt._reencrypt(v, NULL, NULL, false)::bytea = v::bytea AS kept, count(*) FROM damaged GROUP BY 1;

-- Values that exist in memory only, and bytes that are compressed.
DO $$ DECLARE l encrypted_text[] := '{x}'; r damaged; BEGIN
  l := l || 'y'::encrypted_text; l[5] := 'z'; r.vs := l;
  RAISE INFO '% % %', prism_crypt._key_versions(l), prism_crypt._key_versions(r), array_dims(prism_crypt._reencrypt(l, NULL, NULL, false));
END $$;
CREATE TABLE compressed (b bytea, bs bytea[]);
INSERT INTO compressed SELECT b, ARRAY[b, b] FROM (SELECT substr(encrypt_bytes('\x'), 1, 19) || decode(repeat('00', 100000), 'hex')) AS e (b);
SELECT pg_column_size(b) < 10000 AS short FROM compressed;
SELECT * FROM prism_crypt.census('compressed');

-- Kinds of tables.
CREATE TABLE parent (id int, v encrypted_text);
CREATE TABLE child (extra bytea, v encrypted_text, id int);
ALTER TABLE child INHERIT parent;
INSERT INTO parent VALUES (1, 'x');
INSERT INTO child VALUES ('\x', 'x', 2), ('\x', 'x', 3);
CREATE TABLE parted (day int, v encrypted_text) PARTITION BY LIST (day);
CREATE TABLE part_1 (v encrypted_text, dropped int, day int);
ALTER TABLE part_1 DROP dropped;
ALTER TABLE parted ATTACH PARTITION part_1 FOR VALUES IN (1);
CREATE TABLE part_2 PARTITION OF parted FOR VALUES IN (2) PARTITION BY LIST (day);
CREATE TABLE part_2_2 PARTITION OF part_2 DEFAULT;
INSERT INTO parted VALUES (1, 'x'), (2, 'x'), (2, NULL);
CREATE MATERIALIZED VIEW stored AS SELECT id, v FROM parent WITH DATA;
CREATE MATERIALIZED VIEW empty_one AS SELECT v FROM parent WITH NO DATA;
CREATE VIEW looks AS SELECT v FROM parent;
CREATE UNLOGGED TABLE unlogged (v encrypted_text);
CREATE TEMP TABLE temporary (v encrypted_text);
INSERT INTO unlogged VALUES ('x');
INSERT INTO temporary VALUES ('x');
CREATE TABLE wide (v encrypted_text, vs encrypted_text[], b bytea);
INSERT INTO wide SELECT repeat('x', 10000), ARRAY[repeat('x', 10000), 'x'], encrypt_bytes(convert_to(repeat('x', 10000), 'UTF8')) FROM generate_series(1, 3);
CREATE FOREIGN DATA WRAPPER nothing;
CREATE SERVER nowhere FOREIGN DATA WRAPPER nothing;
CREATE FOREIGN TABLE abroad (id int, v encrypted_text, vs encrypted_text[], b bytea) SERVER nowhere;
CREATE INDEX included ON parent (id) INCLUDE (v);
SELECT kind, regexp_replace(location, '^pg_temp_\d+', 'pg_temp') AS location, key_version, ciphertexts, remark FROM prism_crypt.census();
SELECT * FROM prism_crypt.census('parent');
SELECT * FROM prism_crypt.census('parted');
SELECT * FROM prism_crypt.census('part_2');
SELECT * FROM prism_crypt.census('stored');
SELECT * FROM prism_crypt.census('abroad');
SELECT * FROM prism_crypt.census('looks');
SELECT * FROM prism_crypt.census('pg_class');
CALL regress.fails('SELECT * FROM prism_crypt.census(1::oid::regclass)');
DROP SERVER nowhere CASCADE;
DROP TABLE damaged, compressed, parent, child, parted, unlogged, temporary, wide CASCADE;

-- Constants.
CREATE DOMAIN d AS encrypted_text DEFAULT 'x' CHECK (key_version(VALUE) <> key_version('y'::encrypted_text) - 9);
CREATE TYPE pair AS (id int, v encrypted_text);
CREATE TABLE t (id int, pair pair DEFAULT '(1,x)', pairs pair[] DEFAULT ARRAY['(1,x)', NULL, '(2,)']::pair[], v encrypted_text DEFAULT 'x', vs encrypted_text[] DEFAULT '{x,NULL,y}', r int GENERATED ALWAYS AS (key_version('x'::encrypted_text)) STORED, d d,
  CHECK (key_version('x'::encrypted_text) > 0 AND id < 9), CONSTRAINT "C 2" CHECK (id <> length('prism:v2:')));
INSERT INTO t (id) VALUES (1), (2);
ALTER TABLE t ADD quick encrypted_text DEFAULT 'x', ADD quicks encrypted_text[] DEFAULT '{x,y}';
CREATE VIEW looks AS WITH c AS (SELECT 'x'::encrypted_text AS v) SELECT v, (SELECT key_version('x'::encrypted_text) FROM (VALUES ('y'::encrypted_text)) AS q) FROM c
  UNION ALL SELECT v, id FROM t WHERE EXISTS (SELECT FROM t AS u WHERE u.vs IS DISTINCT FROM NULL OR key_version('x'::encrypted_text) = id);
CREATE MATERIALIZED VIEW stored AS SELECT 'x'::encrypted_text AS v, ROW(1, 'x'::encrypted_text) IS NULL AS n;
CREATE RULE "R 1" AS ON INSERT TO t WHERE key_version('x'::encrypted_text) = 99 DO ALSO UPDATE t SET v = 'x' WHERE false;
CREATE POLICY p ON t USING (key_version('x'::encrypted_text) > 0) WITH CHECK (key_version('y'::encrypted_text) > 0);
CREATE FUNCTION fires() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RETURN new; END $$;
CREATE TRIGGER tr BEFORE UPDATE ON t FOR EACH ROW WHEN (key_version('x'::encrypted_text) = new.id) EXECUTE FUNCTION fires('prism:v1:argument');
CREATE INDEX i ON t ((id + key_version('x'::encrypted_text))) WHERE key_version('y'::encrypted_text) > 0;
CREATE STATISTICS s ON (id + key_version('x'::encrypted_text)), (id + 1) FROM t;
CREATE FUNCTION body(a encrypted_text DEFAULT 'x', b int DEFAULT 1) RETURNS int BEGIN ATOMIC SELECT key_version('x'::encrypted_text); SELECT key_version('y'::encrypted_text); END;
CREATE FUNCTION "Old body"() RETURNS text LANGUAGE plpgsql AS $$ BEGIN RETURN 'prism:v1:AQ==' || 'prism:v2:AQ==' || 'prism:v:' || 'prism:v99999999999:' || 'prism:v0:' || 'prism:v1'; END $$;
SELECT encrypted_text_out('x') AS text_form \gset
CREATE FUNCTION keep(encrypted_text, encrypted_text) RETURNS encrypted_text LANGUAGE sql IMMUTABLE AS $$ SELECT $1 $$;
CREATE AGGREGATE first_of(encrypted_text) (SFUNC = keep, STYPE = encrypted_text, INITCOND = :'text_form');
CREATE TABLE keyed (id int) PARTITION BY RANGE ((id + key_version('x'::encrypted_text)));
CREATE TABLE forms (v text) PARTITION BY LIST (v);
CREATE TABLE form_1 PARTITION OF forms FOR VALUES IN ('prism:v1:a', 'prism:v2:b', NULL);
-- With an operator class of somebody's own, bounds hold values.
CREATE FUNCTION cmp(encrypted_text, encrypted_text) RETURNS int LANGUAGE sql IMMUTABLE AS $$ SELECT byteacmp($1::bytea, $2::bytea) $$;
CREATE FUNCTION lt(encrypted_text, encrypted_text) RETURNS bool LANGUAGE sql IMMUTABLE AS $$ SELECT $1::bytea < $2::bytea $$;
CREATE FUNCTION eq(encrypted_text, encrypted_text) RETURNS bool LANGUAGE sql IMMUTABLE AS $$ SELECT $1::bytea = $2::bytea $$;
CREATE OPERATOR <<< (FUNCTION = lt, LEFTARG = encrypted_text, RIGHTARG = encrypted_text);
CREATE OPERATOR === (FUNCTION = eq, LEFTARG = encrypted_text, RIGHTARG = encrypted_text);
CREATE OPERATOR CLASS own FOR TYPE encrypted_text USING btree AS OPERATOR 1 <<<, OPERATOR 3 ===, FUNCTION 1 cmp(encrypted_text, encrypted_text);
CREATE TABLE bounded (v encrypted_text) PARTITION BY LIST (v own);
CREATE TABLE bounded_1 PARTITION OF bounded FOR VALUES IN ('x', 'y');
CREATE INDEX sorted ON t (v own);
DO $$ BEGIN SET LOCAL client_min_messages = error; IF current_setting('server_version_num')::int >= 150000 THEN EXECUTE 'CREATE PUBLICATION pub FOR TABLE t WHERE (id > length(''prism:v3:''))'; END IF; END $$;
SELECT prism_crypt.rotate_key();
SELECT * FROM prism_crypt.census() WHERE kind <> 'publication';
SELECT count(*) > 0 AS publications_too FROM prism_crypt.census('t') WHERE kind = 'publication' OR current_setting('server_version_num')::int < 150000;
SELECT * FROM prism_crypt.census('t') WHERE kind <> 'publication';
SELECT * FROM prism_crypt.census('looks');
SELECT * FROM prism_crypt.census('bounded');
-- Every stored expression of every catalog is read, and every constant in it: what looks like a text form at the end makes it look at all.
CREATE PROCEDURE read_all() LANGUAGE plpgsql AS $$
DECLARE
  found record; trees bigint; total bigint := 0;
BEGIN
  FOR found IN SELECT c.relname, a.attname FROM pg_attribute AS a JOIN pg_class AS c ON c.oid = a.attrelid
    WHERE a.atttypid = 'pg_node_tree'::regtype AND c.relkind = 'r' AND a.attnum > 0 AND NOT a.attisdropped LOOP
    EXECUTE format('SELECT count(prism_crypt._constant_versions(%1$I::text || '' 112 114 105 115 109 58 118 '')) FROM pg_catalog.%2$I', found.attname, found.relname) INTO trees;
    total := total + trees;
  END LOOP;
  RAISE INFO 'many: %', total > 200;
END $$;
CALL read_all();
CALL regress.fails($$SELECT prism_crypt._constant_versions('{CONST :consttype x}')$$);
CALL regress.fails(format($$SELECT prism_crypt._constant_versions('{CONST :consttype %s :constbyval false :constisnull false :constvalue 9 [ 1 2 ]}')$$, 'encrypted_text'::regtype::oid));
CALL regress.fails(format($$SELECT prism_crypt._constant_versions('{CONST :consttype %s :constbyval false :constisnull false :constvalue 3 [ 1 2 3 ]}')$$, 'encrypted_text[]'::regtype::oid));
CALL regress.fails(format($$SELECT prism_crypt._constant_versions('{CONST :consttype %s :constbyval false :constisnull false}')$$, 'encrypted_text'::regtype::oid));
SELECT prism_crypt._constant_versions(''), prism_crypt._constant_versions('{CONST :consttype 25 :constvalue'), prism_crypt._text_form_versions('prism:v7:prism:v8:, prism:v9 prism:v-1: prism:v+1:');
VACUUM FULL t;
SELECT * FROM prism_crypt.census('t') WHERE kind = 'missing value';

-- Who may call it, and what runs then: nothing of the tables' owners.
GRANT CREATE ON SCHEMA public TO regress_prism_owner;
SET ROLE regress_prism_owner;
CREATE FUNCTION public.evil(int) RETURNS int LANGUAGE plpgsql IMMUTABLE AS $$ BEGIN RAISE NOTICE 'runs as %', current_user; RETURN $1; END $$;
CREATE TABLE public.trap (id int CHECK (id < evil(9)), v encrypted_text);
INSERT INTO public.trap VALUES (1, 'x');
CREATE INDEX ON public.trap ((id + evil(1))) WHERE id > evil(0);
ALTER TABLE public.trap ENABLE ROW LEVEL SECURITY;
CREATE POLICY nobody ON public.trap USING (id < evil(-1));
RESET ROLE;
\c
SELECT prism_crypt.grant_access('regress_prism_monitor', 'monitor');
SELECT prism_crypt.grant_access('regress_prism_admin', 'key_admin');
SET ROLE regress_prism_monitor;
SELECT * FROM prism_crypt.census('trap');
CALL regress.fails('SELECT prism_crypt._count_versions(1)');
CALL regress.fails('SELECT v FROM public.trap');
SET ROLE regress_prism_admin;
SELECT * FROM prism_crypt.census('trap');
SET ROLE regress_prism_app;
CALL regress.fails($$SELECT * FROM prism_crypt.census('trap')$$);
RESET ROLE;
SELECT prism_crypt.revoke_access('regress_prism_monitor', 'monitor');
SET ROLE regress_prism_monitor;
CALL regress.fails($$SELECT * FROM prism_crypt.census('trap')$$);
RESET ROLE;
-- In a read-only transaction too.
BEGIN READ ONLY;
SELECT * FROM prism_crypt.census('trap');
COMMIT;
CALL regress.fresh();
REVOKE ALL ON SCHEMA public FROM regress_prism_owner;
DROP SCHEMA public CASCADE;
CREATE SCHEMA public;
