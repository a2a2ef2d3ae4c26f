"""No function of ours without a fixed search_path looks anything up by an unqualified name (lookups.py), and that is noticed."""

import subprocess
import tempfile
import unittest
from pathlib import Path

from harness import drivers, paths

LOOKUPS = paths.ROOT / "tests/sql/lookups.py"

# (what stands in the function, what is found)
EXPRESSIONS = [
    ("a = 1", "operator ="),
    ("a OPERATOR(pg_catalog.+) (- a)", "operator -"),
    ("a IN (1, 2)", "IN"),
    ("a IN (SELECT 1)", "IN"),
    ("a NOT IN (1, 2)", "IN"),
    ("a BETWEEN 1 AND 2", "BETWEEN"),
    ("a NOT BETWEEN 1 AND 2", "NOT BETWEEN"),
    ("a IS DISTINCT FROM 1", "IS DISTINCT FROM"),
    ("a IS NOT DISTINCT FROM 1", "IS NOT DISTINCT FROM"),
    ("NULLIF(a, 1)", "NULLIF"),
    ("CASE a WHEN 1 THEN true END", "CASE with an operand"),
    ("a = ANY (ARRAY[1])", "operator ="),
    ("a < ALL (SELECT 1)", "operator <"),
    ("'x' LIKE 'y'", "LIKE"),
    ("abs(a)", "function abs"),
    ("a::int4 IS NULL", "type int4"),
    ("EXISTS (SELECT FROM pg_class)", "relation pg_class"),
    ("EXISTS (SELECT FROM pg_catalog.pg_class AS a JOIN pg_catalog.pg_class AS b USING (oid))", "JOIN USING"),
    ("pg_catalog.max('x' COLLATE \"C\") IS NULL", "collation C"),
]
DECLARATIONS = [("text", "type text"), ("record", "type record"), ("tid[]", "type tid"), ("job.id%TYPE", "type job.id%TYPE")]
CLEAN = """
  a OPERATOR(pg_catalog.=) ANY (ARRAY[1, 2]) AND GREATEST(a, 1) IS NOT NULL AND EXTRACT(epoch FROM pg_catalog.now()) IS NULL
  AND CASE WHEN a IS NULL THEN true ELSE NOT true END AND a::bigint IS NULL AND coalesce(a, 1) IS NULL
  AND EXISTS (WITH w AS (SELECT 1) SELECT FROM w)"""


def function(expression="true", declaration="integer", options=""):
    return (f"CREATE FUNCTION prism_crypt.f(a integer) RETURNS boolean LANGUAGE plpgsql {options} AS $$\nDECLARE\n  v {declaration};\n"
            f"BEGIN\n  RETURN {expression};\nEND $$;\n")


class Lookups(unittest.TestCase):
    maxDiff = None

    def findings(self, *files):
        done = subprocess.run([*drivers.pglast(), LOOKUPS, *files], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
        self.assertEqual(done.returncode, 0, done.stdout)
        return done.stdout.splitlines()

    def findings_in(self, *texts):
        """Findings in each of the texts."""
        with tempfile.TemporaryDirectory() as directory:
            files = [Path(directory, f"{number}.sql") for number in range(len(texts))]
            for file, text in zip(files, texts):
                file.write_text(text, encoding="utf-8")
            found = self.findings(*files)
        return [[line.partition(": ")[2] for line in found if line.startswith(f"{n}.sql: ")] for n in range(len(texts))]

    def test_ours(self):
        files = sorted((paths.ROOT / "sql").glob("**/*.sql"))
        self.assertGreater(len(files), 20)
        self.assertEqual(self.findings(*files), [])

    def test_each_construct_is_found(self):
        bodies = [function(expression) for expression, _ in EXPRESSIONS]
        sql = [f"CREATE FUNCTION prism_crypt.f(a integer) RETURNS boolean LANGUAGE sql AS $$ SELECT {e} $$;" for e, _ in EXPRESSIONS]
        for (expression, what), found, found_in_sql in zip(EXPRESSIONS, self.findings_in(*bodies), self.findings_in(*sql)):
            with self.subTest(expression):
                self.assertIn(f"prism_crypt.f: {what}", found)
                self.assertIn(f"prism_crypt.f: {what}", found_in_sql)

    def test_each_declaration_is_found(self):
        for (declaration, what), found in zip(DECLARATIONS, self.findings_in(*(function(declaration=d) for d, _ in DECLARATIONS))):
            with self.subTest(declaration):
                self.assertTrue(any(what in line for line in found), found)

    def test_statements(self):
        loop = "DO $$ BEGIN CASE 1 WHEN 1 THEN NULL; END CASE; END $$;"
        block = "DO $$ BEGIN PERFORM now(); END $$;"
        other_path = function("a = 1", options="SET search_path = public")
        found = self.findings_in(loop, block, other_path)
        self.assertEqual(found, [["DO: CASE with an operand"], ["DO: function now"],
                                 ["prism_crypt.f: search_path public, not pg_catalog, pg_temp"]])

    def test_what_is_qualified_or_fixed_is_not(self):
        fixed = function("a = 1", "text", "SET search_path = pg_catalog, pg_temp")
        self.assertEqual(self.findings_in(function(CLEAN), function(declaration="pg_catalog.record"), fixed), [[], [], []])
