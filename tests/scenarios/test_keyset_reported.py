"""Clients, and the poolers before them, are told which keyset a session has."""

import unittest

from harness import canaries
from harness.libpq import Connection
from harness.scenario import Scenario

KEYSET = "prism_crypt.keyset"


class Reported(Scenario):
    def connect(self, **kw):
        conn = Connection(self.cluster, db=self.db, **kw)
        self.addCleanup(conn.close)
        return conn

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.db = cls.database("reported")
        cls.cluster.psql("SELECT prism_crypt.create_keyset('a'), prism_crypt.create_keyset('b');"
                         "CREATE FUNCTION in_b() RETURNS text LANGUAGE plpgsql SET prism_crypt.keyset = 'b' AS $$ BEGIN"
                         " RETURN current_setting('prism_crypt.keyset'); END $$; CREATE ROLE of_b LOGIN; ALTER ROLE of_b SET prism_crypt.keyset = 'b'", db=cls.db)

    def check_changes(self, conn):
        for sql, reported in (("SET prism_crypt.keyset = 'a'", "a"), ("RESET prism_crypt.keyset", "default"),
                              ("BEGIN; SET LOCAL prism_crypt.keyset = 'a'", "a"), ("SET LOCAL prism_crypt.keyset = 'b'", "b"), ("COMMIT", "default"),
                              ("BEGIN; SET prism_crypt.keyset = 'a'", "a"), ("ROLLBACK", "default"), ("BEGIN; SET prism_crypt.keyset = 'a'", "a"),
                              ("SAVEPOINT s; SET prism_crypt.keyset = 'b'", "b"), ("ROLLBACK TO s", "a"), ("COMMIT", "a"),
                              ("SELECT in_b()", "a"), ("BEGIN; SELECT set_config('prism_crypt.keyset', 'b', true)", "b"), ("SELECT 1 / 0", "a"), ("ROLLBACK", "a"),
                              ("RESET ALL", "default"), ("SET prism_crypt.keyset = 'a'", "a"), ("DISCARD ALL", "default")):
            try:
                conn.execute(sql)
            except Exception as error:
                self.assertIn("division by zero", str(error), sql)
            self.assertEqual(conn.reported(KEYSET), reported, sql)

    def assert_nothing_else(self, conn):
        """Above all no key."""
        conn.execute("SELECT set_config('prism_crypt.master_key', $1, false)", canaries.KEYS["other"])
        conn.execute("SET prism_crypt.output = 'plaintext'")
        for name in ("master_key", "master_key_file", "master_key_command", "master_key_env", "output", "enforce_seal_limit"):
            self.assertIsNone(conn.reported("prism_crypt." + name), name)


class KeysetReported(Reported):
    preload = True

    def test_from_the_beginning(self):
        for kw, reported in (({}, "default"), ({"options": "-c prism_crypt.keyset=a"}, "a"), ({"user": "of_b"}, "b")):
            with self.subTest(kw):
                self.assertEqual(self.connect(**kw).reported(KEYSET), reported)

    def test_changes(self):
        self.check_changes(self.connect())

    def test_nothing_else_is_reported(self):
        self.assert_nothing_else(self.connect())


class KeysetReportedNotPreloaded(Reported):
    def test_changes(self):
        """From when the library is loaded on."""
        conn = self.connect()
        self.assertIsNone(conn.reported(KEYSET))
        conn.execute("SET prism_crypt.keyset = 'a'")
        conn.execute("SELECT encrypt_field('x')")
        self.assertEqual(conn.reported(KEYSET), "a")
        conn.execute("RESET prism_crypt.keyset")
        self.check_changes(conn)
        self.assert_nothing_else(conn)


if __name__ == "__main__":
    unittest.main()
