"""
What every driver must be able to do with encrypted values. A driver's program (tests/drivers) reads JSON on stdin:

    {"connection": {host, port, user, database}, "variant": text, "steps": [...]}

runs the steps one after another in one session, and prints a list of what each gave:

    {"sql": "… $1 …", "runs": [[parameter, …], …]}           the rows of each run; prepared if there are several runs
    {"copy_in": table, "columns", "types", "rows", "format"}  null
    {"copy_out": query, "types", "format"}                    the rows
    {"copy_back": query, "to": table, "format"}               null; the bytes of COPY TO go into COPY FROM as they are

A step that the server refuses gives {"error": SQLSTATE, "text": …}. Bytes in a row are {"hex": …}.
Here plaintexts go by their names in harness.canaries, so that no failing test prints one.
"""

import json
import re
import subprocess

from harness import canaries, paths
from harness.scenario import Scenario

PEOPLE = [(1, "email"), (2, "name"), (3, "phone"), (4, "tax id"), (5, "unicode"), (6, None), (7, "email")]
LETTERS = [("email", "first"), ("unicode", "second"), ("absent", "third")]
NAMES = {text: name for name, text in canaries.PLAINTEXTS.items()}
# With fillers, so that the planner wants an index; `archive` is not searchable.
TABLES = """
CREATE TABLE people (id int PRIMARY KEY, email encrypted_text('email', 'searchable'));
CREATE INDEX people_email ON people USING hash (email);
INSERT INTO people SELECT id, 'filler ' || id FROM generate_series(1001, 3000) AS id;
CREATE TABLE accounts (email encrypted_text('email', 'searchable') CONSTRAINT accounts_email UNIQUE, visits int NOT NULL);
CREATE TABLE archive (id int PRIMARY KEY, email encrypted_text);
CREATE TABLE letters (address text, subject text);
GRANT ALL ON people, accounts, archive, letters TO app, untrusted, loader;
"""
# The plan of a prepared statement of the session, and whether the server chose such a plan by itself.
GENERIC_PLAN = """
CREATE FUNCTION generic_plan(sql text) RETURNS SETOF text LANGUAGE plpgsql SET plan_cache_mode = force_generic_plan AS $$
DECLARE
  prepared pg_prepared_statements;
BEGIN
  SELECT * INTO STRICT prepared FROM pg_prepared_statements WHERE statement = sql;
  RETURN NEXT format('chosen: %s', prepared.generic_plans > 0);
  RETURN QUERY EXECUTE format('EXPLAIN EXECUTE %I (%s)', prepared.name, concat_ws(', ', VARIADIC array_fill('NULL'::text,
    ARRAY[cardinality(prepared.parameter_types)])));
END $$;
"""
# {condition: number of parameters}; None: one parameter, an array.
CONDITIONS = {
    "email = $1": 1, "email = $1::text": 1, "email = $1::varchar": 1, "$1 = email": 1, "email = $1::encrypted_text": 1,
    "email IN ($1, $2)": 2, "email IN ($1::text, $2::text)": 2,
    "email = ANY ($1)": None, "email = ANY ($1::text[])": None, "email = ANY ($1::varchar[])": None, "email = ANY ($1::encrypted_text[])": None,
}
# What is looked for, two at a time.
WANTED = [("email", "unicode"), ("phone", "phone"), ("absent", "name"), ("absent", "absent"), (None, "tax id")]


def sql(text, *runs):
    return {"sql": text, "runs": [list(run) for run in runs] or [[]]}


def arguments(count, pair):
    return [list(pair)] if count is None else list(pair[:count])


def plaintext(value):
    """The value with names turned into plaintexts."""
    if isinstance(value, (list, tuple)):
        return [plaintext(v) for v in value]
    return canaries.PLAINTEXTS.get(value, value)


def named(value):
    """The value with plaintexts turned into names, whole ones in bytes too; inside of longer texts as <name>."""
    if isinstance(value, list):
        return [named(v) for v in value]
    if isinstance(value, dict):
        return NAMES.get(bytes.fromhex(value["hex"]).decode(errors="ignore"), value) if "hex" in value else {k: named(v) for k, v in value.items()}
    if isinstance(value, str):
        return NAMES.get(value) or re.sub("|".join(map(re.escape, NAMES)), lambda found: f"<{NAMES[found[0]]}>", value)
    return value


def is_ciphertext(value):
    return value["hex"].startswith("01") if isinstance(value, dict) else value.startswith("prism:v1:")


