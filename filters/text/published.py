"""Texts as the scripts of published data sets count them, where our own measurements count more
carefully.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from filters.base import Filter, Level, measured
from filters.text.characters import count_true, of_each, texts
from filters.text.language import language_model
from filters.text.length import runs, seen, split_words

# fasttext.tokenize parts words at these bytes alone and counts each line break as a word of its
# own.
FASTTEXT_BETWEEN = " \r\t\v\f\x00"
_WORD, _LINE = 1, 2  # kinds of characters


@dataclass(frozen=True)
class PublishedTextFilter(Filter):
    """Lengths and language by the letter of published scripts."""

    name: ClassVar[str] = "published"
    version: ClassVar[int] = 1
    sentence: ClassVar[str] = (
        "Counts characters and words, and names the language, as the scripts of published data"
        " sets do"
    )
    level: ClassVar[Level] = "candidate"
    reads: ClassVar[tuple[str, ...]] = ("text",)
    writes: ClassVar[Mapping[str, pa.DataType]] = {
        # code points of the text as it is: Python's len (DataComp, apply_filter.py)
        "text.length": pa.int32(),
        # with white space as single spaces, none around (COYO-700M README)
        "text.collapsed_length": pa.int32(),
        # fasttext.tokenize (DataComp, apply_filter.py, image-based)
        "text.fasttext_words": pa.int32(),
        # the likeliest label of lid.176, however unsure (DataComp, apply_filter.py)
        "text.lid176": pa.string(),
    }

    def measure(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        """Null for a text that is missing; an empty one is in the language that the model says of
        nothing.
        """
        text = batch.column("text").cast(pa.string())
        absent = np.asarray(text.is_null().to_numpy(zero_copy_only=False))
        columns: dict[str, Any] = {
            "text.length": pc.utf8_length(text),
            "text.collapsed_length": pa.array(_collapsed(text), pa.int32(), mask=absent),
            "text.fasttext_words": pa.array(
                of_each(text, _of_fasttext, _fasttext_words), pa.int32(), mask=absent
            ),
            "text.lid176": _likeliest(text),
        }
        return measured(self.writes, columns)


def _collapsed(text: pa.Array) -> NDArray[np.int64]:
    """Characters that are no white space, and a space between each two runs of them."""
    return np.asarray(
        texts(text).lengths - of_each(text, seen, _white) + np.maximum(split_words(text) - 1, 0)
    )


def _white(kinds: NDArray[np.uint8], offsets: NDArray[np.int64]) -> NDArray[np.int64]:
    return count_true(kinds == 0, offsets)


def _of_fasttext(sign: str) -> int:
    return _LINE if sign == "\n" else 0 if sign in FASTTEXT_BETWEEN else _WORD


def _fasttext_words(kinds: NDArray[np.uint8], offsets: NDArray[np.int64]) -> NDArray[np.int64]:
    return np.asarray(
        runs((kinds == _WORD).view(np.uint8), offsets) + count_true(kinds == _LINE, offsets)
    )


def _likeliest(text: pa.Array) -> pa.Array:
    """The label that lid.176 puts first, asked once for each distinct text in one batch."""
    distinct = text.dictionary_encode()
    asked = pc.replace_substring(distinct.dictionary, "\n", " ").to_pylist()
    labels = pa.array(
        [label[0] for label in language_model().predict(asked)[0]] if asked else [], pa.string()
    )
    return pc.utf8_slice_codeunits(labels, len("__label__")).take(distinct.indices)
