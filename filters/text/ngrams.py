"""Words and pairs of words that are rare on the web."""

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
class NgramsFilter(Filter):
    """Words and pairs of neighbouring words outside a list of frequent ones; null for a text that
    is missing, 0 for one without words.

    ALIGN (section 3) drops texts with any token outside the hundred million most frequent words and
    pairs of words of its own texts.
    """

    name: ClassVar[str] = "ngrams"
    version: ClassVar[int] = 1
    sentence: ClassVar[str] = (
        "Counts the words and pairs of words of a text that are not among the frequent ones"
    )
    level: ClassVar[Level] = "candidate"
    reads: ClassVar[tuple[str, ...]] = ("text",)
    writes: ClassVar[Mapping[str, pa.DataType]] = {"text.rare_ngrams": pa.int32()}
    needs: ClassVar[str | None] = "ngrams"
    path: str
    digest: str

    @classmethod
    def of(cls, given: Given) -> Self:
        assert given.ngrams is not None
        return cls(given.ngrams, digest([given.ngrams], "ngrams"))

    @property
    def config(self) -> Mapping[str, Any]:
        return {"ngrams": self.digest}

    def measure(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        text = batch.column("text")
        words = token_words(tokens(text))
        frequent = sum(
            (
                np.bincount(found.row, minlength=len(text))
                for found in _frequent(self.path, self.digest).found(words)
            ),
            np.zeros(len(text), int),
        )
        rare = words.count + np.maximum(words.count - 1, 0) - frequent
        absent = np.asarray(text.is_null().to_numpy(zero_copy_only=False))
        return measured(self.writes, {"text.rare_ngrams": pa.array(rare, pa.int32(), mask=absent)})


@lru_cache(maxsize=1)
def _frequent(path: str, digest: str) -> Phrases:
    """The words and pairs of a file, each line up to a tab; longer runs are left out. About 12
    bytes for each, and a microsecond.
    """
    lines = (
        pa.array([line.partition("\t")[0] for line in block], pa.string()) for block in blocks(path)
    )
    frequent = Phrases(token_words(tokens(block)) for block in lines)
    frequent.tables = {length: table for length, table in frequent.tables.items() if length <= 2}
    return frequent
