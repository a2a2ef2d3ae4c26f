"""What is measured. Each part gets a cluster with the extension and a key, and gives the rows of a table."""

import contextlib
import re
import statistics
import tempfile
import time
from pathlib import Path

import builds

VALUES = 200_000
EMAIL = "lpad(i::text, 8, 'u') || '@example.org'"
QUIET = "SET max_parallel_workers_per_gather = 0; SET jit = off; SET work_mem = '256MB';\n"


def in_turns(measure, things, rounds=5):
    """The smallest that measure(thing) gives for each thing; all are measured once before any is measured again."""
    best = dict.fromkeys(things, float("inf"))
    for _ in range(rounds):
        for thing in things:
            best[thing] = min(best[thing], measure(thing))
    return best


def executed(c, sql):
    """Seconds inside the server."""
    out = c.psql(f"{QUIET}EXPLAIN (ANALYZE, TIMING OFF, FORMAT JSON) {sql};\n")
    return float(re.search(r'"Execution Time": ([\d.]+)', out).group(1)) / 1e3


def wall(c, sql):
    """Seconds of a script as a client sees it."""
    started = time.monotonic()
    c.psql(sql)
    return time.monotonic() - started


PGCRYPTO_KEY = "'0123456789abcdef0123456789abcdef'::bytea, '0123456789abcdef'::bytea, 'aes'"


def part_values(c):
    """Sealing and opening 200,000 emails of 20 bytes

    Time a value, after that of the same scan with a no-op function (`octet_length`, `key_version`) is taken off. The
    library is built for this machine, as a source build is, and for any processor, as packages are. The cipher alone is
    a call of the `aes-gcm` crate that allocates its result. pgcrypto's `encrypt_iv` takes a raw key and authenticates
    nothing; `pgp_sym_encrypt` is what people use, with a passphrase and its default settings.
    """
    with contextlib.ExitStack() as stack:
        clusters = clusters_to_compare(c, stack)
        for each in clusters.values():
            each.psql(f"CREATE EXTENSION pgcrypto;"
                      f"CREATE TABLE email AS SELECT {EMAIL} AS e FROM generate_series(1, {VALUES}) i;"
                      f"CREATE TABLE sealed AS SELECT encrypt_field(e) AS e FROM email;"
                      f"CREATE TABLE pgc AS SELECT encrypt_iv(e::bytea, {PGCRYPTO_KEY}) AS e FROM email; VACUUM ANALYZE")
        statements = (
            seal_base := "octet_length(e)) FROM email", seal := "encrypt_field(e)) FROM email",
            open_base := "key_version(e)) FROM sealed", open_ := "decrypt_field(e)) FROM sealed",
            pgc_seal := f"encrypt_iv(e::bytea, {PGCRYPTO_KEY})) FROM email",
            pgc_base := "octet_length(e)) FROM pgc", pgc_open := f"decrypt_iv(e, {PGCRYPTO_KEY})) FROM pgc")
        took = in_turns(lambda how: executed(clusters[how[0]], f"SELECT count({how[1]}"),
                        [(kind, sql) for sql in statements for kind in clusters], 7)
        pgp = {kind: pgp_values(each) for kind, each in clusters.items()}

    def both(of):
        """One column of figures each for sealing and opening, for each build."""
        return [figure for kind in clusters for figure in of(kind)]

    def each(*pairs):
        return both(lambda kind: [(took[kind, sql] - took[kind, base]) * 1e6 / VALUES for sql, base in pairs])

    ours, pgc = each((seal, seal_base), (open_, open_base)), each((pgc_seal, seal_base), (pgc_open, pgc_base))
    pgp = both(pgp.get)
    cipher = both(lambda kind: [times["20"] / 1e3 for times in builds.bare(kind).values()])
    return [("µs a value", *both(lambda kind: (f"sealing, {BUILDS[kind]}", f"opening, {BUILDS[kind]}"))),
            ("the cipher alone", *(f"{t:.3f}" for t in cipher)),
            ("`encrypt_field`, `decrypt_field`", *(f"{t:.3f}" for t in ours)),
            ("pgcrypto `encrypt_iv`, `decrypt_iv` (CBC, not authenticated)", *(f"{t:.3f}" for t in pgc)),
            ("pgcrypto `pgp_sym_encrypt`, `pgp_sym_decrypt`", *(f"{t:.1f}" for t in pgp)),
            ("prism_crypt / cipher", *(f"{a / b:.2f}" for a, b in zip(ours, cipher))),
            ("`encrypt_iv`, `decrypt_iv` / prism_crypt", *(f"{a / b:.1f}" for a, b in zip(pgc, ours))),
            ("`pgp_sym_encrypt`, `pgp_sym_decrypt` / prism_crypt", *(f"{a / b:.0f}" for a, b in zip(pgp, ours)))]


