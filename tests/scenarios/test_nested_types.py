"""Types that are nested very deep, or very often: nothing that looks through them overflows the stack or runs for ever."""

import unittest

from harness.scenario import Scenario

# A bound on hanging: what is tested takes a few seconds.
TIMEOUT = "SET statement_timeout = '120s';"


class NestedTypes(Scenario):
    # Statements that make thousands of types.
    conf = {"log_statement": "'none'", "log_min_duration_statement": "-1", "max_locks_per_transaction": "1024"}

    def setUp(self):
        self.db = self.database(self.id().rpartition(".")[2][:60].lower())

    def ask(self, sql):
        return self.cluster.psql(TIMEOUT + sql, db=self.db)

    def test_domains_over_arrays_over_domains(self):
        """A walk by recursion would need more stack than there is."""
        levels = 20_000
        self.cluster.psql("CREATE DOMAIN d0 AS encrypted_text", db=self.db)
        for first in range(1, levels + 1, 2000):
            self.cluster.psql(f"DO $$ BEGIN FOR i IN {first}..{first + 1999} LOOP EXECUTE format('CREATE DOMAIN d%s AS d%s[]', i, i - 1); END LOOP; END $$",
                              db=self.db)
        self.assertEqual(self.ask(f"SELECT prism_crypt._is_rotatable('{{}}'::d{levels}[], NULL, NULL)"), "f")
        self.assertEqual(self.ask(f"SELECT prism_crypt._key_versions('{{}}'::d{levels}[])"), "{}")
        self.assertEqual(self.ask("SELECT prism_crypt._is_rotatable(ARRAY[ARRAY['x'::d0]::d1]::d2, NULL, NULL)"), "f")

    def test_composites_that_double_at_each_level(self):
        """c16 has 2^16 fields in all, of 17 types. (PostgreSQL itself looks at each field when it makes the type.)"""
        self.cluster.psql("CREATE TYPE c0 AS (v encrypted_text)", db=self.db)
        for level in range(1, 17):
            self.cluster.psql(f"CREATE TYPE c{level} AS (a c{level - 1}, b c{level - 1}[])", db=self.db)
        self.cluster.psql("CREATE TABLE t (id int, v c16); CREATE TABLE s (id int, v c3)", db=self.db)
        self.cluster.psql("INSERT INTO t VALUES (1, NULL), (2, ROW(NULL, '{}'))", db=self.db)
        self.cluster.psql("INSERT INTO s SELECT 1, ROW(ROW(ROW(ROW('x'), NULL), NULL), ARRAY[ROW(NULL, ARRAY[ROW(ROW('y'), NULL)::c1])::c2])::c3", db=self.db)
        self.assertEqual(self.ask("SELECT sum(ciphertexts) FROM prism_crypt.census() WHERE kind = 'table'"), "2")
        self.cluster.psql("SELECT prism_crypt.rotate_key()", db=self.db)
        self.ask("CALL prism_crypt.rotate_all()")
        self.assertEqual(self.ask("SELECT key_version, ciphertexts FROM prism_crypt.census() WHERE kind = 'table' AND ciphertexts > 0"), "2|2")


if __name__ == "__main__":
    unittest.main()
