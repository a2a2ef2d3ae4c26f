"""What others see of exports and imports: progress, the audit log, the server log. And exports where nothing can be written."""

import os
import unittest

from harness import paths
from harness.scenario import Scenario, wait_until

SCHEMA = """
    CREATE FUNCTION gate(number int, every int) RETURNS int LANGUAGE plpgsql AS $$
      BEGIN IF number % every = 0 THEN PERFORM pg_advisory_xact_lock_shared(77); END IF; RETURN number; END $$;
    CREATE TABLE people AS SELECT g AS id, ('person ' || g)::encrypted_text AS name, repeat('x', 400) AS filler FROM generate_series(1, 3000) AS g;
    CREATE VIEW slow AS SELECT gate(id, 2900) AS id, name, filler FROM people;
    ANALYZE people"""
RUNNING = "SELECT kind, target, state, workers, rows_done > 0, id IS NULL AND finished_at IS NULL AND started_at < clock_timestamp(), created_by FROM prism_crypt.progress"
AUDIT = "SELECT role, event, detail FROM prism_crypt.audit_log WHERE event ~ 'port|stream' ORDER BY id"


class FilesWatched(Scenario):
    preload = True
    maxDiff = None

    def setUp(self):
        self.db = self.database(self.id().rpartition(".")[2][:60])
        self.directory = self.cluster.home / f"files-{self.db}"
        self.directory.mkdir()
        paths.give_to_server(self.directory)
        self.query(SCHEMA)

    def query(self, sql, **how):
        return self.cluster.psql(sql, db=self.db, **how)

    def path(self, name="file.penc"):
        return f"{self.directory}/{name}"

    def logged(self):
        return [line.partition("LOG:  ")[2] for line in self.cluster.log().splitlines() if "LOG:  export_" in line or "LOG:  import_" in line]

    def while_waiting(self, call, see):
        """Calls see while the call waits at the gate, with the process that waits."""
        gate = self.session(self.db)
        gate.run("BEGIN; SELECT pg_advisory_xact_lock(77);")
        session = self.session(self.db)
        backend = session.run("SELECT pg_backend_pid();")
        session.start(call)
        wait_until(lambda: self.query(f"SELECT wait_event FROM pg_stat_activity WHERE pid = {backend}") == "advisory", "the call does not come to the gate")
        see(backend)
        gate.run("COMMIT;")
        session.wait()

    def test_progress(self):
        self.query("""CREATE ROLE watching LOGIN; CREATE ROLE other LOGIN; SELECT prism_crypt.grant_access('watching', 'monitor'), prism_crypt.grant_access('other', 'rotate');
            CREATE TABLE target (LIKE people);
            CREATE FUNCTION at_gate() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN PERFORM gate(NEW.id, 2900); RETURN NEW; END $$;
            CREATE TRIGGER at_gate BEFORE INSERT ON target FOR EACH ROW EXECUTE FUNCTION at_gate()""")
        self.addCleanup(self.query, "DROP OWNED BY watching, other; DROP ROLE watching, other")

        def running(kind, target):
            def see(backend):
                for user in ("postgres", "watching"):
                    self.assertEqual(self.query(RUNNING, user=user), f"{kind}|{target}|running|{{{backend}}}|t|t|postgres")
                self.assertEqual(self.query(RUNNING, user="other"), "")
                # PostgreSQL's own view has it, too.
                self.assertEqual(self.query(f"SELECT count(*) FROM pg_stat_progress_copy WHERE pid = {backend} AND tuples_processed > 1000"), "1")
            return see

        self.while_waiting(f"SELECT prism_crypt.export_encrypted('slow', '{self.path()}');", running("export", "public.slow"))

        def exporting_query(backend):
            running("export", "query")(backend)
            # Nobody knows how many there are.
            self.assertEqual(self.query("SELECT rows_estimate IS NULL AND percent IS NULL AND eta IS NULL FROM prism_crypt.progress"), "t")

        self.while_waiting(f"SELECT prism_crypt.export_encrypted('(SELECT gate(id, 2900), name FROM people)', '{self.path('q')}');", exporting_query)

        def importing(backend):
            running("import", "public.target")(backend)
            self.assertEqual(self.query("SELECT percent BETWEEN 50 AND 99.9, eta IS NOT NULL FROM prism_crypt.progress"), "t|t")

        self.while_waiting(f"SELECT prism_crypt.import_encrypted('{self.path()}', target => 'target', mode => 'append');", importing)
        self.assertEqual(self.query(RUNNING), "")

    def test_progress_of_streams(self):
        session = self.session(self.db)
        session.run("BEGIN; DECLARE c CURSOR FOR SELECT prism_crypt.export_stream('people');")
        session.run("MOVE 1 FROM c;")
        self.assertEqual(self.query("SELECT kind, target, rows_estimate, percent BETWEEN 1 AND 99 FROM prism_crypt.progress"), "export|public.people|3000|t")
        # One that nobody reads to the end, and one that ends with an error.
        session.run("CLOSE c;")
        self.assertEqual(self.query(RUNNING), "")
        session.run("DECLARE c CURSOR FOR SELECT prism_crypt.export_stream('(SELECT 1 / (2500 - id) AS x, filler FROM people)');")
        session.run("MOVE 1 FROM c;")
        self.assertEqual(self.query("SELECT kind, target FROM prism_crypt.progress"), "export|query")
        session.run("MOVE ALL FROM c;", check=False)
        session.run("ROLLBACK;")
        self.assertEqual(self.query(RUNNING), "")

    def test_the_audit_log(self):
        key = "07" * 32
        self.query("CREATE ROLE taker LOGIN SUPERUSER; CREATE VIEW few AS SELECT p.id, p.name FROM people AS p WHERE id < 11")
        self.addCleanup(self.query, "DROP OWNED BY taker; DROP ROLE taker")
        self.query(f"SELECT prism_crypt.export_encrypted('few', '{self.path()}')", user="taker")
        self.query(f"SELECT prism_crypt.export_encrypted($$(SELECT id, 'of-the-query' AS x FROM people WHERE id < 6)$$, '{self.path('q')}', key => '{key}')", user="taker")
        self.query("CREATE TABLE staged (number int GENERATED ALWAYS AS IDENTITY, chunk bytea); INSERT INTO staged (chunk) SELECT prism_crypt.export_stream('(SELECT 1 AS a)')", user="taker")
        self.query(f"SELECT prism_crypt.import_encrypted('{self.path()}', target => 'back'); SELECT prism_crypt.import_stream('staged', target => 'one')", user="taker")
        expected = [
            ("export_encrypted", f"10 rows of public.few, public.people to {self.path()}, key: master"),
            ("export_encrypted", f"5 rows of public.people to {self.path('q')}, key: given"),
            ("export_stream", "no table to the client, key: master"),
            ("import_encrypted", f"10 rows of {self.path()} to public.back"),
            ("import_stream", "1 rows of a stream to public.one")]
        self.assertEqual(self.query(AUDIT), "\n".join(f"taker|{event}|{detail}" for event, detail in expected))
        self.assertEqual(self.logged()[-5:], [f"{event}: {detail}" for event, detail in expected])
        # A rollback takes rows back, but not what the server's log has.
        self.query("BEGIN; SELECT count(*) FROM prism_crypt.export_stream('few'); ROLLBACK")
        self.assertEqual(len(self.query(AUDIT).splitlines()), 5)
        self.assertEqual(self.logged()[-1], "export_stream: public.few, public.people to the client, key: master")
        # What is in a query is in neither.
        for secret in ("of-the-query", key):
            self.assertNotIn(secret, self.query("SELECT a::text FROM prism_crypt.audit_log AS a"))
            self.assertNotIn(secret, "\n".join(self.logged()))

    def test_keysets_and_keys(self):
        """The session's keyset is that of the import; others are told of. Ciphertext says which keys it needs."""
        self.query("""SELECT prism_crypt.create_keyset('tenant'); SET prism_crypt.keyset = 'tenant'; INSERT INTO people VALUES (4000, 'of a tenant')""")
        warning = "values of another keyset than the session's were exported"
        export = "SELECT count(*) FROM prism_crypt.export_stream('{}')"
        for keyset, source, warns in (("default", "people", True), ("default", "(SELECT * FROM people WHERE id < 4000)", False), ("default", "(SELECT id FROM people)", False),
                                      ("tenant", "(SELECT * FROM people WHERE id = 4000)", False), ("tenant", "people", True)):
            with self.subTest(f"{keyset} {source}"):
                said = self.cluster.run_psql(f"SET prism_crypt.keyset = '{keyset}'; {export.format(source)}", db=self.db).stderr
                self.assertEqual(warning in said, warns, said)
        self.query("CREATE ROLE sealed LOGIN; GRANT SELECT ON people TO sealed; SELECT prism_crypt.grant_access('sealed', 'export')")
        self.addCleanup(self.query, "DROP OWNED BY sealed; DROP ROLE sealed")
        said = self.cluster.run_psql(export.format("people"), user="sealed", db=self.db).stderr
        self.assertIn("encrypted columns travel as ciphertext, which needs these key versions: [1, 2]", said)
        # In a database that has one of the two.
        other = self.database("of_one_key")
        pieces = self.query("SELECT encode(string_agg(p, ''), 'hex') FROM prism_crypt.export_stream('people') AS p", user="sealed")
        done = self.cluster.run_psql(f"CREATE TABLE staged AS SELECT 1 AS number, '\\x{pieces}'::bytea AS chunk; SELECT prism_crypt.import_stream('staged')", db=other)
        self.assertIn("WARNING:  values of the file need keys that are not in this database: versions 2\n", done.stderr)
        done = self.cluster.run_psql("SELECT prism_crypt.rotate_key(); SELECT prism_crypt.import_stream('staged', mode => 'append')", db=other)
        self.assertNotIn("WARNING", done.stderr)

    def test_encrypted_defaults(self):
        """Another database can't open the constant in one."""
        self.query("CREATE TABLE filled (id int DEFAULT 7, name encrypted_text DEFAULT 'hush', note text DEFAULT 'open')")
        export = "SELECT encode(string_agg(p, ''), 'hex') FROM prism_crypt.export_stream('filled') AS p"
        done = self.cluster.run_psql(export, db=self.db)
        other = self.database("of_other_keys")
        said = self.cluster.run_psql(f"CREATE TABLE staged AS SELECT 1 AS number, '\\x{done.stdout.strip()}'::bytea AS chunk; SELECT prism_crypt.import_stream('staged'); INSERT INTO filled VALUES (DEFAULT, DEFAULT, DEFAULT)", db=other).stderr
        self.assertIn('WARNING:  column "name" gets no default: the keys of this database do not open the constant in it\n', said)
        self.assertEqual(self.cluster.psql("SELECT id, name, note FROM filled", db=other), "7||open")
        self.query(f"CREATE TABLE staged AS SELECT 1 AS number, '\\x{done.stdout.strip()}'::bytea AS chunk; SELECT prism_crypt.import_stream('staged', target => 'again'); INSERT INTO again VALUES (DEFAULT, DEFAULT, DEFAULT)")
        self.assertEqual(self.query("SELECT id, decrypt_field(name), note FROM again"), "7|hush|open")

    def test_where_nothing_can_be_written(self):
        self.query(f"BEGIN READ ONLY; SELECT prism_crypt.export_encrypted('(SELECT id, name FROM people WHERE id < 3)', '{self.path()}'); COMMIT")
        self.assertEqual(self.query(AUDIT), "")
        self.assertEqual(self.logged()[-1], f"export_encrypted: 2 rows of public.people to {self.path()}, key: master")
        error = self.cluster.error(f"BEGIN READ ONLY; SELECT prism_crypt.import_encrypted('{self.path()}', target => 'people', mode => 'append')", db=self.db)
        self.assertEqual(error.sqlstate, "25006")
        standby = self.cluster.standby().start()
        self.addCleanup(standby.stop)
        self.cluster.wait_caught_up(standby)
        for number, source in enumerate(("people", "(SELECT id, name FROM people)")):
            standby.psql(f"SELECT prism_crypt.export_encrypted('{source}', '{self.path(str(number))}')", db=self.db)
            self.assertEqual(standby.psql(f"SELECT sum(length(p)) > 10000 FROM prism_crypt.export_stream('{source}') AS p", db=self.db), "t")
            self.query(f"SELECT prism_crypt.import_encrypted('{self.path(str(number))}', target => 'copy_{number}')")
            self.assertEqual(self.query(f"SELECT count(*) FROM copy_{number} JOIN people AS p USING (id) WHERE p.name::text = copy_{number}.name::text"), "3000")
        self.assertEqual(sorted(os.listdir(self.directory)), ["0", "1", "file.penc"])


if __name__ == "__main__":
    unittest.main()
