"""Sessions that write the same values at once, while keys and index keys change: what is unique stays so, and nothing is lost."""

import random
import threading
import time
import unittest

from harness import PgError
from harness.libpq import Connection
from harness.scenario import Scenario

from rotation_load import Seeded

SESSIONS = 8
VALUES = [f"{number}@example.org" for number in range(150)] + ["", "é", "e\u0301", "A", "a", "w" * 2000]

# One after the other, each while all sessions write a part of theirs. The old rows are what takes time.
CHANGES = (
    "SELECT prism_crypt.rotate_key(); CALL prism_crypt.rotate_all(batch_size => 100);",
    "CALL prism_crypt.rotate_index_key(batch_size => 100);",
    "SELECT prism_crypt.rotate_key(); CALL prism_crypt.rotate_index_key(batch_size => 100);",
    "CALL prism_crypt.rotate_index_key(batch_size => 1000); CALL prism_crypt.rotate_all();",
)
OLD_ROWS = 1500

TABLES = f"""
    CREATE TABLE t (id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY, v encrypted_text('email', 'searchable'), n int NOT NULL DEFAULT 1) WITH (fillfactor = 80);
    CREATE TABLE shadow (v text PRIMARY KEY, n int NOT NULL DEFAULT 1);
    INSERT INTO t (v) SELECT 'old ' || g FROM generate_series(1, {OLD_ROWS}) AS g;
    INSERT INTO shadow SELECT 'old ' || g FROM generate_series(1, {OLD_ROWS}) AS g;
    CREATE EXTENSION amcheck; """
UNIQUE = "ALTER TABLE t ADD CONSTRAINT found UNIQUE (v);"
EXCLUDE = "ALTER TABLE t ADD CONSTRAINT found EXCLUDE USING hash (v WITH =);"
HASH = "CREATE INDEX found ON t USING hash (v);"

# The text in each form that clients send it in.
FORMS = ("$1", "$1::text", "$1::varchar", "$1::encrypted_text")
# What PostgreSQL may do to sessions that wait for each other.
CONFLICTS = ("40P01", "40001")


