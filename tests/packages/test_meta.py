"""What the files for packages say agrees with the project."""

import json
import re
import unittest

from harness import paths
from workplace import version

MAJORS = ["14", "15", "16", "17", "18"]


def read(name):
    return (paths.ROOT / name).read_text(encoding="utf-8")


class Meta(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.meta = json.loads(read("META.json"))

    def test_versions(self):
        self.assertEqual(self.meta["version"], version())
        self.assertEqual({name: provided["version"] for name, provided in self.meta["provides"].items()}, {"prism_crypt": version()})

    def test_files(self):
        for provided in self.meta["provides"].values():
            for file in (provided["file"], provided["docfile"]):
                self.assertTrue((paths.ROOT / file).is_file(), file)
            # pgxn takes anything else for something that is no extension.
            self.assertTrue(provided["file"].endswith(".sql"))

    def test_what_the_specification_wants(self):
        self.assertLessEqual({"name", "version", "abstract", "maintainer", "license", "provides", "meta-spec"}, set(self.meta))
        self.assertEqual(self.meta["meta-spec"]["version"], "1.0.0")
        # https://pgxn.org/meta/spec.txt has a list of names for licenses.
        self.assertEqual(self.meta["license"], "postgresql")
        self.assertRegex(self.meta["name"], r"\A[^\s/\\\x00-\x1f]{2,}\Z")
        for tag in self.meta["tags"]:
            self.assertRegex(tag, r"\A[^/\\\x00-\x1f]{1,255}\Z")

    def test_major_versions(self):
        self.assertEqual(re.findall(r"^pg(\d+) = ", read("Cargo.toml"), re.M), MAJORS)
        self.assertIn(f"set -- {' '.join(MAJORS)}\n", read("tools/deb"))
        self.assertEqual(self.meta["prereqs"]["runtime"]["requires"]["PostgreSQL"], f">= {MAJORS[0]}.0.0, < {int(MAJORS[-1]) + 1}.0.0")

    def test_version_of_rust(self):
        wanted, = re.findall(r'^rust-version = "(.*)"$', read("Cargo.toml"), re.M)
        for document in ("README.md", "docs/installation.md"):
            self.assertEqual(re.findall(r"Rust toolchain\]\(https://rustup.rs\) \(([\d.]+) or later\)", read(document)), [wanted], document)

    def test_licenses(self):
        """Debian's copyright file has the words of LICENSE."""
        def words(text):
            return re.sub(r"^ \.$", "", text, flags=re.M).split()

        in_debian = read("packaging/debian/copyright").rpartition("License: PostgreSQL\n")[2]
        self.assertEqual(words(in_debian), words(read("LICENSE").partition("contributors\n")[2]))


if __name__ == "__main__":
    unittest.main()
