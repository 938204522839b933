"""Memory that a training frees stays with its process, in huge pages where the system has them."""

import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = """
import ctypes, resource, sys
if sys.argv[1] == "kept":
    from gaptune.trial.allocator import keep_freed_memory
    if not keep_freed_memory():
        sys.exit(3)
libc = ctypes.CDLL(None)
libc.malloc.restype, libc.malloc.argtypes, libc.free.argtypes = ctypes.c_void_p, [ctypes.c_size_t], [ctypes.c_void_p]
def step():
    blocks = [libc.malloc(8_000_000) for _ in range(20)]
    for block in blocks:
        ctypes.memset(block, 1, 8_000_000)
    for block in reversed(blocks):
        libc.free(block)
step()
step()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(3):
    step()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
print(sum(int(line.split()[1]) for line in open("/proc/self/smaps_rollup") if line.startswith("AnonHugePages")))
"""
HUGE = Path("/sys/kernel/mm/transparent_hugepage/enabled")


def faults_and_huge_kb(how):
    done = subprocess.run([sys.executable, "-c", PROGRAM, how], capture_output=True, text=True, timeout=120)
    if done.returncode == 3:
        pytest.skip("this C library has no mallopt")
    return map(int, done.stdout.split())


@pytest.mark.whole
def test_no_new_pages_are_needed_where_freed_memory_is_kept():
    faults, huge = faults_and_huge_kb("kept")
    assert faults < 100
    if HUGE.exists() and "[never]" not in HUGE.read_text():
        assert huge > 20_000
    faults, _ = faults_and_huge_kb("as it is")
    assert faults > 1_000
