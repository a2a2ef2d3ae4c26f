-- Data keys and master keys change, values are sealed anew: no answer, index or constraint does, before, in the middle and after.
CALL regress.fresh();
\set SHOW_CONTEXT never
CREATE TABLE users (id int PRIMARY KEY, email encrypted_text('email', 'searchable'), note encrypted_text, plain text, EXCLUDE USING hash (email WITH =));
CREATE TABLE logins (id int, email encrypted_text('email', 'searchable'), plain text);
INSERT INTO users SELECT n, 'u' || n, 'n' || n % 5, 'u' || n FROM generate_series(1, 40) AS n;
INSERT INTO logins SELECT n, 'u' || n % 15, 'u' || n % 15 FROM generate_series(1, 60) AS n;
CREATE UNIQUE INDEX users_email ON users (email encrypted_text_unique_ops);
CREATE INDEX users_hash ON users USING hash (email);
CREATE INDEX logins_hash ON logins USING hash (email);
SET client_min_messages = error;
CREATE INDEX users_note ON users USING hash (note);
RESET client_min_messages;
ALTER TABLE logins ADD FOREIGN KEY (email) REFERENCES users (email) NOT VALID;
CREATE TEMP TABLE tags AS SELECT id, substr(email::bytea, 20, 17) AS tag FROM users;
CREATE FUNCTION answers() RETURNS TABLE (scan text, versions int[], looked_up text, joined text, notes text, upserted bigint, duplicates bigint, tags bigint) LANGUAGE plpgsql SET enable_seqscan = on SET enable_hashjoin = on AS $$
BEGIN
  SELECT array_agg(DISTINCT key_version(email)) INTO versions FROM users;
  SELECT count(*) INTO tags FROM users AS u JOIN tags AS t ON t.id = u.id AND t.tag = substr(u.email::bytea, 20, 17);
  FOREACH scan IN ARRAY ARRAY['on', 'off'] LOOP
    PERFORM set_config('enable_seqscan', scan, true), set_config('enable_hashjoin', scan, true);
    SELECT count(*) || ' ' || bool_and(u.plain = 'u' || n.n) INTO looked_up FROM generate_series(1, 50) AS n (n) JOIN users AS u ON u.email = 'u' || n.n;
    SELECT count(*) || ' ' || bool_and(u.plain = l.plain) INTO joined FROM users AS u JOIN logins AS l ON u.email = l.email;
    SELECT count(*) || ' ' || (SELECT count(*) FROM (SELECT DISTINCT note FROM users) AS d) INTO notes FROM users WHERE note = ANY (ARRAY['n1', 'n2']);
    WITH i AS (INSERT INTO users AS u SELECT 1000 + n, 'u' || n, NULL, 'u' || n FROM generate_series(1, 40) AS n ON CONFLICT (email) DO UPDATE SET plain = excluded.plain RETURNING u.id)
    SELECT count(*) INTO upserted FROM i WHERE id < 1000;
    duplicates := 0;
    FOR i IN 1..40 LOOP
      BEGIN
        INSERT INTO users VALUES (1000 + i, 'u' || i);
      EXCEPTION WHEN unique_violation OR exclusion_violation THEN duplicates := duplicates + 1;
      END;
    END LOOP;
    RETURN NEXT;
  END LOOP;
END $$;
SELECT * FROM answers();
PREPARE by_text(text) AS SELECT id FROM users WHERE email = $1;
PREPARE by_literal AS SELECT id FROM users WHERE email = 'u7' AND note = 'n2'::text;
SET plan_cache_mode = force_generic_plan;
EXECUTE by_text('u7');
EXECUTE by_literal;
-- A new data key; half of the rows; all of them; the old key disabled, and gone.
SELECT prism_crypt.rotate_key();
SELECT * FROM answers();
SET client_min_messages = warning;
CALL rotate_batch('users', batch_size => 10, max_batches => 2);
SELECT * FROM answers();
EXECUTE by_literal;
CALL rotate_batch('users');
CALL rotate_batch('logins');
RESET client_min_messages;
SELECT * FROM answers();
SELECT prism_crypt.disable_key(1);
SELECT * FROM answers();
EXECUTE by_text('u7');
EXECUTE by_literal;
SET client_min_messages = warning;
SELECT prism_crypt.destroy_key(1, 'rotated away');
RESET client_min_messages;
SELECT * FROM answers();
REINDEX TABLE users;
-- A new master key.
SET prism_crypt.master_key_command = 'echo $PRISM_TEST_KEY_NEXT; echo $PRISM_TEST_KEY_MAIN';
SELECT prism_crypt.rotate_master_key();
SET prism_crypt.master_key_env = 'PRISM_TEST_KEY_NEXT';
RESET prism_crypt.master_key_command;
SELECT * FROM answers();
EXECUTE by_literal;
-- An emergency.
SET client_min_messages = warning;
SELECT * FROM prism_crypt.emergency_rotation('a test');
SELECT * FROM answers();
CALL prism_crypt.rotate_all();
RESET client_min_messages;
SELECT * FROM answers();
-- Values sealed anew by hand, in every order.
UPDATE users SET email = reencrypt_field(email), note = reencrypt_field(note);
UPDATE logins SET email = email::text;
SELECT * FROM answers();
-- A disabled key: values with tags are found on, and those without are not.
SELECT prism_crypt.rotate_key();
SELECT prism_crypt.disable_key(3);
SELECT count(*) FROM generate_series(1, 40) AS n (n) JOIN users AS u ON u.email = 'u' || n.n;
SELECT count(*) FROM users AS u JOIN logins AS l ON u.email = l.email;
CALL regress.fails($$SELECT count(*) FROM users WHERE note = 'n1'$$);
INSERT INTO users VALUES (50, 'u7') ON CONFLICT (email) DO NOTHING;
SELECT prism_crypt.enable_key(3);
SELECT count(*) FROM users WHERE note = 'n1';
RESET prism_crypt.master_key_env;
