"""What speaks for or against a text being about its image: features of text alone, of image alone,
of the page and of what they share.

ImageBERT (section 3) scores pairs by hundreds of features of these kinds and publishes none of
them: which they are is our choice.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from filters.pair.shared_words import shared
from filters.text.tokens import Tokens, tokens

FLOATS = NDArray[np.float64]


class Pairs:
    """The columns of some pairs as numbers, words and strings, each made once."""

    def __init__(self, columns: pa.Table | pa.RecordBatch) -> None:
        self.rows = columns.num_rows
        self._columns = columns
        self._shares: dict[str, tuple[FLOATS, FLOATS]] = {}

    def column(self, name: str) -> pa.Array:
        column: Any = self._columns[name]
        return column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column

    def numbers(self, name: str) -> FLOATS:
        """NaN where there is none."""
        return np.asarray(
            pc.cast(self.column(name), pa.float64()).to_numpy(zero_copy_only=False),
            dtype=np.float64,
        )

    def text(self, name: str) -> pa.Array:
        return pc.fill_null(self.column(name).cast(pa.string()), "")

    @cached_property
    def words(self) -> Tokens:
        return tokens(
            pc.replace_substring_regex(
                self.text("text"), r"(?i)black[- ]and[- ]white|b&w", "monochrome"
            )
        )

    def says(self, kind: str) -> FLOATS:
        """1 where a text has a word of this kind, else 0."""
        listed = frozenset(KINDS[kind].split())
        return np.minimum(self.words.total(self.words.of_words(lambda word: word in listed)), 1)

    def share(self, name: str) -> tuple[FLOATS, FLOATS]:
        """Share of the naming words of the text that stand in this column, and the other way
        round.
        """
        if name not in self._shares:
            self._shares[name] = shared(self.text("text"), self.text(name), name)
        return self._shares[name]


@dataclass(frozen=True, kw_only=True)
class Feature:
    """A number for each pair, from columns of candidates and measurements; NaN where it cannot be
    told.
    """

    reads: tuple[str, ...]
    value: Callable[[Pairs], FLOATS]


def values(features: Iterable[str], columns: pa.Table | pa.RecordBatch) -> FLOATS:
    """The named features of pairs [rows, features]."""
    pairs = Pairs(columns)
    listed = [np.broadcast_to(FEATURES[name].value(pairs), pairs.rows) for name in features]
    return np.stack(listed, axis=1) if listed else np.zeros((pairs.rows, 0))


def read_by(features: Iterable[str]) -> tuple[str, ...]:
    """The columns and measurements from which these features are made."""
    return tuple(dict.fromkeys(name for feature in features for name in FEATURES[feature].reads))


# What a text says of the kind of picture, compiled by hand for Winnow; beside it stands what the
# picture looks like.
KINDS = {
    "drawn": (
        "chart graph diagram logo icon illustration drawing clipart vector map screenshot"
        " infographic cartoon banner plot sketch"
    ),
    "written": (
        "sign poster text quote letter newspaper book cover page menu label certificate flyer"
        " document handwriting screenshot"
    ),
    "grey": "monochrome sepia grayscale greyscale grey gray charcoal pencil engraving",
    "dark": "night dark evening silhouette shadow sunset dusk black",
    "bright": "snow snowy white sky fog mist beach sunny",
    "colourful": (
        "colorful colourful rainbow red orange yellow flowers balloons mural carnival festival"
    ),
    "photographed": (
        "photo photograph portrait sitting standing running playing man woman boy girl people dog"
        " child children"
    ),
}
SOURCES = ("alt", "title", "figcaption", "aria_label", "given", "link", "surrounding", "synthetic")
LOOKS = (
    "image.natural",
    "image.flat",
    "image.deviation",
    "image.entropy",
    "image.colours",
    "image.text_likeness",
    "image.blur",
)
WIDE = frozenset(  # spread over orders of magnitude
    (
        *(
            "text.characters",
            "text.words",
            "page.place",
            "page.images",
            "page.declared_area",
            "image.short_side",
            "image.long_side",
        ),
        *("image.bytes", "image.bits_per_pixel", "image.colours", "image.blur"),
    )
)
# Without a value a text, a page or its words have none of what is counted; an image without one
# could not be read.
OF_TEXT = (
    *(
        "text.characters",
        "text.words",
        "text.information",
        "text.boilerplate",
        "text.filename",
        "text.english",
        "text.letters",
    ),
    *(
        "text.capitals",
        "text.repetition",
        "text.digits",
        "text.punctuation",
        "text.special",
        "text.stop_words",
        "text.urls",
    ),
    *("text.initial_capital", "text.capitalised", "text.word_repetition", "text.out_of_vocabulary"),
)
OF_PAGE = ("page.place", "page.images", "page.declared_area", "page.content", "page.dominant")
OF_IMAGE = (
    "image.short_side",
    "image.long_side",
    "image.aspect",
    "image.bytes",
    "image.bits_per_pixel",
    *LOOKS,
)
OF_MODELS = (
    "alignment.score",
    "image.aesthetics",
    "image.unsafe",
    "text.unsafe",
    "pair.label_overlap",
)
SHARED = ("context", "image_url", "page_url")


def _shaped(name: str, pairs: Pairs) -> FLOATS:
    numbers = pairs.numbers(name)
    return np.log1p(np.maximum(numbers, 0)) if name in WIDE else numbers


def _or_none(name: str, pairs: Pairs) -> FLOATS:
    return np.nan_to_num(_shaped(name, pairs))


def _squared(of: Callable[[str, Pairs], FLOATS], name: str, pairs: Pairs) -> FLOATS:
    return np.square(of(name, pairs))


def _is(name: str, value: str, pairs: Pairs) -> FLOATS:
    return np.asarray(
        pc.equal(pairs.text(name), value).to_numpy(zero_copy_only=False), dtype=np.float64
    )


def _says(kind: str, pairs: Pairs) -> FLOATS:
    return pairs.says(kind)


def _says_of(kind: str, look: str, pairs: Pairs) -> FLOATS:
    return pairs.says(kind) * _shaped(look, pairs)


def _times(one: str, other: str, pairs: Pairs) -> FLOATS:
    return _or_none(one, pairs) * _shaped(other, pairs)


def _share(name: str, way: int, pairs: Pairs) -> FLOATS:
    return pairs.share(name)[way]


def _some(name: str, pairs: Pairs) -> FLOATS:
    return np.asarray(
        pc.not_equal(pairs.text(name), "").to_numpy(zero_copy_only=False), dtype=np.float64
    )


def _all() -> dict[str, Feature]:
    made: dict[str, Feature] = {}
    for names, shape in (((*OF_TEXT, *OF_PAGE), _or_none), ((*OF_IMAGE, *OF_MODELS), _shaped)):
        for name in names:
            made[name] = Feature(reads=(name,), value=partial(shape, name))
            made[f"{name} squared"] = Feature(reads=(name,), value=partial(_squared, shape, name))
    for source in SOURCES:
        made[f"text_source {source}"] = Feature(
            reads=("text_source",), value=partial(_is, "text_source", source)
        )
    for name in SHARED:
        made[f"{name} given"] = Feature(reads=(name,), value=partial(_some, name))
        made[f"text in {name}"] = Feature(reads=("text", name), value=partial(_share, name, 0))
        made[f"{name} in text"] = Feature(reads=("text", name), value=partial(_share, name, 1))
    for kind in KINDS:
        made[f"says {kind}"] = Feature(reads=("text",), value=partial(_says, kind))
        for look in LOOKS:
            made[f"says {kind}, {look}"] = Feature(
                reads=("text", look), value=partial(_says_of, kind, look)
            )
    for name in (
        "text.words",
        "text.information",
        "text.boilerplate",
        "text.capitals",
        "text.digits",
    ):
        for look in LOOKS:
            made[f"{name} times {look}"] = Feature(
                reads=(name, look), value=partial(_times, name, look)
            )
    return made


FEATURES = _all()
