"""Masked language modelling: say the hidden words from the other words and the picture."""

from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.nn.functional as F

from training.first.corrupt import IGNORED, mask_words
from training.first.objectives.base import Sums, Views


@dataclass(frozen=True, kw_only=True)
class MaskedWords:
    """Whole words are hidden on true pairs only (ImageBERT's "conditional mask"); the head runs on hidden places alone."""

    name: ClassVar[str] = "mlm"
    share: float = 0.15
    rows: int = 0  # how many pairs of the batch are asked about; 0: all

    def __call__(self, views: Views, generator: torch.Generator) -> Sums:
        """Cross entropy summed over hidden tokens, and their number; `mlm_right` counts those said right."""
        views = views.head(self.rows)
        hidden, labels = mask_words(
            views.ids, continues=views.continues, special=views.special, mask_id=views.mask_id, generator=generator, share=self.share
        )
        fused = views.model.fuse(views.model.encode_text(hidden), views.image)
        where = labels != IGNORED
        logits = views.model.word_head(fused[:, : labels.shape[1]][where]).float()
        words, count = labels[where].to(logits.device), int(where.sum())
        loss = F.cross_entropy(logits, words, reduction="sum")
        return {"mlm": (loss, count), "mlm_right": ((logits.argmax(1) == words).sum(), count)}
