"""What is measured of keysets; see parts.py."""

import re

from parts import durable, in_turns

# Parameters are of the column's type, as untyped ones are: their input seals them.
TRANSACTION = """\\set n random(1, 100000)
\\set new random(1000000, 1000000000)
BEGIN;
{first}SELECT i FROM k WHERE e = :n;
SELECT note FROM k WHERE i = :n;
INSERT INTO k_log (e) VALUES (:new);
UPDATE k SET n = n + 1 WHERE i = :n;
SELECT decrypt_field(e) FROM k WHERE i = :n;
COMMIT;
"""


def part_keyset_local(c):
    """A transaction that sets its keyset with `SET LOCAL`

    pgbench, prepared, one client, five statements in a transaction: look-ups by a searchable column and by primary key,
    `INSERT`, `UPDATE`, `SELECT` of plaintext. In the first row the whole session has the keyset; the second sets
    something that is none of ours. With fsync as servers have it, and, to see the rest, without.
    """
    c.psql("SELECT prism_crypt.create_keyset('bench'); SET prism_crypt.keyset = 'bench';"
           "CREATE TABLE k (i int PRIMARY KEY, e encrypted_text('searchable'), n int, note text) WITH (fillfactor = 50);"
           "INSERT INTO k SELECT i, i::text, 0, 'note' FROM generate_series(1, 100000) i; CREATE INDEX ON k USING hash (e);"
           "CREATE TABLE k_log (i serial PRIMARY KEY, e encrypted_text('searchable')); VACUUM ANALYZE k")
    ways = {"keyset of the session": ("", "bench"), "`SET LOCAL work_mem`": ("SET LOCAL work_mem = '5MB';\n", "bench"),
            "`SET LOCAL prism_crypt.keyset`": ("SET LOCAL prism_crypt.keyset = 'bench';\n", "default")}
    scripts = {name: c.write_file(f"keyset{number}.pgb", TRANSACTION.format(first=first), 0o644) for number, (name, (first, _)) in enumerate(ways.items())}

    def latency(name):
        done = c.run(["pgbench", "-n", "-M", "prepared", "-c", "1", "-T", "3", "-f", scripts[name]], PGOPTIONS=f"-c prism_crypt.keyset={ways[name][1]}")
        return float(re.search(r"latency average = ([\d.]+) ms", done.stdout).group(1)) * 1000

    rows = [[name] for name in ways]
    for is_durable in (True, False):
        durable(c, is_durable)
        took = in_turns(latency, list(ways), 6)
        for row, us in zip(rows, took.values()):
            row += [f"{us:.0f}", f"{us / took['keyset of the session']:.2f}"]
    c.psql("DROP TABLE k, k_log")
    return [("", "µs a transaction, fsync on", "times", "fsync off", "times"), *rows]
