"""Functions on keys beside a database's owner who keeps locks, and under another default isolation: they see what others commit."""

import unittest

from harness.scenario import Scenario

LIMIT = "SET statement_timeout = '60s'; "
# The owner of a database may ANALYZE every table of it, in a transaction that he never ends. Those of others can be left out.
HOLD = "SET client_min_messages = error; BEGIN; ANALYZE;"
HELD = """SELECT count(DISTINCT relation) FROM pg_locks JOIN pg_class AS c ON c.oid = relation
          WHERE mode = 'ShareUpdateExclusiveLock' AND c.relname IN ('data_key', 'index_key', 'keyset', 'carried_key')"""
SHOP = """
    CREATE TABLE shop (id int PRIMARY KEY, email encrypted_text('searchable'));
    INSERT INTO shop SELECT g, 'user' || g FROM generate_series(1, 300) AS g;
    CREATE UNIQUE INDEX shop_email ON shop (email encrypted_text_unique_ops)"""
JOIN = "SET enable_seqscan = {0}; SET enable_hashjoin = {0}; SELECT count(*) FROM generate_series(1, 300) AS g JOIN {1} ON email = 'user' || g"
CARRIED = "SELECT count(*) FROM prism_crypt.carried_key"
KEYS = "SELECT string_agg(concat_ws(' ', generation, state, CASE WHEN retagged_at IS NULL THEN 'not retagged' END), ', ' ORDER BY generation) FROM prism_crypt.index_key_status WHERE keyset = 'default'"

BY_FORCE = "SET lock_timeout = '1s'; CALL prism_crypt.rotate_index_key(force => true)"


