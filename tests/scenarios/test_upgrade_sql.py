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
    """Of one version; subclasses are made below."""

    maxDiff = None
    preload = True
    old = None

    @classmethod
    def setUpClass(cls):
        if cls.old is None:
            raise unittest.SkipTest("not a version")
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
        self.query("ALTER EXTENSION prism_crypt UPDATE", db)
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
            self.assert_the_same_extension(db)
            self.assert_the_same_answers(db)
            self.assertEqual(session.run(look_up), "9\nname 9\nuser10@example.org")
            self.cluster.wait_caught_up(standby)
            self.assertEqual(self.version(db, standby), f"{releases.current()}|t")
            self.assert_the_same_answers(db, content.READ_ONLY, standby)
        with self.subTest("a dump from before"):
            self.restored("restored", dump)
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
        for db in ("names", "fresh"):
            found[db] = set(self.query("""
                SELECT proname FROM pg_proc WHERE oid IN (SELECT prism_crypt._members('pg_proc')) UNION SELECT relname FROM pg_class WHERE relnamespace = 'prism_crypt'::regnamespace
                UNION SELECT attname FROM pg_attribute WHERE attrelid IN (SELECT oid FROM pg_class WHERE relnamespace = 'prism_crypt'::regnamespace) AND attnum > 0
                UNION SELECT typname FROM pg_type WHERE oid IN (SELECT prism_crypt._members('pg_type'))""", db).splitlines())
        self.assertEqual(sorted((literals & found["fresh"]) - found["names"]), [])
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
        # Hints for people may name what only new SQL has.
        if path.name not in ("hints.rs", "denied_hint.rs", "tests.rs"):
            for literal in re.findall(r'"((?:[^"\\]|\\.|\\\n)*)"', text):
                found.update(re.findall(r"\w+", literal))
    return found


def symbols_of_the_library():
    library = paths.pg_config("--pkglibdir") / "prism_crypt.so"
    out = subprocess.run(["nm", "-D", "--defined-only", library], check=True, capture_output=True, text=True).stdout
    return {line.split()[-1] for line in out.splitlines()}


# (a change, the object that must be named, and what of it)
CHANGES = [
    ("CREATE OR REPLACE FUNCTION prism_crypt._access_kinds() RETURNS text[] LANGUAGE sql IMMUTABLE AS 'SELECT NULL::text[]'", "function prism_crypt._access_kinds()", "definition"),
    ("ALTER FUNCTION mask_field(encrypted_text, text) COST 7", "function public.mask_field(public.encrypted_text,pg_catalog.text)", "definition"),
    ("ALTER PROCEDURE rotate_batch SET search_path = public", "procedure public.rotate_batch(", "definition"),
    ("ALTER FUNCTION prism_crypt.status() OWNER TO nobody", "function prism_crypt.status()", "owner"),
    ("GRANT EXECUTE ON FUNCTION decrypt_field(encrypted_text, text) TO PUBLIC", "function public.decrypt_field(public.encrypted_text,pg_catalog.text)", "rights"),
    ("REVOKE EXECUTE ON FUNCTION encrypt_field(text, text, text, text) FROM PUBLIC", "function public.encrypt_field(", "rights"),
    ("GRANT SELECT (reason) ON prism_crypt.audit_log TO nobody", "table column prism_crypt.audit_log.reason", "rights"),
    ("GRANT UPDATE ON SEQUENCE prism_crypt.job_id_seq TO nobody", "sequence prism_crypt.job_id_seq", "rights"),
    ("REVOKE USAGE ON TYPE encrypted_text FROM PUBLIC", "type public.encrypted_text", "rights"),
    ("GRANT CREATE ON SCHEMA prism_crypt TO nobody", "schema prism_crypt", "rights"),
    ("UPDATE pg_init_privs SET initprivs = initprivs || makeaclitem('nobody'::regrole, 'postgres'::regrole, 'EXECUTE', false) WHERE objoid = 'blind_index(text,text,int)'::regprocedure",
     "function public.blind_index(", "initial rights"),
    ("COMMENT ON FUNCTION key_version(bytea) IS 'x'", "function public.key_version(pg_catalog.bytea)", "comment"),
    ("COMMENT ON COLUMN prism_crypt.keyset.name IS NULL", "table column prism_crypt.keyset.name", "column"),
    ("COMMENT ON EXTENSION prism_crypt IS 'x'", "extension", "comment"),
    ("ALTER TABLE prism_crypt.keyset ALTER rotation_interval SET DEFAULT '1 day'", "table column prism_crypt.keyset.rotation_interval", "column"),
    ("ALTER TABLE prism_crypt.job ALTER error SET NOT NULL", "table column prism_crypt.job.error", "column"),
    ("ALTER TABLE prism_crypt.job ADD more integer", "table column prism_crypt.job.more", "should not be there"),
    ("ALTER TABLE prism_crypt.index_key ADD CONSTRAINT more CHECK (generation > 0)", "table constraint more on prism_crypt.index_key", "should not be there"),
    ("ALTER TABLE prism_crypt.data_key DISABLE TRIGGER data_key_changed", "trigger data_key_changed on prism_crypt.data_key", "definition"),
    ("DROP TRIGGER index_key_changed ON prism_crypt.index_key", "trigger index_key_changed on prism_crypt.index_key", "is missing"),
    ("ALTER TABLE prism_crypt.job_range SET (fillfactor = 100)", "table prism_crypt.job_range", "relation"),
    ("DROP INDEX prism_crypt.job_part_open_idx", "index prism_crypt.job_part_open_idx", "is missing"),
    ("ALTER SEQUENCE prism_crypt.audit_log_id_seq CYCLE", "sequence prism_crypt.audit_log_id_seq", "sequence"),
    ("CREATE OR REPLACE VIEW prism_crypt.key_status AS SELECT version, keyset, state, master_fingerprint, created_at, created_by, retired_at, disabled_at, destroyed_at, reason, 0::bigint AS seals_reserved"
     " FROM prism_crypt.data_key", "view prism_crypt.key_status", "definition"),
    ("ALTER VIEW prism_crypt.index_key_status SET (security_barrier = true)", "view prism_crypt.index_key_status", "relation"),
    ("ALTER OPERATOR = (encrypted_text, text) SET (RESTRICT = NONE)", "operator public.=(public.encrypted_text,pg_catalog.text)", "definition"),
    ("ALTER OPERATOR FAMILY encrypted_text_ops USING hash DROP OPERATOR 1 (encrypted_text, text)", "operator of access method operator 1 (public.encrypted_text, pg_catalog.text) of public.encrypted_text_ops", "is missing"),
    ("ALTER EXTENSION prism_crypt DROP FUNCTION prism_crypt._uptime()", "function prism_crypt._uptime()", "is missing"),
    ("CREATE FUNCTION prism_crypt.more() RETURNS void LANGUAGE sql AS ''; ALTER EXTENSION prism_crypt ADD FUNCTION prism_crypt.more()", "function prism_crypt.more()", "should not be there"),
    ("ALTER EXTENSION prism_crypt DROP CAST (encrypted_text AS name); DROP CAST (encrypted_text AS name)", "cast (public.encrypted_text as pg_catalog.name)", "is missing"),
    ("ALTER TYPE encrypted_text SET (STORAGE = main)", "type public.encrypted_text", "definition"),
    ("UPDATE prism_crypt.job_kind SET rows_changed = 'x' WHERE name = 'rotation'", "row of job_kind: rotation", "rows_changed"),
    ("UPDATE pg_extension SET extcondition[1] = 'WHERE false' WHERE extname = 'prism_crypt'", "extension", "dumped"),
    ("UPDATE pg_extension SET extversion = '0.0.1' WHERE extname = 'prism_crypt'", "extension", "version"),
]


