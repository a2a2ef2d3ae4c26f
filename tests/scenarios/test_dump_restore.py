"""pg_dump and pg_dumpall hold ciphertext and wrapped keys only; with the master key a restore gives everything back."""

import unittest

from harness import PgError, canaries
from harness.scenario import CANARY_ROWS, CANARY_TABLE, Scenario, fingerprint, set_key

SCHEMA = """
    CREATE TABLE person (id int PRIMARY KEY, v encrypted_text, c encrypted_text('email'),
        key int GENERATED ALWAYS AS (key_version(v)) STORED, plain text);
    CREATE TABLE lists (id int, v encrypted_text[]);
    CREATE DOMAIN secret AS encrypted_text;
    CREATE TABLE domains (id int, v secret);
    CREATE TYPE pair AS (a int, b encrypted_text);
    CREATE TABLE composites (id int, v pair);
    CREATE TABLE events (id int, at date, v encrypted_text('personal')) PARTITION BY RANGE (at);
    CREATE TABLE events_2025 PARTITION OF events FOR VALUES FROM ('2025-01-01') TO ('2026-01-01');
    CREATE TABLE events_2026 PARTITION OF events FOR VALUES FROM ('2026-01-01') TO ('2027-01-01');
    CREATE TABLE bound (id int, v encrypted_text);
    CREATE TABLE tenants (id int, v encrypted_text);
    CREATE TABLE bytes (id int, v bytea);
    CREATE MATERIALIZED VIEW copies AS SELECT id, v FROM person;
    CREATE VIEW readable AS SELECT id, decrypt_field(v) AS v FROM person;
    CREATE TABLE defaults (id int, v encrypted_text DEFAULT encrypt_field('fallback'));
"""
FILL = f"""
    CREATE TEMP TABLE source (id int, v text); COPY source FROM STDIN;
{CANARY_ROWS}\\.
    INSERT INTO person (id, v, c, plain) SELECT id, v, v, 'visible ' || id FROM source;
    INSERT INTO lists SELECT 1, array_agg(encrypt_field(v) ORDER BY id) FROM source;
    INSERT INTO lists VALUES (2, NULL), (3, '{{}}'), (4, '{{NULL}}');
    INSERT INTO domains SELECT id, encrypt_field(v) FROM source;
    INSERT INTO composites SELECT id, ROW(id, encrypt_field(v))::pair FROM source;
    INSERT INTO events SELECT id, '2025-06-01'::date + 60 * id, v FROM source;
    INSERT INTO bound SELECT id, encrypt_field(v, 'row ' || id) FROM source;
    INSERT INTO tenants SELECT id, encrypt_field(v, keyset => 'tenant_a') FROM source;
    INSERT INTO bytes SELECT id, encrypt_bytes(convert_to(v, 'UTF8')) FROM source;
    REFRESH MATERIALIZED VIEW copies;
    INSERT INTO defaults (id) VALUES (1);
    INSERT INTO defaults VALUES (2, NULL);
"""
# Everything as text, in one result.
READ = """
    SELECT 'person', id::text, decrypt_field(v), decrypt_field(c), key::text, (envelope_info(c)).class FROM person
    UNION ALL SELECT 'lists', l.id::text, n::text, decrypt_field(e), NULL, NULL FROM lists AS l LEFT JOIN LATERAL unnest(l.v) WITH ORDINALITY AS u (e, n) ON true
    UNION ALL SELECT 'domains', id::text, decrypt_field(v), NULL, NULL, NULL FROM domains
    UNION ALL SELECT 'composites', id::text, (v).a::text, decrypt_field((v).b), NULL, NULL FROM composites
    UNION ALL SELECT tableoid::regclass::text, id::text, at::text, decrypt_field(v), NULL, (envelope_info(v)).class FROM events
    UNION ALL SELECT 'bound', id::text, decrypt_field(v, 'row ' || id), NULL, NULL, NULL FROM bound
    UNION ALL SELECT 'tenants', id::text, decrypt_field(v), key_version(v)::text, NULL, NULL FROM tenants
    UNION ALL SELECT 'bytes', id::text, convert_from(decrypt_bytes(v), 'UTF8'), NULL, NULL, NULL FROM bytes
    UNION ALL SELECT 'copies', id::text, decrypt_field(v), NULL, NULL, NULL FROM copies
    UNION ALL SELECT 'readable', id::text, v, NULL, NULL, NULL FROM readable
    UNION ALL SELECT 'defaults', id::text, decrypt_field(v), NULL, NULL, NULL FROM defaults
    ORDER BY 1, 2, 3
"""
KEYS = "SELECT version, keyset, state, master_fingerprint, created_at, created_by, retired_at, disabled_at, reason FROM prism_crypt.key_status ORDER BY 1"


