"""What the packages are built with and where: in PRISM_CACHE, so that a second run has little to compile."""

import fcntl
import os
import shutil
import subprocess
import tempfile
import unittest
from pathlib import Path

from harness import paths

HOME = paths.CACHE / "packages"
CARGO_TARGET = HOME / "cargo"
# A PostgreSQL of its own: other tests use the private copy at the same time, and what is tried here removes files again.
ORIGINAL = paths.CACHE / f"pg{paths.PG_MAJOR}/release"
COPY = HOME / f"pg{paths.PG_MAJOR}"
PG_CONFIG = COPY / paths.PG_CONFIG.relative_to(ORIGINAL)
CARGO_HOME = os.environ.get("CARGO_HOME", os.path.expanduser("~/.cargo"))

# The package is tried, not its speed. Both ways to build are given the same, so that they share what they compile.
QUICK = {
    "CARGO_TARGET_DIR": str(CARGO_TARGET), "CARGO_INCREMENTAL": "0", "CARGO_PROFILE_RELEASE_LTO": "off",
    "CARGO_PROFILE_RELEASE_CODEGEN_UNITS": "16", "CARGO_PROFILE_RELEASE_INCREMENTAL": "false",
    "CARGO_PROFILE_RELEASE_OPT_LEVEL": "1",
    # Debian's tools set these two, and what compiles C is built anew where they differ.
    "CFLAGS": "-O2", "SOURCE_DATE_EPOCH": "1767225600",
    "OPTFLAGS": "", "RUSTFLAGS": f"--remap-path-prefix={CARGO_HOME}/registry/src=/usr/share/cargo/registry",
}


def env(**extra):
    # A make that runs the tests hands its own settings down.
    found = paths.clean_env(**{**QUICK, f"PG_CONFIG_{paths.PG_MAJOR}": PG_CONFIG, **extra})
    return {name: value for name, value in found.items() if name not in ("MAKEFLAGS", "MFLAGS", "MAKELEVEL", "DESTDIR")}


def tracked(folder="."):
    """The files of the project, or of one of its folders."""
    with tempfile.TemporaryDirectory(prefix="prism-files-") as directory:
        run(["tools/export", directory])
        return sorted(str(path.relative_to(directory)) for path in Path(directory, folder).rglob("*") if path.is_file())


def run(argv, **kw):
    """Output of a command, which must succeed."""
    done = subprocess.run([str(a) for a in argv], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                          check=False, env=kw.pop("env", env()), cwd=kw.pop("cwd", paths.ROOT), **kw)
    if done.returncode:
        raise AssertionError(f"{' '.join(map(str, argv))} ended with {done.returncode}:\n{done.stdout[-6000:]}")
    return done.stdout


def version():
    """That of Cargo.toml."""
    lines = (paths.ROOT / "Cargo.toml").read_text(encoding="utf-8").splitlines()
    return next(line.split('"')[1] for line in lines if line.startswith("version = "))


def _copy():
    stamp = (ORIGINAL / ".source").read_text(encoding="utf-8")
    if (COPY / ".source").exists() and (COPY / ".source").read_text(encoding="utf-8") == stamp:
        return
    shutil.rmtree(COPY, ignore_errors=True)
    subprocess.run(["cp", "-a", ORIGINAL, COPY], check=True)


def _forget_own_builds():
    """Each archive is unpacked and built in another directory; what was made of that would only pile up."""
    release = CARGO_TARGET / "release"
    for kind in (".fingerprint", "build", "deps"):
        for made in [*(release / kind).glob("*prism[-_]*")]:
            shutil.rmtree(made) if made.is_dir() else made.unlink()


class Workplace(unittest.TestCase):
    """Nobody else builds here meanwhile, from this checkout or another."""

    maxDiff = None

    @classmethod
    def setUpClass(cls):
        HOME.mkdir(parents=True, exist_ok=True)
        lock = open(HOME / ".lock", "w", encoding="ascii")
        cls.addClassCleanup(lock.close)
        fcntl.flock(lock, fcntl.LOCK_EX)
        _copy()
        cls.addClassCleanup(_forget_own_builds)
