"""A new index key beside indexes that are built concurrently: neither ends the other."""

import time
import unittest

from harness import PgError
from harness.scenario import Scenario

FILL = "CREATE TABLE {0} (id int PRIMARY KEY, email encrypted_text('searchable')); INSERT INTO {0} SELECT g, 'user' || g FROM generate_series(1, {1}) AS g;"
BUILD = "CREATE UNIQUE INDEX CONCURRENTLY a_email ON a (email encrypted_text_unique_ops);"
BUILDING = "SELECT count(*) FROM pg_stat_progress_create_index"
INVALID = "SELECT count(*) FROM pg_index WHERE NOT indisvalid"


class IndexKeyLocks(Scenario):
    # Deadlocks are found at once.
    conf = {"deadlock_timeout": "'500ms'"}

    def setUp(self):
        self.db = self.database(self.id().rpartition(".")[2][:60].lower())
        self.query(FILL.format("a", 500) + FILL.format("b", 500) + "CREATE INDEX b_email ON b USING hash (email);")

    def query(self, sql):
        return self.cluster.psql(sql, db=self.db)

    def opened(self, sql):
        session = self.session(self.db)
        session.run(f"BEGIN ISOLATION LEVEL REPEATABLE READ; {sql}")
        return session

    def building(self):
        """A build of an index that waits for a transaction to end: both sessions."""
        holder = self.opened("UPDATE a SET id = id WHERE id = 1;")
        builder = self.session(self.db)
        builder.start(BUILD)
        self.cluster.wait_for(BUILDING, "1", db=self.db)
        return holder, builder

    def assert_done(self):
        self.assertEqual(self.query(INVALID), "0")
        self.assertEqual(self.query("SELECT generation, retagged_at IS NOT NULL FROM prism_crypt.index_key_status WHERE state = 'active'"), "2|t")
        for table in "ab":
            self.assertEqual(self.query(f"SET enable_seqscan = off; SELECT id FROM {table} WHERE email = 'user77'"), "77")

    def test_an_index_is_being_built(self):
        holder, builder = self.building()
        rotating = self.session(self.db)
        rotating.start("CALL prism_crypt.rotate_index_key();")
        rotating.says("waiting for tables with encrypted columns: process ")
        self.assertTrue(rotating.waiting(2))
        # Nobody waits for it meanwhile.
        self.assertEqual(self.query("SET lock_timeout = '5s'; SELECT count(*) FROM b WHERE email = 'user5'; UPDATE b SET id = 1000 WHERE id = 1000;"), "1")
        holder.run("COMMIT;")
        builder.wait()
        rotating.wait()
        self.assert_done()

    def test_an_index_is_built_while_it_waits(self):
        """It waits for a query of b; then an index is built on a, where it has no lock yet or has given it back."""
        holder = self.opened("SELECT count(*) FROM b;")
        rotating = self.session(self.db)
        rotating.start("CALL prism_crypt.rotate_index_key();")
        rotating.says("waiting for tables with encrypted columns: locks of other sessions")
        builder = self.session(self.db)
        builder.start(BUILD)
        self.assertTrue(rotating.waiting(2))
        holder.run("COMMIT;")
        builder.wait()
        rotating.wait()
        self.assert_done()

    def test_both_at_once(self):
        builder, rotating = self.session(self.db), self.session(self.db)
        for round_ in range(6):
            first, second = (builder, rotating) if round_ % 2 else (rotating, builder)
            statements = {builder: BUILD if round_ == 0 else "REINDEX INDEX CONCURRENTLY a_email;", rotating: "CALL prism_crypt.rotate_index_key();"}
            first.start(statements[first])
            time.sleep(0.01 * round_)
            second.start(statements[second])
            first.wait()
            second.wait()
            self.assertEqual(self.query(INVALID), "0")
        self.assertEqual(self.query("SELECT max(generation) FROM prism_crypt.index_key_status"), "7")

    def test_who_sets_a_limit_is_told(self):
        holder, builder = self.building()
        error = self.cluster.error("SET lock_timeout = '700ms'; CALL prism_crypt.rotate_index_key()", db=self.db)
        self.assertEqual((error.sqlstate, error.message), ("55P03", "indexes are being built concurrently on tables with encrypted values"))
        self.assertIn("CREATE INDEX CONCURRENTLY on public.a", error.detail)
        with self.subTest("nor does a direct call wait for ever"):
            error = self.cluster.error("SET lock_timeout = '700ms'; SELECT prism_crypt._replace_index_key('default', NULL)", db=self.db)
            self.assertEqual(error.sqlstate, "55P03")
        holder.run("COMMIT;")
        builder.wait()
        with self.subTest("any lock"):
            holder = self.opened("SELECT count(*) FROM a;")
            began = time.monotonic()
            error = self.cluster.error("SET lock_timeout = '700ms'; CALL prism_crypt.rotate_index_key()", db=self.db)
            self.assertEqual((error.sqlstate, error.message), ("55P03", "tables with encrypted columns are in use"))
            self.assertEqual(error.detail, f"public.a: process {holder.run('SELECT pg_backend_pid();')}")
            self.assertLess(time.monotonic() - began, 30)

    def test_what_a_failed_build_leaves(self):
        """status() tells the copy that REINDEX CONCURRENTLY left from an index that is to be built."""
        self.query(BUILD)
        holder = self.opened("UPDATE a SET id = id WHERE id = 1;")
        builder = self.session(self.db)
        builder.start("SET lock_timeout = '1s'; REINDEX INDEX CONCURRENTLY a_email;")
        with self.assertRaises(PgError):
            builder.wait()
        holder.run("COMMIT;")
        todo = "SELECT setting FROM prism_crypt.status() WHERE name = 'invalid_indexes'"
        self.assertEqual(self.query(todo), "DROP INDEX public.a_email_ccnew")
        self.query("DROP INDEX a_email_ccnew")
        with self.assertRaises(PgError):
            self.query("INSERT INTO b SELECT 501, 'user9'; CREATE UNIQUE INDEX CONCURRENTLY b_ccnew ON b (email encrypted_text_unique_ops)")
        self.assertEqual(self.query(todo), "REINDEX INDEX public.b_ccnew")
        self.query(f"DELETE FROM b WHERE id = 501; {self.query(todo)}")
        self.assertEqual(self.query(todo), "")


if __name__ == "__main__":
    unittest.main()
