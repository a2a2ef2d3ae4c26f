"""A superuser rotates in a database whose owner has put a schema of his first: nothing in it is ever called."""

from harness.scenario import Scenario

# Each of them is looked up by code that does not qualify it.
TYPES = ("text", "name", "int4", "int8", "int2", "bool", "float8", "regclass", "oid", "tid", "uuid", "interval", "bytea", "timestamptz", "numeric")
COMPARED = ("text", "name", "int4", "int8", "bool", "float8", "numeric", "regclass", "oid", "tid", "uuid", "interval", "timestamptz", "public.encrypted_text")
OPERATORS = ("=", "<>", "<", "<=", ">", ">=")
COMPUTED = ("int4", "int8", "float8", "numeric")
FUNCTIONS = (
    "array_append(anyarray, anyelement)", "unnest(anyarray)", "cardinality(anyarray)", "array_length(anyarray, int4)", "array_to_string(anyarray, text)",
    "format(text, text)", "format(text, text, text)", "format(text, int4)", "format(text, int8)", "format(text)", "format(text, regclass)",
    "set_config(text, text, bool)", "current_setting(text)", "clock_timestamp()", "statement_timestamp()", "now()", "pg_backend_pid()",
    "count()", "max(tid)", "greatest_(int4)", "floor(float8)", "quote_ident(text)", "to_regclass(text)", "pg_relation_size(regclass)",
    "has_table_privilege(oid, text)", "has_function_privilege(text, text)", "nullif_(text)", "left(text, int4)", "btrim(text)", "int4(int8)", "text(name)",
    "encrypt_field(text)", "rotate_all()", "_sleep(float8)", "reencrypt_field(public.encrypted_text)", "key_version(public.encrypted_text)")


def traps():
    """SQL that makes the schema: whatever is called there moves a sequence."""
    yield "CREATE SCHEMA evil; CREATE SEQUENCE evil.calls MINVALUE 0 START 0;"
    yield ("CREATE FUNCTION evil.note(what pg_catalog.text) RETURNS pg_catalog.bool LANGUAGE plpgsql SET search_path = pg_catalog AS $$ BEGIN"
           " RAISE WARNING 'evil: % as %', what, current_user; PERFORM nextval('evil.calls'); RETURN true; END $$;")
    # Functions and operators before the domains, which would take their names.
    for signature in FUNCTIONS:
        result = "anyarray" if "anyarray" in signature and "append" in signature else "pg_catalog.int4"
        yield f"CREATE FUNCTION evil.{signature} RETURNS {result} LANGUAGE plpgsql AS $$ BEGIN PERFORM evil.note('{signature}'); RETURN NULL; END $$;"
    for type_name in COMPARED:
        bare = type_name.rpartition(".")[2]
        qualified = type_name if "." in type_name else f"pg_catalog.{type_name}"
        for number, operator in enumerate(OPERATORS):
            yield (f"CREATE FUNCTION evil.op{number}_{bare}({qualified}, {qualified}) RETURNS pg_catalog.bool LANGUAGE plpgsql AS $$ BEGIN"
                   f" PERFORM evil.note('{bare} {operator}'); RETURN NULL; END $$;"
                   f"CREATE OPERATOR evil.{operator} (LEFTARG = {qualified}, RIGHTARG = {qualified}, FUNCTION = evil.op{number}_{bare});")
    for type_name in COMPUTED:
        for number, operator in enumerate(("+", "-", "*", "/")):
            yield (f"CREATE FUNCTION evil.calc{number}_{type_name}(pg_catalog.{type_name}, pg_catalog.{type_name}) RETURNS pg_catalog.{type_name}"
                   f" LANGUAGE plpgsql AS $$ BEGIN PERFORM evil.note('{type_name} {operator}'); RETURN 1; END $$;"
                   f"CREATE OPERATOR evil.{operator} (LEFTARG = pg_catalog.{type_name}, RIGHTARG = pg_catalog.{type_name},"
                   f" FUNCTION = evil.calc{number}_{type_name});")
    yield ("CREATE FUNCTION evil.glue(pg_catalog.text, pg_catalog.text) RETURNS pg_catalog.text LANGUAGE plpgsql AS $$ BEGIN"
           " PERFORM evil.note('||'); RETURN ''; END $$;"
           "CREATE OPERATOR evil.|| (LEFTARG = pg_catalog.text, RIGHTARG = pg_catalog.text, FUNCTION = evil.glue);")
    for type_name in TYPES:
        yield f"CREATE DOMAIN evil.{type_name} AS pg_catalog.{type_name} CHECK (evil.note('type {type_name}'));"
    yield "CREATE DOMAIN evil.record AS pg_catalog.int4 CHECK (evil.note('type record'));"
    yield "CREATE DOMAIN evil.encrypted_text AS public.encrypted_text CHECK (evil.note('type encrypted_text'));"


