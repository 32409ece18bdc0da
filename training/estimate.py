"""What a plan costs on this machine: memory and hours, from a few timed steps of each stage."""

from __future__ import annotations

import os
import re
import statistics
import tempfile
import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import islice
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
SCHEMA = pa.schema(
    {
        "image": pa.binary(),
        "caption": pa.list_(pa.string()),
        "image_id": pa.string(),
        "answers": pa.list_(pa.string()),
        "second": pa.binary(),
    }
)


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
        few = {}
        for name, release in opened.items():
            few[name] = _few(release, out / "releases" / name)
        seconds = _feature_seconds(fitted, few, out / "features")
        timer = _StepTimer()
        train(
            _short(fitted, ROWS[kind]),
            releases=few,
            out=out / "run",
            cache=out / "features",
            workers=workers,
            on_progress=timer.on_progress,
            say=lambda text: None,
        )

    samples = sum(map(len, opened.values()))
    feature_hours = seconds * samples / 3600
    costs = [_cost(fitted, stage, timer) for stage in fitted.stages]
    hours = sum(cost.hours for cost in costs)
    return {
        "plan": plan.name,
        "device": torch.cuda.get_device_name() if kind == "cuda" else f"{plan.threads} threads",
        "parameters": _num_parameters(fitted),
        "steps": plan.steps,
        "hours": round(feature_hours + hours, 4),
        "feature_hours": round(feature_hours, 4),
        "memory": max(cost.memory for cost in costs),
        "memory_there": _device_memory(kind),
        "stages": [asdict(cost) for cost in costs],
    }


def _with_vocabularies(plan: TrainingPlan, releases: Mapping[str, Release]) -> TrainingPlan:
    """The plan with tables of words as large as its releases make them."""
    tokenizers = {}
    for name, spec in plan.model.prepare.items():
        if isinstance(spec, TextSpec):
            captions = (text for one in releases.values() for text in one.all_captions())
            tokenizers[name] = make_tokenizer(spec, captions=islice(captions, CAPTIONS))
    return replace(plan, model=fit_vocabularies(plan.model, tokenizers))


def _few(release: Release, folder: Path) -> Path:
    """Some samples of a release, from all of it, as a release of their own."""
    rows = []
    step = max(1, len(release) // SAMPLES)
    for number in range(0, len(release), step)[:SAMPLES]:
        sample = release[number]
        row = {
            "image": sample.image,
            "caption": sample.captions,
            "image_id": sample.image_id,
            "answers": list(sample.answers),
            "second": sample.second,
        }
        rows.append(row)

    table = pa.Table.from_pylist(rows, schema=SCHEMA)
    folder.mkdir(parents=True)
    with pa.ipc.new_file(str(folder / "train-00000-of-00001.arrow"), SCHEMA) as file:
        file.write_table(table)
    return folder


def _feature_seconds(plan: TrainingPlan, few: Mapping[str, Path], cache: Path) -> float:
    """What the frozen towers take for a sample."""
    if not any(isinstance(spec, FeatureSpec) for spec in plan.model.prepare.values()):
        return 0.0
    releases = open_releases(plan, few)
    samples = sum(map(len, releases.values()))
    start = time.perf_counter()
    prepare(plan, releases, lambda release: cache)
    return (time.perf_counter() - start) / samples


def _short(plan: TrainingPlan, rows: int) -> TrainingPlan:
    """Each stage for a few steps, with a batch and with the double of it."""
    stages: list[TrainingStage] = []
    for stage in plan.stages:
        chunk = max(2, rows // 2) if 0 < stage.chunk < stage.batch else 0
        for number, batch in enumerate(_batches(stage, rows)):
            short = replace(stage, buckets=None, steps=TIMED, batch=batch, chunk=chunk)
            stages.append(replace(short, name=f"{stage.name} {number}"))
    return replace(
        plan,
        stages=tuple(stages),
        checkpoint_steps=1_000_000_000,
        checkpoint_seconds=1e9,
        validate_steps=0,
    )


def _batches(stage: TrainingStage, rows: int) -> tuple[int, ...]:
    if stage.batch <= rows:
        return (stage.batch,)
    return rows, min(2 * rows, stage.batch)


class _StepTimer:
    """Seconds of steps and the memory at their ends, by stage of the short plan."""

    def __init__(self) -> None:
        self.seconds: dict[str, list[float]] = defaultdict(list)
        self.peak: dict[str, int] = {}
        self.before = _peak(reset=True)
        self._start = time.perf_counter()

    def on_progress(self, progress: Progress) -> None:
        """After each step."""
        seconds = self.seconds[progress.stage]
        seconds.append(time.perf_counter() - self._start)
        is_last = len(seconds) == TIMED
        self.peak[progress.stage] = _peak(reset=is_last) - self.before
        self._start = time.perf_counter()

    def median(self, stage: str) -> float:
        """Seconds of a usual step: the first one opens the data, and is not counted."""
        return statistics.median(self.seconds[stage][1:])


def _cost(plan: TrainingPlan, stage: TrainingStage, timer: _StepTimer) -> StageCost:
    batches = _batches(stage, ROWS[best_device().type])
    names = [f"{stage.name} {number}" for number in range(len(batches))]
    seconds = _line(batches, [timer.median(name) for name in names], stage.batch)

    states = _parameter_bytes(plan, stage)
    rows, timed_rows = stage.batch, batches[-1]  # that are in memory at once
    if 0 < stage.chunk < stage.batch:
        rows, timed_rows = stage.chunk, max(2, batches[0] // 2)
    activations = max(0, timer.peak[names[-1]] - states) / timed_rows
    return StageCost(
        name=stage.name,
        steps=stage.steps,
        batch=stage.batch,
        rows=batches,
        seconds_a_step=round(seconds, 4),
        hours=round(seconds * stage.steps / 3600, 4),
        memory=int(states + activations * rows),
    )


def _line(x: Sequence[float], y: Sequence[float], at: float) -> float:
    """The value at `at` of the line through one or two points, which never falls."""
    if len(x) == 1:
        return y[0]
    slope = max(0.0, y[1] - y[0]) / (x[1] - x[0])
    return max(y[1], y[1] + slope * (at - x[1]))


def _num_parameters(plan: TrainingPlan) -> int:
    with torch.device("meta"):
        model = Model(plan.model)
    return sum(parameter.numel() for parameter in model.parameters())


def _parameter_bytes(plan: TrainingPlan, stage: TrainingStage) -> int:
    """What a stage keeps of all parameters, in float32.

    Weights, gradients and AdamW's two moments, and once more each the twin and the moving average.
    """
    copies = 4 + (stage.momentum is not None) + bool(stage.ema)
    return 4 * copies * _num_parameters(plan)


def _peak(*, reset: bool) -> int:
    """The most bytes that were held since the last reset."""
    if torch.cuda.is_available():
        peak = torch.cuda.max_memory_allocated()
        if reset:
            torch.cuda.reset_peak_memory_stats()
        return peak
    if not STATUS.is_file():
        return 0

    kilobytes = re.search(r"VmHWM:\s*(\d+)", STATUS.read_text())
    if reset:
        Path("/proc/self/clear_refs").write_text("5")  # proc(5): the peak begins anew
    return int(kilobytes[1]) * 1024 if kilobytes else 0


def _device_memory(kind: str) -> int:
    if kind == "cuda":
        return int(torch.cuda.get_device_properties(0).total_memory)
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
