"""What happens around a migration: owners, rights, keys, indexes, locks and cancels come between; it goes on, or says what to do."""

import unittest

from harness import PgError

from migration_days import BACK, Days, FINISH, INSERT, TYPE


class MigrationMeanwhile(Days):
    def test_indexes_and_constraints(self):
        ways = {"index": ("CREATE INDEX late ON t (n, v)", "DROP INDEX late"),
                "gone": ("ALTER TABLE t DROP CONSTRAINT t_v_key", "ALTER TABLE t ADD UNIQUE (v)"),
                "changed": ("ALTER INDEX t_v_key SET (fillfactor = 50)", "ALTER INDEX t_v_key RESET (fillfactor)"),
                "check": ("ALTER TABLE t ADD CONSTRAINT late CHECK (length(v) > 1)", "ALTER TABLE t DROP CONSTRAINT late"),
                "not null": ("ALTER TABLE t ALTER v DROP NOT NULL", "ALTER TABLE t ALTER v SET NOT NULL")}
        self.begin("verified", "verified")
        for way, back in ways.values():
            self.query(way)
            self.refused(self.call(), "came, went or changed after those of the new column were built")
            self.query(back)
        self.go()
        self.assert_state("cut_over")
        # After the cut-over they are the new column's, and go back with it.
        self.query(f"CREATE INDEX late ON t USING hash (v); CREATE VIEW w AS SELECT v FROM t; CREATE POLICY mine ON t USING (v <> 'x'); {BACK}")
        self.assert_state("rolled_back")
        self.assertEqual(self.query("SELECT pg_get_indexdef('late'::regclass); SELECT count(*) FROM w WHERE v = 'row 5'"),
                         "CREATE INDEX late ON public.t USING hash (v)\n1")

    def test_another_owner(self):
        self.begin("", "verified")
        self.query("ALTER TABLE t OWNER TO heir")
        self.refused(INSERT.format(1000, "x"), 'permission denied for the owner of table "t" to search', "42501")
        self.query("SELECT prism_crypt.grant_access('heir', 'search')")
        # What applications would be refused after the cut-over is refused before it.
        self.refused(self.call(), 'permission denied for the owner of table "t" to decrypt', "42501")
        self.query(f"SELECT prism_crypt.grant_access('heir', 'decrypt'); {INSERT.format(1000, 'x')}")
        self.go()
        self.query("SELECT prism_crypt.revoke_access('heir', 'decrypt')")
        self.refused(INSERT.format(1001, "y"), 'permission denied for the owner of table "t" to decrypt', "42501")
        self.query(f"SELECT prism_crypt.grant_access('heir', 'decrypt'); {BACK}")
        self.assert_state("rolled_back", rows=101)

    def test_keys(self):
        for state, then in (("verified", self.call()), ("cut_over", BACK)):
            self.begin(state, state)
            self.query(f"SELECT prism_crypt.rotate_key(); {INSERT.format(1000, 'x')}; CALL prism_crypt.rotate_batch('t')")
            self.query(f"CALL prism_crypt.rotate_index_key(); {INSERT.format(1001, 'y')}; CALL prism_crypt.rotate_batch('t')")
            self.query(then)
            self.assert_state("cut_over" if state == "verified" else "rolled_back", rows=102)
            self.assertEqual(self.query("SELECT id FROM t WHERE v IN ('row 9', 'x', 'y') ORDER BY 1"), "9\n1000\n1001")

    def test_cancelled(self):
        self.begin("", "verified")
        self.query(BACK)
        slow = f"SET statement_timeout = '300ms'; CALL prism_crypt.migrate_column('t', 'v', '{TYPE}', method => 'online', max_rows_per_second => 50, batch_size => 5)"
        for _ in range(2):
            self.assertEqual(self.cluster.error(slow, db=self.db).sqlstate, "57014")
            self.query("UPDATE t SET n = n + 1 WHERE id <= 20")
        self.go()
        self.assertEqual(self.query("SELECT count(*) FROM t WHERE v::text IS DISTINCT FROM prism_crypt_old_v"), "0")

    def test_locked_by_others(self):
        self.begin("", "verified")
        other = self.session(self.db)
        other.run("BEGIN; SELECT count(*) FROM t;")
        # 60 attempts take minutes, so the session is told to stop.
        migrates = self.session(self.db)
        migrates.start(f"SET statement_timeout = '2s'; CALL prism_crypt.migrate_column('t', 'v', '{TYPE}', lock_timeout => '20ms');")
        self.query(INSERT.format(1000, "x"))
        self.assertEqual(self.query("SELECT max(v) FROM t"), "x")
        with self.assertRaises(PgError) as caught:
            migrates.wait()
        self.assertEqual((caught.exception.sqlstate, caught.exception.message), ("57014", "canceling statement due to statement timeout"))
        other.run("COMMIT;")
        self.go()
        self.assert_state("cut_over", rows=101)

    def test_temporary_table_of_the_name(self):
        self.begin("", "verified")
        self.query(BACK)
        own = f"CREATE TEMPORARY TABLE t (id int, v text); {self.call('public.t')}"
        self.refused(own, "of this session has the name of the table")
        self.session(self.db).run("CREATE TEMPORARY TABLE t (id int, v text);")
        self.go()
        self.assertEqual(self.query("SELECT count(*) FROM t WHERE v::text = prism_crypt_old_v"), "100")

    def test_column_added(self):
        self.begin("", "cut_over")
        self.query(f"ALTER TABLE t ADD more text DEFAULT 'm'; {FINISH}")
        self.assert_state("finished")
        self.assertEqual(self.query("SELECT relacl FROM pg_class WHERE relname = 't'"), self.grants)

    def test_extension_dropped(self):
        for state, column in (("verified", "v"), ("cut_over", "prism_crypt_old_v")):
            self.begin(state, state)
            self.assertEqual(self.cluster.error("DROP EXTENSION prism_crypt", db=self.db).sqlstate, "2BP01")
            self.query("DROP EXTENSION prism_crypt CASCADE")
            self.assertEqual(self.query(f"SELECT count({column}) FROM t"), "100")
            self.query(f"INSERT INTO t (id, {column}) VALUES (1000, 'x')")


if __name__ == "__main__":
    unittest.main()
