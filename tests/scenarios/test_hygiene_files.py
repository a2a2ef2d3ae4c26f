"""The key of a file, an argument of a function, shows nowhere: not in logs, activity, statistics of statements, errors."""

import contextlib
import json
import re
import secrets
import unittest

from file_key_statements import FAILS, NAMELESS, NAMELESS_BOUND, NAMELESS_FAILS, SHOWN, WORKS, filled
from harness import PgError, paths
from harness.libpq import Connection
from harness.scenario import Scenario, files_with, wait_until
from key_statements import MARKS, TRACKING, forms_of, new_key
from test_hygiene_keys import SECRET_SETTINGS

MARKED = tuple(MARKS.values())


class Attempts:
    """Each way has its own key, and what shows something of it is kept."""

    preload = True
    conf = {**SECRET_SETTINGS, **TRACKING, "shared_preload_libraries": "'pg_stat_statements, prism_crypt, auto_explain'"}

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.directory = cls.cluster.home / "files"
        cls.directory.mkdir()
        paths.give_to_server(cls.directory)
        cls.db = cls.database("files")
        cls.cluster.psql(
            "CREATE EXTENSION pg_stat_statements; CREATE TABLE clients AS SELECT i AS id, ('client ' || i)::encrypted_text AS v FROM generate_series(1, 3) AS i;"
            "CREATE ROLE nobody_special; GRANT USAGE ON SCHEMA prism_crypt TO nobody_special; CREATE SCHEMA prism_crypt_test;"
            "CREATE FUNCTION prism_crypt_test.asks(path text, k text) RETURNS jsonb LANGUAGE plpgsql AS "
            "$$ BEGIN RETURN prism_crypt.export_encrypted('nowhere', path, k); END $$", db=cls.db)
        # {name of the attempt: its key}, {name: the error or None}, {name: {what showed something of it: text}}
        cls.keys, cls.outcomes, cls.shown, cls.names = {}, {}, {}, {}
        with Connection(cls.cluster, db=cls.db) as monitor:
            for number, (name, attempt) in enumerate(cls.attempts()):
                cls.keys[name] = key = new_key()
                cls.names[name] = {"path": f"{cls.directory}/{number}.penc", "file": f"{cls.directory}/{number}.made.penc"}
                with Connection(cls.cluster, db=cls.db, options="-c log_min_messages=panic") as maker:
                    maker.execute(f"SELECT prism_crypt.export_encrypted('clients', '{cls.names[name]['file']}', '{key}')")
                with Connection(cls.cluster, db=cls.db) as conn:
                    try:
                        attempt(conn, key, cls.names[name])
                        cls.outcomes[name] = None
                    except PgError as error:
                        cls.outcomes[name] = error
                    activity = monitor.execute("SELECT coalesce(query, '') FROM pg_stat_activity WHERE pid = $1::int", conn.pid)[0][0]
                    cls.shown[name] = {"notices": "\n".join(conn.notices), "pg_stat_activity": activity}
                if cls.outcomes[name]:
                    # A client may be shown the line of its own statement that has an error.
                    cls.shown[name]["error"] = re.sub(r"^LINE \d+:.*\n.*\n", "", cls.outcomes[name].text, flags=re.M)
        cls.control = secrets.token_hex(16)
        cls.cluster.psql(f"SELECT 'the end {cls.control}' AS control", db=cls.db)
        wait_until(lambda: len(cls.files_with(cls.control.encode())) == 3, "the control is not logged in all formats")

    @classmethod
    def attempts(cls):
        return [*cls.works.items(), *((f"failing: {name}", attempt) for name, attempt in cls.fails.items())]

    @classmethod
    def files_with(cls, secret):
        return files_with(cls.cluster.data / "log", {"it": secret}).get("it", [])

    @classmethod
    def log(cls, kind="log"):
        return "".join(path.read_text(errors="replace") for path in (cls.cluster.data / "log").glob(f"*.{kind}"))

    def showing(self, text):
        """The attempts whose key a text shows, each with how."""
        if isinstance(text, str):
            text = text.encode()
        if not any(mark in text for mark in MARKED):
            return {}
        found = {}
        for name, key in self.keys.items():
            # No form of 15 bytes ends inside a base64 group; shorter keys begin with these, too.
            if forms := [form for form, secret in forms_of(bytes.fromhex(key)[:15]).items() if secret in text]:
                found[name] = forms
        return found or {"(unknown)": [form for form, mark in MARKS.items() if mark in text]}

    def assert_nowhere(self, what, found):
        # Not assertEqual: nothing of the text is to be printed.
        if found:
            self.fail(f"{what} shows keys of:\n" + "\n".join(f"  {name}: {how}" for name, how in found.items()))

    def test_each_does_what_it_should(self):
        for name, outcome in self.outcomes.items():
            with self.subTest(name):
                if name.startswith("failing: "):
                    self.assertIsNotNone(outcome)
                    self.assertNotEqual(outcome.sqlstate, "XX000")
                else:
                    self.assertIsNone(outcome, outcome and outcome.message)

    def test_session(self):
        for what in ("notices", "pg_stat_activity", "error"):
            with self.subTest(what):
                self.assert_nowhere(what, {name: how for name, shown in self.shown.items() if (how := self.showing(shown.get(what, "")))})

    def test_log(self):
        for kind in ("log", "csv", "json"):
            with self.subTest(kind):
                self.assert_nowhere(kind, self.showing(self.log(kind)))
        with self.subTest("the server's output"):
            self.assert_nowhere("the output", self.showing(self.cluster.log()))


