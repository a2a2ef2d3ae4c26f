"""Formats of wrapped keys: those of 0.2.0 are read, and wrapped anew with a commitment."""

import unittest

from harness.scenario import Scenario

# Bytes 0 to 31, wrapped by master key "main" in format 1, with a nonce of zeros, by another program: data key 1 and index key 1 of keyset "default".
DATA_KEY = "01000000000000000000000000e18549f790098b2048709a7b6d9718e80bbb3cb2a647598ff228ce959ab193a34e179fd8e5e42642850109a403616602"
INDEX_KEY = "01000000000000000000000000e18549f790098b2048709a7b6d9718e80bbb3cb2a647598ff228ce959ab193a3f96f05c790ee65a226712178fbda5863"
# What that program has sealed with the data key, also with a nonce of zeros.
SEALED = "prism:v1:AQAAAAAAAQAAAAAAAAAAAAAAAH3Z1LLQSKPYZNvMQnBJ4/zkxVfteJTKVfLkbIDq0wuo"
FORMATS = """
    SELECT get_byte(wrapped, 0), length(wrapped) FROM prism_crypt.data_key WHERE state <> 'destroyed'
    UNION ALL SELECT get_byte(wrapped, 0), length(wrapped) FROM prism_crypt.index_key WHERE state = 'active'"""


class KeyWrapping(Scenario):
    def setUp(self):
        self.db = self.database(self.id().rpartition(".")[2][:60])

    def query(self, sql):
        return self.cluster.psql(sql, db=self.db)

    def load_old_keys(self):
        self.query(f"UPDATE prism_crypt.data_key SET wrapped = '\\x{DATA_KEY}'; UPDATE prism_crypt.index_key SET wrapped = '\\x{INDEX_KEY}'")

    def test_keys_of_an_older_version(self):
        self.query("CREATE TABLE t (v encrypted_text('searchable') UNIQUE)")
        self.assertEqual(self.query(FORMATS), "2|93\n2|93")
        self.load_old_keys()
        self.assertEqual(self.query(f"SELECT '{SEALED}'::encrypted_text::text"), "sealed elsewhere")
        self.query("INSERT INTO t VALUES ('with old keys')")
        self.assertEqual(self.query(FORMATS), "1|61\n1|61")
        self.assertEqual(self.query("SELECT prism_crypt.rotate_master_key()"), "1")
        self.assertEqual(self.query(FORMATS), "2|93\n2|93")
        self.assertEqual(self.query(f"SELECT v::text, '{SEALED}'::encrypted_text::text FROM t WHERE v = 'with old keys'"), "with old keys|sealed elsewhere")

    def test_no_commitment_can_be_taken_away(self):
        old = self.query("SELECT wrapped FROM prism_crypt.data_key")
        for change in ("set_byte(substr(wrapped, 1, 61), 0, 1)", "set_byte(wrapped, 0, 1)", "substr(wrapped, 1, 61)",
                       "set_byte(wrapped, 92, get_byte(wrapped, 92) # 1)", "set_byte(wrapped, 0, 3)", "wrapped || '\\x00'"):
            with self.subTest(change):
                self.query(f"UPDATE prism_crypt.data_key SET wrapped = {change}")
                error = self.cluster.error("SELECT encrypt_field('x')", db=self.db)
                self.assertEqual((error.sqlstate, error.message), ("XX001", "data key version 1 is damaged"))
                self.query(f"UPDATE prism_crypt.data_key SET wrapped = '{old}'")
        self.assertEqual(self.query("SELECT decrypt_field(encrypt_field('x'))"), "x")


if __name__ == "__main__":
    unittest.main()
