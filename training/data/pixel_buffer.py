"""Shared memory for pixels: they are written where they are read, and never sent."""

from __future__ import annotations

import mmap
import os
import tempfile
import weakref
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from functools import cached_property

import numpy as np

from training.data.augment import Pixels
from training.data.images import ImageSpec


@dataclass(frozen=True, kw_only=True)
class PixelBuffer:
    """Room for the pixels of several batches, for each image of each row.

    It has no name anywhere, so that nothing of it outlives the processes that hold it.
    """

    descriptor: int
    batches: int
    rows: int  # of a batch
    sizes: tuple[int, ...]  # bytes of each image of a row, at most

    @classmethod
    def make(cls, images: Mapping[str, ImageSpec], *, batches: int, rows: int) -> PixelBuffer:
        """Room for that many batches; it takes memory when it is written to."""
        sizes = []
        for spec in images.values():
            height, width = spec.most
            sizes.append(3 * height * width)
        descriptor = _unnamed_file()
        os.ftruncate(descriptor, max(1, batches * rows * sum(sizes)))
        return cls(descriptor=descriptor, batches=batches, rows=rows, sizes=tuple(sizes))

    def __getstate__(self) -> dict[str, object]:
        """To another process: what is mapped here is not sent."""
        return {field.name: self.__dict__[field.name] for field in fields(self)}

    def row(self, batch: int, row: int) -> Sequence[Pixels]:
        """The flat bytes of each image of a row."""
        start = (batch * self.rows + row) * sum(self.sizes)
        images = []
        for size in self.sizes:
            images.append(self._bytes[start : start + size])
            start += size
        return images

    def lend(self, batch: int, rows: int, returned: Callable[[], object]) -> Sequence[Pixels]:
        """[rows, bytes] for each image; `returned` is called when nobody holds any of them."""
        row_size = sum(self.sizes)
        start = batch * self.rows * row_size
        loan = np.frombuffer(self._map, dtype=np.uint8, count=rows * row_size, offset=start)
        weakref.finalize(loan, returned)

        table = loan.reshape(rows, row_size)
        images = []
        column = 0
        for size in self.sizes:
            images.append(table[:, column : column + size])
            column += size
        return images

    def close(self) -> None:
        """Give up the file; the memory goes when no process maps it."""
        os.close(self.descriptor)

    @cached_property
    def _map(self) -> mmap.mmap:
        return mmap.mmap(self.descriptor, 0)

    @cached_property
    def _bytes(self) -> Pixels:
        return np.frombuffer(self._map, dtype=np.uint8)


def _unnamed_file() -> int:
    if hasattr(os, "memfd_create"):
        return os.memfd_create("winnow-pixels")
    with tempfile.TemporaryFile() as file:
        return os.dup(file.fileno())
