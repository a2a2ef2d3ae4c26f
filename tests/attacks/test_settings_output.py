"""F18: what a session sets of prism_crypt.output counts for its own statements, and never for what runs as somebody else."""

import unittest

from harness import paths
from clinic import DEFINER, PATIENTS, SHOWING, functions
from ways import BLIND, Attack, own_setting, says

PLAIN = "SET prism_crypt.output = 'plaintext';\n"
AUDIT = "SELECT what FROM audit"
# 14 has no such views.
INVOKER = " WITH (security_invoker)" if paths.PG_MAJOR >= 15 else ""


def definer(name, body, returns="text", arguments="", language="plpgsql", options=""):
    return f"CREATE FUNCTION {name}({arguments}) RETURNS {returns} LANGUAGE {language} {options} {DEFINER} AS $f$ {body} $f$;\n"


OTHERS = (
    definer("raising", "BEGIN RAISE NOTICE 'row %', (SELECT t FROM public.patients AS t WHERE id = 2); END", "void")
    + definer("raising_value", "DECLARE v public.encrypted_text; BEGIN SELECT name INTO v FROM public.patients WHERE id = 2; RAISE WARNING '%', v; END", "void")
    + definer("raising_detail", "DECLARE t public.patients; BEGIN SELECT * INTO t FROM public.patients WHERE id = 2; RAISE 'x' USING DETAIL = to_jsonb(t); END", "void")
    + definer("failing_check", "BEGIN UPDATE public.patients SET id = 5000 WHERE id = 2; END", "void")
    + definer("failing_caught", """DECLARE d text; BEGIN UPDATE public.patients SET id = 5000 WHERE id = 2;
        EXCEPTION WHEN OTHERS THEN GET STACKED DIAGNOSTICS d = PG_EXCEPTION_DETAIL; RETURN d; END""")
    + definer("a_value", "SELECT name FROM public.patients WHERE id = 2", "public.encrypted_text", language="sql")
    + definer("rows", "SELECT * FROM public.patients", "SETOF public.patients", language="sql")
    + definer("any_record", "BEGIN RETURN QUERY EXECUTE 'SELECT to_jsonb(t) FROM public.patients AS t'; END", "SETOF jsonb")
    + definer("opened", "BEGIN OPEN c FOR SELECT to_jsonb(t) FROM public.patients AS t; RETURN c; END", "refcursor", "c refcursor")
    + definer("scrolled", "BEGIN OPEN c SCROLL FOR SELECT to_jsonb(t) FROM public.patients AS t; MOVE LAST IN c; RETURN c; END", "refcursor", "c refcursor")
    + definer("fetched", "DECLARE r record; s text = ''; BEGIN LOOP FETCH c INTO r; EXIT WHEN NOT FOUND; s := s || to_jsonb(r); END LOOP; RETURN s; END", "text", "c refcursor")
    + definer("explained", "DECLARE r text; s text = ''; BEGIN FOR r IN EXECUTE 'EXPLAIN VERBOSE SELECT 1 FROM public.patients WHERE email = (SELECT email FROM public.patients WHERE id = 2)' LOOP s := s || r; END LOOP; RETURN s; END")
    + definer("from_parameter", "SELECT format('%s', v)", "text", "v public.encrypted_text", "sql")
    + definer("from_row", "SELECT to_jsonb(t)::text", "text", "t public.patients", "sql")
    + definer("from_array", "SELECT array_to_string(v, ',')", "text", "VARIADIC v public.encrypted_text[]", "sql")
    + definer("polymorphic", "BEGIN RETURN to_jsonb(v)::text; END", "text", "v anyelement")
    + definer("add_row", "SELECT $1 || to_jsonb($2)::text", "text", "text, public.patients", "sql")
    + "CREATE AGGREGATE all_rows(public.patients) (SFUNC = add_row, STYPE = text, INITCOND = '');"
    + "CREATE OPERATOR public.!! (RIGHTARG = public.encrypted_text, FUNCTION = from_parameter);"
    + definer("stored_plan", "BEGIN RETURN (SELECT to_jsonb(t) FROM public.patients AS t WHERE id = 2)::text; END")
    + f"CREATE FUNCTION standard() RETURNS text LANGUAGE sql {DEFINER} BEGIN ATOMIC SELECT to_jsonb(t)::text FROM public.patients AS t WHERE id = 2; END;\n"
    + f"CREATE PROCEDURE proc(INOUT r text) LANGUAGE plpgsql {DEFINER} AS $f$ BEGIN SELECT to_jsonb(t) INTO r FROM public.patients AS t WHERE id = 2; END $f$;\n"
    + f"CREATE FUNCTION parallel_one() RETURNS text LANGUAGE sql STABLE PARALLEL SAFE {DEFINER} SET {paths.FORCE_PARALLEL} = on AS $f$ SELECT string_agg(t::text, '') FROM public.patients AS t $f$;\n"
    + f"CREATE FUNCTION parallel_row(t public.patients) RETURNS text LANGUAGE sql STABLE PARALLEL SAFE {DEFINER} AS $f$ SELECT t::text $f$;\n"
    # Of others: an outer function of somebody who may not read, and one that means to show.
    + f"CREATE FUNCTION meaning_it() RETURNS int LANGUAGE sql {DEFINER} SET prism_crypt.output = 'plaintext' AS $f$ SELECT length(to_jsonb(t)::text) FROM public.patients AS t WHERE id = 2 $f$;\n"
    + f"CREATE FUNCTION showing_it() RETURNS text LANGUAGE sql {DEFINER} SET prism_crypt.output = 'plaintext' AS $f$ SELECT to_jsonb(t)::text FROM public.patients AS t WHERE id = 2 $f$;\n"
    + definer("showing_by_body", "BEGIN PERFORM set_config('prism_crypt.output', 'plaintext', true); RETURN (SELECT to_jsonb(t) FROM public.patients AS t WHERE id = 2)::text; END")
    + definer("failing", "BEGIN PERFORM set_config('prism_crypt.output', 'plaintext', false); PERFORM set_config('prism_crypt.output', 'ciphertext', true); RAISE 'failed'; END", "void")
    + definer("on_then_off", "BEGIN PERFORM set_config('prism_crypt.output', 'plaintext', true); PERFORM set_config('prism_crypt.output', 'ciphertext', true); END", "void")
)
OF_OWNER = (
    "SET ROLE owner;"
    + f"CREATE FUNCTION outer_definer() RETURNS text LANGUAGE sql {DEFINER} SET prism_crypt.output = 'plaintext' AS 'SELECT public.sql_0(2)';"
    + f"CREATE FUNCTION outer_by_body() RETURNS text LANGUAGE plpgsql {DEFINER} AS $f$ BEGIN PERFORM set_config('prism_crypt.output', 'plaintext', true); RETURN public.sql_0(2); END $f$;"
    + "CREATE FUNCTION wrapper() RETURNS text LANGUAGE sql SET prism_crypt.output = 'plaintext' AS 'SELECT public.sql_0(2)';"
    + "RESET ROLE;"
)
TRIGGERS = "SET ROLE doctor;" + "".join(
    definer(f"audit_{which}", body, "trigger") for which, body in {
        "old": "BEGIN INSERT INTO public.audit VALUES (to_jsonb(OLD)); RETURN NEW; END",
        "new": "BEGIN INSERT INTO public.audit VALUES (NEW::text); RETURN NULL; END",
        "table": "BEGIN INSERT INTO public.audit SELECT to_jsonb(x) FROM was AS x; RETURN NULL; END",
        "raise": "BEGIN RAISE NOTICE 'old %', OLD; RETURN NEW; END",
        "view": "BEGIN INSERT INTO public.audit VALUES (format('%s', OLD)); RETURN NEW; END",
    }.items()) + """
    CREATE FUNCTION audit_plainly() RETURNS trigger LANGUAGE plpgsql AS $f$ BEGIN INSERT INTO public.audit VALUES (pg_catalog.to_jsonb(OLD)); RETURN NEW; END $f$;
    CREATE FUNCTION seal_text(v public.encrypted_text) RETURNS text LANGUAGE sql IMMUTABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $f$ SELECT format('%s', v) $f$;
    CREATE FUNCTION plain_text(v public.encrypted_text) RETURNS text LANGUAGE sql IMMUTABLE SET search_path = pg_catalog, pg_temp AS $f$ SELECT format('%s', v) $f$;
    CREATE FUNCTION kept(v public.encrypted_text) RETURNS boolean LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $f$
      BEGIN INSERT INTO public.audit VALUES (format('%s', v)); RETURN true; END $f$;
    CREATE FUNCTION keep(v public.encrypted_text) RETURNS boolean LANGUAGE sql IMMUTABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $f$ SELECT public.kept(v) $f$;
    CREATE VIEW plain_view AS SELECT id, to_jsonb(p) AS j FROM patients AS p;
    CREATE VIEW function_view AS SELECT id, from_parameter(name) AS j FROM patients;
    CREATE VIEW invoker_view""" + INVOKER + """ AS SELECT id, from_row(p) AS j FROM patients AS p;
    CREATE VIEW barrier_view WITH (security_barrier) AS SELECT id, all_rows(p) AS j FROM patients AS p GROUP BY id;
    CREATE VIEW written AS SELECT id, name FROM patients;
    CREATE TRIGGER t INSTEAD OF UPDATE ON written FOR EACH ROW EXECUTE FUNCTION audit_view();
    GRANT SELECT, UPDATE ON ALL TABLES IN SCHEMA public TO PUBLIC; REVOKE SELECT, UPDATE ON audit FROM PUBLIC;
    RESET ROLE;
"""
# name: (what doctor does to patients, what the attacker runs)
ON_THE_TABLE = {
    "BEFORE row trigger, to_jsonb(OLD)": ("CREATE TRIGGER a BEFORE UPDATE ON patients FOR EACH ROW EXECUTE FUNCTION audit_old()", "UPDATE patients SET id = id"),
    "AFTER row trigger, NEW::text": ("CREATE TRIGGER a AFTER UPDATE ON patients FOR EACH ROW EXECUTE FUNCTION audit_new()", "UPDATE patients SET id = id"),
    "deferred constraint trigger": ("CREATE CONSTRAINT TRIGGER a AFTER UPDATE ON patients DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION audit_new()", "UPDATE patients SET id = id"),
    "statement trigger with a transition table": ("CREATE TRIGGER a AFTER UPDATE ON patients REFERENCING OLD TABLE AS was FOR EACH STATEMENT EXECUTE FUNCTION audit_table()", "UPDATE patients SET id = id"),
    "trigger that says OLD": ("CREATE TRIGGER a BEFORE UPDATE ON patients FOR EACH ROW EXECUTE FUNCTION audit_raise()", "UPDATE patients SET id = id"),
    "trigger with the caller's rights": ("GRANT INSERT ON audit TO PUBLIC; CREATE TRIGGER a BEFORE UPDATE ON patients FOR EACH ROW EXECUTE FUNCTION audit_plainly()", "UPDATE patients SET id = id"),
    "trigger WHEN": ("CREATE TRIGGER a BEFORE UPDATE ON patients FOR EACH ROW WHEN (kept(OLD.name)) EXECUTE FUNCTION suppress_redundant_updates_trigger()", "UPDATE patients SET id = id"),
    "CHECK": ("ALTER TABLE patients ADD CONSTRAINT c CHECK (kept(name)) NOT VALID", "UPDATE patients SET id = id"),
    "DEFAULT": ("ALTER TABLE patients ADD d text DEFAULT sql_0(2)", "INSERT INTO patients (id) VALUES (700) RETURNING d"),
    "generated column": ("ALTER TABLE patients ADD g text GENERATED ALWAYS AS (seal_text(name)) STORED", "UPDATE patients SET name = name RETURNING g"),
    "generated column, the caller's rights": ("ALTER TABLE patients ADD g text GENERATED ALWAYS AS (plain_text(name)) STORED", "UPDATE patients SET name = name RETURNING g"),
    "index expression": ("CREATE INDEX i ON patients (keep(name)) WHERE keep(name); DELETE FROM audit", "UPDATE patients SET id = id + 10; UPDATE patients SET id = id - 10"),
    "policy": ("CREATE POLICY p ON patients USING (kept(name)); ALTER TABLE patients ENABLE ROW LEVEL SECURITY", "SELECT count(*) FROM patients"),
    "policy WITH CHECK": ("CREATE POLICY p ON patients USING (true) WITH CHECK (kept(name)); ALTER TABLE patients ENABLE ROW LEVEL SECURITY", "UPDATE patients SET id = id"),
    "rule": ("GRANT INSERT ON audit TO PUBLIC; CREATE RULE r AS ON UPDATE TO patients DO ALSO INSERT INTO audit VALUES (from_parameter(OLD.name))", "UPDATE patients SET id = id"),
    "domain CHECK": ("CREATE DOMAIN checked AS encrypted_text CHECK (kept(VALUE::encrypted_text))", "SELECT name::checked FROM patients"),
    "foreign key, cascade, trigger of the child": (
        "CREATE TABLE child (p int REFERENCES patients ON UPDATE CASCADE, name encrypted_text); INSERT INTO child SELECT id, name FROM patients; "
        "CREATE TRIGGER a BEFORE UPDATE ON child FOR EACH ROW EXECUTE FUNCTION audit_plainly()", "UPDATE patients SET id = id + 10; UPDATE patients SET id = id - 10"),
    "foreign key, cascade, generated column of the child": (
        "CREATE TABLE child (p int REFERENCES patients ON UPDATE CASCADE, name encrypted_text, g text GENERATED ALWAYS AS (CASE WHEN p > 0 THEN plain_text(name) END) STORED); "
        "INSERT INTO child SELECT id, name FROM patients; GRANT SELECT ON child TO PUBLIC", "UPDATE patients SET id = id + 10; UPDATE patients SET id = id - 10; SELECT * FROM child"),
}
UNDO = """DROP TRIGGER IF EXISTS a ON patients; ALTER TABLE patients DROP CONSTRAINT IF EXISTS c; ALTER TABLE patients DROP IF EXISTS d;
    ALTER TABLE patients DROP IF EXISTS g; DROP INDEX IF EXISTS i; DROP POLICY IF EXISTS p ON patients; ALTER TABLE patients DISABLE ROW LEVEL SECURITY;
    DROP RULE IF EXISTS r ON patients; DROP DOMAIN IF EXISTS checked; DROP TABLE IF EXISTS child; DELETE FROM patients WHERE id > 2; TRUNCATE audit; REVOKE INSERT ON audit FROM PUBLIC"""