BUILDS = {"native": "for this machine", "portable": "for any"}


def clusters_to_compare(c, stack):
    """{"native": c, "portable": another}; only the latter where the installed library is built for any processor."""
    if builds.built_for(c).startswith("any "):
        return {"portable": c}
    return {"native": c, "portable": stack.enter_context(builds.portable_cluster())}


def pgp_values(c, values=2_000):
    """µs a value of pgp_sym_encrypt and pgp_sym_decrypt; of fewer values, because each derives a key from the passphrase."""
    c.psql(f"CREATE TABLE few AS SELECT e FROM email LIMIT {values};"
           "CREATE TABLE pgp AS SELECT pgp_sym_encrypt(e, 'passphrase') AS e FROM few; VACUUM ANALYZE few, pgp")
    took = in_turns(lambda sql: executed(c, f"SELECT count({sql}"), (
        "pgp_sym_encrypt(e, 'passphrase')) FROM few", "pgp_sym_decrypt(e, 'passphrase')) FROM pgp"), 3)
    return [seconds * 1e6 / values for seconds in took.values()]


def part_large(c):
    """Large values

    MB a second, after the time of a copy of the same values (`e || ''`, `encrypted_text_send`) is taken off; and the
    share of the cipher's own speed, built in the same way. Values stay in the processor's cache, and freed memory with the
    process, as they do for the cipher: malloc's thresholds are set so for the server, because else the kernel takes longer to
    give a backend a megabyte, again for each value, than the cipher takes to fill it.
    """
    rows = []
    with contextlib.ExitStack() as stack:
        clusters = clusters_to_compare(c, stack)
        for each in clusters.values():
            stack.enter_context(builds.keeping_memory(each))
        alone = {kind: builds.bare(kind) for kind in clusters}
        for size, count, times in ((1024, 200, 500), (65536, 10, 200), (1 << 20, 1, 150)):
            for each in clusters.values():
                each.psql(f"DROP TABLE IF EXISTS big, big_sealed; CREATE TABLE big (e text);"
                          "ALTER TABLE big ALTER e SET STORAGE EXTERNAL;"
                          f"INSERT INTO big SELECT repeat('x', {size}) FROM generate_series(1, {count});"
                          "CREATE TABLE big_sealed AS SELECT encrypt_field(e) AS e FROM big; VACUUM ANALYZE big, big_sealed")
            again = f"generate_series(1, {times})"
            statements = (
                seal_base := f"e || '') FROM {again}, big", seal := f"encrypt_field(e)) FROM {again}, big",
                open_base := f"encrypted_text_send(e)) FROM {again}, big_sealed",
                open_ := f"decrypt_field(e)) FROM {again}, big_sealed")
            took = in_turns(lambda how: executed(clusters[how[0]], f"SELECT count({how[1]}"),
                            [(kind, sql) for sql in statements for kind in clusters], 9)
            for kind in clusters:
                row = [f"{size:,}, {BUILDS[kind]}"]
                for what, sql, base in (("seal", seal, seal_base), ("open", open_, open_base)):
                    seconds = (took[kind, sql] - took[kind, base]) / count / times
                    row += [f"{size / 1e6 / seconds:,.0f}", f"{alone[kind][what][str(size)] / 1e9 / seconds:.0%}"]
                rows.append(tuple(row))
    return [("bytes a value, library built", "sealing", "share", "opening", "share"), *rows]


