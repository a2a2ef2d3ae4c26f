"""What scenarios of `prism-crypt recover` share: a server with the extension and a filled database, and one without it."""

import subprocess

import recovery_schema
from harness import canaries, paths
from harness.cluster import Cluster
from harness.scenario import Scenario, set_key
from harness.tool import program

OUTPUT = {"PGOPTIONS": "-c prism_crypt.output=plaintext"}


class Recovering(Scenario):
    maxDiff = None

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        c = cls.cluster
        c.psql("CREATE ROLE recovery_reader")
        cls.db = cls.database("source")
        # Three versions, two master keys.
        set_key(c, "tenant-a", "main")
        c.reload()
        c.psql("SELECT prism_crypt.create_keyset('tenant_a')", db=cls.db)
        set_key(c, "main", "tenant-a")
        c.reload()
        c.psql(recovery_schema.SCHEMA + recovery_schema.fill(recovery_schema.TEXTS), db=cls.db)
        c.psql("SELECT prism_crypt.rotate_key(); UPDATE clinic.patient SET name = reencrypt_field(name) WHERE id % 2 = 0; "
               "UPDATE clinic.visit SET what = reencrypt_field(what) WHERE id % 2 = 0", db=cls.db)
        cls.expected = cls.answers(c, cls.db, 0, **OUTPUT)
        cls.target = Cluster("recover-target")
        cls.addClassCleanup(cls.target.close)
        cls.target.start()
        cls.target.psql("CREATE ROLE recovery_reader")
        cls.work = cls.cluster.home / "work"
        cls.work.mkdir()
        cls.keys = cls.key_file("keys", "main", "tenant-a")

    @classmethod
    def key_file(cls, name, *keys):
        path = cls.work / f"{name}.key"
        path.touch(mode=0o600)
        path.write_text("".join(canaries.KEYS[key] + "\n" for key in keys))
        return path

    @staticmethod
    def answers(cluster, db, which, **env):
        """What each question gives, by the question of the original server."""
        queries = [(questions[0], questions[which]) for questions in recovery_schema.QUESTIONS]
        script = "\n".join(f"COPY ({query}) TO STDOUT;\n\\echo ====" for _, query in queries)
        return dict(zip((name for name, _ in queries), cluster.psql(script, db=db, **env).split("====\n"), strict=True))

    def dump(self, name, *options, db=None):
        path = self.work / name
        self.cluster.run(["pg_dump", "-f", path, *options], db=db or self.db)
        return path

    def recover(self, dump, *options, input=None, status=0, keys=None):
        """What it wrote to standard output, and to standard error."""
        argv = [program(), "recover", dump, "--key-file", keys or self.keys, *options]
        done = subprocess.run([str(a) for a in argv], capture_output=True, input=input, env=paths.clean_env())
        error = done.stderr.decode()
        self.assertEqual(done.returncode, status, error)
        for name, secret in canaries.forms():
            self.assertNotIn(secret, done.stderr, name)
        return done.stdout, error

    def load(self, db, script):
        """Into a database of the server that does not have the extension."""
        path = self.target.write_file("script.sql", script)
        self.target.create_db(db)
        self.target.run(["psql", "-Xq", "-v", "ON_ERROR_STOP=1", "-o", "/dev/null", "-f", path], db=db)
        self.assertEqual(self.target.psql("SELECT count(*) FROM pg_extension WHERE extname = 'prism_crypt'", db=db), "0")
        return db

    def assert_right(self, db):
        answers = self.answers(self.target, db, 1)
        self.assertEqual([name for name, answer in answers.items() if answer != self.expected[name]], [])
        self.assertGreater(min(len(answer) for answer in answers.values()), 10)
