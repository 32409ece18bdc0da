"""A training run from end to end: releases and a plan in, a model out."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from training.checkpoint import Checkpoints
from training.config import encode
from training.data.features import Computing, FeatureSpec, features_of
from training.data.images import ImageSpec
from training.data.loader import DataSpec, Loader, Prepared
from training.data.reduction import Reduction
from training.data.shards import Release
from training.data.tokenizer import TextSpec, Tokenizer, make_tokenizer
from training.distributed import Ranks
from training.export import REDUCTION, export_model, fit_vocabularies
from training.folder import RESULT, Metrics, alone, claim, read_json, write_json
from training.loop import Progress, Run, begin_stage, restore, run_stages
from training.model import Model, initialise
from training.plan import AnyObjective, TrainingPlan
from training.threads import threads
from training.weights.load import load_part


@dataclass(frozen=True, kw_only=True)
class TrainResult:
    """A finished run."""

    model: Path  # the exported folder
    digest: str  # of the plan
    steps: int
    numbers: Mapping[str, float]  # of the last step
    bad: int  # samples that could not be used
    ran: bool  # false: it was finished before, and nothing was done


def _silent(progress: Progress) -> None:
    pass


def train(
    plan: TrainingPlan,
    *,
    releases: Mapping[str, str | Path],
    out: Path,
    cache: Path | None = None,
    workers: int | None = None,
    on_progress: Callable[[Progress], None] = _silent,
    say: Callable[[str], None] = print,
) -> TrainResult:
    """Run a plan on releases (name -> folder or URL) and export the model to `out`/model.

    A finished run is not run again; an interrupted one goes on from its last checkpoint. `cache` is
    where features of frozen towers are kept (otherwise "features" beside the shards of a release,
    or in `out` if they lie on another machine), `workers` how many processes decode (a core less
    than there are otherwise). `say` is told what was loaded of the
    initial weights, and what was not.

    ValueError when a release is missing or damaged, when `out` holds another run or somebody trains
    there, or when a number of a step is none; KeyboardInterrupt after Ctrl-C or SIGTERM, with a
    checkpoint written; OSError when a checkpoint cannot be written.
    """
    opened = open_releases(plan, releases)
    identity = {
        "name": plan.name,
        "digest": plan.digest,
        "releases": {name: release.digest() for name, release in opened.items()},
        "plan": encode(plan),
    }
    with alone(out), threads(plan.threads):
        claim(out, identity)
        if (out / RESULT).is_file():
            known = read_json(out / RESULT)
            return _result(plan, out, known, ran=False)

        places = {name: cache or (one.home or out) / "features" for name, one in opened.items()}
        prepared = prepare(plan, opened, places, say)
        run = make_run(plan, prepared)
        checkpoints = Checkpoints(folder=out / "checkpoints")
        if not restore(run, checkpoints):
            load_initial_weights(run, say)
            begin_stage(run)

        metrics = Metrics(out, run.done)
        try:
            run_stages(run, checkpoints, metrics, _loaders(opened, prepared, workers), on_progress)
        finally:
            metrics.close()
        export_model(out / "model", run.model, prepared, learned(plan))
        result = {"steps": plan.steps, "numbers": run.numbers, "bad": len(run.bad)}
        write_json(out / RESULT, result)
        return _result(plan, out, result, ran=True)


def learned(plan: TrainingPlan) -> list[AnyObjective]:
    """What the model was trained for in any stage, the last stage's first."""
    found: list[AnyObjective] = []
    for stage in reversed(plan.stages):
        found += [one for one in stage.objectives if one not in found]
    return found


def _result(plan: TrainingPlan, out: Path, known: Mapping[str, object], ran: bool) -> TrainResult:
    steps, numbers, bad = known["steps"], known["numbers"], known["bad"]
    assert isinstance(steps, int), "result.json is ours"
    assert isinstance(numbers, dict), "result.json is ours"
    assert isinstance(bad, int), "result.json is ours"
    return TrainResult(
        model=out / "model",
        digest=plan.digest,
        steps=steps,
        numbers=numbers,
        bad=bad,
        ran=ran,
    )


def open_releases(plan: TrainingPlan, releases: Mapping[str, str | Path]) -> dict[str, Release]:
    """The releases that a plan reads; ValueError says which are missing."""
    missing = [name for name in plan.releases if name not in releases]
    if missing:
        wanted = ", ".join(plan.releases)
        lacking = ", ".join(missing)
        raise ValueError(f"plan {plan.name} reads the releases {wanted}; missing: {lacking}")
    return {name: Release.open(name, releases[name]) for name in plan.releases}


def prepare(
    plan: TrainingPlan,
    releases: Mapping[str, Release],
    places: Mapping[str, Path],
    say: Callable[[str], None],
) -> dict[str, Prepared]:
    """For each embedding what makes its input of a sample; features are computed if need be.

    `places` says where those of each release are kept; `say` is told how far they are.
    """
    made: dict[str, Prepared] = {}
    for name, spec in plan.model.prepare.items():
        match spec:
            case TextSpec():
                captions = (text for one in releases.values() for text in one.all_captions())
                made[name] = make_tokenizer(spec, captions=captions)
            case FeatureSpec():
                made[name] = features_of(
                    spec,
                    releases,
                    places,
                    reduction=_given(plan, name),
                    computing=_computing(spec, say),
                )
            case ImageSpec():
                made[name] = spec
    return made


def _given(plan: TrainingPlan, name: str) -> Reduction | None:
    """The components to which a model that is trained further is used."""
    paths = [Path(stage.init) / "prepare" / name / REDUCTION for stage in plan.stages if stage.init]
    found = [path for path in paths if path.is_file()]
    return Reduction.load(found[0]) if found else None


def _computing(spec: FeatureSpec, say: Callable[[str], None]) -> Computing:
    """On the device; one other process decodes, which a picture may kill."""

    def progress(done: int, total: int) -> None:
        say(f"features of {spec.tower.folder}: {done:,} of {total:,} samples")

    return Computing(device=device(), workers=1, progress=progress)


def device() -> torch.device:
    """What models are trained on."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def make_run(plan: TrainingPlan, prepared: Mapping[str, Prepared]) -> Run:
    """A model with its first weights, before any step."""
    spec = fit_vocabularies(plan.model, _tokenizers(prepared))
    plan = replace(plan, model=spec)
    model = Model(spec)
    initialise(model, torch.Generator().manual_seed(plan.seed))
    return Run(plan=plan, model=model.to(device()), device=device(), ranks=Ranks.current())


def load_initial_weights(run: Run, say: Callable[[str], None]) -> None:
    """The weights that the plan names for parts of the model; ValueError when one loads nothing."""
    for part, source in run.plan.init.items():
        report = load_part(run.model, part, source)
        say(f"initial weights of {part}: {report}")


def _tokenizers(prepared: Mapping[str, Prepared]) -> dict[str, Tokenizer]:
    return {name: one for name, one in prepared.items() if isinstance(one, Tokenizer)}


def _loaders(
    releases: Mapping[str, Release], prepared: Mapping[str, Prepared], workers: int | None
) -> Callable[[Run], Loader]:
    count = max(1, (os.cpu_count() or 2) - 1) if workers is None else workers

    def open_loader(run: Run) -> Loader:
        stage = run.now
        return Loader(
            releases,
            DataSpec(shares=stage.data, batch=stage.batch),
            prepared,
            seed=run.plan.seed,
            stage=stage.name,
            ranks=run.ranks,
            place=run.place,
            workers=count,
        )

    return open_loader