def part_input(c):
    """Input through the type, 200,000 rows

    A column with a field class is sealed a second time by `INSERT` of an untyped literal or parameter only; from text
    it is sealed once.
    """
    path = c.home / "input.csv"
    c.psql(f"CREATE TABLE source AS SELECT i, {EMAIL} AS e, {EMAIL} AS u FROM generate_series(1, {VALUES}) i; COPY source (i, e) TO '{path}';"
           "CREATE TABLE presealed AS SELECT i, encrypt_field(e) AS e FROM source")
    kinds = ("text", "encrypted_text", "encrypted_text('email')")

    def fill(how):
        kind, statement = how
        c.psql(f"DROP TABLE IF EXISTS filled; CREATE TABLE filled (i int, e {kind}); CHECKPOINT")
        return wall(c, statement)

    insert, copy = "INSERT INTO filled SELECT i, e FROM source", f"COPY filled FROM '{path}'"
    again = "INSERT INTO filled SELECT i, e FROM presealed"
    took = in_turns(fill, [(k, s) for k in kinds for s in (insert, copy)] + [(kinds[1], again), (kinds[2], again)], 4)
    each = {how: f"{seconds * 1e6 / VALUES:.2f}" for how, seconds in took.items()}
    return [("µs a row", "INSERT from text", "COPY FROM", "INSERT of sealed values")] + [
        (f"`{k}`", each[k, insert], each[k, copy], each.get((k, again), "")) for k in kinds]


def part_copy(c):
    """COPY FROM of 1,000,000 rows with one such column"""
    path, wide = c.home / "million.csv", c.home / "wide.csv"
    c.psql(f"COPY (SELECT i, {EMAIL} FROM generate_series(1, 1000000) i) TO '{path}';"
           f"COPY (SELECT i, rpad({EMAIL}, 55, 'x') FROM generate_series(1, 1000000) i) TO '{wide}'")

    def fill(how):
        c.psql(f"DROP TABLE IF EXISTS million; CREATE TABLE million (i int, e {how[1]}); CHECKPOINT")
        return wall(c, f"COPY million FROM '{how[2]}'")

    columns = (("text", "text", path), ("text as wide as the envelope", "text", wide), ("encrypted_text", "encrypted_text", path))
    took = in_turns(fill, columns, 4)
    return [("column", "seconds", "times text")] + [
        (how[0], f"{s:.2f}", f"{s / took[columns[0]]:.2f}") for how, s in took.items()]


def part_pgbench(c):
    """pgbench, one row a transaction, prepared, one client

    Mean latency. Each run takes both statements in random order, so that both meet the same disturbances.
    """
    for kind in ("text", "encrypted_text"):
        c.psql(f"CREATE TABLE b_{kind} (i bigserial PRIMARY KEY, e {kind});"
               f"INSERT INTO b_{kind} (e) SELECT {EMAIL} FROM generate_series(1, 100000) i; VACUUM ANALYZE b_{kind}")
    inserts = [f"INSERT INTO b_{kind} (e) VALUES ('u' || :n || '@example.org');" for kind in ("text", "encrypted_text")]
    selects = ["SELECT e FROM b_text WHERE i = :n;", "SELECT decrypt_field(e) FROM b_encrypted_text WHERE i = :n;"]

    def latencies(statements):
        options = []
        for number, sql in enumerate(statements):
            options += ["-f", c.write_file(f"{number}.pgb", "\\set n random(1, 100000)\n" + sql, 0o644)]
        with tempfile.TemporaryDirectory() as logs:
            c.run(["pgbench", "-n", "-M", "prepared", "-c", "1", "-T", "20", "-l", "--log-prefix", f"{logs}/log", *options])
            lines = [line.split() for log in Path(logs).iterdir() for line in log.read_text().splitlines()]
        # client, transaction, microseconds, script, ...
        return [statistics.fmean(int(line[2]) for line in lines if line[3] == str(number)) for number in (0, 1)]

    found = [latencies(inserts), latencies(selects)]
    return [("µs a transaction", "INSERT", "SELECT by primary key"),
            *((kind, *(f"{latency[number]:.1f}" for latency in found)) for number, kind in enumerate(("text", "encrypted_text"))),
            ("transactions a second", *(f"{text / sealed - 1:+.1%}" for text, sealed in found))]


