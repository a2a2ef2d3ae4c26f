"""What the tests of master-key sources share."""

from harness import canaries
from harness.scenario import Scenario, key_forms

MAIN, NEXT = canaries.KEYS["main"], canaries.KEYS["next"]
READ = "SELECT decrypt_field(v) FROM t;"


class Source(Scenario):
    """A table with one value under the main key, and ways to read it with another source."""

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.db = cls.database("keys")
        cls.cluster.psql("CREATE TABLE t (v encrypted_text); COPY t FROM STDIN;\nquokka\n\\.\n", db=cls.db)

    def reads(self, settings, **kw):
        self.assertEqual(self.cluster.psql(f"{settings} {READ}", db=self.db, **kw), "quokka")

    def refused(self, settings, sqlstate, message, detail=None, **kw):
        error = self.cluster.error(f"{settings} {READ}", db=self.db, **kw)
        self.assertEqual((error.sqlstate, error.message), (sqlstate, message))
        if detail is not None:
            self.assertEqual(error.detail, detail)
        for key in (MAIN, NEXT):
            for form, secret in key_forms(key).items():
                self.assertFalse(secret in error.text.encode(), f"the error shows a key ({form})")
        return error
