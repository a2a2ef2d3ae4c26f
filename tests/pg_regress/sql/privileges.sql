-- Who may what: each kind of access granted and taken back, and ways around it.
CALL regress.fresh();
CREATE TABLE patient (id int PRIMARY KEY, ssn encrypted_text('tax_id'), note encrypted_text, doc bytea);
INSERT INTO patient VALUES (1, '078-05-1120', encrypt_field('bound', 'row 1'), encrypt_bytes('bytes'));
GRANT SELECT, INSERT, UPDATE, DELETE ON patient TO PUBLIC;
SELECT encrypted_text_out(ssn) AS stolen FROM patient \gset

-- What each role may, one line a role and a statement.
CREATE TABLE attempt (n serial, what text, statement text);
INSERT INTO attempt (what, statement) VALUES
  ('encrypt', $$SELECT encrypt_field('x'), encrypt_bytes('x'), 'x'::encrypted_text, ('x'::text)::encrypted_text$$),
  ('version', $$SELECT key_version(ssn), key_version(doc), envelope_info(ssn), envelope_info(doc) FROM patient$$),
  ('decrypt', $$SELECT decrypt_field(ssn) FROM patient$$),
  ('decrypt', $$SELECT try_decrypt_field(ssn) FROM patient$$),
  ('decrypt', $$SELECT decrypt_bytes(doc) FROM patient$$),
  ('decrypt', $$SELECT ssn::text FROM patient$$),
  ('decrypt', $$SELECT ssn::varchar FROM patient$$),
  ('decrypt', $$SELECT ssn::char(3) FROM patient$$),
  ('decrypt', $$SELECT lower(ssn) FROM patient$$),
  ('decrypt', $$SELECT 1 FROM patient WHERE ssn LIKE '0%'$$),
  ('decrypt', $$SELECT ssn || '' FROM patient$$),
  ('decrypt', $$SELECT ARRAY[ssn]::text[] FROM patient$$),
  ('mask', $$SELECT mask_field(ssn) FROM patient$$),
  ('search', $$SELECT 1 FROM patient WHERE ssn = '078-05-1120'$$),
  ('search', $$SELECT 1 FROM patient WHERE '078-05-1120'::text <> ssn$$),
  ('search', $$SELECT 1 FROM patient WHERE ssn = current_user$$),
  ('search', $$SELECT 1 FROM patient WHERE ARRAY[ssn] = ARRAY[note]$$),
  ('search', $$SELECT DISTINCT ssn FROM patient$$),
  ('search', $$SELECT blind_index('x', NULL)$$),
  ('search', $$SELECT 'x'::encrypted_text('searchable')$$),
  ('search', $$SELECT encrypted_text_cmp(ssn, 'x'::text) FROM patient$$),
  ('rotate', $$SELECT reencrypt_field(ssn) FROM patient$$),
  ('rotate', $$SELECT reencrypt_bytes(doc) FROM patient$$),
  ('rotate', $$SELECT prism_crypt._is_rotatable(ssn) FROM patient$$),
  ('load', $$SELECT prism_crypt.load_envelope('prism:v1:AQ==')$$),
  ('load', $$SELECT 'prism:v1:AQ=='::encrypted_text$$),
  ('key_admin', $$SELECT generate_key()$$),
  ('key_admin', $$SELECT prism_crypt.rotate_key('nobody')$$),
  ('key_admin', $$SELECT prism_crypt.create_keyset('')$$),
  ('key_admin', $$SELECT prism_crypt.disable_key(-1)$$),
  ('key_admin', $$SELECT prism_crypt.enable_key(-1)$$),
  ('key_admin', $$SELECT prism_crypt.rotate_master_key('nobody')$$),
  ('monitor', $$SELECT prism_crypt.status()$$),
  ('key_admin', $$SELECT prism_crypt._replace_index_key('nobody', NULL)$$),
  ('monitor', $$SELECT * FROM prism_crypt.key_status$$),
  ('monitor', $$SELECT * FROM prism_crypt.index_key_status$$),
  ('nobody', $$SELECT * FROM prism_crypt.data_key$$),
  ('nobody', $$SELECT * FROM prism_crypt.keyset$$),
  ('nobody', $$INSERT INTO prism_crypt.keyset VALUES ('x')$$),
  ('nobody', $$UPDATE prism_crypt.data_key SET state = 'disabled'$$),
  ('nobody', $$DELETE FROM prism_crypt.data_key$$),
  ('nobody', $$TRUNCATE prism_crypt.data_key$$),
  ('nobody', $$SELECT * FROM prism_crypt.data_key_usage$$),
  ('nobody', $$UPDATE prism_crypt.data_key_usage SET seals_reserved = 0$$),
  ('nobody', $$SET prism_crypt.enforce_seal_limit = off$$),
  ('nobody', $$UPDATE prism_crypt.key_status SET state = 'disabled'$$),
  ('nobody', $$SELECT nextval('prism_crypt.data_key_version_seq')$$),
  ('nobody', $$SELECT setval('prism_crypt.data_key_version_seq', 1)$$),
  ('nobody', $$SELECT prism_crypt._wrap_new_key(1, 'default')$$),
  ('nobody', $$SELECT prism_crypt._rewrap_key(1)$$),
  ('nobody', $$SELECT prism_crypt._set_key_state(1, 'disabled', NULL)$$),
  ('nobody', $$SELECT * FROM prism_crypt.index_key$$),
  ('nobody', $$UPDATE prism_crypt.index_key SET retagged_at = NULL$$),
  ('nobody', $$SELECT prism_crypt._wrap_new_index_key(1, 'default')$$),
  ('nobody', $$SELECT prism_crypt._rewrap_index_key('default')$$),
  ('nobody', $$SELECT prism_crypt._make_index_key('default', 1, NULL)$$),
  ('nobody', $$SELECT prism_crypt._overwrite_index_key('default')$$),
  ('nobody', $$SELECT prism_crypt._lock_relation('patient'::regclass, true)$$),
  ('nobody', $$SELECT prism_crypt._count_outdated_tags('patient'::regclass, 'default')$$),
  ('nobody', $$SELECT prism_crypt._make_index_key('default', 2, 'why')$$),
  ('nobody', $$SELECT prism_crypt.grant_access(current_user::regrole, 'decrypt')$$),
  ('nobody', $$SELECT prism_crypt.revoke_access(current_user::regrole, 'decrypt')$$),
  ('nobody', $$CREATE TRIGGER x AFTER INSERT ON patient EXECUTE FUNCTION prism_crypt._data_key_changed()$$);
