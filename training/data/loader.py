"""Batches in a settled order, made ahead in other processes while the device works."""

from __future__ import annotations

import queue
import threading
import time
from collections import Counter, deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from types import TracebackType
from typing import TypeVar

import torch

from training.data.batch import Batch, keys_of, padded
from training.data.buckets import Buckets, PlannedBatch, bucketed, fixed, lengths_of
from training.data.features import Features
from training.data.images import ImageSpec
from training.data.order import Order, Slot, StreamState
from training.data.pixel_buffer import PixelBuffer
from training.data.pool import BEING_MADE, Result, cut, make_pool
from training.data.sample import Bad, Made, SampleMaker
from training.data.shards import Release
from training.data.tokenizer import Tokenizer
from training.data.worker import Chunk, WorkerSetup
from training.distributed import Ranks
from training.inputs import ImageInput, Input

T = TypeVar("T")
Prepared = Tokenizer | ImageSpec | Features
Ready = queue.Queue[Batch | BaseException]  # an error is raised where its batch is asked for
LENT = 2  # batches that whoever trains holds: the present one, until the next is there
TRIES = 64  # substitutes of a sample, before the release is called broken


@dataclass(frozen=True, kw_only=True)
class DataSpec:
    """What a stage reads: releases in shares, so many rows a step over all ranks.

    `sources` weighs the sources of captions where an image has several; `near` shuffles so many
    shards together instead of all (for releases that do not fit into the cache); `mixgen` is the
    share of samples that are mixed with another, image and text (MixGen); with `buckets`,
    `batch` is the most rows of a step.
    """

    shares: Mapping[str, float]
    batch: int
    sources: Mapping[str, float] = field(default_factory=dict)
    near: int = 0
    mixgen: float = 0.0
    buckets: Buckets | None = None


@dataclass(kw_only=True)
class _PendingBatch:
    """A batch that is being made."""

    index: int  # in the pixel buffer
    slots: list[Slot]
    state: StreamState
    made: dict[int, Made] = field(default_factory=dict)
    tries: Counter[int] = field(default_factory=Counter)
    originals: dict[int, Slot] = field(default_factory=dict)  # of rows that were replaced
    bad: dict[str, str] = field(default_factory=dict)


