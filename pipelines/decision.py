"""The outcome of every candidate of some collections under a recipe, from measurements to the last segment."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.parquet as pq

from filters import filters_for
from filters.base import Filter
from filters.funnel import Funnel
from filters.recipe import GroupRule, Recipe, load
from pipelines.collection import Collection, open_collection, stage_manifest
from pipelines.decide import Decide, Source, segments
from pipelines.judge import Judge
from pipelines.measure import Measure
from pipelines.resolve import Pictures, Resolve, Scatter, resolved_schema
from pipelines.stage import Engine, Manifest, Progress, Stage, StageFailed, run_stage, silent
from pipelines.store import Folder, digest
from pipelines.takedown.forgotten import Forgotten

DECISION = "decision.json"  # what the outcomes beside it are of


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
class Runner:
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
    run = Runner(engine=engine, progress=progress, failed=[])
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


def _measure(collection: Collection, filters: Iterable[Filter], run: Runner) -> Measured:
    stages = [Measure.of(collection.folder, filter_) for filter_ in filters]
    return [(stage, run(stage)) for stage in stages]


def _decide(
    folder: Folder,
    identity: str,
    recipe: Recipe,
    collections: Sequence[Collection],
    measured: dict[str, Measured],
    forgotten: Forgotten,
    run: Runner,
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
        previous = whole(run(stage))
        if segment.group is not None:
            verdicts = whole(run(_judge(segment.group, stage, previous, work, index)))
    assert previous is not None
    return previous, tuple(previous.names(".parquet"))


def _judge(rule: GroupRule, stage: Decide, decided: Manifest, work: Folder, index: int) -> Judge:
    names = sorted({str(file["part"]) + ".parquet" for file in decided.files})
    rows = stage.out / "rows"
    schema = read_schema(rows, names[0])
    return Judge(
        out=work / f"verdicts-{index}",
        rule=rule,
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


def whole(manifest: Manifest) -> Manifest:
    if manifest.failed:
        part, error = next(iter(manifest.failed.items()))
        raise StageFailed(f"stage {manifest.stage}: {len(manifest.failed)} parts failed, first {part}: {error.strip().splitlines()[-1]}")
    return manifest


def _sources(collection: Collection, measured: dict[str, Measured], schema: pa.Schema, work: Folder, run: Runner) -> list[Source]:
    fetched, candidates = (stage_manifest(collection.folder, part) for part in ("fetches", "candidates"))
    stage = Resolve(
        out=work / f"resolved-{collection.id}",
        scatter=Scatter.of(collection.folder),
        fetched=fetched,
        pictures=tuple(_pictures(collection.folder.beside(id), measured[id]) for id in (collection.id, *collection.refers_to)),
        schema=schema,
    )
    resolved = whole(run(stage))
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
