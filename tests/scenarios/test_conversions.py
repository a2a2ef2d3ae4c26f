"""
Conversions between encrypted_text and every other type of the string category, each way, by roles with rights and without, with
each prism_crypt.output: the plaintext, 42501 or a clear error; never a text form that is stored as a value, nor one sealed again.
"""

import struct
import unittest

from harness import PgError
from harness.libpq import Connection
from harness.scenario import Scenario

TEXT = "Ada@X.org"
# Types with the value that TEXT is in them. PostgreSQL has no implicit or assignment cast to "char", and one from it.
TYPES = {
    "text": TEXT, "varchar(20)": TEXT, "varchar(3)": "Ada", "char(12)": TEXT, "name": TEXT, '"char"': "A", "citext": TEXT, "str": TEXT,
    "text_domain": TEXT, "citext_domain": TEXT, "char_domain": TEXT, "str_domain": TEXT,
}
MODES = ("ciphertext", "plaintext", "masked")
ROLES = {"postgres": True, "reader": True, "nobody": False}
# PostgreSQL's own "there is no such conversion", where it wants an explicit cast.
NO_CONVERSION = {"42804", "42846", "42883", "42P13"}
# Where PostgreSQL does not look at the 3 of varchar(3).
# An expression that PostgreSQL gives the common type has no modifier either.
NO_MODIFIER = ("SQL function", "function argument", "EXECUTE", "UNION", "UNION, the other way", "CASE", "COALESCE", "ARRAY[]")
SCHEMA = """
    CREATE EXTENSION citext;
    CREATE TYPE str;
    SET client_min_messages = warning;
    CREATE FUNCTION str_in(cstring) RETURNS str LANGUAGE internal IMMUTABLE STRICT AS 'textin';
    CREATE FUNCTION str_out(str) RETURNS cstring LANGUAGE internal IMMUTABLE STRICT AS 'textout';
    CREATE TYPE str (INPUT = str_in, OUTPUT = str_out, CATEGORY = 'S');
    CREATE DOMAIN text_domain AS text;
    CREATE DOMAIN citext_domain AS citext;
    CREATE DOMAIN char_domain AS char(12);
    CREATE DOMAIN str_domain AS str;
    CREATE ROLE reader LOGIN;
    CREATE ROLE nobody LOGIN;
    GRANT CREATE, USAGE ON SCHEMA public TO PUBLIC;
    GRANT TEMP ON DATABASE conversions TO PUBLIC;
    SELECT prism_crypt.grant_access('reader', 'decrypt');
    CREATE TABLE t (v encrypted_text('email'), a encrypted_text[], j encrypted_text);
    INSERT INTO t VALUES ('Ada@X.org', '{Ada@X.org}', '{"k": "Ada@X.org"}');
    GRANT SELECT ON t TO PUBLIC;
"""
# {type} from and to the type; {literal} is TEXT as a text literal. Each gives one text, or a table "made" with one column.
OUT = {
    "cast": "SELECT (v::{type})::text FROM t",
    "CAST of a constant": "SELECT ({literal}::encrypted_text::{type})::text",
    "INSERT SELECT": "CREATE TEMP TABLE made (c {type}); INSERT INTO made SELECT v FROM t",
    "UPDATE": "CREATE TEMP TABLE made AS SELECT NULL::{type} AS c; UPDATE made SET c = v FROM t",
    "SQL function": "CREATE FUNCTION pg_temp.f(encrypted_text) RETURNS {type} LANGUAGE sql AS 'SELECT $1'; SELECT pg_temp.f(v)::text FROM t",
    "PL/pgSQL": """
        CREATE FUNCTION pg_temp.f(e encrypted_text) RETURNS text LANGUAGE plpgsql AS
        'DECLARE c {type}; BEGIN c := e; RETURN c; END'; SELECT pg_temp.f(v) FROM t""",
    "function argument": "CREATE FUNCTION pg_temp.f({type}) RETURNS text LANGUAGE sql AS 'SELECT $1::text'; SELECT pg_temp.f(v) FROM t",
    "function argument, cast": "CREATE FUNCTION pg_temp.f({type}) RETURNS text LANGUAGE sql AS 'SELECT $1::text'; SELECT pg_temp.f(v::{type}) FROM t",
    "UNION": "CREATE TEMP TABLE made AS SELECT v AS c FROM t UNION ALL SELECT {literal}::{type} OFFSET 0 LIMIT 1",
    "UNION, the other way": "CREATE TEMP TABLE made AS SELECT {literal}::{type} AS c FROM t WHERE false UNION ALL SELECT v FROM t",
    "CASE": "CREATE TEMP TABLE made AS SELECT CASE WHEN v IS NOT NULL THEN v ELSE {literal}::{type} END AS c FROM t",
    "COALESCE": "CREATE TEMP TABLE made AS SELECT coalesce(v, {literal}::{type}) AS c FROM t",
    "array": "SELECT (a::{type}[])[1]::text FROM t",
    "array, INSERT SELECT": "CREATE TEMP TABLE made (c {type}[]); INSERT INTO made SELECT a FROM t",
    "element": "SELECT (a[1]::{type})::text FROM t",
    "ARRAY[]": "CREATE TEMP TABLE made AS SELECT (ARRAY[v, {literal}::{type}])[1] AS c FROM t",
    "ALTER TYPE": "CREATE TEMP TABLE made AS SELECT v AS c FROM t; ALTER TABLE made ALTER c TYPE {type}",
    "ALTER TYPE USING": "CREATE TEMP TABLE made AS SELECT v AS c FROM t; ALTER TABLE made ALTER c TYPE {type} USING c::{type}",
    "DEFAULT": "CREATE TEMP TABLE made (n int, c {type} DEFAULT {literal}::encrypted_text); INSERT INTO made VALUES (1)",
    "EXECUTE": "PREPARE p ({type}) AS SELECT $1::text; EXECUTE p({literal}::encrypted_text)",
}
INTO = {
    "cast": "SELECT ({literal}::{type}::encrypted_text)::text",
    "INSERT SELECT": "CREATE TEMP TABLE made (c encrypted_text); INSERT INTO made SELECT {literal}::{type}",
    "UPDATE": "CREATE TEMP TABLE made AS SELECT NULL::encrypted_text('email') AS c; UPDATE made SET c = {literal}::{type}",
    "SQL function": "CREATE FUNCTION pg_temp.f({type}) RETURNS encrypted_text LANGUAGE sql AS 'SELECT $1'; SELECT pg_temp.f({literal}::{type})::text",
    "PL/pgSQL": """
        CREATE FUNCTION pg_temp.f(c {type}) RETURNS text LANGUAGE plpgsql AS
        'DECLARE e encrypted_text; BEGIN e := c; RETURN e; END'; SELECT pg_temp.f({literal}::{type})""",
    "function argument": "CREATE FUNCTION pg_temp.f(encrypted_text) RETURNS text LANGUAGE sql AS 'SELECT $1::text'; SELECT pg_temp.f({literal}::{type})",
    "array": "SELECT (ARRAY[{literal}::{type}]::encrypted_text[])[1]::text",
    "array, INSERT SELECT": "CREATE TEMP TABLE made (c encrypted_text[]); INSERT INTO made SELECT ARRAY[{literal}::{type}]",
    "ALTER TYPE": "CREATE TEMP TABLE made AS SELECT {literal}::{type} AS c; ALTER TABLE made ALTER c TYPE encrypted_text('email')",
    "DEFAULT": "CREATE TEMP TABLE made (n int, c encrypted_text DEFAULT {literal}::{type}); INSERT INTO made VALUES (1)",
    "EXECUTE": "PREPARE p ({type}) AS SELECT ($1::encrypted_text)::text; EXECUTE p({literal})",
}


