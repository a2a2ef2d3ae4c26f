"""Runs the Python code of a document, as somebody would who has only that."""

import json
import re
import subprocess

from . import drivers, paths

# The code comes first, then what is to be done with `given`; a JSON object goes in, another one comes out.
_RUN = """
import base64, json, sys
given = json.load(sys.stdin)
code = {}
exec(given["code"], code)
answer = {}
exec(given["todo"], {**code, "given": given, "answer": answer, "base64": base64})
print(json.dumps(answer))
"""


def run(document, todo, **given):
    """The `answer` (a dict) that the code `todo` fills from `given`; it has the names of the document's code."""
    text = (paths.ROOT / "docs" / document).read_text(encoding="utf-8")
    code = "\n".join(re.findall(r"```python\n(.*?)```", text, re.S))
    assert len(code) > 500, f"there is no code in {document}"
    done = subprocess.run([*drivers.cryptography(), "-c", _RUN], input=json.dumps({"code": code, "todo": todo, **given}), capture_output=True, text=True)
    # Never what went in.
    assert (done.returncode, done.stderr) == (0, ""), f"the code of {document} ended with {done.returncode}: {done.stderr[-2000:]}"
    return json.loads(done.stdout)
