"""Image-text contrast: find the partner of each image and of each text, without fusion."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from training.negatives import Keys, same
from training.objectives.base import Prepared, Sums
from training.views import Views


@dataclass(frozen=True, kw_only=True)
class Contrast:
    """Cross entropy over the global batch in both directions, the mean of the two (CLIP).

    Pairs whose images or texts are equal share the target (UniCL) instead of being negatives. With
    the momentum twin in the views, candidates are its vectors of this batch and of its queue, and a
    share (the views' alpha) of the target is what the twin itself believes (ALBEF, BLIP). `local`:
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
        """One part: vectors are small, and every one of them is asked about all others."""
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

        own = views.keys
        keys, images, texts = own, image, text
        if not self.local:
            keys, images, texts = views.all_keys(), *self._gathered(views, image, text)
        target = self._target(own, keys, image)
        return _both_ways(scale * image @ texts.T, scale * text @ images.T, target, target)

    def _gathered(self, views: Views, image: Tensor, text: Tensor) -> tuple[Tensor, Tensor]:
        return views.ranks.gather(image), views.ranks.gather(text)

    def _momentum_loss(
        self, views: Views, twin: Views, image: Tensor, text: Tensor, scale: Tensor
    ) -> Sums:
        with torch.no_grad():
            twin_image, twin_text = self.vectors(twin)
            keys, images, texts = self._candidates(views, twin, twin_image, twin_text)
            target = self._target(views.keys, keys, image)
            believed = (scale * twin_image @ texts.T).softmax(1)
            believed_back = (scale * twin_text @ images.T).softmax(1)
            forward = views.alpha * believed + (1 - views.alpha) * target
            back = views.alpha * believed_back + (1 - views.alpha) * target
        return _both_ways(scale * image @ texts.T, scale * text @ images.T, forward, back)

    def _candidates(
        self, views: Views, twin: Views, image: Tensor, text: Tensor
    ) -> tuple[Keys, Tensor, Tensor]:
        keys, images, texts = views.all_keys(), *self._gathered(views, image, text)
        if twin.queue is None:
            return keys, images, texts
        return twin.queue.behind(keys, images, texts)

    def _target(self, own: Keys, keys: Keys, like: Tensor) -> Tensor:
        equal = same(own, keys).to(like)
        target = equal / equal.sum(1, keepdim=True)
        return (1 - self.smoothing) * target + self.smoothing / equal.shape[1]


def _both_ways(to_text: Tensor, to_image: Tensor, target: Tensor, target_back: Tensor) -> Sums:
    loss = -(target * to_text.log_softmax(1)).sum() - (target_back * to_image.log_softmax(1)).sum()
    with torch.no_grad():
        right = _right(to_text, target) + _right(to_image, target_back)
    return {"itc": loss, "itc_right": right}


def _right(logits: Tensor, target: Tensor) -> Tensor:
    """How many rows rank a most wanted column first."""
    best = logits.argmax(1, keepdim=True)
    wanted = target.gather(1, best).squeeze(1)
    return (wanted >= target.amax(1)).sum()
