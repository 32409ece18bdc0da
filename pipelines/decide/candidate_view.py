"""What is known of the candidates of a part when a rule is applied: the tables of the collection
and all that was measured by then.
"""

from collections.abc import Collection
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipelines.collect.join_fetches import FOUND
from pipelines.decide.group_rules import PLACE
from pipelines.engine.shuffle import read_group
from pipelines.measure import beside_candidates, with_nulls
from pipelines.schema import CANDIDATES
from pipelines.store import Folder
from pipelines.tables import read_table

ALWAYS = (
    "candidate_id",
    "page_url",
    "image_url",
    "alternatives",
    "text",
    "text_source",
    "page_language",
    "captured_at",
    "permission",
)


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
class Asked:
    """What one lazy filter measured of candidates: for each collection the folders of its
    increments.
    """

    folders: tuple[tuple[Folder, tuple[Folder, ...]], ...]
    writes: tuple[tuple[str, pa.DataType], ...]

    def beside(self, table: pa.Table, source: Source, number: int) -> pa.Table:
        """The table with the measurements of its candidates; null for whom nobody asked."""
        folders = next(
            (
                increments
                for collection, increments in self.folders
                if collection == source.collection
            ),
            (),
        )
        schema = pa.schema([("candidate_id", pa.string()), *self.writes])
        found = [
            read_table(folder, source.name, schema.names)
            for folder in folders
            if folder.exists(source.name)
        ]
        measured = pa.concat_tables([schema.empty_table(), *found])
        place = pc.index_in(
            table["candidate_id"], value_set=measured["candidate_id"].combine_chunks()
        )
        for name, _ in self.writes:
            table = table.append_column(name, measured[name].take(place))
        return table


@dataclass(frozen=True, kw_only=True)
class Delivered:
    """What was brought to each candidate from elsewhere: an exchange by part of values, called
    `columns` here.
    """

    folder: Folder
    names: tuple[str, ...]
    schema: pa.Schema
    columns: tuple[str, ...]

    def beside(self, table: pa.Table, source: Source, number: int) -> pa.Table:
        """The table with the values in their rows; null elsewhere."""
        rows = read_group(self.folder, self.names, number, self.schema)
        found = rows.take(at_rows(rows, table.num_rows))
        values = [name for name in self.schema.names if name not in PLACE.names]
        for name, column in zip(values, self.columns, strict=True):
            table = table.append_column(column, found[name])
        return table


@dataclass(frozen=True, kw_only=True)
class CandidateView:
    """All parts of the candidates of a decision, and what has come to be known of them so far."""

    sources: tuple[Source, ...]
    resolved_schema: pa.Schema
    text: str = "text"  # the measurement that stands for the text
    arrived: tuple[Asked | Delivered, ...] = ()

    def table(self, number: int, reads: Collection[str]) -> pa.Table:
        """The candidates of a part beside all that is known of them and read; what is missing is
        null.

        Where a rewriter made the text, `original_text` holds what was found.
        """
        source = self.sources[number]
        columns = [name for name in CANDIDATES.names if name in ALWAYS or name in reads]
        table = beside_candidates(
            source.collection, source.name, source.measured, {*reads, self.text}, columns
        )
        if self.text != "text":
            table = table.rename_columns({"text": "original_text"}).append_column(
                "text", table[self.text]
            )
        always = {*PLACE.names, *FOUND.names}
        schema = pa.schema(
            [entry for entry in self.resolved_schema if entry.name in always or entry.name in reads]
        )
        resolved = read_group(source.resolved, source.resolved_names, source.index, schema)
        found = resolved.take(at_rows(resolved, table.num_rows))
        for name in found.column_names:
            if name not in PLACE.names:
                table = table.append_column(name, found[name])
        for arrived in self.arrived:
            table = arrived.beside(table, source, number)
        return with_nulls(table, reads)

    def of(self, collection: Folder) -> tuple[int, ...]:
        """The numbers of the parts of one collection."""
        return tuple(
            number for number, source in enumerate(self.sources) if source.collection == collection
        )


def at_rows(rows: pa.Table, size: int) -> pa.Array:
    """[size] where in `rows`, by its column `row`, the row of each candidate stands; null for one
    that has none.
    """
    place = np.full(size, -1, dtype=np.int64)
    place[rows["row"].to_numpy()] = np.arange(rows.num_rows)
    return pa.array(place, mask=place < 0)
