"""pgx for Go: its pool, which prepares every statement, its rows, COPY in binary and batches."""

import unittest

from harness import drivers
from orm_checks import FIRST, Orm, OrmChecks


class Pgx(OrmChecks, Orm):
    # A driver, without models to compare. "copied tags": those of "third", which came by COPY as ["email"]. "batched": labels of the
    # customers with the e-mails "unicode" and "email", by one batch.
    first = FIRST | {"agrees": "the tool can't compare", "copied tags": ["email"], "batched": ["fourth", "first"]}

    @classmethod
    def command(cls):
        return drivers.pgx()


if __name__ == "__main__":
    unittest.main()
