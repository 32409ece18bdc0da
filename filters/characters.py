"""The characters of many texts at once: how many of each class stand in each text, in one pass over the bytes.

Texts in ASCII are told by a table of 128 bytes; of the others each distinct character is looked up once.
"""

import unicodedata
from collections.abc import Callable, Iterable, Sequence
from functools import lru_cache
from typing import Any, TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

COUNTS = NDArray[np.int64]
KINDS = NDArray[np.uint8]
Fact = TypeVar("Fact")
# Classes of characters. The first four are classes of RE2, whose tables of Unicode they follow.
LETTER, UPPER, LOWER, SPACE, ALPHANUMERIC, DIGIT, PUNCTUATION = range(7)
_OF_RE2 = {LETTER: r"[\pL\pM]", UPPER: r"\p{Lu}", LOWER: r"\p{Ll}", SPACE: r"\s"}
CLASSES = 7
_MOST = 255  # what a field of eight bits can count


def counts(text: pa.Array) -> COUNTS:
    """How many characters of each class stand in each text [texts, classes]; none in a null."""
    text = pc.fill_null(text, "")
    data, offsets = bytes_of(text)
    result = _of_bytes(data, offsets)
    if not_ascii(data):
        beyond = ~np.asarray(pc.string_is_ascii(text).to_numpy(zero_copy_only=False))
        result[beyond] = _of_code_points(text.filter(pa.array(beyond)))
    return result


def bytes_of(text: pa.Array) -> tuple[NDArray[np.uint8], COUNTS]:
    """The bytes of texts without nulls, one after another, and where each text begins and the last ends [texts + 1]."""
    if not len(text):
        return np.zeros(0, np.uint8), np.zeros(1, np.int64)
    _, places, data = text.buffers()
    offsets = np.frombuffer(places, np.int32, len(text) + 1, text.offset * 4).astype(np.int64)
    whole = np.frombuffer(data, np.uint8) if data is not None else np.zeros(0, np.uint8)
    return whole[offsets[0] : offsets[-1]], offsets - offsets[0]


def not_ascii(data: NDArray[np.uint8]) -> bool:
    return bool(len(data)) and int(data.max()) > 127


def sums(values: NDArray[Any], offsets: COUNTS) -> COUNTS:
    """The sum of the values between each two offsets; of unsigned numbers modulo 2 to the 64, as signed ones of the same bits."""
    full = np.flatnonzero(offsets[1:] > offsets[:-1])
    result = np.zeros(len(offsets) - 1, np.int64)
    if len(full):
        result[full] = np.add.reduceat(values, offsets[full], dtype=np.uint64).view(np.int64)
    return result


def of_each(text: pa.Array, kind: Callable[[str], int], compute: Callable[[KINDS, COUNTS], COUNTS]) -> COUNTS:
    """A number for each text, computed from the kinds (0 to 255) of its characters; none is in a null.

    `kind` is asked once for each character of ASCII and for each other distinct character. `compute` gets the kinds of the characters of
    many texts one after another, and where each text begins and the last ends.
    """
    text = pc.fill_null(text, "")
    data, offsets = bytes_of(text)
    result = compute(np.frombuffer(data.tobytes().translate(_ascii(kind)), np.uint8), offsets)
    if not_ascii(data):
        beyond = ~np.asarray(pc.string_is_ascii(text).to_numpy(zero_copy_only=False))
        signs, sign, begins = code_points(text.filter(pa.array(beyond)))
        result[beyond] = compute(np.fromiter(map(kind, signs), np.uint8, len(signs))[sign], begins)
    return result


@lru_cache(maxsize=64)
def _ascii(kind: Callable[[str], int]) -> bytes:
    """The kind of each byte; 0 from 128 on."""
    return bytes(kind(chr(code)) if code < 128 else 0 for code in range(256))


