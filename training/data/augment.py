"""Images changed at random: operations, crops and flips, each settled by the numbers drawn."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from math import exp, log
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageEnhance, ImageOps

GREY = (128, 128, 128)
SIDED = re.compile(r"\b(left|right)\b", re.IGNORECASE)
Pixels = NDArray[np.uint8]
Range = tuple[float, float]
Operation = Callable[[Image.Image, float], Image.Image]


def names_a_side(caption: str) -> bool:
    """Whether a caption says left or right, so that its image must not be flipped."""
    return SIDED.search(caption) is not None


def mix_images(image: Pixels, other: Pixels) -> Pixels:
    """MixGen: the mean of two images of one size, halves rounded up (Hao et al. 2023)."""
    total = image.astype(np.uint16) + other
    mean = (total + 1) // 2
    return mean.astype(np.uint8)


@dataclass(frozen=True, kw_only=True)
class RandAugment:
    """Some operations of a list at one strength (Cubuk et al. 2020).

    "vilt": 2 at strength 9 of 30, without Invert and Cutout, which ViLT leaves out. "blip": 2 at
    strength 5 of 10, each with probability 0.5: no operation on colours, none that inverts.
    """

    operations: Literal["vilt", "blip"]
    count: int = 2
    strength: float = 9.0
    probability: float = 1.0

    def __post_init__(self) -> None:
        most = MOST[self.operations]
        if not 0 <= self.strength <= most:
            raise ValueError(f"strength {self.strength:g}: {self.operations} has 0 to {most:g}")

    def __call__(self, image: Image.Image, draws: np.random.Generator) -> Image.Image:
        """The image after `count` operations, drawn with replacement."""
        ranges = RANGES[self.operations]
        names = list(ranges)
        share = self.strength / MOST[self.operations]
        for index in draws.integers(len(names), size=self.count).tolist():
            skip, sign = draws.random(2).tolist()
            if skip >= self.probability:
                continue
            name = names[index]
            low, high = ranges[name]
            value = low + share * (high - low)
            if name in SIGNED and sign < 0.5:
                value = -value
            image = OPERATIONS[name](image, value)
        return image


def crop_box(
    width: int, height: int, scale: Range, draws: np.random.Generator
) -> tuple[int, int, int, int]:
    """A part of the image with a share of its area and sides of 3:4 to 4:3 (Inception's crop).

    -> left, upper, right, lower. Where ten tries do not fit: the largest middle of such sides.
    """
    for _ in range(10):
        area = width * height * draws.uniform(*scale)
        log_ratio = draws.uniform(log(3 / 4), log(4 / 3))
        ratio = exp(log_ratio)
        crop_width = round((area * ratio) ** 0.5)
        crop_height = round((area / ratio) ** 0.5)
        if 0 < crop_width <= width and 0 < crop_height <= height:
            left = int(draws.integers(width - crop_width + 1))
            upper = int(draws.integers(height - crop_height + 1))
            return left, upper, left + crop_width, upper + crop_height

    crop_width = min(width, round(height * 4 / 3))
    crop_height = min(height, round(crop_width * 4 / 3))
    left = (width - crop_width) // 2
    upper = (height - crop_height) // 2
    return left, upper, left + crop_width, upper + crop_height


def _enhance(kind: Callable[[Image.Image], ImageEnhance._Enhance]) -> Operation:
    return lambda image, value: kind(image).enhance(value)


def _shear_x(image: Image.Image, value: float) -> Image.Image:
    return _affine(image, (1, value, 0, 0, 1, 0))


def _shear_y(image: Image.Image, value: float) -> Image.Image:
    return _affine(image, (1, 0, 0, value, 1, 0))


def _translate_x(image: Image.Image, value: float) -> Image.Image:
    return _affine(image, (1, 0, value, 0, 1, 0))


def _translate_y(image: Image.Image, value: float) -> Image.Image:
    return _affine(image, (1, 0, 0, 0, 1, value))


def _affine(image: Image.Image, matrix: tuple[float, ...]) -> Image.Image:
    return image.transform(
        image.size,
        Image.Transform.AFFINE,
        matrix,
        Image.Resampling.BILINEAR,
        fillcolor=GREY,
    )


def _rotate(image: Image.Image, value: float) -> Image.Image:
    return image.rotate(value, Image.Resampling.BILINEAR, fillcolor=GREY)


def _posterize(image: Image.Image, value: float) -> Image.Image:
    return ImageOps.posterize(image, max(1, int(value)))


def _solarize_add(image: Image.Image, value: float) -> Image.Image:
    """Darker half of the levels made brighter."""
    table = []
    for level in range(256):
        brighter = min(255, level + int(value))
        table.append(brighter if level < 128 else level)
    return image.point(table * 3)


OPERATIONS: Mapping[str, Operation] = {
    "identity": lambda image, value: image,
    "auto_contrast": lambda image, value: ImageOps.autocontrast(image),
    "equalize": lambda image, value: ImageOps.equalize(image),
    "rotate": _rotate,
    "posterize": _posterize,
    "solarize": lambda image, value: ImageOps.solarize(image, int(value)),
    "solarize_add": _solarize_add,
    "colour": _enhance(ImageEnhance.Color),
    "contrast": _enhance(ImageEnhance.Contrast),
    "brightness": _enhance(ImageEnhance.Brightness),
    "sharpness": _enhance(ImageEnhance.Sharpness),
    "shear_x": _shear_x,
    "shear_y": _shear_y,
    "translate_x": _translate_x,
    "translate_y": _translate_y,
}
SIGNED = frozenset(("rotate", "shear_x", "shear_y", "translate_x", "translate_y"))
MOST: Mapping[str, float] = {"vilt": 30.0, "blip": 10.0}  # the strength that means the far end
FAR = (0.1, 1.9)  # of an enhancement: 1 leaves the image as it is

# What strength 0 and the far end mean: of ViLT from the code of its RandAugment, of BLIP from its
# own, where posterize and the colours are missing and a translation is of ten pixels at most
RANGES: Mapping[str, Mapping[str, Range]] = {
    "vilt": {
        "auto_contrast": (0, 1),
        "equalize": (0, 1),
        "rotate": (0, 30),
        "posterize": (0, 4),
        "solarize": (0, 256),
        "solarize_add": (0, 110),
        "colour": FAR,
        "contrast": FAR,
        "brightness": FAR,
        "sharpness": FAR,
        "shear_x": (0, 0.3),
        "shear_y": (0, 0.3),
        "translate_x": (0, 100),
        "translate_y": (0, 100),
    },
    "blip": {
        "identity": (0, 1),
        "auto_contrast": (0, 1),
        "brightness": FAR,
        "sharpness": FAR,
        "equalize": (0, 1),
        "shear_x": (0, 0.3),
        "shear_y": (0, 0.3),
        "translate_x": (0, 10),
        "translate_y": (0, 10),
        "rotate": (0, 30),
    },
}