CREATE FUNCTION allowed(role_ text) RETURNS TABLE (statement text, result text) LANGUAGE plpgsql AS $$
DECLARE
  a attempt;
BEGIN
  FOR a IN SELECT * FROM attempt ORDER BY n LOOP
    BEGIN
      EXECUTE format('SET LOCAL ROLE %I', role_);
      EXECUTE a.statement;
      RAISE division_by_zero USING MESSAGE = 'may';
    EXCEPTION
      WHEN division_by_zero THEN result := 'may';
      WHEN insufficient_privilege THEN result := 'denied';
      -- Refused for its arguments, so it was called.
      WHEN OTHERS THEN result := 'may (' || SQLSTATE || ')';
    END;
    statement := a.what || ': ' || a.statement;
    RETURN NEXT;
  END LOOP;
END $$;
\pset format unaligned
\pset tuples_only on
SELECT r.result, r.statement FROM allowed('regress_prism_app') AS r;
-- Each kind of access adds exactly its own.
CREATE FUNCTION gained(role_ regrole, access_ text) RETURNS SETOF text LANGUAGE plpgsql AS $$
BEGIN
  CREATE TEMP TABLE before AS SELECT * FROM allowed(role_::text);
  PERFORM prism_crypt.grant_access(role_, access_);
  RETURN QUERY SELECT a.result || ' ' || a.statement FROM allowed(role_::text) AS a JOIN before AS b USING (statement) WHERE a.result <> b.result ORDER BY 1;
  PERFORM prism_crypt.revoke_access(role_, access_);
  RETURN QUERY SELECT 'LEFT ' || a.statement FROM allowed(role_::text) AS a JOIN before AS b USING (statement) WHERE a.result <> b.result ORDER BY 1;
  DROP TABLE before;
