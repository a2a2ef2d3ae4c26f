"""
Indexes and a key source that takes long: nothing is waited for while a page of an index is locked. Each statement ends as
soon as it is told to, and nobody beside it waits.
"""

import time
import unittest

from harness import canaries, paths
from harness.scenario import Scenario, wait_until

ROWS = 2000
SCHEMA = f"""
    CREATE EXTENSION amcheck;
    CREATE TABLE u (id int, email encrypted_text, n int);
    INSERT INTO u SELECT n, 'user' || n, 0 FROM generate_series(1, {ROWS}) AS n;
    CREATE UNIQUE INDEX u_email ON u (email encrypted_text_unique_ops);
    CREATE INDEX u_id ON u (id);
    CREATE TABLE copies AS SELECT id, email FROM u;
    CREATE TABLE target (id int, email encrypted_text);
    CREATE UNIQUE INDEX ON target (email encrypted_text_unique_ops);
    CREATE TABLE child (email encrypted_text REFERENCES u (email));
    CREATE TABLE parts (id int, email encrypted_text) PARTITION BY RANGE (id);
    CREATE TABLE parts_1 PARTITION OF parts FOR VALUES FROM (0) TO (1000000);
    CREATE UNIQUE INDEX ON parts_1 (email encrypted_text_unique_ops);
    CREATE TABLE excluded (id int, email encrypted_text, EXCLUDE USING btree (email encrypted_text_unique_ops WITH =));
    CREATE TABLE deferred (id int, email encrypted_text, EXCLUDE USING btree (email encrypted_text_unique_ops WITH =) DEFERRABLE INITIALLY DEFERRED);
    CREATE TABLE s (id int, email encrypted_text('searchable'), n int);
    INSERT INTO s SELECT n, 'user' || n, 0 FROM generate_series(1, {ROWS}) AS n;
    CREATE UNIQUE INDEX s_email ON s (email encrypted_text_unique_ops);
    CREATE INDEX s_id ON s (n);
    CREATE FUNCTION insert_in_a_function() RETURNS void LANGUAGE plpgsql AS $$
      BEGIN INSERT INTO target SELECT id, email FROM copies WHERE id > 10; END $$;
    ANALYZE;
"""
GENERIC = "SET enable_seqscan = off; SET enable_bitmapscan = off; SET plan_cache_mode = force_generic_plan; "
# Each needs a key where an index is compared with, and none before.
STATEMENTS = {
    "generic plan": (GENERIC + "PREPARE p(text) AS SELECT id FROM u WHERE email = $1;", "EXECUTE p('user7');"),
    "generic plan of a searchable column": (GENERIC + "PREPARE p(text) AS SELECT id FROM s WHERE email = $1;", "EXECUTE p('user7');"),
    "bitmap scan": ("SET enable_seqscan = off; SET enable_indexscan = off; SET plan_cache_mode = force_generic_plan; "
                    "PREPARE p(text) AS SELECT id FROM u WHERE email = $1;", "EXECUTE p('user7');"),
    "parallel worker": (GENERIC + f"SET {paths.FORCE_PARALLEL} = on; PREPARE p(text) AS SELECT id FROM u WHERE email = $1;", "EXECUTE p('user7');"),
    "nested loop": ("SET enable_seqscan = on; SET enable_hashjoin = off; SET enable_mergejoin = off;",
                    "SELECT count(*) FROM (SELECT * FROM copies ORDER BY id LIMIT 3) AS c JOIN u ON u.email = c.email;"),
    "insert": ("", "INSERT INTO target SELECT id, email FROM copies WHERE id <= 10;"),
    "insert in a function": ("", "SELECT insert_in_a_function();"),
    "on conflict": ("", "INSERT INTO target SELECT id, email FROM copies ON CONFLICT (email) DO NOTHING;"),
    "update of another column": ("", "UPDATE u SET id = id + 10000 WHERE id <= 5;"),
    "partition": ("", "INSERT INTO parts SELECT id, email FROM copies WHERE id <= 10;"),
    "foreign key": ("", "INSERT INTO child SELECT email FROM copies WHERE id BETWEEN 20 AND 30;"),
    "exclusion constraint": ("", "INSERT INTO excluded SELECT id, email FROM copies WHERE id <= 10;"),
    "deferred constraint": ("", "INSERT INTO deferred SELECT id, email FROM copies WHERE id <= 10;"),
    "create index": ("", "CREATE INDEX ON copies (email encrypted_text_unique_ops);"),
    "create index concurrently": ("", "CREATE INDEX CONCURRENTLY ON copies (email encrypted_text_unique_ops);"),
    "reindex": ("", "REINDEX INDEX u_email;"),
    "reindex concurrently": ("", "REINDEX INDEX CONCURRENTLY u_email;"),
    "amcheck": ("", "SELECT bt_index_parent_check('u_email', true, true);"),
}


