"""Encrypted values as psycopg 3 shows them: parameters, rows, arrays and COPY on a table t; argv says which check."""

import json
import sys

import psycopg
from psycopg.types import TypeInfo


def parameters_and_rows(conn, cur, text):
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
        assert (raw[:1] == b"\x01") if binary else raw.startswith("prism:v1:"), type(raw)
        c.execute("SET prism_crypt.output = 'plaintext'")
        shown = [r[0] for r in c.execute("SELECT v FROM t WHERE id < 100 ORDER BY id")]
        assert [s.decode() if isinstance(s, bytes) else s for s in shown] == text
        c.execute("RESET prism_crypt.output")


def ciphertext_read_and_written_back(conn, cur, text):
    cur.execute("INSERT INTO t (id, v) VALUES (1, %s)", (text[0],))
    raw = cur.execute("SELECT v FROM t").fetchone()[0]
    cur.execute("INSERT INTO t (id, v) VALUES (2, %s)", (raw,))
    assert cur.execute("SELECT decrypt_field(v) FROM t WHERE id = 2").fetchone() == (text[0],)
    raw = conn.cursor(binary=True).execute("SELECT v FROM t WHERE id = 1").fetchone()[0]
    cur.execute("INSERT INTO t (id, v) VALUES (3, %b), (4, %t)", (raw, raw))
    assert cur.execute("SELECT count(DISTINCT encrypted_text_send(v)) FROM t").fetchone() == (1,)


def server_side_type_for_copy(conn, cur, text):
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
    assert all(row[:1] == b"\x01" for row in rows) and len(rows) == len(text)
    with cur.copy("COPY t (id, v) FROM STDIN (FORMAT binary)") as copy:
        copy.set_types(["int4", "bytea"])
        for i, row in enumerate(rows):
            copy.write_row((i + 200, row))
    assert [r[0] for r in cur.execute("SELECT decrypt_field(v) FROM t WHERE id >= 200 ORDER BY id")] == text


def arrays(conn, cur, text):
    cur.execute("INSERT INTO t (id, l) VALUES (1, %s)", (text,))
    cur.execute("INSERT INTO t (id, l) VALUES (2, %s::encrypted_text[])", (text,))
    opened = "SELECT decrypt_field(e) FROM t, unnest(l) WITH ORDINALITY AS u (e, n) WHERE id = 1 ORDER BY n"
    assert [r[0] for r in cur.execute(opened)] == text
    # A parameter of type text is logged as it is, so this one is no secret.
    cur.execute("INSERT INTO t (id, l) VALUES (3, %s)", (["numbat", "quokka"],))
    compared = "SELECT count(*) FROM t, unnest(l) AS e WHERE decrypt_field(e) = ANY(%s)"
    assert cur.execute(compared, (["quokka", "numbat", "x"],)).fetchone() == (2,)


def errors(conn, cur, text):
    cur.execute("INSERT INTO t (id, v) VALUES (1, %s)", (text[0],))
    raw = cur.execute("SELECT v FROM t").fetchone()[0]
    for sql, args in (("SELECT decrypt_field(v) FROM t", None), ("INSERT INTO t (id, v) VALUES (2, %s)", (raw,)),
                      ("SELECT v LIKE 'x' FROM t", None), ("INSERT INTO t (id, v) VALUES (2, %s)", ("prism:v1:x",))):
        try:
            cur.execute(sql, args)
        except psycopg.Error as error:
            assert error.sqlstate == "42501", (sql, error.sqlstate)
        else:
            raise AssertionError(sql)
        cur.execute("SELECT 1")
    assert cur.execute("SELECT count(*) FROM t").fetchone() == (1,)


given = json.load(sys.stdin)
where = given["connection"]
check = {f.__name__: f for f in (parameters_and_rows, ciphertext_read_and_written_back, server_side_type_for_copy, arrays, errors)}[sys.argv[1]]
with psycopg.connect(host=where["host"], port=where["port"], user=where["user"], dbname=where["database"], autocommit=True) as connection:
    check(connection, connection.cursor(), given["texts"])
json.dump("done", sys.stdout)
