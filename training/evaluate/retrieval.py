"""Find the image of each text, and a text of each image, among all."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from training.data.draws import number_of
from training.evaluate.encoded import ROOM, Encoded, Tell, encode, left_out, silent
from training.evaluate.lines import Asked, opened
from training.evaluate.scorer import Scorer
from training.export import load_scorer

CUTS = (1, 5, 10)  # R@1, R@5, R@10: what the papers report
SHORTLIST = 32  # of each image and of each text; BLIP takes 256 on COCO, 128 on Flickr30k
UNRANKED = 1e4  # far above any sum of log odds and scaled cosine
ROWS = 128  # images whose scores with all texts are held at a time


def evaluate(
    model: str | Path | Scorer,
    asked: Asked,
    *,
    shortlist: int = SHORTLIST,
    room: int = ROOM,
    workers: int = 0,
    tell: Tell = silent,
) -> dict[str, Any]:
    """Recall in percent at 1, 5 and 10, both ways, over all images and captions.

    A model with a contrast ranks by it; with a matching head too, that judges the best `shortlist`
    of each image and of each text, and both scores are added (BLIP). Without a contrast, or with
    `shortlist` 0, every pair is judged. An image counts as found when any of its captions ranks
    high enough (Karpathy and Fei-Fei 2015); a tie counts against the model.

    Chance stands beside it, and what a blind model reaches: `shuffled_images` gives each image the
    captions of another one, `texts_alone` ranks the texts by what each is given beside an image
    that shows nothing. ValueError when a score is not a number.
    """
    scorer = model if isinstance(model, Scorer) else load_scorer(model)
    encoded = encode(scorer, opened(asked), room=room, workers=workers, tell=tell)
    scores = scores_of(encoded, shortlist, tell)
    captions = torch.bincount(encoded.owner, minlength=len(encoded.rows))
    return {
        **recalls(scores, encoded.owner),
        "candidates": len(encoded.rows),
        "captions": len(encoded.texts),
        "pairs_judged": scores.judged,
        "shortlist": shortlist,
        "chance": chance(captions.tolist()),
        "blind": blind(encoded, scores),
        **left_out(encoded.bad),
    }


def blind(encoded: Encoded, scores: Scores) -> dict[str, Any]:
    """Recalls of a model that does not see the right image, or none."""
    prior = Scores(images=1, texts=len(encoded.texts), odds=encoded.without_images()[None])
    alone = prior.expand(len(encoded.rows))
    return {
        "shuffled_images": recalls(scores, shuffled(encoded.owner, len(encoded.rows))),
        "texts_alone": {"image_to_text": recalls(alone, encoded.owner)["image_to_text"]},
    }


def shuffled(owner: Tensor, images: int) -> Tensor:
    """For each text another image than its own; the same whenever it is asked."""
    generator = torch.Generator().manual_seed(number_of("shuffled images", images))
    order = torch.randperm(images, generator=generator)
    partner = torch.empty(images, dtype=torch.int64)
    partner[order] = order.roll(1)
    return partner[owner]


@dataclass(frozen=True, kw_only=True)
class Scores:
    """Scores of all images with all texts, of which a few rows exist at a time.

    `vectors` of images (scaled) and of texts, where the model compares; `odds` of all pairs, or of
    some `pairs` (image and text of each, in the images' order), where it judges.
    """

    images: int
    texts: int
    vectors: tuple[Tensor, Tensor] | None = None
    odds: Tensor | None = None
    pairs: tuple[Tensor, Tensor, Tensor] | None = None

    @property
    def judged(self) -> int:
        """How many pairs a matching head judged."""
        if self.pairs is not None:
            return len(self.pairs[0])
        return 0 if self.odds is None else self.odds.numel()

    def __iter__(self) -> Iterator[tuple[int, Tensor]]:
        """Runs of images with their scores [images, texts]: where each begins, and what it has."""
        for start in range(0, self.images, ROWS):
            stop = min(start + ROWS, self.images)
            yield start, self.rows(start, stop)

    def rows(self, start: int, stop: int) -> Tensor:
        """[stop - start, texts], the same numbers whenever they are asked for."""
        scores = torch.zeros(stop - start, self.texts, dtype=torch.float64)
        if self.vectors is not None:
            images, texts = self.vectors
            scores += images[start:stop] @ texts.T
        if self.odds is not None:
            scores += self.odds[start:stop]
        if self.pairs is not None:
            rows, columns, odds = self.pairs
            first, last = torch.searchsorted(rows, torch.tensor([start, stop])).tolist()
            rows, columns = rows[first:last] - start, columns[first:last]
            scores[rows, columns] += odds[first:last].double() + UNRANKED
        return scores

    def expand(self, images: int) -> Scores:
        """The same row for so many images."""
        assert self.odds is not None, "only given scores are expanded"
        return Scores(images=images, texts=self.texts, odds=self.odds.expand(images, -1))


def scores_of(encoded: Encoded, shortlist: int, tell: Tell = silent) -> Scores:
    """All scores of a model; ValueError when one is not a number."""
    images, texts = len(encoded.rows), len(encoded.texts)
    vectors = None
    if encoded.image_vectors is not None and encoded.text_vectors is not None:
        vectors = encoded.scorer.scale() * encoded.image_vectors, encoded.text_vectors

    near = Scores(images=images, texts=texts, vectors=vectors)
    if encoded.scorer.matching is None:
        return near
    if vectors is None or not shortlist:
        odds = encoded.every_pair(tell)
        return Scores(images=images, texts=texts, vectors=vectors, odds=odds)

    rows, columns = best_of_rows_and_columns(near, shortlist)
    judged = encoded.pairs(rows, columns, tell)
    return Scores(images=images, texts=texts, vectors=vectors, pairs=(rows, columns, judged))


def best_of_rows_and_columns(near: Scores, count: int) -> tuple[Tensor, Tensor]:
    """Images and texts of the pairs among the best `count` of their image or of their text."""
    found = []
    best = torch.zeros(0, near.texts, dtype=torch.float64)
    best_image = torch.zeros(0, near.texts, dtype=torch.int64)
    for start, scores in near:
        of_rows = scores.topk(min(count, near.texts), dim=1).indices
        places = torch.arange(start, start + len(scores))
        found.append((places[:, None] * near.texts + of_rows).flatten())

        best = torch.cat([best, scores])
        best_image = torch.cat([best_image, places[:, None].expand(-1, near.texts)])
        kept = best.topk(min(count, len(best)), dim=0).indices
        best, best_image = best.gather(0, kept), best_image.gather(0, kept)

    found.append((best_image * near.texts + torch.arange(near.texts)).flatten())
    pairs = torch.cat(found).unique()
    return pairs // near.texts, pairs % near.texts


def recalls(scores: Scores, owner: Tensor) -> dict[str, dict[str, float]]:
    """The image of each caption -> R@k in percent, both ways."""
    own = torch.zeros(scores.texts, dtype=torch.float64)
    best = torch.zeros(scores.images, dtype=torch.float64)
    for start, rows in scores:
        mine = _mine(owner, start, len(rows))
        own = torch.where(mine.any(0), rows.masked_fill(~mine, -torch.inf).amax(0), own)
        best[start : start + len(rows)] = rows.masked_fill(~mine, -torch.inf).amax(1)

    rank_of_image = torch.zeros(scores.texts, dtype=torch.int64)
    rank_of_text = torch.ones(scores.images, dtype=torch.int64)
    for start, rows in scores:
        rank_of_image += (rows >= own[None, :]).sum(0)  # the true one counts itself: 1 is best
        mine = _mine(owner, start, len(rows))
        stop = start + len(rows)
        rank_of_text[start:stop] += (~mine & (rows >= best[start:stop, None])).sum(1)
    return {"text_to_image": _at(rank_of_image), "image_to_text": _at(rank_of_text)}


def _mine(owner: Tensor, start: int, count: int) -> Tensor:
    """[count, texts]: whether a text belongs to an image."""
    return owner[None, :] == torch.arange(start, start + count)[:, None]


def _at(ranks: Tensor) -> dict[str, float]:
    return {f"r{cut}": round(100.0 * float((ranks <= cut).double().mean()), 2) for cut in CUTS}


def chance(captions: list[int]) -> dict[str, dict[str, float]]:
    """What recalls are on average when all orders are equally likely, in percent.

    `captions`: how many each image has.
    """
    images, texts = len(captions), sum(captions)
    found = {f"r{cut}": round(100.0 * min(1.0, cut / images), 2) for cut in CUTS}
    back = {}
    for cut in CUTS:
        missed = [_all_missed(texts, own, cut) for own in captions]
        back[f"r{cut}"] = round(100.0 * (1 - sum(missed) / images), 2)
    return {"text_to_image": found, "image_to_text": back}


def _all_missed(captions: int, own: int, cut: int) -> float:
    """The probability that none of `own` captions is among the first `cut` of all."""
    missed = 1.0
    for place in range(min(cut, captions)):
        missed *= max(0, captions - own - place) / (captions - place)
    return missed
