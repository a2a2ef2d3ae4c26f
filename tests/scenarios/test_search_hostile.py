"""Searching among people who lock, kill, load another key or write triggers for the apply worker: nobody hangs, nobody learns."""

import unittest

from harness import canaries, paths
from harness.libpq import Connection
from harness.scenario import Scenario, kill_backend

TABLES = """
    CREATE TABLE t (id int PRIMARY KEY, v encrypted_text('searchable'), b encrypted_text);
    INSERT INTO t SELECT n, 'u' || n, 'u' || n FROM generate_series(1, 20) AS n;
    CREATE UNIQUE INDEX t_unique ON t (v encrypted_text_unique_ops);
    CREATE INDEX t_hash ON t USING hash (v);
    CREATE UNIQUE INDEX t_bare ON t (b encrypted_text_unique_ops);
"""
# Since 16, what a subscription of an ordinary role asks for.
PASSWORD_FREE = " WITH (password_required = false)" if paths.PG_MAJOR >= 16 else ""
BY_INDEX = "SET enable_seqscan = off; SET enable_hashjoin = off; SET enable_mergejoin = off; SET enable_material = off; SET enable_memoize = off;"
JOIN = "SELECT count(*) FROM t AS x JOIN t AS y ON y.{0} = x.{0};"


class SearchLocks(Scenario):
    # The library is there before a session sets a key.
    preload = True
    conf = {"lock_timeout": "0", "deadlock_timeout": "'200ms'"}

    def test_calls_that_roll_back(self):
        """With a parameter, PostgreSQL plans the CALL for this one time, and a ROLLBACK in it frees that plan."""
        db = self.database("calls")
        self.cluster.psql("""CREATE PROCEDURE rolls_back(a int) LANGUAGE plpgsql AS $$ BEGIN ROLLBACK;
            FOR i IN 1..200 LOOP EXECUTE 'SELECT ' || i || ', repeat(''x'', 100)'; END LOOP; END $$""", db=db)
        with Connection(self.cluster, db) as connection:
            for number in range(20):
                connection.execute("CALL rolls_back($1)", str(number))
            self.assertEqual(connection.execute("SELECT 1"), [["1"]])

    def test_a_locked_key_table_hangs_nobody(self):
        """Who waits for a table of keys waits before a page of an index is locked: nobody else has to wait for him, and he can be told to end."""
        db = self.database("locked")
        self.cluster.psql(TABLES + "DROP INDEX t_hash", db=db)
        for table in ("data_key", "index_key"):
            for column in ("v", "b"):
                with self.subTest(f"{table} {column}"):
                    holder, reader = self.session(db), self.session(db)
                    holder.run(f"{BY_INDEX} SELECT count(*) FROM t WHERE {column} = 'u3'; BEGIN; LOCK TABLE prism_crypt.{table} IN ACCESS EXCLUSIVE MODE;")
                    # This one has read nothing yet, and comes to the key table on its way to the index.
                    pid = reader.run("SELECT pg_backend_pid();")
                    reader.start(BY_INDEX + JOIN.format(column))
                    self.cluster.wait_for(f"SELECT wait_event_type FROM pg_stat_activity WHERE pid = {pid}", "Lock", db=db)
                    # The page is free: the holder writes to it.
                    holder.run(f"INSERT INTO t (id, {column}) VALUES (100, 'new');", timeout=60)
                    self.cluster.psql(f"SELECT pg_cancel_backend({pid})", db=db)
                    self.assertIn("57014", reader.wait(timeout=60, check=False))
                    reader.start(JOIN.format(column))
                    holder.run("ROLLBACK;")
                    self.assertEqual(reader.wait(timeout=60), "20")

    def test_a_waiting_session_can_be_cancelled(self):
        """Outside of an index the key table is waited for, as long as one likes."""
        db = self.database("cancelled")
        self.cluster.psql(TABLES, db=db)
        holder, reader = self.session(db), self.session(db)
        pid = reader.run("SELECT pg_backend_pid();")
        holder.run("BEGIN; LOCK TABLE prism_crypt.data_key IN ACCESS EXCLUSIVE MODE;")
        reader.start("SELECT count(*) FROM t WHERE v = 'u3';")
        self.cluster.wait_for(f"SELECT wait_event_type FROM pg_stat_activity WHERE pid = {pid}", "Lock", db=db)
        self.cluster.psql(f"SELECT pg_cancel_backend({pid})", db=db)
        self.assertIn("57014", reader.wait(timeout=60, check=False))
        reader.start("SELECT count(*) FROM t WHERE v = 'u3';")
        holder.run("ROLLBACK;")
        self.assertEqual(reader.wait(timeout=60), "1")

    def test_key_tables_are_rewritten_meanwhile(self):
        db = self.database("rewritten")
        self.cluster.psql(TABLES, db=db)
        session = self.session(db)
        session.run(BY_INDEX)
        for statement in ("VACUUM FULL prism_crypt.data_key", "VACUUM FULL prism_crypt.index_key", "CLUSTER prism_crypt.index_key USING index_key_pkey",
                          "REINDEX TABLE prism_crypt.data_key", "ANALYZE prism_crypt.index_key", "ALTER TABLE prism_crypt.index_key ADD extra int"):
            self.cluster.psql(statement, db=db)
            self.assertEqual(session.run(JOIN.format("v") + JOIN.format("b") + "SELECT id FROM t WHERE v = 'u7';"), "20\n20\n7", statement)

    def test_another_master_key(self):
        """A session with another key compares stored values, and learns nothing of constants."""
        db = self.database("another_key")
        self.cluster.psql(TABLES, db=db)
        with Connection(self.cluster, db=db) as conn:
            conn.execute("SELECT set_config('prism_crypt.master_key', $1, false)", canaries.KEYS["other"])
            self.assertEqual(conn.execute(JOIN.format("v")), [["20"]])
            self.assertEqual(conn.execute("SELECT count(*) FROM (SELECT v FROM t GROUP BY v) AS x"), [["20"]])
            self.assertEqual(conn.execute("INSERT INTO t (id, v) SELECT 100, v FROM t WHERE id = 1 ON CONFLICT (v) DO NOTHING"), [])
            for sql in ("SELECT id FROM t WHERE v = 'u7'", "SELECT id FROM t WHERE v = 'u7'::text", "SELECT id FROM t WHERE v = ANY (ARRAY['u7'])",
                        JOIN.format("b"), "SELECT blind_index('u7', 'c')", "INSERT INTO t (id, v) VALUES (101, 'u7')", "UPDATE t SET v = 'u7' WHERE id = 1"):
                with self.subTest(sql), self.assertRaisesRegex(Exception, "55000.*encryption key mismatch"):
                    conn.execute(sql)
            conn.execute("RESET prism_crypt.master_key")
            self.assertEqual(conn.execute("SELECT id FROM t WHERE v = 'u7'"), [["7"]])
            # A key that a session has no more is forgotten, with everything that was found out by it.
            conn.execute("SELECT set_config('prism_crypt.master_key', $1, false)", canaries.KEYS["other"])
            for sql in ("SELECT id FROM t WHERE v = 'u7'", "SELECT id FROM t WHERE v = 'u7'::text"):
                with self.subTest(sql), self.assertRaisesRegex(Exception, "55000.*encryption key mismatch"):
                    conn.execute(sql)

    def test_killed_while_it_searches(self):
        """A crash in the middle of index work leaves indexes that are right."""
        db = self.database("killed")
        self.cluster.psql(TABLES, db=db)
        session = self.session(db)
        pid = session.run("SELECT pg_backend_pid();")
        session.start("DO $$ BEGIN FOR n IN 1000 .. 100000000 LOOP INSERT INTO t VALUES (n, 'k' || n, 'k' || n); END LOOP; END $$;")
        self.cluster.wait_for("SELECT pg_relation_size('t_unique') > 200000", db=db)
        kill_backend(int(pid))
        self.wait_for_recovery(db)
        self.cluster.psql("CREATE EXTENSION amcheck; SELECT bt_index_check('t_unique', true), bt_index_check('t_bare', true)", db=db)
        self.assertEqual(self.cluster.psql(BY_INDEX + JOIN.format("v") + "SELECT id FROM t WHERE v = 'u7'; SELECT count(*) FROM t WHERE v = 'k2000'", db=db), "20\n7\n0")


