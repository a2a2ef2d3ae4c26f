-- GIN indexes over tags while an index key is replaced, when keys are lost, and after that.
CALL regress.fresh();
\set SHOW_CONTEXT never
CREATE TABLE docs (id int PRIMARY KEY, tags encrypted_text(searchable)[], loose encrypted_text[], plain text[]);
INSERT INTO docs SELECT i, a::encrypted_text[], a::encrypted_text[], a FROM (SELECT i, ARRAY['t' || i % 20, 'all', NULL] FROM generate_series(1, 200) AS i) AS r (i, a);
CREATE INDEX docs_tags ON docs USING gin (tags);
CREATE INDEX docs_pending ON docs USING gin (tags) WITH (fastupdate = off) WHERE id > 0;
CREATE INDEX docs_expression ON docs USING gin ((tags[1:1]));
-- A column that is not searchable: the index opens values.
CREATE INDEX docs_loose ON docs USING gin (loose);
CREATE INDEX docs_loose_btree ON docs (loose);
SELECT index FROM prism_crypt._search_indexes() ORDER BY index::text;
CREATE FUNCTION answers() RETURNS TABLE (scan text, contains bigint, overlaps bigint, everything bigint, expression bigint, loose bigint, each_row bigint, joined bigint) LANGUAGE plpgsql AS $$
BEGIN
  FOREACH scan IN ARRAY ARRAY['on', 'off'] LOOP
    PERFORM set_config('enable_seqscan', scan, true);
    SELECT count(*) INTO contains FROM docs AS d WHERE d.tags @> ARRAY['t7', 'all'];
    SELECT count(*) INTO overlaps FROM docs AS d WHERE d.tags && '{t7,t8}';
    SELECT count(*) INTO everything FROM docs AS d WHERE d.tags @> ARRAY['all'];
    SELECT count(*) INTO expression FROM docs AS d WHERE d.tags[1:1] @> ARRAY['t7'];
    SELECT count(*) INTO loose FROM docs AS d WHERE d.loose @> ARRAY['t7', 'all'];
    SELECT count(*) INTO each_row FROM docs AS d WHERE d.tags = d.plain AND d.loose = d.plain AND d.tags && d.plain;
    SELECT count(*) INTO joined FROM docs AS a JOIN docs AS b ON b.tags @> a.plain[1:1] WHERE a.id < 4;
    RETURN NEXT;
  END LOOP;
END $$;
SELECT * FROM answers();
PREPARE by_texts(text[]) AS SELECT count(*) FROM docs WHERE tags @> $1;
PREPARE by_literal AS SELECT count(*) FROM docs WHERE tags @> '{t7}' AND loose && ARRAY['all'];
SET enable_seqscan = off;
EXECUTE by_literal;
SET plan_cache_mode = force_generic_plan;
EXECUTE by_texts('{t7}');
-- Halfway: another key and rebuilt indexes; all tags are outdated.
SELECT prism_crypt._replace_index_key('default', 'halfway');
SELECT * FROM answers();
EXECUTE by_texts('{t7}');
EXECUTE by_literal;
INSERT INTO docs VALUES (201, '{t7,all,NULL}', '{t7,all,NULL}', '{t7,all,NULL}');
UPDATE docs SET tags = tags, loose = loose WHERE id = 7;
UPDATE docs SET tags = '{t8,all,NULL}', loose = '{t8,all,NULL}', plain = '{t8,all,NULL}' WHERE id = 27;
SELECT * FROM answers();
VACUUM docs;
SELECT * FROM answers();
-- Half of the rows.
CALL prism_crypt.rotate_all(batch_size => 20, max_batches => 4, keyset => 'default');
SELECT count(DISTINCT i.search_generation) AS generations FROM docs, unnest(tags) AS t, envelope_info(t) AS i;
SELECT * FROM answers();
REINDEX INDEX docs_tags;
SELECT * FROM answers();
-- The rest, and once more from the start.
CALL prism_crypt.rotate_index_key();
SELECT DISTINCT (envelope_info(t)).search_generation FROM docs, unnest(tags) AS t WHERE t IS NOT NULL;
SELECT * FROM answers();
CALL prism_crypt.rotate_index_key('default', reason => 'once more');
SELECT * FROM answers();
EXECUTE by_texts('{t7}');
EXECUTE by_literal;
SELECT indexrelid::regclass AS index, indisvalid FROM pg_index WHERE indrelid = 'docs'::regclass ORDER BY indexrelid::regclass::text;
-- An index that somebody else's function is in is not rebuilt: it is marked, and answers are right without it.
CREATE FUNCTION others(encrypted_text[]) RETURNS encrypted_text[] LANGUAGE sql IMMUTABLE AS 'SELECT $1';
CREATE INDEX docs_others ON docs USING gin (others(tags));
CREATE DOMAIN checked AS encrypted_text CHECK (others(ARRAY[VALUE]) IS NOT NULL);
CREATE INDEX docs_checked ON docs USING gin ((tags::checked[]::encrypted_text[]));
SELECT prism_crypt._replace_index_key('default', 'with an index that runs a function');
SELECT indexrelid::regclass AS index, indisvalid FROM pg_index WHERE indrelid = 'docs'::regclass AND NOT indisvalid ORDER BY indexrelid::regclass::text;
CALL prism_crypt.rotate_index_key();
SELECT * FROM answers();
-- A rotation of data keys changes no tag.
SELECT prism_crypt.rotate_key() AS version;
CALL prism_crypt.rotate_all();
SELECT DISTINCT key_version(t) FROM docs, unnest(tags || loose) AS t WHERE t IS NOT NULL;
SELECT * FROM answers();
-- Without the keys: 55000.
SET prism_crypt.master_key_env = '';
CALL regress.fails($$SELECT count(*) FROM docs WHERE tags @> ARRAY['t7']$$);
CALL regress.fails($$EXECUTE by_texts('{t7}')$$);
CALL regress.fails('SELECT count(*) FROM docs WHERE tags @> plain');
SELECT count(*) FROM docs AS a JOIN docs AS b ON a.tags @> b.tags[1:1] WHERE b.id = 7;
RESET prism_crypt.master_key_env;
SELECT * FROM answers();
