"""Whatever is otherwise in two extensions is found when they are compared, by its name; and status() tells when the library is the older one."""

import unittest

from extension_catalog import catalog, differences, rights
from harness import releases
from harness.scenario import Scenario

# (a change, the object that must be named, and what of it)
CHANGES = [
    ("CREATE OR REPLACE FUNCTION prism_crypt._access_kinds() RETURNS text[] LANGUAGE sql IMMUTABLE AS 'SELECT NULL::text[]'", "function prism_crypt._access_kinds()", "definition"),
    ("ALTER FUNCTION mask_field(encrypted_text, text) COST 7", "function public.mask_field(public.encrypted_text,pg_catalog.text)", "definition"),
    ("ALTER PROCEDURE rotate_batch SET search_path = public", "procedure public.rotate_batch(", "definition"),
    ("ALTER FUNCTION prism_crypt.status() OWNER TO nobody", "function prism_crypt.status()", "owner"),
    ("GRANT EXECUTE ON FUNCTION decrypt_field(encrypted_text, text) TO PUBLIC", "function public.decrypt_field(public.encrypted_text,pg_catalog.text)", "rights"),
    ("REVOKE EXECUTE ON FUNCTION encrypt_field(text, text, text, text) FROM PUBLIC", "function public.encrypt_field(", "rights"),
    ("GRANT SELECT (reason) ON prism_crypt.audit_log TO nobody", "table column prism_crypt.audit_log.reason", "rights"),
    ("GRANT UPDATE ON SEQUENCE prism_crypt.job_id_seq TO nobody", "sequence prism_crypt.job_id_seq", "rights"),
    ("REVOKE USAGE ON TYPE encrypted_text FROM PUBLIC", "type public.encrypted_text", "rights"),
    ("GRANT CREATE ON SCHEMA prism_crypt TO nobody", "schema prism_crypt", "rights"),
    ("UPDATE pg_init_privs SET initprivs = initprivs || makeaclitem('nobody'::regrole, 'postgres'::regrole, 'EXECUTE', false) WHERE objoid = 'blind_index(text,text,int)'::regprocedure",
     "function public.blind_index(", "initial rights"),
    ("COMMENT ON FUNCTION key_version(bytea) IS 'x'", "function public.key_version(pg_catalog.bytea)", "comment"),
    ("COMMENT ON COLUMN prism_crypt.keyset.name IS NULL", "table column prism_crypt.keyset.name", "column"),
    ("COMMENT ON EXTENSION prism_crypt IS 'x'", "extension", "comment"),
    ("ALTER TABLE prism_crypt.keyset ALTER rotation_interval SET DEFAULT '1 day'", "table column prism_crypt.keyset.rotation_interval", "column"),
    ("ALTER TABLE prism_crypt.job ALTER error SET NOT NULL", "table column prism_crypt.job.error", "column"),
    ("ALTER TABLE prism_crypt.job ADD more integer", "table column prism_crypt.job.more", "should not be there"),
    ("ALTER TABLE prism_crypt.index_key ADD CONSTRAINT more CHECK (generation > 0)", "table constraint more on prism_crypt.index_key", "should not be there"),
    ("ALTER TABLE prism_crypt.data_key DISABLE TRIGGER data_key_changed", "trigger data_key_changed on prism_crypt.data_key", "definition"),
    ("DROP TRIGGER index_key_changed ON prism_crypt.index_key", "trigger index_key_changed on prism_crypt.index_key", "is missing"),
    ("ALTER TABLE prism_crypt.job_range SET (fillfactor = 100)", "table prism_crypt.job_range", "relation"),
    ("DROP INDEX prism_crypt.job_part_open_idx", "index prism_crypt.job_part_open_idx", "is missing"),
    ("ALTER SEQUENCE prism_crypt.audit_log_id_seq CYCLE", "sequence prism_crypt.audit_log_id_seq", "sequence"),
    ("CREATE OR REPLACE VIEW prism_crypt.key_status AS SELECT version, keyset, state, master_fingerprint, created_at, created_by, retired_at, disabled_at, destroyed_at, reason, 0::bigint AS seals_reserved"
     " FROM prism_crypt.data_key", "view prism_crypt.key_status", "definition"),
    ("ALTER VIEW prism_crypt.index_key_status SET (security_barrier = true)", "view prism_crypt.index_key_status", "relation"),
    ("ALTER OPERATOR = (encrypted_text, text) SET (RESTRICT = NONE)", "operator public.=(public.encrypted_text,pg_catalog.text)", "definition"),
    ("ALTER OPERATOR FAMILY encrypted_text_ops USING hash DROP OPERATOR 1 (encrypted_text, text)", "operator of access method operator 1 (public.encrypted_text, pg_catalog.text) of public.encrypted_text_ops", "is missing"),
    ("ALTER EXTENSION prism_crypt DROP FUNCTION prism_crypt._uptime()", "function prism_crypt._uptime()", "is missing"),
    ("CREATE FUNCTION prism_crypt.more() RETURNS void LANGUAGE sql AS ''; ALTER EXTENSION prism_crypt ADD FUNCTION prism_crypt.more()", "function prism_crypt.more()", "should not be there"),
    ("ALTER EXTENSION prism_crypt DROP CAST (encrypted_text AS name); DROP CAST (encrypted_text AS name)", "cast (public.encrypted_text as pg_catalog.name)", "is missing"),
    ("ALTER TYPE encrypted_text SET (STORAGE = main)", "type public.encrypted_text", "definition"),
    ("UPDATE prism_crypt.job_kind SET rows_changed = 'x' WHERE name = 'rotation'", "row of job_kind: rotation", "rows_changed"),
    ("UPDATE pg_extension SET extcondition[1] = 'WHERE false' WHERE extname = 'prism_crypt'", "extension", "dumped"),
    ("UPDATE pg_extension SET extversion = '0.0.1' WHERE extname = 'prism_crypt'", "extension", "version"),
]


