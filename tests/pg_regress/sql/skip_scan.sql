-- PostgreSQL 18 and later
-- Skip scans: an index on (encrypted, other) answers conditions on "other" alone, by the order of the tags. Answers are those of a table
-- scan, whatever the values are: nulls, duplicates, other keysets, tags of an index key that was replaced, and values without a tag.
CALL regress.fresh();
SET client_min_messages = warning;
CREATE ROLE skip_reader; CREATE ROLE skip_stranger;
SELECT prism_crypt.grant_access('skip_reader', 'search');
SELECT prism_crypt.create_keyset('tenant');
-- The same table under three indexes.
CREATE PROCEDURE fill(schema_name text, index text) LANGUAGE plpgsql AS $$
BEGIN
  EXECUTE format('CREATE SCHEMA %I', schema_name);
  EXECUTE format('CREATE TABLE %I.visits (id int, email encrypted_text(%L), ward int, doctor encrypted_text(%L))', schema_name, 'searchable', 'searchable');
  EXECUTE format($i$INSERT INTO %I.visits SELECT n, CASE WHEN n %% 7 > 0 THEN 'u' || n %% 7 || '@x.org' END, n / 10, CASE WHEN n %% 3 > 0 THEN 'd' || n %% 3 END FROM generate_series(1, 900) AS n$i$, schema_name);
  PERFORM set_config('prism_crypt.keyset', 'tenant', true);
  EXECUTE format($i$INSERT INTO %I.visits SELECT n, 'u' || n %% 3 || '@x.org', n / 10, 'd' || n %% 3 FROM generate_series(901, 1200) AS n$i$, schema_name);
  PERFORM set_config('prism_crypt.keyset', 'default', true);
  EXECUTE format('CREATE INDEX visits_index ON %I.visits (%s)', schema_name, index);
  EXECUTE format('ANALYZE %I.visits', schema_name);
  EXECUTE format('GRANT USAGE ON SCHEMA %I TO skip_reader, skip_stranger', schema_name);
  EXECUTE format('GRANT SELECT ON %I.visits TO skip_reader, skip_stranger', schema_name);
END $$;
CALL fill('two', 'email, ward');
CALL fill('three', 'email, doctor, ward');
CALL fill('backwards', 'email DESC NULLS LAST, ward DESC, id');

