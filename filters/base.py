"""What every filter is: a pure function from record batches to measurements of the same rows."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, ClassVar, Literal, Protocol, Self, TypeVar

import pyarrow as pa

from filters.given_models import Given

Level = Literal["candidate", "image", "pair"]
Seen = TypeVar("Seen")


class Each(Protocol):
    """Calls a picklable function with each image, in order; None where the image has killed the
    process that it was called in.
    """

    def __call__(
        self, function: Callable[[bytes | None], Seen | None], images: Iterable[bytes | None]
    ) -> Iterator[Seen | None]: ...


def here(
    function: Callable[[bytes | None], Seen | None], images: Iterable[bytes | None]
) -> Iterator[Seen | None]:
    """In this very process, for images that nobody doubts."""
    return map(function, images)


class Filter(ABC):
    """Measures candidates, images or pairs. It drops nothing: recipes decide.

    `version` is raised when the same rows would give other measurements. What a filter `reads` are
    columns of candidates or of images, and measurements of other filters; one of pairs reads
    columns of candidates and measurements, never an image's bytes. A `costly` one is asked only for
    what no earlier rule has stopped. `needs` names the field of `Given` without which there is
    none.
    """

    name: ClassVar[str]
    version: ClassVar[int]
    sentence: ClassVar[str]
    level: ClassVar[Level]
    reads: ClassVar[tuple[str, ...]]
    writes: ClassVar[Mapping[str, pa.DataType]]
    costly: ClassVar[bool] = False
    needs: ClassVar[str | None] = None

    @classmethod
    def of(cls, given: Given) -> Self:
        """The filter with what the user gave; ValueError with a remedy where that cannot be
        used.
        """
        return cls()

    @property
    def config(self) -> Mapping[str, Any]:
        """What the measurements depend on beside the version, as plain JSON values: settings, and
        digests of models and lists.
        """
        return {}

    @abstractmethod
    def measure(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        """As many rows as were given, a column for each name in `writes`; null where a row cannot
        be measured, never an exception.
        """


class PixelFilter(Filter):
    """A filter that decodes images, which can crash a process: it does so in a function that `each`
    may call in another one.
    """

    @abstractmethod
    def measure(self, batch: pa.RecordBatch, each: Each = here) -> pa.RecordBatch:
        """As of every filter; null too where `each` gives None."""


def measured(writes: Mapping[str, pa.DataType], columns: Mapping[str, pa.Array]) -> pa.RecordBatch:
    """A batch of exactly the columns that a filter writes, in their order and of their types."""
    assert set(columns) == set(writes), f"measured {sorted(columns)}, not {sorted(writes)}"
    arrays = [
        array if array.type == kind else array.cast(kind)
        for array, kind in ((columns[name], kind) for name, kind in writes.items())
    ]
    return pa.RecordBatch.from_arrays(arrays, schema=pa.schema(list(writes.items())))
