"""Files of sql/ run in the order of src/install.rs, each once, and use only what files before them make."""

import re
import unittest

from harness import paths

FRAGMENT = re.compile(r'extension_sql_file!\(\s*"\.\./sql/(\S+?)\.sql",\s*name = "(\w+)",\s*(bootstrap|requires = \["(\w+)"\](?:,\s*finalize)?)\s*\)')
MADE = re.compile(r"^CREATE (?:UNIQUE )?(?:FUNCTION|PROCEDURE|TABLE|TYPE|VIEW|SEQUENCE) prism_crypt\.(\w+)", re.M)
NAMED = re.compile(r"\bprism_crypt\.(\w+)")
TEXT = r"'(?:[^']|'')*'"
# What is said to people may name what comes later: comments, and the parts of messages.
SAID = re.compile(rf"--[^\n]*|^COMMENT ON [^;']*(?:{TEXT}\s*)+;|\b(?:MESSAGE|DETAIL|HINT) = (?:{TEXT}|[^';])*|\.(?:message|detail|hint) := {TEXT}|\bRAISE (?:NOTICE|WARNING|INFO) {TEXT}", re.M)


def order(text):
    """The files in their order; an error where the chain of `requires` is another one."""
    found, before = [], None
    for file, name, how, required in FRAGMENT.findall(text):
        if (required or None) != before or (how == "bootstrap") != (before is None):
            raise AssertionError(f"{file} requires {required}, and stands behind {before}")
        found.append(file)
        before = name
    return found


def made(text):
    return set(MADE.findall(text))


def named(text):
    return set(NAMED.findall(SAID.sub("", text)))


def named_too_early(files, sources):
    """What a file names that only a later one makes."""
    maker = {}
    for n, file in enumerate(files):
        for name in made(sources[file]):
            maker.setdefault(name, n)
    return sorted(f"{file} names {name} of {files[maker[name]]}" for n, file in enumerate(files)
                  for name in named(sources[file]) if maker.get(name, n) > n)


class SqlOrder(unittest.TestCase):
    maxDiff = None

    @classmethod
    def setUpClass(cls):
        sql = paths.ROOT / "sql"
        cls.sources = {str(file.relative_to(sql).with_suffix("")): file.read_text(encoding="utf-8") for file in sql.glob("**/*.sql")}
        cls.files = order((paths.ROOT / "src/install.rs").read_text(encoding="utf-8"))

    def test_every_file_runs_once(self):
        self.assertEqual(sorted(self.files), sorted(file for file in self.sources if not file.startswith(("upgrade/", "releases/"))))

    def test_files_use_what_stands_before(self):
        self.assertEqual(named_too_early(self.files, self.sources), [])

    def test_names_are_found(self):
        self.assertGreater(len(set().union(*map(made, self.sources.values()))), 250)
        self.assertGreater(sum(len(named(text)) for text in self.sources.values()), 500)

    def test_planted_names_are_found(self):
        for planted in ("SELECT prism_crypt.grant_access('x', 'decrypt');", "CREATE FUNCTION f() RETURNS void LANGUAGE sql AS $$ SELECT prism_crypt.grant_access('x', 'decrypt') $$;",
                        "DO $$ BEGIN EXECUTE 'SELECT prism_crypt.grant_access($1, $2)'; END $$;"):
            with self.subTest(planted):
                sources = {**self.sources, "jobs/run": self.sources["jobs/run"] + planted}
                self.assertEqual(named_too_early(self.files, sources), ["jobs/run names grant_access of access/access"])

    def test_what_is_said_may_name_anything(self):
        self.assertEqual(named("-- prism_crypt.a\nCOMMENT ON TABLE x IS 'See prism_crypt.b; it''s there'\n  'and prism_crypt.c';\n"
                               "RAISE WARNING 'prism_crypt.d' USING HINT = 'Call prism_crypt.e().';\nRAISE e USING\n  MESSAGE = format('%s', x), DETAIL = 'prism_crypt.f';"), set())

    def test_a_broken_chain_is_found(self):
        text = (paths.ROOT / "src/install.rs").read_text(encoding="utf-8")
        with self.assertRaises(AssertionError):
            order(text.replace('requires = ["jobs_plan"]', 'requires = ["jobs_tables"]'))


if __name__ == "__main__":
    unittest.main()
