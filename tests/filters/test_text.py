"""Texts: each literal has its exact outcome; wordings of our own hold a floor."""

from collections.abc import Callable, Sequence

import pyarrow as pa
import pytest

from tests.filters.conftest import measure, wording

Outcomes = Callable[[Sequence[str | None]], list[str | None]]

LITERAL = {
    "": "text.empty",
    "  \u00a0\u200b ": "text.empty",
    "IMG_4711.JPG": "text.filename",
    "holiday-in-rome-2014": "text.filename",
    "f47ac10b-58cc-4372-a567-0e02b2c3d479": "text.filename",
    "tap here to zoom": "text.boilerplate",
    "...": "text.boilerplate",
    "&nbsp;": "text.boilerplate",
    "https://example.org/a?b=c": "text.boilerplate",
    "photo of a": "text.boilerplate",
    "Photo: Anna Schmidt": "text.boilerplate",
    "Photo: Two dogs on a beach": None,
    "Eine Frau liest ein Buch im Garten": "text.language",
    "Собака бежит по пляжу": "text.language",
    "dogs": "text.too_short",
    "the dog runs in the park and " * 40: "text.too_long",
    "Two dogs running": None,
    "Eiffel Tower at night": None,
    "A photo from the beach": None,
    "A sign that says Buy Now": None,
    "A black-and-white cat on a sofa": None,
    "3 men on a boat": None,
}


@pytest.mark.parametrize(("text", "outcome"), LITERAL.items())
def test_a_text_has_this_outcome(text: str, outcome: str | None, outcomes: Outcomes) -> None:
    assert outcomes([text]) == [outcome]


# Floors may only rise. What is missed: see docs/log.md.
@pytest.mark.parametrize(
    ("name", "outcome", "floor"),
    [
        ("boilerplate", "text.boilerplate", 0.98),
        ("filenames", "text.filename", 0.97),
        ("faithful", None, 0.98),
        ("shared", None, 0.98),
    ],
)
def test_wordings_hold_a_floor(
    name: str, outcome: str | None, floor: float, outcomes: Outcomes
) -> None:
    texts = wording(name)
    wrong = [
        (text, found)
        for text, found in zip(texts, outcomes(texts), strict=True)
        if found != outcome
    ]
    assert len(wrong) <= (1 - floor) * len(texts), wrong


def test_faithful_texts_that_look_odd_are_kept(outcomes_on_english_pages: Outcomes) -> None:
    texts = wording("odd")
    wrong = [
        (text, found)
        for text, found in zip(texts, outcomes_on_english_pages(texts), strict=True)
        if found is not None
    ]
    assert len(wrong) <= 0.07 * len(texts), wrong


@pytest.mark.parametrize(
    "text",
    [
        "12 March 2019",
        "Updated 3 hours ago",
        "By Jane Doe",
        "Phone icon",
        "Telephone 020 7946 0000",
    ],
)
def test_dates_bylines_icons_and_telephones_are_boilerplate(text: str) -> None:
    assert measure([text])["text.boilerplate"].to_pylist() == [1.0]


@pytest.mark.parametrize(
    "text",
    [
        "By the river",
        "Sunset in March 2019",
        "Screenshot of a web page",
        "A golden icon on a church wall",
    ],
)
def test_their_like_are_not(text: str) -> None:
    assert measure([text])["text.boilerplate"][0].as_py() < 0.5


def test_measurements_of_one_text() -> None:
    row = measure(["The DOG and the dog, 2 dogs"]).to_pylist()[0]
    assert row["text.characters"] == 27
    assert row["text.words"] == 7
    assert row["text.letters"] == pytest.approx(19 / 21)
    assert row["text.capitals"] == pytest.approx(4 / 19)
    assert row["text.repetition"] == pytest.approx(1 / 4)
    assert row["text.filename"] is False


def test_an_empty_batch_has_the_columns_and_no_rows() -> None:
    assert measure([]).num_rows == 0


def test_null_text_counts_as_empty() -> None:
    assert measure([None])["text.characters"].to_pylist() == [0]


def test_a_specific_text_says_more_than_a_generic_one() -> None:
    generic, specific = measure(
        ["a picture of something nice", "A brown dog leaps over a fallen log"]
    )["text.information"].to_pylist()
    assert generic == 0
    assert specific > 40


def test_text_near_the_image_is_preferred_to_long_text_around_it() -> None:
    long = (
        "Our walk led past a mill, two farms with barns, an orchard and a chapel before rain drove"
        " everybody home"
    )
    preferred = measure(["A brown dog leaps over a fallen log", long], ["alt", "surrounding"])[
        "text.preference"
    ].to_pylist()
    assert preferred[0] > preferred[1]


def test_rows_do_not_depend_on_their_neighbours() -> None:
    texts = ["Two dogs running", "click here", "IMG_1.jpg", "", "Ein Hund am Strand"]
    together = measure(texts)
    assert pa.concat_tables([measure([text]) for text in texts]).to_pylist() == together.to_pylist()


@pytest.mark.parametrize(
    "text", ["Plate 73", "Fig. 12b", "watches, sofas, cheap handbags, rugs sale, sunglasses"]
)
def test_labels_and_lists_of_keywords_are_boilerplate(text: str) -> None:
    assert measure([text])["text.boilerplate"].to_pylist() == [1.0]


@pytest.mark.parametrize(
    "text",
    ["A dog, a cat, and a bird", "dogs, cats, birds", "Plates on a table", "Figure skaters on ice"],
)
def test_lists_of_things_are_not(text: str) -> None:
    assert measure([text])["text.boilerplate"][0].as_py() < 0.5


@pytest.mark.timeout(60)  # a search that goes back for each letter took minutes
@pytest.mark.parametrize(
    "text",
    ["b" * 100_000, "bcd-" * 30_000, "qz" * 50_000, "-" * 100_000],
    ids=["letters", "parts", "rare", "signs"],
)
def test_a_word_without_end_takes_no_longer_than_many_words(text: str) -> None:
    measured = measure([text, "a dog on a beach"])
    assert measured["text.characters"].to_pylist() == [len(text), 16]
