"""
Files whose tags are right under two keys: AES-GCM does not commit to its key, which is why version 2 does. Runs with the package cryptography.

Given JSON on stdin, {"keys": [hex, hex], "content": base64, "header": base64 (of version 2: all before the salt)}, gives {"one": …, "two": …, "committed": […]} in base64: a
file of version 1 that has this content under the first key, and one of version 2 for each key that it commits to.
"""

import base64
import json
import os
import random
import sys

from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.hashes import SHA512
from cryptography.hazmat.primitives.kdf.hkdf import HKDFExpand

LABEL = b"c2sp.org/chunked-encryption@v1+AEAD_AES_256_GCM\0"


def times(a, b):
    """Product in the field of GHASH (NIST SP 800-38D section 6.3), of blocks as numbers."""
    product = 0
    for bit in range(127, -1, -1):
        if a >> bit & 1:
            product ^= b
        b = b >> 1 ^ (0xe1 << 120 if b & 1 else 0)
    return product


def number(block):
    return int.from_bytes(block, "big")


class Gcm:
    """What of AES-GCM depends on key and nonce."""

    def __init__(self, key, nonce):
        self.key, self.nonce = key, nonce
        block = Cipher(algorithms.AES(key), modes.ECB()).encryptor().update
        self.hash_key = number(block(bytes(16)))
        self.mask = number(block(nonce + b"\0\0\0\1"))

    def stream(self, length):
        return Cipher(algorithms.AES(self.key), modes.CTR(self.nonce + b"\0\0\0\2")).encryptor().update(bytes(length))

    def tag(self, text):
        hashed = 0
        padded = text + bytes(-len(text) % 16)
        for at in range(0, len(padded), 16):
            hashed = times(hashed ^ number(padded[at:at + 16]), self.hash_key)
        return times(hashed ^ 8 * len(text), self.hash_key) ^ self.mask


def with_equal_tags(one, two, content):
    """Ciphertext that opens to this content, and a few letters after it, under one; its tag is right under two."""
    stem = content + b"@" * (-len(content) % 16)
    # Letters of which the low four bits are free: more bits than a tag has.
    letters = 16 * 3
    stream = one.stream(len(stem) + letters)
    base = bytearray(a ^ b for a, b in zip(stem + b"`" * letters, stream))
    wanted = one.tag(bytes(base)) ^ two.tag(bytes(base))
    places = [(len(stem) + at, bit) for at in range(letters) for bit in range(4)]
    powers = [{}, {}]
    for at, cipher in zip((0, 1), (one, two)):
        power = cipher.hash_key
        for block in range(len(base) // 16 - 1, len(stem) // 16 - 1, -1):
            power = times(power, cipher.hash_key)
            powers[at][block] = power
    rows = []
    for index, (at, bit) in enumerate(places):
        change = 1 << (8 * (15 - at % 16) + bit)
        rows.append((times(change, powers[0][at // 16]) ^ times(change, powers[1][at // 16]), 1 << index))
    random.shuffle(rows)
    # Gaussian elimination over bits: which of the changes together make the difference of the tags.
    pivots = {}
    for value, used in rows:
        while value and value.bit_length() in pivots:
            other, with_it = pivots[value.bit_length()]
            value, used = value ^ other, used ^ with_it
        if value:
            pivots[value.bit_length()] = (value, used)
    chosen = 0
    while wanted:
        value, used = pivots[wanted.bit_length()]
        wanted, chosen = wanted ^ value, chosen ^ used
    for index, (at, bit) in enumerate(places):
        if chosen >> index & 1:
            base[at] ^= 1 << bit
    text = bytes(base)
    assert one.tag(text) == two.tag(text)
    return text + one.tag(text).to_bytes(16, "big")


def derived(key, salt, context):
    out = HKDFExpand(SHA512(), 32 + 12 + 32, LABEL + salt + context).derive(key.ljust(64, b"\0"))
    return out[:32], out[32:44], out[44:]


def main():
    given = json.load(sys.stdin)
    keys = [bytes.fromhex(key) for key in given["keys"]]
    content, header = base64.b64decode(given["content"]), base64.b64decode(given["header"])
    nonce, salt = os.urandom(12), os.urandom(24)
    one = b"PENC\1" + nonce + with_equal_tags(Gcm(keys[0], nonce), Gcm(keys[1], nonce), content)
    of_keys = [derived(key, salt, header) for key in keys]
    # Of the only chunk it is the base nonce; each key has its own.
    body = with_equal_tags(*(Gcm(key, nonce) for key, nonce, _ in of_keys), content)
    files = [header + salt + commitment + body for _, _, commitment in of_keys]
    print(json.dumps({"one": base64.b64encode(one).decode(), "committed": [base64.b64encode(file).decode() for file in files]}))


if __name__ == "__main__":
    main()
