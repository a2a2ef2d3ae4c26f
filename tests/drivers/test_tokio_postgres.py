"""
tokio-postgres, which reads and writes binary: parameters of the type that the server asks for, and declared as `text` and as
`varchar`, as JDBC, Npgsql and many ORMs do it.
"""

import unittest

from driver_checks import Driver, DriverChecks, UntypedChecks
from driver_recipes import RecipeChecks
from harness import drivers


class TokioPostgres(Driver):
    @classmethod
    def command(cls):
        return drivers.tokio_postgres()


class TokioPostgresUntyped(RecipeChecks, UntypedChecks, TokioPostgres):
    def recipe(self):
        return self.argv


class TokioPostgresText(DriverChecks, TokioPostgres):
    variant = "text"


class TokioPostgresVarchar(DriverChecks, TokioPostgres):
    variant = "varchar"


if __name__ == "__main__":
    unittest.main()
