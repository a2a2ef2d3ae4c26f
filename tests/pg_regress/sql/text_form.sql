-- Text forms: what is one, what only looks like one, and who may load one.
CALL regress.fresh();
SELECT prism_crypt.grant_access('regress_prism_loader', 'load');
CREATE TABLE t (id int, v encrypted_text, e encrypted_text('email'));
GRANT ALL ON t TO PUBLIC;
INSERT INTO t VALUES (1, 'one', 'one@example.org');
SELECT encrypted_text_out(v) AS one, encrypted_text_out(e) AS mail FROM t \gset

-- By role: literals, parameters, arrays, casts of every kind.
SET ROLE regress_prism_loader;
INSERT INTO t VALUES (2, :'one', :'mail');
PREPARE load (encrypted_text) AS INSERT INTO t (id, v) VALUES (3, $1);
EXECUTE load(:'one');
INSERT INTO t VALUES (4, (ARRAY[:'one']::encrypted_text[])[1], NULL);
INSERT INTO t VALUES (5, prism_crypt.load_envelope(:'one'), prism_crypt.load_envelope(:'mail'));
SET ROLE regress_prism_app;
CALL regress.fails(format('INSERT INTO t VALUES (9, %L)', :'one'));
CALL regress.fails(format('EXECUTE load(%L)', :'one'));
CALL regress.fails(format('SELECT (ARRAY[%L]::encrypted_text[])[1]', :'one'));
CALL regress.fails(format('SELECT prism_crypt.load_envelope(%L)', :'one'));
CALL regress.fails(format('SELECT encrypted_text_in(%L, 0, -1)', :'one'));
-- A cast from text loads nothing, and does not encrypt what is encrypted already. encrypt_field() encrypts anything.
CALL regress.fails(format('INSERT INTO t VALUES (6, %L::text)', :'one'));
CALL regress.fails(format('INSERT INTO t VALUES (6, %L::varchar)', :'one'));
INSERT INTO t VALUES (6, encrypt_field(:'one'), encrypt_field(:'mail'));
RESET ROLE;
SELECT id, decrypt_field(v) = :'one' AS twice, CASE WHEN id < 6 THEN decrypt_field(v) END AS v, decrypt_field(e) = :'mail' AS twice,
       CASE WHEN id < 6 THEN decrypt_field(e) END AS e FROM t ORDER BY id;

-- Only this shape is a text form: everything else is plaintext, for everybody.
SET ROLE regress_prism_app;
CREATE TEMP TABLE looks (v encrypted_text);
INSERT INTO looks VALUES ('prism:'), ('prism:v'), ('prism:v1'), ('prism:vx:'), ('prism:v:AQ=='), ('Prism:v1:AQ=='), (' prism:v1:AQ=='), ('prism:v-1:AQ=='),
  ('prism:v1 :AQ=='), ('prism:v١:AQ=='), ('prism:V1:AQ=='), ('vault:v1:AQ==');
RESET ROLE;
SELECT decrypt_field(v) FROM looks;

