"""Decide: a recipe applied to collections gives every candidate exactly one outcome.

The rules run in segments. A segment ends at a group rule, which must see all rows with the same key
together: the segment sends its survivors to the key's bucket, the bucket is judged, and the next
segment takes the verdicts back into its parts. It also ends where the next rule reads a costly
measurement, which is then asked about the survivors alone.
"""

from collections import Counter
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from filters.recipe.recipe import GroupRule, Recipe, RowRule, decide_row
from filters.recipe.rules import CLUSTERED
from filters.registry import MEASUREMENTS
from pipelines.decide.candidate_view import CandidateView
from pipelines.decide.group_rules import PLACE, group_rows
from pipelines.decide.on_demand import ASKED
from pipelines.decide.segments import Segment, needs_of
from pipelines.decide.statistics import write_statistics
from pipelines.engine.shuffle import bucket_of, read_group, write_groups
from pipelines.engine.stage import Output, Part, Stage
from pipelines.permission.outcomes import address_outcome
from pipelines.permission.takedown_list import FORGOTTEN, TakedownList, erased
from pipelines.schema import FETCHED, KEPT
from pipelines.store import Folder
from pipelines.tables import read_table, write_parquet

NOT_ASKED = "fetch.not_asked"  # the collection left the address out on purpose
LOCATION = ("image_collection", "image_part", "image_row")  # where the bytes of an image lie
CARRIED = (
    "candidate_id",
    "image_id",
    "page_url",
    "image_url",
    "text",
    "text_source",
    "page_language",
    "captured_at",
)


