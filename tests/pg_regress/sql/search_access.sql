-- What roles may do around searching: with the right to search and without, with that to decrypt and without.
CALL regress.fresh();
CREATE TABLE patient (id int, ssn encrypted_text('tax_id', 'searchable'), note encrypted_text, kind text DEFAULT 'k');
CREATE UNIQUE INDEX patient_ssn ON patient (ssn encrypted_text_unique_ops);
CREATE INDEX patient_hash ON patient USING hash (ssn);
INSERT INTO patient VALUES (1, 'one', 'one'), (2, 'two', 'two');
GRANT ALL ON patient TO regress_prism_app, regress_prism_reader, regress_prism_rotator, regress_prism_loader;
SELECT encrypted_text_out(ssn) AS tagged FROM patient WHERE id = 1 \gset

-- Without it: ciphertext is seen, copied, kept and deleted. Tagged copies go into indexes too.
SET ROLE regress_prism_app;
SELECT count(*), count(ssn) FROM patient WHERE ssn IS NOT NULL;
INSERT INTO patient (id, note) VALUES (3, 'three');
UPDATE patient SET kind = 'l', ssn = ssn WHERE id = 1;
DELETE FROM patient WHERE id = 3;
CREATE TABLE mine AS SELECT id, ssn FROM patient;
CREATE UNIQUE INDEX ON mine (ssn encrypted_text_unique_ops);
CREATE INDEX ON mine USING hash (ssn);
ALTER TABLE mine ALTER ssn TYPE encrypted_text('searchable');
INSERT INTO mine SELECT 3, NULL;
CALL regress.fails('INSERT INTO mine SELECT id, ssn FROM patient');
DELETE FROM mine WHERE id = 2;
INSERT INTO mine SELECT id, ssn FROM patient WHERE id = 2;
INSERT INTO mine SELECT id, ssn FROM patient ON CONFLICT (ssn) DO NOTHING;
REINDEX TABLE mine;
CLUSTER mine USING mine_ssn_idx;
VACUUM FULL mine;
ANALYZE mine;
SELECT count(*), count(ssn) FROM mine;
-- Not written, by any way.
\set VERBOSITY terse
INSERT INTO patient VALUES (4, 'four');
INSERT INTO patient VALUES (4, 'four'::text);
UPDATE patient SET ssn = 'one' WHERE id = 1;
\copy patient (ssn) FROM PROGRAM 'echo five'
\copy patient (ssn) FROM PROGRAM 'echo five' (FORMAT csv)
INSERT INTO patient (ssn) SELECT note FROM patient;
PREPARE put(text) AS INSERT INTO patient (ssn) VALUES ($1);
EXECUTE put('six');
DO $$ DECLARE v encrypted_text('searchable'); BEGIN v := 'seven'; END $$;
ALTER TABLE patient ADD x encrypted_text('searchable') DEFAULT 'x';
ALTER TABLE mine ADD x encrypted_text('searchable') DEFAULT 'x';
SELECT * FROM patient ORDER BY ssn::text;
-- Tags tell that rows and arrays are the same, as they do to everybody who sees them. Values without tags aren't opened for it.
SELECT count(*) FROM patient AS p JOIN patient AS q ON ARRAY[p.ssn] = ARRAY[q.ssn];
SELECT count(*) FROM (SELECT DISTINCT ARRAY[ssn] FROM patient) AS d;
SELECT ARRAY[note] = ARRAY[ssn] FROM patient;
SELECT DISTINCT ARRAY[note] FROM patient;
CREATE FUNCTION changed() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN IF NEW IS DISTINCT FROM OLD THEN NEW.id := 99; END IF; RETURN NEW; END $$;
CREATE TRIGGER changed BEFORE UPDATE ON mine FOR EACH ROW EXECUTE FUNCTION changed();
UPDATE mine SET id = id + 1;
UPDATE mine SET ssn = ssn;
DROP TRIGGER changed ON mine;
CREATE TRIGGER same BEFORE UPDATE ON mine FOR EACH ROW EXECUTE FUNCTION suppress_redundant_updates_trigger();
UPDATE mine SET id = id;
RESET ROLE;
\set VERBOSITY default

