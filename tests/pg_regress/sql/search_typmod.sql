-- Searchable columns: the type modifier, where tags come from and go.
CALL regress.fresh();
CREATE TABLE t (id int, s encrypted_text('searchable'), es encrypted_text('email', 'searchable'), se encrypted_text('searchable', 'email'), e encrypted_text('email'), v encrypted_text);
\d t
SELECT attname, atttypmod, format_type(atttypid, atttypmod), prism_crypt.class_name(atttypmod) AS class FROM pg_attribute WHERE attrelid = 't'::regclass AND attnum > 1 ORDER BY attnum;
SELECT n, format_type('encrypted_text'::regtype, n), prism_crypt.class_name(n) AS class FROM unnest(ARRAY[256, 257, 263, 264, 512, 513, 768, 1281, -2147483392]) AS n;
CALL regress.fails($$CREATE TABLE bad (v encrypted_text('searchable', 'searchable'))$$);
CALL regress.fails($$CREATE TABLE bad (v encrypted_text('Searchable'))$$);
CALL regress.fails($$CREATE TABLE bad (v encrypted_text('searchable', 'nothing'))$$);
CALL regress.fails($$CREATE TABLE bad (v encrypted_text('searchable', 'email', 'phone'))$$);
CALL regress.fails($$CREATE TABLE bad (v encrypted_text('searchable', 'email', 'searchable'))$$);
SELECT class, search_generation FROM envelope_info('x'::encrypted_text(searchable, phone));

-- By every way in.
INSERT INTO t VALUES (1, 'x', 'x', 'x', 'x', 'x');
INSERT INTO t VALUES (2, 'x'::text, 'x'::text, 'x'::varchar, 'x'::text, 'x'::text);
INSERT INTO t SELECT 3, f, f, f, f, f FROM encrypt_field('x') AS f;
INSERT INTO t SELECT 4, f, f, f, f, f FROM encrypt_field('x', 'a context', class => 'email') AS f;
INSERT INTO t SELECT 5, v, v, v, v, v FROM t WHERE id = 1;
INSERT INTO t SELECT 6, es, es, es, es, es FROM t WHERE id = 1;
INSERT INTO t (id) VALUES (7);
UPDATE t SET s = 'x', es = o.es, se = o.v FROM (SELECT es, v FROM t WHERE id = 1) AS o WHERE id = 7;
COPY t (id, s, es) FROM PROGRAM 'echo "8,x,x"' (FORMAT csv);
PREPARE put(encrypted_text) AS INSERT INTO t VALUES (9, $1, $1, $1, $1, $1);
EXECUTE put('x');
CREATE FUNCTION put() RETURNS void LANGUAGE plpgsql AS $$ DECLARE s encrypted_text('searchable') := 'x'; v encrypted_text := s; BEGIN INSERT INTO t VALUES (10, s, s, s, s, v); END $$;
SELECT put();
CREATE VIEW kinds AS SELECT id,
  (SELECT string_agg(concat_ws(' ', class, CASE WHEN has_context THEN 'bound' END, 'tag ' || search_generation), ', ') FROM envelope_info(s)) AS s,
  (SELECT string_agg(concat_ws(' ', class, CASE WHEN has_context THEN 'bound' END, 'tag ' || search_generation), ', ') FROM envelope_info(es)) AS es,
  (SELECT string_agg(concat_ws(' ', class, CASE WHEN has_context THEN 'bound' END, 'tag ' || search_generation), ', ') FROM envelope_info(se)) AS se,
  (SELECT string_agg(concat_ws(' ', class, CASE WHEN has_context THEN 'bound' END, 'tag ' || search_generation), ', ') FROM envelope_info(e)) AS e,
  (SELECT string_agg(concat_ws(' ', class, CASE WHEN has_context THEN 'bound' END, 'tag ' || search_generation), ', ') FROM envelope_info(v)) AS v FROM t;
SELECT * FROM kinds ORDER BY id;
SELECT bool_and(s = 'x'), bool_and(es = 'x'), bool_and(se = 'x'), bool_and(e = 'x'), bool_and(v = 'x') FROM t;
-- What a tag costs, and that it is the same for the same plaintext.
SELECT (envelope_info('x'::encrypted_text('searchable'))).envelope_bytes - (envelope_info('x'::encrypted_text)).envelope_bytes AS bytes;
SELECT count(DISTINCT substr(s::bytea, 20, 17)) AS tags, count(DISTINCT s::bytea) = count(*) AS all_differ FROM t WHERE id IN (1, 2, 3, 7, 8);
-- A value that is so already stays as it is, byte for byte; with or without a class.
SELECT s::bytea = s::encrypted_text('searchable')::bytea AS same, es::bytea = es::encrypted_text('searchable')::bytea AS keeps_class, es::bytea = es::encrypted_text('email', 'searchable')::bytea AS same_class,
       v::bytea = v::encrypted_text::bytea AS loose, s::bytea = s::encrypted_text::bytea AS keeps_tag FROM t WHERE id = 1;
-- A tag comes and goes.
SELECT a.search_generation AS added, b.search_generation AS removed, c.search_generation AS moved, c.class
FROM t, envelope_info(v::encrypted_text('searchable')) AS a, envelope_info(es::encrypted_text('email')) AS b, envelope_info(s::encrypted_text('phone', 'searchable')) AS c WHERE id = 1;
CALL regress.fails($$SELECT es::encrypted_text('phone', 'searchable') FROM t WHERE id = 1$$);
CALL regress.fails($$INSERT INTO t (es) VALUES (encrypt_field('x', class => 'phone'))$$);

