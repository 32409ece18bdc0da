"""How long a text is, in every way that rules ask for."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from filters.base import Filter, Level, measured
from filters.text.characters import Latest, Texts, count_true, of_each, texts
from filters.text.tokens import tokens

INTEGERS = NDArray[np.int64]
UNSEEN = " \t\r\n\u00a0\u200b\u200c\u200d\u2060\ufeff\u00ad\u3000"  # spaces, and what takes no room


@dataclass(frozen=True)
class LengthFilter(Filter):
    """Characters, bytes and words. A text that is missing is as long as an empty one."""

    name: ClassVar[str] = "length"
    version: ClassVar[int] = 1
    sentence: ClassVar[str] = "Counts the characters, bytes and words of a text"
    level: ClassVar[Level] = "candidate"
    reads: ClassVar[tuple[str, ...]] = ("text",)
    writes: ClassVar[Mapping[str, pa.DataType]] = {
        "text.characters": pa.int32(),  # without spaces, and what takes no room, around the text
        "text.bytes": pa.int32(),  # of the text as it is, in UTF-8
        # words as filters.text.tokens parts them: of letters, marks, digits and apostrophes; and
        # single signs
        "text.words": pa.int32(),
        # set apart by white space: Python's str.split (DataComp, apply_filter.py)
        "text.split_words": pa.int32(),
    }

    def measure(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        text = batch.column("text")
        columns = {
            "text.characters": pa.array(_characters(texts(text)), pa.int32()),
            "text.bytes": pa.array(np.diff(texts(text).offsets), pa.int32()),
            "text.words": pa.array(tokens(text).count, pa.int32()),
            "text.split_words": pa.array(split_words(text), pa.int32()),
        }
        return measured(self.writes, columns)


def _characters(known_texts: Texts) -> INTEGERS:
    """Characters of each text once it is trimmed; only texts with a likely sign at an end are."""
    length, data, offsets = known_texts.lengths.copy(), known_texts.data, known_texts.offsets
    if not len(data):
        return length
    ends = np.stack([data[np.minimum(offsets[:-1], len(data) - 1)], data[offsets[1:] - 1]])
    likely = ((ends <= 32) | (ends > 127)).any(axis=0)
    length[likely] = pc.utf8_length(
        pc.utf8_trim(known_texts.text.filter(pa.array(likely)), characters=UNSEEN)
    ).to_numpy()
    return length


def seen(sign: str) -> int:
    """1 for what is no white space to Python."""
    return not sign.isspace()


def runs(member: NDArray[np.uint8], offsets: INTEGERS) -> INTEGERS:
    """How many runs of ones there are between each two offsets."""
    begins = member.astype(bool)
    begins[1:] = member[1:] > member[:-1]
    first = offsets[:-1][offsets[:-1] < offsets[1:]]
    begins[first] = member[first]
    return count_true(begins, offsets)


# how many words white space sets apart in each text
split_words = Latest(lambda text: of_each(text, seen, runs)).of
