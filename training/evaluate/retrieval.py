"""Find the image of each text, and a text of each image, among all."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from training.evaluate.lines import Line, give_images
from training.evaluate.scorer import Scorer
from training.export import load_scorer

CUTS = (1, 5, 10)  # R@1, R@5, R@10: what the papers report
SHORTLIST = 32  # of each image and of each text; BLIP takes 256 on COCO, 128 on Flickr30k
UNRANKED = -1e4  # far below any sum of log odds and scaled cosine


def evaluate(
    model: str | Path | Scorer, lines: Sequence[Line], *, shortlist: int = SHORTLIST
) -> dict[str, Any]:
    """Recall in percent at 1, 5 and 10, both ways, over all images and captions of some lines.

    A model with a contrast ranks by it; with a matching head too, that judges the best `shortlist`
    of each image and of each text, and both scores are added (BLIP). Without a contrast, or with
    `shortlist` 0, every pair is judged. An image counts as found when any of its captions ranks
    high enough (Karpathy and Fei-Fei 2015); a tie counts against the model. Chance stands beside.
    """
    scorer = model if isinstance(model, Scorer) else load_scorer(model)
    scorer.forget()
    give_images(scorer, lines)
    scorer.texts([caption for line in lines for caption in line.captions])
    owner = owners(lines)
    scores, judged = scored(scorer, len(lines), len(owner), shortlist)
    return {
        **recalls(scores, owner),
        "candidates": len(lines),
        "captions": len(owner),
        "pairs_judged": judged,
        "shortlist": shortlist,
        "chance": chance(lines),
    }


def owners(lines: Sequence[Line]) -> Tensor:
    """[captions] int64: the image that each caption belongs to."""
    counts = torch.tensor([len(line.captions) for line in lines])
    return torch.arange(len(lines)).repeat_interleave(counts)


def scored(scorer: Scorer, images: int, texts: int, shortlist: int) -> tuple[Tensor, int]:
    """[images, texts] scores, and how many pairs the matching head judged.

    ValueError when a score is not a number: it would rank anywhere.
    """
    wanted = torch.ones(images, texts, dtype=torch.bool)
    near = torch.zeros(images, texts)
    if scorer.contrast is not None:
        near = scorer.similarity().float().cpu()
    if scorer.contrast is not None and scorer.matching is None:
        return _numbers(near), 0
    if scorer.contrast is not None and shortlist:
        wanted = best_of_rows_and_columns(near, shortlist)

    rows, columns = wanted.nonzero(as_tuple=True)
    odds = scorer.match(rows, columns).float().cpu()
    scores = near + UNRANKED
    scores[rows, columns] = near[rows, columns] + odds
    return _numbers(scores), len(rows)


def _numbers(scores: Tensor) -> Tensor:
    bad = int((~torch.isfinite(scores)).sum())
    if bad:
        raise ValueError(
            f"{bad} of {scores.numel()} scores are not numbers: the model has come apart; train it "
            "again with a lower lr"
        )
    return scores


def best_of_rows_and_columns(near: Tensor, count: int) -> Tensor:
    """True for the best `count` of each row and of each column."""
    wanted = torch.zeros_like(near, dtype=torch.bool)
    of_rows = near.topk(min(count, near.shape[1]), dim=1).indices
    of_columns = near.topk(min(count, near.shape[0]), dim=0).indices
    wanted.scatter_(1, of_rows, True)
    return wanted.scatter_(0, of_columns, True)


def recalls(scores: Tensor, owner: Tensor) -> dict[str, dict[str, float]]:
    """scores [images, captions] and the image of each caption -> R@k in percent, both ways."""
    own = scores[owner, torch.arange(len(owner))]
    rank_of_image = (scores >= own[None, :]).sum(dim=0)  # the true one counts itself: 1 is best

    mine = owner[None, :] == torch.arange(len(scores))[:, None]
    best = scores.masked_fill(~mine, -torch.inf).amax(dim=1)
    rank_of_text = (~mine & (scores >= best[:, None])).sum(dim=1) + 1
    return {"text_to_image": _at(rank_of_image), "image_to_text": _at(rank_of_text)}


def _at(ranks: Tensor) -> dict[str, float]:
    return {f"r{cut}": round(100.0 * float((ranks <= cut).double().mean()), 2) for cut in CUTS}


def chance(lines: Sequence[Line]) -> dict[str, dict[str, float]]:
    """What recalls are on average when all orders are equally likely, in percent."""
    images = len(lines)
    captions = sum(len(line.captions) for line in lines)
    found = {f"r{cut}": round(100.0 * min(1.0, cut / images), 2) for cut in CUTS}
    back = {}
    for cut in CUTS:
        missed = [_all_missed(captions, len(line.captions), cut) for line in lines]
        back[f"r{cut}"] = round(100.0 * (1 - sum(missed) / images), 2)
    return {"text_to_image": found, "image_to_text": back}


def _all_missed(captions: int, own: int, cut: int) -> float:
    """The probability that none of `own` captions is among the first `cut` of all."""
    missed = 1.0
    for place in range(min(cut, captions)):
        missed *= max(0, captions - own - place) / (captions - place)
    return missed
