"""`prism-crypt recover`: dumps in every form, loaded into a server without the extension, hold what the original server decrypts."""

import os
import re
import stat
import subprocess
import unittest

import recovery_schema
from harness import canaries, paths
from harness.cluster import Cluster
from harness.scenario import Scenario, set_key
from harness.tool import program
from test_key_wrapping import DATA_KEY, SEALED

OUTPUT = {"PGOPTIONS": "-c prism_crypt.output=plaintext"}
FORMS = {
    "plain": [], "custom": ["-Fc"], "directory": ["-Fd", "-j2"], "tar": ["-Ft"], "inserts": ["--inserts"], "column inserts": ["--column-inserts"],
    "rows per insert": ["--rows-per-insert=7", "--quote-all-identifiers"], "clean": ["--clean", "--if-exists", "--no-owner"], "parent": ["--load-via-partition-root"],
}


class Recover(Scenario):
    maxDiff = None

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        c = cls.cluster
        c.psql("CREATE ROLE recovery_reader")
        cls.db = cls.database("source")
        # Three versions, two master keys; one key is wrapped as 0.2.0 did it.
        set_key(c, "tenant-a", "main")
        c.reload()
        c.psql("SELECT prism_crypt.create_keyset('tenant_a')", db=cls.db)
        set_key(c, "main", "tenant-a")
        c.reload()
        c.psql(recovery_schema.SCHEMA + recovery_schema.fill(recovery_schema.TEXTS), db=cls.db)
        c.psql("SELECT prism_crypt.rotate_key(); UPDATE clinic.patient SET name = reencrypt_field(name) WHERE id % 2 = 0; "
               "UPDATE clinic.visit SET what = reencrypt_field(what) WHERE id % 2 = 0", db=cls.db)
        cls.expected = cls.answers(c, cls.db, 0, **OUTPUT)
        cls.target = Cluster("recover-target")
        cls.addClassCleanup(cls.target.close)
        cls.target.start()
        cls.target.psql("CREATE ROLE recovery_reader")
        # Whatever is loaded there, the extension is not at hand.
        cls.work = cls.cluster.home / "work"
        cls.work.mkdir()
        cls.keys = cls.key_file("keys", "main", "tenant-a")

    @classmethod
    def key_file(cls, name, *keys):
        path = cls.work / f"{name}.key"
        path.touch(mode=0o600)
        path.write_text("".join(canaries.KEYS[key] + "\n" for key in keys))
        return path

    @staticmethod
    def answers(cluster, db, which, **env):
        """What each question gives, by the question of the original server."""
        queries = [(questions[0], questions[which]) for questions in recovery_schema.QUESTIONS]
        script = "\n".join(f"COPY ({query}) TO STDOUT;\n\\echo ====" for _, query in queries)
        return dict(zip((name for name, _ in queries), cluster.psql(script, db=db, **env).split("====\n"), strict=True))

    def dump(self, name, *options, db=None):
        path = self.work / name
        self.cluster.run(["pg_dump", "-f", path, *options], db=db or self.db)
        return path

    def recover(self, dump, *options, input=None, status=0, keys=None):
        """What it wrote to standard output, and to standard error."""
        argv = [program(), "recover", dump, "--key-file", keys or self.keys, *options]
        done = subprocess.run([str(a) for a in argv], capture_output=True, input=input, env=paths.clean_env())
        error = done.stderr.decode()
        self.assertEqual(done.returncode, status, error)
        for name, secret in canaries.forms():
            self.assertNotIn(secret, done.stderr, name)
        return done.stdout, error

    def load(self, db, script):
        """Into a database of the server that does not have the extension."""
        path = self.target.write_file("script.sql", script)
        self.target.create_db(db)
        self.target.run(["psql", "-Xq", "-v", "ON_ERROR_STOP=1", "-o", "/dev/null", "-f", path], db=db)
        self.assertEqual(self.target.psql("SELECT count(*) FROM pg_extension WHERE extname = 'prism_crypt'", db=db), "0")
        return db

    def assert_right(self, db):
        answers = self.answers(self.target, db, 1)
        self.assertEqual([name for name, answer in answers.items() if answer != self.expected[name]], [])
        self.assertGreater(min(len(answer) for answer in answers.values()), 10)

    def test_every_form(self):
        for number, (name, options) in enumerate(FORMS.items()):
            with self.subTest(name):
                script, error = self.recover(self.dump(f"form {number}", *options))
                self.assertNotIn(b"prism:v1:A", script)
                self.assertIn("values of key version 3:", error)
                db = self.load(f"form {number}", script)
                self.assert_right(db)

    def test_what_is_left_out(self):
        _, error = self.recover(self.dump("left out"))
        left_out = re.findall(r"^prism-crypt: left out: (.*)$", error, re.M)
        made = sorted(what for what in left_out if what.startswith("CREATE"))
        self.assertEqual(made, [
            "CREATE FUNCTION clinic.keys: it uses prism_crypt.key_status",
            "CREATE FUNCTION clinic.tagged: it uses blind_index()",
            "CREATE TABLE clinic.lookup: constraint lookup_v_check: it uses blind_index()",
            "CREATE TRIGGER tagged BEFORE INSERT ON clinic.lookup FOR EACH ROW EXECUTE FUNCTION clinic.tagged: it uses clinic.tagged, which is left out",
            "CREATE VIEW clinic.above_searched: it uses clinic.searched, which is left out",
            "CREATE VIEW clinic.searched: it uses blind_index()",
        ])
        # The others say something about these.
        self.assertEqual([what for what in left_out if what not in made and not what.endswith("left out")], [])

    def test_one_table_with_its_keys(self):
        dump = self.dump("one", "--table=clinic.patient", "--table=clinic.tenants")
        error = self.recover(dump, status=1)[1]
        self.assertIn("the dump has no data keys", error)
        self.assertIn("HINT:  Give the key table with --keys.", error)
        self.assertIn('file "', self.recover(dump, "--keys", self.keys, status=1)[1])
        keys = self.work / "data_key.csv"
        keys.write_text(self.cluster.psql("COPY prism_crypt.data_key TO STDOUT (FORMAT csv, HEADER)", db=self.db) + "\n")
        script, _ = self.recover(dump, "--keys", keys)
        self.assertNotIn(b"prism:v1:A", script)
        # What it needs besides is not in the dump.
        self.target.create_db("one")
        self.target.psql("CREATE SCHEMA clinic; CREATE FUNCTION clinic.sealed() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END'", db="one")
        self.target.run(["psql", "-Xq", "-v", "ON_ERROR_STOP=1", "-o", "/dev/null"], db="one", input=script.decode())
        for query in ("SELECT id, name, email, phone, plain, notes FROM clinic.patient ORDER BY id", recovery_schema.EVERYTHING.format("clinic.tenants")):
            self.assertEqual(self.target.psql(f"COPY ({query}) TO STDOUT; \\echo ====", db="one"), self.expected[query] + "====")

    def test_standard_input(self):
        for name in ("plain", "custom", "tar"):
            dump = self.dump(f"stdin {name}", *FORMS[name])
            # pg_dump and pg_restore put random words there.
            piped, read = (re.sub(rb"restrict \w+", b"", self.recover(name, input=data)[0]) for name, data in (("-", dump.read_bytes()), (dump, None)))
            self.assertEqual(piped, read)
        done = subprocess.run([program(), "recover", "-", "--key-stdin"], capture_output=True, input=b"", env=paths.clean_env())
        self.assertEqual((done.returncode, done.stderr), (2, b"prism-crypt: standard input can't be the key and the dump\n"))

    def test_a_file_as_output(self):
        dump, output = self.dump("to file"), self.work / "plaintext.sql"
        self.assertEqual(self.recover(dump, "--output", output)[0], b"")
        self.assertEqual(stat.S_IMODE(output.stat().st_mode), 0o600)
        self.assertEqual(output.read_bytes(), self.recover(dump)[0])
        self.assertIn("already exists", self.recover(dump, "--output", output, status=1)[1])
        # What was there of a dump that was cut off; nothing with --strict.
        cut = self.work / "cut off"
        cut.write_bytes(dump.read_bytes()[:-5000])
        self.assertIn("the dump is not complete\n", self.recover(cut, "--output", self.work / "cut.sql", status=1)[1])
        self.assertTrue(output.read_bytes().startswith((self.work / "cut.sql").read_bytes()[:100000]))
        before = sorted(os.listdir(self.work))
        self.recover(cut, "--strict", "--output", self.work / "never.sql", status=1)
        self.assertEqual(sorted(os.listdir(self.work)), before)

    def test_another_master_key(self):
        dump = self.dump("another key")
        script, error = self.recover(dump, keys=self.key_file("other", "other"), status=1)
        self.assertEqual(script, b"")
        self.assertIn("encryption key mismatch\nDETAIL:  Key version 1 of keyset \"default\" is wrapped by the master key ", error)

    def test_one_of_two_master_keys(self):
        dump = self.dump("one of two")
        script, error = self.recover(dump, keys=self.key_file("one", "main"), status=1)
        rows = len(recovery_schema.TEXTS) // 2
        self.assertRegex(error, "prism-crypt: clinic.tenants, column v, rows? 1.*: encryption key mismatch: key version 2 of keyset \"tenant_a\" is wrapped by the master key [0-9a-f]{16}\n")
        self.assertIn(f"prism-crypt: {rows} values were not opened\n", error)
        self.assertEqual(len(re.findall(rb"prism:v2:[A-Za-z0-9+/]{20}", script)), rows)
        self.assertNotRegex(script, rb"prism:v[13]:A")
        db = self.load("one of two", script)
        wrong = [name for name, answer in self.answers(self.target, db, 1).items() if answer != self.expected[name]]
        self.assertEqual(wrong, [recovery_schema.EVERYTHING.format("clinic.tenants")])

    def test_changed_bytes(self):
        dump = self.dump("changed", "--table=clinic.visit", "--table=prism_crypt.*", "--data-only")
        text = dump.read_text()
        start = text.index("COPY clinic.visit")
        lines = text[start:text.index("\n\\.", start)].splitlines()[1:]
        # One character of a value; a key version that is not there; no base64; its end cut off.
        changes = {1: lambda v: v[:60] + ("A" if v[60] != "A" else "B") + v[61:], 3: lambda v: v.replace("prism:v1:", "prism:v9:"), 4: lambda v: v[:-4] + "!!!!", 6: lambda v: v[:30]}
        changed = list(lines)
        for row, change in changes.items():
            fields = changed[row - 1].split("\t")
            fields[1] = change(fields[1])
            changed[row - 1] = "\t".join(fields)
        dump.write_text(text.replace("\n".join(lines), "\n".join(changed)))
        # A dump without CREATE TABLE: what looks like ciphertext is.
        script, error = self.recover(dump, status=1)
        self.assertIn("clinic.visit, column patient, row 1: Decryption failed (wrong key or corrupted data)\n", error)
        lost = [line.split("\t")[1] for line in script.decode().splitlines() if re.search("\tprism:v.:A", line)]
        self.assertEqual(lost, [changed[row - 1].split("\t")[1] for row in changes])
        with_table = self.dump("changed table", "--table=clinic.visit", "--table=prism_crypt.*")
        with_table.write_text(with_table.read_text().replace("\n".join(lines), "\n".join(changed)))
        script, error = self.recover(with_table, status=1)
        told = re.findall(r"clinic.visit, column patient, row (\d+): (.*)", error)
        self.assertEqual([row for row, _ in sorted(told)], ["1", "3", "4", "6"])
        self.assertIn("prism-crypt: 4 values were not opened\n", error)
        # --strict ends at the first, and no file is made.
        output = self.work / "strict.sql"
        error = self.recover(with_table, "--strict", "--output", output, status=1)[1]
        self.assertIn("column patient, row 1: ", error)
        self.assertNotIn("row 3", error)
        self.assertFalse(output.exists())

    def test_every_changed_byte_is_noticed(self):
        dump = self.dump("bytes", "--table=clinic.seat", "--table=prism_crypt.*")
        text = dump.read_text()
        value = re.search(r"^2\t(prism:v1:\S+)$", text, re.M).group(1)
        for at in range(9, len(value), 5):
            other = "A" if value[at] != "A" else "B"
            dump.write_text(text.replace(value, value[:at] + other + value[at + 1:]))
            script, error = self.recover(dump, status=1)
            self.assertIn("clinic.seat, column v, row 2: ", error)
            self.assertIn("1 values were not opened", error)

    def test_states_of_keys(self):
        db = self.database("states")
        self.cluster.psql("CREATE TABLE t (id int, v encrypted_text); INSERT INTO t VALUES (1, 'first'); SELECT prism_crypt.rotate_key(); INSERT INTO t VALUES (2, 'second');"
                          "SELECT prism_crypt.rotate_key(); INSERT INTO t VALUES (3, 'third'); SELECT prism_crypt.disable_key(2, 'lost laptop');"
                          "SELECT prism_crypt.destroy_key(1, 'gone', force => true)", db=db)
        script, error = self.recover(self.dump("states", db=db), status=1)
        self.assertIn("public.t, column v, row 1: key version 1 is destroyed\n", error)
        self.assertIn("key version 2 is disabled; its values were opened all the same\n", error)
        self.assertIn(b"2\tsecond\n3\tthird\n", script)

    def test_keys_of_format_1(self):
        db = self.database("format_1")
        self.cluster.psql(f"UPDATE prism_crypt.data_key SET wrapped = '\\x{DATA_KEY}'; CREATE TABLE t (id int, v encrypted_text); INSERT INTO t VALUES (1, '{SEALED}'), (2, 'new')", db=db)
        for options in ([], ["--inserts"], ["-Fc"]):
            self.assertIn(b"sealed elsewhere", self.recover(self.dump("format 1", *options, db=db))[0])

    def test_encodings(self):
        c = self.cluster
        c.psql("CREATE DATABASE latin1 ENCODING 'LATIN1' TEMPLATE template0")
        c.psql("CREATE EXTENSION prism_crypt; SELECT prism_crypt.rotate_key(); CREATE TABLE \"é\" (id int, v encrypted_text, \"ü\" text DEFAULT 'é'); "
               "INSERT INTO \"é\" VALUES (1, 'é\\x', 'ß'), (2, NULL, 'é''\t')", db="latin1", PGCLIENTENCODING="UTF8")
        expected = "1|é\\x|ß\n2||é'\t"
        for number, options in enumerate((["-E", "LATIN1"], ["--inserts"], ["-E", "UTF8"], ["-Fc"])):
            script, _ = self.recover(self.dump(f"latin1 {number}", *options, db="latin1"))
            self.assertIn(b"SET client_encoding = 'UTF8';", script)
            db = self.load(f"latin1 {number}", script)
            self.assertEqual(self.target.psql("SELECT * FROM \"é\" ORDER BY id", db=db), expected)
        # Bytes of characters that look like backslashes and quotes.
        db = self.database("sjis")
        c.psql("CREATE TABLE t (id int, v encrypted_text, plain text); INSERT INTO t VALUES (1, 'ソ表\\', 'ソ表\\'), (2, '十''能', '十''能')", db=db)
        for number, options in enumerate(([], ["--inserts"])):
            target = self.load(f"sjis {number}", self.recover(self.dump(f"sjis {number}", "-E", "SJIS", *options, db=db))[0])
            self.assertEqual(self.target.psql("SELECT v, v = plain FROM t ORDER BY id", db=target), "ソ表\\|t\n十'能|t")
        self.assertIn("SHIFT_JIS_2004", self.recover(self.dump("refused", "-E", "SHIFT_JIS_2004", db=db), status=1)[1])

    def test_other_ways_to_write_strings(self):
        for number, options in enumerate(([], ["--inserts"], ["--column-inserts"])):
            path = self.work / f"strings {number}"
            self.cluster.run(["pg_dump", "-f", path, *options], db=self.db, PGOPTIONS="-c standard_conforming_strings=off -c bytea_output=escape")
            self.assert_right(self.load(f"strings {number}", self.recover(path)[0]))

    def test_the_extension_elsewhere_and_others_beside_it(self):
        self.cluster.psql('CREATE DATABASE elsewhere')
        self.cluster.psql("""CREATE SCHEMA "My Types"; CREATE EXTENSION citext SCHEMA "My Types"; CREATE EXTENSION prism_crypt SCHEMA "My Types"; SELECT prism_crypt.rotate_key();
            SET search_path = public, "My Types"; CREATE TABLE t (id int, v encrypted_text('searchable') UNIQUE, c citext CHECK (c <> 'x'), CHECK (v <> 'bad'));
            INSERT INTO t VALUES (1, 'one', 'ONE'); CREATE VIEW w AS SELECT id, c = 'one' AS c, v = 'one' AS v, v = v AS same FROM t""", db="elsewhere")
        for options in ([], ["--quote-all-identifiers", "--inserts"]):
            self.target.psql('DROP DATABASE IF EXISTS elsewhere')
            db = self.load("elsewhere", self.recover(self.dump("elsewhere", *options, db="elsewhere"))[0])
            self.assertEqual(self.target.psql('SELECT * FROM w; SELECT v, c FROM t', db=db), "1|t|t|t\none|ONE")
            self.assertEqual(self.target.error("INSERT INTO t VALUES (2, 'two', 'X')", db=db).sqlstate, "23514")

    def test_several_databases(self):
        one, other = self.database("several_1"), self.database("several_2")
        for db in (one, other):
            self.cluster.psql(f"CREATE TABLE t (v encrypted_text); INSERT INTO t VALUES ('of {db}')", db=db)
        path = self.work / "all"
        self.cluster.run(["pg_dumpall", "-f", path])
        script, _ = self.recover(path)
        for db in (one, other):
            self.assertIn(f"COPY public.t (v) FROM stdin;\nof {db}\n".encode(), script)

    def test_memory(self):
        """A long dump needs no more than a short one."""
        text = self.dump("long", "--table=clinic.seat", "--table=prism_crypt.*").read_text()
        start = text.index("\n", text.index("COPY clinic.seat")) + 1
        end = text.index("\\.\n", start)
        path = self.work / "long"
        with open(path, "w", encoding="utf-8") as file:
            file.write(text[:start])
            for _ in range(30000):
                file.write(text[start:end])
            file.write(text[end:])
        self.assertGreater(path.stat().st_size, 40 << 20)
        with subprocess.Popen([program(), "recover", path, "--key-file", self.keys], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=paths.clean_env()) as process:
            _, status, usage = os.wait4(process.pid, 0)
            process.returncode = status
        self.assertEqual(status, 0)
        self.assertLess(usage.ru_maxrss, 32 << 10)
        path.unlink()


if __name__ == "__main__":
    unittest.main()
