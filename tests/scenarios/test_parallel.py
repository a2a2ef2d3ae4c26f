"""Parallel workers unlock keys by themselves, whatever the source, and give what the leader would."""

import unittest

from harness import canaries
from harness.libpq import Connection
from harness.scenario import Scenario

ROWS = 20_000
PARALLEL = ("SET parallel_setup_cost = 0; SET parallel_tuple_cost = 0; SET min_parallel_table_scan_size = 0; "
            "SET max_parallel_workers_per_gather = 2; SET parallel_leader_participation = off;")


class Parallel(Scenario):
    preload = True

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.db = cls.database("parallel")
        cls.cluster.psql(f"""
            SELECT prism_crypt.create_keyset('tenant');
            CREATE TABLE t (id int, v encrypted_text, plain text);
            INSERT INTO t SELECT g, encrypt_field('value ' || g, CASE WHEN g % 5 = 0 THEN 'c' END), 'value ' || g FROM generate_series(1, {ROWS}) AS g;
            ALTER TABLE t SET (parallel_workers = 2); ANALYZE t; SELECT prism_crypt.rotate_key();""", db=cls.db)

    def connect(self, key=None, options=""):
        conn = Connection(self.cluster, db=self.db, options=options)
        self.addCleanup(conn.close)
        if not self.preload:
            conn.execute("SELECT count(*) FROM prism_crypt.status()")
        if key:
            conn.execute("SET prism_crypt.master_key_file = ''")
            conn.execute("SELECT set_config('prism_crypt.master_key', $1, false)", canaries.KEYS[key])
        conn.execute(PARALLEL)
        return conn

    def in_workers(self, conn, sql):
        """The result, after a look that workers computed it."""
        plan = "\n".join(row[0] for row in conn.execute(f"EXPLAIN (ANALYZE, VERBOSE) {sql}"))
        self.assertRegex(plan, "Workers Launched: 2")
        self.assertIn("Parallel Seq Scan", plan)
        return conn.execute(sql)

    def reads(self, conn):
        queries = {
            "open": ("SELECT count(*), sum(length(decrypt_field(v))) FROM t WHERE id % 5 > 0 AND decrypt_field(v) = plain", 4),
            "open with a context": ("SELECT count(*), sum(length(decrypt_field(v, 'c'))) FROM t WHERE id % 5 = 0 AND decrypt_field(v, 'c') = plain", 1),
            "try": ("SELECT count(try_decrypt_field(v)), 0 FROM t WHERE key_version(v) = 1", 4),
            "cast": ("SELECT count(*), 0 FROM t WHERE id % 5 > 0 AND v LIKE 'value %'", 4),
            "mask": ("SELECT count(*), 0 FROM t WHERE id % 5 > 0 AND mask_field(v) <> plain", 4),
            "seal": ("SELECT count(*), 0 FROM t WHERE id % 5 > 0 AND key_version(encrypt_field(plain)) = 3 AND decrypt_field(encrypt_field(plain)) = plain", 4),
            "seal for a keyset": ("SELECT count(*), 0 FROM t WHERE id % 5 > 0 AND key_version(encrypt_field(plain, keyset => 'tenant')) = 2", 4),
            "seal anew": ("SELECT count(*), 0 FROM t WHERE id % 5 > 0 AND key_version(reencrypt_field(v)) = 3", 4),
        }
        for name, (sql, fifths) in queries.items():
            with self.subTest(name):
                total = self.in_workers(conn, sql)[0][0]
                self.assertEqual(total, str(ROWS * fifths // 5))

    def test_a_key_file(self):
        self.reads(self.connect())

    def test_an_inline_key(self):
        self.reads(self.connect("main"))

    def test_a_command(self):
        conn = self.connect()
        conn.execute(f"SET prism_crypt.master_key_command = 'cat {self.cluster.key_file}'")
        self.reads(conn)

    def test_an_inline_key_of_the_transaction(self):
        conn = self.connect()
        conn.execute("SET prism_crypt.master_key_file = ''")
        conn.execute("BEGIN")
        conn.execute("SELECT set_config('prism_crypt.master_key', $1, true)", canaries.KEYS["main"])
        self.reads(conn)
        conn.execute("COMMIT")

    def test_the_sessions_keyset(self):
        conn = self.connect()
        conn.execute("SET prism_crypt.keyset = 'tenant'")
        self.assertEqual(self.in_workers(conn, "SELECT count(*) FROM t WHERE key_version(encrypt_field(plain)) = 2"), [[str(ROWS)]])

    def test_a_wrong_key(self):
        conn = self.connect("other")
        with self.assertRaisesRegex(Exception, "encryption key mismatch"):
            conn.execute("SELECT count(*) FROM t WHERE decrypt_field(v) = plain")

    def test_a_rotation_that_is_not_committed(self):
        conn = self.connect()
        conn.execute("BEGIN")
        version = conn.execute("SELECT prism_crypt.rotate_key()")[0][0]
        sealed = self.in_workers(conn, f"SELECT count(*) FROM t WHERE key_version(encrypt_field(plain)) = {version}")
        conn.execute("ROLLBACK")
        self.assertEqual(sealed, [[str(ROWS)]])

    def test_output_of_workers(self):
        conn = self.connect()
        conn.execute("SET prism_crypt.output = 'plaintext'")
        self.assertEqual(
            self.in_workers(conn, "SELECT count(*) FROM t WHERE id % 5 > 0 AND encrypted_text_out(v)::text::text = plain"), [[str(ROWS * 4 // 5)]])

    def test_forced(self):
        conn = self.connect("main")
        conn.execute(f"SET {'debug_parallel_query' if int(conn.execute('SHOW server_version_num')[0][0]) >= 160000 else 'force_parallel_mode'} = on")
        self.assertEqual(conn.execute("SELECT decrypt_field(encrypt_field('x')), decrypt_field(v) FROM t WHERE id = 1"), [["x", "value 1"]])
        self.assertEqual(conn.execute("SELECT key_version('literal'::encrypted_text)"), [["3"]])

    def test_no_worker_shows_the_key(self):
        log = self.cluster.log()
        self.assertFalse(canaries.KEYS["main"] in log, "the log shows the key")


class ParallelNotPreloaded(Parallel):
    preload = False


if __name__ == "__main__":
    unittest.main()
