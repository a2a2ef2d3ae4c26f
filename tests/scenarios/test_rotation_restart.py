"""After every kind of rotation, a server that was stopped or killed and started again reads everything."""

import unittest

from harness.scenario import CANARY_ROWS, CANARY_TABLE, Scenario, set_key

ROWS = 5000

TABLES = """
    CREATE TYPE pair AS (a int, b encrypted_text);
    CREATE DOMAIN secret AS encrypted_text('personal');
    CREATE TABLE t (id int, v encrypted_text, c encrypted_text);
    CREATE TABLE nested (id int, l encrypted_text[], p pair, j pair[], s secret, ls secret[]);
    CREATE TABLE bytes (id int, b bytea);
    CREATE TABLE parted (id int, v encrypted_text) PARTITION BY RANGE (id);
    CREATE TABLE part1 PARTITION OF parted FOR VALUES FROM (0) TO (3);
    CREATE TABLE part2 PARTITION OF parted FOR VALUES FROM (3) TO (100) PARTITION BY LIST (id);
    CREATE TABLE part3 PARTITION OF part2 DEFAULT;
    CREATE TABLE large (id int, v encrypted_text);
    CREATE TABLE tenants (id int, v encrypted_text)"""

FILL = """
    INSERT INTO t SELECT id, v, encrypt_field(v, 'row ' || id) FROM s;
    INSERT INTO nested SELECT id, ARRAY[NULL, v]::encrypted_text[], ROW(1, v)::pair, ARRAY[NULL, ROW(2, v)::pair], v, ARRAY[v]::secret[] FROM s;
    INSERT INTO bytes SELECT id, encrypt_bytes(convert_to(v, 'UTF8')) FROM s;
    INSERT INTO parted SELECT id, v FROM s;
    INSERT INTO tenants SELECT id, encrypt_field(v, keyset => 'tenant') FROM s;
    INSERT INTO large SELECT g, encrypt_field('row ' || g) FROM generate_series(1, {rows}) AS g"""

# {place: a select of id and plaintext}
PLACES = {
    "column": "SELECT id, decrypt_field(v) FROM t",
    "with a context": "SELECT id, decrypt_field(c, 'row ' || id) FROM t",
    "array": "SELECT id, decrypt_field(l[2]) FROM nested WHERE l[1] IS NULL",
    "composite": "SELECT id, decrypt_field((p).b) FROM nested WHERE (p).a = 1",
    "array of composites": "SELECT id, decrypt_field((j[2]).b) FROM nested WHERE (j[2]).a = 2",
    "domain": "SELECT id, decrypt_field(s) FROM nested",
    "array of a domain": "SELECT id, decrypt_field(ls[1]) FROM nested",
    "bytea": "SELECT id, convert_from(decrypt_bytes(b), 'UTF8') FROM bytes",
    "partitions": "SELECT id, decrypt_field(v) FROM parted",
    "another keyset": "SELECT id, decrypt_field(v) FROM tenants",
}

VERSIONS = """
    SELECT location || '=' || string_agg(key_version::text, '+' ORDER BY key_version) FROM prism_crypt.census()
    WHERE ciphertexts > 0 GROUP BY location ORDER BY location COLLATE "C" """


