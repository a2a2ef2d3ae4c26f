"""Runs the steps on stdin with psycopg 3 and prints what each gave; tests/drivers/driver_checks.py says what a step is."""

import json
import re
import sys

import psycopg

given = json.load(sys.stdin)
binary = given["variant"] == "binary"


def as_json(row):
    return [{"hex": value.hex()} if isinstance(value, bytes) else value for value in row]


def query(conn, step):
    # %s sends a str without a type, %b sends it as text.
    sql = re.sub(r"\$\d", "%b" if binary else "%s", step["sql"])
    gave = []
    for parameters in step["runs"]:
        cursor = conn.cursor(binary=binary).execute(sql, parameters or None, prepare=len(step["runs"]) > 1)
        gave.append([as_json(row) for row in cursor] if cursor.description else [])
    return gave


def copy_in(conn, step):
    columns = ", ".join(step["columns"])
    with conn.cursor().copy(f"COPY {step['copy_in']} ({columns}) FROM STDIN (FORMAT {step['format']})") as copy:
        if step["format"] == "binary":
            copy.set_types(step["types"])
        for row in step["rows"]:
            copy.write_row(row)


def copy_out(conn, step):
    with conn.cursor().copy(f"COPY ({step['copy_out']}) TO STDOUT (FORMAT {step['format']})") as copy:
        copy.set_types(step["types"])
        return [as_json(row) for row in copy.rows()]


def copy_back(conn, step):
    """As bytes, from a query to a table."""
    with conn.cursor().copy(f"COPY ({step['copy_back']}) TO STDOUT (FORMAT {step['format']})") as copy:
        data = b"".join(copy)
    with conn.cursor().copy(f"COPY {step['to']} FROM STDIN (FORMAT {step['format']})") as copy:
        copy.write(data)


def run(conn, step):
    do = next(f for name, f in (("sql", query), ("copy_in", copy_in), ("copy_out", copy_out), ("copy_back", copy_back)) if name in step)
    try:
        return do(conn, step)
    except psycopg.Error as error:
        return {"error": error.sqlstate, "text": str(error)}


where = given["connection"]
with psycopg.connect(host=where["host"], port=where["port"], user=where["user"], dbname=where["database"], autocommit=True) as connection:
    json.dump([run(connection, step) for step in given["steps"]], sys.stdout)
