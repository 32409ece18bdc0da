"""Every row rule of every recipe that ships, on its boundary: what the sources say, written here a
second time and value by value.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from filters.recipe.recipe import RowRule, available, decide_row, load
from filters.registry import MEASUREMENTS

Values = tuple[list[Any], list[Any]]  # kept, stopped
Boundary = Callable[[pa.DataType], Values]


def neighbours(bound: float, kind: pa.DataType) -> tuple[Any, Any, Any]:
    """The bound as a measurement of this type holds it, between the next smaller and the next
    larger value of the type.
    """
    if pa.types.is_integer(kind):
        assert bound == int(bound)
        return int(bound) - 1, int(bound), int(bound) + 1
    assert kind == pa.float32()
    at, infinity = np.float32(bound), np.float32(np.inf)
    return float(np.nextafter(at, -infinity)), float(at), float(np.nextafter(at, infinity))


def at_least(bound: float) -> Boundary:
    def values(kind: pa.DataType) -> Values:
        below, at, above = neighbours(bound, kind)
        return [at, above], [below]

    return values


def more_than(bound: float) -> Boundary:
    def values(kind: pa.DataType) -> Values:
        below, at, above = neighbours(bound, kind)
        return [above], [below, at]

    return values


def at_most(bound: float) -> Boundary:
    def values(kind: pa.DataType) -> Values:
        below, at, above = neighbours(bound, kind)
        return [below, at], [above]

    return values


def less_than(bound: float) -> Boundary:
    def values(kind: pa.DataType) -> Values:
        below, at, above = neighbours(bound, kind)
        return [below], [at, above]

    return values


def only(kept: Sequence[Any], stopped: Sequence[Any]) -> Boundary:
    return lambda kind: (list(kept), list(stopped))


def none(kind: pa.DataType) -> Values:
    return [0], [1, 2]


yes, no = only([True], [False]), only([False], [True])
english = only(["en"], ["de", "eng", "EN", ""])
jpeg = only(["JPEG"], ["PNG", "WEBP", "GIF", "jpeg"])

LAIT = [
    ("page.dominant", "page.not_dominant", yes),
    ("text.english", "text.language", at_least(0.5)),
    ("text.filename", "text.filename", no),
    ("text.boilerplate", "text.boilerplate", less_than(0.5)),
    ("text.profanities", "text.profanity", none),
    ("text.words", "text.too_short", at_least(3)),
    ("text.words", "text.too_long", at_most(50)),
    ("text.out_of_vocabulary", "text.vocabulary", at_most(0.2)),
    ("image.short_side", "image.too_small", more_than(300)),
    ("image.unsafe", "image.unsafe", at_most(0.5)),
    ("image.natural", "image.graphic", at_least(0.5)),
    ("pair.score", "pair.mismatched", at_least(0.5)),
]
CONCEPTUAL_TEXT = [
    ("text.boilerplate", "text.boilerplate", less_than(0.5)),
    ("text.profanities", "text.profanity", none),
    ("text.out_of_vocabulary", "text.vocabulary", only([0.0], [1e-45, 0.05, 1.0])),
    ("text.determiners", "text.no_determiner", at_least(1)),
    ("text.nouns", "text.no_noun", at_least(1)),
]
CONCEPTUAL_TAGS = [
    ("text.noun_share", "text.nouns", at_most(0.7)),
]
CONCEPTUAL_POLARITY = [
    ("text.polarity", "text.sentiment", at_most(0.8)),
    ("text.polarity", "text.sentiment", at_least(-0.8)),
]


def conceptual_image(ratio: float) -> list[tuple[str, str, Boundary]]:
    return [
        ("image.format", "image.format", jpeg),
        ("image.short_side", "image.too_small", more_than(400)),
        ("image.aspect", "image.aspect", at_most(ratio)),
        ("image.unsafe", "image.unsafe", at_most(0.5)),
        ("pair.label_overlap", "pair.labels", at_least(1)),
    ]


CC3M = [
    ("text.initial_capital", "text.capitals", yes),
    ("text.capitalised", "text.capitals", at_most(0.5)),
    ("text.word_repetition", "text.repetition", at_most(0.2)),
    *CONCEPTUAL_TEXT,
    ("text.prepositions", "text.no_preposition", at_least(1)),
    *CONCEPTUAL_TAGS,
    ("text.tag_variety", "text.variety", at_least(0.5)),
    *CONCEPTUAL_POLARITY,
    *conceptual_image(2),
]
CC12M = [
    ("text.words", "text.too_short", at_least(3)),
    ("text.words", "text.too_long", at_most(256)),
    ("text.word_repetition", "text.repetition", at_most(0.2)),
    *CONCEPTUAL_TEXT,
    *CONCEPTUAL_TAGS,
    *CONCEPTUAL_POLARITY,
    *conceptual_image(2.5),
]
ALIGN = [
    ("text.words", "text.too_short", at_least(3)),
    ("text.words", "text.too_long", at_most(20)),
    ("text.rare_ngrams", "text.rare_ngram", none),
    ("image.short_side", "image.too_small", more_than(200)),
    ("image.aspect", "image.aspect", less_than(3)),
    ("image.unsafe", "image.unsafe", at_most(0.5)),
    ("image.evaluation_distance", "image.in_evaluation", more_than(3)),
]
LAION_400M = [
    ("text.characters", "text.too_short", at_least(5)),
    ("image.bytes", "image.too_few_bytes", at_least(5000)),
    ("alignment.score", "pair.alignment", at_least(0.3)),
]
LAION_2B_EN = [
    ("text.characters", "text.too_short", at_least(5)),
    ("text.lid176", "text.language", english),
    ("image.bytes", "image.too_few_bytes", at_least(5000)),
    ("image.format", "image.format", only(["JPEG", "PNG", "WEBP"], ["GIF", "AVIF", "webp"])),
    ("image.area", "image.too_large", at_most(89_478_484)),
    ("alignment.score", "pair.alignment", at_least(0.28)),
]
COYO = [
    ("text.collapsed_length", "text.too_short", more_than(5)),
    ("text.collapsed_length", "text.too_long", at_most(1000)),
    ("text.split_words", "text.too_short", at_least(3)),
    ("text.split_words", "text.too_long", at_most(256)),
    ("text.lid176", "text.language", english),
    ("text.profanities", "text.profanity", none),
    ("text.nouns", "text.no_noun", at_least(1)),
    ("image.bytes", "image.too_few_bytes", at_least(5000)),
    ("image.aspect", "image.aspect", at_most(3)),
    ("image.short_side", "image.too_small", at_least(200)),
    ("image.unsafe", "image.unsafe", at_most(0.5)),
    ("image.evaluation_distance", "image.in_evaluation", more_than(0)),
]
DATACOMP_BASIC = [
    ("text.lid176", "text.language", english),
    ("text.split_words", "text.too_short", more_than(2)),
    ("text.length", "text.too_short", more_than(5)),
    ("image.short_side", "image.too_small", at_least(200)),
    ("image.aspect", "image.aspect", at_most(3)),
]
DATACOMP_IMAGE = [
    ("text.lid176", "text.language", english),
    ("text.fasttext_words", "text.too_short", more_than(1)),
    ("text.length", "text.too_short", more_than(5)),
    ("image.near_target", "image.far_from_targets", yes),
]
METACLIP = [
    ("text.lid176", "text.language", english),
    ("text.entry_count", "text.no_entry", at_least(1)),
]
WINNOW = [
    ("text.characters", "text.empty", at_least(1)),
    ("text.filename", "text.filename", no),
    ("text.boilerplate", "text.boilerplate", less_than(0.5)),
    ("text.english", "text.language", at_least(0.5)),
    ("text.words", "text.too_short", at_least(2)),
    ("text.words", "text.too_long", at_most(256)),
    ("image.short_side", "image.too_small", at_least(120)),
    ("image.area", "image.too_small", at_least(26_000)),
    ("image.aspect", "image.aspect", at_most(3)),
    ("image.deviation", "image.blank", at_least(4)),
]
RULES: dict[str, list[tuple[str, str, Boundary]]] = {
    "everything": [],
    "winnow": [*WINNOW, ("image.natural", "image.graphic", at_least(0.5))],
    "demo": [*WINNOW, ("image.flat", "image.graphic", at_most(0.5))],
    "lait": LAIT,
    "cc3m": CC3M,
    "cc12m": CC12M,
    "align": ALIGN,
    "laion-400m": LAION_400M,
    "laion-2b-en": LAION_2B_EN,
    "coyo": COYO,
    "datacomp-basic": DATACOMP_BASIC,
    "datacomp-clip": [],
    "datacomp-image": DATACOMP_IMAGE,
    "metaclip": METACLIP,
}
EACH = [(name, number) for name in available() for number in range(len(RULES.get(name, [])))]


def rows(name: str) -> list[RowRule]:
    return [rule for rule in load(name).rule if isinstance(rule, RowRule)]


@pytest.mark.parametrize("name", available())
def test_every_row_rule_has_its_boundary(name: str) -> None:
    assert [(rule.measure, rule.reason) for rule in rows(name)] == [
        (measure, reason) for measure, reason, _ in RULES[name]
    ]


@pytest.mark.parametrize(
    ("name", "number"),
    EACH,
    ids=[f"{name}-{RULES[name][number][0]}-{number}" for name, number in EACH],
)
def test_on_its_boundary(name: str, number: int) -> None:
    measure, reason, boundary = RULES[name][number]
    kept, stopped = boundary(MEASUREMENTS[measure])
    column = pa.array([*kept, *stopped, None], MEASUREMENTS[measure])
    outcome = decide_row(rows(name)[number], pa.table({measure: column})).to_pylist()
    assert outcome == [None] * len(kept) + [reason] * len(stopped) + [f"{measure}.unmeasured"]


@pytest.mark.parametrize("value", [0.1, 0.2, 0.28, 0.3, 0.7, 0.8])
def test_thresholds_are_compared_in_the_type_of_the_measurement(value: float) -> None:
    """Stored as float32 some of these grow and some shrink; none may change sides by it."""
    stored = pa.table({"text.letters": pa.array([value], pa.float32())})
    for op, met in {
        ">=": True,
        "<=": True,
        "==": True,
        ">": False,
        "<": False,
        "!=": False,
    }.items():
        rule = RowRule(measure="text.letters", op=op, value=value, reason="text.a", source="test")
        assert decide_row(rule, stored).to_pylist() == [None if met else "text.a"], op


def test_a_fraction_is_a_bound_of_whole_numbers_too() -> None:
    rule = RowRule(measure="text.words", op=">", value=2.5, reason="text.a", source="test")
    assert decide_row(rule, pa.table({"text.words": pa.array([2, 3], pa.int32())})).to_pylist() == [
        "text.a",
        None,
    ]
