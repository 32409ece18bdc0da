"""The state of a run: all that changes while a plan runs, and what a checkpoint keeps of it."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import nn

from training.checkpoint import Checkpoints
from training.data.order import StreamState
from training.distributed import Ranks
from training.heads import ProjectSpec
from training.model import Model
from training.momentum import Queue
from training.objectives.base import first_of
from training.objectives.itc import Contrast
from training.optimizer import freeze, make_optimizer, optimizer_state
from training.plan import TrainingPlan, TrainingStage
from training.sharding import fill, prepare_stacks


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
    stream_states: dict[str, StreamState] = field(default_factory=dict)  # of each stream of data
    bad: dict[str, str] = field(default_factory=dict)  # samples that cannot be used, and why
    numbers: dict[str, float] = field(default_factory=dict)
    recent: deque[float] = field(default_factory=lambda: deque(maxlen=100))  # losses
    heldout: list[float] = field(default_factory=list)  # losses of this stage on held-out samples
    best: dict[str, float] = field(default_factory=dict)  # step and loss of this stage's best

    @property
    def now(self) -> TrainingStage:
        """The stage that runs."""
        return self.plan.stages[self.stage]

    @property
    def done(self) -> int:
        """Steps done, over all stages."""
        return sum(stage.steps for stage in self.plan.stages[: self.stage]) + self.step

    @property
    def shown(self) -> Model:
        """The model as it would be used now: averaged weights where there are any."""
        return self.model if self.average is None else self.average

    def tensors(self) -> dict[str, Any]:
        """What a checkpoint keeps as tensors; they are the run's own, so loading fills them."""
        assert self.optimizer is not None
        parts: dict[str, nn.Module | None] = {
            "model": self.model,
            "twin": self.twin,
            "queue": self.queue,
            "average": self.average,
        }
        tensors = {name: part.state_dict() for name, part in parts.items() if part is not None}
        return {**tensors, "optimizer": optimizer_state(self.model, self.optimizer)}

    def progress(self) -> dict[str, Any]:
        """What a checkpoint keeps as plain values, of its own: it is written while steps go on."""
        return {
            "stage": self.stage,
            "step": self.step,
            "places": {name: state.to_json() for name, state in self.stream_states.items()},
            "bad": dict(self.bad),
            "numbers": dict(self.numbers),
            "recent": list(self.recent),
            "heldout": list(self.heldout),
            "best": dict(self.best),
        }


def begin_stage(run: Run, *, fresh: bool = True) -> None:
    """The optimizer, the twin and the average of the stage that `run.stage` names.

    `fresh`: with the weights that the stage starts from; a checkpoint brings its own.
    """
    stage = run.now
    run.model.spec = run.plan.model.at_resolution(stage.resolution)
    if stage.init and fresh:
        start_from(run, Path(stage.init), stage.fresh)
    freeze(run.model, stage)
    run.optimizer = make_optimizer(run.model, stage)
    run.twin = run.queue = run.average = None
    if stage.momentum is not None:
        run.twin = twin_of(run)
        if stage.momentum.queue:
            run.queue = Queue(stage.momentum.queue, _contrast_dim(run)).to(run.device)
    if stage.ema:
        run.average = twin_of(run)
    run.step = 0
    run.stream_states = {}
    run.recent.clear()
    run.heldout = []
    run.best = {}


def twin_of(run: Run) -> Model:
    """A copy of the model that is never trained, cut among ranks as the model is."""
    twin = Model(run.model.spec).to(run.device)
    prepare_stacks(twin, run.plan, run.ranks, run.device)
    for mine, theirs in zip(twin.parameters(), run.model.parameters(), strict=True):
        mine.requires_grad_(False)
        mine.data.copy_(theirs.data)
    for held, now in zip(twin.buffers(), run.model.buffers(), strict=True):
        held.copy_(now)
    return twin


def start_from(run: Run, folder: Path, fresh: Mapping[str, str] | None = None) -> None:
    """The weights of an exported model of the same shape; ValueError when it has another.

    `fresh` says which parameters the folder lacks, and from which others they are copied, if any.
    """
    path = folder / "model.safetensors"
    try:
        tensors = load_file(path)
    except (OSError, SafetensorError) as error:
        raise ValueError(f"{path} is damaged ({error}): export the model again") from error
    lacking = {name for name, _ in run.model.named_parameters()} - tensors.keys()
    for prefix, source in (fresh or {}).items():
        for name in sorted(lacking):
            if not name.startswith(prefix):
                continue
            other = source + name.removeprefix(prefix)
            if source and other in tensors:
                tensors[name] = tensors[other]
            if not source or other in tensors:
                lacking.remove(name)
    if lacking:
        raise ValueError(f"{folder} lacks {len(lacking)} parameters, {min(lacking)} first")
    try:
        fill(run.model, tensors)
    except RuntimeError as error:
        raise ValueError(f"{folder} has another shape than the plan: {error}") from error


def _contrast_dim(run: Run) -> int:
    contrast = first_of(Contrast, run.now.objectives)
    if contrast is None:
        raise ValueError(f"stage {run.now.name}: a queue serves a contrast, and there is none")
    head = run.model.spec.heads[contrast.image_head]
    assert isinstance(head, ProjectSpec), "a contrast compares projections"
    return head.dim


def next_stage(run: Run) -> None:
    """The averaged weights, where there are any, are what a stage ends with."""
    if run.average is not None:
        for mine, theirs in zip(run.model.parameters(), run.average.parameters(), strict=True):
            mine.data.copy_(theirs.data)
    run.stage += 1
    if run.stage < len(run.plan.stages):
        begin_stage(run)
    else:
        run.step = 0


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
    begin_stage(run, fresh=False)
    checkpoints.load(run.tensors())
    run.step = progress["step"]
    for name, state in progress["places"].items():
        run.stream_states[name] = StreamState.from_json(state)
    run.bad.update(progress["bad"])
    run.numbers = progress["numbers"]
    run.recent.extend(progress["recent"])
    run.heldout = progress["heldout"]
    run.best = progress["best"]
    return True
