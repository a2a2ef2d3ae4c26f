"""rotate_batch among others, and interrupted: every value stays readable, and a second call finishes."""

import random
import threading
import time
import unittest

from harness import PgError
from harness.scenario import Scenario, kill_backend, wait_until

ROWS = 4000
WIDE = "repeat(md5(id::text), 20)"


class Crash(Scenario):
    # fsync is on: what is tested is what a crash leaves.
    durable = True
    conf = {"log_statement": "'none'", "log_min_duration_statement": "-1", "autovacuum": "off", "checkpoint_timeout": "'1h'"}

    def setUp(self):
        self.db = self.database(self.id().rpartition(".")[2][:60].lower())
        # Every tenth value is wide, and every seventh is bound to a context.
        self.cluster.psql(f"""
            CREATE TABLE t (id int PRIMARY KEY, v encrypted_text, n int NOT NULL DEFAULT 0, shadow text);
            INSERT INTO t (id, shadow) SELECT g, 'plain ' || g FROM generate_series(1, {ROWS}) AS g;
            UPDATE t SET shadow = {WIDE} WHERE id % 10 = 0;
            UPDATE t SET v = encrypt_field(shadow, CASE WHEN id % 7 = 0 THEN 'row ' || id END);
            SELECT prism_crypt.rotate_key();""", db=self.db)

    def query(self, sql):
        return self.cluster.psql(sql, db=self.db)

    def assert_readable(self, rows=ROWS):
        bad = "SELECT count(*) FROM t WHERE decrypt_field(v, CASE WHEN id % 7 = 0 THEN 'row ' || id END) IS DISTINCT FROM shadow"
        self.assertEqual(self.query(bad), "0")
        if rows is not None:
            self.assertEqual(self.query("SELECT count(*) FROM t"), str(rows))

    def versions(self):
        return dict(line.split("|") for line in self.query("SELECT key_version(v), count(*) FROM t GROUP BY 1").splitlines())

    def finish(self, active):
        self.query("CALL rotate_batch('t', 'v')")
        self.assertEqual(set(self.versions()), {active})

    def start_rotation(self, batch_size=50):
        """A rotation under way in a session of its own: (session, backend)."""
        session = self.session(self.db)
        backend = int(session.run("SELECT pg_backend_pid();"))
        before = self.moved()
        session.start(f"CALL rotate_batch('t', 'v', {batch_size});")
        wait_until(lambda: self.moved() > before, "the rotation moves nothing")
        return session, backend

    def moved(self):
        return int(self.versions().get("2", 0))

    def slow_down(self):
        """
        Each rewritten row takes a moment, and after half of them the next one waits for set_end(). So there is a middle to
        interrupt, however slow everything else is.
        """
        self.query(f"""
            CREATE SEQUENCE writes; CREATE TABLE ends (write bigint); INSERT INTO ends VALUES ({ROWS // 2});
            CREATE FUNCTION slow() RETURNS trigger LANGUAGE plpgsql AS $$
            DECLARE number CONSTANT bigint := nextval('writes');
            BEGIN
              PERFORM pg_sleep(0.0005);
              WHILE EXISTS (SELECT FROM ends WHERE write < number) LOOP PERFORM pg_sleep(0.01); END LOOP;
              RETURN NEW;
            END $$;
            CREATE TRIGGER slow BEFORE UPDATE OF v ON t FOR EACH ROW EXECUTE FUNCTION slow()""")

    def set_end(self, rows=10 * ROWS):
        """How many rows it may still rewrite; by default all."""
        self.query(f"UPDATE ends SET write = (SELECT last_value FROM writes) + {rows}")

    def test_a_killed_backend(self):
        self.slow_down()
        session, backend = self.start_rotation()
        kill_backend(backend)
        with self.assertRaises(PgError):
            session.wait()
        self.wait_for_recovery(self.db)
        # In the middle; the commits of the last batches did not wait for the disk.
        self.assertGreater(int(self.versions().get("1", 0)), 0)
        self.assert_readable()
        self.query("DROP TRIGGER slow ON t")
        self.finish("2")
        self.assert_readable()

    def test_a_killed_server(self):
        self.slow_down()
        session, _ = self.start_rotation()
        self.cluster.kill9()
        with self.assertRaises(PgError):
            session.wait()
        self.cluster.start()
        # In the middle; the commits of the last batches did not wait for the disk.
        self.assertGreater(int(self.versions().get("1", 0)), 0)
        self.assert_readable()
        self.query("DROP TRIGGER slow ON t")
        self.finish("2")
        self.assert_readable()

    def test_a_server_killed_again_and_again(self):
        self.slow_down()
        moved = 0
        for _ in range(4):
            self.set_end(ROWS // 5)
            session = self.session(self.db)
            session.start("CALL rotate_batch('t', 'v', 20);")
            wait_until(lambda: self.moved() >= moved + 100, "the rotation moves nothing")
            self.cluster.kill9()
            self.cluster.start()
            # The crash may take back the last batches, whose commits did not wait for the disk, but nothing of before.
            self.assertGreaterEqual(self.moved(), moved)
            moved = self.moved()
            self.assert_readable()
        self.query("DROP TRIGGER slow ON t")
        self.finish("2")
        self.assert_readable()

    def test_a_cancelled_rotation(self):
        self.slow_down()
        for how in ("pg_cancel_backend", "pg_terminate_backend"):
            with self.subTest(how):
                self.set_end(ROWS // 4)
                session, backend = self.start_rotation(batch_size=20)
                self.query(f"SELECT {how}({backend})")
                with self.assertRaises(PgError):
                    session.wait()
                self.assertGreater(int(self.versions()["1"]), 0)
                self.assert_readable()
        self.query("DROP TRIGGER slow ON t")
        self.finish("2")

    def test_a_statement_timeout(self):
        self.slow_down()
        # Long enough for a batch, on whatever machine.
        for seconds in (1, 5, 25):
            error = self.cluster.error(f"SET statement_timeout = '{seconds}s'; CALL rotate_batch('t', 'v', 20)", db=self.db)
            self.assertEqual(error.sqlstate, "57014")
            if self.moved():
                break
        self.assertTrue(0 < int(self.versions()["1"]) < ROWS)
        self.assert_readable()
        self.query("DROP TRIGGER slow ON t")
        self.finish("2")

    def test_among_writers(self):
        """Sessions insert, update (also wide values, so that rows move), delete and read while a key is rotated twice."""
        stop, errors = threading.Event(), []

        def write(number):
            random_ = random.Random(number)
            session = self.cluster.session(db=self.db)
            try:
                while not stop.is_set():
                    # No two writers touch a row, so none waits for another: only rotation and writer meet.
                    row = random_.randrange(1, ROWS // 4) * 4 + number
                    context = f"'row {row}'" if row % 7 == 0 else "NULL"
                    kind = random_.randrange(7)
                    if kind == 0:
                        session.run(f"DELETE FROM t WHERE id = {row};")
                    elif kind == 1:
                        session.run(
                            f"INSERT INTO t SELECT {row}, encrypt_field(s, {context}), 0, s FROM (SELECT 'new ' || {random_.random()}) AS x (s) "
                            "ON CONFLICT (id) DO UPDATE SET v = EXCLUDED.v, shadow = EXCLUDED.shadow;")
                    elif kind in (2, 3):
                        session.run(f"UPDATE t SET n = n + 1 WHERE id = {row};")
                    elif kind == 4:
                        wide = random_.randrange(1, 3000)
                        session.run(f"UPDATE t SET (v, shadow) = (SELECT encrypt_field(s, {context}), s FROM repeat('w', {wide}) AS s) WHERE id = {row};")
                    elif kind == 5:
                        session.run(f"BEGIN; UPDATE t SET n = n + 1 WHERE id = {row}; ROLLBACK;")
                    elif (got := session.run(f"SELECT decrypt_field(v, {context}) IS NOT DISTINCT FROM shadow FROM t WHERE id = {row};")) not in ("t", ""):
                        raise AssertionError(f"row {row}: {got}")
            except BaseException as error:  # pylint: disable=broad-except
                errors.append(error)
            finally:
                session.close()

        writers = [threading.Thread(target=write, args=(number,)) for number in range(4)]
        for writer in writers:
            writer.start()
        try:
            rotating = self.session(self.db)
            for active in ("2", "3"):
                if active == "3":
                    rotating.run("SELECT prism_crypt.rotate_key();")
                said = rotating.run("CALL rotate_batch('t', 'v', 100);", timeout=120)
                self.assertNotIn("WARNING", said)
                # Writers go on, but nobody writes the old version any more.
                self.assertEqual(set(self.versions()), {active})
            time.sleep(0.2)
        finally:
            stop.set()
            for writer in writers:
                writer.join(60)
        self.assertEqual(errors, [])
        self.assert_readable(rows=None)
        self.assertEqual(set(self.versions()), {"3"})

    def test_among_writers_that_restore_old_rows(self):
        """An UPDATE of another column copies old ciphertext to a page that the walk has left behind."""
        self.query("DELETE FROM t WHERE id < 1500; VACUUM t")
        self.slow_down()
        session, _ = self.start_rotation(batch_size=20)
        writer = self.session(self.db)
        for row in range(ROWS, ROWS - 400, -7):
            # To the front of the table, where there is room.
            writer.run(f"UPDATE t SET n = n + 1 WHERE id = {row};")
        self.set_end()
        session.wait()
        self.assertEqual(set(self.versions()), {"2"})
        self.assert_readable(rows=None)

    def test_a_row_locked_for_a_while(self):
        """It is passed over, and taken once it is free."""
        holder, session = self.session(self.db), self.session(self.db)
        holder.run("BEGIN; SELECT id FROM t WHERE id IN (5, 4000) FOR UPDATE;")
        session.start("CALL rotate_batch('t', 'v');")
        wait_until(lambda: self.versions().get("1") == "2", "the rest is not rotated")
        holder.run("UPDATE t SET n = n + 1 WHERE id = 5; COMMIT;")
        self.assertNotIn("WARNING", session.wait())
        self.assertEqual(self.versions(), {"2": str(ROWS)})
        self.assert_readable()

    def test_a_key_rotated_meanwhile(self):
        """The rotation under way takes the newer key from then on, and leaves nothing behind."""
        self.slow_down()
        session, _ = self.start_rotation(batch_size=20)
        self.query("SELECT prism_crypt.rotate_key()")
        self.set_end()
        session.wait()
        self.assertEqual(set(self.versions()), {"3"})
        self.assert_readable()

    def test_a_key_disabled_meanwhile(self):
        self.slow_down()
        session, _ = self.start_rotation(batch_size=20)
        self.query("SELECT prism_crypt.disable_key(1)")
        self.set_end()
        said = session.wait()
        self.assertRegex(said, r"WARNING: .*can't be read")
        self.assertIn("key version 1 is disabled", said)
        self.query("SELECT prism_crypt.enable_key(1)")
        self.query("DROP TRIGGER slow ON t")
        self.finish("2")
        self.assert_readable()


if __name__ == "__main__":
    unittest.main()
