"""UPDATE and DELETE reach a subscriber that has neither key nor key tables, by REPLICA IDENTITY FULL on searchable columns."""

import unittest

from harness import paths
from harness.scenario import Scenario

# No primary key: the whole row identifies it, and email is what tells these apart.
TABLES = """
    CREATE TABLE t (email encrypted_text('email', 'searchable'), n int, plain text);
    CREATE TABLE lists (v encrypted_text('searchable')[], n int);
    CREATE TYPE pair AS (a int, b encrypted_text);
    CREATE TABLE pairs (v pair, n int);
    CREATE TABLE parts (email encrypted_text('searchable'), n int) PARTITION BY HASH (email);
    CREATE TABLE parts_0 PARTITION OF parts FOR VALUES WITH (MODULUS 2, REMAINDER 0);
    CREATE TABLE parts_1 PARTITION OF parts FOR VALUES WITH (MODULUS 2, REMAINDER 1);
"""
FULL = "".join(f"ALTER TABLE {t} REPLICA IDENTITY FULL;" for t in ("t", "lists", "pairs", "parts_0", "parts_1"))
FILL = """
    INSERT INTO t SELECT p, 0, p FROM (SELECT CASE WHEN n % 40 > 0 THEN 'user' || n END AS p FROM generate_series(1, 200) AS n) AS s;
    INSERT INTO lists SELECT ARRAY['a' || n, 'b'], 0 FROM generate_series(1, 20) AS n;
    INSERT INTO pairs SELECT ROW(n, encrypt_field('p' || n))::pair, 0 FROM generate_series(1, 20) AS n;
    INSERT INTO parts SELECT 'user' || n, 0 FROM generate_series(1, 40) AS n;
"""
CHANGE = """
    UPDATE t SET n = 1 WHERE plain LIKE 'user1_';
    UPDATE t SET email = 'changed', n = 2 WHERE plain = 'user30';
    DELETE FROM t WHERE plain LIKE 'user5_' OR plain IS NULL;
    UPDATE lists SET n = 1 WHERE v = ARRAY['a7', 'b']::encrypted_text[];
    DELETE FROM lists WHERE v = ARRAY['a9', 'b']::encrypted_text[];
    UPDATE pairs SET n = 1 WHERE (v).a = 3;
    DELETE FROM pairs WHERE (v).a = 4;
    UPDATE parts SET n = 1 WHERE email = 'user7';
    UPDATE parts SET email = 'other' || n WHERE email = ANY (ARRAY['user8', 'user9', 'user10']);
    DELETE FROM parts WHERE email IN ('user20', 'user21');
"""
# Ciphertext, so that both sides can tell it without a key.
ROWS = {
    "t": "SELECT email::bytea, n, plain FROM t ORDER BY 1, 2, 3",
    "lists": "SELECT v::text, n FROM lists ORDER BY 1, 2",
    "pairs": "SELECT v::text, n FROM pairs ORDER BY 1, 2",
    "parts": "SELECT email::bytea, n FROM parts ORDER BY 1, 2",
}

# In 17 and 18 a subscriber looks for rows with a null in hash indexes, which have none, and skips the change; of text, too. It does not use partial
# indexes for that.
NOT_NULL = " WHERE {} IS NOT NULL" if paths.PG_MAJOR >= 17 else ""


