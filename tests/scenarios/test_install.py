"""The shortest way through: install, make a key, rotate, seal, open, remove."""

import unittest

from harness import Cluster, canaries


class Install(unittest.TestCase):
    preload = False

    @classmethod
    def setUpClass(cls):
        cls.cluster = Cluster(f"install-{'preload' if cls.preload else 'plain'}", preload=cls.preload)
        cls.addClassCleanup(cls.cluster.close)
        key_file = cls.cluster.write_file("master.key", canaries.KEYS["main"] + "\n")
        cls.cluster.configure({"prism_crypt.master_key_file": f"'{key_file}'"})
        cls.cluster.start()

    def test_from_create_to_drop(self):
        c, db = self.cluster, self.cluster.create_db("install")
        c.psql("CREATE EXTENSION prism_crypt", db=db)
        self.assertEqual(c.psql("SELECT length(key), key_bytes, algorithm FROM generate_key()", db=db), "64|32|AES-256-GCM")
        version = int(c.psql("SELECT prism_crypt.rotate_key()", db=db))
        self.assertEqual(
            c.psql("SELECT decrypt_field(encrypt_field('árvíztűrő'))", db=db), "árvíztűrő"
        )
        c.psql("CREATE TABLE person (id int PRIMARY KEY, email encrypted_text)", db=db)
        email = canaries.PLAINTEXTS["email"]
        c.psql(f"COPY person FROM STDIN;\n1\t{email}\n\\.\n", db=db)
        self.assertEqual(c.psql("SELECT decrypt_field(email), key_version(email) FROM person", db=db), f"{email}|{version}")
        self.assertTrue(c.psql("SELECT email FROM person", db=db).startswith(f"prism:v{version}:"))
        self.assertEqual(c.error("DROP EXTENSION prism_crypt", db=db).sqlstate, "2BP01")
        # Keys are in the way as well: values may be in bytea columns, which depend on nothing.
        self.assertEqual(c.error("DROP TABLE person; DROP EXTENSION prism_crypt", db=db).detail, "view prism_crypt.carried_keys depends on type prism_crypt.key_rows")
        c.psql("DROP EXTENSION prism_crypt CASCADE", db=db)
        self.assertEqual(c.psql("SELECT count(*) FROM pg_namespace WHERE nspname = 'prism_crypt'", db=db), "0")


class InstallPreloaded(Install):
    preload = True


if __name__ == "__main__":
    unittest.main()
