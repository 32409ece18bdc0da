"""Masked words, told from the words and patches around them."""

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
    """Cross entropy of the true pieces at masked places, the pair being a true one (BERT, ViLT).

    `share` of the pieces, in whole words; `rows` bounds the pairs that are looked at; 0: all.
    """

    fused: str = "match"
    head: str = "vocabulary"
    text: str = "words"
    image: str = "patches"
    share: float = 0.15
    rows: int = 0

    @property
    def losses(self) -> tuple[str, ...]:
        """`mlm`."""
        return ("mlm",)

    def prepare(self, views: Views) -> Prepared:
        """Mask the texts; parts are runs of pairs."""
        given = views.inputs[self.text]
        assert isinstance(given, TextInput), f"{self.text} is not a text"
        judged = min(self.rows or views.size, views.size)

        draw = views.draws.uniform("mlm", views.size, given.ids.shape[1], 3)
        masked, labels = mask_words(given.ids, given.valid, given.pieces, draw, self.share)
        labels = labels[:judged]
        views.vary(self.text, MASKED, replace(given, ids=masked))

        count = float((labels != IGNORED).sum())
        parts = [partial(self._loss, views, labels, part) for part in views.chunks(judged)]
        return Prepared(counts={"mlm": count, "mlm_right": count}, parts=parts)

    def _loss(self, views: Views, labels: Tensor, part: slice) -> Sums:
        rows = torch.arange(part.start, part.stop) + views.ranks.rank * views.size
        pairs = {self.text: rows, self.image: rows}
        fused = views.pairs(self.fused, pairs, variant=MASKED)
        words = fused.part(Segment.TEXT).x

        wanted = labels[part].to(words.device)
        asked = wanted != IGNORED
        logits = at_least_float(views.model.head(self.head, words[asked]))
        loss = F.cross_entropy(logits, wanted[asked], reduction="sum")
        return {"mlm": loss, "mlm_right": (logits.argmax(1) == wanted[asked]).sum()}
