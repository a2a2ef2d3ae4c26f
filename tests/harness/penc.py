"""Encrypted files that are made and opened without the server, by the code of docs/file-format.md."""

import base64
import json

from . import documented, paths

TABLE = "application/vnd.prism-crypt.table"
# No key of a server, so it may stand in statements and logs.
KEY, OTHER_KEY = "07" * 32, "08" * 32
_MAKE = """
answer["files"] = [base64.b64encode(write_file(base64.b64decode(f["content"]), bytes.fromhex(f["key"]), f["content_type"], version=f["version"])).decode()
                   for f in given["files"]]
"""
_MAKE_WITH = """
def with_header(f):
    content, header = base64.b64decode(f["content"]), base64.b64decode(f["header"])
    encryptor = Cobblestone256Encryptor(bytes.fromhex(f["key"]), context=header)
    return header + encryptor.update(content) + encryptor.finalize()
answer["files"] = [base64.b64encode(with_header(f)).decode() for f in given["files"]]
"""
_OPEN = """answer["content"] = base64.b64encode(open_file(base64.b64decode(given["file"]), bytes.fromhex(given["key"]))).decode()"""


def content(columns, rows=(), collection="public.made", **more):
    """What a file of a table has in it. columns: (name, type, {other members}?), or dicts; rows: lines of COPY, or bytes for all of them."""
    columns = [c if not isinstance(c, tuple) else {"name": c[0], "type": c[1], **(c[2] if len(c) > 2 else {})} for c in columns] if isinstance(columns, list) else columns
    line = json.dumps({"collection": collection, "columns": columns, **more}).encode() + b"\n"
    return line + (rows if isinstance(rows, bytes) else "".join(f"{row}\n" for row in rows).encode())


def make(*contents, key=KEY, version=2, content_type=TABLE):
    """The files (bytes) with these contents (bytes); a list, made in one go."""
    files = [{"content": base64.b64encode(c).decode(), "key": key, "version": version, "content_type": content_type} for c in contents]
    return [base64.b64decode(f) for f in documented.run("file-format.md", _MAKE, files=files)["files"]]


def header(compression="none", key_source=None, content_type=TABLE, **more):
    """All of a file of version 2 before what is encrypted."""
    text = json.dumps({"key": key_source or {"source": "given"}, "content_type": content_type, "compression": compression, **more}).encode()
    return b"PENC\x02" + len(text).to_bytes(4, "big") + text


def make_with(header, *contents, key=KEY):
    """The files (bytes) of version 2 that have this before what is encrypted; a list."""
    files = [{"content": base64.b64encode(c).decode(), "header": base64.b64encode(header).decode(), "key": key} for c in contents]
    return [base64.b64decode(f) for f in documented.run("file-format.md", _MAKE_WITH, files=files)["files"]]


def opened(file, key=KEY):
    """The content of a file, as it was before it was compressed and encrypted, unless it is compressed."""
    return base64.b64decode(documented.run("file-format.md", _OPEN, file=base64.b64encode(file).decode(), key=key)["content"])


def as_query(file, piece=1 << 18):
    """The source of import_stream() that gives this file in pieces."""
    pieces = [file[at:at + piece] for at in range(0, len(file), piece)]
    values = ", ".join(f"({n}, '\\x{p.hex()}'::bytea)" for n, p in enumerate(pieces))
    return f"(SELECT chunk FROM (VALUES {values}) AS v (number, chunk) ORDER BY number)"


def store(file, path):
    """A file that the server may read."""
    path.write_bytes(file)
    paths.give_to_server(path)
    return path
