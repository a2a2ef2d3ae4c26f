"""A rotation as logical replication sends it: subscribers stay right, and no plaintext is on the wire."""

import re
import unittest

from harness import PgError, canaries
from harness.scenario import CANARY_ROWS, CANARY_TABLE, Scenario

ROWS = 5000
TABLES = "CREATE TABLE t (id int PRIMARY KEY, v encrypted_text, l encrypted_text[], b bytea, n int NOT NULL DEFAULT 0)"
READ = "SELECT id, decrypt_field({0}) FROM t WHERE id < 100 ORDER BY id"
COLUMNS = ("v", "l[1]")
WRONG = "SELECT count(*) FROM t WHERE id >= 100 AND (decrypt_field(v) <> 'row ' || id OR decrypt_bytes(b) <> convert_to('row ' || id, 'UTF8'))"


class RotationLogical(Scenario):
    # WAL that is not written yet is behind nowhere: with few buffers it is soon written.
    conf = {"wal_level": "'logical'", "wal_buffers": "'128kB'"}

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.other = cls.new_cluster("rotation-subscriber", conf=cls.conf)

    def setUp(self):
        self.db = self.database(self.id().rpartition(".")[2][:60].lower())
        self.query(f"{TABLES}; CREATE TEMP TABLE s (id int, v text); COPY s FROM STDIN;\n{CANARY_ROWS}\\.\n" + f"""
            INSERT INTO t SELECT id, v, ARRAY[v]::encrypted_text[], encrypt_bytes(convert_to(v, 'UTF8')) FROM s;
            INSERT INTO t SELECT g, encrypt_field('row ' || g), NULL, encrypt_bytes(convert_to('row ' || g, 'UTF8')) FROM generate_series(100, {ROWS}) AS g;
            -- Wide ones are stored out of line; an update of other columns does not send them.
            INSERT INTO t SELECT 90, encrypt_field(repeat('w', 100000)), NULL, NULL""")
        self.query("CREATE PUBLICATION p FOR TABLE t")

    def query(self, sql):
        return self.cluster.psql(sql, db=self.db)

    def on_subscriber(self, sql):
        return self.other.psql(sql, db=self.db)

    def subscribe(self):
        self.other.create_db(self.db)
        self.on_subscriber(f"CREATE EXTENSION prism_crypt; {TABLES}")
        self.on_subscriber(
            f"CREATE SUBSCRIPTION s CONNECTION 'host={self.cluster.socket} port={self.cluster.port} dbname={self.db} user=postgres' "
            f"PUBLICATION p WITH (slot_name = '{self.db}')")
        self.addCleanup(self.on_subscriber, "DROP SUBSCRIPTION s")
        self.other.wait_for("SELECT bool_and(srsubstate = 'r') FROM pg_subscription_rel", db=self.db, timeout=60)
        self.copy_keys()

    def copy_keys(self):
        dump = self.cluster.run(["pg_dump", "--data-only", "--table=prism_crypt.keyset", "--table=prism_crypt.data_key"], db=self.db).stdout
        self.on_subscriber(f"BEGIN; TRUNCATE prism_crypt.data_key, prism_crypt.keyset; {dump}; COMMIT")

    def caught_up(self):
        lsn = self.query("SELECT pg_current_wal_lsn()")
        self.cluster.wait_for(f"SELECT confirmed_flush_lsn >= '{lsn}' FROM pg_replication_slots WHERE slot_name = '{self.db}'", timeout=60)

    def assert_right(self, psql):
        for column in COLUMNS:
            got = "\n".join(line for line in psql(READ.format(column)).splitlines() if not line.startswith("90|"))
            self.assertEqual(got == CANARY_TABLE, True)
        self.assertEqual(psql("SELECT decrypt_field(v) = repeat('w', 100000) FROM t WHERE id = 90"), "t")
        self.assertEqual(psql(WRONG), "0")

    def test_a_subscriber_stays_right(self):
        self.subscribe()
        self.query("SELECT prism_crypt.rotate_key()")
        self.copy_keys()
        rotating = self.session(self.db)
        backend = rotating.run("SELECT pg_backend_pid();")
        writes = 0

        def read_and_write():
            nonlocal writes
            self.assert_right(self.on_subscriber)
            writes += 1
            self.query(f"UPDATE t SET n = {writes} WHERE id % 97 = 0 OR id = 90; UPDATE t SET v = 'row ' || id WHERE id = 100 + {writes}")

        # At two seconds a batch, it stays in its middle.
        rotating.start("CALL rotate_batch('t', batch_size => 100, max_rows_per_second => 50);")
        self.other.wait_for("SELECT count(DISTINCT key_version(v)) FROM t", "2", db=self.db)
        for _ in range(3):
            read_and_write()
        self.assertEqual(self.on_subscriber("SELECT count(DISTINCT key_version(v)) FROM t"), "2")
        self.query(f"SELECT pg_cancel_backend({backend})")
        with self.assertRaises(PgError):
            rotating.wait()
        rotating.start("CALL rotate_batch('t', batch_size => 100, max_rows_per_second => 4000);")
        while rotating.waiting(0.02):
            read_and_write()
        rotating.wait()
        self.query("CALL rotate_batch('t', 'b')")
        self.caught_up()
        for psql in (self.query, self.on_subscriber):
            self.assert_right(psql)
            self.assertEqual(psql("SELECT DISTINCT key_version(v), coalesce(key_version(l[1]), 2), coalesce(key_version(b), 2) FROM t"), "2|2|2")
        rows = "SELECT id, encrypted_text_send(v), l, b, n FROM t ORDER BY id"
        self.assertEqual(self.on_subscriber(rows) == self.query(rows), True)
        with self.subTest("the old key destroyed on both sides"):
            self.query("SELECT prism_crypt.destroy_key(1)")
            self.on_subscriber("SELECT prism_crypt.destroy_key(1)")
            self.assert_right(self.on_subscriber)
        with self.subTest("the log of the subscriber"):
            log = self.other.log().encode()
            self.assertEqual([name for name, secret in canaries.forms() if secret in log], [])

    def test_a_subscriber_is_waited_for(self):
        self.subscribe()
        self.query("SELECT prism_crypt.rotate_key()")
        self.copy_keys()
        holder = self.session(self.db, cluster=self.other)
        holder.run("BEGIN; LOCK TABLE t;")
        rotating = self.session(self.db)
        rotating.start("CALL rotate_batch('t', batch_size => 100, max_replica_lag => 300000);")
        rotating.says("waits for a standby that is more than 300000 bytes behind")
        self.assertTrue(rotating.waiting(1))
        rows = int(self.query("SELECT rows_done FROM prism_crypt.progress"))
        self.assertTrue(0 < rows < ROWS)
        holder.run("ROLLBACK;")
        rotating.wait()
        self.caught_up()
        self.assert_right(self.on_subscriber)

    def test_the_wire(self):
        for plugin, options in (("test_decoding", []), ("pgoutput", ["proto_version=1", "publication_names=p"]),
                                ("pgoutput", ["proto_version=1", "publication_names=p", "binary=true"])):
            with self.subTest(f"{plugin} {options}"):
                argv = ["pg_recvlogical", "-d", self.db, "-S", "wire"]
                self.cluster.run([*argv, "--create-slot", "-P", plugin])
                self.query("SELECT prism_crypt.rotate_key(); CALL rotate_batch('t', fire_triggers => false); CALL rotate_batch('t', 'b')")
                lsn = self.query("SELECT pg_current_wal_lsn()")
                arguments = [a for option in options for a in ("-o", option)]
                data = self.cluster.run([*argv, "--start", "-f", "-", f"--endpos={lsn}", "--no-loop", *arguments], text=False).stdout
                self.cluster.run([*argv, "--drop-slot"])
                self.assertEqual([name for name, secret in canaries.forms() if secret in data], [])
                for marker in (b"row 4711", b"row 4711".hex().encode(), b"wwwwwwww"):
                    self.assertNotIn(marker, data)
                # The rotation is there, as ciphertext.
                self.assertGreater(len(data), 2 * ROWS * 40)
                if plugin == "test_decoding":
                    self.assertGreaterEqual(len(re.findall(rb"table public\.t: UPDATE", data)), 2 * ROWS - 200)
                    version = self.query("SELECT max(version) FROM prism_crypt.key_status")
                    self.assertIn(f"prism:v{version}:".encode(), data)


if __name__ == "__main__":
    unittest.main()
