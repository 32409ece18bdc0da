"""Shares of the signs and words of a text: for recipes that ask for them."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from filters.base import Filter, Level, measured
from filters.lexicon import function_words
from filters.tokens import Tokens, tokens


@dataclass(frozen=True)
class SignsFilter(Filter):
    """How much of a text is letters, capitals and repeated words."""

    name: ClassVar[str] = "signs"
    version: ClassVar[int] = 1
    sentence: ClassVar[str] = "Measures how much of a text is letters, capital letters and repeated words"
    level: ClassVar[Level] = "candidate"
    reads: ClassVar[tuple[str, ...]] = ("text",)
    writes: ClassVar[Mapping[str, pa.DataType]] = {
        "text.letters": pa.float32(),  # of the characters that are not white space
        "text.capitals": pa.float32(),  # of the letters that have a case
        "text.repetition": pa.float32(),  # of the words that are no function words, those that stood before
        "text.alphanumeric": pa.float32(),
        "text.special": pa.float32(),
        "text.digits": pa.float32(),
        "text.punctuation": pa.float32(),
        "text.stop_words": pa.float32(),
        "text.urls": pa.int32(),
        "text.initial_capital": pa.bool_(),
        "text.capitalised": pa.float32(),
    }

    def measure(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        text = pc.fill_null(batch.column("text"), "")
        columns = {
            "text.letters": _share(text, r"[^\pL\pM]+", r"\s+"),
            "text.capitals": _share(text, r"\P{Lu}+", r"[^\p{Lu}\p{Ll}]+"),
            "text.repetition": pa.array(_repetition(tokens(text)), pa.float32()),
        }
        columns |= {name: pa.nulls(batch.num_rows, kind) for name, kind in self.writes.items() if name not in columns}
        return measured(self.writes, columns)


def _share(text: pa.Array, other: str, beyond: str) -> pa.Array:
    """Share of the characters that are not `beyond` which are not `other` either; null where there is none. Both match runs."""
    left, whole = (pc.utf8_length(pc.replace_substring_regex(text, runs, "")).cast(pa.float32()) for runs in (other, beyond))
    return pc.divide(left, pc.if_else(pc.equal(whole, 0), None, whole))


def _repetition(words: Tokens) -> np.ndarray:
    """Share of the words that are no function words and stood in the same text before."""
    counted = words.of_words(lambda word: word not in function_words())
    return words.total(counted * ~words.first_of_kind) / np.maximum(words.total(counted), 1)
