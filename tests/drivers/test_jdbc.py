"""pgJDBC with plain JDBC, whose strings are varchar, or untyped with stringtype=unspecified."""

import unittest

from harness import drivers
from orm_checks import FIRST, Orm, OrmChecks


class JdbcProgram(OrmChecks):
    parameters = ""
    # It has no sockets of files.
    conf = Orm.conf | {"listen_addresses": "'127.0.0.1'"}
    first = FIRST | {
        # JDBC has no models.
        "agrees": "the tool can't compare",
        "returned": "tax id", "listed_by_array": ["fourth", "second"], "fetched": ["unicode", "phone"], "updated": ["third"], "prepared": 4,
        "announced": ["text", "java.lang.String", "_text", "java.sql.Array"],
        "introspected": {
            "id": ["int8", "BIGINT", "NO"], "label": ["text", "VARCHAR", "YES"], "email": ["encrypted_text", "OTHER", "NO"],
            "visits": ["int4", "INTEGER", "YES"], "tags": ["_encrypted_text", "ARRAY", "YES"],
            "customers_pkey": "id", "customers_email_key": "email"},
    }

    @classmethod
    def command(cls):
        home = drivers.SOURCES / "jdbc"
        return drivers.java() + [f"-Dmigrations={home}", str(home / "Customers.java"), "127.0.0.1", cls.parameters]


class Jdbc(JdbcProgram, Orm):
    pass


class JdbcUntyped(JdbcProgram, Orm):
    parameters = "stringtype=unspecified"


class JdbcRewritten(JdbcProgram, Orm):
    """Batches become inserts of many rows."""
    parameters = "reWriteBatchedInserts=true"


if __name__ == "__main__":
    unittest.main()
