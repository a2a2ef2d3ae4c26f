"""Runs the steps on stdin with asyncpg and prints what each gave; tests/drivers/driver_checks.py says what a step is."""

import asyncio
import io
import json
import sys

import asyncpg


async def query(conn, step):
    # fetch() prepares, and finds the prepared statement the next time.
    rows = [await conn.fetch(step["sql"], *parameters) for parameters in step["runs"]]
    return [[as_json(row) for row in run] for run in rows]


def as_json(row):
    return [{"hex": value.hex()} if isinstance(value, bytes) else value for value in row]


async def copy_in(conn, step):
    if step["format"] == "binary":
        await conn.copy_records_to_table(step["copy_in"], records=step["rows"], columns=step["columns"])
    else:
        lines = "".join("\t".join("\\N" if v is None else str(v) for v in row) + "\n" for row in step["rows"])
        await conn.copy_to_table(step["copy_in"], source=io.BytesIO(lines.encode()), columns=step["columns"], format="text")


async def copy_out(conn, step):
    """Text only: asyncpg gives the bytes as they are."""
    out = io.BytesIO()
    await conn.copy_from_query(step["copy_out"], output=out, format="text")
    return [line.split("\t") for line in out.getvalue().decode().splitlines()]


async def copy_back(conn, step):
    """As bytes, from a query to a table."""
    data = io.BytesIO()
    await conn.copy_from_query(step["copy_back"], output=data, format=step["format"])
    data.seek(0)
    await conn.copy_to_table(step["to"], source=data, format=step["format"])


async def run(conn, step):
    do = next(f for name, f in (("sql", query), ("copy_in", copy_in), ("copy_out", copy_out), ("copy_back", copy_back)) if name in step)
    try:
        return await do(conn, step)
    except asyncpg.PostgresError as error:
        return {"error": error.sqlstate, "text": f"{error} {error.detail} {error.hint}"}


async def main():
    given = json.load(sys.stdin)
    conn = await asyncpg.connect(**given["connection"])
    if given["variant"] == "text codec":
        await conn.set_type_codec("encrypted_text", schema="public", encoder=str, decoder=str)
    elif given["variant"] == "binary codec":
        await conn.set_type_codec("encrypted_text", schema="public", encoder=str.encode, decoder=bytes, format="binary")
    gave = [await run(conn, step) for step in given["steps"]]
    await conn.close()
    json.dump(gave, sys.stdout)


asyncio.run(main())
