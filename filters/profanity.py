"""Words that are not to be said."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import pyarrow as pa

from filters.base import Filter, Level, measured


@dataclass(frozen=True)
class ProfanityFilter(Filter):
    """Words that are not to be said."""

    name: ClassVar[str] = "profanity"
    version: ClassVar[int] = 1
    sentence: ClassVar[str] = "Counts the words of a text that stand in a list of profanities"
    level: ClassVar[Level] = "candidate"
    reads: ClassVar[tuple[str, ...]] = ("text",)
    writes: ClassVar[Mapping[str, pa.DataType]] = {
        "text.profanities": pa.int32(),
    }
    needs: ClassVar[str | None] = "profanity"

    def measure(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        return measured(self.writes, {name: pa.nulls(batch.num_rows, kind) for name, kind in self.writes.items()})
