"""What tests of encrypted files share: a database and a directory of the server for each test, and a server that must not lose a process."""

from harness import paths
from harness.scenario import Scenario


class FilesScenario(Scenario):
    preload = True
    maxDiff = None

    def setUp(self):
        self.db = self.database(self.id().rpartition(".")[2][:60])
        self.directory = self.cluster.home / f"files-{self.db}"
        self.directory.mkdir()
        paths.give_to_server(self.directory)
        self.started = self.query("SELECT pg_postmaster_start_time()")

    def tearDown(self):
        # No other session was lost.
        self.assertEqual(self.query("SELECT pg_postmaster_start_time()"), self.started)
        self.assertNotIn("was terminated by signal", self.cluster.log())

    def query(self, sql, **how):
        return self.cluster.psql(sql, db=how.pop("db", self.db), **how)

    def path(self, name="file.penc"):
        return f"{self.directory}/{name}"

    def refused(self, sql, sqlstate):
        error = self.cluster.error(sql, db=self.db)
        self.assertEqual(error.sqlstate, sqlstate, error)
        return error
