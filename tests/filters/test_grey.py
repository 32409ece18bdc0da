"""Sharpness, spread and rendered text, on pictures whose values can be reckoned by hand."""

import random
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageFilter, ImageFont

from filters.image.grey_stats import CELL, Grey
from filters.image.is_photo import NaturalFilter, decode

DATA = Path(__file__).parents[3] / "shared" / "data"


def test_a_blank_picture_has_nothing() -> None:
    assert Grey.of(Image.new("L", (64, 48), 77)) == Grey(
        deviation=0.0, entropy=0.0, blur=0.0, text_likeness=0.0
    )


def test_two_halves_have_one_bit_and_their_laplacian() -> None:
    halves = np.zeros((10, 12), dtype=np.uint8)
    halves[:, 6:] = 100
    grey = Grey.of(Image.fromarray(halves))
    # of ten inner pixels in a row one has +100 and one -100
    assert [grey.deviation, grey.entropy, grey.blur] == pytest.approx([50.0, 1.0, 2000.0])


def test_what_has_no_inner_pixel_is_not_sharp() -> None:
    assert [Grey.of(Image.new("L", size, 9)).blur for size in [(2, 2), (2, 50), (50, 2)]] == [
        0.0
    ] * 3


def test_blurring_lowers_the_blur_score() -> None:
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 256, (60, 80), dtype=np.uint8))
    values = [Grey.of(noise.filter(ImageFilter.GaussianBlur(radius))).blur for radius in (0, 1, 2)]
    assert values[0] > 20 * values[1] > 20 * values[2]


def _page(lines: int) -> Image.Image:
    page = Image.new("L", (480, 320), 250)
    draw = ImageDraw.Draw(page)
    for line in range(lines):
        draw.text(
            (10, 10 + 22 * line),
            "the quick brown fox jumps over the lazy dog again and",
            10,
            ImageFont.load_default(16),
        )
    return page


def test_lines_of_text_are_seen_by_their_area() -> None:
    values = [Grey.of(_page(lines)).text_likeness for lines in (0, 4, 12)]
    assert values[0] == 0.0
    assert 0.12 < values[1] < 0.3
    assert 0.4 < values[2] < 0.8


def test_noise_stripes_and_shades_are_no_text() -> None:
    rng = np.random.default_rng(0)
    stripes = np.tile(np.repeat([0, 255], 6), (200, 40)).astype(np.uint8)
    shades = np.tile(np.arange(240, dtype=np.uint8), (200, 1))
    pictures = [rng.integers(0, 256, (200, 240), dtype=np.uint8), stripes, stripes.T, shades]
    assert [
        Grey.of(Image.fromarray(np.ascontiguousarray(picture))).text_likeness
        for picture in pictures
    ] == [0.0] * 4


def test_a_picture_smaller_than_two_cells_is_no_text() -> None:
    assert Grey.of(Image.new("L", (2 * CELL[0] - 1, 400), 9)).text_likeness == 0.0


@pytest.mark.real
@pytest.mark.skipif(not DATA.is_dir(), reason="needs ../shared/data")
def test_text_is_told_from_photographs() -> None:
    found = {}
    for name in ("nonphoto/tesseract-test", "coco_mini", "photos"):
        paths = sorted(
            path for path in (DATA / name).rglob("*") if path.suffix in {".jpg", ".png", ".tif"}
        )[::2]
        pictures = [picture for path in paths if (picture := decode(path.read_bytes())) is not None]
        found[name] = np.array(
            [Grey.of(picture.convert("L")).text_likeness for picture in pictures]
        )
    pages, photos = (
        found["nonphoto/tesseract-test"],
        np.concatenate([found["coco_mini"], found["photos"]]),
    )
    assert (photos < 0.06).mean() >= 0.97
    assert (pages > 0.06).mean() >= 0.65


def test_colours_are_counted_at_five_bits() -> None:
    rng = random.Random(0)
    picture = Image.new("RGB", (40, 40))
    # eight levels that differ by one are one colour at five bits
    picture.putdata([(8 * (place % 5) + rng.randint(0, 7), 200, 30) for place in range(1600)])
    assert NaturalFilter().of_picture(picture)["image.colours"] == 5
