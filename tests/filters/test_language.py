"""The language of short texts."""

from collections.abc import Callable, Sequence

import pytest

from filters import language
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
    wrong = [(name, text, found) for name, text, found in zip(languages, texts, outcomes(texts), strict=True) if found != "text.language"]
    assert len(wrong) <= 0.02 * len(texts), wrong


def test_each_distinct_text_is_judged_once(monkeypatch: pytest.MonkeyPatch) -> None:
    judged: list[int] = []
    whole = language.features

    def counting(text: object) -> object:
        judged.append(len(text))  # type: ignore[arg-type]
        return whole(text)

    monkeypatch.setattr(language, "features", counting)
    assert measure(["Chien noir", "Chien noir", None, "Chien noir"])["text.language"].to_pylist() == ["fr", "fr", None, "fr"]
    assert judged == [1]
