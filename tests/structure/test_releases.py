"""Install scripts of releases never change, there is a way from each to the current version, and the tools hold to that."""

import hashlib
import os
import re
import shutil
import subprocess
import tempfile
import unittest
from pathlib import Path

from harness import paths, releases


class Releases(unittest.TestCase):
    maxDiff = None

    def test_frozen_scripts_are_unchanged(self):
        sums = dict(reversed(line.split("  ")) for line in (releases.FROZEN / "SHA256SUMS").read_text(encoding="ascii").splitlines())
        scripts = {path.name: path for path in releases.FROZEN.glob("*.sql")}
        # Those that lead to a frozen version are frozen, too.
        scripts.update({f"../upgrade/{path.name}": path for path in releases.UPGRADES.glob("*.sql") if path.stem.rpartition("--")[2] in releases.frozen()})
        self.assertEqual({name: hashlib.sha256(path.read_bytes()).hexdigest() for name, path in scripts.items()}, sums)
        self.assertIn("0.2.0", releases.frozen())

    def test_the_current_version_is_no_older_and_no_other(self):
        current = releases.current()
        self.assertEqual(releases.numbers(current), max(map(releases.numbers, [current, *releases.frozen()])))
        if current in releases.frozen():
            self.assertEqual(releases.install_sql()[1] == releases.script(current), True, "sql/ is another than what was released")

    def test_each_release_has_a_script_to_the_next(self):
        versions = releases.frozen() + [v for v in [releases.current()] if v not in releases.frozen()]
        expected = [f"prism_crypt--{a}--{b}.sql" for a, b in zip(versions, versions[1:])]
        self.assertEqual(sorted(path.name for path in releases.UPGRADES.glob("*.sql")), sorted(expected))

    def test_the_changelog_has_each_version(self):
        headings = re.findall(r"^## \[(.+)\] - (.+)$", (paths.ROOT / "CHANGELOG.md").read_text(encoding="utf-8"), re.M)
        versions = [version for version, _ in headings]
        self.assertEqual(versions, sorted({*releases.frozen(), releases.current()}, key=releases.numbers, reverse=True))
        for version, date in headings:
            self.assertRegex(date, r"^\d{4}-\d\d-\d\d$" if version in releases.frozen() else "^Unreleased$", version)


