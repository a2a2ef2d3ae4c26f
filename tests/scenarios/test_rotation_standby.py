"""A rotation as a standby sees it: it can be read meanwhile, waited for, and finished there after promotion."""

import unittest

from harness import PgError
from harness.scenario import Scenario, set_key, wait_until

ROWS = 20000
WRONG = "SELECT count(*) FILTER (WHERE decrypt_field(v) = shadow AND decrypt_field(l[1]) = shadow) = count(*) AND count(*) = {rows} FROM t"


class RotationStandby(Scenario):
    # WAL that is not written yet is behind nowhere: with few buffers it is soon written.
    conf = {"autovacuum": "off", "max_wal_size": "'4GB'", "wal_buffers": "'128kB'"}

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.primary = cls.cluster
        cls.standby = cls.new_standby("rotation-standby")

    @classmethod
    def new_standby(cls, name):
        standby = cls.cluster.standby(name, conf={"hot_standby_feedback": "on", "wal_receiver_status_interval": "'1s'"})
        cls.addClassCleanup(standby.close)
        set_key(standby, "main")
        return standby.start()

    def setUp(self):
        self.db = self.database(self.id().rpartition(".")[2][:60].lower())
        self.query(f"""
            CREATE TABLE t (id int PRIMARY KEY, v encrypted_text, l encrypted_text[], shadow text);
            INSERT INTO t SELECT g, encrypt_field('row ' || g), ARRAY[encrypt_field('row ' || g)], 'row ' || g FROM generate_series(1, {ROWS}) AS g;
            ANALYZE t;
            SELECT prism_crypt.rotate_key()""")
        self.cluster.wait_caught_up(self.standby)

    def query(self, sql):
        return self.cluster.psql(sql, db=self.db)

    def on_standby(self, sql):
        return self.standby.psql(sql, db=self.db)

    def right(self, rows=ROWS):
        return WRONG.format(rows=rows)

    def job(self, cluster):
        """(id, state, rows done) of the last job."""
        number, state, rows = (cluster.psql("SELECT id, state, rows_done FROM prism_crypt.progress ORDER BY id DESC LIMIT 1", db=self.db) or "0||0").split("|")
        return int(number), state, int(rows)

    def start(self, arguments):
        session = self.session(self.db)
        session.backend = session.run("SELECT pg_backend_pid();")
        session.start(f"CALL rotate_batch('t', batch_size => 200, {arguments});")
        return session

    def start_and_stay(self, standby):
        """A rotation that has moved some 2,000 rows, as the standby has heard, and, at two seconds a batch, stays at work."""
        self.query("CALL rotate_batch('t', batch_size => 200, max_batches => 10)")
        before = self.job(self.cluster)[2]
        session = self.start("max_rows_per_second => 100")
        wait_until(lambda: self.job(standby)[2] > before, "the standby hears nothing of it")
        return session

    def test_promoted_in_mid_rotation(self):
        promoted = self.new_standby("rotation-promoted")
        self.addCleanup(promoted.close)
        on_promoted = lambda sql: promoted.psql(sql, db=self.db)  # noqa: E731
        self.addCleanup(self.cluster.start)
        session = self.start_and_stay(promoted)
        self.assertEqual(on_promoted("SELECT count(DISTINCT key_version(v)) FROM t"), "2")
        job, _, rows = self.job(promoted)
        self.cluster.stop("immediate")
        with self.assertRaises(PgError):
            session.wait()
        promoted.psql("SELECT pg_promote()")
        now = self.job(promoted)
        self.assertEqual(now[:2], (job, "interrupted"))
        self.assertGreaterEqual(now[2], rows)
        self.assertLess(now[2], ROWS)
        self.assertEqual(on_promoted(self.right()), "t")
        on_promoted("CALL rotate_batch('t')")
        self.assertEqual(self.job(promoted)[:2], (job, "finished"))
        self.assertEqual(on_promoted("SELECT DISTINCT key_version(v), key_version(l[1]) FROM t"), "2|2")
        self.assertEqual(on_promoted(self.right()), "t")
        self.assertEqual(on_promoted("SELECT coalesce(sum(ciphertexts), 0) FROM prism_crypt.census() WHERE key_version = 1"), "0")
        # And the life of keys goes on there.
        on_promoted("SELECT prism_crypt.destroy_key(1)")
        on_promoted("SELECT prism_crypt.rotate_key(); CALL prism_crypt.rotate_all()")
        self.assertEqual(on_promoted(self.right()), "t")

    def test_reading_meanwhile(self):
        reader, snapshot = self.session(self.db, cluster=self.standby), self.session(self.db, cluster=self.standby)
        self.assertEqual(snapshot.run(f"BEGIN ISOLATION LEVEL REPEATABLE READ; {self.right()};"), "t")
        session = self.start_and_stay(self.standby)
        self.assertEqual(reader.run(self.right() + ";"), "t")
        self.assertEqual(reader.run("SELECT count(DISTINCT key_version(v)) FROM t;"), "2")
        # Nor does the standby say that nobody works on it.
        self.assertEqual((self.job(self.primary)[1], self.job(self.standby)[1]), ("running", "running"))
        self.query(f"SELECT pg_cancel_backend({session.backend})")
        with self.assertRaises(PgError):
            session.wait()
        # Now in haste, and read as often as can be.
        session = self.start("max_rows_per_second => 8000")
        while session.waiting(0.02):
            self.assertEqual(reader.run(self.right() + ";"), "t")
            self.assertIn(self.job(self.standby)[1], ("running", "finished"))
        session.wait()
        self.cluster.wait_caught_up(self.standby)
        # What was there when it began is still there to be read.
        self.assertEqual(snapshot.run(f"SELECT DISTINCT key_version(v) FROM t; {self.right()}; COMMIT; {self.right()}; SELECT DISTINCT key_version(v) FROM t;"), "1\nt\nt\n2")
        self.assertEqual(self.job(self.standby), self.job(self.primary))

    def test_waits_for_the_standby(self):
        self.on_standby("SELECT pg_wal_replay_pause()")
        self.standby.wait_for("SELECT pg_get_wal_replay_pause_state()", "paused")
        session = self.start("max_replica_lag => 200000")
        session.says("waits for a standby that is more than 200000 bytes behind")
        job, state, rows = self.job(self.primary)
        self.assertEqual(state, "running")
        # 200,000 bytes are about 500 of these rows.
        self.assertLess(rows, 4000)
        self.assertTrue(session.waiting(1))
        self.assertEqual(self.job(self.primary)[2], rows)
        with self.subTest("it can be cancelled meanwhile"):
            self.query(f"SELECT prism_crypt.cancel_job({job})")
            with self.assertRaises(PgError) as caught:
                session.wait()
            self.assertEqual(caught.exception.sqlstate, "57014")
        with self.subTest("it goes on afterwards"):
            session = self.start("max_replica_lag => 2000000")
            session.says("waits for a standby that is more than 2000000 bytes behind")
            self.assertLess(self.job(self.primary)[2], ROWS - rows)
            self.on_standby("SELECT pg_wal_replay_resume()")
            session.wait()
            self.assertEqual(self.job(self.primary)[1], "finished")
        self.cluster.wait_caught_up(self.standby)
        self.assertEqual(self.on_standby(self.right()), "t")
        with self.subTest("no standby, nothing to wait for"):
            self.standby.stop()
            self.addCleanup(self.standby.start)
            self.query("SELECT prism_crypt.rotate_key(); CALL rotate_batch('t', max_replica_lag => 0)")

    def test_a_key_destroyed_on_the_primary(self):
        reader = self.session(self.db, cluster=self.standby)
        self.assertEqual(reader.run(f"BEGIN ISOLATION LEVEL REPEATABLE READ; {self.right()};"), "t")
        self.query("SELECT prism_crypt.destroy_key(1, 'a test', true)")
        self.cluster.wait_caught_up(self.standby)
        error = reader.error(self.right() + ";")
        self.assertEqual((error.sqlstate, error.message), ("55000", "key version 1 is destroyed"))

    def test_refused_on_the_standby(self):
        self.query("CALL rotate_batch('t', max_batches => 1)")
        self.cluster.wait_caught_up(self.standby)
        for call in ("CALL rotate_batch('t')", "CALL rotate_batch('t', 'v')", "CALL prism_crypt.rotate_all()"):
            error = self.standby.error(call, db=self.db)
            self.assertEqual((error.sqlstate, error.message), ("25006", "a standby can't rotate"), call)
            self.assertEqual(error.hint, "Rotate on the primary; the standby follows.")
        for call in ("pause_job(1)", "cancel_job(1)", "destroy_key(1)", "destroy_keyset('default', 'x', true)", "emergency_rotation('x')",
                     "set_rotation_interval('default', '1 day')"):
            self.assertEqual(self.standby.error(f"SELECT prism_crypt.{call}", db=self.db).sqlstate, "25006", call)
        self.assertEqual(self.on_standby("SELECT id, state, workers FROM prism_crypt.progress"), "1|pending|{}")
        self.assertEqual(self.on_standby("SELECT sum(ciphertexts) FROM prism_crypt.census('t')"), str(2 * ROWS))
        self.assertEqual(self.on_standby("SELECT count(*) > 0 FROM prism_crypt.rotation_due()"), "t")


if __name__ == "__main__":
    unittest.main()
