"""Logical replication carries ciphertext, in text and in binary, whatever the roles ask for."""

import unittest

from harness import canaries
from harness.scenario import CANARY_ROWS, CANARY_TABLE, Scenario

TABLES = "CREATE TABLE t (id int PRIMARY KEY, v encrypted_text, c encrypted_text('personal'), l encrypted_text[])"
READ = "SELECT id, decrypt_field(v) FROM t WHERE id < 100 ORDER BY id"


class Logical(Scenario):
    conf = {"wal_level": "'logical'"}

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.other = cls.new_cluster("logical-subscriber", conf=cls.conf)

    def setUp(self):
        self.db = self.database(self.id().rpartition(".")[2][:60].lower())
        self.cluster.psql(TABLES, db=self.db)
        self.insert(CANARY_ROWS)
        # Nobody's wish for plaintext reaches the wire.
        self.cluster.psql("ALTER ROLE postgres SET prism_crypt.output = 'plaintext'; ALTER SYSTEM SET prism_crypt.output = 'plaintext'; SELECT pg_reload_conf()")
        self.addCleanup(self.cluster.psql, "ALTER ROLE postgres RESET prism_crypt.output; ALTER SYSTEM RESET ALL; SELECT pg_reload_conf()")
        self.cluster.wait_for("SHOW prism_crypt.output", "plaintext", db=self.db)

    def insert(self, rows):
        self.cluster.psql(
            f"CREATE TEMP TABLE s (id int, v text); COPY s FROM STDIN;\n{rows}\\.\n"
            "INSERT INTO t SELECT id, v, v, ARRAY[encrypt_field(v), NULL] FROM s", db=self.db)

    def subscriber(self, tables="t", **options):
        """A database of the other cluster that subscribes, with its initial copy done."""
        db = self.other.create_db(self.db)
        self.other.psql(f"CREATE EXTENSION prism_crypt; {TABLES}", db=db)
        self.cluster.psql(f"CREATE PUBLICATION p FOR TABLE {tables}", db=self.db)
        given = ", ".join(f"{k} = {v}" for k, v in {"slot_name": f"'{self.db}'", **options}.items())
        self.other.psql(
            f"CREATE SUBSCRIPTION s CONNECTION 'host={self.cluster.socket} port={self.cluster.port} dbname={self.db} user=postgres' "
            f"PUBLICATION p WITH ({given})", db=db)
        self.addCleanup(self.other.psql, "DROP SUBSCRIPTION s", db=db)
        self.other.wait_for("SELECT bool_and(srsubstate = 'r') FROM pg_subscription_rel", db=db, timeout=60)
        return db

    def caught_up(self):
        self.cluster.wait_for(
            f"SELECT confirmed_flush_lsn >= '{self.cluster.psql('SELECT pg_current_wal_lsn()')}' FROM pg_replication_slots WHERE slot_name = '{self.db}'",
            timeout=60)

    def copy_keys(self):
        """As the documents say: the rows of keys belong to the data."""
        dump = self.cluster.run(["pg_dump", "--data-only", "--table=prism_crypt.keyset", "--table=prism_crypt.data_key"], db=self.db).stdout
        self.assertFalse([name for name, secret in canaries.forms() if secret in dump.encode()])
        self.other.psql(dump, db=self.db)

    def assert_same(self):
        values = "SELECT id, encrypted_text_send(v), encrypted_text_send(c), l FROM t ORDER BY id"
        ask = "SET prism_crypt.output = 'ciphertext'; " + values
        self.assertEqual(self.other.psql(ask, db=self.db), self.cluster.psql(ask, db=self.db))
        self.assertEqual(self.other.psql(READ, db=self.db) == CANARY_TABLE, True)

    def replicates(self, **options):
        self.subscriber(**options)
        with self.subTest("without the rows of keys"):
            error = self.other.error(READ, db=self.db)
            self.assertEqual((error.sqlstate, error.message), ("42704", "key version 1 does not exist"))
            self.assertIn("prism_crypt.data_key belong to the data", error.hint)
        with self.subTest("the initial copy"):
            self.copy_keys()
            self.assert_same()
        with self.subTest("changes"):
            self.insert("100\tnumbat\n101\twombat\n102\tquoll\n")
            self.cluster.psql("UPDATE t SET v = 'bilby' WHERE id = 100; UPDATE t SET id = 103 WHERE id = 101; DELETE FROM t WHERE id = 102", db=self.db)
            self.caught_up()
            self.assert_same()
            self.assertEqual(
                self.other.psql("SELECT id, decrypt_field(v), decrypt_field(c), decrypt_field(l[1]) FROM t WHERE id >= 100 ORDER BY 1", db=self.db),
                "100|bilby|numbat|numbat\n103|wombat|wombat|wombat")
        with self.subTest("wide values that stay as they are"):
            self.cluster.psql("INSERT INTO t SELECT 200, encrypt_field(repeat('w', 100000)), encrypt_field('x', class => 'personal')", db=self.db)
            self.cluster.psql("UPDATE t SET c = encrypt_field('y', class => 'personal') WHERE id = 200", db=self.db)
            self.caught_up()
            self.assert_same()
        with self.subTest("a rotation"):
            self.cluster.psql("SELECT prism_crypt.rotate_key(); CALL rotate_batch('t', 'v'); CALL rotate_batch('t', 'c')", db=self.db)
            self.caught_up()
            self.assertEqual(self.other.error(READ, db=self.db).message, "key version 2 does not exist")
            self.other.psql("TRUNCATE prism_crypt.data_key, prism_crypt.keyset", db=self.db)
            self.copy_keys()
            self.assert_same()
        with self.subTest("the log of the subscriber"):
            log = self.other.log().encode()
            self.assertEqual([name for name, secret in canaries.forms() if secret in log], [])

    def test_text(self):
        self.replicates()

    def test_binary(self):
        self.replicates(binary="true")

    def test_keys_replicated_too(self):
        db = self.subscriber("t, prism_crypt.keyset, prism_crypt.data_key")
        session = self.session(db, cluster=self.other)
        self.assertEqual(session.run(READ + ";") == CANARY_TABLE, True)
        self.cluster.psql("SELECT prism_crypt.rotate_key(); CALL rotate_batch('t', 'v')", db=self.db)
        self.caught_up()
        # An open session hears of keys that replication brought.
        self.assertEqual(session.run(READ + ";") == CANARY_TABLE, True)
        self.assertEqual(session.run("SELECT DISTINCT key_version(v) FROM t;"), "2")
        self.cluster.psql("UPDATE t SET v = reencrypt_field(v); SELECT prism_crypt.disable_key(1)", db=self.db)
        self.caught_up()
        self.assertEqual(session.error("SELECT decrypt_field(c) FROM t;").message, "key version 1 is disabled")

    def stream(self, plugin, options):
        """What a walsender sends of the changes from now on, as bytes."""
        slot = f"{self.db[:40]}_{plugin}"
        argv = ["pg_recvlogical", "-d", self.db, "-S", slot]
        self.cluster.run([*argv, "--create-slot", "-P", plugin])
        self.insert("300\tlogical.marker\n" + "".join(f"{400 + i}\t{text}\n" for i, text in enumerate(canaries.PLAINTEXTS.values())))
        self.cluster.psql("UPDATE t SET id = id + 1000 WHERE id = 400; DELETE FROM t WHERE id = 401", db=self.db)
        lsn = self.cluster.psql("SELECT pg_current_wal_lsn()")
        arguments = [a for option in options for a in ("-o", option)]
        data = self.cluster.run([*argv, "--start", "-f", "-", f"--endpos={lsn}", "--no-loop", *arguments], text=False).stdout
        self.cluster.run([*argv, "--drop-slot"])
        return data

    def test_the_wire(self):
        self.cluster.psql("CREATE PUBLICATION p FOR TABLE t; ALTER TABLE t REPLICA IDENTITY FULL", db=self.db)
        for plugin, options in (("test_decoding", []), ("pgoutput", ["proto_version=1", "publication_names=p"]),
                                ("pgoutput", ["proto_version=1", "publication_names=p", "binary=true"])):
            with self.subTest(f"{plugin} {options}"):
                data = self.stream(plugin, options)
                self.assertEqual([name for name, secret in canaries.forms() if secret in data], [])
                self.assertNotIn(b"logical.marker", data)
                # It is there, as ciphertext.
                self.assertGreater(len(data), 1000)
                if "binary=true" not in options:
                    self.assertIn(b"prism:v1:", data)
                self.cluster.psql("DELETE FROM t WHERE id >= 300", db=self.db)

    def test_who_asked_for_plaintext_has_it_elsewhere(self):
        """The control: in an ordinary session the setting does what it says."""
        self.assertEqual(self.cluster.psql("SELECT id, v FROM t ORDER BY id", db=self.db) == CANARY_TABLE, True)


if __name__ == "__main__":
    unittest.main()
