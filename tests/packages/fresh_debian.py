"""A minimal Debian in a folder, for what is to be tried on a machine that has nothing yet."""

import os
import re
import shutil
import subprocess
import tempfile
import unittest
from pathlib import Path

from harness import paths

HOME = paths.CACHE / "packages"
# It has to have the major version that the tests install.
CODENAME = "bookworm"
UNREACHABLE = re.compile(r"Temporary failure resolving|Could not resolve|Could not connect|Connection (failed|timed out|refused)|Network is unreachable|no network")
# Mounts, processes and the network are the command's own, and end with it.
UNSHARE = ["unshare", "--mount", "--pid", "--net", "--ipc", "--uts", "--fork", "--kill-child"]
INSIDE = """
set -eu
mount -t proc proc "$1/proc"
mount -t tmpfs tmpfs "$1/dev/shm"
cd "$1"
exec chroot "$1" env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/root LANG=C.UTF-8 DEBIAN_FRONTEND=noninteractive sh "$2"
"""


def run(argv, **kw):
    return subprocess.run([str(a) for a in argv], stdin=kw.pop("stdin", subprocess.DEVNULL), stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                          text=True, check=False, timeout=900, **kw)


def check_possible():
    if os.geteuid() != 0:
        raise unittest.SkipTest("only root can make a Debian in a folder")
    for tool in ("mmdebstrap", "unshare", "apt-get"):
        if not shutil.which(tool):
            raise unittest.SkipTest(f"{tool} is not installed")
    done = run([*UNSHARE, "mount", "-t", "tmpfs", "tmpfs", "/mnt"])
    if done.returncode:
        raise unittest.SkipTest(f"no namespaces here: {done.stdout.strip()}")


def sources():
    """Where this machine has Debian's packages from, as apt understands it in any of its files; fixes are suites of their own."""
    listed = run(["apt-get", "indextargets", "--format", "deb $(REPO_URI) $(RELEASE) $(COMPONENT)", "Created-By: Packages", "Origin: Debian"])
    lines = sorted({line for line in listed.stdout.splitlines() if f" {CODENAME}" in line})
    if not any(f" {CODENAME} " in line for line in lines):
        raise unittest.SkipTest(f"this machine's apt has no Debian {CODENAME}")
    return "".join(line + "\n" for line in lines)


def archive(package):
    """A tar of a minimal Debian, in which apt can install a package without a network. Made once."""
    apt = sources()
    if run(["apt-cache", "show", package]).returncode:
        raise unittest.SkipTest(f"this machine's apt has no {package}")
    tar, stamp = HOME / "debian.tar", HOME / "debian.made-for"
    wanted = f"{CODENAME} {package}\n{apt}"
    if tar.exists() and stamp.exists() and stamp.read_text(encoding="utf-8") == wanted:
        return tar
    stamp.unlink(missing_ok=True)
    options = [option for line in run(["apt-config", "dump", "--format", "%f \"%v\";%n", "Acquire::http", "Acquire::https"]).stdout.splitlines()
               for option in ("--aptopt", line)]
    with tempfile.NamedTemporaryFile("w+", suffix=".list") as file:
        file.write(apt)
        file.flush()
        done = run(["mmdebstrap", "--mode=root", "--variant=apt", "--skip=cleanup/apt", "--dpkgopt=force-unsafe-io", *options,
                    f"--customize-hook=chroot \"$1\" apt-get install -y -q --download-only --no-install-recommends {package}",
                    CODENAME, tar, file.name])
    if done.returncode:
        tar.unlink(missing_ok=True)
        if found := UNREACHABLE.search(done.stdout):
            raise unittest.SkipTest(f"Debian's packages can't be had here ({found[0]})")
        raise RuntimeError(f"mmdebstrap failed:\n{done.stdout[-3000:]}")
    stamp.write_text(wanted, encoding="utf-8")
    return tar


class FreshDebian:
    """with FreshDebian("postgresql-15") as debian: files in debian.root, a script run with debian.run()"""

    def __init__(self, package):
        check_possible()
        HOME.mkdir(parents=True, exist_ok=True)
        tar = archive(package)
        self.root = Path(tempfile.mkdtemp(prefix="debian-", dir=HOME))
        try:
            self.root.chmod(0o755)
            subprocess.run(["tar", "-x", "-p", "--numeric-owner", "-f", str(tar), "-C", str(self.root)], check=True)
            # No package starts a service.
            (self.root / "usr/sbin/policy-rc.d").write_text("#!/bin/sh\nexit 101\n", encoding="ascii")
            (self.root / "usr/sbin/policy-rc.d").chmod(0o755)
        except BaseException:
            self.close()
            raise

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def run(self, script):
        """Output of a shell script that ran there, as root, without a network; nothing of it goes on running."""
        (self.root / "script").write_text(script, encoding="utf-8")
        done = run([*UNSHARE, "sh", "-c", INSIDE, "sh", self.root, "/script"])
        if done.returncode:
            raise AssertionError(f"exit status {done.returncode}:\n{done.stdout[-6000:]}")
        return done.stdout

    def close(self):
        if str(self.root) in Path("/proc/self/mountinfo").read_text(encoding="utf-8"):
            raise RuntimeError(f"something is mounted in {self.root}")
        shutil.rmtree(self.root, ignore_errors=True)
