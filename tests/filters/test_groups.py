"""Group rules: who stays among rows with the same key."""

import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st

from filters.groups import decide_group, group_key
from filters.rules import GroupRule

MOST = GroupRule(group="at_most", key="text", count=2, reason="group.shared_text", source="test")
ONE = GroupRule(group="one_per", key="image_id", order=("text.preference",), reason="group.duplicate", source="test")
BEST = GroupRule(group="best_of", key="image_id", count=2, order=("text.preference",), reason="group.duplicate", source="test")


def rows(*entries: tuple[str | None, str, str, float | None]) -> pa.Table:
    key, image, text, score = (list(column) for column in zip(*entries, strict=True)) if entries else ([], [], [], [])
    columns = [pa.array(key, pa.string()), pa.array(image, pa.string()), pa.array(text, pa.string()), pa.array(score, pa.float32())]
    return pa.table(columns, names=["key", "image_id", "text", "text.preference"])


def test_texts_without_regard_to_case_and_space_are_the_same() -> None:
    table = pa.table({"text": ["Our  Team ", "our team", "our teams"], "image_id": ["1", "2", "3"]})
    assert group_key(MOST, table).to_pylist() == ["our team", "our team", "our teams"]
    assert group_key(ONE, table).to_pylist() == ["1", "2", "3"]


def test_a_text_of_more_distinct_images_than_count_is_stopped_everywhere() -> None:
    shared = [("team", image, "team", 1.0) for image in "abc"]
    twice = [("dog", image, "dog", 1.0) for image in "aabb"]
    assert decide_group(MOST, rows(*shared, *twice)).to_pylist() == [True] * 3 + [False] * 4


def test_the_best_text_of_an_image_stays() -> None:
    table = rows(("a", "a", "fine", 3.0), ("a", "a", "finest", 9.0), ("a", "a", "unknown", None), ("b", "b", "only", 1.0))
    assert decide_group(ONE, table).to_pylist() == [True, False, True, False]


def test_ties_go_to_the_first_text_and_equal_rows_to_one() -> None:
    table = rows(("a", "a", "b", 1.0), ("a", "a", "a", 1.0), ("a", "a", "a", 1.0))
    assert decide_group(ONE, table).to_pylist() == [True, False, True]


def test_best_of_keeps_distinct_texts() -> None:
    table = rows(("a", "a", "x", 3.0), ("a", "a", "x", 3.0), ("a", "a", "y", 2.0), ("a", "a", "z", 1.0))
    assert decide_group(BEST, table).to_pylist() == [False, True, False, True]


def test_no_rows_and_rows_without_a_key() -> None:
    for rule in (MOST, ONE, BEST):
        assert decide_group(rule, rows()).to_pylist() == []
        assert decide_group(rule, rows(*[(None, image, image, 1.0) for image in "abc"])).to_pylist() == [False] * 3


entries = st.lists(st.tuples(st.sampled_from("ab"), st.sampled_from("xyz"), st.integers(0, 2).map(float)), max_size=12)


@given(entries, st.randoms())
def test_order_of_rows_does_not_matter(found: list[tuple[str, str, float]], rng: object) -> None:
    table = rows(*((image, image, text, score) for image, text, score in found))
    shuffled = list(range(len(found)))
    rng.shuffle(shuffled)  # type: ignore[attr-defined]
    for rule in (MOST, ONE, BEST):
        kept = table.filter(pa.compute.invert(decide_group(rule, table)))
        again = table.take(pa.array(shuffled, pa.int64()))
        kept_again = again.filter(pa.compute.invert(decide_group(rule, again)))
        assert sorted(map(str, kept.to_pylist())) == sorted(map(str, kept_again.to_pylist()))


@given(entries)
def test_one_per_image_keeps_exactly_one(found: list[tuple[str, str, float]]) -> None:
    table = rows(*((image, image, text, score) for image, text, score in found))
    kept = table.filter(pa.compute.invert(decide_group(ONE, table)))
    assert sorted(kept["key"].to_pylist()) == sorted({image for image, _, _ in found})
