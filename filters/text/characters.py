"""The characters of many texts at once: how many of each class stand in each text, in one pass over
the bytes.

Texts in ASCII are told by a table of 128 bytes; of the others each distinct character is looked up
once.
"""

import unicodedata
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any, Generic, TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

COUNTS = NDArray[np.int64]
KINDS = NDArray[np.uint8]
Fact = TypeVar("Fact")
Made = TypeVar("Made")
# Classes of characters. The first four are classes of RE2, whose tables of Unicode they follow.
LETTER, UPPER, LOWER, SPACE, ALPHANUMERIC, DIGIT, PUNCTUATION = range(7)
_OF_RE2 = {LETTER: r"[\pL\pM]", UPPER: r"\p{Lu}", LOWER: r"\p{Ll}", SPACE: r"\s"}
CLASSES = 7
_MOST = 255  # what a field of eight bits can count


@dataclass(frozen=True)
class Texts:
    """Texts, none of them null, and what is known of their bytes."""

    text: pa.Array

    @cached_property
    def _bytes(self) -> tuple[NDArray[np.uint8], COUNTS]:
        return bytes_of(self.text)

    @property
    def data(self) -> NDArray[np.uint8]:
        """The bytes of the texts one after another."""
        return self._bytes[0]

    @property
    def offsets(self) -> COUNTS:
        """Where each text begins in `data`, and the last ends [texts + 1]."""
        return self._bytes[1]

    @cached_property
    def beyond(self) -> NDArray[np.bool_]:
        """True for texts beyond ASCII."""
        if not len(self.data) or int(self.data.max()) < 128:
            return np.zeros(len(self.text), dtype=bool)
        return ~np.asarray(pc.string_is_ascii(self.text).to_numpy(zero_copy_only=False))

    @cached_property
    def points(self) -> tuple[list[str], NDArray[np.int32], COUNTS]:
        """`code_points` of the texts beyond ASCII."""
        return code_points(self.text.filter(pa.array(self.beyond)))

    @cached_property
    def lengths(self) -> COUNTS:
        """In characters."""
        lengths = np.diff(self.offsets)
        if self.beyond.any():
            lengths[self.beyond] = np.diff(self.points[2])
        return lengths


class Latest(Generic[Made]):
    """What was made of the texts that were asked for last: the filters of a batch ask for the same
    in turn.
    """

    def __init__(self, make: Callable[[pa.Array], Made]) -> None:
        self._make = make
        self._held: tuple[pa.Array, Made] | None = None

    def of(self, text: pa.Array) -> Made:
        held = self._held
        if held is None or not _same(held[0], text):
            held = self._held = (text, self._make(text))
        return held[1]


def _same(one: pa.Array, other: pa.Array) -> bool:
    """Whether two arrays are the same memory; false for equal texts elsewhere."""
    places = [[part and part.address for part in array.buffers()] for array in (one, other)]
    return (one.type, one.offset, len(one), places[0]) == (
        other.type,
        other.offset,
        len(other),
        places[1],
    )


# of a column in which a null is an empty text
texts = Latest(lambda text: Texts(pc.fill_null(text, "") if text.null_count else text)).of


def counts(text: pa.Array) -> COUNTS:
    """How many characters of each class stand in each text [texts, classes]; none in a null."""
    known_texts = texts(text)
    result = _of_bytes(known_texts.data, known_texts.offsets)
    if known_texts.beyond.any():
        result[known_texts.beyond] = _of_code_points(*known_texts.points)
    return result


def bytes_of(text: pa.Array) -> tuple[NDArray[np.uint8], COUNTS]:
    """The bytes of texts without nulls, one after another, and where each text begins and the last
    ends [texts + 1].
    """
    if not len(text):
        return np.zeros(0, np.uint8), np.zeros(1, np.int64)
    _, places, data = text.buffers()
    offsets = np.frombuffer(places, np.int32, len(text) + 1, text.offset * 4).astype(np.int64)
    whole = np.frombuffer(data, np.uint8) if data is not None else np.zeros(0, np.uint8)
    return whole[offsets[0] : offsets[-1]], offsets - offsets[0]


def sums(values: NDArray[Any], offsets: COUNTS) -> COUNTS:
    """The sum of the numbers between each two offsets, modulo 2 to the 64."""
    full = np.flatnonzero(offsets[1:] > offsets[:-1])
    result = np.zeros(len(offsets) - 1, np.int64)
    if len(full):
        result[full] = np.add.reduceat(values, offsets[full]).view(np.int64)
    return result


def count_true(member: NDArray[np.bool_], offsets: COUNTS) -> COUNTS:
    """How many are true between each two offsets."""
    return np.diff(np.searchsorted(np.flatnonzero(member), offsets))


