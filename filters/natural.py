"""Whether an image is a natural photograph or something made: a chart, a logo, a screenshot, a page of text, a drawing.

What tells them apart needs no meaning: made images have areas of one value, few colours and sharp edges between them, while a camera
leaves grain and gradients. A logistic regression on such statistics is trained by `python -m filters.fit natural`.
"""

import io
import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from PIL import Image

from filters.base import Level, measured

FLOATS = NDArray[np.float64]
COEFFICIENTS = Path(__file__).parent / "data" / "natural.json"
SIDE = 384  # pixels: a JPEG is decoded at the nearest eighth above it
LARGEST = 2 * SIDE  # pixels a side: what is larger is averaged down to it
SMALLEST = 16  # pixels a side: below it there is nothing to count
CLIP = 4.0  # deviations beyond which a feature says no more


@dataclass(frozen=True)
class NaturalFilter:
    """One decoding of the picture: how natural it is, how flat, how blank."""

    name: ClassVar[str] = "natural"
    version: ClassVar[int] = 1
    sentence: ClassVar[str] = "Tells photographs from charts, logos and screens by their colours, flat areas and edges"
    level: ClassVar[Level] = "image"
    reads: ClassVar[tuple[str, ...]] = ("image",)
    writes: ClassVar[Mapping[str, pa.DataType]] = {
        "image.natural": pa.float32(),  # 0 to 1
        "image.flat": pa.float32(),  # share of neighbouring pixels of the same brightness
        "image.deviation": pa.float32(),  # standard deviation of the brightness, 0 to 128; near 0: blank
    }

    def measure(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        rows = [_statistics(image) for image in batch.column("image").to_pylist()]
        columns = {name: pa.array([row.get(name) for row in rows], kind) for name, kind in self.writes.items()}
        return measured(self.writes, columns)


def _statistics(image: bytes | None) -> dict[str, float]:
    pixels = decode(image) if image is not None else None
    if pixels is None:
        return {}
    found = features(pixels)
    brightness = _brightness(pixels)
    return {"image.natural": probability(found), "image.flat": float(found[0]), "image.deviation": float(brightness.std())}


def decode(image: bytes) -> NDArray[np.uint8] | None:
    """[height, width, 3], at most `LARGEST` a side; None if it cannot be decoded or is too small to count."""
    try:
        with Image.open(io.BytesIO(image)) as picture:
            picture.draft("RGB", (SIDE, SIDE))
            colours = picture.convert("RGB")
    except (OSError, ValueError, Image.DecompressionBombError):
        return None
    if max(colours.size) > LARGEST:
        colours.thumbnail((LARGEST, LARGEST), Image.Resampling.BOX)
    return np.asarray(colours) if min(colours.size) >= SMALLEST else None


def _brightness(pixels: NDArray[np.uint8]) -> NDArray[np.int32]:
    """ITU-R 601 luma, 0 to 255."""
    wide = pixels.astype(np.int32)
    luma: NDArray[np.int32] = (77 * wide[..., 0] + 150 * wide[..., 1] + 29 * wide[..., 2]) >> 8
    return luma


def features(pixels: NDArray[np.uint8]) -> FLOATS:
    """The statistics of a picture, in a fixed order."""
    luma = _brightness(pixels)
    return np.array([*_steps(luma), *_palette(pixels), *_histogram(luma), *_blocks(luma), *_saturation(pixels)])


def _steps(luma: NDArray[np.int32]) -> list[float]:
    """Shares of steps between neighbours: none, up to 2, 4 to 32, over 64 (log), and two log ratios of these."""
    steps = np.concatenate([np.abs(np.diff(luma, axis=axis)).ravel() for axis in (0, 1)])
    share = np.bincount(steps, minlength=256) / steps.size
    none, few, middle, sharp = share[0], share[:3].sum(), share[4:33].sum(), share[64:].sum()
    ratios = [np.log((middle + 1e-3) / (none + 1e-3)), np.log((sharp + 1e-4) / (middle + 1e-3))]
    return [none, few, middle, np.log(sharp + 1e-4), *ratios]


def _palette(pixels: NDArray[np.uint8]) -> list[float]:
    """Of 4,096 colours: share of the first, the first 4 and 16, their entropy, and how many are worth naming."""
    coarse = (pixels >> 4).astype(np.int32)
    code = (coarse[..., 0] << 8) | (coarse[..., 1] << 4) | coarse[..., 2]
    share = np.sort(np.bincount(code.ravel(), minlength=4096) / code.size)[::-1]
    named = np.log1p((share > 5e-4).sum()) / 6
    return [share[0], share[:4].sum(), share[:16].sum(), _entropy(share) / 8, named]


def _histogram(luma: NDArray[np.int32]) -> list[float]:
    """Entropy of the brightness, and the share of its three most frequent values."""
    share = np.bincount(luma.ravel(), minlength=256) / luma.size
    return [_entropy(share) / 8, np.sort(share)[-3:].sum()]


def _entropy(share: FLOATS) -> float:
    there = share[share > 0]
    return float(-(there * np.log2(there)).sum())


def _blocks(luma: NDArray[np.int32]) -> list[float]:
    """Of blocks of 8 by 8: share that is flat, log of the median and lower quartile deviation, share with grain."""
    height, width = (size // 8 for size in luma.shape)
    deviation = luma[: height * 8, : width * 8].reshape(height, 8, width, 8).astype(np.float32).std(axis=(1, 3)).ravel()
    low, median = np.percentile(deviation, [25, 50])
    return [(deviation < 1.5).mean(), np.log1p(median) / 3, ((deviation > 3) & (deviation < 25)).mean(), np.log1p(low) / 3]


def _saturation(pixels: NDArray[np.uint8]) -> list[float]:
    """Shares of pixels that are white, black, grey and vivid, and how far saturation varies."""
    low, high = pixels.min(axis=2).astype(np.int32), pixels.max(axis=2).astype(np.int32)
    colour = high - low
    return [(low > 245).mean(), (high < 12).mean(), (colour < 6).mean(), (colour > 150).mean(), colour.std() / 64]


def expand(rows: FLOATS, mean: FLOATS, deviation: FLOATS) -> FLOATS:
    """Standardised features and their squares, [.., n] -> [.., 2 n]."""
    scaled = np.clip((rows - mean) / deviation, -CLIP, CLIP)
    return np.concatenate([scaled, np.minimum(scaled**2, 9.0)], axis=-1)


def probability(found: FLOATS) -> float:
    """How likely the picture is a natural one, under the stored coefficients."""
    stored = _coefficients()
    weights = np.array(stored["weights"])
    score = weights[0] + expand(found, np.array(stored["mean"]), np.array(stored["deviation"])) @ weights[1:]
    return float(1.0 / (1.0 + np.exp(-np.clip(score, -50, 50))))


@lru_cache(maxsize=1)
def _coefficients() -> dict[str, Any]:
    stored: dict[str, Any] = json.loads(COEFFICIENTS.read_text(encoding="utf-8"))
    return stored
