"""Runs of words, and where the runs of a list stand in many texts at once.

A run is known by a hash of 64 bits: among a hundred million entries, one look-up in 10^11 finds
what is not there.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from filters.text.characters import bytes_of
from filters.text.tokens import Tokens

INTEGERS = NDArray[np.int64]
HASHES = NDArray[np.uint64]
_STEP, _MIX = np.uint64(0x9E3779B97F4A7C15), np.uint64(0xC2B2AE3D27D4EB4F)  # odd, bits well spread
_OF_BYTE = np.random.default_rng(7).integers(0, 2**64, 256, dtype=np.uint64)


@dataclass(frozen=True, kw_only=True)
class Words:
    """Words of texts in order, as places in the hashes of the distinct ones, and how many each text
    has.
    """

    count: INTEGERS
    code: INTEGERS
    distinct: HASHES

    def runs(self, length: int) -> HASHES:
        """A hash of the words from each place on; across the ends of texts too."""
        each = self.distinct[self.code]
        run = each
        for more in range(1, length):
            run = run[:-1] * _STEP + each[more:]
        return run

    def entries(self, table: "_Table", length: int) -> INTEGERS:
        """The entry that the words from each place on are, -1 where they are none."""
        return (
            table.entry(self.distinct)[self.code] if length == 1 else table.entry(self.runs(length))
        )


@dataclass(frozen=True, kw_only=True)
class Found:
    """Entry `entry[k]` of a list stands in text `row[k]`."""

    row: INTEGERS
    entry: INTEGERS


class Phrases:
    """Entries by how many words they have. An entry without words is never found; of equal entries
    the first is.
    """

    def __init__(self, blocks: Iterable[Words]) -> None:
        runs: dict[int, list[tuple[HASHES, INTEGERS]]] = {}
        before = 0
        for block in blocks:
            begins = np.cumsum(block.count) - block.count
            for length in np.unique(block.count[block.count > 0]).tolist():
                entries = np.flatnonzero(block.count == length)
                runs.setdefault(length, []).append(
                    (block.runs(length)[begins[entries]], entries + before)
                )
            before += len(block.count)
        joined = {
            length: [np.concatenate(column) for column in zip(*parts, strict=True)]
            for length, parts in sorted(runs.items())
        }
        self.tables: Mapping[int, _Table] = {
            length: _Table(hashes, entries) for length, (hashes, entries) in joined.items()
        }

    def found(self, words: Words) -> Iterator[Found]:
        """Where entries stand, for each count of words that entries have."""
        row = np.repeat(np.arange(len(words.count)), words.count)
        for length, table in self.tables.items():
            if len(row) < length:
                return
            entry = words.entries(table, length)
            first, last = row[: len(entry)], row[length - 1 :]
            there = (entry >= 0) & (first == last)
            yield Found(row=first[there], entry=entry[there])


class _Table:
    """Hashes and the entries that they stand for. A table of bits tells most of what is not
    there.
    """

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
    """The words that filters.text.tokens parts texts into."""
    return Words(count=tokens.count, code=tokens.code, distinct=hashes(tokens.distinct))


def hashes(words: pa.Array) -> HASHES:
    """A hash of each word; none is empty."""
    if not len(words):
        return np.zeros(0, np.uint64)
    data, offsets = bytes_of(words)
    lengths = np.diff(offsets)
    powers = np.cumprod(np.full(int(lengths.max()), _STEP, np.uint64))
    sums = np.add.reduceat(
        _OF_BYTE[data] * powers[np.arange(len(data)) - np.repeat(offsets[:-1], lengths)],
        offsets[:-1],
    )
    # or words with signs swapped between them would make the same run
    mixed = (sums ^ (sums >> np.uint64(32))) * _MIX
    return np.asarray(mixed ^ (mixed >> np.uint64(29)), dtype=np.uint64)
