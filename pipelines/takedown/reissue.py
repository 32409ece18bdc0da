"""Releases that held what was taken down, written again without it under a new name."""

import re
from collections.abc import Callable
from typing import Any

from filters.given_models import Given
from filters.recipe.recipe import Recipe, available, load
from pipelines.decide.decision import decide
from pipelines.engine.stage import MANIFEST, Engine, Progress
from pipelines.releases import SUPERSEDED
from pipelines.releases.publish import CurateConfig, publish
from pipelines.schema import KEPT
from pipelines.store import Folder

_CARD = "> This release held what was taken down since, and lacks it now"


def reissue_all(
    root: Folder, engine: Engine | None, progress: Callable[[Progress], None]
) -> tuple[dict[str, str | None], dict[str, str]]:
    """Write every release again that was marked and not yet written again; what stands for each,
    and why nothing does.

    One that cannot be written again, since a model of its recipe is gone for instance, does not
    keep the others from it.
    """
    done: dict[str, str | None] = {}
    causes: dict[str, str] = {}
    for name in (root / "releases").names():
        home = root / "releases" / name
        if home.exists(SUPERSEDED) and home.read_json(SUPERSEDED)["pending"]:
            try:
                done[name] = _reissue(root, home, engine, progress)
            except ValueError as error:
                done[name], causes[name] = None, str(error)
            home.write_json(SUPERSEDED, {"by": done[name], "pending": False})
            _mark_card(home, done[name])
    return done, causes


def _reissue(
    root: Folder, home: Folder, engine: Engine | None, progress: Callable[[Progress], None]
) -> str | None:
    """The name of the release that stands for one, None if its recipe or collections are gone or
    nothing is kept.
    """
    manifest = home.read_json(MANIFEST)
    recipe = _recipe(manifest)
    there = all((root / "collections" / name).exists(MANIFEST) for name in manifest["collections"])
    if recipe is None or not there:
        return None
    name = next_name(root, home.name)
    config = CurateConfig(
        recipe=recipe.name,
        collections=tuple(manifest["collections"]),
        release=home.name,
        given=Given(**manifest.get("given", {})),
        **{
            name: manifest[name]
            for name in ("shard_samples", "heldout", "format")
            if name in manifest
        },
    )
    config = config.model_copy(update={"release": name})  # whatever its length
    decision = decide(
        root,
        recipe,
        config.collections,
        given=config.given,
        also=config.also,
        engine=engine,
        progress=progress,
    )
    if not decision.funnel.outcomes.get(KEPT, 0):
        return None
    return publish(
        root, config, decision, supersedes=home.name, engine=engine, progress=progress
    ).name


def _recipe(manifest: dict[str, Any]) -> Recipe | None:
    """The recipe of a release, from its manifest; of one that was written without it, by its name
    if it is still the same.
    """
    if "recipe_rules" in manifest:
        return Recipe.stored(manifest["recipe_rules"])
    known = load(manifest["recipe"]) if manifest["recipe"] in available() else None
    return known if known is not None and known.digest == manifest["recipe_digest"] else None


def next_name(root: Folder, name: str) -> str:
    """`web-1.r1` for `web-1`, `web-1.r2` for that; one that was begun for it is taken up."""
    base = re.sub(r"\.r\d+$", "", name)
    number = 1
    while (home := root / "releases" / f"{base}.r{number}").exists(MANIFEST) and home.read_json(
        MANIFEST
    ).get("supersedes") != name:
        number += 1
    return f"{base}.r{number}"


def _mark_card(home: Folder, by: str | None) -> None:
    card = home.read("README.md").decode() if home.exists("README.md") else ""
    if _CARD not in card:
        heading = f"# {home.name}\n"
        words = f"{heading}\n{_CARD}" + (
            f": use `{by}`, which was written without it.\n" if by else ".\n"
        )
        home.write_bytes("README.md", card.replace(heading, words, 1).encode())
