"""What comes back of a table from an encrypted file is what went in: types, definitions, names, whatever the session's settings are."""

import json
import unittest

from files_scenario import FilesScenario
from harness import paths, penc
from harness.penc import KEY

# A few values of each type of PostgreSQL, as literals.
VALUES = {
    "bit(3)": ["101"], "bit varying": ["", "1" * 100], "bool": ["t", "f"], "box": ["(1,2),(0.1,-3)"], "bytea": [r"\x", r"\x00ff5c0a", "a'"], '"char"': ["", "a", r"\377"], "char(5)": ["", "ab", "  x"], "cidr": ["10.0.0.0/8", "::1/128"],
    "circle": ["<(1,2),0.1>"], "date": ["infinity", "0044-03-15 BC", "2005-04-03", "5874897-12-31"], "float4": ["NaN", "-0", "1e-45", "3.4028235e38", "0.1"], "float8": ["Infinity", "-0", "5e-324", "0.1", "1.7976931348623157e308", "0.30000000000000004"],
    "inet": ["1.2.3.4/24", "fe80::1"], "int2": ["-32768"], "int4": ["-2147483648"], "int8": ["-9223372036854775808"], "interval": ["-1 year -2 mons +3 days -04:05:06.000007", "0", "178000000 years", "1 mon -1 day"], "json": ['{"a":1,  "a":"\\u00e9\\n"}'],
    "jsonb": ['{"a": [1e400, null, "\\\\ \\t"]}'], "jsonpath": ['$."a b"[*] ? (@ > 1)'], "line": ["{1,2,3.3}"], "lseg": ["[(0,0),(1,0.1)]"], "macaddr": ["08:00:2b:01:02:03"], "macaddr8": ["08:00:2b:01:02:03:04:05"], "money": ["-1234.56", "0"],
    "name": ["", 'a"b'], "numeric": ["NaN", "Infinity", "-1e-300", "1" * 200, "1.10"], "numeric(10,3)": ["1.1"], "oid": ["4294967295"], "path": ["((0,0),(1,0.1))", "[(0,0)]"], "pg_lsn": ["FFFFFFFF/1"], "pg_snapshot": ["10:20:10,14"],
    "point": ["(0.1,-0)"], "polygon": ["((0,0),(1,1),(1,0.1))"], "regclass": ["pg_class", "-", "other.thing", "public.thing"], "regcollation": ['"C"'], "regconfig": ["english"], "regdictionary": ["simple"], "regnamespace": ["public"], "regoper": ["pg_catalog.||/"],
    "regoperator": ["+(integer,integer)"], "regproc": ["now", "other.f"], "regprocedure": ["lower(text)", "other.f(integer)"], "regrole": ["postgres"], "regtype": ["integer", "other.kind", "public.kind", "text[]"], "text": ["", "NULL", r"\N", r"\.", "\\", "\t\n\r\b\f\v", "'\"{}(),", "Zsófia 山 🙂", " "],
    "tid": ["(4294967295,1)"], "time": ["24:00", "00:00:00.000001"], "time(0)": ["12:00"], "timetz": ["12:00+05:30:15"], "timestamp": ["-infinity", "4713-01-01 00:00:00 BC", "2005-04-03 02:01:00.000001"], "timestamptz": ["infinity", "2005-04-03 02:30+00", "1850-01-01 00:00:00+00", "0001-01-01 BC"],
    "tsquery": ["'a b' & !c:*A <2> d"], "tsvector": ["'a b':1A,2 'c\\\\':3"], "txid_snapshot": ["10:20:10,14"], "uuid": ["a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11"], "varchar(4)": ["", "a  "], "xid": ["4294967295"], "xid8": ["18446744073709551615"], "cid": ["1"],
    "xml": ["<a b='1'>&lt;</a>", "text <b/>", "<?xml version=\"1.0\" standalone=\"yes\"?><a/>"], "int4range": ["empty", "[1,3)", "(,)"], "int8range": ["[1,)"], "numrange": ["(0.1,1.10]"], "tsrange": ["[2005-04-03 01:02,infinity]"], "tstzrange": ["[2005-04-03 01:02+00,)"], "daterange": ["[2005-04-03,)"],
    "int4multirange": ["{}", "{[1,3),[5,6)}"], "int8multirange": ["{[1,2)}"], "nummultirange": ["{(0.1,1]}"], "tsmultirange": ["{[2005-04-03 01:02,)}"], "tstzmultirange": ["{[2005-04-03 01:02+00,)}"], "datemultirange": ["{[2005-04-03,2005-05-04)}"],
    "aclitem": ["postgres=arw/postgres"], "refcursor": ["a b"], "int2vector": ["1 2"], "oidvector": ["", "1 2"],
}
# Nobody can write a value of these.
NO_INPUT = {"gtsvector", "pg_node_tree", "pg_ndistinct", "pg_dependencies", "pg_mcv_list", "pg_brin_bloom_summary", "pg_brin_minmax_multi_summary"}
SETTINGS = {
    "DateStyle": ["SQL, DMY", "German", "Postgres, MDY"], "IntervalStyle": ["sql_standard", "iso_8601", "postgres_verbose"], "extra_float_digits": ["-15", "0"], "bytea_output": ["escape"], "array_nulls": ["off"], "quote_all_identifiers": ["on"],
    "standard_conforming_strings": ["off"], "TimeZone": ["Europe/Budapest", "Asia/Kolkata"], "xmloption": ["document"], "xmlbinary": ["hex"], "search_path": ["", "other, public", "other"], "client_encoding": ["LATIN1", "SQL_ASCII"], "lc_monetary": ["C.UTF-8", "C"],
    "prism_crypt.output": ["plaintext", "ciphertext"], "row_security": ["off"], "transform_null_equals": ["on"], "default_transaction_isolation": ["serializable"], "session_replication_role": ["replica"], "default_toast_compression": ["pglz"], "check_function_bodies": ["off"],
    "escape_string_warning": ["off"], "backslash_quote": ["off"], "plan_cache_mode": ["force_generic_plan"], "enable_seqscan": ["off"], "work_mem": ["64kB"], "cursor_tuple_fraction": ["0.0001"], "jit": ["off"], paths.FORCE_PARALLEL: ["on"],
}
COLUMNS = """SELECT attname, format_type(atttypid, atttypmod), attnotnull, attidentity, attgenerated, attcollation::regcollation, pg_get_expr(adbin, adrelid) FROM pg_attribute
    LEFT JOIN pg_attrdef ON adrelid = attrelid AND adnum = attnum WHERE attrelid = '{}'::regclass AND attnum > 0 AND NOT attisdropped ORDER BY attnum"""
