-- Guesses by a role without the right to search: every way to have a value compared with one, and the same by a role that has it.
CALL regress.fresh();
\set SHOW_CONTEXT never
SET client_min_messages = error;
CREATE TABLE users (id int PRIMARY KEY, email encrypted_text('email', 'searchable'), bare encrypted_text, tags encrypted_text('searchable')[], pair text);
INSERT INTO users SELECT n, 'u' || n, 'u' || n, ARRAY['u' || n] FROM generate_series(1, 9) AS n;
CREATE INDEX ON users USING hash (email);
CREATE UNIQUE INDEX ON users (email encrypted_text_unique_ops);
CREATE UNIQUE INDEX ON users (bare encrypted_text_unique_ops);
CREATE TABLE logins (email encrypted_text('email') REFERENCES users (email));
CREATE TABLE excluded (v encrypted_text, EXCLUDE USING hash (v WITH =));
INSERT INTO excluded VALUES ('u7');
CREATE TABLE parts (v encrypted_text) PARTITION BY HASH (v);
CREATE TABLE parts_0 PARTITION OF parts FOR VALUES WITH (MODULUS 1, REMAINDER 0);
CREATE TABLE checked (v encrypted_text CHECK (v <> 'u7'));
CREATE DOMAIN guess AS encrypted_text CHECK (VALUE <> 'u7');
CREATE DOMAIN tagged AS encrypted_text('searchable');
CREATE TYPE pair AS (a int, b encrypted_text);
CREATE TYPE tagged_pair AS (a int, b encrypted_text('searchable'));
CREATE TYPE span AS RANGE (subtype = encrypted_text, subtype_opclass = encrypted_text_unique_ops);
CREATE TABLE secured (email encrypted_text('searchable'), n int);
INSERT INTO secured VALUES ('u7', 1);
ALTER TABLE secured ENABLE ROW LEVEL SECURITY;
CREATE POLICY own ON secured USING (email = current_setting('app.user'));
CREATE VIEW barrier WITH (security_barrier) AS SELECT id, email FROM users;
CREATE VIEW searching AS SELECT id FROM users WHERE email = 'u7';
CREATE TABLE watched (v encrypted_text, seen boolean);
CREATE FUNCTION watch() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN NEW.seen := EXISTS (SELECT FROM public.users WHERE email = NEW.v); RETURN NEW; END $$;
CREATE TRIGGER watch BEFORE INSERT ON watched FOR EACH ROW EXECUTE FUNCTION watch();
CREATE TABLE ruled (v encrypted_text);
CREATE RULE r AS ON INSERT TO ruled DO ALSO DELETE FROM users WHERE email = NEW.v;
CREATE FUNCTION by_sql(encrypted_text) RETURNS bigint LANGUAGE sql STABLE AS 'SELECT count(*) FROM public.users WHERE email = $1';
GRANT ALL ON ALL TABLES IN SCHEMA public TO PUBLIC;
GRANT CREATE ON SCHEMA public TO PUBLIC;
ANALYZE;

