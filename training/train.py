"""A training run from end to end: releases and a plan in, a model out."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, closing, contextmanager, nullcontext
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch.distributed import ProcessGroup

from training.checkpoint import Checkpoints
from training.config import encode
from training.data.features import Computing, FeatureSpec, features_of
from training.data.feed import Data
from training.data.images import ImageSpec
from training.data.loader import Prepared
from training.data.reduction import Reduction
from training.data.shards import Release
from training.data.tokenizer import TextSpec, Tokenizer, make_tokenizer
from training.distributed import Ranks, joined, patient_group
from training.evaluate.lines import SUFFIX, opened_release
from training.export import (
    CONFIG,
    REDUCTION,
    WEIGHTS,
    export_model,
    fit_answers,
    fit_grids,
    fit_vocabularies,
)
from training.folder import RESULT, Metrics, alone, claim, earlier_digests, read_json, write_json
from training.loop import Loop, Progress
from training.model import Model, initialise
from training.plan import AnyObjective, TrainingPlan
from training.precision import best_device
from training.run import Run, begin_stage, restore
from training.sharding import prepare_stacks
from training.threads import flushed, threads
from training.validation import Validator
from training.weights.files import check_sources
from training.weights.load import cross_from_self, load_part


@dataclass(frozen=True, kw_only=True)
class TrainResult:
    """A finished run."""

    model: Path  # the exported folder
    digest: str  # of the plan
    steps: int
    numbers: Mapping[str, float]  # of the last step
    bad: int  # samples that could not be used
    best: Mapping[str, float]  # step and held-out loss of `out`/best, if any
    ran: bool  # false: it was finished before, and nothing was done


def _silent(message: object) -> None:
    """Says nothing."""


def train(
    plan: TrainingPlan,
    *,
    releases: Mapping[str, str | Path],
    out: Path,
    cache: Path | None = None,
    workers: int | None = None,
    amend: bool = False,
    on_progress: Callable[[Progress], None] = _silent,
    say: Callable[[str], None] = print,
) -> TrainResult:
    """Run a plan on releases (name -> folder or URL) and export the model to `out`/model.

    A finished run is not run again; an interrupted one goes on from its last checkpoint. Under
    torchrun all processes train one model. Where the releases hold samples out (split `heldout`),
    the model that does best on them is exported to `out`/best. `cache` is where features of frozen
    towers are kept (otherwise "features" beside the shards of a release, or in `out` if they lie on
    another machine), `workers` how many processes decode (a core less than there are otherwise).
    With `amend` a run under way goes on although the plan has other rates, schedules or weights
    of losses now, as it must after a number that was none. `say` is told how far the features
    are, and what was loaded of the initial weights, and what was not.

    ValueError when a release is missing or damaged, when `out` holds another run or somebody trains
    there, or when a number of a step is none; KeyboardInterrupt after Ctrl-C or SIGTERM, with a
    checkpoint written; OSError when a checkpoint cannot be written.
    """
    opened = open_releases(plan, releases)
    plan = fit_answers(plan, opened)
    with joined() as ranks, flushed(), threads(plan.threads):
        job = _Job(
            plan=plan,
            releases=opened,
            heldout=held_out(plan, releases),
            out=out,
            cache=cache,
            workers=_workers(workers),
            amend=amend,
            ranks=ranks,
            on_progress=on_progress,
            say=say if ranks.first else _silent,
        )
        with _claimed(job):
            if (out / RESULT).is_file() and (out / "model" / CONFIG).is_file():
                return _result(plan, out, read_json(out / RESULT), ran=False)
            check_beginnings(plan)
            result = _train(job)
            ranks.meet()
            return _result(plan, out, result, ran=True)


@dataclass(frozen=True, kw_only=True)
class _Job:
    """The arguments of a run, its releases opened."""

    plan: TrainingPlan
    releases: Mapping[str, Release]
    heldout: Mapping[str, Release]
    out: Path
    cache: Path | None
    workers: int
    amend: bool
    ranks: Ranks
    on_progress: Callable[[Progress], None]
    say: Callable[[str], None]

    @cached_property
    def identity(self) -> dict[str, Any]:
        """What a folder and its checkpoints belong to."""
        digests = {name: release.digest() for name, release in self.releases.items()}
        return {"digest": self.plan.digest, "releases": digests}

    def place(self, release: Release) -> Path:
        """Where features of a release are kept."""
        return self.cache or (release.home or self.out) / "features"


@contextmanager
def _claimed(job: _Job) -> Iterator[None]:
    """The first rank claims the folder for all of them."""
    with alone(job.out) if job.ranks.first else nullcontext():
        if job.ranks.first:
            identity = {"name": job.plan.name, **job.identity, "plan": encode(job.plan)}
            claim(job.out, identity, amend=job.amend)
        job.ranks.meet()
        yield


def _train(job: _Job) -> dict[str, object]:
    group = patient_group(job.ranks)
    prepared = _prepare_once(job, group)
    checkpoints = Checkpoints(
        folder=job.out / "checkpoints",
        group=group,
        identity=job.identity,
        earlier=earlier_digests(job.out),
    )
    run = _start(job, prepared, checkpoints)

    with _metrics(job, run) as metrics:
        _loop(job, run, prepared, checkpoints, metrics).run_stages()
    export_model(job.out / "model", run.model, prepared, learned(job.plan))
    _say_where(run, job.out, job.say)

    result = {
        "steps": job.plan.steps,
        "numbers": run.numbers,
        "bad": len(run.bad),
        "best": run.best,
    }
    if job.ranks.first:
        write_json(job.out / RESULT, result)
    return result


def _metrics(job: _Job, run: Run) -> AbstractContextManager[Metrics | None]:
    """The first rank writes for all."""
    return closing(Metrics(job.out, run.done)) if job.ranks.first else nullcontext()


def _prepare_once(job: _Job, group: ProcessGroup | None) -> dict[str, Prepared]:
    """The first rank computes features; the others wait, and then read them."""
    if not job.ranks.first:
        job.ranks.meet(group)
    prepared = prepare(job.plan, job.releases, job.place, job.heldout, job.say)
    if job.ranks.first:
        job.ranks.meet(group)
    return prepared


def _start(job: _Job, prepared: Mapping[str, Prepared], checkpoints: Checkpoints) -> Run:
    """A new run, or one resumed from its newest checkpoint."""
    run = make_run(job.plan, prepared)
    if checkpoints.newest() is None:
        load_initial_weights(run, job.say)
    prepare_stacks(run.model, job.plan, job.ranks, run.device)
    if not restore(run, checkpoints):
        begin_stage(run)
    return run


def _loop(
    job: _Job,
    run: Run,
    prepared: Mapping[str, Prepared],
    checkpoints: Checkpoints,
    metrics: Metrics | None,
) -> Loop:
    data = Data(plan=job.plan, prepared=prepared, ranks=job.ranks, workers=job.workers)
    validator = Validator(
        lambda run: data.validation(run.now, job.heldout),
        lambda run, model: export_model(job.out / "best", model, prepared, learned(job.plan)),
    )
    return Loop(
        run=run,
        checkpoints=checkpoints,
        metrics=metrics,
        open_feed=lambda run: data.training(run.now, job.releases, run.stream_states),
        validator=validator,
        on_progress=job.on_progress,
    )


def _say_where(run: Run, out: Path, say: Callable[[str], None]) -> None:
    """Which model is in which folder."""
    say(f"{out / 'model'}: the model after the last step, {run.plan.steps}")
    if run.best:
        step, loss = int(run.best["step"]), run.best["loss"]
        say(f"{out / 'best'}: the model after step {step}, best on held-out samples ({loss:.4g})")
    elif run.plan.validate_steps:
        say("the releases hold nothing out: no step was validated")


def learned(plan: TrainingPlan) -> list[AnyObjective]:
    """What the model was trained for in any stage, the last stage's first."""
    objectives: list[AnyObjective] = []
    for stage in reversed(plan.stages):
        for objective in stage.objectives:
            if objective not in objectives:
                objectives.append(objective)
    return objectives


