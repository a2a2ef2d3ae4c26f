"""What other sessions do while one looks whether anything is left, and what comes to a table while it is rotated."""

import unittest

from harness.scenario import Scenario, wait_until

ROWS = 2000


class RotationChecks(Scenario):
    conf = {"autovacuum": "off"}

    def setUp(self):
        self.db = self.database(self.id().rpartition(".")[2][:60].lower())
        self.query(f"""
            CREATE TABLE t (id int, v encrypted_text);
            INSERT INTO t SELECT g, encrypt_field('row ' || g) FROM generate_series(1, {ROWS}) AS g;
            ANALYZE t; SELECT prism_crypt.rotate_key()""")

    def query(self, sql):
        return self.cluster.psql(sql, db=self.db)

    def progress(self, columns="state"):
        return self.query(f"SELECT {columns} FROM prism_crypt.progress ORDER BY id DESC LIMIT 1")

    def other(self, script):
        session = self.session(self.db)
        session.run(script)
        return session

    def start(self, arguments=""):
        session = self.session(self.db)
        session.start(f"CALL rotate_batch('t'{arguments});")
        return session

    def test_a_row_that_a_foreign_key_holds(self):
        """Its own column is in no foreign key, but could be: PostgreSQL locks the row as if it were deleted."""
        self.query("""
            CREATE TABLE users (id int PRIMARY KEY, email encrypted_text('searchable') UNIQUE);
            INSERT INTO users SELECT g, 'user' || g FROM generate_series(1, 20) AS g;
            CREATE TABLE orders (user_id int REFERENCES users); SELECT prism_crypt.rotate_key()""")
        other = self.other("BEGIN; INSERT INTO orders VALUES (2);")
        self.query("CALL rotate_batch('users')")
        self.assertEqual(self.progress("state, rows_done, rows_left"), "incomplete|19|1")
        other.run("COMMIT;")
        self.query("CALL rotate_batch('users')")
        self.assertEqual(self.progress("state, rows_done"), "finished|1")

    def test_the_job_is_not_locked_by_a_check(self):
        """A check takes as long as reading the table does; this one waits for a lock."""
        other = self.other("BEGIN; LOCK TABLE t IN ACCESS EXCLUSIVE MODE;")
        rotating = self.start()
        self.cluster.wait_for("SELECT count(*) FROM pg_locks WHERE NOT granted AND relation = 't'::regclass", "1", db=self.db)
        self.query("SET lock_timeout = '200ms'; SELECT prism_crypt.pause_job(1)")
        self.query("SET lock_timeout = '200ms'; SELECT prism_crypt.resume_job(1)")
        waiting = self.start()
        self.cluster.wait_for("SELECT cardinality(workers) FROM prism_crypt.progress", "2", db=self.db)
        other.run("ROLLBACK;")
        rotating.wait()
        waiting.wait()
        self.assertEqual(self.progress("state, rows_done"), f"finished|{ROWS}")

    def test_a_job_that_others_take_for_pending_ends(self):
        """Whoever resumes it has looked at the sessions before a worker came."""
        self.query("CALL rotate_batch('t', batch_size => 100, max_batches => 1); SELECT prism_crypt.pause_job(1)")
        other = self.other("BEGIN; SELECT count(*) > 0 FROM pg_stat_activity;")
        rotating = self.start()
        self.cluster.wait_for("SELECT cardinality(workers) FROM prism_crypt.progress", "1", db=self.db)
        other.run("SELECT prism_crypt.resume_job(1); COMMIT;")
        rotating.wait()
        self.assertEqual(self.progress("state, rows_done"), f"finished|{ROWS}")
        # And where the table of jobs says so, whatever made it.
        self.query("SELECT prism_crypt.rotate_key()")
        rotating = self.start(", batch_size => 100, pause => '20 ms'")
        wait_until(lambda: int(self.progress("rows_done") or 0) > 0, "it does not work")
        for state in ("pending", "failed"):
            self.query(f"UPDATE prism_crypt.job SET state = '{state}' WHERE state = 'running'")
        rotating.wait()
        self.assertEqual(self.progress("state, rows_done"), f"finished|{ROWS}")

    def test_a_column_that_comes_meanwhile(self):
        """With values that are copied from an old one."""
        rotating = self.start(", batch_size => 100, pause => '20 ms'")
        wait_until(lambda: int(self.progress("rows_done") or 0) > 0, "it does not work")
        self.query(f"ALTER TABLE t ADD w encrypted_text; UPDATE t SET w = v WHERE id > {ROWS - 300}")
        rotating.wait()
        self.assertEqual(self.query("SELECT count(*) FROM t WHERE key_version(w) = 1 OR key_version(v) = 1"), "0")
        self.assertEqual(self.progress("state, rows_left"), "finished|0")

    def test_a_partition_that_comes_while_one_checks(self):
        self.query("""
            CREATE TABLE p (id int, v encrypted_text) PARTITION BY LIST (id); CREATE TABLE p1 PARTITION OF p FOR VALUES IN (1);
            CREATE TABLE p2 (id int, v encrypted_text); INSERT INTO p SELECT 1, v FROM t; INSERT INTO p2 SELECT 2, v FROM t; CALL rotate_batch('p')""")
        other = self.other("BEGIN; LOCK TABLE p1 IN ACCESS EXCLUSIVE MODE;")
        rotating = self.session(self.db)
        rotating.start("CALL rotate_batch('p');")
        self.cluster.wait_for("SELECT count(*) FROM pg_locks WHERE NOT granted AND relation = 'p1'::regclass", "1", db=self.db)
        joining = self.session(self.db)
        joining.start("ALTER TABLE p ATTACH PARTITION p2 FOR VALUES IN (2); CALL rotate_batch('p');")
        self.cluster.wait_for("SELECT count(*) FROM prism_crypt.job_part WHERE relation = 'p2'::regclass", "1", db=self.db)
        other.run("ROLLBACK;")
        rotating.wait()
        joining.wait()
        self.assertEqual(self.query("SELECT count(*) FROM p WHERE key_version(v) = 1"), "0")


if __name__ == "__main__":
    unittest.main()
