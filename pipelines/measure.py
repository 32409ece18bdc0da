"""Measure: a filter over the parts of a collection, stored beside it and never computed twice."""

import logging
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import pyarrow as pa

from filters.base import Filter, PixelFilter, Seen
from filters.registry import MEASUREMENTS
from pipelines.engine.children import Died, children
from pipelines.engine.stage import MANIFEST, Manifest, Output, Part, Stage
from pipelines.store import Folder, digest
from pipelines.tables import read_table, write_parquet

ROWS = 256  # of images decoded at a time
LOOKED_AT = 4  # images that go to a child at once: their pixels may come back, some megabytes each
CRASHED = "crashed"  # the count of images that killed the process in which they were looked at
TEXT_ROWS = 16_384

log = logging.getLogger("winnow.stage")

SUBJECT = {"candidate": "candidates", "image": "images"}
KEY = {"candidate": "candidate_id", "image": "image_id"}


class Apart:
    """How images are looked at: in child processes; an image that kills its own is not measured,
    said and counted.
    """

    def __init__(self) -> None:
        self.crashed = 0

    def __call__(
        self, function: Callable[[bytes | None], Seen | None], images: Iterable[bytes | None]
    ) -> Iterator[Seen | None]:
        for seen in children().map(function, images, LOOKED_AT):
            if isinstance(seen, Died):
                self.crashed += 1
                log.warning("an image is not measured, as it stopped its decoder: %s", seen.how)
                yield None
            else:
                yield seen


def counted(rows: int, apart: Apart) -> dict[str, int]:
    """Rows, and those not measured because their image crashed its decoder, if there are any."""
    return {"rows": rows} | ({CRASHED: apart.crashed} if apart.crashed else {})


def measurement_folder(
    collection: Folder,
    filter_: Filter,
    rewriter: Filter | None = None,
    among: Sequence[Filter] = (),
) -> Folder:
    """Where a filter's measurements of a collection lie; another version, configuration or
    rewritten text has another place.
    """
    return (
        collection
        / "measurements"
        / f"{filter_.name}-{filter_digest(filter_, rewriter, among)[:12]}"
    )


def filter_digest(
    filter_: Filter, rewriter: Filter | None = None, among: Sequence[Filter] = ()
) -> str:
    """What a filter's results depend on beside its rows: its name, version, configuration and
    model, who rewrote the text, and those `among` others whose measurements it reads.
    """
    value: dict[str, Any] = {
        "name": filter_.name,
        "version": filter_.version,
        "config": filter_.config,
    }
    if (of := rewriter_of(filter_, rewriter)) is not None:
        value["text"] = filter_digest(of)
    if read := [one for one in among if not set(filter_.reads).isdisjoint(one.writes)]:
        value["reads"] = {one.name: filter_digest(one, rewriter, among) for one in read}
    return digest(value)


def rewriter_of(filter_: Filter, rewriter: Filter | None) -> Filter | None:
    """The rewriter whose text a filter reads in place of the original; None where it reads no text,
    or is the rewriter itself.
    """
    return (
        rewriter
        if rewriter is not None and "text" in filter_.reads and filter_.name != rewriter.name
        else None
    )


def rewritten(rewriter: Filter) -> str:
    """The measurement of a rewriter that is the text: the first that it writes."""
    return next(iter(rewriter.writes))


def increments(base: Folder) -> tuple[Folder, ...]:
    """What was measured so far by one filter: all rows in `base` itself, or those asked for in
    `<base>-<who asked>`, if complete.
    """
    names = [
        name
        for name in base.beside("").names()
        if name == base.name or name.startswith(f"{base.name}-")
    ]
    return tuple(folder for name in names if (folder := base.beside(name)).exists(MANIFEST))


