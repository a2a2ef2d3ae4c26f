"""The library and the bare cipher, built for this machine and for any processor."""

import contextlib
import json
import os
import shutil
import subprocess

from harness import Cluster, canaries, paths

SERVER = {"log_statement": "none", "log_min_duration_statement": "-1", "shared_buffers": "'1GB'", "max_wal_size": "'8GB'",
          "checkpoint_timeout": "'1h'", "autovacuum": "off"}
# As tools/install has it.
OPTFLAGS = os.environ.get("OPTFLAGS", "-C target-cpu=native")


@contextlib.contextmanager
def cluster(name):
    """A cluster with the extension and a key."""
    with Cluster(name, preload=True, conf=SERVER) as c:
        key = c.write_file("master.key", canaries.KEYS["main"] + "\n")
        c.configure({"prism_crypt.master_key_file": f"'{key}'"})
        c.reload()
        c.psql("CREATE EXTENSION prism_crypt; SELECT prism_crypt.rotate_key()")
        yield c


@contextlib.contextmanager
def keeping_memory(c):
    """The same server, with a malloc that keeps up to 32 MiB of what is freed: the largest threshold that glibc takes."""
    names = ("MALLOC_TRIM_THRESHOLD_", "MALLOC_MMAP_THRESHOLD_")
    c.setenv(**dict.fromkeys(names, 1 << 25))
    c.restart()
    yield
    c.setenv(**dict.fromkeys(names))
    c.restart()


def built_for(c):
    return c.psql("SELECT setting FROM prism_crypt.status() WHERE name = 'built_for'")


@contextlib.contextmanager
def portable_cluster():
    """The same, with a library for any processor in a second copy of PostgreSQL."""
    output = cargo("portable", "build", "--release", "--lib", "--no-default-features", "--features", f"pg{paths.PG_MAJOR}")
    installed = paths.PG_CONFIG
    release = next(parent for parent in installed.parents if parent.name == "release")
    copy = release.with_name("bench-portable")
    shutil.rmtree(copy, ignore_errors=True)
    subprocess.run(["cp", "-al", str(release), str(copy)], check=True)
    library = copy / paths.pg_config("--pkglibdir").relative_to(release) / "prism_crypt.so"
    # Not through the link, which would change the installed one.
    library.unlink()
    shutil.copy(output / "release/libprism_crypt.so", library)
    try:
        paths.PG_CONFIG = copy / installed.relative_to(release)
        with cluster("bench-portable") as c:
            paths.PG_CONFIG = installed
            yield c
    finally:
        paths.PG_CONFIG = installed
        shutil.rmtree(copy, ignore_errors=True)


def bare(kind):
    """ns a call of the cipher alone, {"seal": {"20": ...}, "open": {...}}: the least of what the example `bare` prints."""
    output = cargo(kind, "build", "--release", "-p", "prism-envelope", "--example", "bare")
    first, *others = [json.loads(subprocess.check_output([output / "release/examples/bare"], text=True)) for _ in range(3)]
    return {what: {size: min(ns, *(other[what][size] for other in others)) for size, ns in sizes.items()} for what, sizes in first.items()}


def cargo(kind, *command):
    """Builds; `kind` is "native" or "portable". Gives the directory of the output."""
    flags = OPTFLAGS.split() if kind == "native" else []
    output = paths.ROOT / "target" / f"bench-{kind}"
    env = {**os.environ, "PATH": paths.ENV["PATH"], "CARGO_TARGET_DIR": str(output), "PGRX_PG_CONFIG_PATH": str(paths.PG_CONFIG)}
    subprocess.run(["cargo", "--config", f"target.'cfg(all())'.rustflags={json.dumps(flags)}", *command, "-q"], cwd=paths.ROOT, env=env,
                   check=True)
    return output
