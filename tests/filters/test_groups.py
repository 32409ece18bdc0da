"""Group rules: who stays among rows with the same key."""

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from filters.recipe.group_rules import decide_group, group_key, weigh
from filters.recipe.rules import GroupRule
from filters.recipe.sampling import threshold

MOST = GroupRule(group="at_most", key="text", count=2, reason="group.shared_text", source="test")
ONE = GroupRule(
    group="one_per",
    key="image_id",
    order=("text.preference",),
    reason="group.duplicate",
    source="test",
)
CLUSTER = GroupRule(
    group="best_of",
    key="image.cluster",
    count=2,
    order=("text.preference",),
    reason="group.duplicate",
    source="test",
)
BEST = GroupRule(
    group="best_of",
    key="image_id",
    count=2,
    order=("text.preference",),
    reason="group.duplicate",
    source="test",
)


def rows(*entries: tuple[str | None, str, str, float | None]) -> pa.Table:
    key, image, text, score = (
        (list(column) for column in zip(*entries, strict=True)) if entries else ([], [], [], [])
    )
    columns = [
        pa.array(key, pa.string()),
        pa.array(image, pa.string()),
        pa.array(text, pa.string()),
        pa.array(score, pa.float32()),
    ]
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
    table = rows(
        ("a", "a", "fine", 3.0),
        ("a", "a", "finest", 9.0),
        ("a", "a", "unknown", None),
        ("b", "b", "only", 1.0),
    )
    assert decide_group(ONE, table).to_pylist() == [True, False, True, False]


def test_ties_go_to_the_first_text_and_equal_rows_to_one() -> None:
    table = rows(("a", "a", "b", 1.0), ("a", "a", "a", 1.0), ("a", "a", "a", 1.0))
    assert decide_group(ONE, table).to_pylist() == [True, False, True]


def test_best_of_keeps_distinct_texts() -> None:
    table = rows(
        ("a", "a", "x", 3.0), ("a", "a", "x", 3.0), ("a", "a", "y", 2.0), ("a", "a", "z", 1.0)
    )
    assert decide_group(BEST, table).to_pylist() == [False, True, False, True]


def test_no_rows_and_rows_without_a_key() -> None:
    for rule in (MOST, ONE, BEST):
        assert decide_group(rule, rows()).to_pylist() == []
        assert (
            decide_group(rule, rows(*[(None, image, image, 1.0) for image in "abc"])).to_pylist()
            == [False] * 3
        )


entries = st.lists(
    st.tuples(st.sampled_from("ab"), st.sampled_from("xyz"), st.integers(0, 2).map(float)),
    max_size=12,
)


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


def top(fraction: float) -> GroupRule:
    return GroupRule(
        group="top_fraction",
        fraction=fraction,
        order=("text.preference",),
        reason="pair.low",
        source="test",
    )


def sample(fraction: float, seed: int = 0) -> GroupRule:
    return GroupRule(
        group="sample", fraction=fraction, seed=seed, reason="group.sample", source="test"
    )


def balance(count: int, seed: int = 0) -> GroupRule:
    return GroupRule(
        group="balance",
        key="text.entries",
        count=count,
        seed=seed,
        reason="group.unbalanced",
        source="test",
    )


def holding(*entries: list[int] | None) -> pa.Table:
    names = [f"{place:04d}" for place in range(len(entries))]
    return pa.table(
        {
            "key": names,
            "image_id": names,
            "text": names,
            "text.entries": pa.array(entries, pa.list_(pa.int32())),
        }
    )


def kept(rule: GroupRule, table: pa.Table) -> list[int]:
    return np.flatnonzero(~decide_group(rule, table).to_numpy(zero_copy_only=False)).tolist()


@pytest.mark.parametrize(
    ("fraction", "stay"),
    [(0.1, [2]), (0.25, [1, 2, 3]), (0.5, [1, 2, 3]), (0.75, [0, 1, 2, 3]), (1, [0, 1, 2, 3])],
)
def test_the_top_fraction_takes_one_more_and_all_that_equal_it(
    fraction: float, stay: list[int]
) -> None:
    table = rows(
        *[("k", str(place), "t", score) for place, score in enumerate([0.125, 0.5, 0.75, 0.5])]
    )
    assert kept(top(fraction), table) == stay


def test_the_unmeasured_are_counted_and_never_stay() -> None:
    table = rows(
        *[("k", str(place), "t", score) for place, score in enumerate([None, 0.5, None, 0.25])]
    )
    assert kept(top(0.25), table) == [1, 3]
    assert kept(top(0.5), table) == [1, 3]
    assert kept(top(1), table) == [1, 3]
    assert kept(top(0.5), rows()) == []


@given(
    st.lists(st.one_of(st.floats(width=32), st.sampled_from([0.0, -0.0, 1.0])), min_size=1),
    st.floats(0.01, 1),
    st.integers(1, 5),
)
def test_the_threshold_is_the_value_at_its_place(
    values: list[float], fraction: float, cut: int
) -> None:
    column = np.array(values)
    pieces = np.array_split(column, cut)
    ordered = -np.sort(-np.where(np.isnan(column), -np.inf, column))
    place = int(len(values) * fraction)
    expected = ordered[place] if place < len(values) else -np.inf
    assert threshold(fraction, lambda: pieces) == expected


