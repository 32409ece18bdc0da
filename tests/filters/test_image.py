"""Sizes and formats of images."""

import pyarrow as pa
import pytest

from filters.image.image import ImageFilter


def test_sides_area_shape_bytes_and_format() -> None:
    batch = pa.record_batch(
        {
            "original_width": pa.array([640, 200, 0, None], pa.int32()),
            "original_height": pa.array([480, 600, 10, 5], pa.int32()),
            "original_bytes": pa.array([1000, 2000, 3, None], pa.int64()),
            "format": pa.array(["JPEG", "GIF", "PNG", None]),
            "animated": pa.array([False, True, False, None]),
        }
    )
    assert ImageFilter().measure(batch).to_pydict() == {
        "image.short_side": [480, 200, None, None],
        "image.long_side": [640, 600, None, None],
        "image.area": [307200, 120000, None, None],
        "image.aspect": [pytest.approx(4 / 3), 3.0, None, None],
        "image.bytes": [1000, 2000, 3, None],
        "image.bits_per_pixel": [
            pytest.approx(8000 / 307200),
            pytest.approx(16000 / 120000),
            None,
            None,
        ],
        "image.format": ["JPEG", "GIF", "PNG", None],
        "image.animated": [False, True, False, None],
    }


def test_the_longest_sides_that_pixels_allow() -> None:
    """A side of more than 2^24 pixels is no exact float32: one such image once cost the
    measurements of its whole part.
    """
    batch = pa.record_batch(
        {
            "original_width": pa.array([80_000_000, 1], pa.int32()),
            "original_height": pa.array([1, 89_478_485], pa.int32()),
            "original_bytes": pa.array([1000, 1000], pa.int64()),
            "format": pa.array(["PNG", "PNG"]),
            "animated": pa.array([False, False]),
        }
    )
    found = ImageFilter().measure(batch)
    assert found["image.aspect"].to_pylist() == [80_000_000.0, 89_478_488.0]  # the nearest float32
    assert found["image.area"].to_pylist() == [80_000_000, 89_478_485]
