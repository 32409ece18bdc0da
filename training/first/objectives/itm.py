"""Image-text matching: is this the picture of this text?"""

from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from training.first.corrupt import hard_rows, other_rows
from training.first.objectives.base import Sums, Views


@dataclass(frozen=True, kw_only=True)
class Matching:
    """Each true pair against a wrong text for its image and a wrong image for its text (ImageBERT: both directions).

    `hard`: wrong partners are drawn by similarity of the projections (ALBEF), otherwise uniformly from the batch (ViLT).
    `both`: with false, half of the pairs, drawn anew each step, get a wrong image instead (ViLT: exactly half of the batch).
    """

    name: ClassVar[str] = "itm"
    hard: bool = False
    both: bool = True
    rows: int = 0  # how many pairs of the batch are judged; 0: all

    def __call__(self, views: Views, generator: torch.Generator) -> Sums:
        """Cross entropy summed over judged pairs, and their number; `itm_right` counts those judged right."""
        views = views.head(self.rows)
        texts, images, labels = self._pairs(views, generator)
        logits = views.model.match(views.text[texts], views.image[images]).float()
        labels = labels.to(logits.device)
        loss = F.cross_entropy(logits, labels, reduction="sum")
        return {"itm": (loss, len(labels)), "itm_right": ((logits.argmax(1) == labels).sum(), len(labels))}

    def _pairs(self, views: Views, generator: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
        """Rows of texts, rows of images, and 1 where they belong together."""
        n = len(views.ids)
        rows = torch.arange(n)
        wrong_text, wrong_image = self._negatives(views, generator)
        if self.both:
            labels = torch.cat([torch.ones(n), torch.zeros(2 * n)]).long()
            return torch.cat([rows, wrong_text, rows]), torch.cat([rows, rows, wrong_image]), labels
        keep = torch.zeros(n, dtype=torch.bool)
        keep[torch.randperm(n, generator=generator)[: n // 2]] = True
        return rows, torch.where(keep, rows, wrong_image), keep.long()

    def _negatives(self, views: Views, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        if not self.hard:
            n = len(views.ids)
            return other_rows(n, generator), other_rows(n, generator)
        scores = (views.similarity * views.model.log_scale.exp()).detach().cpu()
        same = same_texts(views.ids)
        return hard_rows(scores, same, generator), hard_rows(scores.T, same, generator)


def same_texts(ids: Tensor) -> Tensor:
    """[n, n] true where two rows hold the same text: such a pair is no negative."""
    return (ids[:, None, :] == ids[None, :, :]).all(dim=2)
