"""asyncpg: without anything, and with codecs for the type. It introspects types; COPY of records is binary and needs a codec."""

import unittest

from driver_checks import Driver, DriverChecks
from harness import drivers


class Asyncpg(DriverChecks, Driver):
    binary_copy = False
    binary_copy_out = False

    @classmethod
    def command(cls):
        return drivers.python() + [str(drivers.SOURCES / "asyncpg/client.py")]


class AsyncpgTextCodec(Asyncpg):
    variant = "text codec"


class AsyncpgBinaryCodec(Asyncpg):
    variant = "binary codec"
    binary_copy = True


if __name__ == "__main__":
    unittest.main()
