"""How long a text is."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import pyarrow as pa
import pyarrow.compute as pc

from filters.base import Filter, Level, measured

UNSEEN = " \t\r\n\u00a0\u200b\u200c\u200d\u2060\ufeff\u00ad\u3000"  # spaces, and what takes no room
# as filters.tokens parts them: letters, marks, digits and apostrophes, one of them not an apostrophe; and single signs
_WORD = r"[\pL\pM\pN][\pL\pM\pN'\x{2019}]*|[%$\x{a9}\x{ae}\x{2122}]"
_SPLIT = r"[^\s\pZ\v\x1c-\x1f\x85]+"  # what Python's str.split() leaves


@dataclass(frozen=True)
class LengthFilter(Filter):
    """How long a text is."""

    name: ClassVar[str] = "length"
    version: ClassVar[int] = 1
    sentence: ClassVar[str] = "Counts the characters, bytes and words of a text"
    level: ClassVar[Level] = "candidate"
    reads: ClassVar[tuple[str, ...]] = ("text",)
    writes: ClassVar[Mapping[str, pa.DataType]] = {
        "text.characters": pa.int32(),
        "text.code_points": pa.int32(),
        "text.bytes": pa.int32(),
        "text.words": pa.int32(),
        "text.split_words": pa.int32(),
    }

    def measure(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        text = pc.fill_null(batch.column("text"), "")
        columns = {
            "text.characters": pc.utf8_length(pc.utf8_trim(text, characters=UNSEEN)),
            "text.code_points": pc.utf8_length(text),
            "text.bytes": pc.binary_length(text),
            "text.words": pc.count_substring_regex(text, _WORD),
            "text.split_words": pc.count_substring_regex(text, _SPLIT),
        }
        return measured(self.writes, columns)