CREATE TABLE attempt (n serial, what text, statement text);
INSERT INTO attempt (what, statement) VALUES
  ('operators', $$SELECT count(*) FROM users WHERE email = 'u7'$$),
  ('operators', $$SELECT count(*) FROM users WHERE email = 'u7'::text$$),
  ('operators', $$SELECT count(*) FROM users WHERE 'u7'::varchar = email$$),
  ('operators', $$SELECT count(*) FROM users WHERE email = 'u7'::name$$),
  ('operators', $$SELECT count(*) FROM users WHERE email <> 'u7'$$),
  ('operators', $$SELECT count(*) FROM users WHERE email IN ('u7', 'u8')$$),
  ('operators', $$SELECT count(*) FROM users WHERE email = ANY (ARRAY['u7', 'u8'])$$),
  ('operators', $$SELECT count(*) FROM users WHERE 'u7'::text = ANY (tags)$$),
  ('operators', $$SELECT count(*) FROM users WHERE email IS NOT DISTINCT FROM 'u7'$$),
  ('operators', $$SELECT count(NULLIF(email, 'u7')) FROM users$$),
  ('operators', $$SELECT sum(CASE email WHEN 'u7' THEN 1 ELSE 0 END) FROM users$$),
  ('operators', $$SELECT count(*) FROM users WHERE (email, id) = ('u7', 7)$$),
  ('operators', $$SELECT count(*) FROM users AS u JOIN (VALUES ('u7'::encrypted_text)) AS g (v) ON g.v = u.email$$),
  ('operators', $$SELECT count(*) FROM users WHERE email IN (SELECT 'u7'::encrypted_text)$$),
  ('operators', $$SELECT count(*) FROM barrier WHERE email = 'u7'$$),
  ('operators', $$SELECT count(*) FROM searching$$),
  ('operators', $$SELECT count(*) FROM secured$$),
  ('operators', $$EXPLAIN SELECT FROM users WHERE email = 'u7'$$),
  ('grouping', $$SELECT count(*) FROM (SELECT email FROM users UNION SELECT 'u7'::encrypted_text) AS x$$),
  ('grouping', $$SELECT count(*) FROM (SELECT bare FROM users INTERSECT SELECT 'u7'::encrypted_text) AS x$$),
  ('grouping', $$SELECT max(n) FROM (SELECT count(*) AS n FROM (SELECT bare FROM users UNION ALL SELECT 'u7') AS x GROUP BY bare) AS y$$),
  ('grouping', $$SELECT count(*) FROM (SELECT DISTINCT ARRAY[bare] FROM users UNION ALL SELECT ARRAY['u7'::encrypted_text]) AS x$$),
  ('grouping', $$WITH RECURSIVE r AS (SELECT 'u7'::encrypted_text AS v UNION SELECT bare FROM users, r WHERE id = 7) SELECT count(*) FROM r$$),
  ('arrays', $$SELECT array_position(ARRAY(SELECT email FROM users ORDER BY id), 'u7')$$),
  ('arrays', $$SELECT cardinality(array_positions(ARRAY(SELECT email FROM users), 'u7'))$$),
  ('arrays', $$SELECT cardinality(array_remove(ARRAY(SELECT email FROM users), 'u7'))$$),
  ('arrays', $$SELECT cardinality(array_replace(ARRAY(SELECT email FROM users), 'u7', NULL))$$),
  ('arrays', $$SELECT ARRAY(SELECT email FROM users) @> ARRAY['u7']::encrypted_text[]$$),
  ('arrays', $$SELECT ARRAY(SELECT email FROM users) && ARRAY['u7']::encrypted_text[]$$),
  ('arrays', $$SELECT count(*) FROM users WHERE tags = ARRAY['u7']::encrypted_text[]$$),
  ('arrays', $$SELECT hash_array(ARRAY['u7']::encrypted_text[]) = hash_array(tags) FROM users WHERE id = 7$$),
  ('arrays', $$SELECT hash_array_extended(ARRAY['u7']::encrypted_text[], 1) = hash_array_extended(tags, 1) FROM users WHERE id = 7$$),
  ('rows', $$SELECT count(*) FROM users WHERE ROW(email, id)::text <> '' AND record_eq(ROW(email), ROW('u7'::encrypted_text))$$),
  ('rows', $$SELECT count(*) FROM users WHERE record_ne(ROW(email), ROW('u7'::encrypted_text))$$),
  ('rows', $$SELECT count(*) FROM users WHERE ROW(id, bare)::pair = ROW(7, 'u7')::pair$$),
  ('rows', $$SELECT count(*) FROM users WHERE ROW(id, bare)::pair IN (ROW(7, 'u7')::pair, ROW(8, 'u7')::pair)$$),
  ('rows', $$SELECT hash_record(ROW(bare)) = hash_record(ROW('u7'::encrypted_text)) FROM users WHERE id = 7$$),
  ('ranges', $$SELECT count(*) FROM users WHERE span(email, email, '[]') = span('u7', 'u7', '[]')$$),
  ('ranges', $$SELECT count(*) FROM users WHERE span(email, email, '[]') @> 'u7'::encrypted_text$$),
  ('ranges', $$SELECT isempty(span('u7', email, '[)')) FROM users WHERE id = 7$$),
  ('tags', $$SELECT pg_column_size('u7'::text::encrypted_text('searchable')) > 0$$),
  ('tags', $$SELECT pg_column_size('u7'::varchar::tagged) > 0$$),
  ('tags', $$SELECT pg_column_size(ROW(1, 'u7')::tagged_pair) > 0$$),
  ('tags', $$SELECT (jsonb_populate_record(NULL::tagged_pair, '{"b": "u7"}')).b IS NULL$$),
  ('tags', $$SELECT b IS NULL FROM json_to_record('{"b": "u7"}') AS x (b encrypted_text('searchable'))$$),
  ('tags', $$SELECT ('(1,u7)'::tagged_pair).b IS NULL$$),
  ('tags', $$INSERT INTO users (id, email) VALUES (100, 'guess')$$),
  ('tags', $$INSERT INTO users (id, tags) VALUES (100, ARRAY['guess'])$$),
  ('tags', $$UPDATE users SET email = 'guess' WHERE id = 1$$),
  ('tags', $$UPDATE users SET tags[2] = 'guess'::text WHERE id = 1$$),
  ('tags', $$CREATE TABLE own (v encrypted_text); INSERT INTO own VALUES ('u7'); ALTER TABLE own ALTER v TYPE encrypted_text('searchable')$$),
  ('tags', $$DO 'DECLARE v encrypted_text(''searchable'') := ''u7'';BEGIN END'$$),
  ('constraints', $$INSERT INTO users (id, bare) VALUES (100, 'u7')$$),
  ('constraints', $$INSERT INTO users (id, bare) VALUES (100, 'u7') ON CONFLICT DO NOTHING$$),
  ('constraints', $$UPDATE users SET bare = 'u7' WHERE id = 1$$),
  ('constraints', $$INSERT INTO logins VALUES ('u7')$$),
  ('constraints', $$INSERT INTO logins VALUES ('nobody')$$),
  ('constraints', $$INSERT INTO excluded VALUES ('u7')$$),
  ('constraints', $$INSERT INTO excluded VALUES ('nobody')$$),
  ('constraints', $$INSERT INTO checked SELECT bare FROM users WHERE id = 7$$),
  ('constraints', $$SELECT bare::guess IS NULL FROM users WHERE id = 7$$),
  ('constraints', $$INSERT INTO parts VALUES ('u7')$$),
  ('constraints', $$SELECT satisfies_hash_partition('parts'::regclass, 1, 0, 'u7'::encrypted_text)$$),
  ('constraints', $$SELECT count(*) FROM parts WHERE v = 'u7'$$),
  ('own tables', $$CREATE TABLE own (v encrypted_text); CREATE UNIQUE INDEX ON own (v encrypted_text_unique_ops); INSERT INTO own SELECT bare FROM users; INSERT INTO own VALUES ('u7')$$),
  ('own tables', $$CREATE TABLE own (v encrypted_text, EXCLUDE USING hash (v WITH =)); INSERT INTO own SELECT email FROM users; INSERT INTO own VALUES ('u7')$$),
  ('own tables', $$CREATE TABLE own (v encrypted_text); INSERT INTO own SELECT email FROM users; INSERT INTO own VALUES ('u7'); CREATE UNIQUE INDEX ON own (v encrypted_text_unique_ops)$$),
  ('own tables', $$CREATE TABLE own (v encrypted_text); INSERT INTO own SELECT bare FROM users; CREATE INDEX ON own USING hash (v)$$),
  ('own tables', $$CREATE TABLE own (v encrypted_text); INSERT INTO own VALUES ('u7'); CREATE INDEX ON own USING hash ((ARRAY[v]))$$),
  ('own tables', $$CREATE TABLE own (v encrypted_text) PARTITION BY HASH (v); CREATE TABLE own_0 PARTITION OF own FOR VALUES WITH (MODULUS 1, REMAINDER 0); INSERT INTO own SELECT 'u7'$$),
  ('own tables', $$CREATE TABLE own (v encrypted_text REFERENCES users (email)); INSERT INTO own SELECT email FROM users$$),
  ('own tables', $$CREATE TABLE own (v encrypted_text REFERENCES users (email)); INSERT INTO own SELECT 'u7'$$),
  ('code', $$INSERT INTO watched VALUES ('u7') RETURNING seen$$),
  ('code', $$INSERT INTO ruled VALUES ('nobody')$$),
  ('code', $$SELECT by_sql('u7')$$),
  ('code', $$CREATE OPERATOR == (LEFTARG = encrypted_text, RIGHTARG = encrypted_text, FUNCTION = encrypted_text_eq); SELECT count(*) FROM users WHERE email == 'u7'$$),
  ('code', $$CREATE FUNCTION own(boolean, encrypted_text) RETURNS boolean LANGUAGE sql AS 'SELECT $1 OR $2 = ''u7'''; CREATE AGGREGATE any_u7 (encrypted_text) (SFUNC = own, STYPE = boolean, INITCOND = false); SELECT any_u7(email) FROM users$$),
  ('code', $$DEALLOCATE ALL; PREPARE q (encrypted_text) AS SELECT count(*) FROM users WHERE email = $1; EXECUTE q ('u7')$$),
  ('functions', $$SELECT encrypted_text_eq('u7'::encrypted_text, 'u7'::encrypted_text)$$),
  ('functions', $$SELECT encrypted_text_eq('u7', 'u7'::text)$$),
  ('functions', $$SELECT encrypted_text_hash('u7') IS NULL$$),
  ('functions', $$SELECT encrypted_text_hash('u7', 1) IS NULL$$),
  ('functions', $$SELECT encrypted_text_hash_text('u7') IS NULL$$),
  ('functions', $$SELECT encrypted_text_cmp('u7'::encrypted_text, 'u7'::encrypted_text)$$),
  ('functions', $$SELECT encrypted_text_cmp('u7'::encrypted_text, 'u7'::text)$$),
  ('functions', $$SELECT encrypted_text_cmp_text('u7', 'u7')$$),
  ('functions', $$SELECT length(blind_index('u7', 'c'))$$);

