"""F19: no setting of a database's or a role's owner gets into a dump or a COPY of a table: both are ciphertext, and restore."""

import re
import unittest

from clinic import PATIENTS
from harness import PgError
from ways import FORMS, SECRET, Attack, says

# A mask of the secret, or of anything else of the table.
MASKED = re.compile(r"\*{3}")
SETTERS = {
    "ALTER DATABASE, by its owner": ("db_owner", "ALTER DATABASE attacked {} prism_crypt.output"),
    "ALTER ROLE, by a superuser": ("postgres", "ALTER ROLE {{user}} {} prism_crypt.output"),
    "ALTER ROLE IN DATABASE": ("postgres", "ALTER ROLE {{user}} IN DATABASE attacked {} prism_crypt.output"),
}
DUMPS = {
    "plain": [], "inserts": ["--inserts"], "column inserts": ["--column-inserts"], "rows per insert": ["--rows-per-insert=10"],
    "data only": ["--data-only"], "one table": ["--table=public.patients"], "serializable": ["--serializable-deferrable", "--inserts"],
    "row security": ["--enable-row-security", "--inserts"],
}


class SettingsDump(Attack):
    schema = PATIENTS + """
        ALTER TABLE patients ADD d encrypted_text DEFAULT encrypt_field('x'), ADD a encrypted_text[], ADD p pair;
        UPDATE patients SET a = ARRAY[name], p = ROW(name, 1);
        CREATE MATERIALIZED VIEW m AS SELECT id, to_jsonb(t) AS j FROM patients AS t;
        GRANT SELECT ON ALL TABLES IN SCHEMA public TO decrypt, doctor;
    """

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        # A constant of the type in the catalogs: PostgreSQL writes it by the type's output.
        cls.cluster.psql(f"ALTER TABLE patients ALTER d SET DEFAULT '{SECRET}'", db=cls.db)

    def dump(self, user, *options, **env):
        done = self.cluster.run(["pg_dump", *options], user=user, db=self.db, check=False, text=False, **env)
        return done.stdout.decode("utf-8", "replace") + done.stderr.decode("utf-8", "replace"), done.returncode

    def judge_dump(self, name, text, code=0):
        found = "plaintext in the dump" if any(f in text for f in FORMS) else "masks in the dump" if MASKED.search(text) else "no ciphertext in the dump" if "prism:v1:" not in text else ""
        self.judge(name, found or code and "the dump failed", text[:400] if code else "")

    def set(self, setter, user, mode):
        by, sql = SETTERS[setter]
        sql = sql.format("{}").replace("{user}", user)
        self.cluster.psql(sql.format("SET") + f" = '{mode}'", user=by, db=self.db)
        return lambda: self.cluster.psql(sql.format("RESET"), user=by, db=self.db)

    def test_dumps(self):
        for name, options in DUMPS.items():
            self.judge_dump(f"pg_dump, {name}, nothing set", *self.dump("postgres", *options))
        for mode in ("plaintext", "masked"):
            for setter in SETTERS:
                for user in ("postgres", "doctor", "decrypt"):
                    undo = self.set(setter, user, mode)
                    try:
                        if user == "postgres":
                            shown = self.run_as(user, "SELECT name FROM patients")
                            self.assertTrue(SECRET in shown or MASKED.search(shown), "the setting does not work: the ways prove nothing")
                        ways = DUMPS if (user, mode) == ("postgres", "plaintext") else {k: DUMPS[k] for k in ("one table", "inserts")}
                        for name, options in ways.items():
                            options = options if user == "postgres" or "--table=public.patients" in options else [*options, "--table=public.patients"]
                            self.judge_dump(f"pg_dump, {name}, {mode} by {setter}, as {user}", *self.dump(user, *options))
                    finally:
                        undo()

    def test_archives(self):
        undo = self.set("ALTER DATABASE, by its owner", "postgres", "plaintext")
        self.addCleanup(undo)
        for name, options in (("custom", ["-Fc", "-Z0"]), ("tar", ["-Ft"]), ("custom, inserts", ["-Fc", "-Z0", "--inserts"])):
            path = self.cluster.home / f"archive-{name}"
            done = self.cluster.run(["pg_dump", *options, "-f", path], db=self.db)
            text = self.cluster.run(["pg_restore", "-f", "-", path]).stdout
            self.judge_dump(f"pg_dump, archive, {name}", text + done.stderr)
        for jobs in (1, 3):
            path = self.cluster.home / f"directory-{jobs}"
            self.cluster.run(["pg_dump", "-Fd", "-Z0", f"-j{jobs}", "-f", path], db=self.db)
            self.judge_dump(f"pg_dump, directory, {jobs} jobs", self.cluster.run(["pg_restore", "-f", "-", path]).stdout)
        for name, argv in (("pg_dumpall", ["pg_dumpall", "-l", "postgres"]), ("pg_dumpall, inserts", ["pg_dumpall", "--inserts", "-l", "postgres"])):
            self.judge_dump(name, self.cluster.run(argv).stdout)

    def test_the_name_of_the_client(self):
        """The database's owner can't take pg_dump's name from it."""
        undo = self.set("ALTER DATABASE, by its owner", "postgres", "plaintext")
        self.addCleanup(undo)
        self.cluster.psql(f"ALTER DATABASE {self.db} SET application_name = 'nothing'; ALTER DATABASE {self.db} SET search_path = 'nowhere'", user="db_owner", db=self.db)
        self.addCleanup(self.cluster.psql, f"ALTER DATABASE {self.db} RESET application_name; ALTER DATABASE {self.db} RESET search_path")
        for name in ("one table", "inserts"):
            self.judge_dump(f"pg_dump with another application_name by ALTER DATABASE, {name}", *self.dump("postgres", *DUMPS[name]))
        self.way("a session that calls itself pg_dump", "decrypt", "SET prism_crypt.output = 'plaintext'; SET search_path = public; SELECT name FROM patients", PGAPPNAME="pg_dump")
        self.way("a session that calls itself pg_dumpall", "decrypt", "SET search_path = public; SELECT to_jsonb(t) FROM patients AS t", PGAPPNAME="pg_dumpall")

    def test_copy_of_a_table(self):
        plain = "SET prism_crypt.output = 'plaintext';"
        for user in ("postgres", "doctor", "decrypt"):
            for name, copy in (("", "COPY patients TO STDOUT"), (" csv", "COPY patients TO STDOUT (FORMAT csv)"), (" of columns", "COPY public.patients (name) TO STDOUT")):
                self.way(f"COPY{name} of a table, as {user}", user, f"{plain} {copy}")
            self.way(f"\\copy of a table, as {user}", user, f"{plain}\n\\copy patients to stdout")
        for mode in ("plaintext", "masked"):
            self.way(f"COPY of a table, {mode}, by a role that may mask", "mask", f"SET prism_crypt.output = '{mode}'; COPY patients (id, name) TO STDOUT", lambda said: SECRET in said or MASKED.search(said))
        self.way("COPY of a table in binary", "decrypt", f"{plain} COPY patients TO STDOUT (FORMAT binary)")
        self.control("COPY of a query, by its own statement", "decrypt", f"{plain} COPY (SELECT name FROM patients) TO STDOUT")

    def test_it_restores(self):
        """Whatever the settings were, what was dumped is read again."""
        for mode in ("plaintext", "masked"):
            undo = self.set("ALTER DATABASE, by its owner", "postgres", mode)
            for name, options in (("COPY", []), ("INSERT", ["--inserts"])):
                text = self.cluster.run(["pg_dump", *options], db=self.db).stdout
                db = self.cluster.create_db(f"restored {mode} {name}")
                try:
                    self.cluster.psql(text, db=db)
                    got = self.cluster.psql("SELECT public.decrypt_field(name) FROM public.patients WHERE id = 2", db=db)
                except PgError as error:
                    got = error.message
                self.judge(f"a dump that does not restore, {mode}, {name}", "" if got == SECRET else f"read again: {got}")
            undo()

    def test_the_check_sees_plaintext(self):
        self.control("a query", "postgres", "SET prism_crypt.output = 'plaintext'; SELECT * FROM patients")
        self.control("masks", "postgres", "SET prism_crypt.output = 'masked'; SELECT * FROM patients", says(r"\*{3}"))


if __name__ == "__main__":
    unittest.main()
