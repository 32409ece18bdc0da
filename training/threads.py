"""How many threads torch uses on a CPU."""

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
