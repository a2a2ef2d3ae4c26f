"""What the application of migration_load does: its statements, and its transactions, each with the shadow."""

import itertools
import random
import time

from harness import PgError
from harness.libpq import Connection

# Rows 1 to HOT are everybody's; of the others each client has its own.
HOT = 5

STATEMENTS = {
    "read": "SELECT t.v, t.n, s.v, s.n FROM t JOIN shadow AS s USING (id) WHERE t.id = $1",
    "find": "SELECT id, v FROM t WHERE v = $1",
    "lock": "SELECT v FROM t WHERE id = $1 FOR UPDATE",
    "insert": "INSERT INTO t (id, v, n) VALUES ($1, $2, 0)",
    "insert many": "INSERT INTO t (id, v) SELECT g, $2 || g FROM generate_series($1::int, $1::int + 2) AS g",
    "upsert": "INSERT INTO t (id, v) VALUES ($1, $2) ON CONFLICT (id) DO UPDATE SET v = EXCLUDED.v, n = t.n + 1",
    "upsert by value": "INSERT INTO t (id, v) VALUES ($1, $2) ON CONFLICT (v) DO UPDATE SET n = t.n + 1 RETURNING id",
    "update": "UPDATE t SET v = $2 WHERE id = $1 RETURNING v",
    "update by value": "UPDATE t SET v = $2 WHERE v = $1 RETURNING id",
    "update other": "UPDATE t SET n = n + 1 WHERE id = $1 RETURNING v",
    "append": "UPDATE t SET v = t.v || $2, n = n + 1 WHERE id = $1",
    "clear": "UPDATE t SET v = NULL WHERE id = $1",
    "delete": "DELETE FROM t WHERE id = $1",
    "delete by value": "DELETE FROM t WHERE v = $1 RETURNING id",
    "shadow upsert": "INSERT INTO shadow (id, v) VALUES ($1, $2) ON CONFLICT (id) DO UPDATE SET v = EXCLUDED.v",
    "shadow upsert counted": "INSERT INTO shadow (id, v) VALUES ($1, $2) ON CONFLICT (id) DO UPDATE SET v = EXCLUDED.v, n = shadow.n + 1",
    "shadow update": "UPDATE shadow SET v = $2 WHERE id = $1",
    "shadow append": "UPDATE shadow SET v = v || $2, n = n + 1 WHERE id = $1",
    "shadow count": "UPDATE shadow SET n = n + 1 WHERE id = $1",
    "shadow delete": "DELETE FROM shadow WHERE id = $1",
}


class Client:
    """One connection of the application. prepared: it prepares each statement once, and keeps it."""

    def __init__(self, load, number):
        self.load, self.number, self.prepared = load, number, number % 2 == 0
        self.dice = random.Random(f"{load.seed} {number}")
        self.connection = self.known = self.doing = None
        self.last = itertools.count(1)

    def run(self):
        try:
            while not self.load.stopped.is_set():
                self.transact()
                time.sleep(self.dice.random() * self.load.pause)
        except BaseException as error:  # pylint: disable=broad-except
            self.load.failed.append(f"client {self.number}: {error!r}")
        finally:
            self.close()

    def close(self):
        if self.connection:
            self.connection.close()
        self.connection = None

    def transact(self):
        try:
            if not self.connection:
                self.doing = "connect"
                self.connection, self.known = Connection(self.load.cluster, self.load.db, user="app"), set()
            self.dice.choice(CHANGES)(self)
            self.load.transactions += 1
        except (PgError, AssertionError) as error:
            code = getattr(error, "sqlstate", "wrong")
            lost = not code or code.startswith(("57P", "08"))
            if not (self.load.killed and lost):
                text = getattr(error, "message", str(error))
                self.load.failed.append(f"{code} {self.load.phase()}, {self.doing}, client {self.number}: {text}")
            self.close()
            time.sleep(0.03)

    def command(self, sql):
        self.doing = sql
        self.connection.execute(sql)

    def do(self, name, *parameters):
        """A statement of the application's, with its rows."""
        self.doing = name
        began = time.monotonic()
        if self.prepared:
            if name not in self.known:
                self.connection.prepare(name, STATEMENTS[name])
                self.known.add(name)
            rows = self.connection.execute_prepared(name, *parameters)
        else:
            rows = self.connection.execute(STATEMENTS[name], *parameters)
        self.load.note_wait(time.monotonic() - began, name)
        return rows

    def row(self):
        own = self.dice.randrange(HOT + 1, self.load.rows) // self.load.clients * self.load.clients + self.number + HOT + 1
        return self.dice.randint(1, HOT) if self.dice.random() < 0.1 else own

    def text(self):
        """Nobody else writes the same, nor this client again."""
        return f"client {self.load.number}.{self.number} {next(self.last)} {self.dice.random()} ű " + "w" * self.dice.choice((0, 0, 0, 30, 300, 2200))