class FileKeys(Attempts, Scenario):
    """Everything is logged that PostgreSQL can log, in every format. The rest of a statement is to be read."""

    works, fails = WORKS, FAILS

    def test_statistics_of_statements(self):
        kept = self.cluster.psql("SELECT query FROM pg_stat_statements", db=self.db)
        self.assertIn("export_encrypted", kept, "the statements were tracked at all")
        self.assert_nowhere("pg_stat_statements", self.showing(kept))

    def test_when_statistics_are_lost(self):
        """By a reset, or for lack of room, while a statement runs: pg_stat_statements then takes its text as it is."""
        reset, key = "pg_stat_statements_reset()", new_key()
        export = f"prism_crypt.export_encrypted('clients', '{self.directory}/lost-%s.penc', '{key}')"
        with Connection(self.cluster, db=self.db) as conn, Connection(self.cluster, db=self.db) as other:
            def prepared():
                conn.prepare("lost", f"SELECT {export % 2}")
                other.execute(f"SELECT {reset}")
                conn.execute_prepared("lost")

            def called_again():
                call = export % "' || n || '"
                conn.execute(f"CREATE FUNCTION pg_temp.lost(n text) RETURNS jsonb LANGUAGE plpgsql AS $body$BEGIN RETURN {call}; END$body$")
                conn.execute("SELECT pg_temp.lost('3')")
                other.execute(f"SELECT {reset}")
                conn.execute("SELECT pg_temp.lost('4')")

            for name, attempt in {"reset by itself": lambda: conn.execute(f"SELECT {reset}, {export % 1}"), "prepared": prepared, "called again": called_again,
                                  "the master key": lambda: conn.execute(f"SELECT {reset}, set_config('prism_crypt.master_key', '{key}', false) IS NULL AS export_encrypted")}.items():
                with self.subTest(name):
                    attempt()
                    kept = other.execute("SELECT coalesce(string_agg(query, ';'), '') FROM pg_stat_statements")[0][0]
                    self.assertTrue("export_encrypted" in kept, "it was not tracked")
                    self.assertFalse(key in kept, "the key is kept")

    def test_the_rest_is_logged(self):
        log = re.sub(r"\n\t", "\n", self.log())
        for name, attempt in self.attempts():
            with self.subTest(name):
                before, _, after = filled(attempt.statement, "{}", self.names[name]).partition("{}")
                # The rest of the strings that the key is in is withheld with it.
                pattern = re.escape(re.sub(r"'[^']*$", "", before)) + r"(?s:.{0,400}?)" + re.escape(after.rpartition("{}")[2].partition("'")[2])
                self.assertTrue(re.search(pattern, log), pattern)

    def test_every_function_that_takes_a_key_is_known(self):
        """Whatever is in the argument is withheld, also if it does not look like a key."""
        functions = self.cluster.psql(
            "SELECT p.proname, a.n - 1 FROM pg_proc AS p, unnest(p.proargnames) WITH ORDINALITY AS a (name, n) WHERE p.pronamespace = 'prism_crypt'::regnamespace"
            " AND a.name = 'key' AND coalesce(p.proargmodes[a.n] = 'i', true) AND p.proargtypes[a.n - 1] = 'text'::regtype", db=self.db).splitlines()
        self.assertGreaterEqual(len(functions), 4)
        marks = {}
        with Connection(self.cluster, db=self.db) as conn:
            for function, before in (line.split("|") for line in functions):
                for arguments in ("NULL, " * int(before) + "{}", "key => {}"):
                    mark = "m" + secrets.token_hex(6)
                    call = f"prism_crypt.{function}({arguments})"
                    marks[mark] = call.replace("{}", "'*************'")
                    with contextlib.suppress(PgError):
                        conn.execute(f"SELECT {call} WHERE false".replace("{}", f"'{mark}'"))
        log = self.log()
        for mark, call in marks.items():
            with self.subTest(call):
                self.assertIn(f"SELECT {call} WHERE false", log)
                self.assertNotIn(mark, log)

    def test_what_has_no_key_is_shown(self):
        statements = {sql.replace("{}", mark := "m" + secrets.token_hex(4)): mark for sql in SHOWN}
        with Connection(self.cluster, db=self.db) as conn, Connection(self.cluster, db=self.db) as monitor:
            for statement in statements:
                with contextlib.suppress(PgError):
                    conn.execute(statement)
                self.assertEqual(monitor.execute("SELECT query FROM pg_stat_activity WHERE pid = $1::int", conn.pid)[0][0], statement)
        end = secrets.token_hex(16)
        self.cluster.psql(f"SELECT 'the end {end}'", db=self.db)
        wait_until(lambda: len(self.files_with(end.encode())) == 3, "the end is not logged")
        for kind in ("log", "csv", "json"):
            text = self.log(kind)
            for statement in statements:
                with self.subTest(kind, statement=statement):
                    self.assertIn({"log": statement, "csv": statement.replace('"', '""'), "json": json.dumps(statement)[1:-1]}[kind], text)

    def test_parameters_that_are_no_keys_are_shown(self):
        path = f"/nowhere/TheArchive/OfClients2026/monthly/m{secrets.token_hex(4)}"
        with Connection(self.cluster, db=self.db) as conn, self.assertRaises(PgError):
            conn.execute("SELECT prism_crypt.export_encrypted($1, $2, $3)", "AVeryLongNameOfATableWithNoOtherSign", path, "too short")
        log = self.log()
        self.assertIn(f"$1 = 'AVeryLongNameOfATableWithNoOtherSign', $2 = '{path}', $3 = '*********'", log)
        self.assertNotIn("'too short'", log)


