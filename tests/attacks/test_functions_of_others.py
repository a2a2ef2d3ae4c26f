"""Tricks with types, casts, operators, aggregates, triggers and rights that change: nobody gets at plaintext, or at another's rights."""

import unittest

from harness import paths
from ways import BLIND, SECRET, Attack, says, secret_rows, shows_secret

SCHEMA = """
    SET ROLE doctor;
    CREATE TABLE patients (id int PRIMARY KEY, name encrypted_text, email encrypted_text('email', 'searchable'), names encrypted_text[]);
    RESET ROLE;
""" + secret_rows("patients") + """
    UPDATE patients SET email = name, names = ARRAY[name]; GRANT SELECT, UPDATE, INSERT ON patients TO PUBLIC;
    CREATE TABLE loot (what text); GRANT ALL ON loot TO PUBLIC; ALTER TABLE loot OWNER TO owner;
    GRANT CREATE ON SCHEMA public TO PUBLIC;
"""
ONE = "FROM patients WHERE id = 2"
# Since 16, each membership says whether it is inherited, and the role says so for later ones only.
NOT_INHERITED = "GRANT decrypt TO owner WITH INHERIT FALSE" if paths.PG_MAJOR >= 16 else "ALTER ROLE owner NOINHERIT"
# What asks for the plaintext of a value by ways that look like something else. As a role without any access.
READING = {
    "the cast to text": f"SELECT name::text {ONE}", "the cast to varchar": f"SELECT name::varchar {ONE}", "the cast to char": f"SELECT name::char(40) {ONE}",
    "the cast to name": f"SELECT name::name {ONE}", "the implicit cast": f"SELECT lower(name), name || '' {ONE}", "substring": f"SELECT substring(name FROM 1) {ONE}",
    "conversion by output to json": f"SELECT name::json {ONE}", "conversion to int": f"SELECT name::int {ONE}", "conversion to bytea and back": f"SELECT convert_from(name::bytea, 'UTF8') {ONE}",
    "conversion to date": f"SELECT name::date {ONE}", "conversion to cstring": f"SELECT name::cstring {ONE}", "conversion to an enum": f"CREATE TYPE e AS ENUM ('x'); SELECT name::e {ONE}",
    "conversion to regclass": f"SELECT name::regclass {ONE}", "conversion to an array": f"SELECT name::text[] {ONE}", "of an array to text[]": f"SELECT names::text[] {ONE}",
    "of a row to another": f"CREATE TYPE pair AS (a text); SELECT ROW(name)::pair {ONE}", "a domain over text": f"CREATE DOMAIN d AS text; SELECT name::d {ONE}",
    "citext-like own type": f"SELECT name::text COLLATE \"C\" {ONE}", "LIKE": f"SELECT 'found' {ONE} AND name LIKE 'kowari%'", "a regular expression": f"SELECT 'found' {ONE} AND name ~ '^kow'",
    "ORDER BY": "SELECT id FROM patients ORDER BY name::text", "min": "SELECT min(name) FROM patients", "string_agg": "SELECT string_agg(name, ',') FROM patients",
    "to_tsvector": f"SELECT to_tsvector('simple', name) {ONE}", "format by a cast": f"SELECT format('%s', name::text) {ONE}", "unnest of an array": f"SELECT unnest(names)::text {ONE}",
    "an ASSIGNMENT": f"INSERT INTO loot SELECT name {ONE}", "an UPDATE": f"INSERT INTO loot VALUES ('x'); UPDATE loot SET what = (SELECT name {ONE})", "UPDATE RETURNING": "UPDATE patients SET id = id RETURNING name::text",
    "ALTER TABLE … TYPE": "CREATE TABLE c AS SELECT name FROM patients; ALTER TABLE c ALTER name TYPE text USING name::text; TABLE c", "CREATE TABLE AS": "CREATE TABLE c AS SELECT name::text FROM patients; TABLE c",
    "a view of one's own": "CREATE VIEW v AS SELECT name::text FROM patients; TABLE v", "a materialized view": "CREATE MATERIALIZED VIEW v AS SELECT name::text FROM patients; TABLE v",
    "a function in SQL": "CREATE FUNCTION f() RETURNS text LANGUAGE sql AS 'SELECT name::text FROM patients WHERE id = 2'; SELECT f()",
    "a SECURITY DEFINER function of one's own": "CREATE FUNCTION f() RETURNS text LANGUAGE sql SECURITY DEFINER AS 'SELECT name::text FROM patients WHERE id = 2'; SELECT f()",
    "PL/pgSQL's assignment": f"DO $$ DECLARE t text; BEGIN t := (SELECT name {ONE}); RAISE NOTICE '%', t; END $$", "PL/pgSQL's INTO": f"DO $$ DECLARE t text; BEGIN SELECT name INTO t {ONE}; RAISE NOTICE '%', t; END $$",
    "PL/pgSQL's record": f"DO $$ DECLARE r record; t text; BEGIN SELECT name INTO r {ONE}; t := r.name; RAISE NOTICE '%', t; END $$", "PL/pgSQL's array": f"DO $$ DECLARE t text[]; BEGIN SELECT names INTO t {ONE}; RAISE NOTICE '%', t; END $$",
    "PL/pgSQL's row of texts": f"CREATE TYPE texts AS (a text); DO $$ DECLARE t texts; BEGIN SELECT name INTO t {ONE}; RAISE NOTICE '%', t; END $$",
    "a loop": "DO $$ DECLARE t text; BEGIN FOR t IN SELECT name FROM patients LOOP RAISE NOTICE '%', t; END LOOP; END $$", "FOREACH": f"DO $$ DECLARE t text; BEGIN FOREACH t IN ARRAY (SELECT names {ONE}) LOOP RAISE NOTICE '%', t; END LOOP; END $$",
    "RETURN QUERY": "CREATE FUNCTION f() RETURNS SETOF text LANGUAGE plpgsql AS 'BEGIN RETURN QUERY SELECT name FROM patients; END'; SELECT f()",
    "a function that returns text": "CREATE FUNCTION f() RETURNS text LANGUAGE plpgsql AS 'BEGIN RETURN (SELECT name FROM patients WHERE id = 2); END'; SELECT f()",
    "jsonb_populate_record": f"CREATE TYPE texts AS (name text); SELECT jsonb_populate_record(NULL::texts, to_jsonb(p)) {ONE.replace('patients', 'patients AS p')}",
    "XMLTABLE": "SELECT x.* FROM patients, XMLTABLE('/a' PASSING XMLELEMENT(NAME a, name) COLUMNS b text PATH '.') AS x", "JSON": "SELECT j.value FROM patients AS p, jsonb_each_text(to_jsonb(p)) AS j",
    "COPY TO": "COPY (SELECT name::text FROM patients) TO STDOUT", "a cursor": "BEGIN; DECLARE c CURSOR FOR SELECT name::text FROM patients; FETCH ALL c", "a held cursor": "BEGIN; DECLARE c CURSOR WITH HOLD FOR SELECT name::text FROM patients; COMMIT; FETCH ALL c",
    "a prepared statement": "PREPARE p AS SELECT name::text FROM patients; EXECUTE p", "in parallel": "SET force_parallel_mode = on; SELECT name::text FROM patients",
    "EXPLAIN ANALYZE": "EXPLAIN (ANALYZE, VERBOSE) SELECT name::text FROM patients", "a CASE that is folded": f"SELECT CASE WHEN true THEN name ELSE 'x'::text END {ONE}", "COALESCE": f"SELECT coalesce(name, 'x'::text) {ONE}",
    "UNION with text": f"SELECT name {ONE} UNION ALL SELECT 'x'::text", "VALUES with text": f"SELECT * FROM (VALUES ((SELECT name {ONE})), ('x'::text)) AS v", "ARRAY with text": f"SELECT ARRAY[name, 'x'::text] {ONE}",
    "GREATEST": f"SELECT greatest(name, 'x'::text) {ONE}", "NULLIF": f"SELECT nullif(name::text, 'x') {ONE}", "a window": "SELECT lag(name::text) OVER () FROM patients", "GROUPING": "SELECT name::text FROM patients GROUP BY ROLLUP (1)",
    "a range": "CREATE TYPE r AS RANGE (subtype = encrypted_text, subtype_opclass = encrypted_text_unique_ops); SELECT lower(r(name, name, '[]'))::text FROM patients", "a multirange": "CREATE TYPE r AS RANGE (subtype = encrypted_text, subtype_opclass = encrypted_text_unique_ops); SELECT r_multirange(r(name, name, '[]'))::text FROM patients",
    "a subscript": f"SELECT name[1] {ONE}", "a subscript of the array": f"SELECT names[1]::text, (names[1:1])::text[] {ONE}", "a field of a value": f"SELECT (name).text {ONE}", "functional notation": f"SELECT (p.name).varchar, text(p.name) {ONE.replace('patients', 'patients AS p')}",
    "a subscript assignment": "DO $$ DECLARE a text[]; BEGIN SELECT name INTO a[1] FROM patients WHERE id = 2; RAISE NOTICE '%', a; END $$", "try_decrypt_field": f"SELECT try_decrypt_field(name) {ONE}", "decrypt_bytes": f"SELECT convert_from(decrypt_bytes(name::bytea), 'UTF8') {ONE}",
    "reencrypt under a keyset of one's own": f"SELECT reencrypt_field(name)::text {ONE}", "encrypt of an encrypted value": f"SELECT encrypt_field(name) {ONE}", "a class of one's own choice": f"SELECT mask_field(name::encrypted_text('tax_id')) {ONE}",
    "the master key": "SHOW prism_crypt.master_key; SELECT current_setting('prism_crypt.master_key_file'); SELECT pg_read_file(current_setting('prism_crypt.master_key_file'))",
}
# What makes objects whose functions are ours, to have them called without being asked for the right.
TRICKS = {
    "an aggregate over decrypt_field": "CREATE AGGREGATE a(encrypted_text, text) (SFUNC = decrypt_field, STYPE = encrypted_text); SELECT a(name, NULL) FROM patients",
    "an aggregate that ends with the cast": "CREATE AGGREGATE a(encrypted_text) (SFUNC = pg_catalog.array_append, STYPE = encrypted_text[], FINALFUNC = text); SELECT a(name) FROM patients",
    "an aggregate with an INITCOND of ciphertext": "SELECT format('CREATE AGGREGATE a(text) (SFUNC = text_larger, STYPE = text, INITCOND = %L)', name) FROM patients WHERE id = 2 \\gexec\nSELECT a('a') FROM patients",
    "an aggregate with an encrypted INITCOND": "SELECT format('CREATE AGGREGATE a(encrypted_text) (SFUNC = keep_first, STYPE = encrypted_text, INITCOND = %L)', name) FROM patients WHERE id = 2 \\gexec\nSELECT a(name)::text FROM patients",
    "an aggregate, the output function": "CREATE AGGREGATE a(encrypted_text) (SFUNC = encrypted_text_out, STYPE = cstring); SELECT a(name) FROM patients",
    "an operator over the cast": "CREATE OPERATOR @@@ (RIGHTARG = encrypted_text, FUNCTION = public.text); SELECT @@@ name FROM patients",
    "an operator over decrypt_field": "CREATE OPERATOR @@@ (LEFTARG = encrypted_text, RIGHTARG = text, FUNCTION = decrypt_field); SELECT name @@@ NULL FROM patients",
    "an operator with our function as its selectivity": "CREATE OPERATOR @@@ (LEFTARG = text, RIGHTARG = text, FUNCTION = texteq, RESTRICT = encrypted_text_eq_support)",
    "a cast without a function": "CREATE CAST (encrypted_text AS text) WITHOUT FUNCTION", "a cast of a domain": "CREATE DOMAIN d AS encrypted_text; CREATE CAST (d AS text) WITH FUNCTION public.text(encrypted_text); SELECT name::d::text FROM patients",
    "a cast to an own type": "CREATE TYPE o AS (t text); CREATE CAST (encrypted_text AS o) WITH INOUT; SELECT name::o FROM patients", "a cast with our function": "CREATE TYPE o AS (t text); CREATE CAST (encrypted_text AS json) WITH FUNCTION public.text(encrypted_text); SELECT name::json FROM patients",
    "a base type LIKE ours": "CREATE TYPE o; CREATE FUNCTION o_in(cstring) RETURNS o LANGUAGE internal STRICT AS 'textin'; CREATE FUNCTION o_out(o) RETURNS cstring LANGUAGE internal AS 'textout'; CREATE TYPE o (INPUT = o_in, OUTPUT = o_out, LIKE = encrypted_text)",
    "a C function of the library": "CREATE FUNCTION d(encrypted_text, text) RETURNS text LANGUAGE c AS '$libdir/prism_crypt', 'decrypt_field_wrapper'; SELECT d(name, NULL) FROM patients",
    "an operator class": "CREATE OPERATOR CLASS o FOR TYPE encrypted_text USING btree AS FUNCTION 1 encrypted_text_cmp(encrypted_text, encrypted_text)",
    "a range with our function": "CREATE TYPE r AS RANGE (subtype = encrypted_text, subtype_opclass = encrypted_text_unique_ops, subtype_diff = encrypted_text_cmp)",
    "a range, canonical": "CREATE TYPE r; CREATE FUNCTION c(r) RETURNS r LANGUAGE internal AS 'int4range_canonical'; CREATE TYPE r AS RANGE (subtype = encrypted_text, subtype_opclass = encrypted_text_unique_ops, canonical = c)",
    "a support function": "CREATE FUNCTION f(text) RETURNS boolean LANGUAGE sql SUPPORT encrypted_text_eq_support AS 'SELECT true'",
    "replacing a function": "CREATE OR REPLACE FUNCTION decrypt_field(value encrypted_text, context text DEFAULT NULL) RETURNS text LANGUAGE sql AS 'SELECT 1'; SELECT proname FROM pg_proc WHERE proname = 'decrypt_field' AND prosrc = 'SELECT 1'",
    "granting oneself": "GRANT EXECUTE ON FUNCTION decrypt_field(encrypted_text, text) TO nobody; SELECT decrypt_field(name) FROM patients", "grant_access": "SELECT prism_crypt.grant_access('nobody', 'decrypt'); SELECT name::text FROM patients",
    "owning it": "ALTER FUNCTION decrypt_field(encrypted_text, text) OWNER TO nobody; ALTER EXTENSION prism_crypt OWNER TO nobody; SELECT name::text FROM patients", "a member of the extension": "CREATE FUNCTION m() RETURNS text LANGUAGE sql AS 'SELECT 1'; ALTER EXTENSION prism_crypt ADD FUNCTION m()",
    "a SECURITY LABEL": "SECURITY LABEL ON FUNCTION decrypt_field(encrypted_text, text) IS 'x'", "LEAKPROOF": "CREATE FUNCTION l(encrypted_text) RETURNS boolean LANGUAGE plpgsql LEAKPROOF AS 'BEGIN RAISE NOTICE ''%'', $1; RETURN true; END'",
    "a function of a lower cost before a barrier": "CREATE FUNCTION l(encrypted_text) RETURNS boolean LANGUAGE plpgsql COST 0.0001 AS $$ BEGIN RAISE NOTICE '%', $1::text; RETURN true; END $$; SELECT id FROM patients WHERE l(name)",
    "trigger functions on own tables": """CREATE TABLE t (version int, keyset text, generation int, state text, wrapped bytea, master_fingerprint text, created_at timestamptz, created_by name, retired_at timestamptz, disabled_at timestamptz, destroyed_at timestamptz, reason text, retagged_at timestamptz);
        CREATE TRIGGER a BEFORE INSERT ON t FOR EACH ROW EXECUTE FUNCTION prism_crypt._take_replicated_data_key(); CREATE TRIGGER b BEFORE INSERT ON t FOR EACH ROW EXECUTE FUNCTION prism_crypt._data_key_arrived();
        CREATE TRIGGER c BEFORE INSERT ON t FOR EACH ROW EXECUTE FUNCTION prism_crypt._take_replicated_index_key(); CREATE TRIGGER d AFTER INSERT ON t FOR EACH STATEMENT EXECUTE FUNCTION prism_crypt._keys_leave();
        INSERT INTO t (version, keyset, state) VALUES (1, 'default', 'destroyed'); SELECT 'trigger made' FROM pg_trigger WHERE tgrelid = 't'::regclass""",
    "an event trigger": "CREATE FUNCTION ev() RETURNS event_trigger LANGUAGE plpgsql AS 'BEGIN END'; CREATE EVENT TRIGGER ev ON ddl_command_end EXECUTE FUNCTION ev()",
    "triggers on our tables": "CREATE TRIGGER x BEFORE INSERT ON prism_crypt.data_key FOR EACH ROW EXECUTE FUNCTION suppress_redundant_updates_trigger(); CREATE RULE r AS ON INSERT TO prism_crypt.data_key DO INSTEAD NOTHING",
    "inheriting from our tables": "CREATE TABLE child () INHERITS (prism_crypt.data_key); SELECT 'inherited' FROM pg_inherits WHERE inhrelid = to_regclass('child')", "referring to our tables": "CREATE TABLE child (v int REFERENCES prism_crypt.data_key)",
    "a statistics object on our tables": "CREATE STATISTICS x ON version, state FROM prism_crypt.data_key", "a foreign table of the catalogs": "SELECT wrapped FROM prism_crypt.data_key", "LOCK": "BEGIN; LOCK TABLE prism_crypt.data_key; SELECT 'locked' FROM pg_locks WHERE mode = 'AccessExclusiveLock' AND pid = pg_backend_pid() AND relation::regclass::text LIKE '%data_key'",
    "a publication of our tables": "CREATE PUBLICATION p FOR TABLE prism_crypt.data_key", "a placeholder": "SET prism_crypt.right_to_decrypt = on; SET prism_crypt.outputs = 'plaintext'; SELECT name::text FROM patients",
    "settings of the superuser": "SET prism_crypt.master_key_file = '/dev/null'; SET prism_crypt.master_key_command = 'id'; SET prism_crypt.master_key_env = 'PATH'; SET prism_crypt.enforce_seal_limit = off; SELECT 'set ' || name FROM pg_settings WHERE name LIKE 'prism_crypt.%' AND source = 'session'",
    "DROP": "DROP EXTENSION prism_crypt CASCADE; DROP FUNCTION decrypt_field(encrypted_text, text)", "renaming": "ALTER SCHEMA prism_crypt RENAME TO x; ALTER TYPE encrypted_text RENAME TO x; ALTER EXTENSION prism_crypt SET SCHEMA pg_temp",
    "pg_temp first": "SET search_path = pg_temp, public; CREATE FUNCTION pg_temp.decrypt_field(encrypted_text, text) RETURNS text LANGUAGE sql AS 'SELECT 1'; SELECT pg_temp.decrypt_field(name, NULL), name::text FROM patients",
    "a type of our name": "CREATE SCHEMA own; SET search_path = own, public; CREATE DOMAIN own.encrypted_text AS text; SELECT name::encrypted_text FROM patients; SELECT name::own.encrypted_text FROM patients",
}
GOT = says(r"(?m)^(trigger made|inherited|locked|set prism|decrypt_field$|found)|\bCREATE (CAST|PUBLICATION)$")


