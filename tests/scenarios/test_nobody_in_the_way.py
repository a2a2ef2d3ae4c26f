"""Owners of other tables can't keep keys from being destroyed or replaced, and nothing waits for them without a bound."""

import re
import unittest

from harness.scenario import Scenario

# Hangs end here, and fail.
LIMIT = "SET statement_timeout = '30s';"
SHOP = """
    CREATE TABLE shop (id int PRIMARY KEY, email encrypted_text('searchable'), note encrypted_text);
    INSERT INTO shop SELECT g, 'user' || g, 'note' || g FROM generate_series(1, 200) AS g;
    CREATE UNIQUE INDEX shop_email ON shop (email encrypted_text_unique_ops);
    CREATE UNIQUE INDEX shop_note ON shop (note encrypted_text_unique_ops);
    CREATE INDEX shop_hash ON shop USING hash (note)"""
# A table, and functions, of a role that may do nothing with keys.
STALL = """
    CREATE TABLE stall (n int);
    INSERT INTO stall SELECT generate_series(1, 20);
    CREATE TABLE seen (who text);
    GRANT ALL ON seen TO PUBLIC;
    CREATE FUNCTION harmless(int) RETURNS encrypted_text LANGUAGE sql IMMUTABLE AS $$ SELECT NULL::public.encrypted_text $$"""
INVALID = """SELECT coalesce(string_agg(indexrelid::regclass::text, ' ' ORDER BY indexrelid::regclass::text), '')
             FROM pg_index WHERE NOT (indisvalid AND indislive)"""
# Look-ups by index, and by reading every row.
ANSWERS = """
    SELECT count(*), sum(s.id) FROM generate_series(1, 200) AS g JOIN shop AS s ON s.email = 'user' || g;
    SELECT count(*), sum(s.id) FROM generate_series(1, 200) AS g JOIN shop AS s ON s.note = 'note' || g;
    SELECT id FROM shop WHERE email = 'user77'; SELECT id FROM shop WHERE note = 'note78';"""
RIGHT = "200|20100\n200|20100\n77\n78"


