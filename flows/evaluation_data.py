"""What a model is asked about: a file of captioned images, or a split of a release; what it was
trained on; and what is found.
"""

from collections.abc import Callable, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

from flows.report.training import EVALUATION
from flows.training import address, published
from pipelines.engine.stage import MANIFEST
from pipelines.store import Folder
from training.data.shards import Release
from training.evaluate.duplicates import near_duplicates
from training.evaluate.encoded import silent
from training.evaluate.lines import CaptionsFile
from training.folder import PLAN, read_json, write_json

MODULES = {"pictures": "alignment"}  # of tasks that are called otherwise
DECODERS = 1  # processes: it decodes some 500 photographs a second, more than towers on a CPU take


def asked_about(root: Folder, captions: Path | None, release: str | None, split: str) -> Release:
    """The samples of one of the two; ValueError unless exactly one is given, and where it is not
    there or damaged.
    """
    if (captions is None) == (release is None):
        raise ValueError("give --captions FILE, or --release NAME")
    if captions is not None:
        return CaptionsFile.read(captions)
    assert release is not None, "one of the two is given"
    return opened_release(root, release, split)


def opened_release(root: Folder, name: str, split: str) -> Release:
    """A split of a published release (`all`: both)."""
    return Release.open(name, address(root, name), split=split)


def trained_on(root: Folder, model: Path) -> tuple[dict[str, Release], list[str]]:
    """The releases of the root that a model was trained on, and the names (in its plan) of those
    that are not there.

    The folder of the run, above the model's, says which they are; a model that lies elsewhere says
    nothing.
    """
    plan = model.resolve().parent / PLAN
    if not plan.is_file():
        return {}, []
    wanted: dict[str, str] = read_json(plan).get("releases", {})
    there = {
        str((root / "releases" / name).read_json(MANIFEST).get("digest")): name
        for name in published(root)
    }
    found = {
        name: opened_release(root, there[digest], "train")
        for name, digest in wanted.items()
        if digest in there
    }
    return found, [name for name, digest in wanted.items() if digest not in there]


def evaluate(
    root: Folder,
    model: Path,
    task: str,
    *,
    captions: Path | None = None,
    release: str | None = None,
    split: str = "heldout",
    templates: Sequence[str] = (),
    tell: Callable[[str, int, int], None] = silent,
) -> dict[str, Any]:
    """Run a task (a module of training/evaluate) on a file or on a split of a release; what it
    found.

    Beside retrieval and matching stands how many images have near duplicates in the releases that
    the model was trained on. In the folder of a run the findings are kept as evaluation.json, which
    the dashboard shows. Another process decodes, which an image may kill. `templates` are sentences
    for classification.
    """
    if templates and task != "classification":
        raise ValueError(f"--template is of --task classification, not of {task}")
    more = {"templates": templates} if templates else {}
    if captions is not None and task == "classification":
        asked: Release | Path = captions
    else:
        asked = asked_about(root, captions, release, split)
    module = import_module(f"training.evaluate.{MODULES.get(task, task)}")
    found: dict[str, Any] = module.evaluate(model, asked, workers=DECODERS, tell=tell, **more)
    if task in ("retrieval", "matching") and not isinstance(asked, Path):
        found["near_duplicates"] = _near_duplicates(root, model, asked, tell)
    found["asked"] = str(captions) if captions is not None else f"{release}, {split}"
    _keep(model, task, found)
    return found


def _near_duplicates(
    root: Folder, model: Path, asked: Release, tell: Callable[[str, int, int], None]
) -> dict[str, Any]:
    """Of which releases that is not known, because they are not in this root, is said in
    `missing`.
    """
    releases, missing = trained_on(root, model)
    if not releases:
        return {
            "unknown": "the releases of the model's run are not in this root",
            "missing": missing,
        }
    return {
        **near_duplicates(
            asked, releases, cache=model.resolve().parent / "hashes", workers=DECODERS, tell=tell
        ),
        "missing": missing,
    }


def _keep(model: Path, task: str, found: dict[str, Any]) -> None:
    """In the run's folder, beside what other tasks found."""
    run = model.resolve().parent
    if not (run / PLAN).is_file():
        return
    path = run / EVALUATION
    known = read_json(path) if path.is_file() else {}
    write_json(path, {**known, task: found})
