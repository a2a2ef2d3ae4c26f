"""
What every tool that declares models must be able to do, by its own documents, with a unique encrypted e-mail. A tool's program (tests/drivers) reads a JSON
line on stdin:

    {"connection": {host, port, user, database}, "texts": {name: plaintext}}

and makes, by its own migrations or declarations, a table `customers` (id, label text, email encrypted_text(email,searchable) unique and not null, visits int,
tags encrypted_text[]) and its twin `plain_customers`, whose e-mail and tags are text. It prints a JSON line for each of three stages:

1. everything in `FIRST`, asked by way of the tool's models;
2. once it read {"stage": "rotated", "email": plaintext} (keys and index key were replaced meanwhile, in sessions of others): what `AGAIN` names, in the
   same session;
3. once it read {"stage": "reconnected", "email": plaintext} (the server ended its sessions meanwhile): the same, through the tool's pool. One attempt may
   fail before.

Here plaintexts go by their names in harness.canaries, so that no failing test prints one.
"""

import json
import re
import select
import subprocess

from driver_checks import named
from driver_recipes import DOCUMENT
from harness import canaries, paths
from harness.scenario import Scenario

# The database that an application starts with, as the document says.
SET_UP = re.search(r"^## Test and shadow databases$.*?^```sql\n(.*?)^```$", DOCUMENT.read_text(encoding="utf-8"), re.M | re.S)[1]
# What the first stage prints.
FIRST = {
    # Of a customer that was saved with the label "first" and the e-mail "email": the e-mail that was read back.
    "inserted": "email",
    # Labels of those with this e-mail: after "second", "third" and "fourth" were saved in one bulk insert with "phone", "name" and "unicode".
    "found": ["first"], "absent": [],
    # Labels of those whose e-mail is one of "phone" and "unicode", in the order of labels.
    "listed": ["fourth", "second"],
    # Visits of "first" (1 at the beginning) after an insert with its e-mail that on conflict adds one, by the tool's upsert.
    "upserted": 2,
    # Tags of "second" once they were saved as ["tax id", "name"] and read back, and the labels of those whose tags contain "tax id".
    "tags": ["tax id", "name"], "tagged": ["second"],
    # Whether another customer with the e-mail "email" gave an error that says the same as the twin's, but for names of tables and constraints, and the SQLSTATE.
    "duplicate": True,
    # Whether what the tool finds in the database is what the model says; "the tool can't compare" where it has no such thing.
    "agrees": True,
}
# What the other stages print, as above. Before, a customer was saved with the stage as its label and the e-mail of the line; "added": labels of those with it.
AGAIN = {"found": ["first"], "listed": ["fourth", "second"], "tags": ["tax id", "name"]}
# So that the planner wants an index.
FILLERS = "INSERT INTO customers (label, email, visits) SELECT 'filler', 'filler ' || i, 1 FROM generate_series(1, 3000) AS i; ANALYZE customers;"
USES = "SELECT coalesce(sum(idx_scan), 0) FROM pg_stat_user_indexes WHERE relname = 'customers' AND indexrelname ~ 'email'"


class Orm(Scenario):
    """Runs a tool's program once a class, the tests look at what it printed."""

    preload = True
    conf = {"log_parameter_max_length": "0"}
    # For tools that can't do what FIRST names.
    first = FIRST

    @classmethod
    def command(cls):
        """The program, as a list; raises SkipTest where it can't be had."""
        raise NotImplementedError

    @classmethod
    def setUpClass(cls):
        argv = cls.command()
        super().setUpClass()
        cls.cluster.psql(SET_UP)
        cls.cluster.psql("ALTER ROLE shop LOGIN")
        cls.program = subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=paths.clean_env())
        cls.addClassCleanup(cls.end)
        connection = {"host": str(cls.cluster.socket), "port": cls.cluster.port, "user": "shop", "database": "shop"}
        cls.given = cls.stage({"connection": connection, "texts": canaries.PLAINTEXTS})
        sql = lambda text: cls.cluster.psql(text, db="shop")  # noqa: E731
        sql(FILLERS)
        before = int(sql(USES))
        sql("SELECT prism_crypt.rotate_key(); CALL prism_crypt.rotate_all(); CALL prism_crypt.rotate_index_key('default')")
        cls.rotated = cls.stage({"stage": "rotated", "email": canaries.PLAINTEXTS["tax id"]})
        sql("SELECT pg_terminate_backend(pid, 10000) FROM pg_stat_activity WHERE usename = 'shop'")
        cls.index_scans = int(sql(USES)) - before
        cls.reconnected = cls.stage({"stage": "reconnected", "email": "absent"})

    @classmethod
    def stage(cls, line):
        """What the program prints after this line, as JSON."""
        cls.program.stdin.write(json.dumps(line) + "\n")
        cls.program.stdin.flush()
        answer = cls.program.stdout.readline() if select.select([cls.program.stdout], [], [], 300)[0] else "null"
        if not answer.strip():
            cls.program.wait(30)
            raise AssertionError(f"the program ended: {named(cls.program.stderr.read())[-6000:]}")
        return named(json.loads(answer))

    @classmethod
    def end(cls):
        cls.program.kill()
        cls.program.communicate()


class OrmChecks:
    """The tests, for classes over Orm."""

    def test_first_stage(self):
        for what, expected in self.first.items():
            with self.subTest(what):
                self.assertEqual(self.given.get(what), expected, self.given)

    def test_an_index_serves_look_ups(self):
        self.assertGreaterEqual(self.index_scans, 2)

    def test_outlives_rotations(self):
        self.assertEqual(self.rotated, AGAIN | {"added": ["rotated"]})

    def test_outlives_its_sessions(self):
        self.assertEqual(self.reconnected, AGAIN | {"added": ["reconnected"]})
