"""A search of the files of the server finds no plaintext of an encrypted column."""

import unittest

from harness import canaries
from harness.scenario import CANARY_ROWS, Scenario, files_with

# Of an ordinary column: must be found wherever the search looks.
CONTROL = "control.kookaburra.4711"


class HeapAndWal(Scenario):
    conf = {"wal_level": "'logical'", "full_page_writes": "on", "work_mem": "'64kB'", "temp_buffers": "'800kB'"}

    def test_files(self):
        db = self.database("heap")
        session = self.session(db)
        wide = "(SELECT string_agg(s.v || {i}, ' ') FROM s, generate_series(1, 400) AS i)".replace("{i}", "i")
        session.run(
            "CREATE TEMP TABLE input (id int, v encrypted_text);"
            "CREATE TABLE t (id int, v encrypted_text, c encrypted_text('personal'), l encrypted_text[], b bytea);"
            "CREATE TABLE control (id int, v text); ALTER TABLE control ALTER v SET STORAGE EXTERNAL;"
            "CREATE INDEX ON control (v) WHERE length(v) < 100; CREATE INDEX ON t (key_version(v));")
        session.run(f"COPY t (id, v) FROM STDIN;\n{CANARY_ROWS}\\.")
        session.run(f"COPY control FROM STDIN;\n1\t{CONTROL}\n\\.")
        session.run("COPY input FROM STDIN;\n" + "".join(f"{i}\t{text}\n" for i in range(200) for text in canaries.PLAINTEXTS.values()) + "\\.")
        # Every way from plaintext in memory to a stored value: function, cast, class, array, bytea, TOAST, UPDATE, rotation.
        session.run(f"""
            INSERT INTO t SELECT id, encrypt_field(decrypt_field(v), 'context'), decrypt_field(v), ARRAY[v, encrypt_field(decrypt_field(v))],
                encrypt_bytes(convert_to(decrypt_field(v), 'UTF8')) FROM input LIMIT 500;
            WITH s AS (SELECT DISTINCT decrypt_field(v) AS v FROM input) INSERT INTO t (id, v, c) SELECT 1000, {wide}, {wide};
            INSERT INTO control SELECT 2, string_agg('{CONTROL}' || i, ' ') FROM generate_series(1, 400) AS i;
            UPDATE t SET v = encrypt_field(decrypt_field(v)) WHERE id < 10 AND l IS NULL;
            SELECT prism_crypt.rotate_key();
            UPDATE t SET id = id + 1;
            CREATE TABLE copies AS SELECT * FROM t; CREATE MATERIALIZED VIEW seen AS SELECT id, v FROM t;
            ANALYZE;""")
        session.run("CALL rotate_batch('t', 'v');")
        # Results that are kept in a file.
        session.run(f"""
            BEGIN; DECLARE a CURSOR WITH HOLD FOR SELECT v, c, l FROM t; DECLARE b CURSOR WITH HOLD FOR SELECT '{CONTROL}'::text FROM generate_series(1, 20000);
            COMMIT;""")
        self.cluster.psql("CHECKPOINT", db=db)
        data = self.cluster.data
        where = files_with(data, {"control": CONTROL.encode()})["control"]
        relation = self.cluster.psql("SELECT pg_relation_filepath('control'); SELECT pg_relation_filepath(reltoastrelid) FROM pg_class WHERE relname = 'control'", db=db)
        for path in relation.split():
            self.assertIn(path, where)
        for place in ("pg_wal/", "base/pgsql_tmp/"):
            self.assertTrue([path for path in where if path.startswith(place)], f"the search does not look into {place}")
        self.assertEqual(files_with(data, dict(canaries.forms())), {})
        # What was read from t is in the same kind of file.
        size = sum(f.stat().st_size for f in (data / "base/pgsql_tmp").iterdir())
        self.assertGreater(size, 20000 * len(CONTROL) + 100_000)
        session.close()
        self.cluster.stop()
        self.assertEqual(files_with(data, dict(canaries.forms())), {})


if __name__ == "__main__":
    unittest.main()
