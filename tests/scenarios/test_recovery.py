"""docs/recovery.md, its commands run in order: the drill, a lost key, a stolen key."""

import re
import unittest

from harness import paths
from harness.snippets import sections
from recovery_steps import DOCUMENT, FINGERPRINT, READ, SCHEMA, Recovery


class Document(unittest.TestCase):
    def test_every_section_is_run(self):
        headings = {heading for heading, *_, options, _ in sections(DOCUMENT, ("sh", "sql")) if "settings" not in options}
        here = "".join(path.read_text(encoding="utf-8") for path in (paths.ROOT / "tests/scenarios").glob("test_recovery*.py"))
        self.assertEqual({heading for heading in headings if f'self.steps("{heading}"' not in here}, set())
        self.assertGreater(len(headings), 8)

    def test_links_lead_somewhere(self):
        text = DOCUMENT.read_text(encoding="utf-8")
        anchors = {re.sub(r"[^\w -]", "", heading).lower().replace(" ", "-") for heading in re.findall(r"^## (.*)$", text, re.M)}
        self.assertEqual(set(re.findall(r"\]\(#([^)]+)\)", text)) - anchors, set())


class RestoreDrill(Recovery):
    def restored(self, key="master.key"):
        """The steps of the drill up to the restored database: those that are left."""
        self.shell(f'mkdir -m 0700 "$BACKUPS/keys"; install -m 0600 "$KEYS/{key}" "$BACKUPS/keys/2026-01-01.key"')
        steps = self.steps("Restore drill")
        steps.run("pg_dump -Fc")
        # From here on nothing that the live server has is of use.
        self.cluster.stop()
        steps.run("initdb")
        self.assertIn('role "postgres" already exists', (done := steps.run("globals.sql")).stderr)
        self.assertEqual(done.stderr.count("ERROR"), 1, done.stderr)
        return steps

    def finish(self, steps):
        self.assert_no_key_is_shown()
        steps.run("shred")
        self.assertFalse(self.scratch.data.exists())
        self.assertRegex((self.backups / "drills").read_text(encoding="utf-8"), r"^\d{4}-\d\d-\d\d clinic restored and read\n$")

    def test_drill(self):
        self.query(SCHEMA + """
            SELECT prism_crypt.create_keyset('tenant'); UPDATE patients SET name = encrypt_field('of a tenant', keyset => 'tenant') WHERE id = 7;
            UPDATE patients SET bound = encrypt_field('bound', 'row ' || id); SELECT prism_crypt.rotate_key();
            CREATE FUNCTION stop() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE 'not on a copy'; END $$;
            CREATE TRIGGER stop BEFORE UPDATE ON patients FOR EACH ROW EXECUTE FUNCTION stop()""")
        before = self.query(READ)
        steps = self.restored()
        self.assertEqual(self.query(READ, self.scratch), before)
        self.assertEqual(steps.says("active_keys_unlock"), "yes")
        self.assertNotIn("WARNING", steps.run("rotate_all").stderr)
        self.assertEqual(steps.says("census"), "")
        self.assertEqual(self.query(READ, self.scratch), before)
        self.finish(steps)

    def test_what_the_drill_finds(self):
        """A value that was spoilt, one that only a column of bytes has, a constant, a copy."""
        self.query(SCHEMA + """
            UPDATE patients SET name = overlay(name::bytea PLACING '\\x0000' FROM octet_length(name::bytea) - 1)::encrypted_text WHERE id = 3;
            CREATE TABLE scans (page bytea); INSERT INTO scans VALUES (encrypt_bytes('page'));
            CREATE TABLE constants (v encrypted_text DEFAULT 'unknown'); CREATE MATERIALIZED VIEW copies AS SELECT body FROM notes""")
        steps = self.restored()
        self.assertEqual(steps.says("active_keys_unlock"), "yes")
        self.assertRegex(steps.run("rotate_all").stderr, r"WARNING: .*public.patients: values that can't be read, left as they are: 1\n")
        said = steps.says("census")
        self.assertEqual({line.split("|")[1] for line in said.splitlines()},
                         {"public.patients.name", "public.scans.page", "public.constants.v", "public.copies.body"}, said)
        # What can be brought under the new keys.
        self.query("REFRESH MATERIALIZED VIEW copies; CALL prism_crypt.rotate_batch('scans', 'page')", self.scratch)
        again = self.steps("Restore drill")
        again.skip("pg_dump", "initdb", "globals.sql", "active_keys_unlock", "rotate_all")
        self.assertEqual({line.split("|")[1] for line in again.says("census").splitlines()}, {"public.patients.name", "public.constants.v"})
        again.skip("shred")
        self.finish(steps)

    def test_the_wrong_key(self):
        # A constraint that opens values would stop the restore already.
        self.query(SCHEMA + "ALTER TABLE notes DROP CONSTRAINT notes_body_check")
        self.shell('(umask 077; openssl rand -hex 32 > "$KEYS/other.key")')
        fingerprint = self.query(FINGERPRINT)
        steps = self.restored(key="other.key")
        self.assertRegex(steps.says("active_keys_unlock"), r"^encryption key mismatch\. Key version 1 .* wrapped by the master key " + fingerprint)
        self.assertIn("no keyset could be rotated", steps.run("rotate_all", check=False).stderr)
        self.assertIn("public.patients.name", steps.says("census"))
        self.finish(steps)