-- To search and not to read: all comparisons, writing, upserts; no plaintext.
SELECT prism_crypt.grant_access('regress_prism_app', 'search');
SET ROLE regress_prism_app;
INSERT INTO patient AS p VALUES (4, 'four', 'four'), (5, 'one', 'one') ON CONFLICT (ssn) DO UPDATE SET kind = 'upserted' RETURNING id, kind;
\copy patient (id, ssn) FROM PROGRAM 'printf "5\tfive\n"'
UPDATE patient SET note = 'four' WHERE ssn IN ('four', 'five');
SELECT id FROM patient WHERE ssn = 'four'::text AND note = 'four';
SELECT p.id, q.id FROM patient AS p JOIN patient AS q ON p.ssn = q.note ORDER BY 1, 2;
SELECT count(*) FROM (SELECT note FROM patient GROUP BY note) AS g;
SELECT count(*) FROM patient WHERE ARRAY[ssn] = ARRAY[note];
SELECT length(blind_index('x', 'y'));
CREATE TABLE public.own (v encrypted_text('searchable'), n int);
CREATE UNIQUE INDEX ON public.own (v encrypted_text_unique_ops);
INSERT INTO public.own SELECT n, n FROM generate_series(1, 10) AS n;
UPDATE mine SET id = id + 1 WHERE ssn = 'two';
\set VERBOSITY terse
SELECT ssn::text FROM patient;
SELECT min(ssn) FROM patient;
SELECT * FROM patient WHERE ssn LIKE 'o%';
SELECT * FROM patient ORDER BY ssn::text;
SELECT decrypt_field(ssn) FROM patient;
SELECT mask_field(ssn) FROM patient;
SELECT ssn < 'x' FROM patient;
CALL regress.fails(format('SELECT %L::encrypted_text', :'tagged'));
\set VERBOSITY default
SET prism_crypt.output = 'plaintext';
SELECT id, regress.without_ciphertext(format('%s', ssn)) FROM patient WHERE ssn = 'one';
RESET prism_crypt.output;
RESET ROLE;
-- A statement that one role prepared is checked again for the next one.
SET ROLE regress_prism_app;
PREPARE by_ssn(text) AS SELECT id FROM patient WHERE ssn = $1;
PREPARE by_array AS SELECT id FROM patient WHERE ARRAY[ssn] = ARRAY['one']::encrypted_text[];
EXECUTE by_ssn('one');
EXECUTE by_array;
RESET ROLE;
SET ROLE regress_prism_reader;
CALL regress.fails($$EXECUTE by_ssn('one')$$);
CALL regress.fails('EXECUTE by_array');
RESET ROLE;
-- Revoked, in the middle of a transaction of the role; by membership.
BEGIN;
SET LOCAL ROLE regress_prism_app;
SELECT id FROM patient WHERE ssn = 'one';
RESET ROLE;
SELECT prism_crypt.revoke_access('regress_prism_app', 'search');
SET LOCAL ROLE regress_prism_app;
CALL regress.fails($$SELECT id FROM patient WHERE ssn = 'one'$$);
CALL regress.fails($$SELECT id FROM patient WHERE ARRAY[ssn] = ARRAY['one']::encrypted_text[]$$);
CALL regress.fails($$INSERT INTO own VALUES ('x')$$);
ROLLBACK;
SELECT prism_crypt.revoke_access('regress_prism_app', 'search'), prism_crypt.grant_access('regress_prism_owner', 'search');
GRANT regress_prism_owner TO regress_prism_app;
SET ROLE regress_prism_app;
SELECT id FROM patient WHERE ssn = 'one' AND ARRAY[ssn] = ARRAY['one']::encrypted_text[];
RESET ROLE;
REVOKE regress_prism_owner FROM regress_prism_app;

