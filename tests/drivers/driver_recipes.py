"""The programs behind docs/recipes-clients.md run on the tables that it makes; tests/docs compares them with the document."""

import re

from driver_checks import plaintext
from harness import paths

DOCUMENT = paths.ROOT / "docs/recipes-clients.md"


class RecipeChecks:
    """For one class a driver, over Driver; `recipe`: the program, as a list."""

    def recipe(self):
        raise NotImplementedError

    def recipe_connection(self):
        """A new database as the document sets it up, for its application's role."""
        set_up = re.search(r"```sql\n(.*?)```", DOCUMENT.read_text(encoding="utf-8"), re.S)[1]
        self.cluster.create_db("recipes")
        self.cluster.psql(set_up + "ALTER ROLE clinic LOGIN;", db="recipes")
        return {"user": "clinic", "database": "recipes"}

    def test_recipe(self):
        connection = self.recipe_connection()
        dsn = f"host={self.cluster.socket} port={self.cluster.port} dbname=recipes user=clinic"
        name, email, other = plaintext(["name", "email", "phone"])
        gave = self.program(self.recipe(), {"connection": connection, "dsn": dsn, "variant": "recipe", "check": "recipe", "name": name,
                                            "email": email, "other": other, "texts": {"name": name, "email": email, "phone": other}})
        self.assertEqual(gave, {"row": [1, "name", "email"], "rows": [[1], [2]], "upserted": 1})
