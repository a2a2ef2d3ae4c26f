"""Encrypted files give and write nothing that their reader and writer might not read and write without them."""

import unittest

from harness import paths, penc
from harness.penc import KEY
from ways import SECRET, Attack, says, secret_rows, shows_secret

SCHEMA = """
    CREATE ROLE exporter LOGIN; CREATE ROLE opener LOGIN; GRANT CREATE ON SCHEMA public TO exporter, opener;
    SELECT prism_crypt.grant_access('exporter', 'export'), prism_crypt.grant_access('opener', 'export'), prism_crypt.grant_access('opener', 'decrypt');
    CREATE TYPE pair AS (a encrypted_text, b int); CREATE DOMAIN named AS encrypted_text; CREATE DOMAIN several AS encrypted_text[];
    CREATE TABLE secret (id int, email encrypted_text('email', 'searchable'), plain text);
    CREATE TABLE nested (id int, names encrypted_text[], name named, many several, twin pair, twins pair[]);
    CREATE TABLE bucket (number int GENERATED ALWAYS AS IDENTITY, chunk bytea); CREATE TABLE bucket_nested (LIKE bucket INCLUDING IDENTITY);
    GRANT SELECT ON bucket, bucket_nested TO PUBLIC;
""" + secret_rows("secret", "id, email, plain", [("1", "somebody else", "a"), ("2", SECRET, "b")]) + """
    INSERT INTO nested SELECT id, ARRAY[email], email, ARRAY[email], ROW(email, 1)::pair, ARRAY[ROW(email, 1)::pair] FROM secret;
    INSERT INTO bucket (chunk) SELECT prism_crypt.export_stream('secret'); INSERT INTO bucket_nested (chunk) SELECT prism_crypt.export_stream('nested');
"""


