"""What the tests of drivers, that of our SQL, and the plots of benchmarks run with: pinned packages in PRISM_CACHE, fetched at the first use."""

import fcntl
import functools
import re
import shutil
import subprocess
import sys
import unittest
from pathlib import Path

from . import paths

SOURCES = paths.ROOT / "tests/drivers"
HOME = paths.CACHE / "drivers"
# What pip, npm and cargo say when there is no way to their registry, and venv where it has no pip. Any other failure is a failure of the test.
UNREACHABLE = re.compile(
    r"name resolution|Name or service not known|NewConnectionError|ConnectTimeout|ReadTimeout|ProxyError|Tunnel connection failed"
    r"|ensurepip is not available|Network is unreachable|Connection refused|EAI_AGAIN|ENOTFOUND|ECONNREFUSED|ECONNRESET|ETIMEDOUT|ENETUNREACH|EHOSTUNREACH"
    r"|Could not resolve host|Could not connect|Couldn't connect|Could not resolve proxy|Timeout was reached|CONNECT tunnel failed", re.I)


class _Unreachable(Exception):
    """There is no way to the registry, or to what asks it."""


def _run(argv, **kw):
    argv = [str(a) for a in argv]
    try:
        done = subprocess.run(argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False,
                              env=paths.clean_env(), **kw)
    except FileNotFoundError:
        raise _Unreachable(f"{argv[0]} is not installed") from None
    if done.returncode != 0:
        if found := UNREACHABLE.search(done.stdout):
            raise _Unreachable(found[0])
        raise RuntimeError(f"{' '.join(argv)} failed:\n{done.stdout[-3000:]}")


def _require(argv):
    """A command that fails where a package of the system is not there."""
    try:
        _run(argv)
    except RuntimeError as error:
        raise _Unreachable(str(error)) from None


