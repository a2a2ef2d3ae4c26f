"""`prism-crypt recover`: dumps in every form, loaded into a server without the extension, hold what the original server decrypts."""

import re
import subprocess
import unittest

import recovery_schema
from harness import paths
from harness.tool import program
from recovering import Recovering

FORMS = {
    "plain": [], "custom": ["-Fc"], "directory": ["-Fd", "-j2"], "tar": ["-Ft"], "inserts": ["--inserts"], "column inserts": ["--column-inserts"],
    "rows per insert": ["--rows-per-insert=7", "--quote-all-identifiers"], "clean": ["--clean", "--if-exists", "--no-owner"], "parent": ["--load-via-partition-root"],
}
if paths.PG_MAJOR >= 18:
    FORMS["statistics"] = ["--statistics"]


class Recover(Recovering):
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

    def test_in_the_middle_of_a_migration(self):
        for until in ("until => 'verified'", "until => 'cut_over'"):
            with self.subTest(until):
                self.cluster.psql("DROP DATABASE IF EXISTS migrated")
                self.target.psql("DROP DATABASE IF EXISTS migrated")
                db = self.database("migrated")
                self.cluster.psql("CREATE TABLE m (id int PRIMARY KEY, email text NOT NULL UNIQUE); INSERT INTO m SELECT i, 'm' || i FROM generate_series(1, 50) AS i", db=db)
                self.cluster.psql(f"CALL prism_crypt.migrate_column('m', 'email', 'encrypted_text(email,searchable)', method => 'online', {until})", db=db)
                self.load(db, self.recover(self.dump("migrated", db=db))[0])
                self.assertEqual(self.target.psql("SELECT count(*) FROM m WHERE email = 'm' || id; UPDATE m SET email = 'new' WHERE id = 1", db=db), "50")
                columns = self.target.psql("SELECT * FROM m WHERE id = 2", db=db)
                self.assertEqual(columns.count("m2"), 2, columns)

    def test_a_database_of_an_older_version(self):
        self.cluster.psql("CREATE DATABASE older")
        self.cluster.psql("CREATE EXTENSION prism_crypt VERSION '0.2.0'; SELECT prism_crypt.rotate_key(); CREATE TABLE o (id int, v encrypted_text('searchable') UNIQUE, c encrypted_text DEFAULT 'constant');"
                          "INSERT INTO o VALUES (1, 'old')", db="older")
        self.load("older", self.recover(self.dump("older", db="older"))[0])
        self.assertEqual(self.target.psql("SELECT * FROM o", db="older"), "1|old|constant")

    def test_several_databases(self):
        one, other = self.database("several_1"), self.database("several_2")
        for db in (one, other):
            self.cluster.psql(f"CREATE TABLE t (v encrypted_text); INSERT INTO t VALUES ('of {db}')", db=db)
        path = self.work / "all"
        self.cluster.run(["pg_dumpall", "-f", path])
        script, _ = self.recover(path)
        for db in (one, other):
            self.assertIn(f"COPY public.t (v) FROM stdin;\nof {db}\n".encode(), script)


if __name__ == "__main__":
    unittest.main()
