"""Decide: a recipe applied to collections gives every candidate exactly one outcome.

The rules run in segments. A segment ends at a group rule, which must see all rows with the same key together: the segment
sends its survivors to the key's bucket, the bucket is judged, and the next segment takes the verdicts back into its parts.
"""

from collections import Counter
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from filters.recipe import GroupRule, Recipe, RowRule, decide_row
from pipelines.exchange import bucket_of, read_group, write_groups
from pipelines.judge import PLACE, group_rows
from pipelines.measure import beside_candidates, with_nulls
from pipelines.schema import FETCHED, KEPT
from pipelines.stage import Output, Part, Stage
from pipelines.store import Folder, read_table, write_parquet
from pipelines.takedown.forgotten import FORGOTTEN, Forgotten, erased
from pipelines.web.permission import address_outcome

NOT_ASKED = "fetch.not_asked"  # the collection left the address out on purpose
LOCATION = ("image_collection", "image_part", "image_row")  # where the bytes of an image lie
_FETCH = "fetch"  # marks, among the steps, where addresses, fetches and decoding are judged


@dataclass(frozen=True, kw_only=True)
class Source:
    """One part of candidates of one collection, with the folders of what was measured on it."""

    collection: Folder
    name: str
    measured: tuple[Folder, ...]
    resolved: Folder
    resolved_names: tuple[str, ...]
    index: int  # among the parts of its collection


@dataclass(frozen=True, kw_only=True)
class Segment:
    """Row rules in order, then at most one group rule. `_FETCH` stands for permission to fetch and what came of it."""

    rules: tuple[RowRule | str, ...]
    group: GroupRule | None


def segments(recipe: Recipe) -> list[Segment]:
    """The steps of a recipe in the order of outcomes, cut after each group rule."""
    cut: list[Segment] = []
    rules: list[RowRule | str] = []
    for step in (*recipe.candidate_rules, _FETCH, *recipe.other_rules):
        if isinstance(step, GroupRule):
            cut.append(Segment(rules=tuple(rules), group=step))
            rules = []
        else:
            rules.append(step)
    return [*cut, Segment(rules=tuple(rules), group=None)]


