"""Sequelize 6 on node-postgres, with sequelize-cli's migrations."""

import unittest

from harness import drivers
from orm_changes import Changes
from orm_checks import FIRST, Orm, OrmChecks


class Sequelize(Changes, OrmChecks, Orm):
    # It writes the values of WHERE and of bulk inserts into the statements, so that a statement log would show them.
    conf = Orm.conf | {"log_statement": "'none'", "log_min_duration_statement": "-1", "log_min_error_statement": "panic"}
    # It can read a table, as "USER-DEFINED" and "ARRAY", and makes changes without looking at what is there.
    first = FIRST | {"agrees": "the tool can't compare"}

    @classmethod
    def command(cls):
        return drivers.node("sequelize") + [str(drivers.SOURCES / "sequelize/client.js")]

    def test_changes_of_filled_tables(self):
        """sync({alter: true}) with models that fit and that don't, and a column of texts that becomes encrypted."""
        argv = drivers.node("sequelize") + [str(drivers.SOURCES / "sequelize/changes.js")]
        stored = "SELECT md5(string_agg(email::bytea::text, ' ' ORDER BY id)) FROM customers"
        before = self.cluster.psql(stored, db="shop")
        gave = self.changed(argv)
        self.assertEqual(gave, {"fits": None, "string": "42804", "text": "42804", "array": "42804", "encrypt": None})
        self.assertEqual(self.cluster.psql(stored, db="shop"), before)
        self.assert_encrypted("customers.email", "customers.tags", "plain_customers.email")


if __name__ == "__main__":
    unittest.main()
