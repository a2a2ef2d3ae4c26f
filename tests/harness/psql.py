"""psql as the client: one-off scripts and sessions that stay open."""

import queue
import re
import subprocess
import threading
import time
import uuid

_ERROR = re.compile(r"^(?:psql:.*?: )?(?:ERROR|FATAL):  (?:(\w{5}): )?(.*)", re.M)


class PgError(Exception):
    """A statement failed. `text` is all that psql wrote to stderr; the rest is of its first error."""

    def __init__(self, text):
        self.text = text
        found = _ERROR.search(text)
        self.sqlstate = found.group(1) if found else None
        self.message = found.group(2) if found else text.strip()
        tail = text[found.end():] if found else ""
        self.detail = _field(tail, "DETAIL")
        self.hint = _field(tail, "HINT")
        super().__init__(text.strip())


def _field(text, name):
    found = re.search(rf"^(?:psql:.*?: )?{name}:  (.*)", text, re.M)
    return found.group(1) if found else None


def quote(value):
    """A value as a psql \\set argument; given on stdin so that it never shows in a process list."""
    out = str(value).replace("\\", "\\\\").replace("'", "''").replace("\n", "\\n").replace("\t", "\\t")
    return f"'{out}'"


def prelude(variables=None, verbose=False):
    lines = [f"\\set {name} {quote(value)}" for name, value in (variables or {}).items()]
    lines.append("\\set VERBOSITY verbose" if verbose else "\\set VERBOSITY default")
    return "\n".join(lines) + "\n"


class Session:
    """A connection that stays open, for tests with several of them. Made by Cluster.session()."""

    def __init__(self, argv, env, cwd=None):
        self._proc = subprocess.Popen(
            argv, env=env, cwd=cwd, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, bufsize=1
        )
        self._lines = queue.Queue()
        self._marker = None
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        self._send("\\set VERBOSITY verbose\n")

    def _read(self):
        for line in self._proc.stdout:
            self._lines.put(line)
        self._lines.put(None)

    def _send(self, text):
        self._proc.stdin.write(text if text.endswith("\n") else text + "\n")
        self._proc.stdin.flush()

    def start(self, sql):
        """Send without waiting; wait() fetches the result."""
        assert self._marker is None, "the previous statement was not waited for"
        self._marker = f"__done_{uuid.uuid4().hex}__"
        self._send(f"{sql}\n\\echo {self._marker}")

    def says(self, text, timeout=60):
        """Waits until the statement sent by start() has said that: a notice comes when it is raised."""
        deadline = time.monotonic() + timeout
        while True:
            lines = list(self._lines.queue)
            if any(text in line for line in lines if line):
                return
            if any(line is None or self._marker in line for line in lines) or time.monotonic() > deadline:
                raise AssertionError(f"not said: {text}\n" + "".join(line for line in lines if line))
            time.sleep(0.02)

    def wait(self, timeout=120, check=True):
        deadline = time.monotonic() + timeout
        out = []
        while True:
            try:
                line = self._lines.get(timeout=max(0.01, deadline - time.monotonic()))
            except queue.Empty:
                raise TimeoutError("no answer yet:\n" + "".join(out)) from None
            if line is None:
                raise PgError("".join(out) + "the connection ended")
            if line.strip() == self._marker:
                break
            out.append(line)
        self._marker = None
        text = "".join(out)
        if check and _ERROR.search(text):
            raise PgError(text)
        return text.rstrip("\n")

    def waiting(self, seconds=0.3):
        """True if the statement sent by start() is still running after that time."""
        end = time.monotonic() + seconds
        while True:
            if any(line is None or self._marker in line for line in list(self._lines.queue)):
                return False
            if (left := end - time.monotonic()) <= 0:
                return True
            time.sleep(min(left, 0.02))

    def run(self, sql, timeout=120, check=True):
        """Run statements (each ended by a semicolon) and return their output; raises PgError."""
        self.start(sql)
        return self.wait(timeout, check)

    def error(self, sql, timeout=120):
        """The PgError that the statement must give."""
        try:
            out = self.run(sql, timeout)
        except PgError as error:
            return error
        raise AssertionError(f"no error from: {sql}\n{out}")

    def close(self):
        if self._proc.poll() is None:
            try:
                self._proc.stdin.close()
                self._proc.wait(5)
            except (subprocess.TimeoutExpired, OSError):
                self._proc.kill()
                self._proc.wait()
        self._reader.join(5)
        for pipe in (self._proc.stdin, self._proc.stdout):
            try:
                pipe.close()
            except OSError:
                # It ended before it had read everything.
                pass

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()
