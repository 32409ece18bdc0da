"""A collection on disk: opened by its id, complete once its manifest stands."""

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pipelines.engine.stage import MANIFEST, Manifest
from pipelines.store import Folder

LONGEST_NAME = 200  # file systems take 255 bytes, and a schedule and a take-down add to it


@dataclass(frozen=True, kw_only=True)
class Collection:
    """What one collecting run brought; `counts` add up candidates, addresses and fetches by
    outcome.
    """

    id: str
    folder: Folder
    digest: str
    counts: Mapping[str, int]
    failed: int  # parts that were set aside
    refers_to: tuple[str, ...] = ()  # collections that hold some of its images
    # {"of", "in", "went": {name: count}} for each kind of thing that went in
    accounts: tuple[Mapping[str, Any], ...] = ()


def fit_name(name: str, what: str) -> str:
    """A name that is given to a folder; ValueError for one that would lead elsewhere or hide it."""
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", name):
        raise ValueError(
            f"{name!r} is no name of a {what}: use letters, digits, dots, dashes and underscores, a"
            " letter or digit first"
        )
    if len(name) > LONGEST_NAME:
        raise ValueError(
            f"{name[:20]}… is no name of a {what}: it has {len(name)} characters, more than"
            f" {LONGEST_NAME}"
        )
    return name


def open_collection(root: Folder, name: str) -> Collection:
    """A complete collection; ValueError, naming those that are there, for an unknown or unfinished
    one.
    """
    # `web/` and `./web` would be the same under other names, and count twice
    fit_name(name, "collection")
    folder = root / "collections" / name
    if not folder.exists(MANIFEST):
        complete = ", ".join(collections(root)) or "none"
        if folder.exists():
            raise ValueError(
                f"collection {name} is not finished: run its `winnow collect --id {name}` again"
                f" (complete: {complete})"
            )
        raise ValueError(f"there is no collection {name} in {root.path()} (complete: {complete})")
    manifest = folder.read_json(MANIFEST)
    try:
        return Collection(
            id=name,
            folder=folder,
            digest=manifest["digest"],
            counts=manifest["counts"],
            failed=manifest["failed"],
            refers_to=tuple(manifest.get("refers_to", ())),
            accounts=tuple(manifest.get("accounts", ())),
        )
    except (KeyError, TypeError) as error:
        said = f"is damaged, or of another version of Winnow ({error!r})"
        raise ValueError(
            f"{folder.path(MANIFEST)} {said}: run `winnow collect --id {name}` again with its"
            " options"
        ) from error


def open_all(root: Folder, names: Sequence[str]) -> tuple[Collection, ...]:
    """Complete collections, each once however often it is named; ValueError where two names stand
    for one folder.
    """
    found: dict[str, Collection] = {}
    if not names:
        raise ValueError(
            f"name a collection: there are {', '.join(collections(root)) or 'none'} in"
            f" {root.path()}"
        )
    for name in dict.fromkeys(names):
        one = open_collection(root, name)
        place = os.path.realpath(one.folder.path()) if one.folder.is_local else one.folder.path()
        if place in found:
            raise ValueError(
                f"collection {name} is {found[place].id} under another name: name one of them"
            )
        found[place] = one
    return tuple(found.values())


def collections(root: Folder) -> list[str]:
    """The ids of the complete collections of a root."""
    return [
        name
        for name in (root / "collections").names()
        if (root / "collections" / name).exists(MANIFEST)
    ]


def stage_manifest(collection: Folder, part: str) -> Manifest:
    """The manifest of one of a collection's own stages."""
    manifest = Manifest.read(collection / part)
    assert manifest is not None, f"{part} of {collection.name} are not complete"
    return manifest