class IndexWaits(Scenario):
    preload = True
    key = "main"
    conf = {"autovacuum": "off", "max_parallel_workers": "2", "log_lock_waits": "on"}

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.db = cls.database("main")
        cls.cluster.psql(SCHEMA, db=cls.db)
        cls.started = cls.cluster.home / "started"

    def setUp(self):
        self.started.write_text("")
        self.started.chmod(0o666)

    def slow(self, seconds, prepared="", **kw):
        """A session whose master key comes from a command that takes so long, and that has read no key yet."""
        session = self.session(self.db, **kw)
        key = self.cluster.write_file("slow.key", canaries.KEYS["main"])
        session.run(f"SET prism_crypt.master_key_timeout = 0; SET prism_crypt.master_key_file = ''; "
                    f"SET prism_crypt.master_key_command = 'echo x >> {self.started}; sleep {seconds}; cat {key}'; {prepared}")
        return session

    def wait_for_command(self):
        wait_until(lambda: self.started.read_text(), "the command was not started")

    def assert_others_go_on(self):
        self.cluster.psql("""SET statement_timeout = '10s';
            INSERT INTO u VALUES (0, 'somebody'); DELETE FROM u WHERE email = 'somebody';
            INSERT INTO target VALUES (0, 'somebody'); DELETE FROM target WHERE email = 'somebody';
            INSERT INTO s VALUES (0, 'somebody'); DELETE FROM s WHERE email = 'somebody'""", db=self.db)

    def each(self, end, expected):
        for name, (prepared, statement) in STATEMENTS.items():
            with self.subTest(name):
                self.setUp()
                session = self.slow(600, prepared)
                backend = session.run("SELECT pg_backend_pid();")
                # Locks of tables, not of pages, would rightly keep writers out of these.
                is_locked = name in ("create index", "reindex", "deferred constraint", "amcheck")
                session.start(statement)
                self.wait_for_command()
                if not is_locked:
                    self.assert_others_go_on()
                began = time.monotonic()
                end(backend)
                with self.assertRaisesRegex(Exception, expected):
                    session.wait(timeout=60)
                self.assertLess(time.monotonic() - began, 30, "it did not end when it was told to")
                session.close()
        self.cluster.psql("DELETE FROM target; DELETE FROM excluded; DELETE FROM deferred; DELETE FROM parts; DELETE FROM child", db=self.db)
        self.cluster.psql("SELECT format('DROP INDEX %s', indexrelid::regclass) FROM pg_index WHERE NOT indisvalid \\gexec", db=self.db)

    def test_a_cancel_ends_it(self):
        self.each(lambda backend: self.cluster.psql(f"SELECT pg_cancel_backend({backend})"), "57014")

    def test_a_timeout_ends_it(self):
        for name, (prepared, statement) in STATEMENTS.items():
            with self.subTest(name):
                session = self.slow(600, prepared + "SET statement_timeout = '1s';")
                self.assertEqual(session.error(statement, timeout=60).sqlstate, "57014")
                session.close()

    def test_the_end_of_the_session_ends_it(self):
        session = self.slow(600, STATEMENTS["generic plan"][0])
        backend = session.run("SELECT pg_backend_pid();")
        session.start("EXECUTE p('user7');")
        self.wait_for_command()
        self.cluster.psql(f"SELECT pg_terminate_backend({backend})")
        self.cluster.wait_for(f"SELECT count(*) = 0 FROM pg_stat_activity WHERE pid = {backend}", timeout=20)

    def test_it_works_where_the_command_ends(self):
        for name, (prepared, statement) in STATEMENTS.items():
            with self.subTest(name):
                session = self.slow(0.2, "BEGIN; " * ("concurrently" not in name) + prepared)
                out = session.run(statement)
                if "generic" in name or "scan" in name or "worker" in name:
                    self.assertIn("7", out.split())
                session.run("ROLLBACK;")
                session.close()
        self.cluster.psql("SELECT format('DROP INDEX %s', indexrelid::regclass) FROM pg_index WHERE indrelid = 'copies'::regclass \\gexec", db=self.db)

    def test_a_limit_of_its_own(self):
        session = self.slow(600, "SET prism_crypt.master_key_timeout = '300ms';")
        error = session.error("SELECT decrypt_field(email) FROM u LIMIT 1;")
        self.assertEqual((error.sqlstate, error.message), ("38000", "the master key command took longer than prism_crypt.master_key_timeout"))
        self.assertEqual(error.detail, "The limit is 300 ms.")
        self.assertEqual(self.cluster.psql("LOAD 'prism_crypt'; SHOW prism_crypt.master_key_timeout", db=self.db), "10s")
        # What an index can't fetch is an error that says why.
        session.run(GENERIC + "PREPARE p(text) AS SELECT id FROM u WHERE email = $1;")
        error = session.error("EXECUTE p('user7');")
        self.assertEqual((error.sqlstate, error.message), ("55000", "an index needs a key that is not loaded"))
        self.assertIn("took longer", error.detail)
        # It is not run again for every statement.
        count = len(self.started.read_text())
        session.error("EXECUTE p('user7');")
        self.assertEqual(len(self.started.read_text()), count)

    def test_what_needs_no_key_goes_on_without(self):
        session = self.slow(600, "SET prism_crypt.master_key_timeout = '300ms';")
        session.run("UPDATE s SET n = n + 1; DELETE FROM s WHERE id > 1990; SELECT count(*) FROM s AS a JOIN s AS b USING (email);")

    def test_without_any_key_source(self):
        session = self.session(self.db)
        session.run("SET prism_crypt.master_key_file = '';" + GENERIC + "PREPARE p(text) AS SELECT id FROM u WHERE email = $1;")
        error = session.error("EXECUTE p('user7');")
        self.assertEqual((error.sqlstate, error.detail), ("55000", "It could not be fetched before: no master key is set."))
        session.run(f"SET prism_crypt.master_key_file = '{self.cluster.key_file}';")
        self.assertEqual(session.run("EXECUTE p('user7');").split()[-1], "7")

    def test_keys_that_change_in_the_middle(self):
        session = self.session(self.db)
        session.run(GENERIC + "PREPARE p(text) AS SELECT id FROM u WHERE email = $1; EXECUTE p('user7');")
        session.run("BEGIN; DECLARE c CURSOR FOR SELECT id, email FROM copies; FETCH 1 FROM c;")
        self.cluster.psql("SELECT prism_crypt.rotate_key(); INSERT INTO u VALUES (50000, 'user50000')", db=self.db)
        session.run("FETCH 5 FROM c; INSERT INTO u SELECT id, 'other' || id FROM copies WHERE id < 9; COMMIT;")
        self.assertEqual(session.run("EXECUTE p('user50000');").split()[-1], "50000")

    def test_roles_take_turns(self):
        self.cluster.psql("""CREATE ROLE one; CREATE ROLE two;
            GRANT SELECT, INSERT ON target, copies TO one, two; SELECT prism_crypt.grant_access('one', 'search')""", db=self.db)
        session = self.session(self.db)
        for role, allowed in (("one", True), ("two", False), ("one", True), ("two", False)):
            statement = f"SET ROLE {role}; INSERT INTO target SELECT id, email FROM copies WHERE id BETWEEN 40 AND 50 ON CONFLICT (email) DO NOTHING;"
            if allowed:
                session.run(statement)
            else:
                self.assertEqual(session.error(statement).sqlstate, "42501")
        self.cluster.psql("SELECT prism_crypt.revoke_access('one', 'search')", db=self.db)
        self.assertEqual(session.error("SET ROLE one; INSERT INTO target SELECT id, email FROM copies WHERE id = 60;").sqlstate, "42501")
        session.run("RESET ROLE; DELETE FROM target;")


