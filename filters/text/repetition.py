"""How much of a text repeats itself: words, runs of words and runs of characters."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from filters.base import Filter, Level, measured
from filters.text.characters import Texts, code_points, texts
from filters.text.tokens import Tokens, tokens

INTEGERS = NDArray[np.int64]
BOOLS = NDArray[np.bool_]
WORDS, CHARACTERS = 5, 10  # lengths of the runs: OBELICS
# odd, bits well spread
_MIX, _MIX_TOO = np.uint64(0x9E3779B97F4A7C15), np.uint64(0xC2B2AE3D27D4EB4F)
_ROW_BITS = np.uint64(20)


@dataclass(frozen=True)
class RepetitionFilter(Filter):
    """Words that stood before; words as filters.text.tokens parts them. Null for a text that is
    missing, 0 for one without words.
    """

    name: ClassVar[str] = "repetition"
    version: ClassVar[int] = 1
    sentence: ClassVar[str] = (
        "Measures how many words and runs of five words of a text are repeated in it"
    )
    level: ClassVar[Level] = "candidate"
    reads: ClassVar[tuple[str, ...]] = ("text",)
    writes: ClassVar[Mapping[str, pa.DataType]] = {
        # of the words, those that stood before (CC12M allows 0.2)
        "text.word_repetition": pa.float32(),
        # of the runs of five words, those that stand there repeatedly (OBELICS,
        # word_repetition_ratio; Data-Juicer, word_repetition_filter)
        "text.word_repetition_5": pa.float32(),
    }

    def measure(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        text = batch.column("text")
        absent = np.asarray(text.is_null().to_numpy(zero_copy_only=False))
        words = tokens(text)
        again = words.total(~words.first_of_kind)
        columns = {
            "text.word_repetition": pa.array(
                again / np.maximum(words.count, 1), pa.float32(), mask=absent
            ),
            "text.word_repetition_5": pa.array(
                _runs_of_words(words, again >= WORDS), pa.float32(), mask=absent
            ),
        }
        return measured(self.writes, columns)


@dataclass(frozen=True)
class CharacterRepetitionFilter(Filter):
    """Runs of characters that stand in a text several times. Null for a text that is missing, 0 for
    one shorter than a run.
    """

    name: ClassVar[str] = "character_repetition"
    version: ClassVar[int] = 1
    sentence: ClassVar[str] = (
        "Measures how many runs of ten characters of a text are repeated in it"
    )
    level: ClassVar[Level] = "candidate"
    reads: ClassVar[tuple[str, ...]] = ("text",)
    # Of the runs, those of the most frequent repeated ones: at most as many of these as the root of
    # how many distinct runs there are (OBELICS, character_repetition_ratio; Data-Juicer,
    # character_repetition_filter).
    writes: ClassVar[Mapping[str, pa.DataType]] = {"text.character_repetition": pa.float32()}

    def measure(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        text = batch.column("text")
        absent = np.asarray(text.is_null().to_numpy(zero_copy_only=False))
        share = np.zeros(len(text))
        likely = _likely(texts(text))
        if likely.any():
            share[likely] = _runs_of_characters(texts(text).text.filter(pa.array(likely)))
        return measured(
            self.writes, {"text.character_repetition": pa.array(share, pa.float32(), mask=absent)}
        )


def _runs_of_words(words: Tokens, likely: BOOLS) -> NDArray[np.float64]:
    """Share of the runs of five words that are repeated. A text with a repeated run has five words
    that stood before.
    """
    share = np.zeros(words.rows)
    if not likely.any():
        return share
    row, code = (column[likely[words.row]] for column in (words.row, words.code))
    run = _runs(code, WORDS)
    within = row[: len(run)] == row[WORDS - 1 :]
    row, run = row[: len(run)][within], run[within]
    _, kind, count = np.unique(
        row * (run.max(initial=0) + 1) + run, return_inverse=True, return_counts=True
    )
    runs = np.bincount(row, minlength=words.rows)
    return np.asarray(
        np.bincount(row, weights=count[kind] > 1, minlength=words.rows) / np.maximum(runs, 1)
    )


def _runs_of_characters(text: pa.Array) -> NDArray[np.float64]:
    """Share of the runs of ten characters that the most frequent repeated ones take."""
    _, sign, begins = code_points(text)
    row = np.repeat(np.arange(len(text)), np.diff(begins))
    run = _runs(sign.astype(np.int64), CHARACTERS)
    within = row[: len(run)] == row[CHARACTERS - 1 :]
    row, run = row[: len(run)][within], run[within]
    kinds, count = np.unique(row * (run.max(initial=0) + 1) + run, return_counts=True)
    of_kind = kinds // (run.max(initial=0) + 1)
    distinct = np.bincount(of_kind, minlength=len(text))
    repeated = np.bincount(of_kind, weights=count > 1, minlength=len(text)).astype(np.int64)
    most = np.minimum(np.sqrt(distinct).astype(np.int64), repeated)
    order = np.lexsort((-count, of_kind))
    place = np.arange(len(order)) - np.repeat(np.cumsum(distinct) - distinct, distinct)
    counted = np.where(place < most[of_kind[order]], count[order], 0)
    taken = np.bincount(of_kind[order], weights=counted, minlength=len(text))
    return np.asarray(taken / np.maximum(np.bincount(row, minlength=len(text)), 1))


def _runs(code: INTEGERS, length: int) -> INTEGERS:
    """A number for the run of this length that begins at each place: the same for the same runs;
    texts are not told apart.
    """
    if len(code) < length:
        return code[:0]
    if length == 1:
        return code
    half = length // 2
    first = _runs(code, half)
    joined = (
        first[: len(code) - 2 * half + 1] * (first.max() + 1) + first[half : len(code) - half + 1]
    )
    if length % 2:
        joined = (
            np.unique(joined, return_inverse=True)[1][: len(code) - length + 1] * (code.max() + 1)
            + code[length - 1 :]
        )
    return np.asarray(np.unique(joined, return_inverse=True)[1], dtype=np.int64)


def _likely(known_texts: Texts) -> BOOLS:
    """False for texts in which no run of ten bytes stands twice, found by sorting a hash of each
    run: no run of characters can be.
    """
    data, offsets = known_texts.data, known_texts.offsets
    rows = len(offsets) - 1
    result = np.zeros(rows, dtype=bool)
    if len(data) < CHARACTERS:
        return result
    eight: NDArray[np.uint64] = np.ndarray(
        (len(data) - CHARACTERS + 1,), "<u8", data.tobytes(), strides=(1,)
    )
    two: NDArray[np.uint16] = np.ndarray((len(eight),), "<u2", data[8:].tobytes(), strides=(1,))
    mixed = (eight * _MIX ^ two.astype(np.uint64)) * _MIX_TOO >> _ROW_BITS
    assert rows < 1 << int(_ROW_BITS), "too many rows at once"
    row = np.repeat(np.arange(rows, dtype=np.uint64), np.diff(offsets))[: len(eight)]
    ordered = np.sort(mixed | row << np.uint64(44))
    again = ordered[1:][ordered[1:] == ordered[:-1]]
    result[(again >> np.uint64(44)).astype(np.int64)] = True
    return result
