"""A training plan on releases of a root: the plain function under `winnow train` and the flow `pretrain`."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from pipelines.releases.publish import superseded
from pipelines.stage import MANIFEST, Progress, silent
from pipelines.store import Folder
from training.first.loop import Progress as Step
from training.first.loop import TrainResult, train
from training.first.plan import Plan


def match_releases(plan: Plan, given: Sequence[str]) -> dict[str, str]:
    """Releases as given on a command line, NAME or DATA=NAME, by the names that the plan's stages read.

    Raises ValueError when they do not cover what the plan reads; a single NAME serves a plan that reads one release.
    """
    wanted = plan.releases
    if len(given) == len(wanted) == 1 and "=" not in given[0]:
        return {wanted[0]: given[0]}
    found = dict(item.partition("=")[::2] for item in given)
    if set(found) != set(wanted) or not all(found.values()):
        asked = " ".join(f"--release {name}=NAME" for name in wanted)
        raise ValueError(f"the training recipe {plan.name} reads {', '.join(wanted)}: give {asked}")
    return found


def fit(root: Folder, plan: Plan, releases: Mapping[str, str], out: Path, progress: Callable[[Progress], None] = silent) -> TrainResult:
    """Train a plan on releases (name in its stages -> release of the root) into the folder `out`, resuming what was begun there."""
    return train(plan, releases={name: shards(root, release) for name, release in releases.items()}, out=out, on_progress=_told(progress))


def _told(progress: Callable[[Progress], None]) -> Callable[[Step], None]:
    def tell(step: Step) -> None:
        progress(Progress(stage=f"train {step.stage}", done=step.step, parts=step.steps, counts={"samples/s": round(step.samples_per_s)}))

    return tell


def shards(root: Folder, release: str) -> list[Path]:
    """The training shards of a release; ValueError when it is not there or not on this machine."""
    folder = root / "releases" / release
    if not folder.is_local:
        raise ValueError(f"{folder.path()} is not on this machine: training maps its shards into memory, so copy the release here")
    if message := superseded(folder):
        raise ValueError(message)
    if not folder.exists(MANIFEST):
        there = [name for name in (root / "releases").names() if (root / "releases" / name).exists(MANIFEST)]
        raise ValueError(f"there is no release {release} in {root.path()} (published: {', '.join(there) or 'none'})")
    if folder.read_json(MANIFEST).get("format", "arrow") != "arrow":
        raise ValueError(f"release {release} is of webdataset tars, and training maps Arrow shards: curate another with --format arrow")
    return [Path(folder.path(name)) for name in folder.names() if name.startswith("train-") and name.endswith(".arrow")]
