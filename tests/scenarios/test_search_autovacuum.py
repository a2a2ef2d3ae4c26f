"""Autovacuum on a server without a key: it ends, its numbers are right, and plans by them are like those of text."""

import re
import unittest

from harness.scenario import Scenario, set_key

ROWS = 100_000
# Few values are frequent, many are rare: like addresses in a log.
SKEWED = f"SELECT n, 'user' || (power(n / {ROWS}.0, 4) * 4000)::int AS p FROM generate_series(1, {ROWS}) AS n"
SCHEMA = f"""
    CREATE TABLE big (id int, v encrypted_text('searchable'), bare encrypted_text, nulls encrypted_text('searchable'), plain text);
    INSERT INTO big SELECT n, p, CASE WHEN n % 20 = 0 THEN p END, CASE WHEN n % 4 = 0 THEN p END, p FROM ({SKEWED}) AS s;
    CREATE INDEX big_v ON big USING hash (v);
    CREATE INDEX big_plain ON big USING hash (plain);
    CREATE TABLE keys (v encrypted_text('searchable'), plain text);
    INSERT INTO keys SELECT 'user' || n, 'user' || n FROM generate_series(1, 4000) AS n;
    CREATE UNIQUE INDEX keys_v ON keys (v encrypted_text_unique_ops);
    CREATE TYPE pair AS (a int, b encrypted_text);
    CREATE DOMAIN secret AS encrypted_text('searchable');
    CREATE TYPE wrapped AS (c secret, d encrypted_text[]);
    CREATE TABLE nested (id int, tagged encrypted_text('searchable')[], untagged encrypted_text[], p pair, w wrapped, d secret, ps pair[]);
    INSERT INTO nested SELECT n, ARRAY['t' || n % 50]::text[]::encrypted_text[], ARRAY['u' || n % 50]::text[]::encrypted_text[],
        ROW(n % 50, ('p' || n % 50)::text)::pair, ROW(('d' || n % 50)::text, ARRAY[('e' || n)::text]::encrypted_text[])::wrapped, 'd' || n % 50,
        ARRAY[ROW(n % 5, ('p' || n % 5)::text)::pair] FROM generate_series(1, 2000) AS n;
    INSERT INTO nested SELECT 0 FROM generate_series(1, 2000);
    -- One ciphertext in many rows: what ANALYZE compares of these are bytes.
    CREATE TABLE copies (id int, a encrypted_text[], p pair);
    INSERT INTO copies SELECT n, k.a, k.p FROM generate_series(1, 1000) AS n
        JOIN (SELECT m, ARRAY[encrypt_field('m' || m)] AS a, ROW(m, encrypt_field('m' || m))::pair AS p FROM generate_series(0, 9) AS m) AS k ON k.m = n % 10;
    CREATE TABLE parted (id int, v encrypted_text('searchable')) PARTITION BY RANGE (id);
    CREATE TABLE parted_1 PARTITION OF parted FOR VALUES FROM (0) TO (1000);
    INSERT INTO parted SELECT n, 'v' || n % 10 FROM generate_series(1, 500) AS n;
    CREATE STATISTICS of_v ON (coalesce(v, nulls)) FROM big;
    CREATE STATISTICS of_plain ON (coalesce(plain, '')) FROM big;
"""
TABLES = ("big", "keys", "nested", "copies", "parted_1")
STATS = "SELECT n_distinct::float8, null_frac::float8, avg_width, coalesce(array_length(most_common_freqs, 1), 0) FROM pg_stats WHERE tablename = '{}' AND attname = '{}'"


