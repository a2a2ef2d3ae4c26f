-- Unique indexes, upserts, exclusion constraints.
CALL regress.fresh();
CREATE TABLE users (id int, email encrypted_text('email', 'searchable'), n int DEFAULT 0);
CREATE UNIQUE INDEX users_email ON users (email encrypted_text_unique_ops);
\d users
INSERT INTO users VALUES (1, 'a@x.org'), (2, 'b@x.org'), (3, NULL), (4, NULL);
CALL regress.fails($$INSERT INTO users VALUES (5, 'a@x.org')$$);
CALL regress.fails($$INSERT INTO users VALUES (5, 'a@x.org'::text)$$);
CALL regress.fails($$INSERT INTO users VALUES (5, encrypt_field('a@x.org', 'with a context'))$$);
CALL regress.fails($$INSERT INTO users SELECT 5, email FROM users WHERE id = 1$$);
CALL regress.fails($$UPDATE users SET email = 'a@x.org' WHERE id = 2$$);
CALL regress.fails($$COPY users (id, email) FROM PROGRAM 'echo "5,a@x.org"' (FORMAT csv)$$);
INSERT INTO users VALUES (5, 'A@x.org'), (6, 'a@x.org ');
UPDATE users SET email = 'a@x.org' WHERE id = 1;
-- Upserts.
INSERT INTO users VALUES (7, 'a@x.org') ON CONFLICT DO NOTHING;
INSERT INTO users VALUES (7, 'a@x.org') ON CONFLICT (email) DO NOTHING;
INSERT INTO users AS u VALUES (7, 'a@x.org'), (8, 'c@x.org') ON CONFLICT (email) DO UPDATE SET n = u.n + 1 RETURNING id, n;
INSERT INTO users AS u VALUES (7, 'a@x.org'::text), (9, 'c@x.org') ON CONFLICT (email encrypted_text_unique_ops) DO UPDATE SET n = u.n + excluded.id, email = excluded.email WHERE u.email = 'c@x.org' RETURNING id, n;
PREPARE upsert(int, text) AS INSERT INTO users AS u VALUES ($1, $2) ON CONFLICT (email) DO UPDATE SET n = u.n + 1 RETURNING id, n;
SET plan_cache_mode = force_generic_plan;
EXECUTE upsert(10, 'd@x.org');
EXECUTE upsert(11, 'd@x.org');
EXECUTE upsert(11, NULL);
RESET plan_cache_mode;
CALL regress.fails($$INSERT INTO users VALUES (12, 'e@x.org'), (13, 'e@x.org') ON CONFLICT (email) DO UPDATE SET n = 1$$);
CALL regress.fails($$INSERT INTO users VALUES (12, 'e@x.org') ON CONFLICT (email text_ops) DO NOTHING$$);
CALL regress.fails($$INSERT INTO users VALUES (12, 'a@x.org') ON CONFLICT (id) DO NOTHING$$);
SELECT id, email::text, n FROM users ORDER BY id;
CALL regress.fails('CREATE UNIQUE INDEX ON users USING hash (email)');

-- Partial, with more columns, with columns along.
CREATE TABLE members (team int, email encrypted_text('searchable'), name text, left_at date, note text);
CREATE UNIQUE INDEX members_now ON members (team, email encrypted_text_unique_ops) INCLUDE (note) WHERE left_at IS NULL;
CREATE UNIQUE INDEX members_name ON members (email encrypted_text_unique_ops, lower(name), team) WHERE left_at > '2020-01-01';
INSERT INTO members VALUES (1, 'a', 'A', NULL), (2, 'a', 'A', NULL), (1, 'a', 'A', '2021-01-01'), (1, 'a', 'B', '2021-01-01'), (1, 'a', 'A', '2019-01-01'), (1, 'a', 'A', '2019-01-01');
CALL regress.fails($$INSERT INTO members VALUES (1, 'a', 'C', NULL)$$);
CALL regress.fails($$INSERT INTO members VALUES (1, 'a', 'a', '2022-01-01')$$);
INSERT INTO members VALUES (1, 'a', 'C', NULL, 'again') ON CONFLICT (team, email) WHERE left_at IS NULL DO UPDATE SET note = excluded.note RETURNING team, name, note;
INSERT INTO members VALUES (1, 'a', 'a', '2022-01-01') ON CONFLICT DO NOTHING;
CALL regress.fails($$INSERT INTO members VALUES (1, 'a') ON CONFLICT (team, email) DO NOTHING$$);
SET enable_seqscan = off;
SELECT regress.plan($$SELECT note FROM members WHERE team = 1 AND email = 'a' AND left_at IS NULL$$);
SELECT note FROM members WHERE team = 1 AND email = 'a' AND left_at IS NULL;
SELECT regress.plan($$SELECT note FROM members WHERE team IN (1, 2) AND email = 'a'::text AND left_at IS NULL$$);
SELECT count(*) FROM members WHERE team IN (1, 2) AND email = 'a'::text AND left_at IS NULL;
RESET enable_seqscan;

