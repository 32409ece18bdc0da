"""Shares of the characters of a text, as recipes ask for them."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from filters.base import Filter, Level, measured
from filters.text.characters import (
    ALPHANUMERIC,
    DIGIT,
    LETTER,
    LOWER,
    PUNCTUATION,
    SPACE,
    UPPER,
    counts,
    texts,
)

INTEGERS = NDArray[np.int64]


@dataclass(frozen=True)
class SignsFilter(Filter):
    """How much of a text is letters, capitals, digits and other signs.

    Of a text that is missing all are null but letters and capitals, which are null wherever they
    are shares of nothing; the others are 0 for an empty text, as Data-Juicer and OBELICS have it.
    """

    name: ClassVar[str] = "signs"
    version: ClassVar[int] = 2
    sentence: ClassVar[str] = (
        "Measures how much of a text is letters, capital letters, digits, punctuation and other"
        " signs"
    )
    level: ClassVar[Level] = "candidate"
    reads: ClassVar[tuple[str, ...]] = ("text",)
    writes: ClassVar[Mapping[str, pa.DataType]] = {
        "text.letters": pa.float32(),  # of the characters that are not white space
        "text.capitals": pa.float32(),  # of the letters that have a case
        # of all characters: str.isalnum (Data-Juicer, alphanumeric_filter)
        "text.alphanumeric": pa.float32(),
        # of all characters: neither letter nor mark. White space and digits count, as they do in
        # Data-Juicer's special_characters_filter and OBELICS (special_character_ratio); those list
        # the signs one by one and forget some, we go by the classes of Unicode.
        "text.special": pa.float32(),
        "text.digits": pa.float32(),  # of all characters: decimal digits
        # of all characters. OBELICS (punctuation_ratio) divides by the count of words and marks;
        # its threshold, 0.001, asks for any at all.
        "text.punctuation": pa.float32(),
    }

    def measure(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        text = batch.column("text")
        length, found = texts(text).lengths, counts(text)
        absent = np.asarray(text.is_null().to_numpy(zero_copy_only=False))
        of_all = {
            "text.alphanumeric": found[:, ALPHANUMERIC],
            "text.special": length - found[:, LETTER],
            "text.digits": found[:, DIGIT],
            "text.punctuation": found[:, PUNCTUATION],
        }
        columns = {
            "text.letters": _of_some(found[:, LETTER], length - found[:, SPACE]),
            "text.capitals": _of_some(found[:, UPPER], found[:, UPPER] + found[:, LOWER]),
            **{
                name: pa.array(_share(part, np.maximum(length, 1)), pa.float32(), mask=absent)
                for name, part in of_all.items()
            },
        }
        return measured(self.writes, columns)


def _of_some(part: INTEGERS, whole: INTEGERS) -> pa.Array:
    """The share; null where it is a share of nothing."""
    return pa.array(_share(part, np.maximum(whole, 1)), pa.float32(), mask=whole == 0)


def _share(part: INTEGERS, whole: INTEGERS) -> NDArray[np.float32]:
    return np.asarray(part.astype(np.float32) / whole.astype(np.float32), dtype=np.float32)