class Driver(Scenario):
    """Runs programs against a database of the class; each test has its own tables."""

    # A way to use the driver.
    variant = "untyped"
    # Whether it has COPY of rows, not just of bytes, in binary.
    binary_copy_in = binary_copy_out = True
    preload = True
    # PostgreSQL itself logs parameters of type text as they are.
    conf = {"log_parameter_max_length": "0"}

    @classmethod
    def command(cls):
        """The program, as a list; raises SkipTest where it can't be had."""
        raise NotImplementedError

    @classmethod
    def setUpClass(cls):
        cls.argv = cls.command()
        super().setUpClass()
        cls.db = cls.database("drivers")
        cls.cluster.psql("""CREATE ROLE app LOGIN; CREATE ROLE untrusted LOGIN; CREATE ROLE loader LOGIN;
            SELECT prism_crypt.grant_access(role, access) FROM (VALUES
              ('app'::regrole, 'decrypt'), ('app', 'search'), ('untrusted', 'decrypt'), ('loader', 'load')) AS g (role, access);"""
                         + GENERIC_PLAN, db=cls.db)

    def setUp(self):
        rows = "".join(f"{i}\t{plaintext(v) or chr(92) + 'N'}\n" for i, v in PEOPLE)
        letters = "".join(f"{plaintext(a)}\t{s}\n" for a, s in LETTERS)
        self.cluster.psql(f"""SET client_min_messages = warning; DROP TABLE IF EXISTS people, accounts, archive, letters;
{TABLES}COPY people FROM STDIN;
{rows}\\.
COPY archive FROM STDIN;
{rows}\\.
COPY letters FROM STDIN;
{letters}\\.
ANALYZE people, letters, archive;""", db=self.db)

    def program(self, argv, given):
        """What a program prints, as JSON."""
        given["connection"] = {"host": str(self.cluster.socket), "port": self.cluster.port, "database": self.db} | given["connection"]
        done = subprocess.run(argv, input=json.dumps(given), capture_output=True, text=True, check=False, timeout=120, env=paths.clean_env())
        self.assertEqual(done.returncode, 0, named(done.stderr))
        return named(json.loads(done.stdout))

    def steps(self, *steps, user="app"):
        steps = [step | {key: plaintext(step[key]) for key in ("runs", "rows") if key in step} for step in steps]
        gave = self.program(self.argv, {"connection": {"user": user}, "variant": self.variant, "steps": steps})
        self.assertEqual(len(gave), len(steps))
        return gave


