"""No way of loading lines shows them: neither to the client, nor to the log, nor to a function that catches the error."""

import re
import unittest

from copy_ways import ALL, EMAIL, INPUTS, NUMBER, SCHEMA, TYPES
from harness import canaries, paths
from harness.scenario import Scenario

SECRETS = [*canaries.PLAINTEXTS.values(), NUMBER]
# Everything that a handler can ask of an error.
CATCH = """
    DO $do$
    DECLARE message text; detail text; hint text; context text; state text; constr text; tab text;
    BEGIN
      BEGIN
        EXECUTE $c$ {copy} $c$;
      EXCEPTION WHEN OTHERS THEN
        GET STACKED DIAGNOSTICS message = MESSAGE_TEXT, detail = PG_EXCEPTION_DETAIL, hint = PG_EXCEPTION_HINT,
          context = PG_EXCEPTION_CONTEXT, state = RETURNED_SQLSTATE, constr = CONSTRAINT_NAME, tab = TABLE_NAME;
        RAISE NOTICE 'caught % and %', SQLERRM, ARRAY[message, detail, hint, context, state, constr, tab];
        {then}
      END;
    END $do$;
"""


class CopyLeaks(Scenario):
    preload = True
    # The client is sent more than is logged, as by default.
    conf = {"log_error_verbosity": "verbose", "log_min_messages": "warning"}

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.db = cls.database("copies")
        cls.cluster.psql(SCHEMA, db=cls.db)
        cls.file = cls.cluster.write_file("lines", f"1\t{ALL[0]}\n2\t{ALL[1]}\t7\n", 0o644)

    def setUp(self):
        self.log_before = len(self.cluster.log())

    def said(self, script, db=None):
        """What the client is told of a script, which goes on after errors. Neither it nor the log shows a line."""
        # Each way in a session of its own: without preloading the first statement is the one that matters.
        settings = "\\set SHOW_CONTEXT always\n\\set ON_ERROR_STOP off\n"
        result = self.cluster.run_psql(settings + script, db=db or self.db, check=False, verbose=True)
        text = result.stdout + result.stderr
        log = self.cluster.log()
        new, self.log_before = log[self.log_before:], len(log)
        for what, shown in (("the client", text), ("the log", new)):
            self.assertEqual([name for name, secret in enumerate(SECRETS) if secret in shown], [], f"{what} is shown a line")
        return text

    def fails(self, script, sqlstate, place, **kw):
        text = self.said(script, **kw)
        self.assertRegex(text, rf"ERROR:  {sqlstate or '[0-9A-Z]{5}'}: ")
        self.assertRegex(text, place)
        return text

    def test_each_type_that_holds_the_type(self):
        for number, (column, value) in enumerate(TYPES.items()):
            with self.subTest(column):
                self.cluster.psql(f"CREATE TABLE of_{number} (id int, v {column})", db=self.db)
                line = rf"COPY of_{number}, line 1: withheld by prism_crypt"
                self.fails(f"COPY of_{number} FROM STDIN;\n1\t{value}\t{EMAIL}\n\\.\n", "22P04", line)
                self.fails(f"COPY of_{number} (v, id) FROM STDIN;\n{value}\t{EMAIL}\n\\.\n", "22P02", rf"COPY of_{number}, line 1, column id: withheld")

    def test_types_nested_without_end(self):
        script = "CREATE DOMAIN d0 AS encrypted_text;" + "".join(f"CREATE DOMAIN d{n} AS d{n - 1}[];" for n in range(1, 200))
        wide = "CREATE TYPE w0 AS (a int, b int);" + "".join(f"CREATE TYPE w{n} AS (a w{n - 1}, b w{n - 1});" for n in range(1, 15))
        self.cluster.psql(f"{script} {wide} CREATE TABLE nested (id int, v d199); CREATE TABLE wide (id int, v w14)", db=self.db)
        self.fails(f"COPY nested FROM STDIN;\n{EMAIL}\t\\N\n\\.\n", "22P02", "COPY nested, line 1, column id: withheld")
        self.assertIn('COPY wide, line 1: "1\t\\N\twombat"', self.said("COPY wide FROM STDIN;\n1\t\\N\twombat\n\\.\n"))

    def test_what_the_messages_of_other_types_quote(self):
        self.cluster.psql("CREATE TYPE mood AS ENUM ('glad')", db=self.db)
        for number, (name, (column, value, sqlstate)) in enumerate(INPUTS.items()):
            with self.subTest(name):
                self.cluster.psql(f"CREATE TABLE beside_{number} (c {column}, v encrypted_text)", db=self.db)
                self.fails(f"COPY beside_{number} FROM STDIN;\n{value}\t{EMAIL}\n\\.\n", sqlstate, r"CONTEXT:  \w")

    def test_a_header_that_is_none(self):
        if self.cluster.psql("SHOW server_version_num") >= "150000":
            self.fails(f"COPY t FROM STDIN (HEADER match);\n{EMAIL}\t{EMAIL}\n\\.\n", "22P04", "COPY t, line 1")

    def test_a_trigger_that_runs_a_utility_statement(self):
        self.fails(f"COPY own FROM STDIN;\n1\tgood\n2\t{EMAIL}\t7\n\\.\n", "22P04", "COPY own, line 2: withheld")

    def test_files_and_programs(self):
        for source in (f"'{self.file}'", f"PROGRAM 'cat {self.file}'"):
            for table in ("t", "own", "parts", "parts_1_1", "child (id, v)"):
                with self.subTest(f"{table} {source}"):
                    name = table.split()[0]
                    self.fails(f"COPY {table} FROM {source};", "22P04", f"COPY {name}, line 2: withheld")

    def test_partitions_and_children(self):
        for table in ("parts", "parts_1", "parts_1_1", "child (id, v)"):
            with self.subTest(table):
                self.fails(f"COPY {table} FROM STDIN;\n{EMAIL}\t1\n\\.\n", "22P02", "column id: withheld by prism_crypt")
        self.fails(f"COPY parts FROM STDIN;\n70\t{EMAIL}\n\\.\n", "23514", "COPY parts, line 1: withheld")

    def test_functions_that_catch_the_error(self):
        copy = f"COPY own FROM '{self.file}'"
        text = self.said(CATCH.format(copy=copy, then=""))
        self.assertRegex(text, r"caught extra data after last expected column and .*COPY own, line 2: withheld")
        for then, sqlstate in (("RAISE;", "22P04"), ("RAISE EXCEPTION '%', message || context;", "P0001"), ("RAISE EXCEPTION USING DETAIL = context;", "P0001")):
            with self.subTest(then):
                self.fails(CATCH.format(copy=copy, then=then), sqlstate, "withheld by prism_crypt")
        # Caught outside of another block, and in the function of a trigger.
        self.fails(f"DO $$ BEGIN BEGIN {copy}; EXCEPTION WHEN division_by_zero THEN NULL; END; END $$;", "22P04", "COPY own, line 2: withheld")

    def test_nested_copies(self):
        self.cluster.psql(f"""
            CREATE TABLE outer_t (id int, v encrypted_text);
            CREATE FUNCTION copies() RETURNS trigger LANGUAGE plpgsql AS $$
            BEGIN
              IF NEW.id = 1 THEN COPY plain FROM PROGRAM 'echo 1'; ELSIF NEW.id = 2 THEN COPY own FROM '{self.file}'; END IF;
              RETURN NEW;
            EXCEPTION WHEN OTHERS THEN
              RAISE NOTICE 'caught %', SQLERRM; RETURN NEW;
            END $$;
            CREATE TABLE plain_outer (id int, v text);
            CREATE TRIGGER copies BEFORE INSERT ON outer_t FOR EACH ROW EXECUTE FUNCTION copies();
            CREATE TRIGGER copies BEFORE INSERT ON plain_outer FOR EACH ROW EXECUTE FUNCTION copies();""", db=self.db)
        text = self.fails(f"COPY outer_t FROM STDIN;\n1\tx\n2\ty\n3\t{EMAIL}\t7\n\\.\n", "22P04", "COPY outer_t, line 3: withheld")
        self.assertEqual(text.count("NOTICE:  00000: caught"), 2)
        # The inner one is over, with its error, when the outer one fails.
        text = self.said("COPY plain_outer FROM STDIN;\n2\tx\n3\twombat\t7\n\\.\n")
        self.assertIn('COPY plain_outer, line 2: "3\twombat\t7"', text)

    def test_savepoints(self):
        text = self.said(f"""
            BEGIN; SAVEPOINT s; COPY own FROM '{self.file}'; ROLLBACK TO s;
            COPY plain FROM STDIN;\n1\tx\twombat\n\\.
            ROLLBACK TO s; COPY t FROM '{self.file}'; ROLLBACK;""")
        self.assertEqual(re.findall(r"CONTEXT:  (.*)", text), ["COPY own, line 2: withheld by prism_crypt", 'COPY plain, line 1: "1\tx\twombat"', "COPY t, line 2: withheld by prism_crypt"])

    def test_messages_that_are_no_errors(self):
        text = self.said(f"COPY talks FROM STDIN;\n1\t{EMAIL}\n\\.\nSHOW log_min_messages;")
        for said in ("NOTICE:  00000: a notice", "WARNING:  01000: a warning", "INFO:  00000: an info"):
            self.assertIn(said, text)
        self.assertIn(self.cluster.psql("SHOW log_min_messages"), text.splitlines())
        if self.preload:
            self.assertIn("COPY talks, line 1: withheld by prism_crypt", text)

    def test_what_is_not_to_be_logged_is_not(self):
        log = len(self.cluster.log())
        text = self.said(f"SET log_min_messages = 'panic'; COPY talks FROM STDIN;\n1\t{EMAIL}\n2\t{EMAIL}\t7\n\\.\nSHOW log_min_messages;")
        self.assertIn("COPY talks, line 2: withheld", text)
        self.assertIn("panic", text)
        self.assertIsNone(re.search("(NOTICE|WARNING|INFO|ERROR): ", self.cluster.log()[log:]))

    def test_a_session_that_is_ended(self):
        self.cluster.psql("""
            CREATE TABLE ends (id int, v encrypted_text);
            CREATE FUNCTION ends() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN PERFORM pg_terminate_backend(pg_backend_pid()); PERFORM pg_sleep(60); RETURN NEW; END $$;
            CREATE TRIGGER ends BEFORE INSERT ON ends FOR EACH ROW EXECUTE FUNCTION ends()""", db=self.db)
        log = len(self.cluster.log())
        self.said(f"COPY ends FROM STDIN;\n1\t{EMAIL}\n\\.\n")
        self.assertRegex(self.cluster.log()[log:], r"(?s)FATAL:  57P01.*COPY ends, line 1: withheld by prism_crypt")

    @unittest.skipIf(paths.PG_MAJOR < 17, "ON_ERROR came with PostgreSQL 17")
    def test_rows_that_are_skipped(self):
        for table in ("t", "own", "parts", "unique_id"):
            # Messages that are no errors are withheld where the library was there before the statement.
            text = self.said(f"\\echo {table}\nCOPY {table} FROM STDIN (ON_ERROR ignore, LOG_VERBOSITY verbose);\n{EMAIL}\tx\n7\ty\n{EMAIL}\t{EMAIL}\n\\.\n")
            self.assertEqual(re.findall('NOTICE:  00000: skipping row .* at line (.*)', text), [f'{line} for column "id": withheld by prism_crypt' for line in (1, 3)], table)
        if paths.PG_MAJOR >= 18:
            self.fails(f"\\echo t\nCOPY t FROM STDIN (ON_ERROR ignore, REJECT_LIMIT 1, LOG_VERBOSITY verbose);\n{EMAIL}\tx\n{EMAIL}\ty\n\\.\n", "22P02", "COPY t, line 2, column id: ")

    def test_errverbose(self):
        text = self.said(f"COPY own FROM '{self.file}';\n\\errverbose\n")
        self.assertEqual(text.count("COPY own, line 2: withheld"), 2)

    def test_other_fields_of_the_error_are_kept(self):
        text = self.fails(f"COPY t FROM STDIN;\n500\t{EMAIL}\n\\.\n", "23514", r"DETAIL:  Failing row contains \(500, prism:v1:")
        for field in ("SCHEMA NAME:  public", "TABLE NAME:  t", "CONSTRAINT NAME:  t_id_check", "LOCATION:  ExecConstraints, execMain.c"):
            self.assertIn(field, text)
        text = self.fails(f"COPY unique_id FROM STDIN;\n5\t{EMAIL}\n5\t{EMAIL}\n\\.\n", "23505", r"DETAIL:  Key \(id\)=\(5\) already exists")
        self.assertIn("CONSTRAINT NAME:  unique_id_pkey", text)
        # An error of the extension itself, whose place is not a constant of C.
        text = self.fails(f"SET prism_crypt.master_key_file = ''; COPY t FROM STDIN;\n5\t{EMAIL}\n\\.\n", "55000", "LOCATION:  prism_crypt, error.rs")
        for mode in ("plaintext", "masked"):
            self.said(f"SET prism_crypt.output = '{mode}'; COPY t FROM STDIN;\n500\t{EMAIL}\n\\.\n")

    def test_what_comes_after_shows_its_context(self):
        for before in (f"COPY own FROM '{self.file}';", f"COPY t FROM STDIN;\n500\t{EMAIL}\n\\.", CATCH.format(copy=f"COPY own FROM '{self.file}'", then="")):
            text = self.said(f"{before}\nCOPY plain FROM STDIN;\nwombat\tx\n\\.\nDO $$ BEGIN RAISE EXCEPTION 'said: \"wallaby\"'; END $$;")
            self.assertIn('COPY plain, line 1, column id: "wombat"', text)
            self.assertIn('22P02: invalid input syntax for type integer: "wombat"', text)
            self.assertIn('said: "wallaby"', text)


