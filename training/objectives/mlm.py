"""Masked language modelling: masked words from the words and patches around them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor

from training.corrupt import IGNORED, mask_words
from training.heads import at_least_float
from training.inputs import TextInput
from training.objectives.base import Prepared, Sums
from training.tokens import Segment
from training.views import Views

MASKED = "masked"  # the variant of a batch whose texts have masked words


@dataclass(frozen=True, kw_only=True)
class MaskedWords:
    """Cross entropy of the true pieces at masked positions of true pairs (BERT, ViLT).

    `share` of the pieces are masked, in whole words, or piece by piece (ALBEF); `rows` bounds the
    number of pairs; 0: all. `soft`: a share (the views' alpha) of each target is the momentum
    twin's prediction for the same masked pair (ALBEF).
    """

    fused: str = "match"
    head: str = "vocabulary"
    text: str = "words"
    image: str = "patches"
    share: float = 0.15
    rows: int = 0
    whole_words: bool = True
    soft: bool = False

    @property
    def losses(self) -> tuple[str, ...]:
        """`mlm`."""
        return ("mlm",)

    def prepare(self, views: Views) -> Prepared:
        """Mask the texts; parts are runs of pairs."""
        text = views.inputs[self.text]
        assert isinstance(text, TextInput), f"{self.text} is not a text"
        pieces = text.pieces
        if not self.whole_words:
            pieces = replace(pieces, continues=torch.zeros_like(pieces.continues))

        draw = views.draws.uniform("mlm", views.size, text.ids.shape[1], 3)
        ids, labels = mask_words(text.ids, text.valid, pieces, draw, self.share)
        masked = replace(text, ids=ids)
        views.vary(self.text, MASKED, masked)
        if self.soft and views.twin is not None:  # held-out samples are measured without it
            views.twin.vary(self.text, MASKED, masked)

        num_pairs = min(self.rows or views.size, views.size)
        count = float((labels[:num_pairs] != IGNORED).sum())
        parts = [partial(self._loss, views, labels, rows) for rows in views.chunks(num_pairs)]
        return Prepared(counts={"mlm": count, "mlm_right": count}, parts=parts)

    def _loss(self, views: Views, labels: Tensor, rows: slice) -> Sums:
        labels = labels[rows]
        mask = labels != IGNORED
        logits = self._logits(views, rows, mask)
        targets = labels[mask].to(logits.device)

        loss = F.cross_entropy(logits, targets, reduction="sum")
        if self.soft and views.twin is not None:
            with torch.no_grad():
                soft_targets = self._logits(views.twin, rows, mask).softmax(dim=1)
            soft_loss = F.cross_entropy(logits, soft_targets, reduction="sum")
            loss = (1 - views.alpha) * loss + views.alpha * soft_loss
        return {"mlm": loss, "mlm_right": (logits.argmax(1) == targets).sum()}

    def _logits(self, views: Views, rows: slice, mask: Tensor) -> Tensor:
        """[m, vocab] at the masked positions of some pairs."""
        pairs = views.global_rows(rows)
        length = mask.shape[1] if views.model.spec.leads(self.fused, self.text) else 0
        fused = views.pairs(
            self.fused, {self.text: pairs, self.image: pairs}, variant=MASKED, front=length
        )
        words = fused.part(Segment.TEXT).x
        masked = words[mask.to(words.device)]
        return at_least_float(views.model.head(self.head, masked))
