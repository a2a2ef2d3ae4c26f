"""What people do to a table while a column of it is migrated: it goes on, or says what to do; no value is lost, and no write wrong."""

import unittest

from migration_days import BACK, Days, FINISH, INSERT, TRIGGER, TYPE, UPPER


class MigrationDays(Days):
    def test_table_dropped(self):
        for state in ("verified", "cut_over"):
            self.begin(state, state)
            self.query("DROP TABLE t")
            self.query(BACK)
            self.assert_state("rolled_back", None)
        self.begin("finished", "cut_over")
        self.query(f"DROP TABLE t; {FINISH}")
        self.assert_state("finished", None)
        self.query(f"CREATE TABLE t (v text); {self.call()}")

    def test_table_renamed(self):
        self.begin("verified", "verified")
        self.query("ALTER TABLE t RENAME TO other")
        self.query(INSERT.replace("INTO t", "INTO other").format(1000, "x"))
        self.refused(self.call("other"), "changed after those of the new column were built")
        self.query(BACK)
        self.assert_state("rolled_back", "other", 101)
        for how, statement in (("finished", FINISH), ("rolled_back", BACK)):
            self.begin(how, "cut_over")
            self.query("ALTER TABLE t RENAME TO other; CREATE SCHEMA s; ALTER TABLE other SET SCHEMA s")
            self.query(f"INSERT INTO s.other (id, v) VALUES (1000, 'x'); {statement}")
            self.assert_state(how, "s.other", 101)
            self.assertEqual(self.query("SELECT relacl FROM pg_class WHERE relname = 'other'"), self.grants)

    def test_column_renamed(self):
        for state, statement, over in (("verified", BACK, "rolled_back"), ("cut_over", FINISH, "finished")):
            self.begin(state, state)
            self.query("ALTER TABLE t RENAME v TO w")
            self.refused(self.call() if state == "verified" else BACK, 'v is gone')
            if state == "cut_over":
                # The values might be nowhere else.
                self.refused(FINISH, 'is not there any more')
            self.query("ALTER TABLE t RENAME w TO v")
            self.query(INSERT.format(1000, "x"))
            self.query(statement)
            self.assert_state(over, rows=101)

    def test_column_dropped(self):
        self.begin("verified", "verified")
        self.query("ALTER TABLE t DROP v")
        self.refused(self.call(), "is gone")
        self.query(f"{BACK}; INSERT INTO t VALUES (1000)")
        self.begin("cut_over", "cut_over")
        self.query("ALTER TABLE t DROP v")
        self.refused(BACK, "is gone")
        self.refused(FINISH, "is not there any more")
        self.query(f"ALTER TABLE t RENAME prism_crypt_old_v TO v; {FINISH}; {INSERT.format(1000, 'x')}")
        self.assert_state("finished", rows=101, column_type="text")

    def test_other_column_dropped(self):
        self.begin("verified", "verified")
        self.query("ALTER TABLE t DROP prism_crypt_new_v")
        self.refused(self.call(), 'prism_crypt_new_v is gone')
        self.query(f"{BACK}; {INSERT.format(1000, 'x')}")
        self.assert_state("rolled_back", rows=101)
        self.begin("cut_over", "cut_over")
        self.query("ALTER TABLE t DROP prism_crypt_old_v")
        self.assertIn("finish_migration(1)", self.refused(BACK, 'prism_crypt_old_v is gone'))
        self.query(f"{FINISH}; {INSERT.format(1000, 'x')}")
        self.assert_state("finished", rows=101)

    def test_column_retyped(self):
        self.begin("verified", "verified")
        self.query("ALTER TABLE t ALTER v TYPE varchar(80)")
        self.go()
        self.assert_state("cut_over")
        self.query("ALTER TABLE t ALTER v TYPE text USING v::text")
        self.refused(BACK, 'v has type text now')
        self.query(f"{FINISH}; {INSERT.format(1000, 'x')}")
        self.assert_state("finished", rows=101, column_type="text")

    def test_trigger(self):
        ways = {"dropped": f"DROP TRIGGER {TRIGGER} ON t", "disabled": f"ALTER TABLE t DISABLE TRIGGER {TRIGGER}",
                "renamed": f"ALTER TRIGGER {TRIGGER} ON t RENAME TO other"}
        for name, way in ways.items():
            self.begin(f"{name} before", "verified")
            self.query(way)
            self.refused(self.call(), "has lost the trigger of migration 1")
            self.query(f"{BACK}; {INSERT.format(1000, 'x')}")
            self.assert_state("rolled_back", rows=101)
            # Afterwards the verification makes good what was written without it.
            self.begin(f"{name} after", "cut_over")
            self.query(f"{way}; {INSERT.format(1000, 'x')}; UPDATE t SET v = 'y' WHERE id = 1; DELETE FROM t WHERE id = 2; {BACK}")
            self.assert_state("rolled_back")
            self.assertEqual(self.query("SELECT id, v FROM t WHERE v IN ('x', 'y') ORDER BY 1"), "1|y\n1000|x")

    def test_trigger_after_ours(self):
        """It changes rows that are in step already."""
        self.begin("", "verified")
        self.query(UPPER.format('"~z"') + ";" + INSERT.format(1000, "x"))
        hint = self.refused(self.call(), "may change the row after the trigger")
        self.query(hint)
        self.go()
        self.assert_state("cut_over", rows=101)
        self.assertEqual(self.query("SELECT v::text FROM t WHERE id = 1000"), "X")
        self.query('ALTER TRIGGER "a_~z" ON t RENAME TO "~z"; UPDATE t SET v = \'y\' WHERE id = 7')
        self.query(self.refused(BACK, "may change the row after the trigger") + BACK)
        self.assertEqual(self.query("SELECT v FROM t WHERE id = 7"), "Y")
        self.assert_state("rolled_back", rows=101)

    def test_partitions_and_children(self):
        new = "CREATE TABLE p2 (LIKE p); INSERT INTO p2 (id, v) VALUES (150, 'x'); ALTER TABLE p ATTACH PARTITION p2 FOR VALUES FROM (100) TO (200)"
        self.begin("attached before", "verified", "p")
        self.query(new)
        self.refused(self.call("p"), "came, went or changed")
        self.query(BACK)
        self.assert_state("rolled_back", "p", 51)
        self.begin("attached after", "cut_over", "p")
        self.query(f"{new}; {BACK}")
        self.assert_state("rolled_back", "p", 51)
        self.begin("detached", "verified", "p")
        self.query("ALTER TABLE p DETACH PARTITION p1")
        self.refused(self.call("p"), "came, went or changed")
        self.query(f"{BACK}; INSERT INTO p1 (id, v) VALUES (7, 'x')")
        self.begin("child before", "verified")
        self.query("CREATE TABLE child () INHERITS (t)")
        self.refused(self.call(), "has lost the trigger")
        self.query(f"{BACK}; INSERT INTO child (id, v) VALUES (1000, 'x')")
        self.assert_state("rolled_back", rows=101)
        self.begin("child after", "cut_over")
        self.query(f"CREATE TABLE child () INHERITS (t); INSERT INTO child (id, v) VALUES (1000, 'x'); {BACK}")
        self.assert_state("rolled_back", rows=101)

    def test_rows_that_came_with_a_partition(self):
        """What was written where the trigger was not is verified again, whatever the trigger looks like now."""
        attach = "ALTER TABLE p ATTACH PARTITION {} FOR VALUES FROM ({}) TO ({})"
        ways = {"came": "CREATE TABLE p2 (LIKE p); INSERT INTO p2 VALUES (150, 'x'); " + attach.format("p2", 100, 200),
                "came back": "ALTER TABLE p DETACH PARTITION p1; UPDATE p1 SET v = 'x' WHERE id = 5; " + attach.format("p1", 0, 100),
                "off": 'ALTER TABLE p1 DISABLE TRIGGER "~prism_crypt_2"; UPDATE p SET v = \'x\' WHERE id = 5; ALTER TABLE p1 ENABLE ALWAYS TRIGGER "~prism_crypt_2"'}
        for name, way in ways.items():
            self.begin(name, "verified", "p")
            # Indexes would tell of a new partition, too.
            self.query(f"{BACK}; DROP INDEX p_v; {self.call('p', 'verified')}; {way}; {self.call('p')}")
            self.assertEqual(self.query("SELECT v::text, prism_crypt_old_v FROM p WHERE id IN (5, 150) AND prism_crypt_old_v = 'x'"), "x|x")
            self.query("CALL prism_crypt.rollback_migration(2)")
            self.assertEqual(self.query("SELECT v FROM p WHERE v = 'x'"), "x")


if __name__ == "__main__":
    unittest.main()
