-- PostgreSQL 17 and later
-- MAINTAIN: whoever may look after a table needs no right on its values, and gets none by it.
CALL regress.fresh();
SET client_min_messages = warning;
CREATE ROLE maintain_role; CREATE ROLE maintain_owner;
CREATE TABLE users (id int PRIMARY KEY, email encrypted_text('searchable') UNIQUE, name encrypted_text);
INSERT INTO users SELECT n, 'u' || n || '@x.org', 'n' || n FROM generate_series(1, 300) AS n;
CREATE INDEX users_hash ON users USING hash (email);
CREATE INDEX users_name ON users USING hash (name);
CREATE MATERIALIZED VIEW stored AS SELECT id, email FROM users;
CREATE MATERIALIZED VIEW opened AS SELECT id, decrypt_field(email) AS email FROM users;
GRANT MAINTAIN ON users, stored, opened TO maintain_role;
SET ROLE maintain_role;
RESET client_min_messages;
VACUUM users;
ANALYZE users;
VACUUM (FULL, ANALYZE) users;
CLUSTER users USING users_pkey;
REINDEX TABLE users;
REINDEX TABLE CONCURRENTLY users;
REFRESH MATERIALIZED VIEW stored;
-- That runs as the owner, who may decrypt.
REFRESH MATERIALIZED VIEW opened;
CALL regress.fails('SELECT email FROM users');
CALL regress.fails('SELECT email FROM opened');
CALL regress.fails('SELECT * FROM prism_crypt.data_key');
CALL regress.fails($$CALL prism_crypt.rotate_batch('users')$$);
CALL regress.fails('SELECT prism_crypt.rotate_key()');
-- The owner of a view who may not decrypt can't have it refreshed by somebody who may.
RESET ROLE;
GRANT SELECT ON users TO maintain_owner;
GRANT CREATE ON SCHEMA public TO maintain_owner;
SELECT prism_crypt.grant_access('maintain_role', 'decrypt');
SET ROLE maintain_owner;
CREATE MATERIALIZED VIEW of_owner AS SELECT id, decrypt_field(name) AS name FROM users WITH NO DATA;
GRANT MAINTAIN ON of_owner TO maintain_role;
SET ROLE maintain_role;
CALL regress.fails('REFRESH MATERIALIZED VIEW of_owner');
RESET ROLE;
CALL regress.fails('REFRESH MATERIALIZED VIEW of_owner');
-- All tables of all users, with pg_maintain: the extension's own too, and still no value.
GRANT pg_maintain TO maintain_role;
SET ROLE maintain_role;
REINDEX TABLE prism_crypt.data_key;
ANALYZE prism_crypt.data_key;
VACUUM prism_crypt.data_key_usage;
CALL regress.fails('SELECT wrapped FROM prism_crypt.data_key');
RESET ROLE;
SELECT count(*), count(DISTINCT decrypt_field(email)) FROM users WHERE email IN ('u7@x.org', 'u8@x.org');
INSERT INTO users VALUES (1000, 'u1000@x.org', 'x');
-- A login trigger runs as whoever logs in, with his rights.
CREATE TABLE logins (role name, opened text);
GRANT INSERT ON logins TO PUBLIC;
GRANT SELECT ON users TO regress_prism_app, regress_prism_reader;
SELECT prism_crypt.grant_access('regress_prism_reader', 'decrypt');
CREATE FUNCTION at_login() RETURNS event_trigger LANGUAGE plpgsql AS $$
BEGIN
  IF current_user ~ 'regress_prism' THEN
    INSERT INTO public.logins SELECT current_user, decrypt_field(name) FROM public.users WHERE id = 7;
  END IF;
EXCEPTION WHEN insufficient_privilege THEN
  INSERT INTO public.logins VALUES (current_user, SQLERRM);
END $$;
CREATE EVENT TRIGGER at_login ON login EXECUTE FUNCTION at_login();
ALTER EVENT TRIGGER at_login ENABLE ALWAYS;
\c - regress_prism_app
SELECT 1 AS connected;
\c - regress_prism_reader
SELECT 1 AS connected;
\c - postgres
DROP EVENT TRIGGER at_login;
SELECT * FROM logins ORDER BY role;
