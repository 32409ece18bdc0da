"""What is clustered: rows become nodes (distinct hashes, distinct images), and nodes become rows
again once they have a cluster.

A node's number is its bucket, shifted, and its rank in the bucket, so that the number says where
the node lies.
"""

from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from filters.image.hashes import flat, numbers
from pipelines.dedup.compare import KEYS, VECTORS, cells
from pipelines.engine.shuffle import read_group, stable_hash, write_groups
from pipelines.engine.stage import Output, Part, Stage
from pipelines.store import Folder
from pipelines.tables import read_table, write_parquet

Kind = Literal["hash", "embedding"]
RANK = 32  # bits of a node's number that are its rank
KEY = {"hash": pa.uint64(), "embedding": pa.string()}
CLUSTERS = pa.schema([("part", pa.int32()), ("row", pa.int32()), ("cluster", pa.string())])
HASHES = pa.schema([("hash", pa.uint64()), ("node", pa.int64()), ("key", pa.int8())])
VECTORS_OF_CELLS = pa.schema([("cell", pa.int32()), ("node", pa.int64()), ("vector", pa.binary())])


@dataclass(frozen=True, kw_only=True)
class ClusterPlan:
    """One clustering: its rows, and how they are cut."""

    kind: Kind
    identity: str  # of the rows
    similarity: float  # least cosine of near vectors
    rows: Folder
    files: tuple[tuple[str, ...], ...]  # read together
    total: int  # rows
    work: Folder
    buckets: int  # of nodes
    meetings: int  # buckets in which keys or cells meet
    cells: int

    @property
    def settings(self) -> dict[str, Any]:
        near = (
            {"similarity": self.similarity, "cells": self.cells} if self.kind == "embedding" else {}
        )
        return {
            "kind": self.kind,
            "files": len(self.files),
            "buckets": self.buckets,
            "meetings": self.meetings,
            **near,
        }

    @property
    def gathered(self) -> tuple[str, ...]:
        """Names of what each group of files became."""
        return tuple(f"rows-{number:05d}.arrow" for number in range(len(self.files)))

    @property
    def bucketed(self) -> tuple[str, ...]:
        """Names of what each bucket of nodes became."""
        return tuple(f"bucket-{number:05d}.arrow" for number in range(self.buckets))

    @cached_property
    def spread(self) -> pa.Schema:
        """What is known of a node in one group of files."""
        return pa.schema(
            [
                ("key", KEY[self.kind]),
                ("image_id", pa.string()),
                ("file", pa.int32()),
                ("vector", pa.binary()),
            ]
        )


@dataclass(frozen=True, kw_only=True)
class Step(Stage):
    """A stage of a clustering; its parts are the buckets of nodes unless it says otherwise."""

    plan: ClusterPlan

    def config(self) -> dict[str, Any]:
        return self.plan.settings

    def inputs(self) -> dict[str, str]:
        return {"rows": self.plan.identity}

    def parts(self) -> list[Part]:
        return [
            Part(name=f"bucket-{number:05d}", inputs=(str(number),))
            for number in range(self.plan.buckets)
        ]


@dataclass(frozen=True, kw_only=True)
class SpreadKeys(Step):
    """Some files of rows: each hash or image once, to the bucket of its node; and the pivots, in a
    group behind the last bucket.
    """

    name: ClassVar[str] = "nodes"  # "spread" is a step of the engine
    version: ClassVar[int] = 1

    @property
    def doing(self) -> str:
        return "duplicates: blocking keys"

    def parts(self) -> list[Part]:
        return [
            Part(name=f"rows-{number:05d}", inputs=(str(number),))
            for number in range(len(self.plan.files))
        ]

    def process(self, part: Part) -> Output:
        number = int(part.inputs[0])
        table = distinct(self.plan, read_rows(self.plan, number, ["image_id", "value"]))
        table = table.append_column(
            "file", pa.array(np.full(table.num_rows, number, dtype=np.int32))
        ).select(self.plan.spread.names)
        hashes = (
            mixed(table["key"].to_numpy()) if self.plan.kind == "hash" else _hashes(table["key"])
        )
        group = (hashes % np.uint64(self.plan.buckets)).astype(np.int64)
        if self.plan.cells > 1:
            chosen = np.flatnonzero(mixed(hashes) * 2.0**-64 < self.plan.cells / self.plan.total)
            table = pa.concat_tables([table, table.take(pa.array(chosen))])
            group = np.r_[group, np.full(len(chosen), self.plan.buckets)]
        return Output(
            files=(write_groups(self.out, f"{part.name}.arrow", table, group),),
            counts={"nodes": len(hashes)},
        )


