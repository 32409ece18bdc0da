"""Sizes of images."""

import pyarrow as pa
import pytest

from filters.image import ImageFilter


def test_sides_area_shape_and_bytes() -> None:
    batch = pa.record_batch(
        {
            "original_width": pa.array([640, 200, 0, None], pa.int32()),
            "original_height": pa.array([480, 600, 10, 5], pa.int32()),
            "original_bytes": pa.array([1000, 2000, 3, None], pa.int64()),
        }
    )
    assert ImageFilter().measure(batch).to_pydict() == {
        "image.short_side": [480, 200, None, None],
        "image.long_side": [640, 600, None, None],
        "image.area": [307200, 120000, None, None],
        "image.aspect": [pytest.approx(4 / 3), 3.0, None, None],
        "image.bytes": [1000, 2000, 3, None],
    }
