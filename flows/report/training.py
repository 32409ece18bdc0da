"""Training runs as plain data: what they were asked for, what they saw, their curves, and what came
of them.
"""

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from flows.report.data import Curve, ReportData, Series, TrainingRun
from pipelines.engine.stage import MANIFEST
from pipelines.store import Folder
from training.folder import METRICS, PLAN, RESULT, read_json

EVALUATION = "evaluation.json"
POINTS = 300  # of a curve; of more steps, neighbours are averaged
# folders below `models` in which runs are looked for: a flow keeps those of each choice of releases
# apart
LEVELS = 3

View = dict[str, Any]


def read_runs(root: Folder) -> tuple[list[TrainingRun], list[View]]:
    """The runs under `models` of a root, by name; and of each that cannot be read its name and
    why.
    """
    if not root.is_local:
        return [], []
    models = Path(root.path()) / "models"
    found, damaged = [], []
    for path in sorted(_plans(models)):
        name = str(path.parent.relative_to(models))
        try:
            found.append(read_run(path.parent, root, name))
        except (
            ValueError,
            KeyError,
            TypeError,
            AttributeError,
            OSError,
        ) as error:  # half written, or of another version
            damaged.append({"run": name, "cause": str(error) or repr(error)})
    return found, damaged


def training_view(root: Folder) -> View:
    """All runs of a root, as plain data."""
    runs, damaged = read_runs(root)
    return {
        "view": "training",
        "root": root.path(),
        "runs": [asdict(run) for run in runs],
        "damaged": damaged,
    }


def report_of_runs(runs: Sequence[TrainingRun]) -> ReportData:
    """A report of training runs alone."""
    names = ", ".join(run.name for run in runs)
    told = f"{len(runs)} training runs: {names}." if len(runs) > 1 else f"The training run {names}."
    return ReportData(
        title=f"Training of {names}",
        happened=(told,),
        runs=tuple(runs),
        facts={run.name: run.folder for run in runs},
    )


def _plans(models: Path) -> Iterator[Path]:
    for level in range(1, LEVELS + 1):
        yield from models.glob("/".join(["*"] * level + [PLAN]))


def read_run(folder: Path, root: Folder | None = None, name: str = "") -> TrainingRun:
    """One run; ValueError when its files are damaged."""
    about = read_json(folder / PLAN)
    plan = about["plan"]
    result = read_json(folder / RESULT) if (folder / RESULT).is_file() else {}
    rows = list(_rows(folder / METRICS))
    done = max((int(row["step"]) for row in rows), default=0)
    names = {} if root is None else _names_by_digest(root)
    data = tuple(_data(plan, about["releases"], names, done))
    return TrainingRun(
        name=name or folder.name,
        folder=str(folder),
        plan=str(about["name"]),
        digest=str(about["digest"]),
        steps=sum(stage["steps"] for stage in plan["stages"]),
        done=done,
        finished=bool(result),
        samples=round(sum(one["samples"] for one in data)),
        bad=int(result.get("bad", 0)),
        best=result.get("best") or {},
        data=data,
        series=tuple(_series(rows)),
        evaluation=read_json(folder / EVALUATION) if (folder / EVALUATION).is_file() else {},
    )


def _names_by_digest(root: Folder) -> dict[str, str]:
    releases = root / "releases"
    there = (name for name in releases.names() if (releases / name).exists(MANIFEST))
    return {str((releases / name).read_json(MANIFEST).get("digest")): name for name in there}


def _data(
    plan: View, digests: Mapping[str, str], names: Mapping[str, str], done: int
) -> Iterator[View]:
    """What each stage read of each release, as far as it came."""
    before = 0
    for stage in plan["stages"]:
        steps = min(max(done - before, 0), stage["steps"])
        before += stage["steps"]
        total = sum(stage["data"].values())
        for release, weight in stage["data"].items():
            digest = digests.get(release, "")
            yield {
                "stage": stage["name"],
                "steps": steps,
                "of": stage["steps"],
                "batch": stage["batch"],
                "release": names.get(digest, release),
                "digest": digest,
                "share": weight / total,
                "samples": round(steps * stage["batch"] * weight / total),
            }


