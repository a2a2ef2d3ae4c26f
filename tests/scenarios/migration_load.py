"""An application that uses a table while one of its columns is migrated. It knows nothing of that: its statements are the same all the time."""

import itertools
import threading
import time

from harness import PgError
from harness.libpq import Connection
from harness.scenario import Scenario

from migration_client import Client
from rotation_load import Seeded

# The widest values are stored out of line, but are not too wide for an index, which takes 2,704 bytes.
# v: the column that is migrated. n: one that has nothing to do with it. shadow: what they should hold, as the application wrote it.
SCHEMA = """
    CREATE TABLE t (id int PRIMARY KEY, v text, n int NOT NULL DEFAULT 0) WITH (fillfactor = 90);
    CREATE TABLE shadow (id int PRIMARY KEY, v text, n int NOT NULL DEFAULT 0);
    INSERT INTO shadow SELECT g, CASE WHEN g % 40 = 0 THEN repeat(md5(g::text), 70) WHEN g % 30 <> 0 THEN 'row ' || g END
    FROM generate_series(1, {rows}) AS g;
    INSERT INTO t SELECT * FROM shadow;
    GRANT SELECT, INSERT, UPDATE, DELETE ON t, shadow TO app;
    ANALYZE t, shadow"""
UNIQUE = "CREATE UNIQUE INDEX t_v ON t (v)"
# A role of a cluster that sees plaintext, and owns nothing.
ROLE = "CREATE ROLE app LOGIN; ALTER ROLE app SET prism_crypt.output = 'plaintext'"
RIGHTS = "SELECT prism_crypt.grant_access('app', 'decrypt'), prism_crypt.grant_access('app', 'search')"
TYPE = "encrypted_text(''searchable'')"
THERE = f"CALL prism_crypt.migrate_column('t', 'v', '{TYPE}', method => 'online'{{}});"

# For the owner, whatever v is at that moment.
WRONG = """
    SELECT count(*) FROM t FULL JOIN shadow AS s USING (id)
    WHERE t.id IS NULL OR s.id IS NULL OR t.n <> s.n OR t.v::text IS DISTINCT FROM s.v"""


class Load:
    """
    Clients in threads, until stop(). killed: connections may end at any time. failed: every statement that went wrong, with its SQLSTATE
    and the phase at that moment. waits: the longest time that a statement took, by stage, which the test names.
    """

    _numbers = itertools.count(1)

    def __init__(self, cluster, db, rows, seed, clients=3, killed=False, pause=0.01):
        self.cluster, self.db, self.rows, self.seed, self.clients, self.killed, self.pause = cluster, db, rows, seed, clients, killed, pause
        self.failed, self.waits, self.transactions, self.retried, self.stage = [], {}, 0, 0, "before"
        self.number, self.stopped = next(Load._numbers), threading.Event()
        self._lock = threading.Lock()
        with Connection(cluster, db) as connection:
            self._next = 1_000_000 + int(connection.execute("SELECT max(id) FROM shadow")[0][0])
        self._clients = [Client(self, number) for number in range(clients)]
        # As daemons: the run must end also if one of them hangs.
        self._threads = [threading.Thread(target=client.run, name=f"client {client.number}", daemon=True) for client in self._clients]

    def __enter__(self):
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_):
        self.stop()

    def stop(self):
        self.stopped.set()
        deadline = time.monotonic() + 60
        for thread in self._threads:
            thread.join(max(0, deadline - time.monotonic()))
        hanging = [f"{thread.name}: {client.doing}" for thread, client in zip(self._threads, self._clients) if thread.is_alive()]
        if hanging:
            raise AssertionError(f"clients hang: {hanging}")

    def new_rows(self, count):
        """The first of so many numbers that no row has yet."""
        with self._lock:
            self._next += count
            return self._next - count

    def note_wait(self, seconds, statement):
        with self._lock:
            self.waits[self.stage] = max(self.waits.get(self.stage, (0, "")), (seconds, statement))

    def phase(self):
        try:
            return self.cluster.psql("SELECT coalesce(string_agg(phase, ', ' ORDER BY id), 'no migration') FROM prism_crypt.migrations", db=self.db)
        except PgError:
            return "phase not known"

    def told(self):
        """What the clients met, to be printed."""
        return f"{self.transactions} transactions, {self.retried} repeatable reads in vain, longest waits: " + "; ".join(
            f"{stage}: {1000 * seconds:.0f} ms ({statement})" for stage, (seconds, statement) in self.waits.items())

    def more(self, count):
        """Waits until so many transactions have been done from now on."""
        goal, deadline = self.transactions + count, time.monotonic() + 120
        while self.transactions < goal and any(thread.is_alive() for thread in self._threads):
            if time.monotonic() > deadline:
                raise TimeoutError(f"the application does nothing: {self.failed[-3:]}")
            time.sleep(0.02)

    def assert_right(self, test):
        test.assertEqual(self.failed, [])
        test.assertEqual(self.cluster.psql(WRONG, db=self.db), "0")


class Migrated(Seeded, Scenario):
    """Each test has a database with the table, of so many rows, and a unique index of the column."""

    preload = True
    rows = 3000
    conf = {"log_statement": "'none'", "log_min_duration_statement": "-1"}

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.cluster.psql(ROLE)

    def setUp(self):
        self.db = self.database(self.id().rpartition(".")[2][:60].lower())
        self.query(f"{RIGHTS}; {SCHEMA.format(rows=self.rows)}; {UNIQUE}")

    def query(self, sql):
        return self.cluster.psql(sql, db=self.db)

    def load(self, cluster=None, **how):
        """The application; see Load."""
        return Load(cluster or self.cluster, self.db, self.rows, self.seed, **how)
