"""Near pairs in memory: hashes that differ in a few bits, vectors at a small angle, and what hangs
together through pairs.

Hashes: 64 bits are cut into five blocks. Three bits that differ lie in three blocks at most, so at
least two blocks are equal: each hash is looked up under its ten pairs of blocks (multi-index
hashing, Norouzi, Punjani and Fleet 2012, whose single blocks of 16 bits would grow crowded at ten
million hashes). Where many share a pair of blocks, the other three are cut into six, of which three
are equal.
"""

from collections.abc import Iterable, Iterator
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

HASHES = NDArray[np.uint64]
INDICES = NDArray[np.int64]
VECTORS = NDArray[np.float32]

DISTANCE = 3  # bits of 64
CROWD = 256  # hashes that share a key and are compared each with each
CELL = 1000  # vectors that lie nearest to one pivot, on average
NEAREST = 3  # pivots in whose cells a vector is compared
WIDE = 8 * CELL * NEAREST  # vectors compared each with each; a cell of more is cut again
ROWS = 2048  # and columns of a matrix of similarities at a time
GATHERED = 1 << 20  # pairs held before they are joined


def _mask(bits: NDArray[np.int64]) -> int:
    return sum(1 << int(bit) for bit in bits)


def _cut(bits: NDArray[np.int64], blocks: int, equal: int) -> tuple[int, ...]:
    """The bits of each choice of `equal` blocks of `blocks`. A block takes every so manieth bit:
    neighbours tell much the same.
    """
    return tuple(
        _mask(np.concatenate(chosen))
        for chosen in combinations([bits[start::blocks] for start in range(blocks)], equal)
    )


KEYS = _cut(np.arange(64), 5, 2)
_FINER = {
    key: _cut(np.array([bit for bit in range(64) if not key >> bit & 1]), 6, 3) for key in KEYS
}


def near_hashes(hashes: HASHES, key: int) -> Iterator[tuple[INDICES, INDICES]]:
    """Pairs of places whose hashes differ in `DISTANCE` bits at most, among those whose bits of a
    key of `KEYS` are equal.
    """
    places = np.arange(len(hashes))
    crowds: list[INDICES] = []
    yield from _joined(hashes, places, key, crowds)
    for crowd in crowds:
        for finer in _FINER[key]:
            yield from _joined(hashes, crowd, finer, None)


def _joined(
    hashes: HASHES, places: INDICES, mask: int, crowds: list[INDICES] | None
) -> Iterator[tuple[INDICES, INDICES]]:
    """Near pairs among places whose hashes agree in a mask; those of a crowd are put aside where
    there is a list for them.
    """
    keys = hashes[places] & np.uint64(mask)
    order = np.argsort(keys)
    places, keys = places[order], keys[order]
    starts = (
        np.flatnonzero(np.r_[True, keys[1:] != keys[:-1]])
        if len(keys)
        else np.zeros(0, dtype=np.int64)
    )
    sizes = np.diff(np.r_[starts, len(keys)])
    # how many follow with the same key
    after = np.repeat(starts + sizes, sizes) - np.arange(len(keys)) - 1
    if crowds is not None:
        crowded = sizes > CROWD
        crowds += [
            places[start : start + size]
            for start, size in zip(starts[crowded], sizes[crowded], strict=True)
        ]
        after[np.repeat(crowded, sizes)] = 0
    found, step = hashes[places], 1
    left = np.flatnonzero(after >= step)
    while len(left):
        close = left[np.bitwise_count(found[left] ^ found[left + step]) <= DISTANCE]
        if len(close):
            yield places[close], places[close + step]
        step += 1
        left = left[after[left] >= step]


def near_vectors(vectors: VECTORS, similarity: float) -> Iterator[tuple[INDICES, INDICES]]:
    """Pairs of places whose unit vectors [n, d] have this cosine or more; of very many only those
    that share a cell (`cells`).
    """
    yield from _near(vectors, np.arange(len(vectors)), similarity, cut=True)


def _near(
    vectors: VECTORS, places: INDICES, similarity: float, *, cut: bool
) -> Iterator[tuple[INDICES, INDICES]]:
    if cut and len(places) > WIDE:
        pivots = vectors[places[:: -(-len(places) // (len(places) // CELL))]]
        cell = cells(vectors[places], pivots)
        for number in range(len(pivots)):
            yield from _near(vectors, places[(cell == number).any(axis=1)], similarity, cut=False)
        return
    chosen = vectors[places]
    for start in range(0, len(places), ROWS):
        for beside in range(start, len(places), ROWS):
            close = chosen[start : start + ROWS] @ chosen[beside : beside + ROWS].T >= similarity
            one, other = np.nonzero(np.triu(close, 1) if start == beside else close)
            if len(one):
                yield places[start + one], places[beside + other]


def cells(vectors: VECTORS, pivots: VECTORS) -> NDArray[np.int64]:
    """[n, up to `NEAREST`] the pivots that are nearest to each vector."""
    count = min(NEAREST, len(pivots))
    if count == len(pivots):
        return np.tile(np.arange(count), (len(vectors), 1))
    found = np.empty((len(vectors), count), dtype=np.int64)
    for start in range(0, len(vectors), ROWS):
        scores = vectors[start : start + ROWS] @ pivots.T
        found[start : start + ROWS] = np.argpartition(-scores, count - 1, axis=1)[:, :count]
    return found


class Forest:
    """What hangs together: each node that has a pair, and the least of those that it hangs together
    with.
    """

    def __init__(self) -> None:
        self.nodes = np.zeros(0, dtype=np.int64)
        self.roots = np.zeros(0, dtype=np.int64)

    def gather(self, pairs: Iterable[tuple[INDICES, INDICES]]) -> None:
        """Take in pairs of nodes as they are found, many at a time."""
        waiting: list[tuple[INDICES, INDICES]] = []
        for pair in pairs:
            waiting.append(pair)
            if sum(len(one) for one, _ in waiting) > GATHERED:
                self.add(*map(np.concatenate, zip(*waiting, strict=True)))
                waiting = []
        if waiting:
            self.add(*map(np.concatenate, zip(*waiting, strict=True)))

    def add(self, one: INDICES, other: INDICES) -> None:
        """Take in pairs of nodes."""
        self.nodes, places = np.unique(
            np.concatenate([self.nodes, self.roots, one, other]), return_inverse=True
        )
        size = len(self.roots)
        left = np.concatenate([places[:size], places[2 * size : 2 * size + len(one)]])
        right = np.concatenate([places[size : 2 * size], places[2 * size + len(one) :]])
        self.roots = self.nodes[_least(left, right, len(self.nodes))]

    @property
    def links(self) -> tuple[INDICES, INDICES]:
        """Each node that is not the least, and the least."""
        leaves = self.nodes != self.roots
        return self.nodes[leaves], self.roots[leaves]


def _least(left: INDICES, right: INDICES, count: int) -> INDICES:
    """[count] the least number that each of the numbers below `count` hangs together with: least
    labels handed on, and shortened.
    """
    label = np.arange(count)
    while len(left):
        one, other = label[left], label[right]
        apart = one != other
        if not apart.any():
            break
        left, right = left[apart], right[apart]
        low, high = np.minimum(one[apart], other[apart]), np.maximum(one[apart], other[apart])
        np.minimum.at(label, high, low)
        while (label[label] != label).any():
            label = label[label]
    return label
