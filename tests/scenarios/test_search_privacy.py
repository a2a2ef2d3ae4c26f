"""A searched text is in no log and in no plan, as far as prism_crypt can help it."""

import unittest

from harness import PgError, canaries
from harness.libpq import Connection
from harness.scenario import Scenario

EMAIL, NAME, PHONE = (canaries.PLAINTEXTS[n] for n in ("email", "name", "phone"))
SCHEMA = """
    CREATE TABLE t (id int PRIMARY KEY, v encrypted_text('email', 'searchable'), b encrypted_text, a encrypted_text('searchable')[], plain text);
    INSERT INTO t SELECT n, 'v' || n, 'v' || n, ARRAY['v' || n], 'v' || n FROM generate_series(1, 200) AS n;
    CREATE INDEX t_hash ON t USING hash (v);
    CREATE UNIQUE INDEX t_unique ON t (v encrypted_text_unique_ops);
    CREATE TABLE excluded (v encrypted_text('searchable'), EXCLUDE USING hash (v WITH =));
    CREATE TABLE parts (v encrypted_text('searchable')) PARTITION BY HASH (v);
    CREATE TABLE parts_0 PARTITION OF parts FOR VALUES WITH (MODULUS 2, REMAINDER 0);
    CREATE TABLE parts_1 PARTITION OF parts FOR VALUES WITH (MODULUS 2, REMAINDER 1);
    CREATE TABLE child (v encrypted_text('searchable') REFERENCES t (v));
    CREATE TABLE checked (v encrypted_text('searchable') CHECK (v <> 'forbidden'));
    CREATE VIEW w AS SELECT id, v FROM t;
    CREATE FUNCTION by_sql(text) RETURNS SETOF int LANGUAGE sql STABLE AS 'SELECT id FROM t WHERE v = $1';
    CREATE FUNCTION by_plpgsql(x text) RETURNS int LANGUAGE plpgsql AS 'BEGIN RETURN (SELECT id FROM t WHERE v = x); END';
    CREATE FUNCTION by_varchar(x varchar) RETURNS int LANGUAGE plpgsql AS 'DECLARE y varchar := x; BEGIN RETURN (SELECT id FROM t WHERE v = y); END';
    CREATE FUNCTION by_array(x text[]) RETURNS bigint LANGUAGE plpgsql AS 'BEGIN RETURN (SELECT count(*) FROM t WHERE v = ANY (x)); END';
    CREATE FUNCTION by_execute(x text) RETURNS int LANGUAGE plpgsql AS $$DECLARE r int; BEGIN EXECUTE 'SELECT id FROM t WHERE v = $1' INTO r USING x; RETURN r; END$$;
    CREATE ROLE nobody_else;
    GRANT SELECT ON t TO nobody_else;
"""
ARRAY = "{%s,\"%s\"}" % (EMAIL, NAME)
# Statements with bind parameters; in the plan of each stands a constant.
SEARCHES = [
    ("SELECT id FROM t WHERE v = $1", [EMAIL]),
    ("SELECT id FROM t WHERE v = $1::text", [EMAIL]),
    ("SELECT id FROM t WHERE v = $1::varchar", [EMAIL]),
    ("SELECT id FROM t WHERE v = $1::char(60)", [EMAIL]),
    ("SELECT id FROM t WHERE v = $1::name", [EMAIL]),
    ("SELECT id FROM t WHERE $1::text = v", [EMAIL]),
    ("SELECT id FROM t WHERE v <> $1::text AND id < 3", [EMAIL]),
    ("SELECT id FROM t WHERE b = $1::text", [EMAIL]),
    ("SELECT id FROM t WHERE v = lower($1::text)", [EMAIL]),
    ("SELECT id FROM t WHERE v = $1::text || $2::text", [EMAIL, PHONE]),
    ("SELECT id FROM t WHERE v IN ($1, $2)", [EMAIL, NAME]),
    ("SELECT id FROM t WHERE v IN ($1::text, $2::text)", [EMAIL, NAME]),
    ("SELECT id FROM t WHERE v IN ($1::varchar, $2::varchar)", [EMAIL, NAME]),
    ("SELECT id FROM t WHERE v NOT IN ($1::text, $2::text) AND id < 3", [EMAIL, NAME]),
    ("SELECT id FROM t WHERE v = ANY ($1)", [ARRAY]),
    ("SELECT id FROM t WHERE v = ANY ($1::text[])", [ARRAY]),
    ("SELECT id FROM t WHERE v = ANY ($1::varchar[])", [ARRAY]),
    ("SELECT id FROM t WHERE v <> ALL ($1::text[]) AND id < 3", [ARRAY]),
    ("SELECT id FROM t WHERE v = ANY (ARRAY[$1, $2]::text[])", [EMAIL, NAME]),
    ("SELECT id FROM t WHERE v = ANY (string_to_array($1::text, ','))", [f"{EMAIL},{NAME}"]),
    ("SELECT id FROM t WHERE (v, id) = ($1::text, 1)", [EMAIL]),
    ("SELECT id FROM t WHERE a = ARRAY[$1]::encrypted_text[]", [EMAIL]),
    ("SELECT id FROM t WHERE a @> ARRAY[$1]::encrypted_text[]", [EMAIL]),
    ("SELECT id FROM t WHERE v IS DISTINCT FROM $1::text AND id < 3", [EMAIL]),
    ("SELECT id FROM t WHERE v IS NOT DISTINCT FROM $1::varchar", [EMAIL]),
    ("SELECT id FROM t WHERE NULLIF(v, $1::text) IS NULL", [EMAIL]),
    ("SELECT id FROM t WHERE $1::text = ANY (a)", [EMAIL]),
    ("SELECT id FROM t WHERE v = $1::text::encrypted_text", [EMAIL]),
    ("SELECT id FROM t WHERE v = CAST($1::varchar AS encrypted_text('email', 'searchable'))", [EMAIL]),
    ("SELECT id FROM t WHERE v = ANY ($1::text[]::encrypted_text[])", [ARRAY]),
    ("SELECT id FROM t WHERE '\\x00' = blind_index($1::text, 'c')", [EMAIL]),
    ("SELECT CASE v WHEN $1::text THEN 1 ELSE 0 END FROM t LIMIT 1", [EMAIL]),
    ("SELECT count(*) FILTER (WHERE v = $1::text) FROM t", [EMAIL]),
    ("SELECT v, count(*) FROM t GROUP BY v HAVING v = $1::text", [EMAIL]),
    ("SELECT x.id FROM t AS x LEFT JOIN t AS y ON x.v = y.v AND y.v = $1::text WHERE x.id = 1", [EMAIL]),
    ("SELECT id FROM t JOIN (VALUES ($1::text), ($2::text)) AS x (y) ON v = y", [EMAIL, NAME]),
    ("WITH x AS (SELECT $1::text AS y) SELECT id FROM t, x WHERE v = y", [EMAIL]),
    ("SELECT id FROM w WHERE v = $1::text", [EMAIL]),
    ("SELECT FROM parts WHERE v = $1::text", [EMAIL]),
    ("SELECT FROM parts WHERE v = ANY ($1::text[])", [ARRAY]),
    ("SELECT * FROM by_sql($1)", [EMAIL]),
    ("UPDATE t SET id = id WHERE v = $1::text", [EMAIL]),
    ("DELETE FROM t WHERE v = $1::varchar", [EMAIL]),
    ("MERGE INTO t USING (SELECT $1::text AS y) AS x ON t.v = x.y WHEN MATCHED THEN DO NOTHING", [EMAIL]),
]
# These pass the text on; what a function searches for is in plans of its own. Their own plan shows the argument, which is PostgreSQL's.
NESTED = [("SELECT by_plpgsql($1)", [EMAIL]), ("SELECT by_varchar($1)", [EMAIL]), ("SELECT by_array($1)", [ARRAY]), ("SELECT by_execute($1)", [EMAIL])]
NO_KEY = "SET prism_crypt.master_key_file = ''; RESET prism_crypt.master_key;"
# (what is set before, statement, parameters, SQLSTATE)
FAILURES = [
    (NO_KEY, "SELECT id FROM t WHERE v = $1", [EMAIL], "55000"),
    (NO_KEY, "SELECT id FROM t WHERE v = $1::text", [EMAIL], "55000"),
    (NO_KEY, "SELECT id FROM t WHERE v = ANY ($1::text[])", [ARRAY], "55000"),
    (NO_KEY, "SELECT by_array($1)", [ARRAY], "55000"),
    (NO_KEY, "SELECT by_plpgsql($1)", [EMAIL], "55000"),
    ("SET prism_crypt.master_key_file = '{other}';", "SELECT id FROM t WHERE v = $1::varchar", [EMAIL], "55000"),
    ("SET prism_crypt.keyset = 'none';", "SELECT id FROM t WHERE v = $1::text", [EMAIL], "42704"),
    ("SET prism_crypt.keyset = 'none';", "SELECT blind_index($1, 'c')", [EMAIL], "42704"),
    ("", "SELECT blind_index($1, 'c', 500)", [EMAIL], "22023"),
    ("", "SELECT id FROM t WHERE v < $1::text", [EMAIL], "0A000"),
    ("", "SELECT id FROM t WHERE v = $1", [f"prism:v1:{EMAIL}"], "22P02"),
    ("", "INSERT INTO t VALUES (1000, $1), (1001, $1)", [EMAIL], "23505"),
    ("", "INSERT INTO t VALUES (1000, $1::text), (1001, $1::text)", [EMAIL], "23505"),
    ("", "INSERT INTO excluded VALUES ($1), ($1)", [EMAIL], "23P01"),
    ("", "INSERT INTO child VALUES ($1)", [EMAIL], "23503"),
    ("", "INSERT INTO t VALUES (1000, $1), (1000, $2) ON CONFLICT (v) DO NOTHING", [EMAIL, NAME], "23505"),
    ("SET ROLE nobody_else;", "SELECT id FROM t WHERE v = $1::text", [EMAIL], "42501"),
    ("SET ROLE nobody_else;", "SELECT array_position(a, $1) FROM t", [EMAIL], "42501"),
    ("SET ROLE nobody_else;", "SELECT $1::text::encrypted_text('searchable')", [EMAIL], "42501"),
    ("SET ROLE nobody_else;", "SELECT blind_index($1, 'c')", [EMAIL], "42501"),
]


