"""asyncpg: without anything, and with codecs for the type. It introspects types; COPY of records is binary and needs a codec."""

import unittest

from driver_checks import Driver, UntypedChecks
from driver_recipes import RecipeChecks
from harness import drivers


class Asyncpg(Driver):
    binary_copy_in = False
    binary_copy_out = False

    @classmethod
    def command(cls):
        return drivers.python() + [str(drivers.SOURCES / "asyncpg/client.py")]


class AsyncpgPlain(RecipeChecks, UntypedChecks, Asyncpg):
    def recipe(self):
        return drivers.python() + [str(drivers.SOURCES / "asyncpg/recipe.py")]


class AsyncpgTextCodec(UntypedChecks, Asyncpg):
    variant = "text codec"


class AsyncpgBinaryCodec(UntypedChecks, Asyncpg):
    variant = "binary codec"
    binary_copy_in = True


if __name__ == "__main__":
    unittest.main()
