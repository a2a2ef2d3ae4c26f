"""docs/recovery.md as its reader takes it: each section's commands in their order, in a shell of the server's user."""

import os
import shutil
import subprocess
import unittest

from harness import paths
from harness.scenario import Scenario, key_forms
from harness.snippets import sections

DOCUMENT = paths.ROOT / "docs/recovery.md"
SCHEMA = """
    CREATE TABLE patients (id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY, name encrypted_text, email encrypted_text('email', 'searchable') UNIQUE,
      aliases encrypted_text[], bound encrypted_text);
    INSERT INTO patients (name, email, aliases) SELECT 'name ' || g, g || '@example.org', ARRAY['a' || g, NULL]::text[]::encrypted_text[] FROM generate_series(1, 200) AS g;
    CREATE TABLE notes (id int PRIMARY KEY, body encrypted_text, CHECK (length(body::text) < 99));
    INSERT INTO notes VALUES (1, 'one'), (2, 'two');
"""
READ = "SELECT md5(string_agg(concat_ws('|', id, name::text, email::text, aliases::text[]), E'\\n' ORDER BY id)), count(*) FROM patients"
FINGERPRINT = "SELECT setting FROM prism_crypt.status() WHERE name = 'master_fingerprint'"


def tool():
    """Path of prism-crypt, which is part of the tree as soon as `cli/` is; PRISM_CRYPT_TOOL names another one."""
    if named := os.environ.get("PRISM_CRYPT_TOOL"):
        return named
    if not (paths.ROOT / "cli").is_dir():
        return None
    from harness.tool import program  # pylint: disable=import-outside-toplevel
    return program()


class Steps:
    """The commands of a section. Each is asked for by some of its text, so that none is left out and a test says which one it means."""

    def __init__(self, test, heading, env):
        self.test, self.env = test, env
        self.left = [snippet for snippet in sections(DOCUMENT, ("sh", "sql")) if snippet[0] == heading and "settings" not in snippet[3]]
        test.assertTrue(self.left, heading)
        test.addCleanup(self.all_done)

    def all_done(self):
        """A test that failed before the end says so as well."""
        self.test.assertEqual([text for *_, text in self.left], [], "commands that were not run")

    def _next(self, text, language, options=()):
        _, line, found, given, snippet = self.left.pop(0)
        self.test.assertIn(text, snippet, f"{DOCUMENT.name}:{line}")
        self.test.assertEqual((found, given), (language, list(options)), f"{DOCUMENT.name}:{line}")
        return line, snippet

    def skip(self, *texts):
        """Passes over commands that another test runs."""
        for text in texts:
            self.test.assertIn(text, self.left.pop(0)[4])

    def _shell(self, line, snippet, check=True, **kw):
        done = subprocess.run(["bash", "-e", "-u", "-o", "pipefail", "-c", snippet], env=self.env, cwd=self.test.cluster.home, text=True, capture_output=True,
                              timeout=300, **({} if "input" in kw else {"stdin": subprocess.DEVNULL}), **kw, **paths.server_identity())
        if check and done.returncode != 0:
            raise AssertionError(f"{DOCUMENT.name}:{line}: {done.returncode}\n{done.stdout}{done.stderr}\n---- the commands:\n{snippet}")
        return done

    def run(self, text, check=True, **kw):
        """The CompletedProcess of the next commands, which contain the text."""
        return self._shell(*self._next(text, "sh"), check, **kw)

    def says(self, text, **kw):
        """What they print, without the last newline."""
        return self.run(text, **kw).stdout.rstrip("\n")

    def sql(self, text, session):
        """The next statements, in a session that is open."""
        return session.run(self._next(text, "sql", ["no-run"])[1])

    def with_tool(self, text, check=True, **kw):
        """As run(), of commands that need prism-crypt; None where the tree has no such tool."""
        line, snippet = self._next(text, "sh", ["tool"])
        if (path := tool()) is None:
            return None
        # Where the server's user gets at it.
        shutil.copy(path, self.test.cluster.home / "prism-crypt")
        paths.give_to_server(self.test.cluster.home / "prism-crypt")
        return self._shell(line, f'PATH="$PWD:$PATH"\n{snippet}', check, **kw)


