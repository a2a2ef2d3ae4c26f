#!/usr/bin/env python3
"""Writes the test vectors from docs/format.md and docs/file-format.md alone, with the `cryptography` package (50 or later).

The Rust crate is then held to these files, so code and format can't drift apart together.
"""
import base64
import hashlib
import hmac
import json
import re
import struct
from pathlib import Path

from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDFExpand

HERE = Path(__file__).parent
CLASSES = ["email", "phone", "tax_id", "personal", "financial", "query", "health"]


def seal(key, version, nonce, plaintext, cls=None, is_bytes=False, context=None, search_tag=None):
    flags = (search_tag is not None) | (context is not None) << 1 | is_bytes << 2
    header = bytes([1, flags, CLASSES.index(cls) + 1 if cls else 0]) + struct.pack(">I", version) + nonce
    if search_tag is not None:
        header += search_tag
    if context is not None:
        header += hashlib.sha256(b"prism_crypt context v1\0" + context.encode()).digest()[:16]
    return header + AESGCM(key).encrypt(nonce, plaintext, header)


def text_form(version, envelope):
    return f"prism:v{version}:" + base64.b64encode(envelope).decode()


def vector(comment, key, version, nonce, plaintext, **options):
    envelope = seal(key, version, nonce, plaintext, **options)
    tag = options.get("search_tag")
    return {
        "comment": comment, "key": key.hex(), "key_version": version, "nonce": nonce.hex(),
        "class": options.get("cls"), "bytes": options.get("is_bytes", False), "context": options.get("context"),
        "search_tag": tag.hex() if tag else None, "plaintext": plaintext.hex(),
        "envelope": envelope.hex(), "text_form": text_form(version, envelope),
    }


def expand(index_key, use):
    """HKDF-Expand (RFC 5869) to one block."""
    return hmac.new(index_key, use + b"\x01", hashlib.sha256).digest()


def search_tag(index_key, generation, plaintext):
    key = expand(index_key, b"prism_crypt search tag v1")
    return bytes([generation]) + hmac.new(key, plaintext, hashlib.sha256).digest()[:16]


def blind_index(index_key, value, context, bits):
    key = expand(index_key, b"prism_crypt blind index v1")
    front = b"\0" if context is None else b"\1" + struct.pack(">Q", len(context.encode())) + context.encode()
    number = int.from_bytes(hmac.new(key, front + value, hashlib.sha256).digest(), "big") >> (256 - bits)
    length = (bits + 7) // 8
    return (number << (8 * length - bits)).to_bytes(length, "big")


def index_vector(comment, index_key, generation, plaintext, context, bits):
    return {
        "comment": comment, "index_key": index_key.hex(), "generation": generation, "plaintext": plaintext.hex(),
        "context": context, "bits": bits, "search_tag": search_tag(index_key, generation, plaintext).hex(),
        "blind_index": blind_index(index_key, plaintext, context, bits).hex(),
    }


def wrapped(comment, master, nonce, key, keyset="", version=None, generation=None, form=2):
    if version is not None:
        aad = b"prism_crypt data key v%d\0" % form + struct.pack(">I", version) + keyset.encode()
    elif generation is not None:
        aad = b"prism_crypt index key v%d\0" % form + bytes([generation]) + keyset.encode()
    else:
        aad = b"prism_crypt file key v%d\0" % form
    fingerprint = hmac.new(master, b"prism_crypt master key fingerprint v1", hashlib.sha256).hexdigest()[:16]
    commitment = HKDFExpand(SHA256(), 32, b"prism_crypt key commitment v2\0" + aad).derive(key) if form == 2 else b""
    return {
        "comment": comment, "master_key": master.hex(), "fingerprint": fingerprint, "key_version": version,
        "generation": generation, "keyset": keyset, "nonce": nonce.hex(), "key": key.hex(), "format": form,
        "wrapped": (bytes([form]) + nonce + AESGCM(master).encrypt(nonce, key, aad) + commitment).hex(),
    }


def file_writer():
    """write_file() as docs/file-format.md has it."""
    document = (HERE.parents[2] / "docs/file-format.md").read_text(encoding="utf-8")
    code = {}
    exec(re.search(r"```python\n(.*?)```", document, re.S).group(1), code)
    return code["write_file"]


def invalid(comment, text, error):
    return {"comment": comment, "text_form": text, "error": error}


