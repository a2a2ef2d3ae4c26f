"""What anybody may make of types and tables: by their number and depth they keep no administrator from his work, and crash nothing."""

import re
import time
import unittest

from harness.psql import PgError
from harness.scenario import Scenario

# A bound on hanging, and on quadratic work: what is tested takes seconds.
TIMEOUT = "SET statement_timeout = '60s';"
CANCELLED_WITHIN = 30

# Every administrative call, with what it needs before, in an order in which each has something to do.
CALLS = [
    "SELECT count(*) FROM prism_crypt.census()",
    "SELECT count(*) FROM prism_crypt.census('small')",
    "SELECT count(*) FROM prism_crypt.status()",
    "SELECT count(*) FROM prism_crypt.rotation_due()",
    "SELECT count(*) FROM prism_crypt.progress",
    "SELECT count(*) FROM prism_crypt.key_status",
    "SELECT prism_crypt.rotate_key()",
    "SELECT count(*) FROM prism_crypt.plan_rotation()",
    "CALL rotate_batch('small')",
    "CALL prism_crypt.rotate_all()",
    "CALL prism_crypt.rotate_index_key()",
    "SELECT count(*) FROM prism_crypt.emergency_rotation('a test')",
    "SELECT prism_crypt.rotate_master_key()",
    "SELECT prism_crypt.destroy_key(1)",
    "SELECT prism_crypt.destroy_keyset('other', 'a test', force => true)",
]


def loop(first, last, statement):
    """Statements by the thousand, in transactions that need no more locks than there are."""
    return (f"DO $$ BEGIN FOR i IN {first}..{last} LOOP EXECUTE format('{statement}', i, i - 1); "
            "IF i % 2000 = 0 THEN COMMIT; END IF; END LOOP; END $$;")


# From the top to the bottom: PostgreSQL looks through each type that a new one is made of.
def levels(name, depth, fields):
    return f"""DO $$ BEGIN
        FOR i IN 0..{depth} LOOP EXECUTE format('CREATE TYPE {name}%s AS ()', i); END LOOP;
        CREATE TABLE of_{name} (id int, v {name}{depth});
        FOR i IN REVERSE {depth}..1 LOOP EXECUTE format('ALTER TYPE {name}%s {fields}', i, i - 1); END LOOP;
        ALTER TYPE {name}0 ADD ATTRIBUTE v encrypted_text;
        INSERT INTO of_{name} VALUES (1, NULL);
    END $$;"""


TYPES = [
    loop(1, 50_000, "CREATE DOMAIN beside%s AS encrypted_text"),
    "CREATE DOMAIN plain0 AS encrypted_text; " + loop(1, 50_000, "CREATE DOMAIN plain%s AS plain%s"),
    "CREATE DOMAIN arrays0 AS encrypted_text; " + loop(1, 20_000, "CREATE DOMAIN arrays%s AS arrays%s[]"),
    loop(1, 1000, "CREATE TYPE span%s AS RANGE (subtype = encrypted_text, subtype_opclass = encrypted_text_unique_ops)"),
    "CREATE TYPE ranges0 AS RANGE (subtype = encrypted_text, subtype_opclass = encrypted_text_unique_ops); "
    + loop(1, 300, "CREATE TYPE ranges%s AS RANGE (subtype = ranges%s)"),
    levels("level", 1000, "ADD ATTRIBUTE a level%s[], ADD ATTRIBUTE b bytea"),
    # As wide as a table can be, and some columns of types that are a long way from the bottom: PostgreSQL itself goes it for each.
    """DO $$ BEGIN
        EXECUTE (SELECT format('CREATE TABLE wide (%s)', string_agg(format('c%s %s%s', i, CASE i % 200 WHEN 0 THEN 'plain' WHEN 1 THEN 'span' ELSE 'beside' END,
                                                                           CASE i % 200 WHEN 0 THEN 50000 - i ELSE i / 2 + 1 END), ', '))
                 FROM generate_series(1, 1598) AS i);
        INSERT INTO wide DEFAULT VALUES;
        CREATE TABLE deep (a plain50000, b ranges300);
        INSERT INTO deep DEFAULT VALUES;
        EXECUTE format('CREATE TABLE constant (v text[] DEFAULT %L)', array_fill('prism:v1:'::text, ARRAY[200000]));
        EXECUTE format('CREATE VIEW constants AS SELECT %L::plain50000 AS v, %L::text[] AS t', NULL, array_fill('x'::text, ARRAY[200000]));
    END $$;""",
]

DOUBLING = levels("double", 30, "ADD ATTRIBUTE a double%s, ADD ATTRIBUTE b double%2$s")


