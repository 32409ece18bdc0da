"""The language of short texts."""

from collections.abc import Callable, Sequence

import pytest

from filters.text import language
from tests.filters.conftest import measure, wording

Outcomes = Callable[[Sequence[str | None]], list[str | None]]


def test_languages_are_named() -> None:
    texts = [
        "A man rides a bicycle down the street",
        "Ein Hund läuft am Strand entlang",
        "Мальчик катается на скейтборде",
        "犬が走っている",
        "12",
        "",
    ]
    assert measure(texts)["text.language"].to_pylist() == ["en", "de", "ru", "ja", None, None]
    english = measure(texts)["text.english"].to_pylist()
    assert english[0] > 0.99
    assert max(english[1:4]) < 0.01


def test_foreign_wordings_hold_a_floor(outcomes: Outcomes) -> None:
    languages, texts = zip(*(line.split("\t") for line in wording("foreign")), strict=True)
    assert len(set(languages)) > 20
    wrong = [
        (name, text, found)
        for name, text, found in zip(languages, texts, outcomes(texts), strict=True)
        if found != "text.language"
    ]
    assert len(wrong) <= 0.02 * len(texts), wrong


def test_each_distinct_text_is_judged_once(monkeypatch: pytest.MonkeyPatch) -> None:
    judged: list[int] = []
    whole = language.features

    def counting(text: object) -> object:
        judged.append(len(text))  # type: ignore[arg-type]
        return whole(text)

    monkeypatch.setattr(language, "features", counting)
    assert measure(["Chien noir", "Chien noir", None, "Chien noir"])[
        "text.language"
    ].to_pylist() == ["fr", "fr", None, "fr"]
    assert judged == [1]


@pytest.mark.parametrize(
    ("page", "english"),
    [
        ("en-GB", [True, True, True, True, False]),
        (None, [True, True, True, False, False]),
        ("pt", [False, True, False, False, False]),
    ],
)
def test_a_page_says_in_which_language_names_are(page: str | None, english: list[bool]) -> None:
    texts = [
        "Buenos Aires",
        "A dog on a beach",
        "Mark Trammell",
        "Spaghetti carbonara",
        "Ein Hund am Strand",
    ]
    found = measure(texts, language=page)
    assert [value >= 0.5 for value in found["text.english"].to_pylist()] == english
    assert [name == "en" for name in found["text.language"].to_pylist()] == english


def test_foreign_wordings_on_pages_that_call_themselves_english(
    outcomes_on_english_pages: Outcomes,
) -> None:
    texts = [line.split("\t")[1] for line in wording("foreign")]
    wrong = [
        (text, found)
        for text, found in zip(texts, outcomes_on_english_pages(texts), strict=True)
        if found != "text.language"
    ]
    assert len(wrong) <= 0.05 * len(texts), wrong
