"""Trying again: the candidates of earlier collections whose images failed in given ways, as
candidates of a new collection.
"""

from dataclasses import dataclass
from typing import Any, ClassVar

import pyarrow as pa
import pyarrow.compute as pc

from pipelines.accounts import Account
from pipelines.collect.collection import Collection, stage_manifest
from pipelines.collect.join_fetches import (
    FetchedImages,
    JoinFetches,
    PartitionByHost,
    resolved_schema,
)
from pipelines.engine.shuffle import read_group
from pipelines.engine.stage import Manifest, Output, Part, Stage
from pipelines.schema import CANDIDATES
from pipelines.store import Folder
from pipelines.tables import read_table, write_parquet


def fates(folder: Folder, collection: Collection) -> JoinFetches:
    """The stage that takes the fetch outcomes of an earlier collection back to its parts of
    candidates.
    """
    return JoinFetches(
        out=folder / "fates" / collection.id,
        scatter=PartitionByHost.of(collection.folder),
        fetched=stage_manifest(collection.folder, "fetches"),
        pictures=(FetchedImages(collection=collection.folder),),
        schema=resolved_schema({}),
    )


def asked_for(outcomes: pa.ChunkedArray, wanted: tuple[str, ...]) -> pa.ChunkedArray:
    """Whether each outcome is one of the wanted, or of a family that is (`fetch` means all that
    begin with `fetch.`).
    """
    mask = pc.is_in(outcomes, value_set=pa.array(wanted, pa.string()))
    for family in wanted:
        mask = pc.or_(mask, pc.fill_null(pc.starts_with(outcomes, f"{family}."), False))
    return mask


@dataclass(frozen=True, kw_only=True)
class Retry(Stage):
    """The candidates of earlier collections, by part, whose image ended in one of `outcomes`."""

    name: ClassVar[str] = "retry"
    version: ClassVar[int] = 2
    accounts: ClassVar[tuple[Account, ...]] = (
        Account(of="candidates_before", into=("candidates", "retry.ended_otherwise")),
    )
    outcomes: tuple[str, ...]
    fates: tuple[JoinFetches, ...]  # complete

    def config(self) -> dict[str, Any]:
        return {"outcomes": list(self.outcomes)}

    def inputs(self) -> dict[str, str]:
        return {one.scatter.collection.name: _complete(one).digest for one in self.fates}

    def parts(self) -> list[Part]:
        found = []
        for place, one in enumerate(self.fates):
            names = stage_manifest(one.scatter.collection, "candidates").names(".parquet", "part-")
            found += [(str(place), str(index), name) for index, name in enumerate(names)]
        return [Part(name=f"{number:05d}", inputs=inputs) for number, inputs in enumerate(found)]

    def process(self, part: Part) -> Output:
        place, index, name = part.inputs
        one = self.fates[int(place)]
        candidates = read_table(one.scatter.collection / "candidates", name)
        fate = read_group(one.out, _complete(one).names(), int(index), one.schema)
        rows = fate.filter(asked_for(fate["fetch_outcome"], self.outcomes))["row"]
        again = self.forgotten.blank(
            candidates.take(rows.combine_chunks()).select(CANDIDATES.names)
        )
        others = candidates.num_rows - again.num_rows
        counts = {
            "candidates_before": candidates.num_rows,
            "candidates": again.num_rows,
            "retry.ended_otherwise": others,
        }
        return Output(
            files=(write_parquet(self.out, f"part-{part.name}.parquet", again),), counts=counts
        )


def _complete(stage: Stage) -> Manifest:
    manifest = Manifest.read(stage.out)
    assert manifest is not None, f"{stage.out.path()} is not complete"
    return manifest