class OddCatalogs(Scenario):
    preload = True
    conf = {"log_statement": "'none'", "log_min_duration_statement": "-1", "log_min_error_statement": "'panic'",
            "max_locks_per_transaction": "1024", "fsync": "off", "autovacuum": "off"}

    def make(self, name, statements):
        """A database of a DBA, in which somebody without any access of ours has made these."""
        db = self.database(name)
        self.cluster.psql("""
            SELECT prism_crypt.create_keyset('other');
            CREATE TABLE small (id int PRIMARY KEY, v encrypted_text, s encrypted_text('searchable'), a encrypted_text[]);
            CREATE INDEX small_s ON small (s encrypted_text_unique_ops);
            INSERT INTO small SELECT i, 'v' || i, 's' || i, ARRAY['a', NULL] FROM generate_series(1, 20) AS i;
            CREATE SCHEMA play; GRANT CREATE, USAGE ON SCHEMA play TO mallory;""", db=db)
        for statement in statements:
            self.cluster.psql(f"SET search_path = play, public; {statement}", user="mallory", db=db)
        return db

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.cluster.psql("CREATE ROLE mallory LOGIN")

    def setUp(self):
        self.started = self.cluster.psql("SELECT pg_postmaster_start_time()")

    def tearDown(self):
        self.assertEqual(self.cluster.psql("SELECT pg_postmaster_start_time()"), self.started)
        log = self.cluster.log()
        for trace in ("terminated by signal", "PANIC", "internal error", "TRAP:"):
            self.assertNotIn(trace, log)

    def called(self, db, call):
        """What goes wrong with a call, or None."""
        try:
            self.cluster.psql(TIMEOUT + call, db=db)
        except PgError as error:
            if error.sqlstate in (None, "57014", "XX000", "53200"):
                return f"{call}: {error.sqlstate} {error.message}"
        return None

    def cancelled(self, db, call, after):
        """What goes wrong when a call is cancelled after so long, or None."""
        with self.cluster.session(db=db) as session:
            pid = session.run("SELECT pg_backend_pid();").strip()
            session.start(f"{call};")
            if session.waiting(after):
                self.cluster.psql(f"SELECT pg_cancel_backend({pid})", db=db)
            try:
                session.wait(timeout=CANCELLED_WITHIN, check=False)
            except TimeoutError:
                self.cluster.psql(f"SELECT pg_terminate_backend({pid})", db=db)
                return f"{call}: not cancelled"
        return None

    def all_calls(self, db):
        """Each is answered, or refused, in time; and ends when it is cancelled."""
        calls = CALLS
        problems = [self.called(db, call) for call in calls]
        # The last one can be called once only.
        problems += [self.cancelled(db, call, after) for call in calls[:-1] for after in (0.05, 0.5)]
        told = "\n".join(problem for problem in problems if problem)
        self.assertFalse(told, told)

    def test_types(self):
        db = self.make("types", TYPES)
        self.assertGreater(int(self.cluster.psql("SELECT count(*) FROM prism_crypt._encrypted_types()", db=db)), 200_000)
        # The oldest key goes at the end, so that nobody's constant that names it is in the way.
        self.all_calls(db)
        self.assertEqual(self.cluster.psql("SELECT count(*) FROM small WHERE decrypt_field(v) = 'v' || id AND s = 's' || id", db=db), "20")

    def test_composites_that_double(self):
        """Of 2^30 fields: PostgreSQL itself looks at each when it makes a table of them, and can't be cancelled."""
        db = self.make("doubling", [DOUBLING])
        self.assertEqual(self.cluster.psql("SELECT prism_crypt._is_quickly_checked('play.double30'::regtype), prism_crypt._is_quickly_checked('play.double10'::regtype)",
                                           db=db), "f|t")
        self.all_calls(db)

    def test_values_of_deep_types(self):
        """What is asked about a value, and takes it apart."""
        db = self.make("values", [*TYPES[1:3], TYPES[5], DOUBLING])
        for value in ("'{}'::play.arrays20000[]", "NULL::play.arrays20000", "NULL::play.plain50000", "'x'::play.plain50000",
                      "ARRAY['x']::play.plain50000[]", "NULL::play.level1000", "NULL::play.double30"):
            for call in ("_is_rotatable({}, NULL, NULL)", "_can_rotate({}, NULL, NULL)", "_reencrypt({}, NULL, NULL, false)",
                         "_rotation_error({}, NULL, NULL)", "_key_versions({})"):
                with self.subTest(value=value, call=call):
                    self.assertIsNone(self.called(db, f"SELECT prism_crypt.{call.format(value)}"))
            self.assertEqual(self.cluster.psql(f"{TIMEOUT} SELECT prism_crypt._holds_encrypted(pg_typeof({value}))", db=db), "t")

    def test_arrays_of_many_elements(self):
        """A text array of 30 million elements in a query: as much memory as PostgreSQL itself takes for it, and no more."""
        db = self.make("elements", [])
        array = "array_fill('a'::text, ARRAY[30000000])"
        ours = self.peak(db, f"EXPLAIN SELECT 1 WHERE NULL::encrypted_text = ANY ({array})")
        usual = self.peak(db, f"EXPLAIN SELECT 1 WHERE now()::text = ANY ({array})")
        self.assertLess(ours, usual + 200_000)
        for sql in (f"EXPLAIN SELECT 1 WHERE NULL::encrypted_text = ANY ({array})",
                    f"SELECT prism_crypt._key_versions(array_fill(NULL::encrypted_text, ARRAY[30000000]))"):
            self.assertIsNone(self.cancelled(db, sql, 0.5))
        # Null elements take a bit each: no more is made of them.
        self.assertLess(self.peak(db, "SELECT prism_crypt._is_rotatable(array_fill(NULL::encrypted_text, ARRAY[30000000]), NULL, NULL)"), 500_000)

    def peak(self, db, sql):
        """The most memory, in kB, that a new session had."""
        with self.cluster.session(db=db) as session:
            pid = session.run("SELECT pg_backend_pid();").strip()
            session.run(f"\\o /dev/null\n{sql};\n\\o", timeout=CANCELLED_WITHIN)
            with open(f"/proc/{pid}/status") as status:
                return int(re.search(r"VmHWM:\s*(\d+)", status.read())[1])

    def test_partitions(self):
        db = self.make("partitions", [
            "CREATE TABLE parts (id int, v encrypted_text('searchable')) PARTITION BY RANGE (id);",
            "DO $$ BEGIN FOR i IN 1..2000 LOOP EXECUTE format('CREATE TABLE parts_%s PARTITION OF parts FOR VALUES FROM (%s) TO (%s)', i, i, i + 1); "
            "IF i % 200 = 0 THEN COMMIT; END IF; END LOOP; END $$;",
        ])
        self.all_calls(db)


if __name__ == "__main__":
    unittest.main()
