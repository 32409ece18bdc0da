"""Find the image of each text, and a text of each image, among all."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from training.data.draws import number_of
from training.evaluate.encoded import (
    ROOM,
    AnyModel,
    Encoded,
    Tell,
    encode,
    left_out,
    scorer_of,
    silent,
)
from training.evaluate.lines import Asked, opened

CUTS = (1, 5, 10)  # R@1, R@5, R@10: what the papers report
SHORTLIST = 32  # of each image and of each text; BLIP takes 256 on COCO, 128 on Flickr30k
UNRANKED = 1e4  # far above any sum of log odds and scaled cosine
ROWS = 128  # images whose scores with all texts are held at a time

Recalls = dict[str, float]


def evaluate(
    model: AnyModel,
    asked: Asked,
    *,
    shortlist: int = SHORTLIST,
    room: int = ROOM,
    workers: int = 0,
    tell: Tell = silent,
) -> dict[str, Any]:
    """Recall in percent at 1, 5 and 10, both ways, over all images and captions.

    A model with a contrast ranks by it; with a matching head too, that scores the best `shortlist`
    of each image and of each text, and the logarithm of the probability is added (BLIP adds its
    logit). Without a contrast, or with `shortlist` 0, every pair is scored. An image counts as
    found when any of its captions ranks high enough (Karpathy and Fei-Fei 2015); a tie counts
    against the model.

    Chance stands beside it, and what a blind model reaches: `shuffled_images` gives each image the
    captions of another one, `texts_alone` ranks the texts by their scores beside an image that
    shows nothing. ValueError when a score is not a number.
    """
    samples = opened(asked)
    encoded = encode(scorer_of(model), samples, room=room, workers=workers, tell=tell)
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
    images = len(encoded.rows)
    prior = encoded.without_images()
    odds = prior.expand(images, -1)  # the same for every image
    alone = Scores(images=images, texts=len(prior), odds=odds)

    other = shuffled(encoded.owner, images)
    ranked_by_texts = recalls(alone, encoded.owner)
    return {
        "shuffled_images": recalls(scores, other),
        "texts_alone": {"image_to_text": ranked_by_texts["image_to_text"]},
    }


def shuffled(owner: Tensor, images: int) -> Tensor:
    """For each text another image than its own; the same in every evaluation."""
    generator = torch.Generator().manual_seed(number_of("shuffled images", images))
    order = torch.randperm(images, generator=generator)
    partner = torch.empty(images, dtype=torch.int64)
    partner[order] = order.roll(1)
    return partner[owner]


@dataclass(frozen=True, kw_only=True)
class Scores:
    """Scores of all images with all texts, of which a few rows exist at a time.

    `vectors` of images (scaled) and of texts, where the model compares; `odds` of all pairs, or of
    some `pairs` (image and text of each, in the images' order), where it has a matching head.
    """

    images: int
    texts: int
    vectors: tuple[Tensor, Tensor] | None = None
    odds: Tensor | None = None
    pairs: tuple[Tensor, Tensor, Tensor] | None = None

    @property
    def judged(self) -> int:
        """How many pairs a matching head scored."""
        if self.pairs is not None:
            return len(self.pairs[0])
        if self.odds is not None:
            return self.odds.numel()
        return 0

    def __iter__(self) -> Iterator[tuple[int, Tensor]]:
        """Blocks of images with their scores [images, texts]: the first image, and the scores."""
        for start in range(0, self.images, ROWS):
            stop = min(start + ROWS, self.images)
            yield start, self.rows(start, stop)

    def rows(self, start: int, stop: int) -> Tensor:
        """[stop - start, texts], the same numbers in every call."""
        scores = torch.zeros(stop - start, self.texts, dtype=torch.float64)
        if self.vectors is not None:
            images, texts = self.vectors
            scores += images[start:stop] @ texts.T
        if self.odds is not None:
            scores += self._judgement(self.odds[start:stop])
        if self.pairs is not None:
            image, text, odds = self.pairs
            bounds = torch.tensor([start, stop])
            first, last = torch.searchsorted(image, bounds).tolist()
            row = image[first:last] - start
            column = text[first:last]
            scores[row, column] += self._judgement(odds[first:last]) + UNRANKED
        return scores

    def _judgement(self, odds: Tensor) -> Tensor:
        """What the matching head adds: beside cosines the logarithm of its probability.

        Log odds would let pairs that it is sure of outweigh all cosines (docs/log.md).
        """
        odds = odds.double()
        return odds if self.vectors is None else F.logsigmoid(odds)


def scores_of(encoded: Encoded, shortlist: int, tell: Tell = silent) -> Scores:
    """All scores of a model; ValueError when one is not a number."""
    images = len(encoded.rows)
    texts = len(encoded.texts)
    vectors = None
    if encoded.image_vectors is not None and encoded.text_vectors is not None:
        vectors = encoded.scorer.scale() * encoded.image_vectors, encoded.text_vectors

    similarity = Scores(images=images, texts=texts, vectors=vectors)
    if encoded.scorer.matching is None:
        return similarity

    if vectors is None or not shortlist:
        odds = encoded.every_pair(tell)
        return Scores(images=images, texts=texts, vectors=vectors, odds=odds)

    image, text = best_of_rows_and_columns(similarity, shortlist)
    odds = encoded.pairs(image, text, tell)
    return Scores(images=images, texts=texts, vectors=vectors, pairs=(image, text, odds))


def best_of_rows_and_columns(scores: Scores, count: int) -> tuple[Tensor, Tensor]:
    """Images and texts of the pairs among the best `count` of their image or of their text."""
    texts = torch.arange(scores.texts)
    best = torch.zeros(0, scores.texts, dtype=torch.float64)  # of each text, until now
    best_image = torch.zeros(0, scores.texts, dtype=torch.int64)
    pairs = []  # image * texts + text
    for start, rows in scores:
        stop = start + len(rows)
        images = torch.arange(start, stop)[:, None]
        best_texts = rows.topk(min(count, scores.texts), dim=1).indices
        pairs.append(images * scores.texts + best_texts)

        best = torch.cat([best, rows])
        best_image = torch.cat([best_image, images.expand_as(rows)])
        best, order = best.topk(min(count, len(best)), dim=0)
        best_image = best_image.gather(0, order)

    pairs.append(best_image * scores.texts + texts)
    flat = torch.cat([part.flatten() for part in pairs])
    distinct = flat.unique()
    return distinct // scores.texts, distinct % scores.texts


def recalls(scores: Scores, owner: Tensor) -> dict[str, Recalls]:
    """The image of each caption -> R@k in percent, both ways."""
    own_score = torch.zeros(scores.texts, dtype=torch.float64)
    best_own_score = torch.zeros(scores.images, dtype=torch.float64)
    for start, rows in scores:
        mine = _owned(owner, start, len(rows))
        masked = rows.masked_fill(~mine, -torch.inf)
        own_score = torch.where(mine.any(0), masked.amax(0), own_score)
        best_own_score[start : start + len(rows)] = masked.amax(1)

    rank_of_image = torch.zeros(scores.texts, dtype=torch.int64)
    rank_of_text = torch.ones(scores.images, dtype=torch.int64)
    for start, rows in scores:
        not_worse = rows >= own_score[None, :]
        rank_of_image += not_worse.sum(0)  # the true one counts itself: 1 is best

        block = slice(start, start + len(rows))
        wrong = ~_owned(owner, start, len(rows))
        not_worse = rows >= best_own_score[block, None]
        rank_of_text[block] += (wrong & not_worse).sum(1)
    return {"text_to_image": _recall(rank_of_image), "image_to_text": _recall(rank_of_text)}


def _owned(owner: Tensor, start: int, count: int) -> Tensor:
    """[count, texts]: whether a text belongs to an image."""
    images = torch.arange(start, start + count)
    return owner[None, :] == images[:, None]


def _recall(ranks: Tensor) -> Recalls:
    recall = {}
    for cut in CUTS:
        hits = (ranks <= cut).double()
        recall[f"r{cut}"] = _percent(float(hits.mean()))
    return recall


def _percent(share: float) -> float:
    return round(100.0 * share, 2)


def chance(captions: Sequence[int]) -> dict[str, Recalls]:
    """What recalls are on average when all orders are equally likely, in percent.

    `captions`: how many each image has.
    """
    images = len(captions)
    texts = sum(captions)
    text_to_image = {}
    image_to_text = {}
    for cut in CUTS:
        text_to_image[f"r{cut}"] = _percent(min(1.0, cut / images))
        missed = sum(_all_missed(texts, own, cut) for own in captions)
        image_to_text[f"r{cut}"] = _percent(1 - missed / images)
    return {"text_to_image": text_to_image, "image_to_text": image_to_text}


def _all_missed(captions: int, own: int, cut: int) -> float:
    """The probability that none of `own` captions is among the first `cut` of all."""
    missed = 1.0
    for rank in range(min(cut, captions)):
        left = captions - rank
        missed *= max(0, left - own) / left
    return missed
