"""psycopg 3: strings as it sends them, without a type; and as `text`, with cursors that ask for binary results."""

import unittest

from driver_checks import Driver, DriverChecks
from harness import drivers


class PsycopgText(DriverChecks, Driver):
    binary_copy_out = True

    @classmethod
    def command(cls):
        return drivers.python() + [str(drivers.SOURCES / "psycopg/client.py")]


class PsycopgBinary(PsycopgText):
    variant = "binary"
    untyped = False


if __name__ == "__main__":
    unittest.main()
