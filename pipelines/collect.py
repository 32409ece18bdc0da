"""Collect: from a source on the web, an archive or a list to a complete collection of candidates and images."""

import os
from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, model_validator

from pipelines.collection import Collection, open_collection, stage_manifest
from pipelines.crawl import Crawl, crawl
from pipelines.extract import Extract
from pipelines.fetch import Fetch
from pipelines.pairs import Pairs
from pipelines.resolve import Distinct, Scatter
from pipelines.stage import MANIFEST, Engine, Manifest, Progress, Stage, run_stage, silent
from pipelines.store import Folder, digest, lease

CONFIGURATION = "configuration.json"


class CollectConfig(BaseModel):
    """Where candidates come from (one kind of source), and how far and how politely to go for them."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    seeds: tuple[str, ...] = ()
    warc: tuple[str, ...] = ()
    pairs: str | None = None
    max_pages: int = Field(default=100_000, ge=1)
    max_depth: int = Field(default=20, ge=0)
    target_width: int = Field(default=512, ge=1)
    contact: str = Field(default_factory=lambda: os.environ.get("WINNOW_CONTACT", ""))
    allow_private_addresses: bool = False
    fetch: bool = True

    @model_validator(mode="after")
    def _one_source(self) -> "CollectConfig":
        if sum(map(bool, (self.seeds, self.warc, self.pairs))) != 1:
            raise ValueError("give one kind of source: --seed for live pages, --warc for archives, or --pairs for a list")
        return self


def collect(
    root: Folder,
    config: CollectConfig,
    *,
    id: str | None = None,
    engine: Engine | None = None,
    progress: Callable[[Progress], None] = silent,
) -> Collection:
    """Bring a collection to its manifest, going on where an earlier run of the same options stopped.

    Raises ValueError for a source that gives nothing or an id that belongs to other options, LeaseHeld when another process writes it.
    """
    name = id or _unfinished(root, config) or datetime.now(UTC).strftime("%Y%m%dT%H%M%SZ")
    folder = root / "collections" / name
    _claim(folder, config)
    if folder.exists(MANIFEST) and not folder.read_json(MANIFEST)["failed"]:
        return open_collection(root, name)
    with lease(folder):
        stages = [_candidates(folder, config, progress)]
        manifests = [_nonempty(run_stage(stages[0], engine, progress))]
        for stage in (Scatter.of(folder), Distinct.of(folder), _fetch(folder, config)):
            manifests.append(run_stage(stage, engine, progress))
        _seal(folder, manifests)
    return open_collection(root, name)


def _settings(config: CollectConfig) -> dict[str, Any]:
    return {"settings": config.model_dump(mode="json")}


def _unfinished(root: Folder, config: CollectConfig) -> str | None:
    """The last unfinished collection of the same options."""
    folder = root / "collections"
    same = (
        name
        for name in reversed(folder.names())
        if not (folder / name).exists(MANIFEST)
        and (folder / name).exists(CONFIGURATION)
        and (folder / name).read_json(CONFIGURATION) == _settings(config)
    )
    return next(same, None)


def _claim(folder: Folder, config: CollectConfig) -> None:
    if not folder.exists(CONFIGURATION):
        folder.write_json(CONFIGURATION, _settings(config))
        return
    there = folder.read_json(CONFIGURATION)["settings"]
    other = [key for key, value in _settings(config)["settings"].items() if there.get(key) != value]
    if other:
        raise ValueError(
            f"collection {folder.name} was made with other options ({', '.join(other)}): "
            f"collections do not change, give this one another --id"
        )


def _candidates(folder: Folder, config: CollectConfig, progress: Callable[[Progress], None]) -> Stage:
    out = folder / "candidates"
    if config.pairs is not None:
        return Pairs(out=out, path=config.pairs)
    if config.warc:
        return Extract(out=out, archives=config.warc, target_width=config.target_width)
    order = Crawl(
        seeds=config.seeds,
        max_pages=config.max_pages,
        max_depth=config.max_depth,
        allow_private_addresses=config.allow_private_addresses,
        contact=config.contact,
    )
    pages = folder / "pages"
    found = crawl(order, pages, progress=lambda done: progress(Progress(stage="crawl", done=done, parts=0, counts={"pages": done})))
    progress(Progress(stage="crawl", done=1, parts=1, counts={"pages": found["pages"], **found["refused"], **found["errors"]}))
    return Extract(out=out, pages=pages, target_width=config.target_width)


def _nonempty(manifest: Manifest) -> Manifest:
    """Candidates there must be: a source without any is a mistake worth saying at once."""
    if manifest.counts.get("candidates", 0):
        return manifest
    if manifest.failed:
        raise ValueError(next(iter(manifest.failed.values())).strip().splitlines()[-1].partition(": ")[2])
    seen = ", ".join(f"{count:,} {name}" for name, count in manifest.counts.items() if count) or "nothing to read"
    raise ValueError(f"the source holds no image-text candidates ({seen})")


def _fetch(folder: Folder, config: CollectConfig) -> Stage:
    return Fetch(
        out=folder / "fetches",
        images=folder / "images",
        urls=folder / "urls",
        held=folder / "candidates",
        allow_private_addresses=config.allow_private_addresses,
        contact=config.contact,
        web=config.fetch,
    )


def _seal(folder: Folder, manifests: list[Manifest]) -> None:
    """The collection's own manifest, which makes it visible; its counts add up the stages'."""
    counts: Counter[str] = Counter()
    for manifest in manifests:
        counts.update(manifest.counts)
    if (folder / "pages").exists("crawl.json"):
        found = (folder / "pages").read_json("crawl.json")
        counts.update({f"pages.{name}": count for name, count in {**found["refused"], **found["errors"]}.items()})
    value = {
        "digest": digest([manifest.digest for manifest in manifests]),
        "stages": {manifest.stage: manifest.digest for manifest in manifests},
        "counts": dict(sorted(counts.items())),
        "failed": sum(len(manifest.failed) for manifest in manifests),
    }
    assert stage_manifest(folder, "fetches").digest == manifests[-1].digest
    folder.write_json(MANIFEST, value)
