"""As what the columns of results are announced to a client, in both protocols and both formats: prism_crypt.result_type."""

import struct
import unittest

from harness import PgError
from harness.libpq import Connection
from harness.scenario import Scenario

TEXT, TEXTS = 25, 1009
READ = "SELECT email, tags FROM people WHERE id = 1"
TABLES = """
CREATE ROLE reader LOGIN; CREATE ROLE stranger LOGIN; CREATE ROLE switcher LOGIN; GRANT reader, stranger TO switcher;
SELECT prism_crypt.grant_access('reader', 'decrypt'), prism_crypt.grant_access('reader', 'search');
CREATE TABLE people (id int PRIMARY KEY, email encrypted_text(email,searchable) UNIQUE, tags encrypted_text[]);
INSERT INTO people VALUES (1, 'ada@example.org', '{a,b,NULL}'), (2, 'grace@example.org', NULL);
GRANT ALL ON people TO reader, stranger;
ALTER DATABASE results SET prism_crypt.output = 'plaintext';
"""


class ResultType(Scenario):
    preload = True

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.db = cls.database("results")
        cls.cluster.psql(TABLES, db=cls.db)
        cls.table, cls.value, cls.values = map(int, cls.cluster.psql(
            "SELECT 'people'::regclass::oid, 'encrypted_text'::regtype::oid, 'encrypted_text[]'::regtype::oid", db=cls.db).split("|"))

    def connect(self, user="reader"):
        connection = Connection(self.cluster, self.db, user)
        self.addCleanup(connection.close)
        return connection

    def columns(self, *types):
        """As announced, with where they come from."""
        return [(one, self.table, at) for at, one in enumerate(types, 2)]

    def test_both_protocols_and_formats(self):
        connection, expected = self.connect(), self.columns(TEXT, TEXTS)
        self.assertEqual(connection.announced(READ), expected)
        self.assertEqual(connection.execute(READ), [["ada@example.org", "{a,b,NULL}"]])
        self.assertEqual(connection.announced(READ, binary=True), expected)
        (email, tags), = connection.execute(READ, binary=True)
        self.assertEqual(email, b"ada@example.org")
        # Dimensions, whether there are nulls, the type of the elements, length and first index of the dimension, and the elements.
        self.assertEqual(tags, struct.pack(">iiIii", 1, 1, TEXT, 3, 1) + b"\0\0\0\1a\0\0\0\1b\xff\xff\xff\xff")
        connection.prepare("read", "SELECT email, tags FROM people WHERE email = $1")
        self.assertEqual(connection.described("read"), expected)
        for binary in (False, True):
            self.assertEqual(connection.execute_prepared("read", "ada@example.org", binary=binary)[0][0], b"ada@example.org" if binary else "ada@example.org")
        connection.prepare("write", "UPDATE people SET tags = tags WHERE id = $1 RETURNING email, tags")
        self.assertEqual(connection.described("write"), expected)
        self.assertEqual(connection.execute_prepared("write", "1"), [["ada@example.org", "{a,b,NULL}"]])

    def test_prepare_and_execute_in_sql(self):
        for binary in (False, True):
            connection = self.connect()
            # Binary results take the extended protocol.
            connection.execute(f"PREPARE read AS {READ}", binary=binary)
            self.assertEqual(connection.announced("EXECUTE read", binary=binary), self.columns(TEXT, TEXTS), binary)
            self.cluster.psql("ANALYZE people", db=self.db)
            self.assertEqual(connection.announced("EXECUTE read", binary=binary), self.columns(TEXT, TEXTS), binary)

    def test_cursors(self):
        connection = self.connect()
        connection.execute(f"BEGIN; DECLARE c CURSOR FOR {READ}")
        self.assertEqual(connection.announced("FETCH c"), self.columns(TEXT, TEXTS))
        connection.execute(f"DECLARE b BINARY CURSOR FOR {READ}")
        self.assertEqual(connection.announced("FETCH b"), self.columns(TEXT, TEXTS))
        connection.execute("COMMIT")

    def test_whoever_reads_no_plaintext_is_told_the_type(self):
        for user, settings in (("stranger", ""), ("reader", "SET prism_crypt.output = 'masked'"), ("reader", "RESET ALL; SET prism_crypt.output = 'ciphertext'"),
                               ("reader", "SET prism_crypt.result_type = 'encrypted_text'")):
            connection = self.connect(user)
            connection.execute(settings or "SELECT 1")
            self.assertEqual(connection.announced(READ), self.columns(self.value, self.values), (user, settings))

    def test_a_prepared_statement_stays_what_it_was_described_as(self):
        """Whatever the settings and the role are when it runs, and when PostgreSQL analyses it again; what it shows follows them."""
        others = ("SET ROLE stranger", "SET prism_crypt.output = 'ciphertext'", "SET prism_crypt.result_type = 'encrypted_text'")
        back = ("SET ROLE reader", "SET prism_crypt.output = 'plaintext'", "RESET prism_crypt.result_type")
        for away, home in zip(others, back):
            connection = self.connect("switcher")
            connection.execute("SET ROLE reader")
            connection.prepare("text", READ)
            connection.execute(away)
            connection.prepare("type", READ)
            connection.execute(home)
            for setting, shown in (home, "plaintext"), (away, "plaintext" if "result_type" in away else "ciphertext"), (home, "plaintext"):
                connection.execute(setting)
                for change in ("SELECT 1", "ANALYZE people", "SELECT prism_crypt.rotate_key()"):
                    self.cluster.psql(change, db=self.db)
                    for name, types in ("text", (TEXT, TEXTS)), ("type", (self.value, self.values)):
                        (email, tags), = connection.execute_prepared(name)
                        self.assertEqual((email == "ada@example.org", tags == "{a,b,NULL}"), (shown == "plaintext",) * 2, (away, setting, change, name))
                        self.assertEqual(connection.described(name), self.columns(*types), (away, setting, change))

    def test_a_prepared_statement_that_never_ran(self):
        """And whose table changed: described, executed or explained first, by another role or under other settings, in either protocol."""
        firsts = {
            "describe": lambda c: self.assertEqual(c.described("read"), self.columns(TEXT, TEXTS)),
            "bind": lambda c: c.execute_prepared("read"),
            "execute": lambda c: c.execute("EXECUTE read"),
            "execute, extended": lambda c: c.execute("EXECUTE read", binary=True),
            "explain": lambda c: c.execute("EXPLAIN EXECUTE read"),
            "explain analyze": lambda c: c.execute("EXPLAIN ANALYZE EXECUTE read"),
        }
        for how in ("protocol", "PREPARE", "in a block"):
            for away in ("SELECT 1", "SET ROLE stranger", "SET prism_crypt.output = 'ciphertext'", "SET prism_crypt.result_type = 'encrypted_text'"):
                for name, first in firsts.items():
                    with self.subTest(f"{how}, {away}, {name}"), Connection(self.cluster, self.db, "switcher") as connection:
                        connection.execute("SET ROLE reader")
                        if how == "protocol":
                            connection.prepare("read", READ)
                        else:
                            connection.execute(f"PREPARE read AS {READ}")
                        if how == "in a block":
                            connection.execute("DO $$ DECLARE r record; BEGIN FOR r IN EXECUTE 'EXPLAIN EXECUTE read' LOOP END LOOP; END $$")
                        connection.execute(away)
                        self.cluster.psql("ALTER TABLE people ALTER id SET STATISTICS 50", db=self.db)
                        first(connection)
                        self.assertEqual(connection.described("read"), self.columns(TEXT, TEXTS))
                        self.assertEqual(connection.announced("EXECUTE read", binary=True), self.columns(TEXT, TEXTS))

    def test_many_statements(self):
        """None is taken for another one that is gone, or forgotten because of others."""
        connection = self.connect("switcher")
        connection.execute("SET ROLE reader")
        connection.prepare("read", READ)
        for number in range(1100):
            connection.execute("SELECT email FROM people WHERE id = $1 AND $2 = " + str(number), 1, number)
        for _ in range(5):
            connection.execute(f"SET prism_crypt.output = 'plaintext'; PREPARE again AS {READ}; EXECUTE again; DEALLOCATE again; SET prism_crypt.output = 'ciphertext'")
            connection.execute(f"PREPARE again AS {READ}")
            self.cluster.psql("ALTER TABLE people ALTER id SET STATISTICS 60", db=self.db)
            self.assertEqual(connection.announced("EXECUTE again", binary=True), self.columns(self.value, self.values))
            connection.execute("DEALLOCATE again")
            self.assertEqual(connection.described("read"), self.columns(TEXT, TEXTS))
            self.assertTrue(connection.execute_prepared("read")[0][0].startswith("prism:v"))

    def test_row_security(self):
        self.cluster.psql("CREATE TABLE secured (id int, email encrypted_text); INSERT INTO secured VALUES (1, 'a'); ALTER TABLE secured ENABLE ROW LEVEL SECURITY;"
                          "CREATE POLICY all_rows ON secured USING (true); GRANT ALL ON secured TO reader, stranger", db=self.db)
        connection = self.connect("switcher")
        connection.execute("SET ROLE reader")
        connection.prepare("read", "SELECT email FROM secured")
        for role, shown in ("stranger", False), ("reader", True), ("stranger", False), ("reader", True):
            connection.execute(f"SET ROLE {role}")
            self.assertEqual(connection.execute_prepared("read") == [["a"]], shown, role)

    def test_what_is_set_for_a_transaction_only(self):
        """As behind a pooler."""
        connection = self.connect()
        connection.prepare("read", READ)
        connection.execute("SET prism_crypt.output = 'ciphertext'")
        for _ in range(3):
            connection.execute("BEGIN; SET LOCAL prism_crypt.output = 'plaintext'")
            self.assertEqual(connection.execute_prepared("read")[0][0], "ada@example.org")
            connection.execute("COMMIT")

    def test_a_prepared_statement_outlives_changes_of_its_table(self):
        connection = self.connect()
        connection.prepare("read", READ)
        for change in ("ANALYZE people", "ALTER TABLE people ADD COLUMN visits int", "CREATE INDEX ON people (visits)", "SELECT prism_crypt.rotate_key()",
                       "CALL prism_crypt.rotate_all()", "CALL prism_crypt.rotate_index_key('default')", "ALTER TABLE people DROP COLUMN visits"):
            self.cluster.psql(change, db=self.db)
            self.assertEqual(connection.execute_prepared("read")[0][0], "ada@example.org", change)

    def test_parallel_plans(self):
        connection = self.connect()
        connection.execute("SET parallel_setup_cost = 0; SET parallel_tuple_cost = 0; SET min_parallel_table_scan_size = 0")
        query = "SELECT email FROM people WHERE id + 0 = 1"
        self.assertIn("Gather", str(connection.execute(f"EXPLAIN {query}")))
        self.assertEqual((connection.announced(query), connection.execute(query)), (self.columns(TEXT), [["ada@example.org"]]))


if __name__ == "__main__":
    unittest.main()
