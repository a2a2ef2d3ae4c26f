"""What one session does to the keys, and what others then see."""

import unittest

from harness.scenario import Scenario, wait_until

SEALS = "SELECT key_version(encrypt_field('x'));"
ROTATE = "SELECT prism_crypt.rotate_key();"
LEVELS = ("READ COMMITTED", "REPEATABLE READ", "SERIALIZABLE")


class TwoSessions(Scenario):
    def setUp(self):
        self.db = self.database(self.id().rpartition(".")[2][:60].lower())
        self.cluster.psql("CREATE TABLE t (id int, v encrypted_text); COPY t FROM STDIN;\n1\tquokka\n\\.\n", db=self.db)
        self.a, self.b = self.session(self.db), self.session(self.db)

    def rotate(self, session=None):
        return (session or self.a).run(ROTATE)

    def test_the_next_statement_seals_with_the_new_key(self):
        self.assertEqual(self.b.run(SEALS), "1")
        self.assertEqual(self.rotate(), "2")
        self.assertEqual(self.b.run(SEALS), "2")
        self.rotate()
        self.assertEqual(self.b.run("INSERT INTO t VALUES (2, 'wombat') RETURNING key_version(v);"), "3")
        self.rotate()
        self.b.run("COPY t FROM STDIN;\n3\tnumbat\n\\.")
        self.assertEqual(self.b.run("SELECT key_version(v) FROM t WHERE id = 3;"), "4")

    def test_also_inside_an_open_transaction(self):
        for version, level in enumerate(LEVELS, 2):
            with self.subTest(level):
                self.b.run(f"BEGIN ISOLATION LEVEL {level}; SELECT count(*) FROM t;")
                self.assertEqual(self.b.run(SEALS), str(version - 1))
                self.assertEqual(self.rotate(), str(version))
                # The first one touches no table, so nothing else makes the session look.
                self.assertEqual(self.b.run(SEALS), str(version))
                self.assertEqual(self.b.run("INSERT INTO t VALUES (2, 'wombat') RETURNING key_version(v);"), str(version))
                self.assertEqual(self.b.run("SELECT decrypt_field(v) FROM t WHERE id = 2;").splitlines()[-1], "wombat")
                self.b.run("COMMIT;")

    def test_also_between_the_statements_of_a_function(self):
        self.b.run("""
            CREATE FUNCTION seals_twice() RETURNS text LANGUAGE plpgsql AS $$
            DECLARE versions text := key_version(encrypt_field('x'));
            BEGIN
              PERFORM pg_advisory_lock(7);
              RETURN versions || ' ' || key_version(encrypt_field('x'));
            END $$;""")
        self.a.run("SELECT pg_advisory_lock(7);")
        self.b.start("SELECT seals_twice();")
        self.cluster.wait_for("SELECT count(*) > 0 FROM pg_locks WHERE locktype = 'advisory' AND NOT granted")
        self.rotate()
        self.a.run("SELECT pg_advisory_unlock(7);")
        self.assertEqual(self.b.wait(), "1 2")

    def test_prepared_statements(self):
        self.b.run("PREPARE seal(text) AS SELECT key_version(encrypt_field($1)); PREPARE read AS SELECT decrypt_field(v) FROM t WHERE id = 1;")
        for _ in range(7):
            self.b.run("EXECUTE seal('x'); EXECUTE read;")
        self.rotate()
        self.assertEqual(self.b.run("EXECUTE seal('x'); EXECUTE read;"), "2\nquokka")
        self.a.run("SELECT prism_crypt.disable_key(1);")
        self.assertEqual(self.b.error("EXECUTE read;").message, "key version 1 is disabled")

    def test_a_disabled_version_is_not_read(self):
        read = "SELECT decrypt_field(v) FROM t;"
        self.assertEqual(self.b.run(read), "quokka")
        self.rotate()
        self.a.run("SELECT prism_crypt.disable_key(1, 'lost laptop');")
        error = self.b.error(read)
        self.assertEqual((error.sqlstate, error.message), ("55000", "key version 1 is disabled"))
        self.assertEqual(self.b.run("SELECT try_decrypt_field(v) IS NULL, key_version(v) FROM t;"), "t|1")
        self.a.run("SELECT prism_crypt.enable_key(1);")
        self.assertEqual(self.b.run(read), "quokka")

    def test_a_disabled_version_is_not_read_in_an_open_transaction(self):
        self.rotate()
        for level in LEVELS:
            with self.subTest(level):
                self.b.run(f"BEGIN ISOLATION LEVEL {level};")
                self.assertEqual(self.b.run("SELECT decrypt_field(v) FROM t;"), "quokka")
                stored = self.b.run("SELECT v FROM t;")
                self.a.run("SELECT prism_crypt.disable_key(1);")
                self.assertEqual(self.b.error(f"SELECT decrypt_field(prism_crypt.load_envelope('{stored}'));").message, "key version 1 is disabled")
                self.b.run("ROLLBACK;")
                self.b.run(f"BEGIN ISOLATION LEVEL {level};")
                self.assertEqual(self.b.error("SELECT decrypt_field(v) FROM t;").message, "key version 1 is disabled")
                self.b.run("ROLLBACK;")
                self.a.run("SELECT prism_crypt.enable_key(1);")

    def test_an_open_cursor_stops_reading(self):
        self.rotate()
        self.a.run("INSERT INTO t SELECT 1, v FROM t, generate_series(1, 9);")
        self.b.run("BEGIN; DECLARE c CURSOR FOR SELECT decrypt_field(v) FROM t;")
        self.assertEqual(self.b.run("FETCH c;"), "quokka")
        self.a.run("SELECT prism_crypt.disable_key(1);")
        self.assertEqual(self.b.error("FETCH c;").message, "key version 1 is disabled")

    def test_nobody_sees_a_rotation_before_it_is_committed(self):
        self.a.run("BEGIN;")
        self.assertEqual(self.rotate(), "2")
        self.assertEqual(self.a.run(SEALS), "2")
        self.assertEqual(self.b.run(SEALS), "1")
        self.a.run("COMMIT;")
        self.assertEqual(self.b.run(SEALS), "2")

    def test_a_rotation_rolled_back_leaves_nothing(self):
        self.a.run("BEGIN;")
        self.assertEqual(self.rotate(), "2")
        value = self.a.run("SELECT encrypt_field('x');")
        self.assertTrue(value.startswith("prism:v2:"))
        self.a.run("ROLLBACK;")
        self.assertEqual(self.a.run(SEALS), "1")
        error = self.a.error(f"SELECT decrypt_field(prism_crypt.load_envelope('{value}'));")
        self.assertEqual((error.sqlstate, error.message), ("42704", "key version 2 does not exist"))
        self.assertEqual(self.rotate(), "3")
        self.assertEqual(self.a.run(SEALS), "3")

    def test_a_rotation_rolled_back_to_a_savepoint_leaves_nothing(self):
        self.a.run("BEGIN; SAVEPOINT before;")
        self.assertEqual(self.rotate(), "2")
        self.assertEqual(self.a.run(SEALS), "2")
        self.a.run("ROLLBACK TO before;")
        self.assertEqual(self.a.run(SEALS), "1")
        self.assertEqual(self.rotate(), "3")
        self.a.run("SAVEPOINT after; SELECT prism_crypt.rotate_key();")
        self.assertEqual(self.a.run(SEALS), "4")
        self.a.run("ROLLBACK TO after;")
        self.assertEqual(self.a.run(SEALS), "3")
        self.a.run("COMMIT;")
        self.assertEqual(self.b.run(SEALS), "3")
        self.assertEqual(self.b.run("SELECT version, state FROM prism_crypt.key_status ORDER BY 1;"), "1|decrypt_only\n3|active")

    def test_a_rotation_undone_by_an_exception_leaves_nothing(self):
        said = self.a.run("""
            DO $$
            BEGIN
              PERFORM prism_crypt.rotate_key();
              RAISE NOTICE 'inside: %', key_version(encrypt_field('x'));
              RAISE division_by_zero;
            EXCEPTION WHEN division_by_zero THEN
              RAISE NOTICE 'after: %', key_version(encrypt_field('x'));
            END $$;""")
        self.assertIn("inside: 2", said)
        self.assertIn("after: 1", said)
        self.assertEqual(self.a.run(SEALS), "1")

    def test_a_rolled_back_disabling_leaves_nothing(self):
        self.rotate()
        self.a.run("BEGIN; SELECT prism_crypt.disable_key(1);")
        self.assertEqual(self.b.run("SELECT decrypt_field(v) FROM t;"), "quokka")
        self.assertEqual(self.a.error("SELECT decrypt_field(v) FROM t;").message, "key version 1 is disabled")
        self.a.run("ROLLBACK;")
        self.assertEqual(self.a.run("SELECT decrypt_field(v) FROM t;"), "quokka")

    def test_a_rotation_in_a_prepared_transaction(self):
        self.a.run("BEGIN; SELECT prism_crypt.rotate_key();")
        outcome = self.a.run("PREPARE TRANSACTION 'rotation';", check=False)
        self.assertIn("55000", outcome)  # max_prepared_transactions is 0: it is rolled back.
        self.assertEqual(self.a.run(SEALS), "1")

    def test_rotations_at_once_come_one_after_the_other(self):
        self.a.run("BEGIN;")
        self.assertEqual(self.rotate(), "2")
        self.b.start(ROTATE)
        self.assertTrue(self.b.waiting())
        self.a.run("COMMIT;")
        self.assertEqual(self.b.wait(), "3")
        for session in (self.a, self.b):
            self.assertEqual(session.run(SEALS), "3")
        self.assertEqual(
            self.a.run("SELECT version, state FROM prism_crypt.key_status ORDER BY 1;"), "1|decrypt_only\n2|decrypt_only\n3|active")

    def test_many_rotations_at_once(self):
        sessions = [self.session(self.db) for _ in range(6)]
        for session in sessions:
            session.start(ROTATE * 5)
        versions = sorted(int(v) for session in sessions for v in session.wait().split())
        self.assertEqual(versions, list(range(2, 32)))
        self.assertEqual(self.a.run("SELECT state, count(*) FROM prism_crypt.key_status GROUP BY 1 ORDER BY 1;"), "active|1\ndecrypt_only|30")
        # Versions are drawn before the lock, so the last to get it need not have the highest.
        active = self.a.run("SELECT version FROM prism_crypt.key_status WHERE state = 'active';")
        for session in sessions:
            self.assertEqual(session.run(SEALS), active)

    def test_first_rotations_at_once(self):
        db = self.database("first_rotations", keys=False)
        for end, versions in (("ROLLBACK", "2"), ("COMMIT", "4")):
            a, b = self.session(db), self.session(db)
            with self.subTest(end):
                a.run("BEGIN;" + ROTATE)
                b.start(ROTATE)
                self.assertTrue(b.waiting())
                a.run(end + ";")
                self.assertEqual(b.wait(), versions)
                self.assertEqual(a.run(SEALS), versions)

    def test_rotations_of_other_keysets_do_not_wait(self):
        self.a.run("SELECT prism_crypt.create_keyset('tenant');")
        self.a.run("BEGIN;")
        self.assertEqual(self.rotate(), "3")
        self.assertEqual(self.b.run("SELECT prism_crypt.rotate_key('tenant');"), "4")
        self.a.run("COMMIT;")
        self.assertEqual(self.b.run(SEALS), "3")
        self.assertEqual(self.b.run("SET prism_crypt.keyset = 'tenant';" + SEALS), "4")

    def test_a_rotation_does_not_wait_for_readers_and_writers(self):
        self.b.run("BEGIN; SELECT decrypt_field(v) FROM t; INSERT INTO t VALUES (2, 'wombat');")
        self.a.run("SET lock_timeout = '5s';")
        self.assertEqual(self.rotate(), "2")
        self.a.run("SELECT prism_crypt.disable_key(1); SELECT prism_crypt.enable_key(1); SELECT prism_crypt.rotate_master_key();")
        self.assertEqual(self.b.run(SEALS), "2")

    def test_master_key_rotation_waits_for_a_rotation(self):
        self.a.run("BEGIN;" + ROTATE)
        self.b.start("SELECT prism_crypt.rotate_master_key();")
        self.assertTrue(self.b.waiting())
        self.a.run("COMMIT;")
        self.assertEqual(self.b.wait(), "2")

    def test_a_rotation_waits_for_a_master_key_rotation(self):
        self.a.run("BEGIN; SELECT prism_crypt.rotate_master_key();")
        self.b.start(ROTATE)
        self.assertTrue(self.b.waiting())
        self.a.run("COMMIT;")
        self.assertEqual(self.b.wait(), "2")
        self.assertEqual(self.a.run("SELECT decrypt_field(v) FROM t;" + SEALS), "quokka\n2")

    def test_a_new_keyset_is_seen(self):
        use = "SELECT key_version(encrypt_field('x', keyset => 'tenant'));"
        self.assertEqual(self.b.error(use).message, 'keyset "tenant" does not exist')
        self.a.run("SELECT prism_crypt.create_keyset('tenant');")
        self.assertEqual(self.b.run(use), "2")

    def test_the_extension_dropped_and_made_anew(self):
        self.assertEqual(self.b.run(SEALS), "1")
        value = self.b.run("SELECT encrypt_field('old');")
        self.a.run("DROP TABLE t; DROP EXTENSION prism_crypt CASCADE; CREATE EXTENSION prism_crypt;")
        self.assertEqual(self.b.error(SEALS).message, 'no active data key in keyset "default"')
        self.assertEqual(self.rotate(), "1")
        self.assertEqual(self.b.run(SEALS), "1")
        self.assertEqual(
            self.b.error(f"SELECT decrypt_field(prism_crypt.load_envelope('{value}'));").message,
            "Decryption failed (wrong key or corrupted data)")


