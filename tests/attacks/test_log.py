"""F25: nobody keeps a statement out of the log, and no key gets into it."""

import secrets
import unittest

from harness import PgError, canaries
from harness.libpq import Connection
from ways import Attack

KEY = canaries.KEYS["inline"]
# {m}: what the attacker wants to hide. It stands outside of every literal.
HIDING = {
    "the bare word in a comment": "/* master_key */ SELECT 1 AS {m}", "the name in a comment": "/* prism_crypt.master_key */ SELECT 1 AS {m}", "a comment behind": "SELECT 1 AS {m} -- prism_crypt.master_key = '",
    "nested comments": "/* a /* prism_crypt.master_key */ */ SELECT 1 AS {m}", "a quoted name in a comment": "/* \"prism_crypt\".\"master_key\" */ SELECT 1 AS {m}", "an escaped name in a comment": "SELECT 1 AS {m} /* U&\"prism_crypt\".U&\"\\006daster_key\" */",
    "a comment between": "SELECT 1 /* prism_crypt.master_key */ AS {m}", "a literal that is the bare word": "SELECT 'master_key' AS {m}", "a column of that name": "SELECT 1 AS master_key, 2 AS {m}",
    "a statement before": "SET prism_crypt.master_key = ''; SELECT 1 AS {m}", "a statement behind": "SELECT 1 AS {m}; RESET prism_crypt.master_key", "SHOW": "SELECT 1 AS {m}; SHOW prism_crypt.master_key",
    "RESET": "RESET prism_crypt.master_key; CREATE TABLE IF NOT EXISTS {m} (i int)", "a failing statement": "/* prism_crypt.master_key */ SELECT {m}", "a failing statement behind a name": "SET prism_crypt.master_key = ''; SELECT {m}",
    "set_config beside": "SELECT set_config('prism_crypt.master_key', '', false) AS {m}", "current_setting": "SELECT current_setting('prism_crypt.master_key') AS {m}", "the name in a WHERE": "SELECT 1 AS {m} FROM pg_settings WHERE name = 'prism_crypt.master_key'",
    "DO": "DO $$ BEGIN PERFORM set_config('prism_crypt.master_key', '', false); CREATE TABLE IF NOT EXISTS {m} (i int); END $$", "EXECUTE": "DO $$ BEGIN EXECUTE 'SET prism_crypt.master_key = '''''; PERFORM 1 AS {m}; END $$",
    "PREPARE": "PREPARE {m} AS SELECT set_config('prism_crypt.master_key', '', false); DEALLOCATE {m}", "another setting": "SET prism_crypt.keyset = 'default'; SELECT 1 AS {m}", "COPY": "COPY (SELECT 1 AS {m}) TO STDOUT /* prism_crypt.master_key */",
    "a function's SET clause": "CREATE FUNCTION {m}() RETURNS int LANGUAGE sql SET prism_crypt.master_key = '' AS 'SELECT 1'", "ALTER ROLE": "ALTER ROLE nobody SET prism_crypt.master_key = ''; SELECT 1 AS {m}", "an unterminated comment": "SELECT 1 AS {m} /* prism_crypt.master_key",
    "an unterminated literal": "SELECT 1 AS {m}, 'prism_crypt.master_key", "a long one": "SELECT 1 AS {m} /* prism_crypt.master_key" + " " * 20000 + "*/", "a NUL's escape": "SELECT 1 AS {m}, U&'prism\\005fcrypt.master_key'",
}
# What sets a key; {k}.
SETTING = {
    "SET": "SET prism_crypt.master_key = '{k}'", "behind a comment": "/* x */ SET prism_crypt . master_key TO '{k}'", "escapes": "SET U&\"prism_crypt\".U&\"\\006daster_key\" = '{k}'", "UESCAPE": "SET U&\"prism_crypt\".U&\"!006daster_key\" UESCAPE '!' = '{k}'",
    "before the name": "SELECT set_config(n, k, false) IS NULL FROM (SELECT '{k}' AS k, 'prism_crypt.master_key' AS n) AS x", "dollar quotes": "SELECT set_config($$prism_crypt.master_key$$, $x${k}$x$, false) IS NULL",
    "put together": "SELECT set_config('prism' || '_crypt.mas' || 'ter_key', '{k}', false) IS NULL", "a failing string": "SELECT 1; SET prism_crypt.master_key = '{k}'; SELECT nothing_there", "DO in DO": "DO $a$ BEGIN EXECUTE $b$ DO $c$ BEGIN SET prism_crypt.master_key = '{k}'; END $c$ $b$; END $a$",
    "a syntax error": "SET prism_crypt.master_key = '{k}' '", "RAISE": "DO $$ BEGIN PERFORM set_config('prism_crypt.master_key', '{k}', false); RAISE NOTICE '%', '{k}'; END $$", "a statement behind": "SET prism_crypt.master_key = '{k}'; SELECT 1; DROP TABLE IF EXISTS nothing_there",
}