def _make_once(home, wanted, make):
    """Calls make() unless home was made for the same wanted (str) before."""
    stamp = home / ".made-for"
    home.parent.mkdir(parents=True, exist_ok=True)
    # Tests of two versions of PostgreSQL may begin at once.
    with home.with_name(f".{home.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if stamp.exists() and stamp.read_text(encoding="utf-8") == wanted:
            return
        shutil.rmtree(home, ignore_errors=True)
        home.mkdir()
        make()
        stamp.write_text(wanted, encoding="utf-8")


def _or_skip(provide):
    """provide(…), remembered; the tests are skipped where it can't reach a registry."""
    @functools.cache
    def attempt(*args):
        try:
            return provide(*args), None
        except _Unreachable as error:
            return None, f"{provide.__name__}{args or ''}: can't be had here ({error})"

    @functools.wraps(provide)
    def wrapper(*args):
        provided, reason = attempt(*args)
        if reason:
            raise unittest.SkipTest(reason)
        return provided
    return wrapper


def _interpreter(home, requirements, *options):
    """Command (a list) of an interpreter that has the packages of a file. options: pip's."""
    executable = home / "bin/python"

    def make():
        _run([sys.executable, "-m", "venv", home])
        _run([executable, "-m", "pip", "install", "-q", "--disable-pip-version-check", "--retries", "1", "--timeout", "20", *options, "-r", requirements])

    _make_once(home, f"{sys.executable} {sys.version}\n{requirements.read_text(encoding='utf-8')}", make)
    return [str(executable)]


@_or_skip
def python():
    """Command (a list) of an interpreter that has the drivers of requirements.txt."""
    return _interpreter(HOME / f"python-{sys.version_info.major}.{sys.version_info.minor}", SOURCES / "requirements.txt")


@_or_skip
def pglast():
    """Command (a list) of an interpreter that has PostgreSQL's parser."""
    return _interpreter(HOME / f"pglast-{sys.version_info.major}.{sys.version_info.minor}", paths.ROOT / "tests/sql/requirements.txt")


@_or_skip
def cryptography():
    """Command (a list) of an interpreter that has another AES-GCM."""
    return _interpreter(HOME / f"cryptography-{sys.version_info.major}.{sys.version_info.minor}", paths.ROOT / "tests/docs/requirements.txt")


@_or_skip
def s3():
    """Command (a list) of an interpreter that has an S3 server, a client of it, and psycopg."""
    return _interpreter(HOME / f"s3-{sys.version_info.major}.{sys.version_info.minor}", paths.ROOT / "tests/scenarios/s3-requirements.txt")


def matplotlib():
    """Command (a list) of an interpreter that draws what `make bench` measures."""
    return _interpreter(HOME / f"matplotlib-{sys.version_info.major}.{sys.version_info.minor}", paths.ROOT / "benches/requirements.txt")


@_or_skip
def pgxn():
    """Command (a list) of PGXN's client."""
    # It is built when it is installed, and its scripts name the interpreter then: a wheel that pip kept is for another one.
    python, = _interpreter(HOME / f"pgxn-{sys.version_info.major}.{sys.version_info.minor}", paths.ROOT / "tests/packages/requirements.txt",
                           "--no-cache-dir")
    return [str(Path(python).with_name("pgxn"))]


@_or_skip
def node(directory):
    """Command (a list) of a node that finds the packages of the package-lock.json in a directory of tests/drivers."""
    home = HOME / f"node-{directory}"
    files = [SOURCES / directory / name for name in ("package.json", "package-lock.json")]

    def make():
        for file in files:
            shutil.copy(file, home)
        _run(["npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--fetch-retries=1", "--fetch-timeout=20000"], cwd=home)

    _make_once(home, "".join(f.read_text(encoding="utf-8") for f in files), make)
    return ["env", f"NODE_PATH={home / 'node_modules'}", "node"]


def _cargo(directory):
    """Command (a list) of the program in a directory of tests/drivers; cargo knows whether it is up to date."""
    manifest = SOURCES / directory / "Cargo.toml"
    _run(["cargo", "build", "--release", "--locked", "--quiet", "--manifest-path", manifest, "--target-dir", HOME / "cargo"])
    return [str(HOME / "cargo/release" / re.search('^name = "(.*)"$', manifest.read_text(encoding="utf-8"), re.M)[1])]


@_or_skip
def tokio_postgres():
    return _cargo("tokio_postgres")


@_or_skip
def sqlx():
    return _cargo("sqlx")


@_or_skip
def ruby():
    """Command (a list) of a Ruby that has Active Record and PostgreSQL's driver, both of the system."""
    # The releases that the tests are for; others may name things differently.
    _require(["ruby", "-e", "gem 'activerecord', '~> 6.1.7'; gem 'pg', '~> 1.4'; require 'active_record'; require 'pg'"])
    return ["ruby"]


@_or_skip
def java():
    """Command (a list) of a Java that compiles what it runs and has PostgreSQL's driver, both of the system."""
    driver = next(Path("/usr/share/java").glob("postgresql-42.5.*.jar"), None)
    if driver is None:
        raise _Unreachable("there is no pgJDBC 42.5 in /usr/share/java")
    # A short run gains nothing from the second compiler.
    java = ["java", "-XX:TieredStopAtLevel=1", "-cp", str(driver)]
    _require(java + ["--add-modules", "jdk.compiler", "--version"])
    return java


@_or_skip
def pgx():
    """Command (a list) of the program in tests/drivers/pgx, with the driver that Debian packages; go knows whether it is up to date."""
    packages = Path("/usr/share/gocode")
    if not (packages / "src/github.com/jackc/pgx/v4").is_dir():
        raise _Unreachable("golang-github-jackc-pgx-v4-dev is not installed")
    # Nothing is fetched: without modules, go builds from this path only.
    settings = {"GO111MODULE": "off", "GOPATH": packages, "GOCACHE": HOME / "go-cache", "GOFLAGS": "", "GOENV": "off"}
    _run(["env", *(f"{name}={value}" for name, value in settings.items()), "go", "build", "-buildvcs=false", "-o", HOME / "pgx", "."], cwd=SOURCES / "pgx")
    return [str(HOME / "pgx")]
