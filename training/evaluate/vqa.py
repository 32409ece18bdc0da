"""Questions about images: the official accuracy of VQA, beside what is reached without images."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from training.answers import accuracy, normal
from training.data.reading import read_in_order
from training.data.shards import Release
from training.evaluate.encoded import Tell, grey, left_out, numbers, silent
from training.evaluate.lines import PAIR, QUESTION, Asked, opened
from training.evaluate.retrieval import shuffled
from training.evaluate.scorer import Scorer
from training.export import load_scorer

Said = list[str | None]  # an answer to each question; None where its image cannot be decoded


@dataclass(frozen=True, kw_only=True)
class Answered:
    """What a model answers to the questions of samples."""

    seen: Said
    shuffled: Said  # about the images of other samples
    alone: Said  # about an image that shows nothing
    bad: Mapping[str, str]  # images that cannot be used, and why

    @property
    def rows(self) -> list[int]:
        """Samples whose images could be decoded."""
        return [row for row, said in enumerate(self.seen) if said is not None]


def evaluate(
    model: str | Path | Scorer,
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
    scorer = model if isinstance(model, Scorer) else load_scorer(model)
    samples = opened(asked)
    found = answers_to(scorer, samples, workers, tell)
    references = [samples.answers(row) for row in range(len(samples))]
    rows = found.rows

    def percent(said: Said, of: Sequence[int] = rows) -> float:
        told = [(said[row], references[row]) for row in of]
        scores = [accuracy(one, given) for one, given in told if one is not None]
        return round(100 * sum(scores) / max(1, len(scores)), 2)

    assert scorer.answers is not None, "it has answered"
    kinds = {kind: [r for r in rows if kind_of(references[r]) == kind] for kind in KINDS}
    return {
        "accuracy": percent(found.seen),
        "kinds": {kind: percent(found.seen, of) for kind, of in kinds.items() if of},
        "questions": len(rows),
        "answers": len(scorer.answers.classes),
        "best_possible": _best_possible([references[row] for row in rows], scorer.answers.classes),
        "blind": {
            "shuffled_images": {"accuracy": percent(found.shuffled)},
            "texts_alone": {"accuracy": percent(found.alone)},
            "one_answer": _one_answer([references[row] for row in rows], scorer.answers.classes),
        },
        **left_out(found.bad),
    }


KINDS = ("yes/no", "number", "other")


def kind_of(answers: Sequence[str]) -> str:
    """What kind of question it is, told by the most frequent answer."""
    given = list(map(normal, answers))
    most = max(given, key=given.count)
    if most in ("yes", "no"):
        return "yes/no"
    return "number" if most.replace(".", "").isdigit() else "other"


def _best_possible(references: Sequence[Sequence[str]], classes: Sequence[str]) -> float:
    known = set(classes)
    best = [
        max((accuracy(one, given) for one in given if normal(one) in known), default=0.0)
        for given in references
    ]
    return round(100 * sum(best) / max(1, len(best)), 2)


def _one_answer(references: Sequence[Sequence[str]], classes: Sequence[str]) -> dict[str, Any]:
    """The answer that is right most often when all questions get it."""
    totals = dict.fromkeys(classes, 0.0)
    for given in references:
        for answer in set(map(normal, given)) & totals.keys():
            totals[answer] += accuracy(answer, given)
    best = max(totals, key=lambda answer: totals[answer])
    return {"accuracy": round(100 * totals[best] / max(1, len(references)), 2), "answer": best}


def answers_to(scorer: Scorer, samples: Release, workers: int, tell: Tell) -> Answered:
    """What a model answers; ValueError when it answers nothing, when samples bring no answers to
    compare, or none of their images can be decoded.
    """
    if scorer.answers is None:
        raise ValueError("this model answers nothing: train it further by `vqa` or `nlvr2`")
    if not any(samples.answers(row) for row in range(len(samples))):
        raise ValueError(f"{samples.name} has no answers; give lines of {QUESTION} or {PAIR}")

    own = list(range(len(samples)))
    others = shuffled(torch.arange(len(own)), len(own)).tolist()
    bad: dict[str, str] = {}
    seen = _said(scorer, samples, own, bad, workers, tell)
    if all(one is None for one in seen):
        reason = next(iter(bad.values()))
        raise ValueError(f"{samples.name}: none of {len(samples)} images can be used ({reason})")
    return Answered(
        seen=seen,
        shuffled=_said(scorer, samples, others, bad, workers, tell),
        alone=_alone(scorer, samples),
        bad=bad,
    )


def _said(
    scorer: Scorer,
    samples: Release,
    images: Sequence[int],
    bad: dict[str, str],
    workers: int,
    tell: Tell,
) -> Said:
    """Answers to all questions, each about the image of the sample that `images` names."""
    said: Said = [None] * len(images)
    specs = scorer.image_specs
    done = 0
    for part in read_in_order(samples, specs, images, batch=scorer.batch, workers=workers):
        bad |= {samples.image_id(row): reason for row, reason in part.bad.items()}
        good = [place for place, row in enumerate(part.rows) if row not in part.bad]
        if good:
            scorer.pixels({name: [part.images[name][place] for place in good] for name in specs})
            asked = [done + place for place in good]
            places = torch.arange(len(good))
            for row, answer in zip(asked, _answers(scorer, samples, asked, places), strict=True):
                said[row] = answer
        done += len(part.rows)
        tell("answer questions", done, len(images))
    return said


def _alone(scorer: Scorer, samples: Release) -> Said:
    scorer.images([grey()])
    said: Said = []
    for start in range(0, len(samples), scorer.batch):
        rows = list(range(start, min(start + scorer.batch, len(samples))))
        said += _answers(scorer, samples, rows, torch.zeros(len(rows), dtype=torch.int64))
    return said


def _answers(scorer: Scorer, samples: Release, rows: Sequence[int], images: torch.Tensor) -> Said:
    assert scorer.answers is not None, "looked at before"
    scorer.texts([samples.texts(row)[0][0] for row in rows])
    logits = numbers(scorer.answer(images, torch.arange(len(rows))).float().cpu())
    return [scorer.answers.classes[place] for place in logits.argmax(1).tolist()]