def _of_bytes(data: NDArray[np.uint8], offsets: COUNTS) -> COUNTS:
    """Right for texts in ASCII. A sum of 64 bits has a field of eight for each class, so long texts are counted in pieces."""
    pieces = np.maximum(-(-np.diff(offsets) // _MOST), 1)
    first = np.cumsum(pieces) - pieces
    begins = np.repeat(offsets[:-1], pieces) + (np.arange(pieces.sum()) - np.repeat(first, pieces)) * _MOST
    packed = sums(_packed()[data], np.append(begins, offsets[-1]))
    fields = packed.astype("<i8").view(np.uint8).reshape(-1, 8)[:, :CLASSES].astype(np.int64)
    return fields if len(first) == len(fields) else np.add.reduceat(fields, first, axis=0)


@lru_cache(maxsize=1)
def _packed() -> NDArray[np.uint64]:
    """For each byte the classes that it is of, as ones in fields of eight bits [byte]; none from 128 on."""
    member = np.zeros((256, 8), np.uint8)
    member[:128, :CLASSES] = _classes([chr(code) for code in range(128)])
    return member.view("<u8").reshape(-1).astype(np.uint64)


def _of_code_points(text: pa.Array) -> COUNTS:
    """Right for any texts."""
    signs, sign, begins = code_points(text)
    kinds, kind = np.unique(_classes(signs), axis=0, return_inverse=True)
    row = np.repeat(np.arange(len(text)), np.diff(begins))
    found = np.bincount(row * len(kinds) + kind.reshape(-1)[sign], minlength=len(text) * len(kinds))
    return found.reshape(len(text), len(kinds)) @ kinds.astype(np.int64)


def code_points(text: pa.Array) -> tuple[list[str], NDArray[np.int32], COUNTS]:
    """The distinct characters of texts without nulls, which of them stands at each place, and where each text begins and the last ends."""
    data, _ = bytes_of(text)
    points = np.frombuffer(str(data.tobytes(), "utf-8").encode("utf-32-le"), np.uint32)
    place = np.zeros(int(points.max(initial=0)) + 1, np.int32)
    place[points] = 1
    distinct = np.flatnonzero(place)
    place[distinct] = np.arange(len(distinct))
    begins = np.append(0, np.cumsum(pc.utf8_length(text).to_numpy(), dtype=np.int64))
    return [chr(point) for point in distinct], place[points], begins


def known(signs: Sequence[str], facts: dict[str, Fact], find: Callable[[list[str]], Iterable[Fact]]) -> list[Fact]:
    """A fact of each of some distinct characters; those not among the facts are found all at once and added."""
    new = [sign for sign in signs if sign not in facts]
    facts.update(zip(new, find(new), strict=True) if new else ())
    return [facts[sign] for sign in signs]


_classes_of: dict[str, int] = {}


def _classes(signs: Sequence[str]) -> NDArray[np.bool_]:
    """Which classes each character is of [characters, classes]."""
    member = np.array(known(signs, _classes_of, _found_classes), np.uint8)
    return np.unpackbits(member[:, None], axis=1, bitorder="little")[:, :CLASSES].astype(bool)


def _found_classes(signs: list[str]) -> list[int]:
    """The classes of each character as bits."""
    array = pa.array(signs, pa.string())
    matched = {kind: pc.match_substring_regex(array, pattern).to_pylist() for kind, pattern in _OF_RE2.items()}
    own = ((sign.isalnum() << ALPHANUMERIC) | (sign.isdecimal() << DIGIT) | (_punctuates(sign) << PUNCTUATION) for sign in signs)
    return [other | sum(of_re2[place] << kind for kind, of_re2 in matched.items()) for place, other in enumerate(own)]


def _punctuates(sign: str) -> bool:
    """Punctuation of Unicode, and what ASCII has beside it: $ + < = > ^ ` | ~, which string.punctuation counts too."""
    return unicodedata.category(sign).startswith("P") or sign in "$+<=>^`|~"
