"""Judge: a group rule over the buckets of its key, where all rows that share a key lie together.

A rule among all candidates (`top_fraction`, `sample`, `balance`) is told beforehand what it must
know of all of them: its weights.
"""

import dataclasses
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from filters.recipe.group_rules import Weights, decide_group, group_key, weigh
from filters.recipe.recipe import GroupRule
from pipelines.engine.shuffle import read_group, write_groups
from pipelines.engine.stage import Manifest, Output, Part, Stage
from pipelines.store import Folder

# where a candidate stands in the decision
PLACE = pa.schema([("part", pa.int32()), ("row", pa.int32())])
WEIGHTS = "weights.json"


def group_rows(rule: GroupRule, table: pa.Table) -> pa.Table:
    """What a group rule needs of its rows: the key, what orders them, image and text to settle
    ties, and their places.
    """
    columns = {name: table[name] for name in (*PLACE.names, "image_id", "text")}
    columns["key"] = group_key(rule, table)
    for name in rule.order_columns:
        columns[name] = table[name]
    return pa.table(columns)


@dataclass(frozen=True, kw_only=True)
class ApplyGroupRule(Stage):
    """A group rule over the buckets of its key: who is stopped (or who stays, as the rule says), by
    part.
    """

    name: ClassVar[str] = "judge"
    version: ClassVar[int] = 3
    rule: GroupRule
    decision: str
    index: int  # of the segment that ends with the rule
    buckets: int
    rows: Folder
    names: tuple[str, ...]
    schema: pa.Schema
    weights: Folder | None = None

    @property
    def doing(self) -> str:
        return f"rule {self.rule.reason}"

    def config(self) -> dict[str, Any]:
        return {
            "rule": self.rule.model_dump(mode="json", exclude={"source"}),
            "segment": self.index,
            "buckets": self.buckets,
        }

    def inputs(self) -> dict[str, str]:
        return {"decision": self.decision}

    def parts(self) -> list[Part]:
        return [
            Part(name=f"bucket-{bucket:05d}", inputs=(str(bucket),))
            for bucket in range(self.buckets)
        ]

    def process(self, part: Part) -> Output:
        rows = read_group(self.rows, self.names, int(part.inputs[0]), self.schema)
        mask = decide_group(self.rule, rows, self.known_weights())
        named = (
            rows.filter(pc.invert(mask) if self.rule.keeps else mask)
            .select(PLACE.names)
            .cast(PLACE)
        )
        written = write_groups(self.out, f"{part.name}.arrow", named, named["part"].to_numpy())
        return Output(files=(written,), counts={"stopped": pc.sum(mask).as_py() or 0})

    def tables(self) -> Iterator[pa.Table]:
        """The rows of each bucket."""
        for bucket in range(self.buckets):
            yield read_group(self.rows, self.names, bucket, self.schema)

    def known_weights(self) -> Weights:
        """What a stage before has found, else what all rows say."""
        if self.weights is None:
            return weigh(self.rule, self.tables)
        found = self.weights.read_json(WEIGHTS)
        return Weights(
            threshold=found["threshold"], counts=np.array(found["counts"], dtype=np.int64)
        )


@dataclass(frozen=True, kw_only=True)
class GroupTotals(Stage):
    """What a rule among all candidates must know of all of them: one part, which reads bucket after
    bucket.
    """

    name: ClassVar[str] = "weigh"
    version: ClassVar[int] = 1
    judge: ApplyGroupRule

    @property
    def doing(self) -> str:
        return f"totals for {self.judge.rule.reason}"

    def config(self) -> dict[str, Any]:
        return self.judge.config()

    def inputs(self) -> dict[str, str]:
        return self.judge.inputs()

    def parts(self) -> list[Part]:
        return [Part(name="all")]

    def process(self, part: Part) -> Output:
        weights = weigh(self.judge.rule, self.judge.tables)
        written = self.out.write_json(
            WEIGHTS, {"threshold": weights.threshold, "counts": weights.counts.tolist()}
        )
        return Output(files=(written,), counts={})


def judge(stage: ApplyGroupRule, run: Callable[[Stage], Manifest]) -> Manifest:
    """Run a judge, with what it must know of all rows found first; `run` raises where parts
    failed.
    """
    if stage.rule.group in ("top_fraction", "balance"):
        weights = GroupTotals(out=stage.out / "weights", judge=stage)
        run(weights)
        stage = dataclasses.replace(stage, weights=weights.out)
    return run(stage)
