"""Django on psycopg 3, with the field of docs/recipes-clients.md: models, migrations and the test runner."""

import unittest

from harness import drivers
from orm_checks import FIRST, Orm, OrmChecks


class Django(OrmChecks, Orm):
    first = FIRST | {
        "expressions": {
            "max": "phone", "joined": True, "lower": True, "starting": ["fourth"], "containing": ["second"], "ordered": "second",
            "unordered": "0A000", "updated": [3, False], "overlapping": ["second"], "equal": ["second"], "distinct": 4, "element": ["second"]},
        "unnested": [True, "email", "name", 2],
        # Django's ALTER COLUMN has no USING, without which nothing is decrypted.
        "encrypted_later": ["encrypted_text(email,searchable)", "first", "42804"],
        # By Django's test runner, in a database that it made from the template.
        "tested": ["test_shop"],
    }

    @classmethod
    def command(cls):
        return ["env", f"PYTHONPATH={drivers.SOURCES}", *drivers.python(), str(drivers.SOURCES / "django/orm.py")]


if __name__ == "__main__":
    unittest.main()