class NobodyInTheWay(Scenario):
    conf = {"deadlock_timeout": "'500ms'", "max_prepared_transactions": "5"}

    def setUp(self):
        self.db = self.database(self.id().rpartition(".")[2][:60].lower())
        self.query("SELECT prism_crypt.create_keyset('tenant')")
        self.query(SHOP)
        self.query("DO $$ BEGIN CREATE ROLE mallory LOGIN; EXCEPTION WHEN duplicate_object THEN END $$; GRANT CREATE ON SCHEMA public TO mallory")
        self.query("SELECT prism_crypt.grant_access('mallory', 'search')")
        self.mallory = self.session(self.db, user="mallory")
        self.mallory.run(STALL + ";")

    def query(self, sql):
        return self.cluster.psql(sql, db=self.db)

    def others(self, sql, user="mallory"):
        """A session that stays open after these statements."""
        session = self.session(self.db, user=user)
        session.run(sql)
        return session

    def warned(self, sql):
        """Runs a statement in time; what it warned of. What can't be rotated for others is told in the end."""
        done = self.cluster.run_psql(LIMIT + sql, db=self.db, check=False, verbose=True)
        for error in re.findall(r"ERROR:  (.*)", done.stderr):
            self.assertRegex(error, "^55000: tables that could not be rotated: ", done.stderr)
        return done.stderr

    def assert_answers(self):
        for setting in ("on", "off"):
            with self.subTest("answers", seqscan=setting):
                self.assertEqual(self.query(f"SET enable_seqscan = {setting}; SET enable_hashjoin = {setting}; {ANSWERS}"), RIGHT)

    def all_calls(self, busy=(), broken=(), over=None):
        """
        busy: indexes that can't be built anew, because of an open transaction or otherwise; broken: likewise for destroyed keys.
        over: ends the obstacle.
        """
        for sql in ("SELECT count(*) FROM prism_crypt.census()", "SELECT count(*) FROM prism_crypt.census('shop')",
                    "SELECT count(*) FROM prism_crypt.status()", "SELECT count(*) FROM prism_crypt.rotation_due()"):
            with self.subTest(sql):
                self.warned(sql)
        with self.subTest("rotate_index_key"):
            said = self.warned("SET lock_timeout = '1s'; CALL prism_crypt.rotate_index_key(reason => 'test', force => true)")
            self.assertEqual(self.query("SELECT max(generation) FROM prism_crypt.index_key_status WHERE keyset = 'default' AND state = 'active'"), "2")
            self.assert_told(said, busy)
            self.assert_answers()
        self.query("SELECT prism_crypt.rotate_key('tenant'); SELECT prism_crypt.rotate_key()")
        with self.subTest("destroy_key"):
            self.warned("SET lock_timeout = '1s'; SELECT prism_crypt.destroy_key(2, 'test', true)")
            self.assertEqual(self.query("SELECT state, octet_length(wrapped) FROM prism_crypt.data_key WHERE version = 2"), "destroyed|0")
            self.assert_answers()
        with self.subTest("destroy_keyset"):
            self.warned("SET lock_timeout = '1s'; SELECT prism_crypt.destroy_keyset('tenant', 'test', true)")
            self.assertEqual(self.query("SELECT count(*) FROM prism_crypt.key_status WHERE keyset = 'tenant' AND state <> 'destroyed'"), "0")
            self.assert_answers()
        invalid = self.query(INVALID).split()
        self.assertEqual(set(busy) <= set(invalid), True, f"{busy}, {invalid}")
        self.assertFalse([name for name in invalid if "shop" in name and name not in busy])
        if over:
            over()
        with self.subTest("REINDEX"):
            todo = self.query("SELECT setting FROM prism_crypt.status() WHERE name = 'invalid_indexes'")
            for statement in filter(None, todo.split("; ")):
                self.query(statement)
            self.assertEqual(self.query(INVALID), "")
            self.assert_answers()
        with self.subTest("not in a hurry"):
            self.query("SET statement_timeout = '30s'; CALL prism_crypt.rotate_index_key()")
            self.assertEqual(self.query(INVALID), "")
            self.assert_answers()

    def assert_told(self, said, indexes):
        for index in indexes:
            self.assertRegex(said, rf"WARNING:.*indexes on encrypted values are invalid now: .*{re.escape(index)}")

    def test_nobody(self):
        self.all_calls()

    def test_functions_that_raise_errors_or_sleep(self):
        """In expressions and predicates. Only a rotation of their own table calls them."""
        self.mallory.run("""
            CREATE INDEX stall_raises ON stall USING hash (harmless(n));
            CREATE TABLE mixed (v encrypted_text('searchable'), n int);
            INSERT INTO mixed SELECT 'user' || g, g FROM generate_series(1, 20) AS g;
            CREATE FUNCTION fine(int) RETURNS boolean LANGUAGE plpgsql IMMUTABLE AS $$ BEGIN RETURN true; END $$;
            CREATE UNIQUE INDEX mixed_v ON mixed (v encrypted_text_unique_ops);
            CREATE INDEX mixed_part ON mixed USING hash (v) WHERE fine(n);
            CREATE OR REPLACE FUNCTION harmless(int) RETURNS encrypted_text LANGUAGE plpgsql IMMUTABLE AS $$
              BEGIN INSERT INTO public.seen VALUES (current_user); PERFORM pg_catalog.pg_sleep(3600); RETURN NULL; END $$;
            CREATE OR REPLACE FUNCTION fine(int) RETURNS boolean LANGUAGE plpgsql IMMUTABLE AS $$
              BEGIN RAISE 'never'; END $$;""")
        self.all_calls(busy=["stall_raises", "mixed_part"], over=lambda: self.mallory.run("""
            CREATE OR REPLACE FUNCTION harmless(int) RETURNS encrypted_text LANGUAGE sql IMMUTABLE AS $$ SELECT NULL::public.encrypted_text $$;
            CREATE OR REPLACE FUNCTION fine(int) RETURNS boolean LANGUAGE plpgsql IMMUTABLE AS $$ BEGIN RETURN true; END $$;
            DROP INDEX stall_raises, mixed_part;"""))
        self.assertEqual(self.query("SELECT count(*) FROM seen"), "0")

    def test_functions_of_constants(self):
        """PostgreSQL computes them when it looks for workers to build another index of the table."""
        self.mallory.run("""
            CREATE FUNCTION fine(int) RETURNS int LANGUAGE plpgsql IMMUTABLE AS $$ BEGIN RETURN 1; END $$;
            CREATE TABLE mixed (v encrypted_text('searchable'), n int);
            INSERT INTO mixed SELECT 'user' || g, g FROM generate_series(1, 20) AS g;
            CREATE UNIQUE INDEX mixed_v ON mixed (v encrypted_text_unique_ops);
            CREATE INDEX mixed_constant ON mixed ((n + fine(1)));
            CREATE STATISTICS mixed_statistics ON (n + fine(2)), n FROM mixed;
            CREATE OR REPLACE FUNCTION fine(int) RETURNS int LANGUAGE plpgsql IMMUTABLE AS $$ BEGIN RAISE 'called'; END $$;""")
        self.query("ALTER SYSTEM SET min_parallel_table_scan_size = 0; SELECT pg_reload_conf()")
        self.addCleanup(self.query, "ALTER SYSTEM RESET ALL; SELECT pg_reload_conf()")
        self.query(LIMIT + "SELECT prism_crypt._replace_index_key('default', 'test')")
        self.assertEqual(self.query(INVALID), "")
        self.query("CREATE OR REPLACE FUNCTION fine(int) RETURNS int LANGUAGE plpgsql IMMUTABLE AS $$ BEGIN RETURN 1; END $$")
        self.assertEqual(self.query("SET enable_seqscan = off; SELECT n FROM mixed WHERE v = 'user7'"), "7")

    def test_transactions_that_go_on(self):
        """What was looked up by the old key is not followed by what is looked up by the new one."""
        look_up = "SELECT id FROM shop WHERE note = 'note7';"
        session, cursor, reader = (self.others("SELECT id FROM shop WHERE note = 'note5'; SET enable_seqscan = off;", "postgres") for _ in range(3))
        session.run("BEGIN;" + look_up)
        cursor.run("BEGIN; DECLARE c CURSOR FOR SELECT id FROM generate_series(1, 200) AS g JOIN shop ON note = 'note' || g; FETCH c;")
        reader.run("BEGIN; SELECT count(*) FROM shop;")
        self.warned("SET lock_timeout = '1s'; CALL prism_crypt.rotate_index_key(reason => 'test', force => true)")
        for other, statement in ((session, look_up), (cursor, "FETCH ALL c;"), (reader, look_up)):
            error = other.error(statement)
            self.assertEqual((error.sqlstate, error.message), ("40001", "an index key was replaced while the transaction was running"))
            other.run("ROLLBACK;")
            self.assertEqual(other.run(look_up), "7")
        self.assert_answers()

    def test_indexes_that_are_not_committed(self):
        """Nobody else sees them, so they can't be built anew: their transaction can't commit."""
        build = "CREATE TABLE late (id int, v encrypted_text); INSERT INTO late SELECT g, 'note' || g FROM generate_series(1, 50) AS g; CREATE INDEX ON late USING hash (v);"
        late, unconcerned = self.others("SET client_min_messages = error; BEGIN;" + build, "postgres"), self.others("BEGIN; CREATE TABLE plain (n int);")
        self.query("SET statement_timeout = '30s'; CALL prism_crypt.rotate_index_key()")
        error = late.error("COMMIT;")
        self.assertEqual((error.sqlstate, error.message), ("40001", "an index key was replaced while the transaction was running"))
        unconcerned.run("COMMIT;")
        late.run("BEGIN;" + build + "COMMIT;")
        self.assertEqual(late.run("SET enable_seqscan = off; SELECT id FROM late WHERE v = 'note7';"), "7")
        # Its own changes are no matter, nor is a change that was there when it began.
        late.run("BEGIN; CREATE TABLE later (v encrypted_text); SELECT prism_crypt._replace_index_key('default', 'test') > 0; COMMIT;")

    def test_indexes_of_transactions_that_change_keys(self):
        """Other keys that a transaction changes don't exempt its indexes; what it does with index keys itself is no matter."""
        self.query("SELECT prism_crypt.rotate_key('tenant')")
        keyset = iter(range(100))
        build = """CREATE TABLE late (v encrypted_text('searchable')); CREATE UNIQUE INDEX late_v ON late (v encrypted_text_unique_ops);
                   INSERT INTO late SELECT 'note' || g FROM generate_series(1, 50) AS g;"""
        look_up = "SET enable_seqscan = off; SELECT count(*) FROM late WHERE v = 'note7'; RESET enable_seqscan; DROP TABLE late;"
        replace = "SELECT prism_crypt._replace_index_key('default', 'test') > 0;"
        late = self.others("SET client_min_messages = error;", "postgres")
        changes = [lambda: f"SELECT prism_crypt.create_keyset('new_{next(keyset)}') > 0;",
                   lambda: "SELECT prism_crypt.disable_key(2), prism_crypt.enable_key(2);",
                   lambda: "SELECT prism_crypt.rotate_key('tenant') > 0;",
                   lambda: "SELECT prism_crypt.rotate_master_key() > 0;",
                   lambda: f"SAVEPOINT s; {replace} ROLLBACK TO s;"]
        for number, change in enumerate(changes):
            with self.subTest(change()):
                late.run("BEGIN;" + build)
                self.query("SET statement_timeout = '30s'; CALL prism_crypt.rotate_index_key()")
                error = late.error(change() + "COMMIT;")
                self.assertEqual((error.sqlstate, error.message), ("40001", "an index key was replaced while the transaction was running"))
                late.run("ROLLBACK;")
                if number < 4:
                    for own in (change() + build, build + change()):
                        late.run("BEGIN;" + own + "COMMIT;")
                        self.assertEqual(late.run(look_up), "1")
        for own in (replace + build, build + replace, build + "SELECT prism_crypt.destroy_key(2, 'test', true);",
                    f"SAVEPOINT s; {replace} ROLLBACK TO s;" + build, changes[0]() + build + replace + changes[0](),
                    build + f"SAVEPOINT s; {changes[0]()} ROLLBACK TO s;"):
            with self.subTest(own):
                late.run("BEGIN;" + own + "COMMIT;")
                self.assertEqual(late.run(look_up), "1")

    def test_prepared_transactions(self):
        """One with an index on encrypted values would keep index keys from being replaced until somebody ends it."""
        table = "BEGIN; CREATE TABLE late (v encrypted_text); INSERT INTO late VALUES ('note7');"
        self.mallory.run(table + "CREATE INDEX late_hash ON late USING hash (v);")
        error = self.mallory.error("PREPARE TRANSACTION 'with an index';")
        self.assertEqual((error.sqlstate, error.message), ("0A000", "can't prepare a transaction that has built indexes on encrypted values"))
        self.mallory.run("BEGIN; CREATE TABLE plain (n int); INSERT INTO plain VALUES (1); CREATE INDEX ON plain (n); PREPARE TRANSACTION 'plain';")
        self.mallory.run(table + "PREPARE TRANSACTION 'without';")
        self.warned("SET lock_timeout = '1s'; CALL prism_crypt.rotate_index_key(reason => 'test', force => true)")
        self.mallory.run("COMMIT PREPARED 'plain'; COMMIT PREPARED 'without';")
        self.assertEqual(self.mallory.run("SELECT count(*) FROM late WHERE v = 'note7';"), "1")
        self.assert_answers()

    def test_key_changes_do_not_exempt_what_was_looked_up(self):
        """As test_transactions_that_go_on, where the transaction made a key meanwhile."""
        look_up = "SELECT id FROM shop WHERE note = 'note7';"
        session = self.others("SET enable_seqscan = off; SET client_min_messages = error;", "postgres")
        session.run("BEGIN;" + look_up)
        self.warned("SET lock_timeout = '1s'; CALL prism_crypt.rotate_index_key(reason => 'test', force => true)")
        self.assertEqual(session.error("SELECT prism_crypt.create_keyset('mine') > 0;" + look_up).sqlstate, "40001")

    def test_many_indexes_of_one_table(self):
        """Each is looked at once."""
        self.mallory.run("""
            CREATE TABLE many (v encrypted_text, n int);
            DO $$ BEGIN FOR i IN 1..1000 LOOP EXECUTE format('CREATE INDEX ON many USING hash (v) WHERE n = %s', i); END LOOP; END $$;""")
        self.query("SELECT prism_crypt.rotate_key('tenant')")
        self.query(LIMIT + "SELECT prism_crypt.destroy_key(2, 'test', true)")
        self.query(LIMIT + "SELECT prism_crypt._replace_index_key('default', 'test')")
        self.assertEqual(self.query(INVALID), "")
        self.assert_answers()

    def test_an_owner_without_the_right_to_search(self):
        self.mallory.run("CREATE TABLE own (v encrypted_text); INSERT INTO own SELECT 'x' || g FROM generate_series(1, 50) AS g; "
                         "SET client_min_messages = error; CREATE UNIQUE INDEX own_v ON own (v encrypted_text_unique_ops); CREATE INDEX own_h ON own USING hash (v);")
        self.query("SELECT prism_crypt.revoke_access('mallory', 'search')")
        self.assertEqual(self.mallory.error("REINDEX INDEX own_v;").sqlstate, "42501")
        self.all_calls()
        self.assertEqual(self.query("SET enable_seqscan = off; SELECT count(*) FROM own WHERE v = 'x7'"), "1")
        # Nobody else has got the right by that.
        self.assertEqual(self.mallory.error("REINDEX INDEX own_v;").sqlstate, "42501")

    def test_temporary_tables(self):
        other = self.others("CREATE TEMP TABLE mine (id int, v encrypted_text('searchable')); INSERT INTO mine SELECT g, 'user' || g FROM generate_series(1, 50) AS g; "
                            "CREATE UNIQUE INDEX mine_v ON mine (v encrypted_text_unique_ops); SET enable_seqscan = off; SELECT id FROM mine WHERE v = 'user7';")
        error = None
        self.query("SELECT prism_crypt.rotate_key('tenant')")
        error = self.cluster.error(LIMIT + "SELECT prism_crypt.destroy_key(2)", db=self.db)
        self.assertEqual(error.sqlstate, "55006")
        self.assertIn(f"(process {other.run('SELECT pg_backend_pid();')})", error.detail)
        said = self.warned("CALL prism_crypt.rotate_index_key(reason => 'test')")
        self.assertRegex(said, r"invalid now: pg_temp_\d+\.mine_v")
        self.assert_answers()
        self.assertEqual(other.run("SELECT id FROM mine WHERE v = 'user7'; SELECT count(*) FROM generate_series(1, 60) AS g JOIN mine ON v = 'user' || g;"), "7\n50")
        self.warned("SELECT prism_crypt.destroy_key(2, 'test', true)")
        other.run("REINDEX INDEX mine_v;")
        self.assertEqual(other.run("SELECT id FROM mine WHERE v = 'user7';"), "7")
        self.assertEqual(self.query(INVALID), "")

    def test_open_transactions(self):
        """statement that a transaction leaves open: indexes that can't be built then."""
        shop = ["shop_email", "shop_hash", "shop_note"]
        for number, (user, statement, busy) in enumerate([
                ("postgres", "SELECT count(*) FROM shop", shop),
                ("postgres", "SELECT id FROM shop WHERE email = 'user1'; UPDATE shop SET id = id WHERE id = 1", shop),
                ("postgres", "LOCK TABLE shop IN SHARE MODE", shop),
                ("postgres", "ALTER INDEX shop_hash RENAME TO shop_other", ["shop_hash"]),
                ("mallory", "CREATE INDEX ON stall USING hash (harmless(n))", []),
                ("mallory", "CREATE TEMP TABLE late (v encrypted_text('searchable')); INSERT INTO late VALUES ('x'); CREATE INDEX ON late USING hash (v)", []),
                ("mallory", "LOCK TABLE stall IN ACCESS EXCLUSIVE MODE", [])]):
            with self.subTest(statement):
                self.db = self.database(f"open_{number}")
                self.query("SELECT prism_crypt.create_keyset('tenant')")
                self.query(SHOP)
                self.query("GRANT CREATE ON SCHEMA public TO mallory; SELECT prism_crypt.grant_access('mallory', 'search')")
                self.query("SET ROLE mallory;" + STALL)
                holder = self.others(f"BEGIN; {statement};", user)
                self.all_calls(busy=busy, over=lambda: holder.run("ROLLBACK;"))

    def test_a_table_that_is_locked(self):
        holder = self.others("BEGIN; LOCK TABLE shop IN ACCESS EXCLUSIVE MODE;", "postgres")
        self.assertEqual(
            self.query(LIMIT + "SELECT location, remark FROM prism_crypt.census() WHERE kind = 'table' AND location LIKE 'public.shop%'"),
            "public.shop.email|locked by another session: can't be read\npublic.shop.note|locked by another session: can't be read")
        self.query("SELECT prism_crypt.rotate_key('tenant')")
        error = self.cluster.error(LIMIT + "SELECT prism_crypt.destroy_key(2)", db=self.db)
        self.assertEqual((error.sqlstate, error.message), ("55006", "key version 2 may be in use in places that can't be checked"))
        self.assertIn("public.shop.email", error.detail)
        self.warned("SELECT prism_crypt.destroy_key(2, 'test', true)")
        error = self.cluster.error(LIMIT + "SET lock_timeout = '1s'; CALL prism_crypt.rotate_index_key()", db=self.db)
        self.assertEqual((error.sqlstate, error.message), ("55P03", "tables with encrypted columns are in use"))
        self.assertEqual(error.detail, f"public.shop: process {holder.run('SELECT pg_backend_pid();')}")
        holder.run("ROLLBACK;")
        self.assert_answers()

    def test_a_keyset_that_is_being_changed(self):
        holder = self.others("BEGIN; SELECT prism_crypt.rotate_key('tenant');", "postgres")
        for own, setting in (("", "0"), ("SET lock_timeout = '200ms';", "200ms"), ("SET lock_timeout = '1h';", "1h")):
            with self.subTest(own):
                done = self.cluster.run_psql(
                    LIMIT + own + "SELECT prism_crypt.set_rotation_interval('tenant', '1 day');", db=self.db, check=False, verbose=True)
                self.assertIn("55P03", done.stderr)
                self.assertEqual(self.query(own + "SELECT prism_crypt.set_rotation_interval('default', '1 day'); SHOW lock_timeout").strip(), setting)
        holder.run("COMMIT;")

    def test_an_emergency_beside_changes_that_its_snapshot_does_not_see(self):
        for level in ("REPEATABLE READ", "SERIALIZABLE"):
            with self.subTest(level):
                session = self.others(f"BEGIN ISOLATION LEVEL {level}; SELECT count(*) FROM shop;", "postgres")
                self.query("SELECT prism_crypt.rotate_key('tenant')")
                session.run("CREATE TEMP TABLE IF NOT EXISTS done AS SELECT * FROM prism_crypt.emergency_rotation('test');")
                self.assertEqual(session.run("SELECT keyset, new_version IS NOT NULL FROM done ORDER BY keyset;"), "default|t\ntenant|f")
                session.run("COMMIT; DROP TABLE done;")
                self.assertEqual(self.query("SELECT count(*) FROM prism_crypt.progress WHERE reason = 'test'"), "1")

    def test_an_index_that_is_being_built(self):
        """By a function that never comes to an end."""
        self.mallory.run("""
            CREATE FUNCTION slow(int) RETURNS encrypted_text LANGUAGE plpgsql IMMUTABLE AS $$
              BEGIN PERFORM pg_catalog.pg_sleep(3600); RETURN NULL; END $$;""")
        for number, statement in enumerate(("CREATE INDEX CONCURRENTLY stall_slow ON stall USING hash (slow(n));", )):
            builder = self.session(self.db, user="mallory")
            builder.start(statement)
            self.cluster.wait_for("SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'PgSleep'", "1", db=self.db)
            self.all_calls(over=lambda: (
                self.query("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE wait_event = 'PgSleep'; SELECT pg_sleep(0.5)"),
                self.query("DROP INDEX IF EXISTS stall_slow")))


