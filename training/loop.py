"""The training loop: stages in order, one step after another, from where the last run stopped."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch

from training import momentum
from training.checkpoint import Checkpoints
from training.data.batch import Batch
from training.data.draws import number_of
from training.data.feed import Feed, Weighted, states_of
from training.distributed import local
from training.folder import Metrics
from training.interrupt import patient_stop
from training.meter import Meter
from training.objectives.itc import Contrast
from training.optimizer import clip, learning_rate, set_rate
from training.plan import AnyObjective
from training.precision import precision
from training.run import Run, next_stage, save
from training.spike import leaps
from training.step import accumulate_gradients, add_up_gradients, total_loss
from training.threads import give_back_memory
from training.validation import Validator
from training.views import Draws, Views

TRIM = 20  # steps; one such look through free memory takes milliseconds


@dataclass(frozen=True, kw_only=True)
class Progress:
    """Where a run is, after a step."""

    step: int  # steps done, over all stages
    steps: int
    stage: str
    rate: float
    samples_per_s: float
    waited: float  # share of the time in which the device waited for data
    peak_share: float  # of the hardware's measured rate of products
    seconds_left: float
    numbers: Mapping[str, float]  # means of the step; `heldout_...` where it was validated


def train_step(run: Run, batches: Sequence[Weighted]) -> dict[str, float]:
    """One optimizer step on weighted batches (one, unless the stage accumulates); all means."""
    stage, optimizer = run.now, run.optimizer
    assert optimizer is not None
    objectives = chosen_objectives(run)
    optimizer.zero_grad(set_to_none=True)
    if run.twin is not None and stage.momentum is not None:
        momentum.update_ema(run.twin, run.model, stage.momentum.keep)

    numbers: dict[str, float] = {}
    for one in batches:
        views = make_views(run, one)
        weights = {name: one.share * stage.weights.get(name, 1.0) for name in _losses(objectives)}
        found = accumulate_gradients(objectives, weights, views)
        found["loss"] = total_loss(found, objectives, weights)
        _remember(run, views)
        for name, value in found.items():
            numbers[name] = numbers.get(name, 0.0) + value * (1 if name == "loss" else one.share)
    add_up_gradients(run.model, run.ranks)

    numbers["gradient"] = clip(run.model.parameters(), stage.optimizer.clip)
    check(run, numbers, [one.batch for one in batches])
    set_rate(optimizer, learning_rate(stage, run.step))
    optimizer.step()
    if run.average is not None:
        momentum.update_ema(run.average, run.model, stage.ema)
    return numbers


def _remember(run: Run, views: Views) -> None:
    """What the twin saw of the global batch goes into the queue."""
    if run.queue is None or views.twin is None:
        return
    contrast = next(one for one in run.now.objectives if isinstance(one, Contrast))
    with torch.no_grad():
        image, text = contrast.vectors(views.twin)
        image, text = run.ranks.gather(image), run.ranks.gather(text)
        run.queue.push(views.all_keys(), image, text)


def check(run: Run, numbers: Mapping[str, float], batches: Sequence[Batch]) -> None:
    """Stop before anything is written when a number is none, or the loss leaps away.

    ValueError with the samples of the batch, so that they can be looked at.
    """
    bad = [name for name, value in numbers.items() if not math.isfinite(value)]
    leap = leaps(run.recent, numbers["loss"], told=50)
    if not bad and not leap:
        run.recent.append(numbers["loss"])
        return

    what = (
        f"{', '.join(bad)} is not a number" if bad else f"the loss leapt to {numbers['loss']:.3g}"
    )
    samples = [sample for batch in batches for sample in batch.ids]
    shown = ", ".join(samples[:8]) + (f" and {len(samples) - 8} more" if len(samples) > 8 else "")
    raise ValueError(
        f"step {run.done + 1} (stage {run.now.name}): {what}; its samples: {shown}. The last "
        f"checkpoint is whole: go on from it with a lower lr ({run.now.optimizer.lr}) or with clip "
        "(--amend --set …), or take samples out"
    )


def check_weights(run: Run) -> None:
    """ValueError when a step has left weights that are no numbers: they are not written."""
    bad = {
        name: run.now.name
        for name, parameter in run.model.named_parameters()
        if parameter.requires_grad and not bool(torch.isfinite(local(parameter)).all())
    }
    if not run.ranks.most(len(bad)):
        return
    names = sorted(run.ranks.merge(bad))
    raise ValueError(
        f"step {run.done} (stage {run.now.name}) left numbers that are none in {len(names)} "
        f"parameters, {names[0]} first; they are not written, and the checkpoint before is whole: "
        f"go on with a lower lr ({run.now.optimizer.lr}) or with clip (--amend --set …)"
    )


def chosen_objectives(run: Run) -> Sequence[AnyObjective]:
    """All objectives of the stage, or with mixing "one" the one whose turn it is."""
    stage = run.now
    if stage.mixing != "one":
        return stage.objectives
    ratios = [stage.weights.get(one.losses[0], 1.0) for one in stage.objectives]
    draw = Draws(seed=run.plan.seed, step=run.done).uniform("task", 1)
    ends = torch.tensor(ratios).cumsum(0)
    turn = int(torch.searchsorted(ends, draw * ends[-1], right=True))
    return [stage.objectives[min(turn, len(ratios) - 1)]]


def _losses(objectives: Sequence[AnyObjective]) -> list[str]:
    return [name for objective in objectives for name in objective.losses]


def make_views(run: Run, given: Weighted) -> Views:
    """The batch seen through the model, and through its twin where there is one."""
    stage = run.now
    several = stage.mixing == "accumulate"
    seed = number_of(run.plan.seed, given.stream) if several else run.plan.seed
    draws = Draws(seed=seed, step=run.done, ranks=run.ranks)
    inputs = given.batch.to(run.device).inputs
    keys = given.batch.keys
    twin = None
    alpha = 0.0
    if run.twin is not None and stage.momentum is not None:
        with torch.no_grad():
            twin = Views(
                run.twin,
                inputs,
                keys,
                draws,
                chunk=stage.chunk,
                queue=run.queue,
                precision=lambda: precision(run.plan.precision, run.device),
            )
        warm = stage.momentum.alpha_warmup
        alpha = stage.momentum.alpha * (min(1.0, run.step / warm) if warm else 1.0)
    return Views(
        run.model,
        inputs,
        keys,
        draws,
        chunk=stage.chunk,
        twin=twin,
        alpha=alpha,
        precision=lambda: precision(run.plan.precision, run.device),
        answers=given.batch.answers,
    )


@dataclass(kw_only=True)
class Loop:
    """A run and all that it talks to."""

    run: Run
    checkpoints: Checkpoints
    metrics: Metrics | None  # of the first rank
    open_feed: Callable[[Run], Feed]
    validator: Validator
    on_progress: Callable[[Progress], None]

    def run_stages(self) -> None:
        """All stages to their ends. KeyboardInterrupt, after a checkpoint, when asked to stop.

        However it ends, a checkpoint that was begun is brought to its end: it is of good steps.
        """
        self._meter = Meter(self.run)
        self._saved = time.monotonic()
        try:
            with patient_stop() as stop:
                while self.run.stage < len(self.run.plan.stages):
                    self._run_stage(stop)
        finally:
            self.checkpoints.wait()

    def _run_stage(self, stop: threading.Event) -> None:
        run = self.run
        run.model.train()
        with self.open_feed(run) as feed:
            while run.step < run.now.steps:
                self._step(feed)
                self._save_if_due(stop.is_set())
        self._end_stage()

    def _end_stage(self) -> None:
        """A checkpoint of the next stage's beginning, or of the end: an export can be repeated."""
        check_weights(self.run)
        last = self.run.stage + 1 == len(self.run.plan.stages)
        if last:
            self._save()
        next_stage(self.run)
        if not last:
            self._save()

    def _step(self, feed: Feed) -> None:
        run = self.run
        self._meter.begin()
        batches = next(feed)
        with self._meter.counted():
            run.numbers = train_step(run, batches)
        run.stream_states |= states_of(batches)
        self._name_bad(batches)
        run.step += 1
        if run.device.type == "cpu" and run.step % TRIM == 0:
            give_back_memory()

        samples = run.ranks.world * sum(len(one.batch) for one in batches)
        waited = sum(one.batch.waited for one in batches)
        speed = self._meter.numbers(samples, waited)
        run.numbers |= self.validator.look(run)
        self._tell(speed)

    def _name_bad(self, batches: Sequence[Weighted]) -> None:
        mine = {name: why for one in batches for name, why in one.batch.bad.items()}
        if self.run.ranks.most(len(mine)):
            self.run.bad |= self.run.ranks.merge(mine)

    def _save_if_due(self, asked: bool) -> None:
        """All ranks at once: when one is asked to stop, or the first one's clock says so."""
        run = self.run
        late = time.monotonic() - self._saved > run.plan.checkpoint_seconds
        stop = bool(run.ranks.most(int(asked)))
        due = bool(run.ranks.most(int(late and run.ranks.first)))
        due = due or run.done % run.plan.checkpoint_steps == 0
        if stop or (due and run.step < run.now.steps):
            check_weights(run)
            self._save()
        if stop:
            raise KeyboardInterrupt(
                f"stopped after step {run.done} of {run.plan.steps}; the same command goes on"
            )

    def _save(self) -> None:
        save(self.run, self.checkpoints)
        self._saved = time.monotonic()

    def _tell(self, speed: Mapping[str, float]) -> None:
        run = self.run
        if self.metrics is None:
            return
        rate = learning_rate(run.now, run.step - 1)
        self.metrics.write(run.done, run.now.name, {"rate": rate, **speed, **run.numbers})
        self.on_progress(
            Progress(
                step=run.done,
                steps=run.plan.steps,
                stage=run.now.name,
                rate=rate,
                samples_per_s=speed["samples_per_s"],
                waited=speed["waited"],
                peak_share=speed["peak_share"],
                seconds_left=speed["seconds_left"],
                numbers=run.numbers,
            )
        )
