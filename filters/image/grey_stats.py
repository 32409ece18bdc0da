"""What the grey picture tells: sharpness, spread, and how much of it looks like rendered text."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

LEVELS = NDArray[np.int16]

# Rendered text goes into a stroke and out of it again, within a few pixels and all along the line,
# on a calm ground. The numbers are ours, chosen on the shared pictures: of photographs 99 in 100
# have less than 0.05, of scanned pages three in four have more.
CELL = (16, 12)  # pixels, across and down: some letters of one line
STEP = 48  # levels of 256: the edge of a stroke
CALM = 8  # levels: ground, or inside of a stroke
STROKES = 0.05  # least share of a cell's pixels with a step across …
UPRIGHT = 0.03  # … and with a step down
# least share of the steps that go up, and that go down: the edge of a thing goes one way only
BALANCE = 0.35
GROUND = 0.35  # least share of calm pixels
CLEAR = 0.6  # least share of pixels that are either


@dataclass(frozen=True, kw_only=True)
class Grey:
    """Measures of a grey picture."""

    deviation: float  # standard deviation of the brightness, 0 to 128
    entropy: float  # of its histogram in bits, 0 to 8
    # variance of the Laplacian (differences to four neighbours): small where nothing is sharp
    blur: float
    text_likeness: float  # share of the area in cells that look like rendered text, 0 to 1

    @classmethod
    def of(cls, picture: Image.Image) -> "Grey":
        """Of a picture in mode L, at least 2 by 2 pixels."""
        counts = np.array(picture.histogram(), dtype=np.float64)
        share = counts / counts.sum()
        mean = share @ np.arange(256)
        levels = np.asarray(picture).astype(np.int16)
        across, down = np.diff(levels, axis=1), np.diff(levels, axis=0)
        return cls(
            deviation=float(np.sqrt(share @ (np.arange(256) - mean) ** 2)),
            entropy=float(-(share[share > 0] * np.log2(share[share > 0])).sum()),
            blur=_blur(across, down),
            text_likeness=_text_likeness(across, down),
        )


def _blur(across: LEVELS, down: LEVELS) -> float:
    """Variance of the Laplacian over the pixels that have four neighbours; 0 where none has."""
    if across.shape[1] < 2 or down.shape[0] < 2:
        return 0.0
    laplacian = across[1:-1, 1:] - across[1:-1, :-1] + down[1:, 1:-1] - down[:-1, 1:-1]
    flat = laplacian.ravel().astype(np.float32)
    return max(0.0, float(flat @ flat) / flat.size - float(flat.mean()) ** 2)


def _text_likeness(across: LEVELS, down: LEVELS) -> float:
    """Cells that look like text and have a neighbour beside them that does; 0 where the picture is
    smaller than two cells.
    """
    if down.shape[1] < 2 * CELL[0] or across.shape[0] < CELL[1] + 1:
        return 0.0
    into, out, calm = (
        _share(mask) for mask in (across >= STEP, across <= -STEP, np.abs(across) <= CALM)
    )
    upright = _share(np.abs(down) >= STEP)
    rows, columns = min(len(into), len(upright)), min(into.shape[1], upright.shape[1])
    into, out, calm, upright = (values[:rows, :columns] for values in (into, out, calm, upright))
    steps = into + out
    both_ways = np.minimum(into, out) >= BALANCE * steps
    like = (
        both_ways
        & (steps >= STROKES)
        & (upright >= UPRIGHT)
        & (calm >= GROUND)
        & (steps + calm >= CLEAR)
    )
    beside = np.zeros_like(like)
    beside[:, 1:] |= like[:, :-1]
    beside[:, :-1] |= like[:, 1:]
    return float((like & beside).mean())


def _share(mask: NDArray[np.bool_]) -> NDArray[np.float32]:
    """The share of true pixels in each cell, to the nearest 255th; cells at the right and lower
    edge may be smaller.
    """
    cells: NDArray[np.float32] = np.asarray(
        Image.fromarray(mask.view(np.uint8) * np.uint8(255)).reduce(CELL), dtype=np.float32
    )
    return cells / np.float32(255)