class Loader:
    """An endless stream of batches from `state` on, which each of them carries on.

    A sample that cannot be used costs nothing but itself: another one, which the bad one settles,
    takes its place, so that the order is the same for everybody. `bad` keeps what was met so far.
    With `workers` 0 all is done in this process, when it is asked for.
    """

    def __init__(
        self,
        releases: Mapping[str, Release],
        data: DataSpec,
        prepare: Mapping[str, Prepared],
        *,
        seed: int,
        stage: str = "",
        ranks: Ranks | None = None,
        state: StreamState | None = None,
        workers: int = 0,
        ahead: int = 2,
        training: bool = True,
        seconds: float = 30.0,
    ) -> None:
        self._ranks = ranks or Ranks()
        self._rows = self._share(data.batch)
        self._prepare = dict(prepare)
        self._features = _of_kind(prepare, Features)
        self._texts = _of_kind(prepare, Tokenizer)
        self.images = _of_kind(prepare, ImageSpec)
        self.bad: dict[str, str] = {}

        _check_mixing(data, prepare)
        self._maker = SampleMaker(
            releases={name: releases[name] for name in data.shares if name in releases},
            images=self.images,
            sources=data.sources,
            seed=seed,
            stage=stage,
            training=training,
            mixgen=data.mixgen,
        )
        near = data.near
        self._order = Order(releases, data.shares, seed=seed, stage=stage, near=near)
        self._plan = self._planned(data, state or StreamState(), seed, stage)

        batches = BEING_MADE + max(1, ahead) + LENT
        self._buffer = PixelBuffer.make(self.images, batches=batches, rows=self._rows)
        self._free = list(range(batches))  # indices of the buffer that nobody holds
        self._pending: deque[_PendingBatch] = deque()
        setup = WorkerSetup(maker=self._maker, buffer=self._buffer, seconds=seconds)
        self._workers = workers
        self._pool = make_pool(setup, workers)

        self._closing = False
        self._ready: Ready = queue.Queue(maxsize=max(1, ahead))
        self._thread: threading.Thread | None = None
        if workers:
            self._thread = threading.Thread(target=self._run_ahead, daemon=True)
            self._thread.start()

    def __iter__(self) -> Iterator[Batch]:
        return self

    def __next__(self) -> Batch:
        """The next batch; ValueError when a shard is damaged or a release has no usable samples."""
        start = time.perf_counter()
        batch = self._next() if self._thread is None else self._ready.get()
        if isinstance(batch, BaseException):
            self.close()
            raise batch
        self.bad.update(batch.bad)
        waited = time.perf_counter() - start
        return replace(batch, waited=waited)

    def __enter__(self) -> Loader:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """End the workers; what they have made is lost."""
        if self._closing:
            return
        self._closing = True
        self._pool.wake()
        while self._thread is not None and self._thread.is_alive():
            _drain(self._ready)
            self._thread.join(0.05)
        self._pool.close()
        self._buffer.close()

    def _share(self, rows: int) -> int:
        """Rows of this rank."""
        world = self._ranks.world
        if rows < 1 or rows % world:
            raise ValueError(f"a batch of {rows} cannot be divided among {world} ranks")
        return rows // world

    def _planned(
        self, data: DataSpec, state: StreamState, seed: int, stage: str
    ) -> Iterator[PlannedBatch]:
        """Global batches to come."""
        if data.buckets is None:
            return fixed(self._order, state, data.batch)
        self._share(data.buckets.multiple)
        lengths = lengths_of(self._maker, self._texts)
        return bucketed(self._order, state, data.batch, data.buckets, lengths, seed, stage)

    def _run_ahead(self) -> None:
        """In a thread: make batches while there is room for them."""
        try:
            while not self._closing:
                self._ready.put(self._next())
        except BaseException as error:  # noqa: BLE001 - raised where the batch is asked for
            if not self._closing:
                self._ready.put(error)

    def _next(self) -> Batch:
        while True:
            while self._free and len(self._pending) < BEING_MADE:
                self._begin()
            first = self._pending[0]
            if len(first.made) == len(first.slots):
                self._pending.popleft()
                return self._collate(first)
            if self._closing:
                raise RuntimeError("the loader is closed")
            for result in self._pool.results():
                self._add(result)

    def _begin(self) -> None:
        """Let the pool make this rank's rows of the next global batch."""
        slots, state = next(self._plan)
        rows = self._share(len(slots))
        start = self._ranks.rank * rows
        mine = slots[start : start + rows]
        pending = _PendingBatch(index=self._free.pop(), slots=mine, state=state)
        self._pending.append(pending)

        for row, slot in enumerate(mine):
            if self._known_bad(slot):
                self._replace(pending, row, Bad("", "no features of it"))
        self._pool.submit(cut(pending.index, mine, self._workers))

    def _known_bad(self, slot: Slot) -> bool:
        cached = self._features.values()
        return any(slot.row in features.bad(slot.release) for features in cached)

    def _add(self, result: Result) -> None:
        chunk, samples = result
        (pending,) = [batch for batch in self._pending if batch.index == chunk.batch]
        for row, sample in zip(chunk.rows, samples, strict=True):
            if isinstance(sample, Made):
                pending.made[row] = sample
                continue
            self._replace(pending, row, sample)
            retry = Chunk(pending.index, (row,), (pending.slots[row],))
            self._pool.submit([retry])

    def _replace(self, pending: _PendingBatch, row: int, bad: Bad) -> None:
        """Another sample instead of a bad one, which is named in the batch."""
        slot = pending.slots[row]
        sample = self._maker.read(slot)
        pending.bad[f"{slot.release}/{sample.image_id}"] = bad.reason
        original = pending.originals.setdefault(row, slot)
        while True:
            pending.tries[row] += 1
            if pending.tries[row] > TRIES:
                raise ValueError(
                    f"release {slot.release}: {TRIES} samples cannot be used, the last because "
                    f"{bad.reason}; build the release again"
                )
            pending.slots[row] = self._order.instead(original, pending.tries[row])
            if not self._known_bad(pending.slots[row]):
                return

    def _collate(self, pending: _PendingBatch) -> Batch:
        samples = [pending.made[row] for row in range(len(pending.slots))]
        texts = [sample.text for sample in samples]
        image_ids = [sample.image_id for sample in samples]
        releases = [slot.release for slot in pending.slots]
        ids = []
        for release, image_id in zip(releases, image_ids, strict=True):
            ids.append(f"{release}/{image_id}")

        inputs = self._pixels(pending, samples)
        for name, prepared in self._prepare.items():
            if isinstance(prepared, Tokenizer):
                inputs[name] = prepared(texts)
            elif isinstance(prepared, Features):
                captions = [sample.caption for sample in samples]
                flipped = [sample.flipped for sample in samples]
                inputs[name] = prepared.read(pending.slots, captions, flipped)
        return Batch(
            inputs=inputs,
            keys=keys_of(image_ids, texts, releases),
            ids=ids,
            texts=texts,
            state=pending.state,
            images=self.images,
            answers=[sample.answers for sample in samples],
            bad=pending.bad,
        )

    def _pixels(self, pending: _PendingBatch, samples: list[Made]) -> dict[str, Input]:
        """Pixels as they lie in the buffer; a copy where sizes differ, or nothing else is free.

        Whoever holds a batch may so hold its part of the buffer: it is free again when the last
        tensor is gone.
        """
        others_free = bool(self._free)
        returned = partial(self._free.append, pending.index)
        loan = self._buffer.lend(pending.index, len(samples), returned)
        inputs: dict[str, Input] = {}
        for number, (name, spec) in enumerate(self.images.items()):
            rows = torch.from_numpy(loan[number])
            sizes = [sample.sizes[number] for sample in samples]
            if others_free and len(set(sizes)) == 1:
                height, width = sizes[0]
                pixels = rows[:, : 3 * height * width].view(-1, height, width, 3)
                inputs[name] = ImageInput(pixels=pixels.permute(0, 3, 1, 2))
                continue

            images = []
            for row, (height, width) in zip(rows, sizes, strict=True):
                images.append(row[: 3 * height * width].view(height, width, 3))
            inputs[name] = padded(images, spec.patch)
        return inputs


def _check_mixing(data: DataSpec, prepare: Mapping[str, Prepared]) -> None:
    """ValueError where images cannot be mixed: cached features, or images of several sizes."""
    if not data.mixgen:
        return
    for name, prepared in prepare.items():
        if isinstance(prepared, Features):
            raise ValueError(f"mixgen mixes pixels, and {name} is kept as features: set it to 0")
        if isinstance(prepared, ImageSpec) and prepared.how == "shorter":
            raise ValueError(f"mixgen needs images of one size: give {name} square or crop")


def _of_kind(prepare: Mapping[str, Prepared], kind: type[T]) -> dict[str, T]:
    return {name: prepared for name, prepared in prepare.items() if isinstance(prepared, kind)}


def _drain(ready: Ready) -> None:
    while not ready.empty():
        ready.get_nowait()
