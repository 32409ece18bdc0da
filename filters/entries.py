"""Which entries stand in a text."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import pyarrow as pa

from filters.base import Filter, Level, measured


@dataclass(frozen=True)
class EntriesFilter(Filter):
    """Which entries stand in a text."""

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

    def measure(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        return measured(self.writes, {name: pa.nulls(batch.num_rows, kind) for name, kind in self.writes.items()})
