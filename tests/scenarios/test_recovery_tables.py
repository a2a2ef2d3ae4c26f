"""docs/recovery.md, its commands run in order: what takes tables out and brings them back."""

import json
import unittest

from recovery_steps import FINGERPRINT, READ, SCHEMA, Recovery


class FullDisk(Recovery):
    VISITS = """
        CREATE ROLE nurse;
        CREATE TABLE visits (id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY, patient int NOT NULL DEFAULT 1 CHECK (patient > 0), note encrypted_text('health', 'searchable'),
          length int GENERATED ALWAYS AS (patient * 2) STORED);
        INSERT INTO visits (patient, note) SELECT g % 50 + 1, 'note ' || g FROM generate_series(1, 3000) AS g;
        CREATE INDEX visits_note ON visits USING hash (note);
        CREATE FUNCTION quiet() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RETURN NEW; END $$;
        CREATE TRIGGER quiet BEFORE INSERT ON visits FOR EACH ROW EXECUTE FUNCTION quiet();
        GRANT SELECT, INSERT ON visits TO nurse; COMMENT ON TABLE visits IS 'who came when'"""
    CONTENT = "SELECT md5(string_agg(concat_ws('|', id, patient, note::text, length), E'\\n' ORDER BY id)), count(*) FROM visits"
    SHAPE = """
        SELECT column_name, data_type, column_default, is_nullable, identity_generation, generation_expression FROM information_schema.columns WHERE table_name = 'visits' ORDER BY 1;
        SELECT pg_get_indexdef(indexrelid) FROM pg_index WHERE indrelid = 'visits'::regclass ORDER BY 1;
        SELECT conname, pg_get_constraintdef(oid) FROM pg_constraint WHERE conrelid = 'visits'::regclass ORDER BY 1;
        SELECT tgname FROM pg_trigger WHERE tgrelid = 'visits'::regclass;
        SELECT relacl, obj_description(oid) FROM pg_class WHERE oid = 'visits'::regclass"""

    def test_there_and_back(self):
        self.query(self.VISITS)
        content, shape = self.query(self.CONTENT), self.query(self.SHAPE)
        steps = self.steps("Full disk")
        steps.run("--schema-only")
        steps.run("DROP TABLE visits")
        self.assertEqual(self.query("SELECT to_regclass('visits')"), "")
        self.assertNotIn(b"note 7", (self.backups / "visits.penc").read_bytes())
        if (done := steps.with_tool("prism-crypt verify")) is not None:
            self.assertIn("3000", done.stdout + done.stderr)
        # Meanwhile the data key is rotated away and destroyed, which touches no file.
        self.query("SELECT prism_crypt.rotate_key(); SELECT prism_crypt.destroy_key(1)")
        steps.run("import_encrypted")
        steps.run("setval")
        self.assertEqual(self.query(self.CONTENT), content)
        self.assertEqual(self.query(self.SHAPE), shape)
        self.assertEqual(self.query("SELECT DISTINCT key_version(note) FROM visits"), "2")
        self.assertEqual(self.query("INSERT INTO visits (note) VALUES ('new') RETURNING id"), "3001")
        self.assertEqual(self.query("SET enable_seqscan = off; SELECT id FROM visits WHERE note = 'note 77'"), "77")

    def test_nothing_is_dropped_by_half(self):
        """A view that needs the table; a file that is there already."""
        self.query(self.VISITS + "; CREATE VIEW recent AS SELECT * FROM visits")
        steps = self.steps("Full disk")
        steps.skip("--schema-only")
        failed = steps.run("DROP TABLE visits", check=False)
        self.assertIn("view recent depends on table visits", failed.stderr)
        self.assertNotEqual(failed.returncode, 0)
        self.assertEqual(self.query("SELECT count(*) FROM visits"), "3000")
        self.query("DROP VIEW recent")
        # The file of before is in the way.
        failed = self.steps_again("DROP TABLE visits")
        self.assertIn("already exists", failed.stderr)
        self.assertEqual(self.query("SELECT count(*) FROM visits"), "3000")
        steps.skip("prism-crypt verify", "import_encrypted", "setval")

    def steps_again(self, text):
        again = self.steps("Full disk")
        again.skip("--schema-only")
        failed = again.run(text, check=False)
        self.assertNotEqual(failed.returncode, 0)
        again.skip("prism-crypt verify", "import_encrypted", "setval")
        return failed

    def test_tenants(self):
        """Each under its keyset, and under the importing session's where that is not done."""
        self.query("""
            SELECT prism_crypt.create_keyset('tenant_7'); CREATE TABLE visits (id int PRIMARY KEY, tenant int, note encrypted_text);
            INSERT INTO visits SELECT g, 6 + g % 2, encrypt_field('note ' || g, keyset => (ARRAY['default', 'tenant_7'])[1 + g % 2]) FROM generate_series(1, 100) AS g""")
        keysets = "SELECT tenant, keyset, count(*) FROM visits JOIN prism_crypt.key_status ON version = key_version(note) GROUP BY 1, 2 ORDER BY 1, 2"
        before, notes = self.query(keysets), self.query("SELECT md5(string_agg(note::text, ',' ORDER BY id)) FROM visits")
        self.assertEqual(before, "6|default|50\n7|tenant_7|50")
        for tenant in (6, 7):
            self.query(f"SELECT prism_crypt.export_encrypted('(SELECT * FROM visits WHERE tenant = {tenant})', '{self.backups}/{tenant}.penc')")
        self.query("TRUNCATE visits")
        for tenant, keyset in ((6, "default"), (7, "tenant_7")):
            self.query(f"SET prism_crypt.keyset = '{keyset}'; SELECT prism_crypt.import_encrypted('{self.backups}/{tenant}.penc', target => 'visits', mode => 'append')")
        self.assertEqual(self.query(keysets), before)
        self.assertEqual(self.query("SELECT md5(string_agg(note::text, ',' ORDER BY id)) FROM visits"), notes)
        self.query(f"DELETE FROM visits WHERE tenant = 7; SELECT prism_crypt.import_encrypted('{self.backups}/7.penc', target => 'visits', mode => 'append')")
        self.assertEqual(self.query(keysets), "6|default|50\n7|default|50")

    def test_values_with_a_context(self):
        self.query("""
            CREATE TABLE visits (id int PRIMARY KEY, note encrypted_text); INSERT INTO visits SELECT g, encrypt_field('note ' || g, 'visit ' || g) FROM generate_series(1, 9) AS g;
            CREATE ROLE carrier LOGIN; GRANT SELECT ON visits TO carrier; GRANT pg_write_server_files TO carrier; SELECT prism_crypt.grant_access('carrier', 'export')""")
        notes = "SELECT string_agg(decrypt_field(note, 'visit ' || id), ',' ORDER BY id) FROM visits"
        before = self.query(notes)
        export = f"SELECT prism_crypt.export_encrypted('visits', '{self.backups}/visits.penc')"
        self.refused(export, "the value is bound to a context")
        self.cluster.psql(export, db="clinic", user="carrier")
        self.query("DROP TABLE visits; SELECT prism_crypt.rotate_key()")
        self.query(f"SELECT prism_crypt.import_encrypted('{self.backups}/visits.penc')")
        self.assertEqual(self.query(notes), before)
        # Nothing in the database needs it while the file is away.
        self.query("DROP TABLE visits; SELECT prism_crypt.destroy_key(1)")
        self.query(f"SELECT prism_crypt.import_encrypted('{self.backups}/visits.penc')")
        self.refused(notes, "key version 1 is destroyed")

    def test_a_master_key_that_is_gone(self):
        """The file keeps the key of its day."""
        self.query(self.VISITS)
        content, old = self.query(self.CONTENT), self.query(FINGERPRINT)
        steps = self.steps("Full disk")
        steps.run("--schema-only")
        steps.run("DROP TABLE visits")
        kept = (self.keys / "master.key").read_text(encoding="utf-8")
        self.shell('umask 077; openssl rand -hex 32 > "$KEYS/new.key"; cat "$KEYS/new.key" "$KEYS/master.key" > "$KEYS/both.key"; mv "$KEYS/both.key" "$KEYS/master.key"')
        self.cluster.reload()
        self.query("SELECT prism_crypt.rotate_master_key()")
        self.shell('mv "$KEYS/new.key" "$KEYS/master.key"')
        self.cluster.reload()
        steps.skip("prism-crypt verify")
        failed = steps.run("import_encrypted", check=False)
        self.assertIn(f"DETAIL:  The key of the file is wrapped by the master key {old}, loaded: {self.query(FINGERPRINT)}.", failed.stderr)
        with (self.keys / "master.key").open("a", encoding="utf-8") as file:
            file.write(kept)
        self.cluster.reload()
        self.query(f"SELECT prism_crypt.import_encrypted('{self.backups}/visits.penc', mode => 'empty')")
        self.assertEqual(self.query(self.CONTENT), content)
        steps.skip("setval")


