"""The course of a decision: what is measured beforehand, then segment after segment, each with what
its survivors are asked.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import pyarrow as pa
import pyarrow.parquet as pq

from filters.base import Filter
from filters.given_models import Given
from filters.recipe.recipe import GroupRule, Recipe
from filters.recipe.rules import CLUSTERED
from filters.registry import MEASUREMENTS, filters_for, writer
from pipelines.collect.collection import Collection, open_collection, stage_manifest
from pipelines.collect.join_fetches import (
    FetchedImages,
    JoinFetches,
    PartitionByHost,
    resolved_schema,
)
from pipelines.decide.apply_rules import Decide
from pipelines.decide.candidate_view import Asked, CandidateView, Delivered, Source
from pipelines.decide.group_rules import ApplyGroupRule, judge
from pipelines.decide.on_demand import (
    JoinMeasurements,
    MeasureCandidatesOnDemand,
    MeasureImagesOnDemand,
    MeasureRequest,
    Survivors,
    bucket_name,
)
from pipelines.decide.segments import Segment, lazy_filters, needs_of, segments
from pipelines.decide.statistics import modulus_for
from pipelines.dedup.clusters import cluster
from pipelines.engine.runner import run_stage
from pipelines.engine.stage import Engine, Manifest, Progress, Stage, StageFailed
from pipelines.measure import Measure, filter_digest, increments
from pipelines.permission.takedown_list import TakedownList
from pipelines.store import Folder, digest

DECISION = "decision.json"  # what the outcomes beside it are of


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


Measured = list[tuple[Measure, Manifest]]


@dataclass(frozen=True)
class DecisionRun:
    """One decision on its way: what is measured beforehand, then segment after segment."""

    root: Folder
    recipe: Recipe
    collections: tuple[Collection, ...]
    given: Given
    also: tuple[str, ...]
    at_once: bool
    run: Runner

    @cached_property
    def forgotten(self) -> TakedownList:
        return TakedownList.read(self.root)

    @cached_property
    def filters(self) -> tuple[Filter, ...]:
        """All that the recipe needs, in the order of their dependencies."""
        steps = [name for rule in self.recipe.rule for name in needs_of(rule)] + list(self.also)
        wanted = {CLUSTERED.get(name, name) for name in steps} | ({self.recipe.text} - {"text"})
        return filters_for(wanted & set(MEASUREMENTS), self.given, self.recipe.left_out)

    @cached_property
    def rewriter(self) -> Filter | None:
        if self.recipe.text == "text":
            return None
        return next(
            filter_ for filter_ in self.filters if isinstance(filter_, writer(self.recipe.text))
        )

    @cached_property
    def lazy(self) -> tuple[Filter, ...]:
        return lazy_filters([filter_ for filter_ in self.filters if filter_ is not self.rewriter])

    @cached_property
    def measured(self) -> dict[str, Measured]:
        """What is measured on all rows of each collection, and on the images of those that they
        refer to.
        """
        eager = [filter_ for filter_ in self.filters if filter_ not in self.lazy]
        eager.sort(key=lambda filter_: filter_ is not self.rewriter)
        found = {collection.id: self._measure(collection, eager) for collection in self.collections}
        on_images = [filter_ for filter_ in eager if filter_.level == "image"]
        for id in sorted(
            {id for collection in self.collections for id in collection.refers_to} - found.keys()
        ):
            found[id] = self._measure(open_collection(self.root, id), on_images)
        return found

    def _measure(self, collection: Collection, filters: Sequence[Filter]) -> Measured:
        stages = [Measure.of(collection.folder, filter_, self.rewriter) for filter_ in filters]
        return [(stage, self.run(stage)) for stage in stages]

    @cached_property
    def basis(self) -> str:
        return digest(
            {
                "recipe": self.recipe.digest,
                "collections": [
                    [collection.id, collection.digest] for collection in self.collections
                ],
                "measured": {
                    id: [manifest.digest for _, manifest in stages]
                    for id, stages in self.measured.items()
                },
                "lazy": [
                    filter_digest(filter_, self.rewriter, self.filters) for filter_ in self.lazy
                ],
                "also": list(self.also),
            }
        )

    @cached_property
    def identity(self) -> str:
        asked = {"at_once": True} if self.at_once else {}
        return digest(
            {
                "basis": self.basis,
                "forgotten": self.forgotten.digest,
                "version": Decide.version,
                **asked,
            }
        )

    @property
    def folder(self) -> Folder:
        return self.root / "outcomes" / self.identity[:16]

    def standing(self) -> Manifest | None:
        """The manifest of the same decision, if it was made before and all of it succeeded."""
        manifest = Manifest.read(self.folder)
        return manifest if manifest is not None and not manifest.failed else None

    def decide(self) -> Manifest:
        """Segment after segment, to the manifest of the outcomes."""
        if not self.folder.exists(DECISION):
            names = [collection.id for collection in self.collections]
            about = {
                "recipe": self.recipe.name,
                "rules": self.recipe.to_json(),
                "digest": self.recipe.digest,
            }
            self.folder.write_json(
                DECISION, {**about, "collections": names, "forgotten": self.forgotten.digest}
            )
        cut = segments(self.recipe, self.lazy, self.also, at_once=self.at_once)
        known = self._known()
        stage = self._first(known, cut[0])
        for index, segment in enumerate(cut):
            decided = self._whole(stage)
            if index + 1 == len(cut):
                return decided
            following = replace(
                stage,
                out=self._out(index + 1, cut),
                segment=cut[index + 1],
                index=index + 1,
                previous=stage.out,
            )
            if segment.group is not None:
                judging = self._judge(segment.group, stage, decided)
                verdicts = judge(judging, self._whole)
                following = replace(
                    following,
                    judged=segment.group,
                    verdicts=judging.out,
                    verdict_names=tuple(verdicts.names()),
                )
            else:
                known = self._ask(known, stage, decided)
                following = replace(following, known=known, judged=None)
            stage = following
        raise AssertionError("a recipe has a last segment")

    def _whole(self, stage: Stage) -> Manifest:
        return whole(self.run(stage))

    @property
    def work(self) -> Folder:
        return self.folder / "work"

    def _out(self, index: int, cut: Sequence[Segment]) -> Folder:
        return self.folder if index + 1 == len(cut) else self.work / f"segment-{index}"

    def _first(self, known: CandidateView, segment: Segment) -> Decide:
        last = segment.group is None and not segment.asks
        return Decide(
            out=self.folder if last else self.work / "segment-0",
            known=known,
            recipe=self.recipe,
            segment=segment,
            decision=self.identity,
            index=0,
            buckets=max(1, -(-len(known.sources) // 4)),
            pictures=tuple(self._buckets_of_images()),
            also=self.also,
            modulus=modulus_for(
                sum(collection.counts.get("candidates", 0) for collection in self.collections)
            ),
            forgotten=self.forgotten,
        )

    def _buckets_of_images(self) -> Iterator[tuple[str, str]]:
        """The collection and the name of each bucket of images."""
        for id in self.measured:
            names = stage_manifest(self.root / "collections" / id, "fetches").names(".arrow")
            yield from (
                (id, bucket) for bucket in dict.fromkeys(bucket_name(name) for name in names)
            )

    def _known(self) -> CandidateView:
        eager = [stage.filter for stage, _ in self.measured[self.collections[0].id]]
        types = {
            name: kind
            for filter_ in eager
            if filter_.level == "image"
            for name, kind in filter_.writes.items()
        }
        wanted = (
            self.recipe.reads
            | {name for filter_ in self.lazy for name in filter_.reads}
            | set(self.also)
        )
        schema = resolved_schema({name: types[name] for name in sorted(set(types) & wanted)})
        sources = tuple(
            source
            for collection in self.collections
            for source in self._sources(collection, schema)
        )
        return CandidateView(sources=sources, resolved_schema=schema, text=self.recipe.text)

    def _sources(self, collection: Collection, schema: pa.Schema) -> list[Source]:
        fetched, candidates = (
            stage_manifest(collection.folder, part) for part in ("fetches", "candidates")
        )
        pictures = tuple(
            _pictures(collection.folder.beside(id), self.measured[id])
            for id in (collection.id, *collection.refers_to)
        )
        # it depends on the columns that are read, not on thresholds: other decisions share it
        place = self.root / "aggregates"
        stage = JoinFetches(
            out=place,
            scatter=PartitionByHost.of(collection.folder),
            fetched=fetched,
            pictures=pictures,
            schema=schema,
        )
        stage = replace(
            stage, out=place / f"resolved-{digest([collection.id, stage.identity()])[:16]}"
        )
        resolved = tuple(self._whole(stage).names())
        on_candidates = tuple(
            stage.out
            for stage, _ in self.measured[collection.id]
            if stage.filter.level == "candidate"
        )
        return [
            Source(
                collection=collection.folder,
                name=name,
                measured=on_candidates,
                resolved=stage.out,
                resolved_names=resolved,
                index=index,
            )
            for index, name in enumerate(candidates.names(".parquet", "part-"))
        ]

    def _judge(self, rule: GroupRule, stage: Decide, decided: Manifest) -> ApplyGroupRule:
        names = _parts(decided)
        return ApplyGroupRule(
            out=self.work / f"verdicts-{stage.index}",
            rule=rule,
            decision=stage.decision,
            index=stage.index,
            buckets=stage.buckets,
            rows=stage.out / "rows",
            names=names,
            schema=read_schema(stage.out / "rows", names[0]),
        )

    def _ask(self, known: CandidateView, stage: Decide, decided: Manifest) -> CandidateView:
        """What is known once all that a segment asks has been measured on its survivors."""
        for ask in stage.segment.asks:
            if isinstance(ask, str):
                known = replace(known, arrived=(*known.arrived, self._cluster(ask, known, stage)))
            elif ask.level == "image":
                known = replace(
                    known, arrived=(*known.arrived, self._ask_images(ask, stage, decided))
                )
            else:
                known = replace(
                    known, arrived=(*known.arrived, self._ask_candidates(ask, known, stage))
                )
        return known

    def _ask_candidates(self, filter_: Filter, known: CandidateView, stage: Decide) -> Asked:
        question = self._question(filter_, stage)
        found = []
        for home in (collection.folder for collection in self.collections):
            earlier = increments(question.base(home))
            out = question.increment(home)
            ask = MeasureCandidatesOnDemand(
                out=out,
                question=question,
                known=known,
                previous=stage.out,
                collection=home,
                earlier=earlier,
            )
            found.append((home, self._asked(ask)))
        return Asked(folders=tuple(found), writes=tuple(filter_.writes.items()))

    def _ask_images(self, filter_: Filter, stage: Decide, decided: Manifest) -> Delivered:
        question = self._question(filter_, stage)
        rows, names = stage.out / "rows", _parts(decided)
        groups: list[tuple[int, str, tuple[Folder, ...]]] = []
        for id in self.measured:
            home = self.root / "collections" / id
            own = tuple(
                (group, bucket) for group, (of, bucket) in enumerate(stage.pictures) if of == id
            )
            earlier = increments(question.base(home))
            out = question.increment(home)
            ask = MeasureImagesOnDemand(
                out=out,
                question=question,
                collection=home,
                rows=rows,
                names=names,
                groups=own,
                earlier=earlier,
            )
            asked = self._asked(ask)
            groups += [(group, bucket, asked) for group, bucket in own]
        out = self.work / f"delivered-{stage.index}-{filter_.name}"
        deliver = JoinMeasurements(
            out=out, question=question, rows=rows, names=names, groups=tuple(groups)
        )
        delivered = self._whole(deliver)
        return Delivered(
            folder=out,
            names=tuple(delivered.names()),
            schema=deliver.schema,
            columns=tuple(filter_.writes),
        )

    def _question(self, filter_: Filter, stage: Decide) -> MeasureRequest:
        return MeasureRequest(
            filter=filter_,
            rewriter=self.rewriter,
            among=self.filters,
            decision=self.identity,
            index=stage.index,
        )

    def _asked(self, ask: MeasureCandidatesOnDemand | MeasureImagesOnDemand) -> tuple[Folder, ...]:
        """The increments that hold the answers: an empty one, where all had been asked before, is
        not kept.
        """
        answered = self._whole(ask)
        if not answered.counts.get("rows", 0) and (
            self.run.engine is None or self.run.engine.share is None
        ):
            ask.out.remove()
        return increments(ask.question.base(ask.collection))

    def _cluster(self, name: str, known: CandidateView, stage: Decide) -> Delivered:
        rows = Survivors(
            out=self.work / f"survivors-{stage.index}-{name}",
            known=known,
            previous=stage.out,
            measurement=CLUSTERED[name],
            decision=self.identity,
            index=stage.index,
        )
        names = self._whole(rows).names()
        found = cluster(
            out=self.root / "aggregates" / digest([self.identity, stage.index, name])[:16],
            rows=rows.out,
            names=names,
            kind="hash" if name == "image.cluster" else "embedding",
            identity=self.identity,
            run=self._whole,
        )
        return Delivered(
            folder=found.folder, names=tuple(found.names), schema=found.schema, columns=(name,)
        )


def _parts(manifest: Manifest) -> tuple[str, ...]:
    """The files in which the parts of a stage handed rows over."""
    return tuple(sorted({f"{file['part']}.arrow" for file in manifest.files}))


def _pictures(collection: Folder, measured: Measured) -> FetchedImages:
    on_images = [(stage, manifest) for stage, manifest in measured if stage.filter.level == "image"]
    return FetchedImages(
        collection=collection,
        measured=tuple(stage.out for stage, _ in on_images),
        digests=tuple(manifest.digest for _, manifest in on_images),
    )


def read_schema(folder: Folder, name: str) -> pa.Schema:
    """The columns of a Parquet or Arrow file, without what else it says of itself."""
    with folder.open(name) as file:
        schema = pa.ipc.open_file(file).schema if name.endswith(".arrow") else pq.read_schema(file)
        return schema.remove_metadata()


def whole(manifest: Manifest) -> Manifest:
    if manifest.failed:
        part, error = next(iter(manifest.failed.items()))
        raise StageFailed(
            f"stage {manifest.stage}: {len(manifest.failed)} parts failed, first {part}:"
            f" {error.strip().splitlines()[-1]}"
        )
    return manifest
