"""Master keys from a file: what is read, what is refused, and with what words."""

import os
import unittest

from harness import canaries, paths
from harness.scenario import fingerprint, set_key
from key_source import MAIN, NEXT, READ, Source


class KeyFile(Source):
    def file(self, text, mode=0o600):
        return f"SET prism_crypt.master_key_file = '{self.cluster.write_file('test.key', text, mode)}';"

    def file_refused(self, settings, detail):
        error = self.refused(settings, "F0000", "could not read the master key file")
        self.assertIn(detail, error.detail)

    def test_readable_by_the_owner_only(self):
        for mode in (0o600, 0o400, 0o700):
            with self.subTest(oct(mode)):
                self.reads(self.file(MAIN, mode))

    def test_readable_by_others_is_refused(self):
        for mode in (0o640, 0o644, 0o604, 0o660, 0o620, 0o602, 0o601):
            with self.subTest(oct(mode)):
                self.file_refused(self.file(MAIN, mode), "It must be closed to group and others")

    @unittest.skipUnless(os.geteuid() == 0, "needs root")
    def test_of_root_may_be_read_by_the_servers_group(self):
        path = self.cluster.write_file("test.key", MAIN)
        os.chown(path, 0, paths.server_identity()["group"])
        for mode, good in ((0o640, True), (0o440, True), (0o644, False), (0o660, False), (0o641, False)):
            with self.subTest(oct(mode)):
                os.chmod(path, mode)
                settings = f"SET prism_crypt.master_key_file = '{path}';"
                if good:
                    self.reads(settings)
                else:
                    self.file_refused(settings, "It must be closed to group and others")

    @unittest.skipUnless(os.geteuid() == 0, "needs root")
    def test_of_another_user_is_refused(self):
        path = self.cluster.write_file("test.key", MAIN)
        os.chown(path, 65534, paths.server_identity()["group"])
        os.chmod(path, 0o640)
        self.file_refused(f"SET prism_crypt.master_key_file = '{path}';", "It must belong to the server's user or to root")
        os.chmod(path, 0o600)
        self.file_refused(f"SET prism_crypt.master_key_file = '{path}';", "Permission denied")

    def test_missing(self):
        self.file_refused("SET prism_crypt.master_key_file = '/nonexistent/key';", "No such file or directory")

    def test_not_a_regular_file(self):
        self.file_refused(f"SET prism_crypt.master_key_file = '{self.cluster.data}';", "It is not a regular file")
        fifo = self.cluster.home / "fifo"
        os.mkfifo(fifo, 0o600)
        paths.give_to_server(fifo)
        self.file_refused(f"SET statement_timeout = '30s'; SET prism_crypt.master_key_file = '{fifo}';", "It is not a regular file")
        self.file_refused("SET prism_crypt.master_key_file = '/dev/zero';", "It is not a regular file")

    def test_a_link_is_judged_by_its_target(self):
        target = self.cluster.write_file("test.key", MAIN)
        link = self.cluster.home / "link"
        link.symlink_to(target)
        self.reads(f"SET prism_crypt.master_key_file = '{link}';")
        os.chmod(target, 0o644)
        self.file_refused(f"SET prism_crypt.master_key_file = '{link}';", "It must be closed to group and others")

    def test_inside_the_data_directory_is_a_warning(self):
        path = self.cluster.write_file("data/inside.key", MAIN)
        self.addCleanup(path.unlink)
        for name in (path, "inside.key", f"{self.cluster.data}/base/../inside.key"):
            with self.subTest(str(name)):
                result = self.cluster.run_psql(f"SET prism_crypt.master_key_file = '{name}'; {READ}", db=self.db)
                self.assertEqual(result.stdout, "quokka\n")
                self.assertEqual(result.stderr.count("WARNING:  the master key file is inside the data directory"), 1)
        outside = self.cluster.run_psql(self.file(MAIN) + READ, db=self.db)
        self.assertEqual((outside.stdout, outside.stderr), ("quokka\n", ""))

    def test_a_cancel_while_the_warning_is_reported_leaves_the_keyring_usable(self):
        path = self.cluster.write_file("data/inside.key", MAIN)
        self.addCleanup(path.unlink)
        # Nothing looks for the cancel between the function that asks for it and the report of the warning.
        done = self.cluster.run_psql(
            f"\\set ON_ERROR_STOP off\n{self.file(MAIN)} {READ} SET prism_crypt.master_key_file = '{path}';"
            f"SELECT pg_cancel_backend(pg_backend_pid()), encrypt_field('x') IS NULL; {READ}", db=self.db, check=False)
        self.assertEqual(done.stderr.count("WARNING:  the master key file is inside the data directory"), 2, done.stderr)
        self.assertEqual(done.stderr.count("ERROR:  canceling statement due to user request"), 1, done.stderr)
        self.assertEqual(done.stdout, "quokka\nquokka\n", done.stderr)

    def test_spellings_of_a_key(self):
        base64 = canaries.key_base64("main")
        for name, text in {
            "line": f"{MAIN}\n", "no line end": MAIN, "upper case": MAIN.upper(), "base64": base64, "base64, no padding": base64.rstrip("="),
            "CRLF": f"{MAIN}\r\n", "blank lines": f"\n\n  {MAIN}\t\n\n", "several, CRLF": f"{NEXT}\r\n{MAIN}\r\n",
        }.items():
            with self.subTest(name):
                self.reads(self.file(text))

    def test_not_a_key(self):
        encoding = "Key must be 64 hexadecimal digits or the base64 of 32 bytes"
        for name, text, message, line in [
            ("16 bytes", MAIN[:32], "Key must be 32 bytes, got 16", 1),
            ("33 bytes", MAIN + "00", "Key must be 32 bytes, got 33", 1),
            ("the second one", f"{MAIN}\n{NEXT[:62]}\n", "Key must be 32 bytes, got 31", 2),
            ("a comment", f"# the main key\n{MAIN}\n", encoding, 1),
            ("a prefix", f"key={MAIN}\n", encoding, 1),
            ("words", "correct horse battery staple\n", encoding, 1),
        ]:
            with self.subTest(name):
                error = self.refused(self.file(text), "22023", message, f"Key {line} of prism_crypt.master_key_file.")
                self.assertEqual(error.hint, "A master key is 64 hexadecimal digits or the base64 of 32 bytes.")
        with self.subTest("bytes"):
            error = self.refused(self.file(bytes.fromhex(MAIN)), "22023", encoding)
            self.assertIn("prism_crypt.master_key_file", error.detail)

    def test_empty(self):
        for text in ("", "\n", " \r\n\t\n"):
            self.refused(self.file(text), "55000", "the source in prism_crypt.master_key_file holds no master key")

    def test_too_long(self):
        limit = 64 * 1024
        self.reads(self.file(MAIN + "\n" * (limit - 64)))
        self.file_refused(self.file(MAIN + "\n" * (limit - 63)), "It is longer than 65536 bytes")

    def test_none_set(self):
        error = self.refused("SET prism_crypt.master_key_file = '';", "55000", "no master key is set")
        self.assertIn("prism_crypt.master_key_file", error.hint)

    def test_the_first_of_several_wraps(self):
        db = self.database("first_wraps")
        path = self.cluster.write_file("two.key", f"{NEXT}\n{MAIN}\n")
        self.cluster.psql(f"SET prism_crypt.master_key_file = '{path}'; SELECT prism_crypt.rotate_key()", db=db)
        self.assertEqual(
            self.cluster.psql("SELECT state, master_fingerprint FROM prism_crypt.key_status ORDER BY version", db=db),
            f"decrypt_only|{fingerprint(self.cluster, db, 'main')}\nactive|{fingerprint(self.cluster, db, 'next')}")
        self.assertEqual(
            self.cluster.psql(f"SET prism_crypt.master_key_file = '{path}'; SELECT prism_crypt.rotate_master_key()", db=db), "2")
        self.assertEqual(
            self.cluster.psql("SELECT DISTINCT master_fingerprint FROM prism_crypt.key_status", db=db),
            fingerprint(self.cluster, db, "next"))

    def test_another_key_is_a_mismatch_and_nothing_is_written(self):
        db = self.database("mismatch")
        self.cluster.psql("CREATE TABLE t (v encrypted_text); COPY t FROM STDIN;\nquokka\n\\.\n", db=db)
        self.cluster.psql("SELECT prism_crypt.rotate_key()", db=db)
        tell = "SELECT * FROM prism_crypt.data_key ORDER BY 1; SELECT * FROM prism_crypt.keyset; SELECT v FROM t"
        before = self.cluster.psql(tell, db=db)
        path = self.cluster.write_file("other.key", canaries.KEYS["other"])
        loaded, expected = (fingerprint(self.cluster, db, key) for key in ("other", "main"))
        for statement, version in [
            ("SELECT decrypt_field(v) FROM t", 1), ("SELECT encrypt_field('x')", 2), ("INSERT INTO t VALUES ('x')", 2),
            ("UPDATE t SET v = reencrypt_field(v)", 1), ("SELECT prism_crypt.rotate_key()", 2),
            ("SELECT prism_crypt.rotate_master_key()", 1), ("COPY t FROM STDIN;\nwombat\n\\.\n", 2),
        ]:
            with self.subTest(statement):
                error = self.cluster.error(f"SET prism_crypt.master_key_file = '{path}'; {statement}", db=db)
                self.assertEqual((error.sqlstate, error.message), ("55000", "encryption key mismatch"))
                self.assertEqual(
                    error.detail,
                    f'Key version {version} of keyset "default" is wrapped by the master key {expected}, loaded: {loaded}.')
        with self.subTest("rotate_batch"):
            said = self.cluster.run_psql(
                f"SET prism_crypt.master_key_file = '{path}'; CALL rotate_batch('t', 'v')", db=db, check=False).stderr
            self.assertIn("encryption key mismatch", said)
        self.assertEqual(self.cluster.psql(tell, db=db), before)

    def test_a_reload_reads_the_file_again(self):
        db = self.database("reload")
        self.cluster.psql("CREATE TABLE t (v encrypted_text); COPY t FROM STDIN;\nquokka\n\\.\n", db=db)
        session = self.session(db)
        self.assertEqual(session.run(READ), "quokka")
        self.addCleanup(set_key, self.cluster, "main")
        try:
            set_key(self.cluster, "other")
            self.assertEqual(session.run(READ), "quokka")
            self.cluster.reload()
            self.assertEqual(session.error(READ).message, "encryption key mismatch")
            set_key(self.cluster, "next", "main")
            self.cluster.reload()
            self.assertEqual(session.run(READ), "quokka")
            session.run("SELECT prism_crypt.rotate_key();")
            self.assertEqual(
                session.run("SELECT master_fingerprint FROM prism_crypt.key_status WHERE state = 'active';"),
                fingerprint(self.cluster, db, "next"))
        finally:
            set_key(self.cluster, "main")
            self.cluster.reload()


if __name__ == "__main__":
    unittest.main()
