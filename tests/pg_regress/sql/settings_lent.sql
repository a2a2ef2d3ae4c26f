-- What a session sets counts for its own statements: inside of functions that run with another role's rights, and in work for the owner
-- of a table, prism_crypt.output and prism_crypt.keyset are as if unset, unless they are set there.
CALL regress.fresh();
SELECT prism_crypt.create_keyset('other') > 0;
CREATE ROLE regress_reader;
CREATE ROLE regress_nobody;
SELECT prism_crypt.grant_access('regress_reader', kind) FROM unnest(ARRAY['decrypt', 'mask', 'search']) AS kind;
SELECT prism_crypt.grant_access('regress_nobody', 'search');
GRANT CREATE ON SCHEMA public TO regress_reader, regress_nobody;
CREATE TABLE person (id int PRIMARY KEY, name encrypted_text('personal', 'searchable'));
INSERT INTO person VALUES (1, 'Ada'), (2, 'Grace');
GRANT SELECT, INSERT ON person TO regress_reader;

-- What is shown, without the ciphertext.
CREATE FUNCTION shown(jsonb) RETURNS text LANGUAGE sql AS $$ SELECT regexp_replace($1 ->> 'name', '^prism:v.*', 'ciphertext') $$;

SET ROLE regress_reader;
CREATE FUNCTION as_owner(int) RETURNS jsonb LANGUAGE sql SECURITY DEFINER AS $$ SELECT to_jsonb(p) FROM person AS p WHERE id = $1 $$;
CREATE FUNCTION as_owner_plpgsql(int) RETURNS jsonb LANGUAGE plpgsql SECURITY DEFINER AS
  $$ BEGIN RETURN (SELECT to_jsonb(p) FROM person AS p WHERE id = $1); END $$;
CREATE FUNCTION with_clause(int) RETURNS jsonb LANGUAGE sql SECURITY DEFINER SET prism_crypt.output = 'plaintext' AS
  $$ SELECT to_jsonb(p) FROM person AS p WHERE id = $1 $$;
CREATE FUNCTION with_body(int) RETURNS jsonb LANGUAGE plpgsql SECURITY DEFINER AS
  $$ BEGIN PERFORM set_config('prism_crypt.output', 'masked', true); RETURN (SELECT to_jsonb(p) FROM person AS p WHERE id = $1); END $$;
CREATE FUNCTION with_reset(int) RETURNS jsonb LANGUAGE plpgsql SECURITY DEFINER AS
  $$ BEGIN RESET prism_crypt.output; RETURN (SELECT to_jsonb(p) FROM person AS p WHERE id = $1); END $$;
CREATE FUNCTION cursor_inside() RETURNS refcursor LANGUAGE plpgsql SECURITY DEFINER AS
  $$ DECLARE c refcursor := 'inside'; BEGIN OPEN c FOR SELECT to_jsonb(p) AS j FROM person AS p; RETURN c; END $$;
SET ROLE regress_nobody;
SET prism_crypt.output = 'plaintext';
SELECT shown(as_owner(1)), shown(as_owner_plpgsql(1)), shown(with_clause(1)), shown(with_body(1)), shown(with_reset(1));
SET prism_crypt.output = 'masked';
SELECT shown(as_owner(1)), shown(as_owner_plpgsql(1)), shown(with_clause(1)), shown(with_body(1));
-- A function of one's own gives nothing either, whatever clause it has.
CREATE FUNCTION of_nobody(jsonb) RETURNS jsonb LANGUAGE sql SECURITY DEFINER SET prism_crypt.output = 'plaintext' AS $$ SELECT as_owner(1) $$;
SELECT shown(of_nobody('{}'));
BEGIN;
SELECT cursor_inside();
\pset tuples_only on
FETCH 1 FROM inside \gset
\pset tuples_only off
SELECT shown(:'j'::jsonb);
COMMIT;
-- The owner's own statements, and functions that he calls himself after SET.
SET ROLE regress_reader;
SET prism_crypt.output = 'plaintext';
SELECT name, shown(as_owner(1)) FROM person WHERE id = 1;
-- Not from the catalogs or the connection.
RESET ROLE;
ALTER ROLE regress_reader SET prism_crypt.output = 'plaintext';
SELECT setting FROM pg_settings WHERE name = 'prism_crypt.output';
RESET prism_crypt.output;