class CopyLeaksLogged(CopyLeaks):
    """Where PostgreSQL logs all of it."""

    conf = {"log_error_verbosity": "verbose", "log_min_messages": "debug1", "log_min_error_statement": "debug1"}


class CopyLeaksNotPreloaded(CopyLeaks):
    """A COPY into a column of the type itself loads the library. What is shown before there is one is out of reach."""

    preload = False

    def said(self, script, db=None):
        if not re.match(r"COPY (t|own|unique_id|of_0|parts\w*|child|beside_\d+) ", script):
            script = "SELECT count(*) FROM prism_crypt.status();\n" + script
        return super().said(script, db)


class InitialCopy(Scenario):
    """The initial copy of a subscribed table is no statement."""

    conf = {"wal_level": "'logical'", "wal_retrieve_retry_interval": "'200ms'", "log_error_verbosity": "verbose"}

    def test_a_line_that_the_subscriber_refuses(self):
        publisher = self.cluster.create_db("publisher")
        self.cluster.psql(f"CREATE TABLE t (id text, v text); COPY t FROM STDIN;\n{EMAIL}\t{ALL[1]}\n\\.\nCREATE PUBLICATION p FOR TABLE t; SELECT pg_create_logical_replication_slot('s', 'pgoutput')", db=publisher)
        subscriber = self.database("subscriber")
        self.cluster.psql(
            "CREATE TABLE t (id int, v encrypted_text);"
            f"CREATE SUBSCRIPTION s CONNECTION 'host={self.cluster.socket} port={self.cluster.port} dbname=publisher user=postgres' "
            "PUBLICATION p WITH (create_slot = false)", db=subscriber)
        self.addCleanup(self.cluster.psql, "ALTER SUBSCRIPTION s DISABLE; ALTER SUBSCRIPTION s SET (slot_name = NONE); DROP SUBSCRIPTION s", db=subscriber)
        self.cluster.wait_for("SELECT count(*) > 0 FROM pg_subscription_rel WHERE srsubstate = 'd'", db=subscriber)
        log = self.cluster.log
        for _ in range(200):
            if "COPY t, line 1" in log():
                break
            self.cluster.psql("SELECT pg_sleep(0.1)")
        self.assertIn("COPY t, line 1, column id: withheld by prism_crypt", log())
        self.assertEqual([name for name, secret in enumerate(SECRETS) if secret in log()], [], "the log shows a line")


if __name__ == "__main__":
    unittest.main()