OBJECTS = """CREATE SCHEMA other; CREATE TABLE other.thing (a int); CREATE TABLE public.thing (a int); CREATE TYPE other.kind AS (a int); CREATE TYPE public.kind AS (a int); CREATE FUNCTION other.f(int) RETURNS int LANGUAGE sql AS 'SELECT 1';
    CREATE TABLE staged (number int GENERATED ALWAYS AS IDENTITY, chunk bytea);"""


class FilesFidelity(FilesScenario):
    def setUp(self):
        super().setUp()
        self.query(OBJECTS)

    def staged(self, source, options=""):
        """What exports into the table staged."""
        return f"TRUNCATE public.staged RESTART IDENTITY; INSERT INTO public.staged (chunk) SELECT prism_crypt.export_stream($q${source}$q${options});\n"

    def imported(self, target="copy", mode="new", key=""):
        return f"SELECT prism_crypt.import_stream('public.staged', target => $q${target}$q$, mode => '{mode}'{key});\n"

    def round_trip(self, source, target="copy", **how):
        return json.loads(self.query(self.staged(source) + self.imported(target), **how))

    def definition(self, source):
        """The first line of a file, of which this is the source."""
        data = bytes.fromhex(self.query(f"SELECT encode(string_agg(p, '' ORDER BY o), 'hex') FROM prism_crypt.export_stream($q${source}$q$, '{KEY}') WITH ORDINALITY AS s (p, o)"))
        return json.loads(penc.opened(data).split(b"\n")[0])

    def difference(self, one="original", other="copy"):
        """A query: 0|0 if they have the same rows, byte by byte."""
        numbered = "(SELECT row_number() OVER (ORDER BY ctid) AS n, one_row AS r FROM {} AS one_row)"
        return f"SELECT (SELECT count(*) FROM {one}) - (SELECT count(*) FROM {other}), count(*) FROM {numbered.format(one)} AS a FULL JOIN {numbered.format(other)} AS b USING (n) WHERE (a.r *= b.r) IS NOT TRUE;"

    def same(self, *tables):
        self.assertEqual(self.query(self.difference(*tables)), "0|0")

    def table_of_all_types(self):
        """original: a row with nulls, and one for each value; arrays, composites, domains and ranges of each, too."""
        covered = self.query("SELECT oid::regtype FROM (SELECT unnest($${%s}$$::regtype[])) AS t (oid)" % ",".join(f'"{k}"' if '"' not in k else '"\\"char\\""' for k in VALUES)).splitlines()
        wanted = self.query("SELECT oid::regtype FROM pg_type WHERE typtype IN ('b', 'r', 'm') AND typnamespace = 'pg_catalog'::regnamespace AND typcategory <> 'A'").splitlines()
        self.assertEqual(sorted(set(wanted) - set(covered) - NO_INPUT), [])
        columns, rows, types = [], max(map(len, VALUES.values())), ""
        for n, kind in enumerate(VALUES):
            types += f"CREATE DOMAIN dom_{n} AS {kind}; CREATE TYPE com_{n} AS (a {kind}, b {kind}[]);"
            columns += [f"c{n} {kind}", f"a{n} {kind}[]", f"d{n} dom_{n}", f"k{n} com_{n}"]
        self.query(f"{types} CREATE TABLE original ({', '.join(columns)}); INSERT INTO original DEFAULT VALUES")
        for at in range(rows):
            literals = [(kind, "'" + values[at % len(values)].replace("'", "''") + "'", n) for n, (kind, values) in enumerate(VALUES.items())]
            fields = (f"{v}::{k}, ARRAY[{v}::{k}, NULL, {v}::{k}], {v}::{k}, ROW({v}::{k}, ARRAY[[{v}::{k}], [NULL::{k}]])::com_{n}" for k, v, n in literals)
            self.query(f"INSERT INTO original VALUES ({', '.join(fields)})")
        return rows + 1

    def test_every_type(self):
        rows = self.table_of_all_types()
        self.assertEqual(self.round_trip("original")["rows"], rows)
        self.same()
        self.assertEqual(self.query(COLUMNS.format("copy")), self.query(COLUMNS.format("original")))
        # And as a file of version 1, and compressed.
        self.query(self.staged("(SELECT * FROM original)", ", compression => 'zstd'") + self.imported("zipped"))
        self.same("original", "zipped")

    def test_settings_of_the_session(self):
        """Those of the exporting session, and those of the importing one."""
        self.table_of_all_types()
        self.query("CREATE TABLE copy (LIKE original); CREATE TABLE copy_2 (LIKE original)")
        for turn in range(max(map(len, SETTINGS.values()))):
            settings = {name: values[turn] for name, values in SETTINGS.items() if turn < len(values)}
            # All at once; and each by itself only to name the one that matters.
            if self.differs_with(settings):
                for name, value in settings.items():
                    with self.subTest(name, value=value):
                        self.assertEqual(self.differs_with({name: value}), "")
                self.fail(f"together only: {settings}")

    def differs_with(self, settings):
        """What is wrong of a table that is exported, and of one that is imported, with these settings; nothing if it comes back as it was."""
        setting = "".join(f"SET {name} = {value if name == 'search_path' and value else repr(value)};" for name, value in settings.items())
        export = self.staged("public.original")
        said = self.cluster.run_psql(f"""TRUNCATE copy, copy_2; {export} {setting} {self.imported('public.copy', 'append')} {export} RESET ALL; {self.imported('copy_2', 'append')}
            {self.difference()} {self.difference('original', 'copy_2')}""", db=self.db, check=False, verbose=True)
        same = [line for line in said.stdout.splitlines() if line.count("|") == 1]
        return "" if same == ["0|0", "0|0"] else f"{same} {said.stderr[:1000]}"

    def test_settings_of_a_longer_stream(self):
        """Each piece is made with the same settings, and not the session's."""
        self.query("CREATE TABLE original AS SELECT g AS a, date '2005-01-01' + g AS d, g * interval '1 hour' AS i, g / 7.0::float8 AS f, repeat('x', 500) AS t, ARRAY[NULL, g] AS n FROM generate_series(1, 3000) AS g")
        self.query(f"SET DateStyle = 'SQL, DMY'; SET IntervalStyle = 'iso_8601'; SET extra_float_digits = 0; SET array_nulls = off; {self.staged('original')} RESET ALL; {self.imported()}")
        self.assertGreater(int(self.query("SELECT count(*) FROM staged")), 3)
        self.same()
        # One that is read with a cursor, while other things are done.
        session = self.session(self.db)
        session.run("TRUNCATE staged; SET DateStyle = 'SQL, DMY'; BEGIN; DECLARE c CURSOR FOR SELECT prism_crypt.export_stream('original');")
        session.run("""DO $$ DECLARE piece bytea; r refcursor := 'c'; BEGIN
            LOOP FETCH NEXT FROM r INTO piece; EXIT WHEN NOT FOUND; PERFORM set_config('DateStyle', 'German', false); INSERT INTO staged (chunk) VALUES (piece); END LOOP; END $$;""")
        session.run(f"COMMIT; RESET ALL; {self.imported('copy_2')}")
        self.same("original", "copy_2")

    def test_the_query_runs_with_the_settings_of_the_session(self):
        self.query("CREATE TABLE dd AS SELECT d::date, d::date - date '2000-01-01' AS n FROM (VALUES ('2005-04-03'), ('2005-03-04'), ('2003-04-05')) AS v (d)")
        for style, expected in (("SQL, DMY", "2005-04-03"), ("SQL, MDY", "2005-03-04"), ("ISO, YMD", "2003-04-05")):
            for query in ("(SELECT * FROM dd WHERE d = '03/04/05')", "(SELECT * FROM dd WHERE d = '03/04/05'::text::date)", "(SELECT d, n FROM dd WHERE d::text = '03/04/05'::date::text)"):
                with self.subTest(style, query=query):
                    self.query(f"DROP TABLE IF EXISTS copy; SET DateStyle = '{style}'; {self.staged(query)} {self.imported()}")
                    self.assertEqual(self.query("SELECT d FROM copy"), expected)

    def test_the_query_sees_the_settings_of_the_session(self):
        """As COPY (query) TO does: what is text already is what the session makes of it."""
        query = "(SELECT current_setting('DateStyle') AS a, (date '2005-04-03')::text AS b, (interval '1 day')::text AS c, (0.1::float8 + 0.2)::text AS d, current_setting('search_path') AS e)"
        self.query(f"SET DateStyle = 'SQL, YMD'; SET IntervalStyle = 'iso_8601'; SET extra_float_digits = 0; SET search_path = public; {self.staged(query)} {self.imported('said')}")
        self.assertEqual(self.query("SELECT * FROM said"), "SQL, YMD|04/03/2005|P1D|0.3|public")

    def test_definitions(self):
        self.query("""CREATE COLLATION other.strange (provider = libc, locale = 'C'); CREATE DOMAIN other.word AS text COLLATE "POSIX" DEFAULT 'w' NOT NULL CHECK (VALUE <> '');
            CREATE TABLE original (a text COLLATE "C" NOT NULL, b text COLLATE other.strange, c other.word, d varchar(10) COLLATE "POSIX" DEFAULT 'x' || 'y', e text[] COLLATE "C", f text DEFAULT 'it''s; --', g timestamptz DEFAULT now(), h int DEFAULT NULL,
              i numeric(1000, 2), j interval day to second(3), k timestamp(0), l bit(7), m int GENERATED ALWAYS AS (length(a)) STORED, n text GENERATED ALWAYS AS (upper(a COLLATE "C") || d) STORED, o encrypted_text('email', 'searchable') NOT NULL DEFAULT 'sealed', p other.kind DEFAULT ROW(1));
            INSERT INTO original (a, c) VALUES ('a', 'c'), ('', 'd')""")
        self.round_trip("original")
        self.assertEqual(self.query(COLUMNS.format("copy")), self.query(COLUMNS.format("original")))
        self.assertEqual(self.query("SELECT a, m, n, o::text, p FROM copy ORDER BY a"), self.query("SELECT a, m, n, o::text, p FROM original ORDER BY a"))
        # The same with names that need their schema, and where nothing is on the path.
        self.query(f"SET search_path = other, public; {self.staged('public.original')} SET search_path = ''; {self.imported('public.copy_2')}")
        self.assertEqual(self.query(COLUMNS.format("copy_2")), self.query(COLUMNS.format("original")))

    def test_identity_and_serial(self):
        self.query("""CREATE TABLE original (a int GENERATED ALWAYS AS IDENTITY (START 100 INCREMENT 5 MINVALUE 50 MAXVALUE 1000 CACHE 7 CYCLE), b bigint GENERATED BY DEFAULT AS IDENTITY (INCREMENT -2 START -10), c serial, d smallserial, e text, f int GENERATED ALWAYS AS IDENTITY (START 5));
            INSERT INTO original (e) VALUES ('x'), ('y'), ('z'); INSERT INTO original (b, e) VALUES (77, 'w'); ALTER SEQUENCE original_f_seq RESTART WITH 400""")
        self.query("CREATE TABLE stays AS SELECT * FROM original")
        self.query(self.staged("original") + "DROP TABLE original;" + self.imported("original"))
        self.same("stays", "original")
        kinds = "SELECT attname, attidentity, seqtypid::regtype, seqstart, seqincrement, seqmax, seqmin, seqcache, seqcycle FROM pg_attribute JOIN pg_sequence ON seqrelid = pg_get_serial_sequence('original', attname)::regclass WHERE attrelid = 'original'::regclass AND attnum > 0 ORDER BY attnum"
        self.assertEqual(self.query(kinds), "\n".join(["a|a|integer|100|5|1000|50|7|t", "b|d|bigint|-10|-2|-1|-9223372036854775808|1|f", "c|d|integer|1|1|2147483647|1|1|f", "d|d|smallint|1|1|32767|1|1|f", "f|a|integer|5|1|2147483647|1|1|f"]))
        self.query("INSERT INTO original (e) VALUES ('next')")
        a, *others = self.query("SELECT a, b, c, d, f FROM original WHERE e = 'next'").split("|")
        self.assertEqual(others, ["-16", "5", "5", "400"])
        # As many as were cached may be skipped, none is used again.
        self.assertIn(a, ("120", "135", "155"))
        self.query("INSERT INTO original (c, d, e) VALUES (70, 70, 'given')")
        # Where the target is there already, its own sequences go on as they were.
        self.query(f"CREATE TABLE filled (LIKE stays INCLUDING ALL); {self.imported('filled', 'append')}")

    def test_encrypted_values_inside_of_others(self):
        self.query("""CREATE DOMAIN da AS encrypted_text[]; CREATE DOMAIN d AS encrypted_text; CREATE DOMAIN dd AS d; CREATE DOMAIN ds AS d[]; CREATE TYPE c AS (n int, v encrypted_text); CREATE TYPE cc AS (c c, s encrypted_text[], t text, "x y" d); CREATE DOMAIN dc AS c;
            CREATE TABLE original (id int, a da, b d, b2 dd, b3 ds, c c, e cc, f c[], g cc[], h dc, i dc[], j encrypted_text('email', 'searchable')[]);
            INSERT INTO original SELECT g, CASE WHEN g % 2 = 0 THEN ARRAY['da' || g, NULL]::encrypted_text[] END, 'd' || g, 'dd' || g, ARRAY['ds' || g, NULL]::d[], ROW(g, 'c' || g)::c, ROW(ROW(g, 'in, "(' || g)::c, ARRAY['s', NULL]::encrypted_text[], 't''\\', 'xy')::cc,
              ARRAY[ROW(g, NULL)::c, NULL, ROW(NULL, 'f')::c], ARRAY[ROW(ROW(g, 'deep')::c, NULL, NULL, NULL)::cc], ROW(g, 'h')::c, ARRAY[ROW(g, 'i')::c]::dc[], ARRAY['j' || g]::encrypted_text[] FROM generate_series(1, 30) AS g""")
        shown = """SELECT md5(string_agg(concat_ws('|', id, a::encrypted_text[]::text[], b::encrypted_text::text, b2::encrypted_text::text, b3[1]::encrypted_text::text, (c).n, (c).v::text, ((e).c).v::text, (e).s::text[], (e).t, (e)."x y"::encrypted_text::text, (f[1]).v IS NULL, (f[3]).v::text,
            ((g[1]).c).v::text, (h::c).v::text, ((i[1])::c).v::text, j::text[]), E'\\n' ORDER BY id)), count(*) FROM {}"""
        self.round_trip("original")
        self.assertEqual(self.query(shown.format("copy")), self.query(shown.format("original")))
        self.assertEqual(self.query(COLUMNS.format("copy")), self.query(COLUMNS.format("original")))
        self.round_trip("(SELECT * FROM original)", "from_query")
        self.assertEqual(self.query(shown.format("from_query")), self.query(shown.format("original")))
        # Each value is sealed anew, wherever it is.
        stored = "SELECT count(*) FROM original AS o JOIN copy AS c USING (id) WHERE {0} IS NOT NULL AND {0}::bytea = {1}::bytea"
        for place in ("$a[1]", "$b::encrypted_text", "($c).v", "(($e).c).v", "($f[3]).v", "(($g[1]).c).v", "$j[1]"):
            with self.subTest(place):
                self.assertEqual(self.query(stored.format(place.replace("$", "o."), place.replace("$", "c."))), "0")
        # What the file says of them, and of one who may not decrypt: which keys are needed.
        columns = {c["name"]: c.get("encrypted") for c in self.definition("original")["columns"]}
        self.assertEqual(columns, {"id": None, **{name: "opened" for name in columns if name != "id"}})
        self.query("CREATE ROLE blind LOGIN; GRANT SELECT ON original TO blind; GRANT ALL ON staged TO blind; GRANT USAGE ON SCHEMA prism_crypt TO blind; SELECT prism_crypt.grant_access('blind', 'export')")
        self.addCleanup(self.query, "DROP OWNED BY blind; DROP ROLE blind")
        # Values of two keys.
        self.query("SELECT prism_crypt.rotate_key(); INSERT INTO original (id, b, c) VALUES (31, 'new', ROW(1, 'new')::c)")
        data = self.query(f"SELECT encode(string_agg(p, ''), 'hex') FROM prism_crypt.export_stream('original', '{KEY}') AS p", user="blind")
        line, rows = penc.opened(bytes.fromhex(data)).split(b"\n", 1)
        said = json.loads(line)
        self.assertEqual({c.get("encrypted") for c in said["columns"] if c["name"] != "id"}, {"ciphertext"})
        self.assertEqual(said.get("key_versions"), [1, 2], f"what is said of keys: {set(said) - {'columns', 'collection'}}")
        self.assertNotIn(b"deep", rows)
        # They go back as they are.
        self.query(f"TRUNCATE staged; INSERT INTO staged (chunk) VALUES ('\\x{data}'); {self.imported('sealed', key=f''', key => '{KEY}' ''')}")
        self.assertEqual(self.query(shown.format("sealed")), self.query(shown.format("original")))

    def test_names(self):
        for number, name in enumerate(('q', 'Q', 'a"b', "it's", 'new\nline', 'tab\t\\N', '%I %s $1', 'ő山🙂', 'é' * 31, '{"a"}', ' ', 'select', 'text', 'ctid_', '(x)', 'a.b', '--', 'x;y')):
            with self.subTest(name):
                quoted = '"' + name.replace('"', '""') + '"'
                self.query(f"CREATE SCHEMA {quoted}; CREATE TYPE {quoted}.{quoted} AS ENUM ($${name}$$); CREATE TABLE {quoted}.\"T\" ({quoted} encrypted_text, b {quoted}.{quoted} DEFAULT $${name}$$); INSERT INTO {quoted}.\"T\" VALUES ($${name}$$)")
                table = f'{quoted}."T"'
                done = json.loads(self.query(f'{self.staged(table)} DROP TABLE {quoted}."T"; SELECT prism_crypt.import_stream(\'staged\')'))
                self.assertEqual(done["rows"], 1)
                self.assertEqual(self.query(f'SELECT {quoted}::text = b::text AND b::text = $${name}$$ FROM {quoted}."T"'), "t")
        # A table that has the name that a query is given, and one whose name is a type's.
        self.query('CREATE TABLE q AS SELECT 1 AS q; CREATE TABLE "text" AS SELECT 2 AS "text"')
        self.assertEqual([self.round_trip("q", "q_again")["rows"], self.round_trip('"text"', "text_again")["rows"], self.round_trip("(SELECT q FROM q)", "of_rows")["rows"]], [1, 1, 1])
        self.assertEqual(self.query("SELECT * FROM q_again, text_again, of_rows"), "1|2|1")

    def test_sources(self):
        """Everything that can be selected from; and what stands around a query."""
        self.query("""CREATE TABLE parent (a int, v encrypted_text); CREATE TABLE child (b int) INHERITS (parent); INSERT INTO parent VALUES (1, 'p'); INSERT INTO child VALUES (2, 'c', 3); CREATE MATERIALIZED VIEW kept AS SELECT * FROM parent;
            CREATE VIEW over AS SELECT v, a + 1 AS "a+1" FROM parent; CREATE TABLE parts (a int, b text) PARTITION BY LIST (a); CREATE TABLE part_1 PARTITION OF parts FOR VALUES IN (1) PARTITION BY LIST (b); CREATE TABLE part_1x PARTITION OF part_1 DEFAULT;
            CREATE TABLE part_2 (b text, dropped int, a int); ALTER TABLE part_2 DROP dropped; ALTER TABLE parts ATTACH PARTITION part_2 DEFAULT; INSERT INTO parts VALUES (1, 'x'), (2, 'y'); CREATE UNLOGGED TABLE light AS SELECT 1 AS a; CREATE TABLE typed OF public.kind; INSERT INTO typed VALUES (5)""")
        for source, rows in {"parent": 2, "child": 1, "kept": 2, "over": 2, "parts": 2, "part_1": 1, "part_2": 1, "light": 1, "typed": 1, "  (SELECT 1 AS a)  ": 1, "\n\t(SELECT 1 AS a)\n": 1, "(SELECT 1 AS a -- the end\n)": 1, "(SELECT 1 AS a -- the end)\n)": 1, "(TABLE parent)": 2, "(VALUES (1), (2))": 2,
                             "(WITH w AS (SELECT 1 AS a) SELECT * FROM w)": 1, "((SELECT 1 AS a) UNION ALL (SELECT 2))": 2, "(SELECT a AS \"x y\", a AS z FROM parent ORDER BY a DESC LIMIT 1)": 1, "(SELECT NULL AS a, 'lit' AS b)": 1, "(SELECT)": 1, "(SELECT 1 AS a WHERE false)": 0,
                             "(SELECT * FROM generate_series(1, 100000) AS g)": 100000}.items():
            with self.subTest(source):
                self.assertEqual(self.round_trip(source)["rows"], rows)
                self.query("DROP TABLE copy")
        self.query(f"{self.staged('parts')} TRUNCATE parts; {self.imported('parts', 'empty')}")
        self.assertEqual(self.query("SELECT tableoid::regclass, a, b FROM parts ORDER BY a"), "part_1x|1|x\npart_2|2|y")
        # A temporary table comes back in the schema that is first on the path.
        self.query(f"CREATE TEMP TABLE passing AS SELECT 1 AS a; {self.staged('passing')} DROP TABLE passing; SELECT prism_crypt.import_stream('staged')")
        self.assertEqual(self.query("SELECT 'public.passing'::regclass, a FROM public.passing"), "passing|1")

    def test_dropped_columns_and_other_orders(self):
        self.query("""CREATE TABLE original (x1 int, a int, x2 text, b text, x3 encrypted_text, c encrypted_text, x4 int); ALTER TABLE original DROP x1, DROP x2, DROP x3, DROP x4; INSERT INTO original SELECT g, 'b' || g, 'c' || g FROM generate_series(1, 50) AS g""")
        self.round_trip("original")
        self.assertEqual(self.query(COLUMNS.format("copy")), self.query(COLUMNS.format("original")))
        self.query(f"""CREATE TABLE target (c encrypted_text, d int DEFAULT 9, gone int, b text, e int GENERATED ALWAYS AS (d + 1) STORED, a int, f int GENERATED ALWAYS AS IDENTITY); ALTER TABLE target DROP gone; {self.imported('target', 'append')}""")
        self.assertEqual(self.query("SELECT count(*), count(DISTINCT f) FROM target AS t JOIN original AS o USING (a, b) WHERE t.c::text = o.c::text AND (d, e) = (9, 10)"), "50|50")
        self.assertEqual(self.cluster.error(f"ALTER TABLE target DROP b; {self.imported('target', 'append')}", db=self.db).sqlstate, "42703")
        # What is generated there, or always an identity, is not what the file has.
        error = self.cluster.error(f"CREATE TABLE generating (a int, b text GENERATED ALWAYS AS ('x') STORED, c encrypted_text); {self.imported('generating', 'append')}", db=self.db)
        self.assertEqual(error.sqlstate, "42P10")

    def test_many_columns_and_none(self):
        self.query("DO $$ BEGIN EXECUTE 'CREATE TABLE original (' || (SELECT string_agg(format('%I int2 DEFAULT %s', repeat('n', 50) || g, CASE WHEN g % 100 = 0 THEN g::text ELSE 'NULL' END), ', ') FROM generate_series(1, 1600) AS g) || ')'; END $$; INSERT INTO original DEFAULT VALUES; INSERT INTO original DEFAULT VALUES")
        self.assertEqual(self.round_trip("original")["rows"], 2)
        self.same()
        self.query("CREATE TABLE nothing (); INSERT INTO nothing DEFAULT VALUES; INSERT INTO nothing DEFAULT VALUES; CREATE TABLE something (a int)")
        for options in ("", ", compression => 'zstd'"):
            self.query(self.staged("nothing", options))
            self.assertEqual(json.loads(self.query(f"DROP TABLE IF EXISTS nothing_again; {self.imported('nothing_again')}"))["rows"], 2)
        self.assertEqual(self.query("SELECT count(*) FROM nothing_again"), "2")
        self.assertEqual(json.loads(self.query(self.imported("nothing_again", "append")))["rows"], 2)
        # Rows without columns are no rows of a table that has some.
        self.cluster.error(self.imported("something", "append"), db=self.db)
        self.assertEqual(self.query("SELECT count(*) FROM something"), "0")

    def test_encodings(self):
        """The file is in UTF-8, whatever the server and the client use."""
        self.cluster.psql("CREATE DATABASE latin TEMPLATE template0 ENCODING 'LATIN1' LOCALE 'C'; CREATE DATABASE ascii TEMPLATE template0 ENCODING 'SQL_ASCII' LOCALE 'C'")
        for db in ("latin", "ascii"):
            for sql in ("CREATE EXTENSION prism_crypt", "SELECT prism_crypt.rotate_key()", OBJECTS):
                self.query(sql, db=db)
        make = """CREATE TYPE "ű" AS ENUM ('é'); CREATE TABLE "ö" (a text, "ß" encrypted_text, c encrypted_text[], d "ű" DEFAULT 'é', e json, f text DEFAULT 'à'); INSERT INTO "ö" VALUES ('Ärger', 'Grüße', ARRAY['ø', NULL]::encrypted_text[], 'é', '{"ä": "ü"}', ''), (E'\\t', NULL, NULL, NULL, NULL, '')""".replace("ű", "û")
        shown = """SELECT concat_ws('|', a, "ß"::text, c::text[], d, e, f, octet_length(a)) FROM "ö" WHERE a <> E'\\t'"""
        self.query(make, db="latin", PGCLIENTENCODING="UTF8")
        before = self.query(shown, db="latin", PGCLIENTENCODING="UTF8")
        for client in ("UTF8", "LATIN1"):
            # The name has to come in the client's encoding.
            called = "'ö'" if client == "UTF8" else "chr(246)"
            data = self.query(f"SELECT encode(string_agg(p, ''), 'hex') FROM prism_crypt.export_stream({called}, '{KEY}') AS p", db="latin", PGCLIENTENCODING=client)
            content = penc.opened(bytes.fromhex(data)).decode("utf-8")
            self.assertIn("Grüße", content)
            self.assertEqual(json.loads(content.split("\n")[0])["columns"][1]["name"], "ß")
        for db, length in ((self.db, "6"), ("latin", "5")):
            self.query('DROP TABLE IF EXISTS "ö"; DROP TYPE IF EXISTS "û"; CREATE TYPE "û" AS ENUM (\'é\')', db=db, PGCLIENTENCODING="UTF8")
            self.query(f"""SELECT prism_crypt.import_stream($q$(SELECT '\\x{data}'::bytea)$q$, '{KEY}')""", db=db, PGCLIENTENCODING="UTF8")
            self.assertEqual(self.query(shown, db=db, PGCLIENTENCODING="UTF8"), before.rpartition("|")[0] + "|" + length)
        # What has no equivalent there is refused, in a row, a name, a definition.
        for wide in (penc.content([("a", "text")], ["山"]), penc.content([("山", "text")], ["a"]), penc.content([("a", "text", {"expression": "'山'::text"})], ["a"])):
            file, = penc.make(wide)
            error = self.cluster.error(f"SELECT prism_crypt.import_stream($q${penc.as_query(file)}$q$, '{KEY}', 'wide')", db="latin")
            self.assertEqual(error.sqlstate, "22P05")
            self.assertEqual(self.query("SELECT to_regclass('wide')", db="latin"), "")
        # Nor are bytes that are no text written as if they were UTF-8.
        self.query(r"""CREATE TABLE bytes AS SELECT E'\xff\xfe'::text AS a; CREATE TABLE fine AS SELECT E'\xc3\xa9'::text AS a, E'\xc3\xa9'::encrypted_text AS b""", db="ascii", PGCLIENTENCODING="SQL_ASCII")
        error = self.cluster.error("SELECT count(*) FROM prism_crypt.export_stream('bytes')", db="ascii", PGCLIENTENCODING="SQL_ASCII")
        self.assertEqual(error.sqlstate, "22021")
        self.assertEqual(json.loads(self.query(self.staged("fine") + self.imported(), db="ascii"))["rows"], 1)
        self.assertEqual(self.query("SELECT encode(a::bytea, 'hex'), encode(b::text::bytea, 'hex') FROM copy", db="ascii"), "c3a9|c3a9")


if __name__ == "__main__":
    unittest.main()