class OneTable(Recovery):
    """Whatever has become of the keys since the dump."""

    def setUp(self):
        super().setUp()
        self.query(SCHEMA)
        self.before = self.query(READ)
        self.cluster.run(["pg_dump", "-Fc", "-f", self.backups / "clinic.dump"], db="clinic")

    def bring_back(self):
        steps = self.steps("One table from a dump")
        steps.run("createdb")
        self.assertEqual(self.query(READ.replace("patients", "patients_then")), self.before)
        steps.run("OVERRIDING")
        self.assertEqual(self.query(READ), self.before)
        self.assertEqual(self.query("SELECT count(*) FROM pg_database WHERE datname = 'clinic_then'"), "0")

    def directly(self):
        """What happens without the document."""
        self.cluster.run(["pg_restore", "-d", "clinic", "--data-only", "--table=patients", self.backups / "clinic.dump"])

    def test_same_keys(self):
        self.query("DELETE FROM patients WHERE id > 100")
        self.bring_back()

    def test_a_destroyed_key(self):
        self.query("SELECT prism_crypt.rotate_key(); CALL prism_crypt.rotate_all(); SELECT prism_crypt.destroy_key(1); TRUNCATE patients")
        self.directly()
        self.refused(READ, "key version 1 is destroyed")
        self.query("TRUNCATE patients")
        self.bring_back()
        self.assertEqual(self.query("SELECT DISTINCT key_version(name) FROM patients"), "2")

    def test_a_database_made_anew(self):
        self.query("DROP EXTENSION prism_crypt CASCADE; DROP TABLE patients, notes; CREATE EXTENSION prism_crypt; SELECT prism_crypt.rotate_key(); " + SCHEMA + "; TRUNCATE patients")
        self.directly()
        self.refused(READ, "Decryption failed (wrong key or corrupted data)")
        self.query("TRUNCATE patients")
        self.bring_back()

    def test_values_with_a_context(self):
        self.query("UPDATE patients SET bound = encrypt_field('bound ' || id, 'row ' || id)")
        self.cluster.run(["pg_dump", "-Fc", "-f", self.backups / "clinic.dump"], db="clinic")
        self.query("SELECT prism_crypt.rotate_key(); CALL prism_crypt.rotate_all(); SELECT prism_crypt.destroy_key(1); UPDATE patients SET bound = NULL")
        steps = self.steps("One table from a dump")
        self.assertIn("the value is bound to a context", steps.run("createdb", check=False).stderr)
        steps.skip("OVERRIDING")
        path = f"{self.backups}/bound.penc"
        self.query(f"SELECT prism_crypt.export_encrypted('(SELECT id, decrypt_field(bound, ''row '' || id) AS bound FROM patients)', '{path}')", db="clinic_then")
        self.query(f"""SELECT prism_crypt.import_encrypted('{path}', target => 'pg_temp.opened');
            UPDATE patients AS p SET bound = encrypt_field(o.bound, 'row ' || p.id) FROM pg_temp.opened AS o WHERE o.id = p.id""")
        self.assertEqual(self.query("SELECT count(*) FROM patients WHERE decrypt_field(bound, 'row ' || id) = 'bound ' || id AND key_version(bound) = 2"), "200")

    def test_another_master_key_since(self):
        old = (self.keys / "master.key").read_text(encoding="utf-8")
        self.shell('(umask 077; openssl rand -hex 32 > "$KEYS/new.key"; cat "$KEYS/new.key" "$KEYS/master.key" > "$KEYS/both.key"); mv "$KEYS/both.key" "$KEYS/master.key"')
        self.cluster.reload()
        self.query("SELECT prism_crypt.rotate_master_key(); DELETE FROM patients WHERE id % 2 = 0")
        self.shell('mv "$KEYS/new.key" "$KEYS/master.key"')
        self.cluster.reload()
        steps = self.steps("One table from a dump")
        failed = steps.run("createdb", check=False)
        self.assertIn("encryption key mismatch", failed.stderr)
        steps.skip("OVERRIDING")
        self.query("DROP DATABASE clinic_then", db="postgres")
        # As the document says.
        with (self.keys / "master.key").open("a", encoding="utf-8") as file:
            file.write(old)
        self.cluster.reload()
        self.bring_back()


