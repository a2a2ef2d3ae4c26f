-- Another index key: indexes are built anew at once, tags little by little, and no answer changes before, between and after.
CALL regress.fresh();
\set SHOW_CONTEXT never
SELECT keyset, generation, state, retagged_at IS NOT NULL AS retagged, destroyed_at, reason FROM prism_crypt.index_key_status;
SELECT prism_crypt.create_keyset('other'), prism_crypt.rotate_key();
SELECT keyset, generation, state, retagged_at IS NOT NULL AS retagged, reason FROM prism_crypt.index_key_status ORDER BY 1, 2;
CREATE DOMAIN mail AS encrypted_text('email', 'searchable');
CREATE TYPE contact AS (mail mail, n int);
CREATE TABLE users (id int, email encrypted_text('email', 'searchable'), plain text, mails mail[], c contact);
CREATE TABLE logins (id int, email encrypted_text('searchable'), plain text);
CREATE TABLE solo (email encrypted_text('searchable'), plain text, EXCLUDE USING hash (email WITH =));
CREATE TABLE parted (region int, email mail, plain text) PARTITION BY LIST (region);
CREATE TABLE parted_1 PARTITION OF parted FOR VALUES IN (1);
CREATE TABLE parted_2 PARTITION OF parted FOR VALUES IN (2);
CREATE TABLE loose (id int, email encrypted_text, plain text);
INSERT INTO users SELECT n, v, v, ARRAY[v, NULL, 'x'], ROW(v, n)::contact FROM (SELECT n, CASE WHEN n % 10 > 0 THEN 'u' || n END FROM generate_series(1, 60) AS n) AS r (n, v);
INSERT INTO logins SELECT n, v, v FROM (SELECT n, 'u' || n % 20 FROM generate_series(1, 60) AS n) AS r (n, v);
INSERT INTO solo SELECT n, n FROM generate_series(1, 30) AS n;
INSERT INTO parted SELECT 1 + id % 2, email, plain FROM users;
INSERT INTO loose SELECT id, plain::encrypted_text, plain FROM users;
SET prism_crypt.keyset = 'other';
INSERT INTO users VALUES (101, 'u1', 'u1 of other'), (102, 'u2', 'u2 of other');
RESET prism_crypt.keyset;
CREATE MATERIALIZED VIEW stored AS SELECT id, email, plain FROM users;
CREATE UNIQUE INDEX users_email ON users (email encrypted_text_unique_ops);
CREATE INDEX users_mails ON users USING hash (mails);
CREATE INDEX users_c ON users USING hash (c);
CREATE INDEX users_expression ON users USING hash ((ARRAY[email]));
CREATE INDEX logins_email ON logins USING hash (email);
CREATE UNIQUE INDEX parted_email ON parted (region, email encrypted_text_unique_ops);
CREATE INDEX stored_email ON stored USING hash (email);
SET client_min_messages = error;
CREATE UNIQUE INDEX loose_email ON loose (email encrypted_text_unique_ops);
RESET client_min_messages;
-- Every value found by its plaintext, joins, arrays, rows, uniqueness; by index and without. What is wrong is told.
CREATE FUNCTION found_in(relation regclass) RETURNS TABLE (found bigint, wrong bigint) LANGUAGE plpgsql AS $$
BEGIN
  RETURN QUERY EXECUTE format($q$SELECT count(*), count(*) FILTER (WHERE t.plain IS DISTINCT FROM p.plain)
    FROM (SELECT DISTINCT plain FROM %1$s) AS p JOIN %1$s AS t ON t.email = p.plain$q$, relation);
END $$;
CREATE FUNCTION answers() RETURNS TABLE (scan text, users text, logins text, parted text, stored text, loose text, solo text, joined bigint, mixed bigint, arrays bigint, rows bigint, expressions bigint, groups bigint, duplicates bigint) LANGUAGE plpgsql
  SET enable_seqscan = on SET enable_hashjoin = on AS $$
BEGIN
  FOREACH scan IN ARRAY ARRAY['on', 'off'] LOOP
    PERFORM set_config('enable_seqscan', scan, true), set_config('enable_hashjoin', scan, true);
    users := found_in('users')::text; logins := found_in('logins')::text; parted := found_in('parted')::text; stored := found_in('stored')::text; loose := found_in('loose')::text; solo := found_in('solo')::text;
    SELECT count(*) INTO joined FROM users AS u JOIN logins AS l ON u.email = l.email;
    SELECT count(*) INTO mixed FROM users AS u JOIN loose AS l ON u.email = l.email JOIN stored AS s ON s.email = u.email JOIN parted AS p ON p.email = s.email;
    SELECT count(*) INTO arrays FROM users AS u JOIN users AS w ON u.mails = ARRAY[w.plain, NULL, 'x']::text[]::mail[];
    SELECT count(*) INTO rows FROM users AS u JOIN users AS w ON u.c = ROW(w.plain, w.id)::contact;
    SELECT count(*) INTO expressions FROM users AS u JOIN logins AS l ON ARRAY[u.email] = ARRAY[l.email];
    SELECT count(*) INTO groups FROM (SELECT l.email FROM logins AS l UNION SELECT u.email FROM users AS u) AS g;
    duplicates := 0;
    FOR i IN 1..60 LOOP
      BEGIN
        INSERT INTO users AS u (id, email) VALUES (-1, 'u' || i);
        RAISE division_by_zero;
      EXCEPTION WHEN unique_violation THEN duplicates := duplicates + 1; WHEN division_by_zero THEN
      END;
      BEGIN
        INSERT INTO solo AS o VALUES (i);
        RAISE division_by_zero;
      EXCEPTION WHEN exclusion_violation THEN duplicates := duplicates + 1; WHEN division_by_zero THEN
      END;
    END LOOP;
    RETURN NEXT;
  END LOOP;