class DumpRestore(Scenario):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        c = cls.cluster
        cls.db = cls.database("source")
        c.psql("SELECT prism_crypt.create_keyset('tenant_a', 'the first tenant')", db=cls.db)
        c.psql(SCHEMA + FILL, db=cls.db)
        # Values under two versions, and a version that is disabled.
        c.psql("""
            SELECT prism_crypt.rotate_key(reason => 'yearly');
            UPDATE person SET v = reencrypt_field(v) WHERE id % 2 = 0; REFRESH MATERIALIZED VIEW copies;
            SELECT prism_crypt.create_keyset('tenant_b'); SELECT prism_crypt.rotate_key('tenant_b');
            SELECT prism_crypt.disable_key(4, 'lost laptop');
            CREATE ROLE reader LOGIN; SELECT prism_crypt.grant_access('reader', 'decrypt'); GRANT SELECT ON person TO reader;
            CREATE ROLE dumper LOGIN; GRANT pg_read_all_data TO dumper;
        """, db=cls.db)
        cls.before = c.psql(READ, db=cls.db)
        cls.keys = c.psql(KEYS, db=cls.db)
        cls.dumps = cls.new_dumps()
        # The cluster that dumps are restored into has the key by another way.
        cls.target = cls.new_cluster("dump_restore-target")
        cls.target.psql("CREATE ROLE reader LOGIN; CREATE ROLE loader LOGIN; CREATE ROLE plain LOGIN; CREATE ROLE dumper LOGIN")

    @classmethod
    def new_dumps(cls):
        """{name: (bytes of the dump, path)}; directory and custom format not compressed, so that a search sees everything."""
        dumps, home = {}, cls.cluster.home
        for name, options in {
            "plain": [], "inserts": ["--inserts"], "column inserts": ["--column-inserts", "--rows-per-insert=3"],
            "custom": ["-Fc", "-Z0"], "directory": ["-Fd", "-Z0", "-j2"], "data only": ["--data-only"], "tar": ["-Ft"],
            "no comments": ["--no-comments", "--no-owner", "--clean", "--if-exists"],
        }.items():
            path = home / f"dump {name}"
            cls.cluster.run(["pg_dump", "-f", path, *options], db=cls.db)
            files = path.iterdir() if path.is_dir() else [path]
            dumps[name] = (b"".join(f.read_bytes() for f in files), path)
        path = home / "dumpall"
        cls.cluster.run(["pg_dumpall", "-f", path])
        dumps["dumpall"] = (path.read_bytes(), path)
        return dumps

    def clean(self, data, what):
        shown = [name for name, secret in canaries.forms() if secret in data]
        self.assertEqual(shown, [], what)

    def restored(self, dump, db, cluster=None, **kw):
        """A new database of the target cluster with the dump in it."""
        cluster = cluster or self.target
        cluster.create_db(db)
        self.restore(self.dumps[dump][1], db, cluster, **kw)
        return db

    def restore(self, path, db, cluster, user="postgres", options=()):
        is_script = path.is_file() and path.read_bytes()[:2] == b"--"
        tool = ["psql", "-Xq", "-v", "ON_ERROR_STOP=1", "-o", "/dev/null", "-f"] if is_script else ["pg_restore", "--exit-on-error", "-d", db, *options]
        cluster.run([*tool, path], db=db, user=user)

    def test_no_plaintext_and_no_key(self):
        for name, (data, _) in self.dumps.items():
            with self.subTest(name):
                self.clean(data, name)
                self.assertIn(b"visible 3", data)
                self.assertIn(b"prism:v3:", data)

    def test_the_schema_alone_by_an_application(self):
        """As frameworks do it to write down a structure."""
        self.cluster.psql("CREATE ROLE plain LOGIN; GRANT SELECT ON ALL TABLES IN SCHEMA public TO plain; SELECT prism_crypt.grant_access('plain', 'search')", db=self.db)
        dump = self.cluster.run(["pg_dump", "--schema-only"], db=self.db, user="plain").stdout
        self.assertIn("CREATE TABLE public.person", dump)
        self.assertNotIn(self.cluster.psql("SELECT encode(wrapped, 'base64') FROM prism_crypt.data_key WHERE version = 1", db=self.db), dump)
        self.target.create_db("structure")
        self.target.run(["psql", "-Xq", "-v", "ON_ERROR_STOP=1", "-o", "/dev/null"], input=dump, db="structure")
        self.assertEqual(self.target.psql("SELECT count(*) FROM prism_crypt.data_key; SELECT count(*) FROM person", db="structure"), "0\n0")

    def test_restore_with_the_master_key(self):
        for name in ("plain", "inserts", "column inserts", "custom", "directory", "tar", "no comments"):
            with self.subTest(name):
                db = self.restored(name, f"restored {name}")
                self.assertEqual(self.target.psql(READ, db=db) == self.before, True)
                self.assertEqual(self.target.psql(KEYS, db=db), self.keys)
                # The next version is one that was never given.
                self.assertEqual(self.target.psql("SELECT prism_crypt.rotate_key()", db=db), "6")
                self.assertEqual(self.target.psql("SELECT key_version(encrypt_field('x'))", db=db), "6")
                self.assertEqual(
                    self.target.psql("SELECT version, keyset FROM prism_crypt.key_status WHERE state = 'active' ORDER BY 1", db=db),
                    "2|tenant_a\n5|tenant_b\n6|default")
                self.assertEqual(self.target.psql("SELECT prism_crypt.rotate_key('tenant_a')", db=db), "7")

    def test_parallel_restore(self):
        for attempt in range(4):
            with self.subTest(attempt):
                db = self.target.create_db(f"restored in parallel {attempt}")
                self.restore(self.dumps["directory"][1], db, self.target, options=["-j4"])
                self.assertEqual(self.target.psql(READ, db=db) == self.before, True)

    def test_schema_then_data(self):
        db = self.target.create_db("schema then data")
        self.cluster.run(["pg_dump", "-f", self.cluster.home / "schema", "--schema-only"], db=self.db)
        self.restore(self.cluster.home / "schema", db, self.target)
        self.assertEqual(self.target.psql("SELECT count(*) FROM prism_crypt.data_key", db=db), "0")
        self.restore(self.dumps["data only"][1], db, self.target)
        self.target.psql("REFRESH MATERIALIZED VIEW copies", db=db)
        self.assertEqual(self.target.psql(READ, db=db) == self.before, True)
        self.assertEqual(self.target.psql("SELECT prism_crypt.rotate_key()", db=db), "6")

    def test_pg_dumpall(self):
        cluster = self.new_cluster("dump_restore-all")
        cluster.run(["psql", "-Xq", "-o", "/dev/null", "-f", self.dumps["dumpall"][1]])
        self.assertEqual(cluster.psql(READ, db=self.db) == self.before, True)
        # Grants came with it.
        self.assertEqual(cluster.psql("SELECT decrypt_field(v) FROM person WHERE id = 1", db=self.db, user="reader"), canaries.PLAINTEXTS["email"])
        self.assertEqual(cluster.error("SELECT decrypt_field(v) FROM person", db=self.db, user="dumper").sqlstate, "42501")

    def test_a_dump_of_the_restored_is_the_same(self):
        db = self.restored("plain", "dumped again")
        again = self.target.run(["pg_dump"], db=db, text=False).stdout
        lines = lambda data: sorted(line for line in data.splitlines() if not line.startswith((b"--", b"\\restrict", b"\\unrestrict")))
        self.assertEqual(lines(again) == lines(self.dumps["plain"][0]), True)

    def test_without_the_key(self):
        cluster = self.new_cluster("dump_restore-keyless", key=None)
        cluster.psql("CREATE ROLE reader; CREATE ROLE dumper")
        for name in ("plain", "custom", "inserts"):
            with self.subTest(name):
                db = self.restored(name, f"keyless {name}", cluster)
                error = cluster.error("SELECT decrypt_field(v) FROM person", db=db)
                self.assertEqual((error.sqlstate, error.message), ("55000", "no master key is set"))
                self.assertIn("prism_crypt.master_key", error.hint)
                self.assertEqual(cluster.psql("SELECT id, key_version(v) FROM person ORDER BY 1", db=db), "1|1\n2|3\n3|1\n4|3\n5|1")
                self.assertEqual(cluster.psql(KEYS, db=db), self.keys)
                cluster.psql("VACUUM ANALYZE; CREATE TABLE again AS SELECT * FROM person; REINDEX DATABASE CONCURRENTLY " + f'"{db}"', db=db)
                self.clean(cluster.run(["pg_dump"], db=db, text=False).stdout, "its dump")
        # Once there is the key, everything is there.
        set_key(cluster, "main")
        cluster.reload()
        self.assertEqual(cluster.psql(READ, db="keyless plain") == self.before, True)

    def test_with_another_key(self):
        cluster = self.new_cluster("dump_restore-other", key="other")
        cluster.psql("CREATE ROLE reader; CREATE ROLE dumper")
        db = self.restored("plain", "other", cluster)
        error = cluster.error("SELECT decrypt_field(v) FROM person WHERE id = 1", db=db)
        self.assertEqual((error.sqlstate, error.message), ("55000", "encryption key mismatch"))
        self.assertEqual(
            error.detail,
            f'Key version 1 of keyset "default" is wrapped by the master key {fingerprint(self.cluster, self.db, "main")}, '
            f'loaded: {fingerprint(cluster, db, "other")}.')
        self.assertEqual(cluster.error("SELECT prism_crypt.rotate_key()", db=db).message, "encryption key mismatch")
        # Behind a new one, the old key opens what is there.
        set_key(cluster, "other", "main")
        cluster.reload()
        self.assertEqual(cluster.psql(READ, db=db) == self.before, True)

    def test_an_open_session_sees_the_restored_keys(self):
        db = self.target.create_db("open session")
        session = self.session(db, cluster=self.target)
        session.run("CREATE EXTENSION prism_crypt;")
        self.assertEqual(session.error("SELECT encrypt_field('x');").message, 'no active data key in keyset "default"')
        self.restore(self.dumps["plain"][1], db, self.target)
        self.assertEqual(session.run("SELECT key_version(encrypt_field('x')), decrypt_field(v) FROM person WHERE id = 2;"),
                         f"3|{canaries.PLAINTEXTS['name']}")

    def test_loading_needs_the_right(self):
        db = self.target.create_db("loading")
        self.restore(self.dumps["plain"][1], db, self.target)
        self.target.psql("SELECT prism_crypt.grant_access('loader', 'load')", db=db)
        for tables in (["person"], ["lists", "domains", "composites"]):
            for options in ([], ["--inserts"]):
                names = [f"--table={t}" for t in tables]
                path = self.cluster.home / "rows"
                self.cluster.run(["pg_dump", "--data-only", "-f", path, *names, *options], db=self.db)
                for t in tables:
                    self.target.psql(f"TRUNCATE {t}; GRANT ALL ON {t} TO loader, plain", db=db)
                with self.subTest(f"{tables} {options}"):
                    with self.assertRaises(PgError) as caught:
                        self.restore(path, db, self.target, user="plain")
                    self.assertIn("permission denied to load ciphertext", caught.exception.text)
                    error = self.target.error(path.read_text().replace("SELECT pg_catalog.set_config", "--"), db=db, user="plain")
                    self.assertEqual((error.sqlstate, error.message), ("42501", "permission denied to load ciphertext"))
                    self.assertIn("grant_access(role, 'load')", error.hint)
                    self.assertEqual(self.target.psql(f"SELECT count(*) FROM {tables[0]}", db=db), "0")
                    self.restore(path, db, self.target, user="loader")
        self.assertEqual(self.target.psql(READ, db=db) == self.before, True)
        # Loading is no right to read.
        self.assertEqual(self.target.error("SELECT decrypt_field(v) FROM person", db=db, user="loader").sqlstate, "42501")

    def test_dumped_by_a_role_that_reads_plaintext(self):
        """A role whose output is plaintext dumps what it sees; one that may not decrypt dumps ciphertext whatever it sets."""
        as_plaintext = {"PGOPTIONS": "-c prism_crypt.output=plaintext"}
        allowed = ["pg_dump", "--data-only", "--table=person"]
        data = self.cluster.run(allowed, db=self.db, user="dumper", text=False, **as_plaintext).stdout
        self.assertIn(b"prism:v3:", data)
        self.clean(data, "the dump of a role that may not decrypt")
        self.cluster.psql("ALTER ROLE dumper SET prism_crypt.output = 'plaintext'", db=self.db)
        self.addCleanup(self.cluster.psql, "ALTER ROLE dumper RESET ALL")
        self.clean(self.cluster.run(allowed, db=self.db, user="dumper", text=False).stdout, "the dump of a role that may not decrypt")

    def test_dumped_by_a_role_that_may_decrypt_and_asks_for_it(self):
        """It is ciphertext all the same; the control is another program that reads the same table."""
        asks = {"PGOPTIONS": "-c prism_crypt.output=plaintext"}
        for way in ([], ["--inserts"]):
            data = self.cluster.run(["pg_dump", "--data-only", "--table=person", *way], db=self.db, user="reader", text=False, **asks).stdout
            self.clean(data, "the dump of a reader who asks for plaintext")
        # What the documents say that remains: rows by SELECT, under another name.
        data = self.cluster.run(["pg_dump", "--data-only", "--table=person", "--inserts"], db=self.db, user="reader", text=False, PGAPPNAME="other", **asks).stdout
        self.assertIn(canaries.PLAINTEXTS["email"].encode(), data)
        data = self.cluster.run(["pg_dump", "--data-only", "--table=person"], db=self.db, user="reader", text=False, PGAPPNAME="other", **asks).stdout
        self.clean(data, "the dump of a reader, by COPY, under another name")

    def test_the_wrapped_keys_are_for_few(self):
        for role in ("reader", "dumper"):
            with self.subTest(role):
                # pg_read_all_data reads every table: what is there is wrapped.
                if role == "reader":
                    self.assertEqual(self.cluster.error("TABLE prism_crypt.data_key", db=self.db, user=role).sqlstate, "42501")
                else:
                    self.clean(self.cluster.psql("TABLE prism_crypt.data_key", db=self.db, user=role).encode(), "the key table")

    def test_canaries_are_what_was_read(self):
        self.assertEqual(self.cluster.psql("SELECT id, decrypt_field(v) FROM person ORDER BY 1", db=self.db) == CANARY_TABLE, True)
        self.assertEqual(self.before.count(canaries.PLAINTEXTS["email"]), 11)


if __name__ == "__main__":
    unittest.main()
