"""pg_dump orders tables by schema and name, and a parallel restore not at all: whatever comes before the keys, nothing is lost in silence."""

import unittest

from harness import PgError
from harness.scenario import Scenario
from restorable import OPENS, PARTITIONS, SCHEMAS, SEARCHABLE, content, missed, schema

LOADED_EARLY = "are invalid: "
INVALID = "SELECT count(*) FROM pg_index WHERE NOT indisvalid"
# What a mode is: the runs of pg_restore or psql, {} being the dump.
CUSTOM, DIRECTORY = "custom", "directory"
MODES = {
    "psql": ("plain", [[]]),
    "psql, inserts": ("inserts", [[]]),
    "custom": (CUSTOM, [[]]),
    "custom, parallel": (CUSTOM, [["-j4"]]),
    "directory, parallel": (DIRECTORY, [["-j4"]]),
    "sections": (CUSTOM, [["--section=pre-data"], ["--section=data"], ["--section=post-data"]]),
    "sections, parallel": (DIRECTORY, [["--section=pre-data"], ["--section=data", "-j4"], ["--section=post-data", "-j4"]]),
    "schema, data": (CUSTOM, [["--schema-only"], ["--data-only"]]),
    "schema, data without triggers": (CUSTOM, [["--schema-only"], ["--data-only", "--disable-triggers"]]),
    "schema, data without triggers, parallel": (DIRECTORY, [["--schema-only"], ["--data-only", "--disable-triggers", "-j4"]]),
}


class RestoreOrder(Scenario):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        c = cls.cluster
        cls.dumps, cls.before = {}, {}
        for name, parts, change in (
            ("usual", (OPENS, PARTITIONS, SEARCHABLE), ""),
            ("rotated", (OPENS, SEARCHABLE), "SET client_min_messages = error; CALL prism_crypt.rotate_index_key('tenant_a')"),
            ("halfway", (OPENS, SEARCHABLE), "SET client_min_messages = error; SELECT prism_crypt._replace_index_key('tenant_a', NULL);" + "".join(
                f'UPDATE "{s}".users SET email = reencrypt_field(email) WHERE id % 3 = 0; '
                f'UPDATE "{s}".marks SET v = reencrypt_field(v) WHERE id % 3 = 0;' for s in SCHEMAS)),
        ):
            db = cls.database(name)
            c.psql("SELECT prism_crypt.create_keyset('tenant_a')" + ";" + "".join(schema(s, *parts) for s in SCHEMAS), db=db)
            c.psql(change, db=db)
            cls.before[name] = content(c, db)
            assert missed(c, db, ("users", "marks", "names")) == []
            for form, options in {"plain": [], "inserts": ["--inserts"], CUSTOM: ["-Fc"], DIRECTORY: ["-Fd"]}.items():
                path = cls.dumps[name, form] = c.home / f"{name} {form}"
                c.run(["pg_dump", "-f", path, *options], db=db)

    def restored(self, source, mode, keys_first):
        """(database, everything that the restore said)."""
        form, runs = MODES[mode]
        path = self.dumps[source, form]
        db = self.cluster.create_db(f"{source}: {mode}{': keys' * keys_first}")
        self.addCleanup(self.cluster.psql, f'DROP DATABASE "{db}"')
        said = ""
        if keys_first:
            self.cluster.psql("CREATE EXTENSION prism_crypt", db=db)
            if form in (CUSTOM, DIRECTORY):
                self.cluster.run(["pg_restore", "--exit-on-error", "-d", db, "--data-only", "--schema=prism_crypt", path])
            else:
                keys = self.cluster.run(["pg_dump", "--data-only", "--table=prism_crypt.*"], db=source).stdout
                self.cluster.psql(keys, db=db)
        for options in runs:
            if form in (CUSTOM, DIRECTORY):
                # Where triggers are off, nothing leaves out the keys that are there.
                without = ["-N", "prism_crypt"] * (keys_first and "--disable-triggers" in options)
                run = self.cluster.run(["pg_restore", "-d", db, *options, *without, path], check=False)
            else:
                run = self.cluster.run(["psql", "-Xq", "-o", "/dev/null", "-f", path], db=db, check=False)
            said += run.stderr
        return db, said

    def assert_complete(self, source, db):
        self.cluster.psql(f'REINDEX DATABASE "{db}"', db=db)
        difference = set(content(self.cluster, db)) ^ set(self.before[source])
        self.assertEqual(difference, set())
        self.assertEqual(missed(self.cluster, db, ("users", "marks", "names")), [])

    def check(self, source):
        for mode in MODES:
            with self.subTest(mode):
                before = len(self.cluster.log())
                db, said = self.restored(source, mode, keys_first=False)
                log = self.cluster.log()[before:]
                complete = content(self.cluster, db) == self.before[source]
                if not complete:
                    self.assertTrue("CREATE EXTENSION prism_crypt, then pg_restore" in log or LOADED_EARLY in log, (said, log))
                # What it has is never answered wrong.
                if self.cluster.psql(INVALID, db=db) == "0" and "ERROR" not in log:
                    self.assertEqual(missed(self.cluster, db, ("users", "marks", "names")), [])
                self.assertEqual(missed(self.cluster, db), [], "an index of what is there misses rows")
            with self.subTest(f"{mode}, the keys first"):
                db, said = self.restored(source, mode, keys_first=True)
                self.assertNotIn("ERROR", said.upper().replace("ERRORS IGNORED", ""))
                if source != "halfway":
                    self.assertEqual(self.cluster.psql(INVALID, db=db), "0")
                self.assert_complete(source, db)

    def test_of_the_usual(self):
        self.check("usual")

    def test_after_a_new_index_key(self):
        self.check("rotated")

    def test_while_values_are_tagged_anew(self):
        self.check("halfway")


if __name__ == "__main__":
    unittest.main()
