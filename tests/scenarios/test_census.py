"""The census beside other sessions: their temporary tables, locks, drops and rewrites; and on a standby."""

import unittest

from harness import paths
from harness.scenario import Scenario, set_key

CENSUS = "SELECT location, key_version, ciphertexts, remark FROM prism_crypt.census();"
LEVELS = ("READ COMMITTED", "REPEATABLE READ", "SERIALIZABLE")


class Census(Scenario):
    def setUp(self):
        self.db = self.database(self.id().rpartition(".")[2][:60].lower())
        self.cluster.psql("CREATE TABLE t (id int, v encrypted_text); INSERT INTO t VALUES (1, 'quokka'), (2, 'quokka');", db=self.db)
        self.a, self.b = self.session(self.db), self.session(self.db)

    def wait_for_lock(self):
        self.cluster.wait_for("SELECT count(*) > 0 FROM pg_locks WHERE locktype = 'relation' AND NOT granted")

    def test_temporary_tables(self):
        self.a.run("CREATE TEMP TABLE mine (v encrypted_text, b bytea); INSERT INTO mine VALUES ('quokka', encrypt_bytes('1'));")
        own = self.a.run(CENSUS).splitlines()
        self.assertRegex(own[0], r"^pg_temp_\d+\.mine\.v\|1\|1\|$")
        self.assertRegex(own[1], r"^pg_temp_\d+\.mine\.b\|1\|1\|bytea$")
        others = self.b.run(CENSUS).splitlines()
        self.assertRegex(others[0], r"^pg_temp_\d+\.mine\.v\|\|\|temporary table of another session \(process \d+\): can't be read$")
        self.assertEqual(others[1:], ["public.t.v|1|2|"])

    def test_a_table_that_is_dropped_meanwhile(self):
        self.a.run("CREATE TABLE gone (v encrypted_text); INSERT INTO gone VALUES ('quokka');")
        self.a.run("BEGIN; DROP TABLE gone;")
        self.b.start(CENSUS)
        self.wait_for_lock()
        self.a.run("COMMIT;")
        self.assertEqual(self.b.wait(), "public.t.v|1|2|")

    def test_a_table_that_is_rewritten_meanwhile(self):
        for level in LEVELS:
            with self.subTest(level):
                self.b.run(f"BEGIN ISOLATION LEVEL {level}; SELECT 1 FROM pg_class LIMIT 1;")
                self.a.run("BEGIN; ALTER TABLE t ALTER id TYPE bigint USING id + 1; INSERT INTO t VALUES (0, 'quokka');")
                self.b.start(CENSUS)
                self.wait_for_lock()
                self.a.run("COMMIT;")
                self.assertIn("public.t.v|1|3|", self.b.wait().splitlines())
                self.b.run("COMMIT;")
                self.a.run("DELETE FROM t WHERE id = 0; ALTER TABLE t ALTER id TYPE int;")

    def test_a_lock_is_waited_for_no_longer_than_asked(self):
        """And never for ever; what is locked is told, and keeps nothing else from being counted."""
        self.a.run("CREATE TABLE u (v encrypted_text, b bytea); INSERT INTO u SELECT v FROM t; CREATE TABLE w (b bytea); BEGIN; LOCK TABLE t, w;")
        told = "public.t.v|||locked by another session: can't be read\npublic.u.v|1|2|\npublic.w|||bytea, locked by another session: can't be read"
        self.assertEqual(self.b.run("SET lock_timeout = '100ms';" + CENSUS), told)
        self.assertEqual(self.b.run("RESET lock_timeout; SET statement_timeout = '30s';" + CENSUS), told)
        self.assertEqual(self.b.run("SHOW lock_timeout;"), "0")
        self.a.run("COMMIT;")

    def test_what_is_not_committed_counts_for_its_own_session_only(self):
        self.a.run("BEGIN; INSERT INTO t VALUES (3, 'quokka'); DELETE FROM t WHERE id < 3;")
        self.assertEqual(self.a.run(CENSUS), "public.t.v|1|1|")
        self.assertEqual(self.b.run(CENSUS), "public.t.v|1|2|")
        self.a.run("ROLLBACK;")

    def test_more_tables_than_there_is_room_for_locks(self):
        self.a.run("SELECT format('CREATE TABLE many_%s AS SELECT v FROM t', g) FROM generate_series(1, 1000) AS g \\gexec")
        for session in (self.a, self.b):
            session.close()
        # Room for some hundred locks.
        self.addCleanup(self.cluster.restart)
        self.addCleanup(self.cluster.psql, "ALTER SYSTEM RESET ALL")
        few = {"max_connections": 20, "max_locks_per_transaction": 10, "max_worker_processes": 2, "max_wal_senders": 0}
        if paths.PG_MAJOR >= 18:
            few["autovacuum_worker_slots"] = 1
        self.cluster.psql(" ".join(f"ALTER SYSTEM SET {name} = {value};" for name, value in few.items()))
        self.cluster.restart()
        self.a, self.b = self.session(self.db), self.session(self.db)
        self.assertEqual(self.a.error("BEGIN; SELECT prism_crypt._lock_relation(oid, false) FROM pg_class WHERE relname LIKE 'many%';").sqlstate, "53200")
        self.a.run("ROLLBACK;")
        self.assertEqual(self.b.run("SELECT count(*), sum(ciphertexts) FROM prism_crypt.census() WHERE kind = 'table';"), "1001|2002")

    def test_foreign_tables(self):
        path = self.cluster.write_file("values.csv", "1,quokka\n")
        self.a.run(f"CREATE EXTENSION file_fdw; CREATE SERVER files FOREIGN DATA WRAPPER file_fdw; "
                   f"CREATE FOREIGN TABLE f (id int, v encrypted_text) SERVER files OPTIONS (filename '{path}', format 'csv');")
        self.assertEqual(self.b.run(CENSUS).splitlines(), ["public.f.v|||foreign table: count there", "public.t.v|1|2|"])

    def test_on_a_standby(self):
        self.a.run("CREATE UNLOGGED TABLE u (v encrypted_text, b bytea); INSERT INTO u VALUES ('quokka', '1'); CREATE TEMP TABLE mine (v encrypted_text);")
        standby = self.cluster.standby("census-standby")
        self.addCleanup(standby.close)
        set_key(standby, None)
        standby.start()
        self.cluster.wait_caught_up(standby)
        got = standby.psql(CENSUS, db=self.db).splitlines()
        self.assertEqual(got[1:], ["public.t.v|1|2|", "public.u.v|||unlogged table: can't be read on a standby"])
        self.assertRegex(got[0], "temporary table of another session")


if __name__ == "__main__":
    unittest.main()
