"""Logical failover slots (PostgreSQL 17 and later): a subscriber follows the promoted standby, also in the middle of a rotation."""

import re
import unittest

from harness import PgError, paths
from harness.scenario import Scenario, set_key, wait_until

ROWS = 6000
SCHEMA = """
    CREATE TABLE t (id int PRIMARY KEY, v encrypted_text('searchable') UNIQUE, n int NOT NULL DEFAULT 0);
    CREATE INDEX t_hash ON t USING hash (v);
"""
READ = "SELECT id, decrypt_field(v), n, key_version(v) FROM t ORDER BY id"
LOOKUP = "SET enable_seqscan = off; SELECT id FROM t WHERE v = 'row 77'"

# A primary that is gone, or going.
GONE = re.compile("could not (connect to|fetch failover|receive data from|send data to)|terminating|shutting down|starting up|not yet accepting|replication origin .* already active")


def failures(cluster):
    """The errors of a server that are about anything but connections."""
    return [line for line in cluster.log().splitlines() if re.search("(ERROR|FATAL|PANIC): ", line) and not GONE.search(line)]


@unittest.skipIf(paths.PG_MAJOR < 17, "failover slots came with PostgreSQL 17")
class FailoverSlots(Scenario):
    preload = True
    conf = {"wal_level": "'logical'", "max_wal_size": "'4GB'"}

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.primary = cls.cluster
        cls.db = cls.database("clinic")
        cls.primary.psql(f"{SCHEMA} INSERT INTO t SELECT n, 'row ' || n FROM generate_series(1, {ROWS}) AS n; ANALYZE t;"
                         "CREATE PUBLICATION p FOR ALL TABLES", db=cls.db)
        cls.primary.psql("SELECT pg_create_physical_replication_slot('standby')")
        cls.standby = cls.cluster.standby("failover_slots-standby", conf={
            "hot_standby_feedback": "on", "sync_replication_slots": "on", "primary_slot_name": "'standby'", "wal_receiver_status_interval": "'1s'"})
        cls.addClassCleanup(cls.standby.close)
        # The worker that synchronizes slots connects to a database, which pg_basebackup does not write down.
        with open(cls.standby.data / "postgresql.auto.conf", "a", encoding="utf-8") as conf:
            conf.write(f"primary_conninfo = 'host={cls.primary.socket} port={cls.primary.port} user=postgres dbname=postgres'\n")
        set_key(cls.standby, "main")
        # A logical walsender sends nothing that the standby does not have.
        cls.primary.configure({"synchronized_standby_slots": "'standby'"})
        cls.primary.reload()
        cls.standby.start()
        cls.subscriber = cls.new_cluster("failover_slots-subscriber", preload=True, conf={"wal_retrieve_retry_interval": "'200ms'"})
        cls.subscriber.create_db(cls.db)
        cls.subscribed(f"CREATE EXTENSION prism_crypt; {SCHEMA} CREATE SUBSCRIPTION s CONNECTION '{cls.conninfo(cls.primary)}' PUBLICATION p WITH (failover)")
        cls.subscriber.wait_for("SELECT bool_and(srsubstate = 'r') FROM pg_subscription_rel", db=cls.db)
        cls.standby.wait_for("SELECT synced AND failover AND NOT temporary AND invalidation_reason IS NULL FROM pg_replication_slots WHERE slot_name = 's'")

    @classmethod
    def conninfo(cls, cluster):
        return f"host={cluster.socket} port={cluster.port} dbname={cls.db} user=postgres"

    @classmethod
    def subscribed(cls, sql):
        return cls.subscriber.psql(sql, db=cls.db)

    def same(self, publisher):
        lsn = publisher.psql("SELECT pg_current_wal_lsn()")
        publisher.wait_for(f"SELECT confirmed_flush_lsn >= '{lsn}' FROM pg_replication_slots WHERE slot_name = 's'")
        self.assertEqual(self.subscribed(READ) == publisher.psql(READ, db=self.db), True)
        self.assertEqual(self.subscribed(LOOKUP), "77")
        self.assertEqual(failures(self.subscriber), [])
        self.assertEqual(self.subscribed("SELECT setting FROM prism_crypt.status() WHERE name = 'invalid_indexes'"), "")

    def test_promoted_in_the_middle_of_a_rotation(self):
        primary, standby = self.primary, self.standby
        self.same(primary)
        self.assertEqual(primary.psql("SELECT prism_crypt.rotate_key()", db=self.db), "2")
        session = self.session(self.db)
        # Two seconds for a batch: it stays at work.
        session.start("CALL rotate_batch('t', batch_size => 200, max_batches => 10); CALL rotate_batch('t', batch_size => 200, max_rows_per_second => 100);")
        wait_until(lambda: self.subscribed("SELECT count(*) > 2000 FROM t WHERE key_version(v) = 2") == "t", "the subscriber gets no rotated rows")
        standby.wait_for("SELECT count(*) > 2000 FROM t WHERE key_version(v) = 2", db=self.db)
        with self.subTest("the slot follows on the standby"):
            confirmed = primary.psql("SELECT confirmed_flush_lsn FROM pg_replication_slots WHERE slot_name = 's'")
            standby.wait_for(f"SELECT confirmed_flush_lsn >= '{confirmed}' FROM pg_replication_slots WHERE slot_name = 's'")
        primary.stop("immediate")
        with self.assertRaises(PgError):
            session.wait()
        standby.psql("SELECT pg_promote()")
        self.subscribed(f"ALTER SUBSCRIPTION s CONNECTION '{self.conninfo(standby)}'")
        with self.subTest("no row and no key is missing, none is there twice"):
            self.same(standby)
            self.assertEqual(self.subscribed("SELECT count(DISTINCT key_version(v)), count(*) FROM t"), f"2|{ROWS}")
        with self.subTest("the rotation is finished where it is now"):
            standby.psql("CALL rotate_batch('t')", db=self.db)
            self.same(standby)
            self.assertEqual(self.subscribed("SELECT DISTINCT key_version(v) FROM t"), "2")
        with self.subTest("keys made there follow, index keys and the end of keys too"):
            self.assertGreater(int(standby.psql("SELECT prism_crypt.rotate_key()", db=self.db)), 2)
            standby.psql("CALL prism_crypt.rotate_all(); CALL prism_crypt.rotate_index_key(); CALL prism_crypt.rotate_index_key(); "
                         "INSERT INTO t VALUES (10000, 'new'); SELECT prism_crypt.destroy_key(1)", db=self.db)
            self.same(standby)
            self.assertEqual(self.subscribed("SELECT id FROM t WHERE v = 'new'; SELECT state FROM prism_crypt.data_key WHERE version = 1"), "10000\ndestroyed")

    def test_the_worker_that_synchronizes_slots(self):
        """It runs in a database, with the library preloaded."""
        self.assertEqual("slot sync worker started" in self.standby.log(), True)
        self.assertEqual(failures(self.standby), [])


if __name__ == "__main__":
    unittest.main()
