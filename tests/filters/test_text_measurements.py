"""Measurements of texts: each literal has its exact value, and plain Python that reads like the
definition agrees.
"""

import math
import random
from collections import Counter
from collections.abc import Callable
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from filters.text.char_ratios import SignsFilter
from filters.text.characters import counts
from filters.text.length import LengthFilter
from filters.text.repetition import CharacterRepetitionFilter, RepetitionFilter
from filters.text.tokens import tokens
from filters.text.vocabulary import VocabularyFilter
from filters.text.words import WordsFilter
from tests.filters.conftest import wording

DOG = "The DOG\u2019s 2 dogs, caf\u00e9 \u2013 50% off!"
VALUES = {  # of DOG, of an empty text, of a missing one
    "text.characters": (33, 0, 0),
    "text.bytes": (38, 0, 0),
    "text.words": (8, 0, 0),
    "text.split_words": (8, 0, 0),
    "text.letters": (18 / 26, None, None),
    "text.capitals": (4 / 18, None, None),
    "text.alphanumeric": (21 / 33, 0, None),
    "text.special": (15 / 33, 0, None),
    "text.digits": (3 / 33, 0, None),
    "text.punctuation": (5 / 33, 0, None),
    "text.repetition": (0, 0, 0),
    "text.stop_words": (2 / 8, 0, None),
    "text.urls": (0, 0, None),
    "text.initial_capital": (True, False, None),
    "text.capitalised": (2 / 8, 0, None),
    "text.word_repetition": (0, 0, None),
    "text.word_repetition_5": (0, 0, None),
    "text.character_repetition": (0, 0, None),
    "text.out_of_vocabulary": (0, 0, None),
}
FILTERS = (
    LengthFilter(),
    SignsFilter(),
    WordsFilter(),
    RepetitionFilter(),
    CharacterRepetitionFilter(),
    VocabularyFilter(),
)


def measure(texts: list[str | None]) -> list[dict[str, Any]]:
    batch = pa.record_batch({"text": pa.array(texts, pa.string())})
    parts = [filter_.measure(batch).to_pylist() for filter_ in FILTERS]
    return [
        {name: value for part in rows for name, value in part.items()}
        for rows in zip(*parts, strict=True)
    ]


def of(text: str | None) -> dict[str, Any]:
    return measure([text])[0]


@pytest.mark.parametrize("name", VALUES)
def test_each_has_its_value_and_nothing_and_null_have_theirs(name: str) -> None:
    found = [row[name] for row in measure([DOG, "", None])]
    assert found == [None if value is None else pytest.approx(value) for value in VALUES[name]]


@pytest.mark.parametrize(
    ("text", "count"),
    [(" a\u3000b\u00a0c\x1cd\u2028e ", 5), ("a\u200bb", 1), ("\t\n", 0), ("\x85x\x0b", 1)],
)
def test_words_are_split_as_python_splits_them(text: str, count: int) -> None:
    assert len(text.split()) == count
    assert of(text)["text.split_words"] == count


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("Rock 'n' roll's", ["rock", "n", "roll's"]),
        ("'' ' a''b '", ["a''b"]),
        ("5% of $3\u00a9", ["5", "%", "of", "$", "3", "\u00a9"]),
        ("'%'", ["%"]),
        ("\u00c9COLE d\u2019\u00e9t\u00e9", ["\u00e9cole", "d'\u00e9t\u00e9"]),
        ("snake_case, e-mail", ["snake", "case", "e", "mail"]),
    ],
)
def test_texts_are_parted_into_words(text: str, words: list[str]) -> None:
    found = tokens(pa.array(["x", text, "y"]))
    assert [found.words[code] for code in found.code] == ["x", *words, "y"]
    assert found.count.tolist() == [1, len(words), 1]


@pytest.mark.parametrize(
    ("text", "initial", "share"),
    [
        ("'Hello World d'Artagnan O\u2019Neill", True, 3 / 4),
        ("\u00c9cole du soir", True, 1 / 3),
        ("3 Men", False, 1 / 2),
        ("\u2014 Men", True, 1),
        ("eBay", False, 0),
        ("\u0414\u043e\u043c", True, 1),
    ],
)
def test_capitals_begin_texts_and_words(text: str, initial: bool, share: float) -> None:
    row = of(text)
    assert row["text.initial_capital"] is initial
    assert row["text.capitalised"] == pytest.approx(share)


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("see http://a.example/b, WWW.example.org or me@example.org", 3),
        ("mailto:me@example.org", 1),
        ("@home at 5:30, wow.", 0),
        ("ftp://x", 1),
        ("\u00e9t\u00e9 www.example.org", 1),
    ],
)
def test_addresses_are_counted(text: str, count: int) -> None:
    assert of(text)["text.urls"] == count


