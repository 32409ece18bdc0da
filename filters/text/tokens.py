"""The words of many texts at once, so that what is known of a word is looked up once for each
distinct word.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from filters.text.characters import Latest, Texts, bytes_of, known, texts
from filters.text.word_cache import Facts, facts

INTEGERS = NDArray[np.int64]
Spelled = Callable[[], pa.Array]
BOOLS = NDArray[np.bool_]

# what is no letter, mark, digit or apostrophe, or one of the signs that tell interfaces apart,
# parts words
_BETWEEN = r"[^\pL\pM\pN'%$©®™]+"
_SIGNS = r"([%$©®™])"
# The same for each byte: capitals become small, what parts words a space; all of a character beyond
# ASCII that is left belongs to words.
_PLAIN = bytes(
    code if code > 127 or chr(code).isalnum() or chr(code) in "'%$" else 32 for code in range(256)
).lower()
_SPACE, _APOSTROPHE, _PER_CENT, _DOLLAR = b" '%$"
_SHORT = 8  # bytes of a word that is told from others as one number
# the first bytes of a number
_KEPT = np.array([(1 << 8 * size) - 1 for size in range(_SHORT + 1)], np.uint64)


@dataclass(frozen=True, kw_only=True)
class Tokens:
    """The words of `rows` texts in order: token k is `words[code[k]]` and stands in text `row[k]`;
    `count` of them in each text.
    """

    rows: int
    count: INTEGERS
    # codes, and the distinct words; asked for only where more than the count is needed
    encode: Callable[[], tuple[INTEGERS, Spelled]]

    @cached_property
    def row(self) -> INTEGERS:
        return np.repeat(np.arange(self.rows), self.count)

    @cached_property
    def _encoded(self) -> tuple[INTEGERS, Spelled]:
        return self.encode()

    @property
    def code(self) -> INTEGERS:
        return self._encoded[0]

    @cached_property
    def distinct(self) -> pa.Array:
        """`words` as an array."""
        return self._encoded[1]()

    @cached_property
    def words(self) -> list[str]:
        """The distinct words, lower case."""
        distinct: list[str] = self.distinct.to_pylist()
        return distinct

    @cached_property
    def _places(self) -> tuple[Facts, INTEGERS]:
        return facts(self.words)

    def of_words(self, value: Callable[[str], float]) -> NDArray[np.float64]:
        """A number for each token, computed once for each distinct word."""
        return np.fromiter(map(value, self.words), np.float64, len(self.words))[self.code]

    def known_of(self, value: Callable[[str], float]) -> NDArray[np.float64]:
        """A number for each token. `value` is a function of a module that depends on the word
        alone: what it says is remembered.
        """
        return self.known_of_distinct(value)[self.code]

    def known_of_distinct(self, value: Callable[[str], float]) -> NDArray[np.float64]:
        """A number for each of `words`, remembered as `known_of` does."""
        remembered, places = self._places
        return remembered.of(value)[places]

    def total(self, values: NDArray[np.float64] | BOOLS) -> NDArray[np.float64]:
        """The sum over the tokens of each text."""
        return np.asarray(
            np.bincount(self.row, weights=values, minlength=self.rows), dtype=np.float64
        )

    def totals(self, table: NDArray[np.float64]) -> NDArray[np.float64]:
        """For each text the sums over its tokens of the rows of a table that has one for each of
        `words` [texts, columns].

        Each is added up from the first token to the last, as `total` does.
        """
        from scipy.sparse import csr_array

        offsets = np.append(0, np.cumsum(self.count))
        taken = csr_array(
            (np.ones(len(self.code)), self.code, offsets), shape=(self.rows, len(table))
        )
        return np.asarray(taken @ table, dtype=np.float64)

    def texts_with(self, member: NDArray[Any]) -> BOOLS:
        """True for texts with a token for which `member` is not 0."""
        found = np.zeros(self.rows, dtype=bool)
        found[self.row[np.flatnonzero(member)]] = True
        return found

    @cached_property
    def begins(self) -> INTEGERS:
        """The first token of each text that has any."""
        first: INTEGERS = (np.cumsum(self.count) - self.count)[self.count > 0]
        return first

    @cached_property
    def first_of_kind(self) -> BOOLS:
        """True where a word stands in its text for the first time."""
        return firsts(self.row * (int(self.code.max(initial=0)) + 1) + self.code)


def firsts(kinds: INTEGERS) -> BOOLS:
    """True where a kind, a number from 0 on, stands for the first time. Sorting kind and place as
    one number is the fastest way.
    """
    bits = max(len(kinds), 1).bit_length()
    assert not len(kinds) or int(kinds.max()).bit_length() + bits < 64, "too many rows at once"
    ordered = np.sort((kinds << bits) | np.arange(len(kinds)))
    # the same kind as before: seldom
    again = np.flatnonzero((ordered[1:] ^ ordered[:-1]) < 1 << bits) + 1
    first = np.ones(len(kinds), dtype=bool)
    first[ordered[again] & ((1 << bits) - 1)] = False
    return first


def _tokens(text: pa.Array) -> Tokens:
    data, offsets = _plain(texts(text))
    first, last = map(np.flatnonzero, _words(data, offsets))

    return Tokens(
        rows=len(text),
        count=np.diff(np.searchsorted(first, offsets)),
        encode=lambda: _encoded(data, first, last - first + 1),
    )


tokens = Latest(_tokens).of  # parts texts into lower-case words; a null text has none


def _plain(known_texts: Texts) -> tuple[NDArray[np.uint8], INTEGERS]:
    """Texts as bytes, lower case, with spaces for all that is no word, and where each begins."""
    data, offsets = known_texts.data, known_texts.offsets
    if known_texts.beyond.any():
        data, offsets = bytes_of(
            pc.replace_with_mask(
                known_texts.text, pa.array(known_texts.beyond), _spaced(*known_texts.points)
            )
        )
    plain = np.frombuffer(data.tobytes().translate(_PLAIN), np.uint8)
    outer = _outer_apostrophes(plain, offsets)
    if len(outer):
        plain = plain.copy()
        plain[outer] = _SPACE
    return plain, offsets


_spaced_signs: dict[str, str] = {}


def _spaced(signs: list[str], sign: NDArray[np.int32], begins: INTEGERS) -> pa.Array:
    """Texts in lower case with spaces for what is no word and around signs, put together of their
    characters, each looked up once.
    """
    spaced = pa.array(known(signs, _spaced_signs, _spaced_sign), pa.string())
    data, offsets = bytes_of(spaced.take(pa.array(sign)))
    return pa.StringArray.from_buffers(
        len(begins) - 1, pa.py_buffer(offsets[begins].astype(np.int32)), pa.py_buffer(data)
    )


def _spaced_sign(signs: list[str]) -> list[str]:
    lowered = pc.replace_substring(
        pc.utf8_lower(pa.array(signs, pa.string())), "\N{RIGHT SINGLE QUOTATION MARK}", "'"
    )
    spaced: list[str] = pc.replace_substring_regex(
        pc.replace_substring_regex(lowered, _SIGNS, r" \1 "), _BETWEEN, " "
    ).to_pylist()
    return spaced


def _words(data: NDArray[np.uint8], offsets: INTEGERS) -> tuple[BOOLS, BOOLS]:
    """True for each byte that begins a word, and for each that ends one."""
    worded = np.append(data != _SPACE, False)
    apart = np.zeros(len(data) + 1, dtype=bool)  # before which a word cannot go on
    apart[offsets] = True
    for sign in (_PER_CENT, _DOLLAR):
        alone = np.flatnonzero(data == sign)
        apart[alone] = apart[alone + 1] = True
    begins, ends = worded.copy(), worded.copy()
    begins[1:] &= ~worded[:-1] | apart[1:]
    ends[:-1] &= ~worded[1:] | apart[1:]
    return begins[:-1], ends[:-1]


def _outer_apostrophes(data: NDArray[np.uint8], offsets: INTEGERS) -> INTEGERS:
    """Where apostrophes stand that are not within a word."""
    places = np.flatnonzero(data == _APOSTROPHE)
    if not len(places):
        return places
    row = np.searchsorted(offsets, places, side="right")
    goes_on = (np.diff(places) == 1) & (np.diff(row) == 0)
    first, last = (np.flatnonzero(np.r_[True, ~goes_on]), np.flatnonzero(np.r_[~goes_on, True]))
    before, after = places[first] - 1, places[last] + 1
    inner = (before >= offsets[row[first] - 1]) & (after < offsets[row[last]])
    for beside in (before, after):
        inner &= ~np.isin(data[np.minimum(beside, len(data) - 1)], (_SPACE, _PER_CENT, _DOLLAR))
    outer: INTEGERS = places[~np.repeat(inner, last - first + 1)]
    return outer


def _encoded(data: NDArray[np.uint8], first: INTEGERS, size: INTEGERS) -> tuple[INTEGERS, Spelled]:
    """Code of each word, and what spells the distinct words. Short ones are told apart as numbers,
    which is faster than as strings.
    """
    padded = np.append(data, np.zeros(_SHORT, np.uint8))
    eight: NDArray[np.uint64] = np.ndarray((len(data),), "<u8", padded.tobytes(), strides=(1,))
    numbers = eight[first] & _KEPT[np.minimum(size, _SHORT)]
    long = np.flatnonzero(size > _SHORT)
    words = _cut(data, first[long], size[long]).dictionary_encode()
    # ends in the byte 0, as no short word does
    numbers[long] = (words.indices.to_numpy().astype(np.uint64) + np.uint64(1)) << np.uint64(8)
    kinds = pa.array(numbers).dictionary_encode()
    return kinds.indices.to_numpy().astype(np.int64), lambda: _spelled(
        kinds.dictionary.to_numpy(), words.dictionary
    )


def _spelled(numbers: NDArray[np.uint64], long: pa.Array) -> pa.Array:
    """The words that are told by numbers: those of short ones are their bytes, of long ones their
    places.
    """
    digits = numbers.astype("<u8").view(np.uint8).reshape(-1, _SHORT)
    spelled = strings((digits > 0).sum(axis=1), digits.tobytes().translate(None, b"\0"))
    is_long = digits[:, 0] == 0
    places = (numbers[is_long] >> np.uint64(8)).astype(np.int64) - 1
    return (
        pc.replace_with_mask(spelled, pa.array(is_long), long.take(pa.array(places)))
        if len(places)
        else spelled
    )


def _cut(data: NDArray[np.uint8], first: INTEGERS, size: INTEGERS) -> pa.Array:
    """The strings that begin at these bytes and are of these sizes."""
    place = np.repeat(first - np.cumsum(size) + size, size) + np.arange(size.sum())
    return strings(size, data[place].tobytes())


def strings(lengths: INTEGERS, data: bytes) -> pa.Array:
    """Strings of these lengths that lie one after another."""
    offsets = np.zeros(len(lengths) + 1, np.int32)
    np.cumsum(lengths, out=offsets[1:])
    return pa.StringArray.from_buffers(len(lengths), pa.py_buffer(offsets), pa.py_buffer(data))
