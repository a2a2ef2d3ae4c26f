"""Keys that reach a subscriber, with the data or by hand: rows are found in every way, or the subscription stops."""

import unittest

from harness import paths
from harness.scenario import Scenario, set_key, wait_until

# Every replica identity, and indexes on encrypted values in each table.
COLUMNS = "email encrypted_text('searchable') NOT NULL, v encrypted_text, n int"
NOTHING = f"""
    CREATE TABLE by_nothing (id int, {COLUMNS});
    CREATE INDEX by_nothing_hash ON by_nothing USING hash (email);
    ALTER TABLE by_nothing REPLICA IDENTITY NOTHING;
"""
TABLES = f"""
    CREATE TABLE by_key (id int PRIMARY KEY, {COLUMNS});
    CREATE UNIQUE INDEX by_key_email ON by_key (email encrypted_text_unique_ops);
    CREATE TABLE by_index (id int, {COLUMNS});
    CREATE UNIQUE INDEX by_index_email ON by_index (email encrypted_text_unique_ops);
    ALTER TABLE by_index REPLICA IDENTITY USING INDEX by_index_email;
    CREATE TABLE by_all (id int, {COLUMNS});
    CREATE UNIQUE INDEX by_all_email ON by_all (email encrypted_text_unique_ops);
    CREATE INDEX by_all_hash ON by_all USING hash (email);
    ALTER TABLE by_all REPLICA IDENTITY FULL;
    CREATE TABLE by_all_and_key (id int PRIMARY KEY, {COLUMNS});
    CREATE INDEX by_all_and_key_hash ON by_all_and_key USING hash (email);
    ALTER TABLE by_all_and_key REPLICA IDENTITY FULL;
"""
UPDATED = ("by_key", "by_index", "by_all", "by_all_and_key")
OWN = "prism_crypt.keyset, prism_crypt.data_key, prism_crypt.index_key"
FILL = "INSERT INTO {0} SELECT g, 'user' || g, 'secret ' || g, 0 FROM generate_series({1}, {2}) AS g;"
CHANGE = ("UPDATE {0} SET n = n + 1000 WHERE id % 3 = 0; DELETE FROM {0} WHERE id % 7 = {1};"
          "UPDATE {0} SET email = 'moved ' || email::text WHERE id % 11 = {1};")
HALF = "UPDATE {0} SET v = reencrypt_field(v), email = reencrypt_field(email) WHERE id % 2 = {1};"
ROWS = "SELECT id, decrypt_field(email), decrypt_field(v), n, key_version(email), key_version(v) FROM {0} ORDER BY 1, 2"
# Of the table that only gets new rows, values stay as they came.
INSERTED = "SELECT id, decrypt_field(email), decrypt_field(v) FROM by_nothing ORDER BY 1, 2"
FOUND = "SET enable_seqscan = off; SELECT count(*) FROM {0} AS t WHERE EXISTS (SELECT FROM {0} AS o WHERE o.email = decrypt_field(t.email))"
TODO = "SELECT setting FROM prism_crypt.status() WHERE name = 'invalid_indexes'"
ERRORS = "SELECT apply_error_count + sync_error_count FROM pg_stat_subscription_stats"