class Conversions(Scenario):
    preload = True
    maxDiff = None

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.database("conversions")
        cls.cluster.psql(SCHEMA, db="conversions")
        cls.form = cls.cluster.psql("SELECT v FROM t", db="conversions")

    def connect(self, role, mode):
        conn = Connection(self.cluster, db="conversions", user=role)
        self.addCleanup(conn.close)
        conn.execute(f"SET prism_crypt.output = '{mode}'; SET client_min_messages = error")
        return conn

    def outcome(self, conn, statements, superuser):
        """What the statements give, or what they put into the table "made": ("value", text), ("sealed", plaintext) or ("error", SQLSTATE)."""
        conn.execute("BEGIN")
        try:
            rows = conn.execute(statements)
            if "TEMP TABLE made" not in statements:
                return "value", rows[0][0]
            kind = conn.execute("SELECT format_type(atttypid, NULL) FROM pg_attribute WHERE attrelid = 'made'::regclass AND attname = 'c'")[0][0]
            read = "(c)[1]" if kind.endswith("[]") else "c"
            if "encrypted_text" not in kind:
                return "value", conn.execute(f"SELECT {read}::text FROM made")[0][0]
            envelope = conn.execute(f"SELECT ({read})::bytea FROM made")[0][0]
            return "sealed", superuser.execute("SELECT convert_from(decrypt_bytes($1::bytea), 'UTF8')", envelope)[0][0]
        except PgError as error:
            return "error", error.sqlstate
        finally:
            conn.execute("ROLLBACK")
            conn.execute("DEALLOCATE ALL")

    def test_out_of_the_type(self):
        superuser = self.connect("postgres", "ciphertext")
        seen = set()
        for role, may in ROLES.items():
            for mode in MODES:
                conn = self.connect(role, mode)
                for type_, plain in TYPES.items():
                    for way, statements in OUT.items():
                        with self.subTest(role=role, output=mode, type=type_, way=way):
                            kind, got = self.outcome(conn, statements.format(type=type_, literal=f"'{TEXT}'"), superuser)
                            seen.add((way, kind))
                            if kind == "sealed":
                                # It stayed what it was, or the other operand became the same.
                                self.assertIn(way, ("UNION", "UNION, the other way", "CASE", "COALESCE", "ARRAY[]"))
                                self.assertEqual(got, TEXT)
                            elif kind == "error":
                                if way == "ALTER TYPE":
                                    self.assertEqual(got, "42804")
                                elif got == "22001":
                                    # As with text: an assignment does not cut off.
                                    self.assertEqual((type_, may), ("varchar(3)", True))
                                elif got != "42501":
                                    self.assertIn(got, NO_CONVERSION)
                                else:
                                    self.assertFalse(may)
                            else:
                                self.assertTrue(may)
                                self.assertEqual(got, TEXT if way in NO_MODIFIER and type_ == "varchar(3)" else plain)
        # None of the ways was an error for everybody, but those that need an explicit cast, and the one that is refused.
        self.assertEqual({way for way, kind in seen if kind == "error"} - {way for way, kind in seen if kind != "error"}, {"ALTER TYPE"})

    def test_into_the_type(self):
        superuser = self.connect("postgres", "ciphertext")
        for role, may in ROLES.items():
            for mode in MODES:
                conn = self.connect(role, mode)
                for type_, plain in TYPES.items():
                    for way, statements in INTO.items():
                        with self.subTest(role=role, output=mode, type=type_, way=way):
                            kind, got = self.outcome(conn, statements.format(type=type_, literal=f"'{TEXT}'"), superuser)
                            if kind == "error":
                                # Reading it back is what such a role may not.
                                self.assertIn(got, NO_CONVERSION | (set() if may else {"42501"}))
                                self.assertTrue(got == "42501" or way == "function argument" or type_ == '"char"')
                            else:
                                self.assertEqual(got, TEXT if way == "EXECUTE" and type_ == "varchar(3)" else plain)

    def test_ciphertext_is_not_sealed_again(self):
        superuser = self.connect("postgres", "ciphertext")
        wide = ["text", "varchar(200)", "char(200)", "citext", "str", "text_domain", "citext_domain", "str_domain"]
        for role in ROLES:
            for mode in MODES:
                conn = self.connect(role, mode)
                for type_ in wide:
                    for way, statements in INTO.items():
                        if way == "function argument":
                            continue
                        with self.subTest(role=role, output=mode, type=type_, way=way):
                            kind, got = self.outcome(conn, statements.format(type=type_, literal=f"'{self.form}'"), superuser)
                            # Those that read it back are refused that.
                            denied = role == "nobody" and "made" not in statements and got == "42501"
                            self.assertEqual((kind, got), ("error", "42501" if denied else "22023"))

    def test_other_types(self):
        for role, may in ROLES.items():
            for mode in MODES:
                conn = self.connect(role, mode)
                for statement, expected in {
                    "SELECT j::jsonb ->> 'k' FROM t": TEXT,
                    "SELECT j::json ->> 'k' FROM t": TEXT,
                    "SELECT (('<a>' || v::text || '</a>')::encrypted_text::xml)::text FROM t": f"<a>{TEXT}</a>",
                    "SELECT '42'::encrypted_text::int": "42",
                    "SELECT count(*) FROM generate_series(1, 50) AS g WHERE g = '42'::encrypted_text::int": "1",
                    "SELECT '2026-01-31'::encrypted_text::date - '2026-01-01'": "30",
                    "SELECT ('{\"k\": 1}'::jsonb::encrypted_text)::jsonb ->> 'k'": "1",
                    "SELECT ('6f1c1b70-0000-4000-8000-000000000001'::uuid::encrypted_text)::text": "6f1c1b70-0000-4000-8000-000000000001",
                }.items():
                    with self.subTest(role=role, output=mode, statement=statement):
                        try:
                            got = conn.execute(statement)[0][0]
                        except PgError as error:
                            got = error.sqlstate
                        self.assertEqual(got, expected if may else "42501")
                with self.subTest("bytea is the envelope", role=role, output=mode):
                    self.assertEqual(conn.execute("SELECT substr(v::bytea, 1, 7) FROM t"), [["\\x01000100000001"]])