class AnotherCluster(Recovery):
    def setUp(self):
        super().setUp()
        self.query(SCHEMA)
        self.other = self.new_cluster(f"{self.cluster.name}-other", key="other", preload=True, start=False)
        self.addCleanup(self.other.close)
        # The document names a host only. These are sockets in directories of their own.
        self.other.port, self.env["OTHER"] = self.cluster.port, str(self.other.socket)
        self.other.start()
        self.other.psql("CREATE DATABASE clinic; CREATE DATABASE empty")

    def test_sealed_anew(self):
        self.query("SELECT prism_crypt.rotate_key(); CALL prism_crypt.rotate_all()")
        self.query("CREATE EXTENSION prism_crypt; SELECT prism_crypt.rotate_key()", self.other)
        before = self.query(READ)
        steps = self.steps("Another cluster")
        self.assertIn('"key_source": "given"', steps.says("journey.key"))
        key = self.key_in(self.backups / "journey.key")
        self.assertEqual(steps.says("import_encrypted").splitlines()[-1], "1|default")
        self.assertFalse((self.backups / "journey.key").exists())
        self.assertEqual(self.query(READ, self.other), before)
        for cluster in (self.cluster, self.other):
            self.assertFalse(key in cluster.log(), cluster.name)
        steps.skip("pg_dump")

    def test_bytes(self):
        self.query("CREATE TABLE scans AS SELECT 1 AS id, encrypt_bytes('page') AS page; SELECT prism_crypt.rotate_key(); CALL prism_crypt.rotate_batch('scans', 'page')")
        self.query("CREATE EXTENSION prism_crypt; SELECT prism_crypt.rotate_key()", self.other)
        for name, source in (("raw", "scans"), ("opened", "(SELECT id, decrypt_bytes(page) AS page FROM scans)")):
            self.query(f"SELECT prism_crypt.export_encrypted('{source}', '{self.backups}/{name}.penc', key => '{'07' * 32}')")
        self.query(f"SELECT prism_crypt.import_encrypted('{self.backups}/raw.penc', key => '{'07' * 32}')", self.other)
        self.refused("SELECT decrypt_bytes(page) FROM scans", "key version 2 does not exist", self.other)
        self.query(f"""SELECT prism_crypt.import_encrypted('{self.backups}/opened.penc', key => '{'07' * 32}', target => 'pg_temp.opened');
            TRUNCATE scans; INSERT INTO scans SELECT id, encrypt_bytes(page) FROM pg_temp.opened""", self.other)
        self.assertEqual(self.query("SELECT convert_from(decrypt_bytes(page), 'UTF8'), key_version(page) FROM scans", self.other), "page|1")

    def test_ciphertext_travels(self):
        """By a role that may not decrypt: it is of no use there, until the keys have come as well."""
        before = self.query(READ)
        self.query("""CREATE ROLE carrier LOGIN; GRANT SELECT ON patients TO carrier; SELECT prism_crypt.grant_access('carrier', 'export');
            GRANT pg_write_server_files TO carrier""")
        exported = self.cluster.psql(f"SELECT prism_crypt.export_encrypted('patients', '{self.backups}/c.penc', key => '{'07' * 32}')", db="clinic", user="carrier")
        self.assertTrue(json.loads(exported)["success"])
        take = f"SELECT prism_crypt.import_encrypted('{self.backups}/c.penc', key => '{'07' * 32}')"
        self.query("CREATE EXTENSION prism_crypt; " + take, self.other)
        self.refused(READ, "key version 1 does not exist", self.other)
        self.query("SELECT prism_crypt.rotate_key()", self.other)
        self.refused(READ, "Decryption failed (wrong key or corrupted data)", self.other)
        steps = self.steps("Another cluster")
        steps.skip("journey.key", "import_encrypted")
        self.query("CREATE EXTENSION prism_crypt", self.other, db="empty")
        steps.run("pg_dump")
        self.query(take, self.other, db="empty")
        self.refused(READ, "encryption key mismatch", self.other, db="empty")
        path = self.other.write_file("master.key", self.key_in(self.keys / "master.key"))
        self.other.configure({"prism_crypt.master_key_file": f"'{path}'"})
        self.other.reload()
        self.assertEqual(self.query(READ, self.other, db="empty"), before)
        # A database with keys of its own.
        again = self.steps("Another cluster")
        again.skip("journey.key", "import_encrypted")
        self.other.psql("DROP DATABASE empty; CREATE DATABASE empty")
        self.query("CREATE EXTENSION prism_crypt; SELECT prism_crypt.rotate_key()", self.other, db="empty")
        failed = again.run("pg_dump", check=False)
        self.assertIn("duplicate key value", failed.stderr)


