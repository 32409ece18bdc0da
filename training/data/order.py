"""The order of samples: settled by (seed, stage, epoch) alone, whoever reads them.

A state says how many samples of each release were taken; with that a run goes on exactly where
another stopped, with any number of workers and ranks: they divide the same order among themselves.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol

import numpy as np

from training.data.draws import number_of
from training.data.mixture import turns, whole_weights
from training.data.permutation import Indices, Permutation


class Sized(Protocol):
    """What an order must know of a release: how many samples its shards hold, in their order."""

    @property
    def counts(self) -> Sequence[int]: ...


class Slot(NamedTuple):
    """One sample of the order."""

    release: str
    epoch: int
    position: int  # in that epoch
    row: int  # of the release


@dataclass(frozen=True, kw_only=True)
class StreamState:
    """How far a stream was read: samples of each release, and batches of a window since."""

    taken: Mapping[str, int] = field(default_factory=dict)
    batches: int = 0  # of the window that begins there (see buckets); 0 without windows

    def to_json(self) -> dict[str, Any]:
        """Plain values for a checkpoint."""
        return {"taken": dict(self.taken), "batches": self.batches}

    @classmethod
    def from_json(cls, plain: Mapping[str, Any]) -> StreamState:
        """What `to_json` gave."""
        return cls(taken=dict(plain["taken"]), batches=int(plain["batches"]))


class Order:
    """An endless order of the samples of some releases in exact shares.

    `near` 0 shuffles a whole release; a number shuffles the shards, and then the samples of so many
    neighbours together, for releases that are fetched and do not fit into the cache. Shards of a
    release are shuffled when they are written, so that little is lost.
    """

    def __init__(
        self,
        releases: Mapping[str, Sized],
        shares: Mapping[str, float],
        *,
        seed: int,
        stage: str = "",
        near: int = 0,
    ) -> None:
        _check(releases, shares)
        self.names = sorted(shares)
        self._weights = whole_weights([shares[name] for name in self.names])
        self._counts = {name: list(releases[name].counts) for name in self.names}
        self._key = seed, stage
        self._near = near
        self._epochs: dict[tuple[str, int], _Epoch] = {}

    def size(self, release: str) -> int:
        """Samples of one epoch of a release."""
        return sum(self._counts[release])

    def take(self, state: StreamState, count: int) -> tuple[list[Slot], StreamState]:
        """The next samples, and the state after them."""
        taken = [state.taken.get(name, 0) for name in self.names]
        release_of = turns(self._weights, taken, count)
        streams = []
        after = {}
        for index, name in enumerate(self.names):
            start = taken[index]
            stop = start + release_of.count(index)
            streams.append(self._slots(name, np.arange(start, stop)))
            after[name] = stop

        slots = [next(streams[index]) for index in release_of]
        return slots, StreamState(taken=after)

    def instead(self, slot: Slot, attempt: int) -> Slot:
        """A substitute for a sample that cannot be used: another of the same epoch.

        It depends on the sample and the attempt alone, so that the order of all others stays. It
        stands half an epoch away, so that no batch holds a sample twice for it.
        """
        size = self.size(slot.release)
        position = (slot.position + size // 2 + attempt) % size
        epoch = self._epoch(slot.release, slot.epoch)
        (row,) = epoch.rows(np.array([position])).tolist()
        return slot._replace(position=position, row=row)

    def _slots(self, name: str, numbers: Indices) -> Iterator[Slot]:
        """Samples of a release, counted through all its epochs; numbers ascend."""
        epochs, positions = np.divmod(numbers, self.size(name))
        for epoch in np.unique(epochs).tolist():
            inside = positions[epochs == epoch]
            rows = self._epoch(name, epoch).rows(inside)
            for position, row in zip(inside.tolist(), rows.tolist(), strict=True):
                yield Slot(name, epoch, position, row)

    def _epoch(self, name: str, epoch: int) -> _Epoch:
        """The shuffle of one epoch; those before the last one are dropped."""
        if (name, epoch) not in self._epochs:
            for key in list(self._epochs):
                if key[0] == name and key[1] < epoch - 1:
                    del self._epochs[key]
            seed = number_of(*self._key, name, epoch)
            counts = self._counts[name]
            self._epochs[name, epoch] = _Epoch(counts, seed, self._near)
        return self._epochs[name, epoch]


class _Epoch:
    """One epoch of one release: shards in groups, the samples of a group shuffled together."""

    def __init__(self, counts: Sequence[int], key: int, near: int) -> None:
        sizes = np.array(counts, dtype=np.int64)
        first_rows = np.cumsum(sizes) - sizes
        shards = np.flatnonzero(sizes)
        if near:
            shuffle = Permutation(len(shards), key)
            shards = shards[shuffle(np.arange(len(shards)))]
        self._key = key
        sizes = sizes[shards]
        self._ends = np.cumsum(sizes)  # of each shard, in the order of the epoch
        starts = self._ends - sizes
        self._offsets = first_rows[shards] - starts  # from position to row

        group = near or len(shards)
        last_shards = np.arange(group, len(shards) + group, group) - 1
        last_shards = last_shards.clip(max=len(shards) - 1)
        self._group_ends = self._ends[last_shards]
        self._shuffles: dict[int, Permutation] = {}

    def rows(self, positions: Indices) -> Indices:
        """The rows of the release at these positions of the epoch."""
        groups = np.searchsorted(self._group_ends, positions, side="right")
        shuffled = np.empty_like(positions)
        for group in np.unique(groups).tolist():
            inside = groups == group
            start = int(self._group_ends[group - 1]) if group else 0
            shuffle = self._shuffle(group, start)
            of_group = positions[inside] - start
            shuffled[inside] = start + shuffle(of_group)

        shard = np.searchsorted(self._ends, shuffled, side="right")
        rows: Indices = shuffled + self._offsets[shard]
        return rows

    def _shuffle(self, group: int, start: int) -> Permutation:
        """The shuffle of a group that starts at a position."""
        if group not in self._shuffles:
            if len(self._shuffles) > 8:  # a batch needs one or two
                self._shuffles.clear()
            size = int(self._group_ends[group]) - start
            self._shuffles[group] = Permutation(size, number_of(self._key, group))
        return self._shuffles[group]


def _check(releases: Mapping[str, Sized], shares: Mapping[str, float]) -> None:
    if not shares:
        raise ValueError("a stage reads no release: name at least one, each with its share")
    for name, share in shares.items():
        if name not in releases:
            known = ", ".join(releases) or "none"
            raise ValueError(f"there is no release {name!r}; there are: {known}")
        if not 0 < share < float("inf"):
            raise ValueError(f"release {name} has the share {share:g}: it must be above 0")
        if not sum(releases[name].counts):
            raise ValueError(f"release {name} has no samples: loosen the recipe or collect more")
