"""Patterns that are searched only in the texts that can hold them: most texts have none of the
signs or words that a pattern asks for.
"""

import re
from dataclasses import dataclass
from functools import cached_property, lru_cache

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from filters.text.characters import Texts

BOOLS = NDArray[np.bool_]
_SIGNS = " !\"#$%&'()*+,-./:;<=>?@[\\]^_`{|}~"
# kinds of bytes beside the signs, which count from 1; letters of ASCII are 0
_DIGIT, _ODD = len(_SIGNS) + 1, len(_SIGNS) + 2
_KIND = bytes(
    (
        _SIGNS.find(chr(code)) + 1
        if chr(code) in _SIGNS
        else _DIGIT
        if 48 <= code < 58
        else _ODD
        if code < 32 or code > 126
        else 0
    )
    for code in range(256)
)
_BIT = np.array([0] + [1 << kind for kind in range(1, _ODD + 1)], np.uint64)
_BEYOND = r"\x{80}-\x{10ffff}"
_RANGES = {
    r"\pL": "A-Za-z" + _BEYOND,
    r"\p{Lu}": "A-Z" + _BEYOND,
    r"\p{Ll}": "a-z" + _BEYOND,
    r"\pN": "0-9" + _BEYOND,
    r"\pM": _BEYOND,
}
_PART = re.compile(r"\\p\{\w+\}|\\p\w|\\x\{\w+\}|\\.|[^\\]", re.DOTALL)


def matches(text: pa.Array, pattern: str, beyond: BOOLS) -> BOOLS:
    """True for texts in which a pattern is found, false for null. `beyond` is true at least for
    those beyond ASCII.

    Arrow compiles a pattern anew for each array, and classes of Unicode take milliseconds: texts
    are searched with wider classes first, which are right for ASCII.
    """
    wide = _wide(pattern)
    found: BOOLS = np.array(
        pc.fill_null(pc.match_substring_regex(text, wide), False).to_numpy(zero_copy_only=False)
    )
    unsure = np.flatnonzero(found & beyond) if wide != pattern else ()
    if len(unsure):
        found[unsure] = pc.match_substring_regex(text.take(pa.array(unsure)), pattern).to_numpy(
            zero_copy_only=False
        )
    return found


@lru_cache(maxsize=64)
def _wide(pattern: str) -> str:
    """The pattern with all characters beyond ASCII in its classes of Unicode: it matches what the
    pattern does, in ASCII nothing else.
    """
    assert "[^\\p" not in pattern, "a class that leaves out classes of Unicode cannot be widened"
    parts, inside = [], False
    for part in _PART.findall(pattern):
        ranges = _RANGES.get(part)
        parts.append(part if ranges is None else ranges if inside else f"[{ranges}]")
        inside = part == "[" or (inside and part != "]")
    return "".join(parts)


@dataclass(frozen=True)
class Searched:
    """Texts, none of them null."""

    text: pa.Array

    @cached_property
    def _held(self) -> NDArray[np.uint64]:
        """The kinds of bytes of each text, as bits."""
        known = Texts(self.text)
        kind = np.frombuffer(known.data.tobytes().translate(_KIND), np.uint8)
        places = np.flatnonzero(kind)
        begins = np.searchsorted(places, known.offsets)
        some = begins[1:] > begins[:-1]
        held = np.zeros(len(self.text), np.uint64)
        if len(places):
            held[some] = np.bitwise_or.reduceat(_BIT[kind[places]], begins[:-1][some])
        return held

    @cached_property
    def odd(self) -> BOOLS:
        """True for texts beyond ASCII, where letters have more cases than two, and for those with
        characters of control.
        """
        return self._any(_ODD)

    @cached_property
    def numbered(self) -> BOOLS:
        """True for texts with a digit of ASCII."""
        return self._any(_DIGIT)

    def holds(self, signs: str) -> BOOLS:
        """True for texts with one of these signs of ASCII, or a space."""
        return self._any(*(_SIGNS.index(sign) + 1 for sign in signs))

    def _any(self, *kinds: int) -> BOOLS:
        return np.asarray(self._held & np.bitwise_or.reduce(_BIT[list(kinds)]) > 0)

    def matches(self, pattern: str, likely: BOOLS) -> BOOLS:
        """True where a pattern is found, which no text in ASCII can be that is not likely."""
        result = np.zeros(len(self.text), dtype=bool)
        rows = np.flatnonzero(likely | self.odd)
        if len(rows):
            result[rows] = matches(self.text.take(pa.array(rows)), pattern, self.odd[rows])
        return result

    def counts(self, pattern: str, likely: BOOLS) -> NDArray[np.int64]:
        """How often a pattern is found, which it is in no text in ASCII that is not likely."""
        result = np.zeros(len(self.text), np.int64)
        rows = np.flatnonzero(likely | self.odd)
        if len(rows):
            result[rows] = pc.count_substring_regex(
                self.text.take(pa.array(rows)), pattern
            ).to_numpy(zero_copy_only=False)
        return result
