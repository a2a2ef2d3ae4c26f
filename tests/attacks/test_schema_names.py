"""
The owner of a database owns its schema public, and so the extension's schema: he may call it something else, make another of
that name, and functions in it. Nothing of ours is looked up by its name, and nobody's overload is called.
"""

import unittest

from harness import paths
from ways import Attack, says, secret_rows, shows_secret

FAKES = """
    CREATE SCHEMA public; GRANT USAGE, CREATE ON SCHEMA public TO PUBLIC;
    CREATE TABLE public.loot (who text, what text); GRANT ALL ON public.loot TO PUBLIC;
    CREATE DOMAIN public.encrypted_text AS old.encrypted_text;
""" + "".join(
    f"CREATE FUNCTION public.{name}(v old.encrypted_text{more}) RETURNS {returns} LANGUAGE plpgsql AS $f$ BEGIN INSERT INTO public.loot VALUES (current_user, old.decrypt_field(v)); RETURN {gives}; END $f$;"
    for name, more, returns, gives in (("reencrypt_field", "", "old.encrypted_text", "v"), ("key_version", "", "int", "2"), ("text", "", "text", "'x'"), ("decrypt_field", ", c text DEFAULT NULL", "text", "'x'"))) + """
    CREATE FUNCTION public.blind_index(text, text, int DEFAULT 128) RETURNS bytea LANGUAGE sql AS $f$ SELECT '\\x00'::bytea $f$;
    CREATE FUNCTION public.eq(old.encrypted_text, text) RETURNS boolean LANGUAGE sql AS 'SELECT true'; CREATE OPERATOR public.= (LEFTARG = old.encrypted_text, RIGHTARG = text, FUNCTION = public.eq);
"""
RENAME = "ALTER SCHEMA public RENAME TO old;"
# In 14 it is a superuser's at first.
OWNED = "ALTER SCHEMA public OWNER TO db_owner;" if paths.PG_MAJOR < 15 else ""
# A superuser's calls, and what they have to say.
CALLS = {
    "rotate_batch": ("CALL prism_crypt.rotate_batch('old.patients')", ""), "rotate_all": ("CALL prism_crypt.rotate_all()", ""),
    "plan_rotation": ("SELECT target FROM prism_crypt.plan_rotation()", "old.patients"), "census": ("SELECT kind, location, ciphertexts FROM prism_crypt.census()", "old.patients.name"),
    "rotate_index_key": ("CALL prism_crypt.rotate_index_key()", ""), "emergency_rotation": ("SELECT new_version > 0 FROM prism_crypt.emergency_rotation('drill')", "^t$"),
    "grant_access": ("SELECT prism_crypt.grant_access('owner', 'decrypt'); SELECT 'can ' || has_function_privilege('owner', p.oid, 'EXECUTE') FROM pg_proc AS p WHERE p.oid = 'old.decrypt_field(old.encrypted_text, text)'::regprocedure", "can true"),
    "revoke_access": ("SELECT prism_crypt.revoke_access('owner', 'decrypt'); SELECT 'can ' || has_function_privilege('owner', p.oid, 'EXECUTE') FROM pg_proc AS p WHERE p.oid = 'old.decrypt_field(old.encrypted_text, text)'::regprocedure", "can false"),
    "status": ("SELECT name, setting FROM prism_crypt.status()", "enabled.yes"), "name": ("SET search_path = old; SELECT count(*) FROM patients WHERE name = 'somebody else'::name", "^1$"),
}