class PointInTime(Recovery):
    def test_across_rotations(self):
        self.query(SCHEMA)
        prepared = self.steps("Point in time", MOMENT="")
        prepared.run("archive_mode")
        self.cluster.restart()
        prepared.run("pg_basebackup")
        moments = []
        self.shell('mkdir -m 0700 "$BACKUPS/keys"; install -m 0600 "$KEYS/master.key" "$BACKUPS/keys/old.key"')
        moments.append((self.moment(), self.query(READ), "1", self.query(FINGERPRINT)))
        # A new data key, and all values under it; the old one is destroyed.
        self.query("SELECT prism_crypt.rotate_key(); CALL prism_crypt.rotate_all(); SELECT prism_crypt.destroy_key(1); UPDATE patients SET name = 'second' WHERE id = 1")
        moments.append((self.moment(), self.query(READ), "2", self.query(FINGERPRINT)))
        # A new master key.
        self.shell('(umask 077; openssl rand -hex 32 > "$KEYS/new.key"; cat "$KEYS/new.key" "$KEYS/master.key" > "$KEYS/both.key"); mv "$KEYS/both.key" "$KEYS/master.key"')
        self.cluster.reload()
        self.query("SELECT prism_crypt.rotate_master_key(); UPDATE patients SET name = 'third' WHERE id = 1")
        self.shell('mv "$KEYS/new.key" "$KEYS/master.key"')
        self.cluster.reload()
        moments.append((self.moment(), self.query(READ), "2", self.query(FINGERPRINT)))
        self.assertNotEqual(moments[1][3], moments[2][3])
        self.assertEqual(len({read for _, read, *_ in moments}), 3)
        self.query("DROP TABLE patients")
        last = self.query("SELECT pg_walfile_name(pg_switch_wal())")
        self.cluster.wait_for(f"SELECT last_archived_wal >= '{last}' FROM pg_stat_archiver")
        prepared.skip("SCRATCH.key", "recovery.signal", "rotate_master_key")
        for moment, read, version, fingerprint in moments:
            with self.subTest(moment):
                self.come_back(moment, read, version, fingerprint)

    def moment(self):
        """A time that is after everything that was committed, and before everything that will be."""
        return self.query("SELECT clock_timestamp()")

    def come_back(self, moment, read, version, fingerprint):
        steps = self.steps("Point in time", MOMENT=moment)
        steps.skip("archive_mode", "pg_basebackup")
        steps.run("SCRATCH.key")
        steps.run("recovery.signal")
        self.assertEqual(self.query("SELECT pg_is_in_recovery()", self.scratch), "f")
        self.assertEqual(self.query("SELECT DISTINCT master_fingerprint FROM prism_crypt.key_status WHERE state <> 'destroyed'", self.scratch), fingerprint)
        self.assertEqual(self.query("SELECT DISTINCT key_version(name) FROM patients", self.scratch), version)
        self.assertEqual(self.query(READ, self.scratch), read)
        # With today's key alone, only today's.
        alone = f"SET prism_crypt.master_key_file = '{self.keys}/master.key'; {READ}"
        if fingerprint == self.query(FINGERPRINT):
            self.assertEqual(self.query(alone, self.scratch), read)
        else:
            self.refused(alone, "encryption key mismatch", self.scratch)
        steps.run("rotate_master_key")
        self.assertEqual(self.query(READ.replace("patients", "patients_then")), read)
        self.assertEqual(self.query(alone, self.scratch), read)
        self.query("DROP TABLE patients_then")
        self.shell('pg_ctl -w -D "$SCRATCH" stop -m immediate; rm -r "$SCRATCH" "$SCRATCH.log" "$SCRATCH.key" "$BACKUPS/patients-then.penc"')


if __name__ == "__main__":
    unittest.main()
