"""A migration as logical replication sends it, and one of a subscriber's own copy: both sides have the same values."""

import unittest

from harness.scenario import wait_until

from migration_load import THERE, WRONG, Migrated
from migration_state import assert_whole, last

TABLE = "CREATE TABLE t (id int PRIMARY KEY, v text, n int NOT NULL DEFAULT 0)"
SHADOW = "CREATE TABLE shadow (id int PRIMARY KEY, v text, n int NOT NULL DEFAULT 0)"
# For the owner on either side.
VALUES = "SELECT id, v::text, n FROM t ORDER BY id"
BACK, FINISH = "CALL prism_crypt.rollback_migration({})", "CALL prism_crypt.finish_migration({})"


class MigrationLogical(Migrated):
    conf = {**Migrated.conf, "wal_level": "'logical'", "wal_retrieve_retry_interval": "'200ms'"}

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.other = cls.new_cluster("migration-subscriber", conf=cls.conf, preload=True)

    def setUp(self):
        super().setUp()
        # A column list is not used: it would have to name the twin, too.
        self.query("CREATE PUBLICATION p FOR TABLE t, shadow")
        self.other.create_db(self.db)
        self.on_subscriber(f"CREATE EXTENSION prism_crypt; {TABLE}; {SHADOW}")
        self.on_subscriber(
            f"CREATE SUBSCRIPTION s CONNECTION 'host={self.cluster.socket} port={self.cluster.port} dbname={self.db} user=postgres' "
            f"PUBLICATION p WITH (slot_name = '{self.db}')")
        self.addCleanup(self.on_subscriber, "DROP SUBSCRIPTION s")
        self.other.wait_for("SELECT bool_and(srsubstate = 'r') FROM pg_subscription_rel", db=self.db, timeout=60)
        self.copy_keys()
        self.twin, self.kept = self.query(
            "SELECT prism_crypt._side_name('prism_crypt_new_', 'v'), prism_crypt._side_name('prism_crypt_old_', 'v')").split("|")

    def on_subscriber(self, sql):
        return self.other.psql(sql, db=self.db)

    def copy_keys(self):
        dump = self.cluster.run(["pg_dump", "--data-only", "--table=prism_crypt.keyset", "--table=prism_crypt.data_key", "--table=prism_crypt.index_key"], db=self.db).stdout
        self.on_subscriber(f"BEGIN; TRUNCATE prism_crypt.index_key, prism_crypt.data_key, prism_crypt.keyset; {dump}; COMMIT")

    def caught_up(self):
        lsn = self.query("SELECT pg_current_wal_lsn()")
        self.cluster.wait_for(f"SELECT confirmed_flush_lsn >= '{lsn}' FROM pg_replication_slots WHERE slot_name = '{self.db}'", timeout=60)

    def assert_same(self, more=""):
        self.caught_up()
        self.assertEqual(self.query(WRONG), "0")
        self.assertEqual(self.on_subscriber(WRONG), "0")
        self.assertEqual(self.on_subscriber(VALUES) == self.query(VALUES), True)
        if more:
            self.assertEqual(self.on_subscriber(more), self.query(more))

    def stops(self, message):
        """The subscriber says what it lacks, again and again."""
        before = len(self.other.log())
        wait_until(lambda: message in self.other.log()[before:], f"the subscriber does not say: {message}")

    def rename(self, goes, comes):
        self.on_subscriber(f"BEGIN; ALTER TABLE t RENAME v TO {goes}; ALTER TABLE t RENAME {comes} TO v; COMMIT")

    def lacking(self, *columns):
        """PostgreSQL names one, or all of them, by its version."""
        many = len(columns) > 1
        return f'"public.t" is missing replicated column{"s" if many else ""}: ' + ", ".join(f'"{column}"' for column in columns)

    def test_the_publisher_migrates(self):
        stage = lambda sql: self.query(sql.format(last(self.query)[0]))  # noqa: E731
        sealed = "SELECT id, encrypted_text_send({}) FROM t ORDER BY id"
        with self.load(clients=2) as load:
            with self.subTest("a twin that the subscriber does not have"):
                stage(THERE.format(", until => 'verified'"))
                load.more(20)
                self.stops(self.lacking(self.twin))
                # Better before; but nothing is lost.
                self.on_subscriber(f"ALTER TABLE t ADD {self.twin} encrypted_text('searchable')")
                self.caught_up()
            with self.subTest("the cut-over"):
                stage(THERE.format(""))
                load.more(20)
                self.stops(self.lacking(self.kept))
                self.rename(self.kept, self.twin)
                load.more(20)
                self.caught_up()
            with self.subTest("back"):
                stage(BACK)
                load.more(20)
                # The publisher has only v now, of which the subscriber can't know that it is the other one.
                self.rename(self.twin, self.kept)
                self.caught_up()
                load.more(20)
            with self.subTest("there again, and to the end"):
                self.on_subscriber(f"ALTER TABLE t DROP {self.twin}; ALTER TABLE t ADD {self.twin} encrypted_text('searchable')")
                stage(THERE.format(""))
                load.more(20)
                self.stops(self.lacking(self.kept))
                self.rename(self.kept, self.twin)
                self.caught_up()
                stage(FINISH)
                load.more(20)
                self.caught_up()
                self.on_subscriber(f"ALTER TABLE t DROP {self.kept}")
        load.assert_right(self)
        self.assert_same(sealed.format("v"))
        assert_whole(self, self.query, WRONG)

    def test_the_subscriber_migrates(self):
        stage = lambda sql: self.on_subscriber(sql.format(last(self.on_subscriber)[0]))  # noqa: E731
        with self.load(clients=2) as load:
            for call, phase in ((THERE.format(", batch_size => 100, max_rows_per_second => 4000"), "cut_over"), (BACK, "rolled_back"),
                                (THERE.format(""), "cut_over"), (FINISH, "finished")):
                with self.subTest(phase):
                    stage(call)
                    self.assertEqual(last(self.on_subscriber)[1], phase)
                    load.more(30)
                    # Also what is applied is in step.
                    self.caught_up()
                    assert_whole(self, self.on_subscriber, "SELECT 0")
            load.stop()
        load.assert_right(self)
        self.assert_same()
        assert_whole(self, self.on_subscriber, WRONG)
        self.assertEqual(self.query("SELECT count(*) FROM prism_crypt.migrations"), "0")
        self.assertEqual(self.on_subscriber("SELECT DISTINCT length(encrypted_text_send(v)) > 0 FROM t WHERE v IS NOT NULL"), "t")


if __name__ == "__main__":
    unittest.main()
