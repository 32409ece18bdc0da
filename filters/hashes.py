"""Perceptual hashes: near equal pictures have hashes that differ in few bits."""

import numpy as np
from PIL import Image


def dhash(picture: Image.Image) -> str:
    """The 64-bit difference hash as 16 hexadecimal digits: whether each of 8 x 8 places is darker than its right neighbour.

    The picture is shrunk to 9 by 8 grey levels first, so size, quality and colour matter little.
    """
    small = np.asarray(picture.convert("L").resize((9, 8), Image.Resampling.LANCZOS), dtype=np.int16)
    return np.packbits(small[:, 1:] > small[:, :-1]).tobytes().hex()


def distance(one: str, other: str) -> int:
    """How many of the 64 bits differ."""
    return (int(one, 16) ^ int(other, 16)).bit_count()
