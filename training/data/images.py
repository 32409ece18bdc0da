"""How an image becomes an array of one model: size, shape, what is done to it at random."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from PIL import Image

from training.data.augment import Pixels, RandAugment, Range, crop_box
from training.data.decode import open_image

Channels = tuple[float, float, float]  # of red, green and blue

HALF = (0.5, 0.5, 0.5)  # ViT, ViLT
CLIP_MEAN = (0.48145466, 0.4578275, 0.40821073)  # CLIP and BLIP, from CLIP's code
CLIP_STD = (0.26862954, 0.26130258, 0.27577711)
BICUBIC = Image.Resampling.BICUBIC


@dataclass(frozen=True, kw_only=True)
class ImageSpec:
    """Preprocessing of images that belongs to a module of a model.

    `how`: "square" stretches to size x size. "shorter" keeps the aspect: the shorter side becomes
    `size`, the longer at most `longest` (0: 1333/800 of it, as ViLT), both floored to multiples of
    `patch`; a batch is padded to its largest. "crop" is a random part with a `scale` of the area in
    training, and in evaluation what `evaluate` says: the centre (CLIP), or stretched (BLIP).
    """

    size: int
    how: Literal["square", "shorter", "crop"] = "square"
    patch: int = 1
    longest: int = 0
    scale: Range = (0.2, 1.0)
    evaluate: Literal["centre", "square"] = "centre"
    mean: Channels = HALF
    std: Channels = HALF
    augment: RandAugment | None = None
    flip: bool = False  # every other image of training, if its caption names no side

    def __post_init__(self) -> None:
        if self.size < 1 or self.size % self.patch:
            raise ValueError(f"size {self.size} is no multiple of patch {self.patch}: change one")
        if min(self.std) <= 0:
            raise ValueError(f"std {self.std}: pixels are divided by it, so it must be above 0")
        if not 0 < self.scale[0] <= self.scale[1] <= 1:
            raise ValueError(f"scale {self.scale} must go up from above 0 to at most 1")

    @property
    def random(self) -> bool:
        """Whether training draws numbers for it, flips aside."""
        return self.how == "crop" or self.augment is not None

    @property
    def centred(self) -> bool:
        """Whether evaluation looks at the centre of an image alone."""
        return self.how == "crop" and self.evaluate == "centre"

    def resized(self, size: int) -> ImageSpec:
        """The same for images of another size, longer sides in the same proportion."""
        longest = self.longest * size // self.size
        return replace(self, size=size, longest=longest)

    @property
    def most(self) -> tuple[int, int]:
        """The largest height and width that can come of it."""
        if self.how != "shorter":
            return self.size, self.size
        longer = max(self._longest(), self.size)
        longer -= longer % self.patch
        return longer, longer

    def pixels(
        self, encoded: bytes, draws: np.random.Generator | None = None, *, flip: bool = False
    ) -> Pixels:
        """[height, width, 3]; with `draws` as in training. OSError if it cannot be decoded."""
        if self.how == "crop" and draws is not None:
            image = self._random_crop(encoded, draws)
        elif self.centred:
            image = self._centre_crop(encoded)
        elif self.how == "shorter":
            image = open_image(encoded, self.size)
            width, height = self.fitted(*image.size)
            image = _resized(image, width, height)
        else:
            image = open_image(encoded, self.size)
            image = _resized(image, self.size, self.size)

        if flip:
            image = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
        if self.augment is not None and draws is not None:
            image = self.augment(image, draws)
        return np.asarray(image)

    def fitted(self, width: int, height: int) -> tuple[int, int]:
        """What "shorter" makes of a size: width and height. As ViLT's MinMaxResize computes it."""
        scale = self.size / min(width, height)
        longest = self._longest()
        if scale * max(width, height) > longest:
            scale = longest / max(width, height)
        return self._floored(scale * width), self._floored(scale * height)

    def _longest(self) -> int:
        return self.longest or int(1333 / 800 * self.size)

    def _floored(self, side: float) -> int:
        patches = int(side + 0.5) // self.patch
        return max(1, patches) * self.patch

    def _centre_crop(self, encoded: bytes) -> Image.Image:
        image = open_image(encoded, self.size)
        width, height = image.size
        scale = self.size / min(width, height)
        width = round(width * scale)
        height = round(height * scale)
        image = _resized(image, width, height)

        left = (width - self.size) // 2
        upper = (height - self.size) // 2
        box = (left, upper, left + self.size, upper + self.size)
        return image.crop(box)

    def _random_crop(self, encoded: bytes, draws: np.random.Generator) -> Image.Image:
        """Of the whole image: a small crop must not lack detail, so less is reduced by decoding."""
        smallest = self.scale[0] ** 0.5
        image = open_image(encoded, int(self.size / smallest))
        box = crop_box(*image.size, self.scale, draws)
        return image.resize((self.size, self.size), BICUBIC, box=box)


@dataclass(frozen=True, kw_only=True)
class SecondImageSpec(ImageSpec):
    """Of samples with two images the other one (NLVR2)."""


def _resized(image: Image.Image, width: int, height: int) -> Image.Image:
    if image.size == (width, height):
        return image
    return image.resize((width, height), BICUBIC)