END $$;
SELECT gained('regress_prism_app', 'decrypt');
SELECT gained('regress_prism_app', 'mask');
SELECT gained('regress_prism_app', 'search');
SELECT gained('regress_prism_app', 'rotate');
SELECT gained('regress_prism_app', 'load');
SELECT gained('regress_prism_app', 'key_admin');
SELECT gained('regress_prism_app', 'monitor');
-- The owner of nothing but the table gains nothing by that.
ALTER TABLE patient OWNER TO regress_prism_owner;
SELECT r.statement FROM allowed('regress_prism_owner') AS r WHERE r.result <> 'denied';
ALTER TABLE patient OWNER TO postgres;
\pset tuples_only off
\pset format aligned

-- Two kinds that share the view: it goes with the last one. Granting and revoking twice is fine.
SELECT prism_crypt.grant_access('regress_prism_app', 'monitor'), prism_crypt.grant_access('regress_prism_app', 'key_admin'), prism_crypt.grant_access('regress_prism_app', 'monitor');
SELECT prism_crypt.revoke_access('regress_prism_app', 'monitor');
SELECT has_table_privilege('regress_prism_app', 'prism_crypt.key_status', 'SELECT');
SELECT prism_crypt.revoke_access('regress_prism_app', 'key_admin'), prism_crypt.revoke_access('regress_prism_app', 'key_admin');
SELECT has_table_privilege('regress_prism_app', 'prism_crypt.key_status', 'SELECT');
CALL regress.fails($$SELECT prism_crypt.grant_access('regress_prism_app', 'everything')$$);
CALL regress.fails($$SELECT prism_crypt.grant_access('regress_prism_app', NULL)$$);
CALL regress.fails($$SELECT prism_crypt.grant_access('regress_prism_nobody', 'decrypt')$$);
CALL regress.fails($$SELECT prism_crypt.grant_access(NULL, 'decrypt')$$);
CALL regress.fails($$SELECT prism_crypt.grant_access(12345678::regrole, 'decrypt')$$);
CALL regress.fails($$SELECT prism_crypt.revoke_access('regress_prism_app', 'everything')$$);
SELECT has_schema_privilege('regress_prism_app', 'prism_crypt', 'USAGE');
-- Names that need quotes.
CREATE ROLE "regress_prism Odd""Name";
SELECT prism_crypt.grant_access('"regress_prism Odd""Name"', 'decrypt');
SELECT has_function_privilege('regress_prism Odd"Name', 'decrypt_field(encrypted_text, text)', 'EXECUTE');
SELECT prism_crypt.revoke_access('"regress_prism Odd""Name"', 'decrypt');
-- Nothing of it is left, so the role can go.
DROP ROLE "regress_prism Odd""Name";

-- With somebody who may read in the house.
SELECT prism_crypt.grant_access('regress_prism_reader', 'decrypt');
SET ROLE regress_prism_reader;
SELECT decrypt_field(ssn), decrypt_field(note, 'row 1'), ssn::text, lower(ssn), decrypt_bytes(doc) FROM patient;
-- Views: functions run as the one who asks, so a view of a reader opens nothing to others.
CREATE VIEW readable AS SELECT id, decrypt_field(ssn) AS ssn FROM patient;
CREATE VIEW implicit AS SELECT id, ssn || '' AS ssn FROM patient;
GRANT SELECT ON readable, implicit TO PUBLIC;
CREATE FUNCTION read_for_all(int) RETURNS text LANGUAGE sql SECURITY DEFINER SET search_path = public, pg_temp AS $$ SELECT decrypt_field(ssn) FROM patient WHERE id = $1 $$;
CREATE FUNCTION read_as_caller(int) RETURNS text LANGUAGE sql AS $$ SELECT decrypt_field(ssn) FROM patient WHERE id = $1 $$;
SELECT ssn FROM readable;
SET ROLE regress_prism_app;
CALL regress.fails('SELECT ssn FROM readable');
CALL regress.fails('SELECT ssn FROM implicit');
CALL regress.fails('SELECT read_as_caller(1)');
-- A reader may lend the right on purpose.
SELECT read_for_all(1);
RESET ROLE;

