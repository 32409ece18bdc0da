"""Image-text matching: does this text describe this image?"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from training.config import within
from training.heads import ClassifySpec, at_least_float
from training.model import ModelSpec
from training.negatives import hard_rows, other_source, random_rows, same
from training.objectives.base import Prepared, Sums
from training.objectives.itc import Contrast
from training.objectives.wra import Alignment
from training.views import Views


@dataclass(frozen=True, kw_only=True)
class Matching:
    """True pairs against false ones, as classes 1 and 0 of a head on the fused tokens.

    `false` pairs: "both" gives each pair a wrong text for its image and a wrong image for its text
    (B true, 2B false: ImageBERT, ALBEF, BLIP); "half" gives half of the pairs a wrong image (ViLT).
    `contrast`: wrong partners are drawn by its similarities (hard negatives), without it uniformly;
    `hard` is the share of rows whose partners are drawn so, the others' being uniform (papers: 1).
    `over`: among all ranks, or this rank's rows as the papers do. `same_source`: only among rows of
    the same release (ViLT). `rows` bounds the number of true pairs; 0: all. `alignment` adds the
    optimal transport between words and patches of the same fused tokens.
    """

    fused: str = "match"
    head: str = "match"
    text: str = "words"
    image: str = "patches"
    false: Literal["both", "half"] = "both"
    contrast: Contrast | None = None
    hard: float = 1.0
    over: Literal["all", "rank"] = "all"
    same_source: bool = False
    rows: int = 0
    alignment: Alignment | None = None

    def __post_init__(self) -> None:
        within(0, 1, hard=self.hard)

    @property
    def losses(self) -> tuple[str, ...]:
        """`itm`, with alignment `wra` too."""
        return ("itm",) if self.alignment is None else ("itm", "wra")

    def front(self, model: ModelSpec) -> int:
        """How many tokens of a pair the head reads, from the front; 0: all."""
        head = model.heads[self.head]
        reads_first = isinstance(head, ClassifySpec) and head.pool == "first"
        return 1 if reads_first and self.alignment is None else 0

    def prepare(self, views: Views) -> Prepared:
        """Draw the false pairs; parts are runs of pairs."""
        texts, images, labels = self.pairs(views)
        count = float(len(labels))
        counts = {"itm": count, "itm_right": count}
        if self.alignment is not None:
            counts["wra"] = count

        parts = []
        for rows in views.pair_chunks(len(labels)):
            pairs = {self.text: texts[rows], self.image: images[rows]}
            parts.append(partial(self._loss, views, pairs, labels[rows]))
        return Prepared(counts=counts, parts=parts)

    def pairs(self, views: Views) -> tuple[Tensor, Tensor, Tensor]:
        """Global rows of texts and of images, and 1 where they belong together."""
        count = min(self.rows or views.size, views.size)
        own = views.global_rows(slice(count))
        wrong_image = self._negatives(views, "image")[:count]
        if self.false == "half":
            is_true = self._true_half(views)[:count] | (wrong_image < 0)
            return own, torch.where(is_true, own, wrong_image), is_true.long()

        wrong_text = self._negatives(views, "text")[:count]
        has_text = wrong_text >= 0
        has_image = wrong_image >= 0
        texts = torch.cat([own, wrong_text[has_text], own[has_image]])
        images = torch.cat([own, own[has_text], wrong_image[has_image]])
        labels = torch.zeros(len(texts), dtype=torch.int64)
        labels[:count] = 1
        return texts, images, labels

    def _true_half(self, views: Views) -> Tensor:
        """Exactly half of the global batch, drawn anew in each step: this rank's rows, bool."""
        generator = torch.Generator().manual_seed(views.draws.number("itm half"))
        size = views.ranks.world * views.size
        order = torch.rand(size, generator=generator).argsort()
        is_true = torch.zeros(size, dtype=torch.bool)
        is_true[order[: size // 2]] = True
        return is_true[views.global_rows()]

    def _negatives(self, views: Views, what: Literal["image", "text"]) -> Tensor:
        """For each of this rank's rows the global row of a wrong partner; -1: there is none."""
        candidates = views.keys if self.over == "rank" else views.all_keys()
        forbidden = same(views.keys, candidates)
        if self.same_source:
            forbidden = forbidden | other_source(views.keys, candidates)

        draw = views.draws.uniform(f"itm {what}", views.size)
        rows = random_rows(forbidden, draw)
        if self.contrast is not None:
            similarity = self._similarity(self.contrast, views, what)
            hard = hard_rows(similarity.cpu(), forbidden, draw)
            is_hard = views.draws.uniform(f"itm {what} hard", views.size) < self.hard
            rows = torch.where(is_hard, hard, rows)
        if self.over == "all":
            return rows
        return torch.where(rows >= 0, rows + views.first_row, rows)

    @torch.no_grad()
    def _similarity(
        self, contrast: Contrast, views: Views, what: Literal["image", "text"]
    ) -> Tensor:
        """Scaled cosines of this rank's rows to the candidates, the twin's where there is one."""
        image, text = contrast.vectors(views)
        images, texts = image, text
        if views.twin is not None:
            images, texts = contrast.vectors(views.twin)
        query, candidates = (text, images) if what == "image" else (image, texts)
        if self.over == "all":
            candidates = views.ranks.gather(candidates)
        scale = views.model.head(contrast.scale)
        return scale * (query @ candidates.T)

    def _loss(self, views: Views, pairs: Mapping[str, Tensor], labels: Tensor) -> Sums:
        fused = views.pairs(self.fused, pairs, front=self.front(views.model.spec))
        logits = at_least_float(views.model.head(self.head, fused))
        labels = labels.to(logits.device)
        sums = {
            "itm": F.cross_entropy(logits, labels, reduction="sum"),
            "itm_right": (logits.argmax(1) == labels).sum(),
        }
        if self.alignment is not None:
            sums["wra"] = self.alignment.signed(fused, labels)
        return sums
