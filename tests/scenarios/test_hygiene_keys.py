"""An inline master key shows nowhere: not in logs, catalogs, statistics, settings, files."""

import json
import re
import secrets
import unittest

from harness import PgError, canaries
from harness.libpq import Connection
from harness.scenario import Scenario, files_with, wait_until
from key_statements import TRACKING, as_logged, SETS, EXECUTES, FAILS, HIDING, new_key, forms_of, MARKS

SECRET_SETTINGS = {
    "log_statement": "all", "log_min_duration_statement": "0", "log_min_messages": "debug1", "log_min_error_statement": "debug5",
    "log_parameter_max_length": "-1", "log_parameter_max_length_on_error": "-1", "log_connections": "on", "log_disconnections": "on",
    "log_duration": "on", "debug_print_parse": "on", "debug_print_rewritten": "on", "debug_print_plan": "on",
    "logging_collector": "on", "log_destination": "'stderr,csvlog,jsonlog'", "log_error_verbosity": "verbose",
    "track_activity_query_size": "16384", "compute_query_id": "on",
}


class Keys(Scenario):
    preload = True
    sees_first = True
    libraries = "pg_stat_statements, prism_crypt, auto_explain"
    conf = {**SECRET_SETTINGS, **TRACKING}
    prepare_session = ()

    @classmethod
    def setUpClass(cls):
        if cls.libraries:
            cls.conf = {**cls.conf, "shared_preload_libraries": f"'{cls.libraries}'"}
        super().setUpClass()
        c = cls.cluster
        cls.db = cls.database("hygiene")
        if "pg_stat_statements" in cls.libraries:
            c.psql("CREATE EXTENSION pg_stat_statements", db=cls.db)
        c.psql("CREATE TABLE t (v encrypted_text); COPY t FROM STDIN;\nquokka\n\\.\n", db=cls.db)
        c.psql("CREATE FUNCTION nothing() RETURNS int LANGUAGE sql AS 'SELECT 1'", db=cls.db)
        c.psql("CREATE FUNCTION set_by_name(text, text) RETURNS text LANGUAGE sql AS 'SELECT set_config($1, $2, false)'", db=cls.db)
        # {name of the attempt: the key that it used}
        cls.keys, cls.outcomes, cls.shown = {}, {}, {}
        with Connection(c, db=cls.db) as monitor:
            for name, attempt in {**SETS, **EXECUTES, **FAILS}.items():
                cls.keys[name] = key = new_key()
                conn = Connection(c, db=cls.db)
                for statement in cls.prepare_session:
                    conn.execute(statement)
                try:
                    attempt(conn, key)
                    cls.outcomes[name] = None
                except PgError as error:
                    cls.outcomes[name] = error
                shown = monitor.execute("SELECT coalesce(query, '') FROM pg_stat_activity WHERE pid = $1::int", conn.pid)[0][0]
                if conn.notices:
                    shown += "\n".join(conn.notices)
                if cls.outcomes[name]:
                    shown += cls.outcomes[name].text
                cls.shown[name] = shown
                conn.close()
        cls.control = secrets.token_hex(32)
        c.psql(f"SELECT '{cls.control}' AS control, 1 AS one", db=cls.db)

    def found(self, text):
        """The attempts whose key the text shows, each with how."""
        if not any(mark in text for mark in MARKS.values()):
            return {}
        found = {}
        for name, key in self.keys.items():
            # No form of 18 bytes ends inside a base64 group; 36 digits are also there when the key was cut.
            forms = [form for form, secret in forms_of(bytes.fromhex(key)[:18]).items() if secret in text]
            if forms:
                found[name] = forms
        return found or {"(unknown)": [form for form, mark in MARKS.items() if mark in text]}

    def assert_nowhere(self, what, found):
        # Not assertEqual: nothing of the text is to be printed.
        if found:
            self.fail(f"{what} shows keys of:\n" + "\n".join(f"  {name}: {how}" for name, how in found.items()))

    def in_files(self, root):
        found = {}
        for path in sorted({path for paths in files_with(root, MARKS).values() for path in paths}):
            for name, forms in self.found((root / path).read_bytes()).items():
                found.setdefault(name, []).append(f"{path} ({', '.join(forms)})")
        return found

    def test_1_each_does_what_it_should(self):
        for name in self.keys:
            with self.subTest(name):
                error = self.outcomes[name]
                if name in FAILS:
                    self.assertIsNotNone(error)
                    self.assertNotEqual(error.sqlstate, "XX000")
                elif name == "then a failing statement":
                    self.assertEqual(error.message, "encryption key mismatch")
                else:
                    self.assertIsNone(error, f"{error and error.message}")

    def test_2_errors_and_activity(self):
        for part in ("activity", "client"):
            found = {}
            for name, shown in self.shown.items():
                error = self.outcomes[name]
                # A client may be shown the line of its own statement that has a syntax error.
                text = shown if part == "activity" or not error else ""
                if part == "activity":
                    text = shown.replace(error.text, "") if error else shown
                elif error:
                    text = re.sub(r"^LINE \d+:.*\n.*\n", "", error.text, flags=re.M)
                if shows := self.found(text.encode()):
                    found[name] = shows.get(name, shows)
            with self.subTest(part):
                self.assert_nowhere(part, found)

    def test_3_views(self):
        for what in ("pg_settings", "pg_db_role_setting", "pg_roles", "pg_proc", "pg_file_settings", "pg_stat_activity",
                     *(["pg_stat_statements"] if self.sees_first else [])):
            with self.subTest(what):
                text = self.cluster.psql(f"SELECT x::text FROM {what} AS x", db=self.db).encode()
                self.assert_nowhere(what, self.found(text))
        if self.preload:
            first = self.cluster.psql("SELECT ok FROM prism_crypt.status() WHERE name = 'sees_statements_first'", db=self.db)
            self.assertEqual(first, "t" if self.sees_first else "f")
        if self.sees_first:
            kept = self.cluster.psql("SELECT query FROM pg_stat_statements", db=self.db)
            self.assertIn("master_key", kept, "the statements were tracked at all")

    def test_4_server_log(self):
        for name in ("log", "csv", "json"):
            self.assertTrue(list((self.cluster.data / "log").glob(f"*.{name}")))
        # A control that must be in all three. It was logged last, so all else is in them, too.
        wait_until(lambda: len(files_with(self.cluster.data / "log", {"control": self.control.encode()}).get("control", ())) == 3, "the control is not logged")
        found = {**self.found(self.cluster.log().encode()), **self.in_files(self.cluster.data / "log")}
        self.assert_nowhere("log", found)
        log = "".join(path.read_text(errors="replace") for path in (self.cluster.data / "log").glob("*.log"))
        for name, attempt in {**SETS, **EXECUTES, **FAILS}.items():
            for statement in getattr(attempt, "statements", ()):
                with self.subTest(name):
                    pattern = as_logged(statement).replace("\\\n", r"\n\t?")
                    self.assertRegex(log, r"(?:statement: |STATEMENT:  )" + pattern)

    def test_4_nobody_hides_a_statement(self):
        """In no log, nor in what shows statements, is a statement missing or changed that sets no key."""
        statements = {sql.replace("{}", mark := secrets.token_hex(8)): mark for sql in HIDING}
        with Connection(self.cluster, db=self.db) as conn, Connection(self.cluster, db=self.db) as monitor:
            for statement in self.prepare_session:
                conn.execute(statement)
            for statement in statements:
                conn.execute(statement)
                shown = monitor.execute("SELECT query FROM pg_stat_activity WHERE pid = $1::int", conn.pid)[0][0]
                self.assertEqual(shown, statement)
                with self.assertRaises(PgError):
                    conn.execute(f"{statement}\n; SELECT 1/0")
        end = secrets.token_hex(16)
        self.cluster.psql(f"SELECT '{end}'", db=self.db)
        logs = self.cluster.data / "log"
        wait_until(lambda: len(files_with(logs, {"end": end.encode()}).get("end", ())) == 3, "the end is not logged")
        for kind in ("log", "csv", "json"):
            text = "".join(path.read_text(errors="replace") for path in logs.glob(f"*.{kind}"))
            for statement in statements:
                written = {"log": statement, "csv": statement.replace('"', '""'), "json": json.dumps(statement)[1:-1]}[kind]
                with self.subTest(kind, statement=statement):
                    # When it begins, before what fails, and as the statement of that error.
                    self.assertGreaterEqual(text.count(written), 3)

    def test_4_statements_with_a_like_name_are_shown(self):
        """A customer's own column may have the setting's name."""
        mark = secrets.token_hex(8)
        with Connection(self.cluster, db=self.db) as conn, Connection(self.cluster, db=self.db) as monitor:
            for statement in self.prepare_session:
                conn.execute(statement)
            conn.execute("SET prism_crypt.master_key = ''")
            for statement in (
                f"CREATE TEMP TABLE vault_{mark} (master_key text)", f"COMMENT ON COLUMN vault_{mark}.master_key IS 'said {mark}'",
                f"INSERT INTO vault_{mark} (master_key) VALUES ('kept {mark}')", "SET prism_crypt.keyset = 'default'"):
                conn.execute(statement)
                shown = monitor.execute("SELECT query FROM pg_stat_activity WHERE pid = $1::int", conn.pid)[0][0]
                self.assertEqual(shown, statement)
        if "pg_stat_statements" in self.libraries:
            kept = self.cluster.psql("SELECT query FROM pg_stat_statements", db=self.db)
            self.assertIn(f"IS 'said {mark}'", kept)
        kept = {"kept": f"'kept {mark}'".encode()}
        wait_until(lambda: files_with(self.cluster.data / "log", kept), "the statement is not logged")

    def test_5_settings(self):
        key = secrets.token_hex(32)
        with Connection(self.cluster, db=self.db) as conn:
            for statement in self.prepare_session:
                conn.execute(statement)
            conn.execute("SELECT set_config('prism_crypt.master_key', $1, false)", key)
            self.assertEqual(conn.execute("SHOW prism_crypt.master_key"), [["********"]])
            self.assertEqual(conn.execute("SELECT current_setting('prism_crypt.master_key')"), [["********"]])
            self.assertEqual(conn.execute("SELECT count(*) FROM pg_settings WHERE name = 'prism_crypt.master_key'"), [["0"]])
            self.assertFalse(key in str(conn.execute("SHOW ALL")))
            conn.execute("RESET prism_crypt.master_key")
            self.assertEqual(conn.execute("SHOW prism_crypt.master_key"), [[""]])

    def test_8_connection_options(self):
        for name, length in (("options", 64), ("bad options", 62)):
            self.keys[name] = new_key()
            self.addCleanup(self.keys.pop, name)
            try:
                with Connection(self.cluster, db=self.db, options=f"-c prism_crypt.master_key={self.keys[name][:length]}") as conn:
                    for statement in self.prepare_session:
                        conn.execute(statement)
                    conn.execute("SELECT count(*) FROM t")
                    shown = self.cluster.psql(f"SELECT x::text FROM pg_stat_activity AS x WHERE pid = {conn.pid}") + "".join(conn.notices)
            except PgError as error:
                self.assertEqual(name, "bad options")
                self.assertIn('FATAL:  invalid value for parameter "prism_crypt.master_key"', error.text)
                shown = error.text
            self.assert_nowhere(name, self.found(shown.encode()))
        found = self.in_files(self.cluster.data / "log")
        self.assert_nowhere("log", {name: how for name, how in found.items() if "options" in name})

    def test_9_data_directory(self):
        with Connection(self.cluster, db=self.db) as conn:
            conn.execute(f"CREATE TABLE control AS SELECT '{self.control}'::text AS control")
            # Since 18, pg_stat_statements leaves out the constants of the first.
            conn.execute(f"COMMENT ON TABLE control IS '{self.control}'")
        where = []
        for _ in range(2):
            where += files_with(self.cluster.data, {"control": self.control.encode()})["control"]
            self.cluster.psql("CHECKPOINT")
        for place in ("base/", "pg_wal/", "pg_stat_tmp/", "log/"):
            self.assertTrue(any(path.startswith(place) for path in where), f"the search does not look into {place}: {where}")
        others = ("log/",) if self.sees_first else ("log/", "pg_stat_tmp/pgss", "pg_stat/pg_stat_statements")
        no_logs = lambda found: {n: places for n, how in found.items() if (places := [p for p in how if not p.startswith(others)])}
        running = no_logs(self.in_files(self.cluster.data))
        self.cluster.stop()
        stopped = no_logs(self.in_files(self.cluster.data))
        self.cluster.start()
        with self.subTest("running"):
            self.assert_nowhere("the data directory", running)
        with self.subTest("stopped"):
            self.assert_nowhere("the data directory", stopped)


