"""
Secrets that tests use and that no log may ever show. tools/test greps for them at the end.

Keys are derived, so that their text stands in no file of the repository. A test reaches them through
a key file, an environment variable of the server, or stdin of psql, and prints none of them.
Plaintext goes to the server by COPY FROM STDIN or the binary protocol, never inside a statement.
"""

import base64
import hashlib


def _key(name):
    return hashlib.sha256(f"prism_crypt test key {name}".encode()).hexdigest()


# Whatever key a test needs, it takes from here: KEYS["main"], or add a name.
KEYS = {name: _key(name) for name in ("main", "next", "other", "tenant-a", "tenant-b", "inline", "docs")}

PLAINTEXTS = {
    "email": "canary.quokka.77@example.org",
    "name": "Zsófia Canaryné Őrségi-Tűzföldi",
    "phone": "+36 1 555 7731 904",
    "tax id": "8417-CANARY-55309",
    "unicode": "カナリア密データ・七七",
}


def key_base64(name):
    return base64.b64encode(bytes.fromhex(KEYS[name])).decode()


def forms():
    """(name, bytes) of everything to look for."""
    for name, key in KEYS.items():
        raw = bytes.fromhex(key)
        yield f"key {name} in hex", key.encode()
        yield f"key {name} in upper-case hex", key.upper().encode()
        yield f"key {name} in base64", base64.b64encode(raw).rstrip(b"=")
        yield f"key {name}, bytes", raw
    for name, text in PLAINTEXTS.items():
        yield f"plaintext {name}", text.encode()
        yield f"plaintext {name} as bytea", text.encode().hex().encode()
