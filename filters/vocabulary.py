"""Words that nobody knows."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import pyarrow as pa

from filters.base import Filter, Level, measured


@dataclass(frozen=True)
class VocabularyFilter(Filter):
    """Words that nobody knows."""

    name: ClassVar[str] = "vocabulary"
    version: ClassVar[int] = 1
    sentence: ClassVar[str] = "Measures how many of the words of a text stand in no vocabulary"
    level: ClassVar[Level] = "candidate"
    reads: ClassVar[tuple[str, ...]] = ("text",)
    writes: ClassVar[Mapping[str, pa.DataType]] = {
        "text.out_of_vocabulary": pa.float32(),
    }

    def measure(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        return measured(self.writes, {name: pa.nulls(batch.num_rows, kind) for name, kind in self.writes.items()})