class MoreTablesThanLocks(Scenario):
    conf = {"max_connections": "12", "max_locks_per_transaction": "20", "max_prepared_transactions": "0"}

    def test_too_many_tables(self):
        """The server can't keep locks on all of them at once."""
        db = self.database("many")
        query = lambda sql: self.cluster.psql(LIMIT + sql, db=db)
        query("CREATE TABLE first (id int, v encrypted_text('searchable')); INSERT INTO first SELECT g, 'v' || g FROM generate_series(1, 20) AS g; "
              "CREATE UNIQUE INDEX first_v ON first (v encrypted_text_unique_ops)")
        self.cluster.psql("""DO $$ BEGIN FOR i IN 1..5000 LOOP
                   EXECUTE format('CREATE TABLE t%s (v encrypted_text)', i); IF i % 50 = 0 THEN COMMIT; END IF; END LOOP; END $$""", db=db)
        for call in ("CALL prism_crypt.rotate_index_key()", "SELECT prism_crypt._replace_index_key('default', 'test')"):
            error = self.cluster.error(LIMIT + call, db=db)
            self.assertEqual(error.sqlstate, "53200" if call.startswith("CALL") else "55P03", error)
        self.assertEqual(query("SELECT max(generation) FROM prism_crypt.index_key_status"), "1")
        error = self.cluster.error(LIMIT + "CALL prism_crypt.rotate_index_key()", db=db)
        self.assertEqual(error.message, "tables with encrypted columns are too many to lock at once")
        self.assertIn("max_locks_per_transaction", error.hint)
        said = self.cluster.run_psql("SET statement_timeout = '10min'; CALL prism_crypt.rotate_index_key(reason => 'test', force => true)", db=db, verbose=True).stderr
        self.assertEqual(re.findall("WARNING:.*indexes on encrypted values are invalid now: (.*)", said), ["public.first_v"])
        self.assertEqual(query("SELECT max(generation) FROM prism_crypt.index_key_status"), "2")
        query("REINDEX INDEX first_v")
        self.assertEqual(query("SET enable_seqscan = off; SELECT id FROM first WHERE v = 'v7'"), "7")


if __name__ == "__main__":
    unittest.main()
