"""Where an image stands in its page."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import pyarrow as pa

from filters.base import Filter, Level, measured


@dataclass(frozen=True)
class PlaceFilter(Filter):
    """Where an image stands in its page."""

    name: ClassVar[str] = "place"
    version: ClassVar[int] = 1
    sentence: ClassVar[str] = "Tells where an image stands in its page and whether it is a dominant one"
    level: ClassVar[Level] = "candidate"
    reads: ClassVar[tuple[str, ...]] = ("place", "images_on_page", "declared_width", "declared_height", "region", "page_language")
    writes: ClassVar[Mapping[str, pa.DataType]] = {
        "page.images": pa.int32(),
        "page.place": pa.int32(),
        "page.declared_area": pa.int64(),
        "page.region": pa.string(),
        "page.language": pa.string(),
        "page.content": pa.bool_(),
        "page.dominant": pa.bool_(),
    }

    def measure(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        return measured(self.writes, {name: pa.nulls(batch.num_rows, kind) for name, kind in self.writes.items()})
