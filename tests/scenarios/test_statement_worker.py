"""
Statements that PostgreSQL refuses inside a procedure, such as CREATE INDEX CONCURRENTLY, run in a background worker: with the rights
of the role that asks and no others, and no longer than somebody waits for them.
"""

import unittest

from harness import canaries
from harness.scenario import Scenario, is_alive, kill_backend, wait_until

ROWS = 100000
SCHEMA = f"""
    CREATE TABLE t AS SELECT n, n % 1000 AS twice FROM generate_series(1, {ROWS}) AS n;
    CREATE FUNCTION run(statement text) RETURNS void LANGUAGE plpgsql AS $$ BEGIN PERFORM prism_crypt._start_statement(statement); END $$;
"""
CREATE = "CREATE INDEX CONCURRENTLY i ON public.t (n)"
DROP = "SELECT format('DROP INDEX %s', indexrelid::regclass) FROM pg_index WHERE indrelid = 't'::regclass \\gexec"
WORKERS = "pg_stat_activity WHERE backend_type = 'prism_crypt statement'"
RIGHTS = "GRANT EXECUTE ON FUNCTION prism_crypt._start_statement(text), prism_crypt._statement_result(), prism_crypt._stop_statement()"


def call(statement):
    return f"CALL prism_crypt._run_statement($s${statement}$s$, NULL);"


class Base(Scenario):
    conf = {"autovacuum": "off"}

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.db = cls.database("main")
        cls.cluster.psql(SCHEMA, db=cls.db)

    def setUp(self):
        self.cluster.psql(DROP, db=self.db)

    def psql(self, sql, **kw):
        return self.cluster.psql(sql, db=self.db, **kw)

    def fails(self, statement, before=""):
        """What the procedure gives."""
        return self.psql(f"{before} {call(statement)}")

    def role(self, name, options="", rights=True):
        self.psql(f"CREATE ROLE {name} {options}; GRANT USAGE ON SCHEMA prism_crypt TO {name};" + (f"{RIGHTS} TO {name};" if rights else ""))
        self.addCleanup(self.psql, f"REASSIGN OWNED BY {name} TO postgres; DROP OWNED BY {name}; DROP ROLE {name}")
        return name

    def assert_valid(self, index):
        self.assertEqual(self.psql(f"SELECT indisvalid AND indisready FROM pg_index WHERE indexrelid = '{index}'::regclass"), "t")

    def blocker(self):
        """A session whose transaction every index of t that is built concurrently waits for."""
        session = self.session(self.db)
        session.run("BEGIN; INSERT INTO t VALUES (0, 0);")
        return session

    def building(self, session, statement=CREATE):
        """Starts a statement in a session, and gives its worker, which waits for the blocker."""
        session.start(call(statement))
        return self.waiting_worker()

    def waiting_worker(self):
        return int(wait_until(lambda: self.psql(f"SELECT pid FROM {WORKERS} AND wait_event = 'virtualxid'"), "no worker waits"))

    def assert_ended(self, worker):
        wait_until(lambda: not is_alive(worker), f"worker {worker} is still there", timeout=10)
        self.cluster.wait_for(f"SELECT count(*) FROM {WORKERS}", "0", timeout=10)