class KeyLocks(Scenario):
    conf = {"deadlock_timeout": "'500ms'"}

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.cluster.psql("CREATE ROLE landlord LOGIN")

    def setUp(self):
        self.db = self.database(self.id().rpartition(".")[2][:60].lower())
        self.query(f"ALTER DATABASE {self.db} OWNER TO landlord")

    def query(self, sql, db=None):
        return self.cluster.psql(LIMIT + sql, db=db or self.db)

    def told(self, sql, db=None):
        """Runs statements that must succeed; what they said."""
        return self.cluster.run_psql(LIMIT + sql, db=db or self.db, verbose=True).stderr

    def held(self, db):
        owner = self.session(db, user="landlord")
        owner.run(HOLD)
        self.assertEqual(self.query(HELD, db), "4")
        return owner

    def assert_answers(self, table="shop", rows="300"):
        for setting in ("on", "off"):
            self.assertEqual(self.query(JOIN.format(setting, table)), rows, (table, setting))

    def test_the_owner_of_the_database_keeps_locks(self):
        self.query(SHOP + "; SELECT prism_crypt.create_keyset('tenant')")
        owner = self.held(self.db)
        for call, version in (("rotate_key()", "3"), ("rotate_master_key()", "3"), ("create_keyset('more')", "4"), ("rotate_master_key('more')", "1")):
            with self.subTest(call):
                self.assertEqual(self.query(f"SELECT prism_crypt.{call}"), version)
        self.query(BY_FORCE)
        self.assertEqual(self.query(KEYS), "1 destroyed, 2 active")
        self.query("SELECT prism_crypt.disable_key(1); SELECT prism_crypt.enable_key(1); SELECT prism_crypt.destroy_key(1, 'test', true); "
                   "SELECT prism_crypt.destroy_keyset('tenant', 'test', true)")
        self.assertEqual(self.query("SELECT version, octet_length(wrapped) FROM prism_crypt.data_key WHERE state = 'destroyed' ORDER BY 1"), "1|0\n2|0")
        self.assertEqual(owner.run("SELECT 1;"), "1")
        self.assert_answers()

    def test_he_keeps_locks_in_a_restored_database(self):
        self.query(SHOP + "; SELECT prism_crypt.rotate_key(); SELECT prism_crypt.create_keyset('tenant')")
        path = self.cluster.home / "shop.dump"
        self.cluster.run(["pg_dump", "-Fc", "-f", path], db=self.db)
        for number, call in enumerate((
                "SELECT prism_crypt.rotate_key()", "SELECT prism_crypt.rotate_master_key()", "SELECT prism_crypt.destroy_key(1, 'test', true)",
                "SELECT prism_crypt.destroy_keyset('tenant', 'test', true)", BY_FORCE)):
            with self.subTest(call):
                db = self.cluster.create_db(f"restored_{number}")
                self.cluster.run(["pg_restore", "--exit-on-error", "-d", db, path])
                self.query(f"ALTER DATABASE {db} OWNER TO landlord", db)
                self.assertEqual(self.query(CARRIED, db), "5")
                owner = self.held(db)
                self.assertIn("WARNING:  01000: prism_crypt.carried_key is in use, and could not be emptied at once", self.told(call, db))
                self.assertEqual(self.query(CARRIED, db), "0")
                owner.run("COMMIT;")
                # The dead rows go with the next change.
                self.assertNotIn("carried_key", self.told("SELECT prism_crypt.rotate_key()", db))
                self.assertEqual(self.query("SELECT pg_relation_size('prism_crypt.carried_key')", db), "0")

    def test_functions_on_keys_wait_for_each_other(self):
        """As they did when the locks were on tables."""
        first, second = (self.session(self.db) for _ in range(2))
        first.run("BEGIN; SELECT prism_crypt.rotate_key();")
        second.start("SELECT prism_crypt.rotate_master_key();")
        self.assertTrue(second.waiting(1))
        self.assertEqual(
            self.query("SELECT DISTINCT locktype, classid::regclass, mode FROM pg_locks WHERE NOT granted"), "object|pg_extension|ExclusiveLock")
        first.run("COMMIT;")
        self.assertEqual(second.wait(), "2")
        first.run("BEGIN; SELECT prism_crypt.rotate_master_key();")
        error = self.cluster.error("SET lock_timeout = '300ms'; SELECT prism_crypt.rotate_key()", db=self.db)
        self.assertEqual(error.sqlstate, "55P03")

    def test_another_default_isolation(self):
        """An index that is committed while a new key waits for its table is built anew as well."""
        for number, level in enumerate(("repeatable read", "serializable")):
            with self.subTest(level):
                self.query(f"DROP TABLE IF EXISTS shop; {SHOP}; DROP TABLE IF EXISTS late; ALTER DATABASE {self.db} SET default_transaction_isolation = '{level}'")
                other, rotating = (self.session(self.db) for _ in range(2))
                other.run("BEGIN; CREATE TABLE late AS SELECT * FROM shop; LOCK TABLE shop IN ACCESS EXCLUSIVE MODE; "
                          "CREATE UNIQUE INDEX late_email ON late (email encrypted_text_unique_ops);")
                other.run("COMMIT;")
                other.run("BEGIN; LOCK TABLE shop IN ACCESS EXCLUSIVE MODE; CREATE UNIQUE INDEX shop_late ON shop (email encrypted_text_unique_ops); "
                          "CREATE TABLE later (email encrypted_text('searchable'));")
                rotating.start(LIMIT + "CALL prism_crypt.rotate_index_key(reason => 'test');")
                self.assertTrue(rotating.waiting(2))
                other.run("DROP TABLE later; COMMIT;")
                rotating.wait()
                self.assert_answers()
                self.assert_answers("late")
                self.assertEqual(self.query("SHOW default_transaction_isolation"), level)
                for index in ("shop_email", "shop_late"):
                    error = self.cluster.error("INSERT INTO shop VALUES (1000, 'user77')", db=self.db)
                    self.assertEqual(error.sqlstate, "23505")
                    self.query(f"DROP INDEX {index}")
                self.assertIn("active", self.query(KEYS))
                self.assertNotIn("active not retagged", self.query(KEYS))

    def test_other_levels_are_refused(self):
        """Where functions see catalogs of before they waited."""
        self.query("SELECT prism_crypt.create_keyset('tenant'); SELECT prism_crypt.rotate_key()")
        for level in ("REPEATABLE READ", "SERIALIZABLE"):
            for call in ("_replace_index_key('default', 'test')", "_replace_index_key('default', 'test', true)", "destroy_key(1, 'test')",
                         "destroy_key(1, 'test', true)", "destroy_keyset('tenant', 'test', true)"):
                with self.subTest(call, level=level):
                    error = self.cluster.error(f"BEGIN ISOLATION LEVEL {level}; SELECT prism_crypt.{call}", db=self.db)
                    self.assertEqual(error.sqlstate, "25001")
                    self.assertRegex(error.message, "^(replacing an index key|destroying a key(set)?) needs isolation level READ COMMITTED$")
        self.query("BEGIN ISOLATION LEVEL READ UNCOMMITTED; SELECT prism_crypt.destroy_key(1, 'test', true); COMMIT")

    def test_a_table_that_can_not_be_rotated(self):
        """It keeps no second key from being made. Values may have tags of any key before: answers are right."""
        self.query(SHOP + """;
            CREATE TABLE stall AS SELECT id, email FROM shop;
            CREATE UNIQUE INDEX stall_email ON stall (email encrypted_text_unique_ops);
            CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE 'no'; END $$;
            CREATE TRIGGER refuse BEFORE UPDATE ON stall FOR EACH ROW EXECUTE FUNCTION refuse();
            CREATE MATERIALIZED VIEW seen AS SELECT id, email FROM shop;
            CREATE UNIQUE INDEX seen_email ON seen (email encrypted_text_unique_ops)""")
        rotate = "CALL prism_crypt.rotate_index_key(reason => 'test'{})"
        error = self.cluster.error(LIMIT + rotate.format(""), db=self.db)
        self.assertEqual((error.sqlstate, error.message, error.detail), ("55000", "tables that could not be rotated: 1 of 2", "stall"))
        self.assertEqual(self.query(KEYS), "1 destroyed, 2 active not retagged")
        # The next one goes on, and says how another is made.
        done = self.cluster.run_psql(LIMIT + rotate.format(""), db=self.db, check=False, verbose=True).stderr
        self.assertIn("force => true makes another index key now.", done)
        self.assertIn("values that still have old search tags: public.seen: 300, public.stall: 300", done)
        self.assertEqual(self.query(KEYS), "1 destroyed, 2 active not retagged")
        for generation in (3, 4):
            error = self.cluster.error(LIMIT + rotate.format(", force => true"), db=self.db)
            self.assertEqual(error.message, "tables that could not be rotated: 1 of 2")
            self.assertEqual(self.query(KEYS).split(", ")[-1], f"{generation} active not retagged")
            self.query(f"INSERT INTO stall VALUES ({1000 + generation}, 'new{generation}')")
            for table in ("shop", "stall", "seen"):
                self.assert_answers(table)
            for value in ("user77", f"new{generation}"):
                self.assertEqual(self.cluster.error(f"INSERT INTO stall VALUES (1, '{value}')", db=self.db).sqlstate, "23505")
        self.query("DROP TRIGGER refuse ON stall; REFRESH MATERIALIZED VIEW seen;" + rotate.format(""))
        self.assertEqual(self.query(KEYS), "1 destroyed, 2 destroyed not retagged, 3 destroyed not retagged, 4 active")
        for table in ("shop", "stall", "seen"):
            self.assert_answers(table)

    def test_a_table_that_failed_without_old_tags(self):
        """The replacement is at its end all the same."""
        self.query(SHOP + """;
            CREATE TABLE stall (v encrypted_text);
            INSERT INTO stall VALUES ('x');
            CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE 'no'; END $$;
            CREATE TRIGGER refuse BEFORE UPDATE ON stall FOR EACH ROW EXECUTE FUNCTION refuse();
            SELECT prism_crypt.rotate_key()""")
        error = self.cluster.error(LIMIT + "CALL prism_crypt.rotate_index_key()", db=self.db)
        self.assertEqual((error.message, error.detail), ("tables that could not be rotated: 1 of 2", "stall"))
        self.assertEqual(self.query(KEYS), "1 destroyed, 2 active")

    def test_backslashes_in_strings(self):
        """Nothing of a destroyed key is left, whatever the database makes of a backslash."""
        self.query(f"ALTER DATABASE {self.db} SET standard_conforming_strings = off")
        self.query("SELECT prism_crypt.rotate_key(); SELECT prism_crypt.create_keyset('tenant')")
        self.query("SELECT prism_crypt.destroy_key(1, 'test', true); SELECT prism_crypt.destroy_keyset('tenant', 'test', true); "
                   "CALL prism_crypt.rotate_index_key(reason => 'test')")
        self.assertEqual(self.query("SELECT version, octet_length(wrapped) FROM prism_crypt.data_key WHERE state = 'destroyed' ORDER BY 1"), "1|0\n3|0")
        self.assertEqual(self.query("SELECT keyset, octet_length(wrapped) FROM prism_crypt.index_key WHERE state = 'destroyed' ORDER BY 1"), "default|0\ntenant|0")


if __name__ == "__main__":
    unittest.main()