-- ALTER TABLE adds tags and takes them away; a context stays.
CREATE TABLE changing (id int, v text, b encrypted_text, note text DEFAULT 'n');
INSERT INTO changing SELECT n, 'v' || n % 3, encrypt_field('b' || n % 3, 'row ' || n) FROM generate_series(1, 6) AS n;
INSERT INTO changing VALUES (7, NULL, NULL);
ALTER TABLE changing ALTER v TYPE encrypted_text('email', 'searchable'), ALTER b TYPE encrypted_text('searchable');
CREATE INDEX changing_v ON changing USING hash (v);
CREATE UNIQUE INDEX changing_b ON changing (b encrypted_text_unique_ops, id);
CREATE FUNCTION shown() RETURNS TABLE (n bigint, v text, b text, decrypted text, equal bigint) LANGUAGE sql AS $$
  SELECT count(*), string_agg(DISTINCT concat_ws(' ', vi.class, vi.search_generation), ','), string_agg(DISTINCT concat_ws(' ', bi.class, bi.search_generation, bi.has_context), ','),
         string_agg(DISTINCT decrypt_field(c.v) || decrypt_field(c.b, 'row ' || id), ' '), count(*) FILTER (WHERE c.v = 'v1' AND c.b = 'b1')
  FROM changing AS c, envelope_info(c.v) AS vi, envelope_info(c.b) AS bi $$;
SELECT * FROM shown();
ALTER TABLE changing ALTER v TYPE encrypted_text('email');
SELECT * FROM shown();
SELECT pg_get_indexdef('changing_v'::regclass);
ALTER TABLE changing ALTER v TYPE encrypted_text('email', 'searchable'), ALTER b TYPE encrypted_text;
SELECT * FROM shown();
ALTER TABLE changing ALTER v TYPE encrypted_text, ALTER b TYPE encrypted_text('phone', 'searchable');
SELECT * FROM shown();
CALL regress.fails($$ALTER TABLE changing ALTER v TYPE encrypted_text('phone', 'searchable')$$);
ALTER TABLE changing ADD d encrypted_text('searchable') DEFAULT 'default';
SELECT count(*) FROM changing, envelope_info(d) WHERE d = 'default' AND search_generation = 1;
ALTER TABLE changing ALTER v TYPE text USING decrypt_field(v);
SELECT id FROM changing WHERE v = 'v1' ORDER BY id;

-- Loading: what has no tag can't come into a searchable column as it is; what has one can come in anywhere.
SELECT encrypted_text_out(v) AS untagged, encrypted_text_out(s) AS tagged, encode(v::bytea, 'hex') AS untagged_bytes FROM t WHERE id = 1 \gset
CALL regress.fails(format($$COPY t (s) FROM PROGRAM 'echo "%s"'$$, :'untagged'));
CALL regress.fails(format($$COPY t (es) FROM PROGRAM 'echo "%s"'$$, :'tagged'));
CALL regress.fails(format($$INSERT INTO t (s) VALUES ('\x%s'::bytea)$$, :'untagged_bytes'));
CALL regress.fails(format($$INSERT INTO t (s) SELECT %L::text::bytea::encrypted_text('searchable')$$, '\x' || :'untagged_bytes'));
-- A literal is a value of the type first, and is sealed anew on its way into the column; so is any other value.
INSERT INTO t (id, s) VALUES (11, :'untagged');
INSERT INTO t (id, s) SELECT 12, prism_crypt.load_envelope(:'untagged');
INSERT INTO t (id, s, es, v) VALUES (13, :'tagged', :'tagged', :'tagged');
\setenv TAGGED :tagged
\copy t (id, s, v) FROM PROGRAM 'printf "15\t%s\t%s\n" $TAGGED $TAGGED'
SELECT id, s, es, v FROM kinds WHERE id > 10 ORDER BY id;
SELECT id FROM t WHERE s = 'x' AND id > 10 ORDER BY id;
SET prism_crypt.master_key_env = '';
INSERT INTO t (id, s) VALUES (16, :'tagged');
CALL regress.fails($$SELECT s::encrypted_text('email') FROM t WHERE id = 16$$);
CALL regress.fails($$SELECT v::encrypted_text('searchable') FROM t WHERE id = 1$$);
SELECT id FROM t WHERE s = (SELECT s FROM t WHERE id = 1) AND id = 16;
RESET prism_crypt.master_key_env;

-- Arrays, domains, defaults, generated columns.
CREATE DOMAIN mail AS encrypted_text('email', 'searchable') DEFAULT 'nobody@x.org' CHECK (VALUE <> 'forbidden');
CREATE TABLE shaped (id int, m mail, ms mail[], s encrypted_text('searchable')[], g encrypted_text('searchable') DEFAULT 'g');
INSERT INTO shaped VALUES (1, 'a', '{a,b}', '{a,NULL,b}');
INSERT INTO shaped (id, ms, s) VALUES (2, ARRAY['a'::text], ARRAY['a', 'b']::text[]);
CALL regress.fails($$INSERT INTO shaped (m) VALUES ('forbidden')$$);
SELECT id, (envelope_info(m)).search_generation AS m, (envelope_info(ms[1])).search_generation AS ms, (envelope_info(s[1])).search_generation AS s, (envelope_info(g)).search_generation AS g, m::text FROM shaped;
SELECT attname, format_type(atttypid, atttypmod) FROM pg_attribute WHERE attrelid = 'shaped'::regclass AND attnum > 1;
