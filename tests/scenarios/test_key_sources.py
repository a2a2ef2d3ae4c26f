"""Where master keys come from: file, environment, command; what is refused, and with what words."""

import os
import unittest

from harness import canaries, paths
from harness.scenario import Scenario, fingerprint, is_alive, key_forms, set_key, wait_until

MAIN, NEXT = canaries.KEYS["main"], canaries.KEYS["next"]
READ = "SELECT decrypt_field(v) FROM t;"


class Source(Scenario):
    """A table with one value under the main key, and ways to read it with another source."""

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.db = cls.database("keys")
        cls.cluster.psql("CREATE TABLE t (v encrypted_text); COPY t FROM STDIN;\nquokka\n\\.\n", db=cls.db)

    def reads(self, settings, **kw):
        self.assertEqual(self.cluster.psql(f"{settings} {READ}", db=self.db, **kw), "quokka")

    def refused(self, settings, sqlstate, message, detail=None, **kw):
        error = self.cluster.error(f"{settings} {READ}", db=self.db, **kw)
        self.assertEqual((error.sqlstate, error.message), (sqlstate, message))
        if detail is not None:
            self.assertEqual(error.detail, detail)
        for key in (MAIN, NEXT):
            for form, secret in key_forms(key).items():
                self.assertFalse(secret in error.text.encode(), f"the error shows a key ({form})")
        return error


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


class KeyEnvironment(Source):
    @classmethod
    def new_cluster(cls, name, **kw):
        env = {"PRISM_MAIN": MAIN, "PRISM_TWO": f"{NEXT}\n{MAIN}\n", "PRISM_COMMA": f"{NEXT},{MAIN}", "PRISM_SHORT": MAIN[:32], "PRISM_EMPTY": ""}
        return super().new_cluster(name, env=env, **kw)

    def env(self, name):
        return f"SET prism_crypt.master_key_file = ''; SET prism_crypt.master_key_env = '{name}';"

    def test_one_and_several(self):
        for name in ("PRISM_MAIN", "PRISM_TWO", "PRISM_COMMA"):
            with self.subTest(name):
                self.reads(self.env(name))

    def test_it_is_the_servers_environment(self):
        self.refused(
            self.env("PRISM_CLIENT"), "55000", "the environment variable that prism_crypt.master_key_env names is not set", PRISM_CLIENT=MAIN)

    def test_wrong(self):
        self.refused(
            self.env("PRISM_SHORT"), "22023", "Key must be 32 bytes, got 16", "Key 1 of prism_crypt.master_key_env.")
        self.refused(self.env("PRISM_EMPTY"), "55000", "the source in prism_crypt.master_key_env holds no master key")


