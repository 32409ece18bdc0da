"""Language modelling: each word of a text from those before it and from the image."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from training.corrupt import IGNORED
from training.heads import at_least_float
from training.inputs import TextInput
from training.objectives.base import Prepared, Sums
from training.tokens import Segment
from training.views import Views


@dataclass(frozen=True, kw_only=True)
class Captions:
    """Cross entropy of each next piece, padding ignored.

    `smoothing` is spread over "all" words, as torch does (BLIP), or over the "other" ones (GIT).
    `skip` pieces at the beginning, besides the first, have no loss: a prompt's.
    """

    decoder: str = "caption"
    head: str = "vocabulary"
    text: str = "words"
    image: str = "patches"
    smoothing: float = 0.0
    smooth_over: Literal["all", "other"] = "all"
    skip: int = 0

    @property
    def losses(self) -> tuple[str, ...]:
        """`lm`."""
        return ("lm",)

    def prepare(self, views: Views) -> Prepared:
        """Labels are the texts, one position on; parts are runs of pairs."""
        text = views.inputs[self.text]
        assert isinstance(text, TextInput), f"{self.text} is not a text"
        labels = torch.where(text.valid, text.ids, IGNORED)[:, 1:].clone()
        labels[:, : self.skip] = IGNORED

        count = float((labels != IGNORED).sum())
        parts = [partial(self._loss, views, labels, rows) for rows in views.chunks(views.size)]
        return Prepared(counts={"lm": count, "lm_right": count}, parts=parts)

    def _loss(self, views: Views, labels: Tensor, rows: slice) -> Sums:
        pairs = views.global_rows(rows)
        decoded = views.pairs(self.decoder, {self.text: pairs, self.image: pairs})
        words = decoded.part(Segment.TEXT).x[:, :-1]

        labels = labels[rows].to(words.device)
        mask = labels != IGNORED
        targets = labels[mask]
        logits = at_least_float(views.model.head(self.head, words[mask]))
        loss = smooth_cross_entropy(logits, targets, self.smoothing, self.smooth_over)
        return {"lm": loss, "lm_right": (logits.argmax(1) == targets).sum()}


def smooth_cross_entropy(
    logits: Tensor, targets: Tensor, smoothing: float, over: Literal["all", "other"]
) -> Tensor:
    """Summed cross entropy of [m, vocab] and [m] with label smoothing.

    Over "other" words `smoothing` is shared by vocab - 1 words, over "all" by every one of them.
    """
    if over == "other":
        vocab = logits.shape[1]
        smoothing = smoothing * vocab / (vocab - 1)
    return F.cross_entropy(logits, targets, reduction="sum", label_smoothing=smoothing)
