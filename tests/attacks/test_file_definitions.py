"""What a file says of its table runs nobody's code: not while it is imported, not by a superuser, and neither do the types of those whose tables are exported."""

import unittest

from harness import penc
from harness.penc import KEY
from ways import SECRET, Attack, says, secret_rows, shows_secret

# note() is what the attacker wants to run as somebody else: it tells who ran it, and takes all there is to take.
SCHEMA = """
    CREATE ROLE exporter LOGIN; CREATE ROLE archivist LOGIN; GRANT CREATE ON SCHEMA public TO PUBLIC;
    SELECT prism_crypt.grant_access('exporter', 'export'), prism_crypt.grant_access('archivist', 'export'), prism_crypt.grant_access('archivist', 'decrypt');
    CREATE TABLE ran (who text); GRANT ALL ON ran TO PUBLIC; CREATE TABLE existing (a int, b int);
    CREATE SCHEMA evil AUTHORIZATION exporter; GRANT ALL ON SCHEMA evil TO PUBLIC;
    SET ROLE exporter;
    CREATE FUNCTION evil.note() RETURNS int LANGUAGE plpgsql VOLATILE AS $$ BEGIN
      INSERT INTO public.ran VALUES (current_user);
      IF (SELECT rolsuper FROM pg_catalog.pg_roles WHERE rolname = current_user) THEN ALTER ROLE exporter SUPERUSER; END IF; RETURN 1; END $$;
    CREATE FUNCTION evil.volatile(int) RETURNS int LANGUAGE sql VOLATILE AS 'SELECT evil.note()';
    CREATE FUNCTION evil.stable(int) RETURNS int LANGUAGE sql STABLE AS 'SELECT evil.note()';
    CREATE FUNCTION evil.immutable(int) RETURNS int LANGUAGE plpgsql IMMUTABLE AS 'BEGIN RETURN evil.note(); END';
    CREATE FUNCTION evil.accepts(int) RETURNS boolean LANGUAGE plpgsql IMMUTABLE AS 'BEGIN PERFORM evil.note(); RETURN true; END';
    CREATE FUNCTION evil.adds(int, int) RETURNS int LANGUAGE plpgsql IMMUTABLE AS 'BEGIN RETURN evil.note(); END';
    CREATE OPERATOR evil.+ (FUNCTION = evil.adds, LEFTARG = int, RIGHTARG = int);
    CREATE FUNCTION evil.several(int, VARIADIC int[] DEFAULT '{}') RETURNS int LANGUAGE plpgsql IMMUTABLE AS 'BEGIN RETURN evil.note(); END';
    CREATE AGGREGATE evil.total(int) (SFUNC = evil.adds, STYPE = int, INITCOND = '0');
    CREATE DOMAIN evil.positive AS int CHECK (evil.accepts(VALUE)); CREATE DOMAIN evil.lazy AS int DEFAULT evil.volatile(1);
    CREATE DOMAIN evil.again AS evil.positive; CREATE TYPE evil.pair AS (a evil.positive, b text); CREATE DOMAIN evil.filled AS evil.positive[];
    CREATE DOMAIN evil.paired AS evil.pair; CREATE TABLE evil.tabled (a evil.positive); CREATE TYPE evil.plain AS (a int, b text);
    CREATE FUNCTION evil.as_plain(int) RETURNS evil.plain LANGUAGE plpgsql IMMUTABLE AS 'BEGIN PERFORM evil.note(); RETURN (1, NULL)::evil.plain; END';
    CREATE CAST (int AS evil.plain) WITH FUNCTION evil.as_plain(int) AS IMPLICIT;
"""
AFTER = """SELECT 'ran as ' || who FROM ran WHERE who <> 'exporter'; SELECT 'a superuser' FROM pg_roles WHERE rolname = 'exporter' AND rolsuper;
    SELECT 'made ' || relname FROM pg_class WHERE relname = 'zzz'"""
UNDO = "TRUNCATE ran; ALTER ROLE exporter NOSUPERUSER; DROP TABLE IF EXISTS public.made, public.zzz, evil.made, existing; CREATE TABLE existing (a int, b int)"
RAN = says("^(ran as|a superuser|made zzz)")