class NamelessFileKeys(Attempts, Scenario):
    """Where the statement does not name the function: after it was called, or has failed."""

    conf = {**Attempts.conf, "log_statement": "none", "debug_print_parse": "off", "debug_print_rewritten": "off", "debug_print_plan": "off",
            "log_min_messages": "warning", "log_min_error_statement": "error"}
    works, fails = NAMELESS, NAMELESS_FAILS

    def test_parameters_of_an_error(self):
        """Durations show what was bound before the function is called."""
        for name, attempt in NAMELESS_BOUND.items():
            with self.subTest(name), Connection(self.cluster, db=self.db, options="-c log_min_duration_statement=-1") as conn:
                path = f"{self.directory}/bound-{secrets.token_hex(6)}.penc"
                before = len(self.log())
                with self.assertRaises(PgError) as caught:
                    attempt(conn, new_key(), {"path": path})
                wait_until(lambda: path in self.log()[before:], "the error is not logged with its parameters")
                log = self.log()[before:]
                self.assertFalse(any(mark.decode("latin-1") in log + caught.exception.text for mark in MARKED), "the key is shown")


class PlansOfFiles(Scenario):
    """auto_explain in all of its formats."""

    preload = True
    conf = {**{k: v for k, v in TRACKING.items() if k.startswith("auto_explain")}, "shared_preload_libraries": "'auto_explain, prism_crypt'"}

    def test_formats(self):
        db = self.database("formats")
        directory = self.cluster.home / "files"
        directory.mkdir()
        paths.give_to_server(directory)
        self.cluster.psql("CREATE TABLE clients AS SELECT 1 AS id, 'a'::encrypted_text AS v", db=db)
        ways = ("named", "by position", "base64", "escape string", "common table", "DO EXECUTE", "a function with it", "bound", "bound, named", "EXECUTE", "stream, bound", "cursor")
        for shape in ("text", "xml", "json", "yaml"):
            for way in ways:
                with self.subTest(shape, way=way), Connection(self.cluster, db=db, options=f"-c auto_explain.log_format={shape}") as conn:
                    before = len(self.cluster.log())
                    path = directory / f"{shape}-{ways.index(way)}.penc"
                    WORKS[way](conn, new_key(), {"path": str(path)})
                    log = self.cluster.log()[before:]
                    self.assertIn("Query", log)
                    self.assertFalse(any(mark.decode("latin-1") in log for mark in MARKED), "the log shows a key")


if __name__ == "__main__":
    unittest.main()
