"""`make install` with DESTDIR, `make uninstall` and `make installcheck`, as whoever knows PGXS expects them."""

import os
import shutil
import subprocess
import tempfile
import unittest
from pathlib import Path

from harness import Cluster, paths
from stage import make_stage


def make(target, server=None, **settings):
    """make with settings on its command line; `server` is for libpq's environment."""
    env = paths.clean_env(**(server or {}))
    # A make that runs the tests would hand its own settings down.
    for name in ("MAKEFLAGS", "MAKELEVEL", "MFLAGS", "DESTDIR", "PG_CONFIG"):
        env.pop(name, None)
    given = [f"{name}={value}" for name, value in {"PG_CONFIG": paths.PG_CONFIG, **settings}.items()]
    return subprocess.run(["make", "-s", target, *given], cwd=paths.ROOT, env=env, text=True, capture_output=True, stdin=subprocess.DEVNULL)


class InstallTree(unittest.TestCase):
    def test_destdir_and_uninstall(self):
        dest = Path(tempfile.mkdtemp(prefix="prism-dest-", dir="/tmp"))
        self.addCleanup(shutil.rmtree, dest)
        done = make("install", DESTDIR=dest)
        self.assertEqual(done.returncode, 0, done.stderr)
        lib = Path(f"{dest}{paths.pg_config('--pkglibdir')}")
        extension = Path(f"{dest}{paths.pg_config('--sharedir')}/extension")
        installed = sorted(str(f) for f in dest.rglob("*") if f.is_file())
        control = (extension / "prism_crypt.control").read_text()
        version = control.split("default_version = '")[1].split("'")[0]
        for file in (lib / "prism_crypt.so", extension / "prism_crypt.control", extension / f"prism_crypt--{version}.sql"):
            self.assertIn(str(file), installed)
        self.assertEqual([f for f in installed if "/prism_crypt" not in f or f.endswith(".installing")], [])
        self.assertEqual(oct((lib / "prism_crypt.so").stat().st_mode & 0o777), "0o755")
        self.assertEqual(oct((extension / "prism_crypt.control").stat().st_mode & 0o777), "0o644")

        (extension / "prism_crypt_of_somebody_else.sql").touch()
        done = make("uninstall", DESTDIR=dest)
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertEqual([f.name for f in dest.rglob("*") if f.is_file()], ["prism_crypt_of_somebody_else.sql"])
        self.assertEqual(make("uninstall", DESTDIR=dest).returncode, 0)

    def test_installcheck(self):
        with Cluster("installcheck") as c:
            server = {"PGHOST": c.socket, "PGPORT": c.port, "PGUSER": "postgres"}
            done = make("installcheck", server)
            self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
            self.assertEqual(c.psql("SELECT count(*) FROM pg_database WHERE datname = 'contrib_regression'"), "0")
            # It can fail: nothing can be created here.
            c.psql("ALTER ROLE postgres SET search_path = pg_temp")
            self.assertNotEqual(make("installcheck", server).returncode, 0)

    def test_a_library_in_use_is_replaced_as_a_whole(self):
        work = Path(tempfile.mkdtemp(prefix="prism-place-", dir="/tmp"))
        self.addCleanup(shutil.rmtree, work)
        stage = make_stage(work / "stage")
        place = [str(paths.ROOT / "tools/place"), str(stage), str(work / "lib"), str(work / "extension")]
        subprocess.run(place, check=True)
        with open(work / "lib/prism_crypt.so", "rb") as used:
            before = os.fstat(used.fileno()).st_ino
            subprocess.run(place, check=True)
            self.assertNotEqual((work / "lib/prism_crypt.so").stat().st_ino, before)
            self.assertEqual(os.fstat(used.fileno()).st_nlink, 0)


if __name__ == "__main__":
    unittest.main()
