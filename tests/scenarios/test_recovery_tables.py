"""docs/recovery.md, its commands run in order: a full disk, and one table from a dump."""

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

    def test_a_partition(self):
        self.query("""
            CREATE TABLE all_visits (id int, at date, note encrypted_text('searchable'), PRIMARY KEY (id, at)) PARTITION BY RANGE (at); CREATE INDEX ON all_visits USING hash (note);
            CREATE TABLE visits PARTITION OF all_visits FOR VALUES FROM ('2025-01-01') TO ('2026-01-01'); CREATE TABLE now PARTITION OF all_visits DEFAULT;
            INSERT INTO all_visits SELECT g, date '2025-12-01' + g, 'note ' || g FROM generate_series(1, 60) AS g""")
        content = "SELECT tableoid::regclass::text, md5(string_agg(concat_ws('|', id, at, note::text), ',' ORDER BY id)), count(*) FROM all_visits GROUP BY 1 ORDER BY 1"
        before = self.query(content)
        self.query("ALTER TABLE all_visits DETACH PARTITION visits")
        steps = self.steps("Full disk")
        steps.run("--schema-only")
        steps.run("DROP TABLE visits")
        self.assertEqual(len(self.query(content).splitlines()), 1)
        steps.skip("prism-crypt verify")
        steps.run("import_encrypted")
        steps.skip("setval")
        self.query("ALTER TABLE all_visits ATTACH PARTITION visits FOR VALUES FROM ('2025-01-01') TO ('2026-01-01')")
        self.assertEqual(self.query(content), before)
        # With the indexes that it had, and no others.
        self.assertEqual(self.query("SELECT count(*), bool_and(i.inhrelid IS NOT NULL) FROM pg_index LEFT JOIN pg_inherits AS i ON i.inhrelid = indexrelid WHERE indrelid = 'visits'::regclass"),
                         "2|t")

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


if __name__ == "__main__":
    unittest.main()
