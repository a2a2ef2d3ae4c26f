"""A migration that is held up or goes on in pieces, of tables and columns that are not quite ordinary: no value changes but for its type."""

import re
import time
import unittest

from harness import PgError
from harness.paths import ROOT
from harness.scenario import Scenario, wait_until

TYPE = "encrypted_text(searchable)"
SIMPLE = "CREATE TABLE t (id int PRIMARY KEY, v text NOT NULL); INSERT INTO t SELECT i, 'row ' || i FROM generate_series(1, 300) AS i"
# The first vector of the Fernet specification: the token of "hello".
FERNET_KEY = "cw_0x689RpI-jtRR7oE8h_eQsKImvJapLeSbXpwF4e4="
FERNET_TOKEN = "gAAAAAAdwJ6wAAECAwQFBgcICQoLDA0ODy021cpGVWKZ_eEwCGM4BLLF_5CV9dOPmrhuVUPgJobwOz7JcbmrR64jVmpU4IwqDA=="


class MigrationLimits(Scenario):
    preload = True
    maxDiff = None

    def setUp(self):
        self.db = self.database(self.id().rpartition(".")[2][:60])

    def query(self, sql):
        return self.cluster.psql(sql, db=self.db)

    def call(self, options="", column_type=TYPE):
        return f"CALL prism_crypt.migrate_column('t', 'v', '{column_type}', method => 'online'{options});"

    def asked(self, column):
        return self.query(f"SELECT {column} FROM prism_crypt.migrations ORDER BY id DESC LIMIT 1")

    def job(self):
        """The state of the last job, and how many rows it has done."""
        return self.query("SELECT state, rows_done FROM prism_crypt.progress ORDER BY id DESC LIMIT 1").split("|")

    def last(self, procedure):
        self.query(f"CALL prism_crypt.{procedure}({self.asked('id')})")

    def began(self, options):
        """A session whose call is in the middle of the backfill; and the number of that job."""
        session = self.session(self.db)
        session.start(self.call(options))
        wait_until(lambda: self.query("SELECT count(*) FROM prism_crypt.progress WHERE rows_done > 0") == "1" or not session.waiting(0), "no row is done")
        self.assertTrue(session.waiting(0))
        self.assertEqual(self.asked("phase"), "rows")
        return session, int(self.asked("job"))

    def test_paused_and_resumed(self):
        self.query(SIMPLE)
        session, job = self.began(", batch_size => 10, max_rows_per_second => 150")
        self.query(f"SELECT prism_crypt.pause_job({job})")
        # It ends its batch, and then waits.
        wait_until(lambda: self.query("SELECT count(*) FROM prism_crypt.progress WHERE state = 'paused'") == "1", "it is not paused")

        def rests():
            before = self.job()
            time.sleep(0.3)
            return before if before == self.job() else None
        done = wait_until(rests, "it does not stop")
        self.assertTrue(session.waiting(0.5))
        self.assertEqual(self.job(), done)
        self.assertEqual(done[0], "paused")
        self.assertLess(int(done[1]), 300)
        # The columns stay in step meanwhile.
        self.query("INSERT INTO t VALUES (1000, 'new'); UPDATE t SET v = 'changed' WHERE id IN (1, 300)")
        self.assertEqual(self.query("SELECT id, prism_crypt_new_v::text FROM t WHERE id IN (1, 300, 1000) ORDER BY 1"), "1|changed\n300|changed\n1000|new")
        self.query(f"SELECT prism_crypt.resume_job({job})")
        session.wait()
        self.assertEqual(self.asked("state"), "cut_over")
        self.assertEqual(self.query("SELECT count(*), count(*) FILTER (WHERE v::text = prism_crypt_old_v) FROM t"), "301|301")

    def test_cancelled(self):
        """A job that is cancelled is over; the same call begins another one."""
        self.query(SIMPLE)
        session, job = self.began(", batch_size => 10, max_rows_per_second => 100")
        self.query(f"SELECT prism_crypt.cancel_job({job})")
        with self.assertRaises(PgError) as caught:
            session.wait()
        self.assertEqual((caught.exception.sqlstate, caught.exception.message), ("57014", f"job {job} was cancelled"))
        self.assertEqual(self.asked("state, phase, worker"), "failed|rows|")
        self.assertEqual(self.job()[0], "cancelled")
        # What it did is kept, and what is written now is in step.
        filled = int(self.query("SELECT count(*) FROM t WHERE prism_crypt_new_v::text = v"))
        self.assertTrue(0 < filled < 300, filled)
        self.query("UPDATE t SET v = v || '!' WHERE id = 300")
        self.assertEqual(int(self.query("SELECT count(*) FROM t WHERE prism_crypt_new_v::text = v")), filled + 1)
        self.query(self.call())
        self.assertEqual(self.query(f"SELECT count(*) FROM prism_crypt.progress WHERE kind = 'backfill' AND state = 'finished' AND id > {job}"), "1")
        self.assertEqual(self.asked("state"), "cut_over")
        self.assertEqual(self.query("SELECT count(*), count(*) FILTER (WHERE v::text = prism_crypt_old_v) FROM t"), "300|300")

    def test_max_batches(self):
        self.query(SIMPLE)
        done = [0]
        while not done[-1] or self.asked("phase") == "rows":
            self.query(self.call(", batch_size => 10, max_batches => 7"))
            if self.asked("phase") == "rows":
                # No more than it was asked to, and it is this that is counted.
                done.append(int(self.query("SELECT count(*) FROM t WHERE prism_crypt_new_v::text = v")))
                self.assertEqual(self.asked("rows_done"), str(done[-1]))
                self.assertTrue(0 < done[-1] - done[-2] <= 70, done)
        # 300 rows are more than four calls can do.
        self.assertGreaterEqual(len(done), 5)
        self.query(self.call())
        self.assertEqual(self.asked("state"), "cut_over")
        self.assertEqual(self.query("SELECT count(*), count(*) FILTER (WHERE v::text = prism_crypt_old_v) FROM t"), "300|300")

    def test_unlogged(self):
        for method in ("online", "rewrite"):
            with self.subTest(method):
                self.query(SIMPLE.replace("CREATE TABLE", "CREATE UNLOGGED TABLE"))
                self.query(self.call().replace("online", method))
                self.assertEqual(self.query("SELECT count(*) FROM t WHERE v::text = 'row ' || id"), "300")
                self.assertEqual(self.query("SELECT relpersistence FROM pg_class WHERE relname IN ('t', 't_pkey') ORDER BY 1"), "u\nu")
                if method == "online":
                    self.last("rollback_migration")
                    self.query(self.call())
                    self.last("finish_migration")
                self.query(f"CALL prism_crypt.decrypt_column('t', 'v', method => '{method}')")
                self.assertEqual(self.query("SELECT count(*) FROM t WHERE v = 'row ' || id"), "300")
                self.assertEqual(self.query("SELECT relpersistence FROM pg_class WHERE relname IN ('t', 't_pkey') ORDER BY 1"), "u\nu")
                self.query("DROP TABLE t")

    def test_identity_and_generated_columns(self):
        table = """
            CREATE TABLE t (id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY, other bigint GENERATED BY DEFAULT AS IDENTITY (START 1000 INCREMENT 7), v text,
                            n int, twice int GENERATED ALWAYS AS (n * 2) STORED, note text, loud text GENERATED ALWAYS AS (upper(note)) STORED);
            INSERT INTO t (v, n, note) SELECT 'row ' || i, i, 'note ' || i FROM generate_series(1, 200) AS i"""
        write = """INSERT INTO t (v, n, note) VALUES ('new', 5, 'n') RETURNING id, other, v::text, twice, loud;
                   UPDATE t SET n = n + 1, note = note || '!' WHERE id = 7 RETURNING twice, loud, v::text; UPDATE t SET v = 'changed' WHERE id = 8 RETURNING twice, loud, v::text"""
        values = "SELECT id, other, v::text, n, twice, note, loud FROM t ORDER BY id"
        columns = "SELECT attname, attidentity, attgenerated FROM pg_attribute WHERE attrelid = 't'::regclass AND attnum > 0 AND NOT attisdropped AND attname NOT LIKE '%v' ORDER BY 1"
        steps = {"online": (self.call(", until => 'verified'"), self.call(), "rollback_migration", self.call(), "finish_migration",
                            "CALL prism_crypt.decrypt_column('t', 'v', method => 'online')"),
                 "rewrite": (self.call().replace("online", "rewrite"), "CALL prism_crypt.decrypt_column('t', 'v', method => 'rewrite')")}
        for method, calls in steps.items():
            with self.subTest(method):
                # What a table gives that nobody migrates.
                self.query(table)
                of_columns, expected = self.query(columns), []
                for _ in calls:
                    expected.append((self.query(write), self.query(values)))
                self.query(f"DROP TABLE t; {table}")
                for call, wanted in zip(calls, expected):
                    if call.startswith("CALL"):
                        self.query(call)
                    else:
                        self.last(call)
                    self.assertEqual((self.query(write), self.query(values)), wanted, call)
                    self.assertEqual(self.query(columns), of_columns)
                self.query("DROP TABLE t")

    def test_fernet(self):
        """The function of the document opens tokens of an application."""
        document = (ROOT / "docs/migration.md").read_text(encoding="utf-8")
        function = re.search(r"From \*\*Fernet\*\*.*?```sql\n(.*?)```", document, re.S).group(1)
        self.query(f"CREATE EXTENSION pgcrypto; {function}")
        # Another way round than the function: tokens as the specification puts them together.
        seal = """
            CREATE FUNCTION fernet_seal(content text, key bytea) RETURNS text LANGUAGE sql AS $$
              SELECT translate(encode(b || hmac(b, substr(key, 1, 16), 'sha256'), 'base64'), E'+/\\n', '-_')
              FROM (SELECT '\\x80'::bytea || int8send(1700000000) || iv || encrypt_iv(convert_to(content, 'UTF8'), substr(key, 17, 16), iv, 'aes-cbc/pad:pkcs') AS b
                    FROM gen_random_bytes(16) AS iv) AS x $$"""
        key = "decode(translate(current_setting('app.key'), '-_', '+/'), 'base64')"
        set_key = f"SET app.key = '{FERNET_KEY}';"
        self.assertEqual(self.query(f"{set_key} SELECT fernet_open('{FERNET_TOKEN}', {key})"), "hello")
        self.query(f"""{seal}; {set_key} CREATE TABLE t (id int PRIMARY KEY, v text, plain text);
            INSERT INTO t SELECT i, fernet_seal(p, {key}), p FROM generate_series(1, 100) AS i, LATERAL (SELECT repeat('ű ' || i, i % 7)) AS x (p);
            INSERT INTO t VALUES (101, '{FERNET_TOKEN}', 'hello'), (102, NULL, NULL)""")
        self.query(f"{set_key} {self.call(f', using_expression => $x$fernet_open(v, {key})$x$')}")
        self.assertEqual(self.query("SELECT count(*), count(v), count(*) FILTER (WHERE v::text IS NOT DISTINCT FROM plain) FROM t"), "102|101|102")
        error = self.cluster.error(f"{set_key} SELECT fernet_open(overlay('{FERNET_TOKEN}' placing 'B' from 50), {key})", db=self.db)
        self.assertEqual(error.message, "this is no token of this key")

    def test_values_too_long(self):
        """The type that is asked for does not cut them off."""
        self.query(SIMPLE.replace("v text", "v encrypted_text").replace("'row ' || i", "encrypt_field('row ' || i)"))
        for method in ("online", "rewrite"):
            with self.subTest(method):
                error = self.cluster.error(f"CALL prism_crypt.decrypt_column('t', 'v', 'varchar(6)', method => '{method}')", db=self.db)
                self.assertEqual(error.sqlstate[:2], "22", error)
                self.assertEqual(self.query("SELECT count(*) FROM t WHERE v::text = 'row ' || id"), "300")
                self.last("rollback_migration")


if __name__ == "__main__":
    unittest.main()
