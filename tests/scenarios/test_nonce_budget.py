"""The count of sealed values is never less than the truth, and at most about twice of it, whatever happens to sessions and server."""

import os
import signal
import unittest

from harness import PgError, canaries, paths
from harness.scenario import Scenario, kill_backend, set_key, wait_until

COUNT = "SELECT seals_reserved FROM prism_crypt.key_status WHERE state = 'active' AND keyset = 'default'"
# The largest block that a session reserves.
BLOCK = 16_384
PARALLEL = ("SET parallel_setup_cost = 0; SET parallel_tuple_cost = 0; SET min_parallel_table_scan_size = 0; "
            "SET max_parallel_workers_per_gather = 2; SET parallel_leader_participation = off;")


class NonceBudget(Scenario):
    durable = True
    conf = {"log_statement": "'none'", "log_min_duration_statement": "-1", "autovacuum": "off", "checkpoint_timeout": "'1h'"}

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        # 18 makes clusters with checksums.
        if paths.PG_MAJOR < 18:
            cls.cluster.stop()
            cls.checksums("--enable")
            cls.cluster.start()

    @classmethod
    def checksums(cls, what, cluster=None):
        cluster = cluster or cls.cluster
        cluster.server_run([paths.bindir() / "pg_checksums", what, "-D", cluster.data])

    def setUp(self):
        self.db = self.database(self.id().rpartition(".")[2][:60].lower())
        self.cluster.psql("CREATE TABLE t (id int, v encrypted_text)", db=self.db)

    def query(self, sql):
        return self.cluster.psql(sql, db=self.db)

    def count(self, cluster=None):
        return int((cluster or self.cluster).psql(COUNT, db=self.db))

    def assert_count(self, truth, sessions, cluster=None, unfinished=0):
        """unfinished: how many values may have been sealed on top, and not committed."""
        count = self.count(cluster)
        self.assertGreaterEqual(count, truth)
        truth += unfinished
        self.assertLessEqual(count, min(2 * truth, truth + sessions * BLOCK), f"{truth} values in {sessions} sessions")
        return count

    def sealed_rows(self, cluster=None):
        """Values of the table, all under one key, each of them sealed once."""
        return int((cluster or self.cluster).psql("SELECT count(v) FROM t", db=self.db))

    def test_several_sessions_at_once(self):
        sessions = [self.session(self.db) for _ in range(6)]
        truth = 0
        for rows in (1, 10, 500, 20_000):
            for session in sessions:
                session.start(f"INSERT INTO t SELECT n, n::text FROM generate_series(1, {rows}) AS n;")
            for session in sessions:
                session.wait()
            truth += rows * len(sessions)
            self.assert_count(truth, len(sessions))
        # One value at a time, and half of them rolled back, while the table is rewritten and vacuumed.
        vacuum = self.session(self.db)
        for session in sessions:
            session.start("""DO $$ BEGIN FOR n IN 1..20000 LOOP
                BEGIN INSERT INTO t VALUES (n, n::text); IF n % 2 = 0 THEN RAISE division_by_zero; END IF;
                EXCEPTION WHEN division_by_zero THEN NULL; END; END LOOP; END $$;""")
        for _ in range(20):
            vacuum.run("VACUUM FULL prism_crypt.data_key_usage; VACUUM FREEZE prism_crypt.data_key_usage; CHECKPOINT;")
        for session in sessions:
            session.wait()
        truth += 20_000 * len(sessions)
        self.assert_count(truth, len(sessions))

    def test_many_short_sessions(self):
        for n in range(20):
            self.query(f"INSERT INTO t VALUES ({n}, 'x')")
        self.assertEqual(self.count(), 20)

    def test_parallel_workers(self):
        self.query("CREATE TABLE plain AS SELECT n FROM generate_series(1, 50000) AS n; ALTER TABLE plain SET (parallel_workers = 2); ANALYZE plain")
        create = "CREATE TABLE copy AS SELECT encrypt_field(n::text) AS v FROM plain"
        self.assertIn("Workers Planned: 2", self.query(f"{PARALLEL} EXPLAIN {create}"))
        self.query(f"{PARALLEL} {create}")
        self.assert_count(50_000, 2)
        self.assertEqual(self.query("SELECT count(DISTINCT v::bytea) FROM copy"), "50000")

    def test_a_killed_backend(self):
        for attempt in range(3):
            session = self.session(self.db)
            backend = int(session.run("SELECT pg_backend_pid();"))
            session.start("DO $$ BEGIN FOR n IN 1..10000000 LOOP INSERT INTO t VALUES (n, n::text); COMMIT; END LOOP; END $$;")
            before = self.sealed_rows()
            wait_until(lambda before=before: self.sealed_rows() > before + 500, "nothing is sealed")
            kill_backend(backend)
            with self.assertRaises(PgError):
                session.wait()
            self.wait_for_recovery(self.db)
            with self.subTest(attempt):
                self.assert_count(self.sealed_rows(), attempt + 1, unfinished=attempt + 1)

    def test_a_killed_server(self):
        for attempt in range(3):
            sessions = [self.session(self.db) for _ in range(3)]
            backends = [int(session.run("SELECT pg_backend_pid();")) for session in sessions]
            before = self.sealed_rows()
            for session in sessions:
                session.start("DO $$ BEGIN FOR n IN 1..10000000 LOOP INSERT INTO t VALUES (n, n::text); COMMIT; END LOOP; END $$;")
            wait_until(lambda before=before: self.sealed_rows() > before + 500, "nothing is sealed")
            if attempt == 1:
                self.query("CHECKPOINT; VACUUM FULL prism_crypt.data_key_usage")
            self.cluster.kill9()
            for backend in backends:
                os.kill(backend, signal.SIGKILL)
            for session in sessions:
                with self.assertRaises(PgError):
                    session.wait()
            self.cluster.start()
            with self.subTest(attempt):
                # Up to three values were sealed and not committed.
                self.assertGreaterEqual(self.count(), self.sealed_rows())
                self.assertLessEqual(self.count(), 2 * (self.sealed_rows() + 3 * (attempt + 1)))

    def test_a_transaction_that_only_reads_is_counted_after_a_crash(self):
        session = self.session(self.db)
        session.run("BEGIN READ ONLY; SELECT count(encrypt_field(n::text)) FROM generate_series(1, 1000) AS n;")
        # Nobody commits and flushes: the log writer does, before long.
        flushed = "SELECT pg_current_wal_flush_lsn() = pg_current_wal_insert_lsn()"
        wait_until(lambda: self.query(flushed) == "t", "the log is not written")
        self.cluster.kill9()
        with self.assertRaises(PgError):
            session.run("COMMIT;")
        self.cluster.start()
        self.assert_count(1000, 1)

    def test_a_standby(self):
        self.query("INSERT INTO t SELECT n, n::text FROM generate_series(1, 100) AS n")
        standby = self.cluster.standby("nonce_budget-standby")
        self.addCleanup(standby.close)
        set_key(standby, self.key)
        standby.start()
        self.cluster.wait_caught_up(standby)
        before = self.assert_count(100, 1)
        self.assertEqual(self.count(standby), before)
        session = self.session(self.db, cluster=standby)
        session.run("SELECT count(encrypt_field(n::text)) FROM generate_series(1, 1000) AS n;")
        self.assertEqual(self.count(standby), before)
        self.assertEqual(session.run("SELECT ok FROM prism_crypt.status() WHERE name = 'seals';"), "t")
        # What the primary counts arrives.
        self.query("INSERT INTO t SELECT n, n::text FROM generate_series(1, 5000) AS n")
        self.cluster.wait_caught_up(standby)
        before = self.assert_count(5100, 2, standby)
        # Also at the limit a standby reads, and seals what it can't store.
        self.query("UPDATE prism_crypt.data_key_usage SET seals_reserved = seals_reserved + 4294967296")
        self.cluster.wait_caught_up(standby)
        self.assertEqual(session.run("SELECT count(encrypt_field(n::text)) FROM generate_series(1, 5000) AS n;"), "5000")
        self.assertEqual(session.run("SELECT count(decrypt_field(v)) FROM t;"), "5100")
        self.query("UPDATE prism_crypt.data_key_usage SET seals_reserved = seals_reserved - 4294967296")
        self.cluster.wait_caught_up(standby)
        # The session goes on through the promotion: what it sealed before is counted then.
        self.cluster.stop()
        session.run("BEGIN READ ONLY;")
        standby.psql("SELECT pg_promote()")
        session.run("SELECT count(encrypt_field(n::text)) FROM generate_series(1, 5000) AS n; COMMIT;")
        count = self.count(standby)
        self.assertGreaterEqual(count, before + 11_000)
        self.assertLessEqual(count, before + 11_000 + BLOCK)
        standby.stop()
        self.checksums("--check", standby)
        self.cluster.start()

    def test_a_dump_carries_the_count(self):
        self.query("INSERT INTO t SELECT n, n::text FROM generate_series(1, 1000) AS n")
        count = self.count()
        dump = self.cluster.run(["pg_dump", "-Fc"], db=self.db, text=False).stdout
        path = self.cluster.write_file("budget.dump", "")
        with open(path, "wb") as file:
            file.write(dump)
        self.cluster.create_db("restored")
        self.cluster.run(["pg_restore", "--exit-on-error", "-d", "restored", path])
        self.assertEqual(int(self.cluster.psql(COUNT, db="restored")), count)
        self.cluster.psql("INSERT INTO t VALUES (1, 'x')", db="restored")
        self.assertEqual(int(self.cluster.psql(COUNT, db="restored")), count + 1)
        # Restored by a dump that has no counts, values are sealed and not counted, and the status says so.
        self.cluster.create_db("uncounted")
        self.cluster.run(["pg_restore", "--exit-on-error", "-d", "uncounted", path])
        self.cluster.psql("TRUNCATE prism_crypt.data_key_usage; INSERT INTO t VALUES (1, 'x')", db="uncounted")
        self.assertEqual(self.cluster.psql("SELECT setting, ok FROM prism_crypt.status() WHERE name = 'seals'", db="uncounted"), "default: not counted|f")
        self.assertEqual(self.cluster.psql(COUNT, db="uncounted"), "")

    def test_the_table_is_locked(self):
        """Whoever rewrites or empties the table is waited for, and a session that gives up waiting has sealed nothing."""
        locker = self.session(self.db)
        locker.run("BEGIN; LOCK TABLE prism_crypt.data_key_usage IN ACCESS EXCLUSIVE MODE;")
        session = self.session(self.db)
        error = session.error("SET lock_timeout = '200ms'; INSERT INTO t VALUES (1, 'x');")
        self.assertEqual(error.sqlstate, "55P03")
        session.start("RESET lock_timeout; INSERT INTO t VALUES (2, 'x');")
        self.assertTrue(session.waiting())
        locker.run("COMMIT;")
        session.wait()
        self.assertEqual((self.count(), self.sealed_rows()), (1, 1))

    def test_a_warning_shows_no_row(self):
        self.query("UPDATE prism_crypt.data_key_usage SET seals_reserved = 2147483648")
        before = len(self.cluster.log())
        self.query(f"COPY t FROM STDIN;\n1\t{canaries.PLAINTEXTS['email']}\n\\.\n")
        log = self.cluster.log()[before:]
        self.assertIn("key version 1 has sealed half of the values that it may", log)
        self.assertFalse(canaries.PLAINTEXTS["email"] in log, "the log shows plaintext")

    def test_z_checksums(self):
        """Last: every page of the cluster, after all of the above."""
        self.cluster.stop()
        self.checksums("--check")
        self.cluster.start()


class NonceBudgetMinimal(Scenario):
    """With wal_level minimal nothing of a table is logged in the transaction that makes it."""

    durable = True
    conf = {"wal_level": "minimal", "max_wal_senders": "0", "autovacuum": "off"}

    def test_made_and_used_in_one_transaction(self):
        db = self.cluster.create_db("minimal")
        self.cluster.psql(f"""
            CREATE TABLE plain AS SELECT n FROM generate_series(1, 20000) AS n; ALTER TABLE plain SET (parallel_workers = 2); ANALYZE plain;
            {PARALLEL}
            BEGIN; CREATE EXTENSION prism_crypt; SELECT prism_crypt.rotate_key();
            CREATE TABLE t AS SELECT encrypt_field(n::text) AS v FROM plain; COMMIT;
            INSERT INTO t VALUES ('x');""", db=db)
        self.cluster.kill9()
        self.cluster.start()
        count = int(self.cluster.psql(COUNT, db=db))
        self.assertTrue(20_001 <= count <= 20_001 + 3 * BLOCK, count)
        self.assertEqual(self.cluster.psql("SELECT count(decrypt_field(v)) FROM t", db=db), "20001")


if __name__ == "__main__":
    unittest.main()
