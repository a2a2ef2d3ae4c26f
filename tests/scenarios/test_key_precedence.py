"""Which source of master keys wins, and who may set one."""

import unittest

from harness import canaries
from key_source import MAIN, READ, Source


class Precedence(Source):
    preload = True

    @classmethod
    def new_cluster(cls, name, **kw):
        return super().new_cluster(name, env={"PRISM_MAIN": MAIN, "PRISM_OTHER": canaries.KEYS["other"]}, **kw)

    def test_the_first_source_that_is_set_wins(self):
        good = self.cluster.write_file("good.key", MAIN)
        wrong = self.cluster.write_file("wrong.key", canaries.KEYS["other"])
        # In the order of precedence: (setting, value with the right key, value with a wrong one).
        sources = [
            ("prism_crypt.master_key", MAIN, canaries.KEYS["other"]),
            ("prism_crypt.master_key_command", f"cat {good}", f"cat {wrong}"),
            ("prism_crypt.master_key_file", good, wrong),
            ("prism_crypt.master_key_env", "PRISM_MAIN", "PRISM_OTHER"),
        ]
        for first in range(len(sources)):
            with self.subTest(sources[first][0]):
                variables = {f"s{i}": ("" if i < first else value if i == first else wrong) for i, (_, value, wrong) in enumerate(sources)}
                settings = "\n".join(f"SELECT set_config('{name}', :'s{i}', false) \\g /dev/null" for i, (name, _, _) in enumerate(sources))
                self.assertEqual(
                    self.cluster.psql(
                        f"{settings}\nSELECT setting FROM prism_crypt.status() WHERE name = 'key_source'; {READ}", db=self.db, vars=variables),
                    f"{sources[first][0]}\nquokka")

    def test_a_broken_source_is_not_passed_over(self):
        self.refused("SET prism_crypt.master_key_command = 'exit 1';", "38000", "the master key command failed")

    def test_a_change_of_source_is_seen_at_once(self):
        session = self.session(self.db)
        self.assertEqual(session.run(READ), "quokka")
        wrong = self.cluster.write_file("wrong.key", canaries.KEYS["other"])
        session.run(f"SET prism_crypt.master_key_file = '{wrong}';")
        self.assertEqual(session.error(READ).message, "encryption key mismatch")
        session.run("RESET prism_crypt.master_key_file;")
        self.assertEqual(session.run(READ), "quokka")
        session.run(f"BEGIN; SET LOCAL prism_crypt.master_key_file = '{wrong}';")
        self.assertEqual(session.error(READ).message, "encryption key mismatch")
        session.run("ROLLBACK;")
        self.assertEqual(session.run(READ), "quokka")


class OrdinaryRoles(Source):
    """The three settings that say where keys are belong to superusers."""

    settings = ("prism_crypt.master_key_command", "prism_crypt.master_key_file", "prism_crypt.master_key_env")

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.cluster.psql("CREATE ROLE ordinary LOGIN; GRANT ALL ON t TO ordinary; SELECT prism_crypt.grant_access('ordinary', 'decrypt')", db=cls.db)

    load = "SELECT key_version(encrypt_field('x')) \\g /dev/null\n"

    def test_cannot_set_them(self):
        for setting in self.settings:
            for statement in (f"SET {setting} = 'x'", f"SELECT set_config('{setting}', 'x', true)", f"RESET {setting}",
                              f"ALTER ROLE ordinary SET {setting} = 'x'"):
                with self.subTest(statement):
                    error = self.cluster.error(self.load + statement, db=self.db, user="ordinary")
                    self.assertEqual(error.sqlstate, "42501")

    def test_cannot_see_them(self):
        for setting in self.settings:
            for statement in (f"SHOW {setting}", f"SELECT current_setting('{setting}')"):
                with self.subTest(statement):
                    self.assertEqual(self.cluster.error(self.load + statement, db=self.db, user="ordinary").sqlstate, "42501")
        listed = "SELECT name FROM pg_settings WHERE name LIKE 'prism_crypt.%' ORDER BY 1"
        self.assertEqual(self.cluster.psql(self.load + listed, db=self.db, user="ordinary"), "prism_crypt.enforce_seal_limit\nprism_crypt.keyset\nprism_crypt.master_key_timeout\nprism_crypt.output\nprism_crypt.result_type")
        self.assertFalse(str(self.cluster.key_file) in self.cluster.psql(self.load + "SHOW ALL", db=self.db, user="ordinary"))

    def test_what_they_set_before_the_library_is_loaded_counts_for_nothing(self):
        trap = self.cluster.home / "trap"
        for setting, value in zip(self.settings, (f"touch {trap}", "/etc/hostname", "HOME")):
            with self.subTest(setting):
                result = self.cluster.run_psql(f"SET {setting} = '{value}'; {READ}", db=self.db, user="ordinary", check=False)
                if not self.preload:
                    self.assertEqual(result.stdout, "quokka\n")
                self.assertFalse(trap.exists(), "a command of an ordinary role was run")

    def test_what_they_store_for_their_role_counts_for_nothing(self):
        trap = self.cluster.home / "trap"
        self.addCleanup(self.cluster.psql, "ALTER ROLE ordinary RESET ALL")
        self.cluster.psql(f"ALTER ROLE ordinary SET prism_crypt.master_key_command = 'touch {trap}'", user="ordinary", db=self.db, check=False)
        self.cluster.psql(READ, db=self.db, user="ordinary", check=False)
        self.assertFalse(trap.exists(), "a command of an ordinary role was run")


class OrdinaryRolesPreloaded(OrdinaryRoles):
    preload = True
    load = ""


if __name__ == "__main__":
    unittest.main()
