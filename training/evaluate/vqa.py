"""Questions about images: the official accuracy of VQA, beside what is reached without images."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from training.answers import accuracy, normal
from training.data.reading import read_in_order
from training.data.shards import Release
from training.evaluate.encoded import (
    AnyModel,
    NoneUsable,
    Tell,
    grey,
    left_out,
    numbers,
    scorer_of,
    silent,
)
from training.evaluate.lines import PAIR, QUESTION, Asked, opened
from training.evaluate.retrieval import shuffled
from training.evaluate.scorer import Scorer

KINDS = ("yes/no", "number", "other")

Said = list[str | None]  # an answer to each question; None where its image cannot be decoded
References = Sequence[Sequence[str]]  # of each question what people answered


@dataclass(frozen=True, kw_only=True)
class Answered:
    """What a model answers to the questions of samples."""

    rows: list[int]  # samples whose images could be decoded
    seen: Said
    shuffled: Said  # about the images of other samples
    alone: Said  # about an image that shows nothing
    bad: Mapping[str, str]  # images that cannot be used, and why


def evaluate(
    model: AnyModel,
    asked: Asked,
    *,
    workers: int = 0,
    tell: Tell = silent,
) -> dict[str, Any]:
    """Accuracy in percent as the official evaluation of VQA v2 has it, of all and by kinds.

    An answer that nobody of the training data gave cannot be said: `best_possible` is what that
    leaves. Beside it stands what is reached with the images of other questions, with an image that
    shows nothing (`texts_alone`), and with one answer to all. A question whose image cannot be
    decoded is left out and counted. ValueError when a score is not a number.
    """
    scorer = scorer_of(model)
    samples = opened(asked)
    answered = answers_to(scorer, samples, workers, tell)
    classes = _classes(scorer)
    references = [samples.answers(row) for row in range(len(samples))]
    readable = [references[row] for row in answered.rows]

    def percent(said: Said, rows: Iterable[int] = answered.rows) -> float:
        scores = []
        for row in rows:
            answer = said[row]
            if answer is not None:
                scores.append(accuracy(answer, references[row]))
        return _percent(sum(scores), len(scores))

    kinds = {}
    for kind in KINDS:
        rows = [row for row in answered.rows if kind_of(references[row]) == kind]
        if rows:
            kinds[kind] = percent(answered.seen, rows)
    return {
        "accuracy": percent(answered.seen),
        "kinds": kinds,
        "questions": len(answered.rows),
        "answers": len(classes),
        "best_possible": _best_possible(readable, classes),
        "blind": {
            "shuffled_images": {"accuracy": percent(answered.shuffled)},
            "texts_alone": {"accuracy": percent(answered.alone)},
            "one_answer": _one_answer(readable, classes),
        },
        **left_out(answered.bad),
    }


def _classes(scorer: Scorer) -> Sequence[str]:
    """The answers that a model can give; ValueError when there are none."""
    if scorer.answers is None:
        raise ValueError("this model answers nothing: train it further by `vqa` or `nlvr2`")
    return scorer.answers.classes


def _percent(total: float, count: int) -> float:
    return round(100 * total / max(1, count), 2)


def kind_of(answers: Sequence[str]) -> str:
    """What kind of question it is, told by the most frequent answer."""
    normalized = list(map(normal, answers))
    most = max(normalized, key=normalized.count)
    if most in ("yes", "no"):
        return "yes/no"
    if most.replace(".", "").isdigit():
        return "number"
    return "other"


def _best_possible(references: References, classes: Sequence[str]) -> float:
    """Accuracy of whoever gives the best answer that is a class."""
    known = set(classes)
    total = 0.0
    for answers in references:
        sayable = [answer for answer in answers if normal(answer) in known]
        total += max((accuracy(answer, answers) for answer in sayable), default=0.0)
    return _percent(total, len(references))


def _one_answer(references: References, classes: Sequence[str]) -> dict[str, Any]:
    """The answer that is right most often when all questions get it."""
    totals = dict.fromkeys(classes, 0.0)
    for answers in references:
        distinct = set(map(normal, answers))
        for answer in distinct & totals.keys():
            totals[answer] += accuracy(answer, answers)
    best = max(totals, key=lambda answer: totals[answer])
    return {"accuracy": _percent(totals[best], len(references)), "answer": best}


def answers_to(scorer: Scorer, samples: Release, workers: int, tell: Tell) -> Answered:
    """What a model answers; ValueError when it answers nothing, when samples bring no answers to
    compare, or none of their images can be decoded.
    """
    classes = _classes(scorer)
    count = len(samples)
    silent_rows = [row for row in range(count) if not samples.answers(row)]
    if silent_rows:
        raise ValueError(
            f"{samples.name}: {len(silent_rows)} of {count} samples have no answers to compare, "
            f"number {silent_rows[0]} first; give lines of {QUESTION} or {PAIR}"
        )

    bad: dict[str, str] = {}

    def about(images: Sequence[int]) -> Said:
        """Answers to all questions, each about the image of the sample that stands there."""
        said: Said = [None] * count
        question_of = {image: question for question, image in enumerate(images)}
        specs = scorer.image_specs
        for part in read_in_order(samples, specs, images, batch=scorer.batch, workers=workers):
            for row, reason in part.bad.items():
                bad[samples.image_id(row)] = reason
            if part.rows:
                scorer.pixels(part.images)
                questions = [question_of[row] for row in part.rows]
                answers = _answer(scorer, samples, questions, torch.arange(len(questions)))
                for question, answer in zip(questions, answers, strict=True):
                    said[question] = classes[answer]
            tell("answer questions", part.done, count)
        return said

    seen = about(range(count))
    rows = [row for row, answer in enumerate(seen) if answer is not None]
    if not rows:
        raise NoneUsable(samples, bad)
    partner = shuffled(torch.arange(count), count)
    return Answered(
        rows=rows,
        seen=seen,
        shuffled=about(partner.tolist()),
        alone=_alone(scorer, samples),
        bad=bad,
    )


def _alone(scorer: Scorer, samples: Release) -> Said:
    """Answers to all questions about an image that shows nothing."""
    classes = _classes(scorer)
    scorer.images([grey()])
    said: Said = []
    for start in range(0, len(samples), scorer.batch):
        stop = min(start + scorer.batch, len(samples))
        image = torch.zeros(stop - start, dtype=torch.int64)
        answers = _answer(scorer, samples, range(start, stop), image)
        said += [classes[answer] for answer in answers]
    return said


def _answer(
    scorer: Scorer, samples: Release, questions: Sequence[int], images: Tensor
) -> list[int]:
    """The best answer to each question, about one of the images that the scorer holds."""
    scorer.texts([samples.texts(row)[0][0] for row in questions])
    logits = numbers(scorer.answer(images, torch.arange(len(questions))))
    best: list[int] = logits.argmax(1).tolist()
    return best