-- A statement that a reader prepared is checked again when another role runs it.
SET ROLE regress_prism_reader;
PREPARE reading AS SELECT decrypt_field(ssn), ssn::text FROM patient;
EXECUTE reading;
SET ROLE regress_prism_app;
CALL regress.fails('EXECUTE reading');
RESET ROLE;
-- Output goes by the role that is on at that moment, value by value.
CREATE FUNCTION shown(encrypted_text) RETURNS text LANGUAGE sql AS $$ SELECT regexp_replace(format('%s', $1), 'prism:v1:.*', 'ciphertext') $$;
CREATE FUNCTION shown_to_reader(encrypted_text) RETURNS text LANGUAGE sql SECURITY DEFINER SET search_path = public, pg_temp AS $$ SELECT shown($1) $$;
ALTER FUNCTION shown_to_reader OWNER TO regress_prism_reader;
SET prism_crypt.output = 'plaintext';
SET ROLE regress_prism_app;
SELECT shown(ssn), shown_to_reader(ssn), shown(ssn), shown_to_reader(ssn) FROM patient;
RESET ROLE;
RESET prism_crypt.output;

-- By name tricks: functions of one's own in front.
SET ROLE regress_prism_app;
CREATE FUNCTION pg_temp.decrypt_field(encrypted_text, text DEFAULT NULL) RETURNS text LANGUAGE sql AS $$ SELECT 'mine' $$;
CREATE FUNCTION public.load_envelope(text) RETURNS encrypted_text LANGUAGE sql AS $$ SELECT NULL::encrypted_text $$;
CREATE FUNCTION public.mask_field(encrypted_text) RETURNS text LANGUAGE sql AS $$ SELECT 'mine' $$;
CREATE FUNCTION public.decrypt_field(encrypted_text) RETURNS text LANGUAGE sql AS $$ SELECT 'mine' $$;
SET prism_crypt.output = 'plaintext';
SELECT ssn::text = 'x' FROM patient;
SELECT format('%s', ssn) ~ '^prism:v1:' AS ciphertext FROM patient;
SET prism_crypt.output = 'masked';
SELECT format('%s', ssn) ~ '^prism:v1:' AS ciphertext FROM patient;
RESET prism_crypt.output;
CALL regress.fails(format('SELECT %L::encrypted_text', :'stolen'));
DROP FUNCTION public.load_envelope(text), public.mask_field(encrypted_text), public.decrypt_field(encrypted_text);
-- The C functions under another name, a cast or an operator on them.
CALL regress.fails($$CREATE FUNCTION mine(encrypted_text, text) RETURNS text LANGUAGE c AS '$libdir/prism_crypt', 'decrypt_field_wrapper'$$);
CALL regress.fails($$CREATE FUNCTION mine(encrypted_text) RETURNS text LANGUAGE internal AS 'textin'$$);
CALL regress.fails($$CREATE CAST (encrypted_text AS bytea) WITHOUT FUNCTION$$);
CALL regress.fails($$CREATE CAST (encrypted_text AS text) WITH INOUT AS IMPLICIT$$);
CALL regress.fails($$CREATE OPERATOR CLASS mine DEFAULT FOR TYPE encrypted_text USING btree AS FUNCTION 1 bttextcmp(text, text)$$);
CALL regress.fails($$ALTER FUNCTION decrypt_field(encrypted_text, text) SECURITY DEFINER$$);
CALL regress.fails($$CREATE OR REPLACE FUNCTION decrypt_field(value encrypted_text, context text DEFAULT NULL) RETURNS text LANGUAGE sql AS 'SELECT 1'$$);
CALL regress.fails($$GRANT EXECUTE ON FUNCTION decrypt_field(encrypted_text, text) TO regress_prism_app$$);
CALL regress.fails($$DROP FUNCTION decrypt_field(encrypted_text, text)$$);
-- A reader's operator needs the function's right of whoever uses it; so does what an aggregate calls.
CALL regress.fails($$CREATE OPERATOR public.@@@ (LEFTARG = encrypted_text, RIGHTARG = text, FUNCTION = decrypt_field)$$);
SET ROLE regress_prism_reader;
CREATE OPERATOR public.@@@ (LEFTARG = encrypted_text, RIGHTARG = text, FUNCTION = decrypt_field);
CREATE FUNCTION public.append(text, encrypted_text) RETURNS text LANGUAGE sql AS $$ SELECT $1 || $2 $$;
CREATE AGGREGATE public.append_all (encrypted_text) (SFUNC = public.append, STYPE = text, INITCOND = '');
SELECT note OPERATOR(public.@@@) 'row 1', (SELECT public.append_all(ssn) FROM patient) FROM patient;
SET ROLE regress_prism_app;
CALL regress.fails($$SELECT note OPERATOR(public.@@@) 'row 1' FROM patient$$);
CALL regress.fails('SELECT public.append_all(ssn) FROM patient');
-- In PL/pgSQL: assignment, conversion, concatenation, a record.
CALL regress.fails($$DO 'DECLARE t text; BEGIN SELECT ssn INTO t FROM patient; RAISE NOTICE ''%'', t; END'$$);
CALL regress.fails($$DO 'DECLARE e encrypted_text; t text; BEGIN SELECT ssn INTO e FROM patient; t := e; END'$$);
CALL regress.fails($$DO 'DECLARE e encrypted_text; BEGIN SELECT ssn INTO e FROM patient; PERFORM ''x'' || e; END'$$);
DO $$ DECLARE r record; BEGIN SELECT * INTO r FROM patient; RAISE INFO '%', regexp_replace(r.ssn::varchar::text, '.', 'x'); EXCEPTION WHEN insufficient_privilege THEN RAISE INFO 'denied'; END $$;
DO $$ DECLARE r record; BEGIN SELECT * INTO r FROM patient; RAISE INFO '%', format('%s', r) ~ 'prism:v1:'; END $$;
-- Copies, defaults, rules, generated columns, triggers, policies.
CREATE TABLE mine AS SELECT ssn FROM patient;
CALL regress.fails('ALTER TABLE mine ALTER ssn TYPE text');
CALL regress.fails('ALTER TABLE mine ADD CHECK (length(ssn) > 0)');
CALL regress.fails('CREATE TABLE leak (t) AS SELECT ssn::text FROM mine');
CALL regress.fails('CREATE MATERIALIZED VIEW leak AS SELECT lower(ssn) FROM mine');
CREATE TABLE plain (t text);
CALL regress.fails('INSERT INTO plain SELECT ssn FROM mine');
CALL regress.fails('UPDATE plain SET t = ssn FROM mine');
INSERT INTO plain VALUES ('x');
CALL regress.fails('UPDATE plain SET t = ssn FROM mine');
-- A stolen ciphertext can't be brought in, but what is there can be copied inside the database.
CALL regress.fails(format('INSERT INTO mine VALUES (%L)', :'stolen'));
INSERT INTO mine SELECT ssn FROM patient;
-- COPY shows ciphertext.
SET prism_crypt.output = 'plaintext';
\copy (SELECT ssn FROM mine LIMIT 1) TO 'results/mine.txt'
\set copied `grep -c '^prism:v1:' results/mine.txt`
\echo :copied
RESET prism_crypt.output;
-- Reading the state of others.
CALL regress.fails($$SELECT pg_read_binary_file('global/pg_control')$$);
SELECT count(*) FROM pg_stats WHERE tablename IN ('data_key', 'keyset');
RESET ROLE;

