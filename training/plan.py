"""A training plan: everything that settles a run, frozen, with a digest."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Literal

from training.config import decode, encode, nearest, within
from training.data.buckets import Buckets
from training.model import ModelSpec
from training.objectives.answers import Answers
from training.objectives.base import first_of
from training.objectives.itc import Contrast
from training.objectives.itm import Matching
from training.objectives.lm import Captions
from training.objectives.mlm import MaskedWords
from training.precision import Precision

MOST = 10**12  # of steps and the like; what is more is a slip of the hand
MOST_ROWS = 10_000_000  # of a batch or a queue: a hundred times those of the papers
SMOKE_SAMPLES = 64  # of each release: eight batches of a smoke run, and components enough of a grid

AnyObjective = Contrast | Matching | MaskedWords | Captions | Answers
NODE_FIELDS = ("image", "images", "text", "fused", "decoder")  # of objectives: passes, embeddings
OF_RUNNING = ("checkpoint_steps", "checkpoint_seconds", "shard", "recompute")


@dataclass(frozen=True, kw_only=True)
class Schedule:
    """The learning rate along a stage: a linear warm-up, then down to a share of the peak.

    `warmup` is a number of steps when it is at least 1, else a share of all steps. "exponential"
    multiplies by `decay` every `every` steps (BLIP: once an epoch).
    """

    shape: Literal["linear", "cosine", "constant", "exponential"] = "linear"
    warmup: float = 0.1
    start: float = 0.0  # share of the peak at which the warm-up begins
    end: float = 0.0  # share of the peak at which the stage ends
    decay: float = 0.9
    every: int = 1000

    def __post_init__(self) -> None:
        within(0, MOST, warmup=self.warmup)
        within(0, 1, start=self.start, end=self.end, decay=self.decay)
        within(1, MOST, every=self.every)


@dataclass(frozen=True, kw_only=True)
class Optimizer:
    """AdamW. `groups` maps a regular expression on parameter names to a factor of the rate."""

    lr: float
    betas: tuple[float, float] = (0.9, 0.98)  # ViLT, UNITER, BLIP-2
    eps: float = 1e-8
    weight_decay: float = 0.01  # not on biases, norms and other vectors
    clip: float = 0.0  # largest gradient norm; 0: none
    groups: Mapping[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not self.lr > 0:
            raise ValueError(f"lr is {self.lr}: it must be above 0")
        if not self.eps > 0:
            raise ValueError(f"eps is {self.eps}: it must be above 0, a step is divided by it")
        if not all(0 <= beta < 1 for beta in self.betas):
            raise ValueError(f"betas are {self.betas}: each must be in 0..1, and below 1")
        within(0, MOST, weight_decay=self.weight_decay, clip=self.clip)
        for pattern, factor in self.groups.items():
            _compiled(pattern, "groups")
            within(0, MOST, **{f"the factor of group {pattern!r}": factor})


@dataclass(frozen=True, kw_only=True)
class Momentum:
    """A twin that follows the model, the queue of its vectors, and its share of soft targets.

    `alpha` is the twin's share of the contrast's target, reached linearly within `alpha_warmup`
    steps (ALBEF and BLIP: .4 within an epoch or two). `queue` 0: candidates are those of the batch
    alone.
    """

    keep: float = 0.995
    queue: int = 0
    alpha: float = 0.4
    alpha_warmup: int = 0

    def __post_init__(self) -> None:
        within(0, 1, keep=self.keep, alpha=self.alpha)
        within(0, MOST_ROWS, queue=self.queue)
        within(0, MOST, alpha_warmup=self.alpha_warmup)


@dataclass(frozen=True, kw_only=True)
class TrainingStage:
    """One phase: what is learned, from which releases, how long, how fast.

    `mixing`: "sum" adds up all objectives in each step; "one" takes one of them a step, in the
    ratios of the `weights` of their first losses, which then count wholly (UNITER); "accumulate"
    takes a batch of each release for each step and adds up their gradients, by the releases' shares
    (Flamingo). `chunk` bounds the rows that are in memory at once and changes no result; 0: all
    rows of a rank. `freeze` names parameters that are not trained. `sources` weighs the sources of
    captions where an image has several, `near` shuffles so many shards together instead of all, and
    with `buckets` rows of like length are batched within a budget of tokens, `batch` being the
    most. `mixgen` of the samples are mixed with another of their release, image and text (Hao et
    al. 2023: a quarter). `resolution` cuts
    patches from images of another size than the model's (BLIP: 384 behind 224): their places are
    interpolated, and the model of the last stage is used at the last stage's. `fresh` maps
    beginnings of names of parameters that `init` lacks to beginnings of those in it that they are
    copied from; to "" where they start as new ones.
    """

    name: str
    data: Mapping[str, float]  # name of a release -> its share of the samples
    sources: Mapping[str, float] = field(default_factory=dict)
    near: int = 0
    buckets: Buckets | None = None
    mixgen: float = 0.0
    resolution: int = 0  # of images, in pixels; 0: what the model says
    objectives: tuple[AnyObjective, ...]
    weights: Mapping[str, float] = field(default_factory=dict)  # of losses; 1 where it is silent
    mixing: Literal["sum", "one", "accumulate"] = "sum"
    steps: int
    batch: int  # of all ranks together
    chunk: int = 0
    optimizer: Optimizer
    schedule: Schedule = field(default_factory=Schedule)
    freeze: tuple[str, ...] = ()
    init: str = ""  # folder of a model that the stage starts from; "": where the last one ended
    fresh: Mapping[str, str] = field(default_factory=dict)
    momentum: Momentum | None = None
    ema: float = 0.0  # of the exported weights' moving average; 0: none

    def __post_init__(self) -> None:
        if self.steps < 1 or self.batch < 2:
            raise ValueError(
                f"stage {self.name}: steps must be at least 1 and batch at least 2, "
                "because negatives come from the batch"
            )
        if not self.objectives:
            raise ValueError(f"stage {self.name}: it has no objectives, and so nothing to learn")
        if not self.data or min(self.data.values()) <= 0:
            raise ValueError(f"stage {self.name}: data names releases with shares above 0")
        if self.sources and not (min(self.sources.values()) >= 0 < max(self.sources.values())):
            raise ValueError(f"stage {self.name}: sources have shares from 0, and one above it")
        if not 0 <= self.ema < 1:
            raise ValueError(f"stage {self.name}: ema is {self.ema}: 0, or a share below 1")
        try:
            within(1, MOST, steps=self.steps)
            within(2, MOST_ROWS, batch=self.batch)
            within(0, MOST_ROWS, near=self.near, chunk=self.chunk)
            within(0, 1, mixgen=self.mixgen)
        except ValueError as error:
            raise ValueError(f"stage {self.name}: {error}") from error
        self._check_batch()
        masked = first_of(MaskedWords, self.objectives)
        if masked is not None and masked.soft and self.momentum is None:
            raise ValueError(f"stage {self.name}: soft targets need a twin: give it momentum")
        for pattern in self.freeze:
            _compiled(pattern, f"stage {self.name}: freeze")
        self._check_weights()

    def _check_batch(self) -> None:
        """What must fit into a batch, and what a batch must fit into."""
        if self.buckets is not None and self.batch < self.buckets.multiple:
            raise ValueError(
                f"stage {self.name}: batch {self.batch} is less than the {self.buckets.multiple} "
                "rows that buckets take together (multiple): change one"
            )
        if self.momentum is not None and 0 < self.momentum.queue < self.batch:
            raise ValueError(
                f"stage {self.name}: a batch of {self.batch} does not fit into a queue of "
                f"{self.momentum.queue}: change one"
            )

    def _check_weights(self) -> None:
        losses = [name for objective in self.objectives for name in objective.losses]
        for name, weight in self.weights.items():
            if name in losses:
                within(0, MOST, **{f"stage {self.name}: the weight of {name}": weight})
            else:
                known = ", ".join(losses)
                hint = nearest(name, losses)
                raise ValueError(f"stage {self.name}: no loss {name!r}; there are {known}{hint}")


@dataclass(frozen=True, kw_only=True)
class TrainingPlan:
    """A whole run. Equal plans on equal releases give equal models, bit for bit on one CPU.

    Samples of the split `heldout` of the stage's releases, where they have one, are looked at while
    it runs. `init` maps a part of the model (an embedding or a stack) to the name or path of
    pretrained weights.
    """

    name: str
    model: ModelSpec
    stages: tuple[TrainingStage, ...]
    init: Mapping[str, str] = field(default_factory=dict)
    seed: int = 0
    samples: int = 0  # of each release that are read, from its front; 0: all
    precision: Precision = "auto"
    checkpoint_steps: int = 500  # a checkpoint after so many steps ...
    checkpoint_seconds: float = 600.0  # ... or so many seconds, whatever comes first
    validate_steps: int = 500  # look at held-out samples after so many steps of a stage; 0: never
    validate_batches: int = 8  # so many batches of them, at most
    shard: Literal["none", "fsdp"] = "none"  # cut blocks and their moments among the ranks
    recompute: bool = False  # activations in the backward pass: less memory, a third more time
    compile: bool = False  # blocks, with torch.compile
    threads: int = 2  # of torch on a CPU: part of the plan, because sums depend on it

    def __post_init__(self) -> None:
        names = [stage.name for stage in self.stages]
        if not names or len(set(names)) != len(names):
            raise ValueError(f"stages must be there and have different names, not {names}")
        within(0, 2**63 - 1, seed=self.seed)
        within(0, 1024, threads=self.threads)
        within(1, MOST, checkpoint_steps=self.checkpoint_steps)
        within(0, MOST, checkpoint_seconds=self.checkpoint_seconds)
        within(0, MOST, validate_steps=self.validate_steps, samples=self.samples)
        within(1, MOST, validate_batches=self.validate_batches)
        for part in self.init:
            known = [*self.model.stacks, *self.model.embeds]
            if part not in known:
                hint = nearest(part, known)
                raise ValueError(
                    f"init: the model has no part {part!r}; there are {', '.join(known)}{hint}"
                )
        for stage in self.stages:
            _check_resolution(self.model, stage)
            for objective in stage.objectives:
                check_names(self.model, objective, stage.name)

    @property
    def releases(self) -> list[str]:
        """Names of the releases that the stages read, sorted."""
        return sorted({name for stage in self.stages for name in stage.data})

    @property
    def steps(self) -> int:
        """Optimizer steps of all stages together."""
        return sum(stage.steps for stage in self.stages)

    @property
    def digest(self) -> str:
        """128 bits over the plan's values, as hex; 1 and 1.0 are one value.

        What changes no result is left out: a run goes on with another value of it.
        """
        plain = encode(decode(TrainingPlan, encode(self)))
        for name in OF_RUNNING:
            del plain[name]
        text = json.dumps(plain, sort_keys=True)
        return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()


def smoke(plan: TrainingPlan) -> TrainingPlan:
    """The same plan in seconds: every stage and every part of the model, all of it small.

    Three steps a stage of eight rows in chunks of four, two blocks a stack (initial weights fill
    the first ones), queues and warm-ups to match, and a few samples of each release, so that no
    vocabulary and no features of the whole are made. What is smaller already stays.
    """
    stacks = {}
    for name, stack in plan.model.stacks.items():
        stacks[name] = replace(stack, layers=min(stack.layers, 2))
    return replace(
        plan,
        name=f"{plan.name}-smoke",
        model=replace(plan.model, stacks=stacks),
        stages=tuple(_smoke_stage(stage) for stage in plan.stages),
        samples=min(plan.samples or SMOKE_SAMPLES, SMOKE_SAMPLES),
    )


def _smoke_stage(stage: TrainingStage) -> TrainingStage:
    momentum = stage.momentum
    if momentum is not None:
        queue = min(momentum.queue, 16)
        momentum = replace(momentum, queue=queue, alpha_warmup=min(momentum.alpha_warmup, 2))
    batch = min(stage.batch, 8)
    buckets = stage.buckets
    if buckets is not None and buckets.multiple > batch:
        buckets = replace(buckets, multiple=batch, window=8 * batch)
    return replace(
        stage,
        steps=min(stage.steps, 3),
        batch=batch,
        buckets=buckets,
        chunk=min(stage.chunk, 4),
        schedule=replace(stage.schedule, warmup=min(stage.schedule.warmup, 1.0)),
        momentum=momentum,
    )


def _check_resolution(model: ModelSpec, stage: TrainingStage) -> None:
    try:
        model.at_resolution(stage.resolution)
    except ValueError as error:
        raise ValueError(f"stage {stage.name}: {error}") from error


def check_names(model: ModelSpec, objective: AnyObjective, stage: str) -> None:
    """ValueError when an objective names a pass or a head that the model has not."""
    nodes = [*model.embeds, *model.passes]
    for name, value in vars(objective).items():
        if name in NODE_FIELDS:
            for node in value if isinstance(value, tuple) else (value,):
                if node not in nodes:
                    known = ", ".join(nodes)
                    hint = nearest(node, nodes)
                    raise ValueError(f"stage {stage}: {name} {node!r} is none of {known}{hint}")
        elif (name == "scale" or name.endswith("head")) and value not in model.heads:
            known = ", ".join(model.heads)
            hint = nearest(value, model.heads)
            raise ValueError(f"stage {stage}: {name} {value!r} is no head of {known}{hint}")
    if isinstance(objective, Contrast):
        _check_dims(model, objective, stage)


def _check_dims(model: ModelSpec, contrast: Contrast, stage: str) -> None:
    heads = (contrast.image_head, contrast.text_head)
    dims = {name: getattr(model.heads[name], "dim", 0) for name in heads}
    if len(set(dims.values())) > 1:
        sizes = " and ".join(f"{name} {dim}" for name, dim in dims.items())
        raise ValueError(f"stage {stage}: the heads that are compared have other sizes: {sizes}")


def _compiled(pattern: str, where: str) -> re.Pattern[str]:
    try:
        return re.compile(pattern)
    except re.error as error:
        raise ValueError(f"{where}: {pattern!r} is no regular expression ({error})") from error
