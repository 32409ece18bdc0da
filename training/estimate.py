"""What a plan costs on this machine: memory and hours, from a few timed steps of each stage."""

from __future__ import annotations

import itertools
import os
import statistics
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import torch

from training.data.features import FeatureSpec
from training.data.shards import Release
from training.data.tokenizer import TextSpec, make_tokenizer
from training.export import fit_answers, fit_vocabularies
from training.loop import Progress
from training.model import Model
from training.plan import TrainingPlan, TrainingStage
from training.precision import best_device
from training.train import check_beginnings, open_releases, prepare, train

TIMED = 3  # steps of a stage, of which the first does not count: it is slower
ROWS = {"cpu": 8, "cuda": 64}  # of a timed step; a second run has twice as many
SAMPLES = 64  # of each release that are read
CAPTIONS = 100_000  # of which vocabularies are made
STATUS = Path("/proc/self/status")


@dataclass(frozen=True, kw_only=True)
class StageCost:
    """What a stage takes; `rows` are the batches that were timed."""

    name: str
    steps: int
    batch: int
    rows: tuple[int, ...]
    seconds_a_step: float
    hours: float
    memory: int  # bytes: weights, gradients, moments, activations


def estimate(
    plan: TrainingPlan, *, releases: Mapping[str, str | Path], workers: int | None = None
) -> dict[str, Any]:
    """Memory in bytes and hours of a plan on this hardware, as one process; nothing is kept.

    Each stage runs for a few steps of few samples, twice, with one batch double the other: a line
    through both gives a step of the plan's batch. Memory is what weights, gradients and moments
    take, and what activations took beside them for each sample. Features of frozen towers are
    computed for a few samples. Checkpoints and validation are not counted. ValueError as `train`.
    """
    check_beginnings(plan)
    opened = open_releases(plan, releases)
    fitted = _with_vocabularies(fit_answers(plan, opened), opened)
    kind = best_device().type
    with tempfile.TemporaryDirectory(prefix="winnow-estimate-") as folder:
        out = Path(folder)
        few = {name: _few(one, out / "releases" / name) for name, one in opened.items()}
        features = _feature_seconds(fitted, few, out / "features")
        timed = _Timed()
        short = _short(fitted, ROWS[kind])
        train(
            short,
            releases=few,
            out=out / "run",
            cache=out / "features",
            workers=workers,
            on_progress=timed.take,
            say=lambda text: None,
        )

    samples = sum(map(len, opened.values()))
    costs = [_cost(fitted, stage, timed) for stage in fitted.stages]
    feature_hours = features * samples / 3600
    return {
        "plan": plan.name,
        "device": torch.cuda.get_device_name() if kind == "cuda" else f"{plan.threads} threads",
        "parameters": _parameters(fitted, None),
        "steps": plan.steps,
        "hours": round(feature_hours + sum(cost.hours for cost in costs), 4),
        "feature_hours": round(feature_hours, 4),
        "memory": max(cost.memory for cost in costs),
        "memory_there": _memory_there(kind),
        "stages": [asdict(cost) for cost in costs],
    }


def _with_vocabularies(plan: TrainingPlan, releases: Mapping[str, Release]) -> TrainingPlan:
    """The plan with tables of words as large as its releases make them."""
    texts = {n: spec for n, spec in plan.model.prepare.items() if isinstance(spec, TextSpec)}
    found = {}
    for name, spec in texts.items():
        captions = itertools.chain.from_iterable(one.all_captions() for one in releases.values())
        found[name] = make_tokenizer(spec, captions=itertools.islice(captions, CAPTIONS))
    return replace(plan, model=fit_vocabularies(plan.model, found))


