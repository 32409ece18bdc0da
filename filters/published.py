"""Texts as the scripts of published data sets count them, where our own measurements count more carefully."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import pyarrow as pa
import pyarrow.compute as pc

from filters.base import Filter, Level, measured
from filters.language import language_model

# fasttext.tokenize parts words at these bytes alone and counts each line break as a word of its own.
FASTTEXT_WORDS = r"[^ \n\r\t\v\f\x00]+|\n"
WHITE_SPACE = r"[\s\pZ\v\x1c-\x1f\x85]+"  # what Python's str.split() parts words at


@dataclass(frozen=True)
class PublishedTextFilter(Filter):
    """Lengths and language by the letter of published scripts."""

    name: ClassVar[str] = "published"
    version: ClassVar[int] = 1
    sentence: ClassVar[str] = "Counts characters and words, and names the language, as the scripts of published data sets do"
    level: ClassVar[Level] = "candidate"
    reads: ClassVar[tuple[str, ...]] = ("text",)
    writes: ClassVar[Mapping[str, pa.DataType]] = {
        "text.length": pa.int32(),  # code points of the text as it is: Python's len (DataComp, apply_filter.py)
        "text.collapsed_length": pa.int32(),  # with white space as single spaces, none around (COYO-700M README)
        "text.fasttext_words": pa.int32(),  # fasttext.tokenize (DataComp, apply_filter.py, image-based)
        "text.lid176": pa.string(),  # the likeliest label of lid.176, however unsure (DataComp, apply_filter.py)
    }

    def measure(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        """Null for a text that is missing; an empty one is in the language that the model says of nothing."""
        text = batch.column("text").cast(pa.string())
        collapsed = pc.utf8_trim(pc.replace_substring_regex(text, WHITE_SPACE, " "), characters=" ")
        columns: dict[str, Any] = {
            "text.length": pc.utf8_length(text),
            "text.collapsed_length": pc.utf8_length(collapsed),
            "text.fasttext_words": pc.count_substring_regex(text, FASTTEXT_WORDS),
            "text.lid176": _likeliest(text),
        }
        return measured(self.writes, columns)


def _likeliest(text: pa.Array) -> pa.Array:
    """The label that lid.176 puts first, asked once for each distinct text in one batch."""
    distinct = text.dictionary_encode()
    texts = [one.replace("\n", " ") for one in distinct.dictionary.to_pylist()]
    labels = language_model().predict(texts)[0] if texts else []
    return pa.array([label[0].removeprefix("__label__") for label in labels], pa.string()).take(distinct.indices)