PLAINTEXT = "SET prism_crypt.output = 'plaintext'"


class SearchPrivacy(Scenario):
    preload = True
    # PostgreSQL logs no statement of its own accord; what is logged here are plans and whatever anybody reports.
    conf = {
        "shared_preload_libraries": "'auto_explain,prism_crypt'", "log_statement": "none", "log_min_duration_statement": "-1",
        "log_min_error_statement": "panic", "auto_explain.log_min_duration": "0", "auto_explain.log_analyze": "on", "auto_explain.log_verbose": "off",
        "auto_explain.log_nested_statements": "on", "auto_explain.log_settings": "on", "auto_explain.log_triggers": "on",
        "log_error_verbosity": "verbose", "log_parameter_max_length": "0", "log_parameter_max_length_on_error": "0",
    }

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        if "auto_explain.log_parameter_max_length" in cls.cluster.psql("SELECT string_agg(name, ' ') FROM pg_settings WHERE name LIKE 'auto_explain.%'"):
            cls.cluster.configure({"auto_explain.log_parameter_max_length": "0"})
            cls.cluster.reload()
        cls.db = cls.database("main")
        cls.cluster.psql(SCHEMA + "ANALYZE t", db=cls.db)
        cls.other = cls.cluster.write_file("other.key", canaries.KEYS["other"])

    def setUp(self):
        self.log_before = len(self.cluster.log())

    def log(self):
        log = self.cluster.log()
        new, self.log_before = log[self.log_before:], len(log)
        return new

    def clean(self, text, what):
        self.assertEqual([name for name, secret in canaries.PLAINTEXTS.items() if secret in text], [], f"{what} shows plaintext")

    def run_all(self, conn, statements):
        for sql, parameters in statements:
            with self.subTest(sql):
                conn.execute(sql, *parameters)
                log = self.log()
                self.clean(log, "the log")
                self.assertIn("Query Text: " + sql, log, "auto_explain logged no plan")

    def test_plans_in_the_log(self):
        for settings in ("", PLAINTEXT, f"{PLAINTEXT}; SET plan_cache_mode = force_generic_plan", "SET plan_cache_mode = force_generic_plan", "SET enable_seqscan = off", "SET prism_crypt.keyset = 'default'"):
            with Connection(self.cluster, db=self.db) as conn:
                conn.execute(settings or "SELECT 1")
                self.run_all(conn, SEARCHES)

    def test_plans_of_functions(self):
        for settings in ("SELECT 1", PLAINTEXT):
            with Connection(self.cluster, db=self.db) as conn:
                conn.execute(settings)
                self.run_all(conn, NESTED)
                self.run_all(conn, NESTED)

    def test_prepared_statements(self):
        """The first executions have custom plans, then a generic one."""
        with Connection(self.cluster, db=self.db) as conn:
            for number, (sql, parameters) in enumerate(SEARCHES):
                conn.prepare(f"q{number}", sql)
                for _ in range(7):
                    conn.execute_prepared(f"q{number}", *parameters)
                self.clean(self.log(), sql)

    def test_explain(self):
        """EXPLAIN shows the constant as ciphertext, verbose or not, also where output is plaintext."""
        for settings in ("SELECT 1", PLAINTEXT):
            with Connection(self.cluster, db=self.db) as conn:
                conn.execute(settings)
                self.explain_all(conn)

    def explain_all(self, conn):
        for sql, parameters in SEARCHES:
            for options in ("", "(ANALYZE off)", "(ANALYZE, VERBOSE, FORMAT JSON)"):
                if "VERBOSE" in options and ("WITH x" in sql or "VALUES" in sql or "MERGE" in sql):
                    continue
                with self.subTest(f"{options} {sql}"):
                    plan = str(conn.execute(f"EXPLAIN {options} {sql}", *parameters))
                    self.clean(plan, "the plan")
                    if ("Filter: (" in plan or "Cond: (" in plan) and "VALUES" not in sql and "blind_index" not in sql:
                        self.assertIn("prism:v1:", plan)

    def test_literals_in_plans(self):
        for sql in ("SELECT id FROM t WHERE v = 'numbat77'", "SELECT id FROM t WHERE v = 'numbat77'::text", "SELECT id FROM t WHERE v IN ('numbat77', 'x')",
                    "SELECT id FROM t WHERE v = ANY (ARRAY['numbat77', 'x'])", "SELECT id FROM t WHERE v = ANY ('{numbat77,x}'::text[])",
                    "SELECT id FROM t WHERE v = 'numbat77'::name", "SELECT id FROM t WHERE a @> ARRAY['numbat77']::encrypted_text[]"):
            with self.subTest(sql):
                plan = self.cluster.psql(f"EXPLAIN VERBOSE {sql}", db=self.db)
                self.assertNotIn("numbat77", plan)
                self.assertIn("prism:v1:", plan)
                # What auto_explain says of it, but for the query itself.
                self.log()
                self.cluster.psql(f"{PLAINTEXT}; {sql}", db=self.db)
                self.assertNotIn("numbat77", self.log().replace(sql, ""))

    def test_errors(self):
        for before, sql, parameters, sqlstate in FAILURES:
            with self.subTest(f"{before} {sql}"), Connection(self.cluster, db=self.db) as conn:
                if before:
                    conn.execute(before.format(other=self.other))
                with self.assertRaises(PgError) as caught:
                    conn.execute(sql, *parameters)
                self.assertEqual(caught.exception.sqlstate, sqlstate, "another error")
                self.clean(caught.exception.text + "".join(conn.notices), "the error")
                self.clean(self.log(), "the log")

    def test_debug_levels(self):
        """Down to debug5, also what is sent to the client, and with the parser's and planner's trees in the log."""
        for level in ("debug1", "debug3", "debug5"):
            with Connection(self.cluster, db=self.db) as conn:
                conn.execute(f"SET log_min_messages = {level}; SET client_min_messages = {level}; SET debug_print_parse = on; SET debug_print_rewritten = on; SET debug_print_plan = on")
                for sql, parameters in SEARCHES + NESTED:
                    conn.execute(sql, *parameters)
                for _, sql, parameters, _ in (f for f in FAILURES if not f[0]):
                    with self.assertRaises(PgError):
                        conn.execute(sql, *parameters)
                self.clean("".join(conn.notices), f"what the client saw at {level}")
                log = self.log()
                self.assertTrue("LOG:  00000: plan:" in log and ("DEBUG:" in log or level != "debug5"), "nothing was logged")
                self.clean(log, f"the log at {level}")

    def test_the_check_finds_what_is_there(self):
        """The control: of an ordinary column auto_explain shows what was looked for."""
        with Connection(self.cluster, db=self.db) as conn:
            conn.execute("SELECT id FROM t WHERE plain = $1", "wallaby.plain")
            self.assertIn("'wallaby.plain'::text", self.log())


if __name__ == "__main__":
    unittest.main()
