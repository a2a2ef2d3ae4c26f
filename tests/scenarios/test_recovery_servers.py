"""docs/recovery.md, its commands run in order: a server with other keys, and a server as it was at another time."""

import json
import unittest

from recovery_steps import FINGERPRINT, READ, SCHEMA, Recovery


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
