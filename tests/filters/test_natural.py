"""Photographs against graphics."""

import random
from io import BytesIO
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image

from filters.graphics import graphic
from filters.natural import STATISTICS, NaturalFilter, names, statistics

DATA = Path(__file__).parents[3] / "shared" / "data"


def measure(images: list[bytes | None]) -> dict[str, list[float]]:
    measured: dict[str, list[float]] = NaturalFilter().measure(pa.record_batch({"image": pa.array(images, pa.binary())})).to_pydict()
    return measured


def encoded(picture: Image.Image, kind: str = "PNG") -> bytes:
    buffer = BytesIO()
    picture.save(buffer, kind)
    return buffer.getvalue()


def test_drawn_graphics_are_caught() -> None:
    rng = random.Random(11)
    natural = np.array(measure([graphic(rng) for _ in range(60)])["image.natural"])
    assert (natural < 0.5).mean() >= 0.95


def test_a_blank_picture_is_flat_and_does_not_deviate() -> None:
    row = measure([encoded(Image.new("RGB", (300, 200), (20, 120, 220)))])
    assert row["image.flat"] == [1.0]
    assert row["image.deviation"] == [0.0]
    assert row["image.dhash"] == ["0" * 16]
    assert row["image.natural"][0] < 0.01


def test_what_cannot_be_decoded_is_null() -> None:
    assert measure([None, b"", b"no picture", encoded(Image.new("RGB", (1, 1)))])["image.natural"] == [None] * 4


@pytest.mark.parametrize("mode", ["L", "RGB", "RGBA", "P", "1", "CMYK"])
def test_every_mode_and_shape_is_measured(mode: str) -> None:
    kind = "TIFF" if mode == "CMYK" else "PNG"
    sizes = [(2, 2), (3, 500), (900, 2), (33, 17)]
    assert None not in measure([encoded(Image.new(mode, size), kind) for size in sizes])["image.natural"]


def test_statistics_are_finite_and_named() -> None:
    values = statistics(Image.fromarray(np.random.default_rng(0).integers(0, 256, (40, 50, 3), dtype=np.uint8)))
    assert values.shape == (len(STATISTICS),)
    assert np.isfinite(values).all()
    assert len(names()) == len(NaturalFilter().classifier.weights)


@pytest.mark.real
@pytest.mark.skipif(not DATA.is_dir(), reason="needs ../shared/data")
@pytest.mark.parametrize(("folder", "natural", "floor"), [("coco_mini", True, 0.98), ("photos", True, 0.98), ("nonphoto", False, 0.97)])
def test_real_pictures_hold_a_floor(folder: str, natural: bool, floor: float) -> None:
    paths = sorted(path for path in (DATA / folder).rglob("*") if path.suffix in {".jpg", ".png"})[::5]
    found = np.array(measure([path.read_bytes() for path in paths])["image.natural"], dtype=float)
    assert ((found >= 0.5) == natural).mean() >= floor