# What may stand for the expression; the file has a value for the column, unless it is generated.
CALLS = ("evil.volatile(1)", "evil.stable(1)", "evil.immutable(1)", "1 OPERATOR(evil.+) 1", "evil.several(1, 2)", "evil.several(1)", "'1'::evil.positive", "1::evil.positive::int", "(SELECT evil.volatile(1))", "CASE WHEN evil.accepts(1) THEN 1 END",
         "(ARRAY[evil.volatile(1)])[1]", "(SELECT evil.total(x) FROM (VALUES (1), (2)) AS v (x))", "(1::evil.plain).a", "('(1,x)'::evil.pair).a", "cardinality('{1}'::evil.filled)", "(SELECT a FROM evil.immutable(1) AS f (a))",
         "COALESCE(NULL, evil.immutable(1))", "length((2::evil.positive)::text)", "CAST(evil.immutable(1) AS int)", "nullif(1 OPERATOR(evil.+) 1, 0)", "1 + evil.immutable(1)", "(ROW(1, 'x')::evil.pair).a")
# PostgreSQL's own, which do more than compute: what the file may call is for the importer's rights, and for whoever inserts later.
OWN_CALLS = ("pg_read_file('PG_VERSION')::numeric::int", "pg_catalog.lo_import('/etc/passwd')::int", "lo_creat(-1)::int", "pg_terminate_backend(0)::int", "length(set_config('work_mem', '64kB', false))", "length(query_to_xml('TABLE ran', true, true, '')::text)",
             "pg_sleep(0)::text::int", "pg_advisory_lock(1)::text::int", "length(pg_notify('a', 'b')::text)", "length(current_setting('data_directory'))", "pg_ls_dir('.')::int", "length((database_to_xml(true, true, ''))::text)", "CASE WHEN pg_reload_conf() THEN 1 END", "txid_current()::int")
INJECTED = ("1) STORED); ALTER ROLE exporter SUPERUSER; CREATE TABLE public.zzz (a int generated always as (1", "1); ALTER ROLE exporter SUPERUSER; SELECT (1", "1); ALTER ROLE exporter SUPERUSER; --", "1), b int DEFAULT (evil.volatile(1)",
            "1) STORED, c int DEFAULT (evil.volatile(1)", "1\n); ALTER ROLE exporter SUPERUSER; SELECT (1", "1) AS x, (SELECT evil.volatile(1)", "1 /*", "1 --", "1) UNION SELECT (evil.volatile(1)", "$$", "'", "1); COMMIT; ALTER ROLE exporter SUPERUSER; SELECT (1", "",
            "1) FROM evil.immutable(1) WHERE (true", "1) INTO public.zzz FROM (SELECT 1) AS q WHERE (true", "1, evil.volatile(1)", "evil.volatile(1), 1", "*", "DEFAULT", "(SELECT 1) LIMIT evil.volatile(1)", "1 ORDER BY evil.volatile(1)", "1;")
TYPES = ("evil.positive", "evil.again", "evil.positive[]", "evil.pair", "evil.pair[]", "evil.filled", "evil.paired", "evil.tabled", "evil.lazy", "int); ALTER ROLE exporter SUPERUSER; CREATE TABLE public.zzz (a int", "int DEFAULT evil.volatile(1)",
         "int CHECK (evil.accepts(1))", "int, b int DEFAULT evil.volatile(1)", "int GENERATED ALWAYS AS (evil.immutable(1)) STORED", "public.ran.who%TYPE", "numeric(evil.volatile(1))", "serial", "SETOF int", "int --", "int /*", "trigger", "")
NAMES = ("public.made (a int); ALTER ROLE exporter SUPERUSER; CREATE TABLE public.zzz", 'public."made" (a int); ALTER ROLE exporter SUPERUSER; --', "evil.made", "pg_catalog.made", "prism_crypt.made", "made); ALTER ROLE exporter SUPERUSER; --", "", "a.b.c.d", "\"", "$$")
MEMBERS = {"not_null": ["true); ALTER ROLE exporter SUPERUSER; --", {"a": 1}], "identity": ["always); ALTER ROLE exporter SUPERUSER; --", "ALWAYS", "evil.volatile(1)"],
           "generated": ["stored); ALTER ROLE exporter SUPERUSER; --", "STORED", "stored, b int DEFAULT evil.volatile(1)"], "encrypted": ["opened", "ciphertext", "x"], "collation": ["evil.x", "\"C\" DEFAULT evil.volatile(1)", "C); ALTER ROLE exporter SUPERUSER; --"],
           "identity_options": ["START 1); ALTER ROLE exporter SUPERUSER; --", {"start": "1); ALTER ROLE exporter SUPERUSER; --"}], "name": ["a int); ALTER ROLE exporter SUPERUSER; --", "a\" int); ALTER ROLE exporter SUPERUSER; --"]}


