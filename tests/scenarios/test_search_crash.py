"""rotate_index_key, killed again and again: what it did not finish changes no answer, and goes on."""

import unittest

from harness import PgError
from harness.scenario import Scenario, kill_backend, wait_until

ROWS = 600
KEYSETS = ("default", "tenant")

# v has tags, u too; w has none, and opens for its index.
TABLES = f"""
    SELECT prism_crypt.create_keyset('tenant');
    CREATE TABLE shadow (id int PRIMARY KEY, keyset text, v text, u text);
    INSERT INTO shadow SELECT g, CASE WHEN g % 4 = 0 THEN 'tenant' ELSE 'default' END, 'value ' || g % 120, 'only ' || g FROM generate_series(1, {ROWS}) AS g;
    UPDATE shadow SET v = CASE WHEN id % 2 = 0 THEN '' END WHERE id % 25 = 0;
    CREATE TABLE t (id int PRIMARY KEY, v encrypted_text('email', 'searchable'), u encrypted_text('searchable'), w encrypted_text, a encrypted_text('searchable')[]);
    INSERT INTO t SELECT id, encrypt_field(v, keyset => keyset), encrypt_field(u, keyset => keyset), encrypt_field(u, keyset => keyset),
      ARRAY[encrypt_field(v, keyset => keyset)] FROM shadow;
    CREATE INDEX by_v ON t USING hash (v);
    ALTER TABLE t ADD CONSTRAINT by_u UNIQUE (u);
    CREATE TABLE refers (u encrypted_text('searchable') PRIMARY KEY REFERENCES t (u) ON UPDATE CASCADE);
    INSERT INTO refers SELECT u FROM t WHERE id % 7 = 0;
    CREATE INDEX by_w ON t USING hash (w);
    CREATE TABLE other AS SELECT id, v FROM t WHERE id % 5 = 0;
    ALTER TABLE other ALTER v TYPE encrypted_text('searchable');
    CREATE INDEX ON other USING hash (v);
    ANALYZE"""

# Both give 0 rows of what is wrong. By indexes, and without them.
LOOK_UPS = """
    SELECT count(*) FROM shadow AS s WHERE s.keyset = current_setting('prism_crypt.keyset') AND (
      (SELECT array_agg(id ORDER BY id) FROM t WHERE t.u = s.u) IS DISTINCT FROM ARRAY[s.id]
      OR (SELECT id FROM t WHERE t.w = s.u) IS DISTINCT FROM s.id
      OR (SELECT count(*) FROM t WHERE t.v = s.v) <> (SELECT count(*) FROM shadow AS o WHERE o.v = s.v AND o.keyset = s.keyset))"""
JOINS = """
    SELECT count(*) FROM (
      (SELECT t.id, o.id AS other FROM t JOIN other AS o ON o.v = t.v EXCEPT ALL SELECT t.id, o.id FROM shadow AS t JOIN shadow AS o ON (o.v, o.keyset) = (t.v, t.keyset) WHERE o.id % 5 = 0)
      UNION ALL (SELECT count(*), sum(id) FROM t GROUP BY v EXCEPT ALL SELECT count(*), sum(id) FROM shadow GROUP BY CASE WHEN v IS NOT NULL THEN keyset END, v)
      UNION ALL (SELECT min(id), count(*) FROM t GROUP BY a EXCEPT ALL SELECT min(id), count(*) FROM shadow GROUP BY CASE WHEN v IS NOT NULL THEN keyset END, v)) AS x"""
SETTINGS = ("SET enable_seqscan = off; SET enable_hashjoin = off;", "SET enable_indexscan = off; SET enable_bitmapscan = off; SET enable_nestloop = off;")

TAGS = """
    SELECT DISTINCT k.keyset || ' ' || coalesce(e.search_generation, 0) FROM (SELECT v FROM t UNION ALL SELECT u FROM t UNION ALL SELECT a[1] FROM t UNION ALL SELECT v FROM other) AS x,
      envelope_info(x.v) AS e, prism_crypt.data_key AS k WHERE k.version = e.key_version ORDER BY 1"""