class StatementWorker(Base):
    def test_an_index_is_built_while_others_write(self):
        blocker, session, writer = self.blocker(), self.session(self.db), self.session(self.db)
        self.building(session)
        writer.run(f"INSERT INTO t SELECT n, n FROM generate_series({ROWS + 1}, {ROWS + 500}) AS n; DELETE FROM t WHERE n <= 100; SELECT pg_sleep(1);")
        self.assertTrue(session.waiting(0))
        blocker.run("COMMIT;")
        writer.run(f"UPDATE t SET n = n + {ROWS} WHERE n BETWEEN 200 AND 300;")
        self.assertEqual(session.wait(), "(,,,,,,,,,)")
        self.assert_valid("i")
        self.psql("CREATE EXTENSION IF NOT EXISTS amcheck; SELECT bt_index_check('i', true)")

    def test_other_kinds(self):
        session = self.session(self.db)
        for statement in (CREATE, "REINDEX INDEX CONCURRENTLY public.i", "REINDEX (VERBOSE, CONCURRENTLY) TABLE public.t"):
            self.assertEqual(session.run(call(statement)), "(,,,,,,,,,)", statement)
            self.assert_valid("i")
        self.assertEqual(session.run(call("DROP INDEX CONCURRENTLY public.i")), "(,,,,,,,,,)")
        self.assertEqual(self.psql("SELECT to_regclass('i')"), "")

    def test_an_encrypted_column(self):
        text = next(iter(canaries.PLAINTEXTS.values()))
        # Not in a statement, which the log would show.
        rows = "".join(f"{text}\t{text}{n}\n" for n in range(1, 501))
        self.psql(f"CREATE TABLE e (v encrypted_text('searchable'), w encrypted_text);\nCOPY e FROM STDIN;\n{rows}\\.\n")
        for number, definition in enumerate(("(v)", "(w public.encrypted_text_unique_ops)", "(v) INCLUDE (w)")):
            self.assertEqual(self.psql(call(f"CREATE INDEX CONCURRENTLY e_{number} ON public.e {definition}")), "(,,,,,,,,,)", definition)
            self.assert_valid(f"e_{number}")
        # Values in an error are shown as ciphertext, whatever the role has set.
        failure = self.psql(f"SET prism_crypt.output = 'plaintext'; {call('CREATE UNIQUE INDEX CONCURRENTLY ON public.e (v)')}")
        self.assertTrue(failure.startswith("(23505,"), failure)
        self.assertNotIn(text, failure)

    def test_errors_come_back(self):
        failure = self.fails("CREATE UNIQUE INDEX CONCURRENTLY u ON public.t (twice)")
        self.assertRegex(failure, r'^\(23505,"could not create unique index ""u""","Key \(twice\)=\(\d+\) is duplicated\.",,')
        self.assertEqual(self.psql("SELECT indisvalid FROM pg_index WHERE indexrelid = 'u'::regclass"), "f")
        self.assertTrue(self.fails("CREATE INDEX CONCURRENTLY ON public.t (nothing)").startswith('(42703,"column ""nothing"" does not exist",'))
        # No path leads to anybody's names.
        self.assertTrue(self.fails("CREATE INDEX CONCURRENTLY ON t (n)", "SET search_path = public;").startswith('(42P01,"relation ""t"" does not exist"'))

    def test_long_errors_are_cut_between_characters(self):
        self.psql("CREATE TABLE long AS SELECT repeat('ä', 1250) AS v FROM generate_series(1, 2)")
        failure = self.fails("CREATE UNIQUE INDEX CONCURRENTLY ON public.long (v)")
        self.assertRegex(failure, r'"Key \(v\)=\(ä{990,}"')
        self.assertLess(len(failure), 1200)

    def test_other_statements_are_refused(self):
        for statement in ("DROP TABLE public.t", f"{CREATE}; {CREATE}", "", "CREATE INDEX i ON public.t (n)", "DROP INDEX public.i", "SELECT 1",
                          "REINDEX TABLE public.t", "REINDEX (CONCURRENTLY false) TABLE public.t", "REINDEX (CONCURRENTLY 'x') TABLE public.t",
                          "REINDEX SCHEMA CONCURRENTLY public", "REINDEX DATABASE CONCURRENTLY main", "DROP TABLE public.t; " + CREATE,
                          "CREATE SCHEMA x CREATE INDEX i ON public.t (n)", "SET ROLE postgres"):
            with self.subTest(statement):
                self.assertEqual(self.cluster.error(call(statement), db=self.db).sqlstate, "0A000")
        self.assertEqual(self.cluster.error(call("CREATE INDEX CONCURRENTLY ((("), db=self.db).sqlstate, "42601")
        self.assertEqual(self.psql("SELECT count(*) >= 100000 FROM t"), "t")

    def test_one_at_a_time(self):
        session, blocker = self.session(self.db), self.blocker()
        self.assertEqual(session.error("SELECT * FROM prism_crypt._statement_result();").sqlstate, "55000")
        session.run("SELECT prism_crypt._stop_statement();")
        session.run(f"SELECT run('{CREATE}');")
        worker = self.waiting_worker()
        self.assertEqual(session.run("SELECT * FROM prism_crypt._statement_result();"), "f||||")
        # A subtransaction's error is caught, and ends nothing.
        session.run("DO $$ BEGIN PERFORM 1 / 0; EXCEPTION WHEN division_by_zero THEN NULL; END $$;")
        self.assertEqual(session.run("SELECT * FROM prism_crypt._statement_result();"), "f||||")
        self.assertTrue(is_alive(worker))
        session.run("SELECT prism_crypt._stop_statement();")
        self.assertFalse(is_alive(worker))
        self.assertEqual(session.error("SELECT * FROM prism_crypt._statement_result();").sqlstate, "55000")
        session.run("SELECT run('CREATE INDEX CONCURRENTLY i2 ON public.t (n)');")
        worker = self.waiting_worker()
        self.assertEqual(session.error(f"SELECT run('{CREATE}');").sqlstate, "55006")
        # That error was an abort.
        self.assert_ended(worker)
        blocker.run("ROLLBACK;")

    def test_it_shows(self):
        session, blocker = self.session(self.db), self.blocker()
        backend = session.run("SELECT pg_backend_pid();")
        self.building(session)
        self.assertEqual(self.psql(f"SELECT usename, application_name, state, query, datname FROM {WORKERS}"),
                         f"postgres|prism_crypt statement of process {backend}|active|{CREATE}|main")
        self.assertEqual(self.psql("SELECT command FROM pg_stat_progress_create_index"), "CREATE INDEX CONCURRENTLY")
        blocker.run("ROLLBACK;")
        session.wait()

    def test_settings_of_the_session(self):
        session, blocker = self.session(self.db), self.blocker()
        failure = session.run(f"SET lock_timeout = '100ms'; SET statement_timeout = '60s'; SET default_transaction_isolation = 'serializable'; {call(CREATE)}")
        self.assertTrue(failure.startswith('(55P03,"canceling statement due to lock timeout"'), failure)
        blocker.run("ROLLBACK;")

    def test_settings_of_the_role(self):
        role = self.role("writer", "LOGIN")
        self.psql(f"ALTER TABLE t OWNER TO {role}; GRANT CREATE ON SCHEMA public TO {role}; ALTER ROLE {role} SET default_transaction_read_only = on; ALTER ROLE {role} SET lock_timeout = '100ms';"
                  f"ALTER ROLE {role} SET role = 'pg_monitor'; GRANT pg_monitor TO {role}; ALTER ROLE {role} SET statement_timeout = '1ms'")
        blocker = self.blocker()
        # From the beginning: the statement that sets it could take longer than that.
        session = self.session(self.db, user=role, PGOPTIONS="-c statement_timeout=0")
        session.run("SET default_transaction_read_only = off; SET lock_timeout = 0; RESET ROLE; SET ROLE none;")
        self.building(session)
        blocker.run("ROLLBACK;")
        self.assertEqual(session.wait(), "(,,,,,,,,,)")
        self.psql("ALTER TABLE t OWNER TO postgres")

    def test_a_cancel_and_a_terminated_session_end_it(self):
        for ending in ("pg_cancel_backend", "pg_terminate_backend"):
            with self.subTest(ending):
                session, blocker = self.session(self.db), self.blocker()
                backend = session.run("SELECT pg_backend_pid();")
                worker = self.building(session)
                self.psql(f"SELECT {ending}({backend})")
                with self.assertRaisesRegex(Exception, "57014|57P01|the connection ended"):
                    session.wait()
                self.assert_ended(worker)
                blocker.run("ROLLBACK;")
                blocker.close()
                self.setUp()

    def test_a_worker_that_is_ended(self):
        for ending, expected in (("pg_cancel_backend", '(57014,"canceling statement due to user request"'),
                                 ("pg_terminate_backend", '(57P01,"the background worker that ran the statement was terminated",,"The server log says why.",')):
            with self.subTest(ending):
                session, blocker = self.session(self.db), self.blocker()
                worker = self.building(session)
                self.psql(f"SELECT {ending}({worker})")
                self.assertTrue(session.wait().startswith(expected))
                self.assert_ended(worker)
                blocker.run("ROLLBACK;")
                blocker.close()
                self.setUp()

    def test_an_abort_takes_it_back_at_any_time(self):
        session, blocker = self.session(self.db), self.blocker()
        for seconds in (0, 0, 0, 0, 0, 0.001, 0.002, 0.004, 0.008, 0.016, 0.032):
            session.run(f"BEGIN; SELECT run('{CREATE}'); SELECT pg_sleep({seconds}); ROLLBACK;")
            self.cluster.wait_for(f"SELECT count(*) FROM {WORKERS}", "0", timeout=10)
            self.assertEqual(session.error("SELECT * FROM prism_crypt._statement_result();").sqlstate, "55000")
        blocker.run("ROLLBACK;")
        self.setUp()
        self.assertEqual(session.run(call(CREATE)), "(,,,,,,,,,)")

    def test_a_session_that_goes_on_without_it(self):
        """A session may leave it running between its transactions, and ends it when it disconnects."""
        session, blocker = self.session(self.db), self.blocker()
        session.run(f"SELECT run('{CREATE}');")
        worker = self.waiting_worker()
        session.run("SELECT 1;")
        self.assertTrue(is_alive(worker))
        session.close()
        self.assert_ended(worker)
        blocker.run("ROLLBACK;")


