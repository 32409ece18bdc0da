"""Removing what is not wanted any more: a collection, a release or a model, whole or unfinished,
unless something else stands on it. `forget` is for what must never come back; this is for room.

The manifest goes first, so that what a kill leaves counts as unfinished, and the same command goes
on with it.
"""

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from filters.recipe.catalogue import texts_in
from pipelines.decide.decision_run import DECISION
from pipelines.engine.shares import right_to_write
from pipelines.engine.stage import MANIFEST
from pipelines.store import Folder
from training.folder import RESULT, alone

Kind = Literal["collection", "release", "model"]


@dataclass(frozen=True, kw_only=True)
class Removal:
    """What a removal takes: the folders that go, and the bytes in them."""

    kind: Kind
    name: str
    folders: tuple[Folder, ...]
    bytes: int

    def to_json(self) -> dict[str, Any]:
        folders = [folder.path() for folder in self.folders]
        return {"kind": self.kind, "name": self.name, "folders": folders, "bytes": self.bytes}


def remove_all(
    root: Folder,
    *,
    models: Sequence[str] = (),
    releases: Sequence[str] = (),
    collections: Sequence[str] = (),
    dry_run: bool = False,
) -> list[Removal]:
    """Remove several things, or say what would go: those that stand on others first.

    ValueError where nothing is named, and before anything goes where something else stands on one
    of them; LeaseHeld or ValueError where a living process writes one.
    """
    wanted: list[tuple[Kind, str]] = [
        *(("model", name) for name in models),
        *(("release", name) for name in releases),
        *(("collection", name) for name in collections),
    ]
    if not wanted:
        raise ValueError("name what to remove: --collection, --release or --model")
    planned = [removal(root, kind, name, leaving=wanted) for kind, name in wanted]
    if not dry_run:
        for one in planned:
            _remove(root, one)
    return planned


def removed_table(removals: Sequence[Removal], *, dry_run: bool = False) -> str:
    """What went, or would go, in lines."""
    word = "would remove" if dry_run else "removed"
    return "\n".join(
        f"{word} {one.kind} {one.name}: {one.bytes / 1e6:,.1f} MB in"
        f" {', '.join(folder.path() for folder in one.folders)}"
        for one in removals
    )


def removal(
    root: Folder, kind: Kind, name: str, leaving: Sequence[tuple[Kind, str]] = ()
) -> Removal:
    """What would go, once what is `leaving` has gone. Raises ValueError where there is no such
    thing, and where something else stands on it, naming what.
    """
    home = root / f"{kind}s" / name
    there = (root / f"{kind}s").names()
    if name not in there:
        known = ", ".join(there) or "none"
        raise ValueError(f"there is no {kind} {name} in {root.path()}; there are: {known}")
    standing = [other for other in _standing_on(root, kind, name) if other not in leaving]
    if standing:
        needed = ", ".join(f"{kind} {name}" for kind, name in standing)
        raise ValueError(f"{kind} {name} is needed by {needed}: remove these before it")
    folders = [home]
    if kind == "collection":
        folders += [root / "memory" / name, *_decisions(root, name)]
    found = tuple(folder for folder in folders if folder.exists())
    return Removal(
        kind=kind, name=name, folders=found, bytes=sum(folder.size() for folder in found)
    )


def _remove(root: Folder, planned: Removal) -> None:
    home = root / f"{planned.kind}s" / planned.name
    with _nobody_writes(home, planned.kind):
        home.remove(RESULT if planned.kind == "model" else MANIFEST)
        for folder in reversed(planned.folders):
            folder.remove()


def _nobody_writes(home: Folder, kind: Kind) -> AbstractContextManager[None]:
    if kind != "model":
        return right_to_write(home, None, name="writer")
    return alone(Path(home.path())) if home.is_local else nullcontext()


def _standing_on(root: Folder, kind: Kind, name: str) -> Iterator[tuple[Kind, str]]:
    """What needs it."""
    if kind == "collection":
        for other, manifest in _manifests(root / "collections", MANIFEST):
            if other != name and name in manifest.get("refers_to", ()):
                yield "collection", other  # whose images it did not fetch again
        for other, manifest in _manifests(root / "releases", MANIFEST):
            if name in manifest.get("collections", ()):
                yield "release", other
    elif kind == "release":
        digest = dict(_manifests(root / "releases", MANIFEST)).get(name, {}).get("digest")
        for other, plan in _manifests(root / "models", "plan.json"):
            if digest is not None and digest in plan.get("releases", {}).values():
                yield "model", other
    else:
        home = (root / "models" / name).path()
        for other, plan in _manifests(root / "models", "plan.json"):
            if other != name and any(_within(text, home) for text in texts_in(plan)):
                yield "model", other


def _manifests(folder: Folder, file: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """The JSON objects that lie in the folders of a folder; what is damaged needs nothing."""
    for name in folder.names():
        try:
            value = (folder / name).read_json(file)
        except (FileNotFoundError, NotADirectoryError, ValueError):
            continue
        if isinstance(value, dict):
            yield name, value


def _decisions(root: Folder, collection: str) -> list[Folder]:
    """The outcomes that were decided over a collection, which mean nothing without it."""
    return [
        root / "outcomes" / name
        for name, decision in _manifests(root / "outcomes", DECISION)
        if collection in decision.get("collections", ())
    ]


def _within(text: str, home: str) -> bool:
    return text == home or text.startswith(f"{home}/")
