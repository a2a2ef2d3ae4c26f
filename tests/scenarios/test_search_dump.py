"""Dumps of searchable columns: a restore needs no master key, and every index, constraint and partition is right after it."""

import unittest

import searchable
from harness import paths
from harness.scenario import Scenario, set_key
from searchable import FILL, LOOKUPS, PARTITIONED, PARTITIONED_QUESTIONS, QUESTIONS, SCHEMA, VIEW, VIEW_QUESTIONS

ALL = {**QUESTIONS, **PARTITIONED_QUESTIONS, **VIEW_QUESTIONS}
INDEXES = "SELECT bool_and(indisvalid AND indisready), count(*) FROM pg_index AS i JOIN pg_class AS c ON c.oid = i.indrelid WHERE c.relnamespace = 'public'::regnamespace"


class SearchDump(Scenario):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.db = cls.database("source")
        cls.cluster.psql(SCHEMA + FILL + PARTITIONED + VIEW, db=cls.db)
        cls.keyless = cls.new_cluster("search_dump-keyless", key=None, conf={"max_parallel_maintenance_workers": "0"})
        home = cls.cluster.home
        cls.paths = {}
        for name, options in {"plain": [], "custom": ["-Fc"], "directory": ["-Fd", "-j2"], "inserts": ["--rows-per-insert=20"]}.items():
            cls.paths[name] = home / name
            cls.cluster.run(["pg_dump", "-f", home / name, *options], db=cls.db)

    def tearDown(self):
        if self.keyless.running():
            set_key(self.keyless, None)
            self.keyless.reload()

    def restore(self, db, dump, *options, cluster=None):
        cluster = cluster or self.keyless
        cluster.create_db(db)
        path = self.paths[dump]
        if path.is_file() and path.read_bytes()[:2] == b"--":
            cluster.run(["psql", "-Xq", "-v", "ON_ERROR_STOP=1", "-o", "/dev/null", "-f", path], db=db)
        else:
            cluster.run(["pg_restore", "--exit-on-error", "-d", db, *options, path], db=db)
        return db

    def assert_right(self, db, cluster=None):
        """Without a key: answers, constraints, indexes; then, with it, look-ups by constant."""
        cluster = cluster or self.keyless
        self.assertEqual(cluster.error("SELECT email = 'x' FROM users", db=db).message, "no master key is set")
        self.assertEqual(searchable.wrong_answers(cluster, db, ALL), [])
        self.assertEqual(searchable.wrong_violations(cluster, db), [])
        self.assertEqual(cluster.psql(INDEXES, db=db), self.cluster.psql(INDEXES, db=self.db))
        self.assertEqual(cluster.psql("CREATE EXTENSION amcheck; SELECT count(bt_index_check(i::regclass, true)) FROM unnest(ARRAY['users_unique', 'busy_unique']) AS i", db=db), "2")
        set_key(cluster, "main")
        cluster.reload()
        self.assertEqual(searchable.wrong_lookups(cluster, db), [])
        self.assertEqual(
            cluster.psql("INSERT INTO users (id, email, plain) VALUES (900, 'user90@example.org', 'x') ON CONFLICT (email) DO UPDATE SET plain = 'updated'; "
                         "SELECT id, plain FROM users WHERE email = 'user90@example.org'", db=db), "90|updated")

    def test_the_source_is_right(self):
        """The control: the questions have answers, and the key is what look-ups need."""
        self.assertEqual(searchable.wrong_answers(self.cluster, self.db, ALL), [])
        self.assertEqual(searchable.wrong_lookups(self.cluster, self.db), [])
        self.assertEqual(searchable.wrong_violations(self.cluster, self.db), [])
        for name, (sql, _, plain) in ALL.items():
            self.assertNotIn(self.cluster.psql(sql.format(plain), db=self.db), ("", "0", "0|"), name)
        for name, (sql, _) in LOOKUPS.items():
            if name in ("literal", "text", "log-ins"):
                plan = self.cluster.psql(f"SET enable_seqscan = off; EXPLAIN (COSTS OFF) {sql}", db=self.db)
                self.assertRegex(plan, "Index Scan using (users|logins)_(hash|unique)|Bitmap Index Scan on logins_hash", name)

    def test_restores(self):
        for dump in self.paths:
            with self.subTest(dump):
                self.assert_right(self.restore(f"from {dump}", dump))
                self.tearDown()

    def test_parallel_restore(self):
        for attempt in range(2):
            with self.subTest(attempt):
                self.assert_right(self.restore(f"parallel {attempt}", "directory" if attempt else "custom", "-j4"))
                self.tearDown()

    def test_by_sections(self):
        db = self.keyless.create_db("sections")
        for section in ("pre-data", "data", "post-data"):
            self.keyless.run(["pg_restore", "--exit-on-error", "-d", db, f"--section={section}", self.paths["custom"]], db=db)
        self.assert_right(db)

    def test_the_data_before_the_keys(self):
        """Tags tell enough where the rows of keys come last, or never."""
        db = self.keyless.create_db("data first")
        toc = self.keyless.run(["pg_restore", "-l", self.paths["custom"]]).stdout.splitlines()
        is_key = [line for line in toc if " TABLE DATA prism_crypt " in line or " SEQUENCE SET prism_crypt " in line]
        self.assertGreater(len(is_key), 3)
        for name, lines in (("without", [line for line in toc if line not in is_key]), ("keys", is_key)):
            listing = self.keyless.write_file(f"list {name}", "\n".join(lines) + "\n", mode=0o644)
            self.keyless.run(["pg_restore", "--exit-on-error", "-d", db, "-L", listing, self.paths["custom"]], db=db)
            if name == "without":
                self.assertEqual(self.keyless.psql("SELECT count(*) FROM prism_crypt.index_key", db=db), "0")
                self.assertEqual(searchable.wrong_answers(self.keyless, db, ALL), [])
        self.assert_right(db)

    def test_refreshed_without_a_key(self):
        db = self.restore("refreshed", "plain")
        self.keyless.psql("DELETE FROM logins WHERE plain = 'user10@example.org'; UPDATE logins SET email = NULL, plain = NULL WHERE id = 5; "
                          "REFRESH MATERIALIZED VIEW CONCURRENTLY busy", db=db)
        self.assertEqual(searchable.wrong_answers(self.keyless, db, VIEW_QUESTIONS), [])
        self.keyless.psql("REFRESH MATERIALIZED VIEW busy; REINDEX DATABASE CONCURRENTLY refreshed; VACUUM FULL; CLUSTER users USING users_pkey", db=db)
        self.assert_right(db)

    def test_an_upgrade_in_place(self):
        """pg_upgrade to the same version, both sides without a key."""
        old = self.new_cluster("search_dump-old", key=None)
        db = self.restore("upgraded", "plain", cluster=old)
        # Columns that are gone keep their numbers.
        old.psql("ALTER TABLE users ADD gone int, ADD later encrypted_text('searchable'); ALTER TABLE users DROP gone; CREATE ROLE someone", db=db)
        old.stop()
        new = self.new_cluster("search_dump-new", key=None, start=False)
        options = ["-U", "postgres", "-s", new.socket, "-b", paths.bindir(), "-B", paths.bindir()]
        new.server_run(["sh", "-c", f'cd {new.home} && exec "$@"', "sh", paths.bindir() / "pg_upgrade", "-d", old.data, "-D", new.data, *options])
        new.start()
        self.assertEqual(new.psql("SELECT count(*) FROM users WHERE id = 77", db=db), "1")
        self.assertNotIn("ERROR", new.log())
        self.assert_right(db, new)

    def test_a_binary_upgrade_dump_asks_for_no_key(self):
        old = self.new_cluster("search_dump-binary", key=None)
        db = self.restore("binary", "plain", cluster=old)
        schema = old.run(["pg_dump", "--binary-upgrade", "--schema-only"], db=db).stdout
        self.assertIn("ADD CONSTRAINT users_unique UNIQUE (email)", schema)
        self.assertNotIn("no master key", old.log())


if __name__ == "__main__":
    unittest.main()
