"""What is measured of searching; see parts.py."""

import statistics
import tempfile
from pathlib import Path

from parts import VALUES, executed, in_turns, wall

ROWS = 1_000_000
SEARCHABLE = "encrypted_text('email', 'searchable')"
# Scattered, so that an index on text is as scattered as one on tags.
SCATTERED = "md5(i::text) || '@example.org'"


def latencies(c, scripts, seconds=20):
    """Mean µs a transaction of each script. One run takes them in random order, so that all meet the same disturbances."""
    options = []
    for number, script in enumerate(scripts):
        options += ["-f", c.write_file(f"search{number}.pgb", script, 0o644)]
    with tempfile.TemporaryDirectory() as logs:
        c.run(["pgbench", "-n", "-M", "prepared", "-c", "1", "-T", str(seconds), "-l", "--log-prefix", f"{logs}/log", *options])
        lines = [line.split() for log in Path(logs).iterdir() for line in log.read_text().splitlines()]
    # client, transaction, microseconds, script, ...
    return [statistics.fmean(int(line[2]) for line in lines if line[3] == str(number)) for number in range(len(scripts))]


def make_tables(c):
    """Two columns of the same values in each of two tables, once for all parts."""
    if c.psql("SELECT to_regclass('s_text') IS NULL") == "f":
        return
    for name, kind in (("s_text", "text"), ("s_sealed", SEARCHABLE)):
        c.psql(f"CREATE TABLE {name} (i int, e {kind}); INSERT INTO {name} SELECT i, {SCATTERED} FROM generate_series(1, {ROWS}) i;"
               f"CREATE TABLE {name}_too AS SELECT i, e::{kind} FROM {name} ORDER BY i % 1000;"
               f"VACUUM ANALYZE {name}, {name}_too")


def ratio(name, took):
    """Rows of a table: text, encrypted, and how they compare."""
    text, sealed = took
    return [name, f"{text:.1f}", f"{sealed:.1f}", f"{sealed / text:.2f}"]


def part_search_lookup(c):
    """Look-up of one of 1,000,000 values through a hash index

    pgbench, prepared, one client; the parameter is text.
    """
    make_tables(c)
    c.psql("CREATE INDEX s_text_hash ON s_text USING hash (e); CREATE INDEX s_sealed_hash ON s_sealed USING hash (e)")
    scripts = [f"\\set n random(1, {ROWS})\nSELECT i FROM {name} WHERE e = md5((:n)::text) || '@example.org';" for name in ("s_text", "s_sealed")]
    took = latencies(c, scripts)
    c.psql("DROP INDEX s_text_hash, s_sealed_hash")
    return [("µs", "text", "encrypted_text", "times text"), ratio("look-up", took)]


def part_search_unique(c):
    """INSERT into a table of 1,000,000 rows with a unique index

    pgbench, prepared, one client. The values are scattered over the index.
    """
    make_tables(c)
    c.psql("CREATE UNIQUE INDEX s_text_unique ON s_text (e);"
           "CREATE UNIQUE INDEX s_sealed_unique ON s_sealed (e encrypted_text_unique_ops); CREATE SEQUENCE s_number")
    new = "md5('new' || nextval('s_number')) || '@example.org'"
    took = latencies(c, [f"INSERT INTO {name} (e) VALUES ({new});" for name in ("s_text", "s_sealed")])
    upsert = latencies(c, [f"\\set n random(1, {ROWS})\nINSERT INTO {name} (e) VALUES (md5((:n)::text) || '@example.org') "
                           "ON CONFLICT (e) DO NOTHING;" for name in ("s_text", "s_sealed")])
    c.psql("DROP INDEX s_text_unique, s_sealed_unique; DROP SEQUENCE s_number; DROP TABLE s_text, s_sealed, s_text_too, s_sealed_too")
    return [("µs", "text", "encrypted_text", "times text"), ratio("`INSERT`", took), ratio("`INSERT … ON CONFLICT DO NOTHING`, there already", upsert)]


