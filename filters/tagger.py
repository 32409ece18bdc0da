"""Parts of speech and sentiment."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import pyarrow as pa

from filters.base import Filter, Level, measured


@dataclass(frozen=True)
class TaggerFilter(Filter):
    """Parts of speech and sentiment."""

    name: ClassVar[str] = "tagger"
    version: ClassVar[int] = 1
    sentence: ClassVar[str] = "Tags the words of a text with their parts of speech and weighs its sentiment"
    level: ClassVar[Level] = "candidate"
    reads: ClassVar[tuple[str, ...]] = ("text",)
    writes: ClassVar[Mapping[str, pa.DataType]] = {
        "text.nouns": pa.int32(),
        "text.determiners": pa.int32(),
        "text.prepositions": pa.int32(),
        "text.noun_share": pa.float32(),
        "text.tag_variety": pa.float32(),
        "text.polarity": pa.float32(),
    }
    costly: ClassVar[bool] = True

    def measure(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        return measured(self.writes, {name: pa.nulls(batch.num_rows, kind) for name, kind in self.writes.items()})
