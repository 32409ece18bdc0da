"""The matcher of CapFilt: does this text say what this picture shows?"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from training.first.evaluate import Scorer, evaluate, match

__all__ = ["Matcher", "evaluate", "match"]


@dataclass(frozen=True, kw_only=True)
class Matcher:
    """A trained fusion model that gives each pair the probability that it belongs together."""

    scorer: Scorer

    @classmethod
    def load(cls, model_path: str | Path) -> "Matcher":
        """From the folder `model` of a finished training; ValueError when it is not one."""
        return cls(scorer=Scorer.load(model_path))

    def score(self, pictures: Sequence[bytes], texts: Sequence[str]) -> list[float]:
        """0..1 for each picture (encoded, as fetched) with the text in the same place."""
        if len(pictures) != len(texts):
            raise ValueError(f"{len(pictures)} pictures and {len(texts)} texts: give one text for each picture")
        if not pictures:
            return []
        rows = torch.arange(len(texts))
        with torch.inference_mode():
            odds = self.scorer.pairs(self.scorer.encoded(pictures), self.scorer.texts(texts), rows, rows)
        return [float(value) for value in torch.sigmoid(odds)]
