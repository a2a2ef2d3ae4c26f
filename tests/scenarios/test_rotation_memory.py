"""How much memory a rotation takes."""

import re
import unittest

from harness.scenario import Scenario


class RotationMemory(Scenario):
    conf = {"autovacuum": "off", "shared_buffers": "'16MB'", "max_wal_size": "'4GB'"}

    def peak(self, db, rows):
        """The most memory that a backend had, in KiB, when it had rotated that many rows."""
        self.cluster.psql(f"""
            CREATE TABLE t{rows} (id int, v encrypted_text, a encrypted_text[]);
            INSERT INTO t{rows} SELECT g, encrypt_field('row ' || g), ARRAY[encrypt_field('x')] FROM generate_series(1, {rows}) AS g;
            SELECT prism_crypt.rotate_key()""", db=db)
        session = self.session(db)
        backend = session.run("SELECT pg_backend_pid();")
        session.run(f"CALL rotate_batch('t{rows}');", timeout=120)
        self.assertEqual(
            self.cluster.psql(f"SELECT count(*) FROM t{rows} WHERE key_version(v) = key_version(a[1]) AND key_version(v) = {'2' if rows < 100000 else '3'}", db=db),
            str(rows))
        with open(f"/proc/{backend}/status", encoding="ascii") as status:
            return int(re.search(r"VmHWM:\s+(\d+) kB", status.read()).group(1))

    def test_memory_is_flat(self):
        db = self.database("memory")
        small, large = self.peak(db, 50000), self.peak(db, 500000)
        self.assertLess(large - small, 6 * 1024, f"{small} and {large} KiB")


if __name__ == "__main__":
    unittest.main()
