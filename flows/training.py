"""A training plan on releases of a root: the plain function under `winnow train` and the flow
`pretrain`.
"""

import os
from collections.abc import Callable, Mapping, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

from pipelines.engine.stage import MANIFEST, Progress, silent
from pipelines.releases.publish import superseded
from pipelines.store import Folder
from training.estimate import estimate
from training.evaluate.lines import SUFFIX
from training.loop import Progress as Step
from training.plan import TrainingPlan
from training.train import TrainResult, train


def pairs_of(given: Sequence[str], option: str) -> dict[str, str]:
    """NAME=VALUE as they stand behind an option; ValueError where one is no such pair or stands
    twice.
    """
    found: dict[str, str] = {}
    for one in given:
        name, equals, value = one.partition("=")
        if not (name and equals and value):
            raise ValueError(f"{option} {one}: it is written {option} NAME=VALUE")
        if name in found:
            raise ValueError(f"{option} {name} is given twice")
        found[name] = value
    return found


def match_releases(plan: TrainingPlan, given: Sequence[str]) -> dict[str, str]:
    """Releases as given on a command line, NAME or DATA=NAME, by the names that the plan's stages
    read.

    Raises ValueError when they do not cover what the plan reads; a single NAME serves a plan that
    reads one release.
    """
    wanted = plan.releases
    if len(given) == len(wanted) == 1 and "=" not in given[0]:
        return {wanted[0]: given[0]}
    named = all("=" in one for one in given)
    found = pairs_of(given, "--release") if named else {}
    if set(found) != set(wanted):
        asked = " ".join(f"--release {name}=NAME" for name in wanted)
        raise ValueError(f"the training recipe {plan.name} reads {', '.join(wanted)}: give {asked}")
    return found


def fit(
    root: Folder,
    plan: TrainingPlan,
    releases: Mapping[str, str],
    out: Path,
    progress: Callable[[Progress], None] = silent,
    *,
    cache: Path | None = None,
    amend: bool = False,
    say: Callable[[str], None] = print,
) -> TrainResult:
    """Train a plan on releases (name in its stages -> release of the root) into the folder `out`,
    resuming what was begun there.
    """
    addresses = {name: address(root, release) for name, release in releases.items()}
    progress = progress if speaks() else silent
    return train(
        plan,
        releases=addresses,
        out=out,
        cache=cache,
        amend=amend,
        on_progress=_told(progress),
        say=say,
    )


def speaks() -> bool:
    """Whether this process is the one of those that torchrun started that says how things stand, or
    is alone.
    """
    return os.environ.get("RANK", "0") == "0"


def cost(root: Folder, plan: TrainingPlan, releases: Mapping[str, str]) -> dict[str, Any]:
    """Memory and hours of a plan on this machine, from a few timed steps; nothing is kept of
    them.
    """
    return estimate(
        plan, releases={name: address(root, release) for name, release in releases.items()}
    )


def cost_table(found: Mapping[str, Any]) -> str:
    """What a plan costs, and what of it was measured, in lines."""
    hours = (
        f"{found['hours']:,.2f} hours, {found['memory'] / 2**30:.1f} GiB of"
        f" {found['memory_there'] / 2**30:.1f} GiB"
    )
    lines = [
        f"{found['plan']}: {found['parameters']:,} parameters, {found['steps']:,} steps; here"
        f" ({found['device']}) {hours}"
    ]
    if found["feature_hours"]:
        lines.append(
            f"  features of frozen towers: {found['feature_hours']:,.2f} hours, once for all runs"
            " on these releases"
        )
    for stage in found["stages"]:
        timed = " and ".join(str(rows) for rows in stage["rows"])
        said = (
            f"{stage['steps']:,} steps of {stage['batch']:,} samples,"
            f" {stage['seconds_a_step']:,.3g} s each: {stage['hours']:,.2f} hours"
        )
        lines.append(f"  {stage['name']}: {said} (timed: steps of {timed} samples)")
    return "\n".join([*lines, "  checkpoints and validation not counted; nothing was kept"])


def _told(progress: Callable[[Progress], None]) -> Callable[[Step], None]:
    def tell(step: Step) -> None:
        progress(
            Progress(
                stage=f"train {step.stage}",
                done=step.step,
                parts=step.steps,
                words=step_words(step),
            )
        )

    return tell


def step_words(step: Step) -> str:
    """What is said of a step: loss, rate, speed, share of the machine's measured peak and of the
    time spent waiting for data, time left.
    """
    said = [
        f"loss {step.numbers['loss']:.3f}",
        f"rate {step.rate:.2e}",
        f"{step.samples_per_s:,.0f} samples/s",
    ]
    said += [
        f"{step.peak_share:.0%} of peak",
        f"waiting {step.waited:.0%}",
        f"{timedelta(seconds=round(step.seconds_left))} left",
    ]
    if (heldout := step.numbers.get("heldout_loss")) is not None:
        said.insert(1, f"held out {heldout:.3f}")
    return ", ".join(said)


def published(root: Folder) -> list[str]:
    """The names of the releases of a root."""
    folder = root / "releases"
    return [name for name in folder.names() if (folder / name).exists(MANIFEST)]


def address(root: Folder, release: str) -> str:
    """Where a release lies, or a file of lines; ValueError when it is not there, was taken down
    since, or is not of Arrow shards.
    """
    if release.endswith(SUFFIX):
        return release
    folder = root / "releases" / release
    if message := superseded(folder):
        raise ValueError(message)
    if not folder.exists(MANIFEST):
        raise ValueError(
            f"there is no release {release} in {root.path()} (published:"
            f" {', '.join(published(root)) or 'none'})"
        )
    if folder.read_json(MANIFEST).get("format", "arrow") != "arrow":
        raise ValueError(
            f"release {release} is of webdataset tars, and training maps Arrow shards: curate"
            " another with --format arrow"
        )
    return folder.path()
