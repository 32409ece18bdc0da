"""The flow `pretrain`: releases to a trained model."""

from pathlib import Path
from typing import Any

from prefect import flow, get_run_logger, task
from prefect.cache_policies import NO_CACHE

from flows.deployments.naming import named
from flows.deployments.prefect_progress import listener, show_counts, speaker
from flows.training import fit as fit_plainly
from pipelines.engine.stage import MANIFEST
from pipelines.releases.publish import superseded
from pipelines.store import Folder
from training.plan import TrainingPlan
from training.recipes import Size, load
from training.train import TrainResult


@flow(name="pretrain", flow_run_name="pretrain-{name}", persist_result=False)
def pretrain(
    root: str,
    name: str,
    recipe: str,
    releases: dict[str, str],
    out: str,
    size: Size | None = None,
    init: dict[str, str] | None = None,
    set: tuple[str, ...] = (),
    seed: int | None = None,
    smoke: bool = False,
    digest: str = "",
) -> TrainResult | None:
    """Train a recipe on releases (name in the recipe's stages -> release) into the folder `out`.

    With the `digest` of a release just published, that one is read; until all releases are there,
    nothing is trained and None returned. Of a release that is published again and again, the newest
    is read otherwise; each choice of releases has a folder of its own in `out`.
    """
    folder = Folder(root)
    plan = read_plan(recipe, releases, size=size, init=init, changes=set, seed=seed, smoke=smoke)
    chosen = {stage: _choose(folder, release, digest) for stage, release in releases.items()}
    absent = [releases[stage] for stage, found in chosen.items() if found is None]
    if absent and digest:
        get_run_logger().info("nothing is trained yet: waiting for release %s", ", ".join(absent))
        return None
    found = {stage: release or releases[stage] for stage, release in chosen.items()}
    _expect(folder, list(found.values()), digest)
    place = "+".join(
        dict.fromkeys(release for stage, release in found.items() if release != releases[stage])
    )
    result = fit(folder, plan, found, Path(out) / place)
    show_counts(
        "model", name, {"folder": str(result.model), "steps": result.steps, **result.numbers}
    )
    return result


@task(name="train", task_run_name="train-{plan.name}", cache_policy=NO_CACHE, persist_result=False)
def fit(root: Folder, plan: TrainingPlan, releases: dict[str, str], out: Path) -> TrainResult:
    """The plain function as a task."""
    return fit_plainly(root, plan, releases, out, listener(), say=speaker())


def read_plan(recipe: str, releases: dict[str, str], **settings: Any) -> TrainingPlan:
    """The plan of a recipe, loaded with such settings; ValueError when its stages read other names
    than those of `releases`.
    """
    plan = load(recipe, **settings)
    if set(plan.releases) != set(releases):
        raise ValueError(
            f"training recipe {recipe} reads {', '.join(plan.releases)}, but releases are given for"
            f" {', '.join(sorted(releases))}: give a release for each name that the recipe reads"
        )
    return plan


def _choose(root: Folder, name: str, digest: str) -> str | None:
    """The release of a name: the one of the digest, else the newest."""
    folder = root / "releases"
    there = [
        one
        for one in named(name, folder.names())
        if (folder / one).exists(MANIFEST) and not superseded(folder / one)
    ]
    asked = [
        one for one in there if digest and (folder / one).read_json(MANIFEST)["digest"] == digest
    ]
    return next(iter(asked or there[-1:]), None)


def _expect(root: Folder, releases: list[str], digest: str) -> None:
    there = {
        release: (root / "releases" / release).read_json(MANIFEST)["digest"]
        for release in releases
        if digest
    }
    if digest and digest not in there.values():
        seen = ", ".join(f"{release} has {found[:16]}" for release, found in there.items())
        raise ValueError(
            f"no release of digest {digest[:16]} is there to train on ({seen}): was it deleted, or"
            " is it of another root?"
        )