class SearchAutovacuum(Scenario):
    conf = {"autovacuum": "off", "autovacuum_naptime": "'1s'", "autovacuum_vacuum_threshold": "5", "autovacuum_vacuum_insert_threshold": "5",
            "autovacuum_analyze_threshold": "5", "autovacuum_analyze_scale_factor": "0", "log_autovacuum_min_duration": "0", "default_statistics_target": "100"}

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.db = cls.database("main")
        cls.cluster.psql(SCHEMA, db=cls.db)
        set_key(cls.cluster, None)
        cls.cluster.configure({"autovacuum": "on"})
        cls.cluster.restart()
        cls.log_before = len(cls.cluster.log())
        cls.wait_for_analyze(cls, "IS NOT NULL")

    def wait_for_analyze(self, condition):
        names = ", ".join(f"'{t}'" for t in TABLES)
        self.cluster.wait_for(f"SELECT count(*) FROM pg_stat_user_tables WHERE relname IN ({names}) AND last_autoanalyze {condition}",
                              str(len(TABLES)), timeout=180, db=self.db)

    def stats(self, table, column):
        values = self.cluster.psql(STATS.format(table, column), db=self.db).split("|")
        self.assertEqual(len(values), 4, f"no statistics of {table}.{column}")
        return float(values[0]), float(values[1]), int(values[2]), int(values[3])

    def distinct(self, table, column, rows):
        n_distinct = self.stats(table, column)[0]
        return -n_distinct * rows if n_distinct < 0 else n_distinct

    def estimate(self, sql, before=""):
        plan = self.cluster.psql(f"{before}EXPLAIN {sql}", db=self.db)
        return int(re.search(r"rows=(\d+)", plan).group(1))

    def test_no_errors(self):
        """Nor was the key there."""
        log = self.cluster.log()[self.log_before:]
        for table in TABLES:
            self.assertIn(f'automatic analyze of table "main.public.{table}"', log)
            self.assertIn(f'automatic vacuum of table "main.public.{table}"', log)
        self.assertNotIn("ERROR:", log)
        self.assertEqual(self.cluster.error("SELECT v = 'x' FROM big", db=self.db).message, "no master key is set")

    def test_distinct_values(self):
        self.assertEqual(self.stats("big", "plain")[1], 0)
        plain = self.distinct("big", "plain", ROWS)
        self.assertGreater(plain, 2000)
        self.assertLess(abs(self.distinct("big", "v", ROWS) / plain - 1), 0.25)
        self.assertLess(abs(self.distinct("big", "nulls", ROWS) / plain - 1), 0.5)
        self.assertEqual(self.stats("keys", "v")[0], -1)
        self.assertEqual(self.distinct("parted_1", "v", 500), 10)
        self.assertEqual(self.distinct("nested", "d", 4000), 50)
        # Nothing tells of values without a tag; PostgreSQL then assumes 200.
        self.assertEqual(self.stats("big", "bare")[0], 0)

    def test_shares_of_nulls(self):
        self.assertLess(abs(self.stats("big", "nulls")[1] - 0.75), 0.02)
        self.assertLess(abs(self.stats("big", "bare")[1] - 0.95), 0.02)
        self.assertEqual(self.stats("big", "v")[1], 0)
        for column in ("tagged", "untagged", "p", "w", "d", "ps"):
            self.assertEqual(self.stats("nested", column)[1], 0.5, column)

    def test_no_values_are_kept(self):
        for column in ("v", "nulls", "bare"):
            self.assertEqual(self.stats("big", column)[3], 0, column)
        self.assertEqual(self.cluster.psql("SELECT count(*) FROM pg_stats WHERE schemaname = 'public' AND attname IN ('v', 'nulls', 'bare', 'd') "
                                           "AND num_nonnulls(most_common_vals::text, histogram_bounds::text, correlation) > 0", db=self.db), "0")
        self.assertEqual(self.cluster.psql("SELECT count(*) FROM pg_stats_ext_exprs WHERE statistics_name = 'of_v' "
                                           "AND num_nonnulls(most_common_vals::text, histogram_bounds::text, correlation) > 0", db=self.db), "0")
        # Of arrays and rows PostgreSQL keeps common ones: ciphertext.
        kept = self.cluster.psql("SELECT most_common_vals::text FROM pg_stats WHERE tablename = 'copies' AND attname = 'a'", db=self.db)
        self.assertIn("prism:v1:", kept)

    def test_arrays_and_rows(self):
        self.assertEqual(self.distinct("copies", "a", 1000), 10)
        self.assertEqual(self.distinct("copies", "p", 1000), 10)
        self.assertEqual(self.distinct("nested", "tagged", 4000), 50)
        # Of values without a tag, two are equal where their bytes are.
        self.assertEqual(self.stats("nested", "untagged")[0], -0.5)

    def test_expression_statistics(self):
        """As of text, whatever PostgreSQL makes of it."""
        of = "SELECT n_distinct FROM pg_stats_ext_exprs WHERE statistics_name = "
        self.assertEqual(self.cluster.psql(of + "'of_v'", db=self.db), self.cluster.psql(of + "'of_plain'", db=self.db))

    def test_estimates_of_joins_need_no_key(self):
        for sql, share in (("SELECT FROM big AS b JOIN keys AS k ON k.{0} = b.{0}", 0.5), ("SELECT {0} FROM big GROUP BY {0}", 0.5),
                           ("SELECT FROM big WHERE {0} = (SELECT {0} FROM keys LIMIT 1)", 0.5), ("SELECT FROM keys WHERE {0} IN (SELECT {0} FROM big)", 1)):
            with self.subTest(sql):
                estimate, right = self.estimate(sql.format("v")), self.estimate(sql.format("plain"))
                self.assertLessEqual(abs(estimate / right - 1), share, f"{estimate}, of text {right}")

    def test_estimates_of_constants(self):
        """As many as an average value has; text knows the common ones."""
        key = f"SET prism_crypt.master_key_file = '{self.cluster.key_file}';"
        average = ROWS / self.distinct("big", "v", ROWS)
        for sql in ("SELECT FROM big WHERE v = 'user3'", "SELECT FROM big WHERE v = 'user3'::text", "SELECT FROM big WHERE v = 'nobody'"):
            self.assertLess(abs(self.estimate(sql, key) / average - 1), 0.1, sql)
        self.assertLess(abs(self.estimate("SELECT FROM big WHERE v = ANY (ARRAY['a', 'b', 'c'])", key) / (3 * average) - 1), 0.2)
        self.assertLess(abs(self.estimate("SELECT FROM big WHERE v <> 'user3'", key) / ROWS - 1), 0.01)
        plan = self.cluster.psql(f"{key} EXPLAIN SELECT FROM big WHERE v = 'user3'", db=self.db)
        self.assertIn("big_v", plan)
        self.assertEqual(self.cluster.psql(f"{key} EXPLAIN (COSTS OFF) SELECT FROM keys WHERE v = 'user3'", db=self.db).splitlines()[0], "Index Only Scan using keys_v on keys")

    def test_after_changes(self):
        """Again, over dead rows and rows of another ciphertext."""
        log_before = len(self.cluster.log())
        now = self.cluster.psql("SELECT now()", db=self.db)
        for table in TABLES:
            self.cluster.psql(f"UPDATE {table} SET {'plain = plain' if table in ('big', 'keys') else 'id = id'}; DELETE FROM {table} WHERE ctid = '(0,1)'", db=self.db)
        self.wait_for_analyze(f"> '{now}'")
        self.assertNotIn("ERROR:", self.cluster.log()[log_before:])
        self.assertEqual(self.cluster.psql("SELECT count(*) FROM big AS b JOIN keys AS k ON k.v = b.v WHERE b.id = 50000", db=self.db), "1")


class SearchAutovacuumUntracked(SearchAutovacuum):
    """What a process is doing is not shown then, also not to itself."""

    conf = {**SearchAutovacuum.conf, "track_activities": "off"}


if __name__ == "__main__":
    unittest.main()
