"""Two columns of a table, both cut over; then each is finished or rolled back, in any order. Values and grants are as before."""

import itertools
import unittest

from harness.scenario import Scenario

TYPE = "encrypted_text(searchable)"
SCHEMA = """
    CREATE TABLE t (id int PRIMARY KEY, a varchar(50) UNIQUE, b text NOT NULL, c text);
    INSERT INTO t SELECT i, 'a' || i, 'b' || i, 'c' FROM generate_series(1, 100) AS i;
    GRANT SELECT, INSERT ON t TO app; GRANT SELECT (a, c), UPDATE (b) ON t TO reader WITH GRANT OPTION; GRANT UPDATE ON t TO reader;
    GRANT REFERENCES (id) ON t TO PUBLIC; SET ROLE reader; GRANT SELECT (a) ON t TO app; RESET ROLE"""
GRANTS = """
    SELECT 'table', (SELECT array_agg(x::text ORDER BY x::text) FROM unnest(relacl) AS x) FROM pg_class WHERE relname = 't'
    UNION ALL SELECT attname, (SELECT array_agg(x::text ORDER BY x::text) FROM unnest(attacl) AS x)
    FROM pg_attribute WHERE attrelid = 't'::regclass AND attacl IS NOT NULL AND attacl <> '{}' AND NOT attisdropped ORDER BY 1"""
VALUES = "SELECT id, a::text, b::text FROM t ORDER BY 1"


class MigrationColumns(Scenario):
    preload = True
    maxDiff = None

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.cluster.psql("CREATE ROLE app; CREATE ROLE reader")
        cls.database("template")
        cls.cluster.psql(SCHEMA, db="template")

    def query(self, sql):
        return self.cluster.psql(sql, db=self.db)

    def assert_closed(self, columns):
        """Nobody but the owner reads what is kept."""
        for column, role in itertools.product(columns, ("app", "reader")):
            self.assertEqual(self.query(f"SELECT has_column_privilege('{role}', 't', '{column}', 'SELECT, INSERT, UPDATE')"), "f")

    def one(self, first, second, how_first, how_second):
        self.db = f"{first}{second} {how_first} {how_second}"
        self.cluster.psql(f'CREATE DATABASE "{self.db}" TEMPLATE template')
        grants = self.query(GRANTS)
        numbers = {}
        for column in "ab":
            self.query(f"CALL prism_crypt.migrate_column('t', '{column}', '{TYPE}', method => 'online')")
            numbers[column] = self.query("SELECT max(id) FROM prism_crypt.migrations")
        self.query("INSERT INTO t (id, a, b) VALUES (101, 'new', 'new b'); UPDATE t SET a = 'other' WHERE id = 3; UPDATE t SET b = 'other' WHERE b = 'b4'")
        values = self.query(VALUES)
        kept = {column: f"prism_crypt_old_{column}" for column in "ab"}
        for column, how in ((first, how_first), (second, how_second)):
            self.assert_closed(kept.values())
            self.query(f"CALL prism_crypt.{how}_migration({numbers[column]})")
            del kept[column]
            self.query(f"UPDATE t SET {column} = 'after {how}' WHERE id = 5")
        self.assertEqual(self.query(VALUES).replace("after finish", "x").replace("after rollback", "x"),
                         values.replace("5|a5|b5", "5|x|x", 1))
        self.assertEqual(self.query(GRANTS), grants)
        self.assertEqual(self.query("SELECT count(*) FROM pg_trigger WHERE tgrelid = 't'::regclass"), "0")
        self.assertEqual(self.query("SELECT count(*) FROM pg_attribute WHERE attrelid = 't'::regclass AND attnum > 0 AND NOT attisdropped"), "4")

    def test_all_orders(self):
        for (first, second), how_first, how_second in itertools.product(("ab", "ba"), ("finish", "rollback"), ("finish", "rollback")):
            with self.subTest(f"{first} {how_first}, {second} {how_second}"):
                self.one(first, second, how_first, how_second)


if __name__ == "__main__":
    unittest.main()
