"""The training loop: stages in order, one step after another, from where the last run stopped."""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import nn

from training import momentum
from training.checkpoint import Checkpoints
from training.data.batch import Batch
from training.data.loader import Loader
from training.data.order import Place
from training.distributed import Ranks
from training.folder import Metrics
from training.heads import ProjectSpec
from training.interrupt import patient_stop
from training.model import Model
from training.momentum import Queue
from training.objectives.itc import Contrast
from training.optimizer import (
    clip,
    freeze,
    learning_rate,
    make_optimizer,
    optimizer_state,
    set_rate,
)
from training.plan import AnyObjective, TrainingPlan, TrainingStage
from training.precision import precision
from training.step import accumulate_gradients, add_up_gradients, total_loss
from training.views import Draws, Views

SPIKE = 20.0  # a loss so many deviations above the last hundred says that the run has come apart


@dataclass(frozen=True, kw_only=True)
class Progress:
    """Where a run is, after a step."""

    step: int  # steps done, over all stages
    steps: int
    stage: str
    rate: float
    samples_per_s: float
    waited: float  # share of the time in which the device waited for data
    numbers: Mapping[str, float]


@dataclass(kw_only=True)
class Run:
    """What changes while a plan runs, all of it in a checkpoint."""

    plan: TrainingPlan
    model: Model
    device: torch.device
    ranks: Ranks
    optimizer: torch.optim.Optimizer | None = None
    twin: Model | None = None
    queue: Queue | None = None
    average: Model | None = None
    stage: int = 0
    step: int = 0  # inside the stage
    place: Place = field(default_factory=Place)  # of the data
    bad: dict[str, str] = field(default_factory=dict)  # samples that cannot be used, and why
    numbers: dict[str, float] = field(default_factory=dict)
    recent: deque[float] = field(default_factory=lambda: deque(maxlen=100))  # losses

    @property
    def now(self) -> TrainingStage:
        """The stage that runs."""
        return self.plan.stages[self.stage]

    @property
    def done(self) -> int:
        """Steps done, over all stages."""
        return sum(stage.steps for stage in self.plan.stages[: self.stage]) + self.step

    def tensors(self) -> dict[str, Any]:
        """What a checkpoint keeps as tensors; they are the run's own, so loading fills them."""
        assert self.optimizer is not None
        parts: dict[str, nn.Module | None] = {
            "model": self.model,
            "twin": self.twin,
            "queue": self.queue,
            "average": self.average,
        }
        held = {name: part.state_dict() for name, part in parts.items() if part is not None}
        return {**held, "optimizer": optimizer_state(self.model, self.optimizer)}

    def progress(self) -> dict[str, Any]:
        """What a checkpoint keeps as plain values."""
        return {
            "stage": self.stage,
            "step": self.step,
            "place": self.place.to_json(),
            "bad": self.bad,
            "numbers": self.numbers,
            "recent": list(self.recent),
        }


def begin_stage(run: Run) -> None:
    """The optimizer, the twin and the average of the stage that `run.stage` names."""
    stage = run.now
    if stage.init:
        start_from(run, Path(stage.init))
    freeze(run.model, stage)
    run.optimizer = make_optimizer(run.model, stage)
    run.twin = run.queue = run.average = None
    if stage.momentum is not None:
        run.twin = momentum.twin_of(run.model)
        if stage.momentum.queue:
            run.queue = Queue(stage.momentum.queue, _contrast_dim(run)).to(run.device)
    if stage.ema:
        run.average = momentum.twin_of(run.model)
    run.step, run.place = 0, Place()
    run.recent.clear()


def start_from(run: Run, folder: Path) -> None:
    """The weights of an exported model of the same shape; ValueError when it has another."""
    tensors = load_file(folder / "model.safetensors")
    try:
        run.model.load_state_dict(tensors, strict=False)
    except RuntimeError as error:
        raise ValueError(f"{folder} has another shape than the plan: {error}") from error
    lacking = {name for name, _ in run.model.named_parameters()} - tensors.keys()
    if lacking:
        raise ValueError(f"{folder} lacks {len(lacking)} parameters, {sorted(lacking)[0]} first")


def _contrast_dim(run: Run) -> int:
    for objective in run.now.objectives:
        if isinstance(objective, Contrast):
            head = run.model.spec.heads[objective.image_head]
            assert isinstance(head, ProjectSpec), "a contrast compares projections"
            return head.dim
    raise ValueError(f"stage {run.now.name}: a queue serves a contrast, and there is none")