@dataclass(frozen=True, kw_only=True)
class Decide(Stage):
    """One segment over the parts of candidates: outcomes so far, and the survivors by the key of the group rule that follows."""

    name: ClassVar[str] = "decide"
    version: ClassVar[int] = 2
    sources: tuple[Source, ...]
    resolved_schema: pa.Schema
    recipe: Recipe
    decision: str  # covers what was taken down
    index: int
    buckets: int
    forgotten: Forgotten
    previous: Folder | None = None  # outcomes of the segment before
    verdicts: Folder | None = None  # of the group rule before
    verdict_names: tuple[str, ...] = ()

    @property
    def segment(self) -> Segment:
        return segments(self.recipe)[self.index]

    def config(self) -> dict[str, Any]:
        return {"recipe": self.recipe.digest, "segment": self.index, "buckets": self.buckets}

    def inputs(self) -> dict[str, str]:
        return {"decision": self.decision}

    def parts(self) -> list[Part]:
        return [Part(name=f"part-{number:05d}", inputs=(str(number),)) for number in range(len(self.sources))]

    def process(self, part: Part) -> Output:
        number = int(part.inputs[0])
        table = self._table(self.sources[number])
        outcome = self._permission(table) if self.previous is None else self._before(self.previous, part, number)
        for rule in self.segment.rules:
            outcome = pc.coalesce(outcome, self._judge(rule, table))
        if self.segment.group is not None:
            return self._hand_over(part, number, table, outcome, self.segment.group)
        return self._conclude(part, number, table, pc.fill_null(outcome, KEPT))

    def _table(self, source: Source) -> pa.Table:
        """The candidates of a part beside all that is known of them; what is missing is null."""
        table = beside_candidates(source.collection, source.name, source.measured, self.recipe.reads)
        table = _beside(table, read_group(source.resolved, source.resolved_names, source.index, self.resolved_schema))
        return with_nulls(table, self.recipe.reads)

    def _permission(self, table: pa.Table) -> pa.ChunkedArray:
        """What was taken down comes before everything else, then what the page does not permit."""
        gone = self.forgotten.candidates(table) | self.forgotten.images(table["image_id"])
        erased_image = pc.fill_null(pc.equal(table["fetch_outcome"], FORGOTTEN), False)
        return pc.if_else(pc.or_(pa.array(gone), erased_image), FORGOTTEN, table["permission"])

    def _before(self, previous: Folder, part: Part, number: int) -> pa.ChunkedArray:
        """The outcomes that earlier segments and the last group rule left; null for who is still in."""
        outcome = read_table(previous, f"{part.name}.parquet", ["outcome"])["outcome"]
        assert self.verdicts is not None, "a segment ends at a group rule"
        stopped = read_group(self.verdicts, self.verdict_names, number, PLACE)["row"].to_numpy()
        rule = segments(self.recipe)[self.index - 1].group
        assert rule is not None
        mask = np.zeros(len(outcome), dtype=bool)
        mask[stopped] = True
        return pc.coalesce(outcome, pc.if_else(pa.array(mask), rule.reason, pa.scalar(None, pa.string())))

    def _judge(self, rule: RowRule | str, table: pa.Table) -> pa.ChunkedArray:
        if isinstance(rule, RowRule):
            return decide_row(rule, table)
        addresses = pa.chunked_array([_addresses(table["image_url"])])
        return pc.coalesce(addresses, _fetch_outcome(table["fetch_outcome"]))

    def _hand_over(self, part: Part, number: int, table: pa.Table, outcome: pa.ChunkedArray, rule: GroupRule) -> Output:
        files = [write_parquet(self.out, f"{part.name}.parquet", pa.table({"outcome": outcome}))]
        survivors = pc.is_null(outcome)
        rows = group_rows(rule, table.append_column("row", pa.array(np.arange(table.num_rows, dtype=np.int32))).filter(survivors))
        rows = rows.append_column("part", pa.array(np.full(rows.num_rows, number, dtype=np.int32)))
        files.append(write_groups(self.out / "rows", f"{part.name}.parquet", rows, bucket_of(rows["key"], self.buckets)))
        return Output(files=tuple(files), counts={"rows": rows.num_rows})

    def _conclude(self, part: Part, number: int, table: pa.Table, outcome: pa.ChunkedArray) -> Output:
        name = self.sources[number].collection.name
        columns = {**{key: table[key] for key in ("candidate_id", "image_id", "page_url", "image_url", *LOCATION)}}
        columns["text"] = table[self.recipe.text]
        kept = {key: table[key] for key in sorted(self.recipe.reads) if key in table.column_names and key not in columns}
        result = pa.table({"collection": pa.array([name] * table.num_rows), "outcome": outcome, **columns, **kept})
        gone = pc.equal(outcome, FORGOTTEN).to_numpy()
        result = erased(result, gone, keep=("collection", "outcome", "candidate_id")) if gone.any() else result
        counts = Counter(outcome.to_pylist())
        return Output(files=(write_parquet(self.out, f"{part.name}.parquet", result),), counts=counts)


def _beside(table: pa.Table, resolved: pa.Table) -> pa.Table:
    """Candidates with what became of their images; null where an image was never to be fetched."""
    place = np.full(table.num_rows, -1, dtype=np.int64)
    place[resolved["row"].to_numpy()] = np.arange(resolved.num_rows)
    found = resolved.take(pa.array(place, mask=place < 0))
    for name in found.column_names:
        if name not in PLACE.names:
            table = table.append_column(name, found[name])
    return table


def _addresses(urls: pa.ChunkedArray) -> pa.Array:
    distinct = urls.combine_chunks().dictionary_encode()
    if isinstance(distinct, pa.ChunkedArray):
        distinct = distinct.combine_chunks()
    outcomes = pa.array([address_outcome(url) for url in distinct.dictionary.to_pylist()], pa.string())
    return outcomes.take(distinct.indices)


def _fetch_outcome(outcome: pa.ChunkedArray) -> pa.ChunkedArray:
    """What stopped an image on its way; null where it was fetched and decoded."""
    tried = pc.fill_null(outcome, NOT_ASKED)
    return pc.if_else(pc.equal(tried, FETCHED), pa.scalar(None, pa.string()), tried)
