"""The archive for PGXN: what its client makes of it, on a PostgreSQL of its own."""

import tempfile
import unittest.mock
import zipfile

import workplace
from harness import Cluster, drivers, paths

EXTENSION = "prism_crypt"


class Pgxn(workplace.Workplace):
    @classmethod
    def setUpClass(cls):
        cls.client = drivers.pgxn()
        super().setUpClass()
        workplace.run(["tools/dist"])
        cls.archive = paths.ROOT / f"target/{EXTENSION}-{workplace.version()}.zip"

    def pgxn(self, command, *args):
        with tempfile.TemporaryDirectory(prefix="prism-pgxn-") as scratch:
            # Its own output, if a check fails, goes to where it is.
            return workplace.run([*self.client, command, f"--pg_config={workplace.PG_CONFIG}", *args, self.archive], cwd=scratch,
                                 env=workplace.env(TMPDIR=scratch))

    def installed(self):
        directories = [paths.pg_config("--pkglibdir", workplace.PG_CONFIG), paths.pg_config("--sharedir", workplace.PG_CONFIG) / "extension"]
        return sorted(path.name for directory in directories for path in directory.glob(f"{EXTENSION}*"))

    def test_the_archive(self):
        version = workplace.version()
        with zipfile.ZipFile(self.archive) as archive:
            names = [name for name in archive.namelist() if not name.endswith("/")]
        self.assertEqual(sorted(names), sorted(f"{EXTENSION}-{version}/{name}" for name in workplace.tracked()))
        self.assertIn(f"{EXTENSION}-{version}/META.json", names)

    def test_install_load_check_uninstall(self):
        # Where another user's PostgreSQL is, it would ask sudo.
        sudo = ["--sudo", "env"]
        self.pgxn("uninstall", *sudo)
        self.assertEqual(self.installed(), [])
        self.pgxn("install", *sudo)
        self.assertIn(f"{EXTENSION}.so", self.installed())
        self.assertIn(f"{EXTENSION}--{workplace.version()}.sql", self.installed())
        with unittest.mock.patch.object(paths, "PG_CONFIG", workplace.PG_CONFIG), Cluster("pgxn") as cluster:
            where = ["--host", cluster.socket, "--port", cluster.port, "--username", "postgres"]
            self.pgxn("load", *where, "--dbname", "postgres", "--yes")
            self.assertEqual(cluster.psql(f"SELECT extversion FROM pg_extension WHERE extname = '{EXTENSION}'"), workplace.version())
            self.pgxn("unload", *where, "--dbname", "postgres", "--yes")
            self.assertEqual(cluster.psql(f"SELECT count(*) FROM pg_extension WHERE extname = '{EXTENSION}'"), "0")
            self.pgxn("check", *where)
        self.pgxn("uninstall", *sudo)
        self.assertEqual(self.installed(), [])


if __name__ == "__main__":
    unittest.main()
