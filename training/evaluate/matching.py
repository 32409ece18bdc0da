"""Tell the captions of an image from those of others: accuracy, and area under the ROC curve."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from training.data.batch import WORD
from training.data.draws import number_of
from training.evaluate.encoded import ROOM, Encoded, Tell, encode, left_out, silent
from training.evaluate.lines import Asked, opened
from training.evaluate.retrieval import Scores, shuffled
from training.evaluate.scorer import Scorer
from training.export import load_scorer

WRONG = 10  # captions of others that each image is asked about


def evaluate(
    model: str | Path | Scorer,
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
    scorer = model if isinstance(model, Scorer) else load_scorer(model)
    encoded = encode(scorer, opened(asked), room=room, workers=workers, tell=tell)
    if len(encoded.rows) < 2:
        raise ValueError("matching needs two images at least: wrong captions are those of others")
    same = _same_texts(encoded)
    kinds = {"random": random_pairs(encoded, same)}
    if encoded.image_vectors is not None:
        kinds["hardest"] = hardest_pairs(encoded, same)

    pairs = {"true": Pairs(images=encoded.owner, texts=torch.arange(len(encoded.texts))), **kinds}
    partner = shuffled(torch.arange(len(encoded.rows)), len(encoded.rows))
    seen = {name: score(encoded, pair, tell) for name, pair in pairs.items()}
    other = {name: score(encoded, pair.of(partner), tell) for name, pair in pairs.items()}
    alone = encoded.without_images()
    unseen = {name: alone[pair.texts] for name, pair in pairs.items()}

    found: dict[str, Any] = {"true": len(seen["true"])}
    for name in kinds:
        found[name] = _of_kind(name, seen, other, unseen, judged=scorer.matching is not None)
    return {
        **found,
        "candidates": len(encoded.rows),
        "captions": len(encoded.texts),
        "chance": {"auc": 0.5, "accuracy": 50.0},
        **left_out(encoded.bad),
    }


def _of_kind(
    name: str,
    seen: Mapping[str, Tensor],
    other: Mapping[str, Tensor],
    unseen: Mapping[str, Tensor],
    *,
    judged: bool,
) -> dict[str, Any]:
    """Wrong pairs of one kind beside the true ones, as the model sees them and blind."""
    return {
        "wrong": len(seen[name]),
        **_told(seen["true"], seen[name], judged),
        "blind": {
            "shuffled_images": _told(other["true"], other[name], judged),
            "texts_alone": _told(unseen["true"], unseen[name], judged),
        },
    }


@dataclass(frozen=True, kw_only=True)
class Pairs:
    """Places of images and of texts, [m] each."""

    images: Tensor
    texts: Tensor

    def of(self, partner: Tensor) -> Pairs:
        """The same texts beside the images that take the place of theirs."""
        return Pairs(images=partner[self.images], texts=self.texts)


def score(encoded: Encoded, pairs: Pairs, tell: Tell = silent) -> Tensor:
    """[m] log odds of the matching head; of a model without one, scaled cosines."""
    if encoded.scorer.matching is not None:
        return encoded.pairs(pairs.images, pairs.texts, tell)
    assert encoded.image_vectors is not None, "such a model compares"
    assert encoded.text_vectors is not None, "such a model compares"
    images, texts = encoded.image_vectors[pairs.images], encoded.text_vectors[pairs.texts]
    return encoded.scorer.scale() * (images * texts).sum(1)


def _same_texts(encoded: Encoded) -> Tensor:
    """[texts] a number that equal texts share, but for case, signs and blanks."""
    numbers: dict[str, int] = {}
    words = [" ".join(WORD.findall(text.casefold())) for text in encoded.texts]
    return torch.tensor([numbers.setdefault(text, len(numbers)) for text in words])


def _allowed(encoded: Encoded, same: Tensor, image: int) -> Tensor:
    """[texts] whether a text is wrong for an image."""
    own = same[encoded.owner == image]
    return ~torch.isin(same, own)


def random_pairs(encoded: Encoded, same: Tensor) -> Pairs:
    """Ten captions of others for each image, the same whenever it is asked."""
    generator = torch.Generator().manual_seed(number_of("wrong captions", len(encoded.texts)))

    def drawn(image: int) -> Tensor:
        wrong = _allowed(encoded, same, image).nonzero().squeeze(1)
        order = torch.randperm(len(wrong), generator=generator)
        return wrong[order[:WRONG]]

    return _pairs([drawn(image) for image in range(len(encoded.rows))])


def hardest_pairs(encoded: Encoded, same: Tensor) -> Pairs:
    """The ten captions of others that the contrast finds nearest to each image."""
    vectors = encoded.image_vectors, encoded.text_vectors
    assert vectors[0] is not None, "the model compares"
    assert vectors[1] is not None, "the model compares"
    near = Scores(
        images=len(encoded.rows), texts=len(encoded.texts), vectors=(vectors[0], vectors[1])
    )
    found = []
    for start, scores in near:
        for place, row in enumerate(scores):
            allowed = _allowed(encoded, same, start + place)
            count = min(WRONG, int(allowed.sum()))
            found.append(row.masked_fill(~allowed, -torch.inf).topk(count).indices)
    return _pairs(found)


def _pairs(texts: Sequence[Tensor]) -> Pairs:
    counts = torch.tensor([len(one) for one in texts])
    images = torch.arange(len(texts)).repeat_interleave(counts)
    return Pairs(images=images, texts=torch.cat(list(texts)))


def _told(true: Tensor, wrong: Tensor, has_middle: bool) -> dict[str, Any]:
    accuracy = None
    if has_middle:
        right = (true > 0).double().mean() + (wrong < 0).double().mean()
        accuracy = round(50.0 * float(right), 2)
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