class KeysLogical(Scenario):
    options = ""
    conf = {"wal_level": "'logical'", "max_replication_slots": "30", "max_wal_senders": "30"}

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        # So that a subscription that stopped is there again soon.
        cls.other = cls.new_cluster("keys_logical-subscriber", conf={**cls.conf, "wal_retrieve_retry_interval": "'200ms'"})

    def setUp(self):
        self.use_masters(self.cluster, "main")
        # The publisher's master key is rotated in some tests.
        self.use_masters(self.other, "main", "next")
        self.db = self.database(self.id().rpartition(".")[2][:60].lower())
        self.names = UPDATED
        self.query(TABLES + self.each(FILL, 1, 300))

    def use_masters(self, cluster, *names):
        set_key(cluster, *names)
        cluster.reload()

    def query(self, sql):
        return self.cluster.psql(sql, db=self.db)

    def there(self, sql):
        return self.other.psql(sql, db=self.db)

    def each(self, sql, *arguments):
        return "".join(sql.format(name, *arguments) for name in self.names)

    def change(self, number):
        self.query("".join(CHANGE.format(name, number) for name in UPDATED))

    def with_nothing(self):
        """A table whose updates are not published either."""
        self.names = (*UPDATED, "by_nothing")
        self.query(NOTHING + FILL.format("by_nothing", 1, 300) + "CREATE PUBLICATION q FOR TABLE by_nothing WITH (publish = 'insert')")

    def subscribe(self, publication, before=""):
        self.query(f"CREATE PUBLICATION p FOR {publication}")
        self.other.create_db(self.db)
        nothing, publications = (NOTHING, "p, q") if "by_nothing" in self.names else ("", "p")
        self.there(f"CREATE EXTENSION prism_crypt; {TABLES} {nothing}")
        if before:
            self.there(before)
        self.there(
            f"CREATE SUBSCRIPTION s CONNECTION 'host={self.cluster.socket} port={self.cluster.port} dbname={self.db} user=postgres' "
            f"PUBLICATION {publications} WITH (slot_name = '{self.db}'{self.options})")
        self.addCleanup(self.there, "DROP SUBSCRIPTION s")

    def synchronized(self):
        self.other.wait_for("SELECT bool_and(srsubstate = 'r') FROM pg_subscription_rel", db=self.db, timeout=60)

    def dumped_keys(self):
        return self.cluster.run(["pg_dump", "--data-only", *(f"--table=prism_crypt.{t}" for t in (
            "keyset", "data_key", "index_key", "data_key_usage", "data_key_version_seq"))], db=self.db).stdout

    def copy_keys(self):
        self.there(f"BEGIN; TRUNCATE {OWN}, prism_crypt.data_key_usage; {self.dumped_keys()} COMMIT;")

    def caught_up(self):
        lsn = self.query("SELECT pg_current_wal_lsn()")
        self.cluster.wait_for(f"SELECT confirmed_flush_lsn >= '{lsn}' FROM pg_replication_slots WHERE slot_name = '{self.db}'", timeout=60)

    def assert_same(self, what):
        self.caught_up()
        for table in self.names:
            rows = INSERTED if table == "by_nothing" else ROWS.format(table)
            self.assertEqual(self.there(rows) == self.query(rows), True, f"{what}: {table}")
            self.assertEqual(self.there(FOUND.format(table)), self.query(FOUND.format(table)), f"{what}: {table}")

    def assert_nothing_wrong(self, what):
        self.assertEqual((self.there(TODO), self.there(ERRORS)), ("", "0"), what)

    def rotate_everything(self, bring_keys=lambda what: None, before_the_end=lambda: None):
        """Changes before, during and after each kind of rotation; both sides are the same after each."""
        steps = (
            ("rotate_key", "SELECT prism_crypt.rotate_key()"),
            ("half of the values", self.each(HALF, 0)),
            ("rotate_all", "CALL prism_crypt.rotate_all()"),
            ("a new index key", "SELECT prism_crypt._replace_index_key('default', NULL)"),
            ("half of the tags", self.each(HALF, 1) if self.names == UPDATED else "".join(HALF.format(name, 1) for name in UPDATED)),
            ("a key in between", "SELECT prism_crypt.rotate_key()"),
            ("rotate_index_key", "CALL prism_crypt.rotate_index_key()"),
            ("rotate_index_key again", "CALL prism_crypt.rotate_index_key()"),
            ("rotate_master_key", "SELECT prism_crypt.rotate_master_key()"),
            ("rotate_key by the new master key", "SELECT prism_crypt.rotate_key(); CALL prism_crypt.rotate_all()"),
        )
        for at, (what, rotate) in enumerate(steps):
            if what == "rotate_master_key":
                self.use_masters(self.cluster, "next", "main")
            self.query(rotate)
            bring_keys(what)
            self.query(self.each(FILL, 400 + 20 * at, 410 + 20 * at))
            self.change(at % 7)
            self.assert_same(what)
        before_the_end()
        self.query("SELECT prism_crypt.destroy_key(1)")
        bring_keys("destroy_key")
        if "by_nothing" in self.names:
            for side in (self.query, self.there):
                side("DELETE FROM by_nothing WHERE id <= 300")
        self.query(self.each(FILL, 900, 950))
        self.change(5)
        self.assert_same("destroy_key")
        self.assertEqual(self.there("SELECT state FROM prism_crypt.data_key WHERE version = 1"), "destroyed")

    def test_keys_are_published(self):
        """Rotations follow by themselves: the worker builds indexes anew."""
        self.with_nothing()
        self.subscribe(f"TABLE {', '.join(UPDATED)}, {OWN}")
        self.synchronized()
        self.assert_same("the first copy")
        self.rotate_everything(lambda what: self.caught_up() or self.assert_nothing_wrong(what))
        self.assert_nothing_wrong("the end")

    def test_keys_are_copied_by_hand(self):
        self.subscribe(f"TABLE {', '.join(UPDATED)}")
        self.synchronized()
        self.copy_keys()
        self.assert_same("the first copy")

        def bring_keys(what):
            self.caught_up()
            self.copy_keys()
            # A session that brings keys builds nothing; it says what to do.
            self.there(self.there(TODO))

        self.rotate_everything(bring_keys)

    def test_indexes_that_cannot_be_built(self):
        """Without the master key no worker can. Then no index is asked, and what can't be found without one stops it all."""
        self.subscribe(f"TABLE {', '.join(UPDATED)}, {OWN}")
        self.synchronized()
        self.use_masters(self.other, None)
        self.query("SELECT prism_crypt._replace_index_key('default', NULL)")
        self.caught_up()
        self.assertEqual(self.there(TODO), "; ".join(f"REINDEX INDEX public.{name}" for name in (
            "by_all_and_key_hash", "by_all_email", "by_all_hash", "by_index_email", "by_key_email")))
        self.assertIn("They could not be rebuilt: no master key is set.", self.other.log())
        for table in ("by_all_and_key", "by_key", "by_all"):
            self.query(f"DELETE FROM {table} WHERE id % 7 = 1")
        self.caught_up()
        self.assertEqual(self.there(ERRORS), "0")
        for table in ("by_all_and_key", "by_key", "by_all"):
            rows = f"SELECT id, email::bytea, v::bytea, n FROM {table} ORDER BY 1"
            self.assertEqual(self.there(rows), self.query(rows), table)
        self.change(1)
        self.query("DELETE FROM by_index WHERE id = 3")
        self.other.wait_for(f"{ERRORS.replace('SELECT', 'SELECT 0 <')}", db=self.db)
        self.use_masters(self.other, "main")
        wait_until(lambda: '"public.by_index" has neither REPLICA IDENTITY index nor PRIMARY KEY' in self.other.log(), "the error")
        self.there(self.there(TODO))
        self.assert_same("after REINDEX")
        self.query("CALL prism_crypt.rotate_index_key()")
        self.change(2)
        self.assert_same("rotate_index_key")

    def test_all_tables(self):
        """Our own tables are published with the others: keys are taken, jobs and the audit log are not."""
        self.query("SELECT prism_crypt.create_keyset('tenant'); CALL prism_crypt.rotate_all()")
        self.subscribe("ALL TABLES")
        self.synchronized()
        self.assert_same("the first copy")
        # Jobs of its own, with the numbers of the publisher's.
        self.there("CREATE TABLE own (v encrypted_text); INSERT INTO own VALUES ('mine'); CALL prism_crypt.rotate_all()")
        jobs = self.there("SELECT id, relation, state FROM prism_crypt.job ORDER BY 1")
        self.assertEqual(len(jobs.splitlines()), 5)
        # Its own values are its own affair, before a key is destroyed.
        self.rotate_everything(before_the_end=lambda: self.there("CALL rotate_batch('own')"))
        jobs = self.there("SELECT id, relation, state FROM prism_crypt.job ORDER BY 1")
        self.assertEqual(len(jobs.splitlines()), 6)
        self.query("DELETE FROM prism_crypt.job; DELETE FROM prism_crypt.audit_log")
        self.there("SELECT prism_crypt.set_rotation_interval('default', '1 day')")
        self.assert_same("jobs deleted")
        self.assertEqual(self.there("SELECT id, relation, state FROM prism_crypt.job ORDER BY 1"), jobs)
        self.assertEqual(self.there("SELECT string_agg(event, ' ') FROM prism_crypt.audit_log"), "set_rotation_interval")
        self.there("UPDATE own SET v = reencrypt_field(v); CALL prism_crypt.rotate_all()")
        self.assert_nothing_wrong("the end")
        with self.subTest("their own rows are never emptied in silence"):
            self.query("TRUNCATE prism_crypt.audit_log")
            self.other.wait_for(f"{ERRORS.replace('SELECT', 'SELECT 0 <')}", db=self.db)
            self.assertIn("replication of TRUNCATE would empty this server's own table prism_crypt.audit_log", self.other.log())
            self.assertEqual(self.there("SELECT string_agg(event, ' ') FROM prism_crypt.audit_log"), "set_rotation_interval")

    def test_all_tables_with_keys_there(self):
        """Keys that were copied before are the same keys, also if much has happened to them since."""
        keys = self.dumped_keys()
        self.query("SELECT prism_crypt.rotate_key(); CALL prism_crypt.rotate_index_key(); SELECT prism_crypt.disable_key(1)")
        self.subscribe("ALL TABLES", keys)
        self.synchronized()
        self.assert_same("the first copy")
        state = "SELECT version, state, wrapped FROM prism_crypt.data_key ORDER BY 1; SELECT generation, state, wrapped FROM prism_crypt.index_key ORDER BY 1"
        self.assertEqual(self.there(state), self.query(state))
        self.query("SELECT prism_crypt.enable_key(1)")
        self.rotate_everything()
        self.assertEqual(self.there(state), self.query(state))
        self.assert_nothing_wrong("the end")

    def test_a_subscriber_takes_over(self):
        """Sequences are not replicated: no version is given twice all the same."""
        self.query("SELECT prism_crypt.create_keyset('tenant')")
        self.subscribe("ALL TABLES")
        self.synchronized()
        self.there("ALTER SUBSCRIPTION s DISABLE")
        self.assertEqual(self.there("SELECT prism_crypt.rotate_key(), prism_crypt.create_keyset('later')"), "3|4")
        self.there("CALL prism_crypt.rotate_all(); CALL prism_crypt.rotate_index_key(); SELECT prism_crypt.destroy_key(1)")
        self.assertEqual(self.there("SELECT id FROM by_index WHERE email = 'user7'"), "7")

    def test_other_keys_are_there(self):
        self.subscribe(f"TABLE {OWN}, by_key", "SELECT prism_crypt.rotate_key()")
        self.other.wait_for(f"{ERRORS.replace('SELECT', 'SELECT 1 <')}", db=self.db)
        self.assertIn("this server has another key of version 1", self.other.log())
        self.there(f"TRUNCATE {OWN}, prism_crypt.data_key_usage")
        self.synchronized()
        self.names = ("by_key",)
        self.assert_same("keys taken")


@unittest.skipIf(paths.PG_MAJOR < 16, "parallel apply workers came with PostgreSQL 16")
class KeysLogicalStreamed(KeysLogical):
    """Transactions that are sent before they commit, and applied by workers beside the first one. 18 does so by default, with large ones."""

    options = ", streaming = parallel"
    conf = {**KeysLogical.conf, "max_worker_processes": "24", "max_logical_replication_workers": "16", "max_parallel_apply_workers_per_subscription": "4"}
    test_all_tables = test_all_tables_with_keys_there = test_a_subscriber_takes_over = test_other_keys_are_there = None
    test_keys_are_copied_by_hand = None

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        # As if every transaction were a large one.
        cls.cluster.configure({"debug_logical_replication_streaming": "'immediate'"})
        cls.cluster.reload()

    @classmethod
    def tearDownClass(cls):
        # Each is named when it ends.
        assert '"logical replication parallel worker"' in cls.other.log(), "no transaction was applied by another worker"
        super().tearDownClass()


if __name__ == "__main__":
    unittest.main()
