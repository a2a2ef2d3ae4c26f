-- What the other files use. Each of them begins with regress.fresh() and so can run alone.
CREATE SCHEMA regress;
GRANT USAGE ON SCHEMA regress TO PUBLIC;

-- A new public schema with the extension in it, and its first key: version 1.
CREATE PROCEDURE regress.fresh(with_key boolean DEFAULT true) LANGUAGE plpgsql AS $$
BEGIN
  SET LOCAL client_min_messages = warning;
  DROP EXTENSION IF EXISTS prism_crypt CASCADE;
  DROP SCHEMA IF EXISTS public CASCADE;
  CREATE SCHEMA public;
  GRANT USAGE, CREATE ON SCHEMA public TO PUBLIC;
  CREATE EXTENSION prism_crypt WITH SCHEMA public;
  IF with_key THEN
    PERFORM prism_crypt.rotate_key();
  END IF;
END $$;

-- Ciphertext differs from run to run.
CREATE FUNCTION regress.without_ciphertext(line text) RETURNS text LANGUAGE sql IMMUTABLE AS $$
  SELECT regexp_replace(line, 'prism:v\d+:[A-Za-z0-9+/=]+(\.\.\.)?', 'prism:v', 'g')
$$;

-- Runs a statement and shows its error with SQLSTATE, detail and hint.
CREATE PROCEDURE regress.fails(statement text) LANGUAGE plpgsql AS $$
DECLARE
  state text; message_ text; detail_ text; hint_ text;
BEGIN
  EXECUTE statement;
  RAISE INFO 'no error';
EXCEPTION WHEN OTHERS THEN
  GET STACKED DIAGNOSTICS state = RETURNED_SQLSTATE, message_ = MESSAGE_TEXT, detail_ = PG_EXCEPTION_DETAIL,
    hint_ = PG_EXCEPTION_HINT;
  message_ := state || ': ' || message_;
  detail_ := regress.without_ciphertext(detail_);
  IF detail_ <> '' AND hint_ <> '' THEN
    RAISE INFO '%', message_ USING DETAIL = detail_, HINT = hint_;
  ELSIF detail_ <> '' THEN
    RAISE INFO '%', message_ USING DETAIL = detail_;
  ELSIF hint_ <> '' THEN
    RAISE INFO '%', message_ USING HINT = hint_;
  ELSE
    RAISE INFO '%', message_;
  END IF;
END $$;

-- A master key that stands nowhere else, as hexadecimal digits.
CREATE FUNCTION regress.master_key(name text) RETURNS text LANGUAGE sql IMMUTABLE AS $$
  SELECT pg_catalog.encode(pg_catalog.sha256(pg_catalog.convert_to('pg_regress ' || name, 'UTF8')), 'hex')
$$;

-- A value with one byte of its envelope changed.
CREATE FUNCTION regress.tampered(text_form text, place integer, difference integer) RETURNS text
LANGUAGE plpgsql AS $$
DECLARE
  parts text[] := string_to_array(text_form, ':');
  envelope bytea := decode(parts[3], 'base64');
BEGIN
  IF place < 0 THEN
    place := length(envelope) + place;
  END IF;
  envelope := set_byte(envelope, place, get_byte(envelope, place) # difference);
  RETURN parts[1] || ':' || parts[2] || ':' || translate(encode(envelope, 'base64'), E'\n', '');
END $$;

-- Lines of EXPLAIN, but not those that PostgreSQL 18 adds below what a setting has turned off.
CREATE FUNCTION regress.plan(query text) RETURNS SETOF text LANGUAGE plpgsql AS $$
DECLARE
  line text;
BEGIN
  FOR line IN EXECUTE 'EXPLAIN (COSTS OFF) ' || query LOOP
    CONTINUE WHEN line ~ '^ *Disabled: true$';
    RETURN NEXT regress.without_ciphertext(line);
  END LOOP;
END $$;

-- The same tables with plaintext, with values that have search tags, and with values that have none.
CREATE PROCEDURE regress.shadows() LANGUAGE plpgsql AS $$
DECLARE
  kind text; type text;
BEGIN
  SET LOCAL client_min_messages = warning;
  FOR kind, type IN VALUES ('plain', 'text'), ('tagged', $t$encrypted_text('email', 'searchable')$t$), ('untagged', 'encrypted_text') LOOP
    EXECUTE format('DROP SCHEMA IF EXISTS %I CASCADE', kind);
    EXECUTE format('CREATE SCHEMA %I', kind);
    EXECUTE format('CREATE TABLE %I.users (id int, email %s, other text)', kind, type);
    EXECUTE format('CREATE TABLE %I.orders (no int, email %s, other text)', kind, type);
    EXECUTE format($i$INSERT INTO %I.users SELECT n, v, v FROM (
      SELECT n, CASE WHEN n %% 8 > 0 THEN 'u' || n || '@x.org' END FROM generate_series(1, 24) AS n) AS r (n, v)$i$, kind);
    EXECUTE format($i$INSERT INTO %I.orders SELECT n, v, v FROM (
      SELECT n, CASE WHEN n %% 10 > 0 THEN 'u' || n / 3 || '@x.org' END FROM generate_series(1, 30) AS n) AS r (n, v)$i$, kind);
  END LOOP;
  CREATE INDEX users_email ON tagged.users USING hash (email);
  CREATE INDEX orders_email ON tagged.orders USING hash (email);
END $$;

-- The answer of a query, when it is the same in the three schemas, with indexes and without.
CREATE FUNCTION regress.same(query text) RETURNS text LANGUAGE plpgsql SET search_path = public SET enable_seqscan = on AS $$
DECLARE
  expected text; answer text; kind text; scan text;
BEGIN
  FOREACH kind IN ARRAY ARRAY['plain', 'tagged', 'untagged'] LOOP
    PERFORM set_config('search_path', kind || ', public', true);
    FOREACH scan IN ARRAY ARRAY['on', 'off'] LOOP
      PERFORM set_config('enable_seqscan', scan, true);
      EXECUTE format($q$SELECT coalesce(string_agg(r::text, ' ' ORDER BY r::text), 'nothing') FROM (%s) AS r$q$, query) INTO answer;
      IF expected IS NULL THEN
        expected := answer;
      ELSIF answer <> expected THEN
        RETURN format('%s, BUT in %s with enable_seqscan = %s: %s', expected, kind, scan, answer);
      END IF;
    END LOOP;
  END LOOP;
  RETURN expected;
END $$;

-- One role for each kind of access; what they may is granted where it is needed.
CREATE ROLE regress_prism_app LOGIN;
CREATE ROLE regress_prism_reader LOGIN;
CREATE ROLE regress_prism_masker LOGIN;
CREATE ROLE regress_prism_rotator LOGIN;
CREATE ROLE regress_prism_loader LOGIN;
CREATE ROLE regress_prism_admin LOGIN;
CREATE ROLE regress_prism_monitor LOGIN;
CREATE ROLE regress_prism_owner LOGIN;

-- Where the master key comes from, and what takes long, in every session that begins from here on.
DO $$ BEGIN
  EXECUTE format('ALTER DATABASE %I SET prism_crypt.master_key_env = %L', current_database(), 'PRISM_TEST_KEY_MAIN');
  -- Plans without the ways that are turned off look expensive, and would be compiled.
  EXECUTE format('ALTER DATABASE %I SET jit = off', current_database());
END $$;
\c
SHOW prism_crypt.master_key_env;
CALL regress.fresh();
SELECT decrypt_field('the key works');
