"""Image-text contrast: the partner of each image and of each text, without fusion."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from training.heads import at_least_float
from training.negatives import Keys, same
from training.objectives.base import Prepared, Sums
from training.views import Views


@dataclass(frozen=True, kw_only=True)
class Contrast:
    """Cross entropy over the global batch in both directions, the mean of the two (CLIP).

    Pairs whose images or texts are equal share the target (UniCL) instead of being negatives. With
    the momentum twin in the views, candidates are its vectors of this batch and of its queue, and a
    share (the views' alpha) of the targets is the twin's own prediction (ALBEF, BLIP). `local`:
    candidates are those of this rank alone.
    """

    image: str = "image"
    text: str = "text"
    image_head: str = "image_project"
    text_head: str = "text_project"
    scale: str = "scale"
    smoothing: float = 0.0
    local: bool = False

    @property
    def losses(self) -> tuple[str, ...]:
        """`itc`."""
        return ("itc",)

    def prepare(self, views: Views) -> Prepared:
        """One part: vectors are small, and each is compared with all others."""
        count = 2.0 * views.size
        counts = {"itc": count, "itc_right": count}
        return Prepared(counts=counts, parts=[partial(self._loss, views)])

    def vectors(self, views: Views) -> tuple[Tensor, Tensor]:
        """Unit vectors of this rank's images and texts: [n, dim] each."""
        image = views.model.head(self.image_head, views.tokens(self.image))
        text = views.model.head(self.text_head, views.tokens(self.text))
        return image, text

    def _loss(self, views: Views) -> Sums:
        image, text = self.vectors(views)
        scale = views.model.head(self.scale)
        if views.twin is not None:
            return self._momentum_loss(views, views.twin, image, text, scale)

        keys, images, texts = views.keys, image, text
        if not self.local:
            keys = views.all_keys()
            images = views.ranks.gather(image)
            texts = views.ranks.gather(text)

        targets = self._targets(views.keys, keys, image)
        to_text = scale * image @ texts.T
        to_image = scale * text @ images.T
        return _both_ways(to_text, to_image, targets, targets)

    def _momentum_loss(
        self,
        views: Views,
        twin: Views,
        image: Tensor,
        text: Tensor,
        scale: Tensor,
    ) -> Sums:
        with torch.no_grad():
            twin_image, twin_text = self.vectors(twin)
            keys, images, texts = self._candidates(views, twin, twin_image, twin_text)
            targets = self._targets(views.keys, keys, image)

            soft_to_text = at_least_float(scale * twin_image @ texts.T).softmax(dim=1)
            soft_to_image = at_least_float(scale * twin_text @ images.T).softmax(dim=1)
            text_targets = targets.lerp(soft_to_text, views.alpha)
            image_targets = targets.lerp(soft_to_image, views.alpha)

        to_text = scale * image @ texts.T
        to_image = scale * text @ images.T
        return _both_ways(to_text, to_image, text_targets, image_targets)

    def _candidates(
        self,
        views: Views,
        twin: Views,
        image: Tensor,
        text: Tensor,
    ) -> tuple[Keys, Tensor, Tensor]:
        """The twin's vectors of the global batch, and those of its queue behind them."""
        keys = views.all_keys()
        images = views.ranks.gather(image)
        texts = views.ranks.gather(text)
        if twin.queue is None:
            return keys, images, texts
        return twin.queue.append_to(keys, images, texts)

    def _targets(self, own: Keys, keys: Keys, like: Tensor) -> Tensor:
        """[n, m], rows that sum to 1: shared by all candidates that equal the row."""
        equal = same(own, keys).to(like)
        targets = equal / equal.sum(dim=1, keepdim=True)
        uniform = torch.full_like(targets, 1 / targets.shape[1])
        return targets.lerp(uniform, self.smoothing)


def _both_ways(
    to_text: Tensor, to_image: Tensor, text_targets: Tensor, image_targets: Tensor
) -> Sums:
    """Cross entropy of images [n, m] and of texts [n, m], added up."""
    to_text = at_least_float(to_text)
    to_image = at_least_float(to_image)
    text_loss = (text_targets * to_text.log_softmax(dim=1)).sum()
    image_loss = (image_targets * to_image.log_softmax(dim=1)).sum()

    with torch.no_grad():
        right = _right(to_text, text_targets) + _right(to_image, image_targets)
    return {"itc": -text_loss - image_loss, "itc_right": right}


def _right(logits: Tensor, targets: Tensor) -> Tensor:
    """How many rows have a largest target at their largest logit."""
    best = logits.argmax(dim=1, keepdim=True)
    target = targets.gather(1, best).squeeze(1)
    return (target >= targets.amax(dim=1)).sum()
