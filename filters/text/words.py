"""What the words of a text are and how they are written, as recipes ask for it."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from filters.base import Filter, Level, measured
from filters.text.characters import count_true, of_each, texts
from filters.text.lexicon import function_words
from filters.text.tokens import Tokens, tokens

INTEGERS = NDArray[np.int64]
KINDS = NDArray[np.uint8]
_IN_WORD, _APOSTROPHE, _CAPITAL, _NAMED = 1, 2, 4, 8  # bits of the kind of a character
# addresses with a scheme or www, and mail addresses
_ADDRESS = r"(?i)(\b[a-z][a-z0-9+.-]*://|\bwww\.)[^\s<>]+|[^\s<>@:]+@[^\s<>@]+\.[a-z]{2,}"


@dataclass(frozen=True)
class WordsFilter(Filter):
    """Repeated words, stop words, addresses and capitals; null for a text that is missing, but for
    `text.repetition`, which is then 0.
    """

    name: ClassVar[str] = "words"
    version: ClassVar[int] = 1
    sentence: ClassVar[str] = (
        "Measures how many words of a text stood in it before, hold sentences together or begin"
        " with a capital"
    )
    level: ClassVar[Level] = "candidate"
    reads: ClassVar[tuple[str, ...]] = ("text",)
    writes: ClassVar[Mapping[str, pa.DataType]] = {
        # of the words that are no function words, those that stood before
        "text.repetition": pa.float32(),
        # of the words; 0 where there is none. OBELICS (stopword_ratio) and Data-Juicer
        # (stopwords_filter) part words at white space and strip them of signs, with lists of their
        # own.
        "text.stop_words": pa.float32(),
        "text.urls": pa.int32(),  # addresses with a scheme or www, and mail addresses
        # its first letter or digit is one (Conceptual Captions, section 3: first word capitalised)
        "text.initial_capital": pa.bool_(),
        # of the words, those that begin with a capital; 0 where there is none
        "text.capitalised": pa.float32(),
    }

    def measure(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        text = batch.column("text")
        absent = np.asarray(text.is_null().to_numpy(zero_copy_only=False))
        words = tokens(text)
        some = np.maximum(words.count, 1)
        stop = words.known_of(_holds_together)
        columns = {
            "text.repetition": pa.array(_repetition(words, stop == 0), pa.float32()),
            "text.stop_words": pa.array(words.total(stop) / some, pa.float32(), mask=absent),
            "text.urls": pa.array(_addresses(text), pa.int32(), mask=absent),
            "text.initial_capital": pa.array(of_each(text, _kind, _initial) > 0, mask=absent),
            "text.capitalised": pa.array(
                of_each(text, _kind, _initials) / some, pa.float32(), mask=absent
            ),
        }
        return measured(self.writes, columns)


def _holds_together(word: str) -> bool:
    return word in function_words()


def _repetition(words: Tokens, counted: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Share of the words that are no function words and stood in the same text before."""
    return np.asarray(
        words.total(counted & ~words.first_of_kind) / np.maximum(words.total(counted), 1)
    )


def _addresses(column: pa.Array) -> INTEGERS:
    """How many addresses stand in each text; only texts with `@`, `://` or `www.` are searched."""
    text, data, offsets = texts(column).text, texts(column).data, texts(column).offsets
    marks = data == ord("@")
    marks[:-2] |= (data[:-2] == ord(":")) & (data[1:-1] == ord("/")) & (data[2:] == ord("/"))
    small = data | 32
    marks[:-3] |= (
        (small[:-3] == ord("w"))
        & (small[1:-2] == ord("w"))
        & (small[2:-1] == ord("w"))
        & (data[3:] == ord("."))
    )
    found = np.zeros(len(text), np.int64)
    likely = count_true(marks, offsets) > 0
    if likely.any():
        found[likely] = pc.count_substring_regex(text.filter(pa.array(likely)), _ADDRESS).to_numpy()
    return found


def _kind(sign: str) -> int:
    if sign in "'\N{RIGHT SINGLE QUOTATION MARK}":
        return _APOSTROPHE
    capital = sign.isupper() or sign.istitle()
    return (sign.isalnum() and _IN_WORD | _NAMED) | (capital and _CAPITAL)


def _initial(kinds: KINDS, offsets: INTEGERS) -> INTEGERS:
    """1 where the first letter or digit of a text is a capital."""
    places = np.append(np.flatnonzero(kinds & _NAMED), len(kinds))
    first = places[np.searchsorted(places, offsets[:-1])]
    capital = np.append(kinds & _CAPITAL, 0)[first] > 0
    return np.asarray(capital & (first < offsets[1:]), dtype=np.int64)


def _initials(kinds: KINDS, offsets: INTEGERS) -> INTEGERS:
    """How many words of a text begin with a capital."""
    within, apostrophe = (
        np.concatenate(([False, False], (kinds & bit) > 0)) for bit in (_IN_WORD, _APOSTROPHE)
    )
    # in d'Artagnan a word goes on, in 'Hello' it begins
    before = within[1:-1] | (apostrophe[1:-1] & within[:-2])
    inside = offsets[:-1][offsets[:-1] < offsets[1:]]
    before[inside] = False
    second = inside[inside + 1 < len(kinds)] + 1
    before[second] = within[second + 1]
    return count_true(((kinds & _CAPITAL) > 0) & ~before, offsets)
