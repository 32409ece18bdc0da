"""Held-out samples, looked at while a stage runs, and the best model by their loss."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from itertools import islice

import torch

from training.data.draws import number_of
from training.data.feed import Feed, Weighted
from training.model import Model
from training.precision import precision
from training.run import Run
from training.spike import leaps
from training.step import accumulate_gradients, total_loss
from training.views import Draws, Views

PREFIX = "heldout_"


class Validator:
    """Looks at held-out samples every so many steps and at the end of a stage, and keeps the best.

    `open_feed` gives the batches of a stage, and how many there are; None where its releases hold
    nothing out. `keep` writes the model that is the best so far.
    """

    def __init__(
        self,
        open_feed: Callable[[Run], tuple[Feed, int] | None],
        keep: Callable[[Run, Model], None],
    ) -> None:
        self._open_feed = open_feed
        self._keep = keep

    def look(self, run: Run) -> dict[str, float]:
        """Means on held-out samples if they are due after this step, else nothing.

        ValueError when one is not a number, or leaps away: then nothing is written.
        """
        every = run.plan.validate_steps
        if not every or (run.step % every and run.step < run.now.steps):
            return {}
        opened = self._open_feed(run)
        if opened is None:
            return {}
        feed, count = opened
        with feed:
            numbers = measure(run, islice(feed, count))
        _check(run, numbers)

        loss = numbers["loss"]
        run.heldout.append(loss)
        if not run.best or loss < run.best["loss"]:
            run.best = {"step": run.done, "loss": loss}
            self._keep(run, run.shown)
        return {PREFIX + name: value for name, value in numbers.items()}


@torch.no_grad()
def measure(run: Run, steps: Iterable[list[Weighted]]) -> dict[str, float]:
    """Means over batches of every number of the stage's objectives; the same draws each time.

    The model is the averaged one where there is one, without dropout; targets are those of the
    samples alone, without twin and queue.
    """
    stage, model = run.now, run.shown
    totals: dict[str, float] = {}
    count = 0
    model.eval()
    for number, batches in enumerate(steps):
        count += 1
        for one in batches:
            seed = number_of(run.plan.seed, "validation", one.stream)
            views = Views(
                model,
                one.batch.to(run.device).inputs,
                one.batch.keys,
                Draws(seed=seed, step=number, ranks=run.ranks),
                chunk=stage.chunk,
                precision=lambda: precision(run.plan.precision, run.device),
                answers=one.batch.answers,
            )
            found = accumulate_gradients(stage.objectives, stage.weights, views)
            found["loss"] = total_loss(found, stage.objectives, stage.weights)
            for name, value in found.items():
                totals[name] = totals.get(name, 0.0) + one.share * value
    model.train()
    return {name: total / count for name, total in totals.items()}


def _check(run: Run, numbers: dict[str, float]) -> None:
    bad = [name for name, value in numbers.items() if not math.isfinite(value)]
    leap = leaps(run.heldout, numbers["loss"], told=5)
    if not bad and not leap:
        return
    what = f"the loss leapt to {numbers['loss']:.3g}"
    if bad:
        what = f"{', '.join(bad)} is not a number"
    raise ValueError(
        f"step {run.done} (stage {run.now.name}), on held-out samples: {what}. The last "
        f"checkpoint is whole: go on from it with a lower lr ({run.now.optimizer.lr}) or with clip "
        "(--amend --set …)"
    )
