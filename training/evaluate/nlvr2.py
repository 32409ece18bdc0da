"""Sentences about two images: accuracy, and how often all pairs of a sentence are told right."""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path
from typing import Any

from training.evaluate.encoded import Tell, left_out, silent
from training.evaluate.lines import PAIR, Asked, opened
from training.evaluate.scorer import Scorer
from training.evaluate.vqa import Said, answers_to
from training.export import load_scorer


def evaluate(
    model: str | Path | Scorer,
    asked: Asked,
    *,
    workers: int = 0,
    tell: Tell = silent,
) -> dict[str, Any]:
    """Accuracy in percent, and `consistency`: the share of sentences that are told right of all
    their pairs (Suhr et al. 2019). 50 is chance.

    Beside it stands what is reached with the images of other sentences, and with images that show
    nothing. A pair of which an image cannot be decoded is left out and counted. ValueError when a
    score is not a number.
    """
    scorer = model if isinstance(model, Scorer) else load_scorer(model)
    samples = opened(asked)
    if any(len(samples.answers(row)) != 1 for row in range(len(samples))):
        raise ValueError(f"{samples.name}: each sentence is true or false; give lines of {PAIR}")
    found = answers_to(scorer, samples, workers, tell)
    labels = [samples.answers(row)[0] for row in range(len(samples))]

    def percent(said: Said) -> float:
        right = [said[row] == labels[row] for row in found.rows if said[row] is not None]
        return round(100 * sum(right) / max(1, len(right)), 2)

    of_sentence = defaultdict(list)
    for row in found.rows:
        of_sentence[samples.texts(row)[0][0]].append(found.seen[row] == labels[row])
    consistent = [all(right) for right in of_sentence.values()]
    return {
        "accuracy": percent(found.seen),
        "consistency": round(100 * sum(consistent) / len(consistent), 2),
        "pairs": len(found.rows),
        "sentences": len(consistent),
        "true": labels.count("true"),
        "chance": {"accuracy": 50.0},
        "blind": {
            "shuffled_images": {"accuracy": percent(found.shuffled)},
            "texts_alone": {"accuracy": percent(found.alone)},
        },
        **left_out(found.bad),
    }
