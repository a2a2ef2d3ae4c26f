"""Sessions with warm caches, while others change keys: answers stay right, and constants are sealed with the new key."""

import re
import unittest

from harness.scenario import Scenario, set_key

LEVELS = ("READ COMMITTED", "REPEATABLE READ", "SERIALIZABLE")
MODES = ("auto", "force_generic_plan", "force_custom_plan")
IDS = "coalesce(string_agg(t.id::text, ',' ORDER BY t.id), 'none')"

# quokka: rows 1 and 2 of the keyset default, 3 of tenant. The others are there so that an index is worth while.
TABLES = """
    SELECT prism_crypt.create_keyset('tenant');
    CREATE TABLE words (id int, v text);
    INSERT INTO words VALUES (1, 'quokka'), (2, 'none');
    CREATE TABLE t (id int PRIMARY KEY, v encrypted_text('searchable'), w encrypted_text, u encrypted_text('searchable'));
    INSERT INTO t SELECT g, 'other ' || g % 100, 'other ' || g % 100, 'only ' || g FROM generate_series(10, 700) AS g;
    INSERT INTO t VALUES (1, 'quokka', 'quokka', 'quokka'), (2, 'quokka', 'quokka', 'numbat');
    SET prism_crypt.keyset = 'tenant';
    INSERT INTO t VALUES (3, 'quokka', 'quokka', 'quokka'), (4, 'numbat', 'numbat', 'numbat');
    RESET prism_crypt.keyset;
    CREATE INDEX ON t USING hash (v);
    CREATE UNIQUE INDEX ON t (u encrypted_text_unique_ops);
    CREATE VIEW with_text AS SELECT * FROM t WHERE v = 'quokka'::text;
    ANALYZE"""

# {name: (condition on t, values of parameters)}
CONDITIONS = {
    "literal": ("v = 'quokka'", ""), "text": ("v = 'quokka'::text", ""), "commuted": ("'quokka'::varchar = v", ""),
    "literal_unsearchable": ("w = 'quokka'", ""), "text_unsearchable": ("w = 'quokka'::text", ""),
    "literal_unique": ("u = 'quokka' OR u = 'none'", ""), "text_unique": ("u IN ('quokka'::text, 'none')", ""),
    "literals": ("v IN ('quokka', 'none')", ""), "texts": ("v = ANY ('{quokka,none}'::text[])", ""), "many": ("v = ANY ('{quokka,b,c,d,e,f,g,h,i,j,k}')", ""),
    "not_distinct": ("v IS NOT DISTINCT FROM 'quokka'::text", ""), "cases": ("CASE v WHEN 'none' THEN false WHEN 'quokka' THEN true END", ""),
    "of_text": ("v IN (SELECT words.v FROM words)", ""), "with_itself": ("EXISTS (SELECT FROM t AS o WHERE o.v = t.v AND o.w = 'quokka')", ""),
    "in_array": ("ARRAY[v] = '{quokka}'::encrypted_text[]", ""), "in_row": ("(v, w) = ('quokka', 'quokka'::text)", ""),
    "untyped_parameter": ("v = $1", "'quokka'"), "text_parameter": ("v = $1::text", "'quokka'"), "varchar_parameter": ("u = $1::varchar", "'quokka'"),
    "array_parameter": ("v = ANY ($1)", "'{quokka,none}'"), "text_array_parameter": ("u = ANY ($1::text[])", "'{quokka,none}'"),
    "parameter_unsearchable": ("w = $1::text", "'quokka'"), "computed": ("v = ($1::text || 'ka')", "'quok'"),
}
FUNCTIONS = f"""
    CREATE FUNCTION by_literal() RETURNS text LANGUAGE plpgsql AS $$ BEGIN RETURN (SELECT {IDS} FROM t WHERE v = 'quokka'); END $$;
    CREATE FUNCTION by_text() RETURNS text LANGUAGE plpgsql AS $$ DECLARE r text; BEGIN SELECT {IDS} INTO r FROM t WHERE v = 'quokka'::text; RETURN r; END $$;
    CREATE FUNCTION by_argument(x text DEFAULT 'quokka') RETURNS text LANGUAGE plpgsql AS $$ BEGIN RETURN (SELECT {IDS} FROM t WHERE v = x); END $$;
    CREATE FUNCTION by_encrypted(x encrypted_text) RETURNS text LANGUAGE plpgsql AS $$ BEGIN RETURN (SELECT {IDS} FROM t WHERE v = x); END $$;
    CREATE FUNCTION by_sql() RETURNS text LANGUAGE sql AS $$ SELECT {IDS} FROM t WHERE v IN ('quokka', 'none') $$;
    CREATE FUNCTION by_expression() RETURNS text LANGUAGE plpgsql AS $$
      DECLARE r record; found text; BEGIN
        FOR r IN SELECT id, v FROM t WHERE id < 20 ORDER BY id LOOP IF r.v = 'quokka' THEN found := concat_ws(',', found, r.id); END IF; END LOOP; RETURN found; END $$;
    CREATE FUNCTION of_tenant() RETURNS text LANGUAGE plpgsql SET prism_crypt.keyset = 'tenant' AS $$ BEGIN RETURN by_literal() || by_text() || by_expression(); END $$;
    CREATE FUNCTION and_undone() RETURNS text LANGUAGE plpgsql AS $$
      DECLARE seen text; BEGIN
        BEGIN PERFORM prism_crypt.rotate_key(); seen := by_literal() || by_expression(); RAISE EXCEPTION 'undone';
        EXCEPTION WHEN raise_exception THEN RETURN seen || by_literal() || by_expression(); END; END $$; """
