"""Images of samples in a given order, as evaluation and frozen towers read them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field

import torch
from torch import Tensor

from training.data.augment import Pixels
from training.data.images import ImageSpec
from training.data.order import Slot
from training.data.pixel_buffer import PixelBuffer
from training.data.pool import BEING_MADE, Pool, cut, make_pool
from training.data.sample import Bad, Made, SampleMaker, Samples
from training.data.worker import WorkerSetup

MadeRows = dict[int, Made | Bad]  # of a batch, by position


@dataclass(kw_only=True)
class ReadBatch:
    """Some rows, in their order, and the images of those that could be decoded."""

    requested: Sequence[int]
    done: int  # rows that have been read, with these
    rows: list[int] = field(default_factory=list)  # decoded
    images: dict[str, list[Tensor]]  # of each image specification [h, w, 3] bytes a decoded row
    bad: dict[int, str] = field(default_factory=dict)  # why the other rows cannot be used


def read_in_order(
    release: Samples,
    images: Mapping[str, ImageSpec],
    rows: Sequence[int],
    *,
    batch: int = 64,
    workers: int = 0,
    seconds: float = 30.0,
) -> Iterator[ReadBatch]:
    """Images of these rows as in evaluation; the next batch is decoded behind the present one."""
    maker = SampleMaker(releases={release.name: release}, images=images, training=False)
    buffer = PixelBuffer.make(images, batches=BEING_MADE, rows=batch)
    starts = range(0, len(rows), batch)
    batches = [rows[start : start + batch] for start in starts]
    made: list[MadeRows] = [{}, {}]  # of the batches that are being made
    done = 0

    with ExitStack() as stack:
        stack.callback(buffer.close)
        setup = WorkerSetup(maker=maker, buffer=buffer, seconds=seconds)
        pool = make_pool(setup, workers)
        stack.callback(pool.close)

        def order(number: int) -> None:
            """Let the pool make a batch, if there is one of that number."""
            for requested in batches[number : number + 1]:
                slots = [Slot(release.name, 0, row, row) for row in requested]
                pool.submit(cut(number % BEING_MADE, slots, workers))

        order(0)
        for number, requested in enumerate(batches):
            order(number + 1)
            index = number % BEING_MADE
            _wait(pool, made, index, len(requested))

            done += len(requested)
            read = ReadBatch(requested=requested, done=done, images={name: [] for name in images})
            for position, row in enumerate(requested):
                pixels = buffer.row(index, position)
                _add(read, row, made[index][position], pixels)
            yield read
            made[index].clear()


def _wait(pool: Pool, made: Sequence[MadeRows], index: int, count: int) -> None:
    """Collect results until that many samples of a batch are made."""
    while len(made[index]) < count:
        for chunk, samples in pool.results():
            made[chunk.batch].update(zip(chunk.rows, samples, strict=True))


def _add(read: ReadBatch, row: int, sample: Made | Bad, pixels: Sequence[Pixels]) -> None:
    """A sample that was made; its pixels are copied out of the shared memory."""
    if isinstance(sample, Bad):
        read.bad[row] = sample.reason
        return

    read.rows.append(row)
    for images, (height, width), flat in zip(
        read.images.values(), sample.sizes, pixels, strict=True
    ):
        image = flat[: 3 * height * width].reshape(height, width, 3)
        images.append(torch.from_numpy(image.copy()))
