"""Publish: what a decision kept becomes a release, visible once its manifest stands."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, field_validator

from filters.given_models import Given
from filters.recipe.funnel import Funnel
from filters.recipe.recipe import load
from filters.registry import NOTHING_GIVEN, filters_for
from pipelines.collect.collection import fit_name
from pipelines.decide.decision import Decision
from pipelines.decide.decision_run import Runner, read_schema, whole
from pipelines.engine.shares import right_to_write
from pipelines.engine.stage import Engine, Manifest, Progress, silent
from pipelines.measure import filter_digest
from pipelines.releases import SUPERSEDED
from pipelines.releases.card import card
from pipelines.releases.croissant import croissant
from pipelines.releases.sample import SPLITS
from pipelines.releases.shards import ENDINGS, Format, Gather, Shard, release_digest
from pipelines.schema import KEPT
from pipelines.store import Folder, digest

CHOSEN = ("shard_samples", "heldout", "format")  # of a release, beside the decision
# in a release that held what was taken down: which release stands for it


class CurateConfig(BaseModel):
    """What to release: which recipe keeps what of which collections, in shards of how many images
    and of what format, with what share of the images held out (all near duplicates of a picture
    together).
    """

    model_config = ConfigDict(frozen=True, extra="forbid")
    recipe: str
    collections: tuple[str, ...] = Field(min_length=1)
    release: str
    shard_samples: int = Field(default=10_000, gt=0)
    heldout: float = 0.0
    format: Format = "arrow"
    without: tuple[str, ...] = ()
    given: Given = NOTHING_GIVEN

    @field_validator("release")
    @classmethod
    def _is_a_name(cls, value: str) -> str:
        return fit_name(value, "release")

    @field_validator("heldout")
    @classmethod
    def _is_a_share(cls, value: float) -> float:
        if not 0 <= value < 1:
            raise ValueError(
                f"{value:g} is no share to hold out: write a number from 0 to less than 1, e.g."
                " 0.02"
            )
        return value

    @property
    def also(self) -> tuple[str, ...]:
        """What the release asks beyond its recipe: with a part held out, which pictures are near
        duplicates.
        """
        return ("image.cluster",) if self.heldout else ()


@dataclass(frozen=True, kw_only=True)
class Release:
    """A published release."""

    name: str
    folder: Folder
    digest: str
    samples: int
    shards: int
    funnel: Funnel
    splits: Mapping[str, int] = field(default_factory=dict)  # images in each

    @property
    def empty_splits(self) -> tuple[str, ...]:
        """Splits that were asked for and got nothing."""
        return tuple(split for split, count in self.splits.items() if not count)


def publish(
    root: Folder,
    config: CurateConfig,
    decision: Decision,
    *,
    supersedes: str | None = None,
    engine: Engine | None = None,
    progress: Callable[[Progress], None] = silent,
) -> Release:
    """Write what a decision kept as a release; `supersedes` names the one that it stands for.

    A release that stands and holds nothing that was taken down since is still the same.
    """
    folder = root / "releases" / config.release
    chosen = {name: getattr(config, name) for name in CHOSEN}
    identity = digest({"decision": decision.basis, **chosen})
    standing = _standing(folder, identity)
    kept = decision.funnel.outcomes.get(KEPT, 0)
    if standing is None and not kept:
        raise ValueError(
            f"recipe {config.recipe} keeps none of {decision.funnel.candidates} candidates: `winnow"
            " funnel` shows what stopped them"
        )
    if standing is None:
        with right_to_write(folder, engine.share if engine is not None else None, name="writer"):
            if engine is None or engine.share is None:
                folder.sweep()  # what a kill left between the last shard and the manifest
            run = Runner(engine=engine, progress=progress, failed=[])
            standing = _write(
                root,
                folder,
                config,
                decision,
                {"identity": identity, "supersedes": supersedes},
                kept,
                run,
            )
    return Release(
        name=config.release,
        folder=folder,
        digest=standing["digest"],
        samples=standing["samples"],
        shards=standing["shards"],
        splits=standing.get("splits", {}),
        funnel=decision.funnel,
    )


def _standing(folder: Folder, identity: str) -> dict[str, Any] | None:
    """The manifest of a release that stands, None if there is none; ValueError if the name is
    another's or was taken down.
    """
    if not folder.exists("manifest.json"):
        return None
    if message := superseded(folder):
        raise ValueError(message)
    standing: dict[str, Any] = folder.read_json("manifest.json")
    if standing["identity"] != identity:
        raise ValueError(
            _another(folder.name, standing, "a rule, a collection or a model is another by now")
        )
    return standing


def check_name(root: Folder, config: CurateConfig) -> None:
    """ValueError where the name is that of a release which was taken down, or made otherwise:
    before anything is measured for it.
    """
    folder = root / "releases" / config.release
    if not folder.exists("manifest.json"):
        return
    if message := superseded(folder):
        raise ValueError(message)
    standing = folder.read_json("manifest.json")
    wanted = {
        "recipe": load(config.recipe).name,
        "collections": ", ".join(sorted(set(config.collections))),
    }
    wanted |= {name: getattr(config, name) for name in CHOSEN}
    before = {**standing, "collections": ", ".join(sorted(standing["collections"]))}
    if other := [
        f"{name} was {before[name]} and is {value}"
        for name, value in wanted.items()
        if before[name] != value
    ]:
        raise ValueError(_another(folder.name, standing, "; ".join(other)))


def _another(name: str, standing: Mapping[str, Any], why: str) -> str:
    made = f"made with recipe {standing['recipe']} from {', '.join(standing['collections'])}"
    return (
        f"release {name} stands already, {made}: releases do not change, choose another name"
        f" ({why})"
    )


def superseded(release: Folder) -> str | None:
    """Why a release is not to be used any more, in words; None if it is."""
    if not release.exists(SUPERSEDED):
        return None
    by = release.read_json(SUPERSEDED)["by"]
    instead = f"use {by}, which was written without it" if by else "curate a new one"
    return f"release {release.name} held what was taken down since, and lacks it now: {instead}"


def _write(
    root: Folder,
    folder: Folder,
    config: CurateConfig,
    decision: Decision,
    marks: dict[str, str | None],
    kept: int,
    run: Runner,
) -> dict[str, Any]:
    shards = max(1, -(-kept // config.shard_samples))
    gathered = decision.folder / "work" / f"gathered-{shards}"
    gather = Gather(
        out=gathered,
        decided=decision.folder,
        decision=decision.digest,
        names=decision.names,
        shards=shards,
    )
    manifest = whole(run(gather))
    schema = read_schema(gathered, manifest.names()[0])
    measurements = tuple(
        sorted(name for name in decision.recipe.reads if "." in name and name in schema.names)
    )
    stage = Shard(
        out=folder,
        root=root,
        gathered=gathered,
        gathered_digest=manifest.digest,
        names=tuple(manifest.names()),
        schema=schema,
        measurements=measurements,
        shards=shards,
        heldout=config.heldout,
        format=config.format,
    )
    written = whole(run(stage))
    return _seal(folder, stage, written, config, decision, marks)


def _seal(
    folder: Folder,
    stage: Shard,
    written: Manifest,
    config: CurateConfig,
    decision: Decision,
    marks: dict[str, str | None],
) -> dict[str, Any]:
    """Card, Croissant file and funnel, then the manifest that makes the release visible."""
    layout = stage.layout
    names = written.names(ENDINGS[stage.format])
    manifest = {
        "name": config.release,
        **marks,
        "digest": release_digest(folder, names, layout.schema, layout.digested),
        **_origin(decision),
        "shard_samples": config.shard_samples,
        "heldout": config.heldout,
        "format": config.format,
        "columns": {entry.name: str(entry.type) for entry in layout.schema},
        "digested": list(layout.digested),
        "samples": written.counts["samples"],
        "captions": written.counts["captions"],
        "splits": {split: written.counts[split] for split in SPLITS if split in written.counts},
        "shards": stage.shards,
        "files": written.files,
    }
    funnel_json = decision.funnel.to_json()
    folder.write_json("funnel.json", funnel_json)
    folder.write_bytes("README.md", card(manifest, funnel_json, decision.recipe).encode())
    folder.write_json("croissant.json", croissant(manifest))
    folder.write_json("manifest.json", manifest)
    return manifest


def _origin(decision: Decision) -> dict[str, Any]:
    """Of what a release was made, and how."""
    return {
        "recipe": decision.recipe.name,
        "recipe_digest": decision.recipe.digest,
        "recipe_rules": decision.recipe.to_json(),
        "given": decision.given.model_dump(mode="json", exclude_defaults=True),
        "forgotten": decision.forgotten,
        "collections": {collection.id: collection.digest for collection in decision.collections},
        "filters": {
            measured.name: filter_digest(measured)
            for measured in filters_for(decision.recipe.reads, decision.given)
        },
    }
