"""Image-text contrast: find the partner among the batch, without fusion."""

from dataclasses import dataclass
from typing import ClassVar

import torch

from training.first.objectives.base import Sums, Views
from training.first.objectives.itm import same_texts


@dataclass(frozen=True, kw_only=True)
class Contrast:
    """Both directions of a softmax over the batch (CLIP, ALBEF); equal texts share the target (UniCL)."""

    name: ClassVar[str] = "itc"

    def __call__(self, views: Views, generator: torch.Generator) -> Sums:
        """Cross entropy summed over images and texts, and their number."""
        logits = views.similarity * views.model.log_scale.clamp(max=4.6052).exp()  # at most 100 (CLIP)
        target = same_texts(views.ids).to(logits)
        target = target / target.sum(1, keepdim=True)
        loss = -(target * logits.log_softmax(1)).sum() - (target * logits.T.log_softmax(1)).sum()
        return {"itc": (loss, 2 * len(logits))}