-- Malformed ones, for those who may load; nothing of the text is repeated.
CREATE FUNCTION pg_temp.loads(form text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
  state text; message_ text; detail_ text;
BEGIN
  PERFORM prism_crypt.load_envelope(form);
  RETURN 'loads';
EXCEPTION WHEN OTHERS THEN
  GET STACKED DIAGNOSTICS state = RETURNED_SQLSTATE, message_ = MESSAGE_TEXT, detail_ = PG_EXCEPTION_DETAIL;
  RETURN state || ': ' || message_ || ' / ' || detail_;
END $$;
\pset format unaligned
SELECT form, pg_temp.loads(form) FROM unnest(ARRAY[
  '', 'one', 'prism:v1:', 'prism:v0:AQ==', 'prism:v01:AQ==', 'prism:v2147483648:AQ==', 'prism:v99999999999999999999:AQ==', 'prism:v1:AQ=',
  'prism:v1:AQ', 'prism:v1:AQ== ', 'prism:v1:A-_=', 'prism:v1:AQ==AQ==', 'prism:v1:AQ==', 'prism:v1:AA==', 'prism:v1:Ag==', 'prism:v1:é',
  -- A whole envelope of no bytes: format, flags, class, version, nonce, tag.
  'prism:v1:' || encode('\x01 00 00 00000001 000000000000000000000000 00000000000000000000000000000000', 'base64'),
  'prism:v2:' || encode('\x01 00 00 00000001 000000000000000000000000 00000000000000000000000000000000', 'base64'),
  'prism:v1:' || encode('\x01 00 00 00000001 000000000000000000000000 000000000000000000000000000000', 'base64'),
  'prism:v1:' || encode('\x02 00 00 00000001 000000000000000000000000 00000000000000000000000000000000', 'base64'),
  'prism:v1:' || encode('\x01 08 00 00000001 000000000000000000000000 00000000000000000000000000000000', 'base64'),
  'prism:v1:' || encode('\x01 00 08 00000001 000000000000000000000000 00000000000000000000000000000000', 'base64'),
  'prism:v1:' || encode('\x01 02 00 00000001 000000000000000000000000 00000000000000000000000000000000', 'base64'),
  'prism:v1:' || encode('\x01 01 00 00000001 000000000000000000000000 00000000000000000000000000000000', 'base64')]) AS form;
\pset format aligned
CALL regress.fails($$INSERT INTO t VALUES (9, 'prism:v1:AQ==')$$);
CALL regress.fails($$SELECT prism_crypt.load_envelope(NULL) IS NULL, 1/0$$);
-- Those who may not load hear of that first, not of what is wrong with the text.
SET ROLE regress_prism_app;
CALL regress.fails($$INSERT INTO t VALUES (9, 'prism:v1:AQ==')$$);
RESET ROLE;

-- A version that is not there can be loaded (a restore brings values before keys), and says so when it is read.
INSERT INTO looks VALUES (prism_crypt.load_envelope('prism:v77:' || encode('\x01 00 00 0000004d 000000000000000000000000 00000000000000000000000000000000', 'base64')));
SELECT key_version(v) FROM looks WHERE key_version(v) > 1;
CALL regress.fails('SELECT decrypt_field(v) FROM looks WHERE key_version(v) > 1');

-- A class column takes loaded values of its own class; one without a class is sealed anew with it.
INSERT INTO t (id, e) VALUES (9, :'one');
SELECT class, decrypt_field(e) FROM t, envelope_info(e) WHERE id = 9;
SELECT encrypted_text_out(encrypt_field('x', class => 'phone')) AS phone \gset
CALL regress.fails(format('INSERT INTO t (id, e) VALUES (9, %L)', :'phone'));
CALL regress.fails(format('SELECT %L::encrypted_text(''email'')', :'phone'));
INSERT INTO t (id, v) VALUES (8, :'phone');
SELECT class FROM t, envelope_info(v) WHERE id = 8;

-- The right goes with the role that runs: through functions of others, and at once when it is revoked.
CREATE FUNCTION load_it(form text) RETURNS encrypted_text LANGUAGE sql SECURITY DEFINER AS $$ SELECT prism_crypt.load_envelope(form) $$;
SET ROLE regress_prism_app;
SELECT load_it(:'one') IS NOT NULL AS by_definer;
SET ROLE regress_prism_loader;
SELECT (:'one'::encrypted_text) IS NOT NULL AS loads;
RESET ROLE;
SELECT prism_crypt.revoke_access('regress_prism_loader', 'load');
SET ROLE regress_prism_loader;
CALL regress.fails(format('SELECT %L::encrypted_text', :'one'));
RESET ROLE;
-- Membership in a role that may.
SELECT prism_crypt.grant_access('regress_prism_loader', 'load');
GRANT regress_prism_loader TO regress_prism_app;
SET ROLE regress_prism_app;
SELECT (:'one'::encrypted_text) IS NOT NULL AS loads;
RESET ROLE;
REVOKE regress_prism_loader FROM regress_prism_app;
SET ROLE regress_prism_app;
CALL regress.fails(format('SELECT %L::encrypted_text', :'one'));
RESET ROLE;

-- As bytea: the envelope, both ways; the same privilege, and nothing else is taken.
CREATE TABLE as_bytes (e bytea, v encrypted_text, mail encrypted_text('email'));
INSERT INTO as_bytes (e) SELECT encrypt_field('by bytea')::bytea;
UPDATE as_bytes SET v = e;
SELECT decrypt_field(v), v::bytea = e AS same, key_version(e) = key_version(v) AS version FROM as_bytes;
CALL regress.fails('UPDATE as_bytes SET mail = e');
CALL regress.fails($$UPDATE as_bytes SET v = '\xdeadbeef'::bytea$$);
GRANT ALL ON as_bytes TO regress_prism_app;
SET ROLE regress_prism_app;
CALL regress.fails('UPDATE as_bytes SET v = e');
SELECT v::bytea = e AS same FROM as_bytes;
RESET ROLE;
