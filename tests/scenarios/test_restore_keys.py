"""The wrapped keys on their way through a dump: who sees them, who loads them, how long they are kept, and what is loaded apart."""

import unittest

from harness import PgError
from harness.scenario import Scenario, set_key

TABLE = """
    CREATE TABLE person (id int PRIMARY KEY, v encrypted_text CHECK (length(decrypt_field(v)) < 99));
    INSERT INTO person SELECT n, 'person ' || n FROM generate_series(1, 20) AS n;
"""
READ = "SELECT count(*), min(decrypt_field(v)), max(decrypt_field(v)) FROM person"
CARRIED = "SELECT count(*) FROM prism_crypt.carried_key"


class RestoreKeys(Scenario):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        c = cls.cluster
        cls.db = cls.database("source")
        c.psql(TABLE + "SELECT prism_crypt.rotate_key(); SELECT prism_crypt.create_keyset('other')", db=cls.db)
        cls.custom, cls.schema, cls.person = c.home / "custom", c.home / "schema", c.home / "person"
        c.run(["pg_dump", "-Fc", "-f", cls.custom], db=cls.db)
        c.run(["pg_dump", "--schema-only", "-f", cls.schema], db=cls.db)
        c.run(["pg_dump", "-Fc", "--table=person", "-f", cls.person], db=cls.db)
        cls.read = c.psql(READ, db=cls.db)
        c.psql("CREATE ROLE reader LOGIN; CREATE ROLE loader LOGIN; CREATE ROLE dumper LOGIN; GRANT pg_read_all_data TO dumper")

    def restored(self, name, path=None, cluster=None):
        cluster = cluster or self.cluster
        db = cluster.create_db(name)
        cluster.run(["pg_restore", "--exit-on-error", "-d", db, path or self.custom])
        return db

    def restored_schema(self, name, cluster=None):
        cluster = cluster or self.cluster
        db = cluster.create_db(name)
        cluster.run(["psql", "-Xq", "-v", "ON_ERROR_STOP=1", "-o", "/dev/null", "-f", self.schema], db=db)
        return db

    def test_only_those_who_may_read_the_keys_see_them(self):
        see = "SELECT pg_get_viewdef('prism_crypt.carried_keys'::regclass)"
        self.cluster.psql("GRANT SELECT ON prism_crypt.carried_keys TO reader; GRANT USAGE ON SCHEMA prism_crypt TO reader; "
                          "SELECT prism_crypt.grant_access('reader', 'decrypt'), prism_crypt.grant_access('reader', 'key_admin')", db=self.db)
        wrapped = self.cluster.psql("SELECT encode(wrapped, 'hex') FROM prism_crypt.data_key WHERE version = 1", db=self.db)
        self.assertIn(wrapped, self.cluster.psql(see, db=self.db))
        self.assertIn(wrapped, self.cluster.psql(see, db=self.db, user="dumper"))
        self.assertNotIn(wrapped[:16], self.cluster.psql(f"{see}; TABLE prism_crypt.carried_keys", db=self.db, user="reader"))
        # The catalog holds none.
        self.assertNotIn(wrapped[:16], self.cluster.psql("SELECT ev_action FROM pg_rewrite WHERE ev_class = 'prism_crypt.carried_keys'::regclass", db=self.db))

    def test_only_those_who_may_load_them_do(self):
        text = self.cluster.psql("SELECT keys::text FROM prism_crypt.carried_keys", db=self.db)
        self.cluster.psql("GRANT USAGE ON SCHEMA prism_crypt TO reader", db=self.db)
        load = f"SELECT '{text}'::prism_crypt.key_rows IS NOT NULL; SELECT 1"
        self.cluster.psql(load, db=self.db, user="reader")
        self.assertEqual(self.cluster.psql(CARRIED, db=self.db), "0")
        error = self.cluster.error("SELECT '[1'::prism_crypt.key_rows", db=self.db)
        self.assertEqual(error.sqlstate, "22P02")

    def test_they_are_kept_as_long_as_they_are_needed(self):
        for change in ("rotate_key()", "rotate_master_key()", "destroy_key(1, 'a test', force => true)", "destroy_keyset('other', 'a test', force => true)"):
            with self.subTest(change):
                db = self.restored(f"kept until {change.partition('(')[0]}")
                self.assertEqual(self.cluster.psql(CARRIED, db=db), "5")
                self.cluster.psql(f"SET client_min_messages = error; SELECT prism_crypt.{change}", db=db)
                self.assertEqual(self.cluster.psql("SELECT pg_relation_size('prism_crypt.carried_key')", db=db), "0")
                if change.startswith("destroy_key("):
                    self.assertEqual(self.cluster.error(READ, db=db).message, "key version 1 is destroyed")
                else:
                    self.assertEqual(self.cluster.psql(READ, db=db), self.read)

    def test_what_is_destroyed_stays_so(self):
        """The rows of keys count, not what came with the dump."""
        db = self.restored("disabled")
        self.cluster.psql("SELECT prism_crypt.disable_key(1)", db=db)
        self.assertEqual(self.cluster.error(READ, db=db).message, "key version 1 is disabled")

    def test_a_schema_alone_begins_anew(self):
        """As for a test database with a master key of its own."""
        other = self.new_cluster("restore_keys-other", key="other")
        db = self.restored_schema("begins anew", other)
        self.assertEqual(other.error("SELECT encrypt_field('x')", db=db).message, 'no active data key in keyset "default"')
        self.assertEqual(other.psql("SELECT prism_crypt.rotate_key()", db=db), "1")
        other.psql("INSERT INTO person VALUES (1, 'somebody'); CREATE TABLE s (v encrypted_text('searchable')); INSERT INTO s VALUES ('x')", db=db)
        self.assertEqual(other.psql("SELECT decrypt_field(v) FROM person; SELECT count(*) FROM s WHERE v = 'x'", db=db), "somebody\n1")

    def test_some_tables_with_their_keys(self):
        """The recipe of the documents."""
        db = self.cluster.create_db("some tables")
        self.cluster.psql("CREATE EXTENSION prism_crypt", db=db)
        keys = self.cluster.run(["pg_dump", "--data-only", "--table=prism_crypt.*"], db=self.db).stdout
        self.assertIn("setval('prism_crypt.data_key_version_seq', 3", keys)
        self.cluster.psql(keys, db=db)
        self.cluster.run(["pg_restore", "--exit-on-error", "-d", db, self.person])
        self.assertEqual(self.cluster.psql(READ, db=db), self.read)
        with self.subTest("once more"):
            self.cluster.psql(keys, db=db)
            self.assertEqual(self.cluster.psql("SELECT count(*) FROM prism_crypt.data_key; SELECT count(*) FROM prism_crypt.audit_log", db=db), "3\n" + self.cluster.psql(
                "SELECT count(*) FROM prism_crypt.audit_log", db=self.db))
        self.assertEqual(self.cluster.psql("SELECT prism_crypt.rotate_key()", db=db), "4")
        with self.subTest("other keys of the same versions are an error"):
            other = self.database("other keys")
            self.assertEqual(self.cluster.error(keys, db=other).sqlstate, "23505")

    def test_rows_without_the_sequence(self):
        db = self.cluster.create_db("without the sequence")
        self.cluster.psql("CREATE EXTENSION prism_crypt", db=db)
        keys = self.cluster.run(["pg_dump", "--data-only", "--table=prism_crypt.*"], db=self.db).stdout
        self.cluster.psql("\n".join(line for line in keys.splitlines() if "data_key_version_seq" not in line) + "\n", db=db)
        self.assertEqual(self.cluster.psql("SELECT prism_crypt.rotate_key()", db=db), "4")

    def test_a_role_that_is_no_superuser(self):
        """The recipe of the documents: a superuser makes the extension and loads the keys; the rest takes `load`."""
        db = self.cluster.create_db("by a loader")
        self.cluster.psql("CREATE EXTENSION prism_crypt", db=db)
        self.cluster.run(["pg_restore", "--exit-on-error", "-d", db, "--data-only", "--schema=prism_crypt", self.custom])
        self.cluster.psql("GRANT CREATE ON SCHEMA public TO loader; SELECT prism_crypt.grant_access('loader', 'load'), prism_crypt.grant_access('loader', 'decrypt')", db=db)
        options = ["--exit-on-error", "--no-owner", "--no-comments", "--exclude-schema=prism_crypt"]
        self.cluster.run(["pg_restore", *options, "-d", db, self.custom], user="loader")
        self.assertEqual(self.cluster.psql(READ, db=db), self.read)
        with self.subTest("without the right to load"):
            self.cluster.psql("DROP TABLE person; SELECT prism_crypt.revoke_access('loader', 'load')", db=db)
            with self.assertRaises(PgError) as caught:
                self.cluster.run(["pg_restore", *options, "-d", db, self.custom], user="loader")
            self.assertIn("permission denied to load ciphertext", caught.exception.text)

    def test_without_the_master_key(self):
        """A check that can't be made is an error. One that is not valid for what is there is made for new rows only, and is restored without a key."""
        keyless = self.new_cluster("restore_keys-keyless", key=None)
        db = keyless.create_db("keyless")
        with self.assertRaises(PgError) as caught:
            keyless.run(["pg_restore", "--exit-on-error", "-d", db, self.custom])
        self.assertIn("no master key is set", caught.exception.text)
        source = self.database("not valid")
        self.cluster.psql(TABLE.replace(" CHECK (length(decrypt_field(v)) < 99)", "")
                          + "ALTER TABLE person ADD CHECK (length(decrypt_field(v)) < 99) NOT VALID", db=source)
        self.assertEqual(self.cluster.error("INSERT INTO person VALUES (99, repeat('x', 100))", db=source).sqlstate, "23514")
        path = self.cluster.home / "not valid"
        self.cluster.run(["pg_dump", "-Fc", "-f", path, "--exclude-table=prism_crypt.carried_keys"], db=source)
        db = self.restored("keyless, not valid", path, keyless)
        set_key(keyless, "main")
        keyless.reload()
        self.assertEqual(keyless.psql(READ, db=db), self.read)
        self.assertEqual(keyless.error("INSERT INTO person VALUES (99, repeat('x', 100))", db=db).sqlstate, "23514")


if __name__ == "__main__":
    unittest.main()