-- Re-encryption without a right to decrypt, key administration without a right to read.
SELECT prism_crypt.grant_access('regress_prism_rotator', 'rotate'), prism_crypt.grant_access('regress_prism_admin', 'key_admin');
SET ROLE regress_prism_admin;
SELECT prism_crypt.rotate_key() > 1 AS rotated;
SELECT count(*) FROM prism_crypt.key_status;
CALL regress.fails('SELECT decrypt_field(ssn) FROM patient');
CALL regress.fails('SELECT wrapped FROM prism_crypt.data_key');
-- What runs with the owner's rights looks nothing up where the caller could have put it.
CREATE TABLE pg_temp.keyset (name text);
CREATE TABLE pg_temp.data_key (version int, keyset text, state text);
CREATE FUNCTION pg_temp.format(text, text) RETURNS text LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'mine'; END $$;
CREATE FUNCTION public.equal(text, text) RETURNS bool LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'mine'; END $$;
CREATE OPERATOR public.= (LEFTARG = text, RIGHTARG = text, FUNCTION = public.equal);
SET search_path = pg_temp, public, pg_catalog;
SELECT prism_crypt.rotate_key() > 1 AS rotated, prism_crypt.create_keyset('tricky') > 1 AS made, prism_crypt.rotate_master_key() > 1 AS wrapped;
SELECT prism_crypt.disable_key(1), prism_crypt.enable_key(1);
CALL regress.fails('SELECT prism_crypt.disable_key(99)');
RESET search_path;
DROP OPERATOR public.= (text, text);
SET ROLE regress_prism_rotator;
UPDATE patient SET ssn = reencrypt_field(ssn), note = reencrypt_field(note), doc = reencrypt_bytes(doc);
CALL regress.fails('SELECT decrypt_field(ssn) FROM patient');
CALL regress.fails('SELECT mask_field(ssn) FROM patient');
CALL regress.fails('SELECT prism_crypt.rotate_key()');
SET ROLE regress_prism_reader;
SELECT key_version(ssn) > 1 AS moved, decrypt_field(ssn), decrypt_field(note, 'row 1'), decrypt_bytes(doc) FROM patient;
RESET ROLE;
-- A masker sees the mask of a class, and can't choose another one for it.
SELECT prism_crypt.grant_access('regress_prism_masker', 'mask');
SET ROLE regress_prism_masker;
SELECT mask_field(ssn), mask_field(note, 'row 1') FROM patient;
CALL regress.fails($$SELECT mask_field(ssn::encrypted_text('email')) FROM patient$$);
CALL regress.fails('SELECT decrypt_field(ssn) FROM patient');
RESET ROLE;

-- Rights through membership, SET ROLE, and a superuser that took on another role.
GRANT regress_prism_reader TO regress_prism_monitor;
SET ROLE regress_prism_monitor;
SELECT decrypt_field(ssn) FROM patient;
SET prism_crypt.output = 'plaintext';
SELECT ssn FROM patient;
RESET ROLE;
REVOKE regress_prism_reader FROM regress_prism_monitor;
SET ROLE regress_prism_monitor;
SELECT format('%s', ssn) ~ '^prism:' AS ciphertext FROM patient;
CALL regress.fails('SELECT decrypt_field(ssn) FROM patient');
RESET ROLE;
-- A right that is taken back counts at once, also in the output function.
GRANT EXECUTE ON FUNCTION decrypt_field(encrypted_text, text) TO regress_prism_app;
SET ROLE regress_prism_app;
SELECT ssn FROM patient;
RESET ROLE;
REVOKE EXECUTE ON FUNCTION decrypt_field(encrypted_text, text) FROM regress_prism_app;
SET ROLE regress_prism_app;
SELECT format('%s', ssn) ~ '^prism:' AS ciphertext FROM patient;
RESET ROLE;
RESET prism_crypt.output;
