"""Curate: measure what is missing, decide with a recipe, release what it keeps."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import BaseModel, ConfigDict, Field

from filters import filters_for
from filters.base import Filter
from filters.funnel import Funnel
from filters.recipe import Recipe, load
from pipelines.collection import Collection, open_collection, stage_manifest
from pipelines.decide import Decide, Judge, Source, segments
from pipelines.measure import Measure, filter_digest
from pipelines.release import Gather, Shard, card, release_digest
from pipelines.resolve import Pictures, Resolve, Scatter, resolved_schema
from pipelines.schema import KEPT
from pipelines.shares import right_to_write
from pipelines.stage import Engine, Manifest, Progress, Stage, StageFailed, run_stage, silent
from pipelines.store import Folder, digest
from pipelines.takedown.forgotten import Forgotten

DECISION = "decision.json"  # what the outcomes beside it are of
SUPERSEDED = "superseded.json"  # in a release that held what was taken down: which release stands for it


class CurateConfig(BaseModel):
    """What to release: which recipe keeps what of which collections, in shards of how many images, with what share held out."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    recipe: str
    collections: tuple[str, ...] = Field(min_length=1)
    release: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")
    shard_samples: int = Field(default=10_000, gt=0)
    heldout: float = Field(default=0.0, ge=0, lt=1)


@dataclass(frozen=True, kw_only=True)
class Release:
    """A published release."""

    name: str
    folder: Folder
    digest: str
    samples: int
    shards: int
    funnel: Funnel


@dataclass(frozen=True, kw_only=True)
class Decision:
    """A recipe applied: where the outcomes lie, in which files, and the funnel."""

    folder: Folder
    digest: str
    names: tuple[str, ...]
    recipe: Recipe
    collections: tuple[Collection, ...]
    funnel: Funnel
    failed: int  # parts set aside on the way
    basis: str = ""  # the digest without what was taken down
    forgotten: str = ""  # the digest of what was taken down


@dataclass(frozen=True, kw_only=True)
class _Runner:
    """Runs stages with one engine and adds up the parts that were set aside."""

    engine: Engine | None
    progress: Callable[[Progress], None]
    failed: list[str]

    def __call__(self, stage: Stage) -> Manifest:
        manifest = run_stage(stage, self.engine, self.progress)
        self.failed.extend(f"{stage.name} {part}" for part in manifest.failed)
        return manifest


def decide(
    root: Folder,
    recipe: str | Recipe,
    collections: Sequence[str],
    *,
    engine: Engine | None = None,
    progress: Callable[[Progress], None] = silent,
) -> Decision:
    """The outcome of every candidate of some collections under a recipe; what was measured or decided before is not done again.

    What was taken down (`winnow forget`) ends as `permission.forgotten`, whatever the collections still hold of it.

    Raises ValueError for an unknown recipe or collection, StageFailed when a part of the decision itself could not be processed.
    """
    loaded = load(recipe) if isinstance(recipe, str) else recipe
    forgotten = Forgotten.read(root)
    opened = tuple(open_collection(root, name) for name in collections)
    filters = filters_for(loaded.reads)
    run = _Runner(engine=engine, progress=progress, failed=[])
    measured = {collection.id: _measure(collection, filters, run) for collection in opened}
    on_images = [filter_ for filter_ in filters if filter_.level == "image"]
    for id in sorted({id for collection in opened for id in collection.refers_to} - measured.keys()):
        measured[id] = _measure(open_collection(root, id), on_images, run)
    basis = digest(
        {
            "recipe": loaded.digest,
            "collections": [[collection.id, collection.digest] for collection in opened],
            "measured": {id: [manifest.digest for _, manifest in stages] for id, stages in measured.items()},
        }
    )
    identity = digest({"basis": basis, "forgotten": forgotten.digest})
    folder = root / "outcomes" / identity[:16]
    if not folder.exists(DECISION):
        folder.write_json(DECISION, {"recipe": loaded.name, "collections": list(collections), "forgotten": forgotten.digest})
    last, names = _decide(folder, identity, loaded, opened, measured, forgotten, run)
    candidates = sum(collection.counts.get("candidates", 0) for collection in opened)
    counts = Funnel(recipe=loaded.name, outcomes=loaded.ordered(last.counts)).conserve(candidates)
    return Decision(
        folder=folder,
        digest=identity,
        names=names,
        recipe=loaded,
        collections=opened,
        funnel=counts,
        failed=len(run.failed),
        basis=basis,
        forgotten=forgotten.digest,
    )


