"""`prism-crypt check-encryption`: what a role can see of a database, and how the tool connects."""

import json
import re
import subprocess
import unittest

from harness import paths
from harness.scenario import Scenario
from harness.tool import program

SCHEMA = """
    CREATE DOMAIN address AS encrypted_text;
    CREATE TABLE people (id int, email encrypted_text('email'), tags encrypted_text[], home address, note text, photo bytea);
    INSERT INTO people SELECT g, 'p' || g || '@example.org', ARRAY['x', 'y']::text[]::encrypted_text[], NULL, NULL, encrypt_bytes('\\x00') FROM generate_series(1, 100) AS g;
    CREATE TABLE visits (at date, what encrypted_text) PARTITION BY RANGE (at);
    CREATE TABLE visits_2026 PARTITION OF visits FOR VALUES FROM ('2026-01-01') TO ('2027-01-01');
    INSERT INTO visits SELECT '2026-02-03', 'v' || g FROM generate_series(1, 30) AS g;
    SELECT prism_crypt.rotate_key();
    UPDATE people SET email = reencrypt_field(email) WHERE id <= 40;
    CREATE ROLE auditor LOGIN BYPASSRLS IN ROLE pg_read_all_data; SELECT prism_crypt.grant_access('auditor', 'monitor');
    CREATE ROLE reader LOGIN; GRANT SELECT ON people, visits TO reader;
    CREATE ROLE stranger LOGIN PASSWORD 'se:cr\\et';
    ALTER TABLE visits ENABLE ROW LEVEL SECURITY;"""