class Files(Attack):
    schema = SCHEMA

    def made(self, columns, rows=(), **more):
        """A source of import_stream(): a file that somebody has made who knows its key."""
        return penc.as_query(penc.make(penc.content(columns, rows, **more))[0])

    def import_of(self, source, target, mode="append", key=f"'{KEY}'"):
        return f"SELECT prism_crypt.import_stream($src${source}$src$, {key}, $name${target}$name$, '{mode}');\n"

    def leaks(self, name, user, script, after="", undo=""):
        """A way to the secret, be it by the log of the server."""
        before = len(self.cluster.log())
        self.way(name, user, script, lambda said: shows_secret(said) or shows_secret(self.cluster.log()[before:]), after=after, undo=undo)

    # ---- who may not decrypt

    def test_opened_values_in_columns_of_other_types(self):
        """The server opens its own files for everybody with access export; so what was encrypted goes into encrypted columns only."""
        self.cluster.psql("""CREATE SCHEMA of_exporter AUTHORIZATION exporter; SET ROLE exporter; CREATE DOMAIN words AS text; CREATE TYPE one AS (a text);
            CREATE TYPE colour AS ENUM ('red'); CREATE TYPE spans AS RANGE (subtype = text); CREATE DOMAIN of_exporter.encrypted_text AS text;
            CREATE DOMAIN words_again AS words; CREATE TYPE of_exporter."encrypted_text[]" AS (a text)""", db=self.db)
        types = ("text", "varchar(100)", "char(30)", "name", "bytea", "int", "json", "jsonb", "xml", "tsvector", "uuid", "timestamptz", "text[]", "words", "words_again", "one", "colour", "spans",
                 "of_exporter.encrypted_text", 'of_exporter."encrypted_text[]"', "regclass", "jsonpath", "point", "unknown_to_all")
        for kind in types:
            drop = "DROP TABLE IF EXISTS mine"
            self.leaks(f"an encrypted column into {kind}", "exporter", f"CREATE TABLE mine (id int, email {kind}, plain text); {self.import_of('bucket', 'mine', key='NULL')} SELECT * FROM mine",
                       after="SELECT mine::text FROM mine", undo=drop)
        self.control("somebody who may decrypt imports into text", "opener", f"CREATE TABLE mine (id int, email text, plain text); {self.import_of('bucket', 'mine', key='NULL')} SELECT * FROM mine; DROP TABLE mine")
        for column in ("names", "name", "many", "twin", "twins"):
            for kind in ("text", "text[]", "one", "one[]", "int", "jsonb"):
                table = "CREATE TABLE mine (id int, names encrypted_text[], name named, many several, twin pair, twins pair[]);"
                self.leaks(f"{column} of encrypted values into {kind}", "exporter",
                           f"{table} ALTER TABLE mine ALTER {column} TYPE {kind} USING NULL; {self.import_of('bucket_nested', 'mine', key='NULL')} SELECT * FROM mine", after="SELECT mine::text FROM mine", undo="DROP TABLE mine")
        self.control("somebody who may decrypt imports arrays into text", "opener", f"""CREATE TABLE mine (id int, names text[], name named, many several, twin pair, twins pair[]);
            {self.import_of('bucket_nested', 'mine', key='NULL')} SELECT names FROM mine; DROP TABLE mine""")

    def test_code_of_the_importer_sees_no_plaintext(self):
        """The columns are encrypted ones, as they should be, and what runs while the rows come is the attacker's."""
        self.cluster.psql("""SET ROLE exporter; CREATE TABLE loot (what text);
            CREATE FUNCTION raises() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RAISE EXCEPTION ''stop''; END';
            CREATE FUNCTION notes() RETURNS trigger LANGUAGE plpgsql AS $$ DECLARE c text; BEGIN
              GET DIAGNOSTICS c = PG_CONTEXT; INSERT INTO loot VALUES (c);
              BEGIN RAISE EXCEPTION 'x'; EXCEPTION WHEN OTHERS THEN GET STACKED DIAGNOSTICS c = PG_EXCEPTION_CONTEXT; INSERT INTO loot VALUES (c); END;
              INSERT INTO loot SELECT query FROM pg_stat_activity; INSERT INTO loot VALUES (current_query()), (NEW::text), (to_jsonb(NEW)::text), (format('%s', NEW.email));
              BEGIN INSERT INTO loot VALUES (NEW.email::text); EXCEPTION WHEN OTHERS THEN INSERT INTO loot VALUES (SQLERRM); END;
              RETURN NEW; END $$;
            CREATE FUNCTION opens(v encrypted_text) RETURNS text LANGUAGE plpgsql IMMUTABLE AS $$ BEGIN RETURN v::text; EXCEPTION WHEN OTHERS THEN RETURN format('%s', v); END $$;
            CREATE DOMAIN picky AS encrypted_text CHECK (opens(VALUE) = 'x')""", db=self.db)
        table = "CREATE TABLE mine (id int, email encrypted_text, plain text);"
        ways = {
            "a trigger that raises": "CREATE TRIGGER a BEFORE INSERT ON mine FOR EACH ROW EXECUTE FUNCTION raises();",
            "a trigger that raises afterwards": "CREATE TRIGGER a AFTER INSERT ON mine FOR EACH ROW EXECUTE FUNCTION raises();",
            "a trigger that notes what it sees": "CREATE TRIGGER a BEFORE INSERT ON mine FOR EACH ROW EXECUTE FUNCTION notes();",
            "a trigger that notes what it sees afterwards": "CREATE TRIGGER a AFTER INSERT ON mine FOR EACH ROW EXECUTE FUNCTION notes();",
            "a deferred trigger": "CREATE CONSTRAINT TRIGGER a AFTER INSERT ON mine DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION notes();",
            "a CHECK": "ALTER TABLE mine ADD CHECK (id < 0);", "a CHECK that opens": "ALTER TABLE mine ADD CHECK (opens(email) = 'x');",
            "NOT NULL": "ALTER TABLE mine ADD other int NOT NULL;", "a unique index": "CREATE UNIQUE INDEX ON mine ((id * 0));",
            "a generated column": "ALTER TABLE mine ADD g text GENERATED ALWAYS AS (opens(email)) STORED;", "a generated column that fails": "ALTER TABLE mine ADD g int GENERATED ALWAYS AS (1 / (id - id)) STORED;",
            "an index": "CREATE INDEX ON mine (opens(email));", "a default": "ALTER TABLE mine ADD d text DEFAULT current_query();", "a domain": "ALTER TABLE mine ALTER email TYPE picky;",
            "a number that does not fit": "ALTER TABLE mine ALTER plain TYPE int USING 1;", "another one": "ALTER TABLE mine ALTER plain TYPE bool USING true;",
            "a view with a trigger": """ALTER TABLE mine RENAME TO base; CREATE VIEW mine AS SELECT id, NULL::text AS email, plain FROM base;
                CREATE TRIGGER a INSTEAD OF INSERT ON mine FOR EACH ROW EXECUTE FUNCTION notes();""",
            "a view of encrypted columns with a trigger": """ALTER TABLE mine RENAME TO base; CREATE VIEW mine AS SELECT * FROM base;
                CREATE TRIGGER a INSTEAD OF INSERT ON mine FOR EACH ROW EXECUTE FUNCTION notes();""",
            "a partition": """DROP TABLE mine; CREATE TABLE mine (id int, email encrypted_text, plain text) PARTITION BY LIST (opens(email)); CREATE TABLE mine_1 PARTITION OF mine FOR VALUES IN ('x');""",
            "a file that goes on with bytes of another encoding": "SET client_encoding = 'SQL_ASCII';",
        }
        for name, make in ways.items():
            self.leaks(name, "exporter", f"{table} {make} {self.import_of('bucket', 'mine', key='NULL')} SELECT * FROM mine; SELECT * FROM loot",
                       after="SELECT mine::text FROM mine; SELECT what FROM loot", undo="DROP TABLE IF EXISTS base CASCADE; DROP TABLE IF EXISTS mine CASCADE; DELETE FROM loot")
        self.control("the trigger of somebody who may decrypt sees it", "opener", f"""CREATE TABLE mine (id int, email encrypted_text, plain text); CREATE TABLE seen (what text);
            CREATE FUNCTION sees() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN INSERT INTO seen VALUES (NEW.email::text); RETURN NEW; END $$;
            CREATE TRIGGER a BEFORE INSERT ON mine FOR EACH ROW EXECUTE FUNCTION sees(); {self.import_of('bucket', 'mine', key='NULL')} SELECT * FROM seen; DROP TABLE mine, seen""")

    def test_a_column_that_changes_while_the_import_waits(self):
        for name, change in (("its type", "ALTER TABLE mine ALTER email TYPE text USING NULL"), ("its name", "ALTER TABLE mine RENAME email TO x; ALTER TABLE mine RENAME plain TO email; ALTER TABLE mine RENAME x TO plain"),
                             ("the table", "ALTER TABLE mine RENAME TO other; CREATE TABLE mine (id int, email text, plain text)")):
            self.cluster.psql("DROP TABLE IF EXISTS mine, other; SET ROLE exporter; CREATE TABLE mine (id int, email encrypted_text, plain text)", db=self.db)
            mine, importing = self.session(self.db, user="exporter"), self.session(self.db, user="exporter")
            backend = importing.run("SELECT pg_backend_pid();")
            mine.run("BEGIN; LOCK TABLE mine;")
            importing.start(self.import_of("bucket", "mine", key="NULL"))
            self.cluster.wait_for(f"SELECT wait_event_type = 'Lock' FROM pg_stat_activity WHERE pid = {backend}", db=self.db)
            mine.run(f"{change}; COMMIT;")
            said = importing.wait(check=False) + self.cluster.psql("SELECT mine::text FROM mine", db=self.db)
            self.judge(f"a change of {name}, while the import waits", "it shows the secret" if shows_secret(said) else "", said)

    # ---- who may not write

    def test_tables_that_the_importer_may_not_write(self):
        self.cluster.psql("""CREATE TABLE victim (a int DEFAULT 13, b int DEFAULT 13); GRANT SELECT ON victim TO exporter; CREATE TABLE partly (a int, b int DEFAULT 13); GRANT SELECT, INSERT (a) ON partly TO exporter;
            CREATE SCHEMA closed; CREATE TABLE closed.inside (a int, b int DEFAULT 13); GRANT ALL ON closed.inside TO exporter; CREATE VIEW over_victim AS SELECT * FROM victim; GRANT SELECT ON over_victim TO exporter;
            CREATE TABLE empty_one (); CREATE TABLE parent (a int, b int) PARTITION BY LIST (a); CREATE TABLE part PARTITION OF parent DEFAULT; CREATE SEQUENCE counter""", db=self.db)
        lying = {
            "no columns": [], "no list": None, "an object": {}, "numbers": [1], "nulls": [None], "a text": "a", "a list in a list": [[]], "no names": [{"type": "integer"}], "a name that is null": [{"name": None, "type": "integer"}],
            "an empty name": [("", "integer")], "a system column": [("ctid", "tid")], "tableoid": [("tableoid", "oid")], "two of a name": [("a", "integer"), ("a", "integer")],
            "all generated": [("a", "integer", {"generated": "stored", "expression": "1"})], "generated somehow": [("a", "integer", {"generated": ""})],
            "generated, and no expression": [("a", "integer", {"generated": "virtual"})], "what is": [("a", "integer")], "both": [("a", "integer"), ("b", "integer")],
        }
        rows = {"no columns": ["7\t7", "7"], "both": ["7\t7"], "all generated": ["7\t7", "7", ""], "two of a name": ["7\t7"]}
        targets = {"victim": "victim", "partly": "partly", "closed.inside": "closed.inside", "over_victim": "victim", "parent": "parent", "part": "parent", "pg_catalog.pg_authid": "pg_catalog.pg_authid", "prism_crypt.data_key": "prism_crypt.data_key",
                   "empty_one": "empty_one"}
        cases = [(name, row) for name in lying for row in rows.get(name, ["7"])]
        files = dict(zip(cases, penc.make(*(penc.content(lying[name], [row]) for name, row in cases))))
        before = {table: self.cluster.psql(f"SELECT count(*) FROM {table}", db=self.db) for table in targets.values()}
        for target, table in targets.items():
            for (name, row), file in files.items():
                for mode in ("append", "empty") if target == "victim" else ("append",):
                    # What the role may.
                    if (target, name) == ("partly", "what is"):
                        continue
                    self.way(f"{name} ({row!r}) into {target}, {mode}", "exporter", self.import_of(penc.as_query(file), target, mode), lambda said, b=before[table]: said.split("afterwards:\n")[1].strip() != b,
                             after=f"SELECT count(*) FROM {table}{f'; TRUNCATE {table}' if '.' not in table else ''}")
        one = penc.as_query(files["what is", "7"])
        self.control("the column that may be written", "exporter", self.import_of(one, "partly"), says("^7,13$"), after="SELECT a || ',' || b FROM partly")
        self.cluster.psql("GRANT USAGE ON SCHEMA closed TO exporter; GRANT INSERT ON victim TO exporter; GRANT INSERT (b) ON partly TO exporter", db=self.db)
        self.control("a schema that is open", "exporter", self.import_of(one, "closed.inside"), says("^7,13$"), after="SELECT a || ',' || b FROM closed.inside")
        self.control("a table that is", "exporter", self.import_of(one, "victim"), says("^7,13$"), after="SELECT a || ',' || b FROM victim")
        both = penc.as_query(files["both", "7\t7"])
        self.control("all columns one by one", "exporter", self.import_of(both, "partly"), says("^7,7$"), after="SELECT a || ',' || b FROM partly ORDER BY b LIMIT 1")

    def test_functions_that_import_by_themselves(self):
        """Whatever internal functions there are that take a target: they check it themselves."""
        self.cluster.psql("CREATE TABLE inner_victim (a int); GRANT USAGE ON SCHEMA prism_crypt TO exporter", db=self.db)
        evil = """(SELECT prism_crypt.export_stream('(SELECT 99999::oid, ''evilsuper''::name, true, true, true, true, true, true, true, -1, NULL::text, NULL::timestamptz)', '%s'))""" % KEY
        made = {"inner_victim": [self.made([], ["7"]), self.made([("a", "integer")], ["7"])], "pg_catalog.pg_authid": [self.made(
            [], ["99999\tevilsuper\tt\tt\tt\tt\tt\tt\tt\t-1\t\\N\t\\N"]), evil]}
        functions = self.cluster.psql("""SELECT p.oid::regproc, (SELECT string_agg(n || ' ' || format_type(t, NULL), ';' ORDER BY o) FROM unnest(proargnames, proargtypes::oid[]) WITH ORDINALITY AS a (n, t, o) WHERE t IS NOT NULL)
            FROM pg_proc AS p WHERE pronamespace = 'prism_crypt'::regnamespace AND 'target' = ANY (proargnames) AND 'chunks' = ANY (proargnames) AND has_function_privilege('exporter', oid, 'EXECUTE')""", db=self.db)
        self.assertGreaterEqual(len(functions.splitlines()), 2)
        for function in functions.splitlines():
            name, arguments = function.split("|")
            for target, sources in made.items():
                for source in sources:
                    values = {"path": "NULL", "chunks": f"$src${source}$src$", "key": f"'{KEY}'", "mode": "'append'", "opened": "true", "target": f"'{target}'",
                              "columns": "ARRAY[]::smallint[]", "definition": """'{"collection": "x", "columns": []}'"""}
                    given = []
                    for argument in arguments.split(";"):
                        of, kind = argument.split(" ", 1)
                        self.assertIn(of, values, f"what does {of} of {name} mean?")
                        given.append(f"{of} => {values[of]}::{kind}" if of != "target" or kind != "oid" else f"{of} => {values[of]}::regclass::oid")
                    self.way(f"{name}({arguments}) into {target}", "exporter", f"SELECT * FROM {name}({', '.join(given)})", says("^(7|evilsuper)$"),
                             after="SELECT a FROM inner_victim; SELECT rolname FROM pg_authid WHERE oid = 99999", undo="DELETE FROM inner_victim; DELETE FROM pg_authid WHERE oid = 99999")
        self.control("who may writes", "postgres", self.import_of(made["inner_victim"][1], "inner_victim"), says("^7$"), after="SELECT a FROM inner_victim")

    # ---- who may not read

    def test_columns_and_rows_that_the_exporter_may_not_read(self):
        invoker = "WITH (security_invoker = true)" if paths.PG_MAJOR >= 15 else ""
        self.cluster.psql(f"""CREATE TABLE columned (id int, plain text); GRANT SELECT (id) ON columned TO exporter; INSERT INTO columned VALUES (1, 'hidden');
            CREATE TABLE rowed (id int, who text); INSERT INTO rowed VALUES (1, 'exporter'), (2, 'hidden'); GRANT SELECT, INSERT ON rowed TO exporter;
            ALTER TABLE rowed ENABLE ROW LEVEL SECURITY; CREATE POLICY own ON rowed USING (who = current_user);
            CREATE SCHEMA shut; CREATE TABLE shut.things AS SELECT 'hidden' AS a; GRANT SELECT ON shut.things TO exporter;
            CREATE VIEW of_rows AS SELECT * FROM rowed; CREATE VIEW inside_rows {invoker} AS SELECT * FROM rowed WHERE {bool(invoker)}; GRANT SELECT ON inside_rows TO exporter""", db=self.db)

        def exported(source, settings=""):
            """What is in an export, which the attacker gives to somebody who may import it anywhere."""
            return dict(script=f"{settings} CREATE TABLE out (number int GENERATED ALWAYS AS IDENTITY, chunk bytea); INSERT INTO out (chunk) SELECT prism_crypt.export_stream($q${source}$q$, '{KEY}')",
                        after=f"{self.import_of('out', 'looked', 'new')} SELECT looked::text FROM looked", undo="DROP TABLE IF EXISTS out, looked")

        sees = says("hidden")
        for source in ("columned", "public.columned", "(SELECT * FROM columned)", "(TABLE columned)", "(SELECT c FROM columned AS c)", "(SELECT plain FROM columned)", "(SELECT id FROM columned WHERE plain = 'hidden')", "(SELECT to_jsonb(c) FROM columned AS c)",
                       "shut.things", "(SELECT * FROM shut.things)", "(SELECT current_setting('prism_crypt.master_key_file'))", "prism_crypt.data_key", "pg_catalog.pg_authid", "(SELECT pg_read_file('PG_VERSION'))"):
            self.way(f"export of {source}", "exporter", **exported(source), goal=says(r"hidden|^\("))
        for settings in ("", "SET row_security = off;"):
            for source in ("rowed", "(SELECT * FROM rowed)", "of_rows", "inside_rows", "(SELECT who FROM rowed WHERE 1 / (id - 2) > 0)"):
                self.way(f"export of rows of {source} {settings}", "exporter", **exported(source, settings), goal=sees)
        self.control("rows that may be read", "exporter", exported("rowed")["script"], says("exporter"), after=exported("rowed")["after"] + "; DROP TABLE out, looked")
        self.control("the column that may be", "exporter", exported("(SELECT id FROM columned)")["script"], says(r"^\(1\)"), after=exported("")["after"] + "; DROP TABLE out, looked")
        self.control("the owner reads all of it", "postgres", exported("columned")["script"], sees, after=exported("")["after"] + "; DROP TABLE out, looked")
        # And rows that the policy hides are not written, either.
        self.way("an import past row-level security", "exporter", self.import_of(self.made([("id", "integer"), ("who", "text")], ["3\tsmuggled"]), "rowed"), says("smuggled"), after="SELECT who FROM rowed")

    def test_without_access(self):
        """What others have made does not lend its rights."""
        self.cluster.psql("""SET ROLE opener; CREATE VIEW of_stream AS SELECT prism_crypt.export_stream('(SELECT 1 AS a)') AS piece; CREATE FUNCTION by_sql() RETURNS SETOF bytea LANGUAGE sql AS 'SELECT prism_crypt.export_stream(''(SELECT 1 AS a)'')';
            CREATE TABLE kept (a int, b jsonb DEFAULT prism_crypt.import_stream('bucket', NULL, 'from_default')); GRANT SELECT ON of_stream TO PUBLIC; GRANT INSERT ON kept TO PUBLIC;
            RESET ROLE; GRANT USAGE ON SCHEMA prism_crypt TO nobody; GRANT CREATE ON SCHEMA public TO nobody""", db=self.db)
        got = says("^(piece|from_)")
        for name, script in {"a direct call": "SELECT 'piece' FROM prism_crypt.export_stream('(SELECT 1 AS a)')", "a view": "SELECT 'piece', piece FROM of_stream", "a function": "SELECT 'piece' FROM by_sql()",
                             "a default": "INSERT INTO kept (a) VALUES (1)", "an import": "SELECT prism_crypt.import_stream('bucket', NULL, 'from_call')",
                             "the internal export": "SELECT 'piece' FROM prism_crypt._export_chunks('(SELECT 1 AS a)', NULL, 'none')"}.items():
            self.way(f"without access: {name}", "nobody", script, got, after="SELECT 'from_' || count(*) FROM pg_class WHERE relname ~ '^from_' HAVING count(*) > 0", undo="DROP TABLE IF EXISTS from_default, from_call")
        self.control("with access", "opener", "SELECT 'piece', piece FROM of_stream", says("^piece"))
        self.way("a prepared statement of another role", "postgres", "SET ROLE opener; PREPARE p AS SELECT 'piece' FROM prism_crypt.export_stream('(SELECT 1 AS a)'); EXPLAIN EXECUTE p; SET ROLE nobody; EXECUTE p", says("^piece"))


if __name__ == "__main__":
    unittest.main()
