"""What is shown of statements with a key in special places: prepared ones, plans, parallel workers, deadlocks, the lowest level of the log."""

import secrets
import threading
import unittest

from harness import PgError
from harness.libpq import Connection
from harness.scenario import Scenario
from key_statements import EXECUTES, MARKS, NAMELESS, SETS, as_logged, cut, forms_of, new_key


class Executes(Scenario):
    """Where the statement with the key is the EXECUTE of one that names the setting."""

    preload = True
    conf = {"log_parameter_max_length_on_error": "-1", "log_duration": "on", "log_error_verbosity": "verbose",
            "shared_preload_libraries": "'pg_stat_statements, prism_crypt'"}

    ways = EXECUTES
    shown_by = ("log", "error", "notices", "pg_stat_activity", "pg_stat_statements")

    def test_execute(self):
        db = self.database("executes")
        self.cluster.psql("CREATE EXTENSION pg_stat_statements", db=db)
        for name, attempt in self.ways.items():
            for kind, attempt in (("", attempt), ("bad ", cut(attempt))):
                with self.subTest(kind + name), Connection(self.cluster, db=db) as conn:
                    before = len(self.cluster.log())
                    key, error = new_key(), ""
                    if kind:
                        with self.assertRaises(PgError) as caught:
                            attempt(conn, key)
                        error = caught.exception.text
                    else:
                        attempt(conn, key)
                        self.assertEqual(conn.execute("SHOW prism_crypt.master_key"), [["********"]])
                    shown = {
                        "log": self.cluster.log()[before:], "error": error, "notices": "".join(conn.notices),
                        "pg_stat_activity": self.cluster.psql(f"SELECT query FROM pg_stat_activity WHERE pid = {conn.pid}"),
                        "pg_stat_statements": self.cluster.psql("SELECT query FROM pg_stat_statements", db=db),
                    }
                    self.assertEqual([what for what in self.shown_by if any(mark.decode("latin-1") in shown[what] for mark in MARKS.values())], [])
                    # The statement is there, without the key.
                    self.assertRegex(shown["log"], as_logged(attempt.statements[-1]).replace("40", "20"))
                    self.assertRegex(shown["pg_stat_activity"], r"\*{20,}|SHOW prism_crypt")


class Plans(Scenario):
    """auto_explain quotes statements in four formats, with their constants; workers show the text of their leader."""

    preload = True
    conf = {"shared_preload_libraries": "'auto_explain, prism_crypt'", "auto_explain.log_min_duration": "0", "auto_explain.log_verbose": "on",
            "auto_explain.log_nested_statements": "on", "min_parallel_table_scan_size": "0", "parallel_setup_cost": "0",
            "parallel_tuple_cost": "0", "log_min_messages": "debug1", "log_min_error_statement": "debug1"}
    ways = (
        "SELECT set_config('prism_crypt.master_key', '{}', false)",
        "SELECT set_config(\n'prism_crypt'\n||\n'.master_key',\n$q${}$q$, false)",
        "SELECT set_config(E'prism\\x5fcrypt.master_key', E'{}\\n', false) AS \"a\"\"b\"",
        "SELECT set_config(U&'prism!005fcrypt.master_key' UESCAPE '!', '{}', false)",
        "WITH k AS MATERIALIZED (SELECT '{}'::text AS k) SELECT set_config('prism_crypt.master_key', k, false) FROM k",
    )

    def found(self, text):
        return any(mark.decode("latin-1") in text for mark in MARKS.values())

    def test_formats(self):
        db = self.database("formats")
        for shape in ("text", "xml", "json", "yaml"):
            for number, way in enumerate(self.ways):
                with self.subTest(shape, way=way), Connection(self.cluster, db=db) as conn:
                    conn.execute(f"SET auto_explain.log_format = '{shape}'")
                    before = len(self.cluster.log())
                    mark = secrets.token_hex(6)
                    conn.execute(way.replace("{}", new_key()))
                    conn.execute(f"SELECT 'shown {mark}' /* prism_crypt.master_key */")
                    log = self.cluster.log()[before:]
                    self.assertIn("Query", log)
                    self.assertFalse(self.found(log), "the log shows a key")
                    self.assertIn(f"'shown {mark}'", log)

    def test_workers(self):
        db = self.database("workers")
        self.cluster.psql(
            "CREATE TABLE big AS SELECT generate_series(1, 10000) AS i; ANALYZE big; CREATE FUNCTION slow(int) RETURNS int IMMUTABLE PARALLEL SAFE "
            "LANGUAGE plpgsql AS 'BEGIN PERFORM pg_sleep(0.0003); RETURN $1; END'", db=db)
        for statement in ("SELECT count(*) FROM big WHERE slow(i) > 0", "CREATE INDEX ON big (slow(i))"):
            with self.subTest(statement), Connection(self.cluster, db=db) as conn, Connection(self.cluster, db=db) as monitor:
                before = len(self.cluster.log())
                thread = threading.Thread(target=conn.execute, args=(f"SET prism_crypt.master_key = '{new_key()}'; {statement}",))
                thread.start()
                workers, seen, shown = 0, set(), ""
                while thread.is_alive():
                    for pid, kind, query in monitor.execute(
                            "SELECT pid, backend_type, query FROM pg_stat_activity WHERE datname = current_database()"):
                        # Whoever was just started still shows what it was given.
                        if pid in seen:
                            shown += query or ""
                            workers += kind == "parallel worker"
                        elif kind == "parallel worker" or "*';" in (query or ""):
                            seen.add(pid)
                thread.join()
                self.assertGreater(workers, 0)
                self.assertIn(f"*'; {statement}", shown)
                self.assertFalse(self.found(shown), "pg_stat_activity shows a key")
                self.assertFalse(self.found(self.cluster.log()[before:]), "the log shows a key")


