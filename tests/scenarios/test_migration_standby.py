"""A migration as a standby sees it: it can be read meanwhile, and the same calls go on there after promotion."""

import unittest

from harness import PgError
from harness.scenario import set_key, wait_until

from migration_load import THERE, WRONG, Migrated
from migration_state import assert_whole, last


class MigrationStandby(Migrated):
    rows = 5000
    conf = {**Migrated.conf, "autovacuum": "off", "max_wal_size": "'4GB'"}

    def setUp(self):
        super().setUp()
        # The primary of another test may have been stopped for good.
        self.addCleanup(self.cluster.start)

    def on_standby(self, sql):
        return self.standby.psql(sql, db=self.db)

    def new_standby(self, name):
        self.standby = self.cluster.standby(name, conf={"hot_standby_feedback": "on", "wal_receiver_status_interval": "'1s'"})
        self.addCleanup(self.standby.close)
        set_key(self.standby, "main")
        self.standby.start()
        self.cluster.wait_caught_up(self.standby)

    def number(self, psql):
        return last(psql)[0]

    def whole(self, psql, in_step=True):
        assert_whole(self, psql, WRONG, in_step)

    def test_reading_meanwhile(self):
        self.new_standby("migration-standby")
        reader = self.session(self.db, user="app", cluster=self.standby)
        old_snapshot = self.session(self.db, user="app", cluster=self.standby)
        read = "SELECT count(*), count(*) FILTER (WHERE t.v IS NOT DISTINCT FROM s.v) FROM t JOIN shadow AS s USING (id);"
        find = "SELECT id FROM t WHERE v = 'row 77';"

        def assert_readable():
            self.assertEqual(reader.run(read), f"{self.rows}|{self.rows}")
            self.assertEqual(reader.run("SELECT v FROM t WHERE id = 77;"), "row 77")
            self.assertEqual(reader.run(find), "77")
            self.whole(self.on_standby)

        def migrate(call, phase):
            migrating = self.session(self.db)
            migrating.start(call)
            reads = 0
            while migrating.waiting(0):
                self.assertEqual(reader.run(read), f"{self.rows}|{self.rows}")
                self.assertEqual(reader.run(find), "77")
                reads += 1
            migrating.wait()
            self.cluster.wait_caught_up(self.standby)
            self.assertEqual(last(self.on_standby)[1], phase)
            assert_readable()
            return reads

        # Rows that the clients leave alone, with what readers look for.
        self.query("UPDATE t SET v = 'row ' || id WHERE id = 77; UPDATE shadow SET v = 'row ' || id WHERE id = 77")
        self.cluster.wait_caught_up(self.standby)
        assert_readable()
        self.assertEqual(old_snapshot.run("BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT count(*) FROM shadow;"), str(self.rows))
        there = THERE.format(", batch_size => 200, max_rows_per_second => 8000, until => 'verified'")
        # The pace makes this take long enough to be looked at.
        self.assertGreater(migrate(there, "ready"), 5)
        # A row that was there before the migration is still to be read.
        self.assertEqual(old_snapshot.run("SELECT count(*) FROM shadow; COMMIT;"), str(self.rows))
        reads = migrate(THERE.format(""), "cut_over")
        reads += migrate(f"CALL prism_crypt.rollback_migration({self.number(self.query)});", "rolled_back")
        reads += migrate(THERE.format(""), "cut_over")
        reads += migrate(f"CALL prism_crypt.finish_migration({self.number(self.query)});", "finished")
        self.assertGreater(reads, 0)
        self.assertEqual(self.standby.error(THERE.format(""), db=self.db).sqlstate, "25006")

    def begin(self, call, stop_at=""):
        session = self.session(self.db)
        session.run(f"SET prism_crypt.debug_stop_at = '{stop_at}';")
        session.start(call)
        return session

    def promoted(self, phase, call, stop_at="", under_way="true", in_step=True):
        """The primary dies among writers while the call is in this phase, and there has been something of it; the same call goes on."""
        with self.subTest(phase):
            with self.load(clients=2, killed=True) as load:
                session = self.begin(call, stop_at)
                wait_until(lambda: self.on_standby(
                    f"SELECT count(*) FROM prism_crypt.migrations WHERE phase = '{phase}' AND {under_way}") == "1", f"the standby sees no {phase}")
                self.assertTrue(session.waiting(0.05))
                load.more(20)
                self.cluster.stop("immediate")
            self.assertEqual(load.failed, [])
            with self.assertRaises(PgError):
                session.wait()
            self.standby.psql("SELECT pg_promote()")
            # What the standby has not got is lost, as a whole.
            self.whole(self.on_standby, in_step)
            self.assertEqual(last(self.on_standby)[1], phase)
            self.assertEqual(self.on_standby("SELECT count(*) FROM prism_crypt.migrations WHERE worker IS NOT NULL"), "0")

    def goes_on(self, *calls):
        with self.load(self.standby, clients=2) as load:
            for call, phase in calls:
                self.on_standby(call.format(self.number(self.on_standby)))
                self.assertEqual(last(self.on_standby)[1], phase)
                self.whole(self.on_standby)
                load.more(20)
        load.assert_right(self)

    BACK = ("CALL prism_crypt.rollback_migration({});", "rolled_back")
    FINISH = ("CALL prism_crypt.finish_migration({});", "finished")

    def test_promoted_in_backfill(self):
        self.new_standby("migration-backfill")
        slow = THERE.format(", batch_size => 100, max_rows_per_second => 100")
        self.promoted("rows", slow, under_way="rows_done > 0")
        self.assertEqual(self.on_standby("SELECT count(*) FROM t WHERE prism_crypt_new_v IS NULL AND v IS NOT NULL") != "0", True)
        self.goes_on((THERE.format(""), "cut_over"), self.FINISH)

    def test_promoted_in_verification(self):
        self.new_standby("migration-verification")
        stopped = self.begin(THERE.format(""), "verification")
        wait_until(lambda: last(self.query)[1] == "verification", "it does not come to the verification")
        self.query("SELECT pg_cancel_backend(worker) FROM prism_crypt.migrations")
        with self.assertRaises(PgError):
            stopped.wait()
        # The owner can spoil a twin. To correct all that takes a while.
        self.query("UPDATE t SET prism_crypt_new_v = 'spoiled ' || id WHERE v IS NOT NULL")
        slow = THERE.format(", batch_size => 100, max_rows_per_second => 100")
        self.promoted("verification", slow, under_way="rows_done > 0", in_step=False)
        self.assertEqual(self.on_standby("SELECT count(*) > 100 FROM t WHERE prism_crypt_new_v::text LIKE 'spoiled%'"), "t")
        self.goes_on((THERE.format(""), "cut_over"), self.BACK, (THERE.format(""), "cut_over"), self.FINISH)

    def test_promoted_when_ready(self):
        self.new_standby("migration-ready")
        self.promoted("ready", THERE.format(""), stop_at="ready")
        self.goes_on((THERE.format(""), "cut_over"), self.FINISH)

    def test_promoted_after_the_cut_over(self):
        self.new_standby("migration-cut-over")
        self.promoted("cut_over", THERE.format(""), stop_at="cut_over")
        self.goes_on((THERE.format(""), "cut_over"), self.BACK, (THERE.format(""), "cut_over"), self.FINISH)


if __name__ == "__main__":
    unittest.main()
