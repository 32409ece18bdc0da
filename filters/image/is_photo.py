"""Photographs against graphics (charts, diagrams, logos, screenshots, scanned text), by statistics
of neighbouring pixels.

Cameras leave noise and smooth shades everywhere; drawing programs leave runs of one value, few
colours and sharp steps. The coefficients are fitted by `python -m filters.fit.classifiers natural`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from PIL import Image

from filters.base import Each, Level, PixelFilter, here, measured
from filters.image.grey_stats import Grey
from filters.image.hashes import dhash
from filters.image.pixels import BROKEN, opened
from filters.logistic import Logistic

FLOATS = NDArray[np.float64]
BYTES = NDArray[np.uint8]
MODEL = Path(__file__).parents[1] / "data" / "natural.json"
# pixels: pictures are shrunk below twice this by whole factors before they are looked at
SIDE = 320
SMALLEST = 2  # pixels a side: below it nothing has a neighbour

STATISTICS = (
    "equal",  # share of neighbours of one value
    "near",  # of neighbours that differ by 1 to 3 levels of 256
    "texture",  # by 4 to 16
    "edges",  # by 64 and more
    "texture_of_changes",  # of neighbours that differ at all, those by 2 to 24
    "flat_blocks",  # share of blocks of 8 x 8 pixels with a deviation under 1.5 levels
    "busy_blocks",  # between 3 and 30
    "harsh_blocks",  # over 60
    "straight",  # share of pixels that lie midway between their neighbours, as in gradients
    "colours",  # log of the number of colours, at 5 bits a channel
    "main_colour",  # share of the most frequent colour, at 4 bits a channel
    "main_colours",  # of the five most frequent
    "entropy",  # bits of the histogram of lightness
    "light",  # share of almost white pixels
    "vivid",  # share of saturated pixels
    "runs",  # share of pixels in horizontal or vertical runs of one value of 16 and more
)
# shares of what is left where something else is taken away; of the last three a part is taken away
# with it
REST = (
    *(
        ("busy_blocks", "flat_blocks"),
        ("harsh_blocks", "flat_blocks"),
        ("near", "equal"),
        ("texture", "equal"),
        ("edges", "equal"),
    ),
    *(("main_colours", "main_colour"), ("equal", "runs"), ("straight", "runs")),
)
PART, TAKEN = (
    np.array([STATISTICS.index(name) for name in column]) for column in zip(*REST, strict=True)
)
WITHIN = np.array([0, 0, 0, 0, 0, 1, 1, 1])
WHOLE = 1.02  # a little more than all: of a blank picture nothing is left, and not noise
FIRST, SECOND = np.triu_indices(len(STATISTICS) + len(REST))


@dataclass(frozen=True)
class NaturalFilter(PixelFilter):
    """One decoding of the picture for all that its pixels tell, seen with a long side of 320 to 639
    pixels, or less where it has less.
    """

    name: ClassVar[str] = "natural"
    version: ClassVar[int] = 4
    sentence: ClassVar[str] = (
        "Tells photographs from charts, logos and screens by their colours, flat areas and edges"
    )
    level: ClassVar[Level] = "image"
    costly: ClassVar[bool] = True
    reads: ClassVar[tuple[str, ...]] = ("image",)
    writes: ClassVar[Mapping[str, pa.DataType]] = {
        "image.natural": pa.float32(),  # probability, 0 to 1
        "image.flat": pa.float32(),  # share of neighbouring pixels of the same colour
        # standard deviation of the brightness, 0 to 128; near 0: blank
        "image.deviation": pa.float32(),
        "image.dhash": pa.string(),  # 16 hexadecimal digits
        "image.blur": pa.float32(),  # variance of the Laplacian in grey; small: blurred
        "image.entropy": pa.float32(),  # bits of the histogram of 256 levels of grey, 0 to 8
        "image.colours": pa.int32(),  # distinct colours at 5 bits a channel, 1 to 32768
        # share of the area that looks like rendered text, 0 to 1
        "image.text_likeness": pa.float32(),
    }
    classifier: Logistic = field(default_factory=lambda: Logistic.read(MODEL))

    @property
    def config(self) -> dict[str, Any]:
        """What the measurements depend on beside the version."""
        return {"weights": self.classifier.weights, "bias": self.classifier.bias}

    def measure(self, batch: pa.RecordBatch, each: Each = here) -> pa.RecordBatch:
        rows = [
            row or {}
            for row in each(self.of_image, (image.as_py() for image in batch.column("image")))
        ]
        return measured(
            self.writes,
            {
                name: pa.array([row.get(name) for row in rows], kind)
                for name, kind in self.writes.items()
            },
        )

    def of_image(self, image: bytes | None) -> dict[str, float | str] | None:
        """What is measured of an image; None where it cannot be decoded."""
        picture = decode(image)
        return None if picture is None else self.of_picture(picture)

    def of_picture(self, picture: Image.Image) -> dict[str, float | str]:
        """What is measured of a picture that `decode` gave."""
        values, colours = _looked_at(picture)
        light = picture.convert("L")
        grey = Grey.of(light)
        return {
            "image.natural": float(self.classifier(expand(values[None]))[0]),
            "image.flat": float(values[0]),
            "image.deviation": grey.deviation,
            "image.dhash": dhash(light),
            "image.blur": grey.blur,
            "image.entropy": grey.entropy,
            "image.colours": colours,
            "image.text_likeness": grey.text_likeness,
        }


def decode(image: bytes | None) -> Image.Image | None:
    """The picture as `shrink` leaves it; None where there is none, it cannot be decoded or has no
    two neighbours.
    """
    if image is None:
        return None
    try:
        with opened(image) as picture:
            picture.draft("RGB", (SIDE, SIDE))  # a JPEG is decoded at the nearest eighth above
            small = shrink(picture)
    except BROKEN:
        return None
    return small if min(small.size) >= SMALLEST else None


def shrink(picture: Image.Image) -> Image.Image:
    """The picture in RGB with its long side below twice `SIDE`, by averaging whole blocks."""
    palette = picture.mode == "P" and "transparency" in picture.info
    colours = (picture.convert("RGBA") if palette else picture).convert("RGB")
    return colours.reduce(max(1, min(max(picture.size) // SIDE, min(picture.size) // 2)))


def statistics(picture: Image.Image) -> FLOATS:
    """The values of `STATISTICS` for a picture that `shrink` gave."""
    return _looked_at(picture)[0]


def _looked_at(picture: Image.Image) -> tuple[FLOATS, int]:
    """The values of `STATISTICS`, and the number of colours at 5 bits a channel."""
    height, width = max(16, picture.height), max(16, picture.width)
    missing = ((0, height - picture.height), (0, width - picture.width))
    # a plane for each channel: neighbouring bytes are neighbouring pixels
    planes = [np.asarray(plane) for plane in picture.split()]
    if any(count for _, count in missing):
        planes = [np.pad(plane, missing, mode="edge") for plane in planes]
    across = _largest(*(_apart(plane[:, 1:], plane[:, :-1]) for plane in planes))
    down = _largest(*(_apart(plane[1:], plane[:-1]) for plane in planes))
    light = _sum(planes)
    steps = (_histogram(across) + _histogram(down)) / (across.size + down.size)
    colours, of_colours = _of_colours(planes, light)
    return (
        np.concatenate(
            [
                _of_steps(steps),
                _of_blocks(light),
                [_straight(light)],
                of_colours,
                [_runs(across, down)],
            ]
        ),
        colours,
    )


def _apart(one: BYTES, other: BYTES) -> BYTES:
    return np.maximum(one, other) - np.minimum(one, other)


def _largest(red: BYTES, green: BYTES, blue: BYTES) -> BYTES:
    return np.maximum(np.maximum(red, green), blue)


def _sum(planes: Sequence[BYTES]) -> NDArray[np.int16]:
    """The sum of the three channels."""
    return planes[0].astype(np.int16) + planes[1] + planes[2]


def _histogram(values: BYTES) -> FLOATS:
    """How many pixels have each of the 256 values; Pillow counts bytes several times faster than
    numpy.
    """
    return np.array(Image.fromarray(values).histogram(), dtype=np.float64)


def _of_steps(steps: FLOATS) -> FLOATS:
    changes = max(float(steps[1:].sum()), 1e-6)
    return np.array(
        [
            steps[0],
            steps[1:4].sum(),
            steps[4:17].sum(),
            steps[64:].sum(),
            steps[2:25].sum() / changes,
        ]
    )


def _of_blocks(light: NDArray[np.int16]) -> FLOATS:
    """Shares of blocks by their deviation, from sums and sums of squares, which are exact."""
    height, width = (side // 8 * 8 for side in light.shape)
    wide = light[:height, :width].astype(np.int32)
    sums, squares = (_of_eights(values) for values in (wide, wide * wide))
    deviation = np.sqrt(np.maximum(squares / 64 - (sums / 64) ** 2, 0)) / 3
    return np.array(
        [
            (deviation < 1.5).mean(),
            ((deviation > 3) & (deviation < 30)).mean(),
            (deviation > 60).mean(),
        ]
    )


def _of_eights(values: NDArray[np.int32]) -> NDArray[np.int32]:
    """Sums over blocks of 8 x 8: rows first, which lie far apart and are added whole."""
    rows = values.reshape(-1, 8, values.shape[1]).sum(1, dtype=np.int32)
    return np.asarray(rows.reshape(len(rows), -1, 8).sum(2, dtype=np.int32))


def _straight(light: NDArray[np.int16]) -> float:
    bend = np.abs(light[:, 2:] - 2 * light[:, 1:-1] + light[:, :-2])
    return float(np.count_nonzero(bend <= 3) / bend.size)


def _of_colours(planes: Sequence[BYTES], light: NDArray[np.int16]) -> tuple[int, FLOATS]:
    red, green, blue = planes
    codes = (
        ((red >> 3).astype(np.uint16) << 10) | ((green >> 3).astype(np.uint16) << 5) | (blue >> 3)
    )
    fine = np.bincount(codes.ravel(), minlength=32768)
    coarse = fine.reshape(16, 2, 16, 2, 16, 2).sum((1, 3, 5)).ravel() / light.size
    most = np.sort(np.partition(coarse, -5)[-5:])
    grey = _histogram((light // 6).astype(np.uint8))[:128] / light.size
    entropy = -(grey[grey > 0] * np.log2(grey[grey > 0])).sum()
    high, low = _largest(red, green, blue), np.minimum(np.minimum(red, green), blue)
    # 0.7 of the highest in whole numbers
    vivid = (10 * (high - low).astype(np.int16) > 7 * high.astype(np.int16)) & (high > 80)
    count = int(np.count_nonzero(fine))
    shares = [np.count_nonzero(part) / light.size for part in (low > 245, vivid)]
    return count, np.array(
        [np.log(count) - 0.3 * np.log(light.size), most[-1], most.sum(), entropy, *shares]
    )


def _runs(across: BYTES, down: BYTES) -> float:
    """Share of pixels that begin 15 steps without a change, over both directions."""
    shares = []
    for same in (across == 0, (down == 0).T):
        if same.shape[1] < 16:
            continue
        for further in (1, 2, 4, 7):  # 2, 4, 8 and 15 in a row
            same = same[:, :-further] & same[:, further:]
        shares.append(float(np.count_nonzero(same) / same.size))
    return float(np.mean(shares)) if shares else 0.0


def expand(values: FLOATS) -> FLOATS:
    """Statistics [rows, statistics] with `REST`, and the squares and products of all [rows,
    features], so that a linear rule can bend.

    A frame or a white page hardly changes the shares of the rest.
    """
    taken = values[:, TAKEN]
    rest = np.maximum(values[:, PART] - WITHIN * taken, 0) / (WHOLE - taken)
    single = np.concatenate([values, rest], axis=1)
    return np.concatenate([single, single[:, FIRST] * single[:, SECOND]], axis=1)


def names() -> tuple[str, ...]:
    """The names of the columns of `expand`."""
    single = (*STATISTICS, *(f"{part} without {taken}" for part, taken in REST))
    return (
        *single,
        *(f"{single[one]} x {single[other]}" for one, other in zip(FIRST, SECOND, strict=True)),
    )
