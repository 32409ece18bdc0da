"""Validation on held-out samples while a stage runs, and the best model by their loss."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable
from functools import partial
from itertools import islice

import torch

from training.data.draws import number_of
from training.data.feed import Feed, Weighted
from training.model import Model
from training.precision import precision
from training.run import Run
from training.spike import fault
from training.step import accumulate_gradients, total_loss
from training.views import Draws, Views

PREFIX = "heldout_"


class Validator:
    """Measures on held-out samples every so many steps and at the end of a stage; keeps the best.

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
            means = measure(run, islice(feed, count))
        _check(run, means)

        loss = means["loss"]
        run.heldout.append(loss)
        if not run.best or loss < run.best["loss"]:
            run.best = {"step": run.done, "loss": loss}
            self._keep(run, run.shown)
        return {PREFIX + name: mean for name, mean in means.items()}


@torch.no_grad()
def measure(run: Run, steps: Iterable[list[Weighted]]) -> dict[str, float]:
    """Means over batches of every number of the stage's objectives; the same draws each time.

    The model is the averaged one where there is one, without dropout; targets are those of the
    samples alone, without twin and queue.
    """
    stage, model = run.now, run.shown
    totals: dict[str, float] = defaultdict(float)
    count = 0
    model.eval()
    for number, batches in enumerate(steps):
        count += 1
        for stream, share, batch in batches:
            seed = number_of(run.plan.seed, "validation", stream)
            views = Views(
                model,
                batch.to(run.device).inputs,
                batch.keys,
                Draws(seed=seed, step=number, ranks=run.ranks),
                chunk=stage.chunk,
                precision=partial(precision, run.plan.precision, run.device),
                answers=batch.answers,
            )
            means = accumulate_gradients(stage.objectives, stage.weights, views)
            means["loss"] = total_loss(means, stage.objectives, stage.weights)
            for name, mean in means.items():
                totals[name] += share * mean
    model.train()
    return {name: total / count for name, total in totals.items()}


def _check(run: Run, means: dict[str, float]) -> None:
    what = fault(means, run.heldout, known=5)
    if what:
        raise ValueError(
            f"step {run.done} (stage {run.now.name}), on held-out samples: {what}. The last "
            f"checkpoint is whole: go on from it with a lower lr ({run.now.optimizer.lr}) or with "
            "clip (--amend --set …)"
        )
