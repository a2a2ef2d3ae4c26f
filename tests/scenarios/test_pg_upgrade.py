"""pg_upgrade to a later major version: data, keys, roles, searchable indexes, constraints and jobs in the middle come along, and statistics to 18."""

import re
import unittest

import searchable
import upgrading
from harness import canaries, paths
from harness.scenario import CANARY_ROWS, CANARY_TABLE, Scenario, set_key
from searchable import FILL, PARTITIONED, PARTITIONED_QUESTIONS, QUESTIONS, SCHEMA, VIEW, VIEW_QUESTIONS

# Everything that holds values, in each way that PostgreSQL has.
HOLDERS = f"""
    CREATE TABLE person (id int PRIMARY KEY, v encrypted_text, bound encrypted_text, tenant encrypted_text, bytes bytea, l encrypted_text[],
        key int GENERATED ALWAYS AS (key_version(v)) STORED);
    CREATE DOMAIN secret AS encrypted_text('searchable');
    CREATE TYPE pair AS (a int, b encrypted_text('searchable'));
    CREATE TABLE nested (id int PRIMARY KEY, d secret, c pair, dl secret[], cl pair[]);
    CREATE TABLE tags (id int PRIMARY KEY, v encrypted_text('searchable')[]);
    CREATE TABLE events (id int, at date, v encrypted_text('personal')) PARTITION BY RANGE (at);
    CREATE TABLE events_2025 PARTITION OF events FOR VALUES FROM ('2025-01-01') TO ('2026-01-01');
    CREATE TABLE events_2026 PARTITION OF events FOR VALUES FROM ('2026-01-01') TO ('2027-01-01');
    CREATE VIEW readable AS SELECT id, decrypt_field(v) AS v FROM person;
    CREATE TABLE checked (id int PRIMARY KEY, v encrypted_text CHECK (length(decrypt_field(v)) < 99));
    CREATE TABLE source (id int, v text); COPY source FROM STDIN;
{CANARY_ROWS}\\.
    INSERT INTO person SELECT id, v, encrypt_field(v, 'row ' || id), encrypt_field(v, keyset => 'tenant'), encrypt_bytes(convert_to(v, 'UTF8')),
        ARRAY[encrypt_field(v), NULL] FROM source;
    INSERT INTO nested SELECT id, v, ROW(id, v)::pair, ARRAY[v]::encrypted_text[]::secret[], ARRAY[ROW(id, v)::pair] FROM source;
    -- Common enough to be among the statistics of any other type.
    INSERT INTO nested SELECT n, 'common', ROW(7, v)::pair, ARRAY['common']::encrypted_text[]::secret[], ARRAY[ROW(7, v)::pair]
        FROM generate_series(10, 400) AS n, (SELECT encrypt_field('common') AS v OFFSET 0) AS one;
    INSERT INTO tags SELECT n, ARRAY['all', 'tag ' || n % 5]::encrypted_text[] FROM generate_series(1, 400) AS n;
    CREATE INDEX tags_gin ON tags USING gin (v);
    INSERT INTO events SELECT id, '2025-06-01'::date + 60 * id, v FROM source;
    INSERT INTO checked SELECT id, v FROM source;
    CREATE INDEX person_version ON person (key_version(v));
    CREATE STATISTICS nested_by_id ON id, (key_version(d)) FROM nested;
    DROP TABLE source;
"""
READ = """
    SELECT id, decrypt_field(v), decrypt_field(bound, 'row ' || id), decrypt_field(tenant), convert_from(decrypt_bytes(bytes), 'UTF8'), decrypt_field(l[1]), key
    FROM person ORDER BY id;
    SELECT id, d::encrypted_text::text, (c).b::text, decrypt_field(dl[1]::encrypted_text), decrypt_field((cl[1]).b) FROM nested ORDER BY id;
    SELECT id, v::text[] FROM tags ORDER BY id;
    SELECT tableoid::regclass, id, at, decrypt_field(v) FROM events ORDER BY id;
    SELECT id, v FROM readable ORDER BY id;
    SELECT id, decrypt_field(v) FROM checked ORDER BY id;
"""
# Tables that travel as files, and how to look at them.
FILES = {
    "nested": "SELECT id, d::encrypted_text::text, (c).b::text, decrypt_field(dl[1]::encrypted_text), decrypt_field((cl[1]).b) FROM {} ORDER BY id",
    "tags": "SELECT id, v::text[] FROM {} ORDER BY id",
    "events": "SELECT id, at, decrypt_field(v) FROM {} ORDER BY id",
    "big": "SELECT id, decrypt_field(v) FROM {} ORDER BY id",
}
BIG = """
    CREATE TABLE big (id int PRIMARY KEY, v encrypted_text('searchable'));
    INSERT INTO big SELECT n, 'big ' || n FROM generate_series(1, 6000) AS n;
    CREATE UNIQUE INDEX big_v ON big (v);
"""
BIG_ROTATED = "SELECT key_version(v), count(*) FROM big GROUP BY 1 ORDER BY 1"
# What of the extension's state must be the same.
STATE = """
    SELECT version, keyset, state, wrapped, reason FROM prism_crypt.data_key ORDER BY 1;
    SELECT keyset, generation, state, wrapped FROM prism_crypt.index_key ORDER BY 1, 2;
    SELECT * FROM prism_crypt.data_key_usage ORDER BY 1;
    SELECT id, kind, target, state, rows_done, percent FROM prism_crypt.progress ORDER BY 1;
    SELECT * FROM prism_crypt.audit_log ORDER BY id;
    SELECT extversion FROM pg_extension WHERE extname = 'prism_crypt';
    SELECT last_value, is_called FROM prism_crypt.data_key_version_seq;
"""
STATISTICS = """
    SELECT tablename, attname, null_frac, avg_width, n_distinct FROM pg_stats
    WHERE schemaname = 'public' AND tablename IN ('users', 'logins', 'seats', 'lists', 'person', 'nested', 'tags', 'events_2025', 'checked', 'big') ORDER BY 1, 2
"""
# Statistics that hold values: none of a column that is an encrypted value, and of what contains one only ciphertext.
VALUES = """
    SELECT count(*) FROM pg_stats AS s JOIN pg_attribute AS a ON a.attrelid = format('%I.%I', s.schemaname, s.tablename)::regclass AND a.attname = s.attname
    WHERE a.atttypid IN ('encrypted_text'::regtype, 'secret'::regtype)
      AND (most_common_vals IS NOT NULL OR histogram_bounds IS NOT NULL OR most_common_elems IS NOT NULL)
"""


