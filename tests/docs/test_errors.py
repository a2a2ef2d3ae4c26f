"""docs/errors.md lists every message of src/error.rs, and none that is not there."""

import re
import unittest

from harness import paths


def normalised(message):
    """Whatever is filled in is written as {}."""
    return re.sub(r"\{[^}]*\}", "{}", message)


def messages_of_the_code():
    source = (paths.ROOT / "src/error.rs").read_text(encoding="utf-8")
    found = re.findall(r'#\[error\("((?:[^"\\]|\\.)*)"', source)
    assert len(found) == len(re.findall(r"#\[error\(", source)), "an attribute that is written in another way"
    return {normalised(message.replace('\\"', '"').replace("\\\\", "\\")) for message in found}


def first_columns(section):
    """What stands in backquotes in the first column of the tables of a section."""
    rows = [line for line in section.splitlines() if line.startswith("| `")]
    return {normalised(message) for row in rows for message in re.findall(r"`([^`]+)`", re.split(r"(?<!\\)\|", row)[1])}


class Errors(unittest.TestCase):
    maxDiff = None

    @classmethod
    def setUpClass(cls):
        text = (paths.ROOT / "docs/errors.md").read_text(encoding="utf-8")
        cls.first, *cls.others = re.split(r"^## ", text, flags=re.M)

    def test_every_message_of_the_code_is_listed(self):
        self.assertEqual(sorted(messages_of_the_code() - first_columns(self.first)), [])

    def test_every_listed_message_is_in_the_code(self):
        self.assertEqual(sorted(first_columns(self.first) - messages_of_the_code()), [])

    def test_messages_of_the_sql_functions(self):
        """Every MESSAGE of sql/*.sql, as format() has it, stands in the section on them."""
        sql = "\n".join(path.read_text(encoding="utf-8") for path in sorted((paths.ROOT / "sql").glob("*.sql")))
        raised = {m.replace("''", "'") for m in re.findall(r"MESSAGE = (?:pg_catalog\.)?(?:format\(\s*)?'((?:[^']|'')*)'", sql)}
        self.assertEqual(len(re.findall(r"\bMESSAGE = ", sql)) > 5, True)
        section = next(other for other in self.others if "SQL functions" in other.splitlines()[0])
        listed = set().union(*(re.findall(r"`([^`]+)`", line.split("|")[1]) for line in section.splitlines() if line.startswith("| `")))
        listed |= {re.sub(r"\{[^}]*\}", "{}", m) for m in messages_of_the_code()}
        self.assertEqual(sorted(raised - listed), [])


if __name__ == "__main__":
    unittest.main()
