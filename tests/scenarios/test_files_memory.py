"""Memory of encrypted files: flat with long and uneven rows, none that stays, and what happens where there is too little."""

import json
import os
import re
import unittest

from files_scenario import FilesScenario
from harness import PgError
from harness.penc import KEY

MEGABYTE = 1 << 20
# 2010 short rows, and then long ones: what was learnt from the first ones is wrong of the others.
UNEVEN = "(SELECT g AS id, CASE WHEN g <= 2010 THEN 'x' ELSE repeat(md5(g::text), 30000) END AS x FROM generate_series(1, 2160) AS g)"


class FilesMemory(FilesScenario):
    # What is read does not count as memory of the backend for long.
    conf = {"shared_buffers": "'16MB'"}

    def setUp(self):
        super().setUp()
        self.query("CREATE TABLE staged (number int GENERATED ALWAYS AS IDENTITY, chunk bytea)")

    def backend(self):
        """A session, and its process; both were used before, so that what is loaded once does not count."""
        session = self.session(self.db)
        session.run(f"SELECT prism_crypt.export_encrypted('(SELECT 1 AS a)', '{self.path('first')}', overwrite => true); SELECT prism_crypt.import_encrypted('{self.path('first')}', target => 'first'); DROP TABLE first;")
        return session, int(session.run("SELECT pg_backend_pid();"))

    def peak(self, pid):
        with open(f"/proc/{pid}/status", encoding="utf-8") as status:
            return int(re.search(r"VmHWM:\s+(\d+) kB", status.read())[1]) << 10

    def test_memory_is_flat_with_uneven_rows(self):
        session, pid = self.backend()
        before = self.peak(pid)
        for options in ("", ", compression => 'zstd'"):
            session.run(f"SELECT prism_crypt.export_encrypted($q${UNEVEN}$q$, '{self.path()}', overwrite => true{options});")
            self.assertLess(self.peak(pid) - before, 64 * MEGABYTE, f"an export with{options}")
            session.run(f"SELECT prism_crypt.import_encrypted('{self.path()}', target => 'back'); DROP TABLE back;")
            self.assertLess(self.peak(pid) - before, 64 * MEGABYTE, f"an import of one with{options}")

    def test_pieces_are_small(self):
        session, pid = self.backend()
        before = self.peak(pid)
        for options in ("", ", compression => 'zstd'"):
            session.run(f"BEGIN; DECLARE c CURSOR FOR SELECT octet_length(p) FROM (SELECT prism_crypt.export_stream($q${UNEVEN}$q${options}) AS p) AS s;")
            lengths = []
            while got := session.run("FETCH 100 FROM c;"):
                lengths += map(int, got.split("\n"))
            session.run("COMMIT;")
            self.assertLessEqual(max(lengths), MEGABYTE)
            # Nor are they tiny, which would be slow; but for what is left at the end.
            self.assertGreaterEqual(sum(lengths) / len(lengths), (128 << 10) if not options else 1)
        self.assertLess(self.peak(pid) - before, 64 * MEGABYTE)
        # The pieces of one that is imported may be large ones.
        self.query(f"INSERT INTO staged (chunk) SELECT string_agg(p, NULL) FROM prism_crypt.export_stream('(SELECT repeat(md5(g::text), 30000) AS x FROM generate_series(1, 30) AS g)') AS p")
        self.assertEqual(json.loads(self.query("SELECT prism_crypt.import_stream('staged', target => 'back')"))["rows"], 30)

    def test_rows_and_definitions_that_are_too_long(self):
        calls = {"a file": "SELECT prism_crypt.export_encrypted('{}', '%s')" % self.path(), "a compressed one": "SELECT prism_crypt.export_encrypted('{}', '%s', compression => 'zstd')" % self.path(), "a stream": "SELECT count(*) FROM prism_crypt.export_stream('{}')"}
        self.query("DO $$ BEGIN EXECUTE format('CREATE TABLE long_default (a text DEFAULT %L)', repeat('x', 17 << 20)); END $$ ")
        for name, call in calls.items():
            with self.subTest(name):
                self.refused(call.format("long_default"), "54000")
                self.assertEqual(os.listdir(self.directory), [])
        # A row is as long as its text: of these, each has two bytes.
        self.refused(calls["a file"].format("(SELECT repeat(chr(92), 540000000) AS a)"), "54000")
        self.assertEqual(os.listdir(self.directory), [])
        # A long one travels.
        self.query(f"DO $$ BEGIN EXECUTE format('CREATE TABLE almost (a text DEFAULT %L)', repeat('x', 4 << 20)); END $$; INSERT INTO almost DEFAULT VALUES; SELECT prism_crypt.export_encrypted('almost', '{self.path()}'); SELECT prism_crypt.import_encrypted('{self.path()}', target => 'back')")
        self.assertEqual(self.query("INSERT INTO back DEFAULT VALUES; SELECT count(*), min(length(a)) FROM back"), f"2|{4 << 20}")

    def test_too_little_memory(self):
        """An allocation that fails, wherever it is, is an error of the statement, and of no other session."""
        self.query(f"""CREATE TABLE rows AS SELECT g AS id, repeat(md5(g::text), 30000) AS x FROM generate_series(1, 20) AS g; CREATE VIEW wide AS SELECT repeat('x', 12000000) AS a, repeat('y', 12000000) AS b;
            SELECT prism_crypt.export_encrypted('rows', '{self.path('given')}', key => '{KEY}', format => 1); SELECT prism_crypt.export_encrypted('wide', '{self.path('wide')}')""")
        other = self.session(self.db)
        other.run("BEGIN; CREATE TEMP TABLE mine (a int);")
        states = {}
        for name, call in {
                "version 1": f"SELECT prism_crypt.export_encrypted('rows', '{self.path()}', key => '{KEY}', format => 1, overwrite => true);",
                "version 1 comes in": f"SELECT prism_crypt.import_encrypted('{self.path('given')}', key => '{KEY}', target => 'back'); DROP TABLE back;",
                "a wide row": f"SELECT prism_crypt.export_encrypted('wide', '{self.path()}', overwrite => true);", "a wide row, compressed": f"SELECT prism_crypt.export_encrypted('wide', '{self.path()}', overwrite => true, compression => 'zstd');",
                "a wide row in a stream": "SELECT count(*) FROM prism_crypt.export_stream('wide');", "a wide row comes in": f"SELECT prism_crypt.import_encrypted('{self.path('wide')}', target => 'back'); DROP TABLE back;"}.items():
            for room in (4, 30, 60, 90, 160):
                with self.subTest(name, room=room):
                    session, pid = self.backend()
                    with open(f"/proc/{pid}/status", encoding="utf-8") as status:
                        now = int(re.search(r"VmSize:\s+(\d+) kB", status.read())[1]) << 10
                    # By the server's user, who may without more.
                    self.cluster.server_run(["prlimit", f"--pid={pid}", f"--as={now + room * MEGABYTE}"])
                    state = PgError(session.run(call, check=False)).sqlstate
                    states.setdefault(name, set()).add(state)
                    self.assertIn(state, (None, "53200"))
                    # It goes on.
                    self.assertEqual(session.run("SELECT 1;"), "1")
                    session.close()
        # There were limits that were too low, and some that were not.
        self.assertEqual(states, {name: {None, "53200"} for name in states})
        self.assertEqual(set(os.listdir(self.directory)), {"first", "given", "wide", "file.penc"})
        self.assertEqual(other.run("INSERT INTO mine VALUES (1); COMMIT; SELECT a FROM mine;"), "1")

    def test_no_memory_stays_in_a_transaction(self):
        """Exports and imports one after the other, in one transaction and in one statement."""
        session = self.session(self.db)
        session.run("INSERT INTO staged (chunk) SELECT prism_crypt.export_stream('(SELECT 1 AS a)'); CREATE TABLE back (a int);")
        held = "SELECT count(*), sum(total_bytes) FROM pg_backend_memory_contexts;"
        repeated = {
            "exports": "SELECT octet_length(p) FROM prism_crypt.export_stream('(SELECT 1 AS a)') AS p;", "unread exports": "SELECT octet_length(prism_crypt.export_stream('(SELECT g AS a FROM generate_series(1, 10000) AS g)')) LIMIT 1;",
            "files": f"SELECT prism_crypt.export_encrypted('(SELECT 1 AS a)', '{self.path()}', overwrite => true);", "imports": "SELECT prism_crypt.import_stream('staged', target => 'back', mode => 'append');",
            "imports of files": f"SELECT prism_crypt.import_encrypted('{self.path()}', target => 'back', mode => 'append');"}
        for name, call in repeated.items():
            with self.subTest(name):
                session.run(f"BEGIN; {call * 10}")
                contexts, size = map(int, session.run(held).split("|"))
                session.run(call * 60)
                after, size_after = map(int, session.run(held).split("|"))
                self.assertLess(after - contexts, 20)
                self.assertLess(size_after - size, MEGABYTE)
                session.run("COMMIT;")


if __name__ == "__main__":
    unittest.main()
