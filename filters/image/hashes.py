"""Perceptual hashes: near equal pictures have hashes that differ in few bits."""

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from PIL import Image

INDISTINCT = 3  # bits


def dhash(picture: Image.Image) -> str:
    """The 64-bit difference hash as 16 hexadecimal digits: whether each of 8 x 8 places is darker
    than its right neighbour.

    The picture is shrunk to 9 by 8 grey levels first, so size, quality and colour matter little.
    """
    small = np.asarray(
        picture.convert("L").resize((9, 8), Image.Resampling.LANCZOS), dtype=np.int16
    )
    return np.packbits(small[:, 1:] > small[:, :-1]).tobytes().hex()


def distance(one: str, other: str) -> int:
    """How many of the 64 bits differ."""
    return (int(one, 16) ^ int(other, 16)).bit_count()


def numbers(hashes: pa.Array) -> NDArray[np.uint64]:
    """Hashes of 16 hexadecimal digits, none of them null, as 64-bit numbers; ValueError for any
    other text.
    """
    if not len(hashes):
        return np.zeros(0, dtype=np.uint64)
    digits = hashes.cast(pa.binary()).cast(pa.binary(16))
    return np.frombuffer(
        bytes.fromhex(b"".join(digits.to_pylist()).decode("ascii")), dtype=">u8"
    ).astype(np.uint64)


def flat(hashes: NDArray[np.uint64]) -> NDArray[np.bool_]:
    """Whether a hash is within `INDISTINCT` bits of all zeros or all ones: it cannot tell blank
    pictures and plain gradients apart.
    """
    ones = np.bitwise_count(hashes)
    return np.asarray((ones <= INDISTINCT) | (ones >= 64 - INDISTINCT))
