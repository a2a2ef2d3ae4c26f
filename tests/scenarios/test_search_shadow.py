"""Queries by the thousand have the same answers on encrypted columns as on plaintext: before, during and after all that is done to keys."""

import random
import unittest

from harness import PgError
from harness.libpq import Connection
from harness.scenario import Scenario, set_key, wait_until

from rotation_load import Seeded
from search_asker import Asker
from search_queries import written
from search_tables import KEYSETS, SIDES, TABLES, schema

# Values with another tag than that of their keyset's index key, or without one where the column asks for it. (Copies keep theirs.)
WRONG_TAGS = """
    SELECT count(*) FROM {table} AS t JOIN prism_crypt.data_key AS k ON k.version = key_version(t.v), envelope_info(t.v) AS e
    WHERE coalesce(e.search_generation, CASE WHEN {searchable} THEN 0 END) <> (
      SELECT i.generation FROM prism_crypt.index_key AS i WHERE i.keyset = k.keyset AND i.state = 'active')"""

# What plans must have been made of, or the settings did not do what they are for.
NODES = {"Seq Scan", "Index Scan", "Bitmap Heap Scan", "Hash Join", "Hash Left Join", "Hash Full Join", "Hash Semi Join", "Hash Anti Join", "Nested Loop",
         "Nested Loop Left Join", "Nested Loop Semi Join", "Nested Loop Anti Join", "HashAggregate", "Memoize", "Gather", "Parallel Hash", "HashSetOp Except",
         "HashSetOp Intersect", "Recursive Union", "MixedAggregate", "GroupAggregate", "WindowAgg", "Unique"}