CALLS = {name: f"SELECT {name}();" for name in ("by_literal", "by_text", "by_argument", "by_sql", "by_expression")} | {
    "by_encrypted": "SELECT by_encrypted('quokka');", "view": f"SELECT {IDS} FROM with_text AS t;"}


class SearchSessions(Scenario):
    maxDiff = None
    preload = True
    conf = {"autovacuum": "off", "jit": "off", "log_statement": "'none'", "log_min_duration_statement": "-1"}

    def setUp(self):
        self.addCleanup(self.use, "main")
        self.db = self.database(self.id().rpartition(".")[2][:60].lower())
        self.query(TABLES + ";" + FUNCTIONS)
        self.a = self.session(self.db)

    def query(self, sql):
        return self.cluster.psql(sql, db=self.db)

    def use(self, *keys):
        set_key(self.cluster, *keys)
        self.cluster.reload()

    def warm(self, mode="auto", keyset="default"):
        """A session that has planned and run everything, several times."""
        session = self.session(self.db)
        session.run(f"SET plan_cache_mode = {mode}; SET prism_crypt.keyset = '{keyset}';")
        for name, (condition, _) in CONDITIONS.items():
            session.run(f"PREPARE {name} AS SELECT {IDS} FROM t WHERE {condition};")
        for _ in range(6):
            self.assert_right(session, "1,2" if keyset == "default" else "3")
        return session

    def assert_right(self, session, rows="1,2"):
        statements = {name: f"EXECUTE {name}{values and f'({values})'};" for name, (_, values) in CONDITIONS.items()} | CALLS
        said = dict(zip(statements, session.run("\n".join(statements.values())).splitlines()))
        expected = {name: "1" if rows == "1,2" and ("unique" in name or name in ("varchar_parameter", "text_array_parameter")) else rows for name in statements}
        self.assertEqual(said, expected)

    def assert_sealed_anew(self, session, keyset="default"):
        """Plans hold constants, and all are of the keyset's active key."""
        active = self.query(f"SELECT version FROM prism_crypt.key_status WHERE keyset = '{keyset}' AND state = 'active'")
        for name in ("literal", "text", "commuted", "literal_unsearchable", "literal_unique", "literals", "texts", "many"):
            versions = re.findall(r"prism:v(\d+):", session.run(f"EXPLAIN EXECUTE {name};"))
            self.assertEqual(set(versions), {active}, name)

    def test_every_change_of_keys(self):
        sessions = [self.warm(mode) for mode in MODES]
        tenant = self.warm("force_generic_plan", "tenant")

        def look():
            for session in sessions:
                self.assert_right(session)
                self.assert_sealed_anew(session)
            self.assert_right(tenant, "3")
            self.assert_sealed_anew(tenant, "tenant")

        look()
        destroy = "SELECT prism_crypt.destroy_key(version) FROM prism_crypt.key_status WHERE state = 'decrypt_only';"
        for change in ("SELECT prism_crypt.rotate_key();", "CALL prism_crypt.rotate_all();", destroy, "CALL prism_crypt.rotate_index_key();",
                       "CALL prism_crypt.rotate_index_key('tenant');", "SELECT prism_crypt.rotate_key('tenant');", "CALL prism_crypt.rotate_all();", destroy,
                       "SELECT prism_crypt.rotate_key(); CALL prism_crypt.rotate_index_key();", destroy, "REINDEX TABLE t; VACUUM FULL t; ANALYZE;"):
            with self.subTest(change):
                self.a.run(change)
                look()
        with self.subTest("master key"):
            self.use("next", "main")
            self.a.run("SELECT prism_crypt.rotate_master_key();")
            look()
            self.use("next")
            look()

    def test_another_keyset(self):
        for mode in MODES:
            session = self.warm(mode)
            for to_tenant, back in (("SET prism_crypt.keyset = 'tenant';", "RESET prism_crypt.keyset;"), ("BEGIN; SET LOCAL prism_crypt.keyset = 'tenant';", "COMMIT;"),
                                    ("BEGIN; SET prism_crypt.keyset = 'tenant';", "ROLLBACK;"), ("BEGIN; SAVEPOINT s; SET prism_crypt.keyset = 'tenant';", "ROLLBACK TO s; COMMIT;"),
                                    ("BEGIN; SELECT set_config('prism_crypt.keyset', 'tenant', true);", "ROLLBACK;"), ("SET prism_crypt.keyset = 'tenant';", "RESET ALL;")):
                with self.subTest(mode, by=to_tenant):
                    session.run(to_tenant)
                    self.assert_right(session, "3")
                    self.a.run("SELECT prism_crypt.rotate_key('tenant');")
                    self.assert_right(session, "3")
                    self.assert_sealed_anew(session, "tenant")
                    session.run(back)
                    self.assert_right(session)
                    self.assert_sealed_anew(session)
                    self.assertEqual(session.run("SELECT of_tenant(), by_literal();"), "333|1,2")

    def test_in_the_middle_of_a_statement(self):
        """A loop over rows that were looked for in one keyset, which turns to another one."""
        session = self.warm()
        session.run("""
            CREATE FUNCTION turns() RETURNS text LANGUAGE plpgsql AS $$
            DECLARE r record; seen text; BEGIN
              FOR r IN SELECT id FROM t WHERE v = 'quokka' OR v = 'other 5' ORDER BY id LIMIT 4 LOOP
                PERFORM set_config('prism_crypt.keyset', CASE WHEN r.id = 1 THEN 'tenant' ELSE 'default' END, true);
                seen := concat_ws(' ', seen, r.id, by_literal(), by_expression());
                PERFORM prism_crypt.rotate_key();
              END LOOP;
              RETURN seen; END $$;""")
        for _ in range(3):
            self.assertEqual(session.run("SELECT turns();"), "1 3 3 2 1,2 1,2 105 1,2 1,2 205 1,2 1,2")
            self.assert_right(session)

    def test_changes_that_are_undone(self):
        for mode in MODES:
            session = self.warm(mode)
            for begin, undo in (("BEGIN;", "ROLLBACK;"), ("BEGIN; SAVEPOINT s;", "ROLLBACK TO s; COMMIT;"), ("BEGIN; SAVEPOINT s;", "ROLLBACK;")):
                with self.subTest(mode, begin=begin):
                    session.run(begin + "SELECT prism_crypt.rotate_key(), prism_crypt.create_keyset('new');")
                    self.assert_right(session)
                    session.run("INSERT INTO t VALUES (5, 'quokka', 'quokka', 'wombat'); UPDATE t SET v = 'gone' WHERE id = 1;")
                    self.assertEqual(session.run("EXECUTE literal; EXECUTE text_parameter('quokka'); SELECT by_text();"), "2,5\n2,5\n2,5")
                    session.run("SET LOCAL prism_crypt.keyset = 'new';")
                    self.assertEqual(session.run("EXECUTE literal; EXECUTE text_parameter('quokka'); SELECT by_text();"), "none\nnone\nnone")
                    session.run(undo)
                    self.assert_right(session)
                    self.assert_sealed_anew(session)
                    self.assertEqual(session.run("SELECT and_undone();"), "1,2" * 4)
                    self.assert_right(session)

    def test_open_transactions(self):
        """A snapshot from before does not keep old keys, and sees the rows from before."""
        for level in LEVELS:
            for mode in MODES:
                with self.subTest(level, mode=mode):
                    session = self.warm(mode)
                    session.run(f"BEGIN ISOLATION LEVEL {level}; SELECT count(*) FROM words;")
                    self.a.run("SELECT prism_crypt.rotate_key();")
                    # The table is not locked yet: all of it is rewritten and indexed anew behind its back.
                    self.a.run("CALL prism_crypt.rotate_index_key(); VACUUM t;")
                    if level != "READ COMMITTED":
                        self.a.run("UPDATE t SET v = 'gone' WHERE id = 2; INSERT INTO t VALUES (6, 'quokka', 'quokka', 'quokka 6');")
                    self.assert_right(session)
                    self.assert_sealed_anew(session)
                    # Now it is locked, and the other one waits.
                    self.a.run("DELETE FROM t WHERE id = 6; UPDATE t SET v = 'quokka' WHERE id = 2; SELECT prism_crypt.rotate_key();")
                    self.a.start("CALL prism_crypt.rotate_index_key();")
                    self.cluster.wait_for("SELECT count(*) > 0 FROM pg_locks WHERE mode = 'AccessExclusiveLock' AND NOT granted")
                    self.assert_right(session)
                    self.assertTrue(self.a.waiting(0))
                    session.run("COMMIT;")
                    self.a.wait()
                    self.assert_right(session)
                    self.assert_sealed_anew(session)
                    session.close()

    def test_cursors(self):
        session = self.warm()
        select = "SELECT id FROM t WHERE v = 'quokka' ORDER BY id"
        session.run(f"BEGIN; DECLARE held SCROLL CURSOR WITH HOLD FOR {select}; COMMIT; BEGIN; DECLARE open SCROLL CURSOR FOR {select}; FETCH open;")
        self.a.run("SELECT prism_crypt.rotate_key();")
        self.assertEqual(session.run("FETCH open; FETCH BACKWARD ALL FROM open; FETCH ALL FROM open;"), "2\n1\n1\n2")
        session.run("DECLARE late CURSOR FOR SELECT id FROM t WHERE v = ANY ('{quokka,none}'::text[]) ORDER BY id; FETCH late;")
        self.a.run("SELECT prism_crypt.rotate_key(); CALL prism_crypt.rotate_all();")
        self.assertEqual(session.run("FETCH ALL FROM late;"), "2")
        session.run("COMMIT;")
        self.a.run("CALL prism_crypt.rotate_index_key(); SELECT prism_crypt.destroy_key(version) FROM prism_crypt.key_status WHERE state = 'decrypt_only';")
        self.assertEqual(session.run("FETCH ALL FROM held;"), "1\n2")
        self.assert_right(session)

    def test_what_is_written(self):
        """Prepared statements that write make tags of the last generation, under the active key."""
        session = self.warm("force_generic_plan")
        session.run("""
            PREPARE literal_in AS INSERT INTO t VALUES (7, 'quokka', 'quokka', 'quokka 7');
            PREPARE text_in(text) AS UPDATE t SET v = $1, u = $1 || ' 7' WHERE id = 7;
            PREPARE upsert(text) AS INSERT INTO t VALUES (8, $1, $1, $1) ON CONFLICT (u) DO UPDATE SET w = EXCLUDED.w RETURNING id;""")
        for generation in (1, 2, 3):
            session.run("EXECUTE literal_in; EXECUTE text_in('quokka');")
            self.assertEqual(session.run("EXECUTE upsert('quokka');"), "1")
            active = self.query("SELECT version FROM prism_crypt.key_status WHERE keyset = 'default' AND state = 'active'")
            self.assertEqual(
                self.query("SELECT DISTINCT e.key_version, e.search_generation FROM t, LATERAL (VALUES (v), (u)) AS x (x), envelope_info(x) AS e WHERE id = 7"),
                f"{active}|{generation}")
            self.assertEqual(session.run("EXECUTE literal; DELETE FROM t WHERE id = 7; EXECUTE literal;"), "1,2,7\n1,2")
            self.a.run("SELECT prism_crypt.rotate_key(); CALL prism_crypt.rotate_index_key();"
                       "SELECT prism_crypt.destroy_key(version) FROM prism_crypt.key_status WHERE state = 'decrypt_only';")

    def test_a_right_that_is_taken_away(self):
        self.query("CREATE ROLE seeker LOGIN; GRANT ALL ON t, words, with_text TO seeker; SELECT prism_crypt.grant_access('seeker', 'search')")
        session = self.session(self.db, user="seeker")
        session.run("PREPARE p(text) AS SELECT count(*) FROM t WHERE v = $1; PREPARE l AS SELECT count(*) FROM t WHERE v = 'quokka';")
        for _ in range(7):
            self.assertEqual(session.run("EXECUTE p('quokka'); EXECUTE l; SELECT by_literal(), by_expression();"), "2\n2\n1,2|1,2")
        self.a.run("SELECT prism_crypt.revoke_access('seeker', 'search');")
        for statement in ("EXECUTE p('quokka');", "EXECUTE l;", "SELECT by_literal();", "SELECT by_expression();", "SELECT count(*) FROM (SELECT DISTINCT ARRAY[w] FROM t) AS x;"):
            self.assertEqual(session.error(statement).sqlstate, "42501", statement)
        self.a.run("SELECT prism_crypt.grant_access('seeker', 'search');")
        self.assertEqual(session.run("EXECUTE p('quokka'); EXECUTE l; SELECT by_literal(), by_expression();"), "2\n2\n1,2|1,2")


class SearchSessionsNotPreloaded(SearchSessions):
    preload = False


if __name__ == "__main__":
    unittest.main()