def _rows(path: Path) -> Iterator[View]:
    """The lines of a log; one that a kill left unfinished is passed over."""
    if not path.is_file():
        return
    with path.open(encoding="utf-8", errors="replace") as file:
        for line in file:
            try:
                row = json.loads(line)
            except json.JSONDecodeError:
                continue
            if isinstance(row, dict) and isinstance(row.get("step"), int):
                yield row


def _series(rows: Sequence[View]) -> Iterator[Series]:
    """A step that a resumed run wrote twice counts once, as it was written last."""
    values: dict[tuple[str, str], dict[int, float]] = {}
    for row in rows:
        for name, value in row.items():
            if (
                name not in ("step", "stage", "losses")
                and isinstance(value, int | float)
                and math.isfinite(value)
            ):
                values.setdefault((str(row.get("stage", "")), name), {})[row["step"]] = float(value)
    for (stage, name), found in values.items():
        yield Series(stage=stage, name=name, points=_thinned(sorted(found.items())))


def _thinned(points: Sequence[tuple[int, float]]) -> tuple[tuple[float, float], ...]:
    size = -(-len(points) // POINTS)
    groups = [points[start : start + size] for start in range(0, len(points), size)]
    return tuple(
        (sum(step for step, _ in group) / len(group), sum(value for _, value in group) / len(group))
        for group in groups
    )


ORDER = ("loss", "heldout_loss", "rate", "samples_per_s", "waited", "peak_share", "gradient")
HIDDEN = frozenset({"seconds_left"})


def read_curves(path: Path, prefix: str = "") -> tuple[Curve, ...]:
    """Of each stage of a log the loss and, where it is a sum, its parts in one picture."""
    stages: dict[str, dict[str, Series]] = {}
    for series in _series(list(_rows(path))):
        if _is_loss(series.name):
            stages.setdefault(series.stage, {})[series.name] = series
    return tuple(_of_losses(prefix + stage, found) for stage, found in stages.items())


def _is_loss(name: str) -> bool:
    told = name in HIDDEN or name in ORDER[1:]
    return not (told or name.startswith("heldout_") or name.endswith("_right"))


def _of_losses(stage: str, found: Mapping[str, Series]) -> Curve:
    """With one part alone the sum says it all."""
    parts = [name for name in found if name != "loss"]
    return _joined(stage, ["loss", *(parts if len(parts) > 1 else [])], found)


def together(runs: Sequence[TrainingRun]) -> list[tuple[str, str, Curve]]:
    """Of each stage each number, all runs in one picture: (stage, number, curve). Losses stand
    first, then speed.
    """
    found: dict[tuple[str, str], dict[str, Series]] = {}
    for run in runs:
        for series in run.series:
            if series.name not in HIDDEN:
                found.setdefault((series.stage, series.name), {})[run.name] = series
    stages = list(dict.fromkeys(stage for stage, _ in found))
    ordered = sorted(found, key=lambda key: (stages.index(key[0]), _rank(key[1])))
    names = [run.name for run in runs]
    return [(stage, name, _joined(stage, names, found[stage, name])) for stage, name in ordered]


def _rank(name: str) -> tuple[int, str]:
    """The loss, that on held-out samples, each loss, rates and speed, then shares of right
    answers.
    """
    if name in ORDER:
        return (ORDER.index(name) if ORDER.index(name) < 2 else 3 + ORDER.index(name)), name
    return (2, name) if not name.endswith("_right") else (20, name)


def _joined(stage: str, runs: Sequence[str], series: Mapping[str, Series]) -> Curve:
    """A line for each run, empty where it has none, so that a run has one colour everywhere."""
    steps = sorted({round(step) for one in series.values() for step, _ in one.points})
    place = {step: number for number, step in enumerate(steps)}
    losses: dict[str, tuple[float | None, ...]] = {}
    for run in runs:
        values: list[float | None] = [None] * len(steps)
        for step, value in series[run].points if run in series else ():
            values[place[round(step)]] = value
        losses[run] = tuple(values)
    return Curve(stage=stage, steps=tuple(steps), losses=losses)
