"""A column with everything around it: a dump of the schema differs after a migration in what it must, and in nothing else."""

import unittest

from harness.scenario import Scenario

from migration_schema import COLUMN, ROLES, SCHEMA, TABLES, TYPE, VALUES, difference, schema_of

OLD, NEW = "character varying(60)", f"public.{TYPE}"


def without_positions(lines):
    """The columns of each table in the order of their names."""
    sorted_lines, columns = [], None
    for line in lines:
        if line.startswith("CREATE TABLE "):
            columns = []
        elif columns is not None and line.startswith(")"):
            sorted_lines += sorted(columns)
            columns = None
        elif columns is not None:
            columns.append(line.rstrip(","))
            continue
        sorted_lines.append(line)
    return sorted_lines


class MigrationSchema(Scenario):
    preload = True
    maxDiff = None

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.cluster.psql(ROLES)
        cls.database("template")
        cls.cluster.psql(SCHEMA, db="template")
        cls.before = schema_of(cls.cluster, "template")
        cls.values = cls.cluster.psql(VALUES, db="template")

    def setUp(self):
        self.db = self.id().rpartition(".")[2]
        self.cluster.psql(f'CREATE DATABASE "{self.db}" TEMPLATE template')

    def query(self, sql):
        return self.cluster.psql(sql, db=self.db)

    def migrate(self, method, procedure="migrate_column", new_type=TYPE, then=""):
        for table in TABLES:
            self.query(f"""SET ROLE owner;
                CALL prism_crypt.{procedure}('"My App"."{table}"', '{COLUMN}', '{new_type}', method => '{method}');""")
            if then:
                self.query(f"SET ROLE owner; CALL prism_crypt.{then}({self.query('SELECT max(id) FROM prism_crypt.migrations')});")

    def decrypt(self, method):
        self.migrate(method, "decrypt_column", "varchar(60)")

    def assert_same(self, normalise=lambda lines: lines, old=OLD):
        after = [line.replace(old, OLD) for line in schema_of(self.cluster, self.db)]
        self.assertEqual(difference(normalise(self.before), normalise(after)), [])
        self.assertEqual(self.query(VALUES) == self.values, True)

    def columns(self):
        """How many columns of that name the schema has of each type."""
        lines = schema_of(self.cluster, self.db)
        return [sum(line.startswith(f'    "{COLUMN}" {of_type}') for line in lines) for of_type in (OLD, NEW)]

    def test_online_and_to_plaintext(self):
        self.assertEqual(self.columns(), [6, 0])
        self.migrate("online", then="finish_migration")
        self.assertEqual(self.columns(), [0, 6])
        self.assert_same(without_positions, NEW)
        self.decrypt("online")
        self.assert_same(without_positions)

    def test_online_and_back(self):
        """The old column never moved."""
        self.migrate("online", then="rollback_migration")
        self.assert_same()

    def test_rewrite_and_to_plaintext(self):
        self.migrate("rewrite")
        self.assertEqual(self.columns(), [0, 6])
        self.assert_same(old=NEW)
        self.decrypt("rewrite")
        self.assert_same()

    def test_what_the_schema_does(self):
        """Not only as it is written: triggers, rules, checks, views and grants after a migration."""
        self.migrate("online")
        people = '"My App"."People"'
        self.assertEqual(self.query(f"""SET ROLE owner; DELETE FROM {people} WHERE id = 7; SELECT what FROM "My App".log"""), "p7@example.org")
        self.assertEqual(self.query("""SELECT "My App".mail_of(8)"""), "p8@example.org")
        self.assertEqual(self.cluster.error(f"INSERT INTO {people} VALUES (1000, 'none')", db=self.db).sqlstate, "23514")
        self.assertEqual(self.cluster.error(f"""INSERT INTO {people} (id, "E-Mail") VALUES (1000, 'p8@example.org')""", db=self.db).sqlstate, "23505")
        reader = f"SET prism_crypt.output = 'plaintext'; SELECT id, \"E-Mail\" FROM {people} WHERE id = 8"
        self.assertEqual(self.cluster.psql(reader, db=self.db, user="reader"), "8|p8@example.org")
        old = f'SELECT "prism_crypt_old_E-Mail" FROM {people}'
        for user in ("reader", "writer"):
            self.assertEqual(self.cluster.error(old, db=self.db, user=user).sqlstate, "42501")
        self.query(f"REFRESH MATERIALIZED VIEW \"My App\".counted")
        self.assertEqual(self.query('SELECT * FROM "My App".counted'), "example.org|299")


if __name__ == "__main__":
    unittest.main()