class DriverChecks:
    """The tests, for classes over Driver, whatever type parameters have."""

    def test_search(self):
        for table in ("people", "archive"):
            asked = [sql(f"SELECT id FROM {table} WHERE {condition} ORDER BY id", *[arguments(count, pair) for pair in WANTED])
                     for condition, count in CONDITIONS.items()]
            for (condition, count), gave in zip(CONDITIONS.items(), self.steps(*asked)):
                expected = [[[i] for i, v in PEOPLE if v is not None and v in pair[:count]] for pair in WANTED]
                self.assertEqual(gave, expected, f"{table}: {condition}")

    def test_an_index_serves_each_search(self):
        for condition, gave in zip(CONDITIONS, self.steps(*[
                sql(f"EXPLAIN SELECT id FROM people WHERE {condition}", arguments(count, WANTED[0])) for condition, count in CONDITIONS.items()])):
            plan = "\n".join(line for line, in gave[0])
            self.assertRegex(plan, "Index Scan (using|on) people_email", condition)
            # The constant is sealed, and shown as that.
            self.assertRegex(plan, "Index Cond: .*prism:v1:", condition)
            self.assertNotRegex(plan, "<(email|unicode)>", condition)

    def test_generic_plans(self):
        steps = []
        for condition, count in CONDITIONS.items():
            query = f"SELECT id FROM people WHERE {condition}"
            # For arrays PostgreSQL prefers custom plans, as it doesn't know how long they are.
            mode = "force_generic_plan" if count is None else "auto"
            steps += [sql(f"SET plan_cache_mode = {mode}"), sql(query, *[arguments(count, WANTED[0])] * 12), sql("SELECT generic_plan($1::text)", [query])]
        gave = self.steps(*steps)
        for (condition, count), rows, plan in zip(CONDITIONS.items(), gave[1::3], gave[2::3]):
            expected = sorted([i] for i, v in PEOPLE if v in WANTED[0][:count])
            self.assertEqual([sorted(run) for run in rows], [expected] * 12, condition)
            plan = "\n".join(line for line, in plan[0])
            self.assertIn("chosen: t", plan, condition)
            self.assertRegex(plan, "Index Scan (using|on) people_email", condition)
            self.assertRegex(plan, r"Index Cond: .*\$1", condition)

    def test_prepared_statements_outlive_rotations(self):
        conditions = {c: CONDITIONS[c] for c in ("email = $1", "email = $1::text", "email = ANY ($1)")}
        queries = [sql(f"SELECT id FROM people WHERE {c} ORDER BY id", *[arguments(count, WANTED[0])] * 7) for c, count in conditions.items()]
        expected = [[[[i] for i, v in PEOPLE if v in WANTED[0][:count]]] * 7 for count in conditions.values()]
        rotations = ["SELECT prism_crypt.rotate_key() > 1", "CALL prism_crypt.rotate_all()", "CALL prism_crypt.rotate_index_key('default')"]
        gave = self.steps(*queries, *[step for rotation in rotations for step in (sql(rotation), *queries)], user="postgres")
        self.assertEqual(gave, [*expected, [[[True]]], *expected, [[]], *expected, [[]], *expected])

    def test_insert_and_read(self):
        values = [[100 + i, v] for i, v in PEOPLE]
        for insert in ("INSERT INTO people VALUES ($1, $2)", "INSERT INTO archive VALUES ($1, $2::text)"):
            read = "SELECT decrypt_field(email), email::text, email FROM {} WHERE id BETWEEN 101 AND 107 ORDER BY id".format(insert.split()[2])
            # Not the statement that the driver keeps: PostgreSQL refuses it where the columns were of other types when it was described.
            again = f"{read} -- again"
            _, gave, _, shown = self.steps(sql(insert, *values), sql(read), sql("SET prism_crypt.output = 'plaintext'"), sql(again))
            self.assertEqual([row[:2] for row in gave[0]], [[v, v] for _, v in PEOPLE])
            self.assertTrue(all(is_ciphertext(row[2]) for row in gave[0] if row[1] is not None))
            self.assertIsNone(gave[0][5][2])
            self.assertEqual(shown[0], [[v] * 3 for _, v in PEOPLE])

    def test_null(self):
        gave = self.steps(
            sql("SELECT id FROM people WHERE email IS NULL"), sql("SELECT id FROM people WHERE email IS NOT DISTINCT FROM $1", [None], ["phone"]),
            sql("SELECT count(*)::int FROM people WHERE id < 1000 AND (email <> $1)", [None], ["phone"]),
            sql("UPDATE people SET email = $1 WHERE email = $2 RETURNING id", [None, "phone"]), sql("SELECT email FROM people WHERE id = $1", [3]))
        self.assertEqual(gave, [[[[6]]], [[[6]], [[3]]], [[[0]], [[5]]], [[[3]]], [[[None]]]])

    def test_upsert(self):
        for typed in ("", "::text"):
            count = f"INSERT INTO accounts VALUES ($1{typed}, $2) ON CONFLICT (email) DO UPDATE SET visits = accounts.visits + excluded.visits RETURNING visits"
            keep = f"INSERT INTO accounts VALUES ($1{typed}, $2) ON CONFLICT (email) DO NOTHING RETURNING visits"
            gave = self.steps(
                sql("DELETE FROM accounts"),
                sql(count, *[[v, n] for n in range(1, 9) for v in ("email", "unicode")]), sql(keep, ["email", 5], ["name", 5]),
                sql("INSERT INTO accounts VALUES ($1, 1)", ["unicode"]), sql("EXPLAIN SELECT visits FROM accounts WHERE email = $1", ["name"]),
                sql("SELECT decrypt_field(email), visits FROM accounts ORDER BY 2"))
            self.assertEqual(gave[1], [[[n * (n + 1) // 2]] for n in range(1, 9) for _ in (1, 2)])
            self.assertEqual(gave[2], [[], [[5]]])
            self.assertEqual(gave[3]["error"], "23505")
            self.assertNotIn("<", gave[3]["text"])
            self.assertIn("accounts_email", str(gave[4]))
            self.assertEqual(sorted(gave[5][0]), [["email", 36], ["name", 5], ["unicode", 36]])

    def test_join(self):
        join = "SELECT p.id FROM letters l JOIN people p ON {} WHERE l.subject = $1 ORDER BY 1"
        by_text = [sql(join.format(on), ["first"], ["second"], ["third"]) for on in ("p.email = l.address", "l.address = p.email")]
        *gave, plan, accounts, both = self.steps(
            *by_text, sql("EXPLAIN " + join.format("p.email = l.address"), ["first"]),
            sql("INSERT INTO accounts VALUES ($1, 1) RETURNING 1", ["email"], ["absent"]),
            sql("SELECT p.id FROM people p JOIN accounts a ON a.email = p.email AND a.email = $1 ORDER BY 1", ["email"], ["name"]))
        self.assertEqual(gave, [[[[1], [7]], [[5]], []]] * 2)
        self.assertIn("people_email", str(plan))
        self.assertEqual(accounts, [[[1]], [[1]]])
        self.assertEqual(both, [[[1], [7]], []])

    def test_copy(self):
        rows = [[100 + i, v] for i, v in PEOPLE]
        for file_format in ("text", "binary") if self.binary_copy_in else ("text",):
            types = {"types": ["int4", "text"], "format": file_format}
            gave = self.steps(
                {"copy_in": "archive", "columns": ["id", "email"], "rows": rows, **types},
                {"copy_in": "people", "columns": ["id", "email"], "rows": rows, **types},
                sql("SELECT id FROM people WHERE email = $1 ORDER BY id", ["email"], ["unicode"]),
                sql("SELECT id FROM archive WHERE email = $1 ORDER BY id", ["email"], ["unicode"]),
                sql("SELECT decrypt_field(email) FROM archive WHERE id > 100 ORDER BY id"),
                *[sql(f"DELETE FROM {table} WHERE id BETWEEN 101 AND 107") for table in ("people", "archive")])
            self.assertEqual(gave[:5], [None, None, *[[[[1], [7], [101], [107]], [[5], [105]]]] * 2, [[[v] for _, v in PEOPLE]]], file_format)

    def test_copy_out(self):
        for file_format in ("text", "binary") if self.binary_copy_out else ("text",):
            read = "SELECT {} FROM people WHERE id < 6 ORDER BY id"
            plain, sealed = self.steps(
                {"copy_out": read.format("email::text"), "types": ["text"], "format": file_format},
                {"copy_out": read.format("email"), "types": ["text" if file_format == "text" else "bytea"], "format": file_format})
            self.assertEqual(plain, [[v] for _, v in PEOPLE[:5]])
            self.assertEqual([is_ciphertext(value) for value, in sealed], [True] * 5)

    def test_copied_ciphertext_is_found(self):
        """Copied by a role that may neither read nor search."""
        for file_format in ("text", "binary"):
            copied, read, found = self.steps(
                sql("DELETE FROM accounts"), {"copy_back": "SELECT email, id FROM people WHERE id < 6", "to": "accounts", "format": file_format},
                sql("SELECT decrypt_field(email) FROM accounts"), sql("SELECT visits FROM accounts WHERE email = $1", ["phone"]), user="loader")[1:]
            self.assertEqual((copied, read["error"], found["error"]), (None, "42501", "42501"))
            self.assertEqual(self.steps(sql("SELECT visits FROM accounts WHERE email = $1", ["phone"], ["email"])), [[[[3]], [[1]]]])

    def test_without_the_right_to_search(self):
        refused = [sql(f"SELECT id FROM people WHERE {condition}", arguments(count, WANTED[0])) for condition, count in CONDITIONS.items()]
        refused += [
            sql("SELECT p.id FROM letters l JOIN people p ON p.email = l.address"),
            # Whoever could make tags could guess.
            sql("INSERT INTO people VALUES (99, $1)", ["phone"]),
            sql("INSERT INTO accounts VALUES ($1, 1) ON CONFLICT (email) DO UPDATE SET visits = 2", ["phone"])]
        # Two stored tags say no more than the ciphertexts show.
        distinct = sql("SELECT CASE WHEN count(*) > 0 THEN 'some' END FROM (SELECT DISTINCT email FROM people) AS d")
        *gave, groups, read = self.steps(*refused, distinct, sql("SELECT decrypt_field(email) FROM people WHERE id = 3"), user="untrusted")
        self.assertEqual(groups, [[["some"]]])
        self.assertEqual({step["sql"]: g["error"] if isinstance(g, dict) else g for step, g in zip(refused, gave)}, {s["sql"]: "42501" for s in refused})
        self.assertEqual(read, [[["phone"]]])


class UntypedChecks(DriverChecks):
    """Also where parameters are of the column's type if the statement says nothing else."""

    def test_a_parameter_is_logged_as_ciphertext(self):
        self.steps(sql("SET log_parameter_max_length = -1"), sql("INSERT INTO people VALUES ($1, $2)", [99, "email"]),
                   sql("SELECT id FROM people WHERE email = $1 AND id = $2", ["email", 99]), user="postgres")
        log = self.cluster.log()
        self.assertRegex(log, r"\$2 = 'prism:v1:\S+'")
        self.assertRegex(log, r"\$1 = 'prism:v1:\S+', \$2 = '99'")
        self.assertFalse([name for text, name in NAMES.items() if text in log])
