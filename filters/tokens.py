"""The words of many texts at once, so that what is known of a word is looked up once for each distinct word."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

# what is no letter, mark, digit or apostrophe, or one of the signs that tell interfaces apart, parts words
_BETWEEN = r"[^\pL\pM\pN'%$©®™]+"
_SIGNS = r"([%$©®™])"


@dataclass(frozen=True, kw_only=True)
class Tokens:
    """The words of `rows` texts in order: token k is `words[code[k]]` and stands in text `row[k]`."""

    rows: int
    row: NDArray[np.int64]
    code: NDArray[np.int64]
    words: list[str]  # distinct, lower case

    def of_words(self, value: Callable[[str], float]) -> NDArray[np.float64]:
        """A number for each token, computed once for each distinct word."""
        return np.fromiter((value(word) for word in self.words), np.float64, len(self.words))[self.code]

    def total(self, values: NDArray[np.float64] | NDArray[np.bool_]) -> NDArray[np.float64]:
        """The sum over the tokens of each text."""
        return np.asarray(np.bincount(self.row, weights=values, minlength=self.rows), dtype=np.float64)

    @cached_property
    def count(self) -> NDArray[np.int64]:
        return np.bincount(self.row, minlength=self.rows)

    @cached_property
    def first_of_kind(self) -> NDArray[np.bool_]:
        """True where a word stands in its text for the first time."""
        kinds = self.row * (len(self.words) + 1) + self.code
        first = np.zeros(len(kinds), dtype=bool)
        first[np.unique(kinds, return_index=True)[1]] = True
        return first


def tokens(text: pa.Array) -> Tokens:
    """Part texts into lower-case words; a null text has none."""
    lowered = pc.replace_substring(pc.utf8_lower(text), "\N{RIGHT SINGLE QUOTATION MARK}", "'")
    spaced = pc.replace_substring_regex(pc.replace_substring_regex(lowered, _SIGNS, r" \1 "), _BETWEEN, " ")
    parted = pc.split_pattern(pc.utf8_trim_whitespace(spaced), " ")
    row = pc.list_parent_indices(parted).to_numpy(zero_copy_only=False).astype(np.int64)
    encoded = pc.utf8_trim(pc.list_flatten(parted), "'").dictionary_encode()
    words = encoded.dictionary.to_pylist()
    code = encoded.indices.to_numpy(zero_copy_only=False).astype(np.int64)
    named = np.fromiter((bool(word) for word in words), bool, len(words))[code] if words else np.zeros(0, dtype=bool)
    return Tokens(rows=len(text), row=row[named], code=code[named], words=words)
