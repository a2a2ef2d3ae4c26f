"""An application that writes while keys are rotated, and knows what it wrote."""

import os
import random
import threading
import time

from harness import PgError
from harness.libpq import Connection

# v: the column under test. a: an array. n: a column that has nothing to do with keys. shadow: what v and a should hold.
SCHEMA = """
    CREATE TABLE t (id int PRIMARY KEY, v encrypted_text, n int NOT NULL DEFAULT 0, a encrypted_text[]) WITH (fillfactor = 90);
    CREATE TABLE shadow (id int PRIMARY KEY, v text, a text, n int NOT NULL DEFAULT 0);
    INSERT INTO shadow SELECT g, 'row ' || g || CASE WHEN g % 50 = 0 THEN repeat(md5(g::text), 100) ELSE '' END, 'list ' || g
    FROM generate_series(1, {rows}) AS g;
    INSERT INTO t SELECT id, encrypt_field(v), 0, CASE WHEN id % 10 = 0 THEN ARRAY[encrypt_field(a), NULL] END FROM shadow;
    UPDATE shadow SET a = NULL WHERE id % 10 <> 0;
    ANALYZE t"""

WRONG = """
    SELECT count(*) FROM t FULL JOIN shadow AS s USING (id)
    WHERE t.id IS NULL OR s.id IS NULL OR t.n <> s.n OR decrypt_field(t.v) IS DISTINCT FROM s.v OR decrypt_field(t.a[1]) IS DISTINCT FROM s.a"""

VERSIONS = """
    SELECT DISTINCT key_version(x) FROM (SELECT v AS x FROM t UNION ALL SELECT unnest(a) FROM t) AS y
    WHERE x IS NOT NULL ORDER BY 1"""

HOT = 5


class Seeded:
    """A test with dice: PRISM_SEED, which a failure prints, repeats their throws. fixed_seed: those of every run without it."""

    fixed_seed = None

    def run(self, result=None):
        self.seed = os.environ.get("PRISM_SEED") or self.fixed_seed or str(random.randrange(1 << 32))
        before = len(result.failures) + len(result.errors) if result else 0
        super().run(result)
        if result and len(result.failures) + len(result.errors) > before:
            print(f"{self.id()}: PRISM_SEED={self.seed}")


class Load:
    """
    Writers in threads, until stop(). Rows 1 to HOT are everybody's; of the others each writer has its own, so that it knows
    what must be in them. killed: connections and statements may end at any time.
    """

    def __init__(self, cluster, db, rows, seed, writers=4, killed=False):
        self.cluster, self.db, self.rows, self.count, self.killed = cluster, db, rows, writers, killed
        self.errors, self.transactions = [], 0
        self._stop = threading.Event()
        Connection(cluster, db).close()
        self._known = [{} for _ in range(writers)]
        # As daemons: the run must end also if one of them hangs.
        self._threads = [threading.Thread(target=self._run, args=(number, random.Random(f"{seed} {number}")), name=f"writer {number}", daemon=True)
                         for number in range(writers)]

    def __enter__(self):
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_):
        self.stop()

    def stop(self):
        self._stop.set()
        deadline = time.monotonic() + 60
        for thread in self._threads:
            thread.join(max(0, deadline - time.monotonic()))
        hanging = [thread.name for thread in self._threads if thread.is_alive()]
        if hanging:
            raise AssertionError(f"writers hang: {hanging}")

    def known(self):
        """{id: the texts that v may hold, None for no row}; several where a commit was cut off from its answer."""
        return {row: texts for known in self._known for row, texts in known.items()}

    def _run(self, number, dice):
        connection = None
        try:
            while not self._stop.is_set():
                try:
                    connection = connection or Connection(self.cluster, self.db)
                except PgError:
                    if not self.killed:
                        raise
                    time.sleep(0.05)
                    continue
                row = dice.randrange(HOT + 1, self.rows) // self.count * self.count + number + HOT + 1
                text = f"writer {number} {dice.random()} " + "w" * dice.choice((0, 0, 0, 30, 300, 3000))
                change = dice.choice(CHANGES)
                own = self._known[number]
                before = own.get(row, {Unknown})
                try:
                    after = change(connection, dice, row, text)
                except PgError as error:
                    if error.sqlstate == "40001" and change is update_repeatable_read:
                        connection.execute("ROLLBACK")
                    elif self.killed and (not error.sqlstate or error.sqlstate.startswith(("57P", "08"))):
                        # The server may have committed it all the same.
                        own[row] = before | ({None} if change is delete else {text}) if change in WRITES else before
                        connection.close()
                        connection = None
                    else:
                        raise
                else:
                    self.transactions += 1
                    if after is not Unknown:
                        own[row] = {after}
        except BaseException as error:  # pylint: disable=broad-except
            self.errors.append(error)
        finally:
            if connection:
                connection.close()

    def assert_right(self, test):
        """Every value is what was last written, nothing is lost, nothing came back."""
        test.assertEqual(self.errors, [])
        query = lambda sql: self.cluster.psql(sql, db=self.db)  # noqa: E731
        test.assertEqual(query(WRONG), "0")
        found = dict(line.split("\t", 1) for line in query("\\pset format csv\n\\pset csv_fieldsep '\t'\nSELECT id, decrypt_field(v) FROM t").splitlines())
        known = {row: texts for row, texts in self.known().items() if Unknown not in texts}
        test.assertGreater(len(known), 0)
        test.assertEqual([row for row, texts in known.items() if found.get(str(row)) not in texts], [])


