"""How much of a text repeats itself."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import pyarrow as pa

from filters.base import Filter, Level, measured


@dataclass(frozen=True)
class RepetitionFilter(Filter):
    """How much of a text repeats itself."""

    name: ClassVar[str] = "repetition"
    version: ClassVar[int] = 1
    sentence: ClassVar[str] = "Measures how many words, runs of five words and runs of ten characters of a text stood in it before"
    level: ClassVar[Level] = "candidate"
    reads: ClassVar[tuple[str, ...]] = ("text",)
    writes: ClassVar[Mapping[str, pa.DataType]] = {
        "text.word_repetition": pa.float32(),
        "text.word_repetition_5": pa.float32(),
        "text.character_repetition": pa.float32(),
    }

    def measure(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        return measured(self.writes, {name: pa.nulls(batch.num_rows, kind) for name, kind in self.writes.items()})