class SearchShadow(Seeded, Scenario):
    fixed_seed = "20261126"
    preload = True
    conf = {"log_statement": "'none'", "log_min_duration_statement": "-1", "autovacuum": "off", "deadlock_timeout": "'50ms'"}

    def setUp(self):
        self.addCleanup(self.use, "main")
        self.db = self.database("shadow")
        self.query("SELECT prism_crypt.create_keyset('tenant'); CREATE EXTENSION amcheck")
        with Connection(self.cluster, self.db) as connection:
            connection.execute(schema(random.Random(self.seed)))
        self.searchable = {name: "searchable" in TABLES[name][0] for name in TABLES}
        self.asker = Asker(self, self.cluster, self.db, self.seed)
        self.dice, self.writes = None, 0

    def query(self, sql):
        return self.cluster.psql(sql, db=self.db)

    def use(self, *keys):
        set_key(self.cluster, *keys)
        self.cluster.reload()

    def write(self, session):
        """Starts a transaction that changes the same on both sides, or nothing."""
        self.writes += 1
        keyset, throw = self.dice.choice(KEYSETS), self.dice.random()
        changes = [written(side, random.Random(f"{self.seed} {throw}"), keyset, self.writes) for side in SIDES]
        session.start(f"BEGIN; SET LOCAL prism_crypt.keyset = '{keyset}'; {'; '.join(changes)}; COMMIT;")

    def written(self, session):
        said = session.wait(check=False)
        if said:
            self.assertEqual(PgError(said).sqlstate in ("23505", "40P01"), True, said)

    def among(self, name, count, change="SELECT;"):
        """Queries while a session changes something and then moves values in small steps, and another one writes."""
        self.dice = random.Random(f"{self.seed} {name} others")
        rotating, writing = self.session(self.db), self.session(self.db)

        def between(number):
            if number % 3 == 0:
                if number:
                    self.written(writing)
                self.write(writing)
            if number % 8 == 0 and number:
                rotating.wait()
                rotating.start(f"CALL rotate_batch('enc.{self.dice.choice((*TABLES, 'lists'))}', batch_size => 30, max_batches => 3);")

        rotating.start(change)
        self.asker.ask(name, count, between)
        self.written(writing)
        rotating.wait()
        rotating.run("CALL prism_crypt.rotate_all();")
        self.assert_moved()

    def replace_index_key(self, keyset):
        """The call, ended when it has moved few values; what it began is there."""
        generation = f"SELECT generation FROM prism_crypt.index_key WHERE keyset = '{keyset}' AND state = 'active'"
        rows = "SELECT count(*) FROM prism_crypt.progress WHERE state = 'running' AND rows_done > 0"
        before = self.query(generation)
        for _ in range(20):
            session = self.session(self.db)
            backend = session.run("SELECT pg_backend_pid();")
            session.start(f"CALL prism_crypt.rotate_index_key('{keyset}', batch_size => 20, pause => '1 hour');")
            # It waits for our transactions, and we for it: either may lose.
            self.asker.ask(f"with a new index key of {keyset}", 12)
            wait_until(lambda: not session.waiting(0) or self.query(rows) != "0", "nothing is tagged anew")
            self.query(f"SELECT pg_cancel_backend({backend})")
            said = session.wait(check=False)
            if PgError(said).sqlstate != "40P01":
                break
        self.assertEqual(PgError(said).sqlstate, "57014", said)
        self.assertEqual(int(self.query(generation)), int(before) + 1)

    def assert_moved(self):
        """All values are under their keyset's active key, and have the tags that their columns ask for."""
        old = "SELECT count(*) FROM prism_crypt.census() AS c JOIN prism_crypt.key_status AS k ON k.version = c.key_version WHERE k.state <> 'active' AND c.ciphertexts > 0"
        self.assertEqual(self.query(old), "0")
        for name, searchable in self.searchable.items():
            self.assertEqual(self.query(WRONG_TAGS.format(table=f"enc.{name}", searchable=searchable)), "0", name)
        lists = "(SELECT unnest(a) AS v FROM enc.lists)"
        self.assertEqual(self.query(WRONG_TAGS.format(table=lists, searchable=True)), "0")

    def assert_same_rows(self):
        for name in TABLES:
            wrong = f"""SELECT count(*) FROM enc.{name} AS e FULL JOIN plain.{name} AS p USING (id) LEFT JOIN prism_crypt.data_key AS k ON k.version = key_version(e.v)
                WHERE e.n IS DISTINCT FROM p.n OR k.keyset || '/' || decrypt_field(e.v) IS DISTINCT FROM p.v"""
            self.assertEqual(self.query(wrong), "0", name)

    def alter(self, searchable, unsearchable):
        for name in (*searchable, *unsearchable):
            self.searchable[name] = name in searchable
            options = [part for part in ("'email'" if "'email'" in TABLES[name][0] else "", "'searchable'" if name in searchable else "") if part]
            self.query(f"ALTER TABLE enc.{name} ALTER v TYPE encrypted_text{'(' + ', '.join(options) + ')' if options else ''}")
        self.assert_moved()

    def destroy(self):
        """All keys that nothing is under. Indexes must not need them either: neither their leaves nor what leads there."""
        self.query("SELECT prism_crypt.destroy_key(version) FROM prism_crypt.key_status WHERE state = 'decrypt_only'")
        self.query("""
            SELECT bt_index_parent_check(i.indexrelid, true, true) FROM pg_index AS i JOIN pg_class AS c ON c.oid = i.indexrelid
            WHERE c.relkind = 'i' AND c.relnamespace = 'enc'::regnamespace AND c.relam = (SELECT oid FROM pg_am WHERE amname = 'btree')""")

    def test_the_same_answers(self):
        ask = self.asker.ask
        ask("at first", 700)
        self.among("during rotation", 300, "SELECT prism_crypt.rotate_key();")
        self.among("during rotation of tenant", 200, "SELECT prism_crypt.rotate_key('tenant');")
        ask("after rotation", 100)

        self.use("next", "main")
        rotating = self.session(self.db)
        ask("during rotation of the master key", 60, lambda number: rotating.start("SELECT prism_crypt.rotate_master_key();") if number == 20 else None)
        rotating.wait()
        self.use("next")
        ask("after rotation of the master key", 100)

        for keyset, count in (("default", 350), ("tenant", 250)):
            # Indexes are built of values with the old key and the old tags.
            self.query(f"SELECT prism_crypt.rotate_key('{keyset}')")
            self.replace_index_key(keyset)
            if keyset == "tenant":
                self.query("ALTER TABLE enc.mixed ALTER v TYPE encrypted_text('email'); ALTER TABLE enc.mixed ALTER v TYPE encrypted_text('searchable')")
            self.among(f"while {keyset} is tagged anew", count)
            if keyset == "default":
                # What was begun is recorded as done; of tenant it stays begun.
                self.query("CALL prism_crypt.rotate_index_key()")
            self.destroy()
            ask(f"after {keyset} was tagged anew", 100)
        self.asker.connect("again")
        ask("in a new session", 150)
        self.cluster.restart()
        self.asker.connect("restarted")
        ask("after a restart", 250)

        self.alter(("loose", "loose_mixed"), ("bare", "mixed", "uniq", "hashed"))
        ask("with other tags", 300)
        self.query("CREATE INDEX ON enc.loose USING hash (v); CREATE INDEX ON enc.loose_mixed USING hash (v); CREATE INDEX ON enc.bare (v encrypted_text_unique_ops)")
        self.among("with other indexes", 200, "SELECT prism_crypt.rotate_key();")
        self.destroy()
        ask("with other indexes and without old keys", 100)
        self.alter(("bare", "uniq", "hashed", "loose_hashed"), ("loose",))
        self.destroy()
        self.query("VACUUM FULL; REINDEX SCHEMA enc; ANALYZE")
        ask("at last", 250)
        self.assert_same_rows()

        self.assertGreaterEqual(self.asker.asked, 3000)
        self.assertGreater(self.asker.filled, self.asker.asked // 2)
        self.assertEqual(NODES - self.asker.nodes, set())


if __name__ == "__main__":
    unittest.main()
