"""asyncpg: without anything, and with codecs for the type. It introspects types; COPY of records is binary and needs a codec."""

import unittest

from driver_checks import Driver, DriverChecks
from driver_recipes import RecipeChecks
from harness import drivers


class Asyncpg(Driver):
    binary_copy_in = False
    binary_copy_out = False

    @classmethod
    def command(cls):
        return drivers.python() + [str(drivers.SOURCES / "asyncpg/client.py")]


class AsyncpgPlain(RecipeChecks, DriverChecks, Asyncpg):
    def recipe(self):
        return drivers.python() + [str(drivers.SOURCES / "asyncpg/recipe.py")]


class AsyncpgTextCodec(DriverChecks, Asyncpg):
    variant = "text codec"


class AsyncpgBinaryCodec(DriverChecks, Asyncpg):
    variant = "binary codec"
    binary_copy_in = True


if __name__ == "__main__":
    unittest.main()