def of_each(
    text: pa.Array, kind: Callable[[str], int], compute: Callable[[KINDS, COUNTS], COUNTS]
) -> COUNTS:
    """A number for each text, computed from the kinds (0 to 255) of its characters; none is in a
    null.

    `kind` is asked once for each character of ASCII and for each other distinct character.
    `compute` gets the kinds of the characters of many texts one after another, and where each text
    begins and the last ends.
    """
    known_texts = texts(text)
    result = compute(
        np.frombuffer(known_texts.data.tobytes().translate(_ascii(kind)), np.uint8),
        known_texts.offsets,
    )
    if known_texts.beyond.any():
        signs, sign, begins = known_texts.points
        result[known_texts.beyond] = compute(
            np.fromiter(map(kind, signs), np.uint8, len(signs))[sign], begins
        )
    return result


@lru_cache(maxsize=64)
def _ascii(kind: Callable[[str], int]) -> bytes:
    """The kind of each byte; 0 from 128 on."""
    return bytes(kind(chr(code)) if code < 128 else 0 for code in range(256))


def _of_bytes(data: NDArray[np.uint8], offsets: COUNTS) -> COUNTS:
    """Right for texts in ASCII. A sum of 64 bits has a field of eight for each class, so long texts
    are counted in pieces.
    """
    pieces = np.maximum(-(-np.diff(offsets) // _MOST), 1)
    first = np.cumsum(pieces) - pieces
    begins = (
        np.repeat(offsets[:-1], pieces)
        + (np.arange(pieces.sum()) - np.repeat(first, pieces)) * _MOST
    )
    # small letters are most of a text: the rest of it
    others = np.flatnonzero((data - np.uint8(ord("a"))) > ord("z") - ord("a"))
    ends = np.append(begins, offsets[-1])
    places = np.searchsorted(others, ends)
    packed = sums(_packed()[data[others]], places) + (np.diff(ends) - np.diff(places)) * _packed()[
        ord("a")
    ].astype(np.int64)
    fields = packed.astype("<i8").view(np.uint8).reshape(-1, 8)[:, :CLASSES].astype(np.int64)
    return fields if len(first) == len(fields) else np.add.reduceat(fields, first, axis=0)


@lru_cache(maxsize=1)
def _packed() -> NDArray[np.uint64]:
    """For each byte the classes that it is of, as ones in fields of eight bits [byte]; none from
    128 on.
    """
    member = np.zeros((256, 8), np.uint8)
    member[:128, :CLASSES] = _classes([chr(code) for code in range(128)])
    return member.view("<u8").reshape(-1).astype(np.uint64)


def _of_code_points(signs: list[str], sign: NDArray[np.int32], begins: COUNTS) -> COUNTS:
    """Right for any texts."""
    kinds, kind = np.unique(_classes(signs), axis=0, return_inverse=True)
    row = np.repeat(np.arange(len(begins) - 1), np.diff(begins))
    found = np.bincount(
        row * len(kinds) + kind.reshape(-1)[sign], minlength=(len(begins) - 1) * len(kinds)
    )
    return found.reshape(len(begins) - 1, len(kinds)) @ kinds.astype(np.int64)


def code_points(text: pa.Array) -> tuple[list[str], NDArray[np.int32], COUNTS]:
    """The distinct characters of texts without nulls, which of them stands at each place, and where
    each text begins and the last ends.
    """
    data, _ = bytes_of(text)
    points = np.frombuffer(str(data.tobytes(), "utf-8").encode("utf-32-le"), np.uint32)
    place = np.zeros(int(points.max(initial=0)) + 1, np.int32)
    place[points] = 1
    distinct = np.flatnonzero(place)
    place[distinct] = np.arange(len(distinct))
    begins = np.append(0, np.cumsum(pc.utf8_length(text).to_numpy(), dtype=np.int64))
    return [chr(point) for point in distinct], place[points], begins


def known(
    signs: Sequence[str], facts: dict[str, Fact], find: Callable[[list[str]], Iterable[Fact]]
) -> list[Fact]:
    """A fact of each of some distinct characters; those not among the facts are found all at once
    and added.
    """
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
    matched = {
        kind: pc.match_substring_regex(array, pattern).to_pylist()
        for kind, pattern in _OF_RE2.items()
    }
    own = (
        (sign.isalnum() << ALPHANUMERIC)
        | (sign.isdecimal() << DIGIT)
        | (_punctuates(sign) << PUNCTUATION)
        for sign in signs
    )
    return [
        other | sum(of_re2[place] << kind for kind, of_re2 in matched.items())
        for place, other in enumerate(own)
    ]


def _punctuates(sign: str) -> bool:
    """Punctuation of Unicode, and what ASCII has beside it: $ + < = > ^ ` | ~, which
    string.punctuation counts too.
    """
    return unicodedata.category(sign).startswith("P") or sign in "$+<=>^`|~"
