"""An export that a client pipes to S3, and an import that comes from there."""

import json
import subprocess
import unittest

from harness import drivers, paths
from harness.scenario import Scenario


class FilesS3(Scenario):
    preload = True

    def test_there_and_back(self):
        db = self.database("archive")
        self.cluster.psql("CREATE TABLE t AS SELECT g AS id, ('value ' || g)::encrypted_text AS v, repeat(md5(g::text), 10) AS x FROM generate_series(1, 30000) AS g", db=db)
        connection = f"host={self.cluster.socket} port={self.cluster.port} dbname={db} user=postgres"
        done = subprocess.run([*drivers.s3(), paths.ROOT / "tests/scenarios/s3_client.py", connection], capture_output=True, text=True, timeout=120)
        self.assertEqual(done.returncode, 0, done.stderr[-3000:])
        answer = json.loads(done.stdout.splitlines()[-1])
        self.assertEqual((answer["done"]["rows"], answer["done"]["bytes_extracted"]), (30000, answer["length"]))
        # More than the parts that boto3 makes of it, in pieces that are small.
        self.assertGreater(answer["length"], 8 << 20)
        self.assertLess(answer["largest"], 1 << 20)
        self.assertEqual(self.cluster.psql("SELECT count(*) FROM restored AS r JOIN t USING (id) WHERE r.v::text = t.v::text AND r.x = t.x", db=db), "30000")


if __name__ == "__main__":
    unittest.main()