class KeyCommand(Source):
    def setUp(self):
        self.key = self.cluster.write_file("command.key", MAIN + "\n")
        self.pids = self.cluster.write_file("pids", "")

    def command(self, text):
        return f"SET prism_crypt.master_key_command = '{text}';"

    def failed(self, command, detail):
        error = self.refused(self.command(command), "38000", "the master key command failed")
        self.assertIn(detail, error.detail)

    def started(self, count):
        """The ids of the processes that the command wrote down, once there are so many."""
        return wait_until(lambda: len(p := self.pids.read_text().split()) >= count and p, "the command did not start")

    def assert_gone(self, pids):
        wait_until(lambda: not any(map(is_alive, pids)), f"the command left processes behind: {pids}", 10)

    def test_prints_a_key(self):
        self.reads(self.command(f"cat {self.key}"))
        self.reads(self.command(f"head -c 20 {self.key}; sleep 0.3; tail -c +21 {self.key}"))
        self.reads(self.command(f"cat {self.cluster.write_file('two.key', NEXT + chr(10) + MAIN + chr(10))}"))

    def test_runs_as_a_shell_command_without_input(self):
        self.reads(self.command(f"read line; test -z \"$line\" && cat < {self.key} | tr a-f A-F"))

    @unittest.skipUnless(os.path.exists("/proc/self/fd"), "needs /proc")
    def test_inherits_nothing_of_the_server(self):
        seen = self.cluster.home / "fds"
        session = self.session(self.db)
        session.run("SELECT count(*) FROM t, pg_class;" + self.command(f"ls -l /proc/self/fd > {seen}; cat {self.key}"))
        self.assertEqual(session.run(READ), "quokka")
        targets = [line.rpartition("-> ")[2] for line in seen.read_text().splitlines()]
        self.assertEqual([t for t in targets if t.startswith(("socket:", str(self.cluster.data)))], [])

    def test_fails(self):
        self.failed("exit 3", "exit status: 3")
        self.failed(f"cat {self.key}; exit 1", "exit status: 1")
        self.failed("/nonexistent/key-command 2>/dev/null", "exit status: 127")
        self.failed("kill -9 $$", "signal: 9")

    def test_prints_garbage(self):
        encoding = "Key must be 64 hexadecimal digits or the base64 of 32 bytes"
        detail = "Key 1 of prism_crypt.master_key_command."
        self.refused(self.command("echo no such secret"), "22023", encoding, detail)
        self.refused(self.command(f"head -c 32 {self.key}"), "22023", "Key must be 32 bytes, got 16", detail)
        self.refused(self.command("head -c 32 /dev/zero | tr \"\\000\" \"\\377\""), "22023", encoding)

    def test_prints_nothing(self):
        self.refused(self.command("true"), "55000", "the source in prism_crypt.master_key_command holds no master key")

    def test_prints_too_much(self):
        self.failed("head -c 65537 /dev/zero", "It printed more than 65536 bytes")
        self.failed(f"echo $$ >> {self.pids}; exec yes", "It printed more than 65536 bytes")
        self.assert_gone(self.started(1))

    def test_is_run_once_a_session(self):
        session = self.session(self.db)
        session.run(self.command(f"echo $$ >> {self.pids}; cat {self.key}"))
        for _ in range(3):
            self.assertEqual(session.run(READ), "quokka")
        session.run("SELECT encrypt_field('x');")
        self.assertEqual(len(self.pids.read_text().split()), 1)

    def hanging(self, text):
        return self.command(f"echo $$ >> {self.pids}; {text}")

    def test_statement_timeout_ends_one_that_hangs(self):
        for name, text, count in [
            ("waits", "sleep 600", 1),
            ("runs another program", "exec sleep 600", 1),
            ("closed its output", "exec >&-; sleep 600", 1),
            ("has a child in the background", f"sleep 600 & echo $! >> {self.pids}; wait", 2),
            ("left a child that holds its output", f"sleep 600 & echo $! >> {self.pids}", 2),
            ("ignores signals", "trap \"\" INT TERM HUP ALRM; sleep 600", 1),
        ]:
            with self.subTest(name):
                self.pids.write_text("")
                session = self.session(self.db)
                session.run(self.hanging(text) + "SET statement_timeout = '300ms';")
                self.assertEqual(session.error(READ).sqlstate, "57014")
                self.assert_gone(self.started(count))
                # The session goes on.
                self.assertEqual(session.run(f"SET statement_timeout = 0; RESET prism_crypt.master_key_command; {READ}"), "quokka")

    def test_a_cancel_ends_one_that_hangs(self):
        session = self.session(self.db)
        backend = session.run(self.hanging("sleep 600") + "SELECT pg_backend_pid();")
        session.start(READ)
        pids = self.started(1)
        self.cluster.psql(f"SELECT pg_cancel_backend({backend})")
        self.assertEqual(session.wait(check=False).splitlines()[0], "ERROR:  57014: canceling statement due to user request")
        self.assert_gone(pids)
        self.assertEqual(session.run(f"RESET prism_crypt.master_key_command; {READ}"), "quokka")

    def test_the_end_of_the_session_ends_one_that_hangs(self):
        session = self.session(self.db)
        backend = session.run(self.hanging("sleep 600") + "SELECT pg_backend_pid();")
        session.start(READ)
        pids = self.started(1)
        self.cluster.psql(f"SELECT pg_terminate_backend({backend})")
        self.cluster.wait_for(f"SELECT count(*) = 0 FROM pg_stat_activity WHERE pid = {backend}")
        self.assert_gone(pids)

    def test_a_daemon_in_the_background_holds_nothing_up(self):
        session = self.session(self.db)
        session.run(self.command(f"(sleep 30 & echo $! >> {self.pids}) >/dev/null 2>&1; cat {self.key}"))
        self.assertEqual(session.run("SET statement_timeout = '20s'; " + READ), "quokka")
        for pid in self.started(1):
            if is_alive(pid):
                os.kill(int(pid), 9)


