"""Measure: a filter over the parts of a collection, stored beside it and never computed twice."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import pyarrow as pa

from filters import MEASUREMENTS
from filters.base import Filter
from pipelines.stage import Manifest, Output, Part, Stage
from pipelines.store import Folder, digest, read_table, write_parquet

ROWS = 256  # of images decoded at a time
TEXT_ROWS = 16_384

SUBJECT = {"candidate": "candidates", "image": "images"}
KEY = {"candidate": "candidate_id", "image": "image_id"}


def measurement_folder(collection: Folder, filter_: Filter) -> Folder:
    """Where a filter's measurements of a collection lie; another version or configuration has another place."""
    return collection / "measurements" / f"{filter_.name}-{filter_digest(filter_)[:12]}"


def filter_digest(filter_: Filter) -> str:
    """What a filter's results depend on beside its rows: its name, version, configuration and model."""
    return digest({"name": filter_.name, "version": filter_.version, "config": filter_.config})


@dataclass(frozen=True, kw_only=True)
class Measure(Stage):
    """Applies one filter to each part of candidates or images: the same part, keyed by id, with the columns that it writes."""

    name: ClassVar[str] = "measure"
    version: ClassVar[int] = 1
    collection: Folder
    filter: Filter

    @classmethod
    def of(cls, collection: Folder, filter_: Filter) -> "Measure":
        return cls(out=measurement_folder(collection, filter_), collection=collection, filter=filter_)

    @property
    def source(self) -> Folder:
        return self.collection / SUBJECT[self.filter.level]

    def config(self) -> dict[str, Any]:
        return {"filter": self.filter.name, "digest": filter_digest(self.filter)}

    def inputs(self) -> dict[str, str]:
        return {self.source.name: subject_manifest(self.collection, self.filter.level).digest}

    def parts(self) -> list[Part]:
        suffix = ".arrow" if self.filter.level == "image" else ".parquet"
        names = subject_manifest(self.collection, self.filter.level).names(suffix, "part-")
        return [Part(name=name.rsplit(".", 1)[0], inputs=(name,)) for name in names]

    def process(self, part: Part) -> Output:
        key = KEY[self.filter.level]
        table = read_table(self.source, part.inputs[0], [key, *(column for column in self.filter.reads if column != key)])
        rows = ROWS if self.filter.level == "image" else TEXT_ROWS
        schema = pa.schema([(key, pa.string()), *self.filter.writes.items()])
        measured = [self._measure(batch, key, schema) for batch in table.to_batches(max_chunksize=rows)]
        result = pa.Table.from_batches(measured, schema)
        assert result.num_rows == table.num_rows, f"{self.filter.name} returned {result.num_rows} rows for {table.num_rows}"
        return Output(files=(write_parquet(self.out, f"{part.name}.parquet", result),), counts={"rows": result.num_rows})

    def _measure(self, batch: pa.RecordBatch, key: str, schema: pa.Schema) -> pa.RecordBatch:
        measured = self.filter.measure(batch)
        columns = [batch.column(key), *(measured.column(name) for name in self.filter.writes)]
        return pa.RecordBatch.from_arrays(columns, schema=schema)


def subject_manifest(collection: Folder, level: str) -> Manifest:
    """The manifest of what a filter of this level measures: the candidates' own, or that of the fetches that brought the images."""
    folder = collection / ("candidates" if level == "candidate" else "fetches")
    manifest = Manifest.read(folder)
    if manifest is None:
        raise ValueError(f"{collection.path()} is not complete; run `winnow collect --id {collection.name}` again with the same options")
    return manifest


def beside_candidates(collection: Folder, name: str, folders: Sequence[Folder], reads: Collection[str]) -> pa.Table:
    """The candidates of a part, with those of their measurements in `folders` that are read; one whose part was set aside is absent."""
    table = read_table(collection / "candidates", name)
    for folder in folders:
        if folder.exists(name):
            measured = read_table(folder, name)
            assert measured["candidate_id"].equals(table["candidate_id"]), f"{folder.path(name)} is of other candidates"
            for column in measured.column_names:
                if column != KEY["candidate"] and column in reads:
                    table = table.append_column(column, measured[column])
    return table


def with_nulls(table: pa.Table, reads: Collection[str]) -> pa.Table:
    """A table with every measurement that is read; null where the part that would have measured it was set aside."""
    for name in sorted(set(reads) - set(table.column_names)):
        table = table.append_column(name, pa.nulls(table.num_rows, MEASUREMENTS[name]))
    return table
