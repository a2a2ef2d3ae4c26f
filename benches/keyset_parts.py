"""What is measured of keysets; see parts.py."""

import re

from parts import in_turns

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
    `INSERT`, `UPDATE`, `SELECT` of plaintext. Without it the keyset is that of the whole session.
    """
    c.psql("SELECT prism_crypt.create_keyset('bench'); SET prism_crypt.keyset = 'bench';"
           "CREATE TABLE k (i int PRIMARY KEY, e encrypted_text('searchable'), n int, note text) WITH (fillfactor = 50);"
           "INSERT INTO k SELECT i, i::text, 0, 'note' FROM generate_series(1, 100000) i; CREATE INDEX ON k USING hash (e);"
           "CREATE TABLE k_log (i serial PRIMARY KEY, e encrypted_text('searchable')); VACUUM ANALYZE k")
    scripts = {}
    for name, first, session in (("keyset of the session", "", "bench"), ("`SET LOCAL`", "SET LOCAL prism_crypt.keyset = 'bench';\n", "default")):
        scripts[name] = (c.write_file(f"keyset{len(scripts)}.pgb", TRANSACTION.format(first=first), 0o644), session)

    def latency(name):
        script, keyset = scripts[name]
        done = c.run(["pgbench", "-n", "-M", "prepared", "-c", "1", "-T", "5", "-f", script], PGOPTIONS=f"-c prism_crypt.keyset={keyset}")
        return float(re.search(r"latency average = ([\d.]+) ms", done.stdout).group(1)) * 1000

    took = in_turns(latency, list(scripts), 5)
    base = next(iter(took.values()))
    c.psql("DROP TABLE k, k_log")
    return [("", "µs a transaction", "times"), *((name, f"{us:.0f}", f"{us / base:.2f}") for name, us in took.items())]