class SchemaNames(Attack):
    def attacked(self, db, script):
        self.make_database(db, schema=OWNED + "CREATE TABLE patients (id int PRIMARY KEY, name encrypted_text, email encrypted_text('email', 'searchable'));" + secret_rows("patients")
                           + "UPDATE patients SET email = name; GRANT SELECT, UPDATE ON patients TO PUBLIC; SELECT prism_crypt.rotate_key();")
        said = self.run_as("db_owner", script, db=db)
        self.assertNotIn("ERROR", said)

    def test_another_schema_of_that_name(self):
        for db, script in (("renamed", RENAME), ("faked", RENAME + FAKES)):
            self.attacked(db, script)
            loot = "SELECT 'stolen by ' || who, what FROM public.loot" if script != RENAME else ""
            for name, (call, expected) in CALLS.items():
                if name == "revoke_access":
                    continue
                self.way(f"{name}, {db}", "postgres", call, lambda said, e=expected: shows_secret(said) or "stolen by" in said or not says(e)(said), after=loot, db=db)
            name = "revoke_access"
            self.way(f"{name}, {db}", "postgres", CALLS[name][0], lambda said: not says(CALLS[name][1])(said), db=db)
            # What was proved: all is under newer keys, so the first may go; and not the one that is in use.
            self.way(f"destroy_key of a key in use, {db}", "postgres", "SELECT prism_crypt.rotate_key(); SELECT prism_crypt.destroy_key(old.key_version(name), 'r') FROM old.patients WHERE id = 2",
                     lambda said: "in use" not in said, after="SELECT 'lost' FROM old.patients WHERE old.try_decrypt_field(name) IS NULL", db=db)

    def test_overloads_on_domains(self):
        self.make_database("domains", schema="CREATE DOMAIN email_t AS encrypted_text; CREATE DOMAIN scan_t AS bytea; GRANT CREATE ON SCHEMA public TO owner; CREATE TABLE vt (id int, e email_t, s scan_t);"
                           + secret_rows("vt", "id, e") + "UPDATE vt SET s = encrypt_bytes('x'); CREATE INDEX vt_version ON vt (key_version(e)); SELECT prism_crypt.rotate_key();")
        self.run_as("owner", "CREATE TABLE loot (who text, what text); GRANT ALL ON loot TO PUBLIC;" + "".join(
            f"CREATE FUNCTION public.{name}(v {domain}) RETURNS {returns} LANGUAGE plpgsql IMMUTABLE AS $f$ BEGIN RAISE LOG 'overload % ran as %', '{name}', current_user; RETURN {gives}; END $f$;"
            for name, domain, returns, gives in (("reencrypt_field", "email_t", "email_t", "v"), ("reencrypt_bytes", "scan_t", "scan_t", "v"), ("key_version", "email_t", "int", "99"), ("key_version", "scan_t", "int", "99"),
                                                 ("decrypt_field", "email_t", "text", "'x'"), ("mask_field", "email_t", "text", "'x'"))), db="domains")
        for call in ("CALL prism_crypt.rotate_batch('public.vt')", "CALL prism_crypt.rotate_batch('public.vt', 's')", "CALL prism_crypt.rotate_all()", "SELECT * FROM prism_crypt.plan_rotation()",
                     "SELECT * FROM prism_crypt.census()", "SELECT prism_crypt.emergency_rotation('drill')", "CALL prism_crypt.rotate_index_key()"):
            before = len(self.cluster.log())
            said = self.run_as("postgres", call, db="domains")
            self.judge(f"an overload on a domain, {call}", "ran as postgres" in self.cluster.log()[before:] and "it ran", said)
        self.way("an index of an overload", "postgres", "CREATE INDEX vt_fake ON vt (key_version(e)); DROP INDEX vt_version; SELECT prism_crypt.rotate_key(); CALL prism_crypt.rotate_batch('vt')", says("^left behind"), db="domains",
                 after="SELECT 'left behind' FROM prism_crypt.census() JOIN prism_crypt.key_status AS k ON k.version = key_version WHERE k.state <> 'active' AND location LIKE '%vt.e%'")
        self.control("an overload is called by its name", "postgres", "SELECT reencrypt_field(e) IS NOT NULL FROM vt LIMIT 1; SET client_min_messages = log; SELECT reencrypt_field(e) IS NOT NULL FROM vt LIMIT 1", says("ran as postgres"), db="domains")


if __name__ == "__main__":
    unittest.main()
