"""What a model is asked about: a file of captioned images, or a split of a release; and what it was trained on."""

from pathlib import Path

from pipelines.releases.publish import superseded
from pipelines.stage import MANIFEST
from pipelines.store import Folder
from training.data.shards import Release
from training.evaluate.lines import CaptionsFile, Samples, read_lines
from training.folder import PLAN, read_json


def asked_about(root: Folder, captions: Path | None, release: str | None, split: str) -> Samples:
    """The samples of one of the two; ValueError unless exactly one is given, and where it is not there or damaged."""
    if (captions is None) == (release is None):
        raise ValueError("give --captions FILE, or --release NAME")
    if captions is not None:
        return CaptionsFile(read_lines(captions))
    assert release is not None, "one of the two is given"
    return opened_release(root, release, split)


def opened_release(root: Folder, name: str, split: str) -> Release:
    """A split of a published release (`all`: both)."""
    folder = root / "releases" / name
    if message := superseded(folder):
        raise ValueError(message)
    if not folder.exists(MANIFEST):
        raise ValueError(f"there is no release {name} in {root.path()} (published: {', '.join(published(root)) or 'none'})")
    return Release.open(name, folder.path() if folder.is_local else folder.url, split=split)


def published(root: Folder) -> list[str]:
    """The names of the releases of a root."""
    folder = root / "releases"
    return [name for name in folder.names() if (folder / name).exists(MANIFEST)]


def trained_on(root: Folder, model: Path) -> tuple[dict[str, Release], list[str]]:
    """The releases of the root that a model was trained on, and the names (in its plan) of those that are not there.

    The folder of the run, above the model's, says which they are; a model that lies elsewhere says nothing.
    """
    plan = model.resolve().parent / PLAN
    if not plan.is_file():
        return {}, []
    wanted: dict[str, str] = read_json(plan).get("releases", {})
    there = {str((root / "releases" / name).read_json(MANIFEST).get("digest")): name for name in published(root)}
    found = {name: opened_release(root, there[digest], "train") for name, digest in wanted.items() if digest in there}
    return found, [name for name, digest in wanted.items() if digest not in there]
