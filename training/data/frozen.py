"""A frozen tower with its preprocessing: from decoded images or texts to features."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from training.data.batch import padded, scaled
from training.data.images import ImageSpec
from training.data.reduction import Reduction
from training.data.tokenizer import TextSpec, make_tokenizer
from training.data.towers import TowerSpec, image_tower, text_tower


class FrozenTower:
    """Features of a tower, cut to principal components once there is a `reduction`.

    The cache of a release and the evaluation of new images use the same object, so that a feature
    means the same in both.
    """

    def __init__(
        self,
        spec: TowerSpec,
        prepare: ImageSpec | TextSpec,
        *,
        device: torch.device | str = "cpu",
        reduction: Reduction | None = None,
        flip: bool = False,
    ) -> None:
        self.prepare = prepare
        self.reduction = reduction
        self.flip = flip  # whether images are seen a second time, flipped
        self._device = device
        if isinstance(prepare, ImageSpec):
            self._images = image_tower(spec, device)
        else:
            self._texts = text_tower(spec, device)
            self._tokenizer = make_tokenizer(prepare)

    def of_images(self, images: Sequence[Tensor], *, plain: bool = False) -> list[list[Tensor]]:
        """Images [h, w, 3] of bytes -> for each its views [k, features], plain before flipped.

        `plain`: that one alone.
        """
        assert isinstance(self.prepare, ImageSpec), "this tower reads texts"
        if not images:
            return []
        batch = padded(images, self.prepare.patch)
        if batch.sizes is not None:
            raise ValueError("a frozen tower needs images of one size: square or crop")
        pixels = scaled(batch.pixels.to(self._device), self.prepare)
        views = [self._reduced(self._images(pixels))]
        if self.flip and not plain:
            flipped = pixels.flip(3)
            views.append(self._reduced(self._images(flipped)))
        return [list(of_image) for of_image in zip(*views, strict=True)]

    def of_texts(self, texts: Sequence[str]) -> list[Tensor]:
        """Each text's [pieces, features], first and last counted."""
        tokens = self._tokenizer(texts)
        ids = tokens.ids.to(self._device)
        valid = tokens.valid.to(self._device)
        features = self._reduced(self._texts(ids, valid))
        lengths = tokens.valid.sum(1).tolist()
        return [row[:length] for row, length in zip(features, lengths, strict=True)]

    def _reduced(self, features: Tensor) -> Tensor:
        if self.reduction is None:
            return features
        return self.reduction(features)
