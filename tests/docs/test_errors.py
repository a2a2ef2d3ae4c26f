"""docs/errors.md lists every message of src/error.rs and sql/, and none that is not there."""

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
    # What is checked before any of it may run.
    found += re.findall(r'errmsg\("([^"]*)"\)', (paths.ROOT / "src/processor.c").read_text(encoding="utf-8"))
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
        # What earlier versions said is in their documents.
        cls.sql = "\n".join(path.read_text(encoding="utf-8") for path in sorted((paths.ROOT / "sql").glob("**/*.sql")) if "releases" not in path.parts)

    def listed(self, title):
        """What stands in backquotes in the first column of the tables of the section with this in its title."""
        section = next(other for other in self.others if title in other.splitlines()[0])
        rows = [line.split("|")[1] for line in section.splitlines() if line.startswith("| `")]
        return set().union(*(re.findall(r"`([^`]+)`", row) for row in rows))

    def test_every_message_of_the_code_is_listed(self):
        self.assertEqual(sorted(messages_of_the_code() - first_columns(self.first)), [])

    def test_every_listed_message_is_in_the_code(self):
        self.assertEqual(sorted(first_columns(self.first) - messages_of_the_code()), [])

    def test_messages_of_the_sql_functions(self):
        """Every MESSAGE of sql/, as format() has it, stands in the section on them, and nothing else does."""
        raised = {
            m.replace("''", "'")
            for m in re.findall(r"\b(?:MESSAGE =|message :=) (?:pg_catalog\.)?(?:format\(\s*)?'((?:[^']|'')*)'", self.sql)}
        self.assertEqual(len(raised) > 5, True)
        listed = self.listed("SQL functions")
        of_the_code = {re.sub(r"\{[^}]*\}", "{}", m) for m in messages_of_the_code()}
        self.assertEqual(sorted(raised - listed - of_the_code), [])
        self.assertEqual(sorted(listed - raised), [])

    def test_no_message_is_written_in_another_way(self):
        found = re.findall(r"\b(?:MESSAGE =|message :=) ((?:pg_catalog\.)?format\(\s*'|'|\S*)", self.sql)
        self.assertEqual([start for start in found if not start.endswith("'")], [])
        self.assertEqual(re.findall(r"\bRAISE (?:EXCEPTION )?'.*", self.sql), [])

    def test_warnings_of_the_sql_functions(self):
        """Every RAISE WARNING of sql/ stands in the section on warnings."""
        raised = {m.replace("''", "'") for m in re.findall(r"\bRAISE WARNING '((?:[^']|'')*)'", self.sql)}
        self.assertGreater(len(raised), 5)
        self.assertEqual(sorted(raised - self.listed("Warnings")), [])

if __name__ == "__main__":
    unittest.main()