def _result(plan: TrainingPlan, out: Path, result: Mapping[str, Any], ran: bool) -> TrainResult:
    try:
        return TrainResult(model=out / "model", digest=plan.digest, ran=ran, **result)
    except TypeError as error:
        raise ValueError(
            f"{out / RESULT} is damaged ({error}): remove it, and the same command ends the run"
        ) from error


def check_beginnings(plan: TrainingPlan) -> None:
    """ValueError where initial weights of the model or of a stage are not there."""
    check_sources(plan.init)
    for stage in plan.stages:
        if stage.init and not (Path(stage.init) / WEIGHTS).is_file():
            raise ValueError(
                f"stage {stage.name}: init {stage.init} holds no model; give the folder `model` "
                "of a run"
            )


def open_releases(plan: TrainingPlan, releases: Mapping[str, str | Path]) -> dict[str, Release]:
    """The releases that a plan reads; ValueError says which are missing."""
    missing = [name for name in plan.releases if name not in releases]
    if missing:
        names = ", ".join(plan.releases)
        lacking = ", ".join(missing)
        raise ValueError(f"plan {plan.name} reads the releases {names}; missing: {lacking}")

    opened = {}
    for name in plan.releases:
        release = opened_release(name, releases[name])
        opened[name] = release.first(plan.samples)
    return opened


