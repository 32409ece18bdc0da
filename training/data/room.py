"""Memory that processes share: pixels are written where they are read, and never sent."""

from __future__ import annotations

import mmap
import os
import tempfile
import weakref
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from functools import cached_property
from itertools import accumulate

import numpy as np

from training.data.images import ImageSpec, Pixels


@dataclass(frozen=True, kw_only=True)
class Room:
    """Room for the pixels of several batches: a place for each image of each row.

    It has no name anywhere, so that nothing of it outlives the processes that hold it.
    """

    descriptor: int
    batches: int
    rows: int  # of a batch
    most: tuple[int, ...]  # bytes of each image of a row, at most

    @classmethod
    def make(cls, images: Mapping[str, ImageSpec], *, batches: int, rows: int) -> Room:
        """Room for that many batches; it takes memory when it is written to."""
        most = tuple(3 * spec.most[0] * spec.most[1] for spec in images.values())
        descriptor = _unnamed()
        os.ftruncate(descriptor, max(1, batches * rows * sum(most)))
        return cls(descriptor=descriptor, batches=batches, rows=rows, most=most)

    def __getstate__(self) -> dict[str, object]:
        """To another process: what is mapped here is not sent."""
        return {one.name: self.__dict__[one.name] for one in fields(self)}

    def row(self, batch: int, row: int) -> Sequence[Pixels]:
        """The flat places of a row's images."""
        at = (batch * self.rows + row) * sum(self.most)
        places = []
        for size in self.most:
            places.append(self._bytes[at : at + size])
            at += size
        return places

    def lend(self, batch: int, rows: int, back: Callable[[], object]) -> Sequence[Pixels]:
        """[rows, bytes] for each image of a row; `back` is called when nobody holds any of them."""
        total = sum(self.most)
        start = batch * self.rows * total
        loan = np.frombuffer(self._map, dtype=np.uint8, count=rows * total, offset=start)
        weakref.finalize(loan, back)
        every = loan.reshape(rows, total)
        ends = accumulate(self.most)
        return [every[:, end - size : end] for end, size in zip(ends, self.most, strict=True)]

    def close(self) -> None:
        """Give up the file; the memory goes when no process maps it."""
        os.close(self.descriptor)

    @cached_property
    def _map(self) -> mmap.mmap:
        return mmap.mmap(self.descriptor, 0)

    @cached_property
    def _bytes(self) -> Pixels:
        return np.frombuffer(self._map, dtype=np.uint8)


def _unnamed() -> int:
    if hasattr(os, "memfd_create"):
        return os.memfd_create("winnow-pixels")
    with tempfile.TemporaryFile() as file:
        return os.dup(file.fileno())
