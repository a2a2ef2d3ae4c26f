"""F26: what a session sets of prism_crypt.keyset counts for its own statements, and never for what runs as somebody else."""

import secrets
import unittest

from harness import paths
from clinic import DEFINER
from ways import Attack, own_setting, says

OTHER = "SET prism_crypt.keyset = 'other';\n"
REGISTER = "INSERT INTO public.members (email) VALUES (e) ON CONFLICT (email) DO NOTHING"
SCHEMA = f"""
    SELECT prism_crypt.create_keyset('other');
    SET ROLE doctor;
    CREATE TABLE members (email encrypted_text('email', 'searchable'), note encrypted_text);
    CREATE UNIQUE INDEX ON members (email encrypted_text_unique_ops);
    INSERT INTO members VALUES ('ada@example.org', 'first');
    CREATE TABLE notes (id int PRIMARY KEY, v encrypted_text DEFAULT encrypt_field('a note'), w encrypted_text('personal'));
    CREATE FUNCTION find_plpgsql(e text) RETURNS bigint LANGUAGE plpgsql {DEFINER} AS
      $f$ BEGIN RETURN (SELECT count(*) FROM public.members WHERE email OPERATOR(public.=) e); END $f$;
    CREATE FUNCTION find_sql(e text) RETURNS bigint LANGUAGE sql {DEFINER} AS 'SELECT count(*) FROM public.members WHERE email OPERATOR(public.=) e';
    CREATE FUNCTION find_literal() RETURNS bigint LANGUAGE plpgsql {DEFINER} AS
      $f$ BEGIN RETURN (SELECT count(*) FROM public.members WHERE email OPERATOR(public.=) 'ada@example.org'); END $f$;
    CREATE FUNCTION find_execute(e text) RETURNS bigint LANGUAGE plpgsql {DEFINER} AS
      $f$ DECLARE n bigint; BEGIN EXECUTE 'SELECT count(*) FROM public.members WHERE email OPERATOR(public.=) $1' INTO n USING e; RETURN n; END $f$;
    CREATE FUNCTION find_any(e text[]) RETURNS bigint LANGUAGE plpgsql {DEFINER} AS
      $f$ BEGIN RETURN (SELECT count(*) FROM public.members WHERE email OPERATOR(public.=) ANY (e)); END $f$;
    CREATE FUNCTION find_parallel(e text) RETURNS bigint LANGUAGE sql STABLE PARALLEL SAFE {DEFINER} SET {paths.FORCE_PARALLEL} = on
      AS 'SELECT count(*) FROM public.members WHERE email OPERATOR(public.=) e';
    CREATE FUNCTION blind(e text) RETURNS bytea LANGUAGE sql {DEFINER} AS $f$ SELECT public.blind_index(e, 'c') $f$;
    CREATE FUNCTION sealed_by(e text) RETURNS int LANGUAGE sql {DEFINER} AS $f$ SELECT public.key_version(public.encrypt_field(e)) $f$;
    CREATE FUNCTION cast_by(e text) RETURNS int LANGUAGE sql {DEFINER} AS $f$ SELECT public.key_version(e::public.encrypted_text('personal')) $f$;
    CREATE FUNCTION literal_by() RETURNS int LANGUAGE plpgsql {DEFINER} AS $f$ BEGIN RETURN public.key_version('x'::public.encrypted_text); END $f$;
    CREATE FUNCTION bytes_by(e text) RETURNS int LANGUAGE sql {DEFINER} AS $f$ SELECT public.key_version(public.encrypt_bytes(e::bytea)) $f$;
    CREATE FUNCTION input_by(e text) RETURNS int LANGUAGE plpgsql {DEFINER} AS $f$ BEGIN RETURN public.key_version(public.encrypted_text_in(e::cstring, 0, -1)); END $f$;
    CREATE FUNCTION json_by(e text) RETURNS int LANGUAGE sql {DEFINER} AS $f$ SELECT public.key_version(r.v) FROM jsonb_populate_record(NULL::public.notes, jsonb_build_object('v', e)) AS r $f$;
    CREATE FUNCTION own_by(e text) RETURNS int LANGUAGE sql {DEFINER} SET prism_crypt.keyset = 'other' AS $f$ SELECT public.key_version(public.encrypt_field(e)) $f$;
    CREATE FUNCTION register(e text) RETURNS text LANGUAGE plpgsql {DEFINER} AS
      $f$ DECLARE n int; BEGIN {REGISTER}; GET DIAGNOSTICS n = ROW_COUNT; RETURN 'registered ' || n; END $f$;
    CREATE PROCEDURE register_by_procedure(e text) LANGUAGE plpgsql {DEFINER} AS $f$ BEGIN {REGISTER}; END $f$;
    CREATE FUNCTION add_note(i int) RETURNS void LANGUAGE sql {DEFINER} AS $f$ INSERT INTO public.notes (id, w) VALUES (i, 'x') $f$;
    CREATE FUNCTION sealing() RETURNS trigger LANGUAGE plpgsql {DEFINER} AS $f$ BEGIN NEW.w := 'sealed by the trigger'; RETURN NEW; END $f$;
    CREATE TABLE triggered (LIKE notes); CREATE TRIGGER t BEFORE INSERT ON triggered FOR EACH ROW EXECUTE FUNCTION sealing();
    CREATE FUNCTION sealed_default() RETURNS encrypted_text LANGUAGE sql {DEFINER} AS $f$ SELECT public.encrypt_field('d') $f$;
    CREATE TABLE defaulted (id int, v encrypted_text DEFAULT sealed_default());
    GRANT SELECT, INSERT ON triggered, defaulted TO PUBLIC;
    RESET ROLE;
    GRANT EXECUTE ON FUNCTION encrypt_field(text, text, text, text) TO PUBLIC;
"""
CALL = {
    "plpgsql": "find_plpgsql('ada@example.org')", "sql": "find_sql('ada@example.org')", "a literal": "find_literal()",
    "EXECUTE": "find_execute('ada@example.org')", "an array": "find_any(ARRAY['ada@example.org'])", "parallel": "find_parallel('ada@example.org')",
}
SEAL = {
    "encrypt_field": "sealed_by('x')", "the cast": "cast_by('x')", "a literal": "literal_by()", "encrypt_bytes": "bytes_by('x')",
    "the input function": "input_by('x')", "JSON": "json_by('x')",
}
# Version 1 is the default keyset's, 2 the other's.
ANOTHER = says("^2$")


