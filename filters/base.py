"""What every filter is: a pure function from record batches to measurements of the same rows."""

from collections.abc import Mapping
from typing import Literal, Protocol

import pyarrow as pa

Level = Literal["candidate", "image"]


class Filter(Protocol):
    """Measures candidates or images. It drops nothing: recipes decide.

    `version` is raised when the same rows would give other measurements. `measure` returns as many rows as it was given, one
    column for each name in `writes`; a row that cannot be measured is null, never an exception.
    """

    @property
    def name(self) -> str: ...
    @property
    def version(self) -> int: ...
    @property
    def sentence(self) -> str: ...
    @property
    def level(self) -> Level: ...
    @property
    def reads(self) -> tuple[str, ...]: ...
    @property
    def writes(self) -> Mapping[str, pa.DataType]: ...

    def measure(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        """The measurements of a batch, row by row."""
        ...


def measured(writes: Mapping[str, pa.DataType], columns: Mapping[str, pa.Array]) -> pa.RecordBatch:
    """A batch of exactly the columns that a filter writes, in their order and of their types."""
    assert set(columns) == set(writes), f"measured {sorted(columns)}, not {sorted(writes)}"
    arrays = [array if array.type == kind else array.cast(kind) for array, kind in ((columns[name], kind) for name, kind in writes.items())]
    return pa.RecordBatch.from_arrays(arrays, schema=pa.schema(list(writes.items())))
