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

-- One role for each kind of access; what they may is granted where it is needed.
CREATE ROLE regress_prism_app LOGIN;
CREATE ROLE regress_prism_reader LOGIN;
CREATE ROLE regress_prism_masker LOGIN;
CREATE ROLE regress_prism_rotator LOGIN;
CREATE ROLE regress_prism_loader LOGIN;
CREATE ROLE regress_prism_admin LOGIN;
CREATE ROLE regress_prism_monitor LOGIN;
CREATE ROLE regress_prism_owner LOGIN;

-- Where the master key comes from, in every session that begins from here on.
DO $$ BEGIN
  EXECUTE format('ALTER DATABASE %I SET prism_crypt.master_key_env = %L', current_database(), 'PRISM_TEST_KEY_MAIN');
END $$;
\c
SHOW prism_crypt.master_key_env;
CALL regress.fresh();
SELECT decrypt_field('the key works');
