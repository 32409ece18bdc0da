"""Measurements by lists that users give, by the tagger, and by the place in a page."""

import pickle
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from filters.given_models import Given
from filters.pair.place import PlaceFilter
from filters.registry import filters_for
from filters.text.entries import EntriesFilter
from filters.text.tagger import TaggerFilter
from tests.filters.conftest import wording

Listed = Callable[..., str]


@pytest.fixture
def listed(tmp_path: Path) -> Listed:
    """A file with one entry a line."""

    def write(*lines: str, name: str = "list.txt") -> str:
        (tmp_path / name).write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
        return str(tmp_path / name)

    return write


def values(measurement: str, given: Given, texts: list[str | None]) -> list[Any]:
    (filter_,) = filters_for([measurement], given)
    there = pickle.loads(pickle.dumps(filter_))  # as it comes to a worker
    found: list[Any] = (
        there.measure(pa.record_batch({"text": pa.array(texts, pa.string())}))
        .column(measurement)
        .to_pylist()
    )
    return found


def test_a_given_vocabulary_is_the_one(listed: Listed) -> None:
    given = Given(vocabulary=listed("dog 17", "Runs\t5", "", "the"))
    assert values(
        "text.out_of_vocabulary", given, ["The dog runs", "A dog's cat 12", "12", "", None]
    ) == [
        0,
        pytest.approx(2 / 3),
        0,
        0,
        None,
    ]


def test_rare_words_and_pairs_are_counted(listed: Listed) -> None:
    given = Given(ngrams=listed("the\t5", "cat", "The cat\t3", "cat sat", "on the mat"))
    assert values(
        "text.rare_ngrams", given, ["The cat sat", "the CAT", "on the mat", "", None]
    ) == [1, 0, 4, 0, None]


def test_profanities_are_whole_words_and_runs_of_them(listed: Listed) -> None:
    given = Given(profanity=(listed("darn", "blooming heck", name="a"), listed("heck", name="b")))
    texts = ["Darn! Blooming  HECK, hecks", "heck blooming", "darned", "", None]
    assert values("text.profanities", given, texts) == [3, 1, 0, 0, None]


SPACED = ["dog", "Dog", "a dog", "dog ,", "big, dog", "", " dog", "dog", "st.", "."]


@pytest.mark.parametrize(
    ("text", "entries"),
    [
        ("a dog", [0, 2]),
        ("A Dog", [1]),
        ("hot-dog dogs", []),
        ("dog, big, dog", [0, 3, 6]),  # two spaces come before `big` and the last `dog`
        ("a  dog", [0, 6]),
        ("st. Dog\tdog", [0, 1, 9]),
        ("a\ndog", [0, 2]),
        ("", []),
        (None, None),
    ],
)
def test_entries_are_found_between_spaces(
    text: str | None, entries: list[int] | None, listed: Listed
) -> None:
    given = Given(entries=listed(*SPACED))
    assert values("text.entries", given, ["dog", text, "Dog"]) == [[0], entries, [1]]
    assert values("text.entry_count", given, [text]) == [None if entries is None else len(entries)]


def spaced(text: str) -> str:
    """A text as MetaCLIP spaces it before it looks for entries."""
    for sign in ",.;:?!`":
        text = text.replace(sign, f" {sign} ")
    return f" {text} ".replace("\t", " ").replace("\n", " ").replace("\r", " ")


def test_entries_are_those_that_a_search_finds(listed: Listed) -> None:
    draw = random.Random(3)
    texts = wording("faithful")[:150] + [
        "".join(draw.choice("ab \u00e9,.\t") for _ in range(draw.randrange(15))) for _ in range(300)
    ]
    words = [word for text in texts for word in text.split()]
    runs = [
        " ".join(words[place : place + draw.randrange(1, 5)]) for place in range(0, len(words), 3)
    ]
    lines = list(dict.fromkeys([*runs, "a b", "b  a", "a ,", "\u00e9", ". "]))
    found = values("text.entries", Given(entries=listed(*lines)), texts)
    assert found == [
        [place for place, line in enumerate(lines) if f" {line} " in spaced(text)] for text in texts
    ]


def test_a_list_that_changes_changes_the_digest(listed: Listed) -> None:
    before = EntriesFilter.of(Given(entries=listed("dog"))).config
    assert before == EntriesFilter.of(Given(entries=listed("dog", name="copy.txt"))).config
    assert before != EntriesFilter.of(Given(entries=listed("dog", "cat"))).config


