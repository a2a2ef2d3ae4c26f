"""The Debian packages, of the extension for the chosen major version and of the tool: built, searched by lintian, and used as README says on a Debian that has nothing else."""

import os
import re
import shutil
import subprocess
import unittest

import workplace
from fresh_debian import FreshDebian
from harness import paths

MAJOR = paths.PG_MAJOR
PACKAGE = f"postgresql-{MAJOR}-prism-crypt"
DOC = f"usr/share/doc/{PACKAGE}"

SCRIPT = """
set -eux
apt-get install -y -q --no-install-recommends /{file}
dpkg -L {package} >/files
sh -eu /master-key.sh
cp /etc/postgresql/{major}/main/postgresql.conf /before.conf
cat /settings.conf >>/etc/postgresql/{major}/main/postgresql.conf
echo "listen_addresses = ''" >>/etc/postgresql/{major}/main/postgresql.conf
pg_ctlcluster {major} main start
runuser -u postgres -- psql -X -A -t -q -v ON_ERROR_STOP=1 -f /ten-lines.sql >/answers
runuser -u postgres -- psql -X -A -t -c "SELECT setting FROM prism_crypt.status() WHERE name = 'built_for'" >>/answers
runuser -u postgres -- psql -X -q -v ON_ERROR_STOP=1 -c 'DROP EXTENSION prism_crypt CASCADE'
pg_ctlcluster {major} main stop
apt-get purge -y -q {package}
while read -r file; do [ -d "$file" ] || [ ! -e "$file" ] || {{ echo "$file is still there"; exit 1; }}; done </files
[ ! -e /usr/share/doc/{package} ]
# The server goes on without it.
cp /before.conf /etc/postgresql/{major}/main/postgresql.conf
echo "listen_addresses = ''" >>/etc/postgresql/{major}/main/postgresql.conf
pg_ctlcluster {major} main start
runuser -u postgres -- psql -X -A -t -c "SELECT 'it goes on'" >>/answers
pg_ctlcluster {major} main stop
"""


def readme(title):
    """(language, text) of each block of code in a section of README.md."""
    text = (paths.ROOT / "README.md").read_text(encoding="utf-8")
    section = re.search(rf"^## {re.escape(title)}$(.*?)(?=^## )", text, re.M | re.S)[1]
    return re.findall(r"^```(\w*)[^\n]*\n(.*?)^```$", section, re.M | re.S)