class Recovery(Scenario):
    """A cluster whose key file and backups lie as the document says, with the database clinic."""

    preload = True
    key = None

    def setUp(self):
        """Fresh for each test: what goes wrong in one is not to be had in another."""
        self.cluster = self.new_cluster("recovery-" + self.id().rpartition(".")[2], key=None, start=False, preload=True, conf=self.conf)
        self.addCleanup(self.cluster.close)
        home = self.cluster.home
        self.keys, self.backups, self.scratch = home / "keys", home / "backups", self.server_to_be()
        for directory in (self.keys, self.backups):
            directory.mkdir(mode=0o700)
            paths.give_to_server(directory)
        self.env = {**self.cluster.env(db="clinic"), "HOME": "/", "PGDATA": str(self.cluster.data), "KEYS": str(self.keys), "BACKUPS": str(self.backups),
                    "SCRATCH": str(self.scratch.data)}
        self.assertEqual(self.named_settings(), {"PATH", "PGDATA", "PGDATABASE", "KEYS", "BACKUPS", "SCRATCH"})
        self.shell('umask 077; openssl rand -hex 32 > "$KEYS/master.key"')
        self.cluster.configure({"prism_crypt.master_key_file": f"'{self.keys}/master.key'"})
        self.cluster.start()
        self.database("clinic", cluster=self.cluster)
        self.addCleanup(self.assert_no_key_is_shown)

    @classmethod
    def setUpClass(cls):
        """No cluster of the class."""

    def named_settings(self):
        """What the document has its reader set."""
        (text,) = [text for _, _, _, options, text in sections(DOCUMENT, ("sh",)) if options == ["settings"]]
        return {line.split()[1].split("=")[0] for line in text.splitlines()}

    def server_to_be(self):
        """A place for a server that the commands make, which is stopped and removed after the test."""
        class_ = type(self.cluster)
        server = class_(f"{self.cluster.name}-scratch", _empty=True)
        self.addCleanup(server.close)
        (server.home / "port").write_text(str(self.cluster.port))
        server.port, server.socket = self.cluster.port, server.data
        return server

    def steps(self, heading, **variables):
        return Steps(self, heading, {**self.env, **{name: str(value) for name, value in variables.items()}})

    def shell(self, script):
        """What happens between the commands of the document."""
        return subprocess.run(["bash", "-e", "-u", "-c", script], env=self.env, cwd=self.cluster.home, text=True, capture_output=True, check=True,
                              stdin=subprocess.DEVNULL, **paths.server_identity()).stdout.rstrip("\n")

    def query(self, sql, cluster=None, db="clinic"):
        return (cluster or self.cluster).psql(sql, db=db)

    def refused(self, sql, message, cluster=None, db="clinic"):
        error = (cluster or self.cluster).error(sql, db=db)
        self.assertEqual(error.message, message, error)
        return error

    def key_in(self, path):
        """The first key of a file."""
        return path.read_text(encoding="utf-8").split()[0]

    def assert_no_key_is_shown(self):
        """No server has logged any of the keys that the commands have made."""
        logs = [self.cluster.log(), *(path.read_text(encoding="utf-8", errors="replace") for path in self.scratch.home.glob("*.log"))]
        for path in [*self.keys.rglob("*.key"), *self.backups.rglob("*.key")]:
            for key in path.read_text(encoding="utf-8").split():
                shown = [form for form, value in key_forms(key).items() if any(value.decode("latin-1") in log for log in logs)]
                self.assertEqual(shown, [], path.name)


def require_tool():
    """For a test that is about nothing else."""
    if tool() is None:
        raise unittest.SkipTest("there is no cli/ in this tree")
