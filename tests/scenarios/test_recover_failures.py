"""`prism-crypt recover`, if keys are missing or a dump is damaged: what can be opened is, and the rest is told of."""

import contextlib
import os
import re
import stat
import subprocess
import time
import unittest

import recovery_schema
from harness import paths
from harness.tool import program
from recovering import Recovering
from test_key_wrapping import DATA_KEY, SEALED


class RecoverFailures(Recovering):
    def test_a_file_as_output(self):
        dump, output = self.dump("to file"), self.work / "plaintext.sql"
        self.assertEqual(self.recover(dump, "--output", output)[0], b"")
        self.assertEqual(stat.S_IMODE(output.stat().st_mode), 0o600)
        self.assertEqual(output.read_bytes(), self.recover(dump)[0])
        self.assertIn("already exists", self.recover(dump, "--output", output, status=1)[1])
        # What was there of a dump that was cut off; nothing with --strict.
        cut = self.work / "cut off"
        cut.write_bytes(dump.read_bytes()[:-5000])
        self.assertIn("the dump is not complete\n", self.recover(cut, "--output", self.work / "cut.sql", status=1)[1])
        self.assertTrue(output.read_bytes().startswith((self.work / "cut.sql").read_bytes()[:100000]))
        before = sorted(os.listdir(self.work))
        self.recover(cut, "--strict", "--output", self.work / "never.sql", status=1)
        self.assertEqual(sorted(os.listdir(self.work)), before)

    def test_another_master_key(self):
        dump = self.dump("another key")
        script, error = self.recover(dump, keys=self.key_file("other", "other"), status=1)
        self.assertEqual(script, b"")
        self.assertIn("encryption key mismatch\nDETAIL:  Key version 1 of keyset \"default\" is wrapped by the master key ", error)

    def test_one_of_two_master_keys(self):
        dump = self.dump("one of two")
        script, error = self.recover(dump, keys=self.key_file("one", "main"), status=1)
        rows = len(recovery_schema.TEXTS) // 2
        self.assertRegex(error, "prism-crypt: clinic.tenants, column v, rows? 1.*: encryption key mismatch: key version 2 of keyset \"tenant_a\" is wrapped by the master key [0-9a-f]{16}\n")
        self.assertIn(f"prism-crypt: {rows} values were not opened\n", error)
        self.assertEqual(len(re.findall(rb"prism:v2:[A-Za-z0-9+/]{20}", script)), rows)
        self.assertNotRegex(script, rb"prism:v[13]:A")
        db = self.load("one of two", script)
        wrong = [name for name, answer in self.answers(self.target, db, 1).items() if answer != self.expected[name]]
        self.assertEqual(wrong, [recovery_schema.EVERYTHING.format("clinic.tenants")])

    def test_changed_bytes(self):
        dump = self.dump("changed", "--table=clinic.visit", "--table=prism_crypt.*", "--data-only")
        text = dump.read_text()
        start = text.index("COPY clinic.visit")
        lines = text[start:text.index("\n\\.", start)].splitlines()[1:]
        # One character of a value; a key version that is not there; no base64; its end cut off.
        changes = {1: lambda v: v[:60] + ("A" if v[60] != "A" else "B") + v[61:], 3: lambda v: v.replace("prism:v1:", "prism:v9:"), 4: lambda v: v[:-4] + "!!!!", 6: lambda v: v[:30]}
        changed = list(lines)
        for row, change in changes.items():
            fields = changed[row - 1].split("\t")
            fields[1] = change(fields[1])
            changed[row - 1] = "\t".join(fields)
        dump.write_text(text.replace("\n".join(lines), "\n".join(changed)))
        # A dump without CREATE TABLE: what looks like ciphertext is.
        script, error = self.recover(dump, status=1)
        self.assertIn("clinic.visit, column patient, row 1: Decryption failed (wrong key or corrupted data)\n", error)
        lost = [line.split("\t")[1] for line in script.decode().splitlines() if re.search("\tprism:v.:A", line)]
        self.assertEqual(lost, [changed[row - 1].split("\t")[1] for row in changes])
        with_table = self.dump("changed table", "--table=clinic.visit", "--table=prism_crypt.*")
        with_table.write_text(with_table.read_text().replace("\n".join(lines), "\n".join(changed)))
        script, error = self.recover(with_table, status=1)
        told = re.findall(r"clinic.visit, column patient, row (\d+): (.*)", error)
        self.assertEqual([row for row, _ in sorted(told)], ["1", "3", "4", "6"])
        self.assertIn("prism-crypt: 4 values were not opened\n", error)
        # --strict ends at the first, and no file is made.
        output = self.work / "strict.sql"
        error = self.recover(with_table, "--strict", "--output", output, status=1)[1]
        self.assertIn("column patient, row 1: ", error)
        self.assertNotIn("row 3", error)
        self.assertFalse(output.exists())

    def test_every_changed_byte_is_noticed(self):
        dump = self.dump("bytes", "--table=clinic.seat", "--table=prism_crypt.*")
        text = dump.read_text()
        value = re.search(r"^2\t(prism:v1:\S+)$", text, re.M).group(1)
        for at in range(9, len(value), 5):
            other = "A" if value[at] != "A" else "B"
            dump.write_text(text.replace(value, value[:at] + other + value[at + 1:]))
            script, error = self.recover(dump, status=1)
            self.assertIn("clinic.seat, column v, row 2: ", error)
            self.assertIn("1 values were not opened", error)

    def test_states_of_keys(self):
        db = self.database("states")
        self.cluster.psql("CREATE TABLE t (id int, v encrypted_text); INSERT INTO t VALUES (1, 'first'); SELECT prism_crypt.rotate_key(); INSERT INTO t VALUES (2, 'second');"
                          "SELECT prism_crypt.rotate_key(); INSERT INTO t VALUES (3, 'third'); SELECT prism_crypt.disable_key(2, 'lost laptop');"
                          "SELECT prism_crypt.destroy_key(1, 'gone', force => true)", db=db)
        script, error = self.recover(self.dump("states", db=db), status=1)
        self.assertIn("public.t, column v, row 1: key version 1 is destroyed\n", error)
        self.assertIn("key version 2 is disabled; its values were opened all the same\n", error)
        self.assertIn(b"2\tsecond\n3\tthird\n", script)

    def test_keys_of_format_1(self):
        db = self.database("format_1")
        self.cluster.psql(f"UPDATE prism_crypt.data_key SET wrapped = '\\x{DATA_KEY}'; CREATE TABLE t (id int, v encrypted_text); INSERT INTO t VALUES (1, '{SEALED}'), (2, 'new')", db=db)
        for options in ([], ["--inserts"], ["-Fc"]):
            self.assertIn(b"sealed elsewhere", self.recover(self.dump("format 1", *options, db=db))[0])

    def peak_of(self, pid):
        """The most memory that the tool had so far, in kB; 0 before it has begun and after it has ended."""
        with contextlib.suppress(OSError):
            if os.readlink(f"/proc/{pid}/exe") == os.path.realpath(program()):
                with open(f"/proc/{pid}/status", encoding="utf-8") as status:
                    return int((re.findall(r"^VmHWM:\s+(\d+) kB$", status.read(), re.M) or [0])[0])
        return 0

    def test_memory(self):
        """A long dump needs no more than a short one."""
        text = self.dump("long", "--table=clinic.seat", "--table=prism_crypt.*").read_text()
        start = text.index("\n", text.index("COPY clinic.seat")) + 1
        end = text.index("\\.\n", start)
        path = self.work / "long"
        with open(path, "w", encoding="utf-8") as file:
            file.write(text[:start])
            for _ in range(30000):
                file.write(text[start:end])
            file.write(text[end:])
        self.assertGreater(path.stat().st_size, 40 << 20)
        with subprocess.Popen([program(), "recover", path, "--key-file", self.keys], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=paths.clean_env()) as process:
            # Not ru_maxrss: that of a child begins with what its parent has.
            peak = 0
            while process.poll() is None:
                peak = max(peak, self.peak_of(process.pid))
                time.sleep(0.01)
        self.assertEqual(process.returncode, 0)
        self.assertGreater(peak, 0)
        self.assertLess(peak, 32 << 10)
        path.unlink()


if __name__ == "__main__":
    unittest.main()