class Deb(workplace.Workplace):
    @classmethod
    def setUpClass(cls):
        for tool in ("dpkg-buildpackage", "dh"):
            if not shutil.which(tool):
                raise unittest.SkipTest(f"{tool} is not installed")
        super().setUpClass()
        workplace.run(["tools/deb", MAJOR])
        cls.file, = (paths.ROOT / "target/deb").glob(f"{PACKAGE}_*.deb")
        cls.tool, = (paths.ROOT / "target/deb").glob("prism-crypt_*.deb")

    def field(self, name, file=None):
        return workplace.run(["dpkg-deb", "--field", file or self.file, name]).strip()

    def files(self, file=None):
        """{path: mode and owner}"""
        listed = workplace.run(["dpkg-deb", "--contents", file or self.file]).splitlines()
        rows = [line.split(maxsplit=5) for line in listed]
        return {row[5].removeprefix("./"): tuple(row[:2]) for row in rows if not row[5].endswith("/")}

    def test_lintian(self):
        if not shutil.which("lintian"):
            self.skipTest("lintian is not installed")
        said = workplace.run(["lintian", "--fail-on", "error,warning", "--allow-root", self.file, self.tool])
        self.assertEqual([line for line in said.splitlines() if re.match("[EW]: ", line)], [])

    def test_fields(self):
        version = workplace.version()
        self.assertEqual(self.file.name, f"{PACKAGE}_{version}-1_{self.field('Architecture')}.deb")
        needs = self.field("Depends").split(", ")
        self.assertIn(f"postgresql-{MAJOR}", needs)
        libc, = re.findall(r"\blibc6 \(>= ([\d.]+)\)", self.field("Depends"))
        self.assertLessEqual(tuple(map(int, libc.split("."))), (2, 36))
        # Nothing of what builds it, and no other server.
        self.assertEqual([need for need in needs if not re.match(r"(libc6|libgcc-s1|postgresql-\d+)( |\Z)", need)], [])

    def test_files(self):
        extension = f"usr/share/postgresql/{MAJOR}/extension"
        scripts = {path.name for folder in ("releases", "upgrade") for path in (paths.ROOT / "sql" / folder).glob("*.sql")}
        self.assertEqual(sorted(self.files()), sorted({
            f"usr/lib/postgresql/{MAJOR}/lib/prism_crypt.so",
            f"{extension}/prism_crypt.control", f"{extension}/prism_crypt--{workplace.version()}.sql",
            *(f"{extension}/{name}" for name in scripts),
            f"usr/share/lintian/overrides/{PACKAGE}",
            *(f"{DOC}/{name}" for name in ("README.md", "SECURITY.md", "changelog.gz", "changelog.Debian.gz", "copyright", "notices.gz", *workplace.tracked("docs"))),
        }))
        self.assertEqual(set(self.files().values()), {("-rw-r--r--", "root/root")})

    def test_the_tool(self):
        self.assertEqual(self.tool.name, f"prism-crypt_{workplace.version()}-1_{self.field('Architecture')}.deb")
        needs = self.field("Depends", self.tool).split(", ")
        self.assertEqual([need for need in needs if not re.match(r"(libc6|libgcc-s1|libssl3)( |\Z)", need)], [])
        files = self.files(self.tool)
        self.assertEqual(files.pop("usr/bin/prism-crypt"), ("-rwxr-xr-x", "root/root"))
        self.assertEqual(set(files.values()), {("-rw-r--r--", "root/root")})
        commands = {"", "-generate-key", "-backup-key", "-restore-key", "-inspect", "-verify", "-decrypt", "-encrypt", "-check-encryption", "-recover"}
        self.assertLessEqual({f"usr/share/man/man1/prism-crypt{command}.1.gz" for command in commands} | {
            "usr/share/bash-completion/completions/prism-crypt", "usr/share/zsh/vendor-completions/_prism-crypt",
            "usr/share/fish/vendor_completions.d/prism-crypt.fish", "usr/share/doc/prism-crypt/notices.gz"}, set(files))

    def test_nothing_of_the_builder(self):
        where = paths.ROOT / "target/deb/unpacked"
        shutil.rmtree(where, ignore_errors=True)
        for file in (self.file, self.tool):
            workplace.run(["dpkg-deb", "--extract", file, where])
        for path in where.rglob("*"):
            if path.is_file():
                for place in (workplace.CARGO_HOME, paths.ROOT, paths.CACHE):
                    self.assertNotIn(os.fsencode(f"{place}/"), path.read_bytes(), path)
        shutil.rmtree(where)

    def test_bad_input(self):
        """One line says what is wrong, and the packages that are there stay."""
        other = 14 if MAJOR != 14 else 15
        for major, said in ((13, "prism_crypt is for PostgreSQL 14 to 18, not 13"), (other, f"is not of PostgreSQL {other}")):
            done = subprocess.run(["tools/deb", str(major)], cwd=paths.ROOT, text=True, capture_output=True, check=False,
                                  env=workplace.env(**{f"PG_CONFIG_{other}": workplace.PG_CONFIG}))
            self.assertNotEqual(done.returncode, 0)
            self.assertRegex(done.stderr, rf"\Adeb: .*{said}\n\Z")
        self.assertTrue(self.file.exists())

    def test_on_a_fresh_debian(self):
        (_, _), (_, master_key), (_, settings) = readme("Install")
        language, ten_lines = readme("Ten lines of SQL")[0]
        self.assertEqual(language, "sql")
        with FreshDebian(f"postgresql-{MAJOR}") as debian:
            shutil.copy(self.file, debian.root)
            for name, text in (("master-key.sh", master_key), ("settings.conf", settings), ("ten-lines.sql", ten_lines)):
                (debian.root / name).write_text(text, encoding="utf-8")
            debian.run(SCRIPT.format(file=self.file.name, package=PACKAGE, major=MAJOR))
            answers = (debian.root / "answers").read_text(encoding="utf-8").splitlines()
        self.assertIn("Ada Lovelace|ada@example.org", answers)
        self.assertEqual(len([line for line in answers if re.fullmatch(r"prism:v1:\S+", line)]), 1, answers)
        self.assertRegex(answers[-3], r"\Aprism:v2:\S+\|2\Z")
        self.assertRegex(answers[-2], r"\Aany ", "the processors that the library is for")
        self.assertEqual(answers[-1], "it goes on")


if __name__ == "__main__":
    unittest.main()