class Check(Scenario):
    preload = True
    maxDiff = None

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.program = program()
        cls.database("template")
        cls.cluster.psql(SCHEMA, db="template")

    def setUp(self):
        self.db = self.id().rpartition(".")[2][:60]
        self.cluster.psql(f'CREATE DATABASE "{self.db}" TEMPLATE template')

    def query(self, sql, **how):
        return self.cluster.psql(sql, db=self.db, **how)

    def tool(self, *arguments, user="postgres", status=0, env=None):
        """(standard output, standard error)"""
        env = env or self.cluster.env(user, self.db)
        done = subprocess.run([self.program, "check-encryption", *map(str, arguments)], capture_output=True, text=True, env=env, check=False,
                              stdin=subprocess.DEVNULL, timeout=60)
        self.assertEqual(done.returncode, status, done.stdout + done.stderr)
        return done.stdout, done.stderr

    def report(self, **how):
        return json.loads(self.tool("--json", **how)[0])

    def places(self, report):
        return {place["location"]: {int(version): count for version, count in place["values"].items()} for place in report["encrypted"]}

    def test_everything(self):
        for user in ("postgres", "auditor"):
            report = self.report(user=user)
            self.assertEqual((report["status"], report["algorithm"], report["key_source"], report["enabled"]),
                             ("encrypted", "AES-256-GCM", "prism_crypt.master_key_file", True))
            self.assertEqual((report["encrypted_values"], report["plaintext_values"], report["not_seen"]), (430, 0, []))
            self.assertEqual(self.places(report), {
                "public.people.email": {1: 60, 2: 40}, "public.people.tags": {1: 200}, "public.people.home": {}, "public.people.photo": {1: 100},
                "public.visits.what": {}, "public.visits_2026.what": {1: 30}})
        out, err = self.tool("--strict")
        self.assertEqual(err, "")
        self.assertRegex(out, r"\Astatus: +encrypted\ndatabase: +test_everything, seen as role postgres\n")
        self.assertIn("  public.people.email (table): 60 of key version 1, 40 of key version 2\n", out)

    def test_roles_see_what_they_may(self):
        report = self.report(user="reader", status=1)
        self.assertEqual(report["status"], "unknown")
        self.assertEqual(self.places(report), {"public.people.email": {1: 60, 2: 40}, "public.people.tags": {1: 200}, "public.people.home": {}, "public.visits.what": {}})
        unseen = "\n".join(report["not_seen"])
        self.assertIn("public.visits.what: rows that row-level security hides", unseen)
        self.assertIn("it needs access monitor", unseen)
        self.assertIsNone(report["key_source"])
        self.tool("--strict", user="reader", status=1)
        report = self.report(user="stranger", status=1)
        self.assertEqual((report["status"], report["encrypted_values"]), ("unknown", 0))
        out, err = self.tool(user="stranger", status=1)
        self.assertRegex(out, r"\Astatus: +unknown\n")
        self.assertEqual(err, "prism-crypt: not everything could be seen\n")
        self.assertTrue(all(place["is_hidden"] for place in report["encrypted"]))
        self.assertIn("public.people.email: the role may not SELECT it", report["not_seen"])

    def test_plaintext(self):
        self.query("CREATE TABLE guests (email text, ref int); INSERT INTO guests SELECT 'g' || i || '@example.org', i FROM generate_series(1, 70) AS i")
        report = self.report(user="auditor")
        self.assertEqual((report["status"], report["plaintext_values"]), ("partly_encrypted", 70))
        self.assertEqual([(it["location"], it["class"], it["confidence"]) for it in report["plaintext"]], [("public.guests.email", "email", "high")])
        out, err = self.tool("--strict", user="auditor", status=1)
        self.assertEqual(err, "prism-crypt: not everything is encrypted that should be\n")
        self.assertIn("public.guests.email: 70 values, email (high confidence)", out)
        # Of a value, nothing is shown.
        self.assertNotIn("@example.org", out)

    def test_ciphertext_in_a_text_column(self):
        self.query("UPDATE people SET note = encrypted_text_out(email)::text")
        report = self.report()
        self.assertEqual((report["status"], self.places(report)["public.people.note"]), ("encrypted", {1: 60, 2: 40}))
        # Some of it is none.
        self.query("UPDATE people SET note = 'call back' WHERE id < 8")
        report = self.report(status=1)
        self.assertEqual(report["status"], "partly_encrypted")
        self.assertEqual([(it["location"], it["values"], it["encrypted_values"]) for it in report["plaintext"]], [("public.people.note", 7, 93)])

    def test_migrations(self):
        self.query("CREATE TABLE members (email text NOT NULL); INSERT INTO members SELECT 'm' || i || '@example.org' FROM generate_series(1, 50) AS i")
        self.query("CALL prism_crypt.migrate_column('members', 'email', 'encrypted_text(email)', method => 'online', until => 'verified')")
        report = self.report(status=1)
        self.assertEqual((report["status"], [it["location"] for it in report["unfinished"]]), ("partly_encrypted", ["public.members.email"]))
        self.query("CALL prism_crypt.migrate_column('members', 'email', 'encrypted_text(email)', method => 'online')")
        report = self.report(status=1)
        self.assertEqual([it["state"] for it in report["unfinished"]], ["cut_over"])
        self.assertIn("the plaintext is kept until finish_migration()", self.tool(status=1)[0])
        number = self.query("SELECT max(id) FROM prism_crypt.migrations")
        self.query(f"CALL prism_crypt.finish_migration({number}, remains => NULL)")
        report = self.report()
        self.assertEqual((report["status"], report["unfinished"], sum(self.places(report)["public.members.email"].values())), ("encrypted", [], 50))

    def test_without_the_extension(self):
        out, _ = self.tool("-d", "postgres", status=1)
        self.assertRegex(out, r"\Astatus: +not encrypted\n(?s:.*)prism_crypt: +not there\n")

    def test_a_lock_does_not_hold_it(self):
        session = self.session(self.db)
        session.run("BEGIN; LOCK TABLE people;")
        report = self.report(status=1)
        self.assertEqual(report["status"], "unknown")
        self.assertTrue(any("people" in line for line in report["not_seen"]), report["not_seen"])
        self.assertEqual(self.places(report)["public.visits_2026.what"], {1: 30})

    def test_functions_of_others_are_not_called(self):
        """Whoever may make objects can't have them called in another role's name."""
        self.query("""CREATE ROLE mallory; CREATE SCHEMA trap AUTHORIZATION mallory; GRANT ALL ON SCHEMA public TO mallory; SET ROLE mallory;
            CREATE FUNCTION public.format(text, VARIADIC name[]) RETURNS text LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'trapped'; END $$;
            CREATE FUNCTION public.key_version(text) RETURNS int LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'trapped'; END $$;
            RESET ROLE; ALTER ROLE reader SET search_path = public, pg_catalog""")
        for user, status in (("reader", 1), ("auditor", 0)):
            self.assertNotIn("trapped", json.dumps(self.report(user=user, status=status)))
        self.query("ALTER ROLE reader RESET search_path; DROP OWNED BY mallory; DROP ROLE mallory")

    def test_nobody_answers(self):
        env = self.cluster.env("postgres", self.db)
        for arguments, said in (
            (["-d", "nowhere"], 'DETAIL:  database "nowhere" does not exist.'),
            (["-U", "nobody"], 'DETAIL:  role "nobody" does not exist.'),
            (["-h", self.cluster.home / "none"], "DETAIL:  No such file or directory"),
        ):
            _, err = self.tool(*arguments, status=1, env=env)
            self.assertRegex(err, rf"\Aprism-crypt: could not connect to the server\n{re.escape(said)}")
        for arguments, more, said in (
            (["-d", "postgresql://postgres:secret@localhost/x"], {}, "a password in an argument can be seen by others"),
            (["-d", "host=localhost sslmode=verify-full"], {}, "-d is no connection string that is known here"),
            ([], {"PGSERVICE": "x"}, "PGSERVICE is not known here"),
            ([], {"PGREQUIREPEER": "x"}, "PGREQUIREPEER is not known here"),
            ([], {"PGSSLROOTCERT": "system"}, "PGSSLROOTCERT=system is for PGSSLMODE=verify-full"),
            ([], {"PGSSLMODE": "never"}, 'PGSSLMODE "never" is not known'),
            ([], {"PGPORT": "x"}, "PGPORT is no number of a port"),
        ):
            _, err = self.tool(*arguments, status=2, env={**env, **more})
            self.assertTrue(err.startswith(f"prism-crypt: {said}"), err)
            self.assertNotIn("secret", err)
        # A connection string in the place of options.
        self.tool("-d", f"host={self.cluster.socket} port={self.cluster.port} user=postgres dbname={self.db}", env=paths.clean_env())