def binary_copy(row):
    """One row of bytes in the format of COPY BINARY."""
    fields = b"".join(struct.pack("!i", len(v)) + v for v in row)
    return b"PGCOPY\n\xff\r\n\0" + struct.pack("!iih", 0, 0, len(row)) + fields + struct.pack("!h", -1)


# How a client saves what it read (bytes) into the table "saved".
SAVE = {
    "untyped": lambda c, shown: c.execute("INSERT INTO saved VALUES ($1)", shown.decode()),
    "untyped, binary": lambda c, shown: c.execute("INSERT INTO saved VALUES ($1)", shown),
    "text": lambda c, shown: c.execute("INSERT INTO saved VALUES ($1::text)", shown.decode()),
    "text, binary": lambda c, shown: c.execute("INSERT INTO saved VALUES ($1::text)", shown),
    "varchar": lambda c, shown: c.execute("INSERT INTO saved VALUES ($1::varchar)", shown.decode()),
    "citext": lambda c, shown: c.execute("INSERT INTO saved VALUES ($1::citext)", shown.decode()),
    "literal": lambda c, shown: c.execute("INSERT INTO saved VALUES ('%s')" % shown.decode().replace("'", "''")),
    "COPY": lambda c, shown: c.copy_in("COPY saved FROM STDIN", shown + b"\n"),
    "COPY BINARY": lambda c, shown: c.copy_in("COPY saved FROM STDIN (FORMAT binary)", binary_copy([shown])),
    "array": lambda c, shown: c.execute("INSERT INTO saved SELECT unnest($1::encrypted_text[])", '{"%s"}' % shown.decode()),
    "text array": lambda c, shown: c.execute("INSERT INTO saved SELECT unnest($1::text[]::encrypted_text[])", '{"%s"}' % shown.decode()),
    "JSON": lambda c, shown: c.execute(
        "INSERT INTO saved SELECT * FROM json_populate_record(NULL::saved, json_build_object('v', $1::text))", shown.decode()),
}


