"""What a client gets of an error that ends a batch: each of its fields, as PostgreSQL or a trigger raised it."""

import re

from harness.scenario import Scenario

RAISING = """
CREATE FUNCTION raising() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
  IF NEW.id = 3 THEN
    RAISE EXCEPTION USING ERRCODE = 'P9999', MESSAGE = 'a message', DETAIL = 'a detail', HINT = 'a hint', SCHEMA = 'a_schema',
      TABLE = 'a_table', COLUMN = 'a_column', CONSTRAINT = 'a_constraint', DATATYPE = 'a_type';
  END IF;
  RETURN NEW;
END $$;
CREATE TRIGGER raising BEFORE UPDATE ON t FOR EACH ROW EXECUTE FUNCTION raising();
"""


class RotationErrors(Scenario):
    def setUp(self):
        self.db = self.database(self.id().rpartition(".")[2][:60].lower())
        self.cluster.psql(
            "CREATE TABLE t (id int PRIMARY KEY, v encrypted_text);"
            "INSERT INTO t SELECT n, encrypt_field('v') FROM generate_series(1, 6) AS n;", db=self.db)

    def fields(self, statement):
        """The error with its fields by name."""
        error = self.cluster.error(statement, db=self.db)
        return error, dict(re.findall(r"^(?:psql:.*?: )?([A-Z ]+ NAME):  (.*)$", error.text, re.M))

    def test_of_a_trigger(self):
        self.cluster.psql(RAISING + "SELECT prism_crypt.rotate_key();", db=self.db)
        for size in (1, 1000):
            with self.subTest(size):
                error, names = self.fields(f"CALL rotate_batch('t', 'v', {size})")
                self.assertEqual(("P9999", "a message", "a detail", "a hint"),
                                 (error.sqlstate, error.message, error.detail, error.hint))
                self.assertEqual({"SCHEMA NAME": "a_schema", "TABLE NAME": "a_table", "COLUMN NAME": "a_column",
                                  "DATATYPE NAME": "a_type", "CONSTRAINT NAME": "a_constraint"}, names)
                self.assertIn("raising()", error.text)

    def test_of_a_constraint(self):
        self.cluster.psql("ALTER TABLE t ADD CONSTRAINT old CHECK (key_version(v) = 1); SELECT prism_crypt.rotate_key();", db=self.db)
        error, names = self.fields("CALL rotate_batch('t')")
        self.assertEqual("23514", error.sqlstate)
        self.assertEqual({"SCHEMA NAME": "public", "TABLE NAME": "t", "CONSTRAINT NAME": "old"}, names)
        self.assertEqual("SQLSTATE 23514, constraint \"old\"", self.cluster.psql("SELECT error FROM prism_crypt.progress", db=self.db))

    def test_what_it_does_not_have_stays_out(self):
        self.cluster.psql(
            "CREATE FUNCTION plain() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'plain'; END $$;"
            "CREATE TRIGGER plain BEFORE UPDATE ON t FOR EACH ROW EXECUTE FUNCTION plain();"
            "SELECT prism_crypt.rotate_key();", db=self.db)
        error, names = self.fields("CALL rotate_batch('t')")
        self.assertEqual(("P0001", "plain", None, None), (error.sqlstate, error.message, error.detail, error.hint))
        self.assertEqual({}, names)
