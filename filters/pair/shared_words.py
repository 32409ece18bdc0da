"""Which words a text shares with what stands around its image and with addresses."""

import re
from functools import lru_cache

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from filters.text.lexicon import file_words, file_words_also, function_words
from filters.text.tokens import Tokens, tokens

FLOATS = NDArray[np.float64]


def shared(text: pa.Array, other: pa.Array, kind: str) -> tuple[FLOATS, FLOATS]:
    """Share (0 to 1) of the naming words of each text that its other text has, and of the other's
    that it has; 0 where there is none.

    Of an `image_url` the last part counts, of a `page_url` the path. Texts are strings without
    nulls, as many as others.
    """
    rows = len(text)
    if kind == "image_url":
        other = spelled(
            pc.replace_substring_regex(
                pc.replace_substring_regex(other, r"^[^?#]*/|[?#].*$", ""),
                r"\.[A-Za-z0-9]{2,5}$",
                "",
            )
        )
    elif kind == "page_url":
        other = spelled(pc.replace_substring_regex(other, r"^[a-z]+://[^/]*|[?#].*$", ""))
    both = tokens(pa.concat_arrays([text, other]))
    naming, stem = _stems(both)
    row = both.row % max(rows, 1)
    keys = row * (len(both.words) + 1) + stem[both.code]
    mine, counted = both.row < rows, naming[both.code] & both.first_of_kind
    return _share(keys, row, mine & counted, ~mine, rows), _share(
        keys, row, ~mine & counted, mine, rows
    )


def spelled(address: pa.Array) -> pa.Array:
    """Parts of addresses as words: set apart at escapes, digits and signs, and at capitals within
    words.
    """
    apart = pc.replace_substring_regex(address, r"%[0-9A-Fa-f]{2}|[0-9_+-]+", " ")
    return pc.replace_substring_regex(apart, r"(\p{Ll})(\p{Lu})", r"\1 \2")


def _share(
    keys: NDArray[np.int64],
    row: NDArray[np.int64],
    asked: NDArray[np.bool_],
    among: NDArray[np.bool_],
    rows: int,
) -> FLOATS:
    """Of the tokens `asked` in each row, the share whose key is also that of a token `among`."""
    found = np.isin(keys[asked], keys[among])
    count = np.bincount(row[asked], minlength=rows)
    return np.asarray(np.bincount(row[asked], weights=found, minlength=rows) / np.maximum(count, 1))


def _stems(both: Tokens) -> tuple[NDArray[np.bool_], NDArray[np.int64]]:
    """For each distinct word whether it names something, and the number of its stem."""
    useless = function_words() | file_words() | file_words_also()
    naming = np.array(
        [len(word) > 2 and not word.isdigit() and word not in useless for word in both.words],
        dtype=bool,
    )
    numbers: dict[str, int] = {}
    return naming, np.array(
        [numbers.setdefault(_stem(word), len(numbers)) for word in both.words], dtype=np.int64
    )


@lru_cache(maxsize=262_144)
def _stem(word: str) -> str:
    """Singular and plural, walk and walking alike: enough to see that two texts speak of one
    thing.
    """
    return (
        re.sub(r"(?:'s|ies|es|s|ing|ed|y|e)$", "", word)
        if len(word) > 4
        else word.removesuffix("s")
        if len(word) > 3
        else word
    )