-- Lent on purpose: by a function that runs as its owner. A view lends nothing, nor does a policy.
CREATE FUNCTION id_of(wanted text) RETURNS int LANGUAGE sql SECURITY DEFINER SET search_path = public, pg_temp AS $$ SELECT id FROM patient WHERE ssn = wanted $$;
CREATE FUNCTION put(wanted text) RETURNS void LANGUAGE sql SECURITY DEFINER SET search_path = public, pg_temp AS $$ INSERT INTO patient VALUES (7, wanted) $$;
CREATE VIEW the_one AS SELECT id FROM patient WHERE ssn = 'one';
GRANT SELECT ON the_one TO PUBLIC;
SET ROLE regress_prism_app;
SELECT id_of('two'), put('seven'), id_of('seven');
CALL regress.fails('SELECT * FROM the_one');
RESET ROLE;
-- A foreign key is checked in the name of the other table's owner, but does not lend that role's right: whoever writes a value without a tag needs it too.
CREATE TABLE visit (ssn encrypted_text REFERENCES patient (ssn));
CREATE TABLE tagged_visit (ssn encrypted_text('tax_id', 'searchable') REFERENCES patient (ssn));
GRANT INSERT, SELECT ON visit, tagged_visit TO regress_prism_app, regress_prism_owner;
GRANT REFERENCES ON patient TO regress_prism_app;
SET ROLE regress_prism_app;
\set VERBOSITY terse
INSERT INTO visit VALUES ('wrong');
INSERT INTO visit VALUES ('one');
INSERT INTO tagged_visit VALUES ('one');
INSERT INTO tagged_visit SELECT ssn FROM patient;
INSERT INTO visit SELECT ssn FROM patient;
CREATE TABLE public.own_visit (ssn encrypted_text REFERENCES patient (ssn));
INSERT INTO own_visit VALUES ('wrong');
INSERT INTO own_visit VALUES ('one');
CREATE TABLE public.later_visit AS SELECT encrypt_field('wrong') AS ssn;
ALTER TABLE later_visit ADD FOREIGN KEY (ssn) REFERENCES patient (ssn);
UPDATE later_visit SET ssn = encrypt_field('one');
ALTER TABLE later_visit ADD FOREIGN KEY (ssn) REFERENCES patient (ssn);
SET ROLE regress_prism_owner;
INSERT INTO visit VALUES ('wrong');
INSERT INTO visit VALUES ('one');
INSERT INTO tagged_visit VALUES ('two');
RESET ROLE;
\set VERBOSITY default
-- Nor does the other direction: a role that may delete or update what is referred to.
CREATE TABLE referred (v encrypted_text);
SET client_min_messages = error;
CREATE UNIQUE INDEX ON referred (v encrypted_text_unique_ops);
RESET client_min_messages;
CREATE TABLE referring (v encrypted_text REFERENCES referred (v));
INSERT INTO referred VALUES ('in use'), ('free');
INSERT INTO referring VALUES ('in use');
GRANT ALL ON referred TO regress_prism_app;
SET ROLE regress_prism_app;
CALL regress.fails('DELETE FROM referred WHERE ctid = (SELECT min(ctid) FROM referred)');
CALL regress.fails('DELETE FROM referred WHERE ctid = (SELECT max(ctid) FROM referred)');
RESET ROLE;
DROP TABLE visit, tagged_visit, own_visit, later_visit, referring;

-- Row-level security comes first, as = may raise errors: an index on the value is not used then, but by the table's owner.
ALTER TABLE patient ENABLE ROW LEVEL SECURITY;
CREATE POLICY kinds ON patient USING (kind <> 'hidden');
SELECT prism_crypt.grant_access('regress_prism_app', 'search');
SET enable_seqscan = off;
SELECT regress.plan($$SELECT id FROM patient WHERE ssn = 'one'$$);
SET ROLE regress_prism_app;
SELECT regress.plan($$SELECT id FROM patient WHERE ssn = 'one'$$);
SELECT id FROM patient WHERE ssn = 'one';
RESET ROLE;
RESET enable_seqscan;
SELECT prism_crypt.revoke_access('regress_prism_app', 'search');
ALTER TABLE patient DISABLE ROW LEVEL SECURITY;

-- Other rights have nothing of it: rotation keeps tags and makes outdated ones anew, loading takes them as they are.
SELECT prism_crypt.grant_access('regress_prism_rotator', 'rotate'), prism_crypt.grant_access('regress_prism_loader', 'load'), prism_crypt.grant_access('regress_prism_loader', 'key_admin');
SELECT prism_crypt.rotate_key(), prism_crypt._replace_index_key('default', NULL);
SET ROLE regress_prism_rotator;
CALL regress.fails($$SELECT id FROM patient WHERE ssn = 'one'$$);
CALL regress.fails($$SELECT ARRAY[ssn] = ARRAY['one']::encrypted_text[] FROM patient$$);
CALL rotate_batch('patient', 'ssn');
UPDATE patient SET note = reencrypt_field(note);
RESET ROLE;
SELECT key_version, search_generation, count(*) FROM patient, envelope_info(ssn) GROUP BY 1, 2;
SET ROLE regress_prism_loader;
\setenv TAGGED :tagged
\copy patient (id, note) FROM PROGRAM 'printf "8\t%s\n" $TAGGED'
CALL regress.fails($$SELECT id FROM patient WHERE ssn = 'one'$$);
CALL regress.fails($$SELECT blind_index('one', NULL)$$);
RESET ROLE;
SELECT p.id, q.id FROM patient AS p JOIN patient AS q ON p.ssn = q.note WHERE q.id = 8;
