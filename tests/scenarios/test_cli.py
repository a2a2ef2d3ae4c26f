"""The command-line tool beside a server: files that the server has exported, files for it to import, and keys on paper."""

import contextlib
import json
import os
import pty
import subprocess
import termios
import unittest

from harness import canaries, paths, penc
from harness.cluster import Cluster
from harness.scenario import Scenario, key_forms, wait_until
from harness.tool import program
from test_files import CONTENT, KEY, OTHER, SCHEMA, WAYS

TYPES = "CREATE TYPE mood AS ENUM ('sad', 'it''s ok'); CREATE TYPE pair AS (a int, \"B c\" text); CREATE DOMAIN short AS varchar(5) CHECK (value <> 'never');"


class Tool(Scenario):
    preload = True
    maxDiff = None

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.program = program()
        cls.directory = cls.cluster.home / "files"
        cls.directory.mkdir()
        paths.give_to_server(cls.directory)
        cls.db = cls.database("cli")
        cls.cluster.psql(SCHEMA, db=cls.db)
        cls.content = cls.query(CONTENT.format('"Some Things"'))
        cls.master = cls.cluster.key_file
        cls.given = cls.key_file("given", KEY)

    @classmethod
    def query(cls, sql, db=None, **how):
        return cls.cluster.psql(sql, db=db or cls.db, **how)

    @classmethod
    def key_file(cls, name, *keys):
        path = cls.cluster.home / f"{name}.key"
        path.touch(mode=0o600)
        path.write_text("".join(f"{key}\n" for key in keys))
        return path

    def tool(self, *arguments, input=None, status=0, **env):
        """What it writes to standard output, or, if it must fail, to standard error. Bytes in, text out."""
        done = subprocess.run([self.program, *map(str, arguments)], input=input, capture_output=True, env=paths.clean_env(**env), check=False,
                              **({} if input is not None else {"stdin": subprocess.DEVNULL}))
        self.assertEqual(done.returncode, status, done.stderr.decode())
        return (done.stderr if status else done.stdout).decode()

    def export(self, name, source='"Some Things"', options=""):
        path = self.directory / name
        path.unlink(missing_ok=True)
        source = source.replace("'", "''")
        self.query(f"SELECT prism_crypt.export_encrypted('{source}', '{path}'{options})")
        return path

    def columns(self, table='"Some Things"'):
        return self.query(f"SELECT string_agg(quote_ident(attname), ', ' ORDER BY attnum) FROM pg_attribute "
                          f"WHERE attrelid = '{table}'::regclass AND attnum > 0 AND NOT attisdropped AND attgenerated = ''")

    def test_decrypts_what_the_server_exports(self):
        plain = Cluster("cli-plain")
        self.addCleanup(plain.close)
        plain.start()
        plain.psql(TYPES)
        for number, (options, key) in enumerate(WAYS):
            with self.subTest(options):
                path = self.export(f"{number}.penc", options=options)
                key_file = self.given if key else self.master
                self.assertRegex(self.tool("verify", path, "--key-file", key_file), r"\Acomplete and unchanged: 500 rows, \d+ bytes\n\Z")
                # CSV, into a table like it.
                csv = self.tool("decrypt", path, "--key-file", key_file)
                self.query(f'CREATE TABLE back{number} (LIKE "Some Things" INCLUDING GENERATED)')
                self.cluster.run(["psql", "-Xqc", f"COPY back{number} ({self.columns()}) FROM STDIN (FORMAT csv, HEADER)"], db=self.db, input=csv)
                self.assertEqual(self.query(CONTENT.format(f"back{number}")), self.content)
                # Statements, into a server without the extension.
                sql = self.tool("decrypt", path, "--format", "sql", "--table", f"plain{number}", "--key-file", key_file)
                plain.run(["psql", "-Xqv", "ON_ERROR_STOP=1", "-1"], input=sql)
                self.assertEqual(plain.psql(CONTENT.format(f"plain{number}")), self.content)
                # And into one with it, which seals the values again.
                sql = self.tool("decrypt", path, "--format", "sql", "--keep-types", "--table", f"kept{number}", "--key-file", key_file)
                self.cluster.run(["psql", "-Xqv", "ON_ERROR_STOP=1", "-1"], db=self.db, input=sql)
                self.assertEqual(self.query(CONTENT.format(f"kept{number}")), self.content)
                self.assertEqual(self.query(f"SELECT count(*) FROM kept{number} WHERE key_version(email) IS NULL"), "0")
        definition = """SELECT attname, attnotnull, attidentity, attgenerated, pg_get_expr(adbin, adrelid) FROM pg_attribute
            LEFT JOIN pg_attrdef ON adrelid = attrelid AND adnum = attnum WHERE attrelid = '{}'::regclass AND attnum > 0 ORDER BY attnum"""
        self.assertEqual(plain.psql(definition.format("plain0")), self.query(definition.format('"Some Things"')))

    def test_files_of_strangers(self):
        """Whoever has written a file, who has its key: as SQL it gives tables, defaults that compute, and rows."""
        self.query("CREATE DATABASE strangers", db="postgres")
        mark = self.cluster.home / "ran"
        meta = f"\n\\! touch {mark}\n"
        # A better match than PostgreSQL's own, of another role.
        self.query("CREATE FUNCTION public.lower(varchar) RETURNS text LANGUAGE sql IMMUTABLE AS $$ SELECT 'trapped' $$; "
                   "CREATE FUNCTION public.run() RETURNS int LANGUAGE plpgsql AS $$ BEGIN CREATE TABLE ran(); RETURN 1; END $$", db="strangers")
        a, v = {"name": "a", "type": "integer"}, {"name": "v", "type": "character varying(10)"}
        expressions = ["1); CREATE TABLE ran(); PERFORM (1", "1" + meta, "public.run()", "(SELECT run())", "pg_catalog.pg_read_file('PG_VERSION')", ":x", "1 -- x"]
        # For each: definitions of columns, the name of the table, rows, and whether the tool and psql end well.
        files = [
            ([{**a, "type": "integer" + meta}], "t0", "", 1, 0), ([{**a, "type": "integer); CREATE TABLE ran(); --"}], "t0", "", 1, 0),
            ([{**a, "type": "integer DEFAULT run()"}], "t0", "", 1, 0), ([{**a, "collation": "\"C\"" + meta}], "t0", "", 1, 0),
            ([a], "t1" + meta, "1\n", 0, 0), ([{**a, "name": "a\"" + meta}], "t2", "1\n", 0, 0),
            # Were the table not made, psql could take rows for statements.
            ([{**a, "type": "public.none"}], "t3", f"\\! touch {mark}\n", 0, 3),
            ([{**a, "name": "\n\\.\n" + meta, "expression": "1"}], "t4", "1\n", 0, 0),
            ([{"name": "d", "type": "text", "expression": f"'{meta}\n\\.\n'::text"}], "t5", "x\n", 0, 0),
            ([v, {"name": "l", "type": "text", "generated": "stored", "expression": "lower(v)"}], "t6", "ABC\n", 0, 0),
            ([], "t7", "\n\n", 0, 0),
            ([v, {**a, "identity": "always", "sequence": {"start": 1, "increment": 2, "minimum": 1, "maximum": 99, "cache": 1, "cycle": False, "last": 5, "called": True}}],
             "t8", "a\t1\nb\t3\nc\t5\n", 0, 0),
            *(([v, {**a, **kind, "expression": expression}], f"t{number}{len(kind)}x", "x\n" if kind else "x\t1\n", 0, 0)
              for number, expression in enumerate(expressions) for kind in ({}, {"generated": "stored"})),
        ]
        made = penc.make(*(penc.content(columns, rows.encode(), collection=name) for columns, name, rows, *_ in files), key=KEY)
        for (columns, name, rows, fails, stops), file in zip(files, made):
            for options in ([], ["-1"]):
                with self.subTest(name, columns=columns, options=options):
                    path = self.cluster.home / "stranger.penc"
                    path.write_bytes(file)
                    sql = self.tool("decrypt", path, "--format", "sql", "--key-file", self.given, status=fails)
                    self.query(f'DROP TABLE IF EXISTS "{name}"', db="strangers")
                    if not fails:
                        done = subprocess.run(["psql", "-Xq", *options], input=sql.encode(), env=self.cluster.env("postgres", "strangers"), capture_output=True, check=False)
                        self.assertEqual(done.returncode, stops, done.stderr.decode())
                    self.assertFalse(mark.exists())
                    self.assertEqual(self.query("SELECT to_regclass('public.ran') IS NULL", db="strangers"), "t")
        self.assertEqual(self.query("SELECT l FROM t6", db="strangers"), "abc")
        self.assertEqual(self.query("SELECT count(*) FROM t7", db="strangers"), "2")
        self.assertEqual(self.query("INSERT INTO t8 (v) VALUES ('d') RETURNING a", db="strangers"), "7")

    def test_other_keys(self):
        path = self.export("wrapped.penc")
        other = self.key_file("other", OTHER)
        said = self.tool("decrypt", path, "--key-file", other, status=1)
        fingerprint = self.query("SELECT setting FROM prism_crypt.status() WHERE name = 'master_fingerprint'")
        self.assertIn(f"DETAIL:  The key of the file is wrapped by the master key {fingerprint}, given: ", said)
        both = self.key_file("both", OTHER, canaries.KEYS["main"])
        self.tool("verify", path, "--key-file", both)
        found = json.loads(self.tool("inspect", path, "--json"))
        self.assertEqual((found["master_fingerprint"], found["content_type"]), (fingerprint, "application/vnd.prism-crypt.table"))

    def test_server_imports_what_it_encrypts(self):
        rows = [(1, "Ada O'Neill, \"x\"", "1.50", None), (2, "Zsófia\n山田\t\\N", "NaN", ""), (3, "\\.", "-7", "prism")]
        csv = self.query("SET client_encoding = 'UTF8'; COPY (VALUES %s) TO STDOUT (FORMAT csv)" % ", ".join(
            "({}, E'{}', '{}', {})".format(n, name.replace("\\", "\\\\").replace("'", "''").replace("\n", "\\n"), amount, "NULL" if note is None else f"'{note}'")
            for n, name, amount, note in rows))
        source = self.cluster.home / "clients of today.csv"
        source.write_text('id,"full name",amount,note\n' + csv + "\n", encoding="utf-8")
        types = ["--type", "id=int", "--type", "full name=public.encrypted_text('personal')", "--type", "amount=numeric(10,2)"]
        ways = [[], ["--format", "1"], ["--wrap"], ["--compression", "zstd"], ["--wrap", "--compression", "zstd"]]
        for number, options in enumerate(ways):
            with self.subTest(options):
                path = self.cluster.home / f"in{number}.penc"
                key_file = self.master if "--wrap" in options else self.given
                self.tool("encrypt", source, "--output", path, "--key-file", key_file, *types, *options)
                self.assertEqual(os.stat(path).st_mode & 0o7777, 0o600)
                paths.give_to_server(path)
                key = "" if "--wrap" in options else f", key => '{KEY}'"
                done = json.loads(self.query(f"SELECT prism_crypt.import_encrypted('{path}', target => 'clients{number}'{key})"))
                self.assertEqual(done["rows"], 3)
                self.assertEqual(self.query(f'SELECT id, "full name"::text, amount, note FROM clients{number} ORDER BY id'),
                                 self.query("SELECT * FROM (VALUES (1, 'Ada O''Neill, \"x\"', 1.50, NULL), (2, E'Zsófia\\n山田\\t\\\\N', 'NaN', ''), "
                                            "(3, E'\\\\.', -7.00, 'prism')) AS v (a, b, c, d) ORDER BY a"))
                self.assertEqual(self.query(f'SELECT count(*) FROM clients{number} WHERE key_version("full name") > 0 AND note IS NULL'), "1")
        # Under the name of the CSV.
        self.query(f"SELECT prism_crypt.import_encrypted('{path}')")
        self.assertEqual(self.query('SELECT count(*) FROM "clients of today"'), "3")

    def test_streams(self):
        """What a client reads in pieces is the same file."""
        script = f"SELECT encode(prism_crypt.export_stream('\"Some Things\"'), 'hex')"
        file = bytes.fromhex(self.query(script).replace("\n", ""))
        csv = self.tool("decrypt", "-", "--key-file", self.master, input=file)
        self.assertEqual(csv, self.tool("decrypt", self.export("whole.penc"), "--key-file", self.master))
        self.assertEqual(self.tool("verify", "-", "--key-file", self.master, input=file[:300], status=1), "prism-crypt: the file is truncated\n")

    def test_ciphertext_travels_as_it_is(self):
        self.query("CREATE ROLE archivist LOGIN; SELECT prism_crypt.grant_access('archivist', 'export'); GRANT pg_write_server_files TO archivist; "
                   'GRANT SELECT ON "Some Things" TO archivist')
        path = self.directory / "sealed.penc"
        self.query(f"SELECT prism_crypt.export_encrypted('(SELECT id, email FROM \"Some Things\")', '{path}')", user="archivist")
        sql = self.tool("decrypt", path, "--format", "sql", "--key-file", self.master)
        self.assertIn('"email" text', sql)
        self.assertEqual(sql.count("\tprism:v1:"), 500)

    def test_paper(self):
        """The key of the server, as root or its owner reads it; and it opens what the server has sealed."""
        sheet = self.tool("backup-key", "--key-file", self.master)
        fingerprint = self.query("SELECT DISTINCT master_fingerprint FROM prism_crypt.data_key")
        self.assertIn(f", fingerprint {fingerprint}\n", sheet)
        path = self.cluster.home / "again.key"
        said = self.tool("restore-key", "--output", path, input=sheet.encode())
        self.assertEqual(said, f"fingerprint: {fingerprint}\n")
        self.assertTrue(path.read_text() == canaries.KEYS["main"] + "\n")
        self.query(f"SET prism_crypt.master_key_file = '{self.cluster.write_file('again', path.read_text())}'; SELECT count(email::text) FROM \"Some Things\"")

    def test_generated_keys_are_keys(self):
        path = self.cluster.home / "new.key"
        said = self.tool("generate-key", "--output", path)
        given = self.cluster.write_file("new", path.read_text())
        fingerprint = self.query(f"SET prism_crypt.master_key_file = '{given}'; SELECT setting FROM prism_crypt.status() WHERE name = 'master_fingerprint'")
        self.assertEqual(said, f"fingerprint: {fingerprint}\n")

    def test_dumps_are_inspected(self):
        counts = dict(line.split("|") for line in self.query(
            "SELECT location, sum(ciphertexts) FROM prism_crypt.census('\"Some Things\"') WHERE kind = 'table' GROUP BY location").splitlines())
        fingerprint = self.query("SELECT DISTINCT master_fingerprint FROM prism_crypt.data_key")
        for form, options in {"plain": [], "custom": ["-Fc"], "directory": ["-Fd"], "tar": ["-Ft"], "inserts": ["--column-inserts"]}.items():
            with self.subTest(form):
                path = self.cluster.home / f"dump-{form}"
                self.cluster.run(["pg_dump", "-f", path, "-t", '"Some Things"', "-t", "prism_crypt.data_key", *options], db=self.db)
                found = json.loads(self.tool("inspect", path, "--json"))
                self.assertEqual(found["kind"], "dump")
                if form == "inserts":
                    self.assertEqual(sum(found["columns"][0]["values"].values()), sum(map(int, counts.values())))
                else:
                    self.assertEqual({f'{c["table"]}.{c["column"]}' if c["column"].islower() else f'{c["table"]}."{c["column"]}"'.replace('"Quo"ted"', '"Quo""ted"'):
                                      str(sum(c["values"].values())) for c in found["columns"]}, counts)
                self.assertEqual(found["master_fingerprints_needed"], [fingerprint])
                self.assertEqual(found["versions_without_key"], [])

    def at_a_terminal(self, arguments, typed):
        """What a terminal shows, and the exit status; types once the tool asks. `typed`: whether it is echoed, and the text."""
        process, terminal = pty.fork()
        if process == 0:
            os.execve(self.program, [self.program, *map(str, arguments)], paths.clean_env(TERM="xterm"))
        shown = b""
        with os.fdopen(terminal, "r+b", buffering=0) as terminal:
            for is_shown, text in typed:
                while not shown.endswith(b": "):
                    shown += os.read(terminal.fileno(), 1000)
                wait_until(lambda: bool(termios.tcgetattr(terminal.fileno())[3] & termios.ECHO) == is_shown, "the terminal is not as it should be")
                terminal.write(text.encode() + b"\n")
                shown += b"\n"
            with contextlib.suppress(OSError):
                while more := os.read(terminal.fileno(), 1000):
                    shown += more
        return shown.decode(), os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])

    def test_a_terminal_is_asked(self):
        """For a key without echo, and for words line by line."""
        path = self.export("asked.penc")
        for arguments in (["verify", path], ["verify", path, "--key-stdin"]):
            shown, status = self.at_a_terminal(arguments, [(False, canaries.KEYS["main"])])
            self.assertEqual(status, 0)
            # A bar, which goes when it is done; nothing of the key.
            self.assertRegex(shown, r"(?s)\AKey: \s+verifying \[.*complete and unchanged: 500 rows, \d+ bytes\r\n\Z")
            self.assertFalse(canaries.KEYS["main"][:8] in shown)
        sheet = self.tool("backup-key", "--key-file", self.master).splitlines()[2:]
        words = [word for line in sheet for word in line.split() if word.isalpha()]
        back = self.cluster.home / "typed.key"
        shown, status = self.at_a_terminal(["restore-key", "--output", back], [(True, " ".join(words[:10])), (True, " ".join(word[:4] for word in words[10:]))])
        self.assertEqual(status, 0)
        self.assertIn("Words from number 11 on: ", shown)
        self.assertTrue(back.read_text() == canaries.KEYS["main"] + "\n")

    def test_keys_are_seen_by_nobody(self):
        """Neither in the arguments of a process that runs, nor in what it says."""
        path = self.export("watched.penc")
        secrets = key_forms(canaries.KEYS["main"])
        for arguments, env in ((["--key-stdin"], {}), (["--key-file", str(self.master)], {}), (["--key-env", "MINE"], {"MINE": canaries.KEYS["main"]})):
            with subprocess.Popen([self.program, "decrypt", "-" if "--key-stdin" not in arguments else str(path), *arguments], stdin=subprocess.PIPE,
                                  stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=paths.clean_env(**env)) as child:
                # It waits for its input.
                wait_until(lambda: b"decrypt" in (line := open_bytes(f"/proc/{child.pid}/cmdline")) and line, "the tool does not begin")
                seen = open_bytes(f"/proc/{child.pid}/cmdline")
                out, err = child.communicate(canaries.KEYS["main"].encode() if "--key-stdin" in arguments else path.read_bytes())
            self.assertEqual(child.returncode, 0, err)
            for secret in secrets.values():
                for where in (seen, err, out):
                    self.assertFalse(secret in where, "a key is seen")


def open_bytes(path):
    with open(path, "rb") as file:
        return file.read()


if __name__ == "__main__":
    unittest.main()