def part_storage(c):
    """Storage

    Bytes a value, PostgreSQL's own header of 1 or 4 bytes included.
    """
    rows = [("plaintext bytes", "text", "encrypted_text", "more")]
    for size in (0, 20, 100, 1000):
        plain, sealed = map(int, c.psql(
            # Text that PostgreSQL can't compress.
            "CREATE TEMP TABLE s AS SELECT t, encrypt_field(t) AS v FROM "
            f"(SELECT left(string_agg(md5(i::text), ''), {size}) AS t FROM generate_series(1, 32) AS i) AS x;"
            "SELECT pg_column_size(t) || ' ' || pg_column_size(v) FROM s").split())
        rows.append((f"{size:,}", str(plain), str(sealed), str(sealed - plain)))
    return rows


def part_memory(c):
    """Memory for a value of 100 MB

    How far a statement raises the memory of its backend, in times the size of the value. The plaintext that the
    statement makes or reads is one of them, the result another.
    """
    size = 100_000_000
    plaintext = f"repeat(repeat('x', 1000), {size // 1000})"
    c.psql(f"CREATE TABLE huge AS SELECT encrypt_field({plaintext}) AS v")

    def peak(sql):
        session = c.session()
        status = Path(f"/proc/{session.run('SELECT pg_backend_pid();')}/status")
        session.run("SELECT decrypt_field(encrypt_field('x'));")
        kilobytes = [int(re.search(rf"{name}:\s+(\d+)", text).group(1)) for name, text in
                     (("VmRSS", status.read_text()), ("VmHWM", session.run(sql) and status.read_text()))]
        session.close()
        return (kilobytes[1] - kilobytes[0]) * 1024 / size

    return [("statement", "times the value")] + [(f"`{sql}`", f"{peak(run):.1f}") for sql, run in (
        ("SELECT key_version(encrypt_field(...))", f"SELECT key_version(encrypt_field({plaintext}));"),
        ("SELECT length(decrypt_field(v)) FROM huge", "SELECT length(decrypt_field(v)) FROM huge;"),
        ("SELECT key_version(reencrypt_field(v)) FROM huge", "SELECT key_version(reencrypt_field(v)) FROM huge;"))]


ROTATED = 1_000_000
# What an operator would write: ranges of blocks, each in a transaction. :what is the SET clause.
BATCHED_UPDATE = """
CREATE OR REPLACE PROCEDURE batched_update(what text, batch_size int) LANGUAGE plpgsql AS $$
DECLARE
  blocks bigint := pg_relation_size('r') / 8192;
  step int := greatest(1, batch_size * blocks / (SELECT reltuples FROM pg_class WHERE oid = 'r'::regclass));
BEGIN
  FOR block IN 0 .. blocks BY step LOOP
    EXECUTE format('UPDATE r SET %s WHERE ctid >= $1 AND ctid < $2', what)
      USING format('(%s,0)', block)::tid, format('(%s,0)', block + step)::tid;
    COMMIT;
  END LOOP;
END $$;"""


def make_rotated(c, rows=ROTATED, fillfactor=100):
    c.psql(f"DROP TABLE IF EXISTS r; CREATE TABLE r (i bigint PRIMARY KEY, e encrypted_text, note text) WITH (fillfactor = {fillfactor});"
           f"INSERT INTO r SELECT i, encrypt_field({EMAIL}), 'note ' || i FROM generate_series(1, {rows}) i;"
           "VACUUM ANALYZE r; SELECT prism_crypt.rotate_key(); CHECKPOINT")


def durable(c, is_on):
    """Batches are committed, so what a commit costs counts: with fsync, as servers have it."""
    c.configure({"fsync": "on" if is_on else "off"})
    c.reload()


def part_rotate(c):
    """Rotation of 1,000,000 rows with a primary key

    With fsync on. The plain `UPDATE` sets the column to itself, in transactions of as many rows, by ranges of blocks; the
    best of 1,000, 5,000 and 20,000 rows. By hand is the same with `reencrypt_field`.
    """
    c.psql(BATCHED_UPDATE)
    durable(c, True)

    def run(what):
        make_rotated(c)
        return wall(c, what)

    plain = [f"CALL batched_update('e = e', {rows})" for rows in (1000, 5000, 20000)]
    by_hand = "CALL batched_update('e = reencrypt_field(e)', 5000)"
    rotate = ["CALL rotate_batch('r', 'e')", "CALL rotate_batch('r', 'e', 5000)"]
    took = in_turns(run, (*plain, by_hand, *rotate), 3)
    best = min(took[sql] for sql in plain)
    durable(c, False)
    return [("", "seconds", "rows a second", "times the best plain"),
            *((f"`{sql[5:]}`", f"{took[sql]:.2f}", f"{ROTATED / took[sql]:,.0f}", f"{took[sql] / best:.2f}")
              for sql in (*plain, by_hand, *rotate))]


