"""Places and users; tools/env.sh decides them."""

import os
import pwd
import subprocess
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def _load():
    out = subprocess.run(["sh", str(ROOT / "tools/env.sh")], check=True, capture_output=True, text=True).stdout
    return dict(line.split("=", 1) for line in out.splitlines())


ENV = _load()
PG_MAJOR = int(ENV["PG_MAJOR"])
# The setting that makes PostgreSQL take parallel workers for nothing.
FORCE_PARALLEL = "debug_parallel_query" if PG_MAJOR >= 16 else "force_parallel_mode"
CACHE = Path(ENV["PRISM_CACHE"])
PG_CONFIG = Path(ENV["PG_RELEASE"])
SERVER_USER = ENV["SERVER_USER"]
LOG_DIR = Path(os.environ.get("PRISM_LOG_DIR", ROOT / "target/test-logs"))
SERVER_LOG_DIR = LOG_DIR / "servers"


def pg_config(option, config=PG_CONFIG):
    return Path(subprocess.run([str(config), option], check=True, capture_output=True, text=True).stdout.strip())


def bindir(major=PG_MAJOR):
    """Programs of the private copy, or of that of another major version (see installed)."""
    return PG_CONFIG.parent if major == PG_MAJOR else installed(major).parent


def installed(major):
    """
    pg_config of the private copy of a major version, if the extension is installed there, otherwise None. Others than the
    tested one are there after `tools/install-older`.
    """
    root = CACHE / f"pg{major}/release"
    for config in (CACHE / f"upgrade/pg{major}/release/bin/pg_config", root / "bin/pg_config", root / f"usr/lib/postgresql/{major}/bin/pg_config"):
        if config.exists() and (pg_config("--sharedir", config) / "extension/prism_crypt.control").exists():
            return config
    return None


def server_identity():
    """Arguments of subprocess that make a child the server's user (nothing for an ordinary user)."""
    if os.geteuid() != 0:
        return {}
    entry = pwd.getpwnam(SERVER_USER)
    return {"user": entry.pw_uid, "group": entry.pw_gid, "extra_groups": []}


def give_to_server(path):
    identity = server_identity()
    if identity:
        os.chown(path, identity["user"], identity["group"])


def clean_env(**extra):
    """The caller's environment without what would point clients elsewhere or change their output."""
    env = {k: v for k, v in os.environ.items() if not k.startswith("PG")}
    env["PATH"] = f"{bindir()}:{ENV['PATH']}"
    env["LC_ALL"] = "C.UTF-8"
    env["LC_MESSAGES"] = "C"
    env.pop("LANGUAGE", None)
    env.update({k: str(v) for k, v in extra.items() if v is not None})
    return env
