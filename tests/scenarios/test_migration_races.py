"""What changes a table while a cut-over waits for its lock: it was judged before, and has to be seen under the lock."""

import unittest

from harness import PgError
from harness.scenario import wait_until
from migration_days import BACK, Days, TRIGGER

WAITS = "SELECT count(*) FROM pg_locks WHERE NOT granted AND mode = 'AccessExclusiveLock' AND relation = 't'::regclass"


class MigrationRaces(Days):
    def meanwhile(self, change, call):
        """Makes the change while the call waits for the lock; its error, if there is one."""
        other, migrates = self.session(self.db), self.session(self.db)
        other.run("BEGIN; LOCK TABLE t IN ACCESS SHARE MODE;")
        migrates.start(call)
        wait_until(lambda: self.query(WAITS) == "1", "nobody waits for the lock")
        other.run(f"{change}; COMMIT;")
        try:
            migrates.wait()
        except PgError as error:
            return error
        return None

    def cut_over(self):
        return self.call()[:-1] + ", lock_timeout => '30s');"

    def test_indexes_and_constraints(self):
        for name, change in {"index": "CREATE INDEX late ON t (n, v)", "constraint": "ALTER TABLE t DROP CONSTRAINT t_v_key",
                             "not null": "ALTER TABLE t ALTER v DROP NOT NULL",
                             "check": "ALTER TABLE t ADD CONSTRAINT late CHECK (length(v) > 1)"}.items():
            with self.subTest(name):
                self.begin(name, "verified")
                error = self.meanwhile(change, self.cut_over())
                self.assertIn("came, went or changed after those of the new column were built", str(error))
                self.query(BACK)
                self.go()
                self.assert_state_of_last("cut_over")

    def test_on_the_way_back(self):
        self.begin("", "cut_over")
        error = self.meanwhile("CREATE INDEX late ON t USING hash (v)", BACK[:-1] + ", lock_timeout => '30s');")
        self.assertIn("came, went or changed after those of the new column were built", str(error))
        self.query(f"DROP INDEX late; {BACK}")
        self.assert_state("rolled_back")

    def test_what_is_made_again(self):
        self.begin("", "verified")
        self.assertIsNone(self.meanwhile("CREATE VIEW w AS SELECT v FROM t; CREATE POLICY mine ON t USING (v <> 'x'); ALTER TABLE t ALTER v SET DEFAULT 'none'",
                                         self.cut_over()))
        self.assert_state("cut_over")
        self.assertEqual(self.query("INSERT INTO t (id) VALUES (0); SELECT v::text FROM w WHERE v = 'none'"), "none")

    def test_a_trigger_that_is_switched_off_for_a_while(self):
        self.begin("", "verified")
        change = f"ALTER TABLE t DISABLE TRIGGER {TRIGGER}; UPDATE t SET v = 'unseen' WHERE id = 5; ALTER TABLE t ENABLE ALWAYS TRIGGER {TRIGGER}"
        self.assertIsNone(self.meanwhile(change, self.cut_over()))
        self.assert_state("cut_over")
        self.assertEqual(self.query("SELECT v::text FROM t WHERE id = 5"), "unseen")

    def test_a_view_that_is_dropped(self):
        self.begin("", "verified")
        self.query("CREATE VIEW w AS SELECT v FROM t")
        self.assertIsNone(self.meanwhile("DROP VIEW w", self.cut_over()))
        self.assert_state("cut_over")

    def assert_state_of_last(self, state):
        self.assertEqual(self.query("SELECT state FROM prism_crypt.migrations ORDER BY id DESC LIMIT 1"), state)


if __name__ == "__main__":
    unittest.main()