@dataclass(frozen=True, kw_only=True)
class GroupByBlockingKey(Step):
    """A bucket of nodes: their names, and each node to all keys or cells under which it may meet
    those near it.
    """

    name: ClassVar[str] = "meet"
    version: ClassVar[int] = 1

    @property
    def doing(self) -> str:
        return "duplicates: compare"

    def process(self, part: Part) -> Output:
        bucket = int(part.inputs[0])
        table = nodes_of(self.plan, bucket, vectors=True)
        names = write_parquet(
            self.out / "names", f"{part.name}.parquet", table.select(["key", "image_id"])
        )
        nodes = np.arange(table.num_rows, dtype=np.int64) + (bucket << RANK)
        rows, group = (
            self._keys(table, nodes) if self.plan.kind == "hash" else self._cells(table, nodes)
        )
        written = write_groups(self.out, f"{part.name}.arrow", rows, group)
        return Output(
            files=(written, names), counts={"nodes": table.num_rows, "met": rows.num_rows}
        )

    def _keys(
        self, table: pa.Table, nodes: NDArray[np.int64]
    ) -> tuple[pa.Table, NDArray[np.int64]]:
        hashes = table["key"].to_numpy()
        which = np.repeat(np.arange(len(KEYS), dtype=np.int8), len(hashes))
        columns = [
            pa.array(np.tile(hashes, len(KEYS))),
            pa.array(np.tile(nodes, len(KEYS))),
            pa.array(which),
        ]
        keys = np.concatenate(
            [
                mixed((hashes & np.uint64(key)) ^ np.uint64(number))
                for number, key in enumerate(KEYS)
            ]
        )
        return pa.table(columns, schema=HASHES), (keys % np.uint64(self.plan.meetings)).astype(
            np.int64
        )

    def _cells(
        self, table: pa.Table, nodes: NDArray[np.int64]
    ) -> tuple[pa.Table, NDArray[np.int64]]:
        drawn = read_group(
            self.plan.work / "spread", self.plan.gathered, self.plan.buckets, self.plan.spread
        )
        pivots = vectors_of(first_of(drawn)["vector"])
        if len(pivots) == 0 or table.num_rows == 0:
            cell = np.zeros((table.num_rows, 1), dtype=np.int64)
        else:
            cell = cells(vectors_of(table["vector"]), pivots)
        copies = pa.array(np.repeat(np.arange(len(nodes)), cell.shape[1]))
        columns = [
            pa.array(cell.ravel().astype(np.int32)),
            pa.array(nodes).take(copies),
            table["vector"].take(copies),
        ]
        return pa.table(columns, schema=VECTORS_OF_CELLS), cell.ravel() % self.plan.meetings


@dataclass(frozen=True, kw_only=True)
class DeliverClusters(Step):
    """Some files of rows with the clusters of their nodes, by part."""

    name: ClassVar[str] = "clusters"
    version: ClassVar[int] = 1

    @property
    def doing(self) -> str:
        return "duplicates: clusters"

    def parts(self) -> list[Part]:
        return [
            Part(name=f"rows-{number:05d}", inputs=(str(number),))
            for number in range(len(self.plan.files))
        ]

    def process(self, part: Part) -> Output:
        number = int(part.inputs[0])
        table = read_rows(self.plan, number, ["part", "row", "image_id", "value"])
        schema = pa.schema([("key", KEY[self.plan.kind]), ("cluster", pa.string())])
        found = read_group(self.plan.work / "labelled", self.plan.bucketed, number, schema)
        key = pa.array(hashes_of(table["value"])) if self.plan.kind == "hash" else table["image_id"]
        place = pc.index_in(key, value_set=found["key"].combine_chunks())
        cluster = pc.coalesce(found["cluster"].take(place), table["image_id"])
        result = pa.table([table["part"], table["row"], cluster], names=CLUSTERS.names).cast(
            CLUSTERS
        )
        written = write_groups(self.out, f"{part.name}.arrow", result, result["part"].to_numpy())
        return Output(files=(written,), counts={"rows": result.num_rows})