class SettingsOutput(Attack):
    conf = {"wal_level": "'logical'", "autovacuum_naptime": "'1s'"}
    schema = PATIENTS + definer("of_a_superuser", "SELECT to_jsonb(t)::text FROM public.patients AS t WHERE id = i", "text", "i int", "sql") + "SET ROLE doctor;" + "".join(functions()) + OTHERS + "RESET ROLE;" + OF_OWNER + TRIGGERS

    def test_each_form_in_functions_of_two_languages(self):
        for number, form in enumerate(SHOWING):
            self.control(f"{form}, by the doctor", "doctor", f"{PLAIN} SELECT {SHOWING[form]} FROM patients AS t WHERE t.id = 2")
            for language in ("sql", "dynamic"):
                self.way(f"{form} in a function, {language}", "nobody", f"{PLAIN} SELECT {language}_{number}(2)")

    def test_each_kind_of_access(self):
        for role in (*BLIND, "owner", "db_owner"):
            self.way(f"SECURITY DEFINER, called by {role}", role, f"{PLAIN} SELECT sql_0(2), dynamic_0(2)")
            self.way(f"the row itself, read by {role}", role, f"{PLAIN} SELECT to_jsonb(t), t FROM patients AS t")

    def test_each_way_of_setting(self):
        # Also of a superuser's: PostgreSQL keeps what comes with a connection as if the first superuser had set it.
        call = "SELECT sql_0(2), dynamic_0(2), of_a_superuser(2);"
        ways = {
            "SET LOCAL": f"BEGIN; SET LOCAL prism_crypt.output = 'plaintext'; {call} COMMIT;",
            "set_config": f"SELECT set_config('prism_crypt.output', 'plaintext', false); {call}",
            "set_config in the same statement": f"SELECT set_config('prism_crypt.output', 'plaintext', false), sql_0(2), dynamic_0(2)",
            "pg_settings": f"UPDATE pg_settings SET setting = 'plaintext' WHERE name = 'prism_crypt.output'; {call}",
            "quoted": f'SET "prism_crypt"."output" = plaintext; {call}',
            "capitals": f"SET PRISM_CRYPT.OUTPUT TO 'PlainText'; {call}",
            "DO": f"DO $$ BEGIN SET prism_crypt.output = 'plaintext'; END $$; {call}",
            "a subtransaction": f"BEGIN; SAVEPOINT a; SET prism_crypt.output = 'plaintext'; RELEASE a; {call} COMMIT; {call}",
            "back to a savepoint": f"SET prism_crypt.output = 'plaintext'; BEGIN; SAVEPOINT a; SET LOCAL prism_crypt.output = 'ciphertext'; ROLLBACK TO a; {call} COMMIT; {call}",
            "in a CTE": "WITH s AS MATERIALIZED (SELECT set_config('prism_crypt.output', 'plaintext', true)) SELECT sql_0(length(set_config) / 9 + 1) FROM s",
            "SET SESSION": f"SET SESSION prism_crypt.output = 'plaintext'; {call}",
            "after a role was set and reset": f"{PLAIN} SET ROLE nobody; RESET ROLE; {call}",
            "after SET SESSION AUTHORIZATION": f"{PLAIN} SET SESSION AUTHORIZATION nobody; {call} RESET SESSION AUTHORIZATION; {call}",
            "by a wrapper with a SET clause": "SELECT wrapper()",
            "by another's SECURITY DEFINER function with a SET clause": "SELECT outer_definer()",
            "by another's SECURITY DEFINER function": "SELECT outer_by_body()",
            "by both": f"{PLAIN} SELECT outer_definer(), outer_by_body(), wrapper()",
            "before a function that means to show": "SELECT meaning_it(), sql_0(2)",
            "behind it, outside": f"{PLAIN} SELECT meaning_it(); {call}",
            "behind a function that sets it in its body": f"{PLAIN} SELECT on_then_off(); {call}",
            "behind a function that set it and failed": f"{PLAIN} SELECT failing(); DO $$ BEGIN PERFORM failing(); EXCEPTION WHEN OTHERS THEN RAISE NOTICE '%', sql_0(2); END $$; {call}",
            "behind one that failed, to a savepoint": f"{PLAIN} BEGIN; SAVEPOINT a; SELECT failing(); ROLLBACK TO a; {call} COMMIT; {call}",
            "a prepared statement": f"PREPARE p AS SELECT sql_0(2), stored_plan(); EXECUTE p; {PLAIN} EXECUTE p; EXECUTE p;",
            "DISCARD": f"{PLAIN} DISCARD PLANS; {call} DISCARD TEMP; {call}",
            "RESET to the connection's": f"SET prism_crypt.output = ciphertext; RESET prism_crypt.output; {call}",
        }
        for name, script in ways.items():
            env = {"PGOPTIONS": "-c prism_crypt.output=plaintext"} if name.startswith("RESET") else {}
            self.way(f"set by {name}", "nobody", script, **env)
        self.way("set when the connection begins", "nobody", call, PGOPTIONS="-c prism_crypt.output=plaintext")
        for name, sql in (("ALTER ROLE", "ALTER ROLE nobody {} prism_crypt.output"), ("ALTER DATABASE", f"ALTER DATABASE {self.db} {{}} prism_crypt.output")):
            user = "nobody" if "ROLE" in name else "db_owner"
            self.cluster.psql(sql.format("SET") + " = 'plaintext'", user=user, db=self.db)
            self.way(f"set by {name}", "nobody", call)
            if user == "db_owner":
                self.control("of its own statements, by ALTER DATABASE", "doctor", "SELECT name FROM patients")
            self.cluster.psql(sql.format("RESET"), user=user, db=self.db)

    def test_what_is_meant_works(self):
        """The documented ways of giving plaintext."""
        for name, user, script in (
            ("SET", "decrypt", f"{PLAIN} SELECT name FROM patients; SELECT to_jsonb(t) FROM patients AS t"),
            ("in parallel", "decrypt", f"{PLAIN} SET {paths.FORCE_PARALLEL} = on; SELECT string_agg(t::text, '') FROM patients AS t"),
            ("a cursor", "decrypt", f"{PLAIN} BEGIN; DECLARE c CURSOR FOR SELECT name FROM patients; FETCH ALL c"),
        ):
            self.control(name, user, script)
        own_setting(self)("a function with a SET clause of its own", "nobody", "SELECT showing_it()")
        own_setting(self)("a function that sets it in its body", "nobody", "SELECT showing_by_body()")
        self.cluster.psql("ALTER ROLE decrypt SET prism_crypt.output = 'plaintext'")
        self.control("ALTER ROLE", "decrypt", "SELECT name FROM patients")
        self.cluster.psql("ALTER ROLE decrypt RESET prism_crypt.output; GRANT decrypt TO owner")
        self.control("a member, by SET ROLE", "owner", f"{PLAIN} SET ROLE decrypt; SELECT name FROM patients")
        self.cluster.psql("REVOKE decrypt FROM owner")
        self.control("masks", "mask", "SET prism_crypt.output = 'masked'; SELECT name FROM patients", says(r"k\*+|\*\*\*"))

    def test_functions(self):
        calls = {
            "RAISE of a row": "SELECT raising()", "RAISE of a value": "SELECT raising_value()", "DETAIL of an error": "SELECT raising_detail()",
            "a failing row": "SELECT failing_check()", "a failing row, caught": "SELECT failing_caught()", "a value that is returned": "SELECT a_value(), to_jsonb(a_value())",
            "rows that are returned": "SELECT * FROM rows(); SELECT to_jsonb(r) FROM rows() AS r", "RETURN QUERY EXECUTE": "SELECT * FROM any_record()",
            "a cursor opened inside": "BEGIN; SELECT opened('c'); FETCH ALL c; COMMIT", "a cursor moved inside": "BEGIN; SELECT scrolled('c'); FETCH ABSOLUTE 2 c; FETCH BACKWARD ALL c",
            "a cursor opened outside": "BEGIN; DECLARE c CURSOR FOR SELECT id, name FROM patients; SELECT fetched('c')",
            "a cursor of JSON opened outside": "BEGIN; DECLARE c CURSOR FOR SELECT to_jsonb(t) FROM patients AS t; SELECT fetched('c')",
            "a cursor WITH HOLD": "BEGIN; DECLARE c CURSOR WITH HOLD FOR SELECT sql_0(2); COMMIT; FETCH ALL c",
            "a held cursor fetched inside": "BEGIN; DECLARE c CURSOR WITH HOLD FOR SELECT id, name FROM patients; COMMIT; SELECT fetched('c')",
            "EXPLAIN": "SELECT explained()", "a parameter": "SELECT from_parameter(name) FROM patients", "a row as parameter": "SELECT from_row(p) FROM patients AS p",
            "an array as parameter": "SELECT from_array(VARIADIC array_agg(name)) FROM patients", "a polymorphic parameter": "SELECT polymorphic(p), polymorphic(p.name) FROM patients AS p",
            "an aggregate": "SELECT all_rows(p) FROM patients AS p", "a window": "SELECT all_rows(p) OVER () FROM patients AS p", "an operator": "SELECT !! name FROM patients",
            "a body of standard SQL": "SELECT standard()", "a procedure": "CALL proc(NULL)", "a procedure in DO": "DO $$ DECLARE r text; BEGIN CALL proc(r); RAISE NOTICE '%', r; END $$",
            "a lateral call": "SELECT f FROM patients AS p, LATERAL from_row(p) AS f", "in RETURNING": "UPDATE patients SET id = id RETURNING from_parameter(name)",
            "in a default of a temporary table": "CREATE TEMP TABLE x (i int, d text DEFAULT sql_0(2)); INSERT INTO x (i) VALUES (1); TABLE x",
            "in COPY of a query": "COPY (SELECT from_parameter(name) FROM patients) TO STDOUT", "CREATE TABLE AS": "CREATE TEMP TABLE x AS SELECT sql_0(2) AS a; TABLE x",
            "parallel inside": "SELECT parallel_one()", "parallel outside": f"SET {paths.FORCE_PARALLEL} = on; SELECT parallel_row(p) FROM patients AS p; SELECT parallel_one()",
            "parallel, regress": f"SET {paths.FORCE_PARALLEL} = regress; SELECT parallel_one(), parallel_row(p) FROM patients AS p",
            "a view": "SELECT j FROM plain_view", "a function in a view": "SELECT j FROM function_view", "a view with security_invoker": "SELECT j FROM invoker_view",
            "a view with security_barrier": "SELECT j FROM barrier_view", "a view's INSTEAD OF trigger": "UPDATE written SET id = id",
            "after an error inside": "SELECT failing_check(); SELECT sql_0(2)", "in EXPLAIN ANALYZE": "EXPLAIN (ANALYZE, VERBOSE) SELECT sql_0(2)",
        }
        for name, call in calls.items():
            self.way(name, "nobody", f"{PLAIN} {call}", after=AUDIT, undo="TRUNCATE audit")
        for mode, call in (("function", "SELECT sql_0(2)"), ("argument", "SELECT from_parameter(name) FROM patients")):
            self.way(f"masked, by {mode}", "nobody", f"SET prism_crypt.output = 'masked'; {call}", says(r"\*\*\*\*"))

    def test_on_the_table(self):
        for name, (arrange, call) in ON_THE_TABLE.items():
            self.cluster.psql(f"SET ROLE doctor; {arrange}", db=self.db)
            self.way(name, "nobody", f"{PLAIN} {call};", after=AUDIT, undo=UNDO)
        self.control("a trigger, for whoever may read", "decrypt", f"""{PLAIN} CREATE TEMP TABLE p AS TABLE patients;
            CREATE FUNCTION pg_temp.say() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE NOTICE '%', OLD; RETURN NEW; END $$;
            CREATE TRIGGER a BEFORE UPDATE ON p FOR EACH ROW EXECUTE FUNCTION pg_temp.say(); UPDATE p SET id = id""")

    def test_event_trigger(self):
        self.cluster.psql(definer("on_ddl", "BEGIN INSERT INTO public.audit SELECT to_jsonb(t) FROM public.patients AS t; END", "event_trigger")
                          + "CREATE EVENT TRIGGER e ON ddl_command_end EXECUTE FUNCTION on_ddl()", db=self.db)
        self.way("event trigger", "nobody", f"{PLAIN} CREATE TEMP TABLE x (i int)", after=AUDIT, undo="DROP EVENT TRIGGER e; TRUNCATE audit")

    def test_owned_by_a_superuser(self):
        path = self.cluster.home / "export"
        self.cluster.psql(definer("exported", f"BEGIN COPY (SELECT * FROM public.patients) TO '{path}'; RETURN pg_read_file('{path}'); END")
                          + definer("copied", f"BEGIN COPY public.patients TO '{path}'; RETURN pg_read_file('{path}'); END")
                          + definer("copied_binary", f"BEGIN COPY public.patients TO '{path}' (FORMAT binary); RETURN encode(pg_read_binary_file('{path}'), 'escape'); END")
                          + definer("decoded", "SELECT string_agg(data, '') FROM pg_logical_slot_peek_changes('s', NULL, NULL)", language="sql")
                          + "SELECT pg_create_logical_replication_slot('s', 'test_decoding'); UPDATE patients SET id = id;", db=self.db)
        for call in ("exported", "copied", "copied_binary", "decoded"):
            self.way(f"a superuser's function: {call}", "nobody", f"{PLAIN} SELECT {call}()")
        self.cluster.psql("SELECT pg_drop_replication_slot('s')", db=self.db)

    def test_restricted_operations(self):
        """What superusers and owners run for a table, in a database whose owner has set the output."""
        self.cluster.psql(f"ALTER DATABASE {self.db} SET prism_crypt.output = 'plaintext'", user="db_owner", db=self.db)
        self.addCleanup(self.cluster.psql, f"ALTER DATABASE {self.db} RESET prism_crypt.output", db=self.db)
        self.cluster.psql("""SET prism_crypt.output = 'ciphertext'; SET ROLE doctor;
            CREATE MATERIALIZED VIEW m AS SELECT id, to_jsonb(p)::text AS j FROM patients AS p; CREATE UNIQUE INDEX ON m (id);
            CREATE INDEX i ON patients (plain_text(name)); CREATE STATISTICS st ON plain_text(email), id FROM patients; GRANT SELECT ON m TO PUBLIC""", db=self.db)
        look = "SET prism_crypt.output = 'ciphertext'; TABLE m; SELECT s::text FROM pg_stats AS s; SELECT s::text FROM pg_stats_ext_exprs AS s; SELECT s::text FROM pg_statistic AS s; TABLE audit"
        for user in ("postgres", "doctor"):
            for name, sql in (("REFRESH", "REFRESH MATERIALIZED VIEW m"), ("REFRESH CONCURRENTLY", "REFRESH MATERIALIZED VIEW CONCURRENTLY m"),
                              ("CREATE MATERIALIZED VIEW", "CREATE MATERIALIZED VIEW n AS SELECT id, to_jsonb(p)::text AS j FROM patients AS p; TABLE n; DROP MATERIALIZED VIEW n"),
                              ("ANALYZE", "ANALYZE patients"), ("VACUUM ANALYZE", "VACUUM ANALYZE patients"),
                              ("REINDEX", "CREATE INDEX k ON patients ((keep(name))); REINDEX TABLE patients; DROP INDEX k"),
                              ("CREATE INDEX CONCURRENTLY", "CREATE INDEX CONCURRENTLY k ON patients ((keep(name))); DROP INDEX k"),
                              ("CLUSTER", "CREATE INDEX k ON patients ((keep(name))); CLUSTER patients USING patients_pkey; DROP INDEX k")):
                self.way(f"{name} by {user}", user, sql, after=look)
        # It takes the database's settings, as a session does.
        self.cluster.psql("ALTER TABLE patients SET (autovacuum_analyze_threshold = 1, autovacuum_analyze_scale_factor = 0); INSERT INTO patients SELECT n, (SELECT name FROM patients WHERE id = 2) FROM generate_series(100, 200) AS n", db=self.db)
        self.cluster.wait_for("SELECT last_autoanalyze IS NOT NULL FROM pg_stat_user_tables WHERE relname = 'patients'", db=self.db)
        self.way("ANALYZE by autovacuum", "nobody", "", after=look, undo="DELETE FROM patients WHERE id > 2; DROP MATERIALIZED VIEW m; DROP INDEX i; DROP STATISTICS st")


if __name__ == "__main__":
    unittest.main()