class SearchLogical(Scenario):
    conf = {"wal_level": "'logical'"}

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.keyless = cls.new_cluster("search_logical-keyless", key=None)

    def setUp(self):
        self.db = self.database(self.id().rpartition(".")[2][:60].lower())
        self.cluster.psql(TABLES + FULL + FILL + "CREATE PUBLICATION p FOR TABLE t, lists, pairs, parts", db=self.db)
        self.other = self.keyless

    def subscribe(self, other, before="", binary=False):
        self.other = other
        other.create_db(self.db)
        other.psql(f"CREATE EXTENSION prism_crypt; {TABLES} {before}", db=self.db)
        other.psql(
            f"CREATE SUBSCRIPTION s CONNECTION 'host={self.cluster.socket} port={self.cluster.port} dbname={self.db} user=postgres' "
            f"PUBLICATION p WITH (slot_name = '{self.db}', binary = {binary})", db=self.db)
        self.addCleanup(other.psql, "DROP SUBSCRIPTION s", db=self.db)
        other.wait_for("SELECT bool_and(srsubstate = 'r') FROM pg_subscription_rel", db=self.db, timeout=60)

    def assert_same(self, tables=tuple(ROWS)):
        lsn = self.cluster.psql("SELECT pg_current_wal_lsn()")
        self.cluster.wait_for(f"SELECT confirmed_flush_lsn >= '{lsn}' FROM pg_replication_slots WHERE slot_name = '{self.db}'", timeout=60)
        for table in tables:
            self.assertEqual(self.other.psql(ROWS[table], db=self.db), self.cluster.psql(ROWS[table], db=self.db), table)
        self.assertEqual(self.other.psql("SELECT bool_and(apply_error_count = 0) FROM pg_stat_subscription_stats", db=self.db), "t")

    def replicates(self):
        self.assert_same()
        self.cluster.psql(CHANGE, db=self.db)
        self.assert_same()
        self.assertEqual(self.other.psql("SELECT count(*) FILTER (WHERE n = 1), count(*) FILTER (WHERE n = 2), count(*) FROM t", db=self.db), "10|1|185")
        # And again, of what replication wrote.
        self.cluster.psql("UPDATE t SET n = n + 10; UPDATE parts SET n = n + 10; DELETE FROM t WHERE n = 12", db=self.db)
        self.assert_same()
        self.assertEqual(self.other.psql("SELECT count(*), min(n) FROM t", db=self.db), "184|10")

    def test_no_index(self):
        self.subscribe(self.keyless)
        self.assertEqual(self.keyless.psql("SELECT count(*) FROM prism_crypt.data_key", db=self.db), "0")
        self.replicates()

    def test_no_index_binary(self):
        self.subscribe(self.keyless, binary=True)
        self.replicates()

    def test_hash_index(self):
        self.subscribe(self.keyless, f"CREATE INDEX ON t USING hash (email){NOT_NULL.format('email')}; CREATE INDEX ON parts USING hash (email){NOT_NULL.format('email')}; "
                       f"CREATE INDEX ON lists USING hash (v){NOT_NULL.format('v')};")
        self.replicates()
        plan = "SET enable_seqscan = off; SET enable_hashjoin = off; SET enable_mergejoin = off;"
        self.assertEqual(
            self.keyless.psql(f"{plan} SELECT count(*) FROM t AS a JOIN t AS b ON a.email = b.email WHERE a.plain LIKE 'user1_'", db=self.db), "10")

    def test_unique_index_as_identity(self):
        """A row is found by the unique index over the encrypted column, on both sides."""
        unique = "ALTER TABLE t ALTER email SET NOT NULL; ALTER TABLE t ADD CONSTRAINT t_unique UNIQUE (email); ALTER TABLE t REPLICA IDENTITY USING INDEX t_unique;"
        self.cluster.psql(f"DELETE FROM t WHERE email IS NULL; {unique}", db=self.db)
        self.subscribe(self.keyless, unique)
        self.assert_same()
        self.cluster.psql("UPDATE t SET n = 1 WHERE email = 'user12'; UPDATE t SET email = 'moved' WHERE email = 'user13'; DELETE FROM t WHERE email = 'user14'", db=self.db)
        self.assert_same()
        self.assertEqual(self.keyless.psql("SELECT count(*), sum(n) FROM t", db=self.db), "194|1")
        # It is enforced there too, without a key.
        error = self.keyless.error("INSERT INTO t SELECT email FROM t LIMIT 1", db=self.db)
        self.assertEqual(error.sqlstate, "23505")

    def test_with_the_key(self):
        with_key = self.new_cluster("search_logical-key")
        self.subscribe(with_key, f"CREATE INDEX ON t USING hash (email){NOT_NULL.format('email')};")
        dump = self.cluster.run(["pg_dump", "--data-only", *(f"--table=prism_crypt.{t}" for t in ("keyset", "data_key", "index_key"))], db=self.db).stdout
        with_key.psql(dump, db=self.db)
        self.replicates()
        self.assertEqual(with_key.psql("SET enable_seqscan = off; SELECT n, plain FROM t WHERE email = 'user12'", db=self.db), "11|user12")
        self.assertEqual(with_key.psql("SELECT count(*) FROM t WHERE email = ANY (ARRAY['user12', 'user50', 'user60'])", db=self.db), "2")

    def test_a_half_rotated_index_key(self):
        """Rows are found by the tags that they have; those that are tagged anew arrive as any update."""
        self.cluster.psql("DROP TABLE parts", db=self.db)
        self.subscribe(self.keyless, "DROP TABLE parts;")
        for change in ("SELECT prism_crypt._replace_index_key('default', NULL); UPDATE t SET email = reencrypt_field(email) WHERE plain LIKE '%1'",
                       "UPDATE t SET n = 5; DELETE FROM t WHERE plain LIKE '%2'", "UPDATE t SET n = 6; UPDATE lists SET n = 2",
                       "CALL prism_crypt.rotate_all()", "DELETE FROM t WHERE plain LIKE '%3'"):
            self.cluster.psql(change, db=self.db)
            self.assert_same(tables=("t", "lists", "pairs"))

    def test_a_column_that_is_not_searchable(self):
        """What is looked for is a copy of a ciphertext, so no key is needed either."""
        bare = "CREATE TABLE bare (v encrypted_text, a encrypted_text[], n int); ALTER TABLE bare REPLICA IDENTITY FULL;"
        self.cluster.psql(bare + "ALTER PUBLICATION p ADD TABLE bare; INSERT INTO bare SELECT 'v' || n, ARRAY['a' || n], 0 FROM generate_series(1, 50) AS n", db=self.db)
        self.subscribe(self.keyless, bare)
        self.cluster.psql("UPDATE bare SET n = 1 WHERE v = 'v7'; DELETE FROM bare WHERE v = 'v8'; UPDATE bare SET v = 'v9' WHERE n = 1", db=self.db)
        self.assert_same()
        rows = "SELECT v::bytea, a::text, n FROM bare ORDER BY 1"
        self.assertEqual(self.keyless.psql(rows, db=self.db), self.cluster.psql(rows, db=self.db))
        self.assertEqual(self.keyless.psql("SELECT count(*), sum(n) FROM bare", db=self.db), "49|1")


if __name__ == "__main__":
    unittest.main()
