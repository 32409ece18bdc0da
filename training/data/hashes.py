"""Perceptual hashes of images: near equal ones differ in few of 64 bits."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from PIL import Image

from training.data.decode import open_image
from training.data.images import ImageSpec
from training.data.shards import Release

COLUMN = "image.dhash"  # of releases whose recipe measured it: 16 hexadecimal digits
ENOUGH = 256  # pixels of the shorter side, from which 9 x 8 grey levels are the same
INDISTINCT = 3  # bits: a hash so near to all zeros or all ones is that of any blank image

Hashes = NDArray[np.uint64]


@dataclass(frozen=True, kw_only=True)
class GreysSpec(ImageSpec):
    """9 by 8 grey levels, of which a difference hash is made."""

    size: int = 9

    def pixels(
        self, encoded: bytes, draws: np.random.Generator | None = None, *, flip: bool = False
    ) -> NDArray[np.uint8]:
        """[8, 9, 3], three times the same. OSError if it cannot be decoded."""
        grey = open_image(encoded, ENOUGH).convert("L")
        small = grey.resize((9, 8), Image.Resampling.LANCZOS)
        return np.asarray(small.convert("RGB"))


def hashes_of(greys: NDArray[np.uint8]) -> Hashes:
    """[n, 8, 9] grey levels -> [n]: whether each pixel is darker than its right neighbour.

    The difference hash that releases store as `image.dhash`.
    """
    left = greys[:, :, :-1]
    right = greys[:, :, 1:]
    brighter = right > left
    bits = brighter.reshape(len(greys), 64)
    packed = np.packbits(bits, axis=1).view(">u8")
    return packed[:, 0].astype(np.uint64)


def flat(hashes: Hashes) -> NDArray[np.bool_]:
    """Whether a hash tells nothing, being that of blank images and plain gradients."""
    ones = np.bitwise_count(hashes)
    return np.asarray((ones <= INDISTINCT) | (ones >= 64 - INDISTINCT))


def stored_hashes(release: Release) -> Hashes | None:
    """The hashes that a release's shards store, in their order; None when one stores none."""
    hashes: list[Hashes] = [np.zeros(0, np.uint64)]
    for shard in release.shards:
        path = str(release.cache.path(shard.address))
        names = pa.ipc.open_file(pa.memory_map(path)).schema.names
        if COLUMN not in names:
            return None
        options = pa.ipc.IpcReadOptions(included_fields=[names.index(COLUMN)])
        file = pa.ipc.open_file(pa.memory_map(path), options=options)
        for number in range(file.num_record_batches):
            column = file.get_batch(number).column(COLUMN)
            texts = column.drop_null().to_pylist()
            numbers = [int(digits, 16) for digits in texts]
            hashes.append(np.array(numbers, dtype=np.uint64))
    return np.concatenate(hashes)