def test_repeated_words_and_runs() -> None:
    row = of("A dog and a cat and a dog")
    assert row["text.word_repetition"] == pytest.approx(4 / 8)
    row = of("one two three four five six, one two three four five")
    assert row["text.word_repetition_5"] == pytest.approx(2 / 7)
    assert of("one two three four, one two three four")["text.word_repetition_5"] == 0


@pytest.mark.parametrize(
    ("text", "share"),
    [("0123456789" * 2, 2 / 11), ("a" * 12, 1.0), ("a" * 10, 0), ("abc", 0), ("\u00e9" * 12, 1.0)],
)
def test_repeated_characters(text: str, share: float) -> None:
    assert of(text)["text.character_repetition"] == pytest.approx(share)


def test_words_that_nobody_knows() -> None:
    assert of("A xqzzt's dog's 12 %")["text.out_of_vocabulary"] == pytest.approx(1 / 3)


def runs_of_words(words: list[str]) -> float:
    found = Counter(tuple(words[place : place + 5]) for place in range(len(words) - 4))
    return sum(count for count in found.values() if count > 1) / max(found.total(), 1)


def runs_of_characters(text: str) -> float:
    found = sorted(
        Counter(text[place : place + 10] for place in range(len(text) - 9)).values(), reverse=True
    )
    repeated = min(math.isqrt(len(found)), sum(count > 1 for count in found))
    return sum(found[:repeated]) / max(sum(found), 1)


ORACLES: dict[str, Callable[[str, list[str]], float]] = {
    "text.split_words": lambda text, _: len(text.split()),
    "text.bytes": lambda text, _: len(text.encode()),
    "text.alphanumeric": lambda text, _: sum(map(str.isalnum, text)) / max(len(text), 1),
    "text.digits": lambda text, _: sum(map(str.isdecimal, text)) / max(len(text), 1),
    "text.word_repetition": lambda _, words: (len(words) - len(set(words))) / max(len(words), 1),
    "text.word_repetition_5": lambda _, words: runs_of_words(words),
    "text.character_repetition": lambda text, _: runs_of_characters(text),
}


@pytest.fixture(scope="module")
def texts() -> list[str | None]:
    """Wordings, and random texts of few signs, so that much is repeated and at the edges."""
    draw = random.Random(5)
    alphabets = ("ab", "ab \u00e9", "a\u2019' %b", "ab,\t\u3000\u00a0\u2028 A1")
    random_texts = [
        "".join(draw.choice(signs) for _ in range(draw.randrange(60)))
        for signs in alphabets
        for _ in range(300)
    ]
    repeated = ["ab cd " * times for times in range(20)] + [
        "x" * 300 + " 1",
        "\u00e9" * 300,
        "a" * 255,
        "b" * 256,
    ]
    return [*wording("faithful"), *random_texts, *repeated, None, ""]


@pytest.mark.parametrize("name", ORACLES)
def test_plain_python_agrees(name: str, texts: list[str | None]) -> None:
    column = pa.array(texts, pa.string())
    filter_ = next(filter_ for filter_ in FILTERS if name in filter_.writes)
    measured = filter_.measure(pa.record_batch({"text": column})).column(name).to_pylist()
    parted = tokens(column)
    words: list[list[str]] = [[] for _ in texts]
    for row, code in zip(parted.row, parted.code, strict=True):
        words[row].append(parted.words[code])
    for text, of_text, found in zip(texts, words, measured, strict=True):
        if text is not None:
            assert found == pytest.approx(ORACLES[name](text, of_text), rel=1e-6), text


@pytest.mark.parametrize("filter_", FILTERS, ids=lambda filter_: filter_.name)
def test_a_slice_measures_as_its_rows_do(filter_: SignsFilter, texts: list[str | None]) -> None:
    batch = pa.record_batch({"text": pa.array(texts, pa.string())})
    whole = filter_.measure(batch)
    assert filter_.measure(batch.slice(1000, 300)).equals(whole.slice(1000, 300))
    assert filter_.measure(batch.slice(0, 0)).num_rows == 0


def test_characters_of_long_texts_are_all_counted() -> None:
    found = counts(pa.array(["a1" * 200, "", "b" * 70_000, "\u00e9" * 70_000]))
    assert found[:, 0].tolist() == [200, 0, 70_000, 70_000]
    assert np.all(found[1] == 0)
