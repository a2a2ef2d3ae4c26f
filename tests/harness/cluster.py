"""A PostgreSQL cluster of its own with the clients to use it."""

import subprocess
import time
from pathlib import Path

from . import paths
from .psql import PgError, Session, prelude
from .server import Server


class Cluster(Server):
    """
    with Cluster("name", preload=True, conf={"work_mem": "'8MB'"}) as c:
        c.psql("SELECT 1")

    home: a fixed directory instead of a temporary one. keep: leave server and files behind (for the demo). major: another
    PostgreSQL, which must be installed (paths.installed). initdb: more options for it.
    """

    # ---- clients (run as the caller)

    def env(self, user="postgres", db="postgres", **extra):
        return paths.clean_env(PGHOST=self.socket, PGPORT=self.port, PGUSER=user, PGDATABASE=db, PSQLRC="/dev/null", **extra)

    def run(self, argv, user="postgres", db="postgres", input=None, check=True, text=True, **env):
        """pg_dump, pgbench, …: argv[0] comes from the private copy. Gives the CompletedProcess."""
        if isinstance(input, str) and not text:
            input = input.encode()
        result = subprocess.run(
            [str(self.bindir / argv[0]), *map(str, argv[1:])], input=input, text=text,
            env=self.env(user, db, **env), capture_output=True, **({} if input is not None else {"stdin": subprocess.DEVNULL})
        )
        if check and result.returncode != 0:
            err = result.stderr if text else result.stderr.decode("utf-8", "replace")
            raise PgError(err or f"{argv[0]} ended with {result.returncode}")
        return result

    def run_psql(self, sql, user="postgres", db="postgres", vars=None, check=True, verbose=False, **env):
        """The CompletedProcess of `psql -XAtq` that read the script; it stops at the first error."""
        return self.run(["psql", "-XAtq", "-v", "ON_ERROR_STOP=1"], user, db, prelude(vars, verbose) + sql, check, **env)

    def psql(self, sql, user="postgres", db="postgres", vars=None, check=True, **env):
        """Output of a script, without the last newline; raises PgError. check=False: stdout, then stderr."""
        result = self.run_psql(sql, user, db, vars, check, verbose=True, **env)
        return (result.stdout if check else result.stdout + result.stderr).rstrip("\n")

    def error(self, sql, user="postgres", db="postgres", vars=None, **env):
        """The PgError (sqlstate, message, detail, hint, text) that the script must give."""
        result = self.run_psql(sql, user, db, vars, check=False, verbose=True, **env)
        if result.returncode == 0:
            raise AssertionError(f"no error from: {sql}\n{result.stdout}{result.stderr}")
        return PgError(result.stderr)

    def session(self, user="postgres", db="postgres", cwd=None, **env):
        """A psql that stays open (see Session)."""
        argv = [str(self.bindir / "psql"), "-XAtq"]
        return Session(argv, self.env(user, db, **env), cwd)

    def create_db(self, name):
        self.psql(f'CREATE DATABASE "{name}"')
        return name

    def reload(self):
        """The next statement of every session goes by the new settings."""
        # The postmaster reads the files, then tells its children, and only then makes another one, which has this time from it.
        before = self.psql("SELECT pg_conf_load_time()")
        super().reload()
        self.wait_for(f"SELECT pg_conf_load_time() > '{before}'")

    # ---- copies and standbys

    def basebackup(self, dest, *options):
        """pg_basebackup into dest, owned by the server's user."""
        identity = paths.server_identity()
        argv = [self.bindir / "pg_basebackup", "-D", dest, "-h", self.socket, "-p", self.port, "-U", "postgres",
                "-c", "fast", "-X", "stream", *options]
        result = subprocess.run([str(a) for a in argv], capture_output=True, text=True, cwd="/", env=paths.clean_env(HOME="/"), **identity)
        if result.returncode != 0:
            raise RuntimeError(result.stderr)
        return Path(dest)

    def standby(self, name=None, conf=None):
        """A streaming hot standby, not started yet: `with primary.standby() as s:`."""
        other = Cluster(name or f"{self.name}-standby", _empty=True)
        try:
            self.basebackup(other.data, "-R")
            other.configure(conf or {})
        except BaseException:
            other.close()
            raise
        return other

    def wait_for(self, sql, expected="t", timeout=60, **kw):
        deadline = time.monotonic() + timeout
        while (got := self.psql(sql, **kw)) != expected:
            if time.monotonic() > deadline:
                raise TimeoutError(f"{sql}: {got!r}, not {expected!r}")
            time.sleep(0.05)

    def wait_caught_up(self, standby, timeout=60):
        lsn = self.psql("SELECT pg_current_wal_lsn()")
        standby.wait_for(f"SELECT pg_last_wal_replay_lsn() >= '{lsn}'", timeout=timeout)
