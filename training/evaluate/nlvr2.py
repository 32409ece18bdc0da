"""Sentences about two images: accuracy, and how often all pairs of a sentence are told right."""

from __future__ import annotations

from collections import defaultdict
from typing import Any

from training.evaluate.encoded import AnyModel, Tell, left_out, scorer_of, silent
from training.evaluate.lines import PAIR, Asked, opened
from training.evaluate.vqa import Said, answers_to


def evaluate(
    model: AnyModel,
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
    samples = opened(asked)
    labels = []
    for row in range(len(samples)):
        answers = samples.answers(row)
        if len(answers) != 1:
            raise ValueError(
                f"{samples.name}: each sentence is true or false; give lines of {PAIR}"
            )
        labels.append(answers[0])

    answered = answers_to(scorer_of(model), samples, workers, tell)

    def accuracy(said: Said) -> float:
        right = [said[row] == labels[row] for row in answered.rows if said[row] is not None]
        return _percent(right)

    of_sentence = defaultdict(list)
    for row in answered.rows:
        sentence = samples.texts(row)[0][0]
        of_sentence[sentence].append(answered.seen[row] == labels[row])
    consistent = [all(right) for right in of_sentence.values()]
    return {
        "accuracy": accuracy(answered.seen),
        "consistency": _percent(consistent),
        "pairs": len(answered.rows),
        "sentences": len(consistent),
        "true": labels.count("true"),
        "chance": {"accuracy": 50.0},
        "blind": {
            "shuffled_images": {"accuracy": accuracy(answered.shuffled)},
            "texts_alone": {"accuracy": accuracy(answered.alone)},
        },
        **left_out(answered.bad),
    }


def _percent(right: list[bool]) -> float:
    share = sum(right) / max(1, len(right))
    return round(100 * share, 2)
