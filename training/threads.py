"""How torch computes on a CPU: threads, no subnormal numbers, memory that is given back."""

import ctypes
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


def give_back_memory() -> None:
    """Ask glibc to give the system what was freed between blocks that are held.

    Texts make each step's tensors another size, so that they seldom fit into what was freed:
    without this, BLIP on features grew to 13.5 GB in 600 steps on a CPU; so it stays at 4
    (docs/log.md).
    Other C libraries have no such question.
    """
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)