@dataclass(frozen=True, kw_only=True)
class Decide(Stage):
    """One segment over the parts of candidates: outcomes so far, and where its survivors are to be
    looked for by what comes next.
    """

    name: ClassVar[str] = "decide"
    version: ClassVar[int] = 4
    known: CandidateView
    recipe: Recipe
    segment: Segment
    decision: str  # covers what was taken down
    index: int
    buckets: int  # of the key of a group rule
    # collection and bucket of images, in the order of the groups that survivors are handed over in
    pictures: tuple[tuple[str, str], ...]
    also: tuple[str, ...]  # asked for beside what the recipe reads
    modulus: int  # of how many rows one is drawn for the sample
    forgotten: TakedownList
    previous: Folder | None = None  # outcomes of the segment before
    judged: GroupRule | None = None  # which ended the segment before
    verdicts: Folder | None = None
    verdict_names: tuple[str, ...] = ()

    def config(self) -> dict[str, Any]:
        return {"recipe": self.recipe.digest, "segment": self.index, "buckets": self.buckets}

    def inputs(self) -> dict[str, str]:
        return {"decision": self.decision}

    def parts(self) -> list[Part]:
        return [
            Part(name=f"part-{number:05d}", inputs=(str(number),))
            for number in range(len(self.known.sources))
        ]

    def process(self, part: Part) -> Output:
        number = int(part.inputs[0])
        last = self.segment.group is None and not self.segment.asks
        table = self.known.table(number, self._shown() if last else self._reads())
        outcome = (
            self._permission(table)
            if self.previous is None
            else self._before(self.previous, part, number)
        )
        for rule in self.segment.rules:
            outcome = pc.coalesce(outcome, self._judge(rule, table))
        return (
            self._conclude(part, number, table, pc.fill_null(outcome, KEPT))
            if last
            else self._hand_over(part, number, table, outcome)
        )

    def _shown(self) -> set[str]:
        """What stands beside the outcomes: all that the recipe reads, and what was asked for
        besides.
        """
        return {*self.recipe.reads, *self.also}

    def _reads(self) -> set[str]:
        steps = [
            *self.segment.rules,
            *([self.segment.group] if self.segment.group is not None else []),
        ]
        return {name for step in steps if not isinstance(step, str) for name in needs_of(step)}

    def _permission(self, table: pa.Table) -> pa.ChunkedArray:
        """What was taken down comes before everything else, then what the page does not permit."""
        gone = self.forgotten.candidates(table) | self.forgotten.images(table["image_id"])
        erased_image = pc.fill_null(pc.equal(table["fetch_outcome"], FORGOTTEN), False)
        return pc.if_else(pc.or_(pa.array(gone), erased_image), FORGOTTEN, table["permission"])

    def _before(self, previous: Folder, part: Part, number: int) -> pa.ChunkedArray:
        """The outcomes that earlier segments and the last group rule left; null for who is still
        in.
        """
        outcome = read_table(previous, f"{part.name}.parquet", ["outcome"])["outcome"]
        if self.judged is None:
            return outcome
        assert self.verdicts is not None, "a group rule gives verdicts"
        named = np.zeros(len(outcome), dtype=bool)
        named[read_group(self.verdicts, self.verdict_names, number, PLACE)["row"].to_numpy()] = True
        stopped = pa.array(~named if self.judged.keeps else named)
        return pc.coalesce(
            outcome, pc.if_else(stopped, self.judged.reason, pa.scalar(None, pa.string()))
        )

    def _judge(self, rule: RowRule | str, table: pa.Table) -> pa.ChunkedArray:
        if isinstance(rule, RowRule):
            return decide_row(rule, table)
        return _fetched(table["image_url"], table["fetch_outcome"])

    def _hand_over(
        self, part: Part, number: int, table: pa.Table, outcome: pa.ChunkedArray
    ) -> Output:
        """Outcomes so far; and the survivors, by the key of the group rule or by where their images
        lie.
        """
        files = [write_parquet(self.out, f"{part.name}.parquet", pa.table({"outcome": outcome}))]
        place = {
            "part": np.full(table.num_rows, number, dtype=np.int32),
            "row": np.arange(table.num_rows, dtype=np.int32),
        }
        for name, values in place.items():
            table = table.append_column(name, pa.array(values))
        survivors = table.filter(pc.is_null(outcome))
        if self.segment.group is not None:
            rows = group_rows(self.segment.group, survivors)
            files.append(
                write_groups(
                    self.out / "rows",
                    f"{part.name}.arrow",
                    rows,
                    bucket_of(rows["key"], self.buckets),
                )
            )
        elif any(not isinstance(ask, str) and ask.level == "image" for ask in self.segment.asks):
            rows = survivors.filter(pc.is_valid(survivors["image_part"]))
            files.append(
                write_groups(
                    self.out / "rows",
                    f"{part.name}.arrow",
                    rows.select(ASKED.names),
                    self._pictures(rows),
                )
            )
        return Output(files=tuple(files), counts={"rows": survivors.num_rows})

    def _pictures(self, table: pa.Table) -> np.ndarray:
        """[rows] the group of each image, by its collection and the bucket of hosts it is in."""
        places = pa.array(
            [f"{collection}/{bucket}" for collection, bucket in self.pictures], pa.string()
        )
        bucket = pc.replace_substring_regex(table["image_part"], r"-[^-]*$", "")
        return np.asarray(
            pc.index_in(
                pc.binary_join_element_wise(table["image_collection"], bucket, "/"),
                value_set=places,
            ).to_numpy()
        )

    def _conclude(
        self, part: Part, number: int, table: pa.Table, outcome: pa.ChunkedArray
    ) -> Output:
        name = self.known.sources[number].collection.name
        columns = {"collection": pa.array([name] * table.num_rows, pa.string()), "outcome": outcome}
        columns |= {
            "permission": self._permission(table),
            "fetch_outcome": _fetched(table["image_url"], table["fetch_outcome"]),
        }
        columns |= {key: table[key] for key in (*CARRIED, *LOCATION)}
        columns |= {
            key: table[key] for key in ("original_text", *CLUSTERED) if key in table.column_names
        }
        columns |= {
            key: table[key]
            for key in sorted(self._shown())
            if key in table.column_names and key not in columns
        }
        result = pa.table(columns)
        gone = pc.equal(outcome, FORGOTTEN).to_numpy()
        result = (
            erased(result, gone, keep=("collection", "outcome", "candidate_id"))
            if gone.any()
            else result
        )
        counts = Counter(outcome.to_pylist())
        measurements = [
            name for name in result.column_names if name in self._shown() & set(MEASUREMENTS)
        ]
        statistics = write_statistics(self.out, part.name, result, measurements, self.modulus)
        return Output(
            files=(write_parquet(self.out, f"{part.name}.parquet", result), *statistics),
            counts=counts,
        )


def _fetched(urls: pa.ChunkedArray, outcome: pa.ChunkedArray) -> pa.ChunkedArray:
    """What stopped an image on its way; null where it was fetched and decoded. Only an address that
    nobody tried can be at fault.
    """
    untried = pc.is_null(outcome)
    addresses = pa.array(
        [address_outcome(url) or NOT_ASKED for url in urls.filter(untried).to_pylist()], pa.string()
    )
    tried = pc.replace_with_mask(outcome.combine_chunks(), untried.combine_chunks(), addresses)
    return pa.chunked_array(
        [pc.if_else(pc.equal(tried, FETCHED), pa.scalar(None, pa.string()), tried)]
    )
