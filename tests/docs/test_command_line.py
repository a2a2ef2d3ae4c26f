"""Every ```sh snippet of docs/command-line.md runs, in order, in one directory, beside a server."""

import re
import subprocess
import unittest
from pathlib import Path

from harness import Cluster, canaries, paths
from harness.tool import program

SNIPPET = re.compile(r"^```sh\n(.*?)^```$", re.M | re.S)
SETUP = """
    CREATE EXTENSION prism_crypt;
    SELECT prism_crypt.rotate_key();
    CREATE TABLE clients (id int PRIMARY KEY, name encrypted_text, email encrypted_text('email', 'searchable'));
    INSERT INTO clients SELECT i, 'client ' || i, 'c' || i || '@example.org' FROM generate_series(1, 20) AS i;
    SELECT prism_crypt.export_encrypted('clients', '{directory}/clients.penc')"""


class CommandLine(unittest.TestCase):
    def test_snippets(self):
        text = (paths.ROOT / "docs/command-line.md").read_text(encoding="utf-8")
        snippets = SNIPPET.findall(text)
        self.assertEqual(len(snippets), text.count("```sh"))
        self.assertGreaterEqual(len(snippets), 5)
        cluster = Cluster("command-line", preload=True)
        self.addCleanup(cluster.close)
        cluster.configure({"prism_crypt.master_key_file": f"'{cluster.write_file('master.key', canaries.KEYS['docs'])}'"})
        cluster.start()
        directory = cluster.home / "work"
        directory.mkdir()
        paths.give_to_server(directory)
        cluster.psql(SETUP.format(directory=directory), db=cluster.create_db("clinic"))
        key = directory / "master.key"
        key.touch(mode=0o600)
        key.write_text(canaries.KEYS["docs"])
        env = cluster.env(db="clinic")
        env["PATH"] = f"{Path(program()).parent}:{env['PATH']}"
        for snippet in snippets:
            with self.subTest(snippet):
                # Each command counts, in a pipe too.
                done = subprocess.run(["bash", "-euo", "pipefail", "-c", snippet], cwd=directory, env=env, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
                self.assertEqual((done.returncode, done.stderr), (0, ""), done.stdout)
        # They do what the document says.
        self.assertEqual((directory / "clients.csv").read_text().count("\n"), 21)
        self.assertEqual(cluster.psql("SELECT count(*), max(name) FROM copied", db="clinic"), "20|client 9")
        self.assertTrue((directory / "copy.key").read_text() != (directory / "new.key").read_text())


if __name__ == "__main__":
    unittest.main()
