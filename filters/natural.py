"""Photographs against graphics (charts, diagrams, logos, screenshots, scanned text), by statistics of neighbouring pixels.

Cameras leave noise and smooth shades everywhere; drawing programs leave runs of one value, few colours and sharp steps.
The coefficients are fitted by `python -m filters.fit natural`.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from PIL import Image

from filters.base import Filter, Level, measured
from filters.hashes import dhash
from filters.logistic import Logistic

FLOATS = NDArray[np.float64]
MODEL = Path(__file__).parent / "data" / "natural.json"
SIDE = 320  # pixels: pictures are shrunk below twice this by whole factors before they are looked at
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


@dataclass(frozen=True)
class NaturalFilter(Filter):
    """One decoding of the picture for all that its pixels tell."""

    name: ClassVar[str] = "natural"
    version: ClassVar[int] = 2
    sentence: ClassVar[str] = "Tells photographs from charts, logos and screens by their colours, flat areas and edges"
    level: ClassVar[Level] = "image"
    costly: ClassVar[bool] = True
    reads: ClassVar[tuple[str, ...]] = ("image",)
    writes: ClassVar[Mapping[str, pa.DataType]] = {
        "image.natural": pa.float32(),  # probability, 0 to 1
        "image.flat": pa.float32(),  # share of neighbouring pixels of the same colour
        "image.deviation": pa.float32(),  # standard deviation of the brightness, 0 to 128; near 0: blank
        "image.dhash": pa.string(),  # 16 hexadecimal digits
    }
    classifier: Logistic = field(default_factory=lambda: Logistic.read(MODEL))

    @property
    def config(self) -> dict[str, Any]:
        """What the measurements depend on beside the version."""
        return {"weights": self.classifier.weights, "bias": self.classifier.bias}

    def measure(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        rows = [self._of_picture(image) for image in batch.column("image").to_pylist()]
        return measured(self.writes, {name: pa.array([row.get(name) for row in rows], kind) for name, kind in self.writes.items()})

    def _of_picture(self, image: bytes | None) -> dict[str, float | str]:
        picture = decode(image)
        if picture is None:
            return {}
        values = statistics(picture)
        return {
            "image.natural": float(self.classifier(expand(values[None]))[0]),
            "image.flat": float(values[0]),
            "image.deviation": float(np.asarray(picture.convert("L"), dtype=np.float32).std()),
            "image.dhash": dhash(picture),
        }


def decode(image: bytes | None) -> Image.Image | None:
    """The picture as `shrink` leaves it; None where there is none, it cannot be decoded or has no two neighbours."""
    if image is None:
        return None
    try:
        with Image.open(BytesIO(image)) as picture:
            picture.draft("RGB", (SIDE, SIDE))  # a JPEG is decoded at the nearest eighth above
            small = shrink(picture)
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):
        return None
    return small if min(small.size) >= SMALLEST else None


def shrink(picture: Image.Image) -> Image.Image:
    """The picture in RGB with its long side below twice `SIDE`, by averaging whole blocks."""
    palette = picture.mode == "P" and "transparency" in picture.info
    colours = (picture.convert("RGBA") if palette else picture).convert("RGB")
    return colours.reduce(max(1, min(max(picture.size) // SIDE, min(picture.size) // 2)))


def statistics(picture: Image.Image) -> FLOATS:
    """The values of `STATISTICS` for a picture that `shrink` gave."""
    pixels = np.asarray(picture, dtype=np.int16)
    if min(pixels.shape[:2]) < 16:
        pixels = np.pad(pixels, ((0, max(0, 16 - pixels.shape[0])), (0, max(0, 16 - pixels.shape[1])), (0, 0)), mode="edge")
    across, down = _largest(np.abs(np.diff(pixels, axis=1))), _largest(np.abs(np.diff(pixels, axis=0)))
    steps = np.bincount(np.concatenate([across.ravel(), down.ravel()]), minlength=256) / (across.size + down.size)
    return np.concatenate([_of_steps(steps), _of_blocks(pixels), [_straight(pixels)], _of_colours(pixels), [_runs(across, down)]])


def _largest(values: NDArray[np.int16]) -> NDArray[np.int16]:
    """The largest of the three channels; several times faster than a reduction over so short an axis."""
    return np.maximum(np.maximum(values[..., 0], values[..., 1]), values[..., 2])


def _sum(values: NDArray[np.int16]) -> NDArray[np.int16]:
    """The sum of the three channels."""
    return np.asarray(values[..., 0] + values[..., 1] + values[..., 2])


def _code(values: NDArray[np.int16], bits: int) -> NDArray[np.int32]:
    """One number for the three channels of so many bits each."""
    wide = values.astype(np.int32)
    return np.asarray((wide[..., 0] << (2 * bits)) | (wide[..., 1] << bits) | wide[..., 2])


def _of_steps(steps: FLOATS) -> FLOATS:
    changes = max(float(steps[1:].sum()), 1e-6)
    return np.array([steps[0], steps[1:4].sum(), steps[4:17].sum(), steps[64:].sum(), steps[2:25].sum() / changes])


def _of_blocks(pixels: NDArray[np.int16]) -> FLOATS:
    light = _sum(pixels) / 3
    height, width = (side // 8 * 8 for side in light.shape)
    blocks = light[:height, :width].reshape(height // 8, 8, width // 8, 8).swapaxes(1, 2).reshape(-1, 64)
    deviation = blocks.std(1)
    return np.array([(deviation < 1.5).mean(), ((deviation > 3) & (deviation < 30)).mean(), (deviation > 60).mean()])


def _straight(pixels: NDArray[np.int16]) -> float:
    light = _sum(pixels)
    bend = np.abs(light[:, 2:] - 2 * light[:, 1:-1] + light[:, :-2])
    return float((bend <= 3).mean())


def _of_colours(pixels: NDArray[np.int16]) -> FLOATS:
    flat = pixels.reshape(-1, 3)
    fine = np.bincount(_code(flat >> 3, 5), minlength=32768)
    coarse = np.sort(np.bincount(_code(flat >> 4, 4), minlength=4096))[::-1] / len(flat)
    grey = np.bincount((_sum(flat) // 3) >> 1, minlength=128) / len(flat)
    entropy = -(grey[grey > 0] * np.log2(grey[grey > 0])).sum()
    high, low = _largest(flat), -_largest(-flat)
    vivid = ((high - low) > 0.7 * np.maximum(high, 1)) & (high > 80)
    colours = np.log((fine > 0).sum()) - 0.3 * np.log(len(flat))
    return np.array([colours, coarse[0], coarse[:5].sum(), entropy, (low > 245).mean(), vivid.mean()])


def _runs(across: NDArray[np.int16], down: NDArray[np.int16]) -> float:
    """Share of pixels that begin 16 pixels of one value, over both directions."""
    shares = []
    for steps in (across == 0, (down == 0).T):
        if steps.shape[1] < 16:
            continue
        summed = np.cumsum(np.pad(steps, ((0, 0), (1, 0))), axis=1, dtype=np.int32)
        shares.append(float((summed[:, 15:] - summed[:, :-15] == 15).mean()))
    return float(np.mean(shares)) if shares else 0.0


def expand(values: FLOATS) -> FLOATS:
    """Statistics with their squares and products [rows, features], so that a linear rule can bend."""
    first, second = np.triu_indices(values.shape[1])
    return np.concatenate([values, values[:, first] * values[:, second]], axis=1)


def names() -> tuple[str, ...]:
    """The names of the columns of `expand`."""
    first, second = np.triu_indices(len(STATISTICS))
    return (*STATISTICS, *(f"{STATISTICS[one]} x {STATISTICS[other]}" for one, other in zip(first, second, strict=True)))
