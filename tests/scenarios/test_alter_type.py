"""ALTER TYPE away from encrypted_text in sessions that have not loaded the library yet; tests/pg_regress/sql/alter_type.sql has the rest."""

import unittest

from harness import PgError
from harness.libpq import Connection
from harness.scenario import Scenario


class WithoutPreloading(Scenario):
    """ALTER TABLE is the first that a session has to do with the extension."""

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.database("fresh")
        cls.cluster.psql("""
            CREATE EXTENSION citext;
            CREATE DOMAIN secret AS encrypted_text('email');
            CREATE TABLE t (id int, v encrypted_text, d secret, CHECK (length(v) < 99), CHECK (d <> 'bad'));
            CREATE TABLE child (more int) INHERITS (t);
            CREATE TABLE parted (v encrypted_text, id int) PARTITION BY LIST (id);
            CREATE TABLE part (id int, v encrypted_text);
            ALTER TABLE parted ATTACH PARTITION part FOR VALUES IN (1);
            INSERT INTO t VALUES (1, 'one', 'd');
            INSERT INTO child VALUES (1, 'one', 'd');
            INSERT INTO parted VALUES ('one', 1)""", db="fresh")

    def test_refused_without_using(self):
        for statement in (
            "ALTER TABLE t ALTER v TYPE text", "ALTER TABLE public.t ALTER v TYPE varchar", "ALTER TABLE t ALTER v TYPE char(9)",
            "ALTER TABLE t ALTER v TYPE citext", "ALTER TABLE t ALTER d TYPE text", "ALTER TABLE t ALTER d TYPE citext",
            "ALTER TABLE parted ALTER v TYPE text", "ALTER TABLE t ALTER id TYPE bigint, ALTER v TYPE text USING v::text, ALTER d TYPE text",
        ):
            for protocol in ("simple", "extended"):
                with self.subTest(statement, protocol=protocol):
                    conn = Connection(self.cluster, db="fresh")
                    self.addCleanup(conn.close)
                    with self.assertRaises(PgError) as caught:
                        if protocol == "simple":
                            conn.execute(statement)
                        else:
                            conn.execute(statement, binary=True)
                    self.assertEqual(caught.exception.sqlstate, "42804", caught.exception.message)
                    self.assertIn("without a USING clause", caught.exception.message)

    def test_everything_else_works(self):
        for statement in (
            "ALTER TABLE t ALTER id TYPE bigint", "ALTER TABLE t ALTER v TYPE text USING v::text", "ALTER TABLE t ALTER v TYPE text USING v",
            "ALTER TABLE t ALTER v TYPE encrypted_text('email')", "ALTER TABLE parted ALTER v TYPE citext USING v::citext",
            "ALTER TABLE t ALTER id TYPE text, ALTER v TYPE text USING upper(v)",
        ):
            with self.subTest(statement):
                got = self.cluster.psql(f"BEGIN; {statement}; SELECT upper(v::text) FROM {statement.split()[2]} ORDER BY 1; ROLLBACK", db="fresh")
                self.assertEqual(set(got.split()), {"ONE"})


if __name__ == "__main__":
    unittest.main()
