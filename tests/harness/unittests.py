"""Runs the tests of a directory (and takes what else unittest's discovery takes, like -p). Ends with what failed and "N passed, N failed, N skipped", as tools/test reads it."""

import sys
import unittest


def run(*args):
    """(passed, failed, skipped); what failed is printed. args: the directory, and what else unittest's discovery takes."""
    result = unittest.main(module=None, argv=["", "discover", "-v", "-s", *args], exit=False).result
    bad = [*result.failures, *result.errors, *((test, "unexpected success") for test in result.unexpectedSuccesses)]
    sys.stderr.flush()
    for test, text in bad:
        print("FAILED:", " ".join(str(test).split()))
        print("".join(f"  | {line}\n" for line in text.splitlines()[-15:]), end="")
    skipped = len(result.skipped)
    # An error in setUpClass is not among the tests that ran.
    return max(0, result.testsRun - len(bad) - skipped), len(bad), skipped


def end(passed, failed, skipped):
    print(f"{passed} passed, {failed} failed, {skipped} skipped", flush=True)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(end(*run(*sys.argv[1:])))
