"""The flow `pretrain`: releases to a trained model."""

from collections.abc import Callable
from pathlib import Path

from prefect import flow, get_run_logger, task
from prefect.cache_policies import NO_CACHE

from flows.naming import named
from flows.watch import listener, show_counts
from pipelines.stage import MANIFEST, Progress
from pipelines.store import Folder
from training.loop import Progress as Step
from training.loop import TrainResult, train
from training.plan import Plan
from training.recipes import load


@flow(name="pretrain", flow_run_name="pretrain-{name}", persist_result=False)
def pretrain(
    root: str, name: str, recipe: str, releases: dict[str, str], out: str, seed: int = 0, smoke: bool = False, digest: str = ""
) -> TrainResult | None:
    """Train a recipe on releases (name in the recipe's stages -> release) into the folder `out`.

    With the `digest` of a release just published, that one is read; until all releases are there, nothing is trained and None returned.
    Of a release that is published again and again, the newest is read otherwise; each choice of releases has a folder of its own in `out`.
    """
    folder = Folder(root)
    plan = read_plan(recipe, releases, seed=seed, smoke=smoke)
    chosen = {stage: _choose(folder, release, digest) for stage, release in releases.items()}
    absent = [releases[stage] for stage, found in chosen.items() if found is None]
    if absent and digest:
        get_run_logger().info("nothing is trained yet: waiting for release %s", ", ".join(absent))
        return None
    found = {stage: release or releases[stage] for stage, release in chosen.items()}
    _expect(folder, list(found.values()), digest)
    place = "+".join(dict.fromkeys(release for stage, release in found.items() if release != releases[stage]))
    result = fit(plan, {stage: _shards(folder, release) for stage, release in found.items()}, Path(out) / place)
    show_counts("model", name, {"folder": str(result.model), "steps": result.steps, **result.numbers})
    return result


@task(name="train", task_run_name="train-{plan.name}", cache_policy=NO_CACHE, persist_result=False)
def fit(plan: Plan, releases: dict[str, list[Path]], out: Path) -> TrainResult:
    """The plain function as a task."""
    return train(plan, releases=releases, out=out, resume=True, on_progress=_told(listener()))


def _told(progress: Callable[[Progress], None]) -> Callable[[Step], None]:
    def tell(step: Step) -> None:
        progress(Progress(stage=f"train {step.stage}", done=step.step, parts=step.steps, counts={"samples/s": round(step.samples_per_s)}))

    return tell


def read_plan(recipe: str, releases: dict[str, str], *, seed: int, smoke: bool) -> Plan:
    """The plan of a recipe; ValueError when its stages read other names than those of `releases`."""
    plan = load(recipe, seed=seed, smoke=smoke)
    if set(plan.releases) != set(releases):
        raise ValueError(
            f"training recipe {recipe} reads {', '.join(plan.releases)}, but releases are given for {', '.join(sorted(releases))}: "
            f"give a release for each name that the recipe reads"
        )
    return plan


def _choose(root: Folder, name: str, digest: str) -> str | None:
    """The release of a name: the one of the digest, else the newest."""
    folder = root / "releases"
    there = [one for one in named(name, folder.names()) if (folder / one).exists(MANIFEST)]
    asked = [one for one in there if digest and (folder / one).read_json(MANIFEST)["digest"] == digest]
    return next(iter(asked or there[-1:]), None)


def _expect(root: Folder, releases: list[str], digest: str) -> None:
    there = {release: (root / "releases" / release).read_json(MANIFEST)["digest"] for release in releases if digest}
    if digest and digest not in there.values():
        seen = ", ".join(f"{release} has {found[:16]}" for release, found in there.items())
        raise ValueError(f"no release of digest {digest[:16]} is there to train on ({seen}): was it deleted, or is it of another root?")


def _shards(root: Folder, release: str) -> list[Path]:
    """The training shards of a release."""
    folder = root / "releases" / release
    if not folder.is_local:
        raise ValueError(f"{folder.path()} is not on this machine: training maps its shards into memory, so copy the release here")
    if not folder.exists(MANIFEST):
        there = [name for name in (root / "releases").names() if (root / "releases" / name).exists(MANIFEST)]
        raise ValueError(f"there is no release {release} in {root.path()} (published: {', '.join(there) or 'none'})")
    return [Path(folder.path(name)) for name in folder.names() if name.startswith("train-") and name.endswith(".arrow")]
