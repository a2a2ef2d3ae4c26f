"""psycopg 3 uses the type as it uses text: parameters, rows, COPY, in text and in binary. Skipped where pip can't get it."""

import json
import subprocess
import sys
import unittest

from harness import canaries, paths
from harness.scenario import Scenario

VERSION = "psycopg[binary]==3.2.*"


def python():
    """The interpreter of an environment that has psycopg, made at the first call; None where that is impossible."""
    home = paths.CACHE / f"venv-{sys.version_info.major}.{sys.version_info.minor}"
    executable = home / "bin/python"
    if subprocess.run([str(executable), "-c", "import psycopg"], capture_output=True, check=False).returncode == 0 if executable.exists() else False:
        return executable
    for argv in ([sys.executable, "-m", "venv", str(home)], [str(executable), "-m", "pip", "install", "-q", "--retries", "1", "--timeout", "10", VERSION]):
        try:
            if subprocess.run(argv, capture_output=True, check=False, timeout=180).returncode != 0:
                return None
        except (OSError, subprocess.TimeoutExpired):
            return None
    return executable


PRELUDE = """
import json, sys
import psycopg
from psycopg.types import TypeInfo
given = json.load(sys.stdin)
conn = psycopg.connect(given["dsn"], autocommit=True)
text = given["texts"]
cur = conn.cursor()
"""


