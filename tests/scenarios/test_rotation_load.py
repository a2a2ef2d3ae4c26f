"""A rotation among writers, also when it or the server is killed again and again, leaves what they wrote, under the new key."""

import contextlib
import random
import time
import unittest

from harness import PgError
from harness.scenario import Scenario, kill_backend, wait_until

from rotation_load import SCHEMA, VERSIONS, WRONG, Load, Seeded

ROWS = 20000


class RotationLoad(Seeded, Scenario):
    conf = {"log_statement": "'none'", "log_min_duration_statement": "-1", "autovacuum_naptime": "'1s'", "max_connections": "30"}
    preload = True

    def setUp(self):
        self.db = self.database(self.id().rpartition(".")[2][:60].lower())
        self.query(SCHEMA.format(rows=ROWS))
        self.query("CREATE TABLE tick (n int); SELECT prism_crypt.rotate_key()")

    def query(self, sql):
        return self.cluster.psql(sql, db=self.db)

    def active(self):
        return self.query("SELECT version FROM prism_crypt.key_status WHERE state = 'active'")

    def job(self):
        """(id, state, rows done) of the last job."""
        number, state, rows = (self.query("SELECT id, state, rows_done FROM prism_crypt.progress ORDER BY id DESC LIMIT 1") or "0||0").split("|")
        return int(number), state, int(rows)

    def test_a_rotation_among_writers(self):
        dice = random.Random(self.seed)
        rotating = self.session(self.db)
        with Load(self.cluster, self.db, ROWS, self.seed) as load:
            for column in ("NULL", "'v'", "'v' by index", "NULL"):
                rotating.run("SELECT prism_crypt.rotate_key();")
                if "index" in column:
                    # The walk leaves few rows, which the next call finds by an index.
                    column = "'v'"
                    self.query("CREATE INDEX ON t (key_version(v))")
                    while int(self.query(f"SELECT count(*) FROM t WHERE key_version(v) < {self.active()}")) > 800:
                        rotating.run("CALL rotate_batch('t', 'v', 500, max_batches => 1);")
                    self.assertEqual(self.job()[1], "pending")
                batch = dice.choice((50, 300, 1000))
                said = rotating.run(f"CALL rotate_batch('t', {column}, {batch}, max_rows_per_second => 12000);", timeout=120)
                self.assertNotIn("WARNING", said)
                self.assertEqual(self.job()[1], "finished")
                self.assertEqual(self.query("SELECT count(*) FROM prism_crypt.job_range"), "0")
                if column == "NULL":
                    # Writers go on, but nobody writes the old version any more.
                    self.assertEqual(self.query(VERSIONS), self.active())
                else:
                    self.assertEqual(self.query("SELECT DISTINCT key_version(v) FROM t"), self.active())
        self.assertGreater(load.transactions, 500)
        load.assert_right(self)
        self.assertEqual(self.query(VERSIONS), self.active())

    def kill(self, how, backend):
        """Ends the worker that way; the server answers again afterwards."""
        if how == "terminate":
            self.query(f"SELECT pg_terminate_backend({backend})")
        elif how == "backend":
            kill_backend(backend)
        else:
            self.cluster.stop({"immediate": "immediate", "postmaster": "kill"}[how])
            self.cluster.start()

    def assert_finished(self, job):
        """A call makes another job only where this one is over: a helper may have ended it."""
        self.assertEqual(self.query(f"SELECT state FROM prism_crypt.progress WHERE id = {job}"), "finished")

    def test_killed_again_and_again(self):
        dice = random.Random(self.seed)
        kills = ["terminate", "backend", "postmaster", "immediate"] * 4
        dice.shuffle(kills)
        # The job that goes on, and the last one that is over.
        job = rows = None
        over = 0
        helpers = []

        def has_begun():
            number, state, rows = self.job()
            return number > over and (rows > 0 or state == "finished")

        interrupted = 0
        with Load(self.cluster, self.db, ROWS, self.seed, writers=3, killed=True) as load:
            for how in kills:
                with self.subTest(how):
                    session = self.session(self.db)
                    backend = int(session.run("SELECT pg_backend_pid();"))
                    session.start(f"CALL rotate_batch('t', batch_size => {dice.choice((20, 200))}, max_rows_per_second => 3000);")
                    if dice.random() < 0.4:
                        # Another worker, which lives on if only the first one is ended.
                        helpers.append(self.session(self.db))
                        helpers[-1].start("CALL rotate_batch('t', max_rows_per_second => 1000);")
                    wait_until(has_begun, "it does not begin")
                    time.sleep(dice.random())
                    seen = self.job()
                    # Commits of batches don't wait for the disk; with this one, all before it are there.
                    self.query("INSERT INTO tick VALUES (1)")
                    self.kill(how, backend)
                    try:
                        session.wait()
                    except PgError:
                        interrupted += 1
                    self.wait_for_recovery(self.db)
                    now = self.job()
                    self.assertEqual(now[0], seen[0])
                    self.assertGreaterEqual(now[2], seen[2])
                    if job == now[0]:
                        self.assertGreaterEqual(now[2], rows)
                    elif job is not None:
                        self.assert_finished(job)
                    job, rows = now[0], now[2]
                    self.assertEqual(self.query(WRONG), "0")
                    if now[1] == "finished":
                        self.query("SELECT prism_crypt.rotate_key()")
                        job, over = None, now[0]
            self.query("CALL rotate_batch('t')")
            for helper in helpers:
                with contextlib.suppress(PgError):
                    helper.wait()
            if job is not None:
                self.assert_finished(job)
            self.assertEqual(self.query(VERSIONS), self.active())
        # It may have been over just before.
        self.assertGreater(interrupted, len(kills) // 2)
        self.assertGreater(load.transactions, 200)
        load.assert_right(self)
        self.assertEqual(self.query(VERSIONS), self.active())
        self.assertEqual(self.query("SELECT count(*) FROM prism_crypt.job_range"), "0")


if __name__ == "__main__":
    unittest.main()
