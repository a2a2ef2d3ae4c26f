"""pg_createsubscriber (PostgreSQL 17 and later) makes a subscriber of a standby: with its keys it reads, seals, searches and rotates."""

import unittest

from harness import paths
from harness.scenario import Scenario, set_key

SCHEMA = """
    CREATE TABLE t (id int PRIMARY KEY, v encrypted_text('searchable') UNIQUE, plain text);
    CREATE INDEX t_hash ON t USING hash (v);
    CREATE TABLE big (id int PRIMARY KEY, v encrypted_text);
    INSERT INTO t SELECT n, 'row ' || n, 'row ' || n FROM generate_series(1, 300) AS n;
    INSERT INTO big SELECT n, 'big ' || n FROM generate_series(1, 3000) AS n;
    CREATE MATERIALIZED VIEW stored AS SELECT id, v FROM t;
"""
READ = "SELECT id, decrypt_field(v), key_version(v) FROM t ORDER BY id; SELECT id, decrypt_field(v), key_version(v) FROM big ORDER BY id"
WRONG = "SELECT count(*) FROM t WHERE decrypt_field(v) <> plain OR v <> plain"
ERRORS = "SELECT apply_error_count + sync_error_count FROM pg_stat_subscription_stats"


@unittest.skipIf(paths.PG_MAJOR < 17, "pg_createsubscriber came with PostgreSQL 17")
class CreateSubscriber(Scenario):
    conf = {"wal_level": "'logical'", "max_worker_processes": "16"}

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.db = cls.database("clinic")
        cls.publisher = cls.cluster
        cls.publisher.psql("SELECT prism_crypt.create_keyset('tenant');" + SCHEMA, db=cls.db)
        # A rotation that is over, and one that has stopped in the middle.
        cls.publisher.psql("SELECT prism_crypt.rotate_key(); CALL prism_crypt.rotate_all(); SELECT prism_crypt.rotate_key();"
                           "CALL rotate_batch('big', batch_size => 500, max_batches => 2); REFRESH MATERIALIZED VIEW stored", db=cls.db)
        cls.subscriber = cls.publisher.standby("createsubscriber-standby", conf={"wal_retrieve_retry_interval": "'200ms'"})
        cls.addClassCleanup(cls.subscriber.close)
        set_key(cls.subscriber, "main")
        cls.subscriber.start()
        cls.publisher.wait_caught_up(cls.subscriber)
        cls.subscriber.stop()
        # What is written meanwhile belongs to the subscriber as well, keys included.
        cls.publisher.psql("INSERT INTO t VALUES (301, 'row 301', 'row 301'); SELECT prism_crypt.create_keyset('meanwhile')", db=cls.db)
        cls.subscriber.server_run([
            cls.subscriber.bindir / "pg_createsubscriber", "-D", cls.subscriber.data, "-d", cls.db, "-U", "postgres", "-s", cls.subscriber.socket,
            "-p", cls.subscriber.port, "-P", f"host={cls.publisher.socket} port={cls.publisher.port} user=postgres dbname={cls.db}",
            "--subscription=s", "--publication=p", "--replication-slot=s", "--recovery-timeout=120"])
        cls.subscriber.start()

    def query(self, sql):
        return self.publisher.psql(sql, db=self.db)

    def there(self, sql):
        return self.subscriber.psql(sql, db=self.db)

    def same(self):
        lsn = self.query("SELECT pg_current_wal_lsn()")
        self.publisher.wait_for(f"SELECT confirmed_flush_lsn >= '{lsn}' FROM pg_replication_slots WHERE slot_name = 's'")
        self.assertEqual(self.there(READ) == self.query(READ), True)
        self.assertEqual((self.there(WRONG), self.there(ERRORS)), ("0", "0"))
        self.assertEqual(self.there("SET enable_seqscan = off; SELECT id FROM t WHERE v = 'row 77'"), "77")

    # The steps need each other: in the order of their names.

    def test_1_reads_and_searches(self):
        self.same()
        self.assertEqual(self.there("SELECT pg_is_in_recovery(), count(*) FROM stored"), "f|300")
        keys = "SELECT version, keyset, state, wrapped FROM prism_crypt.data_key ORDER BY 1; SELECT keyset, generation, wrapped FROM prism_crypt.index_key ORDER BY 1, 2"
        self.assertEqual(self.there(keys), self.query(keys))
        self.assertIn("meanwhile", self.there("SELECT keyset FROM prism_crypt.data_key"))

    def test_2_keys_made_afterwards_follow(self):
        self.query("SELECT prism_crypt.rotate_key(); INSERT INTO t VALUES (400, 'row 400', 'row 400'); CALL prism_crypt.rotate_all(); REFRESH MATERIALIZED VIEW stored")
        self.same()
        self.query("CALL prism_crypt.rotate_index_key(); REFRESH MATERIALIZED VIEW stored; CALL prism_crypt.rotate_index_key();"
                   "INSERT INTO t VALUES (401, 'row 401', 'row 401'); SELECT prism_crypt.create_keyset('later')")
        self.same()
        self.assertEqual(self.there("SELECT setting FROM prism_crypt.status() WHERE name = 'invalid_indexes'"), "")

    def test_3_the_end_of_a_key(self):
        """The materialized view of the subscriber is its own affair: it is made anew first."""
        self.there("REFRESH MATERIALIZED VIEW stored")
        self.query("SELECT prism_crypt.destroy_key(1)")
        self.same()
        self.assertEqual(self.there("SELECT state FROM prism_crypt.data_key WHERE version = 1"), "destroyed")
        self.assertEqual(self.there("SELECT count(decrypt_field(v)) FROM stored"), "303")

    def test_4_seals_and_jobs_of_its_own(self):
        """The publisher's jobs are no jobs of the subscriber; what it seals is under the keys of both."""
        self.there("CREATE TABLE own (id int, v encrypted_text('searchable')); INSERT INTO own SELECT n, 'own ' || n FROM generate_series(1, 50) AS n")
        self.assertEqual(self.there("SELECT count(*), count(DISTINCT key_version(v)) FROM own"), "50|1")
        self.query("SELECT prism_crypt.rotate_key(); CALL prism_crypt.rotate_all()")
        self.same()
        before = self.there("SELECT max(id) FROM prism_crypt.job")
        self.there("CALL rotate_batch('own')")
        self.assertEqual(self.there("SELECT key_version(v) = (SELECT max(version) FROM prism_crypt.data_key WHERE keyset = 'default'), count(*) FROM own GROUP BY 1"), "t|50")
        self.assertEqual(self.there(f"SELECT target, state FROM prism_crypt.progress WHERE id > {before}"), "public.own|finished")

    def test_5_takes_over(self):
        """Without the publisher: rotates by keys of its own, whose versions nobody has had."""
        last = int(self.query("SELECT max(version) FROM prism_crypt.data_key"))
        self.there("DROP SUBSCRIPTION s")
        # A sequence on a standby is some numbers ahead.
        version = int(self.there("SELECT prism_crypt.rotate_key()"))
        self.assertGreater(version, last)
        self.there("CALL prism_crypt.rotate_all(); CALL prism_crypt.rotate_index_key(); REFRESH MATERIALIZED VIEW stored; CALL prism_crypt.rotate_index_key()")
        self.assertEqual(self.there(f"SELECT DISTINCT key_version(v) FROM t; {WRONG}"), f"{version}\n0")
        self.assertEqual(self.there("SELECT location FROM prism_crypt.census() WHERE key_version < " + str(version)
                                    + " AND ciphertexts > 0 AND location NOT LIKE '%stored%'"), "")


if __name__ == "__main__":
    unittest.main()