@pytest.mark.parametrize("option", ["vocabulary", "ngrams", "entries", "profanity"])
def test_a_list_that_is_not_there_is_an_error(option: str, tmp_path: Path) -> None:
    path = str(tmp_path / "none.txt")
    measurement = {
        "vocabulary": "out_of_vocabulary",
        "ngrams": "rare_ngrams",
        "entries": "entries",
        "profanity": "profanities",
    }[option]
    given = Given.model_validate({option: (path,) if option == "profanity" else path})
    with pytest.raises(
        ValueError,
        match=(
            rf"--{option} .*none.txt cannot be read \(No such file or directory\): give a text file"
        ),
    ):
        filters_for([f"text.{measurement}"], given)


def test_a_list_that_is_not_utf8_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "latin.txt").write_bytes(b"dog\n\xe9t\xe9\n")
    with pytest.raises(ValueError, match=r"latin.txt is not UTF-8 \(byte 4\)"):
        values("text.entries", Given(entries=str(tmp_path / "latin.txt")), ["dog"])


TAGGED = {  # nouns, determiners, prepositions, share of nouns, variety of words, polarity
    "A dog runs on the beach": (2, 2, 1, 2 / 6, 1.0, 0.0),
    "The way to the sea": (2, 2, 1, 2 / 5, 4 / 5, 0.0),
    "dogs, dogs, dogs": (3, 0, 0, 1.0, 1 / 3, 0.0),
    "a terrible mess": (1, 1, 0, 1 / 3, 1.0, -0.5875),
    "": (0, 0, 0, 0.0, 0.0, 0.0),
    None: (None,) * 6,
}


@pytest.mark.parametrize("text", TAGGED)
def test_parts_of_speech(text: str | None) -> None:
    found = (
        TaggerFilter()
        .measure(pa.record_batch({"text": pa.array([text, "x", text], pa.string())}))
        .to_pylist()
    )
    assert tuple(found[0].values()) == pytest.approx(TAGGED[text])
    assert found[0] == found[2]


def test_nothing_that_is_written_breaks_the_tagger() -> None:
    draw = random.Random(1)
    texts = [
        "".join(draw.choice("ab/\u00e9,.\n &;'()<>\\|*#@0\x00A") for _ in range(draw.randrange(25)))
        for _ in range(500)
    ]
    found = TaggerFilter().measure(
        pa.record_batch({"text": pa.array([*texts, "/", "&slash;", " ", "n't", "x" * 5000])})
    )
    assert all(column.null_count == 0 for column in found.columns)


PLACES = {  # region, declared sides -> content, dominant, area
    ("main", 800, 600): (True, True, 480_000),
    (None, None, None): (True, True, None),
    ("article", 200, None): (True, True, None),
    ("article", 199, 800): (True, False, 159_200),
    ("main", None, 10): (True, False, None),
    ("nav", 800, 600): (False, False, 480_000),
    ("aside", None, None): (False, False, None),
    ("header", None, None): (False, False, None),
    ("footer", None, None): (False, False, None),
    ("main", 100_000, 100_000): (True, True, 10_000_000_000),
}


@pytest.mark.parametrize("place", PLACES)
def test_dominant_images(place: tuple[str | None, int | None, int | None]) -> None:
    row = placed(region=place[0], declared_width=place[1], declared_height=place[2])
    assert (row["page.content"], row["page.dominant"], row["page.declared_area"]) == PLACES[place]
    assert row["page.region"] == place[0]


@pytest.mark.parametrize(
    ("said", "language"),
    [
        ("en-US", "en"),
        (" DE_at ", "de"),
        ("fil", "fil"),
        ("english", None),
        ("", None),
        (None, None),
    ],
)
def test_the_language_of_the_page(said: str | None, language: str | None) -> None:
    assert placed(page_language=said)["page.language"] == language


def placed(**given: Any) -> dict[str, Any]:
    kinds = {"region": pa.string(), "page_language": pa.string()}
    batch = pa.record_batch(
        {
            name: pa.array([given.get(name)], kinds.get(name, pa.int32()))
            for name in PlaceFilter.reads
        }
    )
    row: dict[str, Any] = PlaceFilter().measure(batch).to_pylist()[0]
    return row
