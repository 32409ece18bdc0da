"""Words that lists of profanities name."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, ClassVar, Self

import numpy as np
import pyarrow as pa

from filters.base import Filter, Level, measured
from filters.given_models import Given
from filters.text.phrases import Phrases, token_words
from filters.text.tokens import tokens
from filters.text.word_lists import blocks, digest


@dataclass(frozen=True)
class ProfanityFilter(Filter):
    """How often words and runs of words of the lists stand in a text, whole and in any case; null
    for a text that is missing.
    """

    name: ClassVar[str] = "profanity"
    version: ClassVar[int] = 1
    sentence: ClassVar[str] = "Counts the words of a text that stand in a list of profanities"
    level: ClassVar[Level] = "candidate"
    reads: ClassVar[tuple[str, ...]] = ("text",)
    writes: ClassVar[Mapping[str, pa.DataType]] = {"text.profanities": pa.int32()}
    needs: ClassVar[str | None] = "profanity"
    paths: tuple[str, ...]
    digest: str

    @classmethod
    def of(cls, given: Given) -> Self:
        return cls(given.profanity, digest(given.profanity, "profanity"))

    @property
    def config(self) -> Mapping[str, Any]:
        return {"profanity": self.digest}

    def measure(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        text = batch.column("text")
        count = np.zeros(len(text), np.int64)
        for found in _profanities(self.paths, self.digest).found(token_words(tokens(text))):
            count += np.bincount(found.row, minlength=len(text))
        absent = np.asarray(text.is_null().to_numpy(zero_copy_only=False))
        return measured(self.writes, {"text.profanities": pa.array(count, pa.int32(), mask=absent)})


@lru_cache(maxsize=2)
def _profanities(paths: tuple[str, ...], digest: str) -> Phrases:
    return Phrases(
        token_words(tokens(pa.array(block, pa.string())))
        for path in paths
        for block in blocks(path)
    )
