"""SQLAlchemy's ORM and Alembic on psycopg 3, with the types of docs/recipes-clients.md: for roles whose output is ciphertext, and for those that see text."""

import unittest

from driver_checks import PEOPLE, Driver, is_ciphertext
from driver_recipes import RecipeChecks
from harness import canaries, drivers
from orm_checks import FIRST, Orm, OrmChecks


class SqlAlchemy(RecipeChecks, Driver):
    @classmethod
    def command(cls):
        return drivers.python() + [str(drivers.SOURCES / "sqlalchemy/client.py")]

    def recipe(self):
        return self.argv

    def recipe_connection(self):
        connection = super().recipe_connection()
        self.cluster.psql("ALTER ROLE clinic SET prism_crypt.output = 'plaintext'")
        return connection

    def check(self, name, user="app"):
        return self.program(self.argv, {"connection": {"user": user}, "check": name, "texts": canaries.PLAINTEXTS})

    def test_search(self):
        gave = self.check("search")
        both = [1, 5, 7]
        self.assertEqual(gave["ids"], {
            "==": [[1, 7]] * 12, "absent": [[]] * 12, "in_": [both] * 12, "any_": [both] * 12, "literal": [[5]] * 12})
        for name, plan in gave["plans"].items():
            self.assertRegex("\n".join(plan), r"Index Scan (using|on) people_email", name)
            self.assertRegex("\n".join(plan), r"Index Cond: .*(prism:v1:|\$1)", name)
            self.assertNotIn("<", "\n".join(plan), name)
        self.assertEqual((gave["prepared"], gave["null"], gave["not"]), (True, [6], [2, 3, 4, 5]))

    def test_write_and_read(self):
        gave = self.check("write_and_read")
        values = ["email", "phone", "phone", "tax id", "unicode"]
        self.assertEqual(gave["read"], [[100 + i, v] for i, v in enumerate(values)] + [[200, None], [201, "phone"]])
        self.assertTrue(is_ciphertext(gave["bare"]))
        self.assertEqual((gave["cast"], gave["output"], gave["max"], gave["concatenated"]), ("email", "email", "email", "<email>!"))

    def test_upsert(self):
        gave = self.check("upsert")
        expected, visits = [], {"email": 0, "name": 0}
        for who in ["email", "name", "email"] * 5:
            visits[who] += 2
            expected.append([who, visits[who]])
        self.assertEqual((gave["counted"], gave["kept"]), (expected, [[], [99]]))
        self.assertEqual(gave["twice"][0], "23505")
        self.assertNotIn("<email>", gave["twice"][1])

    def test_join_and_group(self):
        self.assertEqual(self.check("join_and_group"), {
            "text": [1, 7], "encrypted": [1, 4, 7], "itself": [1, 7], "groups": [[1, "name"], [2, "email"]]})

    def test_errors(self):
        gave = self.check("refused", user="untrusted")
        # Ordering is refused to everybody.
        self.assertEqual({what: got[0] for what, got in gave.items()},
                         {"search": "42501", "insert": "42501", "order": "0A000", "range": "0A000", "read": "phone"})
        self.assertNotIn("<phone>", gave["search"][1] + gave["insert"][1])

    def test_schema(self):
        self.cluster.psql("GRANT CREATE ON SCHEMA public TO app", db=self.db)
        self.assertEqual(self.check("create_schema"), [
            "CREATE INDEX guests_email ON public.guests USING hash (email)", "encrypted_text", "encrypted_text(email,searchable)"])


DESCRIBED = {"email": "encrypted_text(email,searchable)", "tags": "encrypted_text[]", "unique": [["email"]]}
CHANGE = [["modify_type", "email"]]


class SqlAlchemyAndAlembic(OrmChecks, Orm):
    first = FIRST | {
        "expressions": {
            "max": "phone", "concatenated": True, "lower": True, "element": "tax id", "distinct": 1, "starting": ["fourth"], "containing": ["second"],
            "ordered": ["second"], "overlapping": ["second"], "equal": ["second"]},
        "casts": [True, True],
        "reflected": {"table": DESCRIBED, "copied": DESCRIBED, "row": ["email", ["name"]]},
        "automapped": ["second", "phone", ["tax id", "name"]],
        # Alembic compares arguments of types only where both have as many.
        "noticed": {"nothing": [], "text": CHANGE, "field": CHANGE, "array": [["modify_type", "tags"]], "search": []},
        "encrypted_later": DESCRIBED | {"tags": "TEXT[]", "found": ["first"]},
    }

    @classmethod
    def command(cls):
        return ["env", f"PYTHONPATH={drivers.SOURCES}", *drivers.python(), str(drivers.SOURCES / "sqlalchemy/orm.py")]


if __name__ == "__main__":
    unittest.main()
