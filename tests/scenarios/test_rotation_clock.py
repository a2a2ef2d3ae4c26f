"""The server's clock is set back, or forth, while a rotation keeps to its pace."""

import struct
import subprocess
import time
import unittest

from harness import paths
from harness.scenario import Scenario

# A clock that is as many seconds off as a file says.
CLOCK = """
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/time.h>
static volatile long long *offset;
int gettimeofday(struct timeval *restrict tv, void *restrict tz)
{
    static int (*real)(struct timeval *, void *);
    if (!real) {
        const char *path = getenv("CLOCK_OFFSET_FILE");
        int fd = path ? open(path, O_RDONLY) : -1;
        if (fd >= 0) offset = mmap(NULL, sizeof *offset, PROT_READ, MAP_SHARED, fd, 0);
        real = (int (*)(struct timeval *, void *)) dlsym(RTLD_NEXT, "gettimeofday");
    }
    int result = real(tv, tz);
    if (offset && offset != MAP_FAILED) tv->tv_sec += *offset;
    return result;
}
"""
ROWS = 1500


class RotationClock(Scenario):
    @classmethod
    def setUpClass(cls):
        cls.cluster = cls.new_cluster("rotation_clock", start=False)
        cls.offset = cls.cluster.write_file("offset", struct.pack("q", 0), mode=0o644)
        source, library = cls.cluster.write_file("clock.c", CLOCK), cls.cluster.home / "clock.so"
        subprocess.run(["cc", "-shared", "-fPIC", "-o", str(library), str(source), "-ldl"], check=True)
        paths.give_to_server(library)
        cls.cluster.setenv(LD_PRELOAD=str(library), CLOCK_OFFSET_FILE=str(cls.offset))
        cls.cluster.start()

    def set_clock(self, seconds):
        with open(self.offset, "r+b") as file:
            file.write(struct.pack("q", seconds))

    def test_it_goes_on(self):
        for seconds in (-7200, 7200):
            with self.subTest(seconds):
                self.set_clock(0)
                db = self.database(f"by {seconds}")
                self.cluster.psql(
                    f"CREATE TABLE t (v encrypted_text); INSERT INTO t SELECT 'v' || g FROM generate_series(1, {ROWS}) AS g; SELECT prism_crypt.rotate_key()", db=db)
                before = self.cluster.psql("SELECT extract(epoch FROM clock_timestamp())::bigint")
                rotating = self.session(db)
                began = time.monotonic()
                rotating.start("CALL rotate_batch('t', batch_size => 100, max_rows_per_second => 300);")
                self.cluster.wait_for("SELECT rows_done > 200 FROM prism_crypt.progress", db=db)
                self.set_clock(seconds)
                after = self.cluster.psql("SELECT extract(epoch FROM clock_timestamp())::bigint")
                self.assertAlmostEqual(int(after) - int(before), seconds, delta=60)
                rotating.wait()
                # An hour is what it took; it keeps to its pace all the same.
                self.assertTrue(0.7 * ROWS / 300 < time.monotonic() - began < 120)
                self.assertEqual(self.cluster.psql("SELECT DISTINCT key_version(v) FROM t", db=db), "2")
                self.assertEqual(self.cluster.psql("SELECT busy_seconds >= 0 FROM prism_crypt.job_part", db=db), "t")


if __name__ == "__main__":
    unittest.main()