class SettingsKeyset(Attack):
    schema = SCHEMA

    def test_what_is_looked_up_is_found(self):
        missed = says("^0$")
        for name, call in CALL.items():
            self.way(f"a look-up misses: {name}", "nobody", f"{OTHER} SELECT {call}", missed)
            self.way(f"a look-up misses with a plan of before: {name}", "nobody", f"SELECT {call} AS before WHERE false; DO $$ BEGIN PERFORM {call}; END $$; {OTHER} SELECT {call}; SELECT {call}", missed)
            self.way(f"a look-up misses, prepared: {name}", "nobody", f"PREPARE p AS SELECT {call}; {OTHER} EXECUTE p; EXECUTE p", missed)
        self.control("of its own statements", "doctor", f"{OTHER} SELECT count(*) FROM members WHERE email = 'ada@example.org'", missed)
        self.way("another blind index", "nobody", f"SELECT blind('x') AS a \\gset\n{OTHER} SELECT 'changed' WHERE blind('x') <> :'a'", says("^changed"))
        self.way("a keyset that is not there", "nobody", "SET prism_crypt.keyset = 'nowhere'; SELECT find_sql('ada@example.org'), find_literal(), sealed_by('x')", says("42704"))

    def test_what_is_unique_registers_once(self):
        again = says("[2-9]$|registered 1")
        count = "SELECT count(*) FROM members WHERE decrypt_field(email) = 'ada@example.org'"
        undo = "DELETE FROM members WHERE note IS NULL"
        for name, call in (("function", "SELECT register('ada@example.org')"), ("procedure", "CALL register_by_procedure('ada@example.org')"),
                           ("twice in one transaction", "BEGIN; SELECT register('ada@example.org'); SELECT register('ada@example.org'); COMMIT"),
                           ("in DO", "DO $$ BEGIN PERFORM register('ada@example.org'); END $$")):
            self.way(f"registers twice: {name}", "nobody", f"{OTHER} {call}", again, after=count, undo=undo)
            self.way(f"registers twice: {name}, by SET LOCAL", "nobody", f"BEGIN; SET LOCAL prism_crypt.keyset = 'other'; {call.replace('BEGIN; ', '').replace('; COMMIT', '')}; COMMIT", again, after=count, undo=undo)
        self.control("registers twice by its own statements", "doctor", f"{OTHER} INSERT INTO members (email) VALUES ('ada@example.org')", again, after=count)
        self.cluster.psql(undo, db=self.db)

    def test_what_is_sealed_stays_in_its_keyset(self):
        for name, call in SEAL.items():
            self.way(f"sealed elsewhere: {name}", "nobody", f"{OTHER} SELECT {call}", ANOTHER)
            self.way(f"sealed elsewhere: {name}, set by the connection", "nobody", f"SELECT {call}", ANOTHER, PGOPTIONS="-c prism_crypt.keyset=other")
        self.way("sealed elsewhere: a default", "nobody", f"{OTHER} SELECT add_note(5)", ANOTHER, after="SELECT key_version(v) FROM notes; SELECT key_version(w) FROM notes", undo="DELETE FROM notes")
        self.way("sealed elsewhere: a trigger", "nobody", f"{OTHER} INSERT INTO triggered (id) VALUES (1) RETURNING key_version(w)", ANOTHER)
        self.way("sealed elsewhere: a function in a default", "nobody", f"{OTHER} INSERT INTO defaulted VALUES (1) RETURNING key_version(v)", ANOTHER)
        self.way("sealed elsewhere: behind a function of its own keyset", "nobody", "SELECT own_by('x') AS a \\gset\nSELECT sealed_by('x')", ANOTHER)
        self.control("its own statements", "nobody", f"{OTHER} SELECT key_version(encrypt_field('x'))", ANOTHER)
        self.control("its own statements, by a literal", "nobody", f"{OTHER} SELECT key_version('x'::encrypted_text)", ANOTHER)
        own_setting(self)("a function's own keyset", "nobody", "SELECT own_by('x')", ANOTHER)
        self.cluster.psql(f"ALTER DATABASE {self.db} SET prism_crypt.keyset = 'other'", db=self.db)
        self.control("the database's, also inside", "nobody", "SELECT sealed_by('x')", ANOTHER)
        self.way("the session's instead of the database's", "nobody", "SET prism_crypt.keyset = 'default'; SELECT sealed_by('x')", says("^1$"))
        for name, script in (("RESET", "RESET prism_crypt.keyset"), ("DEFAULT", "SET prism_crypt.keyset = DEFAULT"), ("NULL", "SELECT set_config('prism_crypt.keyset', NULL, false)"), ("DISCARD ALL", "DISCARD ALL"),
                             ("ALTER ROLE in the session", "ALTER ROLE nobody SET prism_crypt.keyset = 'default'"), ("pg_settings", "UPDATE pg_settings SET setting = 'default' WHERE name = 'prism_crypt.keyset'"),
                             ("a function's clause", "CREATE FUNCTION pg_temp.f() RETURNS int LANGUAGE sql SET prism_crypt.keyset = 'default' AS 'SELECT 1'; SELECT pg_temp.f() + 10")):
            self.way(f"instead of the database's, by {name}", "nobody", f"SET prism_crypt.keyset = 'default'; {script}; SELECT sealed_by('x'); SET prism_crypt.keyset = 'default'; SELECT sealed_by('x')", says("^1$"), undo="ALTER ROLE nobody RESET prism_crypt.keyset")
        self.cluster.psql(f"ALTER DATABASE {self.db} RESET prism_crypt.keyset", db=self.db)

    def test_a_master_key_of_the_callers(self):
        """A new key that somebody else makes is not wrapped by the caller's master key."""
        self.cluster.psql(f"CREATE FUNCTION tenant(name text) RETURNS int LANGUAGE sql {DEFINER} AS $f$ SELECT prism_crypt.create_keyset(name) $f$; CREATE FUNCTION renewed() RETURNS int LANGUAGE sql {DEFINER} AS $f$ SELECT prism_crypt.rotate_key() $f$;"
                          f"CREATE FUNCTION rewrapped() RETURNS int LANGUAGE sql {DEFINER} AS $f$ SELECT prism_crypt.rotate_master_key() $f$", db=self.db)
        others = "SELECT 'wrapped by another' FROM prism_crypt.data_key GROUP BY master_fingerprint HAVING count(*) < (SELECT count(*) FROM prism_crypt.data_key)"
        mine = f"SELECT set_config('prism_crypt.master_key', '{secrets.token_hex(32)}', false) IS NULL;"
        for name, call in (("create_keyset", "SELECT tenant('mine')"), ("rotate_key", "SELECT renewed()"), ("rotate_master_key", "SELECT rewrapped()")):
            self.way(f"its own master key for {name}", "nobody", f"{mine} {call}", says("^wrapped by another"), after=others)
        self.control("a key administrator may", "key_admin", f"{mine} SELECT prism_crypt.create_keyset('another_key')", says("^wrapped by another"), after=others)


if __name__ == "__main__":
    unittest.main()
