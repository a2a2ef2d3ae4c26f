"""
tokio-postgres, which reads and writes binary: parameters of the type that the server asks for, and declared as `text` and as
`varchar`, as JDBC, Npgsql and many ORMs do it.
"""

import unittest

from driver_checks import Driver, DriverChecks
from harness import drivers


class TokioPostgres(DriverChecks, Driver):
    binary_copy_out = True

    @classmethod
    def command(cls):
        return drivers.tokio_postgres()


class TokioPostgresText(TokioPostgres):
    variant = "text"
    untyped = False


class TokioPostgresVarchar(TokioPostgres):
    variant = "varchar"
    untyped = False


if __name__ == "__main__":
    unittest.main()