class Psycopg(Scenario):
    preload = True

    @classmethod
    def setUpClass(cls):
        cls.python = python()
        if cls.python is None:
            raise unittest.SkipTest("pip could not install psycopg")
        super().setUpClass()

    def setUp(self):
        self.db = self.database(self.id().rpartition(".")[2][:60].lower())
        self.cluster.psql("CREATE TABLE t (id int, v encrypted_text, c encrypted_text('personal'), l encrypted_text[])", db=self.db)

    def run_client(self, code, user="postgres"):
        dsn = f"host={self.cluster.socket} port={self.cluster.port} dbname={self.db} user={user}"
        given = json.dumps({"dsn": dsn, "texts": list(canaries.PLAINTEXTS.values())})
        done = subprocess.run([str(self.python), "-c", PRELUDE + code], input=given, capture_output=True, text=True, check=False, env=paths.clean_env())
        self.assertEqual(done.returncode, 0, done.stderr)
        return done.stdout.strip()

    def test_parameters_and_rows(self):
        self.run_client("""
for i, t in enumerate(text, 1):
    cur.execute("INSERT INTO t (id, v, c) VALUES (%s, %s, %s)", (i, t, t))
cur.executemany("INSERT INTO t (id, v) VALUES (%s, %s)", [(100 + i, t) for i, t in enumerate(text)])
cur.execute("INSERT INTO t (id, v) VALUES (%s, %s)", (200, None))
for _ in range(8):  # prepared after some
    cur.execute("SELECT decrypt_field(v), v::text, decrypt_field(c) FROM t WHERE id = %s", (1,))
    assert cur.fetchone() == (text[0],) * 3
for binary in (False, True):
    c = conn.cursor(binary=binary)
    assert [r[0] for r in c.execute("SELECT decrypt_field(v) FROM t WHERE id < 100 ORDER BY id")] == text
    assert c.execute("SELECT v FROM t WHERE id = 200").fetchone() == (None,)
    raw = c.execute("SELECT v FROM t WHERE id = 1").fetchone()[0]
    assert (raw[:1] == b"\\x01") if binary else raw.startswith("prism:v1:"), type(raw)
    c.execute("SET prism_crypt.output = 'plaintext'")
    shown = [r[0] for r in c.execute("SELECT v FROM t WHERE id < 100 ORDER BY id")]
    assert [s.decode() if isinstance(s, bytes) else s for s in shown] == text
    c.execute("RESET prism_crypt.output")
""")

    def test_a_ciphertext_read_and_written_back(self):
        self.run_client("""
cur.execute("INSERT INTO t (id, v) VALUES (1, %s)", (text[0],))
raw = cur.execute("SELECT v FROM t").fetchone()[0]
cur.execute("INSERT INTO t (id, v) VALUES (2, %s)", (raw,))
assert cur.execute("SELECT decrypt_field(v) FROM t WHERE id = 2").fetchone() == (text[0],)
raw = conn.cursor(binary=True).execute("SELECT v FROM t WHERE id = 1").fetchone()[0]
cur.execute("INSERT INTO t (id, v) VALUES (3, %b), (4, %t)", (raw, raw))
assert cur.execute("SELECT count(DISTINCT encrypted_text_send(v)) FROM t").fetchone() == (1,)
""")

    def test_a_server_side_type_for_copy(self):
        self.run_client("""
TypeInfo.fetch(conn, "encrypted_text").register(conn)
with cur.copy("COPY t (id, v, c) FROM STDIN") as copy:
    for i, t in enumerate(text):
        copy.write_row((i, t, t))
with cur.copy("COPY t (id, v) FROM STDIN (FORMAT binary)") as copy:
    copy.set_types(["int4", "text"])
    for i, t in enumerate(text):
        copy.write_row((i + 100, t))
assert [r[0] for r in cur.execute("SELECT decrypt_field(v) FROM t ORDER BY id")] == text * 2
with cur.copy("COPY (SELECT v FROM t WHERE id < 100 ORDER BY id) TO STDOUT (FORMAT binary)") as copy:
    copy.set_types(["bytea"])
    rows = [row[0] for row in copy.rows()]
assert all(row[:1] == b"\\x01" for row in rows) and len(rows) == len(text)
with cur.copy("COPY t (id, v) FROM STDIN (FORMAT binary)") as copy:
    copy.set_types(["int4", "bytea"])
    for i, row in enumerate(rows):
        copy.write_row((i + 200, row))
assert [r[0] for r in cur.execute("SELECT decrypt_field(v) FROM t WHERE id >= 200 ORDER BY id")] == text
""")

    def test_arrays(self):
        self.run_client("""
cur.execute("INSERT INTO t (id, l) VALUES (1, %s)", (text,))
cur.execute("INSERT INTO t (id, l) VALUES (2, %s::encrypted_text[])", (text,))
assert [r[0] for r in cur.execute("SELECT decrypt_field(e) FROM t, unnest(l) WITH ORDINALITY AS u (e, n) WHERE id = 1 ORDER BY n")] == text
# A parameter of type text is logged as it is, so this one is no secret.
cur.execute("INSERT INTO t (id, l) VALUES (3, %s)", (["numbat", "quokka"],))
assert cur.execute("SELECT count(*) FROM t, unnest(l) AS e WHERE decrypt_field(e) = ANY(%s)", (["quokka", "numbat", "x"],)).fetchone() == (2,)
""")

    def test_errors(self):
        self.cluster.psql("CREATE ROLE app LOGIN; GRANT ALL ON t TO app; ", db=self.db)
        self.run_client("""
cur.execute("INSERT INTO t (id, v) VALUES (1, %s)", (text[0],))
raw = cur.execute("SELECT v FROM t").fetchone()[0]
for sql, args, state in (("SELECT decrypt_field(v) FROM t", None, "42501"), ("INSERT INTO t (id, v) VALUES (2, %s)", (raw,), "42501"),
                         ("SELECT v LIKE 'x' FROM t", None, "42501"), ("INSERT INTO t (id, v) VALUES (2, %s)", ("prism:v1:x",), "42501")):
    try:
        cur.execute(sql, args)
    except psycopg.Error as error:
        assert error.sqlstate == state, (sql, error.sqlstate)
    else:
        raise AssertionError(sql)
    cur.execute("SELECT 1")
assert cur.execute("SELECT count(*) FROM t").fetchone() == (1,)
""", user="app")


if __name__ == "__main__":
    unittest.main()
