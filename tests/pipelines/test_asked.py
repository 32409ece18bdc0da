"""Costly measurements are asked only about the candidates that are still in, once, and again only
about those who are new.
"""

from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from filters.recipe.recipe import Recipe, parse
from pipelines.decide.decision import Decision, decide
from pipelines.store import Folder
from pipelines.tables import read_table
from tests.pipelines.made import make, png

RECIPE = """
name = "lazy"
description = "A cheap rule before two costly ones, and a group rule after them."
[[rule]]
measure = "text.characters"
op = ">="
value = {characters}
reason = "text.too_short"
source = "test"
[[rule]]
measure = "text.nouns"
op = ">="
value = 1
reason = "text.no_noun"
source = "test"
[[rule]]
measure = "image.short_side"
op = ">="
value = 20
reason = "image.too_small"
source = "test"
[[rule]]
measure = "image.deviation"
op = ">="
value = 4
reason = "image.blank"
source = "test"
[[rule]]
group = "one_per"
key = "image_id"
order = ["text.characters"]
reason = "group.duplicate"
source = "test"
"""
TEXTS = (
    "a dog",
    "dog on a beach",
    "quickly",
    "a red boat at sea",
    "the old harbour in the evening",
)
PICTURES = {
    f"http://h{number}.example/{number}.png": png(side, side)
    for number, side in enumerate((10, 30, 40, 50))
}
ROWS = tuple(
    tuple((TEXTS[(number + place) % len(TEXTS)], url, None) for place, url in enumerate(PICTURES))
    for number in range(3)
)


@pytest.fixture
def root(tmp_path: Path) -> Folder:
    folder = Folder(str(tmp_path))
    make(folder, "one", ROWS, PICTURES)
    make(folder, "two", ROWS[:1], PICTURES)
    return folder


def recipe(characters: int) -> Recipe:
    return parse(RECIPE.format(characters=characters))


def outcomes(decision: Decision) -> pa.Table:
    return pa.concat_tables(read_table(decision.folder, name) for name in decision.names)


def increments(root: Folder, collection: str, name: str) -> dict[str, int]:
    """How many rows each folder of measurements of a filter holds."""
    home = root / "collections" / collection / "measurements"
    found: dict[str, int] = {}
    for folder in (home / entry for entry in home.names() if entry.startswith(f"{name}-")):
        found[folder.name] = sum(
            read_table(folder, file).num_rows
            for file in folder.names()
            if file.endswith(".parquet")
        )
    return found


def test_only_survivors_are_measured(root: Folder) -> None:
    decision = decide(root, recipe(14), ["one"])
    rows = outcomes(decision).to_pylist()
    long = [row for row in rows if len(row["text"]) >= 14]
    assert sorted(increments(root, "one", "tagger").values()) == [len(long)]
    assert {row["text.nouns"] is None for row in rows if row["outcome"] == "text.too_short"} == {
        True
    }
    pictures = {
        row["image_id"]
        for row in rows
        if row["outcome"] not in ("text.too_short", "text.no_noun", "image.too_small")
    }
    assert sorted(increments(root, "one", "natural").values()) == [len(pictures)]
    assert decision.funnel.candidates == len(rows) == 12


def test_a_lower_threshold_measures_those_who_are_new(root: Folder) -> None:
    first = decide(root, recipe(20), ["one"])
    before = increments(root, "one", "tagger")
    second = decide(root, recipe(5), ["one"])
    after = increments(root, "one", "tagger")
    assert before.items() < after.items()
    assert sum(after.values()) == sum(len(row["text"]) >= 5 for row in outcomes(second).to_pylist())
    again = decide(root, recipe(15), ["one"])  # between the two: nothing is new
    assert increments(root, "one", "tagger") == after
    assert first.digest != again.digest
    kept = [row["text"] for row in outcomes(again).to_pylist() if row["outcome"] == "kept"]
    assert sorted(kept) == [
        "a red boat at sea",
        "the old harbour in the evening",
        "the old harbour in the evening",
    ]


def test_at_once_gives_the_same_outcomes_and_leaves_nothing_unmeasured(root: Folder) -> None:
    lazily = outcomes(decide(root, recipe(14), ["one", "two"]))
    whole = outcomes(decide(root, recipe(14), ["one", "two"], at_once=True))
    assert whole["outcome"].to_pylist() == lazily["outcome"].to_pylist()
    assert lazily["text.nouns"].null_count > 0
    assert whole["text.nouns"].null_count == 0
    assert whole["image.deviation"].null_count == 0


def test_a_collection_that_was_measured_is_not_measured_again_with_another(root: Folder) -> None:
    decide(root, recipe(14), ["one"])
    before = increments(root, "one", "natural")
    decide(root, recipe(14), ["one", "two"])
    assert increments(root, "one", "natural") == before
    assert len(increments(root, "two", "natural")) == 1


def test_killed_while_it_asks_it_goes_on(
    root: Folder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = Folder(str(tmp_path / "uninterrupted"))
    make(other, "one", ROWS, PICTURES)
    expected = decide(other, recipe(14), ["one"])

    def stop(*_: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr("pipelines.decide.on_demand.JoinMeasurements.process", stop)
        with pytest.raises((KeyboardInterrupt, RuntimeError)):
            decide(root, recipe(14), ["one"])
    decision = decide(root, recipe(14), ["one"])
    assert outcomes(decision)["outcome"].to_pylist() == outcomes(expected)["outcome"].to_pylist()
    assert list(increments(root, "one", "natural").values()) == list(
        increments(other, "one", "natural").values()
    )


def test_a_rewriter_makes_the_text_that_is_measured_and_released(tmp_path: Path) -> None:
    root = Folder(str(tmp_path))
    url = next(iter(PICTURES))
    make(
        root,
        "one",
        ((("a dog on a beach <b>http://example.org/x.jpg</b>", url, None), ("cat", url, None)),),
        PICTURES,
    )
    rewriting = parse(
        RECIPE.format(characters=10)
        .replace('description = "', 'text = "text.clean"\ndescription = "')
        .split('[[rule]]\nmeasure = "text.nouns')[0]
    )
    rows = outcomes(decide(root, rewriting, ["one"])).to_pylist()
    assert [row["text"] for row in rows] == ["a dog on a beach", "cat"]
    assert [row["original_text"] for row in rows] == [
        "a dog on a beach <b>http://example.org/x.jpg</b>",
        "cat",
    ]
    assert [row["text.characters"] for row in rows] == [16, 3]
    assert [row["outcome"] for row in rows] == ["kept", "text.too_short"]


def test_what_is_left_out_is_said(root: Folder) -> None:
    decision = decide(root, recipe(14), ["one"], without=["text.nouns"])
    assert decision.funnel.to_json()["without"] == ["text.nouns"]
    assert "text.no_noun" not in decision.funnel.outcomes
    assert increments(root, "one", "tagger") == {}


def test_a_model_that_was_not_given_is_named(root: Folder) -> None:
    scored = recipe(14).model_copy(
        update={
            "rule": (
                *recipe(14).rule[:1],
                recipe(14).rule[1].model_copy(update={"measure": "image.unsafe", "op": "<="}),
            )
        }
    )
    with pytest.raises(
        ValueError, match=r"image\.unsafe needs .*: add --image-safety, or --without image\.unsafe"
    ):
        decide(root, scored, ["one"])
