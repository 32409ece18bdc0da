"""Links between nodes: found where nodes meet, drawn together until each leads to the least node of
its cluster, and given names.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from pipelines.dedup.blocking_keys import HASHES, KEY, RANK, VECTORS_OF_CELLS, Step, vectors_of
from pipelines.dedup.compare import KEYS, Forest, near_hashes, near_vectors
from pipelines.engine.shuffle import read_group, write_groups
from pipelines.engine.stage import Output, Part
from pipelines.store import Folder, Written
from pipelines.tables import read_table

LINKS = pa.schema([("one", pa.int64()), ("other", pa.int64())])
NAMED = pa.schema([("root", pa.int64()), ("node", pa.int64()), ("image_id", pa.string())])
Numbers = NDArray[np.int64]


@dataclass(frozen=True, kw_only=True)
class CompareNearDuplicates(Step):
    """Where keys or cells meet: links between near nodes, no more than there are nodes."""

    name: ClassVar[str] = "match"
    version: ClassVar[int] = 1

    @property
    def doing(self) -> str:
        return "duplicates: pairs"

    def parts(self) -> list[Part]:
        return [
            Part(name=f"meeting-{number:05d}", inputs=(str(number),))
            for number in range(self.plan.meetings)
        ]

    def process(self, part: Part) -> Output:
        schema = HASHES if self.plan.kind == "hash" else VECTORS_OF_CELLS
        met = read_group(self.plan.work / "met", self.plan.bucketed, int(part.inputs[0]), schema)
        forest = Forest()
        for pairs in self._by_key(met) if self.plan.kind == "hash" else self._by_cell(met):
            forest.gather(pairs)
        written = write_links(self.out, f"{part.name}.arrow", forest)
        return Output(files=(written,), counts={"links": written.rows or 0})

    def _by_key(self, met: pa.Table) -> Iterator[Iterator[tuple[Numbers, Numbers]]]:
        which, hashes, numbers = (met[name].to_numpy() for name in ("key", "hash", "node"))
        for number, key in enumerate(KEYS):
            here = np.flatnonzero(which == number)
            yield _numbered(near_hashes(hashes[here], key), numbers[here])

    def _by_cell(self, met: pa.Table) -> Iterator[Iterator[tuple[Numbers, Numbers]]]:
        cell, numbers = met["cell"].to_numpy(), met["node"].to_numpy()
        for number in np.unique(cell):
            here = np.flatnonzero(cell == number)
            vectors = vectors_of(met["vector"].take(pa.array(here)))
            yield _numbered(near_vectors(vectors, self.plan.similarity), numbers[here])


@dataclass(frozen=True, kw_only=True)
class ConnectComponents(Step):
    """A bucket of nodes with all links of theirs: each node that hangs together through them is
    linked to the least instead.

    Done again with what came of it until every node either leads to one lesser node alone or is led
    to by greater ones: then the links are stars, and the centre of each is the least of its
    cluster.
    """

    name: ClassVar[str] = "contract"
    version: ClassVar[int] = 1
    links: Folder
    names: tuple[str, ...]

    @property
    def doing(self) -> str:
        return "duplicates: connect"

    def process(self, part: Part) -> Output:
        bucket = int(part.inputs[0])
        one, other = read_links(self.links, self.names, bucket)
        forest = Forest()
        forest.add(one, other)
        written = write_links(self.out, f"{part.name}.arrow", forest)
        return Output(
            files=(written,),
            counts={"links": written.rows or 0, "unsettled": _unsettled(one, other, bucket)},
        )


@dataclass(frozen=True, kw_only=True)
class NameClusters(Step):
    """A bucket of nodes: the names of those that have a root, to the bucket of the root."""

    name: ClassVar[str] = "name"
    version: ClassVar[int] = 1
    links: Folder

    @property
    def doing(self) -> str:
        return "duplicates: name clusters"

    def process(self, part: Part) -> Output:
        bucket = int(part.inputs[0])
        leaves, roots = read_links(self.links, self.plan.bucketed, bucket)
        own = leaves >> RANK == bucket
        centres = np.unique(roots[roots >> RANK == bucket])
        node, root = np.r_[leaves[own], centres], np.r_[roots[own], centres]
        names = read_table(self.plan.work / "met" / "names", f"{part.name}.parquet", ["image_id"])[
            "image_id"
        ]
        ranks = pa.array(node - (bucket << RANK))
        table = pa.table([pa.array(root), pa.array(node), names.take(ranks)], schema=NAMED)
        return Output(
            files=(write_groups(self.out, f"{part.name}.arrow", table, root >> RANK),), counts={}
        )


@dataclass(frozen=True, kw_only=True)
class KeepBest(Step):
    """A bucket of roots: the least name of each, to the buckets of all nodes that lead to it."""

    name: ClassVar[str] = "elect"
    version: ClassVar[int] = 1

    @property
    def doing(self) -> str:
        return "duplicates: keep the best"

    def process(self, part: Part) -> Output:
        table = read_group(self.plan.work / "named", self.plan.bucketed, int(part.inputs[0]), NAMED)
        least = table.group_by("root", use_threads=False).aggregate([("image_id", "min")])
        place = pc.index_in(table["root"], value_set=least["root"].combine_chunks())
        elected = table.set_column(2, NAMED.field(2), least["image_id_min"].take(place))
        return Output(
            files=(
                write_groups(
                    self.out, f"{part.name}.arrow", elected, elected["node"].to_numpy() >> RANK
                ),
            ),
            counts={},
        )


@dataclass(frozen=True, kw_only=True)
class LabelRows(Step):
    """A bucket of nodes: the cluster of each key, to each group of files that has it."""

    name: ClassVar[str] = "label"
    version: ClassVar[int] = 1

    @property
    def doing(self) -> str:
        return "duplicates: label rows"

    def process(self, part: Part) -> Output:
        bucket = int(part.inputs[0])
        nodes = read_table(self.plan.work / "met" / "names", f"{part.name}.parquet")
        elected = read_group(self.plan.work / "elected", self.plan.bucketed, bucket, NAMED)
        place = np.full(nodes.num_rows, -1, dtype=np.int64)
        place[elected["node"].to_numpy() - (bucket << RANK)] = np.arange(elected.num_rows)
        cluster = pc.coalesce(
            elected["image_id"].take(pa.array(place, mask=place < 0)), nodes["image_id"]
        )
        schema = pa.schema([("key", KEY[self.plan.kind]), ("file", pa.int32())])
        asked = read_group(self.plan.work / "spread", self.plan.gathered, bucket, schema)
        labels = cluster.take(pc.index_in(asked["key"], value_set=nodes["key"].combine_chunks()))
        table = pa.table({"key": asked["key"], "cluster": labels})
        counts: dict[str, Any] = {"joined": elected.num_rows}
        return Output(
            files=(write_groups(self.out, f"{part.name}.arrow", table, asked["file"].to_numpy()),),
            counts=counts,
        )


def write_links(folder: Folder, name: str, forest: Forest) -> Written:
    """The links of a forest, each in the buckets of both its nodes."""
    one, other = forest.links
    apart = one >> RANK != other >> RANK
    table = pa.table(
        [pa.array(np.r_[one, one[apart]]), pa.array(np.r_[other, other[apart]])], schema=LINKS
    )
    return write_groups(folder, name, table, np.r_[one >> RANK, other[apart] >> RANK])


def read_links(folder: Folder, names: tuple[str, ...], bucket: int) -> tuple[Numbers, Numbers]:
    """Each link of the nodes of a bucket once."""
    table = (
        read_group(folder, names, bucket, LINKS)
        .group_by(LINKS.names, use_threads=False)
        .aggregate([])
    )
    return table["one"].to_numpy(), table["other"].to_numpy()


def _unsettled(one: Numbers, other: Numbers, bucket: int) -> int:
    """How many nodes of a bucket lead to more than one node, or both lead and are led to."""
    leads, times = np.unique(one[one >> RANK == bucket], return_counts=True)
    led = other[other >> RANK == bucket]
    return int(((times > 1) | np.isin(leads, led)).sum())


def _numbered(
    pairs: Iterator[tuple[Numbers, Numbers]], numbers: Numbers
) -> Iterator[tuple[Numbers, Numbers]]:
    return ((numbers[one], numbers[other]) for one, other in pairs)
