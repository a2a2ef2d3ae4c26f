"""Master keys from a command, and from the environment of the server."""

import os
import unittest

from harness.scenario import is_alive, wait_until
from key_source import MAIN, NEXT, READ, Source


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
                session.run(self.hanging(text) + "SET statement_timeout = '1s';")
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


if __name__ == "__main__":
    unittest.main()