def part_nothing(c):
    """A rotation that finds nothing to do, 1,000,000 rows

    Against scans of the same table that also look at each value. The first scan after a rotation tidies pages up, so
    each ran before.
    """
    make_rotated(c)
    c.psql("CALL rotate_batch('r', 'e'); VACUUM r")
    rotate, scans = "CALL rotate_batch('r', 'e')", (
        "SELECT count(*) FROM r WHERE key_version(e) = 1", "SELECT count(*) FROM r WHERE length(note) = 1", "SELECT count(*) FROM r")
    took = in_turns(lambda sql: wall(c, QUIET + sql), (rotate, *scans), 5)
    return [("", "seconds", "times"), *((f"`{sql}`", f"{took[sql]:.3f}", f"{took[rotate] / took[sql]:.2f}") for sql in (rotate, *scans))]


def part_sessions(c):
    """Two sessions that share the rotation of 1,000,000 rows"""
    def run(count):
        make_rotated(c)
        sessions = [c.session() for _ in range(count)]
        for session in sessions:
            session.run("SELECT decrypt_field(e) FROM r LIMIT 1;")
        started = time.monotonic()
        for session in sessions:
            session.start("CALL rotate_batch('r', 'e', 5000);")
        for session in sessions:
            session.wait(600)
        seconds = time.monotonic() - started
        for session in sessions:
            session.close()
        return seconds

    took = in_turns(run, (1, 2), 3)
    return [("sessions", "seconds", "times as fast"), *((str(n), f"{s:.2f}", f"{took[1] / s:.2f}") for n, s in took.items())]


def part_growth(c):
    """How far a rotation of 1,000,000 rows makes table and index grow

    MB, before and after; without VACUUM in between. With room on the pages rows stay where they are (HOT), and the index
    of the primary key gets no entries.
    """
    rows = [("", "table before", "after", "primary key before", "after", "WAL")]
    c.psql(BATCHED_UPDATE)
    sizes = "SELECT pg_table_size('r') || ' ' || pg_relation_size('r_pkey') || ' ' || (pg_current_wal_lsn() - '0/0')"
    for name, sql, fill in (("plain `UPDATE`", "CALL batched_update('e = e', 5000)", 100), ("`rotate_batch`", "CALL rotate_batch('r', 'e', 5000)", 100),
                            ("plain `UPDATE`, fillfactor 50", "CALL batched_update('e = e', 5000)", 50),
                            ("`rotate_batch`, fillfactor 50", "CALL rotate_batch('r', 'e', 5000)", 50)):
        make_rotated(c, fillfactor=fill)
        before = [int(float(x)) for x in c.psql(sizes).split()]
        c.psql(sql)
        after = [int(float(x)) for x in c.psql(sizes).split()]
        mb = [f"{x / 1e6:.0f}" for x in (before[0], after[0], before[1], after[1], after[2] - before[2])]
        rows.append((name, *mb))
    return rows


def part_rotate_memory(c):
    """Memory of a session that rotates

    How far its private memory grows, in MB, from before the call to its peak.
    """
    rows = [("rows", "MB", "seconds")]
    for count in (100_000, 1_000_000, 10_000_000):
        make_rotated(c, count)
        session = c.session()
        pid = session.run("SELECT pg_backend_pid();")
        session.run("SELECT decrypt_field(encrypt_field('x'));")
        before, started, peak = private_memory(pid), time.monotonic(), 0
        session.start("CALL rotate_batch('r', 'e', 5000);")
        while session.waiting(0.1):
            peak = max(peak, private_memory(pid))
        session.wait()
        rows.append((f"{count:,}", f"{(peak - before) / 1e6:.1f}", f"{time.monotonic() - started:.1f}"))
        session.close()
    return rows


def private_memory(pid):
    """Bytes that a process shares with no other."""
    text = Path(f"/proc/{pid}/smaps_rollup").read_text()
    return sum(int(kilobytes) for kilobytes in re.findall(r"^Private_\w+:\s+(\d+)", text, re.M)) * 1024
