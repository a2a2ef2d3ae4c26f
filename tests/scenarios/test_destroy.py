"""The end of keys: refused while anything may still need one, and final for every session once it is done."""

import unittest

from harness import PgError, canaries
from harness.scenario import CANARY_ROWS, CANARY_TABLE, Scenario, set_key

READ = "SELECT id, decrypt_field(v) FROM t ORDER BY id"
DESTROY = "SELECT prism_crypt.destroy_key(1)"
STATE = "SELECT state FROM prism_crypt.key_status WHERE version = 1"
GONE = "key version 1 is destroyed"


class Destroy(Scenario):
    conf = {"max_prepared_transactions": "5", "autovacuum": "off"}

    def setUp(self):
        self.db = self.database(self.id().rpartition(".")[2][:60].lower())
        self.query(f"CREATE TABLE t (id int, v encrypted_text); COPY t FROM STDIN;\n{CANARY_ROWS}\\.\n")

    def query(self, sql):
        return self.cluster.psql(sql, db=self.db)

    def rotated(self):
        """Nothing is under version 1 any more."""
        self.query("SELECT prism_crypt.rotate_key(); CALL rotate_batch('t')")

    def assert_refused(self, message, detail=None):
        error = self.cluster.error(DESTROY, db=self.db)
        self.assertEqual(error.sqlstate, "55006")
        self.assertRegex(error.message, message)
        if detail:
            self.assertRegex(error.detail, detail)
        self.assertEqual(self.query(STATE), "decrypt_only")
        self.assertFalse([name for name, secret in canaries.forms() if secret in error.text.encode()])

    def test_active(self):
        for force in ("", ", 'because', true"):
            error = self.cluster.error(f"SELECT prism_crypt.destroy_key(1{force})", db=self.db)
            self.assertEqual((error.sqlstate, error.message), ("55000", 'key version 1 is the active one of its keyset'))
        self.assertEqual(self.cluster.error("SELECT prism_crypt.destroy_key(9)", db=self.db).sqlstate, "42704")

    def test_values_in_every_place(self):
        """place: how a value of version 1 gets there, how it goes."""
        value = self.query("SELECT encrypt_field('x')")
        literal = f"prism_crypt.load_envelope('{value}')"
        self.rotated()
        self.query(f"""
            CREATE SCHEMA "Odd name";
            CREATE TYPE pair AS (a int, b encrypted_text);
            CREATE DOMAIN secret AS encrypted_text;
            CREATE TABLE parted (id int, v encrypted_text) PARTITION BY LIST (id);
            CREATE TABLE part1 PARTITION OF parted FOR VALUES IN (1);
            CREATE TABLE many (l encrypted_text[], p pair, s secret, j pair[], b bytea);
            CREATE TABLE source (v encrypted_text); INSERT INTO source SELECT {literal}""")
        places = {
            "table": ("", "DELETE FROM source", r"public\.source\.v: 1"),
            "unlogged table": (f"CREATE UNLOGGED TABLE u AS SELECT {literal} AS v", "DROP TABLE u", r"public\.u\.v: 1"),
            "odd name": (f'CREATE TABLE "Odd name"."a.b" AS SELECT {literal} AS "v w"', 'DROP TABLE "Odd name"."a.b"', r'"Odd name"\."a\.b"\."v w": 1'),
            "partition": (f"INSERT INTO parted SELECT 1, {literal}", "TRUNCATE parted", r"public\.part1\.v: 1"),
            "array": (f"INSERT INTO many (l) SELECT ARRAY[NULL, {literal}, {literal}]", "TRUNCATE many", r"public\.many\.l: 2"),
            "composite": (f"INSERT INTO many (p) SELECT ROW(1, {literal})::pair", "TRUNCATE many", r"public\.many\.p: 1"),
            "domain": (f"INSERT INTO many (s) SELECT {literal}", "TRUNCATE many", r"public\.many\.s: 1"),
            "array of composites": (f"INSERT INTO many (j) SELECT ARRAY[ROW(1, {literal})::pair]", "TRUNCATE many", r"public\.many\.j: 1"),
            "bytea": (f"INSERT INTO many (b) SELECT encrypted_text_send({literal})", "TRUNCATE many", r"public\.many\.b: 1"),
            "materialized view": (
                f"INSERT INTO source SELECT {literal}; CREATE MATERIALIZED VIEW m AS SELECT v FROM source; DELETE FROM source",
                "REFRESH MATERIALIZED VIEW m", r"public\.m\.v: 1"),
            "default": (f"ALTER TABLE many ALTER s SET DEFAULT '{value}'", "ALTER TABLE many ALTER s DROP DEFAULT", r"default .*many"),
            "check": (f"ALTER TABLE many ADD CONSTRAINT c CHECK (key_version('{value}'::encrypted_text) > 0)", "ALTER TABLE many DROP CONSTRAINT c", r"check "),
            "view": (f"CREATE VIEW w AS SELECT '{value}'::encrypted_text AS v", "DROP VIEW w", r"view public\.w"),
            "function": (f"CREATE FUNCTION f() RETURNS encrypted_text LANGUAGE sql AS $$ SELECT '{value}'::encrypted_text $$", "DROP FUNCTION f()", r"function public\.f\(\)"),
            "policy": (f"CREATE POLICY p ON many USING (key_version('{value}'::encrypted_text) > 0)", "DROP POLICY p ON many", r"policy "),
        }
        for place, (appears, goes, detail) in places.items():
            with self.subTest(place):
                self.query(appears)
                self.assert_refused(r"key version 1 is in use: \d ciphertexts", detail)
                self.query(goes)
        self.query(DESTROY)
        self.assertEqual(self.query(STATE), "destroyed")
        self.assertEqual(self.query(READ) == CANARY_TABLE, True)

    def test_values_that_transactions_may_hold(self):
        other = self.session(self.db)
        stored = self.query("SELECT v FROM t LIMIT 1")
        with self.subTest("another session's temporary table"):
            other.run("CREATE TEMP TABLE mine AS SELECT * FROM t;")
            self.rotated()
            self.assert_refused("key version 1 may be in use", "mine")
            other.run("DROP TABLE mine;")
        with self.subTest("a prepared transaction"):
            other.run(f"BEGIN; INSERT INTO t SELECT 9, prism_crypt.load_envelope('{stored}'); PREPARE TRANSACTION 'tx';")
            self.assert_refused("transactions are running that may hold values of key version 1", "prepared transaction 'tx'")
            other.run("ROLLBACK PREPARED 'tx';")
        with self.subTest("an uncommitted row"):
            other.run(f"BEGIN; INSERT INTO t SELECT 9, prism_crypt.load_envelope('{stored}');")
            self.assert_refused("transactions are running that may hold values of key version 1", "process ")
            other.run("COMMIT;")
            self.assert_refused("key version 1 is in use: 1 ciphertexts", r"public\.t\.v: 1")
            other.run("DELETE FROM t WHERE id = 9;")
        with self.subTest("a transaction that only read"):
            other.run("BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT count(*) FROM t;")
            self.assert_refused("transactions are running that may hold values of key version 1", "process ")
        with self.subTest("a short one is waited for, and what it leaves is found"):
            destroyer = self.session(self.db)
            destroyer.start(DESTROY + ";")
            self.assertTrue(destroyer.waiting(1))
            other.run("ROLLBACK; BEGIN; SELECT 1; COMMIT;")
            destroyer.wait()
        self.assertEqual(self.query(STATE), "destroyed")
        self.assertEqual(self.query(READ) == CANARY_TABLE, True)

    def test_a_row_committed_while_it_waits(self):
        stored = self.query("SELECT v FROM t LIMIT 1")
        self.rotated()
        other, destroyer = self.session(self.db), self.session(self.db)
        other.run(f"BEGIN; INSERT INTO t SELECT 9, prism_crypt.load_envelope('{stored}');")
        destroyer.start(DESTROY + ";")
        self.assertTrue(destroyer.waiting(1))
        other.run("COMMIT;")
        with self.assertRaises(PgError) as caught:
            destroyer.wait()
        self.assertEqual(caught.exception.message, "key version 1 is in use: 1 ciphertexts")
        self.assertEqual(self.query(STATE), "decrypt_only")

    def test_other_sessions_hear_of_it_at_once(self):
        """With keys in their memory, in whatever transaction, with whatever plan."""
        levels = ("READ COMMITTED", "REPEATABLE READ", "SERIALIZABLE")
        idle, cursor, *inside = [self.session(self.db) for _ in range(2 + len(levels))]
        idle.run("PREPARE read AS SELECT decrypt_field(v) FROM t;")
        for _ in range(7):
            idle.run("EXECUTE read;")
        cursor.run("BEGIN; DECLARE c CURSOR FOR SELECT id, decrypt_field(v) FROM t; FETCH c;")
        for level, session in zip(levels, inside):
            self.assertEqual(session.run(f"BEGIN ISOLATION LEVEL {level}; {READ};") == CANARY_TABLE, True)
        self.query("SELECT prism_crypt.rotate_key(); INSERT INTO t SELECT 6, 'numbat'")
        self.assertEqual(self.cluster.error("SELECT prism_crypt.destroy_key(1, force => true)", db=self.db).sqlstate, "22023")
        self.query("SELECT prism_crypt.destroy_key(1, 'a test', true)")
        for session, statement in [(idle, "EXECUTE read;"), (cursor, "FETCH c;"), *((s, READ + ";") for s in inside)]:
            error = session.error(statement)
            self.assertEqual((error.sqlstate, error.message), ("55000", GONE))
        for session in inside:
            session.run("ROLLBACK;")
            self.assertEqual(session.run("SELECT id, try_decrypt_field(v) FROM t WHERE id > 4 ORDER BY id;"), "5|\n6|numbat")
        self.assertEqual(self.cluster.error("SELECT prism_crypt.enable_key(1)", db=self.db).sqlstate, "55000")
        self.assertEqual(self.query("SELECT octet_length(wrapped) FROM prism_crypt.data_key WHERE version = 1"), "0")
        self.assertEqual(self.query("SELECT event, key_version, reason FROM prism_crypt.audit_log ORDER BY id DESC LIMIT 1"), "destroy_key by force|1|a test")
        self.cluster.restart()
        self.assertEqual(self.cluster.error(READ, db=self.db).message, GONE)
        # What can't be opened is in nobody's way.
        self.query("CALL rotate_batch('t')")
        self.assertEqual(self.query("SELECT key_version(v), count(*) FROM t GROUP BY 1 ORDER BY 1"), "1|5\n2|1")

    def test_a_statement_under_way_stops(self):
        self.query("SELECT prism_crypt.rotate_key()")
        reader = self.session(self.db)
        reader.start("SELECT count(decrypt_field(v)) FROM (SELECT t.v, pg_sleep(0.01) FROM t, generate_series(1, 10000) OFFSET 0) AS x;")
        self.assertTrue(reader.waiting(0.5))
        self.query("SELECT prism_crypt.destroy_key(1, 'a test', true)")
        with self.assertRaises(PgError) as caught:
            reader.wait()
        self.assertEqual(caught.exception.message, GONE)

    def test_a_crash_does_not_bring_a_key_back(self):
        """Whatever the session thinks of synchronous_commit."""
        self.query("SELECT prism_crypt.rotate_key()")
        self.addCleanup(self.cluster.psql, "ALTER SYSTEM RESET wal_writer_delay")
        self.cluster.psql("ALTER SYSTEM SET wal_writer_delay = '10s'; SELECT pg_reload_conf(); SELECT pg_sleep(0.5)")
        session = self.session(self.db)
        session.run("SET synchronous_commit = off; SELECT prism_crypt.destroy_key(1, 'a test', true);")
        self.cluster.kill9()
        self.cluster.start()
        self.assertEqual(self.query(STATE), "destroyed")
        self.assertEqual(self.cluster.error(READ, db=self.db).message, GONE)

    def test_a_rolled_back_destruction(self):
        session = self.session(self.db)
        self.query("SELECT prism_crypt.rotate_key()")
        session.run("BEGIN; SELECT prism_crypt.destroy_key(1, 'a test', true);")
        self.assertEqual(self.query(READ) == CANARY_TABLE, True)
        self.assertEqual(session.error(READ + ";").message, GONE)
        session.run("ROLLBACK;")
        self.assertEqual(session.run(READ + ";") == CANARY_TABLE, True)
        self.assertEqual(self.query("SELECT count(*) FROM prism_crypt.audit_log WHERE event LIKE 'destroy%'"), "0")

    def test_a_tenant(self):
        self.query("SELECT prism_crypt.create_keyset('tenant_a'); SELECT prism_crypt.create_keyset('tenant_b')")
        self.query("""
            CREATE TABLE n (tenant text, v encrypted_text);
            INSERT INTO n SELECT k, encrypt_field(k || ' says ' || g, keyset => k)
            FROM unnest(ARRAY['tenant_a', 'tenant_b', 'default']) AS k, generate_series(1, 10) AS g""")
        self.query("SELECT prism_crypt.rotate_key('tenant_a'); INSERT INTO n SELECT 'tenant_a', encrypt_field('new', keyset => 'tenant_a')")
        reader = self.session(self.db)
        count = "SELECT tenant, count(try_decrypt_field(v)), count(*) FROM n GROUP BY 1 ORDER BY 1;"
        self.assertEqual(reader.run(count), "default|10|10\ntenant_a|11|11\ntenant_b|10|10")
        error = self.cluster.error("SELECT prism_crypt.destroy_keyset('tenant_a')", db=self.db)
        self.assertEqual(error.sqlstate, "55006")
        self.assertEqual(error.detail, "Key versions: 2, 4. Ciphertexts: 11.")
        self.assertEqual(self.cluster.error("SELECT prism_crypt.destroy_keyset('tenant_a', force => true)", db=self.db).sqlstate, "22023")
        sealed = reader.run("SELECT key_version(encrypt_field('x', keyset => 'tenant_a'));")
        self.assertEqual(sealed, "4")
        self.assertEqual(self.query("SELECT prism_crypt.destroy_keyset('tenant_a', 'left us', true)"), "2")
        self.assertEqual(reader.run(count), "default|10|10\ntenant_a|0|11\ntenant_b|10|10")
        self.assertEqual(reader.error("SELECT decrypt_field(v) FROM n WHERE tenant = 'tenant_a';").sqlstate, "55000")
        self.assertEqual(reader.error("SELECT encrypt_field('x', keyset => 'tenant_a');").sqlstate, "55000")
        self.assertEqual(reader.run("SELECT decrypt_field(v) FROM n WHERE tenant = 'tenant_b' LIMIT 1;"), "tenant_b says 1")
        self.query("SELECT prism_crypt.rotate_key('tenant_b'); SELECT prism_crypt.rotate_key(); CALL prism_crypt.rotate_all()")
        self.assertEqual(reader.run(count), "default|10|10\ntenant_a|0|11\ntenant_b|10|10")

    def test_dump_and_restore(self):
        old = self.query("SELECT v FROM t LIMIT 1")
        self.query("SELECT prism_crypt.create_keyset('tenant_a'); CREATE TABLE n AS SELECT encrypt_field('gone', keyset => 'tenant_a') AS v")
        self.rotated()
        self.query(DESTROY)
        self.query("SELECT prism_crypt.destroy_keyset('tenant_a', 'left us', true)")
        dump = self.cluster.run(["pg_dump"], db=self.db).stdout
        self.assertFalse([name for name, secret in canaries.forms() if secret in dump.encode()])
        status = "SELECT version, keyset, state, reason, destroyed_at FROM prism_crypt.key_status ORDER BY 1"
        before, log = self.query(status), self.query("SELECT * FROM prism_crypt.audit_log ORDER BY id")
        other = self.cluster.create_db(self.db + "_restored")
        self.cluster.psql(dump, db=other)
        self.assertEqual(self.cluster.psql(READ, db=other) == CANARY_TABLE, True)
        self.assertEqual(self.cluster.psql(status, db=other), before)
        self.assertEqual(self.cluster.psql("SELECT * FROM prism_crypt.audit_log ORDER BY id", db=other), log)
        self.assertEqual(self.cluster.error("SELECT decrypt_field(v) FROM n", db=other).sqlstate, "55000")
        self.assertEqual(self.cluster.error(f"SELECT decrypt_field(prism_crypt.load_envelope('{old}'))", db=other).message, GONE)
        # A new master key has nothing to do for destroyed keys.
        self.addCleanup(set_key, self.cluster, "main")
        set_key(self.cluster, "next", "main")
        self.cluster.reload()
        self.assertEqual(self.cluster.psql("SELECT prism_crypt.rotate_master_key()", db=other), "1")
        set_key(self.cluster, "main")
        self.cluster.reload()


if __name__ == "__main__":
    unittest.main()
