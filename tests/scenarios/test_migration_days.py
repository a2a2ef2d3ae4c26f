"""What people do to a table while a column of it is migrated: it goes on, or says what to do; no value is lost, and no write wrong."""

import unittest

from harness.scenario import Scenario

TYPE = "encrypted_text(searchable)"
SCHEMA = """
    CREATE TABLE t (id int PRIMARY KEY, v text NOT NULL UNIQUE, n int);
    INSERT INTO t SELECT i, 'row ' || i, i FROM generate_series(1, 100) AS i; GRANT SELECT, INSERT ON t TO app;
    CREATE TABLE p (id int, v text) PARTITION BY RANGE (id); CREATE TABLE p1 PARTITION OF p FOR VALUES FROM (0) TO (100);
    CREATE INDEX p_v ON p (v); INSERT INTO p SELECT i, 'row ' || i FROM generate_series(1, 50) AS i"""
UPPER = """
    CREATE FUNCTION upper_v() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN NEW.v := upper(NEW.v); RETURN NEW; END $$;
    CREATE TRIGGER {} BEFORE INSERT OR UPDATE ON t FOR EACH ROW EXECUTE FUNCTION upper_v()"""
TRIGGER = '"~prism_crypt_1"'
INSERT = "INSERT INTO t (id, v) VALUES ({}, '{}')"
BACK, FINISH = "CALL prism_crypt.rollback_migration(1)", "CALL prism_crypt.finish_migration(1)"


class MigrationDays(Scenario):
    preload = True
    maxDiff = None

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.cluster.psql("CREATE ROLE app LOGIN; CREATE ROLE heir")
        cls.database("template")
        cls.cluster.psql(SCHEMA, db="template")
        cls.grants = cls.cluster.psql("SELECT relacl FROM pg_class WHERE relname = 't'", db="template")

    def begin(self, name, state, table="t"):
        """A new database in which the migration is in that state."""
        self.db = f"{self.id().rpartition('.')[2]} {name}"[:60]
        self.cluster.psql(f'CREATE DATABASE "{self.db}" TEMPLATE template')
        self.go(table, until=state)

    def go(self, table="t", until="cut_over", column="v"):
        self.query(self.call(table, until, column))

    def call(self, table="t", until="cut_over", column="v"):
        return f"CALL prism_crypt.migrate_column('{table}', '{column}', '{TYPE}', method => 'online', until => '{until}')"

    def query(self, sql):
        return self.cluster.psql(sql, db=self.db)

    def refused(self, sql, message, sqlstate="55000"):
        """The statement fails with a message and, if it is one of ours, a hint."""
        error = self.cluster.error(sql, db=self.db)
        self.assertEqual(error.sqlstate, sqlstate, error)
        self.assertIn(message, f"{error.message} {error.detail}")
        self.assertTrue(error.hint or sql.startswith("INSERT"), error)
        return error.hint

    def assert_state(self, state, table="t", rows=100, column_type=None):
        self.assertEqual(self.query("SELECT state FROM prism_crypt.migrations WHERE id = 1"), state)
        self.assertEqual(self.query("SELECT count(*) FROM prism_crypt.migrations WHERE phase LIKE 'going back%'"), "0")
        if table is None:
            return
        self.assertEqual(self.query(f"SELECT count(*), count(v) FROM {table}"), f"{rows}|{rows}")
        self.assertEqual(self.query(f"SELECT format_type(atttypid, atttypmod) FROM pg_attribute WHERE attrelid = '{table}'::regclass AND attname = 'v'"),
                         column_type or ("text" if state == "rolled_back" else TYPE))
        if state in ("rolled_back", "finished"):
            self.assertEqual(self.query(f"SELECT count(*) FROM pg_attribute WHERE attrelid = '{table}'::regclass AND attname LIKE 'prism%' AND NOT attisdropped"), "0")
            self.assertEqual(self.query(f"SELECT count(*) FROM pg_trigger WHERE tgrelid = '{table}'::regclass AND tgname LIKE '%prism%'"), "0")
        elif state == "cut_over":
            self.assertEqual(self.query(f"SELECT count(*) FROM {table} WHERE v::text IS DISTINCT FROM prism_crypt_old_v"), "0")

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
            self.refused(self.call() if state == "verified" else BACK, 'column "v" of table public.t is not there any more')
            if state == "cut_over":
                # The values might be nowhere else.
                self.refused(FINISH, 'column "v" of table public.t is not there any more')
            self.query("ALTER TABLE t RENAME w TO v")
            self.query(INSERT.format(1000, "x"))
            self.query(statement)
            self.assert_state(over, rows=101)

    def test_column_dropped(self):
        self.begin("verified", "verified")
        self.query("ALTER TABLE t DROP v")
        self.refused(self.call(), "is not there any more")
        self.query(f"{BACK}; INSERT INTO t VALUES (1000)")
        self.begin("cut_over", "cut_over")
        self.query("ALTER TABLE t DROP v")
        self.refused(BACK, "is not there any more")
        self.refused(FINISH, "is not there any more")
        self.query(f"ALTER TABLE t RENAME prism_crypt_old_v TO v; {FINISH}; {INSERT.format(1000, 'x')}")
        self.assert_state("finished", rows=101, column_type="text")

    def test_other_column_dropped(self):
        self.begin("verified", "verified")
        self.query("ALTER TABLE t DROP prism_crypt_new_v")
        self.refused(self.call(), 'column "prism_crypt_new_v" of table public.t is not there any more')
        self.query(f"{BACK}; {INSERT.format(1000, 'x')}")
        self.assert_state("rolled_back", rows=101)
        self.begin("cut_over", "cut_over")
        self.query("ALTER TABLE t DROP prism_crypt_old_v")
        self.assertIn("finish_migration(1)", self.refused(BACK, 'column "prism_crypt_old_v" of table public.t is not there any more'))
        self.query(f"{FINISH}; {INSERT.format(1000, 'x')}")
        self.assert_state("finished", rows=101)

    def test_column_retyped(self):
        self.begin("verified", "verified")
        self.query("ALTER TABLE t ALTER v TYPE varchar(80)")
        self.go()
        self.assert_state("cut_over")
        self.query("ALTER TABLE t ALTER v TYPE text USING v::text")
        self.refused(BACK, 'column "v" of table public.t has type text now')
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
        with self.assertRaises(Exception) as caught:
            migrates.wait()
        self.assertEqual(caught.exception.sqlstate, "57014")
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