def held_out(plan: TrainingPlan, releases: Mapping[str, str | Path]) -> dict[str, Release]:
    """The held-out samples of the releases of a plan, by name; none if it does not validate.

    A file of lines holds nothing out.
    """
    if not plan.validate_steps:
        return {}
    found: dict[str, Release] = {}
    for name in plan.releases:
        if str(releases[name]).endswith(SUFFIX):
            continue
        release = Release.heldout(name, releases[name])
        if release is not None:
            found[name] = release.first(plan.samples)
    return found


def prepare(
    plan: TrainingPlan,
    releases: Mapping[str, Release],
    place: Callable[[Release], Path],
    heldout: Mapping[str, Release] | None = None,
    say: Callable[[str], None] = _silent,
) -> dict[str, Prepared]:
    """For each embedding what makes its input of a sample; features are computed if need be.

    Vocabularies and components of features come from what is trained on alone. `place` says where
    features of a release are kept; `say` is told how far they are.
    """
    all_releases = dict(sorted(releases.items()))
    for release in (heldout or {}).values():
        all_releases[release.name] = release

    prepared: dict[str, Prepared] = {}
    for name, spec in plan.model.prepare.items():
        match spec:
            case TextSpec():
                captions = (text for one in releases.values() for text in one.all_captions())
                prepared[name] = make_tokenizer(spec, captions=captions)
            case FeatureSpec():
                prepared[name] = features_of(
                    spec,
                    all_releases,
                    place,
                    reduction=_kept_reduction(plan, name),
                    computing=_computing(spec, say),
                )
            case ImageSpec():
                prepared[name] = spec
    return prepared


def _kept_reduction(plan: TrainingPlan, name: str) -> Reduction | None:
    """The components of features that a model which is trained further was trained on."""
    for stage in plan.stages:
        path = Path(stage.init) / "prepare" / name / REDUCTION
        if stage.init and path.is_file():
            return Reduction.load(path)
    return None


def _computing(spec: FeatureSpec, say: Callable[[str], None]) -> Computing:
    """On the device; one other process decodes, which a picture may kill."""

    def progress(done: int, total: int) -> None:
        say(f"features of {spec.tower.folder}: {done:,} of {total:,} samples")

    def waiting(folder: Path) -> None:
        say(f"features of {spec.tower.folder}: another run computes {folder}; waiting for it")

    return Computing(device=best_device(), workers=1, progress=progress, waiting=waiting)


def make_run(plan: TrainingPlan, prepared: Mapping[str, Prepared]) -> Run:
    """A model with its first weights, before any step."""
    tokenizers = {name: one for name, one in prepared.items() if isinstance(one, Tokenizer)}
    spec = fit_grids(fit_vocabularies(plan.model, tokenizers))
    plan = replace(plan, model=spec)
    model = Model(spec)
    initialise(model, torch.Generator().manual_seed(plan.seed))
    device = best_device()
    return Run(plan=plan, model=model.to(device), device=device, ranks=Ranks.current())


def load_initial_weights(run: Run, say: Callable[[str], None]) -> None:
    """The weights that the plan names for parts of the model; ValueError when one loads nothing."""
    for part, source in run.plan.init.items():
        report = load_part(run.model, part, source)
        say(f"initial weights of {part}: {report}")
    for name, stack in run.model.spec.stacks.items():
        if stack.cross is not None and stack.cross.copy:
            cross_from_self(run.model, name, stack.attentions[0])


def _workers(workers: int | None) -> int:
    """If not given, a core less than there are, those of the other ranks on this machine aside."""
    if workers is not None:
        return workers
    ranks_here = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    return max(1, (os.cpu_count() or 2) // ranks_here - 1)
