"""The command-line tool, built from this checkout."""

import functools
import os
import subprocess

from . import paths


@functools.cache
def program():
    """Its path."""
    target = os.environ.get("CARGO_TARGET_DIR", paths.ROOT / "target")
    subprocess.run(["cargo", "build", "--quiet", "-p", "prism-crypt-cli"], cwd=paths.ROOT, check=True, env=paths.clean_env())
    return f"{target}/debug/prism-crypt"
