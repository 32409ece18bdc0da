"""What training asks of the C library."""

import subprocess
import sys

import pytest

HOLES = """
import os, torch
from training.threads import give_back_memory

def held():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGESIZE") >> 20

first = torch.ones(2 * 2**20)
del first  # glibc keeps blocks of this size from now on
before = held()
blocks = [torch.ones(2**20) for _ in range(100)]  # 4 MB each
del blocks[::2]
print(held() - before)
give_back_memory()
print(held() - before)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="of glibc alone")
def test_memory_between_blocks_that_are_held_goes_back() -> None:
    done = subprocess.run([sys.executable, "-c", HOLES], capture_output=True, check=True)
    kept, given_back = map(int, done.stdout.split())
    assert kept > 350, "what is freed is kept: the test would show nothing"
    assert given_back < 250