class Nameless(Executes):
    """Where the statement does not name the setting at all: after it has run, or has failed."""

    conf = {**Executes.conf, "log_statement": "none", "log_min_duration_statement": "0"}
    ways = NAMELESS
    # pg_stat_statements keeps a CALL as it was sent.
    shown_by = ("log", "error", "notices", "pg_stat_activity")


class Deadlock(Scenario):
    """The log of a deadlock has the statements of both sessions; none can hide the other's."""

    preload = True
    conf = {"deadlock_timeout": "'100ms'", "track_activity_query_size": "300"}

    def test_both_are_shown(self):
        db = self.database("deadlock")
        self.cluster.psql("CREATE TABLE a AS SELECT 1 AS x; CREATE TABLE b AS SELECT 1 AS x", db=db)
        key, table = new_key(), "averylongnameofatable"
        self.cluster.psql(f"CREATE TABLE {table} AS SELECT 1 AS x", db=db)
        # pg_stat_activity has this cut off in an open string.
        hides = f"SELECT set_config('prism_crypt.master_key', '{key}', true) FROM a, (SELECT '{'x' * 300}') AS s"
        honest = f"UPDATE a SET x = (SELECT x FROM {table}) WHERE 'shown' <> ''; UPDATE {table} SET x = 3"
        with Connection(self.cluster, db=db) as one, Connection(self.cluster, db=db) as other:
            before = len(self.cluster.log())
            one.execute("BEGIN; LOCK a")
            other.execute(f"BEGIN; LOCK {table}")
            errors = []

            def wait(conn, sql):
                try:
                    conn.execute(sql)
                except PgError as error:
                    errors.append(error.sqlstate)

            threads = [threading.Thread(target=wait, args=args) for args in ((one, honest), (other, hides))]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            self.assertEqual(errors, ["40P01"])
            log = self.cluster.log()[before:]
            detail = log[log.index("deadlock detected"):]
            self.assertIn(honest, detail[:detail.index("HINT")])
            self.assertFalse(any(mark.decode("latin-1") in log for mark in MARKS.values()), "the log shows a key")


class Debug5(Scenario):
    """Every message of a statement carries the statement, from its first moment on."""

    preload = True
    conf = {"log_min_messages": "debug5", "log_min_error_statement": "debug5", "log_min_duration_statement": "0"}

    def test_set(self):
        db = self.database("debug5")
        keys = {}
        for name in ("SET", "SET LOCAL", "set_config", "set_config parameter", "prepared in the protocol", "DO SET", "several statements"):
            for kind, attempt in (("", SETS[name]), ("bad ", cut(SETS[name]))):
                keys[kind + name] = new_key()
                with Connection(self.cluster, db=db) as conn:
                    try:
                        attempt(conn, keys[kind + name])
                    except PgError:
                        self.assertTrue(kind)
        log = self.cluster.log().encode()
        self.assertIn(b"DEBUG:  CommitTransaction", log)
        found = [name for name, key in keys.items() if any(form in log for form in forms_of(bytes.fromhex(key)[:18]).values())]
        self.assertEqual(found, [])


if __name__ == "__main__":
    unittest.main()
