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
    """What a tower says, cut to principal components once there is a `reduction`.

    The cache of a release and the evaluation of new images ask the same object, so that a feature
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
        given = padded(images, self.prepare.patch)
        if given.sizes is not None:
            raise ValueError("a frozen tower needs images of one size: square or crop")
        pixels = scaled(given.pixels.to(self._device), self.prepare)
        views = [self._cut(self._images(pixels))]
        if self.flip and not plain:
            views.append(self._cut(self._images(pixels.flip(3))))
        return [list(found) for found in zip(*views, strict=True)]

    def of_texts(self, texts: Sequence[str]) -> list[Tensor]:
        """Each text's [pieces, features], those that stand around it counted."""
        given = self._tokenizer(texts)
        valid = given.valid.to(self._device)
        features = self._cut(self._texts(given.ids.to(self._device), valid))
        lengths = given.valid.sum(1).tolist()
        return [row[:length] for row, length in zip(features, lengths, strict=True)]

    def _cut(self, features: Tensor) -> Tensor:
        return features if self.reduction is None else self.reduction(features)