def main():
    key = bytes(range(32))
    other = bytes(range(255, 223, -1))
    nonce = bytes(range(0xA0, 0xAC))
    tag = search_tag(key, 3, b"bob@example.com")
    envelopes = [
        vector("empty text", key, 1, nonce, b""),
        vector("ASCII", key, 1, nonce, b"alice@example.com"),
        vector("several scripts", key, 2, nonce, "Ζωή Ðørte 山田太郎 🙂".encode()),
        vector("class email", key, 3, nonce, b"alice@example.com", cls="email"),
        vector("class health, context", key, 3, nonce, b"E11.9", cls="health", context="patient 42"),
        vector("empty context is a context", key, 3, nonce, b"x", context=""),
        vector("bytes", other, 4, nonce, bytes(range(256)), is_bytes=True),
        vector("search tag", other, 65536, nonce, b"bob@example.com", cls="email", search_tag=tag),
        vector("everything, greatest version", other, 2**31 - 1, nonce, b"\0\xff", cls="query", is_bytes=True,
               context="ctx", search_tag=tag),
    ]
    wrapped_keys = [
        wrapped("default keyset", key, nonce, other, "default", version=1),
        wrapped("tenant keyset", other, nonce, key, "tenant_42", version=70000),
        wrapped("index key", key, nonce, other, "default", generation=1),
        wrapped("index key of a tenant, last generation", other, nonce, key, "tenant_42", generation=255),
        wrapped("file key", key, nonce, other),
        wrapped("format 1, data key", key, nonce, other, "default", version=1, form=1),
        wrapped("format 1, index key of a tenant, last generation", other, nonce, key, "tenant_42", generation=255, form=1),
    ]
    index_keys = [
        index_vector("empty text", key, 1, b"", None, 128),
        index_vector("ASCII", key, 1, b"alice@example.com", "users.email", 128),
        index_vector("another key", other, 1, b"alice@example.com", "users.email", 128),
        index_vector("several scripts, 20 bits", other, 255, "Ζωή Ðørte 山田太郎 🙂".encode(), "Ζ", 20),
        index_vector("empty context, 1 bit", key, 2, b"x", "", 1),
        index_vector("longer than a block, all bits", key, 2, bytes(range(256)), None, 256),
    ]
    good = seal(key, 1, nonce, b"x")

    def changed(at, value):
        return text_form(1, good[:at] + bytes([value]) + good[at + 1:])

    prefix = 'it does not begin with "prism:v", a key version and a colon'
    invalids = [
        invalid("no prefix", "alice", prefix),
        invalid("no version", "prism:v:AAAA", prefix),
        invalid("version 0", text_form(0, good), prefix),
        invalid("leading zero", text_form(1, good).replace("v1", "v01"), prefix),
        invalid("version over 2^31 - 1", text_form(2**31, good), prefix),
        invalid("other version inside", text_form(2, good), "its key version is not the one inside the envelope"),
        invalid("not base64", "prism:v1:????", "what follows the prefix is not base64"),
        invalid("no padding", text_form(1, good).rstrip("="), "what follows the prefix is not base64")
        if text_form(1, good).endswith("=") else
        invalid("one character more", text_form(1, good) + "A", "what follows the prefix is not base64"),
        invalid("line break at the end", text_form(1, good) + "\n", "what follows the prefix is not base64"),
        invalid("empty", "prism:v1:", "it is shorter than an envelope can be"),
        invalid("header only", text_form(1, good[:19]), "it is shorter than an envelope can be"),
        invalid("one byte short of an empty text", text_form(1, good[:34]), "it is shorter than an envelope can be"),
        invalid("format 2", changed(0, 2), "format 2 is not known"),
        invalid("reserved flag", changed(1, 8), "a reserved flag is set"),
        invalid("class 8", changed(2, 8), "field class 8 is not known"),
        invalid("version 0 inside", changed(6, 0), "the key version is out of range"),
        invalid("context flag, no room for a context", changed(1, 2), "it is shorter than an envelope can be"),
    ]
    write_file = file_writer()
    files = [
        {"comment": f"version {version}, {length} bytes", "key": key.hex(), "version": version, "content_type": content_type, "length": length,
         # The content is bytes that count from 0 to 250 again and again.
         "file": base64.b64encode(write_file(bytes(i % 251 for i in range(length)), key, content_type, version=version)).decode()}
        for version, content_type in ((1, None), (2, "text/csv")) for length in (0, 1, 16384, 20000)]
    file_key = wrapped_keys[4]
    source = {"source": "wrapped", "master_fingerprint": file_key["fingerprint"], "wrapped": base64.b64encode(bytes.fromhex(file_key["wrapped"])).decode()}
    files.append({
        "comment": "a wrapped key", "key": file_key["key"], "master_key": file_key["master_key"], "version": 2, "content_type": "application/vnd.prism-crypt.table",
        "length": 300, "file": base64.b64encode(write_file(bytes(i % 251 for i in range(300)), bytes.fromhex(file_key["key"]), "application/vnd.prism-crypt.table", source)).decode()})
    for name, content in [("files", files), ("envelopes", envelopes), ("wrapped_keys", wrapped_keys),
                          ("index_keys", index_keys), ("invalid", invalids)]:
        text = json.dumps(content, indent=2, ensure_ascii=False) + "\n"
        (HERE / f"{name}.json").write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
