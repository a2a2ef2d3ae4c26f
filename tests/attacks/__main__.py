"""Runs the attacks. Ways that nobody tried are a failure, too: what was left out has not held."""

import sys

import ways
from harness import unittests

# As many ways of attack as are tried at least, whatever becomes of them.
WAYS_MIN = 200

passed, failed, skipped = unittests.run(sys.path[0])
print("\n".join(ways.table()))
if ways.TRIED.total() < WAYS_MIN:
    print(f"FAILED: fewer than {WAYS_MIN} ways were tried")
    failed += 1
sys.exit(unittests.end(passed, failed, skipped))