class Connection(Scenario):
    """Passwords and TLS, on a loopback address."""

    preload = True

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.program = program()
        cls.db = cls.database("clinic")
        cls.cluster.psql("CREATE ROLE anna LOGIN PASSWORD 'se:cr\\et'")
        # Who sees everything.
        cls.cluster.psql("SELECT prism_crypt.grant_access('anna', 'monitor')", db=cls.db)
        cls.certificates = cls.cluster.home
        cls.make_certificate("ca", "/CN=authority", ["-x509"])
        cls.make_certificate("other", "/CN=other", ["-x509"])
        cls.make_certificate("server", "/CN=localhost", ["-CA", "ca.crt", "-CAkey", "ca.key", "-x509", "-addext", "subjectAltName=DNS:localhost"])
        key = cls.cluster.write_file("tls.key", (cls.certificates / "server.key").read_text())
        crt = cls.cluster.write_file("tls.crt", (cls.certificates / "server.crt").read_text())
        cls.cluster.configure({"listen_addresses": "'127.0.0.1'", "ssl": "on", "ssl_key_file": f"'{key}'", "ssl_cert_file": f"'{crt}'"})
        hba = cls.cluster.data / "pg_hba.conf"
        hba.write_text("local all all trust\nhostssl all all 127.0.0.1/32 scram-sha-256\n")
        cls.cluster.restart()

    @classmethod
    def make_certificate(cls, name, subject, options):
        subprocess.run(["openssl", "req", "-newkey", "rsa:2048", "-nodes", "-keyout", f"{name}.key", "-out", f"{name}.crt", "-subj", subject, "-days", "3650", *options],
                       cwd=cls.certificates, check=True, capture_output=True)

    def tool(self, *arguments, status=0, host="localhost", **env):
        env = paths.clean_env(PGHOST=host, PGPORT=self.cluster.port, PGUSER="anna", PGDATABASE=self.db, HOME=self.cluster.home, **env)
        done = subprocess.run([self.program, "check-encryption", *arguments], capture_output=True, text=True, env=env, check=False, stdin=subprocess.DEVNULL)
        self.assertEqual(done.returncode, status, done.stdout + done.stderr)
        return done.stdout + done.stderr

    def test_passwords(self):
        self.assertIn("seen as role anna", self.tool(PGPASSWORD="se:cr\\et"))
        self.assertIn("password authentication failed", self.tool(PGPASSWORD="wrong", status=1))
        said = self.tool(status=1)
        self.assertTrue(said.startswith("prism-crypt: the server asks for a password, and there is none\nHINT:  "), said)
        path = self.cluster.home / "pass"
        path.touch(mode=0o600)
        path.write_text(f"# comment\nelsewhere:*:*:*:no\nlocalhost:{self.cluster.port}:{self.db}:anna:se\\:cr\\\\et\n")
        self.tool(PGPASSFILE=path)
        path.rename(self.cluster.home / ".pgpass")
        self.tool()
        # As libpq, it does not take one that others may read.
        (self.cluster.home / ".pgpass").chmod(0o644)
        self.tool(status=1)
        (self.cluster.home / ".pgpass").unlink()

    def test_tls(self):
        password = {"PGPASSWORD": "se:cr\\et"}
        ca, other = (self.certificates / "ca.crt", self.certificates / "other.crt")
        for mode in ("allow", "prefer", "require"):
            self.tool(PGSSLMODE=mode, **password)
        for mode in ("verify-ca", "verify-full"):
            self.tool(PGSSLMODE=mode, PGSSLROOTCERT=ca, **password)
            self.assertIn("could not connect", self.tool(PGSSLMODE=mode, PGSSLROOTCERT=other, status=1, **password))
            self.assertIn("There is no root certificate", self.tool(PGSSLMODE=mode, status=1, **password))
        # With a root certificate, require is verify-ca.
        self.tool(PGSSLMODE="require", PGSSLROOTCERT=other, status=1, **password)
        # Another name than that of the certificate.
        self.tool(host="127.0.0.1", PGSSLMODE="verify-ca", PGSSLROOTCERT=ca, **password)
        self.tool(host="127.0.0.1", PGSSLMODE="verify-full", PGSSLROOTCERT=ca, status=1, **password)
        # What a connection string says goes before.
        text = f"host=localhost port={self.cluster.port} user=anna dbname={self.db} sslmode="
        self.assertIn("no encryption", self.tool("-d", text + "disable", PGSSLMODE="require", status=1, **password))
        self.tool("-d", text + "require", PGSSLMODE="disable", **password)
        self.tool("-d", text + "require", PGSSLMODE="verify-ca", PGSSLROOTCERT=other, status=1, **password)
        self.tool(PGCHANNELBINDING="require", **password)
        self.tool(host=f"{self.cluster.home}/none,localhost", **password)
        # The server takes no one without.
        self.assertIn("no encryption", self.tool(PGSSLMODE="disable", status=1, **password))


if __name__ == "__main__":
    unittest.main()
