"""What every upgrade script begins and ends with gives new objects the rights that an installation gives them, and leaves the others alone."""

import os
import re
import unittest

from extension_catalog import catalog, differences
from harness import paths, releases
from harness.scenario import Scenario

# What an upgrade script may add, and the rights that it has at the end: {object: who may}.
ADDED = """
    CREATE FUNCTION prism_crypt._a_helper() RETURNS integer LANGUAGE sql AS 'SELECT 1';
    CREATE FUNCTION prism_crypt.closed() RETURNS integer LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS 'SELECT 2';
    CREATE FUNCTION prism_crypt._a_closed_helper() RETURNS integer LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS 'SELECT 2';
    CREATE FUNCTION beside() RETURNS integer LANGUAGE sql AS 'SELECT 3';
    CREATE TABLE prism_crypt.an_addition (id integer GENERATED ALWAYS AS IDENTITY);
    CREATE SEQUENCE prism_crypt.numbers;
    CREATE TYPE prism_crypt.kind AS ENUM ('a');
    CREATE TYPE prism_crypt.two AS (a integer, b text);
    CREATE VIEW prism_crypt.shown AS SELECT id FROM prism_crypt.an_addition;
    CREATE OPERATOR prism_crypt.<=> (FUNCTION = pg_catalog.int4eq, LEFTARG = pg_catalog.int4, RIGHTARG = pg_catalog.int4);
    @STATUS@;
"""
OPEN = {"function prism_crypt._a_helper()"}
CLOSED = {"function prism_crypt.closed()", "function prism_crypt._a_closed_helper()", "function public.beside()", "table prism_crypt.an_addition", "sequence prism_crypt.numbers",
          "type prism_crypt.kind", "type prism_crypt.two", "view prism_crypt.shown"}


class UpgradeRights(Scenario):
    preload = True
    maxDiff = None

    def planted(self, statements):
        """The version that an upgrade script with these brings, which is gone after the test."""
        version = f"{releases.current()}.test{os.getpid()}"
        newest = max(releases.UPGRADES.glob("*.sql"), key=lambda path: releases.numbers(path.stem.rpartition("--")[2]))
        begin, rest = newest.read_text(encoding="ascii").split("-- ---- What changed.")
        end = rest.partition("-- ---- The end of every such script.")[2]
        script = paths.pg_config("--sharedir") / "extension" / f"prism_crypt--{releases.current()}--{version}.sql"
        self.addCleanup(script.unlink)
        script.write_text(begin + statements + end, encoding="ascii")
        script.chmod(0o644)
        return version

    def test_a_library_that_lacks_a_function(self):
        """As on a server that was not restarted: the update fails, and nothing has changed."""
        db = self.database("lacking")
        version = self.planted("CREATE FUNCTION prism_crypt.first() RETURNS integer LANGUAGE sql AS 'SELECT 1';"
                               "CREATE FUNCTION prism_crypt.later() RETURNS integer LANGUAGE c AS 'MODULE_PATHNAME', 'later_wrapper';")
        before = catalog(self.cluster, db)
        error = self.cluster.error(f"ALTER EXTENSION prism_crypt UPDATE TO '{version}'", db=db)
        self.assertEqual((error.sqlstate, error.message.partition(" in file")[0]), ("42883", 'could not find function "later_wrapper"'))
        self.assertEqual(differences(catalog(self.cluster, db), before), [])

    def test_rights_of_what_is_new(self):
        version = self.planted(self.added())
        db = self.database("added")
        self.cluster.psql("""
            CREATE ROLE nobody; CREATE ROLE "Another" SUPERUSER LOGIN; CREATE ROLE watcher; SELECT prism_crypt.grant_access('watcher', 'monitor');
            GRANT SELECT ON prism_crypt.data_key TO nobody WITH GRANT OPTION; REVOKE EXECUTE ON FUNCTION key_version(bytea) FROM PUBLIC; SELECT prism_crypt.close_encrypt();
            GRANT EXECUTE ON FUNCTION mask_field(encrypted_text, text) TO PUBLIC""", db=db)
        for what in ("FUNCTIONS", "TABLES", "SEQUENCES", "TYPES"):
            for role in ("postgres", '"Another"'):
                self.cluster.psql(f"ALTER DEFAULT PRIVILEGES FOR ROLE {role} GRANT ALL ON {what} TO PUBLIC, nobody", db=db)
        before = catalog(self.cluster, db)
        self.cluster.psql(f"BEGIN; SAVEPOINT s; ALTER EXTENSION prism_crypt UPDATE TO '{version}'; RELEASE s; COMMIT", db=db, user="Another")
        after = catalog(self.cluster, db)
        new = {name.removesuffix(": should not be there") for name in differences(after, before)}
        self.assertEqual({name for name in new if " column " not in name and "extension: version" not in name} & (OPEN | CLOSED), OPEN | CLOSED)
        # Nothing else has changed, apart from what comes with these.
        self.assertEqual([name for name in new if not re.search(r"prism_crypt\.(an_addition|numbers|kind|_kind|_an_addition|two|_two|shown|_shown|<=>)|extension: version", name) and name not in OPEN | CLOSED], [])
        for name in OPEN | CLOSED:
            grantees = {right.split(" to ")[1].split(" by ")[0] for right in after[name]["rights"] or []} - {"postgres"}
            self.assertEqual(grantees, {"PUBLIC"} if name in OPEN else set(), name)
            self.assertNotIn("nobody", str(after[name].get("initial rights")), name)
        for name in new & after.keys():
            self.assertNotIn("Another", str(after[name]), name)
            self.assertIn(after[name].get("owner"), ("postgres", None), name)
        self.assertEqual(after["operator prism_crypt.<=>(integer,integer)"]["owner"], "postgres")
        for name in ("prism_crypt.closed()", "prism_crypt._a_closed_helper()", "prism_crypt.status()"):
            self.assertIn("SUPPORT prism_crypt._role_support", after[f"function {name}"]["definition"])
        self.assertEqual(self.cluster.psql("SET ROLE watcher; SELECT count(*) > 9 FROM prism_crypt.status()", db=db), "t")

    def added(self):
        """With status() as it is, whatever that is."""
        status = self.cluster.psql("CREATE DATABASE asked") or self.cluster.psql(
            "SET client_min_messages = warning; CREATE EXTENSION prism_crypt; SELECT regexp_replace(pg_get_functiondef('prism_crypt.status()'::regprocedure), ' SUPPORT \\S+', '')", db="asked")
        self.assertNotIn("_role_support", status)
        return ADDED.replace("@STATUS@", status)


if __name__ == "__main__":
    unittest.main()