Measured = list[tuple[Measure, Manifest]]


def _measure(collection: Collection, filters: Iterable[Filter], run: _Runner) -> Measured:
    stages = [Measure.of(collection.folder, filter_) for filter_ in filters]
    return [(stage, run(stage)) for stage in stages]


def _decide(
    folder: Folder,
    identity: str,
    recipe: Recipe,
    collections: Sequence[Collection],
    measured: dict[str, Measured],
    forgotten: Forgotten,
    run: _Runner,
) -> tuple[Manifest, tuple[str, ...]]:
    types = {name: kind for collection in collections for stage, _ in measured[collection.id] for name, kind in stage.filter.writes.items()}
    on_images = {name for stage, _ in measured[collections[0].id] if stage.filter.level == "image" for name in stage.filter.writes}
    schema = resolved_schema({name: types[name] for name in sorted(on_images & recipe.reads)})
    work = folder / "work"
    sources = [source for collection in collections for source in _sources(collection, measured, schema, work, run)]
    buckets = max(1, -(-len(sources) // 4))
    previous: Manifest | None = None
    verdicts: Manifest | None = None
    cut = segments(recipe)
    for index, segment in enumerate(cut):
        stage = Decide(
            out=folder if segment.group is None else work / f"segment-{index}",
            sources=tuple(sources),
            resolved_schema=schema,
            recipe=recipe,
            decision=identity,
            index=index,
            buckets=buckets,
            forgotten=forgotten,
            previous=None if previous is None else work / f"segment-{index - 1}",
            verdicts=None if verdicts is None else work / f"verdicts-{index - 1}",
            verdict_names=() if verdicts is None else tuple(verdicts.names()),
        )
        previous = _whole(run(stage))
        if segment.group is not None:
            verdicts = _whole(run(_judge(stage, previous, work, index)))
    assert previous is not None
    return previous, tuple(previous.names(".parquet"))


def _judge(stage: Decide, decided: Manifest, work: Folder, index: int) -> Judge:
    names = sorted({str(file["part"]) + ".parquet" for file in decided.files})
    rows = stage.out / "rows"
    schema = read_schema(rows, names[0])
    return Judge(
        out=work / f"verdicts-{index}",
        recipe=stage.recipe,
        decision=stage.decision,
        index=index,
        buckets=stage.buckets,
        rows=rows,
        names=tuple(names),
        schema=schema,
    )


def read_schema(folder: Folder, name: str) -> pa.Schema:
    """The columns of a Parquet file, without what else it says of itself."""
    with folder.open(name) as file:
        return pq.read_schema(file).remove_metadata()


def _whole(manifest: Manifest) -> Manifest:
    if manifest.failed:
        part, error = next(iter(manifest.failed.items()))
        raise StageFailed(f"stage {manifest.stage}: {len(manifest.failed)} parts failed, first {part}: {error.strip().splitlines()[-1]}")
    return manifest


def _sources(collection: Collection, measured: dict[str, Measured], schema: pa.Schema, work: Folder, run: _Runner) -> list[Source]:
    fetched, candidates = (stage_manifest(collection.folder, part) for part in ("fetches", "candidates"))
    stage = Resolve(
        out=work / f"resolved-{collection.id}",
        scatter=Scatter.of(collection.folder),
        fetched=fetched,
        pictures=tuple(_pictures(collection.folder.beside(id), measured[id]) for id in (collection.id, *collection.refers_to)),
        schema=schema,
    )
    resolved = _whole(run(stage))
    on_candidates = tuple(stage.out for stage, _ in measured[collection.id] if stage.filter.level == "candidate")
    return [
        Source(
            collection=collection.folder,
            name=name,
            measured=on_candidates,
            resolved=stage.out,
            resolved_names=tuple(resolved.names()),
            index=index,
        )
        for index, name in enumerate(candidates.names(".parquet", "part-"))
    ]


def _pictures(collection: Folder, measured: Measured) -> Pictures:
    on_images = [(stage, manifest) for stage, manifest in measured if stage.filter.level == "image"]
    return Pictures(
        collection=collection,
        measured=tuple(stage.out for stage, _ in on_images),
        digests=tuple(manifest.digest for _, manifest in on_images),
    )


def funnel(
    root: Folder, recipe: str, collections: Sequence[str], *, engine: Engine | None = None, progress: Callable[[Progress], None] = silent
) -> Funnel:
    """What a recipe would keep and drop, and why; nothing is released."""
    return decide(root, recipe, collections, engine=engine, progress=progress).funnel


def curate(root: Folder, config: CurateConfig, *, engine: Engine | None = None, progress: Callable[[Progress], None] = silent) -> Release:
    """Measure, decide and write a release; at once if the same release stands already.

    Raises ValueError when nothing was kept, or when the name belongs to another release.
    """
    decision = decide(root, config.recipe, config.collections, engine=engine, progress=progress)
    return publish(root, config, decision, engine=engine, progress=progress)


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
    identity = digest({"decision": decision.basis, "shard_samples": config.shard_samples, "heldout": config.heldout})
    standing = _standing(folder, identity)
    kept = decision.funnel.outcomes.get(KEPT, 0)
    if standing is None and not kept:
        raise ValueError(
            f"recipe {config.recipe} keeps none of {decision.funnel.candidates} candidates: `winnow funnel` shows what stopped them"
        )
    if standing is None:
        with right_to_write(folder, engine.share if engine is not None else None, name="writer"):
            run = _Runner(engine=engine, progress=progress, failed=[])
            standing = _write(root, folder, config, decision, {"identity": identity, "supersedes": supersedes}, kept, run)
    return Release(
        name=config.release,
        folder=folder,
        digest=standing["digest"],
        samples=standing["samples"],
        shards=standing["shards"],
        funnel=decision.funnel,
    )


def _standing(folder: Folder, identity: str) -> dict[str, Any] | None:
    """The manifest of a release that stands, None if there is none; ValueError if the name is another's or was taken down."""
    if not folder.exists("manifest.json"):
        return None
    if message := superseded(folder):
        raise ValueError(message)
    standing: dict[str, Any] = folder.read_json("manifest.json")
    if standing["identity"] != identity:
        raise ValueError(
            f"release {folder.name} stands already, made with recipe {standing['recipe']} from {', '.join(standing['collections'])}; "
            f"releases do not change: choose another name"
        )
    return standing


def superseded(release: Folder) -> str | None:
    """Why a release is not to be used any more, in words; None if it is."""
    if not release.exists(SUPERSEDED):
        return None
    by = release.read_json(SUPERSEDED)["by"]
    instead = f"use {by}, which was written without it" if by else "curate a new one"
    return f"release {release.name} held what was taken down since, and lacks it now: {instead}"


def _write(
    root: Folder, folder: Folder, config: CurateConfig, decision: Decision, marks: dict[str, str | None], kept: int, run: _Runner
) -> dict[str, Any]:
    shards = max(1, -(-kept // config.shard_samples))
    gathered = decision.folder / "work" / f"gathered-{shards}"
    gather = Gather(out=gathered, decided=decision.folder, decision=decision.digest, names=decision.names, shards=shards)
    manifest = _whole(run(gather))
    schema = read_schema(gathered, manifest.names()[0])
    measurements = tuple(sorted(name for name in decision.recipe.reads if "." in name and name in schema.names))
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
    )
    written = _whole(run(stage))
    return _seal(folder, stage, written, config, decision, marks)


def _seal(
    folder: Folder, stage: Shard, written: Manifest, config: CurateConfig, decision: Decision, marks: dict[str, str | None]
) -> dict[str, Any]:
    """Card and funnel, then the manifest that makes the release visible."""
    manifest = {
        "name": config.release,
        **marks,
        "digest": release_digest(stage.out, written.names(".arrow"), stage.measurements),
        "recipe": decision.recipe.name,
        "recipe_digest": decision.recipe.digest,
        "recipe_rules": decision.recipe.model_dump(mode="json"),
        "shard_samples": config.shard_samples,
        "heldout": config.heldout,
        "forgotten": decision.forgotten,
        "collections": {collection.id: collection.digest for collection in decision.collections},
        "filters": {measured.name: filter_digest(measured) for measured in filters_for(decision.recipe.reads)},
        "samples": written.counts["samples"],
        "captions": written.counts["captions"],
        "shards": stage.shards,
        "files": written.files,
    }
    funnel_json = decision.funnel.to_json()
    folder.write_json("funnel.json", funnel_json)
    folder.write_bytes("README.md", card(manifest, funnel_json, decision.recipe.description).encode())
    folder.write_json("manifest.json", manifest)
    return manifest