-- Exclusion constraints, also deferred.
CREATE TABLE rooms (id int, email encrypted_text('searchable'), EXCLUDE USING hash (email WITH =) WHERE (id > 0));
INSERT INTO rooms VALUES (1, 'a'), (2, 'b'), (3, NULL), (4, NULL), (0, 'a');
CALL regress.fails($$INSERT INTO rooms VALUES (5, 'a')$$);
CALL regress.fails($$UPDATE rooms SET email = 'a'::text WHERE id = 2$$);
INSERT INTO rooms VALUES (5, 'a') ON CONFLICT DO NOTHING;
CREATE TABLE later (id int, email encrypted_text('searchable'));
ALTER TABLE later ADD CONSTRAINT later_email EXCLUDE USING hash (email WITH =) DEFERRABLE INITIALLY DEFERRED;
INSERT INTO later VALUES (1, 'a'), (2, 'b');
BEGIN;
UPDATE later SET email = CASE id WHEN 1 THEN 'b' ELSE 'a' END;
COMMIT;
BEGIN;
INSERT INTO later VALUES (3, 'a');
SELECT id FROM later WHERE email = 'a' ORDER BY id;
\set VERBOSITY sqlstate
COMMIT;
ALTER TABLE later ADD EXCLUDE USING hash (email WITH <>);
\set VERBOSITY default
SELECT id, email::text FROM later ORDER BY id;

-- Columns that are not searchable: unique as well, with a warning that says what it costs.
CREATE TABLE loose (id int, email encrypted_text);
CREATE UNIQUE INDEX loose_email ON loose (email encrypted_text_unique_ops);
CREATE INDEX loose_hash ON loose USING hash (email);
ALTER TABLE loose ADD CONSTRAINT loose_excluded EXCLUDE USING hash (email WITH =);
INSERT INTO loose VALUES (1, 'a'), (2, encrypt_field('b', 'with a context'));
CALL regress.fails($$INSERT INTO loose VALUES (3, 'a')$$);
CALL regress.fails($$INSERT INTO loose VALUES (3, 'b')$$);
CALL regress.fails($$INSERT INTO loose SELECT 3, email FROM users WHERE id = 1 UNION ALL SELECT 4, encrypt_field('a@x.org', 'x')$$);
INSERT INTO loose AS l VALUES (3, 'a') ON CONFLICT (email) DO UPDATE SET id = excluded.id RETURNING id;
SET enable_seqscan = off;
SELECT id FROM loose WHERE email = 'b';
RESET enable_seqscan;
-- No warning where columns are only along, or become searchable.
ALTER TABLE loose ALTER email TYPE encrypted_text('searchable');
CREATE INDEX ON loose (id) INCLUDE (email);
CALL regress.fails($$INSERT INTO loose VALUES (4, 'b')$$);