class FunctionsOfOthers(Attack):
    schema = SCHEMA

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.cluster.psql("GRANT CREATE ON DATABASE attacked TO PUBLIC; GRANT USAGE ON SCHEMA prism_crypt TO nobody; CREATE FUNCTION keep_first(encrypted_text, encrypted_text) RETURNS encrypted_text LANGUAGE sql AS 'SELECT $1'", db=cls.db)

    def test_reading(self):
        for name, script in READING.items():
            # All of it in a transaction, which leaves nothing behind.
            script = script if "COMMIT" in script or script.startswith("BEGIN") else f"BEGIN; {script}; SELECT what FROM loot; ROLLBACK"
            self.way(f"reading: {name}", "nobody", script, lambda said: shows_secret(said) or GOT(said))
        for name in ("the cast to text", "conversion to json", "PL/pgSQL's INTO", "a range", "UNION with text", "decrypt_bytes"):
            for role in BLIND[1:]:
                self.way(f"reading as {role}: {name}", role, f"BEGIN; {READING.get(name, READING['conversion by output to json'])}; ROLLBACK")
        for name in ("the cast to text", "PL/pgSQL's INTO", "COPY TO", "UNION with text", "in parallel"):
            self.control(f"reading: {name}", "decrypt", READING[name])
        self.control("LIKE", "decrypt", READING["LIKE"], GOT)

    def test_tricks(self):
        for name, script in TRICKS.items():
            self.way(name, "nobody", f"BEGIN; SAVEPOINT s;\n\\set ON_ERROR_ROLLBACK on\n{script};\nROLLBACK", lambda said: shows_secret(said) or GOT(said))
        self.control("an operator", "doctor", f"BEGIN; {TRICKS['an operator over the cast']}; ROLLBACK")

    def test_rights_that_change(self):
        """What a session found out about its rights is not what it has when they are gone."""
        grant, revoke = "SELECT prism_crypt.grant_access('owner', 'decrypt')", "SELECT prism_crypt.revoke_access('owner', 'decrypt')"
        read = "SELECT name::text FROM patients; SET prism_crypt.output = 'plaintext'; SELECT name, to_jsonb(names) FROM patients;"
        changes = {
            "REVOKE": (grant, revoke), "REVOKE of the membership": ("GRANT decrypt TO owner", "REVOKE decrypt FROM owner"), "membership in two steps": ("GRANT decrypt TO search; GRANT search TO owner", "REVOKE decrypt FROM search; REVOKE search FROM owner"),
            "NOINHERIT": ("GRANT decrypt TO owner", NOT_INHERITED), "REVOKE from the group": ("GRANT load TO owner; SELECT prism_crypt.grant_access('load', 'decrypt')", "SELECT prism_crypt.revoke_access('load', 'decrypt')"),
            "the database's owner": ("ALTER DATABASE attacked OWNER TO owner; SELECT prism_crypt.grant_access('pg_database_owner', 'decrypt')", "ALTER DATABASE attacked OWNER TO db_owner"),
            "SUPERUSER": ("ALTER ROLE owner SUPERUSER", "ALTER ROLE owner NOSUPERUSER"),
        }
        for name, (give, take) in changes.items():
            session = self.session(self.db, user="owner")
            prepared = "PREPARE p AS SELECT name::text FROM patients; PREPARE q AS SELECT name FROM patients; PREPARE r AS SELECT to_jsonb(p) FROM patients AS p;"
            self.cluster.psql(give, db=self.db)
            before = session.run(prepared + read + "EXECUTE p; EXECUTE q; EXECUTE r;")
            with self.subTest(control=name):
                self.assertTrue(shows_secret(before), f"{name} gives no right: the way proves nothing")
            self.cluster.psql(take, db=self.db)
            after = session.run(read, check=False) + session.run("EXECUTE p; EXECUTE q; EXECUTE r;", check=False)
            self.judge(f"a session goes on after: {name}", "it shows the secret" if shows_secret(after) else "", after)
            self.cluster.psql("ALTER ROLE owner INHERIT NOSUPERUSER; REVOKE decrypt FROM owner; REVOKE load FROM owner; SELECT prism_crypt.revoke_access('pg_database_owner', 'decrypt'), prism_crypt.revoke_access('owner', 'decrypt'), prism_crypt.revoke_access('load', 'decrypt')", db=self.db)
            self.assertNotIn(SECRET, self.run_as("owner", read))
            session.close()

    def test_roles_that_change(self):
        """The right of one role is not that of another in the same session."""
        read, plain = "SELECT name, to_jsonb(names) FROM patients", "SET prism_crypt.output = 'plaintext';"
        self.cluster.psql("GRANT nobody TO decrypt; GRANT decrypt TO db_owner")
        self.addCleanup(self.cluster.psql, "REVOKE nobody FROM decrypt; REVOKE decrypt FROM db_owner")
        quiet = "CREATE TEMP TABLE shown AS SELECT length(to_jsonb(p)::text), name::text IS NULL FROM patients AS p;"
        for name, user, script in (
            ("SET ROLE to less", "decrypt", f"{plain} {quiet} SET ROLE nobody; {read}; SELECT name::text FROM patients"),
            ("SET ROLE and a savepoint", "decrypt", f"{plain} {quiet} BEGIN; SAVEPOINT a; SET LOCAL ROLE nobody; {read}; ROLLBACK TO a; SET LOCAL ROLE nobody; {read}; COMMIT"),
            ("SET ROLE in a transaction that ends", "decrypt", f"{plain} SET ROLE nobody; BEGIN; SET LOCAL ROLE decrypt; {quiet} COMMIT; {read}; SELECT name::text FROM patients"),
            ("SET ROLE with a prepared statement", "decrypt", f"{plain} PREPARE p AS {read}; PREPARE q AS SELECT name::text FROM patients; {quiet} SET ROLE nobody; EXECUTE p; EXECUTE q"),
            ("SET ROLE and DISCARD", "decrypt", f"{plain} {quiet} SET ROLE nobody; DISCARD PLANS; {read}; SELECT name::text FROM patients"),
            ("a cursor that was opened with less", "decrypt", f"{plain} SET ROLE nobody; BEGIN; DECLARE c CURSOR FOR SELECT name::text FROM patients; FETCH ALL c; ROLLBACK; {read}"),
            ("SET SESSION AUTHORIZATION", "nobody", f"SET SESSION AUTHORIZATION decrypt; {plain} {read}"),
            ("SET ROLE without membership", "nobody", f"SET ROLE decrypt; {plain} {read}; SET ROLE doctor; {read}"),
        ):
            self.way(name, user, script)
        self.control("a member by inheritance", "db_owner", f"{plain} {read}")


if __name__ == "__main__":
    unittest.main()