def read_rows(plan: ClusterPlan, number: int, columns: list[str]) -> pa.Table:
    """The rows of a group of files that have a value."""
    table = pa.concat_tables([read_table(plan.rows, name, columns) for name in plan.files[number]])
    return table.filter(pc.is_valid(table["value"]))


def distinct(plan: ClusterPlan, table: pa.Table) -> pa.Table:
    """Each hash with the least image that has it, flat ones left out; or each image with its
    vector.
    """
    if plan.kind == "embedding":
        table = first_of(table.append_column("key", table["image_id"]))
        return table.append_column("vector", binary_of(table["value"]))
    hashes = hashes_of(table["value"])
    table = _least(
        pa.table({"key": pa.array(hashes), "image_id": table["image_id"]}).filter(
            pa.array(~flat(hashes))
        )
    )
    return table.append_column("vector", pa.nulls(table.num_rows, pa.binary()))


def nodes_of(plan: ClusterPlan, bucket: int, *, vectors: bool) -> pa.Table:
    """The nodes of a bucket by key: rank after rank."""
    names = [name for name in plan.spread.names if name != "file" and (vectors or name != "vector")]
    schema = pa.schema([plan.spread.field(name) for name in names])
    table = read_group(plan.work / "spread", plan.gathered, bucket, schema)
    return _least(table) if plan.kind == "hash" else first_of(table)


def _least(table: pa.Table) -> pa.Table:
    found = table.group_by("key", use_threads=False).aggregate([("image_id", "min")]).sort_by("key")
    return found.rename_columns(["key", "image_id"])


def first_of(table: pa.Table) -> pa.Table:
    """The first row of each key, by key."""
    numbered = pa.table({"key": table["key"], "place": np.arange(table.num_rows)})
    found = numbered.group_by("key", use_threads=False).aggregate([("place", "min")]).sort_by("key")
    return table.take(found["place_min"])


def hashes_of(values: pa.ChunkedArray) -> NDArray[np.uint64]:
    """Hashes of 16 hexadecimal digits as 64-bit numbers."""
    return np.concatenate([np.zeros(0, dtype=np.uint64), *map(numbers, values.chunks)])


def binary_of(lists: pa.ChunkedArray) -> pa.ChunkedArray:
    """Lists of numbers as the bytes of float16, which no list of lists slows down; ValueError where
    lengths differ.
    """
    if not len(lists):
        return pa.chunked_array([], pa.binary())
    flattened = np.concatenate(
        [
            np.asarray(chunk.flatten().to_numpy(zero_copy_only=False), dtype=np.float16)
            for chunk in lists.chunks
        ]
    )
    if pc.min_max(pc.list_value_length(lists))["min"].as_py() * len(lists) != len(flattened):
        raise ValueError(
            "embeddings of different lengths cannot be compared: measure all with one model"
        )
    size = 2 * len(flattened) // len(lists)
    packed = pa.FixedSizeBinaryArray.from_buffers(
        pa.binary(size), len(lists), [None, pa.py_buffer(flattened.tobytes())]
    )
    return pa.chunked_array([packed.cast(pa.binary())])


def vectors_of(packed: pa.ChunkedArray) -> VECTORS:
    """[rows, d] what `binary_of` packed."""
    if not len(packed):
        return np.zeros((0, 1), dtype=np.float32)
    joined = b"".join(packed.to_pylist())
    return np.frombuffer(joined, dtype=np.float16).reshape(len(packed), -1).astype(np.float32)


def mixed(values: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """The finaliser of splitmix64: numbers that are alike end up far apart."""
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return np.asarray(values ^ (values >> np.uint64(31)))


def _hashes(keys: pa.ChunkedArray) -> NDArray[np.uint64]:
    return np.fromiter(
        (stable_hash(key) for key in keys.to_pylist()), dtype=np.uint64, count=len(keys)
    )
