"""A table with very many partitions, with the server's usual number of locks. The time limit is for a growth that is not linear."""

from harness.scenario import Scenario

PARTITIONS = 2000


class RotationPartitions(Scenario):
    # As initdb makes it, which is too few for all partitions at once.
    conf = {"max_locks_per_transaction": "64", "max_connections": "30", "log_statement": "'none'", "log_min_duration_statement": "-1"}

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.db = cls.database("partitions")
        # Each in a transaction of its own.
        cls.query(f"""
            CREATE TABLE p (id int, v encrypted_text, other text) PARTITION BY LIST (id);
            SELECT format('CREATE TABLE p%s PARTITION OF p FOR VALUES IN (%s)', g, g) FROM generate_series(1, {PARTITIONS}) AS g \\gexec
            INSERT INTO p SELECT 1 + g % 7 * 250, encrypt_field('row ' || g), 'x' FROM generate_series(1, 3500) AS g;
            CREATE TABLE alone (id int, v encrypted_text);
            INSERT INTO alone SELECT g, 'alone' FROM generate_series(1, 10) AS g""")

    @classmethod
    def query(cls, sql):
        return cls.cluster.psql(sql, db=cls.db)

    def limited(self, sql):
        result = self.cluster.run_psql(f"SET statement_timeout = '120s'; {sql}", db=self.db, check=False, verbose=True)
        self.assertEqual((0, ""), (result.returncode, "\n".join(
            line for line in result.stderr.splitlines() if "ERROR" in line or "WARNING" in line)))
        return result.stdout.rstrip("\n")

    def versions(self):
        return self.query("SELECT count(*), count(DISTINCT key_version(v)), count(DISTINCT tableoid), min(key_version(v)) FROM p")

    def test_one_call(self):
        active = self.query("SELECT prism_crypt.rotate_key()")
        self.limited("CALL rotate_batch('p')")
        self.assertEqual(f"3500|1|7|{active}", self.versions())
        parts = self.query("SELECT state, rows_done, (SELECT count(*) FROM prism_crypt.job_part AS o WHERE o.job = p.id) FROM prism_crypt.progress AS p ORDER BY id DESC LIMIT 1")
        self.assertEqual(f"finished|3500|{PARTITIONS}", parts)
        # Nothing is due; and in steps.
        self.limited("CALL rotate_batch('p', 'v')")
        active = self.query("SELECT prism_crypt.rotate_key()")
        self.limited("CALL rotate_batch('p', batch_size => 100, max_batches => 3)")
        self.limited("CALL rotate_batch('p', batch_size => 100)")
        self.assertEqual(f"3500|1|7|{active}", self.versions())
        self.assertEqual("finished|3500", self.query("SELECT state, rows_done FROM prism_crypt.progress ORDER BY id DESC LIMIT 1"))

    def test_all_tables(self):
        active = self.query("SELECT prism_crypt.rotate_key()")
        self.limited("CALL prism_crypt.rotate_all()")
        self.assertEqual(f"3500|1|7|{active}", self.versions())
        self.assertEqual(active, self.query("SELECT DISTINCT key_version(v) FROM alone"))

    def test_plan(self):
        self.query("SELECT prism_crypt.rotate_key()")
        # In the same transaction: how many locks it leaves, and what it leaves in the catalogs.
        plan = self.limited("""
            BEGIN;
            CREATE TEMP TABLE plan AS SELECT * FROM prism_crypt.plan_rotation();
            SELECT count(*), count(*) FILTER (WHERE rows_due > 0), sum(rows_due), count(*) FILTER (WHERE blockers <> '{}') FROM plan;
            SELECT count(*) FROM pg_locks WHERE pid = pg_backend_pid() AND relation IN (SELECT oid FROM pg_class WHERE relname LIKE 'p%' AND relnamespace = 'public'::regnamespace);
            SELECT count(*) FROM pg_class WHERE relname = 'prism_crypt_sample';
            COMMIT""")
        self.assertEqual([f"{PARTITIONS + 1}|8|3510|0", "0", "0"], plan.splitlines())

    def test_an_emergency(self):
        self.assertEqual("default", self.limited("SELECT keyset FROM prism_crypt.emergency_rotation('growth')"))
        self.assertEqual(f"{PARTITIONS}\n1", self.query(
            "SELECT count(*) FROM prism_crypt.job_part WHERE job IN (SELECT id FROM prism_crypt.job WHERE state = 'pending') GROUP BY job ORDER BY 1 DESC"))
        self.limited("CALL prism_crypt.rotate_all()")

    def test_it_can_be_cancelled(self):
        """While it looks through the catalogs, and through the partitions."""
        self.query("SELECT prism_crypt.rotate_key()")
        for call in ("CALL rotate_batch('p')", "SELECT count(*) FROM prism_crypt.plan_rotation()"):
            for delay in ("1ms", "20ms"):
                with self.subTest(call=call, delay=delay):
                    error = self.cluster.run_psql(f"SET statement_timeout = '{delay}'; {call}", db=self.db, check=False, verbose=True)
                    self.assertIn("57014", error.stderr)
        self.limited("CALL rotate_batch('p')")
