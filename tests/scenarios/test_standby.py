"""A streaming standby reads with a key setting of its own and follows the primary's key administration."""

import unittest

from harness.scenario import CANARY_ROWS, CANARY_TABLE, Scenario, set_key

READ = "SELECT id, decrypt_field(v) FROM t ORDER BY id;"
SEALS = "SELECT key_version(encrypt_field('x'));"


class Standby(Scenario):
    # What VACUUM takes away, a snapshot of the standby would hold up.
    conf = {"autovacuum": "off"}

    def start(self):
        self.db = self.database("main")
        self.cluster.psql(f"CREATE TABLE t (id int, v encrypted_text); COPY t FROM STDIN;\n{CANARY_ROWS}\\.\n", db=self.db)
        standby = self.cluster.standby(f"{type(self).__name__.lower()}-standby")
        self.addCleanup(standby.close)
        set_key(standby, None)
        standby.start()
        self.cluster.wait_caught_up(standby)
        return standby

    def on_primary(self, standby, sql):
        got = self.cluster.psql(sql, db=self.db)
        self.cluster.wait_caught_up(standby)
        return got

    def test_from_reading_to_promotion(self):
        standby = self.start()
        with self.subTest("without a key"):
            self.assertEqual(standby.error(READ, db=self.db).message, "no master key is set")
            self.assertEqual(standby.psql("SELECT count(*), min(key_version(v)) FROM t", db=self.db), "5|1")
        with self.subTest("with another key"):
            set_key(standby, "other")
            standby.reload()
            self.assertEqual(standby.error(READ, db=self.db).message, "encryption key mismatch")
        set_key(standby, "next", "main")
        standby.reload()
        session = self.session(self.db, cluster=standby)
        reader = self.session(self.db, cluster=standby)
        with self.subTest("reads, by whatever way"):
            self.assertEqual(session.run(READ) == CANARY_TABLE, True)
            self.assertEqual(session.run("SET prism_crypt.output = 'plaintext'; SELECT * FROM t ORDER BY id; RESET prism_crypt.output;") == CANARY_TABLE, True)
            self.assertEqual(session.run("SELECT count(*) FROM t WHERE v LIKE '%@%' AND mask_field(v) <> v::text;"), "1")
        with self.subTest("seals what is not stored"):
            self.assertEqual(session.run(SEALS), "1")
            self.assertEqual(session.run("SELECT decrypt_field(encrypt_field('x', 'c'), 'c'), decrypt_field(reencrypt_field(v)) = decrypt_field(v) FROM t LIMIT 1;"), "x|t")
            self.assertEqual(session.run("SELECT decrypt_field('literal'::encrypted_text);"), "literal")
        with self.subTest("status"):
            self.assertEqual(session.run("SELECT ok FROM prism_crypt.status() WHERE name = 'enabled';"), "t")
        with self.subTest("cannot administer"):
            for statement in ("SELECT prism_crypt.rotate_key()", "SELECT prism_crypt.rotate_master_key()", "SELECT prism_crypt.disable_key(1)"):
                self.assertEqual(standby.error(statement, db=self.db).sqlstate, "25006", statement)
        reader.run("BEGIN ISOLATION LEVEL REPEATABLE READ;" + READ)
        with self.subTest("a rotation reaches open sessions"):
            self.on_primary(standby, "SELECT prism_crypt.rotate_key()")
            self.assertEqual(session.run(SEALS), "2")
            self.assertEqual(reader.run(SEALS), "2")
        with self.subTest("rotated values"):
            self.assertEqual(standby.error("CALL rotate_batch('t', 'v')", db=self.db).sqlstate, "25006")
            self.on_primary(standby, "CALL rotate_batch('t', 'v')")
            self.assertEqual(session.run(READ) == CANARY_TABLE, True)
            self.assertEqual(session.run("SELECT DISTINCT key_version(v) FROM t;"), "2")
        with self.subTest("a disabled version"):
            self.assertEqual(reader.run(READ) == CANARY_TABLE, True)
            self.on_primary(standby, "SELECT prism_crypt.disable_key(1)")
            self.assertEqual(reader.error(READ).message, "key version 1 is disabled")
            reader.run("ROLLBACK;")
            self.assertEqual(reader.run(READ) == CANARY_TABLE, True)
            self.on_primary(standby, "SELECT prism_crypt.enable_key(1)")
        with self.subTest("a rolled-back rotation changes nothing"):
            self.on_primary(standby, "BEGIN; SELECT prism_crypt.rotate_key(); ROLLBACK; INSERT INTO t SELECT 6, 'numbat'")
            self.assertEqual(session.run(SEALS), "2")
        with self.subTest("a new master key"):
            set_key(self.cluster, "next", "main")
            self.cluster.reload()
            self.assertEqual(self.on_primary(standby, "SELECT prism_crypt.rotate_master_key()"), "2")
            self.assertEqual(session.run("SELECT decrypt_field(v) FROM t WHERE id = 6;"), "numbat")
            set_key(standby, "next")
            standby.reload()
            self.assertEqual(session.run("SELECT decrypt_field(v) FROM t WHERE id = 6;"), "numbat")
        with self.subTest("promotion"):
            self.cluster.stop()
            standby.psql("SELECT pg_promote()")
            version = int(standby.psql("SELECT prism_crypt.rotate_key()", db=self.db))
            # 3 was given to the rotation that was rolled back; the sequence may skip some on top.
            self.assertGreater(version, 3)
            self.assertEqual(session.run(SEALS), str(version))
            standby.psql("INSERT INTO t SELECT 7, 'wombat'; CALL rotate_batch('t', 'v')", db=self.db)
            self.assertEqual(standby.psql("SELECT DISTINCT key_version(v) FROM t", db=self.db), str(version))
            self.assertEqual(session.run(READ) == f"{CANARY_TABLE}\n6|numbat\n7|wombat", True)


class StandbyPreloaded(Standby):
    preload = True


if __name__ == "__main__":
    unittest.main()
