"""
The library works with the SQL of every earlier version, and ALTER EXTENSION prism_crypt UPDATE makes of it what CREATE EXTENSION
makes: each older version is installed from its frozen script, filled, asked, updated, and compared with a fresh installation.
"""

import re
import subprocess
import unittest

import searchable
import upgrade_content as content
from extension_catalog import catalog, differences, rights
from harness import paths, releases
from harness.scenario import Scenario, set_key

OWNERS = content.ROLES + ("postgres",)


class Upgrade(Scenario):
    """From one version; each has a subclass below."""

    maxDiff = None
    preload = True
    old = None

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.cluster.psql(content.NEW_ROLES)
        cls.filled("fresh")
        cls.right = content.answers(cls.cluster, "fresh")
        # Not taken from what a database says.
        for question, part in (("names", "1|name 1|user1@example.org\n"), ("a member", "x|t"), ("plans", "users_hash"), ("progress", "|paused|"), ("keys", "|destroyed|"),
                               ("denied: SELECT email::text FROM person", "42501"), ("census", "|view|public.found|1|1|".lstrip("|")), ("key administration", "55006")):
            assert part in cls.right[question], (question, cls.right[question])
        assert all("42501" in cls.right[question] for question in content.DENIED), cls.right

    @classmethod
    def installed(cls, db, version="", options=""):
        cls.cluster.create_db(db)
        cls.cluster.psql(f"CREATE EXTENSION prism_crypt {options} {version and f'''VERSION '{version}' '''}", db=db)
        return db

    @classmethod
    def filled(cls, db, version=""):
        cls.installed(db, version)
        cls.cluster.psql(content.EVERYTHING, db=db)
        return db

    def query(self, sql, db):
        return self.cluster.psql(sql, db=db)

    def version(self, db, cluster=None):
        return (cluster or self.cluster).psql("SELECT setting, ok FROM prism_crypt.status() WHERE name = 'extension_version'", db=db)

    def update(self, db):
        """Without a master key."""
        source = "SELECT setting FROM prism_crypt.status() WHERE name = 'key_source'"
        self.assertEqual(self.query(f"SET prism_crypt.master_key_file = ''; ALTER EXTENSION prism_crypt UPDATE; {source}", db), "none")
        self.assertEqual(self.version(db), f"{releases.current()}|t")

    def assert_the_same_extension(self, db, other="fresh"):
        self.assertEqual(differences(catalog(self.cluster, db), catalog(self.cluster, other)), [])
        self.assertEqual(rights(self.cluster, db, OWNERS), rights(self.cluster, other, OWNERS))

    def assert_the_same_answers(self, db, questions=None, cluster=None):
        questions = questions or content.QUESTIONS
        found = content.answers(cluster or self.cluster, db, questions)
        self.assertEqual(content.other_answers(found, {name: self.right[name] for name in questions}), [])

    def assert_the_same_work(self, db, other):
        """The paused job and all that comes after it, in both."""
        for part in (content.REST, content.END):
            found, expected = ({"work": content.normal(self.cluster.psql(part, db=one, check=False))} for one in (db, other))
            self.assertEqual(content.other_answers(found, expected), [])
            self.assertNotIn("ERROR", expected["work"])
        for one in (db, other):
            self.assertEqual(searchable.wrong_answers(self.cluster, one, {**searchable.QUESTIONS, **searchable.VIEW_QUESTIONS}), [])
            self.assertEqual(searchable.wrong_lookups(self.cluster, one), [])

    def test_as_it_was_and_updated(self):
        """The new library with the old SQL, then with the new: the same answers, on a standby as well, and in a session that stays open."""
        db = self.filled("updated", self.old)
        session = self.session(db)
        look_up = "SELECT id FROM users WHERE email = 'user9@example.org'; SELECT decrypt_field(name) FROM person WHERE id = 9; EXECUTE q (10);"
        session.run("PREPARE q (int) AS SELECT email::text FROM users WHERE id = $1;")
        self.assertEqual(session.run(look_up), "9\nname 9\nuser10@example.org")
        standby = self.cluster.standby(f"upgrade-standby-{self.old}")
        self.addCleanup(standby.close)
        set_key(standby, "main")
        standby.start()
        dump = self.cluster.home / "before.dump"
        with self.subTest("as it was"):
            self.assertEqual(self.version(db), f"{self.old}|t")
            self.assert_the_same_answers(db)
            self.assertEqual(session.run(look_up), "9\nname 9\nuser10@example.org")
            self.cluster.wait_caught_up(standby)
            self.assert_the_same_answers(db, content.READ_ONLY, standby)
            self.cluster.run(["pg_dump", "-Fc", "-f", dump], db=db)
        self.update(db)
        with self.subTest("updated"):
            # status() names the roles that lack what has come.
            self.assert_the_same_answers(db, {name: q for name, q in content.QUESTIONS.items() if name != "status"})
            self.query(content.grants_again(self.old), db)
            self.assert_the_same_answers(db)
            self.assert_the_same_extension(db)
            self.assertEqual(session.run(look_up), "9\nname 9\nuser10@example.org")
            self.cluster.wait_caught_up(standby)
            self.assertEqual(self.version(db, standby), f"{releases.current()}|t")
            self.assert_the_same_answers(db, content.READ_ONLY, standby)
        with self.subTest("a dump from before"):
            self.restored("restored", dump)
            self.query(content.grants_again(self.old), "restored")
            # A restored view is as new as the others; what the rights say is the same.
            self.assert_the_same_extension("restored")
            self.assert_the_same_answers("restored", {name: q for name, q in content.QUESTIONS.items() if name not in content.NOT_DUMPED})
        with self.subTest("a dump from afterwards"):
            self.cluster.run(["pg_dump", "-Fc", "-f", dump], db=db)
            self.restored("restored again", dump)
            self.assert_the_same_extension("restored again")
        with self.subTest("the job goes on"):
            self.filled("worked")
            self.assert_the_same_work(db, "worked")
            self.assertEqual(session.run(look_up), "9\nname 9\nuser10@example.org")
            self.assert_the_same_extension(db, "worked")

    def restored(self, db, dump):
        self.cluster.create_db(db)
        self.cluster.run(["pg_restore", "--exit-on-error", "-d", db, dump], db=db)
        self.assertEqual(self.version(db), f"{releases.current()}|t")

    def test_never_updated(self):
        """All work is done with the old SQL."""
        self.filled("kept", self.old)
        self.filled("new")
        self.assert_the_same_work("kept", "new")
        self.assertEqual(self.version("kept"), f"{self.old}|t")
        self.update("kept")
        self.query(content.grants_again(self.old), "kept")
        self.assert_the_same_extension("kept", "new")

    def test_elsewhere(self):
        """In another schema, with default privileges for everybody, and with rights that were taken away before the update."""
        for db, version in (("elsewhere", self.old), ("elsewhere fresh", "")):
            self.cluster.create_db(db)
            for what in ("FUNCTIONS", "TABLES", "SEQUENCES", "TYPES", "SCHEMAS"):
                self.query(f"ALTER DEFAULT PRIVILEGES GRANT ALL ON {what} TO PUBLIC, nobody", db)
            self.query(f"""CREATE SCHEMA "Odd schema"; CREATE EXTENSION prism_crypt SCHEMA "Odd schema" {version and f"VERSION '{version}'"};
                SELECT prism_crypt.rotate_key(); SELECT prism_crypt.close_encrypt(); SELECT prism_crypt.grant_access('may_decrypt', 'decrypt');
                REVOKE EXECUTE ON FUNCTION "Odd schema".key_version(bytea) FROM PUBLIC""", db)
        self.update("elsewhere")
        self.assert_the_same_extension("elsewhere", "elsewhere fresh")
        self.assertEqual(self.cluster.error("""SELECT "Odd schema".encrypt_field('x')""", db="elsewhere", user="nobody").sqlstate, "42501")
        self.assertEqual(self.query("""SET search_path = "Odd schema"; SELECT decrypt_field(encrypt_field('x'))""", "elsewhere"), "x")

    def test_there_is_a_way(self):
        path = self.query(f"SELECT path FROM pg_extension_update_paths('prism_crypt') WHERE source = '{self.old}' AND target = '{releases.current()}'", "fresh")
        self.assertEqual(path.split("--")[0], self.old)
        self.assertEqual(path.split("--")[-1], releases.current())
        self.assertEqual(self.query(f"SELECT count(*) FROM pg_available_extension_versions WHERE name = 'prism_crypt' AND version = '{self.old}'", "fresh"), "1")

    def test_names_that_the_library_looks_up(self):
        """What it finds by name in the new SQL, it finds in the old."""
        self.installed("names", self.old)
        self.query("SELECT prism_crypt.rotate_key()", "names")
        literals = names_in_the_library()
        found = {}
        # Columns of new tables are not looked up in old SQL, and have the names of many things.
        tables = self.query("SELECT string_agg(quote_literal(relname), ', ') FROM pg_class WHERE relnamespace = 'prism_crypt'::regnamespace", "names")
        for db in ("names", "fresh"):
            found[db] = set(self.query(f"""
                SELECT proname FROM pg_proc WHERE oid IN (SELECT prism_crypt._members('pg_proc')) UNION SELECT relname FROM pg_class WHERE relnamespace = 'prism_crypt'::regnamespace
                UNION SELECT attname FROM pg_attribute WHERE attrelid IN (SELECT oid FROM pg_class WHERE relnamespace = 'prism_crypt'::regnamespace AND relname IN ({tables})) AND attnum > 0
                UNION SELECT typname FROM pg_type WHERE oid IN (SELECT prism_crypt._members('pg_type'))""", db).splitlines())
        # For encrypted files, which only new SQL has: events of the audit log, functions whose calls are masked, and what they call.
        of_files = {"export_encrypted", "export_stream", "import_encrypted", "import_stream", "_export_rows", "_export_chunks", "_import_rows",
                    "_file_source", "_import_columns", "_import_target", "_require_empty"}
        self.assertEqual(sorted((literals & found["fresh"]) - found["names"] - of_files), [])
        self.assertTrue({"data_key", "wrapped", "decrypt_field", "_sealed_constant", "_make_next_index_key", "_namesakes", "encrypted_text_array"} <= literals & found["names"])

    def test_symbols_that_the_old_script_names(self):
        exported = symbols_of_the_library()
        named = set(re.findall(r"'MODULE_PATHNAME',\s*'(\w+)'", releases.script(self.old)))
        self.assertEqual(releases.script(self.old).count("MODULE_PATHNAME'"), len(re.findall(r"'MODULE_PATHNAME',\s*'\w+'", releases.script(self.old))))
        self.assertGreater(len(named), 100)
        self.assertEqual(sorted(named - exported), [])
        self.assertEqual(sorted({f"pg_finfo_{name}" for name in named} - exported), [])


def names_in_the_library():
    """Words in string literals of src/ by which objects of the extension may be looked up."""
    found = set()
    for path in (paths.ROOT / "src").glob("**/*.rs"):
        text = re.sub(r"^\s*//.*", "", path.read_text(encoding="utf-8"), flags=re.M)
        # Texts for people may name what only new SQL has, and paths of SQL files look up nothing.
        if path.name not in ("error.rs", "hints.rs", "denied_hint.rs", "tests.rs", "install.rs"):
            for literal in re.findall(r'"((?:[^"\\]|\\.|\\\n)*)"', text):
                found.update(re.findall(r"\w+", literal))
    return found


def symbols_of_the_library():
    library = paths.pg_config("--pkglibdir") / "prism_crypt.so"
    out = subprocess.run(["nm", "-D", "--defined-only", library], check=True, capture_output=True, text=True).stdout
    return {line.split()[-1] for line in out.splitlines()}


for _old in releases.older():
    _name = f"Upgrade_{_old.replace('.', '_')}"
    globals()[_name] = type(_name, (Upgrade,), {"old": _old, "__doc__": f"From {_old}."})
del Upgrade

if __name__ == "__main__":
    unittest.main()