-- The answer, or the kind of error.
CREATE FUNCTION answer(role_ text, statement text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
  part text; result text;
BEGIN
  EXECUTE format('SET LOCAL ROLE %I', role_);
  PERFORM set_config('app.user', 'u7', true);
  FOREACH part IN ARRAY string_to_array(statement, '; ') LOOP
    IF part ~ '^(SELECT|WITH|EXPLAIN)|RETURNING' OR part LIKE 'EXECUTE%' THEN
      EXECUTE part INTO result;
    ELSE
      EXECUTE part;
      result := 'done';
    END IF;
  END LOOP;
  RAISE division_by_zero USING MESSAGE = coalesce(result, 'done');
EXCEPTION
  WHEN division_by_zero THEN RETURN SQLERRM;
  WHEN insufficient_privilege THEN RETURN 'denied';
  WHEN OTHERS THEN RETURN SQLSTATE;
END $$;
SELECT prism_crypt.grant_access('regress_prism_reader', 'search');
SELECT what, left(statement, 90) AS statement, answer('regress_prism_app', statement) AS without, answer('regress_prism_reader', statement) AS with
FROM attempt ORDER BY n;

-- What such a role does learn: which ciphertexts have equal tags, as it sees for itself.
SET ROLE regress_prism_app;
SELECT count(*) FROM users AS a JOIN users AS b ON substring(a.email::bytea, 20, 17) = substring(b.email::bytea, 20, 17);
SELECT array_position(ARRAY(SELECT email FROM users ORDER BY id), (SELECT email FROM users WHERE id = 7)) AS of_a_copy;
-- Statistics tell no more: of values without tags nothing.
CREATE TABLE own AS SELECT email, bare, 'u7'::encrypted_text AS guess, ARRAY[bare] AS list FROM users;
INSERT INTO own SELECT email, bare, 'u7'::encrypted_text, ARRAY['u7'::encrypted_text] FROM users;
CREATE STATISTICS own_statistics ON (coalesce(bare, guess)) FROM own;
ANALYZE own;
SELECT attname, n_distinct, most_common_freqs FROM pg_stats WHERE tablename = 'own' ORDER BY 1;
SELECT n_distinct FROM pg_stats_ext_exprs WHERE statistics_name = 'own_statistics';
RESET ROLE;

-- An answer that was kept for one role is no answer for the next, and none after the right is taken back.
SET ROLE regress_prism_reader;
SELECT count(*) FROM users WHERE email = 'u7';
PREPARE kept AS SELECT count(*) FROM users WHERE email = 'u7';
PREPARE kept_array AS SELECT array_position(ARRAY(SELECT bare FROM users ORDER BY id), 'u7');
PREPARE kept_index AS SELECT length(blind_index('u7', 'c'));
EXECUTE kept;
EXECUTE kept_array;
EXECUTE kept_index;
SET ROLE regress_prism_app;
CALL regress.fails('SELECT count(*) FROM users WHERE email = ''u7''');
EXECUTE kept;
EXECUTE kept_array;
-- Whoever prepared it may; what it says is what he wrote.
EXECUTE kept_index;
PREPARE other_index AS SELECT length(blind_index('u7', 'c'));
EXECUTE other_index;
RESET ROLE;
SELECT prism_crypt.revoke_access('regress_prism_reader', 'search');
SET ROLE regress_prism_reader;
EXECUTE kept;
EXECUTE kept_array;
CALL regress.fails('SELECT array_position(ARRAY(SELECT bare FROM users ORDER BY id), ''u7'')');
RESET ROLE;