class Roles(Base):
    """With the rights of the role that asks, and no others."""

    def test_not_without_the_right(self):
        role = self.role("nobody", "LOGIN", rights=False)
        self.assertEqual(self.cluster.error(call(CREATE), user=role, db=self.db).sqlstate, "42501")
        # These only know of the session's own.
        self.psql("SELECT prism_crypt._stop_statement()", user=role)

    def test_not_on_a_table_of_others(self):
        role = self.role("stranger", "LOGIN")
        failure = self.psql(call(CREATE), user=role)
        self.assertTrue(failure.startswith('(42501,"must be owner of table t"'), failure)
        self.psql(call(CREATE))
        failure = self.psql(call("DROP INDEX CONCURRENTLY public.i"), user=role)
        self.assertTrue(failure.startswith('(42501,"must be owner of index i"'), failure)
        # Nor does it help that the session was a superuser before.
        failure = self.fails("REINDEX INDEX CONCURRENTLY public.i", f"SET ROLE {role};")
        self.assertTrue(failure.startswith("(42501,"), failure)
        failure = self.fails("REINDEX INDEX CONCURRENTLY public.i", f"SET SESSION AUTHORIZATION {role};")
        self.assertTrue(failure.startswith("(42501,"), failure)

    def test_a_role_without_login(self):
        role = self.role("owner")
        self.psql(f"ALTER TABLE t OWNER TO {role}; GRANT CREATE ON SCHEMA public TO {role}")
        member = self.role("member", "LOGIN")
        self.psql(f"GRANT {role} TO {member}")
        for user, become in (("postgres", f"SET ROLE {role};"), ("postgres", f"SET SESSION AUTHORIZATION {role};"), (member, f"SET ROLE {role};"),
                             (member, ""), ("postgres", f"SET SESSION AUTHORIZATION {member}; SET ROLE {role};")):
            with self.subTest(user=user, become=become):
                self.assertEqual(self.psql(f"{become} {call(CREATE)}", user=user), "(,,,,,,,,,)")
                self.assert_valid("i")
                self.assertEqual(self.psql("SELECT relowner::regrole FROM pg_class WHERE oid = 'i'::regclass"), role)
                self.setUp()
        self.psql("ALTER TABLE t OWNER TO postgres")

    def test_a_role_that_was_taken_back(self):
        owner, member = self.role("owner2"), self.role("member2", "LOGIN")
        self.psql(f"ALTER TABLE t OWNER TO {owner}; GRANT {owner} TO {member}")
        with self.session(self.db, user=member) as session:
            session.run(f"SET ROLE {owner};")
            self.psql(f"REVOKE {owner} FROM {member}")
            failure = session.run(call(CREATE))
        self.assertTrue(failure.startswith("(42501,") or failure.startswith("(22023,"), failure)
        self.psql("ALTER TABLE t OWNER TO postgres")

    def test_not_inside_functions_of_others(self):
        role = self.role("caller", "LOGIN")
        self.psql(f"CREATE FUNCTION as_owner() RETURNS void LANGUAGE sql SECURITY DEFINER AS $$ SELECT prism_crypt._start_statement('{CREATE}') $$; GRANT EXECUTE ON FUNCTION as_owner() TO {role}")
        self.assertEqual(self.cluster.error("SELECT as_owner()", user=role, db=self.db).sqlstate, "42501")

    # What a function of an index tries, as the owner of the table; and whether it got there.
    WAYS = ("RESET SESSION AUTHORIZATION", "SET SESSION AUTHORIZATION postgres", "SET SESSION AUTHORIZATION DEFAULT", "RESET ROLE", "SET ROLE postgres",
            "SET ROLE none", "SELECT set_config('role', 'postgres', false)", "SELECT set_config('session_authorization', 'postgres', false)", "RESET ALL",
            "DISCARD ALL", "SET LOCAL ROLE postgres", "SELECT prism_crypt._start_statement('DROP INDEX CONCURRENTLY public.x')")

    def test_functions_of_an_index_get_no_other_rights(self):
        mallory = self.role("mallory", "LOGIN")
        ways = ", ".join("$w$" + way + "$w$" for way in self.WAYS)
        self.psql(f"""
            CREATE SCHEMA mallory AUTHORIZATION mallory; SET ROLE mallory;
            CREATE TABLE mallory.t AS SELECT 1 AS n; CREATE TABLE mallory.seen (what text);
            CREATE FUNCTION mallory.attack() RETURNS void LANGUAGE plpgsql AS $$
              DECLARE way text;
              BEGIN
                INSERT INTO mallory.seen SELECT format('user %s, superuser %s', rolname, rolsuper) FROM pg_roles WHERE rolname = current_user;
                FOREACH way IN ARRAY ARRAY[{ways}] LOOP
                  BEGIN
                    EXECUTE way;
                    INSERT INTO mallory.seen VALUES (format('%s: %s', way, current_user));
                    EXECUTE 'ALTER ROLE mallory SUPERUSER';
                    INSERT INTO mallory.seen VALUES ('WON by ' || way);
                  EXCEPTION WHEN OTHERS THEN NULL;
                  END;
                END LOOP;
              END $$;
            CREATE FUNCTION mallory.f(integer) RETURNS integer LANGUAGE plpgsql IMMUTABLE AS $$ BEGIN PERFORM mallory.attack(); RETURN $1; END $$;
        """)
        self.addCleanup(self.psql, "DROP SCHEMA mallory CASCADE")
        is_superuser = "SELECT rolsuper FROM pg_roles WHERE rolname = 'mallory'"
        statements = ["CREATE INDEX CONCURRENTLY i ON mallory.t (mallory.f(n))", "REINDEX INDEX CONCURRENTLY mallory.i",
                      "CREATE INDEX CONCURRENTLY j ON mallory.t (n) WHERE mallory.f(n) > 0", "REINDEX TABLE CONCURRENTLY mallory.t"]
        for become in ("", "SET ROLE mallory;", "SET SESSION AUTHORIZATION mallory;"):
            for statement in statements:
                with self.subTest(become=become, statement=statement):
                    self.assertEqual(self.psql(f"{become} {call(statement)}"), "(,,,,,,,,,)")
                    self.assertEqual(self.psql(is_superuser), "f")
                    seen = self.psql("WITH s AS (DELETE FROM mallory.seen RETURNING what) SELECT DISTINCT what FROM s ORDER BY 1").splitlines()
                    self.assertIn("user mallory, superuser f", seen)
                    self.assertEqual([line for line in seen if line.startswith(("WON", "SELECT prism_crypt")) or line.endswith(": postgres")], [])
            self.psql("DROP INDEX mallory.i, mallory.j")
        # The function does win where a superuser calls it.
        self.psql("SELECT mallory.attack()")
        self.assertEqual(self.psql(is_superuser), "t")


