"""A physical standby searches: between stored values without a key, by constant with one, also after the index key changed."""

import unittest

import searchable
from harness.scenario import Scenario, set_key
from searchable import FILL, LOOKUPS, PARTITIONED, PARTITIONED_QUESTIONS, QUESTIONS, SCHEMA, VIEW, VIEW_QUESTIONS

ALL = {**QUESTIONS, **VIEW_QUESTIONS}
BY_INDEX = "SET enable_seqscan = off; SET enable_hashjoin = off; SET enable_mergejoin = off; SET enable_memoize = off; SET enable_material = off;"


class SearchStandby(Scenario):
    def standby_of(self, db, schema):
        self.cluster.psql(schema, db=db)
        standby = self.cluster.standby(f"{type(self).__name__.lower()}-{db}")
        self.addCleanup(standby.close)
        set_key(standby, None)
        standby.start()
        self.cluster.wait_caught_up(standby)
        return standby

    def assert_lookups(self, standby, db):
        self.assertEqual(searchable.wrong_lookups(standby, db), [])
        self.assertEqual(searchable.wrong_answers(standby, db, ALL), [])

    def test_without_and_with_a_key(self):
        db = self.database("keyless")
        standby = self.standby_of(db, SCHEMA + FILL + PARTITIONED + VIEW)
        with self.subTest("between stored values"):
            self.assertEqual(searchable.wrong_answers(standby, db, {**ALL, **PARTITIONED_QUESTIONS}), [])
        with self.subTest("by the indexes"):
            for index, join in (("users_(unique|hash)", "logins AS l JOIN users AS u ON u.email = l.email WHERE l.id = 7"),
                                ("logins_hash", "users AS u JOIN logins AS l ON l.email = u.email WHERE u.id = 7"),
                                ("seats_excl", "seats AS a JOIN seats AS b ON b.v = a.v WHERE a.id = 7")):
                self.assertRegex(standby.psql(f"{BY_INDEX} EXPLAIN (COSTS OFF) SELECT FROM {join}", db=db), f"(using|on) {index}")
                self.assertGreater(int(standby.psql(f"{BY_INDEX} SELECT count(*) FROM {join}", db=db)), 0)
        with self.subTest("a constant needs a key"):
            for name in ("literal", "text", "array", "in", "prepared", "generic"):
                error = standby.error(LOOKUPS[name][0], db=db)
                self.assertEqual((error.sqlstate, error.message), ("55000", "no master key is set"), name)
        with self.subTest("an open session, once there is a key"):
            session = self.session(db, cluster=standby)
            session.error("SELECT id FROM users WHERE email = 'user77@example.org';")
            set_key(standby, "main")
            standby.reload()
            self.assertEqual(session.run("SELECT id FROM users WHERE email = 'user77@example.org';"), "77")
            self.assert_lookups(standby, db)

    def test_a_new_index_key(self):
        db = self.database("rotated")
        standby = self.standby_of(db, SCHEMA + FILL + VIEW)
        set_key(standby, "main")
        standby.reload()
        sessions = {}
        for mode in ("auto", "force_generic_plan", "force_custom_plan"):
            session = sessions[mode] = self.session(db, cluster=standby)
            session.run(f"SET enable_seqscan = off; SET plan_cache_mode = {mode}; PREPARE q (text) AS SELECT id FROM users WHERE email = $1;"
                        "PREPARE c AS SELECT id FROM users WHERE email = 'user80@example.org';"
                        "PREPARE j AS SELECT count(*) FROM logins AS l JOIN users AS u ON u.email = l.email;")

        def assert_sessions(step):
            for mode, session in sessions.items():
                for sql, answer in (("EXECUTE q ('user77@example.org');", "77"), ("EXECUTE c;", "80"), ("EXECUTE j;", right),
                                    ("SELECT id FROM users WHERE email = 'user78@example.org';", "78")):
                    self.assertEqual(session.run(sql), answer, f"{step}, {mode}: {sql}")

        right = self.cluster.psql("SELECT count(*) FROM logins AS l JOIN users AS u ON u.plain = l.plain", db=db)
        assert_sessions("before")
        with self.subTest("right after the exchange, before anything is tagged anew"):
            self.cluster.psql("SELECT prism_crypt._replace_index_key('default', 'leaked')", db=db)
            self.cluster.wait_caught_up(standby)
            assert_sessions("exchanged")
            self.assert_lookups(standby, db)
        with self.subTest("half way"):
            self.cluster.psql("UPDATE users SET email = reencrypt_field(email) WHERE id % 2 = 0; UPDATE logins SET email = reencrypt_field(email) WHERE id % 3 = 0", db=db)
            self.cluster.wait_caught_up(standby)
            assert_sessions("half way")
            self.assert_lookups(standby, db)
        with self.subTest("half way, and the key is taken away"):
            set_key(standby, None)
            standby.reload()
            self.assertEqual(standby.error("SELECT count(*) FROM logins AS l JOIN users AS u ON u.email = l.email", db=db).sqlstate, "55000")
            set_key(standby, "main")
            standby.reload()
        with self.subTest("when it is done"):
            self.cluster.psql("CALL prism_crypt.rotate_index_key(); REFRESH MATERIALIZED VIEW busy; CALL prism_crypt.rotate_index_key()", db=db)
            self.cluster.wait_caught_up(standby)
            assert_sessions("done")
            self.assert_lookups(standby, db)
            # Inner pages of btrees keep old tags, which more plans of 18 meet: without a key they have to go.
            self.cluster.psql("REINDEX TABLE users; REINDEX TABLE logins", db=db)
            self.cluster.wait_caught_up(standby)
            set_key(standby, None)
            standby.reload()
            self.assertEqual(searchable.wrong_answers(standby, db, ALL), [])
            set_key(standby, "main")
            standby.reload()
        with self.subTest("promotion"):
            self.cluster.psql("SELECT prism_crypt._replace_index_key('default', 'just before the end'); UPDATE users SET email = reencrypt_field(email) WHERE id % 3 = 0", db=db)
            self.cluster.wait_caught_up(standby)
            self.cluster.stop()
            self.addCleanup(self.cluster.start)
            standby.psql("SELECT pg_promote()")
            assert_sessions("promoted")
            self.assert_lookups(standby, db)
            self.assertEqual(searchable.wrong_violations(standby, db), [])
            standby.psql("CALL prism_crypt.rotate_index_key(); REFRESH MATERIALIZED VIEW busy; CALL prism_crypt.rotate_index_key()", db=db)
            self.assert_lookups(standby, db)
            self.assertEqual(standby.psql("SELECT generation, retagged_at > created_at FROM prism_crypt.index_key_status WHERE state = 'active'", db=db), "3|t")


class SearchStandbyPreloaded(SearchStandby):
    preload = True


if __name__ == "__main__":
    unittest.main()
