"""Sessions that share a rotation, and sessions that pause, resume, cancel or interrupt it."""

import re
import signal
import time
import unittest

from harness import PgError
from harness.scenario import Scenario, wait_until

ROWS = 20000


class RotationSessions(Scenario):
    conf = {"autovacuum": "off"}

    def setUp(self):
        self.db = self.database(self.id().rpartition(".")[2][:60].lower())
        # Each write of a value is counted, some take a moment, and those from a row on wait for set_end().
        self.query(f"""
            CREATE TABLE t (id int, v encrypted_text, moved int NOT NULL DEFAULT 0, pad text DEFAULT repeat('x', 200));
            INSERT INTO t SELECT g, encrypt_field('row ' || g) FROM generate_series(1, {ROWS}) AS g;
            ANALYZE t;
            SELECT prism_crypt.rotate_key();
            CREATE TABLE ends (before int); INSERT INTO ends VALUES ({ROWS + 1});
            CREATE FUNCTION moves() RETURNS trigger LANGUAGE plpgsql AS $$
            BEGIN
              IF NEW.id % 8 = 0 THEN
                PERFORM pg_sleep(0.001);
                WHILE EXISTS (SELECT FROM ends WHERE before <= NEW.id) LOOP PERFORM pg_sleep(0.01); END LOOP;
              END IF;
              NEW.moved := OLD.moved + 1;
              RETURN NEW;
            END $$;
            CREATE TRIGGER moves BEFORE UPDATE OF v ON t FOR EACH ROW EXECUTE FUNCTION moves()""")

    def query(self, sql):
        return self.cluster.psql(sql, db=self.db)

    def progress(self, columns="id, state, rows_done"):
        return self.query(f"SELECT {columns} FROM prism_crypt.progress ORDER BY id DESC LIMIT 1")

    def set_end(self, row=ROWS + 1):
        """The row that no rotation gets past, so that none ends before a test is done with it; by default it may end."""
        self.query(f"UPDATE ends SET before = {row}")

    def rows_done(self):
        return int(self.progress("rows_done") or 0)

    def moved(self):
        return int(self.query("SELECT sum(moved) FROM t"))

    def start(self, arguments="", moves=True):
        """A session that rotates, once it is at work: (session, backend)."""
        session = self.session(self.db)
        backend = int(session.run("SELECT pg_backend_pid();"))
        before = self.moved()
        session.start(f"CALL rotate_batch('t'{arguments});")
        wait_until(lambda: str(backend) in self.progress("workers") and (not moves or self.moved() > before), "it does not work")
        return session, backend

    def wait_for_ranges(self, count):
        """So many sessions have taken a part of the table."""
        self.cluster.wait_for("SELECT count(DISTINCT worker_pid) FROM prism_crypt.job_range", str(count), db=self.db)

    def finish(self):
        """The rest without delay."""
        self.query("ALTER TABLE t DISABLE TRIGGER moves; CALL rotate_batch('t')")

    def assert_done(self, version=2, moved=1):
        """Each row was written once, and each counted."""
        self.assertEqual(self.progress("state, rows_done, workers, rows_left"), f"finished|{ROWS}|{{}}|0")
        self.assertEqual(
            self.query("SELECT count(*), count(DISTINCT id), min(key_version(v)), max(key_version(v)) FROM t"),
            f"{ROWS}|{ROWS}|{version}|{version}")
        self.assertEqual(self.query("SELECT count(*) FROM t WHERE decrypt_field(v) <> 'row ' || id"), "0")
        if moved is not None:
            self.assertEqual(self.query("SELECT DISTINCT moved FROM t"), str(moved))
        self.assertEqual(self.query("SELECT count(*) FROM prism_crypt.job_range"), "0")

    def test_sessions_share_a_table(self):
        for version, count in ((2, 2), (3, 3)):
            with self.subTest(sessions=count):
                if version == 3:
                    self.query("SELECT prism_crypt.rotate_key()")
                # None is done before the last one has come.
                self.set_end(0)
                sessions = [self.session(self.db) for _ in range(count)]
                for session in sessions:
                    session.start("CALL rotate_batch('t', 'v', 200);")
                self.wait_for_ranges(count)
                self.set_end()
                said = [session.wait() for session in sessions]
                rows = [int(re.search(r"rows re-encrypted: (\d+)", text).group(1)) for text in said]
                self.assertEqual(sum(rows), ROWS)
                self.assertTrue(all(rows), rows)
                self.assertNotIn("WARNING", "".join(said))
                self.assert_done(version, version - 1)
        self.assertEqual(self.query("SELECT count(*) FROM prism_crypt.job"), "2")

    def test_different_jobs_on_one_table(self):
        calls = ("rotate_batch('t')", "rotate_batch('t', 'v')", "rotate_batch('t', from_version => 1)", "prism_crypt.rotate_all(keyset => 'default')")
        sessions = [self.session(self.db) for _ in calls]
        for session, call in zip(sessions, calls):
            session.start(f"CALL {call};")
        for session, call in zip(sessions, calls):
            self.assertNotIn("WARNING", session.wait(), call)
        self.assertEqual(self.query("SELECT DISTINCT moved, key_version(v) FROM t"), "1|2")
        self.assertEqual(self.query("SELECT count(*), count(*) FILTER (WHERE state = 'finished'), sum(rows_done) FROM prism_crypt.progress"), f"4|4|{ROWS}")

    def test_rotate_all_in_two_sessions(self):
        self.query("""
            CREATE TABLE u AS SELECT id, v FROM t LIMIT 5000;
            CREATE TABLE p (id int, l encrypted_text[]) PARTITION BY LIST (id);
            CREATE TABLE p1 PARTITION OF p FOR VALUES IN (1);
            CREATE TABLE p2 PARTITION OF p DEFAULT;
            INSERT INTO p SELECT id % 2, ARRAY[v, NULL] FROM t LIMIT 5000""")
        sessions = [self.session(self.db) for _ in range(2)]
        for session in sessions:
            session.start("CALL prism_crypt.rotate_all();")
        for session in sessions:
            self.assertNotIn("WARNING", session.wait())
        self.assertEqual(self.query("SELECT DISTINCT moved, key_version(v) FROM t"), "1|2")
        self.assertEqual(self.query("SELECT sum(ciphertexts) FROM prism_crypt.census() WHERE key_version = 2"), str(ROWS + 10000))
        self.assertEqual(self.query("SELECT coalesce(sum(ciphertexts), 0) FROM prism_crypt.census() WHERE key_version = 1"), "0")
        self.assertEqual(self.query("SELECT sum(rows_done), count(*) FILTER (WHERE state <> 'finished') FROM prism_crypt.progress"), f"{ROWS + 10000}|0")

    def test_a_worker_dies_and_others_take_over(self):
        self.set_end(0)
        sessions = [self.start(", batch_size => 100", moves=False) for _ in range(3)]
        self.wait_for_ranges(3)
        self.set_end(ROWS * 9 // 10)
        wait_until(lambda: self.moved() > 1000, "nothing is moved")
        self.assertEqual(len(self.progress("workers").split(",")), 3)
        self.query(f"SELECT pg_terminate_backend({sessions[0][1]})")
        with self.assertRaises(PgError):
            sessions[0][0].wait()
        self.query(f"SELECT pg_cancel_backend({sessions[1][1]})")
        with self.assertRaises(PgError) as caught:
            sessions[1][0].wait()
        self.assertEqual(caught.exception.sqlstate, "57014")
        self.set_end()
        self.assertNotIn("WARNING", sessions[2][0].wait())
        self.assert_done()
        self.assertEqual(self.query("SELECT count(*) FROM prism_crypt.job"), "1")

    def test_pause_and_resume(self):
        self.set_end(ROWS // 2)
        session, _ = self.start(", batch_size => 100")
        job = self.progress("id")
        self.query(f"SELECT prism_crypt.pause_job({job})")
        # The batch under way goes on.
        self.set_end()
        session.says(f"job {job} is paused")
        rows = self.rows_done()
        other = self.session(self.db)
        other.start("CALL rotate_batch('t');")
        other.says(f"job {job} is paused")
        paused = self.query("SELECT clock_timestamp()")
        self.assertTrue(session.waiting(1) and other.waiting(0.2))
        self.assertEqual(self.progress(), f"{job}|paused|{rows}")
        self.assertTrue(0 < rows < ROWS)
        self.assertEqual(
            self.progress("percent BETWEEN 0.1 AND 99, rows_per_second > 0, eta > '0', cardinality(workers), rows_estimate, error IS NULL"),
            f"t|t|t|2|{ROWS}|t")
        # It holds no transaction open meanwhile.
        self.cluster.wait_for(f"SELECT count(*) FROM pg_stat_activity WHERE xact_start < '{paused}'", "0")
        self.query(f"SELECT prism_crypt.resume_job({job})")
        self.assertIn(f"job {job} is paused", session.wait())
        self.assertIn(f"job {job} is paused", other.wait())
        self.assert_done()
        for function in ("pause_job", "resume_job", "cancel_job"):
            self.assertEqual(self.cluster.error(f"SELECT prism_crypt.{function}({job})", db=self.db).sqlstate, "55000")
            self.assertEqual(self.cluster.error(f"SELECT prism_crypt.{function}(4711)", db=self.db).sqlstate, "42704")

    def test_cancel_job(self):
        for paused in (False, True):
            with self.subTest(paused=paused):
                self.set_end(ROWS * (2 if paused else 1) // 4)
                sessions = [self.start(", batch_size => 100", moves)[0] for moves in (True, False)]
                job = self.progress("id")
                if paused:
                    self.query(f"SELECT prism_crypt.pause_job({job})")
                self.query(f"SELECT prism_crypt.cancel_job({job})")
                # The batches under way go on.
                self.set_end()
                for session in sessions:
                    with self.assertRaises(PgError) as caught:
                        session.wait()
                    self.assertEqual((caught.exception.sqlstate, caught.exception.message), ("57014", f"job {job} was cancelled"))
                self.assertEqual(self.progress("id, state, workers"), f"{job}|cancelled|{{}}")
        # The next call is another job: what was done is not done again.
        rest = ROWS - self.moved()
        self.assertTrue(0 < rest < ROWS)
        self.query("CALL rotate_batch('t')")
        self.assertEqual(self.progress(), f"{int(job) + 1}|finished|{rest}")
        self.assertEqual(self.query("SELECT DISTINCT moved, key_version(v) FROM t"), "1|2")

    def test_interrupted_and_called_again(self):
        job = rows = None
        for number, how in enumerate(("pg_cancel_backend", "Ctrl-C", "statement_timeout", "pg_cancel_backend while it is paused"), 1):
            with self.subTest(how):
                self.set_end(number * ROWS // 5)
                if how == "statement_timeout":
                    before = self.rows_done()
                    # Long enough for a batch, on whatever machine.
                    for seconds in (1, 5, 25):
                        self.assertEqual(
                            self.cluster.error(f"SET statement_timeout = '{seconds}s'; CALL rotate_batch('t', batch_size => 50)", db=self.db).sqlstate,
                            "57014")
                        if self.rows_done() > before:
                            break
                else:
                    session, backend = self.start(", batch_size => 50")
                    if how == "Ctrl-C":
                        session._proc.send_signal(signal.SIGINT)  # pylint: disable=protected-access
                    else:
                        if "paused" in how:
                            self.query(f"SELECT prism_crypt.pause_job({job})")
                        self.query(f"SELECT pg_cancel_backend({backend})")
                    with self.assertRaises(PgError) as caught:
                        session.wait()
                    self.assertEqual(caught.exception.sqlstate, "57014")
                now = self.progress("id, rows_done, workers").split("|")
                self.assertEqual(now[2], "{}")
                if job is not None:
                    self.assertEqual(now[0], job)
                    self.assertGreater(int(now[1]), rows)
                job, rows = now[0], int(now[1])
        self.query(f"SELECT prism_crypt.resume_job({job})")
        self.finish()
        self.assertEqual(self.progress("id"), job)
        self.assert_done(moved=None)

    def test_limits(self):
        self.query("ALTER TABLE t DISABLE TRIGGER moves")
        for arguments, least in (
            (", batch_size => 500, max_batches => 8, max_rows_per_second => 2000", 1.6),
            (", batch_size => 100, max_batches => 10, pause => '200 ms'", 1.8),
        ):
            with self.subTest(arguments):
                before, began = self.rows_done(), time.monotonic()
                self.assertIn("stopped; batches", self.cluster.run_psql(f"CALL rotate_batch('t'{arguments})", db=self.db).stderr)
                seconds = time.monotonic() - began
                moved = self.rows_done() - before
                self.assertGreater(moved, 100)
                self.assertGreaterEqual(seconds, least)
                self.assertEqual(self.progress("id, state"), "1|pending")
        # As cron does: a few batches each time.
        for _ in range(200):
            self.query("CALL rotate_batch('t', batch_size => 200, max_batches => 20)")
            if self.progress("state") == "finished":
                break
        self.assert_done(moved=0)
        self.assertEqual(self.progress("id"), "1")

    def test_rows_locked_for_long(self):
        self.query("ALTER TABLE t DISABLE TRIGGER moves")
        holder = self.session(self.db)
        holder.run("BEGIN; SELECT id FROM t WHERE id % 3000 = 1 FOR UPDATE;")
        began = time.monotonic()
        said = self.cluster.run_psql("CALL rotate_batch('t')", db=self.db).stderr
        self.assertLess(time.monotonic() - began, 100)
        self.assertRegex(said, r"WARNING:  public\.t: values that stayed as they were, locked by others or kept by a trigger: 7\n")
        self.assertEqual(self.progress("state, rows_done, rows_left"), f"incomplete|{ROWS - 7}|7")
        self.assertEqual(self.query("SELECT count(*) FROM t WHERE key_version(v) = 1"), "7")
        holder.run("COMMIT;")
        self.assertNotIn("WARNING", self.cluster.run_psql("CALL rotate_batch('t')", db=self.db).stderr)
        self.assertEqual(self.progress("state, rows_done"), "finished|7")
        self.assertEqual(self.query("SELECT count(*) FROM t WHERE key_version(v) = 2 AND decrypt_field(v) = 'row ' || id"), str(ROWS))

    def test_a_table_locked_for_long(self):
        """lock_timeout is the caller's."""
        self.query("ALTER TABLE t DISABLE TRIGGER moves; CALL rotate_batch('t', max_batches => 3)")
        holder = self.session(self.db)
        holder.run("BEGIN; LOCK TABLE t IN SHARE ROW EXCLUSIVE MODE;")
        began = time.monotonic()
        error = self.cluster.error("SET lock_timeout = '500ms'; CALL rotate_batch('t')", db=self.db)
        self.assertEqual(error.sqlstate, "55P03")
        self.assertTrue(0.5 <= time.monotonic() - began < 60)
        self.assertEqual(self.progress("id, state"), "1|failed")
        # Without one, it waits as an UPDATE would.
        session = self.session(self.db)
        session.start("CALL rotate_batch('t');")
        self.assertTrue(session.waiting(1))
        holder.run("COMMIT;")
        session.wait()
        self.assert_done(moved=0)
        self.assertEqual(self.progress("id"), "1")


if __name__ == "__main__":
    unittest.main()
