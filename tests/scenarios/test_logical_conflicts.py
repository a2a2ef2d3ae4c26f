"""Conflicts of logical replication, which PostgreSQL 18 logs with the rows: they show no plaintext, also where output is plaintext for everybody."""

import re
import unittest

from harness import canaries, paths
from harness.scenario import Scenario

TABLES = """
    CREATE TABLE t (id int PRIMARY KEY, v encrypted_text('searchable') UNIQUE, l encrypted_text[]);
    CREATE TABLE f (id int, v encrypted_text, n int);
    ALTER TABLE f REPLICA IDENTITY FULL;
"""
EMAIL, NAME = canaries.PLAINTEXTS["email"], canaries.PLAINTEXTS["name"]
ROWS = f"COPY s FROM STDIN;\n1\t{EMAIL}\n2\t{NAME}\n\\.\n"


@unittest.skipIf(paths.PG_MAJOR < 18, "conflicts are logged since PostgreSQL 18")
class LogicalConflicts(Scenario):
    conf = {"wal_level": "'logical'", "track_commit_timestamp": "on"}
    output = "plaintext"

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.other = cls.new_cluster(f"{cls.__name__.lower()}-subscriber", preload=cls.preload,
                                    conf={**cls.conf, "prism_crypt.output": f"'{cls.output}'", "wal_retrieve_retry_interval": "'200ms'"})
        cls.db = cls.database("clinic")
        cls.cluster.psql(f"{TABLES} CREATE TEMP TABLE s (id int, v text); {ROWS} INSERT INTO t SELECT id, v, ARRAY[v]::encrypted_text[] FROM s;"
                         "INSERT INTO f SELECT id, v, 1 FROM s; CREATE PUBLICATION p FOR ALL TABLES", db=cls.db)
        cls.other.create_db(cls.db)
        cls.there(f"CREATE EXTENSION prism_crypt; {TABLES} CREATE SUBSCRIPTION s CONNECTION "
                  f"'host={cls.cluster.socket} port={cls.cluster.port} dbname={cls.db} user=postgres' PUBLICATION p")
        cls.other.wait_for("SELECT bool_and(srsubstate = 'r') FROM pg_subscription_rel", db=cls.db)

    @classmethod
    def there(cls, sql):
        return cls.other.psql(sql, db=cls.db)

    def query(self, sql):
        return self.cluster.psql(sql, db=self.db)

    def conflicts(self, kind, before, cause, after=""):
        """What is said of a conflict of this kind, that the first statement prepares at the subscriber, and the second causes at the publisher."""
        start = len(self.other.log())
        self.there(before)
        self.query(cause)
        self.other.wait_for(f"SELECT confl_{kind} > 0 FROM pg_stat_subscription_stats", db=self.db)
        if after:
            self.there(after)
        lsn = self.query("SELECT pg_current_wal_lsn()")
        self.cluster.wait_for(f"SELECT confirmed_flush_lsn >= '{lsn}' FROM pg_replication_slots WHERE slot_name = 's'")
        log = self.other.log()[start:]
        self.assertEqual(f"conflict={kind}" in log, True)
        self.assertEqual([name for name, secret in canaries.forms() if secret in log.encode()], [], "shown in the log")
        # The numbers of rows are told, and so is a ciphertext, or that it is withheld.
        self.assertRegex("".join(re.findall(r"DETAIL: .*\n(?:\t.*\n)*", log)), r"prism:v\d|withheld by prism_crypt|withheld")
        return log

    def test_a_row_that_is_there(self):
        self.conflicts("insert_exists", "INSERT INTO t SELECT 10, 'there', ARRAY[v] FROM t WHERE id = 1",
                       "INSERT INTO t SELECT 10, v::text || ' again', ARRAY[v] FROM t WHERE id = 1", "DELETE FROM t WHERE id = 10")

    def test_a_row_that_is_there_twice(self):
        self.conflicts("multiple_unique_conflicts", "INSERT INTO t SELECT 20, v::text || ' twice', NULL FROM t WHERE id = 1; INSERT INTO t VALUES (21, 'x')",
                       "INSERT INTO t SELECT 20, v::text || ' twice', NULL FROM t WHERE id = 1", "DELETE FROM t WHERE id IN (20, 21)")

    def test_rows_that_are_missing(self):
        self.query("INSERT INTO t SELECT 30, v::text || ' missing', NULL FROM t WHERE id = 1; INSERT INTO f SELECT 30, v, 2 FROM f WHERE id = 2")
        self.other.wait_for("SELECT count(*) = 1 FROM f WHERE id = 30", db=self.db)
        self.conflicts("update_missing", "DELETE FROM t WHERE id = 30", "UPDATE t SET v = v::text || ' and changed' WHERE id = 30")
        self.conflicts("delete_missing", "DELETE FROM f WHERE id = 30", "DELETE FROM f WHERE id = 30")

    def test_a_row_that_somebody_changed(self):
        self.query("INSERT INTO t SELECT 40, v::text || ' changed', NULL FROM t WHERE id = 1")
        self.other.wait_for("SELECT count(*) = 1 FROM t WHERE id = 40", db=self.db)
        self.conflicts("update_origin_differs", "UPDATE t SET l = ARRAY[v] WHERE id = 40", "UPDATE t SET v = v::text || ' by both' WHERE id = 40")
        self.conflicts("delete_origin_differs", "UPDATE t SET l = NULL WHERE id = 40", "DELETE FROM t WHERE id = 40")


class LogicalConflictsPreloaded(LogicalConflicts):
    preload = True


if __name__ == "__main__":
    unittest.main()
