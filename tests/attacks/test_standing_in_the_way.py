"""F21, F23: what belongs to others does not stop a DBA: each call does its work for what it can, and ends."""

import unittest

from ways import Attack

TABLES = """
    CREATE TABLE patients (id int PRIMARY KEY, name encrypted_text, email encrypted_text('email', 'searchable')); INSERT INTO patients SELECT n, 'x' || n, 'x' || n FROM generate_series(1, 20) AS n;
    CREATE UNIQUE INDEX ON patients (email encrypted_text_unique_ops); CREATE TABLE zz_last (id int, name encrypted_text); INSERT INTO zz_last VALUES (1, 'x');
    GRANT CREATE ON SCHEMA public TO PUBLIC; GRANT USAGE ON SCHEMA prism_crypt TO nobody; GRANT ALL ON ALL TABLES IN SCHEMA public TO nobody;
"""
INDEXED = """
    CREATE TABLE trapped (id int, name encrypted_text); CREATE TABLE sprung (yes boolean);
    CREATE FUNCTION spring(v encrypted_text) RETURNS int LANGUAGE plpgsql IMMUTABLE AS $$ BEGIN IF EXISTS (SELECT FROM public.sprung) THEN {} END IF; RETURN 1; END $$;
    CREATE INDEX trap ON trapped (spring(name)); INSERT INTO trapped SELECT n, 'x' FROM generate_series(1, 3) AS n; CREATE INDEX whole ON trapped USING hash (name) WHERE spring(name) = 1; INSERT INTO sprung VALUES (true)
"""
# Of roles without any right of ours. What they do first; what a session of theirs holds while the DBA works.
OBSTACLES = {
    "an index function that raises": (INDEXED.format("RAISE EXCEPTION 'boom';"), ""),
    "an index function that sleeps": (INDEXED.format("PERFORM pg_sleep(3600);"), ""),
    "a temporary table": ("", "CREATE TEMP TABLE t (v encrypted_text); INSERT INTO t VALUES ('x'); CREATE UNIQUE INDEX ON t (v encrypted_text_unique_ops); CREATE INDEX ON t USING hash (v)"),
    "an open transaction that has read": ("", "BEGIN; SELECT count(*) FROM patients"),
    "an open transaction that has written": ("CREATE TABLE theirs (id int, name encrypted_text)", "BEGIN; INSERT INTO theirs VALUES (1, 'x'); SELECT count(*) FROM zz_last FOR UPDATE"),
    "a table that is locked": ("CREATE TABLE theirs (id int, name encrypted_text); INSERT INTO theirs VALUES (1, 'x')", "BEGIN; LOCK TABLE theirs IN ACCESS EXCLUSIVE MODE"),
    "odd tables": ("""CREATE TABLE e (e encrypted_text, x encrypted_text); INSERT INTO e VALUES ('x', 'x'); CREATE TABLE rest (chosen encrypted_text, "tableoid_" int); INSERT INTO rest VALUES ('x');
        CREATE TABLE generated (a encrypted_text, g encrypted_text GENERATED ALWAYS AS (public.same(a)) STORED); INSERT INTO generated VALUES ('x'); CREATE TABLE "a.b""'; --" ("c""d" encrypted_text); INSERT INTO "a.b""'; --" VALUES ('x');
        CREATE TABLE only_generated (g encrypted_text GENERATED ALWAYS AS (NULL) STORED); CREATE TABLE parts (id int, v encrypted_text) PARTITION BY LIST (id); CREATE TABLE child () INHERITS (e)""", ""),
    "a trigger that raises": ("CREATE TABLE theirs (id int, name encrypted_text); INSERT INTO theirs VALUES (1, 'x'); CREATE FUNCTION boom() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RAISE EXCEPTION ''boom''; END'; CREATE TRIGGER t BEFORE UPDATE ON theirs FOR EACH ROW EXECUTE FUNCTION boom()", ""),
}
# What the DBA calls, in this order; "" where an error is no failure but the answer; what must be true behind it.
CALLS = {
    "status": ("SELECT 1 / (count(*) > 0)::int FROM prism_crypt.status()", ""), "census": ("SELECT 1 / (count(*) > 0)::int FROM prism_crypt.census()", ""), "plan_rotation": ("SELECT 1 / (count(*) > 0)::int FROM prism_crypt.plan_rotation(10)", ""),
    "find_plaintext": ("SELECT count(*) FROM prism_crypt.find_plaintext()", ""),
    "emergency_rotation": ("SELECT * FROM prism_crypt.emergency_rotation('x')", "SELECT max(version) = 2 FROM prism_crypt.data_key"),
    # It reports what it left by an error at its end.
    "rotate_all": ("CALL prism_crypt.rotate_all(fire_triggers => false)", "SELECT (SELECT bool_and(key_version(name) = 2) FROM zz_last) AND (SELECT bool_and(key_version(email) = 2) FROM patients)"),
    "rotation_due": ("SELECT 1 / (count(*) > 0)::int FROM prism_crypt.rotation_due()", ""), "progress": ("SELECT count(*) FROM prism_crypt.progress", ""),
    "destroy_key by force": ("SELECT prism_crypt.destroy_key(1, 'x', force => true)", "SELECT state = 'destroyed' FROM prism_crypt.data_key WHERE version = 1"),
    "destroy_keyset by force": ("SELECT prism_crypt.destroy_keyset('tenant', 'x', force => true)", "SELECT bool_and(state = 'destroyed') FROM prism_crypt.data_key WHERE keyset = 'tenant'"),
}


class StandingInTheWay(Attack):
    schema = TABLES + """CREATE FUNCTION same(encrypted_text) RETURNS encrypted_text LANGUAGE sql IMMUTABLE AS 'SELECT $1'"""
    conf = {"max_locks_per_transaction": "256"}

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.cluster.psql("ALTER DATABASE attacked RENAME TO pattern; ALTER DATABASE pattern IS_TEMPLATE true")

    def test_obstacles(self):
        for number, (obstacle, (before, held)) in enumerate({"nothing": ("", ""), **OBSTACLES}.items()):
            db = f"way_{number}"
            self.cluster.psql(f"CREATE DATABASE {db} TEMPLATE pattern OWNER db_owner")
            self.run_as("nobody", before, db=db)
            session = self.session(db, user="nobody")
            if held:
                session.run(held + ";", check=False)
            for name, (call, then) in CALLS.items():
                if name.startswith("destroy_keyset"):
                    self.cluster.psql("SELECT prism_crypt.create_keyset('tenant'); SET prism_crypt.keyset = 'tenant'; INSERT INTO zz_last VALUES (2, 'tenant''s')", db=db)
                said = self.run_as("postgres", f"SET statement_timeout = '40s'; {call}", db=db)
                done = self.cluster.psql(then, db=db) if then else "f" if "ERROR" in said else "t"
                # A rotation runs the code of the table's owner (docs/threat-model.md): only the others' tables are asked for.
                runs_it = name == "rotate_all" and "sleeps" in obstacle
                wrong = "it is not done" if done != "t" else "it ended for want of time" if not runs_it and ("57014" in said or "55P03" in said) else ""
                if obstacle == "nothing":
                    with self.subTest(control=name):
                        self.assertEqual((wrong, "ERROR" in said), ("", False), said)
                else:
                    self.judge(f"{name} beside {obstacle}", wrong, said)
            session.close()
            self.cluster.psql(f"DROP DATABASE {db} WITH (FORCE)")


if __name__ == "__main__":
    unittest.main()
