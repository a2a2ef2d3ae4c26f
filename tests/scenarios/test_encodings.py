"""Plaintext is sealed as UTF-8, whatever the encodings of database and client."""

import struct
import unittest

from harness import PgError
from harness.libpq import Connection
from harness.scenario import Scenario

LATIN = "Ærøskøbing café"
JAPANESE = "日本語テスト"


def binary_copy(rows):
    """Rows of bytes in the format of COPY BINARY."""
    body = b"".join(struct.pack("!h", len(row)) + b"".join(struct.pack("!i", len(v)) + v for v in row) for row in rows)
    return b"PGCOPY\n\xff\r\n\0" + struct.pack("!ii", 0, 0) + body + struct.pack("!h", -1)


def binary_fields(data):
    """The single column of a COPY BINARY output."""
    at, out = 19, []
    while (count := struct.unpack_from("!h", data, at)[0]) != -1:
        assert count == 1
        (length,) = struct.unpack_from("!i", data, at + 2)
        out.append(data[at + 6:at + 6 + length])
        at += 6 + length
    return out


class Encodings(Scenario):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        # All with the same rows of keys, so that a value of one is readable in the others.
        keys = None
        for encoding in ("UTF8", "LATIN1", "LATIN2", "EUC_JP", "SQL_ASCII"):
            db = encoding.lower()
            cls.cluster.psql(f"CREATE DATABASE {db} ENCODING '{encoding}' TEMPLATE template0 LC_COLLATE 'C' LC_CTYPE 'C'")
            cls.cluster.psql("CREATE EXTENSION prism_crypt; CREATE TABLE t (id serial, v encrypted_text)", db=db)
            if keys is None:
                cls.cluster.psql("SELECT prism_crypt.rotate_key()", db=db)
                keys = cls.cluster.run(["pg_dump", "--data-only", "--table=prism_crypt.*"], db=db).stdout
            else:
                cls.cluster.psql(keys, db=db)

    def connect(self, db, client_encoding="UTF8"):
        conn = Connection(self.cluster, db=db)
        self.addCleanup(conn.close)
        conn.execute(f"SET client_encoding = '{client_encoding}'")
        return conn

    def copy_in(self, conn, data, options=""):
        conn.execute("TRUNCATE t RESTART IDENTITY")
        conn.copy_in(f"COPY t (v) FROM STDIN {options}", data)

    def carried(self, source, target):
        """The one value of a connection's table, as a literal that loads it elsewhere."""
        value = source.execute("SELECT v FROM t")[0][0]
        return f"prism_crypt.load_envelope('{value}')" if target else value

    def assert_round_trip(self, db, text, client_encoding, encoded):
        conn, utf8 = self.connect(db, client_encoding), self.connect("utf8")
        self.copy_in(conn, encoded + b"\n")
        self.assertEqual(conn.copy_out("COPY (SELECT decrypt_field(v) FROM t) TO STDOUT"), encoded + b"\n")
        self.assertEqual(conn.copy_out("COPY (SELECT v::text FROM t) TO STDOUT"), encoded + b"\n")
        with self.subTest("sealed as UTF-8"):
            self.assertEqual(conn.execute("SELECT (envelope_info(v)).plaintext_bytes FROM t"), [[str(len(text.encode()))]])
            self.assertEqual(utf8.execute(f"SELECT decrypt_field({self.carried(conn, utf8)})"), [[text]])
        with self.subTest("from UTF-8"):
            utf8.execute("TRUNCATE t")
            utf8.copy_in("COPY t (v) FROM STDIN", text.encode() + b"\n")
            value = self.carried(utf8, conn)
            self.assertEqual(conn.copy_out(f"COPY (SELECT decrypt_field({value})) TO STDOUT"), encoded + b"\n")
            self.assertEqual(conn.execute(f"SELECT decrypt_field({value}) = decrypt_field(v) FROM t"), [["t"]])
        with self.subTest("functions"):
            bound = conn.execute("SELECT count(*) FROM t WHERE decrypt_field(encrypt_field(decrypt_field(v), decrypt_field(v)), decrypt_field(v)) = decrypt_field(v)")
            self.assertEqual(bound, [["1"]])
        conn.execute("SET prism_crypt.output = 'plaintext'")
        with self.subTest("output"):
            self.assertEqual(conn.copy_out("COPY (SELECT v FROM t) TO STDOUT"), encoded + b"\n")
            self.assertEqual(binary_fields(conn.copy_out("COPY (SELECT v FROM t) TO STDOUT (FORMAT binary)")), [encoded])
        with self.subTest("binary input"):
            self.copy_in(conn, binary_copy([[encoded]]), "(FORMAT binary)")
            self.assertEqual(conn.copy_out("COPY (SELECT decrypt_field(v) FROM t) TO STDOUT"), encoded + b"\n")
            self.assertEqual(conn.execute("SELECT (envelope_info(v)).plaintext_bytes FROM t"), [[str(len(text.encode()))]])

    def test_round_trips(self):
        for db, text, client_encoding, codec in [
            ("utf8", LATIN + JAPANESE, "UTF8", "utf-8"), ("utf8", LATIN, "LATIN1", "latin-1"), ("utf8", JAPANESE, "SJIS", "cp932"),
            ("latin1", LATIN, "LATIN1", "latin-1"), ("latin1", LATIN, "UTF8", "utf-8"),
            ("euc_jp", JAPANESE, "EUC_JP", "euc_jp"), ("euc_jp", JAPANESE, "UTF8", "utf-8"), ("euc_jp", JAPANESE, "SJIS", "cp932"),
            ("sql_ascii", LATIN, "SQL_ASCII", "utf-8"), ("sql_ascii", LATIN + JAPANESE, "SQL_ASCII", "utf-8"),
        ]:
            with self.subTest(f"{db}, {client_encoding}"):
                self.assert_round_trip(db, text, client_encoding, text.encode(codec))

    def test_a_context_is_the_same_in_every_encoding(self):
        utf8 = self.connect("utf8")
        utf8.execute("TRUNCATE t")
        utf8.execute("INSERT INTO t (v) SELECT encrypt_field('numbat', $1)", LATIN)
        for db in ("latin1", "sql_ascii", "utf8"):
            with self.subTest(db):
                conn = self.connect(db, "SQL_ASCII" if db == "sql_ascii" else "UTF8")
                self.assertEqual(conn.execute(f"SELECT decrypt_field({self.carried(utf8, conn)}, $1)", LATIN), [["numbat"]])

    def test_a_character_that_the_database_lacks(self):
        utf8 = self.connect("utf8")
        self.copy_in(utf8, JAPANESE.encode() + b"\n")
        for db in ("latin1", "latin2"):
            with self.subTest(db):
                conn = self.connect(db)
                value = self.carried(utf8, conn)
                for statement in (f"SELECT decrypt_field({value})", f"SELECT {value}::text", f"SET prism_crypt.output = 'plaintext'; SELECT {value}"):
                    with self.assertRaises(PgError) as caught:
                        conn.execute(statement)
                    self.assertEqual(caught.exception.sqlstate, "22P05", caught.exception.message)
                    self.assertEqual(
                        caught.exception.message, f'the value has a character with no equivalent in encoding "{db.upper()}"')
                conn.execute("RESET prism_crypt.output")
                with self.subTest("the session and the value are as before"):
                    conn.execute("TRUNCATE t")
                    conn.execute(f"INSERT INTO t (v) VALUES ({value})")
                    self.assertEqual(utf8.execute(f"SELECT decrypt_field({self.carried(conn, utf8)})"), [[JAPANESE]])
                    self.assertEqual(conn.execute("SELECT key_version(v), decrypt_field(reencrypt_field(v)) IS NULL FROM t WHERE false"), [])
                    conn.execute("UPDATE t SET v = reencrypt_field(v)")
                    self.assertEqual(utf8.execute(f"SELECT decrypt_field({self.carried(conn, utf8)})"), [[JAPANESE]])
                with self.subTest("try_decrypt_field"):
                    self.assertEqual(conn.execute(f"SELECT try_decrypt_field({value}) IS NULL"), [["t"]])

    def test_a_character_that_the_client_lacks(self):
        conn = self.connect("utf8", "UTF8")
        self.copy_in(conn, JAPANESE.encode() + b"\n")
        conn.execute("SET client_encoding = 'LATIN1'")
        conn.execute("SET prism_crypt.output = 'plaintext'")
        for statement in ("SELECT decrypt_field(v) FROM t", "SELECT v FROM t"):
            with self.assertRaises(PgError) as caught:
                conn.execute(statement)
            self.assertEqual(caught.exception.sqlstate, "22P05")
        with self.assertRaises(PgError) as caught:
            conn.execute("SELECT v FROM t", binary=True)
        self.assertEqual(caught.exception.sqlstate, "22P05")
        conn.execute("RESET prism_crypt.output")
        self.assertTrue(conn.execute("SELECT v FROM t")[0][0].startswith("prism:v1:"))

    def test_bytes_that_are_no_text(self):
        for db, client_encoding, data in (("utf8", "UTF8", b"caf\xe9"), ("latin1", "UTF8", b"caf\xe9"), ("euc_jp", "EUC_JP", b"\xff\xff"),
                                          ("sql_ascii", "SQL_ASCII", b"caf\xe9")):
            with self.subTest(f"{db}, {client_encoding}"):
                conn = self.connect(db, client_encoding)
                for payload, options in ((data + b"\n", ""), (binary_copy([[data]]), "(FORMAT binary)")):
                    with self.assertRaises(PgError) as caught:
                        self.copy_in(conn, payload, options)
                    self.assertEqual(caught.exception.sqlstate, "22021", caught.exception.message)
                self.assertEqual(conn.execute("SELECT count(*) FROM t"), [["0"]])

    def test_a_zero_byte(self):
        conn = self.connect("utf8")
        with self.assertRaises(PgError) as caught:
            self.copy_in(conn, binary_copy([[b"a\0b"]]), "(FORMAT binary)")
        self.assertEqual(caught.exception.sqlstate, "22021")
        value = conn.execute("SELECT encrypt_bytes('\\x610062'::bytea)")[0][0]
        self.assertEqual(conn.execute(f"SELECT decrypt_bytes('{value}')"), [["\\x610062"]])


if __name__ == "__main__":
    unittest.main()