class Unknown:
    """What v holds where this writer did not change it yet."""


def insert(connection, _, row, text):
    connection.execute(f"""
        BEGIN;
        INSERT INTO t (id, v) VALUES ({row}, '{text}') ON CONFLICT (id) DO UPDATE SET v = EXCLUDED.v;
        INSERT INTO shadow (id, v) VALUES ({row}, '{text}') ON CONFLICT (id) DO UPDATE SET v = EXCLUDED.v;
        COMMIT""")
    return text


def delete(connection, _, row, __):
    connection.execute(f"BEGIN; DELETE FROM t WHERE id = {row}; DELETE FROM shadow WHERE id = {row}; COMMIT")


def update(connection, _, row, text):
    connection.execute("BEGIN")
    found = connection.execute(f"UPDATE t SET v = '{text}' WHERE id = {row} RETURNING id")
    connection.execute(f"UPDATE shadow SET v = '{text}' WHERE id = {row}")
    connection.execute("COMMIT")
    return text if found else None


def update_locked(connection, dice, row, text):
    connection.execute(f"BEGIN; SELECT id FROM t WHERE id = {row} FOR UPDATE; SELECT pg_sleep({dice.random() / 30})")
    return update_open(connection, row, text)


def update_open(connection, row, text):
    found = connection.execute(f"UPDATE t SET v = '{text}' WHERE id = {row} RETURNING id")
    connection.execute(f"UPDATE shadow SET v = '{text}' WHERE id = {row}; COMMIT")
    return text if found else None


def update_repeatable_read(connection, _, row, text):
    connection.execute(f"BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT count(*) FROM t WHERE id = {row}")
    return update_open(connection, row, text)


def update_to_savepoint(connection, _, row, text):
    connection.execute(f"BEGIN; UPDATE t SET v = 'never' WHERE id = {row}; ROLLBACK; BEGIN")
    found = connection.execute(f"UPDATE t SET v = '{text}' WHERE id = {row} RETURNING id")
    connection.execute(f"""
        UPDATE shadow SET v = '{text}' WHERE id = {row}; SAVEPOINT s; UPDATE t SET v = 'never', n = 0 WHERE id = {row};
        ROLLBACK TO s; UPDATE t SET n = n + 1 WHERE id = {row}; UPDATE shadow SET n = n + 1 WHERE id = {row}; COMMIT""")
    return text if found else None


def update_other(connection, _, row, __):
    connection.execute(f"BEGIN; UPDATE t SET n = n + 1 WHERE id = {row}; UPDATE shadow SET n = n + 1 WHERE id = {row}; COMMIT")
    return Unknown


def update_array(connection, _, row, text):
    connection.execute(f"""
        BEGIN; UPDATE t SET a = ARRAY['{text}', NULL]::encrypted_text[] WHERE id = {row};
        UPDATE shadow SET a = '{text}' WHERE id = {row}; COMMIT""")
    return Unknown


def update_hot(connection, dice, _, text):
    row = dice.randint(1, HOT)
    connection.execute(f"BEGIN; SELECT id FROM t WHERE id = {row} FOR UPDATE; SELECT pg_sleep({dice.random() / 100})")
    update_open(connection, row, text)
    return Unknown


def update_many(connection, dice, _, __):
    # In order: writers must not deadlock with each other.
    first = dice.randint(1, HOT)
    connection.execute("BEGIN; " + "".join(
        f"UPDATE t SET n = n + 1 WHERE id = {row}; UPDATE shadow SET n = n + 1 WHERE id = {row};" for row in range(first, HOT + 1)) + "COMMIT")
    return Unknown


def read(connection, _, row, __):
    got = connection.execute(f"SELECT decrypt_field(t.v) IS NOT DISTINCT FROM s.v AND t.n = s.n FROM t JOIN shadow AS s USING (id) WHERE id IN ({row}, 1, 2)")
    if ["f"] in got:
        raise AssertionError(f"row {row} shows what was not written")
    return Unknown


WRITES = (insert, delete, update, update_locked, update_repeatable_read, update_to_savepoint)
CHANGES = (*WRITES, insert, update, update_other, update_other, update_array, update_hot, update_hot, update_many, read)