class Comparison(Scenario):
    preload = True

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.cluster.psql("CREATE ROLE nobody")
        cls.db = cls.database("planted")
        cls.right = catalog(cls.cluster, cls.db)

    def test_each_difference_is_named(self):
        self.assertEqual(differences(catalog(self.cluster, self.database("the same")), self.right), [])
        self.assertGreater(len(self.right), 800)
        for change, name, what in CHANGES:
            with self.subTest(change):
                found = differences(catalog(self.cluster, self.db, change), self.right)
                self.assertTrue(any(line.lower().startswith(name.lower()) and what in line for line in found), "\n".join(found) or "no difference")
                self.assertLess(len(found), 8, found)

    def test_rights(self):
        before = rights(self.cluster, self.db, ["nobody"])
        self.assertIn("nobody may execute public.encrypt_field(text,text,text,text)", before)
        db = self.cluster.psql(f"CREATE DATABASE rights TEMPLATE {self.db}") or "rights"
        self.cluster.psql("SELECT prism_crypt.grant_access('nobody', 'load')", db=db)
        self.assertEqual(sorted(set(rights(self.cluster, db, ["nobody"])) - set(before)),
                         ["nobody may USAGE in prism_crypt", "nobody may execute prism_crypt.load_envelope(text)"])

    def test_sql_that_is_newer_than_the_library(self):
        """As on a server that was not restarted, or a standby with the library of before."""
        status = "SELECT name, setting, ok FROM prism_crypt.status() WHERE name IN ('enabled', 'extension_version') ORDER BY 1 DESC"
        own = releases.current()
        self.assertEqual(self.cluster.psql(status, db=self.db), f"extension_version|{own}|t\nenabled|yes|t")
        for version in ("99.0.0", own.rpartition(".")[0] + ".99", "unpackaged"):
            told = self.cluster.psql(f"BEGIN; UPDATE pg_extension SET extversion = '{version}' WHERE extname = 'prism_crypt'; {status}", db=self.db)
            self.assertEqual(told, f"extension_version|{version}: newer than the library; install that of this version and restart|f\nenabled|yes|t")


if __name__ == "__main__":
    unittest.main()
