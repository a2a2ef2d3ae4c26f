"""A dump in the middle of a migration: what is restored from it is in step, and the migration goes on there, or back."""

import unittest

from harness.scenario import Scenario

TYPE = "encrypted_text(email,searchable)"
SCHEMA = """
    CREATE TABLE "Some People" (id int PRIMARY KEY, email varchar(60) NOT NULL UNIQUE CHECK (email LIKE '%@%'), note text);
    CREATE TABLE events (id int, at int, email varchar(60), PRIMARY KEY (id, at)) PARTITION BY RANGE (at);
    CREATE TABLE events_1 PARTITION OF events FOR VALUES FROM (0) TO (10);
    CREATE TABLE events_2 PARTITION OF events FOR VALUES FROM (10) TO (20);
    CREATE INDEX events_email ON events (email);
    CREATE VIEW mails AS SELECT email FROM "Some People";
    INSERT INTO "Some People" SELECT i, 'p' || i || '@example.org' FROM generate_series(1, 200) AS i;
    INSERT INTO events SELECT i, i % 20, 'e' || i || '@example.org' FROM generate_series(1, 200) AS i;
    GRANT SELECT, INSERT ON "Some People" TO app"""
TABLES = ('"Some People"', "events")
VALUES = """SELECT id, email::text FROM "Some People" UNION ALL SELECT id, email::text FROM events ORDER BY 1, 2"""
WRITES = """
    INSERT INTO "Some People" (id, email) VALUES (1001, 'new@example.org'); UPDATE "Some People" SET email = 'other@example.org' WHERE id = 5;
    INSERT INTO events (id, at, email) VALUES (1001, 3, 'new@example.org'), (1002, 15, NULL); UPDATE events SET email = 'x@example.org' WHERE id = 11"""
RECORDS = "SELECT id, target, old_type, type, state, method, phase, job, worker, error FROM prism_crypt.migrations ORDER BY id"
GRANTS = "SELECT relname, relacl FROM pg_class WHERE relname IN ('Some People', 'events') ORDER BY 1"


