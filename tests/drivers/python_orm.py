"""What the programs of SQLAlchemy and of Django share (see orm_checks.py)."""

import json
import sys

# What an error of the server is made of.
PARTS = ("severity", "sqlstate", "message_primary", "message_detail", "message_hint", "schema_name", "table_name", "column_name", "datatype_name",
         "constraint_name", "source_file", "source_function")
# The server may log the value of a duplicate in the twin, so this is no secret.
PUBLIC = "public@example.org"


def lines():
    """What stands on stdin, one object a line, as it comes."""
    return map(json.loads, sys.stdin)


def answer(value):
    print(json.dumps(value), flush=True)


def told(error, table):
    """All that an error of psycopg tells, but for the name of the table and for a public value, which may be shown."""
    texts = [str(error), *(getattr(error.diag, part) for part in PARTS)]
    return [type(error).__name__, *(text and text.replace(table, "TABLE").replace(f"=({PUBLIC})", "=(withheld)") for text in texts)]