def train_step(run: Run, batches: Sequence[tuple[float, Batch]]) -> dict[str, float]:
    """One optimizer step on weighted batches (one, unless the stage accumulates); all means."""
    stage, optimizer = run.now, run.optimizer
    assert optimizer is not None
    objectives = chosen_objectives(run)
    optimizer.zero_grad(set_to_none=True)

    numbers: dict[str, float] = {}
    for share, batch in batches:
        views = make_views(run, batch)
        weights = {name: share * stage.weights.get(name, 1.0) for name in _losses(objectives)}
        found = accumulate_gradients(objectives, weights, views)
        found["loss"] = total_loss(found, objectives, weights)
        _remember(run, views)
        for name, value in found.items():
            numbers[name] = numbers.get(name, 0.0) + value * (1 if name == "loss" else share)
    add_up_gradients(run.model, run.ranks)

    numbers["gradient"] = float(clip(run.model.parameters(), stage.optimizer.clip))
    check(run, numbers, [batch for _, batch in batches])
    set_rate(optimizer, learning_rate(stage, run.step))
    optimizer.step()
    if run.average is not None:
        momentum.follow(run.average, run.model, stage.ema)
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
    leap = _leaps(run.recent, numbers["loss"])
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
        f"checkpoint is whole: lower lr ({run.now.optimizer.lr}), set clip, or take samples out"
    )


def _leaps(recent: Sequence[float], loss: float) -> bool:
    if len(recent) < 50 or not math.isfinite(loss):
        return False
    values = torch.tensor(list(recent), dtype=torch.float64)
    spread = max(float(values.std()), 0.01 * abs(float(values.mean())))
    return loss > float(values.mean()) + SPIKE * spread


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


def make_views(run: Run, batch: Batch) -> Views:
    """The batch seen through the model, and through its twin where there is one."""
    stage = run.now
    draws = Draws(seed=run.plan.seed, step=run.done, ranks=run.ranks)
    inputs = batch.to(run.device).inputs
    twin = None
    alpha = 0.0
    if run.twin is not None and stage.momentum is not None:
        momentum.follow(run.twin, run.model, stage.momentum.keep)
        with torch.no_grad():
            twin = Views(
                run.twin,
                inputs,
                batch.keys,
                draws,
                chunk=stage.chunk,
                queue=run.queue,
                precision=lambda: precision(run.plan, run.device),
            )
        warm = stage.momentum.alpha_warmup
        alpha = stage.momentum.alpha * (min(1.0, run.step / warm) if warm else 1.0)
    return Views(
        run.model,
        inputs,
        batch.keys,
        draws,
        chunk=stage.chunk,
        twin=twin,
        alpha=alpha,
        precision=lambda: precision(run.plan, run.device),
    )


def save(run: Run, checkpoints: Checkpoints) -> None:
    """Begin to write a checkpoint of this moment."""
    checkpoints.save(run.done, run.tensors(), run.progress())


def restore(run: Run, checkpoints: Checkpoints) -> bool:
    """Go on from the newest checkpoint; false when there is none.

    The stage comes first, because it says which optimizer, twin and queue there are to fill.
    """
    progress = checkpoints.peek()
    if progress is None:
        return False
    run.stage = progress["stage"]
    begin_stage(run)
    checkpoints.load(run.tensors())
    run.step, run.place = progress["step"], Place.from_json(progress["place"])
    run.bad.update(progress["bad"])
    run.numbers = progress["numbers"]
    run.recent.extend(progress["recent"])
    return True


def run_stages(
    run: Run,
    checkpoints: Checkpoints,
    metrics: Metrics,
    open_loader: Callable[[Run], Loader],
    on_progress: Callable[[Progress], None],
) -> None:
    """All stages to their ends. KeyboardInterrupt, after a checkpoint, when asked to stop."""
    last_save = time.monotonic()
    with patient_stop() as stop:
        while run.stage < len(run.plan.stages):
            run.model.train()
            with open_loader(run) as batches:
                while run.step < run.now.steps:
                    began = time.monotonic()
                    batch = next(batches)
                    run.numbers = train_step(run, [(1.0, batch)])
                    run.place = batch.place
                    run.bad.update(batch.bad)
                    run.step += 1
                    _tell(run, metrics, on_progress, time.monotonic() - began, batch.waited)

                    due = time.monotonic() - last_save > run.plan.checkpoint_seconds
                    if stop.is_set() or due or run.done % run.plan.checkpoint_steps == 0:
                        save(run, checkpoints)
                        last_save = time.monotonic()
                    if stop.is_set():
                        checkpoints.wait()
                        raise KeyboardInterrupt(
                            f"stopped after step {run.done} of {run.plan.steps}; "
                            "the same command goes on"
                        )
            _next_stage(run)
            if run.stage < len(run.plan.stages):
                save(run, checkpoints)
        checkpoints.wait()


def _next_stage(run: Run) -> None:
    """The averaged weights, where there are any, are what a stage ends with."""
    if run.average is not None:
        run.model.load_state_dict(run.average.state_dict())
    run.stage += 1
    if run.stage < len(run.plan.stages):
        begin_stage(run)
    else:
        run.step = 0


def _tell(
    run: Run,
    metrics: Metrics,
    on_progress: Callable[[Progress], None],
    seconds: float,
    waited: float,
) -> None:
    rate = learning_rate(run.now, run.step - 1)
    speed = run.now.batch / seconds
    if run.ranks.rank == 0:
        numbers = {"rate": rate, "samples_per_s": speed, **run.numbers}
        metrics.write(run.done, run.now.name, numbers)
    on_progress(
        Progress(
            step=run.done,
            steps=run.plan.steps,
            stage=run.now.name,
            rate=rate,
            samples_per_s=speed,
            waited=waited / seconds,
            numbers=run.numbers,
        )
    )
