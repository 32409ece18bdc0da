"""What is known of an image without decoding it."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import pyarrow as pa
import pyarrow.compute as pc

from filters.base import Filter, Level, measured


@dataclass(frozen=True)
class ImageFilter(Filter):
    """Sides, area, shape and weight of an image as it was found on the web, before it was stored smaller."""

    name: ClassVar[str] = "image"
    version: ClassVar[int] = 1
    sentence: ClassVar[str] = "Reads the sides and the size in bytes of the image as it was found"
    level: ClassVar[Level] = "image"
    reads: ClassVar[tuple[str, ...]] = ("original_width", "original_height", "original_bytes")
    writes: ClassVar[Mapping[str, pa.DataType]] = {
        "image.short_side": pa.int32(),  # pixels
        "image.long_side": pa.int32(),
        "image.area": pa.int64(),
        "image.aspect": pa.float32(),  # long side over short side
        "image.bytes": pa.int64(),
    }

    def measure(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        width, height = (_positive(batch.column(name)) for name in ("original_width", "original_height"))
        short = pc.min_element_wise(width, height, skip_nulls=False)
        long = pc.max_element_wise(width, height, skip_nulls=False)
        columns = {
            "image.short_side": short,
            "image.long_side": long,
            "image.area": pc.multiply(width.cast(pa.int64()), height.cast(pa.int64())),
            "image.aspect": pc.divide(long.cast(pa.float32()), short.cast(pa.float32())),
            "image.bytes": batch.column("original_bytes"),
        }
        return measured(self.writes, columns)


def _positive(sides: pa.Array) -> pa.Array:
    return pc.if_else(pc.greater(sides, 0), sides, pa.scalar(None, sides.type))
