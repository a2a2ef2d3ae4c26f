"""What is measured of migrations; see parts.py."""

import signal
import statistics
import subprocess
import tempfile
import time
from pathlib import Path

from parts import BATCHED_UPDATE, EMAIL, durable, executed, in_turns, wall

ROWS = 1_000_000
CUT_OVERS = 12


def make_table(c, rows=ROWS):
    c.psql("DROP TABLE IF EXISTS r; CREATE TABLE r (i bigint PRIMARY KEY, e text, note text, twin text);"
           f"INSERT INTO r (i, e, note) SELECT i, {EMAIL}, 'note ' || i FROM generate_series(1, {rows}) i; VACUUM ANALYZE r; CHECKPOINT")


def seconds_of(c, kind):
    return float(c.psql(f"SELECT extract(epoch FROM finished_at - started_at) FROM prism_crypt.job WHERE kind = '{kind}' ORDER BY id DESC LIMIT 1"))


def migrate(column_type, options="", batch_size=5000):
    return f"CALL prism_crypt.migrate_column('r', 'e', '{column_type}', method => 'online', until => 'verified', batch_size => {batch_size}{options})"


def part_backfill(c):
    """Backfill of a migration, 1,000,000 rows with a primary key

    With fsync on. The plain `UPDATE` fills a text column with the same text, by ranges of blocks; the backfill seals, and its rows are larger. Both in
    transactions of 1,000, 5,000 and 20,000 rows, compared with the best plain one.
    """
    c.psql(BATCHED_UPDATE)
    durable(c, True)

    def run(what):
        make_table(c)
        if what.startswith("CALL batched"):
            return wall(c, what)
        c.psql(what)
        return seconds_of(c, "backfill")

    sizes = (1000, 5000, 20000)
    plain = {f"`UPDATE`, {rows:,} rows": f"CALL batched_update('twin = e', {rows})" for rows in sizes}
    backfills = {f"backfill to `{of_type}`, {rows:,} rows": migrate(of_type, batch_size=rows)
                 for of_type in ("encrypted_text", "encrypted_text(email,searchable)") for rows in sizes}
    took = in_turns(run, (*plain.values(), *backfills.values()), 3)
    best = min(took[sql] for sql in plain.values())
    durable(c, False)
    return [("", "seconds", "rows a second", "times the best `UPDATE`"),
            *((name, f"{took[sql]:.2f}", f"{ROWS / took[sql]:,.0f}", f"{took[sql] / best:.2f}") for name, sql in {**plain, **backfills}.items())]


def part_verification(c):
    """Verification of a migration, 1,000,000 rows

    Against scans of the same table: of the plaintext, and one that opens the new column. A verification reads both, opens and compares.
    """
    make_table(c)
    c.psql(migrate("encrypted_text") + ";\nVACUUM r")
    opens = "prism_crypt_new_e::text = 'x'"
    scans = {"`length(e) = 1`": "length(e) = 1", f"`{opens}`": opens, "verification": "prism_crypt._is_out_of_step(e, prism_crypt_new_e, -1)"}
    took = in_turns(lambda condition: executed(c, f"SELECT count(*) FROM r WHERE {condition}"), scans.values())
    return [("", "seconds", "times the scan that opens"), *((name, f"{took[sql]:.3f}", f"{took[sql] / took[opens]:.2f}") for name, sql in scans.items())]


def part_cut_over(c):
    """What statements wait for a cut-over

    pgbench, two clients that update rows by their primary key; a table of 100,000 rows with a unique index of the column, a view and a
    CHECK. Latency of the statements that ran at any moment of the call that made the cut-over (12 cut-overs), and of those that ended in as
    long a time before each.
    """
    make_table(c, 100_000)
    c.psql("CREATE UNIQUE INDEX r_e ON r (e); ALTER TABLE r ADD CHECK (e <> ''); CREATE VIEW v AS SELECT i, e FROM r")
    script = c.write_file("update.pgb", "\\set n random(1, 100000)\nUPDATE r SET note = 'written' WHERE i = :n;\n", 0o644)
    before, during = [], []
    for _ in range(CUT_OVERS):
        c.psql(migrate("encrypted_text(email,searchable)"))
        with tempfile.TemporaryDirectory() as directory:
            Path(directory).chmod(0o777)
            argv = [c.bindir / "pgbench", "-n", "-c", "2", "-T", "10", "-l", f"--log-prefix={directory}/log", "-f", script, "-h", c.socket, "-p", c.port, "-U", "postgres", "postgres"]
            load = subprocess.Popen([str(a) for a in argv], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd="/")
            time.sleep(2)
            started = time.time()
            c.psql("CALL prism_crypt.migrate_column('r', 'e', 'encrypted_text(email,searchable)')")
            ended = time.time()
            # The timer of -T: what is logged of the statements is written out. Without a load there was nothing to measure.
            assert load.poll() is None, "the cut-over took longer than the load"
            load.send_signal(signal.SIGALRM)
            load.wait(60)
            # client, number, µs, script, seconds, µs: when it ended.
            ends = [(int(f[4]) + int(f[5]) / 1e6, int(f[2]) / 1e3) for f in (line.split() for log in Path(directory).glob("log*") for line in log.read_text().splitlines())]
        # A statement that waits for the cut-over ends after it.
        during += [ms for at, ms in ends if at >= started and at - ms / 1e3 <= ended]
        before += [ms for at, ms in ends if started - (ended - started) <= at < started]
        c.psql("SELECT max(id) AS id FROM prism_crypt.migrations \\gset\nCALL prism_crypt.rollback_migration(:id);\nVACUUM r")
    c.psql("DROP TABLE r CASCADE")
    cut = {"before": sorted(before), "during": sorted(during)}
    return [("", "statements", "median, ms", "99th percentile, ms", "longest, ms"),
            *((name, f"{len(ms):,}", f"{statistics.median(ms):.2f}", f"{ms[int(len(ms) * 0.99)]:.1f}", f"{ms[-1]:.1f}") for name, ms in cut.items())]