class LostKey(Recovery):
    def setUp(self):
        super().setUp()
        self.query(SCHEMA)
        self.before = self.query(READ)
        self.fingerprint = self.query(FINGERPRINT)

    def lose(self):
        self.shell('mkdir -p -m 0700 "$BACKUPS/keys"; rm "$KEYS/master.key"; (umask 077; openssl rand -hex 32 > "$BACKUPS/keys/other.key")')

    def assert_what_works(self):
        for sql in ("SELECT id FROM notes", "DELETE FROM notes WHERE id = 2", "VACUUM ANALYZE patients", "SELECT count(*) FROM patients AS a JOIN patients AS b USING (email)",
                    "UPDATE patients SET id = DEFAULT WHERE id = 5", "TABLE prism_crypt.key_status"):
            self.query(sql)
        self.assertTrue(self.query("SELECT body FROM notes WHERE id = 1").startswith("prism:v1:"))
        self.cluster.run(["pg_dump", "-Fc", "-f", self.backups / "keyless.dump"], db="clinic")
        for sql in ("SELECT body::text FROM notes", "INSERT INTO notes VALUES (9, 'nine')", "SELECT id FROM patients WHERE email = '1@example.org'"):
            self.refused(sql, "could not read the master key file")

    def test_found_again(self):
        self.shell('mkdir -m 0700 "$BACKUPS/keys"; install -m 0600 "$KEYS/master.key" "$BACKUPS/keys/z.key"')
        self.lose()
        self.assert_what_works()
        steps = self.steps("Lost key", FOUND=self.backups / "keys/z.key")
        self.assertEqual(steps.says("string_agg"), f"{self.fingerprint}|1")
        steps.skip("environment.key")
        found = dict(line.split("|") for line in steps.says("for file in").splitlines())
        self.assertEqual(found[f"{self.backups}/keys/z.key"], self.fingerprint)
        self.assertNotIn(found[f"{self.backups}/keys/other.key"], ("", self.fingerprint))
        self.assertTrue(steps.says("pg_reload_conf").endswith("(1 row)"))
        self.assertEqual(self.query("SELECT body::text FROM notes WHERE id = 1"), "one")
        steps.skip("rescue.key", "export_encrypted", "after_the_loss")

    def test_found_in_the_environment(self):
        """The server was started with a variable that nobody knows any more."""
        self.cluster.setenv(CLINIC_KEY=self.key_in(self.keys / "master.key"))
        self.cluster.configure({"prism_crypt.master_key_file": "''", "prism_crypt.master_key_env": "'CLINIC_KEY'"})
        self.cluster.restart()
        self.lose()
        steps = self.steps("Lost key")
        steps.skip("string_agg")
        steps.run("environment.key")
        found = dict(line.split("|") for line in steps.says("for file in").splitlines())
        self.assertEqual(found[f"{self.backups}/keys/environment.key"], self.fingerprint)
        steps.skip("pg_reload_conf", "rescue.key", "export_encrypted", "after_the_loss")

    def test_a_session_that_still_reads(self):
        session = self.session("clinic", PGOPTIONS="", BACKUPS=str(self.backups))
        session.run("SELECT count(name::text) FROM patients;")
        self.lose()
        self.refused("SELECT body::text FROM notes", "could not read the master key file")
        steps = self.steps("Lost key")
        steps.skip("string_agg", "environment.key", "for file in", "pg_reload_conf")
        steps.run("rescue.key")
        self.assertIn('"success": true', steps.sql("export_encrypted", session))
        session.close()
        # There is a new master key, and it opens nothing of before.
        steps.run("after_the_loss")
        self.refused("SELECT body::text FROM notes WHERE id = 1", "encryption key mismatch")
        self.query("ALTER TABLE patients RENAME TO lost")
        self.query(f"SELECT prism_crypt.import_encrypted('{self.backups}/patients.penc', key => pg_read_file('{self.backups}/rescue.key'))")
        self.assertEqual(self.query(READ), self.before)

    def test_going_on_without(self):
        lost = self.key_in(self.keys / "master.key")
        self.lose()
        steps = self.steps("Lost key")
        steps.skip("string_agg", "environment.key", "for file in", "pg_reload_conf", "rescue.key", "export_encrypted")
        steps.run("after_the_loss")
        self.refused("SELECT prism_crypt.rotate_key()", "encryption key mismatch")
        self.query("INSERT INTO patients (name, email) VALUES ('new', 'new@example.org'), ('again', '1@example.org')")
        self.assertEqual(self.query("SELECT name::text FROM patients WHERE email = 'new@example.org'"), "new")
        # As the document warns.
        self.assertEqual(self.query("SELECT name::text FROM patients WHERE email = '1@example.org'"), "again")
        self.refused("SELECT name::text FROM patients WHERE id = 1", "encryption key mismatch")
        # It turns up.
        with (self.keys / "master.key").open("a", encoding="utf-8") as file:
            file.write(lost + "\n")
        self.cluster.reload()
        self.assertEqual(self.query(READ.replace("FROM patients", "FROM patients WHERE id <= 200")), self.before)
        self.assertEqual(self.query("SELECT prism_crypt.rotate_master_key()"), "2")


