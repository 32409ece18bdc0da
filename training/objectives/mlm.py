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

    `share` of the pieces, in whole words, or piece by piece (ALBEF); `rows` bounds the pairs that
    are looked at; 0: all. `soft`: a share (the views' alpha) of each target is what the momentum
    twin says of the same masked pair (ALBEF).
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
        given = views.inputs[self.text]
        assert isinstance(given, TextInput), f"{self.text} is not a text"
        judged = min(self.rows or views.size, views.size)

        draw = views.draws.uniform("mlm", views.size, given.ids.shape[1], 3)
        pieces = given.pieces
        if not self.whole_words:
            pieces = replace(pieces, continues=torch.zeros_like(pieces.continues))
        masked, labels = mask_words(given.ids, given.valid, pieces, draw, self.share)
        labels = labels[:judged]
        for seen in self._seen_by(views):
            seen.vary(self.text, MASKED, replace(given, ids=masked))

        count = float((labels != IGNORED).sum())
        parts = [partial(self._loss, views, labels, part) for part in views.chunks(judged)]
        return Prepared(counts={"mlm": count, "mlm_right": count}, parts=parts)

    def _seen_by(self, views: Views) -> list[Views]:
        """Who looks at the masked texts: the model, and the twin if it is believed.

        A stage that trains soft targets has a twin; held-out samples are looked at without it.
        """
        if not self.soft or views.twin is None:
            return [views]
        return [views, views.twin]

    def _loss(self, views: Views, labels: Tensor, part: slice) -> Sums:
        rows = torch.arange(part.start, part.stop) + views.ranks.rank * views.size
        asked = labels[part] != IGNORED
        wanted = labels[part][asked]
        logits = self._logits(views, rows, asked)
        wanted = wanted.to(logits.device)

        loss = F.cross_entropy(logits, wanted, reduction="sum")
        if self.soft and views.twin is not None:
            with torch.no_grad():
                believed = self._logits(views.twin, rows, asked).softmax(dim=1)
            distilled = F.cross_entropy(logits, believed, reduction="sum")
            loss = (1 - views.alpha) * loss + views.alpha * distilled
        return {"mlm": loss, "mlm_right": (logits.argmax(1) == wanted).sum()}

    def _logits(self, views: Views, rows: Tensor, asked: Tensor) -> Tensor:
        """[m, vocab] of the masked places of some pairs."""
        pairs = {self.text: rows, self.image: rows}
        length = asked.shape[1] if views.model.spec.leads(self.fused, self.text) else 0
        fused = views.pairs(self.fused, pairs, variant=MASKED, front=length)
        words = fused.part(Segment.TEXT).x
        return at_least_float(views.model.head(self.head, words[asked.to(words.device)]))
