"""Whether a text is the name of a file: its extension, its separators, its digits and the prefixes
that cameras and programs write.
"""

import re

import numpy as np
from numpy.typing import NDArray

from filters.text.lexicon import file_words, file_words_also
from filters.text.regex_prefilter import Searched
from filters.text.tokens import Tokens

_EXTENSIONS = (
    "jpe?g|jpe|jfif|png|gif|webp|svg|bmp|tiff?|heic|heif|avif|ico|raw|cr2|cr3|nef|arw|dng|psd|eps"
    "|ai|pdf|mp4|mov"
)
_EXTENSION = rf"(?i)\.({_EXTENSIONS})(\?\S*)?\W*$"
_EXTENSION_ALONE = re.compile(_EXTENSIONS)
_ADDRESS = r"(?i)^\s*(https?:|ftp:|www\.|&|<)"  # addresses and markup are boilerplate
_ONE_WORD = r"^\s*\S+\s*$"
# one run without spaces: several separators, or a separator or letters beside at least two digits,
# or a path
_SLUG = (
    r"^\s*[\pL\pN]+([_~+][\pL\pN.()]+)+\s*$|^\s*[\pL\pN]+(-[\pL\pN.()]+){2,}\s*$"
    r"|^\s*\S*[\pL_-]\S*\d{2,}\S*\s*$|^\s*\d\S*[\pL_-]\S*\s*$"
)
_SLUG_DIGIT = r"^\s*\pL{2,}[\pL_-]*[-_(]?\d+[)]?[\pL_-]*\s*$|^\s*\d{3,}\s*$"
_HEX = r"(?i)^\s*\{?[0-9a-f]{6,}(-[0-9a-f]{4,})*\}?\s*$"
_PATH = r"^\s*[\w.:~-]*[/\\]([\w.~%-]+[/\\])+[\w.~%-]*\s*$"
_COPY = r"(?i)\(\d+\)\s*$|^\s*copy of |[ _-]copy\s*\d*\s*$|\b\d{2,5}\s*[x\x{d7}]\s*\d{2,5}\b"
_YEAR_OF = r"[©]|(?i:copyright)"  # prose around a year, such as a claim, which boilerplate judges
_CODE = re.compile(r"^(?=.*[a-z])(?=.*\d)[a-z0-9]{2,}$|^\d+$")
_STRONG = re.compile(r"^(?=(.*\d){3})(?=.*[a-z])[a-z0-9]{5,}$|^[0-9a-f]{8,}$|^\d{5,}$|^\d+x\d+$")


def filename(text: Searched, tokens: Tokens) -> NDArray[np.bool_]:
    """True for each text that is the name of a file."""
    shaped = text.matches(
        _EXTENSION, text.holds(".") & tokens.texts_with(tokens.known_of(_extension))
    )
    alone = ~text.holds(" ")
    one_word = text.matches(_ONE_WORD, alone)
    for pattern in (_SLUG, _SLUG_DIGIT, _HEX, _PATH):
        shaped |= text.matches(pattern, alone) & one_word
    found = shaped | _written(text, tokens)
    return np.asarray(found & ~text.matches(_ADDRESS, found))


def _written(text: Searched, tokens: Tokens) -> NDArray[np.bool_]:
    """True where all words are codes, numbers or what programs write, with a sure sign among
    them.
    """
    kinds = tokens.known_of(_kind)
    others = tokens.total(kinds == 0)
    coded = others == 0
    digits = tokens.total(tokens.known_of(_numbered))
    sure = tokens.total(kinds == 3)
    written = tokens.total(kinds == 2)
    long_number = tokens.total(tokens.known_of(_long_number))
    copies, year = (
        text.matches(_COPY, coded & (digits > 0)),
        text.matches(_YEAR_OF, coded & (long_number > 0)),
    )
    only = coded & (digits > 0) & ((sure > 0) | (written > 0) | (long_number > 0) & ~year | copies)
    beside = (others <= 1) & (sure > 0) & (tokens.count <= 4)
    return np.asarray((only | beside) & (tokens.count > 0))


def _extension(word: str) -> bool:
    return _EXTENSION_ALONE.fullmatch(word) is not None


def _numbered(word: str) -> bool:
    return not word.isalpha() and any(sign.isdigit() for sign in word)


def _long_number(word: str) -> bool:
    return word.isdigit() and len(word) >= 3


def _kind(word: str) -> int:
    """3 for a sure code, 2 for what only programs write, 1 for a number or a word that also stands
    in names of files, 0 for others.
    """
    if _STRONG.match(word):
        return 3
    if word in file_words():
        return 2
    return int(word in file_words_also() or _CODE.match(word) is not None)