class StolenKey(Recovery):
    def test_stolen(self):
        self.query(SCHEMA + """CREATE TABLE scans (page bytea); SELECT prism_crypt.create_keyset('tenant');
            UPDATE patients SET name = encrypt_field('of a tenant', keyset => 'tenant') WHERE id = 7""")
        before, stolen = self.query(READ), self.query(FINGERPRINT)
        self.cluster.run(["pg_dump", "-Fc", "-f", self.backups / "old.dump"], db="clinic")
        steps = self.steps("Stolen key")
        steps.run("rotate_master_key")
        self.assertEqual(steps.says('mv "$KEYS/new.key"'), "t")
        self.assertNotEqual(self.query(FINGERPRINT), stolen)
        self.assertEqual(self.query("SELECT count(*) FROM prism_crypt.key_status WHERE master_fingerprint = " + f"'{stolen}'"), "0")
        warnings = re.findall(r"WARNING: .*", steps.run("emergency_rotation").stderr)
        self.assertEqual(warnings, ["WARNING:  blind_index() gives other values from now on"])
        self.assertEqual(steps.says("census"), "")
        steps.run("destroy_key")
        self.assertEqual(self.query("SELECT string_agg(state, ',' ORDER BY version) FROM prism_crypt.key_status"), "destroyed,destroyed,active,active")
        self.assertEqual(self.query(READ), before)
        # What the thief reads, and what he does not.
        self.shell('install -m 0600 "$BACKUPS/keys/stolen.key" "$KEYS/master.key"')
        self.cluster.reload()
        for name in ("old", "clinic"):
            db, dump = self.cluster.create_db(f"thief of {name}"), self.backups / f"{name}.dump"
            for what in (["--section=pre-data"], ["--data-only", "--schema=prism_crypt"], ["--data-only", "--table=patients"]):
                self.cluster.run(["pg_restore", "--exit-on-error", "-d", db, *what, dump])
        self.assertEqual(self.query(READ, db="thief of old"), before)
        self.refused(READ, "encryption key mismatch", db="thief of clinic")
        self.assertEqual(self.query("SELECT count(try_decrypt_field(name)), count(*) FROM patients", db="thief of clinic"), "0|200")


