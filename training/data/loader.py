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
from training.data.buckets import Buckets, bucketed, fixed, lengths_of
from training.data.crew import BEING_MADE, Answer, crew_of, cut
from training.data.features import Features
from training.data.images import ImageSpec
from training.data.order import Order, Place, Slot
from training.data.room import Room
from training.data.sample import Bad, Made, SampleMaker
from training.data.shards import Release
from training.data.tokenizer import Tokenizer
from training.data.worker import Chunk, Orders
from training.distributed import Ranks
from training.inputs import ImageInput, Input

T = TypeVar("T")
Prepared = Tokenizer | ImageSpec | Features
LENT = 2  # places of batches that whoever trains holds: the present one, until the next is there
TRIES = 64  # samples in the place of one, before the release is called broken


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
class _Filling:
    """A batch that is being made."""

    number: int  # its place in the room
    slots: list[Slot]
    place: Place
    made: dict[int, Made] = field(default_factory=dict)
    tries: Counter[int] = field(default_factory=Counter)
    first: dict[int, Slot] = field(default_factory=dict)  # what should have stood there
    bad: dict[str, str] = field(default_factory=dict)


class Loader:
    """An endless stream of batches from `place` on, which each of them carries on.

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
        place: Place | None = None,
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

        self._maker = SampleMaker(
            releases={name: releases[name] for name in data.shares if name in releases},
            images=self.images,
            sources=data.sources,
            seed=seed,
            stage=stage,
            training=training,
            mixgen=data.mixgen,
        )
        _check_mixing(data, prepare)
        near = data.near
        self._order = Order(releases, data.shares, seed=seed, stage=stage, near=near)
        self._plan = self._planned(data, place or Place(), seed, stage)

        places = BEING_MADE + max(1, ahead) + LENT
        self._room = Room.make(self.images, batches=places, rows=self._rows)
        self._free = list(range(places))  # a place that nobody holds any more comes back here
        self._filling: deque[_Filling] = deque()
        orders = Orders(maker=self._maker, room=self._room, seconds=seconds)
        self._workers = workers
        self._makers = crew_of(orders, workers)
        self._closing = False
        self._ready: queue.Queue[Batch | BaseException] = queue.Queue(maxsize=max(1, ahead))
        self._thread = threading.Thread(target=self._run_ahead, daemon=True) if workers else None
        if self._thread is not None:
            self._thread.start()

    def __iter__(self) -> Iterator[Batch]:
        return self

    def __next__(self) -> Batch:
        """The next batch; ValueError when a shard is damaged or a release has no usable samples."""
        began = time.perf_counter()
        found = self._ready.get() if self._thread is not None else self._next()
        if isinstance(found, BaseException):
            self.close()
            raise found
        self.bad.update(found.bad)
        return replace(found, waited=time.perf_counter() - began)

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
        self._makers.wake()
        while self._thread is not None and self._thread.is_alive():
            _drain(self._ready)
            self._thread.join(0.05)
        self._makers.close()
        self._room.close()

    def _share(self, rows: int) -> int:
        if rows < 1 or rows % self._ranks.world:
            raise ValueError(f"a batch of {rows} cannot be divided among {self._ranks.world} ranks")
        return rows // self._ranks.world

    def _planned(
        self, data: DataSpec, place: Place, seed: int, stage: str
    ) -> Iterator[tuple[list[Slot], Place]]:
        """Global batches to come."""
        if data.buckets is None:
            return fixed(self._order, place, data.batch)
        self._share(data.buckets.multiple)
        lengths = lengths_of(self._maker, self._texts)
        return bucketed(self._order, place, data.batch, data.buckets, lengths, seed, stage)

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
            while self._free and len(self._filling) < BEING_MADE:
                self._begin()
            first = self._filling[0]
            if len(first.made) == len(first.slots):
                return self._assembled(self._filling.popleft())
            if self._closing:
                raise RuntimeError("the loader is closed")
            for answer in self._makers.answers():
                self._take(answer)

    def _begin(self) -> None:
        slots, place = next(self._plan)
        rows = self._share(len(slots))
        start = self._ranks.rank * rows
        mine = slots[start : start + rows]
        filling = _Filling(number=self._free.pop(), slots=mine, place=place)
        self._filling.append(filling)

        for row, slot in enumerate(mine):
            if self._known_bad(slot):
                self._replace(filling, row, Bad("", "no features of it"))
        self._makers.give(cut(filling.number, mine, self._workers))

    def _known_bad(self, slot: Slot) -> bool:
        return any(slot.row in one.bad(slot.release) for one in self._features.values())

    def _take(self, answer: Answer) -> None:
        chunk, found = answer
        filling = next(one for one in self._filling if one.number == chunk.batch)
        for row, made in zip(chunk.rows, found, strict=True):
            if isinstance(made, Made):
                filling.made[row] = made
                continue
            self._replace(filling, row, made)
            again = Chunk(filling.number, (row,), (filling.slots[row],))
            self._makers.give([again])

    def _replace(self, filling: _Filling, row: int, bad: Bad) -> None:
        """Another sample instead of a bad one, which is named in the batch."""
        slot = filling.slots[row]
        sample = self._maker.releases[slot.release][slot.row]
        filling.bad[f"{slot.release}/{sample.image_id}"] = bad.reason
        first = filling.first.setdefault(row, slot)
        while True:
            filling.tries[row] += 1
            if filling.tries[row] > TRIES:
                raise ValueError(
                    f"release {slot.release}: {TRIES} samples cannot be used, the last because "
                    f"{bad.reason}; build the release again"
                )
            filling.slots[row] = self._order.instead(first, filling.tries[row])
            if not self._known_bad(filling.slots[row]):
                return

    def _assembled(self, filling: _Filling) -> Batch:
        made = [filling.made[row] for row in range(len(filling.slots))]
        texts = [one.text for one in made]
        releases = [slot.release for slot in filling.slots]
        images = [one.image_id for one in made]
        inputs = {**self._pixels(filling, made)}
        for name, prepared in self._prepare.items():
            if not isinstance(prepared, ImageSpec):
                inputs[name] = self._input(prepared, filling, made)
        return Batch(
            inputs=inputs,
            keys=keys_of(images, texts, releases),
            ids=[f"{release}/{image}" for release, image in zip(releases, images, strict=True)],
            texts=texts,
            place=filling.place,
            images=self.images,
            answers=[one.answers for one in made],
            bad=filling.bad,
        )

    def _input(self, prepared: Tokenizer | Features, filling: _Filling, made: list[Made]) -> Input:
        if isinstance(prepared, Tokenizer):
            return prepared([one.text for one in made])
        captions = [one.caption for one in made]
        flipped = [one.flipped for one in made]
        return prepared.read(filling.slots, captions, flipped)

    def _pixels(self, filling: _Filling, made: list[Made]) -> dict[str, Input]:
        """Pixels as they lie in the room; a copy where sizes differ, or no other place is free.

        Whoever holds a batch may so hold its place: it comes back when the last tensor is gone.
        """
        spare = bool(self._free)
        back = partial(self._free.append, filling.number)
        loan = self._room.lend(filling.number, len(made), back)
        found: dict[str, Input] = {}
        for number, (name, spec) in enumerate(self.images.items()):
            rows = torch.from_numpy(loan[number])
            sizes = [one.sizes[number] for one in made]
            (height, width) = sizes[0]
            if spare and len(set(sizes)) == 1:
                pixels = rows[:, : 3 * height * width].view(len(made), height, width, 3)
                found[name] = ImageInput(pixels=pixels.permute(0, 3, 1, 2))
                continue
            images = [
                row[: 3 * height * width].view(height, width, 3)
                for row, (height, width) in zip(rows, sizes, strict=True)
            ]
            found[name] = padded(images, spec.patch)
        return found


def _check_mixing(data: DataSpec, prepare: Mapping[str, Prepared]) -> None:
    """ValueError where images cannot be mixed: kept features, or images of several sizes."""
    if not data.mixgen:
        return
    for name, one in prepare.items():
        if isinstance(one, Features):
            raise ValueError(f"mixgen mixes pixels, and {name} is kept as features: set it to 0")
        if isinstance(one, ImageSpec) and one.how == "shorter":
            raise ValueError(f"mixgen needs images of one size: give {name} square or crop")


def _of_kind(prepare: Mapping[str, Prepared], kind: type[T]) -> dict[str, T]:
    return {name: one for name, one in prepare.items() if isinstance(one, kind)}


def _drain(ready: queue.Queue[Batch | BaseException]) -> None:
    while not ready.empty():
        ready.get_nowait()