-- Existing duplicates; built while others write; partitions.
INSERT INTO rooms VALUES (0, 'b');
CALL regress.fails('CREATE UNIQUE INDEX ON rooms (email encrypted_text_unique_ops)');
\set VERBOSITY terse
CREATE UNIQUE INDEX CONCURRENTLY rooms_unique ON rooms (email encrypted_text_unique_ops);
\set VERBOSITY default
SELECT indisvalid FROM pg_index WHERE indexrelid = 'rooms_unique'::regclass;
DROP INDEX rooms_unique;
DELETE FROM rooms WHERE id = 0;
CREATE UNIQUE INDEX CONCURRENTLY rooms_unique ON rooms (email encrypted_text_unique_ops);
CREATE INDEX CONCURRENTLY rooms_hash ON rooms USING hash (email);
REINDEX TABLE rooms;
REINDEX INDEX CONCURRENTLY rooms_unique;
CALL regress.fails($$INSERT INTO rooms VALUES (-1, 'b')$$);
CREATE TABLE parted (region int, email encrypted_text('searchable')) PARTITION BY LIST (region);
CREATE TABLE parted_1 PARTITION OF parted FOR VALUES IN (1);
CREATE UNIQUE INDEX parted_email ON parted (region, email encrypted_text_unique_ops);
CREATE INDEX ON parted USING hash (email);
CREATE TABLE parted_2 PARTITION OF parted FOR VALUES IN (2);
INSERT INTO parted VALUES (1, 'a'), (2, 'a');
CALL regress.fails($$INSERT INTO parted VALUES (2, 'a')$$);
INSERT INTO parted VALUES (2, 'a') ON CONFLICT (region, email) DO NOTHING;
CREATE TABLE hashed (email encrypted_text('searchable'), n int) PARTITION BY HASH (email);
CREATE TABLE hashed_0 PARTITION OF hashed FOR VALUES WITH (MODULUS 2, REMAINDER 0);
CREATE TABLE hashed_1 PARTITION OF hashed FOR VALUES WITH (MODULUS 2, REMAINDER 1);
CREATE UNIQUE INDEX hashed_email ON hashed (email encrypted_text_unique_ops);
INSERT INTO hashed SELECT n, 1 FROM generate_series(1, 20) AS n;
-- In which partition the value is depends on the index key.
\set VERBOSITY sqlstate
INSERT INTO hashed VALUES ('7', 2);
\set VERBOSITY default
INSERT INTO hashed AS h SELECT n, 10 FROM generate_series(11, 25) AS n ON CONFLICT (email) DO UPDATE SET n = h.n + excluded.n;
SELECT n, count(*) FROM hashed GROUP BY n ORDER BY n;

-- What ANALYZE compares for itself needs no key; what functions of indexes run in it is compared as ever: nobody gets a row
-- past an exclusion constraint.
CREATE TABLE accounts (id int, email encrypted_text, EXCLUDE USING hash (email WITH =));
CREATE TABLE profiles (id int, emails encrypted_text[], EXCLUDE USING hash (emails WITH =));
INSERT INTO accounts VALUES (1, 'taken@x.org');
INSERT INTO profiles VALUES (1, '{taken@x.org}');
CREATE TABLE analyzed (a int, emails encrypted_text[]);
INSERT INTO analyzed SELECT n, ARRAY['e' || n % 2]::text[]::encrypted_text[] FROM generate_series(1, 4) AS n;
CREATE TABLE told (what text);
CREATE FUNCTION meddle(int) RETURNS int LANGUAGE plpgsql IMMUTABLE AS 'BEGIN RETURN $1; END';
CREATE INDEX ON analyzed (meddle(a));
CREATE STATISTICS meddled ON (meddle(a) + 1) FROM analyzed;
CREATE OR REPLACE FUNCTION meddle(int) RETURNS int LANGUAGE plpgsql VOLATILE AS $$
DECLARE one public.encrypted_text[] = ARRAY['e'::text]; two public.encrypted_text[] = ARRAY['e'::text];
BEGIN
    IF one OPERATOR(pg_catalog.=) two THEN INSERT INTO public.told VALUES ('equal'); ELSE INSERT INTO public.told VALUES ('not equal'); END IF;
    BEGIN INSERT INTO public.accounts VALUES (2, 'taken@x.org'); EXCEPTION WHEN exclusion_violation THEN INSERT INTO public.told VALUES ('refused by accounts'); END;
    BEGIN INSERT INTO public.profiles VALUES (2, '{taken@x.org}'); EXCEPTION WHEN exclusion_violation THEN INSERT INTO public.told VALUES ('refused by profiles'); END;
    RETURN $1;
END $$;
DELETE FROM analyzed WHERE a > 1;
ANALYZE analyzed;
SELECT DISTINCT what FROM told ORDER BY what;
SELECT id FROM accounts;
SELECT id FROM profiles;