class Preloaded(StatementWorker):
    preload = True


class NoneFree(Base):
    conf = {"max_worker_processes": "0", "max_logical_replication_workers": "0"}

    def test_it_says_so(self):
        error = self.cluster.error(call(CREATE), db=self.db)
        self.assertEqual((error.sqlstate, error.message), ("53000", "no background worker is free"))
        self.assertIn("max_worker_processes", error.hint)
        # The session can go on.
        self.assertEqual(self.cluster.error(f"SELECT run('{CREATE}')", db=self.db).sqlstate, "53000")


class Crash(Base):
    def test_a_killed_session_takes_everything_with_it(self):
        session, blocker = self.session(self.db), self.blocker()
        backend = int(session.run("SELECT pg_backend_pid();"))
        worker = self.building(session)
        kill_backend(backend)
        wait_until(lambda: not is_alive(worker), f"worker {worker} is still there", timeout=10)
        for gone in (session, blocker):
            gone.close()
        wait_until(lambda: self.cluster.run_psql("SELECT 1", check=False).returncode == 0, "no recovery")
        self.assertEqual(self.psql(f"SELECT count(*) FROM {WORKERS}"), "0")
        self.assertEqual(self.psql("SELECT indisvalid FROM pg_index WHERE indexrelid = 'i'::regclass"), "f")


class Standby(Scenario):
    def test_not_on_a_standby(self):
        db = self.database("main")
        with self.cluster.standby() as standby:
            self.cluster.wait_caught_up(standby)
            self.assertEqual(standby.error(f"SELECT prism_crypt._start_statement('{CREATE}')", db=db).sqlstate, "25006")


if __name__ == "__main__":
    unittest.main()
