"""`make install-cli`: what is put where, and that nothing is left of it."""

import os
import tempfile
import unittest
from pathlib import Path

import workplace


class CliInstall(workplace.Workplace):
    def test_install_and_uninstall(self):
        with tempfile.TemporaryDirectory(prefix="prism-cli-") as scratch:
            # Another umask must not show.
            make = ["sh", "-c", 'umask 077; make "$@"', "sh", f"DESTDIR={scratch}", "PREFIX=/opt/prism"]
            workplace.run([*make, "install-cli"])
            root = Path(scratch, "opt/prism")
            files = {str(path.relative_to(root)): oct(path.stat().st_mode & 0o7777) for path in root.rglob("*") if path.is_file()}
            self.assertEqual(files.pop("bin/prism-crypt"), "0o755")
            self.assertEqual(set(files.values()), {"0o644"})
            self.assertLessEqual({"share/man/man1/prism-crypt.1", "share/man/man1/prism-crypt-decrypt.1", "share/bash-completion/completions/prism-crypt",
                                  "share/zsh/site-functions/_prism-crypt", "share/fish/vendor_completions.d/prism-crypt.fish"}, set(files))
            self.assertEqual(workplace.run([root / "bin/prism-crypt", "--version"]), f"prism-crypt {workplace.version()}\n")
            # The shell takes it.
            workplace.run(["bash", "-euc", f'. "{root}/share/bash-completion/completions/prism-crypt"; complete -p prism-crypt'])
            workplace.run([*make, "uninstall-cli"])
            self.assertEqual([path for path in root.rglob("*") if path.is_file()], [])
            self.assertTrue(os.path.isdir(root))


if __name__ == "__main__":
    unittest.main()
