"""Whether a text is the name of a file: its extension, its separators, its digits and the prefixes that cameras and programs write."""

import re
from functools import lru_cache

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from filters.lexicon import file_words, file_words_also
from filters.tokens import Tokens

_EXTENSION = (
    r"(?i)\.(jpe?g|jpe|jfif|png|gif|webp|svg|bmp|tiff?|heic|heif|avif|ico|raw|cr2|cr3|nef|arw|dng|psd|eps|ai|pdf|mp4|mov)"
    r"(\?\S*)?\W*$"
)
_ADDRESS = r"(?i)^\s*(https?:|ftp:|www\.|&|<)"  # addresses and markup are boilerplate
_ONE_WORD = r"^\s*\S+\s*$"
# one run without spaces: several separators, or a separator or letters beside at least two digits, or a path
_SLUG = r"^\s*[\pL\pN]+([_~+][\pL\pN.()]+)+\s*$|^\s*[\pL\pN]+(-[\pL\pN.()]+){2,}\s*$|^\s*\S*[\pL_-]\S*\d{2,}\S*\s*$|^\s*\d\S*[\pL_-]\S*\s*$"
_SLUG_DIGIT = r"^\s*\pL{2,}[\pL_-]*[-_(]?\d+[)]?[\pL_-]*\s*$|^\s*\d{3,}\s*$"
_HEX = r"(?i)^\s*\{?[0-9a-f]{6,}(-[0-9a-f]{4,})*\}?\s*$"
_PATH = r"^\s*[\w.:~-]*[/\\]([\w.~%-]+[/\\])+[\w.~%-]*\s*$"
_COPY = r"(?i)\(\d+\)\s*$|^\s*copy of |[ _-]copy\s*\d*\s*$|\b\d{2,5}\s*[x\x{d7}]\s*\d{2,5}\b"
_CODE = re.compile(r"^(?=.*[a-z])(?=.*\d)[a-z0-9]{2,}$|^\d+$")
_STRONG = re.compile(r"^(?=(.*\d){3})(?=.*[a-z])[a-z0-9]{5,}$|^[0-9a-f]{8,}$|^\d{5,}$|^\d+x\d+$")


def filename(text: pa.Array, tokens: Tokens) -> NDArray[np.bool_]:
    """True for each text that is the name of a file; false for null."""
    address = _matches(text, _ADDRESS)
    shaped = _matches(text, _EXTENSION)
    for pattern in (_SLUG, _SLUG_DIGIT, _HEX, _PATH):
        shaped |= _matches(text, pattern) & _matches(text, _ONE_WORD)
    return np.asarray((shaped | _written(text, tokens)) & ~address)


def _written(text: pa.Array, tokens: Tokens) -> NDArray[np.bool_]:
    """True where all words are codes, numbers or what programs write, with a sure sign among them."""
    kinds = np.array([_kind(word) for word in tokens.words] or [0])[tokens.code]
    others = tokens.total(kinds == 0)
    digits = tokens.total(tokens.of_words(lambda word: not word.isalpha() and any(sign.isdigit() for sign in word)))
    sure = tokens.total(kinds == 3)
    written = tokens.total(kinds == 2)
    long_number = tokens.total(tokens.of_words(lambda word: word.isdigit() and len(word) >= 3))
    copies = _matches(text, _COPY)
    only = (others == 0) & (digits > 0) & ((sure > 0) | (written > 0) | (long_number > 0) & ~_year_of(tokens, text) | copies)
    beside = (others <= 1) & (sure > 0) & (tokens.count <= 4)
    return np.asarray((only | beside) & (tokens.count > 0))


def _year_of(tokens: Tokens, text: pa.Array) -> NDArray[np.bool_]:
    """True for prose around a year, such as a claim of copyright, which boilerplate judges."""
    return _matches(text, r"[©]|(?i:copyright)")


@lru_cache(maxsize=65_536)
def _kind(word: str) -> int:
    """3 for a sure code, 2 for what only programs write, 1 for a number or a word that also stands in names of files, 0 for others."""
    if _STRONG.match(word):
        return 3
    if word in file_words():
        return 2
    return int(word in file_words_also() or _CODE.match(word) is not None)


def _matches(text: pa.Array, pattern: str) -> NDArray[np.bool_]:
    return np.array(pc.fill_null(pc.match_substring_regex(text, pattern), False).to_numpy(zero_copy_only=False))
