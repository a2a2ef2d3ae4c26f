"""Tables as encrypted files of the server: out and in again, and everything that is refused."""

import json
import os
import unittest

from harness import PgError, paths
from harness.scenario import Scenario

KEY, OTHER = "07" * 32, "08" * 32
SCHEMA = """
    CREATE TYPE mood AS ENUM ('sad', 'it''s ok'); CREATE TYPE pair AS (a int, "B c" text); CREATE DOMAIN short AS varchar(5) CHECK (value <> 'never');
    CREATE TABLE "Some Things" (
      id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, email encrypted_text('email', 'searchable') NOT NULL, "Quo""ted" encrypted_text, aliases encrypted_text[],
      i int2, n numeric(20, 5), f float8, t text, v varchar(10), c char(4), b bytea, d date, ts timestamptz, iv interval, u uuid, bo boolean, j json, jb jsonb,
      arr text[], ints int[][], m mood, p pair, ps pair[], s short, r int4range, ip inet, bits bit varying, x xml, gen int GENERATED ALWAYS AS (i * 2) STORED,
      def timestamptz DEFAULT '2026-01-01 00:00+00', name name);
    INSERT INTO "Some Things" (email, "Quo""ted", aliases, i, n, f, t, v, c, b, d, ts, iv, u, bo, j, jb, arr, ints, m, p, ps, s, r, ip, bits, x, name)
    SELECT 'p' || g || '@example.org', CASE WHEN g % 3 > 0 THEN E'tab\\t\\\\ new\\nline ' || g END, CASE WHEN g % 2 = 0 THEN ARRAY['a' || g, NULL]::text[]::encrypted_text[] END,
      g % 100, g / 7.0, CASE g % 4 WHEN 0 THEN 'NaN' WHEN 1 THEN '-Infinity' ELSE 1.0 / g END, CASE g % 5 WHEN 0 THEN '' WHEN 1 THEN E'\\\\N' WHEN 2 THEN E'\\\\.' ELSE 'Zsófia 山田 🙂' END,
      'v' || g, 'c', decode(md5(g::text), 'hex'), date '2026-01-01' + g, timestamptz '2026-01-01 12:00+05' + g * interval '1 hour', interval '1 year 2 mons -3 days' * g,
      md5(g::text)::uuid, g % 2 = 0, '{"a": 1,  "a": 2}', jsonb_build_object('k', g, 'q', E'"\\n'), ARRAY['x', NULL, 'NULL', '', E'"\\\\'], ARRAY[[1, 2], [g, NULL]],
      CASE g % 2 WHEN 0 THEN 'sad' ELSE 'it''s ok' END::mood, ROW(g, E'a "b",\\n')::pair, ARRAY[ROW(g, NULL)::pair], 's' || g % 10, int4range(g, g + 5), '10.0.0.0/8', B'1011',
      '<a>1</a>', 'n' || g
    FROM generate_series(1, 500) AS g"""
# As text, whatever the session shows of encrypted values; identity and order included.
CONTENT = """SELECT md5(string_agg(format('%s|%s|%s|%s|%s', q.id, q.email::text, q."Quo""ted"::text, q.aliases::text[], to_jsonb(q) - 'email' - 'Quo"ted' - 'aliases'), E'\\n' ORDER BY q.id)) FROM {} AS q"""

# Options of the export, and those of the import.
WAYS = [(options, f", key => '{KEY}'" if "key" in options else "") for options in (
    "", f", key => '{KEY}'", f", key => '{KEY}', format => 1", ", compression => 'zstd'", f", key => '{KEY}', compression => 'zstd'")]


