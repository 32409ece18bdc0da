"""Tell the captions of an image from those of others: accuracy, and area under the ROC curve."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from training.data.batch import normalized
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
from training.evaluate.retrieval import Scores, shuffled

WRONG = 10  # captions of others that are paired with each image


def evaluate(
    model: AnyModel,
    asked: Asked,
    *,
    room: int = ROOM,
    workers: int = 0,
    tell: Tell = silent,
) -> dict[str, Any]:
    """How well true pairs are told from wrong ones.

    Wrong are ten random captions of others for each image; and, where the model compares, the ten
    that are nearest to it (`hardest`). A text that an image has itself, but for case and signs, is
    never wrong for it. A pair's score is that of the matching head, of a model without one its
    cosine. `auc` is the probability that a true pair scores above a wrong one (a tie counts half);
    `accuracy`, in percent, the mean of the shares of true and of wrong pairs that are told right at
    probability .5; null for a model without a matching head, whose cosines have no such point.

    Beside each stand its blind baselines: `shuffled_images` and `texts_alone` (an image that shows
    nothing); .5 and 50 are chance. ValueError when a score is not a number.
    """
    scorer = scorer_of(model)
    encoded = encode(scorer, opened(asked), room=room, workers=workers, tell=tell)
    if len(encoded.rows) < 2:
        raise ValueError("matching needs two images at least: wrong captions are those of others")

    same = _same_texts(encoded)
    wrong = {"random": random_pairs(encoded, same)}
    if encoded.image_vectors is not None:
        wrong["hardest"] = hardest_pairs(encoded, same)

    own = {}
    other = {}
    alone = {}
    partner = shuffled(torch.arange(len(encoded.rows)), len(encoded.rows))
    true = Pairs(images=encoded.owner, texts=torch.arange(len(encoded.texts)))
    pairs = {"true": true, **wrong}
    for kind, of_kind in pairs.items():
        shuffled_pairs = Pairs(images=partner[of_kind.images], texts=of_kind.texts)
        own[kind] = score(encoded, of_kind, tell)
        other[kind] = score(encoded, shuffled_pairs, tell)
    texts_alone = encoded.without_images()
    for kind, of_kind in pairs.items():
        alone[kind] = texts_alone[of_kind.texts]

    has_middle = scorer.matching is not None
    results: dict[str, Any] = {"true": len(own["true"])}
    for kind in wrong:
        results[kind] = {
            "wrong": len(own[kind]),
            **_separation(own["true"], own[kind], has_middle),
            "blind": {
                "shuffled_images": _separation(other["true"], other[kind], has_middle),
                "texts_alone": _separation(alone["true"], alone[kind], has_middle),
            },
        }
    return {
        **results,
        "candidates": len(encoded.rows),
        "captions": len(encoded.texts),
        "chance": {"auc": 0.5, "accuracy": 50.0},
        **left_out(encoded.bad),
    }


@dataclass(frozen=True, kw_only=True)
class Pairs:
    """Indices of images and of texts, [m] each."""

    images: Tensor
    texts: Tensor


def score(encoded: Encoded, pairs: Pairs, tell: Tell = silent) -> Tensor:
    """[m] log odds of the matching head; of a model without one, scaled cosines."""
    if encoded.scorer.matching is not None:
        return encoded.pairs(pairs.images, pairs.texts, tell)

    image_vectors, text_vectors = _vectors(encoded)
    images = image_vectors[pairs.images]
    texts = text_vectors[pairs.texts]
    return encoded.scorer.scale() * (images * texts).sum(1)


def _vectors(encoded: Encoded) -> tuple[Tensor, Tensor]:
    assert encoded.image_vectors is not None, "the model compares"
    assert encoded.text_vectors is not None, "the model compares"
    return encoded.image_vectors, encoded.text_vectors


def _same_texts(encoded: Encoded) -> Tensor:
    """[texts] a number that equal texts share, but for case, signs and blanks."""
    numbers: dict[str, int] = {}
    same = []
    for text in encoded.texts:
        number = numbers.setdefault(normalized(text), len(numbers))
        same.append(number)
    return torch.tensor(same)


def _is_wrong(encoded: Encoded, same: Tensor, image: int) -> Tensor:
    """[texts] whether a text is wrong for an image."""
    own = same[encoded.owner == image]
    return ~torch.isin(same, own)


def random_pairs(encoded: Encoded, same: Tensor) -> Pairs:
    """Ten captions of others for each image, the same in every evaluation."""
    generator = torch.Generator().manual_seed(number_of("wrong captions", len(encoded.texts)))
    texts = []
    for image in range(len(encoded.rows)):
        wrong = _is_wrong(encoded, same, image).nonzero().squeeze(1)
        order = torch.randperm(len(wrong), generator=generator)
        texts.append(wrong[order[:WRONG]])
    return _pairs(texts)


def hardest_pairs(encoded: Encoded, same: Tensor) -> Pairs:
    """The ten captions of others that the contrast finds nearest to each image."""
    similarity = Scores(
        images=len(encoded.rows), texts=len(encoded.texts), vectors=_vectors(encoded)
    )
    texts = []
    for start, rows in similarity:
        for image, scores in enumerate(rows, start):
            wrong = _is_wrong(encoded, same, image)
            count = min(WRONG, int(wrong.sum()))
            masked = scores.masked_fill(~wrong, -torch.inf)
            texts.append(masked.topk(count).indices)
    return _pairs(texts)


def _pairs(texts_of_images: Sequence[Tensor]) -> Pairs:
    images = []
    for image, texts in enumerate(texts_of_images):
        images.append(torch.full_like(texts, image))
    return Pairs(images=torch.cat(images), texts=torch.cat(list(texts_of_images)))


def _separation(true: Tensor, wrong: Tensor, has_middle: bool) -> dict[str, Any]:
    """The metrics of true scores against wrong ones; `has_middle`: 0 parts them."""
    accuracy = None
    if has_middle:
        accepted = (true > 0).double().mean()
        rejected = (wrong < 0).double().mean()
        accuracy = round(50.0 * float(accepted + rejected), 2)
    return {"auc": round(auc(true, wrong), 4), "accuracy": accuracy}


def auc(true: Tensor, wrong: Tensor) -> float:
    """The probability that a true score is above a wrong one; a tie counts half.

    ValueError when there is none of either.
    """
    if not len(true) or not len(wrong):
        raise ValueError("there are no wrong captions: all images share theirs")
    ordered = wrong.sort().values
    below = torch.searchsorted(ordered, true, right=False)
    not_above = torch.searchsorted(ordered, true, right=True)
    return float((below + not_above).double().mean()) / (2 * len(wrong))