class NotPreloaded(IndexWaits):
    preload = False


class Autovacuum(Scenario):
    """A worker takes pages out of an index whose values have to be opened for that, with keys from a command."""

    preload = True
    conf = {"autovacuum": "off", "autovacuum_naptime": "'1s'", "log_autovacuum_min_duration": "0"}

    def test_it_fetches_the_key_first(self):
        db = self.database("vacuumed")
        self.cluster.psql("""
            CREATE TABLE u (id int, email encrypted_text);
            INSERT INTO u SELECT n, 'user' || n FROM generate_series(1, 8000) AS n;
            CREATE UNIQUE INDEX u_email ON u (email encrypted_text_unique_ops);
            CREATE ROLE somebody; ALTER TABLE u OWNER TO somebody;
            DELETE FROM u WHERE id > 5;
            CREATE EXTENSION pageinspect;
        """, db=db)
        calls = self.cluster.write_file("calls", "")
        self.cluster.configure({"prism_crypt.master_key_file": "''", "autovacuum": "on",
                                "prism_crypt.master_key_command": f"'echo >> {calls}; sleep 0.5; cat {self.cluster.key_file}'"})
        self.cluster.restart()
        self.cluster.wait_for("SELECT count(*) FROM pg_stat_user_tables WHERE relname = 'u' AND last_autovacuum IS NOT NULL", "1", timeout=180, db=db)
        deleted = self.cluster.psql("""SELECT count(*) FROM generate_series(1, pg_relation_size('u_email') / 8192 - 1) AS page,
            bt_page_stats('u_email', page::int) AS s WHERE s.type IN ('d', 'D')""", db=db)
        self.assertGreater(int(deleted), 0, "no page was taken out, so nothing was compared")
        self.assertNotIn("an index needs a key", self.cluster.log())
        self.assertTrue(calls.read_text())


