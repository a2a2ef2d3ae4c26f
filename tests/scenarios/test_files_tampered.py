"""Encrypted files that are not as they were written, and files whose content is not as it should be: nothing of them is imported."""

import base64
import json
import subprocess
import unittest

from files_scenario import FilesScenario
from harness import drivers, paths, penc
from harness.penc import KEY, OTHER_KEY

CHUNK, TAG, PREFIX = 16384, 16, 24 + 32
WRONG, TRUNCATED = ("39000", "Decryption failed (wrong key or corrupted data)"), ("22P04", "the file is truncated")
NO_PENC, HEADER = ("22P04", "the file is not a PENC file"), ("22P04", "the header of the file is malformed")
# Tries each variant by itself, and notes what came of it.
TRY = """
    CREATE TABLE variants (n int, chunk bytea); CREATE TABLE came (n int, state text, message text);
    CREATE FUNCTION try_all(key text) RETURNS void LANGUAGE plpgsql AS $$ DECLARE v record; BEGIN
      FOR v IN SELECT n FROM variants ORDER BY n LOOP
        BEGIN
          PERFORM prism_crypt.import_stream(format('(SELECT chunk FROM variants WHERE n = %s)', v.n), key, 'never');
          INSERT INTO came VALUES (v.n, 'imported', ''); DROP TABLE never;
        EXCEPTION WHEN OTHERS THEN INSERT INTO came VALUES (v.n, SQLSTATE, SQLERRM); END;
      END LOOP; END $$;
    CREATE FUNCTION try_files(directory text, key text) RETURNS void LANGUAGE plpgsql AS $$ DECLARE v record; BEGIN
      FOR v IN SELECT f::int AS n FROM pg_ls_dir(directory) AS f ORDER BY 1 LOOP
        BEGIN
          PERFORM prism_crypt.import_encrypted(directory || '/' || v.n, key, 'never');
          INSERT INTO came VALUES (v.n, 'imported', ''); DROP TABLE never;
        EXCEPTION WHEN OTHERS THEN INSERT INTO came VALUES (v.n, SQLSTATE, SQLERRM); END;
      END LOOP; END $$;"""


