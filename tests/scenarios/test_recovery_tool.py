"""docs/recovery.md, its commands run in order: the master key on paper, and the day when there is no server. Both are about prism-crypt."""

import re
import unittest

from recovery_steps import FINGERPRINT, READ, SCHEMA, Recovery, require_tool


class OnPaper(Recovery):
    def test_copies(self):
        # A command comes before a file, and would say that every copy is the right one.
        self.cluster.configure({"prism_crypt.master_key_command": f"'cat {self.keys}/master.key'"})
        self.cluster.reload()
        steps = self.steps("The master key on paper")
        fingerprint = steps.says("master_fingerprint")
        self.assertEqual(fingerprint, self.query(FINGERPRINT))
        self.assertRegex(fingerprint, r"^[0-9a-f]{16}$")
        steps.run("stands for the medium")
        (copy,) = (self.backups / "keys").iterdir()
        self.assertEqual(oct(copy.stat().st_mode & 0o777), "0o600")
        steps.skip("backup-key", "restore-key")
        # Beside it one that is not the key, and one that is none.
        self.shell('cd "$BACKUPS/keys"; umask 077; openssl rand -hex 32 > other.key; echo no key > none.key')
        found = {}
        for line in steps.says("for copy in").splitlines():
            path, name, setting = line.split("|")
            found.setdefault(path.rpartition("/")[2], {})[name] = setting
        self.assertEqual(found.pop(copy.name), {"master_fingerprint": fingerprint, "active_keys_unlock": "yes"})
        self.assertIn(f"wrapped by the master key {fingerprint}", found["other.key"]["active_keys_unlock"])
        self.assertNotEqual(found["other.key"]["master_fingerprint"], fingerprint)
        self.assertEqual(found["none.key"]["master_fingerprint"], 
                         "Key must be 64 hexadecimal digits or the base64 of 32 bytes. Key 1 of prism_crypt.master_key_file.")
        (self.backups / "keys/none.key").unlink()
        # The server's own key is what it was.
        self.assertEqual(self.query(FINGERPRINT), fingerprint)

    def test_words(self):
        require_tool()
        steps = self.steps("The master key on paper")
        steps.skip("master_fingerprint", "stands for the medium")
        paper = steps.with_tool("backup-key").stdout
        words = re.findall(r"\b[a-z]{3,8}\b", "\n".join(line for line in paper.splitlines() if re.match(r"\s*\d", line)))
        self.assertEqual(len(words), 24)
        self.assertIn(self.query(FINGERPRINT), paper)
        key = self.key_in(self.keys / "master.key")
        self.assertFalse(key in paper)
        steps.with_tool("restore-key", input=" ".join(words) + "\n")
        self.assertTrue(self.key_in(self.keys / "restored.key") == key)
        self.assertEqual(oct((self.keys / "restored.key").stat().st_mode & 0o777), "0o600")
        # A word that is misread.
        again = self.steps("The master key on paper")
        again.skip("master_fingerprint", "stands for the medium", "backup-key")
        (self.keys / "restored.key").unlink()
        failed = again.with_tool("restore-key", check=False, input=" ".join(["zzzz", *words[1:]]) + "\n")
        self.assertEqual(failed.returncode, 1)
        self.assertIn("zzzz", failed.stderr)
        self.assertFalse((self.keys / "restored.key").exists())
        for each in (steps, again):
            each.skip("for copy in")


class NoServer(Recovery):
    def test_recover(self):
        require_tool()
        self.query(SCHEMA)
        before = self.query(READ)
        self.shell('pg_dump -Fc -f "$BACKUPS/clinic.dump"; mkdir -m 0700 "$BACKUPS/keys"; mv "$KEYS/master.key" "$BACKUPS/keys/paper.key"')
        self.cluster.stop()
        steps = self.steps("No server")
        steps.with_tool("recover")
        # A server that does not know the extension.
        plain = self.new_cluster("recovery-plain", key=None)
        self.addCleanup(plain.close)
        plain.create_db("clinic")
        plain.run(["psql", "-Xq", "-v", "ON_ERROR_STOP=1", "-o", "/dev/null", "-f", self.backups / "clinic.sql"], db="clinic")
        self.assertEqual(plain.psql(READ, db="clinic"), before)


if __name__ == "__main__":
    unittest.main()
