"""The library on processors that lack what it was built for, or have no AES instructions. qemu-user plays them, for a real server in
single-user mode."""

import platform
import shutil
import subprocess
import unittest

from harness import paths
from harness.scenario import Scenario

QEMU = shutil.which("qemu-x86_64")
# The oldest that qemu knows. It has no AES, no AVX and no SSE 4.
OLD = "core2duo"


@unittest.skipUnless(platform.machine() == "x86_64", "not a processor of the x86 family")
@unittest.skipUnless(QEMU, "qemu-x86_64 is not there (Debian's package qemu-user)")
class OldProcessor(Scenario):
    preload = True

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.database("old")
        cls.cluster.psql("CREATE TABLE t AS SELECT encrypt_field('sealed before') AS e", db="old")
        cls.built_for = cls.cluster.psql("SELECT setting FROM prism_crypt.status() WHERE name = 'built_for'", db="old")
        cls.cluster.stop()

    def single_user(self, statements, preload):
        """Standard output and error, and the exit status, of a server for one user on an old processor."""
        options = ["-c", f"shared_preload_libraries={'prism_crypt' if preload else ''}", "-c", "log_line_prefix=%e ", "-c", "shared_buffers=1MB"]
        argv = [QEMU, "-cpu", OLD, paths.bindir() / "postgres", "--single", "-D", self.cluster.data, *options, "old"]
        done = subprocess.run([str(arg) for arg in argv], input="".join(f"{s}\n" for s in statements), capture_output=True, text=True,
                              cwd="/", env=paths.clean_env(HOME="/"), timeout=300, **paths.server_identity())
        return done.stdout, done.stderr, done.returncode

    def test_sha_instructions_are_not_taken_for_granted(self):
        """Among AVX code they are slow: see tools/build."""
        self.assertNotIn("sha", self.built_for.replace(",", "").split())

    def test_a_library_that_is_built_for_newer_ones_is_refused(self):
        if self.built_for == "any x86-64":
            self.skipTest("the library is built for any processor")
        out, err, status = self.single_user(["LOAD 'prism_crypt'", "SELECT 'goes on'"], preload=False)
        self.assertIn("0A000 ERROR:  this library of prism_crypt was built for another processor", err)
        self.assertIn(f"It was built for {self.built_for}. This processor lacks: ", err)
        self.assertIn('= "goes on"', out)
        self.assertEqual(status, 0)

    def test_a_server_that_preloads_it_does_not_start(self):
        if self.built_for == "any x86-64":
            self.skipTest("the library is built for any processor")
        _, err, status = self.single_user([], preload=True)
        self.assertIn("0A000 FATAL:  this library of prism_crypt was built for another processor", err)
        self.assertEqual(status, 1)

    def test_a_library_for_any_processor_seals_and_opens(self):
        if self.built_for != "any x86-64":
            self.skipTest("the library is built for this machine")
        for preload in (False, True):
            with self.subTest(preload=preload):
                out, err, status = self.single_user([
                    "SELECT decrypt_field(e) AS opened FROM t",
                    "SELECT decrypt_field(encrypt_field('sealed here')) AS opened",
                    "SELECT setting AS hardware FROM prism_crypt.status() WHERE name = 'hardware_aes'"], preload)
                self.assertIn('opened = "sealed before"', out, err)
                self.assertIn('opened = "sealed here"', out, err)
                self.assertIn('hardware = "no"', out, err)
                self.assertEqual(status, 0)


if __name__ == "__main__":
    unittest.main()
