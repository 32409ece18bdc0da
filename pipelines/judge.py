"""Judge: a group rule over the buckets of its key, where all rows that share a key lie together."""

from dataclasses import dataclass
from typing import Any, ClassVar

import pyarrow as pa

from filters.recipe import GroupRule, decide_group, group_key
from pipelines.exchange import read_group, write_groups
from pipelines.stage import Output, Part, Stage
from pipelines.store import Folder

PLACE = pa.schema([("part", pa.int32()), ("row", pa.int32())])  # where a candidate stands in the decision


def group_rows(rule: GroupRule, table: pa.Table) -> pa.Table:
    """What a group rule needs of its rows: the key, what orders them, image and text to settle ties, and their places."""
    columns = {name: table[name] for name in ("row", "image_id", "text")}
    columns["key"] = group_key(rule, table)
    for name in rule.order_columns:
        columns[name] = table[name]
    return pa.table(columns)


@dataclass(frozen=True, kw_only=True)
class Judge(Stage):
    """A group rule over the buckets of its key: who is stopped, by part."""

    name: ClassVar[str] = "judge"
    version: ClassVar[int] = 1
    rule: GroupRule
    decision: str
    index: int  # of the segment that ends with the rule
    buckets: int
    rows: Folder
    names: tuple[str, ...]
    schema: pa.Schema

    def config(self) -> dict[str, Any]:
        return {"rule": self.rule.model_dump(mode="json", exclude={"source"}), "segment": self.index, "buckets": self.buckets}

    def inputs(self) -> dict[str, str]:
        return {"decision": self.decision}

    def parts(self) -> list[Part]:
        return [Part(name=f"bucket-{bucket:05d}", inputs=(str(bucket),)) for bucket in range(self.buckets)]

    def process(self, part: Part) -> Output:
        rows = read_group(self.rows, self.names, int(part.inputs[0]), self.schema)
        stopped = rows.filter(decide_group(self.rule, rows)).select(PLACE.names).cast(PLACE)
        written = write_groups(self.out, f"{part.name}.parquet", stopped, stopped["part"].to_numpy())
        return Output(files=(written,), counts={"stopped": stopped.num_rows})