@dataclass(frozen=True, kw_only=True)
class Measure(Stage):
    """Applies one filter to each part of candidates or images: the same part, keyed by id, with the
    columns that it writes.
    """

    name: ClassVar[str] = "measure"
    version: ClassVar[int] = 1
    collection: Folder
    filter: Filter
    rewriter: Filter | None = None  # its measurements stand already

    @property
    def doing(self) -> str:
        return f"measure {self.filter.name}"

    @classmethod
    def of(cls, collection: Folder, filter_: Filter, rewriter: Filter | None = None) -> "Measure":
        """Of one filter; it reads what a rewriter made of the text where one is given and the
        filter reads texts.
        """
        out = measurement_folder(collection, filter_, rewriter)
        return cls(
            out=out, collection=collection, filter=filter_, rewriter=rewriter_of(filter_, rewriter)
        )

    @property
    def source(self) -> Folder:
        return self.collection / SUBJECT[self.filter.level]

    def config(self) -> dict[str, Any]:
        return {"filter": self.filter.name, "digest": filter_digest(self.filter, self.rewriter)}

    def inputs(self) -> dict[str, str]:
        return {self.source.name: subject_manifest(self.collection, self.filter.level).digest}

    def parts(self) -> list[Part]:
        suffix = ".arrow" if self.filter.level == "image" else ".parquet"
        names = subject_manifest(self.collection, self.filter.level).names(suffix, "part-")
        return [Part(name=name.rsplit(".", 1)[0], inputs=(name,)) for name in names]

    def process(self, part: Part) -> Output:
        key = KEY[self.filter.level]
        table = read_table(
            self.source,
            part.inputs[0],
            [key, *(column for column in self.filter.reads if column != key)],
        )
        if self.rewriter is not None:
            column = rewritten(self.rewriter)
            texts = read_table(
                measurement_folder(self.collection, self.rewriter), part.inputs[0], [column]
            )[column]
            table = table.set_column(table.schema.get_field_index("text"), "text", texts)
        rows = ROWS if self.filter.level == "image" else TEXT_ROWS
        schema = pa.schema([(key, pa.string()), *self.filter.writes.items()])
        apart = Apart()
        result = pa.Table.from_batches(
            [
                keyed(self.filter, batch, key, apart)
                for batch in table.to_batches(max_chunksize=rows)
            ],
            schema,
        )
        return Output(
            files=(write_parquet(self.out, f"{part.name}.parquet", result),),
            counts=counted(result.num_rows, apart),
        )


def keyed(filter_: Filter, batch: pa.RecordBatch, key: str, apart: Apart) -> pa.RecordBatch:
    """What a filter measures of a batch, behind the key of each row."""
    measured = (
        filter_.measure(batch, apart)
        if isinstance(filter_, PixelFilter)
        else filter_.measure(batch)
    )
    assert measured.num_rows == batch.num_rows, (
        f"{filter_.name} returned {measured.num_rows} rows for {batch.num_rows}"
    )
    columns = [batch.column(key), *(measured.column(name) for name in filter_.writes)]
    return pa.RecordBatch.from_arrays(
        columns, schema=pa.schema([(key, pa.string()), *filter_.writes.items()])
    )


def subject_manifest(collection: Folder, level: str) -> Manifest:
    """The manifest of what a filter of this level measures: the candidates' own, or that of the
    fetches that brought the images.
    """
    folder = collection / ("candidates" if level == "candidate" else "fetches")
    manifest = Manifest.read(folder)
    if manifest is None:
        raise ValueError(
            f"{collection.path()} is not complete; run `winnow collect --id {collection.name}`"
            " again with the same options"
        )
    return manifest


def beside_candidates(
    collection: Folder,
    name: str,
    folders: Sequence[Folder],
    reads: Collection[str],
    columns: Sequence[str] | None = None,
) -> pa.Table:
    """The candidates of a part (some of their columns), with those of their measurements in
    `folders` that are read.

    A measurement whose part was set aside is absent.
    """
    table = read_table(collection / "candidates", name, columns)
    for folder in folders:
        if folder.exists(name):
            measured = read_table(folder, name)
            assert measured["candidate_id"].equals(table["candidate_id"]), (
                f"{folder.path(name)} is of other candidates"
            )
            for column in measured.column_names:
                if column != KEY["candidate"] and column in reads:
                    table = table.append_column(column, measured[column])
    return table


def with_nulls(table: pa.Table, reads: Collection[str]) -> pa.Table:
    """A table with every measurement that is read; null where the part that would have measured it
    was set aside.
    """
    for name in sorted(set(reads) - set(table.column_names)):
        table = table.append_column(name, pa.nulls(table.num_rows, MEASUREMENTS[name]))
    return table
