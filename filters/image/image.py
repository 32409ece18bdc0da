"""What is known of an image without decoding it."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import pyarrow as pa
import pyarrow.compute as pc

from filters.base import Filter, Level, measured


@dataclass(frozen=True)
class ImageFilter(Filter):
    """Sides, area, shape, weight and format of an image as it was found on the web, before it was
    stored smaller.
    """

    name: ClassVar[str] = "image"
    version: ClassVar[int] = 2
    sentence: ClassVar[str] = (
        "Reads the sides, the size in bytes and the format of the image as it was found"
    )
    level: ClassVar[Level] = "image"
    reads: ClassVar[tuple[str, ...]] = (
        "original_width",
        "original_height",
        "original_bytes",
        "format",
        "animated",
    )
    writes: ClassVar[Mapping[str, pa.DataType]] = {
        "image.short_side": pa.int32(),  # pixels
        "image.long_side": pa.int32(),
        "image.area": pa.int64(),
        "image.aspect": pa.float32(),  # long side over short side
        "image.bytes": pa.int64(),
        "image.bits_per_pixel": pa.float32(),  # 8 bytes over area; all frames of an animation count
        "image.format": pa.string(),  # JPEG, PNG, WEBP…
        "image.animated": pa.bool_(),
    }

    def measure(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        width, height = (
            _positive(batch.column(name)) for name in ("original_width", "original_height")
        )
        short = pc.min_element_wise(width, height, skip_nulls=False)
        long = pc.max_element_wise(width, height, skip_nulls=False)
        area = pc.multiply(width.cast(pa.int64()), height.cast(pa.int64()))
        size = batch.column("original_bytes")
        columns = {
            "image.short_side": short,
            "image.long_side": long,
            "image.area": area,
            # float64: a side beyond 16,777,216 is no exact float32, and a cast of it would raise
            "image.aspect": pc.divide(long.cast(pa.float64()), short.cast(pa.float64())),
            "image.bytes": size,
            "image.bits_per_pixel": pc.divide(
                pc.multiply(size.cast(pa.float64()), 8.0), area.cast(pa.float64())
            ),
            "image.format": batch.column("format"),
            "image.animated": batch.column("animated"),
        }
        return measured(self.writes, columns)


def _positive(sides: pa.Array) -> pa.Array:
    return pc.if_else(pc.greater(sides, 0), sides, pa.scalar(None, sides.type))
