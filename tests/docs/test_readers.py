"""What the documents have in Python opens what the server sealed, and files that others have written."""

import json
import unittest

from harness import Cluster, canaries, documented, paths

VALUES = """
answer["fingerprint"] = fingerprint(bytes.fromhex(given["master"]))
keys = {version: unwrap(bytes.fromhex(given["master"]), version, keyset, bytes.fromhex(wrapped)) for version, keyset, wrapped in given["keys"]}
answer["opened"] = [open_text_form(text, keys, context).decode() for text, context in given["values"]]
"""
FILES = """
def is_right(vector):
    file = base64.b64decode(vector["file"])
    key = bytes.fromhex(vector["key"])
    if "master_key" in vector and unwrap_file_key(header_of(file)[0], bytes.fromhex(vector["master_key"])) != key:
        return False
    written = write_file(open_file(file, key), key, vector["content_type"], version=vector["version"])
    return open_file(written, key) == bytes(i % 251 for i in range(vector["length"])) and (header_of(file)[0] or {}).get("content_type") == vector["content_type"]
answer["right"] = [is_right(vector) for vector in given["files"]]
"""


OWN = """
file = base64.b64decode(given["file"])
key = unwrap_file_key(header_of(file)[0], bytes.fromhex(given["master"]))
answer["rows"] = open_file(file, key).decode().partition("\\n")[2]
"""


class Readers(unittest.TestCase):
    def test_values(self):
        cluster = Cluster("readers", preload=True)
        self.addCleanup(cluster.close)
        cluster.configure({"prism_crypt.master_key_file": f"'{cluster.write_file('master.key', canaries.KEYS['docs'])}'"})
        cluster.start()
        texts = ["", "plain", "Ζωή 山田太郎 🙂", "x" * 5000]
        sealed = """
            CREATE EXTENSION prism_crypt; SELECT prism_crypt.create_keyset('tenant'); SELECT prism_crypt.rotate_key(); SELECT prism_crypt.rotate_key();
            CREATE TABLE t (v encrypted_text('email', 'searchable'), c encrypted_text);
            INSERT INTO t (v, c) SELECT encrypt_field(p, keyset => k), encrypt_field(p, 'row 7', keyset => k)
              FROM jsonb_array_elements_text($texts$%s$texts$) AS p, unnest(ARRAY['default', 'tenant']) AS k"""
        cluster.psql(sealed % json.dumps(texts))
        keys = json.loads(cluster.psql("SELECT json_agg(json_build_array(version, keyset, encode(wrapped, 'hex'))) FROM prism_crypt.data_key"))
        values = json.loads(cluster.psql(
            "SELECT json_agg(x) FROM (SELECT json_build_array(v, NULL) AS x FROM t UNION ALL SELECT json_build_array(c, 'row 7') FROM t) AS s"))
        answer = documented.run("format.md", VALUES, master=canaries.KEYS["docs"], keys=keys, values=values)
        self.assertEqual(sorted(answer["opened"]) == sorted(texts * 4), True)
        self.assertEqual(answer["fingerprint"], cluster.psql("SELECT DISTINCT master_fingerprint FROM prism_crypt.data_key"))

    def test_files(self):
        files = json.loads((paths.ROOT / "envelope/tests/vectors/files.json").read_text(encoding="utf-8"))
        self.assertEqual(documented.run("file-format.md", FILES, files=files)["right"], [True] * len(files))
        self.assertTrue(any("master_key" in file for file in files))

    def test_a_file_of_the_server(self):
        cluster = Cluster("readers_files", preload=True)
        self.addCleanup(cluster.close)
        cluster.configure({"prism_crypt.master_key_file": f"'{cluster.write_file('master.key', canaries.KEYS['docs'])}'"})
        cluster.start()
        file = cluster.psql("CREATE EXTENSION prism_crypt; SELECT prism_crypt.rotate_key() \\gset\nCREATE TABLE t AS SELECT 'Zoë'::encrypted_text AS v; SELECT encode(string_agg(p, ''), 'base64') FROM prism_crypt.export_stream('t') AS p")
        answer = documented.run("file-format.md", OWN, file=file, master=canaries.KEYS["docs"])
        self.assertEqual(answer["rows"] == "Zoë\n", True)


if __name__ == "__main__":
    unittest.main()
