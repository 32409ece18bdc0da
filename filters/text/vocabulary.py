"""How many words of a text nobody knows."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from importlib.metadata import version
from typing import Any, ClassVar, Self

import numpy as np
import pyarrow as pa

from filters.base import Filter, Level, measured
from filters.given_models import Given
from filters.text.tokens import tokens
from filters.text.word_lists import blocks, digest


@dataclass(frozen=True)
class VocabularyFilter(Filter):
    """The share of words outside the vocabulary: null for a text that is missing, 0 for one without
    letters.

    Words are those of filters.text.tokens with a letter in them; what a genitive is of may stand
    for it.
    Conceptual Captions (section 3) knows what stands at least five times in the English Wikipedia
    of about a thousand million words, CC12M what stands twenty times. Where no vocabulary is given,
    wordfreq's large English list is it: at least ten times in a thousand million words.
    """

    name: ClassVar[str] = "vocabulary"
    version: ClassVar[int] = 1
    sentence: ClassVar[str] = "Measures how many of the words of a text stand in no vocabulary"
    level: ClassVar[Level] = "candidate"
    reads: ClassVar[tuple[str, ...]] = ("text",)
    writes: ClassVar[Mapping[str, pa.DataType]] = {"text.out_of_vocabulary": pa.float32()}
    path: str | None = None
    digest: str | None = None

    @classmethod
    def of(cls, given: Given) -> Self:
        return (
            cls()
            if given.vocabulary is None
            else cls(given.vocabulary, digest([given.vocabulary], "vocabulary"))
        )

    @property
    def config(self) -> Mapping[str, Any]:
        return {"vocabulary": self.digest or f"wordfreq {version('wordfreq')} large English"}

    def measure(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        text = batch.column("text")
        words = tokens(text)
        known = _vocabulary(self.path, self.digest)
        lettered = words.of_words(
            lambda word: not word.isascii() or any(sign.isalpha() for sign in word)
        )
        unknown = words.of_words(
            lambda word: word not in known and word.removesuffix("'s") not in known
        )
        share = words.total(lettered * unknown) / np.maximum(words.total(lettered), 1)
        absent = np.asarray(text.is_null().to_numpy(zero_copy_only=False))
        return measured(
            self.writes, {"text.out_of_vocabulary": pa.array(share, pa.float32(), mask=absent)}
        )


@lru_cache(maxsize=2)
def _vocabulary(path: str | None, digest: str | None) -> frozenset[str]:
    """The known words in lower case: the first word of each line of a file, else wordfreq's (about
    a second).
    """
    if path is None:
        from wordfreq import get_frequency_dict

        return frozenset(get_frequency_dict("en", wordlist="large"))
    return frozenset(
        line.split(maxsplit=1)[0].lower()
        for block in blocks(path)
        for line in block
        if line.strip()
    )