-- The number of rows of a query that is answered by each index, in each way, as without one; or what differs.
CREATE FUNCTION by_each_index(query text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
  expected text; answer text; schema_name text; way text;
  counted CONSTANT text := format('SELECT count(*) || '' '' || coalesce(sum(hashtext(r::text)), 0) FROM (%s) AS r', query);
BEGIN
  FOREACH schema_name IN ARRAY ARRAY['two', 'three', 'backwards'] LOOP
    PERFORM set_config('search_path', schema_name || ', public', true);
    FOREACH way IN ARRAY ARRAY['seqscan', 'indexscan', 'bitmapscan', 'indexonlyscan'] LOOP
      PERFORM set_config('enable_' || w, CASE WHEN w = way OR (w = 'indexscan' AND way = 'indexonlyscan') THEN 'on' ELSE 'off' END, true)
      FROM unnest(ARRAY['seqscan', 'indexscan', 'bitmapscan', 'indexonlyscan']) AS w;
      EXECUTE counted INTO answer;
      expected := coalesce(expected, answer);
      IF answer <> expected THEN
        RETURN format('%s, %s: %s, not %s', schema_name, way, answer, expected);
      END IF;
    END LOOP;
  END LOOP;
  PERFORM set_config('enable_' || w, 'on', true) FROM unnest(ARRAY['seqscan', 'indexscan', 'bitmapscan', 'indexonlyscan']) AS w;
  RETURN split_part(expected, ' ', 1);
END $$;
CREATE VIEW questions AS SELECT q FROM (VALUES
  ('SELECT id FROM visits WHERE ward = 7'), ('SELECT id FROM visits WHERE ward BETWEEN 100 AND 110'), ('SELECT id FROM visits WHERE ward IN (1, 77, 95, 119, 1000)'),
  ('SELECT id FROM visits WHERE ward = 7 AND email IS NULL'), ('SELECT id FROM visits WHERE ward = 7 AND email IS NOT NULL'), ('SELECT id FROM visits WHERE ward > 118'),
  ('SELECT ward FROM visits WHERE ward < 2'), ($$SELECT id FROM visits WHERE ward = 7 AND email = 'u3@x.org'$$), ($$SELECT id FROM visits WHERE ward = 7 AND doctor = 'd1'$$),
  ($$SELECT id FROM visits WHERE ward = 7 AND doctor = ANY (ARRAY['d1', 'd2', NULL]::text[])$$), ($$SELECT id FROM visits WHERE email = 'u3@x.org' AND ward = 7$$),
  ($$SELECT id FROM visits WHERE doctor = 'd2'$$), ($$SELECT id FROM visits WHERE doctor IS NULL AND ward < 50$$), ($$SELECT id FROM visits WHERE email <> 'u3@x.org' AND ward = 9$$),
  ('SELECT a.id FROM visits a JOIN visits b ON a.ward = b.ward AND b.id = 77'), ('SELECT a.id, b.id FROM visits a JOIN visits b ON a.ward = b.ward AND a.email = b.email WHERE b.id < 9'),
  ('SELECT id FROM visits WHERE (email, ward) IN (SELECT email, ward FROM visits WHERE id IN (5, 6, 905))'), ('SELECT id FROM visits WHERE ward = ANY (SELECT ward FROM visits WHERE id = 905) AND doctor IS NOT NULL'),
  ('SELECT ward, count(*) FROM visits WHERE ward = 95 GROUP BY ward'), ('SELECT ward FROM visits WHERE ward IS NULL')) AS v (q);
SELECT by_each_index(q), q FROM questions;
-- They are skip scans: an index is searched more often than once. So many rows have the same values that there are pages to skip,
-- in whichever order the tags are.
CREATE FUNCTION is_skip_scan(query text) RETURNS boolean LANGUAGE plpgsql AS $$
DECLARE line text;
BEGIN
  PERFORM set_config('enable_seqscan', 'off', true);
  FOR line IN EXECUTE 'EXPLAIN (ANALYZE, COSTS OFF, TIMING OFF, SUMMARY OFF, BUFFERS OFF) ' || query LOOP
    IF line ~ 'Index Searches: ' THEN RETURN substring(line, 'Searches: (\d+)')::int > 1; END IF;
  END LOOP;
END $$;
CREATE TABLE many (id int, email encrypted_text('searchable'), ward int, doctor encrypted_text('searchable'));
INSERT INTO many SELECT n, CASE WHEN n % 3 > 0 THEN 'u' || n % 3 || '@x.org' END, n / 9, CASE WHEN n / 3 % 3 > 0 THEN 'd' || n / 3 % 3 END FROM generate_series(1, 18000) AS n;
CREATE FUNCTION is_skip_scan(index text, condition text) RETURNS boolean LANGUAGE plpgsql AS $$
DECLARE answer boolean;
BEGIN
  EXECUTE format('CREATE INDEX many_index ON many (%s)', index);
  ANALYZE many;
  answer := is_skip_scan('SELECT id FROM many WHERE ' || condition);
  DROP INDEX many_index;
  RETURN answer;
END $$;
SELECT is_skip_scan('email, ward', 'ward = 7'), is_skip_scan('email, doctor, ward', 'ward = 7'), is_skip_scan('email DESC NULLS LAST, ward DESC, id', 'ward = 7'),
  is_skip_scan('email, doctor, ward', $$doctor = 'd1'$$);
-- A cursor that turns around.
SET search_path = two, public;
BEGIN;
SET LOCAL enable_seqscan = off;
SET LOCAL enable_bitmapscan = off;
DECLARE c SCROLL CURSOR FOR SELECT id FROM visits WHERE ward = 7;
MOVE 4 IN c;
CREATE TEMP TABLE fetched AS SELECT 0 AS id WHERE false;
DO $$ DECLARE c refcursor := 'c'; n int; BEGIN
  FOR i IN 1..3 LOOP FETCH BACKWARD FROM c INTO n; INSERT INTO fetched VALUES (n); END LOOP;
  FOR i IN 1..12 LOOP FETCH FORWARD FROM c INTO n; INSERT INTO fetched VALUES (n); END LOOP;
  FOR i IN 1..14 LOOP FETCH BACKWARD FROM c INTO n; INSERT INTO fetched VALUES (n); END LOOP;
END $$;
SELECT count(DISTINCT id), count(id), min(id), max(id) FROM fetched;
COMMIT;
-- Between values that a new index key has come between: opened, and compared by the last key.
SELECT prism_crypt._replace_index_key('default', 'leaked');
SELECT by_each_index(q), q FROM questions;
UPDATE two.visits SET email = reencrypt_field(email) WHERE id % 2 = 0;
UPDATE three.visits SET email = reencrypt_field(email), doctor = reencrypt_field(doctor) WHERE id % 3 = 0;
UPDATE backwards.visits SET email = reencrypt_field(email) WHERE id % 5 < 3;
SELECT by_each_index(q), q FROM questions;
-- A role that may not search: there are tags, which everybody may compare.
SET ROLE skip_stranger;
SET enable_seqscan = off;
SELECT count(*) FROM visits WHERE ward = 7;
RESET ROLE;
-- A session that has used no such index yet, and one in which the keys are outdated.
\c
SET search_path = two, public;
SET enable_seqscan = off;
SELECT count(*) FROM visits WHERE ward = 7;
SELECT prism_crypt.rotate_key();
SELECT count(*) FROM visits WHERE ward = 7;
SET client_min_messages = warning;
CALL prism_crypt.rotate_index_key();
CALL prism_crypt.rotate_index_key('tenant');
SELECT by_each_index(q), q FROM questions;
-- Without the key, tags are enough, once an index has no entries of rows with old ones.
REINDEX INDEX two.visits_index;
SET prism_crypt.master_key_env = '';
SELECT count(*) FROM visits WHERE ward = 7;
RESET prism_crypt.master_key_env;

-- Values without tags have to be opened. So a condition on another column of the index needs the keys and the right to search.
RESET search_path;
CREATE TABLE loose (id int, email encrypted_text, ward int);
INSERT INTO loose SELECT n, CASE WHEN n % 7 > 0 THEN 'u' || n % 7 || '@x.org' END, n / 10 FROM generate_series(1, 5000) AS n;
CREATE INDEX loose_email_ward ON loose (email, ward);
GRANT SELECT ON loose TO skip_reader, skip_stranger;
SELECT is_skip_scan('SELECT id FROM loose WHERE ward = 7');
SET ROLE skip_reader;
SET enable_seqscan = off;
SELECT count(*) FROM loose WHERE ward = 7;
SET ROLE skip_stranger;
SELECT count(*) FROM loose WHERE ward = 7;
RESET ROLE;
SET prism_crypt.master_key_env = '';
SELECT count(*) FROM loose WHERE ward = 7;
RESET prism_crypt.master_key_env;
-- A table of narrow rows is rather read as a whole.
RESET enable_seqscan;
ANALYZE loose;
SELECT regress.plan('SELECT id FROM loose WHERE ward = 7');
SET ROLE skip_stranger;
SELECT count(*) FROM loose WHERE ward = 7;