def in_transaction(change):
    """With the shadow; some are rolled back, some to a savepoint."""
    def changed(client):
        row = client.row()
        begin = "BEGIN ISOLATION LEVEL REPEATABLE READ" if row > HOT and client.dice.random() < 0.2 else "BEGIN"
        client.command(begin)
        try:
            if client.dice.random() < 0.1:
                client.command("SAVEPOINT s")
                client.do("update", row, client.text())
                client.command("ROLLBACK TO s")
            change(client, row)
        except PgError as error:
            # The backfill may have changed the row meanwhile: a session that asks for this level has to expect it.
            if error.sqlstate != "40001" or begin == "BEGIN":
                raise
            client.load.retried += 1
            client.command("ROLLBACK")
        else:
            client.command("ROLLBACK" if client.dice.random() < 0.05 else "COMMIT")
    return changed


@in_transaction
def insert(client, row):
    """A row that goes, and comes back."""
    if row > HOT:
        text = client.text()
        client.do("delete", row)
        client.do("insert", row, text)
        client.do("shadow delete", row)
        client.do("shadow upsert", row, text)


@in_transaction
def insert_many(client, _):
    row, text = client.load.new_rows(3), client.text()
    client.do("insert many", row, text)
    for number in range(row, row + 3):
        client.do("shadow upsert", number, f"{text}{number}")


@in_transaction
def insert_by_copy(client, _):
    row, text = client.load.new_rows(2), client.text()
    client.doing = "copy"
    client.connection.copy_in("COPY t (id, v, n) FROM STDIN", f"{row}\t{text}\t0\n{row + 1}\t\\N\t0\n".encode())
    client.do("shadow upsert", row, text)
    client.do("shadow upsert", row + 1, None)


@in_transaction
def upsert(client, row):
    text = client.text()
    client.do("upsert", row, text)
    client.do("shadow upsert counted", row, text)


@in_transaction
def upsert_by_value(client, row):
    """Of a value that is there already, in this client's row."""
    text = client.text()
    if row <= HOT or not client.do("update", row, text):
        return
    found = client.do("upsert by value", client.load.new_rows(1), text)
    expect(found == [[str(row)]], f"the upsert found {found}, not {row}")
    client.do("shadow update", row, text)
    client.do("shadow count", row)


@in_transaction
def update(client, row):
    text = client.text()
    client.do("update", row, text)
    client.do("shadow update", row, text)


@in_transaction
def update_locked(client, row):
    client.do("lock", row)
    client.command(f"SELECT pg_sleep({client.dice.random() / 50})")
    text = client.text()
    found = client.do("update", row, text)
    expect(found in ([], [[text]]), "an update returns another value")
    client.do("shadow update", row, text)


@in_transaction
def update_by_value(client, row):
    first, second = client.text(), client.text()
    if client.do("update", row, first):
        expect(client.do("update by value", first, second) == [[str(row)]], "an update by value does not find it")
        client.do("shadow update", row, second)


@in_transaction
def update_other(client, row):
    client.do("update other", row)
    client.do("shadow count", row)


@in_transaction
def append(client, row):
    client.do("append", row, "+")
    client.do("shadow append", row, "+")


@in_transaction
def clear(client, row):
    client.do("clear", row)
    client.do("shadow update", row, None)


@in_transaction
def delete(client, row):
    if row > HOT:
        client.do("delete", row)
        client.do("shadow delete", row)


@in_transaction
def delete_by_value(client, row):
    text = client.text()
    if row > HOT and client.do("update", row, text):
        expect(client.do("delete by value", text) == [[str(row)]], "a delete by value does not find it")
        client.do("shadow delete", row)


def update_many(client):
    # In order: clients must not deadlock with each other.
    client.command("BEGIN")
    for row in range(client.dice.randint(1, HOT), HOT + 1):
        client.do("update other", row)
        client.do("shadow count", row)
    client.command("COMMIT")


def read(client):
    for row in (client.row(), client.row()):
        for value, number, expected, count in client.do("read", row):
            expect((value, number) == (expected, count), f"row {row} is {value!r:.60}, {number}, and not {expected!r:.60}, {count}")


def find(client):
    """What a client wrote, it finds; a value that is nowhere it does not."""
    expect(client.do("find", "nowhere") == [], "found what is not there")
    row, text = client.row(), client.text()
    client.command("BEGIN")
    if client.do("update", row, text):
        found = client.do("find", text)
        expect(found == [[str(row), text]], f"wrote a value into row {row}, found {len(found)}")
        client.do("shadow update", row, text)
    client.command("COMMIT")


def expect(condition, message):
    if not condition:
        raise AssertionError(message)


CHANGES = (
    insert, insert_many, insert_by_copy, upsert, upsert, update, update, update, update_locked, update_by_value, update_other,
    update_other, append, clear, delete, delete_by_value, update_many, read, read, read, find, find, upsert_by_value)