def test_a_sample_is_settled_by_image_and_text() -> None:
    table = rows(*[(str(place), str(place), "text", None) for place in range(10_000)])
    stay = set(kept(sample(0.3), table))
    assert 2850 < len(stay) < 3150
    assert stay < set(kept(sample(0.6), table))
    assert stay != set(kept(sample(0.3, seed=1), table))
    assert [row for row in kept(sample(0.3), table.slice(500)) if row < 100] == [
        row - 500 for row in sorted(stay) if 500 <= row < 600
    ]
    assert len(kept(sample(1), table)) == 10_000


def test_balance_keeps_rare_entries_and_a_share_of_frequent_ones() -> None:
    frequent = [[7] for _ in range(4000)]
    table = holding(*frequent, [3], [7, 3], [], None)
    stay = kept(balance(400), table)
    assert [row for row in stay if row >= 4000] == [4000, 4001]
    assert 340 < len(stay) - 2 < 460
    assert kept(balance(4001), table) == list(range(4002))


def test_balance_draws_once_for_each_entry() -> None:
    table = holding(*[[1, 2] for _ in range(4000)])
    assert abs(len(kept(balance(1000), table)) / 4000 - (1 - 0.75**2)) < 0.03
    assert kept(balance(1000), table) != kept(balance(1000, seed=1), table)


def test_an_entry_twice_in_a_text_counts_once() -> None:
    assert weigh(balance(1), lambda: [holding([1, 1], [1]), holding([2])]).counts.tolist() == [
        0,
        2,
        1,
    ]


def test_an_image_without_cluster_is_one_of_its_own() -> None:
    table = pa.table({"image.cluster": ["a", None], "image_id": ["b", "c"], "text": ["t", "t"]})
    assert group_key(CLUSTER, table).to_pylist() == ["a", "c"]


def test_of_near_duplicates_with_one_text_one_stays() -> None:
    table = rows(
        ("a", "a", "x", 1.0), ("a", "b", "x", 2.0), ("a", "b", "y", 0.5), ("a", "c", "z", 0.1)
    )
    assert kept(CLUSTER, table) == [1, 2]


many = st.lists(
    st.tuples(
        st.sampled_from("abc"),
        st.sampled_from("xyz"),
        st.integers(0, 3).map(float),
        st.lists(st.integers(0, 4), max_size=3),
    ),
    max_size=20,
)


@given(many, st.randoms(), st.integers(1, 4))
def test_rules_among_all_depend_on_no_order_and_no_cut(
    found: list[tuple[str, str, float, list[int]]], rng: object, cut: int
) -> None:
    table = rows(*((image, image, text, score) for image, text, score, _ in found))
    table = table.append_column(
        "text.entries", pa.array([entries for *_, entries in found], pa.list_(pa.int32()))
    )
    shuffled = list(range(len(found)))
    rng.shuffle(shuffled)  # type: ignore[attr-defined]
    again = table.take(pa.array(shuffled, pa.int64()))
    size = max(1, -(-len(found) // cut))
    pieces = [again.slice(start, size) for start in range(0, len(found), size)]
    for rule in (top(0.4), sample(0.5), balance(2)):
        whole = table.filter(pa.compute.invert(decide_group(rule, table)))
        weights = weigh(rule, lambda: pieces)
        parts = [
            piece.filter(pa.compute.invert(decide_group(rule, piece, weights))) for piece in pieces
        ]
        assert sorted(map(str, whole.to_pylist())) == sorted(
            str(row) for part in parts for row in part.to_pylist()
        )


WRONG = {
    "at_most needs `key`": {"group": "at_most", "count": 1},
    "at_most takes no fraction": {"group": "at_most", "key": "text", "count": 1, "fraction": 0.5},
    "best_of draws nothing by lot": {
        "group": "best_of",
        "key": "text",
        "count": 1,
        "order": ("text.words",),
        "seed": 1,
    },
    "one_per takes no entries": {
        "group": "one_per",
        "key": "text.entries",
        "order": ("text.words",),
    },
    "top_fraction is among all candidates: remove `key`": {
        "group": "top_fraction",
        "key": "text",
        "fraction": 0.5,
        "order": ("text.words",),
    },
    "top_fraction keeps the best: say by what": {"group": "top_fraction", "fraction": 0.5},
    "top_fraction compares one measurement": {
        "group": "top_fraction",
        "fraction": 0.5,
        "order": ("text.words", "text.characters"),
    },
    "top_fraction needs `fraction`": {"group": "top_fraction", "order": ("text.words",)},
    "sample takes a part of all: remove `count`": {"group": "sample", "fraction": 0.5, "count": 3},
    "sample draws by lot, so it takes no order": {
        "group": "sample",
        "fraction": 0.5,
        "order": ("text.words",),
    },
    "balance is among the entries of the texts": {"group": "balance", "count": 3},
    "balance needs `count`": {"group": "balance", "key": "text.entries"},
}


@pytest.mark.parametrize(("message", "fields"), WRONG.items())
def test_fields_that_do_not_go_together_are_an_error(
    message: str, fields: dict[str, object]
) -> None:
    with pytest.raises(ValueError, match=message):
        GroupRule.model_validate({**fields, "reason": "group.a", "source": "test"})


def test_a_rule_goes_with_what_its_key_is_made_of() -> None:
    assert CLUSTER.without(["image.dhash"]) is None
    assert CLUSTER.without(["image.cluster"]) is None
    assert balance(1).without(["text.entries"]) is None
    assert top(0.5).without(["text.preference"]) is None
    assert sample(0.5).without(["image.dhash"]) == sample(0.5)