class FilesTampered(FilesScenario):
    def setUp(self):
        super().setUp()
        self.query(TRY)

    def exported(self, source, options=f", key => '{KEY}'"):
        self.query(f"SELECT prism_crypt.export_encrypted($q${source}$q$, '{self.directory}/exported'{options}, overwrite => true)")
        data = (self.directory / "exported").read_bytes()
        (self.directory / "exported").unlink()
        return data

    def outcomes(self, variants, key=KEY, as_files=False):
        """What importing each of these files (bytes) gives: (SQLSTATE, message), or ("imported", "")."""
        key = f"'{key}'" if key else "NULL"
        self.query("TRUNCATE variants, came")
        if as_files:
            for number, variant in enumerate(variants):
                penc.store(variant, self.directory / str(number))
            self.query(f"SELECT try_files('{self.directory}', {key})")
            for number in range(len(variants)):
                (self.directory / str(number)).unlink()
        else:
            self.query("COPY variants FROM STDIN;\n" + "".join(f"{number}\t\\\\x{variant.hex()}\n" for number, variant in enumerate(variants)) + f"\\.\nSELECT try_all({key})")
        came = [tuple(came) for came in json.loads(self.query("SELECT jsonb_agg(jsonb_build_array(state, message) ORDER BY n) FROM came"))]
        self.assertEqual(len(came), len(variants))
        return came

    def all_refused(self, variants, **how):
        """By name: {name: bytes}. They are refused, both as files and as streams."""
        for as_files in (False, True):
            came = dict(zip(variants, self.outcomes(list(variants.values()), as_files=as_files, **how)))
            self.assertEqual({name: got for name, got in came.items() if got[0] == "imported"}, {})
        return came

    # ---- bytes

    def test_every_byte_and_every_length(self):
        self.query("CREATE TABLE small AS SELECT 1 AS a, 'x'::encrypted_text AS b")
        for options in ("", f", key => '{KEY}'", f", key => '{KEY}', format => 1", ", compression => 'zstd'"):
            key = KEY if "key" in options else None
            whole = self.exported("small", options)
            second = "format" not in options
            end = 9 + int.from_bytes(whole[5:9], "big") if second else 5
            # Every bit, but for the bytes of one kind that all are alike; as a file and as a stream.
            for as_files, bits in ((False, range(8)), (True, (3,))):
                with self.subTest(options, as_files=as_files):
                    flips = [(at, bit) for at in range(len(whole)) for bit in bits]
                    changed = [whole[:at] + bytes([whole[at] ^ 1 << bit]) + whole[at + 1:] for at, bit in flips]
                    # First the one that is as it was: so the others are refused because of what was changed.
                    first, *came = self.outcomes([whole, *changed], key=key, as_files=as_files)
                    self.assertEqual(first[0], "imported")
                    for (at, bit), got in zip(flips, came):
                        self.assertIn(got, self.expected(at, end, second, key, got), (at, bit))
                    came = self.outcomes([whole[:length] for length in range(len(whole))], key=key, as_files=as_files)
                    for length, got in enumerate(came):
                        # A prefix that is no file at all, one that ends within the header, or within the content.
                        self.assertIn(got, [TRUNCATED] if second and length < end + PREFIX + TAG or length < 5 + 12 + TAG else [TRUNCATED, WRONG], length)
                    self.assertEqual({got[0] for got in self.outcomes([whole + b"\0", whole + whole, whole + b"\n", b"\0" + whole, whole[1:]], key=key, as_files=as_files)} & {"imported"}, set())

    def expected(self, at, end, second, key, got):
        """What a changed bit at this place may give."""
        if at < 4:
            return [NO_PENC]
        if at == 4:
            return [("22P04", got[1])] if got[1].startswith("PENC version ") and got[1].endswith(" is not known") else []
        if not second or at >= end:
            return [WRONG]
        if at < 9:
            return [HEADER, TRUNCATED, WRONG]
        # In the header: no JSON any more, another member or value, another master key, and all that is well-formed is not what was encrypted.
        known = [HEADER, WRONG]
        if key is None:
            known += [got] if got[0] in ("55000", "42704") and "key" in got[1] else []
        return known

    def test_every_value_of_the_version(self):
        for options in ("", ", format => 1"):
            whole = self.exported("(SELECT 1 AS a)", f", key => '{KEY}'{options}")
            came = self.outcomes([whole[:4] + bytes([value]) + whole[5:] for value in range(256)])
            self.assertEqual([value for value, got in enumerate(came) if got[0] == "imported"], [whole[4]])
            # The other one takes it for what it is not.
            self.assertEqual(came[3 - whole[4]][0], {1: "22P04", 2: "39000"}[whole[4]] if came[3 - whole[4]] != ("54000", came[3 - whole[4]][1]) else "54000")

    # ---- chunks

    def test_chunks(self):
        self.query("CREATE TABLE long AS SELECT g AS a, repeat(md5(g::text), 30) AS b FROM generate_series(1, 100) AS g; CREATE TABLE other AS SELECT a + 1000 AS a, reverse(b) AS b FROM long")
        whole, again, other = self.exported("long"), self.exported("long"), self.exported("other")
        of_key = self.exported("long", f", key => '{OTHER_KEY}'")
        zipped = self.exported("long", f", key => '{KEY}', compression => 'zstd'")
        wrapped, wrapped_other = self.exported("long", ""), self.exported("other", "")
        one = self.exported("long", f", key => '{KEY}', format => 1")

        def parts(file):
            """Header, salt and commitment, chunks."""
            end = 9 + int.from_bytes(file[5:9], "big")
            body = file[end + PREFIX:]
            return file[:end], file[end:end + PREFIX], [body[at:at + CHUNK + TAG] for at in range(0, len(body), CHUNK + TAG)]

        header, prefix, chunks = parts(whole)
        self.assertGreater(len(chunks), 4)
        join = lambda chunks, header=header, prefix=prefix: header + prefix + b"".join(chunks)
        variants = {}
        for n in range(len(chunks)):
            variants[f"without chunk {n}"] = join(chunks[:n] + chunks[n + 1:])
            variants[f"chunk {n} twice"] = join(chunks[:n + 1] + chunks[n:])
            variants[f"cut before chunk {n}"] = join(chunks[:n])
            variants[f"chunk {n} of another file"] = join(chunks[:n] + [parts(other)[2][n]] + chunks[n + 1:])
            variants[f"chunk {n} of the same table"] = join(chunks[:n] + [parts(again)[2][n]] + chunks[n + 1:])
            variants[f"chunk {n} of another key"] = join(chunks[:n] + [parts(of_key)[2][n]] + chunks[n + 1:])
            variants[f"chunk {n} at the end"] = join(chunks + [chunks[n]])
            variants[f"chunk {n} of zeros"] = join(chunks[:n] + [bytes(len(chunks[n]))] + chunks[n + 1:])
            for m in range(n):
                swapped = list(chunks)
                swapped[n], swapped[m] = chunks[m], chunks[n]
                variants[f"chunks {m} and {n} swapped"] = join(swapped)
            variants[f"spliced after chunk {n}"] = join(chunks[:n] + parts(other)[2][n:])
            variants[f"spliced in the middle of chunk {n}"] = join(chunks)[:len(header) + PREFIX + n * (CHUNK + TAG) + 100] + join(parts(other)[2])[len(header) + PREFIX + n * (CHUNK + TAG) + 100:]
        variants |= {
            "reversed": join(chunks[::-1]), "the last chunk only": join(chunks[-1:]), "a last chunk that is empty": join(chunks + [b""]) + bytes(TAG), "a tag more": join(chunks) + bytes(TAG), "a whole file more": whole + other, "its chunks again": join(chunks + chunks),
            "the salt of another": join(chunks, prefix=parts(other)[1][:24] + prefix[24:]), "the commitment of another": join(chunks, prefix=prefix[:24] + parts(other)[1][24:]), "both of another": join(chunks, prefix=parts(other)[1]),
            "the body of another, with its salt": header + other[len(header):] if parts(other)[0] != header else whole[:-1], "its header on one that is compressed": header + zipped[len(parts(zipped)[0]):], "the header of a compressed one": parts(zipped)[0] + whole[len(header):],
            "the header of a wrapped key": parts(wrapped)[0] + whole[len(header):], "a given key's header on a wrapped one's": header + wrapped[len(parts(wrapped)[0]):], "as version 1": b"PENC\1" + whole[5:], "its content as version 1": b"PENC\1" + join(chunks)[len(header):],
            "a header twice": header + header[9:] + whole[len(header):], "version 1 as version 2": b"PENC\2" + one[5:], "a member of the header more": penc.header(more=1) + whole[len(header):], "the header in another form": header[:5] + (len(header) - 8).to_bytes(4, "big") + header[9:] + b" " + whole[len(header):],
            "another content type": penc.header(content_type="text/plain") + whole[len(header):],
        }
        came = self.all_refused(variants)
        self.assertEqual({name: got for name, got in came.items() if got not in (WRONG, TRUNCATED, HEADER, NO_PENC) and got[0] != "22023"}, {})
        # Header and body of two files whose own keys are wrapped.
        header, prefix, chunks = parts(wrapped)
        came = self.all_refused({"header of one, body of another": header + wrapped_other[len(parts(wrapped_other)[0]):], "body of one": parts(wrapped_other)[0] + wrapped[len(header):], "spliced": join(chunks[:2] + parts(wrapped_other)[2][2:], header, prefix)}, key=None)
        self.assertEqual(set(came.values()), {WRONG})
        # And what was not changed is imported.
        self.assertEqual([got[0] for got in self.outcomes([whole, again, other, zipped, one])], ["imported"] * 5)
        self.assertEqual(self.outcomes([of_key]), [WRONG])

    def test_files_of_two_keys(self):
        """Version 1 opens under any key that somebody has made it for; version 2 under the one that it commits to."""
        content = penc.content([("a", "integer"), ("b", "text")], ["1\tx", "2\ty"], collection="public.made") + b"3\t"
        given = {"keys": [KEY, OTHER_KEY], "content": base64.b64encode(content).decode(), "header": base64.b64encode(penc.header()).decode()}
        done = subprocess.run([*drivers.cryptography(), paths.ROOT / "tests/scenarios/two_key_files.py"], input=json.dumps(given), capture_output=True, text=True)
        self.assertEqual((done.returncode, done.stderr), (0, ""))
        made = json.loads(done.stdout)
        one, *committed = [base64.b64decode(made["one"]), *map(base64.b64decode, made["committed"])]
        # Both tags are right: the second key gives something else that was authentic, as far as version 1 knows. It is no table.
        self.assertEqual(self.outcomes([one]), [("imported", "")])
        (state, message), = self.outcomes([one], key=OTHER_KEY)
        self.assertEqual(state, "22P04")
        self.assertNotEqual((state, message), WRONG)
        self.assertIn("does not commit to its key", (paths.ROOT / "docs/file-format.md").read_text(encoding="utf-8"))
        # Of version 2, the key that is not committed to is refused, though all tags are right; the other one opens it.
        self.assertEqual(self.outcomes(committed), [("imported", ""), WRONG])
        state, other = self.outcomes(committed, key=OTHER_KEY)
        self.assertEqual(state, WRONG)
        self.assertNotIn(other, (WRONG, ("imported", "")))

    # ---- content

    def test_what_follows_the_rows(self):
        """COPY stops at a line with a backslash and a dot. What comes then would be in the file, and in no table."""
        columns, rows = [("a", "integer"), ("b", "text")], b"1\tx\n2\ty\n"
        more = b"".join(b"%d\tz\n" % n for n in range(3, 200000))
        contents = {"a row more": rows + b"\\.\n3\tz\n", "an empty line": rows + b"\\.\n\n", "a byte": rows + b"\\.\nx", "bytes of no text": rows + b"\\.\n\xff\0", "another end": rows + b"\\.\n\\.\n", "a lot": rows + b"\\.\n" + more, "at once": b"\\.\n" + rows,
                    "60 kB": rows + b"\\.\n" + more[:60000], "70 kB": rows + b"\\.\n" + more[:70000], "after a carriage return": b"1\tx\r\n\\.\r\n3\tz\r\n"}
        for version in (1, 2):
            files = penc.make(*(penc.content(columns, content) for content in contents.values()), version=version)
            with self.subTest(version=version):
                came = self.all_refused(dict(zip(contents, files)))
                self.assertEqual({got[0] for got in came.values()}, {"22P04"})
                # Cut or changed there, they are refused as any other one.
                whole = files[list(contents).index("a lot")]
                self.assertEqual({got[0] for got in self.outcomes([whole[:len(whole) // 2], whole[:-1], whole[:len(whole) // 2] + b"x" + whole[len(whole) // 2 + 1:], whole[:-1] + bytes([whole[-1] ^ 1])])} - {"39000", "22P04"}, set())
        # Escaped, or in a field, it is none.
        fine, = penc.make(penc.content(columns, b"1\t\\\\.\n2\t.\n"))
        self.assertEqual(self.outcomes([fine]), [("imported", "")])

    def test_content_that_is_none(self):
        columns = [("a", "integer"), ("b", "text")]
        line = penc.content(columns)
        contents = {
            "nothing": b"", "no newline": line[:-1], "an empty line": b"\n", "no JSON": b"a,b\n", "an array": b"[]\n1\tx\n", "a number": b"1\n", "null": b"null\n", "no columns": b'{"collection": "x"}\n', "no collection and no name": b'{"columns": 1}\n', "two objects": b'{"columns": []}{}\n',
            "JSON in UTF-16": line.decode().encode("utf-16"), "bytes of no text in the line": line.replace(b"public", b"\xff\xfe"), "a zero in the line": line.replace(b"public", b"\\u0000"), "a field less": line + b"1\n", "a field more": line + b"1\tx\ty\n", "another delimiter": line + b"1,x\n",
            "bytes of no text in a row": line + b"1\t\xff\n", "a cut character": line + b"1\t\xc5\n", "a zero in a row": line + b"1\t\0\n", "a number that is none": line + b"x\tx\n", "mixed line ends": line + b"1\tx\n2\ty\r\n", "binary COPY": line + b"PGCOPY\n\xff\r\n\0",
            "a surrogate": penc.content(columns, b"1\t\xed\xa0\x80\n"), "an escaped byte of no text": line + b"1\t\\xff\n", "too deep": b'{"columns": ' + b"[" * 100000 + b"]" * 100000 + b"}\n", "a line that is too long": b'{"collection": "' + b"x" * (17 << 20) + b'"}\n',
            "a null in a NOT NULL": penc.content([("a", "integer", {"not_null": True})], b"\\N\n"), "a type that is not there": penc.content([("a", "nothing")], b"1\n"), "a column twice": penc.content([("a", "integer"), ("a", "integer")], b"1\t1\n"),
            "1601 columns": penc.content([(f"c{n}", "boolean") for n in range(1601)], b"\t".join([b"t"] * 1601) + b"\n"), "a name that is too long": penc.content([("n" * 64, "integer"), ("n" * 65, "integer")], b"1\t1\n"),
        }
        for version in (1, 2):
            with self.subTest(version=version):
                came = self.all_refused(dict(zip(contents, penc.make(*contents.values(), version=version))))
                # No error of our own making.
                self.assertEqual({name: got for name, got in came.items() if got[0].startswith("XX") or "internal error" in got[1]}, {})
        self.assertEqual(self.outcomes(penc.make(line, line + b"1\tx", line + b"1\tx\r\n2\ty\r\n", line + b"1\t\xc5\x91\n")), [("imported", "")] * 4)
        # What is in it is no table at all.
        came = self.outcomes([*penc.make(line, content_type="text/csv"), *penc.make(line, content_type=""), *penc.make(line, content_type=penc.TABLE + "x")])
        self.assertEqual({got[0] for got in came} & {"imported"}, set())

    def test_compressed_content(self):
        """Frames of zstd (RFC 8878) that are not as the format has them; blocks of one repeated byte make them long."""
        content = penc.content([("a", "text")], b"1\n2\n")

        def frame(*blocks):
            return b"\x28\xb5\x2f\xfd" + b"\x00\x58" + b"".join((size << 3 | kind << 1 | (number == len(blocks) - 1)).to_bytes(3, "little") + data for number, (kind, size, data) in enumerate(blocks))

        raw = lambda data: (0, len(data), data)
        good = frame(raw(content))
        long_row = frame(raw(penc.content([("a", "text")])), *[(1, 100000, b"x")] * 20, raw(b"\n"))
        # 2 GB of a line without an end; of a row without one; both less than 200 kB in the file.
        bombs = {"a line without an end": frame(*[(1, 100000, b"x")] * 20000), "a row without an end": frame(raw(content), *[(1, 100000, b"x")] * 20000)}
        variants = {"no frame": content, "nothing": b"", "half of a frame": good[:-3], "a frame without its last block": frame(raw(content), raw(b"3\n"))[:-5], "an unknown block": good[:6] + b"\x07\0\0" + good[9:], "another magic": b"\x29" + good[1:], "bytes after it": good + b"x", "a row after it": good + b"3\n",
                    "a checksum that is wrong": good[:4] + bytes([good[4] | 4]) + good[5:] + b"abcd", "after the rows' end": frame(raw(content + b"\\.\n3\n"))}
        files = penc.make_with(penc.header("zstd"), good, long_row, *variants.values(), *bombs.values())
        self.assertEqual([got[0] for got in self.outcomes(files[:2])], ["imported"] * 2)
        came = self.all_refused(dict(zip([*variants, *bombs], files[2:])))
        self.assertEqual({name: got for name, got in came.items() if got[0].startswith("XX") or "internal error" in got[1]}, {})


if __name__ == "__main__":
    unittest.main()
