"""node-postgres (npm: pg), which sends strings without a type and reads text; COPY with pg-copy-streams."""

import unittest

from driver_checks import Driver, DriverChecks
from harness import drivers


class NodePostgres(DriverChecks, Driver):
    binary_copy = False
    binary_copy_out = False

    @classmethod
    def command(cls):
        return drivers.node() + [str(drivers.SOURCES / "node_postgres/client.js")]


if __name__ == "__main__":
    unittest.main()
