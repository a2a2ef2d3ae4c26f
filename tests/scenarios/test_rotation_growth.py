"""A rotation makes room for itself: what its first rows leave behind, the next ones of the same block take."""

from harness.scenario import Scenario

ROWS = 20000


class RotationGrowth(Scenario):
    conf = {"autovacuum": "off"}

    def setUp(self):
        self.db = self.database(self.id().rpartition(".")[2][:60].lower())
        self.query(f"""
            CREATE TABLE t (id int PRIMARY KEY, v encrypted_text);
            INSERT INTO t SELECT g, encrypt_field('row ' || g) FROM generate_series(1, {ROWS}) AS g;
            VACUUM ANALYZE t""")
        self.active = self.query("SELECT prism_crypt.rotate_key()")

    def query(self, sql):
        return self.cluster.psql(sql, db=self.db)

    def growth(self, call):
        before = int(self.query("SELECT pg_relation_size('t')"))
        self.query(call)
        same = self.query(f"SELECT count(*) FILTER (WHERE key_version(v) = {self.active} AND v::text = 'row ' || id) FROM t")
        self.assertEqual(int(same), ROWS)
        return int(self.query("SELECT pg_relation_size('t')")) / before

    def test_a_rotation_does_not_double_the_table(self):
        self.assertLess(self.growth("CALL rotate_batch('t')"), 1.5)

    def test_a_plain_update_does(self):
        self.assertGreater(self.growth("UPDATE t SET v = reencrypt_field(v)"), 1.8)

    def test_with_a_snapshot_that_holds_dead_rows(self):
        with self.session(self.db) as reader:
            reader.run("BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT count(*) FROM t;")
            # Nothing can be reused, and yet all is moved.
            self.assertGreater(self.growth("CALL rotate_batch('t')"), 1.8)
            self.assertEqual(int(reader.run(f"SELECT count(*) FROM t WHERE key_version(v) < {self.active};").split()[-1]), ROWS)
