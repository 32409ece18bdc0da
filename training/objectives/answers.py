"""Answers as classes: questions about an image, or about two of them."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from training.answers import soft_scores
from training.heads import at_least_float
from training.objectives.base import Prepared, Sums
from training.tokens import Tokens
from training.views import Views


@dataclass(frozen=True, kw_only=True)
class Answers:
    """The answers that samples bring, each a class of a head on fused tokens.

    `fused` are passes over the question and one image each, `images` the embeddings of these: two
    of both where a sample has two images (ViLT's pair method for NLVR2). `classes` are answers as
    `training.answers.normal` writes them; () asks for the `most` frequent ones of what is trained
    on (VQA v2: the 3,129 that stand nine times there).

    `loss`: "each" class for itself against its soft score, added up (VQA); "one" of them, by cross
    entropy (NLVR2). An answer that is no class is a target nowhere.
    """

    fused: tuple[str, ...] = ("match",)
    images: tuple[str, ...] = ("patches",)
    head: str = "answer"
    text: str = "words"
    classes: tuple[str, ...] = ()
    most: int = 3129
    loss: Literal["each", "one"] = "each"

    def __post_init__(self) -> None:
        if len(self.fused) != len(self.images) or not self.fused:
            raise ValueError("answers: give as many images as passes in `fused`, one at least")

    @property
    def losses(self) -> tuple[str, ...]:
        """`answer`."""
        return ("answer",)

    def prepare(self, views: Views) -> Prepared:
        """Targets of all rows; parts are runs of rows."""
        targets = self._targets(views)
        count = float(views.size)
        parts = [partial(self._loss, views, targets, rows) for rows in views.chunks(views.size)]
        return Prepared(counts={"answer": count, "answer_right": count}, parts=parts)

    def _targets(self, views: Views) -> Tensor:
        """[n, classes] the soft score of each class."""
        index = {name: number for number, name in enumerate(self.classes)}
        targets = torch.zeros(views.size, len(index))
        for row, answers in enumerate(views.answers):
            for answer, score in soft_scores(answers).items():
                if answer in index:
                    targets[row, index[answer]] = score
        return targets

    def _loss(self, views: Views, targets: Tensor, rows: slice) -> Sums:
        pairs = views.global_rows(rows)
        fused: list[Tokens] = []
        for step, image in zip(self.fused, self.images, strict=True):
            fused.append(views.pairs(step, {self.text: pairs, image: pairs}))

        logits = at_least_float(views.model.head(self.head, *fused))
        targets = targets[rows].to(logits)
        if self.loss == "each":
            loss = F.binary_cross_entropy_with_logits(logits, targets, reduction="sum")
        else:
            loss = F.cross_entropy(logits, targets, reduction="sum")
        best = logits.argmax(1, keepdim=True)
        return {"answer": loss, "answer_right": targets.gather(1, best).sum()}
