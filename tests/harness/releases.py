"""The versions of the extension: frozen install scripts, and the scripts between them."""

import re
import subprocess

from . import paths

FROZEN = paths.ROOT / "sql/releases"
UPGRADES = paths.ROOT / "sql/upgrade"


def numbers(version):
    return tuple(map(int, version.split(".")))


def current():
    """The version of the sources."""
    return re.search(r'^version = "(.+)"$', (paths.ROOT / "Cargo.toml").read_text(encoding="utf-8"), re.M).group(1)


def frozen():
    """Versions with a frozen install script, oldest first."""
    return sorted((path.stem.removeprefix("prism_crypt--") for path in FROZEN.glob("*.sql")), key=numbers)


def older():
    """Those that ALTER EXTENSION UPDATE brings to the current one."""
    return [version for version in frozen() if version != current()]


def script(version):
    """The text of a frozen install script."""
    return (FROZEN / f"prism_crypt--{version}.sql").read_text(encoding="ascii")


def install_sql(*arguments):
    """What tools/install-sql says: (exit code, output)."""
    done = subprocess.run([paths.ROOT / "tools/install-sql", *arguments], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    return done.returncode, done.stdout
