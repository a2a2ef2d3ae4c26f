"""
What attack tests share: roles, a secret, and ways of attack, each of them counted.

A way is a script that an attacker runs, and a goal: what he wants. It held if he did not get it, whatever else happened. An
error alone proves nothing, so each file has controls: the same goals, reached by somebody who may.
"""

import base64
import os
import re
import subprocess
from collections import Counter
from pathlib import Path

from harness import paths
from harness.psql import prelude
from harness.scenario import Scenario

# No canary: controls show it, and PostgreSQL logs what they show.
SECRET = "kowari.4711.dunnart"
FORMS = [SECRET, SECRET.encode().hex(), base64.b64encode(SECRET.encode()).decode(), SECRET[::-1], SECRET.upper()]
KINDS = ("decrypt", "mask", "search", "rotate", "load", "key_admin", "monitor")
# Who has no right to read.
BLIND = ("nobody", "mask", "search", "rotate", "load", "key_admin", "monitor")
ROLES = ("nobody", *KINDS, "doctor", "owner", "db_owner")
DIED = re.compile("server closed the connection|terminating connection because of crash|the connection ended")
TIMEOUT = 60

TRIED, HELD = Counter(), Counter()


def table():
    """The lines that tools/test shows: they begin with "ways "."""
    lines = [f"ways {name:<28}{TRIED[name]:>6}{HELD[name]:>6}" for name in sorted(TRIED)]
    return [f"ways {'':<28}{'tried':>6}{'held':>6}", *lines, f"ways tried: {TRIED.total()}, held: {HELD.total()}"]


def shows_secret(said):
    return any(form in said for form in FORMS)


class Attack(Scenario):
    """A cluster with one login role for each kind of access, named as it, and: nobody (no access), doctor (decrypt, mask and
    search; owns tables), owner (owns tables, no access), db_owner (owns the database)."""

    preload = True
    schema = ""
    db = "attacked"

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.make_database(cls.db)

    @classmethod
    def make_roles(cls, cluster=None):
        (cluster or cls.cluster).psql("".join(f'CREATE ROLE "{role}" LOGIN;' for role in ROLES))

    @classmethod
    def make_database(cls, db, cluster=None, schema=None):
        cluster = cluster or cls.cluster
        if cluster.psql("SELECT count(*) FROM pg_roles WHERE rolname = 'nobody'") == "0":
            cls.make_roles(cluster)
        cluster.psql(f'CREATE DATABASE "{db}" OWNER db_owner')
        cls.before_extension(cluster, db)
        cluster.psql("CREATE EXTENSION prism_crypt; SELECT prism_crypt.rotate_key();" + grants()
                     + "GRANT ALL ON SCHEMA public TO doctor, owner;" + (cls.schema if schema is None else schema), db=db)
        return db

    @classmethod
    def before_extension(cls, cluster, db):
        pass

    def run_as(self, user, script, db=None, cluster=None, **env):
        """All that psql says of a script, which goes on after errors; how a hang or a crash shows is in it, too."""
        cluster = cluster or self.cluster
        argv = [str(paths.bindir() / "psql"), "-XAtq"]
        given = prelude(verbose=True) + script
        try:
            done = subprocess.run(argv, input=given, text=True, errors="replace", capture_output=True, timeout=TIMEOUT,
                                  env=cluster.env(user, db or self.db, **env))
        except subprocess.TimeoutExpired as late:
            return f"HUNG {late.stdout!r}"
        return done.stdout + done.stderr

    def way(self, name, user, script, goal=shows_secret, after="", undo="", **kw):
        """Tries a way. goal: what is true of what was said when the attacker has got what he wants. after: what a superuser
        looks at when it is over, which counts as said. undo: what the next way needs."""
        said = self.run_as(user, script, **kw)
        where = {k: v for k, v in kw.items() if k in ("db", "cluster")}
        if after:
            said += "\nafterwards:\n" + self.run_as("postgres", after, **where)
        if undo:
            self.run_as("postgres", undo, **where)
        self.judge(name, "it reached its goal" if goal(said) else "", said)

    def judge(self, name, reached, said=""):
        """Counts a way. reached: what the attacker got, or nothing."""
        if said.startswith("HUNG"):
            reached = "it hung"
        elif DIED.search(said):
            reached = "the server died"
        file = Path(__import__(type(self).__module__).__file__).stem
        TRIED[file] += 1
        if os.environ.get("PRISM_SHOW_WAYS"):
            print(f"--- {name}: {reached or 'held'}\n{said[:1500]}", flush=True)
        with self.subTest(way=name):
            if reached:
                self.fail(f"{name}: {reached}\n{said[-2000:]}")
            HELD[file] += 1

    def control(self, name, user, script, goal=shows_secret, after="", **kw):
        """The goal can be reached, by somebody who may: so the check can fail."""
        said = self.run_as(user, script, **kw)
        if after:
            said += "\nafterwards:\n" + self.run_as("postgres", after, **{k: v for k, v in kw.items() if k in ("db", "cluster")})
        with self.subTest(control=name):
            self.assertTrue(goal(said), f"control {name}: the goal was not reached\n{said[-2000:]}")


def own_setting(test):
    """The check of what a SECURITY DEFINER function sets for itself: it counts, but not on 14, which does not tell who set a value."""
    return test.control if paths.PG_MAJOR >= 15 else test.way


def grants():
    """Each kind of access to the role that is named as it; what doctor has."""
    pairs = [(kind, kind) for kind in KINDS] + [("doctor", kind) for kind in ("decrypt", "mask", "search")]
    return "".join(f"SELECT prism_crypt.grant_access('{role}', '{kind}');" for role, kind in pairs)


def secret_rows(table, columns="id, name", rows=None):
    """COPY of the secret into a table, so that it is in no statement."""
    rows = rows or [("1", "somebody else"), ("2", SECRET)]
    return f"COPY {table} ({columns}) FROM STDIN;\n" + "".join("\t".join(row) + "\n" for row in rows) + "\\.\n"


def says(pattern):
    """A goal: that is said."""
    return lambda said: re.search(pattern, said, re.M) is not None
