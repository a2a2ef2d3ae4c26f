"""No nonce is given twice, by backends that all were forked from a server that had the library loaded."""

import unittest

from harness.scenario import Scenario

# Format, flags, class and key version take 7 bytes; the nonce is the next 12.
NONCE = "substring({} FROM 8 FOR 12)"
# Bytes of a fixed layout: one key version, one class.
PREFIX = "substring({} FROM 1 FOR 7)"


class PreloadNonces(Scenario):
    preload = True
    # A million values need no log and no speed of the disk.
    conf = {"log_statement": "'none'", "log_min_duration_statement": "-1", "wal_level": "'minimal'", "max_wal_senders": "0", "max_wal_size": "'4GB'",
            "shared_buffers": "'256MB'"}

    def setUp(self):
        self.db = self.database(self.id().rpartition(".")[2][:60].lower())
        self.cluster.psql("CREATE UNLOGGED TABLE nonces (backend int, nonce bytea)", db=self.db)

    def counts(self):
        return [int(n) for n in self.cluster.psql("SELECT count(*), count(DISTINCT nonce), count(DISTINCT backend) FROM nonces", db=self.db).split("|")]

    def test_a_million_values_of_eight_backends(self):
        sessions = [self.session(self.db) for _ in range(8)]
        self.assertEqual(len({s.run("SELECT pg_backend_pid();") for s in sessions}), 8)
        for session in sessions:
            # COPY, INSERT, functions, casts: every way that seals.
            session.start(f"""
                CREATE TEMP TABLE t (v encrypted_text, c encrypted_text('email'));
                INSERT INTO t SELECT encrypt_field('x'), encrypt_field('y') FROM generate_series(1, 30000);
                INSERT INTO t SELECT 'x'::text, 'y'::text::encrypted_text FROM generate_series(1, 25000);
                INSERT INTO nonces SELECT pg_backend_pid(), {NONCE.format('encrypted_text_send(v)')} FROM t;
                INSERT INTO nonces SELECT pg_backend_pid(), {NONCE.format('encrypted_text_send(c)')} FROM t;
                INSERT INTO nonces SELECT pg_backend_pid(), {NONCE.format("encrypt_bytes('z')")} FROM generate_series(1, 16000);""")
        for session in sessions:
            session.wait(300)
        # 8 backends of 2 columns of 55,000 rows and 16,000 more.
        total, distinct, backends = self.counts()
        self.assertEqual((total, backends), (8 * (2 * 55_000 + 16_000), 8))
        self.assertEqual(distinct, total)

    def test_backends_that_start_afresh(self):
        """Each one's first nonces: a generator that the server had seeded before the fork would repeat them."""
        insert = f"INSERT INTO nonces SELECT pg_backend_pid(), {NONCE.format('encrypted_text_send(encrypt_field($$x$$))')} FROM generate_series(1, 3)"
        (self.cluster.home / "fresh.sql").write_text(insert + ";\n")
        # A new connection for each transaction.
        self.cluster.run(["pgbench", "-n", "-C", "-c", "8", "-j", "2", "-t", "50", "-f", self.cluster.home / "fresh.sql"], db=self.db)
        total, distinct, _ = self.counts()
        self.assertEqual(total, 8 * 50 * 3)
        self.assertEqual(distinct, total)

    def test_parallel_workers(self):
        self.cluster.psql("CREATE TABLE many AS SELECT g FROM generate_series(1, 200000) AS g; ANALYZE many; ALTER TABLE many SET (parallel_workers = 4)", db=self.db)
        settings = "SET min_parallel_table_scan_size = 0; SET parallel_setup_cost = 0; SET parallel_tuple_cost = 0; SET max_parallel_workers_per_gather = 4;"
        query = f"SELECT {NONCE.format('encrypted_text_send(encrypt_field($$x$$))')} AS nonce FROM many"
        plan = self.cluster.psql(f"{settings} EXPLAIN (ANALYZE, VERBOSE) CREATE TABLE n AS {query}", db=self.db)
        self.assertRegex(plan, r"Workers Launched: [1-9]")
        self.assertRegex(plan, r"Parallel Seq Scan on .*\n\s+Output: .*encrypt_field")
        self.cluster.psql(f"INSERT INTO nonces (nonce) TABLE n", db=self.db)
        total, distinct, _ = self.counts()
        self.assertEqual((total, distinct), (200_000, 200_000))

    def test_the_layout_that_these_tests_read(self):
        rows = self.cluster.psql(
            f"SELECT count(DISTINCT {PREFIX.format('b')}), count(DISTINCT {NONCE.format('b')}), min(length(b)), max(length(b)) "
            "FROM (SELECT encrypted_text_send(encrypt_field('x')) AS b FROM generate_series(1, 100)) AS s", db=self.db)
        self.assertEqual(rows, "1|100|36|36")


if __name__ == "__main__":
    unittest.main()
