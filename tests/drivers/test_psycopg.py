"""psycopg 3: strings as it sends them, without a type; and as `text`, with cursors that ask for binary results."""

import unittest

from driver_checks import Driver, DriverChecks, UntypedChecks
from driver_recipes import RecipeChecks
from harness import canaries, drivers


class Psycopg(Driver):
    @classmethod
    def command(cls):
        return drivers.python() + [str(drivers.SOURCES / "psycopg/client.py")]


class PsycopgText(RecipeChecks, UntypedChecks, Psycopg):
    def recipe(self):
        return drivers.python() + [str(drivers.SOURCES / "psycopg/recipe.py")]


class PsycopgBinary(DriverChecks, Psycopg):
    variant = "binary"


class PsycopgValues(Psycopg):
    """What the type is like in psycopg, searching aside. The server logs all parameters."""

    conf = {}

    def setUp(self):
        self.cluster.psql("""SET client_min_messages = warning; DROP TABLE IF EXISTS t;
            CREATE TABLE t (id int, v encrypted_text, c encrypted_text('personal'), l encrypted_text[]); GRANT ALL ON t TO untrusted;
            SELECT prism_crypt.revoke_access('untrusted', 'decrypt')""", db=self.db)

    def check(self, name, user="postgres"):
        program = drivers.python() + [str(drivers.SOURCES / "psycopg/values.py"), name]
        given = {"connection": {"user": user}, "texts": list(canaries.PLAINTEXTS.values())}
        self.assertEqual(self.program(program, given), "done")

    def test_parameters_and_rows(self):
        self.check("parameters_and_rows")

    def test_a_ciphertext_read_and_written_back(self):
        self.check("ciphertext_read_and_written_back")

    def test_a_server_side_type_for_copy(self):
        self.check("server_side_type_for_copy")

    def test_arrays(self):
        self.check("arrays")

    def test_errors(self):
        self.check("errors", user="untrusted")


if __name__ == "__main__":
    unittest.main()
