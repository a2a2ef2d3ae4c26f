"""
tokio-postgres, which reads and writes binary: parameters of the type that the server asks for, and declared as `text` and as
`varchar`, as JDBC, Npgsql and many ORMs do it.
"""

import unittest

from driver_checks import Driver, DriverChecks
from driver_recipes import RecipeChecks
from harness import drivers


class TokioPostgres(Driver):
    @classmethod
    def command(cls):
        return drivers.tokio_postgres()


class TokioPostgresUntyped(RecipeChecks, DriverChecks, TokioPostgres):
    def recipe(self):
        return self.argv


class TokioPostgresText(DriverChecks, TokioPostgres):
    variant = "text"
    untyped = False


class TokioPostgresVarchar(DriverChecks, TokioPostgres):
    variant = "varchar"
    untyped = False


if __name__ == "__main__":
    unittest.main()