class Upgrade:
    """A test class for each version to come from; the tested one is the one to come to."""

    old_major = None

    @classmethod
    def setUpClass(cls):
        upgrading.require(cls.old_major)
        cls.name = f"pg_upgrade-{cls.old_major}"
        cls.old = cls.new_cluster(f"{cls.name}-old", major=cls.old_major, preload=cls.preload)
        cls.fill()
        cls.big = cls.old.psql(BIG_ROTATED, db="clinic")
        cls.states = {db: cls.old.psql(STATE, db=db) for db in cls.databases}
        cls.rows = cls.old.psql(READ, db="clinic")
        cls.statistics = cls.old.psql(STATISTICS, db="clinic")
        cls.old.stop()
        cls.cluster = cls.new_cluster(cls.name, key=None, start=False, initdb=upgrading.initdb_options(cls.old_major), preload=cls.preload)
        # What pg_upgrade reads in the old one is ciphertext whatever output is.
        cls.old.configure({"prism_crypt.output": "'plaintext'"})
        upgrading.pg_upgrade(cls.old, cls.cluster)
        cls.cluster.start()

    databases = ("clinic", "parted", "retagged")

    @classmethod
    def fill(cls):
        old = cls.old
        old.psql("CREATE ROLE reader LOGIN; CREATE ROLE searcher LOGIN; CREATE ROLE rotator LOGIN; CREATE ROLE nobody LOGIN;"
                 "ALTER ROLE reader SET prism_crypt.output = 'plaintext'")
        cls.database("clinic", cluster=old)
        query = lambda sql: old.psql(sql, db="clinic")  # noqa: E731
        query("SELECT prism_crypt.create_keyset('tenant', 'the first tenant'); ")
        query(SCHEMA + FILL + VIEW + HOLDERS + BIG)
        query("""
            GRANT SELECT ON person, users TO reader, nobody; GRANT ALL ON users TO searcher;
            SELECT prism_crypt.grant_access('reader', 'decrypt'), prism_crypt.grant_access('searcher', 'search'), prism_crypt.grant_access('rotator', 'rotate');
            GRANT ALL ON big TO rotator;
            SELECT prism_crypt.set_rotation_interval('default', '90 days')""")
        # One rotation that is over, one that somebody paused, one that stopped by itself.
        query("SELECT prism_crypt.rotate_key(reason => 'before'); CALL prism_crypt.rotate_all(); CALL rotate_batch('person', 'bytes');"
              "REFRESH MATERIALIZED VIEW busy; SELECT prism_crypt.disable_key(1, 'it is over')")
        query("SELECT prism_crypt.rotate_key(reason => 'in the middle'); CALL rotate_batch('big', batch_size => 500, max_batches => 3);"
              "CALL rotate_batch('users', batch_size => 20, max_batches => 2);"
              "SELECT prism_crypt.pause_job(id) FROM prism_crypt.progress WHERE target = 'public.big' AND state = 'pending'")
        query("REFRESH MATERIALIZED VIEW busy; VACUUM ANALYZE")
        # Files of the old one, for the new one.
        cls.files = old.home / "files"
        cls.files.mkdir()
        paths.give_to_server(cls.files)
        for table in FILES:
            query(f"SELECT prism_crypt.export_encrypted('{table}', '{cls.files}/{table}.penc')")
        cls.database("parted", cluster=old)
        old.psql(SCHEMA + FILL + PARTITIONED + "VACUUM ANALYZE", db="parted")
        cls.database("retagged", cluster=old)
        old.psql(SCHEMA + FILL + "SELECT prism_crypt._replace_index_key('default', 'leaked'); UPDATE users SET email = reencrypt_field(email) WHERE id % 2 = 0;"
                 "UPDATE logins SET email = reencrypt_field(email) WHERE id % 3 = 0; VACUUM ANALYZE", db="retagged")

    def query(self, sql, db="clinic", **kw):
        return self.cluster.psql(sql, db=db, **kw)

    # The steps need each other: in the order of their names.

    def test_1_without_a_key(self):
        """What the extension knows is the same. Between stored values, nothing asks for a key."""
        for db in self.databases:
            self.assertEqual(self.query(STATE, db=db), self.states[db], db)
        for db, questions in (("clinic", {**QUESTIONS, **VIEW_QUESTIONS}), ("parted", {**QUESTIONS, **PARTITIONED_QUESTIONS})):
            self.assertEqual(searchable.wrong_answers(self.cluster, db, questions), [], db)
            self.assertEqual(searchable.wrong_violations(self.cluster, db), [], db)
        error = self.cluster.error("SELECT id FROM users WHERE email = 'user77@example.org'", db="clinic")
        self.assertEqual((error.sqlstate, error.message), ("55000", "no master key is set"))
        self.assertEqual(self.query("SELECT count(*) FROM pg_index WHERE NOT indisvalid"), "0")

    def test_2_statistics(self):
        now = self.query(STATISTICS)
        if paths.PG_MAJOR < 18:
            self.query("ANALYZE")
            now = self.query(STATISTICS)
        self.assertEqual(now, self.statistics)
        self.assertRegex(now, r"\nusers\|email\|0\.01\|\d+\|-0\.99")
        self.assertEqual(self.query(VALUES), "0")
        # What is kept of types that contain values is ciphertext.
        kept = self.query("SELECT s::text FROM pg_stats AS s WHERE schemaname = 'public'")
        self.assertIn("prism:v", kept)
        self.assertEqual([word for word in ("common'", "{common", "tag ", *canaries.PLAINTEXTS.values()) if word in kept], [])

    def test_3_plans_by_these_statistics(self):
        set_key(self.cluster, "main")
        self.cluster.reload()
        plan = self.query("EXPLAIN SELECT * FROM logins WHERE email = 'user80@example.org'")
        rows = int(re.search(r"rows=(\d+)", plan).group(1))
        self.assertIn("logins_hash", plan)
        self.assertEqual(rows, 4, plan)
        self.assertRegex(self.query("EXPLAIN SELECT * FROM big WHERE v = 'big 77'"), "Index Scan using big_v")

    def test_4_everything_is_there(self):
        self.assertEqual(self.query(READ) == self.rows, True)
        for db in self.databases:
            self.assertEqual(searchable.wrong_lookups(self.cluster, db), [], db)
            self.assertEqual(searchable.wrong_answers(self.cluster, db), [], db)
        self.assertEqual(self.query("SELECT array_agg(id ORDER BY id) FILTER (WHERE id < 20) FROM tags WHERE v @> ARRAY['tag 3']"), "{3,8,13,18}")
        self.assertEqual(self.query(
            "CREATE EXTENSION amcheck; SELECT count(bt_index_check(i::regclass, true)) FROM unnest(ARRAY['users_unique', 'busy_unique', 'big_v']) AS i"), "3")

    def test_5_rights(self):
        self.assertEqual(self.cluster.psql("SELECT id, v FROM person ORDER BY id", db="clinic", user="reader") == CANARY_TABLE, True)
        self.assertEqual(self.cluster.psql("SELECT id FROM users WHERE email = 'user77@example.org'", db="clinic", user="searcher"), "77")
        for role, sql in (("searcher", "SELECT decrypt_field(email) FROM users WHERE id = 77"), ("nobody", "SELECT decrypt_field(v) FROM person"),
                          ("nobody", "SELECT id FROM users WHERE email = 'user77@example.org'"), ("reader", "SELECT prism_crypt.rotate_key()")):
            self.assertEqual(self.cluster.error(sql, db="clinic", user=role).sqlstate, "42501", sql)

    def test_6_the_rotation_goes_on(self):
        jobs = "SELECT target, state FROM prism_crypt.progress WHERE state <> 'finished' ORDER BY 1"
        self.assertEqual(self.query(jobs), "public.big|paused\npublic.users|pending")
        self.assertEqual(self.query(BIG_ROTATED), self.big)
        self.assertRegex(self.big, r"3\|[1-5]\d\d\d\n4\|[1-5]\d\d\d")
        self.query("SELECT prism_crypt.resume_job(id) FROM prism_crypt.progress WHERE state = 'paused'")
        # By the role that may do no more than that.
        self.cluster.psql("CALL rotate_batch('big')", db="clinic", user="rotator")
        self.assertEqual(self.query("SELECT key_version(v), count(*) FROM big GROUP BY 1"), "4|6000")
        # A job that was left keeps its number and its place.
        self.assertEqual(self.query("SELECT count(*), sum(rows_done) FROM prism_crypt.progress WHERE target = 'public.big'"), "2|12000")
        self.query("CALL prism_crypt.rotate_all(); CALL rotate_batch('person', 'bytes'); REFRESH MATERIALIZED VIEW busy")
        self.assertEqual(self.query("SELECT location FROM prism_crypt.census() WHERE key_version IN (1, 3) AND ciphertexts > 0"), "")
        self.query("SELECT prism_crypt.destroy_key(1), prism_crypt.destroy_key(3)")

    def test_7_files_of_the_old_one(self):
        for table, read in FILES.items():
            with self.subTest(table):
                self.query(f"SELECT prism_crypt.import_encrypted('{self.files}/{table}.penc', target => '{table}_again')")
                self.assertEqual(self.query(read.format(f"{table}_again")) == self.query(read.format(table)) != "", True)

    def test_7_keys_made_afterwards(self):
        self.assertEqual(self.query("SELECT prism_crypt.rotate_key(reason => 'after')"), "5")
        self.query("CALL prism_crypt.rotate_all(); REFRESH MATERIALIZED VIEW busy")
        self.assertEqual(self.query("SELECT DISTINCT key_version(email) FROM users"), "\n5")
        self.query("CALL prism_crypt.rotate_index_key(); REFRESH MATERIALIZED VIEW busy; CALL prism_crypt.rotate_index_key()")
        self.query("CALL prism_crypt.rotate_index_key()", db="retagged")
        for db in self.databases:
            self.assertEqual(searchable.wrong_lookups(self.cluster, db), [], db)
            self.assertEqual(searchable.wrong_answers(self.cluster, db), [], db)
            self.assertEqual(searchable.wrong_violations(self.cluster, db), [], db)
        self.assertEqual(self.query("SELECT id, decrypt_field(v) FROM person ORDER BY id") == CANARY_TABLE, True)

    def test_8_dumps_of_the_new_one(self):
        """With statistics, which pg_dump takes along since 18: they show no value either, and are restored."""
        options = ["--statistics"] if paths.PG_MAJOR >= 18 else []
        self.query("ANALYZE")
        data = self.cluster.run(["pg_dump", *options], db="clinic", text=False).stdout
        self.assertEqual([name for name, secret in canaries.forms() if secret in data], [])
        self.assertNotIn(b"user77@example.org'", data)
        db = self.cluster.create_db("restored")
        self.cluster.run(["psql", "-Xq", "-v", "ON_ERROR_STOP=1", "-o", "/dev/null"], input=data, text=False, db=db)
        self.assertEqual(searchable.wrong_lookups(self.cluster, db), [])
        if options:
            self.assertEqual(self.query(STATISTICS, db=db), self.query(STATISTICS))
            self.assertEqual(self.query(VALUES, db=db), "0")

    def test_9_the_logs(self):
        for cluster in (self.old, self.cluster):
            log = cluster.log().encode()
            self.assertEqual([name for name, secret in canaries.forms() if secret in log and not name.startswith("plaintext")], [])


class UpgradeFrom14(Upgrade, Scenario):
    old_major = 14
    preload = True


class UpgradeFrom15(Upgrade, Scenario):
    old_major = 15


if __name__ == "__main__":
    unittest.main()
