"""Exports and imports that are interrupted: nothing is left of them. Disks that are full, two at once, other encodings."""

import json
import os
import pwd
import shutil
import subprocess
import threading
import unittest

from harness import PgError, paths
from harness.scenario import Scenario, kill_backend, wait_until

SLOW = "CREATE FUNCTION slow(anyelement) RETURNS anyelement LANGUAGE plpgsql AS $$ BEGIN PERFORM pg_sleep(0.01); RETURN $1; END $$"


class FilesCrash(Scenario):
    preload = True

    def setUp(self):
        self.db = self.database(self.id().rpartition(".")[2][:60])
        self.directory = self.cluster.home / f"files-{self.db}"
        self.directory.mkdir()
        paths.give_to_server(self.directory)
        self.query(f"{SLOW}; CREATE TABLE t AS SELECT g AS id, ('value ' || g)::encrypted_text AS v, repeat(md5(g::text), 30) AS x FROM generate_series(1, 5000) AS g")

    def query(self, sql):
        return self.cluster.psql(sql, db=self.db)

    def path(self, name="file.penc"):
        return f"{self.directory}/{name}"

    def ends(self, how, call):
        """Begins the call in a session, and ends that once it runs."""
        session = self.session(self.db)
        backend = int(session.run("SELECT pg_backend_pid();"))
        session.start(call)
        wait_until(lambda: self.query(f"SELECT wait_event FROM pg_stat_activity WHERE pid = {backend}") == "PgSleep", "the call does not run")
        if how == "kill":
            kill_backend(backend)
        else:
            self.query(f"SELECT pg_{how}_backend({backend})")
        with self.assertRaises(PgError):
            session.wait()
        self.wait_for_recovery(self.db)

    def test_an_export_that_ends_leaves_no_file(self):
        for how in ("cancel", "terminate", "kill"):
            for options in ("", ", compression => 'zstd'", f", key => '{'07' * 32}', format => 1"):
                with self.subTest(how + options):
                    self.ends(how, f"SELECT prism_crypt.export_encrypted('(SELECT id, v, slow(x) AS x FROM t)', '{self.path()}'{options});")
                    self.assertEqual(os.listdir(self.directory), [])
        # And what was there before stays.
        self.query(f"SELECT prism_crypt.export_encrypted('(SELECT 1 AS a)', '{self.path()}')")
        before = (self.directory / "file.penc").read_bytes()
        self.ends("kill", f"SELECT prism_crypt.export_encrypted('(SELECT slow(id) AS id FROM t)', '{self.path()}', overwrite => true);")
        self.assertEqual(os.listdir(self.directory), ["file.penc"])
        self.assertEqual((self.directory / "file.penc").read_bytes() == before, True)

    def test_an_import_that_ends_leaves_no_table(self):
        self.query(f"SELECT prism_crypt.export_encrypted('t', '{self.path()}')")
        self.query("""CREATE TABLE into_it (LIKE t);
            CREATE FUNCTION wait() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN IF NEW.id > 3000 THEN PERFORM pg_sleep(0.01); END IF; RETURN NEW; END $$;
            CREATE TRIGGER wait BEFORE INSERT ON into_it FOR EACH ROW EXECUTE FUNCTION wait()""")
        for how in ("cancel", "terminate", "kill"):
            with self.subTest(how):
                self.ends(how, f"SELECT prism_crypt.import_encrypted('{self.path()}', target => 'into_it', mode => 'append');")
                self.assertEqual(self.query("SELECT count(*) FROM into_it"), "0")
        # What comes later in the file is wrong, and rows were there already.
        data = bytearray((self.directory / "file.penc").read_bytes())
        data[-100] ^= 1
        (self.directory / "changed").write_bytes(data)
        paths.give_to_server(self.directory / "changed")
        self.query("DROP TRIGGER wait ON into_it")
        for mode, target in (("append", "into_it"), ("new", "fresh")):
            error = self.cluster.error(f"SELECT prism_crypt.import_encrypted('{self.path('changed')}', target => '{target}', mode => '{mode}')", db=self.db)
            self.assertEqual((error.sqlstate, error.message), ("39000", "Decryption failed (wrong key or corrupted data)"))
        self.assertEqual(self.query("SELECT count(*), to_regclass('fresh') FROM into_it"), "0|")

    def test_two_exports_to_one_path(self):
        call = f"SELECT prism_crypt.export_encrypted('(SELECT slow(id) AS id FROM t WHERE id < 50)', '{self.path()}')"
        results = []
        threads = [threading.Thread(target=lambda: results.append(self.cluster.run_psql(call, db=self.db, check=False, verbose=True))) for _ in range(3)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        self.assertEqual(sorted(result.returncode == 0 for result in results), [False, False, True])
        self.assertEqual(sum("58P02" in result.stderr for result in results), 2)
        self.assertEqual(os.listdir(self.directory), ["file.penc"])
        self.assertEqual(json.loads(self.query(f"SELECT prism_crypt.import_encrypted('{self.path()}', target => 'back')"))["rows"], 49)

    @unittest.skipUnless(os.geteuid() == 0, "needs root")
    def test_a_full_disk(self):
        disk = self.directory / "disk"
        disk.mkdir()
        if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", disk], capture_output=True).returncode:
            self.skipTest("no file system can be mounted here")
        self.addCleanup(subprocess.run, ["umount", disk], check=True)
        paths.give_to_server(disk)
        for options in ("", ", compression => 'zstd'", f", key => '{'07' * 32}', format => 1"):
            with self.subTest(options):
                error = self.cluster.error(f"SELECT prism_crypt.export_encrypted('t', '{disk}/file'{options})", db=self.db)
                self.assertEqual((error.sqlstate, error.message), ("53100", f'could not write file "{disk}/file"'))
                self.assertEqual((os.listdir(disk), shutil.disk_usage(disk).used), ([], 0))

    @unittest.skipUnless(os.geteuid() == 0 and shutil.which("mount.exfat-fuse") and shutil.which("mkfs.exfat"), "needs root and exfat-fuse")
    def test_a_disk_without_links(self):
        """Nor has it files without a name, or renaming that replaces nothing."""
        image, disk = self.directory / "image", self.directory / "disk"
        disk.mkdir()
        with image.open("wb") as file:
            file.truncate(16 << 20)
        subprocess.run(["mkfs.exfat", image], capture_output=True, check=True)
        loop = subprocess.run(["losetup", "--find", "--show", image], capture_output=True, text=True)
        if loop.returncode:
            self.skipTest("no image can be mounted here")
        device, server = loop.stdout.strip(), pwd.getpwnam(paths.SERVER_USER)
        self.addCleanup(subprocess.run, ["losetup", "--detach", device], check=True)
        if subprocess.run(["mount.exfat-fuse", "-o", f"allow_other,uid={server.pw_uid},gid={server.pw_gid}", device, disk], capture_output=True).returncode:
            self.skipTest("no file system can be mounted here")
        self.addCleanup(subprocess.run, ["umount", disk], check=True)
        self.assertRaises(OSError, os.open, disk, os.O_TMPFILE | os.O_WRONLY, 0o600)
        path = f"{disk}/file"
        self.query(f"SELECT prism_crypt.export_encrypted('t', '{path}')")
        self.assertEqual(self.cluster.error(f"SELECT prism_crypt.export_encrypted('t', '{path}')", db=self.db).sqlstate, "58P02")
        self.query(f"SELECT prism_crypt.export_encrypted('t', '{path}', overwrite => true)")
        self.assertEqual(os.listdir(disk), ["file"])
        self.assertEqual(json.loads(self.query(f"SELECT prism_crypt.import_encrypted('{path}', target => 'back')"))["rows"], 5000)
        # Its room ends.
        error = self.cluster.error(f"SELECT prism_crypt.export_encrypted('(SELECT a.* FROM t AS a, generate_series(1, 3))', '{disk}/large')", db=self.db)
        self.assertEqual((error.sqlstate, error.message, os.listdir(disk)), ("53100", f'could not write file "{disk}/large"', ["file"]))

    def test_a_directory_that_is_closed(self):
        os.chmod(self.directory, 0o500)
        self.addCleanup(os.chmod, self.directory, 0o700)
        error = self.cluster.error(f"SELECT prism_crypt.export_encrypted('t', '{self.path()}')", db=self.db)
        self.assertEqual((error.sqlstate, error.message), ("42501", f'could not create file "{self.path()}"'))

    def test_other_encodings(self):
        self.cluster.psql("CREATE DATABASE latin TEMPLATE template0 ENCODING 'LATIN1' LOCALE 'C'")
        for sql in ("CREATE EXTENSION prism_crypt", "SELECT prism_crypt.rotate_key()"):
            self.cluster.psql(sql, db="latin")
        self.query("CREATE TABLE words (a text, \"ö\" encrypted_text); INSERT INTO words VALUES ('Ärger', 'Grüße'), (E'\\t', NULL)")
        self.query(f"SELECT prism_crypt.export_encrypted('words', '{self.path()}', key => '{'07' * 32}')")
        key = f", key => '{'07' * 32}'"
        self.cluster.psql(f"SELECT prism_crypt.import_encrypted('{self.path()}'{key}, target => 'words')", db="latin")
        self.assertEqual(self.cluster.psql("SELECT a, \"ö\"::text, octet_length(a) FROM words WHERE \"ö\" IS NOT NULL", db="latin", PGCLIENTENCODING="UTF8"), "Ärger|Grüße|5")
        self.cluster.psql(f"SELECT prism_crypt.export_encrypted('words', '{self.path('back')}'{key})", db="latin")
        self.query(f"SELECT prism_crypt.import_encrypted('{self.path('back')}'{key}, target => 'again')")
        self.assertEqual(self.query("SELECT count(*) FROM words AS w JOIN again AS g ON (w.a, w.\"ö\"::text) IS NOT DISTINCT FROM (g.a, g.\"ö\"::text)"), "2")
        self.query("INSERT INTO words VALUES ('山', '田')")
        self.query(f"SELECT prism_crypt.export_encrypted('words', '{self.path('wide')}'{key})")
        error = self.cluster.error(f"SELECT prism_crypt.import_encrypted('{self.path('wide')}'{key}, target => 'wide')", db="latin")
        self.assertEqual(error.sqlstate, "22P05")

    def test_partitions_and_many_rows(self):
        self.query("""CREATE TABLE p (id int, v encrypted_text) PARTITION BY RANGE (id); CREATE TABLE p1 PARTITION OF p FOR VALUES FROM (0) TO (60000);
            CREATE TABLE p2 PARTITION OF p DEFAULT; INSERT INTO p SELECT g, 'v' || g FROM generate_series(1, 100000) AS g; CREATE TABLE empty (a int)""")
        self.assertEqual(json.loads(self.query(f"SELECT prism_crypt.export_encrypted('p', '{self.path()}')"))["rows"], 100000)
        self.query(f"CREATE TABLE q (LIKE p) PARTITION BY HASH (id); CREATE TABLE q0 PARTITION OF q FOR VALUES WITH (modulus 2, remainder 0); CREATE TABLE q1 PARTITION OF q FOR VALUES WITH (modulus 2, remainder 1)")
        self.query(f"SELECT prism_crypt.import_encrypted('{self.path()}', target => 'q', mode => 'empty')")
        self.assertEqual(self.query("SELECT count(*), count(*) FILTER (WHERE v::text = 'v' || id) FROM q"), "100000|100000")
        self.query(f"SELECT prism_crypt.export_encrypted('empty', '{self.path('empty')}'); SELECT prism_crypt.import_encrypted('{self.path('empty')}', target => 'empty_again')")
        self.assertEqual(self.query("SELECT count(*) FROM empty_again"), "0")


if __name__ == "__main__":
    unittest.main()