class KeysOtherOrder(Keys):
    """A library that comes after ours sees statements first. status() tells; everything else is as clean."""

    sees_first = False
    libraries = "auto_explain, prism_crypt, pg_stat_statements"


class KeysLoadedByAFunction(Keys):
    """Not preloaded: protected from the first call of a function on."""

    preload = False
    libraries = "pg_stat_statements"
    conf = {**SECRET_SETTINGS, **{k: v for k, v in TRACKING.items() if k.startswith("pg_stat")}}
    prepare_session = ("SELECT count(*) FROM prism_crypt.status()",)

    def test_8_connection_options(self):
        """A key that comes before the library is not told by anything after it."""
        key = secrets.token_hex(32)
        with Connection(self.cluster, db=self.db, options=f"-c prism_crypt.master_key={key[:62]}") as conn:
            conn.execute(self.prepare_session[0])
            self.assertTrue(conn.notices)
            self.assertFalse(key[:62] in "".join(conn.notices))
            self.assertEqual(conn.execute("SHOW prism_crypt.master_key"), [[""]])


class ConfigurationFile(Scenario):
    """A key in postgresql.conf works, and a reload does not log it."""

    preload = True
    key = None

    def test_reload(self):
        db = self.database("conf", keys=False)
        for name in ("inline", "inline"), ("next", "next"):
            self.cluster.configure({"prism_crypt.master_key": f"'{canaries.KEYS[name[0]]}'"})
            self.cluster.reload()
        self.cluster.wait_for("SELECT count(*) > 0 FROM prism_crypt.status() WHERE name = 'key_source' AND ok", db=db)
        self.cluster.psql("SELECT prism_crypt.rotate_key()", db=db)
        self.assertEqual(self.cluster.psql("SELECT decrypt_field(encrypt_field('x'))", db=db), "x")
        self.assertEqual(self.cluster.psql("SHOW prism_crypt.master_key", db=db), "********")
        short = canaries.KEYS["other"][:62]
        self.cluster.configure({"prism_crypt.master_key": f"'{short}'"})
        self.cluster.reload()
        self.cluster.psql("SELECT 1")
        log = self.cluster.log()
        self.assertFalse(any(key in log for key in canaries.KEYS.values()), "the log shows a key")
        self.assertFalse(short in log, "the log shows a bad key")
        self.assertIn("received SIGHUP", log)