class DamagedKey(Recovery):
    DAMAGE = "UPDATE prism_crypt.data_key SET wrapped = overlay(wrapped PLACING '\\x0000' FROM 40) WHERE version = 1"

    def setUp(self):
        super().setUp()
        self.query(SCHEMA)
        self.before = self.query(READ)
        self.cluster.run(["pg_dump", "-Fc", "-f", self.backups / "clinic.dump"], db="clinic")

    def test_data_key(self):
        self.query("SELECT prism_crypt.rotate_key(); " + self.DAMAGE)
        self.assertIn("prism_crypt.data_key from a backup", self.refused(READ, "data key version 1 is damaged").hint)
        steps = self.steps("Damaged key", DAMAGED=1)
        self.assertEqual(steps.says("repair.sql").splitlines()[-1], "UPDATE 1")
        self.assertEqual(self.query(READ), self.before)
        # It is not the active key again.
        self.assertEqual(self.query("SELECT string_agg(state, ',' ORDER BY version) FROM prism_crypt.key_status"), "decrypt_only,active")

    def test_index_key(self):
        """The same with the other table."""
        self.query("UPDATE prism_crypt.index_key SET wrapped = overlay(wrapped PLACING '\\x0000' FROM 40)")
        search = "SELECT name::text FROM patients WHERE email = '7@example.org'"
        self.assertIn("prism_crypt.index_key from a backup", self.refused(search, 'the index key of keyset "default" is damaged').hint)
        self.cluster.create_db("clinic_then")
        for what in (["--section=pre-data"], ["--data-only", "--schema=prism_crypt"]):
            self.cluster.run(["pg_restore", "--exit-on-error", "-d", "clinic_then", *what, self.backups / "clinic.dump"])
        self.query(self.query("""
            SELECT format('UPDATE prism_crypt.index_key SET wrapped = %L, master_fingerprint = %L WHERE keyset = %L AND generation = %s;',
              wrapped, master_fingerprint, keyset, generation) FROM prism_crypt.index_key""", db="clinic_then"))
        self.assertEqual(self.query(search), "name 7")

    def test_a_dump_of_an_older_master_key(self):
        old = self.key_in(self.keys / "master.key")
        self.shell('(umask 077; openssl rand -hex 32 > "$KEYS/new.key"; cat "$KEYS/new.key" "$KEYS/master.key" > "$KEYS/both.key"); mv "$KEYS/both.key" "$KEYS/master.key"')
        self.cluster.reload()
        self.query("SELECT prism_crypt.rotate_master_key(); " + self.DAMAGE)
        self.shell('cp "$KEYS/new.key" "$KEYS/master.key"')
        self.cluster.reload()
        steps = self.steps("Damaged key", DAMAGED=1)
        self.assertIn("active_keys_unlock|encryption key mismatch", steps.says("repair.sql"))
        with (self.keys / "master.key").open("a", encoding="utf-8") as file:
            file.write(old)
        self.cluster.reload()
        self.query("SELECT prism_crypt.rotate_master_key()")
        self.shell('mv "$KEYS/new.key" "$KEYS/master.key"')
        self.cluster.reload()
        self.assertEqual(self.query(READ), self.before)


if __name__ == "__main__":
    unittest.main()
