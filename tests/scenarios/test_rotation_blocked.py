"""What others keep locked, or have put where administrators look, costs a rotation their own tables and no other, and bounded time."""

from harness.scenario import Scenario

# A wait that is not bounded ends here, with an error.
LIMIT = "SET statement_timeout = '90s';"


class RotationBlocked(Scenario):
    conf = {"max_prepared_transactions": "2", "deadlock_timeout": "'200ms'"}

    def setUp(self):
        self.db = self.database(self.id().rpartition(".")[2][:60].lower())
        self.query("""
            CREATE TABLE a (id int PRIMARY KEY, v encrypted_text);
            CREATE TABLE b (LIKE a INCLUDING ALL);
            CREATE TABLE c (LIKE a INCLUDING ALL);
            INSERT INTO a SELECT g, encrypt_field('v') FROM generate_series(1, 20) AS g;
            INSERT INTO b TABLE a;
            INSERT INTO c TABLE a;
            DO $$ BEGIN
              IF to_regrole('other') IS NULL THEN CREATE ROLE other; END IF;
              PERFORM prism_crypt.grant_access('other', 'rotate');
            END $$;
            GRANT SELECT, UPDATE ON b TO other;
            GRANT CREATE, USAGE ON SCHEMA public TO other""")
        self.active = self.query("SELECT prism_crypt.rotate_key()")

    def query(self, sql):
        return self.cluster.psql(sql, db=self.db)

    def tried(self, sql):
        return self.cluster.run_psql(LIMIT + sql, db=self.db, check=False, verbose=True)

    def other(self, sql):
        """A session of others with an open transaction."""
        session = self.session(self.db)
        session.run(f"BEGIN; {sql}")
        return session

    def rotated(self):
        """The tables that have nothing left, as one of others may keep them locked."""
        return "".join(t for t in "abc" if self.query(
            f"SET lock_timeout = '1s'; SELECT bool_and(key_version(v) = {self.active}) FROM {t}") == "t")

    def test_tables_that_others_keep_locked(self):
        for mode in ("ACCESS EXCLUSIVE", "SHARE", "EXCLUSIVE"):
            with self.subTest(mode):
                self.active = self.query("SELECT prism_crypt.rotate_key()")
                other = self.other(f"LOCK TABLE b IN {mode} MODE;")
                result = self.tried("CALL prism_crypt.rotate_all()")
                self.assertIn("WARNING:  01000: b: canceling statement due to lock timeout", result.stderr)
                self.assertIn("ERROR:  55000: tables that could not be rotated: 1 of 3", result.stderr)
                error = self.cluster.error(f"{LIMIT} CALL rotate_batch('b')", db=self.db)
                self.assertEqual("55P03", error.sqlstate)
                other.run("COMMIT;")
                self.assertEqual("ac", self.rotated())
                self.query("CALL prism_crypt.rotate_all()")
                self.assertEqual("abc", self.rotated())

    def test_a_shorter_lock_timeout_is_kept(self):
        other = self.other("LOCK TABLE b;")
        for own, expected in (("100ms", "100ms"), ("0", "0"), ("1h", "1h")):
            result = self.tried(f"SET lock_timeout = '{own}'; \\set ON_ERROR_STOP off\nCALL rotate_batch('b');\n SHOW lock_timeout;")
            self.assertIn("55P03", result.stderr)
            self.assertEqual(expected, result.stdout.strip())
        other.run("COMMIT;")

    def test_jobs_that_others_keep_locked(self):
        """By whoever may steer them, or work on them."""
        self.query("CALL rotate_batch('b', batch_size => 5, max_batches => 1)")
        for statement in ("SELECT prism_crypt.pause_job(max(id)) FROM prism_crypt.progress;",
                          "SELECT prism_crypt._start_job('rotation', 'b', NULL, '{}', prism_crypt._note_caller());"):
            with self.subTest(statement):
                self.active = self.query("SELECT prism_crypt.rotate_key()")
                other = self.other(f"SET LOCAL ROLE other; {statement}")
                result = self.tried("CALL prism_crypt.rotate_all()")
                self.assertIn("WARNING:  01000: b: ", result.stderr)
                self.assertIn("tables that could not be rotated: 1 of 3", result.stderr)
                if "pause" in statement:
                    self.assertEqual("55P03", self.cluster.error(f"{LIMIT} SELECT prism_crypt.resume_job(1)", db=self.db).sqlstate)
                other.run("ROLLBACK;")
                self.assertEqual("ac", self.rotated())
                self.query("CALL prism_crypt.rotate_all()")
                self.assertEqual("abc", self.rotated())

    def test_a_paused_job(self):
        """rotate_batch() waits for it, who has other tables to do does not."""
        self.query("CALL rotate_batch('b', batch_size => 5, max_batches => 1)")
        self.query("SELECT prism_crypt.pause_job(id) FROM prism_crypt.progress")
        result = self.tried("CALL prism_crypt.rotate_all()")
        self.assertIn("WARNING:  01000: b: job 1 is paused", result.stderr)
        self.assertEqual("ac", self.rotated())
        self.assertEqual("paused", self.query("SELECT state FROM prism_crypt.progress WHERE id = 1"))

    def test_an_emergency(self):
        """The keys are rotated, whatever others do to the jobs."""
        key = "SELECT max(version) FROM prism_crypt.key_status WHERE state = 'active'"
        # No job yet: the other session makes it. Then one that it has paused, cancelled or goes on with.
        for statement in ("SELECT prism_crypt._start_job('rotation', 'b', NULL, '{}', prism_crypt._note_caller());",
                          "SELECT prism_crypt.pause_job(max(id)) FROM prism_crypt.progress;",
                          "SELECT prism_crypt.cancel_job(max(id)) FROM prism_crypt.progress;"):
            with self.subTest(statement):
                before = int(self.query(key))
                other = self.other(f"SET LOCAL ROLE other; {statement}")
                result = self.tried("SELECT keyset, new_version FROM prism_crypt.emergency_rotation('now')")
                self.assertEqual((f"default|{before + 1}", 0), (result.stdout.strip(), result.returncode), result.stderr)
                if "_start_job" in statement or "cancel_job" in statement:
                    self.assertIn("WARNING:  01000: no job is made for public.b: SQLSTATE 55P03", result.stderr)
                other.run("ROLLBACK;")
                self.assertEqual(str(before + 1), self.query(key))
                self.query("SELECT prism_crypt.cancel_job(id) FROM prism_crypt.progress WHERE state NOT IN ('cancelled', 'finished')")
                self.query("CALL rotate_batch('b', batch_size => 5, max_batches => 1)")

    def test_a_table_that_others_lock_is_a_blocker_of_a_plan(self):
        other = self.other("LOCK TABLE b;")
        result = self.tried("SELECT target, rows_due, blockers FROM prism_crypt.plan_rotation() ORDER BY 1")
        self.assertEqual(["public.a|20|{}", 'public.b||{"the sample could not be rotated (SQLSTATE 55P03)"}', "public.c|20|{}"],
                         result.stdout.splitlines(), result.stderr)
        other.run("COMMIT;")

    def test_a_plan_runs_nothing_of_others(self):
        """Functions of indexes, their predicates, CHECKs of tables and domains, generated columns, ranges: none is called."""
        self.query("""
            CREATE SEQUENCE called;
            GRANT USAGE ON called TO PUBLIC;
            SELECT prism_crypt.grant_access('other', 'search');
            GRANT CREATE ON SCHEMA public TO other;
            SET ROLE other;
            CREATE FUNCTION run(int) RETURNS int LANGUAGE plpgsql IMMUTABLE AS $$ BEGIN PERFORM nextval('public.called'); RETURN 1; END $$;
            CREATE FUNCTION run(encrypted_text) RETURNS boolean LANGUAGE plpgsql IMMUTABLE AS $$ BEGIN PERFORM nextval('public.called'); RETURN true; END $$;
            CREATE FUNCTION difference(int, int) RETURNS float8 LANGUAGE plpgsql IMMUTABLE AS $$ BEGIN PERFORM nextval('public.called'); RETURN 1; END $$;
            CREATE TYPE own_range AS RANGE (SUBTYPE = int, SUBTYPE_DIFF = difference);
            CREATE DOMAIN email AS encrypted_text CHECK (run(VALUE));
            CREATE DOMAIN outer_email AS email CHECK (run(VALUE::encrypted_text));
            CREATE DOMAIN number AS int CHECK (run(VALUE) = 1);
            CREATE TYPE pair AS (n number, e email);
            CREATE TABLE mine (id int, n number, v email, w outer_email, r own_range, p pair, s encrypted_text('searchable'),
                               l email[], g int GENERATED ALWAYS AS (run(id)) STORED, CHECK (run(v::encrypted_text)));
            CREATE INDEX ON mine (run(id));
            CREATE INDEX ON mine (id) WHERE run(id) = 1;
            CREATE INDEX ON mine USING gist (r);
            CREATE INDEX ON mine (n);
            CREATE INDEX ON mine (id) INCLUDE (v);
            CREATE STATISTICS st ON run(id), id FROM mine;
            CREATE UNIQUE INDEX ON mine (s encrypted_text_unique_ops);
            INSERT INTO mine SELECT g, g, 'v' || g, 'w', int4range(g, g + 5)::text::own_range, ROW(g::number, 'p'::encrypted_text::email)::pair, 's' || g, ARRAY['l'::encrypted_text::email]
            FROM generate_series(1, 400) AS g;
            CREATE FUNCTION fires() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN PERFORM nextval('public.called'); RETURN NEW; END $$;
            CREATE TRIGGER fires BEFORE UPDATE OR INSERT ON mine FOR EACH ROW EXECUTE FUNCTION fires();
            CREATE RULE also AS ON UPDATE TO mine DO ALSO SELECT nextval('public.called');
            ALTER TABLE mine ENABLE ROW LEVEL SECURITY;
            ALTER TABLE mine FORCE ROW LEVEL SECURITY;
            CREATE POLICY own ON mine USING (run(id) = 1)""")
        self.query("SELECT prism_crypt.rotate_key()")
        before = self.query("SELECT last_value FROM called")
        self.assertNotEqual("1", before)
        result = self.tried("SELECT rows_due, blockers FROM prism_crypt.plan_rotation() WHERE target = 'public.mine'")
        self.assertEqual('400|{"trigger \\"fires\\" fires for each batch",' + ",".join(
            f'"column \\"{c}\\" is not in the sample, because domains inside of it have CHECKs"' for c in "pl") + "}", result.stdout.strip(), result.stderr)
        self.assertNotIn("WARNING", result.stderr)
        # Nor by one whom the policy is for.
        self.query("CREATE ROLE plans; GRANT SELECT, UPDATE ON mine TO plans; SELECT prism_crypt.grant_access('plans', 'rotate')")
        result = self.tried("SET ROLE plans; SELECT rows_due, blockers FROM prism_crypt.plan_rotation() WHERE target = 'public.mine'")
        self.assertIn("row-level security may hide rows", result.stdout)
        self.assertEqual(before, self.query("SELECT last_value FROM called"))

    def test_a_plan_computes_no_constants_of_others(self):
        """An index may hold a call with constant arguments, which PostgreSQL makes when it plans a query on the table."""
        self.query("""
            CREATE SEQUENCE planned;
            GRANT USAGE ON planned TO PUBLIC;
            GRANT CREATE ON SCHEMA public TO other;
            SET ROLE other;
            CREATE FUNCTION constant(int) RETURNS int LANGUAGE plpgsql IMMUTABLE AS $$ BEGIN RETURN 1; END $$;
            CREATE TABLE folded (id int, v encrypted_text, CHECK (constant(2) = 1), CHECK (id > constant(3) - 2));
            CREATE INDEX ON folded ((constant(4)));
            CREATE INDEX ON folded (id) WHERE constant(5) = 1;
            CREATE INDEX ON folded USING hash ((id + constant(6)));
            CREATE INDEX ON folded (key_version(v)) WHERE id > constant(7);
            CREATE STATISTICS folds ON (id + constant(8)), (id * constant(9)) FROM folded;
            INSERT INTO folded SELECT g, 'v' || g FROM generate_series(0, 399) AS g;""")
        self.query("SELECT prism_crypt.rotate_key()")
        plan = "SET constraint_exclusion = on; SELECT rows_due, blockers FROM prism_crypt.plan_rotation() WHERE target = 'public.folded'"
        for does in ("PERFORM nextval('public.planned'); RETURN 1;", "RAISE SQLSTATE '57014';", "ASSERT false;", "RAISE 'no';"):
            with self.subTest(does):
                self.query(f"SET ROLE other; CREATE OR REPLACE FUNCTION constant(int) RETURNS int LANGUAGE plpgsql IMMUTABLE AS $$ BEGIN {does} END $$")
                before = self.query("SELECT is_called, last_value FROM planned")
                result = self.tried(plan)
                self.assertEqual(("400|{}", 0), (result.stdout.strip(), result.returncode), result.stderr)
                self.assertEqual(before, self.query("SELECT is_called, last_value FROM planned"))
                # A query on the table does call it.
                result = self.tried("EXPLAIN SELECT v FROM ONLY folded TABLESAMPLE system (10)")
                self.assertTrue(result.returncode != 0 or before != self.query("SELECT is_called, last_value FROM planned"), does)

    def test_tables_that_come_and_go(self):
        """Between the list of tables and their turn."""
        self.query("""
            CREATE FUNCTION drops() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
              IF to_regclass('b') IS NOT NULL THEN DROP TABLE b; ALTER TABLE c RENAME TO d; END IF; RETURN NULL; END $$;
            CREATE TRIGGER drops AFTER UPDATE ON a FOR EACH STATEMENT EXECUTE FUNCTION drops();""")
        result = self.tried("CALL prism_crypt.rotate_all()")
        self.assertEqual((0, ""), (result.returncode, "".join(l for l in result.stderr.splitlines() if "WARNING" in l)), result.stderr)
        self.assertEqual("t", self.query(f"SELECT bool_and(key_version(v) = {self.active}) FROM d"))