class SearchCrash(Scenario):
    durable = True
    preload = True
    conf = {"log_statement": "'none'", "log_min_duration_statement": "-1", "autovacuum": "off", "checkpoint_timeout": "'1h'", "jit": "off"}

    def setUp(self):
        self.db = self.database(self.id().rpartition(".")[2][:60].lower())
        self.query(TABLES)
        self.assert_right()

    def query(self, sql):
        return self.cluster.psql(sql, db=self.db)

    def assert_right(self):
        for settings in SETTINGS:
            for keyset in KEYSETS:
                self.assertEqual(self.query(f"{settings} SET prism_crypt.keyset = '{keyset}'; {LOOK_UPS}"), "0", settings)
            self.assertEqual(self.query(f"{settings} {JOINS}"), "0", settings)
        self.assertEqual(self.query("SELECT count(*), count(t.id), bool_and(t.id % 7 = 0) FROM refers AS r LEFT JOIN t ON t.u = r.u"), f"{ROWS // 7}|{ROWS // 7}|t")
        self.assertEqual(self.cluster.error("DELETE FROM t WHERE id = 7", db=self.db).sqlstate, "23503")
        self.assertEqual(self.cluster.error("INSERT INTO refers VALUES ('nobody')", db=self.db).sqlstate, "23503")
        for value in ("'only 1'", "'only 1'::text"):
            error = self.cluster.error(f"INSERT INTO t (id, u) VALUES (0, {value})", db=self.db)
            self.assertEqual(error.sqlstate, "23505")
            self.assertEqual(self.query(f"INSERT INTO t (id, u) VALUES (0, {value}) ON CONFLICT (u) DO NOTHING RETURNING id"), "")

    def assert_tags(self, **generations):
        self.assertEqual(self.query(TAGS).splitlines(), [f"{keyset} {generation}" for keyset, generation in sorted(generations.items())])

    def generation(self, keyset="default"):
        return int(self.query(f"SELECT generation FROM prism_crypt.index_key WHERE keyset = '{keyset}' AND state = 'active'"))

    def outdated(self):
        """How many values have old tags."""
        return int(self.query("""
            SELECT count(*) FROM t, envelope_info(u) AS e, prism_crypt.data_key AS k JOIN prism_crypt.index_key AS i USING (keyset)
            WHERE k.version = e.key_version AND i.state = 'active' AND i.generation <> e.search_generation"""))

    def kill(self, how, backend):
        if how == "backend":
            kill_backend(backend)
        elif how == "terminate":
            self.query(f"SELECT pg_terminate_backend({backend})")
        else:
            self.cluster.stop({"postmaster": "kill", "immediate": "immediate"}[how])
            self.cluster.start()

    def interrupt(self, how, call, condition):
        """Ends the call that way when the condition holds."""
        session = self.session(self.db)
        backend = int(session.run("SELECT pg_backend_pid();"))
        session.start(call)
        wait_until(condition, f"{call} does not come to be killed")
        self.kill(how, backend)
        with self.assertRaises(PgError):
            session.wait()
        self.wait_for_recovery(self.db)

    def test_while_values_are_tagged(self):
        left = ROWS * 3 // 4
        for how in ("backend", "postmaster", "terminate", "backend", "immediate", "postmaster"):
            with self.subTest(how):
                self.interrupt(how, "CALL prism_crypt.rotate_index_key(batch_size => 10, max_rows_per_second => 200);",
                               lambda: self.generation() == 2 and self.outdated() < left - 20)
                self.assertEqual(self.generation(), 2)
                # Batches do not wait for the disk, so the last ones may be lost.
                left = self.outdated()
                self.assertGreater(left, 0)
                self.assert_right()
        self.query("CALL prism_crypt.rotate_all()")
        self.assert_tags(default=2, tenant=1)
        self.assert_right()
        # Nothing is left to do but to say so.
        self.query("CALL prism_crypt.rotate_index_key()")
        self.assertEqual(self.query("SELECT generation, retagged_at IS NOT NULL FROM prism_crypt.index_key_status WHERE keyset = 'default' AND state = 'active'"), "2|t")
        for how in ("fast", "kill"):
            self.cluster.stop(how)
            self.cluster.start()
            self.assert_right()

    def test_while_indexes_are_built(self):
        """Before its commit: the old key is there, and all that was built with the new one is not."""
        # An index that waits in the middle of being built, between others: by a function that is a superuser's, and of an extension, or
        # it would not be built.
        self.query("""
            CREATE FUNCTION gate(int) RETURNS int LANGUAGE plpgsql IMMUTABLE AS $$ BEGIN PERFORM pg_advisory_xact_lock_shared(7); RETURN $1; END $$;
            ALTER EXTENSION plpgsql ADD FUNCTION gate(int);
            CREATE INDEX gated ON t (u encrypted_text_unique_ops, gate(id)); CREATE INDEX after_it ON t USING hash (u)""")
        for how in ("backend", "postmaster", "terminate", "immediate"):
            with self.subTest(how):
                keeper = self.session(self.db)
                keeper.run("SELECT pg_advisory_lock(7);")
                self.interrupt(how, "CALL prism_crypt.rotate_index_key();",
                               lambda: self.query("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted") == "1")
                keeper.close()
                self.assertEqual(self.generation(), 1)
                self.assert_tags(default=1, tenant=1)
                self.assert_right()
        self.query("CALL prism_crypt.rotate_index_key()")
        self.assert_tags(default=2, tenant=1)
        self.assert_right()

    def test_a_restart_after_it(self):
        """What is in no cache is as good as what is in one."""
        session = self.session(self.db)
        for generation, keyset in ((2, "default"), (2, "tenant"), (3, "default")):
            session.run(f"CALL prism_crypt.rotate_index_key('{keyset}', batch_size => 100);")
            self.assertEqual(self.generation(keyset), generation)
            session.run("SELECT prism_crypt.rotate_key('tenant'), prism_crypt.rotate_key();")
            for how in (None, "kill", "fast"):
                if how:
                    self.cluster.stop(how)
                    self.cluster.start()
                    session = self.session(self.db)
                for settings in SETTINGS:
                    for each in KEYSETS:
                        self.assertEqual(session.run(f"{settings} SET prism_crypt.keyset = '{each}'; {LOOK_UPS};"), "0")
                    self.assertEqual(session.run(f"{settings} {JOINS}; RESET ALL;"), "0")
                self.assert_right()
        self.query("CALL prism_crypt.rotate_all(); SELECT prism_crypt.destroy_key(version) FROM prism_crypt.key_status WHERE state = 'decrypt_only'")
        self.assert_tags(default=3, tenant=2)
        self.assert_right()


if __name__ == "__main__":
    unittest.main()
