"""
tokio-postgres, which reads and writes binary: parameters of the type that the server asks for, and declared as `text` and as
`varchar`, as JDBC, Npgsql and many ORMs do it.
"""

import unittest

from driver_checks import PEOPLE, Driver, DriverChecks, UntypedChecks, plaintext
from driver_recipes import RecipeChecks
from harness import drivers


class TokioPostgres(Driver):
    @classmethod
    def command(cls):
        return drivers.tokio_postgres()


class TokioPostgresUntyped(RecipeChecks, UntypedChecks, TokioPostgres):
    def recipe(self):
        return self.argv

    def recipe_connection(self):
        """The role's bare columns are plaintext, as the document says there."""
        connection = super().recipe_connection()
        self.cluster.psql("ALTER ROLE clinic SET prism_crypt.output = 'plaintext'")
        return connection

    def test_plaintext_output(self):
        gave = self.program(self.argv, {"connection": {"user": "app"}, "variant": "plaintext"} | dict(zip(("email", "other"), plaintext(["email", "phone"]))))
        self.assertEqual(gave, {
            "read": [["email"] * 2] * 3, "list": ["email", "phone"], "all": [v for _, v in PEOPLE[:6]], "contained": 1,
            # The driver asks for the type of a parameter that nothing declares, and does not know it.
            "wrong": [True] * 3})


class TokioPostgresText(DriverChecks, TokioPostgres):
    variant = "text"


class TokioPostgresVarchar(DriverChecks, TokioPostgres):
    variant = "varchar"


if __name__ == "__main__":
    unittest.main()