class SearchApplyWorker(Scenario):
    conf = {"wal_level": "'logical'"}

    def test_a_trigger_in_the_apply_worker_has_no_right_of_its_own(self):
        """What a subscription applies runs code of table owners. It compares copies, and that is all it may."""
        db = self.database("feed")
        other = self.new_cluster("search_hostile-subscriber")
        self.database("feed", cluster=other)
        for cluster in (self.cluster, other):
            cluster.psql("CREATE TABLE feed (id int PRIMARY KEY, v text)", db=db)
        other.psql(TABLES + """
            CREATE ROLE spy SUPERUSER LOGIN;
            CREATE TABLE seen (what text, answer text); GRANT ALL ON seen, feed TO spy; GRANT SELECT ON t TO spy; ALTER TABLE feed OWNER TO spy;
            CREATE FUNCTION try(what text, sql text) RETURNS void LANGUAGE plpgsql SET search_path = public AS $$
            DECLARE r text;
            BEGIN
              EXECUTE sql INTO r;
              INSERT INTO seen VALUES (what, coalesce(r, 'null'));
            EXCEPTION WHEN OTHERS THEN
              INSERT INTO seen VALUES (what, SQLSTATE);
            END $$;
            CREATE FUNCTION spy() RETURNS trigger LANGUAGE plpgsql SET search_path = public AS $$
            BEGIN
              PERFORM try('role', 'SELECT current_user');
              PERFORM try('tag', format('SELECT length((%L::text::encrypted_text(''searchable''))::bytea)', NEW.v));
              PERFORM try('array', format('SELECT array_position(ARRAY(SELECT v FROM t ORDER BY id), %L::text::encrypted_text)', NEW.v));
              PERFORM try('bare array', format('SELECT array_position(ARRAY(SELECT b FROM t ORDER BY id), %L)', NEW.v));
              PERFORM try('hash', format('SELECT hash_array(ARRAY[b]) = hash_array(ARRAY[%L::encrypted_text]) FROM t WHERE id = 7', NEW.v));
              PERFORM try('row', format('SELECT count(*) FROM t WHERE record_eq(ROW(b), ROW(%L::encrypted_text))', NEW.v));
              PERFORM try('operator', format('SELECT count(*) FROM t WHERE v = %L', NEW.v));
              PERFORM try('blind index', format('SELECT length(blind_index(%L, ''c''))', NEW.v));
              RETURN NEW;
            END $$;
            CREATE TRIGGER spy BEFORE INSERT ON feed FOR EACH ROW EXECUTE FUNCTION spy();
            ALTER TABLE feed ENABLE ALWAYS TRIGGER spy;
        """, db=db)
        self.cluster.psql("CREATE PUBLICATION p FOR TABLE feed", db=db)
        other.psql(f"SET ROLE spy; CREATE SUBSCRIPTION s CONNECTION 'host={self.cluster.socket} port={self.cluster.port} dbname={db} user=postgres' PUBLICATION p{PASSWORD_FREE}", db=db)
        self.addCleanup(other.psql, "DROP SUBSCRIPTION s", db=db)
        other.wait_for("SELECT bool_and(srsubstate = 'r') FROM pg_subscription_rel", db=db, timeout=60)
        ask = "SELECT what, answer FROM seen ORDER BY what"
        other.psql("ALTER ROLE spy NOSUPERUSER; INSERT INTO feed VALUES (1, 'u7')", db=db)
        with self.subTest("the control: of a superuser the trigger finds everything"):
            self.assertEqual(other.psql(ask, db=db), "array|7\nbare array|7\nblind index|16\nhash|true\noperator|1\nrole|postgres\nrow|1\ntag|54")
        other.psql("TRUNCATE seen; TRUNCATE feed; ALTER SUBSCRIPTION s DISABLE; ALTER SUBSCRIPTION s ENABLE", db=db)
        self.cluster.psql("INSERT INTO feed VALUES (2, 'u7')", db=db)
        other.wait_for("SELECT count(*) FROM feed", "1", db=db, timeout=60)
        self.assertEqual(other.psql(ask, db=db), "array|null\nbare array|null\nblind index|42501\nhash|42501\noperator|0\nrole|spy\nrow|0\ntag|42501")


if __name__ == "__main__":
    unittest.main()
