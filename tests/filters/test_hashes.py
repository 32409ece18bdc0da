"""Difference hashes, against those of imagehash."""

import imagehash
import numpy as np
import pyarrow as pa
import pytest
from PIL import Image

from filters.image.hashes import dhash, distance, flat, numbers


def _picture(seed: int) -> Image.Image:
    coarse = np.random.default_rng(seed).integers(0, 256, (12, 16, 3), dtype=np.uint8)
    return Image.fromarray(coarse).resize((320, 240), Image.Resampling.BICUBIC)


def test_hashes_are_those_of_imagehash() -> None:
    for seed in range(20):
        assert dhash(_picture(seed)) == str(imagehash.dhash(_picture(seed)))


def test_size_matters_little_and_content_much() -> None:
    assert distance(dhash(_picture(1)), dhash(_picture(1).resize((200, 150)))) <= 3
    assert distance(dhash(_picture(1)), dhash(_picture(2))) > 16
    assert distance("0" * 16, "f" * 16) == 64


def test_hashes_are_numbers_and_some_tell_nothing() -> None:
    hashes = pa.array(
        ["0000000000000007", "000000000000000f", "fffffffffffffff8", "fffffffffffffff0", "5a" * 8]
    )
    assert numbers(hashes).tolist() == [7, 15, 2**64 - 8, 2**64 - 16, 0x5A5A5A5A5A5A5A5A]
    assert numbers(hashes.slice(1, 2)).tolist() == [15, 2**64 - 8]
    assert flat(numbers(hashes)).tolist() == [True, False, True, False, False]
    for wrong in ("7", "g" * 16):
        with pytest.raises(ValueError, match=r"."):
            numbers(pa.array([wrong]))
