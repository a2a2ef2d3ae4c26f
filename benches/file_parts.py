"""What is measured of encrypted files; see parts.py."""

import os
import re
from pathlib import Path

from parts import EMAIL, in_turns, wall

ROWS = 1_000_000
MEMORY_ROWS = 10_000_000


def make_table(c, rows=ROWS):
    c.psql(f"DROP TABLE IF EXISTS f; CREATE TABLE f (i bigint, e text, at timestamptz, n numeric); "
           f"INSERT INTO f SELECT i, {EMAIL}, timestamptz '2026-01-01' + i * interval '1 s', i / 7.0 FROM generate_series(1, {rows}) i; VACUUM ANALYZE f; CHECKPOINT")


def file_of(c, name):
    path = Path(c.home) / name
    path.unlink(missing_ok=True)
    return path


def part_files(c):
    """A table of 1,000,000 rows as a file

    Four columns without encrypted ones, out to a file and into an empty table, beside COPY in the text format. The export is encrypted, and fsynced, which COPY does not do.
    """
    make_table(c)
    c.psql("DROP TABLE IF EXISTS g; CREATE TABLE g (LIKE f)")

    def out(what):
        path = file_of(c, "bench.out")
        return wall(c, what.format(path=path))

    exports = {"`COPY … TO`": "COPY f TO '{path}'", "`export_encrypted`": "SELECT prism_crypt.export_encrypted('f', '{path}')",
               "`export_encrypted`, zstd": "SELECT prism_crypt.export_encrypted('f', '{path}', compression => 'zstd')"}
    took = in_turns(out, exports.values(), 3)
    plain, sealed = file_of(c, "bench.copy"), file_of(c, "bench.penc")
    c.psql(f"COPY f TO '{plain}'; SELECT prism_crypt.export_encrypted('f', '{sealed}')")

    def into(what):
        c.psql("TRUNCATE g; CHECKPOINT")
        return wall(c, what)

    imports = {"`COPY … FROM`": f"COPY g FROM '{plain}'", "`import_encrypted`": f"SELECT prism_crypt.import_encrypted('{sealed}', target => 'g', mode => 'empty')"}
    took |= in_turns(into, imports.values(), 3)
    rows = [("", "seconds", "times COPY")]
    for group in (exports, imports):
        base = took[next(iter(group.values()))]
        rows += [(name, f"{took[sql]:.2f}", f"{took[sql] / base:.2f}") for name, sql in group.items()]
    os.remove(plain)
    return rows


def part_files_memory(c):
    """Memory of an export and an import of 10,000,000 rows

    How far the private memory of the backend grows, in MB.
    """
    make_table(c, MEMORY_ROWS)
    c.psql("DROP TABLE IF EXISTS g; CREATE TABLE g (LIKE f)")
    path = file_of(c, "bench.penc")
    rows = [("", "MB")]
    for name, sql in (("export_encrypted", f"SELECT prism_crypt.export_encrypted('f', '{path}');"),
                      ("import_encrypted", f"SELECT prism_crypt.import_encrypted('{path}', target => 'g', mode => 'empty');")):
        session = c.session()
        status = Path(f"/proc/{session.run('SELECT pg_backend_pid();')}/status")
        session.run("SELECT decrypt_field(encrypt_field('x'));")
        private = lambda: int(re.search(r"RssAnon:\s+(\d+)", status.read_text()).group(1)) / 1024  # noqa: E731
        before, peak = private(), 0
        session.start(sql)
        while session.waiting(0.1):
            peak = max(peak, private())
        session.wait()
        rows.append((f"`{name}`", f"{max(peak, private()) - before:.1f}"))
        session.close()
    path.unlink()
    return rows