class MigrationDump(Scenario):
    preload = True
    maxDiff = None

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        c = cls.cluster
        c.psql("CREATE ROLE app")
        cls.database("source")
        c.psql(SCHEMA, db="source")
        cls.grants, cls.values = c.psql(GRANTS, db="source"), c.psql(VALUES, db="source")
        # The numbers of migrations, OIDs and so on differ from those of a new database.
        cls.call(None, "source", "migrate_column", until="verified")
        for number in (1, 2):
            c.psql(f"CALL prism_crypt.rollback_migration({number})", db="source")
        cls.call(None, "source", "migrate_column", until="verified")
        # One that is over, of a table that is gone, and one that is by an expression.
        c.psql(f"""CREATE TABLE gone (v text); CALL prism_crypt.migrate_column('gone', 'v', '{TYPE}', method => 'online', until => 'verified');
                  DROP TABLE gone; CREATE TABLE by_hand (id int PRIMARY KEY, v bytea); INSERT INTO by_hand VALUES (1, 'one'), (2, 'two');
                  CALL prism_crypt.migrate_column('by_hand', 'v', '{TYPE}', $$convert_from(v, 'UTF8') || 'an alien secret'$$, 'online', 'verified')""",
               db="source")
        cls.dumps = {"verified": cls.dump("verified")}
        cls.call(None, "source", "migrate_column")
        c.psql(f"CALL prism_crypt.migrate_column('by_hand', 'v', '{TYPE}', $$convert_from(v, 'UTF8') || 'an alien secret'$$)", db="source")
        cls.dumps["cut_over"] = cls.dump("cut_over")
        cls.target = cls.new_cluster("migration_dump-target", preload=True)
        # OIDs that are others'.
        cls.target.psql("CREATE ROLE other; CREATE ROLE app; CREATE TABLE a (); CREATE TABLE b ()")

    @classmethod
    def dump(cls, name, *options):
        path = cls.cluster.home / f"{name}.dump"
        cls.cluster.run(["pg_dump", "-Fc", "-f", path, *options], db="source")
        return path

    def call(self, db, procedure, until=None, cluster=None, new_type=TYPE):
        for table in TABLES:
            until_when = f", until => '{until}'" if until else ""
            (cluster or MigrationDump.cluster).psql(
                f"CALL prism_crypt.{procedure}('{table}', 'email', '{new_type}', method => 'online'{until_when})", db=db)

    def restored(self, state):
        """The dump in the other cluster; what is asked of self.query from now on is asked there."""
        self.db = self.id().rpartition(".")[2] + state
        self.target.create_db(self.db)
        self.target.run(["pg_restore", "--exit-on-error", "-j2", "-d", self.db, self.dumps[state]])
        self.assertEqual(self.query(VALUES) == self.values, True)

    def query(self, sql):
        return self.target.psql(sql, db=self.db)

    def open_ones(self):
        return [line.split("|")[:2] + line.split("|")[4:] for line in self.query(RECORDS).splitlines()]

    def assert_in_step(self, side):
        self.query(WRITES)
        for table in TABLES:
            self.assertEqual(self.query(f"SELECT count(*) FROM {table} WHERE email::text IS DISTINCT FROM {side}::text"), "0")

    def assert_over(self, of_type):
        self.assertEqual(self.query("SELECT id FROM events WHERE email = 'x@example.org'"), "11")
        self.assertEqual(
            self.query("""SELECT DISTINCT format_type(atttypid, atttypmod) FROM pg_attribute JOIN pg_class AS c ON c.oid = attrelid
                          WHERE attname = 'email' AND relkind IN ('r', 'p')"""), of_type)
        self.assertEqual(self.query("""SELECT count(*) FROM pg_trigger WHERE tgrelid IN ('"Some People"'::regclass, 'events'::regclass, 'events_1'::regclass)"""), "0")
        self.assertEqual(self.query("""SELECT count(*) FROM pg_attribute JOIN pg_class AS c ON c.oid = attrelid
            WHERE attname LIKE 'prism%email' AND NOT attisdropped AND relkind IN ('r', 'p')"""), "0")
        self.assertEqual(self.query(GRANTS), self.grants)
        self.assertEqual(self.query("SELECT email::text FROM mails WHERE email = 'p9@example.org'"), "p9@example.org")
        # The next one has a number that was never given.
        self.query("CREATE TABLE more (v text); CALL prism_crypt.migrate_column('more', 'v', 'encrypted_text')")
        self.assertEqual(self.query("SELECT max(id) FROM prism_crypt.migrations"), "7")

    def test_verified(self):
        self.restored("verified")
        self.assertEqual(self.open_ones(), [["3", 'public."Some People".email', "ready", "online", "ready", "", "", ""],
                                            ["4", "public.events.email", "ready", "online", "ready", "", "", ""]])
        self.assert_in_step("prism_crypt_new_email")
        self.call(self.db, "migrate_column", cluster=self.target)
        self.assert_in_step_after()
        for number in (3, 4):
            self.query(f"CALL prism_crypt.finish_migration({number})")
        self.assert_over(TYPE)

    def assert_in_step_after(self):
        for table in TABLES:
            self.assertEqual(self.query(f"SELECT count(*) FROM {table} WHERE email::text IS DISTINCT FROM prism_crypt_old_email"), "0")

    def test_verified_and_back(self):
        self.restored("verified")
        self.assert_in_step("prism_crypt_new_email")
        for number in (3, 4):
            self.query(f"CALL prism_crypt.rollback_migration({number})")
        self.assert_over("character varying(60)")

    def test_cut_over_and_back(self):
        self.restored("cut_over")
        self.assertEqual(self.open_ones(), [["3", 'public."Some People".email', "cut_over", "online", "cut_over", "", "", ""],
                                            ["4", "public.events.email", "cut_over", "online", "cut_over", "", "", ""]])
        self.assert_in_step("prism_crypt_old_email")
        for number in (3, 4):
            self.query(f"CALL prism_crypt.rollback_migration({number})")
        self.assert_over("character varying(60)")

    def test_cut_over_and_finished(self):
        self.restored("cut_over")
        self.assert_in_step("prism_crypt_old_email")
        for number in (3, 4):
            self.query(f"CALL prism_crypt.finish_migration({number})")
        self.assert_over(TYPE)

    def test_without_a_record(self):
        """By an expression, which may hold a key; or from a dump of an older version."""
        script = self.cluster.run(["pg_restore", "-f", "-", self.dumps["verified"]]).stdout
        self.assertEqual([line for line in script.splitlines() if "an alien secret" in line], [])
        again = f"CALL prism_crypt.migrate_column('by_hand', 'v', '{TYPE}', $$convert_from(v, 'UTF8')$$, 'online')"
        self.restored("verified")
        self.query("INSERT INTO by_hand VALUES (3, 'three'); UPDATE by_hand SET v = 'TWO' WHERE id = 2")
        error = self.target.error(again, db=self.db)
        self.assertEqual((error.sqlstate, error.message), ("55000", "the column can't be migrated"))
        self.assertIn("for a migration that this database does not know", error.detail)
        # What the hint says, and no more.
        self.query(error.hint + again)
        self.assertEqual(self.query("SELECT id, v::text FROM by_hand ORDER BY 1"), "1|one\n2|TWO\n3|three")
        self.restored("cut_over")
        self.assertEqual(self.query("SELECT id, v::text FROM by_hand ORDER BY 1"), "1|onean alien secret\n2|twoan alien secret")
        error = self.target.error("CALL prism_crypt.decrypt_column('by_hand', 'v')", db=self.db)
        self.query(error.hint + "ALTER TABLE by_hand DROP COLUMN prism_crypt_old_v; CALL prism_crypt.decrypt_column('by_hand', 'v')")
        self.assertEqual(self.query("SELECT id, v FROM by_hand ORDER BY 1"), "1|onean alien secret\n2|twoan alien secret")

    def test_of_an_ordinary_role(self):
        """It goes on as the role that it was, whatever number that has there."""
        self.database("owned")
        self.cluster.psql(f"""CREATE ROLE keeper; GRANT CREATE ON SCHEMA public TO keeper;
            SELECT prism_crypt.grant_access('keeper', a) FROM unnest(ARRAY['migrate', 'search', 'decrypt']) AS a;
            SET ROLE keeper; CREATE TABLE mine (v text); INSERT INTO mine VALUES ('one'), ('two');
            CALL prism_crypt.migrate_column('mine', 'v', '{TYPE}', method => 'online', until => 'verified')""", db="owned")
        self.target.psql("CREATE ROLE keeper")
        oids = [c.psql("SELECT oid FROM pg_roles WHERE rolname = 'keeper'") for c in (self.cluster, self.target)]
        self.assertNotEqual(*oids)
        self.dumps["owned"] = self.cluster.home / "owned.dump"
        self.cluster.run(["pg_dump", "-Fc", "-f", self.dumps["owned"]], db="owned")
        self.db = "owned"
        self.target.create_db(self.db)
        self.target.run(["pg_restore", "--exit-on-error", "-d", self.db, self.dumps["owned"]])
        self.query(f"SET ROLE keeper; CALL prism_crypt.migrate_column('mine', 'v', '{TYPE}'); CALL prism_crypt.finish_migration(1)")
        self.assertEqual(self.query("SELECT v::text FROM mine WHERE v = 'two'"), "two")

    def test_a_dump_without_the_table(self):
        """Its migration can't be restored, nor the others that are in the same COPY; all tables are as they were, and the trigger is there."""
        # A migration of a table that was dropped is in no dump.
        self.assertIn("5|dropped table", self.cluster.psql(RECORDS, db="source"))
        for name, options, numbers in (("copy", (), []), ("inserts", ("--inserts",), ["3"])):
            with self.subTest(name):
                path = self.dump(f"without {name}", "--exclude-table=events*", *options)
                self.db = f"without {name}"
                self.target.create_db(self.db)
                restored = self.target.run(["pg_restore", "-d", self.db, path], check=False)
                self.assertIn('relation "public.events" does not exist', restored.stderr)
                self.assertIn("errors ignored on restore: 1\n", restored.stderr)
                self.assertEqual([line.split("|")[0] for line in self.query(RECORDS).splitlines()], numbers)
                self.query("""INSERT INTO "Some People" (id, email) VALUES (1001, 'new@example.org')""")
                self.assertEqual(self.query("""SELECT count(*), count(*) FILTER (WHERE email::text = prism_crypt_old_email) FROM "Some People" """), "201|201")
                if numbers:
                    self.query("CALL prism_crypt.finish_migration(3)")
                else:
                    error = self.target.error("""CALL prism_crypt.decrypt_column('"Some People"', 'email', 'varchar(60)')""", db=self.db)
                    self.assertIn("for a migration that this database does not know", error.detail)
                    self.query(error.hint + """ALTER TABLE "Some People" DROP prism_crypt_old_email""")
                self.query("""CALL prism_crypt.decrypt_column('"Some People"', 'email', 'varchar(60)')""")
                self.assertEqual(self.query("""SELECT count(*) FROM "Some People" WHERE email = 'p' || id || '@example.org' OR id = 1001"""), "201")


if __name__ == "__main__":
    unittest.main()
