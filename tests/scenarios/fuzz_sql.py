"""Random queries from sqlsmith, and what may not happen because of them."""

import re
import shutil
import subprocess
import tempfile
import unittest

from fuzz_schema import PLAINTEXTS
from harness import canaries, paths

# %e: the SQLSTATE; verbose: the place in the source that raised the error, which tells ours from PostgreSQL's.
CONF = {"log_line_prefix": "'%m [%p] %e '", "log_error_verbosity": "'verbose'", "log_statement": "'none'", "log_min_duration_statement": "-1",
        "log_min_messages": "'error'", "log_temp_files": "-1", "autovacuum": "off", "jit": "off", "max_parallel_workers_per_gather": "1", "temp_file_limit": "'1GB'"}
LINE = re.compile(r"^\d{4}-\d\d-\d\d [\d:.]+ UTC \[(\d+)\] (\w{5}) ([A-Z]+):  ", re.M)
# With XX000 PostgreSQL says these of random queries and arguments, extension or not.
OF_POSTGRES = re.compile("cannot advance OID counter anymore|unrecognized class ID|invalid INTERVAL typmod|unrecognized interval typmod|failed to find conversion function from unknown to text")
# Statements that open values on purpose. What PostgreSQL's functions say of the plaintext that they are then given is not kept back.
OPENS = re.compile(r"\bopened\b|encrypted_text_(out|send)|decrypt_field|decrypt_bytes|\bmask_field|\b(text|varchar|bpchar|name)\(")


def secrets():
    """(name, bytes) of everything to look for: keys, and the plaintexts of the tables that are asked."""
    yield from canaries.forms()
    for name, text in PLAINTEXTS.items():
        yield f"plaintext {name}", text.encode()
        yield f"plaintext {name} as bytea", text.encode().hex().encode()


def require():
    """Skips where the program can't be had."""
    if shutil.which("sqlsmith", path=paths.clean_env()["PATH"]) is None:
        raise unittest.SkipTest("sqlsmith is not installed; `make setup` and `make test` bring it where there is a Debian package of it")


class Smith:
    """A sqlsmith that runs. It rolls each of its queries back, and ends it after a second."""

    def __init__(self, cluster, db, user, seed, queries):
        target = f"host={cluster.socket} port={cluster.port} dbname={db} user={user}"
        argv = ["sqlsmith", f"--target={target}", f"--seed={seed}", f"--max-queries={queries}", "--exclude-catalog", "--verbose"]
        # To a file: a pipe that nobody reads would stop it.
        self._said = tempfile.TemporaryFile()
        self.process = subprocess.Popen(argv, env=paths.clean_env(), stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=self._said)

    def wait(self, timeout=None):
        """What it said, when it has ended by itself."""
        try:
            self.process.wait(timeout)
        finally:
            self.close()
        return self._text

    def close(self):
        if self._said.closed:
            return
        self.process.kill()
        self.process.wait()
        self._said.seek(0)
        self._text = self._said.read().decode("utf-8", "replace")
        self._said.close()


def messages(log):
    """(level, SQLSTATE, message, location, statement) of what a server with CONF has logged."""
    starts = list(LINE.finditer(log))
    of_process = {}
    for this, following in zip(starts, [*starts[1:], None]):
        process, sqlstate, level = this.groups()
        text = log[this.end():following.start() if following else len(log)].rstrip()
        if level in ("LOCATION", "STATEMENT"):
            if process in of_process:
                of_process[process][level] = text
        elif level in ("DETAIL", "HINT", "CONTEXT", "QUERY"):
            if process in of_process:
                of_process[process]["message"] += f"\n{level}: {text}"
        else:
            if process in of_process:
                yield message_of(of_process[process])
            of_process[process] = {"level": level, "sqlstate": sqlstate, "message": text}
    yield from map(message_of, of_process.values())


def message_of(parts):
    return parts["level"], parts["sqlstate"], parts["message"], parts.get("LOCATION", ""), parts.get("STATEMENT", "")


def faults(log):
    """What may not be in the log of a server that was asked random queries."""
    for level, sqlstate, message, location, statement in messages(log):
        of_postgres = ".rs:" not in location and OF_POSTGRES.search(message)
        if level == "PANIC" or "terminated by signal" in message or "internal error" in message or sqlstate.startswith("XX") and not of_postgres:
            yield f"{level} {sqlstate}: {message}\n  at {location}\n  of {statement}"
        if not OPENS.search(statement):
            shown = [name for name, secret in secrets() if secret in f"{message} {statement}".encode()]
            if shown:
                yield f"{level} {sqlstate} at {location} shows {', '.join(shown)}\n  of {statement}"


def error_rate(said):
    """The share of its queries that failed."""
    return float(re.findall(r"^error rate: (\S+)$", said, re.M)[-1])