class Tools(unittest.TestCase):
    """In a copy of what they read."""

    maxDiff = None

    def setUp(self):
        temporary = tempfile.TemporaryDirectory()
        self.addCleanup(temporary.cleanup)
        self.root = Path(temporary.name)
        for name in ("Cargo.toml", "src/install.rs", "tools/common.sh", "tools/install-sql", "tools/release-sql"):
            (self.root / name).parent.mkdir(exist_ok=True)
            shutil.copy(paths.ROOT / name, self.root / name)
        shutil.copytree(paths.ROOT / "sql", self.root / "sql")

    def run_tool(self, name, *arguments):
        done = subprocess.run([self.root / "tools" / name, *arguments], cwd="/", stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                              check=False, env={**os.environ, "GIT_CEILING_DIRECTORIES": str(self.root.parent)})
        return done.returncode, done.stdout.rstrip("\n")

    def edit(self, name, change):
        path = self.root / name
        text = path.read_text(encoding="utf-8")
        path.write_text(change(text), encoding="utf-8")
        self.assertNotEqual(path.read_text(encoding="utf-8"), text)

    def set_version(self, version, old=releases.current()):
        self.edit("Cargo.toml", lambda text: text.replace(f'version = "{old}"', f'version = "{version}"', 1))

    def frozen(self):
        return {path.name: path.read_text(encoding="ascii") for path in (self.root / "sql/releases").iterdir()}

    def test_everything_is_put_there(self):
        into = self.root / "into"
        into.mkdir()
        self.assertEqual(self.run_tool("install-sql", "--into", into), (0, ""))
        listed = self.run_tool("install-sql", "--list")[1].splitlines()
        self.assertEqual(sorted(path.name for path in into.iterdir()), sorted(listed))
        self.assertEqual({path.stat().st_mode & 0o777 for path in into.iterdir()}, {0o644})
        self.assertEqual((into / f"prism_crypt--{releases.current()}.sql").read_text(), self.run_tool("install-sql")[1] + "\n")
        self.assertTrue({f"prism_crypt--{version}.sql" for version in releases.older()} <= set(listed))

    def test_a_file_is_there_exactly_once(self):
        (self.root / "sql/keys/more.sql").write_text("SELECT 1;\n")
        self.assertEqual(self.run_tool("install-sql"), (1, "install-sql: not in src/install.rs: sql/keys/more.sql"))
        self.edit("src/install.rs", lambda text: text + 'extension_sql_file!("../sql/keys/more.sql", name = "a");\nextension_sql_file!("../sql/keys/more.sql", name = "b");\n')
        self.assertEqual(self.run_tool("install-sql"), (1, "install-sql: twice in src/install.rs: sql/keys/more.sql"))
        self.edit("src/install.rs", lambda text: text.replace('extension_sql_file!("../sql/keys/more.sql", name = "a");\n', ""))
        (self.root / "sql/keys/more.sql").unlink()
        self.assertEqual(self.run_tool("install-sql"), (1, "install-sql: not there, but in src/install.rs: sql/keys/more.sql"))

    def test_a_release_is_frozen_once(self):
        before = self.frozen()
        self.set_version("7.0.0")
        (self.root / "sql/upgrade/prism_crypt--6.0.0--7.0.0.sql").touch()
        self.assertEqual(self.run_tool("release-sql"), (0, "sql/releases/prism_crypt--7.0.0.sql"))
        frozen = self.frozen()
        self.assertEqual(sorted(frozen), sorted([*before, "prism_crypt--7.0.0.sql"]))
        sums = frozen["SHA256SUMS"].splitlines()
        self.assertEqual([line.split("  ")[1] for line in sums if line not in before["SHA256SUMS"].splitlines()],
                         ["../upgrade/prism_crypt--6.0.0--7.0.0.sql", "prism_crypt--7.0.0.sql"])
        self.assertTrue(set(before["SHA256SUMS"].splitlines()) <= set(sums))
        self.assertEqual(self.run_tool("release-sql"), (0, "sql/releases/prism_crypt--7.0.0.sql"))
        self.edit("sql/access/grants.sql", lambda text: text + "SELECT 1;\n")
        code, out = self.run_tool("release-sql")
        self.assertEqual((code, "is frozen" in out), (1, True), out)
        self.assertEqual(self.frozen(), frozen)
        # Its sum would tell, also when another release is frozen.
        self.edit("sql/releases/prism_crypt--0.2.0.sql", lambda text: text + "\n")
        self.set_version("7.1.0", "7.0.0")
        self.assertEqual(self.run_tool("release-sql")[0], 0)
        check = subprocess.run(["sha256sum", "--quiet", "-c", "SHA256SUMS"], cwd=self.root / "sql/releases", capture_output=True, text=True, check=False)
        self.assertEqual((check.returncode, check.stdout), (1, "prism_crypt--0.2.0.sql: FAILED\n"))

    def test_a_release_is_made_again_until_it_is_tagged(self):
        self.assertEqual(self.run_tool("release-sql", "--again", "0.1.0"), (1, 'release-sql: sql/releases has no version "0.1.0"'))
        self.edit("sql/access/grants.sql", lambda text: text + "SELECT 1;\n")
        self.assertEqual(self.run_tool("release-sql", "--again", "0.2.0"), (0, "sql/releases/prism_crypt--0.2.0.sql"))
        self.assertEqual(self.frozen()["prism_crypt--0.2.0.sql"], self.run_tool("install-sql")[1] + "\n")
        subprocess.run(["sha256sum", "--quiet", "-c", "SHA256SUMS"], cwd=self.root / "sql/releases", check=True)
        git = ["git", "-c", "user.name=x", "-c", "user.email=x@example.org"]
        for command in (["init", "-q"], ["commit", "-q", "--allow-empty", "-m", "x"], ["tag", "v0.2.0"]):
            subprocess.run([*git, *command], cwd=self.root, check=True)
        self.assertEqual(self.run_tool("release-sql", "--again", "0.2.0"), (1, "release-sql: 0.2.0 is tagged: what is released never changes"))


if __name__ == "__main__":
    unittest.main()
