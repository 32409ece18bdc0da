"""What is remembered of words, and patterns that are searched only where they can be found."""

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest

from filters.text import boilerplate, language
from filters.text import file_names as filenames
from filters.text.regex_prefilter import Searched, matches
from filters.text.tokens import tokens
from filters.text.word_cache import CAPACITY, MOST_CHARACTERS, Facts, facts

TEXTS = [
    "Photo by \u00c9lan Vital",
    "photo: Jane Roe",
    "PHOTO BY Jane",
    "by Jean-Luc \u017bak",
    "img_0042",
    "\u0444\u0430\u0439\u043b_1",
    "Jos\u00e9 de la Cruz",
    "",
]


def length(word: str) -> int:
    return len(word)


def test_a_function_is_asked_once_for_each_word() -> None:
    asked: list[str] = []

    def value(word: str) -> int:
        asked.append(word)
        return len(word)

    held = Facts(capacity=10, most_characters=100)
    first, second = held.place(["a", "dog"]), held.of(value)[:2].tolist()
    assert (first is not None and first.tolist(), second) == ([0, 1], [1, 3])
    again = held.place(["dog", "swim", "a"])
    assert again is not None
    assert held.of(value)[again].tolist() == [3, 4, 1]
    assert asked == ["a", "dog", "swim"]


def test_no_room_is_said_and_nothing_is_added() -> None:
    held = Facts(capacity=2, most_characters=5)
    assert held.place(["a", "b", "c"]) is None
    assert held.place(["abcdef"]) is None
    assert held.words == []


def test_all_is_forgotten_when_there_is_no_room() -> None:
    before, _ = facts(["dog"])
    after, places = facts([f"w{number}" for number in range(CAPACITY + 1)])
    assert after is not before
    assert after.of(length)[places[-1]] == len(f"w{CAPACITY}")
    longest, places = facts(["x" * (MOST_CHARACTERS + 1)])
    assert longest.of(length)[places].tolist() == [MOST_CHARACTERS + 1]


def test_words_of_eight_bytes_and_more() -> None:
    words = tokens(
        pa.array(
            [
                "abcdefgh abcdefghi abcdefgh",
                "abcdefghj \u0444\u0430\u0439\u043b \u0444\u0430\u0439\u043b\u044b abcdefghi",
            ]
        )
    )
    assert [words.words[code] for code in words.code] == [
        *(
            "abcdefgh",
            "abcdefghi",
            "abcdefgh",
            "abcdefghj",
            "\u0444\u0430\u0439\u043b",
            "\u0444\u0430\u0439\u043b\u044b",
            "abcdefghi",
        ),
    ]
    assert words.first_of_kind.tolist() == [True, True, False, True, True, True, True]


@pytest.mark.parametrize(
    "pattern",
    [boilerplate._CREDIT, boilerplate._BYLINE, filenames._SLUG, language._NAME, r"\p{Ll}"],
)
def test_wider_patterns_find_the_same(pattern: str) -> None:
    text = pa.array(TEXTS)
    expected = pc.match_substring_regex(text, pattern).to_pylist()
    assert matches(text, pattern, Searched(text).odd).tolist() == expected
    assert Searched(text).matches(pattern, np.ones(len(text), dtype=bool)).tolist() == expected


def test_kinds_of_signs() -> None:
    searched = Searched(pa.array(["a b", "a|b", "a\tb", "caf\u00e9", "7", ""]))
    assert searched.holds(" |").tolist() == [True, True, False, False, False, False]
    assert searched.odd.tolist() == [False, False, True, True, False, False]
    assert searched.numbered.tolist() == [False, False, False, False, True, False]
