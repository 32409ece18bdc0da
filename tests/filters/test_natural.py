"""Photographs against graphics."""

import random
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image, ImageEnhance, ImageOps

from filters.fit.classifiers import varied
from filters.image.graphics import graphic
from filters.image.is_photo import REST, STATISTICS, NaturalFilter, expand, names, statistics

DATA = Path(__file__).parents[3] / "shared" / "data"


def measure(images: list[bytes | None]) -> dict[str, list[Any]]:
    measured: dict[str, list[Any]] = (
        NaturalFilter()
        .measure(pa.record_batch({"image": pa.array(images, pa.binary())}))
        .to_pydict()
    )
    return measured


def encoded(picture: Image.Image, kind: str = "PNG", **options: int) -> bytes:
    buffer = BytesIO()
    picture.save(buffer, kind, **options)
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
    assert (
        measure([None, b"", b"no picture", encoded(Image.new("RGB", (1, 1)))])["image.natural"]
        == [None] * 4
    )


@pytest.mark.parametrize("mode", ["L", "RGB", "RGBA", "P", "1", "CMYK"])
def test_every_mode_and_shape_is_measured(mode: str) -> None:
    kind = "TIFF" if mode == "CMYK" else "PNG"
    sizes = [(2, 2), (3, 500), (900, 2), (33, 17)]
    assert (
        None
        not in measure([encoded(Image.new(mode, size), kind) for size in sizes])["image.natural"]
    )


def test_statistics_are_finite_and_named() -> None:
    values = statistics(
        Image.fromarray(np.random.default_rng(0).integers(0, 256, (40, 50, 3), dtype=np.uint8))
    )
    assert values.shape == (len(STATISTICS),)
    assert np.isfinite(values).all()
    assert len(names()) == len(NaturalFilter().classifier.weights)


def test_shares_of_the_rest_leave_out_what_is_taken_away() -> None:
    row = dict.fromkeys(STATISTICS, 0.0) | {
        "flat_blocks": 0.52,
        "busy_blocks": 0.25,
        "equal": 0.8,
        "runs": 0.52,
        "straight": 0.4,
    }
    found = dict(zip(names(), expand(np.array([list(row.values())]))[0], strict=True))
    assert found["busy_blocks without flat_blocks"] == pytest.approx(0.5)
    assert found["equal without runs"] == pytest.approx(0.56)
    assert found["straight without runs"] == 0.0
    assert found["equal x runs"] == pytest.approx(0.416)
    assert len(found) == 24 + 24 * 25 // 2
    assert len(STATISTICS) + len(REST) == 24


def test_variations_are_encoded_as_on_the_web() -> None:
    rng = random.Random(3)
    shown = Image.fromarray(np.random.default_rng(0).integers(0, 256, (90, 120, 3), dtype=np.uint8))
    seen = [Image.open(BytesIO(varied(shown, rng))) for _ in range(60)]
    assert {picture.format for picture in seen} == {"GIF", "JPEG", "WEBP", "PNG"}
    assert max(max(picture.size) for picture in seen) <= 180


SUFFERED: dict[str, tuple[Callable[[Image.Image], bytes], float]] = {
    "GIF": (lambda picture: encoded(picture, "GIF"), 0.95),
    "GIF of 64 colours": (lambda picture: encoded(picture.quantize(64), "GIF"), 0.93),
    "JPEG of quality 10": (lambda picture: encoded(picture, "JPEG", quality=10), 0.85),
    "framed": (
        lambda picture: encoded(
            ImageOps.expand(picture, max(picture.size) // 10, "white"), "JPEG", quality=80
        ),
        0.9,
    ),
    "dark": (
        lambda picture: encoded(ImageEnhance.Brightness(picture).enhance(0.2), "JPEG", quality=85),
        0.95,
    ),
}


@pytest.mark.real
@pytest.mark.skipif(not DATA.is_dir(), reason="needs ../shared/data")
@pytest.mark.parametrize("name", SUFFERED)
def test_photographs_that_suffered_hold_a_floor(name: str) -> None:
    suffer, floor = SUFFERED[name]
    pictures = [
        Image.open(path).convert("RGB") for path in sorted((DATA / "coco_mini").rglob("*.jpg"))
    ]
    found = np.array(
        measure([suffer(picture) for picture in pictures])["image.natural"], dtype=float
    )
    assert (found >= 0.5).mean() >= floor


@pytest.mark.real
@pytest.mark.skipif(not DATA.is_dir(), reason="needs ../shared/data")
@pytest.mark.parametrize(
    ("folder", "natural", "floor"),
    [("coco_mini", True, 0.98), ("photos", True, 0.98), ("nonphoto", False, 0.97)],
)
def test_real_pictures_hold_a_floor(folder: str, natural: bool, floor: float) -> None:
    paths = sorted(path for path in (DATA / folder).rglob("*") if path.suffix in {".jpg", ".png"})[
        ::5
    ]
    found = np.array(measure([path.read_bytes() for path in paths])["image.natural"], dtype=float)
    assert ((found >= 0.5) == natural).mean() >= floor