class Log(Attack):
    conf = {"log_min_error_statement": "error", "log_error_verbosity": "verbose"}

    def logged(self, statement, bound=None):
        before = len(self.cluster.log())
        with Connection(self.cluster, db=self.db, user="nobody") as conn:
            try:
                conn.execute(statement, *([bound] if bound else []))
            except PgError:
                pass
        return self.cluster.log()[before:]

    def test_hiding(self):
        for name, statement in HIDING.items():
            mark = "m" + secrets.token_hex(6)
            log = self.logged(statement.replace("{m}", mark))
            self.judge(f"a hidden statement: {name}", "" if mark in log else "the log does not have it", log)
        mark = "m" + secrets.token_hex(6)
        log = self.logged(f"SELECT $1::text AS {mark} /* prism_crypt.master_key */", "x")
        self.judge("a hidden statement with parameters", "" if mark in log else "the log does not have it", log)
        with self.subTest("control"):
            self.assertIn("mark_of_the_control", self.logged("SELECT 1 AS mark_of_the_control"))
            self.assertNotIn("mark_of_the_control", self.logged("SELECT 1 AS another_mark"))

    def test_hiding_the_error(self):
        """Nor what came of it: the error that others are to see."""
        for name, statement in {"comment": "/* prism_crypt.master_key */ SELECT 1/0 AS {m}", "a name": "SELECT current_setting('prism_crypt.master_key'), 1/0 AS {m}", "in DO": "DO $$ BEGIN /* prism_crypt.master_key */ RAISE EXCEPTION '{m}'; END $$"}.items():
            mark = "m" + secrets.token_hex(6)
            log = self.logged(statement.replace("{m}", mark))
            self.judge(f"a hidden error: {name}", "" if ("22012" in log or f"P0001: {mark}" in log) and mark in log.partition("STATEMENT:")[2] else "the log does not have error and statement", log)

    def test_keys(self):
        for name, statement in SETTING.items():
            log = self.logged(statement.replace("{k}", KEY))
            self.judge(f"a key in the log: {name}", "the key is logged" if any(KEY[n:n + 20] in log for n in range(0, 45)) else "")
        log = self.logged("SELECT set_config('prism_crypt.master_key', $1, false) IS NULL", KEY)
        self.judge("a key in the log: parameter", "the key is logged" if KEY[:20] in log else "")
        with self.subTest("control: of another text the log has it all"):
            self.assertIn("ab" * 32, self.logged("SELECT '" + "ab" * 32 + "'"))

    def test_keys_seen_by_others(self):
        """In pg_stat_activity, settings and catalogs, by a role that may see them all."""
        self.cluster.psql("GRANT pg_monitor, pg_read_all_settings TO monitor")
        for name, statement in SETTING.items():
            with Connection(self.cluster, db=self.db, user="nobody") as conn:
                try:
                    conn.execute(statement.replace("{k}", KEY))
                except PgError:
                    pass
                said = self.run_as("monitor", "SELECT query FROM pg_stat_activity; SELECT setconfig FROM pg_db_role_setting; SELECT proconfig, prosrc FROM pg_proc WHERE proconfig IS NOT NULL")
                mine = [str(self.own(conn, q)) for q in ("SHOW prism_crypt.master_key", "SELECT current_setting('prism_crypt.master_key')", "SELECT setting, reset_val, boot_val FROM pg_settings WHERE name LIKE 'prism%'", "SHOW ALL")]
                self.judge(f"a key that is seen: {name}", "the key is seen" if KEY[:20] in said + "".join(mine) else "")

    @staticmethod
    def own(conn, query):
        try:
            return conn.execute(query)
        except PgError as error:
            return error.text


if __name__ == "__main__":
    unittest.main()