class AutovacuumNotPreloaded(Autovacuum):
    preload = False


class Apply(Scenario):
    """An apply worker writes to an index whose values have to be opened for that, with keys from a command."""

    conf = {"wal_level": "'logical'"}

    def test_it_fetches_the_key_first(self):
        table = "CREATE TABLE u (id int PRIMARY KEY, email encrypted_text, n int); CREATE INDEX ON u (n);"
        index = "CREATE UNIQUE INDEX u_email ON u (email encrypted_text_unique_ops);"
        db = self.database("applied")
        self.cluster.psql(table + index + "CREATE PUBLICATION p FOR TABLE u, prism_crypt.keyset, prism_crypt.data_key, prism_crypt.index_key", db=db)
        other = self.new_cluster("apply-subscriber", key="main")
        other.create_db(db)
        other.psql("CREATE EXTENSION prism_crypt;" + table + index, db=db)
        calls = other.write_file("calls", "")
        other.configure({"prism_crypt.master_key_file": "''", "prism_crypt.master_key_command": f"'echo >> {calls}; sleep 0.5; cat {other.key_file}'"})
        other.reload()
        other.psql(f"CREATE SUBSCRIPTION s CONNECTION 'host={self.cluster.socket} port={self.cluster.port} user=postgres dbname={db}' PUBLICATION p", db=db)
        self.addCleanup(other.psql, "DROP SUBSCRIPTION s", db=db)
        self.cluster.psql("INSERT INTO u SELECT n, 'user' || n, 0 FROM generate_series(1, 300) AS n", db=db)
        other.wait_for("SELECT count(*) FROM u", "300", timeout=120, db=db)
        # Values of a key that the worker has not seen yet; rows whose value stays; a restart of the worker.
        self.cluster.psql("SELECT prism_crypt.rotate_key(); INSERT INTO u SELECT n, 'user' || n, 0 FROM generate_series(301, 400) AS n", db=db)
        other.restart()
        self.cluster.psql("UPDATE u SET n = n + 1; DELETE FROM u WHERE id > 350", db=db)
        other.wait_for("SELECT count(*) FROM u WHERE n = 1", "350", timeout=120, db=db)
        self.assertTrue(calls.read_text())
        self.assertNotIn("an index needs a key", other.log())


if __name__ == "__main__":
    unittest.main()