class Precedence(Source):
    preload = True

    @classmethod
    def new_cluster(cls, name, **kw):
        return super().new_cluster(name, env={"PRISM_MAIN": MAIN, "PRISM_OTHER": canaries.KEYS["other"]}, **kw)

    def test_the_first_source_that_is_set_wins(self):
        good = self.cluster.write_file("good.key", MAIN)
        wrong = self.cluster.write_file("wrong.key", canaries.KEYS["other"])
        # In the order of precedence: (setting, value with the right key, value with a wrong one).
        sources = [
            ("prism_crypt.master_key", MAIN, canaries.KEYS["other"]),
            ("prism_crypt.master_key_command", f"cat {good}", f"cat {wrong}"),
            ("prism_crypt.master_key_file", good, wrong),
            ("prism_crypt.master_key_env", "PRISM_MAIN", "PRISM_OTHER"),
        ]
        for first in range(len(sources)):
            with self.subTest(sources[first][0]):
                variables = {f"s{i}": ("" if i < first else value if i == first else wrong) for i, (_, value, wrong) in enumerate(sources)}
                settings = "\n".join(f"SELECT set_config('{name}', :'s{i}', false) \\g /dev/null" for i, (name, _, _) in enumerate(sources))
                self.assertEqual(
                    self.cluster.psql(
                        f"{settings}\nSELECT setting FROM prism_crypt.status() WHERE name = 'key_source'; {READ}", db=self.db, vars=variables),
                    f"{sources[first][0]}\nquokka")

    def test_a_broken_source_is_not_passed_over(self):
        self.refused("SET prism_crypt.master_key_command = 'exit 1';", "38000", "the master key command failed")

    def test_a_change_of_source_is_seen_at_once(self):
        session = self.session(self.db)
        self.assertEqual(session.run(READ), "quokka")
        wrong = self.cluster.write_file("wrong.key", canaries.KEYS["other"])
        session.run(f"SET prism_crypt.master_key_file = '{wrong}';")
        self.assertEqual(session.error(READ).message, "encryption key mismatch")
        session.run("RESET prism_crypt.master_key_file;")
        self.assertEqual(session.run(READ), "quokka")
        session.run(f"BEGIN; SET LOCAL prism_crypt.master_key_file = '{wrong}';")
        self.assertEqual(session.error(READ).message, "encryption key mismatch")
        session.run("ROLLBACK;")
        self.assertEqual(session.run(READ), "quokka")


class OrdinaryRoles(Source):
    """The three settings that say where keys are belong to superusers."""

    settings = ("prism_crypt.master_key_command", "prism_crypt.master_key_file", "prism_crypt.master_key_env")

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.cluster.psql("CREATE ROLE ordinary LOGIN; GRANT ALL ON t TO ordinary; SELECT prism_crypt.grant_access('ordinary', 'decrypt')", db=cls.db)

    load = "SELECT key_version(encrypt_field('x')) \\g /dev/null\n"

    def test_cannot_set_them(self):
        for setting in self.settings:
            for statement in (f"SET {setting} = 'x'", f"SELECT set_config('{setting}', 'x', true)", f"RESET {setting}",
                              f"ALTER ROLE ordinary SET {setting} = 'x'"):
                with self.subTest(statement):
                    error = self.cluster.error(self.load + statement, db=self.db, user="ordinary")
                    self.assertEqual(error.sqlstate, "42501")

    def test_cannot_see_them(self):
        for setting in self.settings:
            for statement in (f"SHOW {setting}", f"SELECT current_setting('{setting}')"):
                with self.subTest(statement):
                    self.assertEqual(self.cluster.error(self.load + statement, db=self.db, user="ordinary").sqlstate, "42501")
        listed = "SELECT name FROM pg_settings WHERE name LIKE 'prism_crypt.%' ORDER BY 1"
        self.assertEqual(self.cluster.psql(self.load + listed, db=self.db, user="ordinary"), "prism_crypt.keyset\nprism_crypt.output")
        self.assertFalse(str(self.cluster.key_file) in self.cluster.psql(self.load + "SHOW ALL", db=self.db, user="ordinary"))

    def test_what_they_set_before_the_library_is_loaded_counts_for_nothing(self):
        trap = self.cluster.home / "trap"
        for setting, value in zip(self.settings, (f"touch {trap}", "/etc/hostname", "HOME")):
            with self.subTest(setting):
                result = self.cluster.run_psql(f"SET {setting} = '{value}'; {READ}", db=self.db, user="ordinary", check=False)
                if not self.preload:
                    self.assertEqual(result.stdout, "quokka\n")
                self.assertFalse(trap.exists(), "a command of an ordinary role was run")

    def test_what_they_store_for_their_role_counts_for_nothing(self):
        trap = self.cluster.home / "trap"
        self.addCleanup(self.cluster.psql, "ALTER ROLE ordinary RESET ALL")
        self.cluster.psql(f"ALTER ROLE ordinary SET prism_crypt.master_key_command = 'touch {trap}'", user="ordinary", db=self.db, check=False)
        self.cluster.psql(READ, db=self.db, user="ordinary", check=False)
        self.assertFalse(trap.exists(), "a command of an ordinary role was run")


class OrdinaryRolesPreloaded(OrdinaryRoles):
    preload = True
    load = ""


if __name__ == "__main__":
    unittest.main()
