"""pg_upgrade of a publisher: its logical slots come along from 17 on, and a subscriber goes on, in the middle of a rotation."""

import unittest

import upgrading
from harness.scenario import Scenario

SCHEMA = "CREATE TABLE t (id int PRIMARY KEY, v encrypted_text('searchable') UNIQUE);"
READ = "SELECT id, decrypt_field(v), key_version(v) FROM t ORDER BY id"


class UpgradedPublisher(Scenario):
    old_major = 17
    conf = {"wal_level": "'logical'", "wal_retrieve_retry_interval": "'200ms'"}

    @classmethod
    def setUpClass(cls):
        upgrading.require(cls.old_major)
        cls.old = cls.new_cluster("pg_upgrade_slots-old", major=cls.old_major, conf=cls.conf)
        cls.db = cls.database("clinic", cluster=cls.old)
        cls.old.psql(f"{SCHEMA} INSERT INTO t SELECT n, 'row ' || n FROM generate_series(1, 3000) AS n; CREATE PUBLICATION p FOR ALL TABLES", db=cls.db)
        cls.subscriber = cls.new_cluster("pg_upgrade_slots-subscriber", conf=cls.conf)
        cls.subscriber.create_db(cls.db)
        cls.there(f"CREATE EXTENSION prism_crypt; {SCHEMA} CREATE SUBSCRIPTION s CONNECTION '{cls.conninfo(cls.old)}' PUBLICATION p")
        cls.subscriber.wait_for("SELECT bool_and(srsubstate = 'r') FROM pg_subscription_rel", db=cls.db)
        cls.cluster = cls.new_cluster("pg_upgrade_slots", start=False, initdb=upgrading.initdb_options(cls.old_major), conf=cls.conf)

    @classmethod
    def conninfo(cls, cluster):
        return f"host={cluster.socket} port={cluster.port} dbname={cls.db} user=postgres"

    @classmethod
    def there(cls, sql):
        return cls.subscriber.psql(sql, db=cls.db)

    def same(self, publisher):
        lsn = publisher.psql("SELECT pg_current_wal_lsn()")
        publisher.wait_for(f"SELECT confirmed_flush_lsn >= '{lsn}' FROM pg_replication_slots WHERE slot_name = 's'")
        self.assertEqual(self.there(READ) == publisher.psql(READ, db=self.db), True)
        self.assertEqual(self.there("SET enable_seqscan = off; SELECT id FROM t WHERE v = 'row 77'"), "77")

    def test_in_the_middle_of_a_rotation(self):
        self.old.psql("SELECT prism_crypt.rotate_key(); CALL rotate_batch('t', batch_size => 500, max_batches => 2)", db=self.db)
        self.same(self.old)
        self.there("ALTER SUBSCRIPTION s DISABLE")
        self.old.stop()
        upgrading.pg_upgrade(self.old, self.cluster)
        self.cluster.start()
        self.assertEqual(self.cluster.psql("SELECT slot_name, invalidation_reason FROM pg_replication_slots"), "s|")
        self.there(f"ALTER SUBSCRIPTION s CONNECTION '{self.conninfo(self.cluster)}'; ALTER SUBSCRIPTION s ENABLE")
        self.same(self.cluster)
        self.assertEqual(self.there("SELECT count(DISTINCT key_version(v)) FROM t"), "2")
        self.cluster.psql("CALL prism_crypt.rotate_all(); SELECT prism_crypt.rotate_key(); CALL prism_crypt.rotate_all(); CALL prism_crypt.rotate_index_key();"
                          "INSERT INTO t VALUES (9999, 'new')", db=self.db)
        self.same(self.cluster)
        self.assertEqual(self.there("SELECT DISTINCT key_version(v) FROM t; SELECT id FROM t WHERE v = 'new'"), "3\n9999")


if __name__ == "__main__":
    unittest.main()
