"""Large values: how much memory a backend takes for them, and what it says to those that are too large."""

import unittest
from pathlib import Path

from harness.scenario import Scenario

MB = 1_000_000
SIZE = 100 * MB


def text(length, letter="x"):
    """An expression that makes a text of this length quickly."""
    rest = f" || repeat('{letter}', {length % 1000})" if length % 1000 else ""
    return f"(repeat(repeat('{letter}', 1000), {length // 1000}){rest})"


class Memory(Scenario):
    preload = True
    # Shared pages that a backend touches count as its own.
    conf = {"shared_buffers": "'2MB'", "log_statement": "'none'", "log_min_duration_statement": "-1", "max_wal_size": "'4GB'", "autovacuum": "off"}

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.db = cls.database("memory")
        cls.cluster.psql(f"""
            CREATE TABLE sealed (v encrypted_text);
            INSERT INTO sealed SELECT encrypt_field({text(SIZE)})""", db=cls.db)

    def peak(self, sql, expected=None):
        """How far a statement raises the memory of a backend that has its keys, in times the size of the value."""
        session = self.session(self.db)
        status = Path(f"/proc/{session.run('SELECT pg_backend_pid();')}/status")

        def kilobytes(name):
            return next(int(line.split()[1]) for line in status.read_text().splitlines() if line.startswith(name))

        session.run("SELECT decrypt_field(encrypt_field('x'));")
        before = kilobytes("VmRSS")
        got = session.run(sql)
        if expected is not None:
            self.assertEqual(got, expected)
        return (kilobytes("VmHWM") - before) * 1024 / SIZE

    def test_sealing(self):
        # The plaintext that PostgreSQL makes is one of them, the envelope another.
        self.assertLess(self.peak(f"SELECT octet_length(encrypted_text_send(encrypt_field({text(SIZE)}))) > {SIZE};", "t"), 3.3)
        self.assertLess(self.peak(f"SELECT key_version(encrypt_field({text(SIZE)}));", "1"), 2.3)
        self.assertLess(self.peak(f"BEGIN; INSERT INTO sealed SELECT encrypt_field({text(SIZE)}); ROLLBACK;"), 3.3)
        self.assertLess(self.peak(f"BEGIN; INSERT INTO sealed SELECT {text(SIZE)}; ROLLBACK;"), 3.3)
        self.assertLess(self.peak(f"SELECT length(encrypt_bytes(convert_to({text(SIZE)}, 'UTF8'))) > 0;", "t"), 3.3)

    def test_opening(self):
        self.assertLess(self.peak("SELECT length(decrypt_field(v)) FROM sealed;", str(SIZE)), 3.3)
        self.assertLess(self.peak("SELECT length(v) FROM sealed;", str(SIZE)), 3.3)
        self.assertLess(self.peak("SELECT length(try_decrypt_field(v)) FROM sealed;", str(SIZE)), 3.3)
        self.assertLess(self.peak("SELECT octet_length(mask_field(v)) > 0 FROM sealed;", "t"), 3.3)

    def test_resealing(self):
        self.assertLess(self.peak("SELECT key_version(reencrypt_field(v)) FROM sealed;", "1"), 3.3)
        self.assertLess(self.peak("BEGIN; UPDATE sealed SET v = reencrypt_field(v); ROLLBACK;"), 3.3)

    def test_rotate_batch(self):
        db = self.database("rotation")
        self.cluster.psql(f"""
            CREATE TABLE t (v encrypted_text); INSERT INTO t SELECT encrypt_field({text(SIZE)});
            INSERT INTO t SELECT encrypt_field({text(SIZE, 'y')}); SELECT prism_crypt.rotate_key()""", db=db)
        before, self.db = self.db, db
        try:
            self.assertLess(self.peak("CALL rotate_batch('t', 'v', 10);"), 3.3)
        finally:
            self.db = before
        self.assertEqual(self.cluster.psql("SELECT DISTINCT key_version(v), length(decrypt_field(v)) FROM t", db=db), f"2|{SIZE}")

    def test_looking_at_a_header(self):
        """Needs none of the value."""
        self.assertLess(self.peak("SELECT key_version(v) FROM sealed;", "1"), 0.1)
        self.assertLess(self.peak("SELECT (envelope_info(v)).plaintext_bytes FROM sealed;", str(SIZE)), 1.2)

    def test_memory_is_given_back_row_by_row(self):
        self.cluster.psql("CREATE TABLE rows AS SELECT encrypt_field(repeat(repeat('x', 1000), 1000)) AS v FROM generate_series(1, 200)", db=self.db)
        for statement, expected in (("SELECT sum(length(decrypt_field(v))) FROM rows;", "200000000"), ("SELECT count(*) FROM rows WHERE v LIKE 'y%';", "0"),
                                    ("SELECT count(try_decrypt_field(v, 'wrong')) FROM rows;", "0"),
                                    ("SELECT count(reencrypt_field(v)) FROM rows;", "200")):
            with self.subTest(statement):
                self.assertLess(self.peak(statement, expected), 0.1)

    def test_too_large(self):
        session = self.session(self.db)
        # The text form of the longest one is just short enough for PostgreSQL.
        limit = 805_306_341
        overhead = int(session.run("SELECT envelope_bytes - plaintext_bytes FROM envelope_info(encrypt_field('x'));"))
        largest = limit - overhead
        session.run(
            f"COPY (SELECT v FROM (SELECT encrypt_field({text(largest)}) AS v OFFSET 0) AS s WHERE length(decrypt_field(v)) = {largest}) "
            f"TO PROGRAM 'wc -c > {self.cluster.home}/count';", timeout=180)
        base64 = -(-limit // 3) * 4
        self.assertEqual(int((self.cluster.home / "count").read_text()), len("prism:v1:") + base64 + len("\n"))
        for statement in (f"SELECT encrypt_field({text(largest + 1)});", f"CREATE TEMP TABLE c AS SELECT {text(largest + 1)}::encrypted_text('email');"):
            error = session.error(statement, timeout=180)
            self.assertEqual((error.sqlstate, error.message), ("54000", f"value of {limit + 1} bytes is too long to encrypt"))
            self.assertEqual(error.detail, f"The limit is {limit} bytes.")
            self.assertEqual(session.run("SELECT decrypt_field(encrypt_field('x'));"), "x")


if __name__ == "__main__":
    unittest.main()