-- Triggers.
CREATE TABLE log (entry jsonb);
GRANT INSERT ON log TO regress_reader;
SET ROLE regress_reader;
CREATE FUNCTION keep() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS $$ BEGIN INSERT INTO log VALUES (to_jsonb(NEW)); RETURN NEW; END $$;
RESET ROLE;
CREATE TRIGGER keep AFTER INSERT ON person FOR EACH ROW EXECUTE FUNCTION keep();
GRANT INSERT, SELECT ON person TO regress_nobody;
SET ROLE regress_nobody;
SET prism_crypt.output = 'plaintext';
INSERT INTO person VALUES (3, 'Barbara');
RESET ROLE;
SELECT shown(entry) FROM log;
DROP TRIGGER keep ON person;

-- A view lends no right; materialized views are made with no setting of the session's.
CREATE VIEW seen AS SELECT to_jsonb(p) AS j FROM person AS p;
ALTER VIEW seen OWNER TO regress_reader;
GRANT SELECT ON seen TO regress_nobody;
SET ROLE regress_nobody;
SELECT shown(j) FROM seen ORDER BY j -> 'id' LIMIT 1;
SET ROLE regress_reader;
SET prism_crypt.output = 'plaintext';
SELECT shown(j) FROM seen ORDER BY j -> 'id' LIMIT 1;
CREATE MATERIALIZED VIEW stored AS SELECT to_jsonb(p) AS j FROM person AS p;
REFRESH MATERIALIZED VIEW stored;
SELECT shown(j) FROM stored ORDER BY j -> 'id' LIMIT 1;
RESET ROLE;
REFRESH MATERIALIZED VIEW stored;
SELECT shown(j) FROM stored ORDER BY j -> 'id' LIMIT 1;

-- Dumps: COPY of a table is ciphertext, and so is everything for pg_dump.
SET ROLE regress_reader;
\copy person TO PROGRAM 'sed "s/prism:v.*/ciphertext/" | sort'
COPY (SELECT id, name FROM person WHERE id = 1) TO STDOUT;
SET application_name = 'pg_dump';
SELECT left(name::text, 3) AS "as text", shown(to_jsonb(p)) FROM person AS p WHERE id = 1;
RESET application_name;
SET prism_crypt.output = 'ciphertext';

-- The keyset of the caller: look-ups, and what is sealed.
CREATE FUNCTION found(text) RETURNS bigint LANGUAGE sql SECURITY DEFINER AS $$ SELECT count(*) FROM person WHERE name = $1 $$;
CREATE FUNCTION found_in(text) RETURNS bigint LANGUAGE sql SECURITY DEFINER SET prism_crypt.keyset = 'other' AS
  $$ SELECT count(*) FROM person WHERE name = $1 $$;
CREATE FUNCTION keyset_of_new() RETURNS text LANGUAGE sql SECURITY DEFINER AS
  $$ SELECT keyset FROM prism_crypt.key_status WHERE version = key_version(encrypt_field('x')) $$;
CREATE FUNCTION helper() RETURNS bigint LANGUAGE plpgsql AS $$ BEGIN RETURN (SELECT count(*) FROM person WHERE name = 'Ada'); END $$;
CREATE FUNCTION helped() RETURNS bigint LANGUAGE sql SECURITY DEFINER AS $$ SELECT helper() $$;
RESET ROLE;
GRANT SELECT ON prism_crypt.key_status TO regress_reader;
GRANT USAGE ON SCHEMA prism_crypt TO regress_reader;
SET ROLE regress_nobody;
SELECT found('Ada'), found_in('Ada'), keyset_of_new(), helper(), helped();
SET prism_crypt.keyset = 'other';
SELECT found('Ada'), found_in('Ada'), keyset_of_new(), helper(), helped(), helper(), helped();
PREPARE p AS SELECT found('Ada'), found_in('Ada'), helper(), helped();
EXECUTE p;
EXECUTE p;
RESET prism_crypt.keyset;
EXECUTE p;
RESET ROLE;

-- A master key that nobody knows is taken from key administrators only, whoever's function makes the key.
CREATE ROLE regress_maker;
SELECT prism_crypt.grant_access('regress_maker', 'key_admin');
GRANT CREATE ON SCHEMA public TO regress_maker;
SET ROLE regress_maker;
CREATE FUNCTION make(text) RETURNS boolean LANGUAGE sql SECURITY DEFINER AS $$ SELECT prism_crypt.create_keyset($1) > 0 $$;
SET ROLE regress_nobody;
SELECT make('with_known_key');
SELECT set_config('prism_crypt.master_key', repeat('ab', 32), false) IS NOT NULL;
CALL regress.fails($$SELECT make('with_foreign_key')$$);
SET ROLE regress_maker;
SELECT set_config('prism_crypt.master_key', repeat('ac', 32), false) IS NOT NULL;
SELECT make('with_new_key');
RESET prism_crypt.master_key;
RESET ROLE;
DROP OWNED BY regress_reader, regress_nobody, regress_maker;
DROP ROLE regress_reader, regress_nobody, regress_maker;
