"""What a tool's changes of filled tables come to, for tests over Orm; a program beside the tool's own makes them."""

import json
import re
import subprocess

from driver_checks import named
from harness import paths


class Changes:
    def changed(self, argv):
        """What a program prints that reads {"connection"} as the tool's own does."""
        connection = {"host": str(self.cluster.socket), "port": self.cluster.port, "user": "shop", "database": "shop"}
        done = subprocess.run(argv, input=json.dumps({"connection": connection}), capture_output=True, text=True, check=False, timeout=300,
                              env=paths.clean_env())
        self.assertEqual(done.returncode, 0, named(done.stderr))
        return named(json.loads(done.stdout))

    def assert_encrypted(self, *columns):
        """That every stored value of these columns, each as table.column, is ciphertext; and that there are some."""
        for column in columns:
            table, name = column.split(".")
            values = self.cluster.psql(f"SELECT v FROM {table}, unnest(ARRAY[{name}]) AS v WHERE v IS NOT NULL", db="shop").splitlines()
            self.assertTrue(values, column)
            self.assertFalse([named(value) for value in values if not re.match(r"prism:v\d+:", value)], column)
