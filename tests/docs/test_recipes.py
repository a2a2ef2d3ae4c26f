"""
The code that docs/recipes-clients.md gives for a tested driver is what the scenario tests run: the parts of a program
in tests/drivers, in one file or several, between the comments "recipe" and "end of recipe".
"""

import re
import textwrap
import unittest

from harness import paths

PROGRAMS = {
    "psycopg": "psycopg/recipe.py", "asyncpg": "asyncpg/recipe.py", "SQLAlchemy": "sqlalchemy/encrypted.py",
    "Django": "django/shop/models.py",
    "node-postgres": "node_postgres/recipe.js", "tokio-postgres": "tokio_postgres/src/recipe.rs",
    "Sequelize": "sequelize/migrations/1_customers.js sequelize/models.js sequelize/client.js",
    "Drizzle": "drizzle/schema.js drizzle/search.sql drizzle/client.js",
    "JDBC": "jdbc/V1__customers.sql jdbc/Customers.java",
    "Rails": "rails/config/initializers/encrypted_text.rb rails/config/database.yml rails/db/migrate/20240101000000_create_customers.rb "
             "rails/db/migrate/20240101000003_encrypt_subscribers.rb rails/client.rb",
    "sqlx": "sqlx/migrations/0001_customers.sql sqlx/src/recipe.rs", "pgx": "pgx/recipe.go",
}
SECTION = re.compile(r"^## ([^\n]+) — tested$(.*?)(?=^## |\Z)", re.M | re.S)
BLOCK = re.compile(r"^```(?!sql)\w+\n(.*?)^```$", re.M | re.S)
RECIPE = re.compile(r"^ *(?:#|//|--) recipe\n(.*?)^ *(?:#|//|--) end of recipe$", re.M | re.S)


class Recipes(unittest.TestCase):
    maxDiff = None

    def test_code_is_that_of_the_programs(self):
        document = (paths.ROOT / "docs/recipes-clients.md").read_text(encoding="utf-8")
        sections = dict(SECTION.findall(document))
        self.assertEqual(set(sections), set(PROGRAMS), "the drivers that the document calls tested")
        for driver, program in PROGRAMS.items():
            source = "".join((paths.ROOT / "tests/drivers" / file).read_text(encoding="utf-8") for file in program.split())
            code = [textwrap.dedent(part).strip("\n") for part in RECIPE.findall(source)]
            self.assertTrue(code, program)
            self.assertEqual([block.strip("\n") for block in BLOCK.findall(sections[driver])], code, driver)


if __name__ == "__main__":
    unittest.main()