class BeforeTheLibrary(Scenario):
    """Not preloaded: what was set or stored before the library came."""

    conf = {"log_statement": "'none'", "log_min_duration_statement": "-1", "log_min_error_statement": "panic"}
    load = "SELECT count(*) FROM prism_crypt.status();"

    def setUp(self):
        self.key = secrets.token_hex(32)

    def set(self, key):
        return f"SET prism_crypt.master_key = '{key}';"

    def test_a_key_is_taken_over_and_masked(self):
        db = self.database("taken_over")
        conn = Connection(self.cluster, db=db)
        self.addCleanup(conn.close)
        conn.execute(self.set(self.key))
        conn.execute(self.load)
        self.assertEqual(conn.execute("SHOW prism_crypt.master_key"), [["********"]])
        self.assertEqual(conn.execute("SELECT setting FROM prism_crypt.status() WHERE name = 'key_source'"), [["prism_crypt.master_key"]])
        with self.assertRaises(PgError) as caught:
            conn.execute("SELECT encrypt_field('x')")
        self.assertEqual(caught.exception.message, "encryption key mismatch")
        conn.execute("RESET prism_crypt.master_key")
        self.assertTrue(conn.execute("SELECT encrypt_field('x')"))
        self.assertFalse(self.key in self.cluster.log())

    def test_a_bad_key_is_dropped_with_a_warning_that_does_not_show_it(self):
        db = self.database("bad_before")
        with Connection(self.cluster, db=db) as conn:
            conn.execute(self.set(self.key[:62]))
            conn.execute(self.load)
            said = "".join(conn.notices)
            self.assertIn("WARNING", said)
            self.assertIn("Key must be 32 bytes, got 31", said)
            self.assertFalse(self.key[:62] in said + self.cluster.log())
            self.assertEqual(conn.execute("SHOW prism_crypt.master_key"), [[""]])

    def test_a_key_stored_for_a_role_is_not_used_nor_told(self):
        db = self.database("stored_before")
        self.cluster.psql("CREATE ROLE careless LOGIN")
        self.addCleanup(self.cluster.psql, "ALTER ROLE careless RESET ALL")
        self.cluster.psql(f"ALTER ROLE careless SET prism_crypt.master_key = '{self.key}'")
        with Connection(self.cluster, db=db, user="careless") as conn:
            conn.execute("SELECT encrypt_field('x')")
            said = "".join(conn.notices)
            self.assertIn("can't be stored in the catalogs", said)
            self.assertFalse(self.key in said + self.cluster.log())
            self.assertEqual(conn.execute("SHOW prism_crypt.master_key"), [[""]])

    def test_the_activity_of_a_session_that_set_it_before(self):
        db = self.database("activity_before")
        with Connection(self.cluster, db=db) as conn:
            conn.execute(f"{self.set(self.key)} {self.load}")
            shown = self.cluster.psql(f"SELECT query FROM pg_stat_activity WHERE pid = {conn.pid}")
            self.assertFalse(self.key in shown)


if __name__ == "__main__":
    unittest.main()