class TwoSessionsPreloaded(TwoSessions):
    preload = True


class Versions(Scenario):
    """A version is given once, whatever becomes of the transaction, the session or the server."""

    durable = True
    # Nobody flushes the log in the background, so that a crash loses as much as it can.
    conf = {"wal_writer_delay": "'10s'", "autovacuum": "off"}

    def test_after_a_rollback_and_a_crash(self):
        db = self.database("versions")
        given = [1]
        value = None
        for end in ("ROLLBACK;", ""):
            self.cluster.psql("CHECKPOINT", db=db)
            session = self.session(db)
            given.append(int(session.run("BEGIN;" + ROTATE)))
            # A client may have stored what an unfinished transaction gave it.
            value = session.run("SELECT encrypt_field('x');")
            if end:
                session.run(end)
            self.cluster.kill9()
            self.cluster.start()
            with self.subTest(end or "unfinished"):
                version = int(self.cluster.psql(ROTATE, db=db))
                self.assertNotIn(version, given)
                given.append(version)
                error = self.cluster.error(f"SELECT decrypt_field(prism_crypt.load_envelope('{value}'))", db=db)
                self.assertEqual(error.sqlstate, "42704")

    def test_after_a_crash_just_after_the_commit(self):
        db = self.database("committed")
        version = int(self.cluster.psql(ROTATE, db=db))
        value = self.cluster.psql("SELECT encrypt_field('x')", db=db)
        self.cluster.kill9()
        self.cluster.start()
        self.assertEqual(self.cluster.psql(f"SELECT decrypt_field(prism_crypt.load_envelope('{value}'))", db=db), "x")
        self.assertGreater(int(self.cluster.psql(ROTATE, db=db)), version)

    def test_after_the_end_of_a_session(self):
        db = self.database("ended")
        session = self.session(db)
        version = int(session.run("BEGIN;" + ROTATE))
        pid = int(session.run("SELECT pg_backend_pid();"))
        self.cluster.psql(f"SELECT pg_terminate_backend({pid})")
        wait_until(lambda: self.cluster.psql(f"SELECT count(*) FROM pg_stat_activity WHERE pid = {pid}") == "0", "the session goes on")
        self.assertGreater(int(self.cluster.psql(ROTATE, db=db)), version)


if __name__ == "__main__":
    unittest.main()
