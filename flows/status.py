"""What lies in a root, by its manifests: what is there, unfinished or damaged."""

import os
from collections.abc import Mapping
from typing import Any

from pipelines.engine.stage import MANIFEST
from pipelines.permission.takedown_list import TakedownList
from pipelines.releases import SUPERSEDED
from pipelines.store import Folder
from training.folder import RESULT

# of a manifest
_KEYS = {
    "collections": ("counts", "failed", "digest"),
    "releases": ("recipe", "samples", "shards", "digest"),
}


def status(root: Folder) -> dict[str, Any]:
    """Collections, releases and models with their counts; `unfinished` names what a rerun would go
    on with, `damaged` what is in its way.

    Raises ValueError where the root is a file.
    """
    if root.is_local and os.path.isfile(root.path()):
        raise ValueError(f"{root.path()} is a file: --root names the folder where all data lies")
    listed = len(TakedownList.read(root))
    found: dict[str, Any] = {"root": root.path(), "collections": {}, "releases": {}, "models": []}
    found |= {"unfinished": [], "damaged": [], "forgotten": listed}
    for kind in _KEYS:
        for name in _folders(root / kind):
            _look(found, kind, root / kind / name)
    for name in _folders(root / "models"):
        finished = (root / "models" / name).exists(RESULT)
        found["models" if finished else "unfinished"].append(name if finished else f"models/{name}")
    return found


def _look(found: dict[str, Any], kind: str, folder: Folder) -> None:
    """Enter a collection or a release where it belongs."""
    if not folder.exists(MANIFEST):
        found["unfinished"].append(f"{kind}/{folder.name}")
        return
    try:
        manifest = folder.read_json(MANIFEST)
        row = {key: manifest[key] for key in _KEYS[kind]}
        if folder.exists(SUPERSEDED):
            row["superseded_by"] = folder.read_json(SUPERSEDED)["by"]
    except (ValueError, KeyError, TypeError):  # no JSON, or not that of a manifest
        found["damaged"].append(f"{kind}/{folder.name}")
    else:
        found[kind][folder.name] = row


def _folders(folder: Folder) -> list[str]:
    """The names in it that hold something; what else lies there is not ours."""
    return [name for name in folder.names() if (folder / name).names()]


def status_table(found: Mapping[str, Any]) -> str:
    """The status in lines."""
    lines = [found["root"]]
    for name, row in found["collections"].items():
        lines.append(
            f"  collection {name}: "
            + ", ".join(f"{count:,} {what}" for what, count in row["counts"].items() if count)
        )
        if row["failed"]:
            lines.append(
                f"    {row['failed']:,} parts of it were set aside: its `winnow collect --id"
                f" {name}` tries them again"
            )
    for name, row in found["releases"].items():
        if "superseded_by" in row:
            lines.append(
                f"  release {name}: superseded by {row['superseded_by'] or 'nothing yet'}, as it"
                " held what was taken down since"
            )
            continue
        lines.append(
            f"  release {name}: {row['samples']:,} images by {row['recipe']}, {row['shards']}"
            f" shards, digest {row['digest'][:12]}"
        )
    lines += [f"  model {name}" for name in found["models"]]
    lines += (
        [f"  taken down: {found['forgotten']:,} addresses, domains and images"]
        if found["forgotten"]
        else []
    )
    lines += [
        f"  unfinished {name}: the same command goes on with it" for name in found["unfinished"]
    ]
    lines += [
        f"  damaged {name}: remove its {MANIFEST} and run the same command again"
        for name in found["damaged"]
    ]
    return "\n".join(
        lines if len(lines) > 1 else [*lines, "  nothing yet: `winnow collect --help`"]
    )
