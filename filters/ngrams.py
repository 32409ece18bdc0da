"""Words and pairs of words that are rare on the web."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import pyarrow as pa

from filters.base import Filter, Level, measured


@dataclass(frozen=True)
class NgramsFilter(Filter):
    """Words and pairs of words that are rare on the web."""

    name: ClassVar[str] = "ngrams"
    version: ClassVar[int] = 1
    sentence: ClassVar[str] = "Counts the words and pairs of words of a text that are not among the frequent ones"
    level: ClassVar[Level] = "candidate"
    reads: ClassVar[tuple[str, ...]] = ("text",)
    writes: ClassVar[Mapping[str, pa.DataType]] = {
        "text.rare_ngrams": pa.int32(),
    }
    needs: ClassVar[str | None] = "ngrams"

    def measure(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        return measured(self.writes, {name: pa.nulls(batch.num_rows, kind) for name, kind in self.writes.items()})
