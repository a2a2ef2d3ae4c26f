"""pg_dump orders tables by schema and name, and a parallel restore not at all: values are opened before the rows of keys come."""

import subprocess
import unittest

from harness.scenario import Scenario
from restorable import OPENS, PARTITIONS, SCHEMAS, SEARCHABLE, content, missed, schema

REMEDY = "CREATE EXTENSION prism_crypt, then pg_restore --data-only --schema=prism_crypt, then the whole restore"
INVALID = "SELECT count(*) FROM pg_index WHERE NOT indisvalid"
# The dump of a mode, and the runs of pg_restore or psql.
MODES = {
    "psql": ("plain", [[]]),
    "psql, inserts": ("inserts", [[]]),
    "custom": ("custom", [[]]),
    "custom, parallel": ("custom", [["-j4"]]),
    "directory, parallel": ("directory", [["-j4"]]),
    "sections": ("custom", [["--section=pre-data"], ["--section=data"], ["--section=post-data"]]),
    "sections, parallel": ("directory", [["--section=pre-data"], ["--section=data", "-j4"], ["--section=post-data", "-j4"]]),
    "schema, data": ("custom", [["--schema-only"], ["--data-only"]]),
    "schema, data without triggers": ("custom", [["--schema-only"], ["--data-only", "--disable-triggers"]]),
    "schema, data without triggers, parallel": ("directory", [["--schema-only"], ["--data-only", "--disable-triggers", "-j4"]]),
}
HALFWAY = "SELECT prism_crypt._replace_index_key('tenant_a', NULL);" + "".join(
    f'UPDATE "{s}".users SET email = reencrypt_field(email) WHERE id % 3 = 0; UPDATE "{s}".marks SET v = reencrypt_field(v) WHERE id % 3 = 0;'
    for s in SCHEMAS)
SOURCES = {
    "usual": ((OPENS, PARTITIONS, SEARCHABLE), ""),
    "rotated": ((OPENS, SEARCHABLE), "CALL prism_crypt.rotate_index_key('tenant_a')"),
    "halfway": ((OPENS, SEARCHABLE), HALFWAY),
}
TABLES = ("users", "marks", "names")


class Restores(Scenario):
    # What the dumps leave out.
    without = []

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        c = cls.cluster
        cls.dumps, cls.before = {}, {}
        for name, (parts, change) in SOURCES.items():
            db = cls.database(name)
            c.psql("SELECT prism_crypt.create_keyset('tenant_a');" + "".join(schema(s, *parts) for s in SCHEMAS), db=db)
            c.psql("SET client_min_messages = error;" + change, db=db)
            cls.before[name] = content(c, db)
            for form, options in {"plain": [], "inserts": ["--inserts"], "custom": ["-Fc"], "directory": ["-Fd"]}.items():
                path = cls.dumps[name, form] = c.home / f"{name} {form}"
                c.run(["pg_dump", "-f", path, *options, *cls.without], db=db)

    def new_database(self, name):
        db = self.cluster.create_db(name)
        self.addCleanup(self.cluster.psql, f'DROP DATABASE "{db}"')
        return db

    def restore(self, db, source, mode, options=()):
        """What was said to be wrong."""
        form, runs = MODES[mode]
        path = self.dumps[source, form]
        said = ""
        for run in runs:
            if form in ("custom", "directory"):
                argv = ["pg_restore", "-d", db, *run, *(options if "--disable-triggers" in run else ()), path]
            else:
                argv = ["psql", "-Xq", "-o", "/dev/null", "-f", path]
            said += self.cluster.run(argv, db=db, check=False).stderr
        # The index on a column that is not searchable is warned of, as when it was made.
        return "" if "ERROR" not in said and "invalid" not in said else said

    def assert_complete(self, db, source):
        self.assertEqual(set(content(self.cluster, db)) ^ set(self.before[source]), set())
        self.assertEqual(self.cluster.psql(INVALID, db=db), "0")
        self.assertEqual(missed(self.cluster, db, TABLES), [])


class RestoreOrder(Restores):
    def test_the_sources_are_right(self):
        for source in SOURCES:
            with self.subTest(source):
                self.assert_complete(source, source)
                self.assertGreater(len(self.before[source]), 1400)

    def test_restores(self):
        for source in SOURCES:
            for mode in MODES:
                with self.subTest(f"{source}: {mode}"):
                    db = self.new_database(f"{source}: {mode}")
                    self.assertEqual(self.restore(db, source, mode), "")
                    self.assert_complete(db, source)
                    self.assertEqual(self.cluster.psql("SELECT prism_crypt.rotate_key()", db=db), "3")


class RestoreOrderKeysLate(Restores):
    """Dumps that don't carry the keys: what could not be done is said, and how it can."""

    without = ["--exclude-table=prism_crypt.carried_keys"]
    modes = {name: MODES[name] for name in ("psql", "directory, parallel", "schema, data", "schema, data without triggers, parallel")}

    def test_restores(self):
        for source in SOURCES:
            for mode in self.modes:
                with self.subTest(f"{source}: {mode}"):
                    db, before = self.new_database(f"{source}: {mode}"), len(self.cluster.log())
                    said = self.restore(db, source, mode)
                    self.assertIn(REMEDY, said)
                    # Nothing that is there is answered wrong.
                    self.assertEqual(missed(self.cluster, db), [])
                    if source == "halfway" and mode.startswith("schema"):
                        self.assertIn("are invalid: ", self.cluster.log()[before:])

    def test_the_keys_first(self):
        for source in SOURCES:
            for mode, (form, _) in self.modes.items():
                with self.subTest(f"{source}: {mode}"):
                    db = self.new_database(f"{source}: {mode}: keys first")
                    self.cluster.psql("CREATE EXTENSION prism_crypt", db=db)
                    if form == "plain":
                        cut = subprocess.run(["sed", "-n", r"/^COPY prism_crypt\./,/^\\\.$/p", self.dumps[source, form]], stdout=subprocess.PIPE, text=True, check=True)
                        self.cluster.psql(cut.stdout, db=db)
                    else:
                        self.cluster.run(["pg_restore", "--exit-on-error", "-d", db, "--data-only", "--schema=prism_crypt", self.dumps[source, form]])
                    # Without triggers nothing leaves out the rows that are there.
                    self.assertEqual(self.restore(db, source, mode, ["--exclude-schema=prism_crypt"]), "")
                    self.assert_complete(db, source)


if __name__ == "__main__":
    unittest.main()
