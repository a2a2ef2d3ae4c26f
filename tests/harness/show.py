"""Short readable steps on the terminal: the SQL, then its result."""

import sys
import time

from .psql import prelude

BOLD, DIM, OFF = ("\033[1m", "\033[2m", "\033[0m") if sys.stdout.isatty() else ("", "", "")


class Show:
    """What the demo prints with; `secrets` are cut short wherever they would appear."""

    def __init__(self, cluster, db="postgres"):
        self.cluster, self.db = cluster, db
        self.secrets = []
        self._step = 0

    def step(self, title):
        self._step += 1
        print(f"\n{BOLD}{self._step}. {title}{OFF}", flush=True)

    def say(self, text):
        print(f"   {text}", flush=True)

    def echo(self, text, user="postgres"):
        for line in text.splitlines():
            print(f"   {DIM}{user}=>{OFF} {self._mask(line)}", flush=True)

    def sql(self, text, user="postgres", hidden="", fails=False, **kw):
        """Print the SQL and psql's answer. hidden: run before it, unseen. Gives the seconds it took."""
        text = text.strip()
        self.echo(text, user)
        started = time.monotonic()
        done = self.cluster.run(["psql", "-Xq", "-v", "ON_ERROR_STOP=1", "-P", "footer=off", "-P", "pager=off"], user, self.db,
                                input=f"{prelude()}{hidden}\n{text}\n", check=False, **kw)
        seconds = time.monotonic() - started
        for line in (done.stdout + done.stderr).rstrip().splitlines():
            print(f"      {self._mask(line)}")
        if (done.returncode != 0) != fails:
            sys.exit("   this was not expected: the demo stops here")
        return seconds

    def value(self, sql, **kw):
        return self.cluster.psql(sql, db=self.db, **kw)

    def _mask(self, line):
        for secret in self.secrets:
            line = line.replace(secret, secret[:6] + "…")
        return line if len(line) <= 132 else line[:129] + "…"
