"""The fenced snippets of a document: what tests run from it."""

import re
import textwrap

FENCE = re.compile(r"^(\s*)```(\w*)[ \t]*([\w ,-]*)$")


def snippets(path, languages=("sql",)):
    """(line, options, text) of each snippet in one of these languages."""
    for _, line, _, options, text in sections(path, languages):
        yield line, options, text


def sections(path, languages):
    """(heading, line, language, options, text) of each snippet; the heading is that of the `##` before it, None at the beginning."""
    heading, inside = None, None
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        if inside is not None:
            if line.strip() == "```":
                if inside[1] in languages:
                    # Of a list, it is indented.
                    yield heading, *inside[:3], textwrap.dedent("\n".join(inside[3])) + "\n"
                inside = None
            else:
                inside[3].append(line)
        elif found := FENCE.match(line):
            inside = (number + 1, found.group(2), found.group(3).split(), [])
        elif line.startswith("## "):
            heading = line[3:].strip()
    if inside is not None:
        raise AssertionError(f"{path}:{inside[0]}: the snippet does not end")