def part_search_scan(c):
    """1,000,000 rows without an index: a scan for one value, a hash join, a grouping

    Joins and groups stay in memory (work_mem 256 MB).
    """
    make_tables(c)
    one = "'c4ca4238a0b923820dcc509a6f75849b@example.org'"
    statements = {
        "scan for one value": "count(*) FROM {0} WHERE e = " + one,
        "hash join": "count(*) FROM {0} JOIN {0}_too USING (e)",
        "hash join with a text column": "count(*) FROM {0} JOIN s_text_too AS t ON t.e = {0}.e",
        "`GROUP BY`": "count(*) FROM (SELECT e FROM {0} GROUP BY e) AS x",
    }
    took = in_turns(lambda sql: executed(c, "SELECT " + sql) * 1e3,
                    [sql.format(name) for sql in statements.values() for name in ("s_text", "s_sealed")], 9)
    return [("ms", "text", "encrypted_text", "times text")] + [
        ratio(what, [took[sql.format(name)] for name in ("s_text", "s_sealed")]) for what, sql in statements.items()]


def part_search_arrays(c):
    """Arrays of four values in 100,000 rows: those that hold a text

    The index is GIN; pgbench, prepared, one client, the parameter is `text[]`.
    """
    rows = 100_000
    for name, kind in (("a_text", "text[]"), ("a_sealed", f"{SEARCHABLE}[]")):
        c.psql(f"CREATE TABLE {name} (i int, e {kind}); INSERT INTO {name} SELECT i, ARRAY(SELECT md5((i * 4 + n)::text) FROM generate_series(1, 4) n) "
               f"FROM generate_series(1, {rows}) i; VACUUM ANALYZE {name}")
    names = ("a_text", "a_sealed")
    scans = in_turns(lambda name: executed(c, f"SELECT count(*) FROM {name} WHERE e @> ARRAY['c4ca4238a0b923820dcc509a6f75849b']") * 1e3, names, 3)
    for name in names:
        c.psql(f"CREATE INDEX ON {name} USING gin (e)")
    took = latencies(c, [f"\\set n random(4, {rows * 4})\nSELECT i FROM {name} WHERE e @> ARRAY[md5((:n)::text)];" for name in names])
    c.psql("DROP TABLE a_text, a_sealed")
    return [("", "text[]", "encrypted_text[]", "times text[]"), ratio("scan, ms", [scans[name] for name in names]), ratio("look-up by index, µs", took)]


def part_result_type(c):
    """Reading 1,000,000 emails as plaintext, by psql

    Announced as `text` (the default) or as `encrypted_text`. The column of text holds the same.
    """
    make_tables(c)
    settings = {"text, announced as it is": ("s_text", "text"), "`encrypted_text`, announced as `text`": ("s_sealed", "text"),
                "`encrypted_text`, announced as it is": ("s_sealed", "encrypted_text")}

    def read(what):
        table, result_type = settings[what]
        return wall(c, f"SET prism_crypt.output = 'plaintext'; SET prism_crypt.result_type = '{result_type}';\n\\o /dev/null\nSELECT e FROM {table};\n")

    took = in_turns(read, settings, 5)
    least = min(took.values())
    return [("", "ms", "times text"), *((what, f"{seconds * 1e3:.0f}", f"{seconds / least:.2f}") for what, seconds in took.items())]


def part_search_tag(c):
    """What a search tag costs

    µs a value: sealing 200,000 emails with and without a tag.
    """
    c.psql(f"CREATE TABLE untagged AS SELECT lpad(i::text, 8, 'u') || '@example.org' AS e FROM generate_series(1, {VALUES}) i; VACUUM ANALYZE untagged")
    with_tag, without = f"count(e::{SEARCHABLE}) FROM untagged", "count(e::encrypted_text('email')) FROM untagged"
    took = in_turns(lambda sql: executed(c, f"SELECT {sql}"), (with_tag, without), 9)
    size = c.psql(f"SELECT pg_column_size('x'::{SEARCHABLE}) - pg_column_size('x'::encrypted_text('email'))")
    return [("", "µs a value", "bytes a value"),
            ("search tag", f"{(took[with_tag] - took[without]) * 1e6 / VALUES:.3f}", size)]
