"""The training loop: stage by stage, step by step, from where the last run stopped."""

from __future__ import annotations

import threading
import time
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import torch

from training.checkpoint import Checkpoints
from training.data.draws import number_of
from training.data.feed import Feed, Weighted, states_of
from training.distributed import local
from training.folder import Metrics
from training.interrupt import patient_stop
from training.meter import Meter
from training.momentum import update_ema
from training.objectives.base import first_of
from training.objectives.itc import Contrast
from training.optimizer import clip, learning_rate, set_rate
from training.plan import AnyObjective, TrainingStage
from training.precision import precision
from training.run import Run, next_stage, save
from training.spike import fault
from training.step import accumulate_gradients, all_reduce_gradients, total_loss
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
        update_ema(run.twin, run.model, stage.momentum.keep)

    totals: dict[str, float] = defaultdict(float)
    loss = 0.0
    for weighted in batches:
        views = make_views(run, weighted)
        weights = _weights(objectives, stage, weighted.share)
        means = accumulate_gradients(objectives, weights, views)
        _push_to_queue(run, views)
        loss += total_loss(means, objectives, weights)
        for name, mean in means.items():
            totals[name] += mean * weighted.share
    all_reduce_gradients(run.model, run.ranks)

    norm = clip(run.model.parameters(), stage.optimizer.clip)
    numbers = {**totals, "loss": loss, "gradient": norm}
    check(run, numbers, batches)
    set_rate(optimizer, learning_rate(stage, run.step))
    optimizer.step()
    if run.average is not None:
        update_ema(run.average, run.model, stage.ema)
    return numbers


def _weights(
    objectives: Sequence[AnyObjective], stage: TrainingStage, share: float
) -> dict[str, float]:
    """Of every loss, in a batch with a share of the step's gradient.

    With mixing "one" the weight of an objective's first loss says how often it has its turn.
    """
    shared = {}
    for objective in objectives:
        for name in objective.losses:
            shared[name] = share * stage.weights.get(name, 1.0)
        if stage.mixing == "one":
            shared[objective.losses[0]] = share
    return shared


def _push_to_queue(run: Run, views: Views) -> None:
    """The twin's vectors of the global batch."""
    contrast = first_of(Contrast, run.now.objectives)
    if run.queue is None or views.twin is None or contrast is None:
        return
    with torch.no_grad():
        image, text = contrast.vectors(views.twin)
        image, text = run.ranks.gather(image), run.ranks.gather(text)
        run.queue.push(views.all_keys(), image, text)


def check(run: Run, numbers: Mapping[str, float], batches: Sequence[Weighted]) -> None:
    """Stop before anything is written when a number is not finite, or the loss leaps away.

    ValueError with the samples of the batch, so that they can be looked at.
    """
    what = fault(numbers, run.recent, known=50)
    if not what:
        run.recent.append(numbers["loss"])
        return

    samples: list[str] = []
    for weighted in batches:
        samples += weighted.batch.ids
    shown = ", ".join(samples[:8])
    if len(samples) > 8:
        shown += f" and {len(samples) - 8} more"
    raise ValueError(
        f"step {run.done + 1} (stage {run.now.name}): {what}; its samples: {shown}. The last "
        f"checkpoint is whole: go on from it with a lower lr ({run.now.optimizer.lr}) or with clip "
        "(--amend --set …), or take samples out"
    )


def check_weights(run: Run) -> None:
    """ValueError when a step has left weights that are not finite: they are not written."""
    bad: dict[str, str] = {}
    for name, parameter in run.model.named_parameters():
        if parameter.requires_grad and not bool(torch.isfinite(local(parameter)).all()):
            bad[name] = run.now.name
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
    weights = [stage.weights.get(one.losses[0], 1.0) for one in stage.objectives]
    ends = torch.tensor(weights).cumsum(0)
    draw = Draws(seed=run.plan.seed, step=run.done).uniform("task", 1)
    index = int(torch.searchsorted(ends, draw * ends[-1], right=True))
    return [stage.objectives[min(index, len(weights) - 1)]]


def make_views(run: Run, weighted: Weighted) -> Views:
    """The views of a batch, with those of the momentum twin where there is one."""
    stage, seed = run.now, run.plan.seed
    if stage.mixing == "accumulate":
        seed = number_of(seed, weighted.stream)
    draws = Draws(seed=seed, step=run.done, ranks=run.ranks)
    batch = weighted.batch
    inputs = batch.to(run.device).inputs
    compute = partial(precision, run.plan.precision, run.device)

    twin = None
    alpha = 0.0
    if run.twin is not None and stage.momentum is not None:
        with torch.no_grad():
            twin = Views(
                run.twin,
                inputs,
                batch.keys,
                draws,
                chunk=stage.chunk,
                queue=run.queue,
                precision=compute,
            )
        warmup = stage.momentum.alpha_warmup
        alpha = stage.momentum.alpha * (min(1.0, run.step / warmup) if warmup else 1.0)
    return Views(
        run.model,
        inputs,
        batch.keys,
        draws,
        chunk=stage.chunk,
        twin=twin,
        alpha=alpha,
        precision=compute,
        answers=batch.answers,
    )


@dataclass(kw_only=True)
class Loop:
    """A run with its data, checkpoints, metrics and validation."""

    run: Run
    checkpoints: Checkpoints
    metrics: Metrics | None  # of the first rank
    open_feed: Callable[[Run], Feed]
    validator: Validator
    on_progress: Callable[[Progress], None]

    def run_stages(self) -> None:
        """All stages to their ends. KeyboardInterrupt, after a checkpoint, when asked to stop.

        However it ends, a checkpoint that is being written is finished: it is of good steps.
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
        """A checkpoint of the next stage's start, or of the end: an export can be repeated."""
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
        self._record_bad(batches)
        run.step += 1
        if run.device.type == "cpu" and run.step % TRIM == 0:
            give_back_memory()

        samples = sum(len(weighted.batch) for weighted in batches)
        waited = sum(weighted.batch.waited for weighted in batches)
        speed = self._meter.numbers(run.ranks.world * samples, waited)
        run.numbers |= self.validator.look(run)
        self._report(speed)

    def _record_bad(self, batches: Sequence[Weighted]) -> None:
        bad: dict[str, str] = {}
        for weighted in batches:
            bad |= weighted.batch.bad
        if self.run.ranks.most(len(bad)):
            self.run.bad |= self.run.ranks.merge(bad)

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

    def _report(self, speed: Mapping[str, float]) -> None:
        run = self.run
        if self.metrics is None:
            return
        rate = learning_rate(run.now, run.step - 1)
        self.metrics.write(run.done, run.now.name, {"rate": rate, **speed, **run.numbers})
        progress = Progress(
            step=run.done,
            steps=run.plan.steps,
            stage=run.now.name,
            rate=rate,
            numbers=run.numbers,
            **speed,
        )
        self.on_progress(progress)