class RotationRestart(Scenario):
    durable = True
    conf = {"autovacuum": "off"}

    def query(self, sql):
        return self.cluster.psql(sql, db=self.db)

    def use(self, *keys):
        set_key(self.cluster, *keys)
        self.cluster.reload()

    def assert_reads(self, how):
        """Everything opens: in the server as it is, and after its end of that kind."""
        expected = self.query(VERSIONS)
        status = "SELECT version, keyset, state, master_fingerprint, created_at, retired_at, destroyed_at FROM prism_crypt.key_status ORDER BY 1"
        keys = self.query(status)
        for restarted in (False, True):
            if restarted:
                self.cluster.stop(how)
                self.cluster.start()
            for place, select in PLACES.items():
                self.assertEqual(self.query(select + " ORDER BY id") == CANARY_TABLE, True, f"{place}, {'restarted' if restarted else 'running'}")
            self.assertEqual(self.query("SELECT count(*) FROM large WHERE decrypt_field(v) = 'row ' || id"), str(ROWS))
        self.assertEqual(self.query(VERSIONS), expected)
        self.assertEqual(self.query(status), keys)

    def versions(self):
        """{table or table.column: the versions in it}"""
        return dict(line.removeprefix("public.").split("=") for line in self.query(VERSIONS).splitlines())

    def test_after_every_kind(self):
        self.addCleanup(self.use, "main")
        self.db = self.database("every_kind")
        self.query("SELECT prism_crypt.create_keyset('tenant')")
        self.query(f"{TABLES}; CREATE TEMP TABLE s (id int, v text); COPY s FROM STDIN;\n{CANARY_ROWS}\\.\n{FILL.format(rows=ROWS)}")
        all_places = set(self.versions())
        self.assertEqual(len(all_places), 12)

        with self.subTest("nothing yet"):
            self.assert_reads("fast")
        with self.subTest("data key"):
            self.query("SELECT prism_crypt.rotate_key()")
            self.assert_reads("kill")
        with self.subTest("rotate_batch, half"):
            self.query("CALL rotate_batch('large', batch_size => 500, max_batches => 4)")
            self.assert_reads("immediate")
            self.assertEqual(self.versions()["large.v"], "1+3")
            self.assertEqual(self.query("SELECT id, state, rows_done > 0 FROM prism_crypt.progress"), "1|pending|t")
        with self.subTest("rotate_batch, whole"):
            self.query("CALL rotate_batch('large')")
            self.assert_reads("kill")
            self.assertEqual(self.versions()["large.v"], "3")
            self.assertEqual(self.query(f"SELECT id, state, rows_done = {ROWS} FROM prism_crypt.progress"), "1|finished|t")
        with self.subTest("one column, then the others"):
            self.query("CALL rotate_batch('t', 'c')")
            self.assert_reads("fast")
            self.assertEqual((self.versions()["t.v"], self.versions()["t.c"]), ("1", "3"))
            self.query("CALL rotate_batch('t')")
            self.assert_reads("immediate")
            self.assertEqual(self.versions()["t.v"], "3")
        with self.subTest("arrays, composites, domains"):
            self.query("CALL rotate_batch('nested')")
            self.assert_reads("kill")
            self.assertEqual({v for k, v in self.versions().items() if k.startswith("nested")}, {"3"})
        with self.subTest("bytea"):
            self.query("CALL rotate_batch('bytes', 'b')")
            self.assert_reads("kill")
            self.assertEqual(self.versions()["bytes.b"], "3")
        with self.subTest("partitions"):
            self.query("CALL rotate_batch('parted')")
            self.assert_reads("immediate")
            self.assertEqual((self.versions()["part1.v"], self.versions()["part3.v"]), ("3", "3"))
        with self.subTest("destroy_key"):
            self.query("SELECT prism_crypt.destroy_key(1)")
            self.assert_reads("kill")
            self.assertEqual(self.query("SELECT state FROM prism_crypt.key_status WHERE version = 1"), "destroyed")
        with self.subTest("rotate_all of one keyset"):
            self.query("SELECT prism_crypt.rotate_key('tenant'); SELECT prism_crypt.rotate_key()")
            self.query("CALL prism_crypt.rotate_all(keyset => 'tenant')")
            self.assert_reads("kill")
            tenant = self.query("SELECT version FROM prism_crypt.key_status WHERE keyset = 'tenant' AND state = 'active'")
            self.assertEqual((self.versions()["tenants.v"], self.versions()["t.v"]), (tenant, "3"))
        with self.subTest("rotate_all"):
            self.query("CALL prism_crypt.rotate_all()")
            self.assert_reads("kill")
            active = self.query("SELECT version FROM prism_crypt.key_status WHERE keyset = 'default' AND state = 'active'")
            self.assertEqual({v for k, v in self.versions().items() if k not in ("tenants.v", "bytes.b")}, {active})
            self.assertEqual(self.versions()["bytes.b"], "3")
        with self.subTest("master key"):
            self.use("next", "main")
            self.query("SELECT prism_crypt.rotate_master_key()")
            self.use("next")
            self.assert_reads("kill")
        with self.subTest("emergency"):
            self.query("SELECT prism_crypt.emergency_rotation('a test')")
            self.assert_reads("kill")
            pending = int(self.query("SELECT count(*) FROM prism_crypt.progress WHERE state = 'pending' AND reason = 'a test'"))
            self.assertEqual(pending, 5)
            self.query("CALL prism_crypt.rotate_all(); CALL rotate_batch('bytes', 'b')")
            self.assert_reads("immediate")
            self.assertEqual(self.query("SELECT count(*) FROM prism_crypt.progress WHERE state <> 'finished'"), "0")
        with self.subTest("all old keys destroyed"):
            self.query("SELECT prism_crypt.destroy_key(version) FROM prism_crypt.key_status WHERE state = 'decrypt_only'")
            self.assert_reads("kill")
            self.assertEqual(self.query("SELECT count(*) FROM prism_crypt.key_status WHERE state NOT IN ('active', 'destroyed')"), "0")


    def test_a_master_key_rotation_lasts(self):
        """Who was told that it is done may throw the old key away."""
        self.addCleanup(self.use, "main")
        self.db = self.database("lasts")
        self.query("CREATE TABLE t (v encrypted_text); INSERT INTO t VALUES ('numbat')")
        self.addCleanup(self.cluster.psql, "ALTER SYSTEM RESET wal_writer_delay; SELECT pg_reload_conf()")
        self.cluster.psql("ALTER SYSTEM SET wal_writer_delay = '10s'")
        self.use("next", "main")
        session = self.session(self.db)
        session.run("SELECT pg_sleep(0.3); SET synchronous_commit = off; SELECT prism_crypt.rotate_master_key();")
        set_key(self.cluster, "next")
        self.cluster.kill9()
        self.cluster.start()
        self.assertEqual(self.query("SELECT decrypt_field(v) FROM t"), "numbat")


class RotationRestartPreloaded(RotationRestart):
    preload = True


if __name__ == "__main__":
    unittest.main()
