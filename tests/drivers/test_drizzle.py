"""Drizzle on node-postgres, with drizzle-kit's migrations."""

import unittest

from harness import drivers
from orm_changes import Changes
from orm_checks import Orm, OrmChecks


class Drizzle(Changes, OrmChecks, Orm):
    @classmethod
    def command(cls):
        return drivers.node("drizzle") + [str(drivers.SOURCES / "drizzle/client.js")]

    def test_push_to_filled_tables(self):
        argv = drivers.node("drizzle") + [str(drivers.SOURCES / "drizzle/changes.js")]
        self.assertEqual(self.changed(argv), {"fits": None, "text": "42804", "forcedText": "42804", "varchar": "42804", "forcedVarchar": "42804"})
        self.assert_encrypted("customers.email", "customers.tags")


if __name__ == "__main__":
    unittest.main()
