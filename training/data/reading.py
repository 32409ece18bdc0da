"""Rows of samples one after the other, as evaluation and frozen towers read them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass

import torch
from torch import Tensor

from training.data.crew import BEING_MADE, crew_of, cut
from training.data.images import ImageSpec
from training.data.order import Slot
from training.data.room import Room
from training.data.sample import Bad, Made, SampleMaker, Samples
from training.data.worker import Orders


@dataclass(frozen=True, kw_only=True)
class Rows:
    """Some rows, in their order: [h, w, 3] bytes for each image specification, or why not."""

    rows: Sequence[int]
    images: Mapping[str, Sequence[Tensor]]  # of a bad row an image without pixels
    bad: Mapping[int, str]


def read_in_order(
    release: Samples,
    images: Mapping[str, ImageSpec],
    rows: Sequence[int],
    *,
    batch: int = 64,
    workers: int = 0,
    seconds: float = 30.0,
) -> Iterator[Rows]:
    """Images of these rows as in evaluation, the next batch being decoded behind the present one.

    What cannot be decoded is said, and replaced by nothing: whoever counts must know.
    """
    maker = SampleMaker(releases={release.name: release}, images=images, training=False)
    room = Room.make(images, batches=BEING_MADE, rows=batch)
    orders = Orders(maker=maker, room=room, seconds=seconds)
    with ExitStack() as stack:
        stack.callback(room.close)
        makers = crew_of(orders, workers)
        stack.callback(makers.close)
        parts = [rows[at : at + batch] for at in range(0, len(rows), batch)]
        found: list[dict[int, Made | Bad]] = [{}, {}]
        for number, part in enumerate([*parts, []]):
            slots = [Slot(release.name, 0, row, row) for row in part]
            makers.give(cut(number % BEING_MADE, slots, workers))
            before = parts[number - 1] if number else []
            answered = found[(number - 1) % 2]
            while len(answered) < len(before):
                for chunk, made in makers.answers():
                    found[chunk.batch].update(zip(chunk.rows, made, strict=True))
            if before:
                yield _rows(room, (number - 1) % 2, before, answered, list(images))
            answered.clear()


def _rows(
    room: Room, batch: int, rows: Sequence[int], made: Mapping[int, Made | Bad], names: list[str]
) -> Rows:
    images: dict[str, list[Tensor]] = {name: [] for name in names}
    bad = {}
    for place, row in enumerate(rows):
        found = made[place]
        if isinstance(found, Bad):
            bad[row] = found.reason
        for number, name in enumerate(names):
            height, width = (0, 0) if isinstance(found, Bad) else found.sizes[number]
            pixels = room.row(batch, place)[number][: 3 * height * width]
            images[name].append(torch.from_numpy(pixels.copy()).view(height, width, 3))
    return Rows(rows=rows, images=images, bad=bad)
