"""How torch computes on a CPU: with how many threads, and without subnormal numbers."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch


@contextmanager
def threads(wanted: int) -> Iterator[None]:
    """`wanted` threads inside (0: as many as before), the number of before afterwards.

    On a CPU the number settles the order of sums, and so the last bits of every result.
    """
    before = torch.get_num_threads()
    torch.set_num_threads(wanted or before)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@contextmanager
def flushed() -> Iterator[None]:
    """Subnormal numbers count as 0 inside: a processor takes ten times as long for them.

    It holds for this thread and for those that it starts from now on.
    """
    torch.set_flush_denormal(True)
    try:
        yield
    finally:
        torch.set_flush_denormal(False)
