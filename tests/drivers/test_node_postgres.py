"""node-postgres (npm: pg), which sends strings without a type and reads text; COPY with pg-copy-streams."""

import unittest

from driver_checks import Driver, UntypedChecks
from driver_recipes import RecipeChecks
from harness import drivers


class NodePostgres(RecipeChecks, UntypedChecks, Driver):
    binary_copy_in = False
    binary_copy_out = False

    @classmethod
    def command(cls):
        return drivers.node("node_postgres") + [str(drivers.SOURCES / "node_postgres/client.js")]

    def recipe(self):
        return drivers.node("node_postgres") + [str(drivers.SOURCES / "node_postgres/recipe.js")]


if __name__ == "__main__":
    unittest.main()