class SearchConcurrency(Seeded, Scenario):
    preload = True
    conf = {"log_statement": "'none'", "log_min_duration_statement": "-1", "autovacuum_naptime": "'1s'", "deadlock_timeout": "'20ms'", "jit": "off"}

    def setUp(self):
        self.db = self.database(self.id().rpartition(".")[2][:60].lower())

    def query(self, sql):
        return self.cluster.psql(sql, db=self.db)

    def again(self, work, *arguments):
        """Does it until nothing is in its way; a transaction that was ended is undone."""
        for attempt in range(1000):
            try:
                return work(*arguments)
            except PgError as error:
                if error.sqlstate not in CONFLICTS:
                    raise
                arguments[0].execute("ROLLBACK")
            # Inserts of one value into an exclusion constraint, of any type, all wait for each other: some have to stay away.
            time.sleep(random.random() * min(attempt, 10) / 20)
        raise AssertionError("conflicts again and again")

    def write(self, work, times=1):
        """Each session calls work(connection, dice, value) for each value that often. Gives what that returned, as [(value, result)]."""
        results, failures = [], []
        barrier = threading.Barrier(SESSIONS + 1, timeout=120)

        def run(number):
            try:
                dice = random.Random(f"{self.seed} {number}")
                values = VALUES * times
                # Mostly the same ones at the same time.
                values.sort(key=lambda value: hash_of(f"{self.seed} {value}") + dice.randrange(1 << 29))
                part = len(values) // len(CHANGES) + 1
                with Connection(self.cluster, self.db) as connection:
                    for start in range(0, part * len(CHANGES), part):
                        barrier.wait()
                        for value in values[start:start + part]:
                            results.append((value, self.again(work, connection, dice, value)))
            except BaseException as error:  # pylint: disable=broad-except
                failures.append(error)
                barrier.abort()

        threads = [threading.Thread(target=run, args=(number,)) for number in range(SESSIONS)]
        for thread in threads:
            thread.start()
        try:
            with Connection(self.cluster, self.db) as connection:
                for change in CHANGES:
                    barrier.wait()
                    for statement in change.split("; "):
                        self.again(lambda c: c.execute(statement), connection)
        except threading.BrokenBarrierError:
            pass
        finally:
            barrier.abort() if failures else None
            for thread in threads:
                thread.join(120)
        self.assertEqual([f for f in failures if not isinstance(f, threading.BrokenBarrierError)], [])
        self.assertEqual(len(results), SESSIONS * len(VALUES) * times)
        return results

    def assert_right(self):
        """The same as the shadow; and indexes find what is in the table, no more and no less."""
        self.query("DROP EXTENSION IF EXISTS amcheck CASCADE; CREATE EXTENSION amcheck")
        self.assertEqual(self.query("SELECT count(*) FROM t FULL JOIN shadow AS s ON s.v = decrypt_field(t.v) WHERE t.n IS DISTINCT FROM s.n"), "0")
        self.assertEqual(self.query("SELECT DISTINCT (envelope_info(v)).search_generation FROM t"), self.query("SELECT max(generation) FROM prism_crypt.index_key"))
        count = "SELECT sum((SELECT count(*) FROM t WHERE t.v = s.v)), max((SELECT count(*) FROM t WHERE t.v = s.v)), count(*) FROM shadow AS s"
        off = lambda *names: "".join(f"SET enable_{name} = off;" for name in names)  # noqa: E731
        ways = {"Index (Only )?Scan using found": off("seqscan", "bitmapscan"), "Bitmap Index Scan on found": off("seqscan", "indexscan", "indexonlyscan"),
                "Seq Scan on t": off("indexscan", "indexonlyscan", "bitmapscan")}
        rows = self.query("SELECT count(*) FROM t")
        for node, settings in ways.items():
            self.assertRegex(self.query(f"{settings} EXPLAIN {count}"), node)
            self.assertEqual(self.query(f"{settings} {count}"), f"{rows}|1|{rows}", node)
        self.query("""
            SELECT bt_index_parent_check(indexrelid, true, true) FROM pg_index JOIN pg_class ON pg_class.oid = indexrelid
            WHERE indrelid = 't'::regclass AND relam = (SELECT oid FROM pg_am WHERE amname = 'btree')""")

    def assert_once(self, results):
        """Each value was written by one session, once, and refused to the others."""
        self.query(f"INSERT INTO shadow VALUES {', '.join(f'($${value}$$)' for value in VALUES)}")
        written = sorted(value for value, result in results if result)
        self.assertEqual(written, sorted(VALUES))
        self.assert_right()

    def insert(self, connection, dice, value, refusal="23505"):
        """Whether it could; maybe after a first time that is undone. Others wait for that one, and then may have the value."""
        for undone in (True, False) if dice.random() < 0.2 else (False,):
            connection.execute("BEGIN")
            try:
                connection.execute(f"INSERT INTO t (v) VALUES ({dice.choice(FORMS)})", value)
                connection.execute("ROLLBACK" if undone else "COMMIT")
                done = True
            except PgError as error:
                if error.sqlstate != refusal:
                    raise
                connection.execute("ROLLBACK")
                done = False
        return done

    def test_a_unique_index(self):
        self.query(TABLES + UNIQUE)
        self.assert_once(self.write(self.insert))

    def test_an_exclusion_constraint(self):
        self.query(TABLES + EXCLUDE)
        self.assert_once(self.write(lambda *arguments: self.insert(*arguments, refusal="23P01")))

    def do_nothing(self, connection, dice, value):
        target = dice.choice(("", self.target))
        return connection.execute(f"INSERT INTO t (v) VALUES ({dice.choice(FORMS)}) ON CONFLICT {target} DO NOTHING RETURNING id", value)

    def test_do_nothing(self):
        for self.target, index in (("(v)", UNIQUE), ("ON CONSTRAINT found", EXCLUDE)):
            with self.subTest(index):
                self.query("DROP TABLE IF EXISTS t, shadow; DROP EXTENSION IF EXISTS amcheck;" + TABLES + index)
                self.assert_once(self.write(self.do_nothing))

    def count_up(self, connection, dice, value):
        """One more on both sides."""
        connection.execute("BEGIN")
        if dice.random() < 0.1:
            connection.execute("SAVEPOINT s")
            connection.execute("INSERT INTO t AS o (v) VALUES ($1) ON CONFLICT (v) DO UPDATE SET n = o.n + 1000", value)
            connection.execute("ROLLBACK TO s")
        values = f"({dice.choice(FORMS)})" + dice.choice(("", "", "", ", ('old 7')"))
        add = "INSERT INTO {} AS o (v) VALUES {} ON CONFLICT (v) DO UPDATE SET n = o.n + 1 RETURNING n"
        added = connection.execute(add.format("t", values), value)
        connection.execute(add.format("shadow", values.replace("encrypted_", "")), value)
        connection.execute("COMMIT")
        return len(added)

    def test_do_update(self):
        self.query(TABLES + UNIQUE)
        results = self.write(self.count_up, times=2)
        self.assertEqual(self.query("SELECT sum(n) FROM t"), str(OLD_ROWS + sum(count for _, count in results)))
        self.assertEqual(self.query("SELECT count(*) FROM t"), str(OLD_ROWS + len(VALUES)))
        self.assert_right()

    def move(self, connection, dice, value):
        """Some change of one row by its value, the same on both sides or on none."""
        other = dice.choice(VALUES)
        what, *parameters = dice.choice((
            ("INSERT INTO {} (v) VALUES ($1)", value), ("INSERT INTO {} (v) VALUES ($1)", value), ("DELETE FROM {} WHERE v = $1", value),
            ("UPDATE {} SET v = $2 WHERE v = $1", value, other), ("UPDATE {} SET n = n + 1 WHERE v = $1::text", value),
            ("UPDATE {} SET n = n + 1 WHERE v = ANY ($1)", "{" + value + "}"), ("DELETE FROM {} WHERE v IN ($1)", other)))
        # Both see the same.
        connection.execute("BEGIN ISOLATION LEVEL REPEATABLE READ")
        try:
            rows = connection.execute(what.format("t") + " RETURNING 1", *parameters)
        except PgError as error:
            if error.sqlstate != "23505":
                raise
            connection.execute("ROLLBACK")
            return False
        shadowed = connection.execute(what.format("shadow") + " RETURNING 1", *parameters)
        connection.execute("COMMIT")
        if len(rows) != len(shadowed):
            raise AssertionError(f"{what}: {len(rows)} rows, {len(shadowed)} of the shadow")
        return bool(rows)

    def test_changes_of_all_kinds(self):
        self.query(TABLES + UNIQUE)
        results = self.write(self.move, times=3)
        self.assertGreater(sum(done for _, done in results), len(results) // 10)
        self.assert_right()

    def refer(self, connection, dice, value):
        """Some change of a row, or of what refers to it; one that the foreign key refuses is undone."""
        what = dice.choice(("INSERT INTO t (v) VALUES ($1) ON CONFLICT DO NOTHING", "INSERT INTO refers (v) VALUES ($1)", "INSERT INTO refers SELECT v FROM t WHERE v = $1",
                            "DELETE FROM t WHERE v = $1", "UPDATE t SET v = v || '+' WHERE v = $1", "DELETE FROM refers WHERE v = $1"))
        connection.execute("BEGIN")
        try:
            connection.execute(what, value)
        except PgError as error:
            if error.sqlstate not in ("23503", "23505"):
                raise
            connection.execute("ROLLBACK")
            return False
        connection.execute("COMMIT")
        return True

    def test_foreign_keys(self):
        """Rows on both sides come, go and change while both sides are rotated: none that refers is left without what it refers to."""
        self.query(TABLES + UNIQUE + """
            CREATE TABLE refers (v encrypted_text('searchable') REFERENCES t (v) ON UPDATE CASCADE ON DELETE CASCADE);
            CREATE INDEX ON refers (v);
            INSERT INTO refers SELECT v FROM t WHERE id % 3 = 0""")
        results = self.write(self.refer, times=3)
        self.assertGreater(sum(done for _, done in results), len(results) // 3)
        for settings in ("SET enable_seqscan = off; SET enable_hashjoin = off;", "SET enable_indexscan = off; SET enable_bitmapscan = off; SET enable_indexonlyscan = off;"):
            self.assertEqual(self.query(f"{settings} SELECT count(*) FROM refers AS r WHERE NOT EXISTS (SELECT FROM t WHERE t.v = r.v)"), "0")
        self.assertEqual(self.query("SELECT count(*) FROM refers AS r LEFT JOIN t ON decrypt_field(t.v) = decrypt_field(r.v) WHERE t.v IS NULL"), "0")
        self.assertGreater(int(self.query("SELECT count(*) FROM refers")), 100)
        self.query("ALTER TABLE refers DROP CONSTRAINT refers_v_fkey; ALTER TABLE refers ADD FOREIGN KEY (v) REFERENCES t (v)")

    def test_no_unique_index(self):
        """Of rows that sessions add to a hash index at once none is lost."""
        self.query(TABLES + HASH)
        self.write(lambda connection, dice, value: connection.execute(f"INSERT INTO t (v) VALUES ({dice.choice(FORMS)})", value))
        found = "SELECT DISTINCT (SELECT count(*) FROM t WHERE t.v = s) FROM unnest($${%s}$$::text[]) AS s" % ",".join(f'"{value}"' for value in VALUES)
        self.assertEqual(self.query(f"SET enable_seqscan = off; {found}"), str(SESSIONS))
        self.assertEqual(self.query(f"SET enable_indexscan = off; SET enable_bitmapscan = off; {found}"), str(SESSIONS))


def hash_of(text):
    return random.Random(text).randrange(1 << 30)


if __name__ == "__main__":
    unittest.main()
