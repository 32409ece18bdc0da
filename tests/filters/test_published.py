"""Counting by the letter of published scripts, against Python and fasttext themselves."""

import fasttext
import pyarrow as pa
from hypothesis import given, settings
from hypothesis import strategies as st

from filters.text.language import language_model
from filters.text.length import LengthFilter
from filters.text.published import PublishedTextFilter

SIGNS = "ab cé狗\u00a0\u2003\u3000\u0085\u001c\u200b\ufeff\u2028\n\r\t\v\f\0"


def measure(*texts: str | None) -> dict[str, list[object]]:
    found: dict[str, list[object]] = (
        PublishedTextFilter()
        .measure(pa.record_batch({"text": pa.array(texts, pa.string())}))
        .to_pydict()
    )
    return found


@settings(deadline=None)  # the first example loads the model
@given(st.lists(st.text(SIGNS, max_size=12), min_size=1, max_size=5))
def test_counts_are_those_of_the_scripts(texts: list[str]) -> None:
    found = measure(*texts)
    assert found["text.length"] == [len(text) for text in texts]
    assert found["text.collapsed_length"] == [len(" ".join(text.split())) for text in texts]
    assert found["text.fasttext_words"] == [len(fasttext.tokenize(text)) for text in texts]
    labels = [language_model().predict([text.replace("\n", " ")])[0][0][0] for text in texts]
    assert found["text.lid176"] == [label.removeprefix("__label__") for label in labels]


@given(st.lists(st.text(SIGNS, max_size=12), min_size=1, max_size=5))
def test_words_are_those_that_python_splits(texts: list[str]) -> None:
    found = (
        LengthFilter().measure(pa.record_batch({"text": pa.array(texts, pa.string())})).to_pydict()
    )
    assert found["text.split_words"] == [len(text.split()) for text in texts]


def test_literal_texts() -> None:
    found = measure("A dog on the road", " Ein Hund auf\nder Straße ", "", None)
    assert found["text.lid176"] == ["en", "de", "en", None]
    assert found["text.length"] == [17, 25, 0, None]
    assert found["text.collapsed_length"] == [17, 23, 0, None]
    assert found["text.fasttext_words"] == [5, 6, 0, None]  # the line break is a word to fasttext
