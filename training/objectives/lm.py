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
    `skip` pieces at the beginning, besides the first, are given and not asked for: a prompt's.
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
        """Labels are the texts, one place on; parts are runs of pairs."""
        given = views.inputs[self.text]
        assert isinstance(given, TextInput), f"{self.text} is not a text"
        labels = torch.where(given.valid, given.ids, IGNORED)[:, 1:].clone()
        labels[:, : self.skip] = IGNORED

        count = float((labels != IGNORED).sum())
        parts = [partial(self._loss, views, labels, part) for part in views.chunks(views.size)]
        return Prepared(counts={"lm": count, "lm_right": count}, parts=parts)

    def _loss(self, views: Views, labels: Tensor, part: slice) -> Sums:
        rows = torch.arange(part.start, part.stop) + views.ranks.rank * views.size
        decoded = views.pairs(self.decoder, {self.text: rows, self.image: rows})
        words = decoded.part(Segment.TEXT).x[:, :-1]

        wanted = labels[part].to(words.device)
        asked = wanted != IGNORED
        logits = at_least_float(views.model.head(self.head, words[asked]))
        loss = smooth_cross_entropy(logits, wanted[asked], self.smoothing, self.smooth_over)
        return {"lm": loss, "lm_right": (logits.argmax(1) == wanted[asked]).sum()}


def smooth_cross_entropy(
    logits: Tensor, wanted: Tensor, smoothing: float, over: Literal["all", "other"]
) -> Tensor:
    """Summed cross entropy of [m, vocab] and [m] against a target that keeps 1 - smoothing.

    Over "other" words the rest is shared by vocab - 1 words, over "all" by every one of them.
    """
    if over == "other":
        words = logits.shape[1]
        smoothing = smoothing * words / (words - 1)
    return F.cross_entropy(logits, wanted, reduction="sum", label_smoothing=smoothing)
