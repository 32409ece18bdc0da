"""Runs of words, and where the runs of a list stand in many texts at once.

A run is known by a hash of 64 bits: among a hundred million entries, one look-up in 10^11 finds what is not there.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from filters.characters import bytes_of
from filters.tokens import Tokens

BYTES = NDArray[np.uint8]
INTEGERS = NDArray[np.int64]
HASHES = NDArray[np.uint64]
_STEP, _MIX = np.uint64(0x9E3779B97F4A7C15), np.uint64(0xC2B2AE3D27D4EB4F)  # odd, bits well spread
_OF_BYTE = np.random.default_rng(7).integers(0, 2**64, 256, dtype=np.uint64)


@dataclass(frozen=True, kw_only=True)
class Words:
    """Words of texts in order, as hashes, and how many each text has."""

    count: INTEGERS
    hashes: HASHES

    def runs(self, length: int) -> HASHES:
        """A hash of the words from each place on; across the ends of texts too."""
        run = self.hashes
        for more in range(1, length):
            run = run[:-1] * _STEP + self.hashes[more:]
        return run


@dataclass(frozen=True, kw_only=True)
class Found:
    """Entry `entry[k]` of a list stands in text `row[k]`."""

    row: INTEGERS
    entry: INTEGERS


class Phrases:
    """Entries by how many words they have. An entry without words is never found; of equal entries the first is."""

    def __init__(self, blocks: Iterable[Words]) -> None:
        runs: dict[int, list[tuple[HASHES, INTEGERS]]] = {}
        before = 0
        for block in blocks:
            begins = np.cumsum(block.count) - block.count
            for length in np.unique(block.count[block.count > 0]).tolist():
                entries = np.flatnonzero(block.count == length)
                runs.setdefault(length, []).append((block.runs(length)[begins[entries]], entries + before))
            before += len(block.count)
        joined = {length: [np.concatenate(column) for column in zip(*parts, strict=True)] for length, parts in sorted(runs.items())}
        self.tables: Mapping[int, _Table] = {length: _Table(hashes, entries) for length, (hashes, entries) in joined.items()}

    def found(self, words: Words) -> Iterator[Found]:
        """Where entries stand, for each count of words that entries have."""
        row = np.repeat(np.arange(len(words.count)), words.count)
        for length, table in self.tables.items():
            if len(row) < length:
                return
            entry = table.entry(words.runs(length))
            first, last = row[: len(entry)], row[length - 1 :]
            there = (entry >= 0) & (first == last)
            yield Found(row=first[there], entry=entry[there])


class _Table:
    """Hashes and the entries that they stand for. A table of bits tells most of what is not there."""

    def __init__(self, hashes: HASHES, entries: INTEGERS) -> None:
        self.hashes, first = np.unique(hashes, return_index=True)
        self.entries = entries[first]
        self.shift = np.uint64(64 - min(max(len(hashes) * 16, 2).bit_length(), 28))
        self.bits = np.zeros(1 << (64 - int(self.shift)), dtype=bool)
        self.bits[self._place(self.hashes)] = True

    def entry(self, hashes: HASHES) -> INTEGERS:
        """The entry of each hash, -1 where it has none."""
        result = np.full(len(hashes), -1, np.int64)
        likely = np.flatnonzero(self.bits[self._place(hashes)])
        place = np.minimum(np.searchsorted(self.hashes, hashes[likely]), len(self.hashes) - 1)
        result[likely] = np.where(self.hashes[place] == hashes[likely], self.entries[place], -1)
        return result

    def _place(self, hashes: HASHES) -> INTEGERS:
        return ((hashes * _MIX) >> self.shift).astype(np.int64)


def token_words(tokens: Tokens) -> Words:
    """The words that filters.tokens parts texts into."""
    return Words(count=tokens.count, hashes=_of_strings(tokens.distinct)[tokens.code])


def _of_strings(words: pa.Array) -> HASHES:
    """Of each of some words; none is empty."""
    data, offsets = bytes_of(words)
    return hashes(data, np.diff(offsets))


def hashes(data: BYTES, lengths: INTEGERS) -> HASHES:
    """A hash of each piece of data; pieces lie one after another, and none is empty."""
    if not len(lengths):
        return np.zeros(0, np.uint64)
    begins = np.cumsum(lengths) - lengths
    powers = np.cumprod(np.full(int(lengths.max()), _STEP, np.uint64))
    return np.add.reduceat(_OF_BYTE[data] * powers[np.arange(len(data)) - np.repeat(begins, lengths)], begins)
