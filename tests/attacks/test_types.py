"""F20: an ordinary role's types don't crash, hang or bloat the server, in its own hands and in a DBA's."""

import unittest

from harness import PgError
from ways import Attack, says

MAKE = {
    "20,000 nested domains over arrays": """CREATE TEMP TABLE IF NOT EXISTS x (i int); CREATE DOMAIN pg_temp.d0 AS encrypted_text;
        DO $$ BEGIN FOR i IN 1 .. 20000 LOOP EXECUTE format('CREATE DOMAIN pg_temp.d%s AS pg_temp.d%s[]', i, i - 1); IF i % 1000 = 0 THEN COMMIT; END IF; END LOOP; END $$""",
    "composites that double": """CREATE TYPE c1 AS (a encrypted_text, b encrypted_text);
        DO $$ BEGIN FOR i IN 2 .. 20 LOOP EXECUTE format('CREATE TYPE c%s AS (a c%s, b c%s)', i, i - 1, i - 1); END LOOP; END $$; CREATE TABLE doubling (v c20); INSERT INTO doubling VALUES (NULL)""",
    "300 levels of composites": """CREATE TYPE l0 AS (a encrypted_text); DO $$ BEGIN FOR i IN 1 .. 300 LOOP EXECUTE format('CREATE TYPE l%s AS (a l%s)', i, i - 1); END LOOP; END $$; CREATE TABLE levels (v l300)""",
    "300 domains side by side": "DO $$ BEGIN FOR i IN 1 .. 300 LOOP EXECUTE format('CREATE DOMAIN s%s AS encrypted_text', i); END LOOP; END $$",
    "a table of 300 columns": "DO $$ BEGIN EXECUTE 'CREATE TABLE wide (' || (SELECT string_agg(format('c%s encrypted_text', i), ',') FROM generate_series(1, 300) AS i) || ')'; END $$",
    "odd names": """CREATE TABLE "e" (e encrypted_text, "x" encrypted_text, "rest" text, ctid_ int); CREATE TABLE "a.b""c'; DROP TABLE victim; --" ("d""e'" encrypted_text); CREATE TABLE gen (a encrypted_text, g int GENERATED ALWAYS AS (key_version(a)) STORED)""",
}
# In the attacker's own hands.
OWN = {
    "a value of the deepest domain": "SELECT '{}'::pg_temp.d20000", "a rotation of it": "SELECT prism_crypt._is_rotatable('{}'::pg_temp.d20000, 1, NULL)", "a constant of many elements": "SET statement_timeout = '5s'; EXPLAIN SELECT 1 WHERE NULL::encrypted_text = ANY (array_fill('a'::text, ARRAY[30000000]))",
    "a deep expression": "DO $$ BEGIN EXECUTE 'SELECT ' || repeat('(', 5000) || '''x''::encrypted_text' || repeat(')', 5000); END $$", "many casts": "DO $$ BEGIN EXECUTE 'SELECT ''x''' || repeat('::encrypted_text::bytea', 5000); END $$",
    "many comparisons": "DO $$ BEGIN EXECUTE 'SELECT count(*) FROM victim WHERE ' || repeat('name = ''x'' OR ', 5000) || 'false'; END $$", "nested arrays": "SELECT ('{' || repeat('{', 5) || 'x' || repeat('}', 5) || '}')::encrypted_text[]", "a function of no arguments": "SELECT count(*) FROM victim WHERE name = version(); SELECT 1 WHERE version() <> 'x'::encrypted_text",
    "malformed binary": "SELECT '\\x01'::bytea::encrypted_text; SELECT key_version('\\xffffffffff'::bytea); SELECT envelope_info('\\x0101'::bytea); SELECT key_version(decode(repeat('01', 1000), 'hex'))", "extremes": "SELECT blind_index('x', 'c', 2147483647); SELECT encrypt_field(repeat('x', 100000000), NULL, repeat('k', 10000)); SELECT prism_crypt.class_name(-2147483648), prism_crypt.class_name(2147483647)",
    "modifiers": "SELECT 'x'::encrypted_text('email', 'searchable', 'email'); SELECT NULL::encrypted_text(''); SELECT encrypted_text_typmod_in(ARRAY[NULL]::cstring[]), encrypted_text_typmod_in('{{a},{b}}'::cstring[]); SELECT encrypted_text_typmod_out(-1), encrypted_text_typmod_out(2147483647)",
    "the I/O functions themselves": "SELECT encrypted_text_in('prism:v1:', 0, -1); SELECT encrypted_text_in('x', 4294967295, 2147483647); SELECT encrypted_text_in(NULL, NULL, NULL); SELECT encrypted_text_send(NULL), encrypted_text_out(NULL)",
}
DBA = {
    "status": "SELECT count(*) FROM prism_crypt.status()", "census": "SELECT count(*) FROM prism_crypt.census()", "plan_rotation": "SELECT count(*) FROM prism_crypt.plan_rotation(1)", "find_plaintext": "SELECT count(*) FROM prism_crypt.find_plaintext()", "rotate_batch": "SELECT prism_crypt.rotate_key(); CALL rotate_batch('victim')",
    "rotate_all": "CALL prism_crypt.rotate_all()", "emergency_rotation": "SELECT count(*) FROM prism_crypt.emergency_rotation('x')", "rotation_due": "SELECT count(*) FROM prism_crypt.rotation_due()", "rotate_index_key": "SET lock_timeout = '5s'; CALL prism_crypt.rotate_index_key('default')",
    "destroy_key": "SELECT prism_crypt.destroy_key(1, 'x', true)",
}
ENDED = says("57014|54001.*stack|out of memory")


class Types(Attack):
    schema = """CREATE TABLE victim (id int, name encrypted_text, email encrypted_text('searchable')); INSERT INTO victim SELECT n, 'x', 'x' FROM generate_series(1, 10) AS n; GRANT SELECT ON victim TO PUBLIC;
        GRANT CREATE ON SCHEMA public TO nobody; GRANT EXECUTE ON FUNCTION prism_crypt._is_rotatable(anyelement, integer, text) TO nobody; GRANT USAGE ON SCHEMA prism_crypt TO nobody"""
    conf = {"max_locks_per_transaction": "1024"}

    def test_types(self):
        maker = self.session(self.db, user="nobody")
        started = self.cluster.psql("SELECT pg_postmaster_start_time()")
        for name, script in MAKE.items():
            maker.run(script + ";", check=False, timeout=300)
        # The session keeps its temporary types while a DBA works.
        for name, call in DBA.items():
            self.way(f"beside odd types: {name}", "postgres", f"SET statement_timeout = '15s'; {call}", ENDED)
        for name, call in OWN.items():
            try:
                said = maker.run(f"SET statement_timeout = '20s'; {call};", check=False, timeout=60)
            except (PgError, TimeoutError) as error:
                said = f"HUNG {error}" if isinstance(error, TimeoutError) else str(error)
            self.judge(f"in one's own hands: {name}", "it is not ended in time" if "57014" in said and "30000000" not in call else "", said[-600:])
            if "the connection ended" in said or said.startswith("HUNG"):
                maker = self.session(self.db, user="nobody")
        self.judge("a crash of the server", "" if self.cluster.psql("SELECT pg_postmaster_start_time()") == started and "was terminated by signal" not in self.cluster.log() else "a process was lost")
        with self.subTest("control: a crash and an end in time are seen"):
            self.assertTrue(ENDED(self.run_as("postgres", "SET statement_timeout = '10ms'; SELECT pg_sleep(5)")))


if __name__ == "__main__":
    unittest.main()
