"""Encrypted files at the limits: imports inside of imports, what stays open, two at once, odd names, rows that are hidden."""

import os
import unittest

from files_scenario import FilesScenario
from harness import PgError
from harness.penc import KEY
from harness.scenario import wait_until


class FilesLimits(FilesScenario):
    def setUp(self):
        super().setUp()
        self.query("CREATE TABLE staged (number int GENERATED ALWAYS AS IDENTITY, chunk bytea)")

    # ---- inside of each other

    def test_imports_inside_of_imports(self):
        self.query(f"""CREATE TABLE big AS SELECT g AS id, ('v' || g)::encrypted_text AS v, repeat(md5(g::text), 20) AS x FROM generate_series(1, 3000) AS g;
            CREATE TABLE cbig (number int GENERATED ALWAYS AS IDENTITY, chunk bytea); INSERT INTO cbig (chunk) SELECT prism_crypt.export_stream('big');
            CREATE TABLE csmall (number int GENERATED ALWAYS AS IDENTITY, chunk bytea); INSERT INTO csmall (chunk) SELECT prism_crypt.export_stream('(SELECT 7 AS a, ''in''::encrypted_text AS b)');
            CREATE TABLE small (a int, b encrypted_text); CREATE TABLE outer_one (LIKE big);
            CREATE FUNCTION nest(piece bytea) RETURNS bytea LANGUAGE plpgsql AS $$ BEGIN PERFORM prism_crypt.import_stream('csmall', target => 'small', mode => 'append'); RETURN piece; END $$;
            CREATE FUNCTION nest_out(piece bytea) RETURNS bytea LANGUAGE plpgsql AS $$ BEGIN PERFORM count(*) FROM prism_crypt.export_stream('small'); RETURN piece; END $$;
            CREATE FUNCTION nest_fails(piece bytea) RETURNS bytea LANGUAGE plpgsql AS $$ BEGIN
              BEGIN PERFORM prism_crypt.import_stream('csmall', target => 'nowhere', mode => 'append'); EXCEPTION WHEN OTHERS THEN END; RETURN piece; END $$;
            CREATE FUNCTION on_row() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN IF NEW.id % 1000 = 1 THEN PERFORM prism_crypt.import_stream('csmall', target => 'small', mode => 'append'); END IF; RETURN NEW; END $$""")
        pieces = int(self.query("SELECT count(*) FROM cbig"))
        self.assertGreater(pieces, 3)
        for function, times in (("nest", pieces), ("nest_out", 0), ("nest_fails", 0)):
            with self.subTest(function):
                self.query(f"TRUNCATE small, outer_one; SELECT prism_crypt.import_stream('(SELECT {function}(chunk) FROM cbig ORDER BY number)', target => 'outer_one', mode => 'append')")
                self.assertEqual(self.query("SELECT count(*) FROM outer_one JOIN big USING (id, x) WHERE outer_one.v::text = big.v::text"), "3000")
                self.assertEqual(self.query("SELECT count(*), count(*) FILTER (WHERE (a, b::text) = (7, 'in')) FROM small"), f"{times}|{times}")
        for event in ("BEFORE", "AFTER"):
            with self.subTest(event):
                self.query(f"TRUNCATE small, outer_one; CREATE TRIGGER t {event} INSERT ON outer_one FOR EACH ROW EXECUTE FUNCTION on_row(); SELECT prism_crypt.import_stream('cbig', target => 'outer_one', mode => 'append'); DROP TRIGGER t ON outer_one")
                self.assertEqual(self.query("SELECT (SELECT count(*) FROM outer_one JOIN big USING (id, x) WHERE outer_one.v::text = big.v::text), count(*) FROM small"), "3000|3")
        # An export in the query of an export; one into the target of which it reads.
        self.query("TRUNCATE staged, outer_one; INSERT INTO staged (chunk) SELECT prism_crypt.export_stream('(SELECT id, v, (SELECT count(*) FROM prism_crypt.export_stream(''small'')) AS n FROM big)'); SELECT prism_crypt.import_stream('staged', target => 'nested_out')")
        self.assertEqual(self.query("SELECT count(*), min(n), max(n) FROM nested_out"), "3000|1|1")
        # A piece from the export itself.
        self.query(f"SELECT prism_crypt.import_stream('(SELECT prism_crypt.export_stream(''big'', ''{KEY}''))', '{KEY}', 'through')")
        self.assertEqual(self.query("SELECT count(*) FROM through JOIN big USING (id, x) WHERE through.v::text = big.v::text"), "3000")

    # ---- what stays open

    def test_nothing_stays_open_in_a_transaction(self):
        session = self.session(self.db)
        session.run("CREATE TABLE big AS SELECT g AS id, repeat(md5(g::text), 30) AS x FROM generate_series(1, 3000) AS g; INSERT INTO staged (chunk) SELECT prism_crypt.export_stream('big');")
        self.assertGreater(int(session.run("SELECT count(*) FROM staged;")), 3)
        steps = {
            "an import": "SELECT prism_crypt.import_stream('staged', target => 'back');", "one of a query": "SELECT prism_crypt.import_stream('(SELECT chunk FROM staged ORDER BY number)', target => 'back_2');",
            "one that fails": "SAVEPOINT s; SELECT prism_crypt.import_stream('(SELECT chunk FROM staged ORDER BY number LIMIT 2)', target => 'back_3'); ROLLBACK TO s; RELEASE s;",
            "one that fails and is caught": "DO $$ BEGIN PERFORM prism_crypt.import_stream('(SELECT chunk FROM staged ORDER BY number LIMIT 2)', target => 'back_3'); EXCEPTION WHEN OTHERS THEN END $$;",
            "an export": "SELECT count(*) FROM prism_crypt.export_stream('big');", "an export that is not read": "SELECT octet_length(prism_crypt.export_stream('big')) LIMIT 1;",
            "one in a cursor": "DECLARE c CURSOR FOR SELECT prism_crypt.export_stream('big'); MOVE 1 FROM c; CLOSE c;", "one in EXISTS": "SELECT EXISTS (SELECT prism_crypt.export_stream('big'));",
            "one in a subtransaction": "SAVEPOINT s; DECLARE c CURSOR FOR SELECT prism_crypt.export_stream('big'); MOVE 1 FROM c; ROLLBACK TO s; RELEASE s;",
            "one whose query fails": "DO $$ BEGIN PERFORM count(*) FROM prism_crypt.export_stream('(SELECT 1 / (id - 2000) FROM big)'); EXCEPTION WHEN division_by_zero THEN END $$;",
        }
        for name, step in steps.items():
            with self.subTest(name):
                session.run(f"ROLLBACK; BEGIN; {step}", check=False)
                self.assertEqual(session.run("SELECT count(*) FROM pg_cursors;"), "0")
                self.assertEqual(session.run("SELECT count(*) FROM prism_crypt.progress WHERE kind IN ('export', 'import');"), "0")
                session.run("DROP TABLE staged, big; ROLLBACK;")
        self.assertEqual(session.run("SELECT count(*) FROM staged, big WHERE id = 1;"), session.run("SELECT count(*) FROM staged;"))

    def test_a_cursor_that_outlives_its_transaction(self):
        session = self.session(self.db)
        session.run("CREATE TABLE big AS SELECT g AS id, repeat(md5(g::text), 30) AS x FROM generate_series(1, 3000) AS g;")
        session.run("BEGIN; DECLARE c CURSOR WITH HOLD FOR SELECT octet_length(prism_crypt.export_stream('big')); FETCH 1 FROM c;")
        self.assertEqual(session.error("COMMIT;").sqlstate, "24000")
        self.assertEqual(session.run("ROLLBACK; SELECT count(*) FROM pg_cursors;").splitlines()[-1], "0")
        # One of which nothing was read is read as a whole when its transaction ends.
        session.run("BEGIN; DECLARE c CURSOR WITH HOLD FOR SELECT prism_crypt.export_stream('big'); COMMIT;")
        session.run("""DO $$ DECLARE piece bytea; r refcursor := 'c'; BEGIN LOOP FETCH NEXT FROM r INTO piece; EXIT WHEN NOT FOUND; INSERT INTO staged (chunk) VALUES (piece); END LOOP; END $$;
            CLOSE c; SELECT prism_crypt.import_stream('staged', target => 'back');""")
        self.assertEqual(session.run("SELECT count(*) FROM back JOIN big USING (id, x);"), "3000")

    # ---- two at once

    def test_races_of_modes(self):
        self.query("INSERT INTO staged (chunk) SELECT prism_crypt.export_stream('(SELECT 7 AS a)')")
        insert, imported = "INSERT INTO target VALUES (1);", "SELECT prism_crypt.import_stream('staged', target => 'target', mode => '{}');"
        for first, mode, sqlstate, rows in ((imported.format("empty"), "empty", "55000", 1), (insert, "empty", "55000", 1), (imported.format("append"), "empty", "55000", 1), (imported.format("empty"), "append", None, 2)):
            for end, expected in (("COMMIT;", sqlstate), ("ROLLBACK;", None)):
                with self.subTest(first, mode=mode, end=end):
                    self.query("DROP TABLE IF EXISTS target; CREATE TABLE target (a int)")
                    one, two = self.session(self.db), self.session(self.db)
                    backend = two.run("SELECT pg_backend_pid();")
                    one.run(f"BEGIN; {first}")
                    two.start(imported.format(mode))
                    # It waits, or it need not.
                    wait_until(lambda: self.query(f"SELECT wait_event_type = 'Lock' OR state = 'idle' FROM pg_stat_activity WHERE pid = {backend}") == "t", "it neither waits nor ends")
                    one.run(end)
                    said = two.wait(check=False)
                    self.assertEqual(PgError(said).sqlstate, expected, said)
                    self.assertEqual(self.query("SELECT count(*) FROM target"), str(rows if end == "COMMIT;" else 1))
        # Two who make the same table: one of them.
        one, two = self.session(self.db), self.session(self.db)
        one.run("BEGIN; SELECT prism_crypt.import_stream('staged', target => 'made');")
        two.start("SELECT prism_crypt.import_stream('staged', target => 'made');")
        self.cluster.wait_for("SELECT count(*) = 1 FROM pg_stat_activity WHERE wait_event_type = 'Lock'", db=self.db)
        one.run("COMMIT;")
        self.assertIn(PgError(two.wait(check=False)).sqlstate, ("42P07", "23505"))
        self.assertEqual(self.query("SELECT count(*) FROM made"), "1")

    def test_files_that_are_replaced_while_an_import_waits(self):
        """What is said of the columns, and the rows, are of one file."""
        self.query("CREATE TABLE sw (a text, b text)")
        for number, columns in enumerate(("a, b", "b, a")):
            self.query(f"SELECT prism_crypt.export_encrypted('(SELECT {columns} FROM (VALUES (''a'', ''b'')) AS v (a, b))', '{self.path(str(number))}')")
        for mode in ("append", "empty"):
            os.replace(self.path("0"), self.path("current"))
            self.query(f"SELECT prism_crypt.export_encrypted('(SELECT a, b FROM (VALUES (''a'', ''b'')) AS v (a, b))', '{self.path('0')}')")
            session, locking = self.session(self.db), self.session(self.db)
            backend = session.run("SELECT pg_backend_pid();")
            locking.run("BEGIN; LOCK TABLE sw;")
            session.start(f"SELECT prism_crypt.import_encrypted('{self.path('current')}', target => 'sw', mode => '{mode}');")
            wait_until(lambda: self.query(f"SELECT wait_event_type FROM pg_stat_activity WHERE pid = {backend}") == "Lock", "it does not wait")
            self.query(f"SELECT prism_crypt.export_encrypted('(SELECT b, a FROM (VALUES (''a'', ''b'')) AS v (a, b))', '{self.path('current')}', overwrite => true)")
            locking.run("COMMIT;")
            session.wait()
            self.assertEqual(self.query("SELECT * FROM sw"), "a|b")
            self.query("TRUNCATE sw")
        # A query that gives another file each time.
        self.query("""CREATE SEQUENCE turns; CREATE TABLE sides (n int, chunk bytea); INSERT INTO sides SELECT 0, string_agg(p, NULL) FROM prism_crypt.export_stream('(SELECT a, b FROM (VALUES (''a'', ''b'')) AS v (a, b))') AS p;
            INSERT INTO sides SELECT 1, string_agg(p, NULL) FROM prism_crypt.export_stream('(SELECT b, a FROM (VALUES (''a'', ''b'')) AS v (a, b))') AS p;
            CREATE FUNCTION flip() RETURNS bytea LANGUAGE sql VOLATILE AS 'SELECT chunk FROM sides WHERE n = (SELECT nextval(''turns'') % 2)'""")
        for _ in range(2):
            self.query("SELECT prism_crypt.import_stream('(SELECT flip())', target => 'sw', mode => 'append')")
        self.assertEqual(self.query("SELECT DISTINCT a, b FROM sw"), "a|b")
        self.assertEqual(self.query("SELECT last_value FROM turns"), "2")

    # ---- names and notices

    def test_names_of_targets_and_paths(self):
        self.query("INSERT INTO staged (chunk) SELECT prism_crypt.export_stream('(SELECT 7 AS a)'); CREATE TABLE here (a int)")
        for target in (f"{self.db}.public.made", "a.b.c.d", "other_db.public.here", "", ".", "public.", ".here"):
            for mode in ("new", "append", "empty"):
                with self.subTest(target, mode=mode):
                    error = self.cluster.error(f"SELECT prism_crypt.import_stream('staged', target => '{target}', mode => '{mode}')", db=self.db)
                    # PostgreSQL knows its own database by name, in which there is no such table.
                    own = ("42P01",) if mode != "new" and target.startswith(self.db) else ()
                    self.assertIn(error.sqlstate, ("42601", "42602", "0A000", "22023", *own), error)
        self.assertEqual(self.query("SELECT count(*) FROM here"), "0")
        for path in (f"{self.directory}/", f"{self.path('x')}/", f"{self.directory}/.", f"{self.directory}/..", "/", ""):
            with self.subTest(path):
                self.cluster.error(f"SELECT prism_crypt.export_encrypted('here', '{path}')", db=self.db)
                self.cluster.error(f"SELECT prism_crypt.export_encrypted('here', '{path}', overwrite => true)", db=self.db)
        self.assertEqual(os.listdir(self.directory), [])

    def test_a_warning_of_rows_that_are_hidden(self):
        self.query("""CREATE ROLE partial LOGIN; SELECT prism_crypt.grant_access('partial', 'export'); CREATE TABLE rowed (a int); INSERT INTO rowed VALUES (1), (2); GRANT SELECT ON rowed TO partial; ALTER TABLE rowed ENABLE ROW LEVEL SECURITY;
            CREATE POLICY p ON rowed USING (a = 1); CREATE TABLE open_one (a int); GRANT SELECT ON open_one TO partial; CREATE VIEW over AS SELECT * FROM rowed; GRANT SELECT ON over TO partial""")
        self.addCleanup(self.query, "DROP OWNED BY partial; DROP ROLE partial")
        warned = lambda source, user: "WARNING" in self.cluster.run_psql(f"SELECT count(*) FROM prism_crypt.export_stream('{source}', '{KEY}')", user=user, db=self.db).stderr
        seen = {(source, user): warned(source, user) for source in ("rowed", "(SELECT * FROM rowed)", "(SELECT 1 AS x FROM open_one, rowed)", "open_one") for user in ("partial", "postgres")}
        self.assertEqual(seen, {(source, user): user == "partial" and "rowed" in source for source, user in seen})
        self.assertEqual(self.cluster.error(f"SET row_security = off; SELECT count(*) FROM prism_crypt.export_stream('rowed', '{KEY}')", user="partial", db=self.db).sqlstate, "42501")

    def test_read_only_transactions_and_values_with_a_context(self):
        self.query("CREATE TABLE here (a int); CREATE TABLE bound AS SELECT 1 AS id, encrypt_field('x', 'context') AS v")
        self.query(f"BEGIN READ ONLY; SELECT prism_crypt.export_encrypted('here', '{self.path()}'); SELECT count(*) FROM prism_crypt.export_stream('here'); COMMIT")
        self.refused(f"BEGIN READ ONLY; SELECT prism_crypt.import_encrypted('{self.path()}', target => 'here', mode => 'append')", "25006")
        # They can't be opened without it: nothing of them is left out in silence.
        self.refused(f"SELECT prism_crypt.export_encrypted('bound', '{self.path('bound')}')", "39000")
        self.assertEqual(os.listdir(self.directory), ["file.penc"])


if __name__ == "__main__":
    unittest.main()
