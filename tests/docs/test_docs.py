"""
Every ```sql snippet of README.md and docs/*.md runs: per file in order, in one session, in a database of its own.
The server has a master key; the extension is not created yet. Files of tests/docs/files lie in psql's directory.

    ```sql          must succeed
    ```sql error    must fail
    ```sql no-run   impossible to run here; listed by the test
"""

import re
import shutil
import tempfile
import unittest
from pathlib import Path

from harness import Cluster, PgError, canaries, paths
from harness.snippets import snippets


def unfinished(text):
    """True if the last statement lacks its semicolon: psql would wait for more."""
    lines = [line.split("--")[0].rstrip() for line in text.splitlines()]
    lines = [line for line in lines if line]
    return bool(lines) and not (lines[-1].endswith(";") or "\\" in lines[-1])


class Documents(unittest.TestCase):
    maxDiff = None

    @classmethod
    def setUpClass(cls):
        cls.cluster = Cluster("docs", preload=True)
        cls.addClassCleanup(cls.cluster.close)
        key_file = cls.cluster.write_file("master.key", canaries.KEYS["docs"] + "\n")
        cls.cluster.configure({"prism_crypt.master_key_file": f"'{key_file}'"})
        cls.cluster.start()

    def run_file(self, path):
        where = path.relative_to(paths.ROOT)
        c, db = self.cluster, self.cluster.create_db(re.sub(r"\W", "_", str(where)).lower())
        with tempfile.TemporaryDirectory(prefix="prism-docs-") as directory:
            files = Path(__file__).parent / "files"
            if files.is_dir():
                shutil.copytree(files, directory, dirs_exist_ok=True)
            try:
                with c.session(db=db, cwd=directory) as session:
                    for line, options, text in snippets(path):
                        self.run_snippet(session, f"{where}:{line}", options, text)
            finally:
                # Roles and databases belong to the whole server; the next file may make one of the same name.
                for database in c.psql("UPDATE pg_database SET datistemplate = false WHERE oid >= 16384 RETURNING datname").splitlines():
                    c.psql(f'DROP DATABASE "{database}" WITH (FORCE)')
                for role in c.psql("SELECT rolname FROM pg_roles WHERE oid >= 16384").splitlines():
                    c.psql(f'DROP ROLE "{role}"')

    def run_snippet(self, session, where, options, text):
        if unknown := set(options) - {"error", "no-run"}:
            self.fail(f"{where}: unknown snippet option {unknown}")
        if "no-run" in options:
            print(f"{where}: not run")
            return
        if unfinished(text):
            self.fail(f"{where}: the last statement has no semicolon")
        must_fail, failure = "error" in options, None
        try:
            # A psql that stops at the first error also notices failing backslash commands.
            session.run(f"\\set ON_ERROR_STOP {'off' if must_fail else 'on'}\n{text}", timeout=300)
        except PgError as error:
            failure = error.text
        if failure and not must_fail:
            self.fail(f"{where}: {failure}\n---- the snippet:\n{text}")
        if must_fail:
            if not failure:
                self.fail(f"{where}: should have failed\n---- the snippet:\n{text}")
            session.run("ROLLBACK;")


def _add_tests():
    for path in [paths.ROOT / "README.md", *sorted((paths.ROOT / "docs").glob("*.md"))]:
        if path.exists() and any(snippets(path)):
            name = "test_" + re.sub(r"\W", "_", str(path.relative_to(paths.ROOT)))
            setattr(Documents, name, lambda self, path=path: self.run_file(path))


_add_tests()

if __name__ == "__main__":
    unittest.main()
