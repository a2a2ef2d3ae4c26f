"""The library is optimized as a whole: half of the cipher's speed with large values, and a quarter with short ones, comes from that."""

import tomllib
import unittest

from harness import paths


class LinkTime(unittest.TestCase):
    def test_cargo_optimizes_at_link_time(self):
        """cargo leaves it out, without a word, where a crate is an ordinary library beside."""
        manifest = tomllib.loads((paths.ROOT / "Cargo.toml").read_text(encoding="utf-8"))
        self.assertEqual(manifest["lib"]["crate-type"], ["cdylib"])
        self.assertEqual(manifest["profile"]["release"]["lto"], "fat")


if __name__ == "__main__":
    unittest.main()
