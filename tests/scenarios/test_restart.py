"""Whatever was rotated, a restarted server reads it all, and with the keys it should need only."""

import unittest

from harness.scenario import CANARY_ROWS, CANARY_TABLE, Scenario, fingerprint, set_key

READ = "SELECT id, decrypt_field(v) FROM t ORDER BY id"


class Restart(Scenario):
    def setUp(self):
        self.addCleanup(self.use, "main")
        self.use("main")
        self.db = self.database(self.id().rpartition(".")[2][:60].lower())
        self.cluster.psql(f"CREATE TABLE t (id int, v encrypted_text); COPY t FROM STDIN;\n{CANARY_ROWS}\\.\n", db=self.db)

    def use(self, *keys):
        set_key(self.cluster, *keys)
        self.cluster.reload()

    def query(self, sql):
        return self.cluster.psql(sql, db=self.db)

    def assert_reads(self, versions):
        for restart in (False, True):
            with self.subTest("restarted" if restart else "running"):
                if restart:
                    self.cluster.restart()
                self.assertEqual(self.query(READ) == CANARY_TABLE, True)
                self.assertEqual(self.query("SELECT DISTINCT key_version(v) FROM t ORDER BY 1").split(), versions)

    def test_after_rotate_key(self):
        self.query("SELECT prism_crypt.rotate_key()")
        self.query("INSERT INTO t SELECT id, encrypt_field(decrypt_field(v)) FROM t WHERE id = 1; DELETE FROM t WHERE id = 1 AND key_version(v) = 1")
        self.assert_reads(["1", "2"])
        self.assertEqual(self.query("SELECT prism_crypt.rotate_key(); SELECT key_version(encrypt_field('x'))"), "3\n3")

    def test_after_rotate_batch(self):
        self.query("SELECT prism_crypt.rotate_key(); CALL rotate_batch('t', 'v'); SELECT prism_crypt.disable_key(1)")
        self.assert_reads(["2"])
        self.assertEqual(self.query("SELECT version, state FROM prism_crypt.key_status ORDER BY 1"), "1|disabled\n2|active")

    def test_after_rotate_master_key(self):
        self.query("SELECT prism_crypt.rotate_key(); SELECT prism_crypt.create_keyset('tenant'); SELECT prism_crypt.disable_key(1)")
        self.use("next", "main")
        self.assertEqual(self.query("SELECT prism_crypt.rotate_master_key()"), "3")
        self.query("SELECT prism_crypt.enable_key(1)")
        # The old master key is not needed any more.
        self.use("next")
        self.assert_reads(["1"])
        self.assertEqual(self.query("SELECT DISTINCT master_fingerprint FROM prism_crypt.key_status"), fingerprint(self.cluster, self.db, "next"))
        self.assertEqual(self.query("SELECT key_version(encrypt_field('x')), key_version(encrypt_field('x', keyset => 'tenant'))"), "2|3")
        self.use("main")
        self.assertEqual(self.cluster.error(READ, db=self.db).message, "encryption key mismatch")

    def test_after_a_master_key_rotation_of_one_keyset(self):
        self.query("SELECT prism_crypt.create_keyset('tenant'); INSERT INTO t SELECT 100, encrypt_field('numbat', keyset => 'tenant')")
        self.use("next", "main")
        self.assertEqual(self.query("SELECT prism_crypt.rotate_master_key('tenant')"), "1")
        for keys, default, tenant in ((["next", "main"], True, True), (["main"], True, False), (["next"], False, True)):
            with self.subTest(keys):
                self.use(*keys)
                self.cluster.restart()
                for row, readable in ((1, default), (100, tenant)):
                    self.assertEqual(self.query(f"SELECT try_decrypt_field(v) IS NOT NULL FROM t WHERE id = {row}"), "t" if readable else "f")

    def test_after_rotations_of_everything_one_after_the_other(self):
        self.query("SELECT prism_crypt.rotate_key()")
        self.use("next", "main")
        self.query("SELECT prism_crypt.rotate_master_key()")
        self.cluster.restart()
        self.query("CALL rotate_batch('t', 'v')")
        self.use("other", "next")
        self.query("SELECT prism_crypt.rotate_key()")
        self.cluster.restart()
        self.query("CALL rotate_batch('t', 'v')")
        self.assertEqual(
            self.query("SELECT version, master_fingerprint FROM prism_crypt.key_status ORDER BY 1"),
            "\n".join(f"{v}|{fingerprint(self.cluster, self.db, k)}" for v, k in ((1, "next"), (2, "next"), (3, "other"))))
        self.use("other")
        # Nothing is under the keys any more that the master key before this one wraps.
        self.assert_reads(["3"])


class RestartPreloaded(Restart):
    preload = True


if __name__ == "__main__":
    unittest.main()