class Files(Scenario):
    preload = True
    maxDiff = None

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.directory = cls.cluster.home / "files"
        cls.directory.mkdir()
        paths.give_to_server(cls.directory)
        cls.database("template")
        cls.cluster.psql(SCHEMA, db="template")

    def setUp(self):
        self.db = self.id().rpartition(".")[2][:60]
        self.cluster.psql(f'CREATE DATABASE "{self.db}" TEMPLATE template')
        for name in os.listdir(self.directory):
            os.remove(self.directory / name)

    def query(self, sql, **how):
        return self.cluster.psql(sql, db=self.db, **how)

    def path(self, name="file.penc"):
        return f"{self.directory}/{name}"

    def export(self, source='"Some Things"', name="file.penc", options=""):
        source = source.replace("'", "''")
        return json.loads(self.query(f"SELECT prism_crypt.export_encrypted('{source}', '{self.path(name)}'{options})"))

    def imported(self, target, name="file.penc", options="", **how):
        return json.loads(self.query(f"SELECT prism_crypt.import_encrypted('{self.path(name)}', target => '{target}'{options})", **how))

    def refused(self, sql, sqlstate, message):
        error = self.cluster.error(sql, db=self.db)
        self.assertEqual((error.sqlstate, error.message), (sqlstate, message), error)
        return error

    def test_everything_comes_back(self):
        content = self.query(CONTENT.format('"Some Things"'))
        for number, (options, key) in enumerate(WAYS):
            done = self.export(name=f"{number}.penc", options=options)
            size = os.path.getsize(self.path(f"{number}.penc"))
            self.assertEqual(done, {"success": True, "collection": 'public."Some Things"', "output_path": self.path(f"{number}.penc"), "size_bytes": size, "rows": 500,
                                    "format": 1 if "format" in options else 2, "key_source": "given" if key else "master"})
            self.assertEqual(oct(os.stat(self.path(f"{number}.penc")).st_mode & 0o7777), "0o600")
            done = self.imported(f"copy_{number}", f"{number}.penc", key)
            self.assertEqual(done, {"success": True, "collection": f"public.copy_{number}", "rows": 500, "bytes_extracted": size, "files_extracted": 1})
            self.assertEqual(self.query(CONTENT.format(f"copy_{number}")), content)
            # Sealed anew, each value.
            self.assertEqual(self.query(f'SELECT count(*) FROM copy_{number} JOIN "Some Things" AS t USING (id) WHERE copy_{number}.email::bytea = t.email::bytea'), "0")
        columns = """SELECT attname, format_type(atttypid, atttypmod), attnotnull, attidentity, attgenerated, pg_get_expr(adbin, adrelid) FROM pg_attribute
            LEFT JOIN pg_attrdef ON adrelid = attrelid AND adnum = attnum WHERE attrelid = '{}'::regclass AND attnum > 0 ORDER BY attnum"""
        self.assertEqual(self.query(columns.format("copy_0")), self.query(columns.format('"Some Things"')))
        # Not a byte of plaintext in the files of any way.
        for name in os.listdir(self.directory):
            data = (self.directory / name).read_bytes()
            self.assertNotIn(b"example.org", data)

    def test_modes(self):
        self.export()
        self.refused(f"SELECT prism_crypt.import_encrypted('{self.path()}')", "42P07", 'relation "Some Things" already exists')
        self.refused(f"SELECT prism_crypt.import_encrypted('{self.path()}', mode => 'empty')", "55000", 'table public."Some Things" is not empty')
        self.imported("other", options="")
        self.assertEqual(self.imported("other", options=", mode => 'append'")["rows"], 500)
        self.assertEqual(self.query("SELECT count(*), count(DISTINCT id) FROM other"), "1000|500")
        self.query("TRUNCATE other")
        self.imported("other", options=", mode => 'empty'")
        self.query('DROP TABLE "Some Things"')
        self.assertEqual(json.loads(self.query(f"SELECT prism_crypt.import_encrypted('{self.path()}')"))["collection"], 'public."Some Things"')
        self.refused(f"SELECT prism_crypt.import_encrypted('{self.path()}', target => 'nowhere', mode => 'append')", "42P01", 'relation "nowhere" does not exist')
        self.refused(f"SELECT prism_crypt.import_encrypted('{self.path()}', mode => 'x')", "22023", "mode must be new, empty or append")

    def test_views_and_queries(self):
        self.query('CREATE VIEW w AS SELECT id, email, i FROM "Some Things" WHERE i < 10')
        self.assertEqual(self.export("w", "w")["collection"], "public.w")
        self.imported("from_view", "w")
        self.assertEqual(self.query("SELECT count(*) = (SELECT count(*) FROM w), min(email::text) FROM from_view"), f"t|{self.query('SELECT min(email::text) FROM w')}")
        self.assertEqual(self.export(' (SELECT id, lower(\'A\') AS "x y", email FROM "Some Things" ORDER BY id LIMIT 3)', "q")["rows"], 3)
        self.imported("from_query", "q")
        self.assertEqual(self.query('SELECT id, "x y", email::text FROM from_query ORDER BY id'), "1|a|p1@example.org\n2|a|p2@example.org\n3|a|p3@example.org")
        for source in ("(SELECT 1) AS q; DROP TABLE \"Some Things\"; SELECT * FROM (SELECT 1)", "(DELETE FROM \"Some Things\" RETURNING id)", "(SELECT 1 AS a) UNION (SELECT 2)",
                       # Balanced in themselves: with what is put around them, they are more than one query.
                       "(SELECT 1) AS q; DELETE FROM \"Some Things\"; SELECT * FROM (SELECT 1)", "(SELECT 1 AS a) AS q, \"Some Things\"; --)", "(SELECT 1 AS a)) AS q; DELETE FROM \"Some Things\"; SELECT * FROM (SELECT 1",
                       "(SELECT 1 AS a) AS q; DELETE FROM \"Some Things\"; /*", "(SELECT 1 AS a; DELETE FROM \"Some Things\")", "(SELECT 1 AS a INTO made)", "()", "((SELECT 1 AS a)", "(VALUES (1)) AS q (a) UNION ALL (SELECT 2"):
            with self.subTest(source):
                self.assertEqual(self.cluster.error(f"SELECT prism_crypt.export_encrypted($$ {source}$$, '{self.path('x')}')", db=self.db).sqlstate, "42601")
        self.assertEqual(self.query('SELECT count(*) FROM "Some Things"'), "500")

    def test_streams(self):
        content = self.query(CONTENT.format('"Some Things"'))
        for number, (options, key) in enumerate(WAYS):
            if "format" in options:
                continue
            with self.subTest(options):
                self.query(f"""CREATE TABLE staged_{number} (number int GENERATED ALWAYS AS IDENTITY, chunk bytea);
                    INSERT INTO staged_{number} (chunk) SELECT prism_crypt.export_stream('"Some Things"'{options})""")
                done = json.loads(self.query(f"SELECT prism_crypt.import_stream('staged_{number}', target => 'copy_{number}'{key})"))
                self.assertEqual(done["rows"], 500)
                self.assertEqual(self.query(CONTENT.format(f"copy_{number}")), content)
                # In other pieces, and as a file.
                pieces = f"(SELECT substr(a, n, 1000) FROM (SELECT string_agg(chunk, NULL ORDER BY number) AS a FROM staged_{number}) AS s, generate_series(1, 1000000, 1000) AS n)"
                self.query(f"SELECT prism_crypt.import_stream($${pieces}$$, target => 'again_{number}'{key})")
                self.assertEqual(self.query(CONTENT.format(f"again_{number}")), content)
        self.refused("SELECT prism_crypt.import_stream('(SELECT ''x''::text)')", "22023", "the pieces of a file must come as one column of type bytea")
        self.query("DELETE FROM staged_0 WHERE number = (SELECT max(number) FROM staged_0)")
        error = self.cluster.error("SELECT prism_crypt.import_stream('staged_0', target => 'never')", db=self.db)
        self.assertIn(error.message, ("the file is truncated", "Decryption failed (wrong key or corrupted data)"))
        self.assertEqual(self.query("SELECT to_regclass('never')"), "")

    def test_streams_that_are_not_read_to_the_end(self):
        self.query("CREATE TABLE long AS SELECT g AS id, ('value ' || g)::encrypted_text AS v, repeat('x', 1000) AS x FROM generate_series(1, 3000) AS g")
        session = self.session(self.db)
        stream = "SELECT prism_crypt.export_stream('long')"
        for _ in range(3):
            self.assertGreater(int(session.run(f"SELECT octet_length(export_stream) FROM ({stream} LIMIT 1) AS s;")), 256 << 10)
            session.run(f"BEGIN; DECLARE c CURSOR FOR {stream}; FETCH 2 FROM c; SAVEPOINT s; FETCH 1 FROM c; ROLLBACK TO s; ROLLBACK;")
            session.run(f"BEGIN; DECLARE c CURSOR FOR {stream}; FETCH 1 FROM c; CLOSE c; COMMIT;")
            with self.assertRaises(PgError):
                session.run(f"BEGIN; DECLARE c CURSOR FOR {stream}; FETCH 1 FROM c; SELECT 1 / 0;")
            session.run("ROLLBACK;")
            with self.assertRaises(PgError) as caught:
                session.run("SELECT count(*) FROM (SELECT prism_crypt.export_stream('(SELECT id, 10 / (id - 2500) FROM long)')) AS s;")
            self.assertEqual(caught.exception.sqlstate, "22012")
            self.assertEqual(session.run(f"SELECT count(*) > 5 FROM ({stream}) AS s;"), "t")
            # Nothing of it stays open, while the transaction goes on.
            for read in (f"SELECT count(*) > 5 FROM ({stream}) AS s;", f"SELECT octet_length(export_stream) > 0 FROM ({stream} LIMIT 1) AS s;", f"SAVEPOINT s; DECLARE c CURSOR FOR {stream}; MOVE 1 FROM c; CLOSE c;"):
                session.run(f"BEGIN; {read}")
                self.assertEqual(session.run("SELECT count(*) FROM pg_cursors;"), "0", read)
                session.run("DROP TABLE long; ROLLBACK;")

    def test_what_is_refused(self):
        call = f"SELECT prism_crypt.export_encrypted('\"Some Things\"', '{self.path()}'"
        self.refused(f"{call}, key => '{'07' * 16}')", "22023", "Key must be 32 bytes, got 16")
        self.refused(f"{call}, key => 'no key at all!')", "22023", "Key must be 64 hexadecimal digits or the base64 of 32 bytes")
        self.refused(f"{call}, format => 3)", "22023", "format must be 1 or 2")
        self.refused(f"{call}, format => 1)", "22023", "a file of version 1 needs a key, and is not compressed")
        self.refused(f"{call}, compression => 'gzip')", "22023", "compression must be none or zstd")
        self.refused(f"SELECT prism_crypt.export_encrypted('nothing', '{self.path()}')", "42P01", 'relation "nothing" does not exist')
        self.refused("SELECT prism_crypt.export_encrypted('\"Some Things\"', 'file.penc')", "42602", '"file.penc" is not the absolute path of a file')
        self.refused("SELECT prism_crypt.export_encrypted('\"Some Things\"', '/nonexistent/x')", "58P01", 'could not create file "/nonexistent/x"')
        self.refused(f"SELECT prism_crypt.import_encrypted('{self.path('none')}')", "58P01", f'could not read file "{self.path("none")}"')
        self.refused(f"SELECT prism_crypt.import_encrypted('{self.directory}')", "42809", f'"{self.directory}" is not a regular file')
        self.assertEqual(os.listdir(self.directory), [])
        self.export()
        self.refused(f"{call})", "58P02", f'file "{self.path()}" already exists')
        self.export(options=", overwrite => true")
        self.refused(f"SELECT prism_crypt.import_encrypted('{self.path()}', key => '{KEY}')", "22023", "the key of the file is wrapped in it")
        self.export(name="given", options=f", key => '{KEY}'")
        self.refused(f"SELECT prism_crypt.import_encrypted('{self.path('given')}', target => 'x')", "22023", "the file needs its key")
        self.refused(f"SELECT prism_crypt.import_encrypted('{self.path('given')}', '{OTHER}', 'x')", "39000", "Decryption failed (wrong key or corrupted data)")
        (self.directory / "text").write_text("just a text that is long enough")
        self.refused(f"SELECT prism_crypt.import_encrypted('{self.path('text')}')", "22P04", "the file is not a PENC file")

    def test_things_in_the_way(self):
        target = self.directory / "target"
        target.write_text("precious")
        os.symlink(target, self.directory / "link")
        os.mkfifo(self.directory / "fifo")
        os.mkdir(self.directory.parent / "sub")
        for name in ("link", "fifo"):
            self.refused(f"SELECT prism_crypt.export_encrypted('\"Some Things\"', '{self.path(name)}')", "58P02", f'file "{self.path(name)}" already exists')
        self.refused(f"SELECT prism_crypt.export_encrypted('\"Some Things\"', '{self.path('fifo')}', overwrite => true)", "42809", f'"{self.path("fifo")}" is not a regular file')
        self.refused(f"SELECT prism_crypt.import_encrypted('{self.path('fifo')}')", "42809", f'"{self.path("fifo")}" is not a regular file')
        # The link is replaced, not what it leads to.
        self.export(name="link", options=", overwrite => true")
        self.assertEqual((target.read_text(), os.path.islink(self.directory / "link")), ("precious", False))

    def test_plaintext_that_looks_like_ciphertext(self):
        """encrypt_field() seals any text. Who may load ciphertext imports it as what it is."""
        begun, whole = "prism:v1:is what it says", self.query("SET prism_crypt.output = 'ciphertext'; SELECT encrypt_field('inner')")
        self.query(f"""CREATE TABLE odd AS SELECT id, encrypt_field(name) AS name, ARRAY[encrypt_field(name)] AS names FROM (VALUES (1, '{begun}'), (2, '{whole}'), (3, '')) AS v (id, name)""")
        self.assertEqual(self.cluster.error(f"SELECT '{begun}'::encrypted_text", db=self.db).sqlstate, "22P02")
        self.export("odd", "odd")
        self.imported("back", "odd")
        self.assertEqual(self.query("SELECT name::text, names::text[] FROM back ORDER BY id"), self.query("SELECT name::text, names::text[] FROM odd ORDER BY id"))
        self.assertEqual(self.query("SELECT decrypt_field(name) FROM back WHERE id = 2"), whole)
        # Afterwards all is as before.
        self.assertEqual(self.query(f"SELECT decrypt_field('{whole}'::encrypted_text)"), "inner")

    def test_roles(self):
        self.query("""CREATE ROLE exporter LOGIN; CREATE ROLE nobody LOGIN; GRANT SELECT ON "Some Things" TO exporter, nobody; GRANT CREATE ON SCHEMA public TO exporter;
            SELECT prism_crypt.grant_access('exporter', 'export')""")
        self.addCleanup(self.query, "DROP OWNED BY exporter, nobody; DROP ROLE exporter, nobody")
        call = f"SELECT prism_crypt.export_encrypted('(SELECT id, email, i FROM \"Some Things\")', '{self.path()}')"
        self.assertEqual(self.cluster.error(call, user="nobody", db=self.db).sqlstate, "42501")
        error = self.cluster.error(call, user="exporter", db=self.db)
        self.assertEqual((error.sqlstate, error.message), ("42501", "permission denied to write files of the server"))
        self.query("GRANT pg_write_server_files TO exporter")
        self.query(call, user="exporter")
        load = f"SELECT prism_crypt.import_encrypted('{self.path()}', target => 'mine')"
        error = self.cluster.error(load, user="exporter", db=self.db)
        self.assertEqual((error.sqlstate, error.message), ("42501", "permission denied to read files of the server"))
        self.query("GRANT pg_read_server_files TO exporter")
        # Without the right to decrypt it is ciphertext, which only a role with load takes.
        self.assertEqual(self.cluster.error(load, user="exporter", db=self.db).message, "permission denied to load ciphertext")
        self.query("SELECT prism_crypt.grant_access('exporter', 'load')")
        self.query(load, user="exporter")
        self.assertEqual(self.query('SELECT count(*) FROM mine JOIN "Some Things" AS t USING (id) WHERE mine.email::bytea = t.email::bytea'), "500")
        # Of others, what COPY would not do is not done.
        self.query("CREATE TABLE closed (id bigint, email encrypted_text, i int); GRANT SELECT ON closed TO exporter")
        error = self.cluster.error(f"SELECT prism_crypt.import_encrypted('{self.path()}', target => 'closed', mode => 'append')", user="exporter", db=self.db)
        self.assertEqual((error.sqlstate, error.message), ("42501", "permission denied to import into the table"))


if __name__ == "__main__":
    unittest.main()
