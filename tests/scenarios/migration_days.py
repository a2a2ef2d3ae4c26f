"""A table whose column is migrated, for tests of what people do to it meanwhile."""

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


class Days(Scenario):
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
