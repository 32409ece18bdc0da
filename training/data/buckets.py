"""Batches of samples of like length: as many rows as a budget of tokens allows.

A window of the order is sorted by length, cut, and its batches are shuffled; every sample of the
window comes once, so that shares and epochs stay exact, whatever the lengths are.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from training.config import within
from training.data.decode import BROKEN
from training.data.draws import generator
from training.data.images import ImageSpec
from training.data.order import Order, Slot, StreamState
from training.data.sample import SampleMaker
from training.data.tokenizer import Tokenizer

TOGETHER = 1024  # rows that are asked for at once: an order costs as much for one as for a hundred
PlannedBatch = tuple[list[Slot], StreamState]  # and the state after it
LengthTable = NDArray[np.int64]  # [samples, kinds of tokens]
Lengths = Callable[[Sequence[Slot]], LengthTable]


@dataclass(frozen=True, kw_only=True)
class Buckets:
    """A budget of tokens for a global batch, padding counted.

    Rows come in multiples of `multiple`, which every number of ranks that may share a run divides.
    """

    budget: int
    window: int = 4096
    multiple: int = 8

    def __post_init__(self) -> None:
        within(1, 1_000_000_000, budget=self.budget)
        if self.multiple < 1 or self.window < 1 or self.window % self.multiple:
            raise ValueError(f"window {self.window} is no multiple of {self.multiple}: change one")


def fixed(order: Order, state: StreamState, rows: int) -> Iterator[PlannedBatch]:
    """Global batches of so many rows, and the state after each."""
    batches = max(1, TOGETHER // rows)
    taken = {name: state.taken.get(name, 0) for name in order.names}
    while True:
        slots, _ = order.take(StreamState(taken=taken), batches * rows)
        for start in range(0, len(slots), rows):
            batch = slots[start : start + rows]
            for slot in batch:
                taken[slot.release] += 1
            yield batch, StreamState(taken=dict(taken))


def bucketed(
    order: Order, state: StreamState, rows: int, buckets: Buckets, lengths: Lengths, *key: object
) -> Iterator[PlannedBatch]:
    """Global batches within the budget, of `rows` at most, and the state after each."""
    start = StreamState(taken=state.taken)
    done = state.batches
    while True:
        slots, next_window = order.take(start, buckets.window)
        batches = cut(lengths(slots), rows, buckets)
        draws = generator(*key, sorted(start.taken.items()), "buckets")
        draws.shuffle(batches)
        for number in range(done, len(batches)):
            after = StreamState(taken=start.taken, batches=number + 1)
            if number + 1 == len(batches):
                after = next_window
            yield [slots[index] for index in batches[number]], after
        start = next_window
        done = 0


def cut(lengths: LengthTable, rows: int, buckets: Buckets) -> list[list[int]]:
    """Indices of samples, cut into batches of `rows` at most and within the budget."""
    order = np.argsort(lengths.sum(1), kind="stable")
    batches = []
    batch: list[int] = []
    longest = np.zeros(lengths.shape[1], dtype=np.int64)  # of the batch, each kind of tokens
    for unit in order.reshape(-1, buckets.multiple):
        unit_longest = lengths[unit].max(0)
        longest = np.maximum(longest, unit_longest)
        count = len(batch) + len(unit)
        padded = count * longest.sum()
        if batch and (count > rows or padded > buckets.budget):
            batches.append(batch)
            batch = []
            longest = unit_longest
        batch += unit.tolist()
    batches.append(batch)
    return batches


def lengths_of(maker: SampleMaker, texts: Mapping[str, Tokenizer]) -> Lengths:
    """Lengths of samples as the model will meet them: pieces of texts, patches of images."""
    shaped = [spec for spec in maker.images.values() if spec.how == "shorter"]

    def measure(slots: Sequence[Slot]) -> LengthTable:
        columns = []
        captions = [maker.caption(slot) for slot in slots]
        for tokenizer in texts.values():
            columns.append(tokenizer.lengths(captions))
        for spec in shaped:
            columns.append([_patches(maker, slot, spec) for slot in slots])
        if not columns:
            return np.ones((len(slots), 1), dtype=np.int64)
        return np.array(columns, dtype=np.int64).T

    return measure


def _patches(maker: SampleMaker, slot: Slot, spec: ImageSpec) -> int:
    """From the header alone; an image without one will be replaced and counts as a square."""
    encoded = maker.read(slot).image
    try:
        with Image.open(io.BytesIO(encoded)) as image:
            width, height = spec.fitted(*image.size)
    except (*BROKEN, OSError):
        width = height = spec.size
    return width * height // spec.patch**2
