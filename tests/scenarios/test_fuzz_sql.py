"""Random queries about encrypted columns of every kind: no crash, no inner error, no plaintext in the log."""

import unittest

import fuzz_schema
import fuzz_sql
from harness.scenario import Scenario

SEEDS = (1, 2, 3)
QUERIES = 3000


class FuzzSql(Scenario):
    preload = True
    conf = fuzz_sql.CONF

    @classmethod
    def setUpClass(cls):
        fuzz_sql.require()
        super().setUpClass()
        # Two runs at a time, each in a database of its own: rows that one has locked would keep the other waiting.
        cls.users = fuzz_schema.databases(cls.cluster, cls.database)

    def test_random_queries(self):
        for seed in SEEDS:
            smiths = [fuzz_sql.Smith(self.cluster, db, user, seed, QUERIES) for db, user in self.users.items()]
            for smith in smiths:
                self.addCleanup(smith.close)
            for smith, user in zip(smiths, self.users.values()):
                with self.subTest(seed=seed, user=user):
                    said = smith.wait(timeout=600)
                    self.assertIn(f"queries: {QUERIES}\n", said)
                    # It is worth while only if many of them run.
                    self.assertLess(fuzz_sql.error_rate(said), 0.9)
        found = list(fuzz_sql.faults(self.cluster.log()))
        self.assertEqual(found, [], "\n\n".join(found))


if __name__ == "__main__":
    unittest.main()
