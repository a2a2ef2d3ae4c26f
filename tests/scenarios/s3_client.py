"""Pipes an export to an S3 server and an import from it, without touching the disk of the database server. Run by test_files_s3.py."""

import io
import json
import sys

import boto3
import psycopg
from moto.server import ThreadedMotoServer


class Pieces(io.RawIOBase):
    """What boto3 reads: the pieces of an export, fetched as they are needed."""

    def __init__(self, cursor):
        self.cursor, self.rest, self.largest = cursor, b"", 0

    def readable(self):
        return True

    def readinto(self, buffer):
        if not self.rest:
            row = self.cursor.fetchone()
            self.rest = row[0] if row else b""
            self.largest = max(self.largest, len(self.rest))
        taken = min(len(buffer), len(self.rest))
        buffer[:taken] = self.rest[:taken]
        self.rest = self.rest[taken:]
        return taken


def main(connection):
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    try:
        host, port = server.get_host_and_port()
        s3 = boto3.client("s3", endpoint_url=f"http://{host}:{port}", aws_access_key_id="test", aws_secret_access_key="test", region_name="us-east-1")
        s3.create_bucket(Bucket="archive")
        with psycopg.connect(connection) as db:
            with db.cursor("export") as cursor:
                cursor.itersize = 1
                cursor.execute("SELECT prism_crypt.export_stream('t')")
                pieces = Pieces(cursor)
                s3.upload_fileobj(io.BufferedReader(pieces), "archive", "t.penc")
            body = s3.get_object(Bucket="archive", Key="t.penc")["Body"]
            db.execute("CREATE TEMPORARY TABLE staged (number int GENERATED ALWAYS AS IDENTITY, chunk bytea)")
            length = 0
            with db.cursor() as cursor, cursor.copy("COPY staged (chunk) FROM STDIN (FORMAT binary)") as copy:
                copy.set_types(["bytea"])
                for chunk in body.iter_chunks(1 << 20):
                    copy.write_row((chunk,))
                    length += len(chunk)
            done = db.execute("SELECT prism_crypt.import_stream('staged', target => 'restored')").fetchone()[0]
        print(json.dumps({"done": done, "length": length, "largest": pieces.largest}))
    finally:
        server.stop()


main(sys.argv[1])