END $$;
CREATE VIEW generations AS
  SELECT r.place, i.search_generation AS generation, count(*) FROM (
    SELECT 'users', email, plain FROM users UNION ALL SELECT 'logins', email, plain FROM logins UNION ALL SELECT 'solo', email, plain FROM solo UNION ALL SELECT 'parted', email, plain FROM parted UNION ALL SELECT 'stored', email, plain FROM stored
    UNION ALL SELECT 'arrays', m, plain FROM users, unnest(mails) AS m UNION ALL SELECT 'rows', (c).mail, plain FROM users) AS r (place, email, plain), envelope_info(r.email) AS i WHERE plain !~ 'other' GROUP BY 1, 2;
SELECT * FROM answers();
SELECT * FROM generations ORDER BY 1, 2;
PREPARE by_text(text) AS SELECT id FROM users WHERE email = $1;
PREPARE by_literal AS SELECT id FROM users WHERE email = 'u7' OR mails = ARRAY['u8', NULL, 'x']::mail[] ORDER BY id;
SET plan_cache_mode = force_generic_plan;
EXECUTE by_text('u7');
EXECUTE by_literal;

-- The key itself and the indexes. All tags are outdated, but those of the other keyset.
SELECT prism_crypt._replace_index_key('default', 'halfway');
SELECT keyset, generation, state, retagged_at IS NOT NULL AS retagged, destroyed_at IS NOT NULL AS destroyed, reason FROM prism_crypt.index_key_status ORDER BY 1, 2;
SELECT keyset, generation, length(wrapped) AS wrapped FROM prism_crypt.index_key ORDER BY 1, 2;
SELECT * FROM answers();
EXECUTE by_text('u7');
EXECUTE by_literal;
-- What is written now has the new one: new values, and old ones on their way into searchable columns.
INSERT INTO logins VALUES (61, 'u1', 'u1'), (62, 'nobody', 'nobody');
INSERT INTO logins SELECT 63, email, plain FROM users WHERE id = 2;
UPDATE users SET email = 'u3' WHERE id = 3;
UPDATE users SET email = email, mails = mails WHERE id = 4;
INSERT INTO parted VALUES (1, 'u2', 'u2'), (2, 'u2', 'u2') ON CONFLICT (region, email) DO UPDATE SET plain = excluded.plain, email = excluded.email;
INSERT INTO loose SELECT 200, email, 'u61' FROM (SELECT 'u61'::mail) AS v (email);
SELECT * FROM generations WHERE generation = 2 ORDER BY 1, 2;
SELECT * FROM answers();
DELETE FROM logins WHERE id > 60;
-- Half of the rows.
CALL prism_crypt.rotate_all(batch_size => 5, max_batches => 2, keyset => 'default');
SELECT count(*) FILTER (WHERE generation = 1) > 0 AS old_ones, count(*) FILTER (WHERE generation = 2) > 0 AS new_ones FROM generations;
SELECT * FROM answers();
REINDEX INDEX users_email;
VACUUM FULL logins;
CREATE INDEX users_hash ON users USING hash (email);
ALTER TABLE logins ADD CONSTRAINT more EXCLUDE USING hash (email WITH =) WHERE (id > 41);
ANALYZE;
SELECT * FROM answers();
-- Without the keys, what has an old tag can't be compared with what has the new one; with another old one it can't either.
SET prism_crypt.master_key_env = '';
CALL regress.fails('SELECT count(*) FROM users AS u JOIN logins AS l ON u.email = l.email');
CALL regress.fails('SELECT count(*) FROM (SELECT DISTINCT email FROM stored) AS s');
ANALYZE users;
RESET prism_crypt.master_key_env;
-- It goes on where it was. A materialized view is not rotated.
SELECT prism_crypt._is_retagging('default'), prism_crypt._is_retagging('other');
SET client_min_messages = warning;
CALL prism_crypt.rotate_index_key();
RESET client_min_messages;
SELECT * FROM generations ORDER BY 1, 2;
SELECT * FROM answers();
SELECT retagged_at IS NOT NULL AS retagged FROM prism_crypt.index_key_status WHERE keyset = 'default' AND state = 'active';
REFRESH MATERIALIZED VIEW stored;
CALL prism_crypt.rotate_index_key();
SELECT retagged_at IS NOT NULL AS retagged FROM prism_crypt.index_key_status WHERE keyset = 'default' AND state = 'active';
SELECT DISTINCT generation FROM generations;
SELECT * FROM answers();

-- All at once, and what the log of key events has.
REFRESH MATERIALIZED VIEW stored WITH NO DATA;
CALL prism_crypt.rotate_index_key('default', reason => 'all at once');
REFRESH MATERIALIZED VIEW stored;
SELECT DISTINCT generation FROM generations;
SELECT * FROM answers();
EXECUTE by_text('u7');
EXECUTE by_literal;
SELECT event, keyset, key_version, reason, detail FROM prism_crypt.audit_log WHERE event ~ 'index' ORDER BY id;
