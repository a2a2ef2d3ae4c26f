"""Rails' Active Record, with its migrations and structure.sql."""

import unittest

from harness import drivers
from orm_checks import FIRST, Orm, OrmChecks


class Rails(OrmChecks, Orm):
    # insert_all() and upsert_all() write values into the statement.
    conf = Orm.conf | {"log_statement": "none", "log_min_duration_statement": "-1", "log_min_error_statement": "panic"}
    first = FIRST | {
        "tagged_by_parameter": ["second"], "changed": ["tags"], "warnings": [],
        "schema_rb": ['# Could not dump table "customers" because of following StandardError', 'create_table "plain_customers"',
                      '# Could not dump table "subscribers" because of following StandardError'],
        "converted": [["text", False, ["phone"]], ["encrypted_text(email,searchable)", False, ["phone"]]] * 2,
    }

    @classmethod
    def command(cls):
        return drivers.ruby() + ["--backtrace-limit=4", str(drivers.SOURCES / "rails/client.rb")]


if __name__ == "__main__":
    unittest.main()
