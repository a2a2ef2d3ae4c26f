"""Plaintext shows in no error, log line or statistic of PostgreSQL's own."""

import re
import unittest

from harness import PgError, canaries
from harness.libpq import Connection
from harness.scenario import CANARY_ROWS, Scenario

EMAIL = canaries.PLAINTEXTS["email"]
ALL = list(canaries.PLAINTEXTS.values())
# No canary: with these settings PostgreSQL itself logs it.
SAID = "wallaby.bound.parameter"


class Plaintext(Scenario):
    preload = True
    # What PostgreSQL tells the client it also gives to the hook, and so to the log.
    conf = {"log_min_messages": "debug1", "log_min_error_statement": "debug1", "log_parameter_max_length": "-1", "log_error_verbosity": "verbose"}

    def setUp(self):
        self.db = self.database(self.id().rpartition(".")[2][:60].lower())
        self.cluster.psql("""
            CREATE TABLE t (id int CHECK (id < 100), v encrypted_text, n int NOT NULL DEFAULT 0);
            CREATE TABLE arrays (id int, v encrypted_text[]);
            CREATE DOMAIN secret AS encrypted_text;
            CREATE TABLE domains (id int, v secret);
            CREATE TYPE pair AS (a int, b encrypted_text);
            CREATE TABLE composites (id int, v pair);
            CREATE VIEW through AS SELECT * FROM t WHERE id < 50 WITH CHECK OPTION;
            CREATE TABLE parts (id int, v encrypted_text) PARTITION BY RANGE (id);
            CREATE TABLE parts_1 PARTITION OF parts FOR VALUES FROM (1) TO (50);
            """, db=self.db)
        self.log_before = len(self.cluster.log())

    def clean(self, text, what, secrets=None):
        shown = [name for name, secret in canaries.PLAINTEXTS.items() if secret in text] if secrets is None else [s for s in secrets if s in text]
        self.assertEqual(shown, [], f"{what} shows plaintext")

    def log(self):
        """What was logged since the last call."""
        log = self.cluster.log()
        new, self.log_before = log[self.log_before:], len(log)
        return new

    def copy_fails(self, copy, rows, sqlstate, before="", db=None):
        """COPY ends with that error, and neither client nor log are shown a plaintext."""
        error = self.cluster.error(f"{before}{copy};\n{rows}\\.\n", db=db or self.db)
        self.assertEqual(error.sqlstate, sqlstate, error.message if EMAIL not in error.message else "")
        self.clean(error.text, "the error")
        self.clean(self.log(), "the log")
        self.assertRegex(error.text, r"(?m)^(CONTEXT:  )?COPY \w+, line \d+")
        return error

    def test_copy_with_bad_lines(self):
        cases = [
            ("a column too many", "COPY t (id, v) FROM STDIN", f"1\t{EMAIL}\t7\n", "22P04"),
            ("a column too few", "COPY t (v, id) FROM STDIN", f"{EMAIL}\n", "22P04"),
            ("a bad number behind", "COPY t (v, id) FROM STDIN", f"{EMAIL}\tx\n", "22P02"),
            ("a bad number before", "COPY t (id, v) FROM STDIN", f"x\t{EMAIL}\n", "22P02"),
            ("an unterminated quote", "COPY t (id, v) FROM STDIN (FORMAT csv)", f'1,"{EMAIL}\n', "22P04"),
            ("all columns", "COPY t FROM STDIN", f"1\t{EMAIL}\tx\n", "22P02"),
            ("a malformed text form", "COPY t (id, v) FROM STDIN", f"1\tprism:v1:{EMAIL}\n", "22P02"),
            ("of an array", "COPY arrays FROM STDIN", '1\t{"%s"\n' % EMAIL, "22P02"),
            ("behind an array", "COPY arrays (v, id) FROM STDIN", '{"%s"}\tx\n' % EMAIL, "22P02"),
            ("behind a domain", "COPY domains (v, id) FROM STDIN", f"{EMAIL}\tx\n", "22P02"),
            ("behind a composite", "COPY composites (v, id) FROM STDIN", f'(1,"{EMAIL}")\tx\n', "22P02"),
            ("of a partitioned table", "COPY parts (v, id) FROM STDIN", f"{EMAIL}\tx\n", "22P02"),
        ]
        for name, copy, rows, sqlstate in cases:
            with self.subTest(name):
                self.copy_fails(copy, rows, sqlstate)

    def test_copy_with_constraints(self):
        for mode in ("ciphertext", "plaintext", "masked"):
            before = f"SET prism_crypt.output = '{mode}';\n"
            with self.subTest(mode):
                self.copy_fails("COPY t FROM STDIN", f"500\t{EMAIL}\t1\n", "23514", before)
                self.copy_fails("COPY t FROM STDIN", f"1\t{EMAIL}\t\\N\n", "23502", before)
                self.copy_fails("COPY parts FROM STDIN", f"500\t{EMAIL}\n", "23514", before)

    def test_copy_without_a_key(self):
        without = "SET prism_crypt.master_key_file = '';\n"
        self.copy_fails("COPY t (id, v) FROM STDIN", f"1\t{EMAIL}\n", "55000", without)
        self.copy_fails("COPY t (id, v) FROM STDIN (FORMAT csv)", f'1,"{EMAIL}"\n', "55000", without)
        self.copy_fails("COPY arrays FROM STDIN", '1\t{"%s"}\n' % EMAIL, "55000", without)
        self.copy_fails("COPY domains FROM STDIN", f"1\t{EMAIL}\n", "55000", without)

    def test_copy_into_a_database_without_a_data_key(self):
        db = self.database("no_data_key", keys=False)
        self.cluster.psql("CREATE TABLE t (v encrypted_text)", db=db)
        error = self.copy_fails("COPY t FROM STDIN", f"{EMAIL}\n", "55000", db=db)
        self.assertEqual(error.message, 'no active data key in keyset "default"')
        self.assertEqual(error.hint, "Call prism_crypt.rotate_key() to make one.")

    def test_copy_with_a_trigger_that_complains(self):
        self.cluster.psql("""
            CREATE FUNCTION complain() RETURNS trigger LANGUAGE plpgsql AS $$
            BEGIN
              IF NEW.id = 1 THEN RAISE NOTICE 'a notice'; RETURN NEW; END IF;
              IF NEW.id = 2 THEN RAISE WARNING 'a warning'; RETURN NEW; END IF;
              RAISE EXCEPTION 'complaint';
            END $$;
            CREATE TRIGGER complain BEFORE INSERT ON t FOR EACH ROW EXECUTE FUNCTION complain()""", db=self.db)
        rows = "".join(f"{i}\t{text}\n" for i, text in enumerate(ALL[:3], 1))
        error = self.copy_fails("COPY t (id, v) FROM STDIN", rows, "P0001")
        self.assertIn("a notice", error.text)

    def test_the_place_in_an_ordinary_table_is_still_told(self):
        self.cluster.psql("CREATE TABLE plain (id int)", db=self.db)
        for before in ("", f"COPY t (id, v) FROM STDIN;\n1\t{EMAIL}\n\\.\n"):
            error = self.cluster.error(f"{before}COPY plain FROM STDIN;\nnumbat\n\\.\n", db=self.db)
            self.assertIn('COPY plain, line 1, column id: "numbat"', error.text)

    def test_an_ordinary_table_after_a_failed_copy(self):
        self.cluster.psql("CREATE TABLE plain (id int)", db=self.db)
        session = self.session(self.db)
        # A level at which PostgreSQL does not call the hook that logs.
        for level in ("info", "panic"):
            with self.subTest(level):
                session.run(f"SET log_min_messages = '{level}';")
                session.run(f"COPY t (id, v) FROM STDIN;\nx\t{EMAIL}\n\\.", check=False)
                self.assertIn('COPY plain, line 1, column id: "numbat"', session.run("COPY plain FROM STDIN;\nnumbat\n\\.", check=False))

    def test_row_details_are_withheld_while_output_is_plaintext(self):
        self.cluster.psql(f"COPY t (id, v) FROM STDIN;\n{CANARY_ROWS}\\.\n", db=self.db)
        statements = [
            ("check", "UPDATE t SET id = id + 1000", "23514"),
            ("not null", "UPDATE t SET n = NULL", "23502"),
            ("insert select", "INSERT INTO t SELECT 1000, v FROM t", "23514"),
            ("no partition", "INSERT INTO parts SELECT 1000, v FROM t", "23514"),
            ("partition", "INSERT INTO parts_1 SELECT 1000, v FROM t", "23514"),
            ("check option", "UPDATE through SET id = 60", "44000"),
            ("new constraint", "ALTER TABLE t ADD CONSTRAINT c CHECK (id > 3)", "23514"),
        ]
        for mode in ("plaintext", "masked", "ciphertext"):
            for name, statement, sqlstate in statements:
                with self.subTest(f"{name}, {mode}"):
                    error = self.cluster.error(f"SET prism_crypt.output = '{mode}'; {statement}", db=self.db)
                    self.assertEqual(error.sqlstate, sqlstate)
                    self.clean(error.text + self.log(), "the error")
                    if mode == "ciphertext" and name == "check":
                        self.assertIn("Failing row contains (1001, prism:v1:", error.text)
                    if mode == "masked":
                        self.assertNotIn("@example", error.text)

    def test_a_unique_index_over_plaintext_output(self):
        self.cluster.psql("CREATE UNIQUE INDEX ON t (id)", db=self.db)
        self.cluster.psql(f"COPY t (id, v) FROM STDIN;\n{CANARY_ROWS}\\.\n", db=self.db)
        error = self.cluster.error("SET prism_crypt.output = 'plaintext'; INSERT INTO t SELECT id, v FROM t", db=self.db)
        self.assertEqual(error.sqlstate, "23505")
        self.clean(error.text + self.log(), "the error")

    def test_errors_of_values_tell_nothing_of_them(self):
        self.cluster.psql(f"COPY t (id, v) FROM STDIN;\n{CANARY_ROWS}\\.\n", db=self.db)
        for statement in (
            "SELECT decrypt_field(v, 'a context') FROM t",
            "SELECT (v::text)::int FROM t WHERE false OR id < 0; SELECT decrypt_bytes(encrypted_text_send(v), 'x') FROM t",
            "INSERT INTO t SELECT id, reencrypt_field(v) FROM t WHERE decrypt_field(v, 'wrong') > ''",
        ):
            with self.subTest(statement):
                error = self.cluster.error(statement, db=self.db)
                self.assertEqual(error.message, "Decryption failed (wrong key or corrupted data)")
                self.clean(error.text + self.log(), "the error")

    def test_bound_parameters_of_the_type_are_logged_as_ciphertext(self):
        with Connection(self.cluster, db=self.db) as conn:
            conn.execute("INSERT INTO t (id, v) VALUES (1, $1)", EMAIL)
            conn.execute("INSERT INTO t (id, v) VALUES (2, $1)", EMAIL.encode())
            conn.prepare("i", "INSERT INTO t (id, v) VALUES ($1, $2)")
            conn.execute_prepared("i", "3", EMAIL)
            for statement in ("INSERT INTO t (id, v) VALUES (1000, $1)", "INSERT INTO t (id, v, n) VALUES (1, $1, NULL)"):
                with self.assertRaises(PgError) as caught:
                    conn.execute(statement, EMAIL)
                self.clean(caught.exception.text, "the error")
            self.assertEqual(conn.execute("SELECT DISTINCT decrypt_field(v) FROM t"), [[EMAIL]])
        log = self.log()
        self.clean(log, "the log")
        self.assertRegex(log, r"[Pp]arameters: \$1 = 'prism:v1:")

    def test_bound_parameters_while_output_is_plaintext(self):
        with Connection(self.cluster, db=self.db) as conn:
            for mode in ("plaintext", "masked"):
                conn.execute(f"SET prism_crypt.output = '{mode}'")
                conn.execute("INSERT INTO t (id, v) VALUES (1, $1)", EMAIL)
                conn.execute("SELECT count(*) FROM t WHERE key_version(v) = key_version($1::encrypted_text)", EMAIL)
        self.clean(self.log(), "the log")

    def test_statistics(self):
        self.cluster.psql(f"COPY t (id, v) FROM STDIN;\n{CANARY_ROWS}\\.\nANALYZE t", db=self.db)
        rows = self.cluster.psql("SELECT s::text FROM pg_statistic AS s; SELECT s::text FROM pg_stats AS s", db=self.db)
        self.clean(rows, "pg_statistic")
        # Also with plaintext output, by which a view of statistics might print values.
        self.clean(self.cluster.psql("SET prism_crypt.output = 'plaintext'; ANALYZE t; SELECT s::text FROM pg_stats AS s", db=self.db), "pg_stats")

    def test_the_search_finds_what_is_there(self):
        """The control: an ordinary column is shown by the same errors."""
        self.cluster.psql("CREATE TABLE plain (id int CHECK (id < 100), v text)", db=self.db)
        self.assertIn(SAID, self.cluster.error(f"COPY plain FROM STDIN;\n1000\t{SAID}\n\\.\n", db=self.db).text)
        self.assertIn(SAID, self.log())
        with Connection(self.cluster, db=self.db) as conn:
            conn.execute("INSERT INTO plain VALUES (1, $1)", SAID + ".2")
        self.assertTrue(re.search(re.escape(SAID + ".2"), self.log()))


class PlaintextNotPreloaded(Plaintext):
    """The library comes with the first value, which is early enough."""

    preload = False


if __name__ == "__main__":
    unittest.main()
