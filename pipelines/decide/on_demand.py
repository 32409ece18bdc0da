"""Costly measurements, computed only for the candidates that no earlier rule has stopped, and never
twice.

What was measured lies beside the collection as an increment of its own, named after who asked; the
next to ask finds it there.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from filters.base import Filter
from pipelines.decide.candidate_view import CandidateView
from pipelines.decide.group_rules import PLACE
from pipelines.engine.shuffle import read_group, write_groups
from pipelines.engine.stage import Output, Part, Stage
from pipelines.measure import (
    ROWS,
    TEXT_ROWS,
    Apart,
    counted,
    filter_digest,
    keyed,
    measurement_folder,
)
from pipelines.store import Folder, Written, digest
from pipelines.tables import read_table, write_parquet

# Where the images of survivors lie; grouped by the files that the images of one bucket of hosts are
# in.
ASKED = pa.schema(
    [*PLACE, ("image_id", pa.string()), ("image_part", pa.string()), ("image_row", pa.int64())]
)


@dataclass(frozen=True, kw_only=True)
class MeasureRequest:
    """One filter, asked by one segment of one decision."""

    filter: Filter
    rewriter: Filter | None
    among: tuple[Filter, ...]  # whose measurements it may read
    decision: str
    index: int  # of the segment

    @property
    def digest(self) -> str:
        return filter_digest(self.filter, self.rewriter, self.among)

    def base(self, collection: Folder) -> Folder:
        """Where all rows of a collection would be measured; the increments lie beside it."""
        return measurement_folder(collection, self.filter, self.rewriter, self.among)

    def increment(self, collection: Folder) -> Folder:
        """Where the answers to this question lie."""
        base = self.base(collection)
        return base.beside(f"{base.name}-{digest([self.decision, self.index])[:12]}")


@dataclass(frozen=True, kw_only=True)
class MeasureOnDemand(Stage):
    """What the stages that answer a question share."""

    question: MeasureRequest

    @property
    def doing(self) -> str:
        return f"measure {self.question.filter.name}"

    @property
    def filter(self) -> Filter:
        return self.question.filter

    def config(self) -> dict[str, Any]:
        return {
            "filter": self.filter.name,
            "digest": self.question.digest,
            "segment": self.question.index,
        }

    def inputs(self) -> dict[str, str]:
        return {"decision": self.question.decision}


@dataclass(frozen=True, kw_only=True)
class MeasureCandidatesOnDemand(MeasureOnDemand):
    """Measures the survivors among the candidates (or pairs) of one collection that no increment
    holds yet.
    """

    name: ClassVar[str] = "ask candidates"
    version: ClassVar[int] = 1
    known: CandidateView
    previous: Folder  # outcomes so far: null for a survivor
    collection: Folder
    earlier: tuple[Folder, ...]

    def parts(self) -> list[Part]:
        numbers = self.known.of(self.collection)
        return [
            Part(
                name=self.known.sources[number].name.removesuffix(".parquet"), inputs=(str(number),)
            )
            for number in numbers
        ]

    def process(self, part: Part) -> Output:
        number = int(part.inputs[0])
        table = self.known.table(number, {"candidate_id", *self.filter.reads})
        wanted = pc.is_null(
            read_table(self.previous, f"part-{number:05d}.parquet", ["outcome"])["outcome"]
        )
        there = _keys(self.earlier, f"{part.name}.parquet", "candidate_id")
        wanted = pc.and_(wanted, pc.invert(pc.is_in(table["candidate_id"], value_set=there)))
        chosen = table.select(list(dict.fromkeys(["candidate_id", *self.filter.reads]))).filter(
            wanted
        )
        result = _measured(self.filter, chosen, "candidate_id", TEXT_ROWS, Apart())
        return Output(
            files=(write_parquet(self.out, f"{part.name}.parquet", result),),
            counts={"rows": result.num_rows},
        )


@dataclass(frozen=True, kw_only=True)
class MeasureImagesOnDemand(MeasureOnDemand):
    """Measures the images of survivors that no increment holds yet, bucket by bucket of one
    collection's images.
    """

    name: ClassVar[str] = "ask images"
    version: ClassVar[int] = 1
    collection: Folder
    rows: Folder
    names: tuple[str, ...]
    groups: tuple[tuple[int, str], ...]  # the group of each bucket, and its name
    earlier: tuple[Folder, ...]

    def parts(self) -> list[Part]:
        return [Part(name=name, inputs=(str(group),)) for group, name in self.groups]

    def process(self, part: Part) -> Output:
        rows = read_group(self.rows, self.names, int(part.inputs[0]), ASKED)
        apart, names = Apart(), sorted(set(rows["image_part"].to_pylist()))
        files = [
            self._file(name, rows.filter(pc.equal(rows["image_part"], name)), apart)
            for name in names
        ]
        return Output(
            files=tuple(files), counts=counted(sum(file.rows or 0 for file in files), apart)
        )

    def _file(self, name: str, rows: pa.Table, apart: Apart) -> Written:
        part = name.replace(".arrow", ".parquet")
        wanted = rows.filter(
            pc.invert(pc.is_in(rows["image_id"], value_set=_keys(self.earlier, part, "image_id")))
        )
        places = np.unique(wanted["image_row"].to_numpy())
        schema = pa.schema([("image_id", pa.string()), *self.filter.writes.items()])
        return write_parquet(
            self.out,
            part,
            pa.concat_tables([schema.empty_table(), *self._pictures(name, places, apart)]),
        )

    def _pictures(self, name: str, places: np.ndarray, apart: Apart) -> Iterator[pa.Table]:
        """What is measured on some images of a file, a few hundred copied at a time; the file is
        not opened for none.
        """
        if len(places):
            images = read_table(
                self.collection / "images",
                name,
                list(dict.fromkeys(["image_id", *self.filter.reads])),
            )
            for start in range(0, len(places), ROWS):
                yield _measured(
                    self.filter,
                    images.take(pa.array(places[start : start + ROWS])),
                    "image_id",
                    ROWS,
                    apart,
                )


@dataclass(frozen=True, kw_only=True)
class JoinMeasurements(MeasureOnDemand):
    """Brings what was measured on images to the candidates that asked, part by part."""

    name: ClassVar[str] = "deliver"
    version: ClassVar[int] = 1
    rows: Folder
    names: tuple[str, ...]
    # group, name of its bucket, increments of its collection
    groups: tuple[tuple[int, str, tuple[Folder, ...]], ...]

    @property
    def doing(self) -> str:
        return f"join {self.question.filter.name}"

    @property
    def schema(self) -> pa.Schema:
        return pa.schema([*PLACE, *self.filter.writes.items()])

    def parts(self) -> list[Part]:
        return [
            Part(name=f"group-{group:05d}", inputs=(str(place),))
            for place, (group, _, _) in enumerate(self.groups)
        ]

    def process(self, part: Part) -> Output:
        group, _, increments = self.groups[int(part.inputs[0])]
        rows = read_group(self.rows, self.names, group, ASKED)
        schema = pa.schema([("image_id", pa.string()), *self.filter.writes.items()])
        files = sorted(
            {name.replace(".arrow", ".parquet") for name in rows["image_part"].to_pylist()}
        )
        found = [
            read_table(folder, name, schema.names)
            for name in files
            for folder in increments
            if folder.exists(name)
        ]
        measured = pa.concat_tables([schema.empty_table(), *found])
        values = measured.take(
            pc.index_in(rows["image_id"], value_set=measured["image_id"].combine_chunks())
        )
        table = pa.table(
            [rows["part"], rows["row"], *(values[name] for name in self.filter.writes)],
            schema=self.schema,
        )
        return Output(
            files=(write_groups(self.out, f"{part.name}.arrow", table, table["part"].to_numpy()),),
            counts={},
        )


@dataclass(frozen=True, kw_only=True)
class Survivors(Stage):
    """One measurement of the survivors of each part, as it is gathered for clusters."""

    name: ClassVar[str] = "survivors"
    version: ClassVar[int] = 1
    known: CandidateView
    previous: Folder
    measurement: str
    decision: str
    index: int

    @property
    def doing(self) -> str:
        return "candidates left"

    def config(self) -> dict[str, Any]:
        return {"measurement": self.measurement, "segment": self.index}

    def inputs(self) -> dict[str, str]:
        return {"decision": self.decision}

    def parts(self) -> list[Part]:
        return [
            Part(name=f"part-{number:05d}", inputs=(str(number),))
            for number in range(len(self.known.sources))
        ]

    def process(self, part: Part) -> Output:
        number = int(part.inputs[0])
        table = self.known.table(number, {self.measurement})
        wanted = pc.is_null(
            read_table(self.previous, f"{part.name}.parquet", ["outcome"])["outcome"]
        )
        rows = np.arange(table.num_rows, dtype=np.int32)
        columns = {
            "part": pa.array(np.full(table.num_rows, number, dtype=np.int32)),
            "row": pa.array(rows),
        }
        chosen = pa.table(
            {**columns, "image_id": table["image_id"], "value": table[self.measurement]}
        ).filter(wanted)
        return Output(
            files=(write_parquet(self.out, f"{part.name}.parquet", chosen),),
            counts={"rows": chosen.num_rows},
        )


def bucket_name(image_part: str) -> str:
    """The bucket of hosts whose images a file holds: its name up to the last dash."""
    return image_part.rsplit("-", 1)[0]


def _keys(folders: Sequence[Folder], name: str, key: str) -> pa.Array:
    """The keys of a part that some increments hold."""
    found = [read_table(folder, name, [key])[key] for folder in folders if folder.exists(name)]
    return pa.chunked_array(
        [chunk for column in found for chunk in column.chunks], pa.string()
    ).combine_chunks()


def _measured(filter_: Filter, table: pa.Table, key: str, rows: int, apart: Apart) -> pa.Table:
    schema = pa.schema([(key, pa.string()), *filter_.writes.items()])
    batches = table.combine_chunks().to_batches(max_chunksize=rows)
    return pa.Table.from_batches([keyed(filter_, batch, key, apart) for batch in batches], schema)