class RotationHostilePath(Scenario):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.db = cls.database("hostile")
        cls.cluster.psql("\n".join(traps()), db=cls.db)
        cls.cluster.psql("""
            CREATE TYPE contact AS (kind text, address encrypted_text);
            CREATE TABLE t (id int PRIMARY KEY, v encrypted_text('email', 'searchable'), b bytea, c contact, l encrypted_text[], kv int);
            INSERT INTO t SELECT g, 'v' || g, encrypt_bytes('x'), ROW('k', 'a'::encrypted_text)::contact, ARRAY['l'::encrypted_text] FROM generate_series(1, 300) AS g;
            CREATE UNIQUE INDEX ON t (v encrypted_text_unique_ops);
            CREATE TABLE p (id int, v encrypted_text) PARTITION BY LIST (id);
            CREATE TABLE p1 PARTITION OF p FOR VALUES IN (1);
            CREATE TABLE p2 PARTITION OF p DEFAULT;
            INSERT INTO p SELECT g % 3, 'p' FROM generate_series(1, 30) AS g;
            CREATE TABLE x (id int, v encrypted_text);
            INSERT INTO x SELECT g, 'x' FROM generate_series(1, 30) AS g;
            CREATE INDEX ON x (key_version(v));
            CREATE MATERIALIZED VIEW m AS SELECT v FROM x;
            CREATE TABLE bad (id int, v encrypted_text);
            INSERT INTO bad SELECT 1, 'bad';
            CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'no'; END $$;
            CREATE TRIGGER refuse BEFORE UPDATE ON bad FOR EACH ROW EXECUTE FUNCTION refuse();
            CREATE TABLE stays (id int, v encrypted_text);
            INSERT INTO stays SELECT 1, 'stays';
            CREATE FUNCTION keep() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RETURN OLD; END $$;
            CREATE TRIGGER keep BEFORE UPDATE ON stays FOR EACH ROW EXECUTE FUNCTION keep();
            ANALYZE""", db=cls.db)
        cls.cluster.psql(f"ALTER DATABASE {cls.db} SET search_path = evil, pg_catalog, public")

    def calls(self):
        return self.cluster.psql("SELECT CASE WHEN is_called THEN last_value + 1 ELSE 0 END FROM evil.calls", db=self.db,
                                 PGOPTIONS="-c search_path=pg_catalog")

    def quiet(self, statement, check=True):
        """Runs a statement as superuser with the database's search_path, and sees that it called nothing."""
        before = self.calls()
        result = self.cluster.run_psql(statement, db=self.db, check=check)
        self.assertNotIn("evil: ", result.stderr, statement)
        self.assertEqual(before, self.calls(), statement)
        return result

    def new_key(self):
        self.quiet("SELECT prism_crypt.rotate_key()")

    def test_the_traps_work(self):
        for statement in ("SELECT 1 = 1", "SELECT CASE 'a'::pg_catalog.text WHEN 'b' THEN 1 END", "DO $$ DECLARE t text := 'a'; BEGIN END $$",
                          "SELECT 1 IS DISTINCT FROM 2", "SELECT 1 IN (2, 3)", "SELECT NULLIF(1, 2)", "SELECT format('a'::pg_catalog.text, 'b'::pg_catalog.text)"):
            with self.subTest(statement):
                before = self.calls()
                self.cluster.run_psql(statement, db=self.db)
                self.assertNotEqual(before, self.calls())

    def test_batches(self):
        for arguments in ("'public.t'", "'public.t', 'v'", "'public.t', 'v', key_version_column => 'kv'", "'public.t', 'b'", "'public.t', 'l', batch_size => 7",
                          "'public.p', batch_size => 1", "'public.x', 'v'", "'public.x', pause => '1 ms', max_rows_per_second => 1e6, max_replica_lag => 1000000",
                          "'public.t', from_version => 1", "'public.t', keyset => 'default'", "'public.t', fire_triggers => false", "'public.stays'"):
            with self.subTest(arguments):
                self.new_key()
                self.quiet(f"CALL public.rotate_batch({arguments})")

    def test_limits_and_errors(self):
        self.new_key()
        self.quiet("CALL public.rotate_batch('public.t', batch_size => 10, max_batches => 2)")
        for statement in ("CALL public.rotate_batch('public.bad')", "CALL public.rotate_batch('public.t', 'none')", "CALL public.rotate_batch('public.m')",
                          "CALL public.rotate_batch(NULL)", "CALL public.rotate_batch('public.t', batch_size => 0)",
                          "CALL public.rotate_batch('public.t', from_version => 4711)", "BEGIN; CALL public.rotate_batch('public.t')"):
            with self.subTest(statement):
                self.assertNotEqual(0, self.quiet(statement, check=False).returncode)

    def test_all_tables(self):
        self.new_key()
        self.assertIn("could not be rotated: 1 of", self.quiet("CALL prism_crypt.rotate_all()", check=False).stderr)
        self.quiet("CALL prism_crypt.rotate_all(max_batches => 1)", check=False)

    def test_jobs(self):
        self.new_key()
        self.quiet("CALL public.rotate_batch('public.t', batch_size => 10, max_batches => 2)")
        job = self.quiet("SELECT pg_catalog.max(id) FROM prism_crypt.progress").stdout.strip()
        for function in ("pause_job", "resume_job", "cancel_job"):
            self.quiet(f"SELECT prism_crypt.{function}({job})")
        self.quiet("SELECT * FROM prism_crypt.progress")
        # One that is cancelled while somebody works on it.
        self.new_key()
        session = self.session(self.db)
        before = self.calls()
        session.start("CALL public.rotate_batch('public.t', batch_size => 10, pause => '100 ms');")
        self.cluster.wait_for(f"SELECT count(*) > 0 FROM prism_crypt.progress WHERE id > {job} AND rows_done > 0", db=self.db,
                              PGOPTIONS="-c search_path=pg_catalog")
        self.quiet("SELECT prism_crypt.pause_job(pg_catalog.max(id)) FROM prism_crypt.progress")
        self.quiet("SELECT prism_crypt.resume_job(pg_catalog.max(id)) FROM prism_crypt.progress")
        self.quiet("SELECT prism_crypt.cancel_job(pg_catalog.max(id)) FROM prism_crypt.progress")
        self.assertIn("was cancelled", session.wait(check=False))
        self.assertEqual(before, self.calls())

    def test_plans_and_emergencies(self):
        self.quiet("SELECT * FROM prism_crypt.plan_rotation()")
        self.quiet("SELECT * FROM prism_crypt.rotation_due()")
        self.quiet("SELECT prism_crypt.set_rotation_interval('default', '1 day')")
        self.quiet("SELECT * FROM prism_crypt.emergency_rotation('why not')")

    def test_a_new_index_key(self):
        self.quiet("CALL prism_crypt.rotate_index_key()", check=False)
