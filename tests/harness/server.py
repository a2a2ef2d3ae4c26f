"""The server side of a cluster: made, started, stopped and removed by whoever asked for it."""

import atexit
import ctypes
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

from . import paths

_live = []

DEFAULTS = {
    "listen_addresses": "''",
    "fsync": "off",
    "log_line_prefix": "'%m [%p] %q%u@%d/%a '",
    "log_min_messages": "info",
    # Whatever a log could show, ours show: a later check searches them for keys and plaintext.
    "log_statement": "all",
    "log_min_duration_statement": "0",
    "timezone": "'UTC'",
}


def _cleanup():
    for cluster in list(_live):
        cluster.close()


def _on_sigterm(_number, _frame):
    sys.exit(143)


def _die_with_parent():
    # Linux: a server must not outlive a harness that was killed with SIGKILL.
    ctypes.CDLL(None).prctl(1, signal.SIGINT)


def _watch():
    if not _live and threading.current_thread() is threading.main_thread():
        atexit.register(_cleanup)
        if signal.getsignal(signal.SIGTERM) is signal.SIG_DFL:
            signal.signal(signal.SIGTERM, _on_sigterm)


class Server:
    """What Cluster builds on: files, settings, processes; no client yet."""

    def __init__(self, name, preload=False, conf=None, home=None, keep=False, durable=False, major=paths.PG_MAJOR, initdb=(), _empty=False):
        self.name, self.keep, self.bindir = name, keep, paths.bindir(major)
        self._proc = None
        self._env = {}
        temporary = home is None
        if temporary:
            # Short: the path of a unix socket may have 107 bytes. Not TMPDIR: the server's user must get in.
            home = tempfile.mkdtemp(prefix="prism-", dir=os.environ.get("PRISM_TMP", "/tmp"))
        self.home = Path(home)
        self.home.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.data, self.socket = self.home / "data", self.home
        os.chmod(self.home, 0o700)
        paths.give_to_server(self.home)
        if keep:
            self.log_path = self.home / "server.log"
        else:
            paths.SERVER_LOG_DIR.mkdir(parents=True, exist_ok=True)
            self.log_path = paths.SERVER_LOG_DIR / f"{name}.log"
        self._log_start = self.log_path.stat().st_size if self.log_path.exists() else 0
        if not keep:
            _watch()
            _live.append(self)
        if (self.data / "PG_VERSION").exists():
            self.port = int((self.home / "port").read_text())
        else:
            self.port = random.randint(20000, 60000)
            (self.home / "port").write_text(str(self.port))
            if not _empty:
                self._initdb(preload, conf or {}, durable, initdb)

    def _initdb(self, preload, conf, durable, options):
        self.server_run(
            [self.bindir / "initdb", "-D", self.data, "-A", "trust", "-U", "postgres", "-E", "UTF8",
             "--locale=C", "--no-instructions", "-N", *options]
        )
        settings = dict(DEFAULTS)
        if durable:
            del settings["fsync"]
        if preload:
            settings["shared_preload_libraries"] = "'prism_crypt'"
        settings.update(conf)
        self.configure(settings)

    # ---- configuration and files

    def configure(self, settings):
        """Append to postgresql.conf (values as they stand in the file); reload() or restart() applies them."""
        with open(self.data / "postgresql.conf", "a", encoding="utf-8") as f:
            for name, value in settings.items():
                f.write(f"{name} = {value}\n")

    def write_file(self, name, text, mode=0o600):
        """A file that the server's user owns, outside the data directory; gives its path."""
        path = self.home / name
        path.unlink(missing_ok=True)
        path.touch(mode=0o600)
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        paths.give_to_server(path)
        os.chmod(path, mode)
        return path

    def setenv(self, **variables):
        """Environment of the server from its next start on."""
        self._env.update(variables)

    # ---- the server

    def server_run(self, argv, check=True, **kw):
        """Run a program as the server's user."""
        result = subprocess.run(
            [str(a) for a in argv], capture_output=True, text=True, cwd="/", stdin=subprocess.DEVNULL,
            env=paths.clean_env(HOME="/"), **paths.server_identity(), **kw
        )
        if check and result.returncode != 0:
            raise RuntimeError(f"{argv[0]} failed:\n{result.stdout}{result.stderr}")
        return result

    def _postmaster(self):
        """(pid, status) from postmaster.pid if that process really is our server."""
        try:
            lines = (self.data / "postmaster.pid").read_text().splitlines()
            pid = int(lines[0])
            if os.path.realpath(os.readlink(f"/proc/{pid}/cwd")) != os.path.realpath(self.data):
                return None, None
            return pid, lines[7].strip() if len(lines) > 7 else "starting"
        except (OSError, ValueError, IndexError):
            return None, None

    def running(self):
        return self._postmaster()[0] is not None

    def start(self, timeout=60):
        if self.running():
            return self
        deadline = time.monotonic() + timeout
        while True:
            main_thread = threading.current_thread() is threading.main_thread()
            with open(self.log_path, "ab") as log:
                self._proc = subprocess.Popen(
                    [str(self.bindir / "postgres"), "-D", str(self.data), "-k", str(self.socket), "-p", str(self.port)],
                    stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd="/", env=paths.clean_env(HOME="/", **self._env),
                    # Not in our process group: Ctrl-C is for us, and we stop the server.
                    start_new_session=True,
                    preexec_fn=_die_with_parent if main_thread and not self.keep else None,
                    **paths.server_identity(),
                )
            while self._proc.poll() is None:
                if self._postmaster()[1] in ("ready", "standby"):
                    return self
                if time.monotonic() > deadline:
                    self.stop("immediate")
                    raise RuntimeError(f"{self.name} did not start:\n{self.log()[-3000:]}")
                time.sleep(0.03)
            # After kill9 the backends need a moment to notice.
            if "pre-existing shared memory block" not in self.log()[-2000:] or time.monotonic() > deadline:
                raise RuntimeError(f"{self.name} did not start:\n{self.log()[-3000:]}")
            time.sleep(0.2)

    def stop(self, mode="fast"):
        pid, _ = self._postmaster()
        pid = pid or (self._proc.pid if self._proc and self._proc.poll() is None else None)
        if pid is None:
            return
        for sig, seconds in {"fast": [(signal.SIGINT, 60), (signal.SIGQUIT, 10), (signal.SIGKILL, 10)],
                             "immediate": [(signal.SIGQUIT, 10), (signal.SIGKILL, 10)],
                             "kill": [(signal.SIGKILL, 10)]}[mode]:
            try:
                os.kill(pid, sig)
            except ProcessLookupError:
                pass
            if self._gone(pid, seconds):
                break
        self._proc = None

    def _gone(self, pid, seconds):
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            if self._proc and self._proc.pid == pid:
                if self._proc.poll() is not None:
                    return True
            elif not os.path.exists(f"/proc/{pid}"):
                return True
            time.sleep(0.02)
        return False

    def restart(self):
        self.stop()
        return self.start()

    def reload(self):
        os.kill(self._postmaster()[0], signal.SIGHUP)

    def kill9(self):
        """As a crash: the postmaster gets SIGKILL, the backends go when they notice."""
        self.stop("kill")

    def log(self):
        """What the server logged since this object was made."""
        with open(self.log_path, "rb") as f:
            f.seek(self._log_start)
            return f.read().decode("utf-8", "replace")

    def close(self):
        if self in _live:
            _live.remove(self)
        if self.keep:
            return
        try:
            self.stop()
        finally:
            shutil.rmtree(self.home, ignore_errors=True)

    def __enter__(self):
        try:
            return self.start()
        except BaseException:
            self.close()
            raise

    def __exit__(self, *_):
        self.close()
