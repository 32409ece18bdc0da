"""Difference hashes, against those of imagehash."""

import imagehash
import numpy as np
from PIL import Image

from filters.hashes import dhash, distance


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
