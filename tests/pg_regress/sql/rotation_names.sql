-- Tables and columns of any name, and tables that can't be rotated, don't stop the others.
CALL regress.fresh();
\set SHOW_CONTEXT never
CREATE FUNCTION sealed(x text) RETURNS encrypted_text LANGUAGE sql IMMUTABLE AS $$ SELECT NULL::encrypted_text $$;
-- Generated columns alone, beside others, and in a child only.
CREATE TABLE a_generated (x text, v encrypted_text GENERATED ALWAYS AS (sealed(x)) STORED);
INSERT INTO a_generated VALUES ('x');
CREATE TABLE b_copied (v encrypted_text, w encrypted_text GENERATED ALWAYS AS (v) STORED);
INSERT INTO b_copied VALUES ('v');
CREATE TABLE c_heir (w encrypted_text) INHERITS (a_generated);
INSERT INTO c_heir (x, w) VALUES ('x', 'w');
-- Names of aliases, variables, columns of ours and keywords; rows of every kind that a walk has.
CREATE TYPE pair AS (e encrypted_text, rotated encrypted_text);
CREATE TABLE e (e encrypted_text, error encrypted_text, rows encrypted_text[]);
INSERT INTO e VALUES ('a', 'b', ARRAY['c'::encrypted_text]);
CREATE TABLE rotated (rotated pair, ctid_ encrypted_text, "rotated.rotated" encrypted_text);
INSERT INTO rotated VALUES (ROW('a', 'b'), 'c', 'd');
CREATE TABLE x (x encrypted_text, v int, version int);
INSERT INTO x VALUES ('x', 1, NULL);
CREATE TABLE v (v encrypted_text, x int);
INSERT INTO v VALUES ('v', 1);
CREATE TABLE rest (rest encrypted_text, found encrypted_text);
INSERT INTO rest VALUES ('r', 'f');
CREATE TABLE chosen (place encrypted_text, chosen int);
INSERT INTO chosen SELECT 'p', n FROM generate_series(1, 20) AS n;
CREATE TABLE "select" ("from" encrypted_text, "%s %1$s" encrypted_text, "a""b'c" encrypted_text, "$1" encrypted_text);
CREATE TABLE "%I.""s'" ("%I" encrypted_text, "$1" encrypted_text, "a""b'c\" encrypted_text, "ctid " encrypted_text, "@extschema@" encrypted_text);
INSERT INTO "%I.""s'" VALUES ('1', '2', '3', '4', '5');
CREATE TYPE row_type AS (id int, v encrypted_text);
CREATE TABLE typed OF row_type;
INSERT INTO typed VALUES (1, 'v');
CREATE TABLE no_columns ();
CREATE TABLE nothing_of_ours (id int);
SELECT prism_crypt.rotate_key() AS active \gset
CALL prism_crypt.rotate_all(batch_size => 1);
SELECT kind, location, key_version = :active AS active, ciphertexts FROM prism_crypt.census() WHERE ciphertexts > 0 ORDER BY location COLLATE "C", key_version;
-- The other statements of a walk: places by an index, a key-version column, what is left and why.
SELECT prism_crypt.rotate_key() AS active \gset
CREATE INDEX ON chosen (key_version(place));
CREATE INDEX ON v (key_version(v));
CALL rotate_batch('chosen', 'place', 3);
CALL rotate_batch('v', 'v');
CALL rotate_batch('x', 'x', key_version_column => 'version');
SELECT key_version(x) = version AND version = :active AS set FROM x;
UPDATE e SET error = prism_crypt.load_envelope(regress.tampered(encrypted_text_out(error)::text, -1, 1));
CALL rotate_batch('e');
UPDATE rest SET found = prism_crypt.load_envelope(regress.tampered(encrypted_text_out(found)::text, -1, 1));
CALL rotate_batch('rest');
SELECT target, due, blockers FROM (SELECT target, rows_due AS due, blockers FROM prism_crypt.plan_rotation()) AS p ORDER BY target COLLATE "C";
