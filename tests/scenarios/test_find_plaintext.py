"""How well prism_crypt.find_plaintext() tells personal data from other data, and that it waits for nobody for long.

The schemas are in ordinary_schema.py and personal_schema.py."""

import time

import ordinary_schema
import personal_schema
from harness.scenario import Scenario

ROWS = 60


def script(tables):
    """The SQL that makes and fills the tables."""
    for table, columns in tables.items():
        definitions = ", ".join(f'"{column[0]}" {column[1]}' for column in columns)
        values = ", ".join(f"({column[2]})::{column[1].replace('bigserial', 'bigint')}" for column in columns)
        yield (f"CREATE SCHEMA IF NOT EXISTS {table.split('.')[0]}; CREATE TABLE {table} ({definitions});"
               f"INSERT INTO {table} SELECT {values} FROM generate_series(1, {ROWS}) AS n;")


class FindPlaintext(Scenario):
    maxDiff = None

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        for db, tables in (("ordinary", ordinary_schema.TABLES), ("personal", personal_schema.TABLES)):
            cls.database(db)
            cls.cluster.psql("CREATE EXTENSION citext; CREATE EXTENSION pgcrypto;" + "\n".join(script(tables)), db=db)

    def found(self, db, arguments=""):
        """{(table, column): (class, confidence)}"""
        rows = self.cluster.psql(
            f"""SELECT n.nspname || '.' || c.relname, f.column_name, f.class, f.confidence FROM prism_crypt.find_plaintext({arguments}) AS f
                JOIN pg_class AS c ON c.oid = f.relation JOIN pg_namespace AS n ON n.oid = c.relnamespace""", db=db)
        split = [line.split("|") for line in rows.splitlines()]
        return {(table, column): (kind or None, confidence) for table, column, kind, confidence in split}

    def test_false_alarms(self):
        self.assertEqual(sum(map(len, ordinary_schema.TABLES.values())), 200)
        self.assertLess(len(self.found("ordinary")), 5, self.found("ordinary"))
        # Few rows prove less.
        self.assertLess(len(self.found("ordinary", "NULL, 1")), 5, self.found("ordinary", "NULL, 1"))

    def test_false_alarms_by_name(self):
        """Without rows only names are there."""
        self.database("names")
        self.cluster.psql("CREATE EXTENSION citext;" + "\n".join(script(ordinary_schema.TABLES)), db="names")
        self.cluster.psql("TRUNCATE " + ", ".join(ordinary_schema.TABLES), db="names")
        self.assertLess(len(self.found("names")), 5, self.found("names"))

    def test_recall(self):
        found = self.found("personal")
        expected = {(table, column[0]): column[3] for table, columns in personal_schema.TABLES.items() for column in columns}
        self.assertGreater(len(expected), 100)
        missed = sorted(set(expected) - set(found))
        self.assertLess(len(missed), len(expected) // 20, missed)
        wrong = {place: found[place] for place, kind in expected.items() if place in found and found[place][0] != kind}
        self.assertEqual(wrong, {})
        self.assertLess(sum(confidence == "low" for _, confidence in found.values()), 5)

    def test_locked_tables_are_named(self):
        self.database("locked")
        tables = [f"t{n}" for n in range(30)]
        self.cluster.psql("".join(f"CREATE TABLE {table} AS SELECT 'a@example.org' AS mail;" for table in [*tables, "open"])
                          + "CREATE TABLE parted (mail text) PARTITION BY LIST (mail); CREATE TABLE part PARTITION OF parted DEFAULT", db="locked")
        holder = self.session("locked")
        holder.run("BEGIN; LOCK TABLE part, " + ", ".join(tables) + ";")
        began = time.monotonic()
        rows = self.cluster.psql("SELECT relation, column_name, confidence, note FROM prism_crypt.find_plaintext()", db="locked").splitlines()
        self.assertLess(time.monotonic() - began, 30)
        self.assertEqual(sorted(rows), sorted(["open|mail|high|named as email addresses are, and 1 of 1 values look like it"]
                                              + [f"{table}|||locked by another session: not looked at" for table in [*tables, "parted"]]))
        holder.run("ROLLBACK;")

    def test_other_encodings(self):
        for encoding, letter in (("LATIN1", "é"), ("EUC_JP", "М"), ("SQL_ASCII", "x")):
            with self.subTest(encoding):
                db = encoding.lower()
                self.cluster.psql(f"CREATE DATABASE {db} ENCODING '{encoding}' TEMPLATE template0 LC_COLLATE 'C' LC_CTYPE 'C'")
                self.cluster.psql(f"""SET client_encoding = UTF8; CREATE EXTENSION prism_crypt; CREATE TABLE t (mail text, "nachname{letter}" text, d jsonb);
                    INSERT INTO t VALUES ('a@example.org', '{letter}', '{{"{letter}": {{"mail": "a@example.org"}}}}')""", db=db)
                rows = self.cluster.psql("SET client_encoding = UTF8; SELECT column_name, class, note FROM prism_crypt.find_plaintext()", db=db).splitlines()
                self.assertEqual(rows, ["mail|email|named as email addresses are, and 1 of 1 values look like it",
                                        f"d|email|in documents: email addresses ({'x' if letter == 'x' else '*'}.mail)"])

    def test_on_a_standby(self):
        standby = self.cluster.standby("find-standby")
        self.addCleanup(standby.close)
        standby.start()
        self.cluster.psql("CREATE UNLOGGED TABLE unlogged_mail AS SELECT 'a@example.org' AS mail", db="personal")
        self.cluster.wait_caught_up(standby)
        query = "SELECT * FROM prism_crypt.find_plaintext() WHERE relation::text <> 'unlogged_mail'"
        self.assertEqual(standby.psql(query, db="personal"), self.cluster.psql(query, db="personal"))
        self.assertEqual(standby.psql("SELECT note FROM prism_crypt.find_plaintext('public')", db="personal"), "unlogged table: can't be read on a standby")
        self.cluster.psql("DROP TABLE unlogged_mail", db="personal")
