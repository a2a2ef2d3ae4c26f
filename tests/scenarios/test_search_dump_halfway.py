"""Dumps that were taken while values were tagged anew: a restore is right, or says what it lacks; never silently wrong."""

import unittest

import searchable
from harness import PgError
from harness.scenario import Scenario, set_key
from searchable import FILL, QUESTIONS, SCHEMA, VIEW, VIEW_QUESTIONS

ALL = {**QUESTIONS, **VIEW_QUESTIONS}
HALFWAY = """
    SELECT prism_crypt._replace_index_key('default', NULL);
    UPDATE users SET email = reencrypt_field(email) WHERE id % 2 = 0;
    UPDATE logins SET email = reencrypt_field(email) WHERE id % 3 = 0;
    UPDATE lists SET v = ARRAY[reencrypt_field(v[1]), v[2]] WHERE id % 2 = 0;
"""
TOO_EARLY = "indexes on encrypted values were built before their index key was there, and are invalid: "
INVALID = "SELECT string_agg(i.indexrelid::regclass::text, ' ' ORDER BY i.indexrelid::regclass::text) FROM pg_index AS i JOIN prism_crypt._search_indexes() AS s ON s.index = i.indexrelid WHERE NOT indisvalid"


class SearchDumpHalfway(Scenario):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.db = cls.database("source")
        cls.cluster.psql(SCHEMA + FILL + VIEW + HALFWAY, db=cls.db)
        cls.target = cls.new_cluster("search_dump_halfway-target")
        cls.custom, cls.directory = cls.cluster.home / "custom", cls.cluster.home / "directory"
        cls.cluster.run(["pg_dump", "-Fc", "-f", cls.custom], db=cls.db)
        cls.cluster.run(["pg_dump", "-Fd", "-f", cls.directory], db=cls.db)
        cls.without_keys = cls.cluster.home / "without keys"
        cls.cluster.run(["pg_dump", "-Fc", "-f", cls.without_keys, "--exclude-table=prism_crypt.carried_keys"], db=cls.db)

    def tearDown(self):
        set_key(self.target, "main")
        self.target.reload()

    def restore(self, db, *options, check=True):
        return self.target.run(["pg_restore", "-d", db, *(["--exit-on-error"] if check else []), *options], db=db, check=check)

    def assert_right(self, db, violations=True):
        self.assertEqual(searchable.wrong_answers(self.target, db, ALL), [])
        self.assertEqual(searchable.wrong_lookups(self.target, db), [])
        if violations:
            self.assertEqual(searchable.wrong_violations(self.target, db), [])
            self.assertEqual(self.target.psql("INSERT INTO users (id, email) VALUES (900, 'user91@example.org') ON CONFLICT (email) DO NOTHING; "
                                              "SELECT id FROM users WHERE email = 'user91@example.org'", db=db), "91")

    def test_the_source_is_half_way(self):
        self.assertEqual(searchable.wrong_answers(self.cluster, self.db, ALL), [])
        self.assertEqual(
            self.cluster.psql("SELECT get_byte(email::bytea, 19), count(*) FROM users WHERE email IS NOT NULL GROUP BY 1 ORDER BY 1", db=self.db), "1|99\n2|99")

    def test_with_the_key(self):
        db = self.target.create_db("serial")
        self.restore(db, self.custom)
        self.assert_right(db)
        self.target.psql("CALL prism_crypt.rotate_index_key(); REFRESH MATERIALIZED VIEW busy; CALL prism_crypt.rotate_index_key()", db=db)
        self.assertEqual(self.target.psql("SELECT generation, retagged_at IS NOT NULL FROM prism_crypt.index_key_status WHERE state = 'active'", db=db), "2|t")
        self.assert_right(db)

    def test_without_the_key(self):
        """An index over old tags can't be built. It is said, and goes well once there is the key."""
        db = self.target.create_db("keyless")
        set_key(self.target, None)
        self.target.reload()
        for section in ("pre-data", "data"):
            self.restore(db, f"--section={section}", self.custom)
        with self.assertRaises(PgError) as caught:
            self.restore(db, "--section=post-data", "--single-transaction", self.custom)
        self.assertIn("no master key is set", caught.exception.text)
        self.tearDown()
        self.restore(db, "--section=post-data", "--single-transaction", self.custom)
        self.assert_right(db)

    def test_indexes_before_the_keys(self):
        """As a parallel restore may do it where the dump does not carry the keys."""
        db = self.target.create_db("keys last")
        toc = self.target.run(["pg_restore", "-l", self.without_keys]).stdout.splitlines()
        keys = [line for line in toc if " TABLE DATA prism_crypt " in line or " SEQUENCE SET prism_crypt " in line]
        later = [line for line in toc if any(word in line for word in (" users_unique ", " FK CONSTRAINT ", " MATERIALIZED VIEW DATA ", " busy_unique "))]
        lists = {"first": [line for line in toc if line not in keys + later], "keys": keys, "later": later}
        self.assertTrue(all(len(lines) > 2 for lines in lists.values()))
        paths = {name: self.target.write_file(f"list {name}", "\n".join(lines) + "\n", mode=0o644) for name, lines in lists.items()}
        self.restore(db, "-L", paths["first"], self.without_keys)
        with self.subTest("no comparison says that tags of two generations differ"):
            for sql in ("SELECT count(*) FROM users AS u JOIN logins AS l ON u.email = l.email", "SELECT id FROM users WHERE email = (SELECT email FROM users WHERE id = 78)",
                        "CREATE UNIQUE INDEX early ON users (email encrypted_text_unique_ops)"):
                # A hash can't tell; a comparison can.
                error = self.target.error("SET enable_hashjoin = off; SET enable_indexscan = off; SET enable_bitmapscan = off;" + sql, db=db)
                self.assertEqual((error.sqlstate, error.message), ("55000", "the index key of key version 1 is not known"), sql)
                self.assertIn("index_key belong to the data", error.hint)
        # pg_restore shows warnings only if it is asked to.
        done = self.restore(db, "--verbose", "-L", paths["keys"], self.without_keys)
        self.assertIn(TOO_EARLY, done.stderr)
        self.assertEqual(self.target.psql(INVALID, db=db), "lists_hash logins_hash seats_excl users_hash")
        self.restore(db, "-L", paths["later"], self.without_keys)
        self.assert_right(db, violations=False)
        self.target.psql("REINDEX DATABASE \"keys last\"", db=db)
        self.assertEqual(self.target.psql(INVALID, db=db), "")
        self.assert_right(db)

    def test_in_parallel(self):
        for attempt in range(3):
            with self.subTest(attempt):
                db = self.target.create_db(f"parallel {attempt}")
                before = len(self.target.log())
                done = self.restore(db, "-j4", self.directory, check=False)
                missing = self.target.psql("SELECT count(*) FROM pg_class WHERE relname IN ('users_unique', 'busy_unique')", db=db) != "2"
                invalid = self.target.psql(INVALID, db=db)
                # Whatever the order was, what is wrong was said, and no answer is wrong.
                if missing:
                    self.assertNotEqual(done.returncode, 0)
                if invalid:
                    self.assertIn(TOO_EARLY, self.target.log()[before:])
                self.assertEqual(searchable.wrong_answers(self.target, db, QUESTIONS), [])
                self.assertEqual(searchable.wrong_lookups(self.target, db), [])


if __name__ == "__main__":
    unittest.main()
