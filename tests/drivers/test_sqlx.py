"""sqlx for Rust: its migrations, its mapping of rows to structs, its query builder and its pool."""

import unittest

from harness import drivers
from orm_checks import Orm, OrmChecks


class Sqlx(OrmChecks, Orm):
    @classmethod
    def command(cls):
        return drivers.sqlx()


if __name__ == "__main__":
    unittest.main()