def _few(release: Release, folder: Path) -> Path:
    """Some samples of a release, from all of it, as a release of their own."""
    rows = range(0, len(release), max(1, len(release) // SAMPLES))[:SAMPLES]
    samples = [release[row] for row in rows]
    table = pa.table(
        {
            "image": pa.array([one.image for one in samples], pa.binary()),
            "caption": pa.array([one.captions for one in samples], pa.list_(pa.string())),
            "image_id": pa.array([one.image_id for one in samples], pa.string()),
            "answers": pa.array([list(one.answers) for one in samples], pa.list_(pa.string())),
            "second": pa.array([one.second for one in samples], pa.binary()),
        }
    )
    folder.mkdir(parents=True)
    with pa.ipc.new_file(str(folder / "train-00000-of-00001.arrow"), table.schema) as file:
        file.write_table(table)
    return folder


def _feature_seconds(plan: TrainingPlan, few: Mapping[str, Path], cache: Path) -> float:
    """What the frozen towers take for a sample."""
    if not any(isinstance(spec, FeatureSpec) for spec in plan.model.prepare.values()):
        return 0.0
    opened = open_releases(plan, few)
    began = time.perf_counter()
    prepare(plan, opened, lambda release: cache)
    return (time.perf_counter() - began) / sum(map(len, opened.values()))


def _short(plan: TrainingPlan, rows: int) -> TrainingPlan:
    """Each stage for a few steps, with a batch and with the double of it."""
    stages: list[TrainingStage] = []
    for stage in plan.stages:
        for number, batch in enumerate(_batches(stage, rows)):
            chunk = max(2, rows // 2) if 0 < stage.chunk < stage.batch else 0
            name = f"{stage.name} {number}"
            stages.append(replace(stage, name=name, steps=TIMED, batch=batch, chunk=chunk))
    return replace(
        plan,
        stages=tuple(stages),
        checkpoint_steps=1_000_000_000,
        checkpoint_seconds=1e9,
        validate_steps=0,
    )


def _batches(stage: TrainingStage, rows: int) -> tuple[int, ...]:
    return (stage.batch,) if stage.batch <= rows else (rows, min(2 * rows, stage.batch))


class _Timed:
    """Seconds of steps and the memory at their ends, by stage of the short plan."""

    def __init__(self) -> None:
        self.seconds: dict[str, list[float]] = defaultdict(list)
        self.peak: dict[str, int] = {}
        self.before = _peak(reset=True)
        self._at = time.perf_counter()

    def take(self, progress: Progress) -> None:
        """After each step."""
        now = time.perf_counter()
        self.seconds[progress.stage].append(now - self._at)
        last = len(self.seconds[progress.stage]) == TIMED
        self.peak[progress.stage] = _peak(reset=last) - self.before
        self._at = time.perf_counter()

    def step(self, stage: str) -> float:
        """Seconds of a usual step: the first one opens the data, and is not counted."""
        return statistics.median(self.seconds[stage][1:])


def _cost(plan: TrainingPlan, stage: TrainingStage, timed: _Timed) -> StageCost:
    rows = _batches(stage, ROWS[best_device().type])
    names = [f"{stage.name} {number}" for number in range(len(rows))]
    seconds = _line([float(one) for one in rows], [timed.step(one) for one in names], stage.batch)

    states = _parameters(plan, stage)
    at_once = min(stage.batch, stage.chunk or stage.batch)
    held = max(2, rows[0] // 2) if 0 < stage.chunk < stage.batch else rows[-1]
    activations = max(0, timed.peak[names[-1]] - states) / held
    return StageCost(
        name=stage.name,
        steps=stage.steps,
        batch=stage.batch,
        rows=rows,
        seconds_a_step=round(seconds, 4),
        hours=round(seconds * stage.steps / 3600, 4),
        memory=int(states + activations * at_once),
    )


def _line(at: list[float], values: list[float], wanted: float) -> float:
    """The value at `wanted` of the line through one or two points, which never falls."""
    if len(at) == 1:
        return values[0]
    slope = max(0.0, values[1] - values[0]) / (at[1] - at[0])
    return max(values[1], values[1] + slope * (wanted - at[1]))


def _parameters(plan: TrainingPlan, stage: TrainingStage | None) -> int:
    """How many parameters there are; with a stage the bytes of all that it keeps for them.

    Weights, gradients and AdamW's two moments in float32, and once more each the twin and the
    moving average.
    """
    with torch.device("meta"):
        count = sum(parameter.numel() for parameter in Model(plan.model).parameters())
    if stage is None:
        return count
    copies = 4 + (stage.momentum is not None) + bool(stage.ema)
    return 4 * copies * count


def _peak(*, reset: bool) -> int:
    """The most bytes that were held since the last reset."""
    if torch.cuda.is_available():
        found = torch.cuda.max_memory_allocated()
        if reset:
            torch.cuda.reset_peak_memory_stats()
        return found
    if not STATUS.is_file():
        return 0
    found = next(_kilobytes("VmHWM:"), 0)
    if reset:
        Path("/proc/self/clear_refs").write_text("5")  # proc(5): the peak begins anew
    return found


def _kilobytes(name: str) -> Iterator[int]:
    for line in STATUS.read_text().splitlines():
        if line.startswith(name):
            yield int(line.split()[1]) * 1024


def _memory_there(kind: str) -> int:
    if kind == "cuda":
        return int(torch.cuda.get_device_properties(0).total_memory)
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
