"""The matcher of CapFilt: does this text say what this image shows?"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from training.evaluate.lines import Line, give_images, read_lines
from training.evaluate.scorer import Scorer
from training.export import load_scorer

LINES = 64  # asked about at once: what is held does not grow with a file


@dataclass(frozen=True, kw_only=True)
class Matcher:
    """A trained model that gives each pair the probability that it belongs together."""

    scorer: Scorer

    @classmethod
    def load(cls, model: str | Path) -> Matcher:
        """From the folder `model` of a finished training; ValueError when it is not one."""
        return cls(scorer=load_scorer(model))

    def score(self, images: Sequence[bytes], texts: Sequence[str]) -> list[float]:
        """0..1 for each image (encoded, as fetched) with the text in the same place.

        OSError when an image cannot be decoded; ValueError when the lists differ in length.
        """
        if len(images) != len(texts):
            raise ValueError(f"{len(images)} images and {len(texts)} texts: give one text for each")
        if not images:
            return []
        self.scorer.forget()
        self.scorer.images(images)
        self.scorer.texts(texts)
        rows = torch.arange(len(texts))
        return self.scorer.probability(rows, rows).tolist()

    def score_lines(self, lines: Sequence[Line]) -> list[float]:
        """0..1 for each caption of each line, in their order."""
        self.scorer.forget()
        give_images(self.scorer, lines)
        self.scorer.texts([caption for line in lines for caption in line.captions])
        counts = torch.tensor([len(line.captions) for line in lines])
        owner = torch.arange(len(lines)).repeat_interleave(counts)
        return self.scorer.probability(owner, torch.arange(len(owner))).tolist()


def match(model: str | Path, captions: str | Path) -> Iterator[dict[str, Any]]:
    """Each pair of a file of captioned images with its probability, in the file's order.

    ValueError names file and line of what is wrong, before anything is scored where it is the
    file's form, and when a score is not a number.
    """
    lines = read_lines(captions)
    matcher = Matcher.load(model)
    for start in range(0, len(lines), LINES):
        some = lines[start : start + LINES]
        scores = iter(matcher.score_lines(some))
        for line in some:
            for caption in line.captions:
                yield {"image": str(line.image), "caption": caption, "score": next(scores)}
