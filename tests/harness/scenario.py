"""What scenario tests share: a cluster a class, databases with the extension and a first key."""

import base64
import os
import signal
import time
import unittest

from . import canaries
from .cluster import Cluster

# One COPY line a known plaintext, numbered from 1.
CANARY_ROWS = "".join(f"{i}\t{text}\n" for i, text in enumerate(canaries.PLAINTEXTS.values(), 1))
CANARY_TABLE = "\n".join(f"{i}|{text}" for i, text in enumerate(canaries.PLAINTEXTS.values(), 1))


class Scenario(unittest.TestCase):
    """Subclasses say what their cluster is like; `key` (a name in canaries.KEYS, or None) is its master key, from a file."""

    preload = False
    durable = False
    key = "main"
    conf = {}

    @classmethod
    def setUpClass(cls):
        cls.cluster = cls.new_cluster(cls.__name__.lower(), key=cls.key, preload=cls.preload, durable=cls.durable, conf=cls.conf)

    @classmethod
    def new_cluster(cls, name, key="main", start=True, env=None, **kw):
        """A cluster that is gone after the class, with a key file at .key_file."""
        cluster = Cluster(name, **kw)
        cls.addClassCleanup(cluster.close)
        set_key(cluster, key)
        cluster.setenv(**(env or {}))
        return cluster.start() if start else cluster

    @classmethod
    def database(cls, name, keys=True, cluster=None):
        """A new database with the extension and a first key."""
        cluster = cluster or cls.cluster
        cluster.create_db(name)
        cluster.psql("CREATE EXTENSION prism_crypt", db=name)
        if keys:
            cluster.psql("SELECT prism_crypt.rotate_key()", db=name)
        return name

    def session(self, db, **kw):
        """A session that is closed after the test."""
        session = kw.pop("cluster", self.cluster).session(db=db, **kw)
        self.addCleanup(session.close)
        return session

    def wait_for_recovery(self, db):
        """Until the server answers again."""
        wait_until(lambda: self.cluster.run_psql("SELECT 1", db=db, check=False).returncode == 0, "the server does not come back")


def set_key(cluster, *names):
    """Makes these keys the ones of the cluster's key file; reload() or a restart applies them. None: no key."""
    if names[0] is not None:
        cluster.key_file = cluster.write_file("master.key", "".join(canaries.KEYS[n] + "\n" for n in names))
    setting = "''" if names[0] is None else f"'{cluster.key_file}'"
    cluster.configure({"prism_crypt.master_key_file": setting})


def fingerprint(cluster, db, key):
    """The fingerprint of a master key, as the extension tells it."""
    path = cluster.write_file(f"fingerprint-{key}", canaries.KEYS[key])
    return cluster.psql(
        f"SET prism_crypt.master_key_file = '{path}'; SELECT setting FROM prism_crypt.status() WHERE name = 'master_fingerprint'", db=db)


def wait_until(condition, what, timeout=60):
    """Calls condition until it gives something true, and gives that."""
    deadline = time.monotonic() + timeout
    while not (got := condition()):
        if time.monotonic() > deadline:
            raise TimeoutError(what)
        time.sleep(0.02)
    return got


def is_alive(pid):
    """Whether a process runs; one that ended and was not collected yet does not."""
    try:
        with open(f"/proc/{pid}/stat", encoding="utf-8") as stat:
            return stat.read().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


def kill_backend(pid):
    """As a crash of that process. Returns when the server knows of it, and so lets nobody in until it has recovered."""
    os.kill(pid, signal.SIGKILL)
    wait_until(lambda: not os.path.exists(f"/proc/{pid}"), f"process {pid} does not go")


def files_with(root, secrets, skip=()):
    """{name of a secret: [files under root that contain it]}; secrets: {name: bytes}."""
    found = {}
    for directory, _, names in os.walk(root):
        for name in names:
            path = os.path.join(directory, name)
            if path in map(str, skip) or not os.path.isfile(path):
                continue
            try:
                with open(path, "rb") as f:
                    data = f.read()
            except FileNotFoundError:
                continue
            for secret, needle in secrets.items():
                if needle in data:
                    found.setdefault(secret, []).append(os.path.relpath(path, root))
    return found


def key_forms(key):
    """{form: bytes} of a key given in hex."""
    raw = bytes.fromhex(key)
    return {"hex": key.encode(), "upper-case hex": key.upper().encode(), "base64": base64.b64encode(raw).rstrip(b"="), "bytes": raw}