class SavingWhatWasRead(Scenario):
    """A client that reads a value and saves it again stores the same value, or is refused: however it is shown and sent."""

    preload = True
    VALUES = (TEXT, "prism:v1:x", "prism:v1:", "prism:v1:AQ==", "prism:v999:AQ==", "\x01abc", " x ", "")
    # Of the rights of the roles: whether plaintext is what they work with, and whether they load.
    ROLES = {"postgres": (True, True), "reader": (True, False), "loader": (False, True), "mover": (True, True), "writer": (False, False)}
    # 22021: the bytes of an envelope are no text.
    REFUSED = {"42501", "22023", "22P02", "22P03", "22021"}

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.database("saving")
        cls.cluster.psql("""
            CREATE EXTENSION citext;
            CREATE TABLE saved (v encrypted_text);
            CREATE TABLE kept (n serial, v encrypted_text);
            CREATE ROLE reader LOGIN; CREATE ROLE loader LOGIN; CREATE ROLE mover LOGIN; CREATE ROLE writer LOGIN;
            SELECT prism_crypt.grant_access('reader', 'decrypt'), prism_crypt.grant_access('loader', 'load'),
                   prism_crypt.grant_access('mover', 'decrypt'), prism_crypt.grant_access('mover', 'load');
            GRANT ALL ON saved, kept TO PUBLIC""", db="saving")

    def connect(self, role, mode):
        conn = Connection(self.cluster, db="saving", user=role)
        self.addCleanup(conn.close)
        conn.execute(f"SET prism_crypt.output = '{mode}'")
        return conn

    def test_round_trips(self):
        superuser = self.connect("postgres", "ciphertext")
        for role, (reads, loads) in self.ROLES.items():
            for mode in MODES:
                conn = self.connect(role, mode)
                for value in self.VALUES:
                    superuser.execute("TRUNCATE kept")
                    superuser.execute("INSERT INTO kept (v) VALUES (encrypt_field($1))", value)
                    for binary in (False, True):
                        shown = conn.execute("SELECT v FROM kept", binary=binary)[0][0]
                        shown = shown if binary else shown.encode()
                        is_ciphertext = shown[:1] == b"\x01" and shown != value.encode() or len(shown) > 40
                        for way, save in SAVE.items():
                            if is_ciphertext and binary and "binary" not in way.lower():
                                continue
                            with self.subTest(role=role, output=mode, value=value, binary=binary, way=way):
                                self.check(conn, superuser, save, shown, value, way, mode, reads, loads, is_ciphertext)

    def check(self, conn, superuser, save, shown, value, way, mode, reads, loads, is_ciphertext):
        superuser.execute("TRUNCATE saved")
        is_typed = "text" in way or way in ("varchar", "citext")
        try:
            save(conn, shown)
        except PgError as error:
            self.assertIn(error.sqlstate, self.REFUSED, error.message)
            # Nobody who works with plaintext is refused plaintext, but a role that may also load: that must type it.
            if not is_ciphertext:
                self.assertFalse(is_typed)
                self.assertTrue(mode != "plaintext" or not reads or loads)
            elif not is_typed:
                self.assertFalse(loads)
            return
        # A mask is text like any other.
        expected = value if is_ciphertext or mode != "masked" else shown.decode()
        self.assertEqual(superuser.execute("SELECT decrypt_field(v) FROM saved"), [[expected]])
        if is_ciphertext:
            self.assertTrue(loads and not is_typed)


if __name__ == "__main__":
    unittest.main()
