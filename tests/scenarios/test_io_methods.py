"""Asynchronous I/O (PostgreSQL 18): census, rotation and large scans give the same with each io_method."""

import unittest

from harness import paths
from harness.scenario import Scenario

# Several times the shared buffers, so that it has to be read.
SCHEMA = """
    CREATE TABLE t (id int PRIMARY KEY, v encrypted_text('searchable'), pad text, shadow text);
    INSERT INTO t SELECT n, 'row ' || n % 5000, repeat('p', 500), 'row ' || n % 5000 FROM generate_series(1, 20000) AS n;
    CREATE INDEX t_v ON t (v);
    CREATE INDEX t_hash ON t USING hash (v);
    VACUUM ANALYZE t;
"""
WRONG = "SELECT count(*) FROM t WHERE v <> shadow OR decrypt_field(v) <> shadow"
SETTINGS = {
    "no look-ahead": "SET effective_io_concurrency = 0; SET maintenance_io_concurrency = 0; SET io_combine_limit = 1;",
    "much of it": "SET effective_io_concurrency = 200; SET maintenance_io_concurrency = 200;",
    "bitmap": "SET effective_io_concurrency = 50; SET enable_indexscan = off; SET enable_seqscan = off; SET enable_indexonlyscan = off;",
    "parallel": "SET debug_parallel_query = on; SET min_parallel_table_scan_size = 0; SET parallel_setup_cost = 0; SET parallel_tuple_cost = 0;",
}


class IoMethod:
    """A test class for each method."""

    method = None

    @classmethod
    def setUpClass(cls):
        if paths.PG_MAJOR < 18:
            raise unittest.SkipTest("io_method came with PostgreSQL 18")
        cls.conf = {"shared_buffers": "'2MB'", "autovacuum": "off", "max_wal_size": "'2GB'"}
        super().setUpClass()
        cls.db = cls.database("clinic")
        cls.cluster.psql(SCHEMA, db=cls.db)
        cls.cluster.configure({"io_method": f"'{cls.method}'"})
        cls.cluster.stop()
        try:
            cls.cluster.start()
        except RuntimeError as error:
            # Not in every build, and not in every container.
            if cls.method == "io_uring" and any(said in str(error) for said in ('invalid value for parameter "io_method"', "io_uring queue")):
                raise unittest.SkipTest("this server can't use io_uring") from None
            raise

    def query(self, sql):
        return self.cluster.psql(sql, db=self.db)

    def test_scans(self):
        self.assertEqual(self.query("SHOW io_method"), self.method)
        for name, settings in SETTINGS.items():
            with self.subTest(name):
                self.assertEqual(self.query(settings + WRONG), "0")
                self.assertEqual(self.query(f"{settings} SELECT count(*), sum(id) FROM t WHERE v = ANY (ARRAY(SELECT 'row ' || n FROM generate_series(1, 40) AS n))"),
                                 self.query("SELECT count(*), sum(id) FROM t WHERE shadow = ANY (ARRAY(SELECT 'row ' || n FROM generate_series(1, 40) AS n))"))
                self.assertEqual(self.query(f"{settings} SELECT sum(ciphertexts) FROM prism_crypt.census() WHERE location = 'public.t.v'"), "20000")
        # It was read, and not found in memory.
        self.assertEqual(self.query("SELECT sum(reads) > 0 FROM pg_stat_io WHERE object = 'relation' AND backend_type = 'client backend'"), "t")

    def test_rotation_and_vacuum(self):
        version = self.query("SELECT prism_crypt.rotate_key()")
        self.query("CALL rotate_batch('t', batch_size => 700, max_batches => 5); VACUUM t; CALL prism_crypt.rotate_all()")
        self.assertEqual(self.query(f"SELECT DISTINCT key_version(v) FROM t; {WRONG}"), f"{version}\n0")
        self.query("CALL prism_crypt.rotate_index_key(); CALL prism_crypt.rotate_index_key(); VACUUM (FREEZE, ANALYZE) t; REINDEX TABLE CONCURRENTLY t")
        self.assertEqual(self.query(WRONG), "0")
        self.assertEqual(self.query("CREATE EXTENSION amcheck; SELECT bt_index_check('t_v', true)"), "")
        self.assertEqual(self.query("SELECT sum(ciphertexts) FROM prism_crypt.census() WHERE location = 'public.t.v' AND key_version = " + version), "20000")

    def test_a_copied_database(self):
        """In each way to copy files, where the file system has it."""
        for method in ("copy", "clone"):
            with self.subTest(method):
                copied = self.cluster.run_psql(f"SET file_copy_method = '{method}'; CREATE DATABASE {method}_of_it TEMPLATE {self.db} STRATEGY file_copy", check=False)
                if method == "clone" and copied.returncode:
                    self.assertRegex(copied.stderr, "could not clone|invalid value for parameter")
                    continue
                self.assertEqual(copied.stderr, "")
                self.assertEqual(self.cluster.psql(WRONG, db=f"{method}_of_it"), "0")
                self.cluster.psql("SELECT prism_crypt.rotate_key(); CALL prism_crypt.rotate_all()", db=f"{method}_of_it")
                self.assertEqual(self.cluster.psql(f"SELECT count(DISTINCT key_version(v)) FROM t; {WRONG}", db=f"{method}_of_it"), "1\n0")

    def test_a_crash(self):
        """What was committed is there."""
        self.query("UPDATE t SET v = reencrypt_field(v) WHERE id % 3 = 0")
        self.cluster.kill9()
        self.cluster.start()
        self.assertEqual(self.query(WRONG), "0")


class IoSync(IoMethod, Scenario):
    method = "sync"


class IoWorker(IoMethod, Scenario):
    method = "worker"


class IoUring(IoMethod, Scenario):
    method = "io_uring"


if __name__ == "__main__":
    unittest.main()