class Comparison(Scenario):
    """What the tests above compare would show a difference."""

    preload = True

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.cluster.psql("CREATE ROLE nobody")
        cls.db = cls.database("planted")
        cls.right = catalog(cls.cluster, cls.db)

    def test_each_difference_is_named(self):
        self.assertEqual(differences(catalog(self.cluster, self.database("the same")), self.right), [])
        self.assertGreater(len(self.right), 800)
        for change, name, what in CHANGES:
            with self.subTest(change):
                found = differences(catalog(self.cluster, self.db, change), self.right)
                self.assertTrue(any(line.lower().startswith(name.lower()) and what in line for line in found), "\n".join(found) or "no difference")
                self.assertLess(len(found), 8, found)

    def test_rights(self):
        before = rights(self.cluster, self.db, ["nobody"])
        self.assertIn("nobody may execute public.encrypt_field(text,text,text,text)", before)
        db = self.cluster.psql(f"CREATE DATABASE rights TEMPLATE {self.db}") or "rights"
        self.cluster.psql("SELECT prism_crypt.grant_access('nobody', 'load')", db=db)
        self.assertEqual(sorted(set(rights(self.cluster, db, ["nobody"])) - set(before)),
                         ["nobody may USAGE in prism_crypt", "nobody may execute prism_crypt.load_envelope(text)"])

    def test_sql_that_is_newer_than_the_library(self):
        """As on a server that was not restarted, or a standby with the library of before."""
        status = "SELECT name, setting, ok FROM prism_crypt.status() WHERE name IN ('enabled', 'extension_version') ORDER BY 1 DESC"
        own = releases.current()
        self.assertEqual(self.cluster.psql(status, db=self.db), f"extension_version|{own}|t\nenabled|yes|t")
        for version in ("99.0.0", own.rpartition(".")[0] + ".99", "unpackaged"):
            told = self.cluster.psql(f"BEGIN; UPDATE pg_extension SET extversion = '{version}' WHERE extname = 'prism_crypt'; {status}", db=self.db)
            self.assertEqual(told, f"extension_version|{version}: newer than the library; install that of this version and restart|f\nenabled|yes|t")


for _old in releases.older():
    _name = f"Upgrade_{_old.replace('.', '_')}"
    globals()[_name] = type(_name, (Upgrade,), {"old": _old, "__doc__": f"From {_old}."})
del Upgrade

if __name__ == "__main__":
    unittest.main()
