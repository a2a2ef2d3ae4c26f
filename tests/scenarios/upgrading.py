"""pg_upgrade between private copies of PostgreSQL."""

import unittest

from harness import paths


def require(old):
    """Skips the test class unless a cluster of that major version can be upgraded to the tested one here."""
    if old >= paths.PG_MAJOR:
        raise unittest.SkipTest(f"PostgreSQL {paths.PG_MAJOR} is not later than {old}")
    if paths.installed(old) is None:
        raise unittest.SkipTest(f"no private copy of PostgreSQL {old} with the extension: run tools/install-older")
    if _marks_columns(old) and not _marks_columns(paths.PG_MAJOR):
        raise unittest.SkipTest("the old PostgreSQL is of a later day: it marks columns in a way that the new one refuses")


def _marks_columns(major):
    """15.20, and the minor releases of that day, note a version with each column, which pg_dump takes along."""
    return b"pg_attver" in (paths.bindir(major) / "postgres").read_bytes()


def initdb_options(old):
    """For a new cluster that takes over an old one: both have data checksums, or neither. 18 has them, unless it is told."""
    return ["--no-data-checksums"] if paths.PG_MAJOR >= 18 > old else []


def pg_upgrade(old, new):
    """Takes over the data of a stopped cluster."""
    options = ["-U", "postgres", "-s", new.socket, "-b", old.bindir, "-B", new.bindir, "-d", old.data, "-D", new.data]
    done = new.server_run(["sh", "-c", f'cd {new.home} && exec "$@"', "sh", new.bindir / "pg_upgrade", *options], check=False)
    if done.returncode:
        logs = "".join(log.read_text(errors="replace")[-3000:] for log in sorted(new.data.glob("pg_upgrade_output.d/*/log/pg_upgrade_dump_*.log")))
        raise RuntimeError(f"pg_upgrade failed:\n{done.stdout[-500:]}{done.stderr}{logs}")
