"""The matcher of CapFilt: does this text say what this image shows?"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from training.evaluate.encoded import NoneUsable, encode, numbers
from training.evaluate.lines import CaptionsFile, Line, read_lines
from training.evaluate.matching import Pairs
from training.evaluate.matching import score as score_pairs
from training.evaluate.scorer import Scorer
from training.export import load_scorer


@dataclass(frozen=True, kw_only=True)
class Matcher:
    """A trained model that gives each pair the probability that it belongs together.

    It is what the matching head says. A model that only compares is taken at its word too: it
    learnt by scaled cosines which of several pairs is the true one, and here the other one is a
    stranger of cosine 0.
    """

    scorer: Scorer

    @classmethod
    def load(cls, model: str | Path) -> Matcher:
        """From the folder `model` of a finished training; ValueError when it is not one."""
        return cls(scorer=load_scorer(model))

    def score(self, images: Sequence[bytes], texts: Sequence[str]) -> list[float]:
        """0..1 for each image (encoded, as fetched) with the text in the same place.

        OSError when an image cannot be decoded; ValueError when the lists differ in length, or a
        score is not a number.
        """
        if len(images) != len(texts):
            raise ValueError(f"{len(images)} images and {len(texts)} texts: give one text for each")
        if not images:
            return []
        self.scorer.images(images)
        self.scorer.texts(texts)
        if self.scorer.matching is None:
            vectors = self.scorer.image_vectors() * self.scorer.text_vectors()
            odds = self.scorer.scale() * vectors.sum(1)
        else:
            rows = torch.arange(len(texts))
            odds = self.scorer.match(rows, rows)
        return _probabilities(odds)

    def score_lines(self, lines: Sequence[Line]) -> list[float | str]:
        """0..1 for each caption of each line, in their order; why there is none, where so."""
        try:
            # an image may kill its decoder
            encoded = encode(self.scorer, CaptionsFile(lines), workers=1)
        except NoneUsable as none:
            return [none.bad[str(line.image)] for line in lines for _ in line.captions]
        pairs = Pairs(images=encoded.owner, texts=torch.arange(len(encoded.texts)))
        scores = iter(_probabilities(score_pairs(encoded, pairs)))
        found: list[float | str] = []
        for line in lines:
            bad = encoded.bad.get(str(line.image))
            found += [next(scores) if bad is None else bad for _ in line.captions]
        return found


def _probabilities(odds: Tensor) -> list[float]:
    """In float64, where large odds are not all 1."""
    found: list[float] = numbers(torch.sigmoid(odds.double().cpu())).tolist()
    return found


def match(model: str | Path, captions: str | Path) -> Iterator[dict[str, Any]]:
    """Each pair of a file of captioned images with its probability, in the file's order.

    An image that cannot be decoded has none (null), and its `error`. ValueError names file and line
    where the file's form is wrong, and says when a score is not a number.
    """
    lines = read_lines(captions)
    scores = iter(Matcher.load(model).score_lines(lines))
    for line in lines:
        for caption in line.captions:
            pair = {"image": str(line.image), "caption": caption}
            score = next(scores)
            if isinstance(score, str):
                yield {**pair, "score": None, "error": score}
            else:
                yield {**pair, "score": score}
