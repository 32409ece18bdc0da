"""Which entries of a list stand in a text, as MetaCLIP matches them."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, ClassVar, Self

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from filters.base import Filter, Level, measured
from filters.given_models import Given
from filters.text.characters import bytes_of, count_true
from filters.text.phrases import Phrases, Words, hashes
from filters.text.tokens import strings
from filters.text.word_lists import blocks, digest

_SPACE = 32
# MetaCLIP (metaclip/substr_matching.py) puts spaces around these signs and for these; nothing else
# parts words, and case counts.
_SET_APART, _BLANK = b",.;:?!`", b"\t\n\r"
_BLANKED = bytes(_SPACE if code in _BLANK else code for code in range(256))
_APART = np.isin(np.arange(256), list(_SET_APART))


@dataclass(frozen=True)
class EntriesFilter(Filter):
    """The entries that a text holds between spaces, by their line in the file from 0, ascending;
    null for a text that is missing.

    The same result as searching for each entry with a space on both sides in the spaced text.
    Entries are not spaced: one with a comma within a word is found nowhere, as in MetaCLIP. Of
    equal entries the first counts.
    """

    name: ClassVar[str] = "entries"
    version: ClassVar[int] = 1
    sentence: ClassVar[str] = "Finds the entries that a text holds as whole words"
    level: ClassVar[Level] = "candidate"
    reads: ClassVar[tuple[str, ...]] = ("text",)
    writes: ClassVar[Mapping[str, pa.DataType]] = {
        "text.entries": pa.list_(pa.int32()),
        "text.entry_count": pa.int32(),
    }
    needs: ClassVar[str | None] = "entries"
    path: str
    digest: str

    @classmethod
    def of(cls, given: Given) -> Self:
        assert given.entries is not None
        return cls(given.entries, digest([given.entries], "entries"))

    @property
    def config(self) -> Mapping[str, Any]:
        return {"entries": self.digest}

    def measure(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        text = batch.column("text")
        absent = np.asarray(text.is_null().to_numpy(zero_copy_only=False))
        found = list(
            _entries(self.path, self.digest).found(pieces(pc.fill_null(text, ""), apart=True))
        )
        row, entry = (
            np.concatenate([np.zeros(0, np.int64), *(getattr(one, name) for one in found)])
            for name in ("row", "entry")
        )
        ordered = np.sort((row << 32) | entry)  # many times as fast as np.unique
        distinct = ordered[np.diff(ordered, prepend=-1) > 0]
        count = np.bincount(distinct >> 32, minlength=len(text))
        offsets = pa.array(
            np.append(0, np.cumsum(count)), pa.int32(), mask=np.append(absent, False)
        )
        columns = {
            "text.entries": pa.ListArray.from_arrays(
                offsets, pa.array(distinct & 0xFFFFFFFF, pa.int32())
            ),
            "text.entry_count": pa.array(count, pa.int32(), mask=absent),
        }
        return measured(self.writes, columns)


@lru_cache(maxsize=1)
def _entries(path: str, digest: str) -> Phrases:
    """Half a million entries take about a second and 20 MB."""
    return Phrases(_without_empty(pa.array(block, pa.string())) for block in blocks(path))


def _without_empty(lines: pa.Array) -> Words:
    """The pieces of entries; an empty line is no entry."""
    words = pieces(lines, apart=False)
    empty = pc.equal(pc.binary_length(lines), 0).to_numpy(zero_copy_only=False)
    return Words(
        count=np.where(empty, 0, words.count),
        code=words.code[~np.repeat(empty, words.count)],
        distinct=words.distinct,
    )


def pieces(text: pa.Array, *, apart: bool) -> Words:
    """What lies between single spaces, empty pieces too: an entry stands where its pieces stand in
    a row.
    """
    # a space after each text ends its last piece
    spaced = pc.binary_join_element_wise(text, "", " ")
    data, offsets = bytes_of(spaced)
    if apart:
        data, offsets = _spaced(
            np.frombuffer(data.tobytes().translate(_BLANKED), np.uint8), offsets
        )
    ends = data == _SPACE
    encoded = strings(np.diff(np.flatnonzero(ends), prepend=-1), data.tobytes()).dictionary_encode()
    return Words(
        count=count_true(ends, offsets),
        code=encoded.indices.to_numpy().astype(np.int64),
        distinct=hashes(encoded.dictionary),
    )


def _spaced(
    data: NDArray[np.uint8], offsets: NDArray[np.int64]
) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Spaces on both sides of each sign that is set apart."""
    places = np.flatnonzero(_APART[data])
    spaced = np.insert(data, np.concatenate([places, places + 1]), _SPACE)
    return spaced, offsets + 2 * np.searchsorted(places, offsets)