class FileDefinitions(Attack):
    schema = SCHEMA

    def imports(self, cases, importers=("postgres", "archivist")):
        """Each file, described by (name, columns, rows, {other}), is imported by these roles."""
        files = penc.make(*(penc.content(columns, rows, **more) for _, columns, rows, more in cases))
        for (name, *_), file in zip(cases, files):
            for role in importers:
                script = f"SELECT prism_crypt.import_stream($src${penc.as_query(file)}$src$, '{KEY}'); SELECT * FROM made"
                self.way(f"{name}, imported by {role}", role, script, RAN, after=f"{AFTER}; {UNDO}")

    def test_expressions(self):
        row = ["1"]
        for calls, importers in ((CALLS, ("postgres", "archivist")), (INJECTED, ("postgres",))):
            self.imports([(f"a default {call}", [("a", "integer", {"expression": call})], row, {}) for call in calls], importers)
            self.imports([(f"a generated column {call}", [("a", "integer"), ("b", "integer", {"generated": "stored", "expression": call})], row, {}) for call in calls], importers)
        kept = "SELECT 'keeps ' || pg_get_expr(adbin, adrelid) FROM pg_attrdef WHERE adrelid = 'made'::regclass"
        harmless = "(random() * length('x' || now()))::int"
        *files, honest = penc.make(*(penc.content([("a", "integer", {"expression": call})], row) for call in (*OWN_CALLS, harmless)))
        for call, file in zip(OWN_CALLS, files):
            self.way(f"a default {call}", "postgres", f"SELECT prism_crypt.import_stream($src${penc.as_query(file)}$src$, '{KEY}')", says("^keeps"), after=kept, undo=UNDO)
        self.control(f"a default {harmless}", "postgres", f"SELECT prism_crypt.import_stream($src${penc.as_query(honest)}$src$, '{KEY}')", says("^keeps"), after=kept)
        self.cluster.psql(UNDO, db=self.db)
        self.control("a superuser who calls it", "postgres", "SELECT evil.immutable(1)", RAN, after=AFTER)
        self.control("a generated column that calls it", "postgres", "CREATE TABLE made (a int, b int GENERATED ALWAYS AS (evil.immutable(a)) STORED); INSERT INTO made VALUES (1)", RAN, after=AFTER)
        self.cluster.psql(UNDO, db=self.db)
        honest, = penc.make(penc.content([("a", "integer"), ("b", "integer", {"generated": "stored", "expression": "(a + 1) * length('x)')"}), ("c", "text", {"expression": "upper('x'::text) || ');'"})], ["1\tx"]))
        self.control("honest expressions", "postgres", f"SELECT prism_crypt.import_stream($src${penc.as_query(honest)}$src$, '{KEY}'); INSERT INTO made (a) VALUES (2)", says(r"^2,6,X\);$"), after="SELECT concat_ws(',', a, b, c) FROM made")
        self.cluster.psql(UNDO, db=self.db)

    def test_types(self):
        self.imports([(f"a column of type {kind}", [("a", kind)], [row], {}) for kind in TYPES for row in (("1", "{1}", "(1,x)", "{\"(1,x)\"}", "(1)") if kind.startswith("evil") else ("1",))])
        self.control("a column of the domain", "postgres", "CREATE TABLE made (a evil.positive); INSERT INTO made VALUES (1)", RAN, after=AFTER)
        self.cluster.psql(UNDO, db=self.db)
        # Into a table that the importer has made, they go.
        own, = penc.make(penc.content([("a", "evil.positive")], ["1"]))
        self.control("a table of one's own", "postgres", f"CREATE TABLE made (a int); SELECT prism_crypt.import_stream($src${penc.as_query(own)}$src$, '{KEY}', 'made', 'append')", says("^1$"), after="SELECT a FROM made")
        self.way("a table of one's own", "postgres", f"CREATE TABLE made (a int); SELECT prism_crypt.import_stream($src${penc.as_query(own)}$src$, '{KEY}', 'made', 'append')", RAN, after=f"{AFTER}; {UNDO}")

    def test_other_members(self):
        self.imports([(f"the name {name!r}", [("a", "integer")], ["1"], {"collection": name}) for name in NAMES], importers=["postgres"])
        self.imports([(f"{member} {value!r}", [("a", "integer", {member: value})] if member != "name" else [{"name": value, "type": "integer"}], ["1"], {}) for member, values in MEMBERS.items() for value in values], importers=["postgres"])
        for target in NAMES[:2]:
            file, = penc.make(penc.content([("a", "integer")], ["1"]))
            for mode in ("new", "empty", "append"):
                self.way(f"the target {target!r}, {mode}", "postgres", f"SELECT prism_crypt.import_stream($src${penc.as_query(file)}$src$, '{KEY}', $name${target}$name$, '{mode}')", RAN, after=f"{AFTER}; {UNDO}")

    def test_exports_of_attackers_tables(self):
        """What a superuser exports, who has to: casts of the owner's types, and what he has put into values."""
        self.cluster.psql("""SET ROLE exporter; CREATE TYPE evil.sealed AS (a encrypted_text, b int); CREATE DOMAIN evil.over AS encrypted_text; CREATE DOMAIN evil.many AS encrypted_text[];
            CREATE TABLE evil.things (id int, a evil.sealed, b evil.sealed[], c evil.over, d evil.many, e evil.positive, f evil.plain);
            INSERT INTO evil.things VALUES (1, ROW('x', 1)::evil.sealed, ARRAY[ROW('x', 1)::evil.sealed], 'x', ARRAY['x']::encrypted_text[], 1, ROW(1, 'x')::evil.plain);
            CREATE FUNCTION evil.as_text(evil.sealed) RETURNS text LANGUAGE plpgsql AS 'BEGIN PERFORM evil.note(); RETURN ''x''; END';
            CREATE FUNCTION evil.as_texts(evil.sealed[]) RETURNS text LANGUAGE plpgsql AS 'BEGIN PERFORM evil.note(); RETURN ''x''; END';
            CREATE FUNCTION evil.plain_as_text(evil.plain) RETURNS text LANGUAGE plpgsql AS 'BEGIN PERFORM evil.note(); RETURN ''x''; END';
            CREATE FUNCTION evil.plain_as_json(evil.plain) RETURNS json LANGUAGE plpgsql AS 'BEGIN PERFORM evil.note(); RETURN ''1''; END';
            CREATE FUNCTION evil.text(evil.sealed) RETURNS text LANGUAGE plpgsql AS 'BEGIN PERFORM evil.note(); RETURN ''x''; END';
            CREATE CAST (evil.sealed AS text) WITH FUNCTION evil.as_text(evil.sealed) AS IMPLICIT; CREATE CAST (evil.sealed[] AS text) WITH FUNCTION evil.as_texts(evil.sealed[]) AS IMPLICIT;
            CREATE CAST (evil.plain AS text) WITH FUNCTION evil.plain_as_text(evil.plain) AS IMPLICIT; CREATE CAST (evil.plain AS json) WITH FUNCTION evil.plain_as_json(evil.plain);
            TRUNCATE ran""", db=self.db)
        for role in ("postgres", "archivist"):
            self.cluster.psql("GRANT SELECT ON evil.things TO PUBLIC", db=self.db)
            for path in ("", "SET search_path = evil, pg_catalog, public;"):
                for source in ("evil.things", "(SELECT * FROM evil.things)", "(SELECT a, b FROM evil.things)"):
                    self.way(f"{role} exports {source} {path}", role, f"{path} SELECT count(*) FROM prism_crypt.export_stream('{source}')", RAN, after=f"{AFTER}; {UNDO}")
        self.control("a cast runs it", "postgres", "SELECT a::text FROM evil.things", RAN, after=AFTER)
        self.cluster.psql(UNDO, db=self.db)

    def test_objects_in_front_of_the_catalog(self):
        """Somebody with a path that begins with the attacker's schema exports and imports: nothing that is used is taken from there."""
        binary = {"->>": ("jsonb", "text", "text"), "->": ("jsonb", "text", "jsonb"), "=": ("text", "text", "boolean"), "<>": ("text", "text", "boolean"), "||": ("text", "text", "text"), "~": ("text", "text", "boolean")}
        shadows = "".join(f"CREATE FUNCTION evil.op_{n}({left}, {right}) RETURNS {result} LANGUAGE plpgsql AS 'BEGIN PERFORM evil.note(); RETURN NULL; END'; CREATE OPERATOR evil.{op} (FUNCTION = evil.op_{n}, LEFTARG = {left}, RIGHTARG = {right});"
                          for n, (op, (left, right, result)) in enumerate(binary.items()))
        functions = {"starts_with": "text, text", "ltrim": "text", "parse_ident": "text", "cardinality": "text[]", "array_prepend": "text, text[]", "to_jsonb": "anyelement", "jsonb_agg": "jsonb", "jsonb_build_object": "VARIADIC text[]", "format": "text, VARIADIC text[]",
                     "current_schema": "", "current_setting": "text", "set_config": "text, text, boolean", "quote_ident": "text", "coalesce_": "text", "format_type": "oid, int", "pg_get_expr": "pg_node_tree, oid", "text": "encrypted_text", "_audit": "text"}
        shadows += "".join(f"CREATE FUNCTION evil.{name}({arguments}) RETURNS text LANGUAGE plpgsql AS 'BEGIN PERFORM evil.note(); RETURN NULL; END';" for name, arguments in functions.items())
        shadows += "CREATE DOMAIN evil.jsonb AS int; CREATE DOMAIN evil.regclass AS int; CREATE DOMAIN evil.text AS int; CREATE DOMAIN evil.record AS int; CREATE VIEW evil.pg_attribute AS SELECT evil.note(); CREATE VIEW evil.pg_class AS SELECT evil.note(); CREATE VIEW evil.pg_type AS SELECT evil.note();"
        self.cluster.psql(f"CREATE TABLE public.honest AS SELECT 1 AS a, 'x'::encrypted_text AS b, 'y'::text AS c; SET ROLE exporter; SET search_path = public; {shadows} TRUNCATE ran", db=self.db)
        imported = f"SELECT prism_crypt.import_stream('public.out', '{KEY}', %s)"
        stage = f"CREATE TABLE public.out (number int GENERATED ALWAYS AS IDENTITY, chunk bytea); INSERT INTO public.out (chunk) SELECT prism_crypt.export_stream(%s, '{KEY}')"
        for path in ("evil, pg_catalog, public", "evil, public", "evil"):
            for source in ("'public.honest'", "'(SELECT * FROM public.honest)'"):
                for target in ("'public.made', 'new'", "'made', 'new'", "'public.existing_honest', 'append'", "'public.existing_honest', 'empty'"):
                    self.way(f"a path {path}, {source} to {target}", "postgres", f"CREATE TABLE public.existing_honest (LIKE public.honest); SET search_path = {path}; {stage % source}; {imported % target}", RAN, after=AFTER,
                             undo=f"{UNDO}; DROP TABLE IF EXISTS public.out, public.existing_honest")
        self.control("an operator of the path", "postgres", "SET search_path = evil, pg_catalog; SELECT 'a' = 'b'::pg_catalog.text", RAN, after=AFTER)
        self.cluster.psql(UNDO, db=self.db)

    def test_text_forms_as_plaintext(self):
        """Somebody who sees a value, and can't open it, has its text form encrypted, exported and imported by somebody who may load values: it comes back as that text."""
        self.cluster.psql("""CREATE TABLE victim (id int, name encrypted_text); CREATE TYPE pair AS (a encrypted_text, b int); CREATE DOMAIN several AS encrypted_text[];
            CREATE TABLE bait (id int, a encrypted_text, b encrypted_text[], c pair, d several, e pair[]); GRANT ALL ON victim, bait TO exporter;""" + secret_rows("victim"), db=self.db)
        self.cluster.psql("""INSERT INTO bait SELECT 1, s, ARRAY[s], ROW(s, 1)::pair, ARRAY[s], ARRAY[ROW(s, 1)::pair] FROM (SELECT encrypt_field(format('%s', name)) FROM victim WHERE id = 2) AS v (s)""", db=self.db, user="exporter")
        shown = "concat_ws(' ', decrypt_field(a), decrypt_field(b[1]), decrypt_field((c).a), decrypt_field(d[1]), decrypt_field((e[1]).a))"
        for role in ("postgres", "archivist"):
            for mode in ("new", "append"):
                script = f"""CREATE TEMP TABLE out (number int GENERATED ALWAYS AS IDENTITY, chunk bytea); INSERT INTO out (chunk) SELECT prism_crypt.export_stream('bait');
                    CREATE TABLE IF NOT EXISTS back (LIKE bait); {"DROP TABLE back;" if mode == "new" else ""} SELECT prism_crypt.import_stream('out', NULL, 'back', '{mode}')"""
                self.cluster.psql("GRANT SELECT ON bait TO archivist", db=self.db)
                self.way(f"a text form in a value, imported by {role}, {mode}", role, script, shows_secret, after=f"SELECT {shown} FROM back", undo="DROP TABLE IF EXISTS back")
        self.control("what comes back is the text form", "postgres", script, lambda said: said.split("afterwards:\n")[1].count("prism:v1:") == 5, after=f"SELECT {shown} FROM back; DROP TABLE back")
        self.control("the value itself is the secret", "postgres", "SELECT decrypt_field(name) FROM victim WHERE id = 2")
        self.assertNotIn(SECRET, self.cluster.psql("SELECT format('%s', name) FROM victim", db=self.db, user="exporter"))


if __name__ == "__main__":
    unittest.main()
