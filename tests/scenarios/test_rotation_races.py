"""Sessions that come in each other's way: rows that move while they are rotated, and jobs that many begin, end and join."""

import random
import threading
import time
import unittest

from harness import PgError
from harness.libpq import Connection
from harness.scenario import Scenario

from rotation_load import Seeded


class RotationRaces(Seeded, Scenario):
    conf = {"log_statement": "'none'", "log_min_duration_statement": "-1", "autovacuum_naptime": "'1s'"}

    def setUp(self):
        self.db = self.database(self.id().rpartition(".")[2][:60].lower())
        Connection(self.cluster, self.db).close()

    def query(self, sql):
        return self.cluster.psql(sql, db=self.db)

    def active(self):
        return self.query("SELECT version FROM prism_crypt.key_status WHERE state = 'active'")

    def job(self):
        """(id, state) of the last job."""
        return tuple(self.query("SELECT id, state FROM prism_crypt.progress ORDER BY id DESC LIMIT 1").split("|"))

    def test_rows_that_move_between_partitions(self):
        """Also to those that the rotation has left behind."""
        self.query("""
            CREATE TABLE p (id int, region int, v encrypted_text, shadow text) PARTITION BY LIST (region);
            CREATE TABLE p1 PARTITION OF p FOR VALUES IN (1);
            CREATE TABLE p2 PARTITION OF p FOR VALUES IN (2);
            CREATE TABLE p3 PARTITION OF p DEFAULT;
            INSERT INTO p SELECT g, 1 + g % 3, encrypt_field('row ' || g), 'row ' || g FROM generate_series(1, 6000) AS g;
            CREATE INDEX ON p (id);
            SELECT prism_crypt.rotate_key()""")
        stop, moves = threading.Event(), []

        def move(number, many):
            dice, connection = random.Random(f"{self.seed} {number}"), Connection(self.cluster, self.db)
            while not stop.is_set():
                row = dice.randint(1, 6000)
                try:
                    # Each has rows of its own: what comes in its way is the rotation, which nobody has to feel.
                    connection.execute(f"UPDATE p SET region = {dice.randint(1, 3)} WHERE id BETWEEN {row} AND {row + many} AND id % 3 = {number}")
                    moves.append(row)
                except PgError as error:
                    moves.append(error)
            connection.close()

        writers = [threading.Thread(target=move, args=(number, 15 + 30 * number)) for number in range(3)]
        rotating = self.session(self.db)
        rotating.start("CALL rotate_batch('p', batch_size => 100, max_rows_per_second => 1500);")
        writers[0].start()
        try:
            self.assertNotIn("WARNING", rotating.wait())
            self.assertEqual(self.job()[1], "finished")
            self.assertEqual(self.query("SELECT DISTINCT key_version(v) FROM p"), self.active())
            for writer in writers[1:]:
                writer.start()
            for _ in range(4):
                # Nor is it an error for the rotation, if it may leave rows that never stay where they are.
                rotating.run("SELECT prism_crypt.rotate_key(); CALL rotate_batch('p');")
        finally:
            stop.set()
            for writer in writers:
                if writer.ident:
                    writer.join(60)
        rotating.run("CALL rotate_batch('p');")
        self.assertEqual([m for m in moves if not isinstance(m, int)], [])
        self.assertGreater(len(moves), 50)
        self.assertEqual(self.query("SELECT tableoid::regclass, key_version(v) FROM p GROUP BY 1, 2 ORDER BY 1"), f"p1|{self.active()}\np2|{self.active()}\np3|{self.active()}")
        self.assertEqual(self.query("SELECT count(*), count(DISTINCT id), count(*) FILTER (WHERE decrypt_field(v) = shadow) FROM p"), "6000|6000|6000")

    def test_many_calls_at_once(self):
        """Sessions that join each other's jobs, while keys are rotated, and jobs paused, resumed and cancelled."""
        self.query("""
            CREATE TABLE t (id int, v encrypted_text);
            INSERT INTO t SELECT g, encrypt_field('row ' || g) FROM generate_series(1, 3000) AS g;
            CREATE TABLE u (id int, v encrypted_text) PARTITION BY LIST (id);
            CREATE TABLE u1 PARTITION OF u FOR VALUES IN (1);
            CREATE TABLE u2 PARTITION OF u DEFAULT;
            INSERT INTO u SELECT id % 2, v FROM t LIMIT 3000;
            SELECT prism_crypt.rotate_key()""")
        stop, unexpected = threading.Event(), []
        calls = ("rotate_batch('u')", "rotate_batch('u', batch_size => 100, max_batches => 5)", "prism_crypt.rotate_all()", "rotate_batch('t', 'v')")

        def work(number):
            dice, connection = random.Random(f"{self.seed} {number}"), Connection(self.cluster, self.db)
            while not stop.is_set():
                try:
                    connection.execute(f"CALL {dice.choice(calls)}")
                except PgError as error:
                    # Cancelled; rotate_all() says of such a job that its table could not be rotated.
                    if error.sqlstate != "57014" and not error.message.startswith("tables that could not be rotated"):
                        unexpected.append(error)
            unexpected.extend(text for text in connection.notices if "WARNING" in text and "was cancelled" not in text and "is paused" not in text)
            connection.close()

        workers = [threading.Thread(target=work, args=(number,)) for number in range(4)]
        for worker in workers:
            worker.start()
        dice, ends = random.Random(self.seed), time.monotonic() + 9
        while time.monotonic() < ends:
            function = dice.choice(("pause_job", "resume_job", "cancel_job", "rotate_key", "rotate_key"))
            argument = "" if function == "rotate_key" else "(SELECT max(id) FROM prism_crypt.job)"
            # Most often the job is over, or is not paused.
            self.cluster.run_psql(f"SELECT prism_crypt.{function}({argument})", db=self.db, check=False)
            time.sleep(dice.random() / 3)
        stop.set()
        while any(worker.is_alive() for worker in workers):
            self.query("SELECT prism_crypt.resume_job(id) FROM prism_crypt.progress WHERE state = 'paused'")
            time.sleep(0.1)
        self.assertEqual(unexpected, [])
        self.query("CALL prism_crypt.rotate_all()")
        self.assertEqual(self.query("SELECT DISTINCT key_version(v) FROM (TABLE t UNION ALL TABLE u) AS x"), self.active())
        self.assertEqual(self.query("SELECT count(*), count(DISTINCT decrypt_field(v)) FROM t"), "3000|3000")
        self.assertEqual(self.query("SELECT count(*) FROM prism_crypt.job_worker"), "0")


if __name__ == "__main__":
    unittest.main()
