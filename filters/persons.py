"""Texts in which names of persons are replaced: a rewriter."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import pyarrow as pa

from filters.base import Filter, Level, measured
from filters.given import Given


@dataclass(frozen=True, kw_only=True)
class PersonsFilter(Filter):
    """The text with `<PERSON>` for each name of a person, as in CC12M."""

    name: ClassVar[str] = "persons"
    version: ClassVar[int] = 1
    sentence: ClassVar[str] = "Replaces names of persons, as a token classifier finds them, by <PERSON>"
    level: ClassVar[Level] = "candidate"
    reads: ClassVar[tuple[str, ...]] = ("text",)
    writes: ClassVar[Mapping[str, pa.DataType]] = {"text.anonymous": pa.string()}
    costly: ClassVar[bool] = True
    needs: ClassVar[str | None] = "persons"
    model: str

    @classmethod
    def of(cls, given: Given) -> "PersonsFilter":
        assert given.persons is not None
        return cls(model=given.persons)

    @property
    def config(self) -> dict[str, Any]:
        return {"model": self.model}

    def measure(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        return measured(self.writes, {"text.anonymous": batch.column("text")})
